# SPDX-License-Identifier: Apache-2.0
"""`strictmail report`: every command, and how each fails."""

from __future__ import annotations

import email
import gzip
import io
import json
import sys
from datetime import UTC, datetime, timedelta
from email import policy
from typing import TYPE_CHECKING, Any

import dkim  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.service.net.mailserver import MailServer
from tests.service.reporter.live import DAY, Mail, Place, Records

from strictmail.cli import run
from strictmail.cli.exitcodes import ExitCode
from strictmail.core.dkim import SigningKey
from strictmail.core.names import parse_domain
from strictmail.core.tlsrpt.counts import Counts
from strictmail.core.tlsrpt.results import PolicyType
from strictmail.core.tlsrpt.session import JudgedPolicy, Session, Source, make_policy
from strictmail.net.dkim import wanted_record
from strictmail.reporter import making
from strictmail.store.outbox import Outbox
from strictmail.store.unverified import UnverifiedCounts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOUNCE = """\
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.sender.example

Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 no such mailbox
--b
Content-Type: text/rfc822-headers

Message-ID: <{report_id}>
--b--
"""


@pytest.fixture(scope="module")
def records() -> Iterator[Records]:
    records = Records()
    records.start()
    yield records
    records.stop()


@pytest.fixture
def mail() -> Iterator[Mail]:
    mail = Mail(MailServer()).begin()
    yield mail
    mail.stop()


@pytest.fixture
def place(tmp_path: Path, records: Records, mail: Mail) -> Place:
    return Place(tmp_path, records, mail)


