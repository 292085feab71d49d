# SPDX-License-Identifier: Apache-2.0
"""A report as JSON: written strictly, and any document held against the rules for writers.

Spec: RFC 8460 §4.4, RFC 7493 (I-JSON). `find_faults` is what a writer must not do; it is run on
every report before it leaves, and says where and what. What a reader puts up with is another
matter (`strictmail.core.tlsrpt.reading`).
"""

from __future__ import annotations

import gzip
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from strictmail.core.tagrecord import quote
from strictmail.core.tlsrpt.report import drop_details, drop_texts, most_details
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import NO_CHARACTER, is_addr_spec, is_mail_domain

if TYPE_CHECKING:
    from datetime import datetime

    from strictmail.core.tlsrpt.report import PolicyReport, Report
    from strictmail.core.tlsrpt.session import FailureDetail

MAX_REPORT_BYTES: Final = 10_000_000
"""Compressed: RFC 8460 §5.2 expects receivers to limit what they take."""

MAX_INTEGER: Final = 2**53 - 1
"""RFC 7493 §2.2."""

DATE_TIME: Final = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])[Tt](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)"
    r"(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
"""RFC 3339 §5.6."""

_MEMBER_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,40}", re.ASCII)

_ADDRESSES: Final = ("sending-mta-ip", "receiving-ip")
_TOP_STRINGS: Final = ("organization-name", "contact-info", "report-id")
_DETAIL_STRINGS: Final = (
    "receiving-mx-hostname",
    "receiving-mx-helo",
    "additional-information",
    "failure-reason-code",
)


def encode_report(report: Report) -> bytes:
    """Write a report: UTF-8 (all ASCII), no BOM.

    Spec: RFC 8460 §4.4.
    """
    # RFC 7493 §2: an object without repeated names (RPT-JSON-01). Nobody reads it packed as it
    # is; without indentation it is written ten times as fast.
    return json.dumps(_document(report), ensure_ascii=True, separators=(",", ":")).encode("ascii")


def compress_report(report: Report, limit: int = MAX_REPORT_BYTES) -> tuple[Report, bytes]:
    """Write a report with gzip; until it fits, rare details are not told apart.

    If that is not enough, the texts of the policies go. Totals, types and domains stay, even if
    they alone are above the limit.

    Args:
        report: All of it.
        limit: Largest size in octets.

    Returns:
        What was written, with the number of details and texts dropped, and the octets: the same
        for the same report.

    Spec: RFC 8460 §5.2.
    """
    written, data = report, _compress(report)
    keep = most_details(report)
    # RFC 8460 §5.2: large reports are cut, and say so (RPT-DLV-16).
    while len(data) > limit and keep > 0:
        keep //= 2
        written = drop_details(report, keep)
        data = _compress(written)
    if len(data) > limit:
        written = drop_texts(written)
        data = _compress(written)
    return written, data


def _compress(report: Report) -> bytes:
    # RFC 8460 §5.2: gzip, one member, no name or time inside (RPT-DLV-15).
    return gzip.compress(encode_report(report), mtime=0)


def _document(report: Report) -> dict[str, Any]:
    # RFC 8460 §4.4: all top-level members, always (RPT-JSON-02, RPT-JSON-03).
    return {
        "organization-name": report.identity.organization_name,
        "date-range": {
            "start-datetime": _instant(report.begin),
            "end-datetime": _instant(report.end),
        },
        # RFC 8460 §4.4: an addr-spec: no scheme, no display name (RPT-JSON-06).
        "contact-info": report.identity.contact_info,
        "report-id": report.report_id,
        # RFC 8460 §4: an array, of one policy too (RPT-JSON-08); all policies of the recipient
        # domain in one report (RPT-JSON-54).
        "policies": [_policy(part) for part in report.policies],
    }


