# SPDX-License-Identifier: Apache-2.0
"""`strictmail lab demo` without Postfix, and how it judges and shows what it sees."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import AsyncMock

import pytest

from strictmail.cli import run
from strictmail.cli.demo import stage, story
from strictmail.cli.demo.verdict import Column, Mail, Table, find_faults, say_mail
from strictmail.cli.exitcodes import ExitCode
from strictmail.core.decision import Level
from strictmail.lab.entries import Delivery, Outcome
from strictmail.lab.net import ReceivedMessage
from strictmail.lab.sender import MailLog, dialect_for
from strictmail.lab.zoo import ZOO

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

DEADLINE_SECONDS = 60.0
SECURE = Outcome(Level.SECURE, Delivery.VERIFIED, "mx.a.test")
WAITS = Outcome(Level.SECURE, Delivery.DEFERRED, None)
PLAIN = Outcome(Level.NONE, Delivery.PLAINTEXT, "mx.a.test")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the demo makes its temporary directory; short, for the sake of socket paths."""
    directory = Path(tempfile.mkdtemp(prefix="d-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    shutil.rmtree(directory)


def rows_of(output: str) -> dict[str, str]:
    """Domain -> its row in one line; the domains must be short enough for one."""
    rows: dict[str, str] = {}
    domain = ""
    for line in output.splitlines():
        if line[:1].strip() and line.split()[0].endswith(".test"):
            domain = line.split()[0]
        rows[domain] = f"{rows.get(domain, '')} {' '.join(line.split())}"
    return rows


# ---- the whole of it --------------------------------------------------------------------


def test_the_story_without_postfix(
    room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = {"Good": ("good", "no-policy"), "Hostile": ("mx-unlisted", "policy-bomb")}
    monkeypatch.setattr(story, "SELECTION", chosen)
    monkeypatch.setattr(stage, "find_postfix", lambda: None)
    monkeypatch.setenv("COLUMNS", "160")
    code = run(["lab", "demo"])
    output = capsys.readouterr().out
    assert code == ExitCode.OK, output
    said = " ".join(output.split())
    assert "Postfix is not installed; to see a real Postfix send: `apt install postfix`" in said
    rows = rows_of(output)
    assert "secure: verified" in rows["good.plain.test"]
    assert "as it" in rows["good.plain.test"]
    assert "none: no demand" in rows["no-policy.plain.test"]
    assert "defer: the mail" in rows["mx-unlisted.plain.test"]
    assert "gzip" in rows["policy-bomb.plain.test"]
    assert output.index("Good") < output.index("no-policy") < output.index("Hostile")
    # Four domains, and four steps in the life of a policy.
    assert "8 of 8 verdicts are good" in " ".join(output.split())
    assert "OK secure match=mx.good.plain.test" in " ".join(output.split())
    assert "policy 20260101, mode enforce" in " ".join(output.split())
    assert "policy 20991231, mode none" in " ".join(output.split())
    assert list(room.iterdir()) == []


def test_what_is_not_as_expected_is_told_and_fails(
    room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(story, "SELECTION", {"Good": ("no-policy",)})
    monkeypatch.setattr(story.Story, "_wanted", lambda self, entry: SECURE)
    monkeypatch.setattr(story.Story, "_show_life", AsyncMock())
    code = run(["lab", "demo", "--no-postfix"])
    output = " ".join(capsys.readouterr().out.split())
    assert code == ExitCode.FAILURE
    assert "0 of 1 verdicts are good" in output
    assert "NOT as expected: no-policy.plain.test: the answer is none, not secure." in output


def test_ctrl_c_ends_it_and_nothing_stays(room: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "strictmail", "lab", "demo", "--no-postfix"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(room)},
    ) as demo:
        assert demo.stdout is not None
        next(line for line in demo.stdout if "WHAT IS WRONG" in line)
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
        assert demo.wait(DEADLINE_SECONDS) == ExitCode.INTERRUPTED
    assert list(room.iterdir()) == []


# ---- the selection ----------------------------------------------------------------------


def test_the_selection_is_of_the_zoo_and_decides_something() -> None:
    entries = {entry.name: entry for entry in ZOO}
    names = [name for group in story.SELECTION.values() for name in group]
    assert len(names) == len(set(names))
    assert all(entries[name].expect.level is not None for name in names)
    assert {entries[name].expect.level for name in names} >= {
        Level.NONE,
        Level.SECURE,
        Level.DANE_ONLY,
        Level.DEFER,
    }


# ---- the verdict ------------------------------------------------------------------------


def mail(delivery: Delivery, *hosts: str, tls: bool = True, named: bool = False) -> Mail:
    taken = tuple(
        ReceivedMessage(
            host=host,
            domain="a.test",
            recipients=("demo@a.test",),
            sender="",
            tls=tls,
            tls_version="TLSv1.3" if tls else None,
            server_name=None,
            size_bytes=100,
            at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        for host in hosts
    )
    return Mail(delivery, hosts[0] if hosts else "", "Postfix's words", taken, named)


VERDICTS = {
    "answer alone": (SECURE, "secure", None, ""),
    "wrong answer": (SECURE, "none", None, "the answer is none, not secure"),
    "level left open": (Outcome(None, Delivery.VERIFIED, None), "dane", None, ""),
    "verified": (SECURE, "secure", mail(Delivery.VERIFIED, "mx.a.test"), ""),
    "weaker than verified": (
        SECURE,
        "secure",
        mail(Delivery.ENCRYPTED, "mx.a.test"),
        "the mail is encrypted, not verified",
    ),
    "another host": (
        SECURE,
        "secure",
        mail(Delivery.VERIFIED, "mx.b.test"),
        "it arrived at mx.b.test, not at mx.a.test",
    ),
    "verified, and the host saw no TLS": (
        SECURE,
        "secure",
        mail(Delivery.VERIFIED, "mx.a.test", tls=False),
        "the MX host saw another kind of session than Postfix",
    ),
    "taken twice": (
        SECURE,
        "secure",
        mail(Delivery.VERIFIED, "mx.a.test", "mx.b.test"),
        "Postfix gave it to mx.a.test, and it was taken by mx.a.test, mx.b.test",
    ),
    "in the clear, as allowed": (
        PLAIN,
        "none",
        mail(Delivery.PLAINTEXT, "mx.a.test", tls=False),
        "",
    ),
    "waits": (WAITS, "secure", mail(Delivery.DEFERRED), ""),
    "waits, and the recipient was told": (
        WAITS,
        "secure",
        mail(Delivery.DEFERRED, named=True),
        "its recipient was named to an MX host",
    ),
    "waits, and arrived": (
        WAITS,
        "secure",
        mail(Delivery.DEFERRED, "mx.a.test"),
        "an MX host took it all the same",
    ),
    "or the other outcome": (
        Outcome(Level.DANE, Delivery.VERIFIED, "mx.a.test", Delivery.DEFERRED),
        "dane",
        mail(Delivery.DEFERRED),
        "",
    ),
}


@pytest.mark.parametrize(
    ("wanted", "level", "sent", "faults"), VERDICTS.values(), ids=list(VERDICTS)
)
def test_verdict(wanted: Outcome, level: str, sent: Mail | None, faults: str) -> None:
    assert "; ".join(find_faults(wanted, level, sent)) == faults


def test_foreign_words_are_escaped() -> None:
    sent = Mail(Delivery.DEFERRED, "", "said: \x1b[31m", (), named=False)
    assert "\x1b" not in say_mail(sent)
    assert say_mail(sent).startswith("waits: said: \\x1b[31m")


def test_table_wraps_its_cells() -> None:
    table = Table([Column("A", 1), Column("B", 2)], 20)
    assert list(table.head()) == ["A       B", "------  ------------"]
    assert list(table.row("one two", "x\nthree four five")) == [
        "one     x",
        "two     three four",
        "        five",
    ]


# ---- Postfix's log ----------------------------------------------------------------------

LOG = """\
Jan  1 12:00:00 out postfix/smtp[7]: Trusted TLS connection established to mx1.a.test[127.0.0.2]:25: TLSv1.3
Jan  1 12:00:00 out postfix/smtp[8]: Verified TLS connection established to mx.b.test[127.0.0.4]:25: TLSv1.3
Jan  1 12:00:01 out postfix/smtp[7]: Verified TLS connection established to mx2.a.test[127.0.0.3]:25: TLSv1.3
Jan  1 12:00:01 out postfix/smtp[7]: 1A: to=<x@a.test>, relay=mx2.a.test[127.0.0.3]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 Ok: taken)
Jan  1 12:00:02 out postfix/smtp[7]: 2B: to=<x@c.test>, relay=mx.c.test[127.0.0.5]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 Ok)
Jan  1 12:00:02 out postfix/smtp[8]: 3C: to=<x@b.test>, relay=mx.b.test[127.0.0.4]:25, delay=1, delays=0/0/0/1, dsn=4.7.5, status=deferred (Server certificate not verified)
Jan  1 12:00:03 out postfix/qmgr[9]: 3C: from=<>, size=1, nrcpt=1 (queue active)
Jan  1 12:00:03 out postfix/error[10]: 4D: to=<x@d.test>, relay=none, delay=1, delays=0/0/0/1, dsn=5.1.2, status=bounced (no such domain)
"""


def test_mail_log_as_it_grows() -> None:
    log = MailLog()
    for start in range(0, len(LOG), 50):
        log.feed(LOG[start : start + 50])
    assert [(a.queue_id, a.host, a.delivery) for a in log.attempts] == [
        ("1A", "mx2.a.test", Delivery.VERIFIED),
        ("2B", "mx.c.test", Delivery.PLAINTEXT),
        ("3C", "mx.b.test", Delivery.DEFERRED),
        ("4D", "", Delivery.BOUNCED),
    ]
    assert log.attempts[2].why == "Server certificate not verified"


@pytest.mark.parametrize(
    ("version", "dialect"),
    [
        ("3.5.25", "postfix"),
        ("3.9.1", "postfix"),
        ("3.10.0", "postfix-tlsrpt"),
        ("3.11-20260101", "postfix-tlsrpt"),
        ("4.0.0", "postfix-tlsrpt"),
    ],
)
def test_dialect_for_a_version(version: str, dialect: str) -> None:
    assert dialect_for(version) == dialect
