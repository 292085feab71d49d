# SPDX-License-Identifier: Apache-2.0
"""From a configuration to the concrete parts: the one place that builds adapters."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from strictmail.core.decision import DecisionSettings
from strictmail.core.errors import StoreUnavailableError
from strictmail.net.dns import DnsResolver, is_loopback, system_servers
from strictmail.net.https import HttpsPolicyFetcher
from strictmail.resolver.engine import Engine, EngineSettings, EventSink
from strictmail.runtime.clock import SystemClock
from strictmail.runtime.options import TrustAd
from strictmail.store.memory import MemoryPolicyStore
from strictmail.store.policies import SqlitePolicyStore

if TYPE_CHECKING:
    from strictmail.resolver.engine import EngineStore
    from strictmail.runtime.config import Config


def build_resolver(config: Config) -> DnsResolver:
    """The DNS adapter; start and probe it on the loop that uses it."""
    servers = config.dns.servers or system_servers()
    # RFC 7672 §2.1.1: the AD bit only from loopback or a path the operator vouches for (DANE-02).
    trust_ad = config.dns.trust_ad is TrustAd.ALWAYS or (
        config.dns.trust_ad is TrustAd.LOOPBACK and all(is_loopback(host) for host, _ in servers)
    )
    return DnsResolver(
        servers,
        timeout=config.dns.timeout.total_seconds(),
        attempts=config.dns.attempts,
        trust_ad=trust_ad,
        rng=random.SystemRandom(),
    )


def build_fetcher(config: Config, resolver: DnsResolver) -> HttpsPolicyFetcher:
    """The HTTPS adapter."""
    policy = config.policy
    return HttpsPolicyFetcher(
        resolver,
        ca_file=policy.ca_file or None,
        timeout=policy.fetch_timeout.total_seconds(),
        allow_networks=policy.allow_networks,
        connect_port=policy.connect_port,
        user_agent=policy.user_agent,
    )


def engine_settings(config: Config) -> EngineSettings:
    """The engine's numbers."""
    cache, decision = config.cache, config.decision
    return EngineSettings(
        decision=DecisionSettings(
            testing=decision.testing,
            partial_dane=decision.partial_dane,
            dns_failure=decision.dns_failure,
            off_policy_dane=decision.off_policy_dane,
        ),
        answer_deadline=decision.answer_deadline.total_seconds(),
        fetch_concurrency=config.policy.fetch_concurrency,
        negative_ttl=cache.negative_ttl.total_seconds(),
        refresh_interval=cache.refresh_interval,
        idle_after=cache.idle_after,
        known_entries=cache.known_entries,
        per_registrable_domain=cache.per_registrable_domain,
        smart_host_policy=decision.smart_host_policy,
    )


def open_store(config: Config, events: EventSink) -> EngineStore:
    """Open the policy store.

    Where the state directory cannot be written and holds no policies yet, nothing cached can be
    lost: answers go on from memory, and the log says so. Policies that are there and cannot be
    read are another matter: what they demand is unknown, and the daemon does not start.

    Raises:
        StoreUnavailableError: Policies are there and cannot be read.
        SchemaTooNewError: A newer strictmail wrote them.
    """
    path = Path(config.policies_path)
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        return SqlitePolicyStore(str(path))
    except (OSError, StoreUnavailableError) as error:
        if path.exists():
            raise StoreUnavailableError(
                f"{path}: {error}; until it can be read, what it demands is unknown"
            ) from error
        events.emit("store-unavailable", error=str(error))
        return MemoryPolicyStore()


@dataclass(slots=True)
class EngineParts:
    """An engine and what it stands on; lives on one loop."""

    engine: Engine
    resolver: DnsResolver
    fetcher: HttpsPolicyFetcher
    store: EngineStore

    @property
    def is_stored(self) -> bool:
        """Whether what is learnt outlives the process."""
        return not isinstance(self.store, MemoryPolicyStore)

    async def replace_adapters(self, config: Config) -> None:
        """After a reload: new DNS and HTTPS adapters, then the old ones go.

        Raises:
            OSError: No DNS socket, or the roots cannot be read; everything is as before.
        """
        old, new = self.resolver, build_resolver(config)
        try:
            await new.start()
            await new.probe()
            self.fetcher = build_fetcher(config, new)
        except BaseException:
            await new.close()
            raise
        self.resolver = new
        self.engine.resolver, self.engine.fetcher = new, self.fetcher
        self.engine.apply_settings(engine_settings(config))
        await old.close()

    async def close(self) -> None:
        """Write down what was learnt and close everything."""
        await self.engine.close()
        await self.resolver.close()
        self.store.close()


async def open_engine(
    config: Config, events: EventSink, store: EngineStore | None = None
) -> EngineParts:
    """Build and start an engine on the running loop.

    Args:
        config: The configuration.
        events: Where to tell what happens.
        store: Instead of the one in the state directory.

    Raises:
        StoreError: See `open_store`.
        OSError: No DNS socket can be opened.
    """
    store = store if store is not None else open_store(config, events)
    resolver = build_resolver(config)
    try:
        await resolver.start()
        await resolver.probe()
        fetcher = build_fetcher(config, resolver)
        engine = Engine(
            store=store,
            resolver=resolver,
            fetcher=fetcher,
            clock=SystemClock(),
            rng=random.SystemRandom(),
            events=events,
            settings=engine_settings(config),
        )
        await engine.start()
    except BaseException:
        await resolver.close()
        store.close()
        raise
    return EngineParts(engine, resolver, fetcher, store)
