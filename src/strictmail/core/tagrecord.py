# SPDX-License-Identifier: Apache-2.0
"""The `v=...; name=value` grammar that the MTA-STS and TLSRPT records share.

RFC 8461 §3.1 and RFC 8460 §3: a version, then one or more fields, each behind a `;` with any
blanks and tabs around it, then at most one closing `;`. This module knows that grammar and the
extension fields; what the fields of a record mean (`id`, `rua`), its own module knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import RecordSyntaxError

if TYPE_CHECKING:
    from collections.abc import Collection

WSP: Final = " \t"

_EXTENSION_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_EXTENSION_VALUE: Final = re.compile(r"[!-:<>-~]+")
"""%x21-3A, %x3C, %x3E-7E: printable, neither blank nor `;` nor `=`."""

MAX_QUOTED_CHARACTERS: Final = 60
"""Foreign text in a message is cut to this."""


@dataclass(frozen=True, slots=True)
class TagField:
    """One field of a record.

    Attributes:
        name: As written: names are case-sensitive.
        value: As written.
        position: Offset of the name in the record.
    """

    name: str
    value: str
    position: int


def quote(text: str) -> str:
    """Foreign text for a message: printable ASCII in back-quotes, the rest escaped, cut short."""
    cut = text[:MAX_QUOTED_CHARACTERS]
    shown = ascii(cut)[1:-1].replace("`", "\\x60")
    return f"`{shown}{'...' if len(text) > len(cut) else ''}`"


def is_extension_name(name: str) -> bool:
    """Whether a name is one that an extension field may have (also in a policy body)."""
    return _EXTENSION_NAME.fullmatch(name) is not None


def join_strings(strings: Collection[bytes]) -> bytes:
    """The text of one TXT record: its character-strings, with nothing between them."""
    # RFC 8461 §3.1, RFC 8460 §3: joined before anything is looked at (STS-REC-03).
    return b"".join(strings)


def parse_fields(text: str, version: str, known: Collection[str] = ()) -> tuple[TagField, ...]:
    """Take a record apart.

    Args:
        text: The whole record; octets decoded as Latin-1, so that an offset is an octet.
        version: What it has to start with, such as `v=STSv1`.
        known: Fields whose values have a grammar of their own: not checked here, apart from
            characters that no field may hold.

    Returns:
        The fields in order, duplicates included; at least one.

    Raises:
        RecordSyntaxError: The record counts as no record; the message says where and why.
    """
    if not text.startswith(version):
        raise RecordSyntaxError(
            f"the record does not start with {quote(version)}", text=text, position=0
        )
    _check_ascii(text)
    # RFC 8461 §3.1: blanks and tabs may stand on either side of a `;` (STS-REC-18).
    first, *parts = text[len(version) :].split(";")
    if first.strip(WSP) or not parts:
        raise RecordSyntaxError(
            f"behind {quote(version)} comes `;`", text=text, position=len(version)
        )
    position = len(version) + len(first) + 1
    if not parts[-1].strip(WSP):
        # RFC 8461 §3.1: one closing `;` may end the record (STS-REC-20).
        parts.pop()
    elif parts[-1][-1] in WSP:
        # RFC 8461 §3.1: white space at the end needs a `;` before it (STS-REC-21).
        raise RecordSyntaxError(
            "white space at the end of the record: remove it, or put `;` before it",
            text=text,
            position=len(text) - 1,
        )
    if not parts:
        raise RecordSyntaxError("no field behind the version", text=text, position=len(text))
    fields = []
    for part in parts:
        fields.append(_parse_field(part, text, position, known))
        position += len(part) + 1
    return tuple(fields)


def _check_ascii(text: str) -> None:
    if text.isascii() and text.isprintable():
        return
    for position, character in enumerate(text):
        if not (" " <= character <= "~" or character == "\t"):
            # RFC 8461 §3.1: US-ASCII only (STS-REC-22).
            hint = "a no-break space, pasted from a web page?" if character == "\xa0" else ""
            raise RecordSyntaxError(
                f"octet 0x{ord(character):02x} at offset {position} is not printable ASCII"
                + (f": {hint}" if hint else ""),
                text=text,
                position=position,
            )


def _parse_field(part: str, text: str, position: int, known: Collection[str]) -> TagField:
    body = part.strip(WSP)
    position += len(part) - len(part.lstrip(WSP))
    if not body:
        # RFC 8461 §3.1: no field is empty (STS-REC-20).
        raise RecordSyntaxError(
            "an empty field: two `;` in a row? Remove one", text=text, position=position
        )
    name, equals, value = body.partition("=")
    if not equals:
        raise RecordSyntaxError(
            f"field {quote(body)} has no `=`: fields are `name=value`, with `;` between them",
            text=text,
            position=position,
        )
    if name != name.rstrip(WSP) or value != value.lstrip(WSP):
        raise RecordSyntaxError(
            f"white space around the `=` of {quote(body)}: remove it", text=text, position=position
        )
    # RFC 8461 §3.1: a name of 1 to 32 letters, digits, `_`, `-`, `.`, the first a letter or
    # digit, and a value that is not empty (STS-REC-17).
    if not is_extension_name(name):
        raise RecordSyntaxError(
            f"{quote(name)} is not a field name: 1 to 32 letters, digits, `_`, `-`, `.`",
            text=text,
            position=position,
        )
    if name not in known and _EXTENSION_VALUE.fullmatch(value) is None:
        raise RecordSyntaxError(
            f"the value of field {quote(name)} is empty, or holds a blank or `=`: {quote(value)}",
            text=text,
            position=position + len(name) + 1,
        )
    return TagField(name, value, position)
