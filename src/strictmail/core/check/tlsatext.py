# SPDX-License-Identifier: Apache-2.0
"""TLSA records in words, and as lines to paste."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from strictmail.core.dane.authenticate import spki_der
from strictmail.core.dane.base_domain import tlsa_qname
from strictmail.core.dane.tlsa import (
    CERT,
    DANE_EE,
    DANE_TA,
    FULL,
    SHA2_256,
    SHA2_512,
    SPKI,
)
from strictmail.core.explain import printable

if TYPE_CHECKING:
    from strictmail.core.dnsvalues import Tlsa

MAX_DIGITS: Final = 16
"""Hexadecimal digits of a record in a sentence: enough to tell two apart."""

_DIGEST_BYTES: Final = {SHA2_256: 32, SHA2_512: 64}


def explain_unusable(record: Tlsa) -> tuple[str, int]:
    """Why a record that `is_usable` refuses is refused.

    Returns:
        The reason, and which of the four fields of the presentation form is at fault, from 0.
    """
    if record.usage in (0, 1):
        # RFC 7672 §3.1.3: PKIX usages are undefined for SMTP (DANE-41, DANE-42).
        return f"usage {record.usage} (PKIX) is not for SMTP", 0
    if record.usage not in (DANE_TA, DANE_EE):
        return f"usage {record.usage} is unknown", 0
    if record.selector not in (CERT, SPKI):
        return f"selector {record.selector} is unknown", 1
    if record.mtype not in (FULL, SHA2_256, SHA2_512):
        return f"matching type {record.mtype} is unknown", 2
    if record.mtype in _DIGEST_BYTES:
        # RFC 6698 §4.1: a digest has the length of its kind (DANE-44).
        wanted = _DIGEST_BYTES[record.mtype]
        return f"a digest of this type has {wanted} octets, not {len(record.data)}", 3
    what = "certificate" if record.selector == CERT else "public key"
    return f"its data is no {what}, or one too weak to rely on", 3


def tlsa_line(base_domain: str, der: bytes, usage: int, selector: int, mtype: int) -> str:
    """A TLSA record of a certificate as a line of a zone file; "" for what is no certificate."""
    data = der if selector == CERT else spki_der(der)
    if data is None:
        return ""
    digest = hashlib.sha512 if mtype == SHA2_512 else hashlib.sha256
    name = printable(tlsa_qname(base_domain))
    return f"{name}. IN TLSA {usage} {selector} {mtype} {digest(data).hexdigest()}"


def shorten(record: Tlsa) -> str:
    """A record by its beginning."""
    digits = record.data.hex()
    shown = digits if len(digits) <= MAX_DIGITS else f"{digits[:MAX_DIGITS]}..."
    return f"`{record.usage} {record.selector} {record.mtype} {shown}`"
