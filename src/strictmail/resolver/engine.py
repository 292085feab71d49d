# SPDX-License-Identifier: Apache-2.0
"""What is known of each next-hop, learnt once however many ask.

Values: a key comes in, a `Ruling` goes out: the decision and how long it may be kept. In between
stand the policy (`PolicyEntry`, on disk), the MX facts (in memory, for their TTL) and, for a
domain nobody asked for yet, one flight that everybody who asks waits for.

Flow::

    key -> parse_nexthop -> override? -> policy: store -> still good?   -> decide
                                                      -> else flight: TXT -> fetch -> store
                                         MX set: memo -> else flight: MX -> address -> TLSA

What happens when something fails:

=============================  ===================================================================
failure                        answer, and what is remembered
=============================  ===================================================================
TXT, policy or fetch fails     unexpired policy: it stands. None: as without policy, not kept;
                               the next fetch of that domain waits for its back-off
policy not learnt in time      as above; the flight goes on, and the next lookup finds its result
MX lookup fails or is late     policy enforces: DEFER. Else DANE (the MTA looks for itself), or NONE
store cannot be written        answers go on from memory; what was learnt is kept and written later
store cannot be read           a fresh look decides; where it finds nothing: DEFER, never NONE
too many domains of one owner  the policy holds for this lookup and is not stored
an unforeseen error            DEFER, logged with its traceback
=============================  ===================================================================

Runs on one event loop, in its own thread where cached answers are served from another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

from strictmail.core.decision import (
    REASONS,
    Decision,
    DecisionSettings,
    Level,
    ListenerProfile,
    PolicyInfo,
    decide,
    needs_mx,
    simple_decision,
)
from strictmail.core.errors import NexthopSyntaxError, StoreError
from strictmail.core.explain import printable
from strictmail.core.mxset import MxSet, MxStatus
from strictmail.core.nexthop import Nexthop, NexthopKind, parse_nexthop
from strictmail.core.sts import lifecycle
from strictmail.core.sts.values import FetchedPolicy, FetchFailure, Mode
from strictmail.discovery.mx import discover_mx
from strictmail.discovery.policy import RecordStatus, look_up_record
from strictmail.ports import PolicyStore
from strictmail.store.registrable import registrable_domain
from strictmail.store.requests import ALL_DOMAINS, Request, RequestKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from strictmail.core.overrides import Override
    from strictmail.core.sts.lifecycle import PolicyEntry
    from strictmail.discovery.policy import RecordLookup
    from strictmail.ports import Clock, PolicyFetcher, Resolver, Rng

T = TypeVar("T")

MAX_KEEP_SECONDS: Final = 3600.0
"""No reply is kept longer, so that a domain in use is noticed as such once an hour."""

NEGATIVE_CAP_SECONDS: Final = 3600
"""RFC 2308 §5 leaves the bound to us: "no policy" is never kept longer than an hour."""

REFRESH_SCAN_SECONDS: Final = 5.0
REFRESH_BATCH: Final = 200
RETRY_SAVE_SECONDS: Final = 5.0
TOUCH_AFTER: Final = timedelta(hours=1)
PRUNE_SECONDS: Final = 3600.0
POLL_SECONDS: Final = 1.0
MX_MEMO_ENTRIES: Final = 2048

_LEVEL_NUMBERS: Final = {level: number for number, level in enumerate(Level)}
_REASON_NUMBERS: Final = {reason: number for number, reason in enumerate(REASONS)}

EVICTED_SHARE: Final = 64
"""Part of a full table that goes at once: to find its oldest entry takes as long as a thousand."""


class EventSink(Protocol):
    """Where what happened is told (`runtime.logs.EventLog`)."""

    def emit(self, name: str, /, **fields: object) -> None:
        """Log one event of `runtime.logevents`."""
        ...


class EngineStore(PolicyStore, Protocol):
    """A policy store that commands of other processes work on too."""

    def changed_elsewhere(self) -> bool:
        """Whether `take_requests` may have something."""
        ...

    def take_requests(self) -> list[Request]:
        """What other processes ask for; each request is given out once."""
        ...

    def count_failing(self, now: datetime) -> tuple[int, datetime | None]:
        """How many entries `failing` would list, and the earliest expiry among them."""
        ...

    def answer_request(self, number: int, outcome: str, *, succeeded: bool) -> None:
        """Tell the asking command how it went."""
        ...


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The operator's numbers; see the configuration reference."""

    decision: DecisionSettings = field(default_factory=DecisionSettings)
    answer_deadline: float = 10.0
    fetch_concurrency: int = 64
    negative_ttl: float = 300.0
    refresh_interval: timedelta = timedelta(days=1)
    idle_after: timedelta = timedelta(days=30)
    known_entries: int = 100_000
    per_registrable_domain: int = 10_000
    smart_host_policy: bool = True


