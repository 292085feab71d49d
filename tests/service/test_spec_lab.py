# SPDX-License-Identifier: Apache-2.0
"""What the lab's MX hosts insist on, so that whoever delivers to them has done it."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from typing import TYPE_CHECKING

import pytest

from strictmail.lab.entries import MxHost
from strictmail.lab.net import Lab
from strictmail.lab.zoobuild import ENCRYPTED, entry, expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "mx.t.plain.test"


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    inhabitant = entry("t", "none", "", expect("", ENCRYPTED), mx=[MxHost(HOST)])
    async with Lab(zoo=[inhabitant]) as running:
        yield running


@pytest.mark.req("SEC-05", "STS-APP-42")
async def test_a_greeting_in_the_clear_does_not_count_inside_tls(lab: Lab) -> None:
    def conversation() -> list[int]:
        with smtplib.SMTP(lab.addresses[HOST], lab.smtp_port, "me.test", timeout=30) as client:
            client.ehlo()
            before = client.docmd("MAIL", "FROM:<>")[0]
            client.docmd("RSET")
            context = ssl.create_default_context(cafile=lab.ca_file)
            client._host = HOST  # type: ignore[attr-defined]
            client.starttls(context=context)
            forgotten = client.docmd("MAIL", "FROM:<>")[0]
            client.ehlo()
            return [before, forgotten, client.docmd("MAIL", "FROM:<>")[0]]

    assert await asyncio.to_thread(conversation) == [250, 503, 250]
