# SPDX-License-Identifier: Apache-2.0
"""`strictmail report show`."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import click

from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.cli.printing import instant, printable
from strictmail.cli.report.common import DAY, find_reports, opened, report_document
from strictmail.core.tlsrpt.restore import restore_report
from strictmail.core.tlsrpt.session import Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date

    from strictmail.core.tlsrpt.counts import DomainCounts, SourceCounts
    from strictmail.runtime.config import Config
    from strictmail.store.outbox_rows import Delivery, StoredReport

MAX_DETAILS = 20
_TELLERS = frozenset(Source) - {Source.POSTFIX, Source.PROBE}
"""Who tells of sessions otherwise than by datagram, which is the rule."""


@click.command("show")
@click.argument("which", metavar="DOMAIN|REPORT-ID")
@click.option("--day", type=DAY, help="The UTC day; otherwise all that there are.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@configured
def command(config: Config, *, which: str, day: date | None, form: str) -> int:
    """Show a report: what it says, where it goes, and how each attempt ended.

    The line `sessions` has who told of them; an `sts` success under a testing policy counts only
    where somebody verified it, the MTA or a probe. A session is judged under each of its policies.
    """
    with opened(config) as (store, outbox):
        for number, report in enumerate(find_reports(outbox, which, day)):
            deliveries = outbox.deliveries(report.row_id)
            counts = store.load(report.which)
            sources = counts.sources
            if form == "json":
                document = report_document(report, deliveries)
                document["sources"] = {
                    str(source): {"sessions": told.sessions, "unverified": told.unverified}
                    for source, told in sources.items()
                    if source in _TELLERS
                }
                document["probed"] = _probed(sources)
                document["unverified"] = _unverified(counts)
                document["report"] = json.loads(gzip.decompress(report.content))
                print(json.dumps(document))
                continue
            if number:
                print()
            for line in _lines(report, deliveries, counts):
                print(line)
    return ExitCode.OK


def _unverified(counts: DomainCounts) -> int:
    """Judgements that nobody made: sessions under a policy, a session once under each."""
    return sum(policy.unverified for policy in counts.policies.values())


def _probed(sources: Mapping[Source, SourceCounts]) -> int:
    """Judgements on sessions that others told of and a probe established."""
    return sources[Source.PROBE].sessions if Source.PROBE in sources else 0


def _say_sources(counts: DomainCounts) -> str:
    """Who told of the sessions: what the store does not say otherwise came as datagrams."""
    sources = counts.sources
    told = [f"{one.sessions} by {source}" for source, one in sources.items() if source in _TELLERS]
    probed, unverified = _probed(sources), _unverified(counts)
    established = f"; judgements by a probe: {probed}" if probed else ""
    left_out = f"; verified by nobody and left out: {unverified}" if unverified else ""
    who = ", ".join((*told, "all others" if told else "all"))
    return f"{who} by datagram{established}{left_out}"


def _lines(stored: StoredReport, deliveries: list[Delivery], counts: DomainCounts) -> Iterator[str]:
    which = stored.which
    yield f"{which.day.isoformat()}  {which.domain}"
    yield f"  id        {stored.report_id}"
    who = f" as {which.identity}" if which.identity else ""
    yield f"  made      {instant(stored.made_at)}{who}, {len(stored.content)} bytes"
    yield f"  sessions  {_say_sources(counts)}"
    for part in restore_report(stored.content, which.domain).policies:
        policy = part.policy
        yield (
            f"  policy    {policy.policy_type} {printable(policy.policy_domain, 100)}: "
            f"{part.successes} succeeded, {part.failures} failed"
        )
        for detail, times in part.details[:MAX_DETAILS]:
            where = detail.receiving_mx_hostname or detail.receiving_ip
            why = f": {detail.failure_reason_code}" if detail.failure_reason_code else ""
            text = f"{times} x {detail.result_type}{f' at {where}' if where else ''}{why}"
            yield f"              {printable(text, 200)}"
        if len(part.details) > MAX_DETAILS:
            yield f"              and {len(part.details) - MAX_DETAILS} more kinds"
    for delivery in deliveries:
        yield f"  to        {printable(delivery.destination, 200)}"
        state = f"{delivery.state}"
        if delivery.state == "waiting":
            state += f", next attempt {instant(delivery.next_at)}"
        else:
            state += f" since {instant(delivery.changed_at)}"
        yield f"            {state}; {delivery.attempt_count} attempt(s)"
        if delivery.detail:
            yield f"            {printable(delivery.detail, 300)}"
