# SPDX-License-Identifier: Apache-2.0
"""The engine: a policy's whole life, failures, flights, bounds; no network, no sleeping."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from tests.service.resolver.world import World, running

from strictmail.core.decision import DecisionSettings, FailureStance, Level, ListenerProfile
from strictmail.core.dnsvalues import RecordType, Status, Tlsa
from strictmail.core.errors import StoreUnavailableError
from strictmail.core.overrides import Override, OverrideAction
from strictmail.core.sts.values import Mode
from strictmail.resolver.engine import EngineSettings
from strictmail.store.memory import MemoryPolicyStore

PLAIN = ListenerProfile()
DANE = ListenerProfile(dane=True)
GOOD_TLSA = Tlsa(3, 1, 1, b"\xab" * 32)
D = "good.example"


async def level(world: World, key: str = D, profile: ListenerProfile = PLAIN) -> Level:
    return (await world.engine.rule(key, profile)).decision.level


async def test_first_contact_learns_and_enforces() -> None:
    async with running() as world:
        world.domain(D)
        ruling = await world.engine.rule(D, PLAIN)
        assert ruling.decision.level is Level.SECURE
        assert ruling.decision.allowed_mx == (f"mx.{D}",)
        assert ruling.decision.policy is not None
        assert ruling.decision.policy.source == "fetch"
        await world.settle()
        assert world.store.load(D) is not None
        assert world.events.names().count("policy-learnt") == 1


@pytest.mark.req("STS-FET-46")
async def test_one_flight_however_many_ask() -> None:
    async with running() as world:
        world.domain(D)
        world.fetcher.gate = asyncio.Event()
        asks = [asyncio.create_task(level(world)) for _ in range(200)]
        await asyncio.sleep(0.01)
        world.fetcher.gate.set()
        assert set(await asyncio.gather(*asks)) == {Level.SECURE}
        assert world.fetcher.fetched[D] == 1
        assert world.resolver.asked[f"_mta-sts.{D}", RecordType.TXT] == 1


@pytest.mark.req("STS-FET-32", "STS-FET-46", "SEC-16")
async def test_fetches_at_once_are_capped() -> None:
    settings = EngineSettings(fetch_concurrency=5)
    async with running(settings=settings) as world:
        names = [f"d{i}.example" for i in range(40)]
        for name in names:
            world.domain(name)
        world.fetcher.gate = asyncio.Event()
        asks = [asyncio.create_task(level(world, name)) for name in names]
        await asyncio.sleep(0.02)
        world.fetcher.gate.set()
        await asyncio.gather(*asks)
        assert world.fetcher.most_at_once == 5


@pytest.mark.req("STS-REC-07", "STS-REC-29", "SEC-10", "SEC-09")
@pytest.mark.parametrize("status", [Status.NXDOMAIN, Status.NODATA, Status.SERVFAIL, Status.BOGUS])
async def test_a_cached_policy_outlives_what_dns_says(status: Status) -> None:
    async with running() as world:
        world.domain(D)
        assert await level(world) is Level.SECURE
        world.resolver.fail(f"_mta-sts.{D}", RecordType.TXT, status)
        world.fetcher.bodies.clear()
        for _ in range(7 * 24 - 1):
            world.clock.advance(timedelta(hours=1))
            assert await level(world) is Level.SECURE
            await world.settle()
        world.clock.advance(timedelta(hours=1, seconds=1))
        assert await level(world) is Level.NONE


@pytest.mark.req("STS-FET-29", "STS-FET-30", "SEC-14")
async def test_a_new_id_with_a_failing_fetch_keeps_the_policy_and_backs_off() -> None:
    async with running() as world:
        world.domain(D)
        await level(world)
        world.fetcher.bodies.clear()
        for number in range(2, 62):
            world.set_id(D, f"forged{number}")
            world.clock.advance(timedelta(minutes=1))
            assert await level(world) is Level.SECURE
            await world.settle()
        # One good fetch, then at most one attempt in five minutes.
        assert 2 <= world.fetcher.fetched[D] <= 1 + 60 // 5


@pytest.mark.req("STS-APP-56", "STS-APP-57", "STS-APP-64", "SEC-15", "STS-FET-41")
async def test_a_changed_id_is_seen_after_its_ttl_and_replaces_at_once() -> None:
    async with running() as world:
        world.domain(D, max_age=31_557_600)
        assert await level(world) is Level.SECURE
        world.set_id(D, "2")
        world.set_policy(D, mode="none", max_age=60, mx="x")
        assert await level(world) is Level.SECURE
        world.clock.advance(timedelta(seconds=301))
        world.fetcher.gate = asyncio.Event()
        assert await level(world) is Level.SECURE  # answered at once; the look goes on
        world.fetcher.gate.set()
        await world.settle()
        assert await level(world) is Level.NONE
        assert "policy-changed" in world.events.names()


@pytest.mark.req("STS-FET-35", "SEC-13", "STS-APP-62", "STS-APP-63")
async def test_the_same_id_never_prolongs() -> None:
    async with running() as world:
        world.domain(D, max_age=3600)
        await level(world)
        world.fetcher.bodies.clear()
        for _ in range(6):
            world.clock.advance(timedelta(minutes=10))
            assert await level(world) is Level.SECURE
            await world.settle()
        world.clock.advance(timedelta(seconds=2))
        assert await level(world) is Level.NONE


@pytest.mark.req("STS-FET-36", "STS-FET-37", "STS-FET-38", "SEC-12")
async def test_refresh_happens_without_traffic_and_without_txt() -> None:
    async with running() as world:
        world.domain(D, max_age=2 * 86400)
        await level(world)
        await world.settle()
        world.resolver.fail(f"_mta-sts.{D}", RecordType.TXT, Status.NXDOMAIN)
        for _ in range(10):
            world.clock.advance(timedelta(days=1))
            await world.engine.refresh_due()
            await world.settle()
        entry = world.store.load(D)
        assert entry is not None
        assert entry.fetched_at >= world.clock.now() - timedelta(days=1, hours=1)
        assert world.fetcher.fetched[D] >= 9
        assert await level(world) is Level.SECURE


@pytest.mark.req("STS-FET-39", "SEC-11")
async def test_failing_refreshes_are_visible_until_expiry() -> None:
    async with running() as world:
        world.domain(D, max_age=3 * 86400)
        await level(world)
        await world.settle()
        world.fetcher.bodies.clear()
        world.clock.advance(timedelta(days=1))
        await world.engine.refresh_due()
        await world.settle()
        assert (await world.engine.count_failing())[0] == 1
        assert "policy-refresh-failed" in world.events.names()
        world.clock.advance(timedelta(days=2) + timedelta(minutes=1))
        await world.engine.refresh_due()
        await world.settle()
        assert "policy-expired" in world.events.names()
        assert await level(world) is Level.NONE


@pytest.mark.req("STS-FET-40")
async def test_a_clean_opt_out_is_silent() -> None:
    async with running() as world:
        world.domain(D, mode="none", max_age=86400)
        assert await level(world) is Level.NONE
        await world.settle()
        world.fetcher.bodies.clear()
        world.clock.advance(timedelta(hours=13))
        await world.engine.refresh_due()
        await world.settle()
        assert await world.engine.count_failing() == (0, None)
        assert "policy-refresh-failed" not in world.events.names()


async def test_idle_domains_are_left_alone_and_come_back() -> None:
    async with running(settings=EngineSettings(idle_after=timedelta(days=3))) as world:
        world.domain(D, max_age=31_557_600)
        await level(world)
        await world.settle()
        for _ in range(10):
            world.clock.advance(timedelta(days=1))
            await world.engine.refresh_due()
            await world.settle()
        fetched = world.fetcher.fetched[D]
        assert fetched <= 4
        assert await level(world) is Level.SECURE  # still in force
        await world.settle()
        world.clock.advance(timedelta(days=1))
        await world.engine.refresh_due()
        await world.settle()
        assert world.fetcher.fetched[D] > fetched


@pytest.mark.req("STS-FET-28", "STS-FET-31")
async def test_a_failed_first_fetch_answers_as_without_policy_and_is_not_kept() -> None:
    async with running() as world:
        world.domain(D)
        body = world.fetcher.bodies.pop(D)
        ruling = await world.engine.rule(D, PLAIN)
        assert (ruling.decision.level, ruling.keep_seconds) == (Level.NONE, 0.0)
        assert ruling.decision.failure is not None
        world.fetcher.bodies[D] = body
        world.clock.advance(timedelta(minutes=4, seconds=59))
        assert await level(world) is Level.NONE
        assert world.fetcher.fetched[D] == 1
        world.clock.advance(timedelta(minutes=2))
        assert await level(world) is Level.SECURE


@pytest.mark.req("STS-REC-32")
async def test_absence_is_kept_no_longer_than_dns_allows() -> None:
    async with running() as world:
        world.set_mx(D, f"mx.{D}")
        ruling = await world.engine.rule(D, PLAIN)
        assert ruling.decision.level is Level.NONE
        assert 0 < ruling.keep_seconds <= 60
        world.domain(D)
        world.clock.advance(timedelta(seconds=61))
        assert await level(world) is Level.SECURE


@pytest.mark.req("STS-REC-30")
async def test_a_failed_record_lookup_is_never_kept() -> None:
    async with running() as world:
        world.domain(D)
        world.resolver.fail(f"_mta-sts.{D}", RecordType.TXT, Status.SERVFAIL)
        ruling = await world.engine.rule(D, PLAIN)
        assert (ruling.decision.level, ruling.keep_seconds) == (Level.NONE, 0.0)
        world.set_id(D, "1")
        assert await level(world) is Level.SECURE


@pytest.mark.req("STS-REC-30")
async def test_a_failed_record_lookup_may_defer_by_setting() -> None:
    decision = DecisionSettings(dns_failure=FailureStance.DEFER)
    async with running(settings=EngineSettings(decision=decision)) as world:
        world.resolver.fail(f"_mta-sts.{D}", RecordType.TXT, Status.TIMEOUT)
        assert await level(world) is Level.DEFER


@pytest.mark.req("STS-FET-43", "STS-FET-22")
async def test_a_late_policy_is_used_by_the_next_lookup() -> None:
    async with running(settings=EngineSettings(answer_deadline=0.02)) as world:
        world.domain(D)
        world.fetcher.gate = asyncio.Event()
        ruling = await world.engine.rule(D, PLAIN)
        assert (ruling.decision.level, ruling.keep_seconds) == (Level.NONE, 0.0)
        world.fetcher.gate.set()
        await world.settle()
        assert await level(world) is Level.SECURE
        assert world.fetcher.fetched[D] == 1


async def test_late_mx_with_an_enforced_policy_defers() -> None:
    async with running(settings=EngineSettings(answer_deadline=0.05)) as world:
        world.domain(D)
        await level(world)
        world.clock.advance(timedelta(seconds=301))
        world.resolver.gate = asyncio.Event()
        assert await level(world) is Level.DEFER
        assert await level(world, D, DANE) is Level.DEFER
        world.resolver.gate.set()


async def test_mx_facts_live_no_longer_than_their_ttl() -> None:
    async with running() as world:
        world.domain(D)
        ruling = await world.engine.rule(D, PLAIN)
        assert ruling.keep_seconds <= 300
        world.set_mx(D, "mx.evil.example")
        world.clock.advance(timedelta(seconds=301))
        assert await level(world) is Level.DEFER


async def test_dane_comes_first() -> None:
    async with running() as world:
        world.domain(D, secure=True)
        world.set_tlsa(f"mx.{D}", GOOD_TLSA)
        assert await level(world, D, DANE) is Level.DANE_ONLY
        assert await level(world, D, PLAIN) is Level.SECURE


@pytest.mark.req("DANE-01", "DANE-02", "SEC-31")
async def test_without_a_validating_resolver_dane_is_off_and_said_so() -> None:
    async with running() as world:
        world.domain(D, secure=True)
        world.set_tlsa(f"mx.{D}", GOOD_TLSA)
        world.resolver.validates = False
        decision = (await world.engine.rule(D, DANE)).decision
        assert decision.level is Level.SECURE
        assert any("DANE is off" in note for note in decision.notes)


@pytest.mark.req("STS-APP-03", "STS-APP-04", "STS-REC-28", "STS-REC-35")
@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (".good.example", "parent"),
        ("[192.0.2.1]", "address-literal"),
        ("[IPv6:2001:db8::1]:25", "address-literal"),
        ("a..b", "bad-nexthop"),
        ("x" * 300, "bad-nexthop"),
    ],
)
async def test_keys_without_a_policy_domain_cost_no_lookup(key: str, reason: str) -> None:
    async with running() as world:
        decision = (await world.engine.rule(key, DANE)).decision
        assert (decision.level, decision.reason) == (Level.NONE, reason)
        assert not world.resolver.asked


@pytest.mark.req("STS-APP-07", "STS-REC-02", "STS-APP-02", "STS-REC-35")
@pytest.mark.parametrize(
    ("key", "domain"),
    [
        ("GOOD.Example", "good.example"),
        ("good.example.", "good.example"),
        ("good.example:25", "good.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[mx.good.example]:587", "mx.good.example"),
    ],
)
async def test_every_form_of_a_key_finds_its_policy_domain(key: str, domain: str) -> None:
    async with running() as world:
        world.domain(domain)
        world.set_policy(domain, mode="enforce", max_age=86400, mx=domain)
        world.set_mx(domain, domain)
        assert await level(world, key) is Level.SECURE
        assert world.resolver.asked[f"_mta-sts.{domain}", RecordType.TXT] == 1


async def test_smart_hosts_can_be_left_alone() -> None:
    async with running(settings=EngineSettings(smart_host_policy=False)) as world:
        world.domain("mx.good.example")
        assert await level(world, "[mx.good.example]") is Level.NONE
        assert not world.resolver.asked


async def test_an_override_counts_until_its_end() -> None:
    store = MemoryPolicyStore()
    async with running(store=store) as world:
        now = world.clock.now()
        end = now + timedelta(days=1)
        override = Override(D, OverrideAction.DEFAULT, "their MX is broken", now, end)
        store.save_override(override)
        world.engine._load_overrides()
        world.domain(D)
        ruling = await world.engine.rule(D, PLAIN)
        assert (ruling.decision.level, ruling.decision.override) == (Level.NONE, override)
        world.clock.advance(timedelta(days=1))
        assert await level(world) is Level.SECURE
        assert "override-expired" in world.events.names()


async def test_growth_is_bounded_per_owner_and_the_policy_still_holds() -> None:
    async with running(settings=EngineSettings(per_registrable_domain=3)) as world:
        for number in range(6):
            name = f"n{number}.owner.com"
            world.domain(name)
            assert await level(world, name) is Level.SECURE
            await world.settle()
        assert world.store.count() == 3
        assert "policy-not-stored" in world.events.names()


class BrokenStore(MemoryPolicyStore):
    """A store whose disk fails when told so."""

    full = False
    unreadable = False

    def save(self, entries: object) -> None:
        if self.full:
            raise StoreUnavailableError("disk full")
        super().save(entries)  # type: ignore[arg-type]

    def load(self, policy_domain: str) -> object:  # type: ignore[override]
        if self.unreadable:
            raise StoreUnavailableError("damaged")
        return super().load(policy_domain)


async def test_a_full_disk_keeps_answering_from_memory_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("strictmail.resolver.engine.RETRY_SAVE_SECONDS", 0.0)
    store = BrokenStore()
    store.full = True
    async with running(store=store) as world:
        world.domain(D)
        assert await level(world) is Level.SECURE
        await asyncio.sleep(0.01)
        assert world.events.names().count("store-unavailable") == 1
        world.fetcher.bodies.clear()
        assert await level(world) is Level.SECURE
        store.full = False
        await world.settle()
        assert store.load(D) is not None
        assert world.events.names().count("store-recovered") == 1


async def test_an_unreadable_store_is_never_taken_for_an_empty_one() -> None:
    store = BrokenStore()
    async with running(store=store) as world:
        world.domain(D)
        world.set_mx("other.example", "mx.other.example")
        store.unreadable = True
        assert await level(world, "other.example") is Level.DEFER
        assert await level(world) is Level.SECURE  # a fresh look decides


async def test_a_fault_of_our_own_defers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as world:

        async def broken(*_: object, **__: object) -> object:
            raise RuntimeError("oops")

        monkeypatch.setattr("strictmail.resolver.engine.look_up_record", broken)
        assert await level(world) is Level.DEFER
        assert "internal-error" in world.events.names()


async def test_changes_are_told_to_whoever_keeps_replies() -> None:
    async with running() as world:
        told: list[str] = []
        world.engine.on_change(told.append)
        world.domain(D)
        await level(world)
        assert told == [D]
        world.set_id(D, "2")
        world.clock.advance(timedelta(minutes=6))
        await level(world)
        await world.settle()
        assert told == [D, D]


async def test_one_log_line_for_each_change_of_decision() -> None:
    async with running() as world:
        world.domain(D)
        for _ in range(5):
            await level(world)
        assert world.events.names().count("decision-changed") == 1
        world.set_mx(D, "mx.evil.example")
        world.clock.advance(timedelta(seconds=301))
        for _ in range(5):
            await level(world)
            await world.settle()
        assert world.events.names().count("decision-changed") == 2


@pytest.mark.req("STS-FET-49")
async def test_a_clock_that_jumps_back_does_not_prolong() -> None:
    async with running() as world:
        world.domain(D, max_age=86400)
        world.clock.jump(timedelta(days=400))
        await level(world)
        await world.settle()
        world.clock.jump(timedelta(days=-400))
        world.fetcher.bodies.clear()
        assert await level(world) is Level.SECURE
        await world.settle()
        world.clock.advance(timedelta(days=1, seconds=2))
        assert await level(world) is Level.NONE


async def test_what_was_learnt_is_there_after_a_restart() -> None:
    store = MemoryPolicyStore()
    async with running(store=store) as world:
        world.domain(D)
        await level(world)
    async with running(store=store) as world:
        world.set_mx(D, f"mx.{D}")
        ruling = await world.engine.rule(D, PLAIN)
        assert ruling.decision.level is Level.SECURE
        assert ruling.decision.policy is not None
        assert ruling.decision.policy.mode is Mode.ENFORCE
        assert world.fetcher.fetched[D] == 0
