# SPDX-License-Identifier: Apache-2.0
"""Sessions whose success nobody verified, as the session store has them: found, and established.

They stand beside the successes and failures of their policy. What a probe establishes moves them
there in one transaction, with a detail where they failed and the number under `Source.PROBE`: after
a crash there is all of it or nothing, and no session is counted twice. In a day that is closed
nothing moves any more: its report has been made.

Threads: a worker thread; calls from several take turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.tlsrpt.counts import SourceCounts, place_detail
from strictmail.core.tlsrpt.session import Source
from strictmail.store.sessionrows import (
    day_at,
    day_number,
    decode_detail,
    decode_policy,
    insert_detail,
)
from strictmail.store.sessions import DayDomain
from strictmail.store.sources import add_sources

if TYPE_CHECKING:
    import sqlite3
    from datetime import date

    from strictmail.core.tlsrpt.session import FailureDetail, ReportedPolicy
    from strictmail.store.sessions import SessionStore

START: Final = (0, 0)

# In the order of the index on what is unverified, so that nothing else is read.
_FIND: Final = (
    "SELECT day_domain_id, policy_count.id, day, identity, domain, policy, unverified "
    "FROM policy_count INDEXED BY policy_count_unverified "
    "CROSS JOIN day_domain ON day_domain.id = day_domain_id "
    "CROSS JOIN policy_text ON policy_count_id = policy_count.id "
    "WHERE unverified > 0 AND (day_domain_id, policy_count.id) > (?, ?) "
    "AND state = 0 AND day BETWEEN ? AND ? ORDER BY day_domain_id, policy_count.id LIMIT ?"
)
_FIRST: Final = "SELECT min(id) FROM day_domain WHERE day BETWEEN ? AND ?"
_OPEN: Final = (
    "SELECT day_domain_id, unverified FROM policy_count "
    "JOIN day_domain ON day_domain.id = day_domain_id "
    "WHERE policy_count.id = ? AND state = 0 AND unverified > 0 "
    "AND day = ? AND identity = ? AND domain = ?"
)
_MOVE: Final = {
    True: "UPDATE policy_count SET successes = successes + unverified, unverified = 0 WHERE id = ?",
    False: "UPDATE policy_count SET failures = failures + unverified, unverified = 0 WHERE id = ?",
}
"""By whether they succeeded."""

_DETAILS: Final = (
    "SELECT detail_count.id, detail FROM detail_count "
    "JOIN detail_text ON detail_count_id = detail_count.id WHERE policy_count_id = ? "
    "ORDER BY detail_count.id"
)


@dataclass(frozen=True, slots=True)
class Unverified:
    """Sessions of a domain and day under one policy that nobody verified.

    Attributes:
        which: Day, identity, domain.
        policy: Which policy.
        sessions: How many there were when they were read.
        row_id: Where they stand.
    """

    which: DayDomain
    policy: ReportedPolicy
    sessions: int
    row_id: int


class UnverifiedCounts:
    """Unverified sessions, in the same database as the counts.

    Args:
        store: Whose database it shares.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    def find(
        self, first: date, last: date, after: tuple[int, int] = START, limit: int = 1000
    ) -> list[tuple[tuple[int, int], Unverified]]:
        """Those of days that are open, the domains that were seen first in front.

        Args:
            first: The first day that is looked at.
            last: The last one.
            after: The place that the last page ended at.
            limit: Of a page.

        Returns:
            Each with its place, for the next page.

        Raises:
            StoreUnavailableError: Try again later.
        """
        days = (day_number(first), day_number(last))
        if after == START:
            # Not through what stayed unverified in all the days that are kept.
            (lowest,) = self._store.reading(_FIRST, days)[0]
            after = (lowest or 0, 0)
        return [
            (
                (domain_id, row_id),
                Unverified(
                    DayDomain(day_at(day), identity, domain), decode_policy(policy), times, row_id
                ),
            )
            for domain_id, row_id, day, identity, domain, policy, times in self._store.reading(
                _FIND, (*after, *days, limit)
            )
        ]

    def establish(self, found: Unverified, failure: FailureDetail | None) -> int:
        """Count them as what they were, all at once; how many there were by now.

        Args:
            found: As `find` gave them.
            failure: How they failed; None: they succeeded.

        Returns:
            0 if their day has been closed, or if somebody else was faster.

        Raises:
            StoreUnavailableError: Nothing was moved; try again.
        """
        which = found.which
        key = (found.row_id, day_number(which.day), which.identity, which.domain)
        with self._store.writing() as connection:
            row = connection.execute(_OPEN, key).fetchone()
            if row is None:
                return 0
            domain_id, times = row
            connection.execute(_MOVE[failure is None], (found.row_id,))
            if failure is not None:
                _add_detail(connection, found.row_id, failure, times)
            add_sources(connection, domain_id, {Source.PROBE: SourceCounts(times)})
        return int(times)


def _add_detail(
    connection: sqlite3.Connection, policy_id: int, detail: FailureDetail, times: int
) -> None:
    """Add to a detail of a policy, within the bounds of `core.tlsrpt.counts`."""
    rows = connection.execute(_DETAILS, (policy_id,)).fetchall()
    known = {decode_detail(text): row_id for row_id, text in rows}
    placed = place_detail(detail, known)
    row_id = known.get(placed)
    if row_id is None:
        row_id = insert_detail(connection, policy_id, placed)
    update = "UPDATE detail_count SET session_count = session_count + ? WHERE id = ?"
    connection.execute(update, (times, row_id))
