# SPDX-License-Identifier: Apache-2.0
"""SMTP Strict Transport Security at both ends: verified TLS, or the mail does not travel.

The names of `strictmail.api` and of `strictmail.checker.client` can be imported from here; they
are loaded when first used.
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

__all__ = [
    "CheckClient",
    "CheckOptions",
    "CheckResult",
    "Client",
    "Decision",
    "DecisionSettings",
    "Discovery",
    "Level",
    "ListenerProfile",
    "check",
    "decide",
    "discover_sync",
    "explain",
]


_ELSEWHERE = {
    "CheckClient": "strictmail.checker.client",
    "CheckOptions": "strictmail.checker.client",
    "CheckResult": "strictmail.core.check.result",
    "check": "strictmail.checker.client",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = _ELSEWHERE.get(name, "strictmail.api")
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
