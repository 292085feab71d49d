# SPDX-License-Identifier: Apache-2.0
"""The rules of the policy fetch, apart from the network."""

from __future__ import annotations

import ipaddress

import pytest

from strictmail.core.sts.fetchrules import (
    MAX_FAILURE_LINES,
    POLICY_PATH,
    is_allowed_address,
    judge_body,
    judge_certificate_error,
    judge_length,
    judge_response,
    judge_size,
    policy_host,
    policy_url,
)
from strictmail.core.sts.values import MAX_POLICY_BYTES, FetchedPolicy, FetchFailure, Mode
from strictmail.core.tlsrpt.results import ResultType

GOOD = b"version: STSv1\nmode: testing\nmx: a.example\nmax_age: 1\n"


@pytest.mark.req("STS-FET-01", "STS-FET-03", "STS-FET-04", "STS-REC-27")
def test_the_one_url() -> None:
    assert policy_host("sub.example.com") == "mta-sts.sub.example.com"
    assert POLICY_PATH == "/.well-known/mta-sts.txt"
    assert policy_url("example.com") == "https://mta-sts.example.com/.well-known/mta-sts.txt"


@pytest.mark.req("STS-FET-16", "STS-FET-17", "STS-FET-18", "STS-FET-19", "STS-FET-20")
@pytest.mark.parametrize(
    ("status", "content_type", "coding", "reason_code"),
    [
        pytest.param(200, "text/plain", None, None, id="good"),
        pytest.param(200, "text/plain", "identity", None, id="identity"),
        pytest.param(200, "text/plain", "", None, id="empty-coding"),
        pytest.param(200, "text/plain;charset=utf-8", None, None, id="charset"),
        pytest.param(200, "text/plain; charset=iso-8859-1; x", None, None, id="odd-parameters"),
        pytest.param(200, " \tTEXT/Plain\t ", None, None, id="case-and-blanks"),
        pytest.param(200, "text/plain;", None, None, id="semicolon"),
        pytest.param(200, None, None, "media-type", id="no-type"),
        pytest.param(200, "", None, "media-type", id="empty-type"),
        pytest.param(200, "text/html", None, "media-type", id="html"),
        pytest.param(200, "text", None, "media-type", id="no-subtype"),
        pytest.param(200, "text/plain, text/html", None, "media-type", id="two-types"),
        pytest.param(200, "application/octet-stream", None, "media-type", id="octets"),
        pytest.param(200, "text/plain", "gzip", "content-encoding", id="gzip"),
        pytest.param(200, "text/plain", "identity, gzip", "content-encoding", id="two-codings"),
        *[
            pytest.param(status, "text/plain", None, "http-status", id=str(status))
            for status in (100, 201, 202, 203, 204, 206, 299, 300, 304, 305, 404, 410, 500, 503)
        ],
        *[
            pytest.param(status, "text/plain", None, "redirect", id=str(status))
            for status in (301, 302, 303, 307, 308)
        ],
    ],
)
def test_response(
    status: int, content_type: str | None, coding: str | None, reason_code: str | None
) -> None:
    failure = judge_response(status, content_type, coding)
    assert (failure.reason_code if failure else None) == reason_code
    if failure:
        assert failure.result_type is ResultType.STS_POLICY_FETCH_ERROR


@pytest.mark.req("SEC-20")
def test_foreign_text_is_escaped() -> None:
    failure = judge_response(200, "a\r\nb\x1b" + "x" * 500, None)
    assert failure is not None
    assert failure.reason.isprintable()
    assert len(failure.reason) < 200


@pytest.mark.req("STS-FET-23", "STS-FET-24", "STS-FET-26")
def test_sizes() -> None:
    assert judge_size(MAX_POLICY_BYTES) is None
    too_large = judge_size(MAX_POLICY_BYTES + 1)
    assert too_large is not None
    assert too_large.reason_code == "too-large"
    assert judge_length(10, 10) is None
    assert judge_length(10, None) is None
    short = judge_length(9, 10)
    assert short is not None
    assert short.reason_code == "truncated"
    assert judge_length(MAX_POLICY_BYTES + 1, MAX_POLICY_BYTES + 1) == too_large


@pytest.mark.req("STS-FET-06", "STS-FET-07", "STS-FET-08")
@pytest.mark.parametrize(
    ("code", "reason_code"),
    [
        (9, "certificate-expired"),
        (10, "certificate-expired"),
        (62, "certificate-name"),
        (64, "certificate-name"),
        (18, "certificate-untrusted"),
        (19, "certificate-untrusted"),
        (20, "certificate-untrusted"),
        (21, "certificate-untrusted"),
        (1, "certificate-untrusted"),
        (999, "certificate-untrusted"),
    ],
)
def test_certificate_errors(code: int, reason_code: str) -> None:
    failure = judge_certificate_error(code, "what OpenSSL\nsaid")
    assert failure.result_type is ResultType.STS_WEBPKI_INVALID
    assert failure.reason_code == reason_code
    assert "what OpenSSL\\nsaid" in failure.reason
    assert str(code) in failure.reason


