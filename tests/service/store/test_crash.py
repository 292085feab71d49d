# SPDX-License-Identifier: Apache-2.0
"""kill -9 at any moment: what was acknowledged is there, and the file is whole."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from strictmail.store.policies import SqlitePolicyStore

if TYPE_CHECKING:
    from pathlib import Path

WRITER = textwrap.dedent(
    """
    import os, sys
    from datetime import UTC, datetime
    from strictmail.core.sts.lifecycle import PolicyEntry
    from strictmail.core.sts.policy import parse_policy
    from strictmail.store.policies import SqlitePolicyStore

    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    store = SqlitePolicyStore(sys.argv[1])

    def entry(number, generation):
        domain = f"d{number}.example"
        shared = f"version: STSv1\\nmode: enforce\\nmx: mx{generation}.example\\nmax_age: 604800\\n"
        body = (shared if number % 2 else shared + f"x-own: {number}\\n").encode()
        return PolicyEntry(domain, f"id{generation}", parse_policy(body), body, *[noon] * 4)

    generation = 0
    while True:
        generation += 1
        for first in range(0, 200, 20):
            store.save([entry(n, generation) for n in range(first, first + 20)])
            os.write(1, f"{first} {generation}\\n".encode())
        store.remove([f"d{n}.example" for n in range(150, 200)])
        os.write(1, f"removed {generation}\\n".encode())
    """
)


@pytest.mark.req("STS-FET-44")
@pytest.mark.parametrize("seed", range(5))
def test_killed_while_writing(path: Path, seed: int) -> None:
    lines_to_read = random.Random(seed).randint(3, 120)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer:
        # At a random point of its work: it writes on while we read, so the kill hits anywhere.
        acknowledged = [writer.stdout.readline() for _ in range(lines_to_read)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
    # A line cut by the kill acknowledges nothing.
    words = [line.split() for line in acknowledged if line.endswith(b"\n")]
    assert words

    expected: dict[int, int] = {}
    for first, generation in words:
        if first == b"removed":
            expected = {n: g for n, g in expected.items() if n < 150}
        else:
            expected |= dict.fromkeys(range(int(first), int(first) + 20), int(generation))
    store = SqlitePolicyStore(path)
    try:
        stored = {e.policy_domain: int(e.policy_id[2:]) for e in store.iterate()}
        may_be_removed = words[-1][0] == b"180"
        for number, newest in expected.items():
            found = stored.get(f"d{number}.example")
            if found is None and may_be_removed and number >= 150:
                continue
            # The transaction under way when the kill came may be there, or not.
            assert found in {newest, newest + 1}, number
        assert store.count() == len(stored)
    finally:
        store.close()
    assert_consistent(path)


def assert_consistent(path: Path) -> None:
    """What triggers keep agrees with what is there."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        wrong = connection.execute(
            "SELECT id FROM body WHERE reference_count <> "
            "(SELECT count(*) FROM policy WHERE body_id = body.id)"
        ).fetchall()
        assert wrong == []
        wrong = connection.execute(
            "SELECT mode FROM tally WHERE policy_count <> "
            "(SELECT count(*) FROM policy WHERE policy.mode = tally.mode)"
        ).fetchall()
        assert wrong == []
    finally:
        connection.close()
