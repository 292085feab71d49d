# SPDX-License-Identifier: Apache-2.0
"""Reports as JSON: written, packed within a size, and held against the rules for writers."""

from __future__ import annotations

import copy
import gzip
import json
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.tlsrpt.reports import (
    DOMAIN,
    EXPIRED,
    HOSTILE_TEXT,
    LINES,
    NO_POLICY,
    STS,
    TLSA,
    UNTRUSTED,
    US,
    report_of,
    reports,
)

from strictmail.core.tlsrpt.counts import PolicyCounts
from strictmail.core.tlsrpt.reading import Quirk, read_report
from strictmail.core.tlsrpt.reportjson import (
    MAX_INTEGER,
    compress_report,
    encode_report,
    find_faults,
    find_faults_in_text,
)
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import FailureDetail

if TYPE_CHECKING:
    from strictmail.core.tlsrpt.report import Report

ALL = {
    STS: PolicyCounts(12, 3, {EXPIRED: 3}),
    TLSA: PolicyCounts(7, 1, {UNTRUSTED: 1}),
    NO_POLICY: PolicyCounts(1),
}


@pytest.mark.req(
    "RPT-JSON-02",
    "RPT-JSON-03",
    "RPT-JSON-04",
    "RPT-JSON-06",
    "RPT-JSON-08",
    "RPT-JSON-09",
    "RPT-JSON-10",
    "RPT-JSON-11",
    "RPT-JSON-12",
    "RPT-JSON-13",
    "RPT-JSON-14",
    "RPT-JSON-15",
    "RPT-JSON-18",
    "RPT-JSON-19",
    "RPT-JSON-20",
    "RPT-JSON-21",
    "RPT-JSON-22",
    "RPT-JSON-23",
    "RPT-JSON-27",
    "RPT-JSON-46",
    "RPT-JSON-57",
)
def test_a_whole_report() -> None:
    assert json.loads(encode_report(report_of(ALL))) == {
        "organization-name": "Sender Org",
        "date-range": {
            "start-datetime": "2025-05-22T00:00:00Z",
            "end-datetime": "2025-05-22T23:59:59Z",
        },
        "contact-info": "tls@sender.example",
        "report-id": report_of().report_id,
        "policies": [
            {
                "policy": {
                    "policy-type": "tlsa",
                    "policy-string": ["3 1 1 AB12"],
                    "policy-domain": "mx.rcpt.example",
                },
                "summary": {
                    "total-successful-session-count": 7,
                    "total-failure-session-count": 1,
                },
                "failure-details": [
                    {
                        "result-type": "certificate-not-trusted",
                        "failure-reason-code": "self-signed_certificate",
                        "failed-session-count": 1,
                    }
                ],
            },
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string": list(LINES),
                    "policy-domain": "rcpt.example",
                    "mx-host": ["*.rcpt.example"],
                },
                "summary": {
                    "total-successful-session-count": 12,
                    "total-failure-session-count": 3,
                },
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "sending-mta-ip": "2001:db8::1",
                        "receiving-mx-hostname": "mx1.rcpt.example",
                        "receiving-mx-helo": "mx1",
                        "receiving-ip": "203.0.113.5",
                        "failed-session-count": 3,
                    }
                ],
            },
            {
                "policy": {"policy-type": "no-policy-found", "policy-domain": "rcpt.example"},
                "summary": {
                    "total-successful-session-count": 1,
                    "total-failure-session-count": 0,
                },
            },
        ],
    }


@given(reports())
@pytest.mark.req("RPT-JSON-01", "RPT-JSON-10", "RPT-JSON-15", "RPT-JSON-22", "RPT-JSON-30")
def test_any_report_is_i_json_and_without_fault(report: Report) -> None:
    data = encode_report(report)
    assert data.isascii()
    names: list[str] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names.extend(name for name, _ in pairs)
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    document = json.loads(data, object_pairs_hook=keep)
    # RFC 8460 §4.4: no names but those of the schema.
    assert set(names) <= {
        *("organization-name", "date-range", "start-datetime", "end-datetime", "contact-info"),
        *("report-id", "policies", "policy", "summary", "failure-details", "policy-type"),
        *("policy-string", "policy-domain", "mx-host", "total-successful-session-count"),
        *("total-failure-session-count", "result-type", "sending-mta-ip"),
        *("receiving-mx-hostname", "receiving-mx-helo", "receiving-ip", "failed-session-count"),
        *("additional-information", "failure-reason-code"),
    }
    assert find_faults(document) == ()


