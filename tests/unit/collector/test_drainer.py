# SPDX-License-Identifier: Apache-2.0
"""The process that only drains, in this process: what goes in comes out counted, in its day."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from datetime import date
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from strictmail.collector import drainer as module
from strictmail.collector.batches import Batch, BatchReader
from strictmail.collector.drainer import BUFFER_BYTES, Drainer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = 1_747_915_200.0
DAY = date(2025, 5, 22)
SECONDS_A_DAY = 86_400


class World:
    """A drainer with a socket to send to, and the pipe's other end."""

    def __init__(self) -> None:
        self.source, self.sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sender.setblocking(False)
        self.source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.pipe, self.sink = os.pipe()
        os.set_blocking(self.pipe, False)
        os.set_blocking(self.sink, False)
        self.drainer = Drainer(self.source, self.sink)
        self.reader = BatchReader()

    def send(self, *datagrams: bytes) -> None:
        """Send and drain, one by one: the queue of a socket pair is short."""
        for data in datagrams:
            self.sender.send(data)
            self.drainer.drain()

    def batches(self) -> list[Batch]:
        """What has come through the pipe."""
        found: list[Batch] = []
        while True:
            try:
                data = os.read(self.pipe, 1 << 16)
            except BlockingIOError:
                return found
            if not data:
                return found
            found += self.reader.feed(data)

    def close(self) -> None:
        self.source.close()
        self.sender.close()
        for descriptor in (self.pipe, self.sink):
            if descriptor >= 0:
                os.close(descriptor)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The wall clock, and one that goes on by itself: seconds to set."""
    times = SimpleNamespace(now=NOON, monotonic=0.0)
    fake = SimpleNamespace(
        time=lambda: times.now,
        monotonic=lambda: times.monotonic,
        sleep=lambda _: None,
    )
    monkeypatch.setattr(module, "time", fake)
    return times


def total(batches: list[Batch]) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for batch in batches:
        found.update(batch.datagrams)
    return found


def test_equal_datagrams_are_one_with_a_count(world: World, clock: SimpleNamespace) -> None:
    world.send(b"a", b"b", b"a", b"", b"a")
    world.drainer.finish_batch()
    assert world.drainer.write_pending()
    (batch,) = world.batches()
    assert batch.datagrams == {b"a": 3, b"b": 1, b"": 1}
    assert (batch.received, batch.oversized, batch.shed) == (5, 0, 0)
    assert batch.day == DAY


def test_a_datagram_that_is_too_large_is_counted_as_such(
    world: World, clock: SimpleNamespace
) -> None:
    for size in (BUFFER_BYTES, BUFFER_BYTES - 1, 2 * BUFFER_BYTES):
        world.send(b"x" * size)
    world.drainer.finish_batch()
    batches = []
    while world.drainer._pending:
        world.drainer.write_pending()
        batches += world.batches()
    (batch,) = batches
    assert {len(data) for data in batch.datagrams} == {BUFFER_BYTES - 1}
    assert (batch.received, batch.oversized) == (3, 2)


@pytest.mark.req("RPT-JSON-53")
def test_a_batch_never_spans_midnight(world: World, clock: SimpleNamespace) -> None:
    midnight = (NOON // SECONDS_A_DAY + 1) * SECONDS_A_DAY
    clock.now = midnight - 0.001
    world.send(b"a", b"a")
    clock.now = midnight
    world.send(b"a")
    # A clock that is set back: still each in the day in which it came.
    clock.now = midnight - 1
    world.send(b"a")
    world.drainer.finish_batch()
    world.drainer.write_pending()
    found = [(batch.day.day, batch.datagrams[b"a"]) for batch in world.batches()]
    assert found == [(22, 2), (23, 1), (22, 1)]


def test_too_many_different_ones_go_out_early(
    world: World, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_DISTINCT", 10)
    sent = [b"%d" % (number % 25) for number in range(100)]
    world.send(*sent)
    early = world.batches()
    assert max(len(batch.datagrams) for batch in early) <= 10
    world.drainer.finish_batch()
    world.drainer.write_pending()
    assert total(early + world.batches()) == Counter(sent)


def test_a_slow_collector_costs_distinctions_before_counts(
    world: World, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING_BYTES", 100_000)
    sent = 0
    # Nobody reads the pipe: batches wait, until no more may.
    for number in range(60):
        world.send(b"known", b"%d" % number * 4000)
        sent += 2
        world.drainer.finish_batch()
        world.drainer.write_pending()
    assert world.drainer.shed > 0
    assert world.drainer._pending_bytes < 200_000
    batches: list[Batch] = []
    while world.drainer._pending or world.drainer._counts:
        world.drainer.finish_batch()
        world.drainer.write_pending()
        batches += world.batches()
    assert batches[-1].received == sent
    assert total(batches).total() + batches[-1].shed == sent


def in_thread(world: World) -> threading.Thread:
    thread = threading.Thread(target=world.drainer.run)
    thread.start()
    return thread


@pytest.mark.req("RPT-JSON-53")
def test_what_is_in_the_queue_at_the_end_is_counted(world: World) -> None:
    for _ in range(5):
        world.sender.send(b"a")
    world.drainer.stop()
    thread = in_thread(world)
    thread.join()
    assert total(world.batches()) == {b"a": 5}


def test_a_sender_that_never_pauses_does_not_keep_it(
    world: World, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def receive(buffer: bytearray, _size: int, _flags: int) -> int:
        clock.monotonic += 0.01
        buffer[0] = ord("a")
        return 1

    monkeypatch.setattr(world.drainer, "_source", SimpleNamespace(recv_into=receive))
    world.drainer.stop()
    world.drainer.run()
    assert clock.monotonic == pytest.approx(module.STOP_SECONDS, abs=0.02)
    # What it took in that time is handed over.
    assert total(world.batches()) == {b"a": world.drainer.received}


def test_nor_does_one_while_a_batch_waits_for_the_pipe(
    world: World, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def receive(buffer: bytearray, _size: int, _flags: int) -> int:
        clock.monotonic += 0.01
        if clock.monotonic > 2:
            world.drainer.stop()
        buffer[0] = ord("a")
        return 1

    source = SimpleNamespace(recv_into=receive, fileno=world.source.fileno)
    monkeypatch.setattr(world.drainer, "_source", source)
    world.sender.send(b"the poll says that there is something")
    write = world.drainer.write_pending
    looks = []

    def slow() -> bool:
        looks.append(clock.monotonic)
        return write() if world.drainer._stopping else True

    monkeypatch.setattr(world.drainer, "write_pending", slow)
    world.drainer.run()
    # Up to the end the pipe is looked at all the time; what came meanwhile is one batch.
    assert max(later - look for look, later in itertools.pairwise(looks[:-1])) < 0.1
    batches = world.batches()
    assert [bool(batch.datagrams) for batch in batches] == [False, True]
    assert total(batches).total() == world.drainer.received


def test_behind_a_batch_that_waits_only_new_kinds_cost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_DISTINCT", 2)
    monkeypatch.setattr(module, "MAX_PENDING_BYTES", 3 * (module.KIND_BYTES + 1))
    monkeypatch.setattr(world.drainer, "write_pending", lambda: True)
    # The first two are a batch that waits; of the others some are kept, the rest is shed.
    for text in (b"a", b"b", b"c", b"c", b"d", b"e", b"f", b"c", b"d"):
        world.send(text)
    world.drainer.drain()
    monkeypatch.undo()
    world.drainer.stop()
    world.drainer.run()
    counted = total(world.batches())
    assert counted[b"c"] == 3
    assert world.drainer.shed > 0
    assert counted.total() + world.drainer.shed == world.drainer.received == 9


def test_a_slow_collector_gets_everything_at_the_end(
    world: World, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING_BYTES", 100_000)
    for number in range(30):
        world.send(b"%d" % number * 4000)
        world.drainer.finish_batch()
    kept = 30 - world.drainer.shed
    world.drainer._counts[b"known"] = 1
    found: list[Batch] = []

    def read() -> None:
        while data := os.read(world.pipe, 1 << 16):
            found.extend(world.reader.feed(data))

    os.set_blocking(world.pipe, True)
    reader = threading.Thread(target=read)
    reader.start()
    world.drainer.stop()
    world.drainer.run()
    os.close(world.sink)
    world.sink = -1
    reader.join()
    assert total(found).total() == kept + 1


def test_a_drainer_ends_when_nobody_reads_its_pipe(world: World) -> None:
    thread = in_thread(world)
    os.close(world.pipe)
    world.pipe = -1
    thread.join(60)
    assert not thread.is_alive()
    # What came too late for it waits in the kernel for the next one.
    world.sender.send(b"a")
    assert world.source.recv(10) == b"a"


def named(world: World, path: Path) -> None:
    """Give the drainer's socket a name, as Postfix needs one."""
    world.source.close()
    world.source = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    world.source.bind(str(path))
    world.drainer = Drainer(world.source, world.sink)
    world.sender.close()
    world.sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    world.sender.connect(str(path))


