# SPDX-License-Identifier: Apache-2.0
"""Name servers that do not agree, aliases, and CAA against the issuer in use."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.check import builders as b

from strictmail.core.check import caa
from strictmail.core.check.facts import AuthorityFacts
from strictmail.core.check.result import Severity
from strictmail.core.check.rules import authorities as kinds
from strictmail.core.dnsvalues import Caa, RecordType, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.check.kinds import Kind
    from strictmail.core.dnsvalues import Answer

WARNING, INFO, UNKNOWN = Severity.WARNING, Severity.INFO, Severity.UNKNOWN

NAME: Final = f"_mta-sts.{b.DOMAIN}"
ONE, TWO = b"v=STSv1; id=1;", b"v=STSv1; id=2;"


def said(number: int, answer: Answer, *, authoritative: bool = True) -> AuthorityFacts:
    return AuthorityFacts(
        zone=b.DOMAIN,
        server=f"ns{number}.example.net",
        address=f"192.0.2.{number}",
        name=answer.name,
        rdtype=answer.rdtype,
        answer=answer,
        authoritative=authoritative,
    )


def with_servers(*answers: Answer | AuthorityFacts) -> DomainFacts:
    seen = [
        answer if isinstance(answer, AuthorityFacts) else said(number, answer)
        for number, answer in enumerate(answers, 1)
    ]
    return b.domain_facts(authorities=tuple(seen))


def issued_by(organisation: str, *names: str) -> bytes:
    key = b.private_key("ecdsa-256", organisation)
    issuer = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)])
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(b.LOOKED_AT - timedelta(days=1))
        .not_valid_after(b.LOOKED_AT + timedelta(days=60))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names or (b.POLICY_HOST,)]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def caa_at(name: str, *records: Caa, **changes: Any) -> Answer:
    return b.answer(name, RecordType.CAA, *records, **changes)


def issue(value: str, tag: str = "issue", flags: int = 0) -> Caa:
    return Caa(flags, tag, value.encode())


def with_caa(answers: Sequence[Answer], leaf: bytes) -> DomainFacts:
    look = b.look("192.0.2.80", tls=b.tls(b.POLICY_HOST, chain_der=(leaf,)))
    return b.domain_facts(caa=tuple(answers), policy_looks=(look,))


LETS_ENCRYPT: Final = issued_by("Let's Encrypt")
EMPTY_CAA: Final = caa_at(b.POLICY_HOST)
OTHER_CA: Final = caa_at(b.DOMAIN, issue("pki.goog"))
ALIAS: Final = b.txt(NAME, ONE, canonical_name="_mta-sts.provider.example")
GONE: Final = b.txt(NAME, status=Status.NXDOMAIN, canonical_name="gone.provider.example")

CASES: Final[dict[str, tuple[Kind, DomainFacts, Severity]]] = {
    "differ": (kinds.DIFFER, with_servers(b.txt(NAME, ONE), b.txt(NAME, TWO)), WARNING),
    "missing": (kinds.MISSING, with_servers(b.txt(NAME, ONE), b.txt(NAME)), WARNING),
    "missing-name": (
        kinds.MISSING,
        with_servers(b.txt(NAME, ONE), b.txt(NAME, status=Status.NXDOMAIN)),
        WARNING,
    ),
    "not-authoritative": (
        kinds.LAME,
        with_servers(b.txt(NAME, ONE), said(2, b.txt(NAME, ONE), authoritative=False)),
        WARNING,
    ),
    "refused": (
        kinds.LAME,
        with_servers(b.txt(NAME, ONE), b.txt(NAME, status=Status.SERVFAIL, detail="REFUSED")),
        WARNING,
    ),
    "silent": (
        kinds.SILENT,
        with_servers(b.txt(NAME, ONE), b.txt(NAME, status=Status.TIMEOUT)),
        UNKNOWN,
    ),
    "single": (kinds.SINGLE, with_servers(b.txt(NAME, ONE)), INFO),
    "caa": (kinds.CAA_FORBIDS, with_caa((EMPTY_CAA, OTHER_CA), LETS_ENCRYPT), WARNING),
    "caa-nobody": (
        kinds.CAA_FORBIDS,
        with_caa((caa_at(b.DOMAIN, issue(";")),), LETS_ENCRYPT),
        WARNING,
    ),
    "caa-servfail": (
        kinds.CAA_FAILED,
        with_caa((caa_at(b.POLICY_HOST, status=Status.SERVFAIL),), LETS_ENCRYPT),
        WARNING,
    ),
    "caa-timeout": (
        kinds.CAA_FAILED,
        with_caa((caa_at(b.POLICY_HOST, status=Status.TIMEOUT),), LETS_ENCRYPT),
        UNKNOWN,
    ),
    "alias": (kinds.DELEGATED, b.domain_facts(sts_record=ALIAS), INFO),
    "alias-of-policy-host": (
        kinds.DELEGATED,
        b.domain_facts(
            policy_addresses=b.addresses(
                b.POLICY_HOST, "192.0.2.80", canonical_name="sts.provider.example"
            )
        ),
        INFO,
    ),
    "alias-of-reports": (
        kinds.DELEGATED,
        b.domain_facts(
            tlsrpt_record=b.txt(
                f"_smtp._tls.{b.DOMAIN}", b"v=TLSRPTv1;", canonical_name="rpt.provider.example"
            )
        ),
        INFO,
    ),
    "dangling": (kinds.DANGLING, b.domain_facts(sts_record=GONE), WARNING),
}


def test_every_kind_has_a_case() -> None:
    assert {case[0].id for case in CASES.values()} == {kind.id for kind in kinds.KINDS}


@pytest.mark.parametrize(("kind", "facts", "severity"), CASES.values(), ids=CASES)
def test_a_kind_is_brought_forth(kind: Kind, facts: DomainFacts, severity: Severity) -> None:
    finding = b.the_one(b.judged(kinds.judge, facts), kind)
    assert finding.severity is severity


def test_the_good_domain_is_good() -> None:
    assert b.judged(kinds.judge, b.domain_facts()) == ()


def test_servers_that_agree_are_no_news() -> None:
    split = b.answer(NAME, RecordType.TXT, (b"v=STS", b"v1; id=1;"))
    assert b.judged(kinds.judge, with_servers(b.txt(NAME, ONE), split)) == ()
    mx = [b.mx_answer((10, "a.example"), (20, "b.example")) for _ in range(2)]
    turned = replace(mx[1], records=mx[1].records[::-1])
    assert b.judged(kinds.judge, with_servers(mx[0], turned)) == ()


def test_a_silent_server_is_no_disagreement() -> None:
    findings = b.judged(kinds.judge, CASES["silent"][1])
    assert {finding.severity for finding in findings} == {UNKNOWN}
    assert "1 of 1 questions" in findings[0].sentence


def test_a_lame_server_is_told_once() -> None:
    names = (NAME, f"_smtp._tls.{b.DOMAIN}")
    seen = [
        said(number, b.txt(name, ONE), authoritative=number == 1)
        for name in names
        for number in (1, 2)
    ]
    finding = b.the_one(b.judged(kinds.judge, b.domain_facts(authorities=tuple(seen))), kinds.LAME)
    assert finding.subject == "ns2.example.net[192.0.2.2]"
    assert len(finding.evidence) == 2


def test_who_lacks_the_record_is_named() -> None:
    sentence = b.the_one(b.judged(kinds.judge, CASES["missing"][1]), kinds.MISSING).sentence
    assert "missing on ns2.example.net, and there on ns1.example.net" in sentence


@pytest.mark.parametrize(
    ("records", "leaf"),
    [
        pytest.param([issue("letsencrypt.org")], LETS_ENCRYPT, id="allowed"),
        pytest.param(
            [issue("pki.goog"), issue("LetsEncrypt.org ; accounturi=x")],
            LETS_ENCRYPT,
            id="among-others",
        ),
        pytest.param([issue("mailto:a@b.example", "iodef")], LETS_ENCRYPT, id="no-issue"),
        pytest.param([issue(";", "issuewild")], LETS_ENCRYPT, id="wildcards-only"),
        pytest.param([issue("pki.goog")], issued_by("Some Other CA"), id="unknown-issuer"),
        pytest.param([issue("pki.goog")], b"junk", id="no-certificate"),
        pytest.param(
            [issue(";"), issue("letsencrypt.org", "issuewild")],
            issued_by("Let's Encrypt", "*.example.com"),
            id="wildcard",
        ),
    ],
)
def test_an_issuer_that_is_allowed_or_unknown_is_no_news(records: list[Caa], leaf: bytes) -> None:
    facts = with_caa((EMPTY_CAA, caa_at(b.DOMAIN, *records)), leaf)
    assert b.judged(kinds.judge, facts) == ()


def test_a_wildcard_is_not_looked_for_at_the_host_itself() -> None:
    leaf = issued_by("Let's Encrypt", "*.example.com")
    facts = with_caa((caa_at(b.POLICY_HOST, issue("pki.goog")),), leaf)
    assert b.judged(kinds.judge, facts) == ()


def test_the_record_that_allows_the_issuer() -> None:
    finding = b.the_one(b.judged(kinds.judge, CASES["caa"][1]), kinds.CAA_FORBIDS)
    assert finding.paste == 'example.com. IN CAA 0 issue "letsencrypt.org"'
    assert finding.evidence[0].text == '0 issue "pki.goog"'


@pytest.mark.parametrize(
    ("flags", "tag", "allowed"),
    [(128, "tbs", False), (0, "tbs", True), (128, "iodef", True), (128, "ISSUE", True)],
)
def test_a_critical_property_that_nobody_knows(flags: int, tag: str, *, allowed: bool) -> None:
    records = [issue("letsencrypt.org"), issue("letsencrypt.org", tag, flags)]
    assert caa.may_issue(records, ["letsencrypt.org"], wildcard=False) is allowed


@pytest.mark.parametrize("organisation", ["Let's Encrypt", "DigiCert Inc", "  digicert   INC "])
def test_well_known_authorities(organisation: str) -> None:
    assert caa.domains_of(organisation)


texts: Final = st.text(max_size=30)
answers: Final = st.builds(
    b.txt,
    st.sampled_from([NAME, b.DOMAIN]),
    st.binary(max_size=30),
    status=st.sampled_from(Status),
    canonical_name=st.one_of(st.just(""), texts),
    detail=texts,
)


@given(st.lists(answers, max_size=4), texts, st.binary(max_size=20), st.integers(0, 255))
def test_any_answers_are_told_in_printable_ascii(
    given_answers: list[Answer], text: str, octets: bytes, flags: int
) -> None:
    facts = with_caa((caa_at(b.DOMAIN, Caa(flags, text, octets)),), LETS_ENCRYPT)
    seen = [
        replace(said(number, answer, authoritative=bool(number % 2)), server=text, zone=text or "z")
        for number, answer in enumerate(given_answers)
    ]
    record = given_answers[0] if given_answers else facts.sts_record
    b.judged(kinds.judge, replace(facts, authorities=tuple(seen), sts_record=record))
