# SPDX-License-Identifier: Apache-2.0
"""What the tests of the collector share: datagrams, a socket, a process to kill, counts."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from strictmail.store.sessions import SessionStore

if TYPE_CHECKING:
    from types import TracebackType

DEADLINE = 60.0
CHILD = Path(__file__).with_name("rolechild.py")
NEVER = date(2100, 1, 1)


def datagram(
    domain: str = "example.com", *, kind: int = 9, failed: bool = False, lines: tuple[str, ...] = ()
) -> bytes:
    """One of libtlsrpt."""
    policy: dict[str, Any] = {"policy-type": kind, "policy-domain": domain, "t": 0, "f": 0}
    if lines:
        policy["policy-string"] = list(lines)
    if failed:
        policy |= {"failure-details": [{"c": 201, "n": f"mx.{domain}"}], "t": 1, "f": 1}
    return json.dumps({"dpv": "1", "d": domain, "policies": [policy]}).encode()


def bound_socket(path: Path) -> socket.socket:
    """A datagram socket as a daemon opens it."""
    source = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    source.bind(str(path))
    return source


def sender_to(path: Path) -> socket.socket:
    """A sender that waits while the queue is full, so that nothing is lost on the way."""
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.settimeout(DEADLINE)
    sender.connect(str(path))
    return sender


def totals(store: SessionStore) -> dict[str, tuple[int, int]]:
    """Successes and failures by domain, over all days."""
    found: dict[str, tuple[int, int]] = {}
    for _, which in store.unreported(NEVER, limit=1_000_000):
        before = found.get(which.domain, (0, 0))
        for counted in store.load(which).policies.values():
            before = (before[0] + counted.successes, before[1] + counted.failures)
        found[which.domain] = before
    return found


def count_sessions(path: Path) -> int:
    """All judgements in a store."""
    store = SessionStore(path, create=False)
    try:
        return sum(map(sum, totals(store).values()))
    finally:
        store.close()


class Child:
    """A collector in a process of its own.

    Args:
        source: The socket that it drains; it stays open here, as systemd holds it.
        path: Of the store.
    """

    def __init__(self, source: socket.socket, path: Path) -> None:
        source_root = Path(sys.modules["strictmail"].__path__[0]).parent
        fd = source.fileno()
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), str(fd), str(path)],
            stdout=subprocess.PIPE,
            pass_fds=(fd,),
            env={**os.environ, "PYTHONPATH": str(source_root)},
        )
        self._seen = b""
        self.wait_for("ready")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def drainer(self) -> int:
        """The pid of the process that drains."""
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def wait_for(self, word: str, number: int = 0) -> None:
        """Read what it says until a line begins with `word` (and has this number at least)."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        deadline = time.monotonic() + DEADLINE
        while True:
            *lines, self._seen = self._seen.split(b"\n")
            for line in lines:
                words = line.decode().split()
                if words[0] == word and (not number or int(words[1]) >= number):
                    return
            ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(fd, 65536) if ready else b""
            assert data, f"no {word} {number} from the collector"
            self._seen += data

    def stop(self) -> None:
        """SIGTERM, and see it end well."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == 0


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)


def wait_end(pid_fd: int) -> None:
    """Wait until the process of a pidfd has ended."""
    poll = select.poll()
    poll.register(pid_fd, select.POLLIN)
    assert poll.poll(DEADLINE * 1000), "a process does not end"
    os.close(pid_fd)


class FakeClock:
    """A wall clock that tests set."""

    def __init__(self, now: datetime | None = None) -> None:
        self.instant = now or datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.instant

    def monotonic(self) -> float:
        return self.instant.timestamp()

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


class Log:
    """Keeps events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def emit(self, name: str, /, **fields: Any) -> None:
        self.events.append((name, fields))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]
