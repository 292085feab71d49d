# SPDX-License-Identifier: Apache-2.0
"""The life of a cached policy: (entry, now, event) -> entry. Pure: no clock, no I/O.

RFC 8461 §3.3, §5.1, §8.3, §10.2 in one table. "Entry" below is a `PolicyEntry` with a policy.

======================  =========================================  ================================
event                   with an unexpired policy                   with none (or an expired one)
======================  =========================================  ================================
TXT: same id            next look after its TTL; expiry unmoved    expired: fetch (C-06)
TXT: other id           fetch, unless this domain is backing off   fetch, unless backing off
TXT: absent, broken     nothing: the policy stays (STS-REC-07)     as without MTA-STS
TXT: lookup failed      nothing: the policy stays (STS-REC-29)     as without MTA-STS, not kept
fetch succeeded         replaced at once, whatever its mode        stored
fetch failed            the policy stays; failing since ..         as without MTA-STS, back off
refresh due             fetch, whatever TXT says (STS-FET-37)      -
clock behind fetch      the policy's age counts as 0 at most       -
expiry                  no effect from then on (STS-APP-62)        -
======================  =========================================  ================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from strictmail.core.sts.values import FetchedPolicy, FetchFailure, Mode, StsPolicy

FETCH_BACKOFF: Final = timedelta(minutes=5)
"""RFC 8461 §3.3: at least five minutes between attempts after a failure. Per domain, not only
per id, since forged TXT records could name a new id each time (SEC-14)."""

MAX_FETCH_BACKOFF: Final = timedelta(hours=1)
"""Refreshes that keep failing are retried at least this often while the policy lives."""

REFRESH_INTERVAL: Final = timedelta(days=1)
"""RFC 8461 §3.3, §10.2: refresh about daily."""

MIN_TXT_INTERVAL: Final = timedelta(minutes=5)
MAX_TXT_INTERVAL: Final = timedelta(hours=1)
"""Bounds on the time between two looks at the id, whatever the record's TTL says."""


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """What is remembered of one policy domain. Instants are aware UTC.

    Attributes:
        policy_domain: Lower-case A-labels, no trailing dot: the cache key (STS-REC-35).
        policy_id: The id seen in DNS before the fetch began (STS-FET-42); "" for a refresh that
            saw none since.
        policy: As parsed from `body`.
        body: The policy as served.
        fetched_at: When the fetch succeeded; the only thing that moves the expiry.
        refresh_at: When to fetch again; None once nobody asks for the domain any more.
        txt_check_at: When a lookup should trigger a look at the id.
        last_asked_at: When somebody last asked for the domain.
        failing_since: First of the current run of failed fetches, or None.
        failure_count: How many in a row.
        failure: The last one, or None.
    """

    policy_domain: str
    policy_id: str
    policy: StsPolicy
    body: bytes
    fetched_at: datetime
    refresh_at: datetime | None
    txt_check_at: datetime
    last_asked_at: datetime
    failing_since: datetime | None = None
    failure_count: int = 0
    failure: FetchFailure | None = None

    @property
    def expires_at(self) -> datetime:
        """The instant from which the policy has no effect."""
        return self.fetched_at + timedelta(seconds=self.policy.max_age)


def is_expired(entry: PolicyEntry, now: datetime) -> bool:
    """Whether a policy has lost its effect.

    Spec: RFC 8461 §3.2: valid while its age has not exceeded max_age; §5: an expired policy has
    no effect at all (STS-FET-34, STS-APP-62).
    """
    # RFC 8461 §3.2: at an age of exactly max_age it still holds (STS-FET-34, STS-APP-62).
    return now > entry.expires_at


def rewind_clock(entry: PolicyEntry, now: datetime) -> PolicyEntry:
    """Bring an entry from the future back to `now`.

    A clock that was ahead when the policy was fetched and has jumped back since would keep the
    policy for longer than max_age. From the first look on, its age counts from `now`, so the
    policy lives max_age beyond the jump at the most (STS-FET-49). A look at the id that lies
    further ahead than any is ever planned was planned by such a clock, too: it is due now, and so
    is a refresh.
    """
    if entry.fetched_at <= now and entry.txt_check_at <= now + MAX_TXT_INTERVAL:
        return entry
    # RFC 8461 §3.2: at most max_age from the fetch, whatever the clock did (STS-FET-49).
    return replace(
        entry,
        fetched_at=min(entry.fetched_at, now),
        refresh_at=now if entry.refresh_at else None,
        txt_check_at=min(entry.txt_check_at, now),
    )


def refresh_time(
    fetched_at: datetime, max_age: int, jitter: float, interval: timedelta = REFRESH_INTERVAL
) -> datetime:
    """When a policy should be fetched again.

    Daily, and before half of a shorter life has passed; spread by `jitter` in [0, 1) over the
    last fifth of that time, so that policies learnt together are not refreshed together.
    """
    # RFC 8461 §10.2: about daily, and before expiry (STS-FET-36).
    wait = max(min(interval, timedelta(seconds=max_age) / 2), FETCH_BACKOFF)
    return fetched_at + wait * (1 - 0.2 * jitter)


