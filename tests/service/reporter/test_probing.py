# SPDX-License-Identifier: Apache-2.0
"""Probes of what nobody verified: when, how often, what they move, and whom they never hold up."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.core.check.builders import addresses, domain_facts, host, mx_host, probe, tls

from strictmail.core.check.facts import (
    DomainFacts,
    PkixProblem,
    PortState,
    ProbeOutcome,
    Unknown,
    UnknownReason,
)
from strictmail.core.mxset import MxSet, MxStatus, TlsaState
from strictmail.core.tlsrpt.counts import Counts, PolicyCounts
from strictmail.core.tlsrpt.delivery import SETTLE
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import ReportedPolicy, Session, Source, make_policy
from strictmail.reporter import probing as probing_module
from strictmail.reporter.probing import (
    BLOCKED_SECONDS,
    HOLD_DAYS,
    KEEP_SECONDS,
    MAX_AT_ONCE,
    MAX_OF_DOMAIN,
    PROBE_WITHIN,
    SOON_SECONDS,
)
from strictmail.reporter.web import ReporterWeb
from strictmail.runtime.clock import ManualClock
from strictmail.runtime.metrics import Metrics
from strictmail.store.outbox_rows import Conclusion

from .world import DAY, World, broken_store, which

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NEXT_DAY = DAY + timedelta(days=1)
MINUTE = timedelta(minutes=1)

GOOD = None
Seen = PkixProblem | UnknownReason | None


def seen(domain: str, what: Seen, port: PortState = PortState.OPEN) -> DomainFacts:
    """A domain with one MX host at one address."""
    name, address = f"mx.{domain}", "192.0.2.1"
    if isinstance(what, UnknownReason):
        one = probe(name, address, outcome=ProbeOutcome.UNKNOWN, unknown=Unknown(what, "x"))
    else:
        one = probe(name, address, tls=tls(name, problems=() if what is None else (what,)))
    mx = mx_host(name, tlsa=(), tlsa_state=TlsaState.NOT_ASKED)
    return domain_facts(
        domain=domain,
        mx=MxSet(MxStatus.FOUND, hosts=(mx,)),
        hosts=(host(name, addresses=addresses(name, address), probes=(one,)),),
        port25=port,
    )


class FakeLooker:
    """MX hosts from a table: all are good that are not in it.

    Attributes:
        seen: Domain -> what is seen there.
        held: Domain -> looks at it wait for this.
        looks: Every domain that was looked at, in order.
        most: How many looks there were at once.
        tests: How often the port alone was tested.
    """

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.port = PortState.OPEN
        self.looks: list[str] = []
        self.most = 0
        self.tests = 0
        self.now = 0
        self.closed = 0
        self.on_look: Callable[[str], Any] = lambda _: None

    async def look(self, domain: str) -> DomainFacts:
        self.looks.append(domain)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if domain in self.held:
                await self.held[domain].wait()
            self.on_look(domain)
        finally:
            self.now -= 1
        blocked = self.port is PortState.BLOCKED
        what = UnknownReason.PORT_BLOCKED if blocked else self.seen.get(domain)
        return seen(domain, what, self.port)

    async def test_port(self) -> PortState:
        self.tests += 1
        return self.port

    async def close(self) -> None:
        self.closed += 1


def policy_in_testing(domain: str, age: int, mx: str = "") -> ReportedPolicy:
    lines = ("version: STSv1", "mode: testing", f"mx: {mx or f'*.{domain}'}", f"max_age: {age}")
    return make_policy(PolicyType.STS, domain, lines, domain=domain)


class Probed(World):
    """A world with a looker."""

    looker: FakeLooker

    def tell(
        self,
        domain: str,
        *,
        day: date = DAY,
        times: int = 1,
        identity: str = "",
        age: int = 86400,
        mx: str = "",
    ) -> None:
        """Sessions under a testing policy that nobody verified."""
        counts = Counts()
        counts.add(day, Session(domain, "", (), (policy_in_testing(domain, age, mx),)), times)
        self.store.add(counts, identity)

    async def pass_by(self) -> None:
        """A turn, and all that it began."""
        await self.turn()
        await self.probing.settle()

    def counts(self, domain: str, day: date = DAY) -> PolicyCounts:
        """Those under the one policy that there is."""
        (found,) = self.store.load(which(domain, day)).policies.values()
        return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Probed]:
    made = Probed(tmp_path, clock=ManualClock(NOON), looker=FakeLooker())
    yield made
    await made.probing.close()
    await made.sender.close()
    made.store.close()


@pytest.mark.req("RPT-JSON-24", "RPT-JSON-26")
async def test_what_a_probe_sees_becomes_a_success_or_a_failure(world: Probed) -> None:
    world.looker.seen["bad.example"] = PkixProblem.EXPIRED
    for domain in ("good.example", "bad.example"):
        world.publish(domain)
        world.tell(domain, times=3)
    await world.pass_by()
    assert world.counts("good.example") == PolicyCounts(3)
    bad = world.counts("bad.example")
    assert (bad.successes, bad.failures, bad.unverified) == (0, 3, 0)
    ((detail, times),) = bad.details.items()
    assert (detail.result_type, times) == (ResultType.CERTIFICATE_EXPIRED, 3)
    assert detail.receiving_mx_hostname == "mx.bad.example"
    assert detail.failure_reason_code == "probe: expired"
    assert world.store.load(which("bad.example")).sources[Source.PROBE].sessions == 3
    assert world.probing.outcomes == {"success": 1, "failure": 1}
    assert world.probing.established == {"success": 3, "failure": 3}
    world.clock.advance(timedelta(hours=12) + SETTLE)
    await world.turn()
    assert world.outcome("good.example") == world.outcome("bad.example") == "reported"


async def test_without_a_looker_nothing_is_visited(tmp_path: Path) -> None:
    world = Probed(tmp_path, clock=ManualClock(NOON))
    world.tell("a.example")
    await world.pass_by()
    assert world.counts("a.example") == PolicyCounts(unverified=1)
    world.clock.advance(timedelta(hours=12) + SETTLE)
    await world.pass_by()
    assert world.outcome("a.example") == "no-sessions"
    world.store.close()


# ---- how often --------------------------------------------------------------------------


async def test_a_verdict_serves_for_hours(world: Probed) -> None:
    for _ in range(5):
        world.tell("a.example")
        await world.pass_by()
        world.clock.advance(timedelta(hours=1))
    assert world.looker.looks == ["a.example"]
    assert world.counts("a.example") == PolicyCounts(5)
    world.clock.advance(KEEP_SECONDS - 5 * 3600)
    world.tell("a.example")
    await world.pass_by()
    assert world.looker.looks == ["a.example"] * 2
    assert world.counts("a.example") == PolicyCounts(6)


async def test_what_is_not_established_is_looked_at_again_after_hours_and_not_before(
    world: Probed,
) -> None:
    world.looker.seen["a.example"] = UnknownReason.TIMEOUT
    world.tell("a.example")
    await world.pass_by()
    del world.looker.seen["a.example"]
    for _ in range(5):
        world.clock.advance(timedelta(hours=1))
        world.tell("a.example")
        await world.pass_by()
    assert world.looker.looks == ["a.example"]
    assert world.counts("a.example") == PolicyCounts(unverified=6)
    world.clock.advance(timedelta(hours=1))
    await world.pass_by()
    assert world.looker.looks == ["a.example"] * 2
    assert world.counts("a.example") == PolicyCounts(6)
    assert world.probing.outcomes == {"unseen": 1, "success": 1}


async def test_one_look_serves_all_that_were_judged_by_the_same_patterns(world: Probed) -> None:
    world.tell("a.example", times=2)
    world.tell("a.example", identity="brand")
    # Another policy in its other lines, and the same hosts to hold to it.
    world.tell("a.example", age=1)
    await world.pass_by()
    assert world.looker.looks == ["a.example"]
    found = world.store.load(which("a.example")).policies
    assert list(found.values()) == [PolicyCounts(2), PolicyCounts(1)]
    assert world.probing.established == {"success": 4}


async def test_one_look_serves_all_policies_of_a_domain(world: Probed) -> None:
    world.tell("a.example", times=2)
    world.tell("a.example", times=3, mx="mx.elsewhere.example")
    await world.pass_by()
    # Another one, hours later: judged by the same look.
    world.clock.advance(KEEP_SECONDS - 1)
    world.tell("a.example", times=4, mx="*.elsewhere.example")
    await world.pass_by()
    assert world.looker.looks == ["a.example"]
    found = world.store.load(which("a.example")).policies
    assert [(of.successes, of.failures, of.unverified) for of in found.values()] == [
        (2, 0, 0),
        (0, 3, 0),
        (0, 4, 0),
    ]
    assert world.probing.outcomes == {"success": 1, "failure": 2}
    # All verdicts end with the look.
    world.clock.advance(1)
    for mx in ("", "mx.elsewhere.example", "*.elsewhere.example"):
        world.tell("a.example", mx=mx)
    await world.pass_by()
    assert world.looker.looks == ["a.example"] * 2


@pytest.mark.parametrize("what", [GOOD, UnknownReason.TIMEOUT])
async def test_a_domain_with_many_policies_takes_one_look(world: Probed, what: Seen) -> None:
    world.looker.seen["a.example"] = what
    counts = Counts()
    for number in range(100):
        policy = policy_in_testing("a.example", 1, f"mx{number}.a.example")
        counts.add(DAY, Session("a.example", "", (), (policy,)))
    world.store.add(counts)
    world.tell("a.example")
    world.tell("b.example")
    await world.pass_by()
    # Not all of them wait in line.
    found = world.store.load(which("a.example")).policies.values()
    assert sum(of.failures for of in found) == MAX_OF_DOMAIN
    await world.pass_by()
    assert world.looker.looks == ["a.example", "b.example"]
    found = world.store.load(which("a.example")).policies.values()
    assert sum(of.failures for of in found) == 100
    assert sum(of.successes for of in found) == (1 if what is GOOD else 0)


async def test_who_came_first_is_served_first(
    world: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing_module, "MAX_AT_ONCE", 1)
    world.looker.seen["a.example"] = UnknownReason.BUSY
    world.tell("a.example")
    await world.pass_by()
    world.clock.advance(KEEP_SECONDS - 1)
    gate = asyncio.Event()
    world.looker.held = dict.fromkeys(("b.example", "c.example"), gate)
    for domain in ("b.example", "c.example"):
        world.tell(domain)
    await world.turn()
    while world.looker.looks[-1] != "b.example":
        await asyncio.sleep(0)
    # The first one in the store wants another look: behind those who wait.
    world.clock.advance(1)
    await world.turn()
    assert world.probing._round is not None
    await world.probing._round
    gate.set()
    await world.probing.settle()
    assert world.looker.looks == ["a.example", "b.example", "c.example", "a.example"]


async def test_looks_are_kept_within_bounds(world: Probed, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = world.probing._sights
    monkeypatch.setattr(probing_module, "MAX_SIGHTS", 3)
    for number in range(5):
        world.tell(f"d{number}.example")
        await world.pass_by()
    assert list(kept._kept) == [f"d{number}.example" for number in (2, 3, 4)]
    size = kept._size // 3
    assert kept._size == 3 * size > 0
    monkeypatch.setattr(probing_module, "MAX_SIGHT_SIZE", 2 * size)
    world.tell("e.example")
    await world.pass_by()
    assert list(kept._kept) == ["d4.example", "e.example"]
    monkeypatch.setattr(probing_module, "MAX_SIGHT_SIZE", size - 1)
    world.tell("f.example")
    await world.pass_by()
    # Too large to be kept, it is judged all the same.
    assert (list(kept._kept), kept._size) == ([], 0)
    assert world.probing.established == {"success": 7}
    assert len(world.looker.looks) == 7


async def test_a_restart_probes_again_what_is_still_unverified(world: Probed) -> None:
    world.looker.seen["a.example"] = UnknownReason.BUSY
    for domain in ("a.example", "b.example"):
        world.tell(domain)
    await world.pass_by()
    await world.restart()
    del world.looker.seen["a.example"]
    await world.pass_by()
    assert Counter(world.looker.looks) == {"a.example": 2, "b.example": 1}
    assert world.counts("a.example") == PolicyCounts(1)


async def test_few_at_once_and_everybody_in_the_end(world: Probed) -> None:
    domains = [f"d{number}.example" for number in range(5 * MAX_AT_ONCE)]
    for domain in domains:
        world.tell(domain)
    gate = asyncio.Event()
    world.looker.held = dict.fromkeys(domains, gate)
    await world.turn()
    while len(world.looker.looks) < MAX_AT_ONCE:
        await asyncio.sleep(0)
    gate.set()
    await world.probing.settle()
    assert world.looker.most == MAX_AT_ONCE
    assert world.looker.looks == domains
    assert world.probing.established == {"success": len(domains)}


async def test_a_line_that_is_full_takes_the_others_later(
    world: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing_module, "MAX_IN_LINE", 3)
    monkeypatch.setattr(probing_module, "PAGE", 4)
    domains = [f"d{number}.example" for number in range(10)]
    for domain in domains:
        world.tell(domain)
    for looks in (3, 6, 9, 10):
        await world.pass_by()
        assert len(world.looker.looks) == looks
    assert sorted(world.looker.looks) == sorted(domains)
    assert world.probing.established == {"success": len(domains)}


async def test_what_cannot_be_judged_is_not_visited(world: Probed) -> None:
    counts = Counts()
    counts.add(DAY, Session("a.example", "", (), (ReportedPolicy(PolicyType.STS, "a.example"),)))
    world.store.add(counts)
    await world.pass_by()
    assert world.looker.looks == []
    world.clock.advance(timedelta(hours=12) + SETTLE)
    await world.pass_by()
    assert world.outcome("a.example") == "no-sessions"


# ---- which days -------------------------------------------------------------------------


async def test_older_days_are_left_alone(world: Probed) -> None:
    # An open day that is long over: its record cannot be looked up, say.
    world.tell("a.example", day=DAY - timedelta(days=2))
    world.tell("b.example", day=DAY - timedelta(days=1))
    world.reporter._is_steady = lambda: False  # type: ignore[method-assign]
    world.probing.start()
    await world.probing.settle()
    assert world.looker.looks == []
    world.clock.jump(-(timedelta(hours=12) - PROBE_WITHIN) - MINUTE)
    world.probing.start()
    await world.probing.settle()
    # Within its hours, what a probe sees says something of yesterday.
    assert world.looker.looks == ["b.example"]
    assert world.counts("b.example", DAY - timedelta(days=1)) == PolicyCounts(1)


async def test_a_probe_that_ends_too_late_says_nothing_of_yesterday(world: Probed) -> None:
    world.clock.jump(-timedelta(hours=12) + PROBE_WITHIN - MINUTE)
    for day in (DAY - timedelta(days=1), DAY):
        world.tell("a.example", day=day)
    world.looker.on_look = lambda _: world.clock.advance(2 * MINUTE)
    world.probing.start()
    await world.probing.settle()
    assert world.counts("a.example", DAY - timedelta(days=1)) == PolicyCounts(unverified=1)
    assert world.counts("a.example") == PolicyCounts(1)


async def test_a_day_that_is_closed_in_between_stays_as_it_was(world: Probed) -> None:
    world.tell("a.example")
    closed = Conclusion(which("a.example"), "no-sessions")
    world.looker.on_look = lambda _: world.outbox.conclude([closed])
    await world.pass_by()
    assert world.counts("a.example") == PolicyCounts(unverified=1)
    assert world.probing.established.total() == 0


# ---- the end of a day -------------------------------------------------------------------


@pytest.mark.req("RPT-DLV-01")
async def test_what_came_last_gets_its_chance_before_the_day_is_closed(world: Probed) -> None:
    world.clock.advance(timedelta(hours=11))
    world.publish("a.example")
    world.tell("b.example")
    world.publish("b.example")
    await world.pass_by()
    world.clock.advance(timedelta(hours=1) + SETTLE)
    # The last batch of the day is stored now: one domain was never probed, one has a verdict.
    world.tell("a.example", times=2)
    world.tell("b.example", times=3)
    await world.turn()
    assert world.outcome("a.example") is None
    assert world.outcome("b.example") is None
    await world.probing.settle()
    await world.turn()
    assert world.outcome("a.example") == world.outcome("b.example") == "reported"
    sessions = {one.which.domain: one.session_count for one in world.outbox.reports()}
    assert sessions == {"a.example": 2, "b.example": 4}
    assert Counter(world.looker.looks) == {"a.example": 1, "b.example": 1}


async def test_days_wait_for_nothing_else(world: Probed) -> None:
    """A host that keeps us waiting holds up neither making nor sending, nor other probes."""
    world.probing.start()
    world.clock.advance(timedelta(hours=12) + SETTLE)
    world.looker.held["slow.example"] = asyncio.Event()
    for domain in ("slow.example", "quick.example", "plain.example"):
        world.publish(domain)
    for domain in ("slow.example", "quick.example"):
        world.tell(domain)
    world.count("plain.example", successes=3)
    await world.turn()
    assert world.out.counts() == {"mailto:tls@plain.example": 1}
    while world.probing.established.total() < 1:
        await asyncio.sleep(0)
    await world.turn()
    assert world.out.counts()["mailto:tls@quick.example"] == 1
    assert world.outcome("slow.example") is None
    # The patience has an end.
    world.clock.advance(HOLD_DAYS - SETTLE - MINUTE)
    await world.turn()
    assert world.outcome("slow.example") is None
    world.clock.advance(2 * MINUTE)
    await world.turn()
    assert world.outcome("slow.example") == "no-sessions"
    assert world.looker.looks.count("slow.example") == 1


async def test_what_could_not_be_established_holds_no_day_open(world: Probed) -> None:
    world.clock.advance(timedelta(hours=12) + SETTLE)
    world.looker.seen["a.example"] = UnknownReason.TARPIT
    world.tell("a.example")
    await world.pass_by()
    assert world.outcome("a.example") is None
    await world.pass_by()
    assert world.outcome("a.example") == "no-sessions"


async def test_a_start_in_the_early_morning_gives_probes_their_chance(world: Probed) -> None:
    world.clock.advance(timedelta(hours=12) + 3 * HOLD_DAYS)
    world.publish("a.example")
    world.tell("a.example")
    # A command that makes reports and does not probe does not wait: the morning is late enough.
    assert await world.probing.held() == frozenset()
    await world.pass_by()
    assert world.outcome("a.example") is None
    await world.pass_by()
    assert world.outcome("a.example") == "reported"


async def test_a_start_at_noon_does_not(world: Probed) -> None:
    world.tell("a.example", day=DAY - timedelta(days=1))
    await world.pass_by()
    assert world.outcome("a.example", DAY - timedelta(days=1)) == "no-sessions"
    assert world.looker.looks == []


# ---- what goes wrong --------------------------------------------------------------------


async def test_a_closed_port_is_told_once_and_holds_nothing_up(world: Probed) -> None:
    web = ReporterWeb(world.reporter, world.store, world.outbox, world.clock)
    world.looker.port = PortState.BLOCKED
    for domain in ("a.example", "b.example"):
        world.tell(domain)
    await world.pass_by()
    assert world.log.names()["probe-port-blocked"] == 1
    assert world.probing.outcomes == {"port-blocked": 2}
    assert world.counts("a.example") == PolicyCounts(unverified=1)
    assert web.degraded() == ["testing policies cannot be probed: outbound port 25 is closed"]
    world.clock.advance(timedelta(hours=12) + SETTLE)
    world.tell("a.example")
    await world.turn()
    assert world.outcome("a.example") == "no-sessions"
    # It is open again: the next look finds it out.
    world.looker.port = PortState.OPEN
    world.tell("d.example", day=NEXT_DAY)
    await world.pass_by()
    assert world.counts("d.example", NEXT_DAY) == PolicyCounts(1)
    assert web.degraded() == []
    world.looker.port = PortState.BLOCKED
    world.tell("c.example", day=NEXT_DAY)
    await world.pass_by()
    assert world.log.names()["probe-port-blocked"] == 2


async def test_a_port_that_is_opened_is_found_open_within_the_hour(world: Probed) -> None:
    world.looker.port = PortState.BLOCKED
    world.tell("a.example")
    await world.pass_by()
    world.looker.port = PortState.OPEN
    world.clock.advance(SOON_SECONDS - 1)
    await world.pass_by()
    assert world.probing.is_port_blocked
    world.clock.advance(1)
    await world.pass_by()
    assert not world.probing.is_port_blocked
    await world.pass_by()
    # Nobody waits for another hour.
    assert world.counts("a.example") == PolicyCounts(1)
    assert world.looker.tests == 1


async def test_a_closed_port_is_tested_though_nothing_is_to_be_probed(world: Probed) -> None:
    world.looker.port = PortState.BLOCKED
    world.tell("a.example")
    await world.pass_by()
    world.outbox.conclude([Conclusion(which("a.example"), "no-sessions")])
    looks = len(world.looker.looks)
    # Now and then at first, then every hour.
    for expected in (1, 2, 3, 4, 5, 6):
        world.clock.advance(SOON_SECONDS)
        await world.pass_by()
        assert world.looker.tests == expected
    for _ in range(5):
        world.clock.advance(SOON_SECONDS)
        await world.pass_by()
    assert world.looker.tests == 6
    world.looker.port = PortState.NOT_TESTED
    world.clock.advance(SOON_SECONDS)
    await world.pass_by()
    # No canary has an address: that says nothing.
    assert (world.looker.tests, world.probing.is_port_blocked) == (7, True)
    world.looker.port = PortState.OPEN
    world.clock.advance(BLOCKED_SECONDS)
    await world.pass_by()
    assert not world.probing.is_port_blocked
    world.clock.advance(BLOCKED_SECONDS)
    await world.pass_by()
    assert (world.looker.tests, len(world.looker.looks)) == (8, looks)
    assert world.log.names()["probe-port-blocked"] == 1
    assert "internal-error" not in world.log.names()


async def test_a_port_that_is_closed_for_a_moment_costs_no_day(world: Probed) -> None:
    world.publish("a.example")
    world.clock.advance(timedelta(hours=12) - MINUTE)
    world.looker.port = PortState.BLOCKED
    world.tell("a.example")
    await world.pass_by()
    world.clock.advance(MINUTE + SETTLE)
    await world.pass_by()
    assert world.outcome("a.example") is None
    world.looker.port = PortState.OPEN
    world.clock.advance(SOON_SECONDS)
    for _ in range(3):
        await world.pass_by()
    assert world.counts("a.example") == PolicyCounts(1)
    assert world.outcome("a.example") == "reported"


async def test_a_port_that_stays_closed_holds_the_day_no_longer_than_anything_else(
    world: Probed,
) -> None:
    world.clock.advance(timedelta(hours=12) - MINUTE)
    world.looker.port = PortState.BLOCKED
    world.tell("a.example")
    await world.pass_by()
    world.clock.advance(HOLD_DAYS)
    await world.pass_by()
    assert world.outcome("a.example") is None
    world.clock.advance(timedelta(hours=1) - HOLD_DAYS + MINUTE)
    await world.pass_by()
    assert world.outcome("a.example") == "no-sessions"


async def test_a_test_of_the_port_that_fails_is_told(
    world: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.looker.port = PortState.BLOCKED
    world.tell("a.example")
    await world.pass_by()
    monkeypatch.setattr(world.looker, "test_port", broken_store)
    world.clock.advance(SOON_SECONDS)
    await world.pass_by()
    await world.pass_by()
    assert world.log.names()["internal-error"] == 1
    assert world.probing.is_port_blocked


async def test_a_store_that_fails_costs_no_second_visit(
    world: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.tell("a.example")
    with monkeypatch.context() as patch:
        patch.setattr(world.probing._counts, "establish", broken_store)
        for _ in range(3):
            await world.pass_by()
        patch.setattr(world.probing._counts, "find", broken_store)
        await world.pass_by()
    assert world.counts("a.example") == PolicyCounts(unverified=1)
    await world.pass_by()
    assert world.counts("a.example") == PolicyCounts(1)
    assert world.looker.looks == ["a.example"]
    assert "internal-error" not in world.log.names()


async def test_a_store_that_fails_closes_no_day(
    world: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.tell("a.example")
    world.clock.advance(timedelta(hours=12) + SETTLE)
    with monkeypatch.context() as patch:
        patch.setattr(world.probing._counts, "find", broken_store)
        await world.pass_by()
        assert world.outcome("a.example") is None
        assert world.reporter.fault
    await world.pass_by()
    assert not world.reporter.fault


async def test_a_fault_of_ours_is_told_and_costs_the_others_nothing(
    world: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(domain: str) -> None:
        if domain == "a.example":
            raise ZeroDivisionError

    world.looker.on_look = fail
    for domain in ("a.example", "b.example"):
        world.tell(domain)
    await world.pass_by()
    assert world.probing.outcomes == {"fault": 1, "success": 1}
    assert world.log.names()["internal-error"] == 1
    monkeypatch.setattr(world.probing, "_take_all", fail)
    await world.pass_by()
    assert world.log.names()["internal-error"] == 2


async def test_no_more_verdicts_are_kept_than_there_is_room_for(
    world: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing_module, "MAX_VERDICTS", 2)
    for number in range(4):
        world.tell(f"d{number}.example")
        await world.pass_by()
    assert len(world.probing._verdicts._kept) == 2


# ---- life -------------------------------------------------------------------------------


async def test_a_reload_gives_up_what_is_under_way_and_goes_on_with_the_new_one(
    world: Probed,
) -> None:
    world.looker.held["a.example"] = asyncio.Event()
    world.tell("a.example")
    await world.turn()
    while not world.looker.looks:
        await asyncio.sleep(0)
    new = FakeLooker()
    await world.probing.replace(new)
    assert (world.looker.closed, world.looker.now) == (1, 0)
    await world.pass_by()
    assert new.looks == ["a.example"]
    assert world.counts("a.example") == PolicyCounts(1)
    await world.probing.replace(None)
    assert not world.probing.is_on
    world.tell("b.example")
    await world.pass_by()
    assert world.counts("b.example") == PolicyCounts(unverified=1)


async def test_a_reload_forgets_that_the_port_was_closed(world: Probed) -> None:
    world.looker.port = PortState.BLOCKED
    world.tell("a.example")
    await world.pass_by()
    assert world.probing.is_port_blocked
    await world.probing.replace(FakeLooker())
    assert not world.probing.is_port_blocked
    await world.pass_by()
    assert world.counts("a.example") == PolicyCounts(1)


async def test_it_ends_when_told(world: Probed) -> None:
    world.looker.held["a.example"] = asyncio.Event()
    world.tell("a.example")
    await world.turn()
    while not world.looker.looks:
        await asyncio.sleep(0)
    world.reporter.stop()
    world.tell("b.example")
    await world.turn()
    await world.probing.close()
    assert world.looker.looks == ["a.example"]
    assert world.looker.closed == 1


async def test_what_is_counted(world: Probed) -> None:
    metrics = Metrics()
    ReporterWeb(world.reporter, world.store, world.outbox, world.clock).register(metrics)
    world.looker.seen = {"b.example": PkixProblem.NAME, "c.example": UnknownReason.BUSY}
    for domain in ("a.example", "b.example", "c.example"):
        world.tell(domain, times=2)
    await world.pass_by()
    text = metrics.render().decode()
    for line in (
        'strictmail_report_probes_total{outcome="success"} 1.0',
        'strictmail_report_probes_total{outcome="failure"} 1.0',
        'strictmail_report_probes_total{outcome="unseen"} 1.0',
        'strictmail_report_probed_sessions_total{result="success"} 2.0',
        'strictmail_report_probed_sessions_total{result="failure"} 2.0',
    ):
        assert line in text
    # They were counted when they were told: a second time would be one too many.
    assert "\nstrictmail_sessions_total" not in text
