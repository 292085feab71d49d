# SPDX-License-Identifier: Apache-2.0
"""What each kind of sender does with mail for a domain, at each MX host and address, and why.

For each kind there is a plan (`senderplans`): a level of `core.decision` and the MX names that may
be used. What a sender does with one address at that level is `hoststate.judge_at_level`, for all
kinds alike. Then the hosts are walked as `core.delivery.attempt_delivery` does.

Hosts of equal preference, and addresses of one host, are tried in an order that the sender draws:
of those that would get the mail, the one with the weakest session is named.

What could not be looked at is taken for the best that it could be: a sender that refuses even that
refuses it for certain, else nobody knows (`unknown`). So an unknown host never makes mail wait or
go in the clear. When mail would leave over TLS through another host, that is said, as not certain.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from strictmail.core.check.grounds import say
from strictmail.core.check.headline import headline
from strictmail.core.check.hoststate import Place, Sight, judge_at_level, places_of
from strictmail.core.check.result import Prediction, SenderClass, SenderVerdict, Verdict
from strictmail.core.check.senderplans import MX_SUBJECT, Plan, plans
from strictmail.core.check.verdictrules import RULES, UNVERIFIED, sentence, state
from strictmail.core.decision import Level
from strictmail.core.delivery import (
    Dane,
    Handshake,
    HostVerdict,
    Outcome,
    Session,
    attempt_delivery,
    judge_host,
)
from strictmail.core.explain import printable
from strictmail.core.mxset import MxStatus, TlsaState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.mxset import MxHost

__all__ = ["headline", "judge_senders"]

_NO_MAIL: Final = {MxStatus.NULL: "null-mx", MxStatus.NXDOMAIN: "no-domain"}

_SESSIONS: Final = {
    Session.NONE: (Prediction.DEFERRED, ""),
    Session.CLEAR: (Prediction.PLAINTEXT, ""),
    Session.ENCRYPTED: (Prediction.ENCRYPTED, ""),
    Session.PKIX: (Prediction.AUTHENTICATED, "pkix"),
    Session.DANE: (Prediction.AUTHENTICATED, "dane"),
}

_WEAKEST_FIRST: Final = (Prediction.PLAINTEXT, Prediction.ENCRYPTED, Prediction.AUTHENTICATED)

_CAUSES: Final = {
    TlsaState.NOT_APPLICABLE: "insecure-address",
    TlsaState.NONE: "no-tlsa",
    TlsaState.UNUSABLE: "tlsa-unusable",
}
"""Why DANE authenticates nobody behind a secure MX RRset."""

MAX_TOLD_HOSTS: Final = 32
"""MX hosts of which each verdict is told: twice as many as are visited. All of them count."""

_DANE_LEVELS: Final = frozenset({Level.DANE, Level.DANE_ONLY})


def judge_senders(facts: DomainFacts) -> tuple[tuple[SenderVerdict, ...], tuple[Verdict, ...]]:
    """What becomes of mail from each kind of sender.

    Returns:
        For each kind, all hosts taken together; then for each kind, host and address, of the
        first MAX_TOLD_HOSTS hosts.

    Spec: RFC 8461 §2, §4, §5; RFC 7672 §2.2.
    """
    by_name = {host.name: host for host in facts.hosts}
    told = {host.name for host in facts.mx.hosts[:MAX_TOLD_HOSTS]}
    hosts = [(host, places_of(facts, host, by_name.get(host.name))) for host in facts.mx.hosts]
    senders: list[SenderVerdict] = []
    verdicts: list[Verdict] = []
    for plan in plans(facts):
        settled = _without_hosts(facts, plan)
        ranked = [] if settled else list(_judge_hosts(facts, plan, hosts))
        verdicts += (verdict for _, verdict in ranked if verdict.mx_host in told)
        senders.append(settled or _walk(plan, ranked))
    return tuple(senders), tuple(verdicts)


# ---- without hosts --------------------------------------------------------------------------


def _without_hosts(facts: DomainFacts, plan: Plan) -> SenderVerdict | None:
    """What becomes of mail before any host is looked at, if that is settled."""
    if facts.mx.status is MxStatus.ERROR:
        missed = dict(facts.unknown).get(MX_SUBJECT)
        if missed is not None:
            text = sentence(f"the MX records could not be looked up: {say(missed.detail)}")
            return _settled(plan, Prediction.UNKNOWN, "unknown", text)
        # RFC 5321 §5.1, RFC 7672 §2.1.2: the mail waits (STS-APP-14, DANE-11).
        detail = say(facts.mx.detail) if facts.mx.detail else ""
        return _settled(plan, Prediction.DEFERRED, "mx-lookup-failed", detail=detail)
    word = _NO_MAIL.get(facts.mx.status)
    if word is None:
        return None
    may_be_enforced = plan.unknown == "policy-unknown" and plan.sender is SenderClass.MTA_STS
    if may_be_enforced and not facts.mx.secure:
        # A policy in mode enforce would make the mail wait.
        return _settled(plan, Prediction.UNKNOWN, "policy-unknown")
    text = ""
    policy = plan.policy
    if plan.sender is SenderClass.BOTH:
        # Departs: STS-APP-16, as Postfix and sendmail do: they reject before they ask for a policy.
        policy = None
        if plan.is_enforced and not facts.mx.secure:
            text = f"{state(word)} Postfix rejects the mail before it asks for the policy."
    attempt = attempt_delivery(policy, [], mx_status=facts.mx.status, mx_secure=facts.mx.secure)
    if attempt.outcome is Outcome.DEFER:
        return _settled(plan, Prediction.DEFERRED, "null-mx-unsigned")
    return _settled(plan, Prediction.BOUNCED, word, text)


def _settled(
    plan: Plan, prediction: Prediction, rule: str, text: str = "", *, detail: str = ""
) -> SenderVerdict:
    return SenderVerdict(
        sender=plan.sender,
        prediction=prediction,
        by="",
        mx_host="",
        rule=rule,
        sentence=text or state(rule, detail),
        source=RULES[rule].source,
        certain=prediction is not Prediction.UNKNOWN,
    )


# ---- one address ----------------------------------------------------------------------------


def _judge_hosts(
    facts: DomainFacts, plan: Plan, hosts: Sequence[tuple[MxHost, Sequence[Place]]]
) -> Iterator[tuple[int, Verdict]]:
    """Each host at each address, with the host's preference, in MX order."""
    # RFC 5321 §5.1: the lowest number first (STS-APP-10).
    for mx_host, places in sorted(hosts, key=lambda pair: pair[0].preference):
        for place in places:
            yield mx_host.preference, _judge_place(facts, plan, mx_host, place)


