# SPDX-License-Identifier: Apache-2.0
"""The policy fetch over HTTPS (RFC 8461 §3.3), bounded in time, size and work.

What a response has to be like is decided in `strictmail.core.sts.fetchrules`; here is the network:
addresses, connections, TLS, and h11 for HTTP/1.1. Sockets are plain and non-blocking, without
asyncio's transports and streams: that is cheaper, the same on every event loop, and when a fetch
ends for whatever reason its sockets are closed in that moment.

What is bounded, and by what:

==================================  ==============================================================
slow DNS, connect, TLS or body      one deadline for everything; a shorter one for each step that
                                    another address could still do better
many addresses                      MAX_ADDRESSES
endless head                        MAX_HEAD_BYTES, MAX_INTERIM_RESPONSES
endless or compressed body          `max_body_bytes`; no content coding is accepted
tiny TLS records or chunks          MAX_READ_BYTES a turn; MAX_PIECES; twice the largest body in all
==================================  ==============================================================

No proxy, cache, cookie, credential or session of an earlier fetch is used (STS-FET-18, STS-FET-47).

Choices: a TLS handshake that fails for another reason than the certificate counts as
sts-policy-fetch-error, since RFC 8460 §4.3.2.2 keeps sts-webpki-invalid for PKIX. Revocation is not
looked up (STS-FET-13). A body whose end only the end of the connection shows has to end with a
TLS close_notify, since otherwise anybody could have cut it (STS-FET-26). When one address of the
host fails before it answers, the next is tried; the first HTTP answer over verified TLS counts.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Final, TypeAlias

import h11

from strictmail import __version__
from strictmail.core.dnsvalues import Answer, RecordType, Status
from strictmail.core.sts.fetchrules import (
    POLICY_PATH,
    is_allowed_address,
    judge_body,
    judge_certificate_error,
    judge_response,
    policy_host,
    read_networks,
)
from strictmail.core.sts.values import MAX_POLICY_BYTES, FetchedPolicy, FetchFailure
from strictmail.core.tagrecord import quote
from strictmail.core.tlsrpt.results import ResultType
from strictmail.net.connectto import STRAIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from strictmail.net.connectto import ConnectMap
    from strictmail.ports import Resolver

HTTPS_PORT: Final = 443

MAX_ADDRESSES: Final = 8
"""Addresses tried in one fetch, IPv6 and IPv4 in turn."""

STAGGER_SECONDS: Final = 0.25
"""Head start of a connection attempt before the next begins (RFC 8305 §5)."""

CONNECT_SECONDS: Final = 10.0
"""For TCP, all addresses together."""

HANDSHAKE_SECONDS: Final = 10.0
"""For TLS with one address."""

FAMILY_PATIENCE_SECONDS: Final = 2.0
"""How long the addresses of one family wait for those of the other."""

MAX_HEAD_BYTES: Final = 16 * 1024
"""Of a response head, chunk head or trailers that are still not complete after a read."""

MAX_INTERIM_RESPONSES: Final = 8
"""1xx responses before the real one."""

MAX_READ_BYTES: Final = 64 * 1024
"""Read before the loop turns to something else."""

MAX_PIECES: Final = 4096
"""Pieces in which a response may come: each costs the same, be it one octet long. A policy of
4 KiB may drip octet by octet."""

_IN_PROGRESS: Final = (0, errno.EINPROGRESS)
_TOO_LARGE_HINT: Final = 431

_TELLING: Final = ("dns", "refused-address", "connect", "timeout", "truncated", "tls", "http")
"""Reason codes from the least to the most telling; those of certificates are above all."""

_Result: TypeAlias = FetchedPolicy | FetchFailure


class HttpsPolicyFetcher:
    """Fetches policies; implements `ports.PolicyFetcher`.

    Args:
        resolver: Finds the policy host's addresses.
        ca_file: Trusted roots in PEM; None for the system's.
        timeout: Seconds for one fetch, from the first DNS question to the last octet.
        max_body_bytes: Of the policy body. Above MAX_POLICY_BYTES, larger bodies are read but the
            grammar still refuses them.
        allow_networks: CIDR networks that policy hosts may live in beside the public ones.
        connect_port: 443 unless in a lab.
        user_agent: Names the software.
        connect_map: Where connections go instead. The address that DNS gave is the one that has to
            be allowed: the map is the operator's word.

    Raises:
        OSError: The roots cannot be read.
        ValueError: A network or the user agent is malformed.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        ca_file: str | None = None,
        timeout: float = 60.0,
        max_body_bytes: int = MAX_POLICY_BYTES,
        allow_networks: Iterable[str] = (),
        connect_port: int = HTTPS_PORT,
        user_agent: str = f"strictmail/{__version__}",
        connect_map: ConnectMap = STRAIGHT,
    ) -> None:
        self.resolver = resolver
        self.timeout = timeout
        self.max_body_bytes = max_body_bytes
        self.connect_port = connect_port
        self.allow_networks = read_networks(allow_networks)
        self.tls = policy_tls_context(ca_file)
        self.connect_map = connect_map
        if not user_agent.isprintable() or not user_agent.isascii():
            raise ValueError("the user agent is printable ASCII")
        self._user_agent = user_agent

    async def fetch(self, policy_domain: str) -> FetchedPolicy | FetchFailure:
        """Fetch and parse the policy of a domain; see `ports.PolicyFetcher`.

        Spec: RFC 8461 §3.3.
        """
        return await self._run(_Fetch(self, policy_host(policy_domain), self.resolver))

    async def fetch_from(
        self,
        policy_domain: str,
        address: str,
        agent: str = "",
        on_session: Callable[[ssl.SSLSocket], None] | None = None,
    ) -> FetchedPolicy | FetchFailure:
        """The same fetch with one address of the policy host, for those who compare them.

        Args:
            policy_domain: Whose policy.
            address: IPv4 or IPv6; it has to be an allowed one, as always.
            agent: User agent to claim, printable ASCII; "" for the usual one.
            on_session: Called with the session once its handshake is done and verified.
        """
        host = policy_host(policy_domain)
        return await self._run(_Fetch(self, host, _OneAddress(address), agent, on_session))

    async def _run(self, job: _Fetch) -> FetchedPolicy | FetchFailure:
        # RFC 8461 §3.2, §3.3: one host, one path, HTTPS; no other scheme or name is tried
        # (STS-FET-01, STS-FET-03, STS-FET-04).
        try:
            # RFC 8461 §3.3: one limit over DNS, connect, TLS and body (STS-FET-22, SEC-16).
            async with asyncio.timeout(self.timeout):
                return await job.run()
        except TimeoutError:
            return _fetch_error("timeout", f"not done within {self.timeout:g} s: {job.stage}")

    def request(self, host: str, agent: str = "") -> bytes:
        """The octets of the request: the same for every host but for its name."""
        # RFC 8461 §3.2: GET (STS-FET-02). No conditional request, cookie or credential
        # (STS-FET-18, STS-FET-47); no content coding (STS-FET-25).
        return (
            f"GET {POLICY_PATH} HTTP/1.1\r\nHost: {host}\r\n"
            f"User-Agent: {agent or self._user_agent}\r\n"
            "Accept: text/plain\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
        ).encode("ascii")


