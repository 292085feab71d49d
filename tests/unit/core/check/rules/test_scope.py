# SPDX-License-Identifier: Apache-2.0
"""What a check could not do: said once, and never held against the domain."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
from tests.unit.core.check import builders as b

from strictmail.core.check.facts import PortState, ProbeOutcome, Unknown, UnknownReason
from strictmail.core.check.result import Severity
from strictmail.core.check.rules import scope

if TYPE_CHECKING:
    from strictmail.core.check.facts import DomainFacts, HostFacts, ProbeFacts
    from strictmail.core.check.kinds import Kind


def unseen(name: str, address: str, reason: UnknownReason) -> ProbeFacts:
    return b.probe(name, address, outcome=ProbeOutcome.UNKNOWN, unknown=Unknown(reason))


def without_route(*addresses: str) -> HostFacts:
    """A host that was seen at its IPv4 address only, if at all."""
    return b.host(
        b.MX1,
        probes=tuple(unseen(b.MX1, a, UnknownReason.NO_ROUTE) for a in addresses if ":" in a)
        + tuple(b.probe(b.MX1, a) for a in addresses if ":" not in a),
    )


def left_out(reason: UnknownReason, detail: str = "") -> DomainFacts:
    return b.domain_facts(unknown=(("rua", Unknown(reason, detail)),))


CASES: Final = {
    "CHK001": (scope.PORT_BLOCKED, b.domain_facts(port25=PortState.BLOCKED), Severity.UNKNOWN),
    "CHK002": (
        scope.NO_ROUTE,
        b.domain_facts(hosts=(without_route("192.0.2.1", "2001:db8::1"), b.host(b.MX2))),
        Severity.INFO,
    ),
    "CHK003": (scope.NO_VALIDATION, b.domain_facts(validates=False), Severity.UNKNOWN),
    "CHK004": (scope.NOT_LOOKED_AT, left_out(UnknownReason.TIMEOUT), Severity.UNKNOWN),
    "CHK005": (scope.SKIPPED, left_out(UnknownReason.SKIPPED), Severity.INFO),
    "CHK006": (scope.CAP, left_out(UnknownReason.LIMIT), Severity.INFO),
    "CHK007": (scope.DEADLINE, left_out(UnknownReason.DEADLINE), Severity.UNKNOWN),
}


def test_every_kind_has_a_case() -> None:
    # What is cut is known when all findings are: see `test_bounds`.
    assert set(CASES) == {kind.id for kind in scope.KINDS} - {scope.MORE_ALIKE.id}


@pytest.mark.parametrize(("kind", "facts", "severity"), CASES.values(), ids=CASES)
def test_a_limit_is_told_once(kind: Kind, facts: DomainFacts, severity: Severity) -> None:
    findings = b.judged(scope.judge, facts)
    assert [finding.id for finding in findings] == [kind.id]
    assert findings[0].severity is severity


def test_nothing_limited_the_good_check() -> None:
    assert b.judged(scope.judge, b.domain_facts()) == ()


def test_a_host_that_only_ipv6_leads_to_is_unknown() -> None:
    facts = b.domain_facts(hosts=(without_route("2001:db8::1"), b.host(b.MX2)))
    finding = b.the_one(b.judged(scope.judge, facts), scope.NO_ROUTE)
    assert finding.severity is Severity.UNKNOWN
    assert b.MX1 in finding.sentence


def test_what_the_blocked_port_hides_is_not_told_again() -> None:
    facts = b.domain_facts(
        port25=PortState.BLOCKED,
        unknown=(
            ("mx1.example.com", Unknown(UnknownReason.PORT_BLOCKED)),
            ("mx2.example.com", Unknown(UnknownReason.PORT_BLOCKED)),
        ),
    )
    findings = b.judged(scope.judge, facts)
    assert [finding.id for finding in findings] == [scope.PORT_BLOCKED.id]


def test_the_reason_is_told() -> None:
    facts = left_out(UnknownReason.DNS, "SERVFAIL for \x1b[31mrua")
    finding = b.the_one(b.judged(scope.judge, facts), scope.NOT_LOOKED_AT)
    assert finding.sentence == "Not looked at: `rua`: SERVFAIL for \\x1b[31mrua."
    assert finding.evidence[0].text == "rua"


def test_one_reason_is_told_once_for_all() -> None:
    cap = Unknown(UnknownReason.LIMIT, "only 8 addresses of a family are looked at")
    addresses = tuple(f"mta-sts.example.com[2001:db8::{n}]" for n in range(20))
    facts = b.domain_facts(
        unknown=(*((address, cap) for address in addresses), ("rua x", Unknown(cap.reason)))
    )
    findings = b.judged(scope.judge, facts)
    assert [finding.id for finding in findings] == [scope.CAP.id, scope.CAP.id]
    assert "`mta-sts.example.com[2001:db8::0]` and 19 more" in findings[0].sentence
    assert len(findings[0].evidence) == scope.MAX_SUBJECTS + 1
    assert findings[0].evidence[-1].text == "4 more"


def test_the_family_that_is_missing_is_named() -> None:
    missing = Unknown(UnknownReason.NO_ROUTE)
    facts = b.domain_facts(unknown=(("mta-sts.example.com[192.0.2.80]", missing),))
    finding = b.the_one(b.judged(scope.judge, facts), scope.NO_ROUTE)
    assert finding.sentence == "There is no IPv4 here: such addresses were not looked at."
    both = replace(facts, unknown=(*facts.unknown, ("ns1[2001:db8::53]", missing)))
    finding = b.the_one(b.judged(scope.judge, both), scope.NO_ROUTE)
    assert finding.sentence.startswith("There is no IPv6 and no IPv4 here:")


def test_hosts_that_were_left_out_are_named() -> None:
    facts = b.domain_facts(hosts=(b.host(b.MX1),))
    finding = b.the_one(b.judged(scope.judge, facts), scope.CAP)
    assert finding.sentence == "1 of 2 MX hosts were looked at."
    assert finding.severity is Severity.UNKNOWN
    assert finding.evidence[0].text == b.MX2
