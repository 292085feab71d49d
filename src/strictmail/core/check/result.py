# SPDX-License-Identifier: Apache-2.0
"""What a check says: findings, verdicts, and what they rest on. One shape behind every format.

`msgspec` encodes these classes as they stand, and makes the JSON Schema of them
(`checker/check.schema.json`). A member is never renamed or given another meaning without a
new SCHEMA_VERSION; new members may come.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - msgspec reads the annotations
from typing import Final

SCHEMA_VERSION: Final = 1


class Severity(enum.StrEnum):
    """How much a finding matters."""

    OK = "ok"
    """Something is right, and worth saying."""
    INFO = "info"
    WARNING = "warning"
    """Mail travels as the owner wants today; something is weak, fragile or about to fail."""
    CRITICAL = "critical"
    """Mail is lost, waits, or travels unprotected against the owner's word."""
    UNKNOWN = "unknown"
    """Nobody could look."""


class Area(enum.StrEnum):
    """What a finding is about; the first letters of its id."""

    MX = "MX"
    DNSSEC = "SEC"
    STS = "STS"
    """Record, policy host and policy."""
    TLS = "TLS"
    """STARTTLS, TLS and certificates of MX hosts."""
    DANE = "DANE"
    TLSRPT = "RPT"
    DNS = "DNS"
    """Name servers, delegation, CAA."""
    CHECK = "CHK"
    """The check itself: what it could not do."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something that was seen.

    Attributes:
        label: What it is, such as `TXT record`, `policy line 3`, `certificate`.
        text: Octets as text, names, times. Foreign; each format encodes it for where it goes.
        caret: Offset in `text` of the place at fault, 0-based; None without one.
    """

    label: str
    text: str
    caret: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        id: Stable: area and number, such as `STS012`.
        area: See Area.
        severity: How much it matters here.
        subject: What it is about: a host, `host[address]`, a record name, the domain.
        title: The kind of finding, in a few words: the same for every domain.
        sentence: What was found, in words.
        source: The section that says so, such as `RFC 8461 §3.1`.
        requirement: The id in the requirement catalogue, or "".
        evidence: What it rests on.
        fix: What to do; "" where nothing is to be done.
        paste: The record or policy line to put in place, ready to copy; "" without one.
    """

    id: str
    area: Area
    severity: Severity
    subject: str
    title: str
    sentence: str
    source: str
    requirement: str = ""
    evidence: tuple[Evidence, ...] = ()
    fix: str = ""
    paste: str = ""


class SenderClass(enum.StrEnum):
    """A kind of sending mail system."""

    MTA_STS = "mta-sts"
    """MTA-STS only, as Gmail; or an MTA with strictmail and without DANE."""
    DANE = "dane"
    """DANE only, as plain Postfix with `smtp_tls_security_level = dane`."""
    BOTH = "both"
    """MTA-STS and DANE, as Exchange Online or Postfix with strictmail."""
    OPPORTUNISTIC = "opportunistic"
    """TLS when offered, nothing verified."""
    CACHED = "cached"
    """MTA-STS, with a policy still cached from before; only where one is known."""


class Prediction(enum.StrEnum):
    """What happens to a message."""

    AUTHENTICATED = "authenticated"
    """Delivered over TLS; who the host is was verified."""
    ENCRYPTED = "encrypted"
    """Delivered over TLS; nobody verified with whom."""
    PLAINTEXT = "plaintext"
    DEFERRED = "deferred"
    """The mail waits, and after days comes back."""
    BOUNCED = "bounced"
    """There is nowhere to deliver to."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one kind of sender does at one address of one MX host.

    Attributes:
        sender: Which kind.
        mx_host: As in the MX record.
        address: One of its addresses; "" where it has none.
        prediction: What happens to a message there.
        by: With AUTHENTICATED, how: `dane` or `pkix`; else "".
        rule: The deciding rule as a stable word.
        sentence: The same in words.
        source: Its section.
        result_type: What the sender would report (RFC 8460 §4.3), "" for nothing.
    """

    sender: SenderClass
    mx_host: str
    address: str
    prediction: Prediction
    by: str
    rule: str
    sentence: str
    source: str
    result_type: str = ""


@dataclass(frozen=True, slots=True)
class SenderVerdict:
    """What becomes of mail from one kind of sender, all hosts taken together.

    Attributes:
        sender: Which kind.
        prediction: What happens to a message.
        by: See Verdict.
        mx_host: The host that gets it, or "".
        rule: See Verdict.
        sentence: See Verdict.
        source: See Verdict.
        certain: False: a host that would be tried earlier, or as well, could not be looked at.
    """

    sender: SenderClass
    prediction: Prediction
    by: str
    mx_host: str
    rule: str
    sentence: str
    source: str
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of a presented chain.

    Attributes:
        subject: RFC 4514 text.
        issuer: RFC 4514 text.
        dns_names: The dNSName entries of a leaf: the first hundred.
        not_before: UTC.
        not_after: UTC.
        key: As in `ecdsa-256`, `rsa-2048`.
        signature: Hash of the signature, as in `sha256`.
        sha256: Fingerprint of the certificate, lower-case hex.
        spki_sha256: Digest of the public key, as in a `3 1 1` record.
        is_ca: Basic constraints say so.
    """

    subject: str
    issuer: str
    dns_names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    key: str
    signature: str
    sha256: str
    spki_sha256: str
    is_ca: bool


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that a host presented.

    Attributes:
        key_type: `rsa`, `ecdsa` or `other`.
        server_name: The SNI that got it.
        tls_version: Of that session.
        cipher: Of that session.
        pkix_problems: What the web PKI has against it; empty: valid.
        detail: On the first of these.
        dane: The outcome before the TLSA records (`authenticated`, `mismatch`, ...); "" without.
        certificates: Leaf first, as sent: the first sixteen.
    """

    key_type: str
    server_name: str
    tls_version: str
    cipher: str
    pkix_problems: tuple[str, ...]
    detail: str
    dane: str
    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class AddressResult:
    """One address of an MX host.

    Attributes:
        address: IPv4 or IPv6.
        outcome: How the session ended: see `facts.ProbeOutcome`.
        unknown: With `unknown`: why, as a stable word; else "".
        detail: A sentence.
        helo: The name it gives itself.
        chains: What it presented.
        seconds: How long the session took.
    """

    address: str
    outcome: str
    unknown: str
    detail: str
    helo: str
    chains: tuple[Chain, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class HostResult:
    """One MX host.

    Attributes:
        name: As in the MX record.
        preference: Lower is tried first.
        on_policy: Whether the policy's patterns allow it; None without a policy.
        tlsa_state: See `mxset.TlsaState`.
        tlsa_base_domain: Where secure records are.
        tlsa: The records in presentation form.
        addresses: Each of its addresses.
    """

    name: str
    preference: int
    on_policy: bool | None
    tlsa_state: str
    tlsa_base_domain: str
    tlsa: tuple[str, ...]
    addresses: tuple[AddressResult, ...]


@dataclass(frozen=True, slots=True)
class StsResult:
    """MTA-STS as published.

    Attributes:
        record: The TXT records that were found, each as text.
        policy_id: Of the usable record, or "".
        mode: Of the policy, or "" without a valid one.
        max_age: Seconds, or None.
        mx_patterns: Of the policy.
        policy_lines: The body as served.
        failure: Why there is no policy, or "".
        result_type: How that would be reported, or "".
    """

    record: tuple[str, ...]
    policy_id: str
    mode: str
    max_age: int | None
    mx_patterns: tuple[str, ...]
    policy_lines: tuple[str, ...]
    failure: str
    result_type: str


@dataclass(frozen=True, slots=True)
class TlsrptResult:
    """TLSRPT as published.

    Attributes:
        record: The TXT records that were found, each as text.
        rua: Usable destinations, as published.
    """

    record: tuple[str, ...]
    rua: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        schema: SCHEMA_VERSION.
        strictmail: The version that made it.
        domain: A-labels.
        checked_at: When the look began, UTC.
        seconds: How long it took.
        status: The worst severity: `ok`, `warning`, `critical` or `unknown`.
        summary: The verdict in one line of words.
        receiver: The well-known receiver that takes its mail, or "".
        mx_status: See `mxset.MxStatus`.
        dnssec: State of the MX set: `secure`, `insecure`, `bogus` or `indeterminate`.
        sts: MTA-STS.
        tlsrpt: TLSRPT.
        hosts: The MX hosts.
        senders: What becomes of mail, by kind of sender.
        verdicts: The same for each host and address.
        findings: What was found, the worst first.
    """

    schema: int
    strictmail: str
    domain: str
    checked_at: datetime
    seconds: float
    status: Severity
    summary: str
    receiver: str
    mx_status: str
    dnssec: str
    sts: StsResult
    tlsrpt: TlsrptResult
    hosts: tuple[HostResult, ...]
    senders: tuple[SenderVerdict, ...]
    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]
