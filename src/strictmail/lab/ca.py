# SPDX-License-Identifier: Apache-2.0
"""A throw-away certification authority: root, intermediate, and certificates with faults.

The chain is root -> intermediate -> host. Validity is relative to the machine's own clock, since
that is what TLS libraries look at. Keys are P-256, and for hosts with two chains RSA; they are made
anew for every lab, and never leave its directory.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from strictmail.core.names import parent
from strictmail.lab.entries import CertFault

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

DAY: Final = timedelta(days=1)
HOST_LIFE: Final = 90 * DAY
CA_LIFE: Final = 3650 * DAY
WRONG_NAME: Final = "somebody-else.test"
RSA_BITS: Final = 2048

_Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a host shows: its chain, leaf first, and the file with key and chain.

    With `both-keys`, `other` is its second one, with an RSA key.
    """

    chain: tuple[x509.Certificate, ...]
    chain_file: Path
    other: Credentials | None = None

    @property
    def chain_files(self) -> tuple[Path, ...]:
        """The files of all its chains."""
        return (self.chain_file, *(self.other.chain_files if self.other is not None else ()))

    @property
    def leaf(self) -> x509.Certificate:
        """The host's own certificate."""
        return self.chain[0]


@dataclass(frozen=True, slots=True)
class _Issuer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class _Validity:
    start: datetime
    end: datetime


class CertificateAuthority:
    """The lab's web PKI.

    Attributes:
        ca_file: PEM file with the root that the lab's customers are to trust.
        root: That root.
        intermediate: What signs the hosts' certificates.
    """

    def __init__(self, directory: Path, now: datetime) -> None:
        """Make the authority.

        Args:
            directory: Where its files go; must exist.
            now: The machine's own time.
        """
        self._directory = directory
        self._now = now
        self._count = 0
        self._rsa_key: rsa.RSAPrivateKey | None = None
        self._issued: dict[tuple[object, ...], Credentials] = {}
        always = _Validity(now - CA_LIFE, now + CA_LIFE)
        self._root = _make_ca("strictmail lab root", None, always)
        self._intermediate = _make_ca("strictmail lab intermediate", self._root, always)
        past = _Validity(now - CA_LIFE, now - DAY)
        self._expired = _make_ca("strictmail lab expired intermediate", self._root, past)
        self._untrusted = _make_ca("strictmail lab untrusted root", None, always)
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(_pem(self._root.certificate))

    @property
    def root(self) -> x509.Certificate:
        """The certificate in `ca_file`."""
        return self._root.certificate

    @property
    def intermediate(self) -> x509.Certificate:
        """The certificate that hosts' certificates are signed with."""
        return self._intermediate.certificate

    def issue(
        self, fault: CertFault, name: str, *, domain: str, address: str, names: tuple[str, ...] = ()
    ) -> Credentials:
        """Make the credentials of a host; the same ones for the same arguments.

        Args:
            fault: What is to be wrong.
            name: The host's name.
            domain: The mail domain it works for.
            address: Its address.
            names: With `several-names`: the DNS names; with others, instead of `name`.
        """
        key = (fault, name, domain, address, names)
        if key not in self._issued:
            self._issued[key] = self._make(fault, name, domain, address, names)
        return self._issued[key]

    def _make(
        self, fault: CertFault, name: str, domain: str, address: str, names: tuple[str, ...]
    ) -> Credentials:
        if fault is CertFault.BOTH_KEYS:
            alike = (name, domain, address, names)
            first = self._certify(CertFault.GOOD, ec.generate_private_key(ec.SECP256R1()), *alike)
            return replace(first, other=self._certify(CertFault.GOOD, self._rsa(), *alike))
        return self._certify(
            fault, ec.generate_private_key(ec.SECP256R1()), name, domain, address, names
        )

    def _rsa(self) -> rsa.RSAPrivateKey:
        """One for all hosts: they take long to make."""
        if self._rsa_key is None:
            self._rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        return self._rsa_key

    def _certify(
        self,
        fault: CertFault,
        key: _Key,
        name: str,
        domain: str,
        address: str,
        names: tuple[str, ...],
    ) -> Credentials:
        issuer, chain = self._issuer(fault)
        # One fault at a time: the name may not be found in the subject instead.
        subject = address if fault is CertFault.ADDRESS_ONLY else name
        builder = _builder(subject, key, self._validity(fault))
        san = _alternative_names(fault, name, domain, address, names)
        if san:
            builder = builder.add_extension(x509.SubjectAlternativeName(san), critical=False)
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        ).add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        if issuer is None:
            leaf = _sign(builder, _name(name), key)
        else:
            leaf = _sign(builder, issuer.certificate.subject, issuer.key)
        return self._store(key, (leaf, *chain))

    def _validity(self, fault: CertFault) -> _Validity:
        if fault is CertFault.EXPIRED:
            return _Validity(self._now - HOST_LIFE, self._now - DAY)
        if fault is CertFault.NOT_YET_VALID:
            return _Validity(self._now + DAY, self._now + HOST_LIFE)
        return _Validity(self._now - DAY, self._now + HOST_LIFE)

    def _issuer(self, fault: CertFault) -> tuple[_Issuer | None, tuple[x509.Certificate, ...]]:
        """Who signs (None: the host itself), and what is sent along with the leaf."""
        match fault:
            case CertFault.SELF_SIGNED:
                return None, ()
            case CertFault.UNTRUSTED_CA:
                return self._untrusted, (self._untrusted.certificate,)
            case CertFault.MISSING_INTERMEDIATE:
                return self._intermediate, ()
            case CertFault.EXPIRED_INTERMEDIATE:
                return self._expired, (self._expired.certificate,)
            case _:
                # RFC 7672 §3.1.2: with DANE-TA the root belongs into the chain (DANE-68).
                return self._intermediate, (self.intermediate, self.root)

    def _store(self, key: _Key, chain: tuple[x509.Certificate, ...]) -> Credentials:
        self._count += 1
        path = self._directory / f"host-{self._count}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.touch(mode=0o600)
        path.write_bytes(private + b"".join(map(_pem, chain)))
        return Credentials(chain, path)


