# SPDX-License-Identifier: Apache-2.0
"""Text of a result made harmless: one line, printable, each character one column wide.

Every format takes text through `visible` first and then escapes for itself. So no control
sequence, line end or sign that turns the direction of writing gets anywhere, whatever a name
server, a mail server or a certificate says.
"""

from __future__ import annotations

import re
from typing import Final

from strictmail.runtime.logs import escape

_ODD: Final = re.compile(r"[^ -~]")
_OURS: Final = {"§": "sec. ", "…": "...", "→": "->", "✓": "+", "✗": "x"}
"""Signs that we use ourselves, and what stands for them in ASCII."""


def visible(text: str, *, ascii_only: bool = False) -> str:
    """Make text of any origin fit for a line.

    Args:
        text: Of any length and content.
        ascii_only: Escape letters above ASCII too, and spell our own signs.
    """
    if text.isascii() and text.isprintable():
        return text
    return _ODD.sub(lambda found: _show(found.group(), ascii_only=ascii_only), text)


def _show(char: str, *, ascii_only: bool) -> str:
    if char in _OURS:
        return _OURS[char] if ascii_only else char
    if ascii_only and char.isprintable():
        return ascii(char)[1:-1]
    return escape(char)


def visible_at(text: str, caret: int | None, *, ascii_only: bool = False) -> tuple[str, int | None]:
    """Make text visible and find the place of its caret in what came out."""
    shown = visible(text, ascii_only=ascii_only)
    if caret is None or caret < 0:
        return shown, None
    return shown, len(visible(text[:caret], ascii_only=ascii_only))


def visible_lines(text: str, *, ascii_only: bool = False) -> list[str]:
    """Text of several lines, as what is to be pasted may be, line by line."""
    return [visible(line, ascii_only=ascii_only) for line in text.split("\n")]
