# SPDX-License-Identifier: Apache-2.0
"""Reports by HTTPS: the request, what statuses mean, and who is not talked to."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.tlsrpt.delivery import OutcomeKind
from strictmail.core.tlsrpt.destination import parse_destination
from strictmail.core.tlsrpt.message import GZIP_TYPE
from strictmail.net.connectto import ConnectMap
from strictmail.net.fakes import FakeResolver
from strictmail.net.upload import HttpsUploader
from strictmail.runtime.clock import ManualClock

from .policyserver import (
    DAY,
    Authority,
    PolicyServer,
    respond,
    respond_and_cut,
    respond_and_hold,
    respond_forever,
    response,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

HOST = "reports.example"
DESTINATION = parse_destination(f"https://{HOST}/v1/a%2Cb?key=1")
CONTENT = bytes(range(256)) * 40
DELIVERED, RETRY, DEAD, GIVE_UP, REFUSED = (
    OutcomeKind.DELIVERED,
    OutcomeKind.RETRY,
    OutcomeKind.DEAD,
    OutcomeKind.GIVE_UP,
    OutcomeKind.REFUSED,
)


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
    resolver.add(HOST, RecordType.A, "127.0.0.1")
    return resolver


CLOCK = ManualClock()


def uploader(
    resolver: FakeResolver,
    authority: Authority,
    server: PolicyServer,
    *,
    networks: tuple[str, ...] = ("127.0.0.0/8",),
    timeout: float = 20.0,
) -> HttpsUploader:
    return HttpsUploader(
        resolver,
        CLOCK,
        ca_file=str(authority.file),
        timeout=timeout,
        allow_networks=networks,
        connect_map=ConnectMap.parse([f":443::{server.port}"]),
    )


async def upload(out: HttpsUploader) -> tuple[OutcomeKind, str]:
    outcome = await out.upload(DESTINATION, CONTENT, GZIP_TYPE)
    return outcome.kind, outcome.detail


@pytest.mark.req("RPT-DLV-50", "RPT-DLV-51", "RPT-DLV-52", "RPT-REC-16", "RPT-DLV-58")
async def test_the_report_is_the_body_of_a_post(
    resolver: FakeResolver, authority: Authority, server: PolicyServer
) -> None:
    body = b""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal body
        body = await reader.readexactly(len(CONTENT))
        writer.write(response(b"thanks", status="201 Created"))

    server.handler = handler
    assert (await upload(uploader(resolver, authority, server)))[0] is DELIVERED
    assert body == CONTENT
    (request,) = server.requests
    head = request.text.split("\r\n")
    assert head[0] == "POST /v1/a%2Cb?key=1 HTTP/1.1"
    assert f"Host: {HOST}" in head
    assert "Content-Type: application/tlsrpt+gzip" in head
    assert f"Content-Length: {len(CONTENT)}" in head
    assert "content-encoding" not in request.text.lower()
    assert request.sni == HOST
    # Neither MTA-STS nor DANE of the endpoint's domain is asked about.
    assert {rdtype for _, rdtype in resolver.questions} == {RecordType.A, RecordType.AAAA}


@pytest.mark.req("RPT-DLV-53", "RPT-DLV-54", "RPT-DLV-56")
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("200 OK", DELIVERED),
        ("201 Created", DELIVERED),
        ("202 Accepted", DELIVERED),
        ("204 No Content", DELIVERED),
        ("301 Moved\r\nLocation: https://elsewhere.example/", DEAD),
        ("302 Found", DEAD),
        ("307 Temporary Redirect", DEAD),
        ("400 Bad Request", GIVE_UP),
        ("401 Unauthorized", GIVE_UP),
        ("404 Not Found", DEAD),
        ("408 Request Timeout", RETRY),
        ("410 Gone", DEAD),
        ("413 Content Too Large", GIVE_UP),
        ("429 Too Many Requests", RETRY),
        ("500 Internal Server Error", RETRY),
        ("503 Service Unavailable", RETRY),
    ],
)
async def test_statuses(
    resolver: FakeResolver, authority: Authority, server: PolicyServer, status: str, kind: object
) -> None:
    server.handler = respond(response(b"", status=status))
    got, detail = await upload(uploader(resolver, authority, server))
    assert got is kind
    assert status[:3] in detail
    assert server.connections == 1


@pytest.mark.req("RPT-DLV-54")
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (format_datetime(CLOCK.now() + timedelta(hours=1), usegmt=True), 3600.0),
        (format_datetime(CLOCK.now() - timedelta(hours=1), usegmt=True), 0.0),
        ("soon", None),
        ("99999999999999999999999", 999_999_999.0),
        ("-1", None),
    ],
)
async def test_retry_after(
    resolver: FakeResolver,
    authority: Authority,
    server: PolicyServer,
    value: str,
    seconds: float | None,
) -> None:
    head = response(b"", status="503 No", fields=(f"Retry-After: {value}",))
    server.handler = respond(head)
    out = uploader(resolver, authority, server)
    outcome = await out.upload(DESTINATION, CONTENT, GZIP_TYPE)
    assert outcome.retry_after_seconds == seconds


@pytest.mark.req("RPT-DLV-57", "SEC-19")
@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "fd00::1", "192.0.2.1"]
)
async def test_inner_addresses_are_not_connected_to(
    resolver: FakeResolver, authority: Authority, server: PolicyServer, address: str
) -> None:
    rdtype = RecordType.AAAA if ":" in address else RecordType.A
    resolver.remove(HOST, RecordType.A)
    resolver.add(HOST, rdtype, address)
    kind, detail = await upload(uploader(resolver, authority, server, networks=()))
    assert (kind, address in detail) == (REFUSED, True)
    assert server.connections == 0


@pytest.mark.req("RPT-DLV-55")
async def test_certificates_are_verified(
    resolver: FakeResolver, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"), "Other CA")
    for context in (
        authority.server_context("other.example"),
        authority.server_context(HOST, start=-2 * DAY, end=-DAY),
        other.server_context(HOST),
    ):
        async with PolicyServer(context) as server:
            kind, detail = await upload(uploader(resolver, authority, server))
            assert kind is RETRY
            assert "certificate refused" in detail
            assert server.requests == []


@pytest.mark.req("RPT-DLV-57")
async def test_whatever_comes_back_is_bounded(
    resolver: FakeResolver, authority: Authority, server: PolicyServer
) -> None:
    out = uploader(resolver, authority, server)
    server.handler = respond_forever(response(b"", length=10**12), b"x" * 4096)
    assert (await upload(out))[0] is DELIVERED
    server.handler = respond_forever(b"HTTP/1.1 200 OK\r\n", b"X-Pad: " + b"x" * 4000 + b"\r\n")
    assert (await upload(out))[0] is RETRY
    server.handler = respond_forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (await upload(out))[0] is RETRY
    server.handler = respond(b"SSH-2.0-OpenSSH\r\n\r\n")
    assert (await upload(out))[0] is RETRY
    server.handler = respond_and_cut(b"HTTP/1.1 2")
    assert (await upload(out))[0] is RETRY
    server.handler = respond_and_hold(b"HTTP/1.1 200")
    kind, detail = await upload(uploader(resolver, authority, server, timeout=0.5))
    assert (kind, "not done within" in detail) == (RETRY, True)


async def test_an_answer_before_all_was_sent_counts(
    resolver: FakeResolver, authority: Authority, server: PolicyServer
) -> None:
    server.handler = respond(response(b"", status="413 Content Too Large"))
    out = uploader(resolver, authority, server)
    outcome = await out.upload(DESTINATION, bytes(4_000_000), GZIP_TYPE)
    assert outcome.kind in (GIVE_UP, RETRY)


async def test_names_that_lead_nowhere(
    resolver: FakeResolver, authority: Authority, server: PolicyServer
) -> None:
    out = uploader(resolver, authority, server)
    resolver.remove(HOST, RecordType.A)
    assert await upload(out) == (RETRY, f"{HOST}: no address")
    resolver.fail(HOST, RecordType.A, Status.SERVFAIL)
    kind, detail = await upload(out)
    assert (kind, "lookup failed" in detail) == (RETRY, True)
    resolver.add(HOST, RecordType.A, "127.0.0.1")
    nobody = PolicyServer(None)
    nobody.port = 1
    kind, detail = await upload(uploader(resolver, authority, nobody))
    assert (kind, "ECONNREFUSED" in detail) == (RETRY, True)
