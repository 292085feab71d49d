# SPDX-License-Identifier: Apache-2.0
"""SMTP replies: what is one, what is none and why, whatever the pieces it comes in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strictmail.core.smtpreply import (
    MAX_LINE_BYTES,
    MAX_NAME_CHARACTERS,
    MAX_REPLY_BYTES,
    MAX_REPLY_LINES,
    MAX_SHOWN_CHARACTERS,
    MalformedReply,
    ReadReply,
    Reply,
    ReplyFault,
    ReplyReader,
    capabilities,
    printable,
    server_name,
)


def read_all(*pieces: bytes) -> tuple[list[ReadReply], bytes]:
    """Everything that comes out, and what is left over."""
    reader, found = ReplyReader(), list[ReadReply]()
    for piece in pieces:
        reply = reader.feed(piece)
        while isinstance(reply, Reply):
            found.append(reply)
            reply = reader.feed()
        if reply is not None:
            return [*found, reply], reader.left_over
    return found, reader.left_over


REPLIES = {
    b"220 mx.test ESMTP\r\n": Reply(220, ("mx.test ESMTP",)),
    b"220 mx.test\n": Reply(220, ("mx.test",)),
    b"250\r\n": Reply(250, ("",)),
    b"250 \r\n": Reply(250, ("",)),
    b"250-a\r\n250-\r\n250 b c\r\n": Reply(250, ("a", "", "b c")),
    b"250-a\n250 b\r\n": Reply(250, ("a", "b")),
    b"250-a\r\n250\r\n": Reply(250, ("a", "")),
    b"554 no\r\r\n": Reply(554, ("no\r",)),
    b"299 \xfc\x00\r\n": Reply(299, ("\xfc\0",)),
    b"250 " + b"x" * (MAX_LINE_BYTES - 4) + b"\r\n": Reply(250, ("x" * (MAX_LINE_BYTES - 4),)),
}
FAULTS = {
    b"SSH-2.0-OpenSSH\r\n": ReplyFault.NOT_A_REPLY,
    b"\r\n": ReplyFault.NOT_A_REPLY,
    b"25 short\r\n": ReplyFault.NOT_A_REPLY,
    b"2500 long\r\n": ReplyFault.NOT_A_REPLY,
    b"150 first digit\r\n": ReplyFault.NOT_A_REPLY,
    b"650 first digit\r\n": ReplyFault.NOT_A_REPLY,
    b" 250 blank\r\n": ReplyFault.NOT_A_REPLY,
    b"250\ttab\r\n": ReplyFault.NOT_A_REPLY,
    "\u0662\u0665\u0660 digits\r\n".encode(): ReplyFault.NOT_A_REPLY,
    b"250-a\r\nHTTP/1.1 400\r\n": ReplyFault.NOT_A_REPLY,
    b"250-a\r\n220 b\r\n": ReplyFault.CODE_DIFFERS,
    b"250 " + b"x" * (MAX_LINE_BYTES - 3) + b"\r\n": ReplyFault.LINE_TOO_LONG,
    b"x" * (MAX_LINE_BYTES + 2): ReplyFault.LINE_TOO_LONG,
    b"250-\r\n" * (MAX_REPLY_LINES + 1): ReplyFault.TOO_MANY_LINES,
    (b"250-" + b"x" * 1000 + b"\r\n") * (MAX_REPLY_BYTES // 1006 + 1): ReplyFault.TOO_LONG,
}


@pytest.mark.parametrize(("octets", "reply"), REPLIES.items())
def test_replies(octets: bytes, reply: Reply) -> None:
    assert read_all(octets) == ([reply], b"")


@pytest.mark.parametrize(("octets", "fault"), FAULTS.items())
def test_faults_are_named(octets: bytes, fault: ReplyFault) -> None:
    (malformed,), _ = read_all(octets)
    assert isinstance(malformed, MalformedReply)
    assert malformed.fault is fault
    assert str(malformed).isascii()
    assert str(malformed).isprintable()


def test_a_fault_is_final() -> None:
    reader = ReplyReader()
    first = reader.feed(b"what?\r\n220 ok\r\n")
    assert reader.feed(b"220 ok\r\n") is first
    assert reader.left_over == b""


@pytest.mark.parametrize("octets", [b"", b"2", b"220", b"220 x", b"220 x\r", b"250-a\r\n"])
def test_an_unfinished_reply_is_none(octets: bytes) -> None:
    reader = ReplyReader()
    assert reader.feed(octets) is None
    assert reader.has_begun is bool(octets)


@pytest.mark.req("SEC-03", "STS-APP-43")
def test_octets_behind_a_reply_are_kept_apart() -> None:
    reader = ReplyReader()
    assert reader.feed(b"220 go\r\n250-x\r\n250") == Reply(220, ("go",))
    assert reader.left_over == b"250-x\r\n250"
    assert reader.feed(b" y\r\n") == Reply(250, ("x", "y"))
    assert reader.left_over == b""


def test_classes_of_codes() -> None:
    for code, flags in {
        250: (True, False, False),
        354: (False, False, False),
        421: (False, True, False),
        554: (False, False, True),
    }.items():
        reply = Reply(code, ("",))
        assert (reply.is_positive, reply.is_temporary, reply.is_permanent) == flags


def test_capabilities_are_known_by_their_keyword() -> None:
    lines = ("mx.test STARTTLS", "size 1000", "StartTLS", "AUTH  PLAIN LOGIN", "", "SIZE 5")
    assert capabilities(Reply(250, lines)) == {
        "SIZE": "1000",
        "STARTTLS": "",
        "AUTH": "PLAIN LOGIN",
    }


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mx.test ESMTP", "mx.test"),
        ("  mx.test", "mx.test"),
        ("", ""),
        ("\x1b[2J\xfc` x", "\\x1b[2J\\xfc\\x60"),
        ("[192.0.2.1] hello", "[192.0.2.1]"),
    ],
)
@pytest.mark.req("RPT-JSON-49")
def test_the_name_of_a_server(text: str, name: str) -> None:
    assert server_name(Reply(220, (text,))) == name


def test_names_and_replies_are_cut() -> None:
    reply = Reply(250, ("\xff" * 3000,) * 3)
    assert len(server_name(reply)) == MAX_NAME_CHARACTERS
    assert len(reply.shown) == MAX_SHOWN_CHARACTERS
    assert reply.shown.startswith("250 \\xff")
    assert reply.shown.endswith("...")


def test_a_reply_of_several_lines_is_shown_on_one() -> None:
    assert Reply(554, ("no", "really")).shown == "554 no / really"
    assert Reply(250, ("",)).shown == "250"


@given(st.text(), st.integers(4, 50))
def test_shown_text_is_printable(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert shown.isascii()
    assert "`" not in shown
    assert not shown or shown.isprintable()


FRAGMENTS = st.sampled_from(
    [
        b"220 mx.test\r\n",
        b"250-a\r\n",
        b"250 b\n",
        b"250-" + b"y" * 900 + b"\r\n",
        b"x" * MAX_LINE_BYTES,
        b"x" * (MAX_LINE_BYTES - 4),
        b"\r",
        b"\n",
        b"4",
        b"250-\n" * 60,
    ]
)
STREAMS = st.lists(st.one_of(FRAGMENTS, st.binary(max_size=6)), max_size=12).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 30_000)))
def test_pieces_do_not_matter(stream: bytes, cuts: list[int]) -> None:
    at = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    whole, left = read_all(stream)
    pieces, left_of_pieces = read_all(*(stream[begin:end] for begin, end in pairwise(at)))
    assert pieces == whole
    assert left_of_pieces == left


@given(STREAMS)
def test_octet_by_octet(stream: bytes) -> None:
    assert read_all(*(bytes([octet]) for octet in stream)) == read_all(stream)