def _alternative_names(
    fault: CertFault, name: str, domain: str, address: str, names: tuple[str, ...]
) -> list[x509.GeneralName]:
    match fault:
        case CertFault.COMMON_NAME_ONLY:
            return []
        case CertFault.ADDRESS_ONLY:
            return [x509.IPAddress(ipaddress.ip_address(address))]
        case CertFault.WRONG_NAME:
            wanted: tuple[str, ...] = (WRONG_NAME,)
        case CertFault.DOMAIN_ONLY:
            wanted = (domain,)
        case CertFault.WILDCARD:
            wanted = (f"*.{parent(name)}",)
        case CertFault.WILDCARD_TOO_HIGH:
            wanted = (f"*.{parent(parent(name))}",)
        case CertFault.PARTIAL_WILDCARD:
            wanted = (f"{name[0]}*.{parent(name)}",)
        case _:
            wanted = names or (name,)
    return [x509.DNSName(text) for text in wanted]


def _make_ca(common_name: str, parent_ca: _Issuer | None, validity: _Validity) -> _Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(common_name, key, validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    if parent_ca is None:
        return _Issuer(_sign(builder, _name(common_name), key), key)
    return _Issuer(_sign(builder, parent_ca.certificate.subject, parent_ca.key), key)


def _name(common_name: str) -> x509.Name:
    # A common name has at most 64 characters (X.520).
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _builder(common_name: str, key: _Key, validity: _Validity) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.start)
        .not_valid_after(validity.end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _sign(builder: x509.CertificateBuilder, issuer_name: x509.Name, key: _Key) -> x509.Certificate:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = builder.issuer_name(issuer_name).add_extension(authority, critical=False)
    return builder.sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
