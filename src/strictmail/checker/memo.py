# SPDX-License-Identifier: Apache-2.0
"""A resolver that asks no question twice.

One in front of the real resolver serves a whole run: MX hosts, name servers and zones are shared by
many domains. Another one, of each check alone, holds all of it to the same answers: a record that
changes meanwhile must not look like a contradiction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from strictmail.checker.flights import Flights
from strictmail.core.names import fold

if TYPE_CHECKING:
    from strictmail.core.dnsvalues import Answer, RecordType
    from strictmail.ports import Clock, Resolver


class MemoResolver:
    """Remembers answers; implements `ports.Resolver`.

    Args:
        resolver: Who is asked.
        clock: For the age of answers.
        keep_seconds: Least and most that an answer is kept; between them, its TTL counts.
        max_entries: Answers that are kept.
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
        self._answers: Flights[tuple[str, RecordType], Answer] = Flights(
            clock,
            max_entries=max_entries,
            keep=lambda answer: min(max(answer.ttl, least), most),
        )

    @property
    def validates(self) -> bool:
        """See `ports.Resolver`."""
        return self._resolver.validates

    async def lookup(self, name: str, rdtype: RecordType) -> Answer:
        """See `ports.Resolver`."""
        return await self._answers.get(
            (fold(name), rdtype), lambda: self._resolver.lookup(name, rdtype)
        )

    async def close(self) -> None:
        """Ask nothing more; lookups under way are cancelled."""
        await self._answers.close()
