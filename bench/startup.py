# SPDX-License-Identifier: Apache-2.0
"""How long it takes until something happens: a command's help, a daemon's first answer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from common import clean_environment, fail, spread, text, verdict, write_keys
from load import Load, Shape
from storefill import domain, filled
from world import World

if TYPE_CHECKING:
    from pathlib import Path

    from common import Settings

PORT = 18461
HELP_LIMIT_MS = 150
READY_LIMIT_SECONDS = 3


def run(settings: Settings) -> dict[str, Any]:
    """Measure; the figures by what was started."""
    scale = settings.scale
    report: dict[str, Any] = {
        "python, nothing": _cpu_of(settings, ["-c", "pass"]),
        "strictmail --help": _cpu_of(settings, ["-m", "strictmail", "--help"]),
        "strictmail serve --help": _cpu_of(settings, ["-m", "strictmail", "serve", "--help"]),
    }
    empty = settings.work / "startup-empty"
    report["daemon, 0 domains"] = _ready(settings, empty, asks=False)
    state = filled(settings, scale.large_store)
    report[f"daemon, {scale.large_store:,} domains"] = _ready(settings, state, asks=True)
    return report


def _cpu_of(settings: Settings, arguments: list[str]) -> dict[str, Any]:
    command = [*settings.prefix(settings.daemon_cpu), sys.executable, *arguments]
    cpu, wall = [], []
    for _ in range(settings.scale.help_runs + 1):
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=clean_environment())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            fail(f"{' '.join(arguments)} ended with {process.returncode}")
        cpu.append((usage.ru_utime + usage.ru_stime) * 1000)
        wall.append((time.monotonic() - started) * 1000)
    # The first run filled the page cache and wrote the byte code.
    return {"cpu_ms": spread(cpu[1:]), "wall_ms": spread(wall[1:])}


def _ready(settings: Settings, state: Path, *, asks: bool) -> dict[str, Any]:
    seconds, cpu, first = [], [], []
    keys = write_keys(settings.work / "first", [domain(1)])
    for _ in range(settings.scale.repetitions):
        with World(settings) as world:
            daemon = world.strictmail(PORT, state)
            seconds.append(time.monotonic() - daemon.started)
            cpu.append(daemon.cpu_seconds())
            if asks:
                result = Load(
                    settings, f"inet:127.0.0.1:{PORT}", keys, Shape(1, once=True)
                ).result()
                if result.ok != 1:
                    fail("ready, but the answer is weaker than the cache demands")
                first.append(result.p50_us / 1000)
    report = {"ready_s": spread(seconds), "cpu_s": spread(cpu)}
    return report | ({"first_answer_ms": spread(first)} if first else {})


def show(report: dict[str, Any]) -> None:
    """Print it for people."""
    print("\nstart-up")
    for label, figures in report.items():
        if "cpu_ms" in figures:
            print(
                f"  {label:28} CPU {text(figures['cpu_ms'], '.0f')} ms, "
                f"wall {text(figures['wall_ms'], '.0f')} ms"
            )
        else:
            first = figures.get("first_answer_ms")
            after = f", first answer after {text(first, '.1f')} ms more" if first else ""
            print(
                f"  {label:28} ready after {text(figures['ready_s'], '.2f')} s, "
                f"CPU {text(figures['cpu_s'], '.2f')} s{after}"
            )
    print()
    for sentence, met in targets(report):
        print(f"  {verdict(met):6} {sentence}")


def targets(report: dict[str, Any]) -> list[tuple[str, bool]]:
    """What was to be reached, and whether it was."""
    cpu = report["strictmail --help"]["cpu_ms"]["median"]
    label = list(report)[-1]
    ready = report[label]["ready_s"]["median"]
    return [
        (f"strictmail --help: {cpu:.0f} ms CPU (below {HELP_LIMIT_MS})", cpu < HELP_LIMIT_MS),
        (f"{label}: ready after {ready:.2f} s (below 3)", ready < READY_LIMIT_SECONDS),
    ]
