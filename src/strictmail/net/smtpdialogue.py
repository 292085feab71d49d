# SPDX-License-Identifier: Apache-2.0
"""One SMTP connection, from its greeting to QUIT, without sending mail.

Knows the order of commands and what each reply, silence or end of the connection means for who
looks: the table is in `strictmail.net.smtp`. Verifies nothing.

Flow: `Dialogue.run` gives a `Seen` or raises `DialogueEnd` with one, or the OSError or TimeoutError
of the network; then `quit`, which does what is still possible, and `close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import ssl
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from strictmail.core.check.facts import ProbeOutcome, Unknown, UnknownReason
from strictmail.core.smtpreply import (
    MalformedReply,
    Reply,
    ReplyReader,
    capabilities,
    printable,
    server_name,
)
from strictmail.net.tls import (
    ClientConnection,
    HandshakeFailure,
    HandshakeFault,
    Offer,
    TlsSession,
    client_context,
)

QUIT_SECONDS: Final = 5.0
"""How long the reply to QUIT is waited for: all has been seen by then."""

STARTTLS_AGAIN: Final = "the host offers STARTTLS again inside TLS"
"""Detail of a session where it does, against RFC 3207 §4.2."""

_MAX_SHOWN_OCTETS: Final = 60
_CLOSING, _READY, _DONE = 421, 220, 250
_TEMPORARY: Final = re.compile(rb"4[0-9][0-9][ \r-]")
_FOR_US_ALONE: Final = re.compile(
    r"\btoo (many|fast)\b|\brate\b|\blimit|\bbusy\b|\blater\b", re.IGNORECASE
)
"""In a 4xx to STARTTLS: a limit on how often we come, such as Postfix's on new TLS sessions. Other
senders may find TLS in order."""

_ORDINARY: Final = (Offer.ORDINARY, Offer.LEGACY)

_CONNECT_REASONS: Final = {
    errno.ECONNREFUSED: UnknownReason.REFUSED,
    errno.ECONNRESET: UnknownReason.REFUSED,
    errno.ECONNABORTED: UnknownReason.REFUSED,
    errno.EPIPE: UnknownReason.REFUSED,
    errno.ETIMEDOUT: UnknownReason.TIMEOUT,
    # A rule of this machine's own packet filter.
    errno.EPERM: UnknownReason.PORT_BLOCKED,
    errno.EACCES: UnknownReason.PORT_BLOCKED,
    errno.EMFILE: UnknownReason.LIMIT,
    errno.ENFILE: UnknownReason.LIMIT,
    errno.ENOBUFS: UnknownReason.LIMIT,
    errno.ENOMEM: UnknownReason.LIMIT,
}
"""Any other error of a connect: no way there."""


@dataclass(frozen=True, slots=True)
class ProbeLimits:
    """How long is waited, in seconds.

    Attributes:
        connect: For TCP.
        greeting: For the first reply. Some hosts delay it, to see who cannot wait.
        command: For the reply to a command, and for the handshake.
        whole: For a probe in all, a second connection included; the reply to QUIT comes on top.
    """

    connect: float = 15.0
    greeting: float = 45.0
    command: float = 30.0
    whole: float = 120.0


DEFAULT_LIMITS: Final = ProbeLimits()


@dataclass(frozen=True, slots=True)
class Seen:
    """What one connection showed; the fields are those of `ProbeFacts`.

    Attributes:
        is_version_open: The handshake broke in a way that an old version may explain.
    """

    outcome: ProbeOutcome
    unknown: Unknown | None = None
    tls: TlsSession | None = None
    helo: str = ""
    reply: str = ""
    detail: str = ""
    starttls_inside: bool = False
    is_version_open: bool = False


class DialogueEnd(Exception):  # noqa: N818 - an end, not an error
    """Nothing more is to be seen on this connection."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen


