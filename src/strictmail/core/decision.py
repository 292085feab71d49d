# SPDX-License-Identifier: Apache-2.0
"""Policy + DANE + MX set -> what the next-hop demands, and why. Pure.

The rules, first match first (`docs/concepts.md` tells them to operators):

==============================  ===========================  =======================
facts                           policy in mode enforce       otherwise
==============================  ===========================  =======================
MX lookup failed                DEFER                        DANE if possible
null MX or NXDOMAIN, unsigned   DEFER                        NONE (the MTA bounces)
MX insecure                     SECURE                       NONE
MX secure, usable TLSA on all   DANE_ONLY                    DANE_ONLY
.. on some, or look-ups failed  DANE_ONLY (a setting)        DANE
.. TLSA present, none usable    SECURE                       DANE
.. no TLSA                      SECURE                       NONE
==============================  ===========================  =======================

SECURE without an MX name that the policy allows is DEFER. Every answer is then raised to the
listener's default level. Where the MTA or the resolver cannot do DANE, "MX insecure" holds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from strictmail.core.mxset import MxHost, MxSet, MxStatus, TlsaState
from strictmail.core.overrides import Override, OverrideAction
from strictmail.core.sts.match import match_any
from strictmail.core.sts.values import FetchFailure, Mode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from strictmail.core.sts.lifecycle import PolicyEntry


class Level(enum.StrEnum):
    """What a sender has to do; the words are Postfix's where it has one."""

    NONE = "none"
    """No demand beyond the MTA's default: NOTFOUND."""
    MAY = "may"
    ENCRYPT = "encrypt"
    DANE = "dane"
    DANE_ONLY = "dane-only"
    SECURE = "secure"
    """Web PKI for one of `allowed_mx` (RFC 8461 §4)."""
    DEFER = "defer"
    """The demand cannot be met now: the mail waits: TEMP."""


class TestingStance(enum.StrEnum):
    """What to answer for a policy in testing mode (design decision 6 and 10)."""

    SILENT = "silent"
    """As without policy: nothing unverified is ever reported as a success."""
    ANNOTATE = "annotate"
    """The default level with the policy's attributes (dialect postfix-tlsrpt only)."""


class PartialDane(enum.StrEnum):
    """What to answer when only some MX hosts have usable TLSA and the policy enforces."""

    DANE_ONLY = "dane-only"
    """Only the hosts with TLSA records, by DANE."""
    SECURE = "secure"
    """Only the hosts without TLSA records, by web PKI."""


class FailureStance(enum.StrEnum):
    """What to answer when something contested or unknown stands in the way."""

    DELIVER = "deliver"
    DEFER = "defer"


@dataclass(frozen=True, slots=True)
class DecisionSettings:
    """What the operator decided once (design decision 6); the defaults are the safe ones.

    Attributes:
        testing: What to answer for a policy in testing mode.
        partial_dane: What to do when only some MX hosts have TLSA and the policy enforces.
        dns_failure: TXT lookup failed and nothing is cached (C-05).
        off_policy_dane: DANE holds, but an MX host is off the enforced policy (C-01).
    """

    testing: TestingStance = TestingStance.SILENT
    partial_dane: PartialDane = PartialDane.DANE_ONLY
    dns_failure: FailureStance = FailureStance.DELIVER
    off_policy_dane: FailureStance = FailureStance.DELIVER


