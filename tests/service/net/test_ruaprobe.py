# SPDX-License-Identifier: Apache-2.0
"""Report destinations: which are alive, which are dead, and that nothing is ever sent to them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from strictmail.core.check.facts import ProbeOutcome, RuaState, UnknownReason
from strictmail.core.dnsvalues import Mx, RecordType, Status
from strictmail.net.connectto import ConnectMap
from strictmail.net.fakes import FakeResolver, FakeSmtpProber
from strictmail.net.ruaprobe import RuaClient

from .policyserver import (
    DAY,
    Authority,
    PolicyServer,
    respond,
    respond_and_cut,
    respond_and_hold,
    response,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

A, MX = RecordType.A, RecordType.MX
HOST = "reports.example"
URI = f"https://{HOST}/v1/tlsrpt?key=1"
MAIL = "mailto:tlsrpt@example.com"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[PolicyServer]:
    async with PolicyServer(authority.server_context(HOST)) as server:
        yield server


@pytest.fixture
def resolver() -> FakeResolver:
    resolver = FakeResolver()
    resolver.add(HOST, A, "127.0.0.1")
    resolver.add("example.com", MX, Mx(10, "mx.example.com"), Mx(20, "mx2.example.com"))
    resolver.add("mx.example.com", A, "192.0.2.1")
    resolver.add("mx2.example.com", A, "192.0.2.2")
    return resolver


def client(
    resolver: FakeResolver,
    authority: Authority,
    port: int = 1,
    prober: FakeSmtpProber | None = None,
    networks: tuple[str, ...] = ("127.0.0.0/8", "192.0.2.0/24"),
    timeout: float = 30.0,
) -> RuaClient:
    return RuaClient(
        resolver,
        prober=prober,
        ca_file=str(authority.file),
        timeout=timeout,
        allow_networks=networks,
        connect_map=ConnectMap.parse([f":443::{port}"]),
    )


# ---- https ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "state", "requests"),
    [
        ("200 OK", RuaState.ALIVE, 1),
        ("204 No Content", RuaState.ALIVE, 1),
        ("400 Bad Request", RuaState.ALIVE, 1),
        ("401 Unauthorized", RuaState.ALIVE, 1),
        ("405 Method Not Allowed", RuaState.ALIVE, 1),
        ("415 Unsupported Media Type", RuaState.ALIVE, 1),
        ("404 Not Found", RuaState.DEAD, 2),
        ("410 Gone", RuaState.DEAD, 2),
        ("301 Moved Permanently", RuaState.UNKNOWN, 1),
        ("500 Oops", RuaState.UNKNOWN, 1),
        ("503 Service Unavailable", RuaState.UNKNOWN, 1),
    ],
)
async def test_status(
    server: PolicyServer,
    resolver: FakeResolver,
    authority: Authority,
    status: str,
    state: RuaState,
    requests: int,
) -> None:
    server.handler = respond(response(b"", status=status, fields=("Location: https://x.test/",)))
    found = await client(resolver, authority, server.port).look(URI)
    assert (found.uri, found.state) == (URI, state)
    assert status[:3] in found.detail
    assert len(server.requests) == requests


async def test_the_request(
    server: PolicyServer, resolver: FakeResolver, authority: Authority
) -> None:
    server.handler = respond(response(b"", status="404 Not Found"))
    await client(resolver, authority, server.port).look(URI)
    first, second = server.requests
    assert first.text.startswith("GET /v1/tlsrpt?key=1 HTTP/1.1\r\nHost: reports.example\r\n")
    assert second.text.startswith("OPTIONS /v1/tlsrpt?key=1 HTTP/1.1\r\n")
    assert first.sni == HOST
    assert "POST" not in first.text + second.text


@pytest.mark.parametrize("names", [("other.example",), ()])
async def test_a_certificate_for_somebody_else(
    resolver: FakeResolver, authority: Authority, names: tuple[str, ...]
) -> None:
    async with PolicyServer(authority.server_context(*names, common_name=HOST)) as server:
        found = await client(resolver, authority, server.port).look(URI)
        assert found.state is RuaState.DEAD
        assert "certificate" in found.detail
        assert server.requests == []


async def test_an_expired_certificate(resolver: FakeResolver, authority: Authority) -> None:
    context = authority.server_context(HOST, start=-3 * DAY, end=-2 * DAY)
    async with PolicyServer(context) as server:
        found = await client(resolver, authority, server.port).look(URI)
    assert (found.state, "expired" in found.detail) == (RuaState.DEAD, True)


@pytest.mark.parametrize(
    "data",
    [b"", b"HTTP/1.1 200", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000],
    ids=["nothing", "half a head", "not HTTP", "endless head"],
)
async def test_what_is_no_response(
    server: PolicyServer, resolver: FakeResolver, authority: Authority, data: bytes
) -> None:
    server.handler = respond(data)
    assert (await client(resolver, authority, server.port).look(URI)).state is RuaState.UNKNOWN
    server.handler = respond_and_cut(data)
    assert (await client(resolver, authority, server.port).look(URI)).state is RuaState.UNKNOWN


async def test_an_endpoint_that_says_nothing(
    server: PolicyServer, resolver: FakeResolver, authority: Authority
) -> None:
    server.handler = respond_and_hold(b"")
    found = await client(resolver, authority, server.port, timeout=0.3).look(URI)
    assert (found.state, found.detail) == (RuaState.UNKNOWN, "not done within 0.3 s")


async def test_nobody_listens(resolver: FakeResolver, authority: Authority) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        found = await client(resolver, authority, sock.getsockname()[1]).look(URI)
    assert found.state is RuaState.UNKNOWN
    assert "ECONNREFUSED" in found.detail


@pytest.mark.req("SEC-19")
@pytest.mark.parametrize("uri", [URI, "https://127.0.0.1/x", "https://[::1]/x"])
async def test_an_inner_address_is_not_connected_to(
    server: PolicyServer, resolver: FakeResolver, authority: Authority, uri: str
) -> None:
    found = await client(resolver, authority, server.port, networks=()).look(uri)
    assert found.state is RuaState.UNKNOWN
    assert "no public address" in found.detail
    assert server.connections == 0


async def test_an_endpoint_without_address(resolver: FakeResolver, authority: Authority) -> None:
    asker = client(resolver, authority)
    assert (await asker.look("https://nowhere.example/")).state is RuaState.DEAD
    resolver.fail("nowhere.example", A, Status.SERVFAIL)
    assert (await asker.look("https://nowhere.example/")).state is RuaState.UNKNOWN


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "http://reports.example/",
        "https://",
        "https://user@reports.example/",
        "https://reports.example:99999/",
        "https://reports.example/a b",
        "https://re ports.example/",
        "https://[::1/",
        "mailto:",
        "mailto:nobody",
        "mailto:a@b c",
        "ftp://reports.example/",
    ],
)
async def test_what_is_no_destination(
    resolver: FakeResolver, authority: Authority, uri: str
) -> None:
    found = await client(resolver, authority).look(uri)
    assert (found.uri, found.state) == (uri, RuaState.UNKNOWN)


# ---- mailto ---------------------------------------------------------------------------------


async def test_a_mailbox_whose_host_greets(resolver: FakeResolver, authority: Authority) -> None:
    prober = FakeSmtpProber()
    prober.serve("192.0.2.1")
    found = await client(resolver, authority, prober=prober).look(f"{MAIL}?subject=x")
    assert (found.state, found.detail) == (
        RuaState.ALIVE,
        "mx.example.com takes mail for example.com",
    )
    assert [target.host for target in prober.probed] == ["mx.example.com"]


async def test_a_host_without_tls_takes_mail_too(
    resolver: FakeResolver, authority: Authority
) -> None:
    prober = FakeSmtpProber()
    prober.script("192.0.2.1", ProbeOutcome.NO_STARTTLS)
    found = await client(resolver, authority, prober=prober).look(MAIL)
    assert found.state is RuaState.ALIVE


async def test_the_next_host_is_asked_and_then_it_is_unknown(
    resolver: FakeResolver, authority: Authority
) -> None:
    prober = FakeSmtpProber()
    prober.script("192.0.2.1", UnknownReason.TIMEOUT)
    prober.script("192.0.2.2", UnknownReason.BUSY)
    found = await client(resolver, authority, prober=prober).look(MAIL)
    assert found.state is RuaState.UNKNOWN
    assert "mx2.example.com" in found.detail
    assert len(prober.probed) == 2


async def test_without_a_prober_dns_has_to_do(resolver: FakeResolver, authority: Authority) -> None:
    found = await client(resolver, authority).look(MAIL)
    assert (found.state, found.detail) == (
        RuaState.ALIVE,
        "example.com has the MX host mx.example.com",
    )


async def test_a_domain_without_mx_takes_mail_itself(
    resolver: FakeResolver, authority: Authority
) -> None:
    resolver.add("plain.example", A, "192.0.2.3")
    assert (await client(resolver, authority).look("mailto:a@plain.example")).state is (
        RuaState.ALIVE
    )


async def test_dead_mailboxes(resolver: FakeResolver, authority: Authority) -> None:
    resolver.add("null.example", MX, Mx(0, ""))
    resolver.add("hollow.example", MX, Mx(10, "mx.nowhere.example"))
    asker = client(resolver, authority)
    for domain, words in (
        ("null.example", "null"),
        ("hollow.example", "no MX host"),
        ("missing.example", "does not exist"),
    ):
        found = await asker.look(f"mailto:a@{domain}")
        assert found.state is RuaState.DEAD, domain
        assert words in found.detail


async def test_failed_lookups_are_unknown(resolver: FakeResolver, authority: Authority) -> None:
    resolver.fail("broken.example", MX, Status.SERVFAIL)
    resolver.add("half.example", MX, Mx(10, "mx.half.example"))
    resolver.fail("mx.half.example", A, Status.TIMEOUT)
    asker = client(resolver, authority)
    assert (await asker.look("mailto:a@broken.example")).state is RuaState.UNKNOWN
    assert (await asker.look("mailto:a@half.example")).state is RuaState.UNKNOWN


async def test_hosts_at_inner_addresses_are_not_visited(
    resolver: FakeResolver, authority: Authority
) -> None:
    prober = FakeSmtpProber()
    found = await client(resolver, authority, prober=prober, networks=()).look(MAIL)
    assert found.state is RuaState.UNKNOWN
    assert prober.probed == []
