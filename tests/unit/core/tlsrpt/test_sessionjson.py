# SPDX-License-Identifier: Apache-2.0
"""Sessions told in JSON: what is taken, what is refused and where, and back again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from strictmail.core.errors import SessionSyntaxError
from strictmail.core.names import parse_domain
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import (
    JudgedPolicy,
    Session,
    Source,
    make_detail,
    make_policy,
)
from strictmail.core.tlsrpt.sessionjson import (
    TimedSession,
    ToldSessions,
    decode_sessions,
    encode_sessions,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def policy(**changes: Any) -> dict[str, Any]:
    return {"policy-type": "sts", "result": "success", **changes}


def session(*policies: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"domain": "example.com", "policies": list(policies or (policy(),)), **changes}


def decode(*sessions: dict[str, Any], **changes: Any) -> ToldSessions:
    return decode_sessions(json.dumps({"sessions": list(sessions), **changes}).encode(), NOW)


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({}, "/sessions"),
        ({"sessions": []}, "/sessions"),
        ({"sessions": 1}, "/sessions"),
        ({"sessions": [session()], "sesions": []}, "/sesions"),
        ({"sessions": [session()], "identity": "a b"}, "/identity"),
        ({"sessions": [session()], "source": "nobody"}, "/source"),
        ({"sessions": [session()], "source": "postfix"}, "/source"),
        ({"sessions": [session()], "source": "probe"}, "/source"),
        ({"sessions": [session(), session(domain="a..b")]}, "/sessions/1/domain"),
        ({"sessions": [session(domain=1)]}, "/sessions/0/domain"),
        ({"sessions": [{"domain": "a.example"}]}, "/sessions/0/policies"),
        ({"sessions": [{"domain": "a.example", "policies": []}]}, "/sessions/0/policies"),
        ({"sessions": [session(count=0)]}, "/sessions/0/count"),
        ({"sessions": [session(count=1.5)]}, "/sessions/0/count"),
        ({"sessions": [session(count=10**7)]}, "/sessions/0/count"),
        ({"sessions": [session(time="yesterday")]}, "/sessions/0/time"),
        ({"sessions": [session(time="2026-03-01T12:00:00")]}, "/sessions/0/time"),
        ({"sessions": [session(time="2026-03-01T12:06:00Z")]}, "/sessions/0/time"),
        ({"sessions": [session(time="2026-02-20T12:00:00Z")]}, "/sessions/0/time"),
        (
            {"sessions": [session(policy(**{"policy-type": "pkix"}))]},
            "/sessions/0/policies/0/policy-type",
        ),
        (
            {"sessions": [session(policy(**{"policy-domain": "a..b"}))]},
            "/sessions/0/policies/0/policy-domain",
        ),
        ({"sessions": [session(policy(result="maybe"))]}, "/sessions/0/policies/0/result"),
        ({"sessions": [session({"policy-type": "sts"})]}, "/sessions/0/policies/0/result"),
        (
            {"sessions": [session(policy(**{"failure-details": [{"result-type": "x"}]}))]},
            "/sessions/0/policies/0/failure-details/0/result-type",
        ),
        (
            {
                "sessions": [
                    session(policy(**{"failure-details": [{"result-type": "tlsa-invalid"}]}))
                ]
            },
            "/sessions/0/policies/0/failure-details",
        ),
        (
            {"sessions": [session(policy(result="failure", **{"failure-detail": []}))]},
            "/sessions/0/policies/0/failure-detail",
        ),
    ],
)
def test_what_is_refused_names_its_place(document: dict[str, Any], place: str) -> None:
    with pytest.raises(SessionSyntaxError) as caught:
        decode_sessions(json.dumps(document).encode(), NOW)
    assert caught.value.place == place


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b"null"])
def test_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(SessionSyntaxError):
        decode_sessions(data, NOW)


@pytest.mark.req("RPT-JSON-24")
@pytest.mark.parametrize(
    ("told", "is_verified"),
    [
        (policy(**{"policy-string": ["mode: enforce"]}), True),
        (policy(**{"policy-string": ["mode: testing"]}), False),
        (policy(**{"policy-string": ["mode: testing"]}, verified=True), True),
        (policy(), False),
        (policy(verified=True), True),
        (policy(**{"policy-type": "tlsa"}), True),
        (policy(**{"policy-type": "no-policy-found"}), True),
    ],
)
def test_a_success_that_nobody_verified_is_none(told: dict[str, Any], is_verified: bool) -> None:
    ((one,),) = (decode(session(told)).sessions,)
    assert bool(one.session.policies) == is_verified
    assert bool(one.session.unverified) != is_verified


def test_a_failure_and_its_time() -> None:
    failure = policy(
        result="failure",
        **{
            "failure-details": [
                {
                    "result-type": "certificate-expired",
                    "receiving-mx-hostname": "MX.example.com.",
                    "receiving-ip": "::ffff:192.0.2.1",
                }
            ]
        },
    )
    told = decode(session(failure, domain="EXAMPLE.com", time="2026-02-28T23:30:00-01:00", count=3))
    (one,) = told.sessions
    assert one.when == datetime(2026, 3, 1, 0, 30, tzinfo=UTC)
    assert (one.times, one.session.domain, told.source) == (3, "example.com", Source.HTTP)
    (detail,) = one.session.policies[0].failures
    assert (detail.receiving_mx_hostname, detail.receiving_ip) == ("mx.example.com", "192.0.2.1")


def test_what_is_written_is_read_again() -> None:
    domain = parse_domain("example.com")
    sts = make_policy(PolicyType.STS, domain, ["mode: testing"], ["mx.example.com"], domain=domain)
    tlsa = make_policy(PolicyType.TLSA, "mx.example.com", ["3 1 1 AB"], domain=domain)
    detail = make_detail(
        ResultType.VALIDATION_FAILURE,
        sending_mta_ip="192.0.2.9",
        receiving_mx_hostname="mx.example.com",
        receiving_mx_helo="mx",
        receiving_ip="2001:db8::1",
        additional_information="https://example.com/",
        failure_reason_code="x",
    )
    told = ToldSessions(
        (
            TimedSession(Session(domain, "v=TLSRPTv1;", (JudgedPolicy(sts, succeeded=True),)), NOW),
            TimedSession(
                Session(domain, "", (JudgedPolicy(tlsa, succeeded=False, failures=(detail,)),)),
                NOW - timedelta(days=1),
                7,
            ),
            TimedSession(Session(domain, "", (), (sts,))),
        ),
        "brand",
        Source.PYTHON,
    )
    assert decode_sessions(encode_sessions(told), NOW) == told
