# SPDX-License-Identifier: Apache-2.0
"""The network that `strictmail check` is measured in: DNS, policy hosts and MX hosts, 20 ms away.

The servers live in a network namespace of their own behind `bench/wire.c`. All of 11.0.0.0/8 is
local there, so every MX host, policy host and name server has an address of its own that looks
public, as a check demands of a policy host; there is no way out of either namespace.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from common import fail
from programs import program
from world import Daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common import Settings

RESOLVER = "11.0.0.53"
NEAR_ADDRESS = "100.64.0.1"
FAR_NETWORK = "11.0.0.0/8"
TUN_DEVICE = Path("/dev/net/tun")

DOMAINS_PER_OPERATOR = 10
HOSTS_PER_OPERATOR = 2
SILENT_OPERATOR = 9_999
"""Operators have four digits in names; the last one's MX hosts take connections and say nothing."""


def may_delay() -> bool:
    """Whether this user may make the wire's devices."""
    return os.access(TUN_DEVICE, os.R_OK | os.W_OK)


def domains(count: int) -> list[str]:
    """Domains by name: ten share an operator, and so two MX hosts; see dnsd.c."""
    operators = max(1, count // DOMAINS_PER_OPERATOR)
    if operators > SILENT_OPERATOR:
        fail(f"{count} domains would need more than {SILENT_OPERATOR} operators")
    return [f"p{number:07d}-o{number % operators:04d}.test" for number in range(count)]


def silent_domains(count: int) -> list[str]:
    """Domains whose MX hosts say nothing."""
    return [f"p{number:07d}-o{SILENT_OPERATOR:04d}.test" for number in range(count)]


def hosts(count: int) -> int:
    """How many MX hosts these domains have."""
    return HOSTS_PER_OPERATOR * max(1, count // DOMAINS_PER_OPERATOR)


class CheckWorld:
    """The wire and the servers behind it; a context manager that ends them all.

    Attributes:
        ca_file: The roots of policy hosts and MX hosts.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ca_file = settings.work / "check-ca.pem"
        self._resolv_conf = settings.work / "resolv.conf"
        self._daemons: list[Daemon] = []

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._resolv_conf.write_text("nameserver 127.0.0.1\n")
        for daemon in reversed(self._daemons):
            daemon.stop()

    def _build(self) -> None:
        one_way = str(round(self.settings.scale.check_round_trip_ms * 500))
        wire = self._start("wire", [], [program("wire"), "--one-way-us", one_way])
        inside = ["nsenter", f"--net=/proc/{wire.pid}/ns/net"]
        for command in (
            ["ip", "address", "add", f"{NEAR_ADDRESS}/32", "dev", "wire0"],
            ["ip", "route", "add", FAR_NETWORK, "dev", "wire0", "src", NEAR_ADDRESS],
            [*inside, "ip", "link", "set", "lo", "up"],
            [*inside, "ip", "route", "add", "local", FAR_NETWORK, "dev", "lo"],
            [*inside, "ip", "route", "add", f"{NEAR_ADDRESS}/32", "dev", "wire1"],
        ):
            subprocess.run(command, check=True)
        mail_ca, web_ca = self.settings.work / "mail-ca.pem", self.settings.work / "web-ca.pem"
        any_address = ["--listen", "inet:0.0.0.0:25", "--ca-file", str(mail_ca)]
        silent = ["--silent", str(SILENT_OPERATOR)]
        smtpd = self._start("smtpd", inside, [program("smtpd"), *any_address, *silent])
        ecdsa, rsa, _ = smtpd.output().split()
        any_address = ["--listen", "inet:0.0.0.0:443", "--ca-file", str(web_ca)]
        self._start("httpsd", inside, [program("httpsd"), *any_address])
        dns = ["--listen", "inet:0.0.0.0:53", "--secure", "yes"]
        keys = ["--tlsa-ecdsa", ecdsa, "--tlsa-rsa", rsa]
        self._start("dnsd", inside, [program("dnsd"), *dns, *keys])
        self.ca_file.write_text(mail_ca.read_text() + web_ca.read_text())
        # In place: it is what /etc/resolv.conf is bound to. The peer's SMTP part asks the C library.
        self._resolv_conf.write_text(f"nameserver {RESOLVER}\n")

    def _start(self, name: str, inside: Sequence[str], command: Sequence[str]) -> Daemon:
        # The wire before the servers: a packet is not to wait for somebody's handshake.
        cpu = self.settings.prefix(self.settings.generator_cpu, undisturbed=name == "wire")
        log = self.settings.work / f"check-{name}.log"
        daemon = Daemon(name, [*cpu, *inside, *command], log)
        self._daemons.append(daemon)
        daemon.wait_for_output(b"ready")
        return daemon

    def cpu_seconds(self) -> float:
        """What the wire and the servers have used so far: all of it on one core."""
        for daemon in self._daemons:
            daemon.check()
        return sum(daemon.cpu_seconds() for daemon in self._daemons)


class Subject:
    """One run of a program that is measured, from its start to its end.

    Attributes:
        began: When it was started, as the time of day in seconds.
        seconds: How long it took.
        cpu_seconds: Its own, in user and system mode.
        peak_mib: The largest its resident set was.
        servers_busy: The share of their core that the servers and the wire used meanwhile.
    """

    def __init__(
        self,
        world: CheckWorld,
        command: Sequence[str],
        env: dict[str, str],
        *,
        kill_when: Callable[[], bool] | None = None,
    ) -> None:
        pinned = world.settings.prefix(world.settings.daemon_cpu)
        log = world.settings.work / "check-subject.log"
        before, started = world.cpu_seconds(), time.monotonic()
        self.began = time.time()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*pinned, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
            )
            self.peak_mib = _watch(process.pid, kill_when)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.seconds = time.monotonic() - started
        self.cpu_seconds = usage.ru_utime + usage.ru_stime
        self.servers_busy = (world.cpu_seconds() - before) / self.seconds
        self.exit_code = process.returncode
        self.log = log.read_text(errors="replace")[-2000:]


def _watch(pid: int, kill_when: Callable[[], bool] | None) -> float:
    """Wait for the end of a child, leaving it to be collected; the peak of its resident set, MiB.

    `ru_maxrss` would count what the parent had before the child began as itself.
    """
    peak = 0.0
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peak = max(peak, int(line.split()[1]) / 1024)
        if kill_when is not None and kill_when():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return peak
