# SPDX-License-Identifier: Apache-2.0
"""STARTTLS and TLS of the MX hosts, as a sender would have met them.

Judges the first session with each address. What could not be looked at is said to be unknown,
with its reason, and never made a fault: a busy host, a tarpit or a block list that we are on says
nothing about what other senders meet. Certificates are judged in `certificates` and `dane`.

What is closed on the side of the check, port 25 or IPv6, concerns all hosts: `scope` says it once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.core.check.facts import ProbeOutcome, UnknownReason
from strictmail.core.check.kinds import Kind
from strictmail.core.check.result import Evidence, Severity
from strictmail.core.check.stakes import addresses_of, first_sessions, pair, stakes_of, subject
from strictmail.core.explain import printable
from strictmail.core.sts.values import Mode
from strictmail.core.tagrecord import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.core.check.facts import DomainFacts, HostFacts, ProbeFacts
    from strictmail.core.check.result import Finding
    from strictmail.core.check.stakes import Stakes

NOT_OFFERED: Final = Kind(
    "TLS001",
    Severity.WARNING,
    "STARTTLS not offered",
    "RFC 8461 §4.2",
    "The host answers EHLO without STARTTLS. Under an enforced policy or with TLSA records mail "
    "does not go there; otherwise it travels in the clear.",
    "STS-APP-30",
    "Switch on STARTTLS for the port that receives mail, on every address.",
)
TEMPORARY: Final = Kind(
    "TLS002",
    Severity.WARNING,
    "STARTTLS refused for now",
    "RFC 3207 §4",
    "The host offers STARTTLS and answers it with a 4xx reply, twice: TLS is out of order there, or "
    "the host is short of something. A reply that speaks of limits or of later is TLS013.",
    "STS-APP-30",
    "Look into the mail server's log: a certificate or key that cannot be read is the usual cause.",
)
REFUSED: Final = Kind(
    "TLS003",
    Severity.WARNING,
    "STARTTLS refused",
    "RFC 3207 §4",
    "The host offers STARTTLS and answers it with a 5xx reply. To a sender that is no TLS at all.",
    "STS-APP-30",
    "Look into the mail server's log: a certificate or key that cannot be read is the usual cause.",
)
INJECTED: Final = Kind(
    "TLS004",
    Severity.CRITICAL,
    "Octets injected before the handshake",
    "RFC 3207 §6",
    "Behind the reply to STARTTLS, more octets came in the clear. Somebody on the way, or a faulty "
    "proxy, puts words into the session; a careless sender takes them for replies inside TLS.",
    "STS-APP-43",
    "Find what stands between: a firewall that rewrites SMTP, a proxy, or an attacker.",
)
FAILED: Final = Kind(
    "TLS005",
    Severity.WARNING,
    "TLS handshake fails",
    "RFC 8461 §4.2",
    "STARTTLS is offered and accepted, and then no TLS session comes about.",
    "STS-APP-30",
    "Allow TLS 1.2 and 1.3 with the usual suites, and load a certificate with its key.",
)
OUTDATED: Final = Kind(
    "TLS006",
    Severity.WARNING,
    "Only outdated TLS",
    "RFC 8461 §7.2",
    "The host speaks no version from TLS 1.2 on. Senders under an enforced policy do not count "
    "such a session as TLS.",
    "STS-APP-38",
    "Update the TLS library of the mail server, or allow TLS 1.2 and 1.3 in its settings.",
)
WEAK_CIPHER: Final = Kind(
    "TLS007",
    Severity.WARNING,
    "Weak cipher",
    "RFC 8461 §7.2",
    "The session was encrypted with a suite that is broken, or that authenticates nobody.",
    "STS-APP-39",
    "Remove RC4, 3DES, export, anonymous and NULL suites from the settings of the mail server.",
)
NO_FORWARD_SECRECY: Final = Kind(
    "TLS008",
    Severity.INFO,
    "No forward secrecy",
    "RFC 8461 §7.2",
    "Whoever records a session now and gets the private key later can read it.",
    "STS-APP-39",
    "Prefer suites with ECDHE, or TLS 1.3.",
)
UNEQUAL: Final = Kind(
    "TLS009",
    Severity.WARNING,
    "Addresses of one host differ in TLS",
    "RFC 7672 §2.2",
    "Some addresses of the host do TLS and others do not: what happens to a message depends on "
    "which one a sender picks.",
    "DANE-82",
    "Set up every address alike; often the IPv6 side, or one machine of a pool, was forgotten.",
)
SECURED: Final = Kind(
    "TLS010",
    Severity.OK,
    "STARTTLS works",
    "RFC 8461 §4.2",
    "Every address that was looked at does TLS 1.2 or newer.",
    "STS-APP-30",
)
UNREACHABLE: Final = Kind(
    "TLS011",
    Severity.UNKNOWN,
    "Host not reached",
    "RFC 5321 §5.1",
    "No connection came about from where the check runs. Whether others get one, nobody can tell "
    "from here.",
    "",
    "See whether the host is up and port 25 open to everybody.",
)
TARPIT: Final = Kind(
    "TLS012",
    Severity.UNKNOWN,
    "Host keeps silent",
    "RFC 5321 §4.5.3",
    "The host takes the connection and lets it wait, as many do with clients that they do not "
    "know. Senders have up to five minutes of patience; the check has not.",
)
BUSY: Final = Kind(
    "TLS013",
    Severity.UNKNOWN,
    "Host put the check off",
    "RFC 5321 §4.2.1",
    "The host answered with a 4xx reply: too many connections, greylisting, or maintenance.",
    "",
    "Ask again later, or check from a machine that the host knows.",
)
REJECTED: Final = Kind(
    "TLS014",
    Severity.UNKNOWN,
    "Host does not talk to the check",
    "RFC 5321 §4.2.1",
    "The host turned the check away with a 5xx reply, often because of the address that it came "
    "from. Other senders may be welcome.",
    "",
    "Check from a machine with a reverse name and a good reputation.",
)
NOT_SEEN: Final = Kind(
    "TLS015",
    Severity.UNKNOWN,
    "Host not looked at",
    "RFC 5321 §5.1",
    "The check itself left this out; nothing is known.",
)
STARTTLS_AGAIN: Final = Kind(
    "TLS016",
    Severity.WARNING,
    "STARTTLS offered inside TLS",
    "RFC 3207 §4.2",
    "Inside TLS, STARTTLS must not be offered again: some senders are confused by it, and it hints "
    "at a proxy that does TLS for a server that does not know.",
    "SEC-06",
    "Tell the mail server that the connection is encrypted already.",
)

KINDS: Final = (
    NOT_OFFERED,
    TEMPORARY,
    REFUSED,
    INJECTED,
    FAILED,
    OUTDATED,
    WEAK_CIPHER,
    NO_FORWARD_SECRECY,
    UNEQUAL,
    SECURED,
    UNREACHABLE,
    TARPIT,
    BUSY,
    REJECTED,
    NOT_SEEN,
    STARTTLS_AGAIN,
)

_FAULTS: Final = {
    ProbeOutcome.NO_STARTTLS: (NOT_OFFERED, "does not offer STARTTLS"),
    ProbeOutcome.STARTTLS_TEMPORARY: (TEMPORARY, "offers STARTTLS and puts it off"),
    ProbeOutcome.STARTTLS_REFUSED: (REFUSED, "offers STARTTLS and refuses it"),
    ProbeOutcome.INJECTED: (INJECTED, "sent octets in the clear before the handshake"),
    ProbeOutcome.TLS_FAILED: (FAILED, "breaks off the TLS handshake"),
    ProbeOutcome.TLS_OUTDATED: (OUTDATED, "speaks only TLS before 1.2"),
}

_FIXED_SEVERITY: Final = frozenset({INJECTED})
"""Kinds that weigh the same for everybody: an attack is one."""

_UNKNOWNS: Final = {
    UnknownReason.TIMEOUT: UNREACHABLE,
    UnknownReason.REFUSED: UNREACHABLE,
    UnknownReason.TARPIT: TARPIT,
    UnknownReason.BUSY: BUSY,
    UnknownReason.REJECTED: REJECTED,
}
"""The others are NOT_SEEN."""

_SAID_ONCE: Final = frozenset({UnknownReason.PORT_BLOCKED, UnknownReason.NO_ROUTE})
"""Of the place where the check runs: said in `scope`."""

_WEAK_WORDS: Final = ("RC4", "DES", "NULL", "EXP", "ADH", "AECDH", "MD5", "IDEA", "RC2")
"""In OpenSSL's names of suites."""

