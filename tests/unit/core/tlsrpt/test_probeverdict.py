# SPDX-License-Identifier: Apache-2.0
"""What a probe establishes of sessions that nobody verified: all hosts agree, or nothing is said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.check.builders import (
    DOMAIN,
    LOOKED_AT,
    MX1,
    MX2,
    addresses,
    answer,
    domain_facts,
    host,
    mx_host,
    probe,
    tls,
)

from strictmail.core.check.facts import PkixProblem, ProbeOutcome, Unknown, UnknownReason
from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.mxset import MxSet, MxStatus, TlsaState
from strictmail.core.tlsrpt import probeverdict as probeverdict_module
from strictmail.core.tlsrpt.probeverdict import (
    Established,
    Gap,
    NotEstablished,
    ProbeVerdict,
    can_probe,
    see_hosts,
)
from strictmail.core.tlsrpt.probeverdict import judge_probe as judge_sight
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import ReportedPolicy, make_policy

if TYPE_CHECKING:
    from strictmail.core.check.facts import DomainFacts, HostFacts, ProbeFacts

MX3 = "mx3.example.com"
LINES = (
    "version: STSv1",
    "mode: testing",
    "mx: mx1.example.com",
    "mx: mx2.example.com",
    "mx: mx3.example.com",
)
POLICY = make_policy(PolicyType.STS, DOMAIN, LINES, domain=DOMAIN)
OTHER = make_policy(PolicyType.STS, DOMAIN, ("mode: testing", "mx: *.other.test"), domain=DOMAIN)
ONLY_SECOND = make_policy(PolicyType.STS, DOMAIN, ("mode: testing", f"mx: {MX2}"), domain=DOMAIN)
ONLY_FIRST = make_policy(PolicyType.STS, DOMAIN, ("mode: testing", f"mx: {MX1}"), domain=DOMAIN)

P, R = PkixProblem, ResultType
V4 = {MX1: ("192.0.2.1",), MX2: ("192.0.2.2",)}
BOTH = {
    MX1: ("192.0.2.1", "2001:db8::1"),
    MX2: ("192.0.2.2", "2001:db8::2"),
    MX3: ("192.0.2.3", "2001:db8::3"),
}

Seen = PkixProblem | ProbeOutcome | UnknownReason | None


def session(name: str, address: str, seen: Seen) -> ProbeFacts:
    """A session: None is a good one."""
    match seen:
        case PkixProblem():
            return probe(name, address, tls=tls(name, problems=(seen,)))
        case UnknownReason():
            return probe(name, address, outcome=ProbeOutcome.UNKNOWN, unknown=Unknown(seen, "x"))
        case ProbeOutcome.TLS_OUTDATED:
            return probe(name, address, outcome=seen, tls=tls(name, version="TLSv1"))
        case ProbeOutcome():
            return probe(name, address, outcome=seen)
        case None:
            return probe(name, address)


def seen_host(name: str, preference: int, *seen: Seen) -> HostFacts:
    """A host with a session for each of its addresses, IPv4 first."""
    found = BOTH[name][: len(seen)]
    probes = tuple(session(name, a, one) for a, one in zip(found, seen, strict=True))
    return host(name, preference, addresses=addresses(name, *found), probes=probes)


def facts(
    *hosts: HostFacts, status: MxStatus = MxStatus.FOUND, secure: bool = False, **changes: Any
) -> DomainFacts:
    """A domain without DNSSEC with these hosts."""
    mx = tuple(
        mx_host(one.name, one.preference, tlsa=(), tlsa_state=TlsaState.NOT_ASKED) for one in hosts
    )
    return domain_facts(hosts=hosts, mx=MxSet(status, secure=secure, hosts=mx), **changes)


def one(*seen: Seen) -> DomainFacts:
    return facts(seen_host(MX1, 10, *seen))


def two(first: Seen, second: Seen, preferences: tuple[int, int] = (10, 10)) -> DomainFacts:
    return facts(seen_host(MX1, preferences[0], first), seen_host(MX2, preferences[1], second))


def judge_probe(policy: ReportedPolicy, found: DomainFacts) -> ProbeVerdict:
    return judge_sight(policy, see_hosts(found))


def three(*seen: Seen) -> DomainFacts:
    """Three hosts, each worse than the one before."""
    names = zip((MX1, MX2, MX3), (10, 20, 30), seen, strict=True)
    return facts(*(seen_host(name, preference, one) for name, preference, one in names))


def say(policy: ReportedPolicy, found: DomainFacts) -> str:
    """A verdict as one line: what, which reason, which host."""
    verdict = judge_probe(policy, found)
    if isinstance(verdict, NotEstablished):
        return f"not: {verdict.gap}"
    if verdict.failure is None:
        return "success"
    return " ".join(
        filter(
            None,
            (
                str(verdict.failure.result_type),
                f"[{verdict.failure.failure_reason_code}]",
                verdict.failure.receiving_mx_hostname,
            ),
        )
    )


@pytest.mark.parametrize(
    ("policy", "found", "expected"),
    [
        # One host.
        (POLICY, one(None), "success"),
        (POLICY, one(None, None), "success"),
        (POLICY, one(P.EXPIRED), f"certificate-expired [probe: expired] {MX1}"),
        (POLICY, one(P.NAME), f"certificate-host-mismatch [probe: name] {MX1}"),
        (POLICY, one(P.SELF_SIGNED), f"certificate-not-trusted [probe: self-signed] {MX1}"),
        (
            POLICY,
            one(P.MISSING_INTERMEDIATE),
            f"certificate-not-trusted [probe: missing-intermediate] {MX1}",
        ),
        (POLICY, one(P.NOT_YET_VALID), f"validation-failure [probe: not-yet-valid] {MX1}"),
        (POLICY, one(ProbeOutcome.TLS_OUTDATED), f"validation-failure [probe: tls-version] {MX1}"),
        (OTHER, one(None), f"validation-failure [probe: mx-host-not-in-policy] {MX1}"),
        # Its addresses.
        (POLICY, one(P.EXPIRED, P.EXPIRED), f"certificate-expired [probe: expired] {MX1}"),
        (POLICY, one(P.SELF_SIGNED, P.UNTRUSTED_ROOT), f"certificate-not-trusted [probe] {MX1}"),
        (POLICY, one(None, P.EXPIRED), "not: hosts-differ"),
        (POLICY, one(P.NAME, P.EXPIRED), "not: hosts-differ"),
        # No TLS: then it was another host, or another time.
        (POLICY, one(ProbeOutcome.NO_STARTTLS), "not: no-tls"),
        (POLICY, one(ProbeOutcome.STARTTLS_TEMPORARY), "not: no-tls"),
        (POLICY, one(ProbeOutcome.STARTTLS_REFUSED), "not: no-tls"),
        (POLICY, one(ProbeOutcome.TLS_FAILED), "not: no-tls"),
        (OTHER, one(ProbeOutcome.NO_STARTTLS), f"validation-failure [probe: mx-host-not-in-policy] {MX1}"),
        # Nobody could look.
        (POLICY, one(UnknownReason.TIMEOUT), "not: unseen"),
        (POLICY, one(UnknownReason.TARPIT), "not: unseen"),
        (POLICY, one(UnknownReason.BUSY), "not: unseen"),
        (POLICY, one(UnknownReason.DEADLINE), "not: unseen"),
        (POLICY, one(ProbeOutcome.INJECTED), "not: unseen"),
        (POLICY, one(None, UnknownReason.REFUSED), "not: unseen"),
        (POLICY, one(None, UnknownReason.LIMIT), "not: unseen"),
        (POLICY, one(UnknownReason.PORT_BLOCKED), "not: port-blocked"),
        (POLICY, one(UnknownReason.TIMEOUT, UnknownReason.PORT_BLOCKED), "not: port-blocked"),
        # No way to IPv6: nor had the MTA.
        (POLICY, one(None, UnknownReason.NO_ROUTE), "success"),
        (POLICY, one(P.EXPIRED, UnknownReason.NO_ROUTE), f"certificate-expired [probe: expired] {MX1}"),
        (POLICY, one(UnknownReason.NO_ROUTE, UnknownReason.NO_ROUTE), "not: unseen"),
        (OTHER, one(UnknownReason.NO_ROUTE), f"validation-failure [probe: mx-host-not-in-policy] {MX1}"),
        # A host off the policy fails by its name.
        (OTHER, one(UnknownReason.TIMEOUT), f"validation-failure [probe: mx-host-not-in-policy] {MX1}"),
        (OTHER, one(UnknownReason.PORT_BLOCKED), f"validation-failure [probe: mx-host-not-in-policy] {MX1}"),
        (
            OTHER,
            two(UnknownReason.PORT_BLOCKED, UnknownReason.PORT_BLOCKED, (10, 20)),
            "validation-failure [probe: mx-host-not-in-policy]",
        ),
        # What else is missing is not the matter while the port is closed; what was seen, was seen.
        (POLICY, two(None, UnknownReason.PORT_BLOCKED), "not: port-blocked"),
        (POLICY, two(ProbeOutcome.NO_STARTTLS, UnknownReason.PORT_BLOCKED), "not: port-blocked"),
        (ONLY_FIRST, two(None, UnknownReason.PORT_BLOCKED, (10, 20)), "not: port-blocked"),
        (POLICY, two(None, UnknownReason.PORT_BLOCKED, (10, 20)), "success"),
        # Two hosts; which one, the session does not say.
        (POLICY, two(None, None), "success"),
        (POLICY, two(P.EXPIRED, P.EXPIRED), "certificate-expired [probe: expired]"),
        (POLICY, two(None, P.EXPIRED), "not: hosts-differ"),
        (POLICY, two(P.NAME, P.EXPIRED), "not: hosts-differ"),
        (ONLY_FIRST, two(None, None), "not: hosts-differ"),
        (OTHER, two(None, UnknownReason.TARPIT), "validation-failure [probe: mx-host-not-in-policy]"),
        # Preferences.
        (POLICY, two(None, UnknownReason.TIMEOUT), "not: unseen"),
        (POLICY, two(None, UnknownReason.TIMEOUT, (10, 20)), "success"),
        (POLICY, two(P.NAME, ProbeOutcome.NO_STARTTLS, (10, 20)), "certificate-host-mismatch [probe: name]"),
        (POLICY, two(UnknownReason.TIMEOUT, None, (10, 20)), "not: unseen"),
        (POLICY, two(None, UnknownReason.TIMEOUT, (20, 10)), "not: unseen"),
        (POLICY, two(None, P.EXPIRED, (10, 20)), "not: hosts-differ"),
        (
            POLICY,
            facts(
                seen_host(MX1, 10, None, UnknownReason.TIMEOUT),
                seen_host(MX2, 20, UnknownReason.TIMEOUT),
            ),
            "not: unseen",
        ),
        (POLICY, three(None, UnknownReason.BUSY, None), "success"),
        (POLICY, three(UnknownReason.BUSY, None, None), "not: unseen"),
        (POLICY, three(P.NAME, UnknownReason.BUSY, P.NAME), "certificate-host-mismatch [probe: name]"),
        # Off the policy and seen, it was there, and no session had to go on.
        (
            ONLY_SECOND,
            two(None, UnknownReason.TIMEOUT, (10, 20)),
            "validation-failure [probe: mx-host-not-in-policy]",
        ),
        (
            ONLY_SECOND,
            two(ProbeOutcome.TLS_OUTDATED, UnknownReason.TIMEOUT, (10, 20)),
            "validation-failure [probe: mx-host-not-in-policy]",
        ),
        # Unseen, it hides nobody; who is behind it has to be judged, and to agree.
        (ONLY_SECOND, two(UnknownReason.TIMEOUT, None, (10, 20)), "not: hosts-differ"),
        (ONLY_SECOND, two(UnknownReason.TIMEOUT, P.EXPIRED, (10, 20)), "not: hosts-differ"),
        (
            ONLY_SECOND,
            two(UnknownReason.TIMEOUT, ProbeOutcome.TLS_OUTDATED, (10, 20)),
            "validation-failure [probe]",
        ),
        (
            OTHER,
            two(UnknownReason.TIMEOUT, UnknownReason.BUSY, (10, 20)),
            "validation-failure [probe: mx-host-not-in-policy]",
        ),
        (
            ONLY_SECOND,
            facts(
                seen_host(MX1, 10, None, UnknownReason.TIMEOUT),
                seen_host(MX2, 20, UnknownReason.TIMEOUT),
            ),
            "not: unseen",
        ),
        # No host.
        (POLICY, facts(status=MxStatus.ERROR), "not: mx-unknown"),
        (POLICY, facts(status=MxStatus.NULL), "not: no-host"),
        (POLICY, facts(status=MxStatus.NXDOMAIN), "not: no-host"),
        # Nothing to judge by.
        (ReportedPolicy(PolicyType.STS, DOMAIN), one(None), "not: policy-unknown"),
        (ReportedPolicy(PolicyType.TLSA, MX1, ("3 1 1 AB",)), one(None), "not: policy-unknown"),
        (ReportedPolicy(PolicyType.NO_POLICY_FOUND, DOMAIN), one(None), "not: policy-unknown"),
    ],
)  # fmt: skip
@pytest.mark.req("RPT-JSON-24", "RPT-JSON-26", "RPT-JSON-32", "RPT-JSON-33", "RPT-JSON-34")
def test_verdicts(policy: ReportedPolicy, found: DomainFacts, expected: str) -> None:
    assert say(policy, found) == expected


ABSENT = host(MX1, 10, addresses=addresses(MX1), probes=())


@pytest.mark.parametrize(
    "first",
    [
        UnknownReason.TIMEOUT,
        UnknownReason.REFUSED,
        UnknownReason.NO_ROUTE,
        UnknownReason.PORT_BLOCKED,
        UnknownReason.LIMIT,
        ProbeOutcome.INJECTED,
        ProbeOutcome.NO_STARTTLS,
        ProbeOutcome.TLS_FAILED,
        None,
    ],
)
@pytest.mark.parametrize(
    "second",
    [
        UnknownReason.BUSY,
        UnknownReason.TIMEOUT,
        UnknownReason.LIMIT,
        UnknownReason.PORT_BLOCKED,
        ProbeOutcome.NO_STARTTLS,
    ],
)
def test_a_host_off_the_policy_that_nobody_saw_hides_nobody(first: Seen, second: Seen) -> None:
    best = ABSENT if first is None else seen_host(MX1, 10, first)
    verdict = judge_probe(ONLY_SECOND, facts(best, seen_host(MX2, 20, second)))
    assert isinstance(verdict, NotEstablished)
    is_blocked = UnknownReason.PORT_BLOCKED in (first, second)
    assert (verdict.gap is Gap.PORT_BLOCKED) is is_blocked


def test_only_so_many_hosts_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probeverdict_module, "MAX_HOSTS", 2)
    assert say(POLICY, three(None, None, None)) == "success"
    assert say(OTHER, three(*3 * [UnknownReason.BUSY])) == "not: unseen"
    alike = facts(*(seen_host(name, 10, None) for name in (MX1, MX2, MX3)))
    assert say(POLICY, alike) == "not: unseen"
    assert len(see_hosts(alike).hosts) == 3


def test_the_failure_says_that_a_probe_found_it_and_nothing_of_a_session() -> None:
    verdict = judge_probe(POLICY, one(P.EXPIRED))
    assert isinstance(verdict, Established)
    assert verdict.failure is not None
    assert "probe" in verdict.failure.additional_information
    # To the hour, so that all that one look establishes has equal details.
    assert f"at about {LOOKED_AT:%Y-%m-%d %H}:00 UTC" in verdict.failure.additional_information
    later = replace(one(P.EXPIRED), looked_at=LOOKED_AT.replace(minute=59))
    assert judge_probe(POLICY, later) == verdict
    assert verdict.failure.receiving_ip == verdict.failure.sending_mta_ip == ""
    assert verdict.failure.receiving_mx_helo == ""


def test_the_domain_itself_is_a_host_where_there_is_no_mx_record() -> None:
    own = host(
        DOMAIN,
        0,
        addresses=addresses(DOMAIN, "192.0.2.9"),
        probes=(probe(DOMAIN, "192.0.2.9"),),
    )
    policy = make_policy(PolicyType.STS, DOMAIN, ("mode: testing", f"mx: {DOMAIN}"), domain=DOMAIN)
    assert say(policy, facts(own, status=MxStatus.IMPLICIT)) == "success"


def test_dnssec_and_dane_make_no_difference() -> None:
    """A policy is for domains without DNSSEC, too, and what DANE says is told under `tlsa`."""
    for secure in (False, True):
        assert say(POLICY, facts(seen_host(MX1, 10, None), secure=secure)) == "success"
    refused = facts(seen_host(MX1, 10, None), secure=True)
    (mx,) = refused.mx.hosts
    broken = replace(mx, tlsa_state=TlsaState.ERROR)
    assert say(POLICY, replace(refused, mx=replace(refused.mx, hosts=(broken,)))) == "success"


def test_a_host_without_addresses_was_not_looked_at() -> None:
    absent = host(MX1, 10, addresses=addresses(MX1), probes=())
    failed = host(
        MX1,
        10,
        addresses=(answer(MX1, RecordType.A, status=Status.SERVFAIL),),
        probes=(),
    )
    for gone in (absent, failed):
        assert say(POLICY, facts(gone)) == "not: unseen"
        assert say(POLICY, facts(gone, seen_host(MX2, 20, None))) == "not: unseen"
        assert say(POLICY, facts(replace(gone, preference=20), seen_host(MX2, 10, None))) == (
            "success"
        )


def test_hosts_beyond_those_that_are_visited_count_as_unseen() -> None:
    found = facts(seen_host(MX1, 10, None), seen_host(MX2, 10, None))
    assert say(POLICY, replace(found, hosts=found.hosts[:1])) == "not: unseen"


def test_without_patterns_nothing_can_be_probed() -> None:
    assert can_probe(POLICY)
    assert not can_probe(replace(POLICY, mx_host_patterns=()))
    # What an enforced policy is worth, the MTA knows; without its text nobody knows the mode.
    for lines in ((), ("mode: enforce",), ("mode: none",), ("mx: a",)):
        assert not can_probe(replace(POLICY, policy_strings=lines))
        assert judge_probe(replace(POLICY, policy_strings=lines), one(None)) == (
            NotEstablished(Gap.POLICY_UNKNOWN)
        )
    assert not can_probe(ReportedPolicy(PolicyType.TLSA, MX1, ("3 1 1 AB",), (MX1,)))


SEEN = st.sampled_from([None, *PkixProblem, *(set(ProbeOutcome) - {ProbeOutcome.UNKNOWN, ProbeOutcome.TLS}), *UnknownReason])  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([10, 20]), SEEN, SEEN), min_size=1, max_size=2))
def test_a_success_means_that_every_address_that_was_judged_is_good(
    hosts: list[tuple[int, Seen, Seen]],
) -> None:
    found = facts(
        *(
            seen_host(name, preference, first, second)
            for name, (preference, first, second) in zip((MX1, MX2), hosts, strict=False)
        )
    )
    verdict = judge_probe(POLICY, found)
    told = [one for _, *both in hosts for one in both]
    if isinstance(verdict, NotEstablished):
        assert verdict.gap in set(Gap)
    elif verdict.failure is None:
        assert None in told
        assert not [one for one in told if isinstance(one, PkixProblem)]
        assert ProbeOutcome.TLS_OUTDATED not in told
    else:
        assert [o for o in told if isinstance(o, PkixProblem) or o is ProbeOutcome.TLS_OUTDATED]
    # The best host decides: if it could not be looked at, nothing is known.
    best = min(preference for preference, _, _ in hosts)
    unseen = set(UnknownReason) - {UnknownReason.NO_ROUTE}
    if any(p == best and (a in unseen or b in unseen) for p, a, b in hosts):
        assert isinstance(verdict, NotEstablished)
