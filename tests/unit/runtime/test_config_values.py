# SPDX-License-Identifier: Apache-2.0
"""The configuration: defaults, origins, and every way to be refused, with its line."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from strictmail.core.decision import Level, ListenerProfile
from strictmail.core.errors import ConfigError
from strictmail.runtime import config as configuration
from strictmail.runtime.addresses import InetSocket, UnixSocket
from strictmail.runtime.config import Config, check_config, diff_configs, load_config
from strictmail.runtime.options import TABLES, Dialect
from strictmail.runtime.reference import render_effective, render_sample


def good(text: str) -> Config:
    config, problems = check_config(text, file="f.toml")
    assert config is not None, problems
    return config


LISTENER = '[[listener]]\nname = "a"\nsocket = "inet:127.0.0.1:1"\n'

CONTACT = 'organization = "B"\ncontact = "a@example.com"\n'
IDENTITY = f'[reporter]\nmail = "off"\n{CONTACT}[[identity]]\nname = "brand"\n{CONTACT}'

BAD = [
    # unknown things
    ('statedirectory = "/x"', 1, "did you mean state_directory?"),
    ("\n[cahce]\nx = 1", 2, "[cahce]: no such table; did you mean cache?"),
    ("[cache]\n\nidle_afer = 1", 3, "[cache] idle_afer: no such option; did you mean idle_after?"),
    ('[log]\nidle_after = "1d"', 2, "it belongs into [cache]"),
    ('[log]\nroles = ["resolver"]', 2, "it belongs to the top"),
    ('idle_after = "1d"', 1, "it belongs into [cache]"),
    (LISTENER + "dialekt = 1", 4, "[listener] dialekt: no such option; did you mean dialect?"),
    ("[log.extra]\nx = 1", 1, "[log] extra: no such option"),
    # wrong types, units and ranges
    ("[cache]\nidle_after = 30", 2, 'write "30s"'),
    ('[dns]\nattempts = "3"', 2, "without quotes: 3"),
    ('[cache]\nnegative_ttl = "2h"', 2, "out of range: 1s to 1h"),
    ('[decision]\nanswer_deadline = "90s"', 2, "out of range: 100ms to 89s"),
    ('[decision]\npartial_dane = "dane"', 2, "not one of dane-only, secure"),
    ('[policy]\nuser_agent = "a\\r\\nb"', 2, "printable ASCII"),
    ("[cache]\nidle_after = 2024-01-01", 2, "a date or time"),
    ("log = 1", 1, "[log]: expected a table, not a whole number"),
    ("[[log]]", 1, "write [log]"),
    ('[listener]\nname = "a"', 1, "write [[listener]]"),
    ("listener = []", 1, "0 listeners"),
    # listeners that do not fit together
    ('[[listener]]\nname = "a"', 1, "[[listener]] has no socket"),
    ('[[listener]]\nsocket = "inet:127.0.0.1:1"', 1, "has no name"),
    (LISTENER + LISTENER.replace(":1", ":2"), 5, "has this name already"),
    (LISTENER + LISTENER.replace('"a"', '"b"'), 6, "is the socket of listener a already"),
    (LISTENER + 'mode = "0660"', 4, "mode is for unix sockets"),
    (LISTENER + 'default_level = "dane"', 4, "write dane = true"),
    (LISTENER + 'default_level = "none"', 4, "not one of may,"),
    (LISTENER.replace('"a"', '"a b"'), 2, "letters, digits, hyphens"),
    (LISTENER + '[http]\nlisten = "127.0.0.1:1"', 5, "is the socket of listener a"),
    # collectors that do not fit together
    ("[collector]", 1, "write [[collector]]"),
    ('[[collector]]\nsocket = "inet:127.0.0.1:1"', 2, "unix sockets only"),
    ("[[collector]]\n[[collector]]", 2, "another collector has this name already"),
    ('[[collector]]\n[[collector]]\nname = "b"', 2, "is the socket of collector tlsrpt already"),
    ('[[collector]]\nidentity = "a b"', 2, "letters, digits, hyphens"),
    ('[[collector]]\ngroup = "a:b"', 2, "the name of a group"),
    (
        '[[listener]]\nname = "a"\nsocket = "unix:/x"\n[[collector]]\nsocket = "unix:/x"',
        5,
        "is the socket of listener a",
    ),
    # not TOML at all
    ("a = \n", 1, "not valid TOML"),
    ('[log]\nlevel = "x', 2, "not valid TOML"),
    ("[log]\n[log]", 2, "not valid TOML"),
    ("x = " + "[" * 5000, None, "nested too deeply"),
    ("x = " + "1" * 5000, None, "not valid TOML"),
]


@pytest.mark.parametrize(("text", "line", "message"), BAD)
def test_is_refused_with_its_line(text: str, line: int | None, message: str) -> None:
    config, problems = check_config(text, file="f.toml")
    assert config is None
    assert message in problems[0].message
    assert problems[0].line == line
    assert str(problems[0]).startswith("f.toml:" if line is None else f"f.toml:{line}: ")
    assert str(problems[0]).isprintable()


def test_all_problems_are_told_in_the_order_of_lines() -> None:
    _, problems = check_config("[log]\nlevel = 1\n[dns]\nx = 1\ntimeout = 1\n[zzz]\n", file="f")
    assert [problem.line for problem in problems] == [2, 4, 5, 6]


def test_defaults_work_without_a_file() -> None:
    config = good("")
    assert config.state_directory == "/var/lib/strictmail"
    assert config.policies_path == "/var/lib/strictmail/policies.sqlite3"
    assert config.cache.idle_after == timedelta(days=30)
    assert [listener.name for listener in config.listeners] == ["postfix"]
    assert config.listeners[0].socket == InetSocket("127.0.0.1", 8461)
    assert set(config.origins.values()) == {"default"}


def test_each_value_knows_its_origin() -> None:
    config = good('[cache]\nidle_after = "7d"\n' + LISTENER)
    assert config.origins["cache.idle_after"] == "f.toml:2"
    assert config.origins["cache.hot_entries"] == "default"
    assert config.origins["listener.a.socket"] == "f.toml:5"
    assert config.origins["listener.a.dialect"] == "default"
    assert config.origins["state_directory"] == "default"


def test_a_listener_is_typed() -> None:
    config = good(
        '[[listener]]\nname = "b"\nsocket = "unix:/run/s"\nmode = "0600"\n'
        'dialect = "exim"\ndefault_level = "dane"\ndane = true\n'
    )
    listener = config.listeners[0]
    assert (listener.socket, listener.mode) == (UnixSocket("/run/s"), 0o600)
    assert listener.dialect is Dialect.EXIM
    assert listener.profile == ListenerProfile(Level.DANE, dane=True)


STATE = 'state_directory = "/from/file"\n'


@pytest.mark.parametrize(
    ("text", "option", "environ", "directory", "origin"),
    [
        ("", None, {}, "/var/lib/strictmail", "default"),
        ("", None, {"STATE_DIRECTORY": "/from/env:/x"}, "/from/env", "$STATE_DIRECTORY"),
        (STATE, None, {"STATE_DIRECTORY": "/from/env"}, "/from/file", "f.toml:1"),
        (STATE, "/o", {"STATE_DIRECTORY": "/from/env"}, "/o", "--state-directory"),
    ],
)
def test_where_the_state_directory_comes_from(
    text: str, option: str | None, environ: dict[str, str], directory: str, origin: str
) -> None:
    config, _ = check_config(text, file="f.toml", state_directory=option, environ=environ)
    assert config is not None
    assert (config.state_directory, config.origins["state_directory"]) == (directory, origin)


def test_a_relative_state_directory_on_the_command_line_is_made_absolute() -> None:
    config, _ = check_config("", state_directory="run/state")
    assert config is not None
    assert config.state_directory == str(Path("run/state").absolute())


def test_which_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, given, other = tmp_path / "system", tmp_path / "given", tmp_path / "other"
    monkeypatch.setattr(configuration, "DEFAULT_CONFIG_PATH", str(system))
    environ = {"STRICTMAIL_CONFIG": str(other)}
    assert load_config(environ={}).path is None
    for number, file in enumerate((system, given, other), 1):
        file.write_text(f"[dns]\nattempts = {number}\n")
    assert load_config(environ={}).dns.attempts == 1
    assert load_config(environ=environ).dns.attempts == 3
    assert load_config(str(given), environ=environ).dns.attempts == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[dns]\n\xff", r":2: not UTF-8"),
        (b"#" * (1024 * 1024 + 1), r"larger than 1048576 bytes"),
        (b"a=1\nb=1\nc=1", r":1: a: no such option.* \(and 2 more: see `strictmail config check"),
    ],
)
def test_a_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "strictmail.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(str(file), environ={})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent: cannot be read: No such file"):
        load_config(str(tmp_path / "absent"), environ={})


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"\xef\xbb\xbf[dns]\nattempts = 5\n")
    assert load_config(str(file), environ={}).dns.attempts == 5


def test_options_and_dataclasses_have_the_same_names() -> None:
    config = good("[[collector]]\n" + IDENTITY)
    repeated = {
        "listener": config.listeners[0],
        "collector": config.collectors[0],
        "identity": config.identities[0],
    }
    for table in TABLES:
        names = [option.name for option in table.options]
        owner: Any = {"": config, **repeated}.get(table.name) or getattr(config, table.name)
        assert {field.name for field in fields(owner)} >= set(names)
        if table.name:
            assert [field.name for field in fields(owner)] == names


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("", ("resolver",)),
        ("roles = []", ("resolver",)),
        ("[[collector]]", ("resolver", "collector")),
        ('roles = ["resolver"]\n[[collector]]', ("resolver",)),
        ('roles = ["collector"]', ("collector",)),
    ],
)
def test_roles_are_those_that_are_named_or_configured(text: str, roles: tuple[str, ...]) -> None:
    assert good(text).roles == roles


def test_a_collector_needs_no_more_than_its_table() -> None:
    (collector,) = good("[[collector]]").collectors
    assert collector.socket == UnixSocket("/var/spool/postfix/strictmail/tlsrpt")
    assert (collector.mode, collector.group, collector.identity) == (0o660, "postfix", "")
    assert good("[[collector]]").origins["collector.tlsrpt.mode"] == "default"


def test_what_is_shown_can_be_read_again() -> None:
    config = good('[policy]\nallow_networks = ["10.0.0.0/8"]\n' + LISTENER + "[[collector]]")
    again = good(render_effective(config))
    assert diff_configs(config, again) == ()


def test_the_sample_is_the_defaults_with_and_without_its_comments() -> None:
    assert diff_configs(good(render_sample()), good("")) == ()
    lines = [line for line in render_sample().splitlines() if not line.startswith("#mode")]
    uncommented = "\n".join(re.sub(r"^#(?=\S)", "", line) for line in lines)
    # An identity needs more than its own table: what else, `config check` says.
    config = good(uncommented.partition("[[identity]]")[0])
    # Uncommented, the table of the collector is there, and so is its role.
    assert set(diff_configs(config, good(""))) == set(diff_configs(good("[[collector]]"), good("")))
    assert "default" not in {
        origin for key, origin in config.origins.items() if not key.endswith(".mode")
    }


def test_what_differs_is_named() -> None:
    old, new = good(LISTENER), good('[log]\nlevel = "debug"\n' + LISTENER.replace('"a"', '"b"'))
    changed = diff_configs(old, new)
    assert "log.level" in changed
    assert "listener.a.socket" in changed
    assert "listener.b.socket" in changed
    assert "log.format" not in changed
