# SPDX-License-Identifier: Apache-2.0
"""The file of results: whatever ended a run, what is in the file is whole, and the next goes on."""

from __future__ import annotations

import errno
import os
import resource
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.checker.results import address, certificate, chain, finding, host, result

from strictmail.checker.codec import decode
from strictmail.checker.journal import SYNC_RESULTS, SYNC_SECONDS, Journal, open_journal
from strictmail.checker.resultfile import ResultFile, encode_line
from strictmail.core.check.result import SCHEMA_VERSION
from strictmail.core.errors import SchemaTooNewError, StoreError, StoreUnavailableError, SyntaxFault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINES = [
    encode_line(result("a.example", findings=(finding(),))),
    encode_line(result("b.example", summary="mail to bücher.example \n \0 \U0001f4a9 {")),
    encode_line(result("c.example", hosts=(host("mx", address("::1", chain(certificate()))),))),
]
WHOLE = b"".join(LINES)


def reopen(path: Path) -> tuple[Journal, list[str]]:
    domains: list[str] = []
    return open_journal(path, domains.append, monotonic=lambda: 0.0), domains


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_line_holds_the_whole_result() -> None:
    for line in LINES:
        assert line.count(b"\n") == 1
        assert encode_line(decode(line)) == line


def test_a_line_is_never_too_long_to_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strictmail.checker.resultfile.MAX_RESULT_BYTES", len(LINES[2]) - 1)
    (whole,) = decode(LINES[2]).hosts[0].addresses[0].chains
    (cut,) = decode(encode_line(decode(LINES[2]))).hosts[0].addresses[0].chains
    assert whole.certificates
    assert cut == replace(whole, certificates=())


def test_a_new_file_is_made_and_filled(tmp_path: Path) -> None:
    opened, domains = reopen(tmp_path / "out")
    with opened:
        assert domains == []
        opened.append(LINES[:2])
        opened.append(LINES[2:])
    assert (tmp_path / "out").read_bytes() == WHOLE
    assert (opened.earlier, opened.appended) == (0, 3)


