# SPDX-License-Identifier: Apache-2.0
"""The MX set of a next-hop, and what DANE says of each host: MX, then addresses, then TLSA.

Drives the questions; what the answers mean is decided in `strictmail.core.dane.base_domain` (one
host) and `strictmail.core.decision` (all of them). Finds facts only: an error is a state, and
never turns into "there is none".
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from strictmail.core.dane.base_domain import (
    CandidatePlan,
    Step,
    TlsaVerdict,
    candidates,
    found_state,
    judge_tlsa,
    tlsa_qname,
)
from strictmail.core.dnsvalues import Answer, Mx, RecordType, Status, Tlsa
from strictmail.core.mxset import MxHost, MxSet, MxStatus, TlsaState
from strictmail.core.nexthop import Nexthop, NexthopKind
from strictmail.net.addresses import look_up_addresses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from strictmail.ports import Resolver

MAX_TLSA_HOSTS: Final = 64
"""Hosts of one next-hop whose TLSA records are looked for, in order of preference: one answer of
someone else's must not make us ask thousands of questions. The others count as failed."""

CONFIGURED_TTL_SECONDS: Final = 3600
"""How long facts are kept that no DNS answer stands behind."""

IGNORED_FAILURE_TTL_SECONDS: Final = 60
"""How long facts are kept when one address family failed and the other was enough."""


@dataclass(slots=True)
class _Lifetime:
    """The lowest TTL of what was used."""

    seconds: int | None = None

    def note(self, seconds: int) -> None:
        self.seconds = seconds if self.seconds is None else min(self.seconds, seconds)


async def discover_mx(resolver: Resolver, nexthop: Nexthop, *, want_tlsa: bool) -> MxSet:
    """Find the hosts of a next-hop.

    Args:
        resolver: Its `secure` is believed; whether it `validates` is for the caller to know.
        nexthop: An address literal and a key for subdomains have no hosts.
        want_tlsa: Also ask what DANE says of each host, where it applies.

    Returns:
        The set; its hosts are NOT_ASKED without `want_tlsa` and behind an insecure MX RRset.

    Spec: RFC 5321 §5.1; RFC 7672 §2.2.
    """
    if nexthop.kind is NexthopKind.DOMAIN:
        answer = await resolver.lookup(nexthop.domain, RecordType.MX)
        found = _read_mx(answer)
        ttl = answer.ttl
    else:
        found = _configured(nexthop)
        ttl = CONFIGURED_TTL_SECONDS
    # RFC 7672 §2.2.1: behind an insecure MX RRset TLS is opportunistic, and MTA-STS alone decides
    # (DANE-23).
    if not want_tlsa or not found.secure or not found.hosts:
        return found
    # RFC 7672 §2.2.2: the same for a domain without MX records and for a configured host
    # (DANE-38, DANE-39).
    asked, others = found.hosts[:MAX_TLSA_HOSTS], found.hosts[MAX_TLSA_HOSTS:]
    lifetime = _Lifetime(ttl if nexthop.kind is NexthopKind.DOMAIN else None)
    hosts = await _gather([_Host(resolver, host, nexthop.port, lifetime) for host in asked])
    return replace(
        found,
        hosts=(*hosts, *map(_not_looked_at, others)),
        ttl=lifetime.seconds or 0,
    )


def _configured(nexthop: Nexthop) -> MxSet:
    if nexthop.kind is NexthopKind.HOST:
        # RFC 7672 §2.2.2: the operator's word on the name is good enough (DANE-38).
        hosts: tuple[MxHost, ...] = (MxHost(nexthop.domain, 0),)
        detail = ""
    elif nexthop.kind is NexthopKind.ADDRESS_LITERAL:
        # RFC 7672 §2.2: DANE does not apply to address literals (DANE-29).
        hosts, detail = (), "an address literal: there is no name to look up"
    else:
        hosts, detail = (), "a key for subdomains: it has no hosts of its own"
    return MxSet(
        MxStatus.CONFIGURED, secure=True, hosts=hosts, ttl=CONFIGURED_TTL_SECONDS, detail=detail
    )


