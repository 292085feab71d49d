# SPDX-License-Identifier: Apache-2.0
"""State directories that hold many cached policies, written through the policy store itself.

Every domain has a policy of its own text, which is the worst case: the store keeps each text once.
"""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from strictmail.core.sts import lifecycle
from strictmail.core.sts.policy import parse_policy
from strictmail.core.sts.values import FetchedPolicy
from strictmail.store.policies import FILE_NAME, SqlitePolicyStore

if TYPE_CHECKING:
    from pathlib import Path

    from common import Settings

    from strictmail.core.sts.lifecycle import PolicyEntry

PAGE = 20_000
TXT_TTL_SECONDS = 3600


def domain(number: int) -> str:
    """The name of a stored domain; the benchmark's DNS knows it too."""
    return f"p{number:07d}.test"


def filled(settings: Settings, count: int) -> Path:
    """A state directory with this many policies; made at the first call."""
    state = settings.work / f"state-{count}"
    if state.exists():
        return state
    state.mkdir()
    started = time.monotonic()
    store = SqlitePolicyStore(state / FILE_NAME)
    now = datetime.now(UTC)
    for first in range(0, count, PAGE):
        store.save([_entry(i, now) for i in range(first, min(first + PAGE, count))])
    store.close()
    print(f"  stored {count:,} policies in {time.monotonic() - started:.0f} s", flush=True)
    return state


def _entry(number: int, now: datetime) -> PolicyEntry:
    name = domain(number)
    body = (
        f"version: STSv1\r\nmode: enforce\r\nmx: mx1.{name}\r\nmx: mx2.{name}\r\n"
        "max_age: 604800\r\n"
    ).encode()
    return lifecycle.apply_fetched(
        None,
        policy_domain=name,
        policy_id="20260101000000Z",
        fetched=FetchedPolicy(parse_policy(body), body),
        # Some minutes old, as in a cache that was filled bit by bit.
        now=now - timedelta(seconds=number % 300),
        txt_ttl_seconds=TXT_TTL_SECONDS,
        jitter=number % 97 / 97,
    )


def bytes_per_domain(state: Path, count: int) -> float:
    """What a stored policy takes on disk, with its share of indexes and free pages."""
    path = state / FILE_NAME
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return sum(file.stat().st_size for file in state.glob(f"{FILE_NAME}*")) / count
