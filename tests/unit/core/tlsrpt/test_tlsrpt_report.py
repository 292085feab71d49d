# SPDX-License-Identifier: Apache-2.0
"""A day of counts as a report: what is in it, what it is called, and what gives way to size."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.tlsrpt.reports import (
    DAY,
    DOMAIN,
    EXPIRED,
    NO_POLICY,
    STS,
    TLSA,
    UNTRUSTED,
    US,
    report_of,
    reports,
)

from strictmail.core.tlsrpt.counts import DomainCounts, PolicyCounts
from strictmail.core.tlsrpt.report import (
    MAX_ORGANIZATION_CHARACTERS,
    Identity,
    PolicyReport,
    Report,
    build_report,
    drop_details,
    drop_texts,
    make_report_id,
    most_details,
)
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import FailureDetail, ReportedPolicy


@pytest.mark.req("RPT-JSON-05", "RPT-DLV-12")
@pytest.mark.parametrize(
    "day",
    # Leap day, end of year, and days on which clocks change somewhere.
    [DAY, date(2024, 2, 29), date(2025, 12, 31), date(2025, 3, 30), date(2025, 10, 26)],
)
def test_the_range_is_one_utc_day(day: date) -> None:
    counts = DomainCounts("", {STS: PolicyCounts(1)})
    report = build_report(day, DOMAIN, counts, US)
    assert report is not None
    assert report.begin == datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert report.end - report.begin == timedelta(hours=23, minutes=59, seconds=59)
    assert report.begin.tzinfo is report.end.tzinfo is UTC


@pytest.mark.req("RPT-DLV-07")
def test_there_is_no_report_without_sessions() -> None:
    for counts in (DomainCounts(), DomainCounts("", {STS: PolicyCounts()})):
        assert build_report(DAY, DOMAIN, counts, US) is None


@pytest.mark.req("RPT-JSON-25")
def test_successes_alone_are_reported() -> None:
    report = report_of({STS: PolicyCounts(5), TLSA: PolicyCounts()})
    assert report.policies == (PolicyReport(STS, 5, 0),)


@pytest.mark.req("RPT-JSON-54", "RPT-JSON-57", "RPT-JSON-23")
def test_one_report_has_all_policies_in_a_stable_order() -> None:
    newer = replace(STS, policy_strings=("version: STSv1", "mode: testing"))
    found = {
        NO_POLICY: PolicyCounts(1),
        STS: PolicyCounts(2, 1, {EXPIRED: 1}),
        TLSA: PolicyCounts(3),
        newer: PolicyCounts(4),
    }
    report = report_of(found)
    assert [part.policy for part in report.policies] == [TLSA, STS, newer, NO_POLICY]
    assert [part.successes for part in report.policies] == [3, 2, 4, 1]
    assert report_of(dict(reversed(found.items()))) == report
    assert report.sessions == 11


@pytest.mark.req("RPT-JSON-29")
def test_details_are_in_a_stable_order_the_most_frequent_first() -> None:
    details = {UNTRUSTED: 1, EXPIRED: 5, replace(EXPIRED, receiving_ip="192.0.2.1"): 1}
    report = report_of({STS: PolicyCounts(0, 7, details)})
    again = report_of({STS: PolicyCounts(0, 7, dict(reversed(details.items())))})
    assert report == again
    assert [times for _, times in report.policies[0].details] == [5, 1, 1]


@pytest.mark.req("RPT-JSON-07", "RPT-DLV-05", "RPT-DLV-29")
def test_the_id_of_a_report() -> None:
    made = make_report_id(DAY, DOMAIN, US)
    assert made == make_report_id(DAY, DOMAIN, US)
    left, _, right = made.partition("@")
    assert right == "sender.example"
    assert left.startswith("2025-05-22.rcpt.example.")
    assert report_of().report_id == made
    assert report_of().unique_id == left.rpartition(".")[2]
    assert report_of().unique_id.isalnum()


@pytest.mark.req("RPT-JSON-07")
def test_another_day_domain_or_reporter_has_another_id() -> None:
    ids = {
        make_report_id(DAY, DOMAIN, US),
        make_report_id(DAY + timedelta(days=1), DOMAIN, US),
        make_report_id(DAY, "other.example", US),
        make_report_id(DAY, DOMAIN, Identity("Sender Org", "other@sender.example")),
        make_report_id(DAY, DOMAIN, replace(US, installation="second")),
    }
    assert len(ids) == 5
    assert len({made.partition("@")[0].rpartition(".")[2] for made in ids}) == 5
    # What people read may change from a crash to the retry.
    assert make_report_id(DAY, DOMAIN, replace(US, organization_name="Other")) in ids


@pytest.mark.req("RPT-JSON-06", "RPT-DLV-26")
@pytest.mark.parametrize(
    ("contact", "submitter"),
    [("tls@sender.example", "sender.example"), ("a+b@Mail.Sender.example", "mail.sender.example")],
)
def test_the_submitter_is_the_domain_of_the_contact(contact: str, submitter: str) -> None:
    assert Identity("Sender Org", contact).submitter == submitter


@pytest.mark.req("RPT-JSON-06", "RPT-JSON-03")
@pytest.mark.parametrize(
    ("name", "contact", "said"),
    [
        ("Org", "mailto:tls@sender.example", "the contact of reports is an address"),
        ("Org", "Reports <tls@sender.example>", "the contact of reports is an address"),
        ("Org", "", "the contact of reports is an address"),
        ("Org", "tls@bücher.example", "the contact of reports is an address"),
        ("", "tls@sender.example", "the name of an organization"),
        (" ", "tls@sender.example", "the name of an organization"),
        ("a\r\nb", "tls@sender.example", "the name of an organization"),
        ("x" * (MAX_ORGANIZATION_CHARACTERS + 1), "tls@sender.example", "1 to 200"),
    ],
)
def test_who_cannot_report(name: str, contact: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Identity(name, contact)


# ---- size ----------------------------------------------------------------------------------------


def many(count: int) -> Report:
    """A report with `count` details of either of two types."""
    details = {
        replace(detail, receiving_ip=f"2001:db8::{n:x}"): n
        for n in range(1, count + 1)
        for detail in (EXPIRED, UNTRUSTED)
    }
    return report_of(
        {STS: PolicyCounts(7, count * (count + 1) // 2, details), TLSA: PolicyCounts(1)}
    )


@pytest.mark.req("RPT-DLV-16", "RPT-JSON-09")
def test_rare_details_become_one_of_their_type() -> None:
    report = many(10)
    assert most_details(report) == 20
    cut = drop_details(report, 4)
    part = next(part for part in cut.policies if part.policy == STS)
    assert cut.dropped_details == 16
    assert [d.receiving_ip for d, _ in part.details if d.receiving_ip] == [
        f"2001:db8::{n:x}" for n in (10, 10, 9, 9)
    ]
    assert {
        (str(d.result_type), d.failure_reason_code, times) for d, times in part.details[:2]
    } == {
        ("certificate-expired", "kinds not told apart here: 8", 36),
        ("certificate-not-trusted", "kinds not told apart here: 8", 36),
    }
    assert cut.sessions == report.sessions


def test_nothing_is_dropped_where_there_is_room() -> None:
    report = many(2)
    assert drop_details(report, 4) == report
    assert most_details(report_of({STS: PolicyCounts(1)})) == 0


@pytest.mark.req("RPT-DLV-16")
def test_texts_are_dropped_and_counted() -> None:
    found = {STS: PolicyCounts(1), TLSA: PolicyCounts(2), NO_POLICY: PolicyCounts(3)}
    cut = drop_texts(report_of(found))
    assert cut.dropped_texts == 2
    assert [part.policy for part in cut.policies] == [
        ReportedPolicy(PolicyType.TLSA, TLSA.policy_domain),
        ReportedPolicy(PolicyType.STS, DOMAIN),
        NO_POLICY,
    ]
    assert drop_texts(cut) == cut


@given(reports(), st.integers(0, 5))
@pytest.mark.req("RPT-DLV-16", "RPT-JSON-23", "RPT-JSON-28")
def test_dropping_changes_no_total(report: Report, keep: int) -> None:
    cut = drop_details(report, keep)
    assert [(p.policy, p.successes, p.failures) for p in cut.policies] == [
        (p.policy, p.successes, p.failures) for p in report.policies
    ]
    for before, after in zip(report.policies, cut.policies, strict=True):
        assert by_type(before) == by_type(after)
        assert len(after.details) <= keep + len(ResultType)
    dropped = sum(max(0, len(part.details) - keep) for part in report.policies)
    assert cut.dropped_details == dropped


def by_type(part: PolicyReport) -> Counter[ResultType]:
    found: Counter[ResultType] = Counter()
    for detail, times in part.details:
        found[detail.result_type] += times
    assert all(times <= part.failures for times in found.values())
    return found


def test_a_detail_is_never_taken_for_another() -> None:
    a = FailureDetail(ResultType.VALIDATION_FAILURE, failure_reason_code="x")
    b = FailureDetail(ResultType.VALIDATION_FAILURE, additional_information="x")
    report = report_of({STS: PolicyCounts(0, 2, {a: 1, b: 1})})
    assert {detail for detail, _ in report.policies[0].details} == {a, b}
