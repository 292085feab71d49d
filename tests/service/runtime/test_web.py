# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: routes, bounds, and clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from strictmail.runtime.web import (
    HttpServer,
    Limits,
    Request,
    Response,
    Route,
    error_response,
    json_response,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class World:
    """A server with a few handlers, and what happened in them."""

    server: HttpServer
    address: tuple[str, int] = ("", 0)
    seen: list[Request] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def talk(self, data: bytes, *, half_close: bool = True) -> bytes:
        """Send octets, read until the server closes."""
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(data)
        if half_close:
            writer.write_eof()
        answer = await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return answer


@contextlib.asynccontextmanager
async def serve(limits: Limits | None = None) -> AsyncIterator[World]:
    async def show(request: Request) -> Response:
        world.seen.append(request)
        return json_response({"params": dict(request.params), "query": dict(request.query)})

    async def fail(request: Request) -> Response:
        raise RuntimeError("secret detail")

    async def wait(request: Request) -> Response:
        world.entered.set()
        await world.release.wait()
        return Response(b"waited\n")

    async def big(request: Request) -> Response:
        return Response(b"x" * 5_000_000)

    routes = (
        Route("GET", "/v1/decision/{nexthop}", show),
        Route("POST", "/v1/thing", show),
        Route("GET", "/fail", fail),
        Route("GET", "/wait", wait),
        Route("GET", "/big", big),
    )
    server = HttpServer(routes, limits or Limits())
    world = World(server)
    server.on_error = world.errors.append
    sock = socket.create_server(("127.0.0.1", 0))
    world.address = sock.getsockname()
    await server.listen(sock)
    try:
        yield world
    finally:
        world.release.set()
        await server.close()


def get(target: str, method: str = "GET", headers: str = "") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode("latin-1")


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


async def test_a_route_with_parameters() -> None:
    async with serve() as world:
        answer = await world.talk(get("/v1/decision/%5Bmx.example%5D:25?dane=1&dane=2&x="))
    assert status(answer) == 200
    assert json.loads(body(answer)) == {
        "params": {"nexthop": "[mx.example]:25"},
        "query": {"dane": "1", "x": ""},
    }
    assert b"Content-Type: application/json\r\n" in answer
    assert b"X-Content-Type-Options: nosniff\r\n" in answer


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (get("/v1/decision/a"), 200),
        (get("http://elsewhere/v1/decision/a"), 200),  # absolute form, RFC 9112 §3.2.2
        (get("/absent"), 404),
        (get("/v1/decision/"), 404),
        (get("/v1/decision/a/b"), 404),
        (get("/v1/decision/a", "DELETE"), 405),
        (get("/v1/thing"), 405),
        (get("*", "OPTIONS"), 404),
        (get("x:1", "CONNECT"), 404),
        (get("/v1/decision/%ff"), 400),
        (get("/v1/decision/a?x=%ff"), 400),
        (get("/v1/decision/a?" + "x=1&" * 101), 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),  # somebody speaks TLS
        (b"nonsense\r\n\r\n", 400),
        (get("/" + "a" * 20_000), 431),
        (get("/", headers="X: " + "a" * 20_000 + "\r\n"), 431),
        (get("/v1/thing", "POST", "Content-Length: 65537\r\n"), 413),
        (get("/v1/thing", "HEAD", "Content-Length: 65537\r\n"), 413),
        (get("/v1/thing", "POST", "Content-Length: -1\r\n"), 400),
        (get("/v1/thing", "POST", "Content-Length: 5\r\n") + b"hello", 200),
        (get("/fail"), 500),
    ],
)
async def test_status(request_bytes: bytes, expected: int) -> None:
    async with serve() as world:
        answer = await world.talk(request_bytes)
    assert status(answer) == expected
    if expected >= 400 and b"HEAD" not in request_bytes:
        assert json.loads(body(answer))["error"]["status"] == expected


async def test_a_chunked_body_is_bounded_too() -> None:
    chunk = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
    head = get("/v1/thing", "POST", "Transfer-Encoding: chunked\r\n")
    async with serve() as world:
        answer = await world.talk(head + chunk * 9)
        assert status(answer) == 413
        answer = await world.talk(head + chunk + b"0\r\n\r\n")
    assert status(answer) == 200
    assert len(world.seen[-1].body) == 0x2000


