# SPDX-License-Identifier: Apache-2.0
"""The adapters without a network, for tests and for trying things out.

They keep to the contracts of `strictmail.ports`; the same tests run against them and the real
ones. They answer from a table, count what they are asked, and hang on request::

    resolver = FakeResolver()
    resolver.add("example.com", RecordType.MX, Mx(10, "mx.example.com"), secure=True)
    resolver.alias("_mta-sts.example.com", "_mta-sts.provider.example")
    resolver.fail("broken.example", RecordType.MX, Status.BOGUS)
    held = resolver.hang("slow.example", RecordType.MX)     # until held.set()
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from strictmail.core.check.facts import (
    AuthorityFacts,
    KeyType,
    PkixFacts,
    PolicyHostLook,
    ProbeFacts,
    ProbeOutcome,
    ProbeTarget,
    RuaFacts,
    RuaState,
    TlsFacts,
    Unknown,
    UnknownReason,
)
from strictmail.core.dnsvalues import MAX_CNAME_HOPS, Answer, Record, RecordType, Status
from strictmail.core.errors import DomainSyntaxError
from strictmail.core.names import fold
from strictmail.core.sts.fetchrules import judge_body
from strictmail.core.sts.values import FetchedPolicy, FetchFailure
from strictmail.core.tlsrpt.results import ResultType
from strictmail.net.dnswire import encode_question

FAKE_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""When every fake session began."""


@dataclass(frozen=True, slots=True)
class _RRset:
    records: tuple[Record, ...]
    secure: bool
    ttl: int


class FakeResolver:
    """Answers from a table; implements `ports.Resolver`.

    A name that holds something of another type answers NODATA, any other name NXDOMAIN; both with
    `negative_ttl`, and secure if the name's other records are, or below a `sign`ed name.

    Attributes:
        validates: As in the port; may be set.
        questions: How often each (name, type) was asked for.
        negative_ttl: Seconds.
    """

    def __init__(self, *, validates: bool = True, negative_ttl: int = 60) -> None:
        self.validates = validates
        self.negative_ttl = negative_ttl
        self.questions: Counter[tuple[str, RecordType]] = Counter()
        self._rrsets: dict[tuple[str, RecordType], _RRset] = {}
        self._signed: set[str] = set()
        self._failures: dict[tuple[str, RecordType], Status] = {}
        self._held: dict[tuple[str, RecordType], asyncio.Event] = {}

    def add(
        self,
        name: str,
        rdtype: RecordType,
        *records: Record,
        secure: bool = False,
        ttl: int = 300,
    ) -> None:
        """Set the RRset of a name, in place of an earlier one and of a failure."""
        key = (fold(name), rdtype)
        self._failures.pop(key, None)
        self._rrsets[key] = _RRset(records, secure, ttl)

    def alias(self, name: str, target: str, *, secure: bool = False, ttl: int = 300) -> None:
        """Make a name an alias."""
        self.add(name, RecordType.CNAME, fold(target), secure=secure, ttl=ttl)

    def remove(self, name: str, rdtype: RecordType) -> None:
        """Take an RRset away, and whatever else was set for it."""
        key = (fold(name), rdtype)
        self._rrsets.pop(key, None)
        self._failures.pop(key, None)

    def sign(self, zone: str) -> None:
        """Make denials at and below a name secure."""
        self._signed.add(fold(zone))

    def fail(self, name: str, rdtype: RecordType, status: Status = Status.SERVFAIL) -> None:
        """Let a question fail: BOGUS, SERVFAIL, TIMEOUT (at once) or MALFORMED."""
        self._failures[fold(name), rdtype] = status

    def hang(self, name: str, rdtype: RecordType) -> asyncio.Event:
        """Let a question wait until the event that is returned is set."""
        event = asyncio.Event()
        self._held[fold(name), rdtype] = event
        return event

    def count(self, name: str, rdtype: RecordType) -> int:
        """How often this was asked for."""
        return self.questions[fold(name), rdtype]

    async def lookup(self, name: str, rdtype: RecordType) -> Answer:
        """See `ports.Resolver`."""
        folded = fold(name)
        self.questions[folded, rdtype] += 1
        held = self._held.get((folded, rdtype))
        if held is not None:
            await held.wait()
        try:
            asked = encode_question(folded, rdtype).name
        except DomainSyntaxError as error:
            return Answer(folded, rdtype, Status.MALFORMED, detail=str(error))
        return self._follow(asked, rdtype)

    def _follow(self, asked: str, rdtype: RecordType) -> Answer:
        name, secure, seen = asked, True, {asked}
        ttls: list[int] = []
        while True:
            status = self._failures.get((name, rdtype))
            if status is not None:
                detail = f"the fake resolver was told to fail with {status.value}"
                return Answer(asked, rdtype, status, detail=detail)
            rrset = self._rrsets.get((name, rdtype))
            alias = self._rrsets.get((name, RecordType.CNAME))
            if rrset is not None or alias is None:
                return self._end(asked, rdtype, name, rrset, secure=secure, ttls=ttls)
            secure = secure and alias.secure
            ttls.append(alias.ttl)
            name = str(alias.records[0])
            if name in seen or len(seen) > MAX_CNAME_HOPS:
                detail = "an alias that leads to itself" if name in seen else "too many aliases"
                return Answer(asked, rdtype, Status.SERVFAIL, detail=detail)
            seen.add(name)

    def _end(
        self,
        asked: str,
        rdtype: RecordType,
        name: str,
        rrset: _RRset | None,
        *,
        secure: bool,
        ttls: list[int],
    ) -> Answer:
        """The answer at the end of a chain."""
        if rrset is not None and rrset.records:
            ttl = min([*ttls, rrset.ttl])
            secure = self.validates and secure and rrset.secure
            return Answer(asked, rdtype, Status.OK, secure, rrset.records, name, ttl)
        owned = [found for (owner, _), found in self._rrsets.items() if owner == name]
        status = Status.NODATA if owned else Status.NXDOMAIN
        signed = any(found.secure for found in owned) or any(
            name == zone or name.endswith(f".{zone}") for zone in self._signed
        )
        ttl = min([*ttls, self.negative_ttl])
        return Answer(asked, rdtype, status, self.validates and secure and signed, (), name, ttl)


