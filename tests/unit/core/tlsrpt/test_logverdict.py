# SPDX-License-Identifier: Apache-2.0
"""What a logged session counts as, by what strictmail knew: each row of the module's table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from strictmail.core.decision import Decision, Level, PolicyInfo
from strictmail.core.dnsvalues import Tlsa
from strictmail.core.mta.postfixlog import LoggedSession, LogOutcome
from strictmail.core.mxset import MxHost, MxSet, MxStatus, TlsaState
from strictmail.core.overrides import Override, OverrideAction
from strictmail.core.sts.values import Mode
from strictmail.core.tlsrpt.logverdict import NotCounted, judge_logged
from strictmail.core.tlsrpt.session import Session

WHEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MX = "mx.example.com"
RECORD = Tlsa(3, 1, 1, b"\xab" * 32)


def policy(mode: Mode, pattern: str = MX) -> PolicyInfo:
    return PolicyInfo(
        policy_id="1",
        mode=mode,
        max_age=86400,
        mx_patterns=(pattern,),
        policy_strings=("version: STSv1", f"mode: {mode}"),
        fetched_at=WHEN - timedelta(days=1),
        expires_at=WHEN + timedelta(days=1),
    )


def known(level: Level, info: PolicyInfo | None = None, tlsa: TlsaState | None = None) -> Decision:
    state = tlsa or TlsaState.NONE
    records = (RECORD,) if tlsa in (TlsaState.USABLE, TlsaState.UNUSABLE) else ()
    host = MxHost(MX, 10, state, "base.example.com" if records else "", records)
    mx = MxSet(MxStatus.FOUND, secure=tlsa is not None, hosts=(host,), ttl=60)
    return Decision("example.com", level, "x", policy=info, mx=mx)


NOTHING = known(Level.NONE)
ENFORCED = known(Level.SECURE, policy(Mode.ENFORCE))
TESTING = known(Level.NONE, policy(Mode.TESTING))
TESTING_ELSEWHERE = known(Level.NONE, policy(Mode.TESTING, "mx.example.net"))
MODE_NONE = known(Level.NONE, policy(Mode.NONE))
DANE = known(Level.DANE_ONLY, None, TlsaState.USABLE)
BOTH = known(Level.DANE_ONLY, policy(Mode.ENFORCE), TlsaState.USABLE)
UNUSABLE = known(Level.DANE, None, TlsaState.UNUSABLE)
UNUSABLE_ENFORCED = known(Level.SECURE, policy(Mode.ENFORCE), TlsaState.UNUSABLE)


def logged(outcome: LogOutcome, trust: str = "", fault: str = "") -> LoggedSession:
    word = LogOutcome(trust) if trust else None
    if word is None and outcome in (
        LogOutcome.VERIFIED,
        LogOutcome.TRUSTED,
        LogOutcome.UNTRUSTED,
        LogOutcome.ANONYMOUS,
    ):
        word = outcome
    return LoggedSession(b"n", WHEN, "example.com", MX, "192.0.2.1", outcome, word, fault)


def words(judged: Session | NotCounted) -> str:
    if isinstance(judged, NotCounted):
        return judged.reason
    if not judged.policies:
        return f"{judged.unverified[0].policy_type} unverified"
    (one,) = judged.policies
    if one.succeeded:
        return f"{one.policy.policy_type} success"
    (detail,) = one.failures
    return f"{one.policy.policy_type} {detail.result_type} {detail.failure_reason_code}".rstrip()


O = LogOutcome  # noqa: E741 - a short name for a long table
OFF = "sts validation-failure mx-host-not-in-policy"
NOT_TRUSTED = "certificate-not-trusted self-signed certificate"
SELF_SIGNED = logged(O.UNTRUSTED, fault="self-signed certificate")
REFUSED = logged(O.CERTIFICATE, "untrusted", "self-signed certificate")


@pytest.mark.req("RPT-JSON-24", "RPT-JSON-26", "RPT-JSON-44")
@pytest.mark.parametrize(
    ("session", "decision", "expected"),
    [
        # verified
        (logged(O.VERIFIED), DANE, "tlsa success"),
        (logged(O.VERIFIED), BOTH, "tlsa success"),
        (logged(O.VERIFIED), ENFORCED, "sts success"),
        (logged(O.VERIFIED), UNUSABLE_ENFORCED, "sts success"),
        (logged(O.VERIFIED), TESTING, "sts success"),
        (logged(O.VERIFIED), TESTING_ELSEWHERE, "verified-for-another-reason"),
        (logged(O.VERIFIED), NOTHING, "verified-for-another-reason"),
        (logged(O.VERIFIED), MODE_NONE, "verified-for-another-reason"),
        # encrypted, by whomever
        (logged(O.TRUSTED), NOTHING, "no-policy-found success"),
        (SELF_SIGNED, NOTHING, "no-policy-found success"),
        (logged(O.ANONYMOUS), MODE_NONE, "no-policy-found success"),
        (logged(O.TRUSTED), UNUSABLE, "tlsa tlsa-invalid all-TLSA-records-unusable"),
        (logged(O.TRUSTED), DANE, "not-verified-as-demanded"),
        (logged(O.TRUSTED), ENFORCED, "not-verified-as-demanded"),
        (logged(O.TRUSTED), TESTING, "sts unverified"),
        (SELF_SIGNED, TESTING, f"sts {NOT_TRUSTED}"),
        (logged(O.ANONYMOUS), TESTING, "sts certificate-not-trusted"),
        (logged(O.TRUSTED), TESTING_ELSEWHERE, OFF),
        (SELF_SIGNED, TESTING_ELSEWHERE, OFF),
        # refused for the certificate
        (REFUSED, ENFORCED, f"sts {NOT_TRUSTED}"),
        (REFUSED, DANE, f"tlsa {NOT_TRUSTED}"),
        (REFUSED, BOTH, f"tlsa {NOT_TRUSTED}"),
        (REFUSED, UNUSABLE_ENFORCED, f"sts {NOT_TRUSTED}"),
        (REFUSED, NOTHING, "refused-for-another-reason"),
        (
            logged(O.CERTIFICATE, "untrusted", "no matching DANE TLSA records"),
            NOTHING,
            "tlsa certificate-not-trusted no matching DANE TLSA records",
        ),
        (
            logged(O.CERTIFICATE, "untrusted", "certificate has expired"),
            ENFORCED,
            "sts certificate-expired",
        ),
        (
            logged(O.CERTIFICATE, "untrusted", "hostname mismatch"),
            ENFORCED,
            "sts certificate-host-mismatch",
        ),
        (logged(O.CERTIFICATE, "trusted"), ENFORCED, "sts certificate-host-mismatch"),
        (
            logged(O.CERTIFICATE, "untrusted", "certificate not yet valid"),
            ENFORCED,
            "sts validation-failure certificate not yet valid",
        ),
        # no TLS
        (logged(O.NO_STARTTLS), ENFORCED, "sts starttls-not-supported"),
        (logged(O.NO_STARTTLS), TESTING, "sts starttls-not-supported"),
        (logged(O.NO_STARTTLS), DANE, "tlsa starttls-not-supported"),
        (logged(O.NO_STARTTLS), UNUSABLE, "tlsa starttls-not-supported"),
        (logged(O.NO_STARTTLS), NOTHING, "no-policy-found starttls-not-supported"),
        (logged(O.HANDSHAKE), ENFORCED, "sts validation-failure tls-handshake-failure"),
        (logged(O.HANDSHAKE), NOTHING, "no-policy-found validation-failure tls-handshake-failure"),
        (logged(O.CLEAR), TESTING, "sts starttls-not-supported"),
        (logged(O.CLEAR), NOTHING, "clear-text-without-policy"),
        (logged(O.CLEAR), ENFORCED, "not-verified-as-demanded"),
        (logged(O.CLEAR), DANE, "not-verified-as-demanded"),
        # no session
        (logged(O.OFF_POLICY), ENFORCED, OFF),
        (logged(O.OFF_POLICY), NOTHING, "no-policy-known"),
        (logged(O.TLSA_LOOKUP), NOTHING, "tlsa dnssec-invalid"),
        (logged(O.NO_TLSA), BOTH, "tlsa dane-required"),
    ],
)
def test_a_session_and_what_was_known(
    session: LoggedSession, decision: Decision, expected: str
) -> None:
    assert words(judge_logged(session, decision)) == expected


def test_every_outcome_is_judged() -> None:
    for outcome in LogOutcome:
        for decision in (NOTHING, ENFORCED, TESTING, DANE, UNUSABLE):
            judge_logged(logged(outcome), decision)


@pytest.mark.req("RPT-JSON-16", "RPT-JSON-17", "RPT-JSON-18")
def test_a_policy_is_quoted_as_it_was_known() -> None:
    judged = judge_logged(logged(O.VERIFIED), ENFORCED)
    assert isinstance(judged, Session)
    sts = judged.policies[0].policy
    assert sts.policy_strings == ("version: STSv1", "mode: enforce")
    assert (sts.policy_domain, sts.mx_host_patterns) == ("example.com", (MX,))
    judged = judge_logged(logged(O.VERIFIED), DANE)
    assert isinstance(judged, Session)
    tlsa = judged.policies[0].policy
    assert tlsa.policy_strings == (f"3 1 1 {'AB' * 32}",)
    assert tlsa.policy_domain == "base.example.com"


def test_a_failure_names_host_and_address() -> None:
    judged = judge_logged(REFUSED, ENFORCED)
    assert isinstance(judged, Session)
    (detail,) = judged.policies[0].failures
    assert (detail.receiving_mx_hostname, detail.receiving_ip) == (MX, "192.0.2.1")
    assert judged.record == ""


def test_an_override_is_nobodys_policy() -> None:
    override = Override(
        nexthop="example.com",
        action=OverrideAction.ENCRYPT,
        mx_patterns=(),
        reason="x",
        created_at=WHEN,
        expires_at=WHEN + timedelta(days=1),
    )
    decision = Decision("example.com", Level.ENCRYPT, "override", override=override)
    assert words(judge_logged(logged(O.TRUSTED), decision)) == "override"
