# SPDX-License-Identifier: Apache-2.0
"""The keys that Postfix and others ask with."""

from __future__ import annotations

import pytest

from strictmail.core.errors import NexthopSyntaxError
from strictmail.core.nexthop import Nexthop, NexthopKind, parse_nexthop

DOMAIN, HOST = NexthopKind.DOMAIN, NexthopKind.HOST
LITERAL, PARENT = NexthopKind.ADDRESS_LITERAL, NexthopKind.PARENT


@pytest.mark.req("STS-APP-01", "STS-APP-02", "STS-APP-03", "STS-APP-04", "STS-APP-07")
@pytest.mark.parametrize(
    ("key", "kind", "domain", "port"),
    [
        pytest.param("example.com", DOMAIN, "example.com", 25, id="domain"),
        pytest.param("STS.Test.", DOMAIN, "sts.test", 25, id="keys-are-not-folded-by-postfix"),
        pytest.param("bücher.example", DOMAIN, "xn--bcher-kva.example", 25, id="u-label"),
        pytest.param("example.com:587", DOMAIN, "example.com", 587, id="port"),
        pytest.param("example.com:submission", DOMAIN, "example.com", 587, id="service"),
        pytest.param("Example.com:SMTP", DOMAIN, "example.com", 25, id="service-case"),
        pytest.param("[mx.example.com]", HOST, "mx.example.com", 25, id="host"),
        pytest.param("[MX.example.com.]:587", HOST, "mx.example.com", 587, id="host-and-port"),
        pytest.param("[relay]", HOST, "relay", 25, id="one-label"),
        pytest.param("[192.0.2.1]", LITERAL, "", 25, id="ipv4-literal"),
        pytest.param("[192.0.2.1]:2525", LITERAL, "", 2525, id="ipv4-literal-and-port"),
        pytest.param("[IPv6:2001:db8::1]", LITERAL, "", 25, id="tagged-ipv6-literal"),
        pytest.param("[ipv6:2001:db8::1]:26", LITERAL, "", 26, id="tag-case"),
        pytest.param("[2001:db8::1]", LITERAL, "", 25, id="untagged-ipv6-literal"),
        pytest.param("192.0.2.1", LITERAL, "", 25, id="bare-ipv4"),
        pytest.param("192.0.2.1:26", LITERAL, "", 26, id="bare-ipv4-and-port"),
        pytest.param("2001:db8::1", LITERAL, "", 25, id="bare-ipv6"),
        pytest.param(".example.com", PARENT, "example.com", 25, id="dot-key"),
        pytest.param(".Test", PARENT, "test", 25, id="dot-key-one-label"),
        pytest.param("example.com:65535", DOMAIN, "example.com", 65535, id="largest-port"),
        pytest.param("example.com:00025", DOMAIN, "example.com", 25, id="zeros-before-the-port"),
    ],
)
def test_good_key(key: str, kind: NexthopKind, domain: str, port: int) -> None:
    assert parse_nexthop(key) == Nexthop(kind, domain, port)


@pytest.mark.req("SEC-26")
@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        " ",
        "*",
        "example..com",
        "a b",
        "example.com\n",
        "example.com\0",
        "user@example.com",
        "[",
        "[]",
        "[mx.example.com",
        "mx.example.com]",
        "[mx.example.com]25",
        "[mx.example.com] :25",
        "[mx.example.com]:",
        "[IPv6:zz]",
        "[IPv4:192.0.2.1]",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:-1",
        "example.com:+25",
        "example.com:2 5",
        "example.com:\u0662\u0665",
        "example.com:nonsense",
        "example.com:25:25",
        ":25",
        "..example.com",
        ".example.com:25",
        "x" * 10_000,
        "a." * 200,
    ],
)
def test_bad_key(key: str) -> None:
    with pytest.raises(NexthopSyntaxError) as raised:
        parse_nexthop(key)
    assert str(raised.value).isascii()
    assert len(raised.value.text) <= 200
