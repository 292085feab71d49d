# SPDX-License-Identifier: Apache-2.0
"""Counts of sessions: what a report is made of.

A day (UTC) and a recipient domain have policies; each policy has successes, failures and details,
and sessions whose success nobody verified. For each policy, successes + failures + unverified = the
sessions told under it, always: where a bound is met, what is dropped is the distinction, never the
number; a probe moves unverified sessions to one of the others. The order of loss:

1. A detail beyond MAX_DETAILS of its policy is counted without what a remote party can choose.
2. Beyond twice that, under its result type alone.
3. A policy beyond MAX_POLICIES of its domain is counted without its text; beyond twice that,
   without its own domain: as one more policy of its type at the recipient domain.

Merging counts of two collectors, or of two batches, is the same as counting all their sessions
(below the bounds; at the bounds, which details keep their distinction depends on the order).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from strictmail.core.tlsrpt.results import ResultType
from strictmail.core.tlsrpt.session import FailureDetail, ReportedPolicy, Source

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from datetime import date

    from strictmail.core.tlsrpt.session import JudgedPolicy, Session

MAX_DETAILS: Final = 256
"""Details of one policy and day that are told apart: addresses and hosts of one domain."""

MAX_POLICIES: Final = 128
"""Policies of one domain and day that are told apart: MX hosts with TLSA, versions of a policy."""


_UNSTATED: Final = (
    FailureDetail(ResultType.VALIDATION_FAILURE, failure_reason_code="no reason was given"),
)
"""RFC 8460 §4.4: a failure has a detail (RPT-JSON-09); §4.3.1: this type, if it is no other."""


def place_detail(detail: FailureDetail, known: Collection[FailureDetail]) -> FailureDetail:
    """The detail that one is counted as, beside those that are there already."""
    if detail in known or len(known) < MAX_DETAILS:
        return detail
    bare = detail.without_free_text()
    if bare in known or len(known) < 2 * MAX_DETAILS:
        return bare
    return FailureDetail(detail.result_type)


def place_policy(
    policy: ReportedPolicy, domain: str, known: Collection[ReportedPolicy]
) -> ReportedPolicy:
    """The policy that one is counted as, beside those that are there already."""
    if policy in known or len(known) < MAX_POLICIES:
        return policy
    bare = ReportedPolicy(policy.policy_type, policy.policy_domain)
    if bare in known or len(known) < 2 * MAX_POLICIES:
        return bare
    return ReportedPolicy(policy.policy_type, domain)


@dataclass(slots=True)
class PolicyCounts:
    """Sessions judged under one policy.

    Attributes:
        successes: Sessions that satisfied it.
        failures: Sessions that did not.
        details: How they failed; one session may have several.
        unverified: Sessions of which nobody knows: in no report, until a probe establishes it.
    """

    successes: int = 0
    failures: int = 0
    details: dict[FailureDetail, int] = field(default_factory=dict)
    unverified: int = 0

    def add(self, judged: JudgedPolicy, times: int = 1) -> None:
        """Count a judgement, or several alike."""
        if judged.succeeded:
            self.successes += times
            return
        self.failures += times
        # RFC 8460 §4: equal details are one with their sum (RPT-JSON-29); within a session each
        # type counts once, as it was met first, so that none is above the total (RPT-JSON-28).
        first = {detail.result_type: detail for detail in reversed(judged.failures or _UNSTATED)}
        for detail in first.values():
            self.add_detail(detail, times)

    def add_detail(self, detail: FailureDetail, times: int) -> None:
        """Count a detail; beyond the bound, with less of it told apart."""
        key = place_detail(detail, self.details)
        self.details[key] = self.details.get(key, 0) + times

    def merge(self, other: PolicyCounts) -> None:
        """Add the counts of another collector or batch."""
        self.successes += other.successes
        self.failures += other.failures
        self.unverified += other.unverified
        for detail, times in other.details.items():
            self.add_detail(detail, times)


@dataclass(slots=True)
class SourceCounts:
    """Sessions that one source told of.

    Attributes:
        sessions: All of them.
        unverified: Those among them with a policy whose success nobody verified.
    """

    sessions: int = 0
    unverified: int = 0


@dataclass(slots=True)
class DomainCounts:
    """Sessions to one recipient domain on one day.

    Attributes:
        record: The text of its TLSRPT record, as last seen.
        policies: Counts by policy, in the order of their first session.
        sources: Sessions by who told of them.
    """

    record: str = ""
    policies: dict[ReportedPolicy, PolicyCounts] = field(default_factory=dict)
    sources: dict[Source, SourceCounts] = field(default_factory=dict)

    def add_source(self, source: Source, sessions: int, unverified: int) -> None:
        """Count sessions of a source."""
        counts = self.sources.get(source)
        if counts is None:
            counts = self.sources[source] = SourceCounts()
        counts.sessions += sessions
        counts.unverified += unverified

    def policy(self, reported: ReportedPolicy, domain: str) -> PolicyCounts:
        """The counts of a policy, which is new if need be; beyond the bound, a blunter one."""
        counts = self.policies.get(reported)
        if counts is None:
            key = place_policy(reported, domain, self.policies)
            counts = self.policies.setdefault(key, PolicyCounts())
        return counts


class Counts:
    """Counts by day and domain; not shared between threads."""

    def __init__(self) -> None:
        self._days: dict[tuple[date, str], DomainCounts] = {}

    def __len__(self) -> int:
        return len(self._days)

    def __iter__(self) -> Iterator[tuple[date, str, DomainCounts]]:
        """Everything there is, in no order."""
        for (day, domain), counts in self._days.items():
            yield day, domain, counts

    def has(self, day: date, domain: str) -> bool:
        """Whether there are counts of a domain and day."""
        return (day, domain) in self._days

    def domain(self, day: date, domain: str) -> DomainCounts:
        """The counts of a domain and day, empty if new."""
        counts = self._days.get((day, domain))
        if counts is None:
            counts = self._days[day, domain] = DomainCounts()
        return counts

    def add(
        self, day: date, session: Session, times: int = 1, source: Source = Source.POSTFIX
    ) -> None:
        """Count a session, or several that were alike.

        Args:
            day: The UTC day in which it happened.
            session: What it showed.
            times: How often.
            source: Who told of it.
        """
        counts = self.domain(day, session.domain)
        counts.add_source(source, times, times if session.unverified else 0)
        counts.record = session.record or counts.record
        # RFC 8460 §4.4: once in each policy that it was judged under (RPT-JSON-23, RPT-JSON-57);
        # a policy that a session names twice is still one judgement.
        for judged in _once(session.policies):
            counts.policy(judged.policy, session.domain).add(judged, times)
        if session.unverified:
            # A policy that somebody judged in the same session is judged.
            judged_by = {judged.policy for judged in session.policies}
            for policy in dict.fromkeys(session.unverified):
                if policy not in judged_by:
                    counts.policy(policy, session.domain).unverified += times

    def merge(self, day: date, domain: str, other: DomainCounts) -> None:
        """Add what another collector or batch has counted for a domain and day."""
        counts = self.domain(day, domain)
        counts.record = other.record or counts.record
        for source, told in other.sources.items():
            counts.add_source(source, told.sessions, told.unverified)
        for policy, theirs in other.policies.items():
            counts.policy(policy, domain).merge(theirs)


def _once(policies: tuple[JudgedPolicy, ...]) -> Iterable[JudgedPolicy]:
    """Each policy with one judgement: the last, since later attempts are further in the session."""
    if len(policies) == 1:
        return policies
    return {judged.policy: judged for judged in policies}.values()
