# SPDX-License-Identifier: Apache-2.0
"""The life of a daemon: start, ready, reload, drain, stop.

Knows the order of things and who may interrupt whom; what there is to start and to drain is the
service's own. Tests drive it by its `request_` methods; a process adds the signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from strictmail.core.errors import StrictmailError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from strictmail.runtime.logs import EventLog
    from strictmail.runtime.notify import Notifier

T = TypeVar("T")

DRAIN_SECONDS: Final = 10.0
"""What was asked is answered within the answer deadline, 10 s by default."""

WATCHDOG_SHARE: Final = 0.4
"""Part of the watchdog's interval after which to speak; half of it is the latest advisable."""


class Service(Protocol):
    """What a daemon does at each turn of its life."""

    async def start(self) -> str:
        """Open everything; when it returns, all listeners answer.

        Returns:
            A line for the service manager's status.

        Raises:
            StrictmailError: It cannot; nothing may be left open.
        """
        ...

    async def reload(self) -> str:
        """Take over a changed configuration, or raise StrictmailError and stay as it was.

        Returns:
            A line for the service manager's status.
        """
        ...

    async def drain(self) -> None:
        """Accept nothing new, answer what was asked. May be cancelled."""
        ...

    async def stop(self) -> None:
        """Close everything and write down what has to outlive the process."""
        ...

    def is_alive(self) -> bool:
        """Whether the watchdog may be told so."""
        ...


class Lifecycle:
    """Leads a service through its life.

    Args:
        service: What is led.
        notifier: Where readiness is told.
        events: Where the turns are logged.
        drain_seconds: How long `drain` may take.
        watchdog_seconds: What `notify.watchdog_seconds` says.
    """

    def __init__(
        self,
        service: Service,
        *,
        notifier: Notifier,
        events: EventLog,
        drain_seconds: float = DRAIN_SECONDS,
        watchdog_seconds: float | None = None,
    ) -> None:
        self._service = service
        self._notifier = notifier
        self._events = events
        self._drain_seconds = drain_seconds
        self._watchdog_seconds = watchdog_seconds
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._forced = asyncio.Event()
        self._reload_wanted = False
        self._reason = ""
        self.ready = asyncio.Event()
        """Set when the service has started."""

    def request_reload(self) -> None:
        """Reload as soon as what goes on now is done; several requests may become one."""
        self._reload_wanted = True
        self._wake.set()

    def request_stop(self, reason: str = "requested") -> None:
        """Drain and stop; asked for a second time, stop without draining."""
        if self._stopping.is_set():
            self._forced.set()
            return
        self._reason = reason
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Live the whole life; returns when the service has stopped.

        Raises:
            StrictmailError: The service could not start.
        """
        try:
            await self._live()
        finally:
            await self._service.stop()

    async def _live(self) -> None:
        status = await _until(self._stopping, self._service.start())
        if status is None:
            return
        self._notifier.ready(status)
        self._events.emit("ready", status=status)
        self.ready.set()
        watchdog = asyncio.ensure_future(self._feed_watchdog())
        try:
            while not self._stopping.is_set():
                await self._wake.wait()
                self._wake.clear()
                if self._reload_wanted and not self._stopping.is_set():
                    self._reload_wanted = False
                    await self._reload()
            await self._drain()
        finally:
            watchdog.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watchdog

    async def _reload(self) -> None:
        self._notifier.reloading()
        try:
            status = await _until(self._forced, self._service.reload())
        except StrictmailError as error:
            self._events.emit("reload-refused", error=str(error))
            status = "running; the last reload was refused"
        except Exception as error:  # noqa: BLE001 - whatever it is, the mail must not stop for it
            self._events.emit("reload-refused", error=repr(error))
            status = "running; the last reload failed"
        self._notifier.ready(status or "")

    async def _drain(self) -> None:
        self._notifier.stopping(f"stopping: {self._reason}")
        self._events.emit("stopping", reason=self._reason)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_seconds):
                await _until(self._forced, self._service.drain())

    async def _feed_watchdog(self) -> None:
        """Tell that the loop runs: a loop that hangs falls silent."""
        if self._watchdog_seconds is None:
            return
        while True:
            if self._service.is_alive():
                self._notifier.watchdog()
            await asyncio.sleep(self._watchdog_seconds * WATCHDOG_SHARE)


async def _until(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Do some work; when the event comes first, cancel it and return None."""
    task = asyncio.ensure_future(work)
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return await task
        return None
    finally:
        for one in (task, waiter):
            one.cancel()
        await asyncio.wait({task, waiter})


@contextlib.contextmanager
def signals(loop: asyncio.AbstractEventLoop, lifecycle: Lifecycle) -> Iterator[None]:
    """Let SIGTERM and SIGINT stop, and SIGHUP reload, while the block runs."""
    stops = (signal.SIGTERM, signal.SIGINT)
    for number in stops:
        loop.add_signal_handler(number, lifecycle.request_stop, number.name)
    loop.add_signal_handler(signal.SIGHUP, lifecycle.request_reload)
    try:
        yield
    finally:
        for number in (*stops, signal.SIGHUP):
            loop.remove_signal_handler(number)
