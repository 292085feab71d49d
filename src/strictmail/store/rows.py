# SPDX-License-Identifier: Apache-2.0
"""A cached policy as a row, and back.

The row holds the policy as served; what it means is found out by parsing it again at each load,
with the one parser there is. The columns `mode` and `expires_at` are for queries only.

Instants are kept in whole seconds, rounded so that nothing lasts longer and nothing is tried
earlier than was decided: `fetched_at` (and with it the expiry), `last_asked_at` and
`failing_since` down, `refresh_at` and `txt_check_at` up.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from strictmail.core.errors import PolicySyntaxError, StoreUnavailableError
from strictmail.core.overrides import Override, OverrideAction
from strictmail.core.sts.lifecycle import PolicyEntry, is_expired
from strictmail.core.sts.policy import parse_policy
from strictmail.core.sts.values import FetchFailure, Mode, StsPolicy
from strictmail.core.tlsrpt.results import ResultType

EXPIRED_GRACE: Final = timedelta(days=7)
"""How long an expired policy is kept, without effect, so that `explain` can tell of it."""

MODE_CODES: Final = {Mode.NONE: 0, Mode.TESTING: 1, Mode.ENFORCE: 2}

MAX_SHARED_BODY_BYTES: Final = 1024
"""Parsed policies of up to this size are shared by the entries that have the same text: hosted
domains do. Real policies have some 100 to 300 octets; 1,024 texts of 1 KiB take about 4 MiB."""

SqlValue: TypeAlias = str | int | bytes | None


class PolicyRow(NamedTuple):
    """The columns of table `policy`, less its keys, in the order of its INSERT."""

    domain: str
    policy_id: str
    mode: int
    fetched_at: int
    expires_at: int
    refresh_at: int | None
    txt_check_at: int
    last_asked_at: int
    failing_since: int | None
    failure_count: int
    failure_type: str | None
    failure_reason: str | None
    failure_code: str | None
    failure_lines: str | None


STORED_COLUMNS: Final = (
    "domain, policy_id, fetched_at, refresh_at, txt_check_at, last_asked_at, failing_since, "
    "failure_count, failure_type, failure_reason, failure_code, failure_lines, content"
)
"""What `decode_entry` takes, in this order."""


def second_down(instant: datetime) -> int:
    """Seconds since 1970, rounded down."""
    return math.floor(instant.timestamp())


def second_up(instant: datetime) -> int:
    """Seconds since 1970, rounded up."""
    return math.ceil(instant.timestamp())


def instant_at(seconds: int) -> datetime:
    """The instant, aware UTC."""
    return datetime.fromtimestamp(seconds, UTC)


@lru_cache(maxsize=1024)
def _parse_shared(body: bytes) -> tuple[bytes, StsPolicy]:
    return body, parse_policy(body)


def parse_stored(body: bytes) -> tuple[bytes, StsPolicy]:
    """Parse a policy as served; the same body and policy objects for the same small text.

    Raises:
        PolicySyntaxError: As `parse_policy`.
    """
    # RFC 8461 §3.2: one parser for fetch, cache and display, on the same octets (SEC-41).
    return _parse_shared(body) if len(body) <= MAX_SHARED_BODY_BYTES else (body, parse_policy(body))


def _storable(text: str) -> str:
    """Text without lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def encode_entry(entry: PolicyEntry) -> PolicyRow:
    """Put an entry into a row; the body travels beside it."""
    fetched_at = second_down(entry.fetched_at)
    failure = entry.failure
    return PolicyRow(
        domain=entry.policy_domain,
        policy_id=entry.policy_id,
        mode=MODE_CODES[entry.policy.mode],
        fetched_at=fetched_at,
        expires_at=fetched_at + entry.policy.max_age,
        refresh_at=None if entry.refresh_at is None else second_up(entry.refresh_at),
        txt_check_at=second_up(entry.txt_check_at),
        last_asked_at=second_down(entry.last_asked_at),
        failing_since=None if entry.failing_since is None else second_down(entry.failing_since),
        failure_count=entry.failure_count,
        failure_type=failure.result_type.value if failure else None,
        failure_reason=_storable(failure.reason) if failure else None,
        failure_code=_storable(failure.reason_code) if failure else None,
        failure_lines=json.dumps(failure.lines) if failure and failure.lines else None,
    )


