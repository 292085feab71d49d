# SPDX-License-Identifier: Apache-2.0
"""Measure strictmail: `bench/run.py [cached|cold|memory|startup|all]`.

Everything is a ratio within one run: what is compared is measured in turns, on the same core, by
the same load generator. Needs root, or user namespaces; leaves nothing behind but .cache/bench.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

import cached
import cold
import memory
import programs
import startup
import world
from common import FULL, QUICK, Settings, fail, machine

SECTIONS = {"cached": cached, "cold": cold, "memory": memory, "startup": startup}


def main() -> None:
    """Run what the command line asks for."""
    arguments = _arguments()
    programs.build()
    world.enter()
    scale = QUICK if arguments.quick else FULL
    if arguments.repetitions:
        scale = dataclasses.replace(scale, repetitions=arguments.repetitions)
    if arguments.seconds:
        scale = dataclasses.replace(scale, seconds=arguments.seconds)
    if len(os.sched_getaffinity(0)) < 2:
        print("bench: one core only: the load generator disturbs what it measures", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="strictmail-bench-") as work:
        settings = Settings(scale=scale, realtime=arguments.realtime, work=Path(work))
        world.furnish(settings.work)
        report = {"machine": machine(), "scale": dataclasses.asdict(scale)}
        _print_machine(report["machine"])
        for name in list(SECTIONS) if arguments.section == "all" else [arguments.section]:
            section = SECTIONS[name]
            report[name] = section.run(settings)
            section.show(report[name])
            if arguments.json:
                arguments.json.write_text(json.dumps(report, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("section", nargs="?", default="all", choices=[*SECTIONS, "all"])
    parser.add_argument("--quick", action="store_true", help="tiny numbers: only that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--repetitions", type=int, help="of each measurement, in turns")
    parser.add_argument("--seconds", type=float, help="of each measurement of cached lookups")
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="run both sides under SCHED_FIFO: for a machine that does other things as well",
    )
    arguments = parser.parse_args()
    if arguments.realtime and os.geteuid() != 0:
        fail("--realtime needs root")
    if arguments.json:
        arguments.json = arguments.json.resolve()
    return arguments


def _print_machine(facts: dict[str, object]) -> None:
    print(
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, "
        f"Linux {facts['kernel']}, Python {facts['python']}, commit {facts['commit']}, "
        f"load {facts['load_before']:.2f}\n{facts['command']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
