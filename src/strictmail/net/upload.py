# SPDX-License-Identifier: Apache-2.0
"""A report by HTTPS: one POST, and what its status means (RFC 8460 §5.4).

Bounded like a policy fetch (`strictmail.net.https`): one deadline, MAX_ADDRESSES, MAX_HEAD_BYTES of
response; its body is not read. No redirect, proxy, cookie or credential. The certificate of the
endpoint is verified; MTA-STS and DANE say nothing of web servers (RPT-DLV-58).
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import h11

from strictmail import __version__
from strictmail.core.sts.fetchrules import is_allowed_address, read_networks
from strictmail.core.tagrecord import quote
from strictmail.core.tlsrpt.delivery import OutcomeKind, SendOutcome, judge_http_status
from strictmail.core.tlsrpt.destination import HTTPS_PORT
from strictmail.net.addresses import IPV6_FIRST, address_texts, look_up_addresses
from strictmail.net.connectto import STRAIGHT, ConnectMap
from strictmail.net.https import (
    MAX_ADDRESSES,
    MAX_HEAD_BYTES,
    ConnectionRace,
    TlsConnection,
    policy_tls_context,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from strictmail.core.tlsrpt.destination import Destination
    from strictmail.ports import Clock, Resolver

MAX_INTERIM_RESPONSES: Final = 8


class HttpsUploader:
    """Posts reports; implements `ports.ReportUploader`.

    Args:
        resolver: Finds the endpoint's addresses.
        clock: For a Retry-After that is a date.
        ca_file: Trusted roots in PEM; None for the system's.
        timeout: Seconds for one attempt, all in all.
        allow_networks: CIDR networks that endpoints may live in beside the public ones.
        connect_map: Where connections go instead.

    Raises:
        OSError: The roots cannot be read.
        ValueError: A network is malformed.
    """

    def __init__(
        self,
        resolver: Resolver,
        clock: Clock,
        *,
        ca_file: str | None = None,
        timeout: float = 60.0,
        allow_networks: Iterable[str] = (),
        connect_map: ConnectMap = STRAIGHT,
    ) -> None:
        self._resolver = resolver
        self._clock = clock
        self._timeout = timeout
        self._connect_map = connect_map
        self._networks = read_networks(allow_networks)
        self._tls = policy_tls_context(ca_file)

    async def upload(
        self, destination: Destination, content: bytes, media_type: str
    ) -> SendOutcome:
        """Post a report; see `ports.ReportUploader`."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._upload(destination, content, media_type)
        except TimeoutError:
            return _retry(f"{destination.host}: not done within {self._timeout:g} s")

    async def _upload(
        self, destination: Destination, content: bytes, media_type: str
    ) -> SendOutcome:
        host = destination.host
        answers = await look_up_addresses(self._resolver, host, IPV6_FIRST)
        found = address_texts(answers)
        if not found:
            failed = [answer for answer in answers if not answer.status.is_answer]
            why = f"address lookup failed: {failed[0].detail}" if failed else "no address"
            return _retry(f"{host}: {why}")
        # BCP: the addresses that are connected to are judged, whatever the name says: a record
        # must not make us talk to our own neighbours (RPT-DLV-57, SEC-19).
        allowed = [address for address in found if is_allowed_address(address, self._networks)]
        if not allowed:
            return SendOutcome(
                OutcomeKind.REFUSED, f"{host} has the address {found[0]}, which is not a public one"
            )
        race = ConnectionRace(
            lambda address: self._connect_map.target(host, address, destination.port)
        )
        _, sock = await race.run(allowed[:MAX_ADDRESSES])
        if sock is None:
            return _retry("; ".join(failure.reason for failure in race.failures)[:200])
        connection = TlsConnection(self._tls, sock, host)
        try:
            return await self._post(connection, destination, content, media_type)
        except (OSError, h11.RemoteProtocolError) as error:
            return _retry(f"{host}: {_say(error)}")
        finally:
            connection.close()

    async def _post(
        self, connection: TlsConnection, destination: Destination, content: bytes, media_type: str
    ) -> SendOutcome:
        await connection.handshake()
        refused: OSError | None = None
        try:
            await connection.send(request_head(destination, len(content), media_type) + content)
        except OSError as error:
            # It may have answered before all was sent, as for what is too large.
            refused = error
        try:
            return await self._read(connection)
        except OSError:
            raise (refused or OSError("no response head")) from None

    async def _read(self, connection: TlsConnection) -> SendOutcome:
        """The status of the response; nothing behind its head is read."""
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        http.send(h11.Request(method="POST", target="/", headers=[("Host", "endpoint.invalid")]))
        http.send(h11.EndOfMessage())
        octets_left, interim = 2 * MAX_HEAD_BYTES, 0
        while octets_left > 0 and interim <= MAX_INTERIM_RESPONSES:
            data = await connection.receive()
            octets_left -= len(data)
            http.receive_data(data)
            event = http.next_event()
            while isinstance(event, h11.InformationalResponse) and interim < MAX_INTERIM_RESPONSES:
                interim += 1
                event = http.next_event()
            if isinstance(event, h11.Response):
                # RFC 8460 §5.4: any success is a delivery (RPT-DLV-53).
                return judge_http_status(event.status_code, self._retry_after(event))
            if event is not h11.NEED_DATA:
                break
        raise OSError("no response head")

    def _retry_after(self, head: h11.Response) -> float | None:
        """Seconds that a response asks to wait (RFC 9110 §10)."""
        for name, value in head.headers:
            if name == b"retry-after":
                text = value.decode("latin-1").strip()
                if text.isascii() and text.isdigit():
                    return float(text[:9])
                try:
                    asked = parsedate_to_datetime(text)
                    return max(0.0, (asked - self._clock.now()).total_seconds())
                except (ValueError, TypeError, OverflowError):
                    return None
        return None


def request_head(destination: Destination, length: int, media_type: str) -> bytes:
    """The head of a request."""
    host, port = destination.host, destination.port
    authority = host if port == HTTPS_PORT else f"{host}:{port}"
    # RFC 8460 §5.4: the body of a POST to the URI (RPT-DLV-50), with the media type of the report
    # (RPT-DLV-51) and no content coding on top (RPT-DLV-52).
    return (
        f"POST {destination.target} HTTP/1.1\r\nHost: {authority}\r\n"
        f"User-Agent: strictmail/{__version__}\r\nAccept: */*\r\n"
        f"Content-Type: {media_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    ).encode("ascii")


def _say(error: OSError | h11.RemoteProtocolError) -> str:
    """What broke a connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        # Spec-silent: RFC 8460 §3 allows to look away from certificates (RPT-DLV-55); a report
        # tells how mail flows, so that it does not go to somebody unknown.
        return f"certificate refused: {quote(error.verify_message)}"
    if isinstance(error, h11.RemoteProtocolError):
        return f"not HTTP/1.1: {quote(str(error))}"
    reason = getattr(error, "reason", "") or errno.errorcode.get(error.errno or 0, "")
    return reason or "the connection ended"


def _retry(detail: str) -> SendOutcome:
    return SendOutcome(OutcomeKind.RETRY, detail)
