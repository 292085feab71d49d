# SPDX-License-Identifier: Apache-2.0
"""Any TLSA text or data is a record or a TlsaSyntaxError, and judging it never raises.

What is selected is usable; authenticating a chain of any bytes ends in a verdict, and in a good
one only by a record that matches the leaf or holds the key that signed it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness import instrumented, run

with instrumented():
    from strictmail.core.dane.authenticate import authenticate, matches
    from strictmail.core.dane.tlsa import is_usable, parse_tlsa, select_by_agility, usable_records
    from strictmail.core.dnsvalues import Tlsa
    from strictmail.core.errors import TlsaSyntaxError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 3, 1, tzinfo=UTC)

_SPKI = bytes.fromhex("302a300506032b6570032100") + b"\x11" * 32
_CERTIFICATE = bytes.fromhex(
    "308201113081c4a003020102020101300506032b6570301a3118301606035504030c0f6d782e6578616d706c"
    "652e74657374301e170d3236303130313030303030305a170d3336303130313030303030305a301a31183016"
    "06035504030c0f6d782e6578616d706c652e74657374302a300506032b6570032100327def0a5aa5b1ed8d51"
    "d8ec03d33d0ff37641f82a1f99c9ee8fd98b5c4d63d2a32f302d300f0603551d130101ff040530030101ff30"
    "1a0603551d1104133011820f6d782e6578616d706c652e74657374300506032b65700341000b2e1b7de6c21c"
    "86326e0834a869c23a6731c6ba151310162f750606ccebde697c57b392bc1ef9b0f1e3d8c2b84687ff1ae7f4"
    "ddb0f4e50372e8882d12c0d10d"
)
_KEY = _CERTIFICATE[_CERTIFICATE.index(_SPKI[:12]) + 12 :][:32]


def seeds() -> Iterator[bytes]:
    """Texts of each shape; data of each kind behind three octets."""
    yield b"3 1 1 " + b"ab" * 32
    yield b"2 0 2 " + b"cd" * 64
    yield b"3 1 0 " + _SPKI.hex().encode()
    yield b"2 0 0 " + _CERTIFICATE.hex().encode()
    yield b"3 1 1"
    yield b"256 1 1 abc"
    yield b"\x03\x01\x00" + _SPKI
    yield b"\x02\x00\x00" + _CERTIFICATE
    yield b"\x03\x00\x00" + _CERTIFICATE
    yield b"\x02\x01\x00" + _SPKI


def check(data: bytes) -> None:
    """Judge the input as text and as octets, and authenticate with it."""
    usage, selector, mtype = data[:3].ljust(3, b"\0")
    records = [Tlsa(usage, selector, mtype, data[3:])]
    try:
        record = parse_tlsa(data.decode("latin-1"))
    except TlsaSyntaxError:
        pass
    else:
        assert parse_tlsa(str(record)) == record
        records.append(record)
    usable = usable_records(records)
    assert all(is_usable(record) for record in usable)
    chosen = select_by_agility(records)
    assert set(chosen) <= set(usable)
    assert bool(chosen) == bool(usable)
    _authenticate(records, data)


def _authenticate(records: list[Tlsa], data: bytes) -> None:
    """Use the data as a leaf and as an anchor."""
    for chain in ([data[3:]], [_CERTIFICATE, data[3:]], [data[3:], _CERTIFICATE]):
        result = authenticate(records, chain, ["mx.example.test"], NOW)
        if result.is_authenticated:
            assert result.record is not None
            # The one signature that inputs can hold is that of the certificate above.
            assert matches(result.record, chain[0]) or _KEY in result.record.data


if __name__ == "__main__":
    run(check, seeds())
