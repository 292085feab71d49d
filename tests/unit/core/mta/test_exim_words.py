# SPDX-License-Identifier: Apache-2.0
"""What an Exim configuration reads."""

from __future__ import annotations

import pytest

from strictmail.core.decision import Decision, Level
from strictmail.core.errors import EncodingError
from strictmail.core.mta.exim import encode_reply
from strictmail.core.mta.netstring import encode


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        pytest.param(Decision("a.test", Level.NONE, "no-policy"), b"NOTFOUND ", id="none"),
        pytest.param(Decision("a.test", Level.ENCRYPT, "override"), b"OK encrypt", id="tls"),
        pytest.param(Decision("a.test", Level.DANE, "dane-partial"), b"OK dane", id="dane"),
        pytest.param(Decision("a.test", Level.DANE_ONLY, "dane"), b"OK dane-only", id="only"),
        pytest.param(
            Decision("a.test", Level.SECURE, "enforce", allowed_mx=("mx.test",)),
            b"OK secure match=mx.test servername=hostname",
            id="secure",
        ),
    ],
)
def test_words(decision: Decision, expected: bytes) -> None:
    assert encode_reply(decision) == encode(expected)


def test_without_names_there_is_no_answer() -> None:
    with pytest.raises(EncodingError):
        encode_reply(Decision("a.test", Level.SECURE, "enforce"))
