# SPDX-License-Identifier: Apache-2.0
"""The socketmap listeners: requests in, finished replies out.

A cached lookup is one dictionary look and one write, in `Connection.data_received`. Everything
else (several frames in one segment, half a frame, a key nobody asked for yet) takes the slower
road below it, which keeps the replies of one connection in the order of its requests.

What a client may do, and what bounds it:

===========================  ===================================================================
client                       what happens
===========================  ===================================================================
no netstring, too long       `PERM`, then the connection is closed
half a request, or nothing   closed after `idle_timeout` without a complete request
many requests unanswered     reading stops at MAX_PENDING until answers have gone out
does not read its answers    reading stops until it does; closed after `idle_timeout`
half-close (Exim)            answered, then closed
thousands of connections     beyond `max_connections` the longest idle one makes room
===========================  ===================================================================
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, cast

from strictmail.core.decision import Decision, Level, ListenerProfile
from strictmail.core.errors import EncodingError, FrameError
from strictmail.core.mta import exim, netstring, postfix, sendmail, socketmap
from strictmail.resolver.answers import Answers, Counter

if TYPE_CHECKING:
    from strictmail.resolver.engine import Ruling

MAX_PENDING: Final = 64
"""Requests of one connection that may wait for their answers; an MTA sends one at a time."""

ENCODERS: Final[dict[str, Callable[[Decision], bytes]]] = {
    "postfix": postfix.encode_reply,
    "postfix-tlsrpt": postfix.encode_reply_tlsrpt,
    "sendmail": sendmail.encode_reply,
    "exim": exim.encode_reply,
}
"""Dialect -> its one encoder."""

Done = Callable[[bytes, Counter], None]


class Asker(Protocol):
    """Who answers what is not finished yet (`strictmail.resolver.role.Bridge`)."""

    def ask(self, listener: Listener, request: socketmap.Request, done: Done) -> None:
        """Find the answer and call `done(reply, counter)` on the serving loop, exactly once."""
        ...


@dataclass(slots=True)
class _Slot:
    """The place of one unanswered request in its connection's order."""

    reply: bytes | None = None


