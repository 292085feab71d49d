# SPDX-License-Identifier: Apache-2.0
"""What an inhabitant of the zoo is made of: names of faults, hosts, records, expectations.

Values only. `strictmail.lab.zoo` is the table of them; the servers of the lab bring them to life.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from strictmail.core.decision import Level
    from strictmail.core.tlsrpt.results import ResultType

POLICY_LABEL: Final = "mta-sts"
RECORD_LABEL: Final = "_mta-sts"


class CertFault(enum.StrEnum):
    """What is wrong with a certificate.

    `good`, `wildcard`, `several-names` and `both-keys` are in order.
    """

    GOOD = "good"
    WILDCARD = "wildcard"
    SEVERAL_NAMES = "several-names"
    """The names stand in `certificate_names`, whatever they are."""
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    SELF_SIGNED = "self-signed"
    UNTRUSTED_CA = "untrusted-ca"
    MISSING_INTERMEDIATE = "missing-intermediate"
    EXPIRED_INTERMEDIATE = "expired-intermediate"
    WRONG_NAME = "wrong-name"
    DOMAIN_ONLY = "domain-only"
    """Names the mail domain, not the host."""
    WILDCARD_TOO_HIGH = "wildcard-too-high"
    """A wildcard one label above the host's parent: it would have to cover two labels."""
    PARTIAL_WILDCARD = "partial-wildcard"
    """A wildcard that is only a part of its label."""
    COMMON_NAME_ONLY = "common-name-only"
    """The right name, but only in the subject."""
    ADDRESS_ONLY = "address-only"
    """Names the host's address, not its name."""
    BOTH_KEYS = "both-keys"
    """A chain with an ECDSA key, and another one with an RSA key, by what the client offers."""


class PolicyFault(enum.StrEnum):
    """How a policy host behaves; whatever it does, the body it knows is a policy or claims so."""

    GOOD = "policy-good"
    REDIRECT_SAME_HOST = "redirect-same-host"
    REDIRECT_OTHER_HOST = "redirect-other-host"
    NOT_FOUND = "status-404"
    SERVER_ERROR = "status-500"
    NO_CONTENT = "status-204"
    NON_AUTHORITATIVE = "status-203"
    NOT_MODIFIED = "status-304"
    SLOW = "slow"
    """One octet at a time, `Lab.slow_seconds` apart."""
    STALL = "stall"
    """Takes the connection and says nothing."""
    ENDLESS = "endless"
    """Chunks without end."""
    HUGE = "huge"
    """A valid policy of more than 64 KiB."""
    HEADER_FLOOD = "header-flood"
    """Header fields without end."""
    GZIP = "gzip"
    BOMB = "bomb"
    """Some 100 KB that unpack to 100 MB."""
    TRUNCATED = "truncated"
    """Content-Length promises more than comes; the connection then ends without a farewell."""
    UNFINISHED_CHUNKS = "unfinished-chunks"
    WRONG_TYPE = "wrong-type"
    NO_TYPE = "no-type"
    PARAMETERS = "parameters"
    """`Text/Plain` with parameters: in order."""
    NOT_HTTP = "not-http"
    PLAINTEXT_ONLY = "plaintext-only"
    """HTTP without TLS on the HTTPS port."""
    OLD_TLS = "old-tls"
    """TLS 1.0 only."""
    REFUSE = "refuse"
    """Nobody listens."""


class MxFault(enum.StrEnum):
    """How an MX host behaves, apart from its certificate."""

    GOOD = "mx-good"
    NO_STARTTLS = "no-starttls"
    """The capability is not offered: never was, or somebody strips it."""
    STARTTLS_454 = "starttls-454"
    STARTTLS_502 = "starttls-502"
    EHLO_REFUSED = "ehlo-refused"
    """502 to EHLO; HELO works, and has no capabilities."""
    INJECTED = "injected"
    """Forged replies in the clear, in one segment with the 220 to STARTTLS."""
    OLD_TLS = "old-tls"
    """TLS 1.0 only."""
    BROKEN_TLS = "broken-tls"
    """Octets that are no TLS where the handshake should be."""
    TARPIT = "tarpit"
    """Takes the connection and never greets."""
    GREETING_421 = "greeting-421"
    REFUSE = "refuse"
    """Nobody listens."""
    RCPT_550 = "rcpt-550"
    """Rejects every recipient, whatever the session."""
    TLS_1_2_ONLY = "tls-1.2-only"
    TLS_1_3_ONLY = "tls-1.3-only"
    GREETING_554 = "greeting-554"
    SLOW_GREETING = "slow-greeting"
    """The greeting comes octet by octet, in several lines."""
    EHLO_451 = "ehlo-451"
    DROP_AFTER_EHLO = "drop-after-ehlo"
    """Hangs up when it hears EHLO or HELO."""
    DROP_AFTER_STARTTLS = "drop-after-starttls"
    """Hangs up behind the 220 to STARTTLS."""
    STARTTLS_AGAIN = "starttls-again"
    """Offers STARTTLS inside TLS."""
    BUSY_AT_FIRST = "busy-at-first"
    """421 to the first connection, as some do with strangers; then in order."""
    BUSY_SOON = "busy-soon"
    """In order for the first connection; then 421, as a rate limiter says."""


