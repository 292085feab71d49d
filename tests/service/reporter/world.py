# SPDX-License-Identifier: Apache-2.0
"""A reporter on a real store, with fakes around it."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from strictmail.core.dnsvalues import RecordType
from strictmail.core.errors import StoreUnavailableError
from strictmail.core.tlsrpt.counts import Counts
from strictmail.core.tlsrpt.delivery import OutcomeKind, SendOutcome
from strictmail.core.tlsrpt.report import Identity
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import FailureDetail, JudgedPolicy, ReportedPolicy, Session
from strictmail.net.fakes import FakeResolver
from strictmail.reporter.making import Maker
from strictmail.reporter.probing import HostLooker, Probing
from strictmail.reporter.schedule import Reporter
from strictmail.reporter.sending import Sender
from strictmail.reporter.settings import ReporterSettings, SenderIdentity
from strictmail.runtime.clock import ManualClock
from strictmail.store.outbox import Outbox
from strictmail.store.sessions import DayDomain, SessionStore
from strictmail.store.unverified import UnverifiedCounts

if TYPE_CHECKING:
    from pathlib import Path

    from strictmail.core.tlsrpt.destination import Destination
    from strictmail.store.outbox_rows import Delivery

DAY = date(2026, 1, 1)
MORNING = datetime(2026, 1, 2, 0, 10, tzinfo=UTC)
DELIVERED = SendOutcome(OutcomeKind.DELIVERED, "250 ok")
LATER = SendOutcome(OutcomeKind.RETRY, "451 later")
NEVER = SendOutcome(OutcomeKind.GIVE_UP, "554 no")
DEAD = SendOutcome(OutcomeKind.DEAD, "550 no such mailbox")

ME = SenderIdentity(
    Identity("Example", "tls-reports@sender.example"),
    "tls-reports@sender.example",
    signed_elsewhere=True,
)
SETTINGS = ReporterSettings(identities={"": ME}, spread=timedelta(0))

Answer = SendOutcome | Callable[[], SendOutcome]


@dataclass
class FakeOut:
    """Takes what is sent, and answers as it was told; both ways out in one.

    Attributes:
        answers: Destination, or its host -> what it says.
        sent: What was handed over, taken or not: destination and octets.
        taken: What was taken.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    taken: list[tuple[str, bytes]] = field(default_factory=list)
    crash: Callable[[str], None] = lambda _stage: None
    hold: Callable[[str], Any] | None = None
    most_at_once: int = 0
    at_once: Counter[str] = field(default_factory=Counter)
    most_of_host: int = 0

    async def _take(self, text: str, host: str, octets: bytes) -> SendOutcome:
        self.at_once[host] += 1
        self.most_at_once = max(self.most_at_once, self.at_once.total())
        self.most_of_host = max(self.most_of_host, self.at_once[host])
        try:
            self.crash("before it is taken")
            if self.hold is not None:
                await self.hold(text)
            answer = self.answers.get(text, self.answers.get(host, DELIVERED))
            outcome = answer if isinstance(answer, SendOutcome) else answer()
            self.sent.append((text, octets))
            if outcome.kind is OutcomeKind.DELIVERED:
                self.taken.append((text, octets))
            self.crash("after it is taken")
        finally:
            self.at_once[host] -= 1
        return outcome

    async def send(self, address: str, message: bytes) -> SendOutcome:
        return await self._take(f"mailto:{address}", address.rpartition("@")[2], message)

    async def upload(
        self, destination: Destination, content: bytes, media_type: str
    ) -> SendOutcome:
        assert media_type == "application/tlsrpt+gzip"
        return await self._take(destination.text, destination.host, content)

    async def close(self) -> None:
        pass

    def counts(self) -> Counter[str]:
        """How often each destination took something."""
        return Counter(text for text, _ in self.taken)


