# SPDX-License-Identifier: Apache-2.0
"""`strictmail serve`: the daemon, and the roles in it (`strictmail.cli.roles`).

Order of life: configuration, sockets (passed by systemd, handed over, or opened), roles, HTTP,
ready; on SIGTERM drain, write down, end. A socket is taken over or bound before its role starts,
and read from only after, so that early clients wait instead of being refused.

Several daemons may share a state directory as long as no two run the same role; each has a
hand-over socket of its own (`strictmail.runtime.handover`), and needs an HTTP address of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.cli.roles import ROLES, build_roles
from strictmail.core.errors import ConfigError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from strictmail.runtime.addresses import SocketAddress
    from strictmail.runtime.config import Config
    from strictmail.runtime.handover import HandoverServer, Taken
    from strictmail.runtime.logs import EventLog
    from strictmail.runtime.operations import OperationsHttp
    from strictmail.runtime.sockets import WantedSocket

HOUSEKEEPING_SECONDS: Final = 0.5

HTTP_SOCKET: Final = "http"
"""How the name of the HTTP listener's socket begins in a hand-over."""

HTTP_MODE: Final = 0o660
"""The rights of the HTTP listener's unix socket."""


@click.command("serve")
@click.argument("roles", nargs=-1, metavar="[ROLE]...")
@click.option(
    "--takeover",
    is_flag=True,
    help="Take the sockets of the running daemon and replace it; no lookup is lost.",
)
@click.option(
    "--http",
    metavar="ADDRESS:PORT",
    help="Where the HTTP server listens, whatever the file says; '' switches it off.",
)
@click.option("--quiet", is_flag=True, help="Do not print how to use what listens.")
@configured
def command(
    config: Config, roles: tuple[str, ...], takeover: bool, http: str | None, quiet: bool
) -> int:
    """Run the daemon until SIGTERM: answer MTAs, count their sessions, report.

    ROLE names what to run instead of the roles of the configuration: `resolver` answers MTAs,
    `collector` counts the sessions that they tell of, `reporter` reports them to the domains that
    ask for it. A daemon that runs beside another one needs its own --http. SIGHUP reads the
    configuration again. Several listeners, each with its dialect, stand in the configuration: see
    strictmail.toml(5).
    """
    unknown = [role for role in roles if role not in ROLES]
    if unknown:
        known = ", ".join(ROLES)
        raise click.UsageError(f"There is no role {unknown[0][:40]!r}; there is: {known}.")
    from strictmail.runtime.eventloop import new_event_loop
    from strictmail.runtime.logs import start_logging

    adapt = _adapter(roles, http)
    config = adapt(config)
    events = start_logging(config.log.level, config.log.format)
    daemon = Daemon(
        config, events, adapt=adapt, takeover=takeover, banner=not quiet and _wants_banner()
    )
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_live(daemon, events))
    return ExitCode.OK


def _adapter(roles: tuple[str, ...], http: str | None) -> Callable[[Config], Config]:
    """What the command line says instead of the file, for the first configuration and reloads."""
    from strictmail.runtime.config import HttpConfig
    from strictmail.runtime.kinds import OptionalSocket

    changes: dict[str, object] = {}
    origins: dict[str, str] = {}
    if roles:
        changes["roles"] = roles
        origins["roles"] = "command line"
    if http is not None:
        try:
            changes["http"] = HttpConfig(OptionalSocket().parse(http))
        except ValueError as error:
            raise click.UsageError(f"--http: {error}") from None
        origins["http.listen"] = "--http"

    def adapt(config: Config) -> Config:
        return dataclasses.replace(config, **changes, origins={**config.origins, **origins})  # type: ignore[arg-type]

    return adapt