@dataclass(frozen=True, slots=True)
class ListenerProfile:
    """What the asking MTA does by itself.

    Attributes:
        default_level: The administrator's default TLS level: MAY, ENCRYPT, DANE, DANE_ONLY or
            SECURE (which stands for Postfix's `verify` and `secure`). No answer is below it.
        dane: The MTA can do DANE (`smtp_dns_support_level = dnssec`) and our resolver validates.
    """

    default_level: Level = Level.MAY
    dane: bool = False


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """The policy a decision rests on.

    Attributes:
        source: "cache" or "fetch" (learnt for this very question).
        policy_strings: The lines as served.
    """

    policy_id: str
    mode: Mode
    max_age: int
    mx_patterns: tuple[str, ...]
    policy_strings: tuple[str, ...]
    fetched_at: datetime
    expires_at: datetime
    source: str = "cache"

    @classmethod
    def of(cls, entry: PolicyEntry, source: str = "cache") -> PolicyInfo:
        """The policy of an entry of the cache."""
        return cls(
            policy_id=entry.policy_id,
            mode=entry.policy.mode,
            max_age=entry.policy.max_age,
            mx_patterns=entry.policy.mx_patterns,
            policy_strings=entry.policy.policy_strings,
            fetched_at=entry.fetched_at,
            expires_at=entry.expires_at,
            source=source,
        )


@dataclass(frozen=True, slots=True)
class RefusedMx:
    """An MX host that may not be used, and why (a sentence with the section)."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What a next-hop demands of one kind of sender, and why.

    Attributes:
        nexthop: The policy domain, or the key where there is none.
        level: What to answer.
        reason: A stable word (see REASONS: word -> sentence, section).
        allowed_mx: With SECURE: MX names that may be used, in order of preference.
        refused_mx: MX hosts that may not, and why.
        policy: The policy in force, if any, whatever its mode.
        mx: The MX set it was judged against, if it was looked up.
        failure: Why no policy could be learnt, if that was tried and failed.
        override: The override in force, if any.
        annotate: The dialect may add the policy's attributes (testing stance).
        notes: Sentences for people: DANE off because .., tolerated faults, ..
    """

    nexthop: str
    level: Level
    reason: str
    allowed_mx: tuple[str, ...] = ()
    refused_mx: tuple[RefusedMx, ...] = ()
    policy: PolicyInfo | None = None
    mx: MxSet | None = None
    failure: FetchFailure | None = None
    override: Override | None = None
    annotate: bool = False
    notes: tuple[str, ...] = ()


class Reason(NamedTuple):
    """Why a decision is as it is: for people, with the rule's source."""

    sentence: str
    source: str


