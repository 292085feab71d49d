# SPDX-License-Identifier: Apache-2.0
"""Report mail straight to MX hosts: TLS wherever it is to be had, and never at a report's expense."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tests.service.net.mailserver import MailServer
from tests.service.net.policyserver import DAY, Authority

from strictmail.core.dnsvalues import Mx, RecordType, Status, Tlsa
from strictmail.core.tlsrpt.delivery import OutcomeKind, SendOutcome
from strictmail.net.connectto import ConnectMap
from strictmail.net.fakes import FakeResolver
from strictmail.reporter.direct import DirectMailer
from strictmail.runtime.clock import SystemClock

if TYPE_CHECKING:
    import ssl

A, MX, TLSA = RecordType.A, RecordType.MX, RecordType.TLSA
DELIVERED, RETRY, DEAD, GIVE_UP, REFUSED = (
    OutcomeKind.DELIVERED,
    OutcomeKind.RETRY,
    OutcomeKind.DEAD,
    OutcomeKind.GIVE_UP,
    OutcomeKind.REFUSED,
)
MESSAGE = b"From: <tls@sender.example>\r\nTLS-Required: No\r\n\r\nreport\r\n"
TO = "tls@a.example"
HOST = "mx.a.example"


@dataclass
class Internet:
    """One domain with two MX hosts on loopback."""

    authority: Authority
    resolver: FakeResolver

    def mailer(self, *servers: MailServer, **options: Any) -> DirectMailer:
        rules = [
            f"mx{number or ''}.a.example:25:127.0.0.1:{server.port}"
            for number, server in enumerate(servers)
        ]
        networks = options.pop("allow_networks", ("192.0.2.0/24",))
        return DirectMailer(
            self.resolver,
            SystemClock(),
            ehlo_name="out.sender.example",
            ca_file=str(self.authority.file),
            allow_networks=networks,
            connect_map=ConnectMap.parse(rules),
            timeout=options.pop("timeout", 10.0),
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def internet(authority: Authority) -> Internet:
    resolver = FakeResolver()
    resolver.sign("a.example")
    resolver.add("a.example", MX, Mx(10, HOST), Mx(20, "mx1.a.example"), secure=True)
    resolver.add(HOST, A, "192.0.2.1", secure=True)
    resolver.add("mx1.a.example", A, "192.0.2.2", secure=True)
    return Internet(authority, resolver)


async def send(mailer: DirectMailer) -> SendOutcome:
    outcome = await mailer.send(TO, MESSAGE)
    await mailer.close()
    return outcome


@pytest.mark.req("RTLS-20")
async def test_verified_tls_where_it_is_to_be_had(internet: Internet) -> None:
    async with MailServer(context=internet.authority.server_context(HOST)) as server:
        outcome = await send(internet.mailer(server))
    assert outcome.kind is DELIVERED
    assert outcome.detail.endswith("(TLSv1.3, verified)")
    assert server.taken[0].tls
    assert server.taken[0].recipient == TO


async def test_dane_verifies_what_no_authority_does(internet: Internet) -> None:
    context = internet.authority.server_context("other.example")
    der = leaf_der(internet, context)
    record = Tlsa(3, 0, 1, hashlib.sha256(der).digest())
    internet.resolver.add(f"_25._tcp.{HOST}", TLSA, record, secure=True)
    async with MailServer(context=context) as server:
        outcome = await send(internet.mailer(server))
    assert outcome.detail.endswith("(TLSv1.3, verified by DANE)")


def leaf_der(internet: Internet, _context: ssl.SSLContext) -> bytes:
    """The certificate that was made last."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    directory = internet.authority.file.parent
    newest = max(directory.glob("leaf-*.pem"), key=lambda path: int(path.stem.rpartition("-")[2]))
    return x509.load_pem_x509_certificate(newest.read_bytes()).public_bytes(Encoding.DER)


@pytest.mark.req("RPT-DLV-34", "RTLS-20")
@pytest.mark.parametrize("fault", ["expired", "name", "tlsa", "tlsa lookup"])
async def test_a_bad_certificate_does_not_hold_a_report_back(
    internet: Internet, fault: str
) -> None:
    context = internet.authority.server_context(
        "other.example" if fault == "name" else HOST,
        start=-2 * DAY,
        end=-DAY if fault == "expired" else DAY,
    )
    if fault == "tlsa":
        wrong = Tlsa(3, 1, 1, bytes(32))
        internet.resolver.add(f"_25._tcp.{HOST}", TLSA, wrong, secure=True)
    if fault == "tlsa lookup":
        internet.resolver.fail(f"_25._tcp.{HOST}", TLSA, Status.SERVFAIL)
    async with MailServer(context=context) as server:
        outcome = await send(internet.mailer(server))
    assert outcome.kind is DELIVERED
    assert server.taken[0].tls
    if fault in ("expired", "name"):
        assert outcome.detail.endswith("(TLSv1.3, not verified)")


