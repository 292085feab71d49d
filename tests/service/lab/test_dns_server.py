# SPDX-License-Identifier: Apache-2.0
"""The lab's resolver, asked with dnspython: secure, insecure, bogus, dead, and broken on request."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import dns.asyncquery
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import pytest

from strictmail.core.dnsvalues import Mx, RecordType, Status
from strictmail.lab.dnsserver import DnsFault
from strictmail.lab.entries import Cut, CutKind, MxHost
from strictmail.lab.net import Lab
from strictmail.lab.zoobuild import ENCRYPTED, entry, expect
from strictmail.net.authority import AuthorityClient
from strictmail.net.connectto import ConnectMap
from strictmail.net.dns import DnsResolver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from strictmail.core.check.facts import AuthorityFacts

SECONDS = 30.0
NOTHING = expect("", ENCRYPTED)


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    zoo = [
        entry("p", "none", "", NOTHING),
        entry("s", "none", "", NOTHING, zone="signed.test", mx=[MxHost("mx.@", tlsa=("3 1 1",))]),
        entry("b", "none", "", NOTHING, zone="bogus.test"),
        entry(
            "aliases",
            "none",
            "",
            NOTHING,
            zone="signed.test",
            mx=[],
            records=(
                "inside.@ CNAME mx.s.signed.test.",
                "outside.@ CNAME mx.p.plain.test.",
                "broken.@ CNAME mx.b.bogus.test.",
                "loop.@ CNAME loop.@.",
                f'large.@ TXT "{"x" * 200}" "{"y" * 200}" "{"z" * 200}"',
                f'large.@ TXT "{"a" * 200}" "{"b" * 200}" "{"c" * 200}" "{"d" * 200}"',
            ),
            cuts=[Cut("dead.@", CutKind.DEAD), Cut("unsigned.@", CutKind.UNSIGNED)],
        ),
    ]
    async with Lab(zoo=zoo) as running:
        yield running


async def ask(
    lab: Lab, name: str, rdtype: str, *, flags: int = 0, tcp: bool = False, edns: bool = True
) -> dns.message.Message:
    query = dns.message.make_query(name, rdtype, want_dnssec=edns, use_edns=edns)
    query.flags |= flags
    host, port = lab.dns_address
    send = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await send(query, host, SECONDS, port)


def texts(response: dns.message.Message) -> list[str]:
    return [rdata.to_text() for rrset in response.answer for rdata in rrset]


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize(
    ("name", "rdtype", "rcode", "ad"),
    [
        ("s.signed.test", "MX", "NOERROR", True),
        ("S.Signed.TEST", "MX", "NOERROR", True),
        ("s.signed.test", "TXT", "NOERROR", True),  # a secure denial is secure too
        ("no.signed.test", "MX", "NXDOMAIN", True),
        ("_tcp.mx.s.signed.test", "A", "NOERROR", True),  # there is something below
        ("p.plain.test", "MX", "NOERROR", False),
        ("no.plain.test", "MX", "NXDOMAIN", False),
        ("b.bogus.test", "MX", "SERVFAIL", False),
        ("inside.aliases.signed.test", "A", "NOERROR", True),
        ("outside.aliases.signed.test", "A", "NOERROR", False),
        ("broken.aliases.signed.test", "A", "SERVFAIL", False),
        ("broken.aliases.signed.test", "CNAME", "NOERROR", True),
        ("loop.aliases.signed.test", "A", "SERVFAIL", False),
        ("x.dead.aliases.signed.test", "A", "SERVFAIL", False),
        ("unsigned.aliases.signed.test", "A", "NOERROR", False),
        (".", "SOA", "NOERROR", True),
        ("signed.test", "NS", "NOERROR", True),
    ],
)
async def test_states(lab: Lab, name: str, rdtype: str, rcode: str, ad: bool, tcp: bool) -> None:
    response = await ask(lab, name, rdtype, tcp=tcp)
    assert dns.rcode.to_text(response.rcode()) == rcode
    assert bool(response.flags & dns.flags.AD) is ad
    assert response.flags & dns.flags.RA


async def test_aliases_come_with_their_chain(lab: Lab) -> None:
    response = await ask(lab, "inside.aliases.signed.test", "A")
    assert texts(response) == ["mx.s.signed.test.", lab.addresses["mx.s.signed.test"]]


async def test_ad_is_for_those_who_ask(lab: Lab) -> None:
    assert not (await ask(lab, "s.signed.test", "MX", edns=False)).flags & dns.flags.AD
    response = await ask(lab, "s.signed.test", "MX", edns=False, flags=dns.flags.AD)
    assert response.flags & dns.flags.AD


async def test_bogus_is_explained_and_given_with_cd(lab: Lab) -> None:
    response = await ask(lab, "b.bogus.test", "MX")
    [option] = response.options
    assert isinstance(option, dns.edns.EDEOption)
    assert option.code == 6
    response = await ask(lab, "b.bogus.test", "MX", flags=dns.flags.CD)
    assert response.rcode() == dns.rcode.NOERROR
    assert texts(response) == ["10 mx.b.bogus.test."]
    assert not response.flags & dns.flags.AD


async def test_dead_is_dead_with_cd_too(lab: Lab) -> None:
    response = await ask(lab, "dead.aliases.signed.test", "A", flags=dns.flags.CD)
    assert response.rcode() == dns.rcode.SERVFAIL
    [option] = response.options
    assert isinstance(option, dns.edns.EDEOption)
    assert option.code == 22


@pytest.mark.parametrize("edns", [True, False])
async def test_large_answers_are_truncated_over_udp_only(lab: Lab, edns: bool) -> None:
    name = "large.aliases.signed.test"
    response = await ask(lab, name, "TXT", edns=edns)
    assert response.flags & dns.flags.TC
    assert texts(response) == []
    assert len(texts(await ask(lab, name, "TXT", edns=edns, tcp=True))) == 2


async def test_every_domain_takes_reports(lab: Lab) -> None:
    response = await ask(lab, "_smtp._tls.p.plain.test", "TXT")
    assert texts(response) == ['"v=TLSRPTv1; rua=mailto:tlsrpt@p.plain.test"']


@pytest.mark.parametrize(
    ("fault", "rcode", "answers", "ad"),
    [
        (DnsFault.SERVFAIL, "SERVFAIL", 0, False),
        (DnsFault.BOGUS, "SERVFAIL", 0, False),
        (DnsFault.REFUSED, "REFUSED", 0, False),
        (DnsFault.NXDOMAIN, "NXDOMAIN", 0, True),
        (DnsFault.NODATA, "NOERROR", 0, True),
        (DnsFault.INSECURE, "NOERROR", 1, False),
        (DnsFault.NONE, "NOERROR", 1, True),
    ],
)
async def test_faults_on_request(
    lab: Lab, fault: DnsFault, rcode: str, answers: int, ad: bool
) -> None:
    lab.break_dns("s.signed.test", "MX", fault)
    response = await ask(lab, "s.signed.test", "MX")
    assert dns.rcode.to_text(response.rcode()) == rcode
    assert len(response.answer) == answers
    assert bool(response.flags & dns.flags.AD) is ad
    assert (await ask(lab, "mx.s.signed.test", "A")).flags & dns.flags.AD  # nobody else


async def test_silence_garbage_and_truncation_on_request(lab: Lab) -> None:
    lab.break_dns("s.signed.test", "MX", "timeout")
    host, port = lab.dns_address
    query = dns.message.make_query("s.signed.test", "MX")
    with pytest.raises(dns.exception.Timeout):
        await dns.asyncquery.udp(query, host, 0.1, port)
    lab.break_dns("s.signed.test", "MX", "garbage")
    with pytest.raises(dns.exception.DNSException):
        await dns.asyncquery.udp(query, host, SECONDS, port)
    lab.break_dns("s.signed.test", "MX", "truncated")
    assert texts(await ask(lab, "s.signed.test", "MX")) == []
    assert texts(await ask(lab, "s.signed.test", "MX", tcp=True)) == ["10 mx.s.signed.test."]


async def test_questions_are_counted(lab: Lab) -> None:
    for _ in range(3):
        await ask(lab, "P.plain.test", "MX")
    assert lab.count("p.plain.test.", "mx") == 3
    assert lab.count("p.plain.test", "A") == 0


async def test_records_can_be_replaced(lab: Lab) -> None:
    lab.set_txt("p.plain.test", [["v=STSv1; ", "id=1;"], [b'\xff"\\']])
    response = await ask(lab, "_mta-sts.p.plain.test", "TXT")
    assert sorted(texts(response)) == sorted(['"v=STSv1; " "id=1;"', r'"\255\"\\"'])
    lab.set_id("p.plain.test", "2")
    assert texts(await ask(lab, "_mta-sts.p.plain.test", "TXT")) == ['"v=STSv1; id=2;"']
    lab.set_txt("p.plain.test", [])
    response = await ask(lab, "_mta-sts.p.plain.test", "TXT")
    assert response.rcode() == dns.rcode.NXDOMAIN


async def test_what_is_no_question_is_passed_over(lab: Lab) -> None:
    import asyncio

    host, port = lab.dns_address
    reader, writer = await asyncio.open_connection(host, port)
    reply = dns.message.make_response(dns.message.make_query("p.plain.test", "A")).to_wire()
    question = dns.message.make_query("p.plain.test", "MX").to_wire()
    for message in (b"", b"\x00", reply, question):
        writer.write(len(message).to_bytes(2) + message)
    length = int.from_bytes(await reader.readexactly(2))
    assert texts(dns.message.from_wire(await reader.readexactly(length))) == ["10 mx.p.plain.test."]
    writer.close()
    await writer.wait_closed()


async def test_without_recursion_it_answers_as_the_authority() -> None:
    async with Lab() as lab:
        asker = AuthorityClient(
            rng=random.Random(1),
            connect_map=ConnectMap.parse([f"::127.0.0.1:{lab.dns_address[1]}"]),
        )

        async def ask(name: str, rdtype: RecordType) -> AuthorityFacts:
            return await asker.ask("test", "ns.test", "127.0.0.2", name, rdtype)

        good = await ask("good.plain.test", RecordType.MX)
        alias = await ask("_mta-sts.txt-cname.plain.test", RecordType.TXT)
        bogus = await ask("bogus-domain.bogus.test", RecordType.MX)
        dead = await ask("_mta-sts.txt-servfail.plain.test", RecordType.TXT)
    assert (good.answer.status, good.authoritative) == (Status.OK, True)
    assert (alias.answer.records, alias.answer.is_alias) == ((), True)
    # Nothing is validated by an authority.
    assert (bogus.answer.status, bogus.authoritative) == (Status.OK, True)
    assert (dead.answer.detail, dead.authoritative) == ("REFUSED", False)


async def test_another_name_server_says_something_else() -> None:
    async with Lab() as lab:
        data, place = await lab.add_name_server("plain.test", "ns2.test", "127.0.0.3")
        data.replace("good.plain.test", "MX", ["10 other.plain.test."])
        resolver = DnsResolver([lab.dns_address], rng=random.Random(1))
        servers = await resolver.lookup("plain.test", RecordType.NS)
        address = await resolver.lookup("ns2.test", RecordType.A)
        usual = await resolver.lookup("good.plain.test", RecordType.MX)
        await resolver.close()
        second = DnsResolver([place], rng=random.Random(1))
        other = await second.lookup("good.plain.test", RecordType.MX)
        await second.close()
    assert sorted(map(str, servers.records)) == ["ns.test", "ns2.test"]
    assert address.records == ("127.0.0.3",)
    assert usual.records == (Mx(10, "mx.good.plain.test"),)
    assert other.records == (Mx(10, "other.plain.test"),)