def txt_check_time(now: datetime, ttl_seconds: int) -> datetime:
    """When the id should be looked at again: the record's TTL, within bounds."""
    ttl = timedelta(seconds=ttl_seconds)
    # RFC 8461 §5: a newer id must be seen before mail bounces (STS-APP-56).
    return now + min(max(ttl, MIN_TXT_INTERVAL), MAX_TXT_INTERVAL)


def retry_time(now: datetime, failure_count: int, jitter: float) -> datetime:
    """When to try again after the `failure_count`-th failure in a row (1 is the first)."""
    # RFC 8461 §3.3: five minutes or more between attempts (STS-FET-31).
    backoff: timedelta = min(FETCH_BACKOFF * 2 ** min(failure_count - 1, 8), MAX_FETCH_BACKOFF)
    return now + backoff * (1 + 0.2 * jitter)


def wants_fetch(entry: PolicyEntry, seen_id: str, now: datetime) -> bool:
    """Whether a TXT record with this id calls for a fetch now.

    Only difference counts, octet by octet (STS-REC-24, STS-REC-25). A failing domain waits for
    its back-off, whatever new ids DNS shows (SEC-14).
    """
    if id_changed(entry.policy_id, seen_id) or is_expired(entry, now):
        # RFC 8461 §3.3: after a failure the next attempt waits (STS-FET-31, SEC-14).
        return entry.failure is None or entry.refresh_at is None or now >= entry.refresh_at
    return False


def id_changed(cached_id: str, seen_id: str) -> bool:
    """Whether the id in DNS calls for a new look at the policy.

    Spec: RFC 8461 §3.1: any difference, also a "smaller" value; exact octets.
    """
    # RFC 8461 §3.1: equality only, case-sensitive (STS-REC-24, STS-REC-25).
    return cached_id != seen_id


def apply_txt_seen(entry: PolicyEntry, now: datetime, ttl_seconds: int) -> PolicyEntry:
    """The id was looked at, whatever came of it. The expiry does not move (STS-FET-35)."""
    # RFC 8461 §3.2, §10.2: a TXT record is not a fetch (STS-FET-35, SEC-13).
    return replace(entry, txt_check_at=txt_check_time(now, ttl_seconds))


def apply_fetched(
    entry: PolicyEntry | None,
    *,
    policy_domain: str,
    policy_id: str,
    fetched: FetchedPolicy,
    now: datetime,
    txt_ttl_seconds: int,
    jitter: float,
    interval: timedelta = REFRESH_INTERVAL,
) -> PolicyEntry:
    """A fetch succeeded: the new policy replaces the old one at once (STS-FET-41).

    Args:
        entry: What was known, if anything.
        policy_domain: The cache key.
        policy_id: The id seen before the fetch began (STS-FET-42); "" when a refresh saw none.
        fetched: What came.
        now: The instant of the fetch.
        txt_ttl_seconds: TTL of the TXT record, for the next look.
        jitter: In [0, 1).
        interval: Between two refreshes of a long-lived policy.
    """
    # RFC 8461 §8.3: also a weaker mode, also a shorter life (STS-FET-41).
    return PolicyEntry(
        policy_domain=policy_domain,
        # RFC 8461 §8.1: the id seen before the fetch (STS-FET-42).
        policy_id=policy_id,
        policy=fetched.policy,
        body=fetched.body,
        # RFC 8461 §10.2: the expiry counts from this fetch, also if nothing changed (STS-FET-38).
        fetched_at=now,
        refresh_at=refresh_time(now, fetched.policy.max_age, jitter, interval),
        txt_check_at=txt_check_time(now, txt_ttl_seconds),
        last_asked_at=entry.last_asked_at if entry else now,
    )


def apply_fetch_failed(
    entry: PolicyEntry, failure: FetchFailure, now: datetime, jitter: float
) -> PolicyEntry:
    """A fetch failed: the policy stays as it was (RFC 8461 §3.3), the next attempt waits."""
    count = entry.failure_count + 1
    # RFC 8461 §3.3: the cached policy keeps its effect and its expiry (STS-FET-29, STS-FET-30).
    return replace(
        entry,
        refresh_at=retry_time(now, count, jitter),
        failing_since=entry.failing_since or now,
        failure_count=count,
        failure=failure,
    )


def apply_idle(entry: PolicyEntry) -> PolicyEntry:
    """Nobody asks for the domain any more: stop refreshing; the policy lives to its expiry."""
    return replace(entry, refresh_at=None)


def apply_asked(entry: PolicyEntry, now: datetime, jitter: float) -> PolicyEntry:
    """Somebody asked: refreshing goes on, if it had stopped."""
    refresh_at = entry.refresh_at
    if refresh_at is None:
        refresh_at = max(now, refresh_time(entry.fetched_at, entry.policy.max_age, jitter))
    return replace(entry, last_asked_at=now, refresh_at=refresh_at)


def warns_when_failing(entry: PolicyEntry) -> bool:
    """Whether failed refreshes of this entry are the operator's business.

    Spec: RFC 8461 §3.3, §10.2: yes (STS-FET-39), but silent for mode `none`, which is how a
    domain leaves MTA-STS (STS-FET-40).
    """
    return entry.failure is not None and entry.policy.mode is not Mode.NONE
