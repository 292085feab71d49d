# SPDX-License-Identifier: Apache-2.0
"""The fuzz harness finds a planted fault, keeps the input, and says how it went."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"


@pytest.fixture(name="harness")
def _harness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(FUZZ)
    import harness

    monkeypatch.setattr(harness, "FINDINGS_DIRECTORY", tmp_path / "findings")
    monkeypatch.setattr(harness, "CORPUS_DIRECTORY", tmp_path / "corpus")
    return harness


def _set_arguments(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz_demo.py", "--engine", "mutate", *arguments])


def test_no_finding(
    harness: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[bytes] = []
    _set_arguments(monkeypatch, "--runs", "50")
    with pytest.raises(SystemExit) as ended:
        harness.run(seen.append, [b"one", b"two"])
    assert ended.value.code == 0
    assert seen[:2] == [b"one", b"two"]
    assert len(seen) == 50
    assert all(len(data) <= harness.MAX_INPUT_BYTES for data in seen)
    out = capsys.readouterr().out.splitlines()
    assert out == ["demo: 50 executions from 2 inputs (mutate)", "no finding"]


def test_a_finding_is_kept(
    harness: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(data: bytes) -> None:
        if b";" in data:
            raise ValueError("planted")

    _set_arguments(monkeypatch, "--runs", "100000", "--seed", "3")
    with pytest.raises(SystemExit) as ended:
        harness.run(check, [b"abc"])
    assert ended.value.code == 1
    assert "no finding" not in capsys.readouterr().out
    (kept,) = harness.FINDINGS_DIRECTORY.iterdir()
    assert kept.name.startswith("demo-")
    assert b";" in kept.read_bytes()


def test_the_corpus_is_part_of_the_start(
    harness: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = harness.CORPUS_DIRECTORY / "demo"
    directory.mkdir(parents=True)
    (directory / "b").write_bytes(b"second")
    (directory / "a").write_bytes(b"first")
    seen: list[bytes] = []
    _set_arguments(monkeypatch, "--runs", "3")
    with pytest.raises(SystemExit):
        harness.run(seen.append, [b"seed"])
    assert seen == [b"seed", b"first", b"second"]


def test_the_same_seed_gives_the_same_inputs(
    harness: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[list[bytes]] = []
    for seed in ("5", "5", "6"):
        seen: list[bytes] = []
        _set_arguments(monkeypatch, "--runs", "200", "--seed", seed)
        with pytest.raises(SystemExit):
            harness.run(seen.append, [b"v=STSv1; id=1"])
        runs.append(seen)
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
