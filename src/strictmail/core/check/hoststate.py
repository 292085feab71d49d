# SPDX-License-Identifier: Apache-2.0
"""What was seen of an MX host at one address, as the state that `core.delivery` judges.

Two kinds of sender look at a host differently: one that does DANE sends the TLSA base domain as
SNI and holds the chain it gets to the records (`dane`); the others send the MX name (`plain`).
Where something is not known, the state is the best that it could be, and the sight says so: what
refuses even that refuses whatever the host would have shown.

======================  ==========================  ===========================================
the session             handshake                   is it known?
======================  ==========================  ===========================================
TLS                     DONE                        yes
NO_STARTTLS             NO_STARTTLS                 yes
STARTTLS_TEMPORARY      NO_STARTTLS                 yes
STARTTLS_REFUSED        NO_STARTTLS                 yes
TLS_FAILED              FAILED                      yes
TLS_OUTDATED            OUTDATED                    yes
INJECTED                DONE                        no: the session was dropped
UNKNOWN                 DONE                        no; its certificate may be
no addresses in DNS     none: cannot be reached     yes
none was made           DONE                        no
======================  ==========================  ===========================================

What a sender at a level of an MTA does with such a state is `judge_at_level`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from strictmail.core.check.chains import judge_chain
from strictmail.core.check.facts import KeyType, PkixProblem, ProbeOutcome
from strictmail.core.check.grounds import address_texts, say
from strictmail.core.decision import Level
from strictmail.core.delivery import (
    Certificate,
    Dane,
    Failure,
    Handshake,
    HostState,
    HostVerdict,
    Session,
    judge_host,
)
from strictmail.core.mxset import TlsaState
from strictmail.core.names import is_address
from strictmail.core.sts.values import Mode, StsPolicy
from strictmail.core.tlsrpt.results import PolicyType, ResultType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.core.check.facts import DomainFacts, HostFacts, PkixFacts, ProbeFacts
    from strictmail.core.dane.authenticate import DaneResult
    from strictmail.core.mxset import MxHost

ADDRESSES_SUBJECT: Final = "addresses of "
"""In `DomainFacts.unknown`, before the name of a host whose addresses were not found in time."""

_HANDSHAKES: Final = {
    ProbeOutcome.NO_STARTTLS: Handshake.NO_STARTTLS,
    ProbeOutcome.STARTTLS_TEMPORARY: Handshake.NO_STARTTLS,
    ProbeOutcome.STARTTLS_REFUSED: Handshake.NO_STARTTLS,
    ProbeOutcome.TLS_FAILED: Handshake.FAILED,
    ProbeOutcome.TLS_OUTDATED: Handshake.OUTDATED,
}
"""Any other: as if it were done."""

_UNSEEN: Final = {ProbeOutcome.INJECTED: "injected", ProbeOutcome.UNKNOWN: "unknown"}

_CERTIFICATES: Final = {
    PkixProblem.EXPIRED: Certificate.EXPIRED,
    PkixProblem.NOT_YET_VALID: Certificate.EXPIRED,
    PkixProblem.NAME: Certificate.WRONG_NAME,
}
"""Any other problem: not trusted."""

_DANE: Final = {
    TlsaState.USABLE: Dane.MATCH,
    TlsaState.UNUSABLE: Dane.UNUSABLE,
    TlsaState.ERROR: Dane.ERROR,
}
"""Any other state: DANE has no say."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of a host at one address.

    Attributes:
        state: What `core.delivery` judges; where something is not known, the best it could be.
        unseen: Why not everything is known, as a rule's word; "" if it is.
        detail: What was seen, or why nothing was, for the end of a sentence; escaped.
        chain: What is wrong with the chain in the web PKI, for the end of a sentence; escaped.
        dane: What the TLSA records make of the chain.
    """

    state: HostState
    unseen: str = ""
    detail: str = ""
    chain: str = ""
    dane: DaneResult | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One address of an MX host.

    Attributes:
        address: "" where the host has none.
        plain: To a sender without DANE.
        dane: To a sender with DANE.
        other_plain: The same with the host's chains of other key types.
        other_dane: See `other_plain`.
    """

    address: str
    plain: Sight
    dane: Sight
    other_plain: tuple[tuple[KeyType, Sight], ...] = ()
    other_dane: tuple[tuple[KeyType, Sight], ...] = ()


def judge_at_level(level: Level, allowed_mx: Sequence[str], host: HostState) -> HostVerdict:
    """What an MTA at a level does with one host.

    Args:
        level: As `core.decision` answers it, or as the MTA has it by itself.
        allowed_mx: With SECURE, the MX names that may be used.
        host: What the host would show.

    Spec: RFC 8461 §5; RFC 7672 §2.2.
    """
    match level:
        case Level.SECURE | Level.DEFER:
            # At `secure` an MTA looks at no TLSA records. DEFER is the same without a name.
            demanded = StsPolicy(Mode.ENFORCE, 0, tuple(allowed_mx), ())
            return judge_host(demanded, replace(host, dane=Dane.ABSENT))
        case Level.DANE:
            return judge_host(None, host)
        case Level.DANE_ONLY:
            verdict = judge_host(None, host)
            return verdict if verdict.session in (Session.DANE, Session.NONE) else _required(host)
        case _:
            verdict = judge_host(None, replace(host, dane=Dane.ABSENT))
            if level is Level.ENCRYPT and verdict.session is Session.CLEAR:
                return HostVerdict(Session.NONE, (), "TLS is required", "no-starttls")
            return verdict