REASONS: Final[Mapping[str, Reason]] = {
    "no-policy": Reason("No policy and no DANE: the MTA's default applies.", "RFC 8461 §3.1"),
    "mode-none": Reason("The policy asks for nothing (mode none).", "RFC 8461 §5"),
    "mode-testing": Reason("The policy is in testing: nothing is refused.", "RFC 8461 §5"),
    "enforce": Reason(
        "The policy enforces: verified TLS to an MX host that it names.", "RFC 8461 §4, §5"
    ),
    "enforce-no-mx": Reason(
        "The policy enforces, and no MX host in DNS is one that it names.", "RFC 8461 §4.1"
    ),
    "dane": Reason(
        "Every MX host has usable TLSA records: DANE decides.", "RFC 7672 §2.2; RFC 8461 §2"
    ),
    "dane-partial": Reason(
        "Some MX hosts have TLSA records: those are held to them.", "RFC 7672 §2.2.1"
    ),
    "dane-partial-enforce": Reason(
        "Some MX hosts have TLSA records and the policy enforces: only hosts that can be "
        "authenticated in the configured way are used.",
        "RFC 7672 §2.2.1; RFC 8461 §2",
    ),
    "dane-unusable": Reason(
        "TLSA records exist, none usable: TLS is required, authentication is not.",
        "RFC 7672 §2.2",
    ),
    "dane-unusable-enforce": Reason(
        "TLSA records exist, none usable, and the policy enforces: web PKI is still required.",
        "RFC 7672 §2.2; RFC 8461 §5",
    ),
    "dane-lookup-failed": Reason(
        "A TLSA lookup failed: its host may not be used until it succeeds.", "RFC 7672 §2.1.2"
    ),
    "dane-no-address": Reason(
        "An MX host has no address here, or its lookup failed: the MTA's own DANE lookups decide.",
        "RFC 7672 §2.1.2",
    ),
    "dane-off-policy": Reason(
        "DANE holds, but an MX host is off the enforced policy, and the setting "
        "decision.off_policy_dane defers that.",
        "RFC 8461 §5",
    ),
    "mx-lookup-failed": Reason("The MX lookup failed: the mail waits.", "RFC 5321 §5.1"),
    "mx-lookup-failed-dane": Reason(
        "The MX lookup failed: the MTA's own DANE lookups decide.", "RFC 7672 §2.1.2"
    ),
    "null-mx": Reason("The domain accepts no mail: the MTA rejects it.", "RFC 7505 §3"),
    "no-domain": Reason("The domain does not exist: the MTA rejects it.", "RFC 5321 §5.1"),
    "null-mx-unsigned": Reason(
        "An unsigned answer says that the domain takes no mail, against its policy: the mail "
        "waits while that policy lives.",
        "RFC 8461 §10",
    ),
    "dns-failure": Reason(
        "The policy record could not be looked up, nothing is cached, and the setting "
        "decision.dns_failure defers that.",
        "RFC 8461 §3.1",
    ),
    "store-unreadable": Reason(
        "The policy cache cannot be read: it may demand more than is known.", "RFC 8461 §5.1"
    ),
    "internal-error": Reason("strictmail could not decide: the mail waits.", "RFC 8461 §5.1"),
    "override": Reason("An operator's override is in force.", "local policy"),
    "override-no-mx": Reason(
        "An operator's override asks for web PKI, and no MX host fits it.", "local policy"
    ),
    "override-no-dane": Reason(
        "An operator's override asks for DANE, which is not available here.", "local policy"
    ),
    "address-literal": Reason("An address literal has no policy domain.", "RFC 8461 §3.4"),
    "parent": Reason("MTA-STS policies do not extend to subdomains.", "RFC 8461 §3.4"),
    "bad-nexthop": Reason("Not a next-hop that can have a policy.", "RFC 8461 §3.1"),
    "smart-host": Reason(
        "A bracketed host; the setting decision.smart_host_policy leaves it alone.",
        "RFC 8461 §3.4",
    ),
}
"""Every reason a decision can carry."""


class _Demand(NamedTuple):
    level: Level
    reason: str
    allowed_mx: tuple[str, ...] = ()
    refused_mx: tuple[RefusedMx, ...] = ()


_MAYBE: Final = frozenset({TlsaState.USABLE, TlsaState.ERROR})
"""Hosts that DANE holds, or may hold, to their TLSA records."""


def decide(
    nexthop: str,
    *,
    profile: ListenerProfile,
    settings: DecisionSettings,
    policy: PolicyInfo | None,
    mx: MxSet | None,
    failure: FetchFailure | None = None,
    record_failed: bool = False,
    override: Override | None = None,
    notes: Sequence[str] = (),
) -> Decision:
    """Decide what a next-hop demands of one kind of sender.

    Args:
        nexthop: The policy domain.
        profile: What the asking MTA does by itself.
        settings: The operator's choices.
        policy: The unexpired policy in force, whatever its mode; None: none is known.
        mx: The MX set, TLSA states included where `profile.dane`; None: not looked up, which
            `needs_mx` must have allowed.
        failure: Why no policy could be learnt, for `explain`.
        record_failed: The TXT lookup failed and nothing is cached.
        override: The active override, if any.
        notes: Sentences to carry along.

    Spec: RFC 8461 §2, §4, §5; RFC 7672 §2.2.
    """
    if override is not None:
        demand = _demand_overridden(override, profile, settings, mx)
    elif policy is None and record_failed and settings.dns_failure is FailureStance.DEFER:
        # Spec-silent: 8461 does not say what a failed TXT lookup means (STS-REC-30): a setting.
        demand = _Demand(Level.DEFER, "dns-failure")
    else:
        demand = _demand(policy, profile, settings, mx)
    decision = Decision(
        nexthop=nexthop,
        level=demand.level,
        reason=demand.reason,
        allowed_mx=demand.allowed_mx,
        refused_mx=demand.refused_mx,
        policy=policy,
        mx=mx,
        failure=failure,
        override=override,
        notes=tuple(notes),
    )
    decision = _annotated(decision, profile, settings)
    return raise_to_default(decision, profile.default_level)


