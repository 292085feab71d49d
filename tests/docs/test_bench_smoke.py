# SPDX-License-Identifier: Apache-2.0
"""Every benchmark still runs: one pass with tiny numbers. What it measures is not looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


MAY_CHECK = (ROOT / ".venv/checkpeer/bin/checkdmarc").exists() and os.access(
    "/dev/net/tun", os.R_OK | os.W_OK
)
"""Whether the part with a delayed wire can run; `all` leaves it out elsewhere."""


MAY_REPORT = (ROOT / ".venv/reportpeer/bin/tlsrpt-collectd").exists() and os.geteuid() == 0
"""Whether the part that sets a sysctl of its namespace can run."""


def may_unshare() -> bool:
    """Whether this user may have network namespaces, which the benchmarks run in."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", "--net", "--mount", *user, "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not may_unshare(), reason="needs root, or unprivileged user namespaces")
@pytest.mark.skipif(
    not (ROOT / ".venv/peer/bin/mta-sts-daemon").exists(),
    reason="needs the peer: scripts/setup runtime bench",
)
def test_every_benchmark_runs_and_reports(tmp_path: Path) -> None:
    report_file = tmp_path / "report.json"
    command = [sys.executable, "bench/run.py", "all", "--quick", "--json", str(report_file)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(report_file.read_text())
    for section in ("machine", "scale", "cached", "cold", "memory", "startup"):
        assert report[section], section
    # Each shape has all its subjects, each with figures and their spread.
    for shape in ("1", "16", "64", "256", "16 x 16 pipelined"):
        for subject in ("C responder", "peer", "strictmail"):
            rate = report["cached"][shape][subject]["rate"]
            assert 0 < rate["min"] <= rate["median"] <= rate["max"], (shape, subject)
    assert report["cached"]["64, unix socket"]["strictmail"]["rate"]["median"] > 0
    # A lookup that found no policy where there is one would make the figures worthless.
    for label in ("all with a policy", "mixed"):
        for subject in ("peer", "strictmail"):
            assert report["cold"][label][subject]["missed"]["max"] == 0, (label, subject)
    assert report["memory"]["100"]["strictmail"]["bytes_on_disk"] > 0
    assert "first_answer_ms" in report["startup"]["daemon, 200 domains"]
    assert "met" in done.stdout or "MISSED" in done.stdout
    if MAY_CHECK:
        check = report["check"]
        assert check["50"]["strictmail"]["rate"]["median"] > 0
        assert check["50"]["strictmail"]["peak_mib"]["median"] > 0
        assert set(check["rate to peer"]) == set(check["3"])
    if MAY_REPORT:
        found = report["report"]
        for load in ("flat out", "12,000/s, queue 512", "4,000/s, queue 10"):
            for subject in ("peer", "strictmail"):
                assert found[load][subject]["rate"]["median"] > 0, (load, subject)
        assert found["flat out"]["strictmail"]["loss"]["max"] == 0
        assert found["day"]["strictmail"]["make_cpu_s"]["median"] > 0
        assert found["day"]["peer"]["whole_cpu_s"]["median"] > 0
