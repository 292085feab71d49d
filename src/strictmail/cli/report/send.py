# SPDX-License-Identifier: Apache-2.0
"""`strictmail report send`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.cli.printing import printable
from strictmail.core.errors import StoreError
from strictmail.core.tlsrpt.delivery import SETTLE, OutcomeKind
from strictmail.reporter.making import REPORTED

if TYPE_CHECKING:
    from collections import Counter

    from strictmail.cli.composition_reporter import ReporterParts
    from strictmail.reporter.sending import Sender
    from strictmail.runtime.config import Config

POLL_SECONDS: Final = 0.2
"""Between two looks at how far it is."""


@click.command("send")
@click.option(
    "--now",
    "at_once",
    is_flag=True,
    help="Also what waits for its moment or its next attempt.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be made and sent.")
@click.option("--no-progress", is_flag=True, help="Draw no progress bar.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@configured
def command(config: Config, *, at_once: bool, dry_run: bool, no_progress: bool, form: str) -> int:
    """Make the reports of days that are over and send what is due, then end.

    For installations without the daemon, from a timer; it may also run beside the daemon. Exits
    with 75 when some reports wait for another attempt.
    """
    from strictmail.cli.composition_reporter import build_settings
    from strictmail.runtime.logs import start_logging

    settings = build_settings(config)
    if at_once:
        settings = dataclasses.replace(settings, spread=timedelta(0))
    events = start_logging(config.log.level, config.log.format)

    async def run() -> int:
        from strictmail.cli.composition_reporter import open_reporter

        parts = await open_reporter(config, events, settings=settings)
        try:
            if dry_run:
                return await _preview(parts, form)
            return await _send(
                parts, at_once=at_once, form=form, progress=not no_progress and form == "text"
            )
        finally:
            await parts.close()

    return asyncio.run(run())


async def _preview(parts: ReporterParts, form: str) -> int:
    """What would be made and sent."""
    reporter = parts.reporter
    now = reporter.clock.now()
    before = (now - SETTLE).date()
    after = (0, 0)
    while page := await asyncio.to_thread(_page, parts, before, after):
        after = page[-1][0]
        for _, which in page:
            answer = await reporter.maker.look_up(which)
            outcome, destinations = await asyncio.to_thread(reporter.maker.foresee, which, answer)
            _say(
                form,
                {
                    "do": "make",
                    "day": which.day.isoformat(),
                    "domain": which.domain,
                    "identity": which.identity,
                    "outcome": outcome or "ask again later",
                    "destinations": [one.text for one in destinations],
                },
            )
    for delivery in await asyncio.to_thread(parts.outbox.due, now, 1_000_000):
        _say(
            form,
            {
                "do": "send",
                "day": delivery.which.day.isoformat(),
                "domain": delivery.which.domain,
                "identity": delivery.which.identity,
                "attempts": delivery.attempt_count,
                "destinations": [delivery.destination],
            },
        )
    return ExitCode.OK


def _page(parts: ReporterParts, before: Any, after: tuple[int, int]) -> list[Any]:
    return parts.store.unreported(before, after=after, limit=500)


def _say(form: str, document: dict[str, Any]) -> None:
    if form == "json":
        print(json.dumps(document))
        return
    what = f"{document['do']}  {document['day']}  {document['domain']}"
    outcome = document.get("outcome")
    if outcome and outcome != REPORTED:
        print(f"{what}  no report: {outcome}")
        return
    print(f"{what}  to {printable(', '.join(document['destinations']), 300)}")


async def _send(parts: ReporterParts, *, at_once: bool, form: str, progress: bool) -> int:
    """Make and send, with a bar on a terminal."""
    reporter, sender = parts.reporter, parts.reporter.sender
    made = await reporter.make_over()
    if at_once:
        await asyncio.to_thread(parts.outbox.hasten, reporter.clock.now())
    waiting = await asyncio.to_thread(_count_due, parts)
    ended = asyncio.Event()
    sender.on_done = ended.set
    hidden = not (progress and sys.stderr.isatty())
    with click.progressbar(
        length=waiting, label="sending reports", file=sys.stderr, hidden=hidden
    ) as bar:
        shown = 0
        while await _go_on(sender, ended):
            done = sender.outcomes.total()
            bar.update(done - shown)
            shown = done
    code = _conclude(made, sender.outcomes, form)
    if reporter.faulty:
        print(f"{reporter.faulty} reports cannot be made: see internal-error", file=sys.stderr)
        return ExitCode.FAILURE if code == ExitCode.OK else code
    return code


async def _go_on(sender: Sender, ended: asyncio.Event) -> bool:
    """Begin with what can be begun, wait for something to end; whether there is more."""
    ended.clear()
    try:
        started = await sender.start_due(look=sender.is_idle)
    except StoreError:
        await sender.settle()
        raise
    if not started and sender.is_idle:
        return False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(POLL_SECONDS):
            await ended.wait()
    return True


def _count_due(parts: ReporterParts) -> int:
    return len(parts.outbox.due(parts.reporter.clock.now(), 1_000_000))


def _conclude(made: Counter[str], outcomes: Counter[str], form: str) -> int:
    if form == "json":
        print(json.dumps({"days": dict(made), "attempts": dict(outcomes)}))
    else:
        days = ", ".join(f"{count} {what}" for what, count in sorted(made.items()))
        sent = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items()))
        print(f"days closed: {days or 'none'}")
        print(f"attempts: {sent or 'none'}")
    if outcomes[OutcomeKind.RETRY.value]:
        return ExitCode.TEMPFAIL
    good = outcomes[OutcomeKind.DELIVERED.value] + outcomes["suppressed"]
    return ExitCode.OK if good == outcomes.total() else ExitCode.FAILURE