def _instant(moment: datetime) -> str:
    # RFC 3339 §5.6, with `Z` (RPT-JSON-04).
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _policy(part: PolicyReport) -> dict[str, Any]:
    policy = part.policy
    described: dict[str, Any] = {"policy-type": str(policy.policy_type)}
    if policy.policy_strings:
        # RFC 8460 §4.4, §4.5: an array of lines or records (RPT-JSON-11, C-12); none is left out
        # (RPT-JSON-14).
        described["policy-string"] = list(policy.policy_strings)
    described["policy-domain"] = policy.policy_domain
    if policy.policy_type is PolicyType.STS and policy.mx_host_patterns:
        # RFC 8460 §4.4, EID 6241: an array of bare patterns, for `sts` alone (RPT-JSON-18,
        # RPT-JSON-19, RPT-JSON-20).
        described["mx-host"] = list(policy.mx_host_patterns)
    document: dict[str, Any] = {
        "policy": described,
        # RFC 8460 §4.2: numbers, for each policy (RPT-JSON-22, RPT-JSON-23).
        "summary": {
            "total-successful-session-count": part.successes,
            "total-failure-session-count": part.failures,
        },
    }
    if part.details:
        document["failure-details"] = [_detail(detail, n) for detail, n in part.details]
    return document


def _detail(detail: FailureDetail, times: int) -> dict[str, Any]:
    fields = {
        "result-type": str(detail.result_type),
        "sending-mta-ip": detail.sending_mta_ip,
        "receiving-mx-hostname": detail.receiving_mx_hostname,
        "receiving-mx-helo": detail.receiving_mx_helo,
        "receiving-ip": detail.receiving_ip,
        "additional-information": detail.additional_information,
        "failure-reason-code": detail.failure_reason_code,
    }
    # RFC 8460 §4.4: what has no meaning for a failure is left out, not filled (RPT-JSON-46).
    said: dict[str, Any] = {name: value for name, value in fields.items() if value}
    # RFC 8460 §4.4: an integer for each detail (RPT-JSON-27).
    said["failed-session-count"] = times
    return said


def find_faults(document: object) -> tuple[str, ...]:
    """What a writer must not do and this document does; each with its place.

    Args:
        document: Decoded JSON.
    """
    if not isinstance(document, Mapping):
        return ("/: not an object",)
    return (*_top_faults(document), *_text_faults(document))


def _text_faults(document: object) -> Iterator[str]:
    """Characters that I-JSON has no place for, and control characters, which nobody needs."""
    # A list of what is left instead of calls: a hostile document can be deeper than the stack.
    left: list[tuple[str, object]] = [("", document)]
    while left:
        place, value = left.pop()
        if isinstance(value, str):
            # RFC 7493 §2.1: no surrogates, no noncharacters (RPT-JSON-01).
            bad = NO_CHARACTER.search(value)
            if bad is not None:
                yield f"{place or '/'}: {quote(bad[0])} has no place in a report"
        elif isinstance(value, Mapping):
            left += [(place, name) for name in value]
            left += [(f"{place}/{_shown(name)}", member) for name, member in value.items()]
        elif isinstance(value, list):
            left += [(f"{place}/{number}", item) for number, item in enumerate(value)]


def _shown(value: object) -> str:
    """A value for a message: a plain word as it is, foreign text escaped, no structure."""
    if isinstance(value, str):
        return value if _MEMBER_NAME.fullmatch(value) else quote(value)
    if isinstance(value, Mapping | list):
        return "a structure"
    return quote(str(value))


def _top_faults(document: Mapping[str, Any]) -> Iterator[str]:
    for name in _TOP_STRINGS:
        if not isinstance(document.get(name), str) or not document[name]:
            yield f"/{name}: a string that is not empty is wanted"
    contact = document.get("contact-info")
    if isinstance(contact, str) and not is_addr_spec(contact):
        yield f"/contact-info: {quote(contact)} is no address"
    yield from _range_faults(document.get("date-range"))
    policies = document.get("policies")
    if not isinstance(policies, list):
        yield "/policies: an array is wanted"
        return
    for number, part in enumerate(policies):
        for fault in _part_faults(part):
            yield f"/policies/{number}{fault}"


