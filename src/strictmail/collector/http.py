# SPDX-License-Identifier: Apache-2.0
"""The collector's part of the HTTP listener: `POST /v1/session`, and its metrics."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from strictmail.collector.role import ToldSession
from strictmail.core.errors import SessionSyntaxError, StoreError
from strictmail.core.tlsrpt.sessionjson import MAX_BODY_BYTES, SessionsDocument, decode_sessions
from strictmail.runtime.operations import ErrorDocument, describe_answer
from strictmail.runtime.web import Request, Response, Route, error_response, json_response

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from strictmail.collector.role import Collector
    from strictmail.runtime.metrics import Metrics

KEY_HEADER: Final = "idempotency-key"
RETRY_SECONDS: Final = "5"

_KEY: Final = re.compile(r"[!-~]{1,255}")


class SessionErrorInfo(msgspec.Struct):
    """The status once more, a sentence, and a JSON pointer to the member at fault."""

    status: int
    message: str
    member: str


class SessionErrorDocument(msgspec.Struct):
    """Why sessions were refused: none of them was counted."""

    error: SessionErrorInfo


class CountedDocument(msgspec.Struct):
    """How many sessions were counted now; none if all were counted before under the same key."""

    counted: int
    repeated: bool


class CollectorWeb:
    """The collector's routes and metrics (`strictmail.runtime.operations.WebPart`).

    Args:
        collector: Who counts.
        identities: Sender identities that there are, beside the nameless one; may change.
    """

    schemas: Sequence[type] = (SessionsDocument, CountedDocument, SessionErrorDocument)
    max_body_bytes = MAX_BODY_BYTES

    def __init__(self, collector: Collector, identities: Collection[str] = ()) -> None:
        self._collector = collector
        self._identities = identities
        self.routes: Sequence[Route] = (Route("POST", "/v1/session", self._count),)

    async def _count(self, request: Request) -> Response:
        given = dict(request.headers).get(KEY_HEADER)
        if given is not None and not _KEY.fullmatch(given):
            return error_response(400, "Idempotency-Key: 1 to 255 printable ASCII characters")
        now = self._collector.clock.now()
        try:
            told = decode_sessions(request.body, now)
        except SessionSyntaxError as error:
            return refusal(error)
        if told.identity and told.identity not in self._identities:
            # Nobody would ever report them.
            message = "there is no [[identity]] of this name in the configuration"
            return refusal(SessionSyntaxError(message, place="/identity"))
        sessions = [
            ToldSession((one.when or now).date(), one.session, one.times) for one in told.sessions
        ]
        name = f"{told.identity} {given}".encode()
        key = hashlib.sha256(name).digest()[:16] if given is not None else None
        try:
            added = await self._collector.add(
                sessions, source=told.source, identity=told.identity, key=key
            )
        except StoreError:
            message = "the session store cannot be written; nothing was counted: try again"
            return error_response(503, message, (("Retry-After", RETRY_SECONDS),))
        counted = sum(one.times for one in sessions) if added else 0
        return json_response({"counted": counted, "repeated": not added})

    def degraded(self) -> list[str]:
        """What does not work as it should."""
        lines = []
        if self._collector.store_failing:
            lines.append("session store unavailable: counts wait in memory")
        if self._collector.undrained:
            lines.append("a TLSRPT socket is not drained: sessions are lost")
        if self._collector.rejected["shed"]:
            lines.append("datagrams were shed: more came than could be counted")
        return lines

    async def before_scrape(self) -> None:
        """Nothing: all numbers lie ready."""

    def register(self, metrics: Metrics) -> None:
        """Register what the collector counts."""
        collector = self._collector
        register = metrics.register
        register("strictmail_sessions_total", lambda: dict(collector.tally.sessions))
        register("strictmail_datagrams_total", lambda: collector.received)
        register("strictmail_datagrams_refused_total", lambda: dict(collector.rejected))
        register("strictmail_sessions_unsaved", lambda: collector.unsaved)
        register("strictmail_session_commits_total", lambda: collector.commits)
        register("strictmail_drainer_restarts_total", lambda: collector.restarts)
        register("strictmail_session_store_available", lambda: 0 if collector.store_failing else 1)

    def paths(self, schema: Callable[[type], dict[str, Any]]) -> dict[str, Any]:
        """The description of the route."""
        return {
            "/v1/session": {
                "post": {
                    "operationId": "reportSessions",
                    "summary": "Count SMTP sessions of an MTA that sends no TLSRPT datagrams.",
                    "parameters": [
                        {
                            "name": "Idempotency-Key",
                            "in": "header",
                            "required": False,
                            "description": "A name of this request, of your choice: sent again "
                            "under it, nothing is counted twice.",
                            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                        }
                    ],
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": schema(SessionsDocument)}},
                    },
                    "responses": {
                        "200": describe_answer(
                            "All of them are counted and stored.", schema(CountedDocument)
                        ),
                        "400": describe_answer(
                            "Refused: nothing was counted.", schema(SessionErrorDocument)
                        ),
                        "413": describe_answer(
                            "Longer than 1 MiB: send several.", schema(ErrorDocument)
                        ),
                        "503": describe_answer(
                            "The store cannot be written: nothing was counted, try again.",
                            schema(ErrorDocument),
                        ),
                    },
                }
            }
        }


def refusal(error: SessionSyntaxError) -> Response:
    """The answer to a document that cannot be counted."""
    info = SessionErrorInfo(400, str(error), error.place)
    return json_response({"error": msgspec.to_builtins(info)}, 400)
