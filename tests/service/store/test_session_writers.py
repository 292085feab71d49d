# SPDX-License-Identifier: Apache-2.0
"""Two processes that count into one session store: what both add is the sum, whoever was first."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from strictmail.core.tlsrpt.counts import Counts
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import FailureDetail, JudgedPolicy, ReportedPolicy, Session
from strictmail.store.sessions import DayDomain, SessionStore

if TYPE_CHECKING:
    from pathlib import Path

DAY = date(2026, 11, 23)
POLICY = ReportedPolicy(PolicyType.TLSA, "a.example", ("3 1 1 AB",))
DETAIL = FailureDetail(ResultType.TLSA_INVALID, receiving_mx_hostname="mx.a.example")


def counts(successes: int, failures: int) -> Counts:
    found = Counts()
    good = JudgedPolicy(POLICY, succeeded=True)
    bad = JudgedPolicy(POLICY, succeeded=False, failures=(DETAIL,))
    for judged, times in ((good, successes), (bad, failures)):
        if times:
            found.add(DAY, Session("a.example", "", (judged,)), times)
    return found


def test_rows_that_two_writers_made_of_one_policy_are_summed(tmp_path: Path) -> None:
    one, other = (SessionStore(tmp_path / "s.sqlite3") for _ in range(2))
    # Both know the domain before either knows the policy: each makes a row of its own.
    for store in (one, other):
        store.add(_empty())
    one.add(counts(5, 2))
    other.add(counts(7, 3))
    one.add(counts(0, 1))
    late = SessionStore(tmp_path / "s.sqlite3")
    late.add(counts(1, 1))
    for store in (one, other, late):
        (found,) = store.load(DayDomain(DAY, "", "a.example")).policies.items()
        policy, counted = found
        assert (policy, counted.successes, counted.failures) == (POLICY, 13, 7)
        assert counted.details == {DETAIL: 7}
        store.close()


def _empty() -> Counts:
    found = Counts()
    found.domain(DAY, "a.example")
    return found
