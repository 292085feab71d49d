# SPDX-License-Identifier: Apache-2.0
"""One HTTPS policy host: it serves a policy, or does one thing wrong.

It answers only under its own name: another SNI, or none, is refused (RFC 8461 §7.1), so that every
fetch from it shows what the client sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import h11

from strictmail.core.sts.values import MAX_POLICY_BYTES
from strictmail.lab.connection import server_context
from strictmail.lab.entries import PolicyFault
from strictmail.lab.host import FaultyHost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from strictmail.lab.ca import Credentials
    from strictmail.lab.connection import Connection

PATH: Final = "/.well-known/mta-sts.txt"
ELSEWHERE: Final = "https://www.plain.test/mta-sts.txt"
BOMB_BYTES: Final = 100_000_000
BOMB_MEMBER_BYTES: Final = 1_000_000
PIECE: Final = b"x-padding: " + b"x" * 4083 + b"\r\n"
"""4 KiB that a policy could hold: an extension field."""

_STATUS_LINES: Final = {
    PolicyFault.NOT_FOUND: "404 Not Found",
    PolicyFault.SERVER_ERROR: "500 Internal Server Error",
    PolicyFault.NO_CONTENT: "204 No Content",
    PolicyFault.NON_AUTHORITATIVE: "203 Non-Authoritative Information",
    PolicyFault.NOT_MODIFIED: "304 Not Modified",
    PolicyFault.REDIRECT_SAME_HOST: "301 Moved Permanently",
    PolicyFault.REDIRECT_OTHER_HOST: "302 Found",
}
_CONTENT_TYPES: Final = {
    PolicyFault.WRONG_TYPE: "text/html; charset=utf-8",
    PolicyFault.NO_TYPE: "",
    PolicyFault.PARAMETERS: 'Text/Plain; charset=iso-8859-1; x="y"',
}


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """A request that a policy host got.

    Attributes:
        host: The policy host.
        server_name: The SNI, or None.
        method: Such as `GET`.
        target: The request target.
        headers: Names in lower case.
        at: When, by the lab's clock.
    """

    host: str
    server_name: str | None
    method: str
    target: str
    headers: dict[str, str]
    at: datetime


class PolicyHostServer(FaultyHost[PolicyFault]):
    """The server behind one policy host name.

    Attributes:
        name: The policy host.
        body: What it serves; may be changed at any time.
        fault: What it does wrong; set by `behave`.
    """

    def __init__(
        self,
        name: str,
        body: bytes,
        credentials: Credentials,
        *,
        fault: PolicyFault,
        slow_seconds: float,
        now: Callable[[], datetime],
        on_request: Callable[[PolicyRequest], None],
    ) -> None:
        """Make one that does not listen yet.

        Args:
            name: The policy host.
            body: What it serves.
            credentials: What it shows.
            fault: What it does wrong.
            slow_seconds: Seconds between two octets of a slow host.
            now: The lab's clock.
            on_request: Told of each request.
        """
        super().__init__(credentials, fault, PolicyFault.REFUSE)
        self.name = name
        self.body = body
        self.slow_seconds = slow_seconds
        self._now = now
        self._on_request = on_request

    async def _serve(self, connection: Connection) -> None:
        if self.fault is PolicyFault.STALL:
            await connection.wait_closed()
            return
        if self.fault is not PolicyFault.PLAINTEXT_ONLY:
            # RFC 8461 §7.1: the chain for this name, or an end of the handshake.
            old = self.fault is PolicyFault.OLD_TLS
            context = server_context(self.credentials.chain_file, old=old, only_name=self.name)
            await connection.start_tls(context)
        request = await _read_request(connection)
        if request is None:
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers
        }
        seen = PolicyRequest(
            self.name,
            connection.server_name,
            request.method.decode("ascii"),
            request.target.decode("ascii"),
            headers,
            self._now(),
        )
        self._on_request(seen)
        await self._respond(connection, seen)

    async def _respond(self, connection: Connection, request: PolicyRequest) -> None:
        host = request.headers.get("host", "").partition(":")[0]
        if request.method != "GET" or request.target != PATH or host != self.name:
            await connection.write(_head("404 Not Found", length=0))
            return
        special = _RESPONSES.get(self.fault)
        if special is not None:
            await special(self, connection)
            return
        status = _STATUS_LINES.get(self.fault, "200 OK")
        body = (
            b"" if self.fault in (PolicyFault.NO_CONTENT, PolicyFault.NOT_MODIFIED) else self.body
        )
        content_type = _CONTENT_TYPES.get(self.fault, "text/plain")
        location = {
            PolicyFault.REDIRECT_SAME_HOST: f"https://{self.name}/policy.txt",
            PolicyFault.REDIRECT_OTHER_HOST: ELSEWHERE,
        }.get(self.fault, "")
        head = _head(status, content_type=content_type, length=len(body), location=location)
        await connection.write(head + body)
        await connection.say_goodbye()


async def _send_slowly(host: PolicyHostServer, connection: Connection) -> None:
    await connection.write(_head("200 OK", length=len(host.body)))
    for octet in host.body:
        await asyncio.sleep(host.slow_seconds)
        await connection.write(bytes([octet]))


async def _send_endless(host: PolicyHostServer, connection: Connection) -> None:
    await connection.write(_head("200 OK", length=None) + _chunk(host.body))
    while True:
        await connection.write(_chunk(PIECE))


async def _send_huge(host: PolicyHostServer, connection: Connection) -> None:
    body = host.body + PIECE * (MAX_POLICY_BYTES // len(PIECE) + 1)
    await connection.write(_head("200 OK", length=len(body)) + body)
    await connection.say_goodbye()


async def _send_headers(_: PolicyHostServer, connection: Connection) -> None:
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")
    while True:
        await connection.write(PIECE)


async def _send_compressed(host: PolicyHostServer, connection: Connection) -> None:
    body = gzip.compress(host.body) if host.fault is PolicyFault.GZIP else _bomb()
    await connection.write(_head("200 OK", length=len(body), encoding="gzip") + body)
    await connection.say_goodbye()


async def _send_truncated(host: PolicyHostServer, connection: Connection) -> None:
    await connection.write(_head("200 OK", length=len(host.body) + 100) + host.body)


async def _send_unfinished(host: PolicyHostServer, connection: Connection) -> None:
    await connection.write(_head("200 OK", length=None) + _chunk(host.body))
    await connection.say_goodbye()


async def _send_no_http(host: PolicyHostServer, connection: Connection) -> None:
    await connection.write(host.body)
    await connection.say_goodbye()


_RESPONSES: Final[dict[PolicyFault, Callable[[PolicyHostServer, Connection], Awaitable[None]]]] = {
    PolicyFault.SLOW: _send_slowly,
    PolicyFault.ENDLESS: _send_endless,
    PolicyFault.HUGE: _send_huge,
    PolicyFault.HEADER_FLOOD: _send_headers,
    PolicyFault.GZIP: _send_compressed,
    PolicyFault.BOMB: _send_compressed,
    PolicyFault.TRUNCATED: _send_truncated,
    PolicyFault.UNFINISHED_CHUNKS: _send_unfinished,
    PolicyFault.NOT_HTTP: _send_no_http,
}


async def _read_request(connection: Connection) -> h11.Request | None:
    parser = h11.Connection(h11.SERVER)
    with contextlib.suppress(h11.RemoteProtocolError):
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Request):
                return event
            if event is not h11.NEED_DATA:
                return None
            parser.receive_data(await connection.read())
    return None


def _head(
    status: str,
    *,
    length: int | None,
    content_type: str = "text/plain",
    encoding: str = "",
    location: str = "",
) -> bytes:
    fields = [f"HTTP/1.1 {status}", "Connection: close"]
    fields.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    if content_type:
        fields.append(f"Content-Type: {content_type}")
    if encoding:
        fields.append(f"Content-Encoding: {encoding}")
    if location:
        fields.append(f"Location: {location}")
    return "\r\n".join([*fields, "", ""]).encode("ascii")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@lru_cache(maxsize=1)
def _bomb() -> bytes:
    # Gzip members may follow one another: one is compressed, and repeated.
    return gzip.compress(b"x" * BOMB_MEMBER_BYTES) * (BOMB_BYTES // BOMB_MEMBER_BYTES)
