# SPDX-License-Identifier: Apache-2.0
"""Days and clocks: midnight, spread, steps of the clock, local time, old days; a life of its own."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.tlsrpt.delivery import SETTLE, SPREAD
from strictmail.reporter.web import ReporterWeb
from strictmail.runtime.clock import ManualClock
from strictmail.runtime.metrics import Metrics

from .world import DAY, LATER, SETTINGS, World, broken_store

if TYPE_CHECKING:
    from pathlib import Path

MIDNIGHT = datetime(2026, 1, 2, tzinfo=UTC)
TXT = RecordType.TXT


def at(tmp_path: Path, moment: datetime) -> World:
    return World(tmp_path, clock=ManualClock(moment))


@pytest.mark.req("RPT-DLV-01", "RPT-JSON-53")
async def test_a_day_is_reported_after_its_end_and_a_grace(tmp_path: Path) -> None:
    world = at(tmp_path, MIDNIGHT - timedelta(minutes=10))
    world.publish("a.example")
    world.count("a.example")
    await world.live(timedelta(minutes=10) + SETTLE, timedelta(minutes=1))
    assert world.outcome("a.example") is None
    await world.turn()
    assert world.outcome("a.example") == "reported"


@pytest.mark.req("RPT-JSON-53")
async def test_sessions_around_midnight_are_in_their_own_days(tmp_path: Path) -> None:
    world = at(tmp_path, MIDNIGHT)
    world.publish("a.example")
    world.count("a.example", successes=3)
    world.count("a.example", day=DAY + timedelta(days=1), successes=4)
    # A batch of the old day that is written in the grace.
    world.clock.advance(SETTLE / 2)
    await world.turn()
    world.count("a.example", successes=5)
    await world.live(timedelta(days=2), timedelta(minutes=30))
    assert [(one.which.day, one.session_count) for one in world.outbox.reports()] == [
        (DAY, 8),
        (DAY + timedelta(days=1), 4),
    ]


@pytest.mark.req("RPT-DLV-01")
async def test_reports_are_spread_over_hours(tmp_path: Path) -> None:
    world = at(tmp_path, MIDNIGHT + SETTLE)
    world.configure(spread=SPREAD)
    for number in range(200):
        world.publish(f"d{number}.example")
        world.count(f"d{number}.example")
    sent = []
    for _ in range(25):
        await world.turn()
        sent.append(len(world.out.taken))
        world.clock.advance(timedelta(minutes=10))
    assert sent[-1] == 200
    # As evenly as chance has it: in no ten minutes more than a sixth.
    assert max(b - a for a, b in zip([0, *sent], sent, strict=False)) < 34
    assert min(sent) < 20


async def test_a_reporter_that_was_down_for_days_catches_up(tmp_path: Path) -> None:
    world = at(tmp_path, MIDNIGHT + timedelta(days=3, hours=7))
    world.publish("a.example")
    for ahead in range(5):
        world.count("a.example", day=DAY + timedelta(days=ahead))
    await world.run_until_quiet()
    assert [one.which.day.day for one in world.outbox.reports()] == [1, 2, 3, 4]
    assert world.outcome("a.example", DAY + timedelta(days=4)) is None


async def test_a_clock_that_jumps_ahead_closes_no_day_too_early(tmp_path: Path) -> None:
    world = at(tmp_path, MIDNIGHT - timedelta(hours=12))
    world.publish("a.example")
    world.count("a.example", successes=1)
    await world.live(timedelta(minutes=10))
    world.clock.jump(timedelta(days=3))
    await world.live(timedelta(minutes=3), timedelta(minutes=1))
    assert world.outcome("a.example") is None
    world.clock.jump(-timedelta(days=3))
    await world.live(timedelta(hours=2), timedelta(minutes=1))
    world.count("a.example", successes=1)
    assert world.outcome("a.example") is None
    await world.live(timedelta(hours=12))
    assert [one.session_count for one in world.outbox.reports()] == [2]
    assert world.log.names()["clock-was-set"] == 2


async def test_a_clock_that_stays_set_is_believed_after_a_while(tmp_path: Path) -> None:
    world = at(tmp_path, MIDNIGHT - timedelta(days=400))
    world.publish("a.example")
    world.count("a.example")
    await world.turn()
    world.clock.jump(timedelta(days=400, hours=1))
    await world.turn()
    assert world.outcome("a.example") is None
    await world.live(timedelta(minutes=11))
    assert world.outcome("a.example") == "reported"


async def test_a_clock_that_goes_back_reports_nothing_twice(tmp_path: Path) -> None:
    world = at(tmp_path, MIDNIGHT + timedelta(hours=1))
    world.publish("a.example")
    world.count("a.example")
    await world.turn()
    world.clock.jump(-timedelta(days=2))
    await world.live(timedelta(days=3), timedelta(hours=1))
    assert world.out.counts() == {"mailto:tls@a.example": 1}


async def test_a_clock_that_goes_back_makes_nobody_wait_for_it(tmp_path: Path) -> None:
    world = at(tmp_path, MIDNIGHT + timedelta(hours=1))
    world.publish("a.example", "https://a.example/")
    world.count("a.example")
    world.count("b.example")
    world.resolver.fail("_smtp._tls.b.example", TXT, Status.SERVFAIL)
    world.out.answers["a.example"] = LATER
    await world.turn()
    world.clock.jump(-timedelta(hours=23))
    world.out.answers.clear()
    world.publish("c.example", "https://a.example/")
    world.count("c.example", day=DAY - timedelta(days=1))
    world.resolver.add("_smtp._tls.b.example", TXT, (b"v=TLSRPTv1; rua=mailto:tls@b.example",))
    await world.live(timedelta(minutes=30), timedelta(minutes=1))
    # The host is not left alone for a day, and the record is asked for again.
    assert world.out.counts() == {"https://a.example/": 1}
    assert world.reporter.waiting_for_records == 0


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati", "Europe/Berlin"])
async def test_local_time_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """Through the last Sunday of March, when clocks are set in many zones."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        world = at(tmp_path, datetime(2026, 3, 28, 0, 10, tzinfo=UTC))
        world.publish("a.example")
        for number in range(27, 31):
            world.count("a.example", day=date(2026, 3, number), successes=number)
        await world.live(timedelta(days=3), timedelta(minutes=30))
        assert [(one.which.day.day, one.session_count) for one in world.outbox.reports()] == [
            (27, 27),
            (28, 28),
            (29, 29),
        ]
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_old_days_are_forgotten(tmp_path: Path) -> None:
    world = at(tmp_path, MIDNIGHT + timedelta(hours=1))
    world.configure(retention=timedelta(days=5))
    world.publish("a.example")
    for ahead in range(10):
        world.count("a.example", day=DAY + timedelta(days=ahead), successes=9)
        await world.live(timedelta(days=1), timedelta(hours=3))
    days = [one.which.day for one in world.outbox.reports()]
    assert days[0] >= DAY + timedelta(days=4)
    assert len(world.out.taken) == 10


