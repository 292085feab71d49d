# SPDX-License-Identifier: Apache-2.0
"""Reports of others: what real ones do is read, named, and no more than that.

`tests/data/reports` shows each departure that was seen in real reports, made for these tests.
Where a directory `shared/samples` stands beside the checkout, the real ones in it are read too.
"""

from __future__ import annotations

import copy
import email
import gzip
import json
from datetime import UTC, datetime
from email.policy import default as rfc5322
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.tlsrpt.reports import HOSTILE_TEXT

from strictmail.core.errors import ReportSyntaxError
from strictmail.core.tlsrpt import reading
from strictmail.core.tlsrpt.reading import Quirk, ReadDetail, ReadReport, read_document, read_report

ROOT = Path(__file__).resolve().parents[4]
OURS = sorted((ROOT / "tests" / "data" / "reports").glob("*.json"))
REAL = sorted(
    path
    for path in (ROOT.parent / "shared" / "samples").glob("*")
    if path.suffix in (".json", ".eml")
)
BEGIN = datetime(2025, 5, 22, tzinfo=UTC)
END = datetime(2025, 5, 22, 23, 59, 59, tzinfo=UTC)

QUIRKS: dict[str, set[Quirk]] = {
    "plain": set(),
    "large-sender-heartbeat": set(),
    "no-address-no-host": set(),
    "empty-addresses": set(),
    "fractions-and-offset": set(),
    "unknown-members": set(),
    "additional-info-uri": {Quirk.ADDITIONAL_INFO_URI},
    "byte-order-mark": {Quirk.BYTE_ORDER_MARK},
    "contact-null-mx-lines": {
        Quirk.CONTACT_MISSING,
        Quirk.MX_HOST_LINE,
        Quirk.END_IS_NEXT_MIDNIGHT,
    },
    "half-a-character": {Quirk.LONE_SURROGATE},
    "loose-date-times": {Quirk.DATE_TIME_FORM, Quirk.HOUR_24, Quirk.END_IS_NEXT_MIDNIGHT},
    "next-midnight-details-above-total": {
        Quirk.END_IS_NEXT_MIDNIGHT,
        Quirk.DETAILS_ABOVE_TOTAL,
    },
    "no-id-no-organization": {Quirk.MEMBER_MISSING},
    "no-policy-domain-no-failure-total": {Quirk.NO_POLICY_DOMAIN, Quirk.COUNT_MISSING},
    "no-zone": {Quirk.NO_ZONE},
    "rfc-example-form": {Quirk.ADDRESS_FORM, Quirk.MX_HOST_STRING},
    "strings-for-arrays-and-numbers": {
        Quirk.CONTACT_FORM,
        Quirk.COUNT_STRING,
        Quirk.MEMBER_MISSING,
        Quirk.NULL_MEMBER,
        Quirk.POLICY_STRING_TEXT,
    },
    "tlsa-as-json-text": {Quirk.POLICY_STRING_JSON},
    "unknown-types": {Quirk.POLICY_TYPE_UNKNOWN, Quirk.RESULT_TYPE_UNKNOWN},
}


def read(name: str) -> ReadReport:
    return read_report((ROOT / "tests" / "data" / "reports" / f"{name}.json").read_bytes())


@pytest.mark.req("RPT-RCV-14", "RPT-RCV-15", "RPT-RCV-16", "RPT-RCV-17", "RPT-JSON-56")
@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_what_is_tolerated_is_named(path: Path) -> None:
    report = read(path.stem)
    assert set(report.quirks) == QUIRKS[path.stem]
    assert len(report.quirks) == len(set(report.quirks))
    assert report.begin == BEGIN
    assert report.end.replace(microsecond=0) in (END, datetime(2025, 5, 23, tzinfo=UTC))


def test_every_quirk_has_a_sample() -> None:
    assert set().union(*QUIRKS.values()) == set(Quirk)
    assert {path.stem for path in OURS} == set(QUIRKS)


