# SPDX-License-Identifier: Apache-2.0
"""The resolver as a role: an engine in its own thread, and the listeners that MTAs ask."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

from strictmail.cli.banner import ask_command, mta_lines
from strictmail.cli.composition import open_engine
from strictmail.cli.roles.role import Banner
from strictmail.resolver.http import ResolverWeb
from strictmail.resolver.role import SWITCH_SECONDS, Bridge, EngineThread
from strictmail.resolver.socketmap import Listener
from strictmail.runtime.eventloop import new_event_loop
from strictmail.runtime.sockets import WantedSocket

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from strictmail.cli.composition import EngineParts
    from strictmail.cli.roles.role import Host
    from strictmail.core.errors import FrameError
    from strictmail.runtime.config import Config, ListenerConfig

T = TypeVar("T")

LINGER_SECONDS: Final = 0.5
"""How long answered clients have to go by themselves when the daemon stops."""

DRAIN_MARGIN_SECONDS: Final = 2.0
"""What a client may take, beyond the longest answer, to notice that it is time to go."""

ENGINE_CLOSE_SECONDS: Final = 10.0
"""What the engine may take to write down what was learnt, before the process ends without."""

ENGINE_SILENCE_SECONDS: Final = 30.0
"""An engine whose loop has not turned for so long is stuck: the watchdog is told no more."""

TICK_SECONDS: Final = 0.5
"""Between two calls of `tick`."""


class ResolverRole:
    """Answers MTAs (`strictmail.cli.roles.role.Role`).

    Args:
        host: The daemon.
    """

    name = "resolver"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._events = host.events
        self._servers: dict[str, asyncio.Server] = {}
        self._listeners: dict[str, tuple[ListenerConfig, Listener]] = {}
        self._retired: list[Listener] = []
        self._engine_beat = 0.0
        self._thread: EngineThread | None = None
        self._parts: EngineParts | None = None
        self._bridge: Bridge | None = None

    # ---- life ---------------------------------------------------------------------------

    def drain_seconds(self, config: Config) -> float:
        """The longest answer, and a margin."""
        return config.decision.answer_deadline.total_seconds() + DRAIN_MARGIN_SECONDS

    def wanted_sockets(self, config: Config) -> list[WantedSocket]:
        """One for each listener."""
        return [
            WantedSocket(str(listener.socket), listener.socket, listener.mode)
            for listener in config.listeners
        ]

    async def start(self, config: Config) -> None:
        """Open the cache, then the listeners."""
        self._thread = EngineThread(new_event_loop)
        self._thread.start()
        self._parts = await self._on_engine(open_engine(config, self._events))
        self._engine_beat = self._host.clock.monotonic()
        self._bridge = Bridge(
            self._parts.engine,
            engine_loop=self._thread.loop,
            serving_loop=asyncio.get_running_loop(),
            clock=self._host.clock,
            events=self._events,
        )
        self._tell_validation(config)
        await self._listen(config)
        # Bounds what a lookup waits for the engine.
        sys.setswitchinterval(SWITCH_SECONDS)

    async def apply(self, config: Config) -> None:
        """New adapters, then the listeners that are new or changed."""
        await self._on_engine(self._engine_parts.replace_adapters(config))
        await self._listen(config)
        self._tell_validation(config)

    def stop_accepting(self) -> None:
        """Close the servers."""
        for server in self._servers.values():
            server.close()

    async def drain(self) -> None:
        """Answer what was asked, let every client see EOF."""
        listeners = [listener for _, listener in self._listeners.values()]
        for listener in listeners:
            listener.drain()
        await asyncio.gather(*(listener.answered.wait() for listener in listeners))
        # An idle client notices the EOF when it asks next; by then this process may be gone: the
        # EOF has long arrived, and it is what the client reads.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await asyncio.gather(*(listener.empty.wait() for listener in listeners))

    async def stop(self) -> None:
        """Close every connection; write down what was learnt."""
        self.stop_accepting()
        for _, listener in self._listeners.values():
            for connection in list(listener.connections):
                connection.close()
        if self._thread is not None and self._thread.is_alive():
            if self._parts is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ENGINE_CLOSE_SECONDS):
                        await self._on_engine(self._parts.close())
            self._thread.stop()

    def is_alive(self) -> bool:
        """Whether the engine's loop has turned lately; the serving loop is the one that asks."""
        return self._host.clock.monotonic() - self._engine_beat < ENGINE_SILENCE_SECONDS

    def fault(self) -> str:
        """Without its thread there is no engine."""
        if self._thread is not None and not self._thread.is_alive():
            return "the engine's thread has ended"
        return ""

    def tick(self, number: int) -> None:
        """Replies whose time is over go, idle clients go, the engine is felt."""
        if self._bridge is None or self._thread is None:
            return
        self._bridge.expire()
        self._thread.loop.call_soon_threadsafe(self._engine_is_alive)
        self._retired = [listener for listener in self._retired if listener.connections]
        for listener in (*self._retired, *(listener for _, listener in self._listeners.values())):
            if number % max(1, int(listener.idle_timeout / 2 / TICK_SECONDS)) == 0:
                listener.sweep()

    def status(self) -> str:
        """How many listeners, and whether DANE is available."""
        state = "DANE available" if self._engine_parts.resolver.validates else "DANE off"
        return f"{len(self._listeners)} listener(s), {state}"

    def web(self) -> ResolverWeb:
        """Decisions over HTTP."""
        return ResolverWeb(self._running_bridge)

    def banner(self, config: Config) -> Banner:
        """What listens where, what to put into the MTA, and how to ask."""
        where = {
            wanted.name: self._host.place(wanted.socket, str(wanted.socket))
            for wanted, _ in self._listeners.values()
        }
        validates = self._engine_parts.resolver.validates
        state = "available" if validates else "off: the resolver does not validate"
        return Banner(
            places=tuple(_place_line(wanted, where[wanted.name]) for wanted in config.listeners),
            state=(
                self._policies_line(config),
                f"DANE: {state}{'' if validates else ' (strictmail doctor)'}",
            ),
            paths=("/v1/decision/DOMAIN",),
            advice=tuple(
                line
                for wanted in config.listeners
                for line in ("", *mta_lines(wanted, where[wanted.name]))
            ),
            question=("", "Ask it a question:", f"  {ask_command(config)}"),
        )

    def _policies_line(self, config: Config) -> str:
        if self._engine_parts.is_stored:
            return f"policies: {config.policies_path}"
        return (
            f"policies: in memory only, since {config.state_directory} cannot be written: "
            "give --state-directory"
        )

    # ---- engine -------------------------------------------------------------------------

    @property
    def _engine_parts(self) -> EngineParts:
        assert self._parts is not None
        return self._parts

    @property
    def _running_bridge(self) -> Bridge:
        assert self._bridge is not None
        return self._bridge

    def _engine_is_alive(self) -> None:
        self._engine_beat = self._host.clock.monotonic()

    def _tell_validation(self, config: Config) -> None:
        wants = any(listener.dane for listener in config.listeners)
        if wants and not self._engine_parts.resolver.validates:
            self._events.emit("resolver-not-validating")

    async def _on_engine(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._thread is not None
        return await asyncio.wrap_future(self._thread.submit(work))

    # ---- listeners ----------------------------------------------------------------------

    async def _listen(self, config: Config) -> None:
        """Start the listeners that are new or changed; then stop those that are gone."""
        running = [wanted for wanted, _ in self._listeners.values()]
        started: list[tuple[ListenerConfig, Listener, asyncio.Server]] = []
        try:
            for wanted in config.listeners:
                if wanted not in running:
                    new = await self._start_listener(wanted, config)
                    started.append((wanted, *new))
        except BaseException:
            for _, listener, server in started:
                server.close()
                self._retire(listener)
            raise
        for name in list(self._listeners):
            if self._listeners[name][0] not in config.listeners:
                self._servers.pop(name).close()
                self._retire(self._listeners.pop(name)[1])
        for wanted, listener, server in started:
            self._servers[wanted.name] = server
            self._listeners[wanted.name] = (wanted, listener)
            self._events.emit(
                "listener-open",
                listener=wanted.name,
                socket=self._host.place(wanted.socket, str(wanted.socket)),
                dialect=str(wanted.dialect),
                observe=wanted.observe,
            )
        self._running_bridge.listeners = [listener for _, listener in self._listeners.values()]

    async def _start_listener(
        self, wanted: ListenerConfig, config: Config
    ) -> tuple[Listener, asyncio.Server]:
        listener = Listener(
            wanted.name,
            dialect=str(wanted.dialect),
            profile=wanted.profile,
            asker=self._running_bridge,
            observe=wanted.observe,
            capacity=config.cache.hot_entries,
            max_connections=wanted.max_connections,
            idle_timeout=wanted.idle_timeout.total_seconds(),
            on_client_error=self._tell_client_error,
        )
        loop = asyncio.get_running_loop()
        # A duplicate: closing the server must not close the socket that a successor is given.
        own = self._host.opened(str(wanted.socket)).dup()
        if own.family == socket.AF_UNIX:
            # From Python 3.13 on, closing the server would remove the successor's path.
            keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            server = await loop.create_unix_server(listener.protocol, sock=own, **keep)
        else:
            server = await loop.create_server(listener.protocol, sock=own)
        return listener, server

    def _tell_client_error(self, listener: Listener, error: FrameError) -> None:
        self._events.emit(
            "client-error", listener=listener.name, errors=listener.client_errors, error=str(error)
        )

    def _retire(self, listener: Listener) -> None:
        """Let its clients see EOF; those that do not go are swept."""
        listener.drain()
        self._retired.append(listener)


def _place_line(listener: ListenerConfig, where: str) -> str:
    observing = ", only observing" if listener.observe else ""
    return f"{listener.name}: {where} ({listener.dialect}{observing})"
