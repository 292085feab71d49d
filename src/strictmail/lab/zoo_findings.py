# SPDX-License-Identifier: Apache-2.0
"""Zoo: what `strictmail check` has to tell the owner of each domain.

Decided by what the owner has to know of the fault, with the weight that it has for mail there,
before a check ran; ids as in `docs/reference/findings.md`. All that is critical, a warning or
unknown stands here: anything else of that weight is a false alarm. Notes (`info`) stand here where
they are about the entry's subject; others may come.

Some rows have more than the fault that the entry is named after:

- Without MTA-STS and complete DANE, `STS002` is a warning: nothing protects such a domain.
- Reports for a domain of the zoo go to a mailbox in it: where it takes no mail they are lost
  (`RPT009`), and where nobody could see its hosts nobody knows (`RPT010`).
- A name that is delegated to a server without its zone has a lame server (`DNS003`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SEVERITIES: Final = ("critical", "warning", "unknown", "info")
"""What ids in a row may stand behind; the first three are complete in each row."""

_WITHOUT_POLICY: Final = {
    "no-policy": "warning STS002",
    "no-policy-self-signed": "warning STS002 info TLS103",
    "no-policy-no-starttls": "warning STS002 TLS001",
    "no-policy-broken-tls": "warning STS002 TLS005",
}

_RECORDS: Final = {
    "good": "",
    "child-of-good": "warning STS002 info TLS103",
    "txt-absent": "warning STS002",
    "txt-two": "critical STS005",
    "txt-two-one-broken": "critical STS005",
    "txt-bad-id": "critical STS006",
    "txt-upper-case": "critical STS003",
    "txt-foreign": "info STS008",
    "txt-split": "",
    "txt-extension": "warning STS009",
    "txt-large": "info STS008",
    "txt-cname": "info STS011 DNS008",
    "txt-servfail": "warning DNS003 unknown STS001",
    "txt-bogus": "warning STS014",
    "idn": "",
    "id-change": "critical STS063 info STS065",
    "domain-alias": "info MX015",
}

_POLICY_HOSTS: Final = {
    "policy-redirect-same-host": "critical STS032",
    "policy-redirect-other-host": "critical STS032",
    "policy-404": "critical STS033",
    "policy-500": "critical STS033",
    "policy-204": "critical STS033",
    "policy-203": "critical STS033",
    "policy-304": "critical STS033",
    "policy-slow": "critical STS026",
    # Nobody heard a word: whether others do, nobody knows.
    "policy-stall": "unknown STS025",
    "policy-endless": "critical STS036",
    "policy-huge": "critical STS036",
    "policy-header-flood": "critical STS036",
    "policy-gzip": "critical STS035",
    "policy-bomb": "critical STS035",
    "policy-truncated": "critical STS037",
    "policy-unfinished-chunks": "critical STS037",
    "policy-html-type": "critical STS034",
    "policy-no-type": "critical STS034",
    "policy-not-http": "critical STS038",
    "policy-http-only": "critical STS031",
    "policy-old-tls": "critical STS031",
    "policy-refused": "unknown STS025",
    "policy-expired": "critical STS027",
    "policy-not-yet-valid": "critical STS027",
    "policy-self-signed": "critical STS030",
    "policy-untrusted-ca": "critical STS030",
    "policy-missing-intermediate": "critical STS030",
    "policy-wrong-name": "critical STS028",
    "policy-domain-certificate": "critical STS028",
    "policy-common-name-only": "critical STS028",
    "policy-wildcard-too-high": "critical STS028",
    "policy-wildcard": "",
    "policy-delegated": "info STS024 DNS008",
    "policy-delegated-wrong-name": "critical STS029 info STS024",
    "policy-unresolvable": "critical STS020",
    "policy-inner-address": "critical STS023",
    # The address is one for documentation, which nobody routes.
    "policy-dead-ipv6": "warning STS023 STS042",
    "policy-type-parameters": "",
}

_POLICY_BODIES: Final = {
    "body-empty": "critical STS050",
    "body-html": "critical STS050",
    "body-no-version": "critical STS050",
    "body-no-max-age": "critical STS050",
    "body-no-mx": "critical STS050",
    "body-upper-case-mode": "critical STS050",
    "body-max-age-unit": "critical STS050",
    "body-comment": "critical STS050",
    "body-control": "critical STS050",
    "body-mx-list": "critical STS050",
    "body-line-ends": "",
    "body-blank-lines": "warning STS053",
    "body-one-bad-mx": "warning STS052",
    "body-large-max-age": "warning STS054",
    "body-braces": "info STS056",
    # Allowed, and one octet short of being no policy.
    "body-at-limit": "warning STS040 info STS056",
    "body-duplicates": "critical TLS103 warning STS055",
    "body-u2028": "critical TLS103 warning STS055 info STS056",
    "body-max-age-zero": "warning STS057",
}

_MODES: Final = {
    "testing": "info STS059",
    "testing-bad-certificate": "warning TLS103 info STS059",
    "testing-no-starttls": "warning TLS001 info STS059",
    "testing-against-mx": "warning STS063 info STS059 STS065",
    "mode-none": "warning STS061 info TLS103",
    "mode-none-with-mx": "warning STS061",
}

_CERTIFICATES: Final = {
    "mx-expired": "critical TLS101",
    "mx-not-yet-valid": "critical TLS102",
    "mx-expired-intermediate": "critical TLS101",
    "mx-self-signed": "critical TLS103",
    "mx-untrusted-ca": "critical TLS104",
    "mx-missing-intermediate": "critical TLS105",
    "mx-wrong-name": "critical TLS106",
    "mx-domain-certificate": "critical TLS106",
    "mx-common-name-only": "critical TLS106",
    "mx-address-only": "critical TLS106",
    "mx-partial-wildcard": "critical TLS106",
    "mx-wildcard-too-high": "critical TLS106",
    "mx-wildcard": "",
}

_SERVICES: Final = {
    "mx-no-starttls": "critical TLS001",
    "mx-starttls-454": "critical TLS002",
    "mx-starttls-502": "critical TLS003",
    "mx-ehlo-refused": "critical TLS001",
    "mx-broken-tls": "critical TLS005",
    "mx-old-tls": "critical TLS006",
    "mx-tarpit": "unknown TLS012 RPT010",
    "mx-421": "unknown TLS013 RPT010",
    "mx-refused": "unknown TLS011 RPT010",
    "mx-injected": "critical TLS004",
    # A check names no recipient.
    "mx-rcpt-550": "",
}

_SETS: Final = {
    "mx-unlisted": "critical STS063 info STS065",
    "mx-unlisted-listed-certificate": "critical STS063 info STS065",
    "mx-first-unlisted": "critical STS063",
    "mx-first-unlisted-shared-certificate": "critical STS063",
    "mx-first-bad-certificate": "critical TLS103",
    "mx-first-no-starttls": "critical TLS001",
    "mx-first-unresolvable": "warning MX006",
    "mx-all-bad": "critical TLS001 TLS103",
    "pattern-wildcard": "info STS066",
    "pattern-wildcard-deep": "critical STS063 info STS065",
    "pattern-wildcard-apex": "critical STS063 info STS065",
    "pattern-upper-case": "",
    "implicit-mx": "info MX005",
    "null-mx": "warning RPT009 info MX003",
    "null-mx-enforce": "warning RPT009 info MX003 STS071",
    "mx-alias": "warning MX008",
    "mx-alias-certificate": "critical TLS106 warning MX008",
    "mx-alias-listed-target": "critical STS064 warning MX008",
    "mx-address-text": "critical MX007 STS063 warning RPT009",
    # The alias is the whole domain's: CAA and the mailbox for reports are behind it, too.
    "mx-lookup-fails": "critical SEC001 warning DNS007 unknown RPT010",
}

_DANE_SATISFIED: Final = {
    "dane-ee": "info STS002",
    "dane-ee-full": "",
    "dane-ta": "info DANE014",
    "dane-ta-root": "info DANE014",
    "dane-ta-domain-name": "info DANE014 TLS106",
    "dane-ee-expired": "info TLS101",
    "dane-ee-wrong-name": "info TLS106",
    "dane-ee-self-signed": "info TLS103",
    "dane-mixed-usability": "warning DANE005",
    "dane-roll-over": "info DANE013",
    "dane-agility-malformed": "warning DANE005",
    "dane-cname": "warning MX008 info DANE020",
    "dane-cname-insecure-target": "warning MX008",
    "dane-tlsa-cname": "",
    "dane-implicit-mx": "info MX005",
    "dane-second-host": "critical DANE006",
    "dane-bogus-address": "warning SEC005",
}

_DANE_NOT_SATISFIED: Final = {
    "dane-mismatch": "critical DANE006",
    "dane-ta-expired": "critical DANE009 warning TLS101",
    "dane-ta-wrong-name": "critical DANE010 info TLS106",
    "dane-agility": "critical DANE011",
    "dane-no-starttls": "critical DANE018 TLS001",
    "dane-unusable": "warning DANE004 DANE005 STS002 info TLS103",
    "dane-unknown-mtype": "warning DANE004 DANE005 STS002 info TLS103",
    "dane-unusable-no-starttls": "critical DANE018 TLS001 warning DANE004 DANE005 STS002",
    "dane-tlsa-bogus": "critical DANE003",
    "dane-tlsa-servfail": "critical DANE003 warning DNS003",
    "dane-tlsa-bogus-first": "critical DANE003",
    "bogus-domain": "critical SEC001 warning STS014 RPT011",
    "dane-partial": "warning DANE002 STS002",
}

_DANE_NOT_APPLICABLE: Final = {
    # The host is of another domain, which may well want its records.
    "dane-insecure-mx": "warning STS002 info DANE017 SEC002",
    "dane-insecure-mx-enforce": "info DANE017 SEC002",
    "dane-insecure-address": "warning DANE016 STS002 info SEC004",
    "dane-insecure-tlsa": "warning DANE016 STS002",
    "signed-no-tlsa": "warning STS002 info DANE001",
    "signed-null-mx": "warning RPT009 info MX003",
}

_DANE_AND_MTA_STS: Final = {
    "both": "",
    "both-dane-fails": "critical DANE006",
    "both-sts-fails": "critical STS063 info STS065",
    "both-sts-certificate-fails": "critical TLS103",
    "both-testing": "critical DANE006 info STS059",
    "both-unusable": "warning DANE004 DANE005",
    "both-unusable-bad-certificate": "critical TLS103 warning DANE004 DANE005",
    "both-tlsa-bogus": "critical DANE003",
    "both-partial": "warning DANE002",
    "both-no-tlsa": "info DANE001",
}

FINDINGS: Final[Mapping[str, str]] = (
    _WITHOUT_POLICY
    | _RECORDS
    | _POLICY_HOSTS
    | _POLICY_BODIES
    | _MODES
    | _CERTIFICATES
    | _SERVICES
    | _SETS
    | _DANE_SATISFIED
    | _DANE_NOT_SATISFIED
    | _DANE_NOT_APPLICABLE
    | _DANE_AND_MTA_STS
)
"""By the name of an entry: ids behind their severity, separated by blanks."""


def read_findings(row: str) -> tuple[tuple[str, str], ...]:
    """A row as pairs of severity and id.

    Raises:
        ValueError: An id comes before any severity.
    """
    found: list[tuple[str, str]] = []
    severity = ""
    for word in row.split():
        if word in SEVERITIES:
            severity = word
        elif severity:
            found.append((severity, word))
        else:
            raise ValueError(f"{word} has no severity before it")
    return tuple(found)
