# SPDX-License-Identifier: Apache-2.0
"""Sessions told in JSON, by MTAs that send no datagrams: both directions.

The names are those of a report (RFC 8460 §4.4), so that who knows one knows the other::

    {"sessions": [{"domain": recipient domain, "time": RFC 3339 (else: now), "count": 1,
                   "tlsrpt-record": text of its TLSRPT record, if it was looked up,
                   "policies": [{"policy-type": .., "policy-domain": .., "policy-string": [..],
                                 "mx-host": [..], "result": "success" | "failure",
                                 "verified": true | false, "failure-details": [..]}]}],
     "identity": sender identity, "source": who saw them}

===================================  =============================================================
what comes                           what is made of it
===================================  =============================================================
unknown members, wrong types         SessionSyntaxError: a mistyped name must not lose a failure
success under a policy that          counted only with `verified`: true; else the session is
enforces not                         unverified, and reported only if a probe says more
failure-details with a success       SessionSyntaxError
a failure without details            a failure whose reason nobody gave
a time too far back, or to come      SessionSyntaxError
===================================  =============================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from strictmail.core.errors import DomainSyntaxError, SessionSyntaxError
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import (
    JudgedPolicy,
    ReportedPolicy,
    Session,
    Source,
    make_detail,
    make_policy,
    policy_mode,
    report_domain,
)

if TYPE_CHECKING:
    from strictmail.core.names import Domain
    from strictmail.core.tlsrpt.session import FailureDetail

MAX_BODY_BYTES: Final = 1024 * 1024
"""Of one document."""

MAX_SESSIONS: Final = 1000
"""In one document."""

MAX_COUNT: Final = 1_000_000
"""Sessions that one element stands for."""

MAX_PAST: Final = timedelta(days=7)
"""Older sessions are refused: the reports of their day have long gone out."""

MAX_FUTURE: Final = timedelta(minutes=5)
"""What the clock of whoever tells may be ahead."""

_Name = Annotated[str, msgspec.Meta(max_length=1024)]
_Text = Annotated[str, msgspec.Meta(max_length=4096)]


class FailureDetailDocument(
    msgspec.Struct, rename="kebab", forbid_unknown_fields=True, omit_defaults=True
):
    """How a session failed (RFC 8460 §4.4)."""

    result_type: ResultType
    sending_mta_ip: _Name = ""
    receiving_mx_hostname: _Name = ""
    receiving_mx_helo: _Name = ""
    receiving_ip: _Name = ""
    additional_information: _Text = ""
    failure_reason_code: _Text = ""


class SessionPolicyDocument(
    msgspec.Struct, rename="kebab", forbid_unknown_fields=True, omit_defaults=True
):
    """A policy that a session was judged under; `verified`: the success was looked at."""

    policy_type: PolicyType
    result: Literal["success", "failure"]
    policy_domain: _Name = ""
    policy_string: Annotated[list[str], msgspec.Meta(max_length=4096)] = []
    mx_host: Annotated[list[_Name], msgspec.Meta(max_length=4096)] = []
    verified: bool = False
    failure_details: Annotated[list[FailureDetailDocument], msgspec.Meta(max_length=64)] = []


class SessionDocument(
    msgspec.Struct, rename="kebab", forbid_unknown_fields=True, omit_defaults=True
):
    """One session, or `count` sessions that were alike."""

    domain: _Name
    policies: Annotated[list[SessionPolicyDocument], msgspec.Meta(min_length=1, max_length=64)]
    time: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)] = 1
    tlsrpt_record: _Text = ""


class SessionsDocument(
    msgspec.Struct, rename="kebab", forbid_unknown_fields=True, omit_defaults=True
):
    """What is posted: all of it is counted, or nothing."""

    sessions: Annotated[list[SessionDocument], msgspec.Meta(min_length=1, max_length=MAX_SESSIONS)]
    identity: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{0,32}\Z")] = ""
    source: Source = Source.HTTP


@dataclass(frozen=True, slots=True)
class TimedSession:
    """A session, when it was, and how many were alike; `when` None: nobody said."""

    session: Session
    when: datetime | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class ToldSessions:
    """A whole document.

    Attributes:
        sessions: At least one.
        identity: Who reports them; "" for the only one.
        source: Who saw them.
    """

    sessions: tuple[TimedSession, ...]
    identity: str = ""
    source: Source = Source.HTTP


_NOT_HERE: Final = {
    Source.POSTFIX: "Postfix tells by datagrams",
    Source.PROBE: "a probe tells of no sessions",
}

_DECODER: Final = msgspec.json.Decoder(SessionsDocument)
_ENCODER: Final = msgspec.json.Encoder()
_PLACE: Final = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_MISSING: Final = re.compile(r"field `([^`]*)`")
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


def decode_sessions(data: bytes, now: datetime) -> ToldSessions:
    """Read a document.

    Args:
        data: JSON, at most MAX_BODY_BYTES.
        now: For what lies too far back or ahead; aware, UTC.

    Raises:
        SessionSyntaxError: It cannot be counted; `place` names the member at fault.
    """
    try:
        document = _DECODER.decode(data)
    except msgspec.ValidationError as error:
        raise _fault(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SessionSyntaxError(f"not JSON: {error}") from error
    if document.source in _NOT_HERE:
        raise SessionSyntaxError(_NOT_HERE[document.source], place="/source")
    sessions = tuple(
        _read_session(one, f"/sessions/{number}", now)
        for number, one in enumerate(document.sessions)
    )
    return ToldSessions(sessions, document.identity, document.source)


def encode_sessions(told: ToldSessions) -> bytes:
    """The same backwards."""
    return _ENCODER.encode(
        SessionsDocument(
            [_write_session(one) for one in told.sessions],
            told.identity,
            told.source,
        )
    )


def _fault(message: str) -> SessionSyntaxError:
    found = _PLACE.search(message)
    sentence = message[: found.start()] if found else message
    place = "".join(f"/{name or index}" for name, index in _STEP.findall(found[1] if found else ""))
    missing = _MISSING.search(sentence)
    if missing is not None:
        place += f"/{missing[1]}"
    return SessionSyntaxError(sentence, place=place)


def _read_session(document: SessionDocument, place: str, now: datetime) -> TimedSession:
    try:
        domain = report_domain(document.domain)
    except DomainSyntaxError as error:
        raise SessionSyntaxError(f"no domain: {error}", place=f"{place}/domain") from error
    when = document.time.astimezone(UTC) if document.time is not None else None
    if when is not None and not now - MAX_PAST <= when <= now + MAX_FUTURE:
        raise SessionSyntaxError(
            f"a time from {MAX_PAST.days} days ago to now is expected", place=f"{place}/time"
        )
    judged: list[JudgedPolicy] = []
    unverified: list[ReportedPolicy] = []
    for number, policy in enumerate(document.policies):
        _judge(policy, domain, f"{place}/policies/{number}", judged, unverified)
    session = Session(domain, document.tlsrpt_record, tuple(judged), tuple(unverified))
    return TimedSession(session, when, document.count)


def _judge(
    policy: SessionPolicyDocument,
    domain: Domain,
    place: str,
    judged: list[JudgedPolicy],
    unverified: list[ReportedPolicy],
) -> None:
    if policy.policy_domain:
        try:
            report_domain(policy.policy_domain)
        except DomainSyntaxError as error:
            message = f"no domain: {error}"
            raise SessionSyntaxError(message, place=f"{place}/policy-domain") from error
    reported = make_policy(
        policy.policy_type,
        policy.policy_domain,
        policy.policy_string,
        policy.mx_host,
        domain=domain,
    )
    if policy.result == "failure":
        details = tuple(map(_read_detail, policy.failure_details))
        judged.append(JudgedPolicy(reported, succeeded=False, failures=details))
        return
    if policy.failure_details:
        raise SessionSyntaxError(
            "a success has no failure details", place=f"{place}/failure-details"
        )
    is_sts = reported.policy_type is PolicyType.STS
    if is_sts and policy_mode(reported.policy_strings) != "enforce" and not policy.verified:
        # RFC 8460 §4.2.1: a success is a session that satisfied the policy (RPT-JSON-24).
        unverified.append(reported)
    else:
        judged.append(JudgedPolicy(reported, succeeded=True))


def _read_detail(document: FailureDetailDocument) -> FailureDetail:
    return make_detail(
        document.result_type,
        sending_mta_ip=document.sending_mta_ip,
        receiving_mx_hostname=document.receiving_mx_hostname,
        receiving_mx_helo=document.receiving_mx_helo,
        receiving_ip=document.receiving_ip,
        additional_information=document.additional_information,
        failure_reason_code=document.failure_reason_code,
    )


def _write_session(one: TimedSession) -> SessionDocument:
    session = one.session
    return SessionDocument(
        domain=session.domain,
        policies=[
            *(_write_policy(judged.policy, judged) for judged in session.policies),
            *(_write_policy(policy, None) for policy in session.unverified),
        ],
        time=one.when,
        count=one.times,
        tlsrpt_record=session.record,
    )


def _write_policy(policy: ReportedPolicy, judged: JudgedPolicy | None) -> SessionPolicyDocument:
    return SessionPolicyDocument(
        policy_type=policy.policy_type,
        result="success" if judged is None or judged.succeeded else "failure",
        policy_domain=policy.policy_domain,
        policy_string=list(policy.policy_strings),
        mx_host=list(policy.mx_host_patterns),
        verified=judged is not None and judged.succeeded,
        failure_details=[_write_detail(detail) for detail in (judged.failures if judged else ())],
    )


def _write_detail(detail: FailureDetail) -> FailureDetailDocument:
    return FailureDetailDocument(
        result_type=detail.result_type,
        sending_mta_ip=detail.sending_mta_ip,
        receiving_mx_hostname=detail.receiving_mx_hostname,
        receiving_mx_helo=detail.receiving_mx_helo,
        receiving_ip=detail.receiving_ip,
        additional_information=detail.additional_information,
        failure_reason_code=detail.failure_reason_code,
    )
