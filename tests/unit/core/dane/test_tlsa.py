# SPDX-License-Identifier: Apache-2.0
"""TLSA records: form, usability, digest agility."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strictmail.core.dane.tlsa import (
    Usability,
    is_usable,
    parse_tlsa,
    select_by_agility,
    usable_records,
)
from strictmail.core.dnsvalues import Tlsa
from strictmail.core.errors import TlsaSyntaxError

SHA256, SHA512 = "ab" * 32, "cd" * 64
SPKI_P256 = (
    "3059301306072a8648ce3d020106082a8648ce3d0301070342000447873ae865722b397c65bae99edc7215"
    "1261c47965da9c6ffd44be87e3873c161a92eca89602a2e06503bce1a5331369b1dd582d3d665af3dbeb11"
    "3a1d9d63b3"
)
SPKI_ED25519 = "302a300506032b6570032100" + "11" * 32


def tlsa(fields: str, data: bytes) -> Tlsa:
    usage, selector, mtype = (int(field) for field in fields.split())
    return Tlsa(usage, selector, mtype, data)


@pytest.mark.parametrize(
    ("text", "record"),
    [
        pytest.param("3 1 1 ABcd", Tlsa(3, 1, 1, b"\xab\xcd"), id="either case"),
        pytest.param(" 3\t1  1 ab cd ", Tlsa(3, 1, 1, b"\xab\xcd"), id="blanks anywhere"),
        pytest.param("255 255 255 00", Tlsa(255, 255, 255, b"\0"), id="private use"),
        pytest.param("3 1 1", Tlsa(3, 1, 1, b""), id="no data: unusable, not unreadable"),
    ],
)
def test_parse(text: str, record: Tlsa) -> None:
    assert parse_tlsa(text) == record


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3 1",
        "3 1 x ab",
        "256 1 1 ab",
        "-1 1 1 ab",
        "3 1 1 abc",
        "3 1 1 zz",
        "3 1 ١ ab",
        "+3 1 1 ab",
    ],
)
def test_unreadable(text: str) -> None:
    with pytest.raises(TlsaSyntaxError):
        parse_tlsa(text)


def test_presentation_form_is_read_back() -> None:
    record = parse_tlsa(f"2 0 2 {SHA512}")
    assert parse_tlsa(str(record)) == record


@pytest.mark.parametrize(
    ("text", "usable"),
    [
        pytest.param(
            f"3 1 1 {SHA256}", True, id="3 1 1", marks=pytest.mark.req("DANE-40", "DANE-46")
        ),
        pytest.param(f"2 0 1 {SHA256}", True, id="2 0 1", marks=pytest.mark.req("DANE-40")),
        pytest.param(f"3 0 2 {SHA512}", True, id="SHA2-512", marks=pytest.mark.req("DANE-47")),
        pytest.param(f"3 1 0 {SPKI_P256}", True, id="full key", marks=pytest.mark.req("DANE-47")),
        pytest.param(f"2 1 0 {SPKI_ED25519}", True, id="Ed25519", marks=pytest.mark.req("DANE-47")),
        pytest.param(f"0 0 1 {SHA256}", False, id="PKIX-TA", marks=pytest.mark.req("DANE-41")),
        pytest.param(f"1 1 1 {SHA256}", False, id="PKIX-EE", marks=pytest.mark.req("DANE-41")),
        pytest.param(f"4 1 1 {SHA256}", False, id="usage 4", marks=pytest.mark.req("DANE-43")),
        pytest.param(f"255 1 1 {SHA256}", False, id="usage 255", marks=pytest.mark.req("DANE-43")),
        pytest.param(f"3 2 1 {SHA256}", False, id="selector 2", marks=pytest.mark.req("DANE-43")),
        pytest.param(f"3 1 3 {SHA256}", False, id="mtype 3", marks=pytest.mark.req("DANE-43")),
        pytest.param("3 1 1 abcd", False, id="too short", marks=pytest.mark.req("DANE-44")),
        pytest.param(f"3 1 1 {SHA256}00", False, id="too long", marks=pytest.mark.req("DANE-44")),
        pytest.param(f"3 1 2 {SHA256}", False, id="of SHA2-256", marks=pytest.mark.req("DANE-44")),
        pytest.param(f"3 1 1 {SHA512}", False, id="of SHA2-512", marks=pytest.mark.req("DANE-44")),
        pytest.param("3 1 1", False, id="empty", marks=pytest.mark.req("DANE-44")),
        pytest.param("3 0 0", False, id="empty full", marks=pytest.mark.req("DANE-44")),
        pytest.param(
            "3 0 0 deadbeef", False, id="no certificate", marks=pytest.mark.req("DANE-44")
        ),
        pytest.param(f"3 0 0 {SPKI_P256}", False, id="a key as a certificate"),
        pytest.param(
            f"3 1 0 {SPKI_P256[:-2]}", False, id="cut key", marks=pytest.mark.req("DANE-44")
        ),
        pytest.param(f"3 1 0 {SPKI_P256}00", False, id="key and more"),
        pytest.param("3 1 0 30", False, id="a tag only"),
        pytest.param("3 1 0 3003020100", False, id="a sequence of a number"),
        pytest.param("3 1 0 302a300506032b9999032100" + "11" * 32, False, id="unknown algorithm"),
    ],
)
def test_usable(text: str, usable: bool) -> None:
    assert is_usable(parse_tlsa(text)) is usable


@pytest.mark.req("DANE-44")
def test_a_bare_pkcs1_key_is_no_spki() -> None:
    key = rsa.generate_private_key(65537, 2048).public_key()
    pkcs1 = key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert not is_usable(Tlsa(3, 1, 0, pkcs1))
    assert is_usable(Tlsa(3, 1, 0, spki))


@pytest.mark.req("DANE-45")
def test_local_policy() -> None:
    key = rsa.generate_private_key(65537, 2048).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert not is_usable(Tlsa(3, 1, 0, spki), Usability(min_rsa_bits=3072))
    assert not is_usable(parse_tlsa(f"3 1 0 {SPKI_P256}"), Usability(min_ec_bits=384))
    assert not is_usable(parse_tlsa(f"3 1 1 {SHA256}"), Usability(mtypes=frozenset({0, 2})))
    assert is_usable(parse_tlsa(f"3 1 2 {SHA512}"), Usability(mtypes=frozenset({0, 2})))


@pytest.mark.req("DANE-50")
def test_unusable_records_are_dropped_and_order_is_kept() -> None:
    good = [parse_tlsa(f"3 1 1 {SHA256}"), parse_tlsa(f"2 0 1 {SHA256}")]
    assert usable_records([good[0], parse_tlsa("3 1 1 abcd"), good[1]]) == tuple(good)
    assert usable_records([parse_tlsa(f"1 1 1 {SHA256}")]) == ()


A256, A512 = tlsa("3 1 1", b"a" * 32), tlsa("3 1 2", b"a" * 64)
B256, B512 = tlsa("3 1 1", b"b" * 32), tlsa("3 1 2", b"b" * 64)
FULL_KEY = parse_tlsa(f"3 1 0 {SPKI_P256}")
CERT256, TA256 = tlsa("3 0 1", b"c" * 32), tlsa("2 1 1", b"d" * 32)


@pytest.mark.parametrize(
    ("rrset", "expected"),
    [
        pytest.param([A256, A512], [A512], id="the stronger one", marks=pytest.mark.req("DANE-52")),
        pytest.param([B512, A256, A512, B256], [B512, A512], id="all of the stronger digest"),
        pytest.param([A256, B256], [A256, B256], id="nothing stronger"),
        pytest.param([A512, FULL_KEY, A256], [A512, FULL_KEY], id="Full(0) stays"),
        pytest.param([FULL_KEY, A256], [FULL_KEY, A256], id="Full(0) is no digest"),
        pytest.param([A512, CERT256, TA256], [A512, CERT256, TA256], id="per usage and selector"),
        pytest.param(
            [tlsa("3 1 2", b"short"), A256],
            [A256],
            id="a malformed one disables nothing",
            marks=pytest.mark.req("DANE-54"),
        ),
        pytest.param([tlsa("1 1 2", b"a" * 64), A256], [A256], id="nor an unusable one"),
        pytest.param([], [], id="empty"),
    ],
)
def test_agility(rrset: list[Tlsa], expected: list[Tlsa]) -> None:
    assert select_by_agility(rrset) == tuple(expected)


@pytest.mark.req("DANE-53")
def test_the_order_of_strength_is_a_setting() -> None:
    assert select_by_agility([A256, A512], digest_order=(1, 2)) == (A256,)
    assert select_by_agility([A256, A512], digest_order=(2,)) == (A512,)
    assert select_by_agility([A256], digest_order=(2,)) == (A256,)
