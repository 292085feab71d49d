# SPDX-License-Identifier: Apache-2.0
"""Questions to a validating resolver: a thin UDP transport, with TCP where an answer is too large.

Servers on loopback share one socket with all questions in flight; for a server further away each
question has a socket, and so a source port, of its own (RFC 5452 §9.2). A reply counts when id
and question fit; anything else is dropped as if it had not come.

How a lookup goes on when something fails:

==============================  ==================================================================
what comes                      what is done
==============================  ==================================================================
nothing within the time-out     the next server, in a circle, until the attempts are used up
connection refused              the same at once; after a full circle with a short pause
SERVFAIL, REFUSED, a broken     the next server that has not said so yet
reply
SERVFAIL: extended error says   the end: BOGUS. No server that validates less is asked instead
the signatures are wrong
SERVFAIL everywhere             once more with CD: what then succeeds was BOGUS
TC                              the same question over TCP
FORMERR, NOTIMP, BADVERS        the same server again, without EDNS
an alias without its target     a further question for the target; secure only if all parts are
==============================  ==================================================================

The AD bit counts only when the caller says so (`trust_ad`) and the servers were seen to set it
(`DnsResolver.probe`).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from strictmail.core.dnsvalues import MAX_CNAME_HOPS, Answer, Record, RecordType, Status
from strictmail.core.errors import DomainSyntaxError
from strictmail.core.names import fold, is_address
from strictmail.net.dnswire import (
    RCODE_BADVERS,
    RCODE_FORMERR,
    RCODE_NAMES,
    RCODE_NOERROR,
    RCODE_NOTIMP,
    RCODE_NXDOMAIN,
    RCODE_SERVFAIL,
    Question,
    Reply,
    WireError,
    decode_reply,
    encode_query,
    encode_question,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from strictmail.ports import Rng

DNS_PORT: Final = 53

MAX_SERVERS: Final = 3
"""Servers read from resolv.conf, as in the C library."""

MAX_DATAGRAM_BYTES: Final = 4096
"""A larger datagram than we asked for is asked for again over TCP."""

MAX_DATAGRAMS_A_TURN: Final = 64
"""Datagrams read before the loop turns to something else: a flood must not stop it."""

MAX_IN_FLIGHT: Final = 4096
"""Questions in flight on one socket: few enough that a random id is soon found."""

MAX_OWN_SOCKETS: Final = 256
"""Sockets for questions to servers that are not on loopback; beyond, questions share them."""

MAX_TCP_CONNECTIONS: Final = 32
"""TCP connections open at once, so that large answers cannot use up the file descriptors."""

REFUSED_PAUSE_SECONDS: Final = 0.25
"""Wait before a server that refused is asked again: it may just be restarting."""

REPROBE_SECONDS: Final = 300.0
"""How often, at most, lookups have the resolver probed again."""

REPROBE_UNKNOWN_SECONDS: Final = 5.0
"""The same while no probe has been answered yet, as after a boot without network."""

_BOGUS_ERRORS: Final = frozenset(range(6, 13))
"""RFC 8914 §4.7 to §4.13: bogus, signature expired or not yet valid, missing DNSKEY, RRSIG, zone key
bit or NSEC."""

_OTHER_ERRORS: Final = frozenset({5, *range(14, 27)})
"""Codes that explain a SERVFAIL by something else than wrong signatures: indeterminate (an error
all the same, RFC 7672 §2.1.1), not ready, policy, network."""

_NO_EDNS: Final = frozenset((RCODE_FORMERR, RCODE_NOTIMP, RCODE_BADVERS))

_TC_OCTET: Final = 0x02
_MAX_ID: Final = 0x10000
_LENGTH_OCTETS: Final = 2


class _Next(enum.Enum):
    """What to do after a question got no usable reply."""

    TRY_AGAIN = enum.auto()
    """Nothing came: this server may be asked again, after the others."""
    PAUSE = enum.auto()
    """The same, but it came at once: not in a tight circle."""
    OTHERS = enum.auto()
    """This server has said what it knows: only the others are left."""
    CHECK = enum.auto()
    """The same; if the others know no better, find out whether validation is behind it."""
    STOP = enum.auto()


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why a question got no usable reply; `detail` is safe to log."""

    status: Status
    detail: str
    next: _Next


