# SPDX-License-Identifier: Apache-2.0
"""The head of a log line: time, host, process; whatever year, zone and season."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from strictmail.core.mta.loglines import LogClock

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def read(line: str, zone: ZoneInfo | None = None, now: datetime = NOW) -> datetime | None:
    parsed = LogClock(zone or ZoneInfo("UTC"), now).read(line)
    return parsed.when if parsed else None


def with_time(text: str) -> str:
    return f"{text} mail postfix/smtp[12]: hello"


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "when"),
    [
        pytest.param("Feb 27 00:00:01", at(2026, 2, 27, 0, 0, 1), id="syslog"),
        pytest.param("Feb  7 00:00:01", at(2026, 2, 7, 0, 0, 1), id="a blank for a digit"),
        pytest.param("Mar  1 11:00:00.123456", at(2026, 3, 1, 11), id="with microseconds"),
        pytest.param("Mar  2 11:00:00", at(2026, 3, 2, 11), id="a little ahead of us"),
        pytest.param("Mar  3 11:00:00", at(2025, 3, 3, 11), id="of last year"),
        pytest.param("Dec 31 23:59:59", at(2025, 12, 31, 23, 59, 59), id="before the new year"),
        pytest.param("Feb 29 01:00:00", at(2024, 2, 29, 1), id="of the last leap year"),
        pytest.param("2026-02-27T01:02:03Z", at(2026, 2, 27, 1, 2, 3), id="RFC 3339"),
        pytest.param("2026-02-27T01:02:03.5+01:00", at(2026, 2, 27, 0, 2, 3, 500_000), id="zone"),
        pytest.param("2026-02-27T01:02:03+0100", at(2026, 2, 27, 0, 2, 3), id="journalctl"),
    ],
)
def test_a_time(text: str, when: datetime) -> None:
    assert read(with_time(text)) == when


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        with_time("Feb 30 00:00:00"),
        with_time("Xxx 10 00:00:00"),
        with_time("Feb 10 25:00:00"),
        with_time("2026-13-01T00:00:00Z"),
        with_time("2026-02-27T01:02:03"),
        " " + with_time("Feb 10 00:00:00"),
        "Feb 10 00:00:00 mail kernel: postfix/smtp[1]: x",
        "Feb 10 00:00:00 mail smtp[1]: x",
        "Feb 10 00:00:00 mail postfix/smtp: x",
        with_time("Feb 10 00:00:00") + "x" * 9000,
    ],
)
def test_no_line(line: str) -> None:
    assert read(line) is None


def test_a_line_without_year_is_local_and_the_day_is_utc() -> None:
    assert read(with_time("Feb 27 00:30:00"), BERLIN) == at(2026, 2, 26, 23, 30)
    summer = at(2026, 8, 1)
    assert read(with_time("Jul 27 00:30:00"), BERLIN, summer) == at(2026, 7, 26, 22, 30)


def test_the_hour_that_comes_twice_goes_forward() -> None:
    clock = LogClock(BERLIN, at(2026, 11, 1))
    times = ["Oct 25 01:59:00", "Oct 25 02:30:00", "Oct 25 02:59:00", "Oct 25 02:10:00"]
    found = [clock.read(with_time(text)) for text in [*times, "Oct 25 03:00:00"]]
    assert [line.when for line in found if line] == [
        at(2026, 10, 24, 23, 59),
        at(2026, 10, 25, 0, 30),
        at(2026, 10, 25, 0, 59),
        at(2026, 10, 25, 1, 10),
        at(2026, 10, 25, 2, 0),
    ]


def test_a_log_that_is_followed_into_the_next_year() -> None:
    clock = LogClock(ZoneInfo("UTC"), at(2025, 12, 30))
    last = clock.read(with_time("Dec 30 00:00:00"))
    clock.advance(at(2026, 1, 2))
    first = clock.read(with_time("Jan  1 00:00:01"))
    assert last is not None
    assert first is not None
    assert (last.when.year, first.when.year) == (2025, 2026)


def test_what_a_line_is_made_of() -> None:
    clock = LogClock(ZoneInfo("UTC"), NOW)
    line = clock.read("Feb 27 00:00:01 out.example postfix-a/relay/smtp[77]: to: x]: y")
    assert line is not None
    assert line.process == ("out.example", "postfix-a/relay/smtp", 77)
    assert (line.text, line.written) == ("to: x]: y", "Feb 27 00:00:01")
