# SPDX-License-Identifier: Apache-2.0
"""What a role of the daemon is: its turns in the daemon's life, and what it lends the others.

The daemon (`strictmail.cli.serve`) has what roles share: configuration, sockets, hand-over, the
HTTP listener, the life itself. A role has its own work and nothing else; roles do not know of each
other. The order is::

    wanted_sockets ─ sockets opened ─ start ─ [apply at each reload] ─ stop_accepting ─ drain ─ stop

A role of which a part has failed for good says so in `fault`: the daemon ends, so that it is
started anew as a whole, instead of living on by half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from strictmail.runtime.addresses import SocketAddress
    from strictmail.runtime.clock import SystemClock
    from strictmail.runtime.config import Config
    from strictmail.runtime.logs import EventLog
    from strictmail.runtime.operations import WebPart
    from strictmail.runtime.sockets import WantedSocket


class Host(Protocol):
    """What a role is lent by the daemon."""

    @property
    def clock(self) -> SystemClock:
        """The time."""
        ...

    @property
    def events(self) -> EventLog:
        """The log."""
        ...

    @property
    def is_replaced(self) -> bool:
        """Whether a successor has the sockets already."""
        ...

    def opened(self, key: str) -> socket.socket:
        """A socket that the role wanted; it stays the daemon's, to be closed by it."""
        ...

    def is_own(self, key: str) -> bool:
        """Whether a socket ends with the daemon: neither systemd nor a successor holds it."""
        ...

    def place(self, address: SocketAddress, key: str) -> str:
        """Where a socket really is, for people: with the port that was chosen for port 0."""
        ...


@dataclass(frozen=True, slots=True)
class Banner:
    """What a role tells on a terminal once it is ready.

    Attributes:
        places: What is where, a line each.
        state: How it is, a line each.
        paths: Paths of the HTTP listener that people want to know.
        advice: What to put where; a block begins with an empty line.
        question: A last block: how to try it.
    """

    places: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    question: tuple[str, ...] = ()


class Role(Protocol):
    """One role of the daemon.

    Attributes:
        name: As in the configuration.
    """

    name: str

    def drain_seconds(self, config: Config) -> float:
        """How long `drain` may take."""
        ...

    def wanted_sockets(self, config: Config) -> Sequence[WantedSocket]:
        """The sockets that a configuration asks for; the daemon opens them before `start`."""
        ...

    async def start(self, config: Config) -> None:
        """Open everything, and begin to serve.

        Raises:
            StrictmailError: It cannot; `stop` is called all the same.
        """
        ...

    async def apply(self, config: Config) -> None:
        """Take over a changed configuration; or raise, and stay as it was."""
        ...

    def stop_accepting(self) -> None:
        """Take nothing new; returns at once. The daemon closes its sockets next."""
        ...

    async def drain(self) -> None:
        """Finish what was taken. May be cancelled."""
        ...

    async def stop(self) -> None:
        """Close everything and write down what has to outlive the process."""
        ...

    def is_alive(self) -> bool:
        """Whether the watchdog may be told so."""
        ...

    def fault(self) -> str:
        """Why the daemon has to end, "" as long as it need not."""
        ...

    def tick(self, number: int) -> None:
        """Twice a second: whatever has to be looked after. Must not wait."""
        ...

    def status(self) -> str:
        """A few words for the service manager."""
        ...

    def web(self) -> WebPart:
        """Its part of the HTTP listener; asked for after `start`."""
        ...

    def banner(self, config: Config) -> Banner:
        """What to tell on a terminal."""
        ...
