# SPDX-License-Identifier: Apache-2.0
"""SMTP Strict Transport Security at both ends: verified TLS, or the mail does not travel.

The names of `strictmail.api`, of `strictmail.checker.client` and of `strictmail.sessionclient` can
be imported from here; they are loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from strictmail.api import (
        Client,
        Decision,
        DecisionSettings,
        Discovery,
        Level,
        ListenerProfile,
        decide,
        discover_sync,
        explain,
    )
    from strictmail.checker.client import CheckClient, CheckOptions, check
    from strictmail.core.check.result import CheckResult
    from strictmail.core.tlsrpt.results import PolicyType, ResultType
    from strictmail.core.tlsrpt.session import JudgedPolicy, Session, make_detail, make_policy
    from strictmail.core.tlsrpt.sessionjson import TimedSession
    from strictmail.sessionclient import report_sessions

__all__ = [
    "CheckClient",
    "CheckOptions",
    "CheckResult",
    "Client",
    "Decision",
    "DecisionSettings",
    "Discovery",
    "JudgedPolicy",
    "Level",
    "ListenerProfile",
    "PolicyType",
    "ResultType",
    "Session",
    "TimedSession",
    "check",
    "decide",
    "discover_sync",
    "explain",
    "make_detail",
    "make_policy",
    "report_sessions",
]


_ELSEWHERE = {
    "CheckClient": "strictmail.checker.client",
    "CheckOptions": "strictmail.checker.client",
    "CheckResult": "strictmail.core.check.result",
    "JudgedPolicy": "strictmail.core.tlsrpt.session",
    "PolicyType": "strictmail.core.tlsrpt.results",
    "ResultType": "strictmail.core.tlsrpt.results",
    "Session": "strictmail.core.tlsrpt.session",
    "TimedSession": "strictmail.core.tlsrpt.sessionjson",
    "check": "strictmail.checker.client",
    "make_detail": "strictmail.core.tlsrpt.session",
    "make_policy": "strictmail.core.tlsrpt.session",
    "report_sessions": "strictmail.sessionclient",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = _ELSEWHERE.get(name, "strictmail.api")
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
