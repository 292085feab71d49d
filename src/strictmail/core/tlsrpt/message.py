# SPDX-License-Identifier: Apache-2.0
"""A report as mail (RFC 8460 §5.3): multipart/report, a page for people, the report for machines.

The octets are made of the report and the instant alone, so that a retry is the same message. What
signs it, and what carries it, is not known here.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final

from strictmail import __version__
from strictmail.core.tlsrpt.filename import ReportFilename, format_filename
from strictmail.core.tlsrpt.results import PolicyType
from strictmail.core.tlsrpt.session import is_mail_domain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from strictmail.core.tlsrpt.report import PolicyReport, Report

GZIP_TYPE: Final = "application/tlsrpt+gzip"
JSON_TYPE: Final = "application/tlsrpt+json"

BASE64_LINE: Final = 76
"""RFC 2045 §6.8."""

SIGNED_HEADERS: Final = (
    "From",
    "To",
    "Date",
    "Subject",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "Auto-Submitted",
    "TLS-Required",
    "TLS-Report-Domain",
    "TLS-Report-Submitter",
)
"""What a DKIM signature of a report covers: RFC 8460 §5.3 wants the last two in it (RPT-DLV-27),
and nobody may take off `TLS-Required` unseen (RTLS-32)."""

MAX_DETAIL_LINES: Final = 20
"""Details that the page for people tells of; the machine's part has them all."""

MAX_TEXT_CHARACTERS: Final = 200
"""Of foreign text in a line of that page."""

_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_ATOM: Final = rf"{_ATOM}(?:\.{_ATOM})*"
"""RFC 5322 §3.2.3."""

_SUBJECT: Final = re.compile(
    r"Report[ \t]+Domain:[ \t]+(?P<domain>\S+)[ \t]+Submitter:[ \t]+(?P<submitter>\S+)[ \t]+"
    rf"Report-ID:[ \t]+<(?P<id>{_DOT_ATOM}@(?:{_DOT_ATOM}|\[[!-Z^-~]*\]))>"
    r"(?:[ \t]*\([^()\\]*\))*"
)
"""RFC 8460 §5.3; a comment may follow."""


@dataclass(frozen=True, slots=True)
class ReportSubject:
    """What the subject of a report mail says."""

    domain: str
    submitter: str
    report_id: str


def format_subject(subject: ReportSubject) -> str:
    """Write a subject, in one line.

    Spec: RFC 8460 §5.3.
    """
    # RFC 8460 §5.3: in exactly these words, the id as a message id (RPT-DLV-28, RPT-DLV-29, C-14).
    return (
        f"Report Domain: {subject.domain} Submitter: {subject.submitter} "
        f"Report-ID: <{subject.report_id}>"
    )


def parse_subject(value: str) -> ReportSubject | None:
    """Read the value of a Subject header, folded or not; None if it does not conform."""
    # RFC 5322 §2.2.3: folds are white space (RPT-DLV-30).
    found = _SUBJECT.fullmatch(re.sub(r"\r?\n(?=[ \t])", "", value).strip())
    if found is None:
        return None
    if not (is_mail_domain(found["domain"]) and is_mail_domain(found["submitter"])):
        return None
    return ReportSubject(found["domain"], found["submitter"], found["id"])


def format_mailbox(address: str) -> str:
    """An address as headers and SMTP commands have it: what its name holds may need quotes.

    Args:
        address: Printable ASCII, without quote marks and backslashes, as of a `rua`.

    Spec: RFC 5322 §3.4.1; RFC 5321 §4.1.2.
    """
    local, _, domain = address.rpartition("@")
    # RFC 8460 §3: a comma or semicolon, decoded, is of the name (RPT-REC-15), ends no address.
    return address if re.fullmatch(_DOT_ATOM, local) else f'"{local}"@{domain}'


def report_filename(report: Report, *, is_gzip: bool = True) -> str:
    """The name of a report's file.

    Spec: RFC 8460 §5.1.
    """
    # RFC 8460 §5.1: the range in Unix seconds, the domain that the record belongs to (RPT-DLV-12,
    # RPT-DLV-61).
    return format_filename(
        ReportFilename(
            sender=report.identity.submitter,
            domain=report.domain,
            begin=int(report.begin.timestamp()),
            end=int(report.end.timestamp()),
            unique_id=report.unique_id,
            gzip=is_gzip,
        )
    )


