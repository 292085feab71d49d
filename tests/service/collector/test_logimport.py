# SPDX-License-Identifier: Apache-2.0
"""`strictmail report import-log`: real lines, a policy cache, DNS; counted once, on their day."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.service.collector.world import FakeClock, totals

from strictmail.cli import run
from strictmail.cli.report import importlog
from strictmail.collector import applied
from strictmail.collector.applied import AppliedPolicies
from strictmail.core.decision import DecisionSettings, Level
from strictmail.core.dnsvalues import Mx, RecordType, Status, Tlsa
from strictmail.core.sts.lifecycle import PolicyEntry
from strictmail.core.sts.policy import parse_policy
from strictmail.net.fakes import FakeResolver
from strictmail.store.memory import MemoryPolicyStore
from strictmail.store.outbox import Outbox
from strictmail.store.outbox_rows import Conclusion
from strictmail.store.policies import SqlitePolicyStore
from strictmail.store.sessions import DayDomain, SessionStore

if TYPE_CHECKING:
    from pathlib import Path

PEER = "mx.example.com[192.0.2.1]"
WHEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def policy(mode: str = "enforce", when: datetime = WHEN) -> PolicyEntry:
    body = f"version: STSv1\nmode: {mode}\nmx: mx.example.com\nmax_age: 604800\n".encode()
    return PolicyEntry(
        policy_domain="example.com",
        policy_id="1",
        policy=parse_policy(body),
        body=body,
        fetched_at=when,
        refresh_at=when,
        txt_check_at=when,
        last_asked_at=when,
    )


def attempt(
    number: int, when: datetime = WHEN, word: str = "Verified", status: str = "sent (250 ok)"
) -> str:
    head = f"{when.isoformat()} out postfix/smtp[{number}]:"
    return (
        f"{head} {word} TLS connection established to {PEER}:25: TLSv1.3 with cipher X\n"
        f"{head} 4XyZ{number:06}: to=<a@example.com>, relay={PEER}:25, delay=0.2, "
        f"delays=0/0/0.1/0.1, dsn=2.0.0, status={status}\n"
    )


class Setup:
    """A state directory with a policy, a log, and DNS that has an MX record."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = directory / "state"
        self.state.mkdir()
        self.log = directory / "mail.log"
        self.config = directory / "strictmail.toml"
        self.config.write_text(f'state_directory = "{self.state}"\n')
        self.now = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
        store = SqlitePolicyStore(str(self.state / "policies.sqlite3"))
        store.save([policy(when=self.now)])
        store.close()
        monkeypatch.setattr("strictmail.cli.composition.build_resolver", lambda _: Dns())

    def import_log(self, *options: str) -> int:
        words = ["report", "import-log", "--config", str(self.config), "--json", *options]
        return run([*words, str(self.log)])

    def totals(self) -> dict[str, tuple[int, int]]:
        store = SessionStore(self.state / "reports.sqlite3", create=False)
        try:
            return totals(store)
        finally:
            store.close()


