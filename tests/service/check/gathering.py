# SPDX-License-Identifier: Apache-2.0
"""A gatherer over fakes, in a world that a test edits; its time passes when the test says so."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

from strictmail.checker.gate import Gate
from strictmail.checker.gather import Gatherer
from strictmail.checker.hosts import HostCache
from strictmail.checker.memo import MemoResolver
from strictmail.checker.servers import NameServers
from strictmail.checker.settings import CheckSettings
from strictmail.core.dnsvalues import Mx, RecordType
from strictmail.net.fakes import (
    FakeAuthorityLookup,
    FakeFetcher,
    FakePolicyHostProber,
    FakeReach,
    FakeResolver,
    FakeRuaProber,
    FakeSmtpProber,
)
from strictmail.runtime.clock import ManualClock

A, AAAA, MX, TXT, NS = (
    RecordType.A,
    RecordType.AAAA,
    RecordType.MX,
    RecordType.TXT,
    RecordType.NS,
)

DOMAIN: Final = "example.com"
HOST: Final = "mx.example.com"
POLICY_HOST: Final = "mta-sts.example.com"
BODY: Final = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 604800\n"
NETWORKS: Final = ("192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32")
"""The networks of documentation count as public here."""


class Alarm:
    """Sleeps until a test lets the time pass.

    Attributes:
        slept: How long somebody wanted to sleep, in order.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.slept: list[float] = []
        self._clock = clock
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        event = asyncio.Event()
        self._sleepers.append((self._clock.monotonic() + seconds, event))
        await event.wait()

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake who has slept enough."""
        self._clock.advance(seconds)
        # The clock counts whole microseconds.
        now = self._clock.monotonic() + 1e-6
        for until, event in self._sleepers:
            if until <= now:
                event.set()
        self._sleepers = [one for one in self._sleepers if one[0] > now]


async def settle(turns: int = 60) -> None:
    """Let everybody run who can."""
    for _ in range(turns):
        await asyncio.sleep(0)


class World:
    """Everything around a gatherer, all fake. `example.com` is there, and all is well with it."""

    def __init__(self, **changes: Any) -> None:
        self.clock = ManualClock()
        self.alarm = Alarm(self.clock)
        self.resolver = FakeResolver()
        self.fetcher = FakeFetcher()
        self.prober = FakeSmtpProber()
        self.policy_prober = FakePolicyHostProber()
        self.authorities = FakeAuthorityLookup(self.resolver)
        self.rua_prober = FakeRuaProber()
        self.reach = FakeReach()
        values: dict[str, Any] = {
            "allow_networks": NETWORKS,
            "port25_canaries": (),
            "spacing_seconds": 0.0,
        }
        self.settings = CheckSettings(**(values | changes))
        memo = MemoResolver(
            self.resolver,
            self.clock,
            keep_seconds=self.settings.keep_answers_seconds,
            max_entries=self.settings.max_kept_answers,
        )
        self.gate = Gate(memo, self.reach, self.settings)
        self.hosts = HostCache(
            self.prober,
            self.gate,
            self.settings,
            clock=self.clock,
            rng=random.Random(1),
            sleep=self.alarm.sleep,
        )
        self.gatherer = Gatherer(
            resolver=memo,
            fetcher=self.fetcher,
            policy_prober=self.policy_prober,
            servers=NameServers(self.authorities, self.reach, self.settings, self.clock),
            rua_prober=self.rua_prober,
            hosts=self.hosts,
            gate=self.gate,
            settings=self.settings,
            clock=self.clock,
            sleep=self.alarm.sleep,
        )

    def populate(self, domain: str = DOMAIN, *, host: str = HOST, number: int = 1) -> None:
        """A domain with one MX host, a policy, a TLSRPT record and two name servers."""
        resolver, policy_host = self.resolver, f"mta-sts.{domain}"
        resolver.add(domain, MX, Mx(10, host))
        resolver.add(host, A, f"192.0.2.{number}")
        resolver.add(host, AAAA, f"2001:db8::{number}")
        self.prober.serve(f"192.0.2.{number}")
        self.prober.serve(f"2001:db8::{number}")
        resolver.add(f"_mta-sts.{domain}", TXT, (b"v=STSv1; id=1;",))
        resolver.add(policy_host, A, f"198.51.100.{number}")
        self.policy_prober.serve(f"198.51.100.{number}", BODY)
        self.fetcher.serve(domain, BODY)
        rua = f"v=TLSRPTv1; rua=mailto:tls@{domain}".encode()
        resolver.add(f"_smtp._tls.{domain}", TXT, (rua,))
        resolver.add(domain, NS, f"ns1.{domain}", f"ns2.{domain}")
        resolver.add(f"ns1.{domain}", A, "192.0.2.201")
        resolver.add(f"ns2.{domain}", A, "192.0.2.202")
