# SPDX-License-Identifier: Apache-2.0
"""A presented certificate chain against TLSA records: DANE-EE(3) and DANE-TA(2).

Certificates are DER, as the server sent them, the leaf first; time and names are arguments.
`cryptography` checks signatures; the path is built and judged here, because a DANE trust anchor
may come from DNS and need not be self-signed.

What is judged on a DANE-TA path, as OpenSSL (and so Postfix) judges it: signatures and issuer
names; dates of every certificate, the anchor's included; CA flag, path length, certificate
signing and server purpose; no unknown critical extension; name constraints on DNS names and on
directory names. What is not: revocation, certificate policies, how strong a signature algorithm
is beyond what `cryptography` accepts. A name constraint of another form (e-mail, address, URI)
counts as violated when a certificate below it holds a name of that form.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from strictmail.core.certname import CertContext, match_certificate
from strictmail.core.dane.tlsa import (
    CERT,
    DANE_EE,
    DANE_TA,
    DEFAULT_USABILITY,
    DIGEST_ORDER,
    FULL,
    SHA2_256,
    SPKI,
    Usability,
    load_certificate,
    select_by_agility,
)
from strictmail.core.tlsrpt.results import ResultType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from cryptography import x509

    from strictmail.core.dnsvalues import Tlsa

MAX_CHAIN_CERTIFICATES: Final = 32
"""Certificates of a presented chain that are looked at."""

MAX_PATH_CERTIFICATES: Final = 10
MAX_SIGNATURE_CHECKS: Final = 64


class DaneOutcome(enum.Enum):
    """What a chain is worth before these records."""

    AUTHENTICATED = "authenticated"
    NO_USABLE_RECORD = "no-usable-record"
    """Nothing to authenticate with: TLS without authentication is all that is asked."""
    MISMATCH = "mismatch"
    """No record matches a certificate of the chain."""
    UNTRUSTED = "untrusted"
    """A trust anchor matches, but the leaf does not validate up to it."""
    EXPIRED = "expired"
    """The same, and a date is the cause: expired or not yet valid."""
    NAME = "name"
    """The path is good; no reference identifier is in the leaf certificate."""


_RESULT_TYPES: Final = {
    DaneOutcome.AUTHENTICATED: None,
    DaneOutcome.NO_USABLE_RECORD: ResultType.TLSA_INVALID,
    DaneOutcome.MISMATCH: ResultType.TLSA_INVALID,
    DaneOutcome.UNTRUSTED: ResultType.CERTIFICATE_NOT_TRUSTED,
    DaneOutcome.EXPIRED: ResultType.CERTIFICATE_EXPIRED,
    DaneOutcome.NAME: ResultType.CERTIFICATE_HOST_MISMATCH,
}


@dataclass(frozen=True, slots=True)
class DaneResult:
    """The verdict on one presented chain.

    Attributes:
        outcome: Use the host only if this is AUTHENTICATED; else the next host, or a delay.
        record: The record it rests on: matched, or matched by an anchor that leads nowhere.
        depth: Where in the path that record matched: 0 for the leaf; None without a match.
        detail: A sentence for people; holds nothing that the server chose.
    """

    outcome: DaneOutcome
    record: Tlsa | None = None
    depth: int | None = None
    detail: str = ""

    @property
    def is_authenticated(self) -> bool:
        """Whether mail may be sent through this session."""
        return self.outcome is DaneOutcome.AUTHENTICATED

    @property
    def result_type(self) -> ResultType | None:
        """The result type to report (RFC 8460 §4.3), or None for a success."""
        return _RESULT_TYPES[self.outcome]


class DaneNames(NamedTuple):
    """What to call a host under DANE.

    Attributes:
        sni: The name to send in the TLS handshake.
        reference_ids: The names to accept with DANE-TA, the primary one first.
    """

    sni: str
    reference_ids: tuple[str, ...]


def dane_names(
    *,
    base_domain: str,
    nexthop: str,
    nexthop_expanded: str = "",
    mx_host: str | None = None,
    mx_secure: bool = False,
) -> DaneNames:
    """Choose the SNI and the reference identifiers of one host.

    Args:
        base_domain: Where its usable TLSA records were found.
        nexthop: The next-hop domain that mail is for, before any alias is followed.
        nexthop_expanded: The end of the next-hop's secure CNAME chain, or "".
        mx_host: The name in the MX record; None where no MX record was used.
        mx_secure: The MX RRset was secure. Of no matter where no MX record was used.
    """
    # RFC 7672 §8.1: SNI carries the TLSA base domain (DANE-73).
    ids = reference_ids(
        base_domain=base_domain,
        nexthop=nexthop,
        nexthop_expanded=nexthop_expanded,
        mx_host=mx_host,
        mx_secure=mx_secure,
    )
    return DaneNames(base_domain, ids)


def reference_ids(
    *,
    base_domain: str,
    nexthop: str,
    nexthop_expanded: str = "",
    mx_host: str | None = None,
    mx_secure: bool = False,
) -> tuple[str, ...]:
    """The names that a DANE-TA leaf certificate may hold; arguments as for `dane_names`.

    Spec: RFC 7672 §3.2.2.
    """
    # RFC 7672 §3.2.2: the TLSA base domain is always the primary identifier (DANE-63).
    names = [base_domain]
    if mx_host is None:
        # RFC 7672 §3.2.2: without MX records and with an expanded base domain, the original name
        # is accepted too (DANE-64).
        names.append(nexthop)
    elif mx_secure:
        # RFC 7672 §3.2.2: a secure MX RRset adds the next-hop and its expansion (DANE-63).
        names += [nexthop, nexthop_expanded]
    else:
        # RFC 7672 §3.2.2: behind an insecure one the MX host counts, never the next-hop (DANE-24,
        # DANE-63). Spec-silent: for an alias that is its name and the base domain.
        names.append(mx_host)
    return tuple(dict.fromkeys(name for name in names if name))


def authenticate(
    records: Sequence[Tlsa],
    chain_der: Sequence[bytes],
    reference_ids: Sequence[str],
    now: datetime,
    *,
    digest_order: Sequence[int] = DIGEST_ORDER,
    usability: Usability = DEFAULT_USABILITY,
) -> DaneResult:
    """Authenticate a server by its TLSA records.

    Args:
        records: The secure TLSA RRset at the base domain, unusable records included.
        chain_der: What the server presented, the leaf first; the rest in any order. Only the
            first MAX_CHAIN_CERTIFICATES are looked at.
        reference_ids: As `reference_ids(...)` gives them; only DANE-TA looks at them.
        now: Aware.
        digest_order: Matching types, strongest first.
        usability: Local policy on what is too weak.

    Spec: RFC 7672 §3, RFC 7671 §5, §9.
    """
    chosen = select_by_agility(records, digest_order, usability)
    if not chosen:
        return DaneResult(DaneOutcome.NO_USABLE_RECORD, detail="no TLSA record is usable")
    if not chain_der:
        return DaneResult(DaneOutcome.MISMATCH, detail="the server presented no certificate")
    # RFC 7672 §3.1.1: a matching leaf is enough: dates, names and chain are not looked at (DANE-60,
    # DANE-61).
    for record in chosen:
        if record.usage == DANE_EE and matches(record, chain_der[0]):
            return DaneResult(DaneOutcome.AUTHENTICATED, record, 0, "the leaf matches")
    anchors = [record for record in chosen if record.usage == DANE_TA]
    if anchors:
        return _Authority(anchors, chain_der[:MAX_CHAIN_CERTIFICATES], now).judge(reference_ids)
    # RFC 7672 §3.2: usable records, none matches: this host gets no mail; the next one, or a
    # delay, never a bounce (DANE-74, DANE-75).
    return DaneResult(DaneOutcome.MISMATCH, detail="no TLSA record matches the leaf")


def matches(record: Tlsa, certificate_der: bytes) -> bool:
    """Whether a record's data is that of a certificate; says nothing about its usage.

    Spec: RFC 6698 §2.1.
    """
    subject = certificate_der if record.selector == CERT else spki_der(certificate_der)
    if subject is None:
        return False
    if record.mtype == FULL:
        return record.data == subject
    digest = hashlib.sha256 if record.mtype == SHA2_256 else hashlib.sha512
    return record.data == digest(subject).digest()


class _Fault(Exception):  # noqa: N818 - stays in this module
    """Why one path is not good."""

    def __init__(self, outcome: DaneOutcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


class _Authority:
    """One presented chain before the DANE-TA records."""

    def __init__(self, anchors: Sequence[Tlsa], chain_der: Sequence[bytes], now: datetime) -> None:
        self._anchors = anchors
        self._now = now
        self._checks_left = MAX_SIGNATURE_CHECKS
        self._leaf = _load(chain_der[0])
        # RFC 7671 §5.2.2: a certificate in DNS takes part even if the server omits it (DANE-69).
        in_dns = [r.data for r in anchors if r.selector == CERT and r.mtype == FULL]
        ders = dict.fromkeys([*chain_der[1:], *in_dns])
        self._pool = [c for der in ders if der != chain_der[0] and (c := _load(der)) is not None]
        # RFC 7671 §5.2.3: a key in DNS may have signed the topmost certificate (DANE-70).
        self._keys = [r for r in anchors if r.selector == SPKI and r.mtype == FULL]

    def judge(self, reference_ids: Sequence[str]) -> DaneResult:
        if self._leaf is None:
            return DaneResult(DaneOutcome.MISMATCH, detail="the leaf is not a certificate")
        best: DaneResult | None = None
        for path, record, depth in self._anchored_paths([self._leaf]):
            try:
                # RFC 7672 §3.1.2: the leaf validates up to the anchor, and is named (DANE-62).
                self._check_path(path)
                _check_name(self._leaf, reference_ids)
            except _Fault as fault:
                best = best or DaneResult(fault.outcome, record, depth, fault.detail)
            else:
                detail = "the leaf validates up to a trust anchor"
                return DaneResult(DaneOutcome.AUTHENTICATED, record, depth, detail)
        return best or self._unanchored()

    def _unanchored(self) -> DaneResult:
        for certificate in self._pool:
            record = self._match_anchor(certificate)
            if record is not None:
                detail = "a trust anchor is in the chain, but did not issue the leaf"
                return DaneResult(DaneOutcome.UNTRUSTED, record, None, detail)
        return DaneResult(DaneOutcome.MISMATCH, detail="no TLSA record matches the chain")

    def _anchored_paths(
        self, path: list[x509.Certificate]
    ) -> Iterator[tuple[list[x509.Certificate], Tlsa, int]]:
        """Paths from the leaf to an anchor, with the record and the depth it matched at."""
        # RFC 7671 §5.2: an anchor is a CA certificate; a leaf that matches is none (DANE-72).
        if len(path) > 1 and (record := self._match_anchor(path[-1])) is not None:
            yield path, record, len(path) - 1
            return
        if len(path) < MAX_PATH_CERTIFICATES:
            for issuer in self._pool:
                if issuer not in path and self._is_issued_by(path[-1], issuer):
                    yield from self._anchored_paths([*path, issuer])
        for record in self._keys:
            if self._is_signed_by_key(path[-1], record.data):
                yield path, record, len(path)

    def _match_anchor(self, certificate: x509.Certificate) -> Tlsa | None:
        der = _der(certificate)
        return next((record for record in self._anchors if matches(record, der)), None)

    def _is_issued_by(self, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

        if certificate.issuer != issuer.subject or not self._may_check():
            return False
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True

    def _is_signed_by_key(self, certificate: x509.Certificate, spki: bytes) -> bool:
        return self._may_check() and _verify_with_key(certificate, spki)

    def _may_check(self) -> bool:
        """Bound the work that a server with many look-alike certificates can cause."""
        self._checks_left -= 1
        return self._checks_left >= 0

    def _check_path(self, path: Sequence[x509.Certificate]) -> None:
        for depth, certificate in enumerate(path):
            # RFC 7672 §3.1.2: an expired certificate ends the path, unlike with DANE-EE (DANE-62).
            if not certificate.not_valid_before_utc <= self._now <= certificate.not_valid_after_utc:
                what = "the leaf" if depth == 0 else "a CA certificate"
                raise _Fault(DaneOutcome.EXPIRED, f"{what} is expired or not yet valid")
        # RFC 7672 §3.1.2: constraints of the anchor's certificate apply with Cert(0) (DANE-71).
        # Departs: with SPKI(1) as well, since OpenSSL, and so the MTAs, apply them there too.
        from strictmail.core.dane.pathrules import find_violation

        try:
            violation = find_violation(path)
        except ValueError:
            violation = "an extension cannot be parsed"
        if violation:
            raise _Fault(DaneOutcome.UNTRUSTED, violation)


def _check_name(leaf: x509.Certificate, reference_ids: Sequence[str]) -> None:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns_names = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        dns_names = []
    # RFC 7672 §3.2.3: the common name counts only without DNS-IDs (DANE-65).
    common_names = [str(a.value) for a in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    common_name = common_names[-1] if common_names else None
    if not match_certificate(CertContext.DANE_TA, reference_ids, dns_names, common_name):
        raise _Fault(DaneOutcome.NAME, "the certificate names none of the reference identifiers")


def _load(der: bytes) -> x509.Certificate | None:
    from cryptography import x509

    certificate = load_certificate(der)
    if certificate is None:
        return None
    try:
        # These are parsed late: a certificate that cannot be read is no certificate.
        _ = certificate.subject, certificate.issuer, certificate.extensions
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None
    return certificate


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def _verify_with_key(certificate: x509.Certificate, spki: bytes) -> bool:
    """Whether a bare public key made a certificate's signature."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        key = load_der_public_key(spki)
        how = certificate.signature_algorithm_parameters
        match key:
            case rsa.RSAPublicKey() if isinstance(how, padding.PKCS1v15 | padding.PSS):
                algorithm = certificate.signature_hash_algorithm
                if algorithm is None:
                    return False
                key.verify(signature, signed, how, algorithm)
            case ec.EllipticCurvePublicKey() if isinstance(how, ec.ECDSA):
                key.verify(signature, signed, how)
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                key.verify(signature, signed)
            case _:
                return False
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


