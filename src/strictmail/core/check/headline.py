# SPDX-License-Identifier: Apache-2.0
"""The verdicts in one line of words, for the top of a page.

Kinds of sender with the same fate share a clause; bad fates come first. That TLS is unverified with
a sender that verifies nobody goes without saying where all others verify, or fail to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.core.check.result import Prediction, SenderClass
from strictmail.core.check.verdictrules import RULES, UNVERIFIED
from strictmail.core.explain import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.check.result import SenderVerdict

_STS, _DANE, _BOTH, _PLAIN = (
    SenderClass.MTA_STS,
    SenderClass.DANE,
    SenderClass.BOTH,
    SenderClass.OPPORTUNISTIC,
)

_EVERY: Final = frozenset({_STS, _DANE, _BOTH, _PLAIN})
_VERIFIERS: Final = _EVERY - {_PLAIN}

_SENDERS: Final[Mapping[frozenset[SenderClass], str]] = {
    _EVERY: "every kind of sender",
    _VERIFIERS: "every sender that verifies",
    frozenset({_STS, _BOTH}): "senders that honour MTA-STS",
    frozenset({_DANE, _BOTH}): "senders that honour DANE",
    frozenset({_STS, _DANE}): "senders that honour one of MTA-STS and DANE",
    frozenset({_STS}): "senders that honour MTA-STS and not DANE",
    frozenset({_DANE}): "senders that honour DANE and not MTA-STS",
    frozenset({_BOTH}): "senders that honour both MTA-STS and DANE",
    frozenset({_PLAIN}): "senders that verify nobody",
    frozenset({_DANE, _PLAIN}): "senders that do not honour MTA-STS",
    frozenset({_STS, _PLAIN}): "senders that do not honour DANE",
    frozenset({_BOTH, _PLAIN}): "senders that honour both MTA-STS and DANE, or neither",
    frozenset({_STS, _BOTH, _PLAIN}): "all senders but those that honour DANE alone",
    frozenset({_DANE, _BOTH, _PLAIN}): "all senders but those that honour MTA-STS alone",
    frozenset({_STS, _DANE, _PLAIN}): "all senders but those that honour both MTA-STS and DANE",
}
"""A name for every set of kinds."""

_FATES: Final[Mapping[Prediction, str]] = {
    Prediction.BOUNCED: "is returned to",
    Prediction.DEFERRED: "waits from",
    Prediction.PLAINTEXT: "travels in the clear from",
    Prediction.UNKNOWN: "has an unknown fate from",
    Prediction.AUTHENTICATED: "travels over verified TLS from",
    Prediction.ENCRYPTED: "travels over unverified TLS from",
}
"""The bad ones first."""

_GOES_WITHOUT_SAYING: Final = (Prediction.ENCRYPTED, frozenset({_PLAIN}))


def headline(facts: DomainFacts, senders: Sequence[SenderVerdict]) -> str:
    """The verdicts in one line.

    Args:
        facts: Of the domain.
        senders: As `judge_senders` gives them: each kind but `cached` once.
    """
    domain = printable(facts.domain)
    current: dict[SenderClass, SenderVerdict] = {
        one.sender: one for one in senders if one.sender is not SenderClass.CACHED
    }
    fates = _by_fate(current)
    return " ".join((_main(domain, current, fates), *_remarks(senders, current)))


def _by_fate(
    current: Mapping[SenderClass, SenderVerdict],
) -> list[tuple[Prediction, frozenset[SenderClass]]]:
    found = (
        (fate, frozenset(kind for kind, one in current.items() if one.prediction is fate))
        for fate in _FATES
    )
    return [(fate, kinds) for fate, kinds in found if kinds]


def _main(
    domain: str,
    current: Mapping[SenderClass, SenderVerdict],
    fates: Sequence[tuple[Prediction, frozenset[SenderClass]]],
) -> str:
    if len(fates) == 1:
        return _alike(domain, fates[0][0], current)
    told = [pair for pair in fates if pair != _GOES_WITHOUT_SAYING]
    silent = len(told) < len(fates) and any(fate is Prediction.AUTHENTICATED for fate, _ in told)
    told = told if silent else list(fates)
    clauses = []
    for fate, kinds in told:
        is_rest = not silent and kinds is told[-1][1]
        who = "all others" if is_rest else _SENDERS[kinds]
        clauses.append(f"{_FATES[fate]} {who}{_because(fate, kinds, current)}")
    first, *others = clauses
    return f"Mail to {domain} {first}{''.join(f'; it {clause}' for clause in others)}."


def _because(
    fate: Prediction, kinds: frozenset[SenderClass], current: Mapping[SenderClass, SenderVerdict]
) -> str:
    """The reason, where mail does not arrive and all of them have the same one."""
    rules = {current[kind].rule for kind in kinds}
    if fate in (Prediction.DEFERRED, Prediction.UNKNOWN) and len(rules) == 1:
        return f", because {RULES[rules.pop()].text}"
    return ""


def _alike(domain: str, fate: Prediction, current: Mapping[SenderClass, SenderVerdict]) -> str:
    """One fate for all kinds."""
    # The rule of the kind that demands most: its reason is the one that the owner can change.
    rule = current[_STS].rule
    text = RULES[rule].text
    match fate:
        case Prediction.BOUNCED:
            return f"Mail to {domain} is returned: {text}."
        case Prediction.DEFERRED:
            return f"Mail to {domain} waits, whoever sends it: {RULES[_most(current).rule].text}."
        case Prediction.UNKNOWN:
            return f"What becomes of mail to {domain} is not known. {_most(current).sentence}"
        case Prediction.PLAINTEXT:
            return f"Mail to {domain} travels in the clear: {_unprotected(current)}."
        case Prediction.ENCRYPTED:
            return (
                f"Mail to {domain} travels over TLS, but nobody verifies with whom: "
                f"{_unprotected(current)}."
            )
        case Prediction.AUTHENTICATED:
            return f"Mail to {domain} travels over verified TLS from {_SENDERS[_EVERY]}."


def _most(current: Mapping[SenderClass, SenderVerdict]) -> SenderVerdict:
    """What most kinds have in common."""
    rules = [one.rule for one in current.values()]
    return max(current.values(), key=lambda one: rules.count(one.rule))


def _unprotected(current: Mapping[SenderClass, SenderVerdict]) -> str:
    """Why no kind of sender verifies."""
    rule = current[_STS].rule
    if rule == "no-policy":
        return f"there is no MTA-STS policy, and {RULES[current[_DANE].rule].text}"
    return RULES[rule].text if rule in UNVERIFIED else "nothing demands more"


def _remarks(
    senders: Sequence[SenderVerdict], current: Mapping[SenderClass, SenderVerdict]
) -> Iterator[str]:
    for one in senders:
        now = current[_STS].prediction
        if one.sender is SenderClass.CACHED and one.prediction is not now:
            fate = _FATES[one.prediction]
            yield f"It {fate} senders that still hold the policy from before."
    arrives = any(one.prediction is not Prediction.UNKNOWN and not one.certain for one in senders)
    if arrives:
        yield "Not every MX host could be looked at."
