# SPDX-License-Identifier: Apache-2.0
"""The programs of the report benchmarks: collectors on a unix socket, and what they cost until their end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from common import ROOT, clean_environment, fail
from programs import program
from world import CLOCK_TICKS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common import Settings
    from reportmix import Mix

PEER = ROOT / ".venv" / "reportpeer" / "bin"
QUEUE_SYSCTL = Path("/proc/sys/net/unix/max_dgram_qlen")
"""Of the network namespace that it is read in; a socket keeps what it was when it was made."""

DRAINED_SECONDS = 120
IDLE_SECONDS, IDLE_LOOKS = 0.1, 10


def lacks() -> str:
    """Why report benchmarks cannot run here; "" if they can."""
    if not (PEER / "tlsrpt-collectd").exists():
        return "needs the peer: scripts/setup runtime reportbench"
    if os.geteuid() != 0 or not QUEUE_SYSCTL.exists():
        return "needs root, to set net.unix.max_dgram_qlen in its own namespace"
    return ""


def set_queue(length: int) -> None:
    """How many datagrams wait in a socket that is made from now on, in this namespace."""
    QUEUE_SYSCTL.write_text(f"{length}\n")


class Process:
    """A program and its children, from start to end.

    Attributes:
        cpu_seconds: User and system time of all of them; after `end`.
        written_bytes: What they caused to be written to the disk (`write_bytes` of /proc/PID/io);
            after `end`.
    """

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str]) -> None:
        self.log = log
        self.cpu_seconds = 0.0
        self.written_bytes = 0
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
            )
        self._cpu_before = 0.0

    def check(self) -> None:
        """End the run when the program has ended."""
        if self._process.poll() is not None:
            fail(f"{self.log.stem} ended with {self._process.returncode}:\n{self.tail()}")

    def begin(self) -> None:
        """What was used until now does not count: it was for starting."""
        self._cpu_before = _live_cpu_seconds(self._process.pid)

    def is_idle(self) -> bool:
        """Whether it has waited for something to come, and used no processor, for a while."""
        before = _live_cpu_seconds(self._process.pid)
        for _ in range(IDLE_LOOKS):
            time.sleep(IDLE_SECONDS / IDLE_LOOKS)
            state = (
                Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0]
            )
            if state != "S":
                return False
        return _live_cpu_seconds(self._process.pid) == before

    def kill(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Tell it to end, wait for that, and see what it took in all."""
        self.kill(number)
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        # What a child has written becomes its parent's when the child is collected.
        before = _own_written_bytes()
        _, status, usage = os.wait4(self._process.pid, 0)
        self.written_bytes = _own_written_bytes() - before
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_seconds = usage.ru_utime + usage.ru_stime - self._cpu_before
        if self._process.returncode not in (0, -number):
            fail(f"{self.log.stem} ended with {self._process.returncode}:\n{self.tail()}")

    def discard(self) -> None:
        """End it at once, if it has not ended."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    def tail(self) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-2000:]


def _own_written_bytes() -> int:
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def _live_cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # Its own, and that of children that have ended; then those that live.
    total = sum(map(int, fields[11:15])) / CLOCK_TICKS
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            children = (task / "children").read_text().split()
            total += sum(_live_cpu_seconds(int(child)) for child in children)
    return total


class Collecting(Protocol):
    """One of the collectors, while it runs."""

    name: str
    socket: Path
    process: Process

    def counted(self) -> int:
        """Sessions that are in its store."""
        ...

    def settle(self) -> None:
        """Wait until nothing of what was sent would be lost if it ended."""
        ...


class Strictmail:
    """`strictmail serve` with the roles that a configuration asks for; ready when made.

    Args:
        settings: Of the run.
        directory: For its socket and its store; made if need be.
        pinned: To the core of what is measured, with all its processes.
        config: What its configuration holds beside a socket.
        role: Which.
    """

    name = "strictmail"

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        *,
        pinned: bool = True,
        role: str = "collector",
        config: str = "",
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.socket = directory / "tlsrpt.sock"
        self.store = directory / "reports.sqlite3"
        file = directory / f"{role}.toml"
        file.write_text(
            f'state_directory = "{directory}"\n[log]\nlevel = "warning"\n'
            f'[http]\nlisten = ""\n[dns]\nservers = ["127.0.0.1"]\n'
            f'[[collector]]\nname = "postfix"\nsocket = "unix:{self.socket}"\n'
            f'group = ""\n{config}'
        )
        notify = directory / "notify"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(notify))
            listening.settimeout(0)
            env = {**clean_environment(), "NOTIFY_SOCKET": str(notify)}
            serve = [sys.executable, "-m", "strictmail", "serve", role, "--config", str(file)]
            self.process = Process(
                [*_prefix(settings, pinned=pinned), *serve], directory / f"{role}.log", env
            )
            wait_for(self.process, lambda: _is_told(listening, b"READY=1"))

    def counted(self) -> int:
        """Sessions that are in its store."""
        return query(self.store, "SELECT sum(successes + failures) FROM policy_count")

    def settle(self) -> None:
        """Nothing to wait for: it empties its queue when it is told to end."""


class Peer:
    """tlsrpt-collectd with its SQLite storage and its defaults; ready when made.

    Args:
        settings: Of the run.
        directory: For all its files; made.
        pinned: To the core of what is measured.
    """

    name = "peer"

    def __init__(self, settings: Settings, directory: Path, *, pinned: bool = True) -> None:
        directory.mkdir()
        self.socket = directory / "tlsrpt.sock"
        self.store = directory / "collectd.sqlite"
        self.yesterday = directory / "collectd.sqlite.yesterday"
        self.config = directory / "tlsrpt.cfg"
        self.config.write_text(
            "[tlsrpt_collectd]\n"
            f"storage = sqlite://{self.store}\nsocketname = {self.socket}\n"
            f"dump_path_for_invalid_datagram = {directory}/invalid\n"
            f"[tlsrpt_fetcher]\nstorage = sqlite://{self.store}\n"
        )
        command = [str(PEER / "tlsrpt-collectd"), "--config_file", str(self.config)]
        self.process = Process(
            [*_prefix(settings, pinned=pinned), *command],
            directory / "collectd.log",
            clean_environment(),
        )
        # At its first start it makes a store, sets it aside, makes another, and then listens.
        wait_for(self.process, self.socket.exists)
        time.sleep(settings.scale.settle_seconds / 4)

    def counted(self) -> int:
        """Sessions that are in its store."""
        return query(self.store, "SELECT sum(cntrtotal) FROM finalresults")

    def settle(self) -> None:
        """Until its queue is empty: told to end, it would drop what is left there."""
        wait_for(self.process, self.process.is_idle, DRAINED_SECONDS)


def _prefix(settings: Settings, *, pinned: bool) -> list[str]:
    return settings.prefix(settings.daemon_cpu) if pinned else []


def _is_told(listening: socket.socket, word: bytes) -> bool:
    with contextlib.suppress(BlockingIOError):
        return word in listening.recv(4096)
    return False


def wait_for(process: Process, condition: Callable[[], bool], seconds: float = 60) -> None:
    """Until a condition holds; ends the run if that takes too long, or the process ends."""
    end = time.monotonic() + seconds
    while not condition():
        process.check()
        if time.monotonic() > end:
            fail(f"{process.log.stem} does not get there:\n{process.tail()}")
        time.sleep(0.01)


def query(store: Path, sql: str) -> int:
    """One number out of a database."""
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        return int(connection.execute(sql).fetchone()[0] or 0)


def send(settings: Settings, to: Collecting, mix: Mix, rate: float) -> dict[str, float]:
    """Send a mix to a collector; what `dgramsend` says of it.

    Args:
        settings: Of the run.
        to: The collector.
        mix: What.
        rate: A second; 0: as fast as it is taken.
    """
    command = [program("dgramsend"), "--to", f"unix:{to.socket}", "--rate", str(rate)]
    files = ["--messages", str(mix.messages), "--order", str(mix.order)]
    pinned = settings.prefix(settings.generator_cpu, undisturbed=rate > 0)
    done = subprocess.run([*pinned, *command, *files], capture_output=True, text=True, check=False)
    to.process.check()
    if done.returncode != 0:
        fail(f"dgramsend: {done.stderr}\n{to.process.tail()}")
    found: dict[str, float] = json.loads(done.stdout)
    return found
