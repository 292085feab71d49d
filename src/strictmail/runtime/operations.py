# SPDX-License-Identifier: Apache-2.0
"""The HTTP listener of a daemon: what its roles serve, and what every daemon shows of itself.

Metrics, health, readiness and the description of it all are the same for every role; each role
adds a part (`WebPart`). For a trusted network: there is no authentication, and it listens on
loopback by default.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from strictmail import __version__
from strictmail.runtime.metrics import CONTENT_TYPE, Metrics
from strictmail.runtime.web import HttpServer, Limits, Request, Response, Route

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

DEFAULT_BODY_BYTES: Final = 64 * 1024
"""Of a request, where no role takes more."""


class ErrorInfo(msgspec.Struct):
    """The status once more, and a sentence."""

    status: int
    message: str


class ErrorDocument(msgspec.Struct):
    """Why a request was refused."""

    error: ErrorInfo


class WebPart(Protocol):
    """What one role adds.

    Attributes:
        routes: Its own; no two roles have the same.
        schemas: The documents of its routes, for the description.
        max_body_bytes: The longest request that it takes.
    """

    routes: Sequence[Route]
    schemas: Sequence[type]
    max_body_bytes: int

    def register(self, metrics: Metrics) -> None:
        """Register what it counts; called once."""
        ...

    async def before_scrape(self) -> None:
        """Read what a metric cannot read by itself."""
        ...

    def degraded(self) -> Sequence[str]:
        """What does not work as it should, each in a line; the role goes on all the same."""
        ...

    def paths(self, schema: Callable[[type], dict[str, Any]]) -> dict[str, Any]:
        """The description of its routes (OpenAPI 3.1).

        Args:
            schema: The reference to a document among `schemas`, or to ErrorDocument.
        """
        ...


class OperationsHttp:
    """Serves the parts of all roles on one socket.

    Args:
        parts: What the roles add.
        is_ready: Whether work is taken.
        on_error: Told of exceptions in handlers.
    """

    def __init__(
        self,
        parts: Sequence[WebPart],
        *,
        is_ready: Callable[[], bool],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._parts = parts
        self._is_ready = is_ready
        self._metrics = Metrics()
        for part in parts:
            part.register(self._metrics)
        self._server = HttpServer(
            routes=(
                *(route for part in parts for route in part.routes),
                Route("GET", "/v1/openapi.json", self._openapi),
                Route("GET", "/metrics", self._show_metrics),
                Route("GET", "/healthz", self._healthz),
                Route("GET", "/readyz", self._readyz),
            ),
            limits=Limits(
                max_body_bytes=max((DEFAULT_BODY_BYTES, *(part.max_body_bytes for part in parts)))
            ),
            on_error=on_error,
        )

    async def start(self, listening: socket.socket) -> None:
        """Serve on a listening socket; it is closed with the server."""
        await self._server.listen(listening)

    async def close(self) -> None:
        """Finish what goes on and close."""
        await self._server.close()

    # ---- handlers -----------------------------------------------------------------------

    async def _openapi(self, _request: Request) -> Response:
        return Response(json.dumps(openapi(self._parts)).encode(), content_type="application/json")

    async def _healthz(self, _request: Request) -> Response:
        return Response(b"ok\n")

    async def _readyz(self, _request: Request) -> Response:
        if not self._is_ready():
            return Response(b"draining\n", 503)
        degraded = [line for part in self._parts for line in part.degraded()]
        return Response("\n".join(["ready", *degraded, ""]).encode())

    async def _show_metrics(self, _request: Request) -> Response:
        for part in self._parts:
            await part.before_scrape()
        return Response(self._metrics.render(), content_type=CONTENT_TYPE)


def describe_answer(text: str, schema: dict[str, Any], media_type: str = "") -> dict[str, Any]:
    """One response of an OpenAPI description; JSON where nothing else is said."""
    return {
        "description": text,
        "content": {media_type or "application/json": {"schema": schema}},
    }


def openapi(parts: Sequence[WebPart]) -> dict[str, Any]:
    """The OpenAPI 3.1 description of a listener with these parts."""
    documents = [ErrorDocument, *(schema for part in parts for schema in part.schemas)]
    references, components = msgspec.json.schema_components(
        documents, ref_template="#/components/schemas/{name}"
    )
    by_type = dict(zip(documents, references, strict=True))
    paths: dict[str, Any] = {}
    for part in parts:
        paths |= part.paths(by_type.__getitem__)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "strictmail",
            "version": __version__,
            "license": {"name": "Apache-2.0"},
        },
        "paths": paths | _COMMON_PATHS,
        "components": {"schemas": components},
    }


_TEXT: Final = {"type": "string"}
_COMMON_PATHS: Final[dict[str, Any]] = {
    "/v1/openapi.json": {
        "get": {
            "operationId": "describe",
            "summary": "This description.",
            "responses": {"200": describe_answer("OpenAPI 3.1.", {"type": "object"})},
        }
    },
    "/metrics": {
        "get": {
            "operationId": "metrics",
            "summary": "Metrics in the Prometheus text format.",
            "responses": {"200": describe_answer("Metrics.", _TEXT, "text/plain")},
        }
    },
    "/healthz": {
        "get": {
            "operationId": "health",
            "summary": "Whether the process answers at all.",
            "responses": {"200": describe_answer("It does.", _TEXT, "text/plain")},
        }
    },
    "/readyz": {
        "get": {
            "operationId": "readiness",
            "summary": "Whether it takes work.",
            "responses": {
                "200": describe_answer(
                    "It does; further lines tell what is degraded.", _TEXT, "text/plain"
                ),
                "503": describe_answer("Starting or draining.", _TEXT, "text/plain"),
            },
        }
    },
}