class Dialogue:
    """A connection to be had once.

    Attributes:
        stage: What is being waited for, for people.
    """

    def __init__(self, ehlo_name: str, limits: ProbeLimits) -> None:
        self._ehlo_name = ehlo_name
        self._limits = limits
        self._connection: ClientConnection | None = None
        self._reader = ReplyReader()
        self._tls: TlsSession | None = None
        self._helo = ""
        self._may_quit = False
        self.stage = "connecting"

    async def run(self, address: str, port: int, offer: Offer, sni: str) -> Seen:
        """Connect, and go as far as it goes.

        Args:
            address: Where to.
            port: Of TCP.
            offer: What to offer in the handshake.
            sni: The server name to send; "" for none.

        Raises:
            DialogueEnd: It ended early.
            OSError: The connection broke; see `lost`.
        """
        await self._connect(address, port)
        await self._greet()
        if not await self._is_starttls_offered():
            return self._seen(ProbeOutcome.NO_STARTTLS, detail="STARTTLS is not offered")
        await self._start_tls()
        await self._shake_hands(offer, sni)
        return await self._greet_again()

    async def quit(self) -> None:
        """Say goodbye, if the host still listens, and give it a moment to answer."""
        if self._connection is None or not self._may_quit:
            return
        with contextlib.suppress(OSError, DialogueEnd):
            async with asyncio.timeout(QUIT_SECONDS):
                await self._ask("QUIT")

    def close(self) -> None:
        """At once."""
        if self._connection is not None:
            self._connection.close()

    def lost(self, error: OSError) -> Seen:
        """What a connection that broke is worth."""
        if isinstance(error, ssl.SSLError) and self._tls is not None:
            # TLS 1.3: the server's refusal comes when we already take the handshake for done.
            reason = error.reason or "broken"
            return self._seen(ProbeOutcome.TLS_FAILED, detail=f"after the handshake: {reason}")
        if error.errno == errno.EMSGSIZE:
            return self.unknown(UnknownReason.REJECTED, str(error.strerror))
        name = errno.errorcode.get(error.errno or 0, "the connection broke")
        return self.unknown(UnknownReason.REFUSED, f"{name} while {self.stage}")

    def unknown(self, reason: UnknownReason, detail: str, reply: Reply | None = None) -> Seen:
        """Nobody knows: with the reason."""
        return self._seen(
            ProbeOutcome.UNKNOWN, unknown=Unknown(reason, detail), reply=reply, detail=detail
        )

    def _seen(
        self,
        outcome: ProbeOutcome,
        *,
        detail: str,
        unknown: Unknown | None = None,
        reply: Reply | None = None,
        is_version_open: bool = False,
    ) -> Seen:
        return Seen(
            outcome=outcome,
            unknown=unknown,
            tls=self._tls,
            helo=self._helo,
            reply=reply.shown if reply is not None else "",
            detail=detail,
            is_version_open=is_version_open,
        )

    # ---- the steps --------------------------------------------------------------------------

    async def _connect(self, address: str, port: int) -> None:
        try:
            async with asyncio.timeout(self._limits.connect):
                self._connection = await ClientConnection.open(address, port)
        except OSError as error:  # TimeoutError too, whoever's it is
            if isinstance(error, TimeoutError):
                reason, what = UnknownReason.TIMEOUT, "no connection in time"
            else:
                reason = _CONNECT_REASONS.get(error.errno or 0, UnknownReason.NO_ROUTE)
                what = f"no connection: {errno.errorcode.get(error.errno or 0, 'unknown error')}"
            raise DialogueEnd(self.unknown(reason, f"{address} port {port}: {what}")) from error

    async def _greet(self) -> None:
        self.stage = "waiting for the greeting"
        try:
            async with asyncio.timeout(self._limits.greeting):
                reply = await self._read()
        except TimeoutError:
            what = f"no greeting within {self._limits.greeting:g} s"
            raise DialogueEnd(self.unknown(UnknownReason.TARPIT, what)) from None
        self._helo = server_name(reply)
        if reply.code != _READY:
            # RFC 5321 §3.1: after a 554 greeting, only QUIT is left.
            self._end(reply, "the host does not greet")

    async def _is_starttls_offered(self) -> bool:
        self.stage = "waiting for the reply to EHLO"
        reply = await self._ask(f"EHLO {self._ehlo_name}")
        if reply.is_permanent:
            # RFC 5321 §3.2: a server of old, without extensions (SEC-02).
            self.stage = "waiting for the reply to HELO"
            reply = await self._ask(f"HELO {self._ehlo_name}")
            if reply.code != _DONE:
                self._end(reply, "the host takes neither EHLO nor HELO")
            return False
        if reply.code != _DONE:
            self._end(reply, "the host does not take EHLO")
        self._helo = server_name(reply) or self._helo
        return "STARTTLS" in capabilities(reply)

    async def _start_tls(self) -> None:
        self.stage = "waiting for the reply to STARTTLS"
        reply = await self._ask("STARTTLS")
        if reply.is_temporary and _FOR_US_ALONE.search(reply.shown):
            self._end(reply, "STARTTLS is put off")
        if reply.is_temporary:
            self._stop(ProbeOutcome.STARTTLS_TEMPORARY, "STARTTLS is refused for now", reply)
        if reply.is_permanent:
            self._stop(ProbeOutcome.STARTTLS_REFUSED, "STARTTLS is offered, and refused", reply)
        if not reply.is_positive:
            self._end(reply, "this is no reply to STARTTLS")
        assert self._connection is not None
        # RFC 3207 §6: what came in the clear is no part of the session (SEC-03, STS-APP-43). No
        # server may speak before our hello: whatever is there now was put in.
        self._may_quit = False
        injected = self._reader.left_over + self._connection.receive_now()
        if injected:
            detail = f"octets in the clear behind the reply to STARTTLS: {_shown(injected)}"
            self._stop(ProbeOutcome.INJECTED, detail, reply)

    async def _shake_hands(self, offer: Offer, sni: str) -> None:
        self.stage = "in the TLS handshake"
        assert self._connection is not None
        try:
            async with asyncio.timeout(self._limits.command):
                result = await self._connection.start_tls(client_context(offer), sni)
        except TimeoutError:
            what = f"the TLS handshake was not done within {self._limits.command:g} s"
            raise DialogueEnd(self.unknown(UnknownReason.TIMEOUT, what)) from None
        if isinstance(result, HandshakeFailure):
            raise DialogueEnd(self._judge_failure(result, offer))
        self._tls = result
        # RFC 3207 §4.2: what was learnt in the clear is forgotten (SEC-05, STS-APP-42).
        self._reader = ReplyReader()

    def _judge_failure(self, failure: HandshakeFailure, offer: Offer) -> Seen:
        """What a broken handshake proves."""
        match failure.kind:
            case HandshakeFault.LOST:
                where = "in the middle of" if failure.answered else "instead of"
                detail = f"the connection ended {where} the TLS handshake: {failure.reason}"
                seen = Unknown(UnknownReason.REFUSED, detail)
                return self._seen(
                    ProbeOutcome.UNKNOWN, unknown=seen, detail=detail, is_version_open=True
                )
            case HandshakeFault.NO_NAME:
                return self.unknown(UnknownReason.LIMIT, failure.reason)
            case HandshakeFault.NOT_TLS if _TEMPORARY.match(failure.octets):
                what = f"instead of TLS, the host says {_shown(failure.octets)}"
                return self.unknown(UnknownReason.BUSY, what)
            case HandshakeFault.NOT_TLS:
                detail = f"instead of TLS, the host sends {_shown(failure.octets)}"
                return self._seen(ProbeOutcome.TLS_FAILED, detail=detail)
        if failure.is_version and offer not in _ORDINARY:
            what = "the host refuses TLS 1.2, and in TLS 1.3 no kind of certificate can be chosen"
            return self.unknown(UnknownReason.LIMIT, what)
        who = "the host ends" if failure.kind is HandshakeFault.ALERT else "we cannot go on with"
        which = "" if offer in _ORDINARY else f" for {offer.value.upper()} certificates"
        detail = f"{who} the TLS handshake{which}: {printable(failure.reason, _MAX_SHOWN_OCTETS)}"
        return self._seen(ProbeOutcome.TLS_FAILED, detail=detail, is_version_open=True)

    async def _greet_again(self) -> Seen:
        self.stage = "waiting for the reply to EHLO inside TLS"
        self._may_quit = True
        reply = await self._ask(f"EHLO {self._ehlo_name}")
        if reply.code != _DONE:
            self._end(reply, "the host does not take EHLO inside TLS")
        self._helo = server_name(reply) or self._helo
        # RFC 3207 §4.2: not offered again (SEC-06). Senders do not mind.
        again = "STARTTLS" in capabilities(reply)
        return replace(
            self._seen(ProbeOutcome.TLS, detail=STARTTLS_AGAIN if again else ""),
            starttls_inside=again,
        )

    # ---- replies ----------------------------------------------------------------------------

    async def _ask(self, command: str) -> Reply:
        """Say something, and read the reply."""
        assert self._connection is not None
        try:
            async with asyncio.timeout(self._limits.command):
                await self._connection.send(f"{command}\r\n".encode("ascii"))
                reply = await self._read()
        except TimeoutError:
            what = f"nothing within {self._limits.command:g} s, {self.stage}"
            raise DialogueEnd(self.unknown(UnknownReason.TIMEOUT, what)) from None
        if reply.code == _CLOSING:
            self._end(reply, "the host closes the connection")
        return reply

    async def _read(self) -> Reply:
        assert self._connection is not None
        self._may_quit = False
        reply = self._reader.feed()
        while reply is None:
            data = await self._connection.receive()
            if not data:
                what = f"the host hung up while {self.stage}"
                raise DialogueEnd(self.unknown(UnknownReason.REFUSED, what))
            reply = self._reader.feed(data)
        if isinstance(reply, MalformedReply):
            what = f"{reply} while {self.stage}"
            raise DialogueEnd(self.unknown(UnknownReason.REJECTED, what))
        self._may_quit = reply.code != _CLOSING
        return reply

    def _end(self, reply: Reply, what: str) -> NoReturn:
        """Unknown: it has something against us, now or ever."""
        reason = UnknownReason.BUSY if reply.is_temporary else UnknownReason.REJECTED
        raise DialogueEnd(self.unknown(reason, f"{what}: `{reply.shown}`", reply))

    def _stop(self, outcome: ProbeOutcome, detail: str, reply: Reply) -> NoReturn:
        raise DialogueEnd(self._seen(outcome, detail=detail, reply=reply))


def _shown(octets: bytes) -> str:
    text = octets[:_MAX_SHOWN_OCTETS].decode("latin-1")
    return f"`{printable(text, 4 * _MAX_SHOWN_OCTETS)}`"