_FORWARD_SECRET: Final = ("ECDHE", "DHE", "TLS_")
"""How names of suites with forward secrecy begin; all of TLS 1.3 has it."""


def judge(facts: DomainFacts) -> Iterator[Finding]:
    """What STARTTLS and TLS are like at each host."""
    for mx_host, host in pair(facts):
        stakes = stakes_of(facts, mx_host)
        sessions = first_sessions(host)
        yield from _faults(host, sessions, stakes)
        yield from _unknowns(host, sessions)
        yield from _ciphers(host, sessions)
        yield from _together(host, sessions)


def _faults(host: HostFacts, sessions: Sequence[ProbeFacts], stakes: Stakes) -> Iterator[Finding]:
    for outcome, (kind, words) in _FAULTS.items():
        probes = [probe for probe in sessions if probe.outcome is outcome]
        if not probes:
            continue
        weight = _weigh(kind, stakes)
        grave = weight is not None
        yield kind.found(
            subject(host, addresses_of(probes)),
            f"{quote(host.name)} {words}.{f' {stakes.consequence}' if grave else ''}",
            *map(_evidence, probes),
            severity=weight,
        )


def _weigh(kind: Kind, stakes: Stakes) -> Severity | None:
    """What a fault weighs here; None for its usual weight."""
    if kind in _FIXED_SEVERITY:
        return None
    if kind is OUTDATED and stakes.mode is not Mode.ENFORCE:
        # Spec-silent: old TLS is a failure of an enforced policy (C-19); elsewhere it is better
        # than none.
        return None
    return stakes.without_tls


