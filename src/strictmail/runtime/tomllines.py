# SPDX-License-Identifier: Apache-2.0
"""The line on which each key of a TOML text stands, which `tomllib` does not tell.

For texts that `tomllib` has accepted: no syntax is checked here.
"""

from __future__ import annotations

import re
from typing import Final

KeyPath = tuple[str | int, ...]
"""Keys from the top level down; a number counts the elements of an array of tables."""

_VALUE_TOKEN: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[\]{}\n]"
    r"|[^\[\]{}\n\"'\#]+"
    r"|.",
    re.DOTALL,
)
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|\#[^\n]*)*")
_KEY_PART: Final = re.compile(
    r"[ \t]*(?:\"((?:\\.|[^\"\\\n])*)\"|'([^'\n]*)'|([A-Za-z0-9_-]+))[ \t]*"
)


class LineIndex:
    """Where keys stand; asks for unknown keys get the line of their nearest known parent."""

    def __init__(self, text: str) -> None:
        self._lines: dict[KeyPath, int] = {}
        self._arrays: dict[KeyPath, int] = {}
        self._text = text
        self._scan()

    def line(self, path: KeyPath) -> int | None:
        """The line of a key or table, 1-based; None: neither it nor a parent is there."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return None

    def _scan(self) -> None:
        text = self._text
        table: KeyPath = ()
        position, line, counted = 0, 1, 0
        while True:
            blank = _BLANK.match(text, position)
            position = blank.end() if blank else position
            if position >= len(text):
                return
            line += text.count("\n", counted, position)
            counted = position
            if text[position] == "[":
                repeated = text.startswith("[[", position)
                keys, position = self._keys(position + (2 if repeated else 1))
                table = self._enter(keys, line, repeated=repeated)
            else:
                keys, position = self._keys(position)
                self._note(table, keys, line)
            position = self._skip_value(max(position, counted + 1))

    def _keys(self, position: int) -> tuple[list[str], int]:
        """Read a dotted key."""
        keys: list[str] = []
        while match := _KEY_PART.match(self._text, position):
            basic, literal, bare = match.groups()
            keys.append(next(part for part in (basic, literal, bare) if part is not None))
            position = match.end()
            if not self._text.startswith(".", position):
                break
            position += 1
        return keys, position

    def _resolve(self, keys: list[str]) -> KeyPath:
        """Put the number of the current element behind each array of tables."""
        path: KeyPath = ()
        for key in keys:
            path = (*path, key)
            if path in self._arrays:
                path = (*path, self._arrays[path])
        return path

    def _enter(self, keys: list[str], line: int, *, repeated: bool) -> KeyPath:
        if not keys:
            return ()
        if not repeated:
            path = self._resolve(keys)
        else:
            array = (*self._resolve(keys[:-1]), keys[-1])
            self._arrays[array] = self._arrays.get(array, -1) + 1
            self._lines.setdefault(array, line)
            path = (*array, self._arrays[array])
        self._lines.setdefault(path, line)
        return path

    def _note(self, table: KeyPath, keys: list[str], line: int) -> None:
        path = table
        for key in keys:
            path = (*path, key)
            self._lines.setdefault(path, line)

    def _skip_value(self, position: int) -> int:
        """The end of the statement: the first line end outside strings and brackets."""
        depth = 0
        while match := _VALUE_TOKEN.match(self._text, position):
            piece = match.group()
            position = match.end()
            if piece in ("[", "{"):
                depth += 1
            elif piece in ("]", "}"):
                depth = max(0, depth - 1)
            elif piece == "\n" and depth == 0:
                return position
        return len(self._text)
