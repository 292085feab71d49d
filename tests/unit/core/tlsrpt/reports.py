# SPDX-License-Identifier: Apache-2.0
"""Sessions, counts and reports to test with: plain ones, and strategies for any."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from strictmail.core.tlsrpt.counts import Counts, DomainCounts, PolicyCounts
from strictmail.core.tlsrpt.report import Identity, build_report
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import (
    FailureDetail,
    JudgedPolicy,
    ReportedPolicy,
    Session,
    make_detail,
    make_policy,
)

if TYPE_CHECKING:
    from strictmail.core.tlsrpt.report import Report

DAY: Final = date(2025, 5, 22)
AT: Final = datetime(2025, 5, 23, 1, 2, 3, tzinfo=UTC)
DOMAIN: Final = "rcpt.example"
RECORD: Final = "v=TLSRPTv1; rua=mailto:tls@rcpt.example"
LINES: Final = ("version: STSv1", "mode: enforce", "mx: *.rcpt.example", "max_age: 86400")
US: Final = Identity("Sender Org", "tls@sender.example")

STS: Final = ReportedPolicy(PolicyType.STS, DOMAIN, LINES, ("*.rcpt.example",))
TLSA: Final = ReportedPolicy(PolicyType.TLSA, "mx.rcpt.example", ("3 1 1 AB12",))
NO_POLICY: Final = ReportedPolicy(PolicyType.NO_POLICY_FOUND, DOMAIN)
EXPIRED: Final = FailureDetail(
    ResultType.CERTIFICATE_EXPIRED,
    sending_mta_ip="2001:db8::1",
    receiving_mx_hostname="mx1.rcpt.example",
    receiving_mx_helo="mx1",
    receiving_ip="203.0.113.5",
)
UNTRUSTED: Final = FailureDetail(
    ResultType.CERTIFICATE_NOT_TRUSTED, failure_reason_code="self-signed_certificate"
)


def success(*policies: ReportedPolicy) -> Session:
    """A session that satisfied all of these policies."""
    return Session(DOMAIN, RECORD, tuple(JudgedPolicy(p, succeeded=True) for p in policies))


def failure(policy: ReportedPolicy, *details: FailureDetail) -> Session:
    """A session that failed one policy so."""
    return Session(DOMAIN, RECORD, (JudgedPolicy(policy, succeeded=False, failures=details),))


def report_of(
    policies: dict[ReportedPolicy, PolicyCounts] | None = None,
    *,
    domain: str = DOMAIN,
    identity: Identity = US,
) -> Report:
    """The report of a day; by default 12 successes and 3 failures under `STS`."""
    if policies is None:
        policies = {STS: PolicyCounts(12, 3, {EXPIRED: 3})}
    report = build_report(DAY, domain, DomainCounts(RECORD, policies), identity)
    assert report is not None
    return report


def datagram(*policies: dict[str, Any], **members: Any) -> bytes:
    """A datagram as libtlsrpt 0.5.1 writes it, with these policies."""
    content: dict[str, Any] = {"dpv": "1", "d": DOMAIN, "pr": RECORD, "policies": list(policies)}
    return json.dumps(content | members).encode()


def policy_of(number: int = 2, /, **members: Any) -> dict[str, Any]:
    """A policy of a datagram: by default a success under an enforced MTA-STS policy."""
    content: dict[str, Any] = {
        "policy-type": number,
        "policy-domain": DOMAIN,
        "policy-string": list(LINES) if number == 2 else [],
        "t": 0,
        "f": 0,
    }
    return content | members


def failed(*details: dict[str, Any], **members: Any) -> dict[str, Any]:
    """The same with a failure; `number` among the members is the type."""
    said: dict[str, Any] = {"failure-details": list(details), "t": len(details), "f": 1} | members
    return policy_of(said.pop("number", 2), **said)


# ---- anything ------------------------------------------------------------------------------------

HOSTILE_TEXT: Final = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "",
            "\r\nBcc: all@example.net",
            "250-mx.example.net\r\n250 STARTTLS",
            "\ud800",
            "\ufffe\U0001ffff\0\x1b[31m",
            "<script>alert(1)</script>",
            "=cmd()",
            "--=_boundary--",
            "x" * 20_000,
            "mx: mx: *.a.example",
            "[2001:DB8::1%eth0]",
            "::ffff:192.0.2.1",
            "0.0.0.0",
            "3 1 1 ( ab\tCD )",
            "mode: none",
            "mx: ",
        ]
    ),
)
"""What a remote party, or whoever may write to the socket, can put in."""

DOMAINS: Final = st.sampled_from([DOMAIN, "a.example", "xn--bcher-kva.example", "x_1.example"])
ADDRESSES: Final = st.one_of(st.just(""), st.ip_addresses().map(str), HOSTILE_TEXT)

DETAILS: Final = st.builds(
    make_detail,
    st.sampled_from(ResultType),
    sending_mta_ip=ADDRESSES,
    receiving_mx_hostname=st.one_of(DOMAINS, HOSTILE_TEXT),
    receiving_mx_helo=HOSTILE_TEXT,
    receiving_ip=ADDRESSES,
    additional_information=HOSTILE_TEXT,
    failure_reason_code=HOSTILE_TEXT,
)

POLICIES: Final = st.builds(
    make_policy,
    st.sampled_from(PolicyType),
    st.one_of(DOMAINS, HOSTILE_TEXT),
    st.lists(st.one_of(st.sampled_from(LINES), HOSTILE_TEXT), max_size=5),
    st.lists(st.one_of(st.just("*.rcpt.example"), HOSTILE_TEXT), max_size=3),
    domain=DOMAINS,
)

_WORDS: Final = ("", "a.example", "250-mx\r\n250 x", "\ud800 \u202e", "=cmd()", "x" * 9999)

_SOME_DETAILS: Final = tuple(
    make_detail(
        result_type,
        sending_mta_ip=("192.0.2.1", "[2001:DB8::1]", "none")[number % 3],
        receiving_mx_hostname=_WORDS[number % 2],
        receiving_mx_helo=word,
        additional_information=_WORDS[-number % len(_WORDS)],
        failure_reason_code=word,
    )
    for result_type in list(ResultType)[::3]
    for number, word in enumerate(_WORDS)
)

_SOME_POLICIES: Final = tuple(
    make_policy(kind, owner, lines, (), domain=DOMAIN)
    for kind in PolicyType
    for owner in (DOMAIN, "mx.example", "no domain")
    for lines in (LINES, (), ("mode: none",), ("3 1 1 ( ab )", "2 0 1 CD"), ("mx: a\r\nb", "\0"))
)


def _some_sessions(count: int) -> list[Session]:
    rng = random.Random(8460)

    def judgement() -> JudgedPolicy:
        details = tuple(rng.choices(_SOME_DETAILS, k=rng.randrange(5)))
        succeeded = rng.random() < 0.5
        return JudgedPolicy(rng.choice(_SOME_POLICIES), succeeded, () if succeeded else details)

    return [
        Session(
            rng.choice([DOMAIN, "other.example"]),
            RECORD,
            tuple(judgement() for _ in range(rng.randint(1, 3))),
            tuple(rng.choices(_SOME_POLICIES, k=rng.choice((0, 0, 0, 1, 2)))),
        )
        for _ in range(count)
    ]


SESSIONS: Final = st.sampled_from(_some_sessions(300))
"""Sessions as they come out of datagrams, log lines and requests; many are partly alike."""


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """Reports of any sessions."""
    counts = Counts()
    for session in draw(st.lists(SESSIONS, min_size=1, max_size=5)):
        counts.add(DAY, replace(session, domain=DOMAIN), draw(st.integers(1, 10**6)))
    report = build_report(DAY, DOMAIN, counts.domain(DAY, DOMAIN), US)
    assert report is not None
    return report
