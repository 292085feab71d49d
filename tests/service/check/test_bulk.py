# SPDX-License-Identifier: Apache-2.0
"""Bulk runs: every domain of a list ends in the file once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import errno
import gc
import io
import os
import random
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvloop
from tests.unit.checker.results import result

from strictmail.checker.bulk import run_bulk
from strictmail.checker.codec import decode
from strictmail.checker.pool import BulkLimits, BulkSummary, Ending
from strictmail.core.check.result import CheckResult, Severity
from strictmail.core.errors import StoreUnavailableError, SyntaxFault
from strictmail.runtime.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROOT = Path(__file__).parents[3]


def domains_of(path: Path) -> list[str]:
    return [decode(line).domain for line in path.read_bytes().splitlines()]


@dataclass
class Bench:
    """A directory with a list, and a check that answers at once unless told otherwise."""

    directory: Path
    screen: io.StringIO = field(default_factory=io.StringIO)
    asked: list[str] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    @property
    def out(self) -> Path:
        return self.directory / "out.jsonl"

    def write(self, text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        (self.directory / "list").write_bytes(data)

    def write_many(self, count: int) -> None:
        self.write("".join(f"d{number}.example\n" for number in range(count)))

    async def check(self, domain: str) -> CheckResult:
        self.asked.append(domain)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        return result(domain, status=Severity.WARNING if "bad" in domain else Severity.OK)

    async def run(
        self,
        check: Callable[[str], Awaitable[CheckResult]] | None = None,
        *,
        concurrency: int = 4,
        domain_deadline: timedelta = timedelta(minutes=1),
        run_deadline: timedelta | None = None,
        grace: timedelta = timedelta(seconds=30),
    ) -> BulkSummary:
        limits = BulkLimits(concurrency, domain_deadline, run_deadline, grace)
        source = str(self.directory / "list")
        return await run_bulk(
            check or self.check,
            source,
            self.out,
            clock=ManualClock(),
            limits=limits,
            screen=self.screen,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_each_domain_once_and_faults_by_line(bench: Bench) -> None:
    bench.write("a.example\n# x\nbad.example\nA.Example.\n192.0.2.1\nme@c.example\n")
    summary = await bench.run()
    assert sorted(domains_of(bench.out)) == ["a.example", "bad.example", "c.example"]
    assert summary.ending is Ending.COMPLETE
    assert summary.tally.total == 5
    assert summary.tally.done == 5
    assert summary.tally.by_status == {
        Severity.OK: 2, Severity.WARNING: 1, Severity.CRITICAL: 0, Severity.UNKNOWN: 0,
    }  # fmt: skip
    assert (summary.tally.duplicates, summary.tally.faulty) == (1, 1)
    said = bench.screen.getvalue()
    assert "line 5: `192.0.2.1`: `192.0.2.1` is an address" in said
    assert "5/5 100%" in said
    assert "3 domains checked" in said


async def test_a_second_run_checks_what_is_new(bench: Bench) -> None:
    bench.write_many(10)
    await bench.run()
    bench.asked.clear()
    bench.write("new.example\nd3.example\nd3.example\n")
    summary = await bench.run()
    assert bench.asked == ["new.example"]
    assert (summary.tally.earlier, summary.tally.duplicates, summary.results) == (1, 1, 11)
    assert len(set(domains_of(bench.out))) == len(domains_of(bench.out)) == 11


async def test_so_many_at_a_time_and_no_more(bench: Bench) -> None:
    bench.write_many(100)
    is_full = asyncio.Event()

    async def check(domain: str) -> CheckResult:
        if bench.under_way == 6:
            is_full.set()
        bench.under_way += 1
        await is_full.wait()
        bench.under_way -= 1
        return await bench.check(domain)

    await bench.run(check, concurrency=7)
    assert bench.most_under_way <= 7
    assert sorted(bench.asked) == sorted(f"d{n}.example" for n in range(100))


async def test_a_check_that_breaks_off_is_told_and_tried_again_next_time(bench: Bench) -> None:
    bench.write_many(6)

    async def broken(domain: str) -> CheckResult:
        if domain == "d1.example":
            raise RuntimeError("a fault\x1b[31m of ours")
        if domain == "d2.example":
            await asyncio.Event().wait()
        if domain == "d3.example":
            raise asyncio.CancelledError
        return await bench.check(domain)

    summary = await bench.run(broken, domain_deadline=timedelta(milliseconds=20))
    assert summary.tally.failed == 3
    assert summary.ending is Ending.COMPLETE
    said = bench.screen.getvalue()
    assert "d1.example: the check broke off" in said
    assert "RuntimeError: `a fault\\x1b[31m of ours`" in said
    assert "d2.example" in said
    assert "no result within 0.02 s" in said
    assert "d3.example" in said
    assert "give the same command again" in said
    summary = await bench.run()
    assert sorted(domains_of(bench.out)) == [f"d{n}.example" for n in range(6)]


async def test_the_deadline_of_the_run_ends_it_and_says_how_to_go_on(bench: Bench) -> None:
    bench.write_many(1000)

    async def hangs(domain: str) -> CheckResult:
        if domain != "d0.example":
            await asyncio.Event().wait()
        return await bench.check(domain)

    summary = await bench.run(
        hangs, run_deadline=timedelta(milliseconds=20), grace=timedelta(milliseconds=20)
    )
    assert summary.ending is Ending.DEADLINE
    assert domains_of(bench.out) == ["d0.example"]
    assert "give the same command again" in bench.screen.getvalue()
    await bench.run()
    assert sorted(domains_of(bench.out)) == sorted(f"d{n}.example" for n in range(1000))


async def test_a_full_disk_ends_the_run_and_the_next_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write_many(500)
    write, room = os.write, 100_000

    def full(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, data[:room])
        room -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreUnavailableError, match=r"No space left.*make room"):
            await bench.run(concurrency=50)
    there = domains_of(bench.out)
    assert 0 < len(there) < 500
    assert bench.out.read_bytes().endswith(b"\n")
    summary = await bench.run()
    assert summary.tally.earlier == len(there)
    assert sorted(domains_of(bench.out)) == sorted(f"d{n}.example" for n in range(500))


async def test_a_list_that_is_not_there_makes_no_file(bench: Bench) -> None:
    with pytest.raises(FileNotFoundError):
        await bench.run()
    bench.write("a.example\n".encode("utf-16"))
    with pytest.raises(SyntaxFault, match="UTF-16"):
        await bench.run()
    assert not bench.out.exists()


async def test_the_list_for_the_results_is_refused(bench: Bench) -> None:
    bench.out.write_text("a.example\n")
    bench.write_many(1)
    with pytest.raises(Exception, match="nothing was changed"):
        await bench.run()
    assert bench.out.read_text() == "a.example\n"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_list(bench: Bench) -> None:
    bench.write_many(100_000)
    line = result("d.example")
    blocks: list[int] = []

    async def check(domain: str) -> CheckResult:
        if domain in {"d10000.example", "d99000.example"}:
            gc.collect()
            blocks.append(sys.getallocatedblocks())
        return replace(line, domain=domain)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        summary = runner.run(bench.run(check, concurrency=100))
    assert summary.tally.checked == 100_000
    # What is read ahead and waits to be written comes and goes; 89,000 domains leave nothing.
    assert blocks[1] - blocks[0] < 8_000


# The rest runs as processes of their own: what signals do cannot be shown inside this one.

RUNNER = textwrap.dedent(
    """
    import asyncio, sys, uvloop
    from datetime import timedelta
    from strictmail.checker.bulk import run_bulk
    from strictmail.checker.pool import BulkLimits
    from strictmail.runtime.clock import SystemClock
    from tests.unit.checker.results import result

    source, out, hang_from = sys.argv[1], sys.argv[2], int(sys.argv[3])

    async def check(domain):
        number = int(domain[1:].partition(".")[0])
        if number >= hang_from:
            print("hanging", flush=True)
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        print(domain, flush=True)
        return result(domain, summary="x" * 3000)

    limits = BulkLimits(concurrency=8, grace=timedelta(seconds=float(sys.argv[4])))
    new_loop = uvloop.new_event_loop if sys.argv[5] == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        run = run_bulk(check, source, out, clock=SystemClock(), limits=limits)
        summary = runner.run(run)
    print(summary.ending, flush=True)
    """
)

NEVER = 1_000_000


def start(
    source: str,
    out: Path,
    *,
    hang_from: int = NEVER,
    grace: float = 30,
    stdin: int | None = None,
    loop: str = "uvloop",
) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", RUNNER, source, str(out), str(hang_from), str(grace), loop]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        stdin=stdin,
    )


def read_lines(process: subprocess.Popen[bytes], count: int) -> None:
    assert process.stdout is not None
    for _ in range(count):
        assert process.stdout.readline(), "the run ended early"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_anywhere_the_next_run_completes_it(bench: Bench, seed: int) -> None:
    count = 400
    bench.write_many(count)
    rng = random.Random(seed)
    process = start(str(bench.directory / "list"), bench.out)
    with process:
        read_lines(process, rng.randint(1, count - 100))
        os.kill(process.pid, signal.SIGKILL)
    if rng.random() < 0.5 and bench.out.stat().st_size:
        # What a kill in the middle of a write leaves.
        os.truncate(bench.out, rng.randint(0, bench.out.stat().st_size))
    with start(str(bench.directory / "list"), bench.out) as process:
        assert b"complete" in process.communicate()[0]
    assert process.returncode == 0
    found = domains_of(bench.out)
    assert sorted(found) == sorted(f"d{n}.example" for n in range(count))


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_well(bench: Bench, number: int, loop: str) -> None:
    bench.write_many(1000)
    with start(
        str(bench.directory / "list"), bench.out, hang_from=20, grace=0.05, loop=loop
    ) as process:
        read_lines(process, 28)
        os.kill(process.pid, number)
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 0
    assert out.endswith(b"stopped\n")
    assert b"give the same command again" in err
    assert sorted(domains_of(bench.out)) == sorted(f"d{n}.example" for n in range(20))


def test_checks_under_way_get_the_grace(bench: Bench) -> None:
    bench.write_many(10_000)
    with start(str(bench.directory / "list"), bench.out) as process:
        read_lines(process, 50)
        os.kill(process.pid, signal.SIGINT)
        assert process.stdout is not None
        out = process.stdout.read()
    assert out.endswith(b"stopped\n")
    # Whatever was checked is in the file: nothing was dropped.
    checked = 50 + len(out.splitlines()) - 1
    assert len(domains_of(bench.out)) == checked


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_the_second_signal_ends_at_once(bench: Bench, loop: str) -> None:
    bench.write_many(100)
    with start(str(bench.directory / "list"), bench.out, hang_from=0, loop=loop) as process:
        read_lines(process, 8)
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr is not None
        assert b"once more ends at once" in process.stderr.readline()
        os.kill(process.pid, signal.SIGINT)
    assert process.returncode == -signal.SIGINT


def test_a_list_from_a_pipe_is_checked_as_it_comes_and_holds_up_no_end(bench: Bench) -> None:
    with start("-", bench.out, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"d1.example\nd2.example\n")
        process.stdin.flush()
        read_lines(process, 2)
        # The pipe stays open, and the reader waits in it.
        os.kill(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.read() == b"stopped\n"
        assert process.stderr is not None
        err = process.stderr.read()
    assert process.returncode == 0
    assert b"Fatal" not in err
    assert domains_of(bench.out) == ["d1.example", "d2.example"]


def test_a_list_from_a_pipe_ends_with_it(bench: Bench) -> None:
    with start("-", bench.out, stdin=subprocess.PIPE) as process:
        out, _ = process.communicate(b"d1.example\n!\nd2.example")
    assert out.endswith(b"complete\n")
    assert sorted(domains_of(bench.out)) == ["d1.example", "d2.example"]
