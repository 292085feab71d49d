# SPDX-License-Identifier: Apache-2.0
"""The DNS adapter against a name server on loopback that behaves, or does not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from strictmail.core.dnsvalues import MAX_CNAME_HOPS, Answer, Mx, RecordType, Status
from strictmail.net import dns as net_dns
from strictmail.net.dns import DnsResolver, is_loopback, system_servers

from .nameserver import Asked, NameServer

if TYPE_CHECKING:
    from pathlib import Path

A, CNAME, MX, SOA, TXT = (
    RecordType.A,
    RecordType.CNAME,
    RecordType.MX,
    RecordType.SOA,
    RecordType.TXT,
)
SHORT = 0.05


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with NameServer() as server:
        yield server


@asynccontextmanager
async def resolving(
    *servers: NameServer,
    timeout: float = 5.0,
    attempts: int = 3,
    trust_ad: bool = True,
    probe_name: str = ".",
) -> AsyncIterator[DnsResolver]:
    resolver = DnsResolver(
        [server.address for server in servers],
        timeout=timeout,
        attempts=attempts,
        trust_ad=trust_ad,
        rng=random.Random(1),
        probe_name=probe_name,
    )
    await resolver.start()
    yield resolver
    await resolver.close()


def changed(
    server: NameServer, change: Callable[[Any, Asked], None]
) -> Callable[[dns.message.Message, Asked], list[bytes]]:
    """A trick: the table's reply, changed before it is sent."""

    def trick(query: dns.message.Message, asked: Asked) -> list[bytes]:
        reply = server.answer(query, asked)
        change(reply, asked)
        return [reply.to_wire()]

    return trick


def said(rcode: int) -> Callable[[Any, Asked], None]:
    """Another RCODE."""
    return lambda reply, _: reply.set_rcode(rcode)


def explained(code: int) -> Callable[[Any, Asked], None]:
    """With an extended error, and a text that must not get into a log."""
    option = dns.edns.EDEOption(dns.edns.EDECode(code), "x\r\ny")
    return lambda reply, _: reply.use_edns(0, options=[option])


class TestReplies:
    async def test_question_as_it_arrives(self, server: NameServer) -> None:
        server.add("example.test", MX, Mx(10, "mx.example.test"))
        async with resolving(server) as resolver:
            answer = await resolver.lookup("EXAMPLE.test.", MX)
        assert answer.name == answer.canonical_name == "example.test"
        assert answer.records == (Mx(10, "mx.example.test"),)
        (asked,) = server.asked
        assert (asked.ad, asked.cd, asked.payload, asked.tcp) == (True, False, 1232, False)

    @pytest.mark.req("DANE-02")
    async def test_ad_counts_only_on_a_trusted_path(self, server: NameServer) -> None:
        server.add("signed.test", A, "192.0.2.1", secure=True)
        for trust_ad in (True, False):
            async with resolving(server, trust_ad=trust_ad) as resolver:
                answer = await resolver.lookup("signed.test", A)
                assert answer.secure is trust_ad
                assert resolver.validates is trust_ad

    async def test_name_that_cannot_exist_is_not_asked_for(self, server: NameServer) -> None:
        async with resolving(server) as resolver:
            for name in ("a..test", "x" * 64 + ".test", "ü.test"):
                answer = await resolver.lookup(name, A)
                assert answer.status is Status.MALFORMED
                assert answer.detail
        assert server.asked == []

    @pytest.mark.req("STS-REC-33")
    async def test_large_answers_come_over_tcp(self, server: NameServer) -> None:
        strings = tuple(bytes([65 + n]) * 255 for n in range(20))
        server.add("large.test", TXT, strings)
        async with resolving(server) as resolver:
            answer = await resolver.lookup("large.test", TXT)
        assert answer.records == (strings,)
        assert [asked.tcp for asked in server.asked] == [False, True]

    async def test_a_datagram_larger_than_asked_for_is_asked_for_over_tcp(
        self, server: NameServer
    ) -> None:
        server.max_udp = 65535
        strings = tuple(b"x" * 255 for _ in range(20))
        server.add("large.test", TXT, strings)
        async with resolving(server) as resolver:
            assert (await resolver.lookup("large.test", TXT)).records == (strings,)
        assert [asked.tcp for asked in server.asked] == [False, True]

    async def test_identical_questions_at_the_same_time_are_asked_once(
        self, server: NameServer
    ) -> None:
        server.add("example.test", A, "192.0.2.1")
        async with resolving(server) as resolver:
            answers = await asyncio.gather(*(resolver.lookup("example.test", A) for _ in range(50)))
            assert len(set(map(repr, answers))) == 1
            assert server.count("example.test", A) == 1
            await resolver.lookup("example.test", A)
        assert server.count("example.test", A) == 2

    async def test_one_who_stops_waiting_does_not_stop_the_others(self, server: NameServer) -> None:
        server.add("example.test", A, "192.0.2.1")
        async with resolving(server) as resolver:
            leader = asyncio.create_task(resolver.lookup("example.test", A))
            others = [asyncio.create_task(resolver.lookup("example.test", A)) for _ in range(2)]
            await asyncio.sleep(0)
            leader.cancel()
            others[0].cancel()
            assert (await others[1]).status is Status.OK
            assert leader.cancelled() or await asyncio.wait([leader])

    async def test_many_questions_in_flight(self, server: NameServer) -> None:
        for number in range(100):
            server.add(f"n{number}.test", A, f"192.0.2.{number}")
        async with resolving(server, attempts=5) as resolver:
            answers = await asyncio.gather(
                *(resolver.lookup(f"n{number}.test", A) for number in range(100))
            )
        assert [answer.records for answer in answers] == [
            (f"192.0.2.{number}",) for number in range(100)
        ]


