# SPDX-License-Identifier: Apache-2.0
"""A resolver that asks no question twice.

One in front of the real resolver serves a whole run: MX hosts, name servers and zones are shared by
many domains. Another one, of each check alone, holds all of it to the same answers: a record that
changes meanwhile must not look like a contradiction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.checker.flights import Kept, Once
from strictmail.core.names import fold

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from strictmail.core.dnsvalues import Answer, RecordType
    from strictmail.ports import Clock, Resolver

MAX_OWN_ANSWERS: Final = 4096
"""Answers on names of single domains: enough for the checks that run at the same time."""


class MemoResolver:
    """Remembers answers; implements `ports.Resolver`.

    What only one domain of a run asks for is kept apart: in a long list it would drive out what many
    share.

    Args:
        resolver: Who is asked.
        clock: For the age of answers.
        keep_seconds: Least and most that an answer is kept; between them, its TTL counts.
        max_entries: Answers that are kept, and MAX_OWN_ANSWERS beside them.
    """

    def __init__(
        self,
        resolver: Resolver,
        clock: Clock,
        *,
        keep_seconds: tuple[float, float],
        max_entries: int,
    ) -> None:
        self._resolver = resolver
        least, most = keep_seconds

        def keep(answer: Answer) -> float:
            return min(max(answer.ttl, least), most)

        self._shared: Kept[tuple[str, RecordType], Answer]
        self._shared = Kept(clock, max_entries=max_entries, keep=keep)
        self._own: Kept[tuple[str, RecordType], Answer]
        self._own = Kept(clock, max_entries=MAX_OWN_ANSWERS, keep=keep)
        self._asked = Once(self._shared)
        self._asked_own = Once(self._own)

    @property
    def validates(self) -> bool:
        """See `ports.Resolver`."""
        return self._resolver.validates

    async def lookup(self, name: str, rdtype: RecordType) -> Answer:
        """See `ports.Resolver`."""
        key = fold(name), rdtype
        known = self._own.find(key)
        if known is not None:
            return known
        return await self._asked.get(key, lambda: self._resolver.lookup(name, rdtype))

    async def lookup_own(self, name: str, rdtype: RecordType) -> Answer:
        """The same for a name that other domains of the run will hardly ask for."""
        key = fold(name), rdtype
        known = self._shared.find(key)
        if known is not None:
            return known
        return await self._asked_own.get(key, lambda: self._resolver.lookup(name, rdtype))


class HeldAnswers:
    """Holds on to the answers of one check until it ends; implements `ports.Resolver`.

    Args:
        domain: Whose check.
        resolver: Who is asked. How much, the bounds of the check say.
    """

    def __init__(self, domain: str, resolver: Resolver) -> None:
        self._domain = domain
        self._resolver = resolver
        self._lookup_own: Callable[[str, RecordType], Awaitable[Answer]] = (
            resolver.lookup_own if isinstance(resolver, MemoResolver) else resolver.lookup
        )
        self._answers: Once[tuple[str, RecordType], Answer] = Once()

    @property
    def validates(self) -> bool:
        """See `ports.Resolver`."""
        return self._resolver.validates

    def is_own(self, name: str) -> bool:
        """Whether a name is at or below the domain, so that other checks hardly ask for it."""
        return name == self._domain or name.endswith(f".{self._domain}")

    async def lookup(self, name: str, rdtype: RecordType) -> Answer:
        """See `ports.Resolver`."""
        name = fold(name)
        ask = self._lookup_own if self.is_own(name) else self._resolver.lookup
        return await self._answers.get((name, rdtype), lambda: ask(name, rdtype))
