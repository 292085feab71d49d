# SPDX-License-Identifier: Apache-2.0
"""Whether a TLSRPT report destination (RFC 8460 §3) is alive: a look, and never a report.

`mailto:`: the mailbox's domain has to take mail: MX records, a host with an address, and one host
that greets. No MAIL and no RCPT is ever said, so whether the mailbox exists stays unknown.
`https:`: the endpoint has to answer a GET over verified TLS. POST is for reports, and is not sent.

======================================  =====================================================
what is seen                            state
======================================  =====================================================
null MX, no such domain, no address     DEAD
a certificate that is refused           DEAD: no reporter may deliver there
404 or 410, to GET and OPTIONS alike    DEAD
any other 2xx or 4xx                    ALIVE: an endpoint for POST may well answer 405 to GET
an MX host that greets, or talks TLS    ALIVE
3xx (not followed), 5xx, no answer,     UNKNOWN
a failed lookup, an inner address
======================================  =====================================================

Everything is bounded: one deadline, MAX_HOSTS MX hosts, MAX_PROBES sessions, MAX_HEAD_BYTES.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

import h11

from strictmail import __version__
from strictmail.core.check.facts import ProbeOutcome, ProbeTarget, RuaFacts, RuaState
from strictmail.core.dnsvalues import Mx, RecordType, Status
from strictmail.core.errors import DomainSyntaxError
from strictmail.core.names import is_address, parse_domain
from strictmail.core.sts.fetchrules import is_allowed_address, read_networks
from strictmail.core.tagrecord import quote
from strictmail.net.addresses import address_texts, look_up_addresses
from strictmail.net.connectto import STRAIGHT, ConnectMap
from strictmail.net.https import (
    HTTPS_PORT,
    MAX_ADDRESSES,
    MAX_HEAD_BYTES,
    ConnectionRace,
    TlsConnection,
    policy_tls_context,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from strictmail.ports import Resolver, SmtpProber

MAX_HOSTS: Final = 4
"""MX hosts whose addresses are looked up, in order of preference: one of them has to be there."""

MAX_PROBES: Final = 2
"""SMTP sessions at most: the first host that greets is enough."""

_GONE: Final = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look came to; RuaFacts without the URI."""

    state: RuaState
    detail: str


