# SPDX-License-Identifier: Apache-2.0
"""What senders may still hold from before: a policy of an earlier check, or of this machine's cache.

A policy binds the senders who fetched it until its `max_age` is over, whatever the domain
publishes now (RFC 8461 §5.1). Only what somebody is known to have seen is history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from strictmail.core.errors import PolicySyntaxError
from strictmail.core.sts.lifecycle import PolicyEntry, is_expired
from strictmail.core.sts.policy import parse_policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from strictmail.core.check.result import CheckResult


def entry_of(earlier: CheckResult) -> PolicyEntry | None:
    """The policy that an earlier check saw, as a sender would have cached it then.

    None where it saw no valid one.
    """
    if not earlier.sts.mode:
        return None
    body = "".join(f"{line}\r\n" for line in earlier.sts.policy_lines).encode()
    try:
        policy = parse_policy(body)
    except PolicySyntaxError:
        return None
    return PolicyEntry(
        policy_domain=earlier.domain,
        policy_id=earlier.sts.policy_id,
        policy=policy,
        body=body,
        fetched_at=earlier.checked_at,
        refresh_at=None,
        txt_check_at=earlier.checked_at,
        last_asked_at=earlier.checked_at,
    )


def latest(
    domain: str, now: datetime, *sources: Callable[[str], PolicyEntry | None]
) -> PolicyEntry | None:
    """The policy fetched last that has not expired, of all sources; None without one."""
    known = [entry for source in sources if (entry := source(domain)) is not None]
    living = [entry for entry in known if not is_expired(entry, now)]
    return max(living, key=lambda entry: entry.fetched_at, default=None)
