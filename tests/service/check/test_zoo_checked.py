# SPDX-License-Identifier: Apache-2.0
"""Every zoo domain looked at through the real adapters: verdicts and findings are the zoo's own.

One lab for all, over loopback. What is critical, a warning or unknown has to be exactly what
`strictmail.lab.zoo_findings` declares, with its severity: one more is a false alarm, and none is
said of a domain in order. Notes that it declares have to be there; others may be.
"""

from __future__ import annotations

import asyncio
import enum
import random
from typing import TYPE_CHECKING, Final

import pytest
import pytest_asyncio

from strictmail.checker.assemble import assemble
from strictmail.checker.settings import CheckSettings
from strictmail.core.check.catalogue import KINDS
from strictmail.core.check.judge import judge
from strictmail.core.check.result import Prediction, SenderClass, SenderVerdict, Severity
from strictmail.core.check.verdict import headline, judge_senders
from strictmail.lab.entries import ARRIVES, MxFault, PolicyFault
from strictmail.lab.net import Lab
from strictmail.lab.zoo import ZOO, ZooEntry
from strictmail.net.connectto import ConnectMap
from strictmail.net.dns import DnsResolver
from strictmail.net.smtpdialogue import ProbeLimits
from strictmail.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from strictmail.core.check.facts import DomainFacts

# One lab for all cases: they are told apart by their domains.
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("zoo-checked"),
    pytest.mark.slow,
]

WORDS: Final = {Prediction.AUTHENTICATED: "verified"}
"""A prediction's word in the zoo's, where it differs."""

GREETING_SECONDS: Final = 0.2
"""For hosts that never greet."""

POLICY_SECONDS: Final = 5.0
"""For policies that never come whole: long enough for TLS, however busy this machine is."""

AT_ONCE: Final = 8

ALARMS: Final = frozenset({Severity.CRITICAL, Severity.WARNING, Severity.UNKNOWN})

CURRENT: Final = tuple(kind for kind in SenderClass if kind is not SenderClass.CACHED)


class Patience(enum.Enum):
    """How an entry has to be waited for."""

    FULL = enum.auto()
    NO_GREETING = enum.auto()
    NO_POLICY = enum.auto()

    @classmethod
    def of(cls, entry: ZooEntry) -> Patience:
        """Whether it is the entry's fault to take longer than anybody waits."""
        if any(host.fault is MxFault.TARPIT for host in entry.mx):
            return cls.NO_GREETING
        hangs = (PolicyFault.SLOW, PolicyFault.STALL)
        slow = entry.policy is not None and entry.policy.fault in hangs
        return cls.NO_POLICY if slow else cls.FULL


def settings(patience: Patience) -> CheckSettings:
    short = patience is Patience.NO_GREETING
    return CheckSettings(
        ehlo_name="check.test",
        probe_limits=ProbeLimits(greeting=GREETING_SECONDS) if short else ProbeLimits(),
        policy_seconds=POLICY_SECONDS if patience is Patience.NO_POLICY else 60.0,
        allow_networks=("127.0.0.0/8",),
        connections_per_operator=64,
        port25_canaries=(),
        spacing_seconds=0.0,
        retry_seconds=0.0,
    )


async def gather(lab: Lab, resolver: DnsResolver, patience: Patience) -> dict[str, DomainFacts]:
    host, port = lab.dns_address
    routes = [f":25::{lab.smtp_port}", f":443::{lab.https_port}", f":53:{host}:{port}"]
    gatherer = assemble(
        resolver,
        settings(patience),
        clock=SystemClock(),
        rng=random.Random(2),
        mx_ca_file=lab.ca_file,
        policy_ca_file=lab.ca_file,
        connect_map=ConnectMap.parse(routes),
    )
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(domain: str) -> DomainFacts:
        async with slots:
            return await gatherer.gather(domain)

    domains = [entry.domain for entry in ZOO if Patience.of(entry) is patience]
    try:
        found = await asyncio.gather(*map(one, domains))
    finally:
        await gatherer.close()
    return dict(zip(domains, found, strict=True))


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="facts")
async def _gathered() -> AsyncIterator[Mapping[str, DomainFacts]]:
    async with Lab(slow_seconds=3600) as lab:
        resolver = DnsResolver([lab.dns_address], trust_ad=True, rng=random.Random(1))
        await resolver.start()
        assert await resolver.probe()
        groups = await asyncio.gather(*(gather(lab, resolver, one) for one in Patience))
        found = {domain: facts for group in groups for domain, facts in group.items()}
        await resolver.close()
        assert lab.messages == []
        yield found


