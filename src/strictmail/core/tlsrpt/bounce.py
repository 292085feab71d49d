# SPDX-License-Identifier: Apache-2.0
"""A bounce of a report mail: which report it is about, and which addresses refuse for good.

A bounce is anybody's text: it counts only where it names a report that was really sent to that
address, which whoever has the outbox finds out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email import policy
from email.parser import BytesParser
from typing import TYPE_CHECKING, Final

from strictmail.core.tagrecord import quote

if TYPE_CHECKING:
    from email.message import Message

MAX_BOUNCE_BYTES: Final = 256 * 1024
"""The headers of what bounced are enough; whole reports come back from some servers."""

MAX_RECIPIENTS: Final = 100

MAX_FIELD_CHARACTERS: Final = 1000
"""Of a field that is looked at; no address is as long."""

_MESSAGE_ID: Final = re.compile(r"<([^<>\s]{1,998})>")
_FINAL: Final = re.compile(r"\s*rfc822\s*;\s*<?([^<>\s]+@[^<>\s@]+)>?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An address that refuses for good.

    Attributes:
        address: The mailbox.
        status: Its enhanced status code, as in `5.1.1`.
        detail: A sentence with the server's words, escaped.
    """

    address: str
    status: str
    detail: str


@dataclass(frozen=True, slots=True)
class Bounce:
    """What a bounce says.

    Attributes:
        report_ids: Message ids in what came back, without brackets.
        refusals: The addresses that failed permanently; empty for a notice of delay.
    """

    report_ids: tuple[str, ...]
    refusals: tuple[Refusal, ...]


def read_bounce(data: bytes) -> Bounce:
    """Read a delivery status notification.

    Args:
        data: The message; what is beyond MAX_BOUNCE_BYTES is not looked at.

    Raises:
        ValueError: It is no delivery status notification, or nested too deep to be one.

    Spec: RFC 3464 §2.
    """
    try:
        message = BytesParser(policy=policy.compat32).parsebytes(data[:MAX_BOUNCE_BYTES])
        parts = list(message.walk())
    except RecursionError:
        # BCP: anybody can write to the address of bounces (SEC-42).
        raise ValueError("this is no bounce: its parts are nested too deep") from None
    statuses = [part for part in parts if part.get_content_type() == "message/delivery-status"]
    if not statuses:
        raise ValueError("this is no bounce: it has no part of type message/delivery-status")
    refusals = [
        refusal
        for status in statuses
        for block in _blocks(status)
        if (refusal := _refusal(block)) is not None
    ]
    return Bounce(tuple(_ids(parts)), tuple(refusals[:MAX_RECIPIENTS]))


def _blocks(status: Message) -> list[Message]:
    """The blocks of fields of a delivery status: one for the message, then one a recipient."""
    payload = status.get_payload()
    return [block for block in payload if not isinstance(block, str)]  # type: ignore[union-attr, unused-ignore]


def _refusal(block: Message) -> Refusal | None:
    # RFC 3464 §2.3.3: `failed` is for good; a delay or a relay is no refusal.
    action = _field(block, "Action").strip().lower()
    status = _field(block, "Status").strip().partition(" ")[0]
    place = _field(block, "Original-Recipient") or _field(block, "Final-Recipient")
    found = _FINAL.fullmatch(place) if len(place) < MAX_FIELD_CHARACTERS else None
    # RFC 3463 §2: class 5 is permanent.
    if action != "failed" or not status.startswith("5.") or found is None:
        return None
    said = " ".join(_field(block, "Diagnostic-Code").split())
    return Refusal(found[1], status, f"a bounce with status {quote(status)}: {quote(said)}")


def _field(block: Message, name: str) -> str:
    return str(block.get(name, ""))[:MAX_FIELD_CHARACTERS]


def _ids(parts: list[Message]) -> list[str]:
    """Message ids of what came back: its headers, or the whole of it."""
    texts: list[str] = []
    for part in parts:
        kind = part.get_content_type()
        if kind == "text/rfc822-headers":
            payload = part.get_payload(decode=True)
            texts += _header_ids(payload if isinstance(payload, bytes) else b"")
        elif kind == "message/rfc822":
            inner = part.get_payload()
            if isinstance(inner, list) and inner:
                texts.append(str(inner[0].get("Message-ID", "")))  # type: ignore[union-attr, unused-ignore]
    return [found[1] for text in texts if (found := _MESSAGE_ID.search(text))]


def _header_ids(octets: bytes) -> list[str]:
    head = BytesParser(policy=policy.compat32).parsebytes(octets, headersonly=True)
    return [str(value) for value in head.get_all("Message-ID", [])]
