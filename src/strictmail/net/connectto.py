# SPDX-License-Identifier: Apache-2.0
"""Where to connect instead: `--connect-to HOST1:PORT1:HOST2:PORT2`, as curl has it.

Knows the syntax and which entry applies to a connection; nothing of names in DNS, SNI and
certificates, which stay as they are: only the far end of the TCP or UDP connection moves. So a
check runs against a lab or a staging system with the names of production.

HOST1 and PORT1 say which connections are meant, and are empty for any; beside a name, HOST1 may
be the address that would be connected to. HOST2 and PORT2 say where they go, and are empty to
leave that part as it is. The first entry that applies is used. IPv6 addresses stand in brackets.

A HOST2 that is a name is looked up once, by `resolved`, before the map is used: whoever makes a
map from a command line calls it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from strictmail.core.dnsvalues import RecordType
from strictmail.core.errors import DomainSyntaxError, SyntaxFault, UnreachableError
from strictmail.core.names import fold, is_address, parse_domain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from strictmail.ports import Resolver

FORM: Final = "HOST1:PORT1:HOST2:PORT2"

_PARTS: Final = 4
_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class ConnectRule:
    """One entry.

    Attributes:
        host: Name or address of the connections that are meant; "" for any.
        port: Their port; 0 for any.
        to_host: Where they go: an address, or a name until it is resolved; "" leaves it.
        to_port: And at which port; 0 leaves it.
    """

    host: str = ""
    port: int = 0
    to_host: str = ""
    to_port: int = 0

    def applies(self, host: str, address: str, port: int) -> bool:
        """Whether a connection is meant."""
        return self.port in (0, port) and self.host in ("", host, address)


@dataclass(frozen=True, slots=True)
class ConnectMap:
    """All entries, in order; an empty map leaves everything as it is."""

    rules: tuple[ConnectRule, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> ConnectMap:
        """Read entries as from a command line.

        Raises:
            SyntaxFault: One is malformed; the message says where, and what belongs there.
        """
        return cls(tuple(_parse_rule(entry) for entry in entries))

    @property
    def names(self) -> tuple[str, ...]:
        """The HOST2 that are names, each once."""
        found = (rule.to_host for rule in self.rules)
        return tuple(dict.fromkeys(host for host in found if host and not is_address(host)))

    async def resolved(self, resolver: Resolver) -> ConnectMap:
        """The same map with addresses in the place of names: IPv4 before IPv6.

        Raises:
            UnreachableError: A name has no address.
        """
        found = {name: await _first_address(resolver, name) for name in self.names}
        return ConnectMap(
            tuple(
                replace(rule, to_host=found.get(rule.to_host, rule.to_host)) for rule in self.rules
            )
        )

    def target(self, host: str, address: str, port: int) -> tuple[str, int]:
        """Where to connect.

        Args:
            host: The name of the host, lower case; "" where there is none.
            address: Where it is.
            port: Which service.

        Returns:
            Address (HOST2 as it stands, if the map was not `resolved`) and port.
        """
        for rule in self.rules:
            if rule.applies(host, address, port):
                return rule.to_host or address, rule.to_port or port
        return address, port


STRAIGHT: Final = ConnectMap()
"""Every connection goes where it says."""


async def _first_address(resolver: Resolver, name: str) -> str:
    for rdtype in (RecordType.A, RecordType.AAAA):
        answer = await resolver.lookup(name, rdtype)
        for record in answer.records:
            return str(record)
    raise UnreachableError(f"--connect-to: {name} has no address: give one, as in `::192.0.2.1:`")


def _parse_rule(entry: str) -> ConnectRule:
    parts = _split(entry)
    host1, port1, host2, port2 = parts
    return ConnectRule(
        _parse_host(entry, *host1),
        _parse_port(entry, *port1),
        _parse_host(entry, *host2),
        _parse_port(entry, *port2),
    )


def _split(entry: str) -> Sequence[tuple[str, int]]:
    """The four parts and their offsets; colons inside brackets do not separate."""
    parts = []
    start = 0
    while True:
        end = start
        if entry.startswith("[", start):
            end = entry.find("]", start)
            if end < 0:
                raise _fault(entry, start, "the `[` has no `]`: close it behind the address")
        end = entry.find(":", end)
        parts.append((entry[start : end if end >= 0 else len(entry)], start))
        if end < 0:
            break
        start = end + 1
    if len(parts) > _PARTS:
        hint = "IPv6 addresses stand in brackets, as in `[2001:db8::1]`"
        raise _fault(entry, parts[_PARTS][1] - 1, f"more than three colons: {hint}")
    if len(parts) < _PARTS:
        missing = _PARTS - len(parts)
        raise _fault(entry, len(entry), f"{missing} more `:` needed: a part may be empty")
    return parts


def _parse_host(entry: str, text: str, position: int) -> str:
    if not text:
        return ""
    if text.startswith("["):
        inside = text[1:-1]
        if not text.endswith("]") or not is_address(inside):
            raise _fault(entry, position, "in brackets stands an address and nothing else")
        return inside.lower()
    if is_address(text):
        return text
    try:
        return fold(parse_domain(text))
    except DomainSyntaxError as error:
        raise _fault(entry, position, f"not a host name or address: {error}") from error


def _parse_port(entry: str, text: str, position: int) -> int:
    if not text:
        return 0
    if text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_PORT)):
        number = int(text)
        if 1 <= number <= _MAX_PORT:
            return number
    raise _fault(entry, position, f"not a port: a number from 1 to {_MAX_PORT}, or nothing for any")


def _fault(entry: str, position: int, what: str) -> SyntaxFault:
    return SyntaxFault(
        f"--connect-to {entry!a}: at character {position + 1}: {what} ({FORM})",
        text=entry,
        position=position,
    )
