# SPDX-License-Identifier: Apache-2.0
"""What a DNS question came back with, as values.

The four DNSSEC states of RFC 4035 §4.3 reach a stub resolver as two facts: the status of the
answer and its AD bit. `Answer` keeps them apart, because RFC 7672 §2.1.1 treats a denial as an
answer, and bogus, SERVFAIL and a time-out as one class: a lookup error.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CNAME_HOPS: Final = 8
"""CNAMEs followed in one lookup (RFC 7672 §2.1.3 wants a limit; resolvers use 8 to 16)."""


class RecordType(enum.IntEnum):
    """The record types that strictmail asks for (IANA numbers)."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    MX = 15
    TXT = 16
    AAAA = 28
    TLSA = 52
    CAA = 257


class Status(enum.Enum):
    """How a lookup ended."""

    OK = "ok"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    BOGUS = "bogus"
    SERVFAIL = "servfail"
    TIMEOUT = "timeout"
    MALFORMED = "malformed"

    @property
    def is_answer(self) -> bool:
        """Whether the name was answered for: data, or a denial (RFC 7672 §2.1.1)."""
        return self in _ANSWERS


_ANSWERS: Final = frozenset({Status.OK, Status.NODATA, Status.NXDOMAIN})


@dataclass(frozen=True, slots=True, order=True)
class Mx:
    """One MX record: preference, then host (lower case, no trailing dot; "" for the root)."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One TLSA record (RFC 6698 §2.1), names as in Postfix and dnspython."""

    usage: int
    selector: int
    mtype: int
    data: bytes

    def __str__(self) -> str:
        """The presentation form with single blanks, as RFC 8460 §4.5 wants it in reports."""
        return f"{self.usage} {self.selector} {self.mtype} {self.data.hex().upper()}"


@dataclass(frozen=True, slots=True)
class Caa:
    """One CAA record (RFC 8659 §4.1): `tag` in lower case, `value` as it stands."""

    flags: int
    tag: str
    value: bytes


Record: TypeAlias = "str | Mx | Tlsa | Caa | tuple[bytes, ...]"
"""A/AAAA: address text; CNAME/NS: lower-case name; TXT: its character-strings."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one lookup, aliases followed.

    Attributes:
        name: The name asked for, lower case, no trailing dot.
        rdtype: The type asked for.
        status: How it ended.
        secure: The whole chain was validated: AD bit from a trusted resolver.
        records: The RRset at the end of the chain, order as received.
        canonical_name: The name at the end of the CNAME chain (`name` when there is none).
        ttl: Seconds the answer may be kept: lowest TTL of the chain; for a denial the
            negative TTL (RFC 2308 §5), for a failure 0.
        detail: A sentence for people about a failure (server, RCODE, extended error); never
            text that a remote party can choose freely.
    """

    name: str
    rdtype: RecordType
    status: Status
    secure: bool = False
    records: Sequence[Record] = ()
    canonical_name: str = ""
    ttl: int = 0
    detail: str = ""

    @property
    def is_alias(self) -> bool:
        """Whether a CNAME was followed."""
        return bool(self.canonical_name) and self.canonical_name != self.name