def policy_tls_context(ca_file: str | None) -> ssl.SSLContext:
    """TLS as a policy fetch wants it; one context serves all fetches.

    Args:
        ca_file: Trusted roots in PEM; None for the system's.

    Raises:
        OSError: The file cannot be read or holds no certificate.
    """
    # RFC 8461 §3.3: chain, dates and name are checked (STS-FET-06, STS-FET-07, STS-FET-08).
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # RFC 8461 §3.3: the name has to be a dNSName; a common name never counts (STS-FET-09).
    context.hostname_checks_common_name = False
    # RFC 8461 §7.2: TLS 1.2 or newer (STS-FET-15).
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # BCP: verdicts as those of browsers and MTAs, not stricter; revocation, CT and CAA are not
    # looked at (STS-FET-14, SEC-38).
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.load_verify_locations(cafile=ca_file)
    return context


def _fetch_error(reason_code: str, reason: str) -> FetchFailure:
    return FetchFailure(ResultType.STS_POLICY_FETCH_ERROR, reason, reason_code)


@dataclass(slots=True)
class _Fetch:
    """One fetch on its way: what it is doing, and what has failed so far."""

    owner: HttpsPolicyFetcher
    host: str
    resolver: Resolver
    agent: str = ""
    on_session: Callable[[ssl.SSLSocket], None] | None = None
    stage: str = ""
    failures: list[FetchFailure] = field(default_factory=list)
    tried: int = 0

    async def run(self) -> _Result:
        """Try the host's addresses, as they become known, until one gives an HTTP answer."""
        self.stage = "looking up its addresses"
        # RFC 8461 §3.3: both families; one that fails does not fail the fetch (STS-FET-48).
        lookups = [
            asyncio.ensure_future(self.resolver.lookup(self.host, rdtype))
            for rdtype in (RecordType.AAAA, RecordType.A)
        ]
        try:
            done, late = await asyncio.wait(lookups, timeout=FAMILY_PATIENCE_SECONDS)
            result = await self._try_answers([task.result() for task in lookups if task in done])
            while result is None and late:
                self.stage = "looking up its addresses"
                done, late = await asyncio.wait(late, return_when=asyncio.FIRST_COMPLETED)
                result = await self._try_answers([task.result() for task in done])
        finally:
            await _end(lookups)
        return result or max(self.failures, key=_telling)

    async def _try_answers(self, answers: Sequence[Answer]) -> _Result | None:
        addresses = self._select(answers)
        while addresses:
            self.stage = "connecting"
            race = ConnectionRace(
                lambda address: self.owner.connect_map.target(
                    self.host, address, self.owner.connect_port
                )
            )
            address, sock = await race.run(addresses)
            self.failures += race.failures
            if sock is None:
                return None
            addresses = [a for a in addresses if a != address and a not in race.failed]
            result = await self._talk(address, sock)
            if result is not None:
                return result
        return None

    def _select(self, answers: Sequence[Answer]) -> list[str]:
        """The addresses that may be connected to, families in turn."""
        families = [[str(record) for record in answer.records] for answer in answers]
        addresses = [a for a in chain(*zip_longest(*families)) if a is not None]
        if not addresses:
            self.failures += _dns_failures(answers)
        allowed = []
        for address in addresses[: MAX_ADDRESSES - self.tried]:
            self.tried += 1
            # BCP: the address that is connected to is judged, whatever was looked up when
            # (STS-FET-45, SEC-19).
            if is_allowed_address(address, self.owner.allow_networks):
                allowed.append(address)
            else:
                reason = f"the policy host has the address {address}, which is not a public one"
                self.failures.append(_fetch_error("refused-address", reason))
        return allowed

    async def _talk(self, address: str, sock: socket.socket) -> _Result | None:
        """TLS and HTTP with one address; None (and a failure noted) to try the next."""
        connection = TlsConnection(self.owner.tls, sock, self.host)
        self.stage = f"TLS handshake with {address}"
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                session = await connection.handshake()
            if self.on_session is not None:
                self.on_session(session)
            self.stage = f"waiting for the response of {address}"
            await connection.send(self.owner.request(self.host, self.agent))
            return await self._read(address, connection)
        except TimeoutError:
            reason = f"{address}: no TLS handshake within {HANDSHAKE_SECONDS:g} s"
            self.failures.append(_fetch_error("timeout", reason))
        except ssl.SSLCertVerificationError as error:
            self.failures.append(judge_certificate_error(error.verify_code, error.verify_message))
        except ssl.SSLError as error:
            what = error.reason or "the connection ended"
            self.failures.append(_fetch_error("tls", f"{address}: TLS failed: {what}"))
        except OSError as error:
            what = errno.errorcode.get(error.errno or 0, "the connection ended")
            self.failures.append(_fetch_error("connect", f"{address}: {what}"))
        finally:
            connection.close()
        return None

    async def _read(self, address: str, connection: TlsConnection) -> _Result:
        """Read a response; from its first octet on, this address has the word."""
        response = PolicyResponse(self.owner.max_body_bytes)
        received = await connection.receive()
        self.stage = f"reading the response of {address}"
        try:
            while received:
                outcome = response.feed(received)
                if outcome is not None:
                    return outcome
                received = await connection.receive()
        except OSError:
            # RFC 9112 §8: cut off, by whomever (STS-FET-26).
            return _truncated()
        return response.end()


