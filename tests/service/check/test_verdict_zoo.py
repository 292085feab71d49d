# SPDX-License-Identifier: Apache-2.0
"""Every zoo domain looked at through the real adapters: the verdicts are what the zoo declares."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import pytest
import pytest_asyncio

from strictmail.checker.assemble import assemble
from strictmail.checker.settings import CheckSettings
from strictmail.core.check.result import Prediction, SenderClass, SenderVerdict
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
    pytest.mark.xdist_group("verdicts-of-the-zoo"),
]

WORDS: Final = {Prediction.AUTHENTICATED: "verified"}
"""A prediction's word in the zoo's, where it differs."""

IMPATIENCE: Final = 0.2
"""Seconds for what is known never to come."""

AT_ONCE: Final = 8

CURRENT: Final = tuple(kind for kind in SenderClass if kind is not SenderClass.CACHED)


def is_hanging(entry: ZooEntry) -> bool:
    """Whether it is an entry's fault to take longer than anybody waits."""
    slow = entry.policy is not None and entry.policy.fault in (PolicyFault.SLOW, PolicyFault.STALL)
    return slow or any(host.fault is MxFault.TARPIT for host in entry.mx)


def settings(*, impatient: bool) -> CheckSettings:
    limits = ProbeLimits(greeting=IMPATIENCE) if impatient else ProbeLimits()
    return CheckSettings(
        ehlo_name="check.test",
        probe_limits=limits,
        policy_seconds=IMPATIENCE if impatient else 60.0,
        allow_networks=("127.0.0.0/8",),
        want_authorities=False,
        want_rua=False,
        connections_per_operator=64,
        port25_canaries=(),
        spacing_seconds=0.0,
        retry_seconds=0.0,
    )


async def gather(lab: Lab, resolver: DnsResolver, *, impatient: bool) -> dict[str, DomainFacts]:
    gatherer = assemble(
        resolver,
        settings(impatient=impatient),
        clock=SystemClock(),
        rng=random.Random(2),
        ca_file=lab.ca_file,
        connect_map=ConnectMap.parse([f":25::{lab.smtp_port}", f":443::{lab.https_port}"]),
    )
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(domain: str) -> DomainFacts:
        async with slots:
            return await gatherer.gather(domain)

    domains = [entry.domain for entry in ZOO if is_hanging(entry) is impatient]
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
        found = await gather(lab, resolver, impatient=True)
        found |= await gather(lab, resolver, impatient=False)
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
