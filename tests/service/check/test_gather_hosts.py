# SPDX-License-Identifier: Apache-2.0
"""How MX hosts are visited: once per run, few at a time, never pressed; and port 25 first."""

from __future__ import annotations

import asyncio

import pytest

from strictmail.core.check.facts import (
    KeyType,
    PortState,
    ProbeOutcome,
    ProbeTarget,
    UnknownReason,
)
from strictmail.core.dnsvalues import Mx, RecordType, Status

from .gathering import AAAA, DOMAIN, HOST, MX, A, World, settle

TARGET = ProbeTarget(HOST, "192.0.2.1", HOST)


def targets(count: int, domain: str = "provider.example") -> list[ProbeTarget]:
    """Hosts of one operator, each at an address of its own."""
    names = [f"mx{number}.{domain}" for number in range(1, count + 1)]
    return [ProbeTarget(name, f"192.0.2.{number}", name) for number, name in enumerate(names, 1)]


# ---- once per run -----------------------------------------------------------------------------


async def test_a_host_that_domains_share_is_visited_once() -> None:
    world = World()
    domains = [f"d{number}.example" for number in range(5)]
    for domain in domains:
        world.populate(domain, host="mx.provider.example")
    facts = await asyncio.gather(*(world.gatherer.gather(domain) for domain in domains))
    again = await world.gatherer.gather(domains[0])
    # An ECDSA certificate, and the question for an RSA one.
    assert world.prober.count("192.0.2.1") == world.prober.count("2001:db8::1") == 2
    assert {one.hosts[0].probes[0] for one in (*facts, again)} == {facts[0].hosts[0].probes[0]}


async def test_the_next_visit_is_after_a_while() -> None:
    world = World()
    world.prober.serve("192.0.2.1")
    await world.hosts.probe(TARGET)
    world.clock.advance(world.settings.keep_seconds - 1)
    await world.hosts.probe(TARGET)
    assert world.prober.count("192.0.2.1") == 1
    world.clock.advance(1)
    await world.hosts.probe(TARGET)
    assert world.prober.count("192.0.2.1") == 2


async def test_what_is_kept_is_bounded() -> None:
    world = World(max_kept_hosts=3)
    for target in targets(8):
        world.prober.serve(target.address)
        await world.hosts.probe(target)
    for target in targets(8)[-3:]:
        await world.hosts.probe(target)
    assert len(world.prober.probed) == 8
    await world.hosts.probe(targets(1)[0])
    assert len(world.prober.probed) == 9


async def test_a_visit_goes_on_for_the_others_when_one_goes_away() -> None:
    world = World()
    world.prober.serve("192.0.2.1")
    held = world.prober.hang("192.0.2.1")
    one = asyncio.ensure_future(world.hosts.probe(TARGET))
    other = asyncio.ensure_future(world.hosts.probe(TARGET))
    await settle()
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    held.set()
    assert (await other).outcome is ProbeOutcome.TLS
    assert len(world.prober.probed) == 1


# ---- few at a time ------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [1, 3])
async def test_so_many_connections_to_one_operator(cap: int) -> None:
    world = World(connections_per_operator=cap)
    events = [world.prober.hang(target.address) for target in targets(8)]
    visits = [asyncio.ensure_future(world.hosts.probe(target)) for target in targets(8)]
    other = ProbeTarget("mx.other.example", "192.0.2.99", "mx.other.example")
    world.prober.serve(other.address)
    await settle()
    assert len(world.prober.probed) == cap
    # Another operator does not wait.
    assert (await world.hosts.probe(other)).outcome is ProbeOutcome.TLS
    for event in events:
        event.set()
    await asyncio.gather(*visits)
    assert world.prober.crowd.most == cap + 1


async def test_one_connection_to_an_address_at_once() -> None:
    world = World()
    world.prober.serve("192.0.2.1")
    held = world.prober.hang("192.0.2.1")
    visits = [
        asyncio.ensure_future(world.hosts.probe(ProbeTarget(name, "192.0.2.1", name)))
        for name in ("mx.a.example", "mx.b.example", "mx.c.example")
    ]
    await settle()
    assert len(world.prober.probed) == 1
    held.set()
    await asyncio.gather(*visits)
    assert (len(world.prober.probed), world.prober.crowd.most) == (3, 1)


