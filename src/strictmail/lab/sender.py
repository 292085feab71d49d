# SPDX-License-Identifier: Apache-2.0
"""A private Postfix that sends into the lab, and its log in the zoo's words.

Uses the programs of the installed Postfix with a configuration, queue, data directory and log of
its own; `/etc/postfix` is not looked at. Nothing is tried twice unless it is asked to.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import smtplib
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import UnreachableError
from strictmail.lab.entries import Delivery

if TYPE_CHECKING:
    from pathlib import Path

SUBMISSION: Final = ("127.0.0.1", 10025)
SENDER: Final = ""
"""The null sender: a bounce is logged and goes nowhere."""

COMMAND_SECONDS: Final = 60.0
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TLSRPT_VERSION: Final = (3, 10)
"""The first Postfix that understands the attributes of the dialect `postfix-tlsrpt`."""

POINTED_LEVEL_VERSION: Final = (3, 6)
"""The first Postfix that understands a compatibility level with a point in it."""

RETRIED_IN_THE_CLEAR: Final = "Cannot start TLS: handshake failure"
"""At level `may`, Postfix does without TLS then, but only at the next attempt."""

MAIN_CF: Final = """\
compatibility_level = {compatibility_level}
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
smtp_host_lookup = dns
smtp_dns_support_level = dnssec
smtp_tls_security_level = may
smtp_tls_CAfile = {ca_file}
smtp_tls_loglevel = 1
smtp_tls_dane_insecure_mx_policy = dane
smtp_tls_policy_maps = socketmap:{socketmap}:strictmail
smtp_delivery_status_filter = regexp:{directory}/etc/status_filter
smtp_connect_timeout = 3s
smtp_helo_timeout = 3s
smtp_starttls_timeout = 3s
smtp_mail_timeout = 3s
smtp_quit_timeout = 1s
smtp_skip_5xx_greeting = yes
minimal_backoff_time = 1s
maximal_backoff_time = 3h
queue_run_delay = 3h
transport_retry_time = 2s
default_destination_concurrency_failed_cohort_limit = 1000
"""

STATUS_FILTER: Final = r"""
# A 5xx reply to STARTTLS makes Postfix bounce where TLS is required. The mail waits instead
# (RFC 8461 §5: failures of the policy are transient).
/^5(\.[0-9]+\.[0-9]+ TLS is required, but host .* refused to start TLS: .*)/ 4$1
"""

MASTER_CF: Final = f"""\
{SUBMISSION[0]}:{SUBMISSION[1]} inet n - n - - smtpd
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
smtp unix - - n - 40 smtp
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
    r"^(?P<queue_id>\w+): to=<[^>]*>, (?:orig_to=<[^>]*>, )?relay=(?P<relay>[^,]+),"
    r".* status=(?P<status>\w+) \((?P<why>.*)\)$"
)
TLS: Final = re.compile(r"^(?P<trust>\w+) TLS connection established to (?P<relay>\S+): ")


class SenderError(UnreachableError):
    """Postfix does not do what is asked; the message has what it said."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What Postfix logged of one attempt to deliver one message.

    Attributes:
        queue_id: Which message.
        relay: `host[address]:port`, or `none`.
        status: `sent`, `deferred` or `bounced`.
        why: In Postfix's words; foreign text in it.
        trust: Its word for the TLS session with that relay (`Verified`, `Trusted`, `Untrusted`,
            `Anonymous`), or "" for none.
    """

    queue_id: str
    relay: str
    status: str
    why: str
    trust: str

    @property
    def host(self) -> str:
        """The name of the MX host, or ""."""
        return "" if self.relay == "none" else self.relay.partition("[")[0]

    @property
    def delivery(self) -> Delivery:
        """The same in the words of the zoo."""
        if self.status != "sent":
            return Delivery.BOUNCED if self.status == "bounced" else Delivery.DEFERRED
        if not self.trust:
            return Delivery.PLAINTEXT
        return Delivery.VERIFIED if self.trust == "Verified" else Delivery.ENCRYPTED


