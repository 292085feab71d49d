# SPDX-License-Identifier: Apache-2.0
"""A daemon in a process of its own, with a name server of the test's beside it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from strictmail.core.mta import netstring
from strictmail.core.sts.lifecycle import PolicyEntry
from strictmail.core.sts.policy import parse_policy
from strictmail.store.policies import SqlitePolicyStore

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE = 30.0


class NameServer(threading.Thread):
    """Answers `<name> MX` with mx.<name> and that host's address; everything else is NODATA."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]

    def run(self) -> None:
        while True:
            try:
                data, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            query = dns.message.from_wire(data)
            self.socket.sendto(self.answer(query).to_wire(), peer)

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        question = query.question[0]
        kind = question.rdtype.name
        if kind == "MX":
            text = f"10 mx.{question.name}"
        elif kind == "A":
            text = "192.0.2.1"
        else:
            return reply
        reply.answer.append(dns.rrset.from_text(question.name, 300, "IN", kind, text))
        return reply

    def stop(self) -> None:
        self.socket.close()


def cache_policy(state: Path, domain: str, mode: str = "enforce") -> None:
    """Put a policy into the state directory, as if it had been learnt just now."""
    body = f"version: STSv1\nmode: {mode}\nmx: mx.{domain}\nmax_age: 604800\n".encode()
    now = datetime.now(UTC)
    entry = PolicyEntry(
        policy_domain=domain,
        policy_id="1",
        policy=parse_policy(body),
        body=body,
        fetched_at=now,
        refresh_at=now + timedelta(days=1),
        txt_check_at=now + timedelta(hours=1),
        last_asked_at=now,
    )
    state.mkdir(parents=True, exist_ok=True)
    store = SqlitePolicyStore(str(state / "policies.sqlite3"))
    store.save([entry])
    store.close()


class Process:
    """One `strictmail serve`."""

    def __init__(
        self,
        config: Path,
        *options: str,
        listening: socket.socket | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        command = [sys.executable, "-m", "strictmail", "serve", "--config", str(config), *options]
        environ = {**os.environ, **(env or {}), "PYTHONUNBUFFERED": "1"}
        if listening is None:
            self.process = self._start(command, environ)
        else:
            self.process = self._start_activated(command, environ, listening)
        self.output = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Nothing of it is left behind when a test fails."""
        if self.process.returncode is None:
            self.end(signal.SIGKILL)

    @staticmethod
    def _start(command: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ
        )

    @staticmethod
    def _start_activated(
        command: list[str], environ: dict[str, str], listening: socket.socket
    ) -> subprocess.Popen[bytes]:
        # As systemd does it: the socket is descriptor 3, and LISTEN_PID names the process.
        launcher = (
            "import os, sys\n"
            "os.dup2(int(sys.argv[1]), 3)\n"
            "os.environ['LISTEN_PID'] = str(os.getpid())\n"
            "os.execv(sys.argv[2], sys.argv[2:])\n"
        )
        environ = {**environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "postfix"}
        fd = listening.fileno()
        return subprocess.Popen(
            [sys.executable, "-c", launcher, str(fd), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
            pass_fds=(fd,),
        )

    def wait_for(self, text: bytes) -> bytes:
        """Read output until it holds `text`."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        deadline = time.monotonic() + DEADLINE
        while text not in self.output:
            ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(fd, 65536) if ready else b""
            if not data:
                raise AssertionError(f"no {text!r} in {self.output.decode()!r}")
            self.output += data
        return self.output

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal and wait; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=DEADLINE)
        self.output += rest
        return self.process.returncode


def ask(port: int, key: str) -> bytes:
    """One question on a fresh connection; the reply's payload."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
        client.sendall(netstring.encode(f"sts {key}".encode()))
        decoder = netstring.Decoder(200_000)
        while data := client.recv(65536):
            for payload in decoder.feed(data):
                return payload
    raise AssertionError("closed without an answer")


class LoadClient(threading.Thread):
    """Asks without pause on a persistent connection, as Postfix does: one retry on EOF."""

    def __init__(self, port: int, key: str, expected: bytes) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.request = netstring.encode(f"sts {key}".encode())
        self.expected = netstring.encode(expected)
        self.stopping = threading.Event()
        self.fresh = threading.Event()
        self.answered = 0
        self.reconnects = 0
        self.failures: list[str] = []

    def run(self) -> None:
        client = self._connect()
        while not self.stopping.is_set():
            try:
                reply = self._ask(client)
                if reply == b"":
                    client.close()
                    self.reconnects += 1
                    client = self._connect()
                    reply = self._ask(client)
            except OSError as error:
                self.failures.append(repr(error))
                client = self._connect()
                continue
            if reply != self.expected:
                self.failures.append(repr(reply))
            self.answered += 1
            self.fresh.set()
        client.close()

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)

    def _ask(self, client: socket.socket) -> bytes:
        client.sendall(self.request)
        reply = b""
        while len(reply) < len(self.expected):
            data = client.recv(65536)
            if not data:
                return b""
            reply += data
        return reply

    def wait_for_answer(self) -> None:
        """Wait until it has had an answer from now on."""
        self.fresh.clear()
        assert self.fresh.wait(DEADLINE)

    def finish(self) -> None:
        self.stopping.set()
        self.join(DEADLINE)
        assert not self.is_alive()
