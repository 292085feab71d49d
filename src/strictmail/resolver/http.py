# SPDX-License-Identifier: Apache-2.0
"""The resolver's part of the HTTP listener: decisions for MTAs without socketmap, its metrics.

It shows which domains are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from strictmail.core.decision import Level, ListenerProfile
from strictmail.core.errors import StoreError
from strictmail.resolver.documents import DecisionDocument, decision_paths, encode_decision
from strictmail.runtime.operations import DEFAULT_BODY_BYTES
from strictmail.runtime.web import Request, Response, Route, error_response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from strictmail.resolver.engine import Engine
    from strictmail.resolver.role import Bridge
    from strictmail.resolver.socketmap import Listener
    from strictmail.runtime.metrics import Metrics, Reading

DEFAULT_LEVELS: Final = (Level.MAY, Level.ENCRYPT, Level.DANE, Level.DANE_ONLY, Level.SECURE)

_ENGINE_COUNTS: Final[Mapping[str, str]] = {
    "strictmail_record_lookups_total": "record_lookups",
    "strictmail_mx_lookups_total": "mx_lookups",
    "strictmail_policy_fetches_total": "policy_fetches",
    "strictmail_late_answers_total": "late",
}


class ResolverWeb:
    """The resolver's routes and metrics (`strictmail.runtime.operations.WebPart`).

    Args:
        bridge: The road to the engine.
    """

    schemas: Sequence[type] = (DecisionDocument,)
    max_body_bytes = DEFAULT_BODY_BYTES

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._failing: tuple[int, float | None] = (0, None)
        self.routes: Sequence[Route] = (Route("GET", "/v1/decision/{nexthop}", self._decision),)

    async def _decision(self, request: Request) -> Response:
        profile = _profile(request.query)
        if isinstance(profile, str):
            return error_response(400, profile)
        ruling = await self._bridge.rule(request.params["nexthop"], profile)
        return Response(encode_decision(ruling.decision), content_type="application/json")

    def degraded(self) -> list[str]:
        """What does not work as it should."""
        engine = self._bridge.engine
        lines = []
        if engine.store_failing:
            lines.append("store unavailable: answers come from memory")
        if not engine.resolver.validates and any(x.profile.dane for x in self._bridge.listeners):
            lines.append("resolver does not validate: DANE is off")
        return lines

    def paths(self, schema: Callable[[type], dict[str, Any]]) -> dict[str, Any]:
        """The description of the routes."""
        return decision_paths(schema)

    async def before_scrape(self) -> None:
        """Count failing policies, which is the engine's to do."""
        self._failing = await self._bridge.on_engine(lambda: count_failing(self._bridge.engine))

    # ---- metrics ------------------------------------------------------------------------

    def register(self, metrics: Metrics) -> None:
        """Register what the engine and the listeners count."""
        register = metrics.register
        engine = self._bridge.engine
        for name, group in _ENGINE_COUNTS.items():
            register(name, lambda group=group: _group(engine, group))  # type: ignore[misc]
        register("strictmail_internal_errors_total", lambda: engine.counts["internal_errors", ""])
        register("strictmail_answers_total", self._answers)
        register("strictmail_connections", self._of_listeners(lambda x: len(x.connections)))
        register("strictmail_connections_total", self._of_listeners(lambda x: x.accepted))
        register("strictmail_connections_refused_total", self._of_listeners(lambda x: x.refused))
        register("strictmail_client_errors_total", self._of_listeners(lambda x: x.client_errors))
        register("strictmail_hot_replies", self._of_listeners(lambda x: len(x.answers)))
        register("strictmail_cached_policies", self._cached)
        register("strictmail_failing_policies", lambda: self._failing[0])
        register("strictmail_failing_policy_days_left", self._days_left)
        register("strictmail_overrides", engine.active_override_count)
        register("strictmail_store_available", lambda: 0 if engine.store_failing else 1)
        register("strictmail_resolver_validates", lambda: 1 if engine.resolver.validates else 0)

    def _answers(self) -> dict[tuple[str, ...], float]:
        return {
            (listener.name, level): counter[0]
            for listener in self._bridge.listeners
            for level, counter in listener.counters.items()
        }

    def _of_listeners(self, read: Callable[[Listener], int]) -> Callable[[], Reading]:
        return lambda: {listener.name: read(listener) for listener in self._bridge.listeners}

    def _cached(self) -> Reading:
        return self._bridge.engine.cached_count

    def _days_left(self) -> Reading:
        days = self._failing[1]
        return {} if days is None else days


def _group(engine: Engine, group: str) -> dict[str, float]:
    return {label: count for (name, label), count in list(engine.counts.items()) if name == group}


async def count_failing(engine: Engine) -> tuple[int, float | None]:
    """How many unexpired policies fail to refresh, and days to the first expiry (STS-FET-39)."""
    try:
        count, first = await engine.count_failing()
    except StoreError:
        return 0, None
    if first is None:
        return count, None
    return count, (first - engine.clock.now()).total_seconds() / 86400


def _profile(query: Mapping[str, str]) -> ListenerProfile | str:
    """The profile that a query asks for, or what is wrong with it."""
    dane = query.get("dane", "no")
    if dane not in ("yes", "no"):
        return "dane is yes or no"
    level = query.get("default_level", "may")
    if level not in DEFAULT_LEVELS:
        return f"default_level is one of {', '.join(DEFAULT_LEVELS)}"
    unknown = sorted(set(query) - {"dane", "default_level"})
    if unknown:
        return "only dane and default_level can be asked for"
    return ListenerProfile(Level(level), dane == "yes")
