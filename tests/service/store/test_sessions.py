# SPDX-License-Identifier: Apache-2.0
"""The session store: counts stay exact across batches, processes, restarts, bounds and kills."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.tlsrpt.reports import (
    DAY,
    DOMAIN,
    EXPIRED,
    RECORD,
    SESSIONS,
    STS,
    TLSA,
    UNTRUSTED,
    failure,
    success,
)

from strictmail.core.errors import StoreUnavailableError
from strictmail.core.tlsrpt import counts as counts_module
from strictmail.core.tlsrpt.counts import Counts, DomainCounts, PolicyCounts
from strictmail.core.tlsrpt.results import ResultType
from strictmail.core.tlsrpt.session import FailureDetail, ReportedPolicy, Session, Source
from strictmail.store import sessionrows
from strictmail.store import sessions as sessions_module
from strictmail.store.outbox import Outbox
from strictmail.store.outbox_rows import Conclusion
from strictmail.store.sessionrows import (
    day_at,
    day_number,
    decode_detail,
    decode_policy,
    encode_detail,
    encode_policy,
)
from strictmail.store.sessions import DayDomain, DayTotals, SessionStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHICH = DayDomain(DAY, "", DOMAIN)
NEXT_DAY = DAY + timedelta(days=1)


def counted(*sessions: Session, day: date = DAY, times: int = 1) -> Counts:
    counts = Counts()
    for session in sessions:
        counts.add(day, session, times)
    return counts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reports.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[SessionStore]:
    opened = SessionStore(path)
    yield opened
    opened.close()


def comparable(counts: DomainCounts) -> object:
    """Without what the store does not keep: how many plain datagrams there were."""
    return (
        counts.record,
        counts.policies,
        {source: told.unverified for source, told in counts.sources.items() if told.unverified},
    )


@pytest.mark.req("RPT-JSON-23", "RPT-JSON-29", "RPT-JSON-53")
def test_batches_add_up(store: SessionStore) -> None:
    store.add(counted(success(STS), success(TLSA), failure(STS, EXPIRED)))
    store.add(counted(success(STS), failure(STS, EXPIRED), failure(STS, UNTRUSTED), times=10))
    assert store.load(WHICH).policies == {
        STS: PolicyCounts(11, 21, {EXPIRED: 11, UNTRUSTED: 10}),
        TLSA: PolicyCounts(1),
    }
    assert store.load(WHICH).record == RECORD


def test_days_domains_and_identities_are_apart(store: SessionStore) -> None:
    store.add(counted(success(STS)))
    store.add(counted(success(STS), day=NEXT_DAY, times=2))
    store.add(counted(success(STS), times=4), identity="second")
    assert store.load(WHICH).policies[STS].successes == 1
    assert store.load(DayDomain(NEXT_DAY, "", DOMAIN)).policies[STS].successes == 2
    assert store.load(DayDomain(DAY, "second", DOMAIN)).policies[STS].successes == 4
    assert store.load(DayDomain(DAY, "", "other.example")) == DomainCounts()
    assert store.days() == [DayTotals(DAY, 2, 2, 0), DayTotals(NEXT_DAY, 1, 1, 0)]


@pytest.mark.req("RPT-JSON-53")
def test_a_restart_changes_nothing(path: Path) -> None:
    for _ in range(3):
        store = SessionStore(path)
        store.add(counted(success(STS), failure(STS, EXPIRED)))
        store.close()
    store = SessionStore(path, create=False)
    assert store.load(WHICH).policies == {STS: PolicyCounts(3, 3, {EXPIRED: 3})}
    store.close()


@pytest.mark.req("RPT-JSON-23", "RPT-JSON-53")
def test_two_processes_may_write_at_the_same_time(path: Path) -> None:
    stores = [SessionStore(path) for _ in range(2)]
    # Both know the domain before either knows the policy, and the policy before its details.
    for store in stores:
        store.add(counted(success(TLSA)))
    for store in [*stores, *stores]:
        store.add(counted(success(STS), failure(STS)))
    for store in [*stores, *stores]:
        store.add(counted(failure(STS, EXPIRED)))
    expected = {
        TLSA: PolicyCounts(2),
        STS: PolicyCounts(4, 8, {EXPIRED: 4, unstated(): 4}),
    }
    for store in stores:
        assert store.load(WHICH).policies == expected
        store.close()
    store = SessionStore(path)
    store.add(counted(success(STS), failure(STS, EXPIRED)))
    assert store.load(WHICH).policies[STS] == PolicyCounts(5, 9, {EXPIRED: 5, unstated(): 4})
    store.close()


def unstated() -> FailureDetail:
    return FailureDetail(ResultType.VALIDATION_FAILURE, failure_reason_code="no reason was given")


@given(
    st.lists(st.lists(SESSIONS, max_size=5), max_size=5),
    st.lists(st.integers(0, 1), min_size=5, max_size=5),
)
@settings(max_examples=40)
@pytest.mark.req("RPT-JSON-23", "RPT-JSON-57")
def test_any_batches_through_two_processes_are_counting_all_of_it(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Session]], writers: list[int]
) -> None:
    path = tmp_path_factory.mktemp("store") / "reports.sqlite3"
    stores = [SessionStore(path) for _ in range(2)]
    whole = Counts()
    for batch, writer in zip(batches, writers, strict=False):
        counts = counted(*batch)
        for day, domain, found in counts:
            whole.merge(day, domain, found)
        stores[writer].add(counts)
    for day, domain, found in whole:
        loaded = stores[0].load(DayDomain(day, "", domain))
        assert comparable(loaded) == comparable(found)
    for store in stores:
        store.close()


@given(st.lists(st.lists(SESSIONS, min_size=1, max_size=8), min_size=1, max_size=4))
@settings(max_examples=40)
@pytest.mark.req("RPT-JSON-23", "RPT-JSON-28")
def test_totals_are_exact_under_the_bounds_of_a_day(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Session]]
) -> None:
    path = tmp_path_factory.mktemp("store") / "reports.sqlite3"
    store = SessionStore(path)
    judged = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts_module, "MAX_DETAILS", 2)
        patch.setattr(counts_module, "MAX_POLICIES", 2)
        for batch in batches:
            counts = counted(*batch)
            judged += sum(
                found.successes + found.failures + found.unverified
                for _, _, domain in counts
                for found in domain.policies.values()
            )
            store.add(counts)
    stored = 0
    for _, which in store.unreported(NEXT_DAY):
        loaded = store.load(which)
        assert len(loaded.policies) <= 4 + 3
        for found in loaded.policies.values():
            stored += found.successes + found.failures + found.unverified
            assert len(found.details) <= 4 + len(ResultType)
            assert sum(found.details.values()) >= found.failures
    assert stored == judged
    store.close()


def test_the_bounds_hold_for_a_whole_day(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts_module, "MAX_DETAILS", 3)
    for number in range(20):
        detail = FailureDetail(
            ResultType.CERTIFICATE_EXPIRED, receiving_mx_helo=f"helo{number}", receiving_ip="::1"
        )
        store.add(counted(failure(STS, detail)))
    (found,) = store.load(WHICH).policies.values()
    assert found.failures == sum(found.details.values()) == 20
    assert len(found.details) == 4


def test_only_the_last_domains_are_known_by_heart(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "MAX_KNOWN_DOMAINS", 3)
    for _ in range(2):
        for number in range(10):
            session = Session(f"d{number}.example", "", success(STS).policies)
            store.add(counted(session))
    assert len(store._known) == 3
    assert [which.domain for _, which in store.unreported(NEXT_DAY)] == [
        f"d{number}.example" for number in range(10)
    ]
    for number in range(10):
        found = store.load(DayDomain(DAY, "", f"d{number}.example"))
        assert found.policies == {STS: PolicyCounts(2)}


# ---- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.req("RPT-JSON-53")
def test_a_batch_that_fails_is_not_counted_in_part(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(counted(success(TLSA)))
    batch = counted(success(STS), failure(STS, EXPIRED))
    with monkeypatch.context() as patch:
        patch.setattr(
            sessionrows,
            "encode_detail",
            lambda _detail: (_ for _ in ()).throw(sqlite3.OperationalError("disk I/O error")),
        )
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                store.add(batch)
    assert store.load(WHICH).policies == {TLSA: PolicyCounts(1)}
    # The same batch again: whole, and no row of the failed ones is used.
    store.add(batch)
    assert store.load(WHICH).policies == {
        TLSA: PolicyCounts(1),
        STS: PolicyCounts(1, 1, {EXPIRED: 1}),
    }


WRITER = textwrap.dedent(
    """
    import os, sys
    from datetime import date
    from strictmail.core.mta.datagram import decode_datagram
    from strictmail.core.tlsrpt.counts import Counts
    from strictmail.store.sessions import SessionStore

    store = SessionStore(sys.argv[1])
    sessions = [decode_datagram(line.encode()) for line in sys.argv[2].splitlines()]
    number = 0
    while True:
        counts = Counts()
        for session in sessions:
            counts.add(date(2025, 5, 22 + number // 20 % 3), session)
        store.add(counts)
        number += 1
        os.write(1, b"%d\\n" % number)
    """
)


@pytest.mark.req("RPT-JSON-53")
@pytest.mark.parametrize("seed", range(4))
def test_killed_while_counting(path: Path, seed: int) -> None:
    policies = [
        {"policy-type": 9, "f": 0},
        {"policy-type": 9, "f": 1, "failure-details": [{"c": 201}]},
        {"policy-type": 1, "policy-domain": "mx.example", "policy-string": ["3 1 1 AB"], "f": 0},
    ]
    lines = "\n".join(
        json.dumps({"d": f"d{n}.example", "policies": policies[: 1 + n % 3]}) for n in range(6)
    )
    command = [sys.executable, "-c", WRITER, str(path), lines]
    wanted = random.Random(seed).randint(3, 90)
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer:
        told = [writer.stdout.readline() for _ in range(wanted)]
        os.kill(writer.pid, signal.SIGKILL)
        told += writer.stdout.readlines()
    acknowledged = max(int(line) for line in told if line.endswith(b"\n"))
    store = SessionStore(path)
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    successes: dict[str, int] = {}
    for _, which in store.unreported(date(2026, 1, 1)):
        for found in store.load(which).policies.values():
            if found.failures == 0 or found.successes:
                successes[which.domain] = successes.get(which.domain, 0) + found.successes
    store.close()
    # Whole batches: every domain has the same number, the acknowledged ones and at most one more.
    first = successes["d0.example"]
    assert first in {acknowledged, acknowledged + 1}
    assert {successes[f"d{n}.example"] for n in (0, 3)} == {first}


# ---- imports -------------------------------------------------------------------------------------


def test_what_has_a_name_is_counted_once(path: Path) -> None:
    counts = counted(success(STS))
    answers = []
    for _ in range(2):
        store = SessionStore(path)
        answers += [store.import_once("log", b"1", DAY, counts) for _ in range(2)]
        store.close()
    assert answers == [True, False, False, False]
    store = SessionStore(path)
    # A name is a name of its source.
    assert store.import_once("http", b"1", DAY, counts)
    assert store.load(WHICH).policies == {STS: PolicyCounts(2)}
    store.close()


def test_sessions_with_names_are_counted_once_each(store: SessionStore) -> None:
    told = [(b"%d" % n, DAY, success(STS)) for n in range(5)]
    found = store.import_each(Source.LOG, told)
    assert (found.added, found.known, found.late) == (5, 0, 0)
    found = store.import_each(Source.LOG, [*told[3:], (b"x", DAY, failure(STS, EXPIRED)), told[0]])
    assert (found.added, found.known) == (1, 3)
    assert store.load(WHICH).policies == {STS: PolicyCounts(5, 1, {EXPIRED: 1})}
    assert store.load(WHICH).sources[Source.LOG].sessions == 6


# ---- reading and forgetting ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "late"),
    [("reported", 8), ("no-sessions", 8), ("only-reports", 8), ("no-record", 0), ("opted-out", 0)],
)
def test_what_comes_after_the_report_is_told_as_late(
    store: SessionStore, outcome: str, late: int
) -> None:
    store.add(counted(success(STS), success(TLSA)))
    store.add(counted(success(STS), day=NEXT_DAY))
    Outbox(store).conclude([Conclusion(WHICH, outcome)])
    store.add(counted(success(STS), success(TLSA), times=3))
    store.add(counted(success(STS), day=NEXT_DAY))
    store.add(counted(success(STS)), identity="second")
    told = [(bytes([number]), DAY, success(STS)) for number in range(2)]
    assert store.import_each(Source.LOG, told).late == (2 if late else 0)
    # None is lost, and each counts once, whatever it was judged under.
    assert store.load(WHICH).policies[STS].successes == 6
    assert store.late_sessions() == late
    assert [(totals.day, totals.late) for totals in store.days()] == [(DAY, late), (NEXT_DAY, 0)]


def test_pages_of_what_is_unreported(store: SessionStore) -> None:
    for day in (NEXT_DAY, DAY):
        for number in range(5):
            session = Session(f"d{number}.example", "", success(STS).policies)
            store.add(counted(session, day=day))
    found: list[DayDomain] = []
    after = (0, 0)
    while page := store.unreported(NEXT_DAY + timedelta(days=1), after=after, limit=3):
        assert len(page) <= 3
        found += [which for _, which in page]
        after = page[-1][0]
    assert [(which.day, which.domain) for which in found] == [
        (day, f"d{number}.example") for day in (DAY, NEXT_DAY) for number in range(5)
    ]
    assert {which.day for _, which in store.unreported(NEXT_DAY)} == {DAY}


def test_old_days_are_forgotten_with_all_that_is_of_them(store: SessionStore, path: Path) -> None:
    for day in (DAY, NEXT_DAY):
        store.add(counted(success(STS), failure(STS, EXPIRED), day=day))
        store.import_once("log", day.isoformat().encode(), day, counted(success(TLSA), day=day))
    assert store.prune(NEXT_DAY) == 1
    assert store.load(WHICH) == DomainCounts()
    assert store.days() == [DayTotals(NEXT_DAY, 1, 1, 0)]
    assert store.prune(NEXT_DAY) == 0
    kept = store.load(DayDomain(NEXT_DAY, "", DOMAIN)).policies
    assert kept == {STS: PolicyCounts(1, 1, {EXPIRED: 1}), TLSA: PolicyCounts(1)}
    with sqlite3.connect(path) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        left = {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in tables
        }
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    assert left["day_domain"] == 1
    assert left["policy_count"] == 2
    assert left["detail_count"] == 1
    assert left["imported"] == 1
    # What comes late for a day that is gone begins anew.
    store.add(counted(success(STS)))
    assert store.load(WHICH).policies == {STS: PolicyCounts(1)}


def test_days_are_numbers() -> None:
    for day in (DAY, date(1970, 1, 1), date(9999, 12, 31)):
        assert day_at(day_number(day)) == day
    assert day_number(date(1970, 1, 2)) == 1


@given(SESSIONS)
def test_policies_and_details_are_kept_as_they_are(session: Session) -> None:
    for judged in session.policies:
        assert decode_policy(encode_policy(judged.policy)) == judged.policy
        for detail in judged.failures:
            assert decode_detail(encode_detail(detail)) == detail
    empty = ReportedPolicy(STS.policy_type, "")
    assert decode_policy(encode_policy(empty)) == empty
