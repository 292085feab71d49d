# SPDX-License-Identifier: Apache-2.0
"""Requirements on the engine that no other test decides; no network, no sleeping."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tests.service.resolver.world import World, running

from strictmail.core.decision import Level, ListenerProfile
from strictmail.core.dnsvalues import RecordType, Status, Tlsa
from strictmail.core.sts.policy import parse_policy
from strictmail.store.policies import SqlitePolicyStore

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = ListenerProfile()
DANE = ListenerProfile(dane=True)
HOUR = timedelta(hours=1)
D = "good.example"


async def level(world: World, key: str = D, profile: ListenerProfile = PLAIN) -> Level:
    return (await world.engine.rule(key, profile)).decision.level


@pytest.mark.req("STS-APP-06")
async def test_domains_that_share_an_mx_host_are_judged_each_by_itself() -> None:
    async with running() as world:
        for name, mode in (("enforce.example", "enforce"), ("testing.example", "testing")):
            world.domain(name, mode=mode, mx="mx.provider.example")
            world.set_policy(name, mode=mode, max_age=604800, mx="mx.provider.example")
        world.set_mx("none.example", "mx.provider.example")
        world.domain("off.example", mx="mx.provider.example")  # its policy names another host
        levels = {
            name: await level(world, f"{name}.example")
            for name in ("enforce", "testing", "none", "off", "enforce")
        }
    assert levels == {
        "enforce": Level.SECURE,
        "testing": Level.NONE,
        "none": Level.NONE,
        "off": Level.DEFER,
    }


@pytest.mark.req("SEC-10")
@pytest.mark.parametrize("status", [Status.NXDOMAIN, Status.SERVFAIL])
async def test_a_record_that_is_blocked_is_told_once_and_again_after_it_was_back(
    status: Status,
) -> None:
    async with running() as world:
        world.domain(D)
        await level(world)

        async def look_again() -> int:
            world.clock.advance(HOUR)
            assert await level(world) is Level.SECURE
            await world.settle()
            return world.events.names().count("policy-record-missing")

        assert await look_again() == 0
        world.resolver.fail(f"_mta-sts.{D}", RecordType.TXT, status)
        assert [await look_again(), await look_again()] == [1, 1]
        world.set_id(D, "1")
        assert await look_again() == 1
        world.resolver.fail(f"_mta-sts.{D}", RecordType.TXT, status)
        assert await look_again() == 2


@pytest.mark.req("SEC-10", "STS-FET-40")
async def test_a_domain_that_leaves_in_order_is_no_alarm() -> None:
    async with running() as world:
        world.domain(D, mode="none", max_age=86400)
        await level(world)
        world.resolver.fail(f"_mta-sts.{D}", RecordType.TXT, Status.NXDOMAIN)
        for _ in range(5):
            world.clock.advance(HOUR)
            await level(world)
            await world.settle()
        assert "policy-record-missing" not in world.events.names()


@pytest.mark.req("SEC-09", "STS-REC-30")
@pytest.mark.parametrize("status", [Status.SERVFAIL, Status.BOGUS, Status.TIMEOUT])
async def test_a_block_at_first_contact_ends_with_the_block(status: Status) -> None:
    async with running() as world:
        world.domain(D)
        world.resolver.fail(f"_mta-sts.{D}", RecordType.TXT, status)
        assert await level(world) is Level.NONE
        world.set_id(D, "1")
        assert await level(world) is Level.SECURE


@pytest.mark.req("SEC-28")
@pytest.mark.parametrize("key", ["jane.doe@good.example", "jane.doe=good.example@relay.example"])
async def test_a_mail_address_is_told_to_nobody(key: str) -> None:
    async with running() as world:
        world.domain(D)
        assert await level(world, key) is Level.NONE
        assert not world.resolver.asked
        assert not world.fetcher.fetched


@pytest.mark.req("STS-APP-67")
async def test_the_log_says_what_a_decision_rests_on() -> None:
    async with running() as world:
        world.domain(D, policy_id="20260101")
        world.set_mx(D, "mx.good.example", "mx.evil.example")
        await level(world)
        told = dict(world.events.told)["decision-changed"]
    assert told == {
        "domain": D,
        "level": "secure",
        "reason": "enforce",
        "mode": "enforce",
        "id": "20260101",
        "mx": "mx.good.example",
        "refused": "mx.evil.example",
    }


@pytest.mark.req("STS-FET-39", "SEC-11", "SEC-37")
async def test_every_failing_refresh_is_told_until_the_policy_ends() -> None:
    async with running() as world:
        world.domain(D, max_age=3 * 86400)
        await level(world)
        await world.settle()
        world.fetcher.bodies.clear()
        told: list[int] = []
        for _ in range(3 * 24):
            world.clock.advance(HOUR)
            await world.engine.refresh_due()
            await world.settle()
            told.append(world.events.names().count("policy-refresh-failed"))
        assert told[23] >= 1, "a day after the fetch"
        assert told[47] > told[23], "a day later"
        assert world.events.names().count("policy-expired") == 0
        assert await level(world) is Level.SECURE
        world.clock.advance(timedelta(seconds=1))
        assert await level(world) is Level.NONE


@pytest.mark.req("STS-FET-42")
async def test_the_id_kept_is_the_one_seen_before_the_fetch() -> None:
    async with running() as world:
        world.domain(D, policy_id="old")
        fetch = world.fetcher.fetch

        async def slow(domain: str) -> object:
            world.set_id(D, "new")  # the owner publishes while the old body is on its way
            return await fetch(domain)

        world.fetcher.fetch = slow  # type: ignore[method-assign, assignment]
        await level(world)
        await world.settle()
        entry = world.store.load(D)
        assert entry is not None
        assert entry.policy_id == "old"
        world.fetcher.fetch = fetch  # type: ignore[method-assign]
        world.set_policy(D, mode="none", max_age=60, mx="x")
        world.clock.advance(HOUR)
        await level(world)
        await world.settle()
        assert world.fetcher.fetched[D] == 2
        assert await level(world) is Level.NONE


@pytest.mark.req("STS-POL-19")
async def test_a_policy_of_no_duration_serves_the_lookup_that_fetched_it() -> None:
    async with running() as world:
        world.domain(D, max_age=0)
        assert await level(world) is Level.SECURE
        fetched = world.fetcher.fetched[D]
        world.fetcher.bodies.clear()
        world.clock.advance(timedelta(seconds=1))
        assert await level(world) is Level.NONE
        for _ in range(20):
            world.clock.advance(timedelta(seconds=1))
            await level(world)
            await world.settle()
        assert world.fetcher.fetched[D] <= fetched + 1, "no circle of fetches"


@pytest.mark.req("SEC-41", "STS-FET-33")
async def test_what_is_kept_says_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    path = str(tmp_path / "policies.sqlite3")
    store = SqlitePolicyStore(path)
    body = (
        b"version: STSv1 \r\nmode:enforce\nx: a\xe2\x80\xa8mode: none\r\n"
        b"mode: none\r\nmx: MX.good.example\r\nmax_age: 0000604800\r\n"
    )
    async with running(store=store) as world:
        world.domain(D, policy_id="7")
        world.fetcher.bodies[D] = body
        first = await world.engine.rule(D, PLAIN)
        await world.settle()
        entry = store.load(D)
        assert entry is not None
        assert entry.body == body
        assert entry.policy == parse_policy(body)
        assert (entry.policy_domain, entry.policy_id) == (D, "7")
        assert (entry.fetched_at, entry.policy.max_age) == (world.clock.now(), 604800)
    store.close()
    store = SqlitePolicyStore(path)
    async with running(store=store) as again:
        again.set_mx(D, f"mx.{D}")
        second = await again.engine.rule(D, PLAIN)
        assert not again.fetcher.fetched
    store.close()
    assert first.decision.policy is not None
    assert second.decision.policy is not None
    assert second.decision.policy.policy_strings == first.decision.policy.policy_strings
    assert second.decision.level is first.decision.level is Level.SECURE


@pytest.mark.req("DANE-04", "SEC-29", "SEC-30", "STS-APP-71")
@pytest.mark.parametrize("status", [Status.SERVFAIL, Status.BOGUS, Status.TIMEOUT])
async def test_a_tlsa_answer_that_is_kept_away_lowers_nothing(status: Status) -> None:
    async with running() as world:
        world.domain(D, secure=True)
        world.set_tlsa(f"mx.{D}", Tlsa(3, 1, 1, b"\xab" * 32))
        assert await level(world, profile=DANE) is Level.DANE_ONLY
        world.resolver.fail(f"_25._tcp.mx.{D}", RecordType.TLSA, status)
        world.clock.advance(HOUR)
        assert await level(world, profile=DANE) is Level.DANE_ONLY


@pytest.mark.req("STS-APP-58", "STS-APP-14")
async def test_while_dns_is_down_nothing_goes_unprotected() -> None:
    async with running() as world:
        world.domain(D)
        assert await level(world) is Level.SECURE
        world.clock.advance(HOUR)
        for rdtype in (RecordType.MX, RecordType.A, RecordType.AAAA):
            world.resolver.fail(D, rdtype, Status.TIMEOUT)
        world.resolver.fail(f"_mta-sts.{D}", RecordType.TXT, Status.TIMEOUT)
        world.fetcher.bodies.clear()
        for _ in range(24):
            assert await level(world) is Level.DEFER
            await world.settle()
            world.clock.advance(HOUR)