class Listener:
    """One configured listener: its dialect, its profile, its finished replies, its counters.

    Args:
        name: As configured.
        dialect: A key of ENCODERS.
        profile: What the asking MTA does by itself.
        observe: Answer NOTFOUND and only log and count what would have been said.
        capacity: Finished replies kept.
        max_connections: Beyond it the longest idle connection makes room.
        idle_timeout: Seconds without a complete request after which a connection is closed.
        on_client_error: Told of malformed requests, the first of each sweep interval.
    """

    def __init__(
        self,
        name: str,
        *,
        dialect: str,
        profile: ListenerProfile,
        asker: Asker,
        observe: bool = False,
        capacity: int = 100_000,
        max_connections: int = 4096,
        idle_timeout: float = 120.0,
        on_client_error: Callable[[Listener, FrameError], None] = lambda _listener, _error: None,
    ) -> None:
        self.name = name
        self.dialect = dialect
        self.profile = profile
        self.observe = observe
        self.asker = asker
        self.max_connections = max_connections
        self.idle_timeout = idle_timeout
        self.answers = Answers(capacity)
        self.connections: dict[Connection, None] = {}
        self.empty = asyncio.Event()
        """Set while there is no connection."""
        self.empty.set()
        self.answered = asyncio.Event()
        """Set while draining, once no connection waits for an answer."""
        self._owing: set[Connection] = set()
        self.counters: dict[str, Counter] = {str(level): [0] for level in Level}
        self.is_draining = False
        self.refused = 0
        self.client_errors = 0
        self._on_client_error = on_client_error
        self._error_told = False
        self.accepted = 0

    def protocol(self) -> Connection:
        """A protocol for a new connection (the factory for `loop.create_server`)."""
        return Connection(self)

    def finish(self, ruling: Ruling) -> tuple[bytes, Counter]:
        """The reply that this listener's MTA reads, and the counter it belongs to."""
        decision = ruling.decision
        if self.observe:
            return socketmap.notfound(), self.counters[str(decision.level)]
        try:
            reply = ENCODERS[self.dialect](decision)
        except EncodingError as error:
            # What cannot be said exactly is not said weaker: the mail waits.
            return socketmap.temp(str(error)), self.counters[str(Level.DEFER)]
        return reply, self.counters[str(decision.level)]

    def add(self, connection: Connection) -> None:
        """Count a connection in."""
        self.connections[connection] = None
        self.empty.clear()

    def remove(self, connection: Connection) -> None:
        """Count a connection out; again is no fault."""
        self.connections.pop(connection, None)
        self.owes_no_more(connection)
        if not self.connections:
            self.empty.set()

    def owes_no_more(self, connection: Connection) -> None:
        """While draining: everything a connection asked for is answered."""
        self._owing.discard(connection)
        if self.is_draining and not self._owing:
            self.answered.set()

    def make_room(self) -> bool:
        """Close an idle connection, one that has long been silent first; whether there was one."""
        chosen: Connection | None = None
        for connection in self.connections:
            if connection.is_idle() and (chosen is None or connection.is_silent()):
                chosen = connection
                if connection.is_silent():
                    break
        if chosen is None:
            return False
        chosen.close()
        return True

    def note_error(self, error: FrameError) -> None:
        """Count a malformed request, and tell the first of each sweep interval."""
        self.client_errors += 1
        if not self._error_told:
            self._error_told = True
            self._on_client_error(self, error)

    def sweep(self) -> None:
        """Close connections that sent no complete request since the last sweep but one."""
        self._error_told = False
        for connection in list(self.connections):
            connection.sweep()

    def drain(self) -> None:
        """Answer what was asked, then end each connection so that its client sees EOF."""
        self.is_draining = True
        self._owing = {connection for connection in self.connections if not connection.is_idle()}
        for connection in list(self.connections):
            connection.drain()
        if not self._owing:
            self.answered.set()


