# SPDX-License-Identifier: Apache-2.0
"""What the report commands share: the outbox, days and reports as they are typed, their words."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from strictmail.core.errors import StrictmailError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.runtime.config import Config
    from strictmail.store.outbox import Outbox
    from strictmail.store.outbox_rows import Delivery, StoredReport
    from strictmail.store.sessions import SessionStore

    DayBase = click.ParamType[date]
else:
    DayBase = click.ParamType

PAGE: Final = 500
"""Reports read at a time."""


class NothingFoundError(StrictmailError):
    """What was asked for is not there; the message says where it was looked for."""


class DayType(DayBase):
    """A UTC day such as `2026-01-31`, or `yesterday`."""

    name = "day"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> date:
        """Make a date, or say what is wrong with the text."""
        if isinstance(value, date):
            return value
        text = str(value)
        if text == "yesterday":
            return date.fromordinal(datetime.now(UTC).toordinal() - 1)
        if text == "today":
            return datetime.now(UTC).date()
        try:
            return date.fromisoformat(text)
        except ValueError:
            self.fail(f"{text[:40]!r} is no day such as 2026-01-31, yesterday or today", param, ctx)


DAY: Final = DayType()


@contextmanager
def opened(config: Config, *, create: bool = False) -> Iterator[tuple[SessionStore, Outbox]]:
    """The store and outbox of a configuration, beside a running daemon or without one.

    Raises:
        StoreUnavailableError: There is none (and `create` is not set), or it cannot be used.
    """
    from strictmail.store.outbox import Outbox
    from strictmail.store.sessions import SessionStore

    store = SessionStore(config.sessions_path, create=create)
    try:
        yield store, Outbox(store)
    finally:
        store.close()


def a_domain(text: str) -> str:
    """A domain as typed, in the form of the store; "" stays.

    Raises:
        DomainSyntaxError: It is no domain name.
    """
    from strictmail.core.names import parse_domain

    return parse_domain(text) if text else ""


def find_reports(
    outbox: Outbox, which: str, day: date | None, identity: str | None = None
) -> list[StoredReport]:
    """Reports of a domain or of an id; with a day, those of that day.

    Raises:
        NothingFoundError: There is none.
        DomainSyntaxError: `which` is neither an id nor a domain.
    """
    if "@" in which:
        found = outbox.report_by_id(which.strip("<>"))
        reports = [] if found is None else [found]
    else:
        reports = list(all_reports(outbox, day, a_domain(which)))
    if identity is not None:
        reports = [report for report in reports if report.which.identity == identity]
    if not reports:
        when = f" about {day.isoformat()}" if day else ""
        raise NothingFoundError(
            f"there is no report{when} to {which[:100]}; `strictmail report list` shows those that "
            "there are"
        )
    return reports


def all_reports(outbox: Outbox, day: date | None, domain: str) -> Iterator[StoredReport]:
    """Every report, page by page."""
    after = 0
    while page := outbox.reports(day=day, domain=domain, after=after, limit=PAGE):
        yield from page
        after = page[-1].row_id


def delivery_document(delivery: Delivery) -> dict[str, Any]:
    """A delivery as JSON."""
    return {
        "destination": delivery.destination,
        "state": str(delivery.state),
        "attempts": delivery.attempt_count,
        "next_at": delivery.next_at.isoformat() if delivery.state == "waiting" else None,
        "changed_at": delivery.changed_at.isoformat(),
        "detail": delivery.detail,
    }


def report_document(report: StoredReport, deliveries: list[Delivery]) -> dict[str, Any]:
    """A report as JSON, without its content."""
    return {
        "day": report.which.day.isoformat(),
        "domain": report.which.domain,
        "identity": report.which.identity,
        "report_id": report.report_id,
        "sessions": report.session_count,
        "bytes": len(report.content),
        "made_at": report.made_at.isoformat(),
        "deliveries": [delivery_document(delivery) for delivery in deliveries],
    }
