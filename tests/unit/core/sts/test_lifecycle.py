# SPDX-License-Identifier: Apache-2.0
"""The life of a cached policy, event by event, with time as a value."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from strictmail.core.sts import lifecycle
from strictmail.core.sts.values import FetchedPolicy, FetchFailure, Mode, StsPolicy
from strictmail.core.tlsrpt.results import ResultType

if TYPE_CHECKING:
    from strictmail.core.sts.lifecycle import PolicyEntry

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FAILURE = FetchFailure(ResultType.STS_POLICY_FETCH_ERROR, "404", "http-status")


def policy(mode: Mode = Mode.ENFORCE, max_age: int = 86400) -> StsPolicy:
    return StsPolicy(mode, max_age, ("mx.example.com",), ("version: STSv1",))


def fetched(
    entry: PolicyEntry | None = None,
    *,
    now: datetime = NOW,
    policy_id: str = "1",
    mode: Mode = Mode.ENFORCE,
    max_age: int = 86400,
    ttl: int = 300,
) -> PolicyEntry:
    return lifecycle.apply_fetched(
        entry,
        policy_domain="example.com",
        policy_id=policy_id,
        fetched=FetchedPolicy(policy(mode, max_age), b"body"),
        now=now,
        txt_ttl_seconds=ttl,
        jitter=0.5,
    )


@pytest.mark.req("STS-REC-24", "STS-REC-25")
@pytest.mark.parametrize(
    ("cached", "seen", "changed"),
    [
        ("1", "1", False),
        ("2", "1", True),  # "smaller" is new too
        ("a1", "A1", True),  # octets, not letters
        ("1", "01", True),  # a string, not a number
        ("20240101", "20240102", True),
    ],
)
def test_any_difference_of_the_id_counts(cached: str, seen: str, changed: bool) -> None:
    assert lifecycle.id_changed(cached, seen) is changed


@pytest.mark.req("STS-FET-34", "STS-APP-62", "STS-POL-19")
@pytest.mark.parametrize(
    ("max_age", "age", "expired"),
    [(100, 99, False), (100, 100, False), (100, 101, True), (0, 0, False), (0, 1, True)],
)
def test_expiry_counts_from_the_fetch(max_age: int, age: int, expired: bool) -> None:
    entry = fetched(max_age=max_age)
    assert lifecycle.is_expired(entry, NOW + timedelta(seconds=age)) is expired


@pytest.mark.req("STS-FET-35", "SEC-13")
def test_the_same_id_does_not_move_the_expiry() -> None:
    entry = fetched()
    later = NOW + timedelta(hours=5)
    seen = lifecycle.apply_txt_seen(entry, later, 600)
    assert seen.expires_at == entry.expires_at
    assert seen.txt_check_at == later + timedelta(seconds=600)
    assert not lifecycle.wants_fetch(entry, "1", later)


@pytest.mark.req("STS-REC-24", "STS-FET-31", "SEC-14")
def test_a_new_id_is_fetched_unless_the_domain_backs_off() -> None:
    entry = fetched()
    assert lifecycle.wants_fetch(entry, "2", NOW)
    failed = lifecycle.apply_fetch_failed(entry, FAILURE, NOW, 0.0)
    for forged in ("2", "3", "4"):
        assert not lifecycle.wants_fetch(failed, forged, NOW + timedelta(minutes=5) - SECOND)
    assert lifecycle.wants_fetch(failed, "2", NOW + timedelta(minutes=5))


@pytest.mark.req("STS-FET-35")
def test_an_expired_policy_is_fetched_again_even_for_the_same_id() -> None:
    assert lifecycle.wants_fetch(fetched(max_age=10), "1", NOW + timedelta(seconds=11))


@pytest.mark.req("STS-FET-29", "STS-FET-30", "SEC-11")
def test_a_failed_fetch_changes_nothing_but_the_next_attempt() -> None:
    entry = fetched()
    failed = lifecycle.apply_fetch_failed(entry, FAILURE, NOW, 0.0)
    assert (failed.policy, failed.body, failed.policy_id) == (entry.policy, b"body", "1")
    assert failed.expires_at == entry.expires_at
    assert failed.failing_since == NOW
    again = lifecycle.apply_fetch_failed(failed, FAILURE, NOW + timedelta(minutes=6), 0.0)
    assert (again.failure_count, again.failing_since) == (2, NOW)


@pytest.mark.req("STS-FET-31")
def test_back_off_is_at_least_five_minutes_and_at_most_an_hour_and_a_fifth() -> None:
    waits = [lifecycle.retry_time(NOW, count, 0.0) - NOW for count in range(1, 50)]
    assert waits[0] == timedelta(minutes=5)
    assert waits == sorted(waits)
    assert waits[-1] == timedelta(hours=1)
    assert lifecycle.retry_time(NOW, 40, 0.999) - NOW < timedelta(hours=1, minutes=12)


@pytest.mark.req("STS-FET-41", "STS-FET-42", "STS-FET-38")
@pytest.mark.parametrize(
    ("mode", "max_age"), [(Mode.NONE, 60), (Mode.TESTING, 86400), (Mode.ENFORCE, 1)]
)
def test_a_newer_policy_replaces_at_once(mode: Mode, max_age: int) -> None:
    old = fetched(max_age=31_557_600)
    later = NOW + timedelta(hours=1)
    new = fetched(old, now=later, policy_id="2", mode=mode, max_age=max_age)
    assert (new.policy.mode, new.policy_id) == (mode, "2")
    assert new.expires_at == later + timedelta(seconds=max_age)


@pytest.mark.req("STS-FET-38")
def test_a_refresh_without_change_counts_from_its_own_fetch() -> None:
    old = fetched()
    later = NOW + timedelta(hours=12)
    assert fetched(old, now=later).expires_at == later + timedelta(days=1)


def test_a_success_ends_the_failing() -> None:
    failed = lifecycle.apply_fetch_failed(fetched(), FAILURE, NOW, 0.0)
    new = fetched(failed, now=NOW + timedelta(hours=1))
    assert (new.failing_since, new.failure, new.failure_count) == (None, None, 0)


@pytest.mark.req("STS-FET-36")
@pytest.mark.parametrize("max_age", [600, 3600, 86400, 604800, 31_557_600])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_refresh_comes_before_expiry_and_about_daily(max_age: int, jitter: float) -> None:
    due = lifecycle.refresh_time(NOW, max_age, jitter) - NOW
    assert due <= min(timedelta(days=1), max(timedelta(seconds=max_age), timedelta(minutes=5)))
    if max_age >= 172800:
        assert due >= timedelta(hours=19)


@pytest.mark.req("STS-APP-56")
@pytest.mark.parametrize(
    ("ttl", "expected"), [(0, 300), (60, 300), (300, 300), (900, 900), (3600, 3600), (86400, 3600)]
)
def test_the_id_is_looked_at_after_its_ttl_within_bounds(ttl: int, expected: int) -> None:
    assert lifecycle.txt_check_time(NOW, ttl) - NOW == timedelta(seconds=expected)


@pytest.mark.req("STS-FET-49")
def test_a_clock_that_jumped_back_prolongs_by_no_more_than_the_jump() -> None:
    entry = fetched(now=NOW + timedelta(days=365))
    rewound = lifecycle.rewind_clock(entry, NOW)
    assert rewound.expires_at == NOW + timedelta(days=1)
    assert rewound.refresh_at == NOW
    assert lifecycle.rewind_clock(fetched(), NOW) == fetched()


@pytest.mark.req("STS-FET-49", "STS-APP-56")
def test_what_a_clock_that_was_ahead_planned_is_due_now() -> None:
    ahead = NOW + timedelta(days=300)
    failed = lifecycle.apply_fetch_failed(fetched(max_age=31_557_600), FAILURE, ahead, 0.0)
    entry = lifecycle.apply_txt_seen(failed, ahead, 300)
    rewound = lifecycle.rewind_clock(entry, NOW)
    assert (rewound.txt_check_at, rewound.refresh_at) == (NOW, NOW)
    assert rewound.expires_at == entry.expires_at


@pytest.mark.req("STS-FET-39", "STS-FET-40")
def test_failing_refreshes_warn_except_for_mode_none() -> None:
    for mode, warns in ((Mode.ENFORCE, True), (Mode.TESTING, True), (Mode.NONE, False)):
        failed = lifecycle.apply_fetch_failed(fetched(mode=mode), FAILURE, NOW, 0.0)
        assert lifecycle.warns_when_failing(failed) is warns
    assert not lifecycle.warns_when_failing(fetched())


def test_idle_domains_stop_and_resume_refreshing() -> None:
    idle = lifecycle.apply_idle(fetched())
    assert idle.refresh_at is None
    assert idle.expires_at == fetched().expires_at
    later = NOW + timedelta(days=3)
    asked = lifecycle.apply_asked(idle, later, 0.0)
    assert (asked.refresh_at, asked.last_asked_at) == (later, later)
    kept = lifecycle.apply_asked(fetched(), NOW + SECOND, 0.0)
    assert kept == replace(fetched(), last_asked_at=NOW + SECOND)
