# SPDX-License-Identifier: Apache-2.0
"""DKIM keys from files, and whether DNS knows them."""

from __future__ import annotations

import base64
import binascii
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strictmail.core.dkim import SigningKey, load_key
from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.errors import ConfigError
from strictmail.core.tagrecord import join_strings
from strictmail.net.secretfile import read_secret

if TYPE_CHECKING:
    from strictmail.ports import Resolver


def read_key(selector: str, path: str) -> SigningKey:
    """Read a key.

    Raises:
        ConfigError: It cannot be read, others can read it, or it is no key for DKIM.
    """
    pem = read_secret(path, "the DKIM key")
    try:
        return load_key(selector, pem)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


class KeyState(enum.Enum):
    """What DNS says of a key."""

    GOOD = "good"
    ABSENT = "absent"
    DIFFERENT = "different"
    NOT_FOR_REPORTS = "not-for-reports"
    """`s=` names neither `*` nor `tlsrpt`."""
    REPORTS_ONLY = "reports-only"
    """`s=tlsrpt` alone: verifiers of ordinary mail pass over the key."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class KeyFinding:
    """What was found.

    Attributes:
        state: How it is.
        name: The name that was asked for.
        wanted: The record that should stand there.
        detail: A sentence on a failure.
    """

    state: KeyState
    name: str
    wanted: str
    detail: str = ""


def wanted_record(key: SigningKey) -> str:
    """The TXT record of a key."""
    kind = "rsa" if key.algorithm.startswith("rsa") else "ed25519"
    public = base64.b64encode(key.public).decode("ascii")
    # RFC 8460 §3: a key without `s=` is for reports as for all mail (RPT-DLV-33). Verifiers pass
    # over one for `tlsrpt` alone, and some do not read a list such as `email:tlsrpt`.
    return f"v=DKIM1; k={kind}; p={public}"


async def look_up_key(resolver: Resolver, domain: str, key: SigningKey) -> KeyFinding:
    """Ask DNS for the public half of a key. Never raises for a DNS outcome."""
    name = f"{key.selector}._domainkey.{domain}"
    wanted = wanted_record(key)
    answer = await resolver.lookup(name, RecordType.TXT)
    if not answer.status.is_answer:
        return KeyFinding(KeyState.UNKNOWN, name, wanted, answer.detail)
    texts = [join_strings(strings) for strings in answer.records if isinstance(strings, tuple)]
    if answer.status is not Status.OK or not texts:
        return KeyFinding(KeyState.ABSENT, name, wanted)
    states = [_judge(text.decode("latin-1"), key) for text in texts]
    best = KeyState.GOOD if KeyState.GOOD in states else states[0]
    return KeyFinding(best, name, wanted)


def _judge(text: str, key: SigningKey) -> KeyState:
    """One record (RFC 6376 §3.6.1)."""
    tags = {}
    for part in text.split(";"):
        name, _, value = part.partition("=")
        tags[name.strip()] = value.strip()
    try:
        public = base64.b64decode("".join(tags.get("p", "").split()), validate=True)
    except (binascii.Error, ValueError):
        return KeyState.DIFFERENT
    if public != key.public:
        return KeyState.DIFFERENT
    services = {service.strip() for service in tags.get("s", "*").split(":")}
    if not services & {"*", "tlsrpt"}:
        return KeyState.NOT_FOR_REPORTS
    return KeyState.GOOD if services & {"*", "email"} else KeyState.REPORTS_ONLY
