# SPDX-License-Identifier: Apache-2.0
"""In which state a domain is, by mechanism: one word for each, for counts and comparisons.

Pure; reads a `CheckResult` and judges nothing anew. What nobody could look at is `unknown`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from strictmail.core.check.result import Area, Severity
from strictmail.core.dane.authenticate import DaneOutcome
from strictmail.core.mxset import MxStatus, TlsaState

if TYPE_CHECKING:
    from strictmail.core.check.result import AddressResult, CheckResult, HostResult


class StsState(enum.StrEnum):
    """MTA-STS of a domain."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"
    """A valid policy that asks for nothing."""
    INVALID_RECORD = "invalid record"
    FETCH_ERROR = "policy not served"
    WEBPKI_INVALID = "policy host untrusted"
    """Its certificate is not valid for the web PKI."""
    INVALID_POLICY = "invalid policy"
    ABSENT = "no record"
    UNKNOWN = "unknown"


class DaneState(enum.StrEnum):
    """DANE of the MX hosts of a domain."""

    FULL = "all hosts"
    """Each host has usable TLSA records, and every chain that was seen matches."""
    PARTIAL = "some hosts"
    FAILING = "failing"
    """A host presented a chain that its records do not match."""
    UNUSABLE = "unusable records"
    NONE = "none"
    UNKNOWN = "unknown"


class TlsrptState(enum.StrEnum):
    """TLSRPT of a domain."""

    PRESENT = "with a destination"
    INVALID = "invalid record"
    ABSENT = "no record"
    UNKNOWN = "unknown"


class StarttlsState(enum.StrEnum):
    """TLS at the addresses of the MX hosts that could be looked at."""

    ALL = "all addresses"
    SOME = "some addresses"
    NONE = "no address"
    UNKNOWN = "unknown"


_BY_RESULT_TYPE = {
    "sts-policy-fetch-error": StsState.FETCH_ERROR,
    "sts-webpki-invalid": StsState.WEBPKI_INVALID,
    "sts-policy-invalid": StsState.INVALID_POLICY,
}

_NO_HOSTS = frozenset(status.value for status in (MxStatus.NULL, MxStatus.NXDOMAIN))


def takes_mail(result: CheckResult) -> bool:
    """Whether the domain has MX hosts, or may have some that could not be found out."""
    return result.mx_status not in _NO_HOSTS


def sts_is_unknown(result: CheckResult) -> bool:
    """Whether something of MTA-STS could not be looked at."""
    return _is_unknown(result, Area.STS)


def sts_state(result: CheckResult) -> StsState:
    """MTA-STS of a domain."""
    sts = result.sts
    if sts.mode:
        return StsState(sts.mode)
    if sts_is_unknown(result):
        return StsState.UNKNOWN
    if sts.result_type in _BY_RESULT_TYPE:
        return _BY_RESULT_TYPE[sts.result_type]
    # RFC 8461 §3.1: other TXT records may stand at the name, and count for nothing (STS-REC-04).
    is_meant = any(text.lstrip().startswith("v=STSv1") for text in sts.record)
    return StsState.INVALID_RECORD if is_meant else StsState.ABSENT


def tlsrpt_state(result: CheckResult) -> TlsrptState:
    """TLSRPT of a domain."""
    if result.tlsrpt.rua:
        return TlsrptState.PRESENT
    if any(text.lstrip().startswith("v=TLSRPTv1") for text in result.tlsrpt.record):
        return TlsrptState.INVALID
    return TlsrptState.UNKNOWN if _is_unknown(result, Area.TLSRPT) else TlsrptState.ABSENT


def dane_state(result: CheckResult) -> DaneState:
    """DANE of the MX hosts of a domain; of one with `takes_mail`."""
    states = {host.tlsa_state for host in result.hosts}
    if TlsaState.USABLE.value in states:
        if any(_is_mismatched(host) for host in result.hosts):
            return DaneState.FAILING
        return DaneState.FULL if states == {TlsaState.USABLE.value} else DaneState.PARTIAL
    is_open = TlsaState.ERROR.value in states or result.dnssec in ("indeterminate", "bogus")
    if is_open or not result.hosts:
        return DaneState.UNKNOWN
    return DaneState.UNUSABLE if TlsaState.UNUSABLE.value in states else DaneState.NONE


def starttls_state(result: CheckResult) -> StarttlsState:
    """TLS at the MX hosts of a domain; of one with `takes_mail`."""
    seen = {
        has_tls(address)
        for host in result.hosts
        for address in host.addresses
        if address.outcome != "unknown"
    }
    if not seen:
        return StarttlsState.UNKNOWN
    return StarttlsState.SOME if len(seen) > 1 else _ALL_OR_NONE[seen.pop()]


_ALL_OR_NONE = {True: StarttlsState.ALL, False: StarttlsState.NONE}


def has_tls(address: AddressResult) -> bool:
    """Whether a session of any version was made."""
    return address.outcome in ("tls", "tls-outdated")


def _is_mismatched(host: HostResult) -> bool:
    return host.tlsa_state == TlsaState.USABLE.value and any(
        chain.dane not in ("", DaneOutcome.AUTHENTICATED.value)
        for address in host.addresses
        for chain in address.chains
    )


def _is_unknown(result: CheckResult, area: Area) -> bool:
    return any(
        finding.area is area and finding.severity is Severity.UNKNOWN for finding in result.findings
    )
