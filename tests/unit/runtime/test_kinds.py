# SPDX-License-Identifier: Apache-2.0
"""Values of options: what is meant, what is refused, and what the refusal suggests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strictmail.core.decision import Level
from strictmail.runtime import kinds
from strictmail.runtime.addresses import InetSocket, SystemdSocket, UnixSocket, parse_socket

DAY = kinds.Duration(timedelta(seconds=1), timedelta(days=1))
COUNT = kinds.Integer(1, 10)
LEVEL = kinds.Choice(Level, Level.MAY, Level.DANE_ONLY)

GOOD: list[tuple[kinds.Kind[Any], object, object]] = [
    (DAY, "90s", timedelta(seconds=90)),
    (DAY, "24h", timedelta(days=1)),
    (DAY, " 5 m ", timedelta(minutes=5)),
    (kinds.Duration(timedelta(0), timedelta(1)), "500ms", timedelta(milliseconds=500)),
    (COUNT, 10, 10),
    (kinds.Flag(), True, True),
    (LEVEL, "dane-only", Level.DANE_ONLY),
    (kinds.Path(), "/var/lib/x", "/var/lib/x"),
    (kinds.Path(optional=True), "", ""),
    (kinds.FileMode(), "0660", 0o660),
    (kinds.FileMode(), "666", 0o666),
    (kinds.Servers(), ["127.0.0.1"], (("127.0.0.1", 53),)),
    (kinds.Servers(), ["::1", "[::1]:5353"], (("::1", 53), ("::1", 5353))),
    (kinds.Servers(), [], ()),
    (kinds.Networks(), ["10.0.0.0/8", "fd00::/8"], ("10.0.0.0/8", "fd00::/8")),
    (kinds.Socket(), "inet:[::1]:8461", InetSocket("::1", 8461)),
    (kinds.Socket(), "unix:/run/x/s", UnixSocket("/run/x/s")),
    (kinds.Socket(), "systemd:postfix", SystemdSocket("postfix")),
    (kinds.OptionalSocket(), "127.0.0.1:8460", InetSocket("127.0.0.1", 8460)),
    (kinds.OptionalSocket(), "", None),
    (kinds.Words(("resolver",)), ["resolver"], ("resolver",)),
]

BAD: list[tuple[kinds.Kind[Any], object, str]] = [
    # a bare number: seconds? minutes? the reader cannot know
    (DAY, 30, 'write "30s"'),
    (DAY, "30", 'write "30s"'),
    (DAY, "30sec", 'did you mean "s"'),
    (DAY, "1H", 'did you mean "h"'),
    (DAY, "1w", "write weeks as days"),
    (DAY, "1.5h", "not a duration"),
    (DAY, "-5m", "not a duration"),
    (DAY, "25h", "out of range: 1s to 1d"),
    (DAY, "9" * 18 + "d", "hundred years"),
    (DAY, True, "expected a string"),
    (COUNT, "3", "without quotes: 3"),
    (COUNT, True, "not a boolean"),
    (COUNT, 1.0, "a number with a fraction"),
    (COUNT, 11, "11 is out of range: 1 to 10"),
    (COUNT, 10**400, "out of range"),
    (kinds.Flag(), "yes", "without quotes: true"),
    (kinds.Flag(), 1, "expected true or false"),
    (LEVEL, "dane_only", 'did you mean "dane-only"'),
    (LEVEL, "none", "not one of may, dane-only"),
    (kinds.Path(), "state", "not an absolute path"),
    (kinds.Path(), "", "not an absolute path"),
    (kinds.Path(), "/a\nb", "cannot be printed"),
    (kinds.FileMode(), 660, "octal string"),
    (kinds.FileMode(), "888", "octal string"),
    (kinds.FileMode(), "0066", "without its own socket"),
    (kinds.Servers(), "127.0.0.1", 'write ["127.0.0.1"]'),
    (kinds.Servers(), ["localhost"], "write 127.0.0.1"),
    (kinds.Servers(), ["127.0.0.1:0"], "0 is not"),
    (kinds.Servers(), ["127.0.0.1:٣"], "not a port"),
    (kinds.Servers(), ["127.0.0.1", "127.0.0.1:53"], "twice"),
    (kinds.Servers(), [f"127.0.0.{n}" for n in range(1, 10)], "more than the 8"),
    (kinds.Servers(), [1], "array of strings"),
    (kinds.Networks(), ["10.0.0.1/8"], 'did you mean "10.0.0.0/8"'),
    (kinds.Networks(), ["10/8"], "not ADDRESS/LENGTH"),
    (kinds.Socket(), "127.0.0.1:8461", "did you mean 'inet:127.0.0.1:8461'"),
    (kinds.Socket(), "inet:127.0.0.1", "has no port"),
    (kinds.Socket(), "inet:::1:8461", "needs brackets"),
    (kinds.Socket(), "inet:127.0.0.1:70000", "above 65535"),
    (kinds.Socket(), "/run/s", "write 'unix:/run/s'"),
    (kinds.Socket(), "unix:run/s", "absolute"),
    (kinds.Socket(), "unix:/" + "x" * 107, "108 octets, the system allows 107"),
    (kinds.Socket(), "systemd:a b", "not a name"),
    (kinds.Socket(), "", "none of"),
    (kinds.Words(("resolver",)), [], "empty"),
    (kinds.Words(("resolver",)), ["resolvr"], 'did you mean "resolver"'),
    (kinds.Words(("resolver",)), ["resolver", "resolver"], "twice"),
    (kinds.Text("x+", "only x", "x"), "xy", "only x"),
]


@pytest.mark.parametrize(("kind", "value", "expected"), GOOD)
def test_is_understood(kind: kinds.Kind[Any], value: object, expected: object) -> None:
    assert kind.parse(value) == expected


@pytest.mark.parametrize(("kind", "value", "expected"), GOOD)
def test_what_is_written_is_read_again(
    kind: kinds.Kind[Any], value: object, expected: object
) -> None:
    del value
    assert kind.parse(kind.format(expected)) == expected


@pytest.mark.parametrize(("kind", "value", "message"), BAD)
def test_is_refused_with_a_suggestion(kind: kinds.Kind[Any], value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        kind.parse(value)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=10**12))
def test_durations_survive_writing(milliseconds: int) -> None:
    value = timedelta(milliseconds=milliseconds)
    assert kinds.parse_duration(kinds.format_duration(value)) == value


@settings(deadline=None)
@given(st.text())
def test_strings_survive_writing_as_toml(text: str) -> None:
    import tomllib

    text = text.encode("utf-8", "ignore").decode()
    assert tomllib.loads(f"a = {kinds.toml_text(text)}") == {"a": text}


@settings(deadline=None)
@given(st.text())
def test_no_socket_text_ends_in_another_error(text: str) -> None:
    try:
        socket = parse_socket(text)
    except ValueError:
        return
    assert parse_socket(str(socket)) == socket
