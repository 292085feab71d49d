# SPDX-License-Identifier: Apache-2.0
"""strictmail in a world: configured, started, asked, ended.

Also says what an MTA would be told, by asking on the socket as the MTA does.
"""

from __future__ import annotations

import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from .world import CHECKOUT, READY_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from .world import Process, World

PLAIN: Final = "postfix-plain"
"""The listener for a Postfix that does no DANE."""

LISTEN_PORTS: Final = {
    "postfix": 8461,
    "postfix-tlsrpt": 8462,
    "exim": 8463,
    "sendmail": 8464,
    PLAIN: 8465,
}
"""A listener for each dialect, always all of them, named after it."""

DOES_DANE: Final = ("postfix", "postfix-tlsrpt", "exim")
"""Debian's sendmail is built without it."""

CONFIGURATION: Final = """\
state_directory = "{directory}/state"

[log]
level = "debug"
format = "text"

[dns]
servers = ["127.0.0.1:53"]
trust_ad = "loopback"

[policy]
ca_file = "{ca_file}"
allow_networks = ["127.0.0.0/8"]
fetch_timeout = "8s"

[check]
greeting_timeout = "5s"

[http]
listen = "127.0.0.1:8460"
"""

LISTENER: Final = """
[[listener]]
name = "{name}"
socket = "inet:127.0.0.1:{port}"
dialect = "{dialect}"
default_level = "may"
dane = {dane}
"""

READY_LINE: Final = " info ready "

ASK_AT_ONCE: Final = 8
"""Few enough that nobody's fetch gets slow because of the others, on a busy machine too."""

ASK_SECONDS: Final = 30.0
"""Three times the deadline within which strictmail answers by default."""


class Daemon:
    """`strictmail serve` with a listener for each dialect.

    Args:
        world: Where it lives.
        ca_file: The CA that signed the policy hosts' certificates.
        extra: More of its configuration.
        map_name: The name of the map in the questions asked here.
    """

    def __init__(self, world: World, ca_file: str, extra: str = "") -> None:
        self._world = world
        self._program = [sys.executable, "-m", "strictmail"]
        self._environment = {"PYTHONPATH": str(CHECKOUT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        self.processes: list[Process] = []
        text = CONFIGURATION.format(directory=world.directory, ca_file=ca_file)
        for name, port in LISTEN_PORTS.items():
            dane = str(name in DOES_DANE).lower()
            dialect = "postfix" if name == PLAIN else name
            text += LISTENER.format(name=name, dialect=dialect, port=port, dane=dane)
        text += extra
        self._configuration: Path = world.write("strictmail.toml", text)
        (world.directory / "state").mkdir()

    @staticmethod
    def socketmap(dialect: str) -> str:
        """Where a listener is, in Postfix's words."""
        return f"inet:127.0.0.1:{LISTEN_PORTS[dialect]}"

    @property
    def process(self) -> Process:
        """The one that was started last."""
        return self.processes[-1]

    def start(self, *options: str, wait: bool = True) -> Process:
        """Start it; with `wait`, returns when it is ready."""
        number = len(self.processes)
        command: list[str | Path] = [
            *self._program,
            "serve",
            "--config",
            self._configuration,
            *options,
        ]
        process = self._world.start(f"strictmail-{number}", command, environment=self._environment)
        self.processes.append(process)
        if wait:
            self.wait_ready()
        return process

    def wait_ready(self) -> None:
        """Wait until it answers on every listener."""

        def answers() -> bool:
            if not self.process.is_running():
                raise AssertionError(f"strictmail has ended\n{self.process.tail()}")
            try:
                return all(self.ask(".test", dialect) for dialect in LISTEN_PORTS)
            except (OSError, EOFError):
                return False

        wait_until(answers, "strictmail", seconds=READY_SECONDS, seen=self.process.tail)

    def stop(self) -> None:
        """End it as a service manager does, and wait until it is gone."""
        self.process.kill(signal.SIGTERM)
        self.process.wait()

    def upgrade(self) -> None:
        """Let a successor take over from the one that runs, which drains and goes by itself.

        See `wait_for_predecessors`.
        """
        successor = self.start("--takeover", wait=False)
        # An answer would not do: the one before gives them until its successor is ready.
        wait_until(
            lambda: READY_LINE in successor.tail() or not successor.is_running(),
            "the successor",
            seconds=READY_SECONDS,
            seen=successor.tail,
        )
        assert successor.is_running(), successor.tail()

    def wait_for_predecessors(self) -> None:
        """Wait until all but the last one have gone, and check that those who drained did well."""
        for old in self.processes[:-1]:
            assert old.wait() in (0, -signal.SIGKILL, 128 + signal.SIGKILL), old.tail()

    def forget(self) -> None:
        """Remove all it has stored; only while it does not run."""
        shutil.rmtree(self._world.directory / "state")
        (self._world.directory / "state").mkdir()

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self.process.kill(signal.SIGKILL)
        self.process.wait()

    def ask(self, key: str, dialect: str = "postfix", map_name: str = "sts") -> str:
        """Ask as an MTA does; returns the reply without its netstring frame.

        Raises:
            EOFError: It closed the connection without an answer.
        """
        request = f"{map_name} {key}".encode()
        address = ("127.0.0.1", LISTEN_PORTS[dialect])
        with self._world.connect(address, ASK_SECONDS) as connection:
            connection.sendall(b"%d:%s," % (len(request), request))
            reply = b""
            while not self._is_whole(reply):
                if not (data := connection.recv(65536)):
                    raise EOFError(f"{key}: {reply!r}")
                reply += data
        return reply.partition(b":")[2][:-1].decode()

    @staticmethod
    def _is_whole(reply: bytes) -> bool:
        length, colon, rest = reply.partition(b":")
        return bool(colon) and len(rest) > int(length)

    def ask_all(self, keys: Iterable[str], dialect: str) -> Mapping[str, str]:
        """Ask for many domains at once, so that the slow ones cost their time only once."""
        wanted = list(keys)
        with ThreadPoolExecutor(ASK_AT_ONCE) as pool:
            return dict(
                zip(wanted, pool.map(lambda key: self.ask(key, dialect), wanted), strict=True)
            )

    def run(self, *arguments: str) -> str:
        """Run a strictmail command with this daemon's configuration."""
        command: list[str | Path] = [*self._program, *arguments, "--config", self._configuration]
        return self._world.run(command, environment=self._environment)
