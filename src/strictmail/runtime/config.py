# SPDX-License-Identifier: Apache-2.0
"""The configuration: a file checked against the options, typed, each value with its origin.

Knows the order in which places are looked at. What the options are stands in
`strictmail.runtime.options`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strictmail.core.decision import Level, ListenerProfile
from strictmail.core.errors import ConfigError
from strictmail.runtime.addresses import UnixSocket
from strictmail.runtime.kinds import type_name
from strictmail.runtime.options import DEFAULT_CONFIG_PATH, DEFAULT_LISTENER, TABLES, Option, Table
from strictmail.runtime.tomllines import LineIndex

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from strictmail.core.decision import FailureStance, PartialDane, TestingStance
    from strictmail.runtime.addresses import SocketAddress
    from strictmail.runtime.options import Dialect, LogFormat, LogLevel, TrustAd
    from strictmail.runtime.tomllines import KeyPath

MAX_CONFIG_BYTES: Final = 1024 * 1024
"""A configuration is some hundred bytes; what is larger is some other file."""

MAX_LISTENERS: Final = 64
"""Each has its own memory of finished replies."""

_AT: Final = re.compile(r" \(at line (\d+), column (\d+)\)$")


@dataclass(frozen=True, slots=True)
class LogConfig:
    """`[log]`."""

    level: LogLevel
    format: LogFormat


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """`[dns]`. `servers` is empty for those of the system."""

    servers: tuple[tuple[str, int], ...]
    trust_ad: TrustAd
    timeout: timedelta
    attempts: int


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """`[policy]`. `ca_file` is empty for the system's."""

    fetch_timeout: timedelta
    fetch_concurrency: int
    ca_file: str
    allow_networks: tuple[str, ...]
    connect_port: int
    user_agent: str


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """`[cache]`."""

    refresh_interval: timedelta
    idle_after: timedelta
    negative_ttl: timedelta
    hot_entries: int
    known_entries: int
    per_registrable_domain: int


@dataclass(frozen=True, slots=True)
class DecisionConfig:
    """`[decision]`."""

    partial_dane: PartialDane
    testing: TestingStance
    dns_failure: FailureStance
    off_policy_dane: FailureStance
    smart_host_policy: bool
    answer_deadline: timedelta


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """`[http]`. `listen` is None when it is off."""

    listen: SocketAddress | None


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """`[check]`. `ehlo_name` is empty for the machine's name, `ca_file` for the system's."""

    ehlo_name: str
    ca_file: str
    deadline: timedelta
    connect_timeout: timedelta
    greeting_timeout: timedelta
    command_timeout: timedelta
    concurrency: int
    operator_connections: int
    port25_canaries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """One `[[listener]]`."""

    name: str
    socket: SocketAddress
    mode: int
    dialect: Dialect
    default_level: Level
    dane: bool
    observe: bool
    max_connections: int
    idle_timeout: timedelta

    @property
    def profile(self) -> ListenerProfile:
        """What the decision needs to know of it."""
        return ListenerProfile(default_level=self.default_level, dane=self.dane)


@dataclass(frozen=True, slots=True)
class Config:
    """A checked configuration.

    Attributes:
        listeners: At least one; names and sockets all different.
        path: The file it was read from, or None.
        origins: Where each value comes from: `cache.idle_after`, `listener.<name>.socket` ->
            `default`, `FILE:LINE`, `$STATE_DIRECTORY` or `--state-directory`.
    """

    state_directory: str
    roles: tuple[str, ...]
    log: LogConfig
    dns: DnsConfig
    policy: PolicyConfig
    cache: CacheConfig
    decision: DecisionConfig
    http: HttpConfig
    check: CheckConfig
    listeners: tuple[ListenerConfig, ...]
    path: str | None
    origins: Mapping[str, str]

    @property
    def policies_path(self) -> str:
        """The file of the policy store."""
        return os.path.join(self.state_directory, "policies.sqlite3")  # noqa: PTH118 - a str is wanted


