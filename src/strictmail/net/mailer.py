# SPDX-License-Identifier: Apache-2.0
"""Reports by mail through a server of ours: the local MTA, a submission service, LMTP.

The server has the queue; what comes of a report behind it, only a bounce can tell. Whether the
report travels over TLS from there on is the server's business: the message says `TLS-Required: No`.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.tlsrpt.delivery import OutcomeKind, SendOutcome
from strictmail.net.smtpclient import SessionEnd, SessionPool, SmtpSession, TlsBroken
from strictmail.net.tls import ClientConnection

if TYPE_CHECKING:
    from strictmail.ports import Clock

IDLE_SECONDS: Final = 10.0
"""How long a session waits for the next report."""

CONNECT_SECONDS: Final = 20.0

MAX_ADDRESSES: Final = 4
"""Of the server's name that are tried."""


class RelayTls(enum.StrEnum):
    """How the connection to the server is protected."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


@dataclass(frozen=True, slots=True)
class Relay:
    """A server that takes mail for everybody.

    Attributes:
        host: Name or address; a name as the system resolves it.
        port: 25, 587, 465, 24.
        lmtp: It speaks LMTP.
        tls: With anything but NONE, the certificate is verified for `host`.
        user: For AUTH; "" for none.
        password: For AUTH.
    """

    host: str
    port: int = 25
    lmtp: bool = False
    tls: RelayTls = RelayTls.NONE
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        """Without the password, wherever it is shown."""
        return f"Relay({self.host!r}, {self.port}, tls={self.tls}, user={self.user!r})"


class RelayMailer:
    """Hands reports to a server; implements `ports.ReportMailer`.

    Args:
        relay: The server.
        clock: For sessions that wait.
        ehlo_name: What we call ourselves.
        envelope_sender: Where bounces go; "" for nowhere.
        ca_file: Trusted roots in PEM; None for the system's.
        timeout: Seconds for one attempt.

    Attributes:
        fault: Why the server cannot be used now; "" since it last took something from us.

    Raises:
        OSError: The roots cannot be read.
    """

    def __init__(
        self,
        relay: Relay,
        clock: Clock,
        *,
        ehlo_name: str,
        envelope_sender: str = "",
        ca_file: str | None = None,
        timeout: float = 120.0,
    ) -> None:
        self._relay = relay
        self._ehlo_name = ehlo_name
        self._sender = envelope_sender
        self._timeout = timeout
        self._pool = SessionPool(IDLE_SECONDS, clock.monotonic)
        self.fault = ""
        self._context = None if relay.tls is RelayTls.NONE else verifying_context(ca_file)

    async def send(self, address: str, message: bytes) -> SendOutcome:
        """Hand over a report; see `ports.ReportMailer`."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._send(address, message)
        except TimeoutError:
            self.fault = f"{self._relay.host}: not done within {self._timeout:g} s"
            return SendOutcome(OutcomeKind.RETRY, self.fault)

    async def _send(self, address: str, message: bytes) -> SendOutcome:
        kept = self._pool.take("")
        if kept is not None:
            before = kept.messages
            try:
                return await self._use(kept, address, message)
            except SessionEnd as end:
                if kept.messages != before:
                    return end.outcome
                # It had ended while it waited: nothing was handed over.
        try:
            session = await self._open()
            return await self._use(session, address, message)
        except SessionEnd as end:
            self.fault = end.outcome.detail
            return end.outcome

    async def _use(self, session: SmtpSession, address: str, message: bytes) -> SendOutcome:
        try:
            outcome = await session.send(self._sender, address, message)
        except BaseException:
            session.close()
            raise
        self.fault = ""
        self._pool.give("", session)
        return outcome

    async def check(self) -> SendOutcome:
        """Connect, say hello, log in: whether the server would take mail from us."""
        try:
            async with asyncio.timeout(self._timeout):
                session = await self._open()
        except TimeoutError:
            return SendOutcome(OutcomeKind.RETRY, f"not done within {self._timeout:g} s")
        except SessionEnd as end:
            return end.outcome
        await session.quit()
        return SendOutcome(OutcomeKind.DELIVERED, f"{self._relay.host} talks to us")

    async def _open(self) -> SmtpSession:
        relay = self._relay
        connection = await self._connect()
        session = SmtpSession(
            connection, relay.host, ehlo_name=self._ehlo_name, lmtp=relay.lmtp, relayed=True
        )
        try:
            if relay.tls is RelayTls.IMPLICIT:
                assert self._context is not None
                await session.start_tls(self._context, relay.host, implicit=True)
            await session.open()
            if relay.tls is RelayTls.STARTTLS:
                assert self._context is not None
                await session.start_tls(self._context, relay.host)
            if relay.user:
                await session.log_in(relay.user, relay.password)
        except TlsBroken as error:
            session.close()
            what = f"{relay.host}: {error}"
            raise SessionEnd(SendOutcome(OutcomeKind.RETRY, what)) from error
        except BaseException:
            session.close()
            raise
        return session

    async def _connect(self) -> ClientConnection:
        relay = self._relay
        why = "no address"
        for address in (await self._addresses())[:MAX_ADDRESSES]:
            try:
                # Each has its time: an address that swallows packets does not hide the next one.
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await ClientConnection.open(address, relay.port)
            except OSError as error:  # TimeoutError too
                why = errno.errorcode.get(error.errno or 0, "no connection")
        detail = f"{relay.host} port {relay.port}: {why}"
        raise SessionEnd(SendOutcome(OutcomeKind.RETRY, detail))

    async def _addresses(self) -> list[str]:
        # The system's own lookup, so that /etc/hosts counts: the operator named this server.
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                self._relay.host, self._relay.port, type=socket.SOCK_STREAM
            )
        except OSError:
            return []
        return list(dict.fromkeys(str(item[4][0]) for item in found))

    async def close(self) -> None:
        """Say goodbye."""
        await self._pool.close()


def verifying_context(ca_file: str | None) -> ssl.SSLContext:
    """TLS with a server that has to be the one that was named.

    Raises:
        OSError: The roots cannot be read.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
