# SPDX-License-Identifier: Apache-2.0
"""The reporter's part of the HTTP listener: metrics, and what does not work."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from strictmail.core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from strictmail.ports import Clock
    from strictmail.reporter.schedule import Reporter
    from strictmail.runtime.metrics import Metrics
    from strictmail.runtime.web import Route
    from strictmail.store.outbox import Outbox
    from strictmail.store.sessions import SessionStore

LATE: Final = timedelta(hours=30)
"""Reports of a day leave within its spread, and are given up 24 hours after their first attempt."""


class ReporterWeb:
    """The reporter's metrics (`strictmail.runtime.operations.WebPart`).

    Args:
        reporter: Who reports.
        store: What came too late.
        outbox: What waits.
        clock: The time.
    """

    routes: Sequence[Route] = ()
    schemas: Sequence[type] = ()
    max_body_bytes = 0

    def __init__(
        self, reporter: Reporter, store: SessionStore, outbox: Outbox, clock: Clock
    ) -> None:
        self._reporter = reporter
        self._store = store
        self._outbox = outbox
        self._clock = clock
        self._states: dict[str, float] = {}
        self._suppressions = 0
        self._late = 0
        self._age: float | None = None

    async def before_scrape(self) -> None:
        """Read what only the outbox knows."""
        try:
            await asyncio.to_thread(self._read)
        except StoreError as error:
            # What was read last stays; `degraded` says that it is old.
            self._reporter.fault = str(error)

    def _read(self) -> None:
        now = self._clock.now()
        self._states = {str(key): count for key, count in self._outbox.count_states().items()}
        self._suppressions = len(self._outbox.suppressions(now))
        self._late = self._store.late_sessions()
        oldest = self._outbox.oldest_waiting()
        self._age = None if oldest is None else max(0.0, (now - oldest).total_seconds())

    def degraded(self) -> list[str]:
        """What does not work as it should."""
        lines = []
        if self._reporter.fault:
            lines.append("report store unavailable: no report is made or sent")
        if self._mail_fault:
            lines.append("mail relay unavailable: reports wait")
        if self._reporter.waiting_for_records:
            lines.append("TLSRPT records cannot be looked up: reports wait")
        if self._reporter.faulty:
            lines.append("reports cannot be made: see internal-error in the log")
        if self._age is not None and self._age > LATE.total_seconds():
            lines.append("reports wait for more than a day")
        if self._reporter.probing is not None and self._reporter.probing.is_port_blocked:
            lines.append("testing policies cannot be probed: outbound port 25 is closed")
        return lines

    @property
    def _mail_fault(self) -> str:
        return str(getattr(self._reporter.sender.mailer, "fault", ""))

    def register(self, metrics: Metrics) -> None:
        """Register what the reporter counts."""
        reporter, register = self._reporter, metrics.register
        register("strictmail_report_days_total", lambda: dict(reporter.made))
        register(
            "strictmail_report_days_open",
            lambda: {"record": reporter.waiting_for_records, "fault": reporter.faulty},
        )
        register("strictmail_report_late_sessions", lambda: self._late)
        register("strictmail_report_deliveries_total", lambda: dict(reporter.sender.outcomes))
        register("strictmail_report_deliveries", lambda: self._states)
        register("strictmail_report_queue_age_seconds", self._read_age)
        register("strictmail_report_attempts_in_flight", lambda: reporter.sender.in_flight)
        register("strictmail_report_suppressions", lambda: self._suppressions)
        register("strictmail_report_relay_available", lambda: 0 if self._mail_fault else 1)

        if reporter.probing is not None:
            probing = reporter.probing
            register("strictmail_report_probes_total", lambda: dict(probing.outcomes))
            register("strictmail_report_probed_sessions_total", lambda: dict(probing.established))

    def _read_age(self) -> float | Mapping[str, float]:
        return {} if self._age is None else self._age

    def paths(self, schema: Callable[[type], dict[str, Any]]) -> dict[str, Any]:  # noqa: ARG002 - the protocol's signature
        """None: it has no routes."""
        return {}
