# SPDX-License-Identifier: Apache-2.0
"""Requirements on what is asked of DNS, and in which order, that no other test decides."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from tests.service.net.nameserver import NameServer

from strictmail.core.decision import DecisionSettings, Level, ListenerProfile, decide
from strictmail.core.dnsvalues import Mx, RecordType, Status, Tlsa
from strictmail.core.mxset import MxStatus, TlsaState
from strictmail.core.nexthop import parse_nexthop
from strictmail.discovery.mx import discover_mx
from strictmail.discovery.policy import RecordStatus, look_up_record
from strictmail.net.dns import DnsResolver
from strictmail.net.fakes import FakeResolver

if TYPE_CHECKING:
    from tests.service.net.nameserver import Asked

    from strictmail.core.mxset import MxSet

A, AAAA, CNAME, MX, TLSA, TXT = (
    RecordType.A,
    RecordType.AAAA,
    RecordType.CNAME,
    RecordType.MX,
    RecordType.TLSA,
    RecordType.TXT,
)
GOOD = Tlsa(3, 1, 1, b"\xab" * 32)
D = "example.test"
DANE = ListenerProfile(dane=True)


async def discover(resolver: FakeResolver, key: str = D, *, want_tlsa: bool = True) -> MxSet:
    return await discover_mx(resolver, parse_nexthop(key), want_tlsa=want_tlsa)


def signed(*, mx_secure: bool = True, address_secure: bool = True) -> FakeResolver:
    """One MX host with TLSA records."""
    resolver = FakeResolver()
    resolver.add(D, MX, Mx(10, "mx.example.test"), secure=mx_secure)
    resolver.add("mx.example.test", A, "192.0.2.1", secure=address_secure)
    resolver.add("_25._tcp.mx.example.test", TLSA, GOOD, secure=True)
    return resolver


@pytest.mark.req("DANE-20", "DANE-30")
async def test_addresses_are_known_before_tlsa_is_asked_for() -> None:
    resolver = signed()
    held = [resolver.hang("mx.example.test", rdtype) for rdtype in (A, AAAA)]
    task = asyncio.create_task(discover(resolver))
    for event in held:
        for _ in range(10):
            await asyncio.sleep(0)
        assert resolver.count("_25._tcp.mx.example.test", TLSA) == 0
        event.set()
    assert (await task).hosts[0].tlsa_state is TlsaState.USABLE
    assert resolver.count("_25._tcp.mx.example.test", TLSA) == 1


@pytest.mark.req("DANE-21", "DANE-22")
async def test_tlsa_is_not_asked_for_behind_insecure_or_missing_addresses() -> None:
    insecure = signed(address_secure=False)
    assert (await discover(insecure)).hosts[0].tlsa_state is TlsaState.NOT_APPLICABLE
    missing = signed()
    missing.remove("mx.example.test", A)
    assert (await discover(missing)).hosts[0].tlsa_state is TlsaState.NO_ADDRESS
    for resolver in (insecure, missing):
        assert resolver.count("_25._tcp.mx.example.test", TLSA) == 0


@pytest.mark.req("DANE-82")
async def test_all_addresses_of_a_host_are_bound_by_one_set_of_records() -> None:
    resolver = signed()
    resolver.add("mx.example.test", A, "192.0.2.1", "192.0.2.2", "192.0.2.3", secure=True)
    resolver.add("mx.example.test", AAAA, "2001:db8::1", secure=True)
    mx = await discover(resolver)
    (host,) = mx.hosts
    assert (host.tlsa_state, host.tlsa) == (TlsaState.USABLE, (GOOD,))
    assert resolver.count("_25._tcp.mx.example.test", TLSA) == 1
    decision = decide(D, profile=DANE, settings=DecisionSettings(), policy=None, mx=mx)
    # Not `dane`, at which an address that fails could be followed by one in the clear.
    assert decision.level is Level.DANE_ONLY


@pytest.mark.req("DANE-82", "DANE-12")
async def test_a_family_that_fails_does_not_unbind_the_other() -> None:
    resolver = signed()
    resolver.fail("mx.example.test", AAAA, Status.SERVFAIL)
    assert (await discover(resolver)).hosts[0].tlsa_state is TlsaState.USABLE


@pytest.mark.req("DANE-23", "DANE-25", "STS-APP-74")
async def test_tlsa_behind_an_insecure_mx_authenticates_no_domain() -> None:
    mx = await discover(signed(mx_secure=False))
    assert not mx.secure
    assert [host.tlsa_state for host in mx.hosts] == [TlsaState.NOT_ASKED]
    decision = decide(D, profile=DANE, settings=DecisionSettings(), policy=None, mx=mx)
    assert (decision.level, decision.reason) == (Level.NONE, "no-policy")


@pytest.mark.req("DANE-26", "DANE-63")
async def test_only_a_secure_alias_of_the_domain_is_expanded() -> None:
    for secure, expanded in ((True, "real.example.test"), (False, "")):
        resolver = FakeResolver()
        resolver.alias(D, "real.example.test", secure=secure)
        resolver.add("real.example.test", MX, Mx(10, "mx.example.test"), secure=True)
        mx = await discover(resolver, want_tlsa=False)
        assert mx.secure is secure
        assert mx.expanded == expanded
        # Either way a host is called what its MX record calls it.
        assert [host.name for host in mx.hosts] == ["mx.example.test"]


@pytest.mark.req("DANE-38", "DANE-30")
@pytest.mark.parametrize(
    ("key", "owner"),
    [
        ("[mx.example.test]", "_25._tcp.mx.example.test"),
        ("[mx.example.test]:587", "_587._tcp.mx.example.test"),
    ],
)
async def test_a_configured_host_is_looked_at_under_its_own_name(key: str, owner: str) -> None:
    resolver = signed()
    resolver.add(owner, TLSA, GOOD, secure=True)
    mx = await discover(resolver, key)
    assert (mx.status, mx.secure) == (MxStatus.CONFIGURED, True)
    assert [(h.tlsa_base_domain, h.tlsa_state) for h in mx.hosts] == [
        ("mx.example.test", TlsaState.USABLE)
    ]
    assert resolver.count("mx.example.test", MX) == 0
    assert resolver.count(owner, TLSA) == 1


@pytest.mark.req("STS-APP-11", "STS-APP-12", "DANE-39")
async def test_a_domain_without_mx_is_its_own_host() -> None:
    resolver = FakeResolver()
    resolver.add(D, A, "192.0.2.1", secure=True)
    resolver.add("_25._tcp.example.test", TLSA, GOOD, secure=True)
    mx = await discover(resolver)
    assert (mx.status, mx.secure) == (MxStatus.IMPLICIT, True)
    assert [(h.name, h.preference, h.tlsa_state) for h in mx.hosts] == [(D, 0, TlsaState.USABLE)]


@pytest.mark.req("STS-APP-11", "STS-APP-14", "DANE-11")
@pytest.mark.parametrize("status", [Status.SERVFAIL, Status.BOGUS, Status.TIMEOUT])
async def test_a_failed_lookup_is_not_taken_for_no_mx(status: Status) -> None:
    resolver = FakeResolver()
    resolver.add(D, A, "192.0.2.1", secure=True)
    resolver.fail(D, MX, status)
    mx = await discover(resolver)
    assert (mx.status, mx.hosts, mx.ttl) == (MxStatus.ERROR, (), 0)


@pytest.mark.req("STS-APP-13", "STS-APP-15")
async def test_mx_records_without_a_usable_host_do_not_lead_to_the_domain() -> None:
    resolver = FakeResolver()
    resolver.add(D, A, "192.0.2.1")
    resolver.add(D, MX, Mx(0, ""))
    mx = await discover(resolver, want_tlsa=False)
    assert (mx.status, mx.hosts) == (MxStatus.NULL, ())
    resolver.add(D, MX, Mx(10, "gone.example.test"))
    mx = await discover(resolver, want_tlsa=False)
    assert [host.name for host in mx.hosts] == ["gone.example.test"]
    resolver.add(D, MX, Mx(0, ""), Mx(10, "mx.example.test"))
    mx = await discover(resolver, want_tlsa=False)
    assert (mx.status, [host.name for host in mx.hosts]) == (MxStatus.FOUND, ["mx.example.test"])


@pytest.mark.req("STS-APP-10")
async def test_hosts_stand_in_the_order_of_their_preference() -> None:
    resolver = FakeResolver()
    records = [Mx(20, "c.test"), Mx(5, "z.test"), Mx(100, "a.test"), Mx(20, "b.test")]
    rng = random.Random(1)
    for _ in range(10):
        rng.shuffle(records)
        resolver.add(D, MX, *records, Mx(30, "z.test"))
        mx = await discover(resolver, want_tlsa=False)
        assert [(h.preference, h.name) for h in mx.hosts] == [
            (5, "z.test"),
            (20, "b.test"),
            (20, "c.test"),
            (100, "a.test"),
        ]


@pytest.mark.req("STS-APP-18", "STS-APP-23", "DANE-29")
async def test_names_stay_as_the_mx_record_has_them() -> None:
    resolver = FakeResolver()
    resolver.add(D, MX, Mx(10, "mx.example.test"), Mx(20, "192.0.2.7"), secure=True)
    resolver.alias("mx.example.test", "real.example.test", secure=True)
    resolver.add("real.example.test", A, "192.0.2.1", secure=True)
    resolver.add("192.0.2.7", A, "192.0.2.7", secure=True)
    mx = await discover(resolver)
    assert [(h.name, h.tlsa_state) for h in mx.hosts] == [
        ("mx.example.test", TlsaState.NONE),
        ("192.0.2.7", TlsaState.NOT_APPLICABLE),
    ]


@pytest.mark.req("STS-REC-01", "STS-REC-28", "STS-REC-35", "STS-APP-03", "STS-APP-05")
async def test_the_record_is_looked_for_at_one_name_only() -> None:
    resolver = FakeResolver()
    resolver.alias("sub.example.test", "provider.test")
    for name in ("_mta-sts.example.test", "_mta-sts.provider.test", "sub.example.test"):
        resolver.add(name, TXT, (b"v=STSv1; id=1;",))
    lookup = await look_up_record(resolver, "sub.example.test")
    assert lookup.status is RecordStatus.ABSENT
    assert set(resolver.questions) == {("_mta-sts.sub.example.test", TXT)}


@pytest.mark.req("STS-REC-26", "STS-REC-31")
@pytest.mark.parametrize("secure", [True, False])
async def test_the_record_may_be_an_alias_and_need_not_be_signed(*, secure: bool) -> None:
    resolver = FakeResolver()
    resolver.alias("_mta-sts.example.test", "a.provider.test", secure=secure, ttl=60)
    resolver.alias("a.provider.test", "b.provider.test", secure=secure)
    resolver.add("b.provider.test", TXT, (b"v=STSv1; ", b"id=7;"), secure=secure)
    lookup = await look_up_record(resolver, D)
    assert lookup.record is not None
    assert (lookup.status, lookup.record.policy_id, lookup.ttl) == (RecordStatus.FOUND, "7", 60)


@pytest.mark.req("DANE-09", "STS-REC-26")
async def test_a_dname_is_followed_by_the_cname_made_from_it() -> None:
    def trick(query: dns.message.Message, asked: Asked) -> list[bytes]:
        reply = server.answer(query, asked)
        reply.answer.clear()
        reply.set_rcode(0)
        for name, rtype, text in (
            ("old.test.", "DNAME", "new.test."),
            ("_mta-sts.old.test.", "CNAME", "_mta-sts.new.test."),
            ("_mta-sts.new.test.", "TXT", '"v=STSv1; id=9;"'),
        ):
            reply.answer.append(
                dns.rrset.from_text(name, 300, "IN", dns.rdatatype.from_text(rtype), text)
            )
        return [reply.to_wire()]

    async with NameServer() as server:
        server.tricks["_mta-sts.old.test", TXT] = trick
        resolver = DnsResolver([server.address], rng=random.Random(1))
        await resolver.start()
        lookup = await look_up_record(resolver, "old.test")
        await resolver.close()
    assert lookup.record is not None
    assert lookup.record.policy_id == "9"


@pytest.mark.req("DANE-07")
@pytest.mark.parametrize(("first", "second"), [(False, True), (True, False), (True, True)])
async def test_a_chain_over_two_replies_is_secure_only_if_both_are(
    *, first: bool, second: bool
) -> None:
    def only_the_alias(query: dns.message.Message, asked: Asked) -> list[bytes]:
        reply = server.answer(query, asked)
        del reply.answer[1:]
        if first:
            reply.flags |= dns.flags.AD
        else:
            reply.flags &= ~dns.flags.AD
        return [reply.to_wire()]

    async with NameServer() as server:
        server.alias("a.test", "b.test", secure=first)
        server.add("b.test", A, "192.0.2.1", secure=second)
        server.tricks["a.test", A] = only_the_alias
        resolver = DnsResolver([server.address], trust_ad=True, rng=random.Random(1))
        await resolver.start()
        answer = await resolver.lookup("a.test", A)
        await resolver.close()
    assert (answer.status, answer.canonical_name) == (Status.OK, "b.test")
    assert answer.secure is (first and second)
