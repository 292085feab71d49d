# SPDX-License-Identifier: Apache-2.0
"""`strictmail report resend`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.cli.printing import printable
from strictmail.cli.report.common import DAY, find_reports, opened
from strictmail.core.tlsrpt.delivery import DeliveryState

if TYPE_CHECKING:
    from datetime import date

    from strictmail.runtime.config import Config


@click.command("resend")
@click.argument("which", metavar="DOMAIN|REPORT-ID")
@click.option("--day", type=DAY, help="The UTC day; otherwise all that there are.")
@click.option("--destination", help="This destination only, as `report show` has it.")
@click.option(
    "--sent", "sent_too", is_flag=True, help="Also what was delivered: the owner lost it."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be sent again.")
@configured
def command(
    config: Config,
    *,
    which: str,
    day: date | None,
    destination: str | None,
    sent_too: bool,
    dry_run: bool,
) -> int:
    """Let reports be sent again: by the daemon, or by `strictmail report send`.

    What waits is tried at once; what was given up or left alone gets another 24 hours. The report
    and its id stay the same.
    """
    with opened(config) as (_, outbox):
        chosen = [
            delivery
            for report in find_reports(outbox, which, day)
            for delivery in outbox.deliveries(report.row_id)
            if destination in (None, delivery.destination)
            and (sent_too or delivery.state is not DeliveryState.SENT)
        ]
        for delivery in chosen:
            where = printable(delivery.destination, 200)
            print(f"{delivery.which.day.isoformat()} {delivery.which.domain} to {where}")
        if not chosen:
            print("nothing to send again; what was delivered needs --sent")
            return ExitCode.FAILURE
        if not dry_run:
            count = outbox.resend(chosen, datetime.now(UTC))
            if count < len(chosen):
                print(f"{len(chosen) - count} of them are being sent right now")
    return ExitCode.OK
