# SPDX-License-Identifier: Apache-2.0
"""What an option and a table of the configuration are; the tables themselves stand elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from strictmail.runtime import kinds


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Attributes:
        name: As in the file.
        kind: What values it takes.
        default: As in the file; None: it must be given.
        sentence: What it does, in one sentence.
        more: Why the default and the range are as they are, or what to mind.
    """

    name: str
    kind: kinds.Kind[Any]
    default: kinds.Toml | None
    sentence: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the file.

    Attributes:
        name: As in the file; empty for the top level.
        sentence: What it is about.
        options: In the order in which they are shown.
        repeated: It may come more than once: `[[name]]`.
    """

    name: str
    sentence: str
    options: tuple[Option, ...]
    repeated: bool = False

    def option(self, name: str) -> Option | None:
        """Find an option by its name."""
        return next((option for option in self.options if option.name == name), None)


def seconds(low: float, high: float) -> kinds.Duration:
    """A duration between two numbers of seconds."""
    return kinds.Duration(timedelta(seconds=low), timedelta(seconds=high))
