# SPDX-License-Identifier: Apache-2.0
"""Lines of a terminal page: wrapped, indented, coloured if wanted. Knows nothing of checks.

Whatever is written here is made visible first, so that a page consists of printable characters,
line ends, and the colours that this module puts around them.
"""

from __future__ import annotations

import re
import textwrap
from typing import Final

from strictmail.checker.render.plain import visible, visible_at, visible_lines

MIN_WIDTH: Final = 40
"""Columns: below, names and addresses would be torn apart."""

MAX_TEXT: Final = 105
"""Columns of running text: longer lines are hard to read, however wide the window."""

MAX_EVIDENCE_LINES: Final = 2
"""Lines of one piece of evidence, where not the whole of it is wanted."""

MIN_LAST: Final = 16
"""Columns that the last column of a row needs at least; with less it goes below."""

_CITATION: Final = re.compile(r"RFC \d+ (?:§|sec\. )")
_GLUE: Final = "\0"
"""Holds a citation together while lines are broken: no visible text has it."""

Cell = tuple[str, int, str]
"""Text of any origin, columns, style."""

_STYLES: Final = {
    "good": "32",
    "fair": "33",
    "bad": "1;31",
    "unknown": "35",
    "note": "36",
    "strong": "1",
    "faint": "2",
    "paste": "36",
}


class Page:
    """Collects lines.

    Attributes:
        width: Columns that may be used.
        ascii_only: Only ASCII may be written.
    """

    def __init__(self, *, width: int, colour: bool, ascii_only: bool) -> None:
        self.width = max(width, MIN_WIDTH)
        self.ascii_only = ascii_only
        self._colour = colour
        self._lines: list[str] = []

    def text(self) -> str:
        """Everything so far; ends with a line feed."""
        return "\n".join(self._lines).rstrip("\n") + "\n"

    def show(self, text: str) -> str:
        """Make text of any origin fit for this page."""
        return visible(text, ascii_only=self.ascii_only)

    def ink(self, text: str, style: str) -> str:
        """Colour visible text, if colours are wanted."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._colour and style and text else text

    def gap(self) -> None:
        """An empty line, unless there is one already."""
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def heading(self, title: str, note: str = "") -> None:
        """The beginning of a part."""
        self.gap()
        tail = f"  {self.ink(self.show(note), 'faint')}" if note else ""
        self._lines.append(self.ink(self.show(title), "strong") + tail)

    def put(self, text: str, *, indent: int = 0, style: str = "", hang: int = 0) -> None:
        """Text that is broken at blanks, and where it has to be."""
        self.beside([], text, indent=indent, style=style, hang=hang)

    def row(self, cells: list[Cell], *, indent: int = 0) -> None:
        """Cells of fixed width; what is too long pushes the next ones on."""
        self._lines.append(f"{' ' * indent}{self._cells(cells)[0]}".rstrip())

    def _cells(self, cells: list[Cell]) -> tuple[str, int]:
        line, used = "", 0
        for content, columns, style in cells:
            shown = self.show(content)
            line += self.ink(shown, style) + " " * (columns - len(shown))
            used += max(columns, len(shown))
        return line, used

    def beside(
        self,
        cells: list[Cell],
        text: str,
        *,
        indent: int = 0,
        style: str = "",
        hang: int = 0,
    ) -> None:
        """Cells of fixed width, then text that is wrapped beside them.

        Args:
            cells: The first columns.
            text: The last column.
            indent: Blanks before the first cell.
            style: Of the text.
            hang: Further indent of the text's later lines.
        """
        head, used = self._cells([("", indent, ""), *cells])
        if self.width - used < MIN_LAST and cells:
            self._lines.append(head.rstrip())
            head, used = " " * (indent + 2), indent + 2
        lines = self._wrap(text, min(self.width - used, MAX_TEXT), hang)
        self._lines.append((head + self.ink(lines[0], style)).rstrip())
        self._lines += [" " * used + self.ink(line, style) for line in lines[1:]]

    def _wrap(self, text: str, columns: int, hang: int) -> list[str]:
        shown = _CITATION.sub(lambda found: found.group().replace(" ", _GLUE), self.show(text))
        lines = textwrap.wrap(
            shown, max(columns, MIN_LAST), subsequent_indent=" " * hang, break_on_hyphens=False
        )
        return [line.replace(_GLUE, " ").rstrip() for line in lines] or [""]

    def one_line(self, text: str, *, indent: int = 0, style: str = "") -> None:
        """Text that is cut rather than broken."""
        shown = self.cut(self.show(text), self.width - indent).rstrip()
        self._lines.append(" " * indent + self.ink(shown, style))

    def cut(self, shown: str, columns: int) -> str:
        """Visible text, at most so many columns of it."""
        dots = self.show("…")
        return shown if len(shown) <= columns else shown[: columns - len(dots)] + dots

    def pointed(
        self, label: str, text: str, caret: int | None, *, indent: int, whole: bool
    ) -> None:
        """Evidence: its name, then the octets, with a caret under the place at fault.

        Args:
            label: What it is.
            text: Shown as it is, on one line if it has a caret: a part of it where it is long.
            caret: Offset in `text`.
            indent: Blanks before the name.
            whole: Break long text instead of cutting it.
        """
        shown, place = visible_at(text, caret, ascii_only=self.ascii_only)
        name = self.show(label).rstrip()
        beside = indent + len(name) + 2
        if beside + min(len(shown), self.width // 2) > self.width:
            self._lines.append(" " * indent + self.ink(name, "faint"))
            head, beside = " " * (indent + 2), indent + 2
        else:
            head = " " * indent + self.ink(name, "faint") + "  "
        columns = self.width - beside
        if place is None:
            lines = textwrap.wrap(shown, columns, break_on_hyphens=False) or [""]
            if not whole and len(lines) > MAX_EVIDENCE_LINES:
                rest = " ".join(lines[MAX_EVIDENCE_LINES - 1 :])
                lines[MAX_EVIDENCE_LINES - 1 :] = [self.cut(rest, columns)]
            self._lines.append((head + lines[0]).rstrip())
            self._lines += [" " * beside + line for line in lines[1:]]
            return
        piece, at = window(shown, place, columns, self.show("…"))
        self._lines.append((head + piece).rstrip())
        self._lines.append(" " * (beside + at) + self.ink("^", "bad"))

    def paste(self, text: str) -> None:
        """Lines to be copied: from the first column, never broken.

        A blank before a record in a zone file means "the name above", so there is none.
        """
        for line in visible_lines(text, ascii_only=self.ascii_only):
            self._lines.append(self.ink(line.rstrip(), "paste"))
        self.gap()


def window(text: str, place: int, columns: int, dots: str) -> tuple[str, int]:
    """The part of a text around a place, and where the place is in it.

    Args:
        text: Visible.
        place: Offset in it, or its length: behind the end.
        columns: At most this long, with room for a caret behind the end.
        dots: What stands for the parts left out.
    """
    room = columns - 1
    if len(text) <= room:
        return text, place
    # A third of the room before the place: what follows it tells more.
    start = max(0, min(place - room // 3, len(text) - room))
    end = min(len(text), start + room)
    piece = text[start:end]
    if start:
        piece = dots + piece[len(dots) :]
    if end < len(text):
        piece = piece[: -len(dots)] + dots
    return piece, place - start
