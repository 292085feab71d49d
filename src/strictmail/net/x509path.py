# SPDX-License-Identifier: Apache-2.0
"""What a single certificate on a path is good for, and what to call it in a sentence.

OpenSSL judges purposes and strength only inside a TLS session, and `strictmail.net.x509` asks it
outside of one: these are the rules that would be missing. Knows certificates, no stores, no names.

Choice: strength is judged as at OpenSSL's security level 1, its default up to 3.1; Debian's
Postfix wants RSA keys of 2048 bits, which every public authority does as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.core.check.facts import PkixProblem
from strictmail.core.dane.tlsa import load_certificate
from strictmail.core.tagrecord import quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

MIN_RSA_BITS: Final = 1024
"""Of an RSA or DSA key."""

MIN_EC_BITS: Final = 160
WEAK_HASHES: Final = frozenset({"md5", "md4", "md2", "sha1"})
"""What OpenSSL 3 refuses at security level 1."""

_TIME_FORM: Final = "%Y-%m-%d %H:%M:%SZ"


def describe(problem: PkixProblem, certificate_der: bytes, message: str) -> str:
    """A sentence on what OpenSSL has against a certificate.

    Args:
        problem: What its error code stands for.
        certificate_der: The certificate that it named.
        message: Its own words, for what has none here.
    """
    certificate = load_certificate(certificate_der)
    if certificate is None:
        return message
    say = _SENTENCES.get(problem)
    return say(certificate) if say else f"{called(certificate)}: {message}"


def called(certificate: x509.Certificate) -> str:
    """What to call a certificate: its subject, escaped."""
    return f"the certificate {quote(certificate.subject.rfc4514_string())}"


def expired(certificate: x509.Certificate) -> str:
    """A sentence: it is over."""
    return f"{called(certificate)} expired at {certificate.not_valid_after_utc:{_TIME_FORM}}"


def not_yet_valid(certificate: x509.Certificate) -> str:
    """A sentence: it has not begun."""
    begin = certificate.not_valid_before_utc
    return f"{called(certificate)} is not valid before {begin:{_TIME_FORM}}"


def _self_signed(certificate: x509.Certificate) -> str:
    return f"{called(certificate)} signed itself"


def _untrusted_root(certificate: x509.Certificate) -> str:
    return f"the chain ends in {called(certificate)}, which is no root that we know"


def _missing_intermediate(certificate: x509.Certificate) -> str:
    issuer = quote(certificate.issuer.rfc4514_string())
    what = "was not sent, and is no root that we know"
    return f"the issuer of {called(certificate)}, {issuer}, {what}"


_SENTENCES: Final[dict[PkixProblem, Callable[[x509.Certificate], str]]] = {
    PkixProblem.EXPIRED: expired,
    PkixProblem.NOT_YET_VALID: not_yet_valid,
    PkixProblem.SELF_SIGNED: _self_signed,
    PkixProblem.UNTRUSTED_ROOT: _untrusted_root,
    PkixProblem.MISSING_INTERMEDIATE: _missing_intermediate,
}


def is_for_servers(certificate: x509.Certificate, *, is_leaf: bool) -> bool:
    """Whether it may be in the path of a TLS server, as OpenSSL's purpose `sslserver` has it.

    Raises:
        ValueError: An extension cannot be parsed; also other errors of `cryptography`.
    """
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    extensions = {type(e.value): e.value for e in certificate.extensions}
    purposes = extensions.get(x509.ExtendedKeyUsage)
    # RFC 5280 §4.2.1.12; OpenSSL does not take anyExtendedKeyUsage for it.
    server = ExtendedKeyUsageOID.SERVER_AUTH
    if isinstance(purposes, x509.ExtendedKeyUsage) and server not in purposes:
        return False
    usage = extensions.get(x509.KeyUsage)
    if is_leaf and isinstance(usage, x509.KeyUsage):
        return usage.digital_signature or usage.key_encipherment or usage.key_agreement
    return True


def has_weak_key(certificate: x509.Certificate) -> bool:
    """Whether its key is too short; an unknown kind of key is not judged."""
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey):
        return key.key_size < MIN_RSA_BITS
    return isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < MIN_EC_BITS


def has_weak_signature(certificate: x509.Certificate) -> bool:
    """Whether its signature is over a hash that can be forged."""
    hashed = certificate.signature_hash_algorithm
    return hashed is not None and hashed.name in WEAK_HASHES
