# SPDX-License-Identifier: Apache-2.0
"""Export and import: what leaves can come back, and nothing bad comes in."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import pytest

from strictmail.core.sts.lifecycle import PolicyEntry
from strictmail.core.sts.values import MAX_POLICY_BYTES
from strictmail.store.exchange import (
    BATCH_SIZE,
    MAX_LINE_BYTES,
    ImportOutcome,
    bounded_lines,
    export_lines,
    format_line,
    import_lines,
)
from strictmail.store.memory import MemoryPolicyStore

MakeEntry: TypeAlias = Callable[..., PolicyEntry]
DAY = timedelta(days=1)


class Importer:
    """Imports lines into a fresh store and remembers what was told."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.store = MemoryPolicyStore()
        self.faults: list[tuple[int, str]] = []

    def take(self, *lines: str | bytes) -> ImportOutcome:
        raw = (line.encode() if isinstance(line, str) else line for line in lines)
        return import_lines(
            self.store,
            raw,
            now=self.now,
            rng=random.Random(1),
            tell=lambda number, message: self.faults.append((number, message)),
        )


@pytest.fixture
def importer(noon: datetime) -> Importer:
    return Importer(noon + timedelta(hours=1))


@pytest.mark.req("SEC-41")
def test_what_was_exported_can_be_imported(
    importer: Importer, make_entry: MakeEntry, noon: datetime
) -> None:
    source = MemoryPolicyStore()
    odd = 'version: STSv1\nmode: enforce\r\nmx: mx.example\nmax_age: 604800\nx-odd: é "\\" \u2028'.encode()
    sent = [make_entry("a.example"), make_entry("b.example", body=odd, policy_id="")]
    source.save(sent)
    assert importer.take(*export_lines(source)) == ImportOutcome(2, 0, 0, 0)
    for entry in sent:
        got = importer.store.load(entry.policy_domain)
        assert got is not None
        assert (got.body, got.policy, got.policy_id) == (entry.body, entry.policy, entry.policy_id)
        assert (got.fetched_at, got.last_asked_at) == (entry.fetched_at, entry.last_asked_at)
        # The id is looked at with the first lookup, the next fetch is within a day.
        assert got.txt_check_at == importer.now
        assert got.refresh_at is not None
        assert noon < got.refresh_at <= noon + DAY


def test_export_pages_through_everything(make_entry: MakeEntry) -> None:
    store = MemoryPolicyStore()
    store.save([make_entry(f"d{n}.example") for n in range(2300)])
    lines = list(export_lines(store))
    assert len({json.loads(line)["domain"] for line in lines}) == len(lines) == 2300


def test_import_never_replaces_what_was_fetched_later(
    importer: Importer, make_entry: MakeEntry, noon: datetime
) -> None:
    here = [make_entry("a.example"), make_entry("b.example")]
    importer.store.save(here)
    older = make_entry("a.example", mode="none", fetched_at=noon - DAY)
    same = make_entry("b.example", mode="none")
    assert importer.take(format_line(older), format_line(same)) == ImportOutcome(0, 2, 0, 0)
    assert importer.store.load("a.example") == here[0]
    assert importer.store.load("b.example") == here[1]


def test_the_same_domain_twice(importer: Importer, make_entry: MakeEntry, noon: datetime) -> None:
    newer = make_entry("a.example", mode="testing", fetched_at=noon)
    older = make_entry("a.example", fetched_at=noon - DAY)
    assert importer.take(format_line(newer), format_line(older)) == ImportOutcome(1, 1, 0, 0)
    loaded = importer.store.load("a.example")
    assert loaded is not None
    assert loaded.body == newer.body


@pytest.mark.req("STS-APP-62")
def test_expired_policies_stay_out(
    importer: Importer, make_entry: MakeEntry, noon: datetime
) -> None:
    expired = make_entry("a.example", fetched_at=noon - 8 * DAY)
    assert importer.take(format_line(expired)) == ImportOutcome(0, 0, 1, 0)
    assert importer.store.count() == 0


def test_many_lines_in_several_batches(importer: Importer, make_entry: MakeEntry) -> None:
    count = BATCH_SIZE * 2 + 7
    lines = [format_line(make_entry(f"d{n}.example")) for n in range(count)]
    assert importer.take(*lines).imported == importer.store.count() == count


def changed(entry: PolicyEntry, **values: object) -> str:
    line: dict[str, Any] = json.loads(format_line(entry)) | values
    return json.dumps({key: value for key, value in line.items() if value is not None})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"version": 2}, "version is 2; this strictmail reads version 1", id="version"),
        pytest.param({"version": None}, "version is None", id="no version"),
        pytest.param({"domain": "a b.example"}, "domain: ", id="domain"),
        pytest.param({"domain": None}, "domain is missing", id="no domain"),
        pytest.param({"domain": 7}, "domain is not a string", id="domain of a wrong type"),
        pytest.param({"policy_id": "a;b"}, "policy_id must be", id="id"),
        pytest.param({"policy_id": "a" * 33}, "policy_id must be", id="long id"),
        pytest.param({"fetched_at": "2026-01-01T12:00:00"}, "fetched_at is not", id="no zone"),
        pytest.param({"fetched_at": "soon"}, "fetched_at is not an instant", id="no instant"),
        pytest.param({"fetched_at": "2027-01-01T00:00:00Z"}, "in the future", id="future"),
        pytest.param({"last_asked_at": "x"}, "last_asked_at is not", id="last asked"),
        pytest.param({"body": "version: STSv1\n"}, "policy of a.example is not valid", id="body"),
        pytest.param({"body": None}, "body is missing", id="no body"),
        pytest.param({"body": "\ud800"}, "half a surrogate pair", id="surrogate"),
        pytest.param({"body": "x" * (MAX_POLICY_BYTES + 1)}, "longer than 65536", id="long body"),
    ],
)
def test_a_faulty_line_is_named_and_passed_over(
    importer: Importer, make_entry: MakeEntry, values: dict[str, object], message: str
) -> None:
    bad = changed(make_entry("a.example"), **values)
    good = format_line(make_entry("good.example"))
    assert importer.take(good, "", bad, good) == ImportOutcome(1, 1, 0, 1)
    ((number, told),) = importer.faults
    assert number == 3
    assert message in told
    assert importer.store.count() == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(b"rubbish", "not JSON", id="no JSON"),
        pytest.param(b"\xff\xfe\xfd", "not JSON", id="no UTF-8"),
        pytest.param(b"[1]", "not a JSON object", id="no object"),
        pytest.param(b"[" * 100_000, "not JSON", id="nested without end"),
        pytest.param(b'"' + b"x" * MAX_LINE_BYTES, "longer than", id="long line"),
    ],
)
def test_what_is_no_line_at_all(importer: Importer, line: bytes, message: str) -> None:
    assert importer.take(line).faulty == 1
    assert message in importer.faults[0][1]


def test_an_endless_line_is_one_fault_and_little_memory(
    importer: Importer, make_entry: MakeEntry
) -> None:
    good = format_line(make_entry("good.example")).encode()
    file = io.BytesIO(b"x" * (5 * MAX_LINE_BYTES) + b"\n" + good + b"\n" + good)
    lines = list(bounded_lines(file))
    assert [len(line) for line in lines] == [MAX_LINE_BYTES + 1, len(good) + 1, len(good)]
    assert importer.take(*lines) == ImportOutcome(1, 1, 0, 1)
    assert importer.faults[0][0] == 1
