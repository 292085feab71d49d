# SPDX-License-Identifier: Apache-2.0
"""The socketmap protocol: a request `<map> <key>`, a reply `OK <value>`, `NOTFOUND `, `TEMP <why>`.

Knows the words of the protocol and what may stand in a reply, and makes complete netstrings;
what a value means to an MTA is known by its dialect (`postfix`, `sendmail`, `exim`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from strictmail.core.errors import EncodingError, FrameError
from strictmail.core.mta.netstring import encode

MAX_REPLY_BYTES: Final = 100_000
"""The longest reply, netstring payload, that Postfix accepts."""

MAX_REASON_CHARACTERS: Final = 200
"""The longest reason after TEMP and PERM: MTAs log it in one line."""

_FIRST_PRINTABLE: Final = 0x20
_LAST_PRINTABLE: Final = 0x7E


class Request(NamedTuple):
    """One question: the name of the map, and the key exactly as sent (it may be empty)."""

    map: str
    key: str


def parse_request(payload: bytes) -> Request:
    """Take a request apart.

    Args:
        payload: One netstring's payload. The map name ends at the first blank; everything
            after it is the key: also further blanks, or nothing.

    Raises:
        FrameError: No blank, no map name, a map name that is not printable ASCII, or a key
            that is not UTF-8: answer PERM, then close.
    """
    map_name, blank, key = payload.partition(b" ")
    if not blank:
        raise FrameError(
            "socketmap request: no blank between map name and key", position=len(payload)
        )
    if not map_name or not all(_FIRST_PRINTABLE < byte <= _LAST_PRINTABLE for byte in map_name):
        raise FrameError("socketmap request: the map name is not printable ASCII", position=0)
    try:
        return Request(map_name.decode("ascii"), key.decode("utf-8"))
    except UnicodeDecodeError as error:
        position = len(map_name) + 1 + error.start
        raise FrameError("socketmap request: the key is not UTF-8", position=position) from None


def ok(value: str) -> bytes:
    """Reply with a value.

    Args:
        value: Printable ASCII in one line, not empty: Postfix takes an empty value for an error.

    Raises:
        EncodingError: The value cannot be said: answer TEMP.
    """
    if not value or value.isspace():
        raise EncodingError("socketmap: an OK reply needs a value")
    if not is_printable(value):
        raise EncodingError("socketmap: a value holds other than printable ASCII characters")
    payload = b"OK " + value.encode("ascii")
    if len(payload) > MAX_REPLY_BYTES:
        raise EncodingError(f"socketmap: a reply longer than {MAX_REPLY_BYTES} bytes")
    return encode(payload)


def notfound() -> bytes:
    """Reply that there is nothing to say about the key: the MTA's default applies."""
    # With the blank, since clients split a reply at its first blank; Postfix takes both forms.
    return encode(b"NOTFOUND ")


def temp(reason: str) -> bytes:
    """Reply that the mail has to wait; any text, made printable and cut, may be the reason."""
    return encode(b"TEMP " + _reason(reason))


def perm(reason: str) -> bytes:
    """Reply that the request will never be understood; any text may be the reason."""
    return encode(b"PERM " + _reason(reason))


def is_printable(text: str) -> bool:
    """Whether a text is one line of printable ASCII characters (blanks included)."""
    return text.isascii() and text.isprintable()


def printable(text: str) -> str:
    """Put a visible `?` in place of each character that is not printable ASCII."""
    if is_printable(text):
        return text
    return "".join(c if is_printable(c) else "?" for c in text)


def _reason(text: str) -> bytes:
    # Cut first: foreign text can be long, and one character in stays one character out.
    return (printable(text[:MAX_REASON_CHARACTERS]).strip() or "no reason given").encode("ascii")