class FakeFetcher:
    """Fetches from a table; implements `ports.PolicyFetcher`. An unknown domain has no host.

    Attributes:
        fetches: How often each domain was fetched.
    """

    def __init__(self) -> None:
        self.fetches: Counter[str] = Counter()
        self._results: dict[str, FetchedPolicy | FetchFailure] = {}
        self._held: dict[str, asyncio.Event] = {}

    def serve(self, policy_domain: str, body: bytes | str) -> None:
        """Let a domain serve a body, good or not: it is judged as one from the network."""
        octets = body.encode("utf-8") if isinstance(body, str) else body
        self._results[policy_domain] = judge_body(octets)

    def fail(
        self,
        policy_domain: str,
        reason_code: str = "connect",
        result_type: ResultType = ResultType.STS_POLICY_FETCH_ERROR,
    ) -> None:
        """Let the fetch for a domain fail."""
        reason = f"the fake fetcher was told to fail with {reason_code}"
        self._results[policy_domain] = FetchFailure(result_type, reason, reason_code)

    def hang(self, policy_domain: str) -> asyncio.Event:
        """Let fetches for a domain wait until the event that is returned is set."""
        event = asyncio.Event()
        self._held[policy_domain] = event
        return event

    async def fetch(self, policy_domain: str) -> FetchedPolicy | FetchFailure:
        """See `ports.PolicyFetcher`."""
        self.fetches[policy_domain] += 1
        held = self._held.get(policy_domain)
        if held is not None:
            await held.wait()
        result = self._results.get(policy_domain)
        if result is not None:
            return result
        return FetchFailure(
            ResultType.STS_POLICY_FETCH_ERROR, "the policy host has no address", "dns"
        )


class _Crowd:
    """How many are inside at once.

    Attributes:
        now: At this moment.
        most: At the fullest one.
    """

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1