Outcome: TypeAlias = "Reply | OSError | WireError | None"
"""How one datagram question ended: a reply of any kind, no way through, rubbish, or silence."""


@dataclass(slots=True)
class _Chain:
    """An alias chain on its way; `name` is its end so far."""

    name: str
    ttl: int | None = None
    secure: bool = True
    seen: set[str] = field(default_factory=set)

    def note_ttl(self, seconds: int) -> int:
        self.ttl = seconds if self.ttl is None else min(self.ttl, seconds)
        return self.ttl


class DnsResolver:
    """Looks names up at validating resolvers; implements `ports.Resolver`. For one event loop.

    Args:
        servers: Addresses and ports, the preferred one first; at least one.
        timeout: Seconds for each try.
        attempts: Tries for each question, over all servers.
        trust_ad: Whether the path to every server is trusted (loopback, or the operator says so).
        rng: For ids; `random.SystemRandom` outside tests.
        probe_name: What `probe` asks for: a name in a signed zone, by default the root.
        probe_type: And its type.
    """

    def __init__(
        self,
        servers: Sequence[tuple[str, int]],
        *,
        timeout: float = 3.0,
        attempts: int = 3,
        trust_ad: bool = False,
        rng: Rng,
        probe_name: str = ".",
        probe_type: RecordType = RecordType.SOA,
    ) -> None:
        if not servers or attempts < 1:
            raise ValueError("a resolver needs at least one server and one attempt")
        for host, _ in servers:
            if not is_address(host.partition("%")[0]):
                raise ValueError(f"a DNS server is given by its address, not {host!a}")
        self._timeout = timeout
        self._attempts = attempts
        self._trust_ad = trust_ad
        self._probe_question = encode_question(probe_name, probe_type)
        self._probed: bool | None = None
        self._reprobe_at = float("inf")
        self._probe_task: asyncio.Task[bool] | None = None
        self._servers = [_Server(address, timeout, rng) for address in servers]
        self._preferred = 0
        self._flights: dict[tuple[str, RecordType], asyncio.Future[Answer | None]] = {}

    @property
    def validates(self) -> bool:
        """Whether AD is believed: the path is trusted, and `probe` did not find it missing.

        While no probe has been answered yet, the trusted path decides: nothing is called secure
        without AD anyway, and DANE must not be off because the resolver starts later than we do.
        """
        return self._trust_ad and self._probed is not False

    async def start(self) -> None:
        """Open the sockets to servers on loopback (later lookups would do it, too).

        Raises:
            OSError: No socket can be opened.
        """
        for server in self._servers:
            server.open()

    async def close(self) -> None:
        """Close the sockets that are idle. Lookups under way end normally; theirs follow then."""
        self._reprobe_at = float("inf")
        if self._probe_task is not None:
            self._probe_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probe_task
        for server in self._servers:
            server.retire()

    async def probe(self) -> bool:
        """Find out whether the servers validate, and remember it.

        Every server is asked, since each may answer a lookup: one that answers without AD is
        enough for False. When none answers, what was known before stands.

        Returns:
            `validates`.
        """
        # RFC 7672 §2.1.1: a resolver that does not validate must not pass for one that does
        # (DANE-01, DANE-02).
        answers = await asyncio.gather(*(self._probe_server(server) for server in self._servers))
        seen = [answer for answer in answers if answer is not None]
        if seen:
            self._probed = all(seen)
        wait = REPROBE_UNKNOWN_SECONDS if self._probed is None else REPROBE_SECONDS
        self._reprobe_at = asyncio.get_running_loop().time() + wait
        return self.validates

    async def _probe_server(self, server: _Server) -> bool | None:
        for _ in range(self._attempts):
            reply = await server.ask(self._probe_question)
            if isinstance(reply, Reply):
                return reply.authentic
            if reply.next is not _Next.TRY_AGAIN:
                return None
        return None

    def _probe_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the background, after a lookup was answered and it is time."""
        if self._trust_ad and loop.time() >= self._reprobe_at:
            self._reprobe_at = float("inf")
            self._probe_task = loop.create_task(self.probe())

    async def lookup(self, name: str, rdtype: RecordType) -> Answer:
        """Look a name up, following aliases; see `ports.Resolver`.

        Identical questions at the same time are asked once.
        """
        folded = fold(name)
        key = (folded, rdtype)
        while (flight := self._flights.get(key)) is not None:
            answer = await asyncio.shield(flight)
            if answer is not None:
                return answer
        return await self._lead(key)

    async def _lead(self, key: tuple[str, RecordType]) -> Answer:
        """Look up on behalf of all who ask the same meanwhile."""
        loop = asyncio.get_running_loop()
        flight: asyncio.Future[Answer | None] = loop.create_future()
        self._flights[key] = flight
        answer = None
        try:
            answer = await self._follow(*key)
        finally:
            # Without an answer the leader was cancelled: one of the others leads then.
            del self._flights[key]
            flight.set_result(answer)
        self._probe_again(loop)
        return answer

    async def _follow(self, name: str, rdtype: RecordType) -> Answer:
        """Ask, and ask on while the answer is an alias without its target."""
        chain = _Chain(name)
        while True:
            try:
                question = encode_question(chain.name, rdtype)
            except DomainSyntaxError as error:
                return Answer(name, rdtype, Status.MALFORMED, detail=str(error))
            if not chain.seen:
                name = chain.name = question.name
            reply = await self._resolve(question)
            if isinstance(reply, _Fault):
                # RFC 7672 §2.1.3: an error at any step fails the whole lookup (DANE-08).
                return Answer(name, rdtype, reply.status, detail=reply.detail)
            # RFC 7672 §2.1.1, §2.1.3: AD vouches for all of one answer, where it is trusted; a
            # chain of several is secure only if each of them is (DANE-02, DANE-07, SEC-31).
            chain.secure = chain.secure and reply.authentic and self.validates
            answer = _read_answer(name, rdtype, chain, reply)
            if answer is not None:
                return answer

    async def _resolve(self, question: Question) -> Reply | _Fault:
        """One question, until a server has an answer or the attempts are used up."""
        circle = [*self._servers[self._preferred :], *self._servers[: self._preferred]]
        fault: _Fault | None = None
        unexplained: _Server | None = None
        pauses = 0
        for _ in range(self._attempts):
            if not circle:
                break
            server = circle.pop(0)
            reply = await server.ask(question)
            if isinstance(reply, Reply):
                self._preferred = self._servers.index(server)
                return reply
            if fault is None or reply.status is not Status.TIMEOUT:
                # What one server said tells more than that another was silent.
                fault = reply
            match reply.next:
                case _Next.STOP:
                    return reply
                case _Next.CHECK:
                    unexplained = server
                case _Next.TRY_AGAIN | _Next.PAUSE:
                    circle.append(server)
            pauses += reply.next is _Next.PAUSE
            if pauses >= len(self._servers):
                await asyncio.sleep(min(self._timeout, REFUSED_PAUSE_SECONDS))
        assert fault is not None
        return fault if unexplained is None else await self._check(unexplained, question, fault)

    async def _check(self, server: _Server, question: Question, fault: _Fault) -> _Fault:
        """Whether validation is behind an unexplained SERVFAIL."""
        # RFC 4035 §3.2.2: with CD a resolver hands out what it would not vouch for. It is not
        # used: bogus and SERVFAIL are one class and differ in their name only (DANE-04).
        reply = await server.ask(question, checking_disabled=True)
        if isinstance(reply, Reply):
            detail = f"{server.label}: SERVFAIL, but not with validation disabled: bogus"
            return _Fault(Status.BOGUS, detail, _Next.STOP)
        return fault


def _read_answer(name: str, rdtype: RecordType, chain: _Chain, reply: Reply) -> Answer | None:
    """What a reply says of the chain's end; None when that has to be asked for by itself."""
    start = chain.name
    if rdtype is not RecordType.CNAME:
        fault = _walk_aliases(chain, reply)
        if fault:
            # RFC 7672 §2.1.3: beyond the limit the lookup fails (DANE-10, STS-REC-33).
            return Answer(name, rdtype, Status.SERVFAIL, detail=fault)
    found = [
        (ttl, value)
        for owner, rtype, ttl, value in reply.records
        if rtype == rdtype and owner == chain.name
    ]
    if found:
        status = Status.OK if reply.rcode == RCODE_NOERROR else Status.MALFORMED
        ttl = chain.note_ttl(min(ttl for ttl, _ in found))
        if status is Status.MALFORMED:
            return Answer(name, rdtype, status, detail="records of a name that does not exist")
        return _answer(name, rdtype, status, chain, ttl, tuple(value for _, value in found))
    if reply.rcode == RCODE_NXDOMAIN:
        # RFC 6604 §3: about the end of the chain.
        return _answer(name, rdtype, Status.NXDOMAIN, chain, _negative_ttl(chain, reply))
    if chain.name != start and not _is_denied(chain.name, reply):
        return None
    return _answer(name, rdtype, Status.NODATA, chain, _negative_ttl(chain, reply))


