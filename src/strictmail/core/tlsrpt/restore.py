# SPDX-License-Identifier: Apache-2.0
"""A report of our own, read back from the octets that were stored: for its mail, and for people."""

from __future__ import annotations

import gzip
import zlib

from strictmail.core.tlsrpt.reading import ReadDetail, ReadPolicy, read_report
from strictmail.core.tlsrpt.report import Identity, PolicyReport, Report
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import FailureDetail, ReportedPolicy


def restore_report(content: bytes, domain: str, *, dropped_details: int = 0) -> Report:
    """Read a stored report back.

    Args:
        content: gzip, as `reportjson.compress_report` made it: nobody else's.
        domain: The recipient domain.
        dropped_details: As when it was made.

    Raises:
        ReportSyntaxError, OSError, ValueError: The stored octets are damaged.
    """
    try:
        text = gzip.decompress(content)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"broken gzip: {error}") from error
    found = read_report(text)
    return Report(
        identity=Identity(found.organization_name, found.contact_info),
        report_id=found.report_id,
        domain=domain,
        begin=found.begin,
        end=found.end,
        policies=tuple(map(_policy, found.policies)),
        dropped_details=dropped_details,
    )


def _policy(found: ReadPolicy) -> PolicyReport:
    policy = ReportedPolicy(
        PolicyType(found.policy_type), found.policy_domain, found.policy_strings, found.mx_hosts
    )
    details = tuple((_detail(detail), detail.count) for detail in found.details)
    return PolicyReport(policy, found.successes, found.failures, details)


def _detail(found: ReadDetail) -> FailureDetail:
    return FailureDetail(
        ResultType(found.result_type),
        sending_mta_ip=found.sending_mta_ip,
        receiving_mx_hostname=found.receiving_mx_hostname,
        receiving_mx_helo=found.receiving_mx_helo,
        receiving_ip=found.receiving_ip,
        additional_information=found.additional_information,
        failure_reason_code=found.failure_reason_code,
    )