def _unknowns(host: HostFacts, sessions: Sequence[ProbeFacts]) -> Iterator[Finding]:
    for reason in UnknownReason:
        probes = [probe for probe in sessions if _reason(probe) is reason]
        if not probes or reason in _SAID_ONCE:
            continue
        kind = _UNKNOWNS.get(reason, NOT_SEEN)
        yield kind.found(
            subject(host, addresses_of(probes)),
            f"Nobody could see what {quote(host.name)} does ({reason.value}).",
            *map(_evidence, probes),
        )


def _reason(probe: ProbeFacts) -> UnknownReason | None:
    if probe.outcome is not ProbeOutcome.UNKNOWN:
        return None
    return probe.unknown.reason if probe.unknown is not None else UnknownReason.SKIPPED


def _ciphers(host: HostFacts, sessions: Sequence[ProbeFacts]) -> Iterator[Finding]:
    for cipher in dict.fromkeys(probe.tls.cipher for probe in sessions if probe.tls is not None):
        probes = [p for p in sessions if p.tls is not None and p.tls.cipher == cipher]
        where, shown = subject(host, addresses_of(probes)), quote(cipher)
        evidence = Evidence("cipher", cipher)
        if any(word in cipher.upper() for word in _WEAK_WORDS):
            yield WEAK_CIPHER.found(where, f"The session used {shown}.", evidence)
        elif not cipher.startswith(_FORWARD_SECRET):
            yield NO_FORWARD_SECRECY.found(where, f"The session used {shown}.", evidence)


def _together(host: HostFacts, sessions: Sequence[ProbeFacts]) -> Iterator[Finding]:
    """What shows only when all addresses are seen together."""
    again = [probe for probe in sessions if probe.starttls_inside]
    if again:
        yield STARTTLS_AGAIN.found(
            subject(host, addresses_of(again)),
            f"{quote(host.name)} offers STARTTLS again inside TLS.",
            *map(_evidence, again),
        )
    good = [probe for probe in sessions if probe.outcome is ProbeOutcome.TLS]
    known = [probe for probe in sessions if probe.outcome is not ProbeOutcome.UNKNOWN]
    if good and len(good) < len(known):
        bad = [probe for probe in known if probe.outcome is not ProbeOutcome.TLS]
        yield UNEQUAL.found(
            printable(host.name),
            f"TLS works at {', '.join(addresses_of(good))}, and not at "
            f"{', '.join(addresses_of(bad))}.",
            *map(_evidence, known),
        )
    elif good:
        yield SECURED.found(
            subject(host, addresses_of(good)),
            f"{quote(host.name)} does TLS at {', '.join(addresses_of(good))}.",
            *map(_evidence, good),
        )


def _evidence(probe: ProbeFacts) -> Evidence:
    """What was seen at one address: the reply, the session, or the reason."""
    parts = [str(probe.outcome)]
    if probe.unknown is not None:
        parts = [str(probe.unknown.reason), probe.unknown.detail]
    if probe.tls is not None:
        parts.append(f"{probe.tls.version} {probe.tls.cipher}")
    parts += [probe.reply, probe.detail]
    said = ": ".join(part for part in dict.fromkeys(parts) if part)
    return Evidence(f"session with {probe.target.address}", said)
