# SPDX-License-Identifier: Apache-2.0
"""Bounces: whose mailbox refuses for good, and of which report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strictmail.core.tlsrpt.bounce import read_bounce

HEAD = """\
From: MAILER-DAEMON@mx.sender.example
To: bounces@sender.example
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

I am sorry.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.sender.example

"""
FAILED = """\
Final-Recipient: rfc822; TLS@a.example
Original-Recipient: rfc822;tls@a.example
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 <tls@a.example>: no such
  mailbox \x1b[31m
"""
DELAYED = """\
Final-Recipient: rfc822; tls@b.example
Action: delayed
Status: 4.4.1
"""
RELAYED = """\
Final-Recipient: rfc822; tls@c.example
Action: relayed
Status: 2.0.0
"""
HEADERS = """
--b
Content-Type: text/rfc822-headers

From: <tls@sender.example>
Message-ID: <2026-01-01.a.example.0011223344556677@sender.example>
--b--
"""
WHOLE = """
--b
Content-Type: message/rfc822

From: <tls@sender.example>
Message-ID:
 <2026-01-01.a.example.0011223344556677@sender.example>

body
--b--
"""
ID = "2026-01-01.a.example.0011223344556677@sender.example"


def octets(*parts: str) -> bytes:
    return "".join(parts).replace("\n", "\r\n").encode()


@pytest.mark.parametrize("returned", [HEADERS, WHOLE])
def test_a_permanent_failure_names_mailbox_and_report(returned: str) -> None:
    found = read_bounce(octets(HEAD, FAILED, "\n", DELAYED, "\n", RELAYED, returned))
    assert found.report_ids == (ID,)
    (refusal,) = found.refusals
    assert (refusal.address, refusal.status) == ("tls@a.example", "5.1.1")
    assert "no such mailbox" in refusal.detail
    assert "\x1b" not in refusal.detail


def test_a_notice_of_delay_is_no_refusal() -> None:
    assert read_bounce(octets(HEAD, DELAYED, HEADERS)).refusals == ()


@pytest.mark.parametrize("text", ["", "From: a\n\nno bounce", "Content-Type: multipart/report"])
def test_what_is_no_bounce(text: str) -> None:
    with pytest.raises(ValueError, match="no bounce"):
        read_bounce(octets(text))


@pytest.mark.req("SEC-42")
@pytest.mark.parametrize(
    "part",
    [
        "Content-Type: message/rfc822\n\n",
        "Content-Type: multipart/mixed; boundary=b{0}\n\n--b{0}\n",
    ],
)
def test_a_bounce_inside_a_bounce_inside_a_bounce(part: str) -> None:
    with pytest.raises(ValueError, match="no bounce: its parts are nested too deep"):
        read_bounce(octets("".join(part.format(number) for number in range(2000))))


@pytest.mark.req("SEC-42")
def test_an_address_without_end_is_none() -> None:
    endless = FAILED.replace("TLS@a.example", "a@" * 50_000).replace("tls@a.example", "a@" * 50_000)
    assert read_bounce(octets(HEAD, endless, HEADERS)).refusals == ()


@pytest.mark.req("SEC-25")
@given(st.binary(max_size=300))
def test_anything_may_stand_in_a_bounce(junk: bytes) -> None:
    for message in (junk, octets(HEAD) + junk, octets(HEAD, FAILED, HEADERS) + junk):
        try:
            found = read_bounce(message)
        except ValueError:
            continue
        assert all("@" in refusal.address for refusal in found.refusals)
