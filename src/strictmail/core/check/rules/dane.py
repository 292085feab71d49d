# SPDX-License-Identifier: Apache-2.0
"""TLSA records of the MX hosts: which count, what they match, what they do to mail.

Every question that RFC 7672 answers is put to `core.dane`; here its answers become sentences:

====================================  ============================================================
state of a host                       what is said
====================================  ============================================================
usable records, a chain was seen      each chain: matched, or why not; records that match nothing
usable records, STARTTLS does not     critical: senders with DANE never fall back
work
usable records, nothing was seen      unknown
records, none usable                  each with its reason: TLS is demanded, nobody authenticated
lookup failed                         critical for bogus and SERVFAIL, else unknown
none, or without effect               a note; with a record to paste where the zone is signed
====================================  ============================================================

Nothing is said where the resolver does not validate: without that nobody knows (`scope` says so).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.core.check.certificates import describe, is_self_issued
from strictmail.core.check.chains import dane_reference_ids
from strictmail.core.check.facts import ProbeOutcome
from strictmail.core.check.result import Evidence, Severity
from strictmail.core.check.rules import danekinds as kinds
from strictmail.core.check.rules.danesessions import (
    Session,
    has_named_key,
    is_match,
    leaf_lines,
    record_line,
    say_match,
    sessions_of,
    show_leaf,
    show_records,
)
from strictmail.core.check.stakes import addresses_of, first_sessions, pair, subject
from strictmail.core.check.tlsatext import explain_unusable, shorten
from strictmail.core.dane.authenticate import DaneOutcome, authenticate, matches
from strictmail.core.dane.base_domain import tlsa_qname
from strictmail.core.dane.tlsa import (
    CERT,
    DANE_EE,
    DANE_TA,
    FULL,
    SHA2_256,
    SHA2_512,
    SPKI,
    is_usable,
    select_by_agility,
    usable_records,
)
from strictmail.core.dnsvalues import RecordType, Status, Tlsa
from strictmail.core.explain import printable
from strictmail.core.mxset import TlsaState
from strictmail.core.tagrecord import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.core.check.facts import DomainFacts, HostFacts
    from strictmail.core.check.result import Finding
    from strictmail.core.mxset import MxHost

KINDS: Final = kinds.KINDS

_ANCHOR_FAULTS: Final = {
    DaneOutcome.UNTRUSTED: kinds.ANCHOR_UNTRUSTED,
    DaneOutcome.EXPIRED: kinds.ANCHOR_EXPIRED,
    DaneOutcome.NAME: kinds.ANCHOR_NAME,
}

_NO_TLS_OUTCOMES: Final = frozenset(
    {ProbeOutcome.NO_STARTTLS, ProbeOutcome.STARTTLS_REFUSED, ProbeOutcome.TLS_FAILED}
)
"""What every sender meets. A 4xx may be for us alone, and octets before the handshake are an
attack: both are said in `hosts`."""

_HAS_RECORDS: Final = frozenset({TlsaState.USABLE, TlsaState.UNUSABLE})
_HAS_NONE: Final = frozenset({TlsaState.NONE, TlsaState.NOT_APPLICABLE})


def judge(facts: DomainFacts) -> Iterator[Finding]:
    """What DANE is like at each host, and for the domain."""
    if not facts.validates:
        return
    for mx_host, host in pair(facts):
        yield from _published_in_vain(facts, mx_host, host)
        if mx_host.tlsa_state is TlsaState.ERROR:
            yield _failed(mx_host)
        if mx_host.tlsa_state in _HAS_RECORDS and facts.mx.secure:
            yield from _host(facts, mx_host, host)
    if facts.mx.secure:
        yield from _coverage(facts)


def _failed(mx_host: MxHost) -> Finding:
    certain = mx_host.tlsa_status in (Status.BOGUS, Status.SERVFAIL)
    return kinds.LOOKUP_FAILED.found(
        printable(mx_host.name),
        f"The lookup of the TLSA records of {quote(mx_host.name)} failed.",
        Evidence("TLSA lookup", mx_host.detail),
        severity=Severity.CRITICAL if certain else None,
    )


def _published_in_vain(facts: DomainFacts, mx_host: MxHost, host: HostFacts) -> Iterator[Finding]:
    """Records that the host's name servers give, and no sender uses."""
    name = tlsa_qname(mx_host.name)
    answers = [
        seen.answer
        for seen in facts.authorities
        if seen.rdtype is RecordType.TLSA and seen.name == name
    ]
    if host.idle_tlsa is not None:
        answers.append(host.idle_tlsa)
    told = [record for answer in answers for record in answer.records if isinstance(record, Tlsa)]
    records = list(dict.fromkeys([*told, *(() if facts.mx.secure else mx_host.tlsa)]))
    if not records:
        return
    evidence = [Evidence(f"TLSA record at {printable(name)}", str(record)) for record in records]
    where, shown = printable(mx_host.name), quote(mx_host.name)
    if not facts.mx.secure:
        # The records of a provider's host are there for its other customers.
        own = mx_host.name == facts.domain or mx_host.name.endswith(f".{facts.domain}")
        yield kinds.BEHIND_INSECURE_MX.found(
            where,
            f"{shown} has TLSA records; the MX records are not signed.",
            *evidence,
            severity=None if own else Severity.INFO,
        )
    elif mx_host.tlsa_state in _HAS_NONE:
        yield kinds.WITHOUT_EFFECT.found(
            where,
            f"The name servers of {shown} give TLSA records; a validating resolver got no signed "
            "ones, and so nobody uses them.",
            *evidence,
        )


