# SPDX-License-Identifier: Apache-2.0
"""What the replies of a mail server mean for a report, beyond their codes.

=====================================  ==========================  ============================
reply                                  of the recipient's server   of a server that relays
=====================================  ==========================  ============================
not welcome, before the recipient      retry                       retry: it is ours to mend
5xx to RCPT, 5.1.x or 5.2.1            dead                        dead
5xx to RCPT, 5.7.x                     give up: it is about us     retry: relaying is refused
5xx to RCPT, otherwise                 dead                        retry
4xx, 552 to RCPT                       retry                       retry
5xx to the message                     give up                     give up
=====================================  ==========================  ============================

A relay that is set up wrongly refuses everybody: that must neither lose a night's reports nor
suppress all destinations.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from strictmail.core.tlsrpt.delivery import OutcomeKind, SendOutcome, judge_smtp_code

if TYPE_CHECKING:
    from strictmail.core.smtpreply import Reply

TLS_NEEDED: Final = 530
"""RFC 3207 §4: `Must issue a STARTTLS command first`."""

_ENHANCED: Final = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)")
_NO_SUCH_MAILBOX: Final = re.compile(r"5\.(?:1\.\d+|2\.1)")


def enhanced_status(reply: Reply) -> str:
    """The enhanced status code of a reply (RFC 3463 §2), or ""."""
    found = _ENHANCED.match(reply.lines[0])
    return found[1] if found else ""


def judge_welcome(reply: Reply, what: str) -> SendOutcome:
    """A refusal before the recipient was named: of the connection, of us, of the sender."""
    return SendOutcome(OutcomeKind.RETRY, f"{what}: {reply.shown}")


def judge_recipient(reply: Reply, *, relayed: bool) -> SendOutcome:
    """A refusal of RCPT.

    Args:
        reply: 4xx or 5xx.
        relayed: It is a server of ours, which passes mail on.
    """
    detail = f"RCPT: {reply.shown}"
    status = enhanced_status(reply)
    if reply.is_permanent and relayed and not _NO_SUCH_MAILBOX.fullmatch(status):
        return SendOutcome(OutcomeKind.RETRY, f"{detail} (by our own relay)")
    if reply.is_permanent and status.startswith("5.7."):
        return SendOutcome(OutcomeKind.GIVE_UP, detail)
    return judge_smtp_code(reply.code, detail, about_recipient=True)


def judge_message(reply: Reply) -> SendOutcome:
    """The answer to DATA, or to the message behind it."""
    return judge_smtp_code(reply.code, f"DATA: {reply.shown}", about_recipient=False)
