# SPDX-License-Identifier: Apache-2.0
"""Questions to one authoritative name server, without recursion (RFC 1035 §4.1.1, RD clear).

Asks and tells; whether the servers of a zone agree is decided in `core.check`. Aliases are not
followed: a name that holds a CNAME answers NODATA with the alias in `canonical_name`, also where
the server sends what the alias leads to.

==============================  ==================================================================
what comes                      the answer's status
==============================  ==================================================================
nothing in time, no way there   TIMEOUT
TC                              what the same question brings over TCP
FORMERR, NOTIMP, BADVERS        the same question without EDNS; again: SERVFAIL
REFUSED, SERVFAIL, others       SERVFAIL; the detail has the RCODE
a broken reply                  MALFORMED
a referral                      NODATA, and not authoritative: a lame delegation
==============================  ==================================================================

Every question has a socket, and so a source port, and a random id of its own (RFC 5452 §9); it is
asked at most ATTEMPTS times over UDP. How many are asked at once is for the caller.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Final

from strictmail.core.check.facts import AuthorityFacts
from strictmail.core.dnsvalues import Answer, RecordType, Status
from strictmail.core.errors import DomainSyntaxError
from strictmail.core.names import fold
from strictmail.net.connectto import STRAIGHT, ConnectMap
from strictmail.net.dns import DNS_PORT, Channel, Outcome, exchange, settle
from strictmail.net.dnswire import (
    RCODE_BADVERS,
    RCODE_FORMERR,
    RCODE_NAMES,
    RCODE_NOERROR,
    RCODE_NOTIMP,
    RCODE_NXDOMAIN,
    Question,
    Reply,
    WireError,
    decode_reply,
    encode_query,
    encode_question,
)

if TYPE_CHECKING:
    from strictmail.ports import Rng

ATTEMPTS: Final = 2
"""Datagrams for one question: one may get lost."""

_NO_EDNS: Final = frozenset((RCODE_FORMERR, RCODE_NOTIMP, RCODE_BADVERS))
_MAX_ID: Final = 0x10000


class AuthorityClient:
    """Asks authoritative servers; implements `ports.AuthorityLookup`.

    Args:
        rng: For ids; `random.SystemRandom` outside tests.
        timeout: Seconds for each datagram, and for each TCP exchange.
        connect_map: Where connections go instead.
    """

    def __init__(
        self, *, rng: Rng, timeout: float = 3.0, connect_map: ConnectMap = STRAIGHT
    ) -> None:
        self._rng = rng
        self._timeout = timeout
        self._connect_map = connect_map

    async def ask(
        self, zone: str, server: str, address: str, name: str, rdtype: RecordType
    ) -> AuthorityFacts:
        """Ask one server one question; see `ports.AuthorityLookup`."""
        name = fold(name)
        try:
            question = encode_question(name, rdtype)
        except DomainSyntaxError as error:
            outcome: Outcome = WireError(str(error))
        else:
            target = self._connect_map.target(server, address, DNS_PORT)
            outcome = await self._ask(target, question)
        answer = self._read(name, rdtype, outcome)
        is_authoritative = isinstance(outcome, Reply) and outcome.authoritative
        return AuthorityFacts(zone, server, address, name, rdtype, answer, is_authoritative)

    async def _ask(self, target: tuple[str, int], question: Question) -> Outcome:
        outcome = await self._ask_datagrams(target, question, edns=True)
        if isinstance(outcome, Reply) and outcome.rcode in _NO_EDNS:
            outcome = await self._ask_datagrams(target, question, edns=False)
        if isinstance(outcome, Reply) and outcome.truncated:
            # RFC 7766 §5: what does not fit a datagram is asked for over TCP.
            outcome = await self._ask_stream(target, question)
        return outcome

    async def _ask_datagrams(
        self, target: tuple[str, int], question: Question, *, edns: bool
    ) -> Outcome:
        outcome: Outcome = None
        for _ in range(ATTEMPTS):
            outcome = await self._ask_datagram(target, question, edns=edns)
            if outcome is not None:
                break
        return outcome

    async def _ask_datagram(
        self, target: tuple[str, int], question: Question, *, edns: bool
    ) -> Outcome:
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            return error
        try:
            sock.setblocking(False)  # noqa: FBT003 - the socket API
            sock.connect(target)
        except OSError as error:
            sock.close()
            return error
        channel = Channel(sock, _forget)
        future: asyncio.Future[Outcome] = channel.loop.create_future()
        query_id = channel.expect(question, future, self._rng)
        timer = channel.loop.call_later(self._timeout, settle, future, None)
        try:
            channel.send(encode_query(query_id, question, edns=edns, recursion=False))
            return await future
        finally:
            timer.cancel()
            channel.forget(query_id)

    async def _ask_stream(self, target: tuple[str, int], question: Question) -> Outcome:
        query_id = int(self._rng.random() * _MAX_ID)
        query = encode_query(query_id, question, recursion=False)
        try:
            async with asyncio.timeout(self._timeout):
                message = await exchange(target, query)
            reply = decode_reply(message, question) if message[:2] == query[:2] else None
        except TimeoutError:
            return None
        except (OSError, WireError) as error:
            return error
        except asyncio.IncompleteReadError:
            return WireError("the TCP connection ended inside a reply")
        if reply is None or reply.truncated:
            return WireError("over TCP comes the reply to something else")
        return reply

    def _read(self, name: str, rdtype: RecordType, outcome: Outcome) -> Answer:
        """What a server said, as a value."""
        if outcome is None:
            detail = f"no reply within {self._timeout:g} s"
            return Answer(name, rdtype, Status.TIMEOUT, detail=detail)
        if isinstance(outcome, WireError):
            return Answer(name, rdtype, Status.MALFORMED, detail=str(outcome))
        if isinstance(outcome, OSError):
            what = errno.errorcode.get(outcome.errno or 0, "no connection")
            return Answer(name, rdtype, Status.TIMEOUT, detail=what)
        if outcome.rcode not in (RCODE_NOERROR, RCODE_NXDOMAIN):
            said = RCODE_NAMES.get(outcome.rcode, f"RCODE {outcome.rcode}")
            return Answer(name, rdtype, Status.SERVFAIL, detail=said)
        return _read_records(name, rdtype, outcome)


def _forget(_: Channel) -> None:
    """Nobody keeps a list of the sockets of single questions."""


def _read_records(name: str, rdtype: RecordType, reply: Reply) -> Answer:
    own = [(rtype, ttl, value) for owner, rtype, ttl, value in reply.records if owner == name]
    found = [(ttl, value) for rtype, ttl, value in own if rtype == rdtype]
    if found:
        ttl = min(ttl for ttl, _ in found)
        records = tuple(value for _, value in found)
        return Answer(name, rdtype, Status.OK, records=records, canonical_name=name, ttl=ttl)
    for rtype, ttl, value in own:
        if rtype == RecordType.CNAME:
            # RFC 6604 §3: the RCODE is about the end of the chain, which is not looked at.
            return Answer(name, rdtype, Status.NODATA, canonical_name=str(value), ttl=ttl)
    status = Status.NXDOMAIN if reply.rcode == RCODE_NXDOMAIN else Status.NODATA
    ttl = reply.soa[1] if reply.soa else 0
    return Answer(name, rdtype, status, canonical_name=name, ttl=ttl)
