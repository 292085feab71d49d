# SPDX-License-Identifier: Apache-2.0
"""The reporter's life: days that are over are reported, what is due is sent, old days are forgotten.

All days are UTC days of the wall clock; no local time is looked at. The clock is checked against
the monotonic one: after it was set, no day is closed until it has been steady for SETTLE, so that a
clock that jumps ahead and is put right again closes no day too early.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import StoreError
from strictmail.core.tlsrpt.delivery import SETTLE
from strictmail.reporter.making import REPORTED

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import date

    from strictmail.core.dnsvalues import Answer
    from strictmail.ports import Clock
    from strictmail.reporter.making import Maker
    from strictmail.reporter.probing import Probing
    from strictmail.reporter.sending import EventSink, Sender, Threads
    from strictmail.store.outbox import Outbox
    from strictmail.store.outbox_rows import Conclusion
    from strictmail.store.sessions import DayDomain, SessionStore

CHUNK: Final = 64
"""Domains whose records are looked up at the same time."""

TURN_SECONDS: Final = 30.0
"""Between two turns where nothing wakes the reporter."""

AGAIN_SECONDS: Final = 600.0
"""Before a domain whose day could not be closed is tried again."""

HOUSE_KEEPING: Final = timedelta(hours=6)

CLOCK_STEP_SECONDS: Final = 60.0
"""More than a clock is slewed between two turns: then it was set."""


class Reporter:
    """Makes and sends.

    Args:
        store: The counts.
        outbox: The reports.
        maker: Makes them.
        sender: Sends them.
        clock: The time.
        events: The log.
        threads: For the store.
        probing: Probes what nobody verified; None: nothing does.

    Attributes:
        clock: The time.
        made: Days of domains that were closed, by outcome, since the start.
        fault: Why the store cannot be used, "" while it can.
    """

    def __init__(
        self,
        store: SessionStore,
        outbox: Outbox,
        maker: Maker,
        sender: Sender,
        *,
        clock: Clock,
        events: EventSink,
        threads: Threads = asyncio.to_thread,
        probing: Probing | None = None,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self.maker = maker
        self.sender = sender
        self.probing = probing
        self.clock = clock
        self._events = events
        self._threads = threads
        self._wake = asyncio.Event()
        self._stopping = False
        self._later: dict[DayDomain, float] = {}
        self._faulty: set[DayDomain] = set()
        self._offset = self._clock_offset()
        self._steady_from: float | None = None
        self._kept_house_at: datetime | None = None
        self.made: Counter[str] = Counter()
        self.fault = ""
        sender.on_done = self._wake.set

    async def run(self) -> None:
        """Until `stop`."""
        next_turn = self.clock.monotonic()
        while not self._stopping:
            self._wake.clear()
            left = next_turn - self.clock.monotonic()
            if left <= 0:
                next_turn = self.clock.monotonic() + TURN_SECONDS
                await self.turn()
            else:
                # Woken by the end of a batch: only what is next in line is looked at.
                await self._try(self.sender.start_due(look=False))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_turn - self.clock.monotonic())):
                    await self._wake.wait()

    def stop(self) -> None:
        """Begin with nothing new."""
        self._stopping = True
        self.sender.stop()
        if self.probing is not None:
            self.probing.stop()
        self._wake.set()

    async def turn(self) -> None:
        """Whatever has to be done now. Never raises for the store: it is tried again."""
        await self._try(self._turn())

    async def _turn(self) -> None:
        if self._is_steady():
            if self.probing is not None:
                self.probing.start()
            await self.make_over()
            await self._keep_house()
        await self.sender.start_due()

    async def _try(self, work: Awaitable[object]) -> None:
        try:
            await work
        except StoreError as error:
            if not self.fault:
                self._events.emit("store-unavailable", error=str(error))
            self.fault = str(error)
        else:
            if self.fault:
                self._events.emit("store-recovered")
            self.fault = ""

    # ---- making -------------------------------------------------------------------------

    async def make_over(self) -> Counter[str]:
        """Close all days that are over; how many domains, by outcome.

        Raises:
            StoreUnavailableError: What was not closed is open; try again.
        """
        now = self.clock.now()
        # RFC 8460 §4.1: a UTC day, after its end (RPT-DLV-01, RPT-JSON-53).
        before = (now - SETTLE).date()
        monotonic = self.clock.monotonic()
        self._later = {which: at for which, at in self._later.items() if at > monotonic}
        self.maker.forget_day()
        # Once: who is held back now is looked at again in the next turn.
        held = await self.probing.held() if self.probing is not None else ()
        outcomes: Counter[str] = Counter()
        after = (0, 0)
        while not self._stopping:
            page = await self._threads(self._unreported, before, after)
            if not page:
                break
            after = page[-1][0]
            chosen = [w for _, w in page if w not in self._later and w not in held]
            outcomes += await self._make_chunk(chosen)
            # Sending does not wait until all are made.
            await self.sender.start_due()
        self._faulty &= self._later.keys()
        if outcomes:
            self.made += outcomes
            reported = outcomes[REPORTED]
            self._events.emit("reports-made", reports=reported, without=outcomes.total() - reported)
        return outcomes

    def _unreported(
        self, before: date, after: tuple[int, int]
    ) -> list[tuple[tuple[int, int], DayDomain]]:
        return self._store.unreported(before, after=after, limit=CHUNK)

    async def _make_chunk(self, chosen: list[DayDomain]) -> Counter[str]:
        answers: list[Answer] = await asyncio.gather(*map(self.maker.look_up, chosen))
        found = list(zip(chosen, answers, strict=True))
        outcomes: Counter[str] = await self._threads(self._conclude_all, found)
        return outcomes

    def _conclude_all(self, found: list[tuple[DayDomain, Answer]]) -> Counter[str]:
        """Conclude domains, and store that in one transaction."""
        conclusions = []
        for which, answer in found:
            try:
                conclusion = self.maker.conclude(which, answer)
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001 - one domain must not cost the others theirs
                self._put_by(which, error)
                continue
            if conclusion is None:
                self._later[which] = self.clock.monotonic() + AGAIN_SECONDS
            else:
                conclusions.append(conclusion)
        return Counter(conclusion.outcome for conclusion in self._store_all(conclusions))

    def _store_all(self, conclusions: list[Conclusion]) -> list[Conclusion]:
        """Store conclusions in one transaction; those that were stored."""
        try:
            self._outbox.conclude(conclusions)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - one domain must not cost the others theirs
            if len(conclusions) == 1:
                self._put_by(conclusions[0].which, error)
                return []
            return [stored for one in conclusions for stored in self._store_all([one])]
        return conclusions

    def _put_by(self, which: DayDomain, error: Exception) -> None:
        """Say once that a report cannot be made; its day stays open for a version that can."""
        if which not in self._faulty:
            where = f"report to {which.domain} about {which.day.isoformat()}"
            self._events.emit("internal-error", where=where, error=repr(error))
        self._faulty.add(which)
        self._later[which] = self.clock.monotonic() + AGAIN_SECONDS

    @property
    def waiting_for_records(self) -> int:
        """Domains whose day is over and stays open until their record can be looked up."""
        return len(self._later.keys() - self._faulty)

    @property
    def faulty(self) -> int:
        """Domains whose day is over and stays open since a fault of ours forbids its report."""
        return len(self._faulty)

    # ---- the clock, old days ------------------------------------------------------------

    def _clock_offset(self) -> float:
        return self.clock.now().timestamp() - self.clock.monotonic()

    def _is_steady(self) -> bool:
        """Whether the wall clock can be believed as to which day is over."""
        before, self._offset = self._offset, self._clock_offset()
        now = self.clock.monotonic()
        if abs(self._offset - before) > CLOCK_STEP_SECONDS:
            self._events.emit("clock-was-set", seconds=round(self._offset - before))
            self._steady_from = now + SETTLE.total_seconds()
        if self._steady_from is not None and now < self._steady_from:
            return False
        self._steady_from = None
        return True

    async def _keep_house(self) -> None:
        now = self.clock.now()
        if self._kept_house_at is not None and abs(now - self._kept_house_at) < HOUSE_KEEPING:
            return
        self._kept_house_at = now
        before = (now - self.maker.settings.retention).date()
        await self._threads(self._store.prune, before)
        await self._threads(self._outbox.forget_suppressions, now)
