# SPDX-License-Identifier: Apache-2.0
"""How commands print."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from strictmail.cli.printing import MAX_CELL_LENGTH, instant, span, table


def test_table_lines_up_and_numbers_stand_right() -> None:
    rows = [("a", 5, "x"), ("long.example", 1234, "")]
    assert list(table(("NAME", "COUNT", "NOTE"), rows)) == [
        "NAME          COUNT  NOTE",
        "a                 5  x",
        "long.example   1234",
    ]


def test_table_without_rows_has_a_header() -> None:
    assert list(table(("A", "B"), [])) == ["A  B"]


def test_table_makes_cells_harmless() -> None:
    _, line = table(("A",), [("\x1b[2J\n" + "é" * 200,)])
    assert line.isascii()
    assert line.startswith(r"\x1b[2J\x0a")
    assert len(line) == MAX_CELL_LENGTH
    assert line.endswith("...")


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=90), "90s"),
        (timedelta(seconds=121), "2m 1s"),
        (timedelta(hours=1), "1h 0m"),
        (timedelta(days=6, hours=4, minutes=59), "6d 4h"),
        (timedelta(days=-1), "-1d 0h"),
        (timedelta(milliseconds=-1), "0s"),
    ],
)
def test_span(length: timedelta, text: str) -> None:
    assert span(length) == text


def test_instant() -> None:
    assert instant(None) == "-"
    assert instant(datetime(2026, 1, 31, 12, tzinfo=UTC)) == "2026-01-31 12:00:00Z"
    east = timezone(timedelta(hours=2))
    assert instant(datetime(2026, 1, 31, 12, tzinfo=east)) == "2026-01-31 10:00:00Z"
