# SPDX-License-Identifier: Apache-2.0
"""REQUIRETLS and `TLS-Required`: what a message wants, and that doubt relaxes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strictmail.core.tlsrequired import TlsWish, read_wish


@pytest.mark.req("RTLS-08", "RTLS-09")
@pytest.mark.parametrize(
    "header",
    [
        "TLS-Required: No",
        "TLS-Required:No",
        "tls-required: no",
        "TLS-REQUIRED:\tNO",
        "TLS-Required:  No  ",
        "TLS-Required:\r\n No",
        "TLS-Required: No\r\n",
    ],
)
def test_tls_may_fail(header: str) -> None:
    assert read_wish([header]) is TlsWish.OPTIONAL
    assert read_wish(["Subject: x", header, "To: y"], ["SIZE=100"]) is TlsWish.OPTIONAL


@pytest.mark.req("RTLS-09", "RTLS-10")
@pytest.mark.parametrize(
    "header",
    [
        "TLS-Required: Yes",
        "TLS-Required:",
        "TLS-Required: ",
        "TLS-Required: No; x",
        "TLS-Required: No (comment)",
        'TLS-Required: "No"',
        "TLS-Required: N o",
        "TLS-Required: Nö",
        "TLS-Required: Ｎｏ",
        "TLS-Required: false",
        "TLS-Required : No",
        "X-TLS-Required: No",
        "TLS-Required-: No",
        " TLS-Required: No",
        "TLS-Required No",
        "Subject: TLS-Required: No",
        "Subject: x\r\n TLS-Required: No",
        "TLſ-Required: No",
    ],
)
def test_nothing_else_has_an_effect(header: str) -> None:
    assert read_wish([header]) is TlsWish.NONE


@pytest.mark.req("RTLS-11")
@pytest.mark.parametrize(
    "other", ["TLS-Required: No", "tls-required: Yes", "TLS-Required:", "TLS-Required : No"]
)
def test_several_are_the_safe_side(other: str) -> None:
    assert read_wish(["TLS-Required: No", other]) is TlsWish.NONE
    assert read_wish([other, "TLS-Required: No"]) is TlsWish.NONE


@pytest.mark.req("RTLS-02", "RTLS-07")
@pytest.mark.parametrize(
    ("parameters", "wish"),
    [
        (["REQUIRETLS"], TlsWish.REQUIRED),
        (["SIZE=1", "requiretls"], TlsWish.REQUIRED),
        (["REQUIRETLS", "REQUIRETLS=1"], TlsWish.REQUIRED),
        # It has no value; who gives one does not want less than nothing.
        (["REQUIRETLS=yes"], TlsWish.NONE),
        (["REQUIRETLS="], TlsWish.NONE),
        (["REQUIRETLſ"], TlsWish.OPTIONAL),
        (["XREQUIRETLS"], TlsWish.OPTIONAL),
        ([], TlsWish.OPTIONAL),
    ],
)
def test_the_parameter_wins(parameters: list[str], wish: TlsWish) -> None:
    assert read_wish(["TLS-Required: No"], parameters) is wish
    without = TlsWish.NONE if wish is TlsWish.OPTIONAL else wish
    assert read_wish([], parameters) is without


@given(st.lists(st.text(max_size=30), max_size=5), st.lists(st.text(max_size=15), max_size=3))
@pytest.mark.req("RTLS-10")
def test_only_those_words_relax(headers: list[str], parameters: list[str]) -> None:
    assert read_wish(headers, parameters) is TlsWish.NONE
    assert read_wish([*headers, "TLS-Required: no"], parameters) is TlsWish.OPTIONAL
    assert read_wish([*headers, "TLS-Required: no"], [*parameters, "RequireTLS"]) is (
        TlsWish.REQUIRED
    )
