# SPDX-License-Identifier: Apache-2.0
r"""A list of domains in a file: lines in, domains and faults out, one at a time.

Takes plain lists, CSV (the first column; behind a rank, the second) and mail addresses, with LF
or CRLF, with or without a byte order mark, plain or gzip. A line that holds no domain is a fault
with its number, and the list goes on. Memory does not grow with the list.

=================================  ============================================================
What is wrong                      What happens
=================================  ============================================================
a line is no domain                a fault; the next line
a line is not UTF-8                a fault that names the octet; the next line
a line is longer than any name     a fault; the rest of the line is passed over
the gzip stream is cut or damaged  a fault; the list ends there
the file is UTF-16                 refused before the first line: `ListFormatError`
=================================  ============================================================
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, BinaryIO, Final, cast

from strictmail.checker.inputs import Meant, read_domain
from strictmail.core.errors import DomainSyntaxError, SyntaxFault
from strictmail.core.tagrecord import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE_BYTES: Final = 16 * 1024
"""Room for a name and many other columns; a longer line is no list of domains."""

_HEADERS: Final = frozenset(
    {"domain", "domains", "domain name", "name", "host", "hostname", "rank", "email", "e-mail"}
)
"""What stands over a column, in the first line of a CSV file."""

_DELIMITERS: Final = ",;\t"


class ListFormatError(SyntaxFault):
    """The whole file cannot be read as a list: nothing was checked; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A line with a domain.

    Attributes:
        line: Its number, 1-based.
        meant: What was understood.
    """

    line: int
    meant: Meant


@dataclass(frozen=True, slots=True)
class Faulty:
    """A line without one.

    Attributes:
        line: Its number, 1-based.
        message: What is wrong, and what to do.
        position: Offset in the line where that is known.
    """

    line: int
    message: str
    position: int | None = None


def open_list(raw: IO[bytes]) -> BinaryIO:
    """The plain text of a list, unpacked if it is gzip.

    Args:
        raw: From its start; need not be seekable.

    Raises:
        ListFormatError: The file is UTF-16.
    """
    buffered = io.BufferedReader(cast("io.RawIOBase", raw)) if not _can_peek(raw) else raw
    start = cast("io.BufferedReader", buffered).peek(2)[:2]
    # RFC 1952 §2.3.1: ID1 and ID2.
    if start == b"\x1f\x8b":
        return cast("BinaryIO", gzip.GzipFile(fileobj=buffered, mode="rb"))
    if start in (b"\xff\xfe", b"\xfe\xff"):
        raise ListFormatError(
            "the list is UTF-16: save it as UTF-8 (`iconv -f utf-16 -t utf-8`)", line=1
        )
    return cast("BinaryIO", buffered)


def _can_peek(raw: IO[bytes]) -> bool:
    return hasattr(raw, "peek")


def count_lines(file: BinaryIO) -> int:
    """How many lines `read_list` will yield something for, without taking them apart.

    May be one too high where the file has a header; as far as the file can be read.
    """
    count = 0
    try:
        for _, line in _numbered(file):
            stripped = line.removeprefix(b"\xef\xbb\xbf").strip()
            count += bool(stripped) and not stripped.startswith(b"#")
    except (EOFError, OSError, zlib.error):
        return count
    return count


def read_list(file: BinaryIO) -> Iterator[Listed | Faulty]:
    """Read a list.

    Args:
        file: See `open_list`.

    Yields:
        Something for each line that is neither empty nor a comment (`#`).
    """
    number = 0
    try:
        for number, raw in _numbered(file):
            item = _read_line(number, raw)
            if item is not None:
                yield item
    except (EOFError, OSError, zlib.error) as error:
        yield Faulty(number + 1, f"the list cannot be read any further: {error}")


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; one that is too long is cut behind MAX_LINE_BYTES."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        yield number, line
        while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES + 1)


def _read_line(number: int, raw: bytes) -> Listed | Faulty | None:
    if len(raw) > MAX_LINE_BYTES:
        return Faulty(number, f"the line is longer than {MAX_LINE_BYTES} octets")
    try:
        text = raw.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").decode("utf-8")
    except UnicodeDecodeError as error:
        return Faulty(
            number,
            f"octet 0x{raw[error.start]:02x} is not UTF-8: was the list saved in another "
            "encoding? (`iconv -f latin1 -t utf-8`)",
            error.start,
        )
    bare = text.strip()
    cell = "" if bare.startswith("#") else _domain_cell(bare)
    if not bare or bare.startswith("#") or (number == 1 and cell.lower() in _HEADERS):
        return None
    if not cell:
        return Faulty(number, f"the first column of {quote(bare)} is empty")
    try:
        return Listed(number, read_domain(cell))
    except DomainSyntaxError as error:
        place = None if error.position is None else text.find(cell) + error.position
        return Faulty(number, f"{quote(cell)}: {error}", place)


def _domain_cell(line: str) -> str:
    """The column that holds the domain."""
    # No domain has a blank or `#` in it: what follows is a comment.
    for mark in (" #", "\t#"):
        line = line.partition(mark)[0].rstrip()
    if line.isascii() and not any(c in line for c in ',;\t"'):
        return line
    cells = _cells(line)
    # `1,example.com`: the lists of the most popular domains have the rank first.
    if len(cells) > 1 and cells[0].isdecimal():
        return cells[1]
    return cells[0]


def _cells(line: str) -> list[str]:
    first = min((c for c in _DELIMITERS if c in line), key=line.index, default=",")
    # RFC 4180 §2: a quoted cell may hold the delimiter.
    try:
        row = next(csv.reader([line], delimiter=first), [line])
    except csv.Error:
        # A lone CR, which Python's reader takes for the end of a row.
        row = line.split(first)
    return [cell.strip() for cell in row] or [line]
