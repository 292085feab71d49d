# SPDX-License-Identifier: Apache-2.0
"""The adapters have to behave the same on asyncio's own loop and on uvloop's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "uvloop": uvloop.new_event_loop
    }
    if "not slow" not in config.getoption("markexpr"):  # not in `make test-fast`
        factories["asyncio"] = asyncio.new_event_loop
    return factories
