# SPDX-License-Identifier: Apache-2.0
"""Makes the report of one domain and day: record, report, deliveries; or says why there is none.

The record is read again when the report is due. What is decided:

=========================  ======================================================================
outcome of the day         when
=========================  ======================================================================
reported                   a report was stored with its deliveries
opted-out                  the operator's list names the domain
no-sessions                nothing was counted
only-reports               no more sessions than report mails of ours to that domain
no-record                  no TLSRPT record any more
bad-record                 several records, or one that breaks the grammar
no-destination             the record has no URI that is used
record-unknown             lookups failed for LOOKUP_PATIENCE, and the MTA had seen no record
=========================  ======================================================================

Threads: `Maker.conclude` reads the store, so it belongs into a worker thread.
"""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

from strictmail.core.dnsvalues import RecordType
from strictmail.core.errors import RecordSyntaxError
from strictmail.core.tlsrpt.delivery import DeliveryState, day_end, first_attempt_at
from strictmail.core.tlsrpt.destination import Destination, parse_destination
from strictmail.core.tlsrpt.record import select_tlsrpt, tlsrpt_name
from strictmail.core.tlsrpt.report import build_report
from strictmail.core.tlsrpt.reportjson import compress_report, find_faults_in_text
from strictmail.store.outbox_rows import Conclusion, NewDelivery, NewReport

if TYPE_CHECKING:
    from collections.abc import Iterable

    from strictmail.core.dnsvalues import Answer
    from strictmail.core.tlsrpt.record import TlsrptRecord
    from strictmail.core.tlsrpt.report import Report
    from strictmail.ports import Clock, Resolver, Rng
    from strictmail.reporter.settings import ReporterSettings
    from strictmail.store.outbox import Outbox
    from strictmail.store.sessions import DayDomain, SessionStore

MAX_DESTINATIONS: Final = 20
"""Of one record that are used, the first ones: a TXT record has room for thousands of mailboxes."""

LOOKUP_PATIENCE: Final = timedelta(hours=12)
"""After the end of a day, how long failing lookups leave it open."""

REPORTED: Final = "reported"
TELLS_OF_SESSIONS: Final = frozenset({REPORTED, "no-sessions", "only-reports"})
"""Outcomes that say how many sessions there were: one that is not among them is missed."""

OPEN: Final = ""
"""Not an outcome: the day stays open, and is tried again."""


@dataclass(slots=True)
class _DayTally:
    """What the limits of one day have to know.

    Attributes:
        destinations: Reports about that day for each destination.
        hosts: The same for each host.
        mails: Report mails handed over on that day, for each domain of a mailbox.
        suppressed: Destinations that are left alone, and why.
    """

    destinations: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    mails: dict[str, int] = field(default_factory=dict)
    suppressed: dict[str, str] = field(default_factory=dict)


