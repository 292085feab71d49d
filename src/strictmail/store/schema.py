# SPDX-License-Identifier: Apache-2.0
"""Numbered migrations: from whatever schema a database has to the one this version knows.

`migrations/0001_….sql`, `0002_….sql`, …: each brings a database from the number before to its
own. All that are missing run in one transaction: a crash in the middle leaves the old schema.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Final

from strictmail import __version__
from strictmail.core.errors import SchemaTooNewError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Database:
    """A kind of database: one file for each kind of record, so that roles do not contend.

    Attributes:
        what: Its name in messages.
        application_id: Marks its files (`PRAGMA application_id`), so that no other is touched.
        directory: Where its migrations are, below `strictmail.store`.
        lost: What is to be done when a file is damaged, for messages.
    """

    what: str
    application_id: int
    directory: str
    lost: str


POLICIES: Final = Database(
    "policy store",
    0x53744D61,  # "StMa"
    "migrations",
    "put a copy made by `strictmail cache backup` in its place or start without: policies are "
    "then learnt anew",
)

SESSIONS: Final = Database(
    "session store",
    0x53745273,  # "StRs"
    "session_migrations",
    "start without: the counts of reports that were not sent yet are lost",
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    version: int
    script: str


@lru_cache(maxsize=2)
def shipped_migrations(database: Database = POLICIES) -> tuple[Migration, ...]:
    """Those of this version of strictmail, in order."""
    directory = resources.files("strictmail.store") / database.directory
    files = [file for file in directory.iterdir() if file.name.endswith(".sql")]
    steps = (Migration(int(file.name[:4]), file.read_text("utf-8")) for file in files)
    return tuple(sorted(steps, key=lambda step: step.version))


def read_version(
    connection: sqlite3.Connection, path: Path, known: int, database: Database = POLICIES
) -> int:
    """The schema version of a database; 0 for an empty one.

    Args:
        connection: To the database.
        path: Where it is, for messages.
        known: The highest version this strictmail knows.
        database: What kind it has to be.

    Raises:
        SchemaTooNewError: A newer strictmail wrote it.
        StoreUnavailableError: It belongs to another program.
        sqlite3.Error: It cannot be read.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id == 0:
        (table_count,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if table_count == 0:
            return 0
    if application_id != database.application_id:
        raise StoreUnavailableError(
            f"{database.what} {path}: this is the database of another program; "
            "name another state_directory, or move the file away"
        )
    latest = "SELECT version, written_by FROM schema_version ORDER BY version DESC LIMIT 1"
    version, written_by = connection.execute(latest).fetchone()
    if version > known:
        raise SchemaTooNewError(
            f"{database.what} {path}: schema version {version} was written by strictmail "
            f"{written_by}; this is strictmail {__version__}, which knows versions up to {known}. "
            f"Run strictmail {written_by} or later, or put a copy that `strictmail cache backup` "
            "made before the upgrade in its place"
        )
    return int(version)


def migrate(
    connection: sqlite3.Connection,
    path: Path,
    migrations: Sequence[Migration],
    database: Database = POLICIES,
) -> None:
    """Bring a database to the newest schema, all or nothing.

    Args:
        connection: In autocommit mode, with a busy timeout.
        path: Where it is, for messages.
        migrations: In order.
        database: What kind it is.

    Raises:
        SchemaTooNewError: As `read_version`.
        StoreUnavailableError: As `read_version`.
        sqlite3.Error: The disk did not play along; the old schema stays.
    """
    known = migrations[-1].version
    if read_version(connection, path, known, database) == known:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again: another process may have migrated while we waited for the lock.
        version = read_version(connection, path, known, database)
        for step in migrations:
            if step.version > version:
                _apply(connection, step)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _apply(connection: sqlite3.Connection, step: Migration) -> None:
    # Not executescript(): it would commit the transaction that protects us.
    for statement in _statements(step.script):
        connection.execute(statement)
    insert = "INSERT INTO schema_version (version, written_by) VALUES (?, ?)"
    connection.execute(insert, (step.version, __version__))


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if line.rstrip().endswith(";") and sqlite3.complete_statement(statement):
            yield statement
            statement = ""