def _host(facts: DomainFacts, mx_host: MxHost, host: HostFacts) -> Iterator[Finding]:
    """One host with secure records."""
    for record in mx_host.tlsa:
        if not is_usable(record):
            yield _unusable(mx_host, record)
    sessions = sessions_of(facts, mx_host, host)
    if mx_host.tlsa_base_domain != mx_host.name:
        yield kinds.ALIAS.found(
            printable(mx_host.name),
            f"The TLSA records of {quote(mx_host.name)} stand at "
            f"{quote(mx_host.tlsa_base_domain)}.",
        )
    without = [probe for probe in first_sessions(host) if probe.outcome in _NO_TLS_OUTCOMES]
    if without:
        # RFC 7672 §2.2: no TLSA records for a host without TLS (DANE-90, DANE-76).
        yield kinds.NO_TLS.found(
            subject(host, addresses_of(without)),
            f"{quote(mx_host.name)} has TLSA records, and TLS does not work.",
            *(Evidence(f"session with {p.target.address}", str(p.outcome)) for p in without),
        )
    if mx_host.tlsa_state is TlsaState.UNUSABLE:
        yield _none_usable(mx_host, sessions)
        return
    yield from _chains(facts, mx_host, host, sessions)
    if not sessions and not without:
        yield kinds.NOT_COMPARED.found(
            printable(mx_host.name),
            f"No certificate of {quote(mx_host.name)} could be seen.",
            *show_records(mx_host, mx_host.tlsa),
        )


def _chains(
    facts: DomainFacts, mx_host: MxHost, host: HostFacts, sessions: Sequence[Session]
) -> Iterator[Finding]:
    ids = dane_reference_ids(facts, mx_host)
    for session in sessions:
        trapped = _hidden_match(facts, mx_host, ids, session)
        if trapped is not None:
            yield _agility(mx_host, host, session, trapped)
        elif not session.result.is_authenticated:
            yield _mismatch(mx_host, host, session, ids)
    good = [session for session in sessions if session.result.is_authenticated]
    if good and len(good) == len(sessions):
        yield kinds.MATCHED.found(
            printable(mx_host.name),
            f"{' '.join(dict.fromkeys(say_match(session) for session in good))}",
            *show_records(mx_host, dict.fromkeys(s.result.record for s in good if s.result.record)),
        )
        yield from _form(mx_host, good)
    if good:
        yield from _leftovers(mx_host, sessions)
    if len({s.tls.chain_der[:1] for s in sessions}) > len({s.tls.key_type for s in sessions}):
        yield kinds.UNEQUAL.found(
            printable(mx_host.name),
            f"{quote(mx_host.name)} presents different certificates of one kind.",
            *(show_leaf(session) for session in sessions),
        )


def _hidden_match(
    facts: DomainFacts, mx_host: MxHost, ids: Sequence[str], session: Session
) -> Tlsa | None:
    """A usable record that would authenticate the chain, if no stronger digest stood beside it."""
    # RFC 7671 §9: only the strongest digest of a usage and selector counts (DANE-52).
    counting = frozenset(select_by_agility(mx_host.tlsa))
    chain = session.tls.chain_der
    for record in usable_records(mx_host.tlsa):
        if record in counting:
            continue
        if not authenticate([record], chain, ids, facts.looked_at).is_authenticated:
            continue
        group = (record.usage, record.selector)
        stronger = [r for r in counting if (r.usage, r.selector) == group and r.mtype != FULL]
        if not any(matches(other, der) for other in stronger for der in chain):
            return record
    return None


def _agility(mx_host: MxHost, host: HostFacts, session: Session, record: Tlsa) -> Finding:
    lost = not session.result.is_authenticated
    return kinds.AGILITY.found(
        subject(host, session.addresses),
        f"{shorten(record)} matches, but a stronger digest beside it does not"
        + (": senders with DANE do not deliver here." if lost else "."),
        *show_records(mx_host, mx_host.tlsa),
        show_leaf(session),
        paste=record_line(mx_host, session, record.usage, record.selector, SHA2_512),
        severity=Severity.CRITICAL if lost else None,
    )


