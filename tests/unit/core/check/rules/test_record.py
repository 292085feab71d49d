# SPDX-License-Identifier: Apache-2.0
"""The `_mta-sts` record: each fault with a caret under the place, and a record that would do."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.check import builders as b

from strictmail.core.check.facts import AuthorityFacts
from strictmail.core.check.result import Severity
from strictmail.core.check.rules import record
from strictmail.core.check.rules import recordkinds as kinds
from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.mxset import MxSet, MxStatus, TlsaState
from strictmail.core.sts.record import parse_policy_id

if TYPE_CHECKING:
    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.check.kinds import Kind
    from strictmail.core.check.result import Finding

WARNING, CRITICAL, INFO, OK, UNKNOWN = (
    Severity.WARNING,
    Severity.CRITICAL,
    Severity.INFO,
    Severity.OK,
    Severity.UNKNOWN,
)

NAME: Final = "_mta-sts.example.com"
GOOD: Final = b"v=STSv1; id=1;"


def with_records(*records: bytes, **changes: Any) -> DomainFacts:
    return b.domain_facts(record=records, **changes)


def with_answer(**changes: Any) -> DomainFacts:
    records = changes.pop("records", (GOOD,))
    return b.domain_facts(sts_record=b.txt(NAME, *records, **changes))


def without_dane(**changes: Any) -> DomainFacts:
    good = b.domain_facts(**changes)
    return replace(good, mx=replace(good.mx, secure=False))


CASES: Final[dict[str, tuple[Kind, DomainFacts, Severity]]] = {
    "failed": (kinds.LOOKUP_FAILED, with_answer(records=(), status=Status.SERVFAIL), UNKNOWN),
    "bogus": (kinds.BOGUS, with_answer(records=(), status=Status.BOGUS), WARNING),
    "absent": (kinds.ABSENT, without_dane(record=()), WARNING),
    "absent-foreign": (kinds.ABSENT, without_dane(record=(b"v=spf1 -all",)), WARNING),
    "absent-with-dane": (kinds.ABSENT, with_records(), INFO),
    "absent-dane-unknown": (kinds.ABSENT, with_records(validates=False), INFO),
    "attempt": (kinds.ATTEMPT, with_records(b"v=stsv1; id=1"), CRITICAL),
    "draft": (kinds.DRAFT, with_records(b"v=STS1; mode=enforce; a=dns"), WARNING),
    "several": (kinds.SEVERAL, with_records(GOOD, b"v=STSv1; id=2;"), CRITICAL),
    "syntax": (kinds.SYNTAX, with_records(b"v=STSv1; id=2026-03-01"), CRITICAL),
    "spaced": (kinds.SPACED, with_records(b"v=STSv1 ; id=1"), WARNING),
    "foreign": (kinds.FOREIGN, with_records(b"v=spf1 -all", GOOD), INFO),
    "repeated": (kinds.REPEATED, with_records(b"v=STSv1; id=1; id=2"), WARNING),
    "ttl": (kinds.LONG_TTL, with_answer(ttl=604_800), WARNING),
    "alias": (kinds.ALIAS, with_answer(canonical_name="_mta-sts.provider.example"), INFO),
    "misplaced": (
        kinds.MISPLACED,
        with_records(
            tlsrpt_record=b.txt("_smtp._tls.example.com", GOOD),
        ),
        WARNING,
    ),
    "still-cached": (kinds.STILL_CACHED, with_records(cached=b.cached_entry(b.BODY)), WARNING),
    "good": (kinds.GOOD, b.domain_facts(), OK),
}


def test_every_kind_has_a_case() -> None:
    assert {case[0].id for case in CASES.values()} == {kind.id for kind in record.KINDS}


@pytest.mark.parametrize(("kind", "facts", "severity"), CASES.values(), ids=CASES)
def test_a_kind_is_brought_forth(kind: Kind, facts: DomainFacts, severity: Severity) -> None:
    assert b.the_one(b.judged(record.judge, facts), kind).severity is severity


def test_the_good_domain_is_good() -> None:
    findings = b.judged(record.judge, b.domain_facts())
    assert [(finding.id, finding.severity) for finding in findings] == [(kinds.GOOD.id, OK)]


@pytest.mark.req("STS-REC-06", "STS-REC-08", "STS-REC-09", "STS-REC-12", "STS-REC-22")
@pytest.mark.parametrize(
    ("text", "kind", "rest"),
    [
        pytest.param(b"V=STSv1; id=1", kinds.ATTEMPT, "V=STSv1; id=1", id="name-case"),
        pytest.param(b"v=stsv1; id=1", kinds.ATTEMPT, "stsv1; id=1", id="version-case"),
        pytest.param(b"v = STSv1; id=1", kinds.ATTEMPT, " = STSv1; id=1", id="blank-at-equals"),
        pytest.param(b"v=STSv2; id=1", kinds.ATTEMPT, "2; id=1", id="version-2"),
        pytest.param(b"v=STSv1, id=1", kinds.ATTEMPT, ", id=1", id="comma"),
        pytest.param(b"v=STSv1", kinds.ATTEMPT, "", id="version-alone"),
        pytest.param(b'"v=STSv1; id=1"', kinds.ATTEMPT, '"v=STSv1; id=1"', id="quoted"),
        pytest.param(b"\xef\xbb\xbfv=STSv1; id=1", kinds.ATTEMPT, "ï»¿v=STSv1; id=1", id="bom"),
        pytest.param(b"id=1; v=STSv1;", kinds.ATTEMPT, "v=STSv1;", id="not-first"),
        pytest.param(b"v=mta-stsv1; id=1", kinds.ATTEMPT, "mta-stsv1; id=1", id="mta-sts"),
        pytest.param(b"v=STS1; id=1", kinds.DRAFT, "v=STS1; id=1", id="draft"),
        pytest.param(b"v=STSv1; id=1-2; x=y", kinds.SYNTAX, "1-2; x=y", id="id"),
        pytest.param(b"v=STSv1; id=1;; x=y", kinds.SYNTAX, "; x=y", id="empty-field"),
        pytest.param(b"v=STSv1; id = 1", kinds.SYNTAX, "id = 1", id="blanks"),
        pytest.param(b"v=STSv1; id=1\xa0", kinds.SYNTAX, "\xa0", id="no-break-space"),
        pytest.param(b"v=STSv1; id=1 ", kinds.SYNTAX, " ", id="blank-at-the-end"),
        pytest.param(b"v=STSv1; bare; id=1", kinds.SYNTAX, "bare; id=1", id="no-equals"),
        pytest.param(b"v=STSv1; x=; id=1", kinds.SYNTAX, "; id=1", id="empty-value"),
        pytest.param(b"v=STSv1; x=y", kinds.SYNTAX, "", id="no-id"),
        pytest.param(b"v=STSv1; " + b"x" * 300 + b"=1", kinds.SYNTAX, "x" * 300 + "=1", id="long"),
    ],
)
def test_the_caret_stands_under_the_place(text: bytes, kind: Kind, rest: str) -> None:
    finding = b.the_one(b.judged(record.judge, with_records(text)), kind)
    assert b.pointed_at(finding) == rest
    assert finding.evidence[0].text == text.decode("latin-1")


@pytest.mark.parametrize("case", ["attempt", "draft", "several", "syntax", "absent"])
def test_the_record_to_publish_is_one(case: str) -> None:
    finding = b.the_one(b.judged(record.judge, CASES[case][1]), CASES[case][0])
    assert finding.paste == f'{NAME}. IN TXT "v=STSv1; id=20260302120000;"'
    assert parse_policy_id(finding.paste.split('"')[1].encode()) == "20260302120000"


@pytest.mark.req("STS-REC-04")
@pytest.mark.parametrize(
    "text", [b"v=spf1 include:sts.example -all", b"x" * 50 + b"v=STSv1; id=1", b"", b"mta-sts"]
)
def test_what_is_about_something_else_is_no_attempt(text: bytes) -> None:
    findings = b.judged(record.judge, with_records(text))
    assert [finding.id for finding in findings] == [kinds.ABSENT.id]


@pytest.mark.parametrize("status", [MxStatus.NULL, MxStatus.NXDOMAIN])
def test_where_no_mail_goes_nothing_is_missing(status: MxStatus) -> None:
    facts = with_records(mx=MxSet(status), hosts=())
    assert b.judged(record.judge, facts) == ()


def test_absence_is_a_note_only_where_dane_covers_every_host() -> None:
    good = b.domain_facts(record=())
    first, second = good.mx.hosts
    bare = replace(second, tlsa_state=TlsaState.NONE, tlsa=())
    partial = replace(good, mx=replace(good.mx, hosts=(first, bare)))
    assert b.the_one(b.judged(record.judge, partial), kinds.ABSENT).severity is WARNING
    failed = replace(second, tlsa_state=TlsaState.ERROR)
    unsure = replace(good, mx=replace(good.mx, hosts=(first, failed)))
    finding = b.the_one(b.judged(record.judge, unsure), kinds.ABSENT)
    assert finding.severity is INFO
    assert "not known" in finding.sentence


@pytest.mark.req("STS-REC-07")
def test_an_expired_or_toothless_copy_is_no_matter() -> None:
    old = b.cached_entry(b.BODY, fetched_at=b.LOOKED_AT - timedelta(days=31))
    testing = b.cached_entry(b.BODY.replace(b"enforce", b"testing"))
    for cached in (old, testing):
        findings = b.judged(record.judge, with_records(cached=cached))
        assert not b.of_kind(findings, kinds.STILL_CACHED)


def test_a_reporting_record_at_the_wrong_name() -> None:
    text = b'v=TLSRPTv1; rua=mailto:"tls"@example.com'
    finding = b.the_one(b.judged(record.judge, with_records(GOOD, text)), kinds.MISPLACED)
    assert finding.paste == (
        '_smtp._tls.example.com. IN TXT "v=TLSRPTv1; rua=mailto:\\"tls\\"@example.com"'
    )


def test_a_record_at_the_policy_host_is_told_once() -> None:
    answer = b.txt("mta-sts.example.com", GOOD)
    seen = [
        AuthorityFacts("example.com", f"ns{n}", "192.0.2.53", answer.name, RecordType.TXT, answer)
        for n in (1, 2)
    ]
    findings = b.judged(record.judge, with_records(authorities=tuple(seen)))
    finding = b.the_one(findings, kinds.MISPLACED)
    assert finding.subject == "mta-sts.example.com"
    assert finding.paste == f'{NAME}. IN TXT "v=STSv1; id=1;"'


def test_the_second_of_two_ids_is_pointed_at() -> None:
    finding = b.the_one(b.judged(record.judge, CASES["repeated"][1]), kinds.REPEATED)
    assert b.pointed_at(finding) == "id=2"
    assert finding.paste == f'{NAME}. IN TXT "v=STSv1; id=1;"'


VECTORS: Final = [
    vector
    for vector in json.loads(Path("vectors/strictmail-core.json").read_text("utf-8"))["vectors"]
    if vector["c"] == "sts-txt"
]


def judge_vector(vector: dict[str, Any]) -> tuple[Finding, ...]:
    texts = ["".join(strings).encode("utf-8") for strings in vector["in"]]
    return b.judged(record.judge, without_dane(record=texts))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["v"])
def test_a_vector_that_is_no_record_is_pointed_at(vector: dict[str, Any]) -> None:
    findings = judge_vector(vector)
    worst = [finding for finding in findings if finding.severity in (CRITICAL, WARNING)]
    if vector["out"] is not None:
        assert not [finding for finding in findings if finding.severity is CRITICAL]
    else:
        assert worst
        # Without any record there is nothing to point at.
        assert not vector["in"] or any(
            seen.caret is not None for finding in worst for seen in finding.evidence
        )


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.binary(max_size=40).map(b"v=STSv1;".__add__),
            st.text("v=STS1;id \t\xa0", max_size=20).map(lambda text: text.encode("latin-1")),
        ),
        max_size=4,
    )
)
def test_any_octets_are_told_in_printable_ascii(texts: list[bytes]) -> None:
    b.judged(record.judge, with_records(*texts))
