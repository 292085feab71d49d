# SPDX-License-Identifier: Apache-2.0
"""Random lives of an engine and its listeners, judged by a model that knows only what was fetched.

What must hold whatever the schedule: while a policy in mode enforce that was fetched is unexpired
and no newer one was fetched, no reply is weaker than it; an expired or replaced policy has no
effect; and a kept reply says what a fresh ruling would say. Time, DNS, HTTPS and the disk are
tables that the machine edits: nothing sleeps.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.service.resolver.world import World

from strictmail.core.decision import ListenerProfile
from strictmail.core.dnsvalues import RecordType, Status, Tlsa
from strictmail.core.errors import StoreUnavailableError
from strictmail.core.mta import netstring, socketmap
from strictmail.core.sts.match import match_any
from strictmail.core.sts.values import FetchedPolicy, FetchFailure, Mode
from strictmail.resolver import engine as engine_module
from strictmail.resolver.role import Bridge
from strictmail.resolver.socketmap import Listener
from strictmail.store.memory import MemoryPolicyStore
from strictmail.store.requests import RequestKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from strictmail.core.sts.lifecycle import PolicyEntry

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("STRICTMAIL_SOAK_EXAMPLES", "60"))
STEPS = 50

DOMAINS = ("a.example", "b.example")
KEYS = {"a.example": ("a.example", "A.Example.", "[a.example]:587"), "b.example": ("b.example",)}
STEPS_IN_TIME = (0.5, 2, 59, 200, 301, 3600, 40_000, 86_400, 400_000)
JUMPS = (timedelta(days=-30), timedelta(hours=-2), timedelta(hours=2), timedelta(days=9))
SECOND = timedelta(seconds=1)
GOOD_TLSA = Tlsa(3, 1, 1, b"\xab" * 32)


class FaultyStore(MemoryPolicyStore):
    """A disk that can be full and can be unreadable."""

    full = False
    unreadable = False

    def save(self, entries: Iterable[PolicyEntry]) -> None:
        if self.full:
            raise StoreUnavailableError("disk full")
        super().save(entries)

    def load(self, policy_domain: str) -> PolicyEntry | None:
        if self.unreadable:
            raise StoreUnavailableError("damaged")
        return super().load(policy_domain)


@dataclass(frozen=True)
class Learnt:
    """What the model knows of a fetched policy.

    Attributes:
        must_until: Up to here it holds, come what may.
        may_until: After this it has no effect; later than `must_until` if the clock was set back.
    """

    mode: Mode
    patterns: tuple[str, ...]
    fetched_at: datetime
    must_until: datetime
    may_until: datetime

    @classmethod
    def of(cls, policy: Any, fetched_at: datetime) -> Learnt:
        until = fetched_at + timedelta(seconds=policy.max_age)
        # The store keeps whole seconds, rounded down.
        return cls(policy.mode, policy.mx_patterns, fetched_at, until - SECOND, until)


@dataclass(frozen=True)
class Facts:
    """What a reply may rest on: the policy, and whether it must or may count just now."""

    learnt: Learnt | None
    must_count: bool
    may_count: bool
    may_defer: bool


@dataclass(eq=False)
class Asked:
    """A question under way, and every state of the world since it was asked."""

    listener: Listener
    domain: str
    facts: list[Facts] = field(default_factory=list)
    reply: bytes | None = None


async def in_turn(call: Callable[[], Any]) -> Any:
    """Do what the worker thread would do."""
    await asyncio.sleep(0)
    return call()


def words(reply: bytes) -> list[str]:
    (payload,) = netstring.Decoder(200_000).feed(reply)
    return payload.decode().split()


def fits(reply: bytes, facts: Facts, profile: ListenerProfile) -> bool:
    """Whether a reply is neither weaker nor, for an expired policy, stronger than it should be."""
    said = words(reply)
    learnt = facts.learnt
    if said[0] == "TEMP":
        return facts.may_defer or facts.may_count
    level = said[1] if said[0] == "OK" else "none"
    if level == "dane-only":
        return profile.dane
    if level == "secure":
        names = next(w.removeprefix("match=") for w in said if w.startswith("match=")).split(":")
        return (
            facts.may_count
            and learnt is not None
            and all(match_any(name, learnt.patterns) for name in names)
        )
    assert level in ("none", "dane")
    return not facts.must_count


class EngineMachine(RuleBasedStateMachine):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__()
        engine_module.RETRY_SAVE_SECONDS = 0.001  # type: ignore[misc]
        self.loop = asyncio.new_event_loop()
        self.store = FaultyStore()
        self.learnt: dict[str, Learnt] = {}
        self.asked: list[Asked] = []
        self.world = World(store=self.store)
        self.world.fetcher.fetch = self.fetch  # type: ignore[method-assign]
        self.listeners: list[Listener] = []
        self.bridge: Bridge
        for domain in DOMAINS:
            self.world.domain(domain, max_age=400_000)
            self.set_id(domain, "1")
        self.run(self.begin())

    @property
    def gate(self) -> asyncio.Event | None:
        """What keeps DNS or HTTPS from answering, if anything does."""
        return self.world.resolver.gate or self.world.fetcher.gate

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def begin(self) -> None:
        world = self.world
        # The worker thread's part, one turn of the loop later: a schedule can be played again.
        world.engine._in_writer = in_turn  # type: ignore[method-assign]
        await world.engine.start()
        loop = asyncio.get_running_loop()
        self.bridge = Bridge(
            world.engine,
            engine_loop=loop,
            serving_loop=loop,
            clock=world.clock,
            events=world.events,
        )
        self.listeners = [
            Listener(name, dialect="postfix", profile=profile, asker=self.bridge)
            for name, profile in (
                ("plain", ListenerProfile()),
                ("dane", ListenerProfile(dane=True)),
            )
        ]
        self.bridge.listeners = self.listeners

    async def fetch(self, policy_domain: str) -> FetchedPolicy | FetchFailure:
        found = await type(self.world.fetcher).fetch(self.world.fetcher, policy_domain)
        if isinstance(found, FetchedPolicy):
            self.learnt[policy_domain] = Learnt.of(found.policy, self.world.clock.now())
            self.note(policy_domain)
        return found

    def set_id(self, domain: str, policy_id: str) -> None:
        # Longer than the TTL of MX records, so that facts end at different times.
        record = (f"v=STSv1; id={policy_id};".encode(),)
        self.world.resolver.set(f"_mta-sts.{domain}", RecordType.TXT, record, ttl=3600)

    def facts(self, domain: str) -> Facts:
        learnt, now = self.learnt.get(domain), self.world.clock.now()
        enforces = learnt is not None and learnt.mode is Mode.ENFORCE
        return Facts(
            learnt,
            must_count=enforces and learnt is not None and now <= learnt.must_until,
            may_count=enforces and learnt is not None and now <= learnt.may_until,
            may_defer=self.store.unreadable,
        )

    def note(self, *domains: str) -> None:
        """The world of these domains changed: whoever waits may be answered by either state."""
        for asked in self.asked:
            if asked.domain in domains:
                asked.facts.append(self.facts(asked.domain))

    async def settle(self) -> None:
        engine = self.world.engine
        for turn in range(400):
            await asyncio.sleep(0)
            waits_for_disk = engine._unsaved and not self.store.full
            if not waits_for_disk and (self.gate or not engine.in_flight()) and turn > 20:
                break
            if waits_for_disk:
                await asyncio.sleep(0.0005)
        self.judge()

    def judge(self) -> None:
        for asked in [a for a in self.asked if a.reply is not None]:
            assert asked.reply is not None
            profile = asked.listener.profile
            assert any(fits(asked.reply, facts, profile) for facts in asked.facts), (
                asked.reply,
                asked.facts,
            )
            self.asked.remove(asked)

    # ---- what happens -------------------------------------------------------------------

    @initialize()
    def begin_with_questions(self) -> None:
        self.everybody_asks()

    @rule()
    def everybody_asks(self) -> None:
        for domain in DOMAINS:
            for which in range(len(self.listeners)):
                self.question(domain, which, 0)

    @rule(domain=st.sampled_from(DOMAINS), which=st.integers(0, 1), form=st.integers(0, 2))
    def ask(self, domain: str, which: int, form: int) -> None:
        self.question(domain, which, form)

    def question(self, domain: str, which: int, form: int) -> None:
        listener, keys = self.listeners[which], KEYS[domain]
        key = keys[form % len(keys)]
        raw = netstring.encode(f"sts {key}".encode())
        asked = Asked(listener, domain, [self.facts(domain)])
        self.asked.append(asked)
        kept = listener.answers.replies.get(raw)
        if kept is not None:
            asked.reply = kept[0]
            self.judge()
            return

        def done(reply: bytes, _counter: list[int]) -> None:
            asked.reply = reply

        async def go() -> None:
            self.bridge.ask(listener, socketmap.Request("sts", key), done)
            await self.settle()

        self.run(go())
        assert self.gate or asked.reply is not None

    @rule(
        domain=st.sampled_from(DOMAINS),
        mode=st.sampled_from(("enforce", "enforce", "testing", "none")),
        max_age=st.sampled_from((600, 90_000, 400_000)),
        host=st.sampled_from(("mx", "*", "other")),
        announced=st.booleans(),
    )
    def publish(self, domain: str, mode: str, max_age: int, host: str, announced: bool) -> None:
        self.world.set_policy(domain, mode=mode, max_age=max_age, mx=f"{host}.{domain}")
        if announced:
            self.set_id(domain, f"id{len(self.world.events.told)}x{max_age}")

    @rule(domain=st.sampled_from(DOMAINS))
    def break_https(self, domain: str) -> None:
        self.world.fetcher.bodies.pop(domain, None)

    @rule(
        domain=st.sampled_from(DOMAINS),
        status=st.sampled_from((Status.NXDOMAIN, Status.NODATA, Status.SERVFAIL, Status.TIMEOUT)),
    )
    def break_record(self, domain: str, status: Status) -> None:
        self.world.resolver.fail(f"_mta-sts.{domain}", RecordType.TXT, status)

    @rule(domain=st.sampled_from(DOMAINS), status=st.sampled_from((Status.SERVFAIL, Status.BOGUS)))
    def break_mx(self, domain: str, status: Status) -> None:
        self.world.resolver.fail(domain, RecordType.MX, status)

    @rule(
        domain=st.sampled_from(DOMAINS),
        hosts=st.lists(st.sampled_from(("mx", "other", "evil")), min_size=1, unique=True),
        secure=st.booleans(),
        tlsa=st.booleans(),
    )
    def move_mx(self, domain: str, hosts: list[str], secure: bool, tlsa: bool) -> None:
        names = [f"{host}.{domain}" for host in hosts]
        self.world.set_mx(domain, *names, secure=secure)
        for name in names:
            if tlsa:
                self.world.set_tlsa(name, GOOD_TLSA)
            else:
                self.world.resolver.answers.pop((f"_25._tcp.{name}", RecordType.TLSA), None)

    @rule(seconds=st.sampled_from(STEPS_IN_TIME), refreshing=st.booleans())
    def time_passes(self, seconds: float, refreshing: bool) -> None:
        self.world.clock.advance(seconds)
        self.after_time(refreshing=refreshing)
        self.everybody_asks()

    @rule(delta=st.sampled_from(JUMPS), refreshing=st.booleans())
    def clock_is_set(self, delta: timedelta, refreshing: bool) -> None:
        self.world.clock.jump(delta)
        now = self.world.clock.now()
        for domain, learnt in self.learnt.items():
            if learnt.fetched_at > now:
                # Its age counts from the first look after the jump on: from now at the earliest.
                until = now + (learnt.may_until - learnt.fetched_at) - SECOND
                self.learnt[domain] = replace(learnt, must_until=min(learnt.must_until, until))
        self.after_time(refreshing=refreshing)

    def after_time(self, *, refreshing: bool) -> None:
        for domain, learnt in self.learnt.items():
            if self.world.clock.now() > learnt.may_until:
                # It may be deleted from now on: a clock that is set back need not revive it.
                gone = self.world.clock.now() - timedelta(days=3650)
                self.learnt[domain] = replace(learnt, must_until=gone)
        self.note(*DOMAINS)
        self.bridge.expire()

        async def go() -> None:
            if refreshing:
                await self.world.engine.refresh_due()
            await self.settle()

        self.run(go())

    @rule(full=st.booleans(), unreadable=st.booleans())
    def disk(self, full: bool, unreadable: bool) -> None:
        self.store.full, self.store.unreadable = full, unreadable
        self.note(*DOMAINS)
        self.run(self.settle())

    @precondition(lambda self: not self.store.unreadable)
    @rule(domain=st.sampled_from(DOMAINS))
    def operator_removes(self, domain: str) -> None:
        async def go() -> None:
            await self.settle()
            if domain in self.world.engine._unsaved:
                return
            self.store.remove([domain])
            self.store.request(RequestKind.FORGET, domain)
            await self.world.engine.poll_requests()
            self.learnt.pop(domain, None)
            self.note(domain)
            await self.settle()

        self.run(go())

    @rule(dns=st.booleans())
    def hang(self, dns: bool) -> None:
        """From now on questions stay unanswered: others come in between."""
        port = self.world.resolver if dns else self.world.fetcher
        port.gate = port.gate or asyncio.Event()

    @precondition(lambda self: self.gate is not None)
    @rule(dns=st.booleans())
    def go_on(self, dns: bool) -> None:
        async def go() -> None:
            port = self.world.resolver if dns else self.world.fetcher
            if port.gate is not None:
                port.gate.set()
                port.gate = None
            await self.settle()
            assert self.gate or not self.asked

        self.run(go())

    @rule()
    def restart(self) -> None:
        """What is on disk is known to the next engine; what could not be written is lost."""

        async def go() -> None:
            self.asked.clear()
            self.world.resolver.gate = self.world.fetcher.gate = None
            await self.world.engine.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                raise AssertionError(f"{task} was left behind")
            if self.store.full:
                self.learnt = {
                    domain: self.keep(domain, entry)
                    for domain in DOMAINS
                    if (entry := MemoryPolicyStore.load(self.store, domain)) is not None
                }
            before = self.world
            self.world = World(store=self.store)
            self.world.clock = self.world.engine.clock = before.clock
            self.world.resolver = self.world.engine.resolver = before.resolver
            self.world.fetcher = self.world.engine.fetcher = before.fetcher
            await self.begin()

        self.run(go())

    def keep(self, domain: str, entry: PolicyEntry) -> Learnt:
        """What the model knows of a stored policy: maybe an older one than the last fetched."""
        known = self.learnt.get(domain)
        stored = Learnt.of(entry.policy, entry.fetched_at)
        stored = replace(stored, may_until=stored.may_until + SECOND)
        if entry.fetched_at > self.world.clock.now():
            stored = replace(stored, must_until=self.world.clock.now())
        if known is not None:
            return replace(stored, must_until=min(known.must_until, stored.must_until))
        return stored

    # ---- what must hold -----------------------------------------------------------------

    @invariant()
    def no_kept_reply_is_weaker(self) -> None:
        for listener in self.listeners:
            for raw, (reply, _, _) in listener.answers.replies.items():
                key = words(raw)[1].lower()
                domain = next(d for d in DOMAINS if d in key)
                assert fits(reply, self.facts(domain), listener.profile), (raw, reply)

    @invariant()
    def kept_replies_say_what_a_fresh_ruling_says(self) -> None:
        if self.gate is None and not self.store.unreadable:
            self.run(self.compare())

    async def compare(self) -> None:
        for listener in self.listeners:
            for raw in list(listener.answers.replies):
                kept = listener.answers.replies.get(raw)
                if kept is None:
                    continue
                ruling = await self.world.engine.rule(words(raw)[1], listener.profile)
                await asyncio.sleep(0)
                if raw in listener.answers.replies:  # else the ruling itself found news
                    assert words(kept[0])[:2] == words(listener.finish(ruling)[0])[:2], raw

    @invariant()
    def nothing_broke(self) -> None:
        told = self.world.events.told
        assert not [fields for name, fields in told if name == "internal-error"]

    def teardown(self) -> None:
        async def end() -> None:
            self.world.resolver.gate = self.world.fetcher.gate = None
            await self.world.engine.close()

        try:
            self.run(end())
        finally:
            self.loop.close()


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize="STRICTMAIL_SOAK_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
