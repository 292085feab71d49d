# SPDX-License-Identifier: Apache-2.0
"""kill -9 in the middle of sending: no report is lost, none is sent twice but what was in the air.

STRICTMAIL_SOAK_REPORTER_KILLS sets the number of runs (scripts/soak: 200).
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.service.net.mailserver import MailServer
from tests.service.reporter.live import Mail, Place, Records
from tests.service.serve.stub import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

RUNS = int(os.environ.get("STRICTMAIL_SOAK_REPORTER_KILLS", "20"))
DOMAINS = tuple(f"d{n}.example" for n in range(40))
STAGES = ("greeting", "RCPT", "DATA", ".")
DEADLINE = 60.0


class Trigger(MailServer):
    """Kills a process when something has been said so often."""

    stage = ""
    left = 0
    victim: Process | None = None

    def on_said(self, stage: str) -> None:
        victim = self.victim
        if victim is None or stage != self.stage:
            return
        self.left -= 1
        if self.left == 0:
            victim.process.send_signal(signal.SIGKILL)
            self.victim = None


@pytest.fixture(scope="module")
def records() -> Iterator[Records]:
    records = Records()
    records.start()
    yield records
    records.stop()


def ids(server: MailServer) -> Counter[bytes]:
    """How often each report was taken."""
    found: Counter[bytes] = Counter()
    for taken in list(server.taken):
        match = re.search(rb"^Message-ID: <([^>]+)>", taken.message, re.MULTILINE)
        assert match is not None
        found[match[1]] += 1
    return found


def sent_before_killed(place: Place, process: Process) -> bool:
    """Wait until every report is sent, or the process was killed before that.

    A kill may never come: a quick process needs fewer connections for the same mail.
    """
    over = threading.Event()
    for _ in range(int(DEADLINE / 0.1)):
        if process.process.poll() == -signal.SIGKILL:
            return False
        states = Counter(place.states().values())
        if states == {"sent": len(DOMAINS)}:
            return True
        assert process.process.poll() in {None, -signal.SIGKILL}, process.end()
        over.wait(0.1)
    raise AssertionError(f"{Counter(place.states().values())}")


@pytest.mark.req("RPT-DLV-05", "RPT-DLV-06")
@pytest.mark.parametrize("seed", range(RUNS))
def test_killed_while_sending(tmp_path: Path, records: Records, seed: int) -> None:
    rng = random.Random(seed)
    server = Trigger()
    mail = Mail(server).begin()
    try:
        place = Place(tmp_path, records, mail, 'spread = "0s"\n')
        place.count(*DOMAINS)
        in_the_air: set[str] = set()
        sent = False
        kills = rng.randint(1, 3)
        while not sent:
            with Process(place.config, "reporter", "--quiet") as process:
                if kills:
                    server.stage, server.left = rng.choice(STAGES), rng.randint(1, 12)
                    server.victim = process
                    kills -= 1
                sent = sent_before_killed(place, process)
                server.victim = None
                process.end()
            # Attempts that the kill cut off are held for a while.
            in_the_air |= place.let_time_pass()
        # Nothing is lost.
        assert len(ids(server)) == len(DOMAINS)
        # Twice: only what was in the air when it was killed, and in the same octets.
        times = Counter(f"mailto:{one.recipient}" for one in server.taken)
        assert {destination for destination, count in times.items() if count > 1} <= in_the_air
        assert len({(one.recipient, one.message) for one in server.taken}) == len(DOMAINS)
    finally:
        mail.stop()
        # Its loop may have left callbacks of cut connections behind.
        asyncio.set_event_loop(None)
