# SPDX-License-Identifier: Apache-2.0
"""The MX set of a next-hop, and what DANE says of each host: facts, with an end.

Found by `strictmail.discovery.mx`; judged by `strictmail.core.decision`. Facts live at most
their DNS TTL and are never written to disk.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strictmail.core.dnsvalues import Status, Tlsa


class MxStatus(enum.Enum):
    """How the MX lookup ended."""

    FOUND = "found"
    IMPLICIT = "implicit"
    """No MX record: the domain itself, preference 0 (RFC 5321 §5.1)."""
    CONFIGURED = "configured"
    """`[host]`: an administrator's route, no MX lookup (RFC 7672 §2.2.2)."""
    NULL = "null"
    """The domain accepts no mail (RFC 7505 §3)."""
    NXDOMAIN = "nxdomain"
    ERROR = "error"
    """SERVFAIL, bogus, time-out: delivery is delayed (RFC 7672 §2.1.2)."""


class TlsaState(enum.Enum):
    """What DANE says of one MX host (RFC 7672 §2.2)."""

    NOT_ASKED = "not-asked"
    """Nobody wanted to know (DANE off, or the MX RRset is insecure and MTA-STS alone decides)."""
    NOT_APPLICABLE = "not-applicable"
    """Addresses insecure, or an address literal: TLSA records are not asked for."""
    NONE = "none"
    """No secure TLSA RRset at any candidate base domain."""
    USABLE = "usable"
    """At least one usable record: TLS and authentication are required."""
    UNUSABLE = "unusable"
    """Secure records, none usable: TLS is required, authentication is not."""
    ERROR = "error"
    """A lookup error: the host may not be used (RFC 7672 §2.1.2)."""
    NO_ADDRESS = "no-address"
    """No address records, or an address lookup error: the host cannot be reached."""


@dataclass(frozen=True, slots=True)
class MxHost:
    """One candidate host.

    Attributes:
        name: As it stands in the MX record, lower case, no trailing dot: the name that
            `mx` patterns are compared with (RFC 8461 §4.1).
        preference: Lower is tried first.
        tlsa_state: What DANE says of it.
        tlsa_base_domain: With secure TLSA records: the domain they were found at, else "".
        tlsa: Those records, usable or not.
        detail: A sentence on an error, for people.
        tlsa_status: With ERROR, how the TLSA lookup ended; None if it never came to one.
    """

    name: str
    preference: int
    tlsa_state: TlsaState = TlsaState.NOT_ASKED
    tlsa_base_domain: str = ""
    tlsa: tuple[Tlsa, ...] = ()
    detail: str = ""
    tlsa_status: Status | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class MxSet:
    """The hosts of a next-hop.

    Attributes:
        status: How the lookup ended; `hosts` is empty unless FOUND, IMPLICIT or CONFIGURED.
        secure: The MX RRset (or its secure denial, for IMPLICIT), aliases included, was validated.
        hosts: Ascending preference, then name.
        expanded: The secure CNAME expansion of the next-hop domain, or "" (RFC 7672 §3.2.2).
        ttl: Seconds these facts may be kept: the lowest TTL of all answers used; 0 after an error.
        detail: A sentence on an error, for people.
    """

    status: MxStatus
    secure: bool = False
    hosts: tuple[MxHost, ...] = ()
    expanded: str = ""
    ttl: int = 0
    detail: str = ""
