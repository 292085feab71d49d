# SPDX-License-Identifier: Apache-2.0
"""CAA records: which authorities may issue for a name (RFC 8659), and which one issued before.

A CA is known to CAA by a domain and in a certificate by an organisation. The table joins the two
for those that issue most certificates of the web; of any other nothing is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.core.names import fold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from strictmail.core.dnsvalues import Caa

CRITICAL_FLAG: Final = 0x80
"""RFC 8659 §4.1: bit 0 of the flags, the most significant."""

KNOWN_TAGS: Final = frozenset(
    {"issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone"}
)
"""Properties in the registry of IANA; a CA must understand a critical one."""

CA_DOMAINS: Final = {
    "let's encrypt": ("letsencrypt.org",),
    "google trust services": ("pki.goog",),
    "google trust services llc": ("pki.goog",),
    "zerossl": ("sectigo.com",),
    "sectigo limited": ("sectigo.com", "comodoca.com", "comodo.com", "usertrust.com"),
    "digicert inc": (
        "digicert.com",
        "www.digicert.com",
        "symantec.com",
        "geotrust.com",
        "rapidssl.com",
        "thawte.com",
    ),
    "digicert, inc.": ("digicert.com", "www.digicert.com"),
    "globalsign nv-sa": ("globalsign.com",),
    "amazon": ("amazon.com", "amazontrust.com", "awstrust.com", "amazonaws.com"),
    "buypass as-983163327": ("buypass.com", "buypass.no"),
    "godaddy.com, inc.": ("godaddy.com", "starfieldtech.com"),
    "starfield technologies, inc.": ("starfieldtech.com", "godaddy.com"),
    "actalis s.p.a.": ("actalis.it",),
    "ssl corporation": ("ssl.com",),
    "ssl corp": ("ssl.com",),
    "microsoft corporation": ("microsoft.com",),
    "hellenic academic and research institutions ca": ("harica.gr",),
    "swisssign ag": ("swisssign.com",),
    "d-trust gmbh": ("d-trust.net",),
    "deutsche telekom security gmbh": ("telesec.de",),
    "asseco data systems s.a.": ("certum.pl", "certum.eu"),
    "identrust": ("identrust.com",),
    "entrust, inc.": ("entrust.net", "affirmtrust.com"),
}
"""Organisation of the issuer, in lower case, to the domains that it answers to in CAA."""


def domains_of(organisation: str) -> tuple[str, ...]:
    """The CAA domains of a CA; empty for one that is not in the table."""
    return CA_DOMAINS.get(" ".join(organisation.lower().split()), ())


def may_issue(records: Iterable[Caa], domains: Iterable[str], *, wildcard: bool) -> bool:
    """Whether one of these CAA domains may issue.

    Args:
        records: The relevant RRset, not empty.
        domains: Of one CA.
        wildcard: For a wildcard name: `issuewild` goes before `issue`.

    Spec: RFC 8659 §4.2, §4.3, §4.5.
    """
    rrset = list(records)
    # RFC 8659 §4.5: a critical property that is not understood forbids issuance.
    if any(r.flags & CRITICAL_FLAG and r.tag.lower() not in KNOWN_TAGS for r in rrset):
        return False
    values = [r.value for r in rrset if r.tag.lower() == "issue"]
    wild = [r.value for r in rrset if r.tag.lower() == "issuewild"]
    if wildcard and wild:
        values = wild
    # RFC 8659 §4.2: without such a property anybody may.
    if not values:
        return True
    return not set(map(fold, domains)).isdisjoint(map(_issuer_domain, values))


def _issuer_domain(value: bytes) -> str:
    """The domain in `ca.example; account=1`; "" for `;`, which allows nobody."""
    return fold(value.partition(b";")[0].decode("latin-1").strip(" \t"))
