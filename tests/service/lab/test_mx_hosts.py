# SPDX-License-Identifier: Apache-2.0
"""MX hosts do what their fault is called, seen with a plain socket and the ssl module."""

from __future__ import annotations

import asyncio
import socket
import ssl
import warnings
from typing import TYPE_CHECKING, TypeVar

import pytest

from strictmail.lab.entries import CertFault, MxFault, MxHost
from strictmail.lab.net import Lab
from strictmail.lab.zoobuild import ENCRYPTED, entry, expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

T = TypeVar("T")

HOST = "mx.t.plain.test"
SECONDS = 30.0
VERIFY_CODES = {
    CertFault.EXPIRED: 10,  # certificate has expired
    CertFault.EXPIRED_INTERMEDIATE: 10,
    CertFault.NOT_YET_VALID: 9,
    CertFault.SELF_SIGNED: 18,  # self-signed
    CertFault.UNTRUSTED_CA: 19,  # self-signed certificate in the chain
    CertFault.MISSING_INTERMEDIATE: 20,  # no issuer to be had
    CertFault.WRONG_NAME: 62,  # host name mismatch
    CertFault.DOMAIN_ONLY: 62,
    CertFault.WILDCARD_TOO_HIGH: 62,
    CertFault.PARTIAL_WILDCARD: 62,
    CertFault.COMMON_NAME_ONLY: 62,
    CertFault.ADDRESS_ONLY: 62,
}
"""What OpenSSL has to say about each, from its list of X509_V_ERR codes."""


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    inhabitant = entry("t", "none", "", expect("", ENCRYPTED), mx=[MxHost(HOST)])
    async with Lab(zoo=[inhabitant]) as running:
        yield running


class Client:
    """A blocking SMTP client of few words."""

    def __init__(self, lab: Lab) -> None:
        address = (lab.addresses[HOST], lab.smtp_port)
        self.socket = socket.create_connection(address, SECONDS)
        self.file = self.socket.makefile("rb")

    def reply(self) -> list[str]:
        lines = [self.file.readline().decode()]
        while lines[-1][3:4] == "-":
            lines.append(self.file.readline().decode())
        return [line.rstrip("\r\n") for line in lines]

    def say(self, *lines: str) -> list[str]:
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode())
        return self.reply()

    def greet(self) -> list[str]:
        assert self.reply()[0].startswith("220 ")
        return self.say("EHLO me.test")

    def start_tls(self, context: ssl.SSLContext, name: str = HOST) -> None:
        assert self.say("STARTTLS")[0].startswith("220 ")
        self.wrap(context, name)

    def wrap(self, context: ssl.SSLContext, name: str) -> None:
        self.socket = context.wrap_socket(self.socket, server_hostname=name)
        self.file.close()
        self.file = self.socket.makefile("rb")

    def close(self) -> None:
        self.file.close()
        self.socket.close()


async def talk(lab: Lab, conversation: Callable[[Client], T]) -> T:
    """Have a conversation in a thread, while the lab lives in this one."""

    def run() -> T:
        client = Client(lab)
        try:
            return conversation(client)
        finally:
            client.close()

    return await asyncio.to_thread(run)


def careless() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def careful(lab: Lab) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=lab.ca_file)
    context.hostname_checks_common_name = False
    return context


@pytest.mark.parametrize("fault", [CertFault.GOOD, CertFault.WILDCARD])
async def test_good_certificates_are_verified(lab: Lab, fault: CertFault) -> None:
    lab.break_mx_host(HOST, fault)

    def conversation(client: Client) -> None:
        client.greet()
        client.start_tls(careful(lab))

    await talk(lab, conversation)


@pytest.mark.parametrize("fault", VERIFY_CODES, ids=str)
async def test_bad_certificates_fail_as_they_are_called(lab: Lab, fault: CertFault) -> None:
    lab.break_mx_host(HOST, fault)

    def conversation(client: Client) -> int:
        client.greet()
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            client.start_tls(careful(lab))
        return caught.value.verify_code

    assert await talk(lab, conversation) == VERIFY_CODES[fault]


def test_every_certificate_fault_is_tried() -> None:
    fine = {CertFault.GOOD, CertFault.WILDCARD, CertFault.SEVERAL_NAMES, CertFault.BOTH_KEYS}
    assert set(VERIFY_CODES) | fine == set(CertFault)


async def test_a_message_is_taken_and_noted(lab: Lab) -> None:
    def conversation(client: Client) -> None:
        assert "250-STARTTLS" in client.greet()
        client.start_tls(careful(lab))
        # Inside TLS it is not offered again.
        assert not any("STARTTLS" in line for line in client.say("EHLO me.test"))
        assert client.say("MAIL FROM:<a@b.test>")[0].startswith("250")
        assert client.say("RCPT TO:<you@T.plain.test>")[0].startswith("250")
        assert client.say("DATA")[0].startswith("354")
        assert client.say("Subject: x", "", "..", ".")[0].startswith("250")
        assert client.say("QUIT")[0].startswith("221")

    await talk(lab, conversation)
    [message] = lab.messages
    assert (message.host, message.domain, message.sender) == (HOST, "t.plain.test", "a@b.test")
    assert message.recipients == ("you@T.plain.test",)
    assert message.tls
    assert message.tls_version == "TLSv1.3"
    assert message.server_name == HOST
    assert lab.messages_file.read_text().count("\n") == 1


