# SPDX-License-Identifier: Apache-2.0
"""A domain at which nothing is wrong, as facts, and the pieces to make another one of it.

`domain_facts()` is `example.com` with everything: a signed zone, two MX hosts with IPv4 and IPv6,
DANE-EE records that match, a policy in mode enforce that allows both, TLSRPT. A test changes the
one thing that it is about. Certificates are made once in a run, below one root that is not sent;
all times are counted from LOOKED_AT.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from strictmail.core.check.facts import (
    DomainFacts,
    HostFacts,
    KeyType,
    PkixFacts,
    PkixProblem,
    PolicyHostLook,
    PortState,
    ProbeFacts,
    ProbeOutcome,
    ProbeTarget,
    TlsFacts,
)
from strictmail.core.dnsvalues import Answer, Mx, RecordType, Status, Tlsa
from strictmail.core.mxset import MxHost, MxSet, MxStatus, TlsaState
from strictmail.core.sts.fetchrules import judge_body
from strictmail.core.sts.lifecycle import PolicyEntry
from strictmail.core.sts.values import FetchedPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from strictmail.core.check.kinds import Kind
    from strictmail.core.check.result import Finding
    from strictmail.core.dnsvalues import Record
    from strictmail.core.sts.values import FetchFailure

LOOKED_AT: Final = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

DOMAIN: Final = "example.com"
MX1: Final = "mx1.example.com"
MX2: Final = "mx2.example.com"
POLICY_HOST: Final = "mta-sts.example.com"

IPV4: Final = {MX1: "192.0.2.1", MX2: "192.0.2.2", POLICY_HOST: "192.0.2.80"}
IPV6: Final = {MX1: "2001:db8::1", MX2: "2001:db8::2", POLICY_HOST: "2001:db8::80"}

NETWORKS: Final = ("192.0.2.0/24", "2001:db8::/32")
"""Documentation addresses count as public in these facts."""

POLICY_ID: Final = "20260301120000"

BODY: Final = (
    b"version: STSv1\r\nmode: enforce\r\nmx: mx1.example.com\r\nmx: mx2.example.com\r\n"
    b"max_age: 2592000\r\n"
)

TTL: Final = 3600

_PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def answer(
    name: str,
    rdtype: RecordType,
    *records: Record,
    secure: bool = True,
    status: Status | None = None,
    canonical_name: str = "",
    ttl: int = TTL,
    detail: str = "",
) -> Answer:
    """An answer: with records OK, without them NODATA, unless a status is given."""
    return Answer(
        name=name,
        rdtype=rdtype,
        status=status or (Status.OK if records else Status.NODATA),
        secure=secure,
        records=records,
        canonical_name=canonical_name or name,
        ttl=ttl,
        detail=detail,
    )


def txt(name: str, *records: bytes, **changes: Any) -> Answer:
    """TXT records of one character-string each."""
    return answer(name, RecordType.TXT, *((record,) for record in records), **changes)


def addresses(name: str, *found: str, **changes: Any) -> tuple[Answer, Answer]:
    """The answers for A and AAAA."""
    return (
        answer(name, RecordType.A, *(a for a in found if ":" not in a), **changes),
        answer(name, RecordType.AAAA, *(a for a in found if ":" in a), **changes),
    )


@cache
def private_key(kind: str, owner: str) -> _PrivateKey:
    """The key of an owner, always the same one in a run.

    Kinds: `ecdsa-256`, `ecdsa-384`, `rsa-2048`, `rsa-1024`.
    """
    family, _, bits = kind.partition("-")
    if family == "rsa":
        return rsa.generate_private_key(65537, int(bits))
    return ec.generate_private_key(ec.SECP384R1() if bits == "384" else ec.SECP256R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


ROOT_NAME: Final = "Example Root"
INTERMEDIATE_NAME: Final = "Example Intermediate"


@cache
def authority(subject: str, issuer: str) -> bytes:
    """A CA certificate, DER: the root, or the intermediate below it."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(private_key("ecdsa-256", subject).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(LOOKED_AT - timedelta(days=1000))
        .not_valid_after(LOOKED_AT + timedelta(days=2000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return builder.sign(private_key("ecdsa-256", issuer), hashes.SHA256()).public_bytes(
        Encoding.DER
    )


@cache
def leaf(
    *names: str,
    days_left: float = 60,
    days_old: float = 30,
    key: str = "ecdsa-256",
    owner: str = "",
    self_signed: bool = False,
    sha: str = "sha256",
) -> bytes:
    """A server certificate for these names, DER.

    `owner` tells keys of one kind apart; `sha` is the hash of the signature.
    """
    own = private_key(key, owner)
    subject = _name(names[0] if names else "nobody")
    signer = own if self_signed else private_key("ecdsa-256", INTERMEDIATE_NAME)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if self_signed else _name(INTERMEDIATE_NAME))
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(LOOKED_AT - timedelta(days=days_old))
        .not_valid_after(LOOKED_AT + timedelta(days=days_left))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
    return builder.sign(signer, getattr(hashes, sha.upper())()).public_bytes(Encoding.DER)


_RSA_WITH: Final = bytes.fromhex("06092a864886f70d0101")
"""The object identifier of RSA signatures, up to the octet that says with which hash."""


def leaf_with_hash(name: str, sha: str) -> bytes:
    """A certificate that says it was signed by RSA with `sha1` or `md5`, DER.

    Nothing makes such a signature any more, so the name of the hash is written over another one;
    the signature does not verify.
    """
    der = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(INTERMEDIATE_NAME))
        .public_key(private_key("ecdsa-256", "").public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(LOOKED_AT - timedelta(days=30))
        .not_valid_after(LOOKED_AT + timedelta(days=60))
        .sign(private_key("rsa-2048", INTERMEDIATE_NAME), hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    octet = {"md5": b"\x04", "sha1": b"\x05"}[sha]
    return der.replace(_RSA_WITH + b"\x0b", _RSA_WITH + octet)


def root() -> bytes:
    """The trust anchor, which no server sends."""
    return authority(ROOT_NAME, ROOT_NAME)


def intermediate() -> bytes:
    """The issuer of every leaf."""
    return authority(INTERMEDIATE_NAME, ROOT_NAME)


def chain(*names: str, **changes: Any) -> tuple[bytes, ...]:
    """What a server for these names presents: leaf, intermediate. Changes are those of `leaf`."""
    return (leaf(*names, **changes), intermediate())


def tlsa(certificate: bytes, usage: int = 3, selector: int = 1, mtype: int = 1) -> Tlsa:
    """The TLSA record that matches a certificate."""
    data = certificate
    if selector == 1:
        public_key = x509.load_der_x509_certificate(certificate).public_key()
        data = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if mtype:
        data = hashlib.new({1: "sha256", 2: "sha512"}[mtype], data).digest()
    return Tlsa(usage, selector, mtype, data)


def tls(
    name: str,
    *,
    chain_der: Sequence[bytes] | None = None,
    problems: Iterable[PkixProblem] = (),
    **changes: Any,
) -> TlsFacts:
    """A session with a host of this name, valid unless problems are given."""
    values: dict[str, Any] = {
        "version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "server_name": name,
        "asked_key_type": KeyType.ANY,
        "key_type": KeyType.ECDSA,
        "chain_der": tuple(chain(name) if chain_der is None else chain_der),
        "pkix": PkixFacts(name, tuple(problems)),
    }
    return TlsFacts(**(values | changes))


def probe(name: str, address: str, **changes: Any) -> ProbeFacts:
    """A session with one address of an MX host, all well.

    Another `outcome` leaves the TLS session out, unless `tls` is given, too.
    """
    outcome = changes.get("outcome", ProbeOutcome.TLS)
    values: dict[str, Any] = {
        "target": ProbeTarget(name, address, name),
        "outcome": outcome,
        "at": LOOKED_AT,
        "tls": tls(name) if outcome is ProbeOutcome.TLS else None,
        "helo": name,
        "seconds": 0.2,
    }
    return ProbeFacts(**(values | changes))


def host(name: str, preference: int = 10, **changes: Any) -> HostFacts:
    """An MX host with an IPv4 and an IPv6 address, both with a good session."""
    found = (IPV4.get(name, "192.0.2.9"), IPV6.get(name, "2001:db8::9"))
    values: dict[str, Any] = {
        "addresses": addresses(name, *found),
        "tlsrpt": txt(f"_smtp._tls.{name}"),
    }
    if "probes" not in changes:
        values["probes"] = tuple(probe(name, address) for address in found)
    return HostFacts(name=name, preference=preference, **(values | changes))


def mx_host(name: str, preference: int = 10, **changes: Any) -> MxHost:
    """What DANE says of a host: a DANE-EE record that matches its certificate."""
    values: dict[str, Any] = {
        "tlsa_state": TlsaState.USABLE,
        "tlsa_base_domain": name,
        "tlsa": (tlsa(leaf(name)),),
    }
    return MxHost(name=name, preference=preference, **(values | changes))


def mx_answer(*records: tuple[int, str], **changes: Any) -> Answer:
    """The answer for MX at DOMAIN."""
    return answer(DOMAIN, RecordType.MX, *(Mx(*record) for record in records), **changes)


def fetched(body: bytes) -> FetchedPolicy | FetchFailure:
    """What a fetch makes of a body that came whole."""
    return judge_body(body)


def look(address: str, **changes: Any) -> PolicyHostLook:
    """The policy host at one address, all well."""
    values: dict[str, Any] = {
        "result": fetched(BODY),
        "tls": tls(POLICY_HOST),
        "seconds": 0.3,
    }
    return PolicyHostLook(address=address, **(values | changes))


def domain_facts(**changes: Any) -> DomainFacts:
    """The good domain, with changes.

    Besides the members of `DomainFacts`, `hosts_named` takes names of MX hosts: MX records, MX
    set, hosts and sessions are made of them, preference 10, 20, and so on. `body` takes a policy
    body: the fetch and the looks are made of it. `record` takes the octets of the TXT records.
    """
    names: Sequence[str] = changes.pop("hosts_named", (MX1, MX2))
    result = fetched(changes.pop("body", BODY))
    record: Sequence[bytes] = changes.pop("record", (f"v=STSv1; id={POLICY_ID};".encode(),))
    ranked = [(10 * number, name) for number, name in enumerate(names, 1)]
    values: dict[str, Any] = {
        "domain": DOMAIN,
        "looked_at": LOOKED_AT,
        "validates": True,
        "mx_answer": mx_answer(*ranked),
        "mx": MxSet(
            MxStatus.FOUND,
            secure=True,
            hosts=tuple(mx_host(name, preference) for preference, name in ranked),
            ttl=TTL,
        ),
        "hosts": tuple(host(name, preference) for preference, name in ranked),
        "sts_record": txt(f"_mta-sts.{DOMAIN}", *record),
        "tlsrpt_record": txt(f"_smtp._tls.{DOMAIN}", b"v=TLSRPTv1; rua=mailto:tls@example.com"),
        "policy_addresses": addresses(POLICY_HOST, IPV4[POLICY_HOST], IPV6[POLICY_HOST]),
        "policy": result,
        "policy_looks": tuple(
            look(address, result=result) for address in (IPV4[POLICY_HOST], IPV6[POLICY_HOST])
        ),
        "port25": PortState.OPEN,
        "allow_networks": NETWORKS,
        "seconds": 1.5,
    }
    return DomainFacts(**(values | changes))


def judged(
    judge: Callable[[DomainFacts], Iterable[Finding]], facts: DomainFacts
) -> tuple[Finding, ...]:
    """The findings of a rule, each held to what holds for all of them."""
    findings = tuple(judge(facts))
    for finding in findings:
        for text in (finding.subject, finding.sentence, finding.title, finding.fix):
            assert text.isascii(), finding
            assert text.isprintable(), finding
        assert finding.subject, finding
        assert finding.sentence.endswith((".", "?")), finding
        assert not finding.sentence.endswith(".."), finding
        for seen in finding.evidence:
            assert seen.caret is None or 0 <= seen.caret <= len(seen.text), finding
    return findings


def of_kind(findings: Iterable[Finding], kind: Kind) -> list[Finding]:
    """Those of one kind."""
    return [finding for finding in findings if finding.id == kind.id]


def the_one(findings: Iterable[Finding], kind: Kind) -> Finding:
    """The one finding of a kind."""
    found = of_kind(findings, kind)
    assert len(found) == 1, found
    return found[0]


def pointed_at(finding: Finding) -> str:
    """The text from the caret on, of the first evidence that has one."""
    seen = next(seen for seen in finding.evidence if seen.caret is not None)
    return seen.text[seen.caret :]


def cached_entry(body: bytes, **changes: Any) -> PolicyEntry:
    """A policy as a sender caches it, fetched a week before the look."""
    result = fetched(body)
    assert isinstance(result, FetchedPolicy)
    at = changes.pop("fetched_at", LOOKED_AT - timedelta(days=7))
    values: dict[str, Any] = {
        "policy_domain": DOMAIN,
        "policy_id": POLICY_ID,
        "policy": result.policy,
        "body": body,
        "fetched_at": at,
        "refresh_at": None,
        "txt_check_at": at,
        "last_asked_at": at,
    }
    return PolicyEntry(**(values | changes))
