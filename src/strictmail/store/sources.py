# SPDX-License-Identifier: Apache-2.0
"""Who told of sessions: the table `source_count` of the session store.

Datagrams are the rule, and every batch of them would change a number here: they have a row only
where nobody verified a success. What no row tells of came as datagrams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from strictmail.core.tlsrpt.session import Source

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from strictmail.core.tlsrpt.counts import DomainCounts, SourceCounts

SOURCE_ROWS: Final = (
    "SELECT source, session_count, unverified_count FROM source_count "
    "JOIN day_domain ON day_domain.id = day_domain_id "
    "WHERE day = ? AND identity = ? AND domain = ?"
)

_ADD: Final = (
    "INSERT INTO source_count VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "session_count = session_count + excluded.session_count, "
    "unverified_count = unverified_count + excluded.unverified_count"
)


def add_sources(
    connection: sqlite3.Connection, row_id: int, sources: Mapping[Source, SourceCounts]
) -> None:
    """Add what sources told to a domain's row of one day."""
    connection.executemany(
        _ADD,
        [
            (row_id, str(source), counts.sessions, counts.unverified)
            for source, counts in sources.items()
            if source is not Source.POSTFIX or counts.unverified
        ],
    )


def read_sources(rows: Iterable[Any], counts: DomainCounts) -> None:
    """Take the rows of SOURCE_ROWS into counts; a source that is not known counts as HTTP."""
    for source, sessions, unverified in rows:
        known = Source(source) if source in set(Source) else Source.HTTP
        counts.add_source(known, sessions, unverified)
