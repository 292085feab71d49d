# SPDX-License-Identifier: Apache-2.0
"""What a host presents, held to its TLSA records: which chains, in words, and as records to paste.

Makes no findings; `dane` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from strictmail.core.check.certificates import describe, is_self_issued
from strictmail.core.check.chains import judge_chain
from strictmail.core.check.result import Evidence
from strictmail.core.check.stakes import addresses_of, pair
from strictmail.core.check.tlsatext import shorten, tlsa_line
from strictmail.core.dane.authenticate import matches
from strictmail.core.dane.base_domain import tlsa_qname
from strictmail.core.dane.tlsa import DANE_EE, DANE_TA, FULL, SHA2_256, SPKI
from strictmail.core.explain import printable
from strictmail.core.mxset import TlsaState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strictmail.core.check.facts import DomainFacts, HostFacts, ProbeFacts, TlsFacts
    from strictmail.core.dane.authenticate import DaneResult
    from strictmail.core.dnsvalues import Tlsa
    from strictmail.core.mxset import MxHost


@dataclass(frozen=True, slots=True)
class Session:
    """A chain that a host presents, before its records.

    Attributes:
        tls: A session that brought it.
        addresses: Where it is presented.
        result: What the records make of it.
    """

    tls: TlsFacts
    addresses: tuple[str, ...]
    result: DaneResult


def sessions_of(facts: DomainFacts, mx_host: MxHost, host: HostFacts) -> list[Session]:
    """Each chain that a sender with DANE can meet, once."""
    # RFC 7672 §8.1: the base domain is the SNI (DANE-73); where nobody sent it, what the host
    # presents otherwise is the best that is known.
    with_tls = [probe for probe in host.probes if probe.tls is not None]
    named = [p for p in with_tls if p.target.server_name == mx_host.tlsa_base_domain]
    grouped: dict[tuple[bytes, ...], list[ProbeFacts]] = {}
    for probe in named or with_tls:
        if probe.tls is not None:
            grouped.setdefault(probe.tls.chain_der, []).append(probe)
    found = []
    for probes in grouped.values():
        tls = probes[0].tls
        result = judge_chain(facts, mx_host, tls) if tls is not None else None
        if tls is not None and result is not None:
            found.append(Session(tls, addresses_of(probes), result))
    return found


def has_named_key(session: Session) -> bool:
    """Whether its kind of key has a name: RSA, ECDSA."""
    return session.tls.key_type.value in ("rsa", "ecdsa")


def say_match(session: Session) -> str:
    """A sentence on what matched; "" where nothing did."""
    result = session.result
    if result.record is None:
        return ""
    if result.depth == 0:
        what = "the certificate of the host"
    elif result.depth is None or result.depth >= len(session.tls.chain_der):
        what = "a trust anchor"
    else:
        root = is_self_issued(describe(session.tls.chain_der[result.depth]))
        what = "the root of its chain" if root else "an intermediate certificate of its chain"
    return f"{shorten(result.record)} matches {what}."


def is_match(record: Tlsa, chain: Sequence[bytes]) -> bool:
    """Whether a record matches a certificate in the place that its usage speaks of."""
    if record.usage == DANE_TA and record.mtype == FULL:
        # RFC 7671 §5.2.2: such an anchor need not be sent (DANE-69).
        return True
    place = chain[:1] if record.usage == DANE_EE else chain[1:]
    return any(matches(record, der) for der in place)


def record_line(mx_host: MxHost, session: Session, usage: int, selector: int, mtype: int) -> str:
    """The record that would match what a session presented; "" if nothing can be computed."""
    chain = list(session.tls.chain_der)
    if usage == DANE_TA:
        record = session.result.record
        chain = [der for der in chain[1:] if record is None or matches(record, der)] or chain[1:]
    return tlsa_line(mx_host.tlsa_base_domain, chain[0], usage, selector, mtype) if chain else ""


def leaf_lines(facts: DomainFacts, hosts: Sequence[MxHost]) -> str:
    """A `3 1 1` record for every certificate that these hosts present."""
    wanted = {host.name for host in hosts if host.tlsa_state is TlsaState.NONE}
    lines = [
        tlsa_line(host.name, leaf, DANE_EE, SPKI, SHA2_256)
        for _, host in pair(facts)
        if host.name in wanted
        for probe in host.probes
        if probe.tls is not None
        for leaf in probe.tls.chain_der[:1]
    ]
    return "\n".join(line for line in dict.fromkeys(lines) if line)


def show_records(mx_host: MxHost, records: Sequence[Tlsa] | dict[Tlsa, None]) -> list[Evidence]:
    """Records of a host as evidence."""
    name = printable(tlsa_qname(mx_host.tlsa_base_domain or mx_host.name))
    return [Evidence(f"TLSA record at {name}", str(record)) for record in records]


def show_leaf(session: Session) -> Evidence:
    """The certificate of the host as evidence."""
    leaf = describe(session.tls.chain_der[0]) if session.tls.chain_der else None
    if leaf is None:
        return Evidence("certificate", "none presented")
    return Evidence(
        "certificate",
        f"{leaf.subject}; {leaf.key}; SHA-256 {leaf.sha256}; public key {leaf.spki_sha256}",
    )
