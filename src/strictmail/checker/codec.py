# SPDX-License-Identifier: Apache-2.0
"""A result as JSON and back. Knows nothing of files, of other formats, and of the JSON Schema.

A result is one line: a file of results is JSON Lines. It is pure ASCII, so that it can go to a
terminal as it stands.

===============================  =============================================================
what `decode` gets               what comes of it
===============================  =============================================================
a result                         the same value that was encoded
members that it does not know    passed over: new members may come
not JSON, a wrong type           `SyntaxFault` that names the place, such as `$.hosts[2].name`
a date-time without an offset    `SyntaxFault`: nobody knows which instant that is
a newer schema                   `SchemaTooNewError`
===============================  =============================================================
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from strictmail.core.check.result import SCHEMA_VERSION, CheckResult
from strictmail.core.errors import SchemaTooNewError, SyntaxFault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(CheckResult)
_NOT_ASCII: Final = re.compile("[\x7f-\U0010ffff]")


class _Head(msgspec.Struct):
    schema: int = 0
    strictmail: str = ""


def encode(result: CheckResult) -> bytes:
    """A result as one line of ASCII JSON, without a line feed; date-times are UTC."""
    text = _ENCODER.encode(result).decode()
    return _NOT_ASCII.sub(_escaped, text).encode("ascii")


def _escaped(found: re.Match[str]) -> str:
    # JSON writes what lies above the first plane as a pair of surrogates.
    units = found.group().encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def decode(data: bytes | str) -> CheckResult:
    """The result that was encoded.

    Args:
        data: One JSON object; white space around it does not matter.

    Raises:
        SyntaxFault: It is none; the message names the place of the fault.
        SchemaTooNewError: A newer strictmail wrote it.
    """
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.schema > SCHEMA_VERSION:
            raise SchemaTooNewError(
                f"the result was written by strictmail {head.strictmail[:20]!a} with schema "
                f"{head.schema}; this one reads up to {SCHEMA_VERSION}"
            )
        result = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SyntaxFault(f"not a result of `strictmail check`: {error}") from error
    for place, instant in _instants(result):
        if instant.tzinfo is None:
            raise SyntaxFault(
                f"not a result of `strictmail check`: date-time without an offset - at `{place}`"
            )
    return result


def _instants(result: CheckResult) -> Iterator[tuple[str, datetime]]:
    yield "$.checked_at", result.checked_at
    for h, host in enumerate(result.hosts):
        for a, address in enumerate(host.addresses):
            for c, chain in enumerate(address.chains):
                for n, certificate in enumerate(chain.certificates):
                    place = f"$.hosts[{h}].addresses[{a}].chains[{c}].certificates[{n}]"
                    yield f"{place}.not_before", certificate.not_before
                    yield f"{place}.not_after", certificate.not_after
