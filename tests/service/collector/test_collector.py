# SPDX-License-Identifier: Apache-2.0
"""The collector with real drainers: faults of the store, of drainers, and sockets that change."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import threading
from datetime import date
from typing import TYPE_CHECKING

import pytest
from tests.service.collector.world import (
    FakeClock,
    Log,
    bound_socket,
    count_sessions,
    datagram,
    sender_to,
    totals,
)

from strictmail.collector import role
from strictmail.collector.http import CollectorWeb
from strictmail.collector.role import Collector, ToldSession
from strictmail.core.errors import StoreUnavailableError
from strictmail.core.names import parse_domain
from strictmail.core.tlsrpt.results import PolicyType
from strictmail.core.tlsrpt.session import JudgedPolicy, Session, Source, make_policy
from strictmail.store.sessions import DayDomain, SessionStore

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from strictmail.core.tlsrpt.counts import Counts

pytestmark = pytest.mark.slow

DAY = date(2026, 3, 1)


class BreakableStore(SessionStore):
    """Fails as long as it is told to; says when it was asked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.broken = False
        self.asked = asyncio.Event()
        self.stored = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def add(self, counts: Counts, identity: str = "") -> None:
        self._loop.call_soon_threadsafe(self.asked.set)
        if self.broken:
            raise StoreUnavailableError("full")
        super().add(counts, identity)
        self._loop.call_soon_threadsafe(self.stored.set)


