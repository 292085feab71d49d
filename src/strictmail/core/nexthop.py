# SPDX-License-Identifier: Apache-2.0
"""The keys that an MTA asks with (`mta-facts`: Postfix keys), taken apart."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from strictmail.core.errors import DomainSyntaxError, NexthopSyntaxError
from strictmail.core.names import Domain, is_address, parse_domain

SMTP_PORT: Final = 25

SERVICE_PORTS: Final = {
    "smtp": 25,
    "lmtp": 24,
    "smtps": 465,
    "submissions": 465,
    "submission": 587,
}
"""Service names that a Postfix next-hop may carry in the place of a port number."""

_MAX_PORT_DIGITS: Final = 5
_MAX_PORT: Final = 65_535


class NexthopKind(enum.Enum):
    """What form a key has."""

    DOMAIN = "domain"
    """`example.com`, `example.com:587`: MX hosts are looked up."""
    HOST = "host"
    """`[mx.example.com]`, `[mx.example.com]:587`: an administrator's route, no MX lookup."""
    ADDRESS_LITERAL = "address-literal"
    """`[192.0.2.1]`, `[IPv6:2001:db8::1]`, bare addresses: no policy domain (STS-APP-04)."""
    PARENT = "parent"
    """`.example.com`: Postfix asks for parents; MTA-STS has none (RFC 8461 §3.4)."""


@dataclass(frozen=True, slots=True)
class Nexthop:
    """A parsed key.

    Attributes:
        kind: Its form.
        domain: Lower-case A-labels without trailing dot: the policy domain; "" for an address
            literal; for PARENT the domain behind the dot.
        port: 25 unless the key names another.
    """

    kind: NexthopKind
    domain: str
    port: int = 25


def parse_nexthop(key: str) -> Nexthop:
    """Take a next-hop apart.

    Args:
        key: As the MTA sent it: any case, with or without trailing dot, U-labels allowed.

    Raises:
        NexthopSyntaxError: Answer NOTFOUND, without DNS work.
    """
    if not key:
        raise NexthopSyntaxError("an empty next-hop", text=key)
    if is_address(key):
        # RFC 8461 §3.4: an address has no policy domain, and none is asked for (STS-APP-04).
        return Nexthop(NexthopKind.ADDRESS_LITERAL, "")
    if key.startswith("["):
        return _parse_bracketed(key)
    if key.startswith("."):
        # RFC 8461 §3.4: policies do not extend to subdomains (STS-APP-03, STS-REC-28).
        return Nexthop(NexthopKind.PARENT, _parse_name(key[1:], key))
    # RFC 8461 §1.1: the next-hop domain is the policy domain, as it was given (STS-APP-01,
    # STS-APP-05).
    name, port = _split_port(key, key)
    if is_address(name):
        return Nexthop(NexthopKind.ADDRESS_LITERAL, "", port)
    return Nexthop(NexthopKind.DOMAIN, _parse_name(name, key), port)


def _parse_bracketed(key: str) -> Nexthop:
    inside, closed, rest = key[1:].partition("]")
    if not closed:
        raise NexthopSyntaxError("no `]` to the `[`", text=key, position=len(key))
    if rest and not rest.startswith(":"):
        raise NexthopSyntaxError(
            "behind `]` comes `:port` or nothing", text=key, position=len(inside) + 2
        )
    _, port = _split_port(rest, key) if rest else ("", SMTP_PORT)
    address = inside[5:] if inside[:5].lower() == "ipv6:" else inside
    if is_address(address):
        # RFC 8461 §3.4: `_mta-sts.[192.0.2.1]` is never asked for (STS-APP-04).
        return Nexthop(NexthopKind.ADDRESS_LITERAL, "", port)
    # RFC 8461 §3.4: a smart host's name is the policy domain (STS-APP-02).
    return Nexthop(NexthopKind.HOST, _parse_name(inside, key), port)


def _split_port(text: str, key: str) -> tuple[str, int]:
    name, colon, port = text.partition(":")
    if not colon:
        return name, SMTP_PORT
    if port.isascii() and port.isdigit() and len(port) <= _MAX_PORT_DIGITS:
        number = int(port)
        if 1 <= number <= _MAX_PORT:
            return name, number
    elif port.lower() in SERVICE_PORTS:
        return name, SERVICE_PORTS[port.lower()]
    raise NexthopSyntaxError(
        f"not a port: a number from 1 to {_MAX_PORT}, or one of {', '.join(SERVICE_PORTS)}",
        text=key,
        position=key.rindex(port) if port else len(key),
    )


def _parse_name(name: str, key: str) -> Domain:
    try:
        # BCP: a mail address is no next-hop: nothing that DNS and policy hosts see names a user
        # (SEC-28).
        return parse_domain(name)
    except DomainSyntaxError as error:
        raise NexthopSyntaxError(f"not a next-hop: {error}", text=key) from error
