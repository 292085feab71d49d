# SPDX-License-Identifier: Apache-2.0
"""A file of results: one `CheckResult` as JSON on each line. How a line is written and read.

Knows what a line looks like, how to find lines without decoding them whole, and what is left when
a writer was killed: a last line without its end. Writing belongs to `checker.journal`.

==================================  ===========================================================
What stands there                   What it counts as
==================================  ===========================================================
whole lines of results              results; of several for one domain, the last
an empty line                       nothing
a last line without line feed,      whole: only the line feed is missing
that is a whole result
a last line without line feed,      torn: not there
that begins as a result does, or
holds nothing but NUL
anything else                       not ours: `SyntaxFault` with the line's number
a line of a newer schema            `SchemaTooNewError`
==================================  ===========================================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Self

import msgspec

from strictmail.checker.codec import decode, encode
from strictmail.checker.ondisk import LineIndex
from strictmail.core.check.result import SCHEMA_VERSION
from strictmail.core.errors import SchemaTooNewError, SyntaxFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from strictmail.core.check.result import CheckResult

MAX_RESULT_BYTES: Final = 16 * 1024 * 1024
"""Longer lines are not written, and none of ours; see `core.check.bounds`."""

_LINE_START: Final = b'{"schema":'


class _Head(msgspec.Struct):
    """What is read of each line when only its domain matters; the rest is skipped."""

    schema: int
    strictmail: str
    domain: str


_HEAD_DECODER: Final = msgspec.json.Decoder(_Head)


def encode_line(result: CheckResult) -> bytes:
    """A result as a line, with its line feed.

    One that would be too long to be read again, which takes servers that mean it, goes without
    the certificates of its chains.
    """
    line = encode(result)
    if len(line) >= MAX_RESULT_BYTES:
        line = encode(_without_certificates(result))
    return line + b"\n"


def _without_certificates(result: CheckResult) -> CheckResult:
    hosts = tuple(
        replace(
            host,
            addresses=tuple(
                replace(
                    address,
                    chains=tuple(replace(chain, certificates=()) for chain in address.chains),
                )
                for address in host.addresses
            ),
        )
        for host in result.hosts
    )
    return replace(result, hosts=hosts)


@dataclass(frozen=True, slots=True)
class ScanEnd:
    """What the end of a file looks like.

    Attributes:
        whole_bytes: Length of the file up to the end of its last whole line.
        torn_bytes: What follows: a line that was being written.
        lacks_newline: The last whole line has no line feed.
    """

    whole_bytes: int
    torn_bytes: int
    lacks_newline: bool


def scan_results(file: BinaryIO, note: Callable[[str, int], object]) -> ScanEnd:
    """Go through a file from its start.

    Args:
        file: Stands at offset 0.
        note: Called with domain and offset of each line.

    Raises:
        SyntaxFault: A line is not a result; the message has its number.
        SchemaTooNewError: A newer strictmail wrote it.
    """
    offset = number = 0
    while line := file.readline(MAX_RESULT_BYTES + 1):
        number += 1
        if line.isspace():
            offset += len(line)
            continue
        domain = _domain_of(line, number)
        if domain is None:
            return ScanEnd(offset, len(line), lacks_newline=False)
        note(domain, offset)
        offset += len(line)
        if not line.endswith(b"\n"):
            return ScanEnd(offset, 0, lacks_newline=True)
    return ScanEnd(offset, 0, lacks_newline=False)


def _domain_of(line: bytes, number: int) -> str | None:
    """The domain of a line; None for one that was torn while it was written."""
    try:
        head = _HEAD_DECODER.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        if not line.endswith(b"\n") and _is_torn(line):
            return None
        raise SyntaxFault(
            f"line {number} is not a result of `strictmail check`: {error}", line=number
        ) from error
    if head.schema > SCHEMA_VERSION:
        raise SchemaTooNewError(
            f"line {number} was written by strictmail {head.strictmail[:20]} with schema "
            f"{head.schema}; this one reads up to {SCHEMA_VERSION}"
        )
    return head.domain


def _is_torn(line: bytes) -> bool:
    # After a power cut a file may end in blocks of zeros that were never written.
    begins_as_ours = line.startswith(_LINE_START) or _LINE_START.startswith(line)
    return len(line) <= MAX_RESULT_BYTES and (begins_as_ours or not line.strip(b"\0"))


class ResultFile:
    """The results of a file, by domain. Holds an index on disk; each result is read when asked for.

    A file that a run is still writing can be read: its last, unfinished line is passed over.
    """

    def __init__(self, path: Path | str) -> None:
        """Open and index a file.

        Raises:
            OSError: It cannot be read.
            SyntaxFault: It is no file of results.
        """
        self.path = Path(path)
        self._file = self.path.open("rb")
        self._index = LineIndex()
        try:
            scan_results(self._file, self._index.put)
        except (SyntaxFault, SchemaTooNewError) as error:
            self.close()
            raise _naming(self.path, error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and drop the index."""
        self._file.close()
        self._index.close()

    def __len__(self) -> int:
        return len(self._index)

    def domains(self) -> Iterator[str]:
        """In alphabetical order."""
        return (domain for domain, _ in self._index)

    def results(self) -> Iterator[CheckResult]:
        """All of them, in the order of their domains."""
        return (self._read(offset) for _, offset in self._index)

    def results_as_written(self) -> Iterator[CheckResult]:
        """All of them, in the order of the file: the disk is read from front to back."""
        return map(self._read, self._index.offsets())

    def find(self, domain: str) -> CheckResult | None:
        """The result of one domain."""
        offset = self._index.find(domain)
        return None if offset is None else self._read(offset)

    def _read(self, offset: int) -> CheckResult:
        self._file.seek(offset)
        try:
            return decode(self._file.readline(MAX_RESULT_BYTES + 1))
        except SyntaxFault as error:
            raise SyntaxFault(f"{self.path}: the line at octet {offset} is {error}") from error


def _naming(path: Path, error: SyntaxFault | SchemaTooNewError) -> SyntaxFault | SchemaTooNewError:
    message = f"{path}: {error}"
    if isinstance(error, SyntaxFault):
        return SyntaxFault(message, line=error.line)
    return SchemaTooNewError(message)
