# SPDX-License-Identifier: Apache-2.0
"""HTTPS servers on loopback that say exactly what a test wants, and a throw-away CA."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

DAY: Final = timedelta(days=1)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


class Authority:
    """A CA that signs whatever it is asked to."""

    def __init__(self, directory: Path, name: str = "Test CA") -> None:
        self._directory = directory
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._serial = 1
        root = self._build(_name(name), self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = directory / f"{name.replace(' ', '-')}.pem"
        self.file.write_bytes(root.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def _build(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        start: timedelta = -DAY,
        end: timedelta = DAY,
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        self._serial += 1
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_name(self._name))
            .public_key(key)
            .serial_number(self._serial)
            .not_valid_before(now + start)
            .not_valid_after(now + end)
        )

    def server_context(
        self,
        *names: str,
        common_name: str = "",
        start: timedelta = -DAY,
        end: timedelta = DAY,
    ) -> ssl.SSLContext:
        """A server's TLS with a certificate for these dNSNames (none: no SAN at all)."""
        builder = self._build(_name(common_name), self._leaf_key.public_key(), start, end)
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        path = self._directory / f"leaf-{self._name}-{self._serial}.pem"
        path.write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
            + self._leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    text: str
    sni: str | None
    alpn: str | None
    resumed: bool


class PolicyServer:
    """Accepts TLS (or with `context` None plain TCP) and lets `handler` answer.

    Attributes:
        handler: Called after the request head was read.
        requests: What came.
        connections: How many TCP connections were made.
    """

    def __init__(
        self, context: ssl.SSLContext | None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._context = context
        self._host = host
        self.port = port
        self.handler: Handler = respond(b"")
        self.requests: list[Request] = []
        self.connections = 0
        self._sni: str | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        if self._context is not None:
            self._context.sni_callback = self._note_sni
        self._server = await asyncio.start_server(
            self._serve, self._host, self.port, ssl=self._context
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

    def _note_sni(self, tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        self._sni = name

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            if self._context is not None:
                head = await reader.readuntil(b"\r\n\r\n")
                tls = writer.get_extra_info("ssl_object")
                self.requests.append(
                    Request(
                        head.decode(), self._sni, tls.selected_alpn_protocol(), tls.session_reused
                    )
                )
            await self.handler(reader, writer)
            if not writer.is_closing():
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)


def response(
    body: bytes,
    *,
    status: str = "200 OK",
    content_type: str | None = "text/plain",
    length: int | None = None,
    fields: tuple[str, ...] = (),
) -> bytes:
    """A response with Content-Length; `length` lies about it."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join([*lines, *fields, "", ""]).encode("latin-1") + body


def respond(data: bytes) -> Handler:
    """Send this and close in order."""

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return handler


def respond_and_cut(data: bytes) -> Handler:
    """Send this and cut the TCP connection, without TLS's good-bye."""

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.transport.abort()

    return handler


def respond_and_hold(data: bytes) -> Handler:
    """Send this and say nothing more, until the client goes away."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await reader.read()

    return handler


def respond_forever(head: bytes, piece: bytes) -> Handler:
    """Send the piece again and again, until the client goes away."""

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return handler
