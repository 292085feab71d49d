# SPDX-License-Identifier: Apache-2.0
"""Reports, deliveries and suppressions as values, and their rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from strictmail.core.tlsrpt.delivery import DeliveryState
from strictmail.core.tlsrpt.destination import parse_destination
from strictmail.store.sessionrows import day_at
from strictmail.store.sessions import DayDomain

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What is to become of a report for one destination.

    Attributes:
        destination: The URI as in the record.
        at: First attempt.
        state: Waiting, or why not.
        detail: A sentence on the state.
    """

    destination: str
    at: datetime
    state: DeliveryState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class NewReport:
    """A report that was made and is not stored yet.

    Attributes:
        report_id: As in body, subject and headers.
        content: gzip.
        session_count: Judgements in it.
        dropped_details: Kinds of details left out.
        made_at: UTC.
        deliveries: One for each destination.
    """

    report_id: str
    content: bytes
    session_count: int
    dropped_details: int
    made_at: datetime
    deliveries: tuple[NewDelivery, ...]


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How a domain's day ends.

    Attributes:
        which: Day, identity, domain.
        outcome: One word.
        report: What is sent, if anything is.
        sessions_read: Judgements in the counts that it was concluded from; what has come since is
            late. None: nobody misses it.
    """

    which: DayDomain
    outcome: str
    report: NewReport | None = None
    sessions_read: int | None = None


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report as it was made.

    Attributes:
        row_id: Of the store.
        which: Day, identity, domain.
        report_id: As in body, subject and headers.
        content: gzip.
        session_count: Judgements in it.
        dropped_details: Kinds of details left out.
        made_at: UTC.
    """

    row_id: int
    which: DayDomain
    report_id: str
    content: bytes
    session_count: int
    dropped_details: int
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """One report to one destination.

    Attributes:
        row_id: Of the store.
        report_row_id: Its report.
        which: Day, identity, domain.
        destination: The URI as in the record.
        state: Where it is.
        attempt_count: Attempts begun.
        next_at: When it is tried next.
        first_at: When the first attempt began, or None.
        changed_at: When it got into this state.
        detail: A sentence on the last attempt.
    """

    row_id: int
    report_row_id: int
    which: DayDomain
    destination: str
    state: DeliveryState
    attempt_count: int
    next_at: datetime
    first_at: datetime | None
    changed_at: datetime
    detail: str


@dataclass(frozen=True, slots=True)
class Suppression:
    """A destination that is left alone for a while."""

    destination: str
    reason: str
    until: datetime
    made_at: datetime


SELECT_DELIVERY: Final = (
    "SELECT delivery.id, report_id, day, identity, domain, destination, state, attempt_count, "
    "next_at, first_at, changed_at, detail FROM delivery "
    "JOIN (SELECT id AS rid, day, identity, domain FROM report) ON rid = report_id "
)

CLOSE_DAY: Final = (
    "UPDATE day_domain SET state = 1, outcome = ? WHERE day = ? AND identity = ? AND domain = ? "
    "AND state = 0"
)
NOTE_MISSED: Final = (
    "UPDATE day_domain SET late_count = counted - ?4 FROM ("
    "SELECT day_domain.id AS whose, sum(successes + failures) AS counted FROM day_domain "
    "JOIN policy_count ON day_domain_id = day_domain.id "
    "WHERE day = ?1 AND identity = ?2 AND domain = ?3) WHERE id = whose AND counted > ?4 "
    "AND state = 0"
)
"""What was counted between the reading of the counts and the end of the day: in no report either."""

SUPPRESS: Final = (
    "INSERT INTO suppression VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "reason = excluded.reason, until = excluded.until, made_at = excluded.made_at"
)
SELECT_REPORT: Final = (
    "SELECT id, day, identity, domain, report_id, content, session_count, dropped_details, made_at "
    "FROM report"
)


def destination_host(text: str) -> str:
    """The host of a destination; "" where it is none that can be read."""
    try:
        return parse_destination(text).host
    except ValueError:
        return ""


def seconds(moment: datetime) -> int:
    """An instant as the database has it, rounded down."""
    return int(moment.timestamp() // 1)


def instant(number: int) -> datetime:
    """The same backwards."""
    return datetime.fromtimestamp(number, UTC)


def read_stored(row: Sequence[Any]) -> StoredReport:
    """A row of SELECT_REPORT."""
    row_id, day, identity, domain, report_id, content, count, dropped, made_at = row
    return StoredReport(
        row_id=row_id,
        which=DayDomain(day_at(day), identity, domain),
        report_id=report_id,
        content=content,
        session_count=count,
        dropped_details=dropped,
        made_at=instant(made_at),
    )


def read_delivery(row: Sequence[Any]) -> Delivery:
    """A row of SELECT_DELIVERY."""
    row_id, report, day, identity, domain, destination, state, count, *rest = row
    next_at, first_at, changed_at, detail = rest
    return Delivery(
        row_id=row_id,
        report_row_id=report,
        which=DayDomain(day_at(day), identity, domain),
        destination=destination,
        state=DeliveryState(state),
        attempt_count=count,
        next_at=instant(next_at),
        first_at=instant(first_at) if first_at is not None else None,
        changed_at=instant(changed_at),
        detail=detail,
    )