def cases() -> list[object]:
    return [
        pytest.param(entry, id=entry.name, marks=pytest.mark.req(*entry.requirements))
        for entry in ZOO
    ]


@pytest.mark.parametrize("entry", cases())
async def test_each_kind_of_sender(facts: Mapping[str, DomainFacts], entry: ZooEntry) -> None:
    senders, verdicts = judge_senders(facts[entry.domain])
    assert tuple(one.sender for one in senders) == CURRENT
    for one in senders:
        story = f"{entry.fault}; {entry.expect.why}\n{one}\n{verdicts}"
        said = WORDS.get(one.prediction, one.prediction)
        assert entry.allows_verdict(one.sender, said), story
        assert one.certain is (one.prediction is not Prediction.UNKNOWN), story
        wanted = entry.expect.of(one.sender)
        if said == wanted.delivery in ARRIVES:
            assert one.mx_host == wanted.received_by, story
    assert_readable(headline(facts[entry.domain], senders))
    for sentence in [one.sentence for one in senders] + [one.sentence for one in verdicts]:
        assert_readable(sentence)


def assert_readable(sentence: str) -> None:
    assert sentence.isascii()
    assert sentence.isprintable()
    assert sentence.endswith(".")
    assert ".." not in sentence


def sender(verdicts: tuple[SenderVerdict, ...], kind: SenderClass) -> SenderVerdict:
    return next(one for one in verdicts if one.sender is kind)


@pytest.mark.parametrize(
    ("domain", "kind", "by"),
    [
        ("good.plain.test", SenderClass.MTA_STS, "pkix"),
        ("good.plain.test", SenderClass.BOTH, "pkix"),
        ("both.signed.test", SenderClass.MTA_STS, "pkix"),
        ("both.signed.test", SenderClass.DANE, "dane"),
        ("both.signed.test", SenderClass.BOTH, "dane"),
    ],
)
async def test_how_a_host_is_authenticated(
    facts: Mapping[str, DomainFacts], domain: str, kind: SenderClass, by: str
) -> None:
    senders, _ = judge_senders(facts[domain])
    assert sender(senders, kind).by == by


@pytest.mark.parametrize("entry", cases())
async def test_the_findings(facts: Mapping[str, DomainFacts], entry: ZooEntry) -> None:
    result = judge(facts[entry.domain])
    found = {(str(one.severity), one.id) for one in result.findings}
    alarms = {pair for pair in found if pair[0] in ALARMS}
    declared = set(entry.findings)
    story = f"{entry.fault}\n" + "\n".join(
        f"{one.severity} {one.id} {one.subject}: {one.sentence}" for one in result.findings
    )
    assert alarms == {pair for pair in declared if pair[0] in ALARMS}, story
    assert declared <= found, story
    assert {one for _, one in declared} <= set(KINDS)
    for finding in result.findings:
        assert finding.sentence.isprintable()
        assert finding.sentence.endswith((".", ".)"))


async def test_what_is_in_order_is_ok(facts: Mapping[str, DomainFacts]) -> None:
    """A domain that protects its mail, and has no fault, ends with exit code 0."""
    quiet = [entry for entry in ZOO if not any(pair[0] in ALARMS for pair in entry.findings)]
    assert {"good", "both", "dane-ee", "idn", "testing", "mx-wildcard"} <= {e.name for e in quiet}
    assert {judge(facts[entry.domain]).status for entry in quiet} == {Severity.OK}
