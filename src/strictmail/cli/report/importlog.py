# SPDX-License-Identifier: Apache-2.0
"""`strictmail report import-log`: sessions out of Postfix's log, once or as it grows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import tzinfo

    from strictmail.collector.logfile import LogFile, Position
    from strictmail.collector.logimport import ImportTally, LogImport
    from strictmail.core.mta.loglines import LogClock
    from strictmail.core.mta.postfixlog import LoggedSession, PostfixLog
    from strictmail.ports import Clock
    from strictmail.runtime.config import Config

POSITIONS_FILE: Final = "import-log.json"
"""In the state directory: how far each log was read."""

BATCH: Final = 1000
"""Sessions that are judged and stored together."""

LOOK_SECONDS: Final = 1.0
"""Between two looks at a log that is followed."""

STANDARD_INPUT: Final = "-"


@click.command("import-log")
@click.argument("logs", nargs=-1, required=True, metavar="LOG...")
@click.option("--follow", "-f", is_flag=True, help="Go on reading as the log grows, until SIGTERM.")
@click.option(
    "--identity", default="", metavar="NAME", help="The sender identity that reports the sessions."
)
@click.option(
    "--timezone",
    metavar="NAME",
    help="Of times without a zone, such as Europe/Berlin; else this machine's.",
)
@click.option("--dry-run", is_flag=True, help="Count nothing, only say what would be counted.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured
def command(
    config: Config,
    *,
    logs: tuple[str, ...],
    follow: bool,
    identity: str,
    timezone: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Count the SMTP sessions that Postfix's log proves.

    For Postfix up to 3.9, which sends no datagrams, and for what no Postfix tells by datagram.

    LOG is a file in the order of time, or - for standard input:

    \b
      strictmail report import-log --follow /var/log/mail.log
      journalctl -o short-iso -t postfix/smtp | strictmail report import-log -

    Needs `smtp_tls_loglevel = 1` in main.cf. Reading the same lines again counts nothing again:
    run it as often as you like. It goes on where it was, also behind a rotation.
    """  # noqa: D301 - click's mark
    from strictmail.runtime.clock import SystemClock

    if follow and (len(logs) != 1 or logs[0] == STANDARD_INPUT):
        raise click.UsageError("--follow takes one file; standard input is read to its end anyway.")
    if identity and identity not in {one.name for one in config.identities}:
        raise click.UsageError(f"--identity: there is no [[identity]] {identity[:40]!r}.")
    runner = _Runner(config, SystemClock(), _zone(timezone), follow=follow, dry_run=dry_run)
    asyncio.run(runner.run(logs, identity))
    print_result(runner, as_json=as_json)
    return ExitCode.OK


def print_result(runner: _Runner, *, as_json: bool) -> None:
    """Say what was counted, and what was not."""
    tally, passed_over = runner.tally, runner.passed_over
    if as_json:
        document = {
            "counted": tally.counted,
            "results": dict(tally.results),
            "known": tally.known,
            "late": tally.late,
            "not_counted": dict(tally.not_counted),
            "passed_over": passed_over,
        }
        print(json.dumps(document, indent=2))
        return
    for line in result_lines(tally, passed_over, dry_run=runner.dry_run):
        print(line)


def result_lines(
    tally: ImportTally, passed_over: Mapping[str, int], *, dry_run: bool
) -> Iterator[str]:
    """The same for people."""
    judged = ", ".join(f"{count:,} {word}" for word, count in sorted(tally.results.items()))
    yield f"{sum(tally.results.values()):,} sessions judged: {judged or 'none'}"
    if dry_run:
        yield "none counted: a dry run"
    else:
        yield f"{tally.counted:,} counted now, {tally.known:,} before"
    if tally.late:
        yield (f"{tally.late:,} came too late: the report of their day and domain was made already")
    for reason, count in sorted(tally.not_counted.items()):
        yield f"{count:,} not counted: {WORDS.get(reason, reason)}"
    for reason, count in sorted(passed_over.items()):
        yield f"{count:,} passed over: {WORDS.get(reason, reason)}"


WORDS: Final = {
    "override": "an operator's override was in force",
    "dns-failed": "MX or TLSA records could not be looked up now",
    "no-policy-known": "refused for a policy that is not in the cache any more",
    "verified-for-another-reason": "verified, but by no policy of the domain's that is known",
    "refused-for-another-reason": "refused, but by no policy of the domain's that is known",
    "not-verified-as-demanded": "not verified, although a policy demands it: was it in force then?",
    "clear-text-without-policy": "in clear text, and no policy asks for TLS",
    "told by datagram": "Postfix has told of them by datagram",
    "several domains": "a relay host: the domain that was asked for is not in the log",
    "no domain": "to no domain, such as an address literal",
    "ambiguous": "lines in which an address or a reply looks like Postfix's own words",
    "unfinished": "without a result in the log",
}
"""Reasons in words."""


def _zone(name: str | None) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        if name:
            return ZoneInfo(name)
        if os.environ.get("TZ"):
            return ZoneInfo(os.environ["TZ"].removeprefix(":"))
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        if name:
            raise click.UsageError(f"--timezone: there is no time zone {name[:60]!r}") from None
        return UTC


@dataclass(slots=True)
class _Reading:
    """A log that is read."""

    clock: LogClock
    parser: PostfixLog


