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
a drainer ends by itself       another one is started at once; the socket stays, so that the
                               kernel's queue is all that can overflow in between
SIGTERM                        drainers empty their queues, everything is committed, then the end:
                               nothing is lost
the process is killed          at most the batch under way is lost: a second of sessions
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

    from strictmail.collector.batches import Batch
    from strictmail.core.tlsrpt.session import Session
    from strictmail.ports import Clock
    from strictmail.store.sessions import SessionStore

RETRY_SECONDS: Final = 5.0
"""Before a store that could not be written is tried again."""

DRAIN_SECONDS: Final = 5.0
"""What a drainer may take to empty its queue when it is told to stop."""

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
class _Drained:
    """One socket and the process that drains it."""

    identity: str
    source: socket.socket
    reader: BatchReader = field(default_factory=BatchReader)
    process: asyncio.subprocess.Process | None = None
    pipe: int = -1
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    supervisor: asyncio.Task[None] | None = None
    oversized: int = 0
    shed: int = 0
    received: int = 0
    received_before: int = 0


class Collector:
    """Counts sessions.

    Args:
        store: Where counts go.
        sockets: The datagram sockets by the identity that reports what comes there.
        clock: For the day of sessions that do not come as datagrams.
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
        self._clock = clock
        self._events = events
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
            if drained.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    drained.process.send_signal(signal.SIGTERM)
        for drained in self._drained:
            if drained.supervisor is None:
                continue
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await asyncio.shield(drained.supervisor)
            except TimeoutError:
                if drained.process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        drained.process.kill()
                await drained.supervisor
        if self._committer is not None:
            self._wake.set()
            await self._committer

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
        drained.ended.clear()
        drained.received_before += drained.received
        drained.received = 0
        asyncio.get_running_loop().add_reader(reading, self._read, drained)

    async def _supervise(self, drained: _Drained) -> None:
        """Keep one drainer running; after `stop`, see it end."""
        while True:
            await drained.ended.wait()
            assert drained.process is not None
            code = await drained.process.wait()
            if self._stop_wanted.is_set():
                return
            self.restarts += 1
            self._events.emit("drainer-ended", exit_code=code)
            await asyncio.sleep(RESTART_SECONDS)
            await self._start_drainer(drained)

    def _read(self, drained: _Drained) -> None:
        try:
            data = os.read(drained.pipe, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._close_pipe(drained)
            return
        try:
            for batch in drained.reader.feed(data):
                drained.received, drained.oversized = batch.received, batch.oversized
                drained.shed = batch.shed
                self._batches.append((drained.identity, batch))
        except ValueError as error:
            self._events.emit("internal-error", where="drainer", error=str(error))
            self._close_pipe(drained)
        self._wake.set()

    def _close_pipe(self, drained: _Drained) -> None:
        asyncio.get_running_loop().remove_reader(drained.pipe)
        os.close(drained.pipe)
        drained.ended.set()

    # ---- counting -----------------------------------------------------------------------

    async def add(self, session: Session, times: int = 1, identity: str = "") -> None:
        """Count a session that did not come as a datagram, now; it is on the disk on return.

        Raises:
            StoreUnavailableError: It was not counted.
        """
        counts = Counts()
        counts.add(self._clock.now().date(), session, times)
        await asyncio.to_thread(self.store.add, counts, identity)
        self.tally.counted += times

    async def add_once(
        self, key: bytes, session: Session, times: int = 1, identity: str = ""
    ) -> bool:
        """The same under a name: told again, it is not counted again; whether it was now.

        Raises:
            StoreUnavailableError: It was not counted.
        """
        today = self._clock.now().date()
        counts = Counts()
        counts.add(today, session, times)
        added = await asyncio.to_thread(
            self.store.import_once, "http", key, today, counts, identity
        )
        if added:
            self.tally.counted += times
        return added

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
            if not batches and not self._fresh:
                return
            try:
                await asyncio.to_thread(self._commit, batches)
            except StoreError as error:
                if not self.store_failing:
                    self._events.emit("session-store-unavailable", error=str(error))
                self.store_failing = True
            else:
                self.store_failing = False
                self.commits += 1

    def _commit(self, batches: list[tuple[str, Batch]]) -> None:
        for identity, batch in batches:
            counts = self._fresh.setdefault(identity, Counts())
            for sample in self.tally.count(batch, counts):
                self._events.emit(
                    "datagram-refused",
                    reason=sample.reason_code,
                    error=sample.message,
                    datagram=sample.text,
                )
        for identity in list(self._fresh):
            self.store.add(self._fresh[identity], identity)
            del self._fresh[identity]

    # ---- numbers ------------------------------------------------------------------------

    @property
    def unsaved(self) -> int:
        """Domains with counts that are not in the store yet."""
        return sum(map(len, self._fresh.values()))

    @property
    def received(self) -> int:
        """Datagrams received since the start."""
        return sum(drained.received_before + drained.received for drained in self._drained)

    @property
    def rejected(self) -> Mapping[str, int]:
        """Datagrams that were not counted, by reason."""
        return {
            **self.tally.rejected,
            "too-large": sum(drained.oversized for drained in self._drained)
            + self.tally.rejected["too-large"],
            "shed": sum(drained.shed for drained in self._drained),
        }


def _environment() -> dict[str, str]:
    """For the drainer: our own, and where strictmail is, if not among the installed packages."""
    from pathlib import Path

    import strictmail

    source = str(Path(strictmail.__file__).resolve().parent.parent)
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{others}" if others else source}
