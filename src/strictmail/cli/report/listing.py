# SPDX-License-Identifier: Apache-2.0
"""`strictmail report list`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Final

import click

from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.cli.printing import table
from strictmail.cli.report.common import DAY, a_domain, all_reports, opened, report_document
from strictmail.core.tlsrpt.delivery import DeliveryState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from strictmail.runtime.config import Config
    from strictmail.store.outbox import Outbox

_HEADERS: Final = ("DAY", "DOMAIN", "SESSIONS", "STATE", "TRIES", "DESTINATION", "DETAIL")


@click.command("list")
@click.option("--day", type=DAY, help="Reports about this UTC day only.")
@click.option("--domain", default="", help="Reports to this domain only.")
@click.option(
    "--state",
    type=click.Choice([str(state) for state in DeliveryState]),
    help="Deliveries in this state only.",
)
@click.option("--days", "only_days", is_flag=True, help="Only count: a line for each day.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@configured
def command(
    config: Config,
    *,
    day: date | None,
    domain: str,
    state: str | None,
    only_days: bool,
    form: str,
) -> int:
    """Show reports and what became of them, a line for each delivery; JSON: a line each report."""
    wanted = a_domain(domain)
    with opened(config) as (store, outbox):
        if only_days:
            days = store.days()
            if form == "json":
                for one in days:
                    print(json.dumps(dataclasses.asdict(one) | {"day": one.day.isoformat()}))
            else:
                rows = [(one.day.isoformat(), one.domains, one.open, one.late) for one in days]
                for line in table(("DAY", "DOMAINS", "OPEN", "LATE"), rows):
                    print(line)
        elif form == "json":
            for document in _documents(outbox, day, wanted, state):
                print(json.dumps(document))
        else:
            for line in table(_HEADERS, _rows(outbox, day, wanted, state)):
                print(line)
    return ExitCode.OK


def _documents(
    outbox: Outbox, day: date | None, domain: str, state: str | None
) -> Iterator[dict[str, object]]:
    for report in all_reports(outbox, day, domain):
        deliveries = [
            delivery
            for delivery in outbox.deliveries(report.row_id)
            if state in (None, str(delivery.state))
        ]
        if deliveries or state is None:
            yield report_document(report, deliveries)


def _rows(
    outbox: Outbox, day: date | None, domain: str, state: str | None
) -> Iterator[tuple[object, ...]]:
    for report in all_reports(outbox, day, domain):
        for delivery in outbox.deliveries(report.row_id):
            if state in (None, str(delivery.state)):
                yield (
                    report.which.day.isoformat(),
                    report.which.domain,
                    report.session_count,
                    str(delivery.state),
                    delivery.attempt_count,
                    delivery.destination,
                    delivery.detail,
                )
