# SPDX-License-Identifier: Apache-2.0
"""TLSA records: presentation form, which records are usable, which of those count.

The order is fixed: unusable and malformed records are dropped first, then digest agility picks
among the rest. `cryptography` is imported only for Full(0) records, whose data is a certificate
or a public key: everything else is decided by four numbers and a length.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.dnsvalues import Tlsa
from strictmail.core.errors import TlsaSyntaxError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

DANE_TA: Final = 2
DANE_EE: Final = 3
CERT: Final = 0
SPKI: Final = 1
FULL: Final = 0
SHA2_256: Final = 1
SHA2_512: Final = 2

DIGEST_ORDER: Final = (SHA2_512, SHA2_256)
"""Strongest first (RFC 7671 §9)."""

_DIGEST_BYTES: Final = {SHA2_256: 32, SHA2_512: 64}
_NUMBER_FIELDS: Final = 3
_MAX_OCTET: Final = 255
_MAX_OCTET_DIGITS: Final = 3
_SEQUENCE_TAG: Final = 0x30


@dataclass(frozen=True, slots=True)
class Usability:
    """Local policy on what is too weak to authenticate with (RFC 6698 §4.1).

    Attributes:
        mtypes: Matching types accepted, of 0, 1 and 2.
        min_rsa_bits: Smallest RSA or DSA key accepted in a Full(0) record.
        min_ec_bits: Smallest elliptic curve accepted in a Full(0) record.
    """

    mtypes: frozenset[int] = frozenset({FULL, SHA2_256, SHA2_512})
    min_rsa_bits: int = 1024
    min_ec_bits: int = 224


DEFAULT_USABILITY: Final = Usability()


def parse_tlsa(text: str) -> Tlsa:
    """Parse the presentation form `usage selector mtype data`.

    Args:
        text: Three numbers from 0 to 255 and the data in hexadecimal, either case, which may be
            split by blanks and may be missing. Any number is accepted: `is_usable` judges it.

    Raises:
        TlsaSyntaxError: Not that form. Where records are judged, it counts as unusable.

    Spec: RFC 6698 §2.2.
    """
    fields = text.split()
    if len(fields) < _NUMBER_FIELDS:
        raise TlsaSyntaxError("TLSA: usage, selector, matching type and data expected", text=text)
    usage, selector, mtype = (_parse_octet(field, text) for field in fields[:_NUMBER_FIELDS])
    digits = "".join(fields[_NUMBER_FIELDS:])
    if len(digits) % 2:
        raise TlsaSyntaxError("TLSA: an odd number of hexadecimal digits", text=text)
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        raise TlsaSyntaxError("TLSA: the data is not hexadecimal", text=text) from None
    return Tlsa(usage, selector, mtype, data)


def is_usable(record: Tlsa, usability: Usability = DEFAULT_USABILITY) -> bool:
    """Whether a secure record can authenticate an SMTP server.

    Args:
        record: From a secure answer; insecure ones are not looked at at all.
        usability: Local policy; the default refuses only what nobody should rely on.

    Spec: RFC 7672 §3.1, RFC 6698 §4.1.
    """
    # RFC 7672 §3.1: DANE-TA(2) and DANE-EE(3) are supported (DANE-40).
    # RFC 7672 §3.1.3: PKIX-TA(0) and PKIX-EE(1) are unusable for SMTP, never mapped (DANE-41).
    if record.usage not in (DANE_TA, DANE_EE):
        return False
    # RFC 6698 §4.1: unknown selectors and matching types are unusable (DANE-43).
    if record.selector not in (CERT, SPKI):
        return False
    # RFC 6698 §4.1: so are matching types too weak by local policy (DANE-45).
    if record.mtype not in usability.mtypes:
        return False
    # RFC 7672 §3.1.1: SHA2-256, and with it SHA2-512 and Full(0), are supported (DANE-46, DANE-47).
    if record.mtype in _DIGEST_BYTES:
        # RFC 6698 §4.1: data of another length than its digest's is malformed (DANE-44).
        return len(record.data) == _DIGEST_BYTES[record.mtype]
    return record.mtype == FULL and _is_usable_full(record, usability)


def usable_records(
    rrset: Sequence[Tlsa], usability: Usability = DEFAULT_USABILITY
) -> tuple[Tlsa, ...]:
    """The usable records of a secure RRset, order kept.

    Empty while the RRset is not: TLS is required on that host, authentication is not.
    """
    # RFC 6698 §4.1: unusable records are dropped, the others count (DANE-50).
    return tuple(record for record in rrset if is_usable(record, usability))


def select_by_agility(
    rrset: Sequence[Tlsa],
    digest_order: Sequence[int] = DIGEST_ORDER,
    usability: Usability = DEFAULT_USABILITY,
) -> tuple[Tlsa, ...]:
    """The records of a secure RRset that a certificate chain is compared with, order kept.

    Args:
        rrset: All of it: unusable records are dropped here, before agility is applied.
        digest_order: Matching types, strongest first; one that is missing is weaker than all.
        usability: Local policy on what is too weak.

    Returns:
        Per (usage, selector) the usable records of the strongest digest, and all Full(0) ones.

    Spec: RFC 7671 §9.
    """
    # RFC 7671 §9: a malformed record of a strong digest disables no weaker one (DANE-54).
    usable = usable_records(rrset, usability)
    # RFC 7671 §9: the order of strength is a setting (DANE-53).
    rank = {mtype: position for position, mtype in enumerate(digest_order)}
    weakest = len(rank)
    best: dict[tuple[int, int], int] = {}
    for record in usable:
        if record.mtype != FULL:
            group = (record.usage, record.selector)
            position = rank.get(record.mtype, weakest)
            best[group] = min(position, best.get(group, weakest))
    # RFC 7671 §9: only the strongest digest counts, beside Full(0) (DANE-52).
    return tuple(
        record
        for record in usable
        if record.mtype == FULL
        or rank.get(record.mtype, weakest) == best[(record.usage, record.selector)]
    )


def _parse_octet(field: str, text: str) -> int:
    if not (field.isascii() and field.isdigit() and len(field) <= _MAX_OCTET_DIGITS):
        raise TlsaSyntaxError("TLSA: usage, selector and matching type are numbers", text=text)
    if int(field) > _MAX_OCTET:
        raise TlsaSyntaxError("TLSA: a number is larger than 255", text=text)
    return int(field)


def _is_usable_full(record: Tlsa, usability: Usability) -> bool:
    """Whether Full(0) data is a certificate or public key that can be compared and relied on."""
    key = _certificate_key(record.data) if record.selector == CERT else _public_key(record.data)
    return key is not None and _is_strong(key, usability)


def load_certificate(der: bytes) -> x509.Certificate | None:
    """Load a certificate from DER; None if that is not one, or of an unknown version."""
    from cryptography import x509

    try:
        with warnings.catch_warnings():
            # Old certificates with odd serial numbers load, with a warning that is not ours.
            warnings.simplefilter("ignore")
            return x509.load_der_x509_certificate(der)
    except (ValueError, TypeError, x509.InvalidVersion):
        return None


def _certificate_key(data: bytes) -> PublicKeyTypes | None:
    from cryptography.exceptions import UnsupportedAlgorithm

    certificate = load_certificate(data)
    if certificate is None:
        return None
    try:
        return certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Spec-silent: a key of an unknown kind is unusable, since it authenticates nobody here.
        return None


def _public_key(data: bytes) -> PublicKeyTypes | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    if not _looks_like_spki(data):
        return None
    try:
        return load_der_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _looks_like_spki(data: bytes) -> bool:
    """Whether DER data is a sequence that begins with a sequence: the algorithm identifier.

    A bare PKCS#1 key begins with a number; `cryptography` would load it, TLSA does not know it.
    """
    if len(data) < 2 or data[0] != _SEQUENCE_TAG:  # noqa: PLR2004 - a tag and a length
        return False
    length_octets = data[1] & 0x7F if data[1] & 0x80 else 0
    return data[2 + length_octets : 3 + length_octets] == bytes([_SEQUENCE_TAG])


def _is_strong(key: PublicKeyTypes, usability: Usability) -> bool:
    # RFC 6698 §4.1: a key too weak by local policy makes its record unusable (DANE-45).
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey):
        return key.key_size >= usability.min_rsa_bits
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.key_size >= usability.min_ec_bits
    return True
