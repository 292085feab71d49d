# SPDX-License-Identifier: Apache-2.0
"""A small machine to run real daemons in: its own network, mounts and processes.

Knows namespaces, roots and waiting; knows nothing of mail or DNS. One process, the keeper, holds
the namespaces; when it goes (also because the test run was killed: its standard input ends),
the kernel ends everything inside. Nothing of it is visible outside but one directory under /tmp.

The daemons come from Debian roots that `scripts/setup-e2e` builds under `.cache/e2e`. Inside, each
root sees the same /tmp, so that a path means the same to a daemon and to the tests.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self, TypeVar

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator, Mapping, Sequence

T = TypeVar("T")

CHECKOUT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = CHECKOUT / ".cache" / "e2e"
CLONE_NEWNET: Final = 0x40000000
POLL_SECONDS: Final = 0.02
READY_SECONDS: Final = 30.0
"""Deadline for a daemon to be there: reached only by one that never will be."""
COMMAND_SECONDS: Final = 60.0


class EnvironmentMissingError(Exception):
    """The machine lacks something the tests need; the message says what to do about it."""


class DeadlineError(AssertionError):
    """What was waited for did not happen; the message carries what was seen instead."""


def wait_until(
    condition: Callable[[], T | None], what: str, *, seconds: float, seen: Callable[[], str] = str
) -> T:
    """Wait until `condition()` gives something true, and return that.

    Args:
        condition: Asked again and again.
        what: What is waited for, for the message.
        seconds: The deadline; long, because it only decides how late a failure is told.
        seen: What to show when it is not met.

    Raises:
        DeadlineError: The deadline passed.
    """
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        if result := condition():
            return result
        if time.monotonic() > deadline:
            raise DeadlineError(f"after {seconds:g} s still waiting for {what}\n{seen()}")
        pause.wait(POLL_SECONDS)


def root_of(name: str) -> Path:
    """Return the Debian root `name`.

    Raises:
        EnvironmentMissingError: It was not built.
    """
    root = CACHE / name
    if not (root / ".complete").exists():
        raise EnvironmentMissingError(f"{root} is missing or incomplete: run scripts/setup-e2e")
    return root


def check_machine() -> None:
    """Check that namespaces can be made.

    Raises:
        EnvironmentMissingError: They cannot.
    """
    if os.geteuid() != 0:
        raise EnvironmentMissingError(
            "the end-to-end tests make network namespaces and need root: sudo -n make e2e"
        )
    for program in ("unshare", "nsenter", "ip", "mount", "chroot"):
        if shutil.which(program) is None:
            raise EnvironmentMissingError(f"{program} is not installed: run scripts/setup-e2e")


def set_network(pid: int) -> None:
    """Move the calling thread into the network of process `pid`."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"setns: {os.strerror(code)}")


def children_of(pid: int) -> list[int]:
    """Return the pids of the direct children of `pid`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # pid (name) state ppid: the name may hold blanks and parentheses.
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


class Process:
    """A program that runs in the world; its output is in the file `output`."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], output: Path) -> None:
        self.name = name
        self.output = output
        self._popen = popen

    @property
    def pid(self) -> int:
        """The pid of the program itself (its parent, nsenter, only waits for it)."""

        def find() -> int | None:
            if self._popen.poll() is not None:
                raise DeadlineError(f"{self.name} has ended\n{self.tail()}")
            return next(iter(children_of(self._popen.pid)), None)

        return wait_until(find, f"{self.name} to start", seconds=READY_SECONDS)

    def is_running(self) -> bool:
        """Tell whether it has not ended."""
        return self._popen.poll() is None

    def kill(self, how: signal.Signals) -> None:
        """Send a signal to the program."""
        os.kill(self.pid, how)

    def wait(self, seconds: float = READY_SECONDS) -> int:
        """Wait for its end; returns the exit status."""
        return self._popen.wait(seconds)

    def tail(self, lines: int = 40) -> str:
        """Return its last lines of output."""
        with contextlib.suppress(OSError):
            return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])
        return ""


