# SPDX-License-Identifier: Apache-2.0
"""However its octets are cut, a stream gives the same replies, bounded and safe to show.

The whole stream, the stream octet by octet, and the stream in pieces that its first octets choose
are read; what comes out, and what is left over, must be the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import instrumented, run

with instrumented():
    from strictmail.core.smtpreply import (
        MAX_LINE_BYTES,
        MAX_NAME_CHARACTERS,
        MAX_REPLY_BYTES,
        MAX_REPLY_LINES,
        MAX_SHOWN_CHARACTERS,
        MalformedReply,
        ReadReply,
        Reply,
        ReplyReader,
        capabilities,
        server_name,
    )

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SESSION = (
    b"220 mx.test ESMTP\r\n250-mx.test\r\n250-SIZE 1000\r\n250 STARTTLS\r\n220 go\r\n221 bye\r\n"
)


def seeds() -> Iterator[bytes]:
    """Sizes of pieces in the first two octets, then a stream."""
    yield b"\x03\x11" + _SESSION
    yield b"\x00\x00220 go\r\n250-injected.test\r\n250 SIZE 1\r\n"
    yield b"\x05\x01250-a\r\n220 b\r\n"
    yield b"\x07\x07SSH-2.0-x\r\n"
    yield b"\xff\x40250-" + b"x" * MAX_LINE_BYTES + b"\r\n250 y\r\n"
    yield b"\x20\x21" + b"250-\n" * (MAX_REPLY_LINES + 1)
    yield b"\x01\x01250\r\n250\n250 \r\r\n421 \x1b[0m`\xff\r\n"


def check(data: bytes) -> None:
    """Read a stream in three ways."""
    first, second, stream = data[:1], data[1:2], data[2:]
    sizes = (1 + sum(first), 1 + 16 * sum(second))
    whole = _read([stream])
    assert _read(stream[at : at + 1] for at in range(len(stream))) == whole
    assert _read(_cut(stream, sizes)) == whole
    for reply in whole[0]:
        _check_shown(reply)


def _cut(stream: bytes, sizes: tuple[int, int]) -> Iterator[bytes]:
    at = turn = 0
    while at < len(stream):
        yield stream[at : at + sizes[turn]]
        at += sizes[turn]
        turn = 1 - turn


def _read(pieces: Iterable[bytes]) -> tuple[list[ReadReply], bytes]:
    reader = ReplyReader()
    found: list[ReadReply] = []
    for piece in pieces:
        reply = reader.feed(piece)
        while isinstance(reply, Reply):
            found.append(reply)
            reply = reader.feed()
        assert len(reader.left_over) <= MAX_LINE_BYTES + 1
        if reply is not None:
            return [*found, reply], reader.left_over
    return found, reader.left_over


def _check_shown(reply: ReadReply) -> None:
    if isinstance(reply, MalformedReply):
        _check_text(reply.shown, MAX_SHOWN_CHARACTERS)
        return
    assert 200 <= reply.code <= 599  # noqa: PLR2004 - the codes there are
    assert 1 <= len(reply.lines) <= MAX_REPLY_LINES
    assert sum(map(len, reply.lines)) <= MAX_REPLY_BYTES
    assert "" not in capabilities(reply)
    _check_text(reply.shown, MAX_SHOWN_CHARACTERS)
    _check_text(server_name(reply), MAX_NAME_CHARACTERS)


def _check_text(text: str, limit: int) -> None:
    assert len(text) <= limit
    assert text.isascii()
    assert "`" not in text
    assert not text or text.isprintable()


if __name__ == "__main__":
    run(check, seeds())
