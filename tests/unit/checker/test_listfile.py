# SPDX-License-Identifier: Apache-2.0
"""Lists of domains as people have them: the good lines are read, the others are named."""

from __future__ import annotations

import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strictmail.checker.listfile import (
    MAX_LINE_BYTES,
    Faulty,
    Listed,
    ListFormatError,
    count_lines,
    open_list,
    read_list,
)


def read(data: bytes) -> list[tuple[int, str]]:
    """Line and domain, or line and `!` with the fault."""
    return [
        (item.line, item.meant.domain)
        if isinstance(item, Listed)
        else (item.line, f"!{item.message}")
        for item in read_list(open_list(io.BytesIO(data)))
    ]


@pytest.mark.parametrize(
    ("data", "domains"),
    [
        pytest.param(b"a.example\nb.example\n", [(1, "a.example"), (2, "b.example")], id="plain"),
        pytest.param(b"a.example\nb.example", [(1, "a.example"), (2, "b.example")], id="no-end"),
        pytest.param(
            b"a.example\r\nb.example\r\n", [(1, "a.example"), (2, "b.example")], id="crlf"
        ),
        pytest.param(b"\xef\xbb\xbfa.example\n", [(1, "a.example")], id="bom"),
        pytest.param(b"# all\n\n \na.example # ours\n", [(4, "a.example")], id="comments"),
        pytest.param(b"domain,count\na.example,3\n", [(2, "a.example")], id="csv-with-header"),
        pytest.param(b'"a.example","x,y"\n', [(1, "a.example")], id="csv-quoted"),
        pytest.param(
            b"a.example;3\nb.example\t4\n", [(1, "a.example"), (2, "b.example")], id="ssv"
        ),
        pytest.param(
            b"1,a.example\n2,b.example\n", [(1, "a.example"), (2, "b.example")], id="rank"
        ),
        pytest.param(b"me@a.example\n", [(1, "a.example")], id="mail-address"),
        pytest.param("bücher.example\n".encode(), [(1, "xn--bcher-kva.example")], id="u-label"),
        pytest.param(b"", [], id="empty"),
    ],
)
@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "gzip"])
def test_good_lists(data: bytes, domains: list[tuple[int, str]], is_packed: bool) -> None:
    assert read(gzip.compress(data) if is_packed else data) == domains


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param(b"m\xfcller.example", "octet 0xfc is not UTF-8", id="latin-1"),
        pytest.param(b"192.0.2.1", "an address, not a domain", id="address"),
        pytest.param(b"a.example b.example", "2 words", id="two-on-a-line"),
        pytest.param(b",x", "first column", id="empty-column"),
        pytest.param(b"x" * 100_000, "longer than", id="endless"),
        pytest.param(b"a\0.example", "\\x00", id="nul"),
        pytest.param(b"a b,\rx", "2 words", id="a-lone-cr"),
    ],
)
def test_a_faulty_line_is_named_and_the_next_is_read(line: bytes, said: str) -> None:
    first, second, third = read(b"a.example\n" + line + b"\nb.example\n")
    assert (first, third) == ((1, "a.example"), (3, "b.example"))
    assert second[0] == 2
    assert second[1].startswith("!")
    assert said in second[1]


def test_a_fault_has_its_column() -> None:
    (fault,) = read_list(io.BytesIO(b'  "exam!ple.com",5\n'))
    assert fault == Faulty(1, fault.message if isinstance(fault, Faulty) else "", 7)


@pytest.mark.parametrize("cut", [5, 30, 60])
def test_a_damaged_gzip_ends_the_list_with_a_fault(cut: int) -> None:
    packed = gzip.compress(b"".join(b"d%d.example\n" % n for n in range(50)))
    items = read(packed[:-cut])
    assert items[-1][1].startswith("!the list cannot be read any further")
    assert all(not domain.startswith("!") for _, domain in items[:-1])


def test_utf_16_is_refused_with_the_way_out() -> None:
    with pytest.raises(ListFormatError, match=r"iconv -f utf-16"):
        open_list(io.BytesIO("a.example\n".encode("utf-16")))


def test_counted_as_read() -> None:
    data = (
        b"\xef\xbb\xbf# x\r\n\r\na.example\r\n!\r\n"
        + b"x" * (3 * MAX_LINE_BYTES)
        + b"\r\nb.example"
    )
    assert count_lines(io.BytesIO(data)) == len(read(data)) == 4


@given(st.binary(max_size=300))
def test_any_octets_are_read_to_their_end(data: bytes) -> None:
    try:
        file = open_list(io.BytesIO(data))
    except ListFormatError:
        return
    lines = [item.line for item in read_list(file)]
    assert lines == sorted(set(lines))
