# SPDX-License-Identifier: Apache-2.0
"""What happened in the demo, in words, and whether it should have. Pure."""

from __future__ import annotations

import itertools
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.decision import Level
from strictmail.core.explain import LEVEL_WORDS, printable
from strictmail.lab.entries import ARRIVES, Delivery

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.lab.entries import Outcome
    from strictmail.lab.net import ReceivedMessage
    from strictmail.resolver.documents import DecisionDocument

MAX_WHY_LENGTH: Final = 160
GAP: Final = "  "

AS_EXPECTED: Final = "as it should be"
NOT_AS_EXPECTED: Final = "NOT as expected"

ARRIVAL_WORDS: Final = {
    Delivery.VERIFIED: "arrives over verified TLS",
    Delivery.ENCRYPTED: "arrives over TLS, nobody verified",
    Delivery.PLAINTEXT: "arrives in the clear",
}


@dataclass(frozen=True, slots=True)
class Mail:
    """What became of one message.

    Attributes:
        delivery: As Postfix logged it.
        host: The MX host that Postfix gave it to, or "".
        why: Postfix's words; foreign text in it.
        received: What MX hosts took of it.
        named: Whether its recipient was named to any of them.
    """

    delivery: Delivery
    host: str
    why: str
    received: tuple[ReceivedMessage, ...]
    named: bool


def find_faults(wanted: Outcome, level: str, mail: Mail | None) -> Iterator[str]:
    """Say what is not as the zoo wants it; nothing: all is.

    Args:
        wanted: What must happen.
        level: What strictmail answered.
        mail: What became of the message, if one was sent.
    """
    if wanted.level is not None and level != wanted.level:
        yield f"the answer is {level}, not {wanted.level}"
    if mail is None:
        return
    if not wanted.allows(mail.delivery):
        yield f"the mail is {mail.delivery}, not {wanted.delivery}"
    if mail.delivery in ARRIVES:
        yield from _arrival_faults(wanted, mail)
    elif mail.received:
        yield "an MX host took it all the same"
    elif mail.delivery is Delivery.DEFERRED and mail.named:
        # RFC 8461 §5: neither message nor envelope goes to a host that fails (STS-APP-50).
        yield "its recipient was named to an MX host"


def _arrival_faults(wanted: Outcome, mail: Mail) -> Iterator[str]:
    hosts = [message.host for message in mail.received]
    if hosts != [mail.host]:
        yield f"Postfix gave it to {mail.host}, and it was taken by {', '.join(hosts) or 'nobody'}"
    elif mail.received[0].tls != (mail.delivery is not Delivery.PLAINTEXT):
        yield "the MX host saw another kind of session than Postfix"
    if mail.delivery is wanted.delivery and wanted.received_by not in (None, mail.host):
        yield f"it arrived at {mail.host}, not at {wanted.received_by}"


def say_level(answer: DecisionDocument) -> str:
    """What is answered, for a cell."""
    return f"{answer.level}: {LEVEL_WORDS[Level(answer.level)]}"


def say_why(answer: DecisionDocument) -> str:
    """Why it is answered, for a cell."""
    why = f"{answer.sentence} ({answer.source})"
    if answer.failure is not None:
        why += f"\nPolicy not learnt: {printable(answer.failure.reason, MAX_WHY_LENGTH)}"
    return why


def say_policy(answer: DecisionDocument) -> str:
    """The policy that the answer rests on, for a cell."""
    policy = answer.policy
    if policy is None:
        return "no policy"
    return f"policy {printable(policy.id)}, mode {policy.mode}, good until {policy.expires_at}"


def say_mail(mail: Mail) -> str:
    """What became of a message, for a cell."""
    if mail.delivery not in ARRIVES:
        outcome = "waits" if mail.delivery is Delivery.DEFERRED else "comes back"
        end = "" if mail.received else "\nMX hosts got nothing."
        return f"{outcome}: {printable(mail.why, MAX_WHY_LENGTH)}{end}"
    got = "".join(f"\n{m.host} got it ({m.tls_version or 'no TLS'})" for m in mail.received)
    return f"{ARRIVAL_WORDS[mail.delivery]}{got}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its title, and its share of the width."""

    title: str
    share: int


class Table:
    """A table whose cells are wrapped, so that rows can be printed as they come.

    Args:
        columns: Titles and shares of the width.
        width: Of the whole, in characters.
    """

    def __init__(self, columns: Sequence[Column], width: int) -> None:
        self._titles = [column.title for column in columns]
        shares = sum(column.share for column in columns)
        room = width - len(GAP) * (len(columns) - 1)
        self._widths = [room * column.share // shares for column in columns]

    def head(self) -> Iterator[str]:
        """The titles, and a line below them."""
        yield from self.row(*self._titles)
        yield GAP.join("-" * width for width in self._widths)

    def row(self, *cells: str) -> Iterator[str]:
        """One row, in as many lines as its longest cell takes; cells may have line ends."""
        wrapped = [
            [piece for line in cell.split("\n") for piece in textwrap.wrap(line, width)]
            for cell, width in zip(cells, self._widths, strict=True)
        ]
        for pieces in itertools.zip_longest(*wrapped, fillvalue=""):
            padded = (p.ljust(width) for p, width in zip(pieces, self._widths, strict=True))
            yield GAP.join(padded).rstrip()
