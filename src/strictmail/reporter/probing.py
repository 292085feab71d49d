# SPDX-License-Identifier: Apache-2.0
"""Probes the MX hosts of domains whose policy only tests, and counts what that establishes.

Sessions that nobody verified wait in the store (`store.unverified`). Each turn of the reporter
begins a look at them, in a task of its own: making and sending wait for nothing here::

    unverified, of today (or of yesterday, until PROBE_WITHIN after its end)
      -> a verdict of the last KEEP_SECONDS on this policy?  -> established: moved | not: left alone
      -> a look of that time at this domain?                 -> a verdict
      -> else the domain is in line, until one of MAX_AT_ONCE places is free -> a look -> a verdict

===============================  =================================================================
what happens                     what is done
===============================  =================================================================
the hosts do not agree, or one   nothing is moved; another look after KEEP_SECONDS at the earliest
could not be looked at
outbound port 25 is closed       the same, after BLOCKED_SECONDS; the log says so once, `/readyz` as
                                 long as it lasts. The port alone is tested every SOON_SECONDS for
                                 an hour, then every BLOCKED_SECONDS: once it is open, all go on
a domain has many policies       they are judged by one look
a host keeps us waiting          its look has a deadline of its own; the other places go on
the store cannot be used         what was found out is kept, and moved in a later turn
the day was closed meanwhile     its sessions stay unverified
more domains than MAX_SIGHTS     the oldest looks are forgotten: another policy of such a domain
                                 takes a look of its own
a restart                        looks are forgotten: what is still unverified is probed again
the day is over                  its domains are held open for HOLD_DAYS at most, for those probes
                                 that are still to come; not if port 25 is closed for long
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
    see_hosts,
)
from strictmail.store.unverified import START

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import date, datetime

    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.tlsrpt.probeverdict import MxSight, ProbeVerdict
    from strictmail.core.tlsrpt.session import ReportedPolicy
    from strictmail.ports import Clock
    from strictmail.reporter.sending import EventSink, Threads
    from strictmail.store.sessions import DayDomain
    from strictmail.store.unverified import Unverified, UnverifiedCounts

PROBE_WITHIN: Final = timedelta(hours=6)
"""After the end of a day: what is seen later says nothing about that day any more."""

KEEP_SECONDS: Final = PROBE_WITHIN.total_seconds()
"""How long a look stands, and a verdict, also that there is none."""

BLOCKED_SECONDS: Final = 3600.0
"""The same where port 25 was closed here: nobody was visited."""

SOON_SECONDS: Final = 600.0
"""Before a port that has been closed for less than BLOCKED_SECONDS is tested again: what is over
soon is to cost no day."""

HOLD_DAYS: Final = timedelta(minutes=30)
"""After the end of a day, or after a start within PROBE_WITHIN of it, how long its domains stay
open for probes that are still to come."""

MAX_AT_ONCE: Final = 8
"""Domains that are looked at at the same time: it is background work, and nobody waits for it."""

MAX_VERDICTS: Final = 50_000
"""Verdicts that are kept, the oldest ones forgotten first: some 300 bytes each."""

MAX_SIGHTS: Final = 5_000
"""Domains whose look is kept for their other policies, the oldest ones forgotten first."""

MAX_SIGHT_SIZE: Final = 100_000
"""The same in addresses, of all domains together: some 300 bytes each."""

MAX_IN_LINE: Final = 10_000
"""Domains that wait for a place; the others are found again in the next turn. About as many rows
of theirs wait with them."""

MAX_OF_DOMAIN: Final = 32
"""Rows of one domain that wait; the look at it serves the others in the next turn."""

PAGE: Final = 1000


class HostLooker(Protocol):
    """Looks at the MX hosts of domains."""

    async def look(self, domain: str) -> DomainFacts:
        """One polite session with each address. Never raises; bounded in time."""
        ...

    async def test_port(self) -> PortState:
        """Whether outbound port 25 is open by now. Never raises; bounded in time."""
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

    def forget_blocked(self) -> None:
        blocked = NotEstablished(Gap.PORT_BLOCKED)
        for key in [key for key, (_, verdict) in self._kept.items() if verdict == blocked]:
            del self._kept[key]


class _Sights:
    """The last look at each domain, as long as it stands."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, MxSight]] = OrderedDict()
        self._size = 0

    def find(self, domain: str) -> tuple[float, MxSight] | None:
        """When it began, on the monotonic clock, and what it saw."""
        kept = self._kept.get(domain)
        if kept is None or self._clock.monotonic() >= kept[0] + KEEP_SECONDS:
            return None
        return kept

    def put(self, domain: str, sight: MxSight, began: float) -> None:
        self.forget(domain)
        self._kept[domain] = began, sight
        self._size += sight.size
        while len(self._kept) > MAX_SIGHTS or self._size > MAX_SIGHT_SIZE:
            self.forget(next(iter(self._kept)))

    def forget(self, domain: str) -> None:
        kept = self._kept.pop(domain, None)
        if kept is not None:
            self._size -= kept[1].size