@settings(max_examples=300)
@given(cut=st.integers(0, len(WHOLE)))
def test_torn_anywhere_it_goes_on_to_the_same_results(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = write(tmp_path_factory.mktemp("torn") / "out", WHOLE[:cut])
    opened, domains = reopen(path)
    with opened:
        opened.append([line for line in LINES if decode(line).domain not in domains])
    assert sorted(path.read_bytes().splitlines(keepends=True)) == sorted(LINES)
    assert opened.earlier + opened.appended == len(LINES)


@pytest.mark.slow
def test_torn_at_each_octet_of_a_line_the_whole_lines_stay(tmp_path: Path) -> None:
    start = len(LINES[0])
    for cut in range(start, start + len(LINES[1]) + 1):
        path = write(tmp_path / "out", WHOLE[:cut])
        opened, domains = reopen(path)
        opened.close()
        # A line that lacks nothing but its line feed is whole.
        is_whole = cut >= start + len(LINES[1]) - 1
        assert domains == (["a.example", "b.example"] if is_whole else ["a.example"])
        assert path.read_bytes() == (WHOLE[: start + len(LINES[1])] if is_whole else LINES[0])


def test_zeros_of_a_power_cut_are_cut_off(tmp_path: Path) -> None:
    for tail in (b"\0" * 4096, LINES[1][:40] + b"\0" * 100):
        path = write(tmp_path / "out", LINES[0] + tail)
        opened, domains = reopen(path)
        opened.close()
        assert domains == ["a.example"]
        assert opened.torn_bytes == len(tail)
        assert path.read_bytes() == LINES[0]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        pytest.param(b"a.example\nb.example\n", 1, id="a-list-of-domains"),
        pytest.param(b"notes without an end", 1, id="one-line-without-end"),
        pytest.param(LINES[0] + b"notes", 2, id="notes-behind-results"),
        pytest.param(LINES[0] + LINES[1][:50] + b"\n" + LINES[2], 2, id="damage-in-the-middle"),
        pytest.param(b'{"version": 1, "domain": "a.example"}\n', 1, id="other-json-lines"),
        pytest.param(b"[" * 100_000 + b"\n", 1, id="deeply-nested"),
        pytest.param(b"\x1f\x8b\x08\x00" + bytes(100), 1, id="gzip"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_stays(
    tmp_path: Path, data: bytes, line: int
) -> None:
    path = write(tmp_path / "out", data)
    with pytest.raises(StoreError, match=f"line {line} is not a result.*nothing was changed"):
        reopen(path)
    assert path.read_bytes() == data
    with pytest.raises(SyntaxFault, match=f"line {line} is not a result"):
        ResultFile(path)


def test_a_file_of_a_newer_strictmail_is_refused(tmp_path: Path) -> None:
    newer = encode_line(result(schema=SCHEMA_VERSION + 1))
    path = write(tmp_path / "out", newer)
    with pytest.raises(SchemaTooNewError, match="nothing was changed"):
        reopen(path)
    with pytest.raises(SchemaTooNewError, match=str(path)):
        ResultFile(path)
    assert path.read_bytes() == newer


@pytest.mark.parametrize("place", ["directory", "pipe", "nowhere"])
def test_a_place_where_no_run_could_go_on_is_refused(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    if place == "directory":
        path.mkdir()
    elif place == "pipe":
        os.mkfifo(path)
    else:
        path /= "out"
    with pytest.raises(StoreError, match=str(path)):
        reopen(path)


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    first, _ = reopen(tmp_path / "out")
    with first, pytest.raises(StoreUnavailableError, match="another run"):
        reopen(tmp_path / "out")
    second, _ = reopen(tmp_path / "out")
    second.close()


class Disk:
    """What the journal asks of the system, with a disk that fills up and a clock that stands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, room: int = 1 << 40) -> None:
        self.room = room
        self.syncs = 0
        self.now = 0.0
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "fdatasync", self.sync)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        # As the system does: first a part, then the error.
        written = self._write(descriptor, data[: self.room])
        self.room -= written
        return written

    def sync(self, _descriptor: int) -> None:
        self.syncs += 1

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    with monkeypatch.context() as patch:
        yield Disk(patch)


@given(room=st.integers(0, len(WHOLE) - 1))
@settings(max_examples=100)
def test_a_full_disk_leaves_whole_lines_and_the_next_run_goes_on(
    tmp_path_factory: pytest.TempPathFactory, room: int
) -> None:
    path = tmp_path_factory.mktemp("full") / "out"
    opened, _ = reopen(path)
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, room=room)
        with opened, pytest.raises(StoreUnavailableError, match=r"No space left.*make room"):
            opened.append(LINES)
    there = path.read_bytes()
    assert WHOLE.startswith(there)
    assert there == b"" or there.endswith(b"\n")
    assert len(there) <= room
    assert opened.appended == there.count(b"\n")
    again, domains = reopen(path)
    with again:
        again.append(LINES[len(domains) :])
    assert path.read_bytes() == WHOLE


def test_a_limit_of_the_system_is_told_as_a_full_disk_is(tmp_path: Path) -> None:
    opened, _ = reopen(tmp_path / "out")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(LINES[0]) + 10, hard))
        with opened, pytest.raises(StoreUnavailableError, match="File too large"):
            opened.append(LINES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert (tmp_path / "out").read_bytes() == LINES[0]


def test_the_disk_is_waited_for_by_lines_and_by_time(tmp_path: Path, disk: Disk) -> None:
    with open_journal(tmp_path / "out", str, monotonic=disk.monotonic) as opened:
        opened.append([LINES[0]] * (SYNC_RESULTS - 1))
        opened.sync_if_due()
        assert disk.syncs == 0
        opened.append([LINES[0]])
        assert disk.syncs == 1
        disk.now += SYNC_SECONDS
        opened.sync_if_due()
        assert disk.syncs == 1, "nothing waits"
        opened.append([LINES[0]])
        assert disk.syncs == 2
        opened.append([LINES[0]])
        disk.now += SYNC_SECONDS / 2
        opened.sync_if_due()
        assert disk.syncs == 2
        disk.now += SYNC_SECONDS / 2
        opened.sync_if_due()
        assert disk.syncs == 3
        opened.append([LINES[0]])
    assert disk.syncs == 4


def test_results_are_read_by_domain_the_last_of_each(tmp_path: Path) -> None:
    newer = encode_line(result("a.example", summary="newer"))
    path = write(tmp_path / "out", WHOLE + b"\n" + newer + LINES[2][:-9])
    with ResultFile(path) as results:
        assert len(results) == 3
        assert list(results.domains()) == ["a.example", "b.example", "c.example"]
        assert [r.domain for r in results.results()] == list(results.domains())
        found = results.find("a.example")
        assert found is not None
        assert found.summary == "newer"
        assert results.find("d.example") is None
