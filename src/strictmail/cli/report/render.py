# SPDX-License-Identifier: Apache-2.0
"""`strictmail report render`."""

from __future__ import annotations

import gzip
import json
import sys
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import click

from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.cli.report.common import DAY, NothingFoundError, a_domain, all_reports, opened
from strictmail.core.dkim import sign_message
from strictmail.core.tlsrpt.message import SIGNED_HEADERS, build_message
from strictmail.core.tlsrpt.reportjson import compress_report
from strictmail.core.tlsrpt.restore import restore_report

if TYPE_CHECKING:
    from strictmail.core.tlsrpt.report import Report
    from strictmail.reporter.settings import ReporterSettings
    from strictmail.runtime.config import Config


@click.command("render")
@click.argument("domain")
@click.option("--day", type=DAY, default="yesterday", show_default=True, help="The UTC day.")
@click.option("--identity", default="", help="The sender identity; otherwise the common one.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "pretty", "gzip", "mail"]),
    default="pretty",
    show_default=True,
    help="What to write; `mail` is the signed message as it would go to the contact.",
)
@configured
def command(config: Config, *, domain: str, day: date, identity: str, form: str) -> int:
    """Write a report to standard output, and send nothing.

    The report that was made, or else the one that today's counts would make.
    """
    from strictmail.cli.composition_reporter import build_settings

    settings = build_settings(config)
    report, content = _find(config, settings, a_domain(domain), day, identity)
    out = sys.stdout.buffer
    match form:
        case "gzip":
            out.write(content)
        case "json":
            out.write(gzip.decompress(content) + b"\n")
        case "pretty":
            text = json.dumps(json.loads(gzip.decompress(content)), indent=2)
            out.write(text.encode("ascii") + b"\n")
        case _:
            out.write(_mail(settings, identity, report, content))
    return ExitCode.OK


def _find(
    config: Config, settings: ReporterSettings, domain: str, day: date, identity: str
) -> tuple[Report, bytes]:
    from strictmail.core.tlsrpt.report import build_report
    from strictmail.store.sessions import DayDomain

    which = DayDomain(day, identity, domain)
    with opened(config) as (store, outbox):
        for stored in all_reports(outbox, day, domain):
            if stored.which == which:
                return restore_report(stored.content, domain), stored.content
        who = settings.sender(identity).identity
        counts = store.load(which)
        report = build_report(day, domain, counts, who)
    unverified = sum(found.unverified for found in counts.policies.values())
    if report is None and unverified:
        raise NothingFoundError(
            f"nobody verified a session with {domain} on {day.isoformat()} (UTC): {unverified} under "
            "a policy in testing mode are in no report; see `probe_testing` in strictmail.toml(5)"
        )
    if report is None:
        raise NothingFoundError(f"no session with {domain} was counted on {day.isoformat()} (UTC)")
    return compress_report(report)


def _mail(settings: ReporterSettings, identity: str, report: Report, content: bytes) -> bytes:
    who = settings.sender(identity)
    now = datetime.now(UTC)
    message = build_message(
        report, content, sender=who.sender, recipients=(who.identity.contact_info,), at=now
    )
    if who.keys:
        domain = who.sender.rpartition("@")[2]
        message = sign_message(message, domain, who.keys, SIGNED_HEADERS, now)
    return message
