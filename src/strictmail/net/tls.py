# SPDX-License-Identifier: Apache-2.0
"""A client's end of a TCP connection that may turn to TLS, and sees everything the server shows.

Nothing is verified and nothing refused here that a sending MTA could still use: who looks decides
afterwards, on the chain in full. Knows sockets and TLS, nothing of SMTP.

Flow: `ClientConnection.open` -> `receive` and `send` in the clear -> `start_tls` -> the same two
inside TLS -> `close`, which is at once. TLS runs over memory buffers, so that every octet of the
server's is seen before OpenSSL sees it: whether it answered at all, and whether with TLS.

=========================================  ======================================================
what ends a handshake                      `HandshakeFailure.kind`
=========================================  ======================================================
an alert of the server                     ALERT: it said no
octets that are no TLS record              NOT_TLS, and which octets
our own OpenSSL cannot go on               OURS: a version, a suite, an encoding that it does not
                                           speak
the end of the connection, or a reset      LOST: that proves nothing, since a firewall or a busy
                                           host does the same
a server name that TLS cannot carry        NO_NAME: it did not begin
=========================================  ======================================================

A wait that is too long is the caller's business (`asyncio.timeout`). No connection reads more than
MAX_CONNECTION_BYTES, encrypted octets included.

Choice: contexts are at OpenSSL's security level 0, as Postfix has it for TLS that need not be
authenticated: a weak key is a finding, not a failed handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import functools
import ipaddress
import socket
import ssl
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from strictmail.core.check.facts import KeyType

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

READ_BYTES: Final = 16 * 1024
"""Of one read: a TLS record, and the longest reply that is taken."""

MAX_CONNECTION_BYTES: Final = 1024 * 1024
"""Read from one server in all. A chain has some 5 KB, a session with it 10 KB."""

MAX_CHAIN_CERTIFICATES: Final = 32
"""Certificates of a presented chain that are kept."""

_MAX_EVIDENCE_BYTES: Final = 512
_HANDSHAKE, _ALERT = 0x16, 0x15
_TLS_MAJOR: Final = 3
_RECORD_START_BYTES: Final = 2
_IN_PROGRESS: Final = (0, errno.EINPROGRESS)
_OP_LEGACY_SERVER_CONNECT: Final = 0x4
"""`ssl.OP_LEGACY_SERVER_CONNECT`, which Python has from 3.12 on."""
_ENCODING_DER: Final = 2
"""`_ssl.ENCODING_DER`: X509_FILETYPE_ASN1."""


class Offer(enum.Enum):
    """What a client offers in its hello."""

    ORDINARY = "ordinary"
    """As an MTA of today: TLS 1.2 and 1.3."""
    LEGACY = "legacy"
    """The same, and TLS 1.0 and 1.1: to see whether it was the version."""
    RSA = "rsa"
    """TLS 1.2, suites with RSA certificates."""
    ECDSA = "ecdsa"
    """TLS 1.2, suites with ECDSA certificates."""


_CIPHERS: Final = {
    Offer.ORDINARY: "DEFAULT:!PSK:!SRP:@SECLEVEL=0",
    Offer.LEGACY: "DEFAULT:!PSK:!SRP:@SECLEVEL=0",
    Offer.RSA: "aRSA:!eNULL:!PSK:!SRP:@SECLEVEL=0",
    Offer.ECDSA: "aECDSA:!eNULL:@SECLEVEL=0",
}


def offer_for(key_type: KeyType) -> Offer:
    """What to offer in order to see a certificate of this kind."""
    return {KeyType.RSA: Offer.RSA, KeyType.ECDSA: Offer.ECDSA}.get(key_type, Offer.ORDINARY)


@functools.cache
def client_context(offer: Offer) -> ssl.SSLContext:
    """TLS as the offer says, without any verification; the same context each time.

    Python cannot choose signature algorithms, and in TLS 1.3 the suite says nothing of the
    certificate: RSA and ECDSA end at TLS 1.2. A host that speaks only 1.3 then refuses the
    version, and its other chain is unknown, not absent.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # Old servers without RFC 5746 are spoken to, as many MTAs do.
    context.options |= _OP_LEGACY_SERVER_CONNECT
    context.set_ciphers(_CIPHERS[offer])
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if offer is Offer.LEGACY:
        with warnings.catch_warnings():
            # Rightly discouraged: it is what we want to know.
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
    if offer in (Offer.RSA, Offer.ECDSA):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@dataclass(frozen=True, slots=True)
