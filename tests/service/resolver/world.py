# SPDX-License-Identifier: Apache-2.0
"""A world for the engine in which time, DNS and HTTPS are tables that a test edits."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from strictmail.core.dnsvalues import Answer, Mx, Record, RecordType, Status, Tlsa
from strictmail.core.sts.policy import parse_policy
from strictmail.core.sts.values import FetchedPolicy, FetchFailure
from strictmail.core.tlsrpt.results import ResultType
from strictmail.resolver.engine import Engine, EngineSettings
from strictmail.runtime.clock import ManualClock
from strictmail.store.memory import MemoryPolicyStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FAILURE = FetchFailure(ResultType.STS_POLICY_FETCH_ERROR, "status 404", "http-status")
TTL = 300


class TableResolver:
    """Answers from a table; everything else is NXDOMAIN."""

    def __init__(self) -> None:
        self.validates = True
        self.answers: dict[tuple[str, RecordType], Answer] = {}
        self.asked: Counter[tuple[str, RecordType]] = Counter()
        self.gate: asyncio.Event | None = None

    def set(self, name: str, rdtype: RecordType, *records: Record, **given: Any) -> None:
        fields: dict[str, Any] = {"status": Status.OK, "ttl": TTL, "canonical_name": name, **given}
        self.answers[name, rdtype] = Answer(name, rdtype, records=records, **fields)

    def fail(self, name: str, rdtype: RecordType, status: Status) -> None:
        self.answers[name, rdtype] = Answer(name, rdtype, status, canonical_name=name)

    async def lookup(self, name: str, rdtype: RecordType) -> Answer:
        self.asked[name, rdtype] += 1
        if self.gate is not None:
            await self.gate.wait()
        found = self.answers.get((name, rdtype))
        return found or Answer(name, rdtype, Status.NXDOMAIN, canonical_name=name, ttl=60)


class TableFetcher:
    """Serves policies from a table; what is not there fails."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.failures: dict[str, FetchFailure] = {}
        self.fetched: Counter[str] = Counter()
        self.gate: asyncio.Event | None = None
        self.most_at_once = 0
        self._now = 0

    async def fetch(self, policy_domain: str) -> FetchedPolicy | FetchFailure:
        self.fetched[policy_domain] += 1
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(0)
            body = self.bodies.get(policy_domain)
            if body is None:
                return self.failures.get(policy_domain, FAILURE)
            return FetchedPolicy(parse_policy(body), body)
        finally:
            self._now -= 1


class Events:
    """Remembers what was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, object]]] = []

    def emit(self, name: str, /, **fields: object) -> None:
        self.told.append((name, fields))

    def names(self) -> list[str]:
        return [name for name, _ in self.told]


class World:
    """An engine and the tables around it."""

    def __init__(self, store: Any = None, settings: EngineSettings | None = None) -> None:
        self.clock = ManualClock()
        self.resolver = TableResolver()
        self.fetcher = TableFetcher()
        self.events = Events()
        self.store = store if store is not None else MemoryPolicyStore()
        self.engine = Engine(
            store=self.store,
            resolver=self.resolver,
            fetcher=self.fetcher,
            clock=self.clock,
            rng=random.Random(1),
            events=self.events,
            settings=settings,
        )

    def domain(
        self,
        name: str,
        *,
        policy_id: str = "1",
        mode: str = "enforce",
        max_age: int = 604800,
        mx: str | None = None,
        secure: bool = False,
    ) -> None:
        """A domain with a policy and one MX host that it names."""
        host = mx or f"mx.{name}"
        self.set_id(name, policy_id)
        self.set_policy(name, mode=mode, max_age=max_age, mx=f"mx.{name}")
        self.set_mx(name, host, secure=secure)

    def set_id(self, name: str, policy_id: str) -> None:
        self.resolver.set(
            f"_mta-sts.{name}", RecordType.TXT, (f"v=STSv1; id={policy_id};".encode(),)
        )

    def set_policy(self, name: str, *, mode: str, max_age: int, mx: str) -> None:
        body = f"version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: {max_age}\r\n"
        self.fetcher.bodies[name] = body.encode()

    def set_mx(self, name: str, *hosts: str, secure: bool = False) -> None:
        records = [Mx(10 * number, host) for number, host in enumerate(hosts, start=1)]
        self.resolver.set(name, RecordType.MX, *records, secure=secure)
        for host in hosts:
            self.resolver.set(host, RecordType.A, "192.0.2.1", secure=secure)
            self.resolver.set(host, RecordType.AAAA, status=Status.NODATA, secure=secure)

    def set_tlsa(self, host: str, *records: Tlsa) -> None:
        self.resolver.set(f"_25._tcp.{host}", RecordType.TLSA, *records, secure=True)

    async def settle(self) -> None:
        """Let everything under way come to its end."""
        for _ in range(100):
            await asyncio.sleep(0)
            if not self.engine.in_flight() and not self.engine._unsaved:
                return
            await asyncio.sleep(0.001)
        raise AssertionError("the engine does not settle")


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[World]:
    """A world with its engine started."""
    world = World(**options)
    await world.engine.start()
    try:
        yield world
    finally:
        await world.engine.close()
