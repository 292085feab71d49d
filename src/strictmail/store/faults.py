# SPDX-License-Identifier: Apache-2.0
"""What SQLite complains of, said to an operator: what happened, where, what to do."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import StoreUnavailableError
from strictmail.store.schema import POLICIES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from strictmail.store.schema import Database

_DAMAGED: Final = (
    "the file is damaged",
    ("stop strictmail, move {path} and its -wal file away (keep them), {lost}"),
)

_FAULTS: Final = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free space on the file system of {directory}"),
    sqlite3.SQLITE_READONLY: (
        "it cannot be written to",
        "check that the file system of {directory} is mounted read-write, and who owns {path}",
    ),
    sqlite3.SQLITE_BUSY: (
        "another process has it locked",
        "end whatever holds {path} open (`fuser {path}` names it)",
    ),
    sqlite3.SQLITE_LOCKED: ("it is locked", "try again"),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened",
        "check that {directory} exists, and that the user strictmail runs as may write there",
    ),
    sqlite3.SQLITE_PERM: ("access is refused", "check who owns {path}"),
    sqlite3.SQLITE_IOERR: (
        "the disk fails to read or write",
        "check free space and limits on {directory}, and the kernel's log for disk errors",
    ),
    sqlite3.SQLITE_NOMEM: ("memory ran out", "give the process more memory"),
}
"""Primary result code -> what happened, what to do."""

_TRANSIENT: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_FULL}
)
"""After these a connection is as good as before."""


def primary_code(error: sqlite3.Error) -> int | None:
    """The primary result code; None for a mistake in the use of the library."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_transient(error: sqlite3.Error) -> bool:
    """Whether the connection that raised it can go on as it is."""
    return primary_code(error) in _TRANSIENT


def describe_fault(error: sqlite3.Error, path: Path, database: Database = POLICIES) -> str:
    """Say what happened to the database at `path`, and what to do."""
    happened, fix = _FAULTS.get(primary_code(error) or 0, ("it does not answer", ""))
    message = f"{database.what} {path}: {happened} ({error})"
    fix = fix.format(path=path, directory=path.parent, lost=database.lost)
    return f"{message}; {fix}" if fix else message


@contextlib.contextmanager
def translated(path: Path, database: Database = POLICIES) -> Iterator[None]:
    """Let every error of SQLite leave as one of ours.

    Raises:
        StoreUnavailableError: For each of them.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailableError(describe_fault(error, path, database)) from error
