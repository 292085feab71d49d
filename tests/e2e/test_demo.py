# SPDX-License-Identifier: Apache-2.0
"""`strictmail lab demo` with a real Postfix, on a machine on which Postfix is installed.

That machine is this one with the Postfix of a Debian root laid under or over its own files, in a
mount namespace of the test: nothing is installed, nothing written.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from .world import CHECKOUT, check_machine, root_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

DEADLINE_SECONDS: Final = 180.0

LAYERS: Final = {"bookworm": "/usr:{root}/usr", "trixie": "{root}/usr:/usr"}
"""The newer libraries must win: Debian 12 is the oldest machine that the tests run on."""

SCRIPT: Final = """
set -e
mount -t overlay -o ro,lowerdir={layers} usr /usr
mount -t overlay -o ro,lowerdir=/etc:{root}/etc etc /etc
mount --bind {root}/etc/passwd /etc/passwd
mount --bind {root}/etc/group /etc/group
exec "$@"
"""


@pytest.fixture
def room() -> Iterator[Path]:
    """Where the demo makes its temporary directory."""
    directory = Path(tempfile.mkdtemp(prefix="demo-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def start(root: str, room: Path) -> subprocess.Popen[str]:
    check_machine()
    path = root_of(root)
    script = SCRIPT.format(root=path, layers=LAYERS[root].format(root=path))
    demo = [sys.executable, "-m", "strictmail", "lab", "demo"]
    return subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *demo],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "TMPDIR": str(room),
            "COLUMNS": "150",
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(CHECKOUT / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        start_new_session=True,
    )


def left_behind(room: Path) -> list[str]:
    """Files and processes that are still there."""
    found = [str(path) for path in room.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if str(room) in words:
            found.append(f"{process.name}: {words}")
    return found


@pytest.mark.parametrize(
    ("root", "version"), [("bookworm", r"3\.7\.\d+"), ("trixie", r"3\.10\.\d+")]
)
def test_with_postfix(root: str, version: str, room: Path) -> None:
    resolv_conf = Path("/etc/resolv.conf").read_text()
    with start(root, room) as demo:
        output, _ = demo.communicate(timeout=DEADLINE_SECONDS)
    assert demo.returncode == 0, output
    text = " ".join(output.split())
    assert re.search(rf"Postfix {version}, with a configuration of its own", text), output
    # 25 domains, and six steps in the life of a policy.
    assert "31 of 31 verdicts are good" in text, output
    for words in ("arrives over verified TLS", "nobody verified", "waits: Server certificate"):
        assert words in text, output
    assert Path("/etc/resolv.conf").read_text() == resolv_conf
    assert left_behind(room) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_of_it(number: signal.Signals, room: Path) -> None:
    with start("bookworm", room) as demo:
        assert demo.stdout is not None
        next(line for line in demo.stdout if "arrives over" in line)
        if number is signal.SIGINT:
            os.killpg(demo.pid, number)  # as a terminal does
        else:
            demo.send_signal(number)
        demo.stdout.read()
        assert demo.wait(DEADLINE_SECONDS) != 0
    assert left_behind(room) == []
