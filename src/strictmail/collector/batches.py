# SPDX-License-Identifier: Apache-2.0
"""From batches of raw datagrams to counts: each different datagram is decoded once.

What it said is remembered for the batches to come.
What cannot be counted is counted as such, by reason, and sampled: the first few of each reason a
day are worth a look, the others would only fill the log.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

from strictmail.collector.drainer import END, HEAD, NUMBER
from strictmail.core.errors import DatagramError
from strictmail.core.mta.datagram import MAX_DATAGRAM_BYTES, decode_datagram
from strictmail.core.tlsrpt.session import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.core.tlsrpt.counts import Counts
    from strictmail.core.tlsrpt.session import ReportedPolicy, Session

MAX_SAMPLES: Final = 5
"""Malformed datagrams of each reason and day whose text is logged."""

SAMPLE_CHARACTERS: Final = 200

MAX_REMEMBERED_BYTES: Final = 16 * 1024 * 1024
"""Octets of datagrams in each of the two generations that are remembered; what is made of them
takes about twice as much again."""

MAX_UNSAVED_DOMAINS: Final = 50_000
"""Domains and days whose counts wait for a store that cannot be written; more are refused."""

MAX_BATCH_BYTES: Final = 256 * 1024 * 1024
"""A drainer bounds itself far below; a larger batch is no batch."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A malformed datagram: why, and how it began (escaped)."""

    reason_code: str
    message: str
    text: str


@dataclass(slots=True)
class Batch:
    """What a drainer handed over.

    Attributes:
        began: When the first datagram of it came; UTC.
        datagrams: How often each came.
        received: Datagrams that the drainer has received since it started.
        oversized: Those that were larger than any that is decoded.
        shed: Those that it could not keep.
    """

    began: datetime
    datagrams: dict[bytes, int]
    received: int
    oversized: int
    shed: int

    @property
    def day(self) -> date:
        """The UTC day that all of it belongs to."""
        # RFC 8460 §4.1: the day in which it happened (RPT-JSON-53).
        return self.began.date()


class Memory:
    """Sessions by their datagram: those of the last ones, bounded.

    Two generations: what is found in the older one comes into the younger; when that is full, it
    becomes the older one, and what nobody has asked for is gone.

    Args:
        limit: Octets of datagrams in each generation.
    """

    def __init__(self, limit: int = MAX_REMEMBERED_BYTES) -> None:
        self._limit = limit
        self._young: dict[bytes, Session] = {}
        self._old: dict[bytes, Session] = {}
        self._young_bytes = 0
        self._policies: dict[ReportedPolicy, ReportedPolicy] = {}

    def decode(self, datagram: bytes) -> Session:
        """What a datagram says.

        Raises:
            DatagramError: Nothing in it can be counted; that is not remembered.
        """
        session = self._young.get(datagram)
        if session is not None:
            return session
        session = self._old.get(datagram) or self._share(decode_datagram(datagram))
        self._young_bytes += len(datagram)
        if self._young_bytes > self._limit:
            self._young, self._old = {}, self._young
            self._young_bytes = len(datagram)
            self._policies = {}
        self._young[datagram] = session
        return session

    def _share(self, session: Session) -> Session:
        """The same session with a policy that others have too: one value, found without a look."""
        judged = tuple(
            replace(one, policy=self._policies.setdefault(one.policy, one.policy))
            for one in session.policies
        )
        return replace(session, policies=judged)


