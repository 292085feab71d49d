# SPDX-License-Identifier: Apache-2.0
"""`strictmail serve`: the daemon.

Order of life: configuration, sockets (passed by systemd, handed over, or opened), engine, ready;
then lookups; on SIGTERM drain, write down, end. A socket is taken over or bound before the cache
is opened, and accepted from only after, so that early clients wait instead of being refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.core.errors import ConfigError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from strictmail.cli.composition import EngineParts
    from strictmail.core.errors import FrameError
    from strictmail.resolver.http import ResolverHttp
    from strictmail.resolver.role import Bridge, EngineThread
    from strictmail.resolver.socketmap import Listener
    from strictmail.runtime.addresses import SocketAddress
    from strictmail.runtime.config import Config, ListenerConfig
    from strictmail.runtime.handover import HandoverServer, Taken
    from strictmail.runtime.logs import EventLog

T = TypeVar("T")

LINGER_SECONDS: Final = 0.5
"""How long answered clients have to go by themselves when the daemon stops."""

HOUSEKEEPING_SECONDS: Final = 0.5
DRAIN_MARGIN_SECONDS: Final = 2.0
"""What a client may take, beyond the longest answer, to notice that it is time to go."""

ENGINE_CLOSE_SECONDS: Final = 10.0
"""What the engine may take to write down what was learnt, before the process ends without."""

ENGINE_SILENCE_SECONDS: Final = 30.0
"""An engine whose loop has not turned for so long is stuck: the watchdog is told no more."""

HTTP_SOCKET: Final = "http"
"""The name of the HTTP listener's socket in a hand-over."""


@click.command("serve")
@click.argument("roles", nargs=-1, metavar="[ROLE]...")
@click.option(
    "--takeover",
    is_flag=True,
    help="Take the sockets of the running daemon and replace it; no lookup is lost.",
)
@click.option("--quiet", is_flag=True, help="Do not print how to use what listens.")
@configured
def command(config: Config, roles: tuple[str, ...], takeover: bool, quiet: bool) -> int:
    """Answer MTAs: run the daemon until SIGTERM.

    ROLE names what to run instead of the roles of the configuration; there is `resolver`.
    SIGHUP reads the configuration again. Several listeners, each with its dialect, stand in the
    configuration: see strictmail.toml(5).
    """
    unknown = [role for role in roles if role != "resolver"]
    if unknown:
        raise click.UsageError(f"There is no role {unknown[0][:40]!r}; there is: resolver.")
    from strictmail.cli.composition import new_event_loop
    from strictmail.runtime.logs import start_logging

    events = start_logging(config.log.level, config.log.format)
    daemon = Daemon(config, events, takeover=takeover, banner=not quiet and _wants_banner())
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_live(daemon, events))
    return ExitCode.OK


async def _live(daemon: Daemon, events: EventLog) -> None:
    from strictmail.runtime import notify
    from strictmail.runtime.service import Lifecycle, signals

    lifecycle = Lifecycle(
        daemon,
        notifier=notify.Notifier.from_environ(),
        events=events,
        drain_seconds=daemon.config.decision.answer_deadline.total_seconds() + DRAIN_MARGIN_SECONDS,
        watchdog_seconds=notify.watchdog_seconds(),
    )
    daemon.request_stop = lifecycle.request_stop
    with signals(asyncio.get_running_loop(), lifecycle):
        await lifecycle.run()


def _wants_banner() -> bool:
    return "INVOCATION_ID" not in os.environ and "NOTIFY_SOCKET" not in os.environ


