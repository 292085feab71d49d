# SPDX-License-Identifier: Apache-2.0
"""The `_mta-sts` record: which one counts, what it says, and what an owner is told."""

from __future__ import annotations

import pytest

from strictmail.core.errors import RecordSyntaxError
from strictmail.core.sts.record import parse_policy_id, record_name, select_record

GOOD = b"v=STSv1; id=1;"


def _rrset(*records: bytes) -> list[list[bytes]]:
    return [[record] for record in records]


@pytest.mark.req("STS-REC-01", "STS-REC-28")
def test_record_name() -> None:
    assert record_name("sub.example.com") == "_mta-sts.sub.example.com"


@pytest.mark.req("STS-REC-04", "STS-REC-05", "STS-REC-06", "STS-REC-10", "STS-REC-19")
@pytest.mark.parametrize(
    ("records", "reason_code"),
    [
        pytest.param([], "absent", id="no-record"),
        pytest.param([b""], "absent", id="empty-record"),
        pytest.param([b"v=spf1 -all"], "absent", id="foreign"),
        pytest.param([b"v=STSv1"], "absent", id="version-alone"),
        pytest.param([b"v=STSv10; id=1;"], "absent", id="longer-version"),
        pytest.param([b"v=stsv1; id=1;"], "absent", id="version-case"),
        pytest.param([b" v=STSv1; id=1;"], "absent", id="leading-blank"),
        pytest.param([b"v=STSv1\n; id=1;"], "absent", id="newline-is-no-blank"),
        pytest.param([GOOD, GOOD], "several", id="twice"),
        pytest.param([GOOD, b"v=STSv1;"], "several", id="valid-and-malformed"),
        pytest.param([b"v=STSv1;", b"v=STSv1;x"], "several", id="two-malformed"),
        pytest.param([b"v=STSv1 ; id=1", b"v=STSv1  ; id=1"], "several", id="two-spaced"),
        pytest.param([b"v=STSv1;"], "syntax", id="no-field"),
        pytest.param([b"v=STSv1 ;"], "syntax", id="spaced-no-field"),
        pytest.param([b"v=STSv1 ; id=a-b;"], "syntax", id="spaced-bad-id"),
        pytest.param([b"v=STSv1; id=1 "], "syntax", id="blank-at-the-end"),
    ],
)
def test_no_usable_record(records: list[bytes], reason_code: str) -> None:
    with pytest.raises(RecordSyntaxError) as raised:
        select_record(_rrset(*records))
    assert raised.value.reason_code == reason_code


@pytest.mark.req("STS-REC-19")
def test_white_space_before_the_first_semicolon_is_told() -> None:
    spaced = select_record(_rrset(b"v=spf1", b"v=STSv1 \t; id=9"))
    assert spaced.policy_id == "9"
    assert "white space" in spaced.warnings[0]
    exact = select_record(_rrset(b"v=STSv1 ; id=9", GOOD))
    assert (exact.policy_id, exact.warnings) == ("1", ())


@pytest.mark.req("STS-REC-03")
def test_strings_are_joined_first() -> None:
    assert select_record([[b"v=S", b"TSv1", b"; id=2024", b"0101;"]]).policy_id == "20240101"
    assert select_record([(b"v=STSv1;", b"id=1")]).policy_id == "1"


@pytest.mark.req("STS-REC-11", "STS-REC-12", "STS-REC-13", "STS-REC-14", "STS-REC-23")
@pytest.mark.parametrize(
    ("record", "said"),
    [
        pytest.param(b"v=STSv1; ID=1;", "write `id=` for `ID=`", id="name-case"),
        pytest.param(b"v=STSv1; x=1;", "no `id` field", id="no-id"),
        pytest.param(b"v=STSv1; id=2024-01-01;", "for example `id=20240101`", id="date"),
        pytest.param(b"v=STSv1; id=---;", "32 ASCII letters and digits", id="nothing-left"),
        pytest.param(b"v=STSv1; id=" + b"a" * 33, "`id=" + "a" * 32 + "`", id="too-long"),
        pytest.param(b"v=STSv1; id=1, x=y", "blank or `=`", id="comma"),
        pytest.param(b"v=STSv1; id=1;; x=y", "two `;` in a row", id="two-semicolons"),
        pytest.param(b"v=STSv1; id = 1;", "white space around the `=`", id="blanks"),
        pytest.param(b"v=STSv1; id=1\xa0;", "no-break space", id="no-break-space"),
        pytest.param(b"v=STSv1; 20240101;", "has no `=`", id="bare-id"),
        pytest.param(b"v=STSv1; id=a-b; id=1;", "not 1 to 32", id="first-one-counts"),
    ],
)
def test_a_broken_record_is_explained(record: bytes, said: str) -> None:
    with pytest.raises(RecordSyntaxError) as raised:
        parse_policy_id(record)
    assert said in str(raised.value)
    assert raised.value.position is not None
    assert raised.value.text.encode("latin-1") == record


@pytest.mark.req("STS-REC-08", "STS-REC-09", "STS-REC-34")
@pytest.mark.parametrize(
    ("record", "said"),
    [
        (b"", "no TXT record starts with"),
        (b"v=STS1; to=true; mx=*.example.com", "2016 drafts"),
        (b'"v=STSv1; id=1;"', "a quote mark"),
        (b" v=STSv1; id=1;", "white space"),
        (b"\xef\xbb\xbfv=STSv1; id=1;", "byte order mark"),
        (b"V=STSv1; id=1;", "in exactly these letters"),
        (b"v = STSv1; id=1;", "in exactly these letters"),
        (b"v=STSv1, id=1", "comes `;`"),
        (b"v=STSv1", "comes `;`"),
        (b"id=1; v=STSv1;", "does not come first"),
    ],
)
def test_a_near_miss_is_explained(record: bytes, said: str) -> None:
    with pytest.raises(RecordSyntaxError) as raised:
        select_record(_rrset(b"v=spf1 -all", record))
    assert said in str(raised.value)
    assert "spf1" not in str(raised.value)


def test_an_empty_answer_is_called_so() -> None:
    with pytest.raises(RecordSyntaxError, match=r"^no TXT record$"):
        select_record([])


@pytest.mark.req("STS-REC-33")
def test_many_near_misses_make_no_long_message() -> None:
    with pytest.raises(RecordSyntaxError) as raised:
        select_record(_rrset(*[b"V=STSv1; id=1;"] * 500))
    assert len(str(raised.value)) < 500
