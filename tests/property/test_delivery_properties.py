# SPDX-License-Identifier: Apache-2.0
"""What no combination of hosts and policies may do to a message."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strictmail.core.delivery import (
    Certificate,
    Dane,
    Handshake,
    HostState,
    Outcome,
    Session,
    attempt_delivery,
)
from strictmail.core.mxset import MxStatus
from strictmail.core.sts.match import match_any
from strictmail.core.sts.values import Mode, StsPolicy
from strictmail.core.tlsrpt.results import PolicyType

HOSTS = st.builds(
    HostState,
    name=st.sampled_from(["mx1.example.com", "mx2.example.com", "mx.evil.example"]),
    reachable=st.booleans(),
    handshake=st.sampled_from(Handshake),
    certificate=st.sampled_from(Certificate),
    dane=st.sampled_from(Dane),
    rejects=st.booleans(),
    is_self=st.booleans(),
)
WALKS = st.lists(HOSTS, max_size=5)
POLICIES = st.none() | st.builds(
    StsPolicy,
    mode=st.sampled_from(Mode),
    max_age=st.just(86400),
    mx_patterns=st.just(("*.example.com",)),
    policy_strings=st.just(()),
)
ENFORCE = StsPolicy(Mode.ENFORCE, 86400, ("*.example.com",), ())


@pytest.mark.req("STS-APP-50", "STS-APP-70", "STS-APP-75")
class TestNoMessageToAHostThatFails:
    """§5: under `enforce` no message goes where a name, a certificate or STARTTLS fails."""

    @given(WALKS, st.booleans())
    def test_enforce(self, hosts: list[HostState], dane_suffices: bool) -> None:
        delivery = attempt_delivery(ENFORCE, hosts, dane_suffices=dane_suffices)
        if delivery.outcome is Outcome.DEFER:
            assert delivery.session is Session.NONE
            return
        assert delivery.session in (Session.PKIX, Session.DANE)
        candidates = [host for host in hosts if host.name == delivery.host]
        proper = [
            host
            for host in candidates
            if match_any(host.name, ENFORCE.mx_patterns)
            and host.handshake is Handshake.DONE
            and host.certificate is Certificate.VALID
        ]
        by_dane = [host for host in candidates if host.dane is Dane.MATCH]
        assert proper or (dane_suffices and by_dane)

    @given(POLICIES, WALKS)
    def test_dane_is_never_set_aside(
        self, policy: StsPolicy | None, hosts: list[HostState]
    ) -> None:
        failing = [replace(host, dane=Dane.MISMATCH) for host in hosts]
        assert attempt_delivery(policy, failing).outcome is Outcome.DEFER


@pytest.mark.req("STS-APP-24", "STS-APP-26", "STS-APP-54")
class TestHostsAreWalkedInOrder:
    """§8.4: a host that fails is walked past; testing never changes the choice of host."""

    @given(POLICIES, WALKS)
    def test_nobody_is_left_out(self, policy: StsPolicy | None, hosts: list[HostState]) -> None:
        delivery = attempt_delivery(policy, hosts)
        names = [host.name for host in hosts]
        walked = [name for name, _ in delivery.skipped]
        assert walked == names[: len(walked)]
        if delivery.outcome is not Outcome.DEFER:
            assert delivery.host == names[len(walked)]
        elif len(walked) < len(names):
            assert hosts[len(walked)].is_self

    @given(WALKS)
    def test_testing_chooses_as_without_a_policy(self, hosts: list[HostState]) -> None:
        tested = attempt_delivery(replace(ENFORCE, mode=Mode.TESTING), hosts)
        without = attempt_delivery(None, hosts)
        assert (tested.outcome, tested.host) == (without.outcome, without.host)
        none = attempt_delivery(replace(ENFORCE, mode=Mode.NONE), hosts)
        assert (none.outcome, none.host, none.session, none.failures) == (
            without.outcome,
            without.host,
            without.session,
            without.failures,
        )

    @given(WALKS)
    def test_testing_reports_what_enforce_would(self, hosts: list[HostState]) -> None:
        one = hosts[:1]
        tested = attempt_delivery(replace(ENFORCE, mode=Mode.TESTING), one)
        assert tested.failures == attempt_delivery(ENFORCE, one).failures


@pytest.mark.req("STS-APP-53", "STS-APP-55", "STS-APP-60")
class TestAFailureIsTransientAndReportedForItsPolicy:
    """§5: queue and retry; `none` and no policy have nothing to report."""

    @given(POLICIES, WALKS)
    def test_only_a_rejection_bounces(
        self, policy: StsPolicy | None, hosts: list[HostState]
    ) -> None:
        delivery = attempt_delivery(policy, [replace(host, rejects=False) for host in hosts])
        assert delivery.outcome is not Outcome.BOUNCE

    @given(POLICIES, WALKS)
    def test_reports(self, policy: StsPolicy | None, hosts: list[HostState]) -> None:
        failures = attempt_delivery(policy, hosts).failures
        if policy is None or policy.mode is Mode.NONE:
            assert all(failure.policy_type is PolicyType.TLSA for failure in failures)
        reachable = {host.name for host in hosts if host.reachable}
        assert {failure.mx_host for failure in failures} <= reachable

    @given(POLICIES, st.sampled_from(MxStatus), st.booleans())
    def test_without_hosts_nothing_is_delivered(
        self, policy: StsPolicy | None, status: MxStatus, secure: bool
    ) -> None:
        delivery = attempt_delivery(policy, [], mx_status=status, mx_secure=secure)
        assert delivery.outcome is not Outcome.DELIVER
