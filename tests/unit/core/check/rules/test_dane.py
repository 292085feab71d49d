# SPDX-License-Identifier: Apache-2.0
"""TLSA records before what hosts present: every state that they can be in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.check import builders as b

from strictmail.core.check.facts import (
    AuthorityFacts,
    KeyType,
    ProbeOutcome,
    ProbeTarget,
    Unknown,
    UnknownReason,
)
from strictmail.core.check.result import Severity
from strictmail.core.check.rules import dane
from strictmail.core.check.rules import danekinds as kinds
from strictmail.core.dane.tlsa import parse_tlsa, usable_records
from strictmail.core.dnsvalues import RecordType, Status, Tlsa
from strictmail.core.mxset import MxHost, TlsaState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strictmail.core.check.facts import DomainFacts, ProbeFacts, TlsFacts
    from strictmail.core.check.kinds import Kind

CRITICAL, WARNING, INFO, OK, UNKNOWN = (
    Severity.CRITICAL,
    Severity.WARNING,
    Severity.INFO,
    Severity.OK,
    Severity.UNKNOWN,
)

V4, V6 = b.IPV4[b.MX1], b.IPV6[b.MX1]
LEAF: Final = b.leaf(b.MX1)
OTHER: Final = b.leaf(b.MX1, owner="another key")
RSA_LEAF: Final = b.leaf(b.MX1, key="rsa-2048")
GOOD: Final = b.tlsa(LEAF)
QNAME: Final = f"_25._tcp.{b.MX1}"


def with_records(
    records: Sequence[Tlsa],
    *probes: ProbeFacts,
    state: TlsaState | None = None,
    base_domain: str = b.MX1,
    **changes: Any,
) -> DomainFacts:
    """One MX host with these records, and these sessions in place of good ones."""
    facts = b.domain_facts(hosts_named=(b.MX1,), **changes)
    usable = TlsaState.USABLE if usable_records(records) else TlsaState.UNUSABLE
    mx_host = MxHost(b.MX1, 10, state or usable, base_domain, tuple(records))
    host = replace(facts.hosts[0], probes=probes) if probes else facts.hosts[0]
    return replace(facts, mx=replace(facts.mx, hosts=(mx_host,)), hosts=(host,))


def with_chain(records: Sequence[Tlsa], *chain: bytes) -> DomainFacts:
    return with_records(records, b.probe(b.MX1, V4, tls=b.tls(b.MX1, chain_der=chain)))


def with_state(state: TlsaState, **changes: Any) -> DomainFacts:
    """One MX host without records."""
    facts = b.domain_facts(hosts_named=(b.MX1,))
    return replace(facts, mx=replace(facts.mx, hosts=(MxHost(b.MX1, 10, state, **changes),)))


def told_by_servers(facts: DomainFacts) -> DomainFacts:
    """The host's name servers have a record."""
    answer = b.answer(QNAME, RecordType.TLSA, GOOD)
    seen = AuthorityFacts(
        "example.com", "ns1.example.com", "192.0.2.53", QNAME, RecordType.TLSA, answer
    )
    return replace(facts, authorities=(seen,))


def with_idle_records(facts: DomainFacts) -> DomainFacts:
    """A plain lookup finds a record where no sender asks."""
    answer = b.answer(QNAME, RecordType.TLSA, GOOD)
    return replace(facts, hosts=tuple(replace(host, idle_tlsa=answer) for host in facts.hosts))


def unsigned(facts: DomainFacts) -> DomainFacts:
    return replace(facts, mx=replace(facts.mx, secure=False))


def rsa_session(leaf: bytes = RSA_LEAF) -> TlsFacts:
    return b.tls(b.MX1, chain_der=(leaf, b.intermediate()), key_type=KeyType.RSA)


NO_STARTTLS: Final = b.probe(b.MX1, V4, outcome=ProbeOutcome.NO_STARTTLS)
UNSEEN: Final = b.probe(
    b.MX1, V4, outcome=ProbeOutcome.UNKNOWN, unknown=Unknown(UnknownReason.BUSY)
)
TA: Final = b.tlsa(b.intermediate(), usage=2)
ROOT: Final = b.tlsa(b.root(), usage=2)
EXPIRED: Final = b.leaf(b.MX1, days_left=-1)
ELSEWHERE: Final = b.leaf("elsewhere.example")
FORGED: Final = b.leaf(b.MX1, self_signed=True)
PARTIAL: Final = b.domain_facts()

