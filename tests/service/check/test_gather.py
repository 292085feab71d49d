# SPDX-License-Identifier: Apache-2.0
"""What a check looks at, in which order, and what is left when the time is over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from strictmail.core.check.facts import (
    KeyType,
    PortState,
    ProbeOutcome,
    RuaState,
    Unknown,
    UnknownReason,
)
from strictmail.core.dnsvalues import Answer, Caa, Mx, RecordType, Status, Tlsa
from strictmail.core.mxset import MxStatus, TlsaState
from strictmail.core.sts.values import FetchedPolicy, FetchFailure
from strictmail.net.policyprobe import BROWSER_AGENT

from .gathering import AAAA, DOMAIN, HOST, MX, NS, POLICY_HOST, TXT, A, World, settle


@pytest.fixture
def world() -> World:
    world = World()
    world.populate()
    return world


# ---- all is well ----------------------------------------------------------------------------


async def test_everything_about_a_domain(world: World) -> None:
    facts = await world.gatherer.gather(DOMAIN)
    assert facts.domain == DOMAIN
    assert facts.looked_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert facts.validates
    assert facts.mx_answer.records == (Mx(10, HOST),)
    assert (facts.mx.status, [host.name for host in facts.mx.hosts]) == (MxStatus.FOUND, [HOST])
    (host,) = facts.hosts
    assert [answer.rdtype for answer in host.addresses] == [A, AAAA]
    assert host.tlsrpt is not None
    assert host.tlsrpt.name == f"_smtp._tls.{HOST}"
    assert facts.sts_record.records == ((b"v=STSv1; id=1;",),)
    assert facts.tlsrpt_record.status is Status.OK
    assert isinstance(facts.policy, FetchedPolicy)
    assert [look.address for look in facts.policy_looks] == ["198.51.100.1"]
    assert [(rua.uri, rua.state) for rua in facts.rua] == [
        ("mailto:tls@example.com", RuaState.ALIVE)
    ]
    assert facts.unknown == ()
    assert facts.port25 is PortState.NOT_TESTED
    await world.gatherer.close()


async def test_no_question_is_asked_twice() -> None:
    # The fake name servers look into the same table, and would be counted.
    world = World(want_authorities=False)
    world.populate()
    world.resolver.add(DOMAIN, MX, Mx(10, HOST), secure=True)
    world.resolver.add(HOST, A, "192.0.2.1", secure=True, ttl=0)
    world.resolver.fail(f"_smtp._tls.{HOST}", TXT)
    await world.gatherer.gather(DOMAIN)
    assert world.resolver.questions
    assert max(world.resolver.questions.values()) == 1


async def test_first_session_of_each_address_then_the_other_key(world: World) -> None:
    world.prober.serve("192.0.2.1", KeyType.ECDSA, KeyType.RSA)
    facts = await world.gatherer.gather(DOMAIN)
    seen = [
        (one.target.address, one.target.server_name, one.target.key_type, one.outcome)
        for one in facts.hosts[0].probes
    ]
    assert seen == [
        ("192.0.2.1", HOST, KeyType.ANY, ProbeOutcome.TLS),
        ("192.0.2.1", HOST, KeyType.RSA, ProbeOutcome.TLS),
        ("2001:db8::1", HOST, KeyType.ANY, ProbeOutcome.TLS),
        ("2001:db8::1", HOST, KeyType.RSA, ProbeOutcome.TLS_FAILED),
    ]


async def test_one_key_type_is_enough_where_that_is_wanted() -> None:
    world = World(both_key_types=False)
    world.populate()
    facts = await world.gatherer.gather(DOMAIN)
    assert [one.target.key_type for one in facts.hosts[0].probes] == [KeyType.ANY, KeyType.ANY]


@pytest.mark.req("DANE-82")
async def test_another_base_domain_is_another_sni(world: World) -> None:
    resolver = world.resolver
    resolver.add(DOMAIN, MX, Mx(10, HOST), secure=True)
    resolver.remove(HOST, A)
    resolver.remove(HOST, AAAA)
    resolver.alias(HOST, "mail.provider.example", secure=True)
    resolver.add("mail.provider.example", A, "192.0.2.1", secure=True)
    record = Tlsa(3, 1, 1, b"\xab" * 32)
    resolver.add("_25._tcp.mail.provider.example", RecordType.TLSA, record, secure=True)
    facts = await world.gatherer.gather(DOMAIN)
    assert facts.mx.hosts[0].tlsa_base_domain == "mail.provider.example"
    assert [
        (one.target.host, one.target.server_name, one.target.key_type)
        for one in facts.hosts[0].probes
    ] == [
        (HOST, HOST, KeyType.ANY),
        (HOST, HOST, KeyType.RSA),
        (HOST, "mail.provider.example", KeyType.ANY),
        (HOST, "mail.provider.example", KeyType.RSA),
    ]


async def test_a_host_without_tls_is_asked_once(world: World) -> None:
    world.prober.script("192.0.2.1", ProbeOutcome.NO_STARTTLS)
    facts = await world.gatherer.gather(DOMAIN)
    outcomes = [one.outcome for one in facts.hosts[0].probes if ":" not in one.target.address]
    assert outcomes == [ProbeOutcome.NO_STARTTLS]


async def test_hosts_are_visited_while_tlsa_records_are_looked_for(world: World) -> None:
    world.resolver.add(DOMAIN, MX, Mx(10, HOST), secure=True)
    world.resolver.add(HOST, A, "192.0.2.1", secure=True)
    held = world.resolver.hang(f"_25._tcp.{HOST}", RecordType.TLSA)
    check = asyncio.ensure_future(world.gatherer.gather(DOMAIN))
    await settle()
    assert world.prober.count("192.0.2.1") == 2
    held.set()
    facts = await check
    assert facts.mx.hosts[0].tlsa_state is TlsaState.NONE


async def test_an_address_in_an_mx_record_is_no_name_to_look_up(world: World) -> None:
    world.resolver.add(DOMAIN, MX, Mx(10, "192.0.2.9"))
    facts = await world.gatherer.gather(DOMAIN)
    assert (facts.hosts[0].name, facts.hosts[0].addresses) == ("192.0.2.9", ())
    assert world.prober.probed == []


async def test_a_domain_that_does_not_exist() -> None:
    world = World()
    facts = await world.gatherer.gather("nowhere.example")
    assert facts.mx.status is MxStatus.NXDOMAIN
    nothing = [facts.hosts, facts.authorities, facts.policy_looks, facts.rua]
    assert not any(nothing)
    assert facts.policy is None
    assert facts.unknown == ()


# ---- bounds ---------------------------------------------------------------------------------


async def test_too_many_hosts_and_addresses() -> None:
    world = World(max_hosts=1, max_addresses=2)
    world.populate()
    world.resolver.add(DOMAIN, MX, Mx(10, HOST), Mx(20, "mx2.example.com"))
    world.resolver.add(HOST, A, *(f"192.0.2.{n}" for n in range(1, 5)))
    facts = await world.gatherer.gather(DOMAIN)
    assert [host.name for host in facts.hosts] == [HOST]
    assert len(facts.mx.hosts) == 2
    by_address = {one.target.address: one.unknown for one in facts.hosts[0].probes}
    for address in ("192.0.2.3", "192.0.2.4"):
        unknown = by_address[address]
        assert unknown is not None
        assert unknown.reason is UnknownReason.LIMIT
    assert {target.address for target in world.prober.probed} == {
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8::1",
    }


async def test_what_nobody_wants_is_skipped() -> None:
    world = World(
        want_probes=False, want_authorities=False, want_rua=False, want_policy_looks=False
    )
    world.populate()
    facts = await world.gatherer.gather(DOMAIN)
    assert world.prober.probed == []
    assert not world.authorities.questions
    assert not world.rua_prober.looks
    assert world.policy_prober.looks == []
    assert isinstance(facts.policy, FetchedPolicy)
    assert {subject: one.reason for subject, one in facts.unknown} == {
        "name servers": UnknownReason.SKIPPED,
        "rua mailto:tls@example.com": UnknownReason.SKIPPED,
    }
    assert {one.unknown for one in facts.hosts[0].probes} == {
        Unknown(UnknownReason.SKIPPED, "not wanted")
    }


@pytest.mark.req("SEC-19")
async def test_inner_addresses_are_not_visited() -> None:
    world = World(allow_networks=())
    world.populate()
    world.resolver.add(HOST, A, "10.0.0.1")
    facts = await world.gatherer.gather(DOMAIN)
    assert world.prober.probed == []
    assert not world.authorities.questions
    assert {one.unknown.reason for one in facts.hosts[0].probes if one.unknown} == {
        UnknownReason.SKIPPED
    }
    assert dict(facts.unknown)["name server ns1.example.com[192.0.2.201]"].reason is (
        UnknownReason.SKIPPED
    )


async def test_without_ipv6_nothing_is_tried_over_it(world: World) -> None:
    world.reach.unrouted = ("2001:",)
    world.resolver.add(POLICY_HOST, AAAA, "2001:4860::100")
    world.resolver.add("ns1.example.com", AAAA, "2001:db8::53")
    facts = await world.gatherer.gather(DOMAIN)
    six = [one for one in facts.hosts[0].probes if ":" in one.target.address]
    assert [one.unknown and one.unknown.reason for one in six] == [UnknownReason.NO_ROUTE]
    assert all(":" not in target.address for target in world.prober.probed)
    assert all(":" not in address for _, address, _ in world.policy_prober.looks)
    assert all(":" not in address for address, _, _ in world.authorities.questions)
    assert {subject for subject, one in facts.unknown if one.reason is UnknownReason.NO_ROUTE} == {
        f"{POLICY_HOST}[2001:4860::100]",
        "name server ns1.example.com[2001:db8::53]",
    }


# ---- the policy -----------------------------------------------------------------------------


async def test_a_single_address_is_fetched_from_once(world: World) -> None:
    facts = await world.gatherer.gather(DOMAIN)
    assert len(world.policy_prober.looks) == 1
    assert world.fetcher.fetches[DOMAIN] == 0
    assert facts.policy is facts.policy_looks[0].result


async def test_several_addresses_are_compared_with_the_fetch(world: World) -> None:
    world.resolver.add(POLICY_HOST, AAAA, "2001:db8::100")
    world.policy_prober.fail("2001:db8::100", "connect")
    facts = await world.gatherer.gather(DOMAIN)
    assert isinstance(facts.policy, FetchedPolicy)
    assert world.fetcher.fetches[DOMAIN] == 1
    assert [
        (look.address, isinstance(look.result, FetchedPolicy)) for look in facts.policy_looks
    ] == [("198.51.100.1", True), ("2001:db8::100", False)]


@pytest.mark.req("STS-REC-05")
@pytest.mark.parametrize("record", [b"v=spf1 -all", b"v=STSv1; id=;"])
async def test_without_a_usable_record_nobody_fetches(world: World, record: bytes) -> None:
    world.resolver.add(f"_mta-sts.{DOMAIN}", TXT, (record,))
    facts = await world.gatherer.gather(DOMAIN)
    assert facts.policy is None
    assert world.policy_prober.looks == []
    assert world.fetcher.fetches[DOMAIN] == 0
    assert [answer.rdtype for answer in facts.policy_addresses] == [A, AAAA]
    assert facts.caa == ()


@pytest.mark.parametrize(
    ("reason_code", "agents"),
    [
        ("http-status", ["", BROWSER_AGENT]),
        ("redirect", ["", BROWSER_AGENT]),
        ("connect", [""]),
        ("certificate-name", [""]),
        ("syntax", [""]),
    ],
)
async def test_the_browser_looks_only_where_it_may_help(
    world: World, reason_code: str, agents: list[str]
) -> None:
    world.policy_prober.fail("198.51.100.1", reason_code)
    facts = await world.gatherer.gather(DOMAIN)
    assert [agent for _, _, agent in world.policy_prober.looks] == agents
    assert isinstance(facts.policy, FetchFailure)
    assert [look.agent for look in facts.policy_looks] == agents


async def test_a_policy_host_without_address(world: World) -> None:
    world.resolver.remove(POLICY_HOST, A)
    world.fetcher.fail(DOMAIN, "dns")
    facts = await world.gatherer.gather(DOMAIN)
    assert isinstance(facts.policy, FetchFailure)
    assert facts.policy.reason_code == "dns"


# ---- CAA, name servers, destinations ------------------------------------------------------------


async def test_caa_from_the_policy_host_upwards(world: World) -> None:
    record = Caa(0, "issue", b"ca.example")
    world.resolver.add(DOMAIN, RecordType.CAA, record)
    facts = await world.gatherer.gather(DOMAIN)
    assert [(answer.name, answer.status) for answer in facts.caa] == [
        (POLICY_HOST, Status.NODATA),
        (DOMAIN, Status.OK),
    ]
    assert world.resolver.count("com", RecordType.CAA) == 0


async def test_a_caa_lookup_that_fails_ends_the_climb(world: World) -> None:
    world.resolver.fail(POLICY_HOST, RecordType.CAA)
    facts = await world.gatherer.gather(DOMAIN)
    assert [answer.status for answer in facts.caa] == [Status.SERVFAIL]


async def test_every_server_is_asked_everything(world: World) -> None:
    facts = await world.gatherer.gather(DOMAIN)
    names = {(one.name, one.rdtype) for one in facts.authorities}
    assert names == {
        (DOMAIN, MX),
        (f"_mta-sts.{DOMAIN}", TXT),
        (f"_smtp._tls.{DOMAIN}", TXT),
        (POLICY_HOST, A),
        (POLICY_HOST, AAAA),
    }
    for name, rdtype in names:
        servers = [
            one.server for one in facts.authorities if (one.name, one.rdtype) == (name, rdtype)
        ]
        assert servers == [f"ns1.{DOMAIN}", f"ns2.{DOMAIN}"]
    assert {one.zone for one in facts.authorities} == {DOMAIN}


async def test_a_server_that_disagrees_is_quoted(world: World) -> None:
    other = Answer(DOMAIN, MX, Status.OK, records=(Mx(10, "old.example.com"),))
    world.authorities.disagree("192.0.2.202", other)
    facts = await world.gatherer.gather(DOMAIN)
    said = {one.server: one.answer.records for one in facts.authorities if one.rdtype is MX}
    assert said == {
        f"ns1.{DOMAIN}": (Mx(10, HOST),),
        f"ns2.{DOMAIN}": (Mx(10, "old.example.com"),),
    }


async def test_the_servers_of_the_tlsa_records_are_those_of_the_host(world: World) -> None:
    resolver = world.resolver
    host = "mx.provider.example"
    resolver.add(DOMAIN, MX, Mx(10, host), secure=True)
    resolver.add(host, A, "192.0.2.1", secure=True)
    record = Tlsa(3, 1, 1, b"\xab" * 32)
    resolver.add(f"_25._tcp.{host}", RecordType.TLSA, record, secure=True)
    resolver.add("provider.example", NS, "ns.provider.example")
    resolver.add("ns.provider.example", A, "192.0.2.203")
    facts = await world.gatherer.gather(DOMAIN)
    asked = [one for one in facts.authorities if one.rdtype is RecordType.TLSA]
    assert [(one.zone, one.server, one.answer.records) for one in asked] == [
        ("provider.example", "ns.provider.example", (record,))
    ]


async def test_the_servers_of_a_public_suffix_are_left_alone(world: World) -> None:
    world.resolver.remove(DOMAIN, NS)
    world.resolver.add("com", NS, "ns.registry.example")
    world.resolver.add("ns.registry.example", A, "192.0.2.203")
    facts = await world.gatherer.gather(DOMAIN)
    assert facts.authorities == ()


async def test_too_many_name_servers() -> None:
    world = World(max_name_servers=1)
    world.populate()
    facts = await world.gatherer.gather(DOMAIN)
    assert {one.server for one in facts.authorities} == {f"ns1.{DOMAIN}"}
    assert dict(facts.unknown)[f"name servers of {DOMAIN}"] == Unknown(
        UnknownReason.LIMIT, "only 1 of 2 are asked"
    )


async def test_questions_to_one_server_at_once() -> None:
    world = World(questions_per_server=1)
    world.populate()
    held = world.authorities.hang("192.0.2.201")
    check = asyncio.ensure_future(world.gatherer.gather(DOMAIN))
    await settle()
    assert sum(count for key, count in world.authorities.questions.items() if "201" in key[0]) == 1
    held.set()
    await check


async def test_a_destination_is_looked_at_once_in_a_run(world: World) -> None:
    world.populate("example.net", host="mx.example.net", number=2)
    for domain, mailbox in ((DOMAIN, "a"), ("example.net", "b")):
        record = f"v=TLSRPTv1; rua=mailto:{mailbox}@reports.example".encode()
        world.resolver.add(f"_smtp._tls.{domain}", TXT, (record,))
    first = await world.gatherer.gather(DOMAIN)
    second = await world.gatherer.gather("example.net")
    assert [rua.uri for rua in (*first.rua, *second.rua)] == [
        "mailto:a@reports.example",
        "mailto:b@reports.example",
    ]
    assert sum(world.rua_prober.looks.values()) == 1


async def test_too_many_destinations() -> None:
    world = World(max_rua=1)
    world.populate()
    record = b"v=TLSRPTv1; rua=https://a.example/,https://b.example/"
    world.resolver.add(f"_smtp._tls.{DOMAIN}", TXT, (record,))
    facts = await world.gatherer.gather(DOMAIN)
    assert [rua.uri for rua in facts.rua] == ["https://a.example/"]
    assert dict(facts.unknown)["rua https://b.example/"].reason is UnknownReason.LIMIT


# ---- the deadline -----------------------------------------------------------------------------


async def test_a_host_that_hangs_costs_only_itself(world: World) -> None:
    world.prober.hang("192.0.2.1")
    check = asyncio.ensure_future(world.gatherer.gather(DOMAIN))
    await settle()
    assert not check.done()
    world.alarm.advance(world.settings.deadline_seconds)
    facts = await check
    assert facts.seconds == world.settings.deadline_seconds
    by_address: dict[str, list[object]] = {}
    for one in facts.hosts[0].probes:
        reason = one.unknown.reason if one.unknown else one.outcome
        by_address.setdefault(one.target.address, []).append(reason)
    assert by_address["192.0.2.1"] == [UnknownReason.DEADLINE]
    assert by_address["2001:db8::1"][0] is ProbeOutcome.TLS
    assert isinstance(facts.policy, FetchedPolicy)
    assert facts.rua
    assert facts.authorities
    await world.gatherer.close()


@pytest.mark.parametrize("name", [DOMAIN, f"_mta-sts.{DOMAIN}", f"_smtp._tls.{DOMAIN}"])
async def test_a_lookup_that_hangs(world: World, name: str) -> None:
    rdtype = MX if name == DOMAIN else TXT
    world.resolver.hang(name, rdtype)
    check = asyncio.ensure_future(world.gatherer.gather(DOMAIN))
    await settle()
    world.alarm.advance(world.settings.deadline_seconds)
    facts = await check
    answer = next(
        answer
        for answer in (facts.mx_answer, facts.sts_record, facts.tlsrpt_record)
        if (answer.name, answer.rdtype) == (name, rdtype)
    )
    assert (answer.status, answer.detail) == (Status.TIMEOUT, "the time for the check was over")
    assert UnknownReason.DEADLINE in {one.reason for _, one in facts.unknown}
    assert (facts.mx.status is MxStatus.ERROR) == (rdtype is MX)
    await world.gatherer.close()


async def test_tlsa_records_that_do_not_come(world: World) -> None:
    world.resolver.add(DOMAIN, MX, Mx(10, HOST), secure=True)
    world.resolver.add(HOST, A, "192.0.2.1", secure=True)
    world.resolver.hang(f"_25._tcp.{HOST}", RecordType.TLSA)
    check = asyncio.ensure_future(world.gatherer.gather(DOMAIN))
    await settle()
    world.alarm.advance(world.settings.deadline_seconds)
    facts = await check
    assert facts.mx.hosts[0].tlsa_state is TlsaState.ERROR
    assert dict(facts.unknown)["MX"].reason is UnknownReason.DEADLINE
    assert facts.hosts[0].probes[0].outcome is ProbeOutcome.TLS
    await world.gatherer.close()


async def test_a_policy_host_that_hangs(world: World) -> None:
    world.policy_prober.hang("198.51.100.1")
    check = asyncio.ensure_future(world.gatherer.gather(DOMAIN))
    await settle()
    world.alarm.advance(world.settings.deadline_seconds)
    facts = await check
    assert (facts.policy, facts.policy_looks) == (None, ())
    assert dict(facts.unknown)["policy"].reason is UnknownReason.DEADLINE
    await world.gatherer.close()


async def test_a_name_server_and_a_destination_that_hang(world: World) -> None:
    world.authorities.hang("192.0.2.201")
    world.rua_prober.hang("mailto:tls@example.com")
    check = asyncio.ensure_future(world.gatherer.gather(DOMAIN))
    await settle()
    world.alarm.advance(world.settings.deadline_seconds)
    facts = await check
    assert {one.server for one in facts.authorities} == {f"ns2.{DOMAIN}"}
    late_subjects = {s for s, one in facts.unknown if one.reason is UnknownReason.DEADLINE}
    assert f"name servers on {DOMAIN} MX" in late_subjects
    assert "rua mailto:tls@example.com" in late_subjects
    await world.gatherer.close()


async def test_who_goes_away_leaves_nothing_behind(world: World) -> None:
    world.prober.hang("192.0.2.1")
    check = asyncio.ensure_future(world.gatherer.gather(DOMAIN))
    await settle()
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check
    await world.gatherer.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_before_anything_came(world: World) -> None:
    check = asyncio.ensure_future(world.gatherer.gather(DOMAIN))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    world.alarm.advance(world.settings.deadline_seconds)
    facts = await check
    assert facts.domain == DOMAIN
    await world.gatherer.close()


@pytest.mark.req("DANE-23")
async def test_tlsa_records_that_no_sender_asks_for(world: World) -> None:
    """Behind unsigned MX records: for their owner, and once for all domains of a host."""
    record = Tlsa(3, 1, 1, b"\xab" * 32)
    world.resolver.add(f"_25._tcp.{HOST}", RecordType.TLSA, record)
    facts = await world.gatherer.gather(DOMAIN)
    (host,) = facts.hosts
    assert facts.mx.hosts[0].tlsa_state is TlsaState.NOT_ASKED
    assert facts.mx.hosts[0].tlsa == ()
    assert host.idle_tlsa is not None
    assert host.idle_tlsa.records == (record,)
    assert facts.unknown == ()


async def test_without_validation_nobody_asks_for_tlsa_records(world: World) -> None:
    world.resolver.validates = False
    facts = await world.gatherer.gather(DOMAIN)
    assert facts.hosts[0].idle_tlsa is None
