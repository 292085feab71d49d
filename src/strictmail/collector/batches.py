# SPDX-License-Identifier: Apache-2.0
"""From batches of raw datagrams to counts: each different datagram is decoded once.

What cannot be counted is counted as such, by reason, and sampled: the first few of each reason a
day are worth a look, the others would only fill the log.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

from strictmail.collector.drainer import END, HEAD, NUMBER
from strictmail.core.errors import DatagramError
from strictmail.core.mta.datagram import MAX_DATAGRAM_BYTES, decode_datagram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.core.tlsrpt.counts import Counts

MAX_SAMPLES: Final = 5
"""Malformed datagrams of each reason and day whose text is logged."""

SAMPLE_CHARACTERS: Final = 200

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


@dataclass(slots=True)
class Tally:
    """What came of datagrams since the start; plain numbers for the metrics.

    Attributes:
        counted: Sessions that were counted.
        unverified: Judgements left out since nobody verified them.
        rejected: By reason code.
    """

    counted: int = 0
    unverified: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    _samples: Counter[tuple[date, str]] = field(default_factory=Counter)

    def count(self, batch: Batch, counts: Counts) -> list[Sample]:
        """Decode a batch into counts.

        Args:
            batch: Of one day.
            counts: Where to.

        Returns:
            Samples for the log.
        """
        samples = []
        for datagram, times in batch.datagrams.items():
            try:
                session = decode_datagram(datagram)
            except DatagramError as error:
                self.rejected[error.reason_code] += times
                if self._wants_sample(batch.day, error.reason_code):
                    text = ascii(datagram[:SAMPLE_CHARACTERS])[2:-1]
                    samples.append(Sample(error.reason_code, str(error), text))
                continue
            self.counted += times
            self.unverified += times * len(session.unverified)
            counts.add(batch.day, session, times)
        return samples

    def _wants_sample(self, day: date, reason_code: str) -> bool:
        if self._samples and next(iter(self._samples))[0] != day:
            self._samples.clear()
        self._samples[day, reason_code] += 1
        return self._samples[day, reason_code] <= MAX_SAMPLES


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
