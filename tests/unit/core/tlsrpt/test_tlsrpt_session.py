# SPDX-License-Identifier: Apache-2.0
"""What others say of a session, made fit for a report."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.tlsrpt.reports import DETAILS, DOMAIN, LINES, POLICIES

from strictmail.core.errors import DomainSyntaxError
from strictmail.core.tlsrpt.results import (
    POLICY_TYPE_CODES,
    RESULT_CODES,
    UNFINISHED_POLICY_CODE,
    PolicyType,
    ResultType,
)
from strictmail.core.tlsrpt.session import (
    MAX_INFORMATION_CHARACTERS,
    MAX_LINE_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_POLICY_CHARACTERS,
    MAX_POLICY_LINES,
    MAX_REASON_CHARACTERS,
    NO_CHARACTER,
    FailureDetail,
    ReportedPolicy,
    clean_address,
    clean_helo,
    clean_lines,
    clean_name,
    clean_pattern,
    clean_text,
    clean_tlsa,
    is_addr_spec,
    make_detail,
    make_policy,
    policy_mode,
    policy_patterns,
    report_domain,
)


@pytest.mark.req("RPT-JSON-10", "RPT-JSON-30")
def test_the_words_of_the_registries() -> None:
    assert {str(kind) for kind in PolicyType} == {"tlsa", "sts", "no-policy-found"}
    assert {str(kind) for kind in ResultType} == {
        "starttls-not-supported",
        "certificate-host-mismatch",
        "certificate-expired",
        "certificate-not-trusted",
        "validation-failure",
        "tlsa-invalid",
        "dnssec-invalid",
        "dane-required",
        "sts-policy-fetch-error",
        "sts-policy-invalid",
        "sts-webpki-invalid",
    }


def test_every_code_has_a_word_and_every_word_a_code() -> None:
    assert set(RESULT_CODES.values()) == set(ResultType)
    assert set(POLICY_TYPE_CODES.values()) == set(PolicyType)
    assert UNFINISHED_POLICY_CODE not in RESULT_CODES


# ---- policies ------------------------------------------------------------------------------------


def make(kind: PolicyType, owner: str = DOMAIN, *lines: str, mx: tuple[str, ...] = ()) -> object:
    return make_policy(kind, owner, lines, mx, domain=DOMAIN)


@pytest.mark.req("RPT-JSON-15", "RPT-JSON-16", "RPT-JSON-17")
@pytest.mark.parametrize(
    ("given_domain", "domain"),
    [
        ("RCPT.Example.", "rcpt.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("mx.other.example", "mx.other.example"),
        ("_25._tcp.mx.example", "_25._tcp.mx.example"),
        # What is no domain gives way to the recipient domain.
        ("", DOMAIN),
        ("a b", DOMAIN),
        ("a\r\nBcc: b", DOMAIN),
        ("-a.example", DOMAIN),
        ("[192.0.2.1]", DOMAIN),
        ("x" * 64 + ".example", DOMAIN),
    ],
)
def test_whose_policy_it_is(given_domain: str, domain: str) -> None:
    for kind in PolicyType:
        policy = make_policy(kind, given_domain, (), (), domain=DOMAIN)
        assert policy == ReportedPolicy(kind, domain)


@pytest.mark.req("RPT-JSON-12")
@pytest.mark.parametrize(
    "lines",
    [
        LINES,
        # Faults are kept as they were served.
        ("version: STSv1", "mode: enforced", "mx: *.*.example", "max_age: -1", "", "  x", "\ty"),
        ("mx: a.example", "mx: a.example", "Version: STSv1", "ümlaut: ♥", "\u2028"),
    ],
)
def test_lines_of_a_policy_stay_as_they_were_served(lines: tuple[str, ...]) -> None:
    assert clean_lines(lines) == lines
    assert clean_lines(f"{line}\r\n" for line in lines) == lines
    assert clean_lines(f"{line}\n" for line in lines) == lines


@pytest.mark.req("RPT-JSON-01", "RPT-JSON-12")
@pytest.mark.parametrize(
    ("line", "cleaned"),
    [
        ("a\rb", "a\ufffdb"),
        ("a\nb", "a\ufffdb"),
        ("a\0b", "a\ufffdb"),
        ("\ud800", "\ufffd"),
        ("\ufdd0\ufffe\U0010ffff", "\ufffd" * 3),
        ("\x7f\x85", "\ufffd" * 2),
        ("a\tb", "a\tb"),
        ("x" * 9000, "x" * MAX_LINE_CHARACTERS),
    ],
)
def test_what_no_line_can_hold(line: str, cleaned: str) -> None:
    assert clean_lines([line]) == (cleaned,)


def test_a_policy_is_quoted_within_bounds() -> None:
    assert len(clean_lines(["x"] * (MAX_POLICY_LINES + 1))) == MAX_POLICY_LINES
    long = clean_lines(["x" * MAX_LINE_CHARACTERS] * 100)
    assert sum(map(len, long)) <= MAX_POLICY_CHARACTERS
    assert len(long) == MAX_POLICY_CHARACTERS // MAX_LINE_CHARACTERS


@pytest.mark.req("RPT-JSON-13")
@pytest.mark.parametrize(
    ("record", "cleaned"),
    [
        ("3 1 1 AB12", "3 1 1 AB12"),
        ("3 1 1 ab12", "3 1 1 AB12"),
        (" 3  1\t1   ab 12\n", "3 1 1 AB12"),
        ("3 1 1 ( ab\n cd )", "3 1 1 ABCD"),
        ("255 255 255 00", "255 255 255 00"),
        # What is no record in presentation form stays.
        ("3 1 1", "3 1 1"),
        ("3 1 1 ()", "3 1 1 ()"),
        ("3 1 1 xyz", "3 1 1 xyz"),
        ("PKIX-TA(0) 1 1 ab", "PKIX-TA(0) 1 1 ab"),
        ("٣ 1 1 ab", "٣ 1 1 ab"),
    ],
)
def test_a_tlsa_record_has_one_form(record: str, cleaned: str) -> None:
    assert clean_tlsa(record) == cleaned
    assert clean_tlsa(cleaned) == cleaned


def test_the_same_tlsa_records_in_another_order_are_the_same_policy() -> None:
    one = make(PolicyType.TLSA, "mx.example", "3 1 1 ab", "2 0 1 CD")
    assert one == make(PolicyType.TLSA, "mx.example", "2 0 1 cd", "3 1 1 ( AB )")


@pytest.mark.req("RPT-JSON-14", "RPT-JSON-20")
def test_there_is_nothing_to_quote_of_no_policy() -> None:
    policy = make(PolicyType.NO_POLICY_FOUND, DOMAIN, *LINES, mx=("a.example",))
    assert policy == ReportedPolicy(PolicyType.NO_POLICY_FOUND, DOMAIN)


@pytest.mark.req("RPT-JSON-20")
def test_a_tlsa_policy_has_no_patterns() -> None:
    policy = make(PolicyType.TLSA, "mx.example", "3 1 1 AB", mx=("a.example",))
    assert policy == ReportedPolicy(PolicyType.TLSA, "mx.example", ("3 1 1 AB",))


@pytest.mark.req("RPT-JSON-58")
@pytest.mark.parametrize(
    ("lines", "mode"),
    [
        (("version: STSv1", "mode: none", "max_age: 1"), "none"),
        (("mode:none",), "none"),
        (("mode :\t none ",), "none"),
        # RFC 8461 §3.2: of a repeated field the first counts.
        (("mode: none", "mode: enforce"), "none"),
        (("mode: enforce", "mode: none"), "enforce"),
        (("Mode: none",), ""),
        (("mode none",), ""),
        ((), ""),
    ],
)
def test_the_mode_of_a_policy(lines: tuple[str, ...], mode: str) -> None:
    assert policy_mode(lines) == mode
    policy = make_policy(PolicyType.STS, DOMAIN, lines, (), domain=DOMAIN)
    is_none = policy == ReportedPolicy(PolicyType.NO_POLICY_FOUND, DOMAIN)
    assert is_none is (mode == "none")


@pytest.mark.req("RPT-JSON-18", "RPT-JSON-19")
@pytest.mark.parametrize(
    ("pattern", "bare"),
    [
        ("*.rcpt.example", "*.rcpt.example"),
        ("MX1.Rcpt.Example.", "mx1.rcpt.example"),
        ("mx: mx1.rcpt.example", "mx1.rcpt.example"),
        ("MX:mx: *.rcpt.example", "*.rcpt.example"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("*.*.example", "*.*.example"),
        ("a\r\nb", "a b"),
        ("", ""),
        ("mx:", ""),
    ],
)
def test_a_pattern_is_bare(pattern: str, bare: str) -> None:
    assert clean_pattern(pattern) == bare


@pytest.mark.req("RPT-JSON-18")
def test_patterns_are_in_the_lines_if_nobody_gives_them_apart() -> None:
    lines = ("mx: A.example", "mx : *.b.example ", "MX: c.example", "mx d.example", "mx:", "x: mx")
    assert policy_patterns(lines) == ("a.example", "*.b.example")
    policy = make_policy(PolicyType.STS, DOMAIN, lines, ("", "mx:"), domain=DOMAIN)
    assert policy.mx_host_patterns == ("a.example", "*.b.example")
    given = make_policy(PolicyType.STS, DOMAIN, lines, ("z.example",), domain=DOMAIN)
    assert given.mx_host_patterns == ("z.example",)


# ---- details -------------------------------------------------------------------------------------


@pytest.mark.req("RPT-JSON-46", "RPT-JSON-47")
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1 ", "192.0.2.1"),
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:DB8::1]", "2001:db8::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:0db8:abcd:0012::1", "2001:db8:abcd:12::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        # Left out: dummies, and what is none.
        ("0.0.0.0", ""),
        ("::", ""),
        ("::ffff:0.0.0.0", ""),
        ("192.0.2.01", ""),
        ("192.0.2", ""),
        ("unknown", ""),
        ("", ""),
        ("1" * 10_000, ""),
    ],
)
def test_an_address_has_one_form(text: str, address: str) -> None:
    assert clean_address(text) == address


@pytest.mark.req("RPT-JSON-48")
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MX.Rcpt.Example.", "mx.rcpt.example"),
        ("mx.bücher.example", "mx.xn--bcher-kva.example"),
        ("mx rcpt", ""),
        ("", ""),
    ],
)
def test_a_host_name_is_a_name(text: str, name: str) -> None:
    assert clean_name(text) == name


@pytest.mark.req("RPT-JSON-49")
@pytest.mark.parametrize(
    ("reply", "name"),
    [
        ("mx.rcpt.example", "mx.rcpt.example"),
        ("250 mx.rcpt.example", "mx.rcpt.example"),
        ("250-mx.rcpt.example\r\n250-PIPELINING\r\n250 STARTTLS", "mx.rcpt.example"),
        ("250-MX.Rcpt.Example. Hello [192.0.2.1]\n250 SIZE", "mx.rcpt.example"),
        ("\r\n250 late.example", "late.example"),
        ("220 mx.example ESMTP ready", "mx.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("250", ""),
        ("250-", ""),
        ("", ""),
        ("\x1b[31mred", "[31mred"),
        ("250 " + "x" * 9999, "x" * MAX_NAME_CHARACTERS),
    ],
)
def test_the_name_that_a_server_gives_itself(reply: str, name: str) -> None:
    assert clean_helo(reply) == name


@pytest.mark.req("RPT-JSON-51")
@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("self-signed_certificate", "self-signed_certificate"),
        ("454 4.7.0\r\n TLS not\tavailable ", "454 4.7.0 TLS not available"),
        ("a\0b\x1b[0m\u202ec\u2028d", "a b [0m c d"),
        ("\ud800\ufffe", ""),
        ("  ", ""),
        ("x" * 9999, "x" * 40),
        ("x" * 39 + " y", "x" * 39),
        ("größe", "größe"),
    ],
)
def test_free_text_is_one_short_line(text: str, cleaned: str) -> None:
    assert clean_text(text, 40) == cleaned


def test_free_text_of_a_detail_is_bounded() -> None:
    long = "x" * 100_000
    detail = make_detail(
        ResultType.VALIDATION_FAILURE,
        receiving_mx_helo=long,
        additional_information=long,
        failure_reason_code=long,
        receiving_mx_hostname=long,
        sending_mta_ip=long,
    )
    assert detail == FailureDetail(
        ResultType.VALIDATION_FAILURE,
        receiving_mx_helo="x" * MAX_NAME_CHARACTERS,
        additional_information="x" * MAX_INFORMATION_CHARACTERS,
        failure_reason_code="x" * MAX_REASON_CHARACTERS,
    )
    assert detail.without_free_text() == FailureDetail(ResultType.VALIDATION_FAILURE)


@given(DETAILS)
@pytest.mark.req("RPT-JSON-46", "RPT-JSON-47", "RPT-JSON-51")
def test_any_detail_is_clean_and_stays_as_it_is(detail: FailureDetail) -> None:
    again = make_detail(
        detail.result_type,
        sending_mta_ip=detail.sending_mta_ip,
        receiving_mx_hostname=detail.receiving_mx_hostname,
        receiving_ip=detail.receiving_ip,
        additional_information=detail.additional_information,
        failure_reason_code=detail.failure_reason_code,
    )
    # A greeting may begin with one more code, so that only the name of a name is the name.
    assert replace(again, receiving_mx_helo=detail.receiving_mx_helo) == detail
    for address in filter(None, (detail.sending_mta_ip, detail.receiving_ip)):
        assert str(ipaddress.ip_address(address)) == address
        assert not ipaddress.ip_address(address).is_unspecified
    for text in (
        detail.receiving_mx_helo,
        detail.additional_information,
        detail.failure_reason_code,
    ):
        assert text.isprintable()
        assert text == text.strip()


@given(POLICIES)
@pytest.mark.req("RPT-JSON-15", "RPT-JSON-19", "RPT-JSON-20", "RPT-JSON-58")
def test_any_policy_is_clean_and_stays_as_it_is(policy: ReportedPolicy) -> None:
    again = make_policy(
        policy.policy_type,
        policy.policy_domain,
        policy.policy_strings,
        policy.mx_host_patterns,
        domain=DOMAIN,
    )
    assert again == policy
    assert report_domain(policy.policy_domain) == policy.policy_domain
    assert not any(map(NO_CHARACTER.search, policy.policy_strings))
    assert not any(pattern.startswith("mx:") for pattern in policy.mx_host_patterns)
    if policy.policy_type is PolicyType.STS:
        assert policy_mode(policy.policy_strings) != "none"
    else:
        assert not policy.mx_host_patterns


# ---- domains and addresses -----------------------------------------------------------------------


@pytest.mark.req("RPT-JSON-15", "RPT-DLV-11")
@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "a b.example", "-a.example", "a-.example", "[192.0.2.1]", "a\n.b"]
)
def test_nothing_is_reported_to_what_is_no_mail_domain(text: str) -> None:
    with pytest.raises(DomainSyntaxError):
        report_domain(text)


@pytest.mark.req("RPT-JSON-06")
@pytest.mark.parametrize(
    ("text", "is_address"),
    [
        ("tls@sender.example", True),
        ("tls-reports+x@sender.example", True),
        ("a.b!c{d}@x_1.example", True),
        ("mailto:tls@sender.example", False),
        ("Reports <tls@sender.example>", False),
        ("<tls@sender.example>", False),
        (".a@sender.example", False),
        ("a.@sender.example", False),
        ("a..b@sender.example", False),
        ("a@", False),
        ("@sender.example", False),
        ("a@b@sender.example", False),
        ("a@sender.example.", False),
        ("a@bücher.example", False),
        ("ä@sender.example", False),
        ("a@sender.example\n", False),
        ("a@sender.example, b@sender.example", False),
        ("", False),
    ],
)
def test_an_address_without_anything_around_it(text: str, is_address: bool) -> None:
    assert is_addr_spec(text) is is_address


@given(st.text(max_size=300))
def test_cleaning_never_fails(text: str) -> None:
    assert clean_helo(text).isprintable()
    for clean in (clean_address, clean_name, clean_pattern, clean_tlsa):
        assert clean(clean(text)) == clean(text)
