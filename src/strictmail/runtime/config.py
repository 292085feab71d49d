# SPDX-License-Identifier: Apache-2.0
"""The configuration: a file checked against the options, typed, each value with its origin.

Knows the order in which places are looked at. What the options are stands in
`strictmail.runtime.options`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strictmail.core.decision import ListenerProfile
from strictmail.core.errors import ConfigError
from strictmail.runtime.options import DEFAULT_CONFIG_PATH, TABLES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from strictmail.core.decision import FailureStance, Level, PartialDane, TestingStance
    from strictmail.runtime.addresses import SocketAddress
    from strictmail.runtime.options import Dialect, LogFormat, LogLevel, TrustAd
    from strictmail.runtime.options_collector import CollectorConfig
    from strictmail.runtime.options_reporter import IdentityConfig, ReporterConfig

MAX_CONFIG_BYTES: Final = 1024 * 1024
"""A configuration is some hundred bytes; what is larger is some other file."""


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
        roles: What to run: as named, or all that are configured.
        listeners: At least one; names and sockets all different.
        collectors: Any number; names and sockets all different.
        identities: Any number, beside the one of `reporter`; names all different.
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
    collectors: tuple[CollectorConfig, ...]
    reporter: ReporterConfig
    identities: tuple[IdentityConfig, ...]
    path: str | None
    origins: Mapping[str, str]

    @property
    def policies_path(self) -> str:
        """The file of the policy store."""
        return os.path.join(self.state_directory, "policies.sqlite3")  # noqa: PTH118 - a str is wanted

    @property
    def sessions_path(self) -> str:
        """The file of the session counts and of the reports made of them."""
        return os.path.join(self.state_directory, "reports.sqlite3")  # noqa: PTH118 - a str is wanted


_REPEATED: Final = {"listener": "listeners", "collector": "collectors", "identity": "identities"}
"""Tables that may come more than once -> where they are in a Config."""


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
    from strictmail.runtime.configcheck import Checker

    return Checker(text, file).run(state_directory, environ or {})


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
            for one in getattr(config, _REPEATED[table.name]):
                prefix = f"{table.name}.{one.name}."
                for field in fields(one):
                    values[prefix + field.name] = getattr(one, field.name)
            continue
        owner = getattr(config, table.name) if table.name else config
        prefix = f"{table.name}." if table.name else ""
        for option in table.options:
            values[prefix + option.name] = getattr(owner, option.name)
    return values