def _walk_aliases(chain: _Chain, reply: Reply) -> str:
    """Follow CNAMEs inside a reply; why that is impossible, or ""."""
    # RFC 7672 §2.1.3: a DNAME needs no code: the CNAME made from it stands beside it (DANE-09).
    aliases = {
        owner: (value, ttl)
        for owner, rtype, ttl, value in reply.records
        if rtype == RecordType.CNAME and isinstance(value, str)
    }
    while chain.name in aliases:
        if len(chain.seen) == MAX_CNAME_HOPS:
            return f"more than {MAX_CNAME_HOPS} aliases"
        chain.seen.add(chain.name)
        chain.name, ttl = aliases[chain.name]
        chain.note_ttl(ttl)
        if chain.name in chain.seen:
            return "an alias that leads to itself"
    return ""


def _is_denied(name: str, reply: Reply) -> bool:
    """Whether the SOA record in a reply is one of a zone that holds the name (RFC 2308 §2.2)."""
    if reply.soa is None:
        return False
    zone = reply.soa[0]
    return not zone or name == zone or name.endswith(f".{zone}")


def _negative_ttl(chain: _Chain, reply: Reply) -> int:
    # RFC 2308 §5: without an SOA record a denial is not kept.
    return chain.note_ttl(reply.soa[1] if reply.soa else 0)


