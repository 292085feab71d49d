# SPDX-License-Identifier: Apache-2.0
"""What people read, held to files that a person has read: `tests/unit/checker/golden/`.

After a change that is meant, write them anew and read the difference:

    UPDATE_GOLDEN=1 .venv/bin/python -m pytest -q tests/unit/checker/render/test_golden.py
    git diff tests/unit/checker/golden
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.unit.checker.samples import SAMPLES

from strictmail.checker.render import render

if TYPE_CHECKING:
    from collections.abc import Callable

    from strictmail.core.check.result import CheckResult

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ALL = [make() for make in SAMPLES.values()]

FILES: dict[str, Callable[[], str]] = {
    **{
        f"{name}.txt": (lambda make=make: render([make()], "text"))  # type: ignore[misc]
        for name, make in SAMPLES.items()
    },
    **{
        f"{name}.md": (lambda make=make: render([make()], "markdown"))  # type: ignore[misc]
        for name, make in SAMPLES.items()
    },
    "broken-60.txt": lambda: render([SAMPLES["broken"]()], "text", width=60),
    "broken-160.txt": lambda: render([SAMPLES["broken"]()], "text", width=160),
    "broken-details-ascii.txt": lambda: render(
        [SAMPLES["broken"]()], "text", ascii_only=True, details=True
    ),
    "broken-colour.txt": lambda: render([SAMPLES["broken"]()], "text", colour=True),
    "one.nagios": lambda: render([SAMPLES["broken"]()], "nagios"),
    "all.nagios": lambda: render(ALL, "nagios"),
    "all.prom": lambda: render(ALL, "prometheus"),
}


@pytest.mark.parametrize("name", FILES)
def test_output_is_as_it_was_read(name: str) -> None:
    path, text = GOLDEN / name, FILES[name]()
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


def test_every_golden_file_is_compared() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(FILES)


def test_samples_are_results_without_faults() -> None:
    names: set[str] = set()
    for result in ALL:
        assert isinstance_of_result(result)
        names.add(result.domain)
    assert len(names) == len(SAMPLES)


def isinstance_of_result(result: CheckResult) -> bool:
    from strictmail.checker.codec import decode, encode

    return decode(encode(result)) == result