@given(reports())
@pytest.mark.req("RPT-JSON-01", "RPT-JSON-28", "RPT-RCV-14")
def test_any_report_is_read_back(report: Report) -> None:
    read = read_report(encode_report(report))
    # One session can fail in several ways: no quirk, but said.
    assert set(read.quirks) <= {Quirk.DETAILS_ABOVE_TOTAL}
    assert (read.organization_name, read.contact_info) == (
        report.identity.organization_name,
        report.identity.contact_info,
    )
    assert (read.report_id, read.begin, read.end) == (report.report_id, report.begin, report.end)
    assert len(read.policies) == len(report.policies)
    for ours, theirs in zip(report.policies, read.policies, strict=True):
        assert theirs.policy_type == ours.policy.policy_type
        assert theirs.policy_domain == ours.policy.policy_domain
        assert theirs.policy_strings == ours.policy.policy_strings
        assert theirs.mx_hosts == ours.policy.mx_host_patterns
        assert (theirs.successes, theirs.failures) == (ours.successes, ours.failures)
        assert [
            (
                FailureDetail(
                    ResultType(d.result_type),
                    sending_mta_ip=d.sending_mta_ip,
                    receiving_mx_hostname=d.receiving_mx_hostname,
                    receiving_mx_helo=d.receiving_mx_helo,
                    receiving_ip=d.receiving_ip,
                    additional_information=d.additional_information,
                    failure_reason_code=d.failure_reason_code,
                ),
                d.count,
            )
            for d in theirs.details
        ] == list(ours.details)


# ---- size ----------------------------------------------------------------------------------------


@pytest.mark.req("RPT-DLV-15", "RPT-DLV-05")
def test_gzip_is_one_member_without_name_or_time() -> None:
    report, data = compress_report(report_of(ALL))
    assert report == report_of(ALL)
    assert gzip.decompress(data) == encode_report(report)
    magic, method, flags, mtime = struct.unpack("<HBBL", data[:8])
    assert (magic, method, flags, mtime) == (0x8B1F, 8, 0, 0)
    assert data.count(b"\x1f\x8b\x08") == 1


@given(reports())
@pytest.mark.req("RPT-DLV-05", "RPT-DLV-15")
def test_the_same_report_is_the_same_octets(report: Report) -> None:
    assert compress_report(report) == compress_report(copy.deepcopy(report))
    assert compress_report(report)[0] == report


def big_report(count: int) -> Report:
    details = {
        replace(EXPIRED, receiving_ip=f"2001:db8::{n:x}", receiving_mx_helo=f"{n * n:x}.example"): n
        for n in range(1, count + 1)
    }
    return report_of({STS: PolicyCounts(7, sum(details.values()), details), TLSA: PolicyCounts(2)})


@pytest.mark.req("RPT-DLV-16")
@pytest.mark.parametrize("limit", [2000, 1200, 900, 700])
def test_a_large_report_is_cut_and_says_so(limit: int) -> None:
    report = big_report(200)
    assert len(compress_report(report)[1]) > 2000
    written, data = compress_report(report, limit)
    assert len(data) <= limit
    assert gzip.decompress(data) == encode_report(written)
    assert written.dropped_details > 0
    assert written.dropped_texts == 0
    assert written.sessions == report.sessions
    (rest,) = [d for p in written.policies for d, _ in p.details if d.failure_reason_code]
    assert rest.failure_reason_code == f"kinds not told apart here: {written.dropped_details}"
    # Not split: still one document with every policy.
    assert [p.policy for p in written.policies] == [p.policy for p in report.policies]


@pytest.mark.req("RPT-DLV-16")
def test_texts_go_last_and_totals_never() -> None:
    written, data = compress_report(big_report(200), 1)
    assert (written.dropped_details, written.dropped_texts) == (200, 2)
    document = json.loads(gzip.decompress(data))
    assert [part["policy"] for part in document["policies"]] == [
        {"policy-type": "tlsa", "policy-domain": "mx.rcpt.example"},
        {"policy-type": "sts", "policy-domain": "rcpt.example"},
    ]
    assert document["policies"][1]["summary"] == {
        "total-successful-session-count": 7,
        "total-failure-session-count": 20100,
    }
    assert find_faults(document) == ()


@given(reports(), st.integers(0, 2000))
@pytest.mark.req("RPT-DLV-16", "RPT-JSON-23")
def test_under_any_limit_totals_stay_and_what_went_is_said(report: Report, limit: int) -> None:
    written, data = compress_report(report, limit)
    assert find_faults(json.loads(gzip.decompress(data))) == ()
    assert [(p.policy.policy_type, p.successes, p.failures) for p in written.policies] == [
        (p.policy.policy_type, p.successes, p.failures) for p in report.policies
    ]
    changed = written != report
    assert changed is bool(written.dropped_details or written.dropped_texts)
    if len(data) > limit:
        assert all(not part.policy.policy_strings for part in written.policies)


