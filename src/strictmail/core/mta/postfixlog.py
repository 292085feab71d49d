# SPDX-License-Identifier: Apache-2.0
"""Postfix's log, read for the SMTP sessions that it proves.

For what Postfix (up to 3.9) does not tell in datagrams, and for what no Postfix tells so. Needs
`smtp_tls_loglevel = 1` (`summary`). A delivering process handles one message at a time: what it
says up to the first `to=` line of a message belongs to that message (its *attempt*), and the
recipients' domain is the domain of its sessions.

==============================================  ==================================================
the log says                                    the session
==============================================  ==================================================
`Verified|Trusted|.. TLS connection             TLS was negotiated and used; the word is Postfix's
established to HOST[IP]:25`                     verdict on the certificate
.. then `QUEUEID: Server certificate not        CERTIFICATE: the reason is what
verified`, there or as reason of a deferral     `certificate verification failed for` said before
`TLS is required, but was not offered by` /     NO_STARTTLS
`.. refused to start TLS`
`Cannot start TLS: ..`                          HANDSHAKE
`status=sent` without any of them               CLEAR, if this Postfix is seen to log TLS at all
`MX name '..' does not match STS MX pattern     OFF_POLICY: a host that was not even tried
for '..'` (3.10.5 and later)
TEMP `enforce-no-mx` of strictmail, then        OFF_POLICY: no host that the policy names
`TLS policy lookup for DOMAIN/HOST: ..`
`TLS policy lookup for ..: TLSA lookup error`   TLSA_LOOKUP
`TLS policy lookup for ..: no TLSA records`     NO_TLSA
`TLS connection reused`, `conn_use=`            none: the session was counted when it began
`TLSRPT: status=..` (3.10 and later)            none: Postfix has told of it by a datagram
.. then `Could not report TLS handshake         as without: the queue was full, or nobody was
result to tlsrpt library`                       there; the datagram is lost
recipients of several domains in one attempt    none: a relay host, whose domain is not logged
another port than 25, LMTP                      none: no MX host
no connection, no greeting, 421                 none: RFC 8460 §4.3.4 leaves it out (RPT-JSON-45)
an attempt whose end is not in the log          none
==============================================  ==================================================

Hostile lines: only the head of a line says which process wrote it. In its text, a recipient's
address and a server's reply are foreign: a line in which they could be taken for the structure is
counted as `ambiguous`, and passed over. Memory: MAX_PROCESSES attempts of MAX_EVENTS each.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import DomainSyntaxError
from strictmail.core.mta import postfixlines as lines
from strictmail.core.tlsrpt.session import clean_address, clean_name, clean_text, report_domain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from strictmail.core.mta.loglines import LogLine

MAX_PROCESSES: Final = 10_000
"""Processes whose attempts are open; Postfix's own limit is 100 by default."""

MAX_EVENTS: Final = 64
"""Sessions of one attempt: Postfix tries five addresses (`smtp_mx_address_limit`)."""

MAX_REASON_CHARACTERS: Final = 64

FORGET_AFTER: Final = timedelta(hours=1)
"""An attempt that says nothing for so long will not end: its process was killed."""

SMTP_PORT: Final = "25"


class LogOutcome(enum.StrEnum):
    """What a session came to."""

    VERIFIED = "verified"
    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    ANONYMOUS = "anonymous"
    CLEAR = "clear"
    CERTIFICATE = "certificate"
    NO_STARTTLS = "no-starttls"
    HANDSHAKE = "handshake"
    OFF_POLICY = "off-policy"
    TLSA_LOOKUP = "tlsa-lookup"
    NO_TLSA = "no-tlsa"


@dataclass(frozen=True, slots=True)
class LoggedSession:
    """One session.

    Attributes:
        name: The same each time the same lines are read.
        when: UTC.
        domain: The recipient domain, A-labels.
        mx_host: A-labels; "" if it is not known.
        mx_address: "" if it was not connected to.
        outcome: What it came to.
        trust: Postfix's word for the certificate, if there was one.
        fault: What Postfix found wrong with it, "" for nothing.
    """

    name: bytes
    when: datetime
    domain: str
    mx_host: str
    mx_address: str
    outcome: LogOutcome
    trust: LogOutcome | None = None
    fault: str = ""


_LOOKUPS: Final = {
    "TLSA lookup error": LogOutcome.TLSA_LOOKUP,
    "no TLSA records found": LogOutcome.NO_TLSA,
    "client TLS configuration problem": LogOutcome.OFF_POLICY,
}

Peer = tuple[str, str]
"""Name and address of an MX host."""


@dataclass(slots=True)
class _Event:
    """What may become a session."""

    line: LogLine
    peer: Peer
    outcome: LogOutcome
    trust: LogOutcome | None = None
    fault: str = ""
    nexthop: str = ""


