# SPDX-License-Identifier: Apache-2.0
"""A log file, read on from where it was left, through rotations.

========================================  =======================================================
what happened to the file                 what is read
========================================  =======================================================
it has grown                              what is new
it was renamed, another one took its      the rest of the old one, as far as it is still there
place                                     uncompressed; then the new one
it was cut off (`copytruncate`)           the new content, from the start
it is another file of the same name       all of it
it is not there                           nothing, until it is
========================================  =======================================================

A position is no more than a short cut: what is read twice is counted once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK_BYTES: Final = 256 * 1024
MAX_LINE_BYTES: Final = 64 * 1024
"""What is longer is no line of a log: it is passed over."""

HEAD_BYTES: Final = 256
"""By their hash a file is known again: inode numbers are used again."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file was read.

    Attributes:
        inode: Of the file.
        offset: Octets that are done with.
        head: Hash of its first octets, as many as `head_bytes`.
    """

    inode: int
    offset: int
    head: str
    head_bytes: int


class LogFile:
    """Reads one file.

    Args:
        path: By its name, whichever file has it.
        position: Where an earlier reader got to.
    """

    def __init__(self, path: Path, position: Position | None = None) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._start = position
        self._rest = b""
        self._offset = 0
        self._too_long = False

    def close(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> Iterator[tuple[int, bytes]]:
        """Every whole line that is there now: where it begins in its file, and the line.

        Raises:
            OSError: It is there and cannot be read.
        """
        while True:
            if self._file is None and not self._open():
                return
            yield from self._read_open()
            if not self._is_replaced():
                return
            # The last look came before the rename: whoever writes may have gone on until then.
            yield from self._read_open()
            self.close()

    def position(self, offset: int | None = None) -> Position | None:
        """Where another reader may go on: behind the last whole line, or at an offset.

        Raises:
            OSError: It cannot be read any more.
        """
        if self._file is None:
            return None
        end = self._offset - len(self._rest)
        done = end if offset is None else min(offset, end)
        size = min(HEAD_BYTES, end)
        head = os.pread(self._file.fileno(), size, 0)
        inode = os.fstat(self._file.fileno()).st_ino
        return Position(inode, done, _digest(head), size)

    def _open(self) -> bool:
        start, self._start = self._start, None
        path, offset = self.path, 0
        if start is not None:
            path, offset = self._find(start)
        try:
            self._file = path.open("rb")
        except FileNotFoundError:
            return False
        self._file.seek(offset)
        self._offset, self._rest, self._too_long = offset, b"", False
        return True

    def _find(self, start: Position) -> tuple[Path, int]:
        """The file that a position is of: under its name, or under one that a rotation gave it."""
        candidates = [self.path]
        with contextlib.suppress(OSError):
            names = sorted(self.path.parent.glob(f"{_literal(self.path.name)}*"))
            candidates += [one for one in names if one != self.path]
        for candidate in candidates:
            with contextlib.suppress(OSError), candidate.open("rb") as file:
                status = os.fstat(file.fileno())
                is_it = status.st_ino == start.inode and status.st_size >= start.offset
                if is_it and _digest(file.read(start.head_bytes)) == start.head:
                    return candidate, start.offset
        return self.path, 0

    def _read_open(self) -> Iterator[tuple[int, bytes]]:
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._offset:
            self._file.seek(0)
            self._offset, self._rest, self._too_long = 0, b"", False
        while block := self._file.read(BLOCK_BYTES):
            begin = self._offset - len(self._rest)
            self._offset += len(block)
            *lines, self._rest = (self._rest + block).split(b"\n")
            for line in lines:
                if not self._too_long and len(line) <= MAX_LINE_BYTES:
                    yield begin, line
                begin += len(line) + 1
                self._too_long = False
            if len(self._rest) > MAX_LINE_BYTES:
                self._rest, self._too_long = b"", True

    def _is_replaced(self) -> bool:
        """Whether another file has the name by now."""
        assert self._file is not None
        mine = os.fstat(self._file.fileno())
        try:
            named = self.path.stat()
        except OSError:
            return False
        return (named.st_dev, named.st_ino) != (mine.st_dev, mine.st_ino)


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()[:32]


def _literal(name: str) -> str:
    """A name as a glob pattern that matches it alone."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)
