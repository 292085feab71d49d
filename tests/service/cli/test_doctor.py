# SPDX-License-Identifier: Apache-2.0
"""`strictmail doctor` against a postconf, a daemon and name servers that are not there."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from strictmail.cli import doctor, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POSTCONF = """#!/bin/sh
case $1 in
    -x) cat <<'END'
mail_version = 3.7.11
queue_directory = /var/spool/postfix
smtp_dns_support_level =
smtp_host_lookup = dns
smtp_tls_CAfile =
smtp_tls_CApath =
smtp_tls_policy_maps = socketmap:inet:127.0.0.1:{port}:strictmail
smtp_tls_security_level = may
tls_append_default_CA = no
END
    ;;
    -n) echo 'smtp_tls_security_level = may' ;;
    -M) echo 'smtp unix - - y - - smtp' ;;
    -P) echo 'smtp/unix/smtp_tls_security_level = encrypt' ;;
esac
"""


class Daemon:
    """Answers one socketmap question per connection with NOTFOUND."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.questions: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            client, _ = self.socket.accept()
            with client:
                question = client.recv(1000)
                if question == b"stop":
                    return
                self.questions.append(question)
                client.sendall(b"9:NOTFOUND ,")

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"stop")
        self._thread.join()
        self.socket.close()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    running = Daemon()
    yield running
    running.close()


def write(tmp_path: Path, port: int) -> list[str]:
    """A configuration and a postconf; the arguments to use them."""
    config = tmp_path / "strictmail.toml"
    config.write_text(
        f'state_directory = "{tmp_path}"\n'
        f'[[listener]]\nname = "p"\nsocket = "inet:127.0.0.1:{port}"\n'
    )
    config.chmod(0o644)
    postconf = tmp_path / "postconf"
    postconf.write_text(POSTCONF.replace("{port}", str(port)))
    postconf.chmod(0o755)
    return ["doctor", "--offline", "--config", str(config), "--postconf", str(postconf)]


@pytest.fixture(autouse=True)
def a_kernel_with_the_right_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_kernel_synchronised", lambda: True)


def test_json(daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*write(tmp_path, daemon.port), "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    found = {finding["id"]: finding["health"] for finding in shown["findings"]}
    assert shown["health"] == "fail"
    assert found == {
        "dns-validates": "unknown",
        "dns-bogus": "unknown",
        "policy-fetch": "unknown",
        "clock": "ok",
        "clock-sync": "ok",
        "state-directory": "ok",
        "config-file": "ok",
        "listener-answers:p": "ok",
        "postfix-dialect": "ok",
        "postfix-map": "ok",
        "postfix-level": "ok",
        "postfix-dnssec": "ok",
        "postfix-host-lookup": "ok",
        "postfix-trust-store": "fail",
        "postfix-connection-reuse": "ok",
        "postfix-override": "warn",
    }
    assert daemon.questions == [b"26:strictmail .doctor.invalid,"]


def test_for_people(daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write(tmp_path, daemon.port)) == 1
    out = capsys.readouterr().out
    assert "FAIL  postfix-trust-store" in out
    assert "> main.cf: smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt\n" in out
    assert out.endswith("1 failed, 1 warnings, 11 good, 3 could not be looked at\n")


def test_a_daemon_that_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    arguments = write(tmp_path, port)
    assert run([*arguments, "--json", "--postconf", str(tmp_path / "absent")]) == 1
    found = {f["id"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert found["listener-answers:p"]["health"] == "fail"
    assert "Connection refused" in found["listener-answers:p"]["sentence"]
    assert found["postfix"]["health"] == "unknown"


def test_a_postconf_that_fails(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write(tmp_path, daemon.port)
    (tmp_path / "postconf").write_text("#!/bin/sh\nexit 1\n")
    assert run([*arguments, "--json"]) == 0
    found = {f["id"]: f["health"] for f in json.loads(capsys.readouterr().out)["findings"]}
    assert found["postfix"] == "unknown"


def test_no_listener_for_postfix(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write(tmp_path, daemon.port)
    with (tmp_path / "strictmail.toml").open("a") as file:
        file.write('dialect = "exim"\n')
    assert run([*arguments, "--json"]) == 0
    found = {f["id"]: f["health"] for f in json.loads(capsys.readouterr().out)["findings"]}
    assert found["postfix"] == "unknown"


def test_the_listener_that_postfix_asks_is_judged(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write(tmp_path, daemon.port)
    config = tmp_path / "strictmail.toml"
    other = '[[listener]]\nname = "other"\nsocket = "inet:127.0.0.1:1"\n'
    head, listener = config.read_text().split("[[listener]]", 1)
    config.write_text(f"{head}{other}[[listener]]{listener}")
    run([*arguments, "--json"])
    found = {f["id"]: f["health"] for f in json.loads(capsys.readouterr().out)["findings"]}
    assert found["postfix-map"] == "ok"
    assert found["listener-answers:other"] == "fail"


def test_online_with_name_servers_that_do_not_answer(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [word for word in write(tmp_path, daemon.port) if word != "--offline"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with (tmp_path / "strictmail.toml").open("a") as file:
            port = silent.getsockname()[1]
            file.write(f'[dns]\nservers = ["127.0.0.1:{port}"]\ntimeout = "100ms"\nattempts = 1\n')
        run([*arguments, "--json", "--postconf", str(tmp_path / "absent")])
    found = {f["id"]: f["health"] for f in json.loads(capsys.readouterr().out)["findings"]}
    assert found["dns-validates"] == "unknown"
    assert found["dns-bogus"] == "unknown"
    assert found["policy-fetch"] == "unknown"
    assert found["dns-trust"] == "ok"