@pytest.mark.req("RPT-DLV-34", "RTLS-20", "SEC-03")
@pytest.mark.parametrize("fault", ["none", "refused", "broken", "injected"])
async def test_without_tls_it_goes_in_the_clear(internet: Internet, fault: str) -> None:
    context = None if fault == "none" else internet.authority.server_context(HOST)
    server = MailServer(context=context)
    if fault == "refused":
        server.replies["STARTTLS"] = "454 4.7.0 not now"
    server.break_tls = fault == "broken"
    if fault == "injected":
        server.replies["STARTTLS"] = "220 go\r\n250 evil"
    async with server:
        outcome = await send(internet.mailer(server))
    assert outcome.kind is DELIVERED
    assert not server.taken[0].tls
    assert server.connections == (1 if fault == "none" else 2)
    assert "clear" in outcome.detail or "TLS" in outcome.detail


@pytest.mark.req("RTLS-21")
async def test_a_host_that_wants_tls_and_cannot_do_it(internet: Internet) -> None:
    context = internet.authority.server_context(HOST)
    async with MailServer(context=context, break_tls=True, tls_for_mail=True) as server:
        outcome = await send(internet.mailer(server))
    assert outcome.kind is GIVE_UP
    assert "STARTTLS" in outcome.detail


async def test_the_next_host_is_tried(internet: Internet) -> None:
    async with MailServer(replies={"greeting": "554 no"}) as first, MailServer() as second:
        outcome = await send(internet.mailer(first, second))
    assert outcome.kind is DELIVERED
    assert (len(first.taken), len(second.taken)) == (0, 1)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("550 5.1.1 no such user", DEAD),
        ("550 5.7.1 you are listed", GIVE_UP),
        ("450 greylisted", RETRY),
    ],
)
async def test_a_word_on_the_recipient_counts_for_all_hosts(
    internet: Internet, reply: str, kind: OutcomeKind
) -> None:
    async with MailServer(replies={"RCPT": reply}) as first, MailServer() as second:
        second.replies["RCPT"] = "450 later"
        outcome = await send(internet.mailer(first, second))
    assert outcome.kind is kind
    assert second.connections == (1 if kind is RETRY else 0)


async def test_one_session_serves_many_reports(internet: Internet) -> None:
    async with MailServer() as server:
        mailer = internet.mailer(server)
        for _ in range(5):
            assert (await mailer.send(TO, MESSAGE)).kind is DELIVERED
        await mailer.close()
    assert (server.connections, len(server.taken)) == (1, 5)


@pytest.mark.req("RPT-DLV-57", "SEC-19")
async def test_inner_addresses_are_not_connected_to(internet: Internet) -> None:
    internet.resolver.add(HOST, A, "10.1.2.3")
    internet.resolver.add("mx1.a.example", A, "127.0.0.1")
    async with MailServer() as server:
        outcome = await send(internet.mailer(server, server))
        assert (outcome.kind, server.connections) == (REFUSED, 0)
        # One public host is enough; a failure there is no refusal.
        internet.resolver.add("mx1.a.example", A, "192.0.2.2")
        mailer = internet.mailer(server, server)
        server.replies["greeting"] = "421 busy"
        assert (await send(mailer)).kind is RETRY


async def test_domains_that_take_no_mail(internet: Internet) -> None:
    async with MailServer() as server:
        mailer = internet.mailer(server)
        internet.resolver.add("a.example", MX, Mx(0, ""))
        assert (await mailer.send(TO, MESSAGE)).kind is DEAD
        assert (await mailer.send("x@nowhere.test", MESSAGE)).kind is DEAD
        internet.resolver.fail("a.example", MX, Status.SERVFAIL)
        assert (await mailer.send(TO, MESSAGE)).kind is RETRY
        internet.resolver.add("a.example", MX, Mx(10, "gone.a.example"))
        assert (await mailer.send(TO, MESSAGE)).kind is RETRY
        assert server.connections == 0


async def test_a_host_that_hangs_costs_its_time_only(internet: Internet) -> None:
    async with MailServer(hang={"greeting"}) as server:
        outcome = await send(internet.mailer(server, timeout=0.3))
    assert (outcome.kind, "not done within" in outcome.detail) == (RETRY, True)


@pytest.mark.req("RTLS-20", "RPT-DLV-35")
async def test_only_mail_that_says_so_goes_without_regard_to_policies(internet: Internet) -> None:
    async with MailServer() as server:
        with pytest.raises(ValueError, match="TLS-Required"):
            await internet.mailer(server).send(TO, b"From: <a@b.example>\r\n\r\nmail\r\n")
        assert server.connections == 0
