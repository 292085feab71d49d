# SPDX-License-Identifier: Apache-2.0
"""The session store: counts of sessions in one SQLite file, added up batch by batch.

What it promises, and to whom:

- A batch is counted whole or not at all, and survives `kill -9` once `add` has returned. After a
  power loss the last batches may be missing (`synchronous=NORMAL` with a write-ahead log).
- Batches are increments: the collector and an import may write at the same time.
- The bounds of `core.tlsrpt.counts` hold for a whole day, not just for a batch.
- `import_once` counts what it is given a name for only once, however often it is told.

Threads: all of it belongs into a worker thread; calls from several threads take turns.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strictmail.core.tlsrpt.counts import (
    Counts,
    DomainCounts,
    PolicyCounts,
    place_detail,
    place_policy,
)
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import FailureDetail, ReportedPolicy
from strictmail.store.connections import Connection, open_reader, open_writer
from strictmail.store.schema import SESSIONS, shipped_migrations

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

FILE_NAME: Final = "reports.sqlite3"
"""Its name in the state directory."""

MAX_KNOWN_DOMAINS: Final = 50_000
"""Domains whose keys are kept in memory, the last used ones: some 1 KiB each."""

_EPOCH: Final = date(1970, 1, 1)


@dataclass(slots=True)
class _KnownPolicy:
    """A policy's row, and the details that it has rows for."""

    row_id: int
    details: set[FailureDetail] = field(default_factory=set)


@dataclass(slots=True)
class _KnownDomain:
    """A domain's row of one day, and the policies that it has rows for."""

    row_id: int
    record: str
    policies: dict[ReportedPolicy, _KnownPolicy] = field(default_factory=dict)


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


