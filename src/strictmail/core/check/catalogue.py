# SPDX-License-Identifier: Apache-2.0
"""Every kind of finding, and every rule: the areas put together.

The reference page of findings is made from KINDS; a test holds ids to be unique and each kind to
a test that brings it forth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.core.check.rules import (
    authorities,
    certificates,
    dane,
    hosts,
    mx,
    policy,
    policyhost,
    record,
    scope,
    tlsrpt,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.check.kinds import Kind
    from strictmail.core.check.result import Finding

_MODULES: Final = (
    scope,
    mx,
    record,
    policyhost,
    policy,
    hosts,
    certificates,
    dane,
    tlsrpt,
    authorities,
)

KINDS: Final[Mapping[str, Kind]] = {
    kind.id: kind
    for kind in sorted(
        (kind for module in _MODULES for kind in module.KINDS), key=lambda kind: kind.id
    )
}
"""By id, in order of id."""

RULES: Final[tuple[Callable[[DomainFacts], Iterable[Finding]], ...]] = tuple(
    module.judge for module in _MODULES
)
"""Each area's judgement; independent of the others."""