def _judge_place(facts: DomainFacts, plan: Plan, mx_host: MxHost, place: Place) -> Verdict:
    by_dane = plan.level in _DANE_LEVELS
    sight = place.dane if by_dane else place.plain
    verdict = judge_at_level(plan.level, plan.allowed_mx, sight.state)
    unknown = ""
    if verdict.session is not Session.NONE:
        settled = not plan.unknown or verdict.session is Session.DANE
        unknown = sight.unseen or ("" if settled else plan.unknown)
    if unknown:
        prediction, by, rule = Prediction.UNKNOWN, "", unknown
        text = state(rule, sight.detail if rule == sight.unseen else "")
        result_type = ""
    else:
        prediction, by = _SESSIONS[verdict.session]
        rule = _word(facts, plan, mx_host, verdict)
        others = place.other_dane if by_dane else place.other_plain
        notes = [_explain(rule, mx_host, verdict, sight), plan.note]
        for key_type, other in others:
            changed = judge_at_level(plan.level, plan.allowed_mx, other.state)
            if changed.session is not verdict.session:
                word = _word(facts, plan, mx_host, changed)
                told = _explain(word, mx_host, changed, other)
                notes.append(f"To a sender that gets its {key_type.upper()} certificate: {told}")
        text = " ".join(filter(None, notes))
        result_type = _report(plan, verdict, sight)
    return Verdict(
        sender=plan.sender,
        mx_host=mx_host.name,
        address=place.address,
        prediction=prediction,
        by=by,
        rule=rule,
        sentence=text,
        source=RULES[rule].source,
        result_type=result_type,
    )


def _word(facts: DomainFacts, plan: Plan, mx_host: MxHost, verdict: HostVerdict) -> str:
    """The deciding rule."""
    if verdict.rule == "unreachable":
        return "no-address"
    if verdict.rule != "unverified":
        return verdict.rule
    if plan.level not in _DANE_LEVELS:
        return plan.cause
    # RFC 7672 §2.2.1: behind an insecure MX RRset, TLS is opportunistic (DANE-23).
    return _CAUSES.get(mx_host.tlsa_state, "no-tlsa") if facts.mx.secure else "insecure-mx"


