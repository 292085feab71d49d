# SPDX-License-Identifier: Apache-2.0
"""The listeners against well-meaning, slow, hasty and malformed clients, on loopback sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strictmail.core.decision import Level, ListenerProfile, simple_decision
from strictmail.core.mta import netstring
from strictmail.resolver.engine import Ruling
from strictmail.resolver.socketmap import MAX_PENDING, Done, Listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from strictmail.core.mta.socketmap import Request

NOTFOUND = b"9:NOTFOUND ,"


def ask(key: str, map_name: str = "sts") -> bytes:
    return netstring.encode(f"{map_name} {key}".encode())


def reply_for(key: str) -> bytes:
    return netstring.encode(b"OK " + key.encode()) if key.isascii() else NOTFOUND


class Asker:
    """Answers each key with itself, when told so, in any order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waiting: list[tuple[str, Done]] = []
        self.hold = False

    def ask(self, listener: Listener, request: Request, done: Done) -> None:
        self.asked.append(request.key)
        if self.hold:
            self.waiting.append((request.key, done))
        else:
            asyncio.get_running_loop().call_soon(done, reply_for(request.key), [0])

    def release(self, order: Callable[[list[Any]], list[Any]] = list) -> None:
        waiting, self.waiting = self.waiting, []
        for key, done in order(waiting):
            done(reply_for(key), [0])


class Server:
    def __init__(self, listener: Listener, asker: Asker, port: int) -> None:
        self.listener = listener
        self.asker = asker
        self.port = port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Server]:
    asker = Asker()
    listener = Listener(
        "test", dialect="postfix", profile=ListenerProfile(), asker=asker, **options
    )
    server = await asyncio.get_running_loop().create_server(listener.protocol, "127.0.0.1", 0)
    try:
        yield Server(listener, asker, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for connection in list(listener.connections):
            connection.close()
        await asyncio.wait_for(listener.empty.wait(), 5)


async def within(work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, 5)


async def test_a_kept_reply_is_written_without_asking() -> None:
    async with serving() as server:
        counter = [0]
        server.listener.answers.put(b"sts", b"a.example", "a.example", b"4:OK x,", counter, 1e9)
        reader, writer = await server.connect()
        for _ in range(3):
            writer.write(ask("a.example"))
            assert await within(reader.readexactly(7)) == b"4:OK x,"
        assert counter == [3]
        assert server.asker.asked == []
        writer.close()


async def test_replies_keep_the_order_of_requests() -> None:
    async with serving() as server:
        server.asker.hold = True
        server.listener.answers.put(b"sts", b"kept", "kept", reply_for("kept"), [0], 1e9)
        keys = ["a", "b", "kept", "c", "kept", "d"]
        reader, writer = await server.connect()
        writer.write(b"".join(ask(key) for key in keys))
        while len(server.asker.waiting) < 4:
            await asyncio.sleep(0)
        server.asker.release(lambda waiting: waiting[::-1])
        expected = b"".join(reply_for(key) for key in keys)
        assert await within(reader.readexactly(len(expected))) == expected
        writer.close()


async def test_one_byte_at_a_time() -> None:
    async with serving() as server:
        reader, writer = await server.connect()
        for byte in ask("slow.example") + ask("again.example"):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        expected = reply_for("slow.example") + reply_for("again.example")
        assert await within(reader.readexactly(len(expected))) == expected
        writer.close()


async def test_half_close_is_answered_then_closed() -> None:
    async with serving() as server:
        server.asker.hold = True
        reader, writer = await server.connect()
        writer.write(ask("exim.example"))
        writer.write_eof()
        while not server.asker.waiting:
            await asyncio.sleep(0)
        server.asker.release()
        assert await within(reader.read()) == reply_for("exim.example")
        writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"99999999:x",
        b"20000:",
        b"3:abcX",
        b"03:a b,",
        b"5:noblk,",
        b"\xff\xfe",
        b"4:s \xff\xfe,",
    ],
)
async def test_what_is_no_request_gets_perm_and_is_closed(data: bytes) -> None:
    async with serving() as server:
        reader, writer = await server.connect()
        writer.write(data)
        answer = await within(reader.read())
        assert answer.split(b":", 1)[1].startswith(b"PERM malformed request")
        assert server.listener.client_errors == 1
        writer.close()


