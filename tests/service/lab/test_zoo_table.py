# SPDX-License-Identifier: Apache-2.0
"""The zoo's table is consistent: names, requirement ids, and expectations that can be met."""

from __future__ import annotations

import tomllib
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest

from strictmail.core.decision import Level
from strictmail.core.names import is_ldh_domain, parse_domain
from strictmail.core.tlsrpt.results import ResultType
from strictmail.lab.entries import ARRIVES, FOR_LOOKERS, CertFault, Delivery, MxFault, PolicyFault
from strictmail.lab.zoo import SECTIONS, ZOO, Outcome, ZooEntry
from strictmail.lab.zoo_findings import FINDINGS, read_findings

SPEC = Path(__file__).resolve().parents[3] / "spec"
ZONES = ("plain.test", "signed.test", "bogus.test")

each = pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)


def test_names_domains_and_hosts_are_unique() -> None:
    assert set(Counter(entry.name for entry in ZOO).values()) == {1}
    assert set(Counter(entry.domain for entry in ZOO).values()) == {1}
    assert set(Counter(host.name for entry in ZOO for host in entry.mx).values()) == {1}


def test_every_fault_is_shown_somewhere() -> None:
    hosts = [host for entry in ZOO for host in entry.mx]
    policies = [entry.policy for entry in ZOO if entry.policy is not None]
    assert {host.fault for host in hosts} == set(MxFault) - FOR_LOOKERS
    assert {policy.fault for policy in policies} == set(PolicyFault)
    shown = {host.certificate for host in hosts} | {policy.certificate for policy in policies}
    assert shown == set(CertFault) - FOR_LOOKERS


def test_every_fetch_result_type_is_shown() -> None:
    assert {entry.expect.result_type for entry in ZOO} == {
        None,
        ResultType.STS_POLICY_FETCH_ERROR,
        ResultType.STS_POLICY_INVALID,
        ResultType.STS_WEBPKI_INVALID,
    }


def test_sections_have_titles_and_inhabitants() -> None:
    assert all(title and entries for title, entries in SECTIONS.items())
    assert sum(map(len, SECTIONS.values())) == len(ZOO)


def test_every_entry_has_its_row_of_findings() -> None:
    assert set(FINDINGS) == {entry.name for entry in ZOO}
    assert all(len(set(entry.findings)) == len(entry.findings) for entry in ZOO)
    with pytest.raises(ValueError, match="STS002 has no severity"):
        read_findings("STS002 warning")


@each
def test_names_are_well_formed(entry: ZooEntry) -> None:
    assert parse_domain(entry.domain) == entry.domain
    assert entry.domain.endswith(ZONES)
    assert "@" not in repr(entry).replace("rua=mailto:tlsrpt@", "")
    for host in entry.mx:
        assert is_ldh_domain(host.name)
        assert host.name.endswith(ZONES)


@lru_cache(maxsize=1)
def known_requirements() -> frozenset[str]:
    texts = [file.read_text(encoding="utf-8") for file in SPEC.glob("*.toml")]
    return frozenset(requirement for text in texts for requirement in tomllib.loads(text))


@each
def test_requirements_are_in_the_specification(entry: ZooEntry) -> None:
    assert entry.requirements
    assert set(entry.requirements) <= known_requirements()
    assert len(set(entry.requirements)) == len(entry.requirements)


def possible(outcome: Outcome) -> set[Delivery]:
    """What a sender can do at all at a level."""
    match outcome.level:
        case None:
            return set(Delivery)
        case Level.DEFER:
            return {Delivery.DEFERRED, Delivery.BOUNCED}
        case Level.NONE:
            return set(Delivery) - {Delivery.VERIFIED}
        case Level.DANE:
            return {Delivery.VERIFIED, Delivery.ENCRYPTED, Delivery.DEFERRED}
        case _:
            return {Delivery.VERIFIED, Delivery.DEFERRED, Delivery.BOUNCED}


@each
def test_expectations_fit_together(entry: ZooEntry) -> None:
    assert entry.fault
    assert entry.expect.why
    hosts = {host.name for host in entry.mx}
    for outcome in (entry.expect.dane, entry.expect.plain):
        assert outcome.delivery in possible(outcome)
        assert (outcome.received_by in hosts) is (outcome.delivery in ARRIVES)
        assert outcome.allows(outcome.delivery)
    assert entry.expect.plain.level not in (Level.DANE, Level.DANE_ONLY)
    assert (entry.policy is None) <= (entry.expect.result_type is None)


@each
def test_departures_give_their_reason(entry: ZooEntry) -> None:
    for departure in entry.departs:
        assert departure.reason.startswith("Departs: ")
        assert set(departure.dialects) <= {"postfix", "postfix-tlsrpt", "exim", "sendmail"}
        assert departure.outcome.delivery in possible(departure.outcome)