CASES: Final[dict[str, tuple[Kind, DomainFacts, Severity]]] = {
    "none": (kinds.NO_TLSA, with_state(TlsaState.NONE), INFO),
    "partial": (
        kinds.PARTIAL,
        replace(
            PARTIAL,
            mx=replace(PARTIAL.mx, hosts=(PARTIAL.mx.hosts[0], MxHost(b.MX2, 20, TlsaState.NONE))),
        ),
        WARNING,
    ),
    "servfail": (
        kinds.LOOKUP_FAILED,
        with_state(TlsaState.ERROR, detail="SERVFAIL", tlsa_status=Status.SERVFAIL),
        CRITICAL,
    ),
    "bogus": (
        kinds.LOOKUP_FAILED,
        with_state(TlsaState.ERROR, detail="bogus", tlsa_status=Status.BOGUS),
        CRITICAL,
    ),
    "no-reply": (
        kinds.LOOKUP_FAILED,
        with_state(TlsaState.ERROR, detail="no reply", tlsa_status=Status.TIMEOUT),
        UNKNOWN,
    ),
    "too-many-hosts": (kinds.LOOKUP_FAILED, with_state(TlsaState.ERROR), UNKNOWN),
    "none-usable": (kinds.NONE_USABLE, with_records([replace(GOOD, usage=1)]), WARNING),
    "pkix-usage": (kinds.UNUSABLE, with_records([GOOD, replace(GOOD, usage=1)]), WARNING),
    "mismatch": (kinds.MISMATCH, with_records([b.tlsa(OTHER)]), CRITICAL),
    "mismatch-of-one": (
        kinds.MISMATCH,
        with_records([GOOD], b.probe(b.MX1, V4), b.probe(b.MX1, V4, tls=rsa_session())),
        CRITICAL,
    ),
    "no-anchor": (kinds.ANCHOR_NOT_SENT, with_chain([ROOT], LEAF, b.intermediate()), CRITICAL),
    "untrusted": (kinds.ANCHOR_UNTRUSTED, with_chain([TA], FORGED, b.intermediate()), CRITICAL),
    "expired": (kinds.ANCHOR_EXPIRED, with_chain([TA], EXPIRED, b.intermediate()), CRITICAL),
    "name": (kinds.ANCHOR_NAME, with_chain([TA], ELSEWHERE, b.intermediate()), CRITICAL),
    "shadowed": (kinds.AGILITY, with_records([GOOD, b.tlsa(OTHER, mtype=2)]), CRITICAL),
    "shadowed-and-saved": (
        kinds.AGILITY,
        with_records([GOOD, b.tlsa(OTHER, mtype=2), b.tlsa(LEAF, selector=0)]),
        WARNING,
    ),
    "uncovered": (kinds.UNCOVERED, with_records([GOOD, ROOT]), WARNING),
    "roll-over": (kinds.ROLLOVER, with_records([GOOD, b.tlsa(OTHER)]), INFO),
    "anchor-only": (kinds.ANCHOR_ONLY, with_records([TA]), INFO),
    "matched": (kinds.MATCHED, b.domain_facts(), OK),
    "not-signed": (kinds.WITHOUT_EFFECT, told_by_servers(with_state(TlsaState.NONE)), WARNING),
    "addresses-not-signed": (
        kinds.WITHOUT_EFFECT,
        told_by_servers(with_state(TlsaState.NOT_APPLICABLE)),
        WARNING,
    ),
    "unsigned-anyway": (
        kinds.WITHOUT_EFFECT,
        with_idle_records(with_state(TlsaState.NOT_APPLICABLE)),
        WARNING,
    ),
    "mx-not-signed-anyway": (
        kinds.BEHIND_INSECURE_MX,
        unsigned(with_idle_records(with_state(TlsaState.NOT_ASKED))),
        WARNING,
    ),
    "mx-not-signed-provider": (
        kinds.BEHIND_INSECURE_MX,
        replace(
            unsigned(with_idle_records(with_state(TlsaState.NOT_ASKED))), domain="customer.example"
        ),
        INFO,
    ),
    "mx-not-signed": (
        kinds.BEHIND_INSECURE_MX,
        unsigned(told_by_servers(with_state(TlsaState.NOT_ASKED))),
        WARNING,
    ),
    "no-starttls": (kinds.NO_TLS, with_records([GOOD], NO_STARTTLS), CRITICAL),
    "no-handshake": (
        kinds.NO_TLS,
        with_records([GOOD], b.probe(b.MX1, V4, outcome=ProbeOutcome.TLS_FAILED)),
        CRITICAL,
    ),
    "no-tls-unusable": (
        kinds.NO_TLS,
        with_records([replace(GOOD, usage=0)], NO_STARTTLS),
        CRITICAL,
    ),
    "whole-certificate": (kinds.NOT_RECOMMENDED, with_records([b.tlsa(LEAF, selector=0)]), INFO),
    "full": (kinds.NOT_RECOMMENDED, with_records([b.tlsa(LEAF, selector=0, mtype=0)]), INFO),
    "alias": (kinds.ALIAS, with_records([GOOD], base_domain="target.example.net"), INFO),
    "unequal": (
        kinds.UNEQUAL,
        with_records(
            [GOOD, b.tlsa(OTHER)],
            b.probe(b.MX1, V4),
            b.probe(b.MX1, V6, tls=b.tls(b.MX1, chain_der=(OTHER, b.intermediate()))),
        ),
        INFO,
    ),
    "unseen": (kinds.NOT_COMPARED, with_records([GOOD], UNSEEN), UNKNOWN),
}


