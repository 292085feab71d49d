# SPDX-License-Identifier: Apache-2.0
"""The policy: its lines, its values, and how it fits the MX records of the day."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.check import builders as b

from strictmail.core.check.result import Severity
from strictmail.core.check.rules import policy
from strictmail.core.check.rules import policykinds as kinds
from strictmail.core.mxset import MxHost, MxSet, MxStatus
from strictmail.core.sts.policy import parse_policy
from strictmail.core.sts.values import FetchedPolicy, FetchFailure
from strictmail.core.tlsrpt.results import ResultType

if TYPE_CHECKING:
    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.check.kinds import Kind

WARNING, CRITICAL, INFO, OK, UNKNOWN = (
    Severity.WARNING,
    Severity.CRITICAL,
    Severity.INFO,
    Severity.OK,
    Severity.UNKNOWN,
)

TESTING_BODY: Final = b.BODY.replace(b"enforce", b"testing")
NONE_BODY: Final = b"version: STSv1\nmode: none\nmax_age: 86400\n"
M365: Final = "example-com.h-v1.mx.microsoft"


def body(*mx: str, mode: str = "enforce", max_age: int = 2_592_000, extra: str = "") -> bytes:
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {name}" for name in mx)]
    return "\n".join([*lines, f"max_age: {max_age}", extra]).rstrip("\n").encode() + b"\n"


def serving(*mx: str, hosts: tuple[str, ...] = (b.MX1, b.MX2), **changes: Any) -> DomainFacts:
    """A policy with these patterns, for a domain with these hosts."""
    return b.domain_facts(body=body(*mx, **changes), hosts_named=hosts)


def with_alias(*mx: str, canonical_name: str) -> DomainFacts:
    facts = serving(*mx)
    first, *others = facts.hosts
    found = b.addresses(first.name, "192.0.2.1", canonical_name=canonical_name)
    return replace(facts, hosts=(replace(first, addresses=found), *others))


def with_extra(*lines: str, position: int = 3) -> DomainFacts:
    """The good policy with more lines in it."""
    good = b.BODY.decode().split("\r\n")
    return b.domain_facts(body="\n".join([*good[:position], *lines, *good[position:]]).encode())


NO_MAIL: Final = b.domain_facts(
    mx_answer=b.mx_answer((0, "")), mx=MxSet(MxStatus.NULL, secure=True), hosts=()
)
IMPLICIT: Final = replace(
    serving(b.MX1),
    mx=MxSet(MxStatus.IMPLICIT, secure=True, hosts=(MxHost(b.DOMAIN, 0),)),
    hosts=(),
)
INSECURE_NONE: Final = replace(
    b.domain_facts(body=NONE_BODY), mx=replace(b.domain_facts().mx, secure=False)
)
EARLIER: Final = b.cached_entry(body(b.MX1), policy_id="1")
UNREACHABLE: Final = FetchFailure(ResultType.STS_POLICY_FETCH_ERROR, "status 500", "http-status")

CASES: Final[dict[str, tuple[Kind, DomainFacts, Severity]]] = {
    "invalid": (kinds.INVALID, b.domain_facts(body=b"mode: enforce\n"), CRITICAL),
    "misspelt": (kinds.MISSPELT, with_extra("nmx: mx3.example.com"), WARNING),
    "bad-mx": (kinds.BAD_MX, with_extra("mx: 192.0.2.1:25"), WARNING),
    "empty-line": (kinds.EMPTY_LINES, b.domain_facts(body=b.BODY + b"\r\n"), WARNING),
    "capped": (kinds.CAPPED, serving(b.MX1, b.MX2, max_age=31_557_601), WARNING),
    "repeated": (kinds.REPEATED, with_extra("mode: testing"), WARNING),
    "unknown-key": (kinds.UNKNOWN_KEY, with_extra("id: 20260301"), INFO),
    "short": (kinds.SHORT, serving(b.MX1, b.MX2, max_age=86_399), WARNING),
    "weak": (kinds.WEAK, serving(b.MX1, b.MX2, max_age=604_799), INFO),
    "testing": (kinds.TESTING, b.domain_facts(body=TESTING_BODY), INFO),
    "testing-long": (
        kinds.TESTING_LONG,
        b.domain_facts(body=TESTING_BODY, record=(b"v=STSv1; id=20251101;",)),
        WARNING,
    ),
    "none": (kinds.MODE_NONE, INSECURE_NONE, WARNING),
    "none-with-dane": (kinds.MODE_NONE, b.domain_facts(body=NONE_BODY), INFO),
    "enforce": (kinds.ENFORCE, b.domain_facts(), OK),
    "backup-not-allowed": (kinds.NOT_ALLOWED, serving(b.MX1), WARNING),
    "first-not-allowed": (kinds.NOT_ALLOWED, serving(b.MX2), CRITICAL),
    "alone-not-allowed": (
        kinds.NOT_ALLOWED,
        serving("mail.example.com", hosts=(b.MX1,)),
        CRITICAL,
    ),
    "not-allowed-in-testing": (kinds.NOT_ALLOWED, serving(b.MX2, mode="testing"), WARNING),
    "implicit": (kinds.NOT_ALLOWED, IMPLICIT, CRITICAL),
    "alias-target": (
        kinds.ALIAS_TARGET,
        with_alias("real.example.net", b.MX2, canonical_name="real.example.net"),
        CRITICAL,
    ),
    "stale": (kinds.STALE, serving(b.MX1, b.MX2, "old.example.com"), INFO),
    "wildcard": (kinds.BY_WILDCARD, serving("*.example.com"), INFO),
    "too-wide": (kinds.TOO_WIDE, serving(b.MX1, b.MX2, "*.com"), WARNING),
    "receiver": (kinds.RECEIVER, serving("*.mx.microsoft", hosts=(M365,)), INFO),
    "same-id": (kinds.SAME_ID, b.domain_facts(cached=b.cached_entry(TESTING_BODY)), WARNING),
    "cached-refuses": (kinds.CACHED_REFUSES, b.domain_facts(cached=EARLIER), WARNING),
    "cached-refuses-all": (
        kinds.CACHED_REFUSES,
        b.domain_facts(cached=EARLIER, policy=UNREACHABLE, hosts_named=(b.MX2,)),
        CRITICAL,
    ),
    "no-mail": (kinds.NO_MAIL, NO_MAIL, INFO),
    "all-allowed": (kinds.ALL_ALLOWED, b.domain_facts(), OK),
}


def test_every_kind_has_a_case() -> None:
    assert {case[0].id for case in CASES.values()} == {kind.id for kind in policy.KINDS}


@pytest.mark.parametrize(("kind", "facts", "severity"), CASES.values(), ids=CASES)
def test_a_kind_is_brought_forth(kind: Kind, facts: DomainFacts, severity: Severity) -> None:
    found = b.of_kind(b.judged(policy.judge, facts), kind)
    assert [finding.severity for finding in found] == [severity]


def test_the_good_domain_is_good() -> None:
    findings = b.judged(policy.judge, b.domain_facts())
    assert {(finding.id, finding.severity) for finding in findings} == {
        (kinds.ENFORCE.id, OK),
        (kinds.ALL_ALLOWED.id, OK),
    }


INVALID_BODIES: Final = [
    pytest.param("mode:enforce", "mode : enforce", 2, ": enforce", id="blank-before-colon"),
    pytest.param("mode:enforce", " mode: enforce", 2, " mode: enforce", id="blank-before-key"),
    pytest.param("mode:enforce", "mode: enforced", 2, "enforced", id="enforced"),
    pytest.param("mode:enforce", "mode:  Enforce", 2, "Enforce", id="mode-case"),
    pytest.param("mode:enforce", "mode = enforce", 2, "", id="no-colon"),
    pytest.param("mode:enforce", "# mode", 2, "", id="comment"),
    pytest.param("mode:enforce", "Mode: enforce", 2, "Mode: enforce", id="key-case"),
    pytest.param("mode:enforce", "mode: enf\rorce", 2, "\rorce", id="lone-cr"),
    pytest.param("mode:enforce", "mode:", 2, "", id="no-value"),
    pytest.param("version: STSv1", "version: stsv1", 1, "stsv1", id="version-case"),
    pytest.param("version: STSv1", "\ufeffversion: STSv1", 1, "\ufeffversion: STSv1", id="bom"),
    pytest.param("max_age: 604800", "max_age: 1w", 4, "1w", id="unit"),
    pytest.param("max_age: 604800", "maxage: 604800", 4, "maxage: 604800", id="maxage"),
    pytest.param("max_age: 604800", "x: y", 4, "", id="missing-at-the-end"),
    pytest.param("mx: mx1.example.com", "mx: [192.0.2.1]", 3, "[192.0.2.1]", id="address"),
    pytest.param("mx: mx1.example.com", "mx: mx.bücher.example", 3, "mx.bücher.example", id="u"),
    pytest.param("mx: mx1.example.com", "nmx: a.example", 3, "nmx: a.example", id="nmx"),
]
TEMPLATE: Final = "version: STSv1\nmode:enforce\nmx: mx1.example.com\nmax_age: 604800\n"


@pytest.mark.req("STS-POL-05", "STS-POL-07", "STS-POL-09", "STS-POL-12", "STS-POL-14")
@pytest.mark.parametrize(("line", "broken", "number", "rest"), INVALID_BODIES)
def test_the_caret_stands_under_the_place(line: str, broken: str, number: int, rest: str) -> None:
    facts = b.domain_facts(body=TEMPLATE.replace(line, broken).encode())
    finding = b.the_one(b.judged(policy.judge, facts), kinds.INVALID)
    assert finding.evidence[0].label == f"policy line {number}"
    assert finding.evidence[0].text == broken
    assert b.pointed_at(finding) == rest


def test_empty_lines_before_a_fault_count() -> None:
    text = TEMPLATE.replace("mode:", "\n\nmode :")
    finding = b.the_one(b.judged(policy.judge, b.domain_facts(body=text.encode())), kinds.INVALID)
    assert finding.evidence[0].label == "policy line 4"
    assert b.pointed_at(finding) == ":enforce"


@pytest.mark.req("STS-POL-36")
def test_what_is_not_utf8_is_pointed_at() -> None:
    text = TEMPLATE.encode().replace(b"max_age", b"note: caf\xe9 x\nmax_age")
    finding = b.the_one(b.judged(policy.judge, b.domain_facts(body=text)), kinds.INVALID)
    assert finding.evidence[0].label == "policy line 4"
    assert b.pointed_at(finding) == "\ufffd x"


@pytest.mark.parametrize("head", [TEMPLATE, "version: STSv1\nmode: enforce\nx: y\nx: y\n"])
@pytest.mark.parametrize("fault", ["mode : x", "note: \x07", "note: caf\udce9"])
def test_a_fault_behind_the_lines_that_are_kept_has_its_number(head: str, fault: str) -> None:
    text = head + "x: y\n" * 70 + fault + "\n"
    facts = b.domain_facts(body=text.encode("utf-8", "surrogateescape"))
    finding = b.the_one(b.judged(policy.judge, facts), kinds.INVALID)
    assert (finding.evidence[0].label, finding.evidence[0].caret) == ("policy line 75", None)


def test_an_empty_body_has_a_place_too() -> None:
    finding = b.the_one(b.judged(policy.judge, b.domain_facts(body=b"")), kinds.INVALID)
    assert (finding.evidence[0].label, finding.evidence[0].caret) == ("policy line 1", 0)


@pytest.mark.parametrize("hosts", [(b.MX1, b.MX2), (M365,)])
def test_the_policy_to_put_in_place_is_one(hosts: tuple[str, ...]) -> None:
    facts = b.domain_facts(body=b"<html>", hosts_named=hosts)
    finding = b.the_one(b.judged(policy.judge, facts), kinds.INVALID)
    proposed = replace(facts, policy=FetchedPolicy(parse_policy(finding.paste.encode()), b""))
    findings = b.judged(policy.judge, proposed)
    b.the_one(findings, kinds.ALL_ALLOWED)
    b.the_one(findings, kinds.TESTING)


@pytest.mark.parametrize(
    ("case", "kind", "rest", "paste"),
    [
        ("misspelt", kinds.MISSPELT, "nmx: mx3.example.com", "mx: mx3.example.com"),
        ("bad-mx", kinds.BAD_MX, "192.0.2.1:25", ""),
        ("capped", kinds.CAPPED, "31557601", "max_age: 31557600"),
        ("repeated", kinds.REPEATED, "mode: testing", ""),
        ("unknown-key", kinds.UNKNOWN_KEY, "id: 20260301", ""),
    ],
)
def test_lines_of_a_valid_policy_are_pointed_at(
    case: str, kind: Kind, rest: str, paste: str
) -> None:
    finding = b.the_one(b.judged(policy.judge, CASES[case][1]), kind)
    assert b.pointed_at(finding) == rest
    assert finding.paste == paste


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.com", True),
        ("*.co.uk", True),
        ("*.outlook.com", True),
        ("*.example.com", False),
        ("com", False),
        ("*.example.co.uk", False),
    ],
)
def test_which_wildcards_are_too_wide(pattern: str, *, expected: bool) -> None:
    findings = b.judged(policy.judge, serving(b.MX1, b.MX2, pattern))
    assert bool(b.of_kind(findings, kinds.TOO_WIDE)) is expected


@pytest.mark.req("STS-APP-17", "STS-APP-18", "STS-APP-20")
def test_the_line_that_is_missing_can_be_pasted() -> None:
    finding = b.the_one(b.judged(policy.judge, CASES["first-not-allowed"][1]), kinds.NOT_ALLOWED)
    assert (finding.subject, finding.paste) == (b.MX1, f"mx: {b.MX1}")
    aliased = b.the_one(b.judged(policy.judge, CASES["alias-target"][1]), kinds.ALIAS_TARGET)
    assert aliased.paste == f"mx: {b.MX1}"
    implicit = b.the_one(b.judged(policy.judge, IMPLICIT), kinds.NOT_ALLOWED)
    assert implicit.paste == f"mx: {b.DOMAIN}"


def test_the_other_of_two_equal_hosts_keeps_mail_flowing() -> None:
    facts = serving(b.MX1)
    equal = tuple(replace(host, preference=10) for host in facts.mx.hosts)
    findings = b.judged(policy.judge, replace(facts, mx=replace(facts.mx, hosts=equal)))
    assert b.the_one(findings, kinds.NOT_ALLOWED).severity is WARNING


def test_all_hosts_that_are_left_out_are_told() -> None:
    found = b.of_kind(b.judged(policy.judge, serving("x.example.com")), kinds.NOT_ALLOWED)
    assert [(finding.subject, finding.severity) for finding in found] == [
        (b.MX1, CRITICAL),
        (b.MX2, CRITICAL),
    ]
    assert "mail waits" in found[0].sentence


@pytest.mark.parametrize(
    ("patterns", "hosts", "paste"),
    [
        (("*.mx.microsoft",), (M365,), "mx: *.h-v1.mx.microsoft"),
        (("*.outlook.com",), (M365,), "mx: *.h-v1.mx.microsoft"),
        (
            ("mail.protection.outlook.com",),
            ("example-com.mail.protection.outlook.com",),
            "mx: *.mail.protection.outlook.com",
        ),
        (
            ("aspmx.l.google.com", "*.google.com"),
            ("aspmx.l.google.com", "alt1.aspmx.l.google.com"),
            "mx: aspmx.l.google.com\nmx: *.aspmx.l.google.com",
        ),
    ],
)
def test_what_fits_a_receiver_is_told(
    patterns: tuple[str, ...], hosts: tuple[str, ...], paste: str
) -> None:
    findings = b.judged(policy.judge, serving(*patterns, hosts=hosts))
    assert b.the_one(findings, kinds.RECEIVER).paste == paste
    assert not b.of_kind(findings, kinds.STALE)


@pytest.mark.parametrize(
    ("patterns", "hosts"),
    [
        (("*.mail.protection.outlook.com",), ("example-com.mail.protection.outlook.com",)),
        (("*.mail.protection.outlook.com", "*.h-v1.mx.microsoft"), (M365,)),
        ((M365,), (M365,)),
        (
            ("smtp.google.com", "aspmx.l.google.com", "*.aspmx.l.google.com"),
            ("smtp.google.com",),
        ),
    ],
)
def test_a_policy_that_a_receiver_documents_is_good(
    patterns: tuple[str, ...], hosts: tuple[str, ...]
) -> None:
    findings = b.judged(policy.judge, serving(*patterns, hosts=hosts))
    assert {finding.id for finding in findings} == {kinds.ENFORCE.id, kinds.ALL_ALLOWED.id}


@pytest.mark.parametrize(
    ("policy_id", "expected"),
    [
        ("20251101", True),
        ("20251101T120000", True),
        ("20260301", False),
        ("20991231", False),
        ("20151231", False),
        ("20259999", False),
        ("20251339", False),
        ("abc", False),
        ("1", False),
    ],
)
def test_how_long_a_test_has_gone_on(policy_id: str, *, expected: bool) -> None:
    facts = b.domain_facts(body=TESTING_BODY, record=(f"v=STSv1; id={policy_id};".encode(),))
    findings = b.judged(policy.judge, facts)
    assert bool(b.of_kind(findings, kinds.TESTING_LONG)) is expected


def test_a_copy_from_before_shows_how_long_a_test_has_gone_on() -> None:
    entry = b.cached_entry(
        TESTING_BODY, policy_id="1", fetched_at=b.LOOKED_AT - timedelta(weeks=13)
    )
    findings = b.judged(policy.judge, b.domain_facts(body=TESTING_BODY, cached=entry))
    b.the_one(findings, kinds.TESTING_LONG)


def test_without_mx_records_mode_none_is_held_against_nobody() -> None:
    facts = b.domain_facts(body=NONE_BODY, mx=MxSet(MxStatus.ERROR), hosts=())
    assert b.the_one(b.judged(policy.judge, facts), kinds.MODE_NONE).severity is INFO


def test_another_life_of_the_same_hosts_refuses_nobody() -> None:
    entry = b.cached_entry(body(b.MX1, b.MX2, max_age=1_000_000), policy_id="1")
    findings = b.judged(policy.judge, b.domain_facts(cached=entry))
    assert {finding.severity for finding in findings} == {OK}


def test_the_same_policy_in_the_cache_is_no_matter() -> None:
    same = b.cached_entry(b.BODY.replace(b"\r\n", b"\n"))
    expired = replace(EARLIER, fetched_at=b.LOOKED_AT - timedelta(days=31))
    for entry in (same, expired):
        findings = b.judged(policy.judge, b.domain_facts(cached=entry))
        assert {finding.severity for finding in findings} == {OK}


VECTORS: Final = [
    vector
    for vector in json.loads(Path("vectors/strictmail-core.json").read_text("utf-8"))["vectors"]
    if vector["c"] == "sts-policy"
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["v"])
def test_a_vector_that_is_no_policy_is_pointed_at(vector: dict[str, Any]) -> None:
    given_body, outcome = vector["in"], vector["out"]
    octets = (
        base64.b64decode(given_body["b64"])
        if isinstance(given_body, dict)
        else given_body.encode("utf-8")
    )
    patterns = outcome["mx"] if outcome is not None else []
    hosts = [pattern.replace("*", "mx") for pattern in patterns] or [b.MX1]
    findings = b.judged(policy.judge, b.domain_facts(body=octets, hosts_named=hosts))
    if outcome is not None:
        assert not [finding for finding in findings if finding.severity is CRITICAL]
        return
    worst = [finding for finding in findings if finding.severity in (CRITICAL, WARNING)]
    places = [seen for finding in worst for seen in finding.evidence if seen.caret is not None]
    assert places
    assert all(seen.label.startswith("policy line ") for seen in places)


LINES: Final = st.one_of(
    st.sampled_from(
        [
            "version: STSv1",
            "mode: enforce",
            "mx: a.example",
            "mx: *.com",
            "max_age: 1",
            "",
            "nmx: x",
        ]
    ),
    st.text(max_size=30),
)


@given(
    st.one_of(
        st.binary(max_size=80),
        st.lists(LINES, max_size=12).map(
            lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")
        ),
    ),
    st.lists(st.text(min_size=1, max_size=40), max_size=3, unique=True),
)
def test_any_body_is_told_in_printable_ascii(octets: bytes, names: list[str]) -> None:
    hosts = tuple(MxHost(name, 10) for name in names)
    facts = replace(
        b.domain_facts(body=octets), mx=MxSet(MxStatus.FOUND, secure=True, hosts=hosts), hosts=()
    )
    b.judged(policy.judge, facts)