@dataclass(slots=True)
class Tally:
    """What came of sessions since the start; plain numbers for the metrics.

    Attributes:
        sessions: Those that were counted, by source and result (`session_result`).
        rejected: Datagrams that were not, by reason code.
    """

    sessions: Counter[tuple[str, str]] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    _samples: Counter[tuple[date, str]] = field(default_factory=Counter)
    _memory: Memory = field(default_factory=Memory)

    @property
    def counted(self) -> int:
        """All sessions that were counted."""
        return sum(self.sessions.values())

    def note(self, source: Source, session: Session, times: int) -> None:
        """Count a session for the metrics."""
        self.sessions[str(source), session_result(session)] += times

    def count(self, batch: Batch, counts: Counts) -> list[Sample]:
        """Decode a batch into counts.

        Args:
            batch: Of one day.
            counts: Where to; what waits there for the store bounds what is taken.

        Returns:
            Samples for the log.
        """
        samples = []
        for datagram, times in batch.datagrams.items():
            try:
                session = self._memory.decode(datagram)
            except DatagramError as error:
                self.rejected[error.reason_code] += times
                if self._wants_sample(batch.day, error.reason_code):
                    text = ascii(datagram[:SAMPLE_CHARACTERS])[2:-1]
                    samples.append(Sample(error.reason_code, str(error), text))
                continue
            if len(counts) >= MAX_UNSAVED_DOMAINS and not counts.has(batch.day, session.domain):
                self.rejected["store-unavailable"] += times
                continue
            self.note(Source.POSTFIX, session, times)
            counts.add(batch.day, session, times)
        return samples

    def _wants_sample(self, day: date, reason_code: str) -> bool:
        if self._samples and next(iter(self._samples))[0] != day:
            self._samples.clear()
        self._samples[day, reason_code] += 1
        return self._samples[day, reason_code] <= MAX_SAMPLES


def session_result(session: Session) -> str:
    """One word for a session: `failure` if it failed any policy; `unverified` if none was judged."""
    if any(not judged.succeeded for judged in session.policies):
        return "failure"
    return "success" if session.policies else "unverified"


class BatchReader:
    """Reads a drainer's pipe, piece by piece."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._batch: Batch | None = None
        self._left = 0

    def feed(self, data: bytes) -> Iterator[Batch]:
        """Take what came; yields the batches that are whole now.

        Raises:
            ValueError: Not what a drainer writes; end it and start another.
        """
        self._buffer += data
        if len(self._buffer) > MAX_BATCH_BYTES:
            raise ValueError("a batch without end")
        position = 0
        while True:
            step = self._step(position)
            if step is None:
                break
            position, batch = step
            if batch is not None:
                yield batch
        del self._buffer[:position]

    def _step(self, position: int) -> tuple[int, Batch | None] | None:
        """One item further, or None until more has come."""
        try:
            if self._batch is None:
                return self._read_head(position), None
            if self._left:
                return self._read_record(position, self._batch)
            return self._read_end(position, self._batch)
        except struct.error:
            return None

    def _read_head(self, position: int) -> int:
        mark, began, self._left = HEAD.unpack_from(self._buffer, position)
        if mark != b"B":
            raise ValueError("a batch does not begin where it should")
        try:
            self._batch = Batch(datetime.fromtimestamp(began, UTC), {}, 0, 0, 0)
        except (OverflowError, OSError) as error:
            raise ValueError("a batch of no day") from error
        return position + HEAD.size

    def _read_record(self, position: int, batch: Batch) -> tuple[int, None] | None:
        (times,) = NUMBER.unpack_from(self._buffer, position)
        (length,) = NUMBER.unpack_from(self._buffer, position + NUMBER.size)
        if length > MAX_DATAGRAM_BYTES:
            raise ValueError("a datagram that is too long")
        start = position + 2 * NUMBER.size
        if len(self._buffer) < start + length:
            return None
        datagram = bytes(self._buffer[start : start + length])
        batch.datagrams[datagram] = batch.datagrams.get(datagram, 0) + times
        self._left -= 1
        return start + length, None

    def _read_end(self, position: int, batch: Batch) -> tuple[int, Batch]:
        mark, batch.received, batch.oversized, batch.shed = END.unpack_from(self._buffer, position)
        if mark != b"E":
            raise ValueError("a batch does not end where it should")
        self._batch = None
        return position + END.size, batch
