# SPDX-License-Identifier: Apache-2.0
"""The role collector in the daemon: hand-over, restart, socket units, and what it says."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest
from tests.service.collector.world import bound_socket, count_sessions, datagram, sender_to
from tests.service.serve.stub import DEADLINE, NameServer
from tests.service.serve.test_serve import Setup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


class Collecting(Setup):
    """A daemon with both roles."""

    @property
    def path(self) -> Path:
        return self.directory / "tlsrpt"

    @property
    def reports(self) -> Path:
        return self.state / "reports.sqlite3"

    def write(self, listener: str = "", socket_: str | None = None, extra: str = "") -> None:
        table = f'[[collector]]\nsocket = "unix:{self.path}"\ngroup = ""\nmode = "0600"\n'
        super().write(listener, socket_, extra + table)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Collecting]:
    name_server = NameServer()
    name_server.start()
    yield Collecting(tmp_path, name_server)
    name_server.stop()


class Load(threading.Thread):
    """Sends datagrams all the time, and leaves others some of it; waits while the queue is full."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.stopping = threading.Event()
        self.sent = 0
        self.started = threading.Event()

    def run(self) -> None:
        with sender_to(self.path) as sender:
            while not self.stopping.is_set():
                sender.send(datagram(f"d{self.sent % 13}.example"))
                self.sent += 1
                if self.sent % 10 == 0:
                    self.started.set()
                    self.stopping.wait(0.005)

    def finish(self) -> None:
        self.stopping.set()
        self.join(DEADLINE)
        assert not self.is_alive()


def test_it_collects_and_says_how_to_use_it(setup: Collecting) -> None:
    process = setup.start()
    try:
        process.wait_for(b"smtp_tlsrpt_skip_reused_handshakes = no")
        assert b"smtp_tlsrpt_enable = yes" in process.output
        assert f"smtp_tlsrpt_socket_name = {setup.path}".encode() in process.output
        assert b"collector-open" in process.output
        assert oct(setup.path.stat().st_mode & 0o777) == "0o600"
        with sender_to(setup.path) as sender:
            sender.send(datagram())
            sender.send(b"rubbish")
        process.wait_for(b"datagram-refused")
        request = urllib.request.Request(
            f"http://127.0.0.1:{setup.http_port}/v1/session",
            data=json.dumps(
                {
                    "sessions": [
                        {
                            "domain": "example.com",
                            "policies": [{"policy-type": "tlsa", "result": "success"}],
                        }
                    ]
                }
            ).encode(),
            headers={"Idempotency-Key": "1"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.loads(answer.read()) == {"counted": 1, "repeated": False}
        metrics = setup.get("/metrics")[1].decode()
        assert 'strictmail_datagrams_refused_total{reason="not-json"} 1.0' in metrics
        assert 'strictmail_sessions_total{result="success",source="http"} 1.0' in metrics
        assert setup.get("/readyz")[1] == b"ready\n"
    finally:
        assert process.end() == 0
    assert count_sessions(setup.reports) == 2
    assert not setup.path.exists()


@pytest.mark.req("RPT-JSON-53")
def test_hand_overs_lose_no_datagram(setup: Collecting) -> None:
    process = setup.start()
    load = Load(setup.path)
    load.start()
    try:
        assert load.started.wait(DEADLINE)
        for _ in range(2):
            successor = setup.start("--takeover")
            assert process.process.wait(60) == 0
            process.end()
            process = successor
        load.finish()
    finally:
        assert process.end() == 0
    assert count_sessions(setup.reports) == load.sent


@pytest.mark.req("RPT-JSON-53")
def test_restarts_behind_a_passed_socket_lose_no_datagram(setup: Collecting) -> None:
    held = bound_socket(setup.path)
    with held:
        load = Load(setup.path)
        load.start()
        for _ in range(2):
            process = setup.start(listening=held)
            assert load.started.wait(DEADLINE)
            assert process.end() == 0
        process = setup.start(listening=held)
        load.finish()
        assert process.end() == 0
        assert setup.path.exists()
    assert count_sessions(setup.reports) == load.sent


def test_each_role_may_run_alone(setup: Collecting) -> None:
    resolver = setup.start("resolver")
    collector = setup.start("collector", "--http", "")
    try:
        with sender_to(setup.path) as sender:
            sender.send(datagram())
        assert b"socketmap" not in collector.output
        assert b"tlsrpt" not in resolver.output
    finally:
        assert collector.end() == 0
        assert resolver.end() == 0
    assert count_sessions(setup.reports) == 1


def test_a_group_that_is_not_there_is_named(setup: Collecting) -> None:
    text = setup.config.read_text().replace('group = ""', 'group = "no-such-group"')
    setup.config.write_text(text)
    done = setup.command("serve", "collector")
    assert done.returncode == 78
    assert "no such group on this machine" in done.stderr


def test_a_state_directory_that_cannot_be_written(setup: Collecting) -> None:
    setup.reports.mkdir(parents=True)
    process = setup.start()
    try:
        process.wait_for(b"session-store-unavailable")
        with sender_to(setup.path) as sender:
            sender.send(datagram())
        setup.reports.rmdir()
        process.wait_for(b"session-store-recovered")
    finally:
        assert process.end() == 0
    assert count_sessions(setup.reports) == 1


def test_a_reload_takes_another_socket(setup: Collecting) -> None:
    import signal

    process = setup.start()
    try:
        other = setup.directory / "other"
        text = setup.config.read_text().replace(f"unix:{setup.path}", f"unix:{other}")
        setup.config.write_text(text)
        process.process.send_signal(signal.SIGHUP)
        process.wait_for(b" reloaded ")
        with sender_to(other) as sender:
            sender.send(datagram())
        assert not setup.path.exists()
        with (
            pytest.raises(FileNotFoundError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe,
        ):
            probe.connect(str(setup.path))
    finally:
        assert process.end() == 0
    assert count_sessions(setup.reports) == 1
