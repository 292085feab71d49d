# SPDX-License-Identifier: Apache-2.0
"""What every benchmark shares: its size, the machine it ran on, medians with their spread."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
)
QUICK = Scale(
    repetitions=1,
    seconds=0.1,
    warmup=0,
    cached_domains=100,
    cold_domains=40,
    mixed_domains=60,
    small_store=200,
    large_store=500,
    help_runs=1,
)


@dataclass(frozen=True)
class Settings:
    """One run of the driver.

    Attributes:
        scale: How much.
        realtime: Run both sides under SCHED_FIFO, for a machine that is busy with other things.
        work: A directory that is removed at the end.
    """

    scale: Scale
    realtime: bool
    work: Path

    @property
    def generator_cpu(self) -> int:
        """The core of the load generator and of the DNS and HTTPS servers."""
        return min(os.sched_getaffinity(0))

    @property
    def daemon_cpu(self) -> int:
        """The core of whatever is measured."""
        return max(os.sched_getaffinity(0))

    def prefix(self, cpu: int, *, realtime: bool | None = None) -> list[str]:
        """What to put in front of a command to run it on a core."""
        wanted = self.realtime if realtime is None else realtime
        return ["taskset", "-c", str(cpu), *(["chrt", "-f", "20"] if wanted else [])]


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
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _commit(),
        "load_before": os.getloadavg()[0],
        "command": " ".join(["bench/run.py", *sys.argv[1:]]),
    }


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
