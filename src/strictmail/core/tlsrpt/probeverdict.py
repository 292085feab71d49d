# SPDX-License-Identifier: Apache-2.0
"""What a probe establishes of sessions under a testing policy whose success nobody verified. Pure.

An MTA verifies nothing where a policy only tests. So the MX hosts are visited afterwards, and each
address is judged as if the policy were enforced, by the code that says what becomes of mail
(`core.check.hoststate`, `core.delivery`). Which host a session went to, it does not say: what is
established holds for every host that it can have gone to.

=================================  ===============================================================
what the probe saw                 what is made of it
=================================  ===============================================================
every address meets the policy     a success
every one fails it in one way      a failure of that result type; the host is named if it is one
some meet it, some fail, or fail   not established: `hosts-differ`
in several ways
an address that nobody could look  not established, by the reason; passed over if the host is of
at, or that is in the way          worse preference than one of which every address was judged: no
(busy, silent, refused)            session had to go there
a host off the policy              fails, whether or not it can be looked at: its name is enough
no TLS at all                      not established: the sessions had TLS, or nobody would have
                                   called them a success; so this host was another one then
IPv6 without a way to it from      passed over, beside other addresses: no session of an MTA of
here                               this machine went there
the MX lookup failed, no MX host   not established
the policy's text was not kept     not established (`core.tlsrpt.counts`, order of loss)
=================================  ===============================================================

Spec-silent: RFC 8460 does not say who finds a failure, nor when. It says what counts as a success
(§4.2.1): that the policy was satisfied.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.check.facts import KeyType, PkixProblem, UnknownReason
from strictmail.core.check.hoststate import judge_at_level, places_of
from strictmail.core.decision import Level
from strictmail.core.delivery import Session
from strictmail.core.mxset import MxStatus
from strictmail.core.tlsrpt.logverdict import OFF_POLICY_REASON
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import make_detail

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from strictmail.core.check.facts import DomainFacts, HostFacts
    from strictmail.core.check.hoststate import Place
    from strictmail.core.delivery import HostVerdict
    from strictmail.core.mxset import MxHost
    from strictmail.core.tlsrpt.session import FailureDetail, ReportedPolicy

REASON: Final = "probe"
"""How the reason code of a failure begins that a probe has found."""

INFORMATION: Final = (
    "The MTA did not verify these sessions, since the policy is in testing mode; "
    "a probe of the MX hosts by the sender found this."
)

_NO_TLS: Final = frozenset({"no-starttls", "tls-failed"})
"""Rules of `core.delivery`: there is no TLS session at all."""

_REASONS: Final = {"off-policy": OFF_POLICY_REASON, "tls-outdated": "tls-version"}
"""Rule of `core.delivery` -> reason code; with certificates, what is wrong with them."""


class Gap(enum.StrEnum):
    """Why a probe established nothing."""

    POLICY_UNKNOWN = "policy-unknown"
    """There is no text of the policy to judge by."""
    MX_UNKNOWN = "mx-unknown"
    """The MX lookup failed."""
    NO_HOST = "no-host"
    """The domain has no MX host (any more)."""
    PORT_BLOCKED = "port-blocked"
    """Outbound port 25 is closed here: no host was visited."""
    UNSEEN = "unseen"
    """A host that sessions may have gone to could not be looked at."""
    NO_TLS = "no-tls"
    """A host has no TLS now, and the sessions had."""
    HOSTS_DIFFER = "hosts-differ"
    """The hosts, or the addresses of one, are not all alike."""
    FAULT = "fault"
    """A fault of our own."""


@dataclass(frozen=True, slots=True)
class Established:
    """What sessions under the policy were worth.

    Attributes:
        failure: How they failed it; None: they satisfied it.
    """

    failure: FailureDetail | None = None


@dataclass(frozen=True, slots=True)
class NotEstablished:
    """The sessions stay unverified, and are in no report."""

    gap: Gap


ProbeVerdict = Established | NotEstablished


@dataclass(frozen=True, slots=True)
class _Finding:
    """What one address is worth; `result_type` None: it meets the policy."""

    result_type: ResultType | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Host:
    """One MX host, judged.

    Attributes:
        preference: Lower is tried first.
        findings: Of the addresses that could be judged.
        gaps: Why the others could not.
    """

    preference: int
    findings: tuple[_Finding, ...]
    gaps: tuple[Gap, ...]


def can_probe(policy: ReportedPolicy) -> bool:
    """Whether there is anything to hold MX hosts to."""
    return policy.policy_type is PolicyType.STS and bool(policy.mx_host_patterns)


def judge_probe(policy: ReportedPolicy, facts: DomainFacts) -> ProbeVerdict:
    """Judge sessions under a policy by what a probe saw.

    Args:
        policy: As the sessions were told under it.
        facts: Of `policy.policy_domain`: its MX set and the sessions with its hosts; whatever else
            they hold is not looked at.

    Spec: RFC 8460 §4.2.1, §4.3.1; RFC 8461 §4, §5.
    """
    if not can_probe(policy):
        return NotEstablished(Gap.POLICY_UNKNOWN)
    if facts.mx.status is MxStatus.ERROR:
        return NotEstablished(Gap.MX_UNKNOWN)
    by_name = {host.name: host for host in facts.hosts}
    hosts = [
        _judge_host(policy, facts, mx_host, by_name.get(mx_host.name)) for mx_host in facts.mx.hosts
    ]
    if not hosts:
        return NotEstablished(Gap.NO_HOST)
    # RFC 5321 §5.1: a host is tried where those before it cannot be used. One that was judged
    # whole was there, so that no session had to go on to a worse one.
    whole = [host.preference for host in hosts if not host.gaps]
    near = [host for host in hosts if not whole or host.preference <= min(whole)]
    gaps = [gap for host in near for gap in host.gaps]
    if gaps:
        return NotEstablished(Gap.PORT_BLOCKED if Gap.PORT_BLOCKED in gaps else gaps[0])
    return _agree(facts, [finding for host in hosts for finding in host.findings])


def _agree(facts: DomainFacts, findings: list[_Finding]) -> ProbeVerdict:
    """What all addresses that could be judged say; they are at least one."""
    if len({finding.result_type for finding in findings}) > 1:
        return NotEstablished(Gap.HOSTS_DIFFER)
    result_type = findings[0].result_type
    if result_type is None:
        # RFC 8460 §4.2.1: wherever the session went, the policy was satisfied (RPT-JSON-24).
        return Established()
    reasons = {finding.reason for finding in findings}
    known = f": {reasons.pop()}" if len(reasons) == 1 and "" not in reasons else ""
    # RFC 8461 §5: a failure under a testing policy is a failure (RPT-JSON-26, RPT-JSON-44).
    # RFC 8460 §4.4: what is not known of the session is left out (RPT-JSON-46, RPT-JSON-48).
    hosts = facts.mx.hosts
    return Established(
        make_detail(
            result_type,
            receiving_mx_hostname=hosts[0].name if len(hosts) == 1 else "",
            additional_information=INFORMATION,
            failure_reason_code=f"{REASON}{known}",
        )
    )


# ---- one host -------------------------------------------------------------------------------


def _judge_host(
    policy: ReportedPolicy, facts: DomainFacts, mx_host: MxHost, host: HostFacts | None
) -> _Host:
    reasons = _unknown_reasons(host)
    places = _within_reach(places_of(facts, mx_host, host), reasons)
    findings: list[_Finding] = []
    gaps: list[Gap] = []
    for place in places:
        # RFC 8461 §5: judged as at level `secure`, which is what an enforced policy asks for; what
        # DANE says of the host is another policy's business.
        verdict = judge_at_level(Level.SECURE, policy.mx_host_patterns, place.plain.state)
        gap = _find_gap(place, verdict, reasons.get(place.address))
        if gap is not None:
            gaps.append(gap)
        else:
            findings.append(_find(verdict, host, place.address))
    return _Host(mx_host.preference, tuple(findings), tuple(gaps))


def _unknown_reasons(host: HostFacts | None) -> Mapping[str, UnknownReason]:
    """Why addresses could not be looked at."""
    return {
        probe.target.address: probe.unknown.reason
        for probe in (host.probes if host is not None else ())
        if probe.unknown is not None
    }


def _within_reach(
    places: Iterable[Place], reasons: Mapping[str, UnknownReason]
) -> tuple[Place, ...]:
    """The addresses without those that this machine has no way to; all of them if it has to none."""
    found = tuple(places)
    near = tuple(
        place for place in found if reasons.get(place.address) is not UnknownReason.NO_ROUTE
    )
    return near or found


def _find_gap(place: Place, verdict: HostVerdict, reason: UnknownReason | None) -> Gap | None:
    """Why an address is not judged, if it is not."""
    if verdict.rule in _NO_TLS:
        return Gap.NO_TLS
    if verdict.session is Session.NONE and verdict.failures:
        # What refuses the best that an unseen host could be refuses it for certain.
        return None
    if place.plain.unseen or verdict.session is Session.NONE:
        return Gap.PORT_BLOCKED if reason is UnknownReason.PORT_BLOCKED else Gap.UNSEEN
    return None


def _find(verdict: HostVerdict, host: HostFacts | None, address: str) -> _Finding:
    if not verdict.failures:
        return _Finding(None)
    result_type = verdict.failures[0].result_type
    reason = _REASONS.get(verdict.rule, "")
    problem = None if reason else _first_problem(host, address)
    if problem is not None:
        reason = str(problem)
    if problem is PkixProblem.NOT_YET_VALID:
        # RFC 8460 §4.3.1: it has not expired, and there is no type of its own (RPT-JSON-35).
        result_type = ResultType.VALIDATION_FAILURE
    # RFC 8460 §4.3.1: the types of sessions (RPT-JSON-32, RPT-JSON-33, RPT-JSON-34), §4.3.3: with a
    # short reason (RPT-JSON-51).
    return _Finding(result_type, reason)


def _first_problem(host: HostFacts | None, address: str) -> PkixProblem | None:
    """What the web PKI has against the certificate that was judged."""
    for probe in host.probes if host is not None else ():
        target = probe.target
        is_plain = target.server_name == target.host and target.key_type is KeyType.ANY
        if target.address == address and is_plain and probe.tls is not None:
            return next(iter(probe.tls.pkix.problems), None)
    return None
