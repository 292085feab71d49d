# SPDX-License-Identifier: Apache-2.0
"""The reporter's numbers and identities, apart from where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from strictmail.core.tlsrpt.delivery import SPREAD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strictmail.core.dkim import SigningKey
    from strictmail.core.tlsrpt.report import Identity

DEFAULT_IDENTITY: Final = ""


@dataclass(frozen=True, slots=True)
class SenderIdentity:
    """Who reports, and how its mail is signed.

    Attributes:
        identity: As in the reports.
        sender: Address for `From`, in the submitter's domain.
        keys: For DKIM; empty where somebody else signs.
        signed_elsewhere: The MTA behind the relay signs.
    """

    identity: Identity
    sender: str
    keys: tuple[SigningKey, ...] = ()
    signed_elsewhere: bool = False

    @property
    def can_mail(self) -> bool:
        """Whether its mail is signed by anybody."""
        # RFC 8460 §3: mail without a DKIM signature is no report (RPT-DLV-31).
        return bool(self.keys) or self.signed_elsewhere


@dataclass(frozen=True, slots=True)
class ReporterSettings:
    """What an operator decides.

    Attributes:
        identities: By name; "" is the one of all others.
        opt_out: Domains that are never reported to.
        copy_to: A mailbox that gets a copy of each report; "" for none.
        spread: Over how long the reports of a day go out.
        per_destination: Reports of a day that one destination gets at most.
        per_host: The same for all destinations of one host.
        workers: Attempts at the same time.
        host_workers: The same for one host.
        retention: How long days, reports and their deliveries are kept.
        has_mail: Whether reports go out by mail at all.
        sessions_of_reports: Whether the sessions that carry report mail are counted, too.
    """

    identities: Mapping[str, SenderIdentity]
    opt_out: frozenset[str] = frozenset()
    copy_to: str = ""
    spread: timedelta = SPREAD
    per_destination: int = 1000
    per_host: int = 10_000
    workers: int = 32
    host_workers: int = 4
    retention: timedelta = field(default_factory=lambda: timedelta(days=30))
    has_mail: bool = True
    sessions_of_reports: bool = True

    def sender(self, name: str) -> SenderIdentity:
        """The identity of a name; the common one for a name that is configured no more."""
        return self.identities.get(name) or self.identities[DEFAULT_IDENTITY]
