# SPDX-License-Identifier: Apache-2.0
"""TLSA records for the lab's MX hosts, computed from their certificates.

A specification is `usage selector mtype` and optional words, as in `3 1 1` or `2 0 1 wrong`:
`root` takes the root instead of the intermediate, `wrong` the digest of something else,
`short` leaves out the last octet.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strictmail.core.dnsvalues import Tlsa

if TYPE_CHECKING:
    from cryptography import x509

    from strictmail.lab.ca import Credentials

_TA_USAGES: Final = frozenset({0, 2})
_INTERMEDIATE, _ROOT = 1, 2


def make_tlsa(specification: str, credentials: Credentials) -> Tlsa:
    """Compute one record.

    Args:
        specification: See above; numbers outside the registries are allowed.
        credentials: What the host shows. With usages 0 and 2 its chain must reach as far.
    """
    usage, selector, mtype, *words = specification.split()
    certificate = credentials.leaf
    if int(usage) in _TA_USAGES:
        certificate = credentials.chain[_ROOT if "root" in words else _INTERMEDIATE]
    data = _digest(_select(certificate, int(selector)), int(mtype), wrong="wrong" in words)
    if "short" in words:
        data = data[:-1]
    return Tlsa(int(usage), int(selector), int(mtype), data)


def _select(certificate: x509.Certificate, selector: int) -> bytes:
    if selector == 0:
        return certificate.public_bytes(Encoding.DER)
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _digest(data: bytes, mtype: int, *, wrong: bool) -> bytes:
    if wrong:
        data = b"somebody else's " + data
    match mtype:
        case 0:
            return data
        case 2:
            return hashlib.sha512(data).digest()
        case _:
            return hashlib.sha256(data).digest()
