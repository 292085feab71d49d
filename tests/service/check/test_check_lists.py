# SPDX-License-Identifier: Apache-2.0
"""`strictmail check --from LIST`: how a run over a list ends, faulty lines included.

The command as it is, in this process, over a lab in a thread of its own.
"""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Final

import pytest

from strictmail.cli import run
from strictmail.lab.net import Lab
from strictmail.lab.zoo import ZOO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

NAMES: Final = frozenset({"good", "both", "both-partial", "mx-expired"})
GOOD, ALSO_GOOD = "good.plain.test", "both.signed.test"
WARNED: Final = "both-partial.signed.test"
CRITICAL: Final = "mx-expired.plain.test"
READY_SECONDS: Final = 60


@pytest.fixture(scope="module", name="options")
def _options() -> Iterator[list[str]]:
    """The options of a check that lead it into a lab."""
    up = threading.Event()
    found: list[Lab] = []
    loop = asyncio.new_event_loop()
    down = asyncio.Event()

    async def live() -> None:
        async with Lab(zoo=[entry for entry in ZOO if entry.name in NAMES]) as lab:
            found.append(lab)
            up.set()
            await down.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()))
    thread.start()
    assert up.wait(READY_SECONDS)
    (lab,) = found
    host, port = lab.dns_address
    options = ["--resolver", f"{host}:{port}", "--ca-file", str(lab.ca_file)]
    for where in (f":443::{lab.https_port}", f":25::{lab.smtp_port}", f":53:{host}:{port}"):
        options += ["--connect-to", where]
    yield [*options, "--allow-network", "127.0.0.0/8", "--quiet"]
    loop.call_soon_threadsafe(down.set)
    thread.join(READY_SECONDS)
    loop.close()


def check(directory: Path, options: list[str], text: str, *more: str) -> int:
    source, out = directory / "list", directory / "out.jsonl"
    source.write_text(text, "utf-8")
    return run(["check", "--from", str(source), "--out", str(out), *options, *more])


@pytest.mark.parametrize(
    ("domains", "fail_on", "code"),
    [
        ([GOOD, ALSO_GOOD], "warning", 0),
        ([GOOD, WARNED], "warning", 1),
        ([GOOD, WARNED, CRITICAL], "warning", 2),
        ([GOOD, WARNED], "critical", 0),
        ([GOOD, CRITICAL], "never", 0),
        # Of faulty lines nobody knows: unknown at least.
        (["192.0.2.1", GOOD], "warning", 3),
        (["192.0.2.1", WARNED], "warning", 3),
        (["192.0.2.1", WARNED], "unknown", 3),
        (["192.0.2.1", CRITICAL], "warning", 2),
        (["192.0.2.1", GOOD], "critical", 0),
        (["192.0.2.1", GOOD], "never", 0),
    ],
)
def test_the_exit_code_is_of_the_worst(
    tmp_path: Path, options: list[str], domains: list[str], fail_on: str, code: int
) -> None:
    text = "".join(f"{domain}\n" for domain in domains)
    assert check(tmp_path, options, text, "--fail-on", fail_on) == code


def test_faulty_lines_are_named_and_the_rest_is_checked(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{GOOD}\n\n# a comment\nexa mple.com\n{ALSO_GOOD}\nx@\nhttps://\x1b[31m\n"
    assert check(tmp_path, options, text) == 3
    said = capsys.readouterr().err
    assert "line 4: " in said
    assert "line 6: " in said
    assert "line 7: " in said
    assert "\x1b" not in said
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["domain"] for line in lines} == {GOOD, ALSO_GOOD}


def test_a_run_that_goes_on_ends_as_the_whole(tmp_path: Path, options: list[str]) -> None:
    assert check(tmp_path, options, f"{CRITICAL}\n") == 2
    assert check(tmp_path, options, f"{CRITICAL}\n{GOOD}\n") == 2
    assert check(tmp_path, options, f"{CRITICAL}\n{GOOD}\n") == 2
    assert check(tmp_path, options, f"{CRITICAL}\n{GOOD}\n", "--fail-on", "never") == 0
