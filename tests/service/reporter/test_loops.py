# SPDX-License-Identifier: Apache-2.0
"""Two installations that report to each other: the mail that carries reports is not reported on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from strictmail.core.tlsrpt.report import Identity
from strictmail.net.fakes import FakeResolver
from strictmail.reporter.settings import ReporterSettings, SenderIdentity
from strictmail.runtime.clock import ManualClock

from .world import DAY, FakeOut, World

if TYPE_CHECKING:
    from pathlib import Path

    from strictmail.core.tlsrpt.delivery import SendOutcome

DAYS = 30
NAMES = ("a.example", "b.example")


class CountedMail(FakeOut):
    """An MTA whose sessions with report mail are counted like all others."""

    world: World

    async def send(self, address: str, message: bytes) -> SendOutcome:
        outcome = await super().send(address, message)
        domain = address.rpartition("@")[2]
        self.world.count(domain, day=self.world.clock.now().date())
        return outcome


def installation(
    directory: Path, name: str, clock: ManualClock, resolver: FakeResolver, seed: int
) -> World:
    directory.mkdir()
    sender = f"tls@{name}"
    who = SenderIdentity(Identity(name, sender), sender, signed_elsewhere=True)
    out = CountedMail()
    world = World(
        directory,
        settings=ReporterSettings(identities={"": who}, retention=timedelta(days=90)),
        clock=clock,
        resolver=resolver,
        out=out,
        seed=seed,
    )
    out.world = world
    return world


@pytest.fixture
def pair(tmp_path: Path) -> tuple[World, World]:
    clock = ManualClock(datetime(2026, 1, 1, 12, tzinfo=UTC))
    resolver = FakeResolver()
    worlds = [
        installation(tmp_path / name, name, clock, resolver, seed)
        for seed, name in enumerate(NAMES)
    ]
    for world, name in zip(worlds, NAMES, strict=True):
        world.publish(name, f"mailto:reports@{name}")
    return worlds[0], worlds[1]


async def live(pair: tuple[World, World], days: int, mails_a_day: int) -> None:
    first, second = pair
    for _ in range(days):
        day = first.clock.now().date()
        for _ in range(mails_a_day):
            first.count(NAMES[1], day=day)
            second.count(NAMES[0], day=day)
        for _ in range(48):
            await first.turn()
            await second.turn()
            first.clock.advance(timedelta(minutes=30))


@pytest.mark.req("RPT-JSON-52", "RPT-DLV-36", "SEC-22")
async def test_after_the_last_mail_there_is_one_report_and_then_silence(
    pair: tuple[World, World],
) -> None:
    await live(pair, 1, mails_a_day=1)
    await live(pair, DAYS, mails_a_day=0)
    for world in pair:
        # The report on the one mail; the session that carried it was counted the day after.
        assert [one.which.day for one in world.outbox.reports()] == [DAY]
        assert len(world.out.taken) == 1
        assert world.reporter.made["only-reports"] == 1


@pytest.mark.req("RPT-JSON-52", "SEC-22")
async def test_mail_every_day_is_reported_every_day_and_nothing_grows(
    pair: tuple[World, World],
) -> None:
    await live(pair, DAYS, mails_a_day=5)
    for world in pair:
        counts = [one.session_count for one in world.outbox.reports()]
        assert len(counts) >= DAYS - 2
        # At most the one session of the day's report is among them.
        assert set(counts) <= {5, 6}


@pytest.mark.req("RPT-JSON-52")
async def test_a_way_out_that_nobody_counts_costs_no_report(pair: tuple[World, World]) -> None:
    """`mail = "direct"`, or a transport that keeps quiet about report mail."""
    world, _ = pair
    world.configure(sessions_of_reports=False)
    world.out.__class__ = FakeOut
    for ahead in range(5):
        world.count(NAMES[1], day=DAY + timedelta(days=ahead), successes=1)
        await world.live(timedelta(days=1), timedelta(minutes=30))
    await world.live(timedelta(hours=12), timedelta(minutes=30))
    assert len(world.outbox.reports()) == 5
