# SPDX-License-Identifier: Apache-2.0
"""A report from end to end: real sessions, a day that rolls over, mail in a mailbox, a POST."""

from __future__ import annotations

import base64
import email
import functools
import gzip
import json
import ssl
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from email import policy
from typing import TYPE_CHECKING, Any, Final

import dkim  # type: ignore[import-untyped]
import dns.rdatatype
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from strictmail.core.dkim import SigningKey
from strictmail.core.tlsrpt.filename import parse_filename
from strictmail.core.tlsrpt.message import parse_subject
from strictmail.core.tlsrpt.reportjson import find_faults
from strictmail.lab.dnsdata import txt_data
from strictmail.lab.entries import CertFault
from strictmail.lab.zoo import ZOO
from strictmail.net.dkim import wanted_record

from .collecting import Collected, collect
from .mailbox import MAIL_ADDRESS, WEB_ADDRESS, Endpoint, Mailbox
from .postfix import SUBMISSION
from .test_report_collect import wanted
from .world import CHECKOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

CONFIGURATION: Final = """\
state_directory = "{directory}/state"
[dns]
servers = ["127.0.0.1:53"]
[reporter]
organization = "Sender"
contact = "tls-reports@sender.test"
relay_port = {port}
dkim_keys = ["r1={directory}/r1.pem", "e1={directory}/e1.pem"]
allow_networks = ["127.0.0.0/8"]
ca_file = "{ca_file}"
"""
RSA: Final = SigningKey("r1", rsa.generate_private_key(65537, 2048))
ED25519: Final = SigningKey("e1", ed25519.Ed25519PrivateKey.generate())
TLSRPT_LINE: Final = ": TLSRPT: status="


@dataclass
class Reported:
    """What was collected, and what arrived of it."""

    collected: Collected
    mailbox: Mailbox
    endpoint: Endpoint
    ahead: timedelta
    told_by_reports: int
    """Sessions that Postfix told of while it sent report mail."""

    @functools.cached_property
    def mails(self) -> dict[str, bytes]:
        """Domain -> message."""
        found = {}
        for octets in self.mailbox.messages():
            message = email.message_from_bytes(octets, policy=policy.default)
            found[str(message["TLS-Report-Domain"])] = octets
        return found

    def by_https(self) -> dict[str, bytes]:
        """Domain -> body."""
        return {path.strip("/"): body for path, _, body in self.endpoint.taken}


def pem(key: SigningKey) -> bytes:
    return key.private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def publish(collected: Collected) -> None:
    """Let all of the zoo want its reports in one place, and publish our keys."""

    def change(lab: Any) -> None:
        for entry in ZOO:
            uris = f"mailto:{entry.name}@reports.test,https://reports.test/{entry.domain}"
            text = txt_data([f"v=TLSRPTv1; rua={uris}"])
            lab.data.replace(f"_smtp._tls.{entry.domain}", "TXT", [text])
        lab.data.add("reports.test", "MX", "10 mx.reports.test.")
        # So that Postfix could tell of the sessions that carry reports.
        lab.data.add(
            "_smtp._tls.reports.test", "TXT", txt_data(["v=TLSRPTv1; rua=mailto:x@reports.test"])
        )
        lab.data.add("mx.reports.test", "A", MAIL_ADDRESS)
        lab.data.add("reports.test", "A", WEB_ADDRESS)
        for key in (RSA, ED25519):
            record = wanted_record(key)
            parts = [record[i : i + 200] for i in range(0, len(record), 200)]
            lab.data.add(f"{key.selector}._domainkey.sender.test", "TXT", txt_data(parts))

    collected.scene.lab.do(change)
    collected.scene.nameservers.republish()


def certificates(collected: Collected, name: str, address: str) -> tuple[Path, ...]:
    issued = collected.scene.lab.do(
        lambda lab: lab._ca.issue(CertFault.GOOD, name, domain="reports.test", address=address)
    )
    return issued.chain_files


