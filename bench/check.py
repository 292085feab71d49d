# SPDX-License-Identifier: Apache-2.0
"""`strictmail check` over a list of domains, against checkdmarc over a sample of the same kind.

Ten domains share two MX hosts in every list, so that what a program remembers of a host serves both
alike. Nothing is dead, and no look runs into a time-out: a result that lacks a look ends the run.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from checkworld import RESOLVER, CheckWorld, Subject, domains, hosts, may_delay
from common import ROOT, clean_environment, fail, ratios, spread, text, verdict, write_keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from common import Settings

PEER = ROOT / ".venv" / "checkpeer" / "bin"
PEER_PARTS = ROOT / "bench" / "checkpeer.py"
MAX_REPETITIONS = 3
"""One of them takes minutes: the peer has one look under way at a time."""

OURS, WHOLE, PARTS = "strictmail", "checkdmarc", "checkdmarc, mail transport only"
RATE_FACTOR = 50
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
    report: dict[str, Any] = {}
    for (size, name), done in runs.items():
        report.setdefault(f"{size:,}", {})[name] = _figures(size, done)
    ours = [sizes[-1] / one.seconds for one in runs[sizes[-1], OURS]]
    report["rate to peer"] = {
        name: ratios(ours, [sample / one.seconds for one in runs[sample, name]])
        for name in (WHOLE, PARTS)
    }
    return report


def _measure(world: CheckWorld, size: int, name: str) -> Subject:
    listed = write_keys(world.settings.work / f"check-{size}", domains(size))
    out = world.settings.work / ("check-out.jsonl" if name == OURS else "check-out.json")
    out.unlink(missing_ok=True)
    env = clean_environment()
    if name != OURS:  # its SMTP part asks Python's ssl, its HTTPS part requests
        env |= {"SSL_CERT_FILE": str(world.ca_file), "REQUESTS_CA_BUNDLE": str(world.ca_file)}
    subject = Subject(world, _command(name, world, listed, out), env)
    if not out.exists():
        fail(f"{name} ended with {subject.exit_code} and wrote nothing:\n{subject.log}")
    whole = _count_whole(out) if name == OURS else _count_whole_at_peer(out)
    if whole != size:
        fail(f"{name}: {whole} whole results for {size} domains:\n{subject.log}")
    return subject


def _command(name: str, world: CheckWorld, listed: Path, out: Path) -> Sequence[str]:
    if name == OURS:
        config = world.settings.work / "check.toml"
        # The wire is nobody else's: what the resolver says of DNSSEC counts.
        config.write_text('[dns]\ntrust_ad = "always"\n')
        check = [sys.executable, "-m", "strictmail", "check", "--config", str(config)]
        files = ["--from", str(listed), "--out", str(out), "--ca-file", str(world.ca_file)]
        return [*check, *files, "--resolver", RESOLVER]
    if name == PARTS:
        return [str(PEER / "python"), str(PEER_PARTS), RESOLVER, str(listed), str(out)]
    options = ["--check-mx-tls", "--nameserver", RESOLVER, "--output", str(out)]
    return [str(PEER / "checkdmarc"), *options, "--", str(listed)]


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
        if label != "rate to peer"
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
    print()
    for sentence, met in targets(report):
        print(f"  {verdict(met):6} {sentence}")


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
