# SPDX-License-Identifier: Apache-2.0
"""A byte stream gives the same requests and the same fault however it is chunked.

Nothing but FrameError is ever raised, and no more than one unfinished frame is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import instrumented, run

with instrumented():
    from strictmail.core.errors import FrameError
    from strictmail.core.mta.netstring import Decoder, encode
    from strictmail.core.mta.socketmap import Request, parse_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BYTES = 100
"""Small, so that the limits are within reach of short inputs."""

_KEYS = (b"example.com", b"[mx.example.com]:25", b"", b".example.com", "bücher.example".encode())


def seeds() -> Iterator[bytes]:
    """Good requests, one by one and pipelined, and streams that break in each known way."""
    frames = [encode(b"sts " + key) for key in _KEYS]
    yield from frames
    yield b"".join(frames)
    yield from (b"0:,", b"01:a,", b"101:", b"99:", b"123456", b"3:abc;", b"4: abc,", b"4:sts\xff,")
    yield encode(b"sts example.com") + b"GET / HTTP/1.1\r\n\r\n"


def check(data: bytes) -> None:
    """Decode whole, byte by byte, and in chunks that the data itself chooses."""
    whole = _outcome([data])
    assert _outcome(data[i : i + 1] for i in range(len(data))) == whole
    assert _outcome(_chunks(data)) == whole


def _chunks(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        step = data[at] % 17
        yield data[at : at + step]
        at += max(step, 1) if step else 0
        if not step:
            yield data[at : at + 1]
            at += 1


def _outcome(chunks: Iterable[bytes]) -> tuple[list[bytes], list[Request | str], str | None]:
    """Payloads, what each means, and the fault that ended the stream."""
    decoder = Decoder(MAX_BYTES)
    payloads: list[bytes] = []
    for chunk in chunks:
        try:
            payloads += decoder.feed(chunk)
        except FrameError:
            break
    assert all(len(payload) <= MAX_BYTES for payload in payloads)
    fault = decoder.fault
    return payloads, [_meaning(p) for p in payloads], None if fault is None else _describe(fault)


def _meaning(payload: bytes) -> Request | str:
    try:
        request = parse_request(payload)
    except FrameError as fault:
        return _describe(fault)
    assert request.map.encode() + b" " + request.key.encode() == payload
    return request


def _describe(fault: FrameError) -> str:
    return f"{fault} at {fault.position}"


if __name__ == "__main__":
    run(check, seeds())