class Stage:
    """A collector in this process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = BreakableStore(directory / "reports.sqlite3")
        self.log, self.clock = Log(), FakeClock()
        self.sockets: list[socket.socket] = []
        self.collector: Collector

    def open_socket(self, name: str = "s") -> socket.socket:
        made = bound_socket(self.directory / name)
        self.sockets.append(made)
        return made

    async def start(self, sockets: Sequence[tuple[str, socket.socket]]) -> Collector:
        self.collector = Collector(self.store, sockets, clock=self.clock, events=self.log)
        await self.collector.start()
        return self.collector

    async def send(self, *datagrams: bytes, to: str = "s") -> None:
        def work() -> None:
            with sender_to(self.directory / to) as sender:
                for one in datagrams:
                    sender.send(one)

        await asyncio.to_thread(work)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    yield made
    if hasattr(made, "collector"):
        await made.collector.stop()
    made.store.close()
    for one in made.sockets:
        one.close()


def session(domain: str = "example.com") -> Session:
    policy = make_policy(PolicyType.NO_POLICY_FOUND, domain, domain=domain)
    return Session(parse_domain(domain), "", (JudgedPolicy(policy, succeeded=True),))


async def test_what_comes_is_stored_under_its_identity(stage: Stage) -> None:
    collector = await stage.start([("", stage.open_socket()), ("brand", stage.open_socket("b"))])
    await stage.send(datagram(), datagram(), datagram(failed=True), b"rubbish")
    await stage.send(datagram("brand.example"), to="b")
    await collector.stop()
    found = {which.identity: which.domain for _, which in stage.store.unreported(date(2100, 1, 1))}
    assert found == {"": "example.com", "brand": "brand.example"}
    assert totals(stage.store) == {"example.com": (2, 1), "brand.example": (1, 0)}
    assert (collector.received, collector.tally.counted) == (5, 4)
    assert collector.rejected["not-json"] == 1
    assert stage.log.names() == ["datagram-refused"]


async def test_a_store_that_fails_costs_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "RETRY_SECONDS", 0.01)
    collector = await stage.start([("", stage.open_socket())])
    stage.store.broken = True
    await stage.send(*[datagram(f"d{number}.example") for number in range(30)])
    await stage.store.asked.wait()
    await stage.send(datagram())
    stage.store.asked.clear()
    await stage.store.asked.wait()
    assert collector.store_failing
    assert collector.unsaved
    stage.store.broken = False
    await stage.store.stored.wait()
    await collector.stop()
    assert count_sessions(stage.store.path) == 31
    assert not collector.store_failing
    assert stage.log.names() == ["session-store-unavailable", "session-store-recovered"]


async def test_a_drainer_that_ends_is_started_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "RESTART_SECONDS", 0.0)
    collector = await stage.start([("", stage.open_socket())])
    await stage.send(datagram())
    await stage.store.stored.wait()
    first = collector._drained[0].process
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    await first.wait()
    await stage.send(*[datagram("later.example")] * 20)
    stage.store.stored.clear()
    await stage.store.stored.wait()
    await collector.stop()
    assert totals(stage.store) == {"example.com": (1, 0), "later.example": (20, 0)}
    assert collector.restarts == 1
    assert "drainer-ended" in stage.log.names()
    assert collector.received == 21


async def test_a_drainer_that_cannot_be_started_is_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "RESTART_SECONDS", 0.0)
    collector = await stage.start([("", stage.open_socket())])
    web = CollectorWeb(collector)
    assert web.degraded() == []
    said: list[list[str]] = []
    start = Collector._start_drainer

    async def no_memory(self: Collector, drained: object) -> None:
        said.append(web.degraded())
        if len(said) < 3:
            raise OSError(errno.ENOMEM, "no memory for a process")
        await start(self, drained)  # type: ignore[arg-type]

    monkeypatch.setattr(Collector, "_start_drainer", no_memory)
    first = collector._drained[0].process
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    await stage.send(datagram())
    await stage.store.stored.wait()
    assert said == [["a TLSRPT socket is not drained: sessions are lost"]] * 3
    assert web.degraded() == []
    await collector.stop()
    assert totals(stage.store) == {"example.com": (1, 0)}
    assert collector.restarts == 1


async def test_sockets_may_change(stage: Stage) -> None:
    kept, gone, new = stage.open_socket("kept"), stage.open_socket("gone"), stage.open_socket("new")
    collector = await stage.start([("", kept), ("", gone)])
    before = collector._drained[0].process
    await stage.send(datagram("gone.example"), to="gone")
    await collector.replace_sockets([("", kept), ("brand", new)])
    await stage.send(datagram("kept.example"), to="kept")
    await stage.send(datagram("new.example"), to="new")
    assert collector._drained[0].process is before
    await collector.stop()
    assert set(totals(stage.store)) == {"gone.example", "kept.example", "new.example"}
    assert collector.received == 3
    assert collector.restarts == 0


async def test_two_collectors_on_one_socket_count_each_datagram_once(stage: Stage) -> None:
    source = stage.open_socket()
    first = await stage.start([("", source)])
    second = Collector(
        SessionStore(stage.store.path), [("", source)], clock=stage.clock, events=stage.log
    )
    await stage.send(*[datagram(f"d{number % 9}.example") for number in range(200)])
    await second.start()
    await stage.send(*[datagram(f"d{number % 9}.example") for number in range(200)])
    await first.stop()
    await stage.send(*[datagram(f"d{number % 9}.example") for number in range(200)])
    await second.stop()
    second.store.close()
    assert count_sessions(stage.store.path) == 600


async def test_told_sessions_are_counted_on_their_day_and_once(stage: Stage) -> None:
    collector = await stage.start([])
    told = [ToldSession(DAY, session(), 3), ToldSession(date(2026, 2, 28), session())]
    assert await collector.add(told, source=Source.HTTP, key=b"k")
    assert not await collector.add(told, source=Source.HTTP, key=b"k")
    assert await collector.add(told, source=Source.PYTHON, key=b"k")
    assert await collector.add(told[:1], source=Source.HTTP)
    counts = stage.store.load(DayDomain(DAY, "", "example.com"))
    assert {str(name): one.sessions for name, one in counts.sources.items()} == {
        "http": 6,
        "python": 3,
    }
    assert collector.tally.counted == 11
    stage.store.broken = True
    with pytest.raises(StoreUnavailableError):
        await collector.add(told, source=Source.HTTP)
    assert collector.tally.counted == 11


async def test_hostile_datagrams_do_not_slow_the_rest(stage: Stage) -> None:
    collector = await stage.start([("", stage.open_socket())])
    deep = b'{"d":' + b"[" * 100_000
    helo = datagram(failed=True).replace(b'"c": 201', b'"c": 201, "h": "' + b"x" * 60_000 + b'"')
    await stage.send(*[deep, helo, b"", b"\xff" * 1000, datagram()] * 20)
    await collector.stop()
    assert totals(stage.store) == {"example.com": (20, 20)}
    details = stage.store.load(
        next(which for _, which in stage.store.unreported(date(2100, 1, 1)))
    ).policies.values()
    longest = max(len(d.receiving_mx_helo) for one in details for d in one.details)
    assert longest <= 255


async def test_stopping_at_any_moment_ends_all_processes(tmp_path: Path) -> None:
    for turns in range(6):
        directory = tmp_path / str(turns)
        directory.mkdir()
        made = Stage(directory)
        collector = Collector(
            made.store, [("", made.open_socket())], clock=made.clock, events=made.log
        )
        starting = asyncio.create_task(collector.start())
        for _ in range(turns * 3):
            await asyncio.sleep(0)
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        await collector.stop()
        assert all(d.process is None or d.process.returncode == 0 for d in collector._drained)
        made.store.close()
        made.sockets[0].close()
    assert threading.active_count() < 50


async def test_cardinality_is_bounded_and_totals_stay_exact(stage: Stage) -> None:
    collector = await stage.start([("", stage.open_socket())])
    sent = [
        datagram(failed=True).replace(b'"c": 201', b'"c": 201, "f": "reason %d"' % number)
        for number in range(1500)
    ]
    await stage.send(*sent)
    await collector.stop()
    (which,) = [which for _, which in stage.store.unreported(date(2100, 1, 1))]
    (counted,) = stage.store.load(which).policies.values()
    assert counted.failures == 1500
    assert sum(counted.details.values()) == 1500
    assert len(counted.details) <= 600