def server_context(files: tuple[Path, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for file in files:
        context.load_cert_chain(file)
    return context


def readable(collected: Collected, files: tuple[Path, ...]) -> list[Path]:
    """The same files where a daemon in a root can read them."""
    world = collected.scene.world
    return [world.write(f"chain-{n}.pem", file.read_text(), 0o600) for n, file in enumerate(files)]


def run(collected: Collected, ahead: timedelta, *words: str) -> str:
    """A strictmail command of tomorrow."""
    directory = collected.scene.world.directory
    command: list[str | Path] = [
        sys.executable,
        CHECKOUT / "tests" / "e2e" / "tomorrow.py",
        str(ahead.total_seconds()),
        *words,
        "--config",
        directory / "reporter.toml",
    ]
    environment = {"PYTHONPATH": str(CHECKOUT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return collected.scene.world.run(command, environment=environment)


@pytest.fixture(scope="module")
def reported() -> Iterator[Reported]:
    with ExitStack() as stack:
        collected = stack.enter_context(collect("trixie", "postfix-tlsrpt", {}, by_log=False))
        world = collected.scene.world
        publish(collected)
        mailbox = Mailbox(
            world, readable(collected, certificates(collected, "mx.reports.test", MAIL_ADDRESS))
        )
        mailbox.start()
        endpoint = Endpoint(
            world, server_context(certificates(collected, "reports.test", WEB_ADDRESS))
        )
        endpoint.start()
        stack.callback(endpoint.stop)
        for key in (RSA, ED25519):
            world.write(f"{key.selector}.pem", pem(key).decode(), 0o600)
        world.write(
            "reporter.toml",
            CONFIGURATION.format(
                directory=world.directory, port=SUBMISSION[1], ca_file=collected.scene.ca_file
            ),
        )
        now = datetime.now(UTC)
        # A collection over midnight has two days, the second of which is over tomorrow, too.
        tomorrow = datetime.combine(now.date() + timedelta(days=1), time(0, 10), UTC)
        told = collected.postfix.log.text.count(TLSRPT_LINE)
        said = run(collected, tomorrow - now, "report", "send", "--now")
        assert "reported" in said
        count = len(
            json_lines(run(collected, tomorrow - now, "report", "list", "--format", "json"))
        )
        wait_until(
            lambda: len(mailbox.messages()) == count,
            f"{count} reports in the mailbox",
            seconds=60,
            seen=lambda: f"{said}\n{len(mailbox.messages())} there\n{mailbox.log()[-2000:]}",
        )
        collected.postfix.attempts()
        told_now = collected.postfix.log.text.count(TLSRPT_LINE)
        yield Reported(collected, mailbox, endpoint, tomorrow - now, told_now - told)


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def parts(octets: bytes) -> tuple[Any, Any, bytes]:
    """The message, its second part, and the report in it."""
    message = email.message_from_bytes(octets, policy=policy.default)
    _, report = list(message.iter_parts())
    content = report.get_payload(decode=True)
    assert isinstance(content, bytes)
    return message, report, gzip.decompress(content)


@pytest.mark.req("RPT-JSON-23", "RPT-JSON-24", "RPT-JSON-54", "RPT-DLV-01")
@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_the_report_says_what_the_zoo_expects(reported: Reported, entry: Any) -> None:
    expected = wanted(entry, by_log=False)
    mails, bodies = reported.mails, reported.by_https()
    if not expected:
        assert entry.domain not in mails
        assert entry.domain not in bodies
        return
    content = parts(mails[entry.domain])[2]
    assert gzip.decompress(bodies[entry.domain]) == content
    document = json.loads(content)
    assert find_faults(document) == ()
    found: Counter[tuple[str, str]] = Counter()
    for part in document["policies"]:
        kind, summary = part["policy"]["policy-type"], part["summary"]
        found[kind, "success"] += summary["total-successful-session-count"]
        found[kind, "failure"] += summary["total-failure-session-count"]
    assert +found == expected, reported.collected.tell(entry.domain)


@pytest.mark.req(
    "RPT-DLV-20", "RPT-DLV-21", "RPT-DLV-22", "RPT-DLV-25", "RPT-DLV-26", "RPT-DLV-28",
    "RPT-DLV-61",
)  # fmt: skip
def test_the_mail_is_a_report(reported: Reported) -> None:
    for domain, octets in reported.mails.items():
        message, part, content = parts(octets)
        document = json.loads(content)
        assert message.get_content_type() == "multipart/report"
        assert message.get_param("report-type") == "tlsrpt"
        assert part.get_content_type() == "application/tlsrpt+gzip"
        subject = parse_subject(message["Subject"])
        assert subject is not None
        assert (subject.domain, subject.submitter) == (domain, "sender.test")
        assert subject.report_id == document["report-id"]
        assert message["TLS-Report-Submitter"] == "sender.test"
        assert message["TLS-Required"] == "No"
        assert message["Auto-Submitted"] == "auto-generated"
        name = parse_filename(part.get_filename())
        assert name is not None
        assert (name.domain, name.sender) == (domain, "sender.test")


@pytest.mark.req("RPT-DLV-31", "RPT-DLV-27", "RPT-DLV-33", "RPT-DLV-39")
def test_dkim_verifies_with_what_dns_has(
    reported: Reported, monkeypatch: pytest.MonkeyPatch
) -> None:
    nameservers = reported.collected.scene.nameservers
    soon = datetime.now(UTC) + reported.ahead
    # The signatures are of tomorrow.
    monkeypatch.setattr("dkim.time.time", soon.timestamp)

    def look_up(name: bytes, timeout: int = 5) -> bytes:
        reply = nameservers.ask(name.decode().rstrip("."), "TXT")
        (rrset,) = [one for one in reply.answer if one.rdtype == dns.rdatatype.TXT]
        return b"".join(rrset[0].strings)

    for octets in list(reported.mails.values())[:10]:
        verifier = dkim.DKIM(octets, tlsrpt=True)
        assert verifier.verify(0, dnsfunc=look_up)
        assert verifier.verify(1, dnsfunc=look_up)
        assert verifier.domain == b"sender.test"


@pytest.mark.req("RPT-DLV-50", "RPT-DLV-51")
def test_the_endpoint_got_each_report_once(reported: Reported) -> None:
    taken = reported.endpoint.taken
    assert len({path for path, _, _ in taken}) == len(taken) == len(reported.mails)
    assert {media_type for _, media_type, _ in taken} == {"application/tlsrpt+gzip"}
    assert all(base64.b16encode(body[:2]) == b"1F8B" for _, _, body in taken)


@pytest.mark.req("RPT-DLV-06", "RPT-DLV-36", "RPT-JSON-52")
def test_nothing_more_is_to_be_sent(reported: Reported) -> None:
    before = len(reported.mailbox.messages())
    said = run(reported.collected, reported.ahead, "report", "send", "--now")
    assert "days closed: none" in said
    assert "attempts: none" in said
    assert len(reported.mailbox.messages()) == before


def test_doctor_is_content(reported: Reported) -> None:
    words = ("doctor", "--json", "--signed-name", "test", "--postconf", "none")
    directory = reported.collected.scene.world.directory
    command = [sys.executable, "-m", "strictmail", *words, "--config", directory / "reporter.toml"]
    said = reported.collected.scene.world.run(
        ["sh", "-c", '"$@" || true', "sh", *map(str, command)],
        environment={"PYTHONPATH": str(CHECKOUT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    findings = {one["id"]: one["health"] for one in json.loads(said)["findings"]}
    assert findings["report-relay"] == "ok"
    assert findings["report-key:r1._domainkey.sender.test"] == "ok"
    assert findings["report-key:e1._domainkey.sender.test"] == "ok"


@pytest.mark.req("SEC-22")
def test_postfix_keeps_quiet_about_report_mail(reported: Reported) -> None:
    """Which is why `sessions_of_reports` may be false with Postfix 3.10 and later."""
    postfix = reported.collected.postfix
    assert reported.told_by_reports == 0
    # Of other mail to the same place, it tells.
    before = postfix.log.text.count(TLSRPT_LINE)
    assert postfix.deliver("probe@reports.test").status == "sent"
    assert postfix.log.text.count(TLSRPT_LINE) == before + 1
