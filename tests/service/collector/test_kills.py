# SPDX-License-Identifier: Apache-2.0
"""kill -9 at any moment: what was stored stays, what comes later is counted, nothing twice.

The window: what came since the last commit, at most a second's sessions, may be lost.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from tests.service.collector.world import (
    Child,
    bound_socket,
    count_sessions,
    datagram,
    kill,
    sender_to,
    wait_end,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

RUNS = int(os.environ.get("STRICTMAIL_SOAK_KILLS", "20"))


@pytest.mark.req("RPT-JSON-53")
@pytest.mark.parametrize("seed", range(RUNS))
def test_counts_are_exact_within_the_window(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    domains = [f"d{number}.example" for number in range(rng.randint(1, 40))]
    path, store = tmp_path / "s", tmp_path / "reports.sqlite3"
    source, before, after = bound_socket(path), 0, 0
    sender = sender_to(path)

    def send(count: int) -> int:
        for _ in range(count):
            sender.send(datagram(rng.choice(domains), failed=rng.random() < 0.3))
        return count

    with source, sender:
        with Child(source, store) as child:
            stored = send(rng.randint(1, 400))
            child.wait_for("stored", stored)
            before = stored
            window = send(rng.randint(0, 400))
            drainer = os.pidfd_open(child.drainer())
            if rng.random() < 0.5:
                kill(child.process.pid)
                wait_end(drainer)
            else:
                # Another drainer takes its place; the collector goes on.
                kill(child.drainer())
                wait_end(drainer)
                after = send(rng.randint(1, 100))
                child.stop()
        with Child(source, store) as child:
            after += send(rng.randint(1, 400))
            child.stop()
    counted = count_sessions(store)
    assert before + after <= counted <= before + window + after


def test_a_stop_loses_nothing(tmp_path: Path) -> None:
    path, store = tmp_path / "s", tmp_path / "reports.sqlite3"
    source = bound_socket(path)
    with source, sender_to(path) as sender:
        sent = 0
        for _ in range(3):
            with Child(source, store) as child:
                for number in range(500):
                    sender.send(datagram(f"d{number % 7}.example"))
                    sent += 1
                child.stop()
        assert count_sessions(store) == sent
