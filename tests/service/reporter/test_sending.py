# SPDX-License-Identifier: Apache-2.0
"""Deliveries: once, each by itself, again where that helps, and never more than wanted."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from strictmail.core.tlsrpt.counts import Counts
from strictmail.core.tlsrpt.delivery import RETRY_FOR, OutcomeKind, SendOutcome
from strictmail.core.tlsrpt.results import PolicyType
from strictmail.core.tlsrpt.session import JudgedPolicy, ReportedPolicy, Session
from strictmail.reporter import sending
from strictmail.store.outbox_rows import Suppression

from .world import DAY, DEAD, DELIVERED, LATER, NEVER, World, broken_store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def due_today(world: World, *domains: str, uris: tuple[str, ...] = ()) -> None:
    for domain in domains:
        world.publish(domain, *uris)
        world.count(domain)


@pytest.mark.req("RPT-DLV-38", "RPT-DLV-06", "RPT-REC-24", "RPT-REC-25")
async def test_one_destination_that_fails_blocks_no_other(world: World) -> None:
    uris = ("mailto:dead@a.example", "https://slow.example/", "mailto:good@b.example")
    world.out.answers |= {"mailto:dead@a.example": DEAD, "slow.example": LATER}
    due_today(world, "a.example", uris=uris)
    await world.turn()
    assert world.states() == dict(zip(uris, ("failed", "waiting", "sent"), strict=True))
    await world.live(RETRY_FOR + timedelta(hours=5))
    assert world.states()["https://slow.example/"] == "failed"
    assert world.out.counts() == {"mailto:good@b.example": 1}


@pytest.mark.req("RPT-DLV-02", "RPT-DLV-03", "RPT-DLV-04", "RPT-DLV-05")
async def test_retries_back_off_for_a_day_with_the_same_octets(world: World) -> None:
    times = []

    def later() -> SendOutcome:
        times.append(world.clock.now())
        return LATER

    world.out.answers["a.example"] = later
    due_today(world, "a.example")
    await world.live(RETRY_FOR + timedelta(hours=6), timedelta(minutes=1))
    gaps = [b - a for a, b in pairwise(times)]
    assert 8 <= len(times) <= 16
    assert gaps[0] < timedelta(minutes=10)
    assert all(a < 1.7 * b for a, b in pairwise(gaps[:5]))
    assert times[-1] - times[0] <= RETRY_FOR + timedelta(minutes=2)
    assert len({octets for _, octets in world.out.sent}) == 1
    assert world.states() == {"mailto:tls@a.example": "failed"}
    assert world.log.names()["report-not-delivered"] == 1


async def test_an_answer_that_comes_late_is_a_delivery(world: World) -> None:
    answers = [LATER, LATER, DELIVERED]
    world.out.answers["a.example"] = lambda: answers.pop(0)
    due_today(world, "a.example")
    await world.live(timedelta(hours=2))
    assert world.states() == {"mailto:tls@a.example": "sent"}
    assert world.sender.outcomes == {"retry": 2, "delivered": 1}


@pytest.mark.req("RPT-DLV-54")
async def test_a_destination_says_when(world: World) -> None:
    asked = SendOutcome(OutcomeKind.RETRY, "HTTP status 429", retry_after_seconds=3600)
    world.out.answers["a.example"] = asked
    due_today(world, "a.example", uris=("https://a.example/",))
    await world.turn()
    (waiting,) = world.deliveries()
    assert waiting.next_at - world.clock.now() >= timedelta(minutes=59)


async def test_what_is_refused_as_it_is_says_nothing_about_the_next(world: World) -> None:
    world.out.answers["a.example"] = NEVER
    due_today(world, "a.example")
    await world.turn()
    assert world.states() == {"mailto:tls@a.example": "failed"}
    assert world.outbox.suppressions() == []


async def test_a_dead_destination_takes_the_rest_of_its_batch_with_it(world: World) -> None:
    world.out.answers["a.example"] = DEAD
    due_today(world, *(f"d{n}.example" for n in range(20)), uris=("mailto:gone@a.example",))
    await world.live(timedelta(minutes=20))
    assert len(world.out.sent) == 1
    states = [str(one.state) for one in world.deliveries()]
    assert states.count("failed") == 1
    assert states.count("suppressed") == 19
    assert world.log.names()["report-destination-suppressed"] == 1


async def test_a_suppression_ends_by_itself_or_by_hand(world: World) -> None:
    now = world.clock.now()
    for until in (now + timedelta(days=1), now + timedelta(days=30)):
        world.outbox.suppress(Suppression("mailto:tls@a.example", "bounced", until, now))
    assert len(world.outbox.suppressions(now)) == 1, "the later one counts"
    due_today(world, "a.example")
    await world.turn()
    (delivery,) = world.deliveries()
    assert (str(delivery.state), delivery.detail) == ("suppressed", "bounced")
    assert world.outbox.allow("mailto:tls@a.example")
    assert world.outbox.resend([delivery], now) == 1
    await world.turn()
    assert world.states() == {"mailto:tls@a.example": "sent"}


async def test_expired_suppressions_are_forgotten(world: World) -> None:
    now = world.clock.now()
    world.outbox.suppress(Suppression("mailto:x@a.example", "old", now + timedelta(days=1), now))
    await world.turn()
    assert len(world.outbox.suppressions()) == 1
    world.clock.advance(timedelta(days=2))
    await world.turn()
    assert world.outbox.suppressions() == []


@pytest.mark.slow
@pytest.mark.req("SEC-24")
async def test_ten_thousand_domains_that_name_one_destination(world: World) -> None:
    world.configure(per_destination=20_000, per_host=20_000)
    counts = Counts()
    for number in range(10_000):
        domain = f"d{number}.example"
        world.publish(domain, "https://all.hoster.example/")
        policy = ReportedPolicy(PolicyType.NO_POLICY_FOUND, domain)
        counts.add(DAY, Session(domain, "", (JudgedPolicy(policy, succeeded=True),)))
        if number == 5000:
            small = ReportedPolicy(PolicyType.NO_POLICY_FOUND, "small.example")
            counts.add(DAY, Session("small.example", "", (JudgedPolicy(small, succeeded=True),)))
    world.store.add(counts)
    world.publish("small.example")
    await world.run_until_quiet()
    assert world.out.counts() == {
        "https://all.hoster.example/": 10_000,
        "mailto:tls@small.example": 1,
    }
    # One after the other: never a second connection at the same time.
    assert world.out.most_of_host == 1
    # Who has one report does not wait for who has ten thousand.
    place = [text for text, _ in world.out.sent].index("mailto:tls@small.example")
    assert place <= 5300


@pytest.mark.req("SEC-24")
async def test_a_dead_mailbox_with_thousands_costs_an_attempt_now_and_then(world: World) -> None:
    world.configure(per_destination=20_000)
    world.out.answers["dead.example"] = LATER
    due_today(world, *(f"d{n}.example" for n in range(500)), uris=("mailto:x@dead.example",))
    due_today(world, *(f"g{n}.example" for n in range(50)))
    await world.turn()
    await world.live(timedelta(minutes=30))
    dead = [text for text, _ in world.out.sent if text == "mailto:x@dead.example"]
    assert len(dead) <= 12
    assert len(world.out.taken) == 50


@pytest.mark.req("SEC-23")
async def test_a_host_that_hangs_holds_up_nobody_else(world: World) -> None:
    world.configure(workers=8, host_workers=2)
    release = asyncio.Event()

    async def hold(text: str) -> None:
        if text.endswith("@hanging.example"):
            await release.wait()

    world.out.hold = hold
    for number in range(50):
        due_today(world, f"h{number}.example", uris=(f"mailto:x{number}@hanging.example",))
    due_today(world, *(f"g{n}.example" for n in range(50)))
    await world.reporter.turn()
    for _ in range(2000):
        await world.sender.start_due(look=False)
        await asyncio.sleep(0)
        if len(world.out.taken) == 50:
            break
    assert len(world.out.taken) == 50
    assert world.sender.in_flight == 2
    release.set()
    await world.sender.settle()
    await world.run_until_quiet()
    assert len(world.out.taken) == 100
    assert world.out.most_of_host == 2
    assert world.out.most_at_once <= 8


async def put_off(world: World, count: int) -> list[str]:
    """So many destinations, each of a host of its own, whose second attempt is due."""
    uris = [f"mailto:x@h{n}.example" for n in range(count)]
    world.out.answers.update(dict.fromkeys(uris, LATER))
    for number, uri in enumerate(uris):
        due_today(world, f"h{number}.example", uris=(uri,))
    await world.turn()
    await world.run_until_quiet()
    assert len(world.out.sent) == count
    world.out.answers.clear()
    world.clock.advance(timedelta(hours=6))
    return uris


@pytest.mark.req("SEC-23")
async def test_many_hosts_that_hang_again_leave_half_of_the_workers(world: World) -> None:
    world.configure(workers=8)
    bad = await put_off(world, 40)
    release = asyncio.Event()

    async def hold(text: str) -> None:
        if text in bad:
            await release.wait()

    world.out.hold = hold
    due_today(world, *(f"g{n}.example" for n in range(50)))
    await world.reporter.turn()
    for _ in range(2000):
        await world.sender.start_due(look=False)
        await asyncio.sleep(0)
        if len(world.out.taken) == 50:
            break
    assert len(world.out.taken) == 50
    assert world.sender.in_flight == 4
    release.set()
    await world.sender.settle()
    await world.run_until_quiet()
    assert len(world.out.taken) == 90


async def test_retries_that_have_to_wait_are_not_kept_in_memory(world: World) -> None:
    world.configure(workers=4)
    await put_off(world, 60)
    release = asyncio.Event()

    async def hold(_text: str) -> None:
        await release.wait()

    world.out.hold = hold
    for _ in range(10):
        await world.sender.start_due()
        await asyncio.sleep(0)
    assert world.sender.in_flight == 2
    assert not world.sender._ready
    release.set()
    await world.sender.settle()
    await world.run_until_quiet()
    assert set(world.states().values()) == {"sent"}


async def test_a_fault_in_a_way_out_is_a_retry(world: World) -> None:
    def fail() -> SendOutcome:
        raise RuntimeError("a fault of ours")

    world.out.answers["a.example"] = fail
    due_today(world, "a.example", "b.example")
    await world.turn()
    assert world.states("a.example") == {"mailto:tls@a.example": "waiting"}
    assert world.states("b.example") == {"mailto:tls@b.example": "sent"}
    assert world.log.names()["internal-error"] == 1


async def test_a_fault_in_making_a_mail_is_a_retry_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(sending, "build_message", fail)
    due_today(world, "a.example")
    await world.turn()
    assert world.states("a.example") == {"mailto:tls@a.example": "waiting"}
    assert world.log.names()["internal-error"] == 1
    monkeypatch.undo()
    await world.live(timedelta(minutes=30))
    assert world.out.counts() == {"mailto:tls@a.example": 1}


async def test_nothing_is_sent_that_cannot_be_noted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    due_today(world, "a.example")
    monkeypatch.setattr(world.outbox, "begin", broken_store)
    await world.turn()
    assert world.out.sent == []
    monkeypatch.undo()
    await world.live(timedelta(minutes=10))
    assert world.out.counts() == {"mailto:tls@a.example": 1}


async def test_the_end_of_an_attempt_is_noted_sooner_or_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    due_today(world, "a.example")
    finish, faults = world.outbox.finish, [1, 2, 3]

    def flaky(*args: object) -> None:
        if faults:
            faults.pop()
            broken_store()
        finish(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.outbox, "finish", flaky)
    await world.turn()
    await world.live(timedelta(hours=1))
    assert world.out.counts() == {"mailto:tls@a.example": 1}
    assert world.states() == {"mailto:tls@a.example": "sent"}


async def test_a_store_that_is_away_is_told_once_and_again_when_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    due_today(world, "a.example")
    monkeypatch.setattr(world.store, "unreported", broken_store)
    await world.turn()
    await world.turn()
    assert world.reporter.fault == "the disk is full"
    monkeypatch.undo()
    await world.turn()
    assert world.reporter.fault == ""
    names = world.log.names()
    assert (names["store-unavailable"], names["store-recovered"]) == (1, 1)
    assert world.out.counts() == {"mailto:tls@a.example": 1}


async def test_a_damaged_report_is_given_up_alone(world: World) -> None:
    due_today(world, "a.example", "b.example")
    world.out.answers["a.example"] = LATER
    await world.turn()
    with world.store.writing() as connection:
        connection.execute("UPDATE report SET content = x'00' WHERE domain = 'a.example'")
        connection.execute("UPDATE delivery SET message = NULL")
    await world.live(timedelta(hours=1))
    (delivery,) = world.deliveries("a.example")
    assert str(delivery.state) == "failed"
    assert "cannot be used" in delivery.detail
    assert world.states("b.example") == {"mailto:tls@b.example": "sent"}


async def test_two_processes_send_nothing_twice(world: World) -> None:
    """`strictmail report send` beside the daemon, on the same file."""
    due_today(world, *(f"d{n}.example" for n in range(30)))
    other = World(world.directory, clock=world.clock, resolver=world.resolver, out=world.out)

    async def hold(_text: str) -> None:
        await asyncio.sleep(0)

    world.out.hold = hold
    await asyncio.gather(world.reporter.turn(), other.reporter.turn())
    await asyncio.gather(world.sender.settle(), other.sender.settle())
    await asyncio.gather(world.run_until_quiet(), other.run_until_quiet())
    assert set(world.out.counts().values()) == {1}
    assert len(world.out.counts()) == 30


async def test_stopping_begins_nothing_and_finishes_what_is_under_way(world: World) -> None:
    release = asyncio.Event()

    async def hold(_text: str) -> None:
        await release.wait()

    world.out.hold = hold
    due_today(world, *(f"d{n}.example" for n in range(3)), uris=("mailto:x@a.example",))
    await world.reporter.turn()
    await asyncio.sleep(0)
    world.reporter.stop()
    release.set()
    await world.sender.settle()
    assert len(world.out.taken) == 1
    await world.restart()
    await world.run_until_quiet()
    assert len(world.out.taken) == 3


async def test_hasten_sends_what_waits_but_not_what_is_being_sent(world: World) -> None:
    world.configure(spread=timedelta(hours=4))
    due_today(world, *(f"d{n}.example" for n in range(10)))
    await world.turn()
    early = len(world.out.taken)
    assert early < 10
    now = world.clock.now()
    (first, *_) = [one for one in world.deliveries() if str(one.state) == "waiting"]
    assert world.outbox.begin(first, now, None)
    assert world.outbox.hasten(now) == 10 - early - 1
    await world.run_until_quiet()
    assert len(world.out.taken) == 9
