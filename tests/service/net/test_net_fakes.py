# SPDX-License-Identifier: Apache-2.0
"""One contract, two resolvers and two fetchers: the fakes say what the real ones say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from strictmail.core.dnsvalues import MAX_CNAME_HOPS, Answer, Mx, Record, RecordType, Status, Tlsa
from strictmail.core.sts.values import FetchedPolicy, FetchFailure
from strictmail.core.tlsrpt.results import ResultType
from strictmail.net.dns import DnsResolver
from strictmail.net.fakes import FakeFetcher, FakeResolver
from strictmail.net.https import HttpsPolicyFetcher

from .nameserver import NameServer
from .policyserver import Authority, PolicyServer, respond, response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from strictmail.ports import PolicyFetcher, Resolver

A, AAAA, CNAME, MX, NS, TLSA, TXT = (
    RecordType.A,
    RecordType.AAAA,
    RecordType.CNAME,
    RecordType.MX,
    RecordType.NS,
    RecordType.TLSA,
    RecordType.TXT,
)


class Table(Protocol):
    """What both a FakeResolver and a NameServer can be told."""

    def add(
        self, name: str, rdtype: RecordType, *records: Record, secure: bool = ..., ttl: int = ...
    ) -> None: ...
    def alias(self, name: str, target: str, *, secure: bool = ..., ttl: int = ...) -> None: ...
    def sign(self, zone: str) -> None: ...
    def fail(self, name: str, rdtype: RecordType, status: Status = ...) -> None: ...


def fill(table: Table) -> None:
    table.sign("signed.test")
    table.add("mail.signed.test", A, "192.0.2.1", secure=True)
    table.add("mail.signed.test", AAAA, "2001:db8::1", secure=True, ttl=60)
    table.add("plain.test", MX, Mx(10, "mx.plain.test"))
    table.add("null.test", MX, Mx(0, ""), secure=True)
    table.add("plain.test", TXT, (b"v=STSv1;", b" id=1;", b"\x00\xff"))
    table.add("plain.test", NS, "ns.plain.test")
    table.add("_25._tcp.signed.test", TLSA, Tlsa(3, 1, 1, b"\x01" * 32), secure=True)
    table.alias("one.signed.test", "mail.signed.test", secure=True, ttl=30)
    table.alias("half.signed.test", "half.plain.test", secure=True)
    table.add("half.plain.test", A, "192.0.2.2")
    table.alias("loop.test", "pool.test")
    table.alias("pool.test", "loop.test")
    table.alias("dangling.test", "nowhere.test", ttl=20)
    table.alias("empty.test", "plain.test")
    for number in range(MAX_CNAME_HOPS + 1):
        table.alias(f"n{number}.test", f"n{number + 1}.test")
    table.add(f"n{MAX_CNAME_HOPS + 1}.test", A, "192.0.2.3")
    table.add("odd.test", CNAME, r"a\032b.test")
    table.add(r"a\032b.test", A, "192.0.2.4")
    table.add("bogus.test", A, "192.0.2.66")
    table.fail("bogus.test", A, Status.BOGUS)
    table.fail("down.test", A)


@pytest.fixture(params=["real", "fake"])
async def resolver(request: pytest.FixtureRequest) -> AsyncIterator[Resolver]:
    if request.param == "fake":
        fake = FakeResolver()
        fill(fake)
        yield fake
        return
    async with NameServer() as server:
        fill(server)
        real = DnsResolver([server.address], trust_ad=True, rng=random.Random(1))
        await real.start()
        yield real
        await real.close()


@pytest.mark.parametrize(
    ("name", "rdtype", "expected"),
    [
        (
            "MAIL.signed.TEST.",
            A,
            Answer("mail.signed.test", A, Status.OK, True, ("192.0.2.1",), "mail.signed.test", 300),
        ),
        (
            "mail.signed.test",
            AAAA,
            Answer(
                "mail.signed.test", AAAA, Status.OK, True, ("2001:db8::1",), "mail.signed.test", 60
            ),
        ),
        (
            "plain.test",
            MX,
            Answer(
                "plain.test", MX, Status.OK, False, (Mx(10, "mx.plain.test"),), "plain.test", 300
            ),
        ),
        (
            "null.test",
            MX,
            Answer("null.test", MX, Status.OK, True, (Mx(0, ""),), "null.test", 300),
        ),
        (
            "plain.test",
            TXT,
            Answer(
                "plain.test",
                TXT,
                Status.OK,
                False,
                ((b"v=STSv1;", b" id=1;", b"\x00\xff"),),
                "plain.test",
                300,
            ),
        ),
        (
            "_25._tcp.signed.test",
            TLSA,
            Answer(
                "_25._tcp.signed.test",
                TLSA,
                Status.OK,
                True,
                (Tlsa(3, 1, 1, b"\x01" * 32),),
                "_25._tcp.signed.test",
                300,
            ),
        ),
        (
            "one.signed.test",
            A,
            Answer("one.signed.test", A, Status.OK, True, ("192.0.2.1",), "mail.signed.test", 30),
        ),
        (
            "one.signed.test",
            CNAME,
            Answer(
                "one.signed.test",
                CNAME,
                Status.OK,
                True,
                ("mail.signed.test",),
                "one.signed.test",
                30,
            ),
        ),
        (
            "half.signed.test",
            A,
            Answer("half.signed.test", A, Status.OK, False, ("192.0.2.2",), "half.plain.test", 300),
        ),
        (
            "none.signed.test",
            A,
            Answer("none.signed.test", A, Status.NXDOMAIN, True, (), "none.signed.test", 60),
        ),
        ("none.test", A, Answer("none.test", A, Status.NXDOMAIN, False, (), "none.test", 60)),
        (
            "mail.signed.test",
            TXT,
            Answer("mail.signed.test", TXT, Status.NODATA, True, (), "mail.signed.test", 60),
        ),
        (
            "dangling.test",
            A,
            Answer("dangling.test", A, Status.NXDOMAIN, False, (), "nowhere.test", 20),
        ),
        ("empty.test", A, Answer("empty.test", A, Status.NODATA, False, (), "plain.test", 60)),
        (
            "odd.test",
            A,
            Answer("odd.test", A, Status.OK, False, ("192.0.2.4",), r"a\032b.test", 300),
        ),
        (
            "n1.test",
            A,
            Answer(
                "n1.test", A, Status.OK, False, ("192.0.2.3",), f"n{MAX_CNAME_HOPS + 1}.test", 300
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_answers(resolver: Resolver, name: str, rdtype: RecordType, expected: Answer) -> None:
    assert await resolver.lookup(name, rdtype) == expected


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("loop.test", Status.SERVFAIL),
        ("n0.test", Status.SERVFAIL),
        ("bogus.test", Status.BOGUS),
        ("down.test", Status.SERVFAIL),
        ("a..test", Status.MALFORMED),
        ("x" * 64 + ".test", Status.MALFORMED),
    ],
)
async def test_failures(resolver: Resolver, name: str, status: Status) -> None:
    answer = await resolver.lookup(name, A)
    assert (answer.name, answer.status, answer.secure) == (name, status, False)
    assert (answer.records, answer.ttl) == ((), 0)
    assert answer.detail


def test_both_say_that_they_validate(resolver: Resolver) -> None:
    assert resolver.validates


async def test_fake_that_does_not_validate_calls_nothing_secure() -> None:
    fake = FakeResolver(validates=False)
    fill(fake)
    for name in ("mail.signed.test", "one.signed.test", "none.signed.test"):
        assert not (await fake.lookup(name, A)).secure


async def test_fake_resolver_counts_changes_and_hangs() -> None:
    fake = FakeResolver()
    fake.add("a.test", A, "192.0.2.1")
    fake.fail("a.test", A, Status.TIMEOUT)
    assert (await fake.lookup("a.test", A)).status is Status.TIMEOUT
    fake.add("a.test", A, "192.0.2.1")
    assert (await fake.lookup("A.test", A)).status is Status.OK
    fake.remove("a.test", A)
    assert (await fake.lookup("a.test", A)).status is Status.NXDOMAIN
    assert fake.count("a.test", A) == 3
    held = fake.hang("a.test", A)
    task = asyncio.create_task(fake.lookup("a.test", A))
    await asyncio.sleep(0)
    assert not task.done()
    held.set()
    assert (await task).status is Status.NXDOMAIN


POLICY = b"version: STSv1\nmode: testing\nmx: *.example.test\nmax_age: 86400\n"
Serve = Callable[[bytes], None]


@pytest.fixture(params=["real", "fake"])
async def fetching(
    request: pytest.FixtureRequest, tmp_path: Any
) -> AsyncIterator[tuple[PolicyFetcher, Serve]]:
    if request.param == "fake":
        fake = FakeFetcher()
        yield fake, lambda body: fake.serve("example.test", body)
        return
    authority = Authority(tmp_path)
    resolver = FakeResolver()
    async with PolicyServer(authority.server_context("mta-sts.example.test")) as server:
        real = HttpsPolicyFetcher(
            resolver,
            ca_file=str(authority.file),
            allow_networks=["127.0.0.0/8"],
            connect_port=server.port,
        )

        def serve(body: bytes) -> None:
            resolver.add("mta-sts.example.test", A, "127.0.0.1")
            server.handler = respond(response(body))

        yield real, serve


async def test_fetches(fetching: tuple[PolicyFetcher, Serve]) -> None:
    fetcher, serve = fetching
    nothing = await fetcher.fetch("example.test")
    assert isinstance(nothing, FetchFailure)
    assert (nothing.result_type, nothing.reason_code) == (ResultType.STS_POLICY_FETCH_ERROR, "dns")
    serve(POLICY)
    fetched = await fetcher.fetch("example.test")
    assert isinstance(fetched, FetchedPolicy)
    assert fetched.body == POLICY
    serve(b"version: STSv1\n")
    broken = await fetcher.fetch("example.test")
    assert isinstance(broken, FetchFailure)
    assert (broken.result_type, broken.reason_code) == (ResultType.STS_POLICY_INVALID, "syntax")
    assert broken.lines == ("version: STSv1",)
    serve(b"x" * 70_000)
    large = await fetcher.fetch("example.test")
    assert isinstance(large, FetchFailure)
    assert large.reason_code == "too-large"


async def test_fake_fetcher_counts_fails_and_hangs() -> None:
    fake = FakeFetcher()
    fake.fail("a.test", "certificate-expired", ResultType.STS_WEBPKI_INVALID)
    failure = await fake.fetch("a.test")
    assert isinstance(failure, FetchFailure)
    assert failure.result_type is ResultType.STS_WEBPKI_INVALID
    held = fake.hang("a.test")
    task = asyncio.create_task(fake.fetch("a.test"))
    await asyncio.sleep(0)
    assert not task.done()
    held.set()
    assert isinstance(await task, FetchFailure)
    assert fake.fetches["a.test"] == 2
