# SPDX-License-Identifier: Apache-2.0
"""The session store: counts of sessions in one SQLite file, added up batch by batch.

What it promises, and to whom:

- A batch is counted whole or not at all, and survives `kill -9` once `add` has returned. After a
  power loss the last batches may be missing (`synchronous=NORMAL` with a write-ahead log).
- Batches are increments: the collector and an import may write at the same time.
- The bounds of `core.tlsrpt.counts` hold for a whole day, not just for a batch.
- Sessions of a day that was reported already are counted, and kept apart as late.
- `import_once` and `import_each` count what has a name only once, however often it is told.

Threads: all of it belongs into a worker thread; calls from several threads take turns.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strictmail.core.tlsrpt.counts import (
    Counts,
    DomainCounts,
    PolicyCounts,
    place_detail,
    place_policy,
)
from strictmail.store.connections import Connection, open_reader, open_writer
from strictmail.store.schema import SESSIONS, shipped_migrations
from strictmail.store.sessionrows import (
    HAS_CLOSED,
    NOTE_LATE,
    PRUNE_COUNTS,
    ROWS_OF,
    day_at,
    day_number,
    decode_detail,
    decode_policy,
    encode_policy,
    insert_detail,
)
from strictmail.store.sources import SOURCE_ROWS, add_sources, read_sources

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date

    from strictmail.core.tlsrpt.session import FailureDetail, ReportedPolicy, Session, Source

FILE_NAME: Final = "reports.sqlite3"
"""Its name in the state directory."""

MAX_KNOWN_DOMAINS: Final = 50_000
"""Domains whose keys are kept in memory, the last used ones: some 1 KiB each."""


@dataclass(slots=True)
class _KnownPolicy:
    """A policy's row, and the rows of its details."""

    row_id: int
    details: dict[FailureDetail, int] = field(default_factory=dict)


@dataclass(slots=True)
class _KnownDomain:
    """A domain's row of one day, and the policies that it has rows for."""

    row_id: int
    record: str
    policies: dict[ReportedPolicy, _KnownPolicy] = field(default_factory=dict)


@dataclass(slots=True)
class _Increments:
    """What a transaction adds to rows that exist: for each its numbers, then its id."""

    policies: list[tuple[int, int, int]] = field(default_factory=list)
    unverified: list[tuple[int, int]] = field(default_factory=list)
    details: list[tuple[int, int]] = field(default_factory=list)

    def add(self, counted: PolicyCounts, row_id: int) -> None:
        """What is added to a policy, its details apart."""
        self.policies.append((counted.successes, counted.failures, row_id))
        if counted.unverified:
            self.unverified.append((counted.unverified, row_id))

    def write(self, connection: sqlite3.Connection) -> None:
        """All of them."""
        connection.executemany(
            "UPDATE policy_count SET successes = successes + ?, failures = failures + ? "
            "WHERE id = ?",
            self.policies,
        )
        connection.executemany(
            "UPDATE policy_count SET unverified = unverified + ? WHERE id = ?", self.unverified
        )
        connection.executemany(
            "UPDATE detail_count SET session_count = session_count + ? WHERE id = ?", self.details
        )


