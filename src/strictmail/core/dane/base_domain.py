# SPDX-License-Identifier: Apache-2.0
"""Where a host's TLSA records are: the steps of RFC 7672 §2.2.2 and §2.2.3 without the DNS.

A driver asks the questions, this module says which and what the answers mean::

    addresses = answers for A and AAAA of the MX host         # always first
    plan = candidates(host, addresses)
    if plan.step is Step.ASK_CNAME:
        plan = candidates(host, addresses, answer for CNAME of the host)
    if plan.step is not Step.ASK_TLSA:
        the host's state is plan.state; done
    for base_domain in plan.base_domains:
        answer = answer for TLSA of tlsa_qname(base_domain, port)
        match judge_tlsa(answer):
            case TlsaVerdict.FOUND: the base domain is found; state found_state(answer); done
            case TlsaVerdict.ERROR: state TlsaState.ERROR; done
            case TlsaVerdict.NEXT:  try the next candidate
    no candidate left: state TlsaState.NONE

The host is the name of an MX record, of a domain without MX records, or one that an
administrator configured: the steps are the same. Whether the MX RRset was secure is for the caller.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.dane.tlsa import DEFAULT_USABILITY, Usability, usable_records
from strictmail.core.dnsvalues import Answer, Status, Tlsa
from strictmail.core.mxset import TlsaState
from strictmail.core.names import fold, is_address

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_NAME_CHARACTERS: Final = 253


class Step(enum.Enum):
    """What a driver does next."""

    DONE = "done"
    """Nothing: `CandidatePlan.state` is the outcome."""
    ASK_CNAME = "ask-cname"
    """Ask for the host's CNAME record, then call `candidates` again with the answer."""
    ASK_TLSA = "ask-tlsa"
    """Ask for TLSA records at the base domains, in order."""


class TlsaVerdict(enum.Enum):
    """What the answer to one TLSA question means."""

    FOUND = "found"
    NEXT = "next"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class CandidatePlan:
    """What address answers say about where to look.

    Attributes:
        step: What to do next.
        state: With DONE: NO_ADDRESS (the host cannot be used: absent or failed addresses),
            NOT_APPLICABLE (DANE does not apply), ERROR (the host may not be used).
        base_domains: With ASK_TLSA: candidates, in order.
        detail: A sentence for people.
    """

    step: Step
    state: TlsaState = TlsaState.NOT_ASKED
    base_domains: tuple[str, ...] = ()
    detail: str = ""


def tlsa_qname(base_domain: str, port: int = 25) -> str:
    """The owner name of a host's TLSA records: `_25._tcp.mx.example.com`, lower case.

    Args:
        base_domain: A candidate; any case, optional trailing dot.
        port: The one connected to; 25 unless the mail is routed elsewhere.
    """
    # RFC 7672 §2.2.3: port and transport are prefixed to the candidate (DANE-30).
    return f"_{port}._tcp.{fold(base_domain)}"


def candidates(
    host: str, addresses: Sequence[Answer], cname: Answer | None = None
) -> CandidatePlan:
    """Find the candidate TLSA base domains of one host.

    Args:
        host: Its name, not yet expanded, lower case.
        addresses: The answers for A and AAAA, or for the families in use; at least one.
        cname: The answer for CNAME at `host` itself, once a plan asked for it.

    Spec: RFC 7672 §2.2.2.
    """
    # RFC 7672 §2.2.2: addresses come before TLSA, so this function cannot be called earlier (DANE-20).
    found = [a for a in addresses if a.status is Status.OK and a.records]
    if not found:
        return _unreachable(addresses)
    # RFC 7672 §2.2: DANE does not apply to address literals, nor to MX records that hold one (DANE-29).
    if is_address(host):
        return _not_applicable("an address has no TLSA records")
    # Spec-silent: 7672 speaks of one address answer. With two families one that failed does not
    # unmake the other; one secure answer is enough to look, so that nobody can hide the records.
    secure = next((a for a in found if a.secure), None)
    if secure is not None:
        return _plan(host, secure)
    if not any(a.is_alias for a in found):
        # RFC 7672 §2.2.2: behind insecure addresses TLSA is not asked for (DANE-21).
        return _not_applicable("the addresses are not secure")
    return _plan_insecure_alias(host, cname)


