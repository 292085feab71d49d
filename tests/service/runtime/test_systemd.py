# SPDX-License-Identifier: Apache-2.0
"""sd_notify and passed sockets, against a socket that plays the service manager."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from strictmail.core.errors import ConfigError
from strictmail.runtime.addresses import InetSocket, SystemdSocket, UnixSocket
from strictmail.runtime.notify import Notifier, passed_sockets, watchdog_seconds
from strictmail.runtime.sockets import open_socket

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("abstract", [False, True])
def test_what_the_manager_hears(tmp_path: Path, abstract: bool) -> None:
    name = f"@strictmail-test-{tmp_path.name}-{id(tmp_path)}" if abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        notifier = Notifier.from_environ({"NOTIFY_SOCKET": name})
        assert notifier.ready("two\nlines")
        assert manager.recv(1000) == b"READY=1\nSTATUS=two lines"
        assert notifier.reloading()
        reloading, monotonic = manager.recv(1000).decode().split("\n")
        assert reloading == "RELOADING=1"
        assert int(monotonic.removeprefix("MONOTONIC_USEC=")) > 0
        assert notifier.watchdog()
        assert manager.recv(1000) == b"WATCHDOG=1"
        assert notifier.stopping("x")
        assert manager.recv(1000) == b"STOPPING=1\nSTATUS=x"
        assert notifier.status("y")
        assert manager.recv(1000) == b"STATUS=y"


def test_nobody_listens(tmp_path: Path) -> None:
    assert not Notifier().ready()
    assert not Notifier(str(tmp_path / "absent")).ready()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
    ],
)
def test_watchdog(environ: dict[str, str], expected: float | None) -> None:
    assert watchdog_seconds(environ, pid=7) == expected


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "8"},
        {"LISTEN_FDS": "x", "LISTEN_PID": "7"},
        {"LISTEN_FDS": "99999", "LISTEN_PID": "7"},
    ],
)
def test_nothing_was_passed_to_us(environ: dict[str, str]) -> None:
    assert passed_sockets(environ, pid=7) == {}


CHILD = """
import os
from strictmail.runtime.notify import passed_sockets
from strictmail.runtime.sockets import open_socket
from strictmail.runtime.addresses import SystemdSocket
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "postfix"}
passed = passed_sockets(environ)
print(sorted(passed), os.get_inheritable(3))
print(open_socket(SystemdSocket("postfix"), passed=passed).getsockname()[1])
"""


def test_passed_sockets_are_taken_by_name() -> None:
    # A child of its own, since the numbers of the descriptors are fixed.
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        script = (
            f"import os; a, b = os.dup({first.fileno()}), os.dup({second.fileno()});"
            "os.dup2(a, 3); os.dup2(b, 4)\n" + CHILD
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            pass_fds=(first.fileno(), second.fileno()),
            capture_output=True,
            text=True,
            check=True,
        )
        port = first.getsockname()[1]
    assert done.stdout.split("\n")[:2] == ["['postfix', 'unknown'] False", str(port)]


def test_a_socket_that_was_not_passed() -> None:
    with pytest.raises(
        ConfigError, match=r"no socket named postfix .passed: other.*FileDescriptor"
    ):
        open_socket(SystemdSocket("postfix"), passed={"other": []})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_socket_that_systemd_holds_is_found_by_its_address(host: str) -> None:
    with open_socket(InetSocket(host, 0)) as other, open_socket(InetSocket(host, 0)) as held:
        passed = {"a": [other], "b": [held]}
        port = held.getsockname()[1]
        assert open_socket(InetSocket(host, port), passed=passed) is held
        assert passed == {"a": [other], "b": []}


def test_a_unix_socket_that_systemd_holds_is_found_by_its_path(tmp_path: Path) -> None:
    address = UnixSocket(str(tmp_path / "s"))
    with open_socket(address) as held:
        assert open_socket(address, passed={"x": [held]}) is held


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_inet(host: str) -> None:
    with open_socket(InetSocket(host, 0)) as sock:
        assert not sock.getblocking()
        port = sock.getsockname()[1]
        with pytest.raises(ConfigError, match=r"cannot listen on inet:.*in use"):
            open_socket(InetSocket(host, port))


def test_a_unix_socket_has_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with open_socket(UnixSocket(str(path)), mode=0o620):
        assert path.stat().st_mode & 0o777 == 0o620
        with pytest.raises(ConfigError, match="another process is listening"):
            open_socket(UnixSocket(str(path)))
    # The file is left behind, as after a crash: it is in nobody's way.
    with open_socket(UnixSocket(str(path))):
        pass


def test_a_file_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="no socket is there"):
        open_socket(UnixSocket(str(path)))
    assert path.read_text() == "precious"


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        open_socket(UnixSocket(str(tmp_path / "absent" / "s")))
