# SPDX-License-Identifier: Apache-2.0
"""`strictmail check` over a list of domains, against checkdmarc over a sample of the same kind.

Ten domains share two MX hosts in every list, so that what a program remembers of a host serves both
alike. Nothing is dead, and no look runs into a time-out: a run with a result that lacks a look does
not count.
Beside that: a run that is killed and goes on, and one with an operator whose hosts say nothing.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from checkworld import (
    RESOLVER,
    CheckWorld,
    Subject,
    domains,
    hosts,
    may_delay,
    silent_domains,
)
from common import ROOT, clean_environment, fail, ratios, spread, text, verdict, write_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from common import Settings

PEER = ROOT / ".venv" / "checkpeer" / "bin"
PEER_PARTS = ROOT / "bench" / "checkpeer.py"
ATTEMPTS = 3
"""On a busy machine a server may be late for once: such a run does not count, and is repeated."""

MAX_REPETITIONS = 3
"""One of them takes minutes: the peer has one look under way at a time."""

OURS, WHOLE, PARTS = "strictmail", "checkdmarc", "checkdmarc, mail transport only"
RATE_FACTOR = 50
SILENT_SHARE = 10
"""One domain in so many has MX hosts that say nothing, in the run that is about them."""

BESIDE = ("rate to peer", "beside")
"""What a report has that is not the figures of a list."""

CONFIG = """\
[dns]
trust_ad = "always"  # The wire is nobody else's: what the resolver says of DNSSEC counts.
timeout = "2s"
[check]
connect_timeout = "{smtp}"
greeting_timeout = "{smtp}"
command_timeout = "{smtp}"
"""
"""The time-outs are the peer's, but for that of a policy fetch: the peer's 2 s hold for each read,
ours for the whole."""

MEMORY_GROWTH = 1.25
"""What still counts as not growing, from the smallest list to the largest: allocators keep some."""


def lacks() -> str:
    """Why this part cannot run here; "" if it can."""
    if not may_delay():
        return "needs to open /dev/net/tun, for a wire with a delay"
    if not (PEER / "checkdmarc").exists():
        return "needs the peer: scripts/setup runtime checkbench"
    return ""


def run(settings: Settings) -> dict[str, Any]:
    """Measure; the figures by list and program."""
    if reason := lacks():
        fail(f"check {reason}")
    sample, sizes = settings.scale.check_sample, sorted(settings.scale.check_sizes)
    runs: dict[tuple[int, str], list[Subject]] = {(size, OURS): [] for size in sizes}
    with CheckWorld(settings) as world:
        for turn in range(min(settings.scale.repetitions, MAX_REPETITIONS)):
            jobs = [(sample, WHOLE), (sample, PARTS), (sizes[-1], OURS)]
            if turn == 0:  # the smaller lists only show what memory does
                jobs += [(size, OURS) for size in sizes[:-1]]
            for size, name in jobs if turn % 2 == 0 else reversed(jobs):
                runs.setdefault((size, name), []).append(_measure(world, size, name))
        beside = _resumed(world, sizes[0]) | _with_silent_hosts(world, sizes[0])
    report: dict[str, Any] = {}
    for (size, name), done in runs.items():
        report.setdefault(f"{size:,}", {})[name] = _figures(size, done)
    ours = [sizes[-1] / one.seconds for one in runs[sizes[-1], OURS]]
    report["rate to peer"] = {
        name: ratios(ours, [sample / one.seconds for one in runs[sample, name]])
        for name in (WHOLE, PARTS)
    }
    report["beside"] = beside
    return report


def _measure(world: CheckWorld, size: int, name: str) -> Subject:
    attempts = whole = 0
    while whole != size:
        subject, whole = _run_once(world, size, name)
        attempts += 1
        said = f"{name}: {whole} whole results for {size} domains in {subject.seconds:.1f} s"
        print(f"bench: {said}", file=sys.stderr, flush=True)
        if whole != size and attempts == ATTEMPTS:
            fail(f"{said}:\n{subject.log}")
    return subject


def _run_once(world: CheckWorld, size: int, name: str) -> tuple[Subject, int]:
    listed = write_keys(world.settings.work / f"check-{size}", domains(size))
    out = world.settings.work / ("check-out.jsonl" if name == OURS else "check-out.json")
    out.unlink(missing_ok=True)
    env = clean_environment()
    if name != OURS:  # its SMTP part asks Python's ssl, its HTTPS part requests
        env |= {"SSL_CERT_FILE": str(world.ca_file), "REQUESTS_CA_BUNDLE": str(world.ca_file)}
    subject = Subject(world, _command(name, world, listed, out), env)
    if not out.exists():
        fail(f"{name} ended with {subject.exit_code} and wrote nothing:\n{subject.log}")
    return subject, _count_whole(out) if name == OURS else _count_whole_at_peer(out)


def _command(name: str, world: CheckWorld, listed: Path, out: Path) -> Sequence[str]:
    if name == OURS:
        config = world.settings.work / "check.toml"
        config.write_text(CONFIG.format(smtp=world.settings.scale.check_smtp_timeout))
        check = [sys.executable, "-m", "strictmail", "check", "--config", str(config)]
        files = ["--from", str(listed), "--out", str(out), "--ca-file", str(world.ca_file)]
        return [*check, *files, "--resolver", RESOLVER]
    if name == PARTS:
        return [str(PEER / "python"), str(PEER_PARTS), RESOLVER, str(listed), str(out)]
    options = ["--check-mx-tls", "--nameserver", RESOLVER, "--output", str(out)]
    return [str(PEER / "checkdmarc"), *options, "--", str(listed)]


def _resumed(world: CheckWorld, size: int) -> dict[str, float]:
    """Kill a run half-way and give its command again; when each began with its first domain."""
    listed = write_keys(world.settings.work / "check-killed", domains(size))
    out = world.settings.work / "check-killed.jsonl"
    at_once = ["--concurrency", str(max(1, min(100, size // 10)))]  # not all of a tiny list
    command, env = [*_command(OURS, world, listed, out), *at_once], clean_environment()
    killed = Subject(world, command, env, kill_when=lambda: _count_lines(out) >= size // 2)
    first = _results(out)
    resumed = Subject(world, command, env)
    results = _results(out)
    if len(results) != size or len({one["domain"] for one in results}) != size:
        fail(f"{len(results)} results for {size} domains after kill -9:\n{resumed.log}")
    return {
        "start_seconds": _begin(first) - killed.began,
        "kept_results": len(first),
        "resume_seconds": _begin(results[len(first) :]) - resumed.began,
    }


def _with_silent_hosts(world: CheckWorld, size: int) -> dict[str, float]:
    """Mix in domains whose MX hosts say nothing; until when the others are done, with and without."""
    others, silent = domains(size), silent_domains(size // SILENT_SHARE)
    mixed = list(others)
    for number, name in enumerate(silent):
        mixed.insert(number * (SILENT_SHARE + 1), name)
    patience = ["--timeout", world.settings.scale.check_patience]
    found = {}
    for label, names in (("alone", others), ("with_silent", mixed)):
        listed = write_keys(world.settings.work / f"check-{label}", names)
        out = world.settings.work / f"check-{label}.jsonl"
        command = [*_command(OURS, world, listed, out), *patience]
        subject = Subject(world, command, clean_environment())
        results = [one for one in _results(out) if one["domain"] not in set(silent)]
        if len(results) != size or not all(map(_is_whole, results)):
            fail(f"{len(results)} results for {size} domains beside silent hosts:\n{subject.log}")
        found[f"others_done_{label}_seconds"] = max(map(_end, results)) - subject.began
    return found | {"silent_domains": len(silent), "all_done_seconds": subject.seconds}


def _results(out: Path) -> list[dict[str, Any]]:
    if not out.exists():
        return []
    # What is not a whole line yet is of a run that was killed.
    with out.open() as lines:
        return [json.loads(line) for line in lines if line.endswith("\n")]


def _count_lines(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0


def _begin(results: Iterable[dict[str, Any]]) -> float:
    return min(datetime.fromisoformat(one["checked_at"]).timestamp() for one in results)


def _end(result: dict[str, Any]) -> float:
    return datetime.fromisoformat(result["checked_at"]).timestamp() + float(result["seconds"])


def _count_whole(out: Path) -> int:
    with out.open() as lines:  # one at a time: they are large
        return sum(_is_whole(json.loads(line)) for line in lines)


def _is_whole(result: dict[str, Any]) -> bool:
    addresses = [address for host in result["hosts"] for address in host["addresses"]]
    return (
        len(addresses) == 2
        and all(address["outcome"] == "tls" for address in addresses)
        and result["sts"]["mode"] == "enforce"
        and bool(result["tlsrpt"]["record"])
    )


def _count_whole_at_peer(out: Path) -> int:
    return sum(
        len(result["mx"]["hosts"]) == 2
        and all(host["starttls"] for host in result["mx"]["hosts"])
        and result["mta_sts"]["valid"]
        and result["smtp_tls_reporting"]["valid"]
        for result in json.loads(out.read_text())
    )


def _figures(size: int, done: Sequence[Subject]) -> dict[str, Any]:
    return {
        "hosts": hosts(size),
        "rate": spread(size / one.seconds for one in done),
        "cpu_ms": spread(one.cpu_seconds * 1000 / size for one in done),
        "peak_mib": spread(one.peak_mib for one in done),
        "servers_busy": spread(one.servers_busy for one in done),
    }


def rows(report: dict[str, Any]) -> list[list[str]]:
    """A row for each list and program, as the page has them."""
    return [
        [
            label,
            f"{one['hosts']:,}",
            name,
            text(one["rate"], ".2f" if one["rate"]["median"] < 10 else ".0f"),
            text(one["cpu_ms"], ".1f"),
            text(one["peak_mib"], ".0f"),
            f"{one['servers_busy']['median']:.0%}",
        ]
        for label, figures in report.items()
        if label not in BESIDE
        for name, one in figures.items()
    ]


def show(report: dict[str, Any]) -> None:
    """Print it for people."""
    print("\ncheck")
    for domains_, hosts_, name, rate, cpu, peak, busy in rows(report):
        print(
            f"  {domains_:>7} domains, {hosts_:>5} hosts  {name:32} {rate}/s, CPU {cpu} ms each, "
            f"peak {peak} MiB; servers' core {busy}"
        )
    for name, ratio in report["rate to peer"].items():
        print(f"  strictmail's rate to that of {name}: {text(ratio, '.1f')}")
    for what, seconds in beside_rows(report):
        print(f"  {what}: {seconds}")
    print()
    for sentence, met in targets(report):
        print(f"  {verdict(met):6} {sentence}")


def beside_rows(report: dict[str, Any]) -> list[list[str]]:
    """What was measured once beside the lists, as the page has it."""
    one = report["beside"]
    return [
        ["from the command to the first domain", f"{one['start_seconds']:.2f} s"],
        [
            f"the same after `kill -9`, with {one['kept_results']:,} results in the file",
            f"{one['resume_seconds']:.2f} s",
        ],
        [
            "until the last domain of the smallest list is done",
            f"{one['others_done_alone_seconds']:.1f} s",
        ],
        [
            f"the same with {one['silent_domains']:,} domains among them whose MX hosts say nothing",
            f"{one['others_done_with_silent_seconds']:.1f} s",
        ],
        ["until those are done as well", f"{one['all_done_seconds']:.1f} s"],
    ]


def targets(report: dict[str, Any]) -> list[tuple[str, bool]]:
    """What was to be reached, and whether it was."""
    found = [
        (
            f"{ratio['median']:.0f} x the rate of {name} (at least {RATE_FACTOR})",
            ratio["median"] >= RATE_FACTOR,
        )
        for name, ratio in report["rate to peer"].items()
    ]
    peaks = [figures[OURS]["peak_mib"]["median"] for figures in report.values() if OURS in figures]
    growth = peaks[-1] / peaks[0]
    sentence = f"{growth:.2f} x the memory with the largest list (at most {MEMORY_GROWTH:g})"
    return [*found, (sentence, growth <= MEMORY_GROWTH)]
