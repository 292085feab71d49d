# SPDX-License-Identifier: Apache-2.0
"""The policy body: beyond the vectors, what is kept, what is warned of, what an owner is told."""

from __future__ import annotations

import pytest

from strictmail.core.errors import PolicySyntaxError
from strictmail.core.sts.policy import (
    MAX_WARNINGS,
    format_policy,
    parse_policy,
    policy_lines,
    split_lines,
)
from strictmail.core.sts.values import MAX_MAX_AGE_SECONDS, MAX_POLICY_BYTES, Mode, StsPolicy

HEAD = b"version: STSv1\nmode: enforce\nmax_age: 604800\n"
GOOD = HEAD + b"mx: mx.example.com\n"


def test_a_plain_policy() -> None:
    assert parse_policy(GOOD) == StsPolicy(
        mode=Mode.ENFORCE,
        max_age=604800,
        mx_patterns=("mx.example.com",),
        policy_strings=(
            "version: STSv1",
            "mode: enforce",
            "max_age: 604800",
            "mx: mx.example.com",
        ),
    )


@pytest.mark.req("STS-FET-33", "STS-POL-41", "STS-POL-06")
def test_lines_are_kept_as_served() -> None:
    body = b"version:STSv1 \r\nmode: \tenforce\r\n\r\nmx: MX.Example.COM\nfoo: Gr\xc3\xbc\xc3\x9fe\nmax_age: 1"
    policy = parse_policy(body)
    assert policy.mx_patterns == ("mx.example.com",)
    assert policy.policy_strings == (
        "version:STSv1 ",
        "mode: \tenforce",
        "mx: MX.Example.COM",
        "foo: Gr\u00fc\u00dfe",
        "max_age: 1",
    )


@pytest.mark.req("STS-POL-01", "STS-POL-02", "STS-POL-03")
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("a\r\nb\nc", ["a", "b", "c"]),
        ("a\n\nb\n\n", ["a", "", "b", ""]),
        ("a\r", ["a\r"]),
        ("a\rb\n", ["a\rb"]),
        ("a\r\r\n", ["a\r"]),
        ("a\u2028b\u0085c\x0bd\x0ce\x1cf\n", ["a\u2028b\u0085c\x0bd\x0ce\x1cf"]),
    ],
)
def test_lines_end_at_lf_and_crlf_only(text: str, lines: list[str]) -> None:
    assert split_lines(text) == lines


