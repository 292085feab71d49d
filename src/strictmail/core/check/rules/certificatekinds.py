# SPDX-License-Identifier: Apache-2.0
"""The kinds of finding on certificates: what `certificates` finds, in the words of the reference."""

from __future__ import annotations

from typing import Final

from strictmail.core.check.kinds import Kind
from strictmail.core.check.result import Severity

EXPIRED: Final = Kind(
    "TLS101",
    Severity.WARNING,
    "Certificate expired",
    "RFC 8461 §4.2",
    "A certificate of the chain is over. Senders with MTA-STS refuse the host.",
    "STS-APP-32",
    "Renew the certificate, and make the mail server load the new one.",
)
NOT_YET_VALID: Final = Kind(
    "TLS102",
    Severity.WARNING,
    "Certificate not valid yet",
    "RFC 8461 §4.2",
    "A certificate of the chain begins in the future.",
    "STS-APP-32",
    "Look at the clock of the machine that made it, and use a certificate that is valid now.",
)
SELF_SIGNED: Final = Kind(
    "TLS103",
    Severity.INFO,
    "Self-signed certificate",
    "RFC 8461 §4.2",
    "The certificate was issued by itself. That is enough for DANE, and for nobody who looks at "
    "the web PKI.",
    "STS-APP-31",
    "Get a certificate for the MX name from a public CA, such as by ACME.",
)
UNTRUSTED_ROOT: Final = Kind(
    "TLS104",
    Severity.INFO,
    "Issuer not trusted",
    "RFC 8461 §4.2",
    "The chain ends in a root that is in no public trust store.",
    "STS-APP-31",
    "Get a certificate for the MX name from a public CA, such as by ACME.",
)
MISSING_INTERMEDIATE: Final = Kind(
    "TLS105",
    Severity.INFO,
    "Intermediate certificate missing",
    "RFC 8461 §4.2",
    "The host does not send the certificate of the issuer. Some clients fetch or remember it, "
    "mail servers do not.",
    "STS-APP-31",
    "Give the mail server the full chain (`fullchain.pem` in place of `cert.pem`).",
)
WRONG_NAME: Final = Kind(
    "TLS106",
    Severity.INFO,
    "Certificate names another host",
    "RFC 8461 §4.2",
    "No dNSName of the certificate is the MX host. The common name does not count, and the name of "
    "the mail domain is not enough.",
    "STS-APP-33",
    "Get a certificate that has the MX host among its names.",
)
INVALID: Final = Kind(
    "TLS107",
    Severity.INFO,
    "Certificate not valid",
    "RFC 8461 §4.2",
    "The web PKI does not accept the chain, for another reason than dates, names or issuers.",
    "STS-APP-31",
    "Get a new certificate for a TLS server from a public CA.",
)
ENDS_SOON: Final = Kind(
    "TLS108",
    Severity.INFO,
    "Certificate expires soon",
    "RFC 8461 §4.2",
    "If the renewal does not work, senders with MTA-STS will refuse the host.",
    "OPS-30",
    "See that the renewal runs, and that the mail server loads what it brings.",
)
DISORDER: Final = Kind(
    "TLS109",
    Severity.INFO,
    "Chain out of order",
    "RFC 5280 §6.1",
    "A certificate of the chain was not issued by the one behind it. Some clients sort them, "
    "others give up.",
    "",
    "Send the leaf, then its issuer, then the issuer of that, and nothing else.",
)
WEAK_KEY: Final = Kind(
    "TLS110",
    Severity.WARNING,
    "Weak key",
    "RFC 8461 §7.2",
    "The key is shorter than anybody recommends; some clients refuse it already.",
    "STS-APP-39",
    "Make a new key: ECDSA P-256, or RSA with 2048 bits or more.",
)
BROKEN_KEY: Final = Kind(
    "TLS111",
    Severity.WARNING,
    "Broken key",
    "RFC 8461 §7.2",
    "A key this short can be computed: whoever does so can be this host.",
    "STS-APP-39",
    "Make a new key at once: ECDSA P-256, or RSA with 2048 bits or more.",
)
WEAK_SIGNATURE: Final = Kind(
    "TLS112",
    Severity.WARNING,
    "Weak signature",
    "RFC 8461 §7.2",
    "A certificate of the chain is signed with a hash that can be forged; most clients refuse it.",
    "STS-APP-39",
    "Get a new certificate: every CA signs with SHA-256 or better today.",
)
TWO_CHAINS: Final = Kind(
    "TLS113",
    Severity.INFO,
    "An RSA and an ECDSA certificate",
    "RFC 7672 §3.1",
    "The host has a certificate of each kind; a sender gets one of them, as its TLS library likes. "
    "Both have to be right, for the policy and for TLSA records.",
)
ONE_OF_TWO: Final = Kind(
    "TLS114",
    Severity.WARNING,
    "Only one of two certificates is valid",
    "RFC 8461 §4.2",
    "Whether a sender accepts the host depends on which certificate it is shown: a fault that comes "
    "and goes.",
    "STS-APP-31",
    "Renew both certificates together, or keep only one.",
)

KINDS: Final = (
    EXPIRED,
    NOT_YET_VALID,
    SELF_SIGNED,
    UNTRUSTED_ROOT,
    MISSING_INTERMEDIATE,
    WRONG_NAME,
    INVALID,
    ENDS_SOON,
    DISORDER,
    WEAK_KEY,
    BROKEN_KEY,
    WEAK_SIGNATURE,
    TWO_CHAINS,
    ONE_OF_TWO,
)
