# SPDX-License-Identifier: Apache-2.0
"""What the rows of the session store hold, as values, and the statements that ask for them."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import FailureDetail, ReportedPolicy

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_EPOCH: Final = date(1970, 1, 1)

ROWS_OF: Final = (
    "SELECT policy_count.id, policy, successes, failures, unverified, "
    "detail_count.id, detail, session_count "
    "FROM policy_count JOIN policy_text ON policy_text.policy_count_id = policy_count.id "
    "LEFT JOIN detail_count ON detail_count.policy_count_id = policy_count.id "
    "LEFT JOIN detail_text ON detail_count_id = detail_count.id "
    "WHERE day_domain_id = ? ORDER BY policy_count.id, detail_count.id"
)
"""Policies and details of a domain and day; a policy without details has one row."""

PRUNE_COUNTS: Final = (
    (
        "DELETE FROM detail_text WHERE detail_count_id IN (SELECT detail_count.id FROM detail_count "
        "JOIN policy_count ON policy_count.id = policy_count_id "
        "JOIN day_domain ON day_domain.id = day_domain_id WHERE day < ?)"
    ),
    (
        "DELETE FROM detail_count WHERE policy_count_id IN (SELECT policy_count.id FROM policy_count "
        "JOIN day_domain ON day_domain.id = day_domain_id WHERE day < ?)"
    ),
    (
        "DELETE FROM policy_text WHERE policy_count_id IN (SELECT policy_count.id FROM policy_count "
        "JOIN day_domain ON day_domain.id = day_domain_id WHERE day < ?)"
    ),
    "DELETE FROM policy_count WHERE day_domain_id IN (SELECT id FROM day_domain WHERE day < ?)",
    "DELETE FROM source_count WHERE day_domain_id IN (SELECT id FROM day_domain WHERE day < ?)",
)
HAS_CLOSED: Final = "SELECT 1 FROM day_domain WHERE day = ? AND state = 1 LIMIT 1"

NOTE_LATE: Final = (
    "UPDATE day_domain SET late_count = late_count + ? WHERE id = ? AND state = 1 "
    "AND outcome IN ('reported', 'no-sessions', 'only-reports')"
)
"""Where the domain wants no reports, nobody misses anything."""


def day_number(day: date) -> int:
    """A day as the database has it."""
    return (day - _EPOCH).days


def day_at(number: int) -> date:
    """The same backwards."""
    return _EPOCH + timedelta(days=number)


def encode_policy(policy: ReportedPolicy) -> str:
    """A policy as one text."""
    return _compact(
        [
            str(policy.policy_type),
            policy.policy_domain,
            policy.policy_strings,
            policy.mx_host_patterns,
        ]
    )


def decode_policy(text: str) -> ReportedPolicy:
    """The same backwards."""
    policy_type, domain, strings, patterns = json.loads(text)
    return ReportedPolicy(PolicyType(policy_type), domain, tuple(strings), tuple(patterns))


def encode_detail(detail: FailureDetail) -> str:
    """A detail as one text."""
    return _compact(
        [
            str(detail.result_type),
            detail.sending_mta_ip,
            detail.receiving_mx_hostname,
            detail.receiving_mx_helo,
            detail.receiving_ip,
            detail.additional_information,
            detail.failure_reason_code,
        ]
    )


def decode_detail(text: str) -> FailureDetail:
    """The same backwards."""
    result_type, *rest = json.loads(text)
    return FailureDetail(ResultType(result_type), *rest)


def insert_detail(connection: sqlite3.Connection, policy_id: int, detail: FailureDetail) -> int:
    """Make the row of a detail, without a count; its id."""
    insert = "INSERT INTO detail_count (policy_count_id, session_count) VALUES (?, 0)"
    detail_id = connection.execute(insert, (policy_id,)).lastrowid
    assert detail_id is not None
    connection.execute("INSERT INTO detail_text VALUES (?, ?)", (detail_id, encode_detail(detail)))
    return detail_id


def _compact(value: Iterable[object]) -> str:
    return json.dumps(value, separators=(",", ":"))
