# SPDX-License-Identifier: Apache-2.0
"""The grammar that the MTA-STS and TLSRPT records share."""

from __future__ import annotations

import pytest

from strictmail.core.errors import RecordSyntaxError
from strictmail.core.tagrecord import (
    is_extension_name,
    join_strings,
    parse_fields,
    quote,
)

V = "v=TLSRPTv1"


def _pairs(text: str, *known: str) -> list[tuple[str, str]]:
    return [(field.name, field.value) for field in parse_fields(text, V, known)]


@pytest.mark.req("STS-REC-15", "STS-REC-16", "STS-REC-18", "STS-REC-20")
@pytest.mark.parametrize(
    ("rest", "pairs"),
    [
        pytest.param("; a=1", [("a", "1")], id="one-field"),
        pytest.param(";a=1;", [("a", "1")], id="closing-semicolon"),
        pytest.param(" \t; \ta=1 \t; \t", [("a", "1")], id="blanks-and-tabs-everywhere"),
        pytest.param(";b=2;a=1", [("b", "2"), ("a", "1")], id="order-is-kept"),
        pytest.param(";a=1;a=2", [("a", "1"), ("a", "2")], id="duplicates-are-kept"),
        pytest.param(";A=1", [("A", "1")], id="case-is-kept"),
        pytest.param(";a=!:<>~", [("a", "!:<>~")], id="every-kind-of-value-character"),
        pytest.param(";1.-_=x", [("1.-_", "x")], id="every-kind-of-name-character"),
        pytest.param(";" + "n" * 32 + "=x", [("n" * 32, "x")], id="longest-name"),
        pytest.param(";a=" + "x" * 4000, [("a", "x" * 4000)], id="values-have-no-limit"),
    ],
)
def test_good_record(rest: str, pairs: list[tuple[str, str]]) -> None:
    assert _pairs(V + rest) == pairs


@pytest.mark.req("STS-REC-17", "STS-REC-20", "STS-REC-21", "STS-REC-22")
@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        pytest.param("", 0, "does not start with", id="empty"),
        pytest.param("V=TLSRPTv1; a=1", 0, "does not start with", id="version-case"),
        pytest.param(V, 10, "comes `;`", id="version-alone"),
        pytest.param(V + ";", 11, "no field", id="no-field"),
        pytest.param(V + " ; ", 13, "no field", id="no-field-but-blanks"),
        pytest.param(V + "x; a=1", 10, "comes `;`", id="longer-version"),
        pytest.param(V + ";; a=1", 11, "empty field", id="two-semicolons"),
        pytest.param(V + "; a=1; ;", 17, "empty field", id="two-closing-semicolons"),
        pytest.param(V + "; a=1 ", 15, "white space at the end", id="blank-at-the-end"),
        pytest.param(V + "; a", 12, "no `=`", id="no-equals-sign"),
        pytest.param(V + "; a b=1", 12, "not a field name", id="blank-in-a-name"),
        pytest.param(V + "; a =1", 12, "white space around", id="blank-before-equals"),
        pytest.param(V + "; a= 1", 12, "white space around", id="blank-behind-equals"),
        pytest.param(V + "; =1", 12, "not a field name", id="no-name"),
        pytest.param(V + "; -a=1", 12, "not a field name", id="name-starts-with-hyphen"),
        pytest.param(V + "; " + "n" * 33 + "=1", 12, "not a field name", id="name-too-long"),
        pytest.param(V + "; a=", 14, "is empty", id="no-value"),
        pytest.param(V + "; a=1=2", 14, "holds a blank or `=`", id="equals-in-a-value"),
        pytest.param(V + "; a=1 2", 14, "holds a blank or `=`", id="blank-in-a-value"),
        pytest.param(V + "; a=caf\xe9", 17, "0xe9", id="not-ascii"),
        pytest.param(V + ";\xa0a=1", 11, "no-break space", id="no-break-space"),
        pytest.param(V + "; a=1\n", 15, "0x0a", id="newline"),
        pytest.param(V + "; a=\x7f", 14, "0x7f", id="delete"),
    ],
)
def test_bad_record(text: str, position: int, said: str) -> None:
    with pytest.raises(RecordSyntaxError) as raised:
        parse_fields(text, V)
    assert said in str(raised.value)
    assert raised.value.position == position
    assert raised.value.reason_code == "syntax"


def test_a_known_field_has_a_grammar_of_its_own() -> None:
    """The value of `rua` is a list of URIs: blanks and `=` in it are its own module's business."""
    text = V + "; rua=mailto:a@b.example , https://c.example/?d=e; x=1"
    assert _pairs(text, "rua")[0] == ("rua", "mailto:a@b.example , https://c.example/?d=e")
    with pytest.raises(RecordSyntaxError):
        _pairs(text)


def test_fields_know_where_they_stand() -> None:
    text = V + " ; a=1;\tb=2"
    assert [text[field.position :][:3] for field in parse_fields(text, V)] == ["a=1", "b=2"]


@pytest.mark.req("STS-REC-03")
def test_strings_are_joined_with_nothing_between() -> None:
    assert join_strings((b"v=ST", b"", b"Sv1;")) == b"v=STSv1;"
    assert join_strings(()) == b""


@pytest.mark.req("SEC-20")
@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", "`plain`"),
        ("a`b", "`a\\x60b`"),
        ("a\r\n\x1b[1m", "`a\\r\\n\\x1b[1m`"),
        ("ü\u202e", "`\\xfc\\u202e`"),
        ("", "``"),
        ("x" * 61, "`" + "x" * 60 + "...`"),
    ],
)
def test_quote(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@pytest.mark.req("STS-POL-34")
def test_extension_names() -> None:
    assert is_extension_name("a")
    assert not is_extension_name("")
    assert not is_extension_name("a\n")
    assert not is_extension_name("ä")
