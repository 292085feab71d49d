# SPDX-License-Identifier: Apache-2.0
"""The kinds of findings about the `_mta-sts` TXT record."""

from __future__ import annotations

from typing import Final

from strictmail.core.check.kinds import Kind
from strictmail.core.check.result import Severity

LONG_TTL_SECONDS: Final = 86_400
"""A day: above it, senders may not see a new id in time (RFC 8461 §8.1)."""

LOOKUP_FAILED: Final = Kind(
    "STS001",
    Severity.UNKNOWN,
    "Lookup of the MTA-STS record failed",
    "RFC 8461 §3.1",
    "Nobody could see whether the domain has MTA-STS. A sender with the same trouble goes by the "
    "policy that it has cached, or by none.",
    "STS-REC-29",
    "Ask again later; if it stays, look at the name servers of the domain.",
)
ABSENT: Final = Kind(
    "STS002",
    Severity.WARNING,
    "No MTA-STS",
    "RFC 8461 §3.1",
    "Without a record, senders that know MTA-STS do not verify whom they deliver to: anybody on "
    "the way can read the mail. Where DANE protects every MX host, this is a note.",
    "STS-REC-01",
    "Serve a policy in mode `testing` first; then publish the record.",
)
ATTEMPT: Final = Kind(
    "STS003",
    Severity.CRITICAL,
    "MTA-STS record not recognised",
    "RFC 8461 §3.1",
    "A TXT record looks like an attempt, but does not start with `v=STSv1;`: senders pass it over, "
    "and mail travels without the protection that was meant.",
    "STS-REC-08",
    "Replace the record.",
)
DRAFT: Final = Kind(
    "STS004",
    Severity.WARNING,
    "MTA-STS record of a draft",
    "RFC 8461 §3.1",
    "The record is in the form of the drafts of 2016, which nobody reads any more.",
    "STS-REC-08",
    "Replace the record.",
)
SEVERAL: Final = Kind(
    "STS005",
    Severity.CRITICAL,
    "Several MTA-STS records",
    "RFC 8461 §3.1",
    "Exactly one record may start with `v=STSv1;`. With two, senders act as if there were none, "
    "and mail travels without the protection that was meant.",
    "STS-REC-05",
    "Keep one record and remove the others.",
)
SYNTAX: Final = Kind(
    "STS006",
    Severity.CRITICAL,
    "MTA-STS record is malformed",
    "RFC 8461 §3.1",
    "A record that breaks the grammar is no record: senders do not look for the policy, and mail "
    "travels without the protection that was meant.",
    "STS-REC-06",
    "Replace the record.",
)
SPACED: Final = Kind(
    "STS007",
    Severity.WARNING,
    "White space before the first semicolon",
    "RFC 8461 §3.1",
    "The grammar allows it, the rule for dropping foreign records does not: some senders see no "
    "record.",
    "STS-REC-19",
    "Remove the white space.",
)
FOREIGN: Final = Kind(
    "STS008",
    Severity.INFO,
    "Other TXT records beside the MTA-STS record",
    "RFC 8461 §3.1",
    "Senders drop them. Some old software does not; a wildcard TXT record is the usual cause.",
    "STS-REC-04",
    "Remove them if nobody needs them there.",
)
REPEATED: Final = Kind(
    "STS009",
    Severity.WARNING,
    "Field repeated in the MTA-STS record",
    "RFC 8461 §3.2",
    "Of a repeated field the first counts; software that takes the last sees another id.",
    "STS-REC-23",
    "Keep one of them.",
)
LONG_TTL: Final = Kind(
    "STS010",
    Severity.WARNING,
    "MTA-STS record with a long TTL",
    "RFC 8461 §8.1",
    "A new id, and with it a new policy, is seen only when the old record has run out of caches.",
    "STS-APP-56",
    f"Use a TTL of {LONG_TTL_SECONDS} seconds at most; an hour is common.",
)
ALIAS: Final = Kind(
    "STS011",
    Severity.INFO,
    "MTA-STS record delegated by CNAME",
    "RFC 8461 §8.2",
    "Whoever serves the target changes the id. The policy is still fetched from `mta-sts.` under "
    "the domain itself, with a certificate for that name.",
    "STS-REC-27",
)
MISPLACED: Final = Kind(
    "STS012",
    Severity.WARNING,
    "Record at the wrong name",
    "RFC 8461 §3.1",
    "The MTA-STS record stands at `_mta-sts.`, that for reports at `_smtp._tls.`; elsewhere nobody "
    "looks for them.",
    "STS-REC-01",
    "Move the record.",
)
STILL_CACHED: Final = Kind(
    "STS013",
    Severity.WARNING,
    "Policy still cached after the record is gone",
    "RFC 8461 §8.3",
    "Removing the record does not end enforcement: senders keep the policy until it expires.",
    "STS-REC-07",
    "Publish the record again and serve `mode: none` with a small `max_age`, under a new id; "
    "remove both when every policy that was ever served has expired.",
)
BOGUS: Final = Kind(
    "STS014",
    Severity.WARNING,
    "DNSSEC of the MTA-STS record is broken",
    "RFC 8461 §3.1",
    "Signatures do not validate: senders whose resolver checks them do not see the record.",
    "STS-REC-31",
    "Repair the signatures of the zone or its DS record.",
)
GOOD: Final = Kind(
    "STS015",
    Severity.OK,
    "MTA-STS record",
    "RFC 8461 §3.1",
    "There is one record, and senders can use it.",
    "STS-REC-36",
)

KINDS: Final = (
    LOOKUP_FAILED,
    ABSENT,
    ATTEMPT,
    DRAFT,
    SEVERAL,
    SYNTAX,
    SPACED,
    FOREIGN,
    REPEATED,
    LONG_TTL,
    ALIAS,
    MISPLACED,
    STILL_CACHED,
    BOGUS,
    GOOD,
)
