# SPDX-License-Identifier: Apache-2.0
"""Lookups of domains whose policy is cached: how fast, and how steadily while others are learnt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from common import fail, ratios, spread, text, verdict, write_keys
from load import Load, Result, Shape
from world import World

if TYPE_CHECKING:
    from pathlib import Path

    from common import Settings
    from world import Daemon

SHAPES = {
    "1": Shape(1),
    "16": Shape(16),
    "64": Shape(64),
    "256": Shape(256),
    "16 x 16 pipelined": Shape(16, 16),
}
UNIX_SHAPES = {"64, unix socket": Shape(64)}
STEADY = {"16 connections": Shape(16), "64 connections, 5,000/s": Shape(64, rate=5000)}
COLD_RATE = 500
POLICY_SHARE = 0.3


@dataclass
class Subject:
    """A daemon and where it listens; its results by shape, in order of repetition."""

    daemon: Daemon
    address: str
    shapes: dict[str, Shape]
    results: dict[str, list[Result]] = field(default_factory=dict)
    busy: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, settings: Settings, keys: Path, label: str, seed: int) -> None:
        """One repetition of one shape."""
        before = self.daemon.cpu_seconds()
        load = Load(
            settings,
            self.address,
            keys,
            self.shapes[label],
            seconds=settings.scale.seconds,
            seed=seed,
        )
        result = load.result()
        used = self.daemon.cpu_seconds() - before
        if result.ok != result.requests:
            fail(f"{self.daemon.name} did not answer from its cache: {result}")
        self.results.setdefault(label, []).append(result)
        whole = result.seconds + settings.scale.warmup
        self.busy.setdefault(label, []).append(used / whole)

    def figures(self, label: str) -> dict[str, Any]:
        """For the report."""
        results = self.results[label]
        return {
            "rate": spread(r.rate for r in results),
            "p50_us": spread(r.p50_us for r in results),
            "p99_us": spread(r.p99_us for r in results),
            "daemon_busy": spread(self.busy[label]),
            "generator_busy": spread(r.cpu_seconds / r.seconds for r in results),
        }


def run(settings: Settings) -> dict[str, Any]:
    """Measure; the figures by shape and subject."""
    scale = settings.scale
    keys = write_keys(
        settings.work / "cached", (f"p{i:07d}.test" for i in range(scale.cached_domains))
    )
    with World(settings) as world:
        tcp, unix = _subjects(world)
        for subject in (*tcp[1:], unix[1]):
            _fill(settings, subject, keys)
        for repetition in range(scale.repetitions):
            _repeat(settings, tcp, SHAPES, keys, repetition)
            _repeat(settings, unix, UNIX_SHAPES, keys, repetition)
        report = {label: _compare(label, tcp) for label in SHAPES}
        report |= {label: _compare(label, unix) for label in UNIX_SHAPES}
        report["while others are learnt"] = _steadiness(settings, tcp[1:], keys)
    return report


def _subjects(world: World) -> tuple[list[Subject], list[Subject]]:
    work = world.work
    strictmail = world.strictmail(18461, work / "cached-state")
    unix_responder = f"unix:{work / 'responder.sock'}"
    tcp = [
        Subject(world.responder("inet:127.0.0.1:18001"), "inet:127.0.0.1:18001", SHAPES),
        Subject(world.peer(18002), "inet:127.0.0.1:18002", SHAPES),
        Subject(strictmail, "inet:127.0.0.1:18461", SHAPES),
    ]
    unix = [
        Subject(world.responder(unix_responder), unix_responder, UNIX_SHAPES),
        Subject(strictmail, f"unix:{world.unix_path(18461)}", UNIX_SHAPES),
    ]
    return tcp, unix


def _fill(settings: Settings, subject: Subject, keys: Path) -> None:
    result = Load(settings, subject.address, keys, Shape(64, once=True)).result()
    if result.ok != result.requests:
        fail(f"{subject.daemon.name} did not find every policy: {result}")


def _repeat(
    settings: Settings,
    subjects: list[Subject],
    shapes: dict[str, Shape],
    keys: Path,
    repetition: int,
) -> None:
    for label in shapes:
        # Another order each time, so that no subject always comes after the same one.
        turn = repetition % len(subjects)
        for subject in (*subjects[turn:], *subjects[:turn]):
            subject.measure(settings, keys, label, seed=repetition + 1)


def _compare(label: str, subjects: list[Subject]) -> dict[str, Any]:
    limit, ours = subjects[0], subjects[-1]

    def column(subject: Subject, name: str) -> list[float]:
        return [float(getattr(result, name)) for result in subject.results[label]]

    report: dict[str, Any] = {s.daemon.name: s.figures(label) for s in subjects}
    report["rate to C responder"] = ratios(column(ours, "rate"), column(limit, "rate"))
    report["p99 to C responder"] = ratios(column(ours, "p99_us"), column(limit, "p99_us"))
    for peer in subjects[1:-1]:
        report["rate to peer"] = ratios(column(ours, "rate"), column(peer, "rate"))
    return report


def _steadiness(settings: Settings, subjects: list[Subject], keys: Path) -> dict[str, Any]:
    """Cached answers while domains never seen before are asked for at a steady rate."""
    report: dict[str, Any] = {}
    batch = 0
    for label, shape in STEADY.items():
        report[label] = {}
        for subject in subjects:
            alone, learning, cold_rates = [], [], []
            for repetition in range(settings.scale.repetitions):
                seed = repetition + 1
                batch += 1
                alone.append(_steady(settings, subject, keys, shape, seed))
                cold = Load(
                    settings,
                    subject.address,
                    _never_seen(settings, batch),
                    Shape(64, rate=COLD_RATE, once=True),
                )
                learning.append(_steady(settings, subject, keys, shape, seed))
                cold_rates.append(cold.result().rate)
            report[label][subject.daemon.name] = {
                "p50_us alone": spread(r.p50_us for r in alone),
                "p99_us alone": spread(r.p99_us for r in alone),
                "p50_us": spread(r.p50_us for r in learning),
                "p99_us": spread(r.p99_us for r in learning),
                "p999_us": spread(r.p999_us for r in learning),
                "rate": spread(r.rate for r in learning),
                "cold_rate": spread(cold_rates),
            }
    return report


def _steady(settings: Settings, subject: Subject, keys: Path, shape: Shape, seed: int) -> Result:
    # The DNS and HTTPS servers share the generator's core: what measures goes before them.
    return Load(
        settings,
        subject.address,
        keys,
        shape,
        seconds=settings.scale.seconds,
        seed=seed,
        undisturbed=True,
    ).result()


def _never_seen(settings: Settings, batch: int) -> Path:
    # A little longer than the cached load that runs beside it, program start included.
    wanted = settings.scale.seconds + settings.scale.warmup + min(0.3, settings.scale.seconds)
    names = (
        f"{'p' if i % 10 < POLICY_SHARE * 10 else 'n'}{batch:03d}c{i:06d}.test"
        for i in range(int(COLD_RATE * wanted))
    )
    return write_keys(settings.work / "never-seen", names)


def show(report: dict[str, Any]) -> None:
    """Print it for people."""
    for label in (*SHAPES, *UNIX_SHAPES):
        print(f"\ncached, {label}")
        for name, figures in report[label].items():
            if "rate" in figures:
                print(
                    f"  {name:12} {text(figures['rate']):>36}/s  p50 {text(figures['p50_us'])} us  "
                    f"p99 {text(figures['p99_us'])} us  "
                    f"(CPU: daemon {figures['daemon_busy']['median']:.0%}, "
                    f"generator {figures['generator_busy']['median']:.0%})"
                )
            else:
                print(f"  {name}: {text(figures, '.2f')}")
    for label, subjects in report["while others are learnt"].items():
        print(f"\ncached, {label}, while {COLD_RATE} unknown domains a second are learnt")
        for name, figures in subjects.items():
            print(
                f"  {name:12} p50 {text(figures['p50_us'])} us, p99 {text(figures['p99_us'])} us "
                f"(alone: p99 {text(figures['p99_us alone'])} us); "
                f"{text(figures['rate'])}/s cached, {text(figures['cold_rate'])}/s learnt"
            )
    print()
    for sentence, met in targets(report):
        print(f"  {verdict(met):6} {sentence}")


def targets(report: dict[str, Any]) -> list[tuple[str, bool]]:
    """What was to be reached, and whether it was."""
    at_64 = report["64"]
    steady = report["while others are learnt"]
    p99 = max(subjects["strictmail"]["p99_us"]["median"] for subjects in steady.values())
    rate = at_64["rate to C responder"]["median"]
    tail = at_64["p99 to C responder"]["median"]
    peer = at_64["rate to peer"]["median"]
    return [
        (f"64 connections: {rate:.2f} of the C responder's rate (at least 0.7)", rate >= 0.7),
        (f"64 connections: {tail:.2f} x the C responder's p99 (at most 2.5)", tail <= 2.5),
        (f"64 connections: {peer:.1f} x the peer's rate (at least 4)", peer >= 4),
        (f"p99 {p99:,.0f} us while {COLD_RATE}/s are learnt (below 1,000)", p99 < 1000),
    ]
