# SPDX-License-Identifier: Apache-2.0
"""A server's end of a TCP connection that may turn to TLS, and the socket it came in at.

TLS runs over memory buffers, so that a lab host can also do what a proper server must not: slip
octets in before the handshake, end without a farewell, or be no TLS at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import warnings
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

T = TypeVar("T")

READ_BYTES: Final = 65_536
BACKLOG: Final = 256
MAX_LINE_BYTES: Final = 4096


class _ServerSide(ssl.SSLObject):
    """The TLS side of a server that remembers the name it was asked for."""

    server_name: str | None = None


class Connection:
    """One client.

    Attributes:
        server_name: The SNI of its TLS session, or None.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = b""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self.server_name: str | None = None

    @property
    def tls_version(self) -> str | None:
        """Such as `TLSv1.3`; None in the clear."""
        return None if self._tls is None else self._tls.version()

    @property
    def tls(self) -> bool:
        """Whether the handshake is done."""
        return self._tls is not None

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Do a server's handshake. What came in the clear and was not read is forgotten.

        Raises:
            ssl.SSLError: It failed; the alert was sent.
            OSError: The connection is gone.
        """
        self._buffer = b""
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        try:
            await self._pump(tls.do_handshake)
        finally:
            self.server_name = tls.server_name if isinstance(tls, _ServerSide) else None
        self._tls = tls

    async def _pump(self, step: Callable[[], T]) -> T:
        """Repeat a TLS operation until it has had all the octets it needs."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._reader.read(READ_BYTES)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            finally:
                await self._flush()

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._writer.write(data)
            await self._writer.drain()

    async def read(self) -> bytes:
        """Read what comes next; b"" at the end of the connection."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        if self._tls is None:
            return await self._reader.read(READ_BYTES)
        tls = self._tls
        try:
            return await self._pump(lambda: tls.read(READ_BYTES))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def read_line(self) -> bytes:
        """Read a line without its end.

        Raises:
            EOFError: The connection ended, or the line is too long.
        """
        while b"\n" not in self._buffer:
            rest, self._buffer = self._buffer, b""
            data = await self.read()
            if not data or len(rest) > MAX_LINE_BYTES:
                raise EOFError
            self._buffer = rest + data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r")

    async def write(self, data: bytes) -> None:
        """Send, and wait while the client does not read."""
        if self._tls is None:
            self._writer.write(data)
            await self._writer.drain()
            return
        self._tls.write(data)
        await self._flush()

    async def wait_closed(self) -> None:
        """Read and forget until the client is gone."""
        with contextlib.suppress(OSError):
            while await self.read():
                pass

    async def say_goodbye(self) -> None:
        """End a TLS session as TLS wants it (close_notify)."""
        if self._tls is not None:
            with contextlib.suppress(ssl.SSLError, OSError):
                self._tls.unwrap()
        with contextlib.suppress(OSError):
            await self._flush()


class Listener:
    """A listening socket that can be closed and opened again, and its clients."""

    def __init__(self, handle: Callable[[Connection], Awaitable[None]]) -> None:
        """Make one that does not listen yet.

        Args:
            handle: Serves a client; the connection ends when it returns.
        """
        self._handle = handle
        self._socket: socket.socket | None = None
        self._address = ("", 0)
        self._clients: set[asyncio.Task[None]] = set()

    def bind(self, host: str, port: int) -> int:
        """Listen; returns the port.

        Raises:
            OSError: The address is taken, or not to be had.
        """
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.settimeout(0)
            listening.bind((host, port))
            listening.listen(BACKLOG)
            self._address = listening.getsockname()
        except OSError as error:
            listening.close()
            raise cannot_listen(error, host, port) from error
        self._socket = listening
        asyncio.get_running_loop().add_reader(listening.fileno(), self._accept)
        return self._address[1]

    @property
    def is_open(self) -> bool:
        """Whether it listens."""
        return self._socket is not None

    def shut(self) -> None:
        """Listen no more: new clients are refused; those it has stay."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    async def close(self) -> None:
        """Listen no more, and drop all clients."""
        self.shut()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _accept(self) -> None:
        while self._socket is not None:
            try:
                client, _ = self._socket.accept()
            except OSError:  # nobody left to accept, or gone again
                return
            client.settimeout(0)
            # asyncio does it only for sockets that know their protocol.
            with contextlib.suppress(OSError):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.get_running_loop().create_task(self._serve(client))
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)

    async def _serve(self, client: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=client)
        except OSError:
            client.close()
            return
        try:
            # A client that goes away in the middle is no event in a lab.
            with contextlib.suppress(OSError, EOFError):
                await self._handle(Connection(reader, writer))
            writer.close()
        finally:
            if not writer.is_closing():
                writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def cannot_listen(error: OSError, host: str, port: int) -> OSError:
    """The same error with the place in its text."""
    return OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}")


def server_context(
    *chain_files: Path,
    old: bool = False,
    only_version: ssl.TLSVersion | None = None,
    only_name: str | None = None,
) -> ssl.SSLContext:
    """Make a server's TLS context.

    Args:
        chain_files: PEM with key and chain, each with another kind of key.
        old: TLS 1.0 only.
        only_version: This version only.
        only_name: Refuse sessions under another SNI, or without any.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if old:
        with warnings.catch_warnings():
            # Rightly discouraged: it is the fault on show.
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers("ALL:@SECLEVEL=0")
    if only_version is not None:
        context.minimum_version = context.maximum_version = only_version

    def judge(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        if isinstance(tls, _ServerSide):
            tls.server_name = name
        refused = only_name is not None and name != only_name
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if refused else None

    context.sslobject_class = _ServerSide
    for chain_file in chain_files:
        context.load_cert_chain(chain_file)
    context.sni_callback = judge
    return context