def content(path: Path) -> bytes:
    """The JSON of a sample, be it in a mail."""
    data: Any = path.read_bytes()
    if path.suffix == ".json":
        return path.read_bytes()
    mail = email.message_from_bytes(data, policy=rfc5322)
    for part in mail.walk():
        if part.get_content_type().startswith("application/"):
            data = part.get_payload(decode=True)
            assert isinstance(data, bytes)
            return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    raise AssertionError("no report in it")


@pytest.mark.req("RPT-RCV-14", "RPT-RCV-15", "RPT-JSON-17")
@pytest.mark.parametrize("path", [*OURS, *REAL], ids=lambda path: path.name)
def test_every_sample_is_read(path: Path) -> None:
    report = read_report(content(path))
    assert report.organization_name or Quirk.MEMBER_MISSING in report.quirks
    assert report.policies
    assert report.begin.tzinfo is report.end.tzinfo is UTC
    for policy in report.policies:
        assert policy.successes + policy.failures > 0
        assert all(not line.startswith("[") for line in policy.policy_strings)
        assert all("mx:" not in host for host in policy.mx_hosts)


# ---- what is made of it --------------------------------------------------------------------------


@pytest.mark.req("RPT-RCV-14", "RPT-JSON-11", "RPT-JSON-17")
def test_tlsa_records_as_json_in_a_string() -> None:
    sts, tlsa = read("tlsa-as-json-text").policies
    assert tlsa.policy_strings == ("3 1 1 " + "AB" * 32, "3 1 1 " + "CD" * 32)
    assert tlsa.policy_domain == "rcpt.example"
    assert sts.mx_hosts == ()


@pytest.mark.req("RPT-RCV-14", "RPT-JSON-18", "RPT-JSON-19")
def test_patterns_in_each_form_are_patterns() -> None:
    assert read("rfc-example-form").policies[0].mx_hosts == ("*.rcpt.example",)
    assert read("contact-null-mx-lines").policies[0].mx_hosts == ("mx.rcpt.example",)
    # An unknown member is ignored, not read as another one.
    assert read("unknown-members").policies[0].mx_hosts == ("*.rcpt.example",)


@pytest.mark.req("RPT-RCV-14", "RPT-JSON-46")
def test_what_is_not_said_is_empty() -> None:
    assert read("no-address-no-host").policies[0].details == (
        ReadDetail("sts-policy-fetch-error", 3),
    )
    (detail,) = read("empty-addresses").policies[0].details
    assert (detail.sending_mta_ip, detail.receiving_ip) == ("", "")
    older = read("no-policy-domain-no-failure-total").policies[0]
    assert (older.policy_domain, older.successes, older.failures) == ("", 1, 0)
    assert read("contact-null-mx-lines").contact_info == ""
    assert read("no-id-no-organization").report_id == ""


@pytest.mark.req("RPT-JSON-47", "RPT-JSON-21")
def test_forms_are_brought_into_one() -> None:
    (detail,) = read("rfc-example-form").policies[0].details
    assert detail.sending_mta_ip == "2001:db8:abcd:12::1"
    (detail,) = read("additional-info-uri").policies[0].details
    assert detail.additional_information == "https://sender.example/why"
    assert read("half-a-character").organization_name == "Sender \ufffd"
    text = read("strings-for-arrays-and-numbers")
    assert text.policies[0].policy_strings == ("version: STSv1",)
    assert (text.policies[0].successes, text.policies[0].failures) == (4, 1)
    assert text.contact_info == "Reports <mailto:tls@sender.example>"


@pytest.mark.req("RPT-RCV-17", "RPT-JSON-10", "RPT-JSON-30")
def test_unknown_words_stay() -> None:
    (policy,) = read("unknown-types").policies
    assert policy.policy_type == "dane-and-more"
    assert policy.details[0].result_type == "quantum-invalid"


@pytest.mark.req("RPT-JSON-28")
def test_details_may_say_more_than_the_total() -> None:
    (policy,) = read("next-midnight-details-above-total").policies
    assert policy.failures == 1
    assert [detail.count for detail in policy.details] == [1, 1]