def _range_faults(found: object) -> Iterator[str]:
    span = found if isinstance(found, Mapping) else {}
    for name in ("start-datetime", "end-datetime"):
        value = span.get(name)
        if not isinstance(value, str) or not DATE_TIME.fullmatch(value):
            # RFC 3339 §5.6: with an offset, and no hour 24 (RPT-JSON-04).
            yield f"/date-range/{name}: an RFC 3339 date-time with offset is wanted"


def _part_faults(part: object) -> Iterator[str]:
    if not isinstance(part, Mapping):
        yield ": an object is wanted"
        return
    # RFC 8460 §4.4: each part has both (RPT-JSON-09).
    policy, summary = part.get("policy"), part.get("summary")
    if isinstance(policy, Mapping):
        yield from _policy_faults(policy)
    else:
        yield "/policy: an object is wanted"
    totals = summary if isinstance(summary, Mapping) else {}
    for name in ("total-successful-session-count", "total-failure-session-count"):
        if not _is_count(totals.get(name)):
            # RFC 8460 §4.4: a JSON number, whole, not negative (RPT-JSON-22).
            yield f"/summary/{name}: a whole number is wanted"
    details = part.get("failure-details", [])
    if not isinstance(details, list):
        yield "/failure-details: an array is wanted"
        return
    for number, detail in enumerate(details):
        for fault in _detail_faults(detail, totals.get("total-failure-session-count")):
            yield f"/failure-details/{number}{fault}"


def _policy_faults(policy: Mapping[str, Any]) -> Iterator[str]:
    if policy.get("policy-type") not in list(PolicyType):
        # RFC 8460 §4.4: one of three words (RPT-JSON-10).
        yield f"/policy/policy-type: {_shown(policy.get('policy-type'))} is no policy type"
    domain = policy.get("policy-domain")
    if not isinstance(domain, str) or not is_mail_domain(domain):
        # RFC 8460 §4.4: present, in A-labels (RPT-JSON-15).
        yield "/policy/policy-domain: a domain in A-labels is wanted"
    for name in ("policy-string", "mx-host"):
        value = policy.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            yield f"/policy/{name}: an array of strings is wanted"
        elif name == "mx-host" and any(item.startswith("mx:") for item in value):
            # RFC 8460 §4.4: patterns, not the lines they are in (RPT-JSON-19).
            yield "/policy/mx-host: bare patterns are wanted, without `mx:`"


def _detail_faults(detail: object, total: object) -> Iterator[str]:
    if not isinstance(detail, Mapping):
        yield ": an object is wanted"
        return
    if detail.get("result-type") not in list(ResultType):
        # RFC 8460 §4.3: a registered type (RPT-JSON-30).
        yield f"/result-type: {_shown(detail.get('result-type'))} is not registered"
    for name in _ADDRESSES:
        value = detail.get(name)
        if name in detail and not (isinstance(value, str) and _is_plain_address(value)):
            # RFC 8460 §4.4: dotted IPv4, or IPv6 after RFC 5952 (RPT-JSON-47).
            yield f"/{name}: {_shown(value)} is no address in its one form"
    for name in _DETAIL_STRINGS:
        if not isinstance(detail.get(name, ""), str):
            yield f"/{name}: a string is wanted"
    count = detail.get("failed-session-count")
    if not _is_count(count):
        yield "/failed-session-count: a whole number is wanted"
    elif isinstance(total, int) and isinstance(count, int) and count > total:
        # RFC 8460 §4: the sum may be larger than the total, one kind may not (RPT-JSON-28).
        yield "/failed-session-count: larger than the total of the policy"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INTEGER


def _is_plain_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    # RFC 8460 §4.4: what has no meaning is left out, not filled (RPT-JSON-46).
    plain = str(address) == text and "%" not in text and not address.is_unspecified
    return plain and getattr(address, "ipv4_mapped", None) is None
