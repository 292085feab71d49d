# SPDX-License-Identifier: Apache-2.0
"""HTML elements as values: the only place where text becomes markup.

A child that is a plain string is text, whatever it looks like, and is made visible and escaped;
only what this module made is taken as markup. So there is no way to forget it.
"""

from __future__ import annotations

import html
import re
from typing import Final

from strictmail.checker.render.plain import visible

_CODE_SPAN: Final = re.compile(r"`([^`]*)`")
_VOID: Final = frozenset({"meta", "br"})


class Markup(str):
    """Markup that was made here."""

    __slots__ = ()


def text(content: str) -> Markup:
    """Text of any origin."""
    return Markup(html.escape(visible(content), quote=True))


def join(*children: str) -> Markup:
    """Children side by side."""
    return Markup("".join(c if isinstance(c, Markup) else text(c) for c in children))


def tag(name: str, /, *children: str, **attributes: str | None) -> Markup:
    """An element.

    Args:
        name: Of ours, never foreign.
        children: Strings are text; see the module.
        attributes: `class_` for `class`, `aria_label` for `aria-label`; None leaves one out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def prose(sentence: str) -> Markup:
    """A sentence of ours: what stands in back-quotes becomes code."""
    parts = _CODE_SPAN.split(sentence)
    return join(*(tag("code", p) if number % 2 else text(p) for number, p in enumerate(parts)))


def stylesheet(css: str) -> Markup:
    """A style sheet of ours, unchanged: its hash is in the page's policy."""
    return Markup(f"<style>{css}</style>")
