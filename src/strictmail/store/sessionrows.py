# SPDX-License-Identifier: Apache-2.0
"""What the rows of the session store hold: days as numbers, policies and details as texts."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import FailureDetail, ReportedPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable

_EPOCH: Final = date(1970, 1, 1)


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


def _compact(value: Iterable[object]) -> str:
    return json.dumps(value, separators=(",", ":"))