class TestAliases:
    @pytest.mark.req("DANE-07")
    @pytest.mark.parametrize("insecure", ["a.test", "b.test", "c.test", None])
    async def test_secure_is_the_whole_chain(
        self, server: NameServer, insecure: str | None
    ) -> None:
        server.alias("a.test", "b.test", secure=insecure != "a.test", ttl=30)
        server.alias("b.test", "c.test", secure=insecure != "b.test", ttl=20)
        server.add("c.test", A, "192.0.2.1", secure=insecure != "c.test")
        async with resolving(server) as resolver:
            answer = await resolver.lookup("a.test", A)
        assert (answer.canonical_name, answer.ttl) == ("c.test", 20)
        assert answer.is_alias
        assert answer.secure is (insecure is None)

    @pytest.mark.req("DANE-07", "DANE-08", "STS-REC-26")
    @pytest.mark.parametrize(
        ("first", "second"), [(True, True), (True, False), (False, True), (False, False)]
    )
    async def test_an_incomplete_chain_is_asked_on_for(
        self, server: NameServer, *, first: bool, second: bool
    ) -> None:
        def only_the_alias(reply: Any, asked: Asked) -> None:
            del reply.answer[1:]
            reply.flags &= ~dns.flags.AD
            reply.flags |= dns.flags.AD if first else 0

        server.alias("a.test", "b.test", ttl=30)
        server.add("b.test", A, "192.0.2.1", secure=second, ttl=600)
        server.tricks["a.test", A] = changed(server, only_the_alias)
        async with resolving(server) as resolver:
            answer = await resolver.lookup("a.test", A)
        secure = first and second
        assert answer == Answer("a.test", A, Status.OK, secure, ("192.0.2.1",), "b.test", 30)
        assert [asked.name for asked in server.asked] == ["a.test", "b.test"]

    @pytest.mark.req("DANE-08")
    async def test_an_error_further_on_fails_the_whole(self, server: NameServer) -> None:
        server.alias("a.test", "b.test")
        server.add("b.test", A, "192.0.2.1")
        server.tricks["a.test", A] = changed(server, lambda reply, _: reply.answer.pop())
        server.fail("b.test", A)
        async with resolving(server) as resolver:
            answer = await resolver.lookup("a.test", A)
        assert (answer.name, answer.status, answer.ttl) == ("a.test", Status.SERVFAIL, 0)

    @pytest.mark.req("DANE-10", "STS-REC-33")
    async def test_number_of_aliases_is_limited(self, server: NameServer) -> None:
        for number in range(MAX_CNAME_HOPS + 1):
            server.alias(f"n{number}.test", f"n{number + 1}.test")
        server.add(f"n{MAX_CNAME_HOPS + 1}.test", A, "192.0.2.1")
        async with resolving(server) as resolver:
            assert (await resolver.lookup("n1.test", A)).status is Status.OK
            answer = await resolver.lookup("n0.test", A)
        assert answer.status is Status.SERVFAIL
        assert str(MAX_CNAME_HOPS) in answer.detail

    @pytest.mark.req("DANE-10", "STS-REC-33")
    async def test_loops_end(self, server: NameServer) -> None:
        server.alias("self.test", "self.test")
        server.alias("a.test", "b.test")
        server.alias("b.test", "a.test")
        async with resolving(server) as resolver:
            for name in ("self.test", "a.test"):
                assert (await resolver.lookup(name, A)).status is Status.SERVFAIL

    @pytest.mark.req("DANE-10", "STS-REC-33")
    async def test_loops_over_several_replies_end(self, server: NameServer) -> None:
        for name, target in (("a.test", "b.test"), ("b.test", "a.test")):
            server.alias(name, target)
            server.tricks[name, A] = changed(
                server, lambda reply, _: reply.answer.__delitem__(slice(1, None))
            )
        async with resolving(server) as resolver:
            assert (await resolver.lookup("a.test", A)).status is Status.SERVFAIL
        assert len(server.asked) <= MAX_CNAME_HOPS + 1

    async def test_asking_for_the_alias_itself(self, server: NameServer) -> None:
        server.alias("a.test", "b.test", secure=True)
        server.alias("b.test", "c.test")
        async with resolving(server) as resolver:
            answer = await resolver.lookup("a.test", CNAME)
        assert answer.records == ("b.test",)
        assert not answer.is_alias
        assert answer.secure

    async def test_denial_at_the_end_of_a_chain(self, server: NameServer) -> None:
        server.alias("a.test", "b.test", ttl=5)
        server.alias("n.test", "none.test", ttl=500)
        server.add("b.test", TXT, (b"x",))
        async with resolving(server) as resolver:
            nodata = await resolver.lookup("a.test", A)
            nxdomain = await resolver.lookup("n.test", A)
        assert (nodata.status, nodata.canonical_name, nodata.ttl) == (Status.NODATA, "b.test", 5)
        assert (nxdomain.status, nxdomain.canonical_name) == (Status.NXDOMAIN, "none.test")
        assert nxdomain.ttl == 60
        assert len(server.asked) == 2


