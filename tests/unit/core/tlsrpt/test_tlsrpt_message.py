# SPDX-License-Identifier: Apache-2.0
"""The mail of a report: its headers, its two parts, and nothing that a hostile name puts in."""

from __future__ import annotations

import email
import gzip
import json
import re
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage
from email.policy import default as rfc5322
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.tlsrpt.reports import (
    AT,
    DOMAIN,
    EXPIRED,
    HOSTILE_TEXT,
    NO_POLICY,
    STS,
    TLSA,
    report_of,
    reports,
)

from strictmail.core.tlsrequired import TlsWish, read_wish
from strictmail.core.tlsrpt.counts import PolicyCounts
from strictmail.core.tlsrpt.filename import parse_filename
from strictmail.core.tlsrpt.message import (
    MAX_DETAIL_LINES,
    SIGNED_HEADERS,
    ReportSubject,
    build_message,
    format_mailbox,
    format_subject,
    parse_subject,
    report_filename,
)
from strictmail.core.tlsrpt.record import select_tlsrpt
from strictmail.core.tlsrpt.report import Identity, with_unique_id
from strictmail.core.tlsrpt.reportjson import compress_report, encode_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from strictmail.core.tlsrpt.report import Report

SENDER = "noreply@sender.example"
TO = ("tls@rcpt.example",)


def build(report: Report, recipients: Sequence[str] = TO, sender: str = SENDER) -> bytes:
    written, data = compress_report(report)
    return build_message(written, data, sender=sender, recipients=recipients, at=AT)


def parse(message: bytes) -> EmailMessage:
    parsed = email.message_from_bytes(message, policy=rfc5322)
    assert isinstance(parsed, EmailMessage)
    return parsed


@pytest.mark.req(
    "RPT-DLV-20",
    "RPT-DLV-21",
    "RPT-DLV-22",
    "RPT-DLV-23",
    "RPT-DLV-24",
    "RPT-DLV-15",
    "RPT-DLV-61",
)
def test_the_two_parts() -> None:
    report = report_of()
    mail = parse(build(report))
    assert mail.get_content_type() == "multipart/report"
    assert mail.get_param("report-type") == "tlsrpt"
    people, machine = mail.iter_parts()
    assert people.get_content_type() == "text/plain"
    assert "TLS report for rcpt.example, 2025-05-22 (UTC)," in people.get_content()
    assert machine.get_content_type() == "application/tlsrpt+gzip"
    assert machine["Content-Transfer-Encoding"] == "base64"
    assert machine.get_content_disposition() == "attachment"
    assert machine.get_filename() == report_filename(report)
    assert gzip.decompress(machine.get_content()) == encode_report(report)
    for part in (people, machine):
        assert not [name for name in part if name.lower().startswith("tls-")]


@pytest.mark.req(
    "RPT-DLV-25", "RPT-DLV-26", "RPT-DLV-28", "RPT-DLV-29", "RPT-DLV-35", "RPT-DLV-37", "RPT-DLV-39"
)
def test_the_headers() -> None:
    report = report_of()
    mail = parse(build(report, ("a@rcpt.example", "b@other.example")))
    assert dict(mail.items()) == {
        "From": "noreply@sender.example",
        "To": "a@rcpt.example, b@other.example",
        "Date": "Fri, 23 May 2025 01:02:03 +0000",
        "Subject": (
            f"Report Domain: rcpt.example Submitter: sender.example Report-ID: <{report.report_id}>"
        ),
        "Message-ID": f"<{report.report_id}>",
        "MIME-Version": "1.0",
        "Content-Type": (
            f'multipart/report; report-type="tlsrpt"; boundary="=_{report.unique_id}"'
        ),
        "Auto-Submitted": "auto-generated",
        "TLS-Required": "No",
        "TLS-Report-Domain": "rcpt.example",
        "TLS-Report-Submitter": "sender.example",
    }
    assert len(mail.keys()) == len(set(mail.keys()))


