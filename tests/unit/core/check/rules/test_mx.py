# SPDX-License-Identifier: Apache-2.0
"""MX records and the addresses of their hosts: each fault found, and weighed by what mail does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.check import builders as b

from strictmail.core.check.result import Severity
from strictmail.core.check.rules import mx
from strictmail.core.check.rules import mxkinds as kinds
from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.mxset import MxHost, MxSet, MxStatus, TlsaState

if TYPE_CHECKING:
    from strictmail.core.check.facts import DomainFacts, HostFacts
    from strictmail.core.check.kinds import Kind

WARNING, CRITICAL, INFO, OK, UNKNOWN = (
    Severity.WARNING,
    Severity.CRITICAL,
    Severity.INFO,
    Severity.OK,
    Severity.UNKNOWN,
)


def with_status(state: MxStatus, /, **answer: Any) -> DomainFacts:
    """No hosts: the lookup ended another way."""
    return b.domain_facts(mx_answer=b.mx_answer(**answer), mx=MxSet(state, secure=True), hosts=())


def with_hosts(*hosts: HostFacts) -> DomainFacts:
    """MX records for these hosts, and what DNS says of each."""
    ranked = [(host.preference, host.name) for host in hosts]
    names = [host.name for host in hosts]
    return b.domain_facts(
        mx_answer=b.mx_answer(*ranked),
        mx=MxSet(MxStatus.FOUND, secure=True, hosts=tuple(MxHost(name, p) for p, name in ranked)),
        hosts=hosts,
        body=b"version: STSv1\nmode: enforce\nmx: " + names[0].encode() + b"\nmax_age: 604800\n",
    )


def host_at(name: str, *addresses: str, preference: int = 10, **answer: Any) -> HostFacts:
    return b.host(name, preference, addresses=b.addresses(name, *addresses, **answer), probes=())


GOOD_HOST: Final = b.host(b.MX2, 20)
IMPLICIT: Final = b.domain_facts(
    mx_answer=b.mx_answer(),
    mx=MxSet(MxStatus.IMPLICIT, secure=True, hosts=(MxHost(b.DOMAIN, 0),)),
    hosts=(host_at(b.DOMAIN, "192.0.2.1", preference=0),),
)
DANGLING: Final = host_at("gone.example.net", status=Status.NXDOMAIN)
EMPTY: Final = host_at("mx1.example.com")
LITERAL: Final = b.host("192.0.2.7", addresses=(), probes=())
PRIVATE: Final = host_at(b.MX1, "10.0.0.1", "fd00::1")
FAILED: Final = host_at(b.MX1, status=Status.TIMEOUT, detail="no reply")
BOGUS_HOST: Final = host_at(b.MX1, status=Status.BOGUS)

CASES: Final[dict[str, tuple[Kind, DomainFacts, Severity]]] = {
    "failed": (
        kinds.LOOKUP_FAILED,
        with_status(MxStatus.ERROR, status=Status.SERVFAIL, detail="SERVFAIL from 192.0.2.53"),
        UNKNOWN,
    ),
    "bogus": (
        kinds.BOGUS,
        with_status(MxStatus.ERROR, status=Status.BOGUS, detail="signature expired."),
        CRITICAL,
    ),
    "nxdomain": (
        kinds.NXDOMAIN,
        with_status(MxStatus.NXDOMAIN, status=Status.NXDOMAIN),
        CRITICAL,
    ),
    "null": (
        kinds.NULL_MX,
        b.domain_facts(
            mx_answer=b.mx_answer((0, "")), mx=MxSet(MxStatus.NULL, secure=True), hosts=()
        ),
        INFO,
    ),
    "null-beside": (
        kinds.NULL_BESIDE,
        b.domain_facts(mx_answer=b.mx_answer((0, ""), (10, b.MX1), (20, b.MX2))),
        WARNING,
    ),
    "implicit": (kinds.IMPLICIT, IMPLICIT, INFO),
    "nxdomain-host": (kinds.DANGLING, with_hosts(DANGLING, GOOD_HOST), WARNING),
    "no-address": (kinds.DANGLING, with_hosts(EMPTY, GOOD_HOST), WARNING),
    "no-address-anywhere": (kinds.DANGLING, with_hosts(EMPTY), CRITICAL),
    "literal": (kinds.LITERAL, with_hosts(LITERAL, GOOD_HOST), WARNING),
    "literal-alone": (kinds.LITERAL, with_hosts(LITERAL), CRITICAL),
    "alias": (
        kinds.ALIAS,
        with_hosts(host_at(b.MX1, "192.0.2.1", canonical_name="real.example.net"), GOOD_HOST),
        WARNING,
    ),
    "duplicate": (
        kinds.DUPLICATE,
        b.domain_facts(mx_answer=b.mx_answer((10, b.MX1), (20, b.MX1), (20, b.MX2))),
        INFO,
    ),
    "many": (
        kinds.TOO_MANY,
        with_hosts(*(host_at(f"mx{n}.example.com", "192.0.2.1") for n in range(11))),
        INFO,
    ),
    "private": (kinds.NOT_PUBLIC, with_hosts(PRIVATE, GOOD_HOST), WARNING),
    "private-alone": (kinds.NOT_PUBLIC, with_hosts(PRIVATE), CRITICAL),
    "private-beside": (
        kinds.NOT_PUBLIC,
        with_hosts(host_at(b.MX1, "192.0.2.1", "127.0.0.1")),
        WARNING,
    ),
    "host-failed": (kinds.ADDRESS_FAILED, with_hosts(FAILED), UNKNOWN),
    "ipv6-only": (kinds.IPV6_ONLY, with_hosts(host_at(b.MX1, "2001:db8::1")), WARNING),
    "single": (kinds.SINGLE, with_hosts(host_at(b.MX1, "192.0.2.1")), INFO),
    "domain-alias": (
        kinds.DOMAIN_ALIAS,
        b.domain_facts(
            mx_answer=b.mx_answer((10, b.MX1), (20, b.MX2), canonical_name="example.net")
        ),
        INFO,
    ),
    "underscore": (
        kinds.BAD_NAME,
        with_hosts(host_at("mail_1.example.com", "192.0.2.1"), GOOD_HOST),
        WARNING,
    ),
    "insecure": (
        kinds.INSECURE,
        b.domain_facts(mx=replace(b.domain_facts().mx, secure=False)),
        INFO,
    ),
    "secure": (kinds.SECURE, b.domain_facts(), OK),
    "host-insecure": (
        kinds.HOST_INSECURE,
        with_hosts(host_at(b.MX1, "192.0.2.1", secure=False), GOOD_HOST),
        INFO,
    ),
    "host-bogus": (kinds.HOST_BOGUS, with_hosts(BOGUS_HOST, GOOD_HOST), WARNING),
    "host-bogus-alone": (kinds.HOST_BOGUS, with_hosts(BOGUS_HOST), CRITICAL),
}


def test_every_kind_has_a_case() -> None:
    assert {case[0].id for case in CASES.values()} == {kind.id for kind in mx.KINDS}


@pytest.mark.parametrize(("kind", "facts", "severity"), CASES.values(), ids=CASES)
def test_a_kind_is_brought_forth(kind: Kind, facts: DomainFacts, severity: Severity) -> None:
    found = b.of_kind(b.judged(mx.judge, facts), kind)
    assert found
    assert {finding.severity for finding in found} == {severity}


def test_the_good_domain_is_good() -> None:
    findings = b.judged(mx.judge, b.domain_facts())
    assert [(finding.id, finding.severity) for finding in findings] == [(kinds.SECURE.id, OK)]


def test_an_alias_is_told_with_the_record_to_publish() -> None:
    finding = b.the_one(b.judged(mx.judge, CASES["alias"][1]), kinds.ALIAS)
    assert finding.paste == "example.com. IN MX 10 real.example.net."
    assert finding.source == "RFC 2181 §10.3"
    assert finding.evidence[0].text == "real.example.net"


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("mail_1.example.com", "_1.example.com"),
        ("mx.ex*mple.com", "*mple.com"),
        ("mx.-example.com", "-example.com"),
        ("mx..com", ".com"),
        ("a." * 126 + "ab", "b"),
    ],
)
def test_the_caret_stands_under_the_odd_character(name: str, rest: str) -> None:
    facts = with_hosts(host_at(name, "192.0.2.1"))
    finding = b.the_one(b.judged(mx.judge, facts), kinds.BAD_NAME)
    assert b.pointed_at(finding) == rest


def test_all_others_of_a_null_mx_are_kept() -> None:
    finding = b.the_one(b.judged(mx.judge, CASES["null-beside"][1]), kinds.NULL_BESIDE)
    assert finding.paste == (
        "example.com. IN MX 10 mx1.example.com.\nexample.com. IN MX 20 mx2.example.com."
    )


def test_one_family_that_failed_is_no_fault() -> None:
    answers = (
        b.answer(b.MX1, RecordType.A, status=Status.TIMEOUT),
        b.answer(b.MX1, RecordType.AAAA, "2001:db8::1"),
    )
    findings = b.judged(mx.judge, with_hosts(b.host(b.MX1, addresses=answers), GOOD_HOST))
    assert [finding.id for finding in findings] == [kinds.SECURE.id]


def test_a_host_that_nobody_could_look_up_does_not_make_others_fatal() -> None:
    findings = b.judged(mx.judge, with_hosts(EMPTY, replace(FAILED, name=b.MX2, preference=20)))
    assert b.the_one(findings, kinds.DANGLING).severity is WARNING


@pytest.mark.req("DANE-32")
def test_records_at_a_secure_alias_with_an_unsigned_target_protect_the_host() -> None:
    facts = with_hosts(host_at(b.MX1, "192.0.2.1", secure=False))
    hosts = tuple(replace(host, tlsa_state=TlsaState.USABLE) for host in facts.mx.hosts)
    facts = replace(facts, mx=replace(facts.mx, hosts=hosts))
    assert not b.of_kind(b.judged(mx.judge, facts), kinds.HOST_INSECURE)


def test_without_validation_nothing_is_said_of_dnssec() -> None:
    findings = b.judged(mx.judge, b.domain_facts(validates=False))
    assert not [finding for finding in findings if finding.id.startswith("SEC")]


@pytest.mark.parametrize("name", ["aspmx.l.google.com", "in1-smtp.messagingengine.com"])
def test_one_name_of_a_large_receiver_is_not_one_host(name: str) -> None:
    findings = b.judged(mx.judge, with_hosts(host_at(name, "192.0.2.1")))
    assert not b.of_kind(findings, kinds.SINGLE)


NAMES: Final = st.text(min_size=1, max_size=70)


@given(st.lists(st.tuples(NAMES, st.sampled_from(Status)), min_size=1, max_size=4))
def test_any_name_is_told_in_printable_ascii(hosts: list[tuple[str, Status]]) -> None:
    facts = with_hosts(
        *(host_at(name, status=status, detail=name) for name, status in hosts),
    )
    b.judged(mx.judge, facts)
