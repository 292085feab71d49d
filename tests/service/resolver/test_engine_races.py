# SPDX-License-Identifier: Apache-2.0
"""The engine and the bridge when things happen in between: races, jumps of the clock, cancelling."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.service.resolver.world import World, running

from strictmail.core.decision import DecisionSettings, FailureStance, Level, ListenerProfile
from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.errors import StoreUnavailableError
from strictmail.core.mta import netstring, socketmap
from strictmail.core.overrides import Override, OverrideAction
from strictmail.resolver import engine as engine_module
from strictmail.resolver.engine import EngineSettings
from strictmail.resolver.role import Bridge
from strictmail.resolver.socketmap import Listener
from strictmail.store.memory import MemoryPolicyStore
from strictmail.store.requests import RequestKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from strictmail.core.sts.lifecycle import PolicyEntry

PLAIN = ListenerProfile()
DANE = ListenerProfile(dane=True)
D = "good.example"
RAW = netstring.encode(f"sts {D}".encode())


class Served:
    """One listener without sockets in front of a world."""

    def __init__(self, world: World, profile: ListenerProfile = PLAIN) -> None:
        loop = asyncio.get_running_loop()
        self.bridge = Bridge(
            world.engine,
            engine_loop=loop,
            serving_loop=loop,
            clock=world.clock,
            events=world.events,
        )
        self.listener = Listener("test", dialect="postfix", profile=profile, asker=self.bridge)
        self.bridge.listeners = [self.listener]

    async def ask(self, key: str = D) -> bytes:
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        request = socketmap.Request("sts", key)
        self.bridge.ask(self.listener, request, lambda reply, _counter: got.set_result(reply))
        return await got

    @property
    def kept(self) -> list[bytes]:
        return list(self.listener.answers.replies)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_override_set_while_a_policy_is_learnt_counts_at_once() -> None:
    store = MemoryPolicyStore()
    async with running(store=store) as world:
        world.set_mx(D, f"mx.{D}")
        world.resolver.gate = asyncio.Event()
        ask = asyncio.create_task(world.engine.rule(D, PLAIN))
        await turns()
        now = world.clock.now()
        store.save_override(
            Override(D, OverrideAction.DEFER, "theft", now, now + timedelta(hours=1))
        )
        world.engine._load_overrides()
        world.resolver.gate.set()
        assert (await ask).decision.level is Level.DEFER


async def test_an_expired_override_is_told_once_and_counts_again_if_the_clock_is_set_back() -> None:
    store = MemoryPolicyStore()
    async with running(store=store) as world:
        now = world.clock.now()
        store.save_override(Override(D, OverrideAction.DEFER, "x", now, now + timedelta(hours=1)))
        world.engine._load_overrides()
        world.clock.jump(timedelta(days=1))
        for _ in range(3):
            assert (await world.engine.rule(D, PLAIN)).decision.level is Level.NONE
            world.engine._load_overrides()
        assert world.events.names().count("override-expired") == 1
        world.clock.jump(timedelta(days=-1))
        assert (await world.engine.rule(D, PLAIN)).decision.level is Level.DEFER


async def test_a_policy_learnt_while_mx_is_looked_up_is_obeyed_by_that_very_answer() -> None:
    async with running() as world:
        world.set_mx(D, f"mx.{D}")
        assert (await world.engine.rule(D, PLAIN)).decision.level is Level.NONE
        world.domain(D)
        world.resolver.gate = asyncio.Event()
        ask = asyncio.create_task(world.engine.rule(D, DANE))  # waits for MX and TLSA
        await turns()
        world.engine._forget_known(D)
        world.resolver.gate.set()
        assert (await ask).decision.level is Level.SECURE


async def test_a_policy_that_expires_while_mx_is_looked_up_has_no_effect() -> None:
    async with running() as world:
        world.domain(D, max_age=600)
        await world.engine.rule(D, PLAIN)
        world.fetcher.bodies.clear()
        world.clock.advance(599)
        world.resolver.gate = asyncio.Event()
        ask = asyncio.create_task(world.engine.rule(D, PLAIN))
        await turns()
        world.clock.advance(5)
        world.resolver.gate.set()
        assert (await ask).decision.level is Level.NONE


async def test_no_reply_is_kept_beyond_what_it_rests_on_however_long_the_rest_took() -> None:
    """The time that MX lookups take counts: 300 s of negative TTL are over 300 s later."""
    async with running(settings=EngineSettings(negative_ttl=60)) as world:
        world.set_mx(D, f"mx.{D}")
        assert (await world.engine.rule(D, PLAIN)).keep_seconds == pytest.approx(60)
        world.resolver.gate = asyncio.Event()
        ask = asyncio.create_task(world.engine.rule(D, DANE))
        await turns()
        world.clock.advance(9)
        world.resolver.gate.set()
        assert (await ask).keep_seconds <= 51


async def test_a_kept_reply_is_gone_before_its_time_is_over() -> None:
    async with running() as world:
        world.set_mx(D, f"mx.{D}")
        served = Served(world)
        world.clock.advance(0.1)
        await served.ask()
        assert served.kept == [RAW]
        world.clock.advance(59.85)  # 0.15 s before the end; the next call of `expire` is later
        served.bridge.expire()
        assert served.kept == []


@pytest.mark.parametrize("delta", [timedelta(days=30), timedelta(days=-30)])
async def test_kept_replies_do_not_outlive_a_step_of_the_clock(delta: timedelta) -> None:
    async with running() as world:
        world.domain(D)
        served = Served(world)
        assert b"secure" in await served.ask()
        served.bridge.expire()
        assert served.kept == [RAW]
        world.clock.jump(delta)
        served.bridge.expire()
        assert served.kept == []


async def test_a_slewed_clock_costs_no_kept_reply() -> None:
    async with running() as world:
        world.domain(D)
        served = Served(world)
        await served.ask()
        for _ in range(20):
            world.clock.advance(0.5)
            world.clock.jump(timedelta(milliseconds=250))
            served.bridge.expire()
        assert served.kept == [RAW]


async def test_a_fault_in_the_dialect_defers_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as world:
        world.domain(D)
        served = Served(world)

        def broken(_ruling: object) -> Any:
            raise ValueError("oops")

        monkeypatch.setattr(served.listener, "finish", broken)
        assert b"TEMP" in await served.ask()
        assert "internal-error" in world.events.names()
        assert served.kept == []


async def test_junk_keys_push_no_domain_out_and_cost_no_memory() -> None:
    async with running() as world:
        world.domain(D)
        served = Served(world)
        await served.ask()
        for number in range(50):
            await served.ask("x" * 5000 + str(number))
        assert served.kept == [RAW]


async def test_a_removed_policy_does_not_come_back_with_a_failing_refresh() -> None:
    store = MemoryPolicyStore()
    async with running(store=store) as world:
        world.domain(D)
        await world.engine.rule(D, PLAIN)
        await world.settle()
        world.fetcher.bodies.clear()
        world.fetcher.gate = asyncio.Event()
        world.clock.advance(timedelta(days=1))
        await world.engine.refresh_due()
        await turns()
        store.remove([D])
        store.request(RequestKind.FORGET, D)
        await world.engine.poll_requests()
        world.fetcher.gate.set()
        await world.settle()
        assert store.load(D) is None


async def test_a_policy_that_expires_during_its_refresh_is_fetched_once() -> None:
    """The slower of two flights could bring an older policy back."""
    async with running() as world:
        world.domain(D, max_age=600)
        await world.engine.rule(D, PLAIN)
        await world.settle()
        world.clock.advance(400)
        world.fetcher.gate = asyncio.Event()
        await world.engine.rule(D, PLAIN)
        world.set_id(D, "2")
        world.clock.advance(100)
        await world.engine.refresh_due()
        await turns()
        world.clock.advance(200)
        ask = asyncio.create_task(world.engine.rule(D, PLAIN))
        await turns()
        world.fetcher.gate.set()
        assert (await ask).decision.level is Level.SECURE
        assert world.fetcher.most_at_once == 1


async def test_a_record_that_nobody_answers_for_in_time_is_one_that_failed() -> None:
    decision = DecisionSettings(dns_failure=FailureStance.DEFER)
    settings = EngineSettings(decision=decision, answer_deadline=0.02)
    async with running(settings=settings) as world:
        world.domain(D)
        world.resolver.gate = asyncio.Event()
        assert (await world.engine.rule(D, PLAIN)).decision.level is Level.DEFER
        world.resolver.gate.set()
        await world.settle()
        # A policy host that is slow is another matter: RFC 8461 §3.3 wants delivery.
        world.domain("slow.example")
        world.fetcher.gate = asyncio.Event()
        assert (await world.engine.rule("slow.example", PLAIN)).decision.level is Level.NONE
        world.fetcher.gate.set()


async def test_what_other_name_servers_said_is_not_used_after_a_reload() -> None:
    async with running() as world:
        world.set_mx(D, f"mx.{D}")
        assert (await world.engine.rule(D, DANE)).decision.level is Level.NONE
        world.domain(D)
        world.engine.apply_settings(world.engine.settings)
        assert (await world.engine.rule(D, DANE)).decision.level is Level.SECURE


async def test_a_forged_ttl_of_years_lasts_an_hour() -> None:
    async with running() as world:
        world.domain(D)
        await world.engine.rule(D, PLAIN)
        world.clock.advance(301)
        good = world.resolver.answers[D, RecordType.MX]
        world.resolver.set(D, RecordType.MX, status=Status.NXDOMAIN, ttl=2**31 - 1)
        assert (await world.engine.rule(D, PLAIN)).decision.level is Level.DEFER
        world.resolver.answers[D, RecordType.MX] = good
        world.clock.advance(3601)
        assert (await world.engine.rule(D, PLAIN)).decision.level is Level.SECURE


class FullStore(MemoryPolicyStore):
    full = True

    def save(self, entries: Iterable[PolicyEntry]) -> None:
        if self.full:
            raise StoreUnavailableError("disk full")
        super().save(entries)


async def test_a_disk_that_stays_full_does_not_fill_memory() -> None:
    async with running(store=FullStore(), settings=EngineSettings(known_entries=5)) as world:
        for number in range(20):
            world.domain(f"d{number}.example")
            ruling = await world.engine.rule(f"d{number}.example", PLAIN)
            assert ruling.decision.level is Level.SECURE
        assert len(world.engine._unsaved) == 5


async def test_no_fault_ends_a_background_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "REFRESH_SCAN_SECONDS", 0.0)
    monkeypatch.setattr(engine_module, "RETRY_SAVE_SECONDS", 0.0)
    store = MemoryPolicyStore()
    calls = {"due": 0, "save": 0}
    real = store.save

    def due(*_: object) -> Any:
        calls["due"] += 1
        raise ValueError("a fault of our own")

    def save(entries: Any) -> None:
        calls["save"] += 1
        if calls["save"] < 3:
            raise ValueError("a fault of our own")
        real(entries)

    monkeypatch.setattr(store, "due", due)
    monkeypatch.setattr(store, "save", save)
    async with running(store=store) as world:
        world.domain(D)
        await world.engine.rule(D, PLAIN)
        while calls["due"] < 3 or calls["save"] < 3:
            await asyncio.sleep(0.001)
        assert all(not job.done() for job in world.engine._jobs)
        assert "internal-error" in world.events.names()


async def test_changes_too_many_to_remember_count_for_every_domain() -> None:
    async with running() as world:
        engine = world.engine
        engine._tell_changed(D)
        before = engine._change_count
        for number in range(engine_module.MX_MEMO_ENTRIES * 2):
            engine._tell_changed(f"d{number}")
        assert len(engine._changed) <= engine_module.MX_MEMO_ENTRIES
        assert engine._has_changed(D, before)
        assert not engine._has_changed(D, engine._change_count)


async def test_a_thousand_unknown_domains_behind_tarpits_harm_no_known_one() -> None:
    async with running(settings=EngineSettings(answer_deadline=0.3)) as world:
        world.domain(D)
        await world.engine.rule(D, PLAIN)
        world.fetcher.gate = asyncio.Event()
        names = [f"tar{number}.example" for number in range(1000)]
        for name in names:
            world.domain(name)
        asks = [asyncio.create_task(world.engine.rule(name, PLAIN)) for name in names]
        await turns(50)
        assert (await world.engine.rule(D, PLAIN)).decision.level is Level.SECURE
        rulings = await asyncio.wait_for(asyncio.gather(*asks), 30)
        assert {(r.decision.level, r.keep_seconds) for r in rulings} == {(Level.NONE, 0.0)}
        world.fetcher.gate.set()


# ---- cancelling --------------------------------------------------------------------------


async def test_who_gives_up_waiting_takes_nothing_from_the_others() -> None:
    """An asker is cancelled at each turn of the loop that a first contact takes."""
    for wait in range(12):
        async with running() as world:
            world.domain(D)
            world.fetcher.gate = asyncio.Event()
            hasty = asyncio.create_task(world.engine.rule(D, DANE))
            patient = asyncio.create_task(world.engine.rule(D, DANE))
            await turns(wait)
            hasty.cancel()
            world.fetcher.gate.set()
            with pytest.raises(asyncio.CancelledError):
                await hasty
            assert (await patient).decision.level is Level.SECURE
            assert world.fetcher.fetched[D] == 1
            await world.settle()
            assert world.store.load(D) is not None


@pytest.mark.parametrize("phase", ["learn", "look"])
async def test_a_flight_cut_off_at_any_turn_leaves_nothing_behind(phase: str) -> None:
    for wait in range(10):
        async with running() as world:
            world.domain(D)
            if phase == "look":
                await world.engine.rule(D, PLAIN)
                await world.settle()
                world.set_id(D, "2")
                world.clock.advance(400)
            world.fetcher.gate = asyncio.Event()
            ask = asyncio.create_task(world.engine.rule(D, PLAIN))
            await turns(wait)
            flight = world.engine._flights.get((phase, D))
            if flight is not None:
                flight.cancel()
            world.fetcher.gate.set()
            level = (await ask).decision.level
            assert level in (Level.SECURE, Level.DEFER)  # never weaker for having been cut off
            await turns(30)
            assert not world.engine._fetching
            assert world.engine._fetch_slots._value == world.engine.settings.fetch_concurrency
            assert (await world.engine.rule(D, PLAIN)).decision.level is Level.SECURE
            await world.settle()


async def test_closing_with_everything_under_way_leaves_no_task() -> None:
    for wait in range(8):
        async with running() as world:
            for number in range(5):
                world.domain(f"d{number}.example")
            world.resolver.gate = world.fetcher.gate = asyncio.Event()
            served = Served(world, DANE)
            asks = [asyncio.create_task(world.engine.rule(f"d{n}.example", DANE)) for n in range(5)]
            served.bridge.ask(
                served.listener, socketmap.Request("sts", D), lambda _reply, _counter: None
            )
            await turns(wait)
            await world.engine.close()
            for ruling in await asyncio.gather(*asks):
                assert ruling.decision.level is Level.DEFER
            await turns()
            assert asyncio.all_tasks() == {asyncio.current_task()}
