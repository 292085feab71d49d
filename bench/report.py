# SPDX-License-Identifier: Apache-2.0
"""TLS reports: sessions collected, and a day of them reported, against tlsrpt-reporter."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import reportday
from common import fail, ratios, spread, text, verdict
from reportmix import make_mix
from reportworld import Peer, Strictmail, lacks, send, set_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from common import Settings
    from reportmix import Mix
    from reportworld import Collecting

LONG_QUEUE, SHORT_QUEUE = 512, 10
"""net.unix.max_dgram_qlen: a usual setting of busy mail servers, and the kernel's default."""

FLAT_OUT, FAST = "flat out", "12,000/s, queue 512"
STEADY, STEADY_LONG = "4,000/s, queue 10", "4,000/s, queue 512"
RUNS = {
    FLAT_OUT: (0, LONG_QUEUE),
    FAST: (12_000, LONG_QUEUE),
    STEADY_LONG: (4_000, LONG_QUEUE),
    STEADY: (4_000, SHORT_QUEUE),
}
LADDER: tuple[int, ...] = (
    1_000,
    2_000,
    4_000,
    6_000,
    8_000,
    10_000,
    12_000,
    16_000,
    20_000,
    25_000,
    30_000,
    40_000,
)
LADDER += (50_000, 60_000, 80_000, 100_000, 125_000, 150_000, 200_000)
TRIES = 2
MAX_REPETITIONS = 3
SUBJECTS: dict[str, Callable[..., Collecting]] = {
    "peer": Peer,
    "strictmail": Strictmail,
}
RATE_FACTOR, CPU_SHARE, WRITTEN_SHARE, SHORT_QUEUE_LOSS = 5, 0.2, 0.1, 0.001


def run(settings: Settings) -> dict[str, Any]:
    """Measure; the figures by what was sent and who took it."""
    if reason := lacks():
        fail(f"report {reason}")
    scale = settings.scale
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for turn in range(min(scale.repetitions, MAX_REPETITIONS)):
        order = list(SUBJECTS) if turn % 2 == 0 else list(reversed(SUBJECTS))
        for label, (rate, queue) in RUNS.items():
            mix = make_mix(settings.work, scale.report_domains, scale.report_sessions)
            for name in order:
                one = _collect(settings, name, mix, rate, queue)
                found.setdefault(label, {}).setdefault(name, []).append(one)
        for name in order:
            one = {"rate": _lossless_rate(settings, name)}
            found.setdefault("without loss", {}).setdefault(name, []).append(one)
    report: dict[str, Any] = {
        label: {name: _summed(ones) for name, ones in subjects.items()}
        for label, subjects in found.items()
    }
    for label, subjects in found.items():
        for what in subjects["peer"][0]:
            ours, theirs = (
                [one[what] for one in subjects[name]] for name in ("strictmail", "peer")
            )
            if all(theirs):
                report[label][f"{what} to peer"] = ratios(ours, theirs)
    report["day"] = reportday.run(settings)
    return report


def _summed(ones: Sequence[dict[str, float]]) -> dict[str, Any]:
    return {what: spread(one[what] for one in ones) for what in ones[0]}


@functools.cache
def _numbers() -> list[int]:
    return [0]


def _directory(settings: Settings, name: str) -> Path:
    _numbers()[0] += 1
    return settings.work / f"report-{_numbers()[0]}-{name}"


def _collect(settings: Settings, name: str, mix: Mix, rate: int, queue: int) -> dict[str, float]:
    set_queue(queue)
    # With a rate there is a processor for everybody, as beside a mail server that is not busy.
    subject = SUBJECTS[name](settings, _directory(settings, name), pinned=rate == 0)
    try:
        subject.process.begin()
        told = send(settings, subject, mix, rate)
        subject.settle()
        subject.process.end()
        counted = subject.counted()
    finally:
        subject.process.discard()
    if rate == 0 and counted != mix.sessions:
        fail(f"{name} counted {counted} of {mix.sessions} sessions, and none was refused")
    per_100_000 = 100_000 / max(1, counted)
    return {
        "rate": told["rate"],
        "loss": 1 - counted / mix.sessions,
        "cpu_s": subject.process.cpu_seconds * per_100_000,
        "written_mb": subject.process.written_bytes * per_100_000 / 1e6,
    }


