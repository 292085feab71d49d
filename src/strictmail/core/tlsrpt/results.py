# SPDX-License-Identifier: Apache-2.0
"""The policy types and result types of RFC 8460, and the one table from codes to them."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class PolicyType(enum.StrEnum):
    """What a session was judged under (RFC 8460 §4.4)."""

    TLSA = "tlsa"
    STS = "sts"
    NO_POLICY_FOUND = "no-policy-found"
    """Opportunistic TLS, which is reported all the same (RPT-REC-30)."""


class ResultType(enum.StrEnum):
    """A registered TLSRPT result type (RFC 8460 §4.3, IANA "STARTTLS Validation Result Types")."""

    # RFC 8460 §4.3.1: of a session with an MX host (RPT-JSON-30, -31, -32, -33, -34, -35).
    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    # RFC 8460 §4.3.2.1: of DANE (RPT-JSON-36, -37, -38).
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"
    # RFC 8460 §4.3.2.2: of learning an MTA-STS policy (RPT-JSON-39, -40, -41).
    STS_POLICY_FETCH_ERROR = "sts-policy-fetch-error"
    STS_POLICY_INVALID = "sts-policy-invalid"
    STS_WEBPKI_INVALID = "sts-webpki-invalid"


POLICY_TYPE_CODES: Final[Mapping[int, PolicyType]] = {
    1: PolicyType.TLSA,
    2: PolicyType.STS,
    9: PolicyType.NO_POLICY_FOUND,
}
"""The numbers of libtlsrpt's datagrams."""

RESULT_CODES: Final[Mapping[int, ResultType]] = {
    201: ResultType.STARTTLS_NOT_SUPPORTED,
    202: ResultType.CERTIFICATE_HOST_MISMATCH,
    203: ResultType.CERTIFICATE_NOT_TRUSTED,
    204: ResultType.CERTIFICATE_EXPIRED,
    205: ResultType.VALIDATION_FAILURE,
    301: ResultType.STS_POLICY_FETCH_ERROR,
    302: ResultType.STS_POLICY_INVALID,
    303: ResultType.STS_WEBPKI_INVALID,
    304: ResultType.TLSA_INVALID,
    305: ResultType.DNSSEC_INVALID,
    306: ResultType.DANE_REQUIRED,
}
"""The same; a code that is not here is a `validation-failure` with the code as its reason."""

UNFINISHED_POLICY_CODE: Final = 901
"""libtlsrpt closed a policy that the MTA had not finished: no verdict of anybody."""
