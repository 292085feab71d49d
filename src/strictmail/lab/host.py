# SPDX-License-Identifier: Apache-2.0
"""What MX hosts and policy hosts have in common: an address, a certificate, and a fault.

Knows how a host starts, takes on a fault and stops; what it says is its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from strictmail.lab.connection import Listener

if TYPE_CHECKING:
    from strictmail.lab.ca import Credentials
    from strictmail.lab.connection import Connection

F = TypeVar("F")


class FaultyHost(Generic[F]):
    """A server of the lab whose fault can be changed while it runs.

    Args:
        credentials: What it shows.
        fault: What it does wrong.
        refuse: The fault with which nobody listens.
    """

    def __init__(self, credentials: Credentials, fault: F, refuse: F) -> None:
        self.credentials = credentials
        self.fault = fault
        self._refuse = refuse
        self._listener = Listener(self._serve)
        self._address = ("", 0)

    def start(self, address: str, port: int) -> int:
        """Listen; returns the port.

        Raises:
            OSError: The address is taken.
        """
        port = self._listener.bind(address, port)
        self._address = (address, port)
        self.behave(self.fault)
        return port

    def behave(self, fault: F, credentials: Credentials | None = None) -> None:
        """Take on a fault, or put it away, from the next connection on."""
        self.fault = fault
        self.credentials = credentials or self.credentials
        if fault is self._refuse:
            self._listener.shut()
        elif not self._listener.is_open:
            self._listener.bind(*self._address)

    async def close(self) -> None:
        """Stop."""
        await self._listener.close()

    async def _serve(self, connection: Connection) -> None:
        """Talk to one client."""
        raise NotImplementedError
