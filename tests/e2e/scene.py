# SPDX-License-Identifier: Apache-2.0
"""The lab, real name servers and strictmail in one world: what every end-to-end test starts from.

The lab's MX hosts and policy hosts run in a thread of the test process that has moved into the
world's network; its zones are served by knot and validated by unbound. Expectations are the
zoo's: they come from the requirements and are only compared here.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from strictmail.lab.net import Lab, LabPorts

from .daemon import Daemon
from .nameservers import NameServers
from .world import READY_SECONDS, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from strictmail.lab.net import ReceivedMessage, SeenRecipient
    from strictmail.lab.zoo import Outcome, ZooEntry

T = TypeVar("T")

RECEIVED_WORDS: Final = {True: "over TLS", False: "in the clear"}


def expected(entry: ZooEntry, dialect: str, *, dane: bool) -> Outcome:
    """What the zoo expects of a sender that is answered in `dialect`."""
    for departure in entry.departs:
        if dialect in departure.dialects:
            return departure.outcome
    return entry.expect.dane if dane else entry.expect.plain


def received_text(messages: Sequence[ReceivedMessage]) -> str:
    """What MX hosts took, for people."""
    return "\n".join(f"  {m.host} {RECEIVED_WORDS[m.tls]}" for m in messages) or "  nothing"


class LabThread:
    """The lab, with an event loop of its own inside a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._down = asyncio.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="lab")
        self.lab: Lab

    def start(self) -> None:
        """Start it; returns when everybody listens."""
        self._thread.start()
        assert self._up.wait(READY_SECONDS), "the lab does not start"
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._down.set)
        self._thread.join(READY_SECONDS)

    def _run(self) -> None:
        try:
            self._world.enter_network()
            self._loop.run_until_complete(self._live())
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the start
            self._error = error
        finally:
            self._up.set()
            self._loop.close()

    async def _live(self) -> None:
        async with Lab(ports=LabPorts(https=443, smtp=25), dns=False) as self.lab:
            self._up.set()
            await self._down.wait()

    def do(self, action: Callable[[Lab], T]) -> T:
        """Run `action(lab)` in the lab's own thread and return its result."""

        async def call() -> T:
            return action(self.lab)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(READY_SECONDS)


@dataclass(slots=True)
class Scene:
    """Everything around an MTA."""

    world: World
    lab: LabThread
    nameservers: NameServers
    daemon: Daemon
    ca_file: str

    def received(self, recipient: str | None = None) -> list[ReceivedMessage]:
        """What MX hosts took so far, all or for one recipient."""
        messages = self.lab.do(lambda lab: list(lab.messages))
        return [m for m in messages if recipient is None or recipient in m.recipients]

    def named(self, recipient: str) -> list[SeenRecipient]:
        """Where a recipient was named to an MX host, whether or not a message followed."""
        seen = self.lab.do(lambda lab: list(lab.recipients))
        return [one for one in seen if one.recipient == recipient]


@contextlib.contextmanager
def open_scene(
    name: str,
    roots: Sequence[str],
    *,
    warm: Sequence[ZooEntry] = (),
    dialect: str = "postfix",
    extra: str = "",
) -> Iterator[Scene]:
    """Set the scene: lab, name servers, strictmail, all ready.

    Args:
        name: For the scratch directory.
        roots: Debian roots needed besides the one with the name servers.
        warm: What strictmail is asked for, in `dialect`, before anything else: so that nothing
            that follows depends on how fast the slow policy hosts of the zoo are.
        dialect: See `warm`.
        extra: More of strictmail's configuration.
    """
    with World(name, ["bookworm", *(root for root in roots if root != "bookworm")]) as world:
        lab = LabThread(world)
        lab.start()
        try:
            ca_file = world.write("lab-ca.pem", Path(lab.lab.ca_file).read_text())
            nameservers = NameServers(world, lab.lab)
            nameservers.start()
            daemon = Daemon(world, str(ca_file), extra)
            daemon.start()
            daemon.ask_all([entry.domain for entry in warm], dialect)
            yield Scene(world, lab, nameservers, daemon, str(ca_file))
        finally:
            lab.stop()
