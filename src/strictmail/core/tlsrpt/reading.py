# SPDX-License-Identifier: Apache-2.0
"""Reports as others write them: read with the tolerances that real ones need, each one named.

What is tolerated is listed in `Quirk`, with who was seen to do it; what is not is a
ReportSyntaxError with its place. Unknown words (policy types, result types) are kept as they are:
the registries may grow (RPT-RCV-17). Bounds are those of whoever hands the octets over.

Spec: RFC 8460 §4.4; RFC 7493.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

from strictmail.core.errors import ReportSyntaxError
from strictmail.core.names import is_address
from strictmail.core.tagrecord import quote
from strictmail.core.tlsrpt.reportjson import MAX_INTEGER, parse_instant
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import WSP, clean_address, is_addr_spec

_LOOSE_DATE_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)([Tt ])(\d\d:\d\d)(:\d\d)?(\.\d+)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)
"""RFC 3339 §5.6, with the tolerances of `Quirk`."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

MAX_POLICIES: Final = 10_000
"""Policies of one report; a large receiver's has as many as it has MX hosts."""

MAX_DETAILS: Final = 100_000
"""Details of one policy."""


class Quirk(enum.StrEnum):
    """A departure from RFC 8460 that is read all the same."""

    BYTE_ORDER_MARK = "byte-order-mark"
    NO_ZONE = "no-zone"
    """A date-time without offset, read as UTC (Microsoft, 2023)."""
    DATE_TIME_FORM = "date-time-form"
    """A blank for the `T`, or no seconds."""
    HOUR_24 = "hour-24"
    """`24:00:00` for the next midnight."""
    END_IS_NEXT_MIDNIGHT = "end-is-next-midnight"
    """Allowed, and said since days are compared (Mail.ru)."""
    MEMBER_MISSING = "member-missing"
    """No name of an organization, no report id, or no result type."""
    CONTACT_MISSING = "contact-missing"
    """`contact-info` is null or absent (Stalwart)."""
    CONTACT_FORM = "contact-form"
    """`mailto:`, a display name, or no address at all."""
    MX_HOST_STRING = "mx-host-string"
    """A string, as in the RFC's own example (EID 6241)."""
    MX_HOST_LINE = "mx-host-line"
    """`mx: host` where the bare pattern belongs."""
    POLICY_STRING_TEXT = "policy-string-text"
    """One string instead of an array."""
    POLICY_STRING_JSON = "policy-string-json"
    """One string that holds a JSON array (Microsoft, tlsa)."""
    POLICY_TYPE_UNKNOWN = "policy-type-unknown"
    RESULT_TYPE_UNKNOWN = "result-type-unknown"
    COUNT_MISSING = "count-missing"
    """A total that is not there, read as 0: its writer left it out for nothing to count."""
    COUNT_STRING = "count-string"
    """A number in quotes."""
    ADDRESS_FORM = "address-form"
    """An address that is not in its one form, or is none."""
    NULL_MEMBER = "null-member"
    NO_POLICY_DOMAIN = "no-policy-domain"
    """Older tlsrpt-reporter for `no-policy-found`."""
    ADDITIONAL_INFO_URI = "additional-info-uri"
    """The name of the grammar, where `additional-information` belongs (§4.4)."""
    LONE_SURROGATE = "lone-surrogate"
    """Half a character, read as U+FFFD: RFC 7493 §2.1 forbids it."""
    DETAILS_ABOVE_TOTAL = "details-above-total"
    """One session can fail in several ways (Mail.ru)."""


@dataclass(frozen=True, slots=True)
class ReadDetail:
    """A failure detail; "" for what is not said."""

    result_type: str
    count: int
    sending_mta_ip: str = ""
    receiving_mx_hostname: str = ""
    receiving_mx_helo: str = ""
    receiving_ip: str = ""
    additional_information: str = ""
    failure_reason_code: str = ""


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """What is reported about one policy."""

    policy_type: str
    policy_domain: str
    policy_strings: tuple[str, ...]
    mx_hosts: tuple[str, ...]
    successes: int
    failures: int
    details: tuple[ReadDetail, ...]


@dataclass(frozen=True, slots=True)
class ReadReport:
    """A report of somebody else.

    Attributes:
        organization_name: "" if it says none.
        contact_info: As written; "" if there is none.
        report_id: Unique per reporter only.
        begin: Start of the range, UTC.
        end: End of the range, UTC.
        policies: In their order.
        quirks: What was tolerated, each once.
    """

    organization_name: str
    contact_info: str
    report_id: str
    begin: datetime
    end: datetime
    policies: tuple[ReadPolicy, ...]
    quirks: tuple[Quirk, ...] = ()


