# SPDX-License-Identifier: Apache-2.0
"""Sessions that nobody verified: kept beside the others, moved once, all at once, or not at all."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
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
    US,
    failure,
    success,
)

from strictmail.core.errors import StoreUnavailableError
from strictmail.core.tlsrpt import counts as counts_module
from strictmail.core.tlsrpt.counts import Counts, PolicyCounts
from strictmail.core.tlsrpt.report import build_report
from strictmail.core.tlsrpt.session import Session, Source
from strictmail.store import unverified as unverified_module
from strictmail.store.outbox import Outbox
from strictmail.store.outbox_rows import Conclusion
from strictmail.store.schema import SESSIONS as DATABASE
from strictmail.store.schema import migrate, shipped_migrations
from strictmail.store.sessionrows import day_number, encode_policy
from strictmail.store.sessions import DayDomain, SessionStore
from strictmail.store.unverified import START, UnverifiedCounts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from strictmail.core.tlsrpt.counts import DomainCounts
    from strictmail.core.tlsrpt.session import FailureDetail
    from strictmail.store.unverified import Unverified

WHICH = DayDomain(DAY, "", DOMAIN)
NEXT_DAY = DAY + timedelta(days=1)
TOLD = Session(DOMAIN, RECORD, (), (STS,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reports.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[SessionStore]:
    opened = SessionStore(path)
    yield opened
    opened.close()


def count(
    store: SessionStore, *sessions: Session, times: int = 1, day: date = DAY, identity: str = ""
) -> None:
    counts = Counts()
    for session in sessions:
        counts.add(day, session, times)
    store.add(counts, identity)


def find(store: SessionStore, first: date = DAY, last: date = NEXT_DAY) -> list[Unverified]:
    """All of them, read in small pages."""
    counts, found, after = UnverifiedCounts(store), [], START
    while page := counts.find(first, last, after, 2):
        after = page[-1][0]
        found += [one for _, one in page]
    return found


def establish_all(store: SessionStore, detail: FailureDetail | None = None) -> int:
    counts = UnverifiedCounts(store)
    return sum(counts.establish(one, detail) for one in find(store))


def told(counts: DomainCounts) -> int:
    return sum(of.successes + of.failures + of.unverified for of in counts.policies.values())


@pytest.mark.req("RPT-JSON-24")
def test_they_are_in_no_report_until_they_are_established(store: SessionStore) -> None:
    count(store, TOLD, times=5)
    assert store.load(WHICH).policies == {STS: PolicyCounts(unverified=5)}
    assert build_report(DAY, DOMAIN, store.load(WHICH), US) is None
    assert establish_all(store) == 5
    found = store.load(WHICH)
    assert found.policies == {STS: PolicyCounts(5)}
    report = build_report(DAY, DOMAIN, found, US)
    assert report is not None
    assert report.sessions == 5


@pytest.mark.req("RPT-JSON-26", "RPT-JSON-29")
def test_a_failure_has_its_detail(store: SessionStore) -> None:
    count(store, TOLD, TOLD, success(STS), failure(STS, EXPIRED), failure(TLSA, UNTRUSTED))
    assert establish_all(store, EXPIRED) == 2
    assert store.load(WHICH).policies == {
        STS: PolicyCounts(1, 3, {EXPIRED: 3}),
        TLSA: PolicyCounts(0, 1, {UNTRUSTED: 1}),
    }
    count(store, TOLD, failure(STS, UNTRUSTED))
    assert establish_all(store, UNTRUSTED) == 1
    assert store.load(WHICH).policies[STS] == PolicyCounts(1, 5, {EXPIRED: 3, UNTRUSTED: 2})


def test_who_established_them_is_kept(store: SessionStore) -> None:
    count(store, TOLD, times=5)
    establish_all(store)
    count(store, TOLD, times=2)
    establish_all(store, EXPIRED)
    sources = store.load(WHICH).sources
    assert (sources[Source.PROBE].sessions, sources[Source.PROBE].unverified) == (7, 0)
    # What was told stays as it was told.
    assert sources[Source.POSTFIX].unverified == 7


def test_what_was_established_is_not_found_again(store: SessionStore) -> None:
    count(store, TOLD, times=5)
    (first,) = find(store)
    counts = UnverifiedCounts(store)
    assert counts.establish(first, None) == 5
    assert counts.establish(first, EXPIRED) == 0
    assert find(store) == []
    count(store, TOLD)
    (again,) = find(store)
    # What came since it was read is moved with it.
    count(store, TOLD)
    assert (again.sessions, counts.establish(again, None)) == (1, 2)
    assert store.load(WHICH).policies == {STS: PolicyCounts(7)}


def test_a_day_that_is_closed_stays_as_it_was(store: SessionStore) -> None:
    count(store, TOLD)
    (found,) = find(store)
    Outbox(store).conclude([Conclusion(WHICH, "no-sessions")])
    assert UnverifiedCounts(store).establish(found, None) == 0
    assert find(store) == []
    loaded = store.load(WHICH)
    assert loaded.policies == {STS: PolicyCounts(unverified=1)}
    assert Source.PROBE not in loaded.sources


@pytest.mark.parametrize(
    "others",
    [
        DayDomain(NEXT_DAY, "", DOMAIN),
        DayDomain(DAY, "brand", DOMAIN),
        DayDomain(DAY, "", "other.example"),
    ],
)
def test_a_row_that_is_somebody_elses_by_now_is_left_alone(
    store: SessionStore, others: DayDomain
) -> None:
    """A day is forgotten, and the number of its row is given to another one."""
    count(store, TOLD)
    (found,) = find(store)
    store.prune(NEXT_DAY)
    theirs = replace(TOLD, domain=others.domain)
    count(store, theirs, day=others.day, identity=others.identity)
    (again,) = find(store)
    assert again.row_id == found.row_id
    assert UnverifiedCounts(store).establish(found, None) == 0
    assert store.load(others).policies == {STS: PolicyCounts(unverified=1)}


def test_days_identities_and_policies_are_apart(store: SessionStore) -> None:
    newer = replace(STS, policy_strings=(*STS.policy_strings, "x: y"))
    other = Session("other.example", "", (), (STS, newer))
    for day in (DAY - timedelta(days=1), DAY, NEXT_DAY, NEXT_DAY + timedelta(days=1)):
        for identity in ("", "brand"):
            count(store, TOLD, other, day=day, identity=identity)
    found = find(store)
    assert len(found) == len(set(found)) == 2 * 2 * 3
    assert {one.which.day for one in found} == {DAY, NEXT_DAY}
    assert len(find(store, DAY, DAY)) == 6
    chosen = next(one for one in found if one.which == WHICH)
    assert UnverifiedCounts(store).establish(chosen, None) == 1
    assert len(find(store)) == 11
    assert store.load(WHICH).policies == {STS: PolicyCounts(1)}


def test_rows_that_two_writers_made_of_one_policy_are_both_moved(path: Path) -> None:
    stores = [SessionStore(path) for _ in range(2)]
    for one in stores:
        count(one, success(TLSA))
    for one in stores:
        count(one, TOLD, times=3)
    assert len(find(stores[0])) == 2
    assert establish_all(stores[0], EXPIRED) == 6
    for one in stores:
        # Who knew the rows before goes on with them.
        count(one, TOLD, failure(STS, EXPIRED))
        assert one.load(WHICH).policies[STS].failures >= 7
    assert stores[1].load(WHICH).policies[STS] == PolicyCounts(0, 8, {EXPIRED: 8}, unverified=2)
    for one in stores:
        one.close()


def test_the_bounds_of_details_hold(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "MAX_DETAILS", 3)
    for number in range(20):
        count(store, TOLD)
        assert establish_all(store, replace(EXPIRED, failure_reason_code=f"probe: {number}")) == 1
    (found,) = store.load(WHICH).policies.values()
    assert found.failures == sum(found.details.values()) == 20
    assert len(found.details) == 4


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["count", "count", "succeed", "fail", "close"]),
            st.lists(SESSIONS, max_size=4),
        ),
        max_size=8,
    )
)
@settings(max_examples=40, deadline=None)
@pytest.mark.req("RPT-JSON-23")
def test_successes_failures_and_unverified_are_the_sessions_told_before_and_after_any_probes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, list[Session]]]
) -> None:
    store = SessionStore(tmp_path_factory.mktemp("store") / "reports.sqlite3")
    whole = Counts()
    closed = False
    for step, sessions in steps:
        before = store.load(WHICH)
        match step:
            case "count":
                for session in sessions:
                    whole.add(DAY, replace(session, domain=DOMAIN))
                count(store, *(replace(session, domain=DOMAIN) for session in sessions))
            case "close":
                Outbox(store).conclude([Conclusion(WHICH, "reported")])
                closed = bool(before.policies)
            case _:
                moved = establish_all(store, EXPIRED if step == "fail" else None)
                waited = sum(of.unverified for of in before.policies.values())
                assert moved == (0 if closed else waited)
        found = store.load(WHICH)
        expected = whole.domain(DAY, DOMAIN).policies
        assert {
            p: of.successes + of.failures + of.unverified for p, of in found.policies.items()
        } == {p: of.successes + of.failures + of.unverified for p, of in expected.items()}
        for policy, of in found.policies.items():
            assert of.successes >= expected[policy].successes
            assert of.failures >= expected[policy].failures
            assert sum(of.details.values()) >= of.failures
        probed = found.sources[Source.PROBE].sessions if Source.PROBE in found.sources else 0
        assert probed + sum(of.unverified for of in found.policies.values()) == sum(
            of.unverified for of in expected.values()
        )
        if closed:
            break
    store.close()


# ---- what goes wrong ----------------------------------------------------------------------------


def test_a_failing_write_moves_nothing(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    count(store, TOLD, success(STS))

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    (found,) = find(store)
    with monkeypatch.context() as patch:
        patch.setattr(unverified_module, "add_sources", fail)
        with pytest.raises(StoreUnavailableError):
            UnverifiedCounts(store).establish(found, EXPIRED)
    assert store.load(WHICH).policies == {STS: PolicyCounts(1, unverified=1)}
    assert establish_all(store, EXPIRED) == 1
    assert store.load(WHICH).policies == {STS: PolicyCounts(1, 1, {EXPIRED: 1})}


ESTABLISH_AND_DIE = textwrap.dedent(
    """
    import os, signal, sys
    from datetime import date
    from strictmail.core.tlsrpt.results import ResultType
    from strictmail.core.tlsrpt.session import FailureDetail
    from strictmail.store import sessionrows, unverified
    from strictmail.store.sessions import SessionStore

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(sessionrows if sys.argv[2] == "encode_detail" else unverified, sys.argv[2], die)
    counts = unverified.UnverifiedCounts(SessionStore(sys.argv[1]))
    day = date.fromisoformat(sys.argv[3])
    ((_, found),) = counts.find(day, day)
    counts.establish(found, FailureDetail(ResultType.CERTIFICATE_EXPIRED))
    """
)


@pytest.mark.parametrize("step", ["place_detail", "encode_detail", "add_sources"])
def test_killed_in_between(path: Path, step: str) -> None:
    store = SessionStore(path)
    count(store, TOLD, success(STS), times=3)
    command = [sys.executable, "-c", ESTABLISH_AND_DIE, str(path), step, DAY.isoformat()]
    done = subprocess.run(command, timeout=60, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = SessionStore(path)
    assert again.load(WHICH).policies == {STS: PolicyCounts(3, unverified=3)}
    assert Source.PROBE not in again.load(WHICH).sources
    assert establish_all(again) == 3
    assert again.load(WHICH).policies == {STS: PolicyCounts(6)}
    again.close()
    store.close()


# ---- from an earlier version --------------------------------------------------------------------


def make_old(path: Path) -> None:
    """A store as it was before unverified sessions were counted under their policy."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        migrate(connection, path, shipped_migrations(DATABASE)[:3], DATABASE)
        connection.execute(
            "INSERT INTO day_domain (id, day, identity, domain, record) VALUES (1, ?, '', ?, ?)",
            (day_number(DAY), DOMAIN, RECORD),
        )
        connection.execute("INSERT INTO policy_count VALUES (1, 1, 4, 0)")
        connection.execute("INSERT INTO policy_text VALUES (1, ?)", (encode_policy(STS),))
        connection.execute("INSERT INTO source_count VALUES (1, 'postfix', 9, 9)")
    connection.close()