class Terminal:
    """Runs commands on a place and holds what they print."""

    def __init__(self, place: Place, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        self.place = place
        self.capture = capsysbinary
        self.raw = b""
        self.out = self.err = ""

    def run(self, *words: str) -> int:
        code = run(["report", *words, "--config", str(self.place.config)])
        captured = self.capture.readouterr()
        self.raw = captured.out
        self.out, self.err = captured.out.decode("latin-1"), captured.err.decode()
        return code

    def json_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def terminal(place: Place, capsysbinary: pytest.CaptureFixture[bytes]) -> Terminal:
    return Terminal(place, capsysbinary)


def sent(terminal: Terminal, *domains: str) -> None:
    terminal.place.count(*domains)
    assert terminal.run("send", "--now") == ExitCode.OK


# ---- send -------------------------------------------------------------------------------


def test_send_makes_and_sends_what_is_due(terminal: Terminal, mail: Mail) -> None:
    terminal.place.count("a.example", "b.example")
    assert terminal.run("send", "--now", "--format", "json") == ExitCode.OK
    assert json.loads(terminal.out.splitlines()[-1]) == {
        "days": {"reported": 2},
        "attempts": {"delivered": 2},
    }
    assert sorted(one.recipient for one in mail.server.taken) == ["tls@a.example", "tls@b.example"]
    assert terminal.run("send", "--now") == ExitCode.OK
    assert "days closed: none" in terminal.out
    assert len(mail.server.taken) == 2


def test_send_says_what_it_cannot_make(
    terminal: Terminal, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "find_faults_in_text", lambda _: ("/policies: an array is wanted",))
    terminal.place.count("a.example")
    assert terminal.run("send", "--now") == ExitCode.FAILURE
    assert "1 reports cannot be made" in terminal.err
    assert mail.server.taken == []
    monkeypatch.undo()
    assert terminal.run("send", "--now") == ExitCode.OK
    assert len(mail.server.taken) == 1


def test_send_leaves_what_waits_for_its_moment(terminal: Terminal, mail: Mail) -> None:
    terminal.place.count(*(f"d{n}.example" for n in range(8)))
    assert terminal.run("send") == ExitCode.OK
    assert len(mail.server.taken) < 8
    assert terminal.run("send", "--now") == ExitCode.OK
    assert len(mail.server.taken) == 8


def test_a_dry_run_does_nothing(terminal: Terminal, mail: Mail) -> None:
    terminal.place.count("a.example")
    assert terminal.run("send", "--now", "--dry-run") == ExitCode.OK
    assert f"make  {DAY.isoformat()}  a.example  to mailto:tls@a.example" in terminal.out
    assert terminal.run("send", "--dry-run", "--format", "json") == ExitCode.OK
    (line,) = terminal.json_lines()
    assert (line["do"], line["outcome"]) == ("make", "reported")
    assert mail.server.taken == []
    assert terminal.place.states() == {}


def test_a_dry_run_tells_why_there_is_no_report(
    tmp_path: Path, mail: Mail, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    records = Records({"x.example": "v=TLSRPTv1; rua=mailto:x@x.example"})
    records.start()
    try:
        terminal = Terminal(Place(tmp_path, records, mail), capsysbinary)
        terminal.place.count("a.example")
        assert terminal.run("send", "--dry-run") == ExitCode.OK
        assert "no report: no-record" in terminal.out
    finally:
        records.stop()


def test_what_could_not_be_sent_now_ends_in_tempfail(terminal: Terminal, mail: Mail) -> None:
    mail.server.replies["RCPT"] = "450 greylisted"
    terminal.place.count("a.example")
    assert terminal.run("send", "--now") == ExitCode.TEMPFAIL
    assert "1 retry" in terminal.out
    mail.server.replies["RCPT"] = "550 5.1.1 no such user"
    assert terminal.run("send", "--now") == ExitCode.FAILURE
    assert "1 dead" in terminal.out


def test_without_a_contact_there_is_nothing_to_send(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    config = tmp_path / "x.toml"
    config.write_text(f'state_directory = "{tmp_path}"\n')
    assert run(["report", "send", "--config", str(config)]) == ExitCode.CONFIG
    assert b"[reporter] has no contact" in capsysbinary.readouterr().err


# ---- list, show, render -----------------------------------------------------------------


def test_list_shows_deliveries(terminal: Terminal, mail: Mail) -> None:
    mail.server.replies["RCPT"] = "450 \x1b[31mlater"
    terminal.place.count("a.example", "b.example")
    terminal.run("send", "--now")
    assert terminal.run("list") == ExitCode.OK
    assert "mailto:tls@a.example" in terminal.out
    assert "\x1b" not in terminal.out
    assert terminal.run("list", "--state", "sent") == ExitCode.OK
    assert len(terminal.out.splitlines()) == 1
    assert terminal.run("list", "--domain", "b.example", "--format", "json") == ExitCode.OK
    (line,) = terminal.json_lines()
    assert (line["domain"], line["sessions"]) == ("b.example", 3)
    assert line["deliveries"][0]["state"] == "waiting"
    assert terminal.run("list", "--day", "yesterday", "--format", "json") == ExitCode.OK
    assert terminal.out == ""
    assert terminal.run("list", "--days") == ExitCode.OK
    assert DAY.isoformat() in terminal.out
    assert terminal.run("list", "--days", "--format", "json") == ExitCode.OK
    assert terminal.json_lines() == [{"day": DAY.isoformat(), "domains": 2, "open": 0, "late": 0}]


def test_list_without_a_store(terminal: Terminal) -> None:
    assert terminal.run("list") == ExitCode.CANTCREAT
    assert "session store" in terminal.err


@pytest.mark.parametrize("day", ["31.1.2026", "soon", "2026-13-01"])
def test_what_is_no_day(terminal: Terminal, day: str) -> None:
    assert terminal.run("list", "--day", day) == ExitCode.USAGE
    assert "is no day" in terminal.err


def test_show_tells_all_of_a_report(terminal: Terminal) -> None:
    sent(terminal, "a.example")
    assert terminal.run("show", "a.example") == ExitCode.OK
    assert "no-policy-found a.example: 3 succeeded, 0 failed" in terminal.out
    assert "sent since" in terminal.out
    report_id = terminal.out.split("id        ")[1].split("\n")[0]
    assert terminal.run("show", f"<{report_id}>", "--format", "json") == ExitCode.OK
    (line,) = terminal.json_lines()
    assert line["report"]["report-id"] == report_id
    assert terminal.run("show", "other.example") == ExitCode.FAILURE
    assert "there is no report to other.example" in terminal.err
    assert terminal.run("show", "a.example", "--day", "today") == ExitCode.FAILURE
    assert terminal.run("show", "not a domain") == ExitCode.DATAERR


def test_show_tells_who_told_of_the_sessions(terminal: Terminal) -> None:
    domain = parse_domain("a.example")
    policy = make_policy(PolicyType.STS, domain, ["mode: testing"], [], domain=domain)
    seen = Session(domain, "", (JudgedPolicy(policy, succeeded=True),), ())
    counts = Counts()
    counts.add(DAY, seen, 7, Source.LOG)
    counts.add(DAY, Session(domain, "", (), (policy,)), 4)
    sent(terminal, "a.example")
    assert terminal.run("show", "a.example") == ExitCode.OK
    assert "  sessions  all by datagram\n" in terminal.out
    store = terminal.place.store()
    store.add(counts)
    store.close()
    assert terminal.run("show", "a.example") == ExitCode.OK
    line = "7 by log, all others by datagram; verified by nobody and left out: 4"
    assert f"  sessions  {line}\n" in terminal.out
    assert terminal.run("show", "a.example", "--format", "json") == ExitCode.OK
    (document,) = terminal.json_lines()
    assert document["sources"] == {"log": {"sessions": 7, "unverified": 0}}
    assert document["unverified"] == 4
    assert document["probed"] == 0


def test_show_tells_what_a_probe_established(terminal: Terminal) -> None:
    domain = parse_domain("a.example")
    told = [
        make_policy(PolicyType.STS, domain, ["mode: testing", f"mx: {mx}"], [], domain=domain)
        for mx in ("mx1.a.example", "mx2.a.example")
    ]
    counts = Counts()
    for one, times in zip(told, (5, 2), strict=True):
        counts.add(DAY, Session(domain, "", (), (one,)), times)
    store = terminal.place.store()
    store.add(counts)
    waiting = UnverifiedCounts(store)
    for _, found in waiting.find(DAY, DAY):
        if found.policy == told[0]:
            assert waiting.establish(found, None) == 5
    store.close()
    assert terminal.run("send", "--now") == ExitCode.OK
    assert terminal.run("show", "a.example") == ExitCode.OK
    line = "all by datagram; judgements by a probe: 5; verified by nobody and left out: 2"
    assert f"  sessions  {line}\n" in terminal.out
    assert "policy    sts a.example: 5 succeeded, 0 failed" in terminal.out
    assert terminal.run("show", "a.example", "--format", "json") == ExitCode.OK
    (document,) = terminal.json_lines()
    assert document["sources"] == {}
    assert (document["probed"], document["unverified"], document["sessions"]) == (5, 2, 5)


def test_show_counts_a_session_under_each_of_its_policies(terminal: Terminal) -> None:
    domain = parse_domain("a.example")
    told = tuple(
        make_policy(PolicyType.STS, domain, ["mode: testing", f"mx: {mx}"], [], domain=domain)
        for mx in ("mx1.a.example", "mx2.a.example")
    )
    counts = Counts()
    counts.add(DAY, Session(domain, "", (), told), 10)
    store = terminal.place.store()
    store.add(counts)
    waiting = UnverifiedCounts(store)
    (_, first), (_, second) = waiting.find(DAY, DAY)
    waiting.establish(first, None)
    assert terminal.run("send", "--now") == ExitCode.OK
    assert terminal.run("show", "a.example") == ExitCode.OK
    line = "all by datagram; judgements by a probe: 10; verified by nobody and left out: 10"
    assert f"  sessions  {line}\n" in terminal.out
    with store.writing() as connection:
        connection.execute("UPDATE day_domain SET state = 0")
    waiting.establish(second, None)
    store.close()
    assert terminal.run("show", "a.example") == ExitCode.OK
    assert "  sessions  all by datagram; judgements by a probe: 20\n" in terminal.out
    assert terminal.run("show", "a.example", "--format", "json") == ExitCode.OK
    (document,) = terminal.json_lines()
    assert (document["probed"], document["unverified"]) == (20, 0)


def test_render_says_that_nobody_verified_what_there_is(terminal: Terminal) -> None:
    domain = parse_domain("a.example")
    testing = make_policy(PolicyType.STS, domain, ["mode: testing"], [], domain=domain)
    counts = Counts()
    counts.add(DAY, Session(domain, "", (), (testing,)), 4)
    store = terminal.place.store()
    store.add(counts)
    store.close()
    assert terminal.run("render", domain, "--day", DAY.isoformat()) == ExitCode.FAILURE
    assert "nobody verified a session" in terminal.err
    assert "4 under a policy in testing mode" in terminal.err


def test_render_before_and_after_the_report_is_made(terminal: Terminal) -> None:
    terminal.place.count("a.example")
    day = DAY.isoformat()
    assert terminal.run("render", "a.example", "--day", day) == ExitCode.OK
    before = json.loads(terminal.raw)
    assert before["policies"][0]["summary"]["total-successful-session-count"] == 3
    terminal.run("send", "--now")
    assert terminal.run("render", "a.example", "--day", day, "--format", "json") == ExitCode.OK
    assert json.loads(terminal.raw) == before
    assert terminal.run("render", "a.example", "--day", day, "--format", "gzip") == ExitCode.OK
    assert json.loads(gzip.decompress(terminal.raw)) == before
    assert terminal.run("render", "b.example", "--day", day) == ExitCode.FAILURE
    assert "no session with b.example was counted" in terminal.err


def test_render_writes_the_signed_mail(
    tmp_path: Path, records: Records, mail: Mail, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    private = rsa.generate_private_key(65537, 2048)
    file = tmp_path / "dkim.pem"
    file.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    file.chmod(0o600)
    terminal = Terminal(
        Place(tmp_path, records, mail, f'dkim_keys = ["r1={file}"]\n'), capsysbinary
    )
    terminal.place.count("a.example")
    day = DAY.isoformat()
    assert terminal.run("render", "a.example", "--day", day, "--format", "mail") == ExitCode.OK
    record = wanted_record(SigningKey("r1", private)).encode()
    assert dkim.verify(terminal.raw, dnsfunc=lambda _name, timeout=5: record)
    message = email.message_from_bytes(terminal.raw, policy=policy.default)
    assert message["TLS-Required"] == "No"
    file.chmod(0o644)
    assert terminal.run("render", "a.example", "--day", day) == ExitCode.CONFIG
    assert "chmod 0640" in terminal.err


# ---- resend -----------------------------------------------------------------------------


def test_resend(terminal: Terminal, mail: Mail) -> None:
    sent(terminal, "a.example")
    assert terminal.run("resend", "a.example") == ExitCode.FAILURE
    assert "--sent" in terminal.out
    assert terminal.run("resend", "a.example", "--sent", "--dry-run") == ExitCode.OK
    assert terminal.place.states() == {"mailto:tls@a.example": "sent"}
    assert terminal.run("resend", "a.example", "--sent") == ExitCode.OK
    assert terminal.place.states() == {"mailto:tls@a.example": "waiting"}
    assert terminal.run("send") == ExitCode.OK
    first, second = [email.message_from_bytes(one.message) for one in mail.server.taken]
    assert first["Message-ID"] == second["Message-ID"]
    assert [part.get_payload() for part in first.walk()][2] == [
        part.get_payload() for part in second.walk()
    ][2]
    assert terminal.run("resend", "a.example", "--destination", "mailto:x@y.example") == 1


# ---- suppress ---------------------------------------------------------------------------


def test_suppress_by_hand(terminal: Terminal, mail: Mail) -> None:
    terminal.place.count("a.example")
    where = "mailto:tls@a.example"
    assert terminal.run("suppress", where, "--dry-run") == ExitCode.OK
    assert terminal.run("suppress") == ExitCode.OK
    assert where not in terminal.out
    assert terminal.run("suppress", where, "--for", "2d", "--reason", "they asked") == ExitCode.OK
    assert terminal.run("suppress", "--format", "json") == ExitCode.OK
    (line,) = terminal.json_lines()
    assert (line["destination"], line["reason"]) == (where, "they asked")
    until = datetime.fromisoformat(line["until"])
    assert timedelta(days=1) < until - datetime.now(UTC) <= timedelta(days=2)
    terminal.run("send", "--now")
    assert mail.server.taken == []
    assert terminal.run("suppress", where, "--remove") == ExitCode.OK
    assert terminal.run("suppress", where, "--remove") == ExitCode.FAILURE
    assert terminal.run("suppress") == ExitCode.OK
    assert where not in terminal.out


@pytest.mark.parametrize("word", ["tls@a.example", "http://x.example/", "mailto:x"])
def test_what_cannot_be_suppressed(terminal: Terminal, word: str) -> None:
    terminal.place.count("a.example")
    assert terminal.run("suppress", word) == ExitCode.USAGE
    assert terminal.run("suppress", "mailto:x@y.example", "--bounce", "-") == ExitCode.USAGE


def bounce(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, **fields: str) -> int:
    text = BOUNCE.format(**fields).replace("\n", "\r\n").encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    return terminal.run("suppress", "--bounce", "-")


def test_a_bounce_suppresses_a_mailbox_that_got_that_report(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent(terminal, "a.example", "b.example")
    store = terminal.place.store()
    report_id = Outbox(store).reports(domain="a.example")[0].report_id
    store.close()
    good = {"recipient": "TLS@a.example", "action": "failed", "status": "5.1.1"}
    for wrong in (
        {"recipient": "tls@b.example"},
        {"action": "delayed"},
        {"status": "4.2.2"},
    ):
        fields = good | wrong | {"report_id": report_id}
        assert bounce(terminal, monkeypatch, **fields) == ExitCode.FAILURE
    assert bounce(terminal, monkeypatch, **good, report_id="forged@a") == ExitCode.FAILURE
    assert bounce(terminal, monkeypatch, **good, report_id=report_id) == ExitCode.OK
    terminal.run("suppress", "--format", "json")
    (line,) = terminal.json_lines()
    assert line["destination"] == "mailto:tls@a.example"
    file = tmp_path / "mail"
    file.write_bytes(b"Subject: hello\r\n\r\nno bounce")
    assert terminal.run("suppress", "--bounce", str(file)) == ExitCode.DATAERR
    assert terminal.run("suppress", "--bounce", str(tmp_path / "absent")) == ExitCode.FAILURE


# ---- doctor -----------------------------------------------------------------------------


def test_doctor_looks_at_the_relay(
    place: Place, mail: Mail, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["doctor", "--json", "--offline", "--postconf", "none", "--config", str(place.config)]
    run(words)
    found = {one["id"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["report-relay"]["health"] == "unknown"
    assert found["report-bounces"]["health"] == "warn"
    words.remove("--offline")
    run(words)
    found = {one["id"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["report-relay"]["health"] == "ok"
    mail.server.replies["greeting"] = "554 no"
    run(words)
    found = {one["id"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["report-relay"]["health"] == "fail"
