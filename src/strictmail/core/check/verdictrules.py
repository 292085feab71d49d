# SPDX-License-Identifier: Apache-2.0
"""The rules that decide a verdict: a stable word each, what it says, and where that stands.

A rule's text is a clause: `state` makes a sentence of it, the headline of a page uses it as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Rule(NamedTuple):
    """What a rule says.

    Attributes:
        text: A clause in lower case, without its full stop.
        source: The section, or "" where no standard says so.
    """

    text: str
    source: str


UNVERIFIED: Final[Mapping[str, Rule]] = {
    "no-policy": Rule("the domain has no policy that a sender could find", "RFC 8461 §3.1"),
    "policy-lookup-failed": Rule(
        "the policy record cannot be looked up, and to a sender with nothing cached that is as no "
        "policy",
        "RFC 8461 §3.3",
    ),
    "policy-fetch-failed": Rule(
        "the policy cannot be fetched, and to a sender with nothing cached that is as no policy",
        "RFC 8461 §3.3",
    ),
    "mode-testing": Rule("the policy is in testing and refuses nothing", "RFC 8461 §5"),
    "mode-none": Rule("the policy is in mode none and asks for nothing", "RFC 8461 §5"),
    "no-tlsa": Rule("the MX host has no TLSA records", "RFC 7672 §2.2.3"),
    "insecure-address": Rule(
        "the addresses of the MX host are not signed, so DANE does not apply", "RFC 7672 §2.2.2"
    ),
    "insecure-mx": Rule("the MX records are not signed, so DANE has no say", "RFC 7672 §2.2.1"),
    "opportunistic": Rule("this kind of sender takes TLS as it comes", "RFC 7435 §3"),
}
"""Why nothing is demanded of a session."""

RULES: Final[Mapping[str, Rule]] = {
    **UNVERIFIED,
    "dane": Rule("the TLSA records authenticate the MX host", "RFC 7672 §2.2"),
    "web-pki": Rule(
        "the policy names the MX host, and its certificate is valid for that name",
        "RFC 8461 §4.1, §4.2",
    ),
    "tlsa-unusable": Rule(
        "no TLSA record is usable, so TLS is required and authentication is not",
        "RFC 7672 §2.2",
    ),
    "tlsa-mismatch": Rule("the TLSA records do not authenticate the MX host", "RFC 7672 §2.2"),
    "tlsa-without-tls": Rule(
        "the MX host has TLSA records, and TLS cannot be had", "RFC 7672 §2.2"
    ),
    "tlsa-lookup-failed": Rule("the TLSA lookup fails", "RFC 7672 §2.1.2"),
    "dane-required": Rule(
        "some MX hosts have TLSA records and the policy enforces, so only those are used",
        "RFC 7672 §2.2.1; RFC 8461 §2",
    ),
    "off-policy": Rule("the policy does not name the MX host", "RFC 8461 §4.1"),
    "enforce-no-mx": Rule("the policy names no MX host in DNS", "RFC 8461 §4.1"),
    "no-starttls": Rule("the policy demands TLS, and there is no STARTTLS", "RFC 8461 §5"),
    "tls-failed": Rule("the policy demands TLS, and the handshake fails", "RFC 8461 §5"),
    "tls-outdated": Rule(
        "the policy demands TLS, and only versions before 1.2 are spoken", "RFC 8461 §7.2"
    ),
    "certificate-expired": Rule(
        "a certificate of the MX host is outside its dates", "RFC 8461 §4.2"
    ),
    "certificate-not-trusted": Rule(
        "the certificate of the MX host is not trusted", "RFC 8461 §4.2"
    ),
    "certificate-host-mismatch": Rule(
        "the certificate of the MX host is for another name", "RFC 8461 §4.2"
    ),
    "no-address": Rule("the MX host has no address", "RFC 5321 §5.1"),
    "no-host": Rule("there is no MX host to use", "RFC 5321 §5.1"),
    "mx-lookup-failed": Rule("the MX lookup fails", "RFC 5321 §5.1"),
    "null-mx": Rule("the domain takes no mail", "RFC 7505 §3"),
    "no-domain": Rule("the domain does not exist", "RFC 5321 §5.1"),
    "null-mx-unsigned": Rule(
        "an unsigned answer says that there is no mail here, against the enforced policy",
        "RFC 8461 §10",
    ),
    "unknown": Rule("the MX host could not be looked at", ""),
    "injected": Rule(
        "somebody puts octets into the session in the clear, which a sender discards, or it drops "
        "the session",
        "RFC 3207 §6",
    ),
    "address-literal": Rule(
        "the MX record holds an address; some senders connect to it, others do not",
        "RFC 5321 §5.1",
    ),
    "dnssec-unknown": Rule("what DNSSEC and so DANE say is not known here", "RFC 7672 §2.1"),
    "policy-unknown": Rule("the policy could not be looked at", "RFC 8461 §3.3"),
}
"""Every rule that a verdict can carry."""


def state(rule: str, *details: str) -> str:
    """A rule as a sentence.

    Args:
        rule: Its word.
        details: What follows it, each after a colon; empty ones are left out. Escaped.
    """
    return sentence(": ".join((RULES[rule].text, *filter(None, details))))


def sentence(clause: str) -> str:
    """A clause with a capital letter and a full stop."""
    return f"{clause[0].upper()}{clause[1:]}."
