# SPDX-License-Identifier: Apache-2.0
"""Probes the MX hosts of domains whose policy only tests, and counts what that establishes.

Sessions that nobody verified wait in the store (`store.unverified`). Each turn of the reporter
begins a look at them, in a task of its own: making and sending wait for nothing here::

    unverified, of today (or of yesterday, until PROBE_WITHIN after its end)
      -> a verdict of the last KEEP_SECONDS on this policy?  -> established: moved | not: left alone
      -> else in line, until one of MAX_AT_ONCE places is free -> a look -> a verdict

===============================  =================================================================
what happens                     what is done
===============================  =================================================================
the hosts do not agree, or one   nothing is moved; another look after KEEP_SECONDS at the earliest
could not be looked at
outbound port 25 is closed       the same, after BLOCKED_SECONDS; the log says so once, `/readyz` as
                                 long as it lasts
a host keeps us waiting          its look has a deadline of its own; the other places go on
the store cannot be used         what was found out is kept, and moved in a later turn
the day was closed meanwhile     its sessions stay unverified
a restart                        verdicts are forgotten: what is still unverified is probed again
the day is over                  its domains are held open for HOLD_DAYS at most, for those probes
                                 that are still to come
===============================  =================================================================
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, OrderedDict
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from strictmail.core.check.facts import PortState
from strictmail.core.errors import StoreError
from strictmail.core.tlsrpt.delivery import day_end
from strictmail.core.tlsrpt.probeverdict import (
    Established,
    Gap,
    NotEstablished,
    can_probe,
    judge_probe,
)
from strictmail.store.unverified import START

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import date, datetime

    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.tlsrpt.probeverdict import ProbeVerdict
    from strictmail.core.tlsrpt.session import ReportedPolicy
    from strictmail.ports import Clock
    from strictmail.reporter.sending import EventSink, Threads
    from strictmail.store.sessions import DayDomain
    from strictmail.store.unverified import Unverified, UnverifiedCounts

PROBE_WITHIN: Final = timedelta(hours=6)
"""After the end of a day: what is seen later says nothing about that day any more."""

KEEP_SECONDS: Final = PROBE_WITHIN.total_seconds()
"""How long a verdict, also that there is none, stands for sessions under the same policy."""

BLOCKED_SECONDS: Final = 3600.0
"""The same where port 25 was closed here: nobody was visited."""

HOLD_DAYS: Final = timedelta(minutes=30)
"""After the end of a day, or after a start within PROBE_WITHIN of it, how long its domains stay
open for probes that are still to come."""

MAX_AT_ONCE: Final = 8
"""Domains that are looked at at the same time: it is background work, and nobody waits for it."""

MAX_VERDICTS: Final = 50_000
"""Verdicts that are kept, the oldest ones forgotten first: some 300 bytes each."""

MAX_IN_LINE: Final = 10_000
"""Policies that wait for a place; the others are found again in the next turn."""

PAGE: Final = 1000


class HostLooker(Protocol):
    """Looks at the MX hosts of domains."""

    async def look(self, domain: str) -> DomainFacts:
        """One polite session with each address. Never raises; bounded in time."""
        ...

    async def close(self) -> None:
        """End what is under way."""
        ...


class _Verdicts:
    """The last verdict on each policy, as long as it stands."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, ProbeVerdict]] = OrderedDict()

    def find(self, key: bytes) -> ProbeVerdict | None:
        kept = self._kept.get(key)
        if kept is None or self._clock.monotonic() >= kept[0]:
            return None
        return kept[1]

    def put(self, key: bytes, verdict: ProbeVerdict, began: float) -> None:
        is_blocked = isinstance(verdict, NotEstablished) and verdict.gap is Gap.PORT_BLOCKED
        self._kept[key] = began + (BLOCKED_SECONDS if is_blocked else KEEP_SECONDS), verdict
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_VERDICTS:
            self._kept.popitem(last=False)