def _answer(
    name: str,
    rdtype: RecordType,
    status: Status,
    chain: _Chain,
    ttl: int,
    records: tuple[Record, ...] = (),
) -> Answer:
    return Answer(name, rdtype, status, chain.secure, records, chain.name, ttl)


class _Server:
    """One server: its sockets, and one try at a question."""

    def __init__(self, address: tuple[str, int], timeout: float, rng: Rng) -> None:
        self._address = address
        self._timeout = timeout
        self._rng = rng
        self._is_loopback = is_loopback(address[0])
        self._family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._retired = False
        self._shared: Channel | None = None
        self._own: list[Channel] = []
        self._streams = asyncio.Semaphore(MAX_TCP_CONNECTIONS)
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        self.label = f"{host}:{address[1]}"

    def open(self) -> None:
        if (
            self._is_loopback
            and not self._retired
            and (self._shared is None or self._shared.is_broken)
        ):
            self._shared = self._open_channel(lasting=True)

    def retire(self) -> None:
        self._retired = True
        if self._shared is not None:
            self._shared.retire()
            self._shared = None

    async def ask(self, question: Question, *, checking_disabled: bool = False) -> Reply | _Fault:
        """One try, over UDP and if need be TCP.

        Returns:
            A reply with NOERROR or NXDOMAIN, or why there is none.
        """
        reply = await self._ask_datagram(question, cd=checking_disabled, edns=True)
        if isinstance(reply, Reply) and reply.rcode in _NO_EDNS:
            reply = await self._ask_datagram(question, cd=checking_disabled, edns=False)
        if isinstance(reply, Reply) and reply.truncated:
            # RFC 7766 §5: what does not fit a datagram is asked for over TCP (STS-REC-33).
            reply = await self._ask_stream(question, cd=checking_disabled)
        return self._judge(reply) if isinstance(reply, Reply) else reply

    def _judge(self, reply: Reply) -> Reply | _Fault:
        if reply.rcode in (RCODE_NOERROR, RCODE_NXDOMAIN):
            return reply
        said = RCODE_NAMES.get(reply.rcode, f"RCODE {reply.rcode}")
        detail = f"{self.label}: {said}"
        if reply.extended_errors:
            detail += f", extended error {', '.join(map(str, reply.extended_errors))}"
        if reply.rcode != RCODE_SERVFAIL:
            return _Fault(Status.SERVFAIL, detail, _Next.OTHERS)
        if not _BOGUS_ERRORS.isdisjoint(reply.extended_errors):
            return _Fault(Status.BOGUS, detail, _Next.STOP)
        explained = not _OTHER_ERRORS.isdisjoint(reply.extended_errors)
        return _Fault(Status.SERVFAIL, detail, _Next.OTHERS if explained else _Next.CHECK)

    async def _ask_datagram(self, question: Question, *, cd: bool, edns: bool) -> Reply | _Fault:
        try:
            channel = self._pick_channel()
        except OSError as error:
            return self._explain(error)
        future: asyncio.Future[Outcome] = channel.loop.create_future()
        query_id = channel.expect(question, future, self._rng)
        timer = channel.loop.call_later(self._timeout, settle, future, None)
        try:
            channel.send(encode_query(query_id, question, checking_disabled=cd, edns=edns))
            outcome = await future
        except OSError as error:
            outcome = error
        finally:
            timer.cancel()
            channel.forget(query_id)
        return outcome if isinstance(outcome, Reply) else self._explain(outcome)

    def _explain(self, outcome: OSError | WireError | None) -> _Fault:
        """What it means that there is no reply (None: not in time)."""
        if outcome is None:
            detail = f"{self.label}: no reply within {self._timeout:g} s"
            return _Fault(Status.TIMEOUT, detail, _Next.TRY_AGAIN)
        if isinstance(outcome, WireError):
            return _Fault(Status.MALFORMED, f"{self.label}: {outcome}", _Next.OTHERS)
        what = errno.errorcode.get(outcome.errno or 0, "no connection")
        return _Fault(Status.TIMEOUT, f"{self.label}: {what}", _Next.PAUSE)

    def _pick_channel(self) -> Channel:
        """The shared socket of a server on loopback, else one for this question alone."""
        if self._is_loopback and not self._retired:
            self.open()
            if self._shared is not None and self._shared.has_room:
                return self._shared
        # RFC 5452 §9.2: off the host, a new source port for each question.
        if len(self._own) < MAX_OWN_SOCKETS:
            channel = self._open_channel(lasting=False)
            self._own.append(channel)
            return channel
        return self._own[int(self._rng.random() * len(self._own))]

    def _open_channel(self, *, lasting: bool) -> Channel:
        sock = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)  # noqa: FBT003 - the socket API
            sock.connect(self._address)
        except OSError:
            sock.close()
            raise
        return Channel(sock, None if lasting else self._own.remove)

    async def _ask_stream(self, question: Question, *, cd: bool) -> Reply | _Fault:
        query_id = int(self._rng.random() * _MAX_ID)
        query = encode_query(query_id, question, checking_disabled=cd)
        try:
            async with asyncio.timeout(self._timeout), self._streams:
                message = await exchange(self._address, query)
            reply = decode_reply(message, question) if message[:2] == query[:2] else None
        except TimeoutError:
            return self._explain(None)
        except (OSError, WireError) as error:
            return self._explain(error)
        except asyncio.IncompleteReadError:
            return self._explain(WireError("the TCP connection ended inside a reply"))
        if reply is None or reply.truncated:
            return self._explain(WireError("over TCP comes the reply to something else"))
        return reply


