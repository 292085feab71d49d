# SPDX-License-Identifier: Apache-2.0
"""The values of MTA-STS (RFC 8461): what a record, a policy and a fetch say."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from strictmail.core.tlsrpt.results import ResultType

MAX_POLICY_BYTES: Final = 64 * 1024
"""RFC 8461 §3.3 suggests 64 KiB; a lower limit would break conforming hosts."""

MAX_MAX_AGE_SECONDS: Final = 31_557_600
"""RFC 8461 §3.2: about one year. Larger values are capped here (contested point C-03)."""


class Mode(enum.StrEnum):
    """What a policy asks for (RFC 8461 §5)."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class StsRecord:
    """A usable `_mta-sts` TXT record.

    Attributes:
        policy_id: 1 to 32 ASCII letters and digits; compared for equality only.
        warnings: Sentences on what was tolerated (C-17), for `explain` and the checker.
    """

    policy_id: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A parsed policy body.

    Attributes:
        mode: What it asks for.
        max_age: Seconds, 0 to MAX_MAX_AGE_SECONDS (larger values capped, with a warning).
        mx_patterns: In file order, folded to lower case; every one well-formed.
        policy_strings: The lines exactly as served, without line ends: reports quote them.
        warnings: Sentences on what was tolerated.
    """

    mode: Mode
    max_age: int
    mx_patterns: tuple[str, ...]
    policy_strings: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FetchedPolicy:
    """A policy that came over verified HTTPS: `body` is exactly what was served."""

    policy: StsPolicy
    body: bytes


@dataclass(frozen=True, slots=True)
class FetchFailure:
    """A policy fetch that failed.

    Attributes:
        result_type: STS_POLICY_FETCH_ERROR, STS_WEBPKI_INVALID or STS_POLICY_INVALID.
        reason: A sentence for people, safe to log: foreign text in it is already escaped.
        reason_code: A short stable word for reports and metrics, such as `http-status`,
            `redirect`, `media-type`, `too-large`, `timeout`, `dns`, `refused-address`,
            `connect`, `truncated`, `certificate-expired`, `certificate-name`, `certificate-untrusted`,
            `tls`, `syntax`.
    """

    result_type: ResultType
    reason: str
    reason_code: str
    lines: tuple[str, ...] = field(default=())
    """For an invalid body: its lines as served (cut to 64 lines), for the report and `explain`."""
