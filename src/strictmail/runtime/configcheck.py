# SPDX-License-Identifier: Apache-2.0
"""One pass over a configuration's text: every problem with its line, every value with its origin.

Called through `strictmail.runtime.config.check_config`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strictmail.core.decision import Level
from strictmail.runtime.addresses import UnixSocket
from strictmail.runtime.config import (
    CacheConfig,
    CheckConfig,
    Config,
    DecisionConfig,
    DnsConfig,
    HttpConfig,
    ListenerConfig,
    LogConfig,
    PolicyConfig,
    Problem,
)
from strictmail.runtime.kinds import type_name
from strictmail.runtime.options import DEFAULT_LISTENER, LISTENER, TABLES
from strictmail.runtime.options_collector import (
    COLLECTOR,
    CollectorConfig,
    find_collector_problem,
)
from strictmail.runtime.options_reporter import (
    IDENTITY,
    REPORTER,
    IdentityConfig,
    ReporterConfig,
    find_identity_problems,
    find_reporter_problems,
)
from strictmail.runtime.tomllines import LineIndex

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from strictmail.runtime.option import Option, Table
    from strictmail.runtime.tomllines import KeyPath

MAX_REPEATED: Final = 64
"""Tables of one kind: each listener has its own memory of finished replies, each collector a
process of its own."""

_AT: Final = re.compile(r" \(at line (\d+), column (\d+)\)$")

_SECTIONS: Final[dict[str, type]] = {
    "log": LogConfig,
    "dns": DnsConfig,
    "policy": PolicyConfig,
    "cache": CacheConfig,
    "decision": DecisionConfig,
    "http": HttpConfig,
    "check": CheckConfig,
    "reporter": ReporterConfig,
}


class Checker:
    """The pass.

    Args:
        text: TOML.
        file: The name to use in messages and origins; None: there is no file.
    """

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
        """Check everything; see `strictmail.runtime.config.check_config`."""
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
        values["collectors"] = self._collectors(document, values["listeners"])
        values["identities"] = self._identities(document, values)
        values["roles"] = values["roles"] or self._configured_roles(values)
        self._check_reporter(values)
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
            key = f"{table.name}.{found.get('name', _default_name(table))}.{option.name}"
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
        if document.get(LISTENER.name) is None:
            return (self._default_listener(LISTENER),)
        listeners: list[ListenerConfig] = []
        for item, path, values, is_good in self._repeated(LISTENER, document):
            listener = ListenerConfig(**values)
            if is_good:
                self._check_listener(listener, item, path, listeners)
            listeners.append(listener)
        return tuple(listeners)

    def _collectors(
        self, document: dict[str, Any], listeners: tuple[ListenerConfig, ...]
    ) -> tuple[CollectorConfig, ...]:
        collectors: list[CollectorConfig] = []
        if document.get(COLLECTOR.name) is None:
            return ()
        for _, path, values, is_good in self._repeated(COLLECTOR, document):
            collector = CollectorConfig(**values)
            problem = find_collector_problem(collector, collectors) if is_good else None
            if problem is not None:
                self._problem((*path, problem[0]), problem[1])
            for listener in listeners if is_good else ():
                if listener.socket == collector.socket:
                    self._problem(
                        (*path, "socket"),
                        f"[[collector]] {collector.name}: {collector.socket} is the socket of "
                        f"listener {listener.name}",
                    )
            collectors.append(collector)
        return tuple(collectors)

    def _identities(
        self, document: dict[str, Any], values: dict[str, Any]
    ) -> tuple[IdentityConfig, ...]:
        identities: list[IdentityConfig] = []
        if document.get(IDENTITY.name) is None:
            return ()
        for _, path, found, is_good in self._repeated(IDENTITY, document):
            identity = IdentityConfig(**found)
            if is_good and not self._problems:
                for option, message in find_identity_problems(
                    identity, identities, values["reporter"]
                ):
                    self._problem((*path, option), message)
            identities.append(identity)
        return tuple(identities)

    def _check_reporter(self, values: dict[str, Any]) -> None:
        """What one table alone cannot tell."""
        if self._problems:
            return
        reporter = values["reporter"]
        for option, message in find_reporter_problems(reporter):
            self._problem((REPORTER.name, option), message)
        if "reporter" in values["roles"] and not reporter.contact:
            self._problem(("roles",), "roles: reporter needs a contact in [reporter]")
        names = {identity.name for identity in values["identities"]}
        for number, collector in enumerate(values["collectors"]):
            if collector.identity and collector.identity not in names:
                self._problem(
                    (COLLECTOR.name, number, "identity"),
                    f"[[collector]] {collector.name}: there is no [[identity]] with the name "
                    f"{collector.identity}",
                )

    @staticmethod
    def _configured_roles(values: dict[str, Any]) -> tuple[str, ...]:
        roles = ["resolver"]
        if values["collectors"]:
            roles.append("collector")
        if values["reporter"].contact:
            roles.append("reporter")
        return tuple(roles)

    def _repeated(
        self, table: Table, document: dict[str, Any]
    ) -> Iterator[tuple[dict[str, Any], KeyPath, dict[str, Any], bool]]:
        """Each table of one kind: as found, where, its values, and whether all of them are good."""
        name, found = table.name, document[table.name]
        if not (isinstance(found, list) and all(isinstance(item, dict) for item in found)):
            self._problem((name,), f"{name}: write [[{name}]], with two brackets")
            return
        if not 1 <= len(found) <= MAX_REPEATED:
            self._problem((name,), f"{len(found)} {name}s: between 1 and {MAX_REPEATED}")
            return
        for number, item in enumerate(found):
            path: KeyPath = (name, number)
            before = len(self._problems)
            values = self._table(table, item, path)
            yield item, path, values, len(self._problems) == before

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


def _default_name(table: Table) -> Any:
    option = table.option("name")
    return option.default if option is not None else None


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
