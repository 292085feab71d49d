# SPDX-License-Identifier: Apache-2.0
"""The outbox: reports that were made, each with its deliveries, beside the counts they are of.

`conclude` closes days of domains and stores the reports with their deliveries in one transaction:
after a crash there is either all of it or none, so that a day is neither skipped nor reported
twice. What was sent stays, so that nothing is sent again. `begin` notes an attempt before anything
is sent and holds the delivery, so that nobody else (a command beside the daemon) begins another
one; should the process die, the hold ends by itself.

Threads: a worker thread; calls from several take turns.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from strictmail.core.tlsrpt.delivery import DeliveryState
from strictmail.store.outbox_rows import (
    CLOSE_DAY,
    NOTE_MISSED,
    SELECT_DELIVERY,
    SELECT_REPORT,
    SUPPRESS,
    Delivery,
    StoredReport,
    Suppression,
    destination_host,
    instant,
    read_delivery,
    read_stored,
    seconds,
)
from strictmail.store.sessionrows import day_number

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from datetime import date, datetime

    from strictmail.core.tlsrpt.delivery import NextStep
    from strictmail.store.outbox_rows import Conclusion, NewReport
    from strictmail.store.sessions import SessionStore

HOLD: Final = timedelta(minutes=15)
"""How long an attempt is nobody else's: longer than any takes."""

ANY_NUMBER: Final = 2**31


