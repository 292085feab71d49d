# SPDX-License-Identifier: Apache-2.0
"""Any octets are a report or ReportSyntaxError, and what was read can be stored and added up.

Nothing else is raised. Counts are whole and within I-JSON, the range does not end before it
begins, texts hold no half characters, tolerances are named once each. A document in which the
rules for writers find no fault is read, without a tolerance that a writer could have avoided.
"""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

from harness import instrumented, run

with instrumented():
    from strictmail.core.errors import ReportSyntaxError
    from strictmail.core.tlsrpt.reading import Quirk, ReadPolicy, read_report
    from strictmail.core.tlsrpt.reportjson import MAX_INTEGER, find_faults

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLES = Path(__file__).resolve().parent.parent / "tests" / "data" / "reports"

ALLOWED = frozenset(
    {
        Quirk.ADDITIONAL_INFO_URI,
        Quirk.DETAILS_ABOVE_TOTAL,
        Quirk.END_IS_NEXT_MIDNIGHT,
        Quirk.POLICY_STRING_JSON,
    }
)
"""What a reader notes of documents that no rule for writers forbids."""


def seeds() -> Iterator[bytes]:
    """A report for each tolerance."""
    for path in sorted(SAMPLES.glob("*.json")):
        yield path.read_bytes()


def check(data: bytes) -> None:
    """Raise if the invariant is broken."""
    try:
        report = read_report(data)
    except ReportSyntaxError as error:
        _check_error(error)
        assert not _is_faultless(data)
        return
    assert report == read_report(data)
    assert report.begin <= report.end
    assert report.begin.tzinfo is report.end.tzinfo is UTC
    assert len(set(report.quirks)) == len(report.quirks)
    for text in (report.organization_name, report.contact_info, report.report_id):
        text.encode()
    for policy in report.policies:
        _check_policy(policy)
    if _is_faultless(data):
        assert ALLOWED.issuperset(report.quirks), report.quirks


def _check_error(error: ReportSyntaxError) -> None:
    assert error.place.startswith("/")
    assert str(error).isascii()
    assert str(error).isprintable()


def _check_policy(policy: ReadPolicy) -> None:
    counts = [policy.successes, policy.failures, *(detail.count for detail in policy.details)]
    assert all(type(count) is int and 0 <= count <= MAX_INTEGER for count in counts)
    "".join((policy.policy_type, policy.policy_domain, *policy.policy_strings)).encode()
    for detail in policy.details:
        f"{detail.result_type}{detail.receiving_ip}{detail.additional_information}".encode()


def _is_faultless(data: bytes) -> bool:
    """Whether it is JSON, without repeated names, that a writer may have written."""
    repeated = False

    def look(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal repeated
        repeated = repeated or len(dict(pairs)) != len(pairs)
        return dict(pairs)

    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=look)
    except (ValueError, RecursionError):
        return False
    return not repeated and find_faults(document) == ()


if __name__ == "__main__":
    run(check, seeds())
