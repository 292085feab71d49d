# SPDX-License-Identifier: Apache-2.0
"""Frames: what is one, what is none, and where a decoder stops waiting."""

from __future__ import annotations

import pytest

from strictmail.core.errors import FrameError
from strictmail.core.mta.netstring import MAX_REQUEST_BYTES, Decoder, encode


def test_encode_counts_bytes() -> None:
    assert encode(b"") == b"0:,"
    assert encode(b"sts example.com") == b"15:sts example.com,"
    assert encode("ü".encode()) == b"2:\xc3\xbc,"


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        pytest.param(b"3:abc,", [b"abc"], id="one"),
        pytest.param(b"0:,", [b""], id="empty"),
        pytest.param(b"3:abc,0:,2:de,", [b"abc", b"", b"de"], id="pipelined"),
        pytest.param(b"5:a:b,c,", [b"a:b,c"], id="a payload holds any byte"),
        pytest.param(b"3:abc,2:d", [b"abc"], id="the second is unfinished"),
        pytest.param(b"3:abc", [], id="the comma is missing yet"),
        pytest.param(b"12", [], id="the header is unfinished"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_payloads(stream: bytes, payloads: list[bytes]) -> None:
    assert Decoder().feed(stream) == payloads


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        pytest.param(b"x", "not a decimal number", id="no digit"),
        pytest.param(b":", "not a decimal number", id="no length"),
        pytest.param(b"-1:,", "not a decimal number", id="negative"),
        pytest.param(b"+1:a,", "not a decimal number", id="a sign"),
        pytest.param(b" 1:a,", "not a decimal number", id="a blank before"),
        pytest.param(b"1 :a,", "not a decimal number", id="a blank behind"),
        pytest.param("١:a,".encode(), "not a decimal number", id="a digit outside ASCII"),
        pytest.param(b"1_0:", "not a decimal number", id="an underscore, which int() takes"),
        pytest.param(b"01:a,", "leading zero", id="leading zero"),
        pytest.param(b"00:,", "leading zero", id="two zeros"),
        pytest.param(b"10001:", "longer than 10000", id="one byte too long"),
        pytest.param(b"99999:", "longer than 10000", id="five digits"),
        pytest.param(b"123456", "longer than 10000", id="six digits, no colon needed"),
        pytest.param(b"9" * 40, "longer than 10000", id="endless digits"),
        pytest.param(b"3:abcd", "no comma", id="payload longer than said"),
        pytest.param(b"3:abc\n", "no comma", id="another terminator"),
        pytest.param(b"GET / HTTP/1.1\r\n", "not a decimal number", id="another protocol"),
    ],
)
def test_faults(stream: bytes, message: str) -> None:
    decoder = Decoder()
    with pytest.raises(FrameError, match=message):
        decoder.feed(stream)
    assert decoder.fault is not None
    with pytest.raises(FrameError, match=message):
        decoder.feed(b"3:abc,")


def test_a_too_long_frame_is_refused_before_its_payload_arrives() -> None:
    decoder = Decoder(max_bytes=10)
    with pytest.raises(FrameError, match="longer than 10 bytes"):
        decoder.feed(b"11:")


def test_the_longest_request_passes_and_is_all_that_is_kept() -> None:
    decoder = Decoder()
    frame = encode(b"x" * MAX_REQUEST_BYTES)
    assert decoder.feed(frame[:-1]) == []
    assert not decoder.is_between_frames
    assert decoder.feed(frame[-1:]) == [b"x" * MAX_REQUEST_BYTES]
    assert decoder.is_between_frames


def test_frames_before_a_fault_are_answered_first() -> None:
    decoder = Decoder()
    assert decoder.feed(b"3:abc,oops") == [b"abc"]
    assert decoder.fault is not None
    assert not decoder.is_between_frames
    with pytest.raises(FrameError):
        decoder.feed(b"")


def test_a_larger_decoder_takes_longer_lengths() -> None:
    payload = b"y" * 100_000
    assert Decoder(max_bytes=100_000).feed(encode(payload)) == [payload]
