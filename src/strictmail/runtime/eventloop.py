# SPDX-License-Identifier: Apache-2.0
"""The event loop that everything runs on."""

from __future__ import annotations

import asyncio
import sys


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop's where it is installed, else asyncio's own."""
    if sys.platform == "linux":
        try:
            import uvloop
        except ImportError:
            return asyncio.new_event_loop()
        return uvloop.new_event_loop()
    return asyncio.new_event_loop()
