# SPDX-License-Identifier: Apache-2.0
"""Netstrings: `<length>:<payload>,`, the frames that socketmap travels in.

Knows the framing, incrementally and within bounds; knows nothing of what a payload means.
The length is decimal ASCII without leading zeros; nothing may stand between two frames.
"""

from __future__ import annotations

from typing import Final

from strictmail.core.errors import FrameError

MAX_REQUEST_BYTES: Final = 10_000
"""The longest payload that Postfix sends as a request."""


def encode(payload: bytes) -> bytes:
    """Frame one payload of any size, zero included."""
    return b"%d:%b," % (len(payload), payload)


class Decoder:
    """Cut a byte stream into the payloads of its netstrings.

    Whatever the chunks, the same stream gives the same payloads and the same fault. Between
    calls at most one unfinished frame is kept: `max_bytes` and a few bytes of header.

    Args:
        max_bytes: Largest payload accepted. A longer length is a fault as soon as its
            header is read: the payload is not waited for.
    """

    __slots__ = ("_fault", "_max_bytes", "_max_digits", "_rest")

    def __init__(self, max_bytes: int = MAX_REQUEST_BYTES) -> None:
        self._max_bytes = max_bytes
        self._max_digits = len(str(max_bytes))
        self._rest = b""
        self._fault: FrameError | None = None

    @property
    def fault(self) -> FrameError | None:
        """What ended the stream, once something did: answer what came before it, then close."""
        return self._fault

    @property
    def is_between_frames(self) -> bool:
        """Whether the stream may end here without cutting a frame."""
        return not self._rest and self._fault is None

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream.

        Args:
            data: Any number of bytes, also none.

        Returns:
            The payloads that are complete now, in order. Where a fault follows them in the same
            `data`, they are still returned: look at `fault` after answering them.

        Raises:
            FrameError: The stream is malformed and nothing before the fault is left to be
                answered. Every later call raises it again: close the connection.
        """
        if self._fault is not None:
            raise self._fault
        if self._rest:
            data = self._rest + data
        payloads: list[bytes] = []
        position = 0
        try:
            while (end := self._frame_end(data, position)) >= 0:
                payloads.append(data[data.index(b":", position) + 1 : end - 1])
                position = end
        except FrameError as fault:
            self._fault = fault
            self._rest = b""
            if not payloads:
                raise
            return payloads
        self._rest = data[position:]
        return payloads

    def _frame_end(self, data: bytes, position: int) -> int:
        """Where the frame at `position` ends, its comma included; -1 while it is unfinished."""
        limit = position + self._max_digits + 1
        colon = data.find(b":", position, limit)
        digits = data[position:colon] if colon >= 0 else data[position:limit]
        # The fault that comes first in the stream comes first here: chunks must not matter.
        if digits[:1] == b"0" and digits[1:2].isdigit():
            raise FrameError("netstring: the length has a leading zero", position=0)
        if not digits.isdigit() and (digits or colon >= 0):
            raise FrameError("netstring: the length is not a decimal number", position=0)
        if len(digits) > self._max_digits or (colon >= 0 and int(digits) > self._max_bytes):
            raise FrameError(f"netstring: longer than {self._max_bytes} bytes", position=0)
        if colon < 0:
            return -1
        comma = colon + 1 + int(digits)
        if len(data) <= comma:
            return -1
        if data[comma] != _COMMA:
            raise FrameError("netstring: no comma after the payload", position=comma - position)
        return comma + 1


_COMMA: Final = ord(",")