# ---- the rules for writers -----------------------------------------------------------------------

BASE = json.loads(encode_report(report_of()))
POLICY = "/policies/0/policy"
SUMMARY = "/policies/0/summary"
DETAILS = "/policies/0/failure-details"
DETAIL = f"{DETAILS}/0"
GONE = object()
TLSA_POLICY = {"policy-type": "tlsa", "policy-domain": "mx.rcpt.example"}


def with_change(at: str, value: object) -> Any:
    document = copy.deepcopy(BASE)
    *way, last = at.strip("/").split("/")
    place: Any = document
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    if value is GONE:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return document


def detail(count: int, **members: object) -> dict[str, object]:
    return {"result-type": "certificate-expired", "failed-session-count": count} | members


@pytest.mark.req("RPT-JSON-01")
def test_what_we_write_has_no_fault() -> None:
    assert find_faults(BASE) == ()
    others: list[object] = [[], "x", None, 7]
    for other in others:
        assert find_faults(other) == ("/: not an object",)


FAULTY = [
    ("organization-name", GONE, "RPT-JSON-02"),
    ("organization-name", "", "RPT-JSON-03"),
    ("organization-name", ["x"], "RPT-JSON-03"),
    ("contact-info", None, "RPT-JSON-03"),
    ("contact-info", GONE, "RPT-JSON-02"),
    ("contact-info", "mailto:tls@sender.example", "RPT-JSON-06"),
    ("contact-info", "TLS <tls@sender.example>", "RPT-JSON-06"),
    ("report-id", GONE, "RPT-JSON-02"),
    ("report-id", 7, "RPT-JSON-03"),
    ("date-range", GONE, "RPT-JSON-02"),
    ("date-range", [], "RPT-JSON-04"),
    ("date-range/start-datetime", GONE, "RPT-JSON-04"),
    ("date-range/start-datetime", 1747872000, "RPT-JSON-04"),
    ("date-range/start-datetime", "2025-05-22T00:00:00", "RPT-JSON-04"),
    ("date-range/start-datetime", "2025-05-22 00:00:00Z", "RPT-JSON-04"),
    ("date-range/start-datetime", "2025-05-22T00:00Z", "RPT-JSON-04"),
    ("date-range/start-datetime", "2025-05-22", "RPT-JSON-04"),
    ("date-range/start-datetime", "20250522T000000Z", "RPT-JSON-04"),
    ("date-range/start-datetime", "2025-02-29T00:00:00Z", "RPT-JSON-04"),
    ("date-range/start-datetime", "2025-13-01T00:00:00Z", "RPT-JSON-04"),
    ("date-range/start-datetime", "2025-05-22T00:00:00+0000", "RPT-JSON-04"),
    ("date-range/start-datetime", "٢025-05-22T00:00:00Z", "RPT-JSON-04"),
    ("date-range/start-datetime", "2025-05-23T00:00:00Z", "RPT-JSON-05"),
    ("date-range/end-datetime", "2025-05-22T24:00:00Z", "RPT-JSON-04"),
    ("date-range/end-datetime", "2025-05-21T23:59:59Z", "RPT-JSON-05"),
    ("policies", GONE, "RPT-JSON-02"),
    ("policies", {}, "RPT-JSON-08"),
    ("policies/0", [], "RPT-JSON-09"),
    (POLICY, GONE, "RPT-JSON-09"),
    (SUMMARY, GONE, "RPT-JSON-09"),
    (DETAILS, None, "RPT-JSON-09"),
    (DETAILS, {}, "RPT-JSON-09"),
    (f"{POLICY}/policy-type", GONE, "RPT-JSON-10"),
    (f"{POLICY}/policy-type", "dane", "RPT-JSON-10"),
    (f"{POLICY}/policy-type", "STS", "RPT-JSON-10"),
    (f"{POLICY}/policy-type", ["sts"], "RPT-JSON-10"),
    (f"{POLICY}/policy-string", "version: STSv1", "RPT-JSON-11"),
    (f"{POLICY}/policy-string", [7], "RPT-JSON-11"),
    (f"{POLICY}/policy-string", None, "RPT-JSON-11"),
    (f"{POLICY}/policy-string", ["version: STSv1\r\nmode: none"], "RPT-JSON-12"),
    (POLICY, TLSA_POLICY | {"policy-string": ["3 1 1 (AB)"]}, "RPT-JSON-13"),
    (POLICY, TLSA_POLICY | {"policy-string": ["3  1 1 AB"]}, "RPT-JSON-13"),
    (f"{POLICY}/policy-domain", GONE, "RPT-JSON-15"),
    (f"{POLICY}/policy-domain", "", "RPT-JSON-15"),
    (f"{POLICY}/policy-domain", "bücher.example", "RPT-JSON-15"),
    (f"{POLICY}/policy-domain", "rcpt.example.", "RPT-JSON-15"),
    (f"{POLICY}/mx-host", "*.rcpt.example", "RPT-JSON-18"),
    (f"{POLICY}/mx-host", GONE, "RPT-JSON-18"),
    (f"{POLICY}/mx-host", [], "RPT-JSON-18"),
    (f"{POLICY}/mx-host", ["mx: *.rcpt.example"], "RPT-JSON-19"),
    (f"{POLICY}/mx-host", ["MX:*.rcpt.example"], "RPT-JSON-19"),
    (f"{SUMMARY}/total-successful-session-count", GONE, "RPT-JSON-22"),
    (f"{SUMMARY}/total-successful-session-count", "12", "RPT-JSON-22"),
    (f"{SUMMARY}/total-successful-session-count", 1.5, "RPT-JSON-22"),
    (f"{SUMMARY}/total-successful-session-count", -1, "RPT-JSON-22"),
    (f"{SUMMARY}/total-successful-session-count", True, "RPT-JSON-22"),
    (f"{SUMMARY}/total-successful-session-count", None, "RPT-JSON-22"),
    (f"{SUMMARY}/total-successful-session-count", MAX_INTEGER + 1, "RPT-JSON-01"),
    (f"{SUMMARY}/total-failure-session-count", 2, "RPT-JSON-28"),
    (f"{DETAIL}/failed-session-count", 4, "RPT-JSON-28"),
    (f"{DETAIL}/failed-session-count", GONE, "RPT-JSON-27"),
    (f"{DETAIL}/failed-session-count", "3", "RPT-JSON-27"),
    (DETAIL, "certificate-expired", "RPT-JSON-09"),
    (DETAILS, [detail(2), detail(2, **{"receiving-ip": "192.0.2.1"})], "RPT-JSON-28"),
    (DETAILS, [detail(1), detail(1)], "RPT-JSON-29"),
    (f"{DETAIL}/result-type", GONE, "RPT-JSON-30"),
    (f"{DETAIL}/result-type", "expired", "RPT-JSON-30"),
    (f"{DETAIL}/result-type", 7, "RPT-JSON-30"),
    (f"{DETAIL}/receiving-ip", "", "RPT-JSON-46"),
    (f"{DETAIL}/receiving-ip", "0.0.0.0", "RPT-JSON-46"),
    (f"{DETAIL}/receiving-ip", "::", "RPT-JSON-46"),
    (f"{DETAIL}/receiving-ip", None, "RPT-JSON-46"),
    (f"{DETAIL}/receiving-mx-helo", "", "RPT-JSON-46"),
    (f"{DETAIL}/failure-reason-code", " ", "RPT-JSON-46"),
    (f"{DETAIL}/receiving-ip", "192.0.2.01", "RPT-JSON-47"),
    (f"{DETAIL}/receiving-ip", "[192.0.2.1]", "RPT-JSON-47"),
    (f"{DETAIL}/sending-mta-ip", "2001:DB8::1", "RPT-JSON-47"),
    (f"{DETAIL}/sending-mta-ip", "2001:db8:abcd:0012::1", "RPT-JSON-47"),
    (f"{DETAIL}/sending-mta-ip", "2001:db8:0:0::1", "RPT-JSON-47"),
    (f"{DETAIL}/sending-mta-ip", "::ffff:192.0.2.1", "RPT-JSON-47"),
    (f"{DETAIL}/sending-mta-ip", "fe80::1%eth0", "RPT-JSON-47"),
    (f"{DETAIL}/receiving-mx-hostname", "mx bücher", "RPT-JSON-48"),
    (f"{DETAIL}/receiving-mx-hostname", "mx.bücher.example", "RPT-JSON-48"),
    (f"{DETAIL}/failure-reason-code", 7, "RPT-JSON-51"),
    (f"{DETAIL}/failure-reason-code", "two\nlines", "RPT-JSON-51"),
    (f"{DETAIL}/additional-information", "\ud800", "RPT-JSON-01"),
    ("x-note", "\ufffe", "RPT-JSON-01"),
    ("x-note", [{"\0": 1}], "RPT-JSON-01"),
    ("x-number", 2**53, "RPT-JSON-01"),
    ("x-number", float("nan"), "RPT-JSON-01"),
    ("x-number", -1e300, "RPT-JSON-01"),
]


