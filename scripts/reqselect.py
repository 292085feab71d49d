# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: `-p scripts.reqselect --req ID` keeps only the tests marked with that requirement."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--req", action="append", default=[], help="only tests marked with this requirement id"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop the others."""
    wanted = set(config.getoption("--req"))
    if wanted:
        items[:] = [
            item
            for item in items
            if any(wanted.intersection(mark.args) for mark in item.iter_markers("req"))
        ]