async def test_a_pause_between_connections_to_one_address() -> None:
    world = World(spacing_seconds=2.0)
    world.prober.serve("192.0.2.1", KeyType.ECDSA, KeyType.RSA)
    await world.hosts.probe(TARGET)
    rsa = ProbeTarget(HOST, "192.0.2.1", HOST, KeyType.RSA)
    second = asyncio.ensure_future(world.hosts.probe(rsa))
    await settle()
    assert (len(world.prober.probed), world.alarm.slept) == (1, [2.0])
    world.alarm.advance(2.0)
    assert (await second).outcome is ProbeOutcome.TLS


async def test_no_more_than_so_many_connections_to_one_host() -> None:
    world = World(connections_per_host=2)
    found = []
    for number in range(1, 5):
        world.prober.serve(f"192.0.2.{number}")
        found.append(await world.hosts.probe(ProbeTarget(HOST, f"192.0.2.{number}", HOST)))
    assert len(world.prober.probed) == 2
    assert [one.unknown.reason for one in found[2:] if one.unknown] == [UnknownReason.LIMIT] * 2
    assert {one.attempts for one in found[2:]} == {0}


# ---- never pressed ------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [UnknownReason.BUSY, UnknownReason.TIMEOUT])
async def test_a_busy_host_is_asked_once_more_later(first: UnknownReason) -> None:
    world = World(retry_seconds=10.0)
    world.prober.script("192.0.2.1", first, ProbeOutcome.TLS)
    visit = asyncio.ensure_future(world.hosts.probe(TARGET))
    await settle()
    assert len(world.prober.probed) == 1
    (pause,) = world.alarm.slept
    assert 5.0 <= pause <= 15.0
    world.alarm.advance(pause)
    facts = await visit
    assert (facts.outcome, facts.attempts) == (ProbeOutcome.TLS, 2)


async def test_a_temporary_refusal_of_starttls_is_asked_once_more() -> None:
    world = World()
    world.prober.script("192.0.2.1", ProbeOutcome.STARTTLS_TEMPORARY)
    visit = asyncio.ensure_future(world.hosts.probe(TARGET))
    await settle()
    world.alarm.advance(60)
    facts = await visit
    assert (facts.outcome, facts.attempts) == (ProbeOutcome.STARTTLS_TEMPORARY, 2)


@pytest.mark.parametrize(
    "end", [ProbeOutcome.TLS, ProbeOutcome.TLS_FAILED, UnknownReason.REFUSED, UnknownReason.TARPIT]
)
async def test_the_others_are_not_asked_again(end: ProbeOutcome | UnknownReason) -> None:
    world = World()
    world.prober.script("192.0.2.1", end)
    await world.hosts.probe(TARGET)
    assert len(world.prober.probed) == 1
    assert world.alarm.slept == []


async def test_others_may_go_while_a_busy_host_is_waited_for() -> None:
    world = World(connections_per_operator=1)
    one, other = targets(2)
    world.prober.script(one.address, UnknownReason.BUSY)
    world.prober.serve(other.address)
    visit = asyncio.ensure_future(world.hosts.probe(one))
    await settle()
    assert (await world.hosts.probe(other)).outcome is ProbeOutcome.TLS
    world.alarm.advance(60)
    await visit


@pytest.mark.parametrize("reason", [UnknownReason.BUSY, UnknownReason.REFUSED])
async def test_who_says_no_twice_is_left_alone(reason: UnknownReason) -> None:
    world = World()
    world.prober.script("192.0.2.1", reason)
    found = []
    for name in ("mx.a.example", "mx.b.example", "mx.c.example", "mx.d.example"):
        target = ProbeTarget(name, "192.0.2.1", name)
        visit = asyncio.ensure_future(world.hosts.probe(target))
        await settle()
        world.alarm.advance(60)
        found.append(await visit)
    assert len(world.prober.probed) == 2
    assert {one.unknown.reason for one in found if one.unknown} == {reason}
    assert found[-1].attempts == 0
    assert "left alone" in found[-1].detail


