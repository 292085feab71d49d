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

The first batch is empty: it says that the process is there. All numbers are unsigned 64-bit, network
order. A batch never spans a UTC midnight: each record belongs to the day of its batch.

========================  ========================================================================
what happens              what is done
========================  ========================================================================
SIGTERM                   the queue is emptied, the last batch goes out, the process ends; a sender
                          that never pauses keeps it for STOP_SECONDS, and what comes after that
                          stays in the kernel for whoever drains next
the collector is gone     the pipe breaks: the process ends; the queue in the kernel stays
the collector is slow     the pipe is full: the batch grows instead, draining goes on
too many different ones   the batch goes out early; behind one that waits it grows up to
                          MAX_PENDING_BYTES, then new kinds are counted as shed
========================  ========================================================================

Being woken for each datagram costs more than counting it. Where the queue is long it is emptied in
one go, every NAP_SECONDS. The kernel's setting is not enough to know: a socket keeps the length
that it was made with. Where the setting says so, the drainer puts datagrams of its own into it, which
are never counted: if all of them come back, they were in it at the same time. In a hand-over the
predecessor takes some; then it is measured again later.

It imports nothing of strictmail, so that it is small (`python -m strictmail.collector.drainer`).
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final

BATCH_SECONDS: Final = 0.75
"""Between two batches: with what the collector takes to commit one, a power loss takes a second."""

MAX_DISTINCT: Final = 50_000
"""Different datagrams in a batch; beyond, it goes out early."""

MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
"""What may be kept for a slow collector; beyond, new kinds of datagrams are shed."""

KIND_BYTES: Final = 100
"""What a kept kind costs beside its octets, roughly."""

BUFFER_BYTES: Final = 212_993
"""One octet more than the largest datagram that is decoded: larger ones are recognised."""

WAIT_SECONDS: Final = 0.1
"""Without a datagram, how long until the next look at the clock and the pipe."""

WRITE_SECONDS: Final = 0.005
"""While something waits for the pipe, how long until the next look at it: a pipe holds a MiB."""

LONG_QUEUE: Final = 256
"""Datagrams that have to fit into the queue, so that it may be left alone for a nap."""

NAP_SECONDS: Final = 0.004
"""Between two looks into a long queue: it would overflow at 64,000 datagrams a second."""

MANY: Final = LONG_QUEUE // 4
"""Datagrams found after a nap that are too many for another one."""

AWAKE_SECONDS: Final = 0.1
"""Without a nap after so many."""

PROBE: Final = b"\0strictmail: how long is this queue? "
"""How a datagram begins that measures: no JSON, and never counted, whoever sent it."""

MEASURE_SECONDS: Final = 60.0
"""Before a queue is measured again that somebody else drains as well."""

QUEUE_SETTING: Final = Path("/proc/sys/net/unix/max_dgram_qlen")

PROBE_SEND_BYTES: Final = 1024 * 1024
"""Asked of the kernel, so that the queue is what ends the measuring, not the sender's buffer."""

NICE: Final = -10
"""Priority, where it may be had: a short queue overflows while the processor is somebody else's."""

STOP_SECONDS: Final = 1.0
"""What emptying the queue may take at the end, if a sender never pauses: far more than the longest
queue needs, and less than the collector waits."""

SECONDS_A_DAY: Final = 86_400

NUMBER: Final = struct.Struct("!Q")
RECORD: Final = struct.Struct("!QQ")
HEAD: Final = struct.Struct("!cQQ")
END: Final = struct.Struct("!cQQQ")