async def exchange(address: tuple[str, int], query: bytes) -> bytes:
    """One question over TCP (RFC 7766 §8)."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(len(query).to_bytes(_LENGTH_OCTETS, "big") + query)
        length = int.from_bytes(await reader.readexactly(_LENGTH_OCTETS), "big")
        return await reader.readexactly(length)
    finally:
        writer.transport.abort()


class Channel:
    """A connected UDP socket and the questions in flight on it.

    Args:
        sock: Connected, not blocking; closed by this object.
        closed: Called when the last question is done and the socket closed; None for a socket
            that stays open until `retire`.
    """

    def __init__(self, sock: socket.socket, closed: Callable[[Channel], None] | None) -> None:
        self.loop = asyncio.get_running_loop()
        self._sock = sock
        self._closed = closed
        self._lasting = closed is None
        self.is_broken = False
        self._pending: dict[int, tuple[Question, asyncio.Future[Outcome]]] = {}
        self.loop.add_reader(sock.fileno(), self._read)

    @property
    def has_room(self) -> bool:
        """Whether another question may be sent on it."""
        return len(self._pending) < MAX_IN_FLIGHT and not self.is_broken

    def expect(self, question: Question, future: asyncio.Future[Outcome], rng: Rng) -> int:
        """Choose an id for a question; its reply ends up in the future."""
        query_id = int(rng.random() * _MAX_ID)
        while query_id in self._pending:
            query_id = int(rng.random() * _MAX_ID)
        self._pending[query_id] = question, future
        return query_id

    def forget(self, query_id: int) -> None:
        """A question is done, however it ended."""
        del self._pending[query_id]
        if not self._lasting and not self._pending:
            self._close()

    def retire(self) -> None:
        """Close as soon as nothing is in flight."""
        self._lasting = False
        if not self._pending:
            self._close()

    def _close(self) -> None:
        if self._sock.fileno() < 0:
            return
        self.loop.remove_reader(self._sock.fileno())
        self._sock.close()
        if self._closed is not None:
            self._closed(self)

    def send(self, query: bytes) -> None:
        """Send. A full buffer counts as a datagram lost on its way, an error as one refused."""
        try:
            self._sock.send(query)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(error)

    def _read(self) -> None:
        for _ in range(MAX_DATAGRAMS_A_TURN):
            try:
                message = self._sock.recv(MAX_DATAGRAM_BYTES + 1)
            except BlockingIOError:
                return
            except OSError as error:
                self._break(error)
                return
            self._take(message)
            if not self._lasting:
                # Mostly it was for one question; if more comes, the loop says so again.
                return

    def _break(self, error: OSError) -> None:
        """Tell all questions that wait here, and take no more.

        Not every event loop watches a socket any longer that has had an error (libuv does not).
        """
        self.is_broken = True
        for _, future in self._pending.values():
            settle(future, error)
        self.retire()

    def _take(self, message: bytes) -> None:
        question, future = self._pending.get(int.from_bytes(message[:2], "big"), (None, None))
        if question is None or future is None:
            return
        if len(message) > MAX_DATAGRAM_BYTES:
            message = message[:2] + bytes([message[2] | _TC_OCTET]) + message[3:]
        try:
            reply = decode_reply(message, question)
        except WireError as error:
            settle(future, error)
            return
        if reply is not None:
            settle(future, reply)


def settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    """End a question, unless it has ended."""
    if not future.done():
        future.set_result(outcome)


def is_loopback(host: str) -> bool:
    """Whether an address text is one of this machine's loopback addresses."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def system_servers(path: str = "/etc/resolv.conf") -> tuple[tuple[str, int], ...]:
    """The servers of the system's resolver configuration, as addresses and ports.

    Without such a file, or without a usable line in it: the resolver on this machine, as in the C
    library.

    Args:
        path: A file in the format of resolv.conf(5).
    """
    try:
        lines = Path(path).read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    servers = []
    for line in lines:
        match line.split():
            case ["nameserver", address, *_] if is_address(address.partition("%")[0]):
                servers.append((address, DNS_PORT))
    return tuple(servers[:MAX_SERVERS]) or (("127.0.0.1", DNS_PORT),)
