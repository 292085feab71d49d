# SPDX-License-Identifier: Apache-2.0
"""The outbox: a day is reported once, a delivery tried by one at a time, what was sent stays sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from tests.unit.core.tlsrpt.reports import DAY, DOMAIN, STS, success

from strictmail.core.errors import StoreUnavailableError
from strictmail.core.tlsrpt.counts import Counts
from strictmail.core.tlsrpt.delivery import DeliveryState, NextStep
from strictmail.store.outbox import HOLD, Outbox
from strictmail.store.outbox_rows import (
    Conclusion,
    Delivery,
    NewDelivery,
    NewReport,
    Suppression,
)
from strictmail.store.sessions import DayDomain, DayTotals, SessionStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHICH = DayDomain(DAY, "", DOMAIN)
NOW = datetime(2025, 5, 23, 0, 10, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
MAIL, WEB = "mailto:tls@rcpt.example", "https://rcpt.example/tlsrpt"
SENT = NextStep(DeliveryState.SENT)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SessionStore]:
    opened = SessionStore(tmp_path / "reports.sqlite3")
    counts = Counts()
    counts.add(DAY, success(STS))
    opened.add(counts)
    yield opened
    opened.close()


@pytest.fixture
def outbox(store: SessionStore) -> Outbox:
    return Outbox(store)


def made(
    *destinations: str,
    which: DayDomain = WHICH,
    report_id: str = "1@sender.example",
    at: datetime = NOW,
    content: bytes = b"gzip",
) -> Conclusion:
    """A day that ends with a report."""
    waiting = (
        NewDelivery(destination, at, DeliveryState.WAITING)
        for destination in destinations or (MAIL,)
    )
    return Conclusion(which, "reported", NewReport(report_id, content, 1, 0, NOW, tuple(waiting)))


def make(
    outbox: Outbox,
    *destinations: str,
    which: DayDomain = WHICH,
    report_id: str = "1@sender.example",
    at: datetime = NOW,
    content: bytes = b"gzip",
) -> None:
    outbox.conclude([made(*destinations, which=which, report_id=report_id, at=at, content=content)])


def only(outbox: Outbox) -> Delivery:
    (report,) = outbox.reports()
    (delivery,) = outbox.deliveries(report.row_id)
    return delivery


def begin(outbox: Outbox, now: datetime = NOW, message: bytes | None = b"mail") -> Delivery:
    (delivery,) = outbox.due(now, 10)
    assert outbox.begin(delivery, now, message)
    return delivery


# ---- making --------------------------------------------------------------------------------------


@pytest.mark.req("RPT-DLV-05", "RPT-JSON-53", "RPT-JSON-54")
def test_a_day_is_reported_once(store: SessionStore, outbox: Outbox) -> None:
    assert [which for _, which in store.unreported(NOW.date())] == [WHICH]
    make(outbox, MAIL, WEB)
    assert store.unreported(NOW.date()) == []
    make(outbox, "mailto:other@rcpt.example", content=b"other")
    (report,) = outbox.reports()
    assert (report.which, report.content, report.report_id) == (WHICH, b"gzip", "1@sender.example")
    assert report == outbox.report(report.row_id)
    assert [d.destination for d in outbox.deliveries(report.row_id)] == [MAIL, WEB]
    assert outbox.report(report.row_id + 1) is None


@pytest.mark.req("RPT-REC-22", "RPT-DLV-38")
def test_a_destination_gets_a_report_once(outbox: Outbox) -> None:
    make(outbox, MAIL, WEB, MAIL)
    assert [delivery.destination for delivery in outbox.due(NOW, 10)] == [MAIL, WEB]


@pytest.mark.req("RPT-JSON-53")
def test_a_crash_in_the_middle_leaves_the_day_open(store: SessionStore, outbox: Outbox) -> None:
    other = DayDomain(DAY, "", "other.example")

    def broken() -> Iterator[Conclusion]:
        yield made()
        yield Conclusion(other, "no-record")
        raise KeyboardInterrupt

    counts = Counts()
    counts.add(DAY, replace(success(STS), domain=other.domain))
    store.add(counts)
    with pytest.raises(KeyboardInterrupt):
        outbox.conclude(broken())
    assert outbox.reports() == []
    assert outbox.due(LATER, 10) == []
    assert [which for _, which in store.unreported(NOW.date())] == [WHICH, other]
    outbox.conclude([made(), Conclusion(other, "no-record")])
    assert [report.which for report in outbox.reports()] == [WHICH]
    assert store.unreported(NOW.date()) == []


@pytest.mark.req("RPT-DLV-07")
def test_a_day_can_end_without_a_report(store: SessionStore, outbox: Outbox) -> None:
    outbox.conclude([Conclusion(WHICH, "no-record")])
    assert store.unreported(NOW.date()) == []
    assert store.days() == [DayTotals(DAY, 1, 0, 0)]
    assert outbox.reports() == []


def test_a_day_that_was_reported_keeps_its_outcome(store: SessionStore, outbox: Outbox) -> None:
    """Two reporters on one store: the one that comes second finds another record, or none."""
    make(outbox)
    outbox.conclude([Conclusion(WHICH, "no-record")])
    make(outbox, WEB)
    assert only(outbox).destination == MAIL
    (row,) = store.reading("SELECT outcome FROM day_domain")
    assert row[0] == "reported"


def test_reports_by_day_and_domain(store: SessionStore, outbox: Outbox) -> None:
    for number in range(5):
        which = DayDomain(DAY - timedelta(days=number % 2), "", f"d{number}.example")
        make(outbox, which=which, report_id=str(number))
    assert [report.report_id for report in outbox.reports()] == ["0", "1", "2", "3", "4"]
    assert [report.report_id for report in outbox.reports(day=DAY)] == ["0", "2", "4"]
    assert [report.report_id for report in outbox.reports(domain="d3.example")] == ["3"]
    first = outbox.reports(limit=2)
    assert [r.report_id for r in outbox.reports(after=first[-1].row_id, limit=2)] == ["2", "3"]


# ---- sending -------------------------------------------------------------------------------------


@pytest.mark.req("RPT-DLV-06")
def test_what_was_sent_is_never_due_again(store: SessionStore, outbox: Outbox) -> None:
    make(outbox, at=LATER)
    assert outbox.due(NOW, 10) == []
    assert outbox.next_due() == LATER
    delivery = begin(outbox, LATER)
    outbox.finish(delivery, SENT, "250 ok", LATER)
    again = Outbox(SessionStore(store.path))
    for box in (outbox, again):
        assert box.due(LATER + timedelta(days=9), 10) == []
        assert box.next_due() is None
        assert box.count_states() == {DeliveryState.SENT: 1}
    found = only(outbox)
    assert (found.attempt_count, found.first_at, found.detail) == (1, LATER, "250 ok")
    # Its mail is no longer needed.
    assert outbox.message(found) is None
    again._store.close()


@pytest.mark.req("RPT-DLV-06")
def test_one_attempt_at_a_time(store: SessionStore, outbox: Outbox) -> None:
    make(outbox)
    (delivery,) = outbox.due(NOW, 10)
    other = Outbox(SessionStore(store.path))
    (theirs,) = other.due(NOW, 10)
    assert outbox.begin(delivery, NOW, b"mail")
    assert not other.begin(theirs, NOW, b"mail")
    assert not outbox.begin(delivery, NOW, b"mail")
    assert other.due(NOW, 10) == []
    assert other.resend([theirs], NOW) == 0
    other._store.close()


@pytest.mark.req("RPT-DLV-05")
def test_an_attempt_that_a_crash_cut_short_is_made_again_with_the_same_octets(
    store: SessionStore, outbox: Outbox
) -> None:
    make(outbox)
    begin(outbox, NOW, b"first")
    # The process dies here; the next one finds it when the hold is over.
    reopened = Outbox(SessionStore(store.path))
    assert reopened.due(NOW + HOLD - timedelta(seconds=1), 10) == []
    (delivery,) = reopened.due(NOW + HOLD, 10)
    assert (delivery.attempt_count, delivery.first_at) == (1, NOW)
    assert reopened.message(delivery) == b"first"
    assert reopened.begin(delivery, NOW + HOLD, b"second")
    assert reopened.message(delivery) == b"first"
    assert only(reopened).first_at == NOW
    reopened._store.close()


@pytest.mark.req("RPT-DLV-02", "RPT-DLV-05", "RPT-DLV-38")
def test_a_retry_waits_on_its_own(outbox: Outbox) -> None:
    make(outbox, MAIL, WEB)
    mail, web = outbox.due(NOW, 10)
    assert outbox.begin(mail, NOW, b"mail")
    outbox.finish(mail, NextStep(DeliveryState.WAITING, next_at=LATER), "451 later", NOW)
    assert [delivery.destination for delivery in outbox.due(NOW, 10)] == [WEB]
    assert outbox.begin(web, NOW, None)
    outbox.finish(web, NextStep(DeliveryState.FAILED), "HTTP status 400", NOW)
    (again,) = outbox.due(LATER, 10)
    assert (again.destination, again.attempt_count, again.detail) == (MAIL, 1, "451 later")
    assert outbox.message(again) == b"mail"
    assert outbox.count_states() == {DeliveryState.WAITING: 1, DeliveryState.FAILED: 1}
    assert outbox.oldest_waiting() == NOW


def test_the_longest_waiting_comes_first_and_no_destination_hides_others(outbox: Outbox) -> None:
    for number in range(6):
        which = DayDomain(DAY, "", f"d{number}.example")
        destination = MAIL if number < 5 else WEB
        at = NOW + timedelta(minutes=number)
        make(outbox, destination, which=which, report_id=str(number), at=at)
    assert [d.which.domain for d in outbox.due(LATER, 3)] == [f"d{n}.example" for n in range(3)]
    assert [d.destination for d in outbox.due(LATER, 3, each=1)] == [MAIL, WEB]
    assert [d.destination for d in outbox.due(LATER, 9, busy=[MAIL])] == [WEB]
    assert outbox.due(LATER, 9, busy_hosts=["rcpt.example"]) == []
    assert len(outbox.due(NOW + timedelta(minutes=2), 9)) == 3


def test_a_delivery_can_be_sent_again(outbox: Outbox) -> None:
    make(outbox)
    delivery = begin(outbox)
    outbox.finish(delivery, SENT, "250 ok", NOW)
    assert outbox.resend([only(outbox)], LATER) == 1
    (again,) = outbox.due(LATER, 10)
    assert again.first_at is None
    assert outbox.begin(again, LATER, b"another")
    assert outbox.message(again) == b"another"
    assert outbox.resend([], LATER) == 0


# ---- destinations --------------------------------------------------------------------------------


@pytest.mark.req("RPT-DLV-04")
def test_a_dead_destination_is_left_alone_for_a_while(outbox: Outbox) -> None:
    make(outbox)
    delivery = begin(outbox)
    until = NOW + timedelta(days=7)
    outbox.finish(
        delivery, NextStep(DeliveryState.FAILED, suppress_until=until), "550 unknown", NOW
    )
    assert outbox.suppressions(NOW) == [Suppression(MAIL, "550 unknown", until, NOW)]
    assert outbox.suppressions(until) == []
    assert len(outbox.suppressions()) == 1
    assert outbox.forget_suppressions(NOW) == 0
    assert outbox.forget_suppressions(until) == 1
    assert outbox.suppressions() == []


def test_a_suppression_by_hand(outbox: Outbox) -> None:
    first = Suppression(MAIL, "by hand", LATER, NOW)
    second = Suppression(MAIL, "longer", LATER + timedelta(days=1), LATER)
    outbox.suppress(first)
    outbox.suppress(second)
    assert outbox.suppressions() == [second]
    assert outbox.allow(MAIL)
    assert not outbox.allow(MAIL)


def test_how_often_a_destination_was_written_to(outbox: Outbox) -> None:
    for number in range(3):
        make(outbox, MAIL, WEB, which=DayDomain(DAY, "", f"d{number}.example"))
    assert outbox.count_destinations(DAY) == {MAIL: 3, WEB: 3}
    assert outbox.count_destinations(NOW.date()) == {}
    for delivery in outbox.due(NOW, 10):
        assert outbox.begin(delivery, NOW, None)
        outbox.finish(delivery, SENT, "", NOW)
    assert outbox.count_mails(NOW, LATER) == {"rcpt.example": 3}
    assert outbox.count_mails(LATER, LATER + timedelta(days=1)) == {}


def test_old_days_go_with_their_reports(store: SessionStore, outbox: Outbox) -> None:
    make(outbox)
    assert store.prune(DAY) == 0
    assert store.prune(DAY + timedelta(days=1)) == 1
    assert outbox.reports() == []
    assert outbox.due(LATER, 10) == []
    assert outbox.count_states() == {}


def test_a_closed_store_says_so(store: SessionStore, outbox: Outbox) -> None:
    make(outbox)
    (delivery,) = outbox.due(NOW, 10)
    store.close()
    for call in (
        lambda: outbox.due(NOW, 1),
        lambda: outbox.begin(delivery, NOW, b""),
        lambda: outbox.finish(delivery, SENT, "", NOW),
        lambda: make(outbox),
    ):
        with pytest.raises(StoreUnavailableError):
            call()
