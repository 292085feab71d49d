# SPDX-License-Identifier: Apache-2.0
"""Migrations: all or nothing, never backwards."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest

from strictmail import __version__
from strictmail.core.errors import SchemaTooNewError, StoreUnavailableError
from strictmail.core.sts.lifecycle import PolicyEntry
from strictmail.store import connections
from strictmail.store.policies import SqlitePolicyStore
from strictmail.store.schema import Migration, shipped_migrations

if TYPE_CHECKING:
    from pathlib import Path

MakeEntry: TypeAlias = Callable[..., PolicyEntry]

NEXT_SCRIPT = (
    "ALTER TABLE override ADD COLUMN author TEXT;\nCREATE TABLE extra (x INTEGER) STRICT;\n"
)
SHIPPED = shipped_migrations()
NEXT = Migration(SHIPPED[-1].version + 1, NEXT_SCRIPT)


def tables(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    finally:
        connection.close()


def versions(path: Path) -> list[tuple[int, str]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT version, written_by FROM schema_version").fetchall()
    finally:
        connection.close()


def test_shipped_migrations_are_numbered_without_gaps() -> None:
    assert [step.version for step in SHIPPED] == list(range(1, len(SHIPPED) + 1))


def test_a_new_database_says_who_made_it(path: Path) -> None:
    SqlitePolicyStore(path).close()
    assert versions(path) == [(step.version, __version__) for step in SHIPPED]


def test_upgrade_keeps_what_is_there(path: Path, make_entry: MakeEntry) -> None:
    old = SqlitePolicyStore(path)
    old.save([make_entry()])
    old.close()
    new = SqlitePolicyStore(path, migrations=[*SHIPPED, NEXT])
    assert new.load("example.com") == make_entry()
    new.close()
    assert "extra" in tables(path)
    assert versions(path)[-1][0] == NEXT.version


def test_a_newer_schema_is_refused_and_untouched(path: Path) -> None:
    SqlitePolicyStore(path, migrations=[*SHIPPED, NEXT]).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE schema_version SET written_by = '9.9'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNewError) as refusal:
        SqlitePolicyStore(path)
    message = str(refusal.value)
    assert f"schema version {NEXT.version}" in message
    assert f"knows versions up to {SHIPPED[-1].version}" in message
    assert "Run strictmail 9.9 or later" in message
    assert f"this is strictmail {__version__}" in message
    assert path.read_bytes() == before


def test_a_failing_migration_leaves_the_old_schema(path: Path, make_entry: MakeEntry) -> None:
    old = SqlitePolicyStore(path)
    old.save([make_entry()])
    old.close()
    broken = Migration(NEXT.version, NEXT_SCRIPT + "INSERT INTO absent VALUES (1);\n")
    with pytest.raises(StoreUnavailableError):
        SqlitePolicyStore(path, migrations=[*SHIPPED, broken])
    assert "extra" not in tables(path)
    again = SqlitePolicyStore(path)
    assert again.load("example.com") == make_entry()
    again.close()


def test_an_old_schema_that_cannot_be_migrated_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqlitePolicyStore(path).close()
    real = connections._configured

    def refuse(*_: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(connections, "_configured", refuse)
    with pytest.raises(StoreUnavailableError, match="cannot be migrated while"):
        SqlitePolicyStore(path, migrations=[*SHIPPED, NEXT])
    monkeypatch.setattr(connections, "_configured", real)
    SqlitePolicyStore(path, migrations=[*SHIPPED, NEXT]).close()


MIGRATE_AND_DIE = textwrap.dedent(
    """
    import os, signal, sqlite3, sys
    from strictmail.store import schema
    from strictmail.store.policies import SqlitePolicyStore

    steps, die_before = sys.argv[2], int(sys.argv[3])
    real = schema._statements
    done = 0

    def dying(script):
        global done
        for statement in real(script):
            if done == die_before:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            yield statement

    schema._statements = dying
    migrations = list(schema.shipped_migrations())
    if steps != "new":
        migrations.append(schema.Migration(migrations[-1].version + 1, steps))
    SqlitePolicyStore(sys.argv[1], migrations=migrations)
    """
)


def migrate_and_die(path: Path, steps: str, die_before: int) -> None:
    arguments = [sys.executable, "-c", MIGRATE_AND_DIE, str(path), steps, str(die_before)]
    done = subprocess.run(arguments, timeout=60, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("die_before", [0, 1, 7, 15])
def test_killed_while_creating(path: Path, make_entry: MakeEntry, die_before: int) -> None:
    migrate_and_die(path, "new", die_before)
    store = SqlitePolicyStore(path)
    store.save([make_entry()])
    assert store.load("example.com") == make_entry()
    store.close()


@pytest.mark.parametrize("die_before", [0, 1])
def test_killed_while_upgrading(path: Path, make_entry: MakeEntry, die_before: int) -> None:
    old = SqlitePolicyStore(path)
    old.save([make_entry()])
    old.close()
    migrate_and_die(path, NEXT_SCRIPT, die_before)
    again = SqlitePolicyStore(path)
    assert again.load("example.com") == make_entry()
    again.close()
    assert "extra" not in tables(path)
    new = SqlitePolicyStore(path, migrations=[*SHIPPED, NEXT])
    assert new.load("example.com") == make_entry()
    new.close()
    assert "extra" in tables(path)