# ---- date-times ----------------------------------------------------------------------------------

BASE: dict[str, Any] = json.loads((ROOT / "tests/data/reports/plain.json").read_text("utf-8"))


def with_start(value: object) -> ReadReport:
    span = BASE["date-range"] | {"start-datetime": value}
    return read_document(BASE | {"date-range": span})


@pytest.mark.req("RPT-RCV-15", "RPT-JSON-04")
@pytest.mark.parametrize(
    ("text", "quirks"),
    [
        ("2025-05-22T00:00:00Z", ()),
        ("2025-05-22t00:00:00z", ()),
        ("2025-05-22T00:00:00+00:00", ()),
        ("2025-05-22T00:00:00-00:00", ()),
        ("2025-05-22T02:00:00+02:00", ()),
        ("2025-05-21T19:30:00.000000000-04:30", ()),
        ("2025-05-22T00:00:00", (Quirk.NO_ZONE,)),
        ("2025-05-22T00:00:00.0", (Quirk.NO_ZONE,)),
        ("2025-05-22 00:00:00Z", (Quirk.DATE_TIME_FORM,)),
        ("2025-05-22 00:00", (Quirk.DATE_TIME_FORM, Quirk.NO_ZONE)),
        ("2025-05-21T24:00:00Z", (Quirk.HOUR_24,)),
        ("2025-05-21T24:00:00.000", (Quirk.NO_ZONE, Quirk.HOUR_24)),
    ],
)
def test_a_date_time_in_each_form(text: str, quirks: tuple[Quirk, ...]) -> None:
    report = with_start(text)
    assert report.begin == BEGIN
    assert report.quirks == quirks


@pytest.mark.req("RPT-JSON-04")
def test_a_leap_second_is_the_second_before_it() -> None:
    span = BASE["date-range"] | {"end-datetime": "2025-05-22T23:59:60Z"}
    report = read_document(BASE | {"date-range": span})
    assert report.end == END
    assert report.quirks == ()


@pytest.mark.req("RPT-JSON-04")
@pytest.mark.parametrize(
    "value",
    [
        *(None, 1747872000, "", "today", "2025-05-22", "20250522T000000Z", "2025-W21-4"),
        *("2025-05-22T00:00:00,5Z", "2025-05-22T00:00:00 Z", "2025-05-22T00:00:00+0000"),
        *("2025-02-30T00:00:00Z", "2025-05-22T24:00:01Z", "2025-05-22T25:00:00Z"),
        *("2025-05-22T00:60:00Z", "2025-05-22T00:00:61Z", "2025-05-22T00:00:00+25:00"),
        *("٢٠٢٥-05-22T00:00:00Z", " 2025-05-22T00:00:00Z", "9999-12-31T24:00:00Z"),
        *("0001-01-01T00:00:00+23:00", "2025-05-24T00:00:00Z"),
    ],
)
def test_what_is_no_date_time(value: object) -> None:
    with pytest.raises(ReportSyntaxError) as raised:
        with_start(value)
    assert raised.value.place.startswith("/date-range")


# ---- refusal -------------------------------------------------------------------------------------


@pytest.mark.req("RPT-RCV-24", "RPT-JSON-01")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\x1f\x8b\x08", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"x":' * 50_000, "not JSON"),
        (b'{"a":1,"a":2}', "stands twice"),
        (b'{"x":{"a":1,"\\u0061":2}}', "stands twice"),
        (b'{"x":NaN}', "NaN is no JSON"),
        (b'{"x":-Infinity}', "-Infinity is no JSON"),
        (b'{"x":' + b"9" * 5000 + b"}", "not JSON"),
        (json.dumps(BASE).encode("utf-16"), "not JSON"),
        (json.dumps(BASE).encode("utf-32-be"), "not JSON"),
        (b'{"x":"\xff"}', "not JSON"),
        (b'{"x":"\xed\xa0\x80"}', "not JSON"),
        (b"[]", "an object is wanted"),
        (b"null", "an object is wanted"),
        (b'"x"', "an object is wanted"),
        (b"{}", "/date-range: an object is wanted"),
    ],
)
def test_what_is_no_report(data: bytes, said: str) -> None:
    with pytest.raises(ReportSyntaxError) as raised:
        read_report(data)
    assert said in str(raised.value)
    assert str(raised.value).isascii()
    assert len(str(raised.value)) < 300


