# SPDX-License-Identifier: Apache-2.0
"""An operator's word on one next-hop, with a reason and an end."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class OverrideAction(enum.StrEnum):
    """What the operator wants.

    DEFAULT ignores the domain's MTA-STS policy: the MTA's default level applies, and DANE
    where it is found. An override never asks for clear text: nothing here is below the
    listener's default level (STS-APP-66).
    """

    DEFAULT = "default"
    ENCRYPT = "encrypt"
    SECURE = "secure"
    DANE_ONLY = "dane-only"
    DEFER = "defer"


@dataclass(frozen=True, slots=True)
class Override:
    """One override.

    Attributes:
        nexthop: The policy domain (lower-case A-labels) it is about.
        action: What to do instead.
        mx_patterns: With SECURE: the names to accept, as in a policy; empty: the MX names found.
        reason: Why, in the operator's words; shown by `explain`.
        created_at: Aware, UTC.
        expires_at: Aware, UTC; from then on it has no effect. Required: nothing lasts unseen.
    """

    nexthop: str
    action: OverrideAction
    reason: str
    created_at: datetime
    expires_at: datetime
    mx_patterns: tuple[str, ...] = ()

    def is_active(self, now: datetime) -> bool:
        """Whether it still has an effect at `now`."""
        return now < self.expires_at