def needs_mx(
    policy: PolicyInfo | None, profile: ListenerProfile, override: Override | None
) -> bool:
    """Whether `decide` needs the MX set: for names to enforce, or for what DANE says."""
    if profile.dane or override is not None:
        return True
    return policy is not None and policy.mode is Mode.ENFORCE


def simple_decision(nexthop: str, level: Level, reason: str, *notes: str) -> Decision:
    """A decision that rests on nothing but its reason, such as for an address literal."""
    return Decision(nexthop=nexthop, level=level, reason=reason, notes=notes)


def _demand(
    policy: PolicyInfo | None,
    profile: ListenerProfile,
    settings: DecisionSettings,
    mx: MxSet | None,
) -> _Demand:
    # RFC 8461 §5: only enforce refuses; testing and none go on as without (STS-APP-51, STS-APP-53).
    enforced = policy if policy is not None and policy.mode is Mode.ENFORCE else None
    if mx is None:
        return _Demand(Level.NONE, _lenient_reason(policy))
    if mx.status is MxStatus.ERROR:
        return _demand_without_mx(enforced, profile)
    if mx.status in (MxStatus.NULL, MxStatus.NXDOMAIN):
        return _demand_no_mail(enforced, mx)
    # RFC 7672 §2.2.1: an insecure MX RRset leaves MTA-STS alone to decide; TLSA records behind it
    # are never told to authenticate the domain (DANE-23, DANE-25, STS-APP-74).
    if profile.dane and (mx.secure or mx.status is MxStatus.CONFIGURED):
        return _demand_dane(policy, enforced, settings, mx)
    if enforced:
        return _demand_pki(enforced.mx_patterns, mx.hosts, "enforce")
    return _Demand(Level.NONE, _lenient_reason(policy))


def _lenient_reason(policy: PolicyInfo | None) -> str:
    if policy is None:
        return "no-policy"
    return "mode-testing" if policy.mode is Mode.TESTING else "mode-none"


def _demand_without_mx(enforced: PolicyInfo | None, profile: ListenerProfile) -> _Demand:
    if enforced:
        # RFC 5321 §5.1: a failing MX lookup keeps the mail in the queue (STS-APP-14, SEC-29).
        return _Demand(Level.DEFER, "mx-lookup-failed")
    if profile.dane:
        # RFC 7672 §2.1.2: never "assume no TLSA" (DANE-37): at `dane` the MTA looks for itself.
        return _Demand(Level.DANE, "mx-lookup-failed-dane")
    return _Demand(Level.NONE, "no-policy")


def _demand_no_mail(enforced: PolicyInfo | None, mx: MxSet) -> _Demand:
    if enforced and not mx.secure:
        # RFC 8461 §10: forged DNS must not turn an enforced policy into bounces (STS-APP-16).
        return _Demand(Level.DEFER, "null-mx-unsigned")
    # RFC 7505 §3: the MTA rejects; nothing is delivered at any level (STS-APP-15).
    return _Demand(Level.NONE, "null-mx" if mx.status is MxStatus.NULL else "no-domain")


def _demand_dane(
    policy: PolicyInfo | None, enforced: PolicyInfo | None, settings: DecisionSettings, mx: MxSet
) -> _Demand:
    # RFC 7672 §2.2.2: a host without addresses is skipped (DANE-22, DANE-12).
    reachable = [h for h in mx.hosts if h.tlsa_state is not TlsaState.NO_ADDRESS]
    held = [h for h in reachable if h.tlsa_state in _MAYBE]
    if held and len(held) == len(reachable):
        return _demand_dane_everywhere(enforced, settings, mx, held)
    if held:
        return _demand_dane_partly(enforced, settings, reachable, held)
    return _demand_dane_nowhere(policy, enforced, mx, reachable)


