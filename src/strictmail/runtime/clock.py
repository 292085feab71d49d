# SPDX-License-Identifier: Apache-2.0
"""The real clock, and one that tests and the lab move by hand."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""On Linux the other monotonic clock stands still while the machine sleeps, and what DNS said
before would still be true after."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """The wall clock: aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back, those in which the machine slept included."""
        return time.clock_gettime(_CLOCK)


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        """The instant it was set to."""
        return self._now

    def monotonic(self) -> float:
        """Seconds it was advanced by."""
        return self._monotonic

    def advance(self, delta: timedelta | float) -> None:
        """Let time pass: both clocks move; seconds or a timedelta."""
        step = delta if isinstance(delta, timedelta) else timedelta(seconds=delta)
        self._now += step
        self._monotonic += step.total_seconds()

    def jump(self, delta: timedelta) -> None:
        """Set the wall clock forward or back; monotonic time does not notice."""
        self._now += delta
