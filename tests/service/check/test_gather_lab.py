# SPDX-License-Identifier: Apache-2.0
"""The real adapters, put together, against domains of the zoo on loopback."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from strictmail.checker.assemble import assemble
from strictmail.checker.settings import CheckSettings
from strictmail.core.check.facts import KeyType, PkixProblem, ProbeOutcome, RuaState
from strictmail.core.dnsvalues import Mx, RecordType, Status
from strictmail.core.mxset import MxStatus, TlsaState
from strictmail.core.sts.values import FetchedPolicy, FetchFailure, Mode
from strictmail.lab.net import Lab
from strictmail.lab.zoo import ZOO
from strictmail.net.connectto import ConnectMap
from strictmail.net.dns import DnsResolver
from strictmail.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from strictmail.checker.gather import Gatherer

NAMES = frozenset(
    {
        "good",
        "no-policy",
        "no-policy-no-starttls",
        "no-policy-self-signed",
        "no-policy-broken-tls",
        "policy-404",
        "txt-absent",
        "txt-two",
        "txt-cname",
        "domain-alias",
        "both",
        "dane-mismatch",
        "signed-no-tlsa",
        "signed-null-mx",
        "bogus-domain",
    }
)


@asynccontextmanager
async def checking(**changes: Any) -> AsyncIterator[tuple[Lab, Gatherer]]:
    """A lab, and a gatherer whose connections end up in it; the changes are to its settings."""
    async with Lab(zoo=[entry for entry in ZOO if entry.name in NAMES]) as lab:
        host, port = lab.dns_address
        table = ConnectMap.parse(
            [f":25::{lab.smtp_port}", f":443::{lab.https_port}", f":53:{host}:{port}"]
        )
        resolver = DnsResolver([lab.dns_address], trust_ad=True, rng=random.Random(1))
        await resolver.start()
        settings = CheckSettings(
            ehlo_name="check.test",
            allow_networks=("127.0.0.0/8",),
            port25_canaries=(),
            spacing_seconds=0.0,
            **changes,
        )
        gatherer = assemble(
            resolver,
            settings,
            clock=SystemClock(),
            rng=random.Random(2),
            mx_ca_file=lab.ca_file,
            policy_ca_file=lab.ca_file,
            connect_map=table,
        )
        try:
            yield lab, gatherer
        finally:
            await gatherer.close()
            await resolver.close()


async def test_a_good_domain() -> None:
    async with checking() as (lab, gatherer):
        facts = await gatherer.gather("good.plain.test")
    host = "mx.good.plain.test"
    assert (facts.mx.status, facts.mx.secure) == (MxStatus.FOUND, False)
    assert facts.validates
    (found,) = facts.hosts
    first, *others = found.probes
    assert (first.target.host, first.target.address) == (host, lab.addresses[host])
    assert (first.outcome, first.target.server_name) == (ProbeOutcome.TLS, host)
    assert first.tls is not None
    assert first.tls.pkix.is_valid
    assert first.tls.chain_der
    assert {one.target.key_type for one in others} <= {KeyType.RSA, KeyType.ECDSA}
    assert isinstance(facts.policy, FetchedPolicy)
    assert facts.policy.policy.mode is Mode.ENFORCE
    (look,) = facts.policy_looks
    assert look.tls is not None
    assert look.tls.pkix.is_valid
    assert look.tls.pkix.reference_id == "mta-sts.good.plain.test"
    assert [rua.state for rua in facts.rua] == [RuaState.ALIVE]
    asked = {(one.name, one.rdtype): one for one in facts.authorities}
    assert {one.server for one in facts.authorities} == {"ns.test"}
    assert all(one.authoritative for one in facts.authorities)
    assert asked["good.plain.test", RecordType.MX].answer.records == facts.mx_answer.records
    assert facts.unknown == ()
    # Nothing was ever sent.
    assert lab.messages == []
    assert lab.recipients == []


async def test_hosts_of_the_zoo_end_as_it_says() -> None:
    expected = {
        "no-policy": (ProbeOutcome.TLS, ()),
        "no-policy-no-starttls": (ProbeOutcome.NO_STARTTLS, None),
        "no-policy-self-signed": (ProbeOutcome.TLS, PkixProblem.SELF_SIGNED),
        "no-policy-broken-tls": (ProbeOutcome.TLS_FAILED, None),
    }
    async with checking(want_authorities=False, want_rua=False) as (_, gatherer):
        facts = await asyncio.gather(*(gatherer.gather(f"{name}.plain.test") for name in expected))
    for (name, (outcome, problem)), one in zip(expected.items(), facts, strict=True):
        first = one.hosts[0].probes[0]
        assert first.outcome is outcome, name
        assert one.policy is None
        if isinstance(problem, PkixProblem):
            assert first.tls is not None
            assert problem in first.tls.pkix.problems
        elif problem is not None:
            assert first.tls is not None
            assert first.tls.pkix.problems == problem


async def test_dane_of_the_zoo() -> None:
    async with checking(want_authorities=False, want_rua=False) as (_, gatherer):
        both = await gatherer.gather("both.signed.test")
        mismatch = await gatherer.gather("dane-mismatch.signed.test")
        without = await gatherer.gather("signed-no-tlsa.signed.test")
        null = await gatherer.gather("signed-null-mx.signed.test")
        bogus = await gatherer.gather("bogus-domain.bogus.test")
    for facts in (both, mismatch):
        assert facts.mx.secure
        assert facts.mx.hosts[0].tlsa_state is TlsaState.USABLE
        assert facts.hosts[0].probes[0].outcome is ProbeOutcome.TLS
    assert without.mx.hosts[0].tlsa_state is TlsaState.NONE
    assert (null.mx.status, null.hosts) == (MxStatus.NULL, ())
    assert (bogus.mx.status, bogus.mx_answer.status) == (MxStatus.ERROR, Status.BOGUS)
    assert bogus.hosts == ()


async def test_policies_of_the_zoo() -> None:
    async with checking(want_authorities=False, want_rua=False) as (lab, gatherer):
        refused = await gatherer.gather("policy-404.plain.test")
        absent = await gatherer.gather("txt-absent.plain.test")
        two = await gatherer.gather("txt-two.plain.test")
        aliased = await gatherer.gather("txt-cname.plain.test")
        assert lab.fetches("txt-two.plain.test") == 0
    assert isinstance(refused.policy, FetchFailure)
    assert refused.policy.reason_code == "http-status"
    assert [bool(look.agent) for look in refused.policy_looks] == [False, True]
    assert absent.policy is None
    assert absent.sts_record.status in (Status.NXDOMAIN, Status.NODATA)
    assert (two.policy, len(two.sts_record.records)) == (None, 2)
    assert aliased.sts_record.is_alias
    assert isinstance(aliased.policy, FetchedPolicy)


async def test_name_servers_that_disagree() -> None:
    async with Lab(zoo=[entry for entry in ZOO if entry.name == "good"]) as lab:
        data, place = await lab.add_name_server("plain.test", "ns2.test", "127.0.0.3")
        data.replace("good.plain.test", "MX", ["10 old.good.plain.test."])
        data.replace("_mta-sts.good.plain.test", "TXT", [])
        host, port = lab.dns_address
        table = ConnectMap.parse(
            [f"ns2.test:53:{place[0]}:{place[1]}", f":53:{host}:{port}", f":443::{lab.https_port}"]
        )
        resolver = DnsResolver([lab.dns_address], trust_ad=True, rng=random.Random(1))
        gatherer = assemble(
            resolver,
            CheckSettings(
                allow_networks=("127.0.0.0/8",),
                port25_canaries=(),
                want_probes=False,
                want_rua=False,
            ),
            clock=SystemClock(),
            rng=random.Random(2),
            mx_ca_file=lab.ca_file,
            policy_ca_file=lab.ca_file,
            connect_map=table,
        )
        facts = await gatherer.gather("good.plain.test")
        await gatherer.close()
        await resolver.close()
    said = {(one.server, one.name, one.rdtype): one.answer for one in facts.authorities}
    domain = "good.plain.test"
    assert said["ns.test", domain, RecordType.MX].records == (Mx(10, f"mx.{domain}"),)
    assert said["ns2.test", domain, RecordType.MX].records == (Mx(10, f"old.{domain}"),)
    record = f"_mta-sts.{domain}"
    assert said["ns.test", record, RecordType.TXT].status is Status.OK
    assert not said["ns2.test", record, RecordType.TXT].records
    assert {one.address for one in facts.authorities} == {"127.0.0.2", "127.0.0.3"}
