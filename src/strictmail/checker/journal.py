# SPDX-License-Identifier: Apache-2.0
"""The file that a bulk run writes: results are appended line by line, and each is whole or not there.

Whoever opens it goes on where the last run stopped, whatever ended that run.

============================  ================================================================
What happens                  What is in the file afterwards
============================  ================================================================
kill -9, Ctrl-C               every line that was appended; of the one under way perhaps a
                              part, which the next `open_journal` cuts off
power cut, crash of the       every line that was synced: all but those of the last second, or
machine                       the last SYNC_RESULTS lines; then as above
disk full, file too large     every whole line; the part of a line is cut off at once, and the
                              caller is told (`StoreUnavailableError`)
a second run on the file      refused (`StoreUnavailableError`), the file is not touched
the file is something else    refused (`StoreError`), the file is not touched
============================  ================================================================

There is no header: a file of results can be cut, joined and sorted by lines.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from strictmail.checker.resultfile import scan_results
from strictmail.core.errors import SchemaTooNewError, StoreError, StoreUnavailableError, SyntaxFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SYNC_RESULTS: Final = 200
"""Lines after which the disk is waited for; some seconds of work, and 4 MiB."""

SYNC_SECONDS: Final = 1.0
"""The longest that a line waits to be put safely on the disk while lines come."""


class Journal:
    """An open file of results with its lock. Calls may block on the disk; any thread may call.

    Attributes:
        path: Where it is.
        earlier: Results that were there when it was opened.
        torn_bytes: What was cut off when it was opened.
        appended: Results that were added since.
    """

    def __init__(
        self, path: Path, descriptor: int, size: int, monotonic: Callable[[], float]
    ) -> None:
        self.path = path
        self.earlier = 0
        self.torn_bytes = 0
        self.appended = 0
        self._descriptor = descriptor
        self._size = size
        self._monotonic = monotonic
        self._unsynced = 0
        self._synced_at = monotonic()
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, lines: Sequence[bytes]) -> None:
        """Add results, and wait for the disk now and then.

        Args:
            lines: Each with its line feed.

        Raises:
            StoreUnavailableError: Not all were added; those that were (`appended`) stay.
        """
        with self._lock:
            self._append(lines)
            if self._unsynced >= SYNC_RESULTS:
                self.sync()
            else:
                self.sync_if_due()

    def _append(self, lines: Sequence[bytes]) -> None:
        data = b"".join(lines)
        written = kept = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            kept = self._cut_back(data[:written])
            raise self._unavailable(error) from error
        else:
            kept = len(lines)
            self._size += len(data)
        finally:
            self.appended += kept
            self._unsynced += kept

    def sync_if_due(self) -> None:
        """Wait for the disk if lines have waited for SYNC_SECONDS."""
        with self._lock:
            if self._unsynced and self._monotonic() - self._synced_at >= SYNC_SECONDS:
                self.sync()

    def sync(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            StoreUnavailableError: The disk does not play along.
        """
        with self._lock:
            if self._unsynced:
                try:
                    os.fdatasync(self._descriptor)
                except OSError as error:
                    raise self._unavailable(error) from error
            self._unsynced = 0
            self._synced_at = self._monotonic()

    def close(self) -> None:
        """Put everything on the disk, and let the lock go. Again: nothing."""
        with self._lock:
            if self._descriptor < 0:
                return
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    def _cut_back(self, part: bytes) -> int:
        """Take a part of a line off the end of the file again; the lines that are whole."""
        whole = part.rfind(b"\n") + 1
        self._size += whole
        # If it cannot be taken off now, the next run does it.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self._size)
        return part.count(b"\n")

    def _unavailable(self, error: OSError) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self.path} cannot be written: {error.strerror or error}; its "
            f"{self.earlier + self.appended} results are whole: make room, and give the same "
            "command again to go on"
        )


def open_journal(
    path: Path | str, note: Callable[[str], object], *, monotonic: Callable[[], float]
) -> Journal:
    """Open the file of a run, new or from an earlier one, and lock it.

    Args:
        path: A regular file, or nothing yet.
        note: Called with the domain of each result that is there already.
        monotonic: Seconds that never go back.

    Raises:
        StoreUnavailableError: It cannot be opened, or another run writes it.
        StoreError: It is not ours, and is left as it is.
    """
    path = Path(path)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise StoreUnavailableError(
            f"{path} cannot be written: {error.strerror or error}"
        ) from error
    try:
        _lock(path, descriptor)
        return _resume(path, descriptor, note, monotonic)
    except BaseException:
        os.close(descriptor)
        raise


def _lock(path: Path, descriptor: int) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise StoreError(f"{path} is not a regular file: a run that stops could not go on in it")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreUnavailableError(
            f"{path} is being written by another run: wait for it, or choose another file"
        ) from error
    except OSError as error:
        raise StoreUnavailableError(
            f"{path} cannot be locked: {error.strerror or error}; choose a local file system"
        ) from error


def _resume(
    path: Path, descriptor: int, note: Callable[[str], object], monotonic: Callable[[], float]
) -> Journal:
    earlier = 0

    def count(domain: str, _offset: int) -> None:
        nonlocal earlier
        earlier += 1
        note(domain)

    with os.fdopen(os.dup(descriptor), "rb", buffering=256 * 1024) as file:
        file.seek(0)
        try:
            end = scan_results(file, count)
        except (SyntaxFault, SchemaTooNewError) as error:
            kind = SchemaTooNewError if isinstance(error, SchemaTooNewError) else StoreError
            raise kind(f"{path}: {error}; nothing was changed: choose another file") from error
    journal = Journal(path, descriptor, end.whole_bytes, monotonic)
    journal.earlier = earlier
    journal.torn_bytes = end.torn_bytes
    try:
        if end.torn_bytes:
            os.ftruncate(descriptor, end.whole_bytes)
        if end.lacks_newline:
            os.write(descriptor, b"\n")
            journal._size += 1  # noqa: SLF001 - still being made
        os.fsync(descriptor)
        _sync_directory(path.absolute().parent)
    except OSError as error:
        raise StoreUnavailableError(
            f"{path} cannot be written: {error.strerror or error}"
        ) from error
    return journal


def _sync_directory(directory: Path) -> None:
    """The name of a new file is on the disk only with its directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