@pytest.mark.parametrize(
    ("body", "line", "said"),
    [
        pytest.param(b"", None, "no `version` line", id="empty"),
        pytest.param(
            HEAD + b"nmx: mx.example.com\n",
            4,
            "`nmx:` is an unknown key; did you mean `mx:`",
            id="nmx",
        ),
        pytest.param(GOOD.replace(b"mode", b"Mode"), 2, "did you mean `mode:`", id="key-case"),
        pytest.param(
            GOOD.replace(b"max_age", b"max-age"), 3, "did you mean `max_age:`", id="hyphen"
        ),
        pytest.param(
            GOOD.replace(b"max_age", b"maxage"), 3, "did you mean `max_age:`", id="run-together"
        ),
        pytest.param(
            GOOD.replace(b"mode", b"mdoe"), 2, "did you mean `mode:`", id="swapped-letters"
        ),
        pytest.param(
            GOOD.replace(b"version", b"versions"), 1, "did you mean `version:`", id="extra-letter"
        ),
        pytest.param(GOOD.replace(b"mode", b"xyzw"), None, "no `mode` line: add", id="no-mode"),
        pytest.param(HEAD, None, "needs a line `mx: <host>`", id="no-mx"),
        pytest.param(
            GOOD.replace(b"enforce", b"enforced"), 2, "did you mean `mode: enforce`", id="enforced"
        ),
        pytest.param(
            GOOD.replace(b"enforce", b"Enforce"), 2, "did you mean `mode: enforce`", id="mode-case"
        ),
        pytest.param(
            GOOD.replace(b"enforce", b"report"), 2, "did you mean `mode: testing`", id="report"
        ),
        pytest.param(
            GOOD.replace(b"enforce", b"xyz"), 2, "`xyz` is none of `enforce`", id="odd-mode"
        ),
        pytest.param(
            GOOD.replace(b"STSv1", b"stsv1"), 1, "write `version: STSv1`", id="version-case"
        ),
        pytest.param(
            b"version: STSv1; mode: enforce; mx: a; max_age: 1",
            1,
            "on a line of its own",
            id="all-on-one-line",
        ),
        pytest.param(GOOD.replace(b"604800", b"7d"), 3, "seconds in digits", id="unit"),
        pytest.param(GOOD.replace(b"604800", b"12345678901"), 3, "11 digits", id="eleven-digits"),
        pytest.param(GOOD.replace(b"604800", b""), 3, "no value for `max_age`", id="no-value"),
        pytest.param(b"# hello\n" + GOOD, 1, "there are no comments", id="comment"),
        pytest.param(GOOD + b"# see: below\n", 5, "there are no comments", id="comment-colon"),
        pytest.param(b"<html>\n" + GOOD, 1, "HTML page", id="html"),
        pytest.param(b'{"version": "STSv1"}', 1, "not JSON", id="json"),
        pytest.param(GOOD.replace(b"mode: ", b"mode="), 2, "write `mode:`", id="equals-sign"),
        pytest.param(GOOD + b"hello\n", 5, "lines are `key: value`", id="no-colon"),
        pytest.param(
            GOOD.replace(b"mode:", b" mode:"), 2, "starts with white space", id="indented"
        ),
        pytest.param(
            GOOD.replace(b"mode:", b"mode :"), 2, "white space before the colon", id="blank-colon"
        ),
        pytest.param(GOOD + b" \n", 5, "no colon", id="line-of-blanks"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, 1, "byte order mark", id="byte-order-mark"),
        pytest.param(GOOD + b"x: caf\xe9\n", 5, "0xe9 is not UTF-8", id="latin-1"),
        pytest.param(GOOD.replace(b"\n", b"\r"), 1, "a CR without LF", id="cr"),
        pytest.param(GOOD + b"x: \x1b[1m\n", 5, "control character '\\x1b'", id="escape"),
        pytest.param(HEAD + b"mx: *\n", 4, "stands only for the whole first label", id="star"),
        pytest.param(HEAD + b"mx: a.b, c.d\n", 4, "repeat `mx:`", id="comma-list"),
        pytest.param(HEAD + b"mx: .a.b\n", 4, "did you mean `*.a.b`", id="leading-dot"),
        pytest.param(HEAD + b"mx: a.b.\n", 4, "remove the dot", id="trailing-dot"),
        pytest.param(HEAD + b"mx: a_b.c\n", 4, "`_` cannot stand", id="underscore"),
        pytest.param(HEAD + b"mx: a.b:25\n", 4, "remove the port", id="port"),
        pytest.param(HEAD + b"mx: [192.0.2.1]\n", 4, "no host name", id="address-literal"),
        pytest.param(HEAD + b"mx: u@a.b\n", 4, "not an address", id="mail-address"),
        pytest.param(HEAD + b"mx: -a\n", 4, "the name of an MX host", id="hyphen-first"),
        pytest.param(HEAD + "mx: b\u00fc.de\n".encode(), 4, "A-labels", id="u-label"),
        pytest.param(
            b"\n\n" + GOOD.replace(b"enforce", b"off"), 4, "`mode: none`", id="lines-are-counted"
        ),
    ],
)
def test_an_owner_is_told_what_to_fix(body: bytes, line: int | None, said: str) -> None:
    with pytest.raises(PolicySyntaxError) as raised:
        parse_policy(body)
    assert said in str(raised.value)
    assert raised.value.line == line
    if line is not None:
        assert str(raised.value).startswith(f"line {line}: ")


