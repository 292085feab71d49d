# SPDX-License-Identifier: Apache-2.0
"""The rules of RFC 5280 §6 that a certification path has to keep, apart from signatures and dates.

Knows extensions and names; the path is complete, the leaf first, the trust anchor last. Imported
only where a path is judged, since it needs `cryptography`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

_KNOWN_CRITICAL: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        # Nothing here depends on a policy, so that a critical one restricts nothing.
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.INHIBIT_ANY_POLICY,
    }
)

_SERVER_PURPOSES: Final = frozenset(
    {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
)


def find_violation(path: Sequence[x509.Certificate]) -> str:
    """Judge a path.

    Args:
        path: The leaf first; each certificate issued by the next.

    Returns:
        A sentence on the first rule that is broken, or "".

    Raises:
        ValueError: An extension cannot be parsed.
    """
    for depth, certificate in enumerate(path):
        sentence = (
            _find_unknown_extension(certificate)
            or _find_wrong_purpose(certificate)
            or (
                _find_wrong_authority(path, depth) if depth else _find_wrong_leaf_usage(certificate)
            )
            or _find_constrained_name(certificate, path[:depth])
        )
        if sentence:
            return sentence
    return ""


def _find_unknown_extension(certificate: x509.Certificate) -> str:
    # RFC 5280 §4.2: an unknown critical extension refuses the certificate.
    if any(e.critical and e.oid not in _KNOWN_CRITICAL for e in certificate.extensions):
        return "a certificate has an unknown critical extension"
    return ""


def _find_wrong_purpose(certificate: x509.Certificate) -> str:
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    if usage is not None and _SERVER_PURPOSES.isdisjoint(usage):
        return "a certificate is not meant for TLS servers"
    return ""


def _find_wrong_leaf_usage(certificate: x509.Certificate) -> str:
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not (
        usage.digital_signature or usage.key_encipherment or usage.key_agreement
    ):
        return "the leaf's key is not meant for TLS"
    return ""


def _find_wrong_authority(path: Sequence[x509.Certificate], depth: int) -> str:
    certificate = path[depth]
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        return "a CA certificate may not sign certificates"
    if constraints is None:
        # As OpenSSL: a self-issued certificate of version 1, or one whose key usage says it all.
        is_old_root = (
            certificate.version is x509.Version.v1 and certificate.subject == certificate.issuer
        )
        return "" if is_old_root or usage is not None else "an issuer is not a CA"
    if not constraints.ca:
        return "an issuer is not a CA"
    # RFC 5280 §4.2.1.9: self-issued intermediates do not count.
    below = sum(c.subject != c.issuer for c in path[1:depth])
    if constraints.path_length is not None and below > constraints.path_length:
        return "the path is longer than a CA certificate allows"
    return ""


def _find_constrained_name(authority: x509.Certificate, below: Sequence[x509.Certificate]) -> str:
    constraints = _extension(authority, x509.NameConstraints)
    if constraints is None:
        return ""
    for depth, certificate in enumerate(below):
        # RFC 5280 §6.1.3: self-issued intermediates are exempt, the leaf is not.
        if depth and certificate.subject == certificate.issuer:
            continue
        for name in _names(certificate, is_leaf=depth == 0):
            if not _is_permitted(name, constraints):
                return "a name is outside the name constraints of a CA certificate"
    return ""


def _names(certificate: x509.Certificate, *, is_leaf: bool) -> Iterator[x509.GeneralName]:
    """Every name of a certificate that a constraint can be about."""
    if len(certificate.subject):
        yield x509.DirectoryName(certificate.subject)
    alternative = _extension(certificate, x509.SubjectAlternativeName)
    if alternative is not None:
        yield from alternative
    if is_leaf and not (alternative and alternative.get_values_for_type(x509.DNSName)):
        # The common name stands in for DNS names (RFC 7672 §3.2.3), so it is held to them.
        for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
            text = str(attribute.value)
            if text.isascii() and "." in text:
                yield x509.DNSName(text)


def _is_permitted(name: x509.GeneralName, constraints: x509.NameConstraints) -> bool:
    permitted = [t for t in constraints.permitted_subtrees or () if type(t) is type(name)]
    excluded = [t for t in constraints.excluded_subtrees or () if type(t) is type(name)]
    if not isinstance(name, x509.DNSName | x509.DirectoryName):
        return not permitted and not excluded
    if any(_is_within(name, tree) for tree in excluded):
        return False
    return not permitted or any(_is_within(name, tree) for tree in permitted)


def _is_within(name: x509.GeneralName, tree: x509.GeneralName) -> bool:
    if isinstance(name, x509.DNSName) and isinstance(tree, x509.DNSName):
        return _is_dns_within(name.value.lower(), tree.value.lower())
    if isinstance(name, x509.DirectoryName) and isinstance(tree, x509.DirectoryName):
        prefix = list(tree.value.rdns)
        return list(name.value.rdns)[: len(prefix)] == prefix
    return False


def _is_dns_within(name: str, tree: str) -> bool:
    # RFC 5280 §4.2.1.10: labels may be added on the left; OpenSSL also knows a leading dot.
    if not tree:
        return True
    if tree.startswith("."):
        return name.endswith(tree)
    return name == tree or name.endswith("." + tree)


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
