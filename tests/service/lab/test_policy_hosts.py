# SPDX-License-Identifier: Apache-2.0
"""Policy hosts do what their fault is called, seen with a plain socket and the ssl module."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from strictmail.lab.entries import CertFault, PolicyFault
from strictmail.lab.net import Lab
from strictmail.lab.zoobuild import ENCRYPTED, ENFORCE, entry, expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DOMAIN = "t.plain.test"
HOST = f"mta-sts.{DOMAIN}"
PATH = "/.well-known/mta-sts.txt"
BODY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.t.plain.test\r\nmax_age: 604800\r\n"
ENOUGH = 300_000


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    inhabitant = entry("t", "none", "", expect("", ENCRYPTED), policy=ENFORCE)
    async with Lab(zoo=[inhabitant], slow_seconds=3600) as running:
        yield running


async def get(
    lab: Lab,
    *,
    path: str = PATH,
    method: str = "GET",
    name: str | None = HOST,
    host: str = HOST,
    context: ssl.SSLContext | None = None,
    seconds: float = 30.0,
) -> bytes:
    """Everything that comes back, or the first ENOUGH octets of it."""
    if context is None:
        context = ssl.create_default_context(cafile=lab.ca_file)
        context.check_hostname = name is not None

    def run() -> bytes:
        address = (lab.addresses[HOST], lab.https_port)
        with (
            socket.create_connection(address, seconds) as plain,
            context.wrap_socket(plain, server_hostname=name) as tls,
        ):
            tls.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            received = b""
            with suppress(TimeoutError):
                while len(received) < ENOUGH and (data := tls.recv(65536)):
                    received += data
            return received

    return await asyncio.to_thread(run)


def split(response: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = response.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return status.removeprefix("HTTP/1.1 "), fields, body


async def test_a_policy_is_served_and_the_request_noted(lab: Lab) -> None:
    status, fields, body = split(await get(lab))
    assert status == "200 OK"
    assert fields["Content-Type"] == "text/plain"
    assert body == BODY
    [request] = lab.requests
    assert (request.host, request.server_name, request.method) == (HOST, HOST, "GET")
    assert request.headers == {"host": HOST}
    assert lab.fetches(DOMAIN) == 1


async def test_another_name_or_none_ends_the_handshake(lab: Lab) -> None:
    for name in (None, "mta-sts.other.test"):
        with pytest.raises(ssl.SSLError, match="unrecognized name"):
            await get(lab, name=name)
    assert lab.requests == []


@pytest.mark.parametrize(
    "wrong",
    [{"path": "/"}, {"path": f"{PATH}?x"}, {"method": "HEAD"}, {"host": "other.test"}],
    ids=str,
)
async def test_nothing_else_is_served(lab: Lab, wrong: dict[str, str]) -> None:
    assert split(await get(lab, **wrong))[0] == "404 Not Found"  # type: ignore[arg-type]


async def test_a_new_body_is_served_at_once(lab: Lab) -> None:
    lab.set_policy(DOMAIN, "version: STSv1\n")
    assert split(await get(lab))[2] == b"version: STSv1\n"


STATUSES = {
    PolicyFault.NOT_FOUND: ("404 Not Found", BODY),
    PolicyFault.SERVER_ERROR: ("500 Internal Server Error", BODY),
    PolicyFault.NO_CONTENT: ("204 No Content", b""),
    PolicyFault.NON_AUTHORITATIVE: ("203 Non-Authoritative Information", BODY),
    PolicyFault.NOT_MODIFIED: ("304 Not Modified", b""),
}


@pytest.mark.parametrize("fault", STATUSES, ids=str)
async def test_status(lab: Lab, fault: PolicyFault) -> None:
    lab.break_policy_host(DOMAIN, fault)
    status, _, body = split(await get(lab))
    assert (status, body) == STATUSES[fault]


@pytest.mark.parametrize(
    ("fault", "status", "location"),
    [
        (PolicyFault.REDIRECT_SAME_HOST, "301 Moved Permanently", f"https://{HOST}/policy.txt"),
        (PolicyFault.REDIRECT_OTHER_HOST, "302 Found", "https://www.plain.test/mta-sts.txt"),
    ],
    ids=str,
)
async def test_redirects(lab: Lab, fault: PolicyFault, status: str, location: str) -> None:
    lab.break_policy_host(DOMAIN, fault)
    found, fields, body = split(await get(lab))
    assert (found, fields["Location"], body) == (status, location, BODY)


@pytest.mark.parametrize(
    ("fault", "content_type"),
    [
        (PolicyFault.WRONG_TYPE, "text/html; charset=utf-8"),
        (PolicyFault.NO_TYPE, None),
        (PolicyFault.PARAMETERS, 'Text/Plain; charset=iso-8859-1; x="y"'),
    ],
    ids=str,
)
async def test_media_types(lab: Lab, fault: PolicyFault, content_type: str | None) -> None:
    lab.break_policy_host(DOMAIN, fault)
    status, fields, body = split(await get(lab))
    assert (status, fields.get("Content-Type"), body) == ("200 OK", content_type, BODY)


async def test_slow(lab: Lab) -> None:
    lab.break_policy_host(DOMAIN, PolicyFault.SLOW)
    status, fields, body = split(await get(lab, seconds=0.2))
    assert status == "200 OK"
    assert (fields["Content-Length"], body) == (str(len(BODY)), b"")


async def test_slow_comes_an_octet_at_a_time() -> None:
    inhabitant = entry("t", "none", "", expect("", ENCRYPTED), policy=ENFORCE)
    async with Lab(zoo=[inhabitant], slow_seconds=0) as lab:
        lab.break_policy_host(DOMAIN, PolicyFault.SLOW)
        assert split(await get(lab))[2] == BODY


async def test_stall(lab: Lab) -> None:
    lab.break_policy_host(DOMAIN, PolicyFault.STALL)
    with pytest.raises(TimeoutError):
        await get(lab, seconds=0.1)


@pytest.mark.parametrize("fault", [PolicyFault.ENDLESS, PolicyFault.HEADER_FLOOD], ids=str)
async def test_floods_do_not_end(lab: Lab, fault: PolicyFault) -> None:
    lab.break_policy_host(DOMAIN, fault)
    assert len(await get(lab)) >= ENOUGH


async def test_huge_is_a_valid_policy_but_for_its_size(lab: Lab) -> None:
    lab.break_policy_host(DOMAIN, PolicyFault.HUGE)
    status, fields, body = split(await get(lab))
    assert status == "200 OK"
    assert len(body) == int(fields["Content-Length"]) > 64 * 1024
    assert body.startswith(BODY)


async def test_compressed(lab: Lab) -> None:
    lab.break_policy_host(DOMAIN, PolicyFault.GZIP)
    status, fields, body = split(await get(lab))
    assert (status, fields["Content-Encoding"]) == ("200 OK", "gzip")
    assert gzip.decompress(body) == BODY
    lab.break_policy_host(DOMAIN, PolicyFault.BOMB)
    _, fields, body = split(await get(lab))
    assert len(body) == int(fields["Content-Length"]) < ENOUGH
    assert len(gzip.decompress(body)) == 100_000_000


async def test_truncated(lab: Lab) -> None:
    lab.break_policy_host(DOMAIN, PolicyFault.TRUNCATED)
    # No close_notify either: the ssl module hides that unless asked not to.
    status, fields, body = split(await get(lab))
    assert (status, body) == ("200 OK", BODY)
    assert int(fields["Content-Length"]) > len(BODY)


async def test_unfinished_chunks(lab: Lab) -> None:
    lab.break_policy_host(DOMAIN, PolicyFault.UNFINISHED_CHUNKS)
    _, fields, body = split(await get(lab))
    assert fields["Transfer-Encoding"] == "chunked"
    assert body == b"%x\r\n%s\r\n" % (len(BODY), BODY)


async def test_not_http(lab: Lab) -> None:
    lab.break_policy_host(DOMAIN, PolicyFault.NOT_HTTP)
    assert await get(lab) == BODY


async def test_plaintext_only(lab: Lab) -> None:
    lab.break_policy_host(DOMAIN, PolicyFault.PLAINTEXT_ONLY)
    with pytest.raises(ssl.SSLError):
        await get(lab, seconds=1)

    def in_the_clear() -> bytes:
        address = (lab.addresses[HOST], lab.https_port)
        with socket.create_connection(address, 30.0) as plain:
            plain.sendall(f"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            with plain.makefile("rb") as file:
                return file.read()

    assert split(await asyncio.to_thread(in_the_clear))[2] == BODY


async def test_old_tls(lab: Lab) -> None:
    lab.break_policy_host(DOMAIN, PolicyFault.OLD_TLS)
    with pytest.raises(ssl.SSLError):
        await get(lab)
    context = ssl.create_default_context(cafile=lab.ca_file)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    assert split(await get(lab, context=context))[2] == BODY


async def test_refuse_and_heal(lab: Lab) -> None:
    lab.break_policy_host(DOMAIN, "refuse")
    with pytest.raises(ConnectionRefusedError):
        await get(lab)
    lab.break_policy_host(DOMAIN, "good")
    assert split(await get(lab))[2] == BODY


@pytest.mark.parametrize("fault", [CertFault.EXPIRED, CertFault.WRONG_NAME], ids=str)
async def test_certificates_break_and_heal(lab: Lab, fault: CertFault) -> None:
    lab.break_policy_host(DOMAIN, fault)
    with pytest.raises(ssl.SSLCertVerificationError):
        await get(lab)
    lab.break_policy_host(DOMAIN, "good")
    assert split(await get(lab))[2] == BODY


async def test_unknown_hosts_and_faults_are_named(lab: Lab) -> None:
    with pytest.raises(KeyError, match=r"no policy host mta-sts\.nobody\.test"):
        lab.set_policy("nobody.test", "")
    with pytest.raises(ValueError, match="no-such-fault"):
        lab.break_policy_host(DOMAIN, "no-such-fault")
