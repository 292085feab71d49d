# SPDX-License-Identifier: Apache-2.0
"""The policy store: cached policies and overrides in one SQLite file.

What it promises, and to whom:

- What a method has written survives `kill -9` at any moment. After a power loss the file is
  whole, but the last policies learnt may be missing: they are fetched again. So commits do not
  wait for the disk (`synchronous=NORMAL` with a write-ahead log), which is some 50 µs instead of
  some 10 ms. Overrides and removals are an operator's word and do wait (`FULL`).
- The policy is kept as served and parsed at each load (SEC-41).
- An error leaves no open transaction behind, and no restart is needed once the disk is well.
  Reading goes on while writing fails: also from a file that was already read-only at start-up.

Threads: `load`, `count`, `count_registrable`, `overrides` and `changed_elsewhere` take
microseconds and may be called from the event loop: they have a connection of their own. All the
rest belongs into a worker thread; calls from several threads take turns.

Processes: the daemon and commands may use the same file at once. What a command changes
(`announces=True`) it tells the daemon through the table `request`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import StoreUnavailableError
from strictmail.core.sts.lifecycle import PolicyEntry, is_expired, warns_when_failing
from strictmail.core.sts.values import Mode
from strictmail.store.connections import Connection, open_reader, open_writer
from strictmail.store.faults import translated
from strictmail.store.registrable import registrable_domain
from strictmail.store.requests import (
    ALL_DOMAINS,
    MAX_KEPT_REQUESTS,
    MAX_WAITING_REQUESTS,
    Request,
    RequestKind,
    RequestState,
)
from strictmail.store.rows import (
    EXPIRED_GRACE,
    MODE_CODES,
    STORED_COLUMNS,
    PolicyRow,
    SqlValue,
    decode_entry,
    decode_override,
    encode_entry,
    encode_override,
    instant_at,
    may_prune,
    second_down,
)
from strictmail.store.schema import Migration, shipped_migrations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from strictmail.core.overrides import Override

FILE_NAME: Final = "policies.sqlite3"
"""Its name in the state directory."""

PRUNE_BATCH: Final = 500
"""Rows deleted in one transaction, so that other processes get their turn."""

_FROM: Final = "FROM policy JOIN body ON body.id = policy.body_id"
_LOAD: Final = f"SELECT {STORED_COLUMNS} {_FROM} WHERE domain = ?"
_COLUMNS: Final = (*PolicyRow._fields, "registrable_domain", "body_id")
_SAVE: Final = (
    f"INSERT INTO policy ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "  # noqa: S608
    f"ON CONFLICT (domain) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _COLUMNS[1:])}"
)
_TOUCH: Final = "UPDATE policy SET last_asked_at = ?1 WHERE domain = ?2 AND last_asked_at < ?1"
_EXPIRED: Final = (
    f"SELECT policy.id, expires_at, {STORED_COLUMNS} {_FROM} "
    "WHERE expires_at < ?1 AND (expires_at < ?2 OR last_asked_at < ?3) AND policy.id > ?4 "
    "ORDER BY policy.id LIMIT ?5"
)


@dataclass(frozen=True, slots=True)
class StoreStats:
    """The size of a store.

    Attributes:
        mode_counts: Entries of each mode, expired ones included.
        failing_count: Entries whose last fetch failed.
        body_count: Different policy texts.
        file_bytes: Size of the database file, without its write-ahead log.
        free_bytes: Part of it that is unused and will be used again.
    """

    mode_counts: dict[Mode, int]
    failing_count: int
    body_count: int
    file_bytes: int
    free_bytes: int


class SqlitePolicyStore:
    """`ports.PolicyStore` on SQLite.

    Args:
        path: The database file; its directory must exist.
        create: Whether to create the file where there is none.
        announces: Tell the daemon of every change: for commands.
        migrations: The schema, if not the shipped one.

    Raises:
        SchemaTooNewError: A newer strictmail wrote the file: refuse to start.
        StoreUnavailableError: It can neither be written to nor be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        announces: bool = False,
        migrations: Sequence[Migration] = (),
    ) -> None:
        self.path = Path(path)
        self._announces = announces
        self._migrations = tuple(migrations) or shipped_migrations()
        known = self._migrations[-1].version
        self._seen_version: int | None = None
        self._point = Connection(self.path, lambda: open_reader(self.path, known))
        self._bulk = Connection(self.path, lambda: open_reader(self.path, known))
        self._writer = Connection(self.path, self._open_writer)
        self._create = create
        try:
            with self._writer.held():
                pass
        except StoreUnavailableError:
            if not self.path.exists():
                raise
            # Cached policies keep their effect though nothing can be learnt (STS-FET-44).
            self._point.query("SELECT 1")
        self._create = False

    @property
    def writable(self) -> bool:
        """Whether the last attempt to write found the store able to."""
        return self._writer.is_open

    # ---- entries ------------------------------------------------------------------------

    def load(self, policy_domain: str) -> PolicyEntry | None:
        """Read one entry by its primary key.

        Raises:
            StoreUnavailableError: What is cached is not known; never the same as "nothing".
        """
        rows = self._point.query(_LOAD, (policy_domain,))
        return decode_entry(rows[0]) if rows else None

    def save(self, entries: Iterable[PolicyEntry]) -> None:
        """Insert or replace, in one transaction.

        Raises:
            StoreUnavailableError: None of them was written; try again.
        """
        rows = _rows_to_save(entries)
        with self._writer.transaction() as connection:
            for row, owner, body in rows:
                connection.execute(_SAVE, (*row, owner, _intern(connection, body)))
            self._announce(connection, [row.domain for row, _, _ in rows])

    def save_newer(self, entries: Iterable[PolicyEntry]) -> int:
        """Insert or replace those fetched later than what is there; how many were.

        Raises:
            StoreUnavailableError: None of them was written.
        """
        rows = _rows_to_save(entries)
        newer = []
        with self._writer.transaction(durable=True) as connection:
            select = "SELECT 1 FROM policy WHERE domain = ? AND fetched_at >= ?"
            for row, owner, body in rows:
                if connection.execute(select, (row.domain, row.fetched_at)).fetchone() is None:
                    connection.execute(_SAVE, (*row, owner, _intern(connection, body)))
                    newer.append(row.domain)
            self._announce(connection, newer)
        return len(newer)

    def touch(self, asked: Iterable[tuple[str, datetime]]) -> None:
        """Note when domains were last asked for; those that have no entry are passed over.

        Raises:
            StoreUnavailableError: Nothing was noted.
        """
        rows = [(second_down(instant), domain) for domain, instant in asked]
        with self._writer.transaction() as connection:
            connection.executemany(_TOUCH, rows)

    def remove(self, policy_domains: Iterable[str]) -> int:
        """Delete; the number of entries that existed.

        Raises:
            StoreUnavailableError: None of them was deleted.
        """
        domains = list(policy_domains)
        with self._writer.transaction(durable=True) as connection:
            delete = "DELETE FROM policy WHERE domain = ?"
            removed = sum(connection.execute(delete, (d,)).rowcount for d in domains)
            self._announce(connection, domains)
        return removed

    def due(self, now: datetime, limit: int) -> list[PolicyEntry]:
        """Entries whose `refresh_at` has come, earliest first.

        Entries that cannot be read are passed over, here and in the other lists; `load` tells.

        Raises:
            StoreUnavailableError: Try again later.
        """
        where = "WHERE refresh_at <= ? ORDER BY refresh_at"
        return self._select(where, (now.timestamp(),), limit)

    def failing(self, now: datetime) -> list[PolicyEntry]:
        """Unexpired entries whose last fetch failed, earliest expiry first; never mode none.

        Raises:
            StoreUnavailableError: Try again later.
        """
        where = "WHERE failing_since IS NOT NULL AND expires_at >= ? ORDER BY expires_at"
        entries = self._select(where, (second_down(now),))
        # RFC 8461 §10.2: failing refreshes are told of, but not for mode none (STS-FET-39, STS-FET-40).
        return [e for e in entries if warns_when_failing(e) and not is_expired(e, now)]

    def count_failing(self, now: datetime) -> tuple[int, datetime | None]:
        """How many `failing` would list, and the earliest expiry: for metrics, at any number.

        Raises:
            StoreUnavailableError: Try again later.
        """
        select = (
            "SELECT count(*), min(expires_at) FROM policy "
            "WHERE failing_since IS NOT NULL AND mode <> ? AND expires_at >= ?"
        )
        values = (MODE_CODES[Mode.NONE], now.timestamp())
        ((count, first),) = self._bulk.query(select, values)
        return count, None if first is None else instant_at(first)

    def iterate(self, *, after: str = "", limit: int = 1000) -> list[PolicyEntry]:
        """A page of entries in order of domain, those behind `after`.

        Raises:
            StoreUnavailableError: Try again later.
        """
        return self._select("WHERE domain > ? ORDER BY domain", (after,), limit)

    def find(
        self,
        *,
        mode: Mode | None = None,
        expires_before: datetime | None = None,
        after: str = "",
        limit: int = 1000,
    ) -> list[PolicyEntry]:
        """As `iterate`, only entries of a mode, and those that expire before an instant.

        Raises:
            StoreUnavailableError: Try again later.
        """
        conditions, values = ["domain > ?"], [after]
        if mode is not None:
            conditions.append("mode = ?")
            values.append(MODE_CODES[mode])  # type: ignore[arg-type]
        if expires_before is not None:
            conditions.append("expires_at < ?")
            values.append(expires_before.timestamp())  # type: ignore[arg-type]
        where = f"WHERE {' AND '.join(conditions)} ORDER BY domain"
        return self._select(where, values, limit)

    def count(self) -> int:
        """How many entries there are, exactly."""
        return int(self._point.query("SELECT sum(policy_count) FROM tally")[0][0])

    def count_registrable(self, registrable_domain: str) -> int:
        """How many entries share this registrable domain."""
        sql = (
            "SELECT (SELECT count(*) FROM policy WHERE registrable_domain = ?1) "
            "+ (SELECT count(*) FROM policy WHERE domain = ?1 AND registrable_domain IS NULL)"
        )
        return int(self._point.query(sql, (registrable_domain,))[0][0])

    def prune(self, now: datetime, idle_before: datetime) -> int:
        """Delete what expired EXPIRED_GRACE ago, or expired and was not asked for of late.

        Never an unexpired policy, whatever the columns say: the policy itself is read.

        Raises:
            StoreUnavailableError: Some may have been deleted; try again later.
        """
        removed, after = 0, 0
        while True:
            # In order of id, from where the last page ended: one pass over the table in all.
            values = [moment.timestamp() for moment in (now, now - EXPIRED_GRACE, idle_before)]
            rows = self._bulk.query(_EXPIRED, (*values, after, PRUNE_BATCH))
            gone = [(row[0], values[0]) for row in rows if _is_gone(row, now, idle_before)]
            if gone:
                with self._writer.transaction() as connection:
                    # The expiry again: a fetch may have succeeded since the row was read.
                    delete = "DELETE FROM policy WHERE id = ? AND expires_at < ?"
                    removed += connection.executemany(delete, gone).rowcount
            if len(rows) < PRUNE_BATCH:
                return removed
            after = rows[-1][0]

    # ---- overrides ----------------------------------------------------------------------

    def overrides(self) -> list[Override]:
        """All overrides in order of next-hop, expired ones too.

        Raises:
            StoreUnavailableError: Keep those known; try again.
        """
        rows = self._point.query("SELECT * FROM override ORDER BY nexthop")
        return [decode_override(row) for row in rows]

    def save_override(self, override: Override) -> None:
        """Insert or replace; on the disk when it returns.

        Raises:
            StoreUnavailableError: Nothing has changed.
        """
        with self._writer.transaction(durable=True) as connection:
            columns = encode_override(override)
            connection.execute("INSERT OR REPLACE INTO override VALUES (?, ?, ?, ?, ?, ?)", columns)
            self._announce(connection, [override.nexthop])

    def remove_override(self, nexthop: str) -> bool:
        """Delete; whether it existed.

        Raises:
            StoreUnavailableError: Nothing has changed.
        """
        with self._writer.transaction(durable=True) as connection:
            delete = "DELETE FROM override WHERE nexthop = ?"
            existed = connection.execute(delete, (nexthop,)).rowcount > 0
            if existed:
                self._announce(connection, [nexthop])
        return existed

    # ---- requests of other processes ----------------------------------------------------

    def changed_elsewhere(self) -> bool:
        """Whether another process has written since `take_requests` last looked. Some 5 µs.

        Never waits: False while the writer thread is at work, True when only a call of
        `take_requests` can tell.
        """
        if not self._writer.is_open:
            return True
        rows = self._writer.try_query("PRAGMA data_version")
        return rows is not None and rows[0][0] != self._seen_version

    def take_requests(self) -> list[Request]:
        """What other processes ask for, oldest first; each request is given out once.

        Raises:
            StoreUnavailableError: Nothing was taken.
        """
        with self._writer.held() as connection:
            (seen,) = connection.execute("PRAGMA data_version").fetchone()
            waiting = connection.execute("SELECT 1 FROM request WHERE taken = 0 LIMIT 1").fetchall()
        taken = self._take() if waiting else []
        self._seen_version = seen
        return taken

    def _take(self) -> list[Request]:
        with self._writer.transaction() as connection:
            take = "UPDATE request SET taken = 1 WHERE taken = 0 RETURNING id, kind, domain"
            rows = sorted(connection.execute(take).fetchall())
            forget = "DELETE FROM request WHERE taken = 1 AND id <= ?"
            connection.execute(forget, (rows[0][0] - 1 - MAX_KEPT_REQUESTS,) if rows else (0,))
        return [Request(number, RequestKind(kind), domain) for number, kind, domain in rows]

    def answer_request(self, number: int, outcome: str, *, succeeded: bool) -> None:
        """Say how a request ended, in a sentence for people; foreign text escaped.

        Raises:
            StoreUnavailableError: The command that waits will not hear of it.
        """
        answer = "UPDATE request SET outcome = ?, succeeded = ? WHERE id = ?"
        with self._writer.transaction() as connection:
            connection.execute(answer, (outcome, int(succeeded), number))

    def request(self, kind: RequestKind, domain: str) -> int:
        """Ask the daemon for something; the number of the request.

        Raises:
            StoreUnavailableError: It was not asked.
        """
        with self._writer.transaction() as connection:
            return _insert_request(connection, kind, domain)

    def request_state(self, number: int) -> RequestState:
        """How far a request has come.

        Raises:
            StoreUnavailableError: Try again.
        """
        select = "SELECT taken, outcome, succeeded FROM request WHERE id = ?"
        rows = self._bulk.query(select, (number,))
        taken, outcome, succeeded = rows[0] if rows else (True, None, False)
        return RequestState(bool(taken), outcome, bool(succeeded))

    def withdraw_request(self, number: int) -> bool:
        """Take a request back; False if a daemon has taken it already.

        Raises:
            StoreUnavailableError: It stands.
        """
        with self._writer.transaction() as connection:
            delete = "DELETE FROM request WHERE id = ? AND taken = 0"
            return connection.execute(delete, (number,)).rowcount > 0

    # ---- the whole ----------------------------------------------------------------------

    def stats(self) -> StoreStats:
        """The size of the store.

        Raises:
            StoreUnavailableError: Try again.
        """
        counts = dict(self._bulk.query("SELECT mode, policy_count FROM tally"))
        failing = "SELECT count(*) FROM policy WHERE failing_since IS NOT NULL"
        page_bytes = self._number("PRAGMA page_size")
        return StoreStats(
            mode_counts={mode: counts[code] for mode, code in MODE_CODES.items()},
            failing_count=self._number(failing),
            body_count=self._number("SELECT count(*) FROM body"),
            file_bytes=self._number("PRAGMA page_count") * page_bytes,
            free_bytes=self._number("PRAGMA freelist_count") * page_bytes,
        )

    def backup(self, path: str) -> None:
        """Write a consistent copy while others read and write.

        The copy appears under its name when it is whole; a file of that name is replaced.

        Raises:
            StoreUnavailableError: There is no copy; an older one is as it was.
        """
        target = Path(path)
        partial = target.with_name(target.name + ".partial")
        if target.exists() and target.samefile(self.path):
            raise StoreUnavailableError(f"backup to {target}: this is the policy store itself")
        try:
            os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
            self._copy_to(partial)
            with partial.open("rb") as copy:
                os.fsync(copy.fileno())
            partial.replace(target)
        except OSError as error:
            raise StoreUnavailableError(f"backup to {target}: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Flush and close; every later call fails."""
        self._point.close()
        self._bulk.close()
        # Last: the last connection to close folds the write-ahead log into the file.
        self._writer.close()

    def _copy_to(self, partial: Path) -> None:
        # A connection of its own: one long read, beside which others go on.
        source = open_reader(self.path, self._migrations[-1].version)
        try:
            with translated(partial), contextlib.closing(sqlite3.connect(partial)) as copy:
                source.backup(copy)
        finally:
            source.close()

    def _open_writer(self) -> sqlite3.Connection:
        connection = open_writer(self.path, self._migrations, create=self._create)
        # Readers may have been opened on a file that nobody could change: now it can be.
        self._point.reset()
        self._bulk.reset()
        self._seen_version = None
        return connection

    def _select(
        self, where: str, values: Sequence[SqlValue | float], limit: int | None = None
    ) -> list[PolicyEntry]:
        sql = f"SELECT {STORED_COLUMNS} {_FROM} {where}"
        with self._bulk.held() as connection, contextlib.closing(connection.cursor()) as cursor:
            return list(_readable(cursor.execute(sql, values), limit))

    def _number(self, sql: str) -> int:
        return int(self._bulk.query(sql)[0][0])

    def _announce(self, connection: sqlite3.Connection, domains: list[str]) -> None:
        if not self._announces:
            return
        count = "SELECT count(*) FROM request WHERE taken = 0"
        (waiting,) = connection.execute(count).fetchone()
        if waiting + len(domains) > MAX_WAITING_REQUESTS:
            clear = "DELETE FROM request WHERE taken = 0 AND kind = ?"
            connection.execute(clear, (RequestKind.FORGET.value,))
            domains = [ALL_DOMAINS]
        for domain in domains:
            _insert_request(connection, RequestKind.FORGET, domain)


def _readable(rows: Iterable[tuple[SqlValue, ...]], limit: int | None) -> Iterator[PolicyEntry]:
    found = 0
    for row in rows:
        if found == limit:
            return
        with contextlib.suppress(StoreUnavailableError):
            entry = decode_entry(row)
            found += 1
            yield entry


def _is_gone(row: tuple[SqlValue, ...], now: datetime, idle_before: datetime) -> bool:
    """Whether a row of _EXPIRED can be deleted."""
    try:
        return may_prune(decode_entry(row[2:]), now, idle_before)
    except StoreUnavailableError:
        # Nobody can read it: what counts is the expiry that was noted when it was written.
        return int(row[1] or 0) < (now - EXPIRED_GRACE).timestamp()


def _rows_to_save(
    entries: Iterable[PolicyEntry],
) -> list[tuple[PolicyRow, str | None, bytes]]:
    # Before the transaction begins: the public suffix list may have to be read.
    rows = [(encode_entry(entry), entry.body) for entry in entries]
    return [(row, _foreign_owner(row.domain), body) for row, body in rows]


def _foreign_owner(domain: str) -> str | None:
    """The registrable domain, where it is another than the domain itself."""
    owner = registrable_domain(domain)
    return None if owner == domain else owner


def _intern(connection: sqlite3.Connection, body: bytes) -> int:
    """The id of a policy text, stored once however many domains serve it."""
    # Short, since it only narrows the search: two texts made to collide stay two rows.
    digest = hashlib.blake2b(body, digest_size=8).digest()
    key = int.from_bytes(digest, "big", signed=True)
    select = "SELECT id FROM body WHERE digest = ? AND content = ?"
    row = connection.execute(select, (key, body)).fetchone()
    if row is None:
        insert = "INSERT INTO body (digest, content) VALUES (?, ?)"
        return int(connection.execute(insert, (key, body)).lastrowid or 0)
    return int(row[0])


def _insert_request(connection: sqlite3.Connection, kind: RequestKind, domain: str) -> int:
    insert = "INSERT INTO request (kind, domain) VALUES (?, ?)"
    return int(connection.execute(insert, (kind.value, domain)).lastrowid or 0)