@pytest.mark.req(
    *("RPT-JSON-01", "RPT-JSON-02", "RPT-JSON-03", "RPT-JSON-04", "RPT-JSON-05", "RPT-JSON-06"),
    *("RPT-JSON-08", "RPT-JSON-09", "RPT-JSON-10", "RPT-JSON-11", "RPT-JSON-12", "RPT-JSON-13"),
    *("RPT-JSON-15", "RPT-JSON-18", "RPT-JSON-19", "RPT-JSON-22", "RPT-JSON-27", "RPT-JSON-28"),
    *("RPT-JSON-29", "RPT-JSON-30", "RPT-JSON-46", "RPT-JSON-47", "RPT-JSON-48", "RPT-JSON-51"),
)
@pytest.mark.parametrize(("at", "value", "rule"), FAULTY)
def test_what_a_writer_must_not_do(at: str, value: object, rule: str) -> None:
    faults = find_faults(with_change(at, value))
    assert faults, rule
    for fault in faults:
        assert fault.startswith("/")
        assert fault.isascii()
        assert fault.isprintable()


@pytest.mark.req("RPT-JSON-04", "RPT-JSON-05", "RPT-JSON-09", "RPT-JSON-21", "RPT-JSON-28")
@pytest.mark.parametrize(
    ("at", "value"),
    [
        ("date-range/end-datetime", "2025-05-23T00:00:00Z"),
        ("date-range/end-datetime", "2025-05-22T23:59:60Z"),
        ("date-range/end-datetime", "2025-05-22t23:59:59.999z"),
        ("date-range/start-datetime", "2025-05-22T02:00:00+02:00"),
        ("date-range/start-datetime", "2025-05-21T19:00:00-05:00"),
        ("x-unknown", {"a": [1, 2.5, None, True]}),
        (f"{POLICY}/mx-host-pattern", ["*.rcpt.example"]),
        (f"{POLICY}/policy-domain", "RCPT.example"),
        (DETAILS, GONE),
        (DETAILS, []),
        (f"{DETAIL}/receiving-ip", GONE),
        (f"{DETAIL}/receiving-mx-hostname", "mx1.rcpt.example."),
        # The sum may be larger than the total: one session, two types.
        (DETAILS, [detail(3), detail(3) | {"result-type": "certificate-not-trusted"}]),
        (POLICY, TLSA_POLICY | {"policy-string": ["3 1 1 ab", "2 0 1 CD"]}),
        (POLICY, {"policy-type": "no-policy-found", "policy-domain": "a.example"}),
        (POLICY, {"policy-type": "sts", "policy-domain": "a.example"}),
    ],
)
def test_what_a_writer_may_do(at: str, value: object) -> None:
    assert find_faults(with_change(at, value)) == ()


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), HOSTILE_TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(HOSTILE_TEXT, inner, max_size=3)
    ),
    max_leaves=10,
)
PLACES = st.sampled_from(sorted({at for at, value, _ in FAULTY if at != "x-number"}))


