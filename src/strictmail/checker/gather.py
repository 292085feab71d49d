# SPDX-License-Identifier: Apache-2.0
r"""Looks at a domain, all sides of it at once, and brings home facts; judges nothing.

What needs what::

    MX -> addresses -> first session with each -> the other kind of certificate
      \-> TLSA -> a session with the base domain as SNI, where it is another; name servers on TLSA
    _mta-sts TXT -> addresses of the policy host -> each of them, the sender's own fetch
      \-> the browser's look, where our own agent is refused; name servers on the policy host
      \-> CAA, from the policy host's name upwards
    _smtp._tls TXT -> report destinations
    name servers on MX and on both TXT records

All of it has one deadline. Each finder writes what it finds on a sheet (`checker.sheet`) at once,
so that the deadline costs only what is not there yet.

| what fails | what becomes of it |
|---|---|
| a lookup | its answer says so: a fact like another |
| a session, a look | the port's own value: it never raises |
| the deadline | what is open is Unknown(DEADLINE), what was found is kept |
| the caller goes away | nothing of this check goes on but visits that others may wait for |
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final, ParamSpec

from strictmail.checker.flights import Flights, Kept
from strictmail.checker.limits import KeyedLimiter
from strictmail.checker.memo import HeldAnswers
from strictmail.checker.servers import Delegations
from strictmail.checker.sheet import HostSheet, Sheet
from strictmail.core.check.facts import (
    KeyType,
    ProbeFacts,
    ProbeOutcome,
    ProbeTarget,
    Unknown,
    UnknownReason,
)
from strictmail.core.dane.base_domain import tlsa_qname
from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.errors import RecordSyntaxError
from strictmail.core.mxset import TlsaState
from strictmail.core.names import is_address, parent, parse_domain
from strictmail.core.nexthop import Nexthop, NexthopKind
from strictmail.core.sts.fetchrules import is_allowed_address, policy_host
from strictmail.core.sts.record import record_name
from strictmail.core.sts.values import FetchFailure
from strictmail.core.tlsrpt.record import RuaUri, select_tlsrpt, tlsrpt_name
from strictmail.discovery.mx import discover_mx
from strictmail.discovery.policy import RecordStatus, look_up_record
from strictmail.net.addresses import FAMILIES, look_up_addresses
from strictmail.net.policyprobe import BROWSER_AGENT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from strictmail.checker.gate import Gate
    from strictmail.checker.hosts import HostCache
    from strictmail.checker.limits import Sleeper
    from strictmail.checker.servers import NameServers
    from strictmail.checker.settings import CheckSettings
    from strictmail.core.check.facts import DomainFacts, PolicyHostLook, RuaFacts
    from strictmail.core.dnsvalues import Answer
    from strictmail.core.mxset import MxHost
    from strictmail.core.sts.lifecycle import PolicyEntry
    from strictmail.ports import Clock, PolicyFetcher, PolicyHostProber, Resolver, RuaProber

P = ParamSpec("P")

HTTPS_PORT: Final = 443

_WITH_TLSA_ANSWER: Final = frozenset(
    {TlsaState.NONE, TlsaState.USABLE, TlsaState.UNUSABLE, TlsaState.ERROR}
)

_WITHOUT_QUESTION: Final = frozenset({TlsaState.NOT_ASKED, TlsaState.NOT_APPLICABLE})
"""Behind unsigned MX records, and unsigned addresses."""

_AGENT_MATTERS: Final = frozenset(
    {"http-status", "redirect", "media-type", "content-encoding", "truncated", "http", "tls"}
)
"""Failures of the kind that a firewall causes which does not like our user agent."""

_CUT_OFF: Final = frozenset({"connect", "timeout"})
"""The same, where TLS was there before."""

_HAS_TLS: Final = frozenset({ProbeOutcome.TLS, ProbeOutcome.TLS_OUTDATED})

_OTHER_KEY: Final = {KeyType.ECDSA: KeyType.RSA, KeyType.RSA: KeyType.ECDSA}


class Gatherer:
    """Gathers facts on domains, any number at once. For one event loop.

    Args:
        resolver: Validating, if DANE is to be known; one that remembers (`MemoResolver`) where
            several domains are looked at.
        fetcher: Fetches a policy as a sender does.
        policy_prober: Looks at one address of a policy host.
        servers: The name servers.
        rua_prober: Looks at report destinations.
        hosts: The MX hosts.
        gate: Port 25, and routes.
        settings: The bounds.
        clock: For the time of a look, its length, and the age of what is kept.
        sleep: Waits for the deadline; `asyncio.sleep` outside tests.
    """

    def __init__(
        self,
        *,
        resolver: Resolver,
        fetcher: PolicyFetcher,
        policy_prober: PolicyHostProber,
        servers: NameServers,
        rua_prober: RuaProber,
        hosts: HostCache,
        gate: Gate,
        settings: CheckSettings,
        clock: Clock,
        sleep: Sleeper,
    ) -> None:
        self.resolver = resolver
        self.fetcher = fetcher
        self.policy_prober = policy_prober
        self.servers = servers
        self.rua_prober = rua_prober
        self.hosts = hosts
        self.gate = gate
        self.settings = settings
        self.clock = clock
        self.sleep = sleep
        self.policy_hosts = KeyedLimiter(settings.connections_per_policy_host)
        self.destinations: Flights[str, RuaFacts] = Flights(
            Kept(clock, max_entries=settings.max_kept_hosts, keep=lambda _: settings.keep_seconds)
        )

    async def gather(self, domain: str, cached: PolicyEntry | None = None) -> DomainFacts:
        """Look at a domain.

        Args:
            domain: A-labels, lower case, no trailing dot.
            cached: A policy that senders may still hold from before.

        Returns:
            What was found within the deadline; the rest is unknown.
        """
        return await self._gather(domain, cached, hosts_only=False)

    async def gather_hosts(self, domain: str) -> DomainFacts:
        """Look at the MX hosts of a domain and at nothing else, one session with each address.

        Args:
            domain: A-labels, lower case, no trailing dot.

        Returns:
            The same facts, those on TLSA records, policies and reports left out.
        """
        return await self._gather(domain, None, hosts_only=True)

    async def _gather(
        self, domain: str, cached: PolicyEntry | None, *, hosts_only: bool
    ) -> DomainFacts:
        began = self.clock.monotonic()
        sheet = Sheet(
            domain,
            self.clock.now(),
            self.resolver.validates,
            self.settings.allow_networks,
            cached,
        )
        check = _Check(self, sheet, hosts_only=hosts_only)
        work = asyncio.ensure_future(check.run())
        alarm = asyncio.ensure_future(self.sleep(self.settings.deadline_seconds))
        try:
            await asyncio.wait((work, alarm), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, alarm):
                task.cancel()
            await asyncio.wait((work, alarm))
        if not work.cancelled():
            work.result()
        sheet.port25 = self.gate.state
        return sheet.facts(self.clock.monotonic() - began)

    async def close(self) -> None:
        """End what is still under way for nobody."""
        await self.destinations.close()
        await self.hosts.close()
        await self.gate.close()


class _Check:
    """One domain on its way."""

    def __init__(self, owner: Gatherer, sheet: Sheet, *, hosts_only: bool) -> None:
        self._owner = owner
        self._sheet = sheet
        self._hosts_only = hosts_only
        self._domain = sheet.domain
        self._settings = owner.settings
        self._mx_hosts: dict[str, MxHost] = {}
        self._tlsa_known = asyncio.Event()
        self._resolver = HeldAnswers(sheet.domain, owner.resolver)
        self._delegations = Delegations(
            owner.servers, self._resolver, sheet.authorities.append, sheet.miss
        )
        self._group: asyncio.TaskGroup

    async def run(self) -> None:
        """Everything at once; returns when all of it is done."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._start("MX", self._look_at_mx)
            if self._hosts_only:
                return
            self._start("MTA-STS record", self._look_at_sts)
            self._start("TLSRPT record", self._look_at_tlsrpt)
            self._ask_servers(self._domain, RecordType.MX)
            self._ask_servers(record_name(self._domain), RecordType.TXT)
            self._ask_servers(tlsrpt_name(self._domain), RecordType.TXT)

    def _start(
        self, subject: str, work: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Do something beside everything else; until it is done, its subject is open."""

        async def run() -> None:
            await work(*args, **kwargs)
            self._sheet.open.discard(subject)

        self._sheet.open.add(subject)
        self._group.create_task(run())

    # ---- MX hosts ---------------------------------------------------------------------------

    async def _look_at_mx(self) -> None:
        sheet, nexthop = self._sheet, Nexthop(NexthopKind.DOMAIN, parse_domain(self._domain))
        sheet.mx_answer = await self._resolver.lookup(self._domain, RecordType.MX)
        # The set without TLSA needs no further question: its hosts can be visited meanwhile.
        sheet.mx = await discover_mx(self._resolver, nexthop, want_tlsa=False)
        for host in sheet.mx.hosts[: self._settings.max_hosts]:
            one = HostSheet(host.name, host.preference)
            sheet.hosts.append(one)
            self._start(f"addresses of {host.name}", self._look_at_host, one)
        if self._hosts_only:
            sheet.mx_is_whole = True
            return
        sheet.mx = await discover_mx(self._resolver, nexthop, want_tlsa=True)
        sheet.mx_is_whole = True
        self._mx_hosts.update((host.name, host) for host in sheet.mx.hosts)
        self._tlsa_known.set()
        for host in sheet.mx.hosts[: self._settings.max_hosts]:
            if host.tlsa_state in _WITH_TLSA_ANSWER:
                base_domain = host.tlsa_base_domain or host.name
                self._ask_servers(tlsa_qname(base_domain), RecordType.TLSA)
        if self._owner.resolver.validates:
            for one in sheet.hosts:
                if self._mx_hosts[one.name].tlsa_state in _WITHOUT_QUESTION:
                    self._start(f"TLSA records of {one.name}", self._look_at_idle_tlsa, one)

    async def _look_at_host(self, host: HostSheet) -> None:
        if is_address(host.name):
            return
        if not self._hosts_only:
            self._start(f"TLSRPT record of {host.name}", self._look_at_host_tlsrpt, host)
        answers = await look_up_addresses(self._resolver, host.name)
        for family, answer in zip(FAMILIES, answers, strict=True):
            host.addresses[family] = answer
            for address in map(str, answer.records):
                host.sessions[address] = []
        for answer in answers:
            for number, address in enumerate(map(str, answer.records)):
                unknown = self._bound(number)
                if unknown is None:
                    self._group.create_task(self._look_at_address(host, address))
                else:
                    host.sessions[address].append(self._not_visited(host, address, unknown))

    def _bound(self, number: int) -> Unknown | None:
        """Why the address with this number, counted from 0 in its family, is not visited."""
        if not self._settings.want_probes:
            return Unknown(UnknownReason.SKIPPED, "not wanted")
        if number >= self._settings.max_addresses:
            detail = f"only {self._settings.max_addresses} addresses of a family are visited"
            return Unknown(UnknownReason.LIMIT, detail)
        return None

    def _not_visited(self, host: HostSheet, address: str, unknown: Unknown) -> ProbeFacts:
        return ProbeFacts(
            ProbeTarget(host.name, address, host.name),
            ProbeOutcome.UNKNOWN,
            self._owner.clock.now(),
            unknown,
            detail=unknown.detail,
            attempts=0,
        )

    async def _look_at_address(self, host: HostSheet, address: str) -> None:
        """All sessions with one address, one after the other."""
        # RFC 8461 §7.1: the SNI of a sender under MTA-STS is the MX name.
        target = ProbeTarget(host.name, address, host.name)
        first = await self._visit(host, target)
        if self._hosts_only or first.outcome not in _HAS_TLS:
            return
        await self._visit_other_key(host, target, first)
        await self._tlsa_known.wait()
        found = self._mx_hosts.get(host.name)
        if found is None or found.tlsa_state is not TlsaState.USABLE:
            return
        if found.tlsa_base_domain != host.name:
            # RFC 7672 §8.1: the SNI of a sender under DANE is the TLSA base domain.
            target = replace(target, server_name=found.tlsa_base_domain)
            await self._visit_other_key(host, target, await self._visit(host, target))

    async def _visit(self, host: HostSheet, target: ProbeTarget) -> ProbeFacts:
        facts = await self._owner.hosts.probe(target)
        host.sessions[target.address].append(facts)
        return facts

    async def _visit_other_key(
        self, host: HostSheet, target: ProbeTarget, first: ProbeFacts
    ) -> None:
        """A host may have an RSA and an ECDSA certificate, and TLSA records have to fit both."""
        other = _OTHER_KEY.get(first.tls.key_type) if first.tls is not None else None
        if other is not None and self._settings.both_key_types:
            await self._visit(host, replace(target, key_type=other))

    async def _look_at_host_tlsrpt(self, host: HostSheet) -> None:
        host.tlsrpt = await self._resolver.lookup(tlsrpt_name(host.name), RecordType.TXT)

    async def _look_at_idle_tlsa(self, host: HostSheet) -> None:
        # RFC 7672 §2.2.1: no sender has to ask (DANE-23); their owner wants to know it.
        host.idle_tlsa = await self._resolver.lookup(tlsa_qname(host.name), RecordType.TLSA)

    # ---- the policy -------------------------------------------------------------------------

    async def _look_at_sts(self) -> None:
        sheet = self._sheet
        sheet.sts_record = await self._resolver.lookup(record_name(self._domain), RecordType.TXT)
        record = await look_up_record(self._resolver, self._domain)
        host = policy_host(self._domain)
        answers = await look_up_addresses(self._resolver, host)
        sheet.policy_addresses.update(zip(FAMILIES, answers, strict=True))
        if record.status is not RecordStatus.FOUND:
            # RFC 8461 §3.1: without a record nobody fetches; and neither do we.
            return
        self._start("CAA", self._look_at_caa)
        for family in FAMILIES:
            self._ask_servers(host, family)
        await self._look_at_policy(host, answers)

    async def _look_at_policy(self, host: str, answers: list[Answer]) -> None:
        addresses = [str(record) for answer in answers for record in answer.records]
        # An address that is not public needs no route: no sender connects to it (STS-FET-45).
        routed = [
            a
            for a in addresses
            if not is_allowed_address(a, ()) or self._owner.gate.has_route(host, a, HTTPS_PORT)
        ]
        for address in addresses:
            if address not in routed:
                detail = "this machine has no route to the address"
                self._sheet.miss(f"{host}[{address}]", Unknown(UnknownReason.NO_ROUTE, detail))
        if addresses and not routed:
            return
        looked_at = self._within_bound(host, answers, routed)
        if not self._settings.want_policy_looks:
            looked_at = []
        if looked_at and len(addresses) == 1:
            self._start("policy", self._look_at_only_address, looked_at[0])
            return
        self._start("policy", self._fetch, host)
        if looked_at:
            self._start("policy host", self._look_at_addresses, looked_at)

    def _within_bound(self, host: str, answers: list[Answer], routed: list[str]) -> list[str]:
        limit = self._settings.max_addresses
        found = []
        for answer in answers:
            addresses = [str(record) for record in answer.records if str(record) in routed]
            found += addresses[:limit]
            for address in addresses[limit:]:
                detail = f"only {limit} addresses of a family are looked at"
                self._sheet.miss(f"{host}[{address}]", Unknown(UnknownReason.LIMIT, detail))
        return found

    async def _fetch(self, host: str) -> None:
        async with self._owner.policy_hosts.slot(host):
            self._sheet.policy = await self._owner.fetcher.fetch(self._domain)

    async def _look_at_only_address(self, address: str) -> None:
        # A sender's own fetch could go nowhere else: it is not made a second time.
        look = await self._look_from(address)
        self._sheet.policy = look.result
        await self._look_as_browser([look])

    async def _look_at_addresses(self, addresses: list[str]) -> None:
        looks = await asyncio.gather(*(self._look_from(address) for address in addresses))
        await self._look_as_browser(looks)

    async def _look_as_browser(self, looks: list[PolicyHostLook]) -> None:
        refused = [look for look in looks if _may_be_agent(look)]
        if refused:
            # One address is enough to see whether it is the user agent.
            await self._look_from(refused[0].address, BROWSER_AGENT)

    async def _look_from(self, address: str, agent: str = "") -> PolicyHostLook:
        async with self._owner.policy_hosts.slot(address):
            look = await self._owner.policy_prober.look(self._domain, address, agent)
        self._sheet.policy_looks.append(look)
        return look

    # ---- reports ----------------------------------------------------------------------------

    async def _look_at_tlsrpt(self) -> None:
        sheet = self._sheet
        answer = await self._resolver.lookup(tlsrpt_name(self._domain), RecordType.TXT)
        sheet.tlsrpt_record = answer
        try:
            record = select_tlsrpt([one for one in answer.records if isinstance(one, tuple)])
        except RecordSyntaxError:
            return
        limit = self._settings.max_rua
        for number, uri in enumerate(record.rua):
            if not self._settings.want_rua:
                sheet.miss(f"rua {uri.text}", Unknown(UnknownReason.SKIPPED, "not wanted"))
            elif number >= limit:
                detail = f"only {limit} destinations are looked at"
                sheet.miss(f"rua {uri.text}", Unknown(UnknownReason.LIMIT, detail))
            else:
                self._start(f"rua {uri.text}", self._look_at_rua, uri)

    async def _look_at_rua(self, uri: RuaUri) -> None:
        # Mailboxes of one domain are taken by the same hosts, and no mailbox is ever named there.
        key = f"mailto:@{uri.address.rpartition('@')[2].lower()}" if uri.address else uri.text
        facts = await self._owner.destinations.get(
            key, lambda: self._owner.rua_prober.look(uri.destination)
        )
        self._sheet.rua.append(replace(facts, uri=uri.text))

    # ---- name servers -----------------------------------------------------------------------

    def _ask_servers(self, name: str, rdtype: RecordType) -> None:
        if self._settings.want_authorities:
            subject = f"name servers on {name} {rdtype.name}"
            self._start(subject, self._delegations.ask, name, rdtype)
        else:
            self._sheet.miss("name servers", Unknown(UnknownReason.SKIPPED, "not wanted"))

    async def _look_at_caa(self) -> None:
        # RFC 8659 §3: from the name upwards, the first RRset counts; a lookup that fails ends
        # the climb, as it does for a certification authority.
        name = policy_host(self._domain)
        while name:
            answer = await self._resolver.lookup(name, RecordType.CAA)
            self._sheet.caa.append(answer)
            if answer.status is Status.OK or not answer.status.is_answer:
                return
            name = parent(name)


def _may_be_agent(look: PolicyHostLook) -> bool:
    """Whether a firewall that dislikes our user agent would look like this."""
    if not isinstance(look.result, FetchFailure):
        return False
    code = look.result.reason_code
    return code in _AGENT_MATTERS or (code in _CUT_OFF and look.tls is not None)