def _lossless_rate(settings: Settings, name: str) -> float:
    """The highest rate of the ladder at which nothing was lost; each rate has TRIES tries."""
    set_queue(LONG_QUEUE)
    subject = SUBJECTS[name](settings, _directory(settings, name))
    best, sent = 0.0, 0
    try:
        for rate in LADDER:
            count = max(20, round(rate * settings.scale.report_step_seconds))
            mix = make_mix(settings.work, settings.scale.report_domains, count)
            for _ in range(TRIES):
                told = send(settings, subject, mix, rate)
                sent += int(told["sent"])
                subject.settle()
                if not told["refused"]:
                    break
            if told["refused"]:
                break
            best = told["rate"]
            if told["rate"] < 0.8 * rate:  # the sender cannot go faster
                break
        subject.process.end()
        counted = subject.counted()
    finally:
        subject.process.discard()
    if counted != sent:
        fail(f"{name} counted {counted} of {sent} sessions that it took")
    return best


def collect_rows(report: dict[str, Any]) -> list[list[str]]:
    """A row for each load and program, as the page has them."""
    return [
        [
            label,
            name,
            text(one["rate"]),
            text(one["loss"], ".2%"),
            text(one["cpu_s"], ".2f"),
            text(one["written_mb"], ".1f"),
        ]
        for label in RUNS
        for name, one in report[label].items()
        if name in SUBJECTS
    ]


def ratio_rows(report: dict[str, Any]) -> list[list[str]]:
    """Strictmail's figures to those of the peer."""
    rows = [
        ["rate without loss", text(report["without loss"]["rate to peer"], ".1f")],
        ["rate flat out", text(report[FLAT_OUT]["rate to peer"], ".1f")],
    ]
    for label in RUNS:
        rows.append([f"CPU, {label}", text(report[label]["cpu_s to peer"], ".3f")])
        rows.append([f"written, {label}", text(report[label]["written_mb to peer"], ".3f")])
    return rows


def show(report: dict[str, Any]) -> None:
    """Print it for people."""
    print("\nreport: collecting")
    for label, name, rate, loss, cpu, written in collect_rows(report):
        print(f"  {label:20} {name:10} {rate}/s, lost {loss}")
        print(f"  {'':31} per 100,000: CPU {cpu} s, written {written} MB")
    for name in SUBJECTS:
        print(f"  {'without loss':20} {name:10} {text(report['without loss'][name]['rate'])}/s")
    for what, ratio in ratio_rows(report):
        print(f"  strictmail to peer, {what}: {ratio}")
    print("\nreport: a day")
    for name, domains, *figures in reportday.rows(report["day"]):
        print(f"  {name:10} {domains:>6} domains  " + "  ".join(figures))
    print()
    for sentence, met in targets(report):
        print(f"  {verdict(met):6} {sentence}")


def targets(report: dict[str, Any]) -> list[tuple[str, bool]]:
    """What was to be reached, and whether it was."""
    rate = report["without loss"]["rate to peer"]["median"]
    found = [
        (f"{rate:.1f} x the peer's rate without loss (at least {RATE_FACTOR})", rate >= RATE_FACTOR)
    ]
    for label in (FLAT_OUT, STEADY_LONG, STEADY):
        cpu = report[label]["cpu_s to peer"]["median"]
        written = (
            report[label]["written_mb to peer"]["median"]
            if "written_mb to peer" in report[label]
            else 0
        )
        found += [
            (f"{label}: {cpu:.2f} of the peer's CPU (at most {CPU_SHARE:g})", cpu <= CPU_SHARE),
            (
                f"{label}: {written:.3f} of what it writes (at most {WRITTEN_SHARE:g})",
                written <= WRITTEN_SHARE,
            ),
        ]
    fast, steady = (report[label]["strictmail"]["loss"]["max"] for label in (FAST, STEADY))
    found += [
        (f"{FAST}: {fast:.2%} lost (none)", fast == 0),
        (
            f"{STEADY}: {steady:.2%} lost (at most {SHORT_QUEUE_LOSS:.1%})",
            steady <= SHORT_QUEUE_LOSS,
        ),
    ]
    return found + reportday.targets(report["day"])
