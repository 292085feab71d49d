# SPDX-License-Identifier: Apache-2.0
"""Domain names: one form for each, and nothing that is none."""

from __future__ import annotations

import pytest

from strictmail.core.errors import DomainSyntaxError
from strictmail.core.names import fold, is_address, is_ldh_domain, labels, parent, parse_domain

LONGEST_LABEL = "a" * 63
LONGEST_NAME = ".".join([LONGEST_LABEL] * 3 + ["b" * 61])


@pytest.mark.req("STS-APP-07", "STS-REC-35", "STS-REC-02")
@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("example.com", "example.com", id="as-it-is"),
        pytest.param("Example.COM", "example.com", id="case"),
        pytest.param("example.com.", "example.com", id="root-dot"),
        pytest.param("com", "com", id="one-label"),
        pytest.param("_mta-sts.example.com", "_mta-sts.example.com", id="underscore"),
        pytest.param("-a-.example", "-a-.example", id="dns-knows-no-hyphen-rule"),
        pytest.param("192.0.2.300", "192.0.2.300", id="digits-that-are-no-address"),
        pytest.param("bücher.example", "xn--bcher-kva.example", id="u-label"),
        pytest.param("BÜCHER.Example.", "xn--bcher-kva.example", id="u-label-case-and-dot"),
        pytest.param("bu\u0308cher.example", "xn--bcher-kva.example", id="u-label-decomposed"),
        pytest.param("faß.example", "xn--fa-hia.example", id="sharp-s-is-not-ss"),
        pytest.param("例え。テスト", "xn--r8jz45g.xn--zckzah", id="ideographic-dot"),
        pytest.param("xn--bcher-kva.example", "xn--bcher-kva.example", id="a-label"),
        pytest.param(LONGEST_LABEL, LONGEST_LABEL, id="63-characters-in-a-label"),
        pytest.param(LONGEST_NAME, LONGEST_NAME, id="253-characters"),
        pytest.param(LONGEST_NAME + ".", LONGEST_NAME, id="253-characters-and-a-dot"),
        pytest.param("\u212aelvin.example", "kelvin.example", id="kelvin-sign-is-mapped-by-uts46"),
    ],
)
def test_good_domain(text: str, name: str) -> None:
    assert parse_domain(text) == name


@pytest.mark.req("SEC-26")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "at least one label", id="empty"),
        pytest.param(".", "at least one label", id="root"),
        pytest.param("..", "empty label", id="two-dots"),
        pytest.param(".example.com", "empty label", id="leading-dot"),
        pytest.param("a..b", "empty label", id="dots-inside"),
        pytest.param("example.com..", "empty label", id="two-root-dots"),
        pytest.param("a" * 64, "63", id="64-characters-in-a-label"),
        pytest.param(LONGEST_NAME + "b", "253", id="254-characters"),
        pytest.param("a." * 5000, "253", id="huge"),
        pytest.param("a b.example", "' '", id="blank"),
        pytest.param("a\0.example", "\\x00", id="nul"),
        pytest.param("a\n.example", "\\n", id="newline"),
        pytest.param("a/b.example", "'/'", id="slash"),
        pytest.param("a!b.example", "'!'", id="exclamation-mark"),
        pytest.param("*.example", "'*'", id="wildcard"),
        pytest.param("[192.0.2.1]", "'['", id="literal"),
        pytest.param("a:25", "':'", id="port"),
        pytest.param("user@example.com", "'@'", id="address"),
        pytest.param("\u202eexample.com", "internationalised", id="bidi-override"),
        pytest.param("\U0001f4a9.example", "internationalised", id="emoji-is-disallowed"),
        pytest.param("ü" * 200 + ".example", "", id="u-label-too-long"),
        pytest.param("\ud800.example", "internationalised", id="lone-surrogate"),
    ],
)
def test_bad_domain(text: str, said: str) -> None:
    with pytest.raises(DomainSyntaxError) as raised:
        parse_domain(text)
    assert said in str(raised.value)
    assert str(raised.value).isascii()


def test_the_fault_is_located() -> None:
    with pytest.raises(DomainSyntaxError) as raised:
        parse_domain("mx.ex ample.com")
    assert raised.value.position == 5
    assert raised.value.text == "mx.ex ample.com"


@pytest.mark.req("STS-APP-07", "STS-APP-18")
@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("MX.Example.COM.", "mx.example.com"),
        ("mx", "mx"),
        ("", ""),
        (".", ""),
        ("a..", "a."),
        ("\u212a.example", "\u212a.example"),
        ("BÜCHER.example", "bÜcher.example"),
    ],
)
def test_fold_touches_ascii_letters_and_one_dot(name: str, folded: str) -> None:
    assert fold(name) == folded


@pytest.mark.req("STS-POL-24", "STS-POL-25")
@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("example.com", True),
        ("EXAMPLE.com", True),
        ("a", True),
        ("1", True),
        ("a-b.c-d", True),
        ("a--b.example", True),
        (LONGEST_NAME, True),
        ("", False),
        (".", False),
        ("example.com.", False),
        (".example.com", False),
        ("a..b", False),
        ("-a.example", False),
        ("a-.example", False),
        ("-", False),
        ("a_b.example", False),
        ("*.example", False),
        ("a b", False),
        ("bücher.example", False),
        ("٣.example", False),
        ("a" * 64, False),
        (LONGEST_NAME + "b", False),
    ],
)
def test_ldh_domain(text: str, good: bool) -> None:
    assert is_ldh_domain(text) is good


def test_labels_and_parent() -> None:
    assert labels("a.b.example") == ("a", "b", "example")
    assert labels("example.") == ("example",)
    assert labels("") == ()
    assert labels(".") == ()
    assert parent("a.b.example") == "b.example"
    assert parent("example") == ""
    assert parent("") == ""


@pytest.mark.req("STS-APP-04")
@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("192.0.2.1", True),
        ("2001:db8::1", True),
        ("::", True),
        ("::ffff:192.0.2.1", True),
        ("192.0.2.300", False),
        ("192.0.2", False),
        ("192.0.02.1", False),
        ("[192.0.2.1]", False),
        ("192.0.2.1.", False),
        ("example.com", False),
        ("mx1", False),
        ("a:b", False),
        ("", False),
        ("١٩٢.0.2.1", False),
    ],
)
def test_address(text: str, good: bool) -> None:
    assert is_address(text) is good
