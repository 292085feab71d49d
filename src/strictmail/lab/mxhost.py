# SPDX-License-Identifier: Apache-2.0
"""One MX host: it takes mail over SMTP with STARTTLS, or does one thing wrong.

It keeps no mail, only who sent what to whom and how.
"""

from __future__ import annotations

import enum
import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from strictmail.lab.connection import server_context
from strictmail.lab.entries import MxFault
from strictmail.lab.host import FaultyHost

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from strictmail.lab.ca import Credentials
    from strictmail.lab.connection import Connection

MAX_MESSAGE_BYTES: Final = 10_000_000
_PATH: Final = re.compile(rb"(?:from|to):\s*<([^>]*)>", re.IGNORECASE)
_STARTTLS_REFUSALS: Final = {
    MxFault.STARTTLS_454: "454 4.7.0 TLS not available due to temporary reason",
    MxFault.STARTTLS_502: "502 5.5.1 Command not implemented",
}
_ONLY_VERSIONS: Final = {
    MxFault.TLS_1_2_ONLY: ssl.TLSVersion.TLSv1_2,
    MxFault.TLS_1_3_ONLY: ssl.TLSVersion.TLSv1_3,
}


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message that an MX host took.

    Attributes:
        host: The MX host, as named in the MX record.
        domain: The domain of the first recipient, lower case.
        recipients: As given in RCPT.
        sender: As given in MAIL; "" for the null sender.
        tls: Whether it came over TLS.
        tls_version: Such as `TLSv1.3`, or None.
        server_name: The SNI of the session, or None.
        size_bytes: Its size.
        at: When, by the lab's clock.
    """

    host: str
    domain: str
    recipients: tuple[str, ...]
    sender: str
    tls: bool
    tls_version: str | None
    server_name: str | None
    size_bytes: int
    at: datetime


@dataclass(frozen=True, slots=True)
class SeenRecipient:
    """A recipient that was named to an MX host, whether or not a message followed."""

    host: str
    recipient: str
    tls: bool


@dataclass(slots=True)
class _Session:
    greeted: bool = False
    sender: str | None = None
    recipients: list[str] = field(default_factory=list)

    def forget(self) -> None:
        self.sender = None
        self.recipients.clear()


class _Next(enum.Enum):
    GO_ON = enum.auto()
    HANG_UP = enum.auto()


class MxHostServer(FaultyHost[MxFault]):
    """The server of one MX host.

    Attributes:
        name: As in the MX record.
        fault: What it does wrong; set by `behave`.
        connections: How many it had since then.
    """

    def __init__(
        self,
        name: str,
        credentials: Credentials,
        *,
        fault: MxFault,
        now: Callable[[], datetime],
        on_message: Callable[[ReceivedMessage], None],
        on_recipient: Callable[[SeenRecipient], None],
    ) -> None:
        """Make one that does not listen yet.

        Args:
            name: As in the MX record.
            credentials: What it shows.
            fault: What it does wrong.
            now: The lab's clock.
            on_message: Told of each message it took.
            on_recipient: Told of each recipient that was named.
        """
        super().__init__(credentials, fault, MxFault.REFUSE)
        self.name = name
        self._now = now
        self._on_message = on_message
        self._on_recipient = on_recipient
        self.connections = 0

    def behave(self, fault: MxFault, credentials: Credentials | None = None) -> None:
        """Take on a fault, or put it away, from the next connection on; count from zero."""
        self.connections = 0
        super().behave(fault, credentials)

    async def _serve(self, connection: Connection) -> None:
        self.connections += 1
        if self.fault is MxFault.TARPIT:
            await connection.wait_closed()
            return
        if self._is_busy():
            await _say(connection, f"421 4.3.2 {self.name} is busy, come back later")
            return
        await self._welcome(connection)
        session = _Session()
        while await self._obey(connection, session, await connection.read_line()) is _Next.GO_ON:
            pass
        await connection.say_goodbye()

    def _is_busy(self) -> bool:
        match self.fault:
            case MxFault.BUSY_AT_FIRST:
                return self.connections == 1
            case MxFault.BUSY_SOON:
                return self.connections > 1
            case _:
                return self.fault is MxFault.GREETING_421

    async def _welcome(self, connection: Connection) -> None:
        match self.fault:
            case MxFault.GREETING_554:
                await _say(connection, f"554 5.7.1 {self.name} takes no mail from you")
            case MxFault.SLOW_GREETING:
                for octet in f"220-{self.name} ESMTP\r\n220 be patient\r\n":
                    await connection.write(octet.encode("ascii"))
            case _:
                await _say(connection, f"220 {self.name} ESMTP strictmail lab")

    async def _obey(self, connection: Connection, session: _Session, line: bytes) -> _Next:
        verb, _, argument = line.partition(b" ")
        match verb.upper():
            case b"EHLO" | b"HELO" as hello:
                return await self._greet(connection, session, hello)
            case b"STARTTLS":
                return await self._start_tls(connection, session)
            case b"MAIL" if not session.greeted:
                await _say(connection, "503 5.5.1 EHLO first")
            case b"MAIL":
                session.sender = _address(argument)
                await _say(connection, "250 2.1.0 Ok")
            case b"RCPT":
                await self._take_recipient(connection, session, _address(argument))
            case b"DATA":
                await self._take_message(connection, session)
            case b"RSET" | b"NOOP":
                if verb.upper() == b"RSET":
                    session.forget()
                await _say(connection, "250 2.0.0 Ok")
            case b"QUIT":
                await _say(connection, "221 2.0.0 Bye")
                return _Next.HANG_UP
            case _:
                await _say(connection, "502 5.5.2 Not understood")
        return _Next.GO_ON

    async def _greet(self, connection: Connection, session: _Session, verb: bytes) -> _Next:
        if self.fault is MxFault.DROP_AFTER_EHLO:
            return _Next.HANG_UP
        if verb == b"HELO":
            session.greeted = True
            await _say(connection, f"250 {self.name}")
            return _Next.GO_ON
        if self.fault is MxFault.EHLO_REFUSED:
            await _say(connection, "502 5.5.1 EHLO is not known here")
            return _Next.GO_ON
        if self.fault is MxFault.EHLO_451:
            await _say(connection, "451 4.7.1 Come back later")
            return _Next.GO_ON
        session.greeted = True
        # STARTTLS is not offered inside TLS (SEC-06).
        offer = self.fault is not MxFault.NO_STARTTLS and not connection.tls
        offer = offer or self.fault is MxFault.STARTTLS_AGAIN
        words = [self.name, "PIPELINING", f"SIZE {MAX_MESSAGE_BYTES}", "8BITMIME"]
        words += ["STARTTLS"] if offer else []
        words.append("ENHANCEDSTATUSCODES")
        lines = [f"250-{word}" for word in words[:-1]] + [f"250 {words[-1]}"]
        await _say(connection, *lines)
        return _Next.GO_ON

    async def _start_tls(self, connection: Connection, session: _Session) -> _Next:
        if self.fault in (MxFault.NO_STARTTLS, MxFault.EHLO_REFUSED) or connection.tls:
            await _say(connection, "502 5.5.1 STARTTLS is not offered")
            return _Next.GO_ON
        if self.fault in _STARTTLS_REFUSALS:
            await _say(connection, _STARTTLS_REFUSALS[self.fault])
            return _Next.GO_ON
        ready = "220 2.0.0 Ready to start TLS"
        if self.fault is MxFault.INJECTED:
            await _say(connection, ready, "250-injected.test", "250 SIZE 1")
        else:
            await _say(connection, ready)
        if self.fault is MxFault.BROKEN_TLS:
            # Not before the client's hello: that would be an injection.
            await connection.read()
            await _say(connection, "this is no TLS record")
            await connection.wait_closed()
            return _Next.HANG_UP
        if self.fault is MxFault.DROP_AFTER_STARTTLS:
            return _Next.HANG_UP
        # What was said in the clear does not count any more (SEC-04, SEC-05): start_tls forgets
        # what was read ahead, and the session begins anew.
        session.forget()
        session.greeted = False
        await connection.start_tls(
            server_context(
                *self.credentials.chain_files,
                old=self.fault is MxFault.OLD_TLS,
                only_version=_ONLY_VERSIONS.get(self.fault),
            )
        )
        return _Next.GO_ON

    async def _take_recipient(
        self, connection: Connection, session: _Session, recipient: str
    ) -> None:
        self._on_recipient(SeenRecipient(self.name, recipient, connection.tls))
        if session.sender is None:
            await _say(connection, "503 5.5.1 MAIL first")
        elif self.fault is MxFault.RCPT_550:
            await _say(connection, "550 5.1.1 No such user here")
        else:
            session.recipients.append(recipient)
            await _say(connection, "250 2.1.5 Ok")

    async def _take_message(self, connection: Connection, session: _Session) -> None:
        if not session.recipients:
            await _say(connection, "503 5.5.1 RCPT first")
            return
        await _say(connection, "354 End with a dot")
        size = 0
        while (line := await connection.read_line()) != b".":
            size += len(line) + 2
        self._on_message(
            ReceivedMessage(
                host=self.name,
                domain=session.recipients[0].rpartition("@")[2].lower(),
                recipients=tuple(session.recipients),
                sender=session.sender or "",
                tls=connection.tls,
                tls_version=connection.tls_version,
                server_name=connection.server_name,
                size_bytes=size,
                at=self._now(),
            )
        )
        session.forget()
        await _say(connection, "250 2.0.0 Ok: taken")


async def _say(connection: Connection, *lines: str) -> None:
    await connection.write("".join(f"{line}\r\n" for line in lines).encode("ascii"))


def _address(argument: bytes) -> str:
    found = _PATH.search(argument)
    return found[1].decode("utf-8", "backslashreplace") if found else ""