class Log:
    """Keeps events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def emit(self, name: str, /, **fields: object) -> None:
        from strictmail.runtime.logevents import EVENTS

        assert name in EVENTS
        self.events.append((name, fields))

    def names(self) -> Counter[str]:
        return Counter(name for name, _ in self.events)


async def inline(work: Callable[..., Any], *args: Any) -> Any:
    """A worker thread that is none."""
    return work(*args)


async def no_sleep(_seconds: float) -> None:
    """Time that does not pass."""


class World:
    """One installation."""

    def __init__(
        self,
        directory: Path,
        *,
        settings: ReporterSettings = SETTINGS,
        clock: ManualClock | None = None,
        resolver: FakeResolver | None = None,
        out: FakeOut | None = None,
        looker: HostLooker | None = None,
        seed: int = 1,
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.clock = clock or ManualClock(MORNING)
        self.resolver = resolver or FakeResolver()
        self.out = out or FakeOut()
        self.looker = looker
        self.log = Log()
        self.rng = random.Random(seed)
        self.open()

    def open(self) -> None:
        """Start, or start again after `crash`."""
        self.store = SessionStore(self.directory / "reports.sqlite3")
        self.outbox = Outbox(self.store)
        self.maker = Maker(
            self.store, self.outbox, self.resolver, self.clock, self.rng, self.settings
        )
        self.sender = Sender(
            self.outbox,
            self.out,
            self.out,
            self.settings,
            clock=self.clock,
            rng=self.rng,
            events=self.log,
            threads=inline,
            sleep=no_sleep,
        )
        self.probing = Probing(
            UnverifiedCounts(self.store),
            self.looker,
            clock=self.clock,
            events=self.log,
            threads=inline,
        )
        self.reporter = Reporter(
            self.store,
            self.outbox,
            self.maker,
            self.sender,
            clock=self.clock,
            events=self.log,
            threads=inline,
            probing=self.probing,
        )

    async def restart(self) -> None:
        """End without any grace, and start again."""
        await self.sender.close()
        await self.probing.close()
        self.store.close()
        self.open()

    def configure(self, **changes: Any) -> None:
        """Other settings, from now on."""
        self.settings = replace(self.settings, **changes)
        self.maker.settings = self.sender.settings = self.settings

    def publish(self, domain: str, *uris: str) -> None:
        """A TLSRPT record."""
        uris = uris or (f"mailto:tls@{domain}",)
        text = f"v=TLSRPTv1; rua={','.join(uris)}".encode()
        self.resolver.add(f"_smtp._tls.{domain}", RecordType.TXT, (text,))

    def count(
        self,
        domain: str,
        *,
        day: date = DAY,
        successes: int = 1,
        failures: int = 0,
        identity: str = "",
        record: str = "",
    ) -> None:
        """Sessions of a day."""
        counts = Counts()
        policy = ReportedPolicy(PolicyType.NO_POLICY_FOUND, domain)
        for _ in range(successes):
            counts.add(day, Session(domain, record, (JudgedPolicy(policy, succeeded=True),)))
        detail = FailureDetail(ResultType.STARTTLS_NOT_SUPPORTED, receiving_mx_hostname="mx.test")
        for _ in range(failures):
            judged = JudgedPolicy(policy, succeeded=False, failures=(detail,))
            counts.add(day, Session(domain, record, (judged,)))
        self.store.add(counts, identity)

    async def turn(self) -> None:
        """One turn, and whatever it began, to its end."""
        await self.reporter.turn()
        await self.sender.settle()

    async def run_until_quiet(self, turns: int = 1000) -> None:
        """Turns until nothing more can be begun now."""
        for _ in range(turns):
            before = len(self.out.sent)
            await self.turn()
            if len(self.out.sent) == before:
                return

    async def live(self, length: timedelta, step: timedelta = timedelta(minutes=5)) -> None:
        """Let time pass, with a turn at each step."""
        end = self.clock.now() + length
        while self.clock.now() < end:
            await self.turn()
            self.clock.advance(step)

    def outcome(self, domain: str, day: date = DAY, identity: str = "") -> str | None:
        """How a domain's day was closed; None while it is open."""
        rows = self.store.reading(
            "SELECT state, outcome FROM day_domain WHERE domain = ? AND identity = ? AND day = ?",
            (domain, identity, (day - date(1970, 1, 1)).days),
        )
        state, outcome = rows[0]
        return outcome if state else None

    def deliveries(self, domain: str = "") -> list[Delivery]:
        """All deliveries, or those to a domain's destinations."""
        return [
            delivery
            for report in self.outbox.reports(domain=domain)
            for delivery in self.outbox.deliveries(report.row_id)
        ]

    def states(self, domain: str = "") -> dict[str, str]:
        """Destination -> state, of the last report."""
        return {one.destination: str(one.state) for one in self.deliveries(domain)}


def which(domain: str, day: date = DAY) -> DayDomain:
    return DayDomain(day, "", domain)


class Crashed(BaseException):
    """The process is gone: nothing catches it."""


@dataclass
class CrashPlan:
    """Crashes at the n-th step of those that it is asked about."""

    at: int
    seen: int = 0
    stages: dict[int, str] = field(default_factory=lambda: defaultdict(str))

    def __call__(self, stage: str) -> None:
        self.seen += 1
        self.stages[self.seen] = stage
        if self.seen == self.at:
            raise Crashed(stage)


def broken_store(*_args: object, **_kwargs: object) -> None:
    raise StoreUnavailableError("the disk is full")
