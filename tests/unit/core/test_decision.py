# SPDX-License-Identifier: Apache-2.0
"""The decision table: every row of `core/decision.py`, expectations from the requirements."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from strictmail.core.decision import (
    REASONS,
    DecisionSettings,
    FailureStance,
    Level,
    ListenerProfile,
    PartialDane,
    PolicyInfo,
    decide,
    needs_mx,
    raise_to_default,
    simple_decision,
)
from strictmail.core.decision import (
    TestingStance as Stance,
)
from strictmail.core.mxset import MxHost, MxSet, MxStatus, TlsaState
from strictmail.core.overrides import Override, OverrideAction
from strictmail.core.sts.values import Mode

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DANE = ListenerProfile(dane=True)
PLAIN = ListenerProfile()
U, N, X, E, A = (
    TlsaState.USABLE,
    TlsaState.NONE,
    TlsaState.UNUSABLE,
    TlsaState.ERROR,
    TlsaState.NO_ADDRESS,
)


def policy(mode: Mode = Mode.ENFORCE, *patterns: str) -> PolicyInfo:
    return PolicyInfo(
        policy_id="1",
        mode=mode,
        max_age=86400,
        mx_patterns=patterns or ("*.example.com",),
        policy_strings=(),
        fetched_at=NOW,
        expires_at=NOW + timedelta(days=1),
    )


def mx(*states: TlsaState, secure: bool = True, status: MxStatus = MxStatus.FOUND) -> MxSet:
    hosts = tuple(
        MxHost(f"mx{i}.example.com", i * 10, state) for i, state in enumerate(states, start=1)
    )
    return MxSet(status, secure=secure, hosts=hosts, ttl=300)


def level(
    profile: ListenerProfile,
    policy_: PolicyInfo | None,
    mx_: MxSet | None,
    settings: DecisionSettings | None = None,
) -> Level:
    return decide(
        "example.com",
        profile=profile,
        settings=settings or DecisionSettings(),
        policy=policy_,
        mx=mx_,
    ).level


ENFORCE, TESTING, NONE = policy(), policy(Mode.TESTING), policy(Mode.NONE)


@pytest.mark.parametrize(
    ("mx_", "policy_", "expected"),
    [
        # MX insecure: MTA-STS alone decides.
        pytest.param(mx(U, secure=False), ENFORCE, Level.SECURE, id="insecure-enforce"),
        pytest.param(mx(U, secure=False), None, Level.NONE, id="insecure-nothing"),
        pytest.param(mx(U, secure=False), TESTING, Level.NONE, id="insecure-testing"),
        pytest.param(mx(N, secure=False), NONE, Level.NONE, id="insecure-none"),
        # Usable TLSA everywhere: DANE, whatever the policy.
        pytest.param(mx(U, U), None, Level.DANE_ONLY, id="dane"),
        pytest.param(mx(U, U), ENFORCE, Level.DANE_ONLY, id="dane-enforce"),
        pytest.param(mx(U, U), TESTING, Level.DANE_ONLY, id="dane-testing"),
        pytest.param(mx(U, U), NONE, Level.DANE_ONLY, id="dane-none"),
        # Partly.
        pytest.param(mx(U, N), ENFORCE, Level.DANE_ONLY, id="partial-enforce"),
        pytest.param(mx(U, N), None, Level.DANE, id="partial"),
        pytest.param(mx(U, X), None, Level.DANE, id="partial-unusable"),
        pytest.param(mx(N, U), TESTING, Level.DANE, id="partial-testing"),
        # Present and unusable.
        pytest.param(mx(X), ENFORCE, Level.SECURE, id="unusable-enforce"),
        pytest.param(mx(X, N), None, Level.DANE, id="unusable"),
        # None at all.
        pytest.param(mx(N, N), ENFORCE, Level.SECURE, id="no-tlsa-enforce"),
        pytest.param(mx(N, N), None, Level.NONE, id="no-tlsa"),
        pytest.param(mx(TlsaState.NOT_APPLICABLE), ENFORCE, Level.SECURE, id="insecure-address"),
        # A TLSA lookup that failed may hide usable records.
        pytest.param(mx(E), ENFORCE, Level.DANE_ONLY, id="tlsa-error-enforce"),
        pytest.param(mx(E), None, Level.DANE, id="tlsa-error"),
        pytest.param(mx(E, N), ENFORCE, Level.DANE_ONLY, id="tlsa-error-partial-enforce"),
        pytest.param(mx(E, N), None, Level.DANE, id="tlsa-error-partial"),
        pytest.param(mx(U, E), None, Level.DANE_ONLY, id="usable-and-error"),
        # A host that cannot be reached counts for nothing.
        pytest.param(mx(U, A), None, Level.DANE_ONLY, id="unreachable-host"),
        pytest.param(mx(A), ENFORCE, Level.DEFER, id="all-unreachable-enforce"),
        # .. but the MTA may reach it, and only TLSA records it finds itself say how.
        pytest.param(mx(A), None, Level.DANE, id="all-unreachable"),
        pytest.param(mx(A, N), None, Level.DANE, id="unreachable-and-none"),
        pytest.param(mx(A, N), TESTING, Level.DANE, id="unreachable-and-none-testing"),
        pytest.param(mx(A, N), ENFORCE, Level.SECURE, id="unreachable-and-none-enforce"),
        # The MX lookup itself.
        pytest.param(mx(status=MxStatus.ERROR), ENFORCE, Level.DEFER, id="mx-error-enforce"),
        pytest.param(mx(status=MxStatus.ERROR), None, Level.DANE, id="mx-error"),
        pytest.param(mx(status=MxStatus.NULL), ENFORCE, Level.NONE, id="null-mx-signed"),
        pytest.param(
            mx(status=MxStatus.NULL, secure=False), ENFORCE, Level.DEFER, id="null-mx-unsigned"
        ),
        pytest.param(mx(status=MxStatus.NULL, secure=False), None, Level.NONE, id="null-mx"),
        pytest.param(
            mx(status=MxStatus.NXDOMAIN, secure=False), ENFORCE, Level.DEFER, id="nxdomain-enforce"
        ),
        pytest.param(
            mx(U, secure=False, status=MxStatus.CONFIGURED), None, Level.DANE_ONLY, id="smart-host"
        ),
    ],
)
@pytest.mark.req(
    "STS-APP-70",
    "STS-APP-71",
    "STS-APP-73",
    "STS-APP-74",
    "STS-APP-75",
    "STS-APP-13",
    "STS-APP-14",
    "STS-APP-16",
    "STS-APP-51",
    "STS-APP-53",
    "DANE-11",
    "DANE-22",
    "DANE-23",
    "DANE-28",
    "DANE-36",
    "DANE-37",
    "DANE-49",
    "SEC-29",
)
def test_with_dane(mx_: MxSet, policy_: PolicyInfo | None, expected: Level) -> None:
    assert level(DANE, policy_, mx_) is expected


@pytest.mark.parametrize(
    ("mx_", "policy_", "expected"),
    [
        pytest.param(mx(U), ENFORCE, Level.SECURE, id="enforce"),
        pytest.param(mx(E), ENFORCE, Level.SECURE, id="enforce-tlsa-error"),
        pytest.param(None, None, Level.NONE, id="nothing"),
        pytest.param(None, TESTING, Level.NONE, id="testing"),
        pytest.param(None, NONE, Level.NONE, id="none"),
        pytest.param(mx(status=MxStatus.ERROR), ENFORCE, Level.DEFER, id="mx-error"),
    ],
)
@pytest.mark.req("STS-APP-50", "STS-APP-51", "STS-APP-53", "DANE-27")
def test_without_dane(mx_: MxSet | None, policy_: PolicyInfo | None, expected: Level) -> None:
    assert level(PLAIN, policy_, mx_) is expected


@pytest.mark.req("STS-APP-17", "STS-APP-18", "STS-APP-26", "STS-APP-22")
def test_enforce_allows_the_listed_hosts_only() -> None:
    hosts = (MxHost("mx.evil.example", 5), MxHost("mx1.example.com", 10))
    decision = decide(
        "example.com",
        profile=PLAIN,
        settings=DecisionSettings(),
        policy=ENFORCE,
        mx=MxSet(MxStatus.FOUND, hosts=hosts, ttl=60),
    )
    assert decision.level is Level.SECURE
    assert decision.allowed_mx == ("mx1.example.com",)
    assert [r.name for r in decision.refused_mx] == ["mx.evil.example"]


@pytest.mark.req("STS-APP-55", "STS-APP-59", "STS-APP-13")
def test_enforce_without_a_listed_host_defers() -> None:
    hosts = (MxHost("mx.evil.example", 5),)
    decision = decide(
        "example.com",
        profile=PLAIN,
        settings=DecisionSettings(),
        policy=ENFORCE,
        mx=MxSet(MxStatus.FOUND, hosts=hosts, ttl=60),
    )
    assert (decision.level, decision.reason) == (Level.DEFER, "enforce-no-mx")


def test_partial_dane_setting_secure_uses_only_hosts_without_tlsa() -> None:
    settings = DecisionSettings(partial_dane=PartialDane.SECURE)
    decision = decide("d", profile=DANE, settings=settings, policy=ENFORCE, mx=mx(U, N, E))
    assert (decision.level, decision.allowed_mx) == (Level.SECURE, ("mx2.example.com",))


@pytest.mark.req("STS-APP-72")
@pytest.mark.parametrize(
    ("stance", "expected"),
    [(FailureStance.DELIVER, Level.DANE_ONLY), (FailureStance.DEFER, Level.DEFER)],
)
def test_dane_passes_but_the_host_is_off_the_policy(stance: FailureStance, expected: Level) -> None:
    settings = DecisionSettings(off_policy_dane=stance)
    assert level(DANE, policy(Mode.ENFORCE, "other.example"), mx(U), settings) is expected


@pytest.mark.req("STS-REC-30")
@pytest.mark.parametrize(
    ("stance", "expected"),
    [(FailureStance.DELIVER, Level.NONE), (FailureStance.DEFER, Level.DEFER)],
)
def test_failed_record_lookup_with_nothing_cached(stance: FailureStance, expected: Level) -> None:
    decision = decide(
        "d",
        profile=PLAIN,
        settings=DecisionSettings(dns_failure=stance),
        policy=None,
        mx=None,
        record_failed=True,
    )
    assert decision.level is expected


def override(action: OverrideAction, *patterns: str) -> Override:
    return Override("d", action, "because", NOW, NOW + timedelta(days=1), patterns)


@pytest.mark.req("STS-APP-66")
@pytest.mark.parametrize(
    ("action", "profile", "mx_", "expected"),
    [
        (OverrideAction.DEFAULT, PLAIN, mx(N), Level.NONE),
        (OverrideAction.DEFAULT, DANE, mx(U), Level.DANE_ONLY),
        (OverrideAction.ENCRYPT, PLAIN, mx(N), Level.ENCRYPT),
        (OverrideAction.ENCRYPT, DANE, mx(U), Level.DANE_ONLY),
        (OverrideAction.ENCRYPT, DANE, mx(U, N), Level.DANE_ONLY),
        (OverrideAction.ENCRYPT, DANE, mx(X), Level.ENCRYPT),
        (OverrideAction.ENCRYPT, DANE, mx(status=MxStatus.ERROR), Level.DANE_ONLY),
        (OverrideAction.SECURE, PLAIN, mx(N), Level.SECURE),
        (OverrideAction.SECURE, PLAIN, mx(status=MxStatus.ERROR), Level.DEFER),
        (OverrideAction.SECURE, DANE, mx(U), Level.DANE_ONLY),
        (OverrideAction.DANE_ONLY, DANE, mx(N), Level.DANE_ONLY),
        (OverrideAction.DANE_ONLY, PLAIN, mx(N), Level.DEFER),
        (OverrideAction.DEFER, DANE, mx(U), Level.DEFER),
    ],
)
def test_overrides(
    action: OverrideAction, profile: ListenerProfile, mx_: MxSet, expected: Level
) -> None:
    decision = decide(
        "d",
        profile=profile,
        settings=DecisionSettings(),
        policy=ENFORCE,
        mx=mx_,
        override=override(action),
    )
    assert decision.level is expected


def test_override_secure_with_names_refuses_others() -> None:
    decision = decide(
        "d",
        profile=PLAIN,
        settings=DecisionSettings(),
        policy=None,
        mx=mx(N, N),
        override=override(OverrideAction.SECURE, "mx2.example.com"),
    )
    assert decision.allowed_mx == ("mx2.example.com",)


@pytest.mark.parametrize(
    ("default", "mx_", "policy_", "expected"),
    [
        (Level.ENCRYPT, mx(U, N), None, Level.DANE_ONLY),
        (Level.ENCRYPT, mx(X), None, Level.ENCRYPT),
        (Level.ENCRYPT, mx(N), ENFORCE, Level.SECURE),
        (Level.DANE, mx(N), ENFORCE, Level.SECURE),
        (Level.DANE, mx(U), None, Level.DANE_ONLY),
        (Level.DANE_ONLY, mx(N), ENFORCE, Level.NONE),
        (Level.DANE_ONLY, mx(X), None, Level.NONE),
        (Level.SECURE, mx(X), None, Level.NONE),
        (Level.SECURE, mx(N), ENFORCE, Level.SECURE),
        (Level.SECURE, mx(U), None, Level.DANE_ONLY),
        (Level.SECURE, mx(status=MxStatus.ERROR), ENFORCE, Level.DEFER),
    ],
)
def test_never_below_the_default_level(
    default: Level, mx_: MxSet, policy_: PolicyInfo | None, expected: Level
) -> None:
    profile = ListenerProfile(default_level=default, dane=True)
    assert level(profile, policy_, mx_) is expected


def test_no_level_survives_below_its_default() -> None:
    allowed = {
        Level.MAY: set(Level),
        Level.ENCRYPT: {Level.NONE, Level.ENCRYPT, Level.DANE_ONLY, Level.SECURE, Level.DEFER},
        Level.DANE: set(Level) - {Level.MAY},
        Level.DANE_ONLY: {Level.NONE, Level.DANE_ONLY, Level.DEFER},
        Level.SECURE: {Level.NONE, Level.DANE_ONLY, Level.SECURE, Level.DEFER},
    }
    for default, before in product(allowed, Level):
        after = raise_to_default(simple_decision("d", before, "enforce"), default).level
        assert after in allowed[default], (default, before, after)


@pytest.mark.req("STS-APP-51", "STS-APP-54")
def test_annotate_says_the_default_level_aloud() -> None:
    settings = DecisionSettings(testing=Stance.ANNOTATE)
    for default in (Level.MAY, Level.ENCRYPT, Level.DANE):
        profile = ListenerProfile(default_level=default)
        decision = decide("d", profile=profile, settings=settings, policy=TESTING, mx=None)
        assert (decision.level, decision.annotate) == (default, True)
    for default in (Level.SECURE, Level.DANE_ONLY):
        profile = ListenerProfile(default_level=default)
        decision = decide("d", profile=profile, settings=settings, policy=TESTING, mx=None)
        assert (decision.level, decision.annotate) == (Level.NONE, False)


def test_annotate_leaves_enforce_alone() -> None:
    settings = DecisionSettings(testing=Stance.ANNOTATE)
    decision = decide("d", profile=PLAIN, settings=settings, policy=ENFORCE, mx=mx(N))
    assert (decision.level, decision.annotate) == (Level.SECURE, False)


def test_needs_mx() -> None:
    assert not needs_mx(None, PLAIN, None)
    assert not needs_mx(TESTING, PLAIN, None)
    assert needs_mx(ENFORCE, PLAIN, None)
    assert needs_mx(None, DANE, None)
    assert needs_mx(None, PLAIN, override(OverrideAction.SECURE))


def test_every_reason_is_a_sentence_with_a_source() -> None:
    for word, reason in REASONS.items():
        assert reason.sentence.endswith("."), word
        assert reason.source, word
