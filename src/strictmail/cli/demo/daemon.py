# SPDX-License-Identifier: Apache-2.0
"""A `strictmail serve` of one's own beside a lab: configured, started, asked, ended.

All its sockets are files in its directory, so that it meets no other daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from strictmail.cli.query import ask
from strictmail.core.errors import UnreachableError
from strictmail.resolver.documents import DecisionDocument
from strictmail.runtime.addresses import UnixSocket

if TYPE_CHECKING:
    from pathlib import Path

    from strictmail.lab.net import Lab

READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.05
TAIL_LINES: Final = 20
MAP_NAME: Final = "strictmail"

CONFIGURATION: Final = """\
state_directory = "{directory}/state"

[log]
format = "text"

[dns]
servers = ["{dns_host}:{dns_port}"]

[policy]
ca_file = "{ca_file}"
allow_networks = ["127.0.0.0/8"]
connect_port = {https_port}
fetch_timeout = "3s"

[decision]
answer_deadline = "5s"

[[listener]]
name = "postfix"
socket = "unix:{directory}/postfix.sock"
dialect = "{dialect}"
dane = true

[http]
listen = "unix:{directory}/http.sock"
"""


class DemoDaemon:
    """The daemon, as a process.

    Args:
        directory: Its home, which must exist.
        lab: What is the internet to it; must be up.
        dialect: What Postfix is answered in.
    """

    def __init__(self, directory: Path, lab: Lab, *, dialect: str = "postfix") -> None:
        self._directory = directory
        self._socket = UnixSocket(str(directory / "postfix.sock"))
        self._http = str(directory / "http.sock")
        self._log = directory / "strictmail.log"
        self.config = directory / "strictmail.toml"
        self._process: asyncio.subprocess.Process | None = None
        host, port = lab.dns_address
        text = CONFIGURATION.format(
            directory=directory,
            dns_host=host,
            dns_port=port,
            ca_file=lab.ca_file,
            https_port=lab.https_port,
            dialect=dialect,
        )
        self.config.write_text(text, encoding="utf-8")

    @property
    def socketmap(self) -> str:
        """Where it answers, in Postfix's words."""
        return str(self._socket)

    async def start(self) -> None:
        """Start it; returns when it takes lookups.

        Raises:
            UnreachableError: It does not get that far; the message has the end of its log.
        """
        with self._log.open("ab") as log:
            self._process = await self._spawn("serve", "--quiet", output=log.fileno())
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await self._is_ready():
                    if self._process.returncode is not None:
                        raise UnreachableError(f"strictmail serve has ended:\n{self._tail()}")
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise UnreachableError(f"strictmail serve is not ready:\n{self._tail()}") from None

    async def stop(self) -> None:
        """End it as a service manager does, and wait until it is gone."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it in the middle of whatever it does."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def ask(self, nexthop: str) -> DecisionDocument:
        """Ask what a next-hop demands of a sender that does DANE, and why.

        Raises:
            UnreachableError: There is no answer.
        """
        body = await self._get(f"/v1/decision/{quote(nexthop, safe='')}?dane=yes")
        return msgspec.json.decode(body, type=DecisionDocument)

    async def told(self, nexthop: str) -> str:
        """What Postfix is told, in the words of its protocol."""
        return await asyncio.to_thread(ask, self._socket, MAP_NAME, nexthop)

    async def refresh(self, domain: str) -> str:
        """Run `strictmail cache refresh`; returns what it prints."""
        process = await self._spawn("cache", "refresh", domain, output=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        return said.decode("utf-8", "replace").strip()

    async def _spawn(self, *words: str, output: int) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "strictmail", *words, "--config", str(self.config)]
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            # Ctrl-C is for the demo alone, which then ends everything in order.
            start_new_session=True,
        )

    async def _is_ready(self) -> bool:
        try:
            await self._get("/readyz")
        except (OSError, UnreachableError):
            return False
        return True

    async def _get(self, target: str) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._http)
        try:
            request = f"GET {target} HTTP/1.1\r\nHost: strictmail\r\nConnection: close\r\n\r\n"
            writer.write(request.encode("ascii"))
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        if head.split(b" ", 2)[1:2] != [b"200"]:
            first = head.decode("ascii", "replace").partition("\r\n")[0]
            raise UnreachableError(f"{target}: {first or 'closed without an answer'}")
        return body

    def _tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])