def _demand_dane_nowhere(
    policy: PolicyInfo | None,
    enforced: PolicyInfo | None,
    mx: MxSet,
    reachable: Sequence[MxHost],
) -> _Demand:
    """No host that can be reached has usable TLSA records."""
    if any(h.tlsa_state is TlsaState.UNUSABLE for h in reachable):
        if enforced:
            # RFC 8461 §5: TLS without authentication is not enough for the policy (STS-APP-75).
            return _demand_pki(enforced.mx_patterns, reachable, "dane-unusable-enforce")
        # RFC 7672 §2.2: TLS, unauthenticated; never clear text (DANE-49).
        return _Demand(Level.DANE, "dane-unusable")
    if enforced:
        # RFC 7672 §2.2.3: no TLSA at any host: MTA-STS alone decides (DANE-36, STS-APP-74).
        return _demand_pki(enforced.mx_patterns, reachable, "enforce")
    if len(reachable) < len(mx.hosts):
        # RFC 7672 §2.1.2: what a host without an address has in TLSA is unknown, and the MTA may
        # find its address: at `dane` it looks for itself (DANE-37).
        return _Demand(Level.DANE, "dane-no-address")
    return _Demand(Level.NONE, _lenient_reason(policy))


def _demand_dane_everywhere(
    enforced: PolicyInfo | None, settings: DecisionSettings, mx: MxSet, held: Sequence[MxHost]
) -> _Demand:
    off_policy = _off_policy(enforced.mx_patterns, mx.hosts) if enforced else ()
    if off_policy and settings.off_policy_dane is FailureStance.DEFER:
        return _Demand(Level.DEFER, "dane-off-policy", (), off_policy)
    if not any(h.tlsa_state is TlsaState.USABLE for h in held):
        # RFC 8461 §2: MTA-STS must not stand in for a failing TLSA lookup (STS-APP-71).
        level = Level.DANE_ONLY if enforced else Level.DANE
        return _Demand(level, "dane-lookup-failed")
    # RFC 8461 §2: MTA-STS never overrides DANE, in any mode (STS-APP-70, STS-APP-73).
    return _Demand(Level.DANE_ONLY, "dane")


def _demand_dane_partly(
    enforced: PolicyInfo | None,
    settings: DecisionSettings,
    reachable: Sequence[MxHost],
    held: Sequence[MxHost],
) -> _Demand:
    if not enforced:
        # RFC 7672 §2.2.1: hosts are tried in MX order, each held to what it has (DANE-28).
        return _Demand(Level.DANE, "dane-partial")
    # Departs: DANE-28, since an MTA has one level per next-hop, not per host: with an enforced
    # policy either the hosts with TLSA or those without can be used safely, not both.
    if settings.partial_dane is PartialDane.SECURE:
        free = [h for h in reachable if h not in held]
        return _demand_pki(enforced.mx_patterns, free, "dane-partial-enforce")
    return _Demand(Level.DANE_ONLY, "dane-partial-enforce")


def _demand_pki(patterns: Sequence[str], hosts: Sequence[MxHost], reason: str) -> _Demand:
    # RFC 8461 §4.1: MX names are compared with the patterns; one hit suffices (STS-APP-17).
    allowed = tuple(h.name for h in hosts if match_any(h.name, patterns))
    refused = _off_policy(patterns, hosts)
    if not allowed:
        # RFC 8461 §5: no host may be used: the mail waits, it is not bounced (STS-APP-55, -59).
        return _Demand(
            Level.DEFER, "override-no-mx" if reason == "override" else "enforce-no-mx", (), refused
        )
    return _Demand(Level.SECURE, reason, allowed, refused)


