# SPDX-License-Identifier: Apache-2.0
"""The kinds of findings about MX records and the addresses of MX hosts.

What keeps mail from one host is critical where it keeps mail from all of them.
"""

from __future__ import annotations

from typing import Final

from strictmail.core.check.kinds import Kind
from strictmail.core.check.result import Severity

LOOKUP_FAILED: Final = Kind(
    "MX001",
    Severity.UNKNOWN,
    "MX lookup failed",
    "RFC 5321 §5.1",
    "Nobody could see where mail for the domain goes. A sender with the same trouble keeps the "
    "mail and tries again.",
    "STS-APP-14",
    "Ask again later; if it stays, look at the name servers of the domain.",
)
NXDOMAIN: Final = Kind(
    "MX002",
    Severity.CRITICAL,
    "Domain does not exist",
    "RFC 5321 §5.1",
    "DNS has no such name: mail to it comes back at once.",
    "",
    "Register or delegate the domain, or correct the name that was asked for.",
)
NULL_MX: Final = Kind(
    "MX003",
    Severity.INFO,
    "Null MX: no mail wanted",
    "RFC 7505 §3",
    "The domain says that it takes no mail. Senders return mail for it at once, and nothing has to "
    "be protected.",
    "STS-APP-15",
)
NULL_BESIDE: Final = Kind(
    "MX004",
    Severity.WARNING,
    "Null MX beside other MX records",
    "RFC 7505 §3",
    "A null MX may stand only alone. Senders pass it over or give up, each in its own way.",
    "STS-APP-15",
    "Remove the record with the target `.`, or all the others.",
)
IMPLICIT: Final = Kind(
    "MX005",
    Severity.INFO,
    "No MX record",
    "RFC 5321 §5.1",
    "Without MX records, mail goes to the address of the domain itself; that name is what a policy "
    "and a certificate have to name.",
    "STS-APP-11",
    "Publish an MX record for the host that takes the mail.",
)
DANGLING: Final = Kind(
    "MX006",
    Severity.WARNING,
    "MX host without address",
    "RFC 5321 §5.1",
    "Mail cannot go to a name without an address. If the domain of that name can be registered, "
    "whoever does so gets the mail.",
    "STS-APP-13",
    "Give the host an address, or remove its MX record.",
)
LITERAL: Final = Kind(
    "MX007",
    Severity.WARNING,
    "Address in place of an MX host",
    "RFC 5321 §5.1",
    "An MX record names a host. An address there is a name that does not exist; no policy can "
    "allow it and no certificate can name it.",
    "DANE-29",
    "Give the address a name, and name that in the MX record.",
)
ALIAS: Final = Kind(
    "MX008",
    Severity.WARNING,
    "MX host is an alias",
    "RFC 2181 §10.3",
    "The target of an MX record may not be a CNAME: some senders refuse it, and those that follow "
    "it still compare the alias, not its target, with the policy and the certificate.",
    "STS-APP-18",
    "Name the host itself in the MX record; put it into the policy first.",
)
DUPLICATE: Final = Kind(
    "MX009",
    Severity.INFO,
    "MX host named twice",
    "RFC 5321 §5.1",
    "Of several records for one host only the most preferred has an effect.",
    "",
    "Remove the other record.",
)
TOO_MANY: Final = Kind(
    "MX010",
    Severity.INFO,
    "Many MX hosts",
    "RFC 5321 §5.1",
    "Senders try only a few hosts for one message; each further one only has to be kept in order.",
    "",
    "Keep two to five, or one name with several addresses.",
)
NOT_PUBLIC: Final = Kind(
    "MX011",
    Severity.WARNING,
    "MX host with an address that is not public",
    "RFC 5321 §5.1",
    "Senders on the Internet cannot reach a private or loopback address: they waste time on it, or "
    "talk to themselves.",
    "",
    "Publish public addresses only, or remove the MX record from the public zone.",
)
ADDRESS_FAILED: Final = Kind(
    "MX012",
    Severity.UNKNOWN,
    "Address lookup of an MX host failed",
    "RFC 7672 §2.1.2",
    "Nobody could see where the host is. A sender with the same trouble passes the host over.",
    "DANE-12",
    "Ask again later; if it stays, look at the name servers of that host's domain.",
)
IPV6_ONLY: Final = Kind(
    "MX013",
    Severity.WARNING,
    "MX host without IPv4",
    "RFC 5321 §5.1",
    "Many senders have no IPv6 and cannot deliver to a host without an IPv4 address.",
    "",
    "Add an A record, or another MX host that has one.",
)
SINGLE: Final = Kind(
    "MX014",
    Severity.INFO,
    "One MX host",
    "RFC 5321 §5.1",
    "While that host is down, mail waits at the senders. That is sound: a second host that is not "
    "kept as carefully is worse than none.",
)
DOMAIN_ALIAS: Final = Kind(
    "MX015",
    Severity.INFO,
    "Domain is an alias",
    "RFC 8461 §3.4",
    "Mail follows the CNAME, but MTA-STS does not: senders look for record and policy at the name "
    "as it was given.",
    "STS-APP-05",
)
BAD_NAME: Final = Kind(
    "MX016",
    Severity.WARNING,
    "MX host is no host name",
    "RFC 5321 §4.1.2",
    "Letters, digits and hyphens make a host name. No policy can list another name, and no public "
    "certificate is issued for it.",
    "STS-POL-25",
    "Give the host a name of letters, digits and hyphens, and name that in the MX record.",
)
BOGUS: Final = Kind(
    "SEC001",
    Severity.CRITICAL,
    "DNSSEC of the MX records is broken",
    "RFC 7672 §2.1.2",
    "Signatures do not validate. Senders whose resolver checks them, such as the large ones, cannot "
    "see the MX records: their mail waits, and comes back after days.",
    "DANE-11",
    "Repair the signatures of the zone or its DS record; until then, withdraw the DS record.",
)
INSECURE: Final = Kind(
    "SEC002",
    Severity.INFO,
    "MX records not signed",
    "RFC 7672 §2.2.1",
    "Without DNSSEC on the domain, senders do not use DANE for it, whatever its MX hosts publish. "
    "MTA-STS does not need DNSSEC.",
    "DANE-23",
    "Sign the zone if you want DANE.",
)
SECURE: Final = Kind(
    "SEC003",
    Severity.OK,
    "MX records signed",
    "RFC 7672 §2.2.1",
    "The MX records validate: nobody can put other hosts in their place towards a sender that "
    "checks DNSSEC.",
    "DANE-24",
)
HOST_INSECURE: Final = Kind(
    "SEC004",
    Severity.INFO,
    "Addresses of an MX host not signed",
    "RFC 7672 §2.2.2",
    "The zone of the MX host has no DNSSEC: TLSA records there are not even asked for, and DANE "
    "does not protect this host.",
    "DANE-21",
    "Sign the zone of the host, or use MX hosts in a signed zone.",
)
HOST_BOGUS: Final = Kind(
    "SEC005",
    Severity.WARNING,
    "DNSSEC of an MX host is broken",
    "RFC 7672 §2.1.2",
    "Signatures of the host's addresses do not validate: senders whose resolver checks them pass "
    "the host over.",
    "DANE-12",
    "Repair the signatures of the host's zone or its DS record.",
)

KINDS: Final = (
    LOOKUP_FAILED,
    NXDOMAIN,
    NULL_MX,
    NULL_BESIDE,
    IMPLICIT,
    DANGLING,
    LITERAL,
    ALIAS,
    DUPLICATE,
    TOO_MANY,
    NOT_PUBLIC,
    ADDRESS_FAILED,
    IPV6_ONLY,
    SINGLE,
    DOMAIN_ALIAS,
    BAD_NAME,
    BOGUS,
    INSECURE,
    SECURE,
    HOST_INSECURE,
    HOST_BOGUS,
)