class RuaClient:
    """Looks at report destinations; implements `ports.RuaProber`.

    Args:
        resolver: For MX hosts and endpoints.
        prober: Greets an MX host; None: what DNS says has to do. Give the one that all checks
            share, so that a host is not visited again.
        ca_file: Trusted roots in PEM; None for the system's.
        timeout: Seconds for one destination.
        allow_networks: CIDR networks that may be connected to beside the public ones.
        connect_map: Where connections to endpoints go instead.

    Raises:
        OSError: The roots cannot be read.
        ValueError: A network is malformed.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        prober: SmtpProber | None = None,
        ca_file: str | None = None,
        timeout: float = 30.0,
        allow_networks: Iterable[str] = (),
        connect_map: ConnectMap = STRAIGHT,
    ) -> None:
        self._resolver = resolver
        self._prober = prober
        self._timeout = timeout
        self._connect_map = connect_map
        self._networks = read_networks(allow_networks)
        self._tls = policy_tls_context(ca_file)

    async def look(self, uri: str) -> RuaFacts:
        """Look at one destination; see `ports.RuaProber`."""
        try:
            async with asyncio.timeout(self._timeout):
                seen = await self._look(uri)
        except TimeoutError:
            seen = _unknown(f"not done within {self._timeout:g} s")
        return RuaFacts(uri, seen.state, seen.detail)

    async def _look(self, uri: str) -> _Seen:
        try:
            parts = urlsplit(uri)
            if parts.scheme == "mailto" and "@" in parts.path:
                return await self._look_at_mailbox(parse_domain(parts.path.rpartition("@")[2]))
            if parts.scheme == "https" and parts.hostname and parts.username is None:
                return await self._look_at_endpoint(parts, parts.port or HTTPS_PORT)
        except DomainSyntaxError as error:
            return _unknown(f"not a host name: {error}")
        except ValueError:
            pass
        return _unknown("neither a mailbox nor an HTTPS endpoint")

    # ---- mailto -----------------------------------------------------------------------------

    async def _look_at_mailbox(self, domain: str) -> _Seen:
        answer = await self._resolver.lookup(domain, RecordType.MX)
        if not answer.status.is_answer:
            return _unknown(f"the MX lookup of {domain} failed: {answer.detail}")
        if answer.status is Status.NXDOMAIN:
            return _dead(f"the domain {domain} does not exist")
        records = sorted(record for record in answer.records if isinstance(record, Mx))
        hosts = [record.host for record in records if record.host]
        if records and not hosts:
            # RFC 7505 §3: a null MX.
            return _dead(f"{domain} takes no mail: its MX record is null")
        # RFC 5321 §5.1: without MX records the domain itself is the host.
        return await self._look_at_hosts(domain, hosts or [domain])

    async def _look_at_hosts(self, domain: str, hosts: list[str]) -> _Seen:
        failed = ""
        found: list[tuple[str, str]] = []
        for host in hosts[:MAX_HOSTS]:
            answers = await look_up_addresses(self._resolver, host)
            found += [(host, address) for address in address_texts(answers)]
            failed = failed or next((a.detail for a in answers if not a.status.is_answer), "")
        if not found and failed:
            return _unknown(f"the address lookups of the MX hosts of {domain} failed: {failed}")
        if not found and len(hosts) > MAX_HOSTS:
            return _unknown(f"none of the first {MAX_HOSTS} MX hosts of {domain} has an address")
        if not found:
            return _dead(f"no MX host of {domain} has an address")
        if self._prober is None:
            return _Seen(RuaState.ALIVE, f"{domain} has the MX host {found[0][0]}")
        return await self._greet(self._prober, domain, found)

    async def _greet(self, prober: SmtpProber, domain: str, found: list[tuple[str, str]]) -> _Seen:
        allowed = [place for place in found if is_allowed_address(place[1], self._networks)]
        if not allowed:
            return _unknown(f"the MX hosts of {domain} have no public address")
        detail = ""
        for host, address in allowed[:MAX_PROBES]:
            probe = await prober.probe(ProbeTarget(host, address, host))
            if probe.outcome is not ProbeOutcome.UNKNOWN:
                return _Seen(RuaState.ALIVE, f"{host} takes mail for {domain}")
            detail = f"{host}: {probe.unknown.detail if probe.unknown else probe.detail}"
        return _unknown(f"no MX host of {domain} could be looked at: {detail}")

    # ---- https ------------------------------------------------------------------------------

    async def _look_at_endpoint(self, parts: SplitResult, port: int) -> _Seen:
        host = parts.hostname or ""
        found = [host] if is_address(host) else []
        if not found:
            host = parse_domain(host)
            answers = await look_up_addresses(self._resolver, host)
            found = address_texts(answers)
            failed = [answer for answer in answers if not answer.status.is_answer]
            if not found and failed:
                return _unknown(f"an address lookup of {host} failed: {failed[0].detail}")
        if not found:
            return _dead(f"{host} has no address")
        # BCP: who publishes a record must not steer us into the inner network (SEC-19).
        allowed = [address for address in found if is_allowed_address(address, self._networks)]
        if not allowed:
            return _unknown(f"{host} has no public address")
        place = _Endpoint(host, port, allowed[:MAX_ADDRESSES], _request_target(parts))
        seen, status = await self._ask(place, "GET")
        if status in _GONE:
            # BCP: a router that knows the path for POST alone may deny it to GET.
            seen, status = await self._ask(place, "OPTIONS")
        return seen

    async def _ask(self, place: _Endpoint, method: str) -> tuple[_Seen, int]:
        """One request to an endpoint: what it came to, and the status (0 for none)."""
        race = ConnectionRace(lambda a: self._connect_map.target(place.host, a, place.port))
        _, sock = await race.run(place.addresses)
        if sock is None:
            reasons = "; ".join(failure.reason for failure in race.failures)
            return _unknown(f"no connection to {place.host}: {reasons}"), 0
        connection = TlsConnection(self._tls, sock, place.host)
        try:
            await connection.handshake()
            await connection.send(place.request(method))
            status = await _read_status(connection)
        except ssl.SSLCertVerificationError as error:
            what = quote(error.verify_message)
            return _dead(f"the certificate of {place.host} is refused: {what}"), 0
        except OSError as error:
            # ssl.SSLError is one, too.
            what = getattr(error, "reason", "") or errno.errorcode.get(error.errno or 0, "")
            return _unknown(f"{place.host} does not answer: {what or 'the connection ended'}"), 0
        except h11.RemoteProtocolError as error:
            return _unknown(f"{place.host} does not speak HTTP/1.1: {quote(str(error))}"), 0
        finally:
            connection.close()
        return _judge_status(method, status), status


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Where requests go."""

    host: str
    port: int
    addresses: list[str]
    target: str

    def request(self, method: str) -> bytes:
        """The octets of a request without a body."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        authority = host if self.port == HTTPS_PORT else f"{host}:{self.port}"
        return (
            f"{method} {self.target} HTTP/1.1\r\nHost: {authority}\r\n"
            f"User-Agent: strictmail/{__version__}\r\nAccept: */*\r\n"
            "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
        ).encode("ascii")


def _request_target(parts: SplitResult) -> str:
    """Path and query for the request line; raises ValueError when they cannot stand there."""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii() or not target.isprintable() or " " in target:
        raise ValueError("a path of printable ASCII without blanks")
    return target


async def _read_status(connection: TlsConnection) -> int:
    """The status of the response; nothing behind its head is read.

    Raises:
        OSError: The connection ended.
        h11.RemoteProtocolError: No HTTP/1.1, or a head of more than MAX_HEAD_BYTES.
    """
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    http.send(h11.Request(method="GET", target="/", headers=[("Host", "endpoint.invalid")]))
    http.send(h11.EndOfMessage())
    octets_left = 2 * MAX_HEAD_BYTES
    while octets_left > 0:
        data = await connection.receive()
        octets_left -= len(data)
        http.receive_data(data)
        event = http.next_event()
        while isinstance(event, h11.InformationalResponse):
            event = http.next_event()
        if isinstance(event, h11.Response):
            return event.status_code
        if event is not h11.NEED_DATA:
            break
    raise OSError("no response head")


def _judge_status(method: str, status: int) -> _Seen:
    said = f"HTTP status {status} to {method}"
    match status // 100:
        case 2:
            return _Seen(RuaState.ALIVE, said)
        case 4:
            return _dead(said) if status in _GONE else _Seen(RuaState.ALIVE, said)
        case 3:
            return _unknown(f"{said}: a redirect, which is not followed")
        case _:
            return _unknown(said)


def _dead(detail: str) -> _Seen:
    return _Seen(RuaState.DEAD, detail)


def _unknown(detail: str) -> _Seen:
    return _Seen(RuaState.UNKNOWN, detail)
