# SPDX-License-Identifier: Apache-2.0
"""The reporter as a role: makes the reports of days that are over, and sends them."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strictmail.cli.composition_reporter import open_reporter
from strictmail.cli.roles.role import Banner
from strictmail.core.errors import StoreUnavailableError
from strictmail.reporter.web import ReporterWeb

if TYPE_CHECKING:
    from strictmail.cli.composition_reporter import ReporterParts
    from strictmail.cli.roles.role import Host
    from strictmail.runtime.config import Config
    from strictmail.runtime.sockets import WantedSocket

DRAIN_SECONDS: Final = 20.0
"""How long attempts under way may take to end when the daemon stops; those that do not are made
again when their hold is over."""


class ReporterRole:
    """Reports (`strictmail.cli.roles.role.Role`).

    Args:
        host: The daemon.
    """

    name = "reporter"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._parts: ReporterParts | None = None
        self._task: asyncio.Task[None] | None = None

    # ---- life ---------------------------------------------------------------------------

    def drain_seconds(self, config: Config) -> float:  # noqa: ARG002 - the protocol's signature
        """What is being sent is sent to its end."""
        return DRAIN_SECONDS

    def wanted_sockets(self, config: Config) -> list[WantedSocket]:  # noqa: ARG002 - the same
        """None: nobody comes to it."""
        return []

    async def start(self, config: Config) -> None:
        """Open the store and begin."""
        path = Path(config.sessions_path)
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailableError(f"{path.parent}: {error.strerror}") from error
        self._parts = await open_reporter(config, self._host.events)
        self._task = asyncio.create_task(self._parts.reporter.run())

    async def apply(self, config: Config) -> None:
        """New adapters and numbers."""
        await self._running.replace_adapters(config)

    def stop_accepting(self) -> None:
        """Begin with no further report."""
        if self._parts is not None:
            self._parts.reporter.stop()

    async def drain(self) -> None:
        """Let what is being sent be sent."""
        if self._parts is not None:
            await self._parts.reporter.sender.settle()

    async def stop(self) -> None:
        """Close."""
        self.stop_accepting()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._parts is not None:
            await self._parts.close()

    def is_alive(self) -> bool:
        """Whether its task is there."""
        return self._task is None or not self._task.done()

    def fault(self) -> str:
        """Without its task nothing is reported."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            return f"the reporter has ended: {self._task.exception()!r}"
        return ""

    def tick(self, number: int) -> None:
        """Nothing: it has a task of its own."""

    def status(self) -> str:
        """That it runs, and what it cannot do."""
        if self._parts is not None and self._parts.probing.is_port_blocked:
            return "reports are made and sent, without probes: outbound port 25 is closed"
        return "reports are made and sent"

    def web(self) -> ReporterWeb:
        """Its metrics."""
        running = self._running
        return ReporterWeb(running.reporter, running.store, running.outbox, self._host.clock)

    def banner(self, config: Config) -> Banner:
        """Under which name reports go out."""
        reporter = config.reporter
        how = f"{reporter.mail}"
        if reporter.mail in ("relay", "lmtp"):
            how += f" {reporter.relay_host} port {reporter.relay_port}"
        return Banner(state=(f"reports: as {reporter.contact}, mail by {how}",))

    @property
    def _running(self) -> ReporterParts:
        assert self._parts is not None
        return self._parts
