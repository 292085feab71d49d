# SPDX-License-Identifier: Apache-2.0
"""What strictmail demanded of a domain at some time: from its policy cache, and from DNS now.

For sessions that an MTA's log tells of without saying which policy asked for them. The cache has
exactly the policies that were in force: what was never learnt was never demanded. MX and TLSA are
asked of DNS, and remembered for a while; a look-up that fails leaves the session uncounted.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from strictmail.core.decision import Decision, Level, ListenerProfile, PolicyInfo, decide
from strictmail.core.errors import NexthopSyntaxError
from strictmail.core.mxset import MxStatus, TlsaState
from strictmail.core.nexthop import parse_nexthop
from strictmail.discovery.mx import discover_mx

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from strictmail.core.decision import DecisionSettings
    from strictmail.core.mxset import MxSet
    from strictmail.core.overrides import Override
    from strictmail.core.sts.lifecycle import PolicyEntry
    from strictmail.ports import Clock, PolicyStore, Resolver

REMEMBER_SECONDS: Final = 600.0
"""How long an MX set is used again: a log is read in one go, or followed."""

MAX_REMEMBERED: Final = 20_000
AT_ONCE: Final = 32
"""Look-ups at the same time."""


class AppliedPolicies:
    """Decides as the daemon did.

    Args:
        store: The policy cache; None: there is none, and no policy was known.
        resolver: Started.
        clock: For what is remembered.
        dane: Whether the MTA does DANE.
        settings: The operator's choices.
    """

    def __init__(
        self,
        store: PolicyStore | None,
        resolver: Resolver,
        *,
        clock: Clock,
        dane: bool,
        settings: DecisionSettings,
    ) -> None:
        self._store = store
        self._resolver = resolver
        self._clock = clock
        self._profile = ListenerProfile(Level.MAY, dane and resolver.validates)
        self._settings = settings
        self._known: OrderedDict[str, tuple[float, MxSet]] = OrderedDict()

    async def find(self, questions: Iterable[tuple[str, datetime]]) -> list[Decision | None]:
        """Decide for domains at instants, in their order; None: could not be found out.

        Raises:
            StoreUnavailableError: The policy cache cannot be read: nothing is known.
        """
        gate = asyncio.Semaphore(AT_ONCE)
        overrides = {one.nexthop: one for one in self._store.overrides()} if self._store else {}

        async def one(domain: str, when: datetime) -> Decision | None:
            async with gate:
                return await self._decide(domain, when, overrides.get(domain))

        return await asyncio.gather(*(one(domain, when) for domain, when in questions))

    async def _decide(
        self, domain: str, when: datetime, override: Override | None
    ) -> Decision | None:
        entry = self._store.load(domain) if self._store is not None else None
        policy = policy_at(entry, when) if entry is not None else None
        mx = await self._find_mx(domain)
        if mx is None:
            return None
        return decide(
            domain,
            profile=self._profile,
            settings=self._settings,
            policy=policy,
            mx=mx,
            override=override if override is not None and override.is_active(when) else None,
        )

    async def _find_mx(self, domain: str) -> MxSet | None:
        known = self._known.get(domain)
        now = self._clock.monotonic()
        if known is not None and now < known[0]:
            return known[1]
        try:
            nexthop = parse_nexthop(domain)
        except NexthopSyntaxError:
            return None
        mx = await discover_mx(self._resolver, nexthop, want_tlsa=self._profile.dane)
        if mx.status is MxStatus.ERROR:
            return None
        # A host whose TLSA look-up fails now may well have had records then; it is not remembered.
        if all(host.tlsa_state is not TlsaState.ERROR for host in mx.hosts):
            self._known[domain] = (now + REMEMBER_SECONDS, mx)
            self._known.move_to_end(domain)
            while len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        return mx


def policy_at(entry: PolicyEntry, when: datetime) -> PolicyInfo | None:
    """The policy that was in force, as far as the cache remembers it; None: it had expired.

    A refresh renews `fetched_at`: whether a policy that was fetched since was known before cannot
    be told from its entry alone, so that `when` may lie before it.
    """
    if when > entry.expires_at:
        return None
    return PolicyInfo.of(entry)