@dataclass(frozen=True, slots=True)
class _OneAddress:
    """A resolver that knows one address; implements `ports.Resolver`."""

    address: str
    validates: bool = False

    async def lookup(self, name: str, rdtype: RecordType) -> Answer:
        family = RecordType.AAAA if ":" in self.address else RecordType.A
        if rdtype is not family:
            return Answer(name, rdtype, Status.NODATA, canonical_name=name)
        return Answer(name, rdtype, Status.OK, records=(self.address,), canonical_name=name)


async def _end(tasks: Iterable[asyncio.Future[Answer]]) -> None:
    """Cancel what is still running, and wait until it is gone."""
    running = [task for task in tasks if task.cancel()]
    if running:
        await asyncio.wait(running)


def _telling(failure: FetchFailure) -> int:
    code = failure.reason_code
    return _TELLING.index(code) if code in _TELLING else len(_TELLING)


def _dns_failures(answers: Sequence[Answer]) -> list[FetchFailure]:
    """Why there is no address: a lookup that failed says more than one that found nothing."""
    failed = [answer for answer in answers if not answer.status.is_answer]
    if failed or not answers:
        return [
            _fetch_error("dns", f"the {a.rdtype.name} lookup of the policy host failed: {a.detail}")
            for a in failed
        ]
    return [_fetch_error("dns", f"the policy host has no address ({answers[0].status.value})")]


