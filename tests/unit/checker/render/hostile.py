# SPDX-License-Identifier: Apache-2.0
"""Results whose every text is hostile: what a name server, a host or a certificate may say."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from tests.unit.checker.samples import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from strictmail.core.check.result import CheckResult

NASTY = (
    "\x1b[2J\x1b]0;title\x07", "\x9b31m", "\r\n", "\n", "\u2028", "\x00", "\u202e", "\u200b", "\u0301",
    "|", "'", '"', "`", "```", "~~~", "\\", "\\n", "<script>alert(1)</script>", "<!--", "-->", "]]>",
    "</pre></style>", "&lt;", "&", "[a](http://evil.example)", "![x](x)", "http://evil.example",
    "www.evil.example", "@someone", "* ", "# ", "- ", "|---|", "{", "}", "%s", "${x}", "=1+1", "^",
    "STRICTMAIL OK - fine|x=1", "# TYPE x counter", "漢字", "😀", "é", "ß", "Ж", " ", "\t",
)  # fmt: skip

hostile_text = st.lists(st.sampled_from(NASTY) | st.text(max_size=5), max_size=5).map("".join)


def poison(value: Any, draw: Callable[[], str]) -> Any:
    """The same shape with other text."""
    if isinstance(value, enum.Enum):
        return value
    if isinstance(value, str):
        return draw()
    if isinstance(value, tuple):
        return tuple(poison(item, draw) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {f.name: poison(getattr(value, f.name), draw) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **changes)
    return value


@st.composite
def hostile_results(draw: st.DrawFn) -> CheckResult:
    """A sample with a few hostile texts spread over all of its members."""
    texts = draw(st.lists(hostile_text, min_size=1, max_size=7))
    start = draw(st.integers(0, 6))
    number = start

    def take() -> str:
        nonlocal number
        number += 1
        return texts[number % len(texts)]

    sample = SAMPLES[draw(st.sampled_from(sorted(SAMPLES)))]()
    poisoned: CheckResult = poison(sample, take)
    return poisoned
