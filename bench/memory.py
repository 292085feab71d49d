# SPDX-License-Identifier: Apache-2.0
"""What cached domains take: in memory once all of them were asked for, and on disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from common import fail, verdict, write_keys
from load import Load, Shape
from storefill import bytes_per_domain, domain, filled
from world import World

if TYPE_CHECKING:
    from common import Settings
    from world import Daemon

PORT = 18461
PEER_PORT = 18002
SMALL_LIMIT_MIB = 70
LARGE_LIMIT_MIB = 400


def run(settings: Settings) -> dict[str, Any]:
    """Measure; the figures by number of domains."""
    scale = settings.scale
    report: dict[str, Any] = {}
    with World(settings) as world:
        daemon = world.strictmail(PORT, settings.work / "state-empty")
        report["empty"] = {"strictmail": {"rss_mib": daemon.rss_mib()}}
        world.stop(daemon)
    for count, with_peer in ((scale.small_store, True), (scale.large_store, False)):
        state = filled(settings, count)
        with World(settings) as world:
            daemon = world.strictmail(PORT, state)
            figures = {"strictmail": _asked(settings, daemon, PORT, count)}
            world.stop(daemon)
            if with_peer:
                # The peer forgets its in-memory cache, so it learns all from the network; for a fair
                # comparison strictmail does the same once more, with nothing stored.
                figures["peer"] = _asked(settings, world.peer(PEER_PORT), PEER_PORT, count)
                learning = world.strictmail(PORT, settings.work / "state-learnt")
                figures["strictmail, learning"] = _asked(settings, learning, PORT, count)
        figures["strictmail"]["bytes_on_disk"] = bytes_per_domain(state, count)
        report[f"{count:,}"] = figures
    return report


def _asked(settings: Settings, daemon: Daemon, port: int, count: int) -> dict[str, float]:
    """Ask for every domain once, then look at the memory."""
    keys = write_keys(settings.work / "all", (domain(i) for i in range(count)))
    before = daemon.rss_mib()
    result = Load(settings, f"inet:127.0.0.1:{port}", keys, Shape(64, once=True)).result()
    if result.ok != count:
        fail(f"{daemon.name} knew {result.ok} of {count} policies")
    time.sleep(settings.scale.settle_seconds)
    daemon.check()
    return {"rss_mib_at_start": before, "rss_mib": daemon.rss_mib(), "first_lookups": result.rate}


def show(report: dict[str, Any]) -> None:
    """Print it for people."""
    print("\nmemory")
    for label, figures in report.items():
        for name, one in figures.items():
            parts = [f"{one['rss_mib']:.0f} MiB"]
            if "rss_mib_at_start" in one:
                parts.append(f"{one['rss_mib_at_start']:.0f} before the first lookup")
                parts.append(f"{one['first_lookups']:,.0f}/s first lookups")
            if "bytes_on_disk" in one:
                parts.append(f"{one['bytes_on_disk']:,.0f} bytes a domain on disk")
            print(f"  {label:>9} domains, {name:12} {', '.join(parts)}")
    print()
    for sentence, met in targets(report):
        print(f"  {verdict(met):6} {sentence}")


def targets(report: dict[str, Any]) -> list[tuple[str, bool]]:
    """What was to be reached, and whether it was."""
    small, large = [key for key in report if key != "empty"]
    return [
        (
            f"{label} domains: {report[label]['strictmail']['rss_mib']:.1f} MiB (below {limit})",
            report[label]["strictmail"]["rss_mib"] < limit,
        )
        for label, limit in ((small, SMALL_LIMIT_MIB), (large, LARGE_LIMIT_MIB))
    ]