class TlsSession:
    """A handshake that was done.

    Attributes:
        version: As in `TLSv1.3`.
        cipher: OpenSSL's name of the suite.
        chain_der: What the server presented, in its order, leaf first; DER.
    """

    version: str
    cipher: str
    chain_der: tuple[bytes, ...]


class HandshakeFault(enum.Enum):
    """What ended a handshake; see the module."""

    ALERT = "alert"
    NOT_TLS = "not-tls"
    OURS = "ours"
    LOST = "lost"
    NO_NAME = "no-name"


@dataclass(frozen=True, slots=True)
class HandshakeFailure:
    """A handshake that was not done.

    Attributes:
        kind: What ended it.
        reason: OpenSSL's word, or the name of the error: `TLSV1_ALERT_PROTOCOL_VERSION`.
        octets: With NOT_TLS, the beginning of what came.
        answered: Whether any octet of TLS came.
    """

    kind: HandshakeFault
    reason: str
    octets: bytes = b""
    answered: bool = False

    @property
    def is_version(self) -> bool:
        """Whether the server refused the versions that were offered, or chose another one."""
        return self.reason in _VERSION_REASONS


_VERSION_REASONS: Final = frozenset(
    {"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION"}
)


class ClientConnection:
    """A connected socket, which it closes; in the clear until `start_tls`."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._read_bytes = 0
        self._first = b""

    @classmethod
    async def open(cls, address: str, port: int) -> ClientConnection:
        """Connect.

        Args:
            address: IPv4 or IPv6, never a name.
            port: Of TCP.

        Raises:
            OSError: There is no connection; `errno` says why.
        """
        try:
            version = ipaddress.ip_address(address).version
        except ValueError:
            raise OSError(errno.EADDRNOTAVAIL, "not an IP address") from None
        family = socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004
        sock = socket.socket(family, socket.SOCK_STREAM)
        connection = cls(sock)
        try:
            code = await connection._connect(address, port)
        except BaseException:
            sock.close()
            raise
        if code:
            sock.close()
            raise OSError(code, errno.errorcode.get(code, "no connection"))
        return connection

    async def _connect(self, address: str, port: int) -> int:
        """Connect; 0, or the error's number."""
        self._sock.setblocking(False)  # noqa: FBT003 - the socket API
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = self._sock.connect_ex((address, port))
        if code not in _IN_PROGRESS:
            return code
        if code:
            await self._wait(writing=True)
        return self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def close(self) -> None:
        """At once: nobody is waited for."""
        self._sock.close()

    async def send(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            OSError: The connection is gone.
        """
        if self._tls is None:
            await self._send_raw(data)
        else:
            self._tls.write(data)
            await self._flush()

    async def receive(self) -> bytes:
        """What has come; b"" at the end of the connection, however it ended.

        Raises:
            OSError: It was reset, TLS was broken, or too much came.
        """
        if self._tls is None:
            return await self._receive_raw()
        tls = self._tls
        try:
            return await self._pump(lambda: tls.read(READ_BYTES))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def receive_now(self) -> bytes:
        """What has come in the clear and was not read yet; waits for nothing."""
        try:
            return self._take_raw()
        except OSError:
            # Nothing yet (BlockingIOError), or an end that the next step will notice.
            return b""

    async def start_tls(
        self, context: ssl.SSLContext, server_name: str
    ) -> TlsSession | HandshakeFailure:
        """Do a client's handshake; never raises for what the server does.

        Args:
            context: See `client_context`.
            server_name: SNI; "" for none.
        """
        self._first = b""
        try:
            tls = context.wrap_bio(
                self._incoming, self._outgoing, server_hostname=server_name or None
            )
        except ValueError:  # UnicodeError too: no name that can be sent
            return HandshakeFailure(HandshakeFault.NO_NAME, "the server name cannot be sent")
        try:
            await self._pump(tls.do_handshake, watch=True)
        except _NotTlsError:
            return HandshakeFailure(
                HandshakeFault.NOT_TLS, "the answer is no TLS", octets=self._first
            )
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError):
            return self._lost("the connection ended")
        except ssl.SSLError as error:
            reason = error.reason or "unknown"
            kind = HandshakeFault.ALERT if "ALERT" in reason else HandshakeFault.OURS
            return HandshakeFailure(kind, reason, answered=bool(self._first))
        except OSError as error:
            return self._lost(errno.errorcode.get(error.errno or 0, "the connection ended"))
        self._tls = tls
        return _session(tls)

    def _lost(self, reason: str) -> HandshakeFailure:
        return HandshakeFailure(HandshakeFault.LOST, reason, answered=bool(self._first))

    async def _pump(self, step: Callable[[], T], *, watch: bool = False) -> T:
        """Repeat a TLS operation until it has had all the octets it needs."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
            except ssl.SSLError:
                # Our alert, if it can still be sent; the reason is what counts.
                with contextlib.suppress(OSError):
                    await self._flush()
                raise
            else:
                await self._flush()
                return result
            data = await self._receive_raw()
            if watch:
                self._watch(data)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _watch(self, data: bytes) -> None:
        """Look at the first octets that answer a client's hello: are they TLS at all?

        Raises:
            _NotTlsError: They are not.
        """
        if len(self._first) < _RECORD_START_BYTES:
            self._first = (self._first + data)[:_MAX_EVIDENCE_BYTES]
            # A record begins with its type, then the major version, which is 3 in all versions.
            kind, major = self._first[:1], self._first[1:2]
            if kind and kind[0] not in (_HANDSHAKE, _ALERT):
                raise _NotTlsError
            if major and major[0] != _TLS_MAJOR:
                raise _NotTlsError

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            await self._send_raw(data)

    async def _send_raw(self, data: bytes) -> None:
        while data:
            try:
                data = data[self._sock.send(data) :]
            except BlockingIOError:
                await self._wait(writing=True)

    async def _receive_raw(self) -> bytes:
        while True:
            try:
                return self._take_raw()
            except BlockingIOError:
                await self._wait(writing=False)

    def _take_raw(self) -> bytes:
        data = self._sock.recv(READ_BYTES)
        self._read_bytes += len(data)
        if self._read_bytes > MAX_CONNECTION_BYTES:
            raise OSError(errno.EMSGSIZE, f"more than {MAX_CONNECTION_BYTES} octets came")
        return data

    async def _wait(self, *, writing: bool) -> None:
        """Until the socket can be read, or written."""
        loop, fd = self._loop, self._sock.fileno()
        ready: asyncio.Future[None] = loop.create_future()
        add: Callable[..., Any] = loop.add_writer if writing else loop.add_reader
        remove = loop.remove_writer if writing else loop.remove_reader
        add(fd, _wake, ready)
        try:
            await ready
        finally:
            remove(fd)


class _NotTlsError(Exception):
    """What came is no TLS record."""


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _session(tls: ssl.SSLObject) -> TlsSession:
    cipher = tls.cipher()
    return TlsSession(
        version=tls.version() or "",
        cipher=cipher[0] if cipher else "",
        chain_der=presented_chain(tls)[:MAX_CHAIN_CERTIFICATES],
    )


def presented_chain(tls: ssl.SSLObject | ssl.SSLSocket) -> tuple[bytes, ...]:
    """All certificates that a server sent, in its order, verified or not; DER.

    Args:
        tls: After the handshake.
    """
    public = getattr(tls, "get_unverified_chain", None)
    if public is not None:  # Python 3.13
        return tuple(public())
    inner: Any = tls._sslobj  # type: ignore[union-attr]  # noqa: SLF001 - 3.11 and 3.12 have no other way
    return tuple(c.public_bytes(_ENCODING_DER) for c in inner.get_unverified_chain() or ())


@functools.lru_cache(maxsize=1024)
def leaf_key_type(leaf_der: bytes) -> KeyType:
    """The kind of key that a certificate has; OTHER also for what cannot be read."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    from strictmail.core.dane.tlsa import load_certificate

    certificate = load_certificate(leaf_der)
    if certificate is None:
        return KeyType.OTHER
    try:
        key = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return KeyType.OTHER
    if isinstance(key, rsa.RSAPublicKey):
        return KeyType.RSA
    return KeyType.ECDSA if isinstance(key, ec.EllipticCurvePublicKey) else KeyType.OTHER
