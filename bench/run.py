# SPDX-License-Identifier: Apache-2.0
"""Measure strictmail: `bench/run.py [cached|cold|memory|startup|check|all]`.

Everything is a ratio within one run: what is compared is measured in turns, on the same core, by
the same load generator. Needs root, or user namespaces; leaves nothing behind but .cache/bench.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import cached
import check
import cold
import memory
import page
import programs
import report
import startup
import world
from common import FULL, QUICK, Settings, fail, machine, priority

SECTIONS = {
    "cached": cached,
    "cold": cold,
    "memory": memory,
    "startup": startup,
    "check": check,
    "report": report,
}
MAY_LACK = {"check": check, "report": report}
"""Parts that need what not every machine has; `all` leaves them out there."""


def main() -> None:
    """Run what the command line asks for."""
    arguments = _arguments()
    programs.build()
    world.enter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # tidy up first
    scale = QUICK if arguments.quick else FULL
    if arguments.repetitions:
        scale = dataclasses.replace(scale, repetitions=arguments.repetitions)
    if arguments.seconds:
        scale = dataclasses.replace(scale, seconds=arguments.seconds)
    if len(os.sched_getaffinity(0)) < 2:
        print("bench: one core only: the load generator disturbs what it measures", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        if arguments.priority:
            stack.enter_context(priority())
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strictmail-bench-")))
        world.furnish(work)
        names = _names(arguments.section)
        found = _measure(Settings(scale=scale, work=work), names, arguments.json)
        if arguments.record:
            page.record(found)


def _names(section: str) -> list[str]:
    if section != "all":
        return [section]
    lacking = {name: reason for name, part in MAY_LACK.items() if (reason := part.lacks())}
    for name, reason in lacking.items():
        print(f"bench: leaving out {name}: {reason}", file=sys.stderr)
    return [name for name in SECTIONS if name not in lacking]


def _measure(settings: Settings, names: list[str], into: Path | None) -> dict[str, Any]:
    facts = machine()
    print(
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, "
        f"Linux {facts['kernel']}, Python {facts['python']}, commit {facts['commit']}, "
        f"load {facts['load_before']:.2f}\n{facts['command']}",
        flush=True,
    )
    figures: dict[str, Any] = {"machine": facts, "scale": dataclasses.asdict(settings.scale)}
    for name in names:
        section = SECTIONS[name]
        found = section.run(settings)
        section.show(found)
        figures[name] = found
        if into:
            into.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("section", nargs="?", default="all", choices=[*SECTIONS, "all"])
    parser.add_argument("--quick", action="store_true", help="tiny numbers: only that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--record", action="store_true", help="put the results into docs/performance.md"
    )
    parser.add_argument("--repetitions", type=int, help="of each measurement, in turns")
    parser.add_argument("--seconds", type=float, help="of each measurement of cached lookups")
    parser.add_argument(
        "--priority",
        action="store_true",
        help="before everything else on the machine: where it is not quiet; needs root",
    )
    arguments = parser.parse_args()
    if arguments.priority and os.geteuid() != 0:
        fail("--priority needs root")
    if arguments.record and (arguments.section not in {"all", *MAY_LACK} or arguments.quick):
        fail("--record wants everything, or check or report, and in full")
    if arguments.json:
        arguments.json = arguments.json.resolve()
    return arguments


if __name__ == "__main__":
    main()
