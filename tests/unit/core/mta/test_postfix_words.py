# SPDX-License-Identifier: Apache-2.0
"""What Postfix is told, in both dialects; the replies that are asserted were accepted by one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from strictmail.core.decision import REASONS, Decision, Level, PolicyInfo
from strictmail.core.errors import EncodingError
from strictmail.core.mta.netstring import Decoder
from strictmail.core.mta.postfix import encode_reply, encode_reply_tlsrpt, is_host_name
from strictmail.core.mta.socketmap import MAX_REPLY_BYTES
from strictmail.core.overrides import Override, OverrideAction
from strictmail.core.sts.values import Mode

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LINES = ("version: STSv1", "mode: enforce", "mx: mx1.sts.test", "max_age: 86400")
POLICY = PolicyInfo(
    policy_id="1",
    mode=Mode.ENFORCE,
    max_age=86400,
    mx_patterns=("mx1.sts.test",),
    policy_strings=LINES,
    fetched_at=NOW,
    expires_at=NOW + timedelta(days=1),
)
SECURE = Decision("sts.test", Level.SECURE, "enforce", allowed_mx=("mx1.sts.test",), policy=POLICY)
TESTING = replace(POLICY, mode=Mode.TESTING)
OVERRIDE = Override("sts.test", OverrideAction.SECURE, "why", NOW, NOW + timedelta(days=1))
ATTRIBUTES = (
    b"policy_type=sts policy_domain=sts.test"
    b" { policy_string = version: STSv1 } { policy_string = mode: enforce }"
    b" { policy_string = mx: mx1.sts.test } { policy_string = max_age: 86400 }"
    b" mx_host_pattern=mx1.sts.test"
)


def payload(reply: bytes) -> bytes:
    (only,) = Decoder(max_bytes=MAX_REPLY_BYTES).feed(reply)
    return only


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        pytest.param(Decision("a.test", Level.NONE, "no-policy"), b"NOTFOUND ", id="none"),
        pytest.param(Decision("a.test", Level.MAY, "mode-testing"), b"OK may", id="may"),
        pytest.param(Decision("a.test", Level.ENCRYPT, "override"), b"OK encrypt", id="encrypt"),
        pytest.param(Decision("a.test", Level.DANE, "dane-partial"), b"OK dane", id="dane"),
        pytest.param(Decision("a.test", Level.DANE_ONLY, "dane"), b"OK dane-only", id="dane-only"),
    ],
)
def test_levels_in_both_dialects(decision: Decision, expected: bytes) -> None:
    assert payload(encode_reply(decision)) == expected
    assert payload(encode_reply_tlsrpt(decision)) == expected


@pytest.mark.req("STS-APP-37", "STS-APP-22")
def test_secure_lists_the_allowed_names_in_order_and_asks_for_sni() -> None:
    decision = replace(SECURE, allowed_mx=("mx1.sts.test", "mx2.sts.test"))
    assert (
        payload(encode_reply(decision))
        == b"OK secure match=mx1.sts.test:mx2.sts.test servername=hostname"
    )


@pytest.mark.parametrize(
    "allowed_mx",
    [
        pytest.param((), id="none: Postfix would take the next-hop's name instead"),
        pytest.param((".sts.test",), id="a leading dot: any depth"),
        pytest.param(("*.sts.test",), id="a wildcard"),
        pytest.param(("hostname",), id="stands for any MX name"),
        pytest.param(("nexthop",), id="stands for the next-hop"),
        pytest.param(("dot-nexthop",), id="stands for names below it"),
        pytest.param(("a:b",), id="a second name"),
        pytest.param(("a ciphers=null",), id="a second attribute"),
        pytest.param(("a,b",), id="another separator"),
        pytest.param(("a{b}",), id="braces"),
        pytest.param(("a\nb",), id="a second line"),
        pytest.param(("",), id="the root"),
        pytest.param(("A.test",), id="upper case was not folded: nobody looked at it"),
        pytest.param(("mx.test.",), id="a trailing dot"),
        pytest.param(("a..b",), id="an empty label"),
        pytest.param(("-a.test",), id="a hyphen in front"),
        pytest.param(("192.0.2.1",), id="an address"),
        pytest.param(("bücher.test",), id="a U-label"),
        pytest.param((".".join(["a" * 63] * 4),), id="longer than a name"),
        pytest.param(("a" * 64 + ".test",), id="longer than a label"),
    ],
)
@pytest.mark.req("SEC-21")
def test_what_may_not_enter_match(allowed_mx: tuple[str, ...]) -> None:
    for encode in (encode_reply, encode_reply_tlsrpt):
        with pytest.raises(EncodingError):
            encode(replace(SECURE, allowed_mx=allowed_mx))


@pytest.mark.req("SEC-21")
def test_a_name_that_cannot_be_written_is_left_out_and_the_others_stay() -> None:
    reply = encode_reply(replace(SECURE, allowed_mx=("a b", "mx1.sts.test", "hostname")))
    assert b"match=mx1.sts.test servername" in reply


def test_host_names_with_digits_and_underscores() -> None:
    assert is_host_name("mx_1.sts.test")
    assert is_host_name("1.sts.test")
    assert is_host_name("xn--bcher-kva.test")


@pytest.mark.req("STS-APP-55", "STS-APP-59", "SEC-20")
@pytest.mark.parametrize("reason", sorted(REASONS))
def test_a_deferral_names_its_reason_in_one_line(reason: str) -> None:
    decision = Decision("a.test", Level.DEFER, reason)
    reply = payload(encode_reply(decision))
    assert reply.startswith(b"TEMP " + reason.encode())
    assert len(reply) <= len("TEMP ") + 200
    assert reply.decode("ascii").isprintable()
    assert payload(encode_reply_tlsrpt(decision)) == reply


def test_a_deferral_with_a_reason_of_the_future() -> None:
    decision = Decision("a.test", Level.DEFER, "new-word")
    assert payload(encode_reply(decision)) == b"TEMP new-word"


def test_attributes_of_an_enforced_policy() -> None:
    assert payload(encode_reply_tlsrpt(SECURE)) == (
        b"OK secure match=mx1.sts.test servername=hostname " + ATTRIBUTES
    )


@pytest.mark.parametrize("level", [Level.MAY, Level.ENCRYPT, Level.DANE])
def test_annotated_testing_has_no_match(level: Level) -> None:
    # `match` is an error at these levels.
    decision = Decision("sts.test", level, "mode-testing", policy=TESTING, annotate=True)
    assert payload(encode_reply_tlsrpt(decision)) == b"OK " + level.encode() + b" " + ATTRIBUTES
    assert payload(encode_reply(decision)) == b"OK " + level.encode()


@pytest.mark.parametrize(
    "decision",
    [
        pytest.param(
            Decision("sts.test", Level.MAY, "mode-testing", policy=TESTING),
            id="nobody asked for it",
        ),
        pytest.param(
            Decision("sts.test", Level.DANE_ONLY, "dane", policy=POLICY, annotate=True),
            id="DANE decides, not the policy",
        ),
        pytest.param(replace(SECURE, policy=None), id="no policy"),
        pytest.param(
            replace(SECURE, override=OVERRIDE),
            id="an override is not the domain's policy (STS-APP-66)",
            marks=pytest.mark.req("STS-APP-66"),
        ),
        pytest.param(replace(SECURE, policy=TESTING), id="secure, but not for the policy"),
    ],
)
def test_no_attributes(decision: Decision) -> None:
    assert encode_reply_tlsrpt(decision) == encode_reply(decision)


@pytest.mark.req("SEC-21")
@pytest.mark.parametrize(
    ("line", "shown"),
    [
        pytest.param("x: } ciphers=null {", "x: ? ciphers=null ?", id="braces"),
        pytest.param("x: a\tb\x00\x7f", "x: a b??", id="control characters; a tab is a blank"),
        pytest.param("x: ü\u2028", "x: ??", id="outside ASCII"),
        pytest.param("x: a=b, c:d", "x: a=b, c:d", id="separators are safe inside braces"),
        pytest.param("  x: a  ", "x: a", id="Postfix strips blanks, so they are not sent"),
        pytest.param("", "", id="an empty line"),
    ],
)
def test_policy_text_cannot_leave_its_braces(line: str, shown: str) -> None:
    policy = replace(POLICY, policy_strings=(line,))
    reply = payload(encode_reply_tlsrpt(replace(SECURE, policy=policy)))
    assert f" {{ policy_string = {shown} }} mx_host_pattern=" in reply.decode("ascii")


def test_too_long_attributes_leave_together() -> None:
    # A part of the patterns would make Postfix skip good hosts.
    policy = replace(POLICY, mx_patterns=tuple(f"mx{n}.sts.test" for n in range(5000)))
    assert payload(encode_reply_tlsrpt(replace(SECURE, policy=policy))) == (
        b"OK secure match=mx1.sts.test servername=hostname policy_type=sts policy_domain=sts.test"
    )


def test_the_longest_reply_with_attributes() -> None:
    shorter = len(payload(encode_reply_tlsrpt(SECURE)))
    pad = "x" * (MAX_REPLY_BYTES - shorter - len(" { policy_string =  }"))
    fitting = replace(SECURE, policy=replace(POLICY, policy_strings=(*LINES, pad)))
    assert len(payload(encode_reply_tlsrpt(fitting))) == MAX_REPLY_BYTES
    beyond = replace(SECURE, policy=replace(POLICY, policy_strings=(*LINES, pad + "x")))
    assert b"policy_string" not in payload(encode_reply_tlsrpt(beyond))


def test_a_match_list_beyond_the_limit_is_an_error() -> None:
    names = tuple(f"mx{n:05}.sts.test" for n in range(7000))
    with pytest.raises(EncodingError):
        encode_reply(replace(SECURE, allowed_mx=names))


@pytest.mark.parametrize(
    "pattern", ["*", "*.*.test", "mx*.test", "a b", "} x", "*.", ".sts.test", "-x.test"]
)
def test_a_pattern_that_is_none_removes_all_patterns(pattern: str) -> None:
    policy = replace(POLICY, mx_patterns=("mx1.sts.test", pattern))
    reply = payload(encode_reply_tlsrpt(replace(SECURE, policy=policy)))
    assert reply.endswith(b"policy_domain=sts.test")


@pytest.mark.parametrize("nexthop", ["-a.test", "a.test-", "[mx.test]:25", "192.0.2.1"])
def test_a_policy_domain_that_postfix_refuses_removes_all_attributes(nexthop: str) -> None:
    decision = replace(SECURE, nexthop=nexthop)
    assert encode_reply_tlsrpt(decision) == encode_reply(decision)


def test_wildcard_patterns_go_as_they_are() -> None:
    policy = replace(POLICY, mx_patterns=("*.sts.test",))
    reply = payload(encode_reply_tlsrpt(replace(SECURE, policy=policy)))
    assert reply.endswith(b"mx_host_pattern=*.sts.test")
