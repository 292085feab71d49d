# SPDX-License-Identifier: Apache-2.0
"""The kinds of values that options take: from TOML to a typed value, and back.

Each kind refuses what it cannot mean with a sentence that says what to write instead.
"""

from __future__ import annotations

import enum
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

from strictmail.core.names import parse_domain
from strictmail.runtime.addresses import (
    InetSocket,
    SocketAddress,
    format_host_port,
    parse_host_port,
    parse_socket,
)

Toml = str | int | bool | list[str]
"""What an option's value may be in the file."""

T = TypeVar("T")
E = TypeVar("E", bound=enum.StrEnum)

_NUMBER_UNIT: Final = re.compile(r"([0-9]{1,18})[ ]?([A-Za-z]*)")
_DURATION_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_MAX_SECONDS: Final = 100 * 365 * 86_400
_DNS_PORT: Final = 53
_OWNER_READ_WRITE: Final = 0o600


def toml_text(value: Toml) -> str:
    """Write a value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(toml_text(item) for item in value) + "]"
    return '"' + "".join(_toml_char(char) for char in value) + '"'


def _toml_char(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    return f"\\U{ord(char):08X}"


def type_name(value: object) -> str:
    """Name the TOML type of a value that was read, with its article."""
    names: dict[type, str] = {
        bool: "a boolean",
        int: "a whole number",
        float: "a number with a fraction",
        str: "a string",
        list: "an array",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")


class Kind(ABC, Generic[T]):
    """How an option's value is written, checked and typed."""

    @property
    @abstractmethod
    def word(self) -> str:
        """What the reference calls it, such as `duration`."""

    @property
    def range_text(self) -> str:
        """The values that are allowed, in words; empty: all of the kind."""
        return ""

    @abstractmethod
    def parse(self, value: object) -> T:
        """Make the typed value.

        Raises:
            ValueError: A sentence that names the fault and what to write; show it.
        """

    @abstractmethod
    def format(self, value: T) -> Toml:
        """Make the shortest value that parses to this one."""


