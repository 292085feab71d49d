# SPDX-License-Identifier: Apache-2.0
"""A report as JSON: written strictly, and any document held against the rules for writers.

Spec: RFC 8460 §4.4, RFC 7493 (I-JSON). `find_faults` is what a writer must not do; it is run on
every report before it is stored, and says where and what. What a reader puts up with is another
matter (`strictmail.core.tlsrpt.reading`).
"""

from __future__ import annotations

import gzip
import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from strictmail.core.errors import DomainSyntaxError
from strictmail.core.names import fold, parse_domain
from strictmail.core.tagrecord import quote
from strictmail.core.tlsrpt.report import drop_details, drop_texts, most_details
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import (
    IPV4,
    NO_CHARACTER,
    clean_tlsa,
    is_addr_spec,
    is_mail_domain,
    policy_patterns,
)

if TYPE_CHECKING:
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

_POLICY_TYPES: Final = tuple(PolicyType)
_RESULT_TYPES: Final = tuple(ResultType)

_Place: TypeAlias = "tuple[()] | tuple[_Place, object]"
"""Where something is in a document: its parent's place, and its name there."""

_PLAIN: Final = re.compile(rb"[ -\[\]-~]*")
"""JSON whose strings are of printable ASCII, none of it escaped."""

_ADDRESSES: Final = ("sending-mta-ip", "receiving-ip")
_TOP_STRINGS: Final = ("organization-name", "contact-info", "report-id")
_KEY: Final = (
    "result-type",
    "sending-mta-ip",
    "receiving-mx-hostname",
    "receiving-mx-helo",
    "receiving-ip",
    "additional-information",
    "failure-reason-code",
)
"""What tells two details apart."""

_DETAIL_STRINGS: Final = tuple(name for name in _KEY if name not in ("result-type", *_ADDRESSES))


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
    # RFC 8460 §4.4: all top-level members, always (RPT-JSON-02, RPT-JSON-03); here and below, the
    # names of the schema, not those of its grammar (RPT-JSON-21).
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


def find_faults_in_text(text: bytes) -> tuple[str, ...]:
    """The same for a report that `encode_report` wrote, much faster."""
    document = json.loads(text)
    if _PLAIN.fullmatch(text):
        # Printable ASCII without escapes says nothing else.
        return tuple(_top_faults(document))
    return find_faults(document)


def _text_faults(document: object) -> Iterator[str]:
    """Characters and numbers that I-JSON has no place for, and control characters."""
    # A list of what is left instead of calls: a hostile document can be deeper than the stack.
    left: list[tuple[_Place, object]] = [((), document)]
    while left:
        place, value = left.pop()
        if isinstance(value, str):
            # RFC 7493 §2.1: no surrogates, no noncharacters (RPT-JSON-01).
            bad = None if value.isprintable() else NO_CHARACTER.search(value)
            if bad is not None:
                yield f"{_path(place)}: {quote(bad[0])} has no place in a report"
        elif isinstance(value, int | float) and not abs(value) <= MAX_INTEGER:
            # RFC 7493 §2.2: no number that others read as another one (RPT-JSON-01).
            yield f"{_path(place)}: a number of at most 2**53-1 is wanted"
        elif isinstance(value, Mapping):
            left += [(place, name) for name in value]
            left += [((place, name), member) for name, member in value.items()]
        elif isinstance(value, list):
            left += [((place, number), item) for number, item in enumerate(value)]


def _path(place: _Place) -> str:
    """A place in words: made only where there is a fault."""
    names: list[str] = []
    while place:
        place, name = place
        names.append(str(name) if isinstance(name, int) else _shown(name))
    return "/" + "/".join(reversed(names))


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
    instants = []
    for name in ("start-datetime", "end-datetime"):
        instant = parse_instant(span.get(name))
        if instant is None:
            # RFC 3339 §5.6: with an offset, and no hour 24 (RPT-JSON-04).
            yield f"/date-range/{name}: an RFC 3339 date-time with offset is wanted"
        else:
            instants.append(instant)
    if instants != sorted(instants):
        yield "/date-range: it ends before it begins"


def parse_instant(text: object) -> datetime | None:
    """A date-time of RFC 3339 §5.6, with its offset; None for what is none."""
    if not isinstance(text, str) or not DATE_TIME.fullmatch(text):
        return None
    # RFC 3339 §5.7: a leap second is a time; here, the second before it.
    plain = text.upper().replace(":60", ":59", 1) if text[17:19] == "60" else text.upper()
    try:
        return datetime.fromisoformat(plain)
    except ValueError:
        return None


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
        for fault in _detail_faults(detail):
            yield f"/failure-details/{number}{fault}"
    yield from _sum_faults(details, totals.get("total-failure-session-count"))


