# SPDX-License-Identifier: Apache-2.0
"""The policy fetch against HTTPS servers on loopback that behave, or do not."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import warnings
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.sts.values import MAX_POLICY_BYTES, FetchedPolicy, FetchFailure, Mode
from strictmail.core.tlsrpt.results import ResultType
from strictmail.net import https
from strictmail.net.fakes import FakeResolver
from strictmail.net.https import HttpsPolicyFetcher, PolicyResponse, policy_tls_context

from .policyserver import (
    DAY,
    Authority,
    Handler,
    PolicyServer,
    respond,
    respond_and_cut,
    respond_and_hold,
    respond_forever,
    response,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DOMAIN: Final = "example.test"
HOST: Final = "mta-sts.example.test"
POLICY: Final = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.test\r\nmax_age: 86400\r\n"
GOOD: Final = response(POLICY)
SHORT: Final = 0.2
A, AAAA = RecordType.A, RecordType.AAAA


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def resolver() -> FakeResolver:
    resolver = FakeResolver()
    resolver.add(HOST, A, "127.0.0.1")
    return resolver


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[PolicyServer]:
    async with PolicyServer(authority.server_context(HOST)) as server:
        server.handler = respond(GOOD)
        yield server


def fetcher(
    resolver: FakeResolver,
    authority: Authority,
    port: int,
    *,
    timeout: float = 10.0,
    max_body_bytes: int = MAX_POLICY_BYTES,
    allow_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128"),
) -> HttpsPolicyFetcher:
    return HttpsPolicyFetcher(
        resolver,
        ca_file=str(authority.file),
        timeout=timeout,
        max_body_bytes=max_body_bytes,
        allow_networks=allow_networks,
        connect_port=port,
        user_agent="strictmail/test",
    )


@pytest.fixture
def fetch(server: PolicyServer, resolver: FakeResolver, authority: Authority) -> HttpsPolicyFetcher:
    return fetcher(resolver, authority, server.port)


async def failing(fetcher: HttpsPolicyFetcher) -> FetchFailure:
    result = await fetcher.fetch(DOMAIN)
    assert isinstance(result, FetchFailure), result
    assert result.reason.isprintable()
    assert result.reason.isascii()
    return result


def open_sockets() -> int:
    links = Path("/proc/self/fd")
    count = 0
    for link in links.iterdir():
        try:
            count += str(link.readlink()).startswith("socket:")
        except OSError:
            continue
    return count


class TestRequest:
    @pytest.mark.req("STS-FET-01", "STS-FET-02", "STS-FET-04", "STS-FET-05", "STS-FET-16")
    async def test_request_as_it_arrives(
        self, server: PolicyServer, fetch: HttpsPolicyFetcher
    ) -> None:
        result = await fetch.fetch(DOMAIN)
        assert isinstance(result, FetchedPolicy)
        assert result.body == POLICY
        assert result.policy.mode is Mode.ENFORCE
        (request,) = server.requests
        lines = request.text.split("\r\n")
        assert lines[0] == "GET /.well-known/mta-sts.txt HTTP/1.1"
        assert f"Host: {HOST}" in lines
        assert (request.sni, request.alpn) == (HOST, None)

    @pytest.mark.req("STS-FET-18", "STS-FET-25", "STS-FET-47")
    async def test_nothing_of_an_earlier_fetch_is_used(
        self, server: PolicyServer, fetch: HttpsPolicyFetcher
    ) -> None:
        server.handler = respond(
            response(
                POLICY,
                fields=(
                    "Set-Cookie: a=b",
                    'ETag: "x"',
                    "Cache-Control: max-age=99",
                    "Last-Modified: x",
                ),
            )
        )
        for _ in range(2):
            assert isinstance(await fetch.fetch(DOMAIN), FetchedPolicy)
        first, second = server.requests
        assert first.text == second.text
        assert not second.resumed
        names = [line.partition(":")[0].lower() for line in second.text.split("\r\n")[1:] if line]
        assert names == ["host", "user-agent", "accept", "accept-encoding", "connection"]
        assert "Accept-Encoding: identity" in second.text
        assert "User-Agent: strictmail/test" in second.text

    @pytest.mark.req("STS-FET-47")
    async def test_proxies_of_the_environment_are_not_used(
        self, server: PolicyServer, fetch: HttpsPolicyFetcher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert isinstance(await fetch.fetch(DOMAIN), FetchedPolicy)

    @pytest.mark.req("STS-FET-05")
    async def test_an_alias_of_the_host_changes_no_name(
        self, server: PolicyServer, authority: Authority
    ) -> None:
        resolver = FakeResolver()
        resolver.alias(HOST, "mta-sts.provider.test")
        resolver.add("mta-sts.provider.test", A, "127.0.0.1")
        result = await fetcher(resolver, authority, server.port).fetch(DOMAIN)
        assert isinstance(result, FetchedPolicy)
        assert server.requests[0].sni == HOST

    async def test_user_agent_cannot_add_a_field(self, authority: Authority) -> None:
        with pytest.raises(ValueError):
            HttpsPolicyFetcher(
                FakeResolver(), ca_file=str(authority.file), user_agent="x\r\nCookie: a"
            )

    async def test_alpn_offers_http_1_1(self, authority: Authority, resolver: FakeResolver) -> None:
        context = authority.server_context(HOST)
        context.set_alpn_protocols(["h2", "http/1.1"])
        async with PolicyServer(context) as server:
            server.handler = respond(GOOD)
            await fetcher(resolver, authority, server.port).fetch(DOMAIN)
            assert server.requests[0].alpn == "http/1.1"


class TestCertificates:
    @pytest.mark.parametrize(
        ("names", "reason_code"),
        [
            pytest.param([HOST], "", id="exact", marks=pytest.mark.req("STS-FET-08")),
            pytest.param(["other.test", HOST.upper()], "", id="second, other case"),
            pytest.param(
                ["*.example.test"], "", id="wildcard", marks=pytest.mark.req("STS-FET-10")
            ),
            pytest.param(
                ["mta-*.example.test"],
                "certificate-name",
                id="partial wildcard",
                marks=pytest.mark.req("STS-FET-10"),
            ),
            pytest.param(["*"], "certificate-name", id="star", marks=pytest.mark.req("STS-FET-10")),
            pytest.param(
                ["*.test"], "certificate-name", id="two labels", marks=pytest.mark.req("STS-FET-10")
            ),
            pytest.param(
                ["mta-sts.*.test"],
                "certificate-name",
                id="inner",
                marks=pytest.mark.req("STS-FET-10"),
            ),
            pytest.param(
                ["mta-sts.provider.example"],
                "certificate-name",
                id="the provider's own name",
                marks=pytest.mark.req("STS-FET-11"),
            ),
            pytest.param(
                [DOMAIN],
                "certificate-name",
                id="the bare domain",
                marks=pytest.mark.req("STS-FET-12"),
            ),
        ],
    )
    async def test_names(
        self, names: list[str], reason_code: str, authority: Authority, resolver: FakeResolver
    ) -> None:
        async with PolicyServer(authority.server_context(*names)) as server:
            server.handler = respond(GOOD)
            result = await fetcher(resolver, authority, server.port).fetch(DOMAIN)
            if not reason_code:
                assert isinstance(result, FetchedPolicy)
                return
            assert isinstance(result, FetchFailure)
            assert result.result_type is ResultType.STS_WEBPKI_INVALID
            assert result.reason_code == reason_code
            assert server.requests == []

    @pytest.mark.req("STS-FET-10")
    async def test_wildcard_is_one_label(self, authority: Authority) -> None:
        resolver = FakeResolver()
        resolver.add("mta-sts.a.example.test", A, "127.0.0.1")
        async with PolicyServer(authority.server_context("*.example.test")) as server:
            server.handler = respond(GOOD)
            result = await fetcher(resolver, authority, server.port).fetch("a.example.test")
        assert isinstance(result, FetchFailure)
        assert result.reason_code == "certificate-name"

    @pytest.mark.req("STS-FET-09")
    async def test_common_name_never_counts(
        self, authority: Authority, resolver: FakeResolver
    ) -> None:
        async with PolicyServer(authority.server_context(common_name=HOST)) as server:
            server.handler = respond(GOOD)
            failure = await failing(fetcher(resolver, authority, server.port))
        assert failure.result_type is ResultType.STS_WEBPKI_INVALID
        assert failure.reason_code == "certificate-name"

    @pytest.mark.req("STS-FET-07")
    @pytest.mark.parametrize(
        ("start", "end"),
        [(-2 * DAY, timedelta(seconds=-2)), (timedelta(hours=1), DAY)],
        ids=["expired", "not yet valid"],
    )
    async def test_dates(
        self, start: timedelta, end: timedelta, authority: Authority, resolver: FakeResolver
    ) -> None:
        context = authority.server_context(HOST, start=start, end=end)
        async with PolicyServer(context) as server:
            server.handler = respond(GOOD)
            failure = await failing(fetcher(resolver, authority, server.port))
        assert failure.result_type is ResultType.STS_WEBPKI_INVALID
        assert failure.reason_code == "certificate-expired"

    @pytest.mark.req("STS-FET-06")
    async def test_another_root(
        self, server: PolicyServer, resolver: FakeResolver, tmp_path: Path
    ) -> None:
        stranger = Authority(tmp_path, "Another CA")
        failure = await failing(fetcher(resolver, stranger, server.port))
        assert failure.result_type is ResultType.STS_WEBPKI_INVALID
        assert failure.reason_code == "certificate-untrusted"

    @pytest.mark.req("STS-FET-06", "STS-FET-14")
    async def test_the_system_does_not_trust_it(
        self, server: PolicyServer, resolver: FakeResolver
    ) -> None:
        fetch = HttpsPolicyFetcher(
            resolver, allow_networks=["127.0.0.0/8"], connect_port=server.port
        )
        failure = await failing(fetch)
        assert failure.reason_code == "certificate-untrusted"

    @pytest.mark.req("STS-FET-15")
    def test_tls_versions(self, authority: Authority) -> None:
        context = policy_tls_context(str(authority.file))
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED

    @pytest.mark.req("STS-FET-15")
    async def test_old_tls_is_refused(self, authority: Authority, resolver: FakeResolver) -> None:
        context = authority.server_context(HOST)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        async with PolicyServer(context) as server:
            failure = await failing(fetcher(resolver, authority, server.port))
        assert failure.result_type is ResultType.STS_POLICY_FETCH_ERROR
        assert failure.reason_code == "tls"

    def test_roots_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(OSError):
            policy_tls_context(str(tmp_path / "none.pem"))


def case(
    data: bytes,
    reason_code: str,
    *req: str,
    id: str,  # noqa: A002 - pytest's word
) -> object:
    return pytest.param(data, reason_code, id=id, marks=pytest.mark.req(*req))


class TestResponses:
    @pytest.mark.parametrize(
        ("data", "reason_code"),
        [
            case(response(POLICY, status="203 X"), "http-status", "STS-FET-16", id="203"),
            case(response(POLICY, status="206 X"), "http-status", "STS-FET-16", id="206"),
            case(response(b"", status="304 X"), "http-status", "STS-FET-18", id="304"),
            case(response(POLICY, status="404 X"), "http-status", "STS-FET-16", id="404"),
            case(response(POLICY, status="500 X"), "http-status", "STS-FET-16", id="500"),
            case(response(POLICY, status="999 X"), "http-status", "STS-FET-16", id="999"),
            *(
                case(
                    response(POLICY, status=f"{code} X", fields=(f"Location: https://{HOST}/x",)),
                    "redirect",
                    "STS-FET-17",
                    "SEC-17",
                    id=str(code),
                )
                for code in (301, 302, 303, 307, 308)
            ),
            case(
                response(POLICY, content_type="text/html"),
                "media-type",
                "STS-FET-19",
                "SEC-18",
                id="html",
            ),
            case(response(POLICY, content_type=None), "media-type", "STS-FET-21", id="no type"),
            case(
                response(POLICY, content_type="text/plain, text/html"),
                "media-type",
                "STS-FET-19",
                id="two types",
            ),
            case(
                response(gzip.compress(POLICY), fields=("Content-Encoding: gzip",)),
                "content-encoding",
                "STS-FET-25",
                "SEC-16",
                id="gzip",
            ),
            case(
                response(POLICY, fields=("Content-Encoding: identity", "Content-Encoding: br")),
                "content-encoding",
                "STS-FET-25",
                id="two codings",
            ),
            case(
                response(b"x" * (MAX_POLICY_BYTES + 1)),
                "too-large",
                "STS-FET-23",
                "STS-FET-24",
                id="one octet too many",
            ),
            case(
                response(POLICY, length=10**15),
                "too-large",
                "STS-FET-23",
                "SEC-16",
                id="says it is huge",
            ),
            case(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"11000\r\n" + POLICY.ljust(0x11000, b"\n") + b"\r\n0\r\n\r\n",
                "too-large",
                "STS-FET-24",
                id="chunks, a good policy in front",
            ),
            case(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX: "
                + b"x" * 200_000
                + b"\r\n\r\n",
                "http-head",
                "SEC-16",
                id="a long field",
            ),
            case(response(POLICY, length=len(POLICY) + 1), "truncated", "STS-FET-26", id="short"),
            case(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
                + b"%x\r\n%s\r\n" % (len(POLICY), POLICY),
                "truncated",
                "STS-FET-26",
                id="no last chunk",
            ),
            case(b"HTTP/1.1 200 OK\r\nContent-Ty", "truncated", "STS-FET-26", id="half a head"),
            case(b"", "truncated", "STS-FET-26", id="nothing"),
            case(b"220 mail.example.test ESMTP\r\n\r\n", "http", "STS-FET-16", id="SMTP"),
            case(b"HTTP/1.1 \x1b[2J OK\r\n\r\n", "http", "STS-FET-16", id="escape sequence"),
            case(POLICY, "http", "STS-FET-16", id="only a policy"),
            case(
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                "http",
                "STS-FET-26",
                id="two lengths",
            ),
            case(b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + GOOD, "http", "SEC-16", id="1xx flood"),
            case(b"HTTP/1.1 101 Switch\r\n\r\n" + GOOD, "http", "STS-FET-16", id="101"),
            case(response(b"version: STSv2\n"), "syntax", "STS-FET-30", id="no policy"),
            case(response(b""), "syntax", "STS-FET-30", id="empty"),
            case(
                response(POLICY, fields=("A: b",)).replace(b"A: b", b"A : b"),
                "http",
                "STS-FET-16",
                id="blank before a colon",
            ),
        ],
    )
    async def test_refused(
        self, data: bytes, reason_code: str, server: PolicyServer, fetch: HttpsPolicyFetcher
    ) -> None:
        server.handler = respond(data)
        failure = await failing(fetch)
        code = failure.reason_code
        if reason_code == "http-head":
            assert code == "too-large"
            assert "head" in failure.reason
        else:
            assert code == reason_code
        assert failure.result_type is (
            ResultType.STS_POLICY_INVALID if code == "syntax" else ResultType.STS_POLICY_FETCH_ERROR
        )
        # STS-FET-17: whatever came, nothing else was asked for.
        assert len(server.requests) == server.connections == 1

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(GOOD, id="length"),
            pytest.param(
                response(POLICY, content_type="Text/Plain;charset=UTF-8; x=y"),
                id="parameters",
                marks=pytest.mark.req("STS-FET-20"),
            ),
            pytest.param(
                response(POLICY, content_type="text/plain; charset=iso-8859-1"),
                id="another charset",
                marks=pytest.mark.req("STS-FET-20"),
            ),
            pytest.param(
                response(POLICY, fields=("Content-Encoding: identity",)), id="identity coding"
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
                + b"".join(b"1\r\n%c\r\n" % octet for octet in POLICY)
                + b"0\r\nTrailer: x\r\n\r\n",
                id="chunks",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + POLICY,
                id="until the end",
            ),
            pytest.param(
                b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + POLICY, id="HTTP/1.0"
            ),
            pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + GOOD, id="1xx"),
            pytest.param(GOOD + b"and more", id="octets behind the end"),
        ],
    )
    @pytest.mark.parametrize("pieces", [False, True])
    async def test_accepted(
        self, data: bytes, server: PolicyServer, fetch: HttpsPolicyFetcher, *, pieces: bool
    ) -> None:
        async def one_by_one(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for octet in data:
                writer.write(bytes([octet]))
                await writer.drain()

        server.handler = one_by_one if pieces else respond(data)
        result = await fetch.fetch(DOMAIN)
        assert isinstance(result, FetchedPolicy), result
        assert result.body == POLICY

    @pytest.mark.req("STS-FET-23")
    async def test_the_largest_body(self, server: PolicyServer, fetch: HttpsPolicyFetcher) -> None:
        line = b"x: " + b"y" * 60 + b"\n"
        body = POLICY + line * ((MAX_POLICY_BYTES - len(POLICY)) // len(line))
        body += b"z: " + b"y" * (MAX_POLICY_BYTES - len(body) - 3)
        assert len(body) == MAX_POLICY_BYTES
        server.handler = respond(response(body))
        result = await fetch.fetch(DOMAIN)
        assert isinstance(result, FetchedPolicy)
        assert result.body == body

    @pytest.mark.req("STS-FET-26")
    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + POLICY,
            response(POLICY, length=len(POLICY) + 20),
            GOOD[:40],
        ],
        ids=["body until the end", "length", "head"],
    )
    async def test_a_cut_connection(
        self, data: bytes, server: PolicyServer, fetch: HttpsPolicyFetcher
    ) -> None:
        server.handler = respond_and_cut(data)
        assert (await failing(fetch)).reason_code == "truncated"

    async def test_a_cut_behind_the_end_does_not_matter(
        self, server: PolicyServer, fetch: HttpsPolicyFetcher
    ) -> None:
        server.handler = respond_and_cut(GOOD)
        assert isinstance(await fetch.fetch(DOMAIN), FetchedPolicy)

    @pytest.mark.req("STS-FET-30")
    async def test_lines_of_a_broken_policy_are_kept(
        self, server: PolicyServer, fetch: HttpsPolicyFetcher
    ) -> None:
        server.handler = respond(response(b"version: STSv1\nmode: enforced\n"))
        failure = await failing(fetch)
        assert failure.lines == ("version: STSv1", "mode: enforced")

    async def test_no_answer_means_no_waiting_for_close(
        self, server: PolicyServer, fetch: HttpsPolicyFetcher
    ) -> None:
        # A server that ignores `Connection: close` does not hold the fetch up.
        server.handler = respond_and_hold(GOOD)
        assert isinstance(await fetch.fetch(DOMAIN), FetchedPolicy)


CHUNKED: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
)
PLAIN: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"


class TestBounds:
    @pytest.mark.req("SEC-16", "STS-FET-24")
    @pytest.mark.parametrize(
        ("handler", "reason_codes"),
        [
            pytest.param(
                respond_forever(PLAIN, b"mx: a.example\n" * 1000), {"too-large"}, id="body"
            ),
            pytest.param(
                respond_forever(CHUNKED, b"400\r\n" + b"x" * 0x400 + b"\r\n"),
                {"too-large"},
                id="chunks",
            ),
            pytest.param(
                respond_forever(CHUNKED, b"1\r\nx\r\n" * 500), {"too-large"}, id="tiny chunks"
            ),
            pytest.param(
                respond_forever(CHUNKED, b"1" + b"0" * 5000), {"http", "too-large"}, id="chunk size"
            ),
            pytest.param(
                respond_forever(CHUNKED + b"0\r\n", b"A: b\r\n" * 500), {"too-large"}, id="trailers"
            ),
            pytest.param(
                respond_forever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 500),
                {"too-large"},
                id="fields",
            ),
            pytest.param(
                respond_forever(b"HTTP/1.1 200 ", b"x" * 500), {"too-large"}, id="status line"
            ),
            pytest.param(respond_forever(PLAIN, b"x"), {"http"}, id="single octets"),
            pytest.param(respond_forever(b"", b"HTTP/1.1 103 Early\r\n\r\n"), {"http"}, id="1xx"),
        ],
    )
    async def test_endless(
        self,
        handler: Handler,
        reason_codes: set[str],
        server: PolicyServer,
        fetch: HttpsPolicyFetcher,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(https, "MAX_PIECES", 300)
        server.handler = handler
        assert (await failing(fetch)).reason_code in reason_codes

    @pytest.mark.req("SEC-16", "STS-FET-22")
    @pytest.mark.parametrize(
        "sent", [b"", b"HTTP/1.1 200 OK\r\nContent-", PLAIN, PLAIN + POLICY], ids=[0, 1, 2, 3]
    )
    async def test_silence(
        self, sent: bytes, server: PolicyServer, resolver: FakeResolver, authority: Authority
    ) -> None:
        server.handler = respond_and_hold(sent)
        before = open_sockets()
        failure = await failing(fetcher(resolver, authority, server.port, timeout=SHORT))
        assert failure.reason_code == "timeout"
        assert f"within {SHORT:g} s" in failure.reason
        # Ours is closed already; the server may not have noticed yet.
        assert open_sockets() <= before + 1

    @pytest.mark.req("SEC-16", "STS-FET-22")
    async def test_a_handshake_that_never_comes(
        self, resolver: FakeResolver, authority: Authority
    ) -> None:
        async with PolicyServer(None) as server:
            server.handler = respond_and_hold(b"")
            tasks = asyncio.all_tasks()
            failure = await failing(fetcher(resolver, authority, server.port, timeout=1.0))
            assert failure.reason_code == "timeout"
            assert "TLS handshake" in failure.reason
            ours = _ours(asyncio.all_tasks() - tasks)
            assert ours == set()

    @pytest.mark.req("STS-FET-22")
    async def test_dns_that_never_answers(
        self, server: PolicyServer, resolver: FakeResolver, authority: Authority
    ) -> None:
        resolver.hang(HOST, A)
        resolver.hang(HOST, AAAA)
        tasks = asyncio.all_tasks()
        failure = await failing(fetcher(resolver, authority, server.port, timeout=SHORT))
        assert failure.reason_code == "timeout"
        assert "addresses" in failure.reason
        assert asyncio.all_tasks() == tasks

    @pytest.mark.req("SEC-16")
    async def test_no_tls_at_all(self, resolver: FakeResolver, authority: Authority) -> None:
        async with PolicyServer(None) as server:
            server.handler = respond(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            failure = await failing(fetcher(resolver, authority, server.port))
        assert failure.reason_code in {"tls", "connect"}
        assert failure.result_type is ResultType.STS_POLICY_FETCH_ERROR

    async def test_cancelled(
        self, server: PolicyServer, resolver: FakeResolver, fetch: HttpsPolicyFetcher
    ) -> None:
        # Once at each await: whenever it is cancelled, no socket of ours stays open.
        server.handler = respond(GOOD)
        for turns in range(60):
            before = open_sockets()
            tasks = asyncio.all_tasks()
            task = asyncio.create_task(fetch.fetch(DOMAIN))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            ours = _ours(asyncio.all_tasks() - tasks)
            assert ours == set()
            await _until(lambda: open_sockets() <= before)  # noqa: B023 - awaited at once

    async def test_many_at_once(self, server: PolicyServer, fetch: HttpsPolicyFetcher) -> None:
        results = await asyncio.gather(*(fetch.fetch(DOMAIN) for _ in range(40)))
        assert all(isinstance(result, FetchedPolicy) for result in results)

    async def test_one_lies_while_others_are_served(
        self, server: PolicyServer, fetch: HttpsPolicyFetcher, authority: Authority
    ) -> None:
        resolver = FakeResolver()
        resolver.add("mta-sts.evil.test", A, "127.0.0.1")
        async with PolicyServer(authority.server_context("mta-sts.evil.test")) as evil:
            evil.handler = respond_forever(CHUNKED, b"1\r\nx\r\n" * 100)
            hostile = asyncio.create_task(
                fetcher(resolver, authority, evil.port).fetch("evil.test")
            )
            assert isinstance(await fetch.fetch(DOMAIN), FetchedPolicy)
            assert isinstance(await hostile, FetchFailure)


def _ours(tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Without those of the server in the same loop."""
    return {task for task in tasks if "_serve" not in repr(task) and "_accept" not in repr(task)}


