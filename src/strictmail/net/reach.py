# SPDX-License-Identifier: Apache-2.0
"""Whether this machine gets anywhere at all: a route, a TCP connection. Says nothing to anybody."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from strictmail.net.connectto import STRAIGHT
from strictmail.net.tls import ClientConnection

if TYPE_CHECKING:
    from strictmail.net.connectto import ConnectMap


class NetReach:
    """Asks the machine; implements `ports.Reach`.

    Args:
        connect_map: Where connections go instead.
    """

    def __init__(self, connect_map: ConnectMap = STRAIGHT) -> None:
        self._connect_map = connect_map

    def has_route(self, host: str, address: str, port: int) -> bool:
        """See `ports.Reach`."""
        target = self._connect_map.target(host, address, port)
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                # A datagram socket that connects only has its route chosen: nothing is sent.
                sock.connect(target)
        except OSError:
            return False
        return True

    async def connects(self, host: str, address: str, port: int, seconds: float) -> bool:
        """See `ports.Reach`."""
        target = self._connect_map.target(host, address, port)
        try:
            async with asyncio.timeout(seconds):
                connection = await ClientConnection.open(*target)
        except OSError:  # TimeoutError too
            return False
        connection.close()
        return True