def _required(host: HostState) -> HostVerdict:
    # RFC 7672 §6: DANE is demanded, and the host has nothing to be authenticated by (DANE-79).
    failure = Failure(PolicyType.TLSA, ResultType.DANE_REQUIRED, host.name)
    return HostVerdict(Session.NONE, (failure,), "DANE is required", "dane-required")


def places_of(facts: DomainFacts, mx_host: MxHost, host: HostFacts | None) -> tuple[Place, ...]:
    """Every address of a host, at least one place.

    Args:
        facts: Of the domain.
        mx_host: What DNS says of the host.
        host: What was seen of it; None if it was not looked at.
    """
    addresses = tuple(_addresses(host)) if host is not None else ()
    if host is None or not addresses:
        sight = _sight_without_address(facts, mx_host, host)
        return (Place("", sight, replace(sight, state=_with_dane(facts, mx_host, sight.state))),)
    return tuple(_place(facts, mx_host, host, address) for address in addresses)


def _addresses(host: HostFacts) -> Iterator[str]:
    found = [probe.target.address for probe in host.probes] + address_texts(host.addresses)
    yield from dict.fromkeys(found)


def _sight_without_address(facts: DomainFacts, mx_host: MxHost, host: HostFacts | None) -> Sight:
    best = HostState(mx_host.name)
    if is_address(mx_host.name):
        # Spec-silent: RFC 5321 §5.1 wants a name; some senders connect to the address, some wait.
        return Sight(best, "address-literal")
    if host is None:
        return Sight(best, "unknown", "only some of the MX hosts were looked at")
    missed = dict(facts.unknown).get(f"{ADDRESSES_SUBJECT}{mx_host.name}")
    if missed is not None or not host.addresses:
        return Sight(best, "unknown", say(missed.detail) if missed else "its addresses are missing")
    failed = next((a for a in host.addresses if not a.status.is_answer), None)
    detail = f"the address lookup failed ({failed.status.value})" if failed else ""
    # RFC 7672 §2.1.2, RFC 5321 §5.1: without addresses this host is passed over (DANE-12, DANE-22).
    return Sight(HostState(mx_host.name, reachable=False), detail=detail)


def _place(facts: DomainFacts, mx_host: MxHost, host: HostFacts, address: str) -> Place:
    here = [probe for probe in host.probes if probe.target.address == address]
    plain = [probe for probe in here if probe.target.server_name == mx_host.name]
    # RFC 7672 §8.1: SNI is the TLSA base domain (DANE-73).
    base_domain = mx_host.tlsa_base_domain or mx_host.name
    named = [probe for probe in here if probe.target.server_name == base_domain] or plain
    return Place(
        address,
        _sight(facts, mx_host, _first(plain), dane=False),
        _sight(facts, mx_host, _first(named), dane=True),
        tuple(_other_chains(facts, mx_host, plain, dane=False)),
        tuple(_other_chains(facts, mx_host, named, dane=True)),
    )


def _first(probes: Sequence[ProbeFacts]) -> ProbeFacts | None:
    return next((probe for probe in probes if probe.target.key_type is KeyType.ANY), None)


def _other_chains(
    facts: DomainFacts, mx_host: MxHost, probes: Sequence[ProbeFacts], *, dane: bool
) -> Iterator[tuple[KeyType, Sight]]:
    """The sessions in which the host showed another kind of certificate."""
    first = _first(probes)
    if first is None or first.tls is None:
        return
    for probe in probes:
        if probe.outcome is not ProbeOutcome.TLS or probe.tls is None:
            continue
        if probe.tls.key_type is not first.tls.key_type:
            yield probe.tls.key_type, _sight(facts, mx_host, probe, dane=dane)


def _sight(facts: DomainFacts, mx_host: MxHost, probe: ProbeFacts | None, *, dane: bool) -> Sight:
    if probe is None:
        best = HostState(mx_host.name)
        best = _with_dane(facts, mx_host, best) if dane else best
        return Sight(best, "unknown", "there was no session with this address")
    tls = probe.tls
    state = HostState(
        mx_host.name,
        handshake=_HANDSHAKES.get(probe.outcome, Handshake.DONE),
        certificate=_certificate(tls.pkix) if tls is not None else Certificate.VALID,
    )
    result = None
    if dane:
        state = _with_dane(facts, mx_host, state)
        if state.dane is Dane.MATCH and tls is not None:
            result = judge_chain(facts, mx_host, tls)
        if result is not None and not result.is_authenticated:
            state = replace(state, dane=Dane.MISMATCH)
    return Sight(
        state,
        unseen=_UNSEEN.get(probe.outcome, ""),
        detail=_detail(probe),
        chain=say(tls.pkix.detail) if tls is not None and tls.pkix.detail else "",
        dane=result,
    )


def _detail(probe: ProbeFacts) -> str:
    text = probe.detail or (probe.unknown.detail if probe.unknown is not None else "")
    return say(text or probe.reply) if text or probe.reply else ""


def _certificate(pkix: PkixFacts) -> Certificate:
    if pkix.is_valid:
        return Certificate.VALID
    return _CERTIFICATES.get(pkix.problems[0], Certificate.UNTRUSTED)


def _with_dane(facts: DomainFacts, mx_host: MxHost, state: HostState) -> HostState:
    """The state with what DNS says of the host: records are taken to match until a chain is seen.

    RFC 7672 §2.2.1: behind an insecure MX RRset TLSA records are not asked for (DANE-23).
    """
    says = _DANE.get(mx_host.tlsa_state, Dane.ABSENT) if facts.mx.secure else Dane.ABSENT
    return replace(state, dane=says)
