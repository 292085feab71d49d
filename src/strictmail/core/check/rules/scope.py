# SPDX-License-Identifier: Apache-2.0
"""What the check itself could not do, each thing said once.

Knows the limits of the place where the check runs, and its own caps; what one host did not let us
see is that host's finding (`hosts`).

Choice: that this machine has no IPv6 is a note, as long as every host was seen over IPv4, and so
is a cap that was reached where others of the kind were seen; else no check from such a machine, or
of a domain with many addresses, could ever end well. No standard speaks of a check's own limits, so
most kinds here cite none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.core.check.facts import PortState, UnknownReason
from strictmail.core.check.grounds import say
from strictmail.core.check.kinds import Kind
from strictmail.core.check.result import Evidence, Severity
from strictmail.core.tagrecord import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.core.check.facts import DomainFacts, HostFacts, Unknown
    from strictmail.core.check.result import Finding

MAX_SUBJECTS: Final = 16
"""Things named in one finding that were not looked at."""

PORT_BLOCKED: Final = Kind(
    "CHK001",
    Severity.UNKNOWN,
    "Outbound port 25 is blocked here",
    "",
    "The check cannot reach any mail server from this machine: everything about the MX hosts' TLS "
    "is unknown, and nothing is held against them.",
    "",
    "Run the check where mail may leave, such as on the mail server itself.",
)
NO_ROUTE: Final = Kind(
    "CHK002",
    Severity.INFO,
    "No route from here",
    "",
    "This machine has no IPv6, or no IPv4: addresses of that kind were not looked at.",
    "",
    "Run the check once more from a machine that has both.",
)
NO_VALIDATION: Final = Kind(
    "CHK003",
    Severity.UNKNOWN,
    "Resolver does not validate DNSSEC",
    "RFC 7672 §2.1.1",
    "The resolver in use does not say whether answers are signed: nothing is known of DANE.",
    "DANE-02",
    "Name a validating resolver that is reached over a trusted path, such as 127.0.0.1.",
)
NOT_LOOKED_AT: Final = Kind(
    "CHK004",
    Severity.UNKNOWN,
    "Something could not be looked at",
    "",
    "A part of the check did not happen; its result is unknown.",
)
SKIPPED: Final = Kind(
    "CHK005",
    Severity.INFO,
    "Something was left out on request",
    "",
    "The caller did not want this part of the check.",
)
CAP: Final = Kind(
    "CHK006",
    Severity.INFO,
    "A limit of the check was reached",
    "",
    "There was more to look at than one check does, so that nobody's records can make it ask "
    "without end. Some were looked at, the rest is unknown.",
)
DEADLINE: Final = Kind(
    "CHK007",
    Severity.UNKNOWN,
    "The time for the check was over",
    "",
    "Slow servers used up the time of the check; what was not reached is unknown.",
    "",
    "Run the check again, with more time.",
)
MORE_ALIKE: Final = Kind(
    "CHK008",
    Severity.INFO,
    "More findings of one kind",
    "",
    "The records of the domain have so many faults of one kind that only the first are told.",
)

KINDS: Final = (
    PORT_BLOCKED,
    NO_ROUTE,
    NO_VALIDATION,
    NOT_LOOKED_AT,
    SKIPPED,
    CAP,
    DEADLINE,
    MORE_ALIKE,
)

_BY_REASON: Final = {
    UnknownReason.SKIPPED: SKIPPED,
    UnknownReason.LIMIT: CAP,
    UnknownReason.DEADLINE: DEADLINE,
}


def judge(facts: DomainFacts) -> Iterator[Finding]:
    """What limited this check."""
    if facts.port25 is PortState.BLOCKED:
        yield PORT_BLOCKED.found(
            facts.domain,
            "Outbound port 25 is blocked where the check runs: the TLS of the MX hosts is unknown.",
        )
    if not facts.validates:
        yield NO_VALIDATION.found(
            facts.domain, "The resolver does not validate DNSSEC: DANE is unknown."
        )
    yield from _no_route(facts)
    grouped: dict[Unknown, list[str]] = {}
    for subject, unknown in facts.unknown:
        if not _is_said(facts, unknown):
            grouped.setdefault(unknown, []).append(subject)
    for unknown, subjects in grouped.items():
        yield _not_looked_at(facts, unknown, subjects)
    if len(facts.hosts) < len(facts.mx.hosts):
        yield _left_out(facts)


def _is_said(facts: DomainFacts, unknown: Unknown) -> bool:
    """Whether a finding of its own says it already."""
    if unknown.reason is UnknownReason.PORT_BLOCKED:
        return facts.port25 is PortState.BLOCKED
    return unknown.reason is UnknownReason.NO_ROUTE


def _no_route(facts: DomainFacts) -> Iterator[Finding]:
    unseen = [
        f"{host.name}[{probe.target.address}]"
        for host in facts.hosts
        for probe in host.probes
        if _is_without_route(probe.unknown)
    ]
    unseen += [subject for subject, unknown in facts.unknown if _is_without_route(unknown)]
    if not unseen:
        return
    families = {"IPv6" if ":" in subject else "IPv4" for subject in unseen}
    missing = " and no ".join(sorted(families, reverse=True))
    blind = [host for host in facts.hosts if _is_only_without_route(host)]
    rest = f"nothing is known of {', '.join(quote(host.name) for host in blind)}"
    yield NO_ROUTE.found(
        facts.domain,
        f"There is no {missing} here: {rest if blind else 'such addresses were not looked at'}.",
        *_evidence(unseen),
        severity=Severity.UNKNOWN if blind else None,
    )


def _is_without_route(unknown: Unknown | None) -> bool:
    return unknown is not None and unknown.reason is UnknownReason.NO_ROUTE


def _evidence(subjects: Sequence[str]) -> list[Evidence]:
    """What was left out, each once."""
    distinct = list(dict.fromkeys(subjects))
    shown = [Evidence("not looked at", subject) for subject in distinct[:MAX_SUBJECTS]]
    if len(distinct) > MAX_SUBJECTS:
        shown.append(Evidence("not looked at", f"{len(distinct) - MAX_SUBJECTS} more"))
    return shown


def _is_only_without_route(host: HostFacts) -> bool:
    """Whether a host was looked at nowhere, for want of a route."""
    return bool(host.probes) and all(_is_without_route(probe.unknown) for probe in host.probes)


def _not_looked_at(facts: DomainFacts, unknown: Unknown, subjects: Sequence[str]) -> Finding:
    others = f" and {len(subjects) - 1} more" if len(subjects) > 1 else ""
    return _BY_REASON.get(unknown.reason, NOT_LOOKED_AT).found(
        facts.domain,
        f"Not looked at: {quote(subjects[0])}{others}: {say(unknown.detail or unknown.reason)}.",
        *_evidence(subjects),
    )


def _left_out(facts: DomainFacts) -> Finding:
    seen = {host.name for host in facts.hosts}
    return CAP.found(
        facts.domain,
        f"{len(seen)} of {len(facts.mx.hosts)} MX hosts were looked at.",
        *_evidence([host.name for host in facts.mx.hosts if host.name not in seen]),
        severity=Severity.UNKNOWN,
    )
