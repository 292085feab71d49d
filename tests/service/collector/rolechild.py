# SPDX-License-Identifier: Apache-2.0
"""A collector in a process of its own: `rolechild.py FD STORE`, until SIGTERM.

Says on standard output how much is stored, after each transaction: `stored N`.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from strictmail.collector.role import Collector
from strictmail.runtime.clock import SystemClock
from strictmail.store.sessions import SessionStore

if TYPE_CHECKING:
    from strictmail.core.tlsrpt.counts import Counts


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Log:
    """Says what happens."""

    def emit(self, name: str, /, **fields: Any) -> None:
        """Print it."""
        say(f"event {name} {fields}")


class TellingStore(SessionStore):
    """Says what it has stored in this process."""

    stored = 0

    def add(self, counts: Counts, identity: str = "") -> None:
        """Store and say so."""
        super().add(counts, identity)
        for _, _, domain in counts:
            for policy in domain.policies.values():
                self.stored += policy.successes + policy.failures
        say(f"stored {self.stored}")


async def live(fd: int, path: str) -> None:
    """Collect until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store = TellingStore(path)
    source = socket.socket(fileno=fd)
    collector = Collector(store, [("", source)], clock=SystemClock(), events=Log())
    await collector.start()
    say("ready")
    await stop.wait()
    await collector.stop()
    store.close()


if __name__ == "__main__":
    asyncio.run(live(int(sys.argv[1]), sys.argv[2]))
