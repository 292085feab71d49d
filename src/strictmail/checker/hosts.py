# SPDX-License-Identifier: Apache-2.0
"""MX hosts as a run sees them: each visited once, politely, however many domains share it.

A session is one host at one address, with one SNI and one kind of certificate. Its way::

    kept? -> somebody is on the way there? -> port 25 closed? no route? not public?
      -> said BUSY or REFUSED twice? visited too often? -> a place at the operator, at the address
      -> the pause since the last connection there -> the visit -> perhaps once more, later

What is refused on this way is `Unknown` with its reason, and no connection was made. A busy or
silent host is asked once more after a pause; its place is free for others meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from strictmail.checker.flights import Flights, Kept
from strictmail.checker.limits import KeyedLimiter, Spacing
from strictmail.core.check.facts import (
    PortState,
    ProbeFacts,
    ProbeOutcome,
    ProbeTarget,
    Unknown,
    UnknownReason,
)
from strictmail.core.sts.fetchrules import is_allowed_address
from strictmail.store.registrable import registrable_domain

if TYPE_CHECKING:
    from strictmail.checker.gate import Gate
    from strictmail.checker.limits import Sleeper
    from strictmail.checker.settings import CheckSettings
    from strictmail.ports import Clock, Rng, SmtpProber

REBUFFS: Final = 2
"""How often an address may say BUSY or REFUSED before it is left alone."""

_RETRIED: Final = frozenset({UnknownReason.BUSY, UnknownReason.TIMEOUT})
_REBUFFS: Final = frozenset({UnknownReason.BUSY, UnknownReason.REFUSED})


@dataclass(slots=True)
class _Visits:
    """What one key has had of us.

    Attributes:
        until: When it is forgotten, on the monotonic clock.
        connections: How many.
        rebuffs: How often it did not want us.
        last: Why not.
    """

    until: float
    connections: int = 0
    rebuffs: int = 0
    last: UnknownReason = UnknownReason.BUSY


class HostCache:
    """Visits MX hosts; implements `ports.SmtpProber`. For one event loop.

    Args:
        prober: Makes one session.
        gate: Whether port 25 is open, and which addresses there is a way to.
        settings: The bounds.
        clock: For ages and pauses.
        rng: Spreads retries.
        sleep: Waits; `asyncio.sleep` outside tests.
    """

    def __init__(
        self,
        prober: SmtpProber,
        gate: Gate,
        settings: CheckSettings,
        *,
        clock: Clock,
        rng: Rng,
        sleep: Sleeper,
    ) -> None:
        self._prober = prober
        self._gate = gate
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._sleep = sleep
        self._operators = KeyedLimiter(settings.connections_per_operator)
        self._addresses = KeyedLimiter(settings.connections_per_address)
        self._spacing = Spacing(settings.spacing_seconds, clock, sleep)
        self._visits: OrderedDict[str, _Visits] = OrderedDict()
        self._sessions: Flights[ProbeTarget, ProbeFacts] = Flights(
            Kept(clock, max_entries=settings.max_kept_hosts, keep=self._keep)
        )

    async def probe(self, target: ProbeTarget) -> ProbeFacts:
        """A session with an address, made now or before; see `ports.SmtpProber`."""
        return await self._sessions.get(target, lambda: self._look(target))

    def _keep(self, facts: ProbeFacts) -> float:
        """For how many seconds a session serves others."""
        # That is about us, not about the host, and the gate knows it better.
        is_blocked = (
            facts.unknown is not None and facts.unknown.reason is UnknownReason.PORT_BLOCKED
        )
        return 0.0 if is_blocked else self._settings.keep_seconds

    async def close(self) -> None:
        """End the visits that are under way; who waits for one is cancelled."""
        await self._sessions.close()

    async def _look(self, target: ProbeTarget) -> ProbeFacts:
        if not is_allowed_address(target.address, self._settings.allow_networks):
            # BCP: who publishes a domain must not steer us into the inner network (SEC-19).
            return self._unknown(target, UnknownReason.SKIPPED, "not a public address")
        if await self._gate.check() is PortState.BLOCKED:
            detail = "outbound port 25 is blocked where the check runs"
            return self._unknown(target, UnknownReason.PORT_BLOCKED, detail)
        if not self._gate.has_route(target.host, target.address, target.port):
            detail = "this machine has no route to the address"
            return self._unknown(target, UnknownReason.NO_ROUTE, detail)
        facts = await self._visit(target)
        if not _wants_retry(facts) or self._is_closed(target) is not None:
            return facts
        # BCP: a busy host is not pressed: once more, later, and not all at the same moment.
        await self._sleep(self._settings.retry_seconds * self._rng.uniform(0.5, 1.5))
        again = await self._visit(target)
        if again.attempts == 0:
            return facts
        return replace(again, attempts=facts.attempts + again.attempts)

    async def _visit(self, target: ProbeTarget) -> ProbeFacts:
        """One session, when its turn comes; none (and no attempt) if nobody wants us there."""
        async with (
            self._operators.slot(registrable_domain(target.host)),
            self._addresses.slot(target.address),
        ):
            closed = self._is_closed(target)
            if closed is not None:
                return self._unknown(target, closed.reason, closed.detail)
            await self._spacing.turn(target.address)
            facts = await self._prober.probe(target)
        self._note(target, facts)
        return facts

    def _is_closed(self, target: ProbeTarget) -> Unknown | None:
        """Why this address is not to be visited (again), if so."""
        seen = self._record(target.address)
        if seen.rebuffs >= REBUFFS:
            detail = f"it said so {seen.rebuffs} times ({seen.last}), and is left alone"
            return Unknown(seen.last, detail)
        limit = self._settings.connections_per_host
        if self._record(target.host).connections >= limit:
            detail = f"the host had {limit} connections of this run already"
            return Unknown(UnknownReason.LIMIT, detail)
        return None

    def _note(self, target: ProbeTarget, facts: ProbeFacts) -> None:
        self._record(target.host).connections += facts.attempts
        if facts.unknown is not None and facts.unknown.reason in _REBUFFS:
            seen = self._record(target.address)
            seen.rebuffs += 1
            seen.last = facts.unknown.reason

    def _record(self, key: str) -> _Visits:
        now = self._clock.monotonic()
        seen = self._visits.get(key)
        if seen is None or seen.until <= now:
            seen = _Visits(now + self._settings.keep_seconds)
            self._visits[key] = seen
            self._visits.move_to_end(key)
            if len(self._visits) > 2 * self._settings.max_kept_hosts:
                self._visits.popitem(last=False)
        return seen

    def _unknown(self, target: ProbeTarget, reason: UnknownReason, detail: str) -> ProbeFacts:
        return ProbeFacts(
            target,
            ProbeOutcome.UNKNOWN,
            self._clock.now(),
            Unknown(reason, detail),
            detail=detail,
            attempts=0,
        )


def _wants_retry(facts: ProbeFacts) -> bool:
    if facts.outcome is ProbeOutcome.STARTTLS_TEMPORARY:
        return True
    return facts.unknown is not None and facts.unknown.reason in _RETRIED
