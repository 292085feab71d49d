# SPDX-License-Identifier: Apache-2.0
"""The demo's story: which domains are shown, what is done to one of them, what is printed."""

from __future__ import annotations

import asyncio
import shutil
import textwrap
import time
from typing import TYPE_CHECKING, Final

from strictmail.cli.demo.verdict import (
    AS_EXPECTED,
    NOT_AS_EXPECTED,
    Column,
    Mail,
    Table,
    find_faults,
    say_level,
    say_mail,
    say_policy,
    say_why,
)
from strictmail.cli.exitcodes import ExitCode
from strictmail.core.decision import Level
from strictmail.core.explain import printable
from strictmail.lab.entries import CertFault, Delivery, MxFault, Outcome, PolicyFault
from strictmail.lab.sender import RETRIED_IN_THE_CLEAR, SenderError
from strictmail.lab.zoo import SECTIONS, ZOO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from strictmail.cli.demo.stage import Stage
    from strictmail.lab.entries import ZooEntry
    from strictmail.lab.sender import Attempt, Postfix
    from strictmail.resolver.documents import DecisionDocument

SELECTION: Final[Mapping[str, tuple[str, ...]]] = {
    "Good: nothing is wrong": (
        "good",
        "idn",
        "pattern-wildcard",
        "policy-delegated",
        "dane-ee",
        "both",
        "no-policy",
    ),
    "Broken: somebody made a mistake": (
        "mx-expired",
        "mx-wrong-name",
        "mx-unlisted",
        "mx-first-bad-certificate",
        "policy-404",
        "txt-two",
        "testing-bad-certificate",
        "dane-mismatch",
    ),
    "Hostile: somebody in between, or at the other end, means harm": (
        "mx-no-starttls",
        "mx-injected",
        "mx-tarpit",
        "policy-slow",
        "policy-bomb",
        "policy-redirect-other-host",
        "policy-inner-address",
        "body-braces",
        "dane-no-starttls",
        "bogus-domain",
    ),
}
"""What is shown unless everything is: title -> names of the zoo."""

LIFE: Final = "good"
"""The domain whose policy is attacked; nothing is wrong with it."""

LAST_POLICY: Final = "version: STSv1\r\nmode: none\r\nmax_age: 86400\r\n"
LAST_ID: Final = "20991231"

ASK_AT_ONCE: Final = 8
"""A real MTA's lookups come spread out; all at once, good hosts would look slow too."""

SEND_SECONDS: Final = 60.0
BACKOFF_SECONDS: Final = 1.5
"""A little more than Postfix's minimal_backoff_time in `strictmail.lab.sender`."""

POLL_SECONDS: Final = 0.05
MIN_WIDTH: Final = 80
MAX_WIDTH: Final = 150
MAX_TEXT_WIDTH: Final = 100
USUAL_SIZE: Final = (120, 24)
MAX_TOLD_LENGTH: Final = 300

DOMAIN: Final = Column("DOMAIN", 25)
FAULT: Final = Column("WHAT IS WRONG THERE", 27)
ANSWER: Final = Column("STRICTMAIL ANSWERS", 20)
ANSWER_AND_WHY: Final = Column("STRICTMAIL ANSWERS", 28)
WHY: Final = Column("WHY", 31)
MAIL: Final = Column("THE MAIL", 28)
STEP: Final = Column("WHAT HAPPENS", 34)
VERDICT: Final = Column("VERDICT", 11)

SECURE: Final = Outcome(Level.SECURE, Delivery.VERIFIED, f"mx.{LIFE}.plain.test")
WAITS: Final = Outcome(Level.SECURE, Delivery.DEFERRED, None)
FREE: Final = Outcome(Level.NONE, Delivery.ENCRYPTED, None)


