# SPDX-License-Identifier: Apache-2.0
"""A DNS server over UDP and TCP that answers as a validating resolver would, or as an authority.

AD is set where every part of the answer is from a signed zone; a bogus answer is SERVFAIL with an
extended error (RFC 8914 §4.7) unless the question has CD. A question that does not desire
recursion is answered as by the authority of all zones: AA, nothing validated, no alias followed;
a dead zone is REFUSED. It signs nothing: whoever wants to see
signatures exports the zones (`strictmail.lab.zones`).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
from collections import Counter
from typing import TYPE_CHECKING, Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from strictmail.core.dane.tlsa import parse_tlsa
from strictmail.core.dnsvalues import MAX_CNAME_HOPS
from strictmail.core.names import fold
from strictmail.lab.connection import Listener, cannot_listen
from strictmail.lab.dnsdata import AUTHORITY, TTL_SECONDS, ZoneKind

if TYPE_CHECKING:
    from strictmail.lab.connection import Connection
    from strictmail.lab.dnsdata import DnsData

MAX_UDP_BYTES: Final = 1232
"""Larger answers are truncated, whatever the client offers (DNS flag day 2020)."""

PLAIN_UDP_BYTES: Final = 512
_LENGTH_OCTETS: Final = 2
_SOA: Final = f"{AUTHORITY}. hostmaster.test. 1 3600 600 86400 {TTL_SECONDS}"


class DnsFault(enum.StrEnum):
    """How the server treats one question, whatever the data say."""

    NONE = "none"
    SERVFAIL = "servfail"
    BOGUS = "bogus"
    REFUSED = "refused"
    NXDOMAIN = "nxdomain"
    NODATA = "nodata"
    INSECURE = "insecure"
    """The data, but never AD."""
    TIMEOUT = "timeout"
    """No reply at all."""
    GARBAGE = "garbage"
    """Octets that are no DNS message."""
    TRUNCATED = "truncated"
    """TC over UDP: the data only over TCP."""


class DnsServer(asyncio.DatagramProtocol):
    """The server.

    Attributes:
        data: What it answers from; may be changed at any time.
        asked: How often each (name, type) was asked for; names in lower case.
        faults: Questions to be treated in a special way.
    """

    def __init__(self, data: DnsData) -> None:
        self.data = data
        self.asked: Counter[tuple[str, str]] = Counter()
        self.faults: dict[tuple[str, str], DnsFault] = {}
        self._listener = Listener(self._serve_tcp)
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen on UDP and TCP; returns the port.

        Raises:
            OSError: The address is taken.
        """
        port = self._listener.bind(host, port)
        try:
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                udp.settimeout(0)
                udp.bind((host, port))
            except OSError as error:
                udp.close()
                raise cannot_listen(error, host, port) from error
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=udp)
        except OSError:
            await self._listener.close()
            raise
        return port

    async def close(self) -> None:
        """Stop."""
        if self._transport is not None:
            self._transport.abort()
        await self._listener.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a datagram; called by asyncio."""
        reply = self._reply(data, udp=True)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)

    async def _serve_tcp(self, connection: Connection) -> None:
        buffer = b""
        while data := await connection.read():
            buffer += data
            while len(buffer) >= _LENGTH_OCTETS:
                length = int.from_bytes(buffer[:_LENGTH_OCTETS])
                if len(buffer) < _LENGTH_OCTETS + length:
                    break
                query = buffer[_LENGTH_OCTETS : _LENGTH_OCTETS + length]
                buffer = buffer[_LENGTH_OCTETS + length :]
                reply = self._reply(query, udp=False)
                if reply is not None:
                    await connection.write(len(reply).to_bytes(_LENGTH_OCTETS) + reply)

    def _reply(self, wire: bytes, *, udp: bool) -> bytes | None:
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        if len(query.question) != 1 or query.flags & dns.flags.QR:
            return None
        question = query.question[0]
        key = (fold(question.name.to_text()), dns.rdatatype.to_text(question.rdtype))
        self.asked[key] += 1
        fault = self.faults.get(key, DnsFault.NONE)
        if fault is DnsFault.TIMEOUT:
            return None
        if fault is DnsFault.GARBAGE:
            return wire[:2] + b"\xff" * 7
        response = _Resolution(self.data, query, fault).respond()
        return _fit(response, query) if udp else response.to_wire(max_size=0xFFFF)


class _BogusError(Exception):
    """Validation fails."""


class _DeadError(Exception):
    """No server knows."""


class _Resolution:
    """One question on its way to an answer."""

    def __init__(self, data: DnsData, query: dns.message.Message, fault: DnsFault) -> None:
        self._data = data
        self._query = query
        self._fault = fault
        self._is_authority = not query.flags & dns.flags.RD
        self._checking = not self._is_authority and not query.flags & dns.flags.CD
        self._secure = True
        self._response = dns.message.make_response(
            query, recursion_available=not self._is_authority
        )
        if self._is_authority:
            self._response.flags |= dns.flags.AA

    def respond(self) -> dns.message.Message:
        """Build the response."""
        try:
            self._answer()
        except _BogusError:
            self._fail(dns.edns.EDECode.DNSSEC_BOGUS)
        except _DeadError:
            if self._is_authority:
                self._refuse()
            else:
                self._fail(dns.edns.EDECode.NO_REACHABLE_AUTHORITY)
        if self._wants_ad() and self._secure and self._checking:
            self._response.flags |= dns.flags.AD
        if self._fault is DnsFault.TRUNCATED:
            # Over TCP the flag is without meaning, and clients do not look at it.
            self._response.flags |= dns.flags.TC
        return self._response

    def _wants_ad(self) -> bool:
        """RFC 6840 §5.7: AD is for those who ask with AD or DO."""
        return bool(self._query.flags & dns.flags.AD or self._query.ednsflags & dns.flags.DO)

    def _fail(self, extended_error: dns.edns.EDECode) -> None:
        self._secure = False
        self._response.answer.clear()
        self._response.authority.clear()
        self._response.set_rcode(dns.rcode.SERVFAIL)
        if self._query.edns >= 0:
            option = dns.edns.EDEOption(extended_error)
            self._response.use_edns(0, self._query.ednsflags, options=[option])

    def _refuse(self) -> None:
        self._secure = False
        self._response.flags &= ~dns.flags.AA
        self._response.set_rcode(dns.rcode.REFUSED)

    def _answer(self) -> None:
        question = self._query.question[0]
        match self._fault:
            case DnsFault.SERVFAIL:
                raise _DeadError
            case DnsFault.BOGUS if self._checking:
                raise _BogusError
            case DnsFault.REFUSED:
                self._refuse()
                return
            case DnsFault.BOGUS | DnsFault.INSECURE:
                self._secure = False
            case _:
                pass
        self._follow(fold(question.name.to_text()), dns.rdatatype.to_text(question.rdtype))

    def _follow(self, name: str, rdtype: str) -> None:
        for _ in range(MAX_CNAME_HOPS + 1):
            self._judge_zone(name)
            if self._fault in (DnsFault.NXDOMAIN, DnsFault.NODATA):
                self._deny(name, exists=self._fault is DnsFault.NODATA)
                return
            found = self._data.get(name, rdtype) or self._at_apex(name, rdtype)
            if found:
                self._add(name, rdtype, found)
                return
            alias = self._data.get(name, "CNAME")
            if not alias:
                self._deny(name, exists=self._data.exists(name))
                return
            self._add(name, "CNAME", alias)
            if self._is_authority:
                return
            name = fold(alias[0])
        raise _DeadError

    def _judge_zone(self, name: str) -> None:
        kind = self._data.kind_of(name)
        if kind is ZoneKind.DEAD:
            raise _DeadError
        if kind is ZoneKind.BOGUS and self._checking:
            raise _BogusError
        self._secure = self._secure and kind is ZoneKind.SIGNED

    def _at_apex(self, name: str, rdtype: str) -> list[str]:
        """What every zone has at its top."""
        if name not in self._data.zones:
            return []
        servers = [AUTHORITY, *self._data.secondaries.get(name, ())]
        return {"SOA": [_SOA], "NS": [f"{server}." for server in servers]}.get(rdtype, [])

    def _add(self, name: str, rdtype: str, data: list[str]) -> None:
        rdatas = [_parse(rdtype, text) for text in data]
        rrset = dns.rrset.from_rdata_list(_owner(name), TTL_SECONDS, rdatas)
        self._response.answer.append(rrset)

    def _deny(self, name: str, *, exists: bool) -> None:
        if not exists:
            self._response.set_rcode(dns.rcode.NXDOMAIN)
        owner = _owner(self._data.zone_of(name))
        self._response.authority.append(dns.rrset.from_text(owner, TTL_SECONDS, "IN", "SOA", _SOA))


def _owner(name: str) -> dns.name.Name:
    return dns.name.from_text(f"{name}.")


def _parse(rdtype: str, text: str) -> dns.rdata.Rdata:
    if rdtype == "TLSA":
        # The library refuses malformed records, and those are on show too.
        record = parse_tlsa(text)
        wire = bytes((record.usage, record.selector, record.mtype)) + record.data
        return dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.TLSA, wire)
    return dns.rdata.from_text("IN", rdtype, text)


def _fit(response: dns.message.Message, query: dns.message.Message) -> bytes:
    """The response as a datagram: truncated if it does not fit."""
    offered = query.payload if query.edns >= 0 else PLAIN_UDP_BYTES
    limit = max(PLAIN_UDP_BYTES, min(offered, MAX_UDP_BYTES))
    if not response.flags & dns.flags.TC:
        with contextlib.suppress(dns.exception.TooBig):
            return response.to_wire(max_size=limit)
    response.answer.clear()
    response.authority.clear()
    response.flags |= dns.flags.TC
    return response.to_wire(max_size=limit)
