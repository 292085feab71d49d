# SPDX-License-Identifier: Apache-2.0
"""`strictmail report suppress`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.cli.printing import DURATION, instant, printable, table
from strictmail.cli.report.common import opened
from strictmail.core.tlsrpt.bounce import MAX_BOUNCE_BYTES, read_bounce
from strictmail.core.tlsrpt.delivery import SUPPRESS_FOR
from strictmail.core.tlsrpt.destination import parse_destination
from strictmail.runtime.kinds import format_duration

if TYPE_CHECKING:
    from strictmail.runtime.config import Config
    from strictmail.store.outbox import Outbox

MAX_REASON: Final = 200


@click.command("suppress")
@click.argument("destination", required=False)
@click.option(
    "--for",
    "length",
    type=DURATION,
    default=format_duration(SUPPRESS_FOR),
    show_default=True,
    help="For how long.",
)
@click.option("--reason", default="by hand", show_default=True, help="Why; for people.")
@click.option("--remove", is_flag=True, help="Send there again from now on.")
@click.option(
    "--bounce",
    metavar="FILE",
    help="Read a bounce (`-`: standard input) and leave alone the mailboxes that it names.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@configured
def command(
    config: Config,
    *,
    destination: str | None,
    length: timedelta,
    reason: str,
    remove: bool,
    bounce: str | None,
    dry_run: bool,
    form: str,
) -> int:
    """Leave a destination alone for a while, or no longer; without one, list them.

    DESTINATION is `mailto:NAME@DOMAIN` or an HTTPS URI as it stands in the record. With --bounce,
    only mailboxes count to which the report in question was really sent.
    """
    if bounce is not None and destination is not None:
        raise click.UsageError("--bounce finds its destinations itself.")
    with opened(config) as (_, outbox):
        if bounce is not None:
            return _take_bounce(outbox, bounce, length, dry_run=dry_run)
        if destination is None:
            return _list(outbox, form)
        try:
            text = parse_destination(destination).text
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if remove:
            return _remove(outbox, text, dry_run=dry_run)
        _suppress(outbox, text, reason[:MAX_REASON], length, dry_run=dry_run)
    return ExitCode.OK


def _suppress(
    outbox: Outbox, destination: str, reason: str, length: timedelta, *, dry_run: bool
) -> None:
    from strictmail.store.outbox_rows import Suppression

    now = datetime.now(UTC)
    if not dry_run:
        outbox.suppress(Suppression(destination, reason, now + length, now))
    print(f"{printable(destination, 200)}: left alone until {instant(now + length)}")


def _remove(outbox: Outbox, destination: str, *, dry_run: bool) -> int:
    known = any(entry.destination == destination for entry in outbox.suppressions())
    if known and not dry_run:
        outbox.allow(destination)
    what = "reports go there again" if known else "it was not left alone"
    print(f"{printable(destination, 200)}: {what}")
    return ExitCode.OK if known else ExitCode.FAILURE


def _list(outbox: Outbox, form: str) -> int:
    entries = outbox.suppressions(datetime.now(UTC))
    if form == "json":
        for entry in entries:
            document = {
                "destination": entry.destination,
                "until": entry.until.isoformat(),
                "made_at": entry.made_at.isoformat(),
                "reason": entry.reason,
            }
            print(json.dumps(document))
        return ExitCode.OK
    rows = [(entry.destination, instant(entry.until), entry.reason) for entry in entries]
    for line in table(("DESTINATION", "UNTIL", "REASON"), rows):
        print(line)
    return ExitCode.OK


def _take_bounce(outbox: Outbox, file: str, length: timedelta, *, dry_run: bool) -> int:
    if file == "-":
        data = sys.stdin.buffer.read(MAX_BOUNCE_BYTES)
    else:
        with Path(file).open("rb") as stream:
            data = stream.read(MAX_BOUNCE_BYTES)
    try:
        found = read_bounce(data)
    except ValueError as error:
        print(f"{error}; nothing was done")
        return ExitCode.DATAERR
    done = 0
    for report_id in found.report_ids:
        report = outbox.report_by_id(report_id)
        known = {d.destination for d in outbox.deliveries(report.row_id)} if report else set()
        for refusal in found.refusals:
            # Whoever can write to the address of bounces must not be able to stop reports to
            # others: the id of a report that was sent to just this mailbox is needed.
            text = _known_as(f"mailto:{refusal.address}", known)
            if text:
                _suppress(outbox, text, refusal.detail[:MAX_REASON], length, dry_run=dry_run)
                done += 1
    if not done:
        print("no mailbox that a report was sent to is refused for good; nothing was done")
        return ExitCode.FAILURE
    return ExitCode.OK


def _known_as(text: str, known: set[str]) -> str:
    """A destination as the outbox has it: servers change the case of addresses; "" for none."""
    return next((one for one in known if one.lower() == text.lower()), "")