class Story:
    """The demo, told on standard output.

    Args:
        stage: Who takes part.
        everything: The whole zoo, not a selection.
    """

    def __init__(self, stage: Stage, *, everything: bool) -> None:
        self._stage = stage
        self._groups: dict[str, Sequence[ZooEntry]] = (
            dict(SECTIONS)
            if everything
            else {
                title: [stage.lab.entry(name) for name in names]
                for title, names in SELECTION.items()
            }
        )
        self._width = min(max(shutil.get_terminal_size(USUAL_SIZE).columns, MIN_WIDTH), MAX_WIDTH)
        self._ask_slots = asyncio.Semaphore(ASK_AT_ONCE)
        self._verdict_count = 0
        self._wrong: list[str] = []

    async def tell(self) -> int:
        """Tell it all; returns the exit code."""
        start = time.monotonic()
        self._say_opening()
        await self._show_groups()
        await self._show_reply()
        await self._show_life()
        self._say_closing(time.monotonic() - start)
        return ExitCode.FAILURE if self._wrong else ExitCode.OK

    # ---- words --------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        print(f"\n{textwrap.fill(text, min(self._width, MAX_TEXT_WIDTH))}", flush=True)

    def _say_opening(self) -> None:
        asked = sum(map(len, self._groups.values()))
        self._say(
            f"A small internet of {len(ZOO)} domains, the zoo, has come up on loopback addresses: "
            "DNS that validates, policy hosts, MX hosts; each domain with one fault, or none. A "
            f"`strictmail serve` with an empty cache is asked about {asked} of them for a Postfix "
            "that can do DANE and without strictmail would take any TLS, or none (level `may`)."
        )
        if self._stage.postfix is None:
            self._say(f"Nothing is sent: {self._stage.missing}.")
        else:
            self._say(
                f"Postfix {self._stage.version}, with a configuration of its own in a network of "
                "its own, sends one message to each; this machine's Postfix is not touched."
            )
        self._say(
            "The verdict holds what happens against what the standards want for that domain: "
            "`strictmail lab zoo` prints that table, with the requirement ids."
        )

    def _say_closing(self, seconds: float) -> None:
        good = self._verdict_count - len(self._wrong)
        what = "answer and delivery" if self._stage.postfix else "answer"
        self._say(
            f"In {seconds:.0f} s: {good} of {self._verdict_count} verdicts are good; each {what} "
            "was compared."
        )
        for line in self._wrong:
            self._say(f"{NOT_AS_EXPECTED}: {line}")
        if not self._wrong:
            self._say(
                "So: where a domain has a policy that enforces, or DANE, strictmail demands it, and "
                "what cannot meet it gets no mail: the mail waits. Where there is nothing to "
                "enforce, mail goes as it does without strictmail. And a policy once known holds "
                "until it expires or its owner changes it, whoever blocks what."
            )
        self._say(
            "Next: `make run` starts strictmail for this machine's Postfix and prints the lines for "
            "its main.cf (docs/postfix.md). `strictmail explain DOMAIN` tells what a real domain "
            "demands, and why. `strictmail lab up` keeps this internet running to try things on, "
            "and `strictmail lab demo --all` shows the whole zoo (docs/lab.md)."
        )

    # ---- the zoo ------------------------------------------------------------------------

    async def _show_groups(self) -> None:
        entries = [entry for group in self._groups.values() for entry in group]
        sends = self._stage.postfix is not None
        columns = (ANSWER_AND_WHY, MAIL) if sends else (ANSWER, WHY)
        table = Table((DOMAIN, FAULT, *columns, VERDICT), self._width)
        print("", *table.head(), sep="\n")
        try:
            async with asyncio.TaskGroup() as tasks:
                # All at once, shown in order: the slow ones cost their time only once.
                found = {e.name: tasks.create_task(self._find_out(e)) for e in entries}
                for title, group in self._groups.items():
                    print(f"\n{title}\n")
                    for entry in group:
                        answer, mail = await found[entry.name]
                        print(*self._row(table, entry, answer, mail), sep="\n", flush=True)
        except ExceptionGroup as errors:
            # The first tells it all; the others are its echo.
            raise errors.exceptions[0] from None

    async def _find_out(self, entry: ZooEntry) -> tuple[DecisionDocument, Mail | None]:
        """Ask, and send if there is a Postfix.

        A message may go before its policy is known (RFC 8461 §5.1); asking first leaves that out.
        """
        async with self._ask_slots:
            answer = await self._stage.daemon.ask(entry.domain)
        if self._stage.postfix is None:
            return answer, None
        return answer, await self._send(f"demo@{entry.domain}", self._wanted(entry).delivery)

    def _row(
        self, table: Table, entry: ZooEntry, answer: DecisionDocument, mail: Mail | None
    ) -> Iterator[str]:
        wanted, because = self._wanted(entry), entry.expect.why
        verdict = self._judge(entry.domain, wanted, answer, mail, because)
        level, why = say_level(answer), say_why(answer)
        cells = (level, why) if mail is None else (f"{level}\n{why}", say_mail(mail))
        return table.row(entry.domain, entry.fault, *cells, verdict)

    def _wanted(self, entry: ZooEntry) -> Outcome:
        for departure in entry.departs:
            if self._stage.dialect in departure.dialects:
                return departure.outcome
        return entry.expect.dane

    def _judge(
        self, what: str, wanted: Outcome, answer: DecisionDocument, mail: Mail | None, because: str
    ) -> str:
        faults = "; ".join(find_faults(wanted, answer.level, mail))
        self._verdict_count += 1
        if not faults:
            return AS_EXPECTED
        self._wrong.append(f"{what}: {faults}. Expected: {because}")
        return NOT_AS_EXPECTED

    async def _show_reply(self) -> None:
        domain = self._stage.lab.entry(LIFE).domain
        told = printable(await self._stage.daemon.told(domain), MAX_TOLD_LENGTH)
        self._say(
            f"In the protocol itself (socketmap), Postfix asks for `{domain}` and is told: {told}"
        )

    # ---- sending ------------------------------------------------------------------------

    @property
    def _postfix(self) -> Postfix:
        assert self._stage.postfix is not None
        return self._stage.postfix

    async def _send(self, recipient: str, wanted: Delivery) -> Mail:
        queue_id = await asyncio.to_thread(self._postfix.submit, recipient)
        attempt = await self._attempt(queue_id, 1)
        if wanted is Delivery.PLAINTEXT and attempt.why.startswith(RETRIED_IN_THE_CLEAR):
            # Only a message that has waited for the minimal back-off is sent in the clear then.
            await asyncio.sleep(BACKOFF_SECONDS)
            await asyncio.to_thread(self._postfix.retry, queue_id)
            attempt = await self._attempt(queue_id, 2)
        return self._mail(recipient, attempt)

    async def _attempt(self, queue_id: str, number: int) -> Attempt:
        """The attempt of that number, from 1, to deliver a message; waits for it."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                # A log has nothing to wait on.
                while len(attempts := self._postfix.attempts(queue_id)) < number:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise SenderError(f"Postfix does not try the message {queue_id}") from None
        return attempts[-1]

    def _mail(self, recipient: str, attempt: Attempt) -> Mail:
        lab = self._stage.lab
        return Mail(
            attempt.delivery,
            attempt.host,
            attempt.why,
            tuple(message for message in lab.messages if recipient in message.recipients),
            any(seen.recipient == recipient for seen in lab.recipients),
        )

    # ---- the life of a policy -----------------------------------------------------------

    async def _show_life(self) -> None:
        stage, entry = self._stage, self._stage.lab.entry(LIFE)
        self._say(
            f"The life of a policy: {entry.domain} is attacked by somebody who forges DNS, blocks "
            "connections and changes what passes. In the end its owner takes the policy back."
        )
        columns = (STEP, ANSWER_AND_WHY, *((MAIL,) if stage.postfix else ()), VERDICT)
        table = Table(columns, self._width)
        print("", *table.head(), sep="\n")
        await self._step(table, "The policy is known since the table above.", SECURE)
        stage.lab.set_txt(entry.domain, ())
        stage.lab.break_policy_host(entry.domain, PolicyFault.REFUSE)
        await stage.daemon.refresh(entry.domain)
        looked = "The TXT record is gone, the policy host refuses, and strictmail is made to look:"
        await self._step(table, f"{looked} `strictmail cache refresh`.", SECURE)
        await stage.daemon.kill()
        await stage.daemon.start()
        await self._step(
            table, "strictmail is killed (SIGKILL) and started again meanwhile.", SECURE
        )
        if stage.postfix is not None:
            await self._attack_message(table)
        stage.lab.break_policy_host(entry.domain, CertFault.GOOD)
        stage.lab.publish(entry.domain, LAST_POLICY, LAST_ID)
        await stage.daemon.refresh(entry.domain)
        done = "All is well again, and the owner takes the policy back as RFC 8461 §8.3 wants it:"
        mail = await self._send_again("free") if stage.postfix else None
        await self._step(table, f"{done} mode none, under a new id.", FREE, mail)

    async def _attack_message(self, table: Table) -> None:
        """A message meets an MX host without STARTTLS, waits, and goes when that is over."""
        lab, host = self._stage.lab, f"mx.{self._stage.lab.entry(LIFE).domain}"
        lab.break_mx_host(host, MxFault.NO_STARTTLS)
        recipient = f"attacked@{self._stage.lab.entry(LIFE).domain}"
        queue_id = await asyncio.to_thread(self._postfix.submit, recipient)
        mail = self._mail(recipient, await self._attempt(queue_id, 1))
        stripped = "STARTTLS is stripped from what the MX host says, too. A message is sent."
        await self._step(table, stripped, WAITS, mail)
        lab.break_mx_host(host, CertFault.GOOD)
        await asyncio.to_thread(self._postfix.retry, queue_id)
        mail = self._mail(recipient, await self._attempt(queue_id, 2))
        await self._step(table, "STARTTLS is back, and the message is tried again.", SECURE, mail)

    async def _send_again(self, local_part: str) -> Mail:
        recipient = f"{local_part}@{self._stage.lab.entry(LIFE).domain}"
        return await self._send(recipient, Delivery.ENCRYPTED)

    async def _step(
        self, table: Table, what: str, wanted: Outcome, mail: Mail | None = None
    ) -> None:
        answer = await self._stage.daemon.ask(self._stage.lab.entry(LIFE).domain)
        because = "an unexpired policy holds until its owner changes it (RFC 8461 §5.1, §10.2)"
        verdict = self._judge(what, wanted, answer, mail, because)
        cells = [what, f"{say_level(answer)}\n{say_policy(answer)}"]
        if self._stage.postfix is not None:
            cells.append(say_mail(mail) if mail else "-")
        print(*table.row(*cells, verdict), sep="\n", flush=True)