FOR_LOOKERS: Final[frozenset[MxFault | CertFault]] = frozenset(
    {
        CertFault.BOTH_KEYS,
        MxFault.TLS_1_2_ONLY,
        MxFault.TLS_1_3_ONLY,
        MxFault.GREETING_554,
        MxFault.SLOW_GREETING,
        MxFault.EHLO_451,
        MxFault.DROP_AFTER_EHLO,
        MxFault.DROP_AFTER_STARTTLS,
        MxFault.STARTTLS_AGAIN,
        MxFault.BUSY_AT_FIRST,
        MxFault.BUSY_SOON,
    }
)
"""What no inhabitant of the zoo has: they matter to who looks at a host, and one delivery would
not show them."""


class CutKind(enum.StrEnum):
    """What is below a zone cut of an entry's own."""

    BOGUS = "bogus"
    """The parent's DS record fits no key: validation fails."""
    DEAD = "dead"
    """Delegated to a server that does not know the zone: SERVFAIL."""
    UNSIGNED = "unsigned"
    """No DS record: insecure from here on."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A zone cut: everything at and below `name` is of that kind."""

    name: str
    kind: CutKind


@dataclass(frozen=True, slots=True)
class MxHost:
    """An MX host as it stands in an MX record.

    Attributes:
        name: The exchange, lower case, no trailing dot.
        preference: Lower is tried first.
        fault: What its SMTP service does.
        certificate: What is wrong with its certificate.
        certificate_names: The DNS names in it, if not just `name`.
        tlsa: Records computed from the certificate, as in `strictmail.lab.tlsa`.
        tlsa_owner: Where they are, if not at `_25._tcp` below the base domain.
        canonical: `name` is a CNAME to this name, where the address is.
        has_address: Whether it can be resolved at all.
    """

    name: str
    preference: int = 10
    fault: MxFault = MxFault.GOOD
    certificate: CertFault = CertFault.GOOD
    certificate_names: tuple[str, ...] = ()
    tlsa: tuple[str, ...] = ()
    tlsa_owner: str = ""
    canonical: str = ""
    has_address: bool = True

    @property
    def base_domain(self) -> str:
        """Where its address is."""
        return self.canonical or self.name


@dataclass(frozen=True, slots=True)
class PolicyHost:
    """The HTTPS host of a policy domain.

    Attributes:
        body: What it serves (or would, but for the fault).
        fault: What its HTTP service does.
        certificate: What is wrong with its certificate.
        certificate_names: The DNS names in it, if not just its own.
        canonical: The policy host's name is a CNAME to this one.
        addresses: What its name resolves to; `lab` stands for its real address.
        has_address: Whether its name resolves at all.
    """

    body: bytes
    fault: PolicyFault = PolicyFault.GOOD
    certificate: CertFault = CertFault.GOOD
    certificate_names: tuple[str, ...] = ()
    canonical: str = ""
    addresses: tuple[str, ...] = ("lab",)
    has_address: bool = True


class Delivery(enum.StrEnum):
    """What becomes of a message; the first three arrive."""

    VERIFIED = "verified"
    ENCRYPTED = "encrypted"
    """TLS, but nobody knows with whom: Postfix says Trusted, Untrusted or Anonymous."""
    PLAINTEXT = "plaintext"
    DEFERRED = "deferred"
    BOUNCED = "bounced"


