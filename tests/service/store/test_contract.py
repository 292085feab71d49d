# SPDX-License-Identifier: Apache-2.0
"""What every policy store promises: the same tests against SQLite and against the fake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import pytest

from strictmail.core.overrides import Override, OverrideAction
from strictmail.core.sts.lifecycle import PolicyEntry, apply_fetch_failed
from strictmail.core.sts.policy import parse_policy
from strictmail.core.sts.values import FetchFailure, Mode
from strictmail.core.tlsrpt.results import ResultType
from strictmail.store.memory import MemoryPolicyStore
from strictmail.store.policies import SqlitePolicyStore
from strictmail.store.requests import Request, RequestKind, RequestState

if TYPE_CHECKING:
    from pathlib import Path

Store: TypeAlias = SqlitePolicyStore | MemoryPolicyStore
MakeEntry: TypeAlias = Callable[..., PolicyEntry]

TIMEOUT = FetchFailure(ResultType.STS_POLICY_FETCH_ERROR, "no answer in 60s", "timeout")
DAY = timedelta(days=1)
LONG_AGO = timedelta(days=400)


def domains(entries: list[PolicyEntry]) -> list[str]:
    return [entry.policy_domain for entry in entries]


# ---- one entry --------------------------------------------------------------------------


@pytest.mark.req("STS-FET-33")
def test_loads_what_was_saved(store: Store, make_entry: MakeEntry) -> None:
    entry = make_entry()
    store.save([entry])
    assert store.load("example.com") == entry


def test_knows_nothing_of_other_domains(store: Store, make_entry: MakeEntry) -> None:
    store.save([make_entry("example.com")])
    # RFC 8461 §3.4: neither the parent nor a subdomain counts.
    assert store.load("mail.example.com") is None
    assert store.load("com") is None


@pytest.mark.req("SEC-41")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"version: STSv1\nmode: none\nmax_age: 86400", id="no last line end"),
        pytest.param(
            b"version: STSv1\r\nmode: testing\r\nmx: A.Example\r\nmax_age: 1\r\nx-new: \xc3\xa9\r\n",
            id="octets outside ASCII",
        ),
        pytest.param(
            b"version: STSv1\nmode: enforce\nmax_age: 604800\n"
            + b"".join(b"mx: mx%d.example\n" % i for i in range(3000)),
            id="larger than a page, and than what is shared",
        ),
    ],
)
def test_keeps_the_policy_as_served(store: Store, make_entry: MakeEntry, body: bytes) -> None:
    store.save([make_entry(body=body)])
    loaded = store.load("example.com")
    assert loaded is not None
    assert loaded.body == body
    assert loaded.policy == parse_policy(body)


def test_failure_survives(store: Store, make_entry: MakeEntry, noon: datetime) -> None:
    failure = replace(TIMEOUT, lines=("version: STSv2", 'with "quotes" and \udcff'))
    entry = apply_fetch_failed(make_entry(), failure, noon + DAY, jitter=0.0)
    store.save([entry])
    assert store.load("example.com") == entry


def test_success_clears_the_failure(store: Store, make_entry: MakeEntry, noon: datetime) -> None:
    store.save([apply_fetch_failed(make_entry(), TIMEOUT, noon, jitter=0.0)])
    store.save([make_entry(fetched_at=noon + DAY)])
    assert store.load("example.com") == make_entry(fetched_at=noon + DAY)
    assert store.failing(noon + DAY) == []


@pytest.mark.req("STS-FET-41")
def test_replaces_a_stronger_policy(store: Store, make_entry: MakeEntry) -> None:
    store.save([make_entry(mode="enforce", max_age=31_557_600)])
    weaker = make_entry(mode="none", max_age=60)
    store.save([weaker])
    assert store.load("example.com") == weaker
    assert store.count() == 1


@pytest.mark.req("STS-FET-34", "STS-FET-31")
def test_parts_of_a_second_never_prolong_or_hasten(
    store: Store, make_entry: MakeEntry, noon: datetime
) -> None:
    moment = noon + timedelta(milliseconds=700)
    store.save([make_entry(fetched_at=moment, refresh_at=moment, txt_check_at=moment)])
    loaded = store.load("example.com")
    assert loaded is not None
    assert loaded.fetched_at == noon
    assert loaded.refresh_at == loaded.txt_check_at == noon + timedelta(seconds=1)


def test_saves_all_or_none(store: Store, make_entry: MakeEntry) -> None:
    def entries() -> list[PolicyEntry]:
        broken = replace(make_entry("b.example"), fetched_at="yesterday")  # type: ignore[arg-type]
        return [make_entry("a.example"), broken]

    with pytest.raises(AttributeError):
        store.save(entries())
    assert store.count() == 0
    store.save([make_entry("a.example")])
    assert store.count() == 1


def test_save_newer_keeps_what_was_fetched_later(
    store: Store, make_entry: MakeEntry, noon: datetime
) -> None:
    store.save([make_entry("a.example"), make_entry("b.example")])
    older = make_entry("a.example", mode="none", fetched_at=noon - DAY)
    same = make_entry("b.example", mode="none", fetched_at=noon)
    new = make_entry("c.example", fetched_at=noon - DAY)
    newer = make_entry("b.example", mode="testing", fetched_at=noon + DAY)
    assert store.save_newer([older, same, new]) == 1
    assert store.save_newer([newer]) == 1
    assert store.load("a.example") == make_entry("a.example")
    assert store.load("b.example") == newer
    assert store.load("c.example") == new


# ---- asked for, removed -----------------------------------------------------------------


def test_touch_moves_only_forward(store: Store, make_entry: MakeEntry, noon: datetime) -> None:
    store.save([make_entry("a.example"), make_entry("b.example")])
    store.touch([("a.example", noon + DAY), ("b.example", noon - DAY)])
    assert store.load("a.example") == make_entry("a.example", last_asked_at=noon + DAY)
    assert store.load("b.example") == make_entry("b.example")


def test_touch_creates_nothing(store: Store, noon: datetime) -> None:
    store.touch([("gone.example", noon)])
    assert store.load("gone.example") is None
    assert store.count() == 0


def test_remove_counts_what_existed(store: Store, make_entry: MakeEntry) -> None:
    store.save([make_entry("a.example"), make_entry("b.example")])
    assert store.remove(["a.example", "never.example"]) == 1
    assert store.load("a.example") is None
    assert store.count() == 1


# ---- lists ------------------------------------------------------------------------------


def test_due_is_earliest_first_and_limited(
    store: Store, make_entry: MakeEntry, noon: datetime
) -> None:
    hour = timedelta(hours=1)
    store.save(
        [
            make_entry("third.example", refresh_at=noon),
            make_entry("first.example", refresh_at=noon - 2 * hour),
            make_entry("second.example", refresh_at=noon - hour),
            make_entry("later.example", refresh_at=noon + timedelta(seconds=1)),
            make_entry("idle.example", refresh_at=None),
        ]
    )
    assert domains(store.due(noon, 10)) == ["first.example", "second.example", "third.example"]
    assert domains(store.due(noon, 2)) == ["first.example", "second.example"]


@pytest.mark.req("STS-FET-39", "STS-FET-40")
def test_failing_lists_what_may_be_lost(
    store: Store, make_entry: MakeEntry, noon: datetime
) -> None:
    def failed(domain: str, **fields: object) -> PolicyEntry:
        return apply_fetch_failed(make_entry(domain, **fields), TIMEOUT, noon, jitter=0.0)

    store.save(
        [
            failed("week.example"),
            failed("day.example", mode="testing", max_age=86_400),
            failed("opted-out.example", mode="none"),
            failed("expired.example", fetched_at=noon - 8 * DAY),
            make_entry("fine.example"),
        ]
    )
    assert domains(store.failing(noon)) == ["day.example", "week.example"]
    assert store.count_failing(noon) == (2, noon + DAY)
    assert store.count_failing(noon + DAY + timedelta(milliseconds=1))[0] == 1
    assert store.count_failing(noon + LONG_AGO) == (0, None)


@pytest.mark.req("STS-FET-34")
def test_failing_holds_to_the_last_second(
    store: Store, make_entry: MakeEntry, noon: datetime
) -> None:
    store.save([apply_fetch_failed(make_entry(), TIMEOUT, noon, jitter=0.0)])
    end = noon + timedelta(seconds=604_800)
    assert domains(store.failing(end)) == ["example.com"]
    assert store.failing(end + timedelta(milliseconds=1)) == []


def test_iterate_pages_in_order(store: Store, make_entry: MakeEntry) -> None:
    store.save([make_entry(f"d{i}.example") for i in (3, 1, 5, 2, 4)])
    first = store.iterate(limit=2)
    second = store.iterate(after=first[-1].policy_domain, limit=2)
    third = store.iterate(after=second[-1].policy_domain, limit=2)
    assert domains(first + second + third) == [f"d{i}.example" for i in range(1, 6)]
    assert store.iterate(after="d5.example") == []


def test_find_by_mode_and_expiry(store: Store, make_entry: MakeEntry, noon: datetime) -> None:
    store.save(
        [
            make_entry("a.example", mode="enforce"),
            make_entry("b.example", mode="testing", max_age=3600),
            make_entry("c.example", mode="enforce", max_age=3600),
        ]
    )
    assert domains(store.find(mode=Mode.ENFORCE)) == ["a.example", "c.example"]
    assert domains(store.find(expires_before=noon + DAY)) == ["b.example", "c.example"]
    assert domains(store.find(mode=Mode.ENFORCE, expires_before=noon + DAY)) == ["c.example"]
    assert domains(store.find(mode=Mode.ENFORCE, limit=1)) == ["a.example"]


# ---- counts -----------------------------------------------------------------------------


def test_count_follows_every_change(store: Store, make_entry: MakeEntry, noon: datetime) -> None:
    assert store.count() == 0
    store.save([make_entry("a.example"), make_entry("b.example"), make_entry("a.example")])
    assert store.count() == 2
    store.save([make_entry("b.example", mode="none")])
    assert store.count() == 2
    store.remove(["a.example", "a.example"])
    assert store.count() == 1
    store.prune(noon + LONG_AGO, noon)
    assert store.count() == 0


def test_counts_registrable_domains(store: Store, make_entry: MakeEntry) -> None:
    names = ["example.com", "a.example.com", "b.a.example.com", "example.co.uk", "a.example.co.uk"]
    store.save([make_entry(name) for name in [*names, "notexample.com"]])
    assert store.count_registrable("example.com") == 3
    assert store.count_registrable("example.co.uk") == 2
    assert store.count_registrable("a.example.com") == 0
    store.remove(["example.com", "a.example.com"])
    assert store.count_registrable("example.com") == 1


# ---- pruning ----------------------------------------------------------------------------


@pytest.mark.req("STS-FET-44")
def test_prune_never_takes_an_unexpired_policy(
    store: Store, make_entry: MakeEntry, noon: datetime
) -> None:
    store.save([make_entry(last_asked_at=noon - LONG_AGO, refresh_at=None)])
    end = noon + timedelta(seconds=604_800)
    assert store.prune(end, idle_before=end) == 0
    assert store.load("example.com") is not None


@pytest.mark.parametrize(
    ("after_expiry", "asked_days_ago", "gone"),
    [
        pytest.param(DAY, 0, False, id="asked for, in the time of grace: explain can tell"),
        pytest.param(6 * DAY, 0, False, id="still in the time of grace"),
        pytest.param(8 * DAY, 0, True, id="the grace is over"),
        pytest.param(timedelta(seconds=1), 60, True, id="nobody asks"),
    ],
)
def test_prune_of_expired_policies(
    store: Store,
    make_entry: MakeEntry,
    noon: datetime,
    after_expiry: timedelta,
    asked_days_ago: int,
    gone: bool,
) -> None:
    now = noon + timedelta(seconds=604_800) + after_expiry
    store.save([make_entry(last_asked_at=now - asked_days_ago * DAY)])
    assert store.prune(now, idle_before=now - 30 * DAY) == int(gone)
    assert (store.load("example.com") is None) == gone


def test_prune_of_many_keeps_those_between(
    store: Store, make_entry: MakeEntry, noon: datetime
) -> None:
    expired = [make_entry(f"d{n}.example", max_age=60) for n in range(1200)]
    kept = [make_entry(f"k{n}.example") for n in range(30)]
    store.save([e for pair in zip(expired, kept * 40, strict=True) for e in pair])
    assert store.prune(noon + DAY, idle_before=noon + DAY) == 1200
    assert store.count() == 30


# ---- overrides --------------------------------------------------------------------------


def test_overrides_are_kept_replaced_and_removed(store: Store, noon: datetime) -> None:
    first = Override("b.example", OverrideAction.DEFER, "broken", noon, noon + DAY)
    second = Override("a.example", OverrideAction.SECURE, "why", noon, noon + DAY, ("*.a.example",))
    store.save_override(first)
    store.save_override(second)
    assert store.overrides() == [second, first]
    changed = replace(first, action=OverrideAction.ENCRYPT)
    store.save_override(changed)
    assert store.overrides() == [second, changed]
    assert store.remove_override("a.example")
    assert not store.remove_override("a.example")
    assert store.overrides() == [changed]


@pytest.mark.parametrize("action", list(OverrideAction))
def test_every_action_can_be_kept(store: Store, noon: datetime, action: OverrideAction) -> None:
    override = Override("a.example", action, "why \u2028 \udcff", noon, noon + DAY)
    store.save_override(override)
    (kept,) = store.overrides()
    assert kept.action is action
    assert kept.reason == "why \u2028 \\udcff"


# ---- requests ---------------------------------------------------------------------------


def test_a_request_is_given_out_once_and_answered(store: Store) -> None:
    store.take_requests()
    number = store.request(RequestKind.REFRESH, "a.example")
    second = store.request(RequestKind.FORGET, "b.example")
    assert store.request_state(number) == RequestState(taken=False)
    assert store.take_requests() == [
        Request(number, RequestKind.REFRESH, "a.example"),
        Request(second, RequestKind.FORGET, "b.example"),
    ]
    assert store.take_requests() == []
    assert store.request_state(number) == RequestState(taken=True)
    store.answer_request(number, "fetched, mode enforce", succeeded=True)
    assert store.request_state(number) == RequestState(
        taken=True, outcome="fetched, mode enforce", succeeded=True
    )


def test_a_request_can_be_withdrawn_until_it_is_taken(store: Store) -> None:
    first = store.request(RequestKind.REFRESH, "a.example")
    assert store.withdraw_request(first)
    second = store.request(RequestKind.REFRESH, "a.example")
    assert second != first
    assert [request.number for request in store.take_requests()] == [second]
    assert not store.withdraw_request(second)


# ---- backup -----------------------------------------------------------------------------


def test_backup_holds_everything(
    store: Store, make_entry: MakeEntry, noon: datetime, tmp_path: Path
) -> None:
    override = Override("a.example", OverrideAction.DEFER, "why", noon, noon + DAY)
    store.save([make_entry("a.example"), make_entry("b.example")])
    store.save_override(override)
    copy_path = tmp_path / "copy.sqlite3"
    store.backup(str(copy_path))
    store.save([make_entry("later.example")])
    copy = SqlitePolicyStore(copy_path)
    try:
        assert domains(copy.iterate()) == ["a.example", "b.example"]
        assert copy.overrides() == [override]
    finally:
        copy.close()