def test_an_old_store_keeps_its_counts_and_goes_on(path: Path) -> None:
    make_old(path)
    store = SessionStore(path)
    assert store.load(WHICH).policies == {STS: PolicyCounts(4)}
    # Under which policy they were, nobody knows any more: they are told as left out.
    assert store.load(WHICH).sources[Source.POSTFIX].unverified == 9
    assert find(store) == []
    count(store, TOLD, success(STS), times=2)
    assert store.load(WHICH).policies == {STS: PolicyCounts(6, unverified=2)}
    assert establish_all(store) == 2
    assert told(store.load(WHICH)) == 8
    store.close()


MIGRATE_AND_DIE = textwrap.dedent(
    """
    import os, signal, sys
    from strictmail.store import schema
    from strictmail.store.sessions import SessionStore

    real = schema._statements
    done = 0

    def dying(script):
        global done
        for statement in real(script):
            if done == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            yield statement

    schema._statements = dying
    SessionStore(sys.argv[1])
    """
)


@pytest.mark.parametrize("die_before", [0, 1])
def test_killed_while_upgrading(path: Path, die_before: int) -> None:
    make_old(path)
    command = [sys.executable, "-c", MIGRATE_AND_DIE, str(path), str(die_before)]
    done = subprocess.run(command, timeout=60, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT max(version) FROM schema_version").fetchone() == (3,)
    connection.close()
    store = SessionStore(path)
    assert store.load(WHICH).policies == {STS: PolicyCounts(4)}
    store.close()
