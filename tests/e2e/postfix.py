# SPDX-License-Identifier: Apache-2.0
"""A private Postfix in a world: configured, fed, and read by its log.

Nothing of the root's /etc/postfix is used but the tables of the installation. Nothing is tried
twice by itself: a deferred message stays so until a test flushes the queue.
"""

from __future__ import annotations

import re
import smtplib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .world import READY_SECONDS, wait_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping

    from .world import World

SUBMISSION: Final = ("127.0.0.1", 10025)
SENDER: Final = ""
"""The null sender: a bounce is logged and goes nowhere."""

SUBMIT_SECONDS: Final = 180
"""For a reply: master leaves a service alone for a minute after one of its processes failed."""

MAIN_CF: Final = """\
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
maillog_file = {directory}/mail.log
maillog_file_prefixes = {directory}
myhostname = out.sender.test
mydestination =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtp_host_lookup = dns
smtp_dns_support_level = dnssec
smtp_tls_security_level = may
smtp_tls_CAfile = {ca_file}
smtp_tls_loglevel = 1
smtp_tls_dane_insecure_mx_policy = dane
smtp_tls_policy_maps = socketmap:{socketmap}:postfix
smtp_delivery_status_filter = regexp:{directory}/etc/status_filter
smtp_connect_timeout = 5s
smtp_helo_timeout = 6s
smtp_starttls_timeout = 6s
smtp_mail_timeout = 6s
smtp_quit_timeout = 1s
smtp_skip_5xx_greeting = yes
minimal_backoff_time = 1s
maximal_backoff_time = 3h
queue_run_delay = 3h
transport_retry_time = 2s
destination_concurrency_feedback_debug = no
default_destination_concurrency_limit = 20
default_destination_concurrency_failed_cohort_limit = 1000
{extra}
"""

STATUS_FILTER: Final = r"""
# A 5xx reply to STARTTLS makes Postfix bounce where TLS is required. The mail waits instead
# (RFC 8461 §5: failures of the policy are transient).
/^5(\.[0-9]+\.[0-9]+ TLS is required, but host .* refused to start TLS: .*)/ 4$1
"""

MASTER_CF: Final = """\
127.0.0.1:10025 inet n - n - - smtpd
pickup unix n - n 3600? 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - {process_limit} smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

LINE: Final = re.compile(
    r"^\S+ +\S+ \S+ \S+ postfix/(?P<daemon>[\w-]+)\[(?P<pid>\d+)\]: (?P<text>.*)$"
)
ATTEMPT: Final = re.compile(
    r"^(?P<queue_id>\w+): to=<(?P<recipient>[^>]*)>, (?:orig_to=<[^>]*>, )?relay=(?P<relay>[^,]+),"
    r".* dsn=(?P<dsn>[\d.]+), status=(?P<status>\w+) \((?P<why>.*)\)$"
)
TLS: Final = re.compile(
    r"^(?P<trust>\w+) TLS connection established to (?P<relay>\S+): (?P<how>.*)$"
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What Postfix logged of one delivery attempt of one message.

    Attributes:
        relay: `host[address]:port`, or `none`.
        status: `sent`, `deferred` or `bounced`.
        trust: Postfix's word for the TLS session with that relay (`Verified`, `Trusted`,
            `Untrusted`, `Anonymous`), or "" for none.
        lines: All that the delivering process said about it.
    """

    queue_id: str
    recipient: str
    relay: str
    dsn: str
    status: str
    why: str
    trust: str
    lines: tuple[str, ...]

    @property
    def host(self) -> str:
        """The name of the MX host, or ""."""
        return "" if self.relay == "none" else self.relay.partition("[")[0]

    @property
    def outcome(self) -> str:
        """The same in the words of the zoo."""
        if self.status != "sent":
            return self.status
        if not self.trust:
            return "plaintext"
        return "verified" if self.trust == "Verified" else "encrypted"

    def __str__(self) -> str:
        return "\n".join(self.lines)


@dataclass(slots=True)
class MailLog:
    """Postfix's log, read as it grows.

    A delivering process handles one message at a time, and only some of its lines carry the
    queue id: what it says between two results belongs to the second.
    """

    attempts: list[Attempt] = field(default_factory=list)
    text: str = ""
    _rest: str = ""
    _of_process: dict[str, list[str]] = field(default_factory=dict)

    def feed(self, text: str) -> None:
        """Take in what was appended to the log."""
        self.text += text
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._feed_line(line)

    def _feed_line(self, line: str) -> None:
        found = LINE.match(line)
        if found is None or found["daemon"] not in {"smtp", "error", "retry"}:
            return
        said = self._of_process.setdefault(found["pid"], [])
        said.append(line)
        if attempt := ATTEMPT.match(found["text"]):
            self.attempts.append(self._attempt(attempt, tuple(said)))
            said.clear()

    @staticmethod
    def _attempt(found: re.Match[str], lines: tuple[str, ...]) -> Attempt:
        trust = ""
        for line in lines:
            tls = TLS.match(line.partition("]: ")[2])
            if tls and tls["relay"] == found["relay"]:
                trust = tls["trust"]
        return Attempt(
            queue_id=found["queue_id"],
            recipient=found["recipient"],
            relay=found["relay"],
            dsn=found["dsn"],
            status=found["status"],
            why=found["why"],
            trust=trust,
            lines=lines,
        )