class TestDenials:
    @pytest.mark.req("DANE-03", "STS-REC-32")
    @pytest.mark.parametrize("secure", [True, False])
    async def test_nxdomain_and_nodata(self, server: NameServer, *, secure: bool) -> None:
        server.add("here.test", TXT, (b"x",), secure=secure)
        if secure:
            server.sign("test")
        async with resolving(server) as resolver:
            nodata = await resolver.lookup("here.test", A)
            nxdomain = await resolver.lookup("gone.test", A)
        assert (nodata.status, nodata.secure, nodata.ttl) == (Status.NODATA, secure, 60)
        assert (nxdomain.status, nxdomain.secure, nxdomain.ttl) == (Status.NXDOMAIN, secure, 60)

    @pytest.mark.req("STS-REC-32")
    async def test_a_denial_without_soa_is_not_kept(self, server: NameServer) -> None:
        server.tricks["gone.test", A] = changed(server, lambda reply, _: reply.authority.clear())
        async with resolving(server) as resolver:
            answer = await resolver.lookup("gone.test", A)
        assert (answer.status, answer.ttl) == (Status.NXDOMAIN, 0)

    async def test_records_of_a_name_that_does_not_exist(self, server: NameServer) -> None:
        server.add("here.test", A, "192.0.2.1")
        server.tricks["here.test", A] = changed(server, said(dns.rcode.NXDOMAIN))
        async with resolving(server) as resolver:
            assert (await resolver.lookup("here.test", A)).status is Status.MALFORMED

    async def test_records_of_other_names_are_not_taken(self, server: NameServer) -> None:
        server.add("other.test", A, "192.0.2.66")
        server.tricks["here.test", A] = changed(
            server,
            lambda reply, _: (
                reply.set_rcode(0),
                reply.answer.append(
                    dns.rrset.from_text("other.test.", 60, "IN", "A", "192.0.2.66")
                ),
            )[0],
        )
        async with resolving(server) as resolver:
            answer = await resolver.lookup("here.test", A)
        assert (answer.status, answer.records) == (Status.NODATA, ())


