# SPDX-License-Identifier: Apache-2.0
"""DKIM signatures over mail of our own (RFC 6376, RFC 8463). Keys and time are arguments.

Both canonicalizations are relaxed. Nothing is verified here; reports that come in are for others.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

MIN_RSA_BITS: Final = 1024
"""RFC 8301 §3.2: shorter keys are not accepted by verifiers."""

_LINE: Final = 70
_WSP: Final = re.compile(rb"[ \t]+")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and the name of its public half in DNS.

    Attributes:
        selector: Of `selector._domainkey.domain`.
        private: RSA or Ed25519.
    """

    selector: str
    private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

    @property
    def algorithm(self) -> str:
        """The value of `a=`."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return "rsa-sha256"
        # RFC 8463 §3: the hash is SHA-256 for Ed25519, too.
        return "ed25519-sha256"

    @property
    def public(self) -> bytes:
        """What stands behind `p=`, decoded: RFC 6376 §3.6.1, RFC 8463 §4.2."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        return self.private.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )

    def sign(self, data: bytes) -> bytes:
        """The signature of `data`: the same for the same octets."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.private.sign(hashlib.sha256(data).digest())


def load_key(selector: str, pem: bytes) -> SigningKey:
    """Read a private key.

    Args:
        selector: Its name in DNS.
        pem: PKCS #8 or PKCS #1 without a passphrase.

    Raises:
        ValueError: It is none that DKIM knows, or too short.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError("no private key in PEM without a passphrase") from error
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key of {key.key_size} bits is too short: make one of 2048")
        return SigningKey(selector, key)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return SigningKey(selector, key)
    raise ValueError("a key that is neither RSA nor Ed25519")


def sign_message(
    message: bytes, domain: str, keys: Sequence[SigningKey], headers: Sequence[str], at: datetime
) -> bytes:
    """Put a signature of each key before a message.

    Args:
        message: Header and body, lines end with CRLF.
        domain: Of `d=`.
        keys: At least one; the signature of the first stands on top.
        headers: Names of the header fields that are signed, those that the message has.
        at: For `t=`: the same instant gives the same octets.

    Spec: RFC 6376 §3.5, §3.7.
    """
    head, _, body = message.partition(b"\r\n\r\n")
    fields = _fields(head)
    names = [name for name in headers if any(name.lower() == key for key, _ in fields)]
    body_hash = base64.b64encode(hashlib.sha256(relaxed_body(body)).digest()).decode("ascii")
    signatures = [_signature(key, domain, names, fields, body_hash, at) for key in keys]
    return b"".join(signatures) + message


def _signature(
    key: SigningKey,
    domain: str,
    names: Sequence[str],
    fields: Sequence[tuple[str, bytes]],
    body_hash: str,
    at: datetime,
) -> bytes:
    # RFC 6376 §3.5: no `l=`: all of the body is signed (RPT-DLV-32). RFC 6376 §5.4.2: `From` once
    # more than it stands there, so that none can be added.
    listed = ":".join([*names, "From"])
    value = (
        f"v=1; a={key.algorithm}; c=relaxed/relaxed;\r\n"
        f"\td={domain}; s={key.selector};\r\n"
        f"\tt={int(at.timestamp())}; bh={body_hash};\r\n"
        f"\th={_fold(listed, ':')};\r\n\tb="
    )
    signed = [_last(fields, name.lower()) for name in names]
    own = relaxed_header("dkim-signature", value.encode("ascii"))
    # RFC 6376 §3.7: the signature's own field last, without its value and line end.
    octets = b"".join(f"{name}:".encode() + text + b"\r\n" for name, text in signed) + own
    encoded = base64.b64encode(key.sign(octets)).decode("ascii")
    folded = "\r\n\t".join(encoded[i : i + _LINE] for i in range(0, len(encoded), _LINE))
    return f"DKIM-Signature: {value}{folded}\r\n".encode("ascii")


def _fold(text: str, separator: str) -> str:
    lines = [""]
    for word in re.split(f"(?<={separator})", text):
        if len(lines[-1]) + len(word) > _LINE:
            lines.append("")
        lines[-1] += word
    return "\r\n\t ".join(lines)


def _fields(head: bytes) -> list[tuple[str, bytes]]:
    """Each header field: its name in lower case, its relaxed value."""
    found = []
    for line in re.split(rb"\r\n(?![ \t])", head):
        name, _, value = line.partition(b":")
        key = name.strip().decode("ascii").lower()
        found.append((key, relaxed_header(key, value).partition(b":")[2]))
    return found


def _last(fields: Sequence[tuple[str, bytes]], name: str) -> tuple[str, bytes]:
    # RFC 6376 §5.4.2: of several with one name, the last one first.
    return next(found for found in reversed(fields) if found[0] == name)


def relaxed_header(name: str, value: bytes) -> bytes:
    """A header field in relaxed form, without its line end.

    Spec: RFC 6376 §3.4.2.
    """
    unfolded = value.replace(b"\r\n", b"")
    return name.lower().encode("ascii") + b":" + _WSP.sub(b" ", unfolded).strip(b" \t")


def relaxed_body(body: bytes) -> bytes:
    """A body in relaxed form.

    Spec: RFC 6376 §3.4.4.
    """
    if b"  " in body or b"\t" in body or b" \r\n" in body:
        lines = [_WSP.sub(b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
        body = b"\r\n".join(lines)
    stripped = body.rstrip(b"\r\n")
    return stripped + b"\r\n" if stripped else b""
