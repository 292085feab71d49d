# SPDX-License-Identifier: Apache-2.0
"""The MX set of a next-hop and the TLSA state of its hosts, from a table of answers."""

from __future__ import annotations

import asyncio

import pytest

from strictmail.core.dnsvalues import Mx, RecordType, Status, Tlsa
from strictmail.core.mxset import MxHost, MxSet, MxStatus, TlsaState
from strictmail.core.nexthop import parse_nexthop
from strictmail.discovery.mx import (
    CONFIGURED_TTL_SECONDS,
    IGNORED_FAILURE_TTL_SECONDS,
    MAX_TLSA_HOSTS,
    discover_mx,
)
from strictmail.net.fakes import FakeResolver

A, AAAA, CNAME, MX, TLSA = (
    RecordType.A,
    RecordType.AAAA,
    RecordType.CNAME,
    RecordType.MX,
    RecordType.TLSA,
)
GOOD = Tlsa(3, 1, 1, b"\x01" * 32)
SHORT = Tlsa(3, 1, 1, b"\x01")
FAILURES = [Status.SERVFAIL, Status.BOGUS, Status.TIMEOUT, Status.MALFORMED]


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver()


def add_host(resolver: FakeResolver, name: str, *tlsa: Tlsa, secure: bool = True) -> None:
    """A host with an IPv4 address and perhaps TLSA records, in a signed zone or not."""
    resolver.add(name, A, "192.0.2.1", secure=secure)
    if tlsa:
        resolver.add(f"_25._tcp.{name}", TLSA, *tlsa, secure=secure)


async def discover(resolver: FakeResolver, key: str, *, want_tlsa: bool = True) -> MxSet:
    return await discover_mx(resolver, parse_nexthop(key), want_tlsa=want_tlsa)


def states(found: MxSet) -> dict[str, TlsaState]:
    return {host.name: host.tlsa_state for host in found.hosts}


class TestHosts:
    @pytest.mark.req("STS-APP-10", "STS-APP-18")
    async def test_order(self, resolver: FakeResolver) -> None:
        resolver.add(
            "example.com",
            MX,
            Mx(20, "b.example.com"),
            Mx(10, "z.example.com"),
            Mx(20, "a.example.com"),
            Mx(30, "z.example.com"),
            ttl=77,
        )
        found = await discover(resolver, "Example.COM.", want_tlsa=False)
        assert found == MxSet(
            MxStatus.FOUND,
            secure=False,
            hosts=(
                MxHost("z.example.com", 10),
                MxHost("a.example.com", 20),
                MxHost("b.example.com", 20),
            ),
            ttl=77,
        )
        assert dict(resolver.questions) == {("example.com", MX): 1}

    @pytest.mark.req("STS-APP-15", "STS-APP-13")
    async def test_null_mx(self, resolver: FakeResolver) -> None:
        resolver.add("example.com", MX, Mx(0, ""), secure=True)
        add_host(resolver, "example.com")
        found = await discover(resolver, "example.com")
        assert found == MxSet(MxStatus.NULL, secure=True, ttl=300)
        assert dict(resolver.questions) == {("example.com", MX): 1}

    @pytest.mark.req("STS-APP-15")
    async def test_a_null_mx_among_others_is_passed_over(self, resolver: FakeResolver) -> None:
        resolver.add("example.com", MX, Mx(0, ""), Mx(10, "mx.example.com"))
        found = await discover(resolver, "example.com")
        assert (found.status, states(found)) == (
            MxStatus.FOUND,
            {"mx.example.com": TlsaState.NOT_ASKED},
        )

    @pytest.mark.req("STS-APP-11", "STS-APP-12", "DANE-39")
    async def test_implicit_mx(self, resolver: FakeResolver) -> None:
        resolver.sign("example.com")
        add_host(resolver, "example.com", GOOD)
        found = await discover(resolver, "example.com")
        assert (found.status, found.secure) == (MxStatus.IMPLICIT, True)
        (host,) = found.hosts
        assert (host.name, host.preference) == ("example.com", 0)
        assert (host.tlsa_state, host.tlsa_base_domain) == (TlsaState.USABLE, "example.com")
        assert found.ttl == resolver.negative_ttl

    @pytest.mark.req("STS-APP-11", "STS-APP-13", "STS-APP-14", "DANE-11")
    @pytest.mark.parametrize("status", FAILURES)
    async def test_an_error_is_no_absence(self, resolver: FakeResolver, status: Status) -> None:
        add_host(resolver, "example.com", GOOD)
        resolver.fail("example.com", MX, status)
        found = await discover(resolver, "example.com")
        assert (found.status, found.hosts, found.ttl) == (MxStatus.ERROR, (), 0)
        assert found.detail
        assert dict(resolver.questions) == {("example.com", MX): 1}

    async def test_nxdomain(self, resolver: FakeResolver) -> None:
        resolver.sign("example.com")
        found = await discover(resolver, "example.com")
        assert found == MxSet(MxStatus.NXDOMAIN, secure=True, ttl=60)

    @pytest.mark.req("STS-APP-23", "DANE-29")
    async def test_an_address_in_an_mx_record_is_a_name(self, resolver: FakeResolver) -> None:
        resolver.add("example.com", MX, Mx(10, "192.0.2.1"), secure=True)
        found = await discover(resolver, "example.com")
        assert states(found) == {"192.0.2.1": TlsaState.NO_ADDRESS}
        assert ("_25._tcp.192.0.2.1", TLSA) not in resolver.questions

    @pytest.mark.req("DANE-63", "DANE-26")
    @pytest.mark.parametrize("secure", [True, False])
    async def test_a_next_hop_that_is_an_alias(
        self, resolver: FakeResolver, *, secure: bool
    ) -> None:
        resolver.alias("alias.example", "example.com", secure=secure)
        resolver.add("example.com", MX, Mx(10, "mx.example.com"), secure=True)
        found = await discover(resolver, "alias.example", want_tlsa=False)
        assert found.secure is secure
        assert found.expanded == ("example.com" if secure else "")

    async def test_configured_host(self, resolver: FakeResolver) -> None:
        found = await discover(resolver, "[mx.example.com]", want_tlsa=False)
        assert (found.status, states(found)) == (
            MxStatus.CONFIGURED,
            {"mx.example.com": TlsaState.NOT_ASKED},
        )
        assert found.ttl == CONFIGURED_TTL_SECONDS
        assert not resolver.questions

    @pytest.mark.req("STS-APP-04", "DANE-29")
    @pytest.mark.parametrize("key", ["[192.0.2.1]", "[IPv6:2001:db8::1]:587", ".example.com"])
    async def test_no_hosts_and_no_questions(self, resolver: FakeResolver, key: str) -> None:
        found = await discover(resolver, key)
        assert (found.status, found.hosts) == (MxStatus.CONFIGURED, ())
        assert found.detail
        assert not resolver.questions