def test_every_kind_has_a_case() -> None:
    assert {case[0].id for case in CASES.values()} == {kind.id for kind in dane.KINDS}


@pytest.mark.req(
    *("DANE-37", "DANE-49", "DANE-52", "DANE-62", "DANE-68", "DANE-74", "DANE-90", "DANE-91")
)
@pytest.mark.parametrize(("kind", "facts", "severity"), CASES.values(), ids=CASES)
def test_a_kind_is_brought_forth(kind: Kind, facts: DomainFacts, severity: Severity) -> None:
    found = b.of_kind(b.judged(dane.judge, facts), kind)
    assert found
    assert {finding.severity for finding in found} == {severity}


def test_the_good_domain_is_good() -> None:
    findings = b.judged(dane.judge, b.domain_facts())
    assert [(finding.id, finding.subject) for finding in findings] == [
        (kinds.MATCHED.id, b.MX1),
        (kinds.MATCHED.id, b.MX2),
    ]


@pytest.mark.parametrize("case", CASES)
def test_without_validation_nothing_is_said(case: str) -> None:
    assert b.judged(dane.judge, replace(CASES[case][1], validates=False)) == ()


def record_of(paste: str) -> Tlsa:
    name, _, record = paste.partition(". IN TLSA ")
    assert name == QNAME
    return parse_tlsa(record)


@pytest.mark.parametrize("case", ["none", "none-usable", "mismatch", "no-anchor", "anchor-only"])
def test_the_record_to_paste_is_right(case: str) -> None:
    kind, facts, _ = CASES[case]
    record = record_of(b.the_one(b.judged(dane.judge, facts), kind).paste)
    assert record == GOOD
    healed = b.judged(dane.judge, with_records([record]))
    assert [finding.id for finding in healed] == [kinds.MATCHED.id]


def test_the_record_that_ends_the_shadow() -> None:
    records = [GOOD, b.tlsa(OTHER, mtype=2)]
    finding = b.the_one(b.judged(dane.judge, with_records(records)), kinds.AGILITY)
    healed = b.judged(dane.judge, with_records([*records, record_of(finding.paste)]))
    assert not [f for f in healed if f.severity in (CRITICAL, WARNING)]
    assert not b.of_kind(healed, kinds.MISMATCH)


def test_the_chain_that_does_not_match_is_named() -> None:
    facts = CASES["mismatch-of-one"][1]
    finding = b.the_one(b.judged(dane.judge, facts), kinds.MISMATCH)
    assert "the RSA certificate" in finding.sentence
    assert record_of(finding.paste) == b.tlsa(RSA_LEAF)
    assert not b.of_kind(b.judged(dane.judge, facts), kinds.MATCHED)


@pytest.mark.parametrize(
    ("record", "said", "rest"),
    [
        ("0 1 1 " + "AA" * 32, "usage 0 (PKIX)", "0 1 1 "),
        ("7 1 1 " + "AA" * 32, "usage 7 is unknown", "7 1 1 "),
        ("3 2 1 " + "AA" * 32, "selector 2 is unknown", "2 1 "),
        ("3 1 3 " + "AA" * 32, "matching type 3 is unknown", "3 "),
        ("3 1 1 " + "AA" * 31, "has 32 octets, not 31", ""),
        ("3 1 2 " + "AA" * 32, "has 64 octets, not 32", ""),
        ("3 0 0 " + "AA" * 32, "no certificate", ""),
        ("3 1 0 " + "AA" * 32, "no public key", ""),
    ],
)
@pytest.mark.req("DANE-41", "DANE-43", "DANE-44")
def test_an_unusable_record_is_pointed_at(record: str, said: str, rest: str) -> None:
    facts = with_records([GOOD, parse_tlsa(record)])
    finding = b.the_one(b.judged(dane.judge, facts), kinds.UNUSABLE)
    assert said in finding.sentence
    assert b.pointed_at(finding).startswith(rest + "AA")


