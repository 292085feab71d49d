# SPDX-License-Identifier: Apache-2.0
"""DKIM signatures: verified by dkimpy, and held against what reports ask of them."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime

import dkim  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from strictmail.core.dkim import SigningKey, load_key, relaxed_body, relaxed_header, sign_message
from strictmail.core.tlsrpt.message import SIGNED_HEADERS

RSA = SigningKey("r1", rsa.generate_private_key(65537, 2048))
ED25519 = SigningKey("e1", ed25519.Ed25519PrivateKey.generate())
NOW = datetime.now(UTC)
MESSAGE = (
    b"From: <tls@sender.example>\r\nTo: <a@x.example>,\r\n <b@x.example>\r\n"
    b"Subject: Report Domain: x.example\r\n Submitter: sender.example\r\n"
    b"TLS-Required: No\r\nTLS-Report-Domain: x.example\r\n"
    b"TLS-Report-Submitter: sender.example\r\n\r\nHello  there \r\n\r\nlast line\r\n\r\n\r\n"
)


def lookup(name: bytes, timeout: int = 5) -> bytes:
    key = RSA if name.startswith(b"r1.") else ED25519
    kind = b"rsa" if key is RSA else b"ed25519"
    return b"v=DKIM1; k=" + kind + b"; p=" + base64.b64encode(key.public)


def is_good(message: bytes, count: int) -> bool:
    verifier = dkim.DKIM(message)
    try:
        return all(verifier.verify(number, dnsfunc=lookup) for number in range(count))
    except dkim.ValidationError:
        return False


def pem(key: object) -> bytes:
    return key.private_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.req("RPT-DLV-31", "RPT-DLV-27", "RPT-DLV-32", "RTLS-32")
def test_both_kinds_of_keys_sign_what_others_verify() -> None:
    signed = sign_message(MESSAGE, "sender.example", (RSA, ED25519), SIGNED_HEADERS, NOW)
    assert is_good(signed, 2)
    assert signed.endswith(MESSAGE)
    for found in re.findall(rb"DKIM-Signature: (.*?)(?=\r\n\S)", signed, re.DOTALL):
        tags = dict(
            (part.strip().split("=", 1) for part in found.decode().split(";")),
        )
        assert "l" not in tags
        assert tags["d"] == "sender.example"
        signed_fields = "".join(tags["h"].split()).lower().split(":")
        for name in ("tls-report-domain", "tls-report-submitter", "tls-required", "from"):
            assert name in signed_fields
        # `From` once more, so that a second one breaks the signature.
        assert signed_fields.count("from") == 2
    assert all(len(line) <= 998 for line in signed.split(b"\r\n"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"last line", b"last lime"),
        (b"TLS-Report-Domain: x.example", b"TLS-Report-Domain: y.example"),
        (b"TLS-Required: No\r\n", b""),
        (b"From: <tls", b"From: <ceo@sender.example>\r\nFrom: <tls"),
    ],
)
def test_a_change_breaks_the_signature(old: bytes, new: bytes) -> None:
    signed = sign_message(MESSAGE, "sender.example", (RSA,), SIGNED_HEADERS, NOW)
    assert not is_good(signed.replace(old, new, 1), 1)


@pytest.mark.req("RPT-DLV-05")
def test_the_same_message_and_instant_give_the_same_octets() -> None:
    again = [
        sign_message(MESSAGE, "sender.example", (RSA, ED25519), SIGNED_HEADERS, NOW)
        for _ in range(2)
    ]
    assert again[0] == again[1]


@given(st.lists(st.text("ab \t", max_size=12), max_size=8))
def test_any_white_space_in_body_and_header_is_canonical(lines: list[str]) -> None:
    body = "".join(f"{line}\r\n" for line in lines).encode()
    folded = "\r\n ".join(["x", *lines]).encode()
    message = b"From: <a@sender.example>\r\nSubject: " + folded + b"\r\n\r\n" + body
    signed = sign_message(message, "sender.example", (ED25519,), ("From", "Subject"), NOW)
    assert is_good(signed, 1)


def test_relaxed_forms_as_in_the_rfc() -> None:
    # RFC 6376 §3.4.5.
    assert relaxed_header("B ".strip(), b" Y\t\r\n\tZ  ") == b"b:Y Z"
    assert relaxed_body(b" C \r\nD \t E\r\n\r\n\r\n") == b" C\r\nD E\r\n"
    assert relaxed_body(b"\r\n\r\n") == b""


def test_keys_are_read_or_refused_with_a_reason() -> None:
    assert load_key("a", pem(RSA.private)).algorithm == "rsa-sha256"
    assert load_key("a", pem(ED25519.private)).algorithm == "ed25519-sha256"
    traditional = RSA.private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    assert load_key("a", traditional).public == RSA.public
    locked = RSA.private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    for octets, reason in (
        (b"", "no private key"),
        (locked, "without a passphrase"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "neither RSA nor Ed25519"),
    ):
        with pytest.raises(ValueError, match=reason):
            load_key("a", octets)


def test_a_short_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strictmail.core.dkim.MIN_RSA_BITS", 4096)
    with pytest.raises(ValueError, match="too short: make one of 2048"):
        load_key("a", pem(RSA.private))
