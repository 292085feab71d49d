# SPDX-License-Identifier: Apache-2.0
"""Any octets are a bounce or ValueError, and what a bounce says is bounded and safe to show.

Addresses and ids hold nothing that could end a header or a command; whoever is named to refuse for
good has a mailbox, a permanent status, and a sentence in printable ASCII.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import instrumented, run

with instrumented():
    from strictmail.core.tlsrpt.bounce import (
        MAX_FIELD_CHARACTERS,
        MAX_RECIPIENTS,
        Refusal,
        read_bounce,
    )

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DETAIL_CHARACTERS = 1000
"""A sentence quotes at most a piece of what the server said."""

_HEAD = """\
From: MAILER-DAEMON@mx.sender.example
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

I am sorry.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.sender.example

"""
_FAILED = """\
Final-Recipient: rfc822; TLS@rcpt.example
Original-Recipient: rfc822;<tls@rcpt.example>
Action: failed
Status: 5.1.1 (no such mailbox)
Diagnostic-Code: smtp; 550 5.1.1 <tls@rcpt.example>: no
  such mailbox
"""
_DELAYED = "Final-Recipient: rfc822; tls@rcpt.example\nAction: delayed\nStatus: 4.4.1\n"
_HEADERS = "\n--b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <1.rcpt.example.2@us.example>\n"
_WHOLE = "\n--b\nContent-Type: message/rfc822\n\nMessage-ID:\n <1.2@us.example>\n\nbody\n--b--\n"


def seeds() -> Iterator[bytes]:
    """Bounces with headers, with the whole message, of several mailboxes; and what is none."""
    for text in (
        _HEAD + _FAILED + _HEADERS,
        _HEAD + _FAILED + _WHOLE,
        _HEAD + _DELAYED + "\n" + _FAILED + _WHOLE,
        "From: a@rcpt.example\nContent-Type: text/plain\n\nI am on holiday.\n",
    ):
        yield text.replace("\n", "\r\n").encode()


def check(data: bytes) -> None:
    """Raise if the invariant is broken."""
    try:
        found = read_bounce(data)
    except ValueError:
        return
    assert found == read_bounce(data)
    assert len(found.refusals) <= MAX_RECIPIENTS
    for report_id in found.report_ids:
        assert not set(report_id) & set("<>\r\n \t")
    for refusal in found.refusals:
        _check_refusal(refusal)


def _check_refusal(refusal: Refusal) -> None:
    local, _, domain = refusal.address.rpartition("@")
    assert local
    assert domain
    assert len(refusal.address) <= MAX_FIELD_CHARACTERS
    assert not set(refusal.address) & set("<>\r\n \t")
    assert refusal.status.startswith("5.")
    assert refusal.detail.isascii()
    assert refusal.detail.isprintable()
    assert len(refusal.detail) <= MAX_DETAIL_CHARACTERS


if __name__ == "__main__":
    run(check, seeds())
