# SPDX-License-Identifier: Apache-2.0
"""Counts: exact under any bounds, and the same however sessions are split up."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.tlsrpt.reports import (
    DAY,
    DOMAIN,
    EXPIRED,
    NO_POLICY,
    RECORD,
    SESSIONS,
    STS,
    TLSA,
    UNTRUSTED,
    failure,
    success,
)

from strictmail.core.tlsrpt import counts as counts_module
from strictmail.core.tlsrpt.counts import Counts, DomainCounts, PolicyCounts
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import (
    FailureDetail,
    JudgedPolicy,
    ReportedPolicy,
    Session,
    Source,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

NEXT_DAY = DAY + timedelta(days=1)


def counted(*sessions: Session) -> DomainCounts:
    counts = Counts()
    for session in sessions:
        counts.add(DAY, session)
    return counts.domain(DAY, DOMAIN)


@pytest.mark.req("RPT-JSON-23", "RPT-JSON-57")
def test_a_session_counts_once_under_each_of_its_policies() -> None:
    both = Session(
        DOMAIN,
        RECORD,
        (
            JudgedPolicy(TLSA, succeeded=True),
            JudgedPolicy(STS, succeeded=False, failures=(EXPIRED,)),
        ),
    )
    counts = counted(both, both, success(STS), success(NO_POLICY))
    assert counts.policies == {
        TLSA: PolicyCounts(successes=2),
        STS: PolicyCounts(successes=1, failures=2, details={EXPIRED: 2}),
        NO_POLICY: PolicyCounts(successes=1),
    }


def test_a_policy_that_a_session_names_twice_is_judged_once_by_the_last_word() -> None:
    session = Session(
        DOMAIN,
        RECORD,
        (JudgedPolicy(STS, succeeded=False, failures=(EXPIRED,)), JudgedPolicy(STS, True)),
    )
    assert counted(session).policies == {STS: PolicyCounts(successes=1)}


@pytest.mark.req("RPT-JSON-29")
def test_equal_details_are_one_with_their_sum() -> None:
    other_host = replace(EXPIRED, receiving_mx_hostname="mx2.rcpt.example")
    counts = counted(
        failure(STS, EXPIRED), failure(STS, EXPIRED), failure(STS, other_host), failure(STS)
    )
    assert counts.policies[STS].details == {
        EXPIRED: 2,
        other_host: 1,
        FailureDetail(ResultType.VALIDATION_FAILURE, failure_reason_code="no reason was given"): 1,
    }


@pytest.mark.req("RPT-JSON-28")
def test_a_session_can_fail_in_several_ways_and_in_each_once() -> None:
    counts = counted(
        failure(STS, EXPIRED, UNTRUSTED, replace(UNTRUSTED, failure_reason_code="another"))
    )
    assert counts.policies[STS] == PolicyCounts(failures=1, details={EXPIRED: 1, UNTRUSTED: 1})


@pytest.mark.req("RPT-JSON-53")
def test_days_and_domains_are_apart() -> None:
    counts = Counts()
    counts.add(DAY, success(STS))
    counts.add(NEXT_DAY, success(STS), times=5)
    counts.add(DAY, replace(success(STS), domain="other.example"))
    assert len(counts) == 3
    assert {(day, domain): found.policies[STS].successes for day, domain, found in counts} == {
        (DAY, DOMAIN): 1,
        (NEXT_DAY, DOMAIN): 5,
        (DAY, "other.example"): 1,
    }


@pytest.mark.req("RPT-JSON-54")
def test_two_versions_of_a_policy_are_two() -> None:
    newer = replace(STS, policy_strings=(*STS.policy_strings[:-1], "max_age: 1"))
    counts = counted(success(STS), success(newer), success(STS))
    assert [found.successes for found in counts.policies.values()] == [2, 1]


def test_the_last_record_seen_is_kept() -> None:
    counts = counted(
        replace(success(STS), record="first"),
        replace(success(STS), record="second"),
        replace(success(STS), record=""),
    )
    assert counts.record == "second"


def test_who_told_of_sessions_is_counted_beside_the_judgements() -> None:
    counts = Counts()
    unverified = Session(DOMAIN, RECORD, (), (STS,))
    counts.add(DAY, unverified, times=3)
    counts.add(DAY, success(STS), source=Source.LOG)
    found = counts.domain(DAY, DOMAIN)
    assert found.policies == {STS: PolicyCounts(successes=1, unverified=3)}
    told = {source: (of.sessions, of.unverified) for source, of in found.sources.items()}
    assert told == {Source.POSTFIX: (3, 3), Source.LOG: (1, 0)}


@pytest.mark.req("RPT-JSON-24")
def test_what_nobody_verified_is_neither_a_success_nor_a_failure() -> None:
    twice = Session(DOMAIN, RECORD, (), (STS, TLSA, STS))
    both = Session(
        DOMAIN, RECORD, (JudgedPolicy(STS, succeeded=False, failures=(EXPIRED,)),), (STS,)
    )
    assert counted(twice, both).policies == {
        # Named twice, it is one session; judged and unverified, it is judged.
        STS: PolicyCounts(failures=1, details={EXPIRED: 1}, unverified=1),
        TLSA: PolicyCounts(unverified=1),
    }


# ---- bounds --------------------------------------------------------------------------------------


def test_beyond_the_bound_a_detail_loses_what_a_remote_party_can_choose() -> None:
    limit = counts_module.MAX_DETAILS
    details = [replace(EXPIRED, receiving_mx_helo=f"helo{n}") for n in range(limit + 10)]
    counts = counted(*(failure(STS, detail) for detail in [*details, *details]))
    found = counts.policies[STS]
    assert found.failures == sum(found.details.values()) == 2 * (limit + 10)
    assert len(found.details) == limit + 1
    assert found.details[replace(EXPIRED, receiving_mx_helo="")] == 20


def test_beyond_twice_the_bound_only_the_type_is_left() -> None:
    limit = counts_module.MAX_DETAILS
    details = [replace(EXPIRED, receiving_ip=f"2001:db8::{n:x}") for n in range(1, 3 * limit)]
    counts = counted(*(failure(STS, detail) for detail in details))
    found = counts.policies[STS]
    assert found.failures == sum(found.details.values()) == len(details)
    assert len(found.details) == 2 * limit + 1
    assert found.details[FailureDetail(ResultType.CERTIFICATE_EXPIRED)] == limit - 1


def test_beyond_the_bounds_a_policy_loses_its_text_then_its_domain() -> None:
    limit = counts_module.MAX_POLICIES
    texts = [replace(STS, policy_strings=(f"max_age: {n}",)) for n in range(limit + 10)]
    counts = counted(*(success(policy) for policy in texts))
    assert len(counts.policies) == limit + 1
    assert counts.policies[ReportedPolicy(PolicyType.STS, DOMAIN)].successes == 10
    hosts = [replace(TLSA, policy_domain=f"mx{n}.rcpt.example") for n in range(3 * limit)]
    counts = counted(*(success(policy) for policy in hosts))
    assert len(counts.policies) == 2 * limit + 1
    assert counts.policies[ReportedPolicy(PolicyType.TLSA, DOMAIN)].successes == limit


def total(sessions: Iterable[Session]) -> Counter[PolicyType]:
    """Sessions told by type of policy; a policy counts once in a session."""
    found: Counter[PolicyType] = Counter()
    for session in sessions:
        told = {judged.policy for judged in session.policies} | set(session.unverified)
        found.update(policy.policy_type for policy in told)
    return found


STREAMS = st.lists(SESSIONS, max_size=25)


@given(STREAMS, st.integers(0, 3), st.integers(0, 3))
@pytest.mark.req("RPT-JSON-23", "RPT-JSON-28", "RPT-JSON-57")
def test_successes_failures_and_unverified_are_the_sessions_told_under_any_bounds(
    sessions: list[Session], most_details: int, most_policies: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts_module, "MAX_DETAILS", most_details)
        patch.setattr(counts_module, "MAX_POLICIES", most_policies)
        counts = Counts()
        for session in sessions:
            counts.add(DAY, session)
    found: Counter[PolicyType] = Counter()
    for _, domain, of_domain in counts:
        assert len(of_domain.policies) <= 2 * most_policies + len(PolicyType)
        told = of_domain.sources[Source.POSTFIX].sessions
        assert told == sum(session.domain == domain for session in sessions)
        for policy, counted_of in of_domain.policies.items():
            found[policy.policy_type] += counted_of.successes + counted_of.failures
            found[policy.policy_type] += counted_of.unverified
            assert len(counted_of.details) <= 2 * most_details + len(ResultType)
            by_type: Counter[ResultType] = Counter()
            for detail, times in counted_of.details.items():
                by_type[detail.result_type] += times
            assert all(times <= counted_of.failures for times in by_type.values())
            assert sum(by_type.values()) >= counted_of.failures
    assert found == total(sessions)


def snapshot(counts: Counts) -> dict[object, object]:
    return {(day, domain): found for day, domain, found in counts}


@given(STREAMS, st.lists(st.integers(0, 2), min_size=25, max_size=25))
@pytest.mark.req("RPT-JSON-29", "RPT-JSON-53")
def test_merging_is_counting_all_of_it(sessions: list[Session], collectors: list[int]) -> None:
    whole = Counts()
    parts = [Counts() for _ in range(3)]
    for session, collector in zip(sessions, collectors, strict=False):
        whole.add(DAY, session)
        parts[collector].add(DAY, session)
    for order in (parts, parts[::-1]):
        merged = Counts()
        for part in order:
            for day, domain, found in part:
                merged.merge(day, domain, found)
        assert snapshot(merged) == snapshot(whole)


@given(SESSIONS, st.integers(1, 5))
def test_counting_alike_at_once_or_one_by_one(session: Session, times: int) -> None:
    at_once, singly = Counts(), Counts()
    at_once.add(DAY, session, times)
    for _ in range(times):
        singly.add(DAY, session)
    assert snapshot(at_once) == snapshot(singly)
