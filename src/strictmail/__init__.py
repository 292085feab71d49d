# SPDX-License-Identifier: Apache-2.0
"""SMTP Strict Transport Security at both ends: verified TLS, or the mail does not travel.

The names of `strictmail.api` can be imported from here; they are loaded when first used.
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

__all__ = [
    "Client",
    "Decision",
    "DecisionSettings",
    "Discovery",
    "Level",
    "ListenerProfile",
    "decide",
    "discover_sync",
    "explain",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("strictmail.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