async def _until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


class TestAddresses:
    @pytest.mark.req("STS-FET-48")
    @pytest.mark.parametrize("status", [Status.SERVFAIL, Status.TIMEOUT, Status.BOGUS])
    async def test_a_family_that_fails(
        self,
        status: Status,
        server: PolicyServer,
        resolver: FakeResolver,
        fetch: HttpsPolicyFetcher,
    ) -> None:
        resolver.fail(HOST, AAAA, status)
        assert isinstance(await fetch.fetch(DOMAIN), FetchedPolicy)
        assert resolver.count(HOST, A) == resolver.count(HOST, AAAA) == 1

    @pytest.mark.req("STS-FET-48")
    async def test_a_family_that_hangs(
        self,
        resolver: FakeResolver,
        fetch: HttpsPolicyFetcher,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(https, "FAMILY_PATIENCE_SECONDS", 0.01)
        resolver.hang(HOST, AAAA)
        assert isinstance(await fetch.fetch(DOMAIN), FetchedPolicy)

    @pytest.mark.req("STS-FET-48")
    async def test_addresses_that_come_late_are_tried(
        self,
        server: PolicyServer,
        authority: Authority,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(https, "FAMILY_PATIENCE_SECONDS", 0.01)
        resolver = FakeResolver()
        resolver.add(HOST, AAAA, "::1")  # nobody listens there
        resolver.add(HOST, A, "127.0.0.1")
        held = resolver.hang(HOST, A)
        asyncio.get_running_loop().call_later(0.05, held.set)
        result = await fetcher(resolver, authority, server.port).fetch(DOMAIN)
        assert isinstance(result, FetchedPolicy)

    @pytest.mark.req("STS-FET-48")
    async def test_the_next_address_after_a_refusal(
        self, server: PolicyServer, resolver: FakeResolver, fetch: HttpsPolicyFetcher
    ) -> None:
        resolver.add(HOST, AAAA, "::1")
        resolver.add(HOST, A, "127.0.0.2", "127.0.0.3", "127.0.0.1")
        assert isinstance(await fetch.fetch(DOMAIN), FetchedPolicy)

    @pytest.mark.req("STS-FET-48")
    async def test_the_next_address_while_one_is_silent(
        self,
        server: PolicyServer,
        resolver: FakeResolver,
        fetch: HttpsPolicyFetcher,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(https, "STAGGER_SECONDS", 0.01)
        with black_hole("127.0.0.2", server.port):
            resolver.add(HOST, A, "127.0.0.2", "127.0.0.1")
            assert isinstance(await fetch.fetch(DOMAIN), FetchedPolicy)

    async def test_all_are_silent(
        self,
        resolver: FakeResolver,
        authority: Authority,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(https, "CONNECT_SECONDS", 0.05)
        with black_hole("127.0.0.2", 0) as port:
            resolver.add(HOST, A, "127.0.0.2")
            failure = await failing(fetcher(resolver, authority, port))
        assert failure.reason_code == "connect"
        assert "ETIMEDOUT" in failure.reason

    async def test_the_next_address_after_a_wrong_certificate(
        self, server: PolicyServer, resolver: FakeResolver, authority: Authority
    ) -> None:
        wrong = PolicyServer(authority.server_context("other.test"), "127.0.0.2", server.port)
        async with wrong:
            resolver.add(HOST, A, "127.0.0.2", "127.0.0.1")
            result = await fetcher(resolver, authority, server.port).fetch(DOMAIN)
        assert isinstance(result, FetchedPolicy)

    async def test_the_certificate_is_the_most_telling_failure(
        self, resolver: FakeResolver, authority: Authority
    ) -> None:
        async with PolicyServer(authority.server_context("other.test"), "127.0.0.2") as wrong:
            resolver.add(HOST, A, "127.0.0.3", "127.0.0.2", "127.0.0.4")
            failure = await failing(fetcher(resolver, authority, wrong.port))
        assert failure.reason_code == "certificate-name"

    async def test_the_next_address_after_a_handshake_that_stalls(
        self,
        server: PolicyServer,
        resolver: FakeResolver,
        fetch: HttpsPolicyFetcher,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(https, "HANDSHAKE_SECONDS", 1.0)
        async with PolicyServer(None, "127.0.0.2", server.port) as tarpit:
            tarpit.handler = respond_and_hold(b"")
            resolver.add(HOST, A, "127.0.0.2", "127.0.0.1")
            assert isinstance(await fetch.fetch(DOMAIN), FetchedPolicy)

    async def test_an_http_answer_is_the_last_word(
        self, server: PolicyServer, resolver: FakeResolver, authority: Authority
    ) -> None:
        broken = PolicyServer(authority.server_context(HOST), "127.0.0.2", server.port)
        async with broken:
            broken.handler = respond(response(POLICY, status="500 X"))
            resolver.add(HOST, A, "127.0.0.2", "127.0.0.1")
            failure = await failing(fetcher(resolver, authority, server.port))
        assert failure.reason_code == "http-status"
        assert server.connections == 0

    async def test_number_of_addresses_is_bounded(
        self, server: PolicyServer, resolver: FakeResolver, fetch: HttpsPolicyFetcher
    ) -> None:
        resolver.add(HOST, A, *(f"127.0.1.{n}" for n in range(https.MAX_ADDRESSES)), "127.0.0.1")
        assert (await failing(fetch)).reason_code == "connect"
        assert server.connections == 0

    @pytest.mark.req("STS-FET-45", "SEC-19")
    @pytest.mark.parametrize(
        ("rdtype", "address"),
        [
            (A, "127.0.0.1"),
            (A, "10.0.0.1"),
            (A, "169.254.169.254"),
            (A, "0.0.0.0"),
            (A, "224.0.0.1"),
            (AAAA, "::1"),
            (AAAA, "::ffff:127.0.0.1"),
            (AAAA, "fd00::1"),
            (AAAA, "fe80::1"),
            (AAAA, "64:ff9b::7f00:1"),
        ],
    )
    async def test_inner_addresses_are_not_connected_to(
        self, rdtype: RecordType, address: str, server: PolicyServer, authority: Authority
    ) -> None:
        resolver = FakeResolver()
        resolver.add(HOST, rdtype, address)
        failure = await failing(fetcher(resolver, authority, server.port, allow_networks=()))
        assert failure.reason_code == "refused-address"
        assert failure.result_type is ResultType.STS_POLICY_FETCH_ERROR
        assert server.connections == 0

    @pytest.mark.req("STS-FET-45")
    async def test_only_listed_networks_are_opened(
        self, server: PolicyServer, resolver: FakeResolver, authority: Authority
    ) -> None:
        one = fetcher(resolver, authority, server.port, allow_networks=("127.0.0.1/32",))
        assert isinstance(await one.fetch(DOMAIN), FetchedPolicy)
        other = fetcher(resolver, authority, server.port, allow_networks=("127.0.0.2/32",))
        assert (await failing(other)).reason_code == "refused-address"

    @pytest.mark.parametrize("status", [Status.NXDOMAIN, Status.SERVFAIL, Status.MALFORMED])
    async def test_no_address(
        self, status: Status, server: PolicyServer, authority: Authority
    ) -> None:
        resolver = FakeResolver()
        for rdtype in (A, AAAA):
            if not status.is_answer:
                resolver.fail(HOST, rdtype, status)
        failure = await failing(fetcher(resolver, authority, server.port))
        assert failure.result_type is ResultType.STS_POLICY_FETCH_ERROR
        assert failure.reason_code == "dns"
        assert status.value in failure.reason

    async def test_a_lookup_that_failed_is_the_reason(
        self, server: PolicyServer, authority: Authority
    ) -> None:
        resolver = FakeResolver()
        resolver.add(HOST, RecordType.TXT, (b"x",))
        resolver.fail(HOST, A, Status.BOGUS)
        failure = await failing(fetcher(resolver, authority, server.port))
        assert "A lookup" in failure.reason
        assert "bogus" in failure.reason

    async def test_nobody_listens(self, resolver: FakeResolver, authority: Authority) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        failure = await failing(fetcher(resolver, authority, port))
        assert failure.reason_code == "connect"
        assert "ECONNREFUSED" in failure.reason


class black_hole:  # noqa: N801 - reads as a function
    """An address that never accepts: its backlog is full."""

    def __init__(self, host: str, port: int) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, port))
        self._listener.listen(0)
        self._host = host
        self._clients: list[socket.socket] = []

    def __enter__(self) -> int:
        address = self._listener.getsockname()
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(address)
            self._clients.append(client)
        return int(address[1])

    def __exit__(self, *_: object) -> None:
        for client in (*self._clients, self._listener):
            client.close()


class TestPolicyResponse:
    @pytest.mark.parametrize("size", [1, 2, 7, 1000])
    def test_any_chunking_says_the_same(self, size: int) -> None:
        reader = PolicyResponse(MAX_POLICY_BYTES)
        results = [reader.feed(GOOD[start : start + size]) for start in range(0, len(GOOD), size)]
        assert results[:-1] == [None] * (len(results) - 1)
        assert isinstance(results[-1], FetchedPolicy)

    @pytest.mark.req("STS-FET-24")
    @pytest.mark.parametrize(
        "data",
        [GOOD, PLAIN + POLICY, CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(POLICY), POLICY)],
        ids=["length", "until the end", "chunks"],
    )
    def test_smaller_limit(self, data: bytes) -> None:
        response = PolicyResponse(len(POLICY) - 1)
        failure = response.feed(data) or response.end()
        assert isinstance(failure, FetchFailure)
        assert failure.reason_code == "too-large"
