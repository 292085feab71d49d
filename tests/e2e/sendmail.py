# SPDX-License-Identifier: Apache-2.0
"""A private sendmail 8.17 in a world that asks strictmail through FEATURE(`sts').

Each message is handed in and tried once in the foreground; what sendmail logs says what became
of it.
"""

from __future__ import annotations

import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .daemon import LISTEN_PORTS
from .world import READY_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .world import World

ROOT: Final = "sendmail"
END: Final = "end of the run"
PROGRAM: Final = "/usr/libexec/sendmail/sendmail"

CONFIGURATION: Final = """\
divert(-1)
include(`/usr/share/sendmail/cf/m4/cf.m4')
divert(0)
OSTYPE(`debian')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`sts', `socket -d30 -T<TMPF> inet:PORT@127.0.0.1')dnl
FEATURE(`nocanonify')dnl
define(`confDOMAIN_NAME', `out.sender.test')dnl
define(`QUEUE_DIR', `DIRECTORY/queue')dnl
define(`STATUS_FILE', `DIRECTORY/statistics')dnl
define(`confPID_FILE', `DIRECTORY/pid')dnl
define(`confCACERT_PATH', `DIRECTORY')dnl
define(`confCACERT', `CA_FILE')dnl
define(`confDONT_BLAME_SENDMAIL', `GroupReadableKeyFile,AssumeSafeChown')dnl
define(`confLOG_LEVEL', `14')dnl
define(`confTO_IDENT', `0')dnl
define(`confTO_CONNECT', `5s')dnl
define(`confTO_ICONNECT', `5s')dnl
define(`confTO_INITIAL', `6s')dnl
define(`confTO_HELO', `6s')dnl
define(`confTO_STARTTLS', `6s')dnl
define(`confTO_QUIT', `2s')dnl
define(`confTLS_FALLBACK_TO_CLEAR', `true')dnl
define(`confTRUSTED_USER', `root')dnl
define(`confRUN_AS_USER', `root')dnl
undefine(`confHOST_STATUS_DIRECTORY')dnl
MAILER(`smtp')dnl
"""

LINE: Final = re.compile(r"sendmail\[(?P<pid>\d+)\]: (?P<text>.*)$", re.DOTALL)
RESULT: Final = re.compile(
    r"^(?P<id>\w+): to=<?(?P<recipient>[^,>]+)>?, .*?dsn=(?P<dsn>[\d.]+), .*?stat=(?P<status>.*)$"
)
TLS: Final = re.compile(r"STARTTLS=client, relay=[^,]+,.* verify=(?P<verify>\w+)")


@dataclass(frozen=True, slots=True)
class SendmailResult:
    """What sendmail logged of one message.

    Attributes:
        outcome: In the words of the zoo; sendmail calls every certificate that it can trace to a
            trusted root verified, also where nobody asked.
        lines: All that was logged by the process that delivered it.
    """

    recipient: str
    outcome: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


class Sendmail:
    """A sendmail with a configuration and a queue of its own."""

    def __init__(self, world: World, ca_file: str) -> None:
        self._world = world
        self._directory = world.directory / "sendmail"
        text = CONFIGURATION.replace("DIRECTORY", str(self._directory))
        text = text.replace("CA_FILE", ca_file).replace("PORT", str(LISTEN_PORTS["sendmail"]))
        world.write("sendmail/sendmail.mc", text)
        self._lines: list[str] = []

    def start(self) -> None:
        """Build the configuration and listen to what is logged. There is no daemon to start."""
        directory = self._directory
        (directory / "queue").mkdir(mode=0o700)
        made = self._world.run(["m4", directory / "sendmail.mc"], root=ROOT)
        self._world.write("sendmail/sendmail.cf", made)
        log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        log.bind(str(self._world.directory / "syslog"))
        threading.Thread(target=self._listen, args=(log,), daemon=True).start()

    def _listen(self, log: socket.socket) -> None:
        while data := log.recv(65536):
            self._lines.append(data.decode("utf-8", "replace"))
        log.close()

    def _log(self, text: str) -> None:
        """Put a line into the log, behind all that was logged before."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(text.encode(), str(self._world.directory / "syslog"))

    def stop(self) -> None:
        """Stop listening."""
        self._log("")

    @property
    def version(self) -> str:
        """As in `8.17.1.9`."""
        said = self._world.run([PROGRAM, "-d0.1", "-bt"], root=ROOT)
        return said.split()[1]

    def deliver(self, recipients: Iterable[str]) -> dict[str, SendmailResult]:
        """Send one message to each recipient, tried once; returns the results by recipient."""
        wanted = list(recipients)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._send, wanted))
        self._log(END)
        wait_until(lambda: END in self._lines, "the log", seconds=READY_SECONDS)
        return {recipient: self._result(recipient) for recipient in wanted}

    def _send(self, recipient: str) -> None:
        text = f"From: probe@sender.test\nTo: {recipient}\nSubject: {recipient}\n\nprobe\n"
        options = ["-C", f"{self._directory}/sendmail.cf", "-Am", "-odi", "-oi"]
        # Its exit status tells of bounces; the log tells more.
        quiet = ["sh", "-c", '"$@" || true', "sh", PROGRAM, *options]
        self._world.run([*quiet, "-f", "probe@sender.test", recipient], root=ROOT, text=text)

    def _result(self, recipient: str) -> SendmailResult:
        of_process: dict[str, list[str]] = {}
        last = None
        for line in self._lines:
            if found := LINE.search(line):
                said = of_process.setdefault(found["pid"], [])
                said.append(found["text"])
                result = RESULT.match(found["text"])
                if result and result["recipient"] == recipient:
                    last = (result, said)
        assert last is not None, f"nothing logged for {recipient}"
        return self._judge(last[0], recipient, tuple(last[1]))

    @staticmethod
    def _judge(result: re.Match[str], recipient: str, lines: tuple[str, ...]) -> SendmailResult:
        if not result["status"].startswith("Sent"):
            outcome = "deferred" if result["dsn"].startswith("4") else "bounced"
            return SendmailResult(recipient, outcome, lines)
        # The line with the result shortens long names: the last session is the one that counted.
        sessions = [found["verify"] for line in lines if (found := TLS.search(line))]
        if not sessions:
            return SendmailResult(recipient, "plaintext", lines)
        return SendmailResult(recipient, "verified" if sessions[-1] == "OK" else "encrypted", lines)