@pytest.mark.parametrize(("wanted", "is_long"), [(1, True), (1_000_000, False)])
def test_a_queue_is_measured_and_nothing_of_it_counted(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: int, is_long: bool
) -> None:
    monkeypatch.setattr(module, "LONG_QUEUE", wanted)
    named(world, tmp_path / "socket")
    world.sender.send(b"a")
    assert world.drainer.is_queue_long() is is_long
    world.sender.send(b"a")
    # Left behind by a drainer that was killed while it measured.
    world.sender.send(module.PROBE)
    world.drainer.drain()
    world.drainer.finish_batch()
    world.drainer.write_pending()
    (batch,) = world.batches()
    assert batch.datagrams == {b"a": 2}
    assert (batch.received, batch.oversized, batch.shed) == (2, 0, 0)


@pytest.mark.parametrize(("taken", "is_long"), [(1, None), (3, False)])
def test_a_queue_that_somebody_else_drains_too_is_not_known(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    taken: int,
    is_long: bool | None,
) -> None:
    monkeypatch.setattr(module, "LONG_QUEUE", 3)
    named(world, tmp_path / "socket")
    send = world.drainer._send_probes

    def send_and_lose() -> bool:
        sent = send()
        for _ in range(taken):
            assert world.source.recv(100).startswith(module.PROBE)
        return sent

    monkeypatch.setattr(world.drainer, "_send_probes", send_and_lose)
    assert world.drainer.is_queue_long() is is_long


