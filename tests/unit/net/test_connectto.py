# SPDX-License-Identifier: Apache-2.0
"""`--connect-to`: what each entry redirects, and what is said of a malformed one."""

from __future__ import annotations

import asyncio

import pytest

from strictmail.core.dnsvalues import RecordType
from strictmail.core.errors import SyntaxFault, UnreachableError
from strictmail.net.connectto import ConnectMap, ConnectRule
from strictmail.net.fakes import FakeResolver

MX = ("mx.example.com", "192.0.2.1", 25)


@pytest.mark.parametrize(
    ("entry", "target"),
    [
        ("mx.example.com:25:127.0.0.1:2525", ("127.0.0.1", 2525)),
        ("MX.Example.COM.:25:127.0.0.1:2525", ("127.0.0.1", 2525)),
        ("192.0.2.1:25:127.0.0.1:2525", ("127.0.0.1", 2525)),
        ("mx.example.com::127.0.0.1:", ("127.0.0.1", 25)),
        (":25::2525", ("192.0.2.1", 2525)),
        ("::127.0.0.1:", ("127.0.0.1", 25)),
        (":::2525", ("192.0.2.1", 2525)),
        ("::[::1]:2525", ("::1", 2525)),
        (":::", ("192.0.2.1", 25)),
        ("other.example.com:25:127.0.0.1:2525", ("192.0.2.1", 25)),
        (":443:127.0.0.1:8443", ("192.0.2.1", 25)),
    ],
)
def test_where_a_connection_goes(entry: str, target: tuple[str, int]) -> None:
    assert ConnectMap.parse([entry]).target(*MX) == target


def test_without_entries_nothing_moves() -> None:
    assert ConnectMap().target(*MX) == ("192.0.2.1", 25)


def test_the_first_entry_that_applies_is_used() -> None:
    table = ConnectMap.parse([":443::8443", "mx.example.com:25::2525", ":25::2626"])
    assert table.target(*MX) == ("192.0.2.1", 2525)
    assert table.target("mx2.example.com", "192.0.2.2", 25) == ("192.0.2.2", 2626)
    assert table.target("mta-sts.example.com", "192.0.2.3", 443) == ("192.0.2.3", 8443)


def test_ipv6_stands_in_brackets_on_either_side() -> None:
    table = ConnectMap.parse(["[2001:DB8::1]:25:[::1]:2525"])
    assert table.rules == (ConnectRule("2001:db8::1", 25, "::1", 2525),)
    assert table.target("mx.example.com", "2001:db8::1", 25) == ("::1", 2525)


@pytest.mark.parametrize(
    ("entry", "position", "words"),
    [
        ("", 0, "3 more `:` needed"),
        ("a:25:b", 6, "1 more `:` needed"),
        ("a:25:b:2525:", 11, "more than three colons"),
        ("2001:db8::1:25:127.0.0.1:2525", 11, "in brackets"),
        ("a:smtp:b:25", 2, "not a port"),
        ("a:25:b:70000", 7, "not a port"),
        ("a:0:b:25", 2, "not a port"),
        ("a b:25:c:25", 0, "not a host name or address"),
        ("a:25:[::1:25", 5, "no `]`"),
        ("a:25:[mx.example]:25", 5, "in brackets stands an address"),
        ("[::1]x:25:a:25", 0, "in brackets stands an address"),
    ],
)
def test_a_fault_has_its_place_and_a_hint(entry: str, position: int, words: str) -> None:
    with pytest.raises(SyntaxFault) as caught:
        ConnectMap.parse([entry])
    assert caught.value.position == position
    assert words in str(caught.value)
    assert f"at character {position + 1}" in str(caught.value)
    assert "HOST1:PORT1:HOST2:PORT2" in str(caught.value)


def test_names_are_resolved_once_and_before_use() -> None:
    resolver = FakeResolver()
    resolver.add("stage.example", RecordType.A, "192.0.2.7")
    resolver.add("six.example", RecordType.AAAA, "2001:db8::7")
    table = ConnectMap.parse([":25:stage.example:2525", ":443:stage.example:", "::six.example:"])
    assert table.names == ("stage.example", "six.example")
    resolved = asyncio.run(table.resolved(resolver))
    assert resolved.names == ()
    assert resolved.target(*MX) == ("192.0.2.7", 2525)
    assert resolved.target("a.example", "192.0.2.1", 53) == ("2001:db8::7", 53)
    assert resolver.count("stage.example", RecordType.A) == 1


def test_a_name_without_address_is_named() -> None:
    table = ConnectMap.parse(["::nowhere.example:"])
    with pytest.raises(UnreachableError, match=r"nowhere\.example has no address"):
        asyncio.run(table.resolved(FakeResolver()))