@pytest.mark.req("RPT-DLV-27", "RTLS-32")
def test_every_header_is_there_to_be_signed() -> None:
    mail = parse(build(report_of()))
    assert set(mail.keys()) == set(SIGNED_HEADERS)
    assert {"TLS-Report-Domain", "TLS-Report-Submitter", "TLS-Required"} <= set(SIGNED_HEADERS)


@pytest.mark.req("RPT-DLV-35", "RTLS-08", "RTLS-09")
def test_later_hops_see_that_tls_may_fail() -> None:
    mail = parse(build(report_of()))
    assert read_wish([f"{name}: {value}" for name, value in mail.items()]) is TlsWish.OPTIONAL


@pytest.mark.req("RPT-DLV-60", "RPT-DLV-61", "RPT-DLV-29", "RPT-DLV-26", "RPT-JSON-07")
def test_all_places_agree() -> None:
    report = report_of(identity=Identity("Sender Org", "tls@Mail.Sender.example"))
    mail = parse(build(report, sender="noreply@mail.sender.example"))
    subject = parse_subject(mail["Subject"])
    name = parse_filename(list(mail.iter_parts())[1].get_filename() or "")
    content = json.loads(gzip.decompress(list(mail.iter_parts())[1].get_content()))
    assert subject is not None
    assert name is not None
    assert {mail["TLS-Report-Domain"], subject.domain, name.domain} == {DOMAIN}
    assert {mail["TLS-Report-Submitter"], subject.submitter, name.sender} == {"mail.sender.example"}
    assert content["contact-info"].rpartition("@")[2].lower() == "mail.sender.example"
    assert {subject.report_id, content["report-id"], mail["Message-ID"].strip("<>")} == {
        report.report_id
    }
    assert (name.begin, name.end) == (report.begin.timestamp(), report.end.timestamp())


@pytest.mark.req("RPT-DLV-05")
def test_a_retry_is_the_same_octets() -> None:
    assert build(report_of()) == build(report_of())


@pytest.mark.req("RPT-DLV-30", "RPT-DLV-23")
def test_lines_are_short_ascii_and_end_with_crlf() -> None:
    long = ".".join(["x" * 60] * 4)
    report = report_of(domain=long, identity=Identity("Org", f"tls@{'y' * 60}.{long[:180]}"))
    message = build(report, [f"{'l' * 64}@{long[:180]}"] * 50)
    assert message.isascii()
    assert b"\n" not in message.replace(b"\r\n", b"")
    assert b"\r" not in message.replace(b"\r\n", b"")
    assert max(map(len, message.split(b"\r\n"))) <= 998
    body = message.partition(b"application/tlsrpt+gzip")[2].partition(b"\r\n\r\n")[2]
    assert max(map(len, body.split(b"\r\n"))) <= 76
    assert message.endswith(b"--\r\n")


@pytest.mark.req("RPT-DLV-30")
def test_the_subject_is_folded_at_white_space_only() -> None:
    message = build(report_of())
    (folded,) = re.findall(rb"^Subject: (.*?)\r\n(?![ \t])", message, re.MULTILINE | re.DOTALL)
    assert folded.decode() == (
        "Report Domain: rcpt.example\r\n Submitter: sender.example\r\n "
        f"Report-ID: <{report_of().report_id}>"
    )
    assert parse_subject(folded.decode()) == ReportSubject(
        "rcpt.example", "sender.example", report_of().report_id
    )


# ---- hostile names -------------------------------------------------------------------------------

INJECTIONS = [
    "a@b.example\r\nBcc: all@example.net",
    "a@b.example\nBcc: all@example.net",
    "a@b.example, c@d.example",
    "a@b.example> <c@d.example",
    'a"b@c.example',
    "a\\b@c.example",
    "ä@b.example",
    "a@b.example\0",
    "",
]