def _read_mx(answer: Answer) -> MxSet:
    """What the answer for MX says, before any host is looked at."""
    if not answer.status.is_answer:
        # RFC 5321 §5.1, RFC 7672 §2.1.2: mail waits, and the domain's own address is not used
        # instead (STS-APP-14, STS-APP-11, DANE-11).
        return MxSet(MxStatus.ERROR, detail=answer.detail)
    # RFC 7672 §2.2.1, §3.2.2: the expansion counts only if every alias is secure (DANE-26, -63).
    expanded = answer.canonical_name if answer.is_alias and answer.secure else ""
    records = [record for record in answer.records if isinstance(record, Mx)]
    if answer.status is Status.NXDOMAIN:
        return MxSet(MxStatus.NXDOMAIN, answer.secure, ttl=answer.ttl)
    if not records:
        # RFC 5321 §5.1: without any MX record the domain itself is the host, and it is the
        # domain's own name that policies are compared with (STS-APP-11, STS-APP-12, DANE-39).
        hosts: tuple[MxHost, ...] = (MxHost(answer.name, 0),)
        return MxSet(MxStatus.IMPLICIT, answer.secure, hosts, expanded, answer.ttl)
    hosts = _order(records)
    # RFC 7505 §3: a null MX; there are MX records, so the domain itself is no host
    # (STS-APP-15, STS-APP-13).
    status = MxStatus.FOUND if hosts else MxStatus.NULL
    return MxSet(status, answer.secure, hosts, expanded, answer.ttl)


def _order(records: Iterable[Mx]) -> tuple[MxHost, ...]:
    """Hosts by preference, each once, at its best preference."""
    best: dict[str, int] = {}
    for record in sorted(records):
        # RFC 7505 §3: beside other records a `.` breaks the rules and is passed over (STS-APP-15).
        # RFC 8461 §4.1: the name stays as the record has it; an address is a name like any other
        # (STS-APP-18, STS-APP-23).
        if record.host:
            best.setdefault(record.host, record.preference)
    # RFC 5321 §5.1: lower preferences first; among equals the sender draws lots (STS-APP-10).
    return tuple(
        MxHost(name, preference)
        for name, preference in sorted(best.items(), key=lambda item: (item[1], item[0]))
    )


def _not_looked_at(host: MxHost) -> MxHost:
    # Spec-silent: what was not looked up is unknown, and unknown is handled like a lookup error.
    detail = f"one of more than {MAX_TLSA_HOSTS} hosts: its TLSA records were not looked up"
    return replace(host, tlsa_state=TlsaState.ERROR, detail=detail)


async def _gather(hosts: list[_Host]) -> list[MxHost]:
    if len(hosts) == 1:
        return [await hosts[0].look_up()]
    return await asyncio.gather(*(host.look_up() for host in hosts))


@dataclass(slots=True)
class _Host:
    """One host on its way from addresses to TLSA records."""

    resolver: Resolver
    host: MxHost
    port: int
    lifetime: _Lifetime

    async def look_up(self) -> MxHost:
        plan = await self._plan()
        if plan.step is Step.DONE:
            return replace(self.host, tlsa_state=plan.state, detail=plan.detail)
        for base_domain in plan.base_domains:
            answer = await self.resolver.lookup(tlsa_qname(base_domain, self.port), RecordType.TLSA)
            self.lifetime.note(answer.ttl)
            match judge_tlsa(answer):
                case TlsaVerdict.ERROR:
                    return replace(
                        self.host,
                        tlsa_state=TlsaState.ERROR,
                        detail=answer.detail,
                        tlsa_status=answer.status,
                    )
                case TlsaVerdict.FOUND:
                    return self._found(base_domain, answer)
        # RFC 7672 §2.2.3: no candidate has secure records: DANE does not apply (DANE-36).
        return replace(self.host, tlsa_state=TlsaState.NONE)

    async def _plan(self) -> CandidatePlan:
        name = self.host.name
        # RFC 7672 §2.2: however many addresses a host has, one set of TLSA records binds all of
        # them (DANE-82).
        # RFC 7672 §2.2.2: addresses are looked up before TLSA records (DANE-20).
        addresses = await look_up_addresses(self.resolver, name)
        self._note_addresses(addresses)
        plan = candidates(name, addresses)
        if plan.step is Step.ASK_CNAME:
            # RFC 7672 §2.2.2: is the first step of the alias secure? (DANE-32, DANE-33)
            cname = await self.resolver.lookup(name, RecordType.CNAME)
            self.lifetime.note(cname.ttl)
            plan = candidates(name, addresses, cname)
        return plan

    def _note_addresses(self, addresses: Iterable[Answer]) -> None:
        usable = any(answer.status is Status.OK for answer in addresses)
        for answer in addresses:
            if usable and not answer.status.is_answer:
                self.lifetime.note(IGNORED_FAILURE_TTL_SECONDS)
            else:
                self.lifetime.note(answer.ttl)

    def _found(self, base_domain: str, answer: Answer) -> MxHost:
        records = tuple(record for record in answer.records if isinstance(record, Tlsa))
        return replace(
            self.host,
            tlsa_state=found_state(answer),
            tlsa_base_domain=base_domain,
            tlsa=records,
        )
