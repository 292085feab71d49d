# SPDX-License-Identifier: Apache-2.0
"""Sessions of a real Postfix with the zoo, as they are counted: by datagram, or out of its log."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from strictmail.lab.zoo import ZOO
from strictmail.store.sessions import FILE_NAME, SessionStore

from .matrix import LOCAL_PART
from .postfix import Postfix
from .scene import open_scene
from .world import CHECKOUT, READY_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from strictmail.core.tlsrpt.counts import DomainCounts

    from .daemon import Daemon
    from .scene import Scene
    from .world import Process

CONFIGURATION: Final = """\
state_directory = "{directory}/state"
[[collector]]
socket = "unix:{directory}/tlsrpt"
mode = "0666"
group = ""
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What the store holds of one domain: sessions by policy type and result type ("": success)."""

    by_type: Counter[tuple[str, str]]
    unverified: int

    def __str__(self) -> str:
        words = [f"{n} {kind} {result or 'success'}" for (kind, result), n in self.by_type.items()]
        return ", ".join([*words, f"{self.unverified} unverified"] if self.unverified else words)


@dataclass(frozen=True, slots=True)
class Collected:
    """One message to each zoo domain, and what was counted of it."""

    scene: Scene
    postfix: Postfix
    log: Path
    counts: Mapping[str, DomainCounts]

    def told(self, domain: str) -> Told:
        return summarise(self.counts.get(domain))

    def tell(self, domain: str) -> str:
        lines = [str(a) for a in self.postfix.attempts() if a.recipient.endswith(f"@{domain}")]
        return "\n".join([f"{domain}: {self.told(domain)}", *lines])


def summarise(counts: DomainCounts | None) -> Told:
    """Sessions by policy type and result; of a failed session the detail that it has."""
    by_type: Counter[tuple[str, str]] = Counter()
    for policy, counted in counts.policies.items() if counts is not None else ():
        if counted.successes:
            by_type[str(policy.policy_type), ""] += counted.successes
        for detail, times in counted.details.items():
            by_type[str(policy.policy_type), str(detail.result_type)] += times
    told = counts.sources.values() if counts is not None else ()
    return Told(by_type, sum(source.unverified for source in told))


def start_collector(scene: Scene) -> Process:
    """`strictmail serve collector` beside the daemon that answers; returns when it drains."""
    directory = scene.world.directory
    # Of this world's network: on a busy machine ten datagrams are not enough.
    queue = "echo 512 > /proc/sys/net/unix/max_dgram_qlen"
    scene.world.run(["sh", "-c", queue])
    config = scene.world.write("collector.toml", CONFIGURATION.format(directory=directory))
    options = ["serve", "collector", "--http", "", "--config", str(config)]
    process = scene.world.start(
        "collector",
        [sys.executable, "-m", "strictmail", *options],
        environment={"PYTHONPATH": str(CHECKOUT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    wait_until(
        lambda: " info ready " in process.tail() or not process.is_running(),
        "the collector",
        seconds=READY_SECONDS,
        seen=process.tail,
    )
    assert process.is_running(), process.tail()
    return process


def read_counts(scene: Scene) -> dict[str, DomainCounts]:
    """All that was counted, by domain; the days of a run over midnight are one."""
    store = SessionStore(scene.world.directory / "state" / FILE_NAME, create=False)
    try:
        found = [which for _, which in store.unreported(_tomorrow(), limit=100_000)]
        return {which.domain: store.load(which) for which in found}
    finally:
        store.close()


def _tomorrow() -> date:
    return datetime.now(UTC).date() + timedelta(days=2)


@contextmanager
def collect(
    root: str, dialect: str, extra: Mapping[str, str], *, by_log: bool
) -> Iterator[Collected]:
    """Send one message to every zoo domain through the Postfix of `root`, and count.

    Args:
        root: The Debian root.
        dialect: The listener that it asks.
        extra: Lines of main.cf.
        by_log: Out of the log; else by datagram.
    """
    with open_scene(f"collect-{root}", [root], warm=ZOO, dialect=dialect) as scene:
        lines = dict(extra)
        collector = None
        if not by_log:
            collector = start_collector(scene)
            lines["smtp_tlsrpt_enable"] = "yes"
            lines["smtp_tlsrpt_socket_name"] = f"{scene.world.directory}/tlsrpt"
            lines["smtp_tlsrpt_skip_reused_handshakes"] = "no"
        postfix = Postfix(
            scene.world,
            root,
            ca_file=scene.ca_file,
            socketmap=scene.daemon.socketmap(dialect),
            extra=lines,
        )
        postfix.start()
        ids = postfix.submit(f"{LOCAL_PART}@{entry.domain}" for entry in ZOO)
        postfix.wait_for(ids.values())
        log = scene.world.directory / "postfix" / "mail.log"
        if collector is not None:
            collector.kill(signal.SIGTERM)
            assert collector.wait() == 0, collector.tail()
        else:
            import_log(scene.daemon, log)
        yield Collected(scene, postfix, log, read_counts(scene))


def import_log(daemon: Daemon, log: Path) -> str:
    """Run `strictmail report import-log`; what it says."""
    return daemon.run("report", "import-log", str(log))