def _explain(rule: str, mx_host: MxHost, verdict: HostVerdict, sight: Sight) -> str:
    """A rule in a sentence, with what was seen."""
    if rule in UNVERIFIED:
        return _explain_unverified(rule, verdict, sight)
    if rule.startswith("certificate-"):
        return state(rule, sight.chain)
    if rule == "tlsa-lookup-failed":
        return state(rule, say(mx_host.detail) if mx_host.detail else "")
    if rule in ("dane", "tlsa-mismatch"):
        return state(rule, say(sight.dane.detail) if sight.dane is not None else "")
    if rule in ("off-policy", "web-pki", "dane-required", "tlsa-unusable"):
        return state(rule)
    return state(rule, sight.detail)


def _explain_unverified(rule: str, verdict: HostVerdict, sight: Sight) -> str:
    # RFC 7672 §2.2.1: a choice, which authenticates the host and no domain (DANE-24, DANE-25).
    choice = ""
    if rule == "insecure-mx":
        choice = " Even so, some senders hold the MX host to TLSA records of its own."
    if verdict.session is not Session.CLEAR:
        return state(rule, "TLS is used, and nobody is verified") + choice
    # RFC 7435 §3: without TLS, in the clear (SEC-39).
    how = "without TLS the mail goes in the clear"
    if sight.state.handshake is Handshake.FAILED:
        how = "the TLS handshake fails, and a later attempt goes in the clear"
    seen = f" ({sight.detail})" if sight.detail else ""
    return state(rule, f"{how}{seen}") + choice


def _report(plan: Plan, verdict: HostVerdict, sight: Sight) -> str:
    """The first result type that the sender would report of this session, or ""."""
    if verdict.rule == "tlsa-mismatch" and sight.dane is not None:
        return str(sight.dane.result_type or "")
    # RFC 8460 §4: what MTA-STS finds is reported beside DANE, and in testing (STS-APP-52, -76).
    plain = replace(sight.state, dane=Dane.ABSENT)
    failures = verdict.failures or judge_host(plan.policy, plain).failures
    return str(failures[0].result_type) if failures else plan.report


# ---- all hosts ------------------------------------------------------------------------------


def _walk(plan: Plan, ranked: Sequence[tuple[int, Verdict]]) -> SenderVerdict:
    """The first hosts that take the mail; RFC 8461 §5.1: those that fail are walked past."""
    unknown: list[Verdict] = []
    for _, group in groupby(ranked, key=lambda pair: pair[0]):
        alike = [verdict for _, verdict in group]
        earlier = list(unknown)
        unknown += (one for one in alike if one.prediction is Prediction.UNKNOWN)
        takers = [one for one in alike if one.prediction in _WEAKEST_FIRST]
        if not takers:
            continue
        weakest = min(takers, key=lambda one: _WEAKEST_FIRST.index(one.prediction))
        if earlier and weakest.prediction is Prediction.PLAINTEXT:
            # A host that nobody could look at is not a reason to say that mail is unprotected.
            break
        return _overall(weakest, certain=not unknown)
    if unknown:
        return _overall(unknown[0], certain=False)
    if plan.level is Level.DEFER:
        return _settled(plan, Prediction.DEFERRED, "enforce-no-mx")
    if not ranked:
        return _settled(plan, Prediction.DEFERRED, "no-host")
    # RFC 8461 §5: transient, whatever the hosts failed at (STS-APP-55, STS-APP-59, DANE-75).
    return replace(_overall(ranked[0][1], certain=True), mx_host="")


def _overall(verdict: Verdict, *, certain: bool) -> SenderVerdict:
    arrives = verdict.prediction in _WEAKEST_FIRST
    text = f"{printable(verdict.mx_host)}: {verdict.sentence}"
    if arrives and not certain:
        text += " A host that may be tried as well, or before, could not be looked at."
    return SenderVerdict(
        sender=verdict.sender,
        prediction=verdict.prediction,
        by=verdict.by,
        mx_host=verdict.mx_host if arrives else "",
        rule=verdict.rule,
        sentence=text,
        source=verdict.source,
        certain=certain,
    )
