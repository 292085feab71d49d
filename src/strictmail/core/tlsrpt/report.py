# SPDX-License-Identifier: Apache-2.0
"""A report as a value: a UTC day of counts for one recipient domain, with all its policies.

The flow: `Counts` of a day → `build_report` → `reportjson.encode_report` → `message` or an
upload. The same counts and identity give the same report, octet for octet, so that a retry after
a crash is the same report again (RFC 8460 §5.3).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

from strictmail.core.tagrecord import quote
from strictmail.core.tlsrpt.results import PolicyType
from strictmail.core.tlsrpt.session import FailureDetail, is_addr_spec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from strictmail.core.tlsrpt.counts import DomainCounts, PolicyCounts
    from strictmail.core.tlsrpt.results import ResultType
    from strictmail.core.tlsrpt.session import ReportedPolicy

UNIQUE_CHARACTERS: Final = 16
"""Hex digits of the unique part of a report id."""

MAX_ORGANIZATION_CHARACTERS: Final = 200
"""Of the name of an organization, which is read by people."""

_TYPE_ORDER: Final = (PolicyType.TLSA, PolicyType.STS, PolicyType.NO_POLICY_FOUND)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who reports.

    Attributes:
        organization_name: For people.
        contact_info: An addr-spec (RFC 5322), whose domain is the submitter.
        installation: A word that differs between installations that report under one submitter.

    Raises:
        ValueError: The name is empty, long or not printable, or the contact is no address.
    """

    organization_name: str
    contact_info: str
    installation: str = ""

    def __post_init__(self) -> None:
        name = self.organization_name
        if not (name.strip() and name.isprintable() and len(name) <= MAX_ORGANIZATION_CHARACTERS):
            raise ValueError(
                f"the name of an organization is 1 to {MAX_ORGANIZATION_CHARACTERS} printable "
                f"characters, not {quote(name)}"
            )
        # RFC 8460 §4.4: an addr-spec (RPT-JSON-06).
        if not is_addr_spec(self.contact_info):
            raise ValueError(
                f"the contact of reports is an address such as tls-reports@example.com, "
                f"not {quote(self.contact_info)}"
            )

    @property
    def submitter(self) -> str:
        """The domain of `contact_info`, as in `TLS-Report-Submitter` (RFC 8460 §5.3)."""
        # RFC 8460 §5.3: equals the domain of contact-info (RPT-DLV-26).
        return self.contact_info.rpartition("@")[2].lower()


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """The part of a report about one policy.

    Attributes:
        policy: Which.
        successes: Sessions that satisfied it.
        failures: Sessions that did not.
        details: How, each with its count, the most frequent first.
    """

    policy: ReportedPolicy
    successes: int
    failures: int
    details: tuple[tuple[FailureDetail, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """One report.

    Attributes:
        identity: Who reports.
        report_id: Unique; in the form of a message id without brackets, so that body, subject
            and headers carry the same text (C-14).
        domain: The recipient domain whose record asked for it.
        begin: Start of the UTC day.
        end: Its last second.
        policies: In a stable order.
        dropped_details: Kinds of details not told apart to keep the size; their sessions are
            counted.
        dropped_texts: Policies whose text was left out to keep the size.
    """

    identity: Identity
    report_id: str
    domain: str
    begin: datetime
    end: datetime
    policies: tuple[PolicyReport, ...]
    dropped_details: int = 0
    dropped_texts: int = 0

    @property
    def unique_id(self) -> str:
        """Letters and digits only, as file names want it."""
        return self.report_id.partition("@")[0].rpartition(".")[2]

    @property
    def sessions(self) -> int:
        """Judgements in all: a session under two policies counts twice."""
        return sum(part.successes + part.failures for part in self.policies)


def build_report(day: date, domain: str, counts: DomainCounts, identity: Identity) -> Report | None:
    """Make the report of a day; None if there were no sessions to report.

    Spec: RFC 8460 §4.
    """
    policies = tuple(
        _policy_report(policy, found)
        for policy, found in sorted(counts.policies.items(), key=lambda item: _order(item[0]))
        if found.successes or found.failures
    )
    # RFC 8460 §4: nothing is sent about a day without sessions (RPT-DLV-07); one with successes
    # only is reported (RPT-JSON-25).
    if not policies:
        return None
    # RFC 8460 §4.1: a whole UTC day (RPT-JSON-05). Spec-silent: its end is its last second, as in
    # the RFC's example (C-20).
    begin = datetime.combine(day, time(), UTC)
    return Report(
        identity=identity,
        report_id=make_report_id(day, domain, identity),
        domain=domain,
        begin=begin,
        end=begin + timedelta(days=1, seconds=-1),
        policies=policies,
    )


def make_report_id(day: date, domain: str, identity: Identity) -> str:
    """The id of a report: the same for the same day, domain and reporter (RFC 8460 §5.3).

    Several destinations get the same report under the same id (RPT-JSON-07).
    """
    seed = f"{day.isoformat()}\n{domain}\n{identity.contact_info}\n{identity.installation}"
    unique = hashlib.sha256(seed.encode()).hexdigest()[:UNIQUE_CHARACTERS]
    return f"{day.isoformat()}.{domain}.{unique}@{identity.submitter}"


def with_unique_id(report: Report, unique_id: str) -> Report:
    """The same report under another unique id, or "" for none; a UUID loses its hyphens."""
    left, _, submitter = report.report_id.partition("@")
    # RFC 8460 §5.1: letters and digits only (RPT-DLV-13).
    plain = "".join(c for c in unique_id if c.isascii() and c.isalnum())
    return replace(report, report_id=f"{left.rpartition('.')[0]}.{plain}@{submitter}")


def drop_details(report: Report, keep: int) -> Report:
    """The same report with at most `keep` details for each policy told apart, and a note of the rest.

    Totals stay: what is dropped is the distinction (RFC 8460 §5.2, RPT-DLV-16). Beyond `keep`,
    details of a type are one, so that a failure still has a detail (RPT-JSON-09).
    """
    dropped = sum(max(0, len(part.details) - keep) for part in report.policies)
    policies = tuple(_drop_from(part, keep) for part in report.policies)
    return replace(report, policies=policies, dropped_details=report.dropped_details + dropped)


def drop_texts(report: Report) -> Report:
    """The same report without the texts of its policies, and a note of how many there were."""
    policies = tuple(
        replace(part, policy=replace(part.policy, policy_strings=(), mx_host_patterns=()))
        for part in report.policies
    )
    dropped = sum(old != new for old, new in zip(report.policies, policies, strict=True))
    return replace(report, policies=policies, dropped_texts=report.dropped_texts + dropped)


def _drop_from(part: PolicyReport, keep: int) -> PolicyReport:
    rest: dict[ResultType, list[int]] = {}
    for detail, times in part.details[keep:]:
        rest.setdefault(detail.result_type, []).append(times)
    if not rest:
        return part
    blunt = tuple(
        (
            FailureDetail(
                result_type, failure_reason_code=f"kinds not told apart here: {len(numbers)}"
            ),
            sum(numbers),
        )
        for result_type, numbers in rest.items()
    )
    return replace(part, details=_sort_details((*part.details[:keep], *blunt)))


def most_details(report: Report) -> int:
    """The largest number of details of any policy."""
    return max((len(part.details) for part in report.policies), default=0)


def _order(policy: ReportedPolicy) -> tuple[int, str, tuple[str, ...], tuple[str, ...]]:
    return (
        _TYPE_ORDER.index(policy.policy_type),
        policy.policy_domain,
        policy.policy_strings,
        policy.mx_host_patterns,
    )


def _policy_report(policy: ReportedPolicy, counts: PolicyCounts) -> PolicyReport:
    details = _sort_details(counts.details.items())
    return PolicyReport(policy, counts.successes, counts.failures, details)


def _sort_details(
    details: Iterable[tuple[FailureDetail, int]],
) -> tuple[tuple[FailureDetail, int], ...]:
    return tuple(sorted(details, key=lambda item: (-item[1], _detail_order(item[0]))))


def _detail_order(detail: FailureDetail) -> tuple[str, ...]:
    return (
        str(detail.result_type),
        detail.receiving_mx_hostname,
        detail.receiving_ip,
        detail.sending_mta_ip,
        detail.receiving_mx_helo,
        detail.failure_reason_code,
        detail.additional_information,
    )
