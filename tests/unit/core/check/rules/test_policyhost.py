# SPDX-License-Identifier: Apache-2.0
"""The policy host: DNS, TLS, answers, and what only some senders see of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.check import builders as b

from strictmail.core.check.facts import ProbeOutcome, Unknown, UnknownReason
from strictmail.core.check.result import Severity
from strictmail.core.check.rules import policyhost
from strictmail.core.check.rules import policyhostkinds as kinds
from strictmail.core.dnsvalues import Status
from strictmail.core.sts.values import FetchFailure
from strictmail.core.tlsrpt.results import ResultType

if TYPE_CHECKING:
    from strictmail.core.check.facts import DomainFacts, PolicyHostLook
    from strictmail.core.check.kinds import Kind

WARNING, CRITICAL, INFO, OK, UNKNOWN = (
    Severity.WARNING,
    Severity.CRITICAL,
    Severity.INFO,
    Severity.OK,
    Severity.UNKNOWN,
)

V4: Final = b.IPV4[b.POLICY_HOST]
V6: Final = b.IPV6[b.POLICY_HOST]
TARGET: Final = "policies.provider.example"


def failure(reason_code: str, reason: str = "it failed") -> FetchFailure:
    return FetchFailure(ResultType.STS_POLICY_FETCH_ERROR, reason, reason_code)


def failing(reason_code: str, **changes: Any) -> DomainFacts:
    """Every fetch ends this way."""
    result = failure(reason_code)
    session = {} if reason_code not in ("connect", "timeout", "dns") else {"tls": None}
    looks = tuple(b.look(address, result=result, **session) for address in (V4, V6))
    return b.domain_facts(**({"policy": result, "policy_looks": looks} | changes))


def with_addresses(*found: str, **answer: Any) -> DomainFacts:
    failed = {} if found else {"policy": failure("dns"), "policy_looks": ()}
    return b.domain_facts(policy_addresses=b.addresses(b.POLICY_HOST, *found, **answer), **failed)


def with_looks(*looks: PolicyHostLook, **changes: Any) -> DomainFacts:
    return b.domain_facts(policy_looks=looks, **changes)


def expiring(days: float, days_old: float = 60) -> DomainFacts:
    presented = b.chain(b.POLICY_HOST, days_left=days, days_old=days_old)
    session = b.tls(b.POLICY_HOST, chain_der=presented)
    return with_looks(b.look(V4, tls=session), b.look(V6, tls=session))


DELEGATED: Final = b.addresses(b.POLICY_HOST, V4, canonical_name=TARGET)
OTHER_BODY: Final = b.fetched(b.BODY.replace(b"enforce", b"testing"))
LARGE_BODY: Final = b.BODY + b"note: x\r\n" * 4000
NO_V6_PROBES: Final = tuple(
    replace(
        host,
        probes=tuple(
            replace(p, outcome=ProbeOutcome.UNKNOWN, unknown=Unknown(UnknownReason.NO_ROUTE))
            if ":" in p.target.address
            else p
            for p in host.probes
        ),
    )
    for host in b.domain_facts().hosts
)

CASES: Final[dict[str, tuple[Kind, DomainFacts, Severity]]] = {
    "nxdomain": (kinds.NO_ADDRESS, with_addresses(status=Status.NXDOMAIN), CRITICAL),
    "nodata": (kinds.NO_ADDRESS, with_addresses(), CRITICAL),
    "dangling": (
        kinds.DANGLING,
        with_addresses(status=Status.NXDOMAIN, canonical_name=TARGET),
        CRITICAL,
    ),
    "dns-failed": (kinds.DNS_FAILED, with_addresses(status=Status.SERVFAIL), UNKNOWN),
    "dns-bogus": (kinds.DNS_FAILED, with_addresses(status=Status.BOGUS), CRITICAL),
    "dns-failed-then": (kinds.DNS_FAILED, failing("dns"), UNKNOWN),
    "private": (kinds.NOT_PUBLIC, with_addresses("10.0.0.1", "::1"), CRITICAL),
    "private-beside": (kinds.NOT_PUBLIC, with_addresses("10.0.0.1", V4), WARNING),
    "refused": (kinds.NOT_PUBLIC, failing("refused-address", policy_addresses=()), CRITICAL),
    "alias": (kinds.ALIAS, b.domain_facts(policy_addresses=DELEGATED), INFO),
    "connect": (kinds.UNREACHABLE, failing("connect"), UNKNOWN),
    "not-fetched": (kinds.UNREACHABLE, with_looks(policy=None), UNKNOWN),
    "timeout": (kinds.UNREACHABLE, failing("timeout"), UNKNOWN),
    "too-slow": (
        kinds.TOO_SLOW,
        failing("timeout", policy_looks=(b.look(V4, result=failure("timeout")),)),
        CRITICAL,
    ),
    "expired": (kinds.EXPIRED, failing("certificate-expired"), CRITICAL),
    "wrong-name": (kinds.WRONG_NAME, failing("certificate-name"), CRITICAL),
    "wrong-delegate": (
        kinds.WRONG_DELEGATE,
        failing("certificate-name", policy_addresses=DELEGATED),
        CRITICAL,
    ),
    "untrusted": (kinds.UNTRUSTED, failing("certificate-untrusted"), CRITICAL),
    "tls": (kinds.TLS_FAILED, failing("tls"), CRITICAL),
    "redirect": (kinds.REDIRECT, failing("redirect"), CRITICAL),
    "status": (kinds.BAD_STATUS, failing("http-status"), CRITICAL),
    "media": (kinds.MEDIA, failing("media-type"), CRITICAL),
    "encoded": (kinds.ENCODED, failing("content-encoding"), CRITICAL),
    "too-large": (kinds.TOO_LARGE, failing("too-large"), CRITICAL),
    "truncated": (kinds.TRUNCATED, failing("truncated"), CRITICAL),
    "http": (kinds.HTTP_BROKEN, failing("http"), CRITICAL),
    "something-new": (kinds.FETCH_FAILED, failing("a-new-code"), CRITICAL),
    "slow": (kinds.SLOW, with_looks(b.look(V4, seconds=20.0), b.look(V6)), WARNING),
    "large": (kinds.LARGE, b.domain_facts(body=LARGE_BODY), WARNING),
    "one-address": (
        kinds.ADDRESS_FAILS,
        with_looks(b.look("192.0.2.81", result=failure("http-status")), b.look(V4), b.look(V6)),
        WARNING,
    ),
    "one-address-closed": (
        kinds.ADDRESS_FAILS,
        with_looks(b.look("192.0.2.81", result=failure("connect"), tls=None), b.look(V4)),
        UNKNOWN,
    ),
    "ipv6": (
        kinds.IPV6_IN_NAME,
        with_looks(b.look(V4), b.look(V6, result=failure("connect"), tls=None)),
        WARNING,
    ),
    "ipv6-from-a-place-without": (
        kinds.IPV6_IN_NAME,
        with_looks(b.look(V4), b.look(V6, result=failure("connect"), tls=None), hosts=NO_V6_PROBES),
        UNKNOWN,
    ),
    "bodies": (
        kinds.BODIES_DIFFER,
        with_looks(b.look(V4), b.look(V6, result=OTHER_BODY)),
        WARNING,
    ),
    "agent": (
        kinds.AGENT,
        with_looks(b.look(V4), b.look(V4, agent="Mozilla/5.0", result=failure("http-status"))),
        WARNING,
    ),
    "agent-we": (
        kinds.AGENT,
        failing(
            "http-status",
            policy_looks=(
                b.look(V4, result=failure("http-status")),
                b.look(V4, agent="Mozilla/5.0"),
            ),
        ),
        WARNING,
    ),
    "expires": (kinds.EXPIRES, expiring(13), WARNING),
    "expires-at-once": (kinds.EXPIRES, expiring(2), CRITICAL),
    "served": (kinds.SERVED, b.domain_facts(), OK),
}


def test_every_kind_has_a_case() -> None:
    assert {case[0].id for case in CASES.values()} == {kind.id for kind in policyhost.KINDS}


@pytest.mark.parametrize(("kind", "facts", "severity"), CASES.values(), ids=CASES)
def test_a_kind_is_brought_forth(kind: Kind, facts: DomainFacts, severity: Severity) -> None:
    assert b.the_one(b.judged(policyhost.judge, facts), kind).severity is severity


def test_the_good_domain_is_good() -> None:
    findings = b.judged(policyhost.judge, b.domain_facts())
    assert [(finding.id, finding.severity) for finding in findings] == [(kinds.SERVED.id, OK)]


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][2] is CRITICAL])
def test_what_fails_is_told_once(case: str) -> None:
    findings = b.judged(policyhost.judge, CASES[case][1])
    critical = [finding for finding in findings if finding.severity is CRITICAL]
    assert len(critical) == 1


def test_a_host_that_dns_does_not_lead_to_needs_no_second_word() -> None:
    facts = replace(CASES["nxdomain"][1], policy=None)
    findings = b.judged(policyhost.judge, facts)
    assert [finding.id for finding in findings] == [kinds.NO_ADDRESS.id]


def test_without_a_record_nobody_comes() -> None:
    facts = replace(CASES["status"][1], sts_record=b.txt("_mta-sts.example.com"))
    assert b.judged(policyhost.judge, facts) == ()


@pytest.mark.req("STS-FET-30")
def test_a_malformed_body_is_not_the_hosts_fault() -> None:
    facts = b.domain_facts(body=b"# no policy\n")
    assert b.judged(policyhost.judge, facts) == ()


@pytest.mark.req("STS-FET-11")
def test_what_the_delegates_certificate_names_is_shown() -> None:
    session = b.tls(b.POLICY_HOST, chain_der=b.chain(TARGET))
    facts = failing(
        "certificate-name",
        policy_addresses=DELEGATED,
        policy_looks=(b.look(V4, result=failure("certificate-name"), tls=session),),
    )
    finding = b.the_one(b.judged(policyhost.judge, facts), kinds.WRONG_DELEGATE)
    assert finding.evidence[1].text == TARGET


@pytest.mark.parametrize(
    ("days_left", "days_old", "severity"),
    [
        pytest.param(14, 76, None, id="two-weeks"),
        pytest.param(13.9, 76, WARNING, id="below-two-weeks"),
        pytest.param(2.9, 87, CRITICAL, id="three-days"),
        pytest.param(4, 2, None, id="a-certificate-of-six-days"),
        pytest.param(1.5, 4.5, WARNING, id="last-third-of-six-days"),
        pytest.param(0.5, 5.5, CRITICAL, id="last-tenth-of-six-days"),
        pytest.param(-1, 90, None, id="over-already"),
    ],
)
def test_days_left(days_left: float, days_old: float, severity: Severity | None) -> None:
    findings = b.of_kind(b.judged(policyhost.judge, expiring(days_left, days_old)), kinds.EXPIRES)
    assert [finding.severity for finding in findings] == ([severity] if severity else [])


def test_no_route_to_one_address_of_the_host_is_no_verdict_on_its_neighbour() -> None:
    facts = with_looks(
        b.look(V4),
        b.look("2001:db8::81"),
        b.look(V6, result=failure("connect"), tls=None),
    )
    findings = b.judged(policyhost.judge, facts)
    assert not b.of_kind(findings, kinds.IPV6_IN_NAME)
    assert b.the_one(findings, kinds.ADDRESS_FAILS).severity is UNKNOWN


def test_a_certificate_that_is_none_is_passed_over() -> None:
    session = b.tls(b.POLICY_HOST, chain_der=(b"\x30\x00",))
    facts = failing(
        "certificate-name",
        policy_looks=(b.look(V4, result=failure("certificate-name"), tls=session),),
    )
    finding = b.the_one(b.judged(policyhost.judge, facts), kinds.WRONG_NAME)
    assert finding.evidence[1].text == "no dNSName"


@given(st.text(max_size=80), st.text(max_size=20), st.text(min_size=1, max_size=60))
def test_any_reason_is_told_in_printable_ascii(reason: str, agent: str, target: str) -> None:
    result = failure("http", reason)
    facts = b.domain_facts(
        policy=result,
        policy_addresses=b.addresses(b.POLICY_HOST, V4, canonical_name=target),
        policy_looks=(b.look(V4, result=result), b.look(V4, agent=agent or "x")),
    )
    b.judged(policyhost.judge, facts)
