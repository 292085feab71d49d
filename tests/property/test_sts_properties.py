# SPDX-License-Identifier: Apache-2.0
"""Rules of RFC 8461, in our words, each held against arbitrary input."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from strictmail.core.errors import PolicySyntaxError, RecordSyntaxError
from strictmail.core.sts.fetchrules import is_allowed_address, judge_body, judge_response
from strictmail.core.sts.match import is_mx_pattern, match_any, match_mx
from strictmail.core.sts.policy import format_policy, parse_policy, split_lines
from strictmail.core.sts.record import select_record
from strictmail.core.sts.values import MAX_MAX_AGE_SECONDS, FetchedPolicy, Mode, StsPolicy

if TYPE_CHECKING:
    import random

ALNUM = string.ascii_letters + string.digits
POLICY_IDS = st.text(ALNUM, min_size=1, max_size=32)
NAMES = st.builds("{}{}".format, st.sampled_from(ALNUM), st.text(ALNUM + "_.-", max_size=31))
VALUES = st.text([chr(c) for c in range(0x21, 0x7F) if chr(c) not in ";="], min_size=1, max_size=20)
EXTENSIONS = st.builds("{}={}".format, NAMES.filter(lambda name: name != "id"), VALUES)
WSP = st.text(" \t", max_size=3)
DELIMITERS = st.builds("{};{}".format, WSP, WSP)

LABELS = st.one_of(
    st.sampled_from(["a", "b", "mx", "mail-1", "xn--bcher-kva", "0", "x" * 63]),
    st.text("abz019", min_size=1, max_size=6),
)
DOMAINS = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
PATTERNS = st.one_of(DOMAINS, DOMAINS.map("*.{}".format))


@st.composite
def records(draw: st.DrawFn) -> tuple[str, str]:
    """A record that keeps to the grammar, and its id."""
    policy_id = draw(POLICY_IDS)
    fields = draw(st.lists(EXTENSIONS, max_size=4))
    fields.insert(draw(st.integers(0, len(fields))), f"id={policy_id}")
    text = "v=STSv1"
    for number, field in enumerate(fields):
        # The first `;` without blanks before it (C-17).
        text += (";" + draw(WSP) if number == 0 else draw(DELIMITERS)) + field
    return text + draw(st.one_of(st.just(""), DELIMITERS)), policy_id


@st.composite
def policies(draw: st.DrawFn) -> StsPolicy:
    """Any policy that a parser could return."""
    mode = draw(st.sampled_from(Mode))
    patterns = draw(st.lists(PATTERNS, min_size=mode is not Mode.NONE, max_size=5))
    max_age = draw(st.integers(0, MAX_MAX_AGE_SECONDS))
    return StsPolicy(mode, max_age, tuple(patterns), ())


def _outcome(rrset: list[list[bytes]]) -> str:
    try:
        return "id " + select_record(rrset).policy_id
    except RecordSyntaxError as error:
        return error.reason_code


@pytest.mark.req("STS-REC-15", "STS-REC-16", "STS-REC-18", "STS-REC-20")
class TestFieldsInAnyOrderUnknownOnesPassedOver:
    """§3.1, §3.2: fields in any order, blanks around `;`, unknown fields mean nothing."""

    @given(records())
    def test_the_id_is_found(self, record: tuple[str, str]) -> None:
        text, policy_id = record
        assert select_record([[text.encode()]]).policy_id == policy_id


@pytest.mark.req("STS-REC-03")
class TestStringsAreJoinedWithNothingBetween:
    """§3.1: the strings of a record are one text, however they are cut."""

    @given(st.one_of(records().map(lambda r: r[0]), st.text(max_size=40)), st.randoms())
    def test_any_cut(self, text: str, rng: random.Random) -> None:
        data = text.encode("utf-8", "surrogatepass")
        cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(0, 5)))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert _outcome([pieces]) == _outcome([[data]])


@pytest.mark.req("STS-REC-04", "STS-REC-05")
class TestForeignRecordsAreDroppedAndOneIsLeft:
    """§3.1: what does not start with the version does not count; exactly one may be left."""

    FOREIGN = st.binary(max_size=30).filter(lambda r: not r.startswith(b"v=STSv1"))

    @given(records(), st.lists(FOREIGN, max_size=4), st.randoms())
    def test_foreign_records_and_order_do_not_matter(
        self, record: tuple[str, str], foreign: list[bytes], rng: random.Random
    ) -> None:
        rrset = [[text] for text in (record[0].encode(), *foreign)]
        rng.shuffle(rrset)
        assert _outcome(rrset) == f"id {record[1]}"

    @given(records(), records(), st.binary(max_size=20))
    def test_two_are_none(
        self, one: tuple[str, str], other: tuple[str, str], rubbish: bytes
    ) -> None:
        assert _outcome([[one[0].encode()], [other[0].encode()]]) == "several"
        assert _outcome([[one[0].encode()], [b"v=STSv1;" + rubbish]]) == "several"

    @given(records(), records())
    def test_a_doubtful_one_is_never_a_second(
        self, one: tuple[str, str], other: tuple[str, str]
    ) -> None:
        doubtful = other[0].replace(";", " ;", 1).encode()
        assert _outcome([[doubtful], [one[0].encode()]]) == f"id {one[1]}"


@pytest.mark.req("STS-REC-06", "STS-REC-12", "STS-REC-17", "STS-REC-22", "SEC-42")
class TestABrokenRecordIsNoRecord:
    """§3.1: the whole record keeps to the grammar, or there is none."""

    @given(st.lists(st.lists(st.binary(max_size=40), max_size=3), max_size=4))
    def test_arbitrary_records_never_raise_anything_else(self, rrset: list[list[bytes]]) -> None:
        _outcome(rrset)

    @given(records(), st.integers(0, 200), st.sampled_from("\0\n\r\x0b\x7f\x80\xa0\xff"))
    def test_one_foreign_octet_spoils_it(
        self, record: tuple[str, str], position: int, octet: str
    ) -> None:
        text = record[0]
        at = len("v=STSv1;") + position % (len(text) - 7)
        assert _outcome([[(text[:at] + octet + text[at:]).encode("latin-1")]]) == "syntax"

    @given(st.text(max_size=40).filter(lambda t: not (t.isascii() and t.isalnum() and len(t) < 33)))
    def test_nothing_else_is_an_id(self, text: str) -> None:
        assume(";" not in text)
        data = f"v=STSv1; id={text}".encode("utf-8", "surrogatepass")
        assert _outcome([[data]]) == "syntax"


@pytest.mark.req("STS-POL-01", "STS-POL-04", "STS-POL-11", "STS-POL-31", "STS-POL-42")
class TestAPolicyIsWhatItsLinesSay:
    """§3.2: lines in any order, ended by LF or CRLF, blanks after the colon, unknown keys."""

    @given(policies())
    def test_format_and_parse_are_inverse(self, policy: StsPolicy) -> None:
        again = parse_policy(format_policy(policy))
        assert (again.mode, again.max_age, again.mx_patterns, again.warnings) == (
            policy.mode,
            policy.max_age,
            policy.mx_patterns,
            (),
        )
        assert format_policy(again) == format_policy(policy)

    @given(policies(), st.randoms(), WSP, WSP, st.booleans())
    def test_order_blanks_and_line_ends_do_not_matter(
        self, policy: StsPolicy, rng: random.Random, before: str, behind: str, ended: bool
    ) -> None:
        lines = [*format_policy(policy).decode().split("\r\n")[:-1], "x-y.z: a: b\u2028c"]
        rng.shuffle(lines)
        text = ""
        for line in lines:
            key, _, value = line.partition(": ")
            text += f"{key}:{before}{value}{behind}" + rng.choice(("\n", "\r\n"))
        body = (text if ended else text.rstrip("\r\n")).encode()
        again = parse_policy(body)
        assert (again.mode, again.max_age) == (policy.mode, policy.max_age)
        assert sorted(again.mx_patterns) == sorted(policy.mx_patterns)
        assert len(again.policy_strings) == len(lines)


@pytest.mark.req("STS-POL-30")
class TestOfARepeatedFieldTheFirstCounts:
    """§3.2: all but the first of a repeated field are ignored, `mx` apart."""

    @given(policies(), policies())
    def test_the_second_policy_in_a_body_adds_patterns_only(
        self, one: StsPolicy, other: StsPolicy
    ) -> None:
        both = parse_policy(format_policy(one) + format_policy(other))
        assert (both.mode, both.max_age) == (one.mode, one.max_age)
        assert both.mx_patterns == one.mx_patterns + other.mx_patterns


@pytest.mark.req("STS-POL-02", "STS-POL-35", "STS-POL-36", "STS-FET-30", "SEC-42")
class TestABrokenBodyIsNoPolicy:
    """§3.2, §3.3: a body that breaks the grammar is a failed fetch, and no half policy."""

    @given(st.one_of(st.binary(max_size=200), st.text(max_size=80).map(str.encode)))
    def test_arbitrary_bodies_never_raise_anything_else(self, body: bytes) -> None:
        accepted = isinstance(judge_body(body), FetchedPolicy)
        try:
            policy = parse_policy(body)
        except PolicySyntaxError as error:
            assert not accepted
            message = str(error)
        else:
            assert accepted
            assert all(map(is_mx_pattern, policy.mx_patterns))
            message = "".join(policy.warnings)
        assert message.isascii()
        assert not message or message.isprintable()

    @given(policies(), st.integers(0, 500), st.sampled_from(b"\0\r\x0b\x0c\x1b\x7f\xff\xc0"))
    def test_one_foreign_octet_spoils_it(
        self, policy: StsPolicy, position: int, octet: int
    ) -> None:
        body = format_policy(policy).replace(b"\r\n", b"\n")
        # Not right before a LF: there a CR is part of the line end.
        places = [at for at in range(len(body)) if body[at : at + 1] != b"\n"]
        at = places[position % len(places)]
        with pytest.raises(PolicySyntaxError):
            parse_policy(body[:at] + bytes([octet]) + body[at:])

    @given(policies(), st.sampled_from(["version", "mode", "max_age"]))
    def test_without_a_required_field_there_is_none(self, policy: StsPolicy, key: str) -> None:
        lines = format_policy(policy).split(b"\r\n")
        body = b"\n".join(line for line in lines if not line.startswith(key.encode() + b":"))
        with pytest.raises(PolicySyntaxError, match=f"no `{key}`"):
            parse_policy(body)

    @given(st.text(max_size=60))
    def test_lines_keep_every_character(self, text: str) -> None:
        assert "\n".join(split_lines(text)) == text.replace("\r\n", "\n").removesuffix("\n")


@pytest.mark.req("STS-APP-17", "STS-APP-19", "STS-APP-20", "STS-APP-21", "STS-POL-41")
class TestAStarIsExactlyOneLabel:
    """§4.1: `*.` and a domain match the domain with one more label, and nothing else."""

    @given(LABELS, DOMAINS)
    def test_one_label_more(self, label: str, domain: str) -> None:
        assert match_mx(f"{label}.{domain}", f"*.{domain}")
        assert match_mx(f"{label}.{domain}.".upper(), f"*.{domain}".upper())

    @given(DOMAINS, DOMAINS)
    def test_as_many_labels_and_the_same_rest(self, host: str, domain: str) -> None:
        expected = host.split(".")[1:] == domain.split(".")
        assert match_mx(host, f"*.{domain}") is expected

    @given(LABELS, LABELS, DOMAINS)
    def test_never_none_two_or_half_a_label(self, a: str, b: str, domain: str) -> None:
        assert not match_mx(domain, f"*.{domain}")
        assert not match_mx(f"{a}.{b}.{domain}", f"*.{domain}")
        assert not match_mx(f"{a}.{b}{domain}", f"*.{domain}")

    @given(DOMAINS, DOMAINS)
    def test_a_literal_is_the_whole_name(self, host: str, pattern: str) -> None:
        assert match_mx(host, pattern) is (host == pattern)

    @given(DOMAINS, st.lists(PATTERNS, max_size=6), st.randoms())
    def test_one_hit_suffices_in_any_order(
        self, host: str, patterns: list[str], rng: random.Random
    ) -> None:
        shuffled = rng.sample(patterns, len(patterns))
        assert match_any(host, shuffled) is any(match_mx(host, p) for p in patterns)

    @given(st.text(max_size=30), st.text(max_size=30))
    def test_what_is_no_pattern_matches_nothing(self, host: str, pattern: str) -> None:
        assert not match_mx(host, pattern) or is_mx_pattern(pattern)


@pytest.mark.req("STS-FET-16", "STS-FET-19", "STS-FET-20", "STS-FET-45")
class TestOnlyA200OfTextPlainIsAPolicy:
    """§3.2, §3.3: other statuses and types never are, whatever else the head says."""

    @given(st.integers(100, 999), st.none() | st.text(max_size=20), st.none() | st.text(max_size=9))
    def test_any_head(self, status: int, content_type: str | None, coding: str | None) -> None:
        failure = judge_response(status, content_type, coding)
        if failure is None:
            assert status == 200
            assert (content_type or "").lower().strip(" \t").startswith("text/plain")
        else:
            assert failure.reason.isprintable()

    @given(st.text(max_size=40))
    def test_parameters_do_not_matter(self, parameters: str) -> None:
        assert judge_response(200, f"text/plain;{parameters}", None) is None

    @given(st.ip_addresses())
    def test_an_allowed_address_is_global(self, address: object) -> None:
        if is_allowed_address(str(address), ()):
            assert not any(
                getattr(address, kind)
                for kind in ("is_loopback", "is_link_local", "is_multicast", "is_unspecified")
            )

    @given(st.text(max_size=20))
    def test_any_text_is_judged(self, text: str) -> None:
        assert isinstance(is_allowed_address(text, ()), bool)
