# SPDX-License-Identifier: Apache-2.0
"""docs/performance.md: the results between their marks, written from a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cached
import check
import cold
import memory
import report as tlsreport
import reportday
import startup
from common import ROOT, fail, text, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- results: begin (bench/run.py all --record) -->"
END = "<!-- results: end -->"
CHECK_BEGIN = "<!-- results of check: begin (bench/run.py check --record) -->"
CHECK_END = "<!-- results of check: end -->"
REPORT_BEGIN = "<!-- results of report: begin (bench/run.py report --record) -->"
REPORT_END = "<!-- results of report: end -->"


def record(report: dict[str, Any]) -> None:
    """Put the results of a run into the page: all, or those of check or report alone."""
    if "cached" in report:
        _replace(BEGIN, END, render(report))
    if "check" in report:
        _replace(CHECK_BEGIN, CHECK_END, render_check(report))
    if "report" in report:
        _replace(REPORT_BEGIN, REPORT_END, render_report(report))


def _replace(begin: str, end: str, results: str) -> None:
    page = PAGE.read_text()
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        fail(f"{PAGE.name} lacks the marks that its results stand between")
    PAGE.write_text(f"{before}{begin}\n\n{results}\n{end}{after}")


def render(report: dict[str, Any]) -> str:
    """The results as Markdown, but for those of check and report."""
    parts = [
        _machine(report),
        _cached(report["cached"]),
        _steady(report["cached"]["while others are learnt"]),
        _cold(report["cold"]),
        _memory(report["memory"]),
        _startup(report["startup"]),
    ]
    return "\n".join(parts)


def render_check(report: dict[str, Any]) -> str:
    """The results of check as Markdown."""
    facts, found = report["machine"], report["check"]
    head = [
        "domains",
        "MX hosts",
        "program",
        "domains/s",
        "CPU ms each",
        "peak MiB",
        "servers' core busy",
    ]
    ratios = [[name, text(ratio, ".1f")] for name, ratio in found["rate to peer"].items()]
    return (
        f"{_place(facts)}, {facts['check_peer']}; load average {facts['load_before']:.2f} before "
        "the run. Each figure is the median of the repetitions, and in brackets the least and the "
        "greatest of them.\n\n"
        + _table(head, check.rows(found))
        + "\n"
        + _table(["strictmail's rate to that of", "ratio"], ratios)
        + "\n"
        + _table(["strictmail, once", "takes"], check.beside_rows(found))
        + _targets(found, check.targets)
    )


def render_report(report: dict[str, Any]) -> str:
    """The results of report as Markdown."""
    facts, found = report["machine"], report["report"]
    head = [
        "load",
        "program",
        "sent a second",
        "lost",
        "CPU s per 100,000",
        "MB written per 100,000",
    ]
    lossless = [
        ["without loss", name, text(found["without loss"][name]["rate"]), "none", "", ""]
        for name in tlsreport.SUBJECTS
    ]
    day = ["program", "domains", "CPU s: collect", "make", "make and deliver"]
    day += ["s: make and deliver", "MB written"]
    return (
        f"{_place(facts)}, {facts['report_peer']}; load average {facts['load_before']:.2f} before "
        "the run. Each figure is the median of the repetitions, and in brackets the least and the "
        "greatest of them.\n\n"
        + _table(head, [*tlsreport.collect_rows(found), *lossless])
        + "\n"
        + _table(["strictmail to peer", "ratio"], tlsreport.ratio_rows(found))
        + "\nA day with 100 sessions to each domain; all figures for 1,000 domains:\n\n"
        + _table(day, reportday.rows(found["day"]))
        + _targets(found, tlsreport.targets)
    )


def _place(facts: dict[str, Any]) -> str:
    return (
        f"{facts['date']}, commit `{facts['commit']}`, `{facts['command']}`: "
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, "
        f"Linux {facts['kernel']}, Python {facts['python']}"
    )


def _machine(report: dict[str, Any]) -> str:
    facts, scale = report["machine"], report["scale"]
    return (
        f"{_place(facts)}, peer {facts['peer']}; load average "
        f"{facts['load_before']:.2f} before the run. Each figure is the median of "
        f"{scale['repetitions']} repetitions in turns, and in brackets the least and the greatest "
        f"of them; cached lookups were measured for {scale['seconds']:g} s each, over "
        f"{scale['cached_domains']:,} domains in random order.\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _targets(report: dict[str, Any], targets: Callable[..., list[tuple[str, bool]]]) -> str:
    return "\n" + "".join(f"- {verdict(met)}: {line}\n" for line, met in targets(report))


def _cached(report: dict[str, Any]) -> str:
    rows = []
    for label in (*cached.SHAPES, *cached.UNIX_SHAPES):
        shape = report[label]
        for name in ("C responder", "peer", "strictmail"):
            if name not in shape:
                continue
            one = shape[name]
            rows.append(
                [
                    label,
                    name,
                    text(one["rate"]),
                    text(one["p50_us"]),
                    text(one["p99_us"]),
                    f"{one['daemon_busy']['median']:.0%} / {one['generator_busy']['median']:.0%}",
                ]
            )
    head = ["connections", "daemon", "requests/s", "p50 µs", "p99 µs", "CPU daemon / generator"]
    ratios = [
        [
            label,
            text(report[label]["rate to C responder"], ".2f"),
            text(report[label]["p99 to C responder"], ".2f"),
            text(report[label]["rate to peer"], ".1f") if "rate to peer" in report[label] else "",
        ]
        for label in (*cached.SHAPES, *cached.UNIX_SHAPES)
    ]
    ratio_head = ["strictmail at", "rate to C responder", "p99 to C responder", "rate to peer"]
    return (
        "### Cached lookups\n\n"
        + _table(head, rows)
        + "\n"
        + _table(ratio_head, ratios)
        + _targets(report, cached.targets)
    )


def _steady(report: dict[str, Any]) -> str:
    rows = [
        [
            label,
            name,
            text(one["rate"]),
            text(one["p50_us"]),
            text(one["p99_us"]),
            text(one["p99_us alone"]),
            text(one["cold_rate"]),
        ]
        for label, subjects in report.items()
        for name, one in subjects.items()
    ]
    head = ["cached load", "daemon", "cached/s", "p50 µs", "p99 µs", "p99 µs alone", "learnt/s"]
    return (
        f"### Cached lookups while {cached.COLD_RATE} unknown domains a second are learnt\n\n"
        + _table(head, rows)
    )


def _cold(report: dict[str, Any]) -> str:
    rows = [
        [
            label,
            name,
            text(one["rate"]),
            text(one["cpu_ms"], ".2f"),
            text(one["p50_ms"], ".1f"),
            text(one["p99_ms"], ".1f"),
        ]
        for label, figures in report.items()
        for name, one in figures.items()
        if name in {"peer", "strictmail"}
    ]
    head = ["domains", "daemon", "lookups/s", "CPU ms each", "p50 ms", "p99 ms"]
    ratios = [
        [label, *(text(figures[f"{what} to peer"], ".2f") for what in ("rate", "cpu_ms"))]
        for label, figures in report.items()
    ]
    return (
        "### Domains never seen before\n\n"
        + _table(head, rows)
        + "\n"
        + _table(["strictmail to peer", "rate", "CPU"], ratios)
        + _targets(report, cold.targets)
    )


def _memory(report: dict[str, Any]) -> str:
    rows = [
        [
            label,
            name,
            f"{one['rss_mib']:.1f}",
            f"{one['rss_mib_at_start']:.0f}" if "rss_mib_at_start" in one else "",
            f"{one['first_lookups']:,.0f}" if "first_lookups" in one else "",
            f"{one['bytes_on_disk']:,.0f}" if "bytes_on_disk" in one else "",
        ]
        for label, figures in report.items()
        for name, one in figures.items()
    ]
    head = ["domains", "daemon", "MiB", "MiB when ready", "first lookups/s", "bytes each on disk"]
    return "### Memory\n\n" + _table(head, rows) + _targets(report, memory.targets)


def _startup(report: dict[str, Any]) -> str:
    rows = []
    for label, one in report.items():
        if "cpu_ms" in one:
            cpu, wall = (f"{text(one[key], '.0f')} ms" for key in ("cpu_ms", "wall_ms"))
        else:
            cpu, wall = (f"{text(one[key], '.2f')} s" for key in ("cpu_s", "ready_s"))
        rows.append([label, cpu, wall])
    head = ["what", "CPU", "until the end, or ready"]
    return "### Start-up\n\n" + _table(head, rows) + _targets(report, startup.targets)