def _mismatch(mx_host: MxHost, host: HostFacts, session: Session, ids: Sequence[str]) -> Finding:
    result = session.result
    kind = _ANCHOR_FAULTS.get(result.outcome, kinds.MISMATCH)
    what = f"the {session.tls.key_type.upper()} certificate" if has_named_key(session) else "what"
    sentence = f"No TLSA record of {quote(mx_host.name)} matches {what} it presents."
    if kind is kinds.MISMATCH and _lacks_anchor(mx_host, session):
        kind = kinds.ANCHOR_NOT_SENT
        sentence = (
            f"The chain of {quote(mx_host.name)} ends before any trust anchor of its records."
        )
    elif kind is not kinds.MISMATCH:
        sentence = f"{quote(mx_host.name)}: {result.detail}."
    if kind is kinds.ANCHOR_NAME:
        sentence += f" Wanted is {' or '.join(map(quote, ids))}."
    return kind.found(
        subject(host, session.addresses),
        sentence,
        *show_records(mx_host, mx_host.tlsa),
        show_leaf(session),
        paste=record_line(mx_host, session, DANE_EE, SPKI, SHA2_256),
    )


def _lacks_anchor(mx_host: MxHost, session: Session) -> bool:
    """Whether only anchors count, and the chain does not go up to a root."""
    counting = select_by_agility(mx_host.tlsa)
    chain = session.tls.chain_der
    return (
        bool(chain)
        and all(record.usage == DANE_TA for record in counting)
        and not is_self_issued(describe(chain[-1]))
    )


def _form(mx_host: MxHost, good: Sequence[Session]) -> Iterator[Finding]:
    """Records that do their work, and could do it better."""
    where = printable(mx_host.name)
    records = [session.result.record for session in good if session.result.record is not None]
    paste = "\n".join(
        dict.fromkeys(record_line(mx_host, session, DANE_EE, SPKI, SHA2_256) for session in good)
    )
    if all(record.usage == DANE_TA for record in records):
        yield kinds.ANCHOR_ONLY.found(
            where,
            f"Only a DANE-TA record authenticates {quote(mx_host.name)}.",
            *show_records(mx_host, dict.fromkeys(records)),
            paste=paste,
        )
    for record in dict.fromkeys(records):
        whole = record.usage == DANE_EE and record.selector == CERT
        # RFC 7672 §3.1.2: Full(0) is avoided for trust anchors (DANE-94).
        if whole or record.mtype == FULL:
            yield kinds.NOT_RECOMMENDED.found(
                where,
                f"{shorten(record)} holds "
                + ("a whole certificate." if record.mtype == FULL else "a digest of all of it."),
                *show_records(mx_host, [record]),
                paste=paste,
            )


def _leftovers(mx_host: MxHost, sessions: Sequence[Session]) -> Iterator[Finding]:
    """Usable records that match nothing presented."""
    usable = usable_records(mx_host.tlsa)
    chains = {session.tls.chain_der for session in sessions}
    matching = {record for record in usable if any(is_match(record, one) for one in chains)}
    working = {(record.usage, record.selector, record.mtype) for record in matching}
    for record in usable:
        if record in matching:
            continue
        combination = (record.usage, record.selector, record.mtype)
        # RFC 7671 §8: every combination has a record that matches (DANE-91).
        kind = kinds.ROLLOVER if combination in working else kinds.UNCOVERED
        yield kind.found(
            printable(mx_host.name),
            f"{shorten(record)} of {quote(mx_host.name)} matches nothing that the host presents.",
            *show_records(mx_host, [record]),
        )


def _unusable(mx_host: MxHost, record: Tlsa) -> Finding:
    reason, place = explain_unusable(record)
    text = str(record)
    fields = text.split(" ")
    return kinds.UNUSABLE.found(
        printable(mx_host.name),
        f"A TLSA record of {quote(mx_host.name)} is unusable: {reason}.",
        Evidence("TLSA record", text, sum(len(field) + 1 for field in fields[:place])),
    )


def _none_usable(mx_host: MxHost, sessions: Sequence[Session]) -> Finding:
    return kinds.NONE_USABLE.found(
        printable(mx_host.name),
        f"None of the TLSA records of {quote(mx_host.name)} is usable.",
        *show_records(mx_host, mx_host.tlsa),
        paste="\n".join(
            dict.fromkeys(
                record_line(mx_host, session, DANE_EE, SPKI, SHA2_256) for session in sessions
            )
        ),
    )


def _coverage(facts: DomainFacts) -> Iterator[Finding]:
    """DANE of the hosts taken together."""
    covered = [host for host in facts.mx.hosts if host.tlsa_state in _HAS_RECORDS]
    bare = [host for host in facts.mx.hosts if host.tlsa_state in _HAS_NONE]
    if covered and bare:
        yield kinds.PARTIAL.found(
            facts.domain,
            f"Without TLSA records: {', '.join(quote(host.name) for host in bare)}; "
            f"with them: {', '.join(quote(host.name) for host in covered)}.",
            paste=leaf_lines(facts, bare),
        )
    elif bare and any(host.tlsa_state is TlsaState.NONE for host in bare):
        yield kinds.NO_TLSA.found(
            facts.domain, "No MX host has TLSA records.", paste=leaf_lines(facts, bare)
        )
