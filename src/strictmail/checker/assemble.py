# SPDX-License-Identifier: Apache-2.0
"""Puts a gatherer together from the real adapters, all with the same settings, roots and map."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from strictmail.checker.gate import Gate
from strictmail.checker.gather import Gatherer
from strictmail.checker.hosts import HostCache
from strictmail.checker.memo import MemoResolver
from strictmail.checker.servers import NameServers
from strictmail.net.authority import AuthorityClient
from strictmail.net.connectto import STRAIGHT
from strictmail.net.https import HttpsPolicyFetcher
from strictmail.net.policyprobe import HttpsPolicyHostProber
from strictmail.net.reach import NetReach
from strictmail.net.ruaprobe import RuaClient
from strictmail.net.smtp import SmtpTlsProber
from strictmail.net.x509 import ChainVerifier

if TYPE_CHECKING:
    from strictmail.checker.limits import Sleeper
    from strictmail.checker.settings import CheckSettings
    from strictmail.net.connectto import ConnectMap
    from strictmail.ports import Clock, Resolver, Rng


def assemble(
    resolver: Resolver,
    settings: CheckSettings,
    *,
    clock: Clock,
    rng: Rng,
    ca_file: str | None = None,
    connect_map: ConnectMap = STRAIGHT,
    sleep: Sleeper = asyncio.sleep,
) -> Gatherer:
    """Make a gatherer over the network, for one run. Close it at the end.

    Args:
        resolver: Asked once for each name and type within the TTL; stays the caller's to close.
        settings: The bounds.
        clock: Time.
        rng: Ids of questions, and the spread of retries; `random.SystemRandom` outside tests.
        ca_file: Trusted roots in PEM; None for the system's.
        connect_map: Where connections go instead; `resolved` already. With one, canaries say
            nothing of port 25: leave them out of the settings.
        sleep: Waits.

    Raises:
        OSError: The roots cannot be read.
        ValueError: The EHLO name or a network is malformed.
    """
    reach = NetReach(connect_map)
    memo = MemoResolver(
        resolver,
        clock,
        keep_seconds=settings.keep_answers_seconds,
        max_entries=settings.max_kept_answers,
    )
    fetcher = HttpsPolicyFetcher(
        memo,
        ca_file=ca_file,
        timeout=settings.policy_seconds,
        allow_networks=settings.allow_networks,
        connect_map=connect_map,
    )
    gate = Gate(memo, reach, settings)
    prober = SmtpTlsProber(
        clock,
        ehlo_name=settings.ehlo_name,
        ca_file=ca_file,
        limits=settings.probe_limits,
        connect_map=connect_map,
    )
    hosts = HostCache(prober, gate, settings, clock=clock, rng=rng, sleep=sleep)
    authorities = AuthorityClient(rng=rng, timeout=settings.server_seconds, connect_map=connect_map)
    return Gatherer(
        resolver=memo,
        fetcher=fetcher,
        policy_prober=HttpsPolicyHostProber(fetcher, ChainVerifier(ca_file), clock),
        servers=NameServers(authorities, reach, settings, clock),
        rua_prober=RuaClient(
            memo,
            prober=hosts if settings.want_probes else None,
            ca_file=ca_file,
            timeout=settings.rua_seconds,
            allow_networks=settings.allow_networks,
            connect_map=connect_map,
        ),
        hosts=hosts,
        gate=gate,
        settings=settings,
        clock=clock,
        sleep=sleep,
    )
