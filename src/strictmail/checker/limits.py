# SPDX-License-Identifier: Apache-2.0
"""How much one remote party sees of us at once, and how soon after one another.

Keys are whatever names a party: an address, an operator's domain. A key that nobody uses costs
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from strictmail.ports import Clock

Sleeper: TypeAlias = Callable[[float], Awaitable[None]]
"""Waits for seconds: `asyncio.sleep`, or a test's own."""


@dataclass(slots=True)
class _Place:
    """What is behind one key: its slots, and how many hold or want one."""

    slots: asyncio.Semaphore
    users: int = 0


class KeyedLimiter:
    """At most so many at once for each key, first come, first served.

    Args:
        limit: For one key.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: dict[str, _Place] = {}

    def __len__(self) -> int:
        """How many keys are in use."""
        return len(self._places)

    @asynccontextmanager
    async def slot(self, key: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it for the block."""
        place = self._places.setdefault(key, _Place(asyncio.Semaphore(self._limit)))
        place.users += 1
        try:
            async with place.slots:
                yield
        finally:
            place.users -= 1
            if not place.users:
                del self._places[key]


class Spacing:
    """A pause between two turns of the same key.

    Args:
        seconds: From the beginning of one to the beginning of the next.
        clock: Measures them.
        sleep: Waits.
    """

    def __init__(self, seconds: float, clock: Clock, sleep: Sleeper) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._next: dict[str, float] = {}

    async def turn(self, key: str) -> None:
        """Wait until it is the key's turn, and take it."""
        now = self._clock.monotonic()
        at = max(now, self._next.pop(key, now))
        self._forget_past(now)
        self._next[key] = at + self._seconds
        if at > now:
            await self._sleep(at - now)

    def _forget_past(self, now: float) -> None:
        """Keys stand in the order of their last turn, so that the past ones are in front."""
        while self._next:
            key = next(iter(self._next))
            if self._next[key] > now:
                return
            del self._next[key]