@given(PLACES, JSON_VALUES)
def test_any_document_is_judged(at: str, value: object) -> None:
    faults = find_faults(with_change(at, value))
    assert all(fault.isascii() and fault.isprintable() for fault in faults)


@given(reports())
def test_a_report_as_text_has_the_same_faults(report: Report) -> None:
    assert find_faults_in_text(encode_report(report)) == ()


@given(PLACES, st.one_of(HOSTILE_TEXT, st.sampled_from(["", "x", "mx: a", "\x7f", "\ud800", "\t"])))
def test_a_text_is_judged_as_its_document(at: str, value: str) -> None:
    document = with_change(at, value)
    text = json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode()
    assert find_faults_in_text(text) == find_faults(json.loads(text))


def test_a_deep_document_is_judged() -> None:
    deep: Any = "\0"
    for _ in range(10_000):
        deep = [deep]
    (fault,) = find_faults(BASE | {"x": deep})
    assert fault.endswith("has no place in a report")


def test_the_names_of_types_are_those_of_the_registry() -> None:
    for kind in PolicyType:
        policy = {"policy-type": str(kind), "policy-domain": DOMAIN}
        assert find_faults(with_change(POLICY, policy)) == ()
    for result_type in ResultType:
        assert find_faults(with_change(f"{DETAIL}/result-type", str(result_type))) == ()
    assert US.submitter in BASE["report-id"]
