# SPDX-License-Identifier: Apache-2.0
"""Report mail through a relay: submission with and without TLS and AUTH, LMTP, refusals, ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from strictmail.core.tlsrpt.delivery import OutcomeKind
from strictmail.net import mailer as module
from strictmail.net.mailer import Relay, RelayMailer, RelayTls
from strictmail.net.tls import ClientConnection
from strictmail.runtime.clock import ManualClock

from .mailserver import MailServer
from .policyserver import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DELIVERED, RETRY, DEAD, GIVE_UP = (
    OutcomeKind.DELIVERED,
    OutcomeKind.RETRY,
    OutcomeKind.DEAD,
    OutcomeKind.GIVE_UP,
)
MESSAGE = b"From: <tls@sender.example>\r\nTLS-Required: No\r\n\r\n.dot\r\n..two\r\nend\r\n"
TO = "tls@a.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    async with MailServer() as server:
        yield server


def mailer(server: MailServer, authority: Authority | None = None, **options: Any) -> RelayMailer:
    timeout = options.pop("timeout", 5.0)
    sender = options.pop("envelope_sender", "")
    host = options.pop("host", "127.0.0.1")
    return RelayMailer(
        Relay(host, server.port, **options),
        ManualClock(),
        ehlo_name="out.sender.example",
        envelope_sender=sender,
        ca_file=str(authority.file) if authority else None,
        timeout=timeout,
    )


@pytest.mark.req("RPT-DLV-37")
async def test_a_message_arrives_as_it_is(server: MailServer) -> None:
    out = mailer(server)
    assert (await out.send(TO, MESSAGE)).kind is DELIVERED
    (taken,) = server.taken
    assert (taken.sender, taken.recipient, taken.message) == ("", TO, MESSAGE)
    assert server.commands[0] == "EHLO out.sender.example"
    await out.close()


async def test_bounces_go_where_the_operator_wants(server: MailServer) -> None:
    out = mailer(server, envelope_sender="bounces@sender.example")
    await out.send(TO, MESSAGE)
    assert server.taken[0].sender == "bounces@sender.example"
    await out.close()


async def test_one_session_takes_many_messages(server: MailServer) -> None:
    out = mailer(server)
    for _ in range(120):
        assert (await out.send(TO, MESSAGE)).kind is DELIVERED
    assert len(server.taken) == 120
    assert server.connections == 2
    await out.close()
    assert server.commands[-1] == "QUIT"


async def test_a_session_that_ended_while_it_waited_is_made_anew(server: MailServer) -> None:
    out = mailer(server)
    await out.send(TO, MESSAGE)
    for task in list(server._tasks):
        task.cancel()
    assert (await out.send(TO, MESSAGE)).kind is DELIVERED
    assert (len(server.taken), server.connections) == (2, 2)
    await out.close()


async def test_what_may_have_been_taken_is_not_sent_again_at_once(server: MailServer) -> None:
    out = mailer(server)
    await out.send(TO, MESSAGE)
    server.cut.add(".")
    server.replies["."] = ""
    outcome = await out.send(TO, MESSAGE)
    assert outcome.kind is RETRY
    assert server.connections == 1
    await out.close()


@pytest.mark.parametrize("tls", [RelayTls.STARTTLS, RelayTls.IMPLICIT])
@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN"])
async def test_submission_with_tls_and_a_password(
    authority: Authority, tls: RelayTls, mechanisms: str
) -> None:
    server = MailServer(
        context=authority.server_context("localhost"),
        implicit=tls is RelayTls.IMPLICIT,
        users={"tlsrpt": "secret"},
        mechanisms=mechanisms,
    )
    async with server:
        out = mailer(server, authority, host="localhost", tls=tls, user="tlsrpt", password="secret")
        assert (await out.send(TO, MESSAGE)).kind is DELIVERED
        assert (server.taken[0].tls, server.taken[0].user) == (True, "tlsrpt")
        await out.close()


async def test_a_relay_with_another_name_gets_no_password(authority: Authority) -> None:
    server = MailServer(
        context=authority.server_context("other.example"), users={"tlsrpt": "secret"}
    )
    async with server:
        out = mailer(
            server,
            authority,
            host="localhost",
            tls=RelayTls.STARTTLS,
            user="tlsrpt",
            password="secret",
        )
        outcome = await out.send(TO, MESSAGE)
        assert outcome.kind is RETRY
        assert "CERTIFICATE_VERIFY_FAILED" in outcome.detail
        assert out.fault
        assert not [line for line in server.commands if line.startswith("AUTH")]


async def test_a_wrong_password_is_a_retry_and_never_shown(server: MailServer) -> None:
    server.users = {"tlsrpt": "right"}
    out = mailer(server, user="tlsrpt", password="wrong-secret")
    outcome = await out.send(TO, MESSAGE)
    assert outcome.kind is RETRY
    assert "535" in outcome.detail
    assert "wrong-secret" not in outcome.detail
    assert "wrong-secret" not in repr(out._relay)


async def test_a_relay_without_auth(server: MailServer) -> None:
    out = mailer(server, user="tlsrpt", password="x")
    outcome = await out.send(TO, MESSAGE)
    assert (outcome.kind, "neither AUTH PLAIN nor LOGIN" in outcome.detail) == (RETRY, True)


async def test_lmtp(server: MailServer) -> None:
    out = mailer(server, lmtp=True)
    assert (await out.send(TO, MESSAGE)).kind is DELIVERED
    assert server.commands[0] == "LHLO out.sender.example"
    await out.close()


async def test_a_server_without_extensions() -> None:
    async with MailServer(no_ehlo=True) as server:
        out = mailer(server)
        assert (await out.send(TO, MESSAGE)).kind is DELIVERED
        assert "HELO out.sender.example" in server.commands
        await out.close()


@pytest.mark.parametrize(
    ("step", "reply", "kind"),
    [
        ("greeting", "554 go away", RETRY),
        ("greeting", "421 busy", RETRY),
        ("EHLO", "421 busy", RETRY),
        ("MAIL", "550 5.7.1 who are you", RETRY),
        ("MAIL", "452 full", RETRY),
        ("RCPT", "550 5.1.1 no such user", DEAD),
        ("RCPT", "554 5.7.1 relay access denied", RETRY),
        ("RCPT", "450 later", RETRY),
        ("DATA", "451 later", RETRY),
        ("DATA", "554 no", GIVE_UP),
        (".", "554 5.6.0 no", GIVE_UP),
        (".", "452 full", RETRY),
        (".", "this is no reply", RETRY),
    ],
)
async def test_refusals_mean_what_they_say(
    server: MailServer, step: str, reply: str, kind: OutcomeKind
) -> None:
    server.replies[step] = reply
    out = mailer(server)
    outcome = await out.send(TO, MESSAGE)
    assert outcome.kind is kind
    assert outcome.detail
    # Whatever was refused, the next one finds its way.
    server.replies.clear()
    assert (await out.send(TO, MESSAGE)).kind is DELIVERED
    assert out.fault == ""
    await out.close()


@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."])
async def test_a_relay_that_hangs_or_hangs_up(step: str) -> None:
    for hang, cut in (({step}, set[str]()), (set[str](), {step})):
        async with MailServer(hang=hang, cut=cut) as server:
            out = mailer(server, timeout=0.5)
            outcome = await out.send(TO, MESSAGE)
            if step != "." or hang:
                assert outcome.kind is RETRY
                assert out.fault
            await out.close()


async def test_an_address_that_swallows_packets_does_not_hide_the_next(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def swallow(address: str, _port: int) -> None:
        asked.append(address)
        await asyncio.get_running_loop().create_future()

    async def two() -> list[str]:
        return ["192.0.2.1", "192.0.2.2"]

    out = mailer(server)
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.0)
    monkeypatch.setattr(ClientConnection, "open", swallow)
    monkeypatch.setattr(out, "_addresses", two)
    assert (await out.send(TO, MESSAGE)).kind is RETRY
    assert asked == ["192.0.2.1", "192.0.2.2"]
    assert "no connection" in out.fault


async def test_nobody_is_there() -> None:
    async with MailServer() as server:
        out = mailer(server)
    outcome = await out.send(TO, MESSAGE)
    assert outcome.kind is RETRY
    assert "ECONNREFUSED" in out.fault
    nowhere = RelayMailer(Relay("relay.invalid"), ManualClock(), ehlo_name="x", timeout=30)
    assert (await nowhere.send(TO, MESSAGE)).kind is RETRY


@pytest.mark.req("SEC-25")
@pytest.mark.parametrize("address", ["a@b>\r\nRCPT TO:<c@d", "a b@c", "a@\u00e9", "<a@b>"])
async def test_no_address_becomes_another_command(server: MailServer, address: str) -> None:
    out = mailer(server)
    with pytest.raises(ValueError, match="cannot stand in a command"):
        await out.send(address, MESSAGE)
    assert server.taken == []


async def test_the_way_can_be_looked_at_first(server: MailServer) -> None:
    out = mailer(server)
    assert (await out.check()).kind is DELIVERED
    assert server.commands == ["EHLO out.sender.example", "QUIT"]
    server.replies["greeting"] = "554 no"
    assert (await out.check()).kind is RETRY
    server.hang.add("greeting")
    assert (await mailer(server, timeout=0.2).check()).kind is RETRY
