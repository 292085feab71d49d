# SPDX-License-Identifier: Apache-2.0
"""The reporter as a role of the daemon: it works, it can be looked at, reloaded, and ended."""

from __future__ import annotations

import signal
import socket
import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest
from tests.service.net.mailserver import MailServer
from tests.service.reporter.live import Mail, Place, Records
from tests.service.serve.stub import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def records() -> Iterator[Records]:
    records = Records()
    records.start()
    yield records
    records.stop()


@pytest.fixture
def mail() -> Iterator[Mail]:
    mail = Mail(MailServer()).begin()
    yield mail
    mail.stop()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def wait_for(condition: object, what: str) -> None:
    pause = threading.Event()
    for _ in range(600):
        if condition():  # type: ignore[operator]
            return
        pause.wait(0.1)
    raise AssertionError(what)


def test_a_life(tmp_path: Path, records: Records, mail: Mail) -> None:
    place = Place(tmp_path, records, mail, 'spread = "0s"\n')
    place.count("a.example")
    port = free_port()
    process = Process(place.config, "reporter", "--http", f"127.0.0.1:{port}")
    try:
        process.wait_for(b'"ready"')
        wait_for(lambda: len(mail.server.taken) == 1, "the first report")
        assert get(port, "/readyz") == "ready\n"
        wait_for(
            lambda: 'strictmail_report_deliveries{state="sent"} 1.0' in get(port, "/metrics"),
            "the metric",
        )
        # A copy for us, from now on; a key that is not there is refused, and nothing changes.
        text = place.config.read_text()
        place.config.write_text(f'{text}dkim_keys = ["x=/nonexistent.pem"]\n')
        process.process.send_signal(signal.SIGHUP)
        process.wait_for(b"reload-refused")
        place.config.write_text(f'{text}copy_to = "archive@sender.example"\n')
        process.process.send_signal(signal.SIGHUP)
        process.wait_for(b'"reloaded"')
    finally:
        assert process.end() == 0
    place.count("b.example")
    process = Process(place.config, "reporter", "--quiet")
    try:
        wait_for(lambda: len(mail.server.taken) == 3, "the report and its copy")
    finally:
        assert process.end() == 0
    assert {one.recipient for one in mail.server.taken} == {
        "tls@a.example",
        "tls@b.example",
        "archive@sender.example",
    }