class Dns(FakeResolver):
    """DNS of example.com, with the life of a real adapter."""

    def __init__(self, *, dane: bool = False) -> None:
        super().__init__(validates=dane)
        self.add("example.com", RecordType.MX, Mx(10, "mx.example.com"), secure=dane, ttl=60)
        self.add("mx.example.com", RecordType.A, "192.0.2.1", secure=dane)
        if dane:
            record = Tlsa(3, 1, 1, b"x" * 32)
            self.add("_25._tcp.mx.example.com", RecordType.TLSA, record, secure=True)

    async def start(self) -> None: ...

    async def probe(self) -> None: ...

    async def close(self) -> None: ...


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(tmp_path, monkeypatch)


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_log_is_counted_once(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    setup.log.write_text("".join(attempt(n, setup.now) for n in range(3)))
    assert setup.import_log() == 0
    assert said(capsys)["counted"] == 3
    assert setup.totals() == {"example.com": (3, 0)}
    with setup.log.open("a") as log:
        log.write(attempt(7, setup.now, "Untrusted", "deferred (Server certificate not verified)"))
    assert setup.import_log() == 0
    assert said(capsys)["results"] == {"failure": 1}
    # The position is a short cut only.
    (setup.state / importlog.POSITIONS_FILE).unlink()
    assert setup.import_log() == 0
    again = said(capsys)
    assert (again["counted"], again["known"]) == (0, 4)
    assert setup.totals() == {"example.com": (3, 1)}


def test_a_broken_position_file_costs_nothing(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.log.write_text(attempt(1, setup.now))
    for text in ("", "[]", '{"x": 1}', "\xff"):
        (setup.state / importlog.POSITIONS_FILE).write_text(text)
        assert setup.import_log() == 0
        capsys.readouterr()
    assert setup.totals() == {"example.com": (1, 0)}


def test_a_dry_run_counts_nothing(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    setup.log.write_text(attempt(1, setup.now))
    assert setup.import_log("--dry-run") == 0
    assert said(capsys)["results"] == {"success": 1}
    assert not (setup.state / "reports.sqlite3").exists()
    assert not (setup.state / importlog.POSITIONS_FILE).exists()


def test_an_attempt_that_is_cut_off_is_counted_when_it_is_whole(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = attempt(1, setup.now).splitlines(keepends=True)
    setup.log.write_text(attempt(2, setup.now) + first)
    setup.import_log()
    assert said(capsys)["counted"] == 1
    with setup.log.open("a") as log:
        log.write(second)
    setup.import_log()
    assert said(capsys)["counted"] == 1
    assert setup.totals() == {"example.com": (2, 0)}


@pytest.mark.req("RPT-JSON-53")
def test_sessions_belong_to_their_day_and_late_ones_are_told(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SessionStore(setup.state / "reports.sqlite3")
    yesterday = setup.now - timedelta(days=1)
    setup.log.write_text(attempt(1, yesterday) + attempt(2, setup.now))
    setup.import_log()
    assert said(capsys)["late"] == 0
    days = [totals.day for totals in store.days()]
    assert days == [yesterday.date(), setup.now.date()]
    over = DayDomain(yesterday.date(), "", "example.com")
    Outbox(store).conclude([Conclusion(over, "reported")])
    with setup.log.open("a") as log:
        log.write(attempt(3, yesterday))
    setup.import_log()
    assert said(capsys)["late"] == 1
    store.close()


def test_a_log_that_is_not_there(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup.import_log() == 1
    assert "there is no such file" in capsys.readouterr().err
    assert setup.import_log("--timezone", "Mars/Olympus") == 2
    assert setup.import_log("--follow", "-") == 2
    assert setup.import_log("--identity", "nobody") == 2


async def test_a_log_is_followed_until_it_is_told_to_stop(setup: Setup) -> None:
    from strictmail.runtime.config import load_config

    setup.log.write_text(attempt(1, setup.now))
    config = load_config(str(setup.config))
    looks: list[int] = []

    class Clock(FakeClock):
        def now(self) -> datetime:
            # Asked at each look at the log.
            looks.append(1)
            if len(looks) == 3:
                setup.log.rename(setup.log.with_name("mail.log.1"))
                setup.log.write_text(attempt(2, setup.now))
            if len(looks) > 6:
                runner._stop.set()
            return datetime.now(UTC)

    runner = importlog._Runner(config, Clock(), UTC, follow=True, dry_run=False)
    importlog_look, importlog.LOOK_SECONDS = importlog.LOOK_SECONDS, 0.001  # type: ignore[misc]
    try:
        await asyncio.wait_for(runner.run([str(setup.log)], ""), 60)
    finally:
        importlog.LOOK_SECONDS = importlog_look  # type: ignore[misc]
    assert runner.tally.counted == 2
    assert setup.totals() == {"example.com": (2, 0)}


# ---- what was demanded --------------------------------------------------------------------------


def policies(
    store: MemoryPolicyStore | None, dns: FakeResolver, *, dane: bool = False
) -> AppliedPolicies:
    return AppliedPolicies(store, dns, clock=FakeClock(), dane=dane, settings=DecisionSettings())


async def test_the_cache_says_what_was_demanded() -> None:
    store = MemoryPolicyStore()
    store.save([policy()])
    known = policies(store, Dns())
    questions = [
        ("example.com", WHEN),
        ("example.com", WHEN + timedelta(days=8)),
        ("other.example", WHEN),
    ]
    found = await known.find(questions)
    assert [one.level if one else None for one in found] == [Level.SECURE, Level.NONE, Level.NONE]
    assert [one.level for one in await policies(None, Dns()).find(questions[:1]) if one] == [
        Level.NONE
    ]


async def test_dane_counts_only_for_an_mta_that_does_it() -> None:
    for dane, level in ((True, Level.DANE_ONLY), (False, Level.NONE)):
        (found,) = await policies(None, Dns(dane=True), dane=dane).find([("example.com", WHEN)])
        assert found is not None
        assert found.level is level


async def test_dns_is_asked_once_and_a_failure_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(applied, "MAX_REMEMBERED", 2)
    dns = Dns()
    known = policies(None, dns)
    for _ in range(3):
        await known.find([("example.com", WHEN)])
    assert dns.count("example.com", RecordType.MX) == 1
    dns.fail("broken.example", RecordType.MX, Status.SERVFAIL)
    assert await known.find([("broken.example", WHEN)]) == [None]
    await known.find([(f"d{number}.example", WHEN) for number in range(5)])
    assert len(known._known) == 2