def _expect_text(value: object, example: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a string such as {toml_text(example)}, not {type_name(value)}")  # noqa: TRY004
    return value


def _nearest(word: str, choices: list[str]) -> str:
    import difflib

    found = difflib.get_close_matches(word.lower(), choices, n=1, cutoff=0.6)
    return f'; did you mean "{found[0]}"?' if found else ""


@dataclass(frozen=True, slots=True)
class Flag(Kind[bool]):
    """true or false."""

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "boolean"

    def parse(self, value: object) -> bool:
        """Take true and false, not the strings."""
        if isinstance(value, bool):
            return value
        hint = ""
        if isinstance(value, str) and value.lower() in {"true", "yes", "on", "false", "no", "off"}:
            hint = "; write it without quotes: " + (
                "true" if value.lower() in {"true", "yes", "on"} else "false"
            )
        raise ValueError(f"expected true or false, not {type_name(value)}{hint}")

    def format(self, value: bool) -> Toml:  # noqa: FBT001 - the value itself
        """Write it."""
        return value


@dataclass(frozen=True, slots=True)
class Integer(Kind[int]):
    """A whole number from `low` to `high`; `unit` is what it counts."""

    low: int
    high: int
    unit: str = ""

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return f"integer ({self.unit})" if self.unit else "integer"

    @property
    def range_text(self) -> str:
        """From .. to."""
        return f"{self.low} to {self.high}"

    def parse(self, value: object) -> int:
        """Check type and range."""
        if isinstance(value, bool) or not isinstance(value, int):
            hint = ""
            if isinstance(value, str) and value.strip().isdecimal() and value.isascii():
                hint = f"; write it without quotes: {value.strip()[:20]}"
            raise ValueError(f"expected a whole number, not {type_name(value)}{hint}")  # noqa: TRY004
        if not self.low <= value <= self.high:
            raise ValueError(f"{_short_int(value)} is out of range: {self.range_text}")
        return value

    def format(self, value: int) -> Toml:
        """Write it."""
        return value


def _short_int(value: int) -> str:
    """A number for a message; huge ones are not spelt out."""
    return str(value) if abs(value) < 10**30 else "the number"


@dataclass(frozen=True, slots=True)
class Duration(Kind[timedelta]):
    """A span of time with its unit, from `low` to `high`."""

    low: timedelta
    high: timedelta

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "duration"

    @property
    def range_text(self) -> str:
        """From .. to."""
        return f"{format_duration(self.low)} to {format_duration(self.high)}"

    def parse(self, value: object) -> timedelta:
        """Read `<whole number><unit>`."""
        if isinstance(value, int) and not isinstance(value, bool):
            number = _short_int(value)
            raise ValueError(  # noqa: TRY004 - one error type for all that is refused
                f'a duration needs a unit: write "{number}s" for seconds, or one of '
                f"{', '.join(_DURATION_UNITS)}"
            )
        duration = parse_duration(_expect_text(value, "90s"))
        if not self.low <= duration <= self.high:
            raise ValueError(f"{format_duration(duration)} is out of range: {self.range_text}")
        return duration

    def format(self, value: timedelta) -> Toml:
        """Write it with the largest unit that fits."""
        return format_duration(value)


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `90s`, `24h`, `500ms`.

    Raises:
        ValueError: A sentence that names the fault; show it.
    """
    match = _NUMBER_UNIT.fullmatch(text.strip())
    units = ", ".join(_DURATION_UNITS)
    if not match:
        raise ValueError(f"{text[:40]!r} is not a duration: a whole number and one of {units}")
    number, unit = match.groups()
    if not unit:
        raise ValueError(f'a duration needs a unit: write "{number}s", or one of {units}')
    if unit not in _DURATION_UNITS:
        raise ValueError(f"{unit[:40]!r} is not a unit of time: one of {units}{_unit_hint(unit)}")
    if int(number) * _DURATION_UNITS[unit] > _MAX_SECONDS:
        raise ValueError(f"{text[:40]!r} is longer than a hundred years")
    if unit == "ms":
        return timedelta(milliseconds=int(number))
    return timedelta(seconds=int(number) * _DURATION_UNITS[unit])


def _unit_hint(unit: str) -> str:
    words = {"sec": "s", "min": "m", "hour": "h", "hr": "h", "day": "d", "mil": "ms"}
    for start, short in words.items():
        if unit.lower().startswith(start):
            return f'; did you mean "{short}"?'
    if unit.lower().startswith("w"):
        return "; write weeks as days"
    return f'; did you mean "{unit.lower()}"?' if unit.lower() in _DURATION_UNITS else ""


def format_duration(value: timedelta) -> str:
    """Write a duration with the largest unit that leaves a whole number."""
    milliseconds = value // timedelta(milliseconds=1)
    for unit in ("d", "h", "m", "s"):
        length = int(_DURATION_UNITS[unit] * 1000)
        if milliseconds and milliseconds % length == 0:
            return f"{milliseconds // length}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


class Choice(Kind[E]):
    """One word of an enumeration, or of some of its members."""

    def __init__(self, enumeration: type[E], *members: E) -> None:
        """Allow `members`, or all when none is given."""
        self.members: tuple[E, ...] = members or tuple(enumeration)

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "word"

    @property
    def range_text(self) -> str:
        """The words."""
        return " | ".join(f'"{member}"' for member in self.members)

    def parse(self, value: object) -> E:
        """Find the member."""
        text = _expect_text(value, self.members[0].value)
        for member in self.members:
            if member.value == text:
                return member
        words = [member.value for member in self.members]
        raise ValueError(f"{text[:40]!r} is not one of {', '.join(words)}{_nearest(text, words)}")

    def format(self, value: E) -> Toml:
        """Write it."""
        return value.value


@dataclass(frozen=True, slots=True)
class Words(Kind[tuple[str, ...]]):
    """A list of different words out of `choices`: one or more, with `optional` also none."""

    choices: tuple[str, ...]
    optional: bool = False

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "list of words"

    @property
    def range_text(self) -> str:
        """The words."""
        return ", ".join(f'"{choice}"' for choice in self.choices)

    def parse(self, value: object) -> tuple[str, ...]:
        """Check each word."""
        words = _expect_list(value, self.choices[0])
        for word in words:
            if word not in self.choices:
                known = ", ".join(self.choices)
                hint = _nearest(word, list(self.choices))
                raise ValueError(f"{word[:40]!r} is not one of {known}{hint}")
        if not words and not self.optional:
            raise ValueError(f'the list is empty; write ["{self.choices[0]}"]')
        if len(set(words)) != len(words):
            raise ValueError("the list names something twice")
        return tuple(words)

    def format(self, value: tuple[str, ...]) -> Toml:
        """Write it."""
        return list(value)


def _expect_list(value: object, example: str) -> list[str]:
    if isinstance(value, str):
        raise ValueError(f"expected an array; write [{toml_text(value[:80])}]")  # noqa: TRY004
    if not isinstance(value, list):
        raise ValueError(f'expected an array such as ["{example}"], not {type_name(value)}')  # noqa: TRY004
    for item in value:
        if not isinstance(item, str):
            raise ValueError(f"expected an array of strings, found {type_name(item)} in it")  # noqa: TRY004
    return value


@dataclass(frozen=True, slots=True)
class Text(Kind[str]):
    """A string that `pattern` matches as a whole; `describes` says so in words."""

    pattern: str
    describes: str
    example: str

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "string"

    @property
    def range_text(self) -> str:
        """The form."""
        return self.describes

    def parse(self, value: object) -> str:
        """Check the form."""
        text = _expect_text(value, self.example)
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"{text[:40]!r} does not fit: {self.describes}")
        return text

    def format(self, value: str) -> Toml:
        """Write it."""
        return value


@dataclass(frozen=True, slots=True)
class Path(Kind[str]):
    """An absolute path; with `optional`, the empty string means that there is none."""

    optional: bool = False

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "path"

    @property
    def range_text(self) -> str:
        """The form."""
        return 'absolute, or ""' if self.optional else "absolute"

    def parse(self, value: object) -> str:
        """Check the form; whether it exists is not looked at."""
        text = _expect_text(value, "/path")
        if not text and self.optional:
            return text
        if not text.startswith("/"):
            raise ValueError(f"{text[:80]!r} is not an absolute path")
        if not text.isprintable():
            raise ValueError("the path has a character that cannot be printed")
        return text

    def format(self, value: str) -> Toml:
        """Write it."""
        return value


@dataclass(frozen=True, slots=True)
class FileMode(Kind[int]):
    """The rights of a file, as an octal string."""

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "octal string"

    @property
    def range_text(self) -> str:
        """From .. to."""
        return '"0600" to "0777"'

    def parse(self, value: object) -> int:
        """Read three octal digits, behind an optional zero."""
        if isinstance(value, int) and not isinstance(value, bool):
            raise ValueError('write the rights as an octal string, such as "0660"')  # noqa: TRY004
        text = _expect_text(value, "0660")
        if not re.fullmatch(r"0?[0-7]{3}", text):
            raise ValueError(f'{text[:40]!r} is not an octal string such as "0660"')
        mode = int(text, 8)
        if mode & _OWNER_READ_WRITE != _OWNER_READ_WRITE:
            raise ValueError(f'"{text}" leaves the daemon without its own socket; write "0660"')
        return mode

    def format(self, value: int) -> Toml:
        """Write it."""
        return f"{value:04o}"


@dataclass(frozen=True, slots=True)
class Servers(Kind[tuple[tuple[str, int], ...]]):
    """Name servers: `address` or `address:port`, 53 where none is given."""

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "list of addresses"

    @property
    def range_text(self) -> str:
        """The form."""
        return '"ADDRESS", "ADDRESS:PORT" or "[ADDRESS]:PORT"; at most 8'

    def parse(self, value: object) -> tuple[tuple[str, int], ...]:
        """Read each; port 0 is nobody's."""
        servers = tuple(
            parse_host_port(item, default_port=_DNS_PORT)
            for item in _expect_list(value, "127.0.0.1")
        )
        if any(port == 0 for _, port in servers):
            raise ValueError("0 is not the port of a server")
        if len(servers) > 8:  # noqa: PLR2004 - resolv.conf has 3; more only prolongs a failure
            raise ValueError(f"{len(servers)} servers are more than the 8 that are tried")
        if len(set(servers)) != len(servers):
            raise ValueError("the list names a server twice")
        return servers

    def format(self, value: tuple[tuple[str, int], ...]) -> Toml:
        """Write them, without the usual port."""
        return [host if port == _DNS_PORT else format_host_port(host, port) for host, port in value]


@dataclass(frozen=True, slots=True)
class Networks(Kind[tuple[str, ...]]):
    """Networks in CIDR notation; the values are the strings in their normal form."""

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "list of networks"

    @property
    def range_text(self) -> str:
        """The form."""
        return "ADDRESS/LENGTH"

    def parse(self, value: object) -> tuple[str, ...]:
        """Read each; bits behind the length are a slip of the pen."""
        import ipaddress

        networks = []
        for item in _expect_list(value, "192.0.2.0/24"):
            try:
                networks.append(str(ipaddress.ip_network(item)))
            except ValueError:
                try:
                    hint = f'; did you mean "{ipaddress.ip_network(item, strict=False)}"?'
                except ValueError:
                    hint = ""
                raise ValueError(f"{item[:60]!r} is not ADDRESS/LENGTH{hint}") from None
        return tuple(networks)

    def format(self, value: tuple[str, ...]) -> Toml:
        """Write them."""
        return list(value)


@dataclass(frozen=True, slots=True)
class Names(Kind[tuple[str, ...]]):
    """Host names; the values are A-labels in lower case."""

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "list of host names"

    @property
    def range_text(self) -> str:
        """The form."""
        return "host names"

    def parse(self, value: object) -> tuple[str, ...]:
        """Read each."""
        names = []
        for item in _expect_list(value, "mx.example.com"):
            try:
                names.append(parse_domain(item))
            except ValueError as error:
                raise ValueError(f"{item[:60]!r} is no host name: {error}") from None
        return tuple(names)

    def format(self, value: tuple[str, ...]) -> Toml:
        """Write them."""
        return list(value)


@dataclass(frozen=True, slots=True)
class Socket(Kind[SocketAddress]):
    """Where a server listens."""

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "socket"

    @property
    def range_text(self) -> str:
        """The forms."""
        return '"inet:ADDRESS:PORT", "unix:/PATH" or "systemd:NAME"'

    def parse(self, value: object) -> SocketAddress:
        """Read one of the forms."""
        return parse_socket(_expect_text(value, "inet:127.0.0.1:8461"))

    def format(self, value: SocketAddress) -> Toml:
        """Write it."""
        return str(value)


@dataclass(frozen=True, slots=True)
class OptionalSocket(Kind[SocketAddress | None]):
    """Where a server listens, if at all; `inet:` may be left out."""

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "socket"

    @property
    def range_text(self) -> str:
        """The forms."""
        return '"ADDRESS:PORT", "unix:/PATH", "systemd:NAME", or "" for none'

    def parse(self, value: object) -> SocketAddress | None:
        """Read one of the forms; the empty string is None."""
        text = _expect_text(value, "127.0.0.1:8460")
        return parse_socket(text, bare_inet=True) if text else None

    def format(self, value: SocketAddress | None) -> Toml:
        """Write it."""
        if isinstance(value, InetSocket):
            return format_host_port(value.host, value.port)
        return str(value) if value else ""
