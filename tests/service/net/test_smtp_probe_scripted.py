# SPDX-License-Identifier: Apache-2.0
"""The SMTP/TLS probe against hosts that do what no lab host does: scripts of raw octets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING

import pytest

from strictmail.core.check.facts import (
    KeyType,
    ProbeFacts,
    ProbeOutcome,
    ProbeTarget,
    UnknownReason,
)
from strictmail.core.smtpreply import MAX_LINE_BYTES, MAX_REPLY_LINES
from strictmail.lab.ca import CertificateAuthority
from strictmail.lab.connection import Connection, Listener, server_context
from strictmail.lab.entries import CertFault
from strictmail.net.smtp import ProbeLimits, SmtpTlsProber
from strictmail.net.tls import ClientConnection
from strictmail.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Script = Callable[["Host"], Awaitable[None]]

HOST = "mx.s.test"
ADDRESS = "127.0.0.1"
SOON = ProbeLimits(greeting=0.05)
"""For hosts that never greet."""


class Host:
    """A connection, with what the client said so far."""

    def __init__(self, connection: Connection, ca: CertificateAuthority, number: int) -> None:
        self.connection = connection
        self.ca = ca
        self.number = number
        self.heard: list[bytes] = []

    async def say(self, *lines: str) -> None:
        await self.send("".join(f"{line}\r\n" for line in lines).encode("latin-1"))

    async def send(self, data: bytes) -> None:
        await self.connection.write(data)

    async def hear(self) -> bytes:
        self.heard.append(await self.connection.read_line())
        return self.heard[-1]

    async def offer(self) -> None:
        """Up to and with STARTTLS."""
        await self.say(f"220 {HOST}")
        assert await self.hear() == b"EHLO probe.test"
        await self.say(f"250-{HOST}", "250 starttls")
        assert await self.hear() == b"STARTTLS"

    async def secure(self, *, old: bool = False) -> None:
        """Up to and with the handshake."""
        await self.offer()
        await self.say("220 go")
        good = self.ca.issue(CertFault.GOOD, HOST, domain="s.test", address=ADDRESS)
        await self.connection.start_tls(server_context(good.chain_file, old=old))


class Stage:
    """Where a script is played: what a probe saw, and what the host heard."""

    def __init__(self, ca: CertificateAuthority) -> None:
        self.ca = ca
        self.hosts: list[Host] = []

    async def play(
        self,
        script: Script,
        *,
        limits: ProbeLimits | None = None,
        key_type: KeyType = KeyType.ANY,
    ) -> ProbeFacts:
        async def serve(connection: Connection) -> None:
            host = Host(connection, self.ca, len(self.hosts))
            self.hosts.append(host)
            await script(host)

        listener = Listener(serve)
        port = listener.bind(ADDRESS, 0)
        try:
            prober = SmtpTlsProber(
                SystemClock(),
                ehlo_name="probe.test",
                ca_file=str(self.ca.ca_file),
                limits=limits or ProbeLimits(),
            )
            return await prober.probe(ProbeTarget(HOST, ADDRESS, HOST, key_type, port))
        finally:
            await listener.close()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"), SystemClock().now())


@pytest.fixture
def stage(ca: CertificateAuthority) -> Stage:
    return Stage(ca)


def reason(facts: ProbeFacts) -> UnknownReason:
    assert facts.outcome is ProbeOutcome.UNKNOWN, facts
    assert facts.unknown is not None
    return facts.unknown.reason


GREETINGS = {
    "SSH-2.0-OpenSSH_9": UnknownReason.REJECTED,
    "250 wrong code": UnknownReason.REJECTED,
    "220-a\r\n250 b": UnknownReason.REJECTED,
    "220 " + "x" * MAX_LINE_BYTES: UnknownReason.REJECTED,
    "\r\n".join(["220-x"] * (MAX_REPLY_LINES + 1)): UnknownReason.REJECTED,
    "421 busy": UnknownReason.BUSY,
    "450 busy": UnknownReason.BUSY,
    "521 no mail here": UnknownReason.REJECTED,
}


@pytest.mark.parametrize(("greeting", "expected"), GREETINGS.items())
async def test_greetings(stage: Stage, greeting: str, expected: UnknownReason) -> None:
    async def script(host: Host) -> None:
        await host.say(greeting)
        await host.hear()

    assert reason(await stage.play(script)) is expected


async def test_a_host_that_hangs_up_at_once(stage: Stage) -> None:
    async def script(_: Host) -> None:
        pass

    assert reason(await stage.play(script)) is UnknownReason.REFUSED


async def test_half_a_greeting(stage: Stage) -> None:
    async def script(host: Host) -> None:
        await host.send(b"220-wait")
        await host.connection.wait_closed()

    assert reason(await stage.play(script, limits=SOON)) is UnknownReason.TARPIT


@pytest.mark.parametrize("said", ["250 hi", "250-hi\r\n250 PIPELINING", "250-x\r\n250 STARTTLSX"])
async def test_no_starttls(stage: Stage, said: str) -> None:
    async def script(host: Host) -> None:
        await host.say(f"220 {HOST}")
        await host.hear()
        await host.say(said)
        assert await host.hear() == b"QUIT"
        await host.say("221 bye")

    assert (await stage.play(script)).outcome is ProbeOutcome.NO_STARTTLS


@pytest.mark.parametrize(
    ("to_ehlo", "to_helo", "expected"),
    [
        ("500 what?", "250 hi", ProbeOutcome.NO_STARTTLS),
        ("550 who are you?", "250 hi", ProbeOutcome.NO_STARTTLS),
        ("550 who are you?", "550 no", UnknownReason.REJECTED),
        ("502 what?", "450 later", UnknownReason.BUSY),
        ("421 closing", "", UnknownReason.BUSY),
        ("354 odd", "", UnknownReason.REJECTED),
        ("garbage", "", UnknownReason.REJECTED),
    ],
)
@pytest.mark.req("SEC-02")
async def test_ehlo_and_helo(
    stage: Stage, to_ehlo: str, to_helo: str, expected: ProbeOutcome | UnknownReason
) -> None:
    async def script(host: Host) -> None:
        await host.say(f"220 {HOST}")
        await host.hear()
        await host.say(to_ehlo)
        if to_helo:
            assert await host.hear() == b"HELO probe.test"
            await host.say(to_helo)
        await host.hear()

    facts = await stage.play(script)
    if isinstance(expected, UnknownReason):
        assert reason(facts) is expected
    else:
        assert facts.outcome is expected


STARTTLS_REPLIES = {
    "454 not now": ProbeOutcome.STARTTLS_TEMPORARY,
    "421 too many": UnknownReason.BUSY,
    "454 4.7.0 Error: too many new TLS sessions from x": UnknownReason.BUSY,
    "450 4.7.1 Try again later": UnknownReason.BUSY,
    "454 4.7.0 TLS not available due to temporary reason": ProbeOutcome.STARTTLS_TEMPORARY,
    "501 no": ProbeOutcome.STARTTLS_REFUSED,
    "554 no": ProbeOutcome.STARTTLS_REFUSED,
    "354 odd": UnknownReason.REJECTED,
    "what?": UnknownReason.REJECTED,
}


@pytest.mark.parametrize(("said", "expected"), STARTTLS_REPLIES.items())
async def test_replies_to_starttls(
    stage: Stage, said: str, expected: ProbeOutcome | UnknownReason
) -> None:
    async def script(host: Host) -> None:
        await host.offer()
        await host.say(said)
        await host.hear()

    facts = await stage.play(script)
    if isinstance(expected, UnknownReason):
        assert reason(facts) is expected
    else:
        assert facts.outcome is expected
        assert facts.reply == said


@pytest.mark.parametrize("octets", [b"250 x\r\n", b"\0", b"\x16\x03\x03", b"250"])
@pytest.mark.req("SEC-03", "STS-APP-43")
async def test_any_octet_behind_the_220_is_an_injection(stage: Stage, octets: bytes) -> None:
    async def script(host: Host) -> None:
        await host.offer()
        await host.send(b"220 go\r\n" + octets)
        await host.connection.wait_closed()

    facts = await stage.play(script)
    assert facts.outcome is ProbeOutcome.INJECTED
    assert facts.attempts == 1
    # Dropped, not taken leave of: whoever is there is not the host.
    assert stage.hosts[0].heard[-1] == b"STARTTLS"


@pytest.mark.req("SEC-03")
async def test_a_late_injection_breaks_the_handshake(stage: Stage) -> None:
    async def script(host: Host) -> None:
        await host.offer()
        await host.say("220 go")
        await host.connection.read()
        await host.say("250-injected.test", "250 SIZE 1")
        await host.connection.wait_closed()

    facts = await stage.play(script)
    assert facts.outcome is ProbeOutcome.TLS_FAILED
    assert "250-injected.test" in facts.detail
    assert facts.tls is None


async def test_a_busy_host_may_say_so_instead_of_tls(stage: Stage) -> None:
    async def script(host: Host) -> None:
        await host.offer()
        await host.say("220 go")
        await host.connection.read()
        await host.say("421 too many TLS sessions")
        await host.connection.wait_closed()

    facts = await stage.play(script)
    assert reason(facts) is UnknownReason.BUSY
    assert "421 too many" in facts.detail


@pytest.mark.parametrize("octet", [b"\x15", b"\x16", b"\x16\x02"])
async def test_pieces_of_records(stage: Stage, octet: bytes) -> None:
    async def script(host: Host) -> None:
        await host.offer()
        await host.say("220 go")
        await host.connection.read()
        await host.send(octet)

    facts = await stage.play(script)
    if octet == b"\x16\x02":
        assert facts.outcome is ProbeOutcome.TLS_FAILED
    else:
        assert reason(facts) is UnknownReason.REFUSED


HANDSHAKE_FAILURE = b"\x15\x03\x03\x00\x02\x02\x28"
INTERNAL_ERROR = b"\x15\x03\x03\x00\x02\x02\x50"


@pytest.mark.parametrize("alert", [HANDSHAKE_FAILURE, INTERNAL_ERROR])
async def test_an_alert_twice_is_a_failure(stage: Stage, alert: bytes) -> None:
    async def script(host: Host) -> None:
        await host.offer()
        await host.say("220 go")
        await host.connection.read()
        await host.send(alert)

    facts = await stage.play(script)
    assert facts.outcome is ProbeOutcome.TLS_FAILED
    assert "ALERT" in facts.detail
    assert facts.attempts == 2


async def test_an_alert_once_is_none(stage: Stage) -> None:
    async def script(host: Host) -> None:
        if host.number:
            await host.secure()
            await host.hear()
            await host.say(f"250 {HOST}")
            await host.hear()
            return
        await host.offer()
        await host.say("220 go")
        await host.connection.read()
        await host.send(INTERNAL_ERROR)

    facts = await stage.play(script)
    assert facts.outcome is ProbeOutcome.TLS
    assert facts.tls is not None
    assert facts.tls.version == "TLSv1.3"
    assert "INTERNAL_ERROR" in facts.detail


async def test_an_old_host_that_hangs_up_on_new_versions(stage: Stage) -> None:
    async def script(host: Host) -> None:
        if not host.number:
            await host.offer()
            await host.say("220 go")
            await host.connection.read()
            return
        await host.secure(old=True)
        await host.hear()
        await host.say(f"250 {HOST}")
        await host.hear()

    facts = await stage.play(script)
    assert facts.outcome is ProbeOutcome.TLS_OUTDATED
    assert facts.tls is not None
    assert facts.tls.version == "TLSv1"


async def test_a_busy_second_connection_leaves_the_first_word(stage: Stage) -> None:
    async def script(host: Host) -> None:
        if host.number:
            await host.say("421 enough")
            return
        await host.offer()
        await host.say("220 go")
        await host.connection.read()

    facts = await stage.play(script)
    assert reason(facts) is UnknownReason.REFUSED
    assert facts.attempts == 2


async def test_a_handshake_that_hangs_is_unknown(stage: Stage) -> None:
    async def script(host: Host) -> None:
        await host.offer()
        await host.say("220 go")
        await host.connection.wait_closed()

    facts = await stage.play(script, limits=ProbeLimits(command=0.3))
    assert reason(facts) is UnknownReason.TIMEOUT
    assert facts.attempts == 1


@pytest.mark.parametrize(
    ("said", "expected"),
    [("421 bye", UnknownReason.BUSY), ("554 no", UnknownReason.REJECTED), ("", None)],
)
@pytest.mark.req("STS-APP-42")
async def test_ehlo_inside_tls(stage: Stage, said: str, expected: UnknownReason | None) -> None:
    async def script(host: Host) -> None:
        await host.secure()
        assert await host.hear() == b"EHLO probe.test"
        if said:
            await host.say(said)
            with contextlib.suppress(EOFError):
                await host.hear()

    facts = await stage.play(script)
    assert reason(facts) is (expected or UnknownReason.REFUSED)
    # What was seen is kept.
    assert facts.tls is not None
    assert facts.tls.pkix.is_valid


@pytest.mark.req("SEC-05", "STS-APP-42")
async def test_the_dialogue_word_for_word(stage: Stage) -> None:
    async def script(host: Host) -> None:
        await host.secure()
        await host.hear()
        await host.say("250-inside.test", "250 SIZE 1")
        await host.hear()
        await host.say("221 bye")

    facts = await stage.play(script)
    assert facts.outcome is ProbeOutcome.TLS
    assert facts.helo == "inside.test"
    heard = [line.decode() for line in stage.hosts[0].heard]
    assert heard == ["EHLO probe.test", "STARTTLS", "EHLO probe.test", "QUIT"]


async def test_a_host_that_does_not_answer_quit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strictmail.net.smtpdialogue.QUIT_SECONDS", 0.01)

    async def script(host: Host) -> None:
        await host.say(f"220 {HOST}")
        await host.hear()
        await host.say("250 hi")
        await host.connection.wait_closed()

    assert (await stage.play(script)).outcome is ProbeOutcome.NO_STARTTLS


async def test_the_whole_time_is_limited(stage: Stage) -> None:
    async def script(host: Host) -> None:
        await host.connection.wait_closed()

    facts = await stage.play(script, limits=ProbeLimits(whole=0.05))
    assert reason(facts) is UnknownReason.TIMEOUT
    assert "not done within 0.05 s" in facts.detail


async def test_an_endless_flood_inside_tls_is_bounded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strictmail.net.tls.MAX_CONNECTION_BYTES", 8 * 1024)

    async def script(host: Host) -> None:
        await host.secure()
        while True:
            await host.send(b"250-x\r\n")

    facts = await stage.play(script)
    assert reason(facts) is UnknownReason.REJECTED


async def test_foreign_text_is_escaped(stage: Stage) -> None:
    async def script(host: Host) -> None:
        await host.say("421 \x1b[31m`\xff")

    facts = await stage.play(script)
    assert facts.reply == "421 \\x1b[31m\\x60\\xff"
    assert facts.detail.isprintable()
    assert facts.helo == "\\x1b[31m\\x60\\xff"


ERRORS = {
    errno.ECONNREFUSED: UnknownReason.REFUSED,
    errno.ECONNRESET: UnknownReason.REFUSED,
    errno.ENETUNREACH: UnknownReason.NO_ROUTE,
    errno.EHOSTUNREACH: UnknownReason.NO_ROUTE,
    errno.EAFNOSUPPORT: UnknownReason.NO_ROUTE,
    errno.EADDRNOTAVAIL: UnknownReason.NO_ROUTE,
    errno.ETIMEDOUT: UnknownReason.TIMEOUT,
    errno.EACCES: UnknownReason.PORT_BLOCKED,
    errno.EPERM: UnknownReason.PORT_BLOCKED,
    errno.EMFILE: UnknownReason.LIMIT,
}


@pytest.mark.parametrize(("number", "expected"), ERRORS.items())
async def test_errors_of_connect(
    monkeypatch: pytest.MonkeyPatch,
    ca: CertificateAuthority,
    number: int,
    expected: UnknownReason,
) -> None:
    async def refuse(*_: object) -> ClientConnection:
        raise OSError(number, "no")

    monkeypatch.setattr(ClientConnection, "open", refuse)
    prober = SmtpTlsProber(SystemClock(), ehlo_name="probe.test", ca_file=str(ca.ca_file))
    facts = await prober.probe(ProbeTarget(HOST, "192.0.2.1", HOST))
    assert reason(facts) is expected
    assert errno.errorcode[number] in facts.detail or expected is UnknownReason.TIMEOUT


@pytest.mark.parametrize("address", ["mx.s.test", "", "300.1.1.1", "fe80::1%nowhere", "::gg"])
async def test_what_is_no_address_is_not_looked_up(ca: CertificateAuthority, address: str) -> None:
    prober = SmtpTlsProber(SystemClock(), ehlo_name="probe.test", ca_file=str(ca.ca_file))
    assert reason(await prober.probe(ProbeTarget(HOST, address, HOST))) is UnknownReason.NO_ROUTE


async def test_a_full_backlog_is_a_timeout(ca: CertificateAuthority) -> None:
    with socket.socket() as listening, contextlib.ExitStack() as others:
        listening.bind((ADDRESS, 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        for _ in range(3):
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex((ADDRESS, port))
        prober = SmtpTlsProber(
            SystemClock(),
            ehlo_name="probe.test",
            ca_file=str(ca.ca_file),
            limits=ProbeLimits(connect=0.05),
        )
        facts = await prober.probe(ProbeTarget(HOST, ADDRESS, HOST, port=port))
    assert reason(facts) is UnknownReason.TIMEOUT


async def test_a_cancelled_probe_closes_its_socket(stage: Stage) -> None:
    begun = asyncio.Event()
    ended = asyncio.Event()

    async def script(host: Host) -> None:
        begun.set()
        await host.connection.wait_closed()
        ended.set()

    async def play_and_stay() -> None:
        async def serve(connection: Connection) -> None:
            await script(Host(connection, stage.ca, 0))

        listener = Listener(serve)
        port = listener.bind(ADDRESS, 0)
        prober = SmtpTlsProber(SystemClock(), ehlo_name="p.test", ca_file=str(stage.ca.ca_file))
        probe = asyncio.create_task(prober.probe(ProbeTarget(HOST, ADDRESS, HOST, port=port)))
        await begun.wait()
        probe.cancel()
        await asyncio.wait([probe])
        assert probe.cancelled()
        await ended.wait()
        await listener.close()

    await play_and_stay()