@pytest.mark.req("RPT-DLV-30", "RPT-REC-19", "RPT-REC-20")
@pytest.mark.parametrize("text", INJECTIONS)
def test_nothing_hostile_stands_in_a_header(text: str) -> None:
    report = report_of()
    broken: list[Callable[[], bytes]] = [
        lambda: build(report, [text]),
        lambda: build(report, sender=text),
        lambda: build(replace(report, domain=text)),
        lambda: build(replace(report, report_id=text)),
    ]
    for make in broken:
        with pytest.raises(ValueError, match=r"cannot stand in a header|A-labels|letters and"):
            make()


def test_a_report_goes_to_somebody() -> None:
    with pytest.raises(ValueError, match="a report goes to somebody"):
        build(report_of(), [])


@given(HOSTILE_TEXT)
@pytest.mark.req("RPT-DLV-30")
def test_any_recipient_is_one_recipient_or_refused(text: str) -> None:
    try:
        message = build(report_of(), [text])
    except ValueError:
        return
    mail = parse(message)
    assert set(mail.keys()) == set(SIGNED_HEADERS)


@pytest.mark.req("RPT-REC-15")
@pytest.mark.parametrize(
    ("uri", "mailbox"),
    [
        ("mailto:tls@rcpt.example", "tls@rcpt.example"),
        ("mailto:a%2Cb@rcpt.example", '"a,b"@rcpt.example'),
        ("mailto:a%3Bb@rcpt.example", '"a;b"@rcpt.example'),
        ("mailto:a%21b@rcpt.example", "a!b@rcpt.example"),
        ("mailto:a(b)@rcpt.example", '"a(b)"@rcpt.example'),
        ("mailto:.a@rcpt.example", '".a"@rcpt.example'),
        ("mailto:a..b@rcpt.example", '"a..b"@rcpt.example'),
        ("mailto:a+b/c=d@rcpt.example", "a+b/c=d@rcpt.example"),
    ],
)
def test_a_decoded_mailbox_is_one_address(uri: str, mailbox: str) -> None:
    (found,) = select_tlsrpt([[b"v=TLSRPTv1; rua=" + uri.encode()]]).rua
    assert format_mailbox(found.address) == mailbox
    mail = parse(build(report_of(), [found.address]))
    (address,) = mail["To"].addresses
    assert f"{address.username}@{address.domain}" == found.address


# ---- the page for people -------------------------------------------------------------------------


def page(report: Report) -> list[str]:
    people, _ = parse(build(report)).iter_parts()
    return str(people.get_content()).splitlines()


def test_what_people_read() -> None:
    report = report_of(
        {
            STS: PolicyCounts(12, 3, {EXPIRED: 3}),
            TLSA: PolicyCounts(7),
            NO_POLICY: PolicyCounts(1),
        },
        identity=Identity("Grüße & Söhne", "tls@sender.example"),
    )
    assert page(report)[:18] == [
        "TLS report for rcpt.example, 2025-05-22 (UTC),",
        "from Gr\\xfc\\xdfe & S\\xf6hne.",
        "",
        "The attached file has the same for machines (RFC 8460). Contact:",
        "tls@sender.example",
        "",
        "DANE at mx.rcpt.example:",
        "  7 sessions succeeded, 0 failed",
        "",
        "MTA-STS policy of rcpt.example:",
        "  12 sessions succeeded, 3 failed",
        "    3 x certificate-expired at mx1.rcpt.example",
        "",
        "No policy found for rcpt.example:",
        "  1 sessions succeeded, 0 failed",
        "",
        page(report)[16],
    ]
    assert page(report)[16].startswith("Made by strictmail ")


@pytest.mark.req("RPT-DLV-16")
def test_people_are_told_what_is_left_out() -> None:
    details = {replace(EXPIRED, receiving_ip=f"192.0.2.{n}"): 1 for n in range(30)}
    report = report_of({STS: PolicyCounts(0, 30, details)})
    assert f"    and {30 - MAX_DETAIL_LINES} more kinds" in page(report)
    lines = page(replace(report, dropped_details=7, dropped_texts=2))
    assert "7 rare kinds of failure are not told apart, to keep the" in lines
    assert "The texts of 2 policies are left out, to keep it small." in lines


