# SPDX-License-Identifier: Apache-2.0
"""Run a fuzz target: with atheris where it is installed, else by a seeded mutational loop.

A target is a file `fuzz/fuzz_<name>.py` whose docstring begins with its invariant, and which has
`check(data: bytes) -> None` (raises when the invariant is broken) and `seeds()`::

    with instrumented():
        from strictmail.core.sts.policy import parse_policy

    if __name__ == "__main__":
        run(check, seeds())

`python fuzz/fuzz_<name>.py --runs 100000 --seed 1` starts from the seeds and from
`fuzz/corpus/<name>/`. It ends with the number of executions and `no finding`, or saves the input
under `fuzz/findings/` and exits with 1. An input that found something is then added to the corpus,
which `tests/property/test_fuzz_corpus.py` replays.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import importlib.util
import json
import mmap
import os
import random
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

FUZZ_DIRECTORY: Final = Path(__file__).resolve().parent
CORPUS_DIRECTORY: Final = FUZZ_DIRECTORY / "corpus"
FINDINGS_DIRECTORY: Final = FUZZ_DIRECTORY / "findings"
VECTORS_DIRECTORY: Final = FUZZ_DIRECTORY.parent / "vectors"

MAX_INPUT_BYTES: Final = 4096
"""Longer inputs find nothing more in these grammars and cost executions."""

HAVE_ATHERIS: Final = importlib.util.find_spec("atheris") is not None


def instrumented() -> contextlib.AbstractContextManager[Any]:
    """Instrument what is imported inside the `with` block, when a target runs under atheris."""
    if HAVE_ATHERIS and Path(sys.argv[0]).name.startswith("fuzz_"):
        manager: contextlib.AbstractContextManager[Any] = _atheris().instrument_imports(
            include=["strictmail"], enable_loader_override=False
        )
        return manager
    return contextlib.nullcontext()


def _atheris() -> ModuleType:
    """The library, which has no types and is not everywhere."""
    return importlib.import_module("atheris")


def corpus(name: str) -> Iterator[tuple[str, bytes]]:
    """The kept inputs of a target, as (file name, bytes), in order of name."""
    directory = CORPUS_DIRECTORY / name
    if directory.is_dir():
        for path in sorted(directory.iterdir()):
            yield path.name, path.read_bytes()


def vector_inputs(*classes: str) -> Iterator[Any]:
    """The `in` values of all shipped vectors of these classes."""
    for path in sorted(VECTORS_DIRECTORY.glob("*.json")):
        for vector in json.loads(path.read_text("utf-8"))["vectors"]:
            if vector["c"] in classes:
                yield vector["in"]


def run(check: Callable[[bytes], None], seeds: Iterable[bytes]) -> None:
    """Fuzz `check` as the command line says, print the outcome, and exit.

    Args:
        check: Raises anything when the invariant is broken.
        seeds: Inputs to start from; the target's corpus is added.

    Raises:
        SystemExit: 0 without a finding, 1 with one (saved under `fuzz/findings/`).
    """
    name = Path(sys.argv[0]).stem.removeprefix("fuzz_")
    arguments = _parse_arguments(name)
    start = [*seeds, *(data for _, data in corpus(name))]
    FINDINGS_DIRECTORY.mkdir(exist_ok=True)
    if arguments.engine == "atheris":
        count, found = _run_atheris(check, start, name, arguments)
    else:
        count, found = _run_mutations(check, start, name, arguments)
    print(f"{name}: {count} executions from {len(start)} inputs ({arguments.engine})")
    if found:
        print(f"finding: see {FINDINGS_DIRECTORY}")
        raise SystemExit(1)
    print("no finding")
    raise SystemExit(0)


def _parse_arguments(name: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"fuzz_{name}.py", description=f"Fuzz target {name}.")
    parser.add_argument("--runs", type=int, default=100_000, help="executions (100000)")
    parser.add_argument("--seed", type=int, default=1, help="of the random generator (1)")
    parser.add_argument("--seconds", type=int, default=0, help="stop after this long (0: never)")
    parser.add_argument(
        "--engine",
        choices=("atheris", "mutate"),
        default="atheris" if HAVE_ATHERIS else "mutate",
        help="coverage-guided, or a plain mutational loop",
    )
    return parser.parse_args()


def _run_atheris(
    check: Callable[[bytes], None], start: list[bytes], name: str, arguments: argparse.Namespace
) -> tuple[int, bool]:
    """Fuzz in a child process (libFuzzer ends the process it runs in); (executions, finding)."""
    shared = mmap.mmap(-1, 8)
    with tempfile.TemporaryDirectory() as directory:
        for number, data in enumerate(start):
            (Path(directory) / f"seed-{number:05}").write_bytes(data)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            _atheris_child(check, shared, directory, name, arguments)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    (count,) = struct.unpack("Q", shared[:8])
    return count, status != 0


def _atheris_child(
    check: Callable[[bytes], None],
    shared: mmap.mmap,
    directory: str,
    name: str,
    arguments: argparse.Namespace,
) -> None:
    atheris = _atheris()
    count = 0

    def test_one_input(data: bytes) -> None:
        nonlocal count
        count += 1
        shared[:8] = struct.pack("Q", count)
        check(data)

    options = [
        sys.argv[0],
        f"-runs={arguments.runs}",
        f"-seed={arguments.seed}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-max_total_time={arguments.seconds}",
        f"-artifact_prefix={FINDINGS_DIRECTORY}/{name}-",
        "-timeout=10",
        "-verbosity=0",
        directory,
    ]
    atheris.Setup(options, test_one_input)
    atheris.Fuzz()
    os._exit(0)


def _run_mutations(
    check: Callable[[bytes], None], start: list[bytes], name: str, arguments: argparse.Namespace
) -> tuple[int, bool]:
    """Try every start input, then mutations of them; (executions, finding)."""
    rng = random.Random(arguments.seed)
    pool = start or [b""]
    deadline = time.monotonic() + arguments.seconds if arguments.seconds else None
    for count in range(arguments.runs):
        if deadline is not None and time.monotonic() > deadline:
            return count, False
        data = pool[count] if count < len(pool) else _mutate(rng, pool)
        try:
            check(data)
        except Exception:
            traceback.print_exc()
            digest = hashlib.sha256(data).hexdigest()[:16]
            (FINDINGS_DIRECTORY / f"{name}-crash-{digest}").write_bytes(data)
            return count + 1, True
    return arguments.runs, False


_TOKENS: Final = tuple(
    b";|=|:|,|.|*|*.| |\t|\r|\n|\r\n|\0|\x7f|\x80|\xc3\xbc|\xe2\x80\xa8|\xef\xbb\xbf|{|}|-|_|0|9".split(
        b"|"
    )
)


def _mutate(rng: random.Random, pool: list[bytes]) -> bytes:
    data = bytearray(rng.choice(pool))
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        _mutate_once(rng, data, pool)
    return bytes(data[:MAX_INPUT_BYTES])


def _mutate_once(rng: random.Random, data: bytearray, pool: list[bytes]) -> None:
    """Change `data` in one of six ways."""
    at = rng.randint(0, len(data))
    end = min(len(data), at + rng.choice((1, 2, 4, 16)))
    match rng.randrange(6):
        case 0:
            data[at:at] = rng.choice(_TOKENS)
        case 1:
            data[at:end] = b""
        case 2:
            data[at:end] = rng.randbytes(end - at)
        case 3:
            data[at:at] = data[at:end] * rng.choice((1, 1, 8, 64))
        case 4:
            other = rng.choice(pool)
            data[at:] = other[rng.randint(0, len(other)) :]
        case _:
            data[at:end] = rng.choice(_TOKENS)
