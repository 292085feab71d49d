# SPDX-License-Identifier: Apache-2.0
"""A bulk run: `strictmail check --from LIST --out RESULTS`, from the list to the last word.

Puts together the list (`checker.listfile`), the file of results (`checker.journal`), the workers
(`checker.pool`) and the display (`checker.progress`). Whatever ends a run, the same command goes
on where it stopped: domains that the file of results has are passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import stat
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TextIO

from strictmail.checker.journal import open_journal
from strictmail.checker.listfile import Faulty, count_lines, open_list, read_list
from strictmail.checker.ondisk import SeenDomains
from strictmail.checker.pool import BulkLimits, BulkRun, BulkSummary, Ending
from strictmail.checker.progress import Progress, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from strictmail.checker.pool import Check
    from strictmail.ports import Clock

STDIN: Final = "-"
"""The list comes from standard input."""

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


async def run_bulk(
    check: Check,
    source: str,
    out: Path | str,
    *,
    clock: Clock,
    limits: BulkLimits = BulkLimits(),  # noqa: B008 - frozen
    screen: TextIO | None = None,
    width: Callable[[], int] | None = None,
    show_progress: bool = True,
) -> BulkSummary:
    """Check the domains of a list that are not in the file of results yet.

    Handles SIGINT and SIGTERM while it runs, if it runs in the main thread.

    Args:
        check: Checks one domain; called with A-labels.
        source: The list's path, or `-`.
        out: The file of results; see `open_journal`.
        clock: For rates and lengths.
        limits: Bounds of the run.
        screen: For progress and messages; None: standard error.
        width: Columns of that terminal; None: it is no terminal.
        show_progress: False: messages only.

    Raises:
        StoreError: `out` cannot be used, or could not take all results; see `checker.journal`.
        SyntaxFault: The list is UTF-16.
        OSError: The list cannot be read.
    """
    tally = Tally()
    progress = Progress(
        screen or sys.stderr,
        tally,
        monotonic=clock.monotonic,
        width=width,
        is_silent=not show_progress,
    )
    tally.total = _count(source)
    with contextlib.ExitStack() as stack:
        unused = stack.enter_context(contextlib.ExitStack())
        earlier = unused.enter_context(SeenDomains())
        journal = stack.enter_context(open_journal(out, earlier.add, monotonic=clock.monotonic))
        if journal.torn_bytes:
            progress.say(f"{out}: cut off {journal.torn_bytes} octets of an unfinished line")
        if journal.earlier:
            progress.say(f"{out}: has {journal.earlier:,} results; going on")
        run = BulkRun(check, journal, tally, progress, clock=clock, limits=limits)
        stack.enter_context(_signals(run, progress))
        file = unused.enter_context(_open(source))
        unused.pop_all()
        summary = await run.run(_fresh(file, earlier, tally, progress))
    progress.finish()
    for line in summary_lines(summary, out):
        progress.say(line)
    return summary


def _open(source: str) -> BinaryIO:
    # Standard input stays open: closing it would wait for a thread that still reads.
    raw = Path(source).open("rb") if source != STDIN else open(0, "rb", closefd=False)  # noqa: SIM115
    return open_list(raw)


def _count(source: str) -> int | None:
    """Lines to deal with; None where the list can be read only once."""
    if source == STDIN or not stat.S_ISREG(Path(source).stat().st_mode):
        return None
    with Path(source).open("rb") as raw:
        return count_lines(open_list(raw))


def _fresh(
    file: BinaryIO, earlier: SeenDomains, tally: Tally, progress: Progress
) -> Generator[str, None, None]:
    """The domains of a list that are still to be checked. Runs in the thread that reads."""
    # Closed by that thread alone: closing would wait for a reader, and pull the rug from under it.
    with file, earlier, SeenDomains() as listed:
        for item in read_list(file):
            if isinstance(item, Faulty):
                tally.faulty += 1
                progress.say(f"line {item.line}: {item.message}")
            elif not listed.add(item.meant.domain):
                tally.duplicates += 1
            elif item.meant.domain in earlier:
                tally.earlier += 1
            else:
                yield item.meant.domain


@contextlib.contextmanager
def _signals(run: BulkRun, progress: Progress) -> Iterator[None]:
    """End the run well at the first signal, and the process at the second."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _STOPPING}

    def on_signal() -> None:
        for number in _STOPPING:
            loop.remove_signal_handler(number)
            # Not the loop's business any more: it may be what hangs.
            signal.signal(number, signal.SIG_DFL)
        progress.say("stopping: the checks under way get a moment; once more ends at once")
        run.stop()

    for number in _STOPPING:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler or signal.SIG_DFL)


def summary_lines(summary: BulkSummary, out: Path | str) -> Iterator[str]:
    """What became of a run, and how to go on."""
    tally = summary.tally
    yield f"{tally.checked:,} domains checked; {out} has {summary.results:,} results"
    passed = [
        f"{count:,} {what}"
        for count, what in (
            (tally.earlier, "checked by an earlier run"),
            (tally.duplicates, "listed twice"),
            (tally.faulty, "faulty lines"),
            (tally.failed, "checks broke off"),
        )
        if count
    ]
    if passed:
        yield "passed over: " + ", ".join(passed)
    if summary.ending is not Ending.COMPLETE or tally.failed:
        yield "not all domains were checked: give the same command again to go on"