_SEQUENCE: Final = 0x30
_CONTEXT_0: Final = 0xA0
_FIELDS_BEFORE_SPKI: Final = 5
"""Serial number, signature algorithm, issuer, validity, subject."""


@lru_cache(maxsize=256)
def spki_der(certificate_der: bytes) -> bytes | None:
    """Cut the SubjectPublicKeyInfo out of a certificate, byte for byte (RFC 5280 §4.1).

    Re-encoding a parsed key could change it, and keys of unknown kinds could not be read.
    """
    certificate = _element(certificate_der, 0)
    body = _element(certificate_der, certificate.begin) if certificate else None
    if not certificate or not body or certificate.tag != _SEQUENCE or body.tag != _SEQUENCE:
        return None
    at = body.begin
    version = _element(certificate_der, at)
    if version and version.tag == _CONTEXT_0:
        at = version.end
    for _ in range(_FIELDS_BEFORE_SPKI):
        field = _element(certificate_der, at)
        if field is None:
            return None
        at = field.end
    key = _element(certificate_der, at)
    if key is None or key.tag != _SEQUENCE or key.end > body.end:
        return None
    return certificate_der[at : key.end]


class _Element(NamedTuple):
    """A DER element: its tag, where its content begins, where it ends."""

    tag: int
    begin: int
    end: int


def _element(data: bytes, at: int) -> _Element | None:
    """The DER element at an offset; None if it does not fit."""
    if at + 2 > len(data):
        return None
    length, begin = data[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        # More than four octets of length: no certificate is that long.
        if not 1 <= octets <= 4 or begin + octets > len(data):  # noqa: PLR2004
            return None
        length = int.from_bytes(data[begin : begin + octets], "big")
        begin += octets
    end = begin + length
    return _Element(data[at], begin, end) if end <= len(data) else None
