# SPDX-License-Identifier: Apache-2.0
"""Whether a domain says that it has an MTA-STS policy: its `_mta-sts` TXT record.

Knows how DNS outcomes and record faults end in FOUND, ABSENT or FAILED. What each of them means
for a cached policy (nothing, unless the id is a new one) is the business of
`strictmail.core.sts.lifecycle` and its caller.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.errors import RecordSyntaxError
from strictmail.core.sts.record import record_name, select_record

if TYPE_CHECKING:
    from strictmail.core.dnsvalues import Answer
    from strictmail.core.sts.values import StsRecord
    from strictmail.ports import Resolver


class RecordStatus(enum.Enum):
    """How the look for a record ended."""

    FOUND = "found"
    ABSENT = "absent"
    """No policy can be discovered (RFC 8461 §3.1): a cached policy stays until it expires."""
    FAILED = "failed"
    """Nobody could say: a cached policy is applied, and nothing is remembered."""


@dataclass(frozen=True, slots=True)
class RecordLookup:
    """What was found at `_mta-sts.<policy domain>`.

    Attributes:
        status: How the look ended.
        record: With FOUND, the record; else None.
        ttl: Seconds this may be kept: the TTL of the answer, aliases included; the negative TTL
            of a denial; 0 after a failure.
        detail: A sentence for people, safe to log; "" with FOUND.
        reason_code: A stable word: with ABSENT `nxdomain`, `nodata`, `absent` (TXT records, but
            none of MTA-STS), `several`, `syntax`; with FAILED `servfail`, `timeout`, `bogus`,
            `malformed`; "" with FOUND.
    """

    status: RecordStatus
    record: StsRecord | None = None
    ttl: int = 0
    detail: str = ""
    reason_code: str = ""


async def look_up_record(resolver: Resolver, policy_domain: str) -> RecordLookup:
    """Look for the TXT record of a policy domain.

    Args:
        resolver: Follows aliases; its AD bit does not matter here.
        policy_domain: In A-labels, as the next-hop gives it.

    Spec: RFC 8461 §3.1.
    """
    # RFC 8461 §3.1: TXT at `_mta-sts` under the policy domain as given: not under its parent, nor
    # where an alias of the domain leads (STS-REC-01, STS-REC-28, STS-REC-35, STS-APP-03,
    # STS-APP-05).
    answer = await resolver.lookup(record_name(policy_domain), RecordType.TXT)
    if not answer.status.is_answer:
        # RFC 8461 §3.3: a lookup that fails, bogus ones included, says nothing (STS-REC-29,
        # STS-REC-30, STS-REC-31).
        return RecordLookup(
            RecordStatus.FAILED, detail=answer.detail, reason_code=answer.status.value
        )
    if answer.status is not Status.OK:
        # RFC 2308 §5: kept no longer than the negative TTL (STS-REC-32).
        what = "does not exist" if answer.status is Status.NXDOMAIN else "has no TXT record"
        return RecordLookup(
            RecordStatus.ABSENT,
            ttl=answer.ttl,
            detail=f"{answer.name} {what}",
            reason_code=answer.status.value,
        )
    return _select(answer)


def _select(answer: Answer) -> RecordLookup:
    # RFC 8461 §3.1: an alias was followed; whether the answer is secure does not matter
    # (STS-REC-26, STS-REC-31).
    rrset = [record for record in answer.records if isinstance(record, tuple)]
    try:
        record = select_record(rrset)
    except RecordSyntaxError as error:
        # RFC 8461 §3.1: none, several, or a broken one: no policy can be discovered
        # (STS-REC-05, STS-REC-06).
        return RecordLookup(
            RecordStatus.ABSENT, ttl=answer.ttl, detail=str(error), reason_code=error.reason_code
        )
    return RecordLookup(RecordStatus.FOUND, record, answer.ttl)