@pytest.mark.req("STS-POL-05", "STS-POL-36")
@pytest.mark.parametrize(
    ("line", "position"),
    [
        (b"x: ab\x00", 5),
        (b"x: \xff", 3),
        (b" x: a", 0),
        (b"x : a", 2),
        (b"xx", 2),
        (b"x:", 2),
    ],
)
def test_a_fault_is_located_in_its_line(line: bytes, position: int) -> None:
    with pytest.raises(PolicySyntaxError) as raised:
        parse_policy(GOOD + line + b"\n")
    assert (raised.value.line, raised.value.position) == (5, position)


@pytest.mark.req("STS-POL-06", "STS-POL-18", "STS-POL-29")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(GOOD + b"\n", "line 5 is empty", id="empty-line"),
        pytest.param(GOOD + b"mx: *\n", "line 5 is ignored: `*` is not", id="bad-mx"),
        pytest.param(GOOD + b"nmx: a.b\n", "line 5: `nmx:` is an unknown key", id="nmx"),
        pytest.param(GOOD.replace(b"604800", b"9999999999"), "counts as 31557600", id="max-age"),
    ],
)
def test_what_is_tolerated_is_told(body: bytes, said: str) -> None:
    (warning,) = parse_policy(body).warnings
    assert said in warning


@pytest.mark.req("STS-POL-16", "STS-POL-17", "STS-POL-18")
@pytest.mark.parametrize(
    ("digits", "max_age"),
    [
        (b"0", 0),
        (b"0000000001", 1),
        (b"31557600", MAX_MAX_AGE_SECONDS),
        (b"31557601", MAX_MAX_AGE_SECONDS),
        (b"4294967295", MAX_MAX_AGE_SECONDS),
        (b"4294967296", MAX_MAX_AGE_SECONDS),
        (b"9999999999", MAX_MAX_AGE_SECONDS),
    ],
)
def test_max_age(digits: bytes, max_age: int) -> None:
    policy = parse_policy(GOOD.replace(b"604800", digits))
    assert policy.max_age == max_age
    assert bool(policy.warnings) is (int(digits) > MAX_MAX_AGE_SECONDS)


@pytest.mark.req("STS-POL-40", "STS-FET-23", "STS-FET-24")
def test_bounds() -> None:
    many = HEAD + b"mx: a.b\n" * ((MAX_POLICY_BYTES - len(HEAD)) // 8)
    policy = parse_policy(many)
    assert len(policy.mx_patterns) > 8000
    filler = b"x: " + b"y" * (MAX_POLICY_BYTES - len(GOOD) - 4) + b"\n"
    assert len(GOOD + filler) == MAX_POLICY_BYTES
    assert parse_policy(GOOD + filler).mode is Mode.ENFORCE
    with pytest.raises(PolicySyntaxError, match="65536 are read"):
        parse_policy(GOOD + filler + b"\n")


@pytest.mark.req("STS-POL-40")
def test_warnings_are_bounded() -> None:
    warnings = parse_policy(GOOD + b"mx: *\n" * 2000).warnings
    assert len(warnings) == MAX_WARNINGS + 1
    assert warnings[-1] == f"{2000 - MAX_WARNINGS} more of this kind"


@pytest.mark.req("STS-POL-42")
def test_the_form_that_every_parser_accepts() -> None:
    policy = StsPolicy(Mode.TESTING, 86400, ("mx1.example.com", "*.example.net"), ())
    assert format_policy(policy) == (
        b"version: STSv1\r\nmode: testing\r\nmx: mx1.example.com\r\nmx: *.example.net\r\n"
        b"max_age: 86400\r\n"
    )
    none = StsPolicy(Mode.NONE, 0, (), ())
    assert format_policy(none) == b"version: STSv1\r\nmode: none\r\nmax_age: 0\r\n"


def test_lines_of_no_policy_at_all() -> None:
    assert policy_lines(b"<html>\r\n\r\n\xff: b", 9) == ("<html>", "\ufffd: b")
    assert policy_lines(b"a\n" * 100, 64) == ("a",) * 64
    assert policy_lines(b"", 64) == ()