class Probing:
    """Probes what nobody verified. For one event loop.

    Args:
        counts: What is unverified.
        looker: Looks at MX hosts; None: nothing is probed.
        clock: The time.
        events: The log.
        threads: For the store.

    Attributes:
        outcomes: Verdicts since the start: `success`, `failure`, or why nothing was established.
        established: Sessions that probes established since the start, `success` or `failure`.
        is_port_blocked: Outbound port 25 was closed when it was tested last.
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
        self._sights = _Sights(clock)
        self._round: asyncio.Task[None] | None = None
        self._line: dict[str, list[Unverified]] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._port_test: asyncio.Task[None] | None = None
        self._blocked_from = 0.0
        self._test_at = 0.0
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
        self._start_port_test(self._looker)
        if self._round is None or self._round.done():
            self._round = asyncio.get_running_loop().create_task(self._look_through())

    async def held(self) -> frozenset[DayDomain]:
        """Domains of yesterday that a probe may still say something of: not to be closed yet.

        Raises:
            StoreUnavailableError: Try again later.
        """
        now = self._clock.now()
        yesterday = now.date() - timedelta(days=1)
        if self._looker is None or self._is_blocked_long or not self._may_hold(yesterday, now):
            return frozenset()
        held = set()
        async for found in self._find(yesterday, yesterday):
            verdict = self._verdicts.find(_key(found.policy))
            if not isinstance(verdict, NotEstablished) or verdict.gap is Gap.PORT_BLOCKED:
                held.add(found.which)
        return frozenset(held)

    @property
    def _is_blocked_long(self) -> bool:
        """Whether nothing suggests that port 25 is open again soon."""
        since = self._clock.monotonic() - self._blocked_from
        return self.is_port_blocked and since >= BLOCKED_SECONDS

    def _may_hold(self, day: date, now: datetime) -> bool:
        """Whether its end, or our own beginning, is so near that probes may be still to come."""
        is_fresh = (
            self._began is not None
            and self._clock.monotonic() < self._began + HOLD_DAYS.total_seconds()
        )
        return now < day_end(day) + (PROBE_WITHIN if is_fresh else HOLD_DAYS)

    async def settle(self) -> None:
        """Wait until nothing is under way and nothing in line."""
        while tasks := [task for task in self._tasks() if not task.done()] or self._busy.values():
            await asyncio.wait(tasks)
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
        line: dict[str, list[Unverified]] = {}
        rows = 0
        # Who waits keeps a place, those whose day is over or closed by now aside.
        room = MAX_IN_LINE - len(self._line)
        async for found in self._find(first, today):
            verdict = self._known_verdict(found.policy)
            if isinstance(verdict, Established):
                await self._move(found, verdict)
            if verdict is not None:
                continue
            domain = found.policy.policy_domain
            if domain in line:
                if len(line[domain]) < MAX_OF_DOMAIN and rows < MAX_IN_LINE:
                    line[domain].append(found)
                    rows += 1
            elif domain in self._line or room > 0:
                room -= domain not in self._line
                line[domain] = [found]
                rows += 1
        # First come, first served, whatever the order in the store. What was begun meanwhile has
        # left the line.
        waiting = [domain for domain in self._line if domain in line]
        self._line = {
            domain: line[domain]
            for domain in dict.fromkeys([*waiting, *line])
            if domain not in self._busy
        }

    def _known_verdict(self, policy: ReportedPolicy) -> ProbeVerdict | None:
        """The last one, or one by the last look at the domain."""
        verdict = self._verdicts.find(_key(policy))
        kept = self._sights.find(policy.policy_domain) if verdict is None else None
        return verdict if kept is None else self._judge(policy, kept[1], kept[0])

    def _judge(self, policy: ReportedPolicy, sight: MxSight, began: float) -> ProbeVerdict:
        verdict = judge_probe(policy, sight)
        self._keep(policy, verdict, began)
        return verdict

    def _keep(self, policy: ReportedPolicy, verdict: ProbeVerdict, began: float) -> None:
        self._verdicts.put(_key(policy), verdict, began)
        self.outcomes[_word(verdict)] += 1

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
            domain = next(iter(self._line))
            rows = self._line.pop(domain)
            task = asyncio.get_running_loop().create_task(self._probe(looker, domain, rows))
            self._busy[domain] = task
            task.add_done_callback(partial(self._end, domain))

    def _end(self, domain: str, _task: asyncio.Task[None]) -> None:
        del self._busy[domain]
        self._start_ready()

    async def _probe(self, looker: HostLooker, domain: str, rows: list[Unverified]) -> None:
        """One look, and what it means for rows of the domain."""
        if any(self._known_verdict(found.policy) is None for found in rows):
            await self._look(looker, domain, rows)
        try:
            for found in rows:
                verdict = self._known_verdict(found.policy)
                if isinstance(verdict, Established):
                    await self._move(found, verdict)
        except StoreError:
            # The verdict is kept: the next turn that can write moves them.
            return

    async def _look(self, looker: HostLooker, domain: str, rows: list[Unverified]) -> None:
        """Look at a domain, and judge the policies of the rows by it."""
        began = self._clock.monotonic()
        policies = {_key(found.policy): found.policy for found in rows}.values()
        try:
            facts = await looker.look(domain)
            self._note_port(facts.port25)
            sight = see_hosts(facts)
            for policy in policies:
                self._judge(policy, sight, began)
        except Exception as error:  # noqa: BLE001 - one domain must not cost the others theirs
            where = f"probing the hosts of {domain}"
            self._events.emit("internal-error", where=where, error=repr(error))
            for policy in policies:
                self._keep(policy, NotEstablished(Gap.FAULT), began)
            return
        if not sight.is_blocked:
            self._sights.put(domain, sight, began)

    async def _move(self, found: Unverified, verdict: Established) -> None:
        if self._is_current(found.which.day, self._clock.now()):
            times = await self._threads(self._counts.establish, found, verdict.failure)
            self.established[_word(verdict)] += times

    # ---- port 25 ------------------------------------------------------------------------

    def _start_port_test(self, looker: HostLooker) -> None:
        """Test a port that was closed, now and then: it may be that nobody else would."""
        is_testing = self._port_test is not None and not self._port_test.done()
        if self.is_port_blocked and not is_testing and self._clock.monotonic() >= self._test_at:
            self._port_test = asyncio.get_running_loop().create_task(self._test_port(looker))

    async def _test_port(self, looker: HostLooker) -> None:
        self._plan_port_test()
        try:
            self._note_port(await looker.test_port())
        except Exception as error:  # noqa: BLE001 - a fault of ours costs a test, not the reporter
            self._events.emit("internal-error", where="testing port 25", error=repr(error))

    def _plan_port_test(self) -> None:
        pause = BLOCKED_SECONDS if self._is_blocked_long else SOON_SECONDS
        self._test_at = self._clock.monotonic() + pause

    def _note_port(self, state: PortState) -> None:
        """Say once that port 25 is closed; when it is open again, all go on."""
        if state is PortState.BLOCKED and not self.is_port_blocked:
            self.is_port_blocked = True
            self._blocked_from = self._clock.monotonic()
            self._plan_port_test()
            self._events.emit("probe-port-blocked")
        if state is PortState.OPEN and self.is_port_blocked:
            self.is_port_blocked = False
            self._verdicts.forget_blocked()

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
        self._verdicts.forget_blocked()
        self._looker = looker

    async def close(self) -> None:
        """Give up what is under way, and let the looker go."""
        self.stop()
        await self.replace(None)

    async def _cancel(self) -> None:
        self._line = {}
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _tasks(self) -> list[asyncio.Task[None]]:
        others = [task for task in (self._round, self._port_test) if task is not None]
        return [*self._busy.values(), *others]


def _key(policy: ReportedPolicy) -> bytes:
    """What a verdict is kept under: the domain and its patterns, which are all that is judged by."""
    text = "\n".join((policy.policy_domain, *policy.mx_host_patterns))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def _word(verdict: ProbeVerdict) -> str:
    if isinstance(verdict, NotEstablished):
        return str(verdict.gap)
    return "success" if verdict.failure is None else "failure"
