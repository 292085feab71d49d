# SPDX-License-Identifier: Apache-2.0
"""What the probe sees and we make of it, against `openssl s_client -starttls smtp` at the same host.

Both connect to a lab host. DANE: each host of the zoo with TLSA records, by `core.dane` on the
chain that the probe brought home, and by OpenSSL's own DANE, which is what Postfix and Exim use;
once more as a check as a whole sees them, with the records that it found in DNS. Web PKI: each
certificate fault of the lab.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import subprocess
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from strictmail.checker.assemble import assemble
from strictmail.checker.settings import CheckSettings
from strictmail.core.check.facts import ProbeFacts, ProbeOutcome, ProbeTarget
from strictmail.core.check.judge import judge as judge_facts
from strictmail.core.dane.authenticate import (
    DaneOutcome,
    DaneResult,
    authenticate,
    reference_ids,
)
from strictmail.core.dane.tlsa import usable_records
from strictmail.core.mxset import TlsaState
from strictmail.lab.entries import CertFault, MxFault, MxHost, ZooEntry
from strictmail.lab.net import Lab
from strictmail.lab.tlsa import make_tlsa
from strictmail.lab.zoo import ZOO
from strictmail.lab.zoobuild import ENCRYPTED, entry, expect
from strictmail.net.connectto import ConnectMap
from strictmail.net.dns import DnsResolver
from strictmail.net.smtp import SmtpTlsProber
from strictmail.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.check.result import CheckResult
    from strictmail.core.dnsvalues import Tlsa

pytestmark = pytest.mark.slow

CLOCK = SystemClock()

SECONDS = 30.0
DANE_CASES = [
    pytest.param(inhabitant, host, id=host.name)
    for inhabitant in ZOO
    for host in inhabitant.mx
    if host.tlsa and host.fault is MxFault.GOOD
]
DANE_USAGES = {2, 3}
HOST = "mx.t.plain.test"


@pytest.fixture
def openssl() -> str:
    path = shutil.which("openssl")
    if path is None:
        pytest.skip("the openssl command is not installed")
    return path


async def probe(lab: Lab, host: str, sni: str) -> ProbeFacts:
    prober = SmtpTlsProber(CLOCK, ehlo_name="probe.test", ca_file=lab.ca_file)
    facts = await prober.probe(ProbeTarget(host, lab.addresses[host], sni, port=lab.smtp_port))
    assert facts.outcome is ProbeOutcome.TLS, facts
    return facts


async def s_client(openssl: str, lab: Lab, host: str, sni: str, *options: str) -> str:
    """What the command says, with the host's certificate verified as the options want it."""
    command = [openssl, "s_client", "-starttls", "smtp", "-name", "probe.test"]
    command += ["-connect", f"{lab.addresses[host]}:{lab.smtp_port}", "-servername", sni]
    command += ["-verify_return_error", "-no-CApath", "-no-CAstore", *options]

    def run() -> str:
        done = subprocess.run(
            command, input="", capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout + done.stderr

    return await asyncio.to_thread(run)


async def openssl_authenticates(
    openssl: str, lab: Lab, host: MxHost, records: Sequence[Tlsa], name: str
) -> bool:
    options = ["-brief", "-no-CAfile", "-dane_ee_no_namechecks", "-dane_tlsa_domain", name]
    for record in records:
        options += ["-dane_tlsa_rrdata", str(record)]
    said = await s_client(openssl, lab, host.name, host.base_domain, *options)
    assert re.search("Verification|verify failed|Failed to import any TLSA", said), said
    return "Verification: OK" in said


def judge(
    inhabitant: ZooEntry, host: MxHost, records: Sequence[Tlsa], facts: ProbeFacts
) -> tuple[DaneResult, tuple[str, ...]]:
    assert facts.tls is not None
    names = reference_ids(
        base_domain=host.base_domain,
        nexthop=inhabitant.domain,
        mx_host=host.name if inhabitant.has_mx_records else None,
        mx_secure=True,
    )
    return authenticate(records, facts.tls.chain_der, names, facts.at), names


@pytest.mark.parametrize(("inhabitant", "host"), DANE_CASES)
@pytest.mark.req("DANE-60", "DANE-61", "DANE-62")
async def test_dane(openssl: str, inhabitant: ZooEntry, host: MxHost) -> None:
    async with Lab(zoo=[inhabitant], dns=False) as lab:
        credentials = lab._mx_hosts[host.name][0].credentials
        records = [make_tlsa(text, credentials) for text in host.tlsa]
        facts = await probe(lab, host.name, host.base_domain)
        result, names = judge(inhabitant, host, records, facts)
        # RFC 7672 §3.1.3: usages 0 and 1 are not for SMTP; the command would know them.
        usable = [record for record in records if record.usage in DANE_USAGES]
        # It knows one name at a time.
        verified = [
            await openssl_authenticates(openssl, lab, host, usable, name)
            for name in (names if usable else ())
        ]
    assert result.is_authenticated is any(verified), (result, names, verified)


WITH_TLSA = [entry for entry in ZOO if any(host.tlsa for host in entry.mx)]
NOT_ASKED = {
    # What is not secure is not asked for, or counts as none (RFC 7672 §2.2).
    "dane-insecure-mx",
    "dane-insecure-mx-enforce",
    "dane-insecure-address",
    "dane-insecure-tlsa",
    # What cannot be looked up, nobody can hand to OpenSSL.
    "dane-tlsa-bogus",
    "dane-tlsa-bogus-first",
    "both-tlsa-bogus",
    "bogus-domain",
}
"""Entries with a host whose records no sender gets to see."""

UNUSABLE = {"dane-unusable", "dane-unknown-mtype", "dane-unusable-no-starttls"} | {
    "both-unusable",
    "both-unusable-bad-certificate",
}
"""Entries with records that demand TLS and authenticate nobody."""

WITHOUT_TLS = {"dane-no-starttls", "dane-unusable-no-starttls"}


@asynccontextmanager
async def results_of(lab: Lab) -> AsyncIterator[dict[str, tuple[DomainFacts, CheckResult]]]:
    """The facts and the check of every entry with TLSA records, by its name."""
    # A busy machine is no silent name server.
    resolver = DnsResolver([lab.dns_address], trust_ad=True, timeout=SECONDS, rng=random.Random(1))
    await resolver.start()
    gatherer = assemble(
        resolver,
        CheckSettings(
            allow_networks=("127.0.0.0/8",),
            port25_canaries=(),
            ehlo_name="check.test",
            spacing_seconds=0.0,
            want_authorities=False,
            want_rua=False,
        ),
        clock=CLOCK,
        rng=random.Random(2),
        mx_ca_file=lab.ca_file,
        policy_ca_file=lab.ca_file,
        connect_map=ConnectMap.parse([f":25::{lab.smtp_port}", f":443::{lab.https_port}"]),
    )
    try:
        facts = await asyncio.gather(*(gatherer.gather(entry.domain) for entry in WITH_TLSA))
        yield {e.name: (one, judge_facts(one)) for e, one in zip(WITH_TLSA, facts, strict=True)}
    finally:
        await gatherer.close()
        await resolver.close()


def seen_chains(result: CheckResult, host: MxHost) -> list[str]:
    """What a check says of DANE for each chain that a sender with DANE would be shown."""
    return [
        chain.dane
        for one in result.hosts
        if one.name == host.name
        for address in one.addresses
        for chain in address.chains
        if chain.server_name == host.base_domain
    ]


@pytest.mark.req("DANE-40", "DANE-60", "DANE-62", "DANE-74")
async def test_a_check_of_every_dane_entry_of_the_zoo(openssl: str) -> None:
    disagreements = []
    compared = set()
    async with Lab(zoo=WITH_TLSA) as lab, results_of(lab) as results:
        for inhabitant in WITH_TLSA:
            facts, result = results[inhabitant.name]
            states = {host.name: host for host in facts.mx.hosts}
            for host in (host for host in inhabitant.mx if host.tlsa):
                found = states.get(host.name)
                if found is None or found.tlsa_state is not TlsaState.USABLE:
                    assert inhabitant.name in NOT_ASKED | UNUSABLE, (inhabitant.name, found)
                    # Nobody is called authenticated who was not.
                    assert "authenticated" not in seen_chains(result, host), inhabitant.name
                    continue
                # Where its records are: the target of a secure alias, or the name itself.
                host = replace(host, canonical=found.tlsa_base_domain)  # noqa: PLW2901
                names = reference_ids(
                    base_domain=found.tlsa_base_domain,
                    nexthop=inhabitant.domain,
                    mx_host=host.name if inhabitant.has_mx_records else None,
                    mx_secure=True,
                )
                usable = usable_records(found.tlsa)
                if host.fault is not MxFault.GOOD:
                    assert inhabitant.name in WITHOUT_TLS, inhabitant.name
                    assert ("critical", "DANE018") in {(f.severity, f.id) for f in result.findings}
                    said = await s_client(openssl, lab, host.name, host.base_domain, "-brief")
                    assert "Verification" not in said, said
                    continue
                verified = [
                    await openssl_authenticates(openssl, lab, host, usable, name) for name in names
                ]
                said_here = seen_chains(result, host)
                compared.add(inhabitant.name)
                if {chain == "authenticated" for chain in said_here} != {any(verified)}:
                    disagreements.append((host.name, said_here, verified))
    assert not disagreements
    bad = NOT_ASKED | UNUSABLE | WITHOUT_TLS
    # `dane-tlsa-bogus-first` has a second host, whose records can be seen.
    assert compared == {entry.name for entry in WITH_TLSA} - bad | {"dane-tlsa-bogus-first"}


def test_the_cases_are_of_every_kind() -> None:
    """Else the agreement would be worth little."""
    assert len(DANE_CASES) > 20
    tlsa = {text[0] for case in DANE_CASES for text in case.values[1].tlsa}  # type: ignore[union-attr]
    assert tlsa >= {"1", "2", "3"}


@pytest.mark.parametrize(
    ("tlsa", "fault", "outcome"),
    [
        ("3 1 1", CertFault.EXPIRED, DaneOutcome.AUTHENTICATED),
        ("3 1 1 wrong", CertFault.GOOD, DaneOutcome.MISMATCH),
        ("2 0 1", CertFault.GOOD, DaneOutcome.AUTHENTICATED),
        ("2 0 0", CertFault.GOOD, DaneOutcome.AUTHENTICATED),
        ("2 1 0 root", CertFault.GOOD, DaneOutcome.AUTHENTICATED),
        ("2 0 1", CertFault.EXPIRED, DaneOutcome.EXPIRED),
        ("2 0 1", CertFault.WRONG_NAME, DaneOutcome.NAME),
        ("2 0 1", CertFault.UNTRUSTED_CA, DaneOutcome.AUTHENTICATED),
        ("2 0 1", CertFault.EXPIRED_INTERMEDIATE, DaneOutcome.EXPIRED),
    ],
)
async def test_dane_over_the_wire(
    openssl: str, tlsa: str, fault: CertFault, outcome: DaneOutcome
) -> None:
    host = MxHost(HOST, certificate=fault)
    inhabitant = entry("t", "none", "", expect("", ENCRYPTED), mx=[host])
    async with Lab(zoo=[inhabitant], dns=False) as lab:
        records = [make_tlsa(tlsa, lab._mx_hosts[HOST][0].credentials)]
        result, names = judge(inhabitant, host, records, await probe(lab, HOST, HOST))
        assert result.outcome is outcome, result
        verified = [await openssl_authenticates(openssl, lab, host, records, n) for n in names]
    assert any(verified) is (result.is_authenticated or fault in OPENSSL_AUTHENTICATES)


OPENSSL_AUTHENTICATES = {
    # It does not look at the dates of an anchor that did not sign itself; we do, as it does with
    # one that did (RFC 7672 §3.1.2).
    CertFault.EXPIRED_INTERMEDIATE
}
OPENSSL_TAKES = {
    # RFC 8461 §4.2 rules out the common name; the command takes it where there is no dNSName.
    CertFault.COMMON_NAME_ONLY,
    # RFC 9525 §6.3 rules out a star that is a part of a label; the command takes it by default.
    CertFault.PARTIAL_WILDCARD,
}


@pytest.mark.parametrize("fault", [f for f in CertFault if f is not CertFault.SEVERAL_NAMES])
@pytest.mark.req("STS-APP-31", "STS-APP-32", "STS-APP-33")
async def test_web_pki(openssl: str, fault: CertFault) -> None:
    host = MxHost(HOST, certificate=fault)
    inhabitant = entry("t", "none", "", expect("", ENCRYPTED), mx=[host])
    async with Lab(zoo=[inhabitant], dns=False) as lab:
        facts = await probe(lab, HOST, HOST)
        said = await s_client(
            openssl, lab, HOST, HOST, "-verify_hostname", HOST, "-CAfile", lab.ca_file
        )
    assert "CONNECTED" in said, said
    found = re.search(r"verify error:num=(\d+)", said)
    assert facts.tls is not None
    expected = 0 if fault in OPENSSL_TAKES else facts.tls.pkix.verify_code
    assert int(found[1] if found else 0) == expected, said
    assert facts.tls.pkix.is_valid is (facts.tls.pkix.verify_code == 0)
