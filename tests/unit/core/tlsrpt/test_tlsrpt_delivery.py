# SPDX-License-Identifier: Apache-2.0
"""When reports go out, what an answer to one means, and how long it is tried."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strictmail.core.tlsrpt.delivery import (
    FIRST_RETRY,
    MAX_RETRY,
    RETRY_FOR,
    SETTLE,
    SPREAD,
    SUPPRESS_FOR,
    DeliveryState,
    NextStep,
    OutcomeKind,
    SendOutcome,
    day_end,
    first_attempt_at,
    is_over,
    judge_http_status,
    judge_smtp_code,
    next_step,
)

DAY = date(2025, 5, 22)
MIDNIGHT = datetime(2025, 5, 23, tzinfo=UTC)
RETRY = SendOutcome(OutcomeKind.RETRY, "later")


def rng() -> random.Random:
    return random.Random(8460)


@pytest.mark.req("RPT-DLV-01", "RPT-JSON-53")
@pytest.mark.parametrize(
    ("now", "over"),
    [
        (MIDNIGHT - timedelta(seconds=1), False),
        (MIDNIGHT, False),
        (MIDNIGHT + SETTLE - timedelta(seconds=1), False),
        (MIDNIGHT + SETTLE, True),
        (MIDNIGHT + timedelta(days=30), True),
        # The day is that of UTC, wherever the clock of the machine stands.
        (datetime.fromisoformat("2025-05-23T02:30:00+02:00"), True),
        (datetime.fromisoformat("2025-05-23T01:30:00+02:00"), False),
    ],
)
def test_a_day_is_over_a_little_after_midnight(now: datetime, over: bool) -> None:
    assert day_end(DAY) == MIDNIGHT
    assert is_over(DAY, now) is over


@pytest.mark.req("RPT-DLV-01")
def test_reports_go_out_spread_over_hours() -> None:
    source = rng()
    delays = [first_attempt_at(MIDNIGHT, source) - MIDNIGHT for _ in range(1000)]
    assert timedelta() <= min(delays)
    assert max(delays) < SPREAD == timedelta(hours=4)
    quarters = [sum(n * SPREAD / 4 <= d < (n + 1) * SPREAD / 4 for d in delays) for n in range(4)]
    assert min(quarters) > 200
    assert first_attempt_at(MIDNIGHT, source, timedelta()) == MIDNIGHT


def step(
    outcome: SendOutcome = RETRY, *, attempts: int = 1, after: timedelta = timedelta()
) -> NextStep:
    return next_step(
        outcome, attempt_count=attempts, first_at=MIDNIGHT, now=MIDNIGHT + after, rng=rng()
    )


@pytest.mark.req("RPT-DLV-04", "RPT-DLV-06", "RPT-DLV-57")
@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (OutcomeKind.DELIVERED, DeliveryState.SENT),
        (OutcomeKind.GIVE_UP, DeliveryState.FAILED),
        (OutcomeKind.DEAD, DeliveryState.FAILED),
        (OutcomeKind.REFUSED, DeliveryState.REFUSED),
    ],
)
def test_an_outcome_that_ends_it(kind: OutcomeKind, state: DeliveryState) -> None:
    found = step(SendOutcome(kind, ""))
    assert found.state is state
    assert found.next_at is None
    until = MIDNIGHT + SUPPRESS_FOR if kind is OutcomeKind.DEAD else None
    assert found.suppress_until == until


@pytest.mark.req("RPT-DLV-02", "RPT-DLV-03")
def test_a_destination_that_never_answers_is_tried_for_a_day() -> None:
    source, now, attempts = rng(), MIDNIGHT, 0
    waits = []
    while True:
        attempts += 1
        found = next_step(RETRY, attempt_count=attempts, first_at=MIDNIGHT, now=now, rng=source)
        if found.state is not DeliveryState.WAITING:
            break
        assert found.next_at is not None
        waits.append(found.next_at - now)
        now = found.next_at
    assert found == NextStep(DeliveryState.FAILED)
    # The last attempt is made when the day is over, none later.
    assert now == MIDNIGHT + RETRY_FOR == MIDNIGHT + timedelta(hours=24)
    assert 8 <= attempts <= 20
    for number, wait in enumerate(waits[:-1]):
        ideal = min(MAX_RETRY, FIRST_RETRY * 2**number)
        assert 0.75 * ideal <= wait <= 1.25 * ideal


@pytest.mark.req("RPT-DLV-54")
@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        (None, 225, 375),
        (0.0, 225, 375),
        (-5.0, 225, 375),
        (float("nan"), 225, 14_400),
        (1800.0, 1800, 1800),
        (1e300, 14_400, 14_400),
        (float("inf"), 14_400, 14_400),
    ],
)
def test_what_a_destination_asks_for_is_heard_within_reason(
    asked: float | None, least: float, most: float
) -> None:
    found = step(SendOutcome(OutcomeKind.RETRY, "", asked))
    assert found.next_at is not None
    assert least <= (found.next_at - MIDNIGHT).total_seconds() <= most


@given(
    st.integers(1, 10**9),
    st.floats(allow_nan=True, allow_infinity=True) | st.none(),
    st.integers(-(10**6), 10**6),
)
@pytest.mark.req("RPT-DLV-02")
def test_a_retry_is_never_beyond_the_day(attempts: int, asked: float | None, seconds: int) -> None:
    after = timedelta(seconds=seconds)
    found = step(SendOutcome(OutcomeKind.RETRY, "", asked), attempts=attempts, after=after)
    if after >= RETRY_FOR:
        assert found.state is DeliveryState.FAILED
    else:
        assert found.next_at is not None
        assert MIDNIGHT + after < found.next_at <= MIDNIGHT + RETRY_FOR


@pytest.mark.req("RPT-DLV-53", "RPT-DLV-54", "RPT-DLV-56")
@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ((200, 201, 202, 204, 299), OutcomeKind.DELIVERED),
        ((408, 425, 429, 500, 502, 503, 504, 599), OutcomeKind.RETRY),
        ((301, 302, 303, 304, 307, 308), OutcomeKind.DEAD),
        ((404, 410), OutcomeKind.DEAD),
        ((400, 401, 403, 405, 413, 415, 422), OutcomeKind.GIVE_UP),
    ],
)
def test_what_an_http_status_means(statuses: tuple[int, ...], kind: OutcomeKind) -> None:
    for status in statuses:
        found = judge_http_status(status, 30.0)
        assert found.kind is kind
        assert str(status) in found.detail
        assert found.retry_after_seconds == (30.0 if kind is OutcomeKind.RETRY else None)


@pytest.mark.req("RPT-DLV-04", "RPT-DLV-38")
@pytest.mark.parametrize(
    ("code", "of_recipient", "of_message"),
    [
        (250, OutcomeKind.DELIVERED, OutcomeKind.DELIVERED),
        (251, OutcomeKind.DELIVERED, OutcomeKind.DELIVERED),
        (354, OutcomeKind.RETRY, OutcomeKind.RETRY),
        (421, OutcomeKind.RETRY, OutcomeKind.RETRY),
        (450, OutcomeKind.RETRY, OutcomeKind.RETRY),
        (452, OutcomeKind.RETRY, OutcomeKind.RETRY),
        # RFC 5321 §4.5.3.1.10: "too many recipients", or a full mailbox.
        (552, OutcomeKind.RETRY, OutcomeKind.GIVE_UP),
        (550, OutcomeKind.DEAD, OutcomeKind.GIVE_UP),
        (554, OutcomeKind.DEAD, OutcomeKind.GIVE_UP),
    ],
)
def test_what_an_smtp_code_means(
    code: int, of_recipient: OutcomeKind, of_message: OutcomeKind
) -> None:
    assert judge_smtp_code(code, "x", about_recipient=True).kind is of_recipient
    assert judge_smtp_code(code, "x", about_recipient=False).kind is of_message