class TestFailures:
    @pytest.mark.req("DANE-04")
    async def test_bogus_by_extended_error(self, server: NameServer) -> None:
        for code in range(6, 13):
            name = f"code{code}.test"
            server.fail(name, A)
            server.tricks[name, A] = changed(server, explained(code))
        async with resolving(server) as resolver:
            for code in range(6, 13):
                answer = await resolver.lookup(f"code{code}.test", A)
                assert answer.status is Status.BOGUS
                assert str(code) in answer.detail
                assert "\r" not in answer.detail
        assert len(server.asked) == 7

    @pytest.mark.req("DANE-04")
    async def test_bogus_by_a_second_look_with_checking_disabled(self, server: NameServer) -> None:
        server.add("bogus.test", A, "192.0.2.66")
        server.fail("bogus.test", A, Status.BOGUS)
        async with resolving(server) as resolver:
            answer = await resolver.lookup("bogus.test", A)
        assert answer.status is Status.BOGUS
        assert answer.records == ()
        assert [asked.cd for asked in server.asked] == [False, True]

    async def test_servfail_that_says_why_is_not_looked_at_twice(self, server: NameServer) -> None:
        for code in (5, 22, 23):
            server.asked.clear()
            server.fail("down.test", A)
            server.tricks["down.test", A] = changed(server, explained(code))
            async with resolving(server) as resolver:
                assert (await resolver.lookup("down.test", A)).status is Status.SERVFAIL
            assert len(server.asked) == 1

    async def test_plain_servfail(self, server: NameServer) -> None:
        server.fail("down.test", A)
        async with resolving(server) as resolver:
            answer = await resolver.lookup("down.test", A)
        assert (answer.status, answer.ttl) == (Status.SERVFAIL, 0)
        assert f"127.0.0.1:{server.port}: SERVFAIL" in answer.detail

    async def test_servfail_and_refused_are_asked_for_elsewhere(self, server: NameServer) -> None:
        async with NameServer() as second:
            second.add("example.test", A, "192.0.2.1")
            for rcode in (dns.rcode.SERVFAIL, dns.rcode.REFUSED):
                server.tricks["example.test", A] = changed(server, said(rcode))
                async with resolving(server, second) as resolver:
                    assert (await resolver.lookup("example.test", A)).status is Status.OK
                    # The one that answered is asked first from now on.
                    await resolver.lookup("example.test", A)
            assert len(server.asked) == 2

    @pytest.mark.req("DANE-04")
    async def test_bogus_is_not_asked_for_elsewhere(self, server: NameServer) -> None:
        server.fail("bogus.test", A)
        server.tricks["bogus.test", A] = changed(server, explained(6))
        async with NameServer() as careless, resolving(server, careless) as resolver:
            careless.add("bogus.test", A, "192.0.2.66")
            assert (await resolver.lookup("bogus.test", A)).status is Status.BOGUS
            assert careless.asked == []

    @pytest.mark.req("DANE-04")
    async def test_silence(self, server: NameServer) -> None:
        server.fail("silent.test", A, Status.TIMEOUT)
        async with resolving(server, timeout=SHORT, attempts=2) as resolver:
            answer = await resolver.lookup("silent.test", A)
        assert (answer.status, answer.ttl) == (Status.TIMEOUT, 0)
        assert "no reply within" in answer.detail
        assert server.count("silent.test", A) == 2

    async def test_silence_over_tcp(self, server: NameServer) -> None:
        def truncate(query: dns.message.Message, asked: Asked) -> list[bytes]:
            if asked.tcp:
                return []
            reply = server.answer(query, asked)
            reply.flags |= dns.flags.TC
            return [reply.to_wire()]

        server.tricks["silent.test", A] = truncate
        async with resolving(server, timeout=SHORT, attempts=1) as resolver:
            assert (await resolver.lookup("silent.test", A)).status is Status.TIMEOUT

    async def test_the_next_server_after_silence(self, server: NameServer) -> None:
        async with NameServer() as second:
            server.fail("example.test", A, Status.TIMEOUT)
            second.add("example.test", A, "192.0.2.1")
            async with resolving(server, second, timeout=10 * SHORT) as resolver:
                assert (await resolver.lookup("example.test", A)).status is Status.OK

    async def test_nobody_listens(
        self, server: NameServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(net_dns, "REFUSED_PAUSE_SECONDS", 0.001)
        server.stop_udp()
        async with resolving(server) as resolver:
            answers = await asyncio.gather(
                resolver.lookup("a.test", A), resolver.lookup("b.test", A)
            )
        for answer in answers:
            assert answer.status is Status.TIMEOUT
            assert "ECONNREFUSED" in answer.detail

    async def test_a_server_that_comes_back(
        self, server: NameServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(net_dns, "REFUSED_PAUSE_SECONDS", 0.001)
        server.add("a.test", A, "192.0.2.1")
        server.stop_udp()
        async with resolving(server) as resolver:
            for _ in range(3):
                assert (await resolver.lookup("a.test", A)).status is Status.TIMEOUT
            server.start_udp()
            assert (await resolver.lookup("a.test", A)).status is Status.OK
            assert len(resolver._servers[0]._own) == 0

    async def test_a_server_that_restarts_between_two_questions(
        self, server: NameServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(net_dns, "REFUSED_PAUSE_SECONDS", 0.001)
        server.add("a.test", A, "192.0.2.1")
        async with resolving(server) as resolver:
            for _ in range(3):
                assert (await resolver.lookup("a.test", A)).status is Status.OK
                server.stop_udp()
                server.start_udp()

    @pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP])
    async def test_a_server_without_edns(self, server: NameServer, rcode: int) -> None:
        server.add("example.test", A, "192.0.2.1")
        server.tricks["example.test", A] = changed(
            server,
            lambda reply, asked: reply.set_rcode(rcode) if asked.payload else None,
        )
        async with resolving(server) as resolver:
            assert (await resolver.lookup("example.test", A)).status is Status.OK
        assert [asked.payload for asked in server.asked] == [1232, 0]


Forge = Callable[[bytes], list[bytes]]


class TestHostileReplies:
    @pytest.mark.parametrize(
        "forge",
        [
            pytest.param(lambda good: [bytes([good[0] ^ 1]) + good[1:]], id="wrong id"),
            pytest.param(lambda good: [good.replace(b"example", b"exbmple")], id="wrong question"),
            pytest.param(lambda good: [good[:2] + b"\x01" + good[3:]], id="not a reply"),
            pytest.param(lambda good: [b"", b"\0", good[:2], good[:11], good[:20]], id="crumbs"),
            pytest.param(lambda _: [b"\xff" * 500], id="garbage"),
            pytest.param(lambda _: [b"\xff" * 9000], id="huge garbage"),
        ],
    )
    async def test_strangers_are_not_listened_to(self, server: NameServer, forge: Forge) -> None:
        server.add("example.test", A, "192.0.2.1")

        def trick(query: dns.message.Message, asked: Asked) -> list[bytes]:
            (good,) = server.plain(query, asked)
            # What comes first is not the reply; the reply still counts.
            return [*forge(good), good]

        server.tricks["example.test", A] = trick
        async with resolving(server, attempts=1) as resolver:
            answer = await resolver.lookup("example.test", A)
        assert answer.records == ("192.0.2.1",)
        assert len(server.asked) == 1

    @pytest.mark.req("DANE-04")
    async def test_a_broken_reply_to_our_question(self, server: NameServer) -> None:
        server.add("example.test", A, "192.0.2.1")
        server.tricks["example.test", A] = lambda query, asked: [
            server.plain(query, asked)[0][:-12]
        ]
        async with resolving(server) as resolver:
            answer = await resolver.lookup("example.test", A)
        assert answer.status is Status.MALFORMED
        assert len(server.asked) == 1

    async def test_late_and_repeated_replies_do_no_harm(self, server: NameServer) -> None:
        server.add("a.test", A, "192.0.2.1")
        server.add("b.test", A, "192.0.2.2")
        late: list[bytes] = []

        def repeat(query: dns.message.Message, asked: Asked) -> list[bytes]:
            good = server.plain(query, asked)
            late.extend(good)
            return late * 3

        server.tricks["a.test", A] = server.tricks["b.test", A] = repeat
        async with resolving(server) as resolver:
            for _ in range(3):
                assert (await resolver.lookup("a.test", A)).records == ("192.0.2.1",)
                assert (await resolver.lookup("b.test", A)).records == ("192.0.2.2",)

    @pytest.mark.req("STS-REC-33")
    @pytest.mark.parametrize(
        "stream",
        [
            pytest.param(lambda good: [good[:20]], id="broken"),
            pytest.param(lambda good: [bytes([good[0] ^ 1]) + good[1:]], id="wrong id"),
            pytest.param(lambda good: [good.replace(b"large", b"lbrge")], id="wrong question"),
            pytest.param(lambda good: [good[:2] + b"\x83" + good[3:]], id="truncated again"),
            pytest.param(lambda _: [b""], id="empty"),
            pytest.param(lambda _: [b"\0" * 65535], id="64 KiB of nothing"),
        ],
    )
    async def test_hostile_tcp(self, server: NameServer, stream: Forge) -> None:
        server.add("large.test", TXT, tuple(b"x" * 255 for _ in range(10)))
        server.tricks["large.test", TXT] = lambda query, asked: (
            stream(server.plain(query, asked)[0]) if asked.tcp else server.plain(query, asked)
        )
        async with resolving(server, timeout=1) as resolver:
            assert (await resolver.lookup("large.test", TXT)).status is Status.MALFORMED


class TestProbe:
    @pytest.mark.req("DANE-01", "DANE-02")
    async def test_a_server_that_validates(self, server: NameServer) -> None:
        server.add("signed.test", SOA, secure=True)
        server.sign("signed.test")
        async with resolving(server, probe_name="signed.test") as resolver:
            assert await resolver.probe()
            assert resolver.validates

    @pytest.mark.req("DANE-01", "DANE-02")
    async def test_a_server_that_does_not(self, server: NameServer) -> None:
        server.sign("signed.test")
        server.validates = False
        server.add("a.test", A, "192.0.2.1", secure=True)
        async with resolving(server, probe_name="signed.test") as resolver:
            assert not await resolver.probe()
            assert not resolver.validates
            # From then on its AD is not believed, not even for a name it would set it for.
            server.validates = True
            assert not (await resolver.lookup("a.test", A)).secure
            assert await resolver.probe()
            assert (await resolver.lookup("a.test", A)).secure

    @pytest.mark.req("DANE-02")
    async def test_an_untrusted_path_is_never_said_to_validate(self, server: NameServer) -> None:
        server.sign("signed.test")
        async with resolving(server, probe_name="signed.test", trust_ad=False) as resolver:
            assert not await resolver.probe()

    @pytest.mark.req("DANE-01")
    async def test_one_careless_server_is_enough(self, server: NameServer) -> None:
        server.sign("signed.test")
        async with NameServer() as careless:
            careless.sign("signed.test")
            careless.validates = False
            async with resolving(server, careless, probe_name="signed.test") as resolver:
                assert not await resolver.probe()

    async def test_no_reply_says_nothing(
        self, server: NameServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # At boot the resolver may start after us: DANE must not be off until the next reload.
        monkeypatch.setattr(net_dns, "REPROBE_UNKNOWN_SECONDS", 0.0)
        server.fail("signed.test", SOA)
        server.add("a.test", A, "192.0.2.1")
        async with resolving(server, probe_name="signed.test") as resolver:
            assert await resolver.probe()
            server._failures.clear()
            server.validates = False
            # The next lookup has it probed again, in the background.
            await resolver.lookup("a.test", A)
            await _until(lambda: not resolver.validates)

    async def test_a_known_state_outlives_silence(self, server: NameServer) -> None:
        server.sign("signed.test")
        async with resolving(server, probe_name="signed.test", timeout=10 * SHORT) as resolver:
            server.validates = False
            await resolver.probe()
            server.fail("signed.test", SOA, Status.TIMEOUT)
            assert not await resolver.probe()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


class TestSockets:
    async def test_servers_on_loopback_share_a_socket(self, server: NameServer) -> None:
        async with resolving(server) as resolver:
            for number in range(5):
                await resolver.lookup(f"n{number}.test", A)
        assert len({asked.port for asked in server.asked}) == 1

    async def test_other_servers_see_a_new_port_each_time(
        self, server: NameServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(net_dns, "is_loopback", lambda _: False)
        async with resolving(server) as resolver:
            await asyncio.gather(*(resolver.lookup(f"n{number}.test", A) for number in range(20)))
            assert resolver._servers[0]._own == []
        assert len({asked.port for asked in server.asked}) > 10

    async def test_number_of_sockets_is_bounded(
        self, server: NameServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(net_dns, "is_loopback", lambda _: False)
        monkeypatch.setattr(net_dns, "MAX_OWN_SOCKETS", 4)
        async with resolving(server) as resolver:
            await asyncio.gather(*(resolver.lookup(f"n{number}.test", A) for number in range(50)))
        assert len({asked.port for asked in server.asked}) <= 4
        assert len(server.asked) == 50

    async def test_closing_lets_lookups_end(self, server: NameServer) -> None:
        server.add("a.test", A, "192.0.2.1")
        async with resolving(server) as resolver:
            under_way = asyncio.create_task(resolver.lookup("a.test", A))
            await asyncio.sleep(0)
            await resolver.close()
            assert (await under_way).status is Status.OK
            # Whoever still holds the old resolver after a reload is served, too.
            assert (await resolver.lookup("a.test", A)).status is Status.OK

    async def test_cancelled_lookups_leave_nothing(self, server: NameServer) -> None:
        server.fail("silent.test", A, Status.TIMEOUT)
        async with resolving(server) as resolver:
            task = asyncio.create_task(resolver.lookup("silent.test", A))
            await _until(lambda: bool(server.asked))
            task.cancel()
            await asyncio.wait([task])
            assert resolver._flights == {}
            channel = resolver._servers[0]._shared
            assert channel is not None
            assert channel._pending == {}


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 192.0.2.1\nnameserver ::1\n", (("192.0.2.1", 53), ("::1", 53))),
        ("# nameserver 192.0.2.1\n; x\noptions trust-ad\nsearch a b\n", (("127.0.0.1", 53),)),
        (
            "nameserver not-an-address\nnameserver\n nameserver\t192.0.2.2  # x\n",
            (("192.0.2.2", 53),),
        ),
        ("nameserver fe80::1%eth0\n", (("fe80::1%eth0", 53),)),
        (
            "".join(f"nameserver 192.0.2.{n}\n" for n in range(5)),
            tuple((f"192.0.2.{n}", 53) for n in range(3)),
        ),
        ("", (("127.0.0.1", 53),)),
    ],
)
def test_system_servers(tmp_path: Path, text: str, servers: tuple[tuple[str, int], ...]) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    assert system_servers(str(path)) == servers


def test_system_servers_without_the_file(tmp_path: Path) -> None:
    assert system_servers(str(tmp_path / "none")) == (("127.0.0.1", 53),)


@pytest.mark.req("DANE-02")
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("192.0.2.1", False),
        ("10.0.0.1", False),
        ("::", False),
        ("fe80::1%lo", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_is_loopback(host: str, *, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("servers", "attempts"), [([], 3), ([("127.0.0.1", 53)], 0), ([("localhost", 53)], 3)]
)
def test_resolver_needs_servers(servers: list[tuple[str, int]], attempts: int) -> None:
    with pytest.raises(ValueError):
        DnsResolver(servers, attempts=attempts, rng=random.Random(1))