class Drainer:
    """The loop.

    Args:
        source: The datagram socket; it is made to wait for WAIT_SECONDS at most.
        sink: File descriptor of the pipe, non-blocking.
    """

    def __init__(self, source: socket.socket, sink: int) -> None:
        source.settimeout(None)
        wait = struct.pack("@ll", 0, int(WAIT_SECONDS * 1_000_000))
        source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)
        self._source = source
        self._sink = sink
        self._buffer = bytearray(BUFFER_BYTES)
        self._counts: dict[bytes, int] = {}
        self._pending: deque[memoryview] = deque()
        self._pending_bytes = 0
        self._kept_bytes = 0
        self._began = 0.0
        self._day = 0.0
        self._stopping = False
        self._may_nap = False
        self._token = PROBE + os.urandom(8)
        self._came_back = 0
        self.received = 0
        self.oversized = 0
        self.shed = 0

    def stop(self, *_: object) -> None:
        """Empty the queue, hand over, end (the handler of SIGTERM)."""
        self._stopping = True

    def run(self) -> None:
        """Drain until stopped, or until nobody reads the pipe any more."""
        # An empty batch tells the collector that SIGTERM is understood from now on.
        self._began = time.time()
        self.finish_batch()
        self.write_pending()
        next_measuring = time.monotonic() if is_setting_long() else math.inf
        next_batch = time.monotonic() + BATCH_SECONDS
        while not self._stopping:
            if time.monotonic() >= next_measuring:
                is_long = self.is_queue_long()
                self._may_nap = is_long is True
                next_measuring = math.inf
                if is_long is None:
                    next_measuring = time.monotonic() + MEASURE_SECONDS
            if not self._wait_and_drain(next_batch):
                # Nobody reads the pipe any more: what is in the queue is for the next process.
                return
            is_due = time.monotonic() >= next_batch or len(self._counts) >= MAX_DISTINCT
            # Behind a batch that waits, equal datagrams cost nothing in this one.
            if self._counts and is_due and not self._pending:
                self.finish_batch()
            if is_due or not self._counts:
                next_batch = time.monotonic() + BATCH_SECONDS
            if not self.write_pending():
                return
        self.drain(time.monotonic() + STOP_SECONDS)
        self._write_rest()

    def _wait_and_drain(self, until: float) -> bool:
        """Count what comes until an instant, or for a while; False when the pipe is broken."""
        poll = select.poll()
        poll.register(self._sink, select.POLLOUT if self._pending else 0)
        if self._pending:
            poll.register(self._source, select.POLLIN)
        happened = dict(poll.poll(WAIT_SECONDS * 1000 if self._pending else 0))
        if happened.get(self._sink, 0) & (select.POLLERR | select.POLLHUP):
            return False
        if self._pending:
            self.drain(min(until, time.monotonic() + WRITE_SECONDS))
        elif self._may_nap:
            self._drain_with_naps(until)
        else:
            # At a few thousand a second each datagram is a wait of its own: waiting in the call
            # that receives costs half of what asking first does.
            self._count(0, until)
        return True

    def _drain_with_naps(self, until: float) -> None:
        """Empty the queue again and again until an instant; wait for one when nothing comes."""
        while True:
            before = self.received
            self.drain(until)
            found = self.received - before
            if not found:
                # Without an instant to wait for: one datagram, or none for WAIT_SECONDS.
                self._count(0, -math.inf)
                return
            if time.monotonic() >= until:
                return
            if found >= MANY:
                self._count(0, min(until, time.monotonic() + AWAKE_SECONDS))
            else:
                time.sleep(NAP_SECONDS)

    def is_queue_long(self) -> bool | None:
        """Whether the queue has room for LONG_QUEUE datagrams; it is empty afterwards.

        Returns:
            None if somebody else drained it meanwhile, so that nothing is known.
        """
        self.drain(time.monotonic() + STOP_SECONDS)
        self._came_back = 0
        is_full = not self._send_probes()
        self.drain(time.monotonic() + STOP_SECONDS)
        if is_full or not self._came_back:
            # Nothing came back: the path is somebody else's socket by now.
            return False
        return True if self._came_back == LONG_QUEUE else None

    def _send_probes(self) -> bool:
        """Put LONG_QUEUE datagrams into the queue; whether all of them found room."""
        with socket.socket(self._source.family, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0)
            try:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PROBE_SEND_BYTES)
                sender.connect(self._source.getsockname())
                for _ in range(LONG_QUEUE):
                    sender.send(self._token)
            except OSError:
                # Full before that; or the path of the socket is gone, or not for us.
                return False
        return True

    def drain(self, until: float = math.inf) -> None:
        """Count what is in the queue, until it is empty or an instant has come."""
        self._count(socket.MSG_DONTWAIT, until)

    def _count(self, flags: int, until: float) -> None:
        """Count datagrams until there is none (after WAIT_SECONDS, if `flags` let it wait)."""
        receive, buffer = self._source.recv_into, self._buffer
        clock, wall = time.monotonic, time.time
        view = memoryview(buffer)
        while True:
            try:
                size = receive(buffer, 0, flags)
            except (BlockingIOError, InterruptedError):
                return
            now = wall()
            counts = self._counts
            if not counts or now // SECONDS_A_DAY != self._day:
                counts = self._open_batch(now)
            self.received += 1
            datagram = bytes(view[:size])
            known = counts.get(datagram)
            if known is None:
                self._count_first(datagram)
            else:
                counts[datagram] = known + 1
            if clock() >= until:
                return

    def _open_batch(self, now: float) -> dict[bytes, int]:
        """The counts that a datagram of now belongs to."""
        if self._counts:
            self.finish_batch()
        self._began, self._day = now, now // SECONDS_A_DAY
        return self._counts

    def _count_first(self, datagram: bytes) -> None:
        if datagram.startswith(PROBE):
            self.received -= 1
            self._came_back += datagram == self._token
        elif len(datagram) == BUFFER_BYTES:
            self.oversized += 1
        elif self._pending_bytes + self._kept_bytes > MAX_PENDING_BYTES:
            self.shed += 1
        else:
            self._counts[datagram] = 1
            self._kept_bytes += len(datagram) + KIND_BYTES
            if len(self._counts) >= MAX_DISTINCT and not self._pending:
                self.finish_batch()
                self.write_pending()

    def finish_batch(self) -> None:
        """Encode what was counted and put it behind what waits for the pipe."""
        counts, self._counts = self._counts, {}
        self._kept_bytes = 0
        parts = [HEAD.pack(b"B", int(self._began), len(counts))]
        for datagram, count in counts.items():
            parts += (RECORD.pack(count, len(datagram)), datagram)
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
        self.finish_batch()
        self.write_pending()


def is_setting_long() -> bool:
    """Whether a socket that is made now has a long queue."""
    try:
        return int(QUEUE_SETTING.read_text("ascii")) >= LONG_QUEUE
    except (OSError, ValueError):
        return False


def main(arguments: list[str]) -> int:
    """Drain the socket of one descriptor into the pipe of another."""
    source_fd, sink = map(int, arguments)
    source = socket.socket(fileno=source_fd)
    os.set_blocking(sink, False)
    drainer = Drainer(source, sink)
    signal.signal(signal.SIGTERM, drainer.stop)
    # Ctrl-C goes to the whole process group: the collector says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    drainer.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