@dataclass(slots=True)
class _Attempt:
    """What one process has said since the last message was done."""

    mark: int
    last: datetime
    events: list[_Event] = field(default_factory=list)
    faults: dict[Peer, str] = field(default_factory=dict)
    handshake: Peer | None = None
    told: set[Peer] = field(default_factory=set)
    last_told: Peer | None = None
    encrypted: set[Peer] = field(default_factory=set)
    has_no_mx: bool = False
    queue_id: str = ""
    domains: set[str] = field(default_factory=set)

    @property
    def is_done(self) -> bool:
        """Whether its message has a result."""
        return bool(self.queue_id)


_Note = Callable[[_Attempt, "LogLine", re.Match[str]], None]


class PostfixLog:
    """Puts the lines of a log together.

    Attributes:
        passed_over: How many attempts or lines were not used, by why.
    """

    def __init__(self) -> None:
        self.passed_over: Counter[str] = Counter()
        self._attempts: OrderedDict[tuple[str, str, int], _Attempt] = OrderedDict()
        self._logs_tls: set[tuple[str, str]] = set()
        self._notes: tuple[tuple[re.Pattern[str], _Note], ...] = (
            (lines.ESTABLISHED, self._note_session),
            (lines.FAULT, self._note_fault),
            (lines.HANDSHAKE, self._note_handshake),
            (lines.TLSRPT, self._note_told),
            (lines.NOT_TOLD, self._note_not_told),
            (lines.NO_MX, self._note_no_mx),
            (lines.SKIPPED, self._note_skipped),
            (lines.TLS_POLICY, self._note_lookup),
            (lines.HOST_FAILED, self._note_failure),
        )

    def feed(self, line: LogLine, mark: int = 0) -> Iterator[LoggedSession]:
        """Take a line; yields the sessions that are complete with it.

        Args:
            line: Of any process.
            mark: Where the line began, for `open_since`.
        """
        # LMTP, and all that is not Postfix's client, has other names.
        if not line.service.endswith("/smtp"):
            return
        attempt = self._attempts.get(line.process)
        delivery = self._read_delivery(line.text)
        if (
            attempt is not None
            and attempt.is_done
            and (delivery is None or delivery["queue_id"] != attempt.queue_id)
        ):
            del self._attempts[line.process]
            yield from self._finish(attempt)
            attempt = None
        if attempt is None:
            attempt = self._attempts[line.process] = _Attempt(mark, line.when)
        attempt.last = line.when
        self._attempts.move_to_end(line.process)
        if delivery is not None:
            self._deliver(attempt, line, delivery)
        else:
            self._note(attempt, line)
        yield from self._forget(line.when)

    def settle(self) -> Iterator[LoggedSession]:
        """Nothing more came for a while: yields the sessions of messages that have a result."""
        for process in [key for key, attempt in self._attempts.items() if attempt.is_done]:
            yield from self._finish(self._attempts.pop(process))

    def open_since(self) -> int | None:
        """The mark of the oldest line that is still needed; None if none is."""
        marks = [attempt.mark for attempt in self._attempts.values() if attempt.events]
        return min(marks, default=None)

    def _forget(self, now: datetime) -> Iterator[LoggedSession]:
        """Let the oldest attempts go: too many, or silent for too long."""
        while self._attempts:
            oldest = next(iter(self._attempts.values()))
            if len(self._attempts) <= MAX_PROCESSES and oldest.last > now - FORGET_AFTER:
                return
            self._attempts.popitem(last=False)
            if oldest.is_done:
                yield from self._finish(oldest)
            elif oldest.events:
                self.passed_over["unfinished"] += 1

    # ---- what a line says ---------------------------------------------------------------

    def _read_delivery(self, text: str) -> re.Match[str] | None:
        found = lines.DELIVERY.fullmatch(text)
        if found is None:
            if lines.TO.fullmatch(text):
                self.passed_over["ambiguous"] += 1
            return None
        if len(lines.STRUCTURE.findall(text)) > (2 if found["orig"] else 1):
            # What looks like the structure stands in an address or a reply as well.
            self.passed_over["ambiguous"] += 1
            return None
        return found

    def _note(self, attempt: _Attempt, line: LogLine) -> None:
        for pattern, note in self._notes:
            found = pattern.fullmatch(line.text)
            if found is not None:
                note(attempt, line, found)
                return

    def _note_session(self, attempt: _Attempt, line: LogLine, found: re.Match[str]) -> None:
        self._logs_tls.add((line.host, line.service))
        if len(attempt.encrypted) < MAX_EVENTS:
            attempt.encrypted.add(_peer(found))
        # RPT-JSON-55: what is reused was counted when it began.
        if found["how"] == "established" and found["port"] == SMTP_PORT:
            trust = LogOutcome(found["trust"].lower())
            peer = _peer(found)
            self._add(attempt, _Event(line, peer, trust, trust, attempt.faults.get(peer, "")))

    @staticmethod
    def _note_fault(attempt: _Attempt, _line: LogLine, found: re.Match[str]) -> None:
        if len(attempt.faults) < MAX_EVENTS:
            attempt.faults.setdefault(_peer(found), _fault(found["why"]))

    @staticmethod
    def _note_handshake(attempt: _Attempt, _line: LogLine, found: re.Match[str]) -> None:
        attempt.handshake = _peer(found) if found["port"] == SMTP_PORT else None

    @staticmethod
    def _note_told(attempt: _Attempt, _line: LogLine, found: re.Match[str]) -> None:
        if len(attempt.told) < MAX_EVENTS:
            attempt.last_told = _peer(found)
            attempt.told.add(attempt.last_told)

    @staticmethod
    def _note_not_told(attempt: _Attempt, _line: LogLine, _found: re.Match[str]) -> None:
        if attempt.last_told is not None:
            attempt.told.discard(attempt.last_told)

    @staticmethod
    def _note_no_mx(attempt: _Attempt, _line: LogLine, _found: re.Match[str]) -> None:
        attempt.has_no_mx = True

    def _note_skipped(self, attempt: _Attempt, line: LogLine, found: re.Match[str]) -> None:
        event = _Event(line, (found["mx"], ""), LogOutcome.OFF_POLICY, nexthop=found["nexthop"])
        self._add(attempt, event)

    def _note_lookup(self, attempt: _Attempt, line: LogLine, found: re.Match[str]) -> None:
        outcome = _LOOKUPS[found["why"]]
        # Other problems of the client are the sender's own.
        if outcome is not LogOutcome.OFF_POLICY or attempt.has_no_mx:
            self._add(attempt, _Event(line, (found["mx"], ""), outcome, nexthop=found["nexthop"]))

    def _note_failure(self, attempt: _Attempt, line: LogLine, found: re.Match[str]) -> None:
        self._fail(attempt, line, found["why"], None)

    def _deliver(self, attempt: _Attempt, line: LogLine, found: re.Match[str]) -> None:
        is_first = not attempt.is_done
        attempt.queue_id = found["queue_id"]
        _, at, domain = found["to"].rpartition("@")
        attempt.domains.add(_domain(domain) if at else "")
        if not is_first:
            return
        peer = _peer(found) if found["mx"] else None
        if found["status"] != "sent":
            self._fail(attempt, line, found["why"], peer)
            return
        is_clear = (
            peer is not None
            and found["port"] == SMTP_PORT
            and not found["reused"]
            and (line.host, line.service) in self._logs_tls
            and peer not in attempt.encrypted
            and all(event.peer != peer for event in attempt.events)
        )
        if is_clear and peer is not None:
            self._add(attempt, _Event(line, peer, LogOutcome.CLEAR))

    def _fail(self, attempt: _Attempt, line: LogLine, why: str, peer: Peer | None) -> None:
        """A host, or the whole attempt, has failed: what of it is TLS's?"""
        if lines.NOT_VERIFIED.fullmatch(why):
            for event in reversed(attempt.events):
                if event.trust is not None and peer in (None, event.peer):
                    event.outcome = LogOutcome.CERTIFICATE
                    return
        elif found := lines.NO_STARTTLS.fullmatch(why):
            named = (found["mx"] or found["mx2"], found["ip"] or found["ip2"])
            self._add(attempt, _Event(line, named, LogOutcome.NO_STARTTLS))
        elif lines.CANNOT_START.fullmatch(why):
            failed = attempt.handshake or peer
            attempt.handshake = None
            if failed is not None:
                self._add(attempt, _Event(line, failed, LogOutcome.HANDSHAKE))

    @staticmethod
    def _add(attempt: _Attempt, event: _Event) -> None:
        if len(attempt.events) < MAX_EVENTS:
            attempt.events.append(event)

    # ---- what an attempt comes to -------------------------------------------------------

    def _finish(self, attempt: _Attempt) -> Iterator[LoggedSession]:
        for number, event in enumerate(attempt.events):
            if event.peer in attempt.told:
                self.passed_over["told by datagram"] += 1
                continue
            domain = _domain(event.nexthop.strip("[]")) if event.nexthop else ""
            if not domain:
                if len(attempt.domains) != 1:
                    self.passed_over["several domains"] += 1
                    continue
                (domain,) = attempt.domains
            if not domain:
                self.passed_over["no domain"] += 1
                continue
            yield LoggedSession(
                name=_name(attempt, event, number),
                when=event.line.when,
                domain=domain,
                mx_host=clean_name(event.peer[0]),
                mx_address=clean_address(event.peer[1]),
                outcome=event.outcome,
                trust=event.trust,
                fault=event.fault,
            )


def _peer(found: re.Match[str]) -> Peer:
    return found["mx"], found["ip"]


def _domain(text: str) -> str:
    try:
        return report_domain(text)
    except DomainSyntaxError:
        return ""


def _fault(text: str) -> str:
    """What is wrong with a certificate, without what is in it (an issuer's name is foreign)."""
    bare = re.sub(r"^num=[0-9]+:", "", text).partition("/")[0]
    return clean_text(bare, MAX_REASON_CHARACTERS)


def _name(attempt: _Attempt, event: _Event, number: int) -> bytes:
    """A name of what a line says, as it is written: no guess of a year or zone is in it."""
    line = event.line
    parts = (
        *(line.host, line.service, str(line.pid), line.written),
        *(attempt.queue_id, str(number), *event.peer, event.nexthop, event.outcome),
    )
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).digest()[:16]
