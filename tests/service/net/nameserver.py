# SPDX-License-Identifier: Apache-2.0
"""A DNS server on loopback that answers like a validating resolver, or as a test wants it.

Replies are built by dnspython, so that what our decoder reads was written by someone else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from strictmail.core.dnsvalues import MAX_CNAME_HOPS, Mx, Record, RecordType, Status, Tlsa

if TYPE_CHECKING:
    from types import TracebackType

NEGATIVE_TTL: Final = 60
SOA: Final = f"ns.test. hostmaster.test. 1 3600 600 86400 {NEGATIVE_TTL}"

Trick = Callable[[dns.message.Message, "Asked"], "list[bytes]"]
"""From a query to the messages that are sent for it."""


@dataclass(frozen=True)
class Asked:
    """One question as it arrived."""

    name: str
    rdtype: RecordType
    tcp: bool
    cd: bool
    ad: bool
    payload: int
    port: int


def _text(rdtype: RecordType, record: Record) -> str:
    match record:
        case Mx(preference, host):
            return f"{preference} {host}."
        case Tlsa():
            return str(record)
        case tuple():
            return " ".join('"' + "".join(f"\\{c:03}" for c in part) + '"' for part in record)
        case _:
            return f"{record}." if rdtype in (RecordType.CNAME, RecordType.NS) else str(record)


class NameServer:
    """Answers on UDP and TCP of one port of 127.0.0.1; same table methods as FakeResolver.

    Attributes:
        asked: Every question, in order.
        tricks: By (name, type): what to send instead of the table's answer.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = 0
        self.asked: list[Asked] = []
        self.tricks: dict[tuple[str, RecordType], Trick] = {}
        self.validates = True
        self.max_udp = 1232
        self._rrsets: dict[tuple[str, RecordType], tuple[tuple[str, ...], bool, int]] = {}
        self._signed: set[str] = set()
        self._failures: dict[tuple[str, RecordType], Status] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def add(
        self,
        name: str,
        rdtype: RecordType,
        *records: Record,
        secure: bool = False,
        ttl: int = 300,
    ) -> None:
        texts = tuple(_text(rdtype, record) for record in records)
        self._rrsets[name, rdtype] = (texts, secure, ttl)

    def alias(self, name: str, target: str, *, secure: bool = False, ttl: int = 300) -> None:
        self.add(name, RecordType.CNAME, target, secure=secure, ttl=ttl)

    def sign(self, zone: str) -> None:
        self._signed.add(zone)

    def fail(self, name: str, rdtype: RecordType, status: Status = Status.SERVFAIL) -> None:
        self._failures[name, rdtype] = status

    def count(self, name: str, rdtype: RecordType) -> int:
        return sum((asked.name, asked.rdtype) == (name, rdtype) for asked in self.asked)

    async def __aenter__(self) -> Self:
        self._tcp = await asyncio.start_server(self._serve_tcp, self.host, 0)
        self.port = self._tcp.sockets[0].getsockname()[1]
        self.start_udp()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop_udp()
        self._tcp.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._tcp.wait_closed()

    def start_udp(self) -> None:
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setblocking(False)
        self._udp.bind((self.host, self.port))
        asyncio.get_running_loop().add_reader(self._udp.fileno(), self._serve_udp)

    def stop_udp(self) -> None:
        if self._udp.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._udp.fileno())
            self._udp.close()

    def _serve_udp(self) -> None:
        data, peer = self._udp.recvfrom(65535)
        for message in self.reply(data, tcp=False, port=peer[1]):
            self._udp.sendto(message, peer)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            length = int.from_bytes(await reader.readexactly(2), "big")
            data = await reader.readexactly(length)
            replies = self.reply(data, tcp=True, port=writer.get_extra_info("peername")[1])
            for message in replies:
                writer.write(len(message).to_bytes(2, "big") + message)
            if not replies:
                await reader.read()
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    def reply(self, data: bytes, *, tcp: bool, port: int) -> list[bytes]:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        asked = Asked(
            "" if name == "." else name,
            RecordType(int(question.rdtype)),
            tcp,
            bool(query.flags & dns.flags.CD),
            bool(query.flags & dns.flags.AD),
            query.payload if query.edns >= 0 else 0,
            port,
        )
        self.asked.append(asked)
        trick = self.tricks.get((asked.name, asked.rdtype))
        if trick is not None:
            return trick(query, asked)
        return self.plain(query, asked)

    def plain(self, query: dns.message.Message, asked: Asked) -> list[bytes]:
        """What the table says."""
        if self._failures.get((asked.name, asked.rdtype)) is Status.TIMEOUT:
            return []
        reply = self.answer(query, asked)
        wire = reply.to_wire(max_size=65535)
        if not asked.tcp and len(wire) > self.max_udp:
            reply.answer.clear()
            reply.flags |= dns.flags.TC
            wire = reply.to_wire()
        return [wire]

    def answer(self, query: dns.message.Message, asked: Asked) -> Any:
        """The reply of the table, to be changed by a trick."""
        reply = dns.message.make_response(query, recursion_available=True)
        status = self._failures.get((asked.name, asked.rdtype))
        if status is not None and not (status is Status.BOGUS and asked.cd):
            reply.set_rcode(dns.rcode.SERVFAIL)
            return reply
        name, secure = asked.name, True
        for _ in range(MAX_CNAME_HOPS + 2):
            found = self._rrsets.get((name, asked.rdtype))
            alias = self._rrsets.get((name, RecordType.CNAME))
            if found is not None or alias is None:
                break
            texts, is_signed, ttl = alias
            reply.answer.append(_rrset(name, ttl, RecordType.CNAME, texts))
            secure, name = secure and is_signed, texts[0].removesuffix(".")
        if found is not None:
            texts, is_signed, ttl = found
            reply.answer.append(_rrset(name, ttl, asked.rdtype, texts))
            secure = secure and is_signed
        elif alias is None:
            owned = [rrset for (owner, _), rrset in self._rrsets.items() if owner == name]
            if not owned:
                reply.set_rcode(dns.rcode.NXDOMAIN)
            zone = name.rpartition(".")[2]
            reply.authority.append(_rrset(zone, 3600, RecordType.SOA, (SOA,)))
            secure = secure and (
                any(signed for _, signed, _ in owned)
                or any(name == z or name.endswith(f".{z}") for z in self._signed)
            )
        if secure and self.validates and asked.ad and not asked.cd:
            reply.flags |= dns.flags.AD
        return reply


def _rrset(name: str, ttl: int, rdtype: RecordType, texts: tuple[str, ...]) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(f"{name}.", ttl, "IN", rdtype.name, list(texts))
