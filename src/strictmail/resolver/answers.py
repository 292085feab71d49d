# SPDX-License-Identifier: Apache-2.0
"""Finished replies, ready to be written: what makes a cached lookup one look and one write.

The key is the raw request as it comes from the socket, the value the finished reply and the
counter to bump. Nothing here knows what a reply means; whoever puts one in says how long it is
true, and `expire` takes it out when that time is over. A reply that is taken out too early costs
one slower lookup; one that stays too long would be a wrong answer, so all doubt goes one way.

Used by the serving thread alone.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from strictmail.core.mta import netstring

Counter: TypeAlias = list[int]
"""A one-element list: a counter that a tuple can share and the hot path can bump."""

MAX_MAP_NAMES: Final = 8
"""Map names remembered per listener; an MTA uses one. Requests with others are not kept."""

MAX_ODD_KEYS: Final = 10_000
"""Requests in other than canonical form (case, ports, brackets) that are kept per listener."""


class Answers:
    """The finished replies of one listener.

    Attributes:
        replies: Raw request -> (reply, counter). The socket code reads it directly.
    """

    def __init__(self, capacity: int) -> None:
        self.replies: dict[bytes, tuple[bytes, Counter]] = {}
        self._capacity = capacity
        self._buckets: dict[int, list[bytes]] = {}
        self._swept_to = 0
        self._map_names: set[bytes] = set()
        self._odd: dict[str, set[bytes]] = {}
        self._odd_count = 0

    def __len__(self) -> int:
        return len(self.replies)

    def put(
        self,
        map_name: bytes,
        key: bytes,
        domain: str,
        reply: bytes,
        counter: Counter,
        until: float,
    ) -> None:
        """Keep a reply until a monotonic instant.

        Args:
            map_name: As asked.
            key: As asked.
            domain: The policy domain that `forget` will name; "" for none.
            reply: The complete netstring.
            counter: Bumped for each use.
            until: Monotonic seconds; rounded down to whole ones.
        """
        tick = int(until)
        if tick <= self._swept_to:
            return
        if map_name not in self._map_names:
            if len(self._map_names) >= MAX_MAP_NAMES:
                return
            self._map_names.add(map_name)
        raw = netstring.encode(map_name + b" " + key)
        if domain and key != domain.encode("ascii"):
            if self._odd_count >= MAX_ODD_KEYS:
                return
            keys = self._odd.setdefault(domain, set())
            if raw not in keys:
                keys.add(raw)
                self._odd_count += 1
        replies = self.replies
        if len(replies) >= self._capacity and raw not in replies:
            del replies[next(iter(replies))]
        replies[raw] = (reply, counter)
        self._buckets.setdefault(tick, []).append(raw)

    def forget(self, domain: str) -> None:
        """Drop what is kept for a policy domain, in every form it was asked for."""
        name = domain.encode("ascii")
        for map_name in self._map_names:
            self.replies.pop(netstring.encode(map_name + b" " + name), None)
        odd = self._odd.pop(domain, None)
        if odd:
            self._odd_count -= len(odd)
            for raw in odd:
                self.replies.pop(raw, None)

    def clear(self) -> None:
        """Drop everything, as after a reload."""
        self.replies.clear()
        self._buckets.clear()
        self._odd.clear()
        self._odd_count = 0

    def expire(self, now: float) -> None:
        """Drop every reply whose time is over; called at least once a second."""
        tick = int(now)
        pop = self.replies.pop
        if tick - self._swept_to > len(self._buckets):
            due = sorted(t for t in self._buckets if t <= tick)
        else:
            due = [t for t in range(self._swept_to + 1, tick + 1) if t in self._buckets]
        for moment in due:
            for raw in self._buckets.pop(moment):
                pop(raw, None)
        self._swept_to = tick
        if not self.replies and self._odd:
            self._odd.clear()
            self._odd_count = 0
