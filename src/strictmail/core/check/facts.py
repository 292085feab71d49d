# SPDX-License-Identifier: Apache-2.0
"""What a look at a domain brought home: facts with their times, nothing judged.

`strictmail.checker` gathers them over ports; `strictmail.core.check.judge` makes findings and
verdicts of them. A fact that could not be had is an `Unknown` with its reason, never a default:
no rule may read "fails" out of what nobody looked at.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from strictmail.core.dnsvalues import Answer, RecordType
    from strictmail.core.mxset import MxSet
    from strictmail.core.sts.lifecycle import PolicyEntry
    from strictmail.core.sts.values import FetchedPolicy, FetchFailure

SMTP_PORT: Final = 25


class UnknownReason(enum.StrEnum):
    """Why something could not be looked at: never the owner's fault as far as we can tell."""

    PORT_BLOCKED = "port-blocked"
    """Outbound port 25 is closed where the check runs."""
    NO_ROUTE = "no-route"
    """This machine has no way there (typically: no IPv6)."""
    TIMEOUT = "timeout"
    """Nothing came in time: a busy host, a lost packet, a filter."""
    TARPIT = "tarpit"
    """Connected, and the host says nothing in time."""
    REFUSED = "refused"
    """The connection was refused or reset: down, or closed to us."""
    BUSY = "busy"
    """421 or another 4xx: come back later."""
    REJECTED = "rejected"
    """A 5xx greeting or reply to EHLO: not open to us."""
    DNS = "dns"
    """A lookup failed here: SERVFAIL, bogus or no reply."""
    LIMIT = "limit"
    """One of our own caps: too many addresses, connections or names."""
    DEADLINE = "deadline"
    """The time for the whole check was over."""
    SKIPPED = "skipped"
    """Not wanted by the caller."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that could not be looked at.

    Attributes:
        reason: Why, as a stable word.
        detail: A sentence for people; foreign text in it is escaped.
    """

    reason: UnknownReason
    detail: str = ""


class KeyType(enum.StrEnum):
    """The kind of certificate that a client asks for, or got."""

    ANY = "any"
    RSA = "rsa"
    ECDSA = "ecdsa"
    OTHER = "other"


class PkixProblem(enum.StrEnum):
    """What the web PKI has against a chain; several can hold at once."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    SELF_SIGNED = "self-signed"
    """The leaf signed itself."""
    UNTRUSTED_ROOT = "untrusted-root"
    """The chain ends in a root that is not trusted."""
    MISSING_INTERMEDIATE = "missing-intermediate"
    """The issuer of the last certificate was not sent, and is no root that we know."""
    NAME = "name"
    """No dNSName for the host."""
    INVALID = "invalid"
    """Anything else: a constraint, a purpose, a signature, a weak key."""


@dataclass(frozen=True, slots=True)
class PkixFacts:
    """What the web PKI makes of one presented chain for one name.

    Attributes:
        reference_id: The name that the leaf was held against.
        problems: Empty: valid. In the order of the enumeration.
        verify_code: OpenSSL's first error, 0 for none.
        detail: A sentence: which certificate, which date.
    """

    reference_id: str
    problems: tuple[PkixProblem, ...] = ()
    verify_code: int = 0
    detail: str = ""

    @property
    def is_valid(self) -> bool:
        """Whether a sender under MTA-STS accepts it."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """One TLS session as it was made, nothing refused.

    Attributes:
        version: As in `TLSv1.3`.
        cipher: OpenSSL's name of the suite.
        server_name: The SNI that was sent.
        asked_key_type: What the client offered to take.
        key_type: What the leaf has.
        chain_der: What the server presented, in its order, leaf first; DER.
        pkix: What the web PKI makes of it.
    """

    version: str
    cipher: str
    server_name: str
    asked_key_type: KeyType
    key_type: KeyType
    chain_der: tuple[bytes, ...]
    pkix: PkixFacts


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """One connection to make.

    Attributes:
        host: The MX host as in the MX record: the name that the certificate is held against.
        address: Where to connect.
        server_name: SNI: the MX name for MTA-STS, the TLSA base domain for DANE.
        key_type: RSA or ECDSA: offer only suites of that kind (TLS 1.2).
        port: Port of the host.
        reference_id: The name the web PKI check uses; "" for `host`.
    """

    host: str
    address: str
    server_name: str
    key_type: KeyType = KeyType.ANY
    port: int = SMTP_PORT
    reference_id: str = ""


class ProbeOutcome(enum.StrEnum):
    """How a session with one address ended."""

    TLS = "tls"
    """The handshake was done, and EHLO was answered inside."""
    NO_STARTTLS = "no-starttls"
    """EHLO was answered without STARTTLS (or only HELO was)."""
    STARTTLS_TEMPORARY = "starttls-temporary"
    """STARTTLS was offered and answered with 4xx."""
    STARTTLS_REFUSED = "starttls-refused"
    """STARTTLS was offered and answered with 5xx."""
    INJECTED = "injected"
    """Octets in the clear came between the 220 to STARTTLS and the handshake: an attack."""
    TLS_FAILED = "tls-failed"
    """The handshake broke."""
    TLS_OUTDATED = "tls-outdated"
    """Only a version before TLS 1.2 is spoken; `tls` has that session."""
    UNKNOWN = "unknown"
    """Nobody could look: see `unknown`."""


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """One session with one address of an MX host.

    Attributes:
        target: What was asked for.
        outcome: How it ended.
        unknown: With UNKNOWN, why.
        tls: With TLS and TLS_OUTDATED, the session; perhaps also with others, else None.
        helo: The name in the greeting or in the reply to EHLO, escaped; "" if none came.
        reply: The reply that decided (refusal, 421, ...), code and text, escaped and cut.
        detail: A sentence on what happened.
        at: When it began.
        seconds: How long it took.
        attempts: Connections that were made for it.
        starttls_inside: STARTTLS was offered again in the reply to EHLO inside TLS.
    """

    target: ProbeTarget
    outcome: ProbeOutcome
    at: datetime
    unknown: Unknown | None = None
    tls: TlsFacts | None = None
    helo: str = ""
    reply: str = ""
    detail: str = ""
    seconds: float = 0.0
    attempts: int = 1
    starttls_inside: bool = False


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One MX host.

    Attributes:
        name: As in the MX record.
        preference: Lower is tried first.
        addresses: The answers for A and AAAA, in this order; empty for an address literal.
        probes: All sessions; the first one of each address has the MX name as SNI and any key
            type. Another base domain, and the other key type, follow.
        tlsrpt: The answer for TXT at `_smtp._tls.<host>`, if it was asked for.
        idle_tlsa: The answer for TLSA where senders do not ask, behind unsigned MX records or
            addresses; None if it was not asked for.
    """

    name: str
    preference: int
    addresses: tuple[Answer, ...] = ()
    probes: tuple[ProbeFacts, ...] = ()
    tlsrpt: Answer | None = None
    idle_tlsa: Answer | None = None


