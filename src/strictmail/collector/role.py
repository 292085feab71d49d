# SPDX-License-Identifier: Apache-2.0
"""The collector: drainers feed it, the store keeps what it counts.

For each socket there is a drainer process (`strictmail.collector.drainer`). Its batches are
decoded and added to the store by a worker thread, one transaction for what has come since the
last; the event loop only reads pipes.

=============================  ===================================================================
what happens                   what is done
=============================  ===================================================================
the store cannot be written    what was counted stays in memory and goes with the next batch; the
                               log says so once, `strictmail_sessions_unsaved` says how many
a drainer ends by itself       another one is started, again and again if need be; the socket
                               stays, so that the kernel's queue is all that can overflow in
                               between; `/readyz` says so while there is none
SIGTERM                        drainers empty their queues, everything is committed, then the end:
                               nothing is lost
batches come faster than       drainers are not read meanwhile: there a batch grows (bounded), and
they are counted               equal datagrams cost nothing
the process is killed          at most the batch under way is lost: a second of sessions; the
                               kernel's queue stays with whoever else holds the socket
a successor takes over         both drain the same queue until this one stops: each datagram is
                               counted by one of them
=============================  ===================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from strictmail.collector.batches import BatchReader, Tally
from strictmail.core.errors import StoreError
from strictmail.core.tlsrpt.counts import Counts

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence
    from datetime import date

    from strictmail.collector.batches import Batch
    from strictmail.core.tlsrpt.session import Session, Source
    from strictmail.ports import Clock
    from strictmail.store.sessions import SessionStore

RETRY_SECONDS: Final = 5.0
"""Before a store that could not be written is tried again."""

DRAIN_SECONDS: Final = 5.0
"""Without an octet from a drainer that was told to stop, how long until it is ended."""

MAX_WAITING_BATCHES: Final = 4
"""Beyond, drainers are not read until some are counted: equal datagrams cost nothing there."""

RESTART_SECONDS: Final = 1.0
"""Between two starts of a drainer that does not stay."""

PIPE_BYTES: Final = 1024 * 1024
"""Asked of the kernel for each pipe: a drainer should never have to wait."""

READ_BYTES: Final = 256 * 1024


class EventSink(Protocol):
    """Where events are logged."""

    def emit(self, name: str, /, **fields: Any) -> None:
        """Log one."""
        ...


@dataclass(slots=True)
class _Numbers:
    """What drainers have counted; see `strictmail.collector.batches.Batch`."""

    received: int = 0
    oversized: int = 0
    shed: int = 0

    def add(self, other: _Numbers) -> None:
        self.received += other.received
        self.oversized += other.oversized
        self.shed += other.shed


@dataclass(slots=True)
class _Drained:
    """One socket and the process that drains it."""

    identity: str
    source: socket.socket
    reader: BatchReader = field(default_factory=BatchReader)
    process: asyncio.subprocess.Process | None = None
    pipe: int = -1
    told: asyncio.Event = field(default_factory=asyncio.Event)
    """It has written something, or ended: told to stop before that, it would lose its queue."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    supervisor: asyncio.Task[None] | None = None
    stopping: bool = False
    paused: bool = False
    """Not read for the moment."""
    octets: int = 0
    """Read from it, and from those before it."""
    now: _Numbers = field(default_factory=_Numbers)
    """Of the process that runs."""
    before: _Numbers = field(default_factory=_Numbers)
    """Of those before it."""


@dataclass(frozen=True, slots=True)
class ToldSession:
    """A session that somebody told of in words.

    Attributes:
        day: The UTC day in which it happened.
        session: What it showed.
        times: How many were alike.
    """

    day: date
    session: Session
    times: int = 1