async def test_what_is_allowed_is_named() -> None:
    async with serve() as world:
        answer = await world.talk(get("/v1/decision/a", "PUT"))
    assert b"Allow: GET, HEAD\r\n" in answer


async def test_head_has_the_length_and_no_body() -> None:
    async with serve() as world:
        full = await world.talk(get("/v1/decision/a"))
        head = await world.talk(get("/v1/decision/a", "HEAD"))
    assert body(head) == b""
    assert f"Content-Length: {len(body(full))}\r\n".encode() in head


async def test_a_fault_in_a_handler_is_told_inside_only() -> None:
    async with serve() as world:
        answer = await world.talk(get("/fail") + get("/v1/decision/a"))
    assert b"secret" not in answer
    assert [str(error) for error in world.errors] == ["secret detail"]
    assert answer.count(b"HTTP/1.1 ") == 2


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serve() as world:
        answer = await world.talk(b"".join(get(f"/v1/decision/{n}") for n in range(20)))
    positions = [answer.index(f'"nexthop":"{n}"'.encode()) for n in range(20)]
    assert positions == sorted(positions)


async def test_one_octet_at_a_time() -> None:
    async with serve() as world:
        reader, writer = await asyncio.open_connection(*world.address)
        for octet in get("/v1/decision/a"):
            writer.write(bytes([octet]))
            await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_client_that_expects_100_continue() -> None:
    async with serve() as world:
        reader, writer = await asyncio.open_connection(*world.address)
        headers = "Content-Length: 2\r\nExpect: 100-continue\r\n"
        writer.write(get("/v1/thing", "POST", headers))
        assert (await reader.readline()).startswith(b"HTTP/1.1 100")
        await reader.readline()
        writer.write(b"ok")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_connection_close_is_honoured() -> None:
    async with serve() as world:
        answer = await world.talk(
            get("/v1/decision/a", headers="Connection: close\r\n"), half_close=False
        )
    assert status(answer) == 200


async def test_a_slow_request_is_told_so() -> None:
    async with serve(Limits(request_timeout=0.05)) as world:
        answer = await world.talk(b"GET /v1/dec", half_close=False)
    assert status(answer) == 408


async def test_a_silent_client_is_closed() -> None:
    async with serve(Limits(request_timeout=0.05)) as world:
        assert await world.talk(b"", half_close=False) == b""


async def test_an_idle_client_is_closed() -> None:
    async with serve(Limits(idle_timeout=0.05)) as world:
        answer = await world.talk(get("/v1/decision/a"), half_close=False)
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_handler_that_hangs_is_bounded() -> None:
    async with serve(Limits(request_timeout=0.05)) as world:
        answer = await world.talk(get("/wait"))
    assert status(answer) == 503


async def test_a_client_that_does_not_read_is_closed() -> None:
    async with serve(Limits(idle_timeout=0.1)) as world:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, world.address)
        await loop.sock_sendall(sock, get("/big"))
        while not world.server.connections:
            await asyncio.sleep(0)
        while world.server.connections:
            await asyncio.sleep(0.01)
        sock.close()


async def test_too_many_clients_are_told_so() -> None:
    async with serve(Limits(max_connections=1)) as world:
        reader, writer = await asyncio.open_connection(*world.address)
        writer.write(get("/v1/decision/a"))
        await reader.readuntil(b"\r\n\r\n")
        assert status(await world.talk(b"", half_close=False)) == 503
        writer.close()
        await reader.read()
        while world.server.connections:
            await asyncio.sleep(0)
        assert status(await world.talk(get("/v1/decision/a"))) == 200


async def test_close_finishes_what_goes_on() -> None:
    async with serve() as world:
        waiting = asyncio.ensure_future(world.talk(get("/wait"), half_close=False))
        await world.entered.wait()
        closing = asyncio.ensure_future(world.server.close())
        await asyncio.sleep(0)
        world.release.set()
        await closing
        answer = await waiting
    assert status(answer) == 200
    assert b"Connection: close\r\n" in answer


async def test_close_does_not_wait_for_ever() -> None:
    async with serve() as world:
        waiting = asyncio.ensure_future(world.talk(get("/wait"), half_close=False))
        await world.entered.wait()
        await world.server.close(drain_seconds=0.01)
        with contextlib.suppress(ConnectionError):
            assert await waiting == b""


def test_foreign_text_in_json_is_ascii() -> None:
    answer = error_response(400, 'x"\r\n\u2028<script>')
    assert answer.body.isascii()
    assert b"\r" not in answer.body
