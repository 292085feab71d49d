# SPDX-License-Identifier: Apache-2.0
"""STARTTLS and TLS: each fault weighs what it does to mail, and what nobody saw is no fault."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.check import builders as b

from strictmail.core.check.facts import ProbeOutcome, ProbeTarget, Unknown, UnknownReason
from strictmail.core.check.result import Severity
from strictmail.core.check.rules import hosts as kinds
from strictmail.core.mxset import MxHost, TlsaState

if TYPE_CHECKING:
    from strictmail.core.check.facts import DomainFacts, ProbeFacts
    from strictmail.core.check.kinds import Kind

CRITICAL, WARNING, INFO, OK, UNKNOWN = (
    Severity.CRITICAL,
    Severity.WARNING,
    Severity.INFO,
    Severity.OK,
    Severity.UNKNOWN,
)

V4, V6 = b.IPV4[b.MX1], b.IPV6[b.MX1]
TESTING: Final = b.BODY.replace(b"enforce", b"testing")
NONE: Final = b.BODY.replace(b"enforce", b"none")


def at(outcome: ProbeOutcome, address: str = V4, **changes: Any) -> ProbeFacts:
    return b.probe(b.MX1, address, outcome=outcome, **changes)


def unseen(reason: UnknownReason, address: str = V4) -> ProbeFacts:
    return at(ProbeOutcome.UNKNOWN, address, unknown=Unknown(reason, "as it was"))


def with_probes(*probes: ProbeFacts, dane: bool = False, **changes: Any) -> DomainFacts:
    """The first host with these sessions; without DANE unless it is wanted."""
    facts = b.domain_facts(**changes)
    first = replace(facts.hosts[0], probes=probes)
    if not dane:
        bare = tuple(MxHost(h.name, h.preference, TlsaState.NONE) for h in facts.mx.hosts)
        facts = replace(facts, mx=replace(facts.mx, hosts=bare))
    return replace(facts, hosts=(first, *facts.hosts[1:]))


def with_cipher(cipher: str) -> DomainFacts:
    return with_probes(b.probe(b.MX1, V4, tls=b.tls(b.MX1, version="TLSv1.2", cipher=cipher)))


OLD: Final = at(ProbeOutcome.TLS_OUTDATED, tls=b.tls(b.MX1, version="TLSv1"))

CASES: Final[dict[str, tuple[Kind, DomainFacts, Severity]]] = {
    "none-enforce": (kinds.NOT_OFFERED, with_probes(at(ProbeOutcome.NO_STARTTLS)), CRITICAL),
    "none-testing": (
        kinds.NOT_OFFERED,
        with_probes(at(ProbeOutcome.NO_STARTTLS), body=TESTING),
        WARNING,
    ),
    "none-without": (
        kinds.NOT_OFFERED,
        with_probes(at(ProbeOutcome.NO_STARTTLS), body=NONE),
        WARNING,
    ),
    "none-dane": (
        kinds.NOT_OFFERED,
        with_probes(at(ProbeOutcome.NO_STARTTLS), body=NONE, dane=True),
        CRITICAL,
    ),
    "454": (kinds.TEMPORARY, with_probes(at(ProbeOutcome.STARTTLS_TEMPORARY)), CRITICAL),
    "554": (kinds.REFUSED, with_probes(at(ProbeOutcome.STARTTLS_REFUSED)), CRITICAL),
    "injected": (kinds.INJECTED, with_probes(at(ProbeOutcome.INJECTED), body=NONE), CRITICAL),
    "handshake": (kinds.FAILED, with_probes(at(ProbeOutcome.TLS_FAILED)), CRITICAL),
    "old-enforce": (kinds.OUTDATED, with_probes(OLD), CRITICAL),
    "old-without": (kinds.OUTDATED, with_probes(OLD, body=NONE), WARNING),
    "rc4": (kinds.WEAK_CIPHER, with_cipher("ECDHE-RSA-RC4-SHA"), WARNING),
    "3des": (kinds.WEAK_CIPHER, with_cipher("DES-CBC3-SHA"), WARNING),
    "anonymous": (kinds.WEAK_CIPHER, with_cipher("ADH-AES128-SHA"), WARNING),
    "static-rsa": (kinds.NO_FORWARD_SECRECY, with_cipher("AES128-GCM-SHA256"), INFO),
    "unequal": (
        kinds.UNEQUAL,
        with_probes(b.probe(b.MX1, V4), at(ProbeOutcome.NO_STARTTLS, V6)),
        WARNING,
    ),
    "good": (kinds.SECURED, b.domain_facts(), OK),
    "timeout": (kinds.UNREACHABLE, with_probes(unseen(UnknownReason.TIMEOUT)), UNKNOWN),
    "refused": (kinds.UNREACHABLE, with_probes(unseen(UnknownReason.REFUSED)), UNKNOWN),
    "tarpit": (kinds.TARPIT, with_probes(unseen(UnknownReason.TARPIT)), UNKNOWN),
    "busy": (kinds.BUSY, with_probes(unseen(UnknownReason.BUSY)), UNKNOWN),
    "rejected": (kinds.REJECTED, with_probes(unseen(UnknownReason.REJECTED)), UNKNOWN),
    "limit": (kinds.NOT_SEEN, with_probes(unseen(UnknownReason.LIMIT)), UNKNOWN),
    "deadline": (kinds.NOT_SEEN, with_probes(unseen(UnknownReason.DEADLINE)), UNKNOWN),
    "again": (
        kinds.STARTTLS_AGAIN,
        with_probes(b.probe(b.MX1, V4, starttls_inside=True)),
        WARNING,
    ),
}


def test_every_kind_has_a_case() -> None:
    assert {case[0].id for case in CASES.values()} == {kind.id for kind in kinds.KINDS}


@pytest.mark.req("STS-APP-30", "STS-APP-38", "STS-APP-43", "SEC-03", "SEC-06")
@pytest.mark.parametrize(("kind", "facts", "severity"), CASES.values(), ids=CASES)
def test_a_kind_is_brought_forth(kind: Kind, facts: DomainFacts, severity: Severity) -> None:
    found = b.of_kind(b.judged(kinds.judge, facts), kind)
    assert found
    assert {finding.severity for finding in found} == {severity}


def test_the_good_domain_is_good() -> None:
    findings = b.judged(kinds.judge, b.domain_facts())
    assert [(finding.id, finding.subject) for finding in findings] == [
        (kinds.SECURED.id, b.MX1),
        (kinds.SECURED.id, b.MX2),
    ]


@pytest.mark.parametrize("reason", UnknownReason)
def test_what_nobody_saw_is_never_a_fault(reason: UnknownReason) -> None:
    facts = with_probes(unseen(reason), unseen(reason, V6), dane=True)
    findings = b.judged(kinds.judge, facts)
    assert {finding.severity for finding in findings} <= {OK, UNKNOWN}


@pytest.mark.parametrize("reason", [UnknownReason.PORT_BLOCKED, UnknownReason.NO_ROUTE])
def test_what_is_closed_on_our_side_is_not_told_of_each_host(reason: UnknownReason) -> None:
    findings = b.judged(kinds.judge, with_probes(unseen(reason)))
    assert not [finding for finding in findings if finding.severity is UNKNOWN]


def test_a_key_type_that_the_host_lacks_is_no_fault() -> None:
    failed = at(ProbeOutcome.TLS_FAILED, detail="no certificate of this kind")
    findings = b.judged(kinds.judge, with_probes(b.probe(b.MX1, V4), failed))
    assert {finding.severity for finding in findings} == {OK}


def test_only_the_address_at_fault_is_named() -> None:
    facts = CASES["unequal"][1]
    finding = b.the_one(b.judged(kinds.judge, facts), kinds.NOT_OFFERED)
    assert finding.subject == f"{b.MX1}[{V6}]"
    assert "MTA-STS" in finding.sentence


def test_a_cached_policy_still_counts() -> None:
    facts = with_probes(at(ProbeOutcome.NO_STARTTLS), policy=None, cached=b.cached_entry(b.BODY))
    assert b.the_one(b.judged(kinds.judge, facts), kinds.NOT_OFFERED).severity is CRITICAL


def test_a_policy_that_does_not_allow_the_host_asks_nothing_of_it() -> None:
    body = b.BODY.replace(b"mx: mx1.example.com\r\n", b"")
    facts = with_probes(at(ProbeOutcome.NO_STARTTLS), body=body)
    assert b.the_one(b.judged(kinds.judge, facts), kinds.NOT_OFFERED).severity is WARNING


@given(st.lists(st.tuples(st.sampled_from(ProbeOutcome), st.text(max_size=40)), max_size=5))
def test_any_reply_is_told_in_printable_ascii(seen: list[tuple[ProbeOutcome, str]]) -> None:
    probes = [
        at(outcome, f"192.0.2.{n}", reply=text, detail=text, target=ProbeTarget(text, text, text))
        for n, (outcome, text) in enumerate(seen)
    ]
    facts = with_probes(*probes)
    named = replace(facts.hosts[0], name="".join(text for _, text in seen) or "x")
    for finding in kinds.judge(replace(facts, hosts=(named,))):
        assert finding.sentence.endswith(".")
