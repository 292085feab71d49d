# SPDX-License-Identifier: Apache-2.0
"""A mail server on loopback that says what a test wants, and keeps what it was given."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl
    from types import TracebackType


@dataclass
class Taken:
    """One message as it came."""

    sender: str
    recipient: str
    message: bytes
    tls: bool
    user: str


@dataclass
class MailServer:
    """SMTP or LMTP, on 127.0.0.1.

    Attributes:
        replies: Command (`EHLO`, `MAIL`, `RCPT`, `DATA`, `.`, `STARTTLS`, `greeting`) -> what it
            says instead of the usual.
        context: For STARTTLS; None: not offered.
        implicit: TLS from the first octet on.
        users: For AUTH, by name.
        hang: Commands that are never answered.
        cut: Commands after which the connection ends.
        break_tls: Speak garbage instead of TLS.
        tls_for_mail: Refuse MAIL outside TLS.
    """

    replies: dict[str, str] = field(default_factory=dict)
    context: ssl.SSLContext | None = None
    implicit: bool = False
    users: dict[str, str] = field(default_factory=dict)
    mechanisms: str = "PLAIN LOGIN"
    hang: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    break_tls: bool = False
    injected: bytes = b""
    tls_for_mail: bool = False
    no_ehlo: bool = False
    taken: list[Taken] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0

    def on_said(self, stage: str) -> None:
        """Called before each reply, with what it answers."""

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self.context if self.implicit else None
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        session = _Session(self, reader, writer)
        try:
            await session.run()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # Cancelled: by the end of the test, which waits for it.
            pass
        finally:
            writer.close()
            self._tasks.discard(task)


class _Session:
    """One connection."""

    def __init__(
        self, server: MailServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.tls = server.implicit
        self.user = self.sender = self.recipient = ""

    async def say(self, what: str, usual: str) -> str:
        text = self.server.replies.get(what, usual)
        if what in self.server.hang:
            await asyncio.Event().wait()
        self.server.on_said(what)
        self.writer.write(text.encode("latin-1") + b"\r\n")
        await self.writer.drain()
        if what in self.server.cut:
            raise ConnectionResetError
        return text

    async def run(self) -> None:
        await self.say("greeting", "220 mx.test ESMTP")
        while True:
            line = (await self.reader.readuntil(b"\r\n")).decode("latin-1").strip()
            self.server.commands.append(line)
            verb = line.partition(" ")[0].upper()
            if verb == "QUIT":
                await self.say("QUIT", "221 bye")
                return
            handler = getattr(self, f"on_{verb.lower()}", None)
            if handler is None:
                await self.say(verb, "502 what?")
            else:
                await handler(line)

    async def on_ehlo(self, _line: str) -> None:
        if self.server.no_ehlo:
            await self.say("EHLO", "502 what?")
            return
        lines = ["mx.test"]
        if self.server.context is not None and not self.tls:
            lines.append("STARTTLS")
        if self.server.users:
            lines.append(f"AUTH {self.server.mechanisms}")
        lines.append("8BITMIME")
        usual = "\r\n".join(
            f"250{'-' if n < len(lines) - 1 else ' '}{line}" for n, line in enumerate(lines)
        )
        await self.say("EHLO", usual)

    on_lhlo = on_ehlo

    async def on_helo(self, _line: str) -> None:
        await self.say("HELO", "250 mx.test")

    async def on_starttls(self, _line: str) -> None:
        said = await self.say("STARTTLS", "220 go")
        if not said.startswith("220"):
            return
        if self.server.injected:
            self.writer.write(self.server.injected)
        if self.server.break_tls:
            self.writer.write(b"this is no TLS at all\r\n")
            await self.writer.drain()
            await self.reader.read()
            raise ConnectionResetError
        assert self.server.context is not None
        await self.writer.start_tls(self.server.context)
        self.tls = True

    async def on_auth(self, line: str) -> None:
        _, mechanism, *rest = line.split()
        if mechanism == "PLAIN":
            _, user, password = base64.b64decode(rest[0]).decode().split("\0")
        else:
            answers = []
            for question in ("Username:", "Password:"):
                await self.say("334", f"334 {base64.b64encode(question.encode()).decode()}")
                answers.append(base64.b64decode(await self.reader.readuntil(b"\r\n")).decode())
            user, password = answers
        if self.server.users.get(user) == password:
            self.user = user
            await self.say("AUTH", "235 welcome")
        else:
            await self.say("AUTH", "535 5.7.8 no")

    async def on_mail(self, line: str) -> None:
        if self.server.tls_for_mail and not self.tls:
            await self.say("530", "530 5.7.0 Must issue a STARTTLS command first")
            return
        self.sender = line.partition("<")[2].partition(">")[0]
        await self.say("MAIL", "250 ok")

    async def on_rcpt(self, line: str) -> None:
        self.recipient = line.partition("<")[2].partition(">")[0]
        await self.say("RCPT", "250 ok")

    async def on_rset(self, _line: str) -> None:
        await self.say("RSET", "250 ok")

    async def on_data(self, _line: str) -> None:
        said = await self.say("DATA", "354 go ahead")
        if not said.startswith("354"):
            return
        octets = await self.reader.readuntil(b"\r\n.\r\n")
        message = octets[:-3].replace(b"\r\n..", b"\r\n.")
        if self.server.replies.get(".", "250").startswith("250"):
            self.server.taken.append(
                Taken(self.sender, self.recipient, message, self.tls, self.user)
            )
        await self.say(".", "250 queued")
