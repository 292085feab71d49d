# SPDX-License-Identifier: Apache-2.0
"""Requirements on pure values and settings that no other test decides."""

from __future__ import annotations

import ssl

import pytest

from strictmail.core.errors import NexthopSyntaxError
from strictmail.core.nexthop import parse_nexthop
from strictmail.core.sts.fetchrules import policy_host, policy_url
from strictmail.net.fakes import FakeResolver
from strictmail.net.https import HttpsPolicyFetcher, policy_tls_context


@pytest.mark.req("SEC-38", "STS-FET-13")
def test_nothing_but_the_chain_is_asked_for() -> None:
    context = policy_tls_context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    revocation = ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF | ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    assert not context.verify_flags & revocation


@pytest.mark.req("SEC-28")
@pytest.mark.parametrize("key", ["jane@example.com", "<jane@example.com>", "jane doe", "a/b"])
def test_what_names_a_user_is_no_nexthop(key: str) -> None:
    with pytest.raises(NexthopSyntaxError):
        parse_nexthop(key)


@pytest.mark.req("SEC-28", "STS-FET-02", "STS-FET-47", "STS-FET-18", "STS-FET-25")
def test_a_request_says_nothing_but_the_domain() -> None:
    fetcher = HttpsPolicyFetcher(FakeResolver(), user_agent="strictmail/1")
    lines = fetcher.request(policy_host("example.com")).decode().split("\r\n")
    assert lines == [
        "GET /.well-known/mta-sts.txt HTTP/1.1",
        "Host: mta-sts.example.com",
        "User-Agent: strictmail/1",
        "Accept: text/plain",
        "Accept-Encoding: identity",
        "Connection: close",
        "",
        "",
    ]


@pytest.mark.req("STS-FET-01", "STS-FET-03")
def test_there_is_one_url() -> None:
    assert policy_url("example.com") == "https://mta-sts.example.com/.well-known/mta-sts.txt"
