# SPDX-License-Identifier: Apache-2.0
"""Connections to one SQLite file that heal by themselves.

A full disk, a file system gone read-only, a lock held too long: each ends one call with an
error. A connection that such an error may have spoilt is closed, and the next call opens a new
one, so that nothing has to be restarted when the disk is well again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Final

from strictmail.core.errors import StoreUnavailableError
from strictmail.store.faults import describe_fault, is_transient, translated
from strictmail.store.schema import POLICIES, Database, Migration, migrate, read_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

WRITE_LOCK_SECONDS: Final = 5.0
"""How long a writer waits for another process: commands hold the lock for milliseconds."""

READ_LOCK_SECONDS: Final = 0.25
"""Readers hardly ever wait with a write-ahead log; one on the event loop must not for long."""

PAGE_CACHE_KIB: Final = 4096
"""Per connection. The kernel keeps the rest of the file; memory here counts as ours."""

MAX_IDLE_LOG_BYTES: Final = 16 * 1024 * 1024
"""The write-ahead log is cut back to this after a large transaction."""


class Connection:
    """A connection that is opened when needed, and again after a fault.

    Calls from several threads take turns.
    """

    def __init__(
        self,
        path: Path,
        open_connection: Callable[[], sqlite3.Connection],
        database: Database = POLICIES,
    ) -> None:
        self._path = path
        self._database = database
        self._open = open_connection
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether it is open now; the next call opens it if it is not."""
        return self._connection is not None

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Any]:
        """All rows of a statement.

        Raises:
            StoreUnavailableError: Try again later.
        """
        with self._lock:
            try:
                connection = self._connection or self._opened()
                return connection.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise self._spoilt(error) from error

    @contextlib.contextmanager
    def held(self) -> Iterator[sqlite3.Connection]:
        """The connection, for a cursor that is read step by step, or for pragmas.

        Raises:
            StoreUnavailableError: Try again later.
        """
        with self._lock:
            try:
                yield self._opened()
            except sqlite3.Error as error:
                raise self._spoilt(error) from error

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed when the block ends well, else rolled back.

        Args:
            durable: On the disk before this returns, come power loss. Otherwise the last
                transactions before a power loss may be gone; never with a crash of the process.

        Raises:
            StoreUnavailableError: Nothing was written. Try again later.
        """
        with self.held() as connection:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # Some errors have rolled back already (full disk); the rest must not linger.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def try_query(self, sql: str) -> list[Any] | None:
        """As `query`, but None at once if another thread is using the connection or it is shut."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return None if self._connection is None else self._connection.execute(sql).fetchall()
        except sqlite3.Error as error:
            raise self._spoilt(error) from error
        finally:
            self._lock.release()

    def reset(self) -> None:
        """Close; the next call opens anew."""
        with self._lock:
            self._drop()

    def close(self) -> None:
        """Close for good."""
        with self._lock:
            self._closed = True
            self._drop()

    def _opened(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreUnavailableError(f"{self._database.what} {self._path}: it was closed")
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _spoilt(self, error: sqlite3.Error) -> StoreUnavailableError:
        if not is_transient(error):
            self._drop()
        return StoreUnavailableError(describe_fault(error, self._path, self._database))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def open_writer(
    path: Path,
    migrations: Sequence[Migration],
    *,
    create: bool,
    database: Database = POLICIES,
) -> sqlite3.Connection:
    """Open for writing, creating the file and migrating its schema where needed.

    Raises:
        SchemaTooNewError: A newer strictmail wrote it.
        StoreUnavailableError: It is absent and not to be created, or the disk does not play along.
    """
    if not path.exists():
        if not create:
            raise StoreUnavailableError(
                f"{database.what} {path}: there is none; check state_directory "
                "(the store is created when `strictmail serve` starts)"
            )
        _create_file(path, database)
    with translated(path, database):
        opened = _connect(path, "mode=rw", WRITE_LOCK_SECONDS)
        return _configured(opened, path, migrations, database)


def open_reader(path: Path, known: int, database: Database = POLICIES) -> sqlite3.Connection:
    """Open for reading; also where the directory cannot be written to.

    Raises:
        SchemaTooNewError: A newer strictmail wrote it.
        StoreUnavailableError: It cannot be read.
    """
    with translated(path, database):
        try:
            return _checked(_connect(path, "mode=rw", READ_LOCK_SECONDS), path, known, database)
        except sqlite3.OperationalError:
            # A read-only directory has no place for the shared index of the write-ahead log.
            # Without a log the file is complete by itself, and nobody can change it.
            log = path.with_name(path.name + "-wal")
            if not path.exists() or (log.exists() and log.stat().st_size > 0):
                raise
            return _checked(_connect(path, "immutable=1", READ_LOCK_SECONDS), path, known, database)


def _create_file(path: Path, database: Database) -> None:
    """Make an empty file that only its owner reads; root makes it for the directory's owner."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.geteuid() == 0:
                # A command that root gives must not lock the daemon out of its own store.
                owner = path.parent.stat()
                os.fchown(handle, owner.st_uid, owner.st_gid)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreUnavailableError(
            f"{database.what} {path}: it cannot be created ({error.strerror}); check that "
            f"{path.parent} exists, and that the user strictmail runs as may write there"
        ) from error


def _connect(path: Path, mode: str, timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        # `Connection` lets threads take turns; SQLite itself is built to be called from any.
        check_same_thread=False,
    )


def _configured(
    connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration], database: Database
) -> sqlite3.Connection:
    try:
        # First of all, so that the file of another program or of a newer version stays as it is.
        read_version(connection, path, migrations[-1].version, database)
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute(f"PRAGMA journal_size_limit = {MAX_IDLE_LOG_BYTES}").fetchall()
        connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection, path, migrations, database)
    except BaseException:
        connection.close()
        raise
    return connection


def _checked(
    connection: sqlite3.Connection, path: Path, known: int, database: Database
) -> sqlite3.Connection:
    try:
        connection.execute("PRAGMA query_only = 1")
        connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
        version = read_version(connection, path, known, database)
    except BaseException:
        connection.close()
        raise
    if version != known:
        connection.close()
        raise StoreUnavailableError(
            f"{database.what} {path}: its schema version is {version}, {known} is needed, and it "
            "cannot be migrated while it cannot be written to"
        )
    return connection