class Daemon:
    """One running daemon: what `runtime.service.Lifecycle` leads through its life.

    Args:
        config: As loaded; a reload loads it again from `config.path`.
        events: The log.
        takeover: Replace a daemon that runs on the same state directory.
        banner: Print what listens where and how to use it, once ready.
    """

    def __init__(self, config: Config, events: EventLog, *, takeover: bool, banner: bool) -> None:
        from strictmail.runtime.clock import SystemClock

        self.config = config
        self.events = events
        self.clock = SystemClock()
        self.request_stop: Callable[[str], None] = lambda _reason: None
        self._takeover = takeover
        self._banner = banner
        self._taken_by_successor = False
        self._is_draining = False
        self._sockets: dict[str, socket.socket] = {}
        self._own_paths: dict[str, Path] = {}
        self._passed: dict[str, list[socket.socket]] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._listeners: dict[str, tuple[ListenerConfig, Listener]] = {}
        self._retired: list[Listener] = []
        self._http: ResolverHttp | None = None
        self._handover: HandoverServer | None = None
        self._housekeeping: asyncio.Task[None] | None = None
        self._engine_beat = 0.0
        self._thread: EngineThread | None = None
        self._parts: EngineParts | None = None
        self._bridge: Bridge | None = None

    # ---- life ---------------------------------------------------------------------------

    async def start(self) -> str:
        """Take or open the sockets, open the cache, listen."""
        from strictmail.runtime import notify

        taken = self._take_over()
        self.events.emit("started", config=self.config.path or "defaults")
        try:
            self._passed = notify.passed_sockets()
            if taken is not None:
                self._sockets.update(taken.sockets)
            self._open_sockets(self.config)
            await self._start_engine()
            await self._listen(self.config)
        except BaseException:
            if taken is not None:
                taken.close()
            raise
        self._close_unclaimed()
        self._start_handover()
        if taken is not None:
            taken.ready()
            # From now on nobody else removes what the predecessor made.
            self._own_paths.update(unix_paths(taken.sockets))
        self._close_unused(self.config)
        self._tune()
        self._housekeeping = asyncio.create_task(self._keep_house())
        if self._banner:
            self._print_banner()
        return self._status()

    async def reload(self) -> str:
        """Take over a changed configuration; a refused one changes nothing."""
        from strictmail.runtime.config import load_config
        from strictmail.runtime.logs import start_logging

        config = load_config(self.config.path, state_directory=self.config.state_directory)
        try:
            self._open_sockets(config)
            await self._on_engine(self._engine_parts.replace_adapters(config))
            await self._listen(config)
        except BaseException as error:
            # What was opened for the new configuration must not take clients whom nobody answers.
            self._close_unused(self.config)
            if isinstance(error, OSError):
                raise ConfigError(f"cannot take over the configuration: {error}") from error
            raise
        start_logging(config.log.level, config.log.format)
        self.config = config
        self._close_unused(config)
        self._tell_validation()
        self.events.emit("reloaded", config=config.path or "defaults")
        return self._status()

    async def drain(self) -> None:
        """Accept nothing new, answer what was asked, let every client see EOF."""
        self._is_draining = True
        if self._handover is not None:
            await self._handover.stop(unlink=not self._taken_by_successor)
        for server in self._servers.values():
            server.close()
        # At once: whoever comes now belongs to a successor, or is refused rather than left waiting.
        self._close_sockets()
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
        """Close everything; write down what was learnt."""
        self._is_draining = True
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        if self._handover is not None:
            await self._handover.stop(unlink=not self._taken_by_successor)
        for server in self._servers.values():
            server.close()
        if self._http is not None:
            await self._http.close()
        for _, listener in self._listeners.values():
            for connection in list(listener.connections):
                connection.close()
        self._close_sockets()
        if self._thread is not None and self._thread.is_alive():
            if self._parts is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ENGINE_CLOSE_SECONDS):
                        await self._on_engine(self._parts.close())
            self._thread.stop()

    def is_alive(self) -> bool:
        """Whether the engine's loop has turned lately; the serving loop is the one that asks."""
        return self.clock.monotonic() - self._engine_beat < ENGINE_SILENCE_SECONDS

    def _status(self) -> str:
        state = "DANE available" if self._engine_parts.resolver.validates else "DANE off"
        return f"{len(self._listeners)} listener(s), {state}"

    @property
    def _engine_parts(self) -> EngineParts:
        assert self._parts is not None
        return self._parts

    def _take_over(self) -> Taken | None:
        from strictmail.runtime import handover

        path = Path(self.config.state_directory) / handover.SOCKET_NAME
        if self._takeover:
            return handover.take_over(path)
        if handover.is_running(path):
            raise UnreachableError(
                f"another strictmail serves from {self.config.state_directory}; "
                "stop it, or replace it with `strictmail serve --takeover`"
            )
        return None

    def _close_unclaimed(self) -> None:
        """Refuse clients on sockets that systemd passed and no listener takes."""
        for name, left in self._passed.items():
            for listening in left:
                self.events.emit(
                    "listener-error", socket=f"systemd:{name}", error="no listener is configured"
                )
                listening.close()
        self._passed = {}

    def _start_handover(self) -> None:
        from strictmail.runtime.handover import SOCKET_NAME, HandoverServer

        server = HandoverServer(
            Path(self.config.state_directory) / SOCKET_NAME,
            lambda: self._sockets,
            self._successor_is_ready,
        )
        try:
            server.start()
        except OSError as error:
            self.events.emit("handover-unavailable", error=error.strerror or str(error))
            return
        self._handover = server

    def _successor_is_ready(self) -> None:
        self._taken_by_successor = True
        self.request_stop("a successor is ready")

    @staticmethod
    def _tune() -> None:
        """Keep the collector away from what lives for ever; bound what a lookup waits for."""
        from strictmail.resolver.role import SWITCH_SECONDS

        sys.setswitchinterval(SWITCH_SECONDS)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)

    async def _keep_house(self) -> None:
        """Twice a second: replies whose time is over go, idle clients go, the engine is felt."""
        tick = 0
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            tick += 1
            try:
                self._keep_house_once(tick)
            except Exception as error:  # noqa: BLE001 - replies must go on to end in time
                self.events.emit("internal-error", where="housekeeping", error=repr(error))

    def _keep_house_once(self, tick: int) -> None:
        assert self._bridge is not None
        assert self._thread is not None
        self._bridge.expire()
        if not self._thread.is_alive():
            self.request_stop("the engine's thread has ended")
            return
        self._thread.loop.call_soon_threadsafe(self._engine_is_alive)
        self._retired = [listener for listener in self._retired if listener.connections]
        for listener in (*self._retired, *(listener for _, listener in self._listeners.values())):
            if tick % max(1, int(listener.idle_timeout / 2 / HOUSEKEEPING_SECONDS)) == 0:
                listener.sweep()

    def _engine_is_alive(self) -> None:
        self._engine_beat = self.clock.monotonic()

    def _close_sockets(self) -> None:
        for name in list(self._sockets):
            self._close_socket(name)

    def _close_socket(self, name: str) -> None:
        """Close one, and remove its path: not a successor's, and not systemd's."""
        self._sockets.pop(name).close()
        path = self._own_paths.pop(name, None)
        if path is not None and not self._taken_by_successor:
            with contextlib.suppress(OSError):
                path.unlink()

    # ---- engine -------------------------------------------------------------------------

    async def _start_engine(self) -> None:
        from strictmail.cli.composition import new_event_loop, open_engine
        from strictmail.resolver.role import Bridge, EngineThread

        self._thread = EngineThread(new_event_loop)
        self._thread.start()
        self._parts = await self._on_engine(open_engine(self.config, self.events))
        self._engine_beat = self.clock.monotonic()
        self._bridge = Bridge(
            self._parts.engine,
            engine_loop=self._thread.loop,
            serving_loop=asyncio.get_running_loop(),
            clock=self.clock,
            events=self.events,
        )
        self._tell_validation()

    def _tell_validation(self) -> None:
        wants = any(listener.dane for listener in self.config.listeners)
        if wants and not self._engine_parts.resolver.validates:
            self.events.emit("resolver-not-validating")

    async def _on_engine(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._thread is not None
        return await asyncio.wrap_future(self._thread.submit(work))

    # ---- listeners ----------------------------------------------------------------------

    def _open_sockets(self, config: Config) -> None:
        """Open what is configured and not open yet, under the names used in a hand-over."""
        from strictmail.runtime.sockets import open_socket

        wanted: list[tuple[str, Any, int]] = [
            (str(listener.socket), listener.socket, listener.mode) for listener in config.listeners
        ]
        if config.http.listen is not None:
            wanted.append((f"{HTTP_SOCKET} {config.http.listen}", config.http.listen, 0o660))
        for name, address, mode in wanted:
            if name in self._sockets:
                continue
            held = sum(map(len, self._passed.values()))
            try:
                opened = open_socket(address, mode=mode, passed=self._passed)
            except ConfigError as error:
                self.events.emit("listener-error", socket=str(address), error=str(error))
                raise
            self._sockets[name] = opened
            if held == sum(map(len, self._passed.values())):
                self._own_paths.update(unix_paths({name: opened}))

    async def _listen(self, config: Config) -> None:
        """Start the listeners that are new or changed; then stop those that are gone."""
        running = [wanted for wanted, _ in self._listeners.values()]
        started: list[tuple[ListenerConfig, Listener, asyncio.Server]] = []
        try:
            for wanted in config.listeners:
                if wanted not in running:
                    new = await self._start_listener(wanted, config)
                    started.append((wanted, *new))
            await self._listen_http(config)
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
            self.events.emit(
                "listener-open",
                listener=wanted.name,
                socket=describe(wanted.socket, self._sockets[str(wanted.socket)]),
                dialect=str(wanted.dialect),
                observe=wanted.observe,
            )
        assert self._bridge is not None
        self._bridge.listeners = [listener for _, listener in self._listeners.values()]

    async def _start_listener(
        self, wanted: ListenerConfig, config: Config
    ) -> tuple[Listener, asyncio.Server]:
        from strictmail.resolver.socketmap import Listener

        assert self._bridge is not None
        listener = Listener(
            wanted.name,
            dialect=str(wanted.dialect),
            profile=wanted.profile,
            asker=self._bridge,
            observe=wanted.observe,
            capacity=config.cache.hot_entries,
            max_connections=wanted.max_connections,
            idle_timeout=wanted.idle_timeout.total_seconds(),
            on_client_error=self._tell_client_error,
        )
        listening = self._sockets[str(wanted.socket)]
        loop = asyncio.get_running_loop()
        # A duplicate: closing the server must not close the socket that a successor is given.
        own = listening.dup()
        if own.family == socket.AF_UNIX:
            # From Python 3.13 on, closing the server would remove the successor's path.
            keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            server = await loop.create_unix_server(listener.protocol, sock=own, **keep)
        else:
            server = await loop.create_server(listener.protocol, sock=own)
        return listener, server

    def _tell_client_error(self, listener: Listener, error: FrameError) -> None:
        self.events.emit(
            "client-error", listener=listener.name, errors=listener.client_errors, error=str(error)
        )

    def _retire(self, listener: Listener) -> None:
        """Let its clients see EOF; those that do not go are swept."""
        listener.drain()
        self._retired.append(listener)

    async def _listen_http(self, config: Config) -> None:
        from strictmail.resolver.http import ResolverHttp

        if self._http is not None and config.http.listen == self.config.http.listen:
            return
        old, http = self._http, None
        assert self._bridge is not None
        if config.http.listen is not None:
            http = ResolverHttp(self._bridge, is_ready=lambda: not self._is_draining)
            listening = self._sockets[f"{HTTP_SOCKET} {config.http.listen}"]
            await http.start(listening.dup())
        self._http = http
        if old is not None:
            await old.close()

    def _close_unused(self, config: Config) -> None:
        used = {str(listener.socket) for listener in config.listeners}
        if config.http.listen is not None:
            used.add(f"{HTTP_SOCKET} {config.http.listen}")
        for name in set(self._sockets) - used:
            self._close_socket(name)

    # ---- banner -------------------------------------------------------------------------

    def _print_banner(self) -> None:
        from strictmail.cli.banner import banner_lines

        listening = {
            config.name: describe(config.socket, self._sockets[str(config.socket)])
            for config, _ in self._listeners.values()
        }
        if self.config.http.listen is not None:
            name = f"{HTTP_SOCKET} {self.config.http.listen}"
            listening[HTTP_SOCKET] = describe(self.config.http.listen, self._sockets[name])
        lines = banner_lines(
            self.config,
            listening,
            validates=self._engine_parts.resolver.validates,
            is_stored=self._engine_parts.is_stored,
        )
        # Whoever read the banner may have gone: that is no reason to stop the mail.
        with contextlib.suppress(OSError):
            print("\n".join(lines), flush=True)


def unix_paths(sockets: Mapping[str, socket.socket]) -> dict[str, Path]:
    """The paths of those that are unix sockets and not systemd's, by the sockets' names."""
    return {
        name: Path(listening.getsockname())
        for name, listening in sockets.items()
        if listening.family == socket.AF_UNIX and not name.startswith("systemd:")
    }


def describe(address: SocketAddress, listening: socket.socket) -> str:
    """Where a socket really listens: with the port that was chosen for port 0."""
    from strictmail.runtime.addresses import InetSocket

    if isinstance(address, InetSocket):
        host, port = listening.getsockname()[:2]
        return str(InetSocket(host, port))
    return str(address)
