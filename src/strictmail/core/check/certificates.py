# SPDX-License-Identifier: Apache-2.0
"""What a presented certificate says of itself, and what a chain looks like. Nothing is trusted here.

A server can present anything: what cannot be read is said to be no certificate, or left empty,
and nothing raises. Whether a chain is *valid*, the web PKI (`facts.PkixFacts`) and DANE
(`core.dane.authenticate`) decide; this module describes, and knows what is weak:

==================  =====================================  ======================================
kind                weak (should be replaced)              broken (protects nothing)
==================  =====================================  ======================================
RSA, DSA            below 2048 bits                        below 1024 bits
elliptic curve      below 224 bits                         below 160 bits
signature           SHA-1                                  MD5, MD2
==================  =====================================  ======================================

The signature on a self-signed certificate proves nothing to anybody, so its hash does not matter.
"""

from __future__ import annotations

import enum
import hashlib
import warnings
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeVar

from strictmail.core.check.result import Certificate
from strictmail.core.dane.authenticate import spki_der
from strictmail.core.dane.tlsa import load_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509

_T = TypeVar("_T")

NO_CERTIFICATE: Final = "(no certificate)"
"""The subject of what cannot be read as one."""

NO_DATE: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""A date that cannot be read."""

MAX_NAMES: Final = 100
"""dNSName entries that are described; large hosters have about that many."""

MAX_NAME_CHARACTERS: Final = 253
"""Of one of them; a longer one is none."""

MAX_SUBJECT_CHARACTERS: Final = 512
"""Of a subject or issuer that is described: twice what real ones have."""

MAX_LINKS: Final = 16
"""Certificates of a chain whose order is judged: it bounds the signatures that are checked."""

MIN_RSA_BITS: Final = 2048
"""BCP 195 and every public CA since 2014."""
BROKEN_RSA_BITS: Final = 1024
"""OpenSSL's lowest security level refuses less."""
MIN_EC_BITS: Final = 224
BROKEN_EC_BITS: Final = 160

WEAK_HASHES: Final = frozenset({"sha1"})
BROKEN_HASHES: Final = frozenset({"md5", "md2", "md4"})


MAX_REMEMBERED: Final = 512
"""Certificates, and links of chains, whose answers are kept: a bulk check meets the same hosts and
the same issuers again and again, at half a millisecond each. Some 3 MB at most."""


class Strength(enum.Enum):
    """How much a key or a signature is worth."""

    GOOD = "good"
    WEAK = "weak"
    BROKEN = "broken"


@lru_cache(maxsize=MAX_REMEMBERED)
def describe(der: bytes) -> Certificate:
    """Describe a presented certificate.

    Args:
        der: Anything at all.

    Returns:
        Its description; subject NO_CERTIFICATE where `der` is none. Texts are foreign.
    """
    certificate = load_certificate(der)
    fingerprint = hashlib.sha256(der).hexdigest()
    if certificate is None:
        return Certificate(
            NO_CERTIFICATE, "", (), NO_DATE, NO_DATE, "unknown", "", fingerprint, "", is_ca=False
        )
    with warnings.catch_warnings():
        # Odd but readable certificates are not worth a warning of our process.
        warnings.simplefilter("ignore")
        return Certificate(
            subject=_read(certificate, lambda c: _distinguished(c.subject), ""),
            issuer=_read(certificate, lambda c: _distinguished(c.issuer), ""),
            dns_names=_read(certificate, _dns_names, ()),
            not_before=_read(certificate, lambda c: c.not_valid_before_utc, NO_DATE),
            not_after=_read(certificate, lambda c: c.not_valid_after_utc, NO_DATE),
            key=_read(certificate, _key, "unknown"),
            signature=_read(certificate, _signature, ""),
            sha256=fingerprint,
            spki_sha256=_spki_sha256(der),
            is_ca=_read(certificate, _is_ca, default=False),
        )


def is_certificate(certificate: Certificate) -> bool:
    """Whether a description is of a certificate at all."""
    return certificate.subject != NO_CERTIFICATE


def is_self_issued(certificate: Certificate) -> bool:
    """Whether subject and issuer are one: a root, or a self-signed leaf."""
    return certificate.subject == certificate.issuer


