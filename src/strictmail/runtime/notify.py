# SPDX-License-Identifier: Apache-2.0
"""Talking to systemd: readiness, watchdog (sd_notify(3)) and passed sockets (sd_listen_fds(3)).

Without systemd every call does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST_PASSED_FD: Final = 3
"""SD_LISTEN_FDS_START."""

MAX_PASSED: Final = 1024


class Notifier:
    """Tells the service manager how the service is.

    Args:
        address: $NOTIFY_SOCKET, or empty for nobody.
    """

    def __init__(self, address: str = "") -> None:
        # `@` stands for the NUL of the abstract name space.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Notifier:
        """A notifier for the manager that started this process, if one did."""
        return cls(environ.get("NOTIFY_SOCKET", ""))

    def send(self, *assignments: str) -> bool:
        """Send `NAME=value` lines; whether somebody got them. Never raises for a deaf manager."""
        if not self._address:
            return False
        data = "\n".join(assignments).encode("utf-8", "replace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(0)
                sock.sendto(data, self._address)
        except OSError:
            return False
        return True

    def ready(self, status: str = "") -> bool:
        """Start-up or reload has come to its end."""
        return self.send("READY=1", *_status(status))

    def reloading(self) -> bool:
        """A reload begins; the manager waits for `ready` (Type=notify-reload)."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self.send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def stopping(self, status: str = "") -> bool:
        """The end begins."""
        return self.send("STOPPING=1", *_status(status))

    def watchdog(self) -> bool:
        """Still alive."""
        return self.send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """A line for `systemctl status`."""
        return self.send(*_status(text))


def _status(text: str) -> list[str]:
    return [f"STATUS={' '.join(text.split())}"] if text else []


def watchdog_seconds(
    environ: Mapping[str, str] = os.environ, pid: int | None = None
) -> float | None:
    """How often the manager wants to hear `watchdog`, or None when it does not."""
    wanted = environ.get("WATCHDOG_PID", "")
    if wanted and wanted != str(pid if pid is not None else os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    if not (text.isascii() and text.isdecimal()) or int(text) == 0:
        return None
    return int(text) / 1_000_000


def passed_sockets(
    environ: Mapping[str, str] = os.environ, pid: int | None = None
) -> dict[str, list[socket.socket]]:
    """The listening sockets that systemd passed, by their `FileDescriptorName=`.

    They are taken over: not inherited by children, and closed with their socket objects. Call it
    once.
    """
    if environ.get("LISTEN_PID") != str(pid if pid is not None else os.getpid()):
        return {}
    count = environ.get("LISTEN_FDS", "")
    if not (count.isascii() and count.isdecimal()) or int(count) > MAX_PASSED:
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    passed: dict[str, list[socket.socket]] = {}
    for number in range(int(count)):
        # A descriptor without a name is called "unknown", as sd_listen_fds_with_names(3) does.
        name = names[number] if number < len(names) and names[number] else "unknown"
        os.set_inheritable(FIRST_PASSED_FD + number, False)  # noqa: FBT003 - its signature
        passed.setdefault(name, []).append(socket.socket(fileno=FIRST_PASSED_FD + number))
    return passed
