# SPDX-License-Identifier: Apache-2.0
"""Lookups of domains never seen before: DNS, handshake, fetch, decision."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from common import ratios, spread, text, verdict, write_keys
from load import Load, Shape
from world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common import Settings
    from world import Daemon

CONNECTIONS = 64
POLICY_SHARE = 0.3
WITH_POLICY = "all with a policy"
SHORT_CHAIN = "the same, certificates without an intermediate"
MIXED = "mixed"


def run(settings: Settings) -> dict[str, Any]:
    """Measure; the figures by list and subject."""
    scale = settings.scale
    report: dict[str, Any] = {}
    for label, count, share, chain in (
        (WITH_POLICY, scale.cold_domains, 1.0, "long"),
        (SHORT_CHAIN, scale.cold_domains, 1.0, "short"),
        (MIXED, scale.mixed_domains, POLICY_SHARE, "long"),
    ):
        with World(settings, chain=chain) as world:
            subjects = [
                (world.peer(18002), "inet:127.0.0.1:18002"),
                (world.strictmail(18461, settings.work / "cold-state"), "inet:127.0.0.1:18461"),
            ]
            _measure(settings, subjects, [f"pwarm{i}.test" for i in range(20)], "warm-up")
            runs = []
            for repetition in range(scale.repetitions):
                names = _names(label, repetition, count, share)
                turn = subjects[:: 1 if repetition % 2 == 0 else -1]
                runs.append(_measure(settings, turn, names, label))
        report[label] = _compare(runs)
    return report


def _names(label: str, repetition: int, count: int, policy_share: float) -> list[str]:
    first = ["p"] * round(count * policy_share)
    first += ["n"] * (count - len(first))
    random.Random(repetition).shuffle(first)
    return [f"{letter}{label[0]}{repetition}d{i:06d}.test" for i, letter in enumerate(first)]


def _measure(
    settings: Settings, subjects: Sequence[tuple[Daemon, str]], names: list[str], label: str
) -> dict[str, dict[str, float]]:
    """Ask each subject for the same names, one after the other."""
    keys = write_keys(settings.work / "cold", names)
    with_policy = sum(name.startswith("p") for name in names)
    found: dict[str, dict[str, float]] = {}
    for daemon, address in subjects:
        before = daemon.cpu_seconds()
        result = Load(settings, address, keys, Shape(CONNECTIONS, once=True)).result()
        used = daemon.cpu_seconds() - before
        if result.ok != with_policy:
            print(f"  {daemon.name}, {label}: {result.ok} of {with_policy} policies found")
        found[daemon.name] = {
            "rate": result.rate,
            "cpu_ms": used / result.requests * 1000,
            "p50_ms": result.p50_us / 1000,
            "p99_ms": result.p99_us / 1000,
            "missed": with_policy - result.ok,
        }
    return found


def _compare(runs: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    def column(name: str, figure: str) -> list[float]:
        return [run[name][figure] for run in runs]

    figures = ("rate", "cpu_ms", "p50_ms", "p99_ms", "missed")
    report: dict[str, Any] = {
        name: {figure: spread(column(name, figure)) for figure in figures}
        for name in ("peer", "strictmail")
    }
    for figure in ("rate", "cpu_ms"):
        if all(column("peer", figure)) and all(column("strictmail", figure)):
            report[f"{figure} to peer"] = ratios(
                column("strictmail", figure), column("peer", figure)
            )
    return report


def show(report: dict[str, Any]) -> None:
    """Print it for people."""
    for label, figures in report.items():
        print(f"\ncold, {label}, {CONNECTIONS} at once")
        for name in ("peer", "strictmail"):
            one = figures[name]
            print(
                f"  {name:12} {text(one['rate'])}/s, CPU {text(one['cpu_ms'], '.2f')} ms each, "
                f"p50 {text(one['p50_ms'], '.1f')} ms, p99 {text(one['p99_ms'], '.1f')} ms"
            )
        for name, figure in figures.items():
            if name.endswith("to peer"):
                print(f"  {name}: {text(figure, '.2f')}")
    print()
    for sentence, met in targets(report):
        print(f"  {verdict(met):6} {sentence}")


def targets(report: dict[str, Any]) -> list[tuple[str, bool]]:
    """What was to be reached, and whether it was."""
    found = []
    if "cpu_ms to peer" in report[WITH_POLICY]:  # not where too few were asked
        cpu = report[WITH_POLICY]["cpu_ms to peer"]["median"]
        found.append((f"with a policy: {cpu:.2f} of the peer's CPU (at most 0.75)", cpu <= 0.75))
    rate = report[MIXED]["rate to peer"]["median"]
    found.append((f"mixed list: {rate:.2f} x the peer's rate (at least 1.3)", rate >= 1.3))
    return found
