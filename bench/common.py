# SPDX-License-Identifier: Apache-2.0
"""What every benchmark shares: its size, the machine it ran on, medians with their spread."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Scale:
    """How much is measured. `QUICK` only shows that everything works."""

    repetitions: int
    seconds: float
    warmup: float
    cached_domains: int
    cold_domains: int
    mixed_domains: int
    small_store: int
    large_store: int
    help_runs: int
    settle_seconds: float
    check_sample: int
    check_sizes: tuple[int, ...]
    check_round_trip_ms: float
    check_smtp_timeout: str
    check_patience: str
    report_domains: int
    report_sessions: int
    report_step_seconds: float
    report_day_domains: int
    report_day_sample: int


FULL = Scale(
    repetitions=5,
    seconds=3,
    warmup=0.3,
    cached_domains=10_000,
    cold_domains=2_000,
    mixed_domains=5_000,
    small_store=50_000,
    large_store=1_000_000,
    help_runs=15,
    settle_seconds=2,
    check_sample=60,
    check_sizes=(1_000, 10_000),
    check_round_trip_ms=20,
    check_smtp_timeout="5s",
    check_patience="90s",
    report_domains=2_000,
    report_sessions=60_000,
    report_step_seconds=2,
    report_day_domains=10_000,
    report_day_sample=200,
)
QUICK = Scale(
    repetitions=1,
    seconds=0.05,
    warmup=0,
    cached_domains=50,
    cold_domains=20,
    mixed_domains=40,
    small_store=100,
    large_store=200,
    help_runs=1,
    settle_seconds=0,
    check_sample=3,
    check_sizes=(20, 50),
    check_round_trip_ms=1,
    check_smtp_timeout="60s",
    check_patience="10s",
    report_domains=20,
    report_sessions=200,
    report_step_seconds=0.01,
    report_day_domains=20,
    report_day_sample=3,
)


@dataclass(frozen=True)
class Settings:
    """One run of the driver.

    Attributes:
        scale: How much.
        work: A directory that is removed at the end.
    """

    scale: Scale
    work: Path

    @property
    def generator_cpu(self) -> int:
        """The core of the load generator and of the DNS and HTTPS servers."""
        return min(os.sched_getaffinity(0))

    @property
    def daemon_cpu(self) -> int:
        """The core of whatever is measured."""
        return max(os.sched_getaffinity(0))

    def prefix(self, cpu: int, *, undisturbed: bool = False) -> list[str]:
        """What to put in front of a command to run it on a core.

        Args:
            cpu: The core.
            undisturbed: Before everything else on that core, where we may.
        """
        realtime = ["chrt", "-f", "20"] if undisturbed and _may_realtime() else []
        return ["taskset", "-c", str(cpu), *realtime]


@functools.cache
def _may_realtime() -> bool:
    return (
        subprocess.run(["chrt", "-f", "20", "true"], capture_output=True, check=False).returncode
        == 0
    )


@contextlib.contextmanager
def priority() -> Iterator[None]:
    """Go before everything else on the machine, and keep the order among our own processes.

    The kernel shares the processor between sessions first (sched_autogroup); the weight of ours
    is raised and put back. Without that, all of our processes get the same lower nice value.
    """
    group = Path("/proc/self/autogroup")
    if not group.exists() or Path("/proc/sys/kernel/sched_autogroup_enabled").read_text() == "0\n":
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        yield
        return
    before = group.read_text().split()[-1]
    group.write_text("-20")
    try:
        yield
    finally:
        group.write_text(before)


def clean_environment() -> dict[str, str]:
    """The environment that daemons and commands are started with: nobody's habits in it."""
    return {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}


def fail(message: str) -> NoReturn:
    """End the run: its figures would mean nothing."""
    raise SystemExit(f"bench: {message}")


def machine() -> dict[str, Any]:
    """Where and what was measured."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "peer": _locked("bench.txt", "postfix-mta-sts-resolver"),
        "check_peer": _locked("checkbench.txt", "checkdmarc"),
        "report_peer": _locked("reportbench.txt", "tlsrpt-reporter"),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _commit(),
        "load_before": os.getloadavg()[0],
        "command": " ".join(["bench/run.py", *sys.argv[1:]]),
    }


def _locked(lock: str, name: str) -> str:
    """Another program and its version, from the lock that it was installed from."""
    for line in (ROOT / "requirements" / lock).read_text().splitlines():
        if line.startswith(f"{name}=="):
            return line.split()[0].replace("==", " ")
    return name


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD") if (ROOT / ".git").exists() else ""
    if not commit or commit == "HEAD":
        return "not committed"
    return commit + ("+changes" if git("status", "--porcelain", "src", "bench") else "")


def spread(values: Iterable[float]) -> dict[str, float]:
    """The median of some repetitions, and the least and the greatest of them."""
    known = list(values)
    return {"median": statistics.median(known), "min": min(known), "max": max(known)}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """The ratio of each pair of repetitions that stood side by side."""
    return spread(a / b for a, b in zip(ours, theirs, strict=True) if b)


def text(value: dict[str, float], form: str = ",.0f") -> str:
    """`median [min-max]`, for people."""
    return f"{value['median']:{form}} [{value['min']:{form}}-{value['max']:{form}}]"


def write_keys(path: Path, names: Iterable[str]) -> Path:
    """A file of keys for the load generator, one a line."""
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def verdict(met: bool) -> str:  # noqa: FBT001 - reads well where it is used
    """For a table."""
    return "met" if met else "MISSED"
