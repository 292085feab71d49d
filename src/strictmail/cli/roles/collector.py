# SPDX-License-Identifier: Apache-2.0
"""The collector as a role: datagram sockets that MTAs write to, and `POST /v1/session`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strictmail.cli.roles.role import Banner
from strictmail.collector.http import CollectorWeb
from strictmail.collector.role import DRAIN_SECONDS, Collector
from strictmail.core.errors import StoreUnavailableError
from strictmail.runtime.addresses import UnixSocket
from strictmail.runtime.sockets import SocketKind, WantedSocket
from strictmail.store.sessions import SessionStore

if TYPE_CHECKING:
    import socket

    from strictmail.cli.roles.role import Host
    from strictmail.runtime.config import Config
    from strictmail.runtime.options_collector import CollectorConfig

COMMIT_SECONDS: Final = 10.0
"""What the last commit may take, beyond emptying the queues."""

POSTFIX_QUEUE: Final = "/var/spool/postfix/"
"""Postfix's queue directory, unless it says otherwise: paths below it are named from there."""


class CollectorRole:
    """Counts sessions (`strictmail.cli.roles.role.Role`).

    Args:
        host: The daemon.
    """

    name = "collector"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._sockets: dict[CollectorConfig, socket.socket] = {}
        self._collector: Collector | None = None
        self._identities: set[str] = set()

    # ---- life ---------------------------------------------------------------------------

    def drain_seconds(self, config: Config) -> float:  # noqa: ARG002 - the protocol's signature
        """To empty the queues, one process for each, and to commit."""
        return DRAIN_SECONDS + COMMIT_SECONDS

    def wanted_sockets(self, config: Config) -> list[WantedSocket]:
        """One for each table."""
        return [
            WantedSocket(
                str(collector.socket),
                collector.socket,
                mode=collector.mode,
                group=collector.group,
                kind=SocketKind.DATAGRAM,
            )
            for collector in config.collectors
        ]

    async def start(self, config: Config) -> None:
        """Open the store and drain."""
        store, is_open = await asyncio.to_thread(self._open_store, config)
        self._collector = Collector(
            store, self._take_sockets(config), clock=self._host.clock, events=self._host.events
        )
        self._collector.store_failing = not is_open
        await self._collector.start()
        self._tell_open()

    async def apply(self, config: Config) -> None:
        """Drain other sockets; no datagram of those that stay is missed."""
        before = dict(self._sockets)
        await self._running.replace_sockets(self._take_sockets(config))
        for gone in [collector for collector in before if collector not in self._sockets]:
            before[gone].close()
        if before.keys() != self._sockets.keys():
            self._tell_open()

    def stop_accepting(self) -> None:
        """Nothing to do: what is in the queues was taken by the kernel, and is drained."""

    async def drain(self) -> None:
        """Empty the queues and commit."""
        if self._collector is not None:
            await self._collector.stop()

    async def stop(self) -> None:
        """The same where `drain` was not reached; then close."""
        if self._collector is None:
            return
        await self._collector.stop()
        for source in self._sockets.values():
            source.close()
        await asyncio.to_thread(self._collector.store.close)

    def is_alive(self) -> bool:
        """Whether counts are committed."""
        return self._collector is None or self._collector.is_alive()

    def fault(self) -> str:
        """Without its committing task nothing is counted."""
        if self._collector is not None and not self._collector.is_alive():
            return "the collector has ended"
        return ""

    def tick(self, number: int) -> None:
        """Nothing to look after: drainers have their own supervisors."""

    def status(self) -> str:
        """How many sockets."""
        return f"{len(self._sockets)} TLSRPT socket(s)"

    def web(self) -> CollectorWeb:
        """Sessions over HTTP."""
        return CollectorWeb(self._running, self._identities)

    def banner(self, config: Config) -> Banner:
        """Where datagrams go to, and what to put into Postfix's main.cf."""
        places = tuple(
            f"{collector.name}: {self._host.place(collector.socket, str(collector.socket))} "
            "(TLSRPT datagrams)"
            for collector in config.collectors
        )
        return Banner(
            places=places,
            state=(f"session counts: {config.sessions_path}",),
            paths=("/v1/session",),
            advice=tuple(line for one in config.collectors for line in postfix_lines(one)),
        )

    # ---- parts --------------------------------------------------------------------------

    @property
    def _running(self) -> Collector:
        assert self._collector is not None
        return self._collector

    def _open_store(self, config: Config) -> tuple[SessionStore, bool]:
        """Open it, or go on from memory until it can be; whether it is open.

        Raises:
            SchemaTooNewError: A newer strictmail wrote it.
        """
        path = Path(config.sessions_path)
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            return SessionStore(path), True
        except (OSError, StoreUnavailableError) as error:
            self._host.events.emit("session-store-unavailable", error=str(error))
            return SessionStore(path, open_now=False), False

    def _take_sockets(self, config: Config) -> list[tuple[str, socket.socket]]:
        """Ours of the daemon's sockets: copies, since it closes its own before a drain."""
        self._identities.clear()
        self._identities.update(identity.name for identity in config.identities)
        self._sockets = {
            collector: self._sockets.get(collector)
            or self._host.opened(str(collector.socket)).dup()
            for collector in config.collectors
        }
        return [(collector.identity, source) for collector, source in self._sockets.items()]

    def _tell_open(self) -> None:
        for collector in self._sockets:
            self._host.events.emit(
                "collector-open",
                collector=collector.name,
                socket=self._host.place(collector.socket, str(collector.socket)),
                identity=collector.identity,
            )


def postfix_lines(collector: CollectorConfig) -> tuple[str, ...]:
    """The lines of main.cf for a socket."""
    name = "(the path of ListenDatagram= in the socket unit)"
    if isinstance(collector.socket, UnixSocket):
        name = collector.socket.path.removeprefix(POSTFIX_QUEUE)
    return (
        "",
        "In the main.cf of Postfix 3.10 or later, then `postfix reload`:",
        "  smtp_tlsrpt_enable = yes",
        f"  smtp_tlsrpt_socket_name = {name}",
        "  smtp_tlsrpt_skip_reused_handshakes = no",
    )