def _off_policy(patterns: Sequence[str], hosts: Sequence[MxHost]) -> tuple[RefusedMx, ...]:
    return tuple(
        RefusedMx(h.name, "no mx pattern of the policy matches this name (RFC 8461 §4.1)")
        for h in hosts
        if not match_any(h.name, patterns)
    )


def _demand_overridden(
    override: Override, profile: ListenerProfile, settings: DecisionSettings, mx: MxSet | None
) -> _Demand:
    """What an override makes of it: DANE is never set aside (RFC 8461 §2), DEFER excepted."""
    if override.action is OverrideAction.DEFER:
        return _Demand(Level.DEFER, "override")
    if override.action is OverrideAction.DANE_ONLY:
        if profile.dane:
            return _Demand(Level.DANE_ONLY, "override")
        return _Demand(Level.DEFER, "override-no-dane")
    found = _demand(None, profile, settings, mx)
    if override.action is OverrideAction.DEFAULT or found.level in (Level.DANE_ONLY, Level.DEFER):
        return found._replace(reason="override" if found.level is Level.NONE else found.reason)
    if override.action is OverrideAction.ENCRYPT:
        return _Demand(_encrypted(found.level, mx), "override")
    return _demand_secure_override(override, mx)


def _demand_secure_override(override: Override, mx: MxSet | None) -> _Demand:
    hosts = mx.hosts if mx is not None else ()
    if override.mx_patterns:
        return _demand_pki(override.mx_patterns, hosts, "override")
    if not hosts:
        return _Demand(Level.DEFER, "override-no-mx")
    return _Demand(Level.SECURE, "override", tuple(h.name for h in hosts))


def _encrypted(level: Level, mx: MxSet | None) -> Level:
    """The weakest level that gives both `level` and TLS on every host."""
    if level is Level.DANE:
        held = mx is not None and any(h.tlsa_state in _MAYBE for h in mx.hosts)
        failed = mx is not None and mx.status is MxStatus.ERROR
        # At `dane` a host without TLSA may get clear text; at `encrypt` TLSA is not looked at.
        return Level.DANE_ONLY if held or failed else Level.ENCRYPT
    return Level.ENCRYPT if level in (Level.NONE, Level.MAY) else level


def _annotated(
    decision: Decision, profile: ListenerProfile, settings: DecisionSettings
) -> Decision:
    """Testing mode, stance ANNOTATE: the default level, said aloud with the policy's attributes.

    RFC 8461 §5: testing goes on as if there were no policy (STS-APP-51), in the same order and
    with the same hosts (STS-APP-54): only what is reported differs.
    """
    policy = decision.policy
    if (
        policy is None
        or decision.override is not None
        or policy.mode is not Mode.TESTING
        or settings.testing is not TestingStance.ANNOTATE
        or profile.default_level not in (Level.MAY, Level.ENCRYPT, Level.DANE)
        or decision.level not in (Level.NONE, Level.DANE)
    ):
        return decision
    level = profile.default_level if decision.level is Level.NONE else decision.level
    return replace(decision, level=level, annotate=True)


def raise_to_default(decision: Decision, default: Level) -> Decision:
    """Never answer below the administrator's own default level (design decision 3).

    NONE leaves the MTA at its default, and DEFER is above everything: both always stand.
    """
    level = decision.level
    if level in (Level.NONE, Level.DEFER) or default in (Level.NONE, Level.MAY):
        return decision
    if default is Level.ENCRYPT:
        return replace(decision, level=_encrypted(level, decision.mx))
    if default is Level.DANE:
        return replace(decision, level=Level.DANE) if level is Level.MAY else decision
    kept = (Level.DANE_ONLY,) if default is Level.DANE_ONLY else (Level.DANE_ONLY, Level.SECURE)
    if level in kept:
        return decision
    note = f"The MTA's default level {default} demands more than {level}: it stands."
    return replace(
        decision,
        level=Level.NONE,
        allowed_mx=(),
        annotate=False,
        notes=(*decision.notes, note),
    )