def judge_tlsa(answer: Answer) -> TlsaVerdict:
    """Say what the answer for TLSA at one candidate means.

    Spec: RFC 7672 §2.2.3, §2.1.
    """
    # RFC 7672 §2.1.1: bogus, SERVFAIL, time-out and malformed are one class (DANE-04).
    if not answer.status.is_answer:
        # RFC 7672 §2.1.2: an error never means "no TLSA": the host is not used (DANE-37, SEC-30).
        return TlsaVerdict.ERROR
    # RFC 7672 §2.1.1: a denial is an answer, and insecure is insecure for whatever reason
    # (DANE-03, DANE-05, DANE-06).
    if answer.status is Status.OK and answer.secure and answer.records:
        # RFC 7672 §2.2.3: the first secure RRset decides the base domain; an alias at the owner
        # name was followed and changes nothing (DANE-34, DANE-35).
        return TlsaVerdict.FOUND
    # RFC 7672 §2.2.3: without a secure RRset here, the next candidate (DANE-36, DANE-51).
    return TlsaVerdict.NEXT


def found_state(answer: Answer, usability: Usability = DEFAULT_USABILITY) -> TlsaState:
    """USABLE or UNUSABLE, for an answer that `judge_tlsa` found."""
    records = [record for record in answer.records if isinstance(record, Tlsa)]
    # RFC 7672 §2.2: one usable record demands authentication, none demands TLS (DANE-48, DANE-49).
    return TlsaState.USABLE if usable_records(records, usability) else TlsaState.UNUSABLE


def _unreachable(addresses: Sequence[Answer]) -> CandidatePlan:
    failed = next((a for a in addresses if not a.status.is_answer), None)
    if failed is not None:
        # RFC 7672 §2.1.2: an address lookup that fails skips this host only (DANE-12, DANE-08).
        detail = f"the address lookup failed ({failed.status.value})"
    else:
        # RFC 7672 §2.2.2: without addresses the host is unusable, TLSA is not asked for (DANE-22).
        detail = "no address records"
    return CandidatePlan(Step.DONE, TlsaState.NO_ADDRESS, detail=detail)


def _not_applicable(detail: str) -> CandidatePlan:
    return CandidatePlan(Step.DONE, TlsaState.NOT_APPLICABLE, detail=detail)


def _plan(host: str, secure: Answer) -> CandidatePlan:
    # RFC 7672 §2.2.2: one insecure step makes the whole chain insecure: `secure` covers all (DANE-07).
    # RFC 7672 §2.2.3: the expanded name first, then the original, none between them (DANE-31).
    names = (secure.canonical_name, host) if secure.is_alias else (host,)
    return _ask_tlsa(names, "the addresses are secure")


def _plan_insecure_alias(host: str, cname: Answer | None) -> CandidatePlan:
    """A CNAME chain with insecure addresses at its end: is its first step secure?"""
    if cname is None:
        # RFC 7672 §2.2.2: a stub resolver learns that by asking for the CNAME alone (DANE-32).
        return CandidatePlan(Step.ASK_CNAME, detail="an alias with insecure addresses")
    if not cname.status.is_answer:
        # RFC 7672 §2.1.3: an error at one step of a chain fails the lookup (DANE-08).
        detail = f"the CNAME lookup failed ({cname.status.value})"
        return CandidatePlan(Step.DONE, TlsaState.ERROR, detail=detail)
    if not cname.secure:
        # RFC 7672 §2.2.2: an alias in an insecure zone: DANE does not apply (DANE-33).
        return _not_applicable("an alias that is not secure")
    # RFC 7672 §2.2.2: the original name is the only candidate (DANE-32). A secure denial also
    # shows a signed zone: the alias went away between two questions.
    return _ask_tlsa((host,), "the alias is secure, its target is not")


def _ask_tlsa(names: Sequence[str], detail: str) -> CandidatePlan:
    # A name too long for the prefix owns no TLSA records: there is no question to ask.
    room = _MAX_NAME_CHARACTERS - len("_25._tcp.")
    base_domains = tuple(name for name in map(fold, names) if len(name) <= room)
    if not base_domains:
        return CandidatePlan(Step.DONE, TlsaState.NONE, detail="the name is too long for TLSA")
    return CandidatePlan(Step.ASK_TLSA, base_domains=base_domains, detail=detail)