def stored_columns(row: PolicyRow, body: bytes) -> tuple[SqlValue, ...]:
    """What STORED_COLUMNS would select of a row with this body."""
    return (*row[:2], row.fetched_at, *row[5:], body)


def decode_entry(columns: tuple[SqlValue, ...]) -> PolicyEntry:
    """Make an entry of STORED_COLUMNS.

    Raises:
        StoreUnavailableError: The row cannot be understood: what the domain demands is not
            known. Never to be taken for "no policy".
    """
    domain = str(columns[0])
    try:
        return _decode(*columns)  # type: ignore[arg-type]
    except PolicySyntaxError as error:
        raise StoreUnavailableError(
            f"the stored policy of {domain} cannot be read: {error}; "
            f"fetch it again: strictmail cache refresh {domain}"
        ) from error
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise StoreUnavailableError(
            f"the stored entry of {domain} is damaged; "
            f"fetch it again: strictmail cache refresh {domain}"
        ) from error


def _decode(
    domain: str,
    policy_id: str,
    fetched_at: int,
    refresh_at: int | None,
    txt_check_at: int,
    last_asked_at: int,
    failing_since: int | None,
    failure_count: int,
    failure_type: str | None,
    failure_reason: str | None,
    failure_code: str | None,
    failure_lines: str | None,
    content: bytes,
) -> PolicyEntry:
    body, policy = parse_stored(content)
    failure = None
    if failure_type is not None:
        lines = tuple(json.loads(failure_lines)) if failure_lines else ()
        result_type = ResultType(failure_type)
        failure = FetchFailure(result_type, failure_reason or "", failure_code or "", lines)
    return PolicyEntry(
        policy_domain=domain,
        policy_id=policy_id,
        policy=policy,
        body=body,
        fetched_at=instant_at(fetched_at),
        refresh_at=None if refresh_at is None else instant_at(refresh_at),
        txt_check_at=instant_at(txt_check_at),
        last_asked_at=instant_at(last_asked_at),
        failing_since=None if failing_since is None else instant_at(failing_since),
        failure_count=failure_count,
        failure=failure,
    )


def may_prune(entry: PolicyEntry, now: datetime, idle_before: datetime) -> bool:
    """Whether an entry can go: expired for good, or expired and no longer asked for."""
    # RFC 8461 §10.2: nothing evicts a policy that has not expired (STS-FET-44).
    if not is_expired(entry, now):
        return False
    return entry.last_asked_at < idle_before or is_expired(entry, now - EXPIRED_GRACE)


def encode_override(override: Override) -> tuple[SqlValue, ...]:
    """Put an override into the columns of its table."""
    return (
        override.nexthop,
        override.action.value,
        json.dumps(override.mx_patterns),
        _storable(override.reason),
        second_down(override.created_at),
        second_down(override.expires_at),
    )


def decode_override(columns: tuple[SqlValue, ...]) -> Override:
    """Make an override of the columns of its table.

    Raises:
        StoreUnavailableError: The row cannot be understood.
    """
    nexthop, action, mx_patterns, reason, created_at, expires_at = columns
    try:
        return Override(
            nexthop=str(nexthop),
            action=OverrideAction(action),  # type: ignore[arg-type]
            reason=str(reason),
            created_at=instant_at(created_at),  # type: ignore[arg-type]
            expires_at=instant_at(expires_at),  # type: ignore[arg-type]
            mx_patterns=tuple(json.loads(mx_patterns)),  # type: ignore[arg-type]
        )
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise StoreUnavailableError(
            f"the stored override of {nexthop!r} is damaged; set it again: "
            "strictmail policy override add"
        ) from error
