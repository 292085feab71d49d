# SPDX-License-Identifier: Apache-2.0
"""The process dies at every step there is: nothing is skipped, and nothing is sent twice but what
was in the air.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from strictmail.store.outbox import HOLD

from .world import DELIVERED, LATER, Crashed, CrashPlan, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

DOMAINS = tuple(f"d{n}.example" for n in range(4))
STEPS = ("conclude", "begin", "finish")


def instrument(world: World, plan: CrashPlan) -> None:
    """Let it crash before and after each write, and before and after each hand-over."""

    def wrapped(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            plan(f"before {name}")
            result = work(*args, **kwargs)
            plan(f"after {name}")
            return result

        return step

    for name in STEPS:
        setattr(world.outbox, name, wrapped(name, getattr(world.outbox, name)))
    world.out.crash = plan


async def crash_once(world: World, plan: CrashPlan) -> bool:
    """Live until the crash, and restart; whether there was one."""
    instrument(world, plan)
    crashed = False
    try:
        await world.reporter.turn()
        tasks = list(world.sender._busy.values())
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        crashed = any(isinstance(end, Crashed) for end in ends)
    except Crashed:
        crashed = True
    world.out.crash = lambda _stage: None
    await world.restart()
    return crashed or plan.seen >= plan.at


def prepare(directory: Path) -> World:
    directory.mkdir(exist_ok=True)
    world = World(directory)
    for domain in DOMAINS[:3]:
        world.publish(domain, f"mailto:tls@{domain}", f"https://{domain}/")
    for domain in DOMAINS:
        world.count(domain)
    later = [LATER]
    # One that is put off first, so that a retry is among the steps.
    world.out.answers["mailto:tls@d1.example"] = lambda: later.pop() if later else DELIVERED
    return world


@pytest.mark.req("RPT-DLV-05", "RPT-DLV-06", "RPT-JSON-53")
async def test_a_crash_at_every_step(tmp_path: Path) -> None:
    at, in_doubt = 1, Counter[str]()
    while True:
        world = prepare(tmp_path / str(at))
        plan = CrashPlan(at)
        if not await crash_once(world, plan):
            break
        await world.live(HOLD + timedelta(hours=1))
        # Nothing is skipped.
        assert {world.outcome(domain) for domain in DOMAINS[:3]} == {"reported"}, plan.stages[at]
        assert world.outcome(DOMAINS[3]) == "no-record"
        assert set(world.states().values()) == {"sent"}
        taken = world.out.counts()
        assert len(taken) == 6
        # Twice: only what was handed over and not noted, and then in the same octets.
        twice = {text for text, count in taken.items() if count > 1}
        if twice:
            in_doubt[plan.stages[at]] += 1
            assert len(twice) == 1
            assert plan.stages[at] in ("after it is taken", "before finish")
        assert len({octets for text, octets in world.out.taken if text in twice}) <= 1
        world.store.close()
        at += 1
    assert at > 25
    assert set(in_doubt) == {"after it is taken", "before finish"}


async def test_crash_after_crash(tmp_path: Path) -> None:
    """A daemon that is killed again and again still gets everything out."""
    world = prepare(tmp_path / "again")
    for at in (3, 5, 2, 7, 4, 9, 6, 1, 8):
        await crash_once(world, CrashPlan(at))
        world.clock.advance(HOLD + timedelta(minutes=1))
    await world.live(timedelta(hours=6))
    assert set(world.states().values()) == {"sent"}
    ids = {report.report_id for report in world.outbox.reports()}
    assert len(ids) == len(world.outbox.reports()) == 3


async def test_an_attempt_in_doubt_is_held_and_then_made_again(tmp_path: Path) -> None:
    world = prepare(tmp_path / "held")
    world.out.answers.clear()

    def die(stage: str) -> None:
        if stage == "after it is taken":
            raise Crashed(stage)

    world.out.crash = die
    await world.reporter.turn()
    tasks = list(world.sender._busy.values())
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(end) for end in ends} == {Crashed}
    world.out.crash = lambda _stage: None
    await world.restart()
    before = len(world.out.sent)
    await world.turn()
    held = [one for one in world.deliveries() if str(one.state) == "waiting"]
    assert held, "nothing was in doubt"
    assert all(one.next_at == world.clock.now() + HOLD for one in held)
    assert len(world.out.sent) == before
    world.clock.advance(HOLD)
    await world.turn()
    assert set(world.states().values()) == {"sent"}
