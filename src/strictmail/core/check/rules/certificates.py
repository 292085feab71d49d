# SPDX-License-Identifier: Apache-2.0
"""Certificates of the MX hosts before the web PKI: valid for whom, for how long, how strong.

Whether a fault matters depends on who looks. Senders with MTA-STS do, under a policy that allows
the host. Senders with DANE look at TLSA records instead (`dane`): a DANE-EE record makes dates,
names and issuers irrelevant to them. All others encrypt with whatever they are given.

==============================  =====================  =========================================
fault                           enforce  testing       no policy
==============================  =====================  =========================================
not valid in the web PKI        critical warning       note; a date that is over: warning, unless
                                                       TLSA records authenticate the host
expires soon, odd order         warning  warning       note, unless DANE-TA needs the chain
weak key or signature           warning everywhere; broken and relied on: critical
==============================  =====================  =========================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.check.certificates import (
    Strength,
    days_left,
    describe,
    find_gap,
    is_certificate,
    is_self_issued,
    key_strength,
    signature_strength,
)
from strictmail.core.check.chains import judge_chain
from strictmail.core.check.facts import KeyType, PkixProblem
from strictmail.core.check.result import Certificate, Evidence, Severity
from strictmail.core.check.rules import certificatekinds as kinds
from strictmail.core.check.stakes import Stakes, addresses_of, pair, stakes_of, subject
from strictmail.core.dane.tlsa import DANE_EE
from strictmail.core.explain import printable
from strictmail.core.sts.values import Mode
from strictmail.core.tagrecord import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from strictmail.core.check.facts import DomainFacts, HostFacts, ProbeFacts, TlsFacts
    from strictmail.core.check.result import Finding
    from strictmail.core.mxset import MxHost

SOON_DAYS: Final = 14
"""A certificate that ends within two weeks should have been renewed (ACME clients do it with a
third of the time left)."""

SOON_SHARE: Final = 4
"""For short-lived certificates: less than a quarter of the time left."""

MAX_NAMES_SHOWN: Final = 5
"""dNSName entries in a sentence."""

KINDS: Final = kinds.KINDS

_PROBLEMS: Final = {
    PkixProblem.EXPIRED: (kinds.EXPIRED, "has expired"),
    PkixProblem.NOT_YET_VALID: (kinds.NOT_YET_VALID, "is not valid yet"),
    PkixProblem.SELF_SIGNED: (kinds.SELF_SIGNED, "is self-signed"),
    PkixProblem.UNTRUSTED_ROOT: (kinds.UNTRUSTED_ROOT, "comes from an issuer that nobody trusts"),
    PkixProblem.MISSING_INTERMEDIATE: (
        kinds.MISSING_INTERMEDIATE,
        "comes without the certificate of its issuer",
    ),
    PkixProblem.NAME: (kinds.WRONG_NAME, "does not name the host"),
    PkixProblem.INVALID: (kinds.INVALID, "is not accepted by the web PKI"),
}

_DATES: Final = frozenset({PkixProblem.EXPIRED, PkixProblem.NOT_YET_VALID})

_KEY_WORDS: Final = {KeyType.RSA: "RSA certificate", KeyType.ECDSA: "ECDSA certificate"}


@dataclass(frozen=True, slots=True)
class _Presented:
    """One chain that a host presents, and where.

    Attributes:
        tls: A session that brought it.
        where: The subject of findings on it.
        certificates: Described, leaf first.
        stakes: Who looks.
        dane_usage: The usage of the TLSA record that authenticates it, or None.
    """

    tls: TlsFacts
    where: str
    certificates: tuple[Certificate, ...]
    stakes: Stakes
    dane_usage: int | None

    @property
    def words(self) -> str:
        return _KEY_WORDS.get(self.tls.key_type, "certificate")

    @property
    def leaf(self) -> Certificate:
        return self.certificates[0]

    @property
    def evidence(self) -> Evidence:
        return Evidence("certificate", _show(self.leaf))


def judge(facts: DomainFacts) -> Iterator[Finding]:
    """What the certificates of each host are worth."""
    for mx_host, host in pair(facts):
        chains = _presented(facts, mx_host, host)
        for one in chains:
            yield from _pkix(one, host)
            yield from _future(one, facts.looked_at)
            yield from _order(one)
            yield from _strength(one)
        yield from _two(host, chains)


def _presented(facts: DomainFacts, mx_host: MxHost, host: HostFacts) -> list[_Presented]:
    """Each chain that a sender with MTA-STS can meet, once."""
    stakes = stakes_of(facts, mx_host)
    grouped: dict[tuple[object, ...], list[ProbeFacts]] = {}
    for probe in host.probes:
        tls = probe.tls
        # RFC 8461 §7.1: the MX name is the SNI; a session for a base domain is DANE's (STS-APP-37).
        if tls is not None and tls.chain_der and tls.server_name == host.name:
            grouped.setdefault((tls.chain_der, tls.pkix.problems), []).append(probe)
    found = []
    for probes in grouped.values():
        tls = probes[0].tls
        if tls is None:
            continue
        dane = judge_chain(facts, mx_host, tls) if facts.validates and facts.mx.secure else None
        usage = dane.record.usage if dane and dane.is_authenticated and dane.record else None
        where = subject(host, addresses_of(probes))
        described = tuple(map(describe, tls.chain_der))
        found.append(_Presented(tls, where, described, stakes, usage))
    return found


def _pkix(one: _Presented, host: HostFacts) -> Iterator[Finding]:
    for problem in one.tls.pkix.problems:
        kind, words = _PROBLEMS[problem]
        sentence = f"The {one.words} of {quote(host.name)} {words}. "
        if problem is PkixProblem.NAME:
            sentence += f"{_say_names(one.leaf)}; wanted is {quote(one.tls.pkix.reference_id)}. "
        sentence += _say_who_minds(one)
        evidence = [one.evidence]
        if one.tls.pkix.detail:
            evidence.append(Evidence("verification", one.tls.pkix.detail))
        yield kind.found(one.where, sentence, *evidence, severity=_weigh(problem, one))


def _weigh(problem: PkixProblem, one: _Presented) -> Severity:
    severity = one.stakes.without_pkix
    if severity is Severity.INFO and problem in _DATES and one.dane_usage is None:
        # A date that is over was not meant, even where nobody looks.
        return Severity.WARNING
    return severity


def _say_who_minds(one: _Presented) -> str:
    match one.stakes.mode:
        case Mode.ENFORCE:
            said = "Senders with MTA-STS do not deliver here: their mail waits."
        case Mode.TESTING:
            said = "The policy is in testing: senders with MTA-STS report it and deliver."
        case _:
            said = "No policy asks for a valid one: senders encrypt and do not look."
    if one.dane_usage is not None:
        said += " The TLSA records authenticate it all the same for senders with DANE."
    return said


def _say_names(leaf: Certificate) -> str:
    names = leaf.dns_names
    if not names:
        return "It has no dNSName at all"
    shown = ", ".join(map(quote, names[:MAX_NAMES_SHOWN]))
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return f"It names {shown}{more}"


def _future(one: _Presented, now: datetime) -> Iterator[Finding]:
    if not _DATES.isdisjoint(one.tls.pkix.problems):
        return
    lasting = [c for c in one.certificates if is_certificate(c) and not is_self_issued(c)]
    first = min(lasting, key=lambda c: c.not_after, default=None)
    if first is None or not is_soon(first, now):
        return
    days = days_left(first, now)
    relied_on = one.stakes.mode is not None or one.dane_usage not in (None, DANE_EE)
    yield kinds.ENDS_SOON.found(
        one.where,
        f"The {one.words} has {days} {'day' if days == 1 else 'days'} left."
        if first is one.leaf
        else f"A certificate behind the leaf has {days} days left.",
        Evidence("certificate", _show(first)),
        severity=Severity.WARNING if relied_on else Severity.INFO,
    )


def is_soon(certificate: Certificate, now: datetime) -> bool:
    """Whether a certificate that is still valid should have been renewed by now."""
    left = certificate.not_after - now
    lifetime = certificate.not_after - certificate.not_before
    return 0 <= left.days < SOON_DAYS and left < lifetime / SOON_SHARE


def _order(one: _Presented) -> Iterator[Finding]:
    gap = find_gap(one.tls.chain_der)
    if gap is None:
        return
    relied_on = one.stakes.mode is not None or one.dane_usage not in (None, DANE_EE)
    yield kinds.DISORDER.found(
        one.where,
        f"Certificate {gap + 1} of the chain was not issued by certificate {gap + 2}.",
        *(
            Evidence(f"certificate {number}", _show(certificate))
            for number, certificate in enumerate(one.certificates[gap : gap + 2], gap + 1)
        ),
        severity=Severity.WARNING if relied_on else Severity.INFO,
    )


def _strength(one: _Presented) -> Iterator[Finding]:
    relied_on = one.stakes.mode is not None or one.dane_usage is not None
    broken = Severity.CRITICAL if relied_on else Severity.WARNING
    for depth, certificate in enumerate(one.certificates):
        what = f"The {one.words}" if depth == 0 else f"Certificate {depth + 1} of the chain"
        evidence = Evidence("certificate", _show(certificate))
        strength = key_strength(certificate)
        if strength is not Strength.GOOD:
            kind = kinds.WEAK_KEY if strength is Strength.WEAK else kinds.BROKEN_KEY
            yield kind.found(
                one.where,
                f"{what} has the key {certificate.key}.",
                evidence,
                severity=broken if kind is kinds.BROKEN_KEY else None,
            )
        if signature_strength(certificate) is not Strength.GOOD:
            yield kinds.WEAK_SIGNATURE.found(
                one.where, f"{what} is signed with {certificate.signature}.", evidence
            )


def _two(host: HostFacts, chains: Sequence[_Presented]) -> Iterator[Finding]:
    by_key = {kind: [c for c in chains if c.tls.key_type is kind] for kind in _KEY_WORDS}
    if not all(by_key.values()):
        return
    evidence = [one.evidence for group in by_key.values() for one in group]
    yield kinds.TWO_CHAINS.found(
        printable(host.name), f"{quote(host.name)} has an RSA and an ECDSA certificate.", *evidence
    )
    bad = {kind for kind, group in by_key.items() if any(one.tls.pkix.problems for one in group)}
    if len(bad) == 1:
        words = _KEY_WORDS[bad.pop()]
        stakes = chains[0].stakes
        yield kinds.ONE_OF_TWO.found(
            printable(host.name),
            f"Only the {words} of {quote(host.name)} has a problem.",
            *evidence,
            severity=Severity.INFO if stakes.mode is None else None,
        )


def _show(certificate: Certificate) -> str:
    """A certificate in a line."""
    if not is_certificate(certificate):
        return f"{certificate.subject}; SHA-256 {certificate.sha256}"
    return (
        f"{certificate.subject}; issuer {certificate.issuer}; "
        f"{certificate.not_before:%Y-%m-%d} to {certificate.not_after:%Y-%m-%d}; "
        f"{certificate.key}; SHA-256 {certificate.sha256}"
    )
