# SPDX-License-Identifier: Apache-2.0
"""Who owns which socket when daemons start, fail, reload and take over: nobody's mail stops."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.service.serve.stub import NameServer, Process, ask
from tests.service.serve.test_serve import SECURE, Setup, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    name_server = NameServer()
    name_server.start()
    yield Setup(tmp_path, name_server)
    name_server.stop()


def listener(name: str, where: str) -> str:
    return f'[[listener]]\nname = "{name}"\nsocket = "{where}"\n'


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def refuses(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return False
    return True


def reload(process: Process, word: bytes) -> None:
    process.output = b""
    process.process.send_signal(signal.SIGHUP)
    process.wait_for(word)


def test_a_reload_that_fails_half_way_leaves_everything_as_it_was(setup: Setup) -> None:
    process = setup.start()
    new, taken = free_port(), socket.create_server(("127.0.0.1", 0))
    try:
        setup.write(
            listener("new", f"inet:127.0.0.1:{new}")
            + listener("taken", f"inet:127.0.0.1:{taken.getsockname()[1]}")
        )
        reload(process, b" reload-refused ")
        assert refuses(new)  # not one that accepts and never answers
        assert ask(setup.port, "good.example") == SECURE
        setup.write(extra=f'[policy]\nca_file = "{setup.directory}/gone.pem"\n')
        before = len(os.listdir(f"/proc/{process.process.pid}/fd"))
        for _ in range(3):
            reload(process, b" reload-refused ")
        assert len(os.listdir(f"/proc/{process.process.pid}/fd")) <= before
        assert ask(setup.port, "good.example") == SECURE
        setup.write(listener("new", f"inet:127.0.0.1:{new}"))
        reload(process, b" reloaded ")
        assert ask(new, "good.example") == SECURE
        setup.write()
        reload(process, b" reloaded ")
        assert refuses(new)
    finally:
        taken.close()
        assert process.end() == 0


def test_a_successor_that_fails_leaves_the_predecessor_its_sockets(setup: Setup) -> None:
    path = setup.directory / "postfix.sock"
    setup.write(socket_=f"unix:{path}")
    process = setup.start()
    occupied = socket.create_server(("127.0.0.1", 0))
    try:
        port = occupied.getsockname()[1]
        setup.write(listener("b", f"inet:127.0.0.1:{port}"), socket_=f"unix:{path}")
        failed = setup.command("serve", "--takeover")
        assert failed.returncode != 0
        assert "cannot listen" in failed.stderr
        assert setup.command("query", "good.example").stdout.startswith(SECURE.decode())
        setup.write(socket_=f"unix:{path}")
        successor = setup.start("--takeover")
        assert process.process.wait(30) == 0
        process.end()
        process = successor
        assert setup.command("query", "good.example").stdout.startswith(SECURE.decode())
    finally:
        occupied.close()
        assert process.end() == 0
    assert not path.exists()


def test_a_successor_that_dies_before_it_is_ready_changes_nothing(setup: Setup) -> None:
    process = setup.start()
    try:
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as channel:
                channel.settimeout(10)
                channel.connect(str(setup.state / "handover.sock"))
                _, fds, _, _ = socket.recv_fds(channel, 65536, 64)
                assert fds
            for fd in fds:
                os.close(fd)
            assert ask(setup.port, "good.example") == SECURE
        successor = setup.start("--takeover")
        assert process.process.wait(30) == 0
        process.end()
        process = successor
        assert ask(setup.port, "good.example") == SECURE
    finally:
        assert process.end() == 0


def test_a_successor_closes_what_its_configuration_no_longer_names(setup: Setup) -> None:
    path, other = setup.directory / "old.sock", free_port()
    setup.write(listener("old", f"unix:{path}") + listener("o", f"inet:127.0.0.1:{other}"))
    process = setup.start()
    try:
        assert listens(path)
        setup.write()
        successor = setup.start("--takeover")
        assert process.process.wait(30) == 0
        process.end()
        process = successor
        assert refuses(other)
        assert not path.exists()
        assert ask(setup.port, "good.example") == SECURE
    finally:
        assert process.end() == 0


def test_a_unix_socket_of_systemd_outlives_the_daemon(setup: Setup) -> None:
    path = setup.directory / "activated.sock"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(16)
    setup.write(socket_=f"unix:{path}")
    for _ in range(2):
        process = setup.start(listening=listening)
        assert setup.command("query", "good.example").stdout.startswith(SECURE.decode())
        assert process.end() == 0
        assert listens(path)
    listening.close()


def test_whoever_stops_reading_the_banner_stops_no_mail(setup: Setup) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "strictmail", "serve", "--config", str(setup.config)]
    process = subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    try:
        assert process.stderr is not None
        while b" ready " not in process.stderr.readline():
            assert process.poll() is None
        assert ask(setup.port, "good.example") == SECURE
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_without_a_writable_state_directory_it_says_where_policies_are(setup: Setup) -> None:
    blocked = setup.directory / "file"
    blocked.write_text("")
    process = Process(setup.config, "--state-directory", str(blocked / "state"))
    try:
        output = process.wait_for(b"Ask it a question:")
        assert b"in memory only" in output
        assert b"store-unavailable" in output
        assert ask(setup.port, "other.example").startswith(b"NOTFOUND")
    finally:
        process.end()


def test_it_serves_without_uvloop(setup: Setup) -> None:
    blocker = setup.directory / "without" / "uvloop.py"
    blocker.parent.mkdir()
    blocker.write_text("raise ImportError('not installed')\n")
    process = Process(setup.config, env={"PYTHONPATH": str(blocker.parent)})
    try:
        process.wait_for(b" ready ")
        assert ask(setup.port, "good.example") == SECURE
    finally:
        assert process.end() == 0


def test_sigterm_at_any_moment_of_the_start_ends_in_good_order(setup: Setup) -> None:
    for word in (b"", b" started ", b" listener-open ", b" ready "):
        process = Process(setup.config)
        if word:
            process.wait_for(word)
            assert process.end() == 0, process.output
        else:
            process.end()
        assert b"Traceback" not in process.output
        assert b"never retrieved" not in process.output