@dataclass(frozen=True, slots=True)
class DayDomain:
    """What is to be reported: one domain of one day under one identity.

    Attributes:
        day: UTC.
        identity: Name of who reports.
        domain: A-labels.
    """

    day: date
    identity: str
    domain: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of sessions that have names.

    Attributes:
        added: Counted now.
        known: Counted before.
        late: Of those added, the ones that no report tells of any more.
    """

    added: int = 0
    known: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True)
class DayTotals:
    """What is kept of a day.

    Attributes:
        day: UTC.
        domains: How many domains.
        open: Those among them that no report was made of yet.
        late: Sessions that came when the report of their domain had been made.
    """

    day: date
    domains: int
    open: int
    late: int


class SessionStore:
    """Counts on SQLite.

    Args:
        path: The database file; its directory must exist.
        create: Whether to create the file where there is none.
        open_now: Whether to find out now that it cannot be opened; else the first call does.

    Raises:
        SchemaTooNewError: A newer strictmail wrote the file.
        StoreUnavailableError: It cannot be opened.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, create: bool = True, open_now: bool = True
    ) -> None:
        self.path = Path(path)
        migrations = shipped_migrations(SESSIONS)
        known = migrations[-1].version
        self._writer = Connection(
            self.path,
            lambda: open_writer(self.path, migrations, create=create, database=SESSIONS),
            SESSIONS,
        )
        self._reader = Connection(
            self.path, lambda: open_reader(self.path, known, SESSIONS), SESSIONS
        )
        self._known: OrderedDict[tuple[int, str, str], _KnownDomain] = OrderedDict()
        self._lock = threading.Lock()
        if open_now:
            with self._writer.held():
                pass

    def close(self) -> None:
        """Flush and close; every later call fails."""
        self._reader.close()
        self._writer.close()

    @contextlib.contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A write transaction, for those who keep their tables beside the counts.

        Raises:
            StoreUnavailableError: Nothing was written.
        """
        with self._writer.transaction(durable=durable) as connection:
            yield connection

    def reading(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """All rows of a query, for the same.

        Raises:
            StoreUnavailableError: Try again later.
        """
        return self._reader.query(sql, values)

    # ---- counting -----------------------------------------------------------------------

    def add(self, counts: Counts, identity: str = "") -> None:
        """Add a batch of counts, in one transaction.

        Raises:
            StoreUnavailableError: None of it was counted: keep the batch and try again.
        """
        with self._lock:
            try:
                with self._writer.transaction() as connection:
                    self._add_all(connection, identity, counts)
            except BaseException:
                # Rows that this transaction made are not there: their ids must not be used.
                self._known.clear()
                raise
            self._forget_surplus()

    def import_once(
        self, source: str, digest: bytes, day: date, counts: Counts, identity: str = ""
    ) -> bool:
        """Add counts that have a name, unless they were added before; whether they were now.

        Raises:
            StoreUnavailableError: None of it was counted.
        """
        with self._lock:
            try:
                with self._writer.transaction() as connection:
                    insert = "INSERT OR IGNORE INTO imported VALUES (?, ?, ?)"
                    named = connection.execute(insert, (source, digest, day_number(day)))
                    if named.rowcount == 0:
                        return False
                    self._add_all(connection, identity, counts)
            except BaseException:
                self._known.clear()
                raise
            self._forget_surplus()
        return True

    def import_each(
        self,
        source: Source,
        sessions: Iterable[tuple[bytes, date, Session]],
        identity: str = "",
    ) -> Imported:
        """Add sessions that each have a name, in one transaction; those that are known are not.

        Args:
            source: Who tells of them; a name is a name of its source.
            sessions: Name, UTC day, session.
            identity: Who reports them.

        Raises:
            StoreUnavailableError: None of them was counted.
        """
        told = list(sessions)
        counts = Counts()
        added = 0
        insert = "INSERT OR IGNORE INTO imported VALUES (?, ?, ?)"
        with self._lock:
            try:
                with self._writer.transaction() as connection:
                    for name, day, session in told:
                        values = (str(source), name, day_number(day))
                        if connection.execute(insert, values).rowcount:
                            counts.add(day, session, source=source)
                            added += 1
                    late = self._add_all(connection, identity, counts)
            except BaseException:
                self._known.clear()
                raise
            self._forget_surplus()
        return Imported(added=added, known=len(told) - added, late=late)

    def _add_all(self, connection: sqlite3.Connection, identity: str, counts: Counts) -> int:
        """Add counts to their rows; how many sessions are late."""
        increments = _Increments()
        closed: dict[date, bool] = {}
        late = 0
        for day, domain, found in counts:
            known = self._know(connection, day_number(day), identity, domain, found.record)
            if found.record and found.record != known.record:
                update = "UPDATE day_domain SET record = ? WHERE id = ?"
                connection.execute(update, (found.record, known.row_id))
                known.record = found.record
            for policy, counted in found.policies.items():
                row = known.policies.get(policy)
                if row is None:
                    placed = place_policy(policy, domain, known.policies)
                    row = _add_policy(connection, known, placed)
                increments.add(counted, row.row_id)
                for detail, times in counted.details.items():
                    detail_id = row.details.get(detail)
                    if detail_id is None:
                        placed_detail = place_detail(detail, row.details)
                        detail_id = _add_detail(connection, row, placed_detail)
                    increments.details.append((times, detail_id))
            add_sources(connection, known.row_id, found.sources)
            if day not in closed:
                # As a rule none is, and the domains need not be asked one by one.
                closed[day] = bool(connection.execute(HAS_CLOSED, (day_number(day),)).fetchone())
            if closed[day]:
                sessions = sum(told.sessions for told in found.sources.values())
                if connection.execute(NOTE_LATE, (sessions, known.row_id)).rowcount:
                    late += sessions
        increments.write(connection)
        return late

    def _know(
        self, connection: sqlite3.Connection, day: int, identity: str, domain: str, record: str
    ) -> _KnownDomain:
        key = (day, identity, domain)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known
        insert = "INSERT OR IGNORE INTO day_domain (day, identity, domain, record) VALUES (?,?,?,?)"
        made = connection.execute(insert, (*key, record))
        if made.rowcount == 1:
            assert made.lastrowid is not None
            known = self._known[key] = _KnownDomain(made.lastrowid, record)
            return known
        select = "SELECT id, record FROM day_domain WHERE day = ? AND identity = ? AND domain = ?"
        row_id, kept = connection.execute(select, key).fetchone()
        known = self._known[key] = _KnownDomain(row_id, kept)
        for row in connection.execute(ROWS_OF, (row_id,)).fetchall():
            policy_id, policy, _, _, _, detail_id, detail, _ = row
            # Another process may have made a row of the same: either will do.
            found = known.policies.setdefault(decode_policy(policy), _KnownPolicy(policy_id))
            if detail is not None:
                found.details.setdefault(decode_detail(detail), detail_id)
        return known

    def _forget_surplus(self) -> None:
        while len(self._known) > MAX_KNOWN_DOMAINS:
            self._known.popitem(last=False)

    # ---- reading ------------------------------------------------------------------------

    def unreported(
        self, before: date, *, after: tuple[int, int] = (0, 0), limit: int = 1000
    ) -> list[tuple[tuple[int, int], DayDomain]]:
        """Domains of days before a day that no report was made of, oldest day first.

        Args:
            before: The first day that is not over.
            after: The place that the last page ended at.
            limit: Of a page.

        Returns:
            Each with its place, for the next page.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._reader.query(
            "SELECT day, id, identity, domain FROM day_domain "
            "WHERE state = 0 AND day < ? AND (day, id) > (?, ?) ORDER BY day, id LIMIT ?",
            (day_number(before), *after, limit),
        )
        return [
            ((day, row_id), DayDomain(day_at(day), identity, domain))
            for day, row_id, identity, domain in rows
        ]

    def load(self, which: DayDomain) -> DomainCounts:
        """The counts of a domain and day; empty if there are none.

        Raises:
            StoreUnavailableError: Try again later.
        """
        select = "SELECT id, record FROM day_domain WHERE day = ? AND identity = ? AND domain = ?"
        key = (day_number(which.day), which.identity, which.domain)
        counts = DomainCounts()
        for row_id, record in self._reader.query(select, key):
            counts.record = record
            seen = 0
            for row in self._reader.query(ROWS_OF, (row_id,)):
                policy_id, policy, successes, failures, unverified, _, detail, times = row
                if policy_id != seen:
                    # Two processes may each have a row of the same policy: the sum is what counts.
                    found = counts.policies.setdefault(decode_policy(policy), PolicyCounts())
                    found.successes += successes
                    found.failures += failures
                    found.unverified += unverified
                    seen = policy_id
                if detail is not None:
                    place = decode_detail(detail)
                    found.details[place] = found.details.get(place, 0) + times
        read_sources(self._reader.query(SOURCE_ROWS, key), counts)
        return counts

    def days(self) -> list[DayTotals]:
        """What is kept of each day.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._reader.query(
            "SELECT day, count(*), sum(state = 0), sum(late_count) FROM day_domain "
            "GROUP BY day ORDER BY day"
        )
        return [DayTotals(day_at(day), *numbers) for day, *numbers in rows]

    def late_sessions(self) -> int:
        """Sessions of days that are kept which came too late for a report.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._reader.query("SELECT sum(late_count) FROM day_domain WHERE late_count > 0")
        return int(rows[0][0] or 0)

    def prune(self, before: date) -> int:
        """Forget days before a day: counts, reports and what was imported; how many domains went.

        Raises:
            StoreUnavailableError: Nothing was deleted.
        """
        number = day_number(before)
        with self._lock:
            with self._writer.transaction() as connection:
                for delete in PRUNE_COUNTS:
                    connection.execute(delete, (number,))
                connection.execute(
                    "DELETE FROM delivery WHERE report_id IN (SELECT id FROM report WHERE day < ?)",
                    (number,),
                )
                connection.execute("DELETE FROM report WHERE day < ?", (number,))
                connection.execute("DELETE FROM imported WHERE day < ?", (number,))
                gone = connection.execute("DELETE FROM day_domain WHERE day < ?", (number,))
            self._known.clear()
        return gone.rowcount


def _add_policy(
    connection: sqlite3.Connection, known: _KnownDomain, policy: ReportedPolicy
) -> _KnownPolicy:
    """The row of a policy, made without counts if there is none."""
    row = known.policies.get(policy)
    if row is None:
        insert = "INSERT INTO policy_count (day_domain_id, successes, failures) VALUES (?, 0, 0)"
        row_id = connection.execute(insert, (known.row_id,)).lastrowid
        assert row_id is not None
        text = (row_id, encode_policy(policy))
        connection.execute("INSERT INTO policy_text VALUES (?, ?)", text)
        row = known.policies[policy] = _KnownPolicy(row_id)
    return row


def _add_detail(connection: sqlite3.Connection, row: _KnownPolicy, detail: FailureDetail) -> int:
    """The id of a detail's row, made without a count if there is none."""
    detail_id = row.details.get(detail)
    if detail_id is None:
        detail_id = row.details[detail] = insert_detail(connection, row.row_id, detail)
    return detail_id
