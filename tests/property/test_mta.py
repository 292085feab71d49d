# SPDX-License-Identifier: Apache-2.0
"""What holds for every stream, reason and decision that is said to an MTA."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strictmail.core.decision import Level
from strictmail.core.errors import FrameError
from strictmail.core.mta import socketmap
from strictmail.core.mta.netstring import Decoder, encode
from strictmail.core.mta.postfix import encode_reply_tlsrpt

if TYPE_CHECKING:
    from types import ModuleType

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"


@pytest.fixture(scope="module")
def postfix_reader() -> ModuleType:
    """The independent reading of Postfix's policy syntax, shared with the fuzz target."""
    spec = importlib.util.spec_from_file_location("fuzz_reply", FUZZ / "fuzz_reply.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(FUZZ))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FUZZ))
    return module


def chunked(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def decode(chunks: list[bytes], max_bytes: int = 50) -> tuple[list[bytes], str | None]:
    decoder = Decoder(max_bytes)
    payloads: list[bytes] = []
    for chunk in chunks:
        try:
            payloads += decoder.feed(chunk)
        except FrameError:
            break
    return payloads, None if decoder.fault is None else str(decoder.fault)


class TestNetstring:
    """Any chunking of a stream gives the same frames."""

    @given(st.lists(st.binary(max_size=50), max_size=6), st.lists(st.integers(0), max_size=6))
    def test_frames_come_back(self, payloads: list[bytes], cuts: list[int]) -> None:
        stream = b"".join(map(encode, payloads))
        assert decode(chunked(stream, cuts)) == (payloads, None)

    @given(
        st.one_of(st.binary(max_size=60), st.text("0123456789:,ab", max_size=40).map(str.encode)),
        st.lists(st.integers(0), max_size=8),
    )
    def test_any_bytes(self, stream: bytes, cuts: list[int]) -> None:
        whole = decode([stream])
        assert decode(chunked(stream, cuts)) == whole
        assert decode([stream[i : i + 1] for i in range(len(stream))]) == whole


class TestSocketmap:
    """A request is read or refused; a reply is one frame in printable ASCII."""

    @given(st.binary(max_size=80))
    def test_requests(self, payload: bytes) -> None:
        position: int | None = 0
        try:
            request = socketmap.parse_request(payload)
        except FrameError as fault:
            position = fault.position
        else:
            assert f"{request.map} {request.key}".encode() == payload
        assert position is not None
        assert 0 <= position <= len(payload)

    @given(st.text())
    def test_reasons(self, reason: str) -> None:
        for reply in (socketmap.temp(reason), socketmap.perm(reason)):
            (payload,) = Decoder(socketmap.MAX_REPLY_BYTES).feed(reply)
            assert payload.decode("ascii").isprintable()
            assert len(payload) <= len("TEMP ") + socketmap.MAX_REASON_CHARACTERS


class TestPostfixReply:
    """No policy text, host name or pattern can end an attribute early or start another."""

    names = st.one_of(
        st.from_regex(r"[a-z0-9_-]{1,8}(\.[a-z0-9_-]{1,8}){0,2}", fullmatch=True),
        st.text(" ,=:{}*.\n\t\x00aé", min_size=1, max_size=8),
        st.sampled_from(["hostname", "nexthop", "*.a.test", "mx.a.test"]),
    )
    lines = st.one_of(st.text(), st.text("{} =,:\t\r\n\x00\x7fma", max_size=20))

    @given(
        level=st.sampled_from(list(Level)[:-1]),
        nexthop=names,
        hosts=st.lists(names, max_size=3),
        patterns=st.lists(names, max_size=3),
        lines=st.lists(lines, max_size=5),
    )
    def test_exactly_what_was_meant(
        self, postfix_reader: ModuleType, level: Level, **parts: Any
    ) -> None:
        decision = postfix_reader.make_decision(level, **parts)
        postfix_reader.check_decision(decision)

    @given(st.lists(lines, max_size=4))
    def test_good_names_always_carry_all_attributes(
        self, postfix_reader: ModuleType, lines: list[str]
    ) -> None:
        decision = postfix_reader.make_decision(
            Level.SECURE, "a.test", ["mx.a.test"], ["*.a.test"], lines
        )
        (payload,) = Decoder(socketmap.MAX_REPLY_BYTES).feed(encode_reply_tlsrpt(decision))
        _, attributes = postfix_reader.read_policy(payload.decode("ascii").removeprefix("OK "))
        assert attributes == [
            ("match", "mx.a.test"),
            ("servername", "hostname"),
            ("policy_type", "sts"),
            ("policy_domain", "a.test"),
            *(("policy_string", postfix_reader.shown(line)) for line in lines),
            ("mx_host_pattern", "*.a.test"),
        ]
