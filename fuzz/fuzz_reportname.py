# SPDX-License-Identifier: Apache-2.0
"""A file name or subject is read to parts that write the same again, or is none; nothing raises.

What is read has domains that mail can be sent to and holds nothing that could end a header or
leave a directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import instrumented, run, vector_inputs

with instrumented():
    from strictmail.core.tlsrpt.filename import format_filename, parse_filename
    from strictmail.core.tlsrpt.message import format_subject, parse_subject
    from strictmail.core.tlsrpt.session import is_mail_domain

if TYPE_CHECKING:
    from collections.abc import Iterator


def seeds() -> Iterator[bytes]:
    """The inputs of the vectors."""
    for text in vector_inputs("rpt-file", "rpt-subject"):
        yield text.encode()


def check(data: bytes) -> None:
    """Raise if the invariant is broken."""
    text = data.decode("utf-8", "surrogateescape")
    name = parse_filename(text)
    if name is not None:
        assert format_filename(name) == text or _has_zeros(text)
        assert is_mail_domain(name.sender)
        assert is_mail_domain(name.domain)
        assert not set(text) & set("/\\\r\n \0")
    subject = parse_subject(text)
    if subject is not None:
        assert is_mail_domain(subject.domain)
        assert is_mail_domain(subject.submitter)
        assert subject.report_id.isascii()
        assert subject.report_id.isprintable()
        assert parse_subject(format_subject(subject)) == subject


def _has_zeros(text: str) -> bool:
    """Whether a number in it is written with zeros in front."""
    return any(part.startswith("0") and part != "0" for part in text.split("!")[2:4])


if __name__ == "__main__":
    run(check, seeds())
