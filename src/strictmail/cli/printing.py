# SPDX-License-Identifier: Apache-2.0
"""How commands print: tables, instants, spans of time, and foreign text made harmless."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

from strictmail.core.explain import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    # Generic since click 8.2; a plain class before.
    ParamType = click.ParamType[timedelta]
else:
    ParamType = click.ParamType

__all__ = ["DURATION", "DurationType", "instant", "printable", "span", "table"]

MAX_CELL_LENGTH: Final = 100
"""Longer cells are cut: a policy may name a hundred MX hosts."""


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Lay rows out in columns, a line at a time; numbers stand to the right.

    Args:
        headers: One for each column.
        rows: Of the same length. Each cell is made printable and cut at MAX_CELL_LENGTH.
    """
    kept = [list(row) for row in rows]
    texts = [[printable(str(cell), MAX_CELL_LENGTH) for cell in row] for row in kept]
    widths = [max(map(len, column)) for column in zip(headers, *texts, strict=True)]
    yield "  ".join(h.ljust(w) for h, w in zip(headers, widths, strict=True)).rstrip()
    for row, cells in zip(kept, texts, strict=True):
        aligned = (
            text.rjust(width) if isinstance(cell, int) else text.ljust(width)
            for cell, text, width in zip(row, cells, widths, strict=True)
        )
        yield "  ".join(aligned).rstrip()


def instant(moment: datetime | None) -> str:
    """An instant as `2026-01-31 12:00:00Z`; `-` for none."""
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def span(length: timedelta) -> str:
    """A span of time in its two largest units, such as `6d 4h`, `90s`; `-` before a past one."""
    seconds = int(abs(length.total_seconds()))
    sign = "-" if length < timedelta(0) and seconds else ""
    days, hours, minutes = seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60
    if days:
        return f"{sign}{days}d {hours}h"
    if seconds >= 3_600:  # noqa: PLR2004 - an hour
        return f"{sign}{hours}h {minutes}m"
    return f"{sign}{minutes}m {seconds % 60}s" if minutes >= 2 else f"{sign}{seconds}s"  # noqa: PLR2004


class DurationType(ParamType):
    """An option's value such as `90s`, `24h`, `7d`: as in the configuration."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Make a timedelta, or say what is wrong with the text."""
        if isinstance(value, timedelta):
            return value
        from strictmail.runtime.kinds import parse_duration

        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION: Final = DurationType()
