# SPDX-License-Identifier: Apache-2.0
"""Progress: true counts, a rate of the recent past, and never wider than the screen."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strictmail.checker.progress import (
    LINE_SECONDS,
    REDRAW_SECONDS,
    WINDOW_SECONDS,
    Progress,
    RateWindow,
    Tally,
    bar_line,
    progress_line,
    say_seconds,
)
from strictmail.core.check.result import Severity
from strictmail.runtime.clock import ManualClock


def tally(total: int | None = 1000, ok: int = 250, **counts: int) -> Tally:
    made = Tally(total=total)
    for name, count in counts.items():
        setattr(made, name, count)
    made.by_status[Severity.OK] = ok
    return made


def test_a_line_says_how_far_how_fast_how_long_and_how_well() -> None:
    made = tally(50_000, 12_000, earlier=500, failed=1)
    made.by_status[Severity.CRITICAL] = 4
    assert progress_line(made, 12.5) == (
        "12,505/50,000 25%  12.5/s  49m 59s left  ok: 12,000, critical: 4, failed: 1"
    )


def test_without_a_total_there_is_no_time_left() -> None:
    assert progress_line(tally(None, 250), 10.0) == "250 domains  10.0/s  ok: 250"
    assert progress_line(tally(None, 0), None) == "0 domains"


def test_every_line_of_the_list_counts_as_done_once() -> None:
    made = tally(10, 4, earlier=1, duplicates=2, faulty=1, failed=2)
    assert (made.checked, made.done) == (4, 10)
    assert progress_line(made, None).startswith("10/10 100%")


def test_a_bar_fills_up() -> None:
    assert bar_line(tally(4, 0), None, 40).startswith("[" + "." * 30 + "]  0/4 0%")
    assert bar_line(tally(4, 2), None, 60).startswith("[" + "#" * 20 + "." * 20 + "]  2/4 50%")
    assert bar_line(tally(4, 4), None, 200).startswith("[" + "#" * 40 + "]  4/4 100%")
    # The list has grown since it was counted.
    assert bar_line(tally(4, 9), None, 200).startswith("[" + "#" * 40 + "]  9/4 100%")


@given(
    st.integers(0, 10**9) | st.none(), st.integers(0, 10**9), st.floats(0, 1e6) | st.none(),
    st.integers(-2, 200),
)  # fmt: skip
def test_never_wider_than_the_screen(
    total: int | None, ok: int, rate: float | None, width: int
) -> None:
    assert len(bar_line(tally(total, ok), rate, width)) <= max(0, width)


def test_the_rate_is_that_of_the_window() -> None:
    rate = RateWindow()
    assert rate.per_second() is None
    for second in range(100):
        rate.add(float(second), second * 10)
    assert rate.per_second() == pytest.approx(10)
    for second in range(100, 140):
        rate.add(float(second), 990 + (second - 99) * 2)
    assert rate.per_second() == pytest.approx(2)


def test_the_rate_keeps_few_samples_however_often_it_is_asked() -> None:
    rate = RateWindow()
    for step in range(10_000):
        rate.add(step * 0.01, step)
    assert len(rate._samples) <= WINDOW_SECONDS + 3
    assert rate.per_second() == pytest.approx(100, rel=0.01)


def test_a_terminal_gets_one_line_that_is_redrawn_and_messages_above_it() -> None:
    clock, screen, made = ManualClock(), io.StringIO(), tally(4, 1)
    shown = Progress(screen, made, monotonic=clock.monotonic, width=lambda: 60)
    shown.tick()
    assert screen.getvalue() == ""
    clock.advance(REDRAW_SECONDS)
    shown.tick()
    shown.tick()
    assert screen.getvalue().count("\r\x1b[K") == 1
    shown.say("a message")
    assert screen.getvalue().endswith("\r\x1b[Ka message\n")
    made.by_status[Severity.OK] = 4
    shown.finish()
    assert "4/4 100%" in screen.getvalue().rpartition("\r")[2]
    assert screen.getvalue().endswith("\n")
    assert all(len(line) < 60 for line in screen.getvalue().replace("\x1b[K", "").splitlines())


def test_a_log_gets_a_line_now_and_then() -> None:
    clock, screen = ManualClock(), io.StringIO()
    shown = Progress(screen, tally(), monotonic=clock.monotonic, width=None)
    for _ in range(int(2.5 * LINE_SECONDS)):
        clock.advance(1)
        shown.tick()
    assert screen.getvalue().count("\n") == 2
    assert "\r" not in screen.getvalue()
    assert "\x1b" not in screen.getvalue()


def test_silent_shows_messages_only() -> None:
    clock, screen = ManualClock(), io.StringIO()
    shown = Progress(screen, tally(), monotonic=clock.monotonic, width=lambda: 80, is_silent=True)
    clock.advance(1000)
    shown.tick()
    shown.say("a message")
    shown.finish()
    assert screen.getvalue() == "a message\n"


def test_a_screen_that_is_gone_stops_nothing() -> None:
    class Gone(io.StringIO):
        def write(self, s: str) -> int:
            raise BrokenPipeError

    clock = ManualClock()
    shown = Progress(Gone(), tally(), monotonic=clock.monotonic, width=None)
    clock.advance(LINE_SECONDS)
    shown.tick()
    shown.say("x")
    shown.finish()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "0s"),
        (59, "59s"),
        (61, "1m 01s"),
        (3600, "1h 00m"),
        (7509, "2h 05m"),
        (90_000, "1d 01h"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert say_seconds(seconds) == text
