# SPDX-License-Identifier: Apache-2.0
"""Opening the sockets of servers: streams that are listened on, and datagram sockets."""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import ConfigError
from strictmail.runtime.addresses import InetSocket, SystemdSocket, UnixSocket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strictmail.runtime.addresses import SocketAddress

BACKLOG: Final = 4096
"""Connections that wait while one daemon hands over to the next; the kernel caps it."""

LEFT_BEHIND_TRIES: Final = 20
"""Looks at a datagram socket that is in use: a drainer whose collector was killed holds it for
the moment that it takes to notice."""

LEFT_BEHIND_SECONDS: Final = 0.05
"""Between two of them."""


class SocketKind(enum.Enum):
    """What is sent through a socket."""

    STREAM = socket.SOCK_STREAM
    DATAGRAM = socket.SOCK_DGRAM


@dataclass(frozen=True, slots=True)
class WantedSocket:
    """A socket that a configuration asks for.

    Attributes:
        key: Its name in a hand-over; the same for the same socket of every version.
        address: Where.
        mode: The rights of a unix socket that is opened here.
        group: The group of such a socket; empty: the daemon's.
        kind: Streams or datagrams.
    """

    key: str
    address: SocketAddress
    mode: int = 0o666
    group: str = ""
    kind: SocketKind = SocketKind.STREAM


def open_wanted(wanted: WantedSocket, passed: Mapping[str, list[socket.socket]]) -> socket.socket:
    """As `open_socket`, for a socket with all its wishes."""
    return open_socket(
        wanted.address, mode=wanted.mode, group=wanted.group, kind=wanted.kind, passed=passed
    )


def open_socket(
    address: SocketAddress,
    *,
    mode: int = 0o666,
    group: str = "",
    kind: SocketKind = SocketKind.STREAM,
    passed: Mapping[str, list[socket.socket]] | None = None,
) -> socket.socket:
    """Open a socket, non-blocking, or take the one that systemd holds for it.

    Args:
        address: Where.
        mode: The rights of a unix socket that is opened here.
        group: Its group; empty: the process's.
        kind: A stream socket listens when this returns.
        passed: What systemd passed (`notify.passed_sockets`). A socket is taken out of it by its
            name, or because it listens on `address`: the same configuration works with and
            without a socket unit.

    Raises:
        ConfigError: The address cannot be listened on; the message says why and what to do.
    """
    if isinstance(address, SystemdSocket):
        return _take_passed(address, kind, passed or {})
    held = _take_by_address(address, kind, passed or {})
    if held is not None:
        return held
    try:
        if isinstance(address, UnixSocket):
            return _open_unix(address, mode, group, kind)
        return _open_inet(address)
    except OSError as error:
        raise ConfigError(f"cannot listen on {address}: {error.strerror or error}") from None


def _take_passed(
    address: SystemdSocket, kind: SocketKind, passed: Mapping[str, list[socket.socket]]
) -> socket.socket:
    found = passed.get(address.name)
    if not found:
        names = ", ".join(sorted(passed)) or "none"
        raise ConfigError(
            f"systemd passed no socket named {address.name} (passed: {names}); the socket unit "
            f"needs FileDescriptorName={address.name} and has to be started before the service"
        )
    if found[0].type != kind.value:
        directive = "ListenDatagram=" if kind is SocketKind.DATAGRAM else "ListenStream="
        raise ConfigError(
            f"the socket {address.name} that systemd passed is of the wrong kind: its unit needs "
            f"{directive}"
        )
    sock = found.pop(0)
    sock.settimeout(0)
    return sock


def _take_by_address(
    address: InetSocket | UnixSocket, kind: SocketKind, passed: Mapping[str, list[socket.socket]]
) -> socket.socket | None:
    wanted: object = (
        (address.host, address.port) if isinstance(address, InetSocket) else address.path
    )
    for sockets in passed.values():
        for number, sock in enumerate(sockets):
            bound = sock.getsockname()
            if sock.type != kind.value:
                continue
            if (bound[:2] if isinstance(bound, tuple) else bound) == wanted:
                sock.settimeout(0)
                return sockets.pop(number)
    return None


def _open_inet(address: InetSocket) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _open_unix(address: UnixSocket, mode: int, group: str, kind: SocketKind) -> socket.socket:
    owner = _find_group(address, group)
    _remove_stale(address, kind)
    sock = socket.socket(socket.AF_UNIX, kind.value | socket.SOCK_NONBLOCK)
    is_bound = False
    try:
        # Nobody may connect before the rights are as configured.
        before = os.umask(0o177)
        try:
            sock.bind(address.path)
        finally:
            os.umask(before)
        is_bound = True
        if owner is not None:
            _give_to(address, owner, group)
        Path(address.path).chmod(mode)
        if kind is SocketKind.STREAM:
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        if is_bound:
            with contextlib.suppress(OSError):
                Path(address.path).unlink()
        raise
    return sock


def _find_group(address: UnixSocket, group: str) -> int | None:
    if not group:
        return None
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(
            f"cannot give {address} to the group {group}: there is no such group on this machine"
        ) from None


def _give_to(address: UnixSocket, owner: int, group: str) -> None:
    if Path(address.path).stat().st_gid == owner:
        return
    try:
        os.chown(address.path, -1, owner)
    except OSError as error:
        raise ConfigError(
            f"cannot give {address} to the group {group}: {error.strerror}; make the user that "
            f"strictmail runs as a member of it (usermod -aG {group} strictmail), or let systemd "
            "hold the socket (SocketGroup= of the socket unit)"
        ) from None


def _remove_stale(address: UnixSocket, kind: SocketKind) -> None:
    """Remove a socket that nobody listens on any more; anything else stays."""
    path = Path(address.path)
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"cannot listen on {address}: a file that is no socket is there")
    except FileNotFoundError:
        return
    tries = LEFT_BEHIND_TRIES if kind is SocketKind.DATAGRAM else 1
    for number in range(tries):
        if number:
            time.sleep(LEFT_BEHIND_SECONDS)
        if not _is_held(address, kind):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
    raise ConfigError(f"cannot listen on {address}: another process is listening there")


def _is_held(address: UnixSocket, kind: SocketKind) -> bool:
    with socket.socket(socket.AF_UNIX, kind.value) as probe:
        probe.settimeout(0)
        try:
            probe.connect(address.path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (BlockingIOError, PermissionError):
            return True  # its backlog is full, or it is another user's: somebody is there
        except OSError as error:
            if error.errno == errno.EPROTOTYPE:
                return True  # somebody is there with a socket of the other kind
            raise
    return True
