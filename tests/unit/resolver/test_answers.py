# SPDX-License-Identifier: Apache-2.0
"""Finished replies are kept exactly as long as they are true."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from strictmail.core.mta import netstring
from strictmail.resolver.answers import (
    MAX_KEPT_REQUEST_BYTES,
    MAX_MAP_NAMES,
    MAX_ODD_KEYS,
    Answers,
)

REPLY = b"9:NOTFOUND ,"


def raw(key: bytes, map_name: bytes = b"sts") -> bytes:
    return netstring.encode(map_name + b" " + key)


def put(answers: Answers, key: bytes, until: float, domain: str = "", name: bytes = b"sts") -> None:
    answers.put(name, key, domain, REPLY, [0], until)


def test_kept_until_its_time_is_over() -> None:
    answers = Answers(10)
    put(answers, b"a.example", 5.9)
    answers.expire(4.99)
    assert raw(b"a.example") in answers.replies
    answers.expire(5.0)
    assert not answers.replies


def test_never_kept_past_its_time() -> None:
    answers = Answers(10)
    answers.expire(100.0)
    put(answers, b"a.example", 100.9)
    assert not answers.replies


def test_forget_finds_every_form_of_a_domain() -> None:
    answers = Answers(10)
    for key in (b"a.example", b"A.Example", b"[a.example]:587"):
        put(answers, key, 50, "a.example")
    put(answers, b"a.example", 50, "a.example", name=b"other")
    put(answers, b"b.example", 50, "b.example")
    answers.forget("a.example")
    assert list(answers.replies) == [raw(b"b.example")]


def test_capacity_drops_the_oldest() -> None:
    answers = Answers(2)
    for key in (b"a", b"b", b"c"):
        put(answers, key, 50, key.decode())
    assert list(answers.replies) == [raw(b"b"), raw(b"c")]


def test_map_names_are_bounded() -> None:
    answers = Answers(100)
    for number in range(MAX_MAP_NAMES + 5):
        put(answers, b"a", 50, "a", name=b"map%d" % number)
    assert len(answers) == MAX_MAP_NAMES
    answers.forget("a")
    assert not answers.replies


def test_a_long_pause_expires_everything_due() -> None:
    answers = Answers(100)
    for number in range(20):
        put(answers, b"k%d" % number, 10 + number * 1000)
    answers.expire(1e7)
    assert not answers.replies


def test_clear() -> None:
    answers = Answers(10)
    put(answers, b"A", 50, "a")
    answers.clear()
    assert not answers.replies
    put(answers, b"A", 50, "a")
    answers.forget("a")
    assert not answers.replies


@given(
    st.lists(
        st.tuples(st.sampled_from([b"a", b"b", b"A", b"c"]), st.integers(1, 60), st.integers(0, 5)),
        max_size=40,
    )
)
def test_no_schedule_keeps_a_reply_too_long(steps: list[tuple[bytes, int, int]]) -> None:
    """Whatever is put and whenever time passes: what is there has time left."""
    answers = Answers(3)
    now = 0.0
    until: dict[bytes, float] = {}
    for key, life, wait in steps:
        put(answers, key, now + life, key.decode().lower())
        until[raw(key)] = now + life
        now += wait
        answers.expire(now)
        assert all(until[kept] > now for kept in answers.replies)
        assert len(answers) <= 3


def test_invented_keys_are_bounded_and_make_room_when_their_time_is_over() -> None:
    answers = Answers(MAX_ODD_KEYS * 3)
    put(answers, b"a.example", 50, "a.example")
    for number in range(MAX_ODD_KEYS + 100):
        put(answers, b"junk%d" % number, 20)
    assert len(answers) == MAX_ODD_KEYS + 1
    answers.expire(20)
    assert list(answers.replies) == [raw(b"a.example")]
    put(answers, b"[a.example]:587", 50, "a.example")
    assert raw(b"[a.example]:587") in answers.replies
    answers.forget("a.example")
    assert not answers.replies


def test_long_requests_are_not_kept() -> None:
    answers = Answers(10)
    put(answers, b"x" * MAX_KEPT_REQUEST_BYTES, 50)
    put(answers, b"x", 50, name=b"m" * MAX_KEPT_REQUEST_BYTES)
    assert not answers.replies


def test_nothing_is_remembered_of_replies_that_are_gone() -> None:
    answers = Answers(100)
    for number in range(10_000):
        put(answers, b"D%d" % number, 3000, f"d{number}")
        put(answers, b"same", 10 + number, "same")
    assert sum(map(len, answers._buckets.values())) == len(answers) <= 100
    assert len(answers._odd_domains) == sum(map(len, answers._odd.values())) <= 100


def test_a_reply_that_cannot_be_kept_takes_the_older_one_out() -> None:
    answers = Answers(10)
    answers.expire(10)
    put(answers, b"a", 50, "a")
    put(answers, b"a", 10.5, "a")
    assert not answers.replies


def test_a_renewed_reply_is_kept_for_its_own_time() -> None:
    answers = Answers(10)
    put(answers, b"a", 20, "a")
    put(answers, b"a", 50, "a")
    answers.expire(30)
    assert raw(b"a") in answers.replies
