# SPDX-License-Identifier: Apache-2.0
"""Where a server socket lives: `inet:127.0.0.1:8461`, `unix:/run/x/s`, `systemd:name`.

Knows the text forms and nothing of sockets themselves.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

MAX_UNIX_PATH_BYTES: Final = 107
"""`sun_path` of Linux holds 108 octets, the last of them a NUL (unix(7))."""

_MAX_PORT: Final = 65_535
_SYSTEMD_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,255}")


@dataclass(frozen=True, slots=True)
class InetSocket:
    """A TCP socket: an IP address without brackets, and a port (0: any free one)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"inet:{format_host_port(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A stream socket in the file system; the path is absolute."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class SystemdSocket:
    """A socket that systemd passes on start, by its `FileDescriptorName=`."""

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}"


SocketAddress = InetSocket | UnixSocket | SystemdSocket


def format_host_port(host: str, port: int) -> str:
    """Write an address and a port, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_host_port(text: str, *, default_port: int | None = None) -> tuple[str, int]:
    """Read `address:port`, `[v6]:port` and, with a default port, a bare address.

    Returns:
        The address in its shortest form, and the port.

    Raises:
        ValueError: A sentence that names the fault; show it.
    """
    host, port_text = _split_port(text, bare_address=default_port is not None)
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        hint = "; for this machine write 127.0.0.1" if host.lower() == "localhost" else ""
        raise ValueError(f"{host!r} is not an IP address{hint}") from None
    if port_text is None:
        if default_port is None:
            raise ValueError(f"{text!r} has no port; write {format_host_port(host, 8461)!r}")
        return host, default_port
    if not (port_text.isascii() and port_text.isdecimal() and len(port_text) <= len("65535")):
        raise ValueError(f"{port_text!r} is not a port number")
    if int(port_text) > _MAX_PORT:
        raise ValueError(f"port {port_text} is above {_MAX_PORT}")
    return host, int(port_text)


def _split_port(text: str, *, bare_address: bool) -> tuple[str, str | None]:
    """Split off the port; a bare IPv6 address has none."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not of the form [address]:port")
        return host, rest[1:] if rest else None
    if text.count(":") > 1:
        if bare_address:
            return text, None
        raise ValueError(f"{text!r} needs brackets around the IPv6 address: [address]:port")
    host, colon, port_text = text.partition(":")
    return host, port_text if colon else None


def parse_socket(text: str, *, bare_inet: bool = False) -> SocketAddress:
    """Read a socket's specification.

    Args:
        text: `inet:ADDRESS:PORT`, `unix:/PATH` or `systemd:NAME`.
        bare_inet: `inet:` may be left out.

    Raises:
        ValueError: A sentence that names the fault; show it.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "inet":
        return InetSocket(*parse_host_port(rest))
    if colon and scheme == "unix":
        return UnixSocket(_unix_path(rest))
    if colon and scheme == "systemd":
        if not _SYSTEMD_NAME.fullmatch(rest):
            raise ValueError(f"{rest!r} is not a name that systemd gives to a socket")
        return SystemdSocket(rest)
    if bare_inet:
        return InetSocket(*parse_host_port(text))
    if text.startswith("/"):
        raise ValueError(f"write {'unix:' + text!r} for a unix socket")
    raise ValueError(
        f"{text!r} is none of inet:ADDRESS:PORT, unix:/PATH and systemd:NAME"
        + (f"; did you mean {'inet:' + text!r}?" if text[:1].isdecimal() else "")
    )


def _unix_path(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"the path of a unix socket is absolute, {path!r} is not")
    if "\0" in path or not path.isprintable():
        raise ValueError("the path of a unix socket has a character that cannot be printed")
    length = len(path.encode("utf-8", "surrogateescape"))
    if length > MAX_UNIX_PATH_BYTES:
        raise ValueError(
            f"the path of a unix socket is {length} octets, the system allows {MAX_UNIX_PATH_BYTES}"
        )
    return path