async def test_clear_text_is_noted_as_such(lab: Lab) -> None:
    def conversation(client: Client) -> None:
        client.greet()
        for line in ("MAIL FROM:<>", "RCPT TO:<x@t.plain.test>", "DATA", "."):
            assert client.say(line)[0][0] in "23"

    await talk(lab, conversation)
    assert [(m.tls, m.tls_version, m.server_name) for m in lab.messages] == [(False, None, None)]
    assert [(r.recipient, r.tls) for r in lab.recipients] == [("x@t.plain.test", False)]


@pytest.mark.req("SEC-04", "SEC-05")
async def test_commands_behind_starttls_are_never_obeyed(lab: Lab) -> None:
    def conversation(client: Client) -> str:
        client.greet()
        client.say("MAIL FROM:<before@b.test>")
        assert client.say("STARTTLS", "RCPT TO:<injected@t.plain.test>")[0].startswith("220")
        client.wrap(careful(lab), HOST)
        client.say("EHLO me.test")
        return client.say("RCPT TO:<x@t.plain.test>")[0]

    assert (await talk(lab, conversation)).startswith("503")
    assert [r.recipient for r in lab.recipients] == ["x@t.plain.test"]


async def test_no_starttls(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.NO_STARTTLS)

    def conversation(client: Client) -> None:
        assert not any("STARTTLS" in line for line in client.greet())
        assert client.say("STARTTLS")[0].startswith("502")

    await talk(lab, conversation)


@pytest.mark.parametrize(
    ("fault", "code"), [(MxFault.STARTTLS_454, "454"), (MxFault.STARTTLS_502, "502")]
)
async def test_starttls_refused(lab: Lab, fault: MxFault, code: str) -> None:
    lab.break_mx_host(HOST, fault)

    def conversation(client: Client) -> str:
        assert "250-STARTTLS" in client.greet()
        return client.say("STARTTLS")[0]

    assert (await talk(lab, conversation)).startswith(code)


async def test_ehlo_refused(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.EHLO_REFUSED)

    def conversation(client: Client) -> None:
        assert client.greet()[0].startswith("502")
        assert client.say("HELO me.test") == [f"250 {HOST}"]

    await talk(lab, conversation)


async def test_injected_replies_come_in_one_piece(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.INJECTED)

    def conversation(client: Client) -> None:
        client.greet()
        client.file.close()
        client.socket.sendall(b"STARTTLS\r\n")
        piece = client.socket.recv(65536)
        assert piece.startswith(b"220 ")
        assert b"\r\n250-injected.test\r\n" in piece
        # Whoever forgets them gets a proper session.
        client.file = client.socket.makefile("rb")
        client.wrap(careful(lab), HOST)
        assert client.say("EHLO me.test")[0] == f"250-{HOST}"

    await talk(lab, conversation)


async def test_old_tls(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.OLD_TLS)

    def refused(client: Client) -> None:
        client.greet()
        with pytest.raises(ssl.SSLError):
            client.start_tls(careful(lab))

    def accepted(client: Client) -> str | None:
        context = careless()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
        client.greet()
        client.start_tls(context)
        assert isinstance(client.socket, ssl.SSLSocket)
        return client.socket.version()

    await talk(lab, refused)
    assert await talk(lab, accepted) == "TLSv1"


async def test_broken_tls(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.BROKEN_TLS)

    def conversation(client: Client) -> None:
        client.greet()
        with pytest.raises(ssl.SSLError):
            client.start_tls(careless())

    await talk(lab, conversation)


async def test_tarpit_is_silent(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.TARPIT)

    def conversation(client: Client) -> None:
        client.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.file.readline()

    await talk(lab, conversation)


async def test_421(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.GREETING_421)

    def conversation(client: Client) -> None:
        assert client.reply()[0].startswith("421 ")
        assert client.file.readline() == b""

    await talk(lab, conversation)


async def test_refuse_and_heal(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.REFUSE)
    with pytest.raises(ConnectionRefusedError):
        await talk(lab, Client.greet)
    lab.break_mx_host(HOST, "good")
    assert "250-STARTTLS" in await talk(lab, Client.greet)


async def test_rcpt_550(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.RCPT_550)

    def conversation(client: Client) -> str:
        client.greet()
        client.say("MAIL FROM:<>")
        return client.say("RCPT TO:<x@t.plain.test>")[0]

    assert (await talk(lab, conversation)).startswith("550")


@pytest.mark.parametrize("piece", [b"\x00\xff" * 5000, b"EHLO", b"DATA\r\nRCPT\r\nMAIL x\r\n"])
async def test_rubbish_and_early_ends_leave_nothing_behind(lab: Lab, piece: bytes) -> None:
    def conversation(client: Client) -> None:
        client.reply()
        client.socket.sendall(piece)

    await talk(lab, conversation)
    assert "250-STARTTLS" in await talk(lab, Client.greet)


async def test_unknown_hosts_and_faults_are_named(lab: Lab) -> None:
    with pytest.raises(KeyError, match=r"no MX host mx\.nobody\.test"):
        lab.break_mx_host("mx.nobody.test", "good")
    with pytest.raises(ValueError, match="no-such-fault"):
        lab.break_mx_host(HOST, "no-such-fault")
