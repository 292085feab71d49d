# SPDX-License-Identifier: Apache-2.0
"""When the disk does not play along: a clear word, no harm, and no restart afterwards."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from strictmail.core.errors import StoreUnavailableError
from strictmail.core.sts.lifecycle import PolicyEntry
from strictmail.store import connections
from strictmail.store.policies import SqlitePolicyStore

if TYPE_CHECKING:
    from datetime import datetime

MakeEntry: TypeAlias = Callable[..., PolicyEntry]


@contextlib.contextmanager
def other_process(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def limit_pages(store: SqlitePolicyStore, count: int) -> None:
    """Let the disk be full once the file has this many pages (of 4 KiB)."""
    with store._writer.held() as connection:
        connection.execute(f"PRAGMA max_page_count = {count}").fetchall()


def in_subprocess(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- full disk --------------------------------------------------------------------------


@pytest.mark.req("STS-FET-44")
def test_full_disk_keeps_what_is_there_and_recovers(
    sqlite_store: SqlitePolicyStore, make_entry: MakeEntry
) -> None:
    store = sqlite_store
    store.save([make_entry("early.example")])
    limit_pages(store, 20)
    many = [make_entry(f"d{i}.example") for i in range(1000)]
    with pytest.raises(StoreUnavailableError, match=r"the disk is full.*free space on"):
        store.save(many)
    assert store.load("early.example") == make_entry("early.example")
    assert store.load("d0.example") is None
    assert store.count() == 1
    limit_pages(store, 1_000_000)
    store.save(many)
    assert store.count() == 1001


@pytest.mark.slow
def test_file_size_limit_keeps_what_is_there_and_recovers(path: Path) -> None:
    # Real writes that fail: the kernel refuses to let files grow, as a full disk or a quota does.
    out = in_subprocess(
        """
        import resource, sys
        from datetime import UTC, datetime
        from strictmail.core.errors import StoreUnavailableError
        from strictmail.core.sts.lifecycle import PolicyEntry
        from strictmail.core.sts.policy import parse_policy
        from strictmail.store.policies import SqlitePolicyStore

        noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        body = b"version: STSv1\\nmode: none\\nmax_age: 86400\\n"
        def entry(domain):
            return PolicyEntry(domain, "1", parse_policy(body), body, noon, noon, noon, noon)

        store = SqlitePolicyStore(sys.argv[1])
        store.save([entry("early.example")])
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        for _ in range(3):
            try:
                store.save([entry(f"d{i}.example") for i in range(20_000)])
            except StoreUnavailableError as error:
                print(error)
        assert store.load("early.example") is not None
        assert store.count() == 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        store.save([entry(f"d{i}.example") for i in range(20_000)])
        print("count", store.count())
        store.close()
        """,
        str(path),
    )
    lines = out.splitlines()
    assert len(lines) == 4
    assert all("policy store" in line and "; " in line for line in lines[:3])
    assert lines[3] == "count 20001"


# ---- locked -----------------------------------------------------------------------------


def test_locked_by_another_process_then_free(
    path: Path, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "WRITE_LOCK_SECONDS", 0.0)
    store = SqlitePolicyStore(path)
    store.save([make_entry("early.example")])
    with other_process(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="another process has it locked"):
            store.save([make_entry("late.example")])
        # Readers do not wait for writers.
        assert store.load("early.example") is not None
        other.execute("ROLLBACK")
    store.save([make_entry("late.example")])
    assert store.count() == 2
    store.close()


# ---- read-only --------------------------------------------------------------------------


def make_unwritable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every opening for writing find a read-only file system (root ignores permissions)."""
    real = connections._connect

    def read_only(path: Path, mode: str, timeout: float) -> sqlite3.Connection:
        if mode == "mode=rw":
            connection = real(path, "mode=ro", timeout)
            connection.close()
            raise sqlite3.OperationalError("unable to open database file")
        return real(path, mode, timeout)

    monkeypatch.setattr(connections, "_connect", read_only)


