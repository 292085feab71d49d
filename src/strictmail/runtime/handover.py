# SPDX-License-Identifier: Apache-2.0
"""Hand the sockets of a running daemon to its successor, so that nothing is lost.

The running daemon listens on a unix socket in its state directory. A successor connects, gets
the names and descriptors of all sockets in one message, opens its cache, starts to accept and to
drain, and says `ready`; only then does the predecessor stop. Connections made in between wait in
the shared backlog, datagrams in the shared queue, which both may read. Under systemd, socket units
do the same job.

Several daemons may share a state directory as long as they share no role: the name of the unix
socket says which roles a daemon runs (`socket_name`). A successor replaces every daemon whose roles
it all runs itself; one that runs more is not replaced, for the rest would be left without anybody.

Only root and the daemon's own user may connect (SO_PEERCRED).
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import itertools
import json
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

SOCKET_NAME: Final = "handover.sock"
"""Of a daemon that is a resolver and nothing else."""

FIRST_ROLE: Final = "resolver"
MAX_SOCKETS: Final = 64
READY: Final = b"ready"
TAKE_SECONDS: Final = 10.0
ACCEPT_AGAIN_SECONDS: Final = 1.0


def socket_name(roles: Iterable[str]) -> str:
    """The name of the hand-over socket of a daemon with these roles."""
    named = sorted(set(roles))
    return SOCKET_NAME if named == [FIRST_ROLE] else f"handover-{'-'.join(named)}.sock"


def find_running(
    directory: Path, roles: Iterable[str], known: Iterable[str]
) -> list[tuple[frozenset[str], Path]]:
    """The daemons of a state directory that run any of these roles.

    Args:
        directory: The state directory.
        roles: Those that are looked for.
        known: All roles there are.

    Returns:
        The roles of each, and its hand-over socket.
    """
    wanted, names = set(roles), sorted(known)
    found = []
    for size in range(1, len(names) + 1):
        for some in itertools.combinations(names, size):
            path = directory / socket_name(some)
            if wanted & set(some) and is_running(path):
                found.append((frozenset(some), path))
    return found


class HandoverServer:
    """The predecessor's side.

    Args:
        path: Of the unix socket; an old one is replaced.
        sockets: Name -> socket, as they are at the moment somebody asks.
        on_taken: Called once when a successor is ready: drain and stop.
    """

    def __init__(
        self,
        path: Path,
        sockets: Callable[[], Mapping[str, socket.socket]],
        on_taken: Callable[[], None],
    ) -> None:
        self._path = path
        self._sockets = sockets
        self._on_taken = on_taken
        self._listening: socket.socket | None = None
        self._place: tuple[int, int] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: The directory cannot be written; the daemon runs on without hand-over.
        """
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        temporary = self._path.with_suffix(f".{os.getpid()}")
        old_mask = os.umask(0o177)
        try:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            with _short_name(temporary) as name:
                listening.bind(name)
            listening.listen(1)
            status = temporary.lstat()
            self._place = status.st_dev, status.st_ino
            temporary.replace(self._path)
        except OSError:
            listening.close()
            raise
        finally:
            os.umask(old_mask)
        self._listening = listening
        self._task = asyncio.get_running_loop().create_task(self._serve(listening))

    async def stop(self) -> None:
        """Stop listening; the path goes, unless a successor has put its own socket there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._listening is not None:
            with contextlib.suppress(OSError):
                status = self._path.lstat()
                # While our socket is open, no other file can have its number.
                if (status.st_dev, status.st_ino) == self._place:
                    self._path.unlink()
            self._listening.close()
            self._listening = None

    async def _serve(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                peer, _ = await loop.sock_accept(listening)
            except OSError:
                await asyncio.sleep(ACCEPT_AGAIN_SECONDS)  # out of descriptors, most likely
                continue
            with peer:
                if await self._hand_over(loop, peer):
                    self._on_taken()
                    return

    async def _hand_over(self, loop: asyncio.AbstractEventLoop, peer: socket.socket) -> bool:
        if _peer_uid(peer) not in (0, os.geteuid()):
            return False
        sockets = self._sockets()
        names = json.dumps(list(sockets)).encode()
        fds = array.array("i", [s.fileno() for s in sockets.values()])
        try:
            peer.sendmsg([names], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            answer = await asyncio.wait_for(loop.sock_recv(peer, len(READY)), TAKE_SECONDS * 6)
        except (OSError, TimeoutError):
            return False
        return answer == READY


class Taken:
    """The successor's side: the sockets it got, and the word it owes.

    Attributes:
        sockets: Name -> socket.
    """

    def __init__(self, channel: socket.socket, sockets: dict[str, socket.socket]) -> None:
        self._channel = channel
        self.sockets = sockets

    def ready(self) -> None:
        """Tell the predecessor that this process accepts now: it drains and goes."""
        with contextlib.suppress(OSError), self._channel:
            self._channel.sendall(READY)

    def close(self) -> None:
        """Give up: the predecessor goes on as before."""
        self._channel.close()


def take_over(path: Path) -> Taken | None:
    """Ask a running daemon for its sockets; None when none is running.

    Raises:
        UnreachableError: One is there and did not hand them over.
    """
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    channel.settimeout(TAKE_SECONDS)
    try:
        with _short_name(path) as name:
            channel.connect(name)
    except (FileNotFoundError, ConnectionRefusedError):
        channel.close()
        return None
    except OSError as error:
        channel.close()
        raise UnreachableError(f"{path}: {error.strerror or error}") from error
    try:
        names, fds, _, _ = socket.recv_fds(channel, 65536, MAX_SOCKETS)
    except OSError as error:
        channel.close()
        raise UnreachableError(
            f"{path}: no sockets handed over ({error}); is another successor starting?"
        ) from error
    if not names:
        channel.close()
        raise UnreachableError(
            f"{path}: the running daemon refused: it is another user's, or another successor "
            "has just replaced it"
        )
    sockets = {
        name: socket.socket(fileno=fd) for name, fd in zip(json.loads(names), fds, strict=True)
    }
    return Taken(channel, sockets)


def is_running(path: Path) -> bool:
    """Whether a daemon answers at this hand-over socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            with _short_name(path) as name:
                probe.connect(name)
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """The path in a form that fits into a socket address, however long the directory's is."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _peer_uid(peer: socket.socket) -> int:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
