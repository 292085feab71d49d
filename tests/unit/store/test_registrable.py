# SPDX-License-Identifier: Apache-2.0
"""Which domain somebody registered."""

from __future__ import annotations

import pytest

from strictmail.store.registrable import registrable_domain


@pytest.mark.parametrize(
    ("domain", "owner"),
    [
        pytest.param("example.com", "example.com", id="registered itself"),
        pytest.param("a.b.example.com", "example.com", id="any depth"),
        pytest.param("mail.example.co.uk", "example.co.uk", id="a suffix of two labels"),
        pytest.param("co.uk", "co.uk", id="a public suffix stands for itself"),
        pytest.param("a.b.unheard-of", "b.unheard-of", id="an unknown top-level domain"),
        pytest.param("localhost", "localhost", id="one label"),
        pytest.param("a.xn--mgba3a4f16a", "a.xn--mgba3a4f16a", id="a suffix in A-labels"),
    ],
)
def test_registrable_domain(domain: str, owner: str) -> None:
    assert registrable_domain(domain) == owner
