# SPDX-License-Identifier: Apache-2.0
"""The options of the collector: one table for each datagram socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.runtime import kinds
from strictmail.runtime.addresses import InetSocket
from strictmail.runtime.option import Option, Table

if TYPE_CHECKING:
    from strictmail.runtime.addresses import SocketAddress

DEFAULT_SOCKET: Final = "unix:/var/spool/postfix/strictmail/tlsrpt"
"""Below Postfix's queue directory: the same place with and without chroot."""

COLLECTOR: Final = Table(
    "collector",
    "A datagram socket that Postfix 3.10 and later tell their sessions to; there may be many, such "
    "as one for each Postfix that reports under a name of its own.",
    (
        Option(
            "name",
            kinds.Text(
                r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}",
                "1 to 32 letters, digits, hyphens and underscores",
                "tlsrpt",
            ),
            "tlsrpt",
            "Its name in logs; each has its own.",
        ),
        Option(
            "socket",
            kinds.Socket(),
            DEFAULT_SOCKET,
            "Where Postfix sends to: a unix socket, or one that systemd holds.",
            "`smtp_tlsrpt_socket_name` in main.cf names it; a chrooted Postfix reaches only what "
            "is below its queue directory.",
        ),
        Option(
            "mode",
            kinds.FileMode(),
            "0660",
            "The rights of a socket that is opened here; who may write to it can report anything.",
        ),
        Option(
            "group",
            kinds.Text(
                r"([A-Za-z0-9_.-]{1,32}\$?)?", "the name of a group, or an empty string", "postfix"
            ),
            "postfix",
            "The group of a socket that is opened here, which Postfix has to be in; empty: the "
            "daemon's own.",
        ),
        Option(
            "identity",
            kinds.Text(
                r"([A-Za-z0-9][A-Za-z0-9_-]{0,31})?",
                "1 to 32 letters, digits, hyphens and underscores, or an empty string",
                "brand",
            ),
            "",
            "The sender identity under which its sessions are reported; empty: the only one.",
        ),
    ),
    repeated=True,
)


@dataclass(frozen=True, slots=True)
class CollectorConfig:
    """One `[[collector]]`. `group` is empty for the daemon's own, `identity` for the only one."""

    name: str
    socket: SocketAddress
    mode: int
    group: str
    identity: str


def find_collector_problem(
    collector: CollectorConfig, earlier: list[CollectorConfig]
) -> tuple[str, str] | None:
    """What one option alone cannot tell: the option at fault, and a sentence; None: nothing."""
    label = f"[[collector]] {collector.name}"
    if isinstance(collector.socket, InetSocket):
        return "socket", (
            f"{label}: Postfix sends to unix sockets only: write unix:/PATH or systemd:NAME"
        )
    for other in earlier:
        if other.name == collector.name:
            return "name", f"{label}: another collector has this name already"
        if other.socket == collector.socket:
            return "socket", (
                f"{label}: {collector.socket} is the socket of collector {other.name} already"
            )
    return None
