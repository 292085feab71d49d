# SPDX-License-Identifier: Apache-2.0
"""The Python API: discover what a domain demands, decide, explain.

Async first; each coroutine has a wrapper with `_sync` in its name for programs without a loop.
Nothing is cached and nothing is written: a program that sends mail should ask the daemon, whose
cache is what protects it (RFC 8461 §10.2).

Example::

    import asyncio
    import strictmail

    async def main() -> None:
        async with strictmail.Client() as client:
            found = await client.discover("example.com")
        decision = strictmail.decide(found, dane=True)
        print(strictmail.explain(decision))

    asyncio.run(main())
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from strictmail.core.decision import (
    Decision,
    DecisionSettings,
    Level,
    ListenerProfile,
    PolicyInfo,
    simple_decision,
)
from strictmail.core.decision import decide as decide_pure
from strictmail.core.explain import explain_lines
from strictmail.core.nexthop import Nexthop, NexthopKind, parse_nexthop
from strictmail.core.sts.values import FetchedPolicy, FetchFailure
from strictmail.discovery.mx import discover_mx
from strictmail.discovery.policy import RecordLookup, RecordStatus, look_up_record
from strictmail.net.dns import DnsResolver, is_loopback, system_servers
from strictmail.net.https import HttpsPolicyFetcher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from strictmail.core.mxset import MxSet
    from strictmail.ports import PolicyFetcher, Resolver

__all__ = [
    "Client",
    "Decision",
    "DecisionSettings",
    "Discovery",
    "Level",
    "ListenerProfile",
    "decide",
    "discover_sync",
    "explain",
]


@dataclass(frozen=True, slots=True)
class Discovery:
    """What DNS and HTTPS said of one next-hop.

    Attributes:
        nexthop: As asked, taken apart.
        record: The `_mta-sts` TXT record, or why there is none; None for an address literal and
            for a key for subdomains.
        policy: The policy, why it could not be fetched, or None when no record asked for it.
        mx: The MX set with the TLSA state of each host.
        validates: Whether the resolver's AD bit could be trusted; False: DANE is off.
        looked_up_at: Aware, UTC.
    """

    nexthop: Nexthop
    record: RecordLookup | None
    policy: FetchedPolicy | FetchFailure | None
    mx: MxSet
    validates: bool
    looked_up_at: datetime


class Client:
    """Looks next-hops up, any number at once.

    Args:
        servers: DNS servers as (address, port); default: those of /etc/resolv.conf.
        trust_ad: Whether their AD bit is trusted; default: only when all are on loopback.
        ca_file: Trusted roots in PEM; default: the system's.
        allow_networks: CIDR networks that policy hosts may live in beside the public ones.
        timeout: Seconds for one policy fetch, all told.
        resolver: Instead of an own DNS adapter.
        fetcher: Instead of an own HTTPS adapter.
    """

    def __init__(
        self,
        *,
        servers: Sequence[tuple[str, int]] = (),
        trust_ad: bool | None = None,
        ca_file: str | None = None,
        allow_networks: Sequence[str] = (),
        timeout: float = 60.0,
        resolver: Resolver | None = None,
        fetcher: PolicyFetcher | None = None,
    ) -> None:
        self._own: DnsResolver | None = None
        if resolver is None:
            chosen = tuple(servers) or system_servers()
            if trust_ad is None:
                trust_ad = all(is_loopback(host) for host, _ in chosen)
            resolver = self._own = DnsResolver(
                chosen, timeout=3.0, attempts=3, trust_ad=trust_ad, rng=random.SystemRandom()
            )
        self._resolver = resolver
        self._fetcher = fetcher or HttpsPolicyFetcher(
            resolver, ca_file=ca_file, timeout=timeout, allow_networks=allow_networks
        )

    async def __aenter__(self) -> Self:
        if self._own is not None:
            await self._own.start()
            await self._own.probe()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._own is not None:
            await self._own.close()

    async def discover(self, nexthop: str) -> Discovery:
        """Look one next-hop up: record, policy, MX set and TLSA.

        Args:
            nexthop: A domain or any form an MTA uses, U-labels allowed.

        Raises:
            NexthopSyntaxError: Nothing that can be looked up.

        Spec: RFC 8461 §3; RFC 7672 §2.
        """
        parsed = parse_nexthop(nexthop)
        validates = self._resolver.validates
        record: RecordLookup | None = None
        policy: FetchedPolicy | FetchFailure | None = None
        async with asyncio.TaskGroup() as group:
            mx = group.create_task(discover_mx(self._resolver, parsed, want_tlsa=validates))
            # RFC 8461 §3.4: no policy for parents or address literals (STS-APP-03, STS-APP-04).
            if parsed.kind in (NexthopKind.DOMAIN, NexthopKind.HOST):
                record = await look_up_record(self._resolver, parsed.domain)
                if record.status is RecordStatus.FOUND:
                    policy = await self._fetcher.fetch(parsed.domain)
        return Discovery(
            nexthop=parsed,
            record=record,
            policy=policy,
            mx=mx.result(),
            validates=validates,
            looked_up_at=datetime.now(UTC),
        )


def discover_sync(nexthop: str, **options: object) -> Discovery:
    """`Client(**options).discover(nexthop)` for programs without an event loop."""

    async def run() -> Discovery:
        async with Client(**options) as client:  # type: ignore[arg-type]
            return await client.discover(nexthop)

    return asyncio.run(run())


def decide(
    found: Discovery,
    *,
    dane: bool = False,
    default_level: Level = Level.MAY,
    settings: DecisionSettings | None = None,
) -> Decision:
    """Decide what a discovered next-hop demands of a sender.

    Args:
        found: What was discovered.
        dane: Whether the sender does DANE; counts only where the resolver validates.
        default_level: The sender's default TLS level; no decision is below it.
        settings: The operator's choices.
    """
    kind = found.nexthop.kind
    if kind is NexthopKind.ADDRESS_LITERAL:
        return simple_decision(found.nexthop.domain, Level.NONE, "address-literal")
    if kind is NexthopKind.PARENT:
        return simple_decision(found.nexthop.domain, Level.NONE, "parent")
    fetched = found.policy if isinstance(found.policy, FetchedPolicy) else None
    return decide_pure(
        found.nexthop.domain,
        profile=ListenerProfile(default_level, dane and found.validates),
        settings=settings or DecisionSettings(),
        policy=_policy_info(found, fetched) if fetched else None,
        mx=found.mx,
        failure=found.policy if isinstance(found.policy, FetchFailure) else None,
        record_failed=found.record is not None and found.record.status is RecordStatus.FAILED,
    )


def _policy_info(found: Discovery, fetched: FetchedPolicy) -> PolicyInfo:
    policy = fetched.policy
    record = found.record.record if found.record else None
    return PolicyInfo(
        policy_id=record.policy_id if record else "",
        mode=policy.mode,
        max_age=policy.max_age,
        mx_patterns=policy.mx_patterns,
        policy_strings=policy.policy_strings,
        fetched_at=found.looked_up_at,
        expires_at=found.looked_up_at + timedelta(seconds=policy.max_age),
        source="fetch",
    )


def explain(decision: Decision, now: datetime | None = None) -> str:
    """Say a decision in words, with the RFC section of each rule; several lines."""
    return "\n".join(explain_lines(decision, now or datetime.now(UTC)))
