# SPDX-License-Identifier: Apache-2.0
"""What another process asks of the daemon through the policy store."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

ALL_DOMAINS: Final = ""
"""In place of a domain: the request is about every domain."""

MAX_WAITING_REQUESTS: Final = 1000
"""More than these that wait to be forgotten become one request for ALL_DOMAINS: an import of a
million policies, or a daemon that is not there, must not fill the table."""

MAX_KEPT_REQUESTS: Final = 1000
"""How many requests already taken are kept for the commands that wait for their outcome."""


class RequestKind(enum.StrEnum):
    """What is asked."""

    REFRESH = "refresh"
    """Fetch the policy of the domain now, whatever was planned, and say how it went."""
    FORGET = "forget"
    """The store was changed behind the daemon's back (a policy removed or imported, an override
    set or lifted): drop what memory holds of the domain, finished replies and overrides too,
    and read the store again."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        number: Unique for ever in one database.
        domain: A policy domain; ALL_DOMAINS for every one.
    """

    number: int
    kind: RequestKind
    domain: str


@dataclass(frozen=True, slots=True)
class RequestState:
    """How far a request has come.

    Attributes:
        taken: A daemon has seen it.
        outcome: Its answer in one sentence, foreign text escaped; None while it is at work.
        succeeded: Whether it did what was asked; False as long as there is no outcome.
    """

    taken: bool
    outcome: str | None = None
    succeeded: bool = False