class TestTlsa:
    @pytest.mark.req("DANE-23")
    async def test_behind_an_insecure_mx_nothing_is_asked(self, resolver: FakeResolver) -> None:
        resolver.add("example.com", MX, Mx(10, "mx.example.com"))
        add_host(resolver, "mx.example.com", GOOD)
        found = await discover(resolver, "example.com")
        assert states(found) == {"mx.example.com": TlsaState.NOT_ASKED}
        assert dict(resolver.questions) == {("example.com", MX): 1}

    @pytest.mark.req("DANE-20", "DANE-34", "DANE-48", "DANE-50")
    async def test_states_of_several_hosts(self, resolver: FakeResolver) -> None:
        names = ("good", "mixed", "unusable", "none", "insecure", "gone", "error", "lost")
        resolver.add(
            "example.com",
            MX,
            *(Mx(n, f"{name}.example.com") for n, name in enumerate(names)),
            secure=True,
        )
        add_host(resolver, "good.example.com", GOOD)
        add_host(resolver, "mixed.example.com", SHORT, GOOD)
        add_host(resolver, "unusable.example.com", SHORT)
        add_host(resolver, "none.example.com")
        add_host(resolver, "insecure.example.com", GOOD, secure=False)
        add_host(resolver, "error.example.com")
        resolver.fail("_25._tcp.error.example.com", TLSA)
        resolver.fail("lost.example.com", A)
        resolver.fail("lost.example.com", AAAA)
        found = await discover(resolver, "example.com")
        assert list(states(found).items()) == [
            ("good.example.com", TlsaState.USABLE),
            ("mixed.example.com", TlsaState.USABLE),
            ("unusable.example.com", TlsaState.UNUSABLE),
            ("none.example.com", TlsaState.NONE),
            ("insecure.example.com", TlsaState.NOT_APPLICABLE),
            ("gone.example.com", TlsaState.NO_ADDRESS),
            ("error.example.com", TlsaState.ERROR),
            ("lost.example.com", TlsaState.NO_ADDRESS),
        ]
        assert found.hosts[1].tlsa == (SHORT, GOOD)
        assert found.hosts[0].tlsa_base_domain == "good.example.com"
        assert all(host.detail for host in found.hosts[4:])
        assert found.ttl == 0
        # DANE-21, DANE-22: behind insecure or missing addresses TLSA is not asked for.
        for name in ("insecure", "gone", "lost"):
            assert (f"_25._tcp.{name}.example.com", TLSA) not in resolver.questions

    @pytest.mark.req("DANE-20")
    async def test_addresses_come_first(self, resolver: FakeResolver) -> None:
        resolver.add("example.com", MX, Mx(10, "mx.example.com"), secure=True)
        add_host(resolver, "mx.example.com", GOOD)
        held = resolver.hang("mx.example.com", A)
        task = asyncio.create_task(discover(resolver, "example.com"))
        while not resolver.count("mx.example.com", AAAA):
            await asyncio.sleep(0)
        assert not resolver.count("_25._tcp.mx.example.com", TLSA)
        held.set()
        assert states(await task) == {"mx.example.com": TlsaState.USABLE}

    @pytest.mark.req("DANE-31", "DANE-34")
    async def test_an_alias_expanded_first(self, resolver: FakeResolver) -> None:
        resolver.add("example.com", MX, Mx(10, "mx.example.com"), secure=True)
        resolver.alias("mx.example.com", "inner.example.net", secure=True)
        resolver.alias("inner.example.net", "mx.example.net", secure=True)
        add_host(resolver, "mx.example.net", GOOD)
        resolver.add("_25._tcp.mx.example.com", TLSA, GOOD, secure=True)
        found = await discover(resolver, "example.com")
        assert found.hosts[0].tlsa_base_domain == "mx.example.net"
        assert ("_25._tcp.mx.example.com", TLSA) not in resolver.questions
        assert ("_25._tcp.inner.example.net", TLSA) not in resolver.questions

    @pytest.mark.req("DANE-31", "DANE-36")
    async def test_then_the_original(self, resolver: FakeResolver) -> None:
        resolver.add("example.com", MX, Mx(10, "mx.example.com"), secure=True)
        resolver.alias("mx.example.com", "mx.example.net", secure=True)
        add_host(resolver, "mx.example.net")
        resolver.add("_25._tcp.mx.example.com", TLSA, GOOD, secure=True)
        found = await discover(resolver, "example.com")
        assert found.hosts[0].tlsa_base_domain == "mx.example.com"
        assert found.hosts[0].name == "mx.example.com"

    @pytest.mark.req("DANE-37")
    async def test_an_error_at_the_first_candidate_ends_it(self, resolver: FakeResolver) -> None:
        resolver.add("example.com", MX, Mx(10, "mx.example.com"), secure=True)
        resolver.alias("mx.example.com", "mx.example.net", secure=True)
        add_host(resolver, "mx.example.net")
        resolver.fail("_25._tcp.mx.example.net", TLSA, Status.BOGUS)
        resolver.add("_25._tcp.mx.example.com", TLSA, GOOD, secure=True)
        found = await discover(resolver, "example.com")
        assert (found.hosts[0].tlsa_state, found.ttl) == (TlsaState.ERROR, 0)

    @pytest.mark.req("DANE-32", "DANE-33")
    @pytest.mark.parametrize(
        ("secure", "state"), [(True, TlsaState.USABLE), (False, TlsaState.NOT_APPLICABLE)]
    )
    async def test_an_alias_into_an_insecure_zone(
        self, resolver: FakeResolver, state: TlsaState, *, secure: bool
    ) -> None:
        resolver.add("example.com", MX, Mx(10, "mx.example.com"), secure=True)
        resolver.alias("mx.example.com", "mx.example.net", secure=secure)
        resolver.add("mx.example.net", A, "192.0.2.1")
        resolver.add("_25._tcp.mx.example.com", TLSA, GOOD, secure=True)
        found = await discover(resolver, "example.com")
        assert found.hosts[0].tlsa_state is state
        assert resolver.count("mx.example.com", CNAME) == 1
        assert not resolver.count("_25._tcp.mx.example.net", TLSA)

    @pytest.mark.req("DANE-35")
    async def test_an_alias_at_the_tlsa_name(self, resolver: FakeResolver) -> None:
        resolver.add("example.com", MX, Mx(10, "mx.example.com"), secure=True)
        add_host(resolver, "mx.example.com")
        resolver.alias("_25._tcp.mx.example.com", "tlsa.example.net", secure=True)
        resolver.add("tlsa.example.net", TLSA, GOOD, secure=True)
        found = await discover(resolver, "example.com")
        assert found.hosts[0].tlsa_base_domain == "mx.example.com"
        assert found.hosts[0].tlsa_state is TlsaState.USABLE

    @pytest.mark.req("DANE-30", "DANE-38")
    async def test_configured_host_with_a_port(self, resolver: FakeResolver) -> None:
        resolver.add("mx.example.com", A, "192.0.2.1", secure=True, ttl=90)
        resolver.add("_587._tcp.mx.example.com", TLSA, GOOD, secure=True, ttl=80)
        found = await discover(resolver, "[mx.example.com]:587")
        assert states(found) == {"mx.example.com": TlsaState.USABLE}
        assert found.ttl == resolver.negative_ttl  # the missing AAAA record's
        assert not resolver.count("mx.example.com", MX)
        assert not resolver.count("_25._tcp.mx.example.com", TLSA)

    @pytest.mark.req("DANE-30")
    async def test_domain_with_a_port(self, resolver: FakeResolver) -> None:
        resolver.add("example.com", MX, Mx(10, "mx.example.com"), secure=True)
        resolver.add("mx.example.com", A, "192.0.2.1", secure=True)
        resolver.add("_2525._tcp.mx.example.com", TLSA, GOOD, secure=True)
        found = await discover(resolver, "example.com:2525")
        assert states(found) == {"mx.example.com": TlsaState.USABLE}

    async def test_one_family_is_enough(self, resolver: FakeResolver) -> None:
        resolver.add("example.com", MX, Mx(10, "mx.example.com"), secure=True)
        add_host(resolver, "mx.example.com", GOOD)
        resolver.fail("mx.example.com", AAAA)
        found = await discover(resolver, "example.com")
        assert states(found) == {"mx.example.com": TlsaState.USABLE}
        # Kept for a while, but not as long as if all had answered.
        assert found.ttl == IGNORED_FAILURE_TTL_SECONDS

    async def test_lowest_ttl_of_all(self, resolver: FakeResolver) -> None:
        resolver.add("example.com", MX, Mx(10, "mx.example.com"), secure=True, ttl=50)
        resolver.add("mx.example.com", A, "192.0.2.1", secure=True, ttl=40)
        resolver.add("mx.example.com", AAAA, "2001:db8::1", secure=True, ttl=30)
        resolver.add("_25._tcp.mx.example.com", TLSA, GOOD, secure=True, ttl=20)
        assert (await discover(resolver, "example.com")).ttl == 20
        resolver.remove("_25._tcp.mx.example.com", TLSA)
        resolver.negative_ttl = 10
        assert (await discover(resolver, "example.com")).ttl == 10

    @pytest.mark.req("DANE-37")
    async def test_number_of_hosts_is_bounded(self, resolver: FakeResolver) -> None:
        names = [f"mx{n:03}.example.com" for n in range(MAX_TLSA_HOSTS + 5)]
        resolver.add("example.com", MX, *(Mx(10, name) for name in names), secure=True)
        for name in names:
            add_host(resolver, name, GOOD)
        found = await discover(resolver, "example.com")
        assert [host.name for host in found.hosts] == names
        assert [host.tlsa_state for host in found.hosts] == [
            *[TlsaState.USABLE] * MAX_TLSA_HOSTS,
            # What was not looked up is never "no TLSA".
            *[TlsaState.ERROR] * 5,
        ]
        assert str(MAX_TLSA_HOSTS) in found.hosts[-1].detail
        assert not resolver.count(names[-1], A)
        # Without DANE nobody is left out.
        plain = await discover(resolver, "example.com", want_tlsa=False)
        assert {host.tlsa_state for host in plain.hosts} == {TlsaState.NOT_ASKED}

    async def test_cancelled_leaves_no_task(self, resolver: FakeResolver) -> None:
        resolver.add("example.com", MX, Mx(10, "a.test"), Mx(10, "b.test"), secure=True)
        resolver.hang("a.test", A)
        resolver.hang("b.test", AAAA)
        tasks = asyncio.all_tasks()
        task = asyncio.create_task(discover(resolver, "example.com"))
        while not resolver.count("b.test", AAAA):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(3):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks
