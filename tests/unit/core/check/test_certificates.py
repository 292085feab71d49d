# SPDX-License-Identifier: Apache-2.0
"""Certificates described as they are, and anything else without a complaint."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.check import builders as b

from strictmail.core.check.certificates import (
    MAX_LINKS,
    MAX_NAMES,
    NO_CERTIFICATE,
    Strength,
    days_left,
    describe,
    find_gap,
    is_certificate,
    is_self_issued,
    issuer_organisation,
    key_strength,
    signature_strength,
)

LEAF: Final = b.leaf("mx.example.com", "*.example.net")


def self_signed(key: ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) -> bytes:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example CA"),
            x509.NameAttribute(NameOID.COMMON_NAME, "x"),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(b.LOOKED_AT)
        .not_valid_after(b.LOOKED_AT + timedelta(days=1))
    )
    return builder.sign(key, None).public_bytes(Encoding.DER)


def test_a_leaf() -> None:
    found = describe(LEAF)
    assert found.subject == "CN=mx.example.com"
    assert found.issuer == f"CN={b.INTERMEDIATE_NAME}"
    assert found.dns_names == ("mx.example.com", "*.example.net")
    assert found.not_before == b.LOOKED_AT - timedelta(days=30)
    assert found.not_after == b.LOOKED_AT + timedelta(days=60)
    assert (found.key, found.signature, found.is_ca) == ("ecdsa-256", "sha256", False)
    assert found.sha256 == hashlib.sha256(LEAF).hexdigest()
    assert found.spki_sha256 == b.tlsa(LEAF).data.hex()
    assert days_left(found, b.LOOKED_AT) == 60
    assert days_left(found, b.LOOKED_AT + timedelta(days=60, seconds=1)) == -1


def test_an_authority() -> None:
    assert describe(b.intermediate()).is_ca
    assert is_self_issued(describe(b.root()))
    assert not is_self_issued(describe(b.intermediate()))


@pytest.mark.parametrize(
    ("der", "key"),
    [
        pytest.param(b.leaf("a.example", key="rsa-2048"), "rsa-2048", id="rsa"),
        pytest.param(b.leaf("a.example", key="ecdsa-384"), "ecdsa-384", id="ecdsa"),
        pytest.param(self_signed(ed25519.Ed25519PrivateKey.generate()), "ed25519", id="ed25519"),
        pytest.param(self_signed(ed448.Ed448PrivateKey.generate()), "ed448", id="ed448"),
    ],
)
def test_kinds_of_keys(der: bytes, key: str) -> None:
    assert describe(der).key == key
    assert key_strength(describe(der)) is Strength.GOOD


@pytest.mark.parametrize("der", [b"", b"\0", b"0\x80", b"no certificate", LEAF[:-1], LEAF + b"\0"])
def test_what_is_no_certificate_is_said_to_be_none(der: bytes) -> None:
    found = describe(der)
    assert found.subject == NO_CERTIFICATE
    assert not is_certificate(found)
    assert found.sha256 == hashlib.sha256(der).hexdigest()
    assert key_strength(found) is Strength.GOOD
    assert issuer_organisation(der) == ""


@pytest.mark.parametrize(
    ("key", "strength"),
    [
        ("rsa-4096", Strength.GOOD),
        ("rsa-2048", Strength.GOOD),
        ("rsa-2047", Strength.WEAK),
        ("rsa-1024", Strength.WEAK),
        ("rsa-1023", Strength.BROKEN),
        ("dsa-1024", Strength.WEAK),
        ("ecdsa-224", Strength.GOOD),
        ("ecdsa-192", Strength.WEAK),
        ("ecdsa-112", Strength.BROKEN),
        ("ed25519", Strength.GOOD),
        ("unknown", Strength.GOOD),
    ],
)
def test_how_strong_keys_are(key: str, strength: Strength) -> None:
    assert key_strength(replace(describe(LEAF), key=key)) is strength


def test_how_strong_signatures_are() -> None:
    assert signature_strength(describe(LEAF)) is Strength.GOOD
    sha1, md5 = (describe(b.leaf_with_hash("a.example", sha)) for sha in ("sha1", "md5"))
    assert (sha1.signature, signature_strength(sha1)) == ("sha1", Strength.WEAK)
    assert (md5.signature, signature_strength(md5)) == ("md5", Strength.BROKEN)
    # Nobody relies on the signature of what signed itself.
    assert signature_strength(replace(sha1, issuer=sha1.subject)) is Strength.GOOD


@pytest.mark.parametrize(
    ("chain", "gap"),
    [
        pytest.param((), None, id="empty"),
        pytest.param((LEAF,), None, id="leaf"),
        pytest.param((LEAF, b.intermediate()), None, id="leaf-intermediate"),
        pytest.param((LEAF, b.intermediate(), b.root()), None, id="to-the-root"),
        pytest.param((LEAF, b.root(), b.intermediate()), 0, id="swapped"),
        pytest.param((LEAF, b.root()), 0, id="left-out"),
        pytest.param((LEAF, b.intermediate(), LEAF), 1, id="leaf-again"),
        pytest.param((LEAF, b"junk"), 0, id="junk"),
        pytest.param((b"junk", b.intermediate()), 0, id="junk-leaf"),
    ],
)
def test_where_a_chain_breaks(chain: tuple[bytes, ...], gap: int | None) -> None:
    assert find_gap(chain) == gap


def test_a_long_chain_is_not_followed_for_ever() -> None:
    chain = (LEAF, b.intermediate(), *[b.root()] * MAX_LINKS, b"junk")
    assert find_gap(chain) is None


def test_many_names_are_cut() -> None:
    names = [f"h{number}.example" for number in range(MAX_NAMES + 1)]
    assert len(describe(b.leaf(*names)).dns_names) == MAX_NAMES


def test_the_organisation_of_the_issuer() -> None:
    assert issuer_organisation(self_signed(ed25519.Ed25519PrivateKey.generate())) == "Example CA"
    assert issuer_organisation(LEAF) == ""


def test_other_curves() -> None:
    key = ec.generate_private_key(ec.SECP521R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(b.LOOKED_AT)
        .not_valid_after(b.LOOKED_AT + timedelta(days=1))
    )
    found = describe(builder.sign(key, hashes.SHA512()).public_bytes(Encoding.DER))
    assert (found.subject, found.key, found.signature) == ("", "ecdsa-521", "sha512")
    assert is_certificate(found)


@given(st.binary(max_size=400))
def test_any_octets_are_described(der: bytes) -> None:
    assert describe(der).sha256 == hashlib.sha256(der).hexdigest()


@given(
    st.sampled_from([LEAF, b.intermediate(), b.leaf("a.example", key="rsa-2048")]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_damaged_certificate_is_described(der: bytes, edits: list[tuple[int, int]]) -> None:
    damaged = bytearray(der)
    for position, octet in edits:
        damaged[position % len(damaged)] = octet
    found = describe(bytes(damaged))
    key_strength(found)
    signature_strength(found)
    issuer_organisation(bytes(damaged))
    find_gap([bytes(damaged), b.intermediate()])
    find_gap([LEAF, bytes(damaged)])
