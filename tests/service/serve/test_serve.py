# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process: answers, reload, restart, hand-over, kill -9; no lookup is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from tests.service.serve.stub import LoadClient, NameServer, Process, ask, cache_policy

from strictmail.core.mta import netstring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

SECURE = b"OK secure match=mx.good.example servername=hostname"
DEFERRED = b"TEMP"


class Setup:
    """A configuration on free ports, with a cached policy for good.example."""

    def __init__(self, directory: Path, name_server: NameServer) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.config = directory / "strictmail.toml"
        self.name_server = name_server
        self.port, self.http_port = free_port(), free_port()
        self.write()
        cache_policy(self.state, "good.example")

    def write(self, listener: str = "", socket_: str | None = None, extra: str = "") -> None:
        where = socket_ or f"inet:127.0.0.1:{self.port}"
        self.config.write_text(
            f'state_directory = "{self.state}"\n'
            f'[dns]\nservers = ["127.0.0.1:{self.name_server.port}"]\ntimeout = "1s"\n'
            f'[http]\nlisten = "127.0.0.1:{self.http_port}"\n{extra}'
            f'[[listener]]\nname = "postfix"\nsocket = "{where}"\n{listener}\n'
        )

    def start(self, *options: str, listening: socket.socket | None = None) -> Process:
        process = Process(self.config, *options, listening=listening)
        process.wait_for(b" ready ")
        return process

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.http_port}{path}", timeout=30
            ) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "strictmail", *words, "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    name_server = NameServer()
    name_server.start()
    yield Setup(tmp_path, name_server)
    name_server.stop()


def test_answers_and_says_how_to_use_it(setup: Setup) -> None:
    process = setup.start()
    try:
        assert b"strictmail is ready." in process.wait_for(b"Ask it a question:")
        assert f"socketmap:inet:127.0.0.1:{setup.port}:strictmail".encode() in process.output
        assert ask(setup.port, "good.example") == SECURE
        assert ask(setup.port, "GOOD.example.") == SECURE
        assert ask(setup.port, ".good.example").startswith(b"NOTFOUND")
        assert ask(setup.port, "other.example").startswith(b"NOTFOUND")
        query = setup.command("query", "good.example")
        assert (query.returncode, query.stdout.splitlines()[0]) == (0, SECURE.decode())
        explained = setup.command("explain", "--json", "good.example")
        assert explained.returncode == 0, explained.stderr
        document = json.loads(explained.stdout)
        assert (document["level"], document["policy"]["mode"]) == ("secure", "enforce")
        words = setup.command("explain", "good.example").stdout
        assert "RFC 8461" in words
        assert "mx.good.example" in words
    finally:
        assert process.end() == 0


def test_http_api_matches_its_description(setup: Setup) -> None:
    process = setup.start()
    try:
        status, body = setup.get("/v1/decision/good.example")
        assert status == 200
        decision = json.loads(body)
        assert decision["allowed_mx"] == ["mx.good.example"]
        described = json.loads(setup.get("/v1/openapi.json")[1])
        schema = described["components"]["schemas"]["DecisionDocument"]
        assert set(decision) == set(schema["properties"])
        assert setup.get("/v1/decision/good.example?dane=maybe")[0] == 400
        assert setup.get("/v1/decision/good.example?default_level=none")[0] == 400
        assert setup.get("/healthz") == (200, b"ok\n")
        assert setup.get("/readyz")[1].startswith(b"ready\n")
        ask(setup.port, "good.example")
        metrics = setup.get("/metrics")[1].decode()
        assert 'strictmail_answers_total{level="secure",listener="postfix"} 1.0' in metrics
        assert "strictmail_cached_policies 1.0" in metrics
        assert "strictmail_resolver_validates 0.0" in metrics
        assert setup.get("/nothing")[0] == 404
    finally:
        process.end()


def test_reload_takes_changes_and_refuses_faults(setup: Setup) -> None:
    process = setup.start()
    try:
        assert ask(setup.port, "good.example") == SECURE
        setup.write("observe = true")
        process.process.send_signal(signal.SIGHUP)
        process.wait_for(b" reloaded ")
        assert ask(setup.port, "good.example").startswith(b"NOTFOUND")
        process.wait_for(b"observe-would-answer")
        setup.write("observe = maybe")
        process.process.send_signal(signal.SIGHUP)
        process.wait_for(b" reload-refused ")
        assert ask(setup.port, "good.example").startswith(b"NOTFOUND")
    finally:
        assert process.end() == 0


def test_a_second_daemon_is_refused_by_name(setup: Setup) -> None:
    process = setup.start()
    try:
        second = setup.command("serve")
        assert second.returncode == 69
        assert "--takeover" in second.stderr
    finally:
        process.end()


def test_bad_configuration_ends_with_its_place_and_code(setup: Setup) -> None:
    setup.write('dialekt = "postfix"')
    refused = setup.command("serve")
    assert refused.returncode == 78
    assert f"{setup.config}:" in refused.stderr
    assert "dialect" in refused.stderr