async def test_a_fault_behind_good_requests_is_answered_after_them() -> None:
    async with serving() as server:
        reader, writer = await server.connect()
        writer.write(ask("a.example") + b"rubbish")
        answer = await within(reader.read())
        assert answer.startswith(reply_for("a.example"))
        assert b"PERM" in answer
        writer.close()


async def test_unanswered_requests_are_bounded() -> None:
    async with serving() as server:
        server.asker.hold = True
        reader, writer = await server.connect()
        total = MAX_PENDING * 4
        writer.write(b"".join(ask(f"k{i}") for i in range(MAX_PENDING)))
        while len(server.asker.waiting) < MAX_PENDING:
            await asyncio.sleep(0)
        (connection,) = server.listener.connections
        assert connection._paused
        writer.write(b"".join(ask(f"k{i}") for i in range(MAX_PENDING, total)))
        expected = b"".join(reply_for(f"k{i}") for i in range(total))
        reading = asyncio.create_task(reader.readexactly(len(expected)))
        while not reading.done():
            server.asker.release()
            await asyncio.sleep(0)
        assert reading.result() == expected
        writer.close()


async def test_the_longest_idle_connection_makes_room() -> None:
    async with serving(max_connections=3) as server:
        first = await server.connect()
        others = [await server.connect() for _ in range(3)]
        assert await within(first[0].read()) == b""
        for reader, writer in others:
            writer.write(ask("a"))
            assert await within(reader.readexactly(7)) == reply_for("a")
            writer.close()
        first[1].close()


async def test_busy_connections_are_not_pushed_out() -> None:
    async with serving(max_connections=1) as server:
        server.asker.hold = True
        reader, writer = await server.connect()
        writer.write(ask("a"))
        while not server.asker.waiting:
            await asyncio.sleep(0)
        late_reader, late_writer = await server.connect()
        with pytest.raises((ConnectionError, AssertionError)):
            assert await within(late_reader.read()) != b""
        assert server.listener.refused == 1
        server.asker.release()
        assert await within(reader.readexactly(7)) == reply_for("a")
        writer.close()
        late_writer.close()


async def test_idle_and_half_spoken_clients_are_swept() -> None:
    async with serving() as server:
        idle_reader, idle_writer = await server.connect()
        half_reader, half_writer = await server.connect()
        half_writer.write(b"20:sts hal")
        await half_writer.drain()
        while len(server.listener.connections) < 2:
            await asyncio.sleep(0)
        server.listener.sweep()
        server.listener.sweep()
        for reader in (idle_reader, half_reader):
            with contextlib.suppress(ConnectionResetError):
                assert await within(reader.read()) == b""
        idle_writer.close()
        half_writer.close()


async def test_draining_answers_what_was_asked_then_sends_eof() -> None:
    async with serving() as server:
        server.asker.hold = True
        busy_reader, busy_writer = await server.connect()
        idle_reader, idle_writer = await server.connect()
        busy_writer.write(ask("busy"))
        while not server.asker.waiting:
            await asyncio.sleep(0)
        server.listener.drain()
        assert await within(idle_reader.read()) == b""
        idle_writer.write(ask("late"))  # on its way when the EOF came: no reset, no answer
        await idle_writer.drain()
        server.asker.release()
        assert await within(busy_reader.read()) == reply_for("busy")
        busy_writer.close()
        idle_writer.close()
        await within(server.listener.empty.wait())


async def test_a_client_that_goes_away_harms_nobody() -> None:
    async with serving() as server:
        server.asker.hold = True
        _, writer = await server.connect()
        writer.write(ask("gone"))
        while not server.asker.waiting:
            await asyncio.sleep(0)
        writer.transport.abort()
        await asyncio.sleep(0)
        server.asker.release()
        await within(server.listener.empty.wait())


