# SPDX-License-Identifier: Apache-2.0
"""One line of a mail log: when, where, which process, and what it said.

Two forms of the time are read: that of RFC 3339 (rsyslog's new format, `journalctl -o short-iso`),
and the old one of syslog (RFC 3164), which knows neither year nor zone: the year is the
last in which it is not to come, the zone is given. An hour that a clock lives through twice, when
daylight saving time ends, is the first as long as the log goes forward in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import tzinfo

MAX_LINE_CHARACTERS: Final = 8192
"""Longer lines are not Postfix's: syslog cuts at 1,024 to 8,192 octets."""

AHEAD: Final = timedelta(days=1)
"""What a line may be ahead of us; else it is of the year before."""

BACKWARDS: Final = timedelta(minutes=10)
"""What lines of one log may be out of order."""

_LINE: Final = re.compile(
    r"(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,6})?"
    r"(?:Z|[+-][0-9]{2}:?[0-9]{2}))"
    r" (?P<host>[!-~]{1,255})"
    r" (?P<service>[A-Za-z0-9_.-]{1,64}(?:/[A-Za-z0-9_.-]{1,64}){1,3})"
    r"\[(?P<pid>[0-9]{1,10})\]: (?P<text>.*)",
    re.DOTALL,
)
_OLD: Final = re.compile(r"([A-Z][a-z]{2}) ([ 0-9][0-9]) ([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\..*)?")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line.

    Attributes:
        when: UTC.
        written: The time as it is written.
        host: Who logged.
        service: As in `postfix/smtp`.
        pid: Of the process.
        text: What it said.
    """

    when: datetime
    written: str
    host: str
    service: str
    pid: int
    text: str

    @property
    def process(self) -> tuple[str, str, int]:
        """Which process."""
        return self.host, self.service, self.pid


class LogClock:
    """Reads lines and their times; one for each log, since it remembers how far that is.

    Args:
        zone: Of times that name none: the machine's that wrote the log.
        now: Nothing is later; aware.
    """

    def __init__(self, zone: tzinfo, now: datetime) -> None:
        self._zone = zone
        self._now = now.astimezone(UTC)
        self._last: datetime | None = None

    def advance(self, now: datetime) -> None:
        """Tell it the time anew, for a log that is followed."""
        self._now = now.astimezone(UTC)

    def read(self, line: str) -> LogLine | None:
        """Take a line apart; None for what is no line of a process below some `name/`."""
        # The head of a line is the logger's own; whatever a remote party gets into a line comes
        # behind it. So the pattern begins with the line.
        found = _LINE.fullmatch(line) if len(line) <= MAX_LINE_CHARACTERS else None
        if found is None:
            return None
        when = self._instant(found["time"])
        if when is None:
            return None
        self._last = when
        return LogLine(
            when, found["time"], found["host"], found["service"], int(found["pid"]), found["text"]
        )

    def _instant(self, text: str) -> datetime | None:
        try:
            old = _OLD.fullmatch(text)
            if old is None:
                return datetime.fromisoformat(text.replace(",", ".")).astimezone(UTC)
            return self._old_instant(old)
        except (ValueError, OverflowError):
            return None

    def _old_instant(self, found: re.Match[str]) -> datetime:
        month = _MONTHS.index(found[1]) + 1
        day, hour, minute, second = (int(found[group]) for group in (2, 3, 4, 5))
        year = self._now.astimezone(self._zone).year
        # 61 would be a leap second: the last of its minute, for our purposes.
        clock = (hour, minute, min(second, 59))
        for candidate in (year + 1, year, year - 1, year - 2, year - 3, year - 4):
            if month == 2 and day == 29 and not _is_leap(candidate):  # noqa: PLR2004 - 29 February
                continue
            when = self._in_zone(datetime(candidate, month, day, *clock, tzinfo=self._zone))
            if when <= self._now + AHEAD:
                return when
        raise ValueError("in no year that may be meant")

    def _in_zone(self, local: datetime) -> datetime:
        first = local.astimezone(UTC)
        second = local.replace(fold=1).astimezone(UTC)
        if self._last is not None and first < self._last - BACKWARDS <= second:
            return second
        return first


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
