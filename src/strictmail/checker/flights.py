# SPDX-License-Identifier: Apache-2.0
"""Each question once: who asks meanwhile waits for the same answer, who asks later gets it again.

Knows nothing of what is asked. Answers are kept for a time and up to a number; the one that was
used longest ago goes first. A flight goes on when nobody waits for it any longer: its answer
serves the next one who asks, and what flies is bounded in time by itself.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from strictmail.ports import Clock

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class Flights(Generic[K, V]):
    """Answers by question. For one event loop.

    Args:
        clock: Says when an answer is too old.
        max_entries: Answers that are kept.
        keep: Seconds an answer is kept.
    """

    def __init__(self, clock: Clock, *, max_entries: int, keep: Callable[[V], float]) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._keep = keep
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._flights: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        """How many answers are kept."""
        return len(self._kept)

    async def get(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        """The answer to a question.

        Args:
            key: The question.
            make: Finds the answer; called at most once at a time for a key.
        """
        kept = self._kept.get(key)
        if kept is not None:
            if self._clock.monotonic() < kept[0]:
                self._kept.move_to_end(key)
                return kept[1]
            del self._kept[key]
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.ensure_future(self._fly(key, make))
            self._flights[key] = flight
        return await asyncio.shield(flight)

    async def _fly(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        try:
            value = await make()
        finally:
            del self._flights[key]
        self._kept[key] = self._clock.monotonic() + self._keep(value), value
        if len(self._kept) > self._max_entries:
            self._kept.popitem(last=False)
        return value

    async def close(self) -> None:
        """End the flights that are under way; who waits for one is cancelled."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        if flights:
            await asyncio.wait(flights)