class Connection(asyncio.Protocol):
    """One client."""

    __slots__ = (
        "_active",
        "_choked",
        "_decoder",
        "_draining",
        "_eof",
        "_frames",
        "_is_refused",
        "_listener",
        "_paused",
        "_plain",
        "_replies",
        "_slots",
        "_transport",
        "_write",
    )

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._replies = listener.answers.replies
        self._slots: deque[_Slot] = deque()
        self._frames: deque[bytes] = deque()
        self._decoder: netstring.Decoder | None = None
        self._plain = True
        self._choked = False
        self._active = True
        self._draining = False
        self._eof = False
        self._is_refused = False
        self._paused = False
        self._transport: asyncio.Transport | None = None

    # ---- the fast road ------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Answer: one look, one write, where the reply is finished."""
        if self._plain:
            entry = self._replies.get(data)
            if entry is not None:
                self._write(entry[0])
                entry[1][0] += 1
                self._active = True
                return
        self._receive(data)

    # ---- the slower road ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, or make room for one."""
        listener = self._listener
        self._transport = cast("asyncio.Transport", transport)
        self._write = self._transport.write
        if len(listener.connections) >= listener.max_connections and not listener.make_room():
            listener.refused += 1
            self._transport.abort()
            return
        listener.accepted += 1
        listener.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the client; answers that come later go nowhere."""
        self._listener.remove(self)
        self._plain = False
        self._draining = True
        self._slots.clear()
        self._frames.clear()
        self._transport = None

    def eof_received(self) -> bool:
        """Half-close: answer what was asked, then close (as Exim's readsocket expects)."""
        self._eof = True
        self._plain = False
        return bool(self._slots or self._frames)

    def pause_writing(self) -> None:
        """The client does not read: stop reading from it."""
        self._choked = True
        self._plain = False
        self._pause()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._choked = False
        self._work()

    def _receive(self, data: bytes) -> None:
        if self._draining or self._eof or self._transport is None:
            return
        decoder = self._decoder
        if decoder is None:
            decoder = self._decoder = netstring.Decoder()
        try:
            self._frames.extend(decoder.feed(data))
        except FrameError as error:
            self._refuse(error)
            return
        self._work()

    def _work(self) -> None:
        """Take up what was received, as far as the bounds allow, and see what comes next."""
        frames = self._frames
        try:
            while frames and not self._choked and len(self._slots) < MAX_PENDING:
                self._request(frames.popleft())
            if not frames and self._decoder is not None and self._decoder.fault is not None:
                raise self._decoder.fault
        except FrameError as error:
            self._refuse(error)
            return
        self._settle()

    def _request(self, frame: bytes) -> None:
        self._active = True
        entry = self._replies.get(netstring.encode(frame))
        if entry is not None:
            entry[1][0] += 1
            self._answer(entry[0])
            return
        request = socketmap.parse_request(frame)
        slot = _Slot()
        self._slots.append(slot)

        def done(reply: bytes, counter: Counter) -> None:
            counter[0] += 1
            slot.reply = reply
            self._flush()

        self._listener.asker.ask(self._listener, request, done)

    def _answer(self, reply: bytes) -> None:
        if self._slots:
            self._slots.append(_Slot(reply))
        elif self._transport is not None:
            self._transport.write(reply)

    def _flush(self) -> None:
        slots = self._slots
        transport = self._transport
        if transport is None:
            return
        ready = []
        while slots and slots[0].reply is not None:
            ready.append(slots.popleft().reply or b"")
        if ready:
            transport.write(b"".join(ready))
        self._work()

    def _settle(self) -> None:
        """After a step on the slower road: close, pause, or go back to the fast road."""
        transport = self._transport
        if transport is None:
            return
        if self._slots or self._frames:
            self._plain = False
            if self._frames or len(self._slots) >= MAX_PENDING:
                self._pause()
            return
        if self._eof:
            transport.close()
        elif self._draining:
            self._end()
        elif not self._choked:
            self._resume()
            self._plain = self._decoder is None or self._decoder.is_between_frames

    def _refuse(self, error: FrameError) -> None:
        self._frames.clear()
        if not self._is_refused:
            self._is_refused = True
            self._listener.note_error(error)
            self._answer(socketmap.perm(f"malformed request: {error}"))
        self._eof = True
        self._plain = False
        self._settle()

    def _pause(self) -> None:
        transport = self._transport
        # uvloop raises where asyncio shrugs: at a transport that is closing.
        if not self._paused and transport is not None and not transport.is_closing():
            self._paused = True
            transport.pause_reading()

    def _resume(self) -> None:
        transport = self._transport
        if self._paused and transport is not None and not self._eof and not transport.is_closing():
            self._paused = False
            transport.resume_reading()

    # ---- life ---------------------------------------------------------------------------

    def is_idle(self) -> bool:
        """Whether nothing is being answered here."""
        return not self._slots and not self._frames

    def is_silent(self) -> bool:
        """Whether nothing complete has come since the last sweep."""
        return not self._active

    def close(self) -> None:
        """Close after what was written."""
        if self._transport is not None:
            self._listener.remove(self)
            if self._choked:
                # Nobody reads what was written: it would be waited for without end.
                self._transport.abort()
            else:
                self._transport.close()

    def sweep(self) -> None:
        """Close if nothing complete came since the last call, and nothing is owed."""
        if self._active or self._slots:
            self._active = False
        elif self._transport is not None:
            self._transport.abort()

    def drain(self) -> None:
        """Answer what was asked, then send EOF, and read on until the client goes.

        Closing at once would answer a request that is on its way with a reset, which Postfix
        does not retry; an EOF it does.
        """
        self._draining = True
        self._plain = False
        if not self._slots and not self._frames:
            self._end()

    def _end(self) -> None:
        transport = self._transport
        self._listener.owes_no_more(self)
        if transport is None or transport.is_closing():
            return
        if self._paused:
            self._paused = False
            transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()
