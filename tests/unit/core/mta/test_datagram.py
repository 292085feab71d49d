# SPDX-License-Identifier: Apache-2.0
"""The datagram of libtlsrpt: every captured one, and every way to be none."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.tlsrpt.reports import (
    DOMAIN,
    HOSTILE_TEXT,
    LINES,
    RECORD,
    datagram,
    failed,
    policy_of,
)

from strictmail.core.errors import DatagramError
from strictmail.core.mta.datagram import (
    MAX_DATAGRAM_BYTES,
    MAX_DETAILS,
    MAX_POLICIES,
    MAX_RECORD_CHARACTERS,
    decode_datagram,
    is_testing,
)
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import (
    FailureDetail,
    JudgedPolicy,
    ReportedPolicy,
    Session,
    make_policy,
)

DATA = Path(__file__).resolve().parents[3] / "data" / "datagrams"
FILES = sorted(DATA.glob("*.jsonl"))
TESTING = ["version: STSv1", "mode: testing", "mx: *.rcpt.example", "max_age: 86400"]


def captured() -> list[Any]:
    return [
        pytest.param(row, id=f"{path.stem.removeprefix('datagrams-')}-{row['scenario']}")
        for path in FILES
        for row in map(json.loads, path.read_text("utf-8").splitlines())
    ]


# ---- what real ones say --------------------------------------------------------------------------

# By the words of a scenario's name; the first that is in it decides. None: not decided by anybody.
VERDICTS: dict[str, ResultType | bool | None] = {
    "selfsigned": ResultType.CERTIFICATE_NOT_TRUSTED,
    "enforce-mismatch": ResultType.CERTIFICATE_HOST_MISMATCH,
    "enforce-expired": ResultType.CERTIFICATE_EXPIRED,
    "enforce-nostls": ResultType.STARTTLS_NOT_SUPPORTED,
    "enforce-policyfailure": ResultType.STS_WEBPKI_INVALID,
    "danebad": ResultType.CERTIFICATE_NOT_TRUSTED,
    "dane-bad": ResultType.CERTIFICATE_NOT_TRUSTED,
    "unusable": ResultType.TLSA_INVALID,
    "dane-nostls": ResultType.STARTTLS_NOT_SUPPORTED,
    "refuse": ResultType.STARTTLS_NOT_SUPPORTED,
    "testing-encrypt-nostls": ResultType.STARTTLS_NOT_SUPPORTED,
    "wild-star": ResultType.CERTIFICATE_HOST_MISMATCH,
    # RFC 8460 §4.2.1: a success is a session that satisfied the policy.
    "sts-testing": None,
    "syn-ttl": None,
    "syn-newlines": None,
}


def verdict_of(scenario: str) -> ResultType | bool | None:
    return next((found for word, found in VERDICTS.items() if word in scenario), True)


def test_both_versions_were_captured() -> None:
    assert {path.name for path in FILES} == {
        "datagrams-3.10.13.jsonl",
        "datagrams-3.11.7.jsonl",
    }
    assert len(captured()) == 118


@pytest.mark.req(
    "RPT-JSON-24",
    "RPT-JSON-26",
    "RPT-JSON-31",
    "RPT-JSON-32",
    "RPT-JSON-33",
    "RPT-JSON-34",
    "RPT-JSON-36",
    "RPT-JSON-41",
    "RPT-JSON-44",
    "RPT-JSON-49",
)
@pytest.mark.parametrize("row", captured())
def test_a_captured_datagram(row: dict[str, Any]) -> None:
    session = decode_datagram(row["datagram"].encode())
    said = row["parsed"]
    assert session.domain == said["d"].lower()
    assert session.record == said["pr"]
    (policy,) = said["policies"]
    judged = [(p.policy, p.succeeded) for p in session.policies]
    judged += [(p, False) for p in session.unverified]
    ((reported, succeeded),) = judged
    kinds = {1: PolicyType.TLSA, 2: PolicyType.STS, 9: PolicyType.NO_POLICY_FOUND}
    assert reported == ReportedPolicy(
        kinds[policy["policy-type"]],
        policy["policy-domain"].lower(),
        tuple(policy.get("policy-string", ())),
        tuple(policy.get("mx-host", ())),
    )
    verdict = verdict_of(row["scenario"])
    assert (verdict is None) is bool(session.unverified)
    assert succeeded is (verdict is True)
    details = policy.get("failure-details", [])
    found = [detail for judged in session.policies for detail in judged.failures]
    assert len(found) == len(details)
    for detail, told in zip(found, details, strict=True):
        assert detail == FailureDetail(
            verdict if isinstance(verdict, ResultType) else ResultType.VALIDATION_FAILURE,
            sending_mta_ip=told["s"],
            receiving_mx_hostname=told["n"],
            receiving_mx_helo=told["h"].splitlines()[0].removeprefix("250-"),
            receiving_ip=told["r"],
            failure_reason_code=told.get("f", ""),
        )


def test_what_the_captured_ones_cover() -> None:
    kinds = Counter(
        (policy["policy-type"], detail.get("c"))
        for parameters in captured()
        for policy in parameters.values[0]["parsed"]["policies"]
        for detail in policy.get("failure-details", [{}])
    )
    assert set(kinds) == {
        *((9, code) for code in (None, 201, 202)),
        *((2, code) for code in (None, 201, 202, 204, 205, 303)),
        *((1, code) for code in (None, 201, 203, 304)),
    }


# ---- results -------------------------------------------------------------------------------------


def detail_of(**members: Any) -> FailureDetail:
    session = decode_datagram(datagram(failed(members)))
    (judged,) = session.policies
    (detail,) = judged.failures
    assert not judged.succeeded
    return detail


@pytest.mark.req(
    "RPT-JSON-30",
    "RPT-JSON-31",
    "RPT-JSON-32",
    "RPT-JSON-33",
    "RPT-JSON-34",
    "RPT-JSON-35",
    "RPT-JSON-36",
    "RPT-JSON-37",
    "RPT-JSON-38",
    "RPT-JSON-39",
    "RPT-JSON-40",
    "RPT-JSON-41",
)
@pytest.mark.parametrize(
    ("code", "result_type"),
    [
        (201, "starttls-not-supported"),
        (202, "certificate-host-mismatch"),
        (203, "certificate-not-trusted"),
        (204, "certificate-expired"),
        (205, "validation-failure"),
        (301, "sts-policy-fetch-error"),
        (302, "sts-policy-invalid"),
        (303, "sts-webpki-invalid"),
        (304, "tlsa-invalid"),
        (305, "dnssec-invalid"),
        (306, "dane-required"),
    ],
)
def test_a_code_is_a_result_type(code: int, result_type: str) -> None:
    assert detail_of(c=code) == FailureDetail(ResultType(result_type))


@pytest.mark.req("RPT-JSON-35")
@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"c": 999}, "code 999"),
        ({"c": 0}, "code 0"),
        ({"c": -1}, "code -1"),
        ({}, "code 0"),
        ({"c": 999, "f": "why"}, "why"),
    ],
)
def test_an_unknown_code_is_a_validation_failure(members: dict[str, Any], reason: str) -> None:
    detail = detail_of(**members)
    assert detail.result_type is ResultType.VALIDATION_FAILURE
    assert detail.failure_reason_code == reason


@pytest.mark.req("RPT-JSON-34", "RPT-JSON-35")
@pytest.mark.parametrize(
    ("reason", "result_type"),
    [
        ("self-signed_certificate", ResultType.CERTIFICATE_NOT_TRUSTED),
        ("self-signed_certificate_in_certificate_chain", ResultType.CERTIFICATE_NOT_TRUSTED),
        ("unable_to_get_local_issuer_certificate", ResultType.CERTIFICATE_NOT_TRUSTED),
        ("certificate_chain_too_long", ResultType.CERTIFICATE_NOT_TRUSTED),
        ("invalid_CA_certificate", ResultType.CERTIFICATE_NOT_TRUSTED),
        ("EE_certificate_key_too_weak", ResultType.VALIDATION_FAILURE),
        ("tls-handshake-failure", ResultType.VALIDATION_FAILURE),
        ("", ResultType.VALIDATION_FAILURE),
    ],
)
def test_a_chain_that_leads_nowhere_is_told_by_its_reason(
    reason: str, result_type: ResultType
) -> None:
    detail = detail_of(c=205, f=reason)
    assert (detail.result_type, detail.failure_reason_code) == (result_type, reason)
    assert detail_of(c=202, f=reason).result_type is ResultType.CERTIFICATE_HOST_MISMATCH


@pytest.mark.req("RPT-JSON-46", "RPT-JSON-47", "RPT-JSON-48", "RPT-JSON-50", "RPT-JSON-51")
def test_what_a_detail_says() -> None:
    detail = detail_of(
        c=205,
        s="::ffff:192.0.2.1",
        n="MX.Rcpt.Example.",
        h="250-helo.example\r\n250 STARTTLS",
        r="[2001:DB8::1]",
        a="https://sender.example/why",
        f="two\r\nlines",
    )
    assert detail == FailureDetail(
        ResultType.VALIDATION_FAILURE,
        sending_mta_ip="192.0.2.1",
        receiving_mx_hostname="mx.rcpt.example",
        receiving_mx_helo="helo.example",
        receiving_ip="2001:db8::1",
        additional_information="https://sender.example/why",
        failure_reason_code="two lines",
    )


# ---- verdicts ------------------------------------------------------------------------------------


def in_testing(**members: Any) -> dict[str, Any]:
    return policy_of(**{"policy-string": TESTING} | members)


@pytest.mark.req("RPT-JSON-24", "RPT-JSON-26")
def test_a_testing_policy_that_nobody_verified_is_no_success() -> None:
    session = decode_datagram(datagram(in_testing()))
    assert session.policies == ()
    (policy,) = session.unverified
    assert is_testing(policy)
    # A failure is one, though the mail was delivered.
    session = decode_datagram(datagram(in_testing(f=1, t=1, **{"failure-details": [{"c": 201}]})))
    (judged,) = session.policies
    assert is_testing(judged.policy)
    assert judged.failures == (FailureDetail(ResultType.STARTTLS_NOT_SUPPORTED),)
    assert session.unverified == ()


@pytest.mark.req("RPT-JSON-24")
@pytest.mark.parametrize("lines", [[], ["version: STSv1"], ["mode: enforced"], ["MODE: enforce"]])
def test_a_policy_without_a_known_mode_is_no_success_either(lines: list[str]) -> None:
    session = decode_datagram(datagram(policy_of(**{"policy-string": lines})))
    assert session.policies == ()
    assert len(session.unverified) == 1


@pytest.mark.req("RPT-JSON-58", "RPT-JSON-43", "RPT-JSON-44")
@pytest.mark.parametrize(
    ("members", "succeeded", "types"),
    [
        ({}, True, []),
        # TLS was not negotiated: that is what `no-policy-found` counts.
        ({"f": 1, "failure-details": [{"c": 201}]}, False, ["starttls-not-supported"]),
        ({"f": 1}, False, []),
        # Nobody misses a newer policy where there was none to follow.
        ({"f": 1, "failure-details": [{"c": 301}]}, True, []),
        ({"f": 1, "failure-details": [{"c": 302}, {"c": 303}]}, True, []),
        (
            {"f": 1, "failure-details": [{"c": 301}, {"c": 205}]},
            False,
            ["validation-failure"],
        ),
    ],
)
def test_a_policy_of_mode_none_is_no_policy(
    members: dict[str, Any], succeeded: bool, types: list[str]
) -> None:
    lines = ["version: STSv1", "mode: none", "max_age: 86400"]
    session = decode_datagram(datagram(policy_of(**{"policy-string": lines} | members)))
    (judged,) = session.policies
    assert judged.policy == ReportedPolicy(PolicyType.NO_POLICY_FOUND, DOMAIN)
    assert judged.succeeded is succeeded
    assert [str(detail.result_type) for detail in judged.failures] == types


@pytest.mark.req("RPT-JSON-42", "RPT-JSON-43")
@pytest.mark.parametrize("code", [301, 302, 303])
def test_a_policy_that_could_not_be_learnt_is_a_failure(code: int) -> None:
    for lines in ([], list(LINES), TESTING):
        policy = failed({"c": code}, **{"policy-string": lines})
        (judged,) = decode_datagram(datagram(policy)).policies
        assert not judged.succeeded
        assert judged.policy.policy_type is PolicyType.STS
        assert judged.policy.policy_strings == tuple(lines)


@pytest.mark.req("RPT-JSON-23", "RPT-JSON-57")
def test_a_session_under_two_policies_is_judged_under_each() -> None:
    session = decode_datagram(
        datagram(
            policy_of(1, **{"policy-domain": "mx.rcpt.example", "policy-string": ["3 1 1 ab"]}),
            failed({"c": 202}),
        )
    )
    assert [(str(p.policy.policy_type), p.succeeded) for p in session.policies] == [
        ("tlsa", True),
        ("sts", False),
    ]


@pytest.mark.parametrize(
    ("policy", "judged"),
    [
        pytest.param(policy_of(**{"failure-details": [{"c": 202}], "t": 1}), True, id="retried"),
        pytest.param(policy_of(f=1), False, id="failure-without-details"),
        pytest.param(policy_of(9, f=2), False, id="odd-final"),
        pytest.param(policy_of(9, t=99), True, id="wrong-total"),
        pytest.param(failed({"c": 901}), None, id="unfinished"),
        pytest.param(failed({"c": 201}, {"c": 901}), None, id="unfinished-with-others"),
        pytest.param(policy_of(3), None, id="unknown-type"),
    ],
)
def test_who_judged(policy: dict[str, Any], judged: bool | None) -> None:
    session = decode_datagram(datagram(policy, policy_of(9, **{"policy-domain": "z.example"})))
    found = [p.succeeded for p in session.policies if p.policy.policy_domain != "z.example"]
    assert found == ([] if judged is None else [judged])


@pytest.mark.req("RPT-JSON-16", "RPT-JSON-17", "RPT-JSON-15")
def test_the_policy_domain() -> None:
    for number in (1, 2, 9):
        given: dict[str, Any] = policy_of(number)
        del given["policy-domain"]
        session = decode_datagram(datagram(given))
        (policy,) = session.unverified or [p.policy for p in session.policies]
        assert policy.policy_domain == DOMAIN
    tlsa = policy_of(1, **{"policy-domain": "MX.Rcpt.Example."})
    assert decode_datagram(datagram(tlsa)).policies[0].policy.policy_domain == "mx.rcpt.example"


@pytest.mark.req("RPT-REC-02", "RPT-JSON-15")
def test_the_recipient_domain_is_in_one_form() -> None:
    assert decode_datagram(datagram(policy_of(), d="RCPT.Example.")).domain == "rcpt.example"
    assert decode_datagram(datagram(policy_of(), d="bücher.example")).domain == (
        "xn--bcher-kva.example"
    )


@pytest.mark.req("RPT-REC-30", "RPT-JSON-24")
def test_no_policy_is_reported_as_well() -> None:
    session = decode_datagram(datagram(policy_of(9), failed({"c": 201}, number=9)))
    assert [p.policy.policy_type for p in session.policies] == [PolicyType.NO_POLICY_FOUND] * 2


# ---- tolerance and refusal -----------------------------------------------------------------------


def test_the_older_library_and_unknown_members() -> None:
    whole = decode_datagram(datagram(policy_of()))
    for version in ("1", "", 1):
        given = datagram(policy_of(future={"x": [1]}), dpv=version, future=[None])
        assert decode_datagram(given) == whole
    content = json.loads(datagram(policy_of()))
    del content["dpv"]
    assert decode_datagram(json.dumps(content).encode()) == whole
    del content["pr"]
    assert decode_datagram(json.dumps(content).encode()).record == ""
    assert whole == Session(
        DOMAIN,
        RECORD,
        (JudgedPolicy(make_policy(PolicyType.STS, DOMAIN, LINES, domain=DOMAIN), succeeded=True),),
    )


def test_octets_that_are_no_utf_8_cost_nobody_the_count() -> None:
    data = datagram(failed({"c": 201, "h": "250 gr", "f": "x"})).replace(b"gr", b"gr\xfc\xdfe")
    (judged,) = decode_datagram(data).policies
    assert judged.failures[0].receiving_mx_helo == "gr\ufffd\ufffde"


@pytest.mark.parametrize(
    ("data", "reason_code"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b" ", "not-json", id="blank"),
        pytest.param(b"{", "not-json", id="cut-off"),
        pytest.param(b"\xff\xfe", "not-json", id="binary"),
        pytest.param(datagram(policy_of())[:-1], "not-json", id="truncated"),
        pytest.param(datagram(policy_of()) + b"\0", "not-json", id="terminated"),
        pytest.param(datagram(policy_of()) * 2, "not-json", id="two"),
        pytest.param(b'{"d":"a.example","policies":[],"pr":"\\ud800"}', "not-json", id="surrogate"),
        pytest.param(b"[" * 100_000, "structure", id="deep"),
        pytest.param(
            b'{"d":"a.example","policies":[],"x":' + b"[" * 9999 + b"]" * 9999 + b"}",
            "not-json",
            id="deep-in-an-unknown-member",
        ),
        pytest.param(b"[]", "structure", id="array"),
        pytest.param(b"null", "structure", id="null"),
        pytest.param(b"{}", "structure", id="no-member"),
        pytest.param(b'{"d": "a.example"}', "structure", id="no-policies"),
        pytest.param(b'{"policies": []}', "structure", id="no-domain"),
        pytest.param(datagram(d=7), "structure", id="domain-a-number"),
        pytest.param(datagram(policies={}), "structure", id="policies-an-object"),
        pytest.param(datagram(policy_of(**{"policy-type": "2"})), "structure", id="type-a-text"),
        pytest.param(datagram(policy_of(**{"policy-type": 1e400})), "not-json", id="infinity"),
        pytest.param(datagram(policy_of(f="1")), "structure", id="final-a-text"),
        pytest.param(datagram(failed({"c": None})), "structure", id="code-null"),
        pytest.param(
            datagram(failed({"c": 205})).replace(b"205", b"9" * 5000),
            "structure",
            id="code-too-large",
        ),
        pytest.param(datagram(policy_of(**{"mx-host": "a"})), "structure", id="host-a-text"),
        pytest.param(datagram(policy_of(), dpv="2"), "version", id="version-2"),
        pytest.param(datagram(policy_of(), dpv=2), "version", id="version-2-a-number"),
        pytest.param(datagram(policy_of(), dpv="1.1"), "version", id="version-1.1"),
        pytest.param(datagram(policy_of(), d=""), "domain", id="domain-empty"),
        pytest.param(datagram(policy_of(), d="a b"), "domain", id="domain-with-blank"),
        pytest.param(datagram(policy_of(), d="[192.0.2.1]"), "domain", id="domain-a-literal"),
        pytest.param(datagram(policy_of(), d="a\r\nBcc: b"), "domain", id="domain-hostile"),
        pytest.param(datagram(), "no-policy", id="no-policy"),
        pytest.param(datagram(policy_of(7)), "no-policy", id="only-unknown-types"),
        pytest.param(datagram(failed({"c": 901})), "no-policy", id="only-unfinished"),
        pytest.param(b" " * (MAX_DATAGRAM_BYTES + 1), "too-large", id="too-large"),
    ],
)
def test_what_cannot_be_counted_has_a_reason(data: bytes, reason_code: str) -> None:
    with pytest.raises(DatagramError) as raised:
        decode_datagram(data)
    assert raised.value.reason_code == reason_code
    assert str(raised.value).isascii()
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 300


def test_the_largest_is_taken() -> None:
    data = datagram(policy_of())
    assert decode_datagram(data + b" " * (MAX_DATAGRAM_BYTES - len(data))).domain == DOMAIN


def test_bounds_of_one_datagram() -> None:
    details = [{"c": 205, "f": f"reason {n}"} for n in range(MAX_DETAILS + 10)]
    policies = [failed(*details, **{"policy-domain": f"d{n}.example"}) for n in range(3)]
    policies += [policy_of(9, **{"policy-domain": f"p{n}.example"}) for n in range(MAX_POLICIES)]
    session = decode_datagram(datagram(*policies, pr="x" * 9999))
    assert len(session.policies) == MAX_POLICIES
    assert [len(judged.failures) for judged in session.policies[:4]] == [MAX_DETAILS] * 3 + [0]
    assert len(session.record) == MAX_RECORD_CHARACTERS


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-10, 400), HOSTILE_TEXT)
MEMBERS = st.sampled_from(
    [
        "d",
        "pr",
        "dpv",
        "policies",
        "policy-type",
        "policy-domain",
        "policy-string",
        "mx-host",
        "failure-details",
        "c",
        "s",
        "n",
        "h",
        "r",
        "a",
        "f",
        "t",
        "x",
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(MEMBERS, inner, max_size=6)
    ),
    max_leaves=20,
)


@given(st.one_of(st.binary(max_size=200), VALUES.map(lambda value: json.dumps(value).encode())))
def test_anything_is_a_session_or_a_datagram_error(data: bytes) -> None:
    try:
        session = decode_datagram(data)
    except DatagramError:
        return
    assert session.policies or session.unverified


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "policy-type": st.sampled_from([1, 2, 9]),
                "policy-domain": HOSTILE_TEXT,
                "policy-string": st.lists(HOSTILE_TEXT, max_size=3),
                "mx-host": st.lists(HOSTILE_TEXT, max_size=3),
                "failure-details": st.lists(
                    st.fixed_dictionaries(
                        {"c": st.integers(200, 310)} | dict.fromkeys("snhraf", HOSTILE_TEXT)
                    ),
                    max_size=3,
                ),
                "f": st.integers(0, 1),
            }
        ),
        min_size=1,
        max_size=4,
    )
)
@pytest.mark.req("RPT-JSON-24")
def test_every_policy_of_a_well_formed_one_is_judged_or_unverified(
    policies: list[dict[str, Any]],
) -> None:
    data = json.dumps({"d": DOMAIN, "policies": policies}, ensure_ascii=False)
    session = decode_datagram(data.encode("utf-8", "surrogatepass"))
    assert len(session.policies) + len(session.unverified) == len(policies)