@pytest.mark.req("STS-FET-30", "STS-FET-24")
def test_body() -> None:
    good = judge_body(GOOD)
    assert isinstance(good, FetchedPolicy)
    assert (good.policy.mode, good.body) == (Mode.TESTING, GOOD)
    bad = judge_body(b"Mode: x\r\n\r\nmx: a\n")
    assert isinstance(bad, FetchFailure)
    assert (bad.result_type, bad.reason_code) == (ResultType.STS_POLICY_INVALID, "syntax")
    assert bad.lines == ("Mode: x", "mx: a")
    long = judge_body(b"x\n" * 1000)
    assert isinstance(long, FetchFailure)
    assert len(long.lines) == MAX_FAILURE_LINES
    huge = judge_body(GOOD + b"\n" * MAX_POLICY_BYTES)
    assert isinstance(huge, FetchFailure)
    assert (huge.result_type, huge.reason_code) == (
        ResultType.STS_POLICY_FETCH_ERROR,
        "too-large",
    )


@pytest.mark.req("STS-FET-45", "SEC-19")
@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        pytest.param("8.8.8.8", True, id="global"),
        pytest.param("2a00:1450:4001::1", True, id="global-v6"),
        pytest.param("127.0.0.1", False, id="loopback"),
        pytest.param("127.255.0.9", False, id="loopback-net"),
        pytest.param("0.0.0.0", False, id="this-host"),
        pytest.param("10.0.0.1", False, id="private-10"),
        pytest.param("172.16.0.1", False, id="private-172"),
        pytest.param("192.168.1.1", False, id="private-192"),
        pytest.param("100.64.0.1", False, id="carrier-nat"),
        pytest.param("169.254.169.254", False, id="link-local-metadata"),
        pytest.param("192.0.2.1", False, id="documentation"),
        pytest.param("198.18.0.1", False, id="benchmarks"),
        pytest.param("224.0.0.1", False, id="multicast"),
        pytest.param("239.1.1.1", False, id="multicast-scoped"),
        pytest.param("240.0.0.1", False, id="reserved"),
        pytest.param("255.255.255.255", False, id="broadcast"),
        pytest.param("::", False, id="unspecified-v6"),
        pytest.param("::1", False, id="loopback-v6"),
        pytest.param("::8.8.8.8", False, id="ipv4-compatible"),
        pytest.param("fe80::1", False, id="link-local-v6"),
        pytest.param("fe80::1%eth0", False, id="link-local-scoped"),
        pytest.param("2a00:1450:4001::1%eth0", False, id="scoped"),
        pytest.param("fec0::1", False, id="site-local"),
        pytest.param("fd00::8", False, id="unique-local"),
        pytest.param("ff02::1", False, id="multicast-v6"),
        pytest.param("2001:db8::1", False, id="documentation-v6"),
        pytest.param("::ffff:8.8.8.8", True, id="mapped-global"),
        pytest.param("::ffff:127.0.0.1", False, id="mapped-loopback"),
        pytest.param("::ffff:10.0.0.1", False, id="mapped-private"),
        pytest.param("64:ff9b::8.8.8.8", True, id="nat64-global"),
        pytest.param("64:ff9b::a00:1", False, id="nat64-private"),
        pytest.param("2002:7f00:1::1", False, id="6to4-loopback"),
        pytest.param("2002:808:808::1", True, id="6to4-global"),
        pytest.param("2001:0:53aa:64c::1", False, id="teredo"),
        pytest.param("", False, id="empty"),
        pytest.param("mx.example.com", False, id="a-name"),
        pytest.param("8.8.8.8\n", False, id="newline"),
        pytest.param("0x7f.1", False, id="shorthand"),
    ],
)
def test_addresses(address: str, allowed: bool) -> None:
    assert is_allowed_address(address, ()) is allowed


@pytest.mark.req("STS-FET-45")
def test_listed_networks_come_first() -> None:
    networks = ["10.0.0.0/8", ipaddress.ip_network("fd00::/8"), "127.0.0.1"]
    assert is_allowed_address("10.1.2.3", networks)
    assert is_allowed_address("fd00::1", networks)
    assert is_allowed_address("127.0.0.1", networks)
    assert not is_allowed_address("127.0.0.2", networks)
    assert not is_allowed_address("192.168.0.1", networks)
    assert is_allowed_address("8.8.8.8", networks)
