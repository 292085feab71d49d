# SPDX-License-Identifier: Apache-2.0
"""File names of reports, written and read."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.tlsrpt.reports import DOMAIN, report_of

from strictmail.core.tlsrpt.filename import ReportFilename, format_filename, parse_filename
from strictmail.core.tlsrpt.message import report_filename
from strictmail.core.tlsrpt.report import Identity, with_unique_id

GOOD = "mail.sender.example!rcpt.example!1747872000!1747958399!001.json.gz"


@pytest.mark.req("RPT-DLV-10", "RPT-DLV-11", "RPT-DLV-12", "RPT-DLV-14")
@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            GOOD,
            ReportFilename("mail.sender.example", DOMAIN, 1747872000, 1747958399, "001"),
        ),
        (
            "sender.example!rcpt.example!0!86399.json",
            ReportFilename("sender.example", DOMAIN, 0, 86399, gzip=False),
        ),
        (
            "a-1.example!xn--bcher-kva.example!1!2!aZ9.json",
            ReportFilename("a-1.example", "xn--bcher-kva.example", 1, 2, "aZ9", gzip=False),
        ),
    ],
)
def test_both_ways(text: str, name: ReportFilename) -> None:
    assert parse_filename(text) == name
    assert format_filename(name) == text


@pytest.mark.req("RPT-DLV-10", "RPT-DLV-11", "RPT-DLV-12", "RPT-DLV-13", "RPT-DLV-14")
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(GOOD.removesuffix(".gz") + ".zip", id="zip"),
        pytest.param(GOOD.replace(".json", ""), id="no-json"),
        pytest.param(GOOD.upper(), id="upper-case-extension"),
        pytest.param(GOOD + "\n", id="line-end"),
        pytest.param("dir/" + GOOD, id="path"),
        pytest.param(GOOD.replace("!", "-"), id="other-separator"),
        pytest.param(GOOD.replace("!001", "!001!2"), id="six-parts"),
        pytest.param("a.example!b.example!1.json", id="three-parts"),
        pytest.param("a.example!b.example!1!2!.json", id="empty-id"),
        pytest.param("a.example!b.example!1!2!a-b.json", id="hyphen-in-the-id"),
        pytest.param("a.example!b.example!1!2!a_b.json", id="underscore-in-the-id"),
        pytest.param("a.example!b.example!1!2!ä.json", id="letter-beyond-ascii"),
        pytest.param("a.example!b.example!1!2!١.json", id="digit-beyond-ascii"),
        pytest.param("a.example!b.example!+1!2.json", id="sign"),
        pytest.param("a.example!b.example!-1!2.json", id="before-1970"),
        pytest.param("a.example!b.example!1.5!2.json", id="fraction"),
        pytest.param("a.example!b.example!!2.json", id="no-begin"),
        pytest.param("a.example!b.example!1!١.json", id="seconds-beyond-ascii"),
        pytest.param("a.example!b.example!1!" + "9" * 16 + ".json", id="too-far"),
        pytest.param("!b.example!1!2.json", id="no-sender"),
        pytest.param("a.example!!1!2.json", id="no-domain"),
        pytest.param("a example!b.example!1!2.json", id="blank-in-a-domain"),
        pytest.param("bücher.example!b.example!1!2.json", id="u-label"),
        pytest.param("-a.example!b.example!1!2.json", id="hyphen-at-the-start"),
        pytest.param("a.example.!b.example!1!2.json", id="trailing-dot"),
    ],
)
def test_what_does_not_conform(text: str) -> None:
    assert parse_filename(text) is None


@pytest.mark.req("RPT-DLV-11", "RPT-DLV-12", "RPT-DLV-13")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (ReportFilename("a.example", "b.example", 1, 2, "a-b"), "letters and digits"),
        (ReportFilename("a.example", "b.example", 1, 2, "a\r\n"), "letters and digits"),
        (ReportFilename("bücher.example", "b.example", 1, 2), "A-labels"),
        (ReportFilename("a.example", "b!c.example", 1, 2), "A-labels"),
        (ReportFilename("a.example", "../b", 1, 2), "A-labels"),
        (ReportFilename("a.example", "b.example", -1, 2), "without a sign"),
        (ReportFilename("a.example", "b.example", 1, -2), "without a sign"),
    ],
)
def test_what_is_not_written(name: ReportFilename, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        format_filename(name)


@pytest.mark.req("RPT-DLV-11", "RPT-DLV-12", "RPT-DLV-61")
def test_the_name_of_a_report() -> None:
    report = report_of(identity=Identity("Sender Org", "tls@Mail.Sender.example"))
    name = parse_filename(report_filename(report))
    assert name == ReportFilename(
        "mail.sender.example", DOMAIN, 1747872000, 1747958399, report.unique_id
    )
    assert report_filename(report, is_gzip=False) == report_filename(report).removesuffix(".gz")


@pytest.mark.req("RPT-DLV-13")
@pytest.mark.parametrize(
    ("unique_id", "part"),
    [("001", "!001"), ("5065427c-23d3-47ca", "!5065427c23d347ca"), ("", ""), ("_ä٣", "")],
)
def test_a_unique_id_is_letters_and_digits(unique_id: str, part: str) -> None:
    named = with_unique_id(report_of(), unique_id)
    assert report_filename(named) == (
        f"sender.example!rcpt.example!1747872000!1747958399{part}.json.gz"
    )


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_none(text: str) -> None:
    for extension in ("", ".json", ".json.gz"):
        name = parse_filename(text + extension)
        assert name is None or format_filename(name) == text + extension


ALNUM = string.ascii_letters + string.digits
LABELS = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=63)
NAMES = st.lists(LABELS, min_size=1, max_size=3).map(".".join)


@given(
    st.builds(
        ReportFilename,
        NAMES,
        NAMES,
        st.integers(0, 10**15 - 1),
        st.integers(0, 10**15 - 1),
        st.text(ALNUM, max_size=20),
        st.booleans(),
    )
)
@pytest.mark.req("RPT-DLV-10", "RPT-DLV-13", "RPT-DLV-14")
def test_what_was_written_is_read_back(name: ReportFilename) -> None:
    text = format_filename(name)
    assert parse_filename(text) == name
    assert text.count("!") == 3 + bool(name.unique_id)
    assert not set(text) - set(ALNUM + "-_.!")
