# SPDX-License-Identifier: Apache-2.0
"""Who takes part in the demo, started and ended in order.

With Postfix all of it lives in namespaces of its own, on the real ports; without, on free ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strictmail.cli.demo.daemon import DemoDaemon
from strictmail.cli.exitcodes import ExitCode
from strictmail.lab import seclusion
from strictmail.lab.net import Lab, LabPorts
from strictmail.lab.sender import (
    Postfix,
    dialect_for,
    find_postfix,
    installed_version,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

REAL_PORTS: Final = LabPorts(dns=53, https=443, smtp=25)
MAX_ROOM_LENGTH: Final = 60
"""Of the 107 octets of a socket's path, what the names below leave (unix(7))."""

HOW_TO_SEND: Final = "to see a real Postfix send: `apt install postfix`, then `sudo make demo`"


@dataclass(frozen=True, slots=True)
class Stage:
    """All that takes part, running.

    Attributes:
        postfix: None where nothing is sent.
        version: Of Postfix, or "".
        dialect: What Postfix is answered in.
        missing: Why nothing is sent, or "".
    """

    lab: Lab
    daemon: DemoDaemon
    postfix: Postfix | None
    version: str
    dialect: str
    missing: str


def run_demo(*, everything: bool, may_send: bool) -> int:
    """Tell the story, with Postfix where that is possible.

    Args:
        everything: The whole zoo, not a selection.
        may_send: Whether Postfix is used if it is there.

    Returns:
        FAILURE if anything was not as the zoo says.
    """
    with tempfile.TemporaryDirectory(prefix="strictmail-demo-", dir=_room()) as name:
        # Postfix's own user has to find the socket in there; the lab keeps its keys to itself.
        Path(name).chmod(0o755)
        missing = why_not_send() if may_send else "--no-postfix"
        if missing:
            return asyncio.run(_perform(Path(name), everything=everything, missing=missing))
        words = ["lab", "demo", "--inside", name, *(["--all"] if everything else [])]
        return seclusion.run_secluded([sys.executable, "-m", "strictmail", *words])


def _room() -> str | None:
    """Where a temporary directory's sockets have short enough paths; None: the usual place."""
    return None if len(tempfile.gettempdir()) <= MAX_ROOM_LENGTH else "/tmp"  # noqa: S108


def run_inside(directory: Path, *, everything: bool) -> int:
    """Tell the story as the first process of fresh namespaces, where root may do anything."""
    seclusion.settle_in(directory, "127.0.0.1")
    return asyncio.run(_perform(directory, everything=everything, missing=""))


def why_not_send() -> str:
    """Why Postfix cannot send here and what to do about it; "": it can."""
    if find_postfix() is None:
        return f"Postfix is not installed; {HOW_TO_SEND}"
    reason = seclusion.why_not()
    return f"{reason}; {HOW_TO_SEND}" if reason else ""


async def _perform(directory: Path, *, everything: bool, missing: str) -> int:
    """Set the stage, tell the story, clear up: also on Ctrl-C and SIGTERM."""
    from strictmail.cli.demo.story import Story

    with _stop_signals(inside=not missing):
        try:
            async with _open_stage(directory, missing) as stage:
                return await Story(stage, everything=everything).tell()
        except asyncio.CancelledError:
            return ExitCode.INTERRUPTED


@contextlib.contextmanager
def _stop_signals(*, inside: bool) -> Iterator[None]:
    """Cancel the running task on a signal and, inside, when whoever started this has gone."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in seclusion.STOP_SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    if inside:
        # The other end writes nothing: it speaks by closing.
        loop.add_reader(sys.stdin.fileno(), _gone, task)
    try:
        yield
    finally:
        for number in seclusion.STOP_SIGNALS:
            loop.remove_signal_handler(number)
        if inside:
            loop.remove_reader(sys.stdin.fileno())


def _gone(task: asyncio.Task[object]) -> None:
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    task.cancel()


@asynccontextmanager
async def _open_stage(directory: Path, missing: str) -> AsyncIterator[Stage]:
    """Start everybody; everything ends with the block."""
    ports = LabPorts() if missing else REAL_PORTS
    async with Lab(ports=ports, directory=directory / "lab") as lab, AsyncExitStack() as stack:
        version = "" if missing else installed_version()
        dialect = dialect_for(version)
        daemon = DemoDaemon(directory, lab, dialect=dialect)
        stack.push_async_callback(daemon.stop)
        await daemon.start()
        postfix = None
        if not missing:
            home = directory / "postfix"
            postfix = Postfix(home, ca_file=lab.ca_file, socketmap=daemon.socketmap)
            stack.push_async_callback(asyncio.to_thread, postfix.stop)
            await asyncio.to_thread(postfix.start)
        yield Stage(lab, daemon, postfix, version, dialect, missing)
