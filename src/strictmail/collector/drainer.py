# SPDX-License-Identifier: Apache-2.0
"""A process that only drains: datagrams in, counts of equal datagrams out.

Postfix sends without waiting: what does not fit into the socket's queue (by default ten
datagrams, net.unix.max_dgram_qlen) is lost. So nothing here waits for anything but the socket: no
decoding, no disk, no other thread. Most sessions to a domain give the same octets, so that what is
kept is a number for each different datagram. At least once a second it goes to the collector
through a pipe, as a batch::

    batch  = "B" seconds distinct          the wall clock when the batch began, how many follow
    record = count length octets           distinct times
    end    = "E" received oversized        totals of the process so far, to check

All numbers are unsigned 64-bit, network order. A batch never spans a UTC midnight: each record
belongs to the day of its batch.

========================  ========================================================================
what happens              what is done
========================  ========================================================================
SIGTERM                   the queue is emptied, the last batch goes out, the process ends
the collector is gone     the pipe breaks: the process ends; the queue in the kernel stays
the collector is slow     the pipe is full: batches grow instead (bounded), draining goes on
too many different ones   the batch goes out early; if it cannot, the newest are counted as shed
========================  ========================================================================

It imports nothing of strictmail, so that it is small (`python -m strictmail.collector.drainer`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from typing import Final

BATCH_SECONDS: Final = 0.5
"""Between two batches: what a power loss can take, with the collector's own half second."""

MAX_DISTINCT: Final = 20_000
"""Different datagrams in a batch; beyond, it goes out early."""

MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
"""What may wait for a slow collector, encoded; beyond, new kinds of datagrams are shed."""

BUFFER_BYTES: Final = 212_993
"""One octet more than the largest datagram that is decoded: larger ones are recognised."""

DRAIN_AT_ONCE: Final = 1024
"""Datagrams between two looks at the clock."""

SECONDS_A_DAY: Final = 86_400

NUMBER: Final = struct.Struct("!Q")
HEAD: Final = struct.Struct("!cQQ")
END: Final = struct.Struct("!cQQQ")


class Drainer:
    """The loop.

    Args:
        source: The datagram socket, non-blocking.
        sink: File descriptor of the pipe, non-blocking.
    """

    def __init__(self, source: socket.socket, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._buffer = bytearray(BUFFER_BYTES)
        self._counts: dict[bytes, int] = {}
        self._pending: deque[memoryview] = deque()
        self._pending_bytes = 0
        self._began = 0.0
        self._stopping = False
        self.received = 0
        self.oversized = 0
        self.shed = 0

    def stop(self, *_: object) -> None:
        """Empty the queue, hand over, end (the handler of SIGTERM)."""
        self._stopping = True

    def run(self) -> None:
        """Drain until stopped, or until nobody reads the pipe any more."""
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        next_batch = time.monotonic() + BATCH_SECONDS
        while not self._stopping:
            self._watch_sink(poll)
            wait = max(0.0, next_batch - time.monotonic()) if self._counts else BATCH_SECONDS
            poll.poll(wait * 1000)
            self.drain()
            if self._counts and (
                time.monotonic() >= next_batch or len(self._counts) >= MAX_DISTINCT
            ):
                self.finish_batch()
            if not self._counts:
                next_batch = time.monotonic() + BATCH_SECONDS
            if not self.write_pending():
                return
        self.drain()
        self.finish_batch()
        self._write_rest()

    def _watch_sink(self, poll: select.poll) -> None:
        with contextlib.suppress(KeyError):
            poll.unregister(self._sink)
        if self._pending:
            poll.register(self._sink, select.POLLOUT)
        else:
            # Only whether it breaks.
            poll.register(self._sink, 0)

    def drain(self) -> None:
        """Count what is in the queue, until it is empty or a day or a batch is full."""
        while self._drain_some():
            if len(self._counts) >= MAX_DISTINCT or self._day_has_changed():
                self.finish_batch()
            if self._pending and not self.write_pending():
                return

    def _drain_some(self) -> bool:
        """Count up to DRAIN_AT_ONCE datagrams; False when the queue is empty."""
        if self._day_has_changed():
            self.finish_batch()
        if not self._counts:
            self._began = time.time()
        counts, buffer, receive = self._counts, self._buffer, self._source.recv_into
        view = memoryview(buffer)
        full = self._pending_bytes > MAX_PENDING_BYTES
        for number in range(DRAIN_AT_ONCE):
            try:
                size = receive(buffer)
            except (BlockingIOError, InterruptedError):
                self.received += number
                return False
            if size == BUFFER_BYTES:
                self.oversized += 1
                continue
            key = bytes(view[:size])
            known = counts.get(key)
            if known is not None:
                counts[key] = known + 1
            elif full:
                self.shed += 1
            else:
                counts[key] = 1
        self.received += DRAIN_AT_ONCE
        return True

    def _day_has_changed(self) -> bool:
        if not self._counts:
            return False
        return time.time() // SECONDS_A_DAY != self._began // SECONDS_A_DAY

    def finish_batch(self) -> None:
        """Encode what was counted and put it behind what waits for the pipe."""
        if self._pending_bytes > MAX_PENDING_BYTES and not self._day_has_changed():
            return
        counts, self._counts = self._counts, {}
        parts = [HEAD.pack(b"B", int(self._began), len(counts))]
        for datagram, count in counts.items():
            parts += (NUMBER.pack(count), NUMBER.pack(len(datagram)), datagram)
        parts.append(END.pack(b"E", self.received, self.oversized, self.shed))
        data = memoryview(b"".join(parts))
        self._pending.append(data)
        self._pending_bytes += len(data)

    def write_pending(self) -> bool:
        """Write what the pipe takes; False when nobody reads it any more."""
        while self._pending:
            try:
                written = os.write(self._sink, self._pending[0])
            except (BlockingIOError, InterruptedError):
                return True
            except OSError:
                self._stopping = True
                return False
            self._pending_bytes -= written
            if written == len(self._pending[0]):
                self._pending.popleft()
            else:
                self._pending[0] = self._pending[0][written:]
        return True

    def _write_rest(self) -> None:
        os.set_blocking(self._sink, True)
        self.write_pending()


def main(arguments: list[str]) -> int:
    """Drain the socket of one descriptor into the pipe of another."""
    source_fd, sink = map(int, arguments)
    source = socket.socket(fileno=source_fd)
    source.settimeout(0)
    os.set_blocking(sink, False)
    drainer = Drainer(source, sink)
    signal.signal(signal.SIGTERM, drainer.stop)
    # Ctrl-C goes to the whole process group: the collector says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    drainer.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
