# SPDX-License-Identifier: Apache-2.0
"""A log file that is read on: growth, rotation, truncation, and where it was left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from strictmail.collector.logfile import MAX_LINE_BYTES, LogFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def lines(file: LogFile) -> list[str]:
    return [line.decode() for _, line in file.read()]


def append(path: Path, text: str) -> None:
    with path.open("a") as stream:
        stream.write(text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mail.log"


@pytest.fixture
def file(path: Path) -> Iterator[LogFile]:
    made = LogFile(path)
    yield made
    made.close()


def test_only_whole_lines(path: Path, file: LogFile) -> None:
    assert lines(file) == []
    append(path, "one\ntwo\nthr")
    assert lines(file) == ["one", "two"]
    assert lines(file) == []
    append(path, "ee\n")
    assert lines(file) == ["three"]


def test_where_lines_begin(path: Path, file: LogFile) -> None:
    append(path, "one\ntwo\n")
    assert [offset for offset, _ in file.read()] == [0, 4]
    append(path, "three\n")
    assert [offset for offset, _ in file.read()] == [8]


def test_rotation_by_renaming(path: Path, file: LogFile) -> None:
    append(path, "one\n")
    assert lines(file) == ["one"]
    append(path, "two\n")
    path.rename(path.with_name("mail.log.1"))
    assert lines(file) == ["two"]
    append(path.with_name("mail.log.1"), "three\n")
    append(path, "four\n")
    assert lines(file) == ["three", "four"]


def test_rotation_by_cutting_off(path: Path, file: LogFile) -> None:
    append(path, "one\ntwo\n")
    assert lines(file) == ["one", "two"]
    os.truncate(path, 0)
    assert lines(file) == []
    append(path, "new\n")
    assert lines(file) == ["new"]


def test_what_is_too_long_is_passed_over(path: Path, file: LogFile) -> None:
    append(path, "x" * MAX_LINE_BYTES * 3 + "y\nshort\n" + "z" * (MAX_LINE_BYTES + 1) + "\nlast\n")
    assert lines(file) == ["short", "last"]
    append(path, "a" * MAX_LINE_BYTES * 2)
    assert lines(file) == []
    append(path, "b" * MAX_LINE_BYTES * 2)
    assert lines(file) == []
    append(path, "\nagain\n")
    assert lines(file) == ["again"]


def left_at(path: Path, offset: int | None = None) -> LogFile:
    """Read all there is, and make a reader that goes on where that one ended."""
    first = LogFile(path)
    lines(first)
    position = first.position(offset)
    first.close()
    return LogFile(path, position)


def test_going_on(path: Path) -> None:
    append(path, "one\ntwo\nhalf")
    again = left_at(path)
    append(path, " three\n")
    assert lines(again) == ["half three"]
    again.close()


def test_going_on_from_an_earlier_line(path: Path) -> None:
    append(path, "one\ntwo\nthree\n")
    again = left_at(path, 4)
    assert lines(again) == ["two", "three"]
    again.close()


def test_going_on_behind_a_rotation(path: Path) -> None:
    append(path, "one\n")
    again = left_at(path)
    append(path, "two\n")
    path.rename(path.with_name("mail.log.1"))
    append(path, "three\n")
    assert lines(again) == ["two", "three"]
    again.close()


def test_another_file_of_the_same_name_is_read_from_its_start(path: Path) -> None:
    append(path, "one\ntwo\n")
    again = left_at(path)
    path.unlink()
    append(path, "uno\ndue\ntre\n")
    assert lines(again) == ["uno", "due", "tre"]
    again.close()


def test_the_same_inode_with_other_content_is_read_from_its_start(path: Path) -> None:
    append(path, "one\ntwo\n")
    again = left_at(path)
    path.write_text("other, and longer than before\n")
    assert lines(again) == ["other, and longer than before"]
    again.close()