class _Runner:
    """One run of the command."""

    def __init__(
        self, config: Config, clock: Clock, zone: tzinfo, *, follow: bool, dry_run: bool
    ) -> None:
        from strictmail.collector.logimport import ImportTally

        self.dry_run = dry_run
        self.tally = ImportTally()
        self.passed_over: dict[str, int] = {}
        self._config = config
        self._clock = clock
        self._zone = zone
        self._follow = follow
        self._stop = asyncio.Event()
        self._positions = Path(config.state_directory) / POSITIONS_FILE

    async def run(self, logs: Iterable[str], identity: str) -> None:
        """Read and count everything."""
        from strictmail.cli.composition import build_resolver, engine_settings
        from strictmail.collector.applied import AppliedPolicies
        from strictmail.collector.logimport import LogImport
        from strictmail.store.policies import SqlitePolicyStore
        from strictmail.store.sessions import SessionStore

        config = self._config
        policies = None
        if _exists(config.policies_path):
            policies = SqlitePolicyStore(config.policies_path, create=False)
        sessions = None if self.dry_run else SessionStore(config.sessions_path)
        resolver = build_resolver(config)
        try:
            await resolver.start()
            await resolver.probe()
            decides = AppliedPolicies(
                policies,
                resolver,
                clock=self._clock,
                dane=any(listener.dane for listener in config.listeners),
                settings=engine_settings(config).decision,
            )
            work = LogImport(sessions, decides, identity)
            self.tally = work.tally
            await self._read_all(logs, work)
        finally:
            await resolver.close()
            for store in (policies, sessions):
                if store is not None:
                    store.close()

    async def _read_all(self, logs: Iterable[str], work: LogImport) -> None:
        from strictmail.core.mta.loglines import LogClock
        from strictmail.core.mta.postfixlog import PostfixLog

        # Files given together are one log.
        reading = _Reading(LogClock(self._zone, self._clock.now()), PostfixLog())
        for log in logs:
            if log == STANDARD_INPUT:
                await self._read_stream(reading, work)
            elif self._follow:
                await self._follow_file(Path(log), reading, work)
            else:
                await self._read_file(Path(log), reading, work)
        await work.take(list(reading.parser.settle()))
        self.passed_over = dict(reading.parser.passed_over)

    async def _read_stream(self, reading: _Reading, work: LogImport) -> None:
        from strictmail.collector.logfile import MAX_LINE_BYTES

        stream = sys.stdin.buffer
        found: list[LoggedSession] = []
        while line := await asyncio.to_thread(stream.readline, MAX_LINE_BYTES):
            found += _feed(reading, line.rstrip(b"\n"), 0)
            if len(found) >= BATCH:
                await work.take(found)
                found = []
        await work.take(found)

    async def _read_file(self, path: Path, reading: _Reading, work: LogImport) -> None:
        if not _exists(path):
            raise FileNotFoundError(2, "there is no such file", str(path))
        file = self._open(path)
        try:
            await self._read_lines(file, reading, work)
            await work.take(list(reading.parser.settle()))
            self._remember(file, reading)
        finally:
            file.close()

    async def _follow_file(self, path: Path, reading: _Reading, work: LogImport) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        file = self._open(path)
        try:
            while not self._stop.is_set():
                reading.clock.advance(self._clock.now())
                found = await self._read_lines(file, reading, work)
                if not found:
                    # Nothing came for a while: what has a result is complete.
                    await work.take(list(reading.parser.settle()))
                self._remember(file, reading)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._stop.wait()
        finally:
            file.close()

    async def _read_lines(self, file: LogFile, reading: _Reading, work: LogImport) -> int:
        """Take in what is there; how many lines."""
        number = 0
        found: list[LoggedSession] = []
        for number, (offset, line) in enumerate(file.read(), 1):  # noqa: B007 - used below
            found += _feed(reading, line, offset)
            if len(found) >= BATCH:
                await work.take(found)
                found = []
        await work.take(found)
        return number

    # ---- positions ----------------------------------------------------------------------

    def _open(self, path: Path) -> LogFile:
        from strictmail.collector.logfile import LogFile

        return LogFile(path, None if self.dry_run else self._load_positions().get(_key(path)))

    def _load_positions(self) -> dict[str, Position]:
        from strictmail.collector.logfile import Position

        with suppress(OSError, ValueError, TypeError, AttributeError):
            document = json.loads(self._positions.read_text("utf-8"))
            return {key: Position(**value) for key, value in document.items()}
        return {}

    def _remember(self, file: LogFile, reading: _Reading) -> None:
        """Note how far the log is counted: only after the counts are stored."""
        position = None if self.dry_run else file.position(reading.parser.open_since())
        if position is None:
            return
        positions = self._load_positions()
        if positions.get(_key(file.path)) == position:
            return
        positions[_key(file.path)] = position
        partial = self._positions.with_suffix(".partial")
        partial.write_text(json.dumps({key: asdict(one) for key, one in positions.items()}))
        partial.replace(self._positions)


def _exists(path: str | Path) -> bool:
    return Path(path).is_file()


def _key(path: Path) -> str:
    return str(path.absolute())


def _feed(reading: _Reading, line: bytes, mark: int) -> list[LoggedSession]:
    parsed = reading.clock.read(line.decode("utf-8", "replace"))
    return [] if parsed is None else list(reading.parser.feed(parsed, mark))
