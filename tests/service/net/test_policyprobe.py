# SPDX-License-Identifier: Apache-2.0
"""The policy host at one address: the fetch a sender would make, and the chain it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from strictmail.core.check.facts import KeyType, PkixProblem
from strictmail.core.sts.values import FetchedPolicy, FetchFailure
from strictmail.net.connectto import ConnectMap
from strictmail.net.fakes import FakeResolver
from strictmail.net.https import HttpsPolicyFetcher
from strictmail.net.policyprobe import BROWSER_AGENT, HttpsPolicyHostProber
from strictmail.net.x509 import ChainVerifier
from strictmail.runtime.clock import SystemClock

from .policyserver import DAY, Authority, PolicyServer, respond, response

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

DOMAIN = "example.com"
HOST = "mta-sts.example.com"
ADDRESS = "192.0.2.1"
BODY = b"version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 604800\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[PolicyServer]:
    async with PolicyServer(authority.server_context(HOST)) as server:
        server.handler = respond(response(BODY))
        yield server


def prober(
    authority: Authority, port: int, networks: tuple[str, ...] = ("192.0.2.0/24",)
) -> HttpsPolicyHostProber:
    fetcher = HttpsPolicyFetcher(
        FakeResolver(),
        ca_file=str(authority.file),
        allow_networks=networks,
        connect_map=ConnectMap.parse([f"{HOST}:443:127.0.0.1:{port}"]),
    )
    return HttpsPolicyHostProber(fetcher, ChainVerifier(str(authority.file)), SystemClock())


async def test_policy_and_chain_of_one_address(server: PolicyServer, authority: Authority) -> None:
    look = await prober(authority, server.port).look(DOMAIN, ADDRESS)
    assert isinstance(look.result, FetchedPolicy)
    assert (look.result.body, look.address, look.agent) == (BODY, ADDRESS, "")
    assert look.tls is not None
    assert (look.tls.server_name, look.tls.key_type) == (HOST, KeyType.ECDSA)
    assert look.tls.version == "TLSv1.3"
    assert look.tls.pkix.is_valid
    assert look.tls.pkix.reference_id == HOST
    assert len(look.tls.chain_der) == 1
    assert look.seconds > 0
    # A chain that passes is seen in the session that fetched.
    assert server.connections == 1
    assert server.requests[0].text.startswith("GET /.well-known/mta-sts.txt HTTP/1.1\r\n")


@pytest.mark.req("STS-FET-07", "STS-FET-08", "STS-FET-09")
async def test_a_refused_chain_is_shown_all_the_same(authority: Authority) -> None:
    cases = {
        PkixProblem.NAME: authority.server_context("other.example.com", common_name=HOST),
        PkixProblem.EXPIRED: authority.server_context(HOST, start=-3 * DAY, end=-2 * DAY),
    }
    for problem, context in cases.items():
        async with PolicyServer(context) as server:
            look = await prober(authority, server.port).look(DOMAIN, ADDRESS)
            assert isinstance(look.result, FetchFailure), problem
            assert look.tls is not None
            assert look.tls.pkix.problems == (problem,)
            assert server.requests == []


async def test_a_chain_is_shown_where_http_fails(
    server: PolicyServer, authority: Authority
) -> None:
    server.handler = respond(response(b"", status="403 Forbidden"))
    look = await prober(authority, server.port).look(DOMAIN, ADDRESS)
    assert isinstance(look.result, FetchFailure)
    assert look.result.reason_code == "http-status"
    assert look.tls is not None
    assert server.connections == 1


async def test_another_agent(server: PolicyServer, authority: Authority) -> None:
    async def fussy(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_browser = "Mozilla" in server.requests[-1].text
        writer.write(response(BODY) if is_browser else response(b"", status="403 Forbidden"))

    server.handler = fussy
    asker = prober(authority, server.port)
    own = await asker.look(DOMAIN, ADDRESS)
    browser = await asker.look(DOMAIN, ADDRESS, BROWSER_AGENT)
    assert isinstance(own.result, FetchFailure)
    assert isinstance(browser.result, FetchedPolicy)
    assert browser.agent == BROWSER_AGENT
    assert f"User-Agent: {BROWSER_AGENT}\r\n" in server.requests[-1].text


@pytest.mark.req("SEC-19")
async def test_an_inner_address_is_not_connected_to(
    server: PolicyServer, authority: Authority
) -> None:
    look = await prober(authority, server.port, networks=()).look(DOMAIN, "127.0.0.1")
    assert isinstance(look.result, FetchFailure)
    assert look.result.reason_code == "refused-address"
    assert look.tls is None
    assert server.connections == 0


async def test_nobody_listens(authority: Authority) -> None:
    async with PolicyServer(None) as server:
        port = server.port
    look = await prober(authority, port).look(DOMAIN, ADDRESS)
    assert isinstance(look.result, FetchFailure)
    assert (look.result.reason_code, look.tls) == ("connect", None)


async def test_an_ipv6_address(server: PolicyServer, authority: Authority) -> None:
    asker = prober(authority, server.port, networks=("2001:db8::/32",))
    look = await asker.look(DOMAIN, "2001:db8::1")
    assert isinstance(look.result, FetchedPolicy)
    assert look.address == "2001:db8::1"


async def test_the_port_of_a_lab(server: PolicyServer, authority: Authority) -> None:
    fetcher = HttpsPolicyFetcher(
        FakeResolver(),
        ca_file=str(authority.file),
        allow_networks=["127.0.0.0/8"],
        connect_port=server.port,
    )
    verifier = ChainVerifier(str(authority.file))
    look = await HttpsPolicyHostProber(fetcher, verifier, SystemClock()).look(DOMAIN, "127.0.0.1")
    assert isinstance(look.result, FetchedPolicy)
