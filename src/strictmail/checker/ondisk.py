# SPDX-License-Identifier: Apache-2.0
"""What a bulk run must remember of every domain, kept on disk: memory does not grow with the list.

Each class is a temporary SQLite database without a name: in the temporary directory, a few MiB of
it in memory, gone with the process. Not for two threads at once.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING, Final, Self

from strictmail.core.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE_KIB: Final = 8 * 1024
"""Memory for pages of one database; the rest of it is on disk."""

DIGEST_BYTES: Final = 16
"""Two of ten million domains share a digest with a chance of 1 in 10^24."""


class _Table:
    """One temporary database with one table."""

    _SCHEMA = ""

    def __init__(self) -> None:
        try:
            # Filled by a thread that reads the list, opened and closed by another one.
            self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._db.execute("PRAGMA journal_mode = OFF")
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.execute(self._SCHEMA)
            self._db.execute("BEGIN")
        except sqlite3.Error as error:
            raise _unavailable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the space back."""
        self._db.close()


class SeenDomains(_Table):
    """Which domains came by already."""

    _SCHEMA = "CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID"

    def add(self, domain: str) -> bool:
        """Note a domain; whether it is new.

        Raises:
            StoreUnavailableError: The temporary directory is full.
        """
        try:
            cursor = self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (_digest(domain),))
        except sqlite3.Error as error:
            raise _unavailable(error) from error
        return cursor.rowcount > 0

    def __contains__(self, domain: str) -> bool:
        found = self._db.execute("SELECT 1 FROM seen WHERE digest = ?", (_digest(domain),))
        return found.fetchone() is not None


def _digest(domain: str) -> bytes:
    return hashlib.blake2b(domain.encode(), digest_size=DIGEST_BYTES).digest()


class LineIndex(_Table):
    """Where the line of each domain is in a file; of several, the last."""

    _SCHEMA = "CREATE TABLE line (domain TEXT PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID"

    def put(self, domain: str, offset: int) -> None:
        """Note the offset of a line.

        Raises:
            StoreUnavailableError: The temporary directory is full.
        """
        try:
            self._db.execute("INSERT OR REPLACE INTO line VALUES (?, ?)", (domain, offset))
        except sqlite3.Error as error:
            raise _unavailable(error) from error

    def find(self, domain: str) -> int | None:
        """The offset, or None."""
        row = self._db.execute("SELECT offset FROM line WHERE domain = ?", (domain,)).fetchone()
        return None if row is None else int(row[0])

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM line").fetchone()[0])

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Domains in order, with their offsets."""
        yield from self._db.execute("SELECT domain, offset FROM line ORDER BY domain")

    def offsets(self) -> Iterator[int]:
        """Where lines are, in the order of the file."""
        return (int(row[0]) for row in self._db.execute("SELECT offset FROM line ORDER BY offset"))


class Tallies(_Table):
    """How often each of very many words was seen."""

    _SCHEMA = "CREATE TABLE tally (word TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID"

    def add(self, word: str) -> None:
        """Count a word once more.

        Raises:
            StoreUnavailableError: The temporary directory is full.
        """
        try:
            self._db.execute(
                "INSERT INTO tally VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
                (word,),
            )
        except sqlite3.Error as error:
            raise _unavailable(error) from error

    def top(self, limit: int) -> list[tuple[str, int]]:
        """The most frequent, the first in the alphabet first among equals."""
        rows = self._db.execute("SELECT * FROM tally ORDER BY count DESC, word LIMIT ?", (limit,))
        return [(str(word), int(count)) for word, count in rows]

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM tally").fetchone()[0])


def _unavailable(error: sqlite3.Error) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"the temporary database of this run: {error}; is the temporary directory full? "
        "(SQLITE_TMPDIR names another)"
    )