@given(reports())
def test_any_report_is_a_mail(report: Report) -> None:
    mail = parse(build(report))
    people, machine = mail.iter_parts()
    assert gzip.decompress(machine.get_content()) == encode_report(report)
    assert people.get_content().isascii()
    assert not mail.defects


# ---- subjects ------------------------------------------------------------------------------------

SUBJECT = "Report Domain: rcpt.example Submitter: sender.example Report-ID: <1.a+b@sender.example>"


@pytest.mark.req("RPT-DLV-28", "RPT-DLV-30")
@pytest.mark.parametrize(
    "value",
    [
        SUBJECT,
        f" {SUBJECT} ",
        SUBJECT.replace(" ", "\r\n "),
        SUBJECT.replace(" ", "\r\n\t"),
        SUBJECT.replace(" ", "\n "),
        SUBJECT.replace(" ", " \t "),
        SUBJECT + " (a comment)",
        SUBJECT + "\r\n (a) (b)",
    ],
)
def test_a_subject_however_it_is_folded(value: str) -> None:
    assert parse_subject(value) == ReportSubject(
        "rcpt.example", "sender.example", "1.a+b@sender.example"
    )


@pytest.mark.req("RPT-DLV-28", "RPT-DLV-30")
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param(SUBJECT.lower(), id="lower-case"),
        pytest.param(SUBJECT.replace("Report-ID", "Report-Id"), id="other-case"),
        pytest.param(SUBJECT.replace("<", "").replace(">", ""), id="no-brackets"),
        pytest.param(SUBJECT.replace("1.a+b@sender.example", "1"), id="no-message-id"),
        pytest.param(SUBJECT.replace("1.a+b", ""), id="no-left-side"),
        pytest.param(SUBJECT.replace("@sender.example>", "@>"), id="no-right-side"),
        pytest.param(SUBJECT.replace("1.a+b", "1 a"), id="blank-in-the-id"),
        pytest.param(SUBJECT.replace("1.a+b", "00:00:00"), id="colon-in-the-id"),
        pytest.param(SUBJECT.replace("1.a+b", "1..b"), id="two-dots-in-the-id"),
        pytest.param(SUBJECT.replace("1.a+b", "a@b"), id="two-at-signs"),
        pytest.param(SUBJECT.replace(": r", ":r"), id="no-blank-behind-a-colon"),
        pytest.param(SUBJECT.replace("Submitter: sender.example ", ""), id="no-submitter"),
        pytest.param(SUBJECT.partition(" Report-ID")[0], id="no-id"),
        pytest.param(SUBJECT.replace("rcpt.example", "bücher.example"), id="u-label"),
        pytest.param(SUBJECT.replace("rcpt.example", "-a.example"), id="no-domain"),
        pytest.param(SUBJECT.replace(" Sub", "\r\nSub"), id="line-end-without-fold"),
        pytest.param("Re: " + SUBJECT, id="prefix"),
        pytest.param(SUBJECT + " more", id="suffix"),
        pytest.param(SUBJECT + " (open", id="open-comment"),
    ],
)
def test_what_is_no_subject(value: str) -> None:
    assert parse_subject(value) is None


def test_an_address_literal_may_be_the_right_side() -> None:
    found = parse_subject(SUBJECT.replace("b@sender.example>", "b@[192.0.2.1]>"))
    assert found is not None
    assert found.report_id == "1.a+b@[192.0.2.1]"


@given(st.text(max_size=100), reports(), st.integers(0, 10**4))
@pytest.mark.req("RPT-DLV-28")
def test_our_own_subjects_are_read_back(text: str, report: Report, days: int) -> None:
    assert parse_subject(text) is None
    report = replace(report, begin=report.begin + timedelta(days=days))
    subject = ReportSubject(report.domain, report.identity.submitter, report.report_id)
    assert parse_subject(format_subject(subject)) == subject
    named = with_unique_id(report, "001")
    assert named.report_id == f"2025-05-22.{DOMAIN}.001@sender.example"
