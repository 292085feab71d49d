# SPDX-License-Identifier: Apache-2.0
"""The `_smtp._tls` record as a check tells of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.check import builders as b

from strictmail.core.check.facts import RuaFacts, RuaState
from strictmail.core.check.result import Severity
from strictmail.core.check.rules import tlsrpt as kinds
from strictmail.core.dnsvalues import Status
from strictmail.core.tlsrpt.record import select_tlsrpt

if TYPE_CHECKING:
    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.check.kinds import Kind

WARNING, INFO, UNKNOWN = Severity.WARNING, Severity.INFO, Severity.UNKNOWN

NAME: Final = f"_smtp._tls.{b.DOMAIN}"
GOOD: Final = b"v=TLSRPTv1; rua=mailto:tls@example.com"


def with_records(*records: bytes, **changes: Any) -> DomainFacts:
    return b.domain_facts(tlsrpt_record=b.txt(NAME, *records, **changes))


def with_rua(state: RuaState) -> DomainFacts:
    rua = RuaFacts("https://r.example/", state, "HTTP 404\x1b.")
    return b.domain_facts(rua=(rua,))


def with_host_record(record: bytes) -> DomainFacts:
    facts = b.domain_facts()
    answer = b.txt(f"_smtp._tls.{b.MX1}", record)
    return replace(facts, hosts=(replace(facts.hosts[0], tlsrpt=answer), *facts.hosts[1:]))


CASES: Final[dict[str, tuple[Kind, DomainFacts, Severity]]] = {
    "absent": (kinds.ABSENT, with_records(), INFO),
    "nxdomain": (kinds.ABSENT, with_records(status=Status.NXDOMAIN), INFO),
    "foreign": (kinds.ABSENT, with_records(b"v=spf1 -all"), INFO),
    "near": (kinds.NEAR_MISS, with_records(b"v=TLSRPT1; rua=mailto:a@example.com"), WARNING),
    "several": (kinds.SEVERAL, with_records(GOOD, GOOD + b";"), WARNING),
    "syntax": (kinds.SYNTAX, with_records(b"v=TLSRPTv1; rua="), WARNING),
    "no-destination": (
        kinds.NO_DESTINATION,
        with_records(b"v=TLSRPTv1; rua=http://r.example/"),
        WARNING,
    ),
    "bad-uri": (kinds.BAD_URI, with_records(GOOD + b",ftp://r.example/"), WARNING),
    "tolerated": (kinds.TOLERATED, with_records(GOOD.replace(b";", b" ;")), WARNING),
    "host": (kinds.AT_MX_HOST, with_host_record(GOOD), INFO),
    "host-broken": (kinds.AT_MX_HOST, with_host_record(b"v=TLSRPTv1;"), INFO),
    "dead": (kinds.DEAD, with_rua(RuaState.DEAD), WARNING),
    "unseen": (kinds.DESTINATION_UNKNOWN, with_rua(RuaState.UNKNOWN), UNKNOWN),
    "timeout": (
        kinds.LOOKUP_FAILED,
        with_records(status=Status.TIMEOUT, detail="no reply."),
        UNKNOWN,
    ),
    "servfail": (kinds.LOOKUP_FAILED, with_records(status=Status.SERVFAIL), UNKNOWN),
    "bogus": (kinds.LOOKUP_FAILED, with_records(status=Status.BOGUS), WARNING),
}


def test_every_kind_has_a_case() -> None:
    assert {case[0].id for case in CASES.values()} == {kind.id for kind in kinds.KINDS}


@pytest.mark.req("RPT-REC-05", "RPT-REC-08", "RPT-REC-14")
@pytest.mark.parametrize(("kind", "facts", "severity"), CASES.values(), ids=CASES)
def test_a_kind_is_brought_forth(kind: Kind, facts: DomainFacts, severity: Severity) -> None:
    finding = b.the_one(b.judged(kinds.judge, facts), kind)
    assert finding.severity is severity


@pytest.mark.parametrize(
    "facts",
    [
        b.domain_facts(),
        with_rua(RuaState.ALIVE),
        with_host_record(b"v=spf1 -all"),
        with_records(b"v=spf1 -all", GOOD),
    ],
    ids=["plain", "alive", "foreign-at-host", "foreign-beside"],
)
def test_the_good_domain_is_good(facts: DomainFacts) -> None:
    assert b.judged(kinds.judge, facts) == ()


@pytest.mark.parametrize("case", ["absent", "near", "syntax", "no-destination"])
def test_the_record_to_paste_is_one(case: str) -> None:
    kind, facts, _ = CASES[case]
    paste = b.the_one(b.judged(kinds.judge, facts), kind).paste
    name, _, text = paste.partition(". IN TXT ")
    assert name == NAME
    record = text.strip('"').encode()
    assert select_tlsrpt([[record]]).rua[0].address == "tls-reports@example.com"
    assert b.judged(kinds.judge, with_records(record)) == ()


@pytest.mark.parametrize(
    ("record", "kind", "rest"),
    [
        (b"v=TLSRPTv1; rua=mailto:a@b.example;; x=1", kinds.SYNTAX, "; x=1"),
        (b"v=TLSRPTv1; rua=mailto:a@b.example; x=" + b"y" * 300 + b"=", kinds.SYNTAX, None),
        (GOOD + b", mailto:a@b.example!1m", kinds.BAD_URI, "!1m"),
    ],
    ids=["field", "long", "uri"],
)
def test_the_caret_stands_under_the_place(record: bytes, kind: Kind, rest: str | None) -> None:
    finding = b.the_one(b.judged(kinds.judge, with_records(record)), kind)
    assert finding.evidence[0].text == record.decode()
    if rest is not None:
        assert b.pointed_at(finding) == rest


def test_each_unusable_uri_is_named() -> None:
    facts = with_records(b"v=TLSRPTv1; rua=http://a.example/,mailto:b,https://c.example/")
    found = b.of_kind(b.judged(kinds.judge, facts), kinds.BAD_URI)
    assert ["http" in finding.sentence for finding in found] == [True, False]
    assert "`mailto:b`" in found[1].sentence


@pytest.mark.req("RPT-REC-30")
def test_reports_do_not_need_a_policy() -> None:
    facts = b.domain_facts(record=(), policy=None, policy_looks=())
    assert b.judged(kinds.judge, facts) == ()


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.binary(max_size=60).map(b"v=TLSRPTv1; rua=".__add__),
            st.text("v=TLSRPT1;rua, mailto:@!%x.\xa0", max_size=40).map(
                lambda text: b"v=TLSRPTv1;" + text.encode("latin-1")
            ),
        ),
        max_size=3,
    )
)
def test_any_octets_are_told_in_printable_ascii(records: list[bytes]) -> None:
    b.judged(kinds.judge, with_records(*records))