@pytest.mark.req("STS-FET-44")
def test_read_only_at_start_up_serves_what_is_cached(
    path: Path, make_entry: MakeEntry, noon: datetime
) -> None:
    first = SqlitePolicyStore(path)
    first.save([make_entry()])
    first.close()
    with pytest.MonkeyPatch.context() as patch:
        make_unwritable(patch)
        store = SqlitePolicyStore(path)
        assert not store.writable
        assert store.load("example.com") == make_entry()
        assert [e.policy_domain for e in store.due(noon.replace(year=2027), 10)] == ["example.com"]
        assert store.overrides() == []
        with pytest.raises(StoreUnavailableError):
            store.save([make_entry("late.example")])
    # Written to again, read from again: also by the connections opened on the frozen file.
    store.save([make_entry("late.example")])
    assert store.writable
    assert store.load("late.example") is not None
    assert store.count() == 2
    store.close()


def test_read_only_after_a_crash_does_not_read_half_a_database(
    path: Path, make_entry: MakeEntry
) -> None:
    # With a write-ahead log beside it, the file alone is not the whole truth.
    SqlitePolicyStore(path).close()
    first = SqlitePolicyStore(path)
    first.save([make_entry()])
    copies = [path, path.with_name(path.name + "-wal")]
    frozen = path.parent / "frozen"
    frozen.mkdir()
    for copy in copies:
        (frozen / copy.name).write_bytes(copy.read_bytes())
    first.close()
    with pytest.MonkeyPatch.context() as patch:
        make_unwritable(patch)
        with pytest.raises(StoreUnavailableError, match="policy store"):
            SqlitePolicyStore(frozen / path.name)
    recovered = SqlitePolicyStore(frozen / path.name)
    assert recovered.load("example.com") == make_entry()
    recovered.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="drops root's rights to meet a real refusal")
def test_directory_of_somebody_else(make_entry: MakeEntry) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = Path(directory, "policies.sqlite3")
        first = SqlitePolicyStore(path)
        first.save([make_entry()])
        first.close()
        path.chmod(0o644)
        out = in_subprocess(
            """
            import os, sys
            from strictmail.core.errors import StoreUnavailableError
            from strictmail.store.policies import SqlitePolicyStore
            from strictmail.store.requests import RequestKind
            from strictmail.store.schema import shipped_migrations

            shipped_migrations()
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
            store = SqlitePolicyStore(sys.argv[1])
            print(store.writable, store.load("example.com").policy_domain)
            try:
                store.request(RequestKind.FORGET, "")
            except StoreUnavailableError as error:
                print("fix:", "; " in str(error))
            """,
            str(path),
        )
    assert out.splitlines() == ["False example.com", "fix: True"]


# ---- absent, foreign, damaged -----------------------------------------------------------


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(
        StoreUnavailableError, match=r"cannot be created.*check that .*absent exists"
    ):
        SqlitePolicyStore(tmp_path / "absent" / "policies.sqlite3")


def test_not_created_when_not_wanted(path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="there is none; check state_directory"):
        SqlitePolicyStore(path, create=False)
    assert not path.exists()


def test_created_for_its_owner_only(sqlite_store: SqlitePolicyStore, path: Path) -> None:
    sqlite_store.count()
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_made_by_root_it_belongs_to_the_owner_of_the_directory(
    path: Path, make_entry: MakeEntry
) -> None:
    os.chown(path.parent, 65534, 65534)
    store = SqlitePolicyStore(path)
    store.save([make_entry()])
    assert {file.stat().st_uid for file in path.parent.iterdir()} == {65534}
    store.close()


