# SPDX-License-Identifier: Apache-2.0
"""MX hosts that do not want to talk to a check are never said to fail.

A domain with an enforced policy and TLSA records, all of it in order, behind a host that limits,
greylists, tarpits, blocks, hangs up or is not there for us: what it does to others nobody knows, so
that there is no warning, nothing critical, and no verdict. Where the host relents, or lets one
connection in at a time, nothing is amiss at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from strictmail.checker.assemble import assemble
from strictmail.checker.settings import CheckSettings
from strictmail.core.check.judge import judge
from strictmail.core.check.result import Prediction, Severity
from strictmail.lab.entries import MxFault
from strictmail.lab.net import Lab
from strictmail.lab.zoo import ZOO
from strictmail.net.connectto import ConnectMap
from strictmail.net.dns import DnsResolver
from strictmail.net.smtpdialogue import DEFAULT_LIMITS, ProbeLimits
from strictmail.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from strictmail.core.check.result import CheckResult

DOMAIN, HOST = "both.signed.test", "mx.both.signed.test"
IMPATIENT: Final = ProbeLimits(connect=0.2, greeting=0.2, command=0.2)
"""For what is known never to come."""

SILENCE, HANG_UP = "(silence)", "(hangs up)"
CAPABLE: Final = "250-mx.both.signed.test\r\n250 STARTTLS"
POLITE: Final = {
    "CONNECT": "220 mx.both.signed.test ESMTP",
    "EHLO": CAPABLE,
    "STARTTLS": "220 go ahead",
    "QUIT": "221 bye",
}

HOSTS: Final[Mapping[str, Mapping[str, str]]] = {
    "rate-limit-at-connect": {"CONNECT": "421 4.7.0 Too many connections from your address"},
    "rate-limit-after-ehlo": {"EHLO": "421 4.7.28 Rate limit exceeded, closing"},
    "rate-limit-at-starttls": {"STARTTLS": "421 4.7.0 Too many commands"},
    "limit-on-tls-sessions": {"STARTTLS": "454 4.7.0 Error: too many new TLS sessions from x"},
    "greylist-at-connect": {"CONNECT": "450 4.7.1 Greylisted, come back in 5 minutes"},
    "greylist-at-ehlo": {"EHLO": "450 4.7.1 Greylisted, come back in 5 minutes"},
    "out-of-order-at-ehlo": {"EHLO": "451 4.3.0 Local problem"},
    "block-list-at-connect": {"CONNECT": "554 5.7.1 Client host blocked, see blocklist.test"},
    "block-list-at-ehlo": {
        "EHLO": "550 5.7.1 Client host blocked",
        "HELO": "550 5.7.1 Client host blocked",
    },
    "tarpit-at-connect": {"CONNECT": SILENCE},
    "tarpit-after-ehlo": {"EHLO": SILENCE},
    "tarpit-after-starttls": {"STARTTLS": SILENCE},
    "tarpit-in-the-handshake": {"STARTTLS": "220 go ahead", "HELLO": SILENCE},
    "hangs-up-at-connect": {"CONNECT": HANG_UP},
    "hangs-up-after-ehlo": {"EHLO": HANG_UP},
    "hangs-up-after-starttls": {"STARTTLS": HANG_UP},
    "hangs-up-in-the-handshake": {"STARTTLS": "220 go ahead", "HELLO": HANG_UP},
    "busy-in-the-handshake": {"STARTTLS": "220 go ahead", "HELLO": "421 4.3.2 Shutting down"},
}
"""What a host says instead of what a polite one would: by command; HELLO is that of TLS."""


async def play(
    replies: Mapping[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    verb = "CONNECT"
    while True:
        reply = (POLITE | dict(replies)).get(verb, "502 no")
        if reply == HANG_UP:
            return
        if reply != SILENCE:
            writer.write(f"{reply}\r\n".encode())
            await writer.drain()
        if reply.startswith("220 go"):
            data, verb = await reader.read(1000), "HELLO"
        else:
            data = await reader.readline()
            verb = data.decode("latin-1").strip().partition(" ")[0].upper()
        if not data:
            return


@asynccontextmanager
async def scripted(replies: Mapping[str, str]) -> AsyncIterator[int]:
    """A host that plays; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await play(replies, reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def lab_with(names: Sequence[str]) -> AsyncIterator[Lab]:
    async with Lab(zoo=[entry for entry in ZOO if entry.name in names]) as lab:
        yield lab


async def check(
    lab: Lab,
    *domains: str,
    smtp: str | None = None,
    limits: ProbeLimits = DEFAULT_LIMITS,
) -> list[CheckResult]:
    """Check domains at once; connections to MX hosts go to `smtp`, else into the lab."""
    resolver = DnsResolver([lab.dns_address], trust_ad=True, rng=random.Random(1))
    await resolver.start()
    await resolver.probe()
    gatherer = assemble(
        resolver,
        CheckSettings(
            ehlo_name="check.test",
            probe_limits=limits,
            allow_networks=("127.0.0.0/8",),
            port25_canaries=(),
            spacing_seconds=0.0,
            retry_seconds=0.0,
            want_authorities=False,
            want_rua=False,
        ),
        clock=SystemClock(),
        rng=random.Random(2),
        mx_ca_file=lab.ca_file,
        policy_ca_file=lab.ca_file,
        connect_map=ConnectMap.parse(
            [f":25:{smtp or f':{lab.smtp_port}'}", f":443::{lab.https_port}"]
        ),
    )
    try:
        return [judge(facts) for facts in await asyncio.gather(*map(gatherer.gather, domains))]
    finally:
        await gatherer.close()
        await resolver.close()


def assert_nothing_is_held_against_it(result: CheckResult) -> None:
    story = [(f.severity, f.id, f.sentence) for f in result.findings]
    assert result.status is Severity.UNKNOWN, story
    assert not {f.severity for f in result.findings} & {Severity.CRITICAL, Severity.WARNING}, story
    assert {one.prediction for one in result.senders} == {Prediction.UNKNOWN}, result.senders
    assert not any(one.certain for one in result.senders)


@pytest.mark.parametrize("replies", HOSTS.values(), ids=HOSTS)
async def test_a_host_that_does_not_talk_to_us(replies: Mapping[str, str]) -> None:
    async with lab_with(["both"]) as lab, scripted(replies) as port:
        (result,) = await check(lab, DOMAIN, smtp=f"127.0.0.1:{port}", limits=IMPATIENT)
    assert_nothing_is_held_against_it(result)


async def test_a_host_that_refuses_connections() -> None:
    async with lab_with(["both"]) as lab:
        lab.break_mx_host(HOST, MxFault.REFUSE)
        (result,) = await check(lab, DOMAIN)
    assert_nothing_is_held_against_it(result)


async def test_a_host_that_drops_packets() -> None:
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        place = listener.getsockname()
        # Nobody takes them in: from then on, nothing answers.
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(place)
        async with lab_with(["both"]) as lab:
            smtp = f"127.0.0.1:{place[1]}"
            (result,) = await check(lab, DOMAIN, smtp=smtp, limits=IMPATIENT)
    assert_nothing_is_held_against_it(result)


@pytest.mark.parametrize("fault", [MxFault.BUSY_AT_FIRST, MxFault.BUSY_SOON, MxFault.SLOW_GREETING])
async def test_a_host_that_relents_is_in_order(fault: MxFault) -> None:
    """421 to strangers the first time; 421 from the second connection on; octet by octet."""
    async with lab_with(["both"]) as lab:
        lab.break_mx_host(HOST, fault)
        (result,) = await check(lab, DOMAIN)
    assert result.status is Severity.OK, result.findings
    assert all(one.prediction is not Prediction.UNKNOWN for one in result.senders)


async def test_one_connection_at_a_time_is_enough() -> None:
    """A host lets in one connection of ours at a time; domains that share it are all in order."""
    refused = []
    inside = 0

    async with lab_with(["both", "good"]) as lab:
        places = {name: (lab.addresses[name], lab.smtp_port) for name in (HOST,)}

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal inside
            inside += 1
            try:
                if inside > 1:
                    refused.append(inside)
                    writer.write(b"421 4.7.0 Too many connections from your address\r\n")
                    return
                far_reader, far_writer = await asyncio.open_connection(*places[HOST])
                await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))
            finally:
                inside -= 1
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            port = server.sockets[0].getsockname()[1]
            # Other domains whose mail goes to the same host.
            others = [f"customer{number}.signed.test" for number in range(5)]
            for domain in others:
                lab.data.replace(domain, "MX", [f"10 {HOST}."])
            results = await check(lab, DOMAIN, *others, smtp=f"127.0.0.1:{port}")
        finally:
            server.close()
    assert not refused
    for result in results:
        assert [one.outcome for host in result.hosts for one in host.addresses] == ["tls"]


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