class Submission(smtplib.SMTP):
    """A connection to Postfix's own smtpd, which says the queue id of what it took."""

    def __init__(self, world: World, address: tuple[str, int] = SUBMISSION) -> None:
        self._world = world
        super().__init__(*address, local_hostname="client.sender.test", timeout=SUBMIT_SECONDS)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._world.connect((host, port), timeout)

    def submit(self, *recipients: str) -> str:
        """Hand in one message; returns its queue id."""
        self.ehlo_or_helo_if_needed()
        for code, said in (self.mail(SENDER), *map(self.rcpt, recipients)):
            assert code == 250, said
        code, said = self.data(b"From: <probe@sender.test>\r\nSubject: probe\r\n\r\nprobe\r\n")
        assert code == 250, said
        return said.decode().rpartition("queued as ")[2].strip()


class Postfix:
    """A Postfix instance of its own.

    Args:
        world: Where it lives.
        root: The Debian root whose Postfix it is.
        ca_file: What the web PKI is here.
        socketmap: Where it asks, as in `inet:127.0.0.1:8461`.
        extra: Further lines of main.cf.
    """

    def __init__(
        self,
        world: World,
        root: str,
        *,
        ca_file: str,
        socketmap: str = "inet:127.0.0.1:8461",
        extra: Mapping[str, str] | None = None,
        name: str = "postfix",
        process_limit: int = 60,
    ) -> None:
        self._world = world
        self._root = root
        self._directory = world.directory / name
        self.log = MailLog()
        lines = "\n".join(f"{key} = {value}" for key, value in (extra or {}).items())
        main = MAIN_CF.format(
            directory=self._directory, ca_file=ca_file, socketmap=socketmap, extra=lines
        )
        world.write(f"{name}/etc/main.cf", main)
        world.write(f"{name}/etc/status_filter", STATUS_FILTER)
        world.write(f"{name}/etc/master.cf", MASTER_CF.format(process_limit=process_limit))
        self._log_file = self._directory / "mail.log"
        self._offset = 0

    @property
    def version(self) -> str:
        """What `postconf` says."""
        return self._command("postconf", "-h", "mail_version").strip()

    def start(self) -> None:
        """Start it; returns when it takes mail."""
        table = "dynamicmaps.cf"  # Debian's list of map types; socketmap is built in
        self._world.write(f"postfix/etc/{table}", "")
        own = f"install -d -o postfix {self._directory}/data && install -d {self._directory}/spool"
        self._world.run(["sh", "-c", own], root=self._root)
        said = self._command("postfix", "start")
        wait_until(
            lambda: self._world.accepts(SUBMISSION),
            "Postfix to take mail",
            seconds=READY_SECONDS,
            seen=lambda: said + self._read().text,
        )

    def _command(self, program: str, *arguments: str) -> str:
        command = [program, "-c", str(self._directory / "etc"), *arguments]
        return self._world.run(command, root=self._root)

    def submit(self, recipients: Iterable[str]) -> dict[str, str]:
        """Hand in one message to each recipient; returns queue id by recipient."""
        with Submission(self._world) as submission:
            return {recipient: submission.submit(recipient) for recipient in recipients}

    def _read(self) -> MailLog:
        if self._log_file.exists():
            with self._log_file.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            self._offset += len(data)
            self.log.feed(data.decode("utf-8", "replace"))
        return self.log

    def attempts(self) -> list[Attempt]:
        """Every attempt logged so far, in order."""
        return list(self._read().attempts)

    def wait_for(
        self, queue_ids: Iterable[str], *, seconds: float = 60.0, seen_already: int = 0
    ) -> dict[str, Attempt]:
        """Wait until each of these messages was tried; returns the last attempt of each.

        Args:
            queue_ids: Which.
            seconds: The deadline.
            seen_already: How many attempts of the log to leave out of account (for a second try).
        """
        wanted = set(queue_ids)

        def tried() -> dict[str, Attempt] | None:
            new = {attempt.queue_id: attempt for attempt in self.attempts()[seen_already:]}
            found = {queue_id: new[queue_id] for queue_id in wanted if queue_id in new}
            return found if len(found) == len(wanted) else None

        def seen() -> str:
            missing = wanted - {attempt.queue_id for attempt in self.log.attempts[seen_already:]}
            lines = [line for line in self.log.text.splitlines() if any(q in line for q in missing)]
            return "\n".join([f"not tried: {sorted(missing)}", *lines])

        if not wanted:
            return {}
        return wait_until(tried, f"{len(wanted)} messages", seconds=seconds, seen=seen)

    def deliver(self, recipient: str, *, seconds: float = 60.0) -> Attempt:
        """Send one message and return what became of it."""
        queue_id = self.submit([recipient])[recipient]
        return self.wait_for([queue_id], seconds=seconds)[queue_id]

    def flush(self) -> None:
        """Try everything that waits, now."""
        self._command("postqueue", "-f")

    def retry(self, queue_id: str) -> None:
        """Try one message that waits, now."""
        self._command("postqueue", "-i", queue_id)

    def queue(self) -> list[str]:
        """Return the queue ids of what waits."""
        listing = self._command("postqueue", "-p")
        return re.findall(r"^([0-9A-F]+)[*!]? ", listing, flags=re.MULTILINE)

    def empty_queue(self) -> None:
        """Throw away everything that waits."""
        self._command("postsuper", "-d", "ALL")
