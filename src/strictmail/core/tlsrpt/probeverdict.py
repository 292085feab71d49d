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
some meet it, some fail, or fail   not established: `hosts-differ`; worse hosts that were judged
in several ways                    have to agree, too
an address that nobody could look  not established, by the reason; passed over if the host is of
at, or that is in the way          worse preference than one that is whole: every address of it was
(busy, silent, refused)            seen, with TLS, so that no session had to go on
a host off the policy that has     fails, whether or not it can be looked at: its name is enough. But
an address                         if nobody saw it with TLS, it is not whole: sessions may have gone
                                   on to worse hosts, which have to be judged and to agree
no TLS at all                      not established: the sessions had TLS, or nobody would have
                                   called them a success; so this host was another one then
port 25 closed here                not established: `port-blocked`, whatever else is missing. What
                                   was seen before it was closed stands; and where all hosts are off
                                   the policy by name, every session failed it
more than MAX_HOSTS hosts          the others count as one that nobody could look at
IPv6 without a way to it from      passed over, beside other addresses: no session of an MTA of
here                               this machine went there
the MX lookup failed, no MX host   not established
the policy's text was not kept     not established (`core.tlsrpt.counts`, order of loss)
(or it is not in mode testing)
=================================  ===============================================================

Spec-silent: RFC 8460 does not say who finds a failure, nor when. It says what counts as a success
(§4.2.1): that the policy was satisfied.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Final

from strictmail.core.check.facts import KeyType, PkixProblem, UnknownReason
from strictmail.core.check.hoststate import judge_at_level, places_of
from strictmail.core.decision import Level
from strictmail.core.delivery import Handshake, Session
from strictmail.core.mxset import MxStatus
from strictmail.core.tlsrpt.logverdict import OFF_POLICY_REASON
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import make_detail, policy_mode

if TYPE_CHECKING:
    from datetime import datetime

    from strictmail.core.check.facts import DomainFacts, HostFacts
    from strictmail.core.delivery import HostState, HostVerdict
    from strictmail.core.mxset import MxHost
    from strictmail.core.tlsrpt.session import FailureDetail, ReportedPolicy

REASON: Final = "probe"
"""How the reason code of a failure begins that a probe has found."""

INFORMATION: Final = (
    "The MTA did not verify these sessions, since the policy is in testing mode; "
    "a probe of the MX hosts by the sender found this."
)

MAX_HOSTS: Final = 64
"""Of a domain that are judged: four times as many as are visited."""

_NO_TLS: Final = frozenset({"no-starttls", "tls-failed"})
"""Rules of `core.delivery`: there is no TLS session at all."""

_REASONS: Final = {"off-policy": OFF_POLICY_REASON, "tls-outdated": "tls-version"}
"""Rule of `core.delivery` -> reason code; with certificates, what is wrong with them."""


class Gap(enum.StrEnum):
    """Why a probe established nothing."""

    POLICY_UNKNOWN = "policy-unknown"
    """There is no text of a policy in mode testing to judge by."""
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
class PlaceSight:
    """One address of an MX host, as far as it counts here.

    Attributes:
        state: The best that it could be where something is not known.
        unseen: Not everything is known.
        reason: Why it could not be looked at, if so.
        problem: What the web PKI has against the certificate that it showed.
    """

    state: HostState
    unseen: bool
    reason: UnknownReason | None
    problem: PkixProblem | None

    @property
    def has_tls(self) -> bool:
        """It was seen, and a session with it has TLS."""
        shown = self.state.handshake in (Handshake.DONE, Handshake.OUTDATED)
        return shown and self.state.reachable and not self.unseen


@dataclass(frozen=True, slots=True)
class HostSight:
    """One MX host.

    Attributes:
        preference: Lower is tried first.
        places: Those that sessions of this machine can have gone to; none: it was not looked at.
    """

    preference: int
    places: tuple[PlaceSight, ...]


