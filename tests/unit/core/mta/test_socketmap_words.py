# SPDX-License-Identifier: Apache-2.0
"""Requests taken apart, replies put together."""

from __future__ import annotations

import pytest

from strictmail.core.errors import EncodingError, FrameError
from strictmail.core.mta import socketmap
from strictmail.core.mta.netstring import Decoder
from strictmail.core.mta.socketmap import Request, parse_request


def payload(reply: bytes) -> bytes:
    (only,) = Decoder(max_bytes=socketmap.MAX_REPLY_BYTES).feed(reply)
    return only


@pytest.mark.parametrize(
    ("request_payload", "expected"),
    [
        pytest.param(b"sts example.com", Request("sts", "example.com"), id="as Postfix asks"),
        pytest.param(b"sts STS.Test", Request("sts", "STS.Test"), id="case is kept"),
        pytest.param(b"sts [mx.example]:25", Request("sts", "[mx.example]:25"), id="any key"),
        pytest.param(b"sts ", Request("sts", ""), id="empty key"),
        pytest.param(b"sts  a", Request("sts", " a"), id="only one blank parts them"),
        pytest.param(b"a b c", Request("a", "b c"), id="blanks in a key"),
        pytest.param("sts bücher.example".encode(), Request("sts", "bücher.example"), id="UTF-8"),
    ],
)
def test_parse_request(request_payload: bytes, expected: Request) -> None:
    assert parse_request(request_payload) == expected


@pytest.mark.parametrize(
    ("request_payload", "message"),
    [
        pytest.param(b"", "no blank", id="nothing"),
        pytest.param(b"sts", "no blank", id="no key at all"),
        pytest.param(b" example.com", "map name", id="no map name"),
        pytest.param(b"s\x00s example.com", "map name", id="control character"),
        pytest.param("mäp a".encode(), "map name", id="map name outside ASCII"),
        pytest.param(b"sts a\xff", "not UTF-8", id="bytes that are no text"),
        pytest.param(b"sts \xc0\xae", "not UTF-8", id="overlong form of a dot"),
        pytest.param(b"sts \xed\xa0\x80", "not UTF-8", id="a surrogate"),
    ],
)
def test_refused_requests(request_payload: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        parse_request(request_payload)


def test_replies() -> None:
    assert socketmap.ok("secure match=a") == b"17:OK secure match=a,"
    assert socketmap.notfound() == b"9:NOTFOUND ,"
    assert socketmap.temp("try later") == b"14:TEMP try later,"
    assert socketmap.perm("no such map") == b"16:PERM no such map,"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="Postfix takes an empty value for an error"),
        pytest.param("  ", id="blanks only"),
        pytest.param("secure\nmatch=a", id="a second line"),
        pytest.param("a\x00b", id="NUL"),
        pytest.param("sécure", id="outside ASCII"),
        pytest.param("x" * 100_000, id="longer than Postfix reads"),
    ],
)
def test_values_that_cannot_be_said(value: str) -> None:
    with pytest.raises(EncodingError):
        socketmap.ok(value)


def test_the_longest_value() -> None:
    value = "x" * (socketmap.MAX_REPLY_BYTES - len("OK "))
    assert len(payload(socketmap.ok(value))) == socketmap.MAX_REPLY_BYTES


@pytest.mark.req("SEC-20")
@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        pytest.param("a\r\nb\x1b[31m", b"TEMP a??b?[31m", id="control characters are visible"),
        pytest.param("né", b"TEMP n?", id="outside ASCII"),
        pytest.param("", b"TEMP no reason given", id="never empty"),
        pytest.param("\udc80", b"TEMP ?", id="half a surrogate"),
        pytest.param("y" * 5000, b"TEMP " + b"y" * 200, id="cut"),
    ],
)
def test_reasons_are_one_printable_line(reason: str, expected: bytes) -> None:
    assert payload(socketmap.temp(reason)) == expected
    assert payload(socketmap.perm(reason)) == expected.replace(b"TEMP", b"PERM")
