# SPDX-License-Identifier: Apache-2.0
"""The kinds of finding on DANE: what `dane` finds, in the words of the reference."""

from __future__ import annotations

from typing import Final

from strictmail.core.check.kinds import Kind
from strictmail.core.check.result import Severity

NO_TLSA: Final = Kind(
    "DANE001",
    Severity.INFO,
    "No TLSA records",
    "RFC 7672 §2.2",
    "The zones are signed, so DANE could protect mail from the first message on; only the records "
    "are missing.",
    "",
    "Publish the records below, and change them before the key changes.",
)
PARTIAL: Final = Kind(
    "DANE002",
    Severity.WARNING,
    "DANE on some MX hosts only",
    "RFC 7672 §2.2.1",
    "Mail to the other hosts is not authenticated, and an attacker who blocks the protected ones "
    "decides which hosts get it.",
    "DANE-28",
    "Publish TLSA records for every MX host.",
)
LOOKUP_FAILED: Final = Kind(
    "DANE003",
    Severity.UNKNOWN,
    "TLSA lookup failed",
    "RFC 7672 §2.1.2",
    "Senders with DANE must not take a failure for the lack of records: they pass the host over, "
    "and their mail waits if every host is like that.",
    "DANE-37",
    "Repair the signatures of the zone, or the name servers that mishandle questions for TLSA.",
)
NONE_USABLE: Final = Kind(
    "DANE004",
    Severity.WARNING,
    "No usable TLSA record",
    "RFC 7672 §2.2",
    "Senders with DANE demand TLS from the host and authenticate nobody: the records do half of "
    "what they should.",
    "DANE-49",
    "Publish a `3 1 1` record of the key in use.",
)
UNUSABLE: Final = Kind(
    "DANE005",
    Severity.WARNING,
    "Unusable TLSA record",
    "RFC 6698 §4.1",
    "Senders pass this record over.",
    "DANE-43",
    "Remove the record, or put the right one in its place.",
)
MISMATCH: Final = Kind(
    "DANE006",
    Severity.CRITICAL,
    "No TLSA record matches the certificate",
    "RFC 7672 §3.2",
    "Senders with DANE do not deliver to this host: their mail goes to the next one, or waits and "
    "comes back after days. The usual cause is a renewed key without a new record.",
    "DANE-74",
    "Publish the record of the key in use at once; take the old one away afterwards.",
)
ANCHOR_NOT_SENT: Final = Kind(
    "DANE007",
    Severity.CRITICAL,
    "Trust anchor not in the chain",
    "RFC 7672 §3.1.2",
    "A DANE-TA record names a certificate that the host has to send, even if it is a root; senders "
    "have no other place to get it from.",
    "DANE-68",
    "Send the certificate that the record names, or publish a `3 1 1` record.",
)
ANCHOR_UNTRUSTED: Final = Kind(
    "DANE008",
    Severity.CRITICAL,
    "Certificate does not lead to the trust anchor",
    "RFC 7672 §3.1.2",
    "A certificate of the chain matches a DANE-TA record, but the leaf does not validate up to it.",
    "DANE-62",
    "Send the chain from the leaf up to the certificate that the record names.",
)
ANCHOR_EXPIRED: Final = Kind(
    "DANE009",
    Severity.CRITICAL,
    "Chain to the trust anchor expired",
    "RFC 7672 §3.1.2",
    "With DANE-TA, dates count: a certificate between the leaf and the anchor is over or not valid "
    "yet.",
    "DANE-62",
    "Renew the certificate; with a `3 1 1` record dates would not count.",
)
ANCHOR_NAME: Final = Kind(
    "DANE010",
    Severity.CRITICAL,
    "Certificate below the trust anchor names another host",
    "RFC 7672 §3.2.2",
    "With DANE-TA, the certificate has to name the host or the mail domain.",
    "DANE-62",
    "Get a certificate for the TLSA base domain, or publish a `3 1 1` record.",
)
AGILITY: Final = Kind(
    "DANE011",
    Severity.WARNING,
    "A stronger digest hides the record that matches",
    "RFC 7671 §9",
    "Senders look only at the strongest digest of each usage and selector. A SHA2-512 record that "
    "does not match therefore switches off the SHA2-256 record that does.",
    "DANE-52",
    "Publish the same keys with every digest, or only SHA2-256.",
)
UNCOVERED: Final = Kind(
    "DANE012",
    Severity.WARNING,
    "A kind of TLSA record without a match",
    "RFC 7671 §8",
    "Of every combination of usage, selector and digest that is published, one record has to match "
    "the chain in use: a sender may know only that one.",
    "DANE-91",
    "Add the record that matches, or remove all of this combination.",
)
ROLLOVER: Final = Kind(
    "DANE013",
    Severity.INFO,
    "TLSA record for another key",
    "RFC 7671 §8.1",
    "The record matches nothing that the host presents: it is that of the next key, published "
    "ahead, or of one that has gone.",
    "DANE-92",
    "Remove it if that key will not be used (again).",
)
ANCHOR_ONLY: Final = Kind(
    "DANE014",
    Severity.INFO,
    "Authenticated by a trust anchor only",
    "RFC 7672 §3.1.2",
    "Whoever gets a certificate for this name from that authority is this host; and when the "
    "authority changes its intermediates, mail waits.",
    "DANE-93",
    "Publish a `3 1 1` record of the key in use, if it stays the same when renewed.",
)
MATCHED: Final = Kind(
    "DANE015",
    Severity.OK,
    "TLSA records match",
    "RFC 7672 §3.1",
    "Senders with DANE authenticate the host.",
    "DANE-60",
)
WITHOUT_EFFECT: Final = Kind(
    "DANE016",
    Severity.WARNING,
    "TLSA records without effect",
    "RFC 7672 §2.2",
    "Records that are not signed count as if they were not there.",
    "DANE-51",
    "Sign the zone of the host, its addresses included, and publish the DS record.",
)
BEHIND_INSECURE_MX: Final = Kind(
    "DANE017",
    Severity.WARNING,
    "TLSA records behind unsigned MX records",
    "RFC 7672 §2.2.1",
    "The host has TLSA records, but the MX records that name it are not signed: senders do not use "
    "DANE for this domain.",
    "DANE-23",
    "Sign the zone of the domain, too.",
)
NO_TLS: Final = Kind(
    "DANE018",
    Severity.CRITICAL,
    "TLSA records at a host without TLS",
    "RFC 7672 §2.2",
    "Secure TLSA records promise TLS. Senders with DANE do not deliver to the host without it.",
    "DANE-90",
    "Make STARTTLS work on every address, or remove the TLSA records.",
)
NOT_RECOMMENDED: Final = Kind(
    "DANE019",
    Severity.INFO,
    "Another form of TLSA record is recommended",
    "RFC 7672 §3.1",
    "A record of the whole certificate changes with every renewal, even if the key stays; a "
    "`3 1 1` record does not.",
    "DANE-93",
    "Publish a `3 1 1` record beside it, then remove this one.",
)
ALIAS: Final = Kind(
    "DANE020",
    Severity.INFO,
    "TLSA records at the target of an alias",
    "RFC 7672 §2.2.3",
    "The MX host is a CNAME, and the records stand at its target. Senders with DANE ask for the "
    "certificate of the target, those with MTA-STS for that of the MX name.",
    "DANE-31",
)
UNEQUAL: Final = Kind(
    "DANE021",
    Severity.INFO,
    "Addresses of one host present different certificates",
    "RFC 7672 §2.2",
    "One set of TLSA records has to match every one of them.",
    "DANE-82",
)
NOT_COMPARED: Final = Kind(
    "DANE022",
    Severity.UNKNOWN,
    "TLSA records not compared",
    "RFC 7672 §3.2",
    "The host has records, and no certificate of it could be seen.",
)

KINDS: Final = (
    NO_TLSA,
    PARTIAL,
    LOOKUP_FAILED,
    NONE_USABLE,
    UNUSABLE,
    MISMATCH,
    ANCHOR_NOT_SENT,
    ANCHOR_UNTRUSTED,
    ANCHOR_EXPIRED,
    ANCHOR_NAME,
    AGILITY,
    UNCOVERED,
    ROLLOVER,
    ANCHOR_ONLY,
    MATCHED,
    WITHOUT_EFFECT,
    BEHIND_INSECURE_MX,
    NO_TLS,
    NOT_RECOMMENDED,
    ALIAS,
    UNEQUAL,
    NOT_COMPARED,
)
