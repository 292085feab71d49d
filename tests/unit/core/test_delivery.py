# SPDX-License-Identifier: Apache-2.0
"""One delivery attempt: what the vectors cannot say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from strictmail.core.delivery import (
    Certificate,
    Dane,
    Delivery,
    Failure,
    Handshake,
    HostState,
    Outcome,
    Session,
    attempt_delivery,
    settle_policy,
)
from strictmail.core.mxset import MxStatus
from strictmail.core.sts.lifecycle import PolicyEntry, apply_fetched
from strictmail.core.sts.values import FetchedPolicy, FetchFailure, Mode, StsPolicy
from strictmail.core.tlsrpt.results import PolicyType, ResultType

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MX1, MX2 = "mx1.example.com", "mx2.example.com"


def _policy(mode: Mode = Mode.ENFORCE, max_age: int = 86400) -> StsPolicy:
    return StsPolicy(mode, max_age, ("*.example.com",), ())


def _fetched(mode: Mode = Mode.ENFORCE, max_age: int = 86400) -> FetchedPolicy:
    return FetchedPolicy(_policy(mode, max_age), b"")


FAILED = FetchFailure(ResultType.STS_POLICY_FETCH_ERROR, "no", "connect")


def _entry(age: int, policy_id: str = "1", max_age: int = 86400) -> PolicyEntry:
    return apply_fetched(
        None,
        policy_domain="example.com",
        policy_id=policy_id,
        fetched=_fetched(max_age=max_age),
        now=NOW - timedelta(seconds=age),
        txt_ttl_seconds=0,
        jitter=0,
    )


def _settle(
    entry: PolicyEntry | None, seen_id: str | None, fetched: FetchedPolicy | FetchFailure | None
) -> StsPolicy | None:
    return settle_policy(
        entry, policy_domain="example.com", seen_id=seen_id, fetched=fetched, now=NOW
    )


@pytest.mark.req("STS-APP-58", "STS-APP-62", "STS-APP-63", "STS-APP-64")
@pytest.mark.req("STS-FET-28", "STS-FET-29")
@pytest.mark.parametrize(
    ("entry", "seen_id", "fetched", "mode"),
    [
        pytest.param(None, None, None, None, id="nothing"),
        pytest.param(None, "1", FAILED, None, id="first-contact-fails"),
        pytest.param(None, "1", None, None, id="first-contact-not-fetched"),
        pytest.param(None, None, _fetched(), None, id="no-record-no-fetch"),
        pytest.param(None, "1", _fetched(), Mode.ENFORCE, id="first-contact"),
        pytest.param(_entry(9), None, None, Mode.ENFORCE, id="cached"),
        pytest.param(_entry(9), "1", _fetched(Mode.NONE), Mode.ENFORCE, id="same-id-no-fetch"),
        pytest.param(_entry(9), "2", _fetched(Mode.NONE), Mode.NONE, id="new-id"),
        pytest.param(_entry(9), "2", FAILED, Mode.ENFORCE, id="new-id-fetch-fails"),
        pytest.param(_entry(86400), None, None, Mode.ENFORCE, id="at-max-age"),
        pytest.param(_entry(86401), None, None, None, id="expired"),
        pytest.param(_entry(86401), "1", FAILED, None, id="expired-fetch-fails"),
        pytest.param(_entry(86401), "1", _fetched(), Mode.ENFORCE, id="expired-same-id-fetches"),
        pytest.param(_entry(0, max_age=0), None, None, Mode.ENFORCE, id="max-age-0-at-once"),
        pytest.param(_entry(1, max_age=0), None, None, None, id="max-age-0-later"),
    ],
)
def test_policy_in_force(
    entry: PolicyEntry | None,
    seen_id: str | None,
    fetched: FetchedPolicy | FetchFailure | None,
    mode: Mode | None,
) -> None:
    policy = _settle(entry, seen_id, fetched)
    assert (policy.mode if policy else None) == mode


def _report(delivery: Delivery) -> list[tuple[str, str, str]]:
    return [(f.policy_type, f.result_type, f.mx_host) for f in delivery.failures]


@pytest.mark.req("STS-APP-30", "STS-APP-31", "STS-APP-32", "STS-APP-33", "STS-APP-39")
@pytest.mark.parametrize(
    ("host", "result_type", "reason_code"),
    [
        (HostState(MX1, certificate=Certificate.EXPIRED), "certificate-expired", ""),
        (HostState(MX1, certificate=Certificate.UNTRUSTED), "certificate-not-trusted", ""),
        (HostState(MX1, certificate=Certificate.WRONG_NAME), "certificate-host-mismatch", ""),
        (HostState(MX1, handshake=Handshake.NO_STARTTLS), "starttls-not-supported", ""),
        (HostState(MX1, handshake=Handshake.FAILED), "validation-failure", ""),
        (HostState(MX1, handshake=Handshake.OUTDATED), "validation-failure", "tls-version"),
        (HostState("mx.evil.example"), "validation-failure", "mx-mismatch"),
    ],
)
def test_each_fault_has_its_result_type(
    host: HostState, result_type: str, reason_code: str
) -> None:
    enforced = attempt_delivery(_policy(), [host])
    assert (enforced.outcome, enforced.session) == (Outcome.DEFER, Session.NONE)
    failure = Failure(PolicyType.STS, ResultType(result_type), host.name, reason_code)
    assert enforced.failures == (failure,)
    assert [name for name, _ in enforced.skipped] == [host.name]
    tested = attempt_delivery(_policy(Mode.TESTING), [host])
    assert (tested.outcome, tested.host) == (Outcome.DELIVER, host.name)
    assert tested.failures == (failure,)
    for policy in (None, _policy(Mode.NONE)):
        assert attempt_delivery(policy, [host]).failures == ()


@pytest.mark.req("STS-APP-24", "STS-APP-26", "STS-APP-60", "STS-APP-76", "DANE-75")
def test_the_walk_goes_on_and_remembers() -> None:
    hosts = [
        HostState("mx0.example.com", reachable=False),
        HostState("mx.evil.example"),
        HostState(MX1, dane=Dane.MISMATCH, certificate=Certificate.EXPIRED),
        HostState(MX2),
        HostState("mx3.example.com", certificate=Certificate.EXPIRED),
    ]
    delivery = attempt_delivery(_policy(), hosts)
    assert (delivery.outcome, delivery.host, delivery.session) == (
        Outcome.DELIVER,
        MX2,
        Session.PKIX,
    )
    assert _report(delivery) == [
        ("sts", "validation-failure", "mx.evil.example"),
        ("tlsa", "tlsa-invalid", MX1),
        ("sts", "certificate-expired", MX1),
    ]
    assert [name for name, _ in delivery.skipped] == ["mx0.example.com", "mx.evil.example", MX1]


@pytest.mark.req("STS-APP-70", "STS-APP-71", "STS-APP-73", "DANE-37", "DANE-74", "DANE-76")
@pytest.mark.parametrize("policy", [None, *(_policy(mode) for mode in Mode)])
@pytest.mark.parametrize(
    "host",
    [
        HostState(MX1, dane=Dane.MISMATCH),
        HostState(MX1, dane=Dane.ERROR),
        HostState(MX1, dane=Dane.MATCH, handshake=Handshake.NO_STARTTLS),
        HostState(MX1, dane=Dane.MATCH, handshake=Handshake.FAILED),
        HostState(MX1, dane=Dane.UNUSABLE, handshake=Handshake.NO_STARTTLS),
    ],
)
def test_no_policy_rescues_a_failed_dane(policy: StsPolicy | None, host: HostState) -> None:
    delivery = attempt_delivery(policy, [host])
    assert delivery.outcome is Outcome.DEFER
    assert PolicyType.TLSA in {failure.policy_type for failure in delivery.failures}


@pytest.mark.req("STS-APP-72")
def test_the_switch_for_c_01() -> None:
    good = HostState(MX1, dane=Dane.MATCH)
    off_policy = HostState("mx.other.example", dane=Dane.MATCH)
    wins = attempt_delivery(_policy(), [off_policy])
    assert (wins.outcome, wins.session) == (Outcome.DELIVER, Session.DANE)
    assert _report(wins) == [("sts", "validation-failure", "mx.other.example")]
    both = attempt_delivery(_policy(), [off_policy, good], dane_suffices=False)
    assert (both.host, both.session) == (MX1, Session.DANE)
    tested = attempt_delivery(_policy(Mode.TESTING), [off_policy], dane_suffices=False)
    assert tested.outcome is Outcome.DELIVER


@pytest.mark.req("STS-APP-75", "DANE-49")
def test_unusable_records() -> None:
    bad = HostState(MX1, dane=Dane.UNUSABLE, certificate=Certificate.UNTRUSTED)
    assert attempt_delivery(_policy(), [bad]).outcome is Outcome.DEFER
    alone = attempt_delivery(None, [bad])
    assert (alone.outcome, alone.session) == (Outcome.DELIVER, Session.ENCRYPTED)
    tested = attempt_delivery(_policy(Mode.TESTING), [bad])
    assert (tested.outcome, tested.session) == (Outcome.DELIVER, Session.ENCRYPTED)
    assert _report(tested) == [
        ("tlsa", "tlsa-invalid", MX1),
        ("sts", "certificate-not-trusted", MX1),
    ]


@pytest.mark.req("SEC-39")
@pytest.mark.parametrize(
    ("handshake", "session"),
    [
        (Handshake.DONE, Session.ENCRYPTED),
        (Handshake.OUTDATED, Session.ENCRYPTED),
        (Handshake.NO_STARTTLS, Session.CLEAR),
        (Handshake.FAILED, Session.CLEAR),
    ],
)
def test_without_policy_nobody_is_verified(handshake: Handshake, session: Session) -> None:
    delivery = attempt_delivery(None, [HostState(MX1, handshake=handshake)])
    assert (delivery.outcome, delivery.session) == (Outcome.DELIVER, session)


@pytest.mark.req("STS-APP-13", "STS-APP-14", "STS-APP-15", "STS-APP-16", "DANE-11")
@pytest.mark.parametrize(
    ("status", "policy", "secure", "outcome"),
    [
        (MxStatus.ERROR, None, False, Outcome.DEFER),
        (MxStatus.ERROR, _policy(), True, Outcome.DEFER),
        (MxStatus.NULL, None, False, Outcome.BOUNCE),
        (MxStatus.NULL, _policy(Mode.TESTING), False, Outcome.BOUNCE),
        (MxStatus.NULL, _policy(), False, Outcome.DEFER),
        (MxStatus.NULL, _policy(), True, Outcome.BOUNCE),
        (MxStatus.NXDOMAIN, None, False, Outcome.BOUNCE),
        (MxStatus.NXDOMAIN, _policy(), False, Outcome.DEFER),
        (MxStatus.FOUND, None, False, Outcome.DEFER),
    ],
)
def test_no_hosts(
    status: MxStatus, policy: StsPolicy | None, secure: bool, outcome: Outcome
) -> None:
    delivery = attempt_delivery(policy, [], mx_status=status, mx_secure=secure)
    assert (delivery.outcome, delivery.failures, delivery.host) == (outcome, (), "")
    assert delivery.reason


@pytest.mark.req("STS-APP-25")
def test_the_walk_ends_at_ourselves() -> None:
    hosts = [HostState(MX1, reachable=False), HostState("me", is_self=True), HostState(MX2)]
    assert attempt_delivery(None, hosts).outcome is Outcome.DEFER


@pytest.mark.req("STS-APP-61")
def test_a_rejection_is_the_host_s_word() -> None:
    delivery = attempt_delivery(_policy(), [HostState(MX1, rejects=True), HostState(MX2)])
    assert (delivery.outcome, delivery.host, delivery.session) == (
        Outcome.BOUNCE,
        MX1,
        Session.PKIX,
    )
    assert delivery.failures == ()
