# SPDX-License-Identifier: Apache-2.0
"""How far a bulk run is: a bar that is redrawn on a terminal, a line now and then elsewhere.

Knows counts and time; whoever runs the checks calls `tick` often and `say` for messages, so that
a message never lands in the middle of the bar.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TextIO

from strictmail.core.check.result import Severity

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_SECONDS: Final = 30.0
"""The rate is that of the last half minute: the first domains of a run are no measure."""

REDRAW_SECONDS: Final = 0.2
"""Faster than this nobody can read."""

LINE_SECONDS: Final = 60.0
"""Without a terminal: one line a minute keeps a log small, and shows that the run lives."""

MIN_BAR_WIDTH: Final = 10
"""A narrower bar says nothing, and is left out."""

MAX_BAR_WIDTH: Final = 40

_STATUSES: Final = (Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN)


@dataclass(slots=True)
class Tally:
    """Counts of a run so far; each line of the list ends in one of them.

    Attributes:
        total: Lines of the list, None while unknown.
        by_status: Domains that were checked now and are in the file, by status.
        earlier: Domains that an earlier run had checked.
        duplicates: Lines with a domain that came before.
        faulty: Lines without a domain.
        failed: Domains whose check broke off: not in the file.
    """

    total: int | None = None
    by_status: dict[Severity, int] = field(default_factory=lambda: dict.fromkeys(_STATUSES, 0))
    earlier: int = 0
    duplicates: int = 0
    faulty: int = 0
    failed: int = 0

    @property
    def checked(self) -> int:
        """Domains that this run has brought into the file."""
        return sum(self.by_status.values())

    @property
    def done(self) -> int:
        """Lines that are dealt with."""
        return self.checked + self.earlier + self.duplicates + self.faulty + self.failed


class RateWindow:
    """How fast a count grows, over the last WINDOW_SECONDS."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, count: int) -> None:
        """Note the count at an instant; at most once a second is it kept."""
        samples = self._samples
        # The newest sample moves with the time until it is a second away from the one before.
        if len(samples) > 1 and samples[-1][0] - samples[-2][0] < 1:
            samples.pop()
        samples.append((now, count))
        while len(samples) > 2 and samples[1][0] <= now - WINDOW_SECONDS:  # noqa: PLR2004 - both ends
            samples.popleft()

    def per_second(self) -> float | None:
        """The rate; None before there is one."""
        if len(self._samples) < 2:  # noqa: PLR2004 - both ends
            return None
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else None


class Progress:
    """Shows a tally on a text stream, normally standard error. Any thread may call.

    A stream that is gone is passed over: nobody looks any more, and the run goes on.
    """

    def __init__(
        self,
        screen: TextIO,
        tally: Tally,
        *,
        monotonic: Callable[[], float],
        width: Callable[[], int] | None,
        is_silent: bool = False,
    ) -> None:
        """Make a display.

        Args:
            screen: Where to.
            tally: What to show; changes while it is shown.
            monotonic: Seconds that never go back.
            width: Columns of the terminal at this moment; None: it is no terminal.
            is_silent: Show messages only.
        """
        self._is_silent = is_silent
        self._lock = threading.Lock()
        self._screen = screen
        self._tally = tally
        self._monotonic = monotonic
        self._width = width
        self._rate = RateWindow()
        self._started_at = monotonic()
        self._shown_at = self._started_at
        self._has_bar = False
        self._rate.add(self._started_at, 0)

    def tick(self) -> None:
        """Show how far it is, if the last time is long enough ago."""
        now = self._monotonic()
        pause = LINE_SECONDS if self._width is None else REDRAW_SECONDS
        if now - self._shown_at >= pause:
            self._shown_at = now
            self._rate.add(now, self._tally.checked + self._tally.failed)
            self._show()

    def say(self, message: str) -> None:
        """Print a message on a line of its own."""
        gone = "\r\x1b[K" if self._has_bar else ""
        self._has_bar = False
        self._write(f"{gone}{message}\n")

    def finish(self) -> None:
        """Show the last state, and leave it there."""
        self._rate.add(self._monotonic(), self._tally.checked + self._tally.failed)
        self._show()
        if self._has_bar:
            self._has_bar = False
            self._write("\n")

    def _show(self) -> None:
        if self._is_silent:
            return
        rate = self._rate.per_second()
        if self._width is None:
            self._write(progress_line(self._tally, rate) + "\n")
            return
        self._has_bar = True
        # The last column stays free: some terminals wrap when it is written.
        self._write(f"\r\x1b[K{bar_line(self._tally, rate, self._width() - 1)}")

    def _write(self, text: str) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._screen.write(text)
            self._screen.flush()


def progress_line(tally: Tally, rate: float | None) -> str:
    """How far it is, in one line.

    Args:
        tally: The counts.
        rate: Domains a second.
    """
    return "  ".join(_parts(tally, rate))


def bar_line(tally: Tally, rate: float | None, width: int) -> str:
    """The same with a bar in front, in at most `width` columns; the last parts go first."""
    parts = _parts(tally, rate)
    while len(parts) > 1 and len("  ".join(parts)) > width:
        parts.pop()
    text = "  ".join(parts)
    room = min(MAX_BAR_WIDTH, width - len(text) - 4)
    if not tally.total or room < MIN_BAR_WIDTH:
        return text[: max(0, width)]
    full = room * min(tally.done, tally.total) // tally.total
    return f"[{'#' * full}{'.' * (room - full)}]  {text}"


def _parts(tally: Tally, rate: float | None) -> list[str]:
    """The parts, the most important first."""
    done = f"{tally.done:,}"
    if tally.total is None:
        parts = [f"{done} domains"]
    else:
        percent = 100 * min(tally.done, tally.total) // tally.total if tally.total else 100
        parts = [f"{done}/{tally.total:,} {percent}%"]
    if rate is not None:
        parts.append(f"{rate:.1f}/s")
        if tally.total is not None and rate > 0:
            left = max(0, tally.total - tally.done) / rate
            parts.append(f"{say_seconds(left)} left")
    counts = [f"{status}: {count:,}" for status, count in tally.by_status.items() if count]
    if tally.failed:
        counts.append(f"failed: {tally.failed:,}")
    if counts:
        parts.append(", ".join(counts))
    return parts


def say_seconds(seconds: float) -> str:
    """A span in its two largest units, such as `2h 05m`, `45s`."""
    whole = int(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {whole % 60:02}s" if minutes else f"{whole}s"
