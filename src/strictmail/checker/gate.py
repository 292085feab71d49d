# SPDX-License-Identifier: Apache-2.0
"""Whether mail gets out of this machine at all: found once, before the first MX host is visited.

Most networks of homes and clouds close outbound port 25. Then every host would look dead, and
that would be said of people whose mail is fine. So the MX hosts of a few large receivers are
connected to first, in parallel: the first that takes a connection opens the gate. If none does,
it is we who are shut in: no host is visited, and everything behind port 25 is unknown.

The canaries need an address to say anything: without DNS nothing is tested.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from strictmail.core.check.facts import SMTP_PORT, PortState
from strictmail.net.addresses import address_texts, look_up_addresses

if TYPE_CHECKING:
    from strictmail.checker.settings import CheckSettings
    from strictmail.ports import Reach, Resolver

CANARY_ADDRESSES: Final = 2
"""Addresses of one canary that are tried, IPv4 first."""


class Gate:
    """Tests port 25 once per run. For one event loop.

    Args:
        resolver: Finds the canaries.
        reach: Connects to them.
        settings: Which canaries, and how long.
    """

    def __init__(self, resolver: Resolver, reach: Reach, settings: CheckSettings) -> None:
        self._resolver = resolver
        self._reach = reach
        self._settings = settings
        self._test: asyncio.Task[PortState] | None = None

    async def check(self) -> PortState:
        """The state of outbound port 25; the first caller starts the test, all wait for it."""
        if not self._settings.port25_canaries:
            return PortState.NOT_TESTED
        if self._test is None:
            self._test = asyncio.ensure_future(self._run())
        return await asyncio.shield(self._test)

    def forget(self) -> None:
        """Let the next caller test anew; for those who live longer than one run."""
        if self._test is not None and self._test.done():
            self._test = None

    @property
    def state(self) -> PortState:
        """What is known so far."""
        if self._test is None or not self._test.done() or self._test.cancelled():
            return PortState.NOT_TESTED
        return self._test.result()

    def has_route(self, host: str, address: str, port: int = SMTP_PORT) -> bool:
        """Whether this machine knows a way to an address: an IPv6 address has none without IPv6."""
        return self._reach.has_route(host, address, port)

    async def close(self) -> None:
        """End a test that is under way."""
        if self._test is not None and not self._test.done():
            self._test.cancel()
            await asyncio.wait([self._test])

    async def _run(self) -> PortState:
        tries = [
            asyncio.ensure_future(self._try(canary)) for canary in self._settings.port25_canaries
        ]
        seen: list[bool | None] = []
        try:
            for done in asyncio.as_completed(tries):
                seen.append(await done)
                if seen[-1]:
                    return PortState.OPEN
        finally:
            running = [one for one in tries if one.cancel()]
            if running:
                await asyncio.wait(running)
        return PortState.BLOCKED if False in seen else PortState.NOT_TESTED

    async def _try(self, canary: str) -> bool | None:
        """Whether a canary takes a connection; None when it has no address."""
        found = address_texts(await look_up_addresses(self._resolver, canary))
        reachable = [one for one in found if self.has_route(canary, one)][:CANARY_ADDRESSES]
        for address in reachable:
            if await self._reach.connects(
                canary, address, SMTP_PORT, self._settings.canary_seconds
            ):
                return True
        # Without any route there is no port that could be closed; but then nothing gets out.
        return False if found else None
