# SPDX-License-Identifier: Apache-2.0
"""Puts a gatherer together from the real adapters, all with the same settings, roots and map."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

from strictmail import __version__
from strictmail.checker.gate import Gate
from strictmail.checker.gather import Gatherer
from strictmail.checker.hosts import HostCache
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

USER_AGENT: Final = f"strictmail/{__version__}"


def assemble(
    resolver: Resolver,
    settings: CheckSettings,
    *,
    clock: Clock,
    rng: Rng,
    mx_ca_file: str | None = None,
    policy_ca_file: str | None = None,
    user_agent: str = USER_AGENT,
    connect_map: ConnectMap = STRAIGHT,
    sleep: Sleeper = asyncio.sleep,
) -> Gatherer:
    """Make a gatherer over the network, for one run. Close it at the end.

    Args:
        resolver: See `Gatherer`; stays the caller's to close.
        settings: The bounds.
        clock: Time.
        rng: Ids of questions, and the spread of retries; `random.SystemRandom` outside tests.
        mx_ca_file: Trusted roots in PEM for MX hosts; None for the system's.
        policy_ca_file: The same for policy hosts and report endpoints.
        user_agent: What to say to policy hosts.
        connect_map: Where connections go instead; `resolved` already. With one, canaries say
            nothing of port 25: leave them out of the settings.
        sleep: Waits.

    Raises:
        OSError: The roots cannot be read.
        ValueError: The EHLO name or a network is malformed.
    """
    reach = NetReach(connect_map)
    fetcher = HttpsPolicyFetcher(
        resolver,
        ca_file=policy_ca_file,
        timeout=settings.policy_seconds,
        allow_networks=settings.allow_networks,
        connect_map=connect_map,
        user_agent=user_agent,
    )
    gate = Gate(resolver, reach, settings)
    prober = SmtpTlsProber(
        clock,
        ehlo_name=settings.ehlo_name or socket.getfqdn(),
        ca_file=mx_ca_file,
        limits=settings.probe_limits,
        connect_map=connect_map,
    )
    hosts = HostCache(prober, gate, settings, clock=clock, rng=rng, sleep=sleep)
    authorities = AuthorityClient(rng=rng, timeout=settings.server_seconds, connect_map=connect_map)
    return Gatherer(
        resolver=resolver,
        fetcher=fetcher,
        policy_prober=HttpsPolicyHostProber(fetcher, ChainVerifier(policy_ca_file), clock),
        servers=NameServers(authorities, reach, settings, clock),
        rua_prober=RuaClient(
            resolver,
            prober=hosts if settings.want_probes else None,
            ca_file=policy_ca_file,
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
