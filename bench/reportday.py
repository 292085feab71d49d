# SPDX-License-Identifier: Apache-2.0
"""A day of sessions to delivered reports: collected, aggregated, rendered, handed to an SMTP server.

Both programs collect the day and are then told that it is yesterday's: the peer by its own signal
for that, strictmail's store by an update. The peer gets a sample with as many sessions to a domain,
since it starts programs for each domain.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import signal
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any

from common import ROOT, clean_environment, fail, spread, text
from programs import program
from reportmix import make_mix
from reportworld import PEER, Peer, Process, Strictmail, query, send, set_queue, wait_for
from world import World

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from common import Settings

SESSIONS_PER_DOMAIN = 100
MAX_REPETITIONS = 3
DAY_SECONDS = 3600
MAKE_CPU_LIMIT = 10
END_TO_END_FACTOR = 50
FULL_DOMAINS = 10_000
REPORTER = (
    '[reporter]\norganization = "Bench"\ncontact = "tlsrpt@bench.test"\nsigned_by_mta = true\n'
    'spread = "0s"\nrelay_host = "127.0.0.1"\nsessions_of_reports = false\n'
)


def run(settings: Settings) -> dict[str, Any]:
    """Measure; the figures by program."""
    found: dict[str, list[dict[str, float]]] = {"peer": [], "strictmail": []}
    set_queue(512)
    with World(settings):
        for turn in range(min(settings.scale.repetitions, MAX_REPETITIONS)):
            jobs = [("peer", _peer, settings.scale.report_day_sample)]
            jobs += [("strictmail", _strictmail, settings.scale.report_day_domains)]
            for name, day, domains in jobs if turn % 2 == 0 else reversed(jobs):
                directory = settings.work / f"day-{turn}-{name}"
                figures = day(settings, directory, domains)
                found[name].append({**figures, "domains": domains})
                shutil.rmtree(directory)
    return {
        name: {what: spread(one[what] for one in ones) for what in ones[0]}
        for name, ones in found.items()
    }


def _strictmail(settings: Settings, directory: Path, domains: int) -> dict[str, float]:
    mix = make_mix(settings.work, domains, domains * SESSIONS_PER_DOMAIN)
    collector = Strictmail(settings, directory)
    try:
        collector.process.begin()
        send(settings, collector, mix, 0)
        collector.process.end()
    finally:
        collector.process.discard()
    if collector.counted() != mix.sessions:
        fail(f"strictmail counted {collector.counted()} of {mix.sessions} sessions")
    with contextlib.closing(sqlite3.connect(collector.store)) as connection, connection:
        connection.execute("UPDATE day_domain SET day = day - 2")
    made = directory / "made"
    made.mkdir()
    shutil.copy(collector.store, made)
    # Once without a way for mail: the reports are made, and none is sent.
    is_made = functools.partial(_is_at, made / collector.store.name, "report", domains)
    making, making_seconds = _reporter(settings, made, 'mail = "off"\n', is_made)
    with _sink(settings, directory, domains) as sink:
        whole, seconds = _reporter(settings, directory, "", lambda: _has_all(sink))
    if query(collector.store, "SELECT count(*) FROM delivery WHERE state = 'sent'") < 0.9 * domains:
        fail(f"reports that were sent are not noted as sent:\n{whole.tail()}")
    return {
        "collect_cpu_s": collector.process.cpu_seconds,
        "make_cpu_s": making.cpu_seconds,
        "make_s": making_seconds,
        "whole_cpu_s": whole.cpu_seconds,
        "whole_s": seconds,
        "written_mb": (collector.process.written_bytes + whole.written_bytes) / 1e6,
    }


def _reporter(
    settings: Settings, directory: Path, extra: str, is_done: Any
) -> tuple[Process, float]:
    reporter = Strictmail(settings, directory, role="reporter", config=REPORTER + extra)
    started = time.monotonic()
    try:
        wait_for(reporter.process, is_done, DAY_SECONDS)
        seconds = time.monotonic() - started
        reporter.process.end()
    finally:
        reporter.process.discard()
    return reporter.process, seconds


def _is_at(store: Path, table: str, count: int) -> bool:
    return query(store, f"SELECT count(*) FROM {table}") >= count


def _has_all(sink: Process) -> bool:
    sink.check()
    return b"all" in sink.log.read_bytes()


@contextlib.contextmanager
def _sink(settings: Settings, directory: Path, count: int) -> Any:
    command = [sys.executable, str(ROOT / "bench" / "reportsink.py"), str(count)]
    pinned = settings.prefix(settings.generator_cpu)
    sink = Process([*pinned, *command], directory / "sink.log", clean_environment())
    try:
        wait_for(sink, lambda: b"ready" in sink.log.read_bytes())
        yield sink
    finally:
        sink.discard()


def _peer(settings: Settings, directory: Path, domains: int) -> dict[str, float]:
    mix = make_mix(settings.work, domains, domains * SESSIONS_PER_DOMAIN)
    collector = Peer(settings, directory)
    try:
        collector.process.begin()
        send(settings, collector, mix, 0)
        collector.settle()
        collector.process.kill(signal.SIGUSR2)
        rolled = "SELECT sum(cntrtotal) FROM finalresults"
        wait_for(collector.process, lambda: _has_rolled(collector, rolled, mix.sessions))
        collector.process.end()
    finally:
        collector.process.discard()
    config = directory / "reportd.cfg"
    config.write_text(
        "[tlsrpt_reportd]\n"
        f"dbname = {directory}/reportd.sqlite\norganization_name = Bench\n"
        "contact_info = tlsrpt@bench.test\nsender_address = tlsrpt@bench.test\n"
        f"fetchers = {PEER / 'tlsrpt-fetcher'} --config_file {collector.config}\n"
        f"sendmail_script = {program('reportmail')}\n"
        "spread_out_delivery = 1\ninterval_main_loop = 1\n"
    )
    command = [str(PEER / "tlsrpt-reportd"), "--config_file", str(config)]
    pinned = settings.prefix(settings.daemon_cpu)
    with _sink(settings, directory, domains) as sink:
        started = time.monotonic()
        reportd = Process([*pinned, *command], directory / "reportd.log", clean_environment())
        try:
            wait_for(reportd, lambda: _has_all(sink), DAY_SECONDS)
            seconds = time.monotonic() - started
            reportd.end()
        finally:
            reportd.discard()
    return {
        "collect_cpu_s": collector.process.cpu_seconds,
        "whole_cpu_s": reportd.cpu_seconds,
        "whole_s": seconds,
        "written_mb": (collector.process.written_bytes + reportd.written_bytes) / 1e6,
    }


def _has_rolled(collector: Peer, sql: str, sessions: int) -> bool:
    with contextlib.suppress(sqlite3.OperationalError):
        return collector.yesterday.exists() and query(collector.yesterday, sql) == sessions
    return False


def rows(report: dict[str, Any]) -> list[list[str]]:
    """A row for each program: CPU for 1,000 domains, and the time it took."""
    return [
        [
            name,
            f"{one['domains']['median']:,.0f}",
            *(
                text(_of_1000(one, what), ".2f") if what in one else ""
                for what in ("collect_cpu_s", "make_cpu_s", "whole_cpu_s", "whole_s", "written_mb")
            ),
        ]
        for name, one in report.items()
    ]


def _of_1000(one: dict[str, Any], what: str) -> dict[str, float]:
    domains = one["domains"]["median"]
    return {key: value * 1000 / domains for key, value in one[what].items()}


def _day(one: dict[str, Any], whats: Sequence[str]) -> float:
    """For a whole day of FULL_DOMAINS."""
    total = sum(float(one[what]["median"]) for what in whats)
    return total * FULL_DOMAINS / float(one["domains"]["median"])


def targets(report: dict[str, Any]) -> list[tuple[str, bool]]:
    """What was to be reached, and whether it was."""
    ours, theirs = report["strictmail"], report["peer"]
    make = _day(ours, ["make_cpu_s"])
    reported = _day(theirs, ["whole_cpu_s"]) / _day(ours, ["whole_cpu_s"])
    both = ["collect_cpu_s", "whole_cpu_s"]
    whole = _day(theirs, both) / _day(ours, both)
    wall = _day(theirs, ["whole_s"]) / _day(ours, ["whole_s"])
    making = (
        f"a day of {FULL_DOMAINS:,} domains: {make:.1f} s of CPU to aggregate and render "
        f"(below {MAKE_CPU_LIMIT})"
    )
    sending = (
        f"to delivered reports: {reported:.0f} times less CPU than the peer, {wall:.0f} times faster "
        f"(at least {END_TO_END_FACTOR})"
    )
    all_of_it = (
        f"the same with what collecting took: {whole:.0f} times less CPU "
        f"(at least {END_TO_END_FACTOR})"
    )
    return [
        (making, make < MAKE_CPU_LIMIT),
        (sending, min(reported, wall) >= END_TO_END_FACTOR),
        (all_of_it, whole >= END_TO_END_FACTOR),
    ]
