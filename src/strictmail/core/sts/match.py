# SPDX-License-Identifier: Apache-2.0
"""MX host names against the `mx` patterns of a policy (RFC 8461 §4.1).

Names are compared with patterns, never with what a certificate says (STS-APP-22). A pattern that
is not well-formed matches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from strictmail.core.names import fold, is_ldh_domain

if TYPE_CHECKING:
    from collections.abc import Sequence


def is_mx_pattern(text: str) -> bool:
    """Whether a text is a domain, or `*.` and a domain, in any case.

    Spec: RFC 8461 §3.2; `Domain` of RFC 5321 §4.1.2: no trailing dot, underscore, address
    literal, U-label or port (STS-POL-24, STS-POL-25, STS-POL-27).
    """
    return is_ldh_domain(text.removeprefix("*."))


def match_mx(mx_host: str, mx_pattern: str) -> bool:
    """Whether one pattern allows an MX host.

    Args:
        mx_host: As it stands in the MX record: any case, with or without trailing dot. For a
            domain without MX records, the domain itself.
        mx_pattern: As it stands in the policy, any case.
    """
    return match_any(mx_host, (mx_pattern,))


def match_any(mx_host: str, mx_patterns: Sequence[str]) -> bool:
    """Whether any of the patterns allows an MX host; linear in their number."""
    # RFC 8461 §4.1: the MX target, before any alias, without its root dot (STS-APP-18).
    host = fold(mx_host)
    first, _, rest = host.partition(".")
    # RFC 8461 §4.1: `*` is exactly one label, and labels end at dots (STS-APP-20, STS-APP-21).
    wildcard = f"*.{rest}" if first and rest else ""
    for pattern in mx_patterns:
        folded = pattern.lower()
        # RFC 8461 §4.1: one hit suffices; a literal is the whole name, in any case (STS-APP-17,
        # STS-APP-19). What is no pattern matches nothing (STS-POL-27, STS-POL-29).
        if host and folded in (host, wildcard) and is_mx_pattern(pattern):
            return True
    return False