@dataclass(frozen=True, slots=True)
class PolicyHostLook:
    """The policy host, seen at one address.

    Attributes:
        address: Which.
        result: What a fetch from this address alone brought.
        tls: The session, whatever the web PKI says of it; None if there was none.
        agent: Which user agent asked: "" for our own, else its name.
        seconds: How long the fetch took.
    """

    address: str
    result: FetchedPolicy | FetchFailure
    tls: TlsFacts | None = None
    agent: str = ""
    seconds: float = 0.0


class RuaState(enum.StrEnum):
    """Whether a report destination takes reports, as far as can be seen without sending one."""

    ALIVE = "alive"
    DEAD = "dead"
    """It certainly does not: null MX, no such domain, 404 or 410, a certificate refused."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RuaFacts:
    """One destination of a TLSRPT record.

    Attributes:
        uri: As published.
        state: What was seen.
        detail: A sentence with the evidence.
    """

    uri: str
    state: RuaState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AuthorityFacts:
    """What one authoritative name server says to one question.

    Attributes:
        zone: The zone that it was asked as an authority of.
        server: Its name.
        address: Its address.
        name: The name asked for.
        rdtype: The type asked for.
        answer: What it said (aliases not followed); its `secure` says nothing.
        authoritative: The AA bit. False with records: a lame delegation.
    """

    zone: str
    server: str
    address: str
    name: str
    rdtype: RecordType
    answer: Answer
    authoritative: bool = True


class PortState(enum.StrEnum):
    """Whether mail can leave the machine that checks."""

    OPEN = "open"
    BLOCKED = "blocked"
    NOT_TESTED = "not-tested"


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """Everything a check looked at.

    Attributes:
        domain: A-labels, lower case.
        looked_at: When it began.
        validates: The resolver validates: without that, nothing is known of DANE.
        mx_answer: The answer for MX.
        mx: The set made of it; `tlsa_state` of its hosts is NOT_ASKED behind an insecure set.
        hosts: Facts on each host of `mx`, same order; fewer if there are too many.
        sts_record: TXT at `_mta-sts`.
        policy_addresses: A and AAAA of the policy host; empty if nobody asked.
        policy: What a sender's own fetch brings; None if there is no record to make one for.
        policy_looks: The policy host at each address, and for other user agents.
        tlsrpt_record: TXT at `_smtp._tls`.
        rua: Destinations of the record that were looked at.
        authorities: What each authoritative server says.
        caa: CAA answers from the policy host's name upwards, nearest first; ends at the first
            that has records.
        cached: A policy that senders may still hold from before.
        port25: Whether mail can leave from here at all.
        unknown: Looks that did not happen, by subject (such as `rua`, `authorities`).
        seconds: How long it all took.
        allow_networks: Networks that count as public here, beside the public ones: a lab, or the
            inside of a site.
    """

    domain: str
    looked_at: datetime
    validates: bool
    mx_answer: Answer
    mx: MxSet
    sts_record: Answer
    tlsrpt_record: Answer
    hosts: tuple[HostFacts, ...] = ()
    policy_addresses: tuple[Answer, ...] = ()
    policy: FetchedPolicy | FetchFailure | None = None
    policy_looks: tuple[PolicyHostLook, ...] = ()
    rua: tuple[RuaFacts, ...] = ()
    authorities: tuple[AuthorityFacts, ...] = ()
    caa: tuple[Answer, ...] = ()
    cached: PolicyEntry | None = None
    port25: PortState = PortState.NOT_TESTED
    unknown: tuple[tuple[str, Unknown], ...] = field(default=())
    seconds: float = 0.0
    allow_networks: tuple[str, ...] = ()