class FakeSmtpProber:
    """MX hosts from a table; implements `ports.SmtpProber`. An unknown address refuses.

    Attributes:
        probed: Every target, in order.
        crowd: How many sessions there are at once.
    """

    def __init__(self) -> None:
        self.probed: list[ProbeTarget] = []
        self.crowd = _Crowd()
        self._keys: dict[str, dict[KeyType, tuple[bytes, ...]]] = {}
        self._scripts: dict[str, list[ProbeOutcome | UnknownReason]] = {}
        self._held: dict[str, asyncio.Event] = {}

    def serve(self, address: str, *key_types: KeyType) -> None:
        """Let a host have a certificate of each type, the preferred one first."""
        kinds = key_types or (KeyType.ECDSA,)
        self._keys[address] = {kind: (f"{kind} of {address}".encode(),) for kind in kinds}

    def script(self, address: str, *ends: ProbeOutcome | UnknownReason) -> None:
        """Let sessions with an address end like this, one after the other; the last one stays."""
        self._scripts[address] = list(ends)

    def hang(self, address: str) -> asyncio.Event:
        """Let sessions with an address wait until the event that is returned is set."""
        event = asyncio.Event()
        self._held[address] = event
        return event

    def count(self, address: str) -> int:
        """How often an address was visited."""
        return sum(target.address == address for target in self.probed)

    async def probe(self, target: ProbeTarget) -> ProbeFacts:
        """See `ports.SmtpProber`."""
        self.probed.append(target)
        with self.crowd:
            held = self._held.get(target.address)
            if held is not None:
                await held.wait()
            else:
                await asyncio.sleep(0)
        script = self._scripts.get(target.address)
        if script:
            return self._end(target, script.pop(0) if len(script) > 1 else script[0])
        if target.address not in self._keys:
            return self._end(target, UnknownReason.REFUSED)
        return self._end(target, ProbeOutcome.TLS)

    def _end(self, target: ProbeTarget, end: ProbeOutcome | UnknownReason) -> ProbeFacts:
        if isinstance(end, UnknownReason):
            unknown = Unknown(end, f"the fake prober was told: {end}")
            return ProbeFacts(target, ProbeOutcome.UNKNOWN, FAKE_TIME, unknown)
        facts = ProbeFacts(target, end, FAKE_TIME, helo=target.host)
        if end is not ProbeOutcome.TLS:
            return facts
        keys = self._keys.get(target.address, {KeyType.ECDSA: (b"",)})
        asked = next(iter(keys)) if target.key_type is KeyType.ANY else target.key_type
        if asked not in keys:
            return replace(facts, outcome=ProbeOutcome.TLS_FAILED)
        pkix = PkixFacts(target.reference_id or target.host)
        tls = TlsFacts(
            "TLSv1.3",
            "TLS_AES_256_GCM_SHA384",
            target.server_name,
            target.key_type,
            asked,
            keys[asked],
            pkix,
        )
        return replace(facts, tls=tls)


class FakePolicyHostProber:
    """Policy hosts from a table; implements `ports.PolicyHostProber`. Others do not connect.

    Attributes:
        looks: Every (policy domain, address, agent), in order.
    """

    def __init__(self) -> None:
        self.looks: list[tuple[str, str, str]] = []
        self._results: dict[tuple[str, str], FetchedPolicy | FetchFailure] = {}
        self._held: dict[str, asyncio.Event] = {}

    def serve(self, address: str, body: bytes | str, agent: str = "") -> None:
        """Let an address serve a body; with an agent, to that one alone."""
        octets = body.encode("utf-8") if isinstance(body, str) else body
        self._results[address, agent] = judge_body(octets)

    def fail(self, address: str, reason_code: str, agent: str = "") -> None:
        """Let the fetch from an address fail; with an agent, for that one alone."""
        self._results[address, agent] = _told_to_fail(reason_code)

    def hang(self, address: str) -> asyncio.Event:
        """Let looks at an address wait until the event that is returned is set."""
        event = asyncio.Event()
        self._held[address] = event
        return event

    async def look(self, policy_domain: str, address: str, agent: str = "") -> PolicyHostLook:
        """See `ports.PolicyHostProber`."""
        self.looks.append((policy_domain, address, agent))
        held = self._held.get(address)
        if held is not None:
            await held.wait()
        result = self._results.get((address, agent)) or self._results.get((address, ""))
        return PolicyHostLook(address, result or _told_to_fail("connect"), agent=agent)