class SessionStore:
    """Counts on SQLite.

    Args:
        path: The database file; its directory must exist.
        create: Whether to create the file where there is none.

    Raises:
        SchemaTooNewError: A newer strictmail wrote the file.
        StoreUnavailableError: It cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True) -> None:
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
                    for day, domain, found in counts:
                        self._add_domain(connection, day_number(day), identity, domain, found)
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
                    for own_day, domain, found in counts:
                        self._add_domain(connection, day_number(own_day), identity, domain, found)
            except BaseException:
                self._known.clear()
                raise
            self._forget_surplus()
        return True

    def _add_domain(
        self,
        connection: sqlite3.Connection,
        day: int,
        identity: str,
        domain: str,
        found: DomainCounts,
    ) -> None:
        known = self._know(connection, day, identity, domain, found.record)
        if found.record and found.record != known.record:
            update = "UPDATE day_domain SET record = ? WHERE id = ?"
            connection.execute(update, (found.record, known.row_id))
            known.record = found.record
        for policy, counted in found.policies.items():
            self._add_policy(
                connection, known, place_policy(policy, domain, known.policies), counted
            )

    def _add_policy(
        self,
        connection: sqlite3.Connection,
        known: _KnownDomain,
        policy: ReportedPolicy,
        counted: PolicyCounts,
    ) -> None:
        row = known.policies.get(policy)
        if row is None:
            insert = (
                "INSERT INTO policy_count (day_domain_id, policy, successes, failures) "
                "VALUES (?, ?, ?, ?)"
            )
            values = (known.row_id, encode_policy(policy), counted.successes, counted.failures)
            row_id = connection.execute(insert, values).lastrowid
            assert row_id is not None
            row = known.policies[policy] = _KnownPolicy(row_id)
        else:
            connection.execute(
                "UPDATE policy_count SET successes = successes + ?, failures = failures + ? "
                "WHERE id = ?",
                (counted.successes, counted.failures, row.row_id),
            )
        for detail, times in counted.details.items():
            placed = place_detail(detail, row.details)
            row.details.add(placed)
            connection.execute(
                "INSERT INTO detail_count VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
                "SET session_count = session_count + excluded.session_count",
                (row.row_id, encode_detail(placed), times),
            )

    def _know(
        self, connection: sqlite3.Connection, day: int, identity: str, domain: str, record: str
    ) -> _KnownDomain:
        key = (day, identity, domain)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known
        insert = "INSERT OR IGNORE INTO day_domain (day, identity, domain, record) VALUES (?,?,?,?)"
        connection.execute(insert, (*key, record))
        select = "SELECT id, record FROM day_domain WHERE day = ? AND identity = ? AND domain = ?"
        row_id, kept = connection.execute(select, key).fetchone()
        known = self._known[key] = _KnownDomain(row_id, kept)
        for policy_id, text in connection.execute(
            "SELECT id, policy FROM policy_count WHERE day_domain_id = ?", (row_id,)
        ).fetchall():
            details = connection.execute(
                "SELECT detail FROM detail_count WHERE policy_count_id = ?", (policy_id,)
            )
            known.policies[decode_policy(text)] = _KnownPolicy(
                policy_id, {decode_detail(detail) for (detail,) in details}
            )
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
        rows = self._reader.query(
            "SELECT day_domain.record, policy_count.policy, successes, failures, detail, "
            "session_count FROM day_domain "
            "LEFT JOIN policy_count ON policy_count.day_domain_id = day_domain.id "
            "LEFT JOIN detail_count ON detail_count.policy_count_id = policy_count.id "
            "WHERE day = ? AND identity = ? AND domain = ? ORDER BY policy_count.id",
            (day_number(which.day), which.identity, which.domain),
        )
        counts = DomainCounts()
        for record, policy, successes, failures, detail, times in rows:
            counts.record = record
            if policy is None:
                continue
            key = decode_policy(policy)
            found = counts.policies.get(key)
            if found is None:
                found = counts.policies[key] = PolicyCounts(successes, failures)
            if detail is not None:
                found.details[decode_detail(detail)] = times
        return counts

    def days(self) -> list[tuple[date, int, int]]:
        """Each day with how many domains it has, and of how many no report was made yet.

        Raises:
            StoreUnavailableError: Try again later.
        """
        rows = self._reader.query(
            "SELECT day, count(*), sum(state = 0) FROM day_domain GROUP BY day ORDER BY day"
        )
        return [(day_at(day), domains, open_count) for day, domains, open_count in rows]

    def prune(self, before: date) -> int:
        """Forget days before a day: counts, reports and what was imported; how many domains went.

        Raises:
            StoreUnavailableError: Nothing was deleted.
        """
        number = day_number(before)
        with self._lock:
            with self._writer.transaction() as connection:
                connection.execute(
                    "DELETE FROM detail_count WHERE policy_count_id IN (SELECT policy_count.id "
                    "FROM policy_count JOIN day_domain ON day_domain.id = day_domain_id "
                    "WHERE day < ?)",
                    (number,),
                )
                connection.execute(
                    "DELETE FROM policy_count WHERE day_domain_id IN "
                    "(SELECT id FROM day_domain WHERE day < ?)",
                    (number,),
                )
                connection.execute(
                    "DELETE FROM delivery WHERE report_id IN (SELECT id FROM report WHERE day < ?)",
                    (number,),
                )
                connection.execute("DELETE FROM report WHERE day < ?", (number,))
                connection.execute("DELETE FROM imported WHERE day < ?", (number,))
                gone = connection.execute("DELETE FROM day_domain WHERE day < ?", (number,))
            self._known.clear()
        return gone.rowcount


def day_number(day: date) -> int:
    """A day as the database has it."""
    return (day - _EPOCH).days


def day_at(number: int) -> date:
    """The same backwards."""
    return _EPOCH + timedelta(days=number)


def encode_policy(policy: ReportedPolicy) -> str:
    """A policy as one text."""
    return _compact(
        [
            str(policy.policy_type),
            policy.policy_domain,
            policy.policy_strings,
            policy.mx_host_patterns,
        ]
    )


def decode_policy(text: str) -> ReportedPolicy:
    """The same backwards."""
    policy_type, domain, strings, patterns = json.loads(text)
    return ReportedPolicy(PolicyType(policy_type), domain, tuple(strings), tuple(patterns))


def encode_detail(detail: FailureDetail) -> str:
    """A detail as one text."""
    return _compact(
        [
            str(detail.result_type),
            detail.sending_mta_ip,
            detail.receiving_mx_hostname,
            detail.receiving_mx_helo,
            detail.receiving_ip,
            detail.additional_information,
            detail.failure_reason_code,
        ]
    )


def decode_detail(text: str) -> FailureDetail:
    """The same backwards."""
    result_type, *rest = json.loads(text)
    return FailureDetail(ResultType(result_type), *rest)


def _compact(value: Iterable[object]) -> str:
    return json.dumps(value, separators=(",", ":"))