class Collector:
    """Counts sessions.

    Args:
        store: Where counts go.
        sockets: The datagram sockets by the identity that reports what comes there; they stay
            the caller's to close, once their drainer has ended.
        clock: The time, for those who tell of sessions.
        events: The log.
    """

    def __init__(
        self,
        store: SessionStore,
        sockets: Sequence[tuple[str, socket.socket]],
        *,
        clock: Clock,
        events: EventSink,
    ) -> None:
        self.store = store
        self.tally = Tally()
        self.restarts = 0
        self.commits = 0
        self.store_failing = False
        self.clock = clock
        self._events = events
        self._numbers_before = _Numbers()
        self._drained = [_Drained(identity, source) for identity, source in sockets]
        self._fresh: dict[str, Counts] = {}
        self._batches: list[tuple[str, Batch]] = []
        self._wake = asyncio.Event()
        self._stop_wanted = asyncio.Event()
        self._committer: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    # ---- life ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the drainers; when it returns, datagrams are drained."""
        for drained in self._drained:
            await self._start_drainer(drained)
            drained.supervisor = asyncio.create_task(self._supervise(drained))
        self._committer = asyncio.create_task(self._commit_on())

    async def stop(self) -> None:
        """Empty the queues, commit everything, end the drainers."""
        self._stop_wanted.set()
        for drained in self._drained:
            drained.stopping = True
            self._tell_to_stop(drained)
        for drained in self._drained:
            await self._see_end(drained)
        if self._committer is not None:
            self._wake.set()
            await self._committer

    @staticmethod
    def _tell_to_stop(drained: _Drained) -> None:
        if drained.process is not None:
            with contextlib.suppress(ProcessLookupError):
                drained.process.send_signal(signal.SIGTERM)

    @staticmethod
    async def _see_end(drained: _Drained) -> None:
        """Wait for a drainer's end, as long as anything comes from it."""
        if drained.supervisor is None:
            return
        octets = -1
        while not (await asyncio.wait([drained.supervisor], timeout=DRAIN_SECONDS))[0]:
            # One that is not read has to wait for the store.
            if drained.octets == octets and not drained.paused and drained.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    drained.process.kill()
            octets = drained.octets
        await drained.supervisor

    async def replace_sockets(self, sockets: Sequence[tuple[str, socket.socket]]) -> None:
        """Drain these from now on: new ones first; then those that are gone are emptied."""
        kept = [d for d in self._drained if (d.identity, d.source) in sockets]
        gone = [d for d in self._drained if d not in kept]
        known = [(d.identity, d.source) for d in kept]
        for identity, source in sockets:
            if (identity, source) not in known:
                drained = _Drained(identity, source)
                await self._start_drainer(drained)
                drained.supervisor = asyncio.create_task(self._supervise(drained))
                self._drained.append(drained)
        for drained in gone:
            drained.stopping = True
            self._tell_to_stop(drained)
        for drained in gone:
            await self._see_end(drained)
            self._drained.remove(drained)
            self._numbers_before.add(drained.before)
            self._numbers_before.add(drained.now)

    def is_alive(self) -> bool:
        """Whether the committing goes on."""
        return self._committer is not None and not self._committer.done()

    async def _start_drainer(self, drained: _Drained) -> None:
        reading, writing = os.pipe()
        try:
            os.set_blocking(reading, False)
            with contextlib.suppress(OSError, AttributeError):
                import fcntl

                fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            source = drained.source.fileno()
            drained.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "strictmail.collector.drainer",
                str(source),
                str(writing),
                pass_fds=(source, writing),
                stdin=asyncio.subprocess.DEVNULL,
                env=_environment(),
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        drained.pipe = reading
        drained.reader = BatchReader()
        drained.told.clear()
        drained.ended.clear()
        drained.before.add(drained.now)
        drained.now = _Numbers()
        asyncio.get_running_loop().add_reader(reading, self._read, drained)
        await drained.told.wait()

    async def _supervise(self, drained: _Drained) -> None:
        """Keep one drainer running; after `stop`, see it end."""
        while True:
            await drained.ended.wait()
            assert drained.process is not None
            code = await drained.process.wait()
            if drained.stopping:
                return
            self.restarts += 1
            self._events.emit("drainer-ended", exit_code=code)
            while drained.ended.is_set():
                await asyncio.sleep(RESTART_SECONDS)
                if drained.stopping:
                    return
                # Where there is no memory for a process now, there may be some in a second.
                with contextlib.suppress(OSError):
                    await self._start_drainer(drained)

    def _read(self, drained: _Drained) -> None:
        if len(self._batches) >= MAX_WAITING_BATCHES:
            asyncio.get_running_loop().remove_reader(drained.pipe)
            drained.paused = True
            return
        try:
            data = os.read(drained.pipe, READ_BYTES)
        except BlockingIOError:
            return
        drained.told.set()
        drained.octets += len(data)
        if not data:
            self._close_pipe(drained)
            return
        try:
            for batch in drained.reader.feed(data):
                drained.now = _Numbers(batch.received, batch.oversized, batch.shed)
                self._batches.append((drained.identity, batch))
        except ValueError as error:
            self._events.emit("internal-error", where="drainer", error=str(error))
            self._close_pipe(drained)
        self._wake.set()

    def _read_on(self) -> None:
        """There is room for batches again."""
        for drained in self._drained:
            if drained.paused:
                drained.paused = False
                asyncio.get_running_loop().add_reader(drained.pipe, self._read, drained)

    def _close_pipe(self, drained: _Drained) -> None:
        asyncio.get_running_loop().remove_reader(drained.pipe)
        os.close(drained.pipe)
        drained.ended.set()

    # ---- counting -----------------------------------------------------------------------

    async def add(
        self,
        told: Sequence[ToldSession],
        *,
        source: Source,
        identity: str = "",
        key: bytes | None = None,
    ) -> bool:
        """Count sessions that did not come as datagrams, all or none; stored on return.

        Args:
            told: The sessions.
            source: Who tells of them.
            identity: Who reports them.
            key: A name of this call: told again under it, nothing is counted again.

        Returns:
            Whether they were counted now; False if they had been before.

        Raises:
            StoreUnavailableError: None of them was counted.
        """
        counts = Counts()
        for one in told:
            counts.add(one.day, one.session, one.times, source)
        if key is None:
            await asyncio.to_thread(self.store.add, counts, identity)
        else:
            day = max(one.day for one in told)
            if not await asyncio.to_thread(
                self.store.import_once, str(source), key, day, counts, identity
            ):
                return False
        for one in told:
            self.tally.note(source, one.session, one.times)
        return True

    async def _commit_on(self) -> None:
        while not (self._stop_wanted.is_set() and not self._batches and self._all_ended()):
            await self._wake.wait()
            self._wake.clear()
            if self.store_failing:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_SECONDS):
                        await self._stop_wanted.wait()
            await self.commit()
            if self.unsaved and not self._stop_wanted.is_set():
                self._wake.set()

    def _all_ended(self) -> bool:
        return all(drained.ended.is_set() or drained.pipe < 0 for drained in self._drained)

    async def commit(self) -> None:
        """Decode and store what has come; on failure it stays for the next time."""
        async with self._lock:
            batches, self._batches = self._batches, []
            self._read_on()
            if not batches and not self._fresh:
                return
            try:
                await asyncio.to_thread(self._commit, batches)
            except StoreError as error:
                if not self.store_failing:
                    self._events.emit("session-store-unavailable", error=str(error))
                self.store_failing = True
            else:
                if self.store_failing:
                    self._events.emit("session-store-recovered")
                self.store_failing = False
                self.commits += 1

    def _commit(self, batches: list[tuple[str, Batch]]) -> None:
        for identity, batch in batches:
            if not batch.datagrams:
                continue  # a drainer has started
            counts = self._fresh.setdefault(identity, Counts())
            for sample in self.tally.count(batch, counts):
                self._events.emit(
                    "datagram-refused",
                    reason=sample.reason_code,
                    error=sample.message,
                    datagram=sample.text,
                )
        if self.store_failing and not self._fresh:
            self.store.add(Counts())  # to see whether it can be written again
        for identity in list(self._fresh):
            self.store.add(self._fresh[identity], identity)
            del self._fresh[identity]

    # ---- numbers ------------------------------------------------------------------------

    @property
    def unsaved(self) -> int:
        """Domains with counts that are not in the store yet."""
        return sum(map(len, self._fresh.values()))

    @property
    def undrained(self) -> int:
        """Sockets that no process drains now."""
        return sum(drained.ended.is_set() and not drained.stopping for drained in self._drained)

    @property
    def received(self) -> int:
        """Datagrams received since the start."""
        return self._numbers().received

    @property
    def rejected(self) -> Mapping[str, int]:
        """Datagrams that were not counted, by reason."""
        numbers = self._numbers()
        return {
            **self.tally.rejected,
            "too-large": numbers.oversized + self.tally.rejected["too-large"],
            "shed": numbers.shed,
        }

    def _numbers(self) -> _Numbers:
        total = _Numbers()
        total.add(self._numbers_before)
        for drained in self._drained:
            total.add(drained.before)
            total.add(drained.now)
        return total


def _environment() -> dict[str, str]:
    """For the drainer: our own, and where strictmail is, if not among the installed packages."""
    from pathlib import Path

    import strictmail

    source = str(Path(strictmail.__file__).resolve().parent.parent)
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{others}" if others else source}