def _truncated() -> FetchFailure:
    return _fetch_error("truncated", "the connection ended inside the response")


class ConnectionRace:
    """TCP connections to several addresses, each with a head start before the next (RFC 8305 §5).

    Args:
        target: Where to connect for an address: address and port.

    Attributes:
        failed: Addresses that could not be connected to.
        failures: Why, for each of them.
    """

    def __init__(self, target: Callable[[str], tuple[str, int]]) -> None:
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._left: list[str] = []
        self._open: dict[socket.socket, str] = {}
        self._winner: asyncio.Future[tuple[str, socket.socket | None]] = self._loop.create_future()
        self._stagger: asyncio.TimerHandle | None = None
        self.failed: set[str] = set()
        self.failures: list[FetchFailure] = []

    async def run(self, addresses: Sequence[str]) -> tuple[str, socket.socket | None]:
        """The address and socket of the first to connect; no socket when none does."""
        self._left = list(addresses)
        deadline = self._loop.call_later(CONNECT_SECONDS, self._give_up)
        try:
            self._start_next()
            return await self._winner
        except asyncio.CancelledError:
            if self._winner.done() and not self._winner.cancelled():
                _, sock = self._winner.result()
                if sock is not None:
                    sock.close()
            raise
        finally:
            deadline.cancel()
            self._close()

    def _start_next(self) -> None:
        """Begin with the next address; with none left and none open, the race is over."""
        if self._stagger is not None:
            self._stagger.cancel()
        while self._left and not self._winner.done():
            if self._start(self._left.pop(0)):
                self._stagger = self._loop.call_later(STAGGER_SECONDS, self._start_next)
                return
        if not self._open and not self._winner.done():
            self._winner.set_result(("", None))

    def _start(self, address: str) -> bool:
        target = self._target(address)
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self._note(address, error.errno or 0)
            return False
        sock.setblocking(False)  # noqa: FBT003 - the socket API
        code = sock.connect_ex(target)
        if code not in _IN_PROGRESS:
            sock.close()
            self._note(address, code)
            return False
        self._open[sock] = address
        self._loop.add_writer(sock.fileno(), self._settle, sock)
        return True

    def _settle(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock.fileno())
        address = self._open.pop(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0 and not self._winner.done():
            self._winner.set_result((address, sock))
            return
        sock.close()
        if code:
            self._note(address, code)
            self._start_next()

    def _give_up(self) -> None:
        for address in self._open.values():
            self._note(address, errno.ETIMEDOUT)
        if not self._winner.done():
            self._winner.set_result(("", None))

    def _note(self, address: str, code: int) -> None:
        self.failed.add(address)
        what = errno.errorcode.get(code, "no connection")
        self.failures.append(_fetch_error("connect", f"{address}: {what}"))

    def _close(self) -> None:
        if self._stagger is not None:
            self._stagger.cancel()
        for sock in self._open:
            self._loop.remove_writer(sock.fileno())
            sock.close()
        self._open.clear()


class TlsConnection:
    """A TLS connection over a connected socket, which it closes."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket, host: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._sock = sock
        self._host = host
        self._tls: ssl.SSLSocket

    def close(self) -> None:
        """At once: nobody is waited for."""
        self._sock.close()

    async def handshake(self) -> ssl.SSLSocket:
        """The session; raises OSError (ssl.SSLError, ssl.SSLCertVerificationError) without one."""
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # RFC 8461 §7.1: SNI and reference identity are the policy host's name, wherever its
        # addresses come from (STS-FET-05, STS-FET-04, STS-FET-11, STS-FET-12).
        self._sock = self._tls = self._context.wrap_socket(
            self._sock,
            server_hostname=self._host,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        while True:
            try:
                self._tls.do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wish:
                await self._wait(wish)
            else:
                return self._tls

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        while data:
            try:
                data = data[self._tls.send(data) :]
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wish:
                await self._wait(wish)

    async def receive(self) -> bytes:
        """What has come, at most MAX_READ_BYTES; b"" after the peer's close_notify.

        Raises:
            OSError: The connection ended otherwise.
        """
        while True:
            received = self._receive_now()
            if isinstance(received, bytes):
                return received
            await self._wait(received)

    def _receive_now(self) -> bytes | ssl.SSLError:
        """What has come, or what has to be waited for."""
        parts: list[bytes] = []
        size = 0
        try:
            while size < MAX_READ_BYTES:
                part = self._tls.recv(MAX_READ_BYTES)
                if not part:
                    break
                parts.append(part)
                size += len(part)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wish:
            if not parts:
                return wish
        except OSError:
            if not parts:
                raise
        return b"".join(parts)

    async def _wait(self, wish: ssl.SSLError) -> None:
        """Until the socket can be read, or written."""
        fd = self._tls.fileno()
        ready = self._loop.create_future()
        if isinstance(wish, ssl.SSLWantWriteError):
            add: Callable[..., None] = self._loop.add_writer
            remove = self._loop.remove_writer
        else:
            add, remove = self._loop.add_reader, self._loop.remove_reader
        add(fd, _wake, ready)
        try:
            await ready
        finally:
            remove(fd)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class PolicyResponse:
    """Reads one HTTP response, piece by piece; knows nothing of sockets.

    Args:
        max_body_bytes: A longer body fails the fetch, and none of it is parsed.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        # What was sent is ours to write; h11 is only told that a GET is out.
        self._http.send(_REQUEST)
        self._http.send(h11.EndOfMessage())
        self._octets_left = 2 * max_body_bytes + 4 * MAX_HEAD_BYTES
        self._pieces_left = MAX_PIECES
        self._interim = 0
        self._begin = b""
        self._body: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> _Result | None:
        """Take what has come.

        Returns:
            None to go on; the policy, or why there is none: then nothing more is read.
        """
        self._octets_left -= len(data)
        if self._octets_left < 0:
            return self._too_large()
        self._pieces_left -= 1
        if self._pieces_left < 0:
            return _fetch_error("http", f"the response came in more than {MAX_PIECES} pieces")
        self._begin = (self._begin + data)[: len(_VERSION)]
        return self._advance(data)

    def end(self) -> _Result:
        """The peer closed its side in order: what does that make of the response?"""
        return self._advance(b"") or _truncated()

    def _advance(self, data: bytes) -> _Result | None:
        try:
            self._http.receive_data(data)
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    return None
                outcome = self._take(event)
                if outcome is not None:
                    return outcome
        except h11.RemoteProtocolError as error:
            return self._judge_breach(error, at_end=not data)

    def _take(self, event: object) -> _Result | None:
        match event:
            case h11.Data():
                return self._take_data(bytes(event.data))
            case h11.Response():
                return self._take_head(event)
            case h11.EndOfMessage():
                return judge_body(b"".join(self._body))
            case h11.InformationalResponse():
                self._interim += 1
                if self._interim > MAX_INTERIM_RESPONSES:
                    return _fetch_error("http", f"more than {MAX_INTERIM_RESPONSES} 1xx responses")
                return None
            case _:
                return _truncated()

    def _take_head(self, head: h11.Response) -> FetchFailure | None:
        refused = judge_response(
            head.status_code,
            _field(head, b"content-type"),
            _field(head, b"content-encoding"),
        )
        if refused is not None:
            return refused
        length = _field(head, b"content-length")
        # h11 has checked that it is a number of at most 20 digits.
        if length is not None and int(length) > self._max_body_bytes:
            return self._too_large()
        return None

    def _take_data(self, data: bytes) -> FetchFailure | None:
        # RFC 8461 §3.3: above the limit the fetch fails (STS-FET-23, STS-FET-24, SEC-16).
        self._size += len(data)
        if self._size > self._max_body_bytes:
            return self._too_large()
        self._body.append(data)
        return None

    def _too_large(self) -> FetchFailure:
        return _fetch_error(
            "too-large", f"the response is larger than {self._max_body_bytes} octets"
        )

    def _judge_breach(self, error: h11.RemoteProtocolError, *, at_end: bool) -> FetchFailure:
        """What breaking the rules of HTTP/1.1 is called."""
        if error.error_status_hint == _TOO_LARGE_HINT:
            return _fetch_error(
                "too-large", f"a response head of more than {MAX_HEAD_BYTES} octets"
            )
        if not _VERSION.startswith(self._begin):
            # h11 waits for the end of a head that never began.
            return _fetch_error(
                "http", f"the response is not HTTP/1.1: {quote(_latin(self._begin))}"
            )
        if at_end:
            # RFC 9112 §8: shorter than Content-Length says, or without the last chunk (STS-FET-26).
            return _truncated()
        return _fetch_error("http", f"the response is not HTTP/1.1: {quote(str(error))}")


def _latin(octets: bytes) -> str:
    return octets.decode("latin-1")


_VERSION: Final = b"HTTP/"
"""How every response begins (RFC 9112 §4)."""

_REQUEST: Final = h11.Request(
    method="GET", target=POLICY_PATH, headers=[("Host", "policy.invalid")]
)


def _field(head: h11.Response, name: bytes) -> str | None:
    """A header field; several of that name joined as RFC 9110 §5.3 has it."""
    values = [value for key, value in head.headers if key == name]
    return b", ".join(values).decode("latin-1") if values else None
