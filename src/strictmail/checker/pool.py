# SPDX-License-Identifier: Apache-2.0
"""The work of a bulk run: domains in, lines of results out, at most so many checks at a time.

::

    list ──thread──► feed ──► workers ──► queue ──► writer ──thread──► journal
         read_list   bounded  check()     bounded   one batch at a time

Each arrow waits when what is behind it is full, so that memory does not grow with the list. The
results stand in the order in which the checks ended.

=============================  ===============================================================
What happens                   What the run does
=============================  ===============================================================
a line is no domain            says so with its number, goes on
a check raises, or takes       says so with the domain, goes on; the domain is not in the file,
longer than its deadline       so the same command tries it again
SIGINT, SIGTERM                takes no new domain; waits `grace` for the checks under way,
                               drops the rest, closes the file
the same signal again          the process ends at once; the file is whole but for a last line
the run's deadline             as after SIGINT
the disk is full               the checks are dropped; `StoreUnavailableError`
the list ends unreadable       a fault with the line; what was read is checked
=============================  ===============================================================

In each of these the same command goes on where the run stopped (`checker.journal`).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import threading
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from strictmail.checker.journal import SYNC_SECONDS
from strictmail.checker.progress import REDRAW_SECONDS
from strictmail.checker.resultfile import encode_line
from strictmail.core.tagrecord import quote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable

    from strictmail.checker.journal import Journal
    from strictmail.checker.progress import Progress, Tally
    from strictmail.core.check.result import CheckResult
    from strictmail.ports import Clock

    Check = Callable[[str], Awaitable[CheckResult]]


FEED_ROOM: Final = 500
"""Domains that are read ahead: enough for some milliseconds of the reading thread."""


@dataclass(frozen=True, slots=True)
class BulkLimits:
    """Bounds of a run.

    Attributes:
        concurrency: Checks at a time. Each holds some connections; 100 keep two cores busy.
        domain_deadline: A check has bounds of its own; this one ends a check that hangs.
        run_deadline: For the whole run; None: as long as it takes.
        grace: What the checks under way get when the run is stopped.
    """

    concurrency: int = 100
    domain_deadline: timedelta = timedelta(minutes=5)
    run_deadline: timedelta | None = None
    grace: timedelta = timedelta(seconds=5)


class Ending(enum.StrEnum):
    """Why a run ended."""

    COMPLETE = "complete"
    """The list was worked through."""
    STOPPED = "stopped"
    """By a signal."""
    DEADLINE = "deadline"
    """The time for the run was over."""


@dataclass(frozen=True, slots=True)
class BulkSummary:
    """What became of a run.

    Attributes:
        ending: Why it ended.
        tally: The counts.
        results: Results in the file now.
        seconds: How long it took.
    """

    ending: Ending
    tally: Tally
    results: int
    seconds: float


class _Feed:
    """The items of an iterator that blocks, read by a thread, at most `room` ahead.

    The thread is a daemon: one that waits for standard input must not hold up the end.
    """

    def __init__(self, items: Generator[str, None, None], room: int) -> None:
        self._items = items
        self._room = threading.Semaphore(room)
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._arrived: deque[str | None] = deque()
        self._is_woken = False
        self._stopped = False
        self.error: Exception | None = None
        threading.Thread(target=self._pump, name="list", daemon=True).start()

    async def take(self) -> str | None:
        """The next item; None at the end, for every caller."""
        item = await self._queue.get()
        if item is None or self._stopped:
            self._queue.put_nowait(None)
            return None
        self._room.release()
        return item

    def stop(self) -> None:
        """Give nothing more."""
        self._stopped = True
        self._queue.put_nowait(None)
        self._room.release()

    def _pump(self) -> None:
        try:
            with contextlib.closing(self._items):
                for item in self._items:
                    self._room.acquire()
                    if self._stopped:
                        return
                    self._hand_over(item)
        except Exception as error:  # noqa: BLE001 - raised again where the run waits
            self.error = error
        self._hand_over(None)

    def _hand_over(self, item: str | None) -> None:
        self._arrived.append(item)
        if not self._is_woken:
            # Waking the loop costs more than anything else here: once for all that has come.
            self._is_woken = True
            with contextlib.suppress(RuntimeError):  # the run is over, and its loop closed
                self._loop.call_soon_threadsafe(self._take_over)

    def _take_over(self) -> None:
        # First: what arrives from here on wakes the loop again.
        self._is_woken = False
        while self._arrived:
            self._queue.put_nowait(self._arrived.popleft())


class BulkRun:
    """One run over a list: workers, writer, progress."""

    def __init__(
        self,
        check: Check,
        journal: Journal,
        tally: Tally,
        progress: Progress,
        *,
        clock: Clock,
        limits: BulkLimits = BulkLimits(),
    ) -> None:
        """Prepare a run.

        Args:
            check: Checks one domain.
            journal: Takes the results.
            tally: Is counted up.
            progress: Shows it, and prints messages.
            clock: For the length of the run.
            limits: Its bounds.
        """
        self._check = check
        self._journal = journal
        self._tally = tally
        self._progress = progress
        self._clock = clock
        self._limits = limits
        self._stop = asyncio.Event()
        self._ending = Ending.COMPLETE
        self._results: asyncio.Queue[CheckResult | None] = asyncio.Queue(limits.concurrency)

    def stop(self, ending: Ending = Ending.STOPPED) -> None:
        """Take no new domain, and come to an end within the grace."""
        if not self._stop.is_set():
            self._ending = ending
            self._stop.set()

    async def run(self, domains: Generator[str, None, None]) -> BulkSummary:
        """Check every domain.

        Args:
            domains: May block; is read, and closed, by a thread of its own.

        Raises:
            StoreUnavailableError: The journal does not take the results.
            OSError: The list cannot be read.
        """
        began = self._clock.monotonic()
        feed = _Feed(domains, FEED_ROOM)
        writer = asyncio.create_task(self._write())
        workers = [asyncio.create_task(self._work(feed)) for _ in range(self._limits.concurrency)]
        helpers = [
            asyncio.create_task(self._watch_stop(feed)),
            asyncio.create_task(self._tick()),
        ]
        try:
            await self._until_worked(workers, writer)
            helpers.append(asyncio.create_task(self._results.put(None)))
            await writer
        finally:
            feed.stop()
            await _cancel([*workers, *helpers, writer])
            self._journal.close()
        if feed.error is not None:
            raise feed.error
        return BulkSummary(
            self._ending,
            self._tally,
            self._journal.earlier + self._journal.appended,
            self._clock.monotonic() - began,
        )

    async def _until_worked(
        self, workers: list[asyncio.Task[None]], writer: asyncio.Task[None]
    ) -> None:
        """Wait for the workers: to the end of the list, or of the grace."""
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await _first_of(workers, writer, stopping)
            if not writer.done() and stopping.done():
                grace = self._limits.grace.total_seconds()
                await _first_of(workers, writer, timeout=grace)
                await _cancel(workers)
        finally:
            stopping.cancel()
        if writer.done():
            # It ends before the workers only when the disk does not play along.
            await writer

    async def _work(self, feed: _Feed) -> None:
        while (domain := await feed.take()) is not None:
            result = await self._check_one(domain)
            if result is not None:
                await self._results.put(result)

    async def _check_one(self, domain: str) -> CheckResult | None:
        timeout = asyncio.timeout(self._limits.domain_deadline.total_seconds())
        try:
            async with timeout:
                return await self._check(domain)
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            fault = "something in it was cancelled"
        except Exception as error:  # noqa: BLE001 - one domain never ends the run
            fault = f"{type(error).__name__}: {quote(str(error))}"
            if timeout.expired():
                fault = f"no result within {self._limits.domain_deadline.total_seconds():g} s"
        self._tally.failed += 1
        self._progress.say(f"{domain}: the check broke off, please report it: {fault}")
        return None

    async def _write(self) -> None:
        """Take the results as they come, and append what has come together."""
        is_open = True
        while is_open:
            batch = [await self._next_result()]
            while not self._results.empty():
                batch.append(self._results.get_nowait())
            results = [result for result in batch if result is not None]
            is_open = len(results) == len(batch)
            await asyncio.to_thread(self._append, results)
            for result in results:
                self._tally.by_status[result.status] += 1

    async def _next_result(self) -> CheckResult | None:
        while True:
            try:
                async with asyncio.timeout(SYNC_SECONDS):
                    return await self._results.get()
            except TimeoutError:
                await asyncio.to_thread(self._journal.sync_if_due)

    def _append(self, results: Iterable[CheckResult]) -> None:
        self._journal.append([encode_line(result) for result in results])

    async def _watch_stop(self, feed: _Feed) -> None:
        deadline = self._limits.run_deadline
        try:
            async with asyncio.timeout(None if deadline is None else deadline.total_seconds()):
                await self._stop.wait()
        except TimeoutError:
            self.stop(Ending.DEADLINE)
        feed.stop()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(REDRAW_SECONDS)
            self._progress.tick()


async def _first_of(
    workers: list[asyncio.Task[None]],
    *others: asyncio.Task[Any],
    timeout: float | None = None,  # noqa: ASYNC109 - asyncio.wait's own
) -> None:
    """Wait until all workers are done, or one of the others."""
    all_done = asyncio.ensure_future(asyncio.wait(workers))
    try:
        await asyncio.wait(
            {all_done, *others}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        all_done.cancel()


def _is_cancelled() -> bool:
    """Whether somebody wants this very task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