async def test_a_client_that_reads_nothing_is_not_read_from() -> None:
    """Several requests to a segment take the slower road, which has to know of it, too."""
    async with serving() as server:
        reply = netstring.encode(b"OK " + b"x" * 50_000)
        server.listener.answers.put(b"sts", b"a", "a", reply, [0], 1e9)
        client = socket.create_connection(("127.0.0.1", server.port))
        client.setblocking(False)
        sent = 0
        loop = asyncio.get_running_loop()
        while not server.listener.connections:
            await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            while sent < 4_000_000:
                async with asyncio.timeout(0.5):
                    await loop.sock_sendall(client, ask("a") * 100)
                    await asyncio.sleep(0)
                sent += 100 * len(ask("a"))
        (connection,) = server.listener.connections
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < 10_000_000
        server.listener.sweep()
        server.listener.sweep()
        await within(server.listener.empty.wait())
        client.close()


async def test_one_segment_full_of_requests_is_taken_up_bit_by_bit() -> None:
    async with serving() as server:
        server.asker.hold = True
        keys = [f"k{number}" for number in range(1000)]
        reader, writer = await server.connect()
        writer.write(b"".join(map(ask, keys)))
        writer.write_eof()
        expected = b"".join(map(reply_for, keys))
        reading = asyncio.create_task(reader.read())
        while not reading.done():
            assert len(server.asker.waiting) <= MAX_PENDING
            server.asker.release()
            await asyncio.sleep(0)
        assert reading.result() == expected
        writer.close()


async def test_a_silent_connection_makes_room_before_a_busy_old_one() -> None:
    async with serving(max_connections=2) as server:
        old_reader, old_writer = await server.connect()
        silent_reader, silent_writer = await server.connect()
        while len(server.listener.connections) < 2:
            await asyncio.sleep(0)
        server.listener.sweep()
        old_writer.write(ask("a"))
        assert await within(old_reader.readexactly(7)) == reply_for("a")
        new_reader, new_writer = await server.connect()
        assert await within(silent_reader.read()) == b""
        for reader, writer in ((old_reader, old_writer), (new_reader, new_writer)):
            writer.write(ask("b"))
            assert await within(reader.readexactly(7)) == reply_for("b")
            writer.close()
        silent_writer.close()


def ruling(level: Level, *mx: str) -> Ruling:
    decision = simple_decision("d.example", level, "enforce")
    from dataclasses import replace

    return Ruling(replace(decision, allowed_mx=mx), 10.0, "d.example")


def test_observe_says_notfound_and_counts_what_it_would_have_said() -> None:
    listener = Listener(
        "o", dialect="postfix", profile=ListenerProfile(), asker=Asker(), observe=True
    )
    reply, counter = listener.finish(ruling(Level.SECURE, "mx.d.example"))
    assert reply == NOTFOUND
    assert counter is listener.counters["secure"]


@pytest.mark.parametrize("dialect", ["postfix", "postfix-tlsrpt", "sendmail", "exim"])
def test_what_cannot_be_said_is_never_said_weaker(dialect: str) -> None:
    listener = Listener("x", dialect=dialect, profile=ListenerProfile(), asker=Asker())
    reply, counter = listener.finish(ruling(Level.SECURE, "mx evil=1"))
    assert reply.split(b":", 1)[1].startswith(b"TEMP ")
    assert counter is listener.counters["defer"]


@settings(max_examples=30, deadline=None)
@given(
    keys=st.lists(st.sampled_from(["a", "bb", "kept", "c.example"]), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_any_chunking_gives_the_same_replies(keys: list[str], cuts: list[int]) -> None:
    async def run() -> None:
        async with serving() as server:
            server.listener.answers.put(b"sts", b"kept", "kept", reply_for("kept"), [0], 1e9)
            stream = b"".join(ask(key) for key in keys)
            reader, writer = await server.connect()
            position = 0
            for cut in sorted({c for c in cuts if c < len(stream)} | {len(stream)}):
                writer.write(stream[position:cut])
                await writer.drain()
                await asyncio.sleep(0)
                position = cut
            expected = b"".join(reply_for(key) for key in keys)
            assert await within(reader.readexactly(len(expected))) == expected
            writer.close()

    asyncio.run(run())
