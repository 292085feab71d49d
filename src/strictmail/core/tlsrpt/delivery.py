# SPDX-License-Identifier: Apache-2.0
"""When a report goes out, how often it is tried, and when it is given up. Pure.

A delivery is one report to one destination::

    waiting ──attempt──► sent
       ▲  │                          the outcome decides:
       └──┴──retry (back-off)        delivered | retry | give up | dead
          ├──► failed                given up, or RETRY_FOR over
          ├──► suppressed            the destination has proved dead of late
          └──► refused               never to be tried: a private address, a report about reports

An attempt that a crash cut short is made again: the same octets under the same ids, which
receivers recognise (RFC 8460 §5.3). Only a crash between the last octet handed over and the
answer to it can make a destination see a report twice.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from strictmail.ports import Rng

RETRY_FOR: Final = timedelta(hours=24)
"""RFC 8460 §5.5, from the first attempt on."""

FIRST_RETRY: Final = timedelta(minutes=5)
MAX_RETRY: Final = timedelta(hours=4)
"""Before jitter, which is a quarter to either side."""

SETTLE: Final = timedelta(minutes=5)
"""After midnight, before a day counts as over: the last batches, and clocks that differ."""

SPREAD: Final = timedelta(hours=4)
"""RFC 8460 §4.1 gives it as the example."""

MAILBOX_FULL: Final = 552

SUPPRESS_FOR: Final = timedelta(days=7)
"""How long a destination that has refused for good is left alone."""


class DeliveryState(enum.StrEnum):
    """Where a delivery is."""

    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    REFUSED = "refused"


class OutcomeKind(enum.Enum):
    """How one attempt ended."""

    DELIVERED = "delivered"
    RETRY = "retry"
    GIVE_UP = "give-up"
    """This report will not be taken (too large, malformed to them): the next one may be."""
    DEAD = "dead"
    """The destination itself refuses for good: leave it alone for a while."""
    REFUSED = "refused"
    """We do not connect there."""


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """What came of one attempt.

    Attributes:
        kind: How it ended.
        detail: A sentence with code and host, escaped.
        retry_after_seconds: What the destination asked to wait, if it did.
    """

    kind: OutcomeKind
    detail: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class NextStep:
    """What becomes of a delivery after an attempt.

    Attributes:
        state: Its new state.
        next_at: With WAITING, when it is tried again.
        suppress_until: With a dead destination, how long it is left alone.
    """

    state: DeliveryState
    next_at: datetime | None = None
    suppress_until: datetime | None = None


def is_over(day: date, now: datetime) -> bool:
    """Whether a UTC day may be reported on."""
    # RFC 8460 §4.1: after the day has ended (RPT-DLV-01, RPT-JSON-53).
    return now >= day_end(day) + SETTLE


def day_end(day: date) -> datetime:
    """The first instant after a UTC day."""
    return datetime.combine(day + timedelta(days=1), time(), UTC)


def first_attempt_at(now: datetime, rng: Rng, spread: timedelta = SPREAD) -> datetime:
    """When a new delivery is tried first.

    Args:
        now: When its report was made.
        rng: Jitter, so that no two reporters hit a destination at the same moment.
        spread: Over how long the reports of a day go out.
    """
    # RFC 8460 §4.1: with a random delay (RPT-DLV-01).
    return now + spread * rng.random()


def next_step(
    outcome: SendOutcome, *, attempt_count: int, first_at: datetime, now: datetime, rng: Rng
) -> NextStep:
    """Decide what becomes of a delivery.

    Args:
        outcome: Of the attempt just made.
        attempt_count: Attempts made so far, this one included.
        first_at: When the first one was made.
        now: When this one ended.
        rng: Jitter.

    Spec: RFC 8460 §5.5.
    """
    match outcome.kind:
        case OutcomeKind.DELIVERED:
            # RFC 8460 §3: accepted is delivered, and is not sent there again (RPT-DLV-06).
            return NextStep(DeliveryState.SENT)
        case OutcomeKind.REFUSED:
            return NextStep(DeliveryState.REFUSED)
        case OutcomeKind.GIVE_UP:
            # RFC 8460 §5.5: best effort (RPT-DLV-04).
            return NextStep(DeliveryState.FAILED)
        case OutcomeKind.DEAD:
            return NextStep(DeliveryState.FAILED, suppress_until=now + SUPPRESS_FOR)
        case OutcomeKind.RETRY:
            return _retry(outcome, attempt_count, first_at, now, rng)


def _retry(
    outcome: SendOutcome, attempt_count: int, first_at: datetime, now: datetime, rng: Rng
) -> NextStep:
    # RFC 8460 §5.5: further and further apart (RPT-DLV-03).
    wait = min(MAX_RETRY, FIRST_RETRY * 2 ** min(attempt_count - 1, 10))
    wait *= 0.75 + 0.5 * rng.random()
    if outcome.retry_after_seconds is not None:
        # Whatever it says: no later than our own longest wait, and no number is too large.
        asked = min(MAX_RETRY.total_seconds(), outcome.retry_after_seconds)
        wait = max(wait, timedelta(seconds=max(0.0, asked)))
    deadline = first_at + RETRY_FOR
    # RFC 8460 §5.5: for a day from the first attempt on, and no longer (RPT-DLV-02).
    if now >= deadline:
        return NextStep(DeliveryState.FAILED)
    return NextStep(DeliveryState.WAITING, next_at=min(now + wait, deadline))


def judge_http_status(status: int, retry_after_seconds: float | None) -> SendOutcome:
    """What the answer to an upload means.

    Spec: RFC 8460 §5.4.
    """
    detail = f"HTTP status {status}"
    if 200 <= status < 300:  # noqa: PLR2004 - RFC 9110 §15.3: successful
        # RFC 8460 §5.4: any success (RPT-DLV-53).
        return SendOutcome(OutcomeKind.DELIVERED, detail)
    if status in (404, 410):
        return SendOutcome(OutcomeKind.DEAD, f"{detail}: no such endpoint")
    if 300 <= status < 400:  # noqa: PLR2004 - RFC 9110 §15.4: redirection
        # Spec-silent: a report goes where the record says, nowhere else (RPT-DLV-56).
        return SendOutcome(OutcomeKind.DEAD, f"{detail}: a redirect, which is not followed")
    if status in (408, 425, 429) or status >= 500:  # noqa: PLR2004 - RFC 9110 §15.6
        return SendOutcome(OutcomeKind.RETRY, detail, retry_after_seconds)
    # RFC 8460 §5.4: the others by local policy: what was refused as it is stays so (RPT-DLV-54).
    return SendOutcome(OutcomeKind.GIVE_UP, detail)


def judge_smtp_code(code: int, detail: str, *, about_recipient: bool) -> SendOutcome:
    """What an SMTP reply means for a report.

    Args:
        code: Of the reply.
        detail: A sentence with it.
        about_recipient: It answered RCPT: a 5xx is about the address, not the report.

    Spec: RFC 5321 §4.2.1.
    """
    if 200 <= code < 300:  # noqa: PLR2004 - RFC 5321 §4.2.1: completion
        return SendOutcome(OutcomeKind.DELIVERED, detail)
    if about_recipient and code == MAILBOX_FULL:
        # RFC 5321 §4.5.3.1.10: clients take it for 452: there may be room later.
        return SendOutcome(OutcomeKind.RETRY, detail)
    if code < 500:  # noqa: PLR2004 - RFC 5321 §4.2.1: transient
        return SendOutcome(OutcomeKind.RETRY, detail)
    return SendOutcome(OutcomeKind.DEAD if about_recipient else OutcomeKind.GIVE_UP, detail)
