# SPDX-License-Identifier: Apache-2.0
"""Where reports arrive: a Postfix with a mailbox, and an HTTPS endpoint, both in a world."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .world import READY_SECONDS, wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from pathlib import Path

    from .world import World

MAIL_ADDRESS: Final = "127.99.0.1"
WEB_ADDRESS: Final = "127.99.0.2"
OWNER: Final = 65534

MAIN_CF: Final = """\
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
maillog_file = {directory}/mail.log
maillog_file_prefixes = {directory}
myhostname = mx.reports.test
mydestination =
alias_maps =
alias_database =
inet_interfaces = {address}
inet_protocols = ipv4
mynetworks = {address}/32
smtpd_relay_restrictions = reject_unauth_destination
smtpd_client_connection_count_limit = 0
smtpd_tls_chain_files = {certificates}
smtpd_tls_security_level = may
virtual_mailbox_domains = reports.test
virtual_mailbox_base = {directory}/boxes
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:{owner}
virtual_gid_maps = static:{owner}
virtual_minimum_uid = 1
smtp_dns_support_level = disabled
"""

MASTER_CF: Final = """\
{address}:25 inet n - n - - smtpd
pickup unix n - n 3600? 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Mailbox:
    """A Postfix that takes mail for reports.test into one mailbox.

    Args:
        world: Where it lives.
        chain_files: Its certificate, key first or apart, as Postfix wants them.
        root: The Debian root whose Postfix it is.
    """

    def __init__(self, world: World, chain_files: Sequence[Path], root: str = "bookworm") -> None:
        self._world = world
        self._root = root
        self._directory = world.directory / "mailbox"
        certificates = ", ".join(map(str, chain_files))
        main = MAIN_CF.format(
            directory=self._directory,
            address=MAIL_ADDRESS,
            owner=OWNER,
            certificates=certificates,
        )
        world.write("mailbox/etc/main.cf", main)
        world.write("mailbox/etc/master.cf", MASTER_CF.format(address=MAIL_ADDRESS))
        world.write("mailbox/etc/dynamicmaps.cf", "")

    def start(self) -> None:
        """Start it; returns when it takes mail."""
        # Postfix listens only where an interface has just this address.
        self._world.run(["ip", "address", "add", f"{MAIL_ADDRESS}/32", "dev", "lo"])
        boxes = self._directory / "boxes"
        boxes.mkdir()
        os.chown(boxes, OWNER, OWNER)
        own = f"install -d -o postfix {self._directory}/data && install -d {self._directory}/spool"
        self._world.run(["sh", "-c", own], root=self._root)
        self._world.run(["postfix", "-c", self._directory / "etc", "start"], root=self._root)
        wait_until(
            lambda: self._world.accepts((MAIL_ADDRESS, 25)),
            "the mailbox",
            seconds=READY_SECONDS,
            seen=self.log,
        )

    def log(self) -> str:
        """What it has logged."""
        file = self._directory / "mail.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def messages(self) -> list[bytes]:
        """What has arrived, CRLF at line ends, without what the delivery put on top."""
        files = (self._directory / "boxes" / "all" / "new").glob("*")
        return [_as_sent(file.read_bytes()) for file in files]


def _as_sent(octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@dataclass
class Endpoint:
    """An HTTPS server for POST, on a thread in the world.

    Attributes:
        taken: Path, media type and body of each request.
    """

    world: World
    context: ssl.SSLContext
    taken: list[tuple[str, str, bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start it; returns when it listens."""
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="endpoint", daemon=True)
        self._thread.start()
        assert self._up.wait(READY_SECONDS)

    def stop(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(READY_SECONDS)

    def _run(self) -> None:
        self.world.enter_network()
        self._loop.run_until_complete(self._live())
        self._loop.close()

    async def _live(self) -> None:
        server = await asyncio.start_server(self._serve, WEB_ADDRESS, 443, ssl=self.context)
        async with server:
            self._up.set()
            await self._over.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(fields["content-length"]))
            self.taken.append((head[0].split()[1], fields["content-type"], body))
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
