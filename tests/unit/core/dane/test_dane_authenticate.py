# SPDX-License-Identifier: Apache-2.0
"""Names to accept, bytes to compare, bounds; whole paths are in tests/service/test_dane_oracle.py."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from strictmail.core.dane.authenticate import (
    MAX_SIGNATURE_CHECKS,
    DaneOutcome,
    DaneResult,
    authenticate,
    dane_names,
    matches,
    reference_ids,
)
from strictmail.core.dnsvalues import Tlsa
from strictmail.core.tlsrpt.results import ResultType

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOST = "mx.example.test"
Key = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def issue(
    name: str,
    key: Key,
    issuer: str,
    signer: Key,
    *,
    ca: bool = True,
    pss: bool = False,
    san: x509.GeneralName | None = None,
    constraints: x509.NameConstraints | None = None,
) -> bytes:
    builder = x509.CertificateBuilder(
        subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=NOW - timedelta(days=1),
        not_valid_after=NOW + timedelta(days=1),
    ).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if san is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([san]), critical=False)
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    if isinstance(signer, ed25519.Ed25519PrivateKey):
        return builder.sign(signer, None).public_bytes(Encoding.DER)
    how = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if pss else None
    return builder.sign(signer, hashes.SHA256(), rsa_padding=how).public_bytes(Encoding.DER)


def spki(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


ROOT_KEY, LEAF_KEY = (ed25519.Ed25519PrivateKey.generate() for _ in range(2))
ROOT = issue("root", ROOT_KEY, "root", ROOT_KEY)
LEAF = issue(HOST, LEAF_KEY, "root", ROOT_KEY, ca=False)
ROOT_TA = Tlsa(2, 0, 1, hashlib.sha256(ROOT).digest())


def judge(records: list[Tlsa], chain: list[bytes], *names: str) -> DaneResult:
    return authenticate(records, chain, names or (HOST,), NOW)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            {"nexthop": "corp.example", "mx_host": "in1.hoster.example", "mx_secure": True},
            ("in1.hoster.example", "corp.example"),
            id="secure MX: the next-hop, too",
            marks=pytest.mark.req("DANE-63"),
        ),
        pytest.param(
            {
                "nexthop": "alias.example",
                "nexthop_expanded": "corp.example",
                "mx_host": "in1.hoster.example",
                "mx_secure": True,
            },
            ("in1.hoster.example", "alias.example", "corp.example"),
            id="secure MX of an alias: and its expansion",
            marks=pytest.mark.req("DANE-63"),
        ),
        pytest.param(
            {"nexthop": "corp.example", "mx_host": "in1.hoster.example", "mx_secure": False},
            ("in1.hoster.example",),
            id="insecure MX: the MX host only",
            marks=pytest.mark.req("DANE-63", "DANE-24"),
        ),
        pytest.param(
            {"nexthop": "relay.corp.example", "mx_host": None},
            ("in1.hoster.example", "relay.corp.example"),
            id="no MX, expanded: the original name, too",
            marks=pytest.mark.req("DANE-64"),
        ),
        pytest.param(
            {"nexthop": "in1.hoster.example", "mx_host": None},
            ("in1.hoster.example",),
            id="no MX, no alias",
        ),
        pytest.param(
            {
                "nexthop": "in1.hoster.example",
                "nexthop_expanded": "in1.hoster.example",
                "mx_host": "in1.hoster.example",
                "mx_secure": True,
            },
            ("in1.hoster.example",),
            id="each name once",
        ),
    ],
)
def test_reference_ids(arguments: dict[str, str | bool | None], expected: tuple[str, ...]) -> None:
    base_domain = "in1.hoster.example"
    assert reference_ids(base_domain=base_domain, **arguments) == expected  # type: ignore[arg-type]


@pytest.mark.req("DANE-73")
def test_sni_is_the_base_domain() -> None:
    names = dane_names(base_domain="b.test", nexthop="a.test", mx_host="m.test", mx_secure=True)
    assert names.sni == "b.test"
    assert names.reference_ids == ("b.test", "a.test")


@pytest.mark.parametrize(
    "key",
    [ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)],
    ids=["ed25519", "rsa"],
)
def test_the_key_is_cut_out_of_a_certificate_as_it_stands(key: Key) -> None:
    certificate = issue("x", key, "x", key)
    assert matches(Tlsa(3, 1, 0, spki(key)), certificate)
    assert matches(Tlsa(3, 1, 2, hashlib.sha512(spki(key)).digest()), certificate)
    assert not matches(Tlsa(3, 1, 1, hashlib.sha256(certificate).digest()), certificate)


@pytest.mark.parametrize("length", range(0, len(LEAF), 7))
def test_a_cut_certificate_matches_no_key(length: int) -> None:
    record = Tlsa(3, 1, 0, spki(LEAF_KEY))
    assert not matches(record, LEAF[:length])


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"\x30",
        b"\x30\x80",
        b"\x30\x85" + b"\xff" * 5,
        b"\x30\x03\x02\x01\x00",
        b"\x31\x02\x30\x00",
        b"\x30\x02\x30\x00",
        b"\x30\x0e\x30\x0c" + b"\x02\x00" * 6,
    ],
)
def test_what_is_no_certificate_authenticates_nothing(leaf: bytes) -> None:
    record = Tlsa(3, 1, 1, hashlib.sha256(b"").digest())
    assert judge([record, ROOT_TA], [leaf, ROOT]).outcome is DaneOutcome.MISMATCH


@pytest.mark.req("DANE-49")
def test_no_usable_record_is_a_case_of_its_own() -> None:
    result = judge([Tlsa(3, 1, 1, b"short")], [LEAF])
    assert result.outcome is DaneOutcome.NO_USABLE_RECORD
    assert judge([ROOT_TA], []).outcome is DaneOutcome.MISMATCH


@pytest.mark.parametrize(
    ("outcome", "result_type"),
    [
        (DaneOutcome.AUTHENTICATED, None),
        (DaneOutcome.MISMATCH, ResultType.TLSA_INVALID),
        (DaneOutcome.EXPIRED, ResultType.CERTIFICATE_EXPIRED),
        (DaneOutcome.UNTRUSTED, ResultType.CERTIFICATE_NOT_TRUSTED),
        (DaneOutcome.NAME, ResultType.CERTIFICATE_HOST_MISMATCH),
    ],
)
def test_result_types(outcome: DaneOutcome, result_type: ResultType | None) -> None:
    assert DaneResult(outcome).result_type is result_type


def test_the_verdict_names_record_and_depth() -> None:
    result = judge([ROOT_TA], [LEAF, ROOT])
    assert (result.record, result.depth) == (ROOT_TA, 1)
    assert result.is_authenticated


@pytest.mark.req("DANE-63")
def test_any_reference_identifier_will_do() -> None:
    assert judge([ROOT_TA], [LEAF, ROOT], "base.test", HOST).is_authenticated
    assert judge([ROOT_TA], [LEAF, ROOT], "base.test").outcome is DaneOutcome.NAME


@pytest.mark.parametrize("pss", [False, True])
@pytest.mark.req("DANE-70")
def test_an_rsa_key_in_dns(pss: bool) -> None:
    key = rsa.generate_private_key(65537, 2048)
    leaf = issue(HOST, LEAF_KEY, "unseen", key, ca=False, pss=pss)
    assert judge([Tlsa(2, 1, 0, spki(key))], [leaf]).is_authenticated
    other = rsa.generate_private_key(65537, 2048)
    assert judge([Tlsa(2, 1, 0, spki(other))], [leaf]).outcome is DaneOutcome.MISMATCH
    assert judge([Tlsa(2, 1, 0, spki(ROOT_KEY))], [leaf]).outcome is DaneOutcome.MISMATCH


def test_an_ed25519_key_in_dns() -> None:
    assert judge([Tlsa(2, 1, 0, spki(ROOT_KEY))], [LEAF]).is_authenticated


def test_a_chain_that_goes_round_in_circles_ends() -> None:
    first, second = (ed25519.Ed25519PrivateKey.generate() for _ in range(2))
    a = issue("a", first, "b", second)
    b = issue("b", second, "a", first)
    leaf = issue(HOST, LEAF_KEY, "a", first, ca=False)
    assert judge([ROOT_TA], [leaf, a, b]).outcome is DaneOutcome.MISMATCH


def test_many_namesakes_cost_a_bounded_number_of_signature_checks() -> None:
    # Thirty cross-signed certificates of one name and one key: the number of paths explodes.
    same = [issue("root", ROOT_KEY, "root", ROOT_KEY) for _ in range(30)]
    result = judge([Tlsa(2, 0, 1, hashlib.sha256(b"elsewhere").digest())], [LEAF, *same])
    assert result.outcome is DaneOutcome.MISMATCH
    assert MAX_SIGNATURE_CHECKS < 100


@pytest.mark.req("DANE-71")
@pytest.mark.parametrize(
    ("tree", "san", "good"),
    [
        pytest.param(
            x509.RFC822Name("example.test"), x509.DNSName(HOST), True, id="form not in use"
        ),
        pytest.param(
            x509.RFC822Name("example.test"),
            x509.RFC822Name("a@example.test"),
            False,
            id="form that is not understood: refused",
        ),
        pytest.param(x509.DNSName(".example.test"), x509.DNSName(HOST), True, id="leading dot"),
        pytest.param(x509.DNSName(""), x509.DNSName(HOST), True, id="every name"),
        pytest.param(x509.DNSName("ample.test"), x509.DNSName(HOST), False, id="half a label"),
        pytest.param(x509.DNSName("Example.TEST"), x509.DNSName(HOST), True, id="case"),
        pytest.param(
            x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])),
            x509.DNSName(HOST),
            True,
            id="subject permitted",
        ),
        pytest.param(
            x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])),
            x509.DNSName(HOST),
            False,
            id="subject not permitted",
        ),
    ],
)
def test_name_constraints(tree: x509.GeneralName, san: x509.GeneralName, good: bool) -> None:
    constraints = x509.NameConstraints(permitted_subtrees=[tree], excluded_subtrees=None)
    root = issue("root", ROOT_KEY, "root", ROOT_KEY, constraints=constraints)
    leaf = issue(HOST, LEAF_KEY, "root", ROOT_KEY, ca=False, san=san)
    record = Tlsa(2, 0, 1, hashlib.sha256(root).digest())
    assert judge([record], [leaf, root]).is_authenticated is good


@pytest.mark.req("DANE-71")
def test_a_common_name_that_is_used_is_constrained() -> None:
    tree = x509.DNSName("other.test")
    constraints = x509.NameConstraints(permitted_subtrees=[tree], excluded_subtrees=None)
    root = issue("root", ROOT_KEY, "root", ROOT_KEY, constraints=constraints)
    record = Tlsa(2, 0, 1, hashlib.sha256(root).digest())
    assert judge([record], [LEAF, root]).outcome is DaneOutcome.UNTRUSTED
