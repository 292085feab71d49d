# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/1.1 server for decisions, metrics and health, on h11.

Knows routes, bounds and errors; what is served is the handlers' business. Every limit has a name
below: slow, large and numerous clients cost bounded memory and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

import h11

if TYPE_CHECKING:
    import socket

MAX_HEADER_BYTES: Final = 16 * 1024
"""Request line and headers; 8 KiB is what common servers allow at least (RFC 9112 §3)."""

MAX_QUERY_FIELDS: Final = 100
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        path: As sent, percent-encoded, without the query.
        params: The `{names}` of the route's pattern, percent-decoded.
        query: Percent-decoded; of a repeated name the first value.
        headers: Names in lower case.
    """

    method: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One response. Header names and values must be ASCII without line ends."""

    body: bytes = b""
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


def json_response(value: object, status: int = 200) -> Response:
    """A response of JSON; all but ASCII is escaped, so foreign text stays text."""
    body = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    return Response(body, status, "application/json")


def error_response(
    status: int, message: str, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """A failure as JSON: `{"error": {"status": …, "message": …}}`."""
    body = json_response({"error": {"status": status, "message": message}}).body
    return Response(body, status, "application/json", headers)


Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method, a path pattern and who answers.

    Attributes:
        method: GET answers HEAD too.
        pattern: Segments between slashes; `{name}` stands for one whole segment.
    """

    method: str
    pattern: str
    handler: Handler

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """The parameters, still encoded, if the path fits."""
        own = self.pattern.split("/")
        if len(own) != len(segments):
            return None
        params: dict[str, str] = {}
        for pattern, segment in zip(own, segments, strict=True):
            if pattern.startswith("{") and segment:
                params[pattern[1:-1]] = segment
            elif pattern != segment:
                return None
        return params


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may use. Times in seconds."""

    max_connections: int = 256
    max_body_bytes: int = 64 * 1024
    request_timeout: float = 30.0
    """From the first octet of a request to its last, and again for its handler."""
    idle_timeout: float = 75.0
    """Between requests, and for a response to be read."""


@dataclass(slots=True)
class HttpServer:
    """Serves routes on any number of sockets.

    Args:
        routes: The first that fits answers.
        limits: What a client may use.
        on_error: Told of exceptions in handlers; the client only learns that there was one.
    """

    routes: Sequence[Route]
    limits: Limits = field(default_factory=Limits)
    on_error: Callable[[BaseException], None] = lambda _: None
    connections: set[_Connection] = field(default_factory=set)
    _servers: list[asyncio.Server] = field(default_factory=list)

    async def listen(self, sock: socket.socket) -> None:
        """Serve on a listening socket; it is closed with the server."""
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(lambda: _Connection(self), sock=sock))

    async def close(self, *, drain_seconds: float = 5.0) -> None:
        """Accept nothing new, finish what goes on, close."""
        for server in self._servers:
            server.close()
        busy = [connection.finish() for connection in list(self.connections)]
        tasks = {task for task in busy if task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=drain_seconds)
        for connection in list(self.connections):
            connection.abort()
        self._servers.clear()

    async def respond(self, request: h11.Request, body: bytes) -> Response:
        """Find the route and let its handler answer, in bounded time."""
        try:
            found, params = self._find(request)
            if isinstance(found, Response):
                return found
            async with asyncio.timeout(self.limits.request_timeout):
                return await found.handler(_request(request, params, body))
        except _BadRequestError as error:
            return error_response(400, str(error))
        except TimeoutError:
            return error_response(503, "the answer took too long")
        except Exception as error:  # noqa: BLE001 - one request must not end the server
            self.on_error(error)
            return error_response(500, "internal error; the log has more")

    def _find(self, request: h11.Request) -> tuple[Route | Response, dict[str, str]]:
        """The route and its parameters, or a refusal."""
        method = request.method.decode("ascii")
        segments = _path(request).split("/")
        allowed: list[str] = []
        for route in self.routes:
            params = route.match(segments)
            if params is None:
                continue
            if method == route.method or (method == "HEAD" and route.method == "GET"):
                return route, params
            allowed += [route.method] if route.method != "GET" else ["GET", "HEAD"]
        if not allowed:
            return error_response(404, "there is nothing at this path"), {}
        listed = ", ".join(dict.fromkeys(allowed))
        return error_response(405, f"this path takes {listed}", (("Allow", listed),)), {}


class _BadRequestError(Exception):
    """The request cannot be understood; its text is ours and goes to the client."""


def _path(request: h11.Request) -> str:
    """The encoded path of a target in origin or absolute form (RFC 9112 §3.2)."""
    target = request.target.decode("latin-1")
    if target.startswith(("http://", "https://")):
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    return target.partition("?")[0]


