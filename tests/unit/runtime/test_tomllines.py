# SPDX-License-Identifier: Apache-2.0
"""The line of each key."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strictmail.runtime.tomllines import KeyPath, LineIndex

TEXT = '''# a comment with [brackets] and key = 1
top = "x"  # [not-a-table]

[log]
level = """
[dns]
trust_ad = 1 "quoted" \\"""
"""
'format' = \'\'\'
a = 1\'\'\'

[dns]
servers = [  # one each
  "127.0.0.1", # ]
  "]",
]
  timeout = "3s"
attempts.unit = 3
"trust_ad" = { x = 1, y = "}" }

[[listener]]
name = "a"
[[listener]]
name = "b"
[listener.sub]
key = 1
'''

LINES: list[tuple[KeyPath, int]] = [
    (("top",), 2),
    (("log",), 4),
    (("log", "level"), 5),
    (("log", "format"), 9),
    (("dns",), 12),
    (("dns", "servers"), 13),
    (("dns", "timeout"), 17),
    (("dns", "attempts"), 18),
    (("dns", "attempts", "unit"), 18),
    (("dns", "trust_ad"), 19),
    (("dns", "trust_ad", "x"), 19),
    (("listener",), 21),
    (("listener", 0), 21),
    (("listener", 0, "name"), 22),
    (("listener", 1, "name"), 24),
    (("listener", 1, "sub", "key"), 26),
    (("listener", 1, "absent"), 23),
]


@pytest.mark.parametrize(("path", "line"), LINES)
def test_line(path: KeyPath, line: int) -> None:
    assert tomllib.loads(TEXT)  # it is for texts that are valid
    assert LineIndex(TEXT).line(path) == line


def test_nothing_known_of_it() -> None:
    assert LineIndex(TEXT).line(("absent",)) is None


@settings(deadline=None)
@given(st.text(alphabet="[]{}=\"'#\n\r.,ab1 \\", max_size=60))
def test_ends_on_any_text(text: str) -> None:
    LineIndex(text).line(("a",))


def test_a_long_text_is_read_once() -> None:
    text = "a=1\n[t]\n" * 20_000 + '"' * 10_000 + "[" * 10_000
    assert LineIndex(text).line(("a",)) == 1