class Outbox:
    """Reports and deliveries, in the same database as the counts.

    Args:
        store: Whose database it shares.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    # ---- making -------------------------------------------------------------------------

    def conclude(self, conclusions: Iterable[Conclusion]) -> None:
        """Close days of domains, each with its report if there is one: all of them, or none.

        Where there is a report of the day already, that one stays.

        Raises:
            StoreUnavailableError: All are still open; try again.
        """
        # Not waited for: after a power loss the days are open again, and the same reports are made.
        with self._store.writing() as connection:
            for conclusion in conclusions:
                which = conclusion.which
                key = (day_number(which.day), which.identity, which.domain)
                is_new = conclusion.report is None or _store_report(
                    connection, key, conclusion.report
                )
                if is_new and conclusion.sessions_read is not None:
                    connection.execute(NOTE_MISSED, (*key, conclusion.sessions_read))
                connection.execute(CLOSE_DAY, (conclusion.outcome, *key))

    # ---- sending ------------------------------------------------------------------------

    def due(
        self,
        now: datetime,
        limit: int,
        *,
        each: int | None = None,
        busy: Iterable[str] = (),
        busy_hosts: Iterable[str] = (),
        first_only: bool = False,
    ) -> list[Delivery]:
        """Deliveries whose time has come, the longest waiting first.

        Args:
            now: What is due by then.
            limit: At most so many.
            each: Of one destination at most so many, so that one with thousands does not hide the
                others; None: any number.
            busy: Destinations to pass over.
            busy_hosts: Hosts to pass over.
            first_only: Only what was never tried.

        Raises:
            StoreUnavailableError: Try again later.
        """
        where = (
            "JOIN (SELECT id AS did, row_number() OVER (PARTITION BY destination "
            "ORDER BY next_at, id) AS place FROM delivery "
            "WHERE state = 'waiting' AND next_at <= ?1 "
            "AND destination NOT IN (SELECT value FROM json_each(?4)) "
            "AND host NOT IN (SELECT value FROM json_each(?5)) AND attempt_count <= ?6"
            ") ON did = delivery.id WHERE place <= ?3 ORDER BY next_at, delivery.id LIMIT ?2"
        )
        lists = (json.dumps(list(busy)), json.dumps(list(busy_hosts)))
        most = 0 if first_only else ANY_NUMBER
        return self._deliveries(where, (seconds(now), limit, each or ANY_NUMBER, *lists, most))

    def next_due(self, *, after: datetime | None = None) -> datetime | None:
        """When the next delivery is due, behind an instant if one is given; None: nothing waits.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading(
            "SELECT min(next_at) FROM delivery WHERE state = 'waiting' AND next_at > ?",
            (seconds(after) if after is not None else -1,),
        )
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
                "UPDATE delivery SET attempt_count = attempt_count + 1, begun = 1, next_at = ?5, "
                "first_at = coalesce(first_at, ?1), message = coalesce(message, ?2) "
                "WHERE id = ?3 AND state = 'waiting' AND attempt_count = ?4 "
                "AND NOT (begun = 1 AND next_at > ?1)",
                (
                    seconds(now),
                    message,
                    delivery.row_id,
                    delivery.attempt_count,
                    seconds(now + HOLD),
                ),
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
                "begun = 0, "
                "message = CASE WHEN ?1 = 'waiting' THEN message END WHERE id = ?5",
                (str(step.state), next_at, seconds(now), detail, delivery.row_id),
            )
            if step.suppress_until is not None:
                values = (delivery.destination, detail, seconds(step.suppress_until), seconds(now))
                connection.execute(SUPPRESS, values)

    def message(self, delivery: Delivery) -> bytes | None:
        """What an earlier attempt sent, or None.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading("SELECT message FROM delivery WHERE id = ?", (delivery.row_id,))
        return rows[0][0] if rows else None

    def resend(self, deliveries: Iterable[Delivery], now: datetime) -> int:
        """Let deliveries wait for an attempt now, whatever became of them; how many.

        One that is being tried in this moment is left alone.

        Raises:
            StoreUnavailableError: None of them.
        """
        update = (
            "UPDATE delivery SET state = 'waiting', next_at = ?1, changed_at = ?1, first_at = NULL "
            "WHERE id = ?2 AND NOT (begun = 1 AND next_at > ?1)"
        )
        rows = [(seconds(now), delivery.row_id) for delivery in deliveries]
        with self._store.writing(durable=True) as connection:
            return connection.executemany(update, rows).rowcount if rows else 0

    def hasten(self, now: datetime) -> int:
        """Let all that waits be due now; how many were not.

        Raises:
            StoreUnavailableError: Nothing was changed.
        """
        update = "UPDATE delivery SET next_at = ?1 WHERE state = 'waiting' AND next_at > ?1 "
        with self._store.writing() as connection:
            return connection.execute(update + "AND begun = 0", (seconds(now),)).rowcount

    # ---- looking ------------------------------------------------------------------------

    def report(self, row_id: int) -> StoredReport | None:
        """One report.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading(f"{SELECT_REPORT} WHERE id = ?", (row_id,))
        return read_stored(rows[0]) if rows else None

    def report_by_id(self, report_id: str) -> StoredReport | None:
        """The report of an id.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading(f"{SELECT_REPORT} WHERE report_id = ?", (report_id,))
        return read_stored(rows[0]) if rows else None

    def reports(
        self, *, day: date | None = None, domain: str = "", after: int = 0, limit: int = 1000
    ) -> list[StoredReport]:
        """A page of reports in the order in which they were made.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading(
            f"{SELECT_REPORT} WHERE id > ?1 AND (?2 IS NULL OR day = ?2) AND (?3 = '' OR domain = ?3) "
            "ORDER BY id LIMIT ?4",
            (after, day_number(day) if day is not None else None, domain, limit),
        )
        return [read_stored(row) for row in rows]

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

    def count_destinations(self, day: date) -> dict[str, int]:
        """How many reports about a day there are for each destination.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading(
            "SELECT destination, count(*) FROM delivery JOIN report ON report.id = delivery.report_id "
            "WHERE day = ? GROUP BY destination",
            (day_number(day),),
        )
        return dict(rows)

    def count_mails(self, begin: datetime, end: datetime) -> dict[str, int]:
        """How often report mail was handed over in a span, for each domain of a mailbox.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._store.reading(
            "SELECT host, sum(attempt_count) FROM delivery WHERE destination LIKE 'mailto:%' "
            "AND attempt_count > 0 AND first_at < ? AND changed_at >= ? GROUP BY host",
            (seconds(end), seconds(begin)),
        )
        return dict(rows)

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
                SUPPRESS,
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

    def forget_suppressions(self, now: datetime) -> int:
        """Delete those whose time is over; how many.

        Raises:
            StoreUnavailableError: None of them.
        """
        with self._store.writing() as connection:
            delete = "DELETE FROM suppression WHERE until <= ?"
            return connection.execute(delete, (seconds(now),)).rowcount

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
        return [read_delivery(row) for row in self._store.reading(SELECT_DELIVERY + where, values)]


def _store_report(
    connection: sqlite3.Connection, key: tuple[int, str, str], report: NewReport
) -> bool:
    """Store a report with its deliveries, unless there is one of that day; whether it was."""
    now = seconds(report.made_at)
    made = connection.execute(
        "INSERT OR IGNORE INTO report (day, identity, domain, report_id, content, "
        "session_count, dropped_details, made_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *key,
            report.report_id,
            report.content,
            report.session_count,
            report.dropped_details,
            now,
        ),
    )
    if made.rowcount == 0:
        return False
    connection.executemany(
        "INSERT OR IGNORE INTO delivery (report_id, destination, host, state, next_at, "
        "changed_at, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                made.lastrowid,
                first.destination,
                destination_host(first.destination),
                str(first.state),
                seconds(first.at),
                now,
                first.detail,
            )
            for first in report.deliveries
        ],
    )
    return True
