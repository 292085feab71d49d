# SPDX-License-Identifier: Apache-2.0
"""Several connections to one file: daemon and commands, event loop and worker thread."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import pytest

from strictmail.core.overrides import Override, OverrideAction
from strictmail.core.sts.lifecycle import PolicyEntry
from strictmail.store.policies import SqlitePolicyStore
from strictmail.store.requests import (
    ALL_DOMAINS,
    MAX_KEPT_REQUESTS,
    MAX_WAITING_REQUESTS,
    Request,
    RequestKind,
)

if TYPE_CHECKING:
    from pathlib import Path

MakeEntry: TypeAlias = Callable[..., PolicyEntry]


@pytest.fixture
def daemon(path: Path) -> Iterator[SqlitePolicyStore]:
    store = SqlitePolicyStore(path)
    store.take_requests()
    yield store
    store.close()


@pytest.fixture
def command(daemon: SqlitePolicyStore) -> Iterator[SqlitePolicyStore]:
    store = SqlitePolicyStore(daemon.path, create=False, announces=True)
    yield store
    store.close()


def asked(store: SqlitePolicyStore) -> list[tuple[RequestKind, str]]:
    return [(request.kind, request.domain) for request in store.take_requests()]


def test_own_writes_are_no_change_elsewhere(
    daemon: SqlitePolicyStore, make_entry: MakeEntry, noon: datetime
) -> None:
    daemon.save([make_entry()])
    daemon.touch([("example.com", noon + timedelta(days=1))])
    assert not daemon.changed_elsewhere()
    assert daemon.take_requests() == []


def test_what_a_command_changes_is_told(
    daemon: SqlitePolicyStore, command: SqlitePolicyStore, make_entry: MakeEntry, noon: datetime
) -> None:
    command.save_newer([make_entry("a.example")])
    assert daemon.changed_elsewhere()
    assert asked(daemon) == [(RequestKind.FORGET, "a.example")]
    assert not daemon.changed_elsewhere()
    command.remove(["a.example"])
    end = noon + timedelta(days=1)
    command.save_override(Override("b.example", OverrideAction.DEFER, "why", noon, end))
    command.remove_override("b.example")
    command.remove_override("never.example")
    assert daemon.changed_elsewhere()
    assert asked(daemon) == [
        (RequestKind.FORGET, "a.example"),
        (RequestKind.FORGET, "b.example"),
        (RequestKind.FORGET, "b.example"),
    ]


def test_a_change_stays_seen_until_it_was_taken(
    daemon: SqlitePolicyStore, command: SqlitePolicyStore
) -> None:
    command.request(RequestKind.REFRESH, "a.example")
    assert daemon.changed_elsewhere()
    assert daemon.changed_elsewhere()
    daemon.take_requests()
    assert not daemon.changed_elsewhere()


def test_requests_made_before_the_daemon_started_are_taken(path: Path) -> None:
    SqlitePolicyStore(path).close()
    command = SqlitePolicyStore(path, announces=True)
    number = command.request(RequestKind.REFRESH, "a.example")
    command.close()
    daemon = SqlitePolicyStore(path)
    assert daemon.changed_elsewhere()
    assert daemon.take_requests() == [Request(number, RequestKind.REFRESH, "a.example")]
    daemon.close()


def test_the_outcome_reaches_the_command(
    daemon: SqlitePolicyStore, command: SqlitePolicyStore
) -> None:
    number = command.request(RequestKind.REFRESH, "a.example")
    (request,) = daemon.take_requests()
    daemon.answer_request(request.number, "fetched", succeeded=True)
    state = command.request_state(number)
    assert (state.outcome, state.succeeded) == ("fetched", True)


def test_many_changes_become_one(
    daemon: SqlitePolicyStore, command: SqlitePolicyStore, make_entry: MakeEntry
) -> None:
    refresh = command.request(RequestKind.REFRESH, "r.example")
    for start in range(0, MAX_WAITING_REQUESTS + 100, 100):
        command.save_newer([make_entry(f"d{n}.example") for n in range(start, start + 100)])
    taken = daemon.take_requests()
    assert len(taken) <= MAX_WAITING_REQUESTS
    assert Request(refresh, RequestKind.REFRESH, "r.example") in taken
    assert any(r.domain == ALL_DOMAINS and r.kind is RequestKind.FORGET for r in taken)


def test_old_requests_do_not_pile_up(daemon: SqlitePolicyStore, path: Path) -> None:
    for _ in range(3):
        for _ in range(MAX_KEPT_REQUESTS // 2):
            daemon.request(RequestKind.REFRESH, "a.example")
        daemon.take_requests()
    daemon.request(RequestKind.REFRESH, "a.example")
    daemon.take_requests()
    connection = sqlite3.connect(path)
    (left,) = connection.execute("SELECT count(*) FROM request").fetchone()
    connection.close()
    assert left <= MAX_KEPT_REQUESTS + 1


def test_changed_elsewhere_does_not_wait_for_the_writer(
    daemon: SqlitePolicyStore, command: SqlitePolicyStore
) -> None:
    command.request(RequestKind.REFRESH, "a.example")
    writing, finish = threading.Event(), threading.Event()

    def write_for_long() -> None:
        with daemon._writer.transaction():
            writing.set()
            finish.wait(30)

    writer = threading.Thread(target=write_for_long)
    writer.start()
    try:
        assert writing.wait(30)
        assert not daemon.changed_elsewhere()
    finally:
        finish.set()
        writer.join()
    assert daemon.changed_elsewhere()


def test_loop_reads_while_a_worker_writes(daemon: SqlitePolicyStore, make_entry: MakeEntry) -> None:
    daemon.save([make_entry("kept.example")])
    faults: list[Exception] = []

    def write() -> None:
        try:
            for generation in range(30):
                batch = [make_entry(f"d{n}.example", policy_id=f"g{generation}") for n in range(50)]
                daemon.save(batch)
        except Exception as error:  # noqa: BLE001 - carried to the asserting thread
            faults.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert daemon.load("kept.example") == make_entry("kept.example")
        # A transaction is seen whole or not at all.
        assert daemon.count() in {1, 51}
    writer.join()
    assert faults == []
    assert daemon.count() == 51


def test_the_same_text_is_stored_once(daemon: SqlitePolicyStore, make_entry: MakeEntry) -> None:
    body = b"version: STSv1\nmode: enforce\nmx: mx.host.example\nmax_age: 604800\n"
    daemon.save([make_entry(f"d{n}.example", body=body) for n in range(50)])
    assert daemon.stats().body_count == 1
    first, second = daemon.load("d1.example"), daemon.load("d2.example")
    assert first is not None
    assert second is not None
    assert first.policy is second.policy
    daemon.save([make_entry("d1.example")])
    assert daemon.stats().body_count == 2
    daemon.remove([f"d{n}.example" for n in range(50)])
    assert daemon.stats().body_count == 0


def test_texts_whose_digests_collide_stay_apart(
    daemon: SqlitePolicyStore, path: Path, make_entry: MakeEntry
) -> None:
    daemon.save([make_entry("a.example")])
    body = make_entry("b.example").body
    connection = sqlite3.connect(path, isolation_level=None)
    # As if the text of a.example had been made to have the digest of that of b.example.
    from strictmail.store.policies import _intern

    wanted = _intern(connection, body)
    connection.execute("UPDATE body SET digest = (SELECT digest FROM body WHERE id = ?)", (wanted,))
    connection.execute("DELETE FROM body WHERE id = ?", (wanted,))
    connection.close()
    daemon.save([make_entry("b.example")])
    assert daemon.load("a.example") == make_entry("a.example")
    assert daemon.load("b.example") == make_entry("b.example")


def test_stats(daemon: SqlitePolicyStore, make_entry: MakeEntry) -> None:
    daemon.save([make_entry("a.example"), make_entry("b.example", mode="none")])
    daemon.save([make_entry("c.example", mode="testing", max_age=60)])
    stats = daemon.stats()
    assert {mode.value: n for mode, n in stats.mode_counts.items()} == {
        "enforce": 1,
        "testing": 1,
        "none": 1,
    }
    assert stats.body_count == 3
    assert stats.failing_count == 0
    assert stats.file_bytes > 0