@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision and for how long it may be kept.

    Attributes:
        decision: What to answer.
        keep_seconds: 0: do not keep it.
        domain: The policy domain whose change ends it earlier; "" for none.
    """

    decision: Decision
    keep_seconds: float
    domain: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a domain's policy; the answer may be kept until a monotonic instant."""

    entry: PolicyEntry | None = None
    failure: FetchFailure | None = None
    record_failed: bool = False
    unreadable: bool = False
    keep_until: float = 0.0
    source: str = "cache"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _BackOff:
    until: float
    count: int
    failure: FetchFailure


_MxFacts: TypeAlias = tuple[MxSet, float]
"""An MX set, and the monotonic instant until which it may be kept."""


class Engine:
    """Answers next-hop questions; see the module's docstring.

    Args:
        store: Policies and overrides; read on this loop, written from a worker thread.
        resolver: DNS.
        fetcher: HTTPS.
        clock: Time.
        rng: Jitter.
        events: Where to tell what happened.
        settings: The operator's numbers.
    """

    def __init__(
        self,
        *,
        store: EngineStore,
        resolver: Resolver,
        fetcher: PolicyFetcher,
        clock: Clock,
        rng: Rng,
        events: EventSink,
        settings: EngineSettings | None = None,
    ) -> None:
        self.settings = settings or EngineSettings()
        self.store = store
        self.resolver = resolver
        self.fetcher = fetcher
        self.clock = clock
        self.rng = rng
        self.events = events
        self.counts: Counter[tuple[str, str]] = Counter()
        """(metric, label) -> count; read by the metrics collector."""
        self.store_failing = False
        self.cached_count = 0
        """Policies in the store, as of the last save or minute."""
        self._forget: list[Callable[[str], None]] = []
        self._overrides: dict[str, Override] = {}
        self._ended: set[Override] = set()
        self._absent: dict[str, float] = {}
        self._recordless: dict[str, str] = {}
        self._backoff: dict[str, _BackOff] = {}
        self._mx: dict[tuple[Nexthop, bool], _MxFacts] = {}
        self._flights: dict[object, asyncio.Task[Any]] = {}
        self._spoken: dict[int, int] = {}
        self._change_count = 0
        self._changed: dict[str, int] = {}
        self._changed_before = 0
        self._fetching: set[str] = set()
        self._unsaved: dict[str, PolicyEntry] = {}
        self._asked: dict[str, datetime] = {}
        self._fetch_slots = asyncio.Semaphore(self.settings.fetch_concurrency)
        self._writer = ThreadPoolExecutor(1, "store")
        self._wake_writer = asyncio.Event()
        self._jobs: list[asyncio.Task[None]] = []
        self._is_closed = False

    # ---- life ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the overrides and start the background jobs.

        Raises:
            StoreUnavailableError: The store cannot be read: what is cached is unknown.
        """
        await self._in_writer(lambda: registrable_domain("warm.up.example"))
        self._load_overrides()
        self.cached_count = self.store.count()
        for job in (self._keep_saving, self._keep_refreshing, self._keep_polling, self._keep_tidy):
            self._jobs.append(asyncio.create_task(job(), name=job.__name__))

    async def close(self) -> None:
        """Stop the background jobs and write down what was learnt; who still asks gets DEFER."""
        self._is_closed = True
        tasks = [*self._jobs, *self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._jobs.clear()
        with contextlib.suppress(StoreError):
            await self._save_now()
        self._writer.shutdown(wait=True)

    def on_change(self, forget: Callable[[str], None]) -> None:
        """Call `forget(policy_domain)` whenever a kept reply may have become untrue.

        The empty string stands for every domain. Called on the engine's loop.
        """
        self._forget.append(forget)

    def in_flight(self) -> int:
        """Lookups of things not known yet."""
        return len(self._flights)

    async def count_failing(self) -> tuple[int, datetime | None]:
        """How many unexpired policies fail to refresh, and the first expiry (STS-FET-39).

        Raises:
            StoreUnavailableError: The store cannot be read.
        """
        now = self.clock.now()
        return await self._in_writer(lambda: self.store.count_failing(now))

    def active_override_count(self) -> int:
        """How many overrides are in force."""
        now = self.clock.now()
        return sum(override.is_active(now) for override in list(self._overrides.values()))

    def clock_was_set(self) -> None:
        """The wall clock jumped: rulings under way rest on instants that are true no more."""
        self._tell_changed("")

    def apply_settings(self, settings: EngineSettings) -> None:
        """Take over changed settings after a reload; every kept reply is given up."""
        if settings.fetch_concurrency != self.settings.fetch_concurrency:
            self._fetch_slots = asyncio.Semaphore(settings.fetch_concurrency)
        self.settings = settings
        # Other name servers may have said it, or said so with an AD bit that is trusted no more.
        self._mx.clear()
        self._absent.clear()
        self._tell_changed("")

    # ---- questions ----------------------------------------------------------------------

    async def rule(self, key: str, profile: ListenerProfile) -> Ruling:
        """Decide for a key as an MTA sends it. Never raises, and ends within the deadline.

        Args:
            key: Any form of next-hop.
            profile: What the asking MTA does by itself.
        """
        try:
            ruling = await self._rule(key, profile)
        except Exception as error:  # noqa: BLE001 - the mail waits rather than go unprotected
            self.events.emit(
                "internal-error", where="rule", nexthop=printable(key), error=repr(error)
            )
            self.counts["internal_errors", ""] += 1
            return Ruling(simple_decision(printable(key), Level.DEFER, "internal-error"), 0.0)
        self._note_change(ruling, profile)
        return ruling

    async def _rule(self, key: str, profile: ListenerProfile) -> Ruling:
        try:
            nexthop = parse_nexthop(key)
        except NexthopSyntaxError as error:
            decision = simple_decision(printable(key), Level.NONE, "bad-nexthop", str(error))
            return Ruling(decision, MAX_KEEP_SECONDS)
        # RFC 8461 §3.4: no policy for parents or address literals (STS-APP-03, STS-APP-04).
        if nexthop.kind is NexthopKind.PARENT:
            return Ruling(simple_decision(key, Level.NONE, "parent"), MAX_KEEP_SECONDS)
        if nexthop.kind is NexthopKind.ADDRESS_LITERAL:
            return Ruling(simple_decision(key, Level.NONE, "address-literal"), MAX_KEEP_SECONDS)
        if nexthop.kind is NexthopKind.HOST and not self.settings.smart_host_policy:
            return Ruling(simple_decision(nexthop.domain, Level.NONE, "smart-host"), 60.0)
        return await self._rule_domain(nexthop, profile)

    async def _rule_domain(self, nexthop: Nexthop, profile: ListenerProfile) -> Ruling:
        # RFC 8461 §1.1, §3.4: the policy domain is the next-hop, also a smart host's; each is judged
        # by itself, shared MX hosts or not (STS-APP-01, STS-APP-02, STS-APP-06).
        profile, notes = self._effective(profile)
        deadline = self.clock.monotonic() + self.settings.answer_deadline
        ruling, has_changed = await self._rule_once(nexthop, profile, notes, deadline)
        if has_changed:
            # What was learnt, removed or ordered while the MX set was looked up counts at once.
            ruling, has_changed = await self._rule_once(nexthop, profile, notes, deadline)
        return replace(ruling, keep_seconds=0.0) if has_changed else ruling

    async def _rule_once(
        self, nexthop: Nexthop, profile: ListenerProfile, notes: tuple[str, ...], deadline: float
    ) -> tuple[Ruling, bool]:
        """A ruling, and whether what it rests on changed before it was made."""
        mx_task: asyncio.Task[_MxFacts] | None = None
        if needs_mx(None, profile, self._active_override(nexthop.domain)):
            mx_task = self._mx_flight(nexthop, want_tlsa=profile.dane)
        known = await self._policy(nexthop.domain, deadline)
        # From here to the answer only the MX set is waited for.
        changes = self._change_count
        override = self._active_override(nexthop.domain)
        policy = PolicyInfo.of(known.entry, known.source) if known.entry else None
        if known.unreadable and policy is None:
            decision = simple_decision(nexthop.domain, Level.DEFER, "store-unreadable")
            return Ruling(decision, 0.0), False
        mx: MxSet | None = None
        keep_until = known.keep_until
        if needs_mx(policy, profile, override):
            mx_task = mx_task or self._mx_flight(nexthop, want_tlsa=profile.dane)
            # Facts about MX and TLSA live at most their TTL (design decision 1).
            mx, mx_until = await self._mx_in_time(mx_task, deadline)
            keep_until = min(keep_until, mx_until)
        decision = decide(
            nexthop.domain,
            profile=profile,
            settings=self.settings.decision,
            policy=policy,
            mx=mx,
            failure=known.failure,
            record_failed=known.record_failed,
            override=override,
            notes=(*notes, *known.notes),
        )
        now = self.clock.now()
        has_expired = known.entry is not None and lifecycle.is_expired(known.entry, now)
        has_changed = has_expired or self._has_changed(nexthop.domain, changes)
        keep = self._keep_seconds(keep_until, override)
        return Ruling(decision, keep, nexthop.domain), has_changed

    def _effective(self, profile: ListenerProfile) -> tuple[ListenerProfile, tuple[str, ...]]:
        # RFC 7672 §2.1.1: without a validating resolver there is no DANE (DANE-01, DANE-02).
        if profile.dane and not self.resolver.validates:
            return replace(profile, dane=False), (
                "DANE is off: the resolver does not validate, or its AD bit is not trusted.",
            )
        return profile, ()

    def _keep_seconds(self, until: float, override: Override | None) -> float:
        keep = min(until - self.clock.monotonic(), MAX_KEEP_SECONDS)
        if override is not None:
            keep = min(keep, (override.expires_at - self.clock.now()).total_seconds())
        return max(0.0, keep)

    # ---- policies -----------------------------------------------------------------------

    async def _policy(self, domain: str, deadline: float) -> _Known:
        unreadable = False
        try:
            entry = self._load(domain)
        except StoreError as error:
            self._tell_store_failing(error)
            entry, unreadable = None, True
        now = self.clock.now()
        if entry is not None and not lifecycle.is_expired(entry, now):
            self._note_asked(entry, now)
            # RFC 8461 §5: the id is looked at again long before a bounce (STS-APP-56, SEC-15).
            if now >= entry.txt_check_at:
                self._fly(("look", domain), lambda: self._look_again(domain))
            return self._known_entry(entry, now)
        known = self._known_absent(domain)
        if known is None:
            flight = self._fly(("learn", domain), lambda: self._learn(domain))
            known = await _in_time(flight, deadline - self.clock.monotonic())
            if known is None:
                self.counts["late", "policy"] += 1
                # RFC 8461 §5.1: a first message may go before the policy is known (STS-FET-43).
                note = "The policy was not learnt in time; the next lookup uses the result."
                # A record that nobody has answered for yet is one that could not be looked up.
                known = _Known(record_failed=domain not in self._fetching, notes=(note,))
        return replace(known, unreadable=unreadable) if unreadable else known

    def _load(self, domain: str) -> PolicyEntry | None:
        entry = self._unsaved.get(domain)
        if entry is None:
            entry = self.store.load(domain)
        if entry is None:
            return None
        rewound = lifecycle.rewind_clock(entry, self.clock.now())
        if rewound is not entry:
            self._save(rewound)
        return rewound

    def _known_entry(self, entry: PolicyEntry, now: datetime, source: str = "cache") -> _Known:
        life = (entry.expires_at - now).total_seconds()
        look = (entry.txt_check_at - now).total_seconds()
        # While a look at the id is under way nothing is kept: its result counts at once.
        keep = self.clock.monotonic() + min(life, look) if look > 0 else 0.0
        return _Known(entry=entry, failure=entry.failure, keep_until=keep, source=source)

    def _known_absent(self, domain: str) -> _Known | None:
        moment = self.clock.monotonic()
        backoff = self._backoff.get(domain)
        if backoff is not None:
            if moment < backoff.until:
                # RFC 8461 §3.3: five minutes before the next attempt (STS-FET-31, STS-FET-28).
                return _Known(failure=backoff.failure)
            # The count stays until a fetch succeeds, so that the next back-off is longer.
            return None
        until = self._absent.get(domain)
        if until is not None:
            if moment < until:
                return _Known(keep_until=until)
            del self._absent[domain]
        return None

    async def _learn(self, domain: str) -> _Known:
        """First contact: TXT, then fetch (RFC 8461 §3.3)."""
        look = self._flights.get(("look", domain))
        if look is not None:
            # The policy expired while it was being refreshed: what comes of that is the newest.
            await asyncio.wait([look])
            entry = None
            with contextlib.suppress(StoreError):
                entry = self._load(domain)
            if entry is not None and not lifecycle.is_expired(entry, self.clock.now()):
                return self._known_entry(entry, self.clock.now(), "fetch")
        resolver = self.resolver
        lookup = await look_up_record(resolver, domain)
        self.counts["record_lookups", lookup.status.value] += 1
        if lookup.status is RecordStatus.FAILED:
            # RFC 8461 §10.2: a blocked lookup is never kept, so it ends with the block
            # (STS-REC-30, SEC-09).
            return _Known(record_failed=True, notes=(f"TXT lookup failed: {lookup.detail}",))
        if lookup.record is None:
            # RFC 2308 §5: no longer than the negative TTL (STS-REC-32).
            ttl = min(lookup.ttl, self.settings.negative_ttl, NEGATIVE_CAP_SECONDS)
            until = self.clock.monotonic() + ttl
            if ttl > 0 and resolver is self.resolver:
                _bounded_put(self._absent, domain, until, self.settings.known_entries)
            notes = (lookup.detail,) if lookup.detail else ()
            return _Known(keep_until=until, notes=notes)
        self._fetching.add(domain)
        try:
            result = await self._fetch(domain)
        finally:
            self._fetching.discard(domain)
        if isinstance(result, FetchFailure):
            self._note_backoff(domain, result)
            return _Known(failure=result, notes=lookup.record.warnings)
        entry = self._accept(None, domain, lookup.record.policy_id, result, lookup.ttl)
        return self._known_entry(entry, self.clock.now(), "fetch")

    async def _fetch(self, domain: str) -> FetchedPolicy | FetchFailure:
        # RFC 8461 §3.3: a bound on all fetches together (STS-FET-32, STS-FET-46).
        async with self._fetch_slots:
            result = await self.fetcher.fetch(domain)
        outcome = result.reason_code if isinstance(result, FetchFailure) else "ok"
        self.counts["policy_fetches", outcome] += 1
        return result

    def _note_backoff(self, domain: str, failure: FetchFailure) -> None:
        previous = self._backoff.get(domain)
        count = previous.count + 1 if previous else 1
        now = self.clock.now()
        wait = lifecycle.retry_time(now, count, self.rng.random()) - now
        until = self.clock.monotonic() + wait.total_seconds()
        _bounded_put(
            self._backoff, domain, _BackOff(until, count, failure), self.settings.known_entries
        )
        self.events.emit(
            "policy-fetch-failed",
            domain=domain,
            result_type=str(failure.result_type),
            reason=failure.reason,
        )

    def _accept(
        self,
        entry: PolicyEntry | None,
        domain: str,
        policy_id: str,
        fetched: FetchedPolicy,
        txt_ttl: int,
    ) -> PolicyEntry:
        new = lifecycle.apply_fetched(
            entry,
            policy_domain=domain,
            policy_id=policy_id,
            fetched=fetched,
            now=self.clock.now(),
            txt_ttl_seconds=txt_ttl,
            jitter=self.rng.random(),
            interval=self.settings.refresh_interval,
        )
        self._backoff.pop(domain, None)
        self._absent.pop(domain, None)
        if entry is None and not self._has_room(domain):
            self.events.emit("policy-not-stored", domain=domain)
            return new
        self._save(new)
        if entry is None or entry.body != new.body:
            event = "policy-learnt" if entry is None else "policy-changed"
            self.events.emit(
                event,
                domain=domain,
                mode=str(new.policy.mode),
                id=policy_id,
                max_age=new.policy.max_age,
                mx=" ".join(new.policy.mx_patterns)[:200],
            )
        self._tell_changed(domain)
        return new

    def _has_room(self, domain: str) -> bool:
        """Whether one more policy under this registrable domain is stored (bounded growth)."""
        if len(self._unsaved) >= self.settings.known_entries:
            return False  # a disk that has been full for long: memory must not be next
        try:
            owner = registrable_domain(domain)
            return self.store.count_registrable(owner) < self.settings.per_registrable_domain
        except StoreError:
            return True

    async def _look_again(self, domain: str) -> None:
        """The TXT record's time is over: has the id changed? (STS-APP-56, STS-APP-57)."""
        lookup = await look_up_record(self.resolver, domain)
        self.counts["record_lookups", lookup.status.value] += 1
        entry = self._load(domain)
        if entry is None:
            return
        self._note_record(entry, lookup)
        if lookup.record is not None:
            seen_id = lookup.record.policy_id
            if lifecycle.wants_fetch(entry, seen_id, self.clock.now()):
                await self._fetch_again(entry, seen_id, lookup.ttl)
                return
        # RFC 8461 §3.1, §3.3: absent, broken or failing: the policy stays (STS-REC-07, STS-REC-29).
        self._save(lifecycle.apply_txt_seen(entry, self.clock.now(), lookup.ttl))
        self._tell_changed(domain)

    async def _refresh(self, domain: str) -> None:
        """Fetch again before expiry, whatever the TXT record says (RFC 8461 §10.2)."""
        lookup = await look_up_record(self.resolver, domain)
        entry = self._load(domain)
        if entry is None:
            return
        self._note_record(entry, lookup)
        # RFC 8461 §10.2: not blockable through DNS alone (STS-FET-37, SEC-12).
        seen_id = lookup.record.policy_id if lookup.record else entry.policy_id
        await self._fetch_again(entry, seen_id, lookup.ttl)

    def _note_record(self, entry: PolicyEntry, lookup: RecordLookup) -> None:
        """Tell, once, that the record of a live policy is gone, and forget it when it is back."""
        domain = entry.policy_domain
        if lookup.record is not None or entry.policy.mode is Mode.NONE:
            self._recordless.pop(domain, None)
        elif self._recordless.get(domain) != lookup.reason_code:
            _bounded_put(self._recordless, domain, lookup.reason_code, self.settings.known_entries)
            # RFC 8461 §10.2: whoever blocks the record takes nothing away, and is seen (SEC-10).
            self.events.emit(
                "policy-record-missing",
                domain=domain,
                reason=lookup.reason_code,
                detail=printable(lookup.detail),
                expires_at=f"{entry.expires_at:%Y-%m-%dT%H:%M:%SZ}",
            )

    async def _fetch_again(self, entry: PolicyEntry, policy_id: str, txt_ttl: int) -> None:
        domain = entry.policy_domain
        result = await self._fetch(domain)
        # Whatever happened meanwhile to the entry (asked for, removed) must not be undone.
        current: PolicyEntry | None = entry
        with contextlib.suppress(StoreError):
            current = self._load(domain)
        if not isinstance(result, FetchFailure):
            self._accept(current, domain, policy_id, result, txt_ttl)
            return
        if current is None:
            return
        now = self.clock.now()
        failed = lifecycle.apply_fetch_failed(current, result, now, self.rng.random())
        self._save(lifecycle.apply_txt_seen(failed, now, txt_ttl))
        self._tell_changed(domain)
        if lifecycle.warns_when_failing(failed):
            # RFC 8461 §3.3, §10.2: the operator learns of it early (STS-FET-39).
            self.events.emit(
                "policy-refresh-failed",
                domain=domain,
                result_type=str(result.result_type),
                reason=result.reason,
                expires_at=f"{failed.expires_at:%Y-%m-%dT%H:%M:%SZ}",
                failures=failed.failure_count,
            )

    def _note_asked(self, entry: PolicyEntry, now: datetime) -> None:
        domain = entry.policy_domain
        if entry.refresh_at is None:
            self._save(lifecycle.apply_asked(entry, now, self.rng.random()))
        elif now - entry.last_asked_at >= TOUCH_AFTER:
            self._asked[domain] = now

    # ---- MX sets ------------------------------------------------------------------------

    def _mx_flight(self, nexthop: Nexthop, *, want_tlsa: bool) -> asyncio.Task[_MxFacts]:
        key = (nexthop, want_tlsa)
        return self._fly(key, lambda: self._find_mx(key))

    async def _find_mx(self, key: tuple[Nexthop, bool]) -> _MxFacts:
        nexthop, want_tlsa = key
        memo = self._mx.get(key)
        moment = self.clock.monotonic()
        if memo is not None and moment < memo[1]:
            return replace(memo[0], ttl=int(memo[1] - moment)), memo[1]
        resolver = self.resolver
        mx: MxSet = await discover_mx(resolver, nexthop, want_tlsa=want_tlsa)
        self.counts["mx_lookups", mx.status.value] += 1
        # From the first question on, and bounded: a TTL of years would make one forged answer last.
        facts = (mx, moment + min(mx.ttl, MAX_KEEP_SECONDS))
        if mx.ttl > 0 and resolver is self.resolver:
            _bounded_put(self._mx, key, facts, MX_MEMO_ENTRIES)
        return facts

    async def _mx_in_time(self, flight: asyncio.Task[_MxFacts], deadline: float) -> _MxFacts:
        facts = await _in_time(flight, deadline - self.clock.monotonic())
        if facts is None:
            self.counts["late", "mx"] += 1
            return MxSet(MxStatus.ERROR, detail="the MX lookup took too long"), 0.0
        return facts

    # ---- overrides ----------------------------------------------------------------------

    def _load_overrides(self) -> None:
        overrides = {o.nexthop: o for o in self.store.overrides()}
        now = self.clock.now()
        for domain in overrides.keys() | self._overrides.keys():
            override = overrides.get(domain)
            if override == self._overrides.get(domain):
                continue
            self._tell_changed(domain)
            if override is not None and override.is_active(now):
                self.events.emit(
                    "override-active",
                    domain=domain,
                    action=str(override.action),
                    expires=override.expires_at,
                    reason=override.reason,
                )
        self._overrides = overrides
        self._ended.intersection_update(overrides.values())

    def _active_override(self, domain: str) -> Override | None:
        override = self._overrides.get(domain)
        if override is None:
            return None
        if override.is_active(self.clock.now()):
            return override
        # It stays in the table: a clock that was ahead may be set back.
        if override not in self._ended:
            self._ended.add(override)
            self.events.emit("override-expired", domain=domain, action=str(override.action))
        return None

    # ---- flights ------------------------------------------------------------------------

    def _fly(self, key: object, start: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """The flight for `key`: the one under way, or a new one (STS-FET-46)."""
        flight = self._flights.get(key)
        if flight is None:
            if self._is_closed:
                raise RuntimeError("the engine is closed")
            flight = asyncio.get_running_loop().create_task(start())
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        return flight

    def _landed(self, key: object, flight: asyncio.Task[Any]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled() and (error := flight.exception()) is not None:
            self._tell_trouble(error, repr(key)[:100])

    # ---- telling ------------------------------------------------------------------------

    def _tell_changed(self, domain: str) -> None:
        self._change_count += 1
        self._changed.pop(domain, None)
        if len(self._changed) >= MX_MEMO_ENTRIES:
            # Which domains changed so long ago is no longer known: it may have been any.
            self._changed_before = self._change_count - 1
            self._changed.clear()
        self._changed[domain] = self._change_count
        for forget in self._forget:
            forget(domain)

    def _has_changed(self, domain: str, since: int) -> bool:
        """Whether a domain was told of by `_tell_changed` after the change of this number."""
        last = max(self._changed.get(domain, 0), self._changed.get("", 0), self._changed_before)
        return last > since

    def _note_change(self, ruling: Ruling, profile: ListenerProfile) -> None:
        """One log line per decision change rather than per lookup (STS-APP-67)."""
        decision = ruling.decision
        if not ruling.domain:
            return
        speaks = decision.level is not Level.NONE
        key = hash((decision.nexthop, profile))
        if not speaks and key not in self._spoken:
            return
        # A small number, which the interpreter has one of: there may be a table full of them.
        told = _REASON_NUMBERS[decision.reason] * len(Level) + _LEVEL_NUMBERS[decision.level]
        previous = self._spoken.get(key)
        if previous == told:
            return
        _bounded_put(self._spoken, key, told, self.settings.known_entries)
        self.events.emit(
            "decision-changed",
            domain=decision.nexthop,
            level=str(decision.level),
            reason=decision.reason,
            mode=str(decision.policy.mode) if decision.policy else "",
            id=decision.policy.policy_id if decision.policy else "",
            mx=" ".join(decision.allowed_mx)[:200],
            refused=" ".join(r.name for r in decision.refused_mx)[:200],
        )

    def _tell_store_failing(self, error: Exception) -> None:
        if not self.store_failing:
            self.store_failing = True
            self.events.emit("store-unavailable", error=str(error))

    def _tell_trouble(self, error: BaseException, where: str) -> None:
        if isinstance(error, StoreError):
            self._tell_store_failing(error)
            return
        self.events.emit("internal-error", where=where, error=repr(error))
        self.counts["internal_errors", ""] += 1

    def _tell_store_fine(self) -> None:
        if self.store_failing:
            self.store_failing = False
            self.events.emit("store-recovered")

    # ---- background jobs ----------------------------------------------------------------

    def _save(self, entry: PolicyEntry) -> None:
        self._unsaved[entry.policy_domain] = entry
        self._wake_writer.set()

    async def _in_writer(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, call)

    async def _save_now(self) -> None:
        """Write everything not yet written, in one transaction."""
        batch = dict(self._unsaved)
        if batch:
            await self._in_writer(lambda: self.store.save(batch.values()))
            self.cached_count = self.store.count()
            for domain, entry in batch.items():
                if self._unsaved.get(domain) is entry:
                    del self._unsaved[domain]
        asked = dict(self._asked)
        if asked:
            await self._in_writer(lambda: self.store.touch(asked.items()))
            self._asked = {d: now for d, now in self._asked.items() if asked.get(d) != now}

    async def _keep_saving(self) -> None:
        while True:
            await self._wake_writer.wait()
            self._wake_writer.clear()
            try:
                await self._save_now()
                self._tell_store_fine()
            except Exception as error:  # noqa: BLE001 - what was learnt is written sooner or later
                self._tell_trouble(error, "save")
                await asyncio.sleep(RETRY_SAVE_SECONDS)
                self._wake_writer.set()

    async def _keep_refreshing(self) -> None:
        await self._repeat(REFRESH_SCAN_SECONDS, self.refresh_due)

    async def refresh_due(self) -> int:
        """Start refreshing what is due; how many were started or put to rest.

        Raises:
            StoreUnavailableError: Try again later.
        """
        now = self.clock.now()
        due = await self._in_writer(lambda: self.store.due(now, REFRESH_BATCH))
        started = 0
        for stored in due:
            domain = stored.policy_domain
            entry = self._unsaved.get(domain, stored)
            if entry.refresh_at is None or entry.refresh_at > now:
                continue
            started += 1
            if now - entry.last_asked_at >= self.settings.idle_after:
                self._save(lifecycle.apply_idle(entry))
            elif lifecycle.is_expired(entry, now):
                self._expire(entry)
            else:
                self._fly(("look", domain), lambda domain=domain: self._refresh(domain))  # type: ignore[misc]
        return started

    def _expire(self, entry: PolicyEntry) -> None:
        # RFC 8461 §10.2: off after the last second, and the operator is told (SEC-11).
        if lifecycle.warns_when_failing(entry):
            self.events.emit("policy-expired", domain=entry.policy_domain)
        self._save(lifecycle.apply_idle(entry))
        self._tell_changed(entry.policy_domain)

    async def _keep_polling(self) -> None:
        await self._repeat(POLL_SECONDS, self.poll_requests)

    async def poll_requests(self) -> None:
        """See what other processes did to the store, and do what commands ask for."""
        if not self.store.changed_elsewhere():
            return
        # First, since what was taken will not be told again.
        self._load_overrides()
        for request in await self._in_writer(self.store.take_requests):
            if request.kind is RequestKind.REFRESH:
                self._fly(("asked", request.number), lambda r=request: self._answer_request(r))  # type: ignore[misc]
            else:
                self._forget_known(request.domain)

    def _forget_known(self, domain: str) -> None:
        """The store was changed by a command: memory must not hide it."""
        if domain == ALL_DOMAINS:
            self._absent.clear()
            self._backoff.clear()
            self._tell_changed("")
            return
        # What was just learnt and is not written yet would come back; that is the only case.
        with contextlib.suppress(StoreError):
            if self.store.load(domain) is None:
                self._unsaved.pop(domain, None)
        self._absent.pop(domain, None)
        self._backoff.pop(domain, None)
        self._tell_changed(domain)

    async def _answer_request(self, request: Request) -> None:
        """Fetch a policy now, whatever was planned, and tell the command how it went."""
        domain = request.domain
        self._absent.pop(domain, None)
        self._backoff.pop(domain, None)
        entry = self._load(domain)
        if entry is None or lifecycle.is_expired(entry, self.clock.now()):
            known = await asyncio.shield(self._fly(("learn", domain), lambda: self._learn(domain)))
            entry, failure, notes = known.entry, known.failure, known.notes
        else:
            await asyncio.shield(self._fly(("look", domain), lambda: self._refresh(domain)))
            entry, notes = self._load(domain), ()
            failure = entry.failure if entry else None
        if failure is not None:
            outcome = f"{failure.result_type}: {failure.reason}"
        elif entry is not None:
            outcome = (
                f"mode {entry.policy.mode}, id {entry.policy_id}, max_age {entry.policy.max_age}"
            )
        else:
            outcome = "; ".join(("the domain has no MTA-STS policy", *notes))
        succeeded = failure is None and entry is not None
        answer = self.store.answer_request
        await self._in_writer(
            lambda: answer(request.number, printable(outcome, 500), succeeded=succeeded)
        )

    async def _keep_tidy(self) -> None:
        await self._repeat(PRUNE_SECONDS, self.tidy)

    async def _repeat(self, seconds: float, job: Callable[[], Awaitable[object]]) -> None:
        """Do a job for ever: no fault may end refreshing without a word."""
        while True:
            try:
                await job()
            except Exception as error:  # noqa: BLE001 - told, and tried again
                self._tell_trouble(error, getattr(job, "__name__", "job"))
            await asyncio.sleep(seconds)

    async def tidy(self) -> None:
        """Delete what has long expired; write down who was asked for."""
        now = self.clock.now()
        idle = now - self.settings.idle_after
        await self._in_writer(lambda: self.store.prune(now, idle))
        self._wake_writer.set()


async def _in_time(flight: asyncio.Task[T], seconds: float) -> T | None:
    """The flight's result, or None when it is late; a late flight goes on."""
    if not flight.done():
        await asyncio.wait([flight], timeout=max(0.0, seconds))
    if flight.cancelled():
        raise RuntimeError("the lookup was cut off")  # for whoever waits: DEFER, not silence
    return flight.result() if flight.done() else None


K = TypeVar("K")


def _bounded_put(table: dict[K, T], key: K, value: T, limit: int) -> None:
    """Insert; at the limit the oldest entries go."""
    if key not in table and len(table) >= limit:
        for oldest in list(islice(table, max(1, limit // EVICTED_SHARE))):
            del table[oldest]
    table[key] = value