def build_message(
    report: Report, compressed: bytes, *, sender: str, recipients: Sequence[str], at: datetime
) -> bytes:
    """Make the mail of a report, unsigned; lines end with CRLF.

    Args:
        report: For the headers and the page for people.
        compressed: The same as gzip.
        sender: Address for `From`, in the submitter's domain so that DMARC is satisfied.
        recipients: Addresses for `To`, each a destination of the record.
        at: For `Date`: the first attempt; a retry keeps it.

    Raises:
        ValueError: An address or domain holds what a header may not.

    Spec: RFC 8460 §5.3.
    """
    # RFC 8460 §5.6: all of it is made of one value, so that nothing contradicts it (RPT-DLV-60).
    boundary = f"=_{report.unique_id}"
    lines = [*_headers(report, boundary, sender, recipients, at), ""]
    lines += ["This is a multipart message in MIME format.", ""]
    # RFC 8460 §5.3: the part for people first (RPT-DLV-21).
    lines += [f"--{boundary}", "Content-Type: text/plain; charset=us-ascii", ""]
    lines += [*_page(report), ""]
    # RFC 8460 §5.3: the report under its own media type, in base64 for 7-bit paths (RPT-DLV-22,
    # RPT-DLV-23), with its file name in quotes (RPT-DLV-24).
    lines += [
        f"--{boundary}",
        f"Content-Type: {GZIP_TYPE}",
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment;\r\n filename="{report_filename(report)}"',
        "",
    ]
    encoded = base64.b64encode(compressed).decode("ascii")
    lines += [encoded[at : at + BASE64_LINE] for at in range(0, len(encoded), BASE64_LINE)]
    lines += [f"--{boundary}--", ""]
    return "\r\n".join(lines).encode("ascii")


def _headers(
    report: Report, boundary: str, sender: str, recipients: Sequence[str], at: datetime
) -> Iterator[str]:
    submitter = report.identity.submitter
    if not recipients:
        raise ValueError("a report goes to somebody")
    for text in (sender, *recipients, submitter, report.domain, report.report_id):
        if not text or not text.isascii() or not text.isprintable() or set(text) & set('<>"\\ '):
            # RFC 5322 §2.2: nothing of a hostile name becomes a header of its own (RPT-DLV-30).
            raise ValueError(f"{text[:60]!a} cannot stand in a header")
    yield f"From: <{sender}>"
    yield "To: " + ",\r\n ".join(f"<{format_mailbox(recipient)}>" for recipient in recipients)
    yield f"Date: {format_datetime(at)}"
    subject = format_subject(ReportSubject(report.domain, submitter, report.report_id))
    # RFC 5322 §2.2.3: folded at white space only (RPT-DLV-30).
    yield "Subject: " + re.sub(" (?=Submitter:|Report-ID:)", "\r\n ", subject)
    yield f"Message-ID: <{report.report_id}>"
    yield "MIME-Version: 1.0"
    # RFC 8460 §5.3, §6.2: multipart/report of this type (RPT-DLV-20).
    yield f'Content-Type: multipart/report; report-type="tlsrpt";\r\n boundary="{boundary}"'
    # RFC 3834 §5: nobody answers it (RPT-DLV-37).
    yield "Auto-Submitted: auto-generated"
    # RFC 8689 §3: later hops do not hold it back for want of TLS (RPT-DLV-35).
    yield "TLS-Required: No"
    # RFC 8460 §5.3: on the message itself (RPT-DLV-25, RPT-DLV-26).
    yield f"TLS-Report-Domain: {report.domain}"
    yield f"TLS-Report-Submitter: {submitter}"


def _page(report: Report) -> Iterator[str]:
    """What a person reads, in ASCII, lines of at most 78 characters where words allow it."""
    yield f"TLS report for {report.domain}, {report.begin:%Y-%m-%d} (UTC),"
    yield f"from {_ascii(report.identity.organization_name)}."
    yield ""
    yield "The attached file has the same for machines (RFC 8460). Contact:"
    yield report.identity.contact_info
    for part in report.policies:
        yield ""
        yield from _policy_lines(part)
    if report.dropped_details:
        yield ""
        yield f"{report.dropped_details} rare kinds of failure are not told apart, to keep the"
        yield "report small; the totals count them."
    if report.dropped_texts:
        yield ""
        yield f"The texts of {report.dropped_texts} policies are left out, to keep it small."
    yield ""
    yield f"Made by strictmail {__version__}."


def _policy_lines(part: PolicyReport) -> Iterator[str]:
    names = {
        PolicyType.TLSA: "DANE at",
        PolicyType.STS: "MTA-STS policy of",
        PolicyType.NO_POLICY_FOUND: "No policy found for",
    }
    yield f"{names[part.policy.policy_type]} {_ascii(part.policy.policy_domain)}:"
    yield f"  {part.successes} sessions succeeded, {part.failures} failed"
    for detail, times in part.details[:MAX_DETAIL_LINES]:
        where = detail.receiving_mx_hostname or detail.receiving_ip
        text = f"{times} x {detail.result_type}" + (f" at {where}" if where else "")
        yield f"    {_ascii(text)}"
    left = len(part.details) - MAX_DETAIL_LINES
    if left > 0:
        yield f"    and {left} more kinds"


def _ascii(text: str) -> str:
    """Foreign text in one line of printable ASCII, the rest escaped, cut short."""
    escaped = text[:MAX_TEXT_CHARACTERS].encode("ascii", "backslashreplace").decode("ascii")
    return re.sub(r"[\0-\x1f\x7f]", "?", escaped)[:MAX_TEXT_CHARACTERS]
