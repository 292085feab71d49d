# SPDX-License-Identifier: Apache-2.0
"""Probes over the network: real STARTTLS servers, and what a configuration makes of the option."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from tests.service.check.gathering import MX, A, settle
from tests.service.check.gathering import World as Gathering

from strictmail.checker.mxlook import RETEST_SECONDS, MxLooker, build_looker
from strictmail.checker.settings import CheckSettings
from strictmail.cli.composition_reporter import open_reporter
from strictmail.cli.doctor_collect import _UNVERIFIED, _ask_lately
from strictmail.cli.doctor_reports import check_reports
from strictmail.core.check.facts import PortState, ProbeOutcome, UnknownReason
from strictmail.core.dnsvalues import Mx
from strictmail.core.errors import ConfigError
from strictmail.core.mxset import MxStatus
from strictmail.core.tlsrpt.counts import Counts
from strictmail.core.tlsrpt.results import PolicyType
from strictmail.core.tlsrpt.session import Session, make_policy
from strictmail.lab.net import Lab
from strictmail.lab.zoo import ZOO
from strictmail.net.connectto import ConnectMap
from strictmail.net.dns import DnsResolver
from strictmail.net.fakes import FakeResolver
from strictmail.reporter.probing import Probing
from strictmail.runtime.clock import SystemClock
from strictmail.runtime.config import load_config
from strictmail.runtime.health import Health
from strictmail.store.sessions import DayDomain, SessionStore
from strictmail.store.unverified import UnverifiedCounts

from .world import Log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TESTING = tuple(entry for entry in ZOO if entry.name.startswith("testing"))
TODAY = datetime.now(UTC).date()

EXPECTED = {
    "testing": "1 success",
    "testing-bad-certificate": "1 certificate-not-trusted (probe: self-signed)",
    "testing-against-mx": "1 validation-failure (probe: mx-host-not-in-policy)",
    # Postfix tells of no session there: who tells of one has seen another host.
    "testing-no-starttls": "1 unverified",
}


@asynccontextmanager
async def looking() -> AsyncIterator[tuple[Lab, MxLooker]]:
    """A lab with the domains that test, and a looker whose connections end up in it."""
    async with Lab(zoo=list(TESTING)) as lab:
        resolver = DnsResolver([lab.dns_address], trust_ad=True, rng=random.Random(1))
        await resolver.start()
        looker = build_looker(
            resolver,
            CheckSettings(
                ehlo_name="probe.test", allow_networks=("127.0.0.0/8",), port25_canaries=()
            ),
            clock=SystemClock(),
            rng=random.Random(2),
            ca_file=lab.ca_file,
            connect_map=ConnectMap.parse([f":25::{lab.smtp_port}"]),
        )
        try:
            yield lab, looker
        finally:
            await looker.close()
            await resolver.close()


def tell(store: SessionStore) -> None:
    """A session with each of them that nobody verified, as Postfix tells of it at level `may`."""
    counts = Counts()
    for entry in TESTING:
        assert entry.policy is not None
        lines = entry.policy.body.decode().split("\r\n")
        policy = make_policy(PolicyType.STS, entry.domain, lines[:-1], domain=entry.domain)
        assert policy.mx_host_patterns
        counts.add(TODAY, Session(entry.domain, "", (), (policy,)))
    store.add(counts)


def said(store: SessionStore, domain: str) -> str:
    (found,) = store.load(DayDomain(TODAY, "", domain)).policies.values()
    words = [f"{found.successes} success"] if found.successes else []
    words += [
        f"{times} {detail.result_type} ({detail.failure_reason_code})"
        for detail, times in found.details.items()
    ]
    return ", ".join([*words, f"{found.unverified} unverified"] if found.unverified else words)


@pytest.mark.req("RPT-JSON-24", "RPT-JSON-26", "RPT-JSON-34")
async def test_the_domains_of_the_zoo_that_test(tmp_path: Path) -> None:
    store = SessionStore(tmp_path / "reports.sqlite3")
    tell(store)
    async with looking() as (lab, looker):
        probing = Probing(UnverifiedCounts(store), looker, clock=SystemClock(), events=Log())
        probing.start()
        await probing.settle()
        assert {entry.name: said(store, entry.domain) for entry in TESTING} == EXPECTED
        # Polite as a check: no mail, no recipient.
        assert lab.messages == []
        assert lab.recipients == []
        await probing.close()
    store.close()


async def test_a_look_has_one_session_with_each_address_and_nothing_else() -> None:
    async with looking() as (_, looker):
        domain = TESTING[0].domain
        facts, again = await asyncio.gather(looker.look(domain), looker.look(domain))
        nobody = await looker.look("no-such-domain.plain.test")
    (found,) = facts.hosts
    (one,) = found.probes
    assert one.outcome is ProbeOutcome.TLS
    assert one.attempts == 1
    assert again.hosts[0].probes == (one,)
    assert (facts.policy, facts.policy_looks, facts.rua, facts.authorities) == (None, (), (), ())
    assert found.tlsrpt is None
    assert facts.unknown == ()
    assert nobody.mx.status is MxStatus.NXDOMAIN


# ---- port 25 ----------------------------------------------------------------------------


async def test_a_closed_port_is_tested_again_after_a_while() -> None:
    world = Gathering(port25_canaries=("canary.example",))
    world.populate()
    world.resolver.add("canary.example", A, "192.0.2.99")
    looker = MxLooker(world.gatherer, world.clock)
    assert (await looker.look("example.com")).port25 is PortState.BLOCKED
    assert world.prober.probed == []
    world.reach.open.add("192.0.2.99")
    assert (await looker.look("example.com")).port25 is PortState.BLOCKED
    world.alarm.advance(RETEST_SECONDS)
    await settle()
    facts = await looker.look("example.com")
    assert facts.port25 is PortState.OPEN
    assert {one.outcome for one in facts.hosts[0].probes} == {ProbeOutcome.TLS}
    tried = len(world.reach.tried)
    world.alarm.advance(RETEST_SECONDS - 1)
    await settle()
    assert (await looker.look("example.com")).port25 is PortState.OPEN
    assert len(world.reach.tried) == tried
    # A daemon lives on: what was open may be closed by now.
    world.reach.open.clear()
    world.alarm.advance(1)
    await settle()
    world.populate("example.net", host="mx.example.net", number=2)
    closed = await looker.look("example.net")
    assert closed.port25 is PortState.BLOCKED
    assert {one.attempts for one in closed.hosts[0].probes} == {0}
    await looker.close()


async def test_the_port_alone_can_be_tested_at_any_time() -> None:
    world = Gathering(port25_canaries=("canary.example",))
    world.populate()
    world.resolver.add("canary.example", A, "192.0.2.99")
    looker = MxLooker(world.gatherer, world.clock)
    assert await looker.test_port() is PortState.BLOCKED
    assert (await looker.look("example.com")).port25 is PortState.BLOCKED
    world.reach.open.add("192.0.2.99")
    assert await looker.test_port() is PortState.OPEN
    assert [name for name, _ in world.reach.tried] == ["canary.example"] * 2
    assert world.prober.probed == []
    # What was not looked at is not remembered as seen.
    facts = await looker.look("example.com")
    assert {one.outcome for one in facts.hosts[0].probes} == {ProbeOutcome.TLS}
    await looker.close()


async def test_more_addresses_are_looked_at_than_in_a_check() -> None:
    """One that is left out leaves everything open."""
    resolver = FakeResolver()
    resolver.add("many.example", MX, Mx(10, "mx.many.example"))
    resolver.add("mx.many.example", A, *(f"127.0.0.{number}" for number in range(1, 10)))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        looker = build_looker(
            resolver,
            CheckSettings(
                ehlo_name="probe.test", allow_networks=("127.0.0.0/8",), port25_canaries=()
            ),
            clock=SystemClock(),
            rng=random.Random(2),
            connect_map=ConnectMap.parse([f":25:127.0.0.1:{port}"]),
        )
        facts = await looker.look("many.example")
        await looker.close()
    reasons = Counter(one.unknown.reason for one in facts.hosts[0].probes if one.unknown)
    assert reasons[UnknownReason.LIMIT] == 1
    assert reasons.total() == 9


# ---- the configuration ------------------------------------------------------------------

CONFIGURATION = """\
state_directory = "{directory}"
[dns]
servers = ["127.0.0.1:9"]
timeout = "100ms"
attempts = 1
[check]
ehlo_name = "{name}"
[reporter]
organization = "Sender"
contact = "tls@sender.example"
mail = "off"
probe_testing = {probe}
"""


def configuration(tmp_path: Path, *, probe: str, name: str = "mx.sender.example") -> Path:
    file = tmp_path / "strictmail.toml"
    file.write_text(CONFIGURATION.format(directory=tmp_path, probe=probe, name=name))
    return file


async def test_the_option_switches_probes_on_and_off(tmp_path: Path) -> None:
    on = load_config(str(configuration(tmp_path, probe="true")))
    off = load_config(str(configuration(tmp_path, probe="false")))
    parts = await open_reporter(off, Log())
    assert not parts.probing.is_on
    await parts.replace_adapters(on)
    assert parts.probing.is_on
    assert parts.reporter.probing is parts.probing
    await parts.replace_adapters(off)
    assert not parts.probing.is_on
    await parts.close()


async def test_it_is_off_by_default(tmp_path: Path) -> None:
    file = configuration(tmp_path, probe="false")
    file.write_text(file.read_text().replace("probe_testing = false\n", ""))
    assert load_config(str(file)).reporter.probe_testing is False


@pytest.mark.parametrize("offline", [True, False])
def test_doctor_looks_at_port_25_where_probes_need_it(tmp_path: Path, *, offline: bool) -> None:
    for probe, wanted in (("true", ["report-probes"]), ("false", [])):
        file = configuration(tmp_path, probe=probe)
        text = file.read_text().replace("[reporter]", "port25_canaries = []\n[reporter]")
        file.write_text(text)
        found = check_reports(load_config(str(file)), offline=offline)
        assert [(one.id, one.health) for one in found] == [
            (name, Health.UNKNOWN) for name in wanted
        ]


def test_doctor_counts_what_no_probe_established(tmp_path: Path) -> None:
    config = load_config(str(configuration(tmp_path, probe="true")))
    assert _ask_lately(config, _UNVERIFIED) is None
    store = SessionStore(config.sessions_path)
    assert _ask_lately(config, _UNVERIFIED) == 0
    tell(store)
    assert _ask_lately(config, _UNVERIFIED) == len(TESTING)
    counts = UnverifiedCounts(store)
    (_, found), *_ = counts.find(TODAY, TODAY)
    counts.establish(found, None)
    assert _ask_lately(config, _UNVERIFIED) == len(TESTING) - 1
    # A session that waits under two policies is one; one established hides none of another domain.
    policies = tuple(
        make_policy(
            PolicyType.STS, "two.example", ["mode: testing", f"mx: {mx}"], domain="two.example"
        )
        for mx in ("a.two.example", "b.two.example")
    )
    more = Counts()
    more.add(TODAY, Session("two.example", "", (), policies), 10)
    store.add(more)
    waiting = len(TESTING) - 1
    for left in (10, 10, 0):
        assert _ask_lately(config, _UNVERIFIED) == waiting + left
        for _, found in counts.find(TODAY, TODAY):
            if found.which.domain == "two.example":
                counts.establish(found, None)
                break
    store.close()


async def test_an_ehlo_name_that_cannot_be_said_is_told(tmp_path: Path) -> None:
    name = ".".join(["x" * 63] * 8)
    config = load_config(str(configuration(tmp_path, probe="true", name=name)))
    with pytest.raises(ConfigError, match=r"\[check\]"):
        await open_reporter(config, Log())