@dataclass(slots=True)
class MailLog:
    """Postfix's log, read as it grows.

    A delivering process handles one message at a time, and only some of its lines carry the
    queue id: what it says between two results belongs to the second.
    """

    attempts: list[Attempt] = field(default_factory=list)
    _rest: str = ""
    _sessions: dict[str, dict[str, str]] = field(default_factory=dict)

    def feed(self, text: str) -> None:
        """Take in what was appended to the log."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            found = LINE.match(line)
            if found is not None and found["daemon"] in {"smtp", "error", "retry"}:
                self._feed_line(found["pid"], found["text"])

    def _feed_line(self, pid: str, text: str) -> None:
        sessions = self._sessions.setdefault(pid, {})
        if tls := TLS.match(text):
            sessions[tls["relay"]] = tls["trust"]
        elif found := ATTEMPT.match(text):
            trust = sessions.get(found["relay"], "")
            sessions.clear()
            self.attempts.append(
                Attempt(found["queue_id"], found["relay"], found["status"], found["why"], trust)
            )


def find_postfix() -> str | None:
    """The path of the installed `postfix` command, or None."""
    return shutil.which("postfix", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def installed_version() -> str:
    """What the installed Postfix says of itself, as in `3.7.11`.

    Raises:
        SenderError: It does not say.
    """
    return _postconf("mail_version")


def dialect_for(version: str) -> str:
    """The dialect of strictmail that a Postfix is to be answered in."""
    return "postfix-tlsrpt" if _release(version) >= TLSRPT_VERSION else "postfix"


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


class Postfix:
    """A Postfix instance of its own. Its methods wait; call them from a thread.

    Args:
        directory: Its home, which it makes; other users must be able to look into it.
        ca_file: What the web PKI is here.
        socketmap: Where it asks, as in `unix:/path` or `inet:127.0.0.1:8461`.
    """

    def __init__(self, directory: Path, *, ca_file: str, socketmap: str) -> None:
        self._directory = directory
        self._ca_file = ca_file
        self._socketmap = socketmap
        self._log = MailLog()
        self._offset = 0

    def start(self) -> None:
        """Write its files and start it; returns when it takes mail.

        Raises:
            SenderError: It does not start.
        """
        etc = self._directory / "etc"
        for name in (etc, self._directory / "spool", self._directory / "data"):
            name.mkdir(parents=True)
        shutil.chown(self._directory / "data", _postconf("mail_owner"))
        version = installed_version()
        main = MAIN_CF.format(
            compatibility_level="3.6" if _release(version) >= POINTED_LEVEL_VERSION else "2",
            directory=self._directory,
            ca_file=self._ca_file,
            socketmap=self._socketmap,
        )
        if dialect_for(version) == "postfix-tlsrpt":
            main += "smtp_tlsrpt_enable = yes\n"
        (etc / "main.cf").write_text(main, encoding="utf-8")
        (etc / "master.cf").write_text(MASTER_CF, encoding="ascii")
        (etc / "status_filter").write_text(STATUS_FILTER, encoding="utf-8")
        # Debian's list of map types that are packages of their own: none is needed.
        (etc / "dynamicmaps.cf").touch()
        # `postfix start` returns when the master holds its sockets.
        self._command("postfix", "start")

    def stop(self) -> None:
        """End it; not running is no error."""
        with contextlib.suppress(SenderError):
            self._command("postfix", "stop")

    def submit(self, recipient: str) -> str:
        """Hand in one message; returns its queue id.

        Raises:
            SenderError: It does not take it.
        """
        text = f"From: <demo@sender.test>\r\nTo: <{recipient}>\r\nSubject: demo\r\n\r\nHello.\r\n"
        try:
            with smtplib.SMTP(*SUBMISSION, local_hostname="client.sender.test", timeout=30) as smtp:
                smtp.ehlo_or_helo_if_needed()
                for code, said in (smtp.mail(SENDER), smtp.rcpt(recipient), smtp.data(text)):
                    if code != 250:  # noqa: PLR2004 - RFC 5321 §4.2.3: done
                        raise SenderError(f"Postfix does not take a message: {said!r}")
        except (OSError, smtplib.SMTPException) as error:
            raise SenderError(f"Postfix does not take a message: {error}") from error
        return said.decode("ascii", "replace").rpartition("queued as ")[2].strip()

    def retry(self, queue_id: str) -> None:
        """Try one message that waits, now."""
        self._command("postqueue", "-i", queue_id)

    def attempts(self, queue_id: str) -> list[Attempt]:
        """The attempts for one message logged so far, in order."""
        log_file = self._directory / "mail.log"
        if log_file.exists():
            with log_file.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            self._offset += len(data)
            self._log.feed(data.decode("utf-8", "replace"))
        return [attempt for attempt in self._log.attempts if attempt.queue_id == queue_id]

    def _words(self, program: str, *arguments: str) -> list[str]:
        return [_path_of(program), "-c", str(self._directory / "etc"), *arguments]

    def _command(self, program: str, *arguments: str) -> None:
        _run(self._words(program, *arguments))


def _path_of(program: str) -> str:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}") or program


def _postconf(parameter: str) -> str:
    # The value that is built in: the machine's own main.cf has no say.
    return _run([_path_of("postconf"), "-d", "-h", parameter]).strip()


def _run(command: list[str]) -> str:
    done = subprocess.run(  # noqa: S603 - Postfix's own commands, arguments are ours
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=COMMAND_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise SenderError(f"{' '.join(command)}: exit status {done.returncode}: {done.stdout}")
    return done.stdout