ARRIVES: Final = frozenset({Delivery.VERIFIED, Delivery.ENCRYPTED, Delivery.PLAINTEXT})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one kind of sender has to see.

    Attributes:
        level: What strictmail answers to a listener with default level `may`, once the policy
            is learnt; None where the standards leave it open, and for senders that ask nobody.
        delivery: What becomes of mail that Postfix sends with that answer.
        received_by: The MX host (its name in the MX record) that gets it, or None.
        or_delivery: A second outcome that the standards allow as well.
    """

    level: Level | None
    delivery: Delivery
    received_by: str | None
    or_delivery: Delivery | None = None

    def allows(self, delivery: str) -> bool:
        """Whether an observed delivery is one of those allowed."""
        return delivery in (self.delivery, self.or_delivery)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must happen, from the requirements, with nothing cached before.

    Attributes:
        dane: For a sender that does DANE, on a machine whose resolver validates.
        plain: For one that does not.
        dane_only: For one that does DANE and knows nothing of MTA-STS.
        opportunistic: For one that verifies nobody.
        why: The reason in a sentence with its section.
        result_type: How a failing policy fetch must be reported, if it fails (RFC 8460 §4.3).
    """

    dane: Outcome
    plain: Outcome
    dane_only: Outcome
    opportunistic: Outcome
    why: str
    result_type: ResultType | None = None

    def of(self, sender: str) -> Outcome:
        """For a kind of sender: `mta-sts`, `dane` (alone), `both` or `opportunistic`."""
        return {
            "mta-sts": self.plain,
            "dane": self.dane_only,
            "both": self.dane,
            "opportunistic": self.opportunistic,
        }[sender]

    @property
    def level(self) -> Level | None:
        """Level for a sender that does DANE."""
        return self.dane.level

    @property
    def level_without_dane(self) -> Level | None:
        """Level for a sender that does not."""
        return self.plain.level

    @property
    def delivery(self) -> Delivery:
        """Outcome for a sender that does DANE."""
        return self.dane.delivery

    @property
    def delivery_without_dane(self) -> Delivery:
        """Outcome for a sender that does not."""
        return self.plain.delivery

    @property
    def received_by(self) -> str | None:
        """MX host that gets the mail of a sender that does DANE."""
        return self.dane.received_by

    @property
    def received_by_without_dane(self) -> str | None:
        """MX host that gets the mail of a sender that does not."""
        return self.plain.received_by


UNKNOWN: Final = "unknown"
"""What a check says where it cannot know; the other words are those of `Delivery`."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """What a check has to say instead, where it cannot see what becomes of a message.

    Attributes:
        reason: Why it cannot.
        mta_sts: Of a sender with MTA-STS alone: a word of `Delivery`, or UNKNOWN.
        dane: Of one with DANE alone.
        both: Of one with both.
        opportunistic: Of one that verifies nobody.
    """

    reason: str
    mta_sts: str = UNKNOWN
    dane: str = UNKNOWN
    both: str = UNKNOWN
    opportunistic: str = UNKNOWN

    def of(self, sender: str) -> str:
        """Of a kind of sender, as in `Expectation.of`."""
        return {
            "mta-sts": self.mta_sts,
            "dane": self.dane,
            "both": self.both,
            "opportunistic": self.opportunistic,
        }[sender]


@dataclass(frozen=True, slots=True)
class Departure:
    """Where a kind of sender cannot do what the standards want, and why.

    Attributes:
        dialects: The dialects of the senders it is about.
        outcome: What they do instead.
        reason: Why that is so.
    """

    dialects: tuple[str, ...]
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """What the owner does when `Lab.change` is called: a new policy under a new id."""

    policy_id: str
    body: bytes
    expect: Expectation


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """A domain with one named fault, or none.

    Attributes:
        name: A slug.
        domain: The mail domain, A-labels.
        fault: What is wrong, in one sentence.
        requirements: Ids of `spec/` that it shows.
        expect: What must happen.
        mx: Its MX hosts. For an implicit MX, one host named like the domain, and `records` has
            no MX for it: see `has_mx_records`.
        policy: Its policy host, if there is one.
        txt: The TXT RRset at `_mta-sts`: per record its character-strings.
        has_mx_records: False: the hosts in `mx` have no MX records.
        records: Further records, master file form with absolute names, no TTL and class.
        cuts: Zone cuts of its own.
        change: What the owner may do later.
        departs: Senders of which less can be expected.
        unseen: What a check says instead, where it cannot see the outcome.
        findings: What a check has to find, as severity and id. Complete for what is critical, a
            warning or unknown; notes only where they are about the entry's subject.
    """

    name: str
    domain: str
    fault: str
    requirements: tuple[str, ...]
    expect: Expectation
    mx: tuple[MxHost, ...] = ()
    policy: PolicyHost | None = None
    txt: tuple[tuple[str, ...], ...] = ()
    has_mx_records: bool = True
    records: tuple[str, ...] = ()
    cuts: tuple[Cut, ...] = ()
    change: Change | None = None
    departs: tuple[Departure, ...] = ()
    unseen: Unseen | None = None
    findings: tuple[tuple[str, str], ...] = ()

    def allows_verdict(self, sender: str, said: str) -> bool:
        """Whether a check may say this of a kind of sender.

        Args:
            sender: As in `Expectation.of`.
            said: A word of `Delivery`, or UNKNOWN.
        """
        if self.unseen is not None:
            return said == self.unseen.of(sender)
        return self.expect.of(sender).allows(said)

    @property
    def policy_host(self) -> str:
        """The name of its policy host."""
        return f"{POLICY_LABEL}.{self.domain}"

    @property
    def record_name(self) -> str:
        """Where its TXT record is."""
        return f"{RECORD_LABEL}.{self.domain}"
