# SPDX-License-Identifier: Apache-2.0
"""The `_smtp._tls` record: which one counts, where reports may go, and what an owner is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strictmail.core.errors import RecordSyntaxError
from strictmail.core.tlsrpt.record import (
    MAX_LOCAL_CHARACTERS,
    RuaUri,
    TlsrptRecord,
    is_near_miss,
    select_tlsrpt,
    tlsrpt_name,
)

GOOD = b"v=TLSRPTv1; rua=mailto:a@b.example"


def rua(value: str) -> TlsrptRecord:
    return select_tlsrpt([[b"v=TLSRPTv1; rua=" + value.encode("latin-1")]])


@pytest.mark.req("RPT-REC-01", "RPT-REC-28")
def test_record_name() -> None:
    assert tlsrpt_name("sub.example.com") == "_smtp._tls.sub.example.com"


@pytest.mark.req("RPT-REC-04", "RPT-REC-05", "RPT-REC-06", "RPT-REC-07", "RPT-REC-08", "RPT-REC-21")
@pytest.mark.parametrize(
    ("records", "reason_code"),
    [
        pytest.param([], "absent", id="no-record"),
        pytest.param([b""], "absent", id="empty-record"),
        pytest.param([b"v=spf1 -all"], "absent", id="foreign"),
        pytest.param([b"v=TLSRPTv1"], "absent", id="version-alone"),
        pytest.param([b"v=TLSRPTv10; rua=mailto:a@b.example"], "absent", id="longer-version"),
        pytest.param([b"v=TLSRPTV1; rua=mailto:a@b.example"], "absent", id="version-case"),
        pytest.param([b" " + GOOD], "absent", id="leading-blank"),
        pytest.param([GOOD, GOOD], "several", id="twice"),
        pytest.param([GOOD, b"v=TLSRPTv1;"], "several", id="valid-and-malformed"),
        pytest.param([b"v=TLSRPTv1 ;", b"v=TLSRPTv1\t;"], "several", id="two-spaced"),
        pytest.param([b"v=TLSRPTv1;"], "syntax", id="no-field"),
        pytest.param([b"v=TLSRPTv1; x=1"], "syntax", id="no-rua"),
        pytest.param([b"v=TLSRPTv1; rua="], "syntax", id="empty-rua"),
        pytest.param([b"v=TLSRPTv1; rua=,"], "syntax", id="comma-alone"),
        pytest.param([GOOD + b"; x=1=2"], "syntax", id="bad-extension"),
        pytest.param([GOOD + b";b@c.example"], "syntax", id="semicolon-in-a-uri"),
    ],
)
def test_no_usable_record(records: list[bytes], reason_code: str) -> None:
    with pytest.raises(RecordSyntaxError) as raised:
        select_tlsrpt([[record] for record in records])
    assert raised.value.reason_code == reason_code


@pytest.mark.req("RPT-REC-09", "RPT-REC-23")
@pytest.mark.parametrize(
    ("record", "said", "rest"),
    [
        (b"v=TLSRPTv1; RUA=mailto:a@b.example", "write `rua=` for `RUA=`", ""),
        (b"v=TLSRPTv1; rua =mailto:a@b.example", "white space around", "rua =mailto:a@b.example"),
        (b"v=TLSRPTv1; rua=; x=1", "an empty `rua`", "; x=1"),
        (b"v=TLSRPTv1; rua=mailto:a@b.example,,x", "remove one `,`", ",x"),
        (b"v=TLSRPTv1; rua=mailto:a@b.example , ", "white space at the end", " "),
        (b"v=TLSRPTv1; rua=mailto:a@b.example,;", "remove one `,`", ";"),
    ],
)
def test_the_place_at_fault(record: bytes, said: str, rest: str) -> None:
    with pytest.raises(RecordSyntaxError) as raised:
        select_tlsrpt([[record]])
    assert said in str(raised.value)
    assert raised.value.position is not None
    assert record.decode()[raised.value.position :] == rest


def test_a_record_keeps_where_its_uris_are() -> None:
    found = rua("mailto:a%2Cb@c.example?x=y ,\thttps://r.example/%2C")
    assert found.rua == (
        RuaUri("mailto:a%2Cb@c.example?x=y", "mailto", "a,b@c.example", 16),
        RuaUri("https://r.example/%2C", "https", "", 45),
    )
    for uri in found.rua:
        assert found.text[uri.position :].startswith(uri.text)
    assert [uri.destination for uri in found.rua] == [
        "mailto:a,b@c.example",
        "https://r.example/%2C",
    ]


@pytest.mark.req(
    *("RPT-REC-12", "RPT-REC-14", "RPT-REC-18", "RPT-REC-19", "RPT-REC-20", "RPT-REC-32", "SEC-25")
)
@pytest.mark.parametrize(
    ("uri", "said", "rest"),
    [
        ("http://r.example/", "over `https` only", "http://r.example/"),
        ("ftp://r.example/", "neither `mailto` nor `https`", "ftp://r.example/"),
        ("a@b.example", "write `mailto:` before", "a@b.example"),
        ("reports", "a scheme is missing", "reports"),
        ("mailto:a@b.example!10m", "no size limit", "!10m"),
        ("mailto:a b@c.example", "` ` stands in no URI", " b@c.example"),
        ("mailto:a@b.example%2", "two hexadecimal digits", "%2"),
        ("mailto:a@b.example#x", "no fragment", "#x"),
        ("mailto:a", "`name@domain`", "a"),
        ("mailto:@b.example", "`name@domain`", "@b.example"),
        ("mailto:a@", "`name@domain`", "a@"),
        ("mailto:a@b..example", "`name@domain`", "a@b..example"),
        ("mailto:a@[192.0.2.1]", "`name@domain`", "a@[192.0.2.1]"),
        ("mailto:?to=a@b.example", "`name@domain`", "?to=a@b.example"),
        ("mailto:a%0d%0a@b.example", "not printable ASCII", "a%0d%0a@b.example"),
        ("mailto:%C3%A4@b.example", "not printable ASCII", "%C3%A4@b.example"),
        ("mailto:a%20b@c.example", "needs quoting", "a%20b@c.example"),
        ("mailto:a%40b@c.example", "needs quoting", "a%40b@c.example"),
        (f"mailto:{'a' * 65}@b.example", "too long", f"{'a' * 65}@b.example"),
        ("https:r.example", "comes `//`", "r.example"),
        ("https://", "a host name", ""),
        ("https://192.0.2.1/", "a host name", "192.0.2.1/"),
        ("https://[::1]/", "a host name", "[::1]/"),
        ("https://u:p@r.example/", "no user name", "u:p@r.example/"),
        ("https://r.example/#x", "a fragment", "#x"),
        ("https://r.example:x/", "no port", "x/"),
        ("https://r.example:65536/", "no port", "65536/"),
    ],
)
def test_a_bad_uri_drops_itself_alone(uri: str, said: str, rest: str) -> None:
    found = rua(f"mailto:x@y.example,{uri}")
    assert [good.text for good in found.rua] == ["mailto:x@y.example"]
    (bad,) = found.unusable
    assert bad.text == uri
    assert said in bad.reason
    assert found.text[bad.position :] == rest


@pytest.mark.parametrize(
    "uri",
    [
        f"mailto:{'a' * MAX_LOCAL_CHARACTERS}@b.example",
        "mailto:-oProxyCommand=x@b.example",
        "mailto:a+b@c.example",
        "https://r.example",
        "https://r.example:443?x=y",
        "HTTPS://R.EXAMPLE/a;b".replace(";", "%3B"),
    ],
)
@pytest.mark.req("RPT-REC-13", "RPT-REC-32", "SEC-25")
def test_a_usable_uri(uri: str) -> None:
    found = rua(uri)
    assert [good.text for good in found.rua] == [uri]
    assert not found.unusable


@pytest.mark.req("RPT-REC-22")
def test_several_fields_count_together_and_are_told() -> None:
    found = rua("mailto:a@b.example; x=1; rua=https://r.example/,MAILTO:a@b.example")
    assert [uri.text for uri in found.rua] == ["mailto:a@b.example", "https://r.example/"]
    assert "several `rua`" in found.warnings[0]


@pytest.mark.req("RPT-REC-04", "RPT-REC-19")
def test_what_is_tolerated_is_told() -> None:
    spaced = select_tlsrpt([[b"v=TLSRPTv1 ; rua=mailto:a@b.example?cc=z@evil.example"]])
    assert [uri.address for uri in spaced.rua] == ["a@b.example"]
    assert ["white space" in spaced.warnings[0], "header fields" in spaced.warnings[1]] == [
        True
    ] * 2
    assert rua("mailto:a@b.example").warnings == ()


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (b"v=TLSRPTv1", "behind `v=TLSRPTv1` comes `;`"),
        (b"v=TLSRPT1; rua=mailto:a@b.example", "in exactly these letters"),
        (b"v = tlsrptv1; rua=mailto:a@b.example", "in exactly these letters"),
        (b'"' + GOOD, "remove it"),
        (b"rua=mailto:a@b.example; v=TLSRPTv1", "does not come first"),
    ],
)
def test_a_near_miss_is_explained(record: bytes, said: str) -> None:
    assert is_near_miss(record)
    with pytest.raises(RecordSyntaxError) as raised:
        select_tlsrpt([[record]])
    assert said in str(raised.value)


@pytest.mark.parametrize("record", [b"", b"v=spf1 -all", b"v=STSv1; id=1;"])
def test_what_is_about_something_else_is_no_attempt(record: bytes) -> None:
    assert not is_near_miss(record)


@pytest.mark.req("RPT-REC-20", "RPT-REC-32")
@given(st.text(st.characters(max_codepoint=255), max_size=80))
def test_any_value_gives_destinations_fit_to_use_or_an_error(value: str) -> None:
    try:
        found = rua(value)
    except RecordSyntaxError:
        return
    for uri in found.rua:
        assert uri.text in value
        assert uri.destination.isascii()
        assert uri.destination.isprintable()
        assert " " not in uri.destination
    for bad in found.unusable:
        assert bad.reason.isascii()
        assert bad.reason.isprintable()
        assert 0 <= bad.position <= len(found.text)
