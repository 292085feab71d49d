# SPDX-License-Identifier: Apache-2.0
"""Every input that a fuzz target ever kept, and every seed, is replayed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.py"))


def _target(name: str) -> Any:
    if str(FUZZ) not in sys.path:
        sys.path.append(str(FUZZ))
    return importlib.import_module(f"fuzz_{name}")


def _kept() -> list[Any]:
    return [
        pytest.param(name, path, id=f"{name}-{path.name}")
        for name in TARGETS
        for path in sorted((FUZZ / "corpus" / name).glob("*"))
    ]


@pytest.mark.parametrize(("name", "path"), _kept())
@pytest.mark.req("SEC-42")
def test_kept_input(name: str, path: Path) -> None:
    _target(name).check(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.req("SEC-42")
def test_seeds(name: str) -> None:
    target = _target(name)
    seeds = list(target.seeds())
    assert seeds
    for data in seeds:
        target.check(data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_states_its_invariant(name: str) -> None:
    first_line = (_target(name).__doc__ or "").splitlines()[0]
    assert first_line.endswith(".")


def test_every_corpus_has_a_target() -> None:
    corpora = {path.name for path in (FUZZ / "corpus").iterdir()}
    assert corpora <= set(TARGETS)
