# SPDX-License-Identifier: Apache-2.0
"""A network, mounts and processes of one's own: the lab on the real ports, nothing outside touched.

A program is run again inside fresh Linux namespaces. It is the first process there, so that the
kernel ends everything inside as soon as it goes, however it goes. Its standard input tells it
whether whoever started it still lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

UNSHARE: Final = (
    *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"),
    *("--mount-proc", "--propagation", "private"),
)
RESOLV_CONF: Final = "/etc/resolv.conf"
SYSLOG_SOCKET: Final = "/dev/log"
GOODBYE_SECONDS: Final = 15.0
"""What an orderly end may take before the kernel is asked for a quick one."""

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
TRY_SECONDS: Final = 10.0
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_IFREQ: Final = struct.Struct("16sH22x")
"""`struct ifreq` with the flags member of its union (netdevice(7))."""


def why_not() -> str | None:
    """Why `run_secluded` cannot work here, as an end of a sentence; None: it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "it takes root's rights"
    for program in ("unshare", "mount"):
        if shutil.which(program) is None:
            return f"{program} (util-linux) is not installed"
    if not Path(RESOLV_CONF).exists():
        return f"there is no {RESOLV_CONF} to put another one in front of"
    try:
        tried = subprocess.run(  # noqa: S603 - constant words
            [*UNSHARE, "true"], capture_output=True, text=True, timeout=TRY_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no namespaces can be made: {error}"
    if tried.returncode != 0:
        return f"no namespaces can be made: {tried.stderr.strip() or tried.returncode}"
    return None


def run_secluded(command: Sequence[str]) -> int:
    """Run a program in namespaces of its own, and wait until all in them has ended.

    SIGTERM, SIGHUP and Ctrl-C end it in order: its standard input ends, and after `GOODBYE_SECONDS` the
    kernel kills what is left.

    Returns:
        Its exit status.

    Raises:
        KeyboardInterrupt: Ctrl-C ended the waiting.
        SystemExit: Another signal did.
    """
    previous = {number: signal.signal(number, _raise_exit) for number in STOP_SIGNALS}
    child = subprocess.Popen([*UNSHARE, *command], stdin=subprocess.PIPE)  # noqa: S603 - ours
    try:
        return child.wait()
    finally:
        assert child.stdin is not None
        child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            child.wait(GOODBYE_SECONDS)
        child.kill()
        child.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _raise_exit(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def settle_in(directory: Path, name_server: str) -> None:
    """Make a home of fresh namespaces: loopback up, the lab's resolver, no way to syslog.

    Args:
        directory: Where the files that are put in front of others live.
        name_server: The address of the resolver, port 53.

    Raises:
        OSError: The kernel refuses.
    """
    _bring_up("lo")
    resolv_conf = directory / "resolv.conf"
    # glibc passes the AD bit on to Postfix only if it is told to trust it (resolv.conf(5)).
    resolv_conf.write_text(f"nameserver {name_server}\noptions trust-ad edns0\n", encoding="ascii")
    _put_before(resolv_conf, RESOLV_CONF)
    if Path(SYSLOG_SOCKET).exists():
        nobody = directory / "no-syslog"
        nobody.touch()
        _put_before(nobody, SYSLOG_SOCKET)


def _put_before(file: Path, place: str) -> None:
    """Bind-mount a file over another, in this mount namespace only."""
    done = subprocess.run(  # noqa: S603 - paths of ours
        ["mount", "--bind", str(file), str(Path(place).resolve())],  # noqa: S607 - found by root's PATH
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise OSError(f"{place}: {done.stderr.strip()}")


def _bring_up(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name = interface.encode("ascii")
        reply = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _IFREQ.pack(name, 0))
        flags = _IFREQ.unpack(reply)[1] | _IFF_UP
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ.pack(name, flags))
