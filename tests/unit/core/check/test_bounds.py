# SPDX-License-Identifier: Apache-2.0
"""A domain that publishes as much as DNS, HTTPS and TLS carry makes no result without end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.unit.core.check import builders as b

from strictmail.checker.codec import encode
from strictmail.core.check.bounds import (
    MAX_ALIKE,
    MAX_EVIDENCE,
    MAX_EVIDENCE_CHARACTERS,
    MAX_PASTE_CHARACTERS,
    bounded,
)
from strictmail.core.check.certificates import MAX_LINKS, MAX_NAME_CHARACTERS, MAX_NAMES, describe
from strictmail.core.check.facts import AuthorityFacts
from strictmail.core.check.judge import judge
from strictmail.core.check.result import Evidence, Severity
from strictmail.core.check.rules import danekinds, policykinds, recordkinds, scope
from strictmail.core.check.verdict import MAX_TOLD_HOSTS
from strictmail.core.dnsvalues import Mx, RecordType, Tlsa
from strictmail.core.mxset import MxHost, MxSet, MxStatus

if TYPE_CHECKING:
    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.check.result import Finding

MANY = 1000
"""About what one DNS message may hold (`net.dnswire.MAX_RECORDS`)."""

MAX_BYTES = 2 * 1024 * 1024
"""A result of such a domain; an ordinary one has some 15 KB."""


def with_tlsa(*records: Tlsa) -> DomainFacts:
    hosts = tuple(b.mx_host(name, tlsa=(*records, b.tlsa(b.leaf(name)))) for name in (b.MX1, b.MX2))
    return b.domain_facts(mx=MxSet(MxStatus.FOUND, secure=True, hosts=hosts, ttl=b.TTL))


def with_hosts(count: int) -> DomainFacts:
    hosts = tuple(MxHost(f"m{number}.example.com", 10) for number in range(count))
    answer = b.mx_answer(*((10, host.name) for host in hosts))
    return b.domain_facts(mx_answer=answer, mx=MxSet(MxStatus.FOUND, secure=True, hosts=hosts))


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def bomb() -> bytes:
    """A certificate of some 100 KB, for 150 names of 500 characters each."""
    subject = x509.Name(
        [x509.NameAttribute(x509.oid.NameOID.ORGANIZATION_NAME, "x" * 60)] * MAX_NAMES
    )
    names = [x509.DNSName(f"{number}<script>".ljust(500, "a")) for number in range(150)]
    key = b.private_key("ecdsa-256", "")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(b.LOOKED_AT - timedelta(days=1))
        .not_valid_after(b.LOOKED_AT + timedelta(days=60))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def with_chains(chain_der: tuple[bytes, ...]) -> DomainFacts:
    def host(name: str) -> object:
        probes = tuple(
            b.probe(name, f"192.0.2.{number}", tls=b.tls(name, chain_der=chain_der))
            for number in range(8)
        )
        return b.host(name, probes=probes)

    return b.domain_facts(hosts=(host(b.MX1), host(b.MX2)))


def disagreeing() -> AuthorityFacts:
    records = (Mx(number, f"m{number}.example.com") for number in range(MANY))
    answer = b.answer(b.DOMAIN, RecordType.MX, *records)
    return AuthorityFacts(
        b.DOMAIN, "ns.example.com", "192.0.2.53", b.DOMAIN, RecordType.MX, answer, True
    )


HOSTILE = {
    "TLSA records that match nothing": lambda: with_tlsa(
        *(Tlsa(3, 1, 1, digest(number)) for number in range(MANY))
    ),
    "unusable TLSA records": lambda: with_tlsa(
        *(Tlsa(0, 0, 1, digest(number)) for number in range(MANY))
    ),
    "a TLSA record of 60 KB": lambda: with_tlsa(Tlsa(3, 0, 0, bytes(60_000))),
    "MX hosts": lambda: with_hosts(MANY),
    "fields of a TXT record": lambda: b.domain_facts(
        record=(b"v=STSv1; id=1; " + b"".join(b"x%d=1;x%d=1;" % (n, n) for n in range(5000)),)
    ),
    "TXT records": lambda: b.domain_facts(record=(b"v=STSv1; id=1;",) * MANY),
    "lines of a policy": lambda: b.domain_facts(
        body=b.BODY + b"".join(b"mx%d: x\r\n" % number for number in range(5000))
    ),
    "report destinations": lambda: b.domain_facts(
        tlsrpt_record=b.txt(
            f"_smtp._tls.{b.DOMAIN}",
            b"v=TLSRPTv1; rua=" + b",".join(b"gopher:%d" % n for n in range(5000)),
        )
    ),
    "a name server with other MX hosts": lambda: b.domain_facts(authorities=(disagreeing(),)),
    "certificates": lambda: with_chains((bomb(),) * 32),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_too_many(what: str) -> None:
    result = judge(HOSTILE[what]())
    assert len(encode(result)) < MAX_BYTES
    assert len(result.findings) < 4 * MAX_ALIKE


def the_one(findings: tuple[Finding, ...], number: str) -> Finding:
    (found,) = (finding for finding in findings if finding.id == number)
    return found


def test_what_is_left_out_is_counted() -> None:
    result = judge(HOSTILE["unusable TLSA records"]())
    kept = [finding for finding in result.findings if finding.id == danekinds.UNUSABLE.id]
    assert len(kept) == MAX_ALIKE
    more = the_one(result.findings, scope.MORE_ALIKE.id)
    assert f"{2 * MANY - MAX_ALIKE:,} of {danekinds.UNUSABLE.id}" in more.sentence
    assert more.severity is Severity.INFO


def test_the_worst_are_kept() -> None:
    mild = [
        policykinds.NOT_ALLOWED.found(f"{number}", "It is.", severity=Severity.WARNING)
        for number in range(MAX_ALIKE)
    ]
    worst = policykinds.NOT_ALLOWED.found("worst", "It is.", severity=Severity.CRITICAL)
    kept = list(bounded(b.DOMAIN, [worst, *mild]))
    assert kept[0] == worst
    assert kept[1:-1] == mild[:-1]
    assert kept[-1].id == scope.MORE_ALIKE.id


def test_a_field_is_repeated_once_however_often() -> None:
    result = judge(b.domain_facts(record=(b"v=STSv1; id=1; x=1; x=2; x=3; y=1; y=1",)))
    told = [finding for finding in result.findings if finding.id == recordkinds.REPEATED.id]
    assert [finding.sentence[:15] for finding in told] == ["The field `x` i", "The field `y` i"]


@pytest.mark.parametrize("caret", [None, 0, 5_000, 9_999, 10_000])
def test_long_evidence_is_cut_around_its_caret(caret: int | None) -> None:
    text = "".join(chr(ord("a") + number % 26) for number in range(10_000))
    finding = recordkinds.SYNTAX.found("x", "It is.", Evidence("TXT record", text, caret))
    (kept,) = bounded(b.DOMAIN, [finding])
    (seen,) = kept.evidence
    assert len(seen.text) <= MAX_EVIDENCE_CHARACTERS + 6
    if caret is None:
        assert seen.caret is None
        assert text.startswith(seen.text.removesuffix("..."))
    else:
        assert seen.caret is not None
        shown = seen.text[seen.caret : seen.caret + 10].removesuffix("...")
        assert shown == text[caret : caret + 10]


def test_too_much_evidence_and_too_much_to_paste() -> None:
    finding = recordkinds.SYNTAX.found(
        "x",
        "y" * 5000,
        *(Evidence("TXT record", f"{number}") for number in range(MAX_EVIDENCE + 3)),
        paste="z" * (MAX_PASTE_CHARACTERS + 1),
    )
    (kept,) = bounded(b.DOMAIN, [finding])
    assert len(kept.evidence) == MAX_EVIDENCE + 1
    assert kept.evidence[-1] == Evidence("TXT record", "3 more")
    assert len(kept.sentence) < len(finding.sentence)
    assert kept.paste == ""


def test_the_first_hosts_have_their_verdicts() -> None:
    result = judge(with_hosts(MAX_TOLD_HOSTS + 1))
    told = {verdict.mx_host for verdict in result.verdicts}
    assert told == {f"m{number}.example.com" for number in range(MAX_TOLD_HOSTS)}


def test_a_certificate_full_of_names() -> None:
    found = describe(bomb())
    assert len(found.dns_names) == MAX_NAMES
    assert max(map(len, found.dns_names)) == MAX_NAME_CHARACTERS
    result = judge(with_chains((bomb(),) * 32))
    certificates = result.hosts[0].addresses[0].chains[0].certificates
    assert len(certificates) == MAX_LINKS
    assert certificates[0].dns_names
    assert not any(certificate.dns_names for certificate in certificates[1:])
