# SPDX-License-Identifier: Apache-2.0
"""MX names against patterns: beyond the vectors."""

from __future__ import annotations

import pytest

from strictmail.core.sts.match import is_mx_pattern, match_any, match_mx


@pytest.mark.req("STS-POL-24", "STS-POL-25", "STS-POL-27")
@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("mx.example.com", True),
        ("*.example.com", True),
        ("*.com", True),
        ("MX", True),
        ("", False),
        ("*", False),
        ("*.", False),
        ("*.*.example.com", False),
        ("*.-a.example", False),
        ("*x.example.com", False),
        ("mx.example.com.", False),
        ("*.example.com.", False),
        ("*.a" * 100, False),
    ],
)
def test_patterns(text: str, good: bool) -> None:
    assert is_mx_pattern(text) is good


@pytest.mark.req("STS-APP-17", "STS-APP-18", "STS-APP-19", "STS-APP-20", "STS-APP-21")
@pytest.mark.parametrize(
    ("host", "pattern", "matches"),
    [
        pytest.param("a_b.example.com", "*.example.com", True, id="hosts-may-have-underscores"),
        pytest.param("mx.example.com..", "mx.example.com", False, id="two-root-dots"),
        pytest.param("", "", False, id="nothing-and-nothing"),
        pytest.param(".", "*", False, id="null-mx"),
        pytest.param("com", "*.com", False, id="the-base-itself"),
        pytest.param("mx.example.com", "*.EXAMPLE.com", True, id="pattern-case"),
        pytest.param("*.example.com", "*.example.com", True, id="a-host-of-that-name-is-one-label"),
        pytest.param("example.com", "*.example.com", False, id="no-label"),
        pytest.param("a.b", "*", False, id="star"),
    ],
)
def test_match(host: str, pattern: str, matches: bool) -> None:
    assert match_mx(host, pattern) is matches
    assert match_any(host, ["x.invalid", pattern]) is matches


@pytest.mark.req("STS-POL-40")
def test_no_patterns_allow_nothing() -> None:
    assert not match_any("mx.example.com", ())
