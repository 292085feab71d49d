# SPDX-License-Identifier: Apache-2.0
"""Batches of a drainer: its days, its pipe, and what is made of malformed datagrams."""

from __future__ import annotations

import os
import random
import socket
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest
from tests.service.collector.world import datagram

from strictmail.collector import batches, drainer
from strictmail.collector.batches import Batch, BatchReader, Tally
from strictmail.collector.drainer import Drainer
from strictmail.core.tlsrpt.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC).timestamp()


class Pipe:
    """A drainer, and what it writes."""

    def __init__(self) -> None:
        self.sender, source = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._reading, writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(writing, False)
        self.drainer = Drainer(source, writing)
        self._source, self._writing = source, writing

    def batches(self) -> list[Batch]:
        assert self.drainer.write_pending()
        # With much pending, a batch stays open until that is written.
        self.drainer.finish_batch()
        assert self.drainer.write_pending()
        data = b""
        try:
            while more := os.read(self._reading, 1 << 20):
                data += more
        except BlockingIOError:
            pass
        return list(BatchReader().feed(data))

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)
        self.sender.close()
        self._source.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def clock(monkeypatch: pytest.MonkeyPatch, *instants: float) -> None:
    """The wall clock of the drainer: each datagram sees the next instant, then the last."""
    left = list(instants)
    monkeypatch.setattr(
        "strictmail.collector.drainer.time.time", lambda: left.pop(0) if len(left) > 1 else left[0]
    )


def counted(found: list[Batch]) -> dict[date, int]:
    days: dict[date, int] = {}
    for batch in found:
        days[batch.day] = days.get(batch.day, 0) + sum(batch.datagrams.values())
    return days


@pytest.mark.req("RPT-JSON-53")
def test_a_batch_ends_at_midnight(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, MIDNIGHT - 0.5, MIDNIGHT - 0.1, MIDNIGHT, MIDNIGHT + 0.1)
    for _ in range(4):
        pipe.sender.send(datagram())
    pipe.drainer.drain()
    assert counted(pipe.batches()) == {date(2026, 3, 1): 2, date(2026, 3, 2): 2}


@pytest.mark.req("RPT-JSON-53")
def test_a_clock_that_steps_back_over_midnight_loses_nothing(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, MIDNIGHT + 5, MIDNIGHT - 5, MIDNIGHT - 4, MIDNIGHT + 1)
    for _ in range(4):
        pipe.sender.send(datagram())
    pipe.drainer.drain()
    assert counted(pipe.batches()) == {date(2026, 3, 1): 2, date(2026, 3, 2): 2}


def test_equal_datagrams_are_one_number(pipe: Pipe) -> None:
    for _ in range(5):
        pipe.sender.send(datagram())
        pipe.sender.send(b"")
        pipe.drainer.drain()
    (batch,) = pipe.batches()
    assert batch.datagrams == {datagram(): 5, b"": 5}
    assert (batch.received, batch.oversized, batch.shed) == (10, 0, 0)


def test_an_oversized_datagram_is_counted_as_such(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer, "BUFFER_BYTES", 100)
    small = Drainer(pipe._source, pipe._writing)
    pipe.drainer = small
    pipe.sender.send(b"x" * 5000)
    pipe.sender.send(b"y")
    small.drain()
    (batch,) = pipe.batches()
    assert batch.datagrams == {b"y": 1}
    assert (batch.received, batch.oversized) == (2, 1)


def test_what_waits_for_a_collector_is_bounded(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drainer, "MAX_PENDING_BYTES", 1000)
    for number in range(50):
        pipe.sender.send(datagram(f"d{number}.example"))
        pipe.drainer.drain()
        pipe.drainer.finish_batch()
    batches_ = pipe.batches()
    last = batches_[-1]
    kept = sum(sum(batch.datagrams.values()) for batch in batches_)
    assert last.shed > 0
    assert kept + last.shed == last.received == 50


@pytest.mark.parametrize("seed", range(20))
def test_a_pipe_may_be_cut_anywhere(pipe: Pipe, seed: int) -> None:
    rng = random.Random(seed)
    sent = [datagram(f"d{rng.randrange(5)}.example") for _ in range(50)]
    for one in sent:
        pipe.sender.send(one)
        pipe.drainer.drain()
        if rng.random() < 0.2:
            pipe.drainer.finish_batch()
    pipe.drainer.finish_batch()
    data = b"".join(pipe.drainer._pending)
    reader, found = BatchReader(), []
    while data:
        size = rng.randint(1, 300)
        found += list(reader.feed(data[:size]))
        data = data[size:]
    assert sum(sum(batch.datagrams.values()) for batch in found) == len(sent)


@pytest.mark.parametrize("data", [b"X" * 17, b"B" + b"\xff" * 16, b"B" + bytes(16) + b"X" * 25])
def test_what_is_no_batch_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"batch|day"):
        list(BatchReader().feed(data))


# ---- from batches to counts ---------------------------------------------------------------------


def batch(*datagrams: bytes, day: int = 1, times: int = 1) -> Batch:
    began = datetime(2026, 3, day, 12, tzinfo=UTC)
    return Batch(began, dict.fromkeys(datagrams, times), len(datagrams), 0, 0)


MALFORMED = [
    (b"", "empty"),
    (b"x" * 300_000, "too-large"),
    (b"{", "not-json"),
    (b"\xff\xfe", "not-json"),
    (b'{"d":"example.com","x":' + b"[" * 100_000, "not-json"),
    (b"[]", "structure"),
    (b'{"d":1,"policies":[]}', "structure"),
    (b'{"d":"example.com","policies":"x"}', "structure"),
    (b'{"dpv":"2","d":"example.com","policies":[]}', "version"),
    (datagram("a..b"), "domain"),
    (datagram(kind=7), "no-policy"),
    (b'{"d":"example.com","policies":[]}', "no-policy"),
]


def test_malformed_datagrams_are_counted_and_do_not_stop_the_rest() -> None:
    tally, counts = Tally(), Counts()
    samples = tally.count(batch(*(data for data, _ in MALFORMED), datagram(), times=3), counts)
    assert tally.rejected == {
        reason: 3 * sum(one == reason for _, one in MALFORMED) for _, reason in MALFORMED
    }
    assert tally.counted == 3
    assert [len(list(counts))] == [1]
    assert {sample.reason_code for sample in samples} == {reason for _, reason in MALFORMED}
    assert all(sample.text.isprintable() and len(sample.text) < 1000 for sample in samples)


def test_samples_are_few_a_day() -> None:
    tally = Tally()
    for day, expected in [(1, batches.MAX_SAMPLES), (1, 0), (2, batches.MAX_SAMPLES)]:
        bad = [b"{%d" % number for number in range(50)]
        assert len(tally.count(batch(*bad, day=day), Counts())) == expected


def test_results_by_kind() -> None:
    tally = Tally()
    testing = datagram(kind=2, lines=("version: STSv1", "mode: testing"))
    enforced = datagram(kind=2, lines=("mode: enforce",))
    tally.count(batch(testing, enforced, datagram(failed=True), times=2), Counts())
    assert tally.sessions == {
        ("postfix", "unverified"): 2,
        ("postfix", "success"): 2,
        ("postfix", "failure"): 2,
    }


def test_counts_that_wait_for_a_broken_store_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_UNSAVED_DOMAINS", 10)
    tally, counts = Tally(), Counts()
    tally.count(batch(*(datagram(f"d{number}.example") for number in range(30))), counts)
    assert len(counts) == 10
    assert tally.rejected["store-unavailable"] == 20
    tally.count(batch(datagram("d3.example")), counts)
    assert tally.counted == 11