def test_unix_socket_and_its_rights(setup: Setup) -> None:
    path = setup.directory / "postfix.sock"
    setup.write('mode = "0660"', socket_=f"unix:{path}")
    process = setup.start()
    try:
        assert path.stat().st_mode & 0o777 == 0o660
        assert setup.command("query", "good.example").stdout.startswith(SECURE.decode())
    finally:
        assert process.end() == 0
    assert not path.exists()


def load(setup: Setup, count: int = 4) -> list[LoadClient]:
    clients = [LoadClient(setup.port, "good.example", SECURE) for _ in range(count)]
    for client in clients:
        client.start()
    return clients


def all_are_answered(clients: list[LoadClient]) -> None:
    for client in clients:
        client.wait_for_answer()


def assert_nothing_lost(clients: list[LoadClient], *, restarts: int) -> None:
    for client in clients:
        client.finish()
        assert client.failures == []
        assert client.answered > restarts
        assert client.reconnects >= 1


RESTARTS = int(os.environ.get("STRICTMAIL_SOAK_RESTARTS", "4"))


def test_takeovers_lose_no_lookup(setup: Setup) -> None:
    process = setup.start()
    clients = load(setup)
    try:
        for _ in range(RESTARTS):
            all_are_answered(clients)
            successor = setup.start("--takeover")
            assert process.process.wait(30) == 0
            process.end()
            process = successor
        all_are_answered(clients)
        assert_nothing_lost(clients, restarts=RESTARTS)
        assert (setup.state / "handover.sock").exists()
    finally:
        assert process.end() == 0
    assert not (setup.state / "handover.sock").exists()


def test_restarts_behind_a_passed_socket_lose_no_lookup(setup: Setup) -> None:
    listening = socket.create_server(("127.0.0.1", setup.port), backlog=1024)
    setup.write(socket_="systemd:postfix")
    process = setup.start(listening=listening)
    clients = load(setup)
    try:
        for _ in range(RESTARTS):
            all_are_answered(clients)
            assert process.end() == 0
            process = setup.start(listening=listening)
        all_are_answered(clients)
        assert_nothing_lost(clients, restarts=RESTARTS)
    finally:
        assert process.end() == 0
        listening.close()


def test_takeover_in_a_directory_of_any_length(setup: Setup) -> None:
    # Longer than the address of a unix socket may be.
    setup.state = setup.directory / ("s" * 120)
    setup.write()
    process = setup.start()
    try:
        assert b"handover-unavailable" not in process.output
        successor = setup.start("--takeover")
        assert process.process.wait(60) == 0
        process.end()
        process = successor
    finally:
        assert process.end() == 0


def test_takeover_without_a_predecessor_just_starts(setup: Setup) -> None:
    process = setup.start("--takeover")
    assert ask(setup.port, "good.example") == SECURE
    assert process.end() == 0


def test_kill_9_weakens_nothing(setup: Setup) -> None:
    for _ in range(3):
        process = setup.start()
        assert ask(setup.port, "good.example") == SECURE
        assert process.end(signal.SIGKILL) == -signal.SIGKILL


def test_a_damaged_cache_is_refused_not_taken_for_empty(setup: Setup) -> None:
    (setup.state / "policies.sqlite3").write_bytes(b"not a database" * 1000)
    refused = setup.command("serve")
    assert refused.returncode == 73
    assert "policies.sqlite3" in refused.stderr


def test_dane_listener_without_validating_resolver_says_so(setup: Setup) -> None:
    setup.write("dane = true")
    process = setup.start()
    try:
        assert b"DANE: off" in process.wait_for(b"Ask it a question:")
        process.wait_for(b"resolver-not-validating")
        assert b"DANE is off" in setup.get("/readyz")[1]
        assert ask(setup.port, "good.example") == SECURE
    finally:
        process.end()


def test_cache_refresh_is_answered_by_the_daemon(setup: Setup) -> None:
    process = setup.start()
    try:
        refreshed = setup.command("cache", "refresh", "good.example")
        assert refreshed.returncode != 0  # the policy host does not resolve
        assert "sts-policy-fetch-error" in refreshed.stdout + refreshed.stderr
        assert ask(setup.port, "good.example") == SECURE
    finally:
        process.end()


def test_an_override_set_by_a_command_counts_at_once(setup: Setup) -> None:
    process = setup.start()
    try:
        assert ask(setup.port, "good.example") == SECURE
        words = ("policy", "override", "add", "good.example", "--action", "defer")
        added = setup.command(*words, "--expires", "1h", "--reason", "test")
        assert added.returncode == 0, added.stderr
        deadline = time.monotonic() + 30
        while not ask(setup.port, "good.example").startswith(DEFERRED):
            assert time.monotonic() < deadline, "the override never counted"
    finally:
        process.end()


def test_an_idle_client_delays_no_stop_and_reads_eof_afterwards(setup: Setup) -> None:
    process = setup.start()
    with socket.create_connection(("127.0.0.1", setup.port), timeout=30) as client:
        request = netstring.encode(b"sts good.example")
        client.sendall(request)
        assert client.recv(1000) == netstring.encode(SECURE)
        assert process.end() == 0
        # Asked after the process has gone: EOF, which Postfix retries on, not a reset.
        client.sendall(request)
        assert client.recv(1000) == b""
