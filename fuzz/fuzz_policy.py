# SPDX-License-Identifier: Apache-2.0
"""Any body gives a policy that survives format and parse, or a PolicySyntaxError with its line.

An accepted policy has a mode, a max_age within bounds, only well-formed patterns, each of which
matches something and nothing foreign; and lines that contain no line end.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from harness import instrumented, run, vector_inputs

with instrumented():
    from strictmail.core.errors import PolicySyntaxError
    from strictmail.core.sts.fetchrules import judge_body
    from strictmail.core.sts.match import match_mx
    from strictmail.core.sts.policy import MAX_WARNINGS, format_policy, parse_policy
    from strictmail.core.sts.values import MAX_MAX_AGE_SECONDS, FetchedPolicy, Mode, StsPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MESSAGE_CHARACTERS = 1000
"""A message quotes at most a piece of what it is about."""


def seeds() -> Iterator[bytes]:
    """The bodies of the vectors."""
    for body in vector_inputs("sts-policy"):
        yield body.encode() if isinstance(body, str) else base64.b64decode(body["b64"])


def check(data: bytes) -> None:
    """Raise if the invariant is broken."""
    accepted = isinstance(judge_body(data), FetchedPolicy)
    try:
        policy = parse_policy(data)
    except PolicySyntaxError as error:
        assert not accepted
        _check_error(error, data)
        return
    assert accepted
    _check_policy(policy)
    again = parse_policy(format_policy(policy))
    assert (again.mode, again.max_age) == (policy.mode, policy.max_age)
    assert again.mx_patterns == policy.mx_patterns
    assert again.warnings == ()


def _check_error(error: PolicySyntaxError, data: bytes) -> None:
    message = str(error)
    assert message.isascii()
    assert message.isprintable()
    assert len(message) <= MAX_MESSAGE_CHARACTERS
    if error.line is not None:
        assert 1 <= error.line <= data.count(b"\n") + 1
        assert message.startswith(f"line {error.line}: ")


def _check_policy(policy: StsPolicy) -> None:
    assert 0 <= policy.max_age <= MAX_MAX_AGE_SECONDS
    assert policy.mx_patterns or policy.mode is Mode.NONE
    assert len(policy.warnings) <= MAX_WARNINGS + 1
    for line in policy.policy_strings:
        assert line
        assert not set("\r\n\0") & set(line)
    for sentence in policy.warnings:
        assert sentence.isascii()
        assert sentence.isprintable()
    for pattern in policy.mx_patterns:
        host = pattern.replace("*", "mx", 1)
        assert match_mx(host, pattern)
        assert not match_mx(f"a.{host}", pattern)
        assert not match_mx(f"{host}.evil.example", pattern)


if __name__ == "__main__":
    run(check, seeds())
