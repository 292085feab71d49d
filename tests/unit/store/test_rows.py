# SPDX-License-Identifier: Apache-2.0
"""A cached policy as a row, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strictmail.core.errors import StoreUnavailableError
from strictmail.core.overrides import Override, OverrideAction
from strictmail.core.sts.lifecycle import PolicyEntry, is_expired
from strictmail.core.sts.policy import parse_policy
from strictmail.core.sts.values import FetchFailure
from strictmail.core.tlsrpt.results import ResultType
from strictmail.store.rows import (
    MAX_SHARED_BODY_BYTES,
    decode_entry,
    decode_override,
    encode_entry,
    encode_override,
    parse_stored,
    stored_columns,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BODY = b"version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 604800\n"

instants = st.timedeltas(timedelta(0), timedelta(days=80 * 366)).map(lambda t: NOON + t)
failures = st.builds(
    FetchFailure,
    result_type=st.sampled_from(ResultType),
    reason=st.text(st.characters(exclude_categories=["Cs"])),
    reason_code=st.sampled_from(["timeout", "http-status", "syntax"]),
    lines=st.lists(st.text()).map(tuple),
)


@st.composite
def entries(draw: st.DrawFn) -> PolicyEntry:
    failure = draw(st.none() | failures)
    return PolicyEntry(
        policy_domain="example.com",
        policy_id=draw(st.from_regex(r"\A[A-Za-z0-9]{0,32}\Z")),
        policy=parse_policy(BODY),
        body=BODY,
        fetched_at=draw(instants),
        refresh_at=draw(st.none() | instants),
        txt_check_at=draw(instants),
        last_asked_at=draw(instants),
        failing_since=draw(instants) if failure else None,
        failure_count=draw(st.integers(1, 1000)) if failure else 0,
        failure=failure,
    )


@given(entry=entries(), moment=instants)
@pytest.mark.req("STS-FET-34", "STS-FET-44")
def test_a_row_says_the_same_to_the_second(entry: PolicyEntry, moment: datetime) -> None:
    loaded = decode_entry(stored_columns(encode_entry(entry), entry.body))
    second = timedelta(seconds=1)
    assert (loaded.policy, loaded.body, loaded.failure) == (entry.policy, entry.body, entry.failure)
    assert (loaded.policy_id, loaded.failure_count) == (entry.policy_id, entry.failure_count)
    assert timedelta(0) <= entry.fetched_at - loaded.fetched_at < second
    assert timedelta(0) <= entry.last_asked_at - loaded.last_asked_at < second
    assert timedelta(0) <= loaded.txt_check_at - entry.txt_check_at < second
    assert (loaded.refresh_at is None) == (entry.refresh_at is None)
    if loaded.refresh_at is not None and entry.refresh_at is not None:
        assert timedelta(0) <= loaded.refresh_at - entry.refresh_at < second
    # Never in force for longer than before it was written down.
    assert is_expired(loaded, moment) or not is_expired(entry, moment)
    # Whole seconds stay as they are, however often an entry is written.
    assert decode_entry(stored_columns(encode_entry(loaded), loaded.body)) == loaded


@pytest.mark.req("SEC-41")
def test_small_texts_are_parsed_once_and_large_ones_not_kept() -> None:
    assert parse_stored(BODY)[1] is parse_stored(bytes(bytearray(BODY)))[1]
    large = BODY + b"mx: other.example\n" * MAX_SHARED_BODY_BYTES
    assert parse_stored(large)[1] is not parse_stored(large)[1]
    assert parse_stored(large)[1] == parse_policy(large)


@pytest.mark.parametrize(
    ("index", "value"),
    [
        pytest.param(2, "yesterday", id="an instant that is none"),
        pytest.param(2, 10**18, id="an instant after the end of time"),
        pytest.param(8, "sts-unheard-of", id="an unknown result type"),
        pytest.param(12, b"", id="no policy"),
        pytest.param(12, None, id="NULL for a policy"),
    ],
)
def test_a_row_that_makes_no_sense_is_told_of(index: int, value: object) -> None:
    entry = PolicyEntry("example.com", "1", parse_policy(BODY), BODY, NOON, NOON, NOON, NOON)
    columns = list(stored_columns(encode_entry(entry), BODY))
    columns[index] = value  # type: ignore[call-overload]
    with pytest.raises(StoreUnavailableError, match=r"strictmail cache refresh example\.com"):
        decode_entry(tuple(columns))


def test_an_override_that_makes_no_sense_is_told_of() -> None:
    override = Override("a.example", OverrideAction.DEFER, "why", NOON, NOON)
    columns = list(encode_override(override))
    assert decode_override(tuple(columns)) == override
    columns[1] = "plaintext"
    with pytest.raises(StoreUnavailableError, match=r"override of 'a\.example' is damaged"):
        decode_override(tuple(columns))
