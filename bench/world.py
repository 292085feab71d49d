# SPDX-License-Identifier: Apache-2.0
"""The network that benchmarks run in, and the daemons that are measured in it.

`enter` puts the whole run into a network and a mount namespace of its own: port 53 and 443 on
loopback are free there, /etc/resolv.conf names the benchmark's DNS server, and when the run ends
nothing of it is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from common import ROOT, clean_environment, fail
from programs import program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from common import Settings

INSIDE = "STRICTMAIL_BENCH_NAMESPACE"
REPLY = "OK secure match=mx1.p0001234.test:mx2.p0001234.test servername=hostname"
"""What the trivial responder says: as long as strictmail's answer for the same domain."""

PEER = ROOT / ".venv" / "peer" / "bin" / "mta-sts-daemon"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
START_TIMEOUT = 120.0


def enter() -> None:
    """Run this command again in namespaces of its own, unless that has happened."""
    if os.environ.get(INSIDE):
        return
    command = ["unshare", "--net", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        command += ["--user", "--map-root-user"]
    os.environ[INSIDE] = "1"
    os.execvp(command[0], [*command, "--", sys.executable, *sys.argv])


def furnish(work: Path) -> None:
    """Loopback up, and a resolv.conf that names the benchmark's DNS server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        siocsifflags, iff_up = 0x8914, 1
        fcntl.ioctl(control, siocsifflags, struct.pack("16sH14x", b"lo", iff_up))
    resolv_conf = work / "resolv.conf"
    resolv_conf.write_text("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", str(resolv_conf), "/etc/resolv.conf"], check=True)


class Daemon:
    """A process that is measured.

    Args:
        name: For tables.
        command: What to run, pinning included.
        log: Where its output goes.
        env: Its environment.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self._log = log
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            env=env,
        )

    @property
    def pid(self) -> int:
        """Of the daemon itself: taskset and chrt replace themselves by it."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """What it has used so far, in user and system mode."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def rss_mib(self) -> float:
        """Its resident set."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def check(self) -> None:
        """End the run when the daemon has ended."""
        if self._process.poll() is not None:
            fail(f"{self.name} ended with {self._process.returncode}:\n{self._tail()}")

    def wait_for_port(self, port: int) -> None:
        """Until it accepts connections."""
        for _ in self.until_timeout():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return

    def wait_for_output(self, words: bytes) -> None:
        """Until it has written this."""
        for _ in self.until_timeout():
            if words in self._log.read_bytes():
                return

    def output(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def until_timeout(self) -> Iterator[None]:
        """Turns of waiting for something; ends the run when it does not come."""
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end:
            self.check()
            yield
            time.sleep(0.02)
        fail(f"{self.name} does not get ready:\n{self._tail()}")

    def _tail(self) -> str:
        return self.output()[-2000:]

    def stop(self) -> None:
        """End it, at once: what it would still write down is not measured."""
        self._process.kill()
        self._process.wait()


class World:
    """DNS, policy hosts and the measured daemons; a context manager that ends them all.

    Args:
        settings: Of the run.
        chain: "long": certificates of policy hosts come with an intermediate; "short": without.
    """

    def __init__(self, settings: Settings, *, chain: str = "long") -> None:
        self.settings = settings
        self.work = settings.work
        self.ca_file = self.work / "ca.pem"
        self._chain = chain
        self._daemons: list[Daemon] = []

    def __enter__(self) -> Self:
        cpu = self.settings.prefix(self.settings.generator_cpu)
        self._start_program("dnsd", [*cpu, program("dnsd"), "--listen", "inet:127.0.0.1:53"])
        https = [
            "--listen",
            "inet:127.0.0.1:443",
            "--ca-file",
            str(self.ca_file),
            "--chain",
            self._chain,
        ]
        self._start_program("httpsd", [*cpu, program("httpsd"), *https])
        return self

    def __exit__(self, *exc: object) -> None:
        for daemon in reversed(self._daemons):
            daemon.stop()

    def stop(self, daemon: Daemon) -> None:
        """End one of them early."""
        daemon.stop()
        self._daemons.remove(daemon)

    def responder(self, address: str) -> Daemon:
        """The C program that answers everything alike."""
        arguments = [program("responder"), "--listen", address, "--reply", REPLY]
        return self._start_program("C responder", [*self._pinned(), *arguments])

    def peer(self, port: int) -> Daemon:
        """postfix-mta-sts-resolver with its in-memory cache, which is its fastest, and uvloop."""
        if not PEER.exists():
            fail(f"no {PEER.relative_to(ROOT)}: run scripts/setup runtime bench")
        config = self.work / f"peer-{port}.yml"
        # The grace time keeps it from asking DNS again while cached lookups are measured.
        config.write_text(
            f"host: 127.0.0.1\nport: {port}\nreuse_port: true\ncache_grace: 86400\n"
            "cache:\n  type: internal\n  options:\n    cache_size: 2000000\n"
            "default_zone:\n  strict_testing: false\n  timeout: 4\n"
        )
        env = {**self._environment(), "PYTHONPATH": str(self._lend_uvloop())}
        command = [*self._pinned(), str(PEER), "-c", str(config), "-v", "warn"]
        peer = self._start("peer", command, env)
        peer.wait_for_port(port)
        return peer

    def strictmail(self, port: int, state: Path, *, extra: str = "") -> Daemon:
        """The daemon of this checkout; ready when this returns."""
        state.mkdir(exist_ok=True)
        config = self.work / f"strictmail-{port}.toml"
        config.write_text(
            f'state_directory = "{state}"\n'
            f'[log]\nlevel = "warning"\n'
            f'[dns]\nservers = ["127.0.0.1"]\n'
            f'[policy]\nca_file = "{self.ca_file}"\nallow_networks = ["127.0.0.0/8"]\n'
            f'[http]\nlisten = "127.0.0.1:{port + 1000}"\n'
            f'[[listener]]\nname = "tcp"\nsocket = "inet:127.0.0.1:{port}"\n'
            f'[[listener]]\nname = "unix"\nsocket = "unix:{self.unix_path(port)}"\n{extra}'
        )
        notify = self.work / f"notify-{port}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            notify.unlink(missing_ok=True)
            listening.bind(str(notify))
            listening.settimeout(0.05)
            env = {**self._environment(), "NOTIFY_SOCKET": str(notify)}
            serve = [sys.executable, "-m", "strictmail", "serve", "--config", str(config)]
            daemon = self._start("strictmail", [*self._pinned(), *serve], env)
            for _ in daemon.until_timeout():
                with contextlib.suppress(TimeoutError):
                    if b"READY=1" in listening.recv(4096):
                        break
        return daemon

    def unix_path(self, port: int) -> Path:
        """Where the strictmail on this port listens as well."""
        return self.work / f"strictmail-{port}.sock"

    def _environment(self) -> dict[str, str]:
        return {**clean_environment(), "SSL_CERT_FILE": str(self.ca_file)}

    def _lend_uvloop(self) -> Path:
        """A directory that holds this environment's uvloop and nothing else."""
        import uvloop

        lent = self.work / "lent"
        lent.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (lent / "uvloop").symlink_to(Path(uvloop.__file__).parent)
        return lent

    def _pinned(self) -> list[str]:
        return self.settings.prefix(self.settings.daemon_cpu)

    def _start(
        self, name: str, command: Sequence[str], env: dict[str, str] | None = None
    ) -> Daemon:
        log = self.work / f"{len(self._daemons)}-{name.replace(' ', '-')}.log"
        daemon = Daemon(name, command, log, env)
        self._daemons.append(daemon)
        return daemon

    def _start_program(self, name: str, command: Sequence[str]) -> Daemon:
        daemon = self._start(name, command)
        daemon.wait_for_output(b"ready")
        return daemon
