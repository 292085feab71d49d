# SPDX-License-Identifier: Apache-2.0
"""Entries to store, and both stores to keep them in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import pytest

from strictmail.core.sts.lifecycle import PolicyEntry
from strictmail.core.sts.policy import parse_policy
from strictmail.store.memory import MemoryPolicyStore
from strictmail.store.policies import SqlitePolicyStore

if TYPE_CHECKING:
    from pathlib import Path

Store: TypeAlias = SqlitePolicyStore | MemoryPolicyStore
MakeEntry: TypeAlias = Callable[..., PolicyEntry]

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def build_entry(
    domain: str = "example.com",
    *,
    body: bytes | None = None,
    mode: str = "enforce",
    max_age: int = 604_800,
    fetched_at: datetime = NOON,
    **fields: object,
) -> PolicyEntry:
    """An entry as after a fetch."""
    if body is None:
        body = (
            f"version: STSv1\r\nmode: {mode}\r\nmx: mx.{domain}\r\nmax_age: {max_age}\r\n".encode()
        )
    values: dict[str, object] = {
        "policy_domain": domain,
        "policy_id": "20260101",
        "policy": parse_policy(body),
        "body": body,
        "fetched_at": fetched_at,
        "refresh_at": fetched_at + timedelta(days=1),
        "txt_check_at": fetched_at + timedelta(hours=1),
        "last_asked_at": fetched_at,
    }
    return PolicyEntry(**(values | fields))  # type: ignore[arg-type]


@pytest.fixture
def make_entry() -> MakeEntry:
    return build_entry


@pytest.fixture
def noon() -> datetime:
    return NOON


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policies.sqlite3"


@pytest.fixture
def sqlite_store(path: Path) -> Iterator[SqlitePolicyStore]:
    store = SqlitePolicyStore(path)
    yield store
    store.close()


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    """Each test that takes this runs against the real store and against the fake."""
    opened: Store = SqlitePolicyStore(path) if request.param == "sqlite" else MemoryPolicyStore()
    yield opened
    opened.close()