class World:
    """Namespaces with a loopback interface, and what runs in them.

    Attributes:
        directory: Scratch directory, the same path inside and outside; removed at the end.
    """

    def __init__(self, name: str, roots: Sequence[str] = ("bookworm",)) -> None:
        self.name = name
        self.directory = Path()
        self._root_names = tuple(roots)
        self._keeper: subprocess.Popen[bytes] | None = None
        self._network: ThreadPoolExecutor | None = None
        self._processes: list[Process] = []
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        check_machine()
        roots = [root_of(name) for name in self._root_names]
        self.directory = Path(tempfile.mkdtemp(prefix=f"strictmail-e2e-{self.name}-", dir="/tmp"))
        self.directory.chmod(0o755)
        try:
            self._start_keeper(roots)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._network is not None:
            self._network.shutdown()
        if self._keeper is not None:
            self._keeper.communicate()  # End of its input: it leaves, and all others with it.
        for process in self._processes:
            process.wait()
        for file in self._files:
            file.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _start_keeper(self, roots: Sequence[Path]) -> None:
        steps = ["set -e", "trap '' CHLD", "ip link set lo up"]
        for root in roots:
            steps += [
                f"mount --bind /tmp '{root}/tmp'",
                # A /dev of its own: whoever logs to /dev/log must not find this machine's.
                f"mount -t tmpfs -o mode=755 dev '{root}/dev'",
                f"ln -s '{self.directory}/syslog' '{root}/dev/log'",
                *(
                    f"touch '{root}/dev/{node}'; mount --bind /dev/{node} '{root}/dev/{node}'"
                    for node in ("null", "zero", "random", "urandom")
                ),
                f"ln -s /proc/self/fd '{root}/dev/fd'",
                f"mount -t proc proc '{root}/proc'",
            ]
        steps += [f"echo up > '{self.directory}/up'", "exec cat"]
        flags = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        log = self._open("keeper.log")
        self._keeper = subprocess.Popen(
            ["unshare", *flags, "--propagation", "private", "sh", "-c", "\n".join(steps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        keeper = self._keeper

        def is_up() -> bool:
            if keeper.poll() is not None:
                said = (self.directory / "keeper.log").read_text()
                raise EnvironmentMissingError(f"no namespaces on this machine: {said.strip()}")
            return (self.directory / "up").exists()

        wait_until(is_up, "the namespaces", seconds=READY_SECONDS)
        self._inner = children_of(keeper.pid)[0]
        self._network = ThreadPoolExecutor(
            1, f"net-{self.name}", initializer=set_network, initargs=(self._inner,)
        )

    def _open(self, name: str) -> IO[bytes]:
        file = (self.directory / name).open("ab")
        self._files.append(file)
        return file

    def root(self, name: str) -> Path:
        """Where the Debian root `name` is, seen from inside."""
        return root_of(name)

    def _enter(self, root: str | None) -> list[str]:
        inside = ["nsenter", "-t", str(self._inner), "-n", "-m", "-p", "--"]
        return inside if root is None else [*inside, "chroot", str(root_of(root))]

    def enter_network(self) -> None:
        """Move the calling thread into this world's network, for good."""
        set_network(self._inner)

    def open_socket(self) -> socket.socket:
        """Return a new TCP socket that lives in this world's network."""
        assert self._network is not None
        return self._network.submit(socket.socket).result()

    def connect(self, address: tuple[str, int], timeout: float = 10.0) -> socket.socket:
        """Return a socket connected to an address in this world."""
        connection = self.open_socket()
        try:
            connection.settimeout(timeout)
            connection.connect(address)
        except BaseException:
            connection.close()
            raise
        return connection

    def accepts(self, address: tuple[str, int]) -> bool:
        """Tell whether somebody listens there."""
        with contextlib.suppress(OSError), self.connect(address):
            return True
        return False

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        root: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a program inside and leave it running.

        Args:
            name: For messages and the file with its output.
            command: Program and arguments.
            root: The Debian root it lives in; None: this machine's own files.
            environment: Variables on top of a bare PATH.
        """
        log = self._open(f"{name}.out")
        popen = subprocess.Popen(
            [*self._enter(root), *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self._environment(environment),
        )
        process = Process(name, popen, self.directory / f"{name}.out")
        self._processes.append(process)
        return process

    def run(
        self,
        command: Sequence[str | Path],
        *,
        root: str | None = None,
        environment: Mapping[str, str] | None = None,
        text: str = "",
    ) -> str:
        """Run a program inside to its end and return what it wrote.

        Raises:
            AssertionError: It failed; the message has its output.
        """
        done = subprocess.run(
            [*self._enter(root), *map(str, command)],
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment(environment),
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}: exit status {done.returncode}\n{done.stdout}"
        return done.stdout

    @staticmethod
    def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "LC_ALL": "C.UTF-8", "HOME": "/root", **(extra or {})}

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Write a file into the directory and return its path."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def processes(self) -> Iterator[Process]:
        """Everything that was started and left running."""
        yield from self._processes
