# SPDX-License-Identifier: Apache-2.0
"""Whatever text a result holds, every format stays what it is."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.checker.render.hostile import NASTY, hostile_results, poison
from tests.unit.checker.samples import SAMPLES

from strictmail.checker.codec import decode, encode
from strictmail.checker.render import Format, render
from strictmail.checker.render.exits import CODES
from strictmail.checker.render.htmlpage import CONTENT_SECURITY_POLICY
from strictmail.checker.render.nagios import nagios
from strictmail.checker.render.text import text

if TYPE_CHECKING:
    from strictmail.core.check.result import CheckResult

FEW = settings(max_examples=min(40, settings().max_examples))
ODD_BUT_OURS = set("§…→✓✗")


def is_plain(char: str) -> bool:
    """Printable, one column, of no other direction: ASCII, our signs, letters up to Cyrillic."""
    return " " <= char <= "~" or char in ODD_BUT_OURS or (char.isalnum() and "À" <= char < "\u0530")


@FEW
@given(hostile_results(), st.integers(40, 200), st.booleans(), st.booleans())
def test_the_page_is_printable_lines(
    result: CheckResult, width: int, details: bool, ascii_only: bool
) -> None:
    page = text(result, width=width, details=details, ascii_only=ascii_only)
    for line in page.split("\n"):
        assert all(map(is_plain, line)), ascii(line)
        assert line == line.rstrip()
    if ascii_only:
        assert page.isascii()


@FEW
@given(hostile_results())
def test_colours_are_the_only_control_sequences(result: CheckResult) -> None:
    page = text(result, colour=True, width=100)
    without = re.sub(r"\x1b\[[0-9;]+m", "", page)
    assert all(is_plain(char) for line in without.split("\n") for char in line)
    assert without == text(result, width=100)


@FEW
@given(st.lists(hostile_results(), min_size=1, max_size=3))
def test_nagios_has_one_first_line_and_one_bar(results: list[CheckResult]) -> None:
    output, code = nagios(results)
    assert output.isascii()
    assert output.replace("\n", "").isprintable()
    first, *rest = output.splitlines()
    assert re.match(r"STRICTMAIL (OK|WARNING|CRITICAL|UNKNOWN) - ", first)
    assert first.count("|") == 1
    assert all("|" not in line for line in rest)
    perfdata = first.partition("|")[2]
    item = r"'[^'=|]+'=-?[0-9.]+s?(;[0-9:]*){0,4}"
    assert re.fullmatch(rf"{item}( {item})*", perfdata), perfdata
    assert code in {CODES[result.status] for result in results}


@FEW
@given(st.lists(hostile_results(), min_size=1, max_size=3))
def test_prometheus_parses_with_each_family_once(results: list[CheckResult]) -> None:
    exposition = render(results, Format.PROMETHEUS)
    families = list(text_string_to_metric_families(exposition))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert all(name.startswith("strictmail_check_") for name in names)
    assert all(family.type == "gauge" for family in families)
    series = [(s.name, tuple(sorted(s.labels.items()))) for f in families for s in f.samples]
    assert len(series) == len(set(series))
    lines = exposition.removesuffix("\n").split("\n")
    assert len(lines) == len(series) + 2 * len(names)


class Tags(HTMLParser):
    """Every tag, every attribute but ours, and whether all are closed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: Counter[str] = Counter()
        self.open: list[str] = []
        self.odd: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        self.odd.append(data)

    def unknown_decl(self, data: str) -> None:
        self.odd.append(data)

    def handle_pi(self, data: str) -> None:
        self.odd.append(data)


ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "footer", "section", "article",
    "h1", "h2", "h3", "h4", "div", "p", "span", "strong", "small", "code", "pre", "mark", "time", "br",
    "table", "caption", "thead", "tbody", "tr", "th", "td", "ul", "li", "dl", "dt", "dd", "details",
    "summary", "a",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "scope", "role",
    "datetime", "tabindex", "aria-label", "aria-hidden", "data-label",
}  # fmt: skip


def tags_of(page: str) -> Tags:
    parser = Tags()
    parser.feed(page)
    parser.close()
    assert not parser.open
    assert not parser.odd
    return parser


@FEW
@given(st.lists(hostile_results(), min_size=1, max_size=3))
def test_html_has_our_tags_alone(results: list[CheckResult]) -> None:
    page = render(results, Format.HTML)
    found = tags_of(page)
    assert set(found.tags) <= ELEMENTS
    assert set(found.attributes) <= ATTRIBUTES
    assert found.tags["style"] == found.tags["html"] == found.tags["h1"] == 1
    assert found.tags["a"] == (0 if len(results) == 1 else len(results))
    assert all(char == "\n" or is_plain(char) for char in page)


LONG = "text" * 12
"""Longer than the offset of any caret in the samples."""


@pytest.mark.parametrize("nasty", [text for text in NASTY if "`" not in text])
@pytest.mark.parametrize("name", ["broken", "good"])
def test_text_changes_no_tag(nasty: str, name: str) -> None:
    sample = SAMPLES[name]()
    tame = tags_of(render([poison(sample, lambda: LONG)], Format.HTML))
    wild = tags_of(render([poison(sample, lambda: f"{LONG}{nasty}{LONG}")], Format.HTML))
    # A paste of several lines stays one block; all else is the same tag for tag.
    assert wild.tags == tame.tags
    assert wild.attributes == tame.attributes


@FEW
@given(hostile_results())
def test_json_comes_back(result: CheckResult) -> None:
    line = encode(result)
    assert line.isascii()
    assert b"\n" not in line
    assert b"\x7f" not in line
    json.loads(line)
    assert decode(line) == result


@FEW
@given(hostile_results(), st.booleans())
def test_markdown_has_no_markup_of_others(result: CheckResult, details: bool) -> None:
    document = render([result], Format.MARKDOWN, details=details)
    assert all(char == "\n" or is_plain(char) for char in document)
    fence = ""
    columns = 0
    for line in document.split("\n"):
        if fence:
            fence = "" if line == fence else fence
            continue
        if opened := re.fullmatch(r"(`{3,})text", line):
            fence = opened[1]
            continue
        columns = _check_line(line, columns)
    assert not fence


def _check_line(line: str, columns: int) -> int:
    """Everything outside code spans is escaped; a table keeps its columns."""
    bare = re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "C", line)
    bare = bare.replace("&#124;", "").replace("&#8203;", "-")
    bare = re.sub(r"\\[\\`*_\[\]<>|~&#@!$]", "", bare)
    assert "<" not in bare, line
    assert "[" not in bare, line
    assert "`" not in bare, line
    assert "://" not in bare, line
    assert "@" not in bare, line
    if line.startswith("|"):
        found = bare.count("|")
        assert columns in (0, found), line
        return found
    assert "|" not in bare, line
    return 0


def test_the_policy_of_the_page_allows_nothing_but_its_style() -> None:
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in CONTENT_SECURITY_POLICY
