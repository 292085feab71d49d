# SPDX-License-Identifier: Apache-2.0
"""`strictmail lab`: the table, and a lab that runs until it is told to stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from strictmail.cli import run
from strictmail.cli.lab import message_line
from strictmail.lab.mxhost import ReceivedMessage
from strictmail.lab.zoo import SECTIONS, ZOO
from strictmail.runtime.clock import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SECONDS = 60.0


def test_zoo_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "zoo"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{title}:\n" in printed for title in SECTIONS)
    assert all(entry.domain in printed for entry in ZOO)
    assert "\x1b" not in printed


def test_zoo_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "zoo", "--json"]) == 0
    found = {item["domain"]: item for item in json.loads(capsys.readouterr().out)}
    assert len(found) == len(ZOO)
    item = found["both-dane-fails.signed.test"]
    assert item["dane"]["level"] == "dane-only"
    assert item["without_dane"]["delivery"] == "verified"


def test_one_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "zoo", "--section", "modes"]) == 0
    printed = capsys.readouterr().out
    assert "mode-none.plain.test" in printed
    assert "good.plain.test" not in printed.replace("-good", "")
    assert run(["lab", "zoo", "--section", "penguins"]) == 2
    assert "Policy hosts" in capsys.readouterr().err


def test_messages_are_escaped() -> None:
    message = ReceivedMessage(
        host="mx.test",
        domain="t.test",
        recipients=("a\x1b[2J\n@t.test",),
        sender="",
        tls=True,
        tls_version="TLSv1.3",
        server_name="mx.test",
        size_bytes=3,
        at=ManualClock().now(),
    )
    line = message_line(message)
    assert line.isprintable()
    assert line.startswith("received  mx.test  over TLSv1.3  for a")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_up_runs_until_told_to_stop(tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-W", "error", "-m", "strictmail", "lab", "up", "--dns-port", "0"]
    command += ["--https-port", "0", "--smtp-port", "0", "--directory", str(tmp_path / "lab")]
    command += ["--zones", str(tmp_path / "zones")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as lab:
        assert lab.stdout is not None
        printed = ""
        for line in lab.stdout:
            printed += line
            if "Ctrl-C" in line:
                break
        lab.send_signal(how)
        assert lab.wait(SECONDS) == 0
    assert "good.plain.test" in printed
    assert f'ca_file = "{tmp_path}/lab/ca.pem"' in printed
    assert (tmp_path / "lab" / "ca.pem").exists()
    assert (tmp_path / "zones" / "signed.test.zone").exists()


def test_up_says_which_port_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        arguments = ["lab", "up", "--dns-port", port, "--https-port", "0", "--smtp-port", "0"]
        assert run(arguments) != 0
    said = capsys.readouterr().err
    assert port in said
    assert "127.0.0.1" in said
