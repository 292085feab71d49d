# SPDX-License-Identifier: Apache-2.0
"""Checks for programs and for the command: builds the adapters, checks domains, closes them.

::

    async with CheckClient() as client:
        result = await client.check("example.com")

One client serves any number of checks: MX hosts that domains share are visited once, and the
limits of politeness hold over all of them. `check` is the same for programs without event loop.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from strictmail.checker.assemble import USER_AGENT, assemble
from strictmail.checker.inputs import read_domain
from strictmail.checker.memo import MemoResolver
from strictmail.checker.settings import CheckSettings
from strictmail.core.check.judge import judge
from strictmail.net.connectto import STRAIGHT, ConnectMap
from strictmail.net.dns import DnsResolver, is_loopback, system_servers
from strictmail.runtime.clock import SystemClock

if TYPE_CHECKING:
    from types import TracebackType

    from strictmail.checker.gather import Gatherer
    from strictmail.core.check.result import CheckResult
    from strictmail.core.sts.lifecycle import PolicyEntry
    from strictmail.ports import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """Where and how to look.

    Attributes:
        servers: Addresses and ports of validating resolvers; empty: the system's.
        trust_ad: Believe their AD bit; None: where they are on this machine.
        dns_timeout: Seconds for a question to one server.
        dns_attempts: Tries for a question, over all servers.
        mx_ca_file: Trusted roots in PEM for MX hosts; None: the system's.
        policy_ca_file: The same for policy hosts and report endpoints.
        connect_to: `HOST1:PORT1:HOST2:PORT2` as curl takes it: where connections go instead.
        user_agent: What to say to policy hosts.
        settings: How a check is made, and its bounds.
    """

    servers: tuple[tuple[str, int], ...] = ()
    trust_ad: bool | None = None
    dns_timeout: float = 3.0
    dns_attempts: int = 3
    mx_ca_file: str | None = None
    policy_ca_file: str | None = None
    connect_to: tuple[str, ...] = ()
    user_agent: str = USER_AGENT
    settings: CheckSettings = field(default_factory=CheckSettings)


class CheckClient:
    """Checks domains; an asynchronous context manager. For one event loop.

    Args:
        options: Where and how to look.
        clock: Time.

    Raises:
        SyntaxFault: An entry of `connect_to` is malformed.
    """

    def __init__(self, options: CheckOptions | None = None, *, clock: Clock | None = None) -> None:
        self._options = options or CheckOptions()
        self._clock = clock or SystemClock()
        self._connect_map = ConnectMap.parse(self._options.connect_to)
        self._stack = AsyncExitStack()
        self._gatherer: Gatherer

    async def __aenter__(self) -> Self:
        """Open everything.

        Raises:
            OSError: No DNS socket can be opened, or the roots cannot be read.
            ValueError: The EHLO name or a network is malformed.
            UnreachableError: A name in `connect_to` has no address.
        """
        try:
            await self._build()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def check(self, domain: str, cached: PolicyEntry | None = None) -> CheckResult:
        """Check one domain; never raises for what anybody out there does.

        Args:
            domain: In any form in which people give it; see `checker.inputs`.
            cached: A policy that senders may still hold from before, if one is known.

        Raises:
            DomainSyntaxError: There is no domain in the text; the message says what to do.
        """
        return judge(await self._gatherer.gather(read_domain(domain).domain, cached))

    async def _build(self) -> None:
        options, settings = self._options, self._options.settings
        own = await self._start_resolver()
        connect_map = await self._connect_map.resolved(own)
        if connect_map != STRAIGHT:
            # Connections go to a lab: what stands there says nothing about the real port 25.
            settings = replace(settings, port25_canaries=())
        resolver = MemoResolver(
            own,
            self._clock,
            max_entries=settings.max_kept_answers,
            keep_seconds=settings.keep_answers_seconds,
        )
        self._gatherer = assemble(
            resolver,
            settings,
            clock=self._clock,
            rng=random.SystemRandom(),
            mx_ca_file=options.mx_ca_file,
            policy_ca_file=options.policy_ca_file,
            user_agent=options.user_agent,
            connect_map=connect_map,
        )
        self._stack.push_async_callback(self._gatherer.close)

    async def _start_resolver(self) -> DnsResolver:
        options = self._options
        servers = options.servers or tuple(system_servers())
        trust_ad = options.trust_ad
        if trust_ad is None:
            # RFC 7672 §2.1.1: the AD bit only over a path that nobody else can write to (DANE-02).
            trust_ad = all(is_loopback(host) for host, _ in servers)
        resolver = DnsResolver(
            servers,
            timeout=options.dns_timeout,
            attempts=options.dns_attempts,
            trust_ad=trust_ad,
            rng=random.SystemRandom(),
        )
        await resolver.start()
        self._stack.push_async_callback(resolver.close)
        await resolver.probe()
        return resolver


def check(domain: str, options: CheckOptions | None = None) -> CheckResult:
    """Check one domain, in a program without event loop.

    Args:
        domain: In any form in which people give it.
        options: Where and how to look.

    Raises:
        DomainSyntaxError: There is no domain in the text.
        OSError: No DNS socket can be opened, or the roots cannot be read.
    """

    async def run() -> CheckResult:
        async with CheckClient(options) as client:
            return await client.check(domain)

    return asyncio.run(run())
