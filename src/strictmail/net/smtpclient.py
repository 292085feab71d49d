# SPDX-License-Identifier: Apache-2.0
"""A session that sends mail: SMTP (RFC 5321) or LMTP (RFC 2033), one message after the other.

Knows the order of commands; what a refusal means for a report is in `core.tlsrpt.mailreplies`,
whose certificate is good enough its caller says. What ends a session is a `SessionEnd`, which has
the outcome of the attempt; replies are bounded as in `strictmail.core.smtpreply`, all that a
server sends as in `strictmail.net.tls`. Time limits are the caller's.

Flow: `open` -> `start_tls` -> `log_in` -> `send`, again and again -> `close`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
from typing import TYPE_CHECKING, Final, NoReturn

from strictmail.core.smtpreply import MalformedReply, Reply, ReplyReader, capabilities
from strictmail.core.tlsrpt.delivery import OutcomeKind, SendOutcome
from strictmail.core.tlsrpt.mailreplies import (
    TLS_NEEDED,
    judge_message,
    judge_recipient,
    judge_welcome,
)
from strictmail.core.tlsrpt.message import format_mailbox
from strictmail.net.tls import ClientConnection, HandshakeFailure, TlsSession

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

MAX_MESSAGES: Final = 100
"""Of one session: some servers mind more."""

QUIT_SECONDS: Final = 2.0

_READY, _DONE, _DATA, _CLOSING = 220, 250, 354, 421
_AUTHENTICATED: Final = 235


class SessionEnd(Exception):  # noqa: N818 - it is how a session ends, not always an error
    """The session is over.

    Attributes:
        outcome: What that means for the attempt under way.
        tls_needed: The server wants STARTTLS before it takes mail.
    """

    def __init__(self, outcome: SendOutcome, *, tls_needed: bool = False) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome
        self.tls_needed = tls_needed


class TlsBroken(Exception):  # noqa: N818 - the same
    """There is no TLS on this connection, which is of no use any more."""


class SmtpSession:
    """One connection to a server.

    Args:
        connection: Open.
        name: The server's name, for sentences.
        ehlo_name: Ours.
        lmtp: It speaks LMTP.
        relayed: It is our own server, which passes mail on.

    Attributes:
        tls: The session of `start_tls`, or None in the clear.
        messages: How many were handed over, or may have been.
    """

    def __init__(
        self,
        connection: ClientConnection,
        name: str,
        *,
        ehlo_name: str,
        lmtp: bool = False,
        relayed: bool = False,
    ) -> None:
        self._connection = connection
        self._reader = ReplyReader()
        self._name = name
        self._hello = f"{'LHLO' if lmtp else 'EHLO'} {ehlo_name}"
        self._ehlo_name = ehlo_name
        self._lmtp = lmtp
        self._relayed = relayed
        self.offers: dict[str, str] = {}
        self.tls: TlsSession | None = None
        self.messages = 0

    async def open(self) -> None:
        """Read the greeting, say hello.

        Raises:
            SessionEnd: The server does not talk to us.
        """
        greeting = await self._read()
        if greeting.code != _READY:
            self._end(judge_welcome(greeting, f"{self._name} does not greet"))
        await self._say_hello()

    async def _say_hello(self) -> None:
        reply = await self._ask(self._hello)
        if reply.is_permanent and not self._lmtp:
            # RFC 5321 §3.2: a server of old, without extensions.
            reply = await self._ask(f"HELO {self._ehlo_name}")
        if reply.code != _DONE:
            self._end(judge_welcome(reply, f"{self._name} does not take our hello"))
        self.offers = capabilities(reply)

    async def start_tls(
        self, context: ssl.SSLContext, server_name: str, *, implicit: bool = False
    ) -> None:
        """Turn to TLS, by STARTTLS or, with `implicit`, before the greeting.

        Raises:
            TlsBroken: It did not come about.
            SessionEnd: The connection is gone.
        """
        if not implicit:
            reply = await self._ask("STARTTLS")
            if not reply.is_positive:
                raise TlsBroken(f"STARTTLS: {reply.shown}")
            # RFC 3207 §6: what came in the clear is no part of the session (SEC-03).
            if self._reader.left_over + self._connection.receive_now():
                raise TlsBroken("octets in the clear behind the reply to STARTTLS")
        result = await self._connection.start_tls(context, server_name)
        if isinstance(result, HandshakeFailure):
            raise TlsBroken(f"TLS handshake: {result.reason}")
        self.tls = result
        # RFC 3207 §4.2: what was learnt in the clear is forgotten (SEC-05).
        self._reader = ReplyReader()
        if not implicit:
            await self._say_hello()

    async def log_in(self, user: str, password: str) -> None:
        """AUTH PLAIN, or LOGIN where only that is offered (RFC 4954 §4).

        Raises:
            SessionEnd: It is not offered, or refused.
        """
        mechanisms = self.offers.get("AUTH", "").upper().split()
        if "PLAIN" in mechanisms:
            # RFC 4616 §2: NUL, user, NUL, password.
            secret = base64.b64encode(f"\0{user}\0{password}".encode()).decode("ascii")
            reply = await self._ask(f"AUTH PLAIN {secret}")
        elif "LOGIN" in mechanisms:
            reply = await self._ask("AUTH LOGIN")
            for part in (user, password):
                if reply.code // 100 == 3:  # noqa: PLR2004 - RFC 4954 §4: 334 goes on
                    reply = await self._ask(base64.b64encode(part.encode()).decode("ascii"))
        else:
            what = f"{self._name} offers neither AUTH PLAIN nor LOGIN"
            raise SessionEnd(SendOutcome(OutcomeKind.RETRY, what))
        if reply.code != _AUTHENTICATED:
            self._end(judge_welcome(reply, f"{self._name} does not take our password"))

    async def send(self, sender: str, recipient: str, message: bytes) -> SendOutcome:
        """Hand over one message to one recipient.

        Args:
            sender: Address for MAIL FROM; "" for none.
            recipient: Address for RCPT TO.
            message: Lines end with CRLF.

        Returns:
            What came of it; the session goes on.

        Raises:
            SessionEnd: The session is over, with what came of it.
        """
        for address in (sender, recipient):
            # BCP: whatever was looked at before, nothing is put into a command that could be
            # another one (SEC-25).
            if not address.isascii() or not address.isprintable() or set(address) & set("<> "):
                raise ValueError(f"{address[:60]!a} cannot stand in a command")
        reply = await self._ask(f"MAIL FROM:<{sender}>")
        if reply.code != _DONE:
            outcome = judge_welcome(reply, f"{self._name} refuses our mail")
            raise SessionEnd(outcome, tls_needed=reply.code == TLS_NEEDED)
        reply = await self._ask(f"RCPT TO:<{format_mailbox(recipient)}>")
        if not reply.is_positive:
            outcome = judge_recipient(reply, relayed=self._relayed)
            await self._ask("RSET")
            return outcome
        reply = await self._ask("DATA")
        if reply.code != _DATA:
            outcome = judge_message(reply)
            await self._ask("RSET")
            return outcome
        # RFC 5321 §4.5.2: a dot at the start of a line is doubled.
        stuffed = message.replace(b"\r\n.", b"\r\n..")
        if stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        # Counted before it is sent: from here on it may have been taken, whatever we hear of it.
        self.messages += 1
        await self._send(stuffed.removesuffix(b"\r\n") + b"\r\n.\r\n")
        # RFC 2033 §4.2: LMTP answers once for each recipient: here, once.
        reply = await self._read()
        return judge_message(reply)

    async def quit(self) -> None:
        """Say goodbye, without waiting long."""
        with contextlib.suppress(SessionEnd, TimeoutError):
            async with asyncio.timeout(QUIT_SECONDS):
                await self._ask("QUIT")
        self.close()

    def close(self) -> None:
        """At once."""
        self._connection.close()

    async def _ask(self, command: str) -> Reply:
        await self._send(f"{command}\r\n".encode("ascii"))
        reply = await self._read()
        if reply.code == _CLOSING and command != "QUIT":
            self._end(judge_welcome(reply, f"{self._name} closes the connection"))
        return reply

    async def _send(self, data: bytes) -> None:
        try:
            await self._connection.send(data)
        except OSError as error:
            self._lost(error)

    async def _read(self) -> Reply:
        reply = self._reader.feed()
        while reply is None:
            try:
                data = await self._connection.receive()
            except OSError as error:
                self._lost(error)
            if not data:
                self._end(SendOutcome(OutcomeKind.RETRY, f"{self._name} hung up"))
            reply = self._reader.feed(data)
        if isinstance(reply, MalformedReply):
            self._end(SendOutcome(OutcomeKind.RETRY, f"{self._name}: {reply}"))
        return reply

    def _lost(self, error: OSError) -> NoReturn:
        what = errno.errorcode.get(error.errno or 0, "the connection ended")
        raise SessionEnd(SendOutcome(OutcomeKind.RETRY, f"{self._name}: {what}")) from error

    @staticmethod
    def _end(outcome: SendOutcome) -> NoReturn:
        raise SessionEnd(outcome)


class SessionPool:
    """Sessions that wait for the next message to the same place.

    Args:
        idle_seconds: How long one may wait.
        monotonic: The time.
    """

    def __init__(self, idle_seconds: float, monotonic: Callable[[], float]) -> None:
        self._idle_seconds = idle_seconds
        self._monotonic = monotonic
        self._idle: dict[str, list[tuple[float, SmtpSession]]] = {}

    def take(self, key: str) -> SmtpSession | None:
        """A session to this place that has not waited too long, or None."""
        self.expire()
        waiting = self._idle.get(key)
        if not waiting:
            return None
        _, session = waiting.pop()
        if not waiting:
            del self._idle[key]
        return session

    def give(self, key: str, session: SmtpSession) -> None:
        """Keep a session that could take another message."""
        if session.messages >= MAX_MESSAGES:
            session.close()
            return
        until = self._monotonic() + self._idle_seconds
        self._idle.setdefault(key, []).append((until, session))

    def expire(self) -> None:
        """Close those that have waited too long."""
        now = self._monotonic()
        for key in list(self._idle):
            waiting = self._idle[key]
            for item in [item for item in waiting if item[0] <= now]:
                waiting.remove(item)
                item[1].close()
            if not waiting:
                del self._idle[key]

    async def close(self) -> None:
        """Say goodbye to all."""
        sessions = [session for waiting in self._idle.values() for _, session in waiting]
        self._idle.clear()
        await asyncio.gather(*(session.quit() for session in sessions))
