# SPDX-License-Identifier: Apache-2.0
"""One delivery attempt of a sender that keeps to RFC 8461 §5.1 and RFC 7672, as values.

What each MX host would show goes in; which host gets the message, over what, or why none does,
comes out. strictmail does not deliver mail: this is the yardstick that the lab and the vectors
hold real senders to, and the order of steps that `decision` has to bring about.

A host is walked past when it must not be used, never the whole message (STS-APP-26): per host,
DANE is judged first, since nothing that MTA-STS says may rescue a host that fails it.

======================  =============================  =====================================
DANE on this host       policy in mode enforce         otherwise
======================  =============================  =====================================
lookup failed           skipped                        skipped
records, one matches    delivered, authenticated (*)   delivered, authenticated
records, none matches   skipped                        skipped
records, none usable    web PKI and the mx patterns    any TLS
none                    web PKI and the mx patterns    as it comes; testing reports faults
======================  =============================  =====================================

(*) Contested point C-01; `dane_suffices` switches it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from strictmail.core.mxset import MxStatus
from strictmail.core.sts.lifecycle import (
    PolicyEntry,
    apply_fetch_failed,
    apply_fetched,
    is_expired,
    wants_fetch,
)
from strictmail.core.sts.match import match_any
from strictmail.core.sts.values import FetchedPolicy, FetchFailure, Mode, StsPolicy
from strictmail.core.tlsrpt.results import PolicyType, ResultType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


class Certificate(enum.Enum):
    """What a host's certificate is worth to the web PKI, for the MX host's name."""

    VALID = "valid"
    EXPIRED = "expired"
    """Outside its validity time, the leaf or an intermediate (STS-APP-32)."""
    UNTRUSTED = "untrusted"
    """Self-signed, a private CA, a missing intermediate, revoked (STS-APP-31)."""
    WRONG_NAME = "wrong-name"
    """No dNSName for the MX host (STS-APP-33, -34, -36)."""


class Dane(enum.Enum):
    """How a host fares against the secure TLSA records of its MX host."""

    ABSENT = "absent"
    """No secure TLSA records, or insecure ones, or insecure addresses."""
    MATCH = "match"
    MISMATCH = "mismatch"
    UNUSABLE = "unusable"
    ERROR = "error"
    """The TLSA lookup failed: bogus, SERVFAIL, time-out."""


class Handshake(enum.Enum):
    """How far TLS gets."""

    DONE = "done"
    NO_STARTTLS = "no-starttls"
    """Not offered, stripped, or answered with 4xx or 5xx (STS-APP-30)."""
    FAILED = "failed"
    """Offered, and the handshake breaks."""
    OUTDATED = "outdated"
    """TLS before 1.2 (C-19)."""


@dataclass(frozen=True, slots=True)
class HostState:
    """What one MX host would show in this attempt.

    Attributes:
        name: As it stands in the MX record.
        reachable: A connection succeeds and the host says 220.
        handshake: How far TLS gets.
        certificate: What the web PKI makes of it.
        dane: How it fares against its TLSA records.
        rejects: It refuses the recipient for good once a session stands (STS-APP-61).
        is_self: It is the sender itself: the end of the walk (RFC 5321 §5.1).
    """

    name: str
    reachable: bool = True
    handshake: Handshake = Handshake.DONE
    certificate: Certificate = Certificate.VALID
    dane: Dane = Dane.ABSENT
    rejects: bool = False
    is_self: bool = False


class Outcome(enum.StrEnum):
    """How an attempt ends."""

    DELIVER = "deliver"
    DEFER = "defer"
    BOUNCE = "bounce"


class Session(enum.Enum):
    """What protects the session that the message went over."""

    NONE = "none"
    """No message went out."""
    CLEAR = "clear"
    ENCRYPTED = "encrypted"
    """TLS whose peer nobody has authenticated."""
    PKIX = "pkix"
    """TLS, the MX host's name certified by a trusted root."""
    DANE = "dane"
    """TLS, authenticated by TLSA records."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed check, for the report of the day."""

    policy_type: PolicyType
    result_type: ResultType
    mx_host: str
    failure_reason_code: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of an attempt.

    Attributes:
        outcome: Delivered, or kept in the queue, or returned to the sender.
        host: The MX host that took (or refused) the message, else "".
        session: What protected it.
        failures: What there is to report, in the order met; also after a delivery.
        skipped: Hosts walked past, each with a reason in words.
        reason: Why, in words.
    """

    outcome: Outcome
    host: str = ""
    session: Session = Session.NONE
    failures: tuple[Failure, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HostVerdict:
    """What one host is good for.

    Attributes:
        session: What protects a message there; NONE: the host is walked past.
        failures: What there is to report.
        reason: Why, in words.
        rule: The same as a stable word.
    """

    session: Session
    failures: tuple[Failure, ...] = ()
    reason: str = ""
    rule: str = ""


_CERTIFICATE_RESULTS: Final = {
    Certificate.EXPIRED: ResultType.CERTIFICATE_EXPIRED,
    Certificate.UNTRUSTED: ResultType.CERTIFICATE_NOT_TRUSTED,
    Certificate.WRONG_NAME: ResultType.CERTIFICATE_HOST_MISMATCH,
}

_HANDSHAKE_RESULTS: Final = {
    Handshake.NO_STARTTLS: ResultType.STARTTLS_NOT_SUPPORTED,
    Handshake.FAILED: ResultType.VALIDATION_FAILURE,
    Handshake.OUTDATED: ResultType.VALIDATION_FAILURE,
}

_STS_RULES: Final = {
    (ResultType.VALIDATION_FAILURE, "mx-mismatch"): "off-policy",
    (ResultType.STARTTLS_NOT_SUPPORTED, ""): "no-starttls",
    (ResultType.VALIDATION_FAILURE, ""): "tls-failed",
    (ResultType.VALIDATION_FAILURE, "tls-version"): "tls-outdated",
    (ResultType.CERTIFICATE_EXPIRED, ""): "certificate-expired",
    (ResultType.CERTIFICATE_NOT_TRUSTED, ""): "certificate-not-trusted",
    (ResultType.CERTIFICATE_HOST_MISMATCH, ""): "certificate-host-mismatch",
}


def settle_policy(
    entry: PolicyEntry | None,
    *,
    policy_domain: str,
    seen_id: str | None,
    fetched: FetchedPolicy | FetchFailure | None,
    now: datetime,
) -> StsPolicy | None:
    """The policy in force at an attempt, after a look at DNS and, where called for, a fetch.

    Args:
        entry: What is cached.
        policy_domain: The domain it is about.
        seen_id: The id in DNS; None when none can be seen: absent, broken, lookup failed.
        fetched: What a fetch would bring; None when none is made.
        now: The instant of the attempt.

    Spec: RFC 8461 §5.1: evaluated at each attempt, not stamped on the message (STS-APP-63, -64).
    """
    wanted = seen_id is not None and (entry is None or wants_fetch(entry, seen_id, now))
    if wanted and seen_id is not None and isinstance(fetched, FetchedPolicy):
        # RFC 8461 §5: a newer policy binds at once, weaker or stronger (STS-APP-57, STS-FET-41).
        entry = apply_fetched(
            entry,
            policy_domain=policy_domain,
            policy_id=seen_id,
            fetched=fetched,
            now=now,
            txt_ttl_seconds=0,
            jitter=0,
        )
    elif wanted and entry is not None and isinstance(fetched, FetchFailure):
        entry = apply_fetch_failed(entry, fetched, now, 0)
    # RFC 8461 §3.3, §5.1: a failed look takes nothing away (STS-REC-07, STS-REC-29, STS-FET-29,
    # STS-FET-30, STS-APP-58).
    # RFC 8461 §5: without a live policy, as without MTA-STS, at each attempt anew (STS-FET-28,
    # STS-APP-62, STS-APP-63, STS-APP-64).
    if entry is None or is_expired(entry, now):
        return None
    return entry.policy


def attempt_delivery(
    policy: StsPolicy | None,
    hosts: Sequence[HostState],
    *,
    mx_status: MxStatus = MxStatus.FOUND,
    mx_secure: bool = False,
    dane_suffices: bool = True,
) -> Delivery:
    """Walk the hosts once.

    Args:
        policy: The policy in force (see `settle_policy`), or None.
        hosts: In the order in which they are tried; for an implicit MX, the domain itself.
        mx_status: How the MX lookup ended; only FOUND, IMPLICIT and CONFIGURED have hosts.
        mx_secure: The MX answer was validated.
        dane_suffices: What a host does that DANE authenticates and that fails the policy: True
            delivers (C-01 b), False refuses (C-01 a).
    """
    if mx_status not in (MxStatus.FOUND, MxStatus.IMPLICIT, MxStatus.CONFIGURED):
        return _judge_no_hosts(policy, mx_status, mx_secure=mx_secure)
    failures: list[Failure] = []
    skipped: list[tuple[str, str]] = []
    for host in hosts:
        if host.is_self:
            # RFC 5321 §5.1: hosts of equal or worse preference are out, before any policy is
            # looked at (STS-APP-25).
            break
        # RFC 8461 §8.4: in MX order, no filtering beforehand; a host that fails is walked past
        # like one that cannot be reached (STS-APP-24, STS-APP-26, STS-APP-10).
        verdict = judge_host(policy, host, dane_suffices=dane_suffices)
        failures += verdict.failures
        if verdict.session is Session.NONE:
            skipped.append((host.name, verdict.reason))
            continue
        # RFC 8461 §5: a rejection inside a good session is not about the policy (STS-APP-61).
        outcome = Outcome.BOUNCE if host.rejects else Outcome.DELIVER
        reason = "the host rejected the recipient" if host.rejects else verdict.reason
        return Delivery(
            outcome, host.name, verdict.session, tuple(failures), tuple(skipped), reason
        )
    # RFC 8461 §5: transient, whatever the hosts failed at; RFC 5321 §5.1: and no other address
    # is tried (STS-APP-55, STS-APP-59, STS-APP-13, DANE-75).
    reason = "no MX host could be used" if hosts else "no usable MX host"
    return Delivery(Outcome.DEFER, failures=tuple(failures), skipped=tuple(skipped), reason=reason)


def _judge_no_hosts(policy: StsPolicy | None, mx_status: MxStatus, *, mx_secure: bool) -> Delivery:
    if mx_status is MxStatus.ERROR:
        # RFC 5321 §5.1, RFC 7672 §2.1.2: a failed MX lookup delays (STS-APP-14, DANE-11).
        return Delivery(Outcome.DEFER, reason="the MX lookup failed")
    if policy is not None and policy.mode is Mode.ENFORCE and not mx_secure:
        # BCP: an unsigned "no mail here" could be forged against the policy (STS-APP-16, C-22).
        return Delivery(
            Outcome.DEFER, reason="an unsigned answer says there is no mail, against the policy"
        )
    # RFC 7505 §3: no attempt, no address instead (STS-APP-15).
    return Delivery(Outcome.BOUNCE, reason="the domain takes no mail or does not exist")


def judge_host(
    policy: StsPolicy | None, host: HostState, *, dane_suffices: bool = True
) -> HostVerdict:
    """Say what one host is good for under a policy; arguments as for `attempt_delivery`."""
    if not host.reachable:
        # RFC 8460 §4.3.4: no policy failure, and not reported as one (STS-APP-60).
        return HostVerdict(Session.NONE, reason="cannot be reached", rule="unreachable")
    dane = _judge_dane(host)
    sts = _judge_sts(policy, host)
    enforced = policy is not None and policy.mode is Mode.ENFORCE
    if dane is not None and dane.session is not Session.ENCRYPTED:
        # RFC 8461 §2: nothing in MTA-STS rescues a failed DANE (STS-APP-70, STS-APP-71,
        # STS-APP-73).
        # Spec-silent: RFC 8461 §2 and §5 do not say whether a DANE that holds is enough; it is,
        # by default (C-01, STS-APP-72).
        refused = enforced and sts.session is Session.NONE and not dane_suffices
        verdict = sts if refused and dane.session is Session.DANE else dane
    elif enforced or sts.session is Session.PKIX:
        # RFC 8461 §5: no message to a host that fails, unusable TLSA or not (STS-APP-50,
        # STS-APP-75, STS-APP-44).
        verdict = sts
    else:
        # RFC 8461 §5: testing goes on as if there were no failure; none as if there were no
        # policy (STS-APP-51, STS-APP-53, STS-APP-54).
        verdict = HostVerdict(_unverified_session(host), reason=sts.reason, rule="unverified")
    # RFC 8460 §4: both are applied, and reported side by side (STS-APP-76).
    return replace(verdict, failures=(dane.failures if dane else ()) + sts.failures)


def _judge_dane(host: HostState) -> HostVerdict | None:
    """What DANE makes of a host; None where it has no say."""
    match host.dane:
        case Dane.ABSENT:
            # RFC 7672 §2.2: without secure records DANE does not apply (STS-APP-74, DANE-51).
            return None
        case Dane.ERROR:
            # RFC 7672 §2.1.2: never taken for "no records" (DANE-37, STS-APP-71).
            return _refuse_dane(
                host, ResultType.DNSSEC_INVALID, "the TLSA lookup failed", "tlsa-lookup-failed"
            )
        case _ if host.handshake in (Handshake.NO_STARTTLS, Handshake.FAILED):
            # RFC 7672 §2.2.3: secure records mean TLS or nothing (DANE-76, DANE-49).
            return _refuse_dane(
                host, _HANDSHAKE_RESULTS[host.handshake], "TLSA records, no TLS", "tlsa-without-tls"
            )
        case Dane.MISMATCH:
            # RFC 7672 §3.2: usable records, none matches (DANE-74).
            return _refuse_dane(
                host, ResultType.TLSA_INVALID, "no TLSA record matches", "tlsa-mismatch"
            )
        case Dane.UNUSABLE:
            # RFC 7672 §2.2: TLS is required, authentication is not (DANE-49).
            failure = Failure(PolicyType.TLSA, ResultType.TLSA_INVALID, host.name)
            return HostVerdict(
                Session.ENCRYPTED, (failure,), "no TLSA record is usable", "tlsa-unusable"
            )
        case Dane.MATCH:
            return HostVerdict(Session.DANE, (), "authenticated by TLSA records", "dane")


def _refuse_dane(host: HostState, result_type: ResultType, reason: str, rule: str) -> HostVerdict:
    failure = Failure(PolicyType.TLSA, result_type, host.name)
    return HostVerdict(Session.NONE, (failure,), reason, rule)


def _judge_sts(policy: StsPolicy | None, host: HostState) -> HostVerdict:
    """Validate a host by web PKI, if a policy asks for it."""
    if policy is None or policy.mode is Mode.NONE:
        # RFC 8461 §5: as if no policy existed: nothing to report (STS-APP-53).
        return HostVerdict(_unverified_session(host), reason="no policy applies", rule="unverified")
    # RFC 8461 §5, §6: testing validates too, or there would be nothing to report (STS-APP-52).
    failure = _first_sts_failure(policy, host)
    if failure is None:
        return HostVerdict(Session.PKIX, reason="meets the policy", rule="web-pki")
    return HostVerdict(
        Session.NONE,
        (failure,),
        failure.failure_reason_code or str(failure.result_type),
        _STS_RULES[failure.result_type, failure.failure_reason_code],
    )


def _first_sts_failure(policy: StsPolicy, host: HostState) -> Failure | None:
    # RFC 8461 §4.1: the MX name first, against the patterns (STS-APP-17, STS-APP-22, SEC-07).
    if not match_any(host.name, policy.mx_patterns):
        # Spec-silent: RFC 8460 has no result type for this (C-13).
        return Failure(PolicyType.STS, ResultType.VALIDATION_FAILURE, host.name, "mx-mismatch")
    if host.handshake is not Handshake.DONE:
        # RFC 8461 §4, §5: STARTTLS has to be offered and to succeed (STS-APP-30, STS-APP-39,
        # SEC-01).
        reason_code = "tls-version" if host.handshake is Handshake.OUTDATED else ""
        return Failure(PolicyType.STS, _HANDSHAKE_RESULTS[host.handshake], host.name, reason_code)
    if host.certificate is not Certificate.VALID:
        # RFC 8461 §4.2: trusted, within its time, for this name (STS-APP-31, STS-APP-32,
        # STS-APP-33, STS-APP-34, STS-APP-36, SEC-08).
        return Failure(PolicyType.STS, _CERTIFICATE_RESULTS[host.certificate], host.name)
    return None


def _unverified_session(host: HostState) -> Session:
    """What an opportunistic sender ends up with (RFC 7435 §3, SEC-39)."""
    if host.handshake in (Handshake.NO_STARTTLS, Handshake.FAILED):
        return Session.CLEAR
    return Session.ENCRYPTED
