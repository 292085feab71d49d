# SPDX-License-Identifier: Apache-2.0
"""What each kind of sender demands of the MX hosts of a domain: a plan each, before any host.

=============  ===================================================================================
kind           level
=============  ===================================================================================
mta-sts        as `decide` answers an MTA without DANE
dane           `dane`, as plain Postfix has it: each host is held to what it has
both           as `decide` answers an MTA with DANE: exactly Postfix with strictmail
opportunistic  none
cached         as mta-sts, by the policy from before
=============  ===================================================================================

The policy is the one of a first contact: a lookup or a fetch that failed here would fail for such
a sender, too. What nobody looked at, such as a policy when the time was over, is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from strictmail.core.check.grounds import usable_record
from strictmail.core.check.result import SenderClass
from strictmail.core.decision import (
    DecisionSettings,
    Level,
    ListenerProfile,
    PolicyInfo,
    decide,
)
from strictmail.core.mxset import TlsaState
from strictmail.core.sts.lifecycle import is_expired
from strictmail.core.sts.values import FetchedPolicy, FetchFailure, Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.sts.values import StsPolicy

MX_SUBJECT: Final = "MX"
RECORD_SUBJECT: Final = "MTA-STS record"
"""In `DomainFacts.unknown`: the MX set, TLSA records included, or the record, came too late."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one kind of sender demands.

    Attributes:
        sender: Which kind.
        level: See `judge_at_level`.
        cause: At levels without DANE, why nothing is demanded, as a rule's word.
        allowed_mx: See `judge_at_level`.
        policy: The policy in force, for what is reported.
        unknown: Why it is not known what is demanded, as a rule's word, or "": then `level` is
            what is demanded at least.
        report: What is reported of a policy that could not be had.
        note: A sentence to go with each delivery and each refusal.
    """

    sender: SenderClass
    level: Level
    cause: str = ""
    allowed_mx: tuple[str, ...] = ()
    policy: StsPolicy | None = None
    unknown: str = ""
    report: str = ""
    note: str = ""

    @property
    def is_enforced(self) -> bool:
        """Whether a policy in mode enforce is in force."""
        return self.policy is not None and self.policy.mode is Mode.ENFORCE


def plans(facts: DomainFacts) -> Iterator[Plan]:
    """The plan of each kind, in the order in which they are shown."""
    yield _plan_mta_sts(facts)
    dane_unknown = "dnssec-unknown" if _is_dane_unknown(facts) else ""
    level = Level.NONE if dane_unknown else Level.DANE
    yield Plan(SenderClass.DANE, level, cause="insecure-mx", unknown=dane_unknown)
    yield _plan_both(facts)
    yield Plan(SenderClass.OPPORTUNISTIC, Level.NONE, cause="opportunistic")
    # RFC 8461 §5: an expired policy has no effect (STS-APP-62).
    if facts.cached is not None and not is_expired(facts.cached, facts.looked_at):
        cached = facts.cached
        info = _info(facts, cached.policy, cached.policy_id)
        plan = _plan(facts, SenderClass.CACHED, info, cached.policy, dane=False)
        yield replace(plan, note=_say_newer(facts, cached.policy_id))


def _plan_mta_sts(facts: DomainFacts) -> Plan:
    info, policy = _policy(facts)
    plan = _plan(facts, SenderClass.MTA_STS, info, policy, dane=False)
    return replace(plan, unknown="policy-unknown") if _is_policy_unknown(facts) else plan


def _plan_both(facts: DomainFacts) -> Plan:
    info, policy = _policy(facts)
    if _is_dane_unknown(facts):
        return Plan(SenderClass.BOTH, Level.NONE, policy=policy, unknown="dnssec-unknown")
    plan = _plan(facts, SenderClass.BOTH, info, policy, dane=True)
    return replace(plan, unknown="policy-unknown") if _is_policy_unknown(facts) else plan


def _plan(
    facts: DomainFacts,
    sender: SenderClass,
    info: PolicyInfo | None,
    policy: StsPolicy | None,
    *,
    dane: bool,
) -> Plan:
    """What strictmail's own decision demands, settings as they come."""
    decision = decide(
        facts.domain,
        profile=ListenerProfile(dane=dane),
        settings=DecisionSettings(),
        policy=info,
        mx=facts.mx,
    )
    failure = facts.policy if policy is None else None
    return Plan(
        sender,
        decision.level,
        cause=_cause(facts, policy),
        allowed_mx=decision.allowed_mx,
        policy=policy,
        # RFC 8460 §4.3: a policy that cannot be had is reported, too (STS-FET-28).
        report=str(failure.result_type) if isinstance(failure, FetchFailure) else "",
    )


def _policy(facts: DomainFacts) -> tuple[PolicyInfo | None, StsPolicy | None]:
    """The policy as a sender learns it at its first contact (RFC 8461 §3.3)."""
    if not isinstance(facts.policy, FetchedPolicy):
        return None, None
    record, policy = usable_record(facts), facts.policy.policy
    return _info(facts, policy, record.policy_id if record is not None else ""), policy


def _info(facts: DomainFacts, policy: StsPolicy, policy_id: str) -> PolicyInfo:
    return PolicyInfo(
        policy_id,
        policy.mode,
        policy.max_age,
        policy.mx_patterns,
        policy.policy_strings,
        facts.looked_at,
        facts.looked_at,
    )


def _cause(facts: DomainFacts, policy: StsPolicy | None) -> str:
    if policy is not None:
        return "mode-testing" if policy.mode is Mode.TESTING else "mode-none"
    if isinstance(facts.policy, FetchFailure):
        # RFC 8461 §3.3: with nothing cached, as without MTA-STS (STS-FET-28).
        return "policy-fetch-failed"
    # Spec-silent: a TXT lookup that fails with nothing cached (C-05): as without MTA-STS.
    return "no-policy" if facts.sts_record.status.is_answer else "policy-lookup-failed"


def _is_policy_unknown(facts: DomainFacts) -> bool:
    """Whether there is, or may be, a policy that was not fetched."""
    if facts.policy is not None:
        return False
    late = RECORD_SUBJECT in dict(facts.unknown) and not facts.sts_record.status.is_answer
    return late or usable_record(facts) is not None


def _is_dane_unknown(facts: DomainFacts) -> bool:
    """Whether a sender may know of TLSA records, or of failing lookups, that we do not."""
    if not facts.validates:
        return True
    states = {host.tlsa_state for host in facts.mx.hosts}
    late = MX_SUBJECT in dict(facts.unknown) and TlsaState.ERROR in states
    return facts.mx.secure and (late or TlsaState.NOT_ASKED in states)


def _say_newer(facts: DomainFacts, cached_id: str) -> str:
    record = usable_record(facts)
    # RFC 8461 §5.1: who sees another id fetches, and applies what it gets (STS-APP-57).
    if record is None or record.policy_id == cached_id or facts.policy is None:
        return ""
    return "A sender that sees the new id in DNS goes by what it can fetch."
