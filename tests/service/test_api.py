# SPDX-License-Identifier: Apache-2.0
"""The Python API against tables: what its docstring promises."""

from __future__ import annotations

import asyncio
from importlib.resources import files

import pytest
from tests.service.resolver.world import FAILURE, TableFetcher, TableResolver, World

import strictmail
from strictmail.core.dnsvalues import RecordType
from strictmail.core.errors import NexthopSyntaxError

D = "good.example"


async def decided(nexthop: str, *, dane: bool = False) -> strictmail.Decision:
    world = World()
    world.domain(D, secure=True)
    async with strictmail.Client(resolver=world.resolver, fetcher=world.fetcher) as client:
        found = await client.discover(nexthop)
    return strictmail.decide(found, dane=dane)


async def test_discover_decide_explain() -> None:
    decision = await decided(D, dane=True)
    assert decision.level is strictmail.Level.SECURE
    assert "RFC 8461" in strictmail.explain(decision)


@pytest.mark.req("STS-APP-03", "STS-APP-04")
@pytest.mark.parametrize(
    ("nexthop", "reason"), [(f".{D}", "parent"), ("[192.0.2.1]:25", "address-literal")]
)
async def test_a_key_without_policy_domain_demands_nothing(nexthop: str, reason: str) -> None:
    decision = await decided(nexthop, dane=True)
    assert (decision.level, decision.reason) == (strictmail.Level.NONE, reason)


async def test_junk_is_refused_by_name() -> None:
    with pytest.raises(NexthopSyntaxError, match="empty label"):
        await decided("a..b")


async def test_giving_up_leaves_no_task_behind() -> None:
    resolver = TableResolver()
    resolver.gate = asyncio.Event()
    async with strictmail.Client(resolver=resolver, fetcher=TableFetcher()) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.discover(D), 0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_without_a_loop() -> None:
    world = World()
    world.domain(D)
    world.fetcher.bodies.clear()
    found = strictmail.discover_sync(D, resolver=world.resolver, fetcher=world.fetcher)
    assert found.policy == FAILURE
    assert strictmail.decide(found).level is strictmail.Level.NONE
    assert world.resolver.asked[f"_mta-sts.{D}", RecordType.TXT] == 1


def test_it_is_typed() -> None:
    assert files("strictmail").joinpath("py.typed").is_file()
    assert all(hasattr(strictmail, name) for name in strictmail.__all__)
