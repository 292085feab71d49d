# SPDX-License-Identifier: Apache-2.0
"""From counts and a record to a report with its deliveries, or a reason why there is none."""

from __future__ import annotations

import gzip
import json
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.tlsrpt.counts import Counts, DomainCounts
from strictmail.core.tlsrpt.report import Identity
from strictmail.reporter import making
from strictmail.reporter.making import LOOKUP_PATIENCE
from strictmail.reporter.settings import SenderIdentity

from .world import DAY, DEAD, ME, World, which

if TYPE_CHECKING:
    from pathlib import Path

    from strictmail.store.outbox_rows import Conclusion
    from strictmail.store.sessions import DayDomain

TXT = RecordType.TXT
PACKED = gzip.compress(b"a report of which the disk has lost something", mtime=0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def content(world: World, domain: str) -> dict[str, object]:
    (report,) = world.outbox.reports(domain=domain)
    document: dict[str, object] = json.loads(gzip.decompress(report.content))
    return document


@pytest.mark.req("RPT-JSON-25", "RPT-REC-02", "RPT-REC-30", "RPT-REC-31")
async def test_a_day_becomes_one_report_for_each_domain(world: World) -> None:
    world.publish("a.example", "mailto:tls@elsewhere.example", "https://reports.example/a")
    world.publish("b.example")
    world.count("a.example", successes=3, failures=2)
    world.count("b.example", successes=1)
    await world.turn()
    assert world.states("a.example") == {
        "mailto:tls@elsewhere.example": "sent",
        "https://reports.example/a": "sent",
    }
    assert world.outcome("b.example") == "reported"
    assert content(world, "a.example")["policies"] == [
        {
            "policy": {"policy-type": "no-policy-found", "policy-domain": "a.example"},
            "summary": {
                "total-successful-session-count": 3,
                "total-failure-session-count": 2,
            },
            "failure-details": [
                {
                    "result-type": "starttls-not-supported",
                    "receiving-mx-hostname": "mx.test",
                    "failed-session-count": 2,
                }
            ],
        }
    ]
    assert world.resolver.count("_smtp._tls.a.example", TXT) == 1
    # No parent, no MX host, no other name is asked.
    assert set(world.resolver.questions) == {
        ("_smtp._tls.a.example", TXT),
        ("_smtp._tls.b.example", TXT),
    }


@pytest.mark.req("RPT-REC-26", "RPT-REC-08", "RPT-REC-05", "RPT-REC-07")
@pytest.mark.parametrize(
    ("record", "outcome"),
    [
        ((), "no-record"),
        (((b"v=TLSRPTv1; rua=mailto:x@y.example",),) * 2, "bad-record"),
        (((b"v=TLSRPTv1; rua=",),), "bad-record"),
        (((b"v=TLSRPTv1; ruf=mailto:x@y.example",),), "bad-record"),
        (((b"v=spf1 -all",),), "no-record"),
        (((b"v=TLSRPTv1; rua=ftp://x.example/,mailto:x",),), "no-destination"),
    ],
)
async def test_a_record_that_names_nobody(
    world: World, record: tuple[tuple[bytes, ...], ...], outcome: str
) -> None:
    world.resolver.add("_smtp._tls.a.example", TXT, *record)
    # The one that the MTA saw on the day counts no more.
    world.count("a.example", record="v=TLSRPTv1; rua=mailto:old@a.example")
    await world.turn()
    assert world.outcome("a.example") == outcome
    assert world.outbox.reports() == []
    assert world.out.sent == []


@pytest.mark.req("RPT-REC-26")
async def test_a_lookup_that_fails_leaves_the_day_open(world: World) -> None:
    world.count("a.example", record="v=TLSRPTv1; rua=mailto:seen@a.example")
    world.count("b.example")
    for domain in ("a.example", "b.example"):
        world.resolver.fail(f"_smtp._tls.{domain}", TXT, Status.SERVFAIL)
    await world.turn()
    await world.turn()
    assert world.outcome("a.example") is None
    assert world.resolver.count("_smtp._tls.a.example", TXT) == 1, "asked again at once"
    assert world.reporter.waiting_for_records == 2
    await world.live(timedelta(minutes=30))
    assert world.resolver.count("_smtp._tls.a.example", TXT) > 1
    await world.live(LOOKUP_PATIENCE, timedelta(minutes=10))
    # After that, what the MTA saw; nothing was seen for the other one.
    assert world.states("a.example") == {"mailto:seen@a.example": "sent"}
    assert world.outcome("b.example") == "no-record"


async def test_a_record_that_comes_back_in_time_counts(world: World) -> None:
    world.count("a.example", record="v=TLSRPTv1; rua=mailto:old@a.example")
    world.resolver.fail("_smtp._tls.a.example", TXT, Status.TIMEOUT)
    await world.live(timedelta(hours=1))
    world.publish("a.example", "mailto:new@a.example")
    await world.live(timedelta(hours=1))
    assert world.states("a.example") == {"mailto:new@a.example": "sent"}


@pytest.mark.req("RPT-DLV-07")
async def test_a_day_without_sessions_is_not_reported(world: World) -> None:
    world.publish("a.example")
    counts = Counts()
    counts.domain(DAY, "b.example")
    world.store.add(counts)
    await world.turn()
    assert world.outcome("b.example") == "no-sessions"
    assert world.out.sent == []


async def test_a_domain_that_opted_out_is_left_alone(world: World) -> None:
    world.configure(opt_out=frozenset({"a.example"}))
    world.publish("a.example")
    world.publish("sub.a.example")
    world.count("a.example")
    world.count("sub.a.example")
    await world.turn()
    assert world.outcome("a.example") == "opted-out"
    assert world.outcome("sub.a.example") == "reported"


@pytest.mark.req("SEC-23", "SEC-24", "RPT-REC-14")
async def test_caps_hold_for_a_destination_and_for_a_host(world: World) -> None:
    world.configure(per_destination=3, per_host=5)
    for number in range(9):
        domain = f"s{number}.attacker.example"
        world.publish(domain, "mailto:victim@victim.example", f"mailto:v{number}@victim.example")
        world.count(domain)
    await world.turn()
    # Three for the mailbox, and five in all for the domain, whatever the mailboxes are called.
    assert world.out.counts()["mailto:victim@victim.example"] == 3
    assert world.out.counts().total() == 5
    refused = [one for one in world.deliveries() if str(one.state) == "refused"]
    assert len(refused) == 13
    assert {one.detail for one in refused} == {
        "more than 3 reports of a day for one destination",
        "more than 5 reports of a day for victim.example",
    }


@pytest.mark.req("SEC-23")
async def test_caps_are_of_a_day_and_outlive_a_restart(world: World) -> None:
    world.configure(per_destination=2)
    for number in range(3):
        world.publish(f"d{number}.example", "mailto:x@victim.example")
        world.count(f"d{number}.example")
        await world.turn()
        await world.restart()
    assert world.out.counts() == {"mailto:x@victim.example": 2}
    world.clock.advance(timedelta(days=1))
    world.count("d0.example", day=DAY + timedelta(days=1))
    await world.turn()
    assert world.out.counts() == {"mailto:x@victim.example": 3}


async def test_each_identity_reports_by_itself(tmp_path: Path) -> None:
    brand = SenderIdentity(
        Identity("Brand", "tls@brand.example"), "tls@brand.example", signed_elsewhere=True
    )
    world = World(tmp_path)
    world.configure(identities={"": ME, "brand": brand})
    world.publish("a.example")
    world.count("a.example", successes=1)
    world.count("a.example", successes=5, identity="brand")
    world.count("a.example", successes=7, identity="gone")
    await world.turn()
    (first, second, third) = [message for _, message in world.out.sent]
    assert b"From: <tls-reports@sender.example>" in first
    assert b"From: <tls@brand.example>" in second
    assert b"TLS-Report-Submitter: brand.example" in second
    # A name that is configured no more: the common one, rather than nothing.
    assert b"From: <tls-reports@sender.example>" in third


async def test_a_copy_goes_to_ourselves(world: World) -> None:
    world.configure(copy_to="archive@sender.example", per_destination=1, per_host=1)
    for domain in ("a.example", "b.example"):
        world.publish(domain)
        world.count(domain)
    await world.turn()
    assert world.out.counts() == {
        "mailto:tls@a.example": 1,
        "mailto:tls@b.example": 1,
        "mailto:archive@sender.example": 2,
    }


@pytest.mark.req("RPT-DLV-31")
async def test_without_a_signature_no_mail_goes_out(world: World) -> None:
    world.configure(identities={"": SenderIdentity(ME.identity, ME.sender)})
    world.publish("a.example", "mailto:tls@a.example", "https://a.example/")
    world.count("a.example")
    await world.turn()
    assert world.states() == {"mailto:tls@a.example": "refused", "https://a.example/": "sent"}


async def test_with_mail_off_only_https_is_used(world: World) -> None:
    world.configure(has_mail=False)
    world.publish("a.example", "mailto:tls@a.example", "https://a.example/")
    world.count("a.example")
    await world.turn()
    assert world.states() == {"mailto:tls@a.example": "refused", "https://a.example/": "sent"}


async def test_a_suppressed_destination_is_passed_over(world: World) -> None:
    world.out.answers["mailto:tls@a.example"] = DEAD
    world.publish("a.example")
    world.count("a.example")
    await world.turn()
    assert world.states() == {"mailto:tls@a.example": "failed"}
    world.out.answers.clear()
    for ahead in range(1, 10):
        day = DAY + timedelta(days=ahead)
        world.clock.advance(timedelta(days=1))
        world.count("a.example", day=day, successes=9)
        await world.turn()
    assert [str(one.state) for one in world.deliveries()] == [
        "failed",
        *["suppressed"] * 6,
        *["sent"] * 3,
    ]


async def test_a_fault_with_one_domain_costs_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for domain in ("a.example", "b.example", "c.example"):
        world.publish(domain)
        world.count(domain)
    load = world.store.load

    def fail(one: object) -> object:
        if one == which("b.example"):
            raise RuntimeError("a fault of ours")
        return load(one)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "load", fail)
    await world.turn()
    assert world.outcome("a.example") == world.outcome("c.example") == "reported"
    assert world.outcome("b.example") is None
    await world.live(timedelta(hours=1))
    assert world.log.names()["internal-error"] == 1, "said once, not every ten minutes"
    assert (world.reporter.faulty, world.reporter.waiting_for_records) == (1, 0)
    monkeypatch.undo()
    await world.live(timedelta(minutes=15))
    assert world.outcome("b.example") == "reported"
    assert world.reporter.faulty == 0


