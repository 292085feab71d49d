# SPDX-License-Identifier: Apache-2.0
"""A resolver and a policy fetcher without a network, for tests and for trying things out.

Both keep to the contracts of `strictmail.ports`; the same tests run against them and the real
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
from dataclasses import dataclass

from strictmail.core.dnsvalues import MAX_CNAME_HOPS, Answer, Record, RecordType, Status
from strictmail.core.errors import DomainSyntaxError
from strictmail.core.names import fold
from strictmail.core.sts.fetchrules import judge_body
from strictmail.core.sts.values import FetchedPolicy, FetchFailure
from strictmail.core.tlsrpt.results import ResultType
from strictmail.net.dnswire import encode_question


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
