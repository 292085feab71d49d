# SPDX-License-Identifier: Apache-2.0
"""The outbox: reports that were made, each with its deliveries, beside the counts they are of.

`make_report` closes a domain's day, stores the report and its deliveries in one transaction:
after a crash there is either all of it or none, so that a day is neither skipped nor reported
twice. What was sent stays, so that nothing is sent again.

Threads: a worker thread; calls from several take turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from strictmail.core.tlsrpt.delivery import DeliveryState
from strictmail.store.sessions import DayDomain, SessionStore, day_at, day_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from strictmail.core.tlsrpt.delivery import NextStep


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


_DELIVERY: Final = (
    "SELECT delivery.id, report_id, day, identity, domain, destination, state, attempt_count, "
    "next_at, first_at, changed_at, detail FROM delivery "
    "JOIN (SELECT id AS rid, day, identity, domain FROM report) ON rid = report_id "
)


class Outbox:
    """Reports and deliveries, in the same database as the counts.

    Args:
        store: Whose database it shares.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    # ---- making -------------------------------------------------------------------------

    def close_day(self, which: DayDomain, outcome: str) -> None:
        """End a domain's day without a report.

        Raises:
            StoreUnavailableError: It is still open; try again.
        """
        with self._store.writing() as connection:
            connection.execute(
                _CLOSE, (outcome, day_number(which.day), which.identity, which.domain)
            )

    def make_report(
        self,
        which: DayDomain,
        *,
        report_id: str,
        content: bytes,
        session_count: int,
        dropped_details: int,
        made_at: datetime,
        deliveries: Iterable[tuple[str, datetime, DeliveryState, str]],
    ) -> bool:
        """Store a report with its deliveries and close the day, all at once.

        Args:
            which: Day, identity, domain.
            report_id: Its id.
            content: gzip.
            session_count: Judgements in it.
            dropped_details: Kinds of details left out.
            made_at: Now.
            deliveries: Destination, first attempt, state, and a sentence on the state.

        Returns:
            False if there was a report of that day already: nothing was stored.

        Raises:
            StoreUnavailableError: Nothing was stored; try again.
        """
        key = (day_number(which.day), which.identity, which.domain)
        now = seconds(made_at)
        with self._store.writing(durable=True) as connection:
            insert = "INSERT OR IGNORE INTO report (day, identity, domain, report_id, content, "
            insert += "session_count, dropped_details, made_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            values = (*key, report_id, content, session_count, dropped_details, now)
            made = connection.execute(insert, values)
            connection.execute(_CLOSE, ("reported", *key))
            if made.rowcount == 0:
                return False
            connection.executemany(
                "INSERT OR IGNORE INTO delivery (report_id, destination, state, next_at, "
                "changed_at, detail) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (made.lastrowid, destination, str(state), seconds(at), now, detail)
                    for destination, at, state, detail in deliveries
                ],
            )
        return True

    # ---- sending ------------------------------------------------------------------------

    def due(self, now: datetime, limit: int) -> list[Delivery]:
        """Deliveries whose time has come, the longest waiting first.

        Raises:
            StoreUnavailableError: Try again later.
        """
        where = "WHERE state = 'waiting' AND next_at <= ? ORDER BY next_at, delivery.id LIMIT ?"
        return self._deliveries(where, (seconds(now), limit))

    def next_due(self) -> datetime | None:
        """When the next delivery is due; None if none waits.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading("SELECT min(next_at) FROM delivery WHERE state = 'waiting'")
        return None if rows[0][0] is None else instant(rows[0][0])

    def begin(self, delivery: Delivery, now: datetime, message: bytes | None) -> bool:
        """Note that an attempt begins, before anything is sent; False if it is not waiting now.

        Args:
            delivery: As it was read.
            now: When.
            message: What a mail attempt sends: kept, so that a retry is the same octets.

        Raises:
            StoreUnavailableError: Do not send: it could be sent again after a crash.
        """
        with self._store.writing() as connection:
            done = connection.execute(
                "UPDATE delivery SET attempt_count = attempt_count + 1, "
                "first_at = coalesce(first_at, ?1), message = coalesce(message, ?2) "
                "WHERE id = ?3 AND state = 'waiting' AND attempt_count = ?4",
                (seconds(now), message, delivery.row_id, delivery.attempt_count),
            )
        return done.rowcount == 1

    def finish(self, delivery: Delivery, step: NextStep, detail: str, now: datetime) -> None:
        """Note how an attempt ended, and a suppression if the destination proved dead.

        Raises:
            StoreUnavailableError: Try again until it is noted: it must not be sent twice.
        """
        next_at = seconds(step.next_at) if step.next_at is not None else 0
        # On the disk before anything else is sent: what was sent must not be sent again.
        with self._store.writing(durable=step.state is DeliveryState.SENT) as connection:
            connection.execute(
                "UPDATE delivery SET state = ?1, next_at = ?2, changed_at = ?3, detail = ?4, "
                "message = CASE WHEN ?1 = 'waiting' THEN message END WHERE id = ?5",
                (str(step.state), next_at, seconds(now), detail, delivery.row_id),
            )
            if step.suppress_until is not None:
                values = (delivery.destination, detail, seconds(step.suppress_until), seconds(now))
                connection.execute(_SUPPRESS, values)

    def message(self, delivery: Delivery) -> bytes | None:
        """What an earlier attempt sent, or None.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading("SELECT message FROM delivery WHERE id = ?", (delivery.row_id,))
        return rows[0][0] if rows else None

    def resend(self, deliveries: Iterable[Delivery], now: datetime) -> int:
        """Let deliveries wait for an attempt now, whatever became of them; how many.

        Raises:
            StoreUnavailableError: None of them.
        """
        update = (
            "UPDATE delivery SET state = 'waiting', next_at = ?1, changed_at = ?1, first_at = NULL "
            "WHERE id = ?2"
        )
        rows = [(seconds(now), delivery.row_id) for delivery in deliveries]
        with self._store.writing(durable=True) as connection:
            return connection.executemany(update, rows).rowcount if rows else 0

    # ---- looking ------------------------------------------------------------------------

    def report(self, row_id: int) -> StoredReport | None:
        """One report.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading(f"{_REPORT} WHERE id = ?", (row_id,))
        return _read_report(rows[0]) if rows else None

    def reports(
        self, *, day: date | None = None, domain: str = "", after: int = 0, limit: int = 1000
    ) -> list[StoredReport]:
        """A page of reports in the order in which they were made.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading(
            f"{_REPORT} WHERE id > ?1 AND (?2 IS NULL OR day = ?2) AND (?3 = '' OR domain = ?3) "
            "ORDER BY id LIMIT ?4",
            (after, day_number(day) if day is not None else None, domain, limit),
        )
        return [_read_report(row) for row in rows]

    def deliveries(self, report_row_id: int) -> list[Delivery]:
        """Those of one report.

        Raises:
            StoreUnavailableError: Try again later.
        """
        return self._deliveries("WHERE report_id = ? ORDER BY delivery.id", (report_row_id,))

    def count_states(self) -> dict[DeliveryState, int]:
        """How many deliveries there are in each state.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading("SELECT state, count(*) FROM delivery GROUP BY state")
        return {DeliveryState(state): count for state, count in rows}

    def oldest_waiting(self) -> datetime | None:
        """When the report was made whose delivery waits longest; None if none waits.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading(
            "SELECT min(made_at) FROM report JOIN delivery ON delivery.report_id = report.id "
            "WHERE state = 'waiting'"
        )
        return None if rows[0][0] is None else instant(rows[0][0])

    # ---- suppressions -------------------------------------------------------------------

    def suppress(self, suppression: Suppression) -> None:
        """Leave a destination alone until an instant.

        Raises:
            StoreUnavailableError: It was not noted.
        """
        with self._store.writing(durable=True) as connection:
            connection.execute(
                _SUPPRESS,
                (
                    suppression.destination,
                    suppression.reason,
                    seconds(suppression.until),
                    seconds(suppression.made_at),
                ),
            )

    def allow(self, destination: str) -> bool:
        """End a suppression; whether there was one.

        Raises:
            StoreUnavailableError: It was not ended.
        """
        with self._store.writing(durable=True) as connection:
            delete = "DELETE FROM suppression WHERE destination = ?"
            return connection.execute(delete, (destination,)).rowcount > 0

    def suppressions(self, now: datetime | None = None) -> list[Suppression]:
        """All suppressions, or only those that hold at an instant.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading(
            "SELECT destination, reason, until, made_at FROM suppression "
            "WHERE until > ? ORDER BY destination",
            (seconds(now) if now is not None else -1,),
        )
        return [
            Suppression(destination, reason, instant(until), instant(made_at))
            for destination, reason, until, made_at in rows
        ]

    def _deliveries(self, where: str, values: Sequence[object]) -> list[Delivery]:
        return [_read_delivery(row) for row in self._store.reading(_DELIVERY + where, values)]


_CLOSE: Final = (
    "UPDATE day_domain SET state = 1, outcome = ? WHERE day = ? AND identity = ? AND domain = ?"
)
_SUPPRESS: Final = (
    "INSERT INTO suppression VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "reason = excluded.reason, until = excluded.until, made_at = excluded.made_at"
)
_REPORT: Final = (
    "SELECT id, day, identity, domain, report_id, content, session_count, dropped_details, made_at "
    "FROM report"
)


def seconds(moment: datetime) -> int:
    """An instant as the database has it, rounded down."""
    return int(moment.timestamp() // 1)


def instant(number: int) -> datetime:
    """The same backwards."""
    return datetime.fromtimestamp(number, UTC)


def _read_report(row: Sequence[Any]) -> StoredReport:
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


def _read_delivery(row: Sequence[Any]) -> Delivery:
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
