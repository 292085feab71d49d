# SPDX-License-Identifier: Apache-2.0
"""Every domain of the zoo, through the real DNS and HTTPS adapters: decided as the zoo says.

The zoo's expectations were written from the requirements; a disagreement is a defect here.
"""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from tests.service.resolver.world import Events

from strictmail.core.decision import ListenerProfile
from strictmail.lab.net import Lab
from strictmail.lab.zoo import ZOO
from strictmail.net.dns import DnsResolver
from strictmail.net.https import HttpsPolicyFetcher
from strictmail.resolver.engine import Engine, EngineSettings
from strictmail.runtime.clock import SystemClock
from strictmail.store.memory import MemoryPolicyStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from strictmail.core.decision import Decision
    from strictmail.lab.entries import ZooEntry

pytestmark = pytest.mark.slow

FETCH_SECONDS = 1.5
"""Slow policy hosts are cut off after this; good ones on loopback need some milliseconds."""


@asynccontextmanager
async def engine_for(lab: Lab, *, dane: bool) -> AsyncIterator[Engine]:
    resolver = DnsResolver(
        [lab.dns_address], timeout=1.0, attempts=2, trust_ad=True, rng=random.Random(1)
    )
    await resolver.start()
    await resolver.probe()
    assert resolver.validates
    fetcher = HttpsPolicyFetcher(
        resolver,
        ca_file=str(lab.ca_file),
        timeout=FETCH_SECONDS,
        allow_networks=["127.0.0.0/8"],
        connect_port=lab.https_port,
    )
    engine = Engine(
        store=MemoryPolicyStore(),
        resolver=resolver,
        fetcher=fetcher,
        clock=SystemClock(),
        rng=random.Random(1),
        events=Events(),
        settings=EngineSettings(fetch_concurrency=200),
    )
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()
        await resolver.close()


@pytest.mark.parametrize("dane", [True, False], ids=["dane", "without-dane"])
async def test_every_domain_is_decided_as_the_zoo_says(dane: bool) -> None:
    wrong = []
    async with Lab(zoo=ZOO) as lab, engine_for(lab, dane=dane) as engine:
        profile = ListenerProfile(dane=dane)
        for entry in ZOO:
            decision = (await engine.rule(entry.domain, profile)).decision
            wrong += [f"{entry.name}: {fault}" for fault in faults(entry, decision, dane=dane)]
    assert not wrong, "\n".join(wrong)


def faults(entry: ZooEntry, decision: Decision, *, dane: bool) -> list[str]:
    expect = entry.expect
    wanted = expect.level if dane else expect.level_without_dane
    found = []
    if wanted is not None and decision.level is not wanted:
        found.append(f"level {decision.level} ({decision.reason}), not {wanted}: {expect.why}")
    result = decision.failure.result_type if decision.failure else None
    if expect.result_type is not None and result is not expect.result_type:
        found.append(f"result type {result}, not {expect.result_type}")
    return found
