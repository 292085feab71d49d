# SPDX-License-Identifier: Apache-2.0
"""The policy store without a disk: for tests and the lab; what it holds ends with the process.

Rows are encoded and parsed exactly as on disk, so that nothing works here that does not there.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from strictmail.core.sts.lifecycle import PolicyEntry, is_expired, warns_when_failing
from strictmail.store.policies import SqlitePolicyStore
from strictmail.store.registrable import registrable_domain
from strictmail.store.requests import Request, RequestKind, RequestState
from strictmail.store.rows import (
    PolicyRow,
    decode_entry,
    decode_override,
    encode_entry,
    encode_override,
    may_prune,
    second_down,
    stored_columns,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from strictmail.core.overrides import Override
    from strictmail.core.sts.values import Mode


class MemoryPolicyStore:
    """`ports.PolicyStore` in a dictionary. One thread writes; others may read meanwhile."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[PolicyRow, bytes]] = {}
        self._overrides: dict[str, Override] = {}
        self._requests: dict[int, tuple[Request, RequestState]] = {}
        self._last_number = 0

    @property
    def writable(self) -> bool:
        """Always."""
        return True

    def load(self, policy_domain: str) -> PolicyEntry | None:
        """Read one entry."""
        stored = self._rows.get(policy_domain)
        return None if stored is None else decode_entry(stored_columns(*stored))

    def save(self, entries: Iterable[PolicyEntry]) -> None:
        """Insert or replace, all or none."""
        rows = [(encode_entry(entry), entry.body) for entry in entries]
        self._rows.update((row.domain, (row, body)) for row, body in rows)

    def save_newer(self, entries: Iterable[PolicyEntry]) -> int:
        """Insert or replace those fetched later than what is there; how many were."""
        newer = [e for e in entries if self._is_newer(encode_entry(e))]
        self.save(newer)
        return len(newer)

    def touch(self, asked: Iterable[tuple[str, datetime]]) -> None:
        """Note when domains were last asked for; those that have no entry are passed over."""
        for domain, instant in asked:
            if domain in self._rows:
                row, body = self._rows[domain]
                latest = max(row.last_asked_at, second_down(instant))
                self._rows[domain] = (row._replace(last_asked_at=latest), body)

    def remove(self, policy_domains: Iterable[str]) -> int:
        """Delete; the number of entries that existed."""
        return sum(self._rows.pop(domain, None) is not None for domain in policy_domains)

    def due(self, now: datetime, limit: int) -> list[PolicyEntry]:
        """Entries whose `refresh_at` has come, earliest first."""
        waiting = [(e.refresh_at, e) for e in self._entries() if e.refresh_at is not None]
        due = [pair for pair in waiting if pair[0] <= now]
        return [entry for _, entry in sorted(due, key=lambda pair: pair[0])[:limit]]

    def failing(self, now: datetime) -> list[PolicyEntry]:
        """Unexpired entries whose last fetch failed, earliest expiry first; never mode none."""
        failing = [e for e in self._entries() if warns_when_failing(e) and not is_expired(e, now)]
        return sorted(failing, key=lambda entry: entry.expires_at)

    def count_failing(self, now: datetime) -> tuple[int, datetime | None]:
        """How many `failing` would list, and the earliest expiry."""
        entries = self.failing(now)
        return len(entries), entries[0].expires_at if entries else None

    def iterate(self, *, after: str = "", limit: int = 1000) -> list[PolicyEntry]:
        """A page of entries in order of domain, those behind `after`."""
        return self.find(after=after, limit=limit)

    def find(
        self,
        *,
        mode: Mode | None = None,
        expires_before: datetime | None = None,
        after: str = "",
        limit: int = 1000,
    ) -> list[PolicyEntry]:
        """As `iterate`, only entries of a mode, and those that expire before an instant."""
        found = [
            entry
            for entry in self._entries()
            if entry.policy_domain > after
            and (mode is None or entry.policy.mode is mode)
            and (expires_before is None or entry.expires_at < expires_before)
        ]
        return sorted(found, key=lambda entry: entry.policy_domain)[:limit]

    def count(self) -> int:
        """How many entries there are."""
        return len(self._rows)

    def count_registrable(self, registrable_domain: str) -> int:
        """How many entries share this registrable domain."""
        return sum(_owner(domain) == registrable_domain for domain in list(self._rows))

    def prune(self, now: datetime, idle_before: datetime) -> int:
        """Delete what expired long ago, or expired and was not asked for of late."""
        gone = [e.policy_domain for e in self._entries() if may_prune(e, now, idle_before)]
        return self.remove(gone)

    def overrides(self) -> list[Override]:
        """All overrides in order of next-hop, expired ones too."""
        return [self._overrides[nexthop] for nexthop in sorted(self._overrides)]

    def save_override(self, override: Override) -> None:
        """Insert or replace."""
        self._overrides[override.nexthop] = decode_override(encode_override(override))

    def remove_override(self, nexthop: str) -> bool:
        """Delete; whether it existed."""
        return self._overrides.pop(nexthop, None) is not None

    def changed_elsewhere(self) -> bool:
        """Whether requests wait."""
        return any(not state.taken for _, state in self._requests.values())

    def take_requests(self) -> list[Request]:
        """What is asked for, oldest first; each request is given out once."""
        waiting = [request for request, state in self._requests.values() if not state.taken]
        for request in waiting:
            self._requests[request.number] = (request, RequestState(taken=True))
        return waiting

    def answer_request(self, number: int, outcome: str, *, succeeded: bool) -> None:
        """Say how a request ended, in a sentence for people; foreign text escaped."""
        if number in self._requests:
            request, _ = self._requests[number]
            state = RequestState(taken=True, outcome=outcome, succeeded=succeeded)
            self._requests[number] = (request, state)

    def request(self, kind: RequestKind, domain: str) -> int:
        """Ask for something; the number of the request."""
        self._last_number += 1
        request = Request(self._last_number, kind, domain)
        self._requests[request.number] = (request, RequestState(taken=False))
        return request.number

    def request_state(self, number: int) -> RequestState:
        """How far a request has come."""
        stored = self._requests.get(number)
        return stored[1] if stored else RequestState(taken=True)

    def withdraw_request(self, number: int) -> bool:
        """Take a request back; False if it was taken already."""
        if self.request_state(number).taken:
            return False
        del self._requests[number]
        return True

    def backup(self, path: str) -> None:
        """Write the policies and overrides to a database that SqlitePolicyStore can open."""
        with closing(SqlitePolicyStore(path)) as copy:
            copy.save(list(self._entries()))
            for override in self.overrides():
                copy.save_override(override)

    def close(self) -> None:
        """Nothing to flush."""

    def _is_newer(self, row: PolicyRow) -> bool:
        stored = self._rows.get(row.domain)
        return stored is None or stored[0].fetched_at < row.fetched_at

    def _entries(self) -> Iterator[PolicyEntry]:
        rows = list(self._rows.values())
        return (decode_entry(stored_columns(row, body)) for row, body in rows)


def _owner(domain: str) -> str:
    return registrable_domain(domain)
