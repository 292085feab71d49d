# SPDX-License-Identifier: Apache-2.0
"""Which domain somebody registered: the unit in which the growth of the cache is bounded.

Anybody can invent subdomains without end under a name of their own, but each registration costs
money. Knows the public suffix list (as packaged, private section included: the customers of a
hosting suffix are different people); decides nothing with it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    # Some 70 ms and 3 MiB: only processes that write policies pay for it.
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


def registrable_domain(domain: str) -> str:
    """The public suffix and one label more; the domain itself where it is a public suffix.

    The first call in a process takes some 70 ms to read the list, later ones some 4 µs.

    Args:
        domain: Lower-case A-labels, no trailing dot.
    """
    return _suffixes().privatesuffix(domain) or domain