def read_report(data: bytes) -> ReadReport:
    """Read a report.

    Args:
        data: JSON, decompressed.

    Raises:
        ReportSyntaxError: It cannot be read; the message says where.
    """
    quirks: dict[Quirk, None] = {}
    if data.startswith(b"\xef\xbb\xbf"):
        quirks[Quirk.BYTE_ORDER_MARK] = None
        data = data[3:]
    try:
        # RFC 7493 §2.1: UTF-8, and nothing else that begins like JSON.
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        raise ReportSyntaxError(f"not JSON: {quote(str(error))}", place="/") from error
    return read_document(document, quirks)


def read_document(document: object, quirks: dict[Quirk, None] | None = None) -> ReadReport:
    """The same for JSON that is decoded already."""
    return _Reader({} if quirks is None else quirks).report(document)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # RFC 7493 §2.3: no repeated names: which one counts would be anybody's guess.
        raise ValueError("a member name stands twice in an object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    # RFC 7493 §2.2: neither NaN nor an infinity is a number.
    raise ValueError(f"{name} is no JSON")


class _Reader:
    """One pass over one document.

    What is not asked for is passed over (RPT-JSON-56); what is, in any form of `Quirk` (RPT-RCV-14,
    RPT-RCV-15).
    """

    def __init__(self, quirks: dict[Quirk, None]) -> None:
        self._quirks = quirks

    def report(self, document: object) -> ReadReport:
        top = self._object(document, "/")
        span = self._object(top.get("date-range"), "/date-range")
        begin = self._instant(span.get("start-datetime"), "/date-range/start-datetime")
        end = self._instant(span.get("end-datetime"), "/date-range/end-datetime")
        if end < begin:
            self._fail("/date-range", "ends before it begins")
        if begin.time() == end.time() and end > begin:
            self._note(Quirk.END_IS_NEXT_MIDNIGHT)
        parts = top.get("policies")
        if not isinstance(parts, list):
            # RFC 8460 §4: an array (RPT-JSON-08).
            self._fail("/policies", "an array is wanted")
        if len(parts) > MAX_POLICIES:
            self._fail("/policies", f"more than {MAX_POLICIES} policies")
        return ReadReport(
            organization_name=self._wanted(top, "organization-name", "/"),
            contact_info=self._contact(top),
            report_id=self._wanted(top, "report-id", "/"),
            begin=begin,
            end=end,
            policies=tuple(self._policy(part, f"/policies/{n}") for n, part in enumerate(parts)),
            quirks=tuple(self._quirks),
        )

    def _policy(self, found: object, place: str) -> ReadPolicy:
        part = self._object(found, place)
        policy = self._object(part.get("policy"), f"{place}/policy")
        summary = self._object(part.get("summary"), f"{place}/summary")
        policy_type = self._text(policy, "policy-type", f"{place}/policy")
        if policy_type not in set(PolicyType):
            self._note(Quirk.POLICY_TYPE_UNKNOWN)
        domain = self._text(policy, "policy-domain", f"{place}/policy")
        if not domain:
            self._note(Quirk.NO_POLICY_DOMAIN)
        failures = self._count(summary, "total-failure-session-count", f"{place}/summary")
        details = self._details(part.get("failure-details"), f"{place}/failure-details")
        if sum(detail.count for detail in details) > failures:
            self._note(Quirk.DETAILS_ABOVE_TOTAL)
        return ReadPolicy(
            policy_type=policy_type,
            policy_domain=domain,
            policy_strings=self._policy_strings(policy.get("policy-string"), f"{place}/policy"),
            mx_hosts=self._mx_hosts(policy.get("mx-host"), f"{place}/policy"),
            successes=self._count(summary, "total-successful-session-count", f"{place}/summary"),
            failures=failures,
            details=details,
        )

    def _details(self, found: object, place: str) -> tuple[ReadDetail, ...]:
        if found is None:
            # RFC 8460 §4.4 does not say whether it may be missing (RPT-JSON-09).
            return ()
        if not isinstance(found, list):
            self._fail(place, "an array is wanted")
        if len(found) > MAX_DETAILS:
            self._fail(place, f"more than {MAX_DETAILS} details")
        return tuple(self._detail(item, f"{place}/{n}") for n, item in enumerate(found))

    def _detail(self, found: object, place: str) -> ReadDetail:
        detail = self._object(found, place)
        information = self._text(detail, "additional-information", place)
        if not information and detail.get("additional-info-uri"):
            self._note(Quirk.ADDITIONAL_INFO_URI)
            information = self._text(detail, "additional-info-uri", place)
        result_type = self._wanted(detail, "result-type", place)
        if result_type and result_type not in set(ResultType):
            self._note(Quirk.RESULT_TYPE_UNKNOWN)
        return ReadDetail(
            result_type=result_type,
            count=self._count(detail, "failed-session-count", place),
            sending_mta_ip=self._address(detail, "sending-mta-ip", place),
            receiving_mx_hostname=self._text(detail, "receiving-mx-hostname", place),
            receiving_mx_helo=self._text(detail, "receiving-mx-helo", place),
            receiving_ip=self._address(detail, "receiving-ip", place),
            additional_information=information,
            failure_reason_code=self._text(detail, "failure-reason-code", place),
        )

    def _policy_strings(self, found: object, place: str) -> tuple[str, ...]:
        lines = self._strings(found, f"{place}/policy-string", Quirk.POLICY_STRING_TEXT)
        if len(lines) == 1 and lines[0].lstrip().startswith("["):
            try:
                inner = json.loads(lines[0])
            except (ValueError, RecursionError):
                return lines
            if isinstance(inner, list) and all(isinstance(line, str) for line in inner):
                self._note(Quirk.POLICY_STRING_JSON)
                return tuple(map(self._unicode, inner))
        return lines

    def _mx_hosts(self, found: object, place: str) -> tuple[str, ...]:
        patterns = self._strings(found, f"{place}/mx-host", Quirk.MX_HOST_STRING)
        bare = tuple(p[3:].strip(WSP) if p[:3].lower() == "mx:" else p for p in patterns)
        if bare != patterns:
            self._note(Quirk.MX_HOST_LINE)
        return bare

    def _strings(self, found: object, place: str, if_text: Quirk) -> tuple[str, ...]:
        if found is None:
            return ()
        if isinstance(found, str):
            self._note(if_text)
            return (self._unicode(found),)
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return tuple(map(self._unicode, found))
        return self._fail(place, "an array of strings is wanted")

    def _text(self, where: Mapping[str, Any], name: str, place: str) -> str:
        value = where.get(name, "")
        if value is None:
            self._note(Quirk.NULL_MEMBER)
            return ""
        if not isinstance(value, str):
            self._fail(f"{place.rstrip('/')}/{name}", "a string is wanted")
        return self._unicode(value)

    def _wanted(self, where: Mapping[str, Any], name: str, place: str) -> str:
        text = self._text(where, name, place)
        if not text:
            self._note(Quirk.MEMBER_MISSING)
        return text

    def _unicode(self, text: str) -> str:
        """The text as characters: half a one could be neither stored nor shown."""
        whole = _SURROGATE.sub("\ufffd", text)
        if whole != text:
            self._note(Quirk.LONE_SURROGATE)
        return whole

    def _contact(self, top: Mapping[str, Any]) -> str:
        contact = top.get("contact-info")
        if contact is None:
            self._note(Quirk.CONTACT_MISSING)
            return ""
        if not isinstance(contact, str):
            self._fail("/contact-info", "a string is wanted")
        if not is_addr_spec(contact):
            self._note(Quirk.CONTACT_FORM)
        return self._unicode(contact)

    def _address(self, where: Mapping[str, Any], name: str, place: str) -> str:
        text = self._text(where, name, place)
        cleaned = clean_address(text)
        if text and cleaned != text:
            self._note(Quirk.ADDRESS_FORM)
        return cleaned if is_address(cleaned) else text

    def _count(self, where: Mapping[str, Any], name: str, place: str) -> int:
        value = where.get(name)
        if value is None and name.startswith("total-"):
            self._note(Quirk.COUNT_MISSING)
            return 0
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:  # noqa: PLR2004 - 2**53 has 16 digits
            self._note(Quirk.COUNT_STRING)
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INTEGER:
            # RFC 8460 §4.4: a whole number that is not negative (RPT-JSON-22, RPT-RCV-16).
            self._fail(f"{place}/{name}", f"{quote(str(value))} is no count")
        return value

    def _instant(self, value: object, place: str) -> datetime:
        if not isinstance(value, str):
            self._fail(place, "a date-time is wanted")
        found = _LOOSE_DATE_TIME.fullmatch(value)
        if found is None:
            self._fail(place, f"{quote(value)} is no date-time")
        date, separator, time, seconds, rest, zone = found.groups(default="")
        if separator == " " or not seconds:
            self._note(Quirk.DATE_TIME_FORM)
        if not zone:
            # Microsoft, 2023 (RPT-RCV-15).
            self._note(Quirk.NO_ZONE)
        days = 0
        if (time, seconds.strip(":0"), rest.strip(".0")) == ("24:00", "", ""):
            self._note(Quirk.HOUR_24)
            time, days = "00:00", 1
        text = f"{date}T{time}{seconds or ':00'}{rest}{zone or 'Z'}"
        moment = parse_instant(text)
        if moment is None:
            self._fail(place, f"{quote(value)} is no date-time")
        try:
            return moment.astimezone(UTC) + timedelta(days=days)
        except OverflowError:
            self._fail(place, f"{quote(value)} is no date-time")

    def _object(self, found: object, place: str) -> Mapping[str, Any]:
        if not isinstance(found, Mapping):
            self._fail(place, "an object is wanted")
        return found

    def _note(self, quirk: Quirk) -> None:
        self._quirks[quirk] = None

    @staticmethod
    def _fail(place: str, message: str) -> NoReturn:
        raise ReportSyntaxError(f"{place}: {message}", place=place)
