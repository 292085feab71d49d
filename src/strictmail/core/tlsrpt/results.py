# SPDX-License-Identifier: Apache-2.0
"""The result types of RFC 8460 §4.3, and how a policy fetch ends in one of them."""

from __future__ import annotations

import enum


class ResultType(enum.StrEnum):
    """A registered TLSRPT result type (RFC 8460 §4.3, IANA "STARTTLS Validation Result Types")."""

    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"
    STS_POLICY_FETCH_ERROR = "sts-policy-fetch-error"
    STS_POLICY_INVALID = "sts-policy-invalid"
    STS_WEBPKI_INVALID = "sts-webpki-invalid"