def test_database_of_another_program_stays_as_it_is(path: Path) -> None:
    with other_process(path) as other:
        other.execute("CREATE TABLE precious (x)")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailableError, match="the database of another program"):
        SqlitePolicyStore(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_bytes(b"not a database at all, but long enough to look at" * 100)
    with pytest.raises(StoreUnavailableError, match=r"damaged.*move .* away"):
        SqlitePolicyStore(path)


def test_damaged_pages_are_told_of(path: Path, make_entry: MakeEntry) -> None:
    store = SqlitePolicyStore(path)
    store.save([make_entry(f"d{i}.example") for i in range(2000)])
    store.close()
    whole = path.read_bytes()
    keep = 4096 * 2
    path.write_bytes(whole[:keep] + b"\xff" * (len(whole) - keep))
    with pytest.raises(StoreUnavailableError, match=r"damaged.*strictmail cache backup"):
        SqlitePolicyStore(path).iterate()
    # A copy put in its place works at once.
    path.write_bytes(whole)
    restored = SqlitePolicyStore(path)
    assert restored.count() == 2000
    restored.close()


def test_one_unreadable_policy_is_no_missing_policy(
    sqlite_store: SqlitePolicyStore, path: Path, make_entry: MakeEntry, noon: datetime
) -> None:
    sqlite_store.save([make_entry("bad.example"), make_entry("good.example")])
    with other_process(path) as other:
        other.execute(
            "UPDATE body SET content = ? WHERE id = "
            "(SELECT body_id FROM policy WHERE domain = 'bad.example')",
            (b"version: STSv9\n",),
        )
    with pytest.raises(StoreUnavailableError, match=r"strictmail cache refresh bad\.example"):
        sqlite_store.load("bad.example")
    # It spoils no list, and cannot crowd out the others where the list is limited.
    later = noon.replace(year=2027)
    assert [e.policy_domain for e in sqlite_store.due(later, 1)] == ["good.example"]
    assert [e.policy_domain for e in sqlite_store.iterate()] == ["good.example"]
    # Nor is it deleted before its time.
    assert sqlite_store.prune(noon + timedelta(days=7), idle_before=later) == 0
    assert sqlite_store.count() == 2
    # A fetch heals it.
    sqlite_store.save([make_entry("bad.example")])
    assert sqlite_store.load("bad.example") == make_entry("bad.example")


def test_unreadable_policies_end_too(
    sqlite_store: SqlitePolicyStore, path: Path, make_entry: MakeEntry, noon: datetime
) -> None:
    sqlite_store.save([make_entry("bad.example")])
    with other_process(path) as other:
        other.execute("UPDATE body SET content = X'00'")
    expiry = noon + timedelta(days=7)
    assert sqlite_store.prune(expiry + timedelta(days=6), idle_before=expiry) == 0
    assert sqlite_store.prune(expiry + timedelta(days=8), idle_before=expiry) == 1


def test_a_spoilt_connection_is_replaced_a_good_one_kept(path: Path) -> None:
    class Failing:
        """A connection that a fault of the disk has spoilt, or a lock held up."""

        def __init__(self, code: int) -> None:
            self.code = code
            self.closed = False

        def execute(self, *_: object) -> sqlite3.Cursor:
            error = sqlite3.OperationalError("no")
            error.sqlite_errorcode = self.code
            raise error

        def close(self) -> None:
            self.closed = True

    spoilt = Failing(sqlite3.SQLITE_IOERR_READ)
    opened = iter([spoilt, Failing(sqlite3.SQLITE_BUSY)])
    connection = connections.Connection(path, lambda: next(opened))  # type: ignore[arg-type, return-value]
    with pytest.raises(StoreUnavailableError, match="the disk fails to read"):
        connection.query("SELECT 1")
    assert spoilt.closed
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="another process has it locked"):
            connection.query("SELECT 1")


def test_closed_means_closed(sqlite_store: SqlitePolicyStore, make_entry: MakeEntry) -> None:
    sqlite_store.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        sqlite_store.load("example.com")
    with pytest.raises(StoreUnavailableError, match="closed"):
        sqlite_store.save([make_entry()])


# ---- backup -----------------------------------------------------------------------------


def test_backup_replaces_an_older_copy_whole_or_not_at_all(
    sqlite_store: SqlitePolicyStore, make_entry: MakeEntry, tmp_path: Path
) -> None:
    sqlite_store.save([make_entry()])
    target = tmp_path / "copies" / "copy.sqlite3"
    with pytest.raises(StoreUnavailableError, match=r"backup to .*copy\.sqlite3: No such file"):
        sqlite_store.backup(str(target))
    target.parent.mkdir()
    target.write_bytes(b"an older copy")
    sqlite_store.backup(str(target))
    assert target.stat().st_mode & 0o077 == 0
    assert [file.name for file in target.parent.iterdir()] == ["copy.sqlite3"]
    with other_process(target) as copy:
        assert copy.execute("SELECT domain FROM policy").fetchall() == [("example.com",)]
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_backup_onto_itself_is_refused(
    sqlite_store: SqlitePolicyStore, path: Path, make_entry: MakeEntry
) -> None:
    sqlite_store.save([make_entry()])
    with pytest.raises(StoreUnavailableError, match="the policy store itself"):
        sqlite_store.backup(str(path))
    assert sqlite_store.load("example.com") is not None