async def _live(daemon: Daemon, events: EventLog) -> None:
    from strictmail.runtime import notify
    from strictmail.runtime.service import Lifecycle, signals

    lifecycle = Lifecycle(
        daemon,
        notifier=notify.Notifier.from_environ(),
        events=events,
        drain_seconds=daemon.drain_seconds,
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
        adapt: Puts into a configuration that was loaded again what the command line said.
        takeover: Replace a daemon that runs these roles on the same state directory.
        banner: Print what listens where and how to use it, once ready.
    """

    def __init__(
        self,
        config: Config,
        events: EventLog,
        *,
        adapt: Callable[[Config], Config],
        takeover: bool,
        banner: bool,
    ) -> None:
        from strictmail.runtime.clock import SystemClock

        self.config = config
        self.events = events
        self.clock = SystemClock()
        self.request_stop: Callable[[str], None] = lambda _reason: None
        self.roles = build_roles(config.roles, self)
        self._adapt = adapt
        self._takeover = takeover
        self._banner = banner
        self._is_draining = False
        self._is_replaced = False
        self._sockets: dict[str, socket.socket] = {}
        self._own_paths: dict[str, Path] = {}
        self._passed: dict[str, list[socket.socket]] = {}
        self._http: OperationsHttp | None = None
        self._handover: HandoverServer | None = None
        self._housekeeping: asyncio.Task[None] | None = None

    # ---- what roles are lent (`strictmail.cli.roles.role.Host`) ---------------------------

    @property
    def is_replaced(self) -> bool:
        """Whether a successor has the sockets already."""
        return self._is_replaced

    def opened(self, key: str) -> socket.socket:
        """A socket that a role wanted."""
        return self._sockets[key]

    def is_own(self, key: str) -> bool:
        """Whether a socket ends with the daemon."""
        return key in self._own_paths and not self._is_replaced

    def place(self, address: SocketAddress, key: str) -> str:
        """Where a socket really is: with the port that was chosen for port 0."""
        from strictmail.runtime.addresses import InetSocket

        if isinstance(address, InetSocket):
            host, port = self._sockets[key].getsockname()[:2]
            return str(InetSocket(host, port))
        return str(address)

    # ---- life ---------------------------------------------------------------------------

    @property
    def drain_seconds(self) -> float:
        """How long `drain` may take."""
        return max(role.drain_seconds(self.config) for role in self.roles)

    async def start(self) -> str:
        """Take or open the sockets, start the roles, serve HTTP."""
        from strictmail.runtime import notify
        from strictmail.runtime.garbage import collect_seldom

        predecessors = self._take_over()
        self.events.emit("started", config=self.config.path or "defaults")
        try:
            self._passed = notify.passed_sockets()
            for taken in predecessors:
                self._sockets.update(taken.sockets)
            self._open_sockets(self.config)
            for role in self.roles:
                await role.start(self.config)
            await self._listen_http(self.config)
        except BaseException:
            for taken in predecessors:
                taken.close()
            raise
        self._close_unclaimed()
        self._start_handover()
        for taken in predecessors:
            taken.ready()
            # From now on nobody else removes what the predecessor made.
            self._own_paths.update(unix_paths(taken.sockets))
        self._close_unused(self.config)
        collect_seldom()
        self._housekeeping = asyncio.create_task(self._keep_house())
        if self._banner:
            self._print_banner()
        return self._status()

    async def reload(self) -> str:
        """Take over a changed configuration; a refused one changes nothing."""
        from strictmail.runtime.config import load_config
        from strictmail.runtime.logs import start_logging

        config = self._adapt(
            load_config(self.config.path, state_directory=self.config.state_directory)
        )
        if set(config.roles) != set(self.config.roles):
            raise ConfigError("roles: they change with a restart, or with `serve --takeover`")
        done = []
        try:
            self._open_sockets(config)
            for role in self.roles:
                await role.apply(config)
                done.append(role)
            await self._listen_http(config)
        except BaseException as error:
            for role in done:
                await role.apply(self.config)
            # What was opened for the new configuration must not take clients whom nobody answers.
            self._close_unused(self.config)
            if isinstance(error, OSError):
                raise ConfigError(f"cannot take over the configuration: {error}") from error
            raise
        start_logging(config.log.level, config.log.format)
        self.config = config
        self._close_unused(config)
        self.events.emit("reloaded", config=config.path or "defaults")
        return self._status()

    async def drain(self) -> None:
        """Take nothing new, finish what was taken."""
        self._is_draining = True
        if self._handover is not None:
            await self._handover.stop()
        for role in self.roles:
            role.stop_accepting()
        # At once: whoever comes now belongs to a successor, or is refused rather than left waiting.
        self._close_sockets()
        await asyncio.gather(*(role.drain() for role in self.roles))

    async def stop(self) -> None:
        """Close everything; write down what has to outlive the process."""
        self._is_draining = True
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        if self._handover is not None:
            await self._handover.stop()
        for role in self.roles:
            role.stop_accepting()
        if self._http is not None:
            await self._http.close()
        self._close_sockets()
        await asyncio.gather(*(role.stop() for role in self.roles))

    def is_alive(self) -> bool:
        """Whether all roles are; the serving loop is the one that asks."""
        return all(role.is_alive() for role in self.roles)

    def _status(self) -> str:
        return "; ".join(role.status() for role in self.roles)

    async def _keep_house(self) -> None:
        """Twice a second: each role has its turn; one that is beyond help ends the daemon."""
        tick = 0
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            tick += 1
            for role in self.roles:
                try:
                    role.tick(tick)
                    fault = role.fault()
                except Exception as error:  # noqa: BLE001 - the other turns must go on
                    self.events.emit("internal-error", where="housekeeping", error=repr(error))
                    continue
                if fault and not self._is_draining:
                    self.request_stop(fault)

    # ---- predecessors and successors -----------------------------------------------------

    def _take_over(self) -> list[Taken]:
        """Ask those who run our roles for their sockets; or see that there are none.

        Raises:
            UnreachableError: There are, and they are not to be replaced, or not by this one.
        """
        from strictmail.runtime import handover

        directory = Path(self.config.state_directory)
        running = handover.find_running(directory, self.config.roles, ROLES)
        for roles, _ in running:
            names = ", ".join(sorted(roles))
            if not self._takeover:
                raise UnreachableError(
                    f"another strictmail serves from {directory} ({names}); "
                    "stop it, or replace it with `strictmail serve --takeover`"
                )
            if not roles <= set(self.config.roles):
                raise UnreachableError(
                    f"the strictmail that serves from {directory} runs more than is to be taken "
                    f"over ({names}): name all of its roles, or stop it"
                )
        predecessors: list[Taken] = []
        try:
            for _, path in running:
                taken = handover.take_over(path)
                if taken is not None:
                    predecessors.append(taken)
        except UnreachableError:
            for taken in predecessors:
                taken.close()
            raise
        return predecessors

    def _start_handover(self) -> None:
        from strictmail.runtime.handover import HandoverServer, socket_name

        server = HandoverServer(
            Path(self.config.state_directory) / socket_name(self.config.roles),
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
        self._is_replaced = True
        self.request_stop("a successor is ready")

    # ---- sockets ------------------------------------------------------------------------

    def _wanted(self, config: Config) -> list[WantedSocket]:
        """What is configured, under the names used in a hand-over."""
        from strictmail.runtime.sockets import WantedSocket

        wanted = [one for role in self.roles for one in role.wanted_sockets(config)]
        if config.http.listen is not None:
            address = config.http.listen
            wanted.append(WantedSocket(http_key(address), address, HTTP_MODE))
        return wanted

    def _open_sockets(self, config: Config) -> None:
        """Open what is configured and not open yet."""
        from strictmail.runtime.sockets import open_wanted

        for wanted in self._wanted(config):
            if wanted.key in self._sockets:
                continue
            held = sum(map(len, self._passed.values()))
            try:
                opened = open_wanted(wanted, self._passed)
            except ConfigError as error:
                self.events.emit("listener-error", socket=str(wanted.address), error=str(error))
                if wanted.key.startswith(HTTP_SOCKET):
                    hint = "a daemon beside another one needs an address of its own: --http"
                    raise ConfigError(f"{error}; {hint}") from None
                raise
            self._sockets[wanted.key] = opened
            if held == sum(map(len, self._passed.values())):
                self._own_paths.update(unix_paths({wanted.key: opened}))

    def _close_unclaimed(self) -> None:
        """Refuse clients on sockets that systemd passed and nothing is configured for."""
        for name, left in self._passed.items():
            for passed in left:
                self.events.emit(
                    "listener-error", socket=f"systemd:{name}", error="no listener is configured"
                )
                passed.close()
        self._passed = {}

    def _close_unused(self, config: Config) -> None:
        used = {wanted.key for wanted in self._wanted(config)}
        for key in set(self._sockets) - used:
            self._close_socket(key)

    def _close_sockets(self) -> None:
        for key in list(self._sockets):
            self._close_socket(key)

    def _close_socket(self, key: str) -> None:
        """Close one, and remove its path: not a successor's, and not systemd's."""
        self._sockets.pop(key).close()
        path = self._own_paths.pop(key, None)
        if path is not None and not self._is_replaced:
            with contextlib.suppress(OSError):
                path.unlink()

    # ---- HTTP ---------------------------------------------------------------------------

    async def _listen_http(self, config: Config) -> None:
        if self._http is not None and config.http.listen == self.config.http.listen:
            return
        old, http = self._http, None
        if config.http.listen is not None:
            from strictmail.runtime.operations import OperationsHttp

            http = OperationsHttp(
                [role.web() for role in self.roles],
                is_ready=lambda: not self._is_draining,
                on_error=self._tell_http_error,
            )
            await http.start(self._sockets[http_key(config.http.listen)].dup())
        self._http = http
        if old is not None:
            await old.close()

    def _tell_http_error(self, error: BaseException) -> None:
        self.events.emit("internal-error", where="http", error=repr(error))

    # ---- banner -------------------------------------------------------------------------

    def _print_banner(self) -> None:
        from strictmail.cli.banner import banner_lines

        listen = self.config.http.listen
        http = "" if listen is None else self.place(listen, http_key(listen))
        lines = banner_lines([role.banner(self.config) for role in self.roles], http)
        # Whoever read the banner may have gone: that is no reason to stop the mail.
        with contextlib.suppress(OSError):
            print("\n".join(lines), flush=True)


def http_key(address: SocketAddress) -> str:
    """The name of the HTTP listener's socket in a hand-over."""
    return f"{HTTP_SOCKET} {address}"


def unix_paths(sockets: Mapping[str, socket.socket]) -> dict[str, Path]:
    """The paths of those that are unix sockets and not systemd's, by the sockets' names."""
    return {
        key: Path(held.getsockname())
        for key, held in sockets.items()
        if held.family == socket.AF_UNIX and not key.startswith("systemd:")
    }