@pytest.mark.req("RPT-RCV-16", "RPT-JSON-08", "RPT-JSON-22", "RPT-JSON-27")
@pytest.mark.parametrize(
    ("at", "value"),
    [
        ("policies", None),
        ("policies", {"policy": {}}),
        ("policies", "x"),
        ("policies/0", []),
        ("policies/0/policy", None),
        ("policies/0/summary", None),
        ("policies/0/summary/total-failure-session-count", -1),
        ("policies/0/summary/total-failure-session-count", 1.5),
        ("policies/0/summary/total-failure-session-count", True),
        ("policies/0/summary/total-failure-session-count", "1.5"),
        ("policies/0/summary/total-failure-session-count", "-1"),
        ("policies/0/summary/total-failure-session-count", "٣"),
        ("policies/0/summary/total-failure-session-count", ""),
        ("policies/0/summary/total-failure-session-count", 2**53),
        ("policies/0/summary/total-successful-session-count", []),
        ("policies/0/failure-details", {}),
        ("policies/0/failure-details/0", "x"),
        ("policies/0/failure-details/0/failed-session-count", None),
        ("policies/0/failure-details/0/result-type", 7),
        ("policies/0/failure-details/0/receiving-ip", 7),
        ("policies/0/policy/policy-type", ["sts"]),
        ("policies/0/policy/policy-string", 7),
        ("policies/0/policy/policy-string", ["a", 7]),
        ("policies/0/policy/mx-host", {"a": 1}),
        ("contact-info", ["tls@sender.example"]),
        ("organization-name", {"a": 1}),
        ("report-id", 7),
    ],
)
def test_what_cannot_be_read_says_where(at: str, value: object) -> None:
    document = copy.deepcopy(BASE)
    *way, last = at.split("/")
    place: Any = document
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    place[int(last) if isinstance(place, list) else last] = value
    with pytest.raises(ReportSyntaxError) as raised:
        read_document(document)
    assert raised.value.place == f"/{at}"
    assert str(raised.value).startswith(f"/{at}: ")


@pytest.mark.req("RPT-RCV-24")
def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_POLICIES", 2)
    monkeypatch.setattr(reading, "MAX_DETAILS", 2)
    part = BASE["policies"][0]
    assert len(read_document(BASE | {"policies": [part] * 2}).policies) == 2
    with pytest.raises(ReportSyntaxError, match="more than 2 policies"):
        read_document(BASE | {"policies": [part] * 3})
    crowded = part | {"failure-details": part["failure-details"] * 3}
    with pytest.raises(ReportSyntaxError, match="more than 2 details"):
        read_document(BASE | {"policies": [crowded]})


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), HOSTILE_TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "policies",
                    "policy",
                    "summary",
                    "failure-details",
                    "date-range",
                    "start-datetime",
                    "contact-info",
                    "end-datetime",
                    "policy-type",
                    "policy-string",
                    "mx-host",
                    "failed-session-count",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(ANYTHING, st.sampled_from([*BASE, "x"]))
@pytest.mark.req("RPT-RCV-24", "RPT-JSON-56")
def test_any_document_is_read_or_refused(value: object, member: str) -> None:
    for document in (value, BASE | {member: value}):
        try:
            report = read_document(document)
        except ReportSyntaxError:
            continue
        assert report.begin <= report.end
        texts = [report.organization_name, report.contact_info, report.report_id]
        texts += [text for policy in report.policies for text in policy.policy_strings]
        # All of it can be stored and sent on.
        assert "".join(texts).encode()
