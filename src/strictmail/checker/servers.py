# SPDX-License-Identifier: Apache-2.0
"""What the authoritative name servers of a name say, each by itself.

The zone of a name is found by asking for NS records upwards, at most up to the domain that
somebody registered: the servers of a public suffix know nothing of the records below it. Every
server is asked at every address that this machine has a way to, up to the bounds of the settings,
and few questions at once; what a server said of MX hosts is kept for the run, since domains share
them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from strictmail.checker.flights import Kept, Once
from strictmail.checker.limits import KeyedLimiter
from strictmail.core.check.facts import AuthorityFacts, Unknown, UnknownReason
from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.names import parent
from strictmail.core.sts.fetchrules import is_allowed_address
from strictmail.net.addresses import look_up_addresses
from strictmail.store.registrable import registrable_domain

if TYPE_CHECKING:
    from collections.abc import Callable

    from strictmail.checker.memo import HeldAnswers
    from strictmail.checker.settings import CheckSettings
    from strictmail.ports import AuthorityLookup, Clock, Reach

DNS_PORT: Final = 53

_Key = tuple[str, str, RecordType]


class NameServers:
    """Asks authoritative servers on behalf of all checks of a run. For one event loop.

    Args:
        lookup: Asks one server one question.
        reach: Knows which addresses there is a way to.
        settings: The bounds.
        clock: For the age of what is kept.
    """

    def __init__(
        self, lookup: AuthorityLookup, reach: Reach, settings: CheckSettings, clock: Clock
    ) -> None:
        self.settings = settings
        self.reach = reach
        self._lookup = lookup
        self._limiter = KeyedLimiter(settings.questions_per_server)
        self._said: Once[_Key, AuthorityFacts] = Once(
            Kept(clock, max_entries=settings.max_kept_hosts, keep=lambda _: settings.keep_seconds)
        )

    async def ask(
        self,
        zone: str,
        server: str,
        address: str,
        name: str,
        rdtype: RecordType,
        *,
        keep: bool = True,
    ) -> AuthorityFacts:
        """What one server says to one question, now or before.

        Args:
            zone: Of the name.
            server: Its name.
            address: Where it is asked.
            name: Asked for.
            rdtype: Asked for.
            keep: Other domains may ask the same.
        """

        async def make() -> AuthorityFacts:
            async with self._limiter.slot(address):
                return await self._lookup.ask(zone, server, address, name, rdtype)

        return await self._said.get((address, name, rdtype), make) if keep else await make()


class Delegations:
    """The zones of one check, and their servers.

    Args:
        servers: Asks them.
        resolver: Finds them; the check's own.
        tell: Called with each fact as it comes.
        miss: Called with the subject and the reason of what is not asked, once each.
    """

    def __init__(
        self,
        servers: NameServers,
        resolver: HeldAnswers,
        tell: Callable[[AuthorityFacts], None],
        miss: Callable[[str, Unknown], None],
    ) -> None:
        self._servers = servers
        self._resolver = resolver
        self._tell = tell
        self._miss = miss
        self._zones: set[str] = set()
        self._places: Once[str, list[tuple[str, str]]] = Once()

    async def ask(self, name: str, rdtype: RecordType) -> None:
        """Ask all servers of a name's zone."""
        zone = await self._zone_of(name)
        if not zone:
            return
        limit = self._servers.settings.max_zones
        if zone not in self._zones and len(self._zones) >= limit:
            detail = f"only the servers of {limit} zones are asked"
            self._miss(f"name servers of {zone}", Unknown(UnknownReason.LIMIT, detail))
            return
        self._zones.add(zone)
        places = await self._places.get(zone, lambda: self._servers_of(zone))
        async with asyncio.TaskGroup() as group:
            for server, address in places[1:]:
                group.create_task(self._ask_one(zone, server, address, name, rdtype))
            for server, address in places[:1]:  # this task has nothing else to do
                await self._ask_one(zone, server, address, name, rdtype)

    async def _ask_one(
        self, zone: str, server: str, address: str, name: str, rdtype: RecordType
    ) -> None:
        keep = not self._resolver.is_own(name)
        self._tell(await self._servers.ask(zone, server, address, name, rdtype, keep=keep))

    async def _zone_of(self, name: str) -> str:
        """The nearest name upwards that is a zone of its own; "" when there is none to ask."""
        top = registrable_domain(name)
        while name == top or name.endswith(f".{top}"):
            answer = await self._resolver.lookup(name, RecordType.NS)
            # RFC 1034 §4.2.1: a zone has NS records at its top; behind an alias they are another's.
            if answer.status is Status.OK and not answer.is_alias:
                return name
            name = parent(name)
        return ""

    async def _servers_of(self, zone: str) -> list[tuple[str, str]]:
        """Name and address of each server of a zone that can be asked from here."""
        answer = await self._resolver.lookup(zone, RecordType.NS)
        names = sorted(str(record) for record in answer.records)
        limit = self._servers.settings.max_name_servers
        if len(names) > limit:
            detail = f"only {limit} of {len(names)} are asked"
            self._miss(f"name servers of {zone}", Unknown(UnknownReason.LIMIT, detail))
        found = await asyncio.gather(*(self._addresses_of(name) for name in names[:limit]))
        return [place for places in found for place in places]

    async def _addresses_of(self, server: str) -> list[tuple[str, str]]:
        answers = await look_up_addresses(self._resolver, server)
        settings = self._servers.settings
        places = []
        for answer in answers:
            for record in answer.records[: settings.max_server_addresses // 2 or 1]:
                address = str(record)
                subject = f"name server {server}[{address}]"
                if not is_allowed_address(address, settings.allow_networks):
                    # BCP: not into the inner network (SEC-19).
                    detail = "not a public address"
                    self._miss(subject, Unknown(UnknownReason.SKIPPED, detail))
                elif not self._servers.reach.has_route(server, address, DNS_PORT):
                    detail = "this machine has no route to the address"
                    self._miss(subject, Unknown(UnknownReason.NO_ROUTE, detail))
                else:
                    places.append((server, address))
        return places
