# SPDX-License-Identifier: Apache-2.0
"""What a run remembers: each question once, for a time, and so many that it stays bounded."""

from __future__ import annotations

import asyncio

import pytest

from strictmail.checker.flights import Kept, Once
from strictmail.checker.memo import MAX_OWN_ANSWERS, HeldAnswers, MemoResolver
from strictmail.core.dnsvalues import RecordType
from strictmail.net.fakes import FakeResolver
from strictmail.runtime.clock import ManualClock

from .gathering import settle

A = RecordType.A


class Oracle:
    """Answers when it is told to, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()

    async def answer(self) -> str:
        self.asked += 1
        await self.may_answer.wait()
        return f"answer {self.asked}"


# ---- each question once -----------------------------------------------------------------------


async def test_who_asks_meanwhile_waits_for_the_same_answer() -> None:
    oracle, once = Oracle(), Once[str, str]()
    asking = [asyncio.ensure_future(once.get("q", oracle.answer)) for _ in range(3)]
    await settle()
    oracle.may_answer.set()
    assert await asyncio.gather(*asking) == ["answer 1"] * 3
    assert await once.get("q", oracle.answer) == "answer 1"
    assert oracle.asked == 1


async def test_if_who_asked_first_goes_away_the_next_one_asks() -> None:
    oracle, once = Oracle(), Once[str, str]()
    first, second, third = (asyncio.ensure_future(once.get("q", oracle.answer)) for _ in range(3))
    await settle()
    first.cancel()
    await settle()
    assert oracle.asked == 2
    oracle.may_answer.set()
    assert await second == await third == "answer 2"
    assert first.cancelled()


async def test_what_a_question_raises_only_who_asked_gets() -> None:
    oracle, once = Oracle(), Once[str, str]()

    async def fail() -> str:
        await oracle.may_answer.wait()
        raise OSError("no")

    first = asyncio.ensure_future(once.get("q", fail))
    await settle()
    second = asyncio.ensure_future(once.get("q", oracle.answer))
    await settle()
    oracle.may_answer.set()
    with pytest.raises(OSError, match="no"):
        await first
    assert await second == "answer 1"


# ---- for a time, and so many ------------------------------------------------------------------


def test_an_answer_is_kept_for_its_time() -> None:
    clock = ManualClock()
    kept = Kept[str, int](clock, max_entries=9, keep=float)
    kept.put("a", 5)
    clock.advance(4.9)
    assert kept.find("a") == 5
    clock.advance(0.1)
    assert kept.find("a") is None


def test_the_one_used_longest_ago_goes_first() -> None:
    kept = Kept[str, int](ManualClock(), max_entries=2, keep=float)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.find("a") == 1
    kept.put("c", 3)
    assert [kept.find(key) for key in "abc"] == [1, None, 3]


# ---- names of one domain do not drive out what many share ----------------------------------------


def memo(resolver: FakeResolver, max_entries: int = 10) -> MemoResolver:
    return MemoResolver(
        resolver, ManualClock(), keep_seconds=(60.0, 3600.0), max_entries=max_entries
    )


async def test_own_names_are_kept_apart() -> None:
    resolver = FakeResolver()
    shared = memo(resolver, max_entries=1)
    await shared.lookup("mx.provider.example", A)
    for number in range(3):
        held = HeldAnswers(f"d{number}.example", shared)
        await held.lookup(f"D{number}.example.", A)
        await held.lookup(f"mta-sts.d{number}.example", A)
        await held.lookup("mx.provider.example", A)
    assert resolver.questions["mx.provider.example", A] == 1


async def test_an_answer_is_found_whoever_asked_for_it() -> None:
    resolver = FakeResolver()
    shared = memo(resolver)
    await HeldAnswers("d1.example", shared).lookup("d1.example", A)
    await shared.lookup("D1.example", A)
    await shared.lookup("www.d2.example", A)
    await HeldAnswers("d2.example", shared).lookup("www.d2.example", A)
    assert set(resolver.questions.values()) == {1}


async def test_own_names_are_bounded_too() -> None:
    resolver = FakeResolver()
    shared = memo(resolver)
    for number in range(MAX_OWN_ANSWERS + 1):
        await shared.lookup_own(f"d{number}.example", A)
    await shared.lookup_own("d0.example", A)
    assert resolver.questions["d0.example", A] == 2


def test_a_name_is_own_by_labels() -> None:
    held = HeldAnswers("d.example", FakeResolver())
    assert held.is_own("d.example")
    assert held.is_own("a.d.example")
    assert not held.is_own("bad.example")
    assert not held.is_own("notd.example")
    assert not held.is_own("example")
