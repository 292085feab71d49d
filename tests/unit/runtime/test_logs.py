# SPDX-License-Identifier: Apache-2.0
"""Log lines: one line whatever foreign text is in it."""

from __future__ import annotations

import io
import json
import logging
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strictmail.runtime.logevents import EVENTS
from strictmail.runtime.logs import EventLog, escape, format_value, is_journal, start_logging
from strictmail.runtime.options import LogFormat, LogLevel

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTILE = 'a"\r\n2026-01-01 forged\x1b[31m\u2028\u202e\x9b\x00\\' + "x" * 1000


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def start(form: LogFormat, level: LogLevel = LogLevel.INFO) -> tuple[EventLog, io.StringIO]:
    stream = io.StringIO()
    return start_logging(level, form, stream=stream, environ={}), stream


@pytest.mark.req("SEC-20")
@pytest.mark.parametrize("form", [LogFormat.TEXT, LogFormat.JSON, LogFormat.JOURNALD])
def test_hostile_text_stays_in_one_short_harmless_line(form: LogFormat) -> None:
    log, stream = start(form)
    log.emit("policy-learnt", domain=HOSTILE, patterns=[HOSTILE, "b"])
    line = stream.getvalue()
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert line.isascii()
    assert len(line) < 1500


@pytest.mark.req("SEC-20")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mx1.example.com", "mx1.example.com"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),  # the one-octet form of the same
        ("\u2028", "\\u2028"),  # some readers take it for a line end
        ("\u202eabc", "\\u202eabc"),  # writes backwards
        ("\u05d0", "\\u05d0"),
        ("a\u0301", "a\\u0301"),  # covers its neighbour
        ("münchen", "münchen"),
        ("\U0001f600", "\\U0001f600"),
        ("\xa0", "\\xa0"),
    ],
)
def test_escape(text: str, expected: str) -> None:
    assert escape(text) == expected


@pytest.mark.req("SEC-20")
@settings(deadline=None)
@given(st.text())
def test_escaping_twice_is_the_same_as_once(text: str) -> None:
    once = escape(text, limit=10_000)
    assert once.isprintable()
    assert escape(once, limit=100_000) == once


@pytest.mark.req("SEC-20")
@settings(deadline=None)
@given(st.text())
def test_no_value_ends_its_quotation_marks_early(text: str) -> None:
    shown = format_value(text)
    if not shown.startswith('"'):
        assert shown == text
        return
    inner, escaped = shown[1:-1], False
    for char in inner:
        assert escaped or char != '"'
        escaped = char == "\\" and not escaped
    assert not escaped


def test_long_text_is_cut_and_says_so() -> None:
    assert escape("x" * 300) == "x" * 200 + "...(+100)"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "true"),
        (7, "7"),
        (timedelta(minutes=1.5), "90s"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (("a", "b"), "a,b"),
        ((), '""'),
        ("", '""'),
        ("two words", '"two words"'),
        ('say "x"', '"say \\"x\\""'),
        ("a=b", '"a=b"'),
    ],
)
def test_values(value: object, expected: str) -> None:
    assert format_value(value) == expected


def test_a_line_of_text() -> None:
    log, stream = start(LogFormat.TEXT)
    log.emit("policy-learnt", domain="a.example", mode="enforce", nothing=None)
    time, rest = stream.getvalue().split(" ", 1)
    assert datetime.fromisoformat(time).tzinfo is not None
    assert rest == "info policy-learnt domain=a.example mode=enforce\n"


def test_a_line_of_json() -> None:
    log, stream = start(LogFormat.JSON)
    log.emit("policy-learnt", domain="a\n", count=3, ok=True, mx=["b"], level="x", time=None)
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "policy-learnt",
        "domain": "a\n",
        "count": 3,
        "ok": True,
        "mx": ["b"],
        "level_": "x",
    }


@pytest.mark.parametrize(
    ("event", "start_of_line"), [("store-unavailable", "<3>"), ("policy-refresh-failed", "<4>")]
)
def test_a_line_for_the_journal_has_its_priority(event: str, start_of_line: str) -> None:
    log, stream = start(LogFormat.JOURNALD)
    log.emit(event)
    assert stream.getvalue() == f"{start_of_line}{event}\n"


def test_lines_below_the_level_are_not_written() -> None:
    log, stream = start(LogFormat.TEXT, LogLevel.WARNING)
    log.emit("ready")
    log.emit("policy-refresh-failed")
    assert "ready" not in stream.getvalue()
    assert "policy-refresh-failed" in stream.getvalue()


def test_an_undocumented_event_cannot_be_logged() -> None:
    log, _ = start(LogFormat.TEXT)
    with pytest.raises(KeyError):
        log.emit("no-such-event")


def test_lines_of_libraries_and_tracebacks_are_one_line_too() -> None:
    _, stream = start(LogFormat.TEXT)
    try:
        raise RuntimeError("x\ny")  # noqa: TRY301
    except RuntimeError:
        logging.getLogger("asyncio").exception("Task\nfailed %s", "\x1b")
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert 'error asyncio message="Task\\nfailed \\x1b" traceback="' in line
    assert "RuntimeError" in line


def test_a_second_start_replaces_the_first() -> None:
    _, first = start(LogFormat.TEXT)
    log, second = start(LogFormat.JSON)
    log.emit("ready")
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["event"] == "ready"


def test_the_journal_is_recognised_by_its_file() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end), os.fdopen(write_end, "w") as stream:
        status = os.fstat(stream.fileno())
        right = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        wrong = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"}
        assert is_journal(stream, right)
        assert not is_journal(stream, wrong)
        assert not is_journal(stream, {"JOURNAL_STREAM": "x"})
        assert not is_journal(stream, {})
    assert not is_journal(io.StringIO(), right)


def test_auto_is_text_away_from_the_journal() -> None:
    log, stream = start(LogFormat.AUTO)
    log.emit("ready")
    assert not stream.getvalue().startswith("<")


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_says_what_it_means(name: str) -> None:
    event = EVENTS[name]
    assert event.meaning.endswith(".")
    if event.level in (LogLevel.WARNING, LogLevel.ERROR):
        assert event.action.endswith(("?", ".", "`."))
