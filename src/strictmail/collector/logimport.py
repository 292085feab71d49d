# SPDX-License-Identifier: Apache-2.0
"""From the sessions that a log proves to counts: judged, named, counted once."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from strictmail.collector.batches import session_result
from strictmail.core.tlsrpt.logverdict import NotCounted, judge_logged
from strictmail.core.tlsrpt.session import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date, datetime

    from strictmail.core.decision import Decision
    from strictmail.core.mta.postfixlog import LoggedSession
    from strictmail.core.tlsrpt.session import Session
    from strictmail.store.sessions import SessionStore


class Decides(Protocol):
    """Who knows what was demanded (`strictmail.collector.applied.AppliedPolicies`)."""

    async def find(self, questions: Iterable[tuple[str, datetime]]) -> list[Decision | None]:
        """Decide for domains at instants, in their order; None: could not be found out."""
        ...


@dataclass(slots=True)
class ImportTally:
    """What became of the sessions of a log.

    Attributes:
        results: Those counted now, by result (`session_result`).
        known: Those counted by an earlier import.
        late: Of those counted now, the ones whose day was reported already.
        not_counted: Those that count as nothing, by why.
    """

    results: Counter[str] = field(default_factory=Counter)
    known: int = 0
    late: int = 0
    not_counted: Counter[str] = field(default_factory=Counter)

    @property
    def counted(self) -> int:
        """All that were counted now."""
        return sum(self.results.values()) - self.known


class LogImport:
    """Takes sessions of a log.

    Args:
        store: Where counts go; None: nothing is counted, only judged.
        decides: What was demanded.
        identity: Who reports them.
    """

    def __init__(self, store: SessionStore | None, decides: Decides, identity: str = "") -> None:
        self.tally = ImportTally()
        self._store = store
        self._decides = decides
        self._identity = identity

    async def take(self, logged: Sequence[LoggedSession]) -> None:
        """Judge and count.

        Raises:
            StoreUnavailableError: None of these was counted: take them again later, or read their
                lines again.
        """
        decisions = await self._decides.find([(one.domain, one.when) for one in logged])
        not_counted: Counter[str] = Counter()
        counted: list[tuple[bytes, date, Session]] = []
        for one, decision in zip(logged, decisions, strict=True):
            if decision is None:
                not_counted["dns-failed"] += 1
                continue
            judged = judge_logged(one, decision)
            if isinstance(judged, NotCounted):
                not_counted[judged.reason] += 1
            else:
                # RFC 8460 §4.1: the day in which it happened, not that of the import (RPT-JSON-53).
                counted.append((one.name, one.when.date(), judged))
        if self._store is not None and counted:
            imported = await asyncio.to_thread(
                self._store.import_each, Source.LOG, counted, self._identity
            )
            self.tally.known += imported.known
            self.tally.late += imported.late
        self.tally.not_counted.update(not_counted)
        self.tally.results.update(session_result(session) for _, _, session in counted)