def _request(request: h11.Request, params: Mapping[str, str], body: bytes) -> Request:
    query = request.target.decode("latin-1").partition("?")[2]
    try:
        decoded = {name: unquote(value, errors="strict") for name, value in params.items()}
        fields = parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS
        )
    except ValueError:
        raise _BadRequestError("the path or the query is not percent-encoded UTF-8") from None
    first: dict[str, str] = {}
    for name, value in fields:
        first.setdefault(name, value)
    headers = tuple(
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers
    )
    return Request(request.method.decode("ascii"), _path(request), decoded, first, headers, body)


class _Connection(asyncio.Protocol):
    """One client: requests one after the other, each bounded."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._transport: Any = None
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._started = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._finishing = False

    # ---- the transport's calls --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if len(self._server.connections) >= self._limits.max_connections:
            self._transport.write(_BUSY)
            self._transport.close()
            return
        self._server.connections.add(self)
        self._arm(self._limits.request_timeout)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._server.connections.discard(self)
        self._disarm()
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self not in self._server.connections:
            return
        self._h11.receive_data(data)
        if not self._started:
            self._started = True
            self._arm(self._limits.request_timeout)
        self._advance()

    def eof_received(self) -> bool:
        """A client that has asked may close its half and still gets the answer."""
        if self in self._server.connections:
            self._h11.receive_data(b"")
            self._advance()
        return self._task is not None

    # ---- the server's calls -----------------------------------------------------------------

    def finish(self) -> asyncio.Task[None] | None:
        """Close after the request that is being answered; its task, if there is one."""
        self._finishing = True
        if self._task is None and not self._started:
            self.abort()
        return self._task

    def abort(self) -> None:
        """Close now."""
        self._server.connections.discard(self)
        self._disarm()
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    # ---- one request after the other --------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_timeout)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if self._started and self._task is None:
            self._refuse(error_response(408, "the request did not come in time"))
        else:
            self.abort()

    def _advance(self) -> None:
        """Take what has arrived, up to the end of one request."""
        while self._task is None:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(error_response(error.error_status_hint, "not a valid HTTP request"))
                return
            if event is h11.NEED_DATA:
                self._continue_expected()
                return
            if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                self._close()
                return
            if not self._take(event):
                return

    def _take(self, event: object) -> bool:
        """Digest one event; False: the request is refused."""
        if isinstance(event, h11.Request):
            self._request = event
            if _head_bytes(event) > MAX_HEADER_BYTES:
                self._refuse(error_response(431, "the request line and headers are too long"))
                return False
            length = dict(event.headers).get(b"content-length", b"0")
            if int(length) > self._limits.max_body_bytes:
                return self._refuse_body()
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > self._limits.max_body_bytes:
                return self._refuse_body()
        elif isinstance(event, h11.EndOfMessage):
            self._disarm()
            self._transport.pause_reading()
            self._task = asyncio.get_running_loop().create_task(self._answer())
        return True

    def _refuse_body(self) -> bool:
        limit = self._limits.max_body_bytes
        self._refuse(error_response(413, f"the body is longer than {limit} bytes"))
        return False

    def _continue_expected(self) -> None:
        if self._h11.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            self._transport.write(self._h11.send(go_on))

    async def _answer(self) -> None:
        """Answer one request, then look for the next."""
        assert self._request is not None
        response = await self._server.respond(self._request, bytes(self._body))
        self._arm(self._limits.idle_timeout)
        self._write(response, head=self._request.method == b"HEAD")
        await self._writable.wait()
        self._task = None
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            self._close()
            return
        self._next_request()

    def _next_request(self) -> None:
        self._h11.start_next_cycle()
        self._request = None
        self._body.clear()
        self._started = bool(self._h11.trailing_data[0])
        self._arm(self._limits.request_timeout if self._started else self._limits.idle_timeout)
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            self._transport.resume_reading()
        self._advance()

    def _write(self, response: Response, *, head: bool) -> None:
        headers = [
            ("Date", _http_date(time.time())),
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *response.headers,
        ]
        if self._finishing or self._h11.their_state is not h11.DONE:
            headers.append(("Connection", "close"))
        parts = [self._h11.send(h11.Response(status_code=response.status, headers=headers))]
        if response.body and not head:
            parts.append(self._h11.send(h11.Data(data=response.body)))
        parts.append(self._h11.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in parts if part))

    def _refuse(self, response: Response) -> None:
        """Answer a request that is not read to its end, and close."""
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._finishing = True
            head = self._request is not None and self._request.method == b"HEAD"
            self._write(response, head=head)
        self._close()

    def _close(self) -> None:
        """Close when everything written is on its way, but not later than the timer says."""
        self._arm(self._limits.idle_timeout)
        self._transport.close()


def _head_bytes(request: h11.Request) -> int:
    """How long a head is; h11 bounds only what has not come to its end yet."""
    return len(request.target) + sum(len(name) + len(value) for name, value in request.headers)


def _http_date(seconds: float) -> str:
    """An instant as RFC 9110 §5.6.7 wants it, in no language but its own."""
    at = time.gmtime(seconds)
    return (
        f"{_WEEKDAYS[at.tm_wday]}, {at.tm_mday:02d} {_MONTHS[at.tm_mon - 1]} {at.tm_year} "
        f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} GMT"
    )