async def test_it_lives_by_itself_and_ends_when_told(tmp_path: Path) -> None:
    world = at(tmp_path, MIDNIGHT + timedelta(hours=1))
    taken = asyncio.Event()

    async def hold(_text: str) -> None:
        taken.set()

    world.out.hold = hold
    world.publish("a.example")
    world.count("a.example")
    life = asyncio.create_task(world.reporter.run())
    await taken.wait()
    await world.sender.settle()
    world.reporter.stop()
    await life
    assert world.out.counts() == {"mailto:tls@a.example": 1}


async def test_what_is_counted_and_what_is_degraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, settings=SETTINGS)
    web = ReporterWeb(world.reporter, world.store, world.outbox, world.clock)
    metrics = Metrics()
    web.register(metrics)
    world.out.answers["b.example"] = LATER
    for domain in ("a.example", "b.example"):
        world.publish(domain)
        world.count(domain)
    world.count("c.example")
    await world.turn()
    world.count("a.example", successes=3)
    world.clock.advance(timedelta(hours=31))
    await web.before_scrape()
    text = metrics.render().decode()
    for line in (
        'strictmail_report_days_total{outcome="reported"} 2.0',
        'strictmail_report_days_total{outcome="no-record"} 1.0',
        'strictmail_report_days_open{reason="record"} 0.0',
        'strictmail_report_days_open{reason="fault"} 0.0',
        "strictmail_report_late_sessions 3.0",
        'strictmail_report_deliveries_total{outcome="delivered"} 1.0',
        'strictmail_report_deliveries_total{outcome="retry"} 1.0',
        'strictmail_report_deliveries{state="waiting"} 1.0',
        "strictmail_report_queue_age_seconds 111600.0",
        "strictmail_report_relay_available 1.0",
    ):
        assert line in text
    assert web.degraded() == ["reports wait for more than a day"]
    assert web.routes == ()
    assert web.paths(lambda _: {}) == {}
    monkeypatch.setattr(world.out, "fault", "relay.test: ECONNREFUSED", raising=False)
    monkeypatch.setattr(world.outbox, "count_states", broken_store)
    await web.before_scrape()
    assert web.degraded() == [
        "report store unavailable: no report is made or sent",
        "mail relay unavailable: reports wait",
        "reports wait for more than a day",
    ]