def issuer_organisation(der: bytes) -> str:
    """The organisation name of the issuer; "" without one."""
    certificate = load_certificate(der)
    if certificate is None:
        return ""
    return _read(certificate, _issuer_organisation, "")


def find_gap(chain_der: Sequence[bytes]) -> int | None:
    """Find the first certificate of a chain that the next one did not issue.

    Args:
        chain_der: As sent, leaf first; only the first MAX_LINKS are looked at.

    Returns:
        Its depth, or None where each certificate issued the one before it.

    Spec: RFC 5280 §6.1: each certificate's issuer is the subject of the next.
    """
    links = enumerate(pairwise(chain_der[:MAX_LINKS]))
    return next((depth for depth, link in links if not _is_link(*link)), None)


def days_left(certificate: Certificate, now: datetime) -> int:
    """Whole days until a certificate expires; negative once it has."""
    return (certificate.not_after - now).days


def key_strength(certificate: Certificate) -> Strength:
    """How much the key is worth; GOOD for kinds that are not known."""
    family, _, digits = certificate.key.partition("-")
    bits = int(digits) if digits.isdigit() else 0
    if family in ("rsa", "dsa"):
        return _grade(bits, MIN_RSA_BITS, BROKEN_RSA_BITS)
    if family == "ecdsa":
        return _grade(bits, MIN_EC_BITS, BROKEN_EC_BITS)
    return Strength.GOOD


def signature_strength(certificate: Certificate) -> Strength:
    """How much the signature is worth to somebody who trusts its issuer."""
    if is_self_issued(certificate):
        return Strength.GOOD
    if certificate.signature in BROKEN_HASHES:
        return Strength.BROKEN
    return Strength.WEAK if certificate.signature in WEAK_HASHES else Strength.GOOD


def _grade(bits: int, good: int, broken: int) -> Strength:
    if bits >= good:
        return Strength.GOOD
    return Strength.WEAK if bits >= broken else Strength.BROKEN


def _read(certificate: x509.Certificate, part: Callable[[x509.Certificate], _T], default: _T) -> _T:
    """A part of a certificate, which is parsed only now and may be malformed."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return part(certificate)
    except (
        ValueError,
        TypeError,
        OverflowError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.ExtensionNotFound,
        x509.UnsupportedGeneralNameType,
    ):
        return default


def _distinguished(name: x509.Name) -> str:
    return name.rfc4514_string()[:MAX_SUBJECT_CHARACTERS]


def _dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = names.get_values_for_type(x509.DNSName)[:MAX_NAMES]
    return tuple(name[:MAX_NAME_CHARACTERS] for name in found)


def _is_ca(certificate: x509.Certificate) -> bool:
    from cryptography import x509

    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def _key(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

    match certificate.public_key():
        case rsa.RSAPublicKey() as key:
            return f"rsa-{key.key_size}"
        case ec.EllipticCurvePublicKey() as key:
            return f"ecdsa-{key.key_size}"
        case dsa.DSAPublicKey() as key:
            return f"dsa-{key.key_size}"
        case ed25519.Ed25519PublicKey():
            return "ed25519"
        case ed448.Ed448PublicKey():
            return "ed448"
    return "unknown"


def _signature(certificate: x509.Certificate) -> str:
    algorithm = certificate.signature_hash_algorithm
    return algorithm.name if algorithm is not None else ""


def _spki_sha256(der: bytes) -> str:
    spki = spki_der(der)
    return hashlib.sha256(spki).hexdigest() if spki is not None else ""


def _issuer_organisation(certificate: x509.Certificate) -> str:
    from cryptography.x509.oid import NameOID

    found = certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(found[0].value) if found else ""


@lru_cache(maxsize=MAX_REMEMBERED)
def _is_link(der: bytes, issuer_der: bytes) -> bool:
    """Whether one certificate was issued by another."""
    from cryptography.exceptions import InvalidSignature

    certificate, issuer = load_certificate(der), load_certificate(issuer_der)
    if certificate is None or issuer is None:
        return False

    def is_verified(below: x509.Certificate) -> bool:
        below.verify_directly_issued_by(issuer)
        return True

    try:
        return _read(certificate, is_verified, default=False)
    except InvalidSignature:
        return False
