# SPDX-License-Identifier: Apache-2.0
"""Sends what is due: batches by destination, a few workers for a host, some dozens in all.

A batch is the deliveries that are due for one destination, one after the other: ten thousand
domains that name one mailbox are one batch after another, never ten thousand connections. When an
attempt is put off, the rest of its batch is put off with it, untried, and the destination is left
alone for PAUSE_SECONDS. What was put off before has half of the workers at most: hosts that keep us
waiting, however many, do not hold up again those that take their reports. Each attempt is noted
before anything is sent, and its end before the next begins.

Cancelling (at the end of the daemon's patience) leaves an attempt noted as begun: it is made again
when its hold is over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from strictmail.core.dkim import sign_message
from strictmail.core.errors import StoreError
from strictmail.core.tlsrpt.delivery import (
    DeliveryState,
    NextStep,
    OutcomeKind,
    SendOutcome,
    next_step,
)
from strictmail.core.tlsrpt.destination import Destination, parse_destination
from strictmail.core.tlsrpt.message import GZIP_TYPE, SIGNED_HEADERS, build_message
from strictmail.core.tlsrpt.restore import restore_report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    Threads = Callable[..., Awaitable[Any]]
    """Runs a function, with its arguments, where what waits for the disk holds up nobody."""

    from strictmail.ports import Clock, ReportMailer, ReportUploader, Rng
    from strictmail.reporter.settings import ReporterSettings
    from strictmail.store.outbox import Outbox
    from strictmail.store.outbox_rows import Delivery

BATCH: Final = 100
"""Deliveries of one destination that a worker takes at once."""

LOOK_AHEAD: Final = 1000
"""Deliveries that are read from the outbox at once."""

PAUSE_SECONDS: Final = 300.0
"""How long a destination is left alone after an attempt that was put off; whatever the clock does."""

STORE_SECONDS: Final = 5.0
"""Before the end of an attempt that could not be noted is noted again."""


class EventSink(Protocol):
    """Where events are logged."""

    def emit(self, name: str, /, **fields: object) -> None:
        """Log one."""
        ...


class Sender:
    """Sends reports.

    Args:
        outbox: What there is to send.
        mailer: For mailboxes; None: there is no mail.
        uploader: For HTTPS.
        settings: May be set anew at any time.
        clock: The time.
        rng: For back-off.
        events: The log.
        threads: For the outbox.
        sleep: Waits some seconds.

    Attributes:
        outcomes: Attempts by outcome, since the start.
        in_flight: Attempts under way.
    """

    def __init__(
        self,
        outbox: Outbox,
        mailer: ReportMailer | None,
        uploader: ReportUploader,
        settings: ReporterSettings,
        *,
        clock: Clock,
        rng: Rng,
        events: EventSink,
        threads: Threads = asyncio.to_thread,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._outbox = outbox
        self.mailer = mailer
        self.uploader = uploader
        self.settings = settings
        self._clock = clock
        self._rng = rng
        self._events = events
        self._threads = threads
        self._sleep = sleep
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._hosts: Counter[str] = Counter()
        self._retries = 0
        self._paused: dict[str, float] = {}
        self._ready: dict[str, list[Delivery]] = {}
        self._found_some = True
        self._stopping = False
        self.outcomes: Counter[str] = Counter()
        self.in_flight = 0
        self.on_done: Callable[[], None] = lambda: None

    # ---- batches ------------------------------------------------------------------------

    async def start_due(self, *, look: bool = True) -> int:
        """Begin with what is due and not held up by anything; how many batches.

        Args:
            look: Look into the outbox even if it held nothing startable a moment ago.

        Raises:
            StoreUnavailableError: Try again later.
        """
        if self._stopping:
            return 0
        started = self._start_ready()
        if self._free() > 0 and (look or self._found_some):
            await self._refill()
            started += self._start_ready()
        return started

    def _free(self) -> int:
        return self.settings.workers - len(self._busy)

    def _has_all_retries(self) -> bool:
        """Whether no further retry may begin."""
        return self._retries >= max(1, self.settings.workers // 2)

    def _start_ready(self) -> int:
        """Begin with what was read already."""
        now = self._clock.monotonic()
        self._paused = {text: until for text, until in self._paused.items() if until > now}
        started = 0
        for text in list(self._ready):
            if self._free() <= 0:
                break
            if text in self._paused or (self._has_all_retries() and _is_retry(self._ready[text])):
                # Not now: what is still due is read again later.
                del self._ready[text]
            elif self._start(text, self._ready[text]):
                del self._ready[text]
                started += 1
        return started

    async def _refill(self) -> None:
        """Read what is due, by destination; not what is busy, paused, or waits for its host."""
        now = self._clock.now()
        full = [h for h, count in self._hosts.items() if count >= self.settings.host_workers]
        held = [*self._busy, *self._paused, *self._ready]
        due: list[Delivery] = await self._threads(
            lambda: self._outbox.due(
                now,
                LOOK_AHEAD,
                each=BATCH,
                busy=held,
                busy_hosts=full,
                first_only=self._has_all_retries(),
            )
        )
        self._found_some = bool(due)
        for delivery in await self._pass_over_suppressed(due, now):
            self._ready.setdefault(delivery.destination, []).append(delivery)

    async def _pass_over_suppressed(self, due: list[Delivery], now: datetime) -> list[Delivery]:
        """End those whose destination is left alone."""
        entries = await self._threads(self._outbox.suppressions, now)
        reasons = {entry.destination: entry.reason for entry in entries}
        if not reasons:
            return due
        step = NextStep(DeliveryState.SUPPRESSED)
        for delivery in due:
            if delivery.destination in reasons:
                reason = reasons[delivery.destination]
                await self._threads(self._outbox.finish, delivery, step, reason, now)
                self.outcomes["suppressed"] += 1
        return [delivery for delivery in due if delivery.destination not in reasons]

    def _start(self, text: str, deliveries: list[Delivery]) -> bool:
        try:
            destination = parse_destination(text)
        except ValueError:
            # The outbox holds only what a record gave; a row that was changed by hand is not sent.
            destination = Destination(text, "", "")
        if self._hosts[destination.host] >= self.settings.host_workers or text in self._busy:
            return False
        is_retry = _is_retry(deliveries)
        self._hosts[destination.host] += 1
        self._retries += is_retry
        task = asyncio.get_running_loop().create_task(self._run(destination, deliveries))
        self._busy[text] = task
        task.add_done_callback(lambda _: self._end(destination, is_retry=is_retry))
        return True

    def _end(self, destination: Destination, *, is_retry: bool) -> None:
        del self._busy[destination.text]
        self._retries -= is_retry
        self._hosts[destination.host] -= 1
        if not self._hosts[destination.host]:
            del self._hosts[destination.host]
        self.on_done()

    async def _run(self, destination: Destination, deliveries: Sequence[Delivery]) -> None:
        for number, delivery in enumerate(deliveries):
            if self._stopping:
                return
            try:
                outcome = await self._attempt(destination, delivery)
            except StoreError as error:
                # Nothing was sent: what cannot be noted could be sent twice.
                self._events.emit("store-unavailable", error=str(error))
                self._paused[destination.text] = self._clock.monotonic() + PAUSE_SECONDS
                return
            # RFC 8460 §3: each destination gets the report (RPT-REC-24), and only one that took it
            # has it (RPT-REC-25).
            if outcome is None or outcome.kind in (OutcomeKind.DELIVERED, OutcomeKind.GIVE_UP):
                continue
            self._paused[destination.text] = self._clock.monotonic() + PAUSE_SECONDS
            if outcome.kind is not OutcomeKind.DEAD:
                # What is dead is suppressed, and with it the rest, when it is looked at next.
                await self._put_off(deliveries[number + 1 :], outcome)
            return

    async def _put_off(self, rest: Sequence[Delivery], outcome: SendOutcome) -> None:
        """The same outcome for the rest of a batch, without a connection for each."""
        for delivery in rest:
            try:
                if await self._threads(self._outbox.begin, delivery, self._clock.now(), None):
                    await self._note(delivery, outcome)
            except StoreError as error:
                self._events.emit("store-unavailable", error=str(error))
                return

    # ---- one attempt ----------------------------------------------------------------------

    async def _attempt(self, destination: Destination, delivery: Delivery) -> SendOutcome | None:
        """Send one; None if it is nobody's to send now."""
        content, message, outcome = b"", None, None
        try:
            content, message = await self._threads(self._octets, destination, delivery)
        except (ValueError, OSError) as error:
            # Damaged, or of another version: this report will never be sent, others are.
            what = f"the stored report cannot be used: {error}"
            outcome = SendOutcome(OutcomeKind.GIVE_UP, what)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - the same
            outcome = self._fault(error)
        # RFC 8460 §5.3: noted with its octets before they leave, so that a retry is the same
        # message (RPT-DLV-05).
        if not await self._threads(self._outbox.begin, delivery, self._clock.now(), message):
            return None
        self.in_flight += 1
        try:
            if outcome is None:
                outcome = await self._carry(destination, content, message)
        except Exception as error:  # noqa: BLE001 - a fault of ours costs a retry, not the reporter
            outcome = self._fault(error)
        finally:
            self.in_flight -= 1
        await self._note(delivery, outcome)
        return outcome

    def _fault(self, error: Exception) -> SendOutcome:
        self._events.emit("internal-error", where="sending a report", error=repr(error))
        return SendOutcome(OutcomeKind.RETRY, f"a fault of our own: {type(error).__name__}")

    async def _carry(
        self, destination: Destination, content: bytes, message: bytes | None
    ) -> SendOutcome:
        if not destination.is_mail:
            if not destination.host:
                return SendOutcome(OutcomeKind.REFUSED, "neither a mailbox nor an HTTPS URI")
            return await self.uploader.upload(destination, content, GZIP_TYPE)
        if self.mailer is None or message is None:
            return SendOutcome(OutcomeKind.REFUSED, "reports do not go by mail here")
        return await self.mailer.send(destination.address, message)

    def _octets(self, destination: Destination, delivery: Delivery) -> tuple[bytes, bytes | None]:
        """The report, and with a mailbox its mail: as sent before, or made and signed now."""
        stored = self._outbox.report(delivery.report_row_id)
        if stored is None:
            raise StoreError(f"the report of delivery {delivery.row_id} is gone")
        if not destination.is_mail:
            return stored.content, None
        kept = self._outbox.message(delivery)
        if kept is not None:
            return stored.content, kept
        who = self.settings.sender(delivery.which.identity)
        if not who.can_mail:
            return stored.content, None
        report = restore_report(
            stored.content, stored.which.domain, dropped_details=stored.dropped_details
        )
        now = self._clock.now()
        # RFC 8460 §3: each mailbox is a recipient of its own (RPT-DLV-38).
        message = build_message(
            report, stored.content, sender=who.sender, recipients=(destination.address,), at=now
        )
        if who.keys:
            # RFC 8460 §3, §5.3: signed by the submitter's domain (RPT-DLV-31, RPT-DLV-39), the
            # report's own headers included (RPT-DLV-27).
            domain = who.sender.rpartition("@")[2]
            message = sign_message(message, domain, who.keys, SIGNED_HEADERS, now)
        return stored.content, message

    async def _note(self, delivery: Delivery, outcome: SendOutcome) -> None:
        """Write down how an attempt ended: again and again, until it is written."""
        now = self._clock.now()
        step = next_step(
            outcome,
            attempt_count=delivery.attempt_count + 1,
            first_at=delivery.first_at or now,
            now=now,
            rng=self._rng,
        )
        self.outcomes[_word(outcome, step)] += 1
        self._tell(delivery, outcome, step)
        begun = replace(delivery, attempt_count=delivery.attempt_count + 1)
        while True:
            try:
                await self._threads(self._outbox.finish, begun, step, outcome.detail, now)
            except StoreError as error:
                self._events.emit("store-unavailable", error=str(error))
                await self._sleep(STORE_SECONDS)
            else:
                return

    def _tell(self, delivery: Delivery, outcome: SendOutcome, step: NextStep) -> None:
        if step.state is DeliveryState.FAILED:
            self._events.emit(
                "report-not-delivered",
                domain=delivery.which.domain,
                day=delivery.which.day.isoformat(),
                destination=delivery.destination,
                detail=outcome.detail,
            )
        if step.suppress_until is not None:
            self._events.emit(
                "report-destination-suppressed",
                destination=delivery.destination,
                until=step.suppress_until.isoformat(),
                detail=outcome.detail,
            )

    # ---- the end --------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether no batch is under way."""
        return not self._busy

    async def settle(self) -> None:
        """Wait until no batch is under way."""
        while self._busy:
            await asyncio.wait(self._busy.values())
            # Their callbacks run in the next turn of the loop.
            await asyncio.sleep(0)

    def stop(self) -> None:
        """Begin with no further attempt."""
        self._stopping = True

    async def close(self) -> None:
        """Cancel what is under way, and let the ways out go."""
        self.stop()
        tasks = list(self._busy.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self.mailer is not None:
            await self.mailer.close()


def _is_retry(deliveries: Sequence[Delivery]) -> bool:
    """Whether a batch was put off before."""
    return deliveries[0].attempt_count > 0


def _word(outcome: SendOutcome, step: NextStep) -> str:
    """What an attempt is counted as."""
    if outcome.kind is OutcomeKind.RETRY and step.state is DeliveryState.FAILED:
        return "too-late"
    return outcome.kind.value