# ---- port 25 and routes -------------------------------------------------------------------------

CANARIES = ("big1.example", "big2.example", "big3.example")


def with_canaries() -> World:
    world = World(port25_canaries=CANARIES, canary_seconds=7.0)
    world.populate()
    for number, name in enumerate(CANARIES, 1):
        world.resolver.add(name, A, f"198.51.100.10{number}")
    return world


async def test_one_open_canary_opens_the_gate() -> None:
    world = with_canaries()
    world.reach.open = {"198.51.100.102"}
    world.reach.hang("198.51.100.103")
    facts = await world.gatherer.gather(DOMAIN)
    assert facts.port25 is PortState.OPEN
    assert facts.hosts[0].probes[0].outcome is ProbeOutcome.TLS
    await world.gatherer.gather("other.example")
    # Tested once, in parallel: the one that hangs does not matter.
    assert len(world.reach.tried) == 3


async def test_all_closed_and_nobody_is_visited() -> None:
    world = with_canaries()
    facts = await world.gatherer.gather(DOMAIN)
    assert facts.port25 is PortState.BLOCKED
    assert world.prober.probed == []
    assert {one.unknown.reason for one in facts.hosts[0].probes if one.unknown} == {
        UnknownReason.PORT_BLOCKED
    }
    assert len(facts.hosts[0].probes) == 2
    # What does not need port 25 was looked at.
    assert facts.policy_looks
    assert facts.authorities


async def test_nobody_is_visited_before_the_gate_is_open() -> None:
    world = with_canaries()
    held = [world.reach.hang(f"198.51.100.10{number}") for number in (1, 2, 3)]
    world.reach.open = {"198.51.100.101"}
    check = asyncio.ensure_future(world.gatherer.gather(DOMAIN))
    await settle()
    assert world.prober.probed == []
    held[0].set()
    assert (await check).port25 is PortState.OPEN
    assert world.prober.probed


async def test_without_dns_nothing_is_known_of_the_port() -> None:
    world = with_canaries()
    for name in CANARIES:
        world.resolver.fail(name, A)
        world.resolver.fail(name, AAAA)
    facts = await world.gatherer.gather(DOMAIN)
    assert facts.port25 is PortState.NOT_TESTED
    assert world.prober.probed
    assert world.reach.tried == []


async def test_the_test_of_the_port_does_not_outlive_the_deadline() -> None:
    world = with_canaries()
    for number in (1, 2, 3):
        world.reach.hang(f"198.51.100.10{number}")
    check = asyncio.ensure_future(world.gatherer.gather(DOMAIN))
    await settle()
    world.alarm.advance(world.settings.deadline_seconds)
    facts = await check
    assert facts.port25 is PortState.NOT_TESTED
    assert {one.unknown.reason for one in facts.hosts[0].probes if one.unknown} == {
        UnknownReason.DEADLINE
    }
    await world.gatherer.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


# ---- answers of DNS -----------------------------------------------------------------------------


async def test_domains_share_the_answers_on_their_host() -> None:
    world = World(want_authorities=False)
    for number in range(3):
        world.populate(f"d{number}.example", host="mx.provider.example")
        await world.gatherer.gather(f"d{number}.example")
    assert world.resolver.count("mx.provider.example", A) == 1


async def test_an_answer_serves_for_its_ttl() -> None:
    world = World(want_authorities=False, keep_answers_seconds=(60.0, 3600.0))
    world.populate()
    world.resolver.add(DOMAIN, MX, Mx(10, HOST), ttl=120)
    world.resolver.fail(f"_smtp._tls.{DOMAIN}", RecordType.TXT, Status.TIMEOUT)
    expected = {0: (1, 1), 59: (1, 1), 60: (1, 2), 119: (1, 2), 120: (2, 3)}
    now = 0
    for at, counts in expected.items():
        world.clock.advance(at - now)
        now = at
        await world.gatherer.gather(DOMAIN)
        assert (
            world.resolver.count(DOMAIN, MX),
            world.resolver.count(f"_smtp._tls.{DOMAIN}", RecordType.TXT),
        ) == counts, at