class Probing:
    """Probes what nobody verified. For one event loop.

    Args:
        counts: What is unverified.
        looker: Looks at MX hosts; None: nothing is probed.
        clock: The time.
        events: The log.
        threads: For the store.

    Attributes:
        outcomes: Probes since the start: `success`, `failure`, or why nothing was established.
        established: Sessions that probes established since the start, `success` or `failure`.
        is_port_blocked: The last look found outbound port 25 closed.
    """

    def __init__(
        self,
        counts: UnverifiedCounts,
        looker: HostLooker | None,
        *,
        clock: Clock,
        events: EventSink,
        threads: Threads = asyncio.to_thread,
    ) -> None:
        self._counts = counts
        self._looker = looker
        self._clock = clock
        self._events = events
        self._threads = threads
        self._verdicts = _Verdicts(clock)
        self._round: asyncio.Task[None] | None = None
        self._line: dict[bytes, list[Unverified]] = {}
        self._busy: dict[bytes, asyncio.Task[None]] = {}
        self._began: float | None = None
        self._stopping = False
        self.outcomes: Counter[str] = Counter()
        self.established: Counter[str] = Counter()
        self.is_port_blocked = False

    @property
    def is_on(self) -> bool:
        """Whether anything is probed at all."""
        return self._looker is not None

    # ---- turns --------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a look at what is unverified, unless one is under way. Returns at once."""
        if self._looker is None or self._stopping:
            return
        if self._began is None:
            self._began = self._clock.monotonic()
        if self._round is None or self._round.done():
            self._round = asyncio.get_running_loop().create_task(self._look_through())

    async def held(self) -> frozenset[DayDomain]:
        """Domains of yesterday that a probe may still say something of: not to be closed yet.

        Raises:
            StoreUnavailableError: Try again later.
        """
        now = self._clock.now()
        yesterday = now.date() - timedelta(days=1)
        if self._looker is None or self.is_port_blocked or not self._may_hold(yesterday, now):
            return frozenset()
        held = set()
        async for found in self._find(yesterday, yesterday):
            verdict = self._verdicts.find(_key(found.policy))
            if not isinstance(verdict, NotEstablished):
                held.add(found.which)
        return frozenset(held)

    def _may_hold(self, day: date, now: datetime) -> bool:
        """Whether its end, or our own beginning, is so near that probes may be still to come."""
        is_fresh = (
            self._began is not None
            and self._clock.monotonic() < self._began + HOLD_DAYS.total_seconds()
        )
        return now < day_end(day) + (PROBE_WITHIN if is_fresh else HOLD_DAYS)

    async def settle(self) -> None:
        """Wait until nothing is under way and nothing in line."""
        while (self._round is not None and not self._round.done()) or self._busy:
            await asyncio.wait([*self._busy.values(), *([self._round] if self._round else [])])
            # Callbacks of what has ended run in the next turn of the loop.
            await asyncio.sleep(0)

    async def _look_through(self) -> None:
        try:
            await self._take_all()
        except StoreError:
            # The reporter's own turn meets the same fault, and tells it.
            pass
        except Exception as error:  # noqa: BLE001 - a fault of ours costs a turn, not the reporter
            self._events.emit("internal-error", where="looking for sessions", error=repr(error))
        self._start_ready()

    async def _take_all(self) -> None:
        now = self._clock.now()
        today = now.date()
        yesterday = today - timedelta(days=1)
        first = yesterday if self._is_current(yesterday, now) else today
        # Built anew, without those whose day is over or closed by now.
        self._line = {}
        async for found in self._find(first, today):
            key = _key(found.policy)
            verdict = self._verdicts.find(key)
            if isinstance(verdict, Established):
                await self._move(found, verdict)
            elif (
                verdict is None
                and key not in self._busy
                and (key in self._line or len(self._line) < MAX_IN_LINE)
            ):
                self._line.setdefault(key, []).append(found)

    async def _find(self, first: date, last: date) -> AsyncIterator[Unverified]:
        """All unverified sessions of days that a probe could say something of."""
        after = START
        while page := await self._threads(self._counts.find, first, last, after, PAGE):
            after = page[-1][0]
            for _, found in page:
                if can_probe(found.policy):
                    yield found

    def _is_current(self, day: date, now: datetime) -> bool:
        return now < day_end(day) + PROBE_WITHIN

    # ---- probes -------------------------------------------------------------------------

    def _start_ready(self) -> None:
        while self._line and len(self._busy) < MAX_AT_ONCE and not self._stopping:
            looker = self._looker
            if looker is None:
                return
            key = next(iter(self._line))
            rows = self._line.pop(key)
            task = asyncio.get_running_loop().create_task(self._probe(looker, key, rows))
            self._busy[key] = task
            task.add_done_callback(partial(self._end, key))

    def _end(self, key: bytes, _task: asyncio.Task[None]) -> None:
        del self._busy[key]
        self._start_ready()

    async def _probe(self, looker: HostLooker, key: bytes, rows: list[Unverified]) -> None:
        """One look, and what it means for all rows under the same policy."""
        policy = rows[0].policy
        began = self._clock.monotonic()
        verdict: ProbeVerdict
        try:
            facts = await looker.look(policy.policy_domain)
            verdict = judge_probe(policy, facts)
            self._note_port(facts.port25)
        except Exception as error:  # noqa: BLE001 - one domain must not cost the others theirs
            where = f"probing the hosts of {policy.policy_domain}"
            self._events.emit("internal-error", where=where, error=repr(error))
            verdict = NotEstablished(Gap.FAULT)
        self._verdicts.put(key, verdict, began)
        if isinstance(verdict, NotEstablished):
            self.outcomes[str(verdict.gap)] += 1
            return
        self.outcomes[_word(verdict)] += 1
        try:
            for found in rows:
                await self._move(found, verdict)
        except StoreError:
            # The verdict is kept: the next turn that can write moves them.
            return

    async def _move(self, found: Unverified, verdict: Established) -> None:
        if self._is_current(found.which.day, self._clock.now()):
            times = await self._threads(self._counts.establish, found, verdict.failure)
            self.established[_word(verdict)] += times

    def _note_port(self, state: PortState) -> None:
        """Say once that port 25 is closed."""
        if state is PortState.BLOCKED and not self.is_port_blocked:
            self._events.emit("probe-port-blocked")
        if state is not PortState.NOT_TESTED:
            self.is_port_blocked = state is PortState.BLOCKED

    # ---- the end ------------------------------------------------------------------------

    def stop(self) -> None:
        """Begin with no further probe."""
        self._stopping = True

    async def replace(self, looker: HostLooker | None) -> None:
        """Look with another one from now on, or not at all; what is under way is given up."""
        # Without one, no turn begins anything meanwhile.
        old, self._looker = self._looker, None
        await self._cancel()
        if old is not None:
            await old.close()
        self.is_port_blocked = False
        self._looker = looker

    async def close(self) -> None:
        """Give up what is under way, and let the looker go."""
        self.stop()
        await self.replace(None)

    async def _cancel(self) -> None:
        self._line = {}
        tasks = [*self._busy.values(), *([self._round] if self._round is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _key(policy: ReportedPolicy) -> bytes:
    """What a verdict is kept under: the domain and its patterns, which are all that is judged by."""
    text = "\n".join((policy.policy_domain, *policy.mx_host_patterns))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def _word(verdict: Established) -> str:
    return "success" if verdict.failure is None else "failure"
