# SPDX-License-Identifier: Apache-2.0
"""Questions to one authoritative server: what is asked, and what its replies come to."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from strictmail.core.dnsvalues import Mx, RecordType, Status
from strictmail.net.authority import AuthorityClient
from strictmail.net.connectto import ConnectMap

from .nameserver import Asked, NameServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from strictmail.core.check.facts import AuthorityFacts

ZONE = "example.com"
SERVER = "ns.example.com"
ADDRESS = "192.0.2.53"
MX = RecordType.MX


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with NameServer() as server:
        yield server


def client(server: NameServer, timeout: float = 5.0) -> AuthorityClient:
    table = ConnectMap.parse([f"{SERVER}:53:127.0.0.1:{server.port}"])
    return AuthorityClient(rng=random.Random(1), timeout=timeout, connect_map=table)


async def ask(
    server: NameServer, name: str = ZONE, rdtype: RecordType = MX, timeout: float = 5.0
) -> AuthorityFacts:
    return await client(server, timeout).ask(ZONE, SERVER, ADDRESS, name, rdtype)


def authoritative(server: NameServer, name: str, rdtype: RecordType, **changes: Any) -> None:
    """Let a server answer with AA."""

    def trick(query: dns.message.Message, asked: Asked) -> list[bytes]:
        reply = server.answer(query, asked)
        reply.flags |= dns.flags.AA
        if "rcode" in changes:
            reply.set_rcode(changes["rcode"])
        return [reply.to_wire()]

    server.tricks[name, rdtype] = trick


async def test_what_it_says_and_that_it_may(server: NameServer) -> None:
    server.add(ZONE, MX, Mx(10, "mx.example.com"), ttl=120)
    authoritative(server, ZONE, MX)
    found = await ask(server, "Example.COM.")
    assert (found.zone, found.server, found.address) == (ZONE, SERVER, ADDRESS)
    assert (found.name, found.rdtype, found.authoritative) == (ZONE, MX, True)
    answer = found.answer
    assert (answer.status, answer.ttl, answer.secure) == (Status.OK, 120, False)
    assert answer.records == (Mx(10, "mx.example.com"),)


async def test_no_recursion_is_desired(server: NameServer) -> None:
    flags: list[int] = []

    def trick(query: dns.message.Message, asked: Asked) -> list[bytes]:
        flags.append(int(query.flags))
        return server.plain(query, asked)

    server.tricks[ZONE, MX] = trick
    await ask(server)
    assert flags == [0]


async def test_ports_and_ids_differ(server: NameServer) -> None:
    ids: set[int] = set()

    def trick(query: dns.message.Message, asked: Asked) -> list[bytes]:
        ids.add(query.id)
        return server.plain(query, asked)

    server.tricks[ZONE, MX] = trick
    asker = client(server)
    for _ in range(8):
        await asker.ask(ZONE, SERVER, ADDRESS, ZONE, MX)
    assert len(ids) == 8
    assert len({asked.port for asked in server.asked}) > 1


async def test_denials(server: NameServer) -> None:
    server.add(ZONE, RecordType.TXT, (b"x",))
    authoritative(server, ZONE, MX)
    authoritative(server, f"no.{ZONE}", MX)
    nodata = await ask(server)
    nxdomain = await ask(server, f"no.{ZONE}")
    assert (nodata.answer.status, nodata.answer.ttl) == (Status.NODATA, 60)
    assert (nxdomain.answer.status, nxdomain.authoritative) == (Status.NXDOMAIN, True)


async def test_an_alias_is_told_and_not_followed(server: NameServer) -> None:
    server.alias(f"_mta-sts.{ZONE}", "_mta-sts.provider.example")
    server.add("_mta-sts.provider.example", RecordType.TXT, (b"v=STSv1; id=1;",))
    authoritative(server, f"_mta-sts.{ZONE}", RecordType.TXT)
    found = await ask(server, f"_mta-sts.{ZONE}", RecordType.TXT)
    assert (found.answer.status, found.answer.records) == (Status.NODATA, ())
    assert found.answer.canonical_name == "_mta-sts.provider.example"
    assert len(server.asked) == 1


async def test_a_server_that_does_not_serve_the_zone(server: NameServer) -> None:
    def refuse(query: dns.message.Message, _: Asked) -> list[bytes]:
        reply = dns.message.make_response(query)
        reply.set_rcode(dns.rcode.REFUSED)
        return [reply.to_wire()]

    server.tricks[ZONE, MX] = refuse
    found = await ask(server)
    assert (found.answer.status, found.answer.detail) == (Status.SERVFAIL, "REFUSED")
    assert not found.authoritative


async def test_records_without_authority(server: NameServer) -> None:
    server.add(ZONE, MX, Mx(10, "mx.example.com"))
    found = await ask(server)
    assert (found.answer.status, found.authoritative) == (Status.OK, False)


async def test_a_large_answer_comes_over_tcp(server: NameServer) -> None:
    server.add(ZONE, RecordType.TXT, *((b"x" * 200, bytes([n])) for n in range(20)))
    found = await ask(server, rdtype=RecordType.TXT)
    assert (found.answer.status, len(found.answer.records)) == (Status.OK, 20)
    assert [asked.tcp for asked in server.asked] == [False, True]


async def test_a_server_without_edns(server: NameServer) -> None:
    def old(query: dns.message.Message, asked: Asked) -> list[bytes]:
        if asked.payload:
            reply = dns.message.make_response(query)
            reply.set_rcode(dns.rcode.FORMERR)
            reply.use_edns(-1)
            return [reply.to_wire()]
        return server.plain(query, asked)

    server.add(ZONE, MX, Mx(10, "mx.example.com"))
    server.tricks[ZONE, MX] = old
    assert (await ask(server)).answer.status is Status.OK


async def test_a_lost_datagram_is_sent_again(server: NameServer) -> None:
    server.add(ZONE, MX, Mx(10, "mx.example.com"))
    lost: list[Asked] = []

    def lose_one(query: dns.message.Message, asked: Asked) -> list[bytes]:
        lost.append(asked)
        return server.plain(query, asked) if len(lost) > 1 else []

    server.tricks[ZONE, MX] = lose_one
    assert (await ask(server, timeout=0.5)).answer.status is Status.OK


async def test_silence(server: NameServer) -> None:
    server.fail(ZONE, MX, Status.TIMEOUT)
    found = await ask(server, timeout=0.02)
    assert (found.answer.status, found.authoritative) == (Status.TIMEOUT, False)
    assert found.answer.detail == "no reply within 0.02 s"
    assert len(server.asked) == 2


async def test_nobody_there() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    asker = AuthorityClient(
        rng=random.Random(1), connect_map=ConnectMap.parse([f"::127.0.0.1:{port}"])
    )
    found = await asker.ask(ZONE, SERVER, ADDRESS, ZONE, MX)
    assert (found.answer.status, found.answer.detail) == (Status.TIMEOUT, "ECONNREFUSED")


async def test_rubbish_and_the_reply_to_another_question(server: NameServer) -> None:
    def rubbish(query: dns.message.Message, _: Asked) -> list[bytes]:
        return [dns.message.make_response(query).to_wire() + b"\0"]

    server.tricks[ZONE, MX] = rubbish
    assert (await ask(server)).answer.status is Status.MALFORMED
    server.tricks[ZONE, MX] = lambda query, _: [
        dns.message.make_response(dns.message.make_query("x.test", "MX", id=query.id)).to_wire()
    ]
    assert (await ask(server, timeout=0.02)).answer.status is Status.TIMEOUT


async def test_a_name_that_cannot_be_asked_for(server: NameServer) -> None:
    found = await ask(server, "a..b")
    assert found.answer.status is Status.MALFORMED
    assert server.asked == []
