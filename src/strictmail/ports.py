# SPDX-License-Identifier: Apache-2.0
"""The world as the roles see it: one Protocol for each thing that is not a value.

Every port has a real adapter in `net`, `store` or `runtime`, and a fake in `net.fakes`; the same
contract tests run against both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from strictmail.core.check.facts import (
        AuthorityFacts,
        PolicyHostLook,
        ProbeFacts,
        ProbeTarget,
        RuaFacts,
    )
    from strictmail.core.dnsvalues import Answer, RecordType
    from strictmail.core.overrides import Override
    from strictmail.core.sts.lifecycle import PolicyEntry
    from strictmail.core.sts.values import FetchedPolicy, FetchFailure
    from strictmail.core.tlsrpt.delivery import SendOutcome
    from strictmail.core.tlsrpt.destination import Destination


class Clock(Protocol):
    """Time as an argument."""

    def now(self) -> datetime:
        """The wall clock: aware, UTC. May jump in either direction."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary start."""
        ...


class Rng(Protocol):
    """Chance as an argument (`random.Random` fits)."""

    def random(self) -> float:
        """A float in [0, 1)."""
        ...

    def uniform(self, a: float, b: float) -> float:
        """A float between a and b."""
        ...


class Resolver(Protocol):
    """DNS questions to a validating resolver."""

    @property
    def validates(self) -> bool:
        """Whether its AD bit can be trusted at all; False switches DANE off."""
        ...

    async def lookup(self, name: str, rdtype: RecordType) -> Answer:
        """Look a name up, following aliases. Never raises for a DNS outcome.

        Args:
            name: A-label form, no trailing dot.
            rdtype: What to ask for.
        """
        ...


class PolicyFetcher(Protocol):
    """The HTTPS side of policy discovery."""

    async def fetch(self, policy_domain: str) -> FetchedPolicy | FetchFailure:
        """Fetch and parse the policy of a domain, as RFC 8461 §3.3 wants it. Never raises.

        Bounded in time, size and memory whatever the server does.
        """
        ...


class SmtpProber(Protocol):
    """A session with one address of an MX host, as a sending MTA would have it."""

    async def probe(self, target: ProbeTarget) -> ProbeFacts:
        """Connect, EHLO, STARTTLS, EHLO again, QUIT. Never raises, never sends mail.

        Bounded in time and memory whatever the host does. One connection at most, or two where
        only an old version of TLS is spoken.
        """
        ...


class PolicyHostProber(Protocol):
    """The policy host of a domain, one address at a time."""

    async def look(self, policy_domain: str, address: str, agent: str = "") -> PolicyHostLook:
        """Fetch the policy from this address alone, and see its certificates. Never raises.

        Args:
            policy_domain: Whose policy.
            address: Where to connect.
            agent: User agent to claim; "" for our own.
        """
        ...


class AuthorityLookup(Protocol):
    """Questions to one authoritative name server, without recursion."""

    async def ask(
        self, zone: str, server: str, address: str, name: str, rdtype: RecordType
    ) -> AuthorityFacts:
        """Ask one server one question; aliases are not followed. Never raises for an outcome."""
        ...


class RuaProber(Protocol):
    """Whether a report destination is alive."""

    async def look(self, uri: str) -> RuaFacts:
        """Look without sending anything: no report is ever posted or mailed. Never raises."""
        ...


class Reach(Protocol):
    """Whether this machine gets anywhere at all."""

    def has_route(self, host: str, address: str, port: int) -> bool:
        """Whether the machine knows a way to an address. Sends nothing."""
        ...

    async def connects(self, host: str, address: str, port: int, seconds: float) -> bool:
        """Whether a TCP connection comes about in time; it is closed at once. Never raises."""
        ...


class ReportMailer(Protocol):
    """The way of reports by mail."""

    async def send(self, address: str, message: bytes) -> SendOutcome:
        """Hand over one message for one mailbox. Never raises; bounded in time.

        The same message may come again after a crash: it is sent as it is.
        """
        ...

    async def close(self) -> None:
        """Give up connections that wait for more."""
        ...


class ReportUploader(Protocol):
    """The way of reports by HTTPS."""

    async def upload(
        self, destination: Destination, content: bytes, media_type: str
    ) -> SendOutcome:
        """Post one report. Never raises; bounded in time, and in what is read."""
        ...


class PolicyStore(Protocol):
    """Cached policies and overrides on disk.

    Synchronous: call it from a worker thread unless the call is documented as cheap.

    Every method raises StoreUnavailableError when the disk does not play along; the caller
    keeps answering from memory and says so.
    """

    def load(self, policy_domain: str) -> PolicyEntry | None:
        """Read one entry by its primary key (some 10 µs: may be called from the loop)."""
        ...

    def save(self, entries: Iterable[PolicyEntry]) -> None:
        """Insert or replace, in one transaction."""
        ...

    def touch(self, asked: Iterable[tuple[str, datetime]]) -> None:
        """Note when domains were last asked for, in one transaction."""
        ...

    def remove(self, policy_domains: Iterable[str]) -> int:
        """Delete; the number of entries that existed."""
        ...

    def due(self, now: datetime, limit: int) -> list[PolicyEntry]:
        """Entries whose `refresh_at` has come, earliest first."""
        ...

    def failing(self, now: datetime) -> list[PolicyEntry]:
        """Unexpired entries whose last refresh failed, earliest expiry first; never mode none."""
        ...

    def iterate(self, *, after: str = "", limit: int = 1000) -> list[PolicyEntry]:
        """A page of entries in order of domain, those behind `after`."""
        ...

    def count(self) -> int:
        """How many entries there are (cheap: kept by triggers or an estimate is not enough)."""
        ...

    def count_registrable(self, registrable_domain: str) -> int:
        """How many entries share this registrable domain."""
        ...

    def prune(self, now: datetime, idle_before: datetime) -> int:
        """Delete entries that have expired and those long expired; never an unexpired policy."""
        ...

    def overrides(self) -> list[Override]:
        """All overrides, expired ones too."""
        ...

    def save_override(self, override: Override) -> None:
        """Insert or replace."""
        ...

    def remove_override(self, nexthop: str) -> bool:
        """Delete; whether it existed."""
        ...

    def backup(self, path: str) -> None:
        """Write a consistent copy while others read and write."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...