async def test_a_fault_in_storing_one_costs_no_other_either(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for domain in ("a.example", "b.example", "c.example"):
        world.publish(domain)
        world.count(domain)
    conclude = world.outbox.conclude

    def fail(conclusions: list[Conclusion]) -> None:
        if any(one.which == which("b.example") for one in conclusions):
            raise OverflowError("a fault of ours")
        conclude(conclusions)

    monkeypatch.setattr(world.outbox, "conclude", fail)
    await world.turn()
    assert world.outcome("a.example") == world.outcome("c.example") == "reported"
    assert world.outcome("b.example") is None
    await world.live(timedelta(hours=1))
    assert world.log.names()["internal-error"] == 1
    monkeypatch.undo()
    await world.live(timedelta(minutes=15))
    assert world.outcome("b.example") == "reported"
    assert set(world.states().values()) == {"sent"}


@pytest.mark.req("RPT-JSON-53")
@pytest.mark.parametrize(
    ("outcome", "late"),
    [("reported", 2), ("no-sessions", 2), ("only-reports", 2), ("no-record", 0)],
)
async def test_what_comes_while_reports_are_made_is_late(
    world: World, monkeypatch: pytest.MonkeyPatch, outcome: str, late: int
) -> None:
    """Counts are read first, and the days of a whole chunk closed later."""
    if outcome != "no-record":
        world.publish("a.example")
    world.count("a.example")
    if outcome == "no-sessions":
        with world.store.writing() as connection:
            connection.execute("UPDATE policy_count SET successes = 0")
    if outcome == "only-reports":
        monkeypatch.setattr(world.maker, "_is_only_reports", lambda *_: True)
    conclude = world.outbox.conclude

    def count_and_conclude(conclusions: list[Conclusion]) -> None:
        world.count("a.example", successes=2)
        conclude(conclusions)

    monkeypatch.setattr(world.outbox, "conclude", count_and_conclude)
    await world.turn()
    assert world.outcome("a.example") == outcome
    assert world.store.late_sessions() == late


async def test_a_report_that_breaks_the_rules_is_not_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish("a.example")
    world.count("a.example")
    monkeypatch.setattr(making, "find_faults_in_text", lambda _: ("/policies: an array is wanted",))
    await world.turn()
    assert world.outbox.reports() == []
    ((_, fields),) = [event for event in world.log.events if event[0] == "internal-error"]
    assert fields["where"] == "report to a.example about 2026-01-01"
    assert "/policies: an array is wanted" in str(fields["error"])
    # The version that makes it well finds the day open.
    monkeypatch.undo()
    await world.live(timedelta(minutes=15))
    assert world.states() == {"mailto:tls@a.example": "sent"}


@pytest.mark.parametrize("content", [b"", b"octets", PACKED[:-9], PACKED[:12] + b"\xff" * 9])
async def test_a_report_that_was_damaged_holds_up_no_other(world: World, content: bytes) -> None:
    for domain in ("a.example", "b.example"):
        world.publish(domain, "mailto:tls@hoster.example")
        world.count(domain)
    world.configure(spread=timedelta(hours=1))
    await world.turn()
    with world.store.writing() as connection:
        connection.execute("UPDATE report SET content = ? WHERE domain = 'a.example'", (content,))
    await world.live(timedelta(hours=2))
    assert [str(one.state) for one in world.deliveries()] == ["failed", "sent"]
    assert "cannot be used" in world.deliveries()[0].detail


@pytest.mark.req("SEC-23", "RPT-REC-24")
async def test_one_record_names_no_crowd(world: World) -> None:
    world.publish("a.example", *(f"mailto:{n}@victim{n % 7}.example" for n in range(500)))
    world.count("a.example")
    await world.turn()
    assert [one.destination for one in world.deliveries()] == [
        f"mailto:{n}@victim{n % 7}.example" for n in range(making.MAX_DESTINATIONS)
    ]


async def test_what_is_counted_while_a_report_is_made_is_told_as_late(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish("a.example")
    world.count("a.example", successes=5)
    load = world.store.load

    def load_and_go_on(one: DayDomain) -> DomainCounts:
        counts = load(one)
        world.count("a.example", successes=2)
        return counts

    monkeypatch.setattr(world.store, "load", load_and_go_on)
    await world.turn()
    (report,) = world.outbox.reports()
    assert (report.session_count, world.store.late_sessions()) == (5, 2)


async def test_what_would_be_made_can_be_asked_first(world: World) -> None:
    world.publish("a.example")
    world.count("a.example")
    answer = await world.maker.look_up(which("a.example"))
    outcome, destinations = world.maker.foresee(which("a.example"), answer)
    assert (outcome, [one.text for one in destinations]) == ("reported", ["mailto:tls@a.example"])
    assert world.outcome("a.example") is None


@pytest.mark.req("RPT-JSON-07", "RPT-DLV-05", "RPT-DLV-15", "RPT-DLV-38")
async def test_all_destinations_get_the_same_report(world: World) -> None:
    world.publish("a.example", "mailto:x@a.example", "https://a.example/", "https://b.example/")
    world.count("a.example")
    await world.turn()
    (report,) = world.outbox.reports()
    by_https = [octets for text, octets in world.out.taken if text.startswith("https")]
    assert by_https == [report.content, report.content]
    (mail,) = [octets for text, octets in world.out.taken if text.startswith("mailto")]
    assert f"Message-ID: <{report.report_id}>".encode() in mail


async def test_days_long_over_are_still_reported(world: World) -> None:
    world.publish("a.example")
    for back in range(1, 4):
        world.count("a.example", day=DAY - timedelta(days=back))
    await world.turn()
    assert sorted(report.which.day for report in world.outbox.reports()) == [
        date(2025, 12, 29),
        date(2025, 12, 30),
        date(2025, 12, 31),
    ]


@pytest.mark.req("RPT-REC-29")
async def test_a_record_behind_an_alias_counts(world: World) -> None:
    world.resolver.alias("_smtp._tls.a.example", "_smtp._tls.hoster.example")
    world.publish("hoster.example", "mailto:all@hoster.example")
    world.count("a.example")
    await world.turn()
    assert world.states() == {"mailto:all@hoster.example": "sent"}


MEMBERS = {
    "organization-name",
    "date-range",
    "start-datetime",
    "end-datetime",
    "contact-info",
    "report-id",
    "policies",
    "policy",
    "policy-type",
    "policy-domain",
    "summary",
    "total-successful-session-count",
    "total-failure-session-count",
    "failure-details",
    "result-type",
    "receiving-mx-hostname",
    "failed-session-count",
}


@pytest.mark.req("SEC-27", "SEC-40")
async def test_a_report_holds_counts_and_hosts_and_nothing_of_mail(world: World) -> None:
    world.publish("a.example", "mailto:stranger@elsewhere.example")
    world.count("a.example", successes=1, failures=1)
    await world.turn()
    found: set[str] = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            found.update(value)
            list(map(walk, value.values()))
        elif isinstance(value, list):
            list(map(walk, value))

    walk(content(world, "a.example"))
    assert found == MEMBERS
