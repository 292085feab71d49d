# SPDX-License-Identifier: Apache-2.0
"""The SMTP/TLS probe against the hosts of the lab: what each fault is called, and what is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strictmail.core.check.facts import (
    KeyType,
    PkixProblem,
    ProbeFacts,
    ProbeOutcome,
    ProbeTarget,
    UnknownReason,
)
from strictmail.lab.entries import CertFault, MxFault, MxHost
from strictmail.lab.net import Lab
from strictmail.lab.zoobuild import ENCRYPTED, entry, expect
from strictmail.net.connectto import ConnectMap, ConnectRule
from strictmail.net.smtp import ProbeLimits, SmtpTlsProber
from strictmail.net.smtpdialogue import STARTTLS_AGAIN
from strictmail.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "mx.t.plain.test"
PATIENT = ProbeLimits()
IMPATIENT = ProbeLimits(greeting=0.05)
"""For hosts that never greet: how long does not matter."""

OUTCOMES = {
    MxFault.GOOD: ProbeOutcome.TLS,
    MxFault.NO_STARTTLS: ProbeOutcome.NO_STARTTLS,
    MxFault.EHLO_REFUSED: ProbeOutcome.NO_STARTTLS,
    MxFault.STARTTLS_454: ProbeOutcome.STARTTLS_TEMPORARY,
    MxFault.STARTTLS_502: ProbeOutcome.STARTTLS_REFUSED,
    MxFault.INJECTED: ProbeOutcome.INJECTED,
    MxFault.OLD_TLS: ProbeOutcome.TLS_OUTDATED,
    MxFault.BROKEN_TLS: ProbeOutcome.TLS_FAILED,
    MxFault.TARPIT: UnknownReason.TARPIT,
    MxFault.GREETING_421: UnknownReason.BUSY,
    MxFault.GREETING_554: UnknownReason.REJECTED,
    MxFault.REFUSE: UnknownReason.REFUSED,
    MxFault.RCPT_550: ProbeOutcome.TLS,
    MxFault.TLS_1_2_ONLY: ProbeOutcome.TLS,
    MxFault.TLS_1_3_ONLY: ProbeOutcome.TLS,
    MxFault.SLOW_GREETING: ProbeOutcome.TLS,
    MxFault.EHLO_451: UnknownReason.BUSY,
    MxFault.DROP_AFTER_EHLO: UnknownReason.REFUSED,
    MxFault.DROP_AFTER_STARTTLS: UnknownReason.REFUSED,
    MxFault.STARTTLS_AGAIN: ProbeOutcome.TLS,
    MxFault.BUSY_AT_FIRST: UnknownReason.BUSY,
    MxFault.BUSY_SOON: ProbeOutcome.TLS,
}
"""What the first look at a host with each fault has to say."""

WITH_SESSION = {ProbeOutcome.TLS, ProbeOutcome.TLS_OUTDATED}


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    inhabitant = entry("t", "none", "", expect("", ENCRYPTED), mx=[MxHost(HOST)])
    async with Lab(zoo=[inhabitant], dns=False) as running:
        yield running


def prober(lab: Lab, limits: ProbeLimits = PATIENT) -> SmtpTlsProber:
    return SmtpTlsProber(SystemClock(), ehlo_name="probe.test", ca_file=lab.ca_file, limits=limits)


def target(lab: Lab, key_type: KeyType = KeyType.ANY, *, sni: str = HOST) -> ProbeTarget:
    return ProbeTarget(HOST, lab.addresses[HOST], sni, key_type, lab.smtp_port)


async def look(lab: Lab, key_type: KeyType = KeyType.ANY) -> ProbeFacts:
    return await prober(lab).probe(target(lab, key_type))


def test_every_fault_is_looked_at() -> None:
    assert set(OUTCOMES) == set(MxFault)


@pytest.mark.parametrize(("fault", "expected"), OUTCOMES.items())
@pytest.mark.req("STS-APP-30", "SEC-01", "SEC-02")
async def test_outcomes(lab: Lab, fault: MxFault, expected: ProbeOutcome | UnknownReason) -> None:
    lab.break_mx_host(HOST, fault)
    limits = IMPATIENT if fault is MxFault.TARPIT else PATIENT
    facts = await prober(lab, limits).probe(target(lab))
    if isinstance(expected, UnknownReason):
        assert facts.outcome is ProbeOutcome.UNKNOWN, facts
        assert facts.unknown is not None
        assert facts.unknown.reason is expected, facts
        assert facts.unknown.detail
    else:
        assert facts.outcome is expected, facts
        assert facts.unknown is None
    assert (facts.tls is not None) is (expected in WITH_SESSION)
    assert not lab.messages
    assert not lab.recipients


async def test_a_good_session_is_seen_in_full(lab: Lab) -> None:
    facts = await look(lab)
    assert facts.tls is not None
    root = [lab._ca.intermediate, lab._ca.root]
    assert facts.tls.chain_der[1:] == tuple(c.public_bytes(Encoding.DER) for c in root)
    assert len(facts.tls.chain_der) == 3
    assert facts.tls.version == "TLSv1.3"
    assert facts.tls.cipher.startswith("TLS_")
    assert facts.tls.server_name == HOST
    assert facts.tls.key_type is KeyType.ECDSA
    assert facts.tls.pkix.is_valid, facts.tls.pkix
    assert facts.tls.pkix.reference_id == HOST
    assert facts.helo == HOST
    assert facts.attempts == 1
    assert facts.detail == ""
    assert not facts.starttls_inside
    assert facts.seconds >= 0


async def test_names_are_those_of_the_target(lab: Lab) -> None:
    wanted = ProbeTarget(
        HOST, lab.addresses[HOST], "base.test", port=lab.smtp_port, reference_id="other.test"
    )
    facts = await prober(lab).probe(wanted)
    assert facts.tls is not None
    assert facts.tls.server_name == "base.test"
    assert facts.tls.pkix.reference_id == "other.test"
    assert facts.tls.pkix.problems == (PkixProblem.NAME,)


@pytest.mark.parametrize("sni", ["", "a..b", "x" * 64 + ".test", "192.0.2.1"])
async def test_odd_server_names_do_not_raise(lab: Lab, sni: str) -> None:
    facts = await prober(lab).probe(target(lab, sni=sni))
    assert facts.outcome in (ProbeOutcome.TLS, ProbeOutcome.UNKNOWN)


@pytest.mark.parametrize("fault", [CertFault.EXPIRED, CertFault.SELF_SIGNED, CertFault.WRONG_NAME])
async def test_a_bad_certificate_is_a_session_all_the_same(lab: Lab, fault: CertFault) -> None:
    lab.break_mx_host(HOST, fault)
    facts = await look(lab)
    assert facts.outcome is ProbeOutcome.TLS
    assert facts.tls is not None
    assert not facts.tls.pkix.is_valid


@pytest.mark.req("SEC-03", "STS-APP-43")
async def test_injection_is_told_with_its_octets(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.INJECTED)
    facts = await look(lab)
    assert "250-injected.test" in facts.detail
    assert facts.reply.startswith("220 ")
    assert facts.helo == HOST


async def test_an_old_version_is_shown(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.OLD_TLS)
    facts = await look(lab)
    assert facts.tls is not None
    assert facts.tls.version == "TLSv1"
    assert facts.tls.pkix.is_valid
    assert facts.attempts == 2


async def test_octets_that_are_no_tls_are_shown(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.BROKEN_TLS)
    facts = await look(lab)
    assert "this is no TLS record" in facts.detail
    assert facts.attempts == 1


async def test_the_reply_that_decided_is_shown(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.GREETING_421)
    assert (await look(lab)).reply == f"421 4.3.2 {HOST} is busy, come back later"
    lab.break_mx_host(HOST, MxFault.STARTTLS_502)
    assert (await look(lab)).reply == "502 5.5.1 Command not implemented"


@pytest.mark.req("SEC-06")
async def test_starttls_inside_tls_is_noted(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.STARTTLS_AGAIN)
    facts = await look(lab)
    assert facts.starttls_inside
    assert facts.detail == STARTTLS_AGAIN


async def test_a_stranger_is_welcome_the_second_time(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.BUSY_AT_FIRST)
    probes = prober(lab)
    outcomes = [(await probes.probe(target(lab))).outcome for _ in range(3)]
    assert outcomes == [ProbeOutcome.UNKNOWN, ProbeOutcome.TLS, ProbeOutcome.TLS]


async def test_a_rate_limiter_never_makes_a_host_fail(lab: Lab) -> None:
    lab.break_mx_host(HOST, MxFault.BUSY_SOON)
    probes = prober(lab)
    outcomes = [(await probes.probe(target(lab))).outcome for _ in range(3)]
    assert outcomes == [ProbeOutcome.TLS, ProbeOutcome.UNKNOWN, ProbeOutcome.UNKNOWN]


@pytest.mark.parametrize("kind", [KeyType.RSA, KeyType.ECDSA])
async def test_both_chains_of_a_host(lab: Lab, kind: KeyType) -> None:
    lab.break_mx_host(HOST, CertFault.BOTH_KEYS)
    facts = await look(lab, kind)
    assert facts.tls is not None
    assert facts.tls.key_type is kind
    assert facts.tls.asked_key_type is kind
    assert facts.tls.version == "TLSv1.2"
    assert facts.tls.pkix.is_valid


async def test_a_kind_of_certificate_that_a_host_has_not(lab: Lab) -> None:
    facts = await look(lab, KeyType.RSA)
    assert facts.outcome is ProbeOutcome.TLS_FAILED
    assert "RSA" in facts.detail
    assert facts.attempts == 1


@pytest.mark.parametrize("kind", [KeyType.RSA, KeyType.ECDSA])
async def test_with_tls_1_3_alone_the_other_chain_is_unknown(lab: Lab, kind: KeyType) -> None:
    lab.break_mx_host(HOST, CertFault.BOTH_KEYS)
    lab.break_mx_host(HOST, MxFault.TLS_1_3_ONLY)
    facts = await look(lab, kind)
    assert facts.outcome is ProbeOutcome.UNKNOWN
    assert facts.unknown is not None
    assert facts.unknown.reason is UnknownReason.LIMIT
    assert "TLS 1.3" in facts.unknown.detail


@pytest.mark.parametrize(
    ("fault", "version"), [(MxFault.TLS_1_2_ONLY, "TLSv1.2"), (MxFault.TLS_1_3_ONLY, "TLSv1.3")]
)
async def test_versions(lab: Lab, fault: MxFault, version: str) -> None:
    lab.break_mx_host(HOST, fault)
    facts = await look(lab)
    assert facts.tls is not None
    assert facts.tls.version == version


async def test_connections_go_where_they_are_sent(lab: Lab) -> None:
    rule = ConnectRule(HOST, 25, lab.addresses[HOST], lab.smtp_port)
    probes = SmtpTlsProber(
        SystemClock(),
        ehlo_name="probe.test",
        ca_file=lab.ca_file,
        connect_map=ConnectMap((rule,)),
    )
    facts = await probes.probe(ProbeTarget(HOST, "192.0.2.1", HOST))
    assert facts.outcome is ProbeOutcome.TLS
    assert facts.target.address == "192.0.2.1"


@pytest.mark.parametrize("name", ["", "two words", "ünï.test", "a\r\nMAIL FROM:<>", "x" * 256])
def test_names_that_cannot_be_said(name: str) -> None:
    with pytest.raises(ValueError, match="EHLO"):
        SmtpTlsProber(SystemClock(), ehlo_name=name)


def test_roots_have_to_be_there(tmp_path: object) -> None:
    with pytest.raises(OSError):
        SmtpTlsProber(SystemClock(), ehlo_name="probe.test", ca_file=f"{tmp_path}/none.pem")
