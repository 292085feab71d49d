# SPDX-License-Identifier: Apache-2.0
"""Looks at the MX hosts of domains, day after day: for the reporter, which probes what nobody verified.

It is the same look as in a check, and as polite, without the rest of a check: MX, addresses, and one
session with each address (EHLO, STARTTLS, QUIT; never mail). A daemon lives on while networks
change, so port 25 is tested anew every hour in which somebody is looked at.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from strictmail.checker.assemble import assemble
from strictmail.checker.memo import MemoResolver
from strictmail.net.connectto import STRAIGHT

if TYPE_CHECKING:
    from strictmail.checker.gather import Gatherer
    from strictmail.checker.limits import Sleeper
    from strictmail.checker.settings import CheckSettings
    from strictmail.core.check.facts import DomainFacts, PortState
    from strictmail.net.connectto import ConnectMap
    from strictmail.ports import Clock, Resolver, Rng

RETEST_SECONDS: Final = 3600.0
"""Before port 25 is tested again, open or not: a connection to each canary."""

MAX_ADDRESSES: Final = 8
"""Of one host and family. One that is not looked at leaves everything open, and some large
receivers have more than a check needs to see."""


class MxLooker:
    """Looks at MX hosts (`strictmail.reporter.probing.HostLooker`). For one event loop.

    Args:
        gatherer: Looks.
        clock: For when port 25 is tested again.
    """

    def __init__(self, gatherer: Gatherer, clock: Clock) -> None:
        self._gatherer = gatherer
        self._clock = clock
        self._tested_at = clock.monotonic()

    async def look(self, domain: str) -> DomainFacts:
        """Look at the MX hosts of a domain (A-labels, lower case). Never raises; bounded in time."""
        if self._clock.monotonic() - self._tested_at >= RETEST_SECONDS:
            self._forget_port()
        return await self._gatherer.gather_hosts(domain)

    async def test_port(self) -> PortState:
        """Test port 25 now. Never raises; bounded in time."""
        self._forget_port()
        return await self._gatherer.gate.check()

    def _forget_port(self) -> None:
        self._tested_at = self._clock.monotonic()
        self._gatherer.gate.forget()

    async def close(self) -> None:
        """End what is under way."""
        await self._gatherer.close()


def build_looker(
    resolver: Resolver,
    settings: CheckSettings,
    *,
    clock: Clock,
    rng: Rng,
    ca_file: str | None = None,
    connect_map: ConnectMap = STRAIGHT,
    sleep: Sleeper = asyncio.sleep,
) -> MxLooker:
    """A looker over the network, on the running loop.

    Args:
        resolver: Asked for MX and addresses; stays the caller's to close.
        settings: Those of a check.
        clock: Time.
        rng: Spreads retries.
        ca_file: Trusted roots in PEM for MX hosts; None for the system's.
        connect_map: Where connections go instead; with one, leave canaries out of the settings.
        sleep: Waits.

    Raises:
        OSError: The roots cannot be read.
        ValueError: The EHLO name or a network is malformed.
    """
    settings = replace(settings, both_key_types=False, max_addresses=MAX_ADDRESSES)
    memo = MemoResolver(
        resolver,
        clock,
        max_entries=settings.max_kept_answers,
        keep_seconds=settings.keep_answers_seconds,
    )
    gatherer = assemble(
        memo,
        settings,
        clock=clock,
        rng=rng,
        mx_ca_file=ca_file,
        connect_map=connect_map,
        sleep=sleep,
    )
    return MxLooker(gatherer, clock)