def _told_to_fail(reason_code: str) -> FetchFailure:
    reason = f"the fake policy host was told to fail with {reason_code}"
    return FetchFailure(ResultType.STS_POLICY_FETCH_ERROR, reason, reason_code)


class FakeAuthorityLookup:
    """Authoritative servers over one table; implements `ports.AuthorityLookup`.

    Every server answers as the resolver does, with authority, unless it is told otherwise.

    Args:
        resolver: The table; aliases in it are followed, unlike by the real one.

    Attributes:
        questions: How often each (address, name, type) was asked.
        crowd: How many questions there are at once.
    """

    def __init__(self, resolver: FakeResolver) -> None:
        self.questions: Counter[tuple[str, str, RecordType]] = Counter()
        self.crowd = _Crowd()
        self._resolver = resolver
        self._answers: dict[tuple[str, str, RecordType], Answer] = {}
        self._held: dict[str, asyncio.Event] = {}

    def disagree(self, address: str, answer: Answer) -> None:
        """Let the server at an address say something else to one question."""
        self._answers[address, answer.name, answer.rdtype] = answer

    def hang(self, address: str) -> asyncio.Event:
        """Let questions to an address wait until the event that is returned is set."""
        event = asyncio.Event()
        self._held[address] = event
        return event

    async def ask(
        self, zone: str, server: str, address: str, name: str, rdtype: RecordType
    ) -> AuthorityFacts:
        """See `ports.AuthorityLookup`."""
        key = (address, fold(name), rdtype)
        self.questions[key] += 1
        with self.crowd:
            held = self._held.get(address)
            if held is not None:
                await held.wait()
            answer = self._answers.get(key) or await self._resolver.lookup(name, rdtype)
        is_authoritative = answer.status.is_answer
        return AuthorityFacts(
            zone, server, address, key[1], rdtype, replace(answer, secure=False), is_authoritative
        )


class FakeRuaProber:
    """Report destinations from a table; implements `ports.RuaProber`. Others are alive.

    Attributes:
        looks: How often each URI was looked at.
    """

    def __init__(self) -> None:
        self.looks: Counter[str] = Counter()
        self._states: dict[str, RuaState] = {}
        self._held: dict[str, asyncio.Event] = {}

    def set(self, uri: str, state: RuaState) -> None:
        """Let a destination be in a state."""
        self._states[uri] = state

    def hang(self, uri: str) -> asyncio.Event:
        """Let looks at a destination wait until the event that is returned is set."""
        event = asyncio.Event()
        self._held[uri] = event
        return event

    async def look(self, uri: str) -> RuaFacts:
        """See `ports.RuaProber`."""
        self.looks[uri] += 1
        held = self._held.get(uri)
        if held is not None:
            await held.wait()
        state = self._states.get(uri, RuaState.ALIVE)
        return RuaFacts(uri, state, f"the fake prober was told: {state}")


class FakeReach:
    """Routes and connections from a table; implements `ports.Reach`. There is a route to all.

    Attributes:
        tried: Every (host, address), in order.
        open: Addresses that take connections.
        unrouted: Beginnings of addresses that there is no way to, such as `2001:`.
    """

    def __init__(self, *open_addresses: str) -> None:
        self.tried: list[tuple[str, str]] = []
        self.open = set(open_addresses)
        self.unrouted: tuple[str, ...] = ()
        self._held: dict[str, asyncio.Event] = {}

    def hang(self, address: str) -> asyncio.Event:
        """Let connections to an address wait until the event that is returned is set."""
        event = asyncio.Event()
        self._held[address] = event
        return event

    def has_route(self, host: str, address: str, port: int) -> bool:  # noqa: ARG002 - the port
        """See `ports.Reach`."""
        return not address.startswith(self.unrouted)

    async def connects(
        self,
        host: str,
        address: str,
        port: int,  # noqa: ARG002 - the port
        seconds: float,  # noqa: ARG002
    ) -> bool:
        """See `ports.Reach`."""
        self.tried.append((host, address))
        held = self._held.get(address)
        if held is not None:
            await held.wait()
        return address in self.open
