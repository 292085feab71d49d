# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/session` and its Python client, on a real listener."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.service.collector.world import NEVER, FakeClock, Log, totals

import strictmail
from strictmail.collector.http import CollectorWeb
from strictmail.collector.role import Collector
from strictmail.core.errors import SessionSyntaxError, StoreUnavailableError, UnreachableError
from strictmail.core.names import parse_domain
from strictmail.core.tlsrpt.sessionjson import MAX_BODY_BYTES
from strictmail.runtime.operations import OperationsHttp, openapi
from strictmail.store.sessions import SessionStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

POLICY = {"policy-type": "no-policy-found", "result": "success"}
ONE = {"sessions": [{"domain": "example.com", "policies": [POLICY]}]}


@dataclass
class Server:
    """A collector with an HTTP listener on TCP and one on a unix socket."""

    collector: Collector
    store: SessionStore
    place: tuple[str, int]
    path: Path

    @property
    def daemon(self) -> str:
        return f"http://{self.place[0]}:{self.place[1]}"

    async def post(self, body: bytes, *headers: str, length: int | None = None) -> tuple[int, Any]:
        reader, writer = await asyncio.open_connection(*self.place)
        head = ["POST /v1/session HTTP/1.1", "Host: x", f"Content-Length: {length or len(body)}"]
        writer.write("\r\n".join([*head, *headers, "Connection: close", "", ""]).encode() + body)
        answer = await reader.read()
        writer.close()
        status = int(answer.split(b" ", 2)[1])
        return status, json.loads(answer.partition(b"\r\n\r\n")[2] or b"null")

    async def tell(self, document: object, *headers: str) -> tuple[int, Any]:
        return await self.post(json.dumps(document).encode(), *headers)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    store = SessionStore(tmp_path / "reports.sqlite3")
    clock = FakeClock(datetime.now(UTC))
    collector = Collector(store, [], clock=clock, events=Log())
    await collector.start()
    listening = socket.create_server(("127.0.0.1", 0))
    path = tmp_path / "http.sock"
    local = socket.socket(socket.AF_UNIX)
    local.bind(str(path))
    local.listen(8)
    http = OperationsHttp(
        [CollectorWeb(collector, {"brand"})],
        is_ready=lambda: True,
        on_error=lambda error: pytest.fail(str(error)),
    )
    place = listening.getsockname()
    for one in (listening, local):
        one.setblocking(False)
        await http.start(one)
    yield Server(collector, store, place, path)
    await http.close()
    await collector.stop()
    store.close()


async def test_sessions_are_counted_and_stored(server: Server) -> None:
    failure = {
        "policy-type": "sts",
        "policy-string": ["mode: enforce"],
        "result": "failure",
        "failure-details": [{"result-type": "certificate-expired"}],
    }
    document = {
        "sessions": [
            {"domain": "example.com", "policies": [POLICY], "count": 4},
            {"domain": "Example.ORG", "policies": [failure]},
        ]
    }
    assert await server.tell(document) == (200, {"counted": 5, "repeated": False})
    assert totals(server.store) == {"example.com": (4, 0), "example.org": (0, 1)}


async def test_a_request_with_a_key_counts_once(server: Server) -> None:
    key = "Idempotency-Key: 4711"
    assert (await server.tell(ONE, key))[1] == {"counted": 1, "repeated": False}
    assert (await server.tell(ONE, key))[1] == {"counted": 0, "repeated": True}
    assert (await server.tell(ONE, "Idempotency-Key: 4712"))[1]["counted"] == 1
    assert (await server.tell(ONE | {"identity": "brand"}, key))[1]["counted"] == 1
    status, answer = await server.tell(ONE | {"identity": "nobody"})
    assert (status, answer["error"]["member"]) == (400, "/identity")
    status, answer = await server.tell(ONE, f"Idempotency-Key: {'x' * 256}")
    assert (status, "Idempotency-Key" in answer["error"]["message"]) == (400, True)
    assert totals(server.store) == {"example.com": (3, 0)}


async def test_what_is_refused_names_the_member_and_counts_nothing(server: Server) -> None:
    document = {"sessions": [*ONE["sessions"], {"domain": "example.com", "policies": [{}]}]}
    status, answer = await server.tell(document)
    assert status == 400
    assert answer["error"]["member"].startswith("/sessions/1/policies/0")
    assert totals(server.store) == {}


async def test_a_body_is_bounded(server: Server) -> None:
    assert (await server.post(b"", length=MAX_BODY_BYTES + 1))[0] == 413


async def test_a_store_that_fails_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StoreUnavailableError("full")

    monkeypatch.setattr(server.store, "add", fail)
    status, answer = await server.tell(ONE)
    assert (status, answer["error"]["status"]) == (503, 503)
    with pytest.raises(StoreUnavailableError):
        await asyncio.to_thread(strictmail.report_sessions, [session()], daemon=server.daemon)


def session(**changes: Any) -> strictmail.Session:
    domain = parse_domain("example.com")
    policy = strictmail.make_policy(
        strictmail.PolicyType.STS, domain, ["mode: testing"], domain=domain
    )
    judged = (strictmail.JudgedPolicy(policy, succeeded=True),)
    return strictmail.Session(domain, "", **({"policies": judged} | changes))


async def test_the_python_client(server: Server) -> None:
    def tell(**options: Any) -> int:
        return strictmail.report_sessions([session(), session()], **options)

    assert await asyncio.to_thread(tell, daemon=server.daemon, key="k") == 2
    assert await asyncio.to_thread(tell, daemon=server.daemon, key="k") == 0
    assert await asyncio.to_thread(tell, daemon=f"unix:{server.path}") == 2
    assert totals(server.store) == {"example.com": (4, 0)}
    (which,) = [one for _, one in server.store.unreported(NEVER)]
    assert [str(source) for source in server.store.load(which).sources] == ["python"]


async def test_the_python_client_says_what_is_wrong(server: Server) -> None:
    timed = strictmail.TimedSession(session(), datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(SessionSyntaxError) as refused:
        await asyncio.to_thread(strictmail.report_sessions, [timed], daemon=server.daemon)
    assert refused.value.place == "/sessions/0/time"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        place = closed.getsockname()
    with pytest.raises(UnreachableError, match="no answer of a strictmail daemon"):
        await asyncio.to_thread(
            strictmail.report_sessions, [session()], daemon=f"http://127.0.0.1:{place[1]}"
        )


def test_the_route_is_described(server: Server) -> None:
    described = openapi([CollectorWeb(server.collector)])
    operation = described["paths"]["/v1/session"]["post"]
    assert {"200", "400", "413", "503"} <= set(operation["responses"])
    schemas = described["components"]["schemas"]
    assert set(schemas["SessionPolicyDocument"]["properties"]) >= {"policy-type", "mx-host"}