_SECTIONS: Final[dict[str, type]] = {
    "log": LogConfig,
    "dns": DnsConfig,
    "policy": PolicyConfig,
    "cache": CacheConfig,
    "decision": DecisionConfig,
    "http": HttpConfig,
    "check": CheckConfig,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the file that is refused; `line` is None where there is no place for it."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}"


def find_config(path: str | None = None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Choose the file: the given one, $STRICTMAIL_CONFIG, the system's if it exists, or none."""
    chosen = path or environ.get("STRICTMAIL_CONFIG")
    if chosen:
        return chosen
    return DEFAULT_CONFIG_PATH if Path(DEFAULT_CONFIG_PATH).exists() else None


def load_config(
    path: str | None = None,
    *,
    state_directory: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Read and check the configuration.

    Args:
        path: `--config`; None looks where `find_config` says.
        state_directory: `--state-directory`; counts before all else.
        environ: $STRICTMAIL_CONFIG and $STATE_DIRECTORY are read from it.

    Raises:
        ConfigError: The first problem, with file and line, and how many more there are.
    """
    file = find_config(path, environ)
    text = read_config(file) if file else ""
    config, problems = check_config(
        text, file=file, state_directory=state_directory, environ=environ
    )
    if config is None:
        more = len(problems) - 1
        command = f"strictmail config check {file}" if file else "strictmail config check"
        raise ConfigError(
            f"{problems[0]}" + (f" (and {more} more: see `{command}`)" if more else "")
        )
    return config


def read_config(file: str) -> str:
    """Read a configuration file.

    Raises:
        ConfigError: It is not there, not readable, too large or not UTF-8.
    """
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{file}: larger than {MAX_CONFIG_BYTES} bytes: not a configuration")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: not UTF-8") from None


def check_config(
    text: str,
    *,
    file: str | None = None,
    state_directory: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[Config | None, list[Problem]]:
    """Check a configuration's text.

    Args:
        text: TOML; empty for all defaults.
        file: The name to use in messages and origins.
        state_directory: As for `load_config`.
        environ: As for `load_config`; None: nothing is read from the environment.

    Returns:
        The configuration and no problem, or None and all problems in the order of lines.
    """
    return _Checker(text, file).run(state_directory, environ or {})


class _Checker:
    """One pass over one text."""

    def __init__(self, text: str, file: str | None) -> None:
        self._text = text
        self._file = file
        self._name = file or "configuration"
        self._problems: list[Problem] = []
        self._origins: dict[str, str] = {}
        self._lines = LineIndex("")

    def run(
        self, state_directory: str | None, environ: Mapping[str, str]
    ) -> tuple[Config | None, list[Problem]]:
        document = self._parse()
        if document is None:
            return None, self._problems
        self._lines = LineIndex(self._text)
        self._refuse_unknown_top(document)
        values: dict[str, Any] = self._table(TABLES[0], document, ())
        self._place_state(values, state_directory, environ)
        for table in TABLES[1:]:
            if not table.repeated:
                values[table.name] = self._section(table, document)
        values["listeners"] = self._listeners(document)
        self._check_http(values["http"], values["listeners"])
        if self._problems:
            return None, sorted(self._problems, key=lambda problem: problem.line or 0)
        return Config(**values, path=self._file, origins=self._origins), []

    def _parse(self) -> dict[str, Any] | None:
        import tomllib

        try:
            return tomllib.loads(self._text)
        except RecursionError:
            self._problems.append(Problem(self._name, None, "nested too deeply"))
        except ValueError as error:  # TOMLDecodeError, and numbers of too many digits
            message = str(error)
            place = _AT.search(message)
            line = int(place[1]) if place else None
            if place:
                message = f"{message[: place.start()]} (column {place[2]})"
            elif message.endswith(" (at end of document)"):
                line = self._text.count("\n") + 1
            self._problems.append(Problem(self._name, line, f"not valid TOML: {_safe(message)}"))
        return None

    def _problem(self, path: KeyPath, message: str) -> None:
        self._problems.append(Problem(self._name, self._lines.line(path), message))

    def _refuse_unknown_top(self, document: dict[str, Any]) -> None:
        tables = {table.name: table for table in TABLES[1:]}
        top = [option.name for option in TABLES[0].options]
        for key, value in document.items():
            if key in tables or key in top:
                continue
            if isinstance(value, dict | list) and not self._is_option_anywhere(key):
                hint = _suggest(key, list(tables))
                self._problem((key,), f"[{_safe(key)}]: no such table{hint}")
            else:
                self._problem((key,), self._unknown_option(TABLES[0], key))

    @staticmethod
    def _is_option_anywhere(key: str) -> bool:
        return any(table.option(key) for table in TABLES)

    def _unknown_option(self, table: Table, key: str) -> str:
        place = f"[{table.name}] " if table.name else ""
        message = f"{place}{_safe(key)}: no such option"
        for other in TABLES:
            if other is not table and other.option(key):
                where = f"belongs into {_header(other)}" if other.name else "belongs to the top"
                return f"{message} here; it {where}"
        return message + _suggest(key, [option.name for option in table.options])

    def _table(self, table: Table, found: dict[str, Any], path: KeyPath) -> dict[str, Any]:
        """Check one table's values; unknown keys of the top level are told elsewhere."""
        if table.name:
            for key in found:
                if table.option(key) is None:
                    self._problem((*path, key), self._unknown_option(table, key))
        return {option.name: self._value(table, option, found, path) for option in table.options}

    def _value(self, table: Table, option: Option, found: dict[str, Any], path: KeyPath) -> Any:
        label = f"[{table.name}] {option.name}" if table.name else option.name
        if option.name not in found:
            if option.default is None:
                self._problem(path, f"{_header(table)} has no {option.name}: {option.sentence}")
                return None
            self._note_origin(table, option, path, found)
            return option.kind.parse(option.default)
        try:
            value = option.kind.parse(found[option.name])
        except ValueError as error:
            self._problem((*path, option.name), f"{label}: {_safe(str(error))}")
            return None
        self._note_origin(table, option, (*path, option.name), found)
        return value

    def _note_origin(
        self, table: Table, option: Option, path: KeyPath, found: dict[str, Any]
    ) -> None:
        key = option.name
        if table.repeated:
            key = f"{table.name}.{found.get('name')}.{option.name}"
        elif table.name:
            key = f"{table.name}.{option.name}"
        given = option.name in found and self._file is not None
        self._origins[key] = f"{self._file}:{self._lines.line(path)}" if given else "default"

    def _place_state(
        self, values: dict[str, Any], state_directory: str | None, environ: Mapping[str, str]
    ) -> None:
        if state_directory:
            values["state_directory"] = str(Path(state_directory).absolute())
            self._origins["state_directory"] = "--state-directory"
            return
        # systemd puts several directories apart with a colon; ours is the first.
        given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
        if given and self._origins.get("state_directory") == "default":
            values["state_directory"] = given
            self._origins["state_directory"] = "$STATE_DIRECTORY"

    def _section(self, table: Table, document: dict[str, Any]) -> Any:
        found = document.get(table.name, {})
        if not isinstance(found, dict):
            what = "given more than once: write [" + table.name + "]"
            if not isinstance(found, list):
                what = f"expected a table, not {type_name(found)}"
            self._problem((table.name,), f"[{table.name}]: {what}")
            found = {}
        return _SECTIONS[table.name](**self._table(table, found, (table.name,)))

    def _listeners(self, document: dict[str, Any]) -> tuple[ListenerConfig, ...]:
        table = next(table for table in TABLES if table.repeated)
        found = document.get(table.name)
        if found is None:
            return (self._default_listener(table),)
        if not (isinstance(found, list) and all(isinstance(item, dict) for item in found)):
            self._problem((table.name,), "listener: write [[listener]], with two brackets")
            return ()
        if not 1 <= len(found) <= MAX_LISTENERS:
            count = len(found)
            self._problem((table.name,), f"{count} listeners: between 1 and {MAX_LISTENERS}")
            return ()
        listeners: list[ListenerConfig] = []
        for number, item in enumerate(found):
            path: KeyPath = (table.name, number)
            before = len(self._problems)
            listener = ListenerConfig(**self._table(table, item, path))
            if len(self._problems) == before:
                self._check_listener(listener, item, path, listeners)
            listeners.append(listener)
        return tuple(listeners)

    def _default_listener(self, table: Table) -> ListenerConfig:
        values: dict[str, Any] = {}
        for option in table.options:
            default = DEFAULT_LISTENER.get(option.name, option.default)
            values[option.name] = option.kind.parse(default)
            self._origins[f"{table.name}.{DEFAULT_LISTENER['name']}.{option.name}"] = "default"
        return ListenerConfig(**values)

    def _check_listener(
        self,
        listener: ListenerConfig,
        found: dict[str, Any],
        path: KeyPath,
        earlier: list[ListenerConfig],
    ) -> None:
        """What one option alone cannot tell."""
        label = f"[[listener]] {listener.name}"
        for other in earlier:
            if other.name == listener.name:
                self._problem((*path, "name"), f"{label}: another listener has this name already")
            if other.socket == listener.socket:
                self._problem(
                    (*path, "socket"),
                    f"{label}: {listener.socket} is the socket of listener {other.name} already",
                )
        if "mode" in found and not isinstance(listener.socket, UnixSocket):
            self._problem(
                (*path, "mode"),
                f"{label}: mode is for unix sockets; {listener.socket} has none: leave it out",
            )
        if listener.default_level in (Level.DANE, Level.DANE_ONLY) and not listener.dane:
            self._problem(
                (*path, "default_level"),
                f"{label}: default_level {listener.default_level} needs an MTA that does DANE: "
                "write dane = true",
            )

    def _check_http(self, http: HttpConfig, listeners: tuple[ListenerConfig, ...]) -> None:
        for listener in listeners:
            if http.listen is not None and http.listen == listener.socket:
                self._problem(
                    ("http", "listen"),
                    f"[http] listen: {http.listen} is the socket of listener {listener.name}",
                )


def _header(table: Table) -> str:
    return f"[[{table.name}]]" if table.repeated else f"[{table.name}]"


def _suggest(word: str, choices: list[str]) -> str:
    import difflib

    found = difflib.get_close_matches(word.lower(), choices, n=1, cutoff=0.6)
    if found:
        return f"; did you mean {found[0]}?"
    return f"; there are: {', '.join(choices)}"


def _safe(text: str) -> str:
    """Text of the file for a message: printable, of one line, short."""
    shown = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text[:300])
    return shown if len(text) <= len(shown) else shown[:300] + "…"


def diff_configs(old: Config, new: Config) -> tuple[str, ...]:
    """Name the options that differ, as the keys of `origins`; listeners by their names."""
    before, after = flatten_config(old), flatten_config(new)
    return tuple(
        sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    )


def flatten_config(config: Config) -> dict[str, Any]:
    """All typed values under the keys of `origins`, in the order of the reference."""
    values: dict[str, Any] = {}
    for table in TABLES:
        if table.repeated:
            for listener in config.listeners:
                prefix = f"{table.name}.{listener.name}."
                for field in fields(listener):
                    values[prefix + field.name] = getattr(listener, field.name)
            continue
        owner = getattr(config, table.name) if table.name else config
        prefix = f"{table.name}." if table.name else ""
        for option in table.options:
            values[prefix + option.name] = getattr(owner, option.name)
    return values
