# SPDX-License-Identifier: Apache-2.0
"""The kinds of findings about a policy: what each means for mail, and what to do.

Severity: in mode `enforce`, MX hosts that the policy does not allow are skipped; that is critical
where mail then waits, or where the hosts that it should go to are left out, and a warning where
only a backup is. A fault that makes the policy no policy is critical: mail travels without the
protection that the owner asked for. What only some senders trip over is a warning.
"""

from __future__ import annotations

from typing import Final

from strictmail.core.check.kinds import Kind
from strictmail.core.check.result import Severity
from strictmail.core.sts.values import MAX_MAX_AGE_SECONDS

DAY_SECONDS: Final = 86_400
WEEK_SECONDS: Final = 7 * DAY_SECONDS

TESTING_WEEKS: Final = 12
"""Weeks in mode testing after which somebody has probably forgotten it; two are advised."""

INVALID: Final = Kind(
    "STS050",
    Severity.CRITICAL,
    "Policy is malformed",
    "RFC 8461 §3.2",
    "A body that breaks the grammar is no policy: senders keep what they have cached, and "
    "otherwise deliver as without MTA-STS.",
    "STS-FET-30",
    "Correct the line; then publish a new id.",
)
MISSPELT: Final = Kind(
    "STS051",
    Severity.WARNING,
    "Unknown key, probably misspelt",
    "RFC 8461 §3.2",
    "Senders pass unknown keys over: the line has no effect.",
    "STS-POL-31",
    "Correct the key; then publish a new id.",
)
BAD_MX: Final = Kind(
    "STS052",
    Severity.WARNING,
    "`mx` line that matches nothing",
    "RFC 8461 §3.2",
    "The value is no host name or wildcard: some senders ignore the line, others the whole policy.",
    "STS-POL-29",
    "Correct or remove the line; then publish a new id.",
)
EMPTY_LINES: Final = Kind(
    "STS053",
    Severity.WARNING,
    "Empty lines in the policy",
    "RFC 8461 §3.2",
    "The grammar has no empty lines: strict senders take the policy for malformed.",
    "STS-POL-06",
    "Remove the empty lines, at the end of the file, too.",
)
CAPPED: Final = Kind(
    "STS054",
    Severity.WARNING,
    "`max_age` above the maximum",
    "RFC 8461 §3.2",
    "Some senders cap the value, others take the policy for malformed.",
    "STS-POL-17",
    f"Use {MAX_MAX_AGE_SECONDS} seconds at most.",
)
REPEATED: Final = Kind(
    "STS055",
    Severity.WARNING,
    "Key repeated in the policy",
    "RFC 8461 §3.2",
    "Of a repeated key other than `mx` the first counts; software that takes the last sees another "
    "policy.",
    "STS-POL-30",
    "Keep one of the lines.",
)
UNKNOWN_KEY: Final = Kind(
    "STS056",
    Severity.INFO,
    "Unknown key in the policy",
    "RFC 8461 §3.2",
    "Senders pass it over. The id stands in the TXT record only.",
    "STS-POL-31",
    "Remove the line if it is not meant as an extension.",
)
SHORT: Final = Kind(
    "STS057",
    Severity.WARNING,
    "`max_age` below a day",
    "RFC 8461 §3.2",
    "Senders refresh about daily: between two mails the policy is over, and protects hardly anything.",
    "OPS-09",
    "Use weeks once the policy is stable.",
)
WEAK: Final = Kind(
    "STS058",
    Severity.INFO,
    "`max_age` below a week",
    "RFC 8461 §10.2",
    "Somebody who can block the policy host for that long ends the protection.",
    "OPS-10",
    "Use two weeks or more once the policy is stable.",
)
TESTING: Final = Kind(
    "STS059",
    Severity.INFO,
    "Mode testing",
    "RFC 8461 §5",
    "Failures are reported, and mail is delivered all the same: nothing is protected yet.",
    "OPS-12",
    "Read the TLS reports for two weeks, then change the mode and the id.",
)
TESTING_LONG: Final = Kind(
    "STS060",
    Severity.WARNING,
    "Mode testing for a long time",
    "RFC 8461 §5",
    "Failures are reported, and mail is delivered all the same: nothing is protected.",
    "OPS-34",
    "If the TLS reports are clean, change the mode and the id.",
)
MODE_NONE: Final = Kind(
    "STS061",
    Severity.WARNING,
    "Mode none",
    "RFC 8461 §5",
    "The policy switches MTA-STS off. Where DANE protects every MX host, this is a note.",
    "OPS-22",
    "Keep it until every earlier policy has expired; then remove record and policy.",
)
ENFORCE: Final = Kind(
    "STS062",
    Severity.OK,
    "Mode enforce",
    "RFC 8461 §5",
    "Senders deliver to hosts that the policy allows, over verified TLS, or not at all.",
    "STS-POL-42",
)
NOT_ALLOWED: Final = Kind(
    "STS063",
    Severity.CRITICAL,
    "Policy does not allow an MX host",
    "RFC 8461 §4.1",
    "In mode enforce, senders skip the host; without another one, mail waits and comes back after "
    "days. In mode testing they report it.",
    "OPS-08",
    "Add the line, publish a new id, and wait a day before the next change of MX records.",
)
ALIAS_TARGET: Final = Kind(
    "STS064",
    Severity.CRITICAL,
    "Policy lists the target of an alias",
    "RFC 8461 §4.1",
    "The name in the MX record is compared with the policy, before any CNAME: the target's name "
    "allows nothing.",
    "STS-APP-18",
    "List the name as it stands in the MX record, then publish a new id.",
)
STALE: Final = Kind(
    "STS065",
    Severity.INFO,
    "Policy allows a host that is no MX",
    "RFC 8461 §8.1",
    "Before a new MX record, or just after an old one, that is right; else whoever gets that name "
    "may receive the mail.",
    "OPS-06",
    "Remove the line once the host is out of use; then publish a new id.",
)
BY_WILDCARD: Final = Kind(
    "STS066",
    Severity.INFO,
    "MX hosts allowed by a wildcard only",
    "RFC 8461 §10.4",
    "Any host of that name may receive the mail, if it can be put into DNS and has a certificate.",
    "OPS-26",
    "List the hosts by name where others can get names there.",
)
TOO_WIDE: Final = Kind(
    "STS067",
    Severity.WARNING,
    "Wildcard too wide",
    "RFC 8461 §10.4",
    "Others have names there, or can get one, and a certificate for it: they are then allowed to "
    "receive the mail.",
    "OPS-26",
    "List the MX hosts, or a wildcard below a name that you control.",
)
RECEIVER: Final = Kind(
    "STS068",
    Severity.INFO,
    "Pattern does not fit the receiver",
    "RFC 8461 §4.1",
    "The pattern was meant for the hosts of the receiver and matches none of them: `*` is exactly "
    "one label.",
    "STS-APP-20",
    "Use the lines that fit the receiver.",
)
SAME_ID: Final = Kind(
    "STS069",
    Severity.WARNING,
    "Policy changed under an unchanged id",
    "RFC 8461 §3.1",
    "Senders with the policy in their cache do not look for the new one before their next refresh.",
    "STS-REC-36",
    "Publish a new id.",
)
CACHED_REFUSES: Final = Kind(
    "STS070",
    Severity.WARNING,
    "Cached policy does not allow an MX host",
    "RFC 8461 §8.1",
    "Senders that still hold the earlier policy skip the host until they have fetched the new one.",
    "OPS-05",
    "Announce a new MX host in the policy first, under a new id, and wait before the MX record.",
)
NO_MAIL: Final = Kind(
    "STS071",
    Severity.INFO,
    "Policy for a domain that takes no mail",
    "RFC 7505 §3",
    "There is nothing to deliver and nothing to protect.",
    "OPS-14",
    "Phase the policy out: `mode: none` with a small `max_age` first.",
)
ALL_ALLOWED: Final = Kind(
    "STS072",
    Severity.OK,
    "Policy allows every MX host",
    "RFC 8461 §4.1",
    "Each host in the MX records matches a pattern.",
    "OPS-08",
)

KINDS: Final = (
    INVALID,
    MISSPELT,
    BAD_MX,
    EMPTY_LINES,
    CAPPED,
    REPEATED,
    UNKNOWN_KEY,
    SHORT,
    WEAK,
    TESTING,
    TESTING_LONG,
    MODE_NONE,
    ENFORCE,
    NOT_ALLOWED,
    ALIAS_TARGET,
    STALE,
    BY_WILDCARD,
    TOO_WIDE,
    RECEIVER,
    SAME_ID,
    CACHED_REFUSES,
    NO_MAIL,
    ALL_ALLOWED,
)