@pytest.mark.parametrize(
    ("record", "chain", "said"),
    [
        (GOOD, (LEAF, b.intermediate()), "the certificate of the host"),
        (TA, (LEAF, b.intermediate()), "an intermediate certificate"),
        (ROOT, (LEAF, b.intermediate(), b.root()), "the root of its chain"),
        (b.tlsa(b.root(), 2, 0, 0), (LEAF, b.intermediate()), "a trust anchor"),
    ],
    ids=["leaf", "intermediate", "root", "in-dns"],
)
def test_what_matched_is_said(record: Tlsa, chain: tuple[bytes, ...], said: str) -> None:
    finding = b.the_one(b.judged(dane.judge, with_chain([record], *chain)), kinds.MATCHED)
    assert said in finding.sentence


@pytest.mark.req("DANE-73")
def test_the_session_with_the_base_domain_counts() -> None:
    target = "target.example.net"
    wrong = b.tls(b.MX1, chain_der=(OTHER, b.intermediate()))
    right = b.tls(b.MX1, server_name=target)
    facts = with_records(
        [GOOD],
        b.probe(b.MX1, V4, tls=wrong),
        b.probe(b.MX1, V4, tls=right, target=ProbeTarget(b.MX1, V4, target)),
        base_domain=target,
    )
    findings = b.judged(dane.judge, facts)
    assert {finding.id for finding in findings} == {kinds.ALIAS.id, kinds.MATCHED.id}


@pytest.mark.req("DANE-60")
def test_dane_ee_does_not_look_at_dates_and_names() -> None:
    leaf = b.leaf("elsewhere.example", days_left=-20, self_signed=True)
    findings = b.judged(dane.judge, with_chain([b.tlsa(leaf)], leaf))
    assert [finding.id for finding in findings] == [kinds.MATCHED.id]


@pytest.mark.parametrize(
    "outcome", [ProbeOutcome.STARTTLS_TEMPORARY, ProbeOutcome.UNKNOWN, ProbeOutcome.INJECTED]
)
def test_what_may_be_meant_for_us_alone_is_no_lack_of_tls(outcome: ProbeOutcome) -> None:
    facts = with_records([GOOD], b.probe(b.MX1, V4, outcome=outcome))
    assert {f.severity for f in b.judged(dane.judge, facts)} == {UNKNOWN}


records: Final = st.one_of(
    st.builds(
        Tlsa,
        st.sampled_from([0, 2, 3, 255]),
        st.sampled_from([0, 1, 2]),
        st.sampled_from([0, 1, 2, 3]),
        st.one_of(
            st.binary(max_size=66), st.binary(min_size=32, max_size=32), st.just(b.intermediate())
        ),
    ),
    st.sampled_from([GOOD, TA, ROOT, b.tlsa(LEAF, 3, 1, 0), b.tlsa(OTHER, mtype=2)]),
)
chains: Final = st.lists(
    st.one_of(st.binary(max_size=60), st.sampled_from([LEAF, b.intermediate(), b.root()])),
    max_size=4,
)


@given(st.lists(records, min_size=1, max_size=5), st.lists(chains, min_size=1, max_size=2))
def test_any_records_and_chains_are_judged(rrset: list[Tlsa], presented: list[list[bytes]]) -> None:
    probes = [b.probe(b.MX1, V4, tls=b.tls(b.MX1, chain_der=chain)) for chain in presented]
    findings = b.judged(dane.judge, with_records(rrset, *probes))
    ids = {finding.id for finding in findings}
    # One chain is either authenticated, or not, or nobody is to be.
    assert ids & {
        kind.id
        for kind in (
            kinds.MATCHED,
            kinds.MISMATCH,
            kinds.ANCHOR_NOT_SENT,
            kinds.ANCHOR_UNTRUSTED,
            kinds.ANCHOR_EXPIRED,
            kinds.ANCHOR_NAME,
            kinds.AGILITY,
            kinds.NONE_USABLE,
        )
    }
