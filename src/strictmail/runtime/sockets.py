# SPDX-License-Identifier: Apache-2.0
"""Opening the sockets that servers listen on."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import ConfigError
from strictmail.runtime.addresses import InetSocket, SystemdSocket, UnixSocket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strictmail.runtime.addresses import SocketAddress

BACKLOG: Final = 4096
"""Connections that wait while one daemon hands over to the next; the kernel caps it."""


def open_socket(
    address: SocketAddress,
    *,
    mode: int = 0o666,
    passed: Mapping[str, list[socket.socket]] | None = None,
) -> socket.socket:
    """Open a listening socket, non-blocking, or take the one that systemd holds for it.

    Args:
        address: Where.
        mode: The rights of a unix socket that is opened here.
        passed: What systemd passed (`notify.passed_sockets`). A socket is taken out of it by its
            name, or because it listens on `address`: the same configuration works with and
            without a socket unit.

    Raises:
        ConfigError: The address cannot be listened on; the message says why and what to do.
    """
    if isinstance(address, SystemdSocket):
        return _take_passed(address, passed or {})
    held = _take_by_address(address, passed or {})
    if held is not None:
        return held
    try:
        if isinstance(address, UnixSocket):
            return _open_unix(address, mode)
        return _open_inet(address)
    except OSError as error:
        raise ConfigError(f"cannot listen on {address}: {error.strerror or error}") from None


def _take_passed(
    address: SystemdSocket, passed: Mapping[str, list[socket.socket]]
) -> socket.socket:
    found = passed.get(address.name)
    if not found:
        names = ", ".join(sorted(passed)) or "none"
        raise ConfigError(
            f"systemd passed no socket named {address.name} (passed: {names}); the socket unit "
            f"needs FileDescriptorName={address.name} and has to be started before the service"
        )
    sock = found.pop(0)
    sock.settimeout(0)
    return sock


def _take_by_address(
    address: InetSocket | UnixSocket, passed: Mapping[str, list[socket.socket]]
) -> socket.socket | None:
    wanted: object = (
        (address.host, address.port) if isinstance(address, InetSocket) else address.path
    )
    for sockets in passed.values():
        for number, sock in enumerate(sockets):
            bound = sock.getsockname()
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


def _open_unix(address: UnixSocket, mode: int) -> socket.socket:
    _remove_stale(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # Nobody may connect before the rights are as configured.
        before = os.umask(0o177)
        try:
            sock.bind(address.path)
        finally:
            os.umask(before)
        Path(address.path).chmod(mode)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_stale(address: UnixSocket) -> None:
    """Remove a socket that nobody listens on any more; anything else stays."""
    path = Path(address.path)
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"cannot listen on {address}: a file that is no socket is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass  # its backlog is full: somebody is there
    raise ConfigError(f"cannot listen on {address}: another process is listening there")
