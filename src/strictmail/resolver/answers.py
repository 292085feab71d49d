# SPDX-License-Identifier: Apache-2.0
"""Finished replies, ready to be written: what makes a cached lookup one look and one write.

The key is the raw request as it comes from the socket, the value the finished reply and the
counter to bump. Nothing here knows what a reply means; whoever puts one in says how long it is
true, and `expire` takes it out when that time is over. A reply that is taken out too early costs
one slower lookup; one that stays too long would be a wrong answer, so all doubt goes one way.

Used by the serving thread alone.
"""

from __future__ import annotations

from itertools import islice
from typing import Final, TypeAlias

from strictmail.core.mta import netstring

Counter: TypeAlias = list[int]
"""A one-element list: a counter that a tuple can share and the hot path can bump."""

Bucket: TypeAlias = dict[bytes, None]
"""The requests whose replies end in the same second."""

MAX_MAP_NAMES: Final = 8
"""Map names remembered per listener; an MTA uses one. Requests with others are not kept."""

MAX_ODD_KEYS: Final = 10_000
"""Requests in other than canonical form (case, ports, brackets, no policy domain at all) that
are kept per listener: whoever invents keys pushes no domain out."""

MAX_KEPT_REQUEST_BYTES: Final = 512
"""Longer requests are not kept: no name needs them, and there may be `capacity` of them."""

EVICTED_SHARE: Final = 64
"""At capacity this part of the replies goes at once: to find the oldest entry of a dictionary
takes as long as to find the oldest thousand."""


class Answers:
    """The finished replies of one listener.

    Attributes:
        replies: Raw request -> (reply, counter, bucket). The socket code reads it directly.
    """

    def __init__(self, capacity: int) -> None:
        self.replies: dict[bytes, tuple[bytes, Counter, Bucket]] = {}
        self._capacity = capacity
        self._buckets: dict[int, Bucket] = {}
        self._swept_to = 0
        self._map_names: set[bytes] = set()
        self._odd: dict[str, set[bytes]] = {}
        self._odd_domains: dict[bytes, str] = {}

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
        raw = netstring.encode(map_name + b" " + key)
        # Also where the new reply cannot be kept: the old one is no longer what would be said.
        self._drop(raw)
        tick = int(until)
        if tick <= self._swept_to or len(raw) > MAX_KEPT_REQUEST_BYTES:
            return
        if map_name not in self._map_names:
            if len(self._map_names) >= MAX_MAP_NAMES:
                return
            self._map_names.add(map_name)
        if not domain or key != domain.encode("ascii"):
            if len(self._odd_domains) >= MAX_ODD_KEYS:
                return
            self._odd_domains[raw] = domain
            self._odd.setdefault(domain, set()).add(raw)
        if len(self.replies) >= self._capacity:
            for oldest in list(islice(self.replies, max(1, self._capacity // EVICTED_SHARE))):
                self._drop(oldest)
        bucket = self._buckets.setdefault(tick, {})
        bucket[raw] = None
        self.replies[raw] = (reply, counter, bucket)

    def forget(self, domain: str) -> None:
        """Drop what is kept for a policy domain, in every form it was asked for."""
        name = domain.encode("ascii")
        for map_name in self._map_names:
            self._drop(netstring.encode(map_name + b" " + name))
        for raw in tuple(self._odd.get(domain, ())):
            self._drop(raw)

    def clear(self) -> None:
        """Drop everything, as after a reload."""
        self.replies.clear()
        self._buckets.clear()
        self._odd.clear()
        self._odd_domains.clear()

    def expire(self, now: float) -> None:
        """Drop every reply whose time is over; called at least once a second."""
        tick = int(now)
        if tick - self._swept_to > len(self._buckets):
            due = sorted(t for t in self._buckets if t <= tick)
        else:
            due = [t for t in range(self._swept_to + 1, tick + 1) if t in self._buckets]
        for moment in due:
            for raw in tuple(self._buckets.pop(moment)):
                self._drop(raw)
        self._swept_to = tick

    def _drop(self, raw: bytes) -> None:
        entry = self.replies.pop(raw, None)
        if entry is None:
            return
        entry[2].pop(raw, None)
        domain = self._odd_domains.pop(raw, None)
        if domain is not None:
            keys = self._odd[domain]
            keys.discard(raw)
            if not keys:
                del self._odd[domain]
