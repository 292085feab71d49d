# SPDX-License-Identifier: Apache-2.0
"""Structured log lines on standard error: as text, as JSON, or with a priority for the journal.

Knows how foreign text is made harmless, in one function. What lines there are stands in
`strictmail.runtime.logevents`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TextIO

from strictmail.runtime.logevents import EVENTS
from strictmail.runtime.options import LogFormat, LogLevel

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_VALUE_LENGTH: Final = 200
"""Characters of one value: a policy or a banner may be far longer, a line must stay readable."""

MAX_MESSAGE_LENGTH: Final = 1000
MAX_TRACE_LENGTH: Final = 8000
_MAX_ITEMS: Final = 100

_LEVELS: Final = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}
_PLAIN: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:/@+*[],%$()<>!?&;~^|"
)


def escape(text: str, *, limit: int = MAX_VALUE_LENGTH, quoted: bool = False) -> str:
    r"""Make foreign text harmless in a line of text.

    Line ends, control and other unprintable characters become `\n`, `\x1b`, `\u2028`; so do the
    ones that change the direction of writing or look like nothing. What is longer than `limit` is
    cut, with the number of characters that were left out. With `quoted`, quotation marks and
    backslashes are escaped too: the text can stand between quotation marks. Without, escaping
    twice is the same as once.
    """
    # Logs are one line per event whatever ids, MX text or banners contain (SEC-20).
    shown = text[:limit]
    if quoted:
        shown = shown.replace("\\", "\\\\").replace('"', '\\"')
    if not (shown.isascii() and shown.isprintable()):
        shown = "".join(
            char if char.isascii() and char.isprintable() else _escape_char(char) for char in shown
        )
    return shown if len(text) <= limit else f"{shown}...(+{len(text) - limit})"


def _escape_char(char: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    if named:
        return named
    code = ord(char)
    # Above Latin and Greek and Cyrillic there are letters of the other direction, blanks of no
    # width and marks that cover their neighbours: a log shows them as numbers.
    if char.isalnum() and 0xC0 <= code < 0x530:  # noqa: PLR2004 - named in the comment
        return char
    if code < 0x100:  # noqa: PLR2004 - the range that two digits hold
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004


def format_value(value: object) -> str:
    """Write a field's value for a line of text: escaped, and quoted where it is not one word."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | set | frozenset):
        text = ",".join(_plain(item) for item in value)
    else:
        text = _plain(value)
    if text and len(text) <= MAX_VALUE_LENGTH and _PLAIN.issuperset(text):
        return text
    return f'"{escape(text, quoted=True)}"'


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    return str(value)


def _json_value(value: object) -> object:
    """Keep numbers and truth values; text is cut, and the JSON encoder escapes all but ASCII."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_cut(_plain(item), MAX_VALUE_LENGTH) for item in value][:_MAX_ITEMS]
    return _cut(_plain(value), MAX_VALUE_LENGTH)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}...(+{len(text) - limit})"


class EventLog:
    """Writes the lines that `logevents.EVENTS` describes."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def emit(self, name: str, /, **fields: object) -> None:
        """Write one line.

        Args:
            name: One of EVENTS; the level is the table's.
            **fields: Values by name; foreign text may be among them. None is left out.

        Raises:
            KeyError: The table does not have the name: nothing undocumented is logged.
        """
        level = _LEVELS[EVENTS[name].level]
        if self._logger.isEnabledFor(level):
            record = self._logger.makeRecord(
                self._logger.name,
                level,
                "",
                0,
                "",
                (),
                None,
                extra={"event": name, "fields": fields},
            )
            self._logger.handle(record)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, "fields", {})
    return {name: value for name, value in fields.items() if value is not None}


class TextFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z warning policy-refresh-failed domain=a.example …`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        instant = datetime.fromtimestamp(record.created, UTC)
        time = f"{instant:%Y-%m-%dT%H:%M:%S}.{instant.microsecond // 1000:03d}Z"
        return f"{time} {record.levelname.lower()} {format_body(record)}"


def format_body(record: logging.LogRecord) -> str:
    """The event, its fields and its message; a traceback in the same line."""
    parts = [getattr(record, "event", "") or record.name]
    parts += [f"{name}={format_value(value)}" for name, value in _fields(record).items()]
    message = record.getMessage()
    if message:
        parts.append(f'message="{escape(message, limit=MAX_MESSAGE_LENGTH, quoted=True)}"')
    if record.exc_info:
        trace = logging.Formatter().formatException(record.exc_info)
        parts.append(f'traceback="{escape(trace, limit=MAX_TRACE_LENGTH, quoted=True)}"')
    return " ".join(parts)


class JsonFormatter(logging.Formatter):
    """One JSON object per line; values stay typed, foreign text is escaped and cut."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        instant = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": instant.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "") or record.name,
        }
        for name, value in _fields(record).items():
            line[name if name not in line else f"{name}_"] = _json_value(value)
        message = record.getMessage()
        if message:
            line["message"] = _cut(message, MAX_MESSAGE_LENGTH)
        if record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info)
            line["traceback"] = _cut(trace, MAX_TRACE_LENGTH)
        return json.dumps(line, separators=(",", ":"))


class JournaldFormatter(logging.Formatter):
    """Text with the priority that journald strips off again (sd-daemon(3)); it has the time."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        if record.levelno >= logging.ERROR:
            priority = 3
        elif record.levelno >= logging.WARNING:
            priority = 4
        else:
            priority = 6 if record.levelno >= logging.INFO else 7
        return f"<{priority}>{format_body(record)}"


def is_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream goes straight to the journal ($JOURNAL_STREAM names its file)."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
        return (status.st_dev, status.st_ino) == (int(device), int(inode))
    except (OSError, ValueError):
        return False


def start_logging(
    level: LogLevel,
    form: LogFormat,
    *,
    stream: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
) -> EventLog:
    """Send the log to a stream (standard error); a second call replaces the first.

    Returns:
        What roles write their lines with. Lines of libraries and of asyncio go the same way.
    """
    target = stream if stream is not None else sys.stderr
    if form is LogFormat.AUTO:
        form = LogFormat.JOURNALD if is_journal(target, environ) else LogFormat.TEXT
    formatters: dict[LogFormat, type[logging.Formatter]] = {
        LogFormat.TEXT: TextFormatter,
        LogFormat.JSON: JsonFormatter,
        LogFormat.JOURNALD: JournaldFormatter,
    }
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatters[form]())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if getattr(old, "of_strictmail", False):
            root.removeHandler(old)
    handler.of_strictmail = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logger = logging.getLogger("strictmail")
    logger.setLevel(_LEVELS[level])
    return EventLog(logger)
