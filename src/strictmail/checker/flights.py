# SPDX-License-Identifier: Apache-2.0
"""Each question once: who asks meanwhile waits for the same answer, who asks later gets it again.

Knows nothing of what is asked. There are two ways to find an answer:

=========  ===================================================  ================================
           who finds it                                         if who asked first goes away
=========  ===================================================  ================================
`Flights`  a task of its own: for visits, which cost a stranger  it goes on, for the next one
           a connection
`Once`     who asks first: for lookups; that costs no task       who waits asks anew
=========  ===================================================  ================================
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


class Kept(Generic[K, V]):
    """Answers by question, for a time and up to a number; the one used longest ago goes first.

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

    def find(self, key: K) -> V | None:
        """The answer, if there is one."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if self._clock.monotonic() < kept[0]:
            self._kept.move_to_end(key)
            return kept[1]
        del self._kept[key]
        return None

    def put(self, key: K, value: V) -> None:
        """Keep an answer."""
        self._kept[key] = self._clock.monotonic() + self._keep(value), value
        self._kept.move_to_end(key)
        if len(self._kept) > self._max_entries:
            self._kept.popitem(last=False)


class Flights(Generic[K, V]):
    """Answers that fly by themselves. For one event loop.

    What flies is bounded in time by itself.

    Args:
        kept: Where answers are kept.
    """

    def __init__(self, kept: Kept[K, V]) -> None:
        self._kept = kept
        self._flights: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        """The answer to a question.

        Args:
            key: The question.
            make: Finds the answer; called at most once at a time for a key.
        """
        value = self._kept.find(key)
        if value is not None:
            return value
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
        self._kept.put(key, value)
        return value

    async def close(self) -> None:
        """End the flights that are under way; who waits for one is cancelled."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        if flights:
            await asyncio.wait(flights)


class Once(Generic[K, V]):
    """Answers that whoever asks first finds. For one event loop.

    Args:
        kept: Where answers are kept; None: all of them, for as long as this object lives.
    """

    def __init__(self, kept: Kept[K, V] | None = None) -> None:
        self._held: dict[K, V] = {}
        self._find = self._held.get if kept is None else kept.find
        self._put = self._held.__setitem__ if kept is None else kept.put
        self._locks: dict[K, asyncio.Lock] = {}

    async def get(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        """The answer to a question.

        Args:
            key: The question.
            make: Finds the answer, which is not None; called by one at a time for a key. What it
                raises, only that one gets.
        """
        value = self._find(key)
        if value is not None:
            return value
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            value = self._find(key)
            if value is None:
                try:
                    value = await make()
                    self._put(key, value)
                finally:
                    # Who waits holds on to it.
                    self._locks.pop(key, None)
        return value