def test_what_another_drainer_measures_with_is_not_ours(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONG_QUEUE", 3)
    named(world, tmp_path / "socket")
    send = world.drainer._send_probes

    def send_among_others() -> bool:
        world.sender.send(module.PROBE + b"of another")
        sent = send()
        world.sender.send(module.PROBE + b"of another")
        return sent

    monkeypatch.setattr(world.drainer, "_send_probes", send_among_others)
    assert world.drainer.is_queue_long() is True
    assert world.drainer.received == 0


def test_a_queue_without_a_way_to_it_is_taken_for_short(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONG_QUEUE", 1)
    assert not world.drainer.is_queue_long()
    named(world, tmp_path / "socket")
    (tmp_path / "socket").unlink()
    assert not world.drainer.is_queue_long()


@pytest.mark.parametrize(
    ("text", "is_long"),
    [("512\n", True), ("256", True), ("10\n", False), ("", False), (None, False)],
)
def test_only_where_new_sockets_have_long_queues_is_one_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, is_long: bool
) -> None:
    setting = tmp_path / "max_dgram_qlen"
    if text is not None:
        setting.write_text(text)
    monkeypatch.setattr(module, "QUEUE_SETTING", setting)
    assert module.is_setting_long() is is_long


@pytest.mark.usefixtures("clock")
def test_a_long_queue_is_emptied_between_naps(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) < 4:
            world.sender.send(b"a")
            world.sender.send(b"b")

    monkeypatch.setattr(
        module, "time", SimpleNamespace(**{**vars(module)["time"].__dict__, "sleep": sleep})
    )
    world.sender.send(b"a")
    world.drainer._drain_with_naps(until=1.0)
    # After the fourth nothing had come: it waits in the kernel.
    assert naps == [module.NAP_SECONDS] * 4
    world.drainer.finish_batch()
    world.drainer.write_pending()
    assert total(world.batches()) == {b"a": 4, b"b": 3}


@pytest.mark.usefixtures("clock")
def test_there_is_no_nap_while_much_comes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ways: list[str] = []

    def nap(_seconds: float) -> None:
        ways.append("nap")
        for _ in range(5 if len(ways) == 1 else 0):
            world.sender.send(b"a")

    monkeypatch.setattr(module.__dict__["time"], "sleep", nap)
    monkeypatch.setattr(module, "MANY", 5)
    count = world.drainer._count

    def counted(flags: int, until: float) -> None:
        if not flags:
            ways.append(f"wait for {until - 0.5:.1f}" if until > 0 else "wait for one")
        count(flags or socket.MSG_DONTWAIT, until)

    monkeypatch.setattr(world.drainer, "_count", counted)
    monkeypatch.setattr(module, "AWAKE_SECONDS", 0.7)
    world.sender.send(b"a")
    world.drainer._drain_with_naps(until=1.0)
    assert ways == ["nap", "wait for 0.2", "wait for one"]


def test_a_queue_of_which_nothing_is_known_is_measured_again(
    world: World, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [None, None, True]
    ways: list[tuple[float, str]] = []

    def drained(way: str) -> None:
        ways.append((clock.monotonic, way))
        clock.monotonic += 30
        if len(ways) == 6:
            world.drainer.stop()

    monkeypatch.setattr(module, "is_setting_long", lambda: True)
    monkeypatch.setattr(world.drainer, "is_queue_long", lambda: found.pop(0))
    monkeypatch.setattr(world.drainer, "_drain_with_naps", lambda _: drained("naps"))
    monkeypatch.setattr(
        world.drainer, "_count", lambda flags, _: None if flags else drained("waits")
    )
    world.drainer.run()
    assert found == []
    assert ways == [
        *((at, "waits") for at in (0.0, 30.0, 60.0, 90.0)),
        *((at, "naps") for at in (120.0, 150.0)),
    ]


@pytest.mark.parametrize("setting", [True, False])
@pytest.mark.parametrize("queue", [True, False])
def test_naps_are_for_long_queues_only(
    world: World, monkeypatch: pytest.MonkeyPatch, setting: bool, queue: bool
) -> None:
    ways: list[str] = []

    def drained(way: str) -> None:
        ways.append(way)
        world.drainer.stop()

    monkeypatch.setattr(module, "is_setting_long", lambda: setting)
    monkeypatch.setattr(world.drainer, "is_queue_long", lambda: queue)
    monkeypatch.setattr(world.drainer, "_drain_with_naps", lambda _: drained("naps"))
    monkeypatch.setattr(world.drainer, "_count", lambda *_: drained("waits"))
    world.drainer.run()
    assert ways[0] == ("naps" if setting and queue else "waits")


def test_it_imports_nothing_of_ours() -> None:
    code = (
        "import sys, strictmail.collector.drainer; "
        "print(*(m for m in sys.modules if m.startswith('strictmail')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) == {
        "strictmail",
        "strictmail.collector",
        "strictmail.collector.drainer",
    }


def test_sigterm_hands_over_all(world: World) -> None:
    """The process itself, as the collector starts it."""
    os.set_inheritable(world.source.fileno(), True)
    os.set_inheritable(world.sink, True)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "strictmail.collector.drainer",
            str(world.source.fileno()),
            str(world.sink),
        ],
        pass_fds=(world.source.fileno(), world.sink),
    )
    try:
        os.set_blocking(world.pipe, True)
        # Its first batch says that SIGTERM is understood.
        batches = list(world.reader.feed(os.read(world.pipe, 4096)))
        for _ in range(5):
            world.sender.send(b"a")
        process.terminate()
        os.close(world.sink)
        world.sink = -1
        while data := os.read(world.pipe, 4096):
            batches += world.reader.feed(data)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert total(batches) == {b"a": 5}
    assert batches[-1].received == 5