@dataclass(frozen=True, slots=True)
class MxSight:
    """What a probe saw of a domain, without what needs much room: certificates, answers.

    Attributes:
        looked_at: When it began.
        status: How the MX lookup ended.
        hosts: All, or MAX_HOSTS and one for the others.
        only_host: The name of the host, if there is one alone; else "".
    """

    looked_at: datetime
    status: MxStatus
    hosts: tuple[HostSight, ...]
    only_host: str

    @property
    def is_blocked(self) -> bool:
        """Whether hosts were left out since port 25 is closed here."""
        return any(
            place.reason is UnknownReason.PORT_BLOCKED
            for host in self.hosts
            for place in host.places
        )

    @property
    def size(self) -> int:
        """How much there is to keep, in addresses: some 300 bytes each."""
        return 1 + sum(1 + len(host.places) for host in self.hosts)


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
        is_whole: Every address was seen, with TLS: no session had to go on to a worse host.
    """

    preference: int
    findings: tuple[_Finding, ...]
    gaps: tuple[Gap, ...]
    is_whole: bool


def can_probe(policy: ReportedPolicy) -> bool:
    """Whether there is anything to hold MX hosts to, and nobody else did.

    Spec: RFC 8461 §5.
    """
    return (
        policy.policy_type is PolicyType.STS
        and bool(policy.mx_host_patterns)
        and policy_mode(policy.policy_strings) == "testing"
    )


# ---- what was seen --------------------------------------------------------------------------


def see_hosts(facts: DomainFacts) -> MxSight:
    """What of a look counts here: its MX set and the sessions with its hosts."""
    by_name = {host.name: host for host in facts.hosts}
    found = facts.mx.hosts
    hosts = [_see_host(facts, one, by_name.get(one.name)) for one in found[:MAX_HOSTS]]
    if others := found[MAX_HOSTS:]:
        hosts.append(HostSight(min(one.preference for one in others), ()))
    only_host = found[0].name if len(found) == 1 else ""
    return MxSight(facts.looked_at, facts.mx.status, tuple(hosts), only_host)


def _see_host(facts: DomainFacts, mx_host: MxHost, host: HostFacts | None) -> HostSight:
    reasons = {
        probe.target.address: probe.unknown.reason
        for probe in (host.probes if host is not None else ())
        if probe.unknown is not None
    }
    places = [
        PlaceSight(
            place.plain.state,
            bool(place.plain.unseen),
            reasons.get(place.address),
            _first_problem(host, place.address),
        )
        for place in places_of(facts, mx_host, host)
    ]
    # No session of an MTA of this machine went where it has no way to; if it has none at all,
    # nobody saw the host.
    near = [place for place in places if place.reason is not UnknownReason.NO_ROUTE]
    return HostSight(mx_host.preference, tuple(near or places))


def _first_problem(host: HostFacts | None, address: str) -> PkixProblem | None:
    """What the web PKI has against the certificate that is judged."""
    for probe in host.probes if host is not None else ():
        target = probe.target
        is_plain = target.server_name == target.host and target.key_type is KeyType.ANY
        if target.address == address and is_plain and probe.tls is not None:
            return next(iter(probe.tls.pkix.problems), None)
    return None


# ---- what it means --------------------------------------------------------------------------


def judge_probe(policy: ReportedPolicy, sight: MxSight) -> ProbeVerdict:
    """Judge sessions under a policy by what a probe saw.

    Args:
        policy: As the sessions were told under it.
        sight: Of the hosts of `policy.policy_domain`.

    Spec: RFC 8460 §4.2.1, §4.3.1; RFC 8461 §4, §5.
    """
    if not can_probe(policy):
        return NotEstablished(Gap.POLICY_UNKNOWN)
    if sight.status is MxStatus.ERROR:
        return NotEstablished(Gap.MX_UNKNOWN)
    if not sight.hosts:
        return NotEstablished(Gap.NO_HOST)
    verdict = _judge_hosts(sight, [_judge_host(policy, host) for host in sight.hosts])
    if isinstance(verdict, NotEstablished) and sight.is_blocked:
        # A look when the port is open may say more, and is not far off.
        return NotEstablished(Gap.PORT_BLOCKED)
    return verdict


def _judge_hosts(sight: MxSight, hosts: list[_Host]) -> ProbeVerdict:
    # RFC 5321 §5.1: a host is tried where those before it cannot be used. One that is whole was
    # there, so that no session had to go on to a worse one.
    whole = [host.preference for host in hosts if host.is_whole]
    near = [host for host in hosts if not whole or host.preference <= min(whole)]
    gaps = [gap for host in near for gap in host.gaps]
    if gaps:
        return NotEstablished(gaps[0])
    return _agree(sight, [finding for host in hosts for finding in host.findings])


def _agree(sight: MxSight, findings: list[_Finding]) -> ProbeVerdict:
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
    return Established(
        make_detail(
            result_type,
            receiving_mx_hostname=sight.only_host,
            # To the hour: all sessions of one look have equal details (RPT-JSON-29).
            additional_information=f"{INFORMATION} It looked at about "
            f"{sight.looked_at.astimezone(UTC):%Y-%m-%d %H}:00 UTC.",
            failure_reason_code=f"{REASON}{known}",
        )
    )


# ---- one host -------------------------------------------------------------------------------


def _judge_host(policy: ReportedPolicy, host: HostSight) -> _Host:
    findings: list[_Finding] = []
    gaps: list[Gap] = [] if host.places else [Gap.UNSEEN]
    for place in host.places:
        # RFC 8461 §5: judged as at level `secure`, which is what an enforced policy asks for; what
        # DANE says of the host is another policy's business.
        verdict = judge_at_level(Level.SECURE, policy.mx_host_patterns, place.state)
        gap = _find_gap(place, verdict)
        if gap is not None:
            gaps.append(gap)
        else:
            findings.append(_find(place, verdict))
    is_whole = not gaps and all(place.has_tls for place in host.places)
    return _Host(host.preference, tuple(findings), tuple(gaps), is_whole)


def _find_gap(place: PlaceSight, verdict: HostVerdict) -> Gap | None:
    """Why an address is not judged, if it is not."""
    if verdict.rule in _NO_TLS:
        return Gap.NO_TLS
    if verdict.session is Session.NONE and verdict.failures:
        # What refuses the best that an unseen host could be refuses it for certain.
        return None
    if place.unseen or verdict.session is Session.NONE:
        return Gap.UNSEEN
    return None


def _find(place: PlaceSight, verdict: HostVerdict) -> _Finding:
    if not verdict.failures:
        return _Finding(None)
    result_type = verdict.failures[0].result_type
    reason = _REASONS.get(verdict.rule, "")
    problem = None if reason else place.problem
    if problem is not None:
        reason = str(problem)
    if problem is PkixProblem.NOT_YET_VALID:
        # RFC 8460 §4.3.1: it has not expired, and there is no type of its own (RPT-JSON-35).
        result_type = ResultType.VALIDATION_FAILURE
    # RFC 8460 §4.3.1: the types of sessions (RPT-JSON-32, RPT-JSON-33, RPT-JSON-34), §4.3.3: with a
    # short reason (RPT-JSON-51).
    return _Finding(result_type, reason)
