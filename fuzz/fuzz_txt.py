# SPDX-License-Identifier: Apache-2.0
"""Any TXT RRset gives a record or RecordSyntaxError, the same in any order and cut of strings.

Records are the lines of the input, character-strings its NUL-separated parts; the RRset is read as
one of `_mta-sts` and as one of `_smtp._tls`. An accepted id is 1 to 32 letters and digits of the
only record that starts with the version. A destination is a mailbox of printable ASCII with a
domain, or an `https` URI that stands in the record; none of them is there twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import instrumented, run, vector_inputs

with instrumented():
    from strictmail.core.errors import RecordSyntaxError
    from strictmail.core.sts.record import select_record
    from strictmail.core.tlsrpt.record import select_tlsrpt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REASONS = frozenset({"absent", "several", "syntax"})
MAX_ID_CHARACTERS = 32
MAX_MESSAGE_CHARACTERS = 1000
"""A message quotes at most a piece of what it is about."""


def seeds() -> Iterator[bytes]:
    """The RRsets of the vectors."""
    for rrset in vector_inputs("sts-txt", "tlsrpt-txt"):
        yield b"\n".join(b"\0".join(s.encode() for s in strings) for strings in rrset)


def check(data: bytes) -> None:
    """Raise if the invariant is broken."""
    rrset = [line.split(b"\0") for line in data.split(b"\n")]
    _check_sts(rrset)
    _check_tlsrpt(rrset)


def _check_sts(rrset: list[list[bytes]]) -> None:
    outcome = _select(rrset)
    assert outcome == _select(rrset[::-1])
    texts = [b"".join(strings) for strings in rrset]
    assert outcome == _select([[text[:3], text[3:]] for text in texts])
    if outcome in REASONS:
        return
    policy_id = outcome.removeprefix("id ")
    assert 1 <= len(policy_id) <= MAX_ID_CHARACTERS
    assert policy_id.isascii()
    assert policy_id.isalnum()
    exact = [text for text in texts if text.startswith(b"v=STSv1;")]
    spaced = [text for text in texts if text.startswith((b"v=STSv1 ", b"v=STSv1\t"))]
    assert len(exact) == 1 or (not exact and spaced)
    assert f"id={policy_id}".encode() in (exact or spaced)[0] or not exact


def _select(rrset: Sequence[Sequence[bytes]]) -> str:
    try:
        return f"id {select_record(rrset).policy_id}"
    except RecordSyntaxError as error:
        return _check_error(error)


def _check_tlsrpt(rrset: list[list[bytes]]) -> None:
    outcome = _select_tlsrpt(rrset)
    assert outcome == _select_tlsrpt(rrset[::-1])
    texts = [b"".join(strings) for strings in rrset]
    assert outcome == _select_tlsrpt([[text[:5], text[5:]] for text in texts])
    if isinstance(outcome, str):
        return
    assert len(set(outcome)) == len(outcome)
    for destination in outcome:
        assert destination.isascii()
        assert destination.isprintable()
        scheme, _, rest = destination.partition(":")
        if scheme == "mailto":
            local, _, domain = rest.rpartition("@")
            assert local
            assert domain.replace("-", "0").replace(".", "0").isalnum()
            assert not set(rest).intersection(' <>"')
        else:
            assert scheme.lower() == "https"
            assert any(destination.encode() in text for text in texts)
            assert not set(destination).intersection("!,;# ")


def _select_tlsrpt(rrset: Sequence[Sequence[bytes]]) -> str | tuple[str, ...]:
    try:
        record = select_tlsrpt(rrset)
    except RecordSyntaxError as error:
        return _check_error(error)
    for uri in record.unusable:
        assert 0 <= uri.position <= len(record.text)
        assert uri.reason.isascii()
        assert uri.reason.isprintable()
        assert len(uri.reason) <= MAX_MESSAGE_CHARACTERS
    return tuple(uri.destination for uri in record.rua)


def _check_error(error: RecordSyntaxError) -> str:
    assert error.reason_code in REASONS
    assert str(error).isascii()
    assert str(error).isprintable()
    assert len(str(error)) <= MAX_MESSAGE_CHARACTERS
    return error.reason_code


if __name__ == "__main__":
    run(check, seeds())
