# SPDX-License-Identifier: Apache-2.0
"""What each kind of sender does, decided by facts: the rules that no domain of the zoo tells apart."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.core.check import builders as b

from strictmail.core.check.facts import (
    DomainFacts,
    HostFacts,
    ProbeFacts,
    ProbeOutcome,
    ProbeTarget,
)
from strictmail.core.check.result import Prediction, SenderClass, SenderVerdict
from strictmail.core.check.verdict import judge_senders
from strictmail.core.mxset import MxHost, MxSet, MxStatus, TlsaState

BASE = "base.example.net"
ADDRESS = "192.0.2.1"


def sender(facts: DomainFacts, kind: SenderClass) -> SenderVerdict:
    (found,) = (one for one in judge_senders(facts)[0] if one.sender is kind)
    return found


def domain(*hosts: tuple[MxHost, HostFacts], secure: bool = True, **changes: object) -> DomainFacts:
    mx = MxSet(MxStatus.FOUND, secure=secure, hosts=tuple(host for host, _ in hosts), ttl=b.TTL)
    return b.domain_facts(mx=mx, hosts=tuple(host for _, host in hosts), **changes)


def alone(*probes: ProbeFacts) -> HostFacts:
    """The first host with one address, and these sessions."""
    return b.host(b.MX1, addresses=b.addresses(b.MX1, ADDRESS), probes=probes)


def mismatched(name: str = b.MX1) -> MxHost:
    return b.mx_host(name, tlsa=(b.tlsa(b.leaf("another.example.net", owner="another")),))


@pytest.mark.req("DANE-23")
@pytest.mark.parametrize(
    ("secure", "prediction"), [(True, Prediction.DEFERRED), (False, Prediction.ENCRYPTED)]
)
def test_records_behind_an_insecure_mx_bind_nobody(secure: bool, prediction: Prediction) -> None:
    facts = domain((mismatched(), b.host(b.MX1)), secure=secure)
    assert sender(facts, SenderClass.DANE).prediction is prediction


@pytest.mark.req("DANE-73")
@pytest.mark.parametrize("right", [b.MX1, BASE])
def test_the_chain_that_a_sender_with_dane_asks_for_counts(right: str) -> None:
    """The host is an alias, and has a certificate for each of its names."""
    shown = {b.MX1: b.chain(b.MX1, owner="alias"), BASE: b.chain(BASE, owner="base")}
    probes = tuple(
        b.probe(
            b.MX1,
            ADDRESS,
            target=ProbeTarget(b.MX1, ADDRESS, name),
            tls=b.tls(name, chain_der=chain),
        )
        for name, chain in shown.items()
    )
    host = b.mx_host(b.MX1, tlsa_base_domain=BASE, tlsa=(b.tlsa(shown[right][0]),))
    verdict = sender(domain((host, alone(*probes))), SenderClass.DANE)
    wanted = Prediction.AUTHENTICATED if right == BASE else Prediction.DEFERRED
    assert verdict.prediction is wanted


@pytest.mark.req("DANE-79")
def test_where_dane_is_demanded_a_host_without_records_gets_nothing() -> None:
    # Under an enforced policy that the certificate of the first host does not satisfy.
    first = (b.mx_host(b.MX1, 10), b.host(b.MX1, 10))
    second = (
        b.mx_host(b.MX2, 20, tlsa_state=TlsaState.NONE, tlsa_base_domain="", tlsa=()),
        b.host(b.MX2, 20),
    )
    facts = domain(first, second)
    verdicts = {
        (one.mx_host, one.prediction, one.rule)
        for one in judge_senders(facts)[1]
        if one.sender is SenderClass.BOTH
    }
    assert (b.MX2, Prediction.DEFERRED, "dane-required") in verdicts


@pytest.mark.req("STS-APP-10")
def test_the_lowest_preference_is_tried_first() -> None:
    # In the answer the backup stands first.
    hosts = [
        (b.mx_host(name, rank), b.host(name, rank)) for name, rank in ((b.MX2, 20), (b.MX1, 10))
    ]
    assert sender(domain(*hosts), SenderClass.DANE).mx_host == b.MX1


@pytest.mark.req("STS-APP-55", "STS-APP-59", "DANE-75")
@pytest.mark.parametrize("kind", [SenderClass.MTA_STS, SenderClass.DANE, SenderClass.BOTH])
def test_hosts_that_all_fail_make_mail_wait_and_never_bounce(kind: SenderClass) -> None:
    refusing = b.probe(b.MX1, ADDRESS, outcome=ProbeOutcome.STARTTLS_REFUSED)
    verdict = sender(domain((b.mx_host(b.MX1), alone(refusing))), kind)
    assert verdict.prediction is Prediction.DEFERRED
    assert verdict.mx_host == ""


@pytest.mark.req("STS-APP-62")
@pytest.mark.parametrize(("days", "is_told"), [(6, True), (8, False)])
def test_a_cached_policy_counts_until_it_expires(days: int, is_told: bool) -> None:
    body = b.BODY.replace(b"2592000", b"604800")
    entry = b.cached_entry(body, fetched_at=b.LOOKED_AT - timedelta(days=days))
    kinds = [one.sender for one in judge_senders(b.domain_facts(cached=entry))[0]]
    assert (SenderClass.CACHED in kinds) is is_told


@pytest.mark.req("SEC-39")
def test_without_tls_mail_goes_in_the_clear_where_nobody_demands_it() -> None:
    bare = b.probe(b.MX1, ADDRESS, outcome=ProbeOutcome.NO_STARTTLS)
    host = b.mx_host(b.MX1, tlsa_state=TlsaState.NONE, tlsa_base_domain="", tlsa=())
    facts = domain((host, alone(bare)))
    verdict = sender(facts, SenderClass.OPPORTUNISTIC)
    assert verdict.prediction is Prediction.PLAINTEXT
    assert "without TLS the mail goes in the clear" in verdict.sentence


def test_the_verdict_of_a_busy_host_is_unknown() -> None:
    facts = b.domain_facts()
    hosts = tuple(replace(host, probes=()) for host in facts.hosts)
    for verdict in judge_senders(replace(facts, hosts=hosts))[0]:
        assert verdict.prediction is Prediction.UNKNOWN, verdict
        assert not verdict.certain
