# SPDX-License-Identifier: Apache-2.0
"""What people type for a domain: understood, or answered with the place and the fix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strictmail.checker.inputs import Form, domain_meant, read_domain
from strictmail.core.errors import DomainSyntaxError
from strictmail.core.names import parse_domain


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("example.com", id="as-it-is"),
        pytest.param("Example.COM", id="case"),
        pytest.param("example.com.", id="root-dot"),
        pytest.param("  example.com\t\n", id="blanks"),
        pytest.param('"example.com"', id="quotes"),
        pytest.param("“example.com”", id="quotes-of-a-word-processor"),
        pytest.param("<example.com>", id="angle-brackets"),
        pytest.param("('example.com')", id="two-layers"),
        pytest.param("example.com,", id="comma-behind"),
        pytest.param("\u00a0example.com\u00a0", id="no-break-spaces"),
    ],
)
def test_taken_without_a_word(text: str) -> None:
    meant = read_domain(text)
    assert (meant.domain, meant.form, meant.note) == ("example.com", Form.NAME, "")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("user@example.com", Form.ADDRESS),
        ("<user@example.com>", Form.ADDRESS),
        ("Some One <user@Example.com>", Form.ADDRESS),
        ("@example.com", Form.ADDRESS),
        ("mailto:user@example.com?subject=hello", Form.ADDRESS),
        ("https://example.com/x", Form.URL),
        ("https://user:word@example.com:8443/x?y#z", Form.URL),
        ("HTTP://EXAMPLE.COM", Form.URL),
        ("//example.com", Form.URL),
        ("example.com/x", Form.URL),
        ("https://mta-sts.example.com/.well-known/mta-sts.txt", Form.URL),
        ("example.com:25", Form.PORT),
        ("[example.com]", Form.NEXTHOP),
        ("[example.com]:587", Form.NEXTHOP),
        ("_mta-sts.example.com", Form.RECORD),
        ("_smtp._tls.example.com", Form.RECORD),
        ("_25._tcp.example.com", Form.RECORD),
    ],
)
def test_other_forms_are_understood_and_the_note_says_so(text: str, form: Form) -> None:
    meant = read_domain(text)
    assert (meant.domain, meant.form) == ("example.com", form)
    assert meant.note.endswith(f"is {form.value}: checking example.com")


@pytest.mark.parametrize("character", ["\u200b", "\ufeff", "\u2060", "\u202e", "\u00ad", "\u200d"])
@pytest.mark.parametrize("place", [0, 4, 11])
def test_invisible_characters_are_left_out_and_named(character: str, place: int) -> None:
    typed = "example.com"[:place] + character + "example.com"[place:]
    meant = read_domain(typed)
    assert meant.domain == "example.com"
    assert f"U+{ord(character):04X}" in meant.note


def test_joiners_that_belong_to_a_name_stay() -> None:
    # RFC 5892 appendix A.1 allows it here, and the name is another one without it.
    name = "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.example"
    assert read_domain(name).domain == parse_domain(name)
    assert "U+200C" not in read_domain(name).note


def test_a_u_label_is_said_as_dns_has_it() -> None:
    meant = read_domain("bücher.example")
    assert meant.domain == "xn--bcher-kva.example"
    assert "is xn--bcher-kva.example in DNS" in meant.note


def test_names_that_are_odd_are_checked_with_a_note() -> None:
    assert "single label" in read_domain("localhost").note
    assert "underscore" in read_domain("my_host.example.com").note
    assert read_domain("mx1.example.com").note == ""


@pytest.mark.parametrize(
    ("text", "said", "position"),
    [
        pytest.param("", "such as example.com", None, id="empty"),
        pytest.param(" \u3000\u200b", "such as example.com", None, id="only-blanks"),
        pytest.param("192.0.2.1", "an address, not a domain", 0, id="ipv4"),
        pytest.param("192.0.2.1:25", "an address, not a domain", 0, id="ipv4-and-port"),
        pytest.param("2001:db8::1", "an address, not a domain", 0, id="ipv6"),
        pytest.param(" [192.0.2.1]", "an address, not a domain", 1, id="literal"),
        pytest.param("[IPv6:2001:db8::1]", "an address, not a domain", 0, id="ipv6-literal"),
        pytest.param("user@[192.0.2.1]", "an address, not a domain", 5, id="mail-to-a-literal"),
        pytest.param("http://[2001:db8::1]:80/", "an address", 7, id="url-with-ipv6"),
        pytest.param("192.0.2.300", "mistyped address", 8, id="no-ipv4"),
        pytest.param("*.example.com", "check `example.com`", 0, id="wildcard"),
        pytest.param(".example.com", "check `example.com`", 0, id="leading-dot"),
        pytest.param("a.example, b.example", "2 words", 9, id="two-with-comma"),
        pytest.param("a.example b.example", "2 words", 9, id="two-with-blank"),
        pytest.param("a.example;b.example;c.example;d.example", "4 words", 9, id="four"),
        pytest.param("example,com", "Try `example.com`", 7, id="comma-for-a-dot"),
        pytest.param("--form", "looks like an option", 0, id="option"),
        pytest.param(
            "–from", "looks like an option", 0, id="option-with-a-dash-of-a-word-processor"
        ),
        pytest.param("domains.txt", "`--from FILE`", 8, id="file-that-is-not-there"),
        pytest.param("./lists/domains", "`--from FILE`", 1, id="path-that-is-not-there"),
        pytest.param("user@", "domain is missing", 5, id="no-domain-behind-at"),
        pytest.param("https:///x", "without a host", 8, id="url-without-host"),
        pytest.param("[example.com", "without `]`", 0, id="bracket-left-open"),
        pytest.param("[example.com]x", "behind `]`", 13, id="junk-behind-bracket"),
        pytest.param("smtp:example.com", "without port or transport", 4, id="transport"),
        pytest.param("example..com", "remove one", 7, id="two-dots"),
        pytest.param(" https://exam!ple.com/", "'!'", 13, id="place-in-the-whole-text"),
        pytest.param("exa\u200bm!ple.com", "'!'", 5, id="place-behind-an-invisible-one"),
        pytest.param("ok.bü\U0001f4a9.example", "internationalised", 3, id="label-of-an-idn"),
        pytest.param(f"{'x' * 64}.example", "63", 0, id="label-too-long"),
        pytest.param("x." * 130 + "example", "253", None, id="name-too-long"),
        pytest.param("x" * 5000, "5000 characters", None, id="huge"),
    ],
)
def test_no_domain(text: str, said: str, position: int | None) -> None:
    with pytest.raises(DomainSyntaxError) as raised:
        read_domain(text)
    assert said in str(raised.value)
    assert raised.value.position == position


@pytest.mark.parametrize("text", ["domains", "lists/today", "domains.txt", "Domains.CSV"])
def test_a_list_given_as_a_domain_gets_the_hint(text: str) -> None:
    with pytest.raises(DomainSyntaxError, match=r"is a file.*--from FILE"):
        read_domain(text, exists=lambda name: name == text)


def test_a_directory_named_as_a_domain_does_not_hide_it() -> None:
    assert read_domain("example.com", exists=lambda _: True).domain == "example.com"
    assert read_domain("https://example.com/x", exists=lambda _: True).domain == "example.com"


@given(st.text(max_size=80) | st.text("a.@:/[]<>,*-_ \u200b\u00fc1\"'", max_size=40))
def test_any_text_gives_a_domain_or_a_fault_with_a_place_in_it(text: str) -> None:
    fault = meant = None
    try:
        meant = read_domain(text, exists=lambda _: False)
    except DomainSyntaxError as error:
        fault = error
    if fault is not None:
        assert fault.position is None or 0 <= fault.position <= len(text)
        assert str(fault).isprintable()
    if meant is not None:
        assert parse_domain(meant.domain) == meant.domain
        assert meant.note.isprintable()


@given(st.text(max_size=80))
def test_meant_is_a_domain_or_nothing(text: str) -> None:
    domain = domain_meant(text)
    assert not domain or parse_domain(domain) == domain