def _sum_faults(details: list[Any], total: object) -> Iterator[str]:
    """Details against each other, and against the total."""
    by_type: Counter[str] = Counter()
    keys: Counter[object] = Counter()
    for detail in filter(lambda found: isinstance(found, Mapping), details):
        keys[_identity(detail)] += 1
        if _is_count(detail.get("failed-session-count")):
            by_type[str(detail.get("result-type"))] += detail["failed-session-count"]
    if any(times > 1 for times in keys.values()):
        # RFC 8460 §4: the same ones are one, with their sum (RPT-JSON-29).
        yield "/failure-details: two that differ in their counts only are one"
    for result_type, count in by_type.items():
        if _is_count(total) and isinstance(total, int) and count > total:
            # RFC 8460 §4: sessions can fail in several ways, not in one way twice (RPT-JSON-28).
            yield f"/failure-details: {_shown(result_type)} occurs more often than sessions failed"


def _identity(detail: Mapping[str, Any]) -> object:
    """Equal for details that differ in their counts only."""
    named = tuple(detail.get(name, _KEY) for name in _KEY)
    if all(isinstance(value, str) or value is _KEY for value in named):
        return named
    return json.dumps({name: detail[name] for name in _KEY if name in detail}, default=str)


def _policy_faults(policy: Mapping[str, Any]) -> Iterator[str]:
    if policy.get("policy-type") not in _POLICY_TYPES:
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
        elif name == "mx-host" and any(item.lower().startswith("mx:") for item in value):
            # RFC 8460 §4.4: patterns, not the lines they are in (RPT-JSON-19).
            yield "/policy/mx-host: bare patterns are wanted, without `mx:`"
        elif name == "policy-string":
            yield from _text_of_policy_faults(policy, value)


def _text_of_policy_faults(policy: Mapping[str, Any], lines: list[str]) -> Iterator[str]:
    match policy.get("policy-type"):
        case PolicyType.STS if policy_patterns(lines) and not policy.get("mx-host"):
            # RFC 8460 §4.4: the patterns of the policy (RPT-JSON-18).
            yield "/policy/mx-host: the patterns of the policy are wanted"
        case PolicyType.TLSA if any(clean_tlsa(line).lower() != line.lower() for line in lines):
            # RFC 8460 §4.5: single blanks between four fields, none inside (RPT-JSON-13).
            yield "/policy/policy-string: TLSA records are wanted as `3 1 1 AB12`"


def _detail_faults(detail: object) -> Iterator[str]:
    if not isinstance(detail, Mapping):
        yield ": an object is wanted"
        return
    if detail.get("result-type") not in _RESULT_TYPES:
        # RFC 8460 §4.3: a registered type (RPT-JSON-30).
        yield f"/result-type: {_shown(detail.get('result-type'))} is not registered"
    for name in _ADDRESSES:
        value = detail.get(name)
        if name in detail and not (isinstance(value, str) and _is_plain_address(value)):
            # RFC 8460 §4.4: dotted IPv4, or IPv6 after RFC 5952 (RPT-JSON-47).
            yield f"/{name}: {_shown(value)} is no address in its one form"
    for name in _DETAIL_STRINGS:
        if name in detail and (not isinstance(detail[name], str) or not detail[name].strip()):
            # RFC 8460 §4.4: left out, not empty (RPT-JSON-46).
            yield f"/{name}: a string that is not empty is wanted"
    host = detail.get("receiving-mx-hostname")
    if isinstance(host, str) and host and not _is_host_name(host):
        # RFC 8460 §4.4: the name of the MX record (RPT-JSON-48).
        yield f"/receiving-mx-hostname: {quote(host)} is no host name in A-labels"
    if not _is_count(detail.get("failed-session-count")):
        # RFC 8460 §4.4: a number for each (RPT-JSON-27).
        yield "/failed-session-count: a whole number is wanted"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INTEGER


def _is_host_name(text: str) -> bool:
    try:
        return parse_domain(text) == fold(text)
    except DomainSyntaxError:
        return False


def _is_plain_address(text: str) -> bool:
    if IPV4.fullmatch(text):
        return text != "0.0.0.0"  # noqa: S104 - RPT-JSON-46
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    # RFC 8460 §4.4: what has no meaning is left out, not filled (RPT-JSON-46).
    plain = str(address) == text and "%" not in text and not address.is_unspecified
    return plain and getattr(address, "ipv4_mapped", None) is None
