# SPDX-License-Identifier: Apache-2.0
"""What the DNS states of one MX host mean for a session with it.

The whole of RFC 7672 §2 for one host, as a decision: it knows states, no names and no answers.
What several hosts, a policy and a message make of it is decided in `strictmail.core.delivery`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from strictmail.core.dane.tlsa import DEFAULT_USABILITY, Usability, usable_records
from strictmail.core.dnsvalues import Status
from strictmail.core.mxset import TlsaState
from strictmail.core.tlsrpt.results import ResultType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strictmail.core.dnsvalues import Answer, Tlsa


class DnsState(enum.Enum):
    """How one lookup ended, as far as DANE is concerned (RFC 7672 §2.1.1)."""

    SECURE = "secure"
    """Records, the whole chain validated."""
    INSECURE = "insecure"
    """Records without validation, for whatever reason."""
    ABSENT = "absent"
    """NXDOMAIN or NODATA, secure or not: an answer."""
    ERROR = "error"
    """Bogus, SERVFAIL, time-out, malformed reply: no answer."""

    @classmethod
    def of(cls, answer: Answer) -> DnsState:
        """Classify an answer."""
        # RFC 7672 §2.1.1: bogus, indeterminate, SERVFAIL, time-outs are one class (DANE-04).
        if not answer.status.is_answer:
            return cls.ERROR
        # RFC 7672 §2.1.1: denials are answers, no errors (DANE-03).
        if answer.status is not Status.OK or not answer.records:
            return cls.ABSENT
        # RFC 7672 §2.1.1: insecure is insecure, a missing trust anchor included (DANE-05, DANE-06).
        return cls.SECURE if answer.secure else cls.INSECURE


class HostAction(enum.StrEnum):
    """What a sender does with one host."""

    TLS_DANE = "tls-dane"
    """TLS, authenticated by the usable TLSA records; if that fails, the next host."""
    TLS_NOAUTH = "tls-noauth"
    """TLS, not authenticated; without TLS the next host."""
    OPPORTUNISTIC = "opportunistic"
    """As without DANE: TLS if offered. MTA-STS may still ask for more."""
    SKIP_HOST = "skip-host"
    """This host is not used now: the next host, and after the last one the mail waits."""
    DELAY = "delay"
    """No host is used: the mail waits."""


def decide_host(
    mx: DnsState,
    addresses: DnsState,
    tlsa: DnsState,
    records: Sequence[Tlsa] = (),
    *,
    starttls: bool = True,
    mandatory: bool = False,
    insecure_mx: bool = False,
    usability: Usability = DEFAULT_USABILITY,
) -> HostAction:
    """Decide what a sender does with one MX host.

    Args:
        mx: The MX RRset. SECURE also for a host that an administrator configured and for a
            domain without MX records, whose own name then stands for the host.
        addresses: The host's address records, aliases included.
        tlsa: The TLSA records at the base domain, or at the last candidate.
        records: With tlsa SECURE: the RRset, usable or not.
        starttls: The host offers STARTTLS (as far as is known: before connecting, it does).
        mandatory: Local policy demands DANE of this destination (RFC 7672 §6).
        insecure_mx: Use secure TLSA records behind an insecure MX RRset, too. What follows
            authenticates the MX host only, never the next-hop domain (RFC 7672 §2.2.1).
        usability: Local policy on what is too weak.

    Spec: RFC 7672 §2.1.2, §2.2.
    """
    # RFC 7672 §2.1.2: an error in MX resolution delays the mail (DANE-11, SEC-29).
    if mx is DnsState.ERROR:
        return HostAction.DELAY
    # RFC 7672 §2.2.1: an insecure MX RRset and mandatory DANE: the mail waits (DANE-27).
    if mx is not DnsState.SECURE and mandatory:
        return HostAction.DELAY
    # RFC 7672 §2.1.2, §2.2.2: no addresses, or none to be had: this host only (DANE-12, DANE-22).
    if addresses in (DnsState.ERROR, DnsState.ABSENT):
        return HostAction.SKIP_HOST
    # RFC 7672 §2.2.1: behind an insecure MX RRset TLS may be opportunistic (DANE-23); using the
    # hosts' records there is a choice (DANE-24).
    if mx is not DnsState.SECURE and not insecure_mx:
        return HostAction.OPPORTUNISTIC
    state = _tlsa_state(addresses, tlsa, records, usability)
    return _act(state, starttls=starttls, mandatory=mandatory)


def refusal_type(
    mx: DnsState,
    tlsa: DnsState,
    records: Sequence[Tlsa] = (),
    *,
    mandatory: bool = False,
    dane: bool = True,
) -> ResultType | None:
    """How a host is reported that DNS alone rules out; None if it does not.

    Args:
        mx: The MX RRset.
        tlsa: The TLSA records at the base domain.
        records: With tlsa SECURE: the RRset.
        mandatory: Local policy demands DANE of this destination.
        dane: The sender does DANE at all.

    Spec: RFC 8460 §4.3.2.1.
    """
    if not dane:
        # RFC 8460 §4.3.1: DANE has `dnssec-invalid` to itself (RPT-JSON-35).
        return ResultType.VALIDATION_FAILURE if mx is DnsState.ERROR else None
    # RFC 8460 §4.3.2.1: no valid answer from a validating resolver (RPT-JSON-37).
    if DnsState.ERROR in (mx, tlsa):
        return ResultType.DNSSEC_INVALID
    if not mandatory:
        return None
    # RFC 8460 §4.3.2.1: DANE is demanded here, and there are no validated records (RPT-JSON-38).
    if mx is not DnsState.SECURE or tlsa is not DnsState.SECURE or not records:
        return ResultType.DANE_REQUIRED
    # RFC 8460 §4.3.2.1: validated ones, none of which can be used (RPT-JSON-36).
    return None if usable_records(records) else ResultType.TLSA_INVALID


def _tlsa_state(
    addresses: DnsState, tlsa: DnsState, records: Sequence[Tlsa], usability: Usability
) -> TlsaState:
    # RFC 7672 §2.2.2: behind insecure addresses TLSA is not asked for, so no answer counts (DANE-21).
    if addresses is not DnsState.SECURE:
        return TlsaState.NOT_APPLICABLE
    # RFC 7672 §2.1.2: a TLSA lookup error makes the host unusable (DANE-37, SEC-30).
    if tlsa is DnsState.ERROR:
        return TlsaState.ERROR
    # RFC 7672 §2.2.3: missing or insecure records are no records (DANE-36, DANE-51).
    if tlsa is not DnsState.SECURE:
        return TlsaState.NONE
    # RFC 7672 §2.2: one usable record is enough to demand authentication (DANE-48, DANE-50).
    return TlsaState.USABLE if usable_records(records, usability) else TlsaState.UNUSABLE


_ACTIONS: Final = {
    TlsaState.NOT_APPLICABLE: HostAction.OPPORTUNISTIC,
    TlsaState.NONE: HostAction.OPPORTUNISTIC,
    TlsaState.ERROR: HostAction.SKIP_HOST,
    TlsaState.USABLE: HostAction.TLS_DANE,
    # RFC 7672 §2.2: secure records, none usable: TLS without authentication (DANE-49).
    TlsaState.UNUSABLE: HostAction.TLS_NOAUTH,
}


def _act(state: TlsaState, *, starttls: bool, mandatory: bool) -> HostAction:
    action = _ACTIONS[state]
    # RFC 7672 §2.2, §6: with mandatory DANE only an authenticated host is used (DANE-79).
    if mandatory and action is not HostAction.TLS_DANE:
        return HostAction.SKIP_HOST
    # RFC 7672 §2.2.3: with secure TLSA records the host is never used in the clear (DANE-76).
    if not starttls and action in (HostAction.TLS_DANE, HostAction.TLS_NOAUTH):
        return HostAction.SKIP_HOST
    return action
