# SPDX-License-Identifier: Apache-2.0
"""From a drainer's pipe to counts: any cut of the stream, and every datagram in one place."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.tlsrpt.reports import DAY, DOMAIN, datagram, failed, policy_of

from strictmail.collector import batches
from strictmail.collector.batches import (
    MAX_SAMPLES,
    SAMPLE_CHARACTERS,
    Batch,
    BatchReader,
    Memory,
    Tally,
    session_result,
)
from strictmail.collector.drainer import END, HEAD, RECORD
from strictmail.core.errors import DatagramError
from strictmail.core.mta.datagram import MAX_DATAGRAM_BYTES, decode_datagram
from strictmail.core.tlsrpt.counts import Counts

BEGAN = datetime(2025, 5, 22, 12, tzinfo=UTC)
GOOD = datagram(policy_of())
BAD = datagram(failed({"c": 201}))
TESTING = datagram(policy_of(**{"policy-string": ["mode: testing"]}))


def batch_of(datagrams: dict[bytes, int], began: datetime = BEGAN) -> Batch:
    return Batch(began, datagrams, sum(datagrams.values()), 0, 0)


def encode(batch: Batch) -> bytes:
    """What a drainer writes."""
    parts = [HEAD.pack(b"B", int(batch.began.timestamp()), len(batch.datagrams))]
    for data, times in batch.datagrams.items():
        parts += [RECORD.pack(times, len(data)), data]
    return b"".join([*parts, END.pack(b"E", batch.received, batch.oversized, batch.shed)])


BATCHES = st.builds(
    Batch,
    st.integers(0, 4 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.dictionaries(st.binary(max_size=30), st.integers(1, 2**63), max_size=4),
    st.integers(0, 2**63),
    st.integers(0, 2**63),
    st.integers(0, 2**63),
)


@given(st.lists(BATCHES, max_size=4), st.lists(st.integers(1, 40), min_size=1, max_size=10))
@pytest.mark.req("RPT-JSON-53")
def test_any_cut_of_the_stream_gives_the_same_batches(
    written: list[Batch], sizes: list[int]
) -> None:
    stream = b"".join(map(encode, written))
    assert list(BatchReader().feed(stream)) == written
    reader, found, at, turn = BatchReader(), list[Batch](), 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        found += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert found == written


def test_a_batch_counts_when_it_is_whole() -> None:
    stream = encode(batch_of({GOOD: 3, BAD: 1}))
    reader = BatchReader()
    assert list(reader.feed(stream[:-1])) == []
    (batch,) = reader.feed(stream[-1:])
    assert batch == batch_of({GOOD: 3, BAD: 1})
    assert batch.day == DAY


def test_the_day_is_that_of_utc() -> None:
    late = datetime.fromisoformat("2025-05-23T01:59:59+02:00").astimezone(UTC)
    assert batch_of({}, late).day == date(2025, 5, 22)


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (b"X" + encode(batch_of({}))[1:], "does not begin"),
        (HEAD.pack(b"B", 2**63, 0), "of no day|out of range"),
        (HEAD.pack(b"B", 2**40, 0), "of no day|out of range"),
        (HEAD.pack(b"B", 0, 1) + RECORD.pack(1, MAX_DATAGRAM_BYTES + 1), "too long"),
        (HEAD.pack(b"B", 0, 0) + END.pack(b"X", 0, 0, 0), "does not end"),
    ],
)
def test_what_no_drainer_writes(stream: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        list(BatchReader().feed(stream))


def test_a_batch_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_BYTES", 100)
    with pytest.raises(ValueError, match="without end"):
        list(BatchReader().feed(b"x" * 101))


# ---- counting ------------------------------------------------------------------------------------


@pytest.mark.req("RPT-JSON-23", "RPT-JSON-24", "RPT-JSON-53")
def test_a_batch_is_counted() -> None:
    tally, counts = Tally(), Counts()
    samples = tally.count(batch_of({GOOD: 5, BAD: 2, TESTING: 3, b"{": 4, b"": 1}), counts)
    found = counts.domain(DAY, DOMAIN)
    counted = [(of.successes, of.failures, of.unverified) for of in found.policies.values()]
    assert counted == [(5, 2, 0), (0, 0, 3)]
    assert tally.sessions == {
        ("postfix", "success"): 5,
        ("postfix", "failure"): 2,
        ("postfix", "unverified"): 3,
    }
    assert tally.counted == 10
    assert tally.rejected == {"not-json": 4, "empty": 1}
    assert [(sample.reason_code, sample.text) for sample in samples] == [
        ("not-json", "{"),
        ("empty", ""),
    ]


def test_malformed_datagrams_are_sampled_a_few_times_a_day() -> None:
    tally, counts = Tally(), Counts()
    bad = {f"bad {n}".encode(): 1 for n in range(50)} | {b'{"d":"%d"}' % n: 1 for n in range(50)}
    samples = tally.count(batch_of(bad), counts)
    assert Counter(sample.reason_code for sample in samples) == {
        "not-json": MAX_SAMPLES,
        "structure": MAX_SAMPLES,
    }
    assert tally.count(batch_of(bad), counts) == []
    next_day = BEGAN.replace(day=23)
    assert len(tally.count(batch_of(bad, next_day), counts)) == 2 * MAX_SAMPLES
    assert tally.rejected.total() == 300
    assert len(counts) == 0


def test_a_sample_is_short_and_escaped() -> None:
    (sample,) = Tally().count(batch_of({b"\x1b[31m\r\n\xff'" * 1000: 1}), Counts())
    assert sample.text.startswith("\\x1b[31m\\r\\n\\xff")
    assert sample.text.isascii()
    assert sample.text.isprintable()
    assert len(sample.text) <= 4 * SAMPLE_CHARACTERS


@pytest.mark.req("RPT-JSON-23")
def test_every_datagram_is_counted_or_rejected_whatever_it_is() -> None:
    files = sorted((Path(__file__).parents[2] / "data" / "datagrams").glob("*.jsonl"))
    rows = [json.loads(line) for path in files for line in path.read_text("utf-8").splitlines()]
    rng = random.Random(1)
    datagrams: Counter[bytes] = Counter()
    for row in rows:
        data = bytearray(row["datagram"].encode())
        datagrams[bytes(data)] += rng.randint(1, 9)
        for _ in range(5):
            data[rng.randrange(len(data))] = rng.randrange(256)
            datagrams[bytes(data)] += 1
    tally, counts = Tally(), Counts()
    tally.count(batch_of(dict(datagrams)), counts)
    assert tally.counted + tally.rejected.total() == datagrams.total()
    assert tally.counted >= len(rows)
    assert tally.counted == sum(
        told.sessions for _, _, found in counts for told in found.sources.values()
    )


def test_what_waits_for_the_store_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_UNSAVED_DOMAINS", 3)
    tally, counts = Tally(), Counts()
    many = {datagram(policy_of(9), d=f"d{n}.example"): 2 for n in range(5)}
    tally.count(batch_of(many), counts)
    assert len(counts) == 3
    assert tally.rejected == {"store-unavailable": 4}
    # Those that have a place go on.
    tally.count(batch_of(many), counts)
    assert tally.counted == 12


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (GOOD, "success"),
        (BAD, "failure"),
        (TESTING, "unverified"),
        (datagram(policy_of(9), failed({"c": 201})), "failure"),
        (datagram(policy_of(9), policy_of(**{"policy-string": ["mode: testing"]})), "success"),
    ],
)
def test_the_word_for_a_session(data: bytes, word: str) -> None:
    assert session_result(decode_datagram(data)) == word


# ---- what is remembered --------------------------------------------------------------------------


def test_a_datagram_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def decode(data: bytes) -> object:
        decoded.append(data)
        return decode_datagram(data)

    monkeypatch.setattr(batches, "decode_datagram", decode)
    memory = Memory(limit=1000)
    sessions = {memory.decode(GOOD) for _ in range(5)}
    assert len(sessions) == 1
    assert decoded == [GOOD]
    for _ in range(2):
        with pytest.raises(DatagramError):
            memory.decode(b"{")
    assert decoded == [GOOD, b"{", b"{"]


@given(st.lists(st.integers(0, 15), max_size=60))
def test_what_is_remembered_is_what_was_said_and_bounded(asked: list[int]) -> None:
    kinds = [datagram(policy_of(9), d=f"d{n}.example") for n in range(16)]
    limit = 4 * len(kinds[0])
    memory = Memory(limit=limit)
    for number in asked:
        assert memory.decode(kinds[number]) == decode_datagram(kinds[number])
        for generation in (memory._young, memory._old):
            assert sum(map(len, generation)) <= limit