class Maker:
    """Makes reports.

    Args:
        store: The counts.
        outbox: Where reports go.
        resolver: For TLSRPT records.
        clock: The time.
        rng: For when a report goes out.
        settings: May be set anew at any time.
    """

    def __init__(
        self,
        store: SessionStore,
        outbox: Outbox,
        resolver: Resolver,
        clock: Clock,
        rng: Rng,
        settings: ReporterSettings,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self.resolver = resolver
        self._clock = clock
        self._rng = rng
        self.settings = settings
        self._tally: tuple[date, _DayTally] | None = None

    async def look_up(self, which: DayDomain) -> Answer:
        """Ask for the domain's record. Never raises for a DNS outcome."""
        # RFC 8460 §3: read when the report is due (RPT-REC-26), at `_smtp._tls` below the
        # recipient domain alone (RPT-REC-02), aliases followed as in any lookup (RPT-REC-29).
        return await self.resolver.lookup(tlsrpt_name(which.domain), RecordType.TXT)

    def conclude(self, which: DayDomain, answer: Answer) -> Conclusion | None:
        """Make the report, or say that there is none; nothing is stored (`Outbox.conclude` does).

        Args:
            which: A domain whose day is over.
            answer: What `look_up` found.

        Returns:
            How the day ends; None: it stays open.

        Raises:
            StoreUnavailableError: The counts cannot be read; try again.
        """
        outcome, report, destinations = self._judge(which, answer)
        if outcome == OPEN:
            return None
        made = None
        if outcome == REPORTED and report is not None:
            made = self._render(which, report, destinations)
        read = report.sessions if report is not None else 0
        return Conclusion(which, outcome, made, read if outcome in TELLS_OF_SESSIONS else None)

    def foresee(self, which: DayDomain, answer: Answer) -> tuple[str, list[Destination]]:
        """What `conclude` would say: the outcome, and where the report would go.

        Raises:
            StoreUnavailableError: Try again later.
        """
        outcome, _, destinations = self._judge(which, answer)
        return outcome, destinations

    def _judge(
        self, which: DayDomain, answer: Answer
    ) -> tuple[str, Report | None, list[Destination]]:
        try:
            return self._decide(which, answer)
        except RecordSyntaxError as error:
            # RFC 8460 §3: without one good record the domain takes no reports (RPT-REC-08).
            return "no-record" if error.reason_code == "absent" else "bad-record", None, []

    def _decide(
        self, which: DayDomain, answer: Answer
    ) -> tuple[str, Report | None, list[Destination]]:
        if which.domain in self.settings.opt_out:
            return "opted-out", None, []
        counts = self._store.load(which)
        identity = self.settings.sender(which.identity).identity
        report = build_report(which.day, which.domain, counts, identity)
        # RFC 8460 §4: nothing about a day without sessions (RPT-DLV-07).
        if report is None:
            return "no-sessions", None, []
        # RFC 8460 §3: a session that carried reports is not reported on (RPT-DLV-36, RPT-JSON-52,
        # SEC-22). Who hears of it cannot tell which it was; a day that had nothing else is left
        # out, or two reporters would write to each other for ever.
        if self._is_only_reports(which, report):
            return "only-reports", report, []
        record = self._record(which, answer, counts.record)
        if record is None:
            return OPEN, None, []
        # RFC 8460 §3: to one, some or all of them (RPT-REC-24); so no domain alone makes a flood
        # (SEC-23).
        destinations = list(islice(_usable(record), MAX_DESTINATIONS))
        if not destinations:
            return "no-destination", None, []
        return REPORTED, report, destinations

    def _is_only_reports(self, which: DayDomain, report: Report) -> bool:
        if not self.settings.sessions_of_reports:
            return False
        return session_count(report) <= self._day(which.day).mails.get(which.domain, 0)

    def _record(self, which: DayDomain, answer: Answer, seen: str) -> TlsrptRecord | None:
        """The record that counts; None to ask again later.

        Raises:
            RecordSyntaxError: There is none that counts.
        """
        if answer.status.is_answer:
            return select_tlsrpt([found for found in answer.records if isinstance(found, tuple)])
        if self._clock.now() < day_end(which.day) + LOOKUP_PATIENCE:
            return None
        # Spec-silent: a lookup that fails does not say that the record has gone; what the MTA saw
        # on the day is the next best.
        return select_tlsrpt([(seen.encode("latin-1", "replace"),)] if seen else [])

    def _render(
        self, which: DayDomain, report: Report, destinations: list[Destination]
    ) -> NewReport:
        # RFC 8460 §5.2: compressed, and cut where it is too large (RPT-DLV-15, RPT-DLV-16).
        written, content = compress_report(report)
        faults = find_faults_in_text(gzip.decompress(content))
        if faults:
            raise AssertionError(f"a report that breaks its own rules: {faults[0]}")
        now = self._clock.now()
        tally = self._day(which.day)
        deliveries = [self._first(destination, now, tally) for destination in destinations]
        copy = self.settings.copy_to
        if copy and self.settings.has_mail:
            to_us = NewDelivery(f"mailto:{copy}", now, DeliveryState.WAITING, "a copy for us")
            deliveries.append(to_us)
        return NewReport(
            report_id=report.report_id,
            content=content,
            session_count=report.sessions,
            dropped_details=written.dropped_details,
            made_at=now,
            deliveries=tuple(deliveries),
        )

    def _first(self, destination: Destination, now: datetime, tally: _DayTally) -> NewDelivery:
        """A delivery as it begins."""
        at = first_attempt_at(now, self._rng, self.settings.spread)
        refusal = self._refusal(destination, tally)
        if refusal:
            return NewDelivery(destination.text, at, DeliveryState.REFUSED, refusal)
        reason = tally.suppressed.get(destination.text)
        if reason is not None:
            return NewDelivery(destination.text, at, DeliveryState.SUPPRESSED, reason)
        tally.destinations[destination.text] += 1
        tally.hosts[destination.host] += 1
        return NewDelivery(destination.text, at, DeliveryState.WAITING)

    def _refusal(self, destination: Destination, tally: _DayTally) -> str:
        """Why a destination is not used today, or ""."""
        settings = self.settings
        if destination.is_mail and not settings.has_mail:
            return "reports do not go by mail here: mail is off"
        # BCP: nobody can make us flood somebody else, with one domain or with thousands that name
        # one victim (SEC-23, SEC-24).
        if tally.destinations[destination.text] >= settings.per_destination:
            return f"more than {settings.per_destination} reports of a day for one destination"
        if tally.hosts[destination.host] >= settings.per_host:
            return f"more than {settings.per_host} reports of a day for {destination.host}"
        return ""

    def _day(self, day: date) -> _DayTally:
        """The tally of a day: kept while its domains are worked through."""
        if self._tally is None or self._tally[0] != day:
            begin = datetime.combine(day, time(), UTC)
            tally = _DayTally(mails=self._outbox.count_mails(begin, begin + timedelta(days=1)))
            for entry in self._outbox.suppressions(self._clock.now()):
                tally.suppressed[entry.destination] = entry.reason
            for text, count in self._outbox.count_destinations(day).items():
                tally.destinations[text] += count
                tally.hosts[parse_destination(text).host] += count
            self._tally = (day, tally)
        return self._tally[1]

    def forget_day(self) -> None:
        """Drop what is kept between domains: to be called between two rounds."""
        self._tally = None


def session_count(report: Report) -> int:
    """Sessions in a report: one may be judged under several types, so those of the largest."""
    by_type: Counter[str] = Counter()
    for part in report.policies:
        by_type[part.policy.policy_type] += part.successes + part.failures
    return max(by_type.values(), default=0)


def _usable(record: TlsrptRecord) -> Iterable[Destination]:
    # RFC 8460 §7: whoever a record names is a destination: no record of theirs is asked for
    # (RPT-REC-31). What a false one learns is counts, hosts and addresses (SEC-40, SEC-27).
    for uri in record.rua:
        try:
            yield parse_destination(uri.destination)
        except ValueError:
            # `select_tlsrpt` has looked at it; what it lets through and this does not is not used.
            continue
