# SPDX-License-Identifier: Apache-2.0
"""Zoo: DANE (RFC 7672), alone and together with MTA-STS (RFC 8461 §2).

Each expectation has two halves: for a sender that does DANE, and for one that does not.
"""

from __future__ import annotations

from typing import Final

from strictmail.core.decision import Level
from strictmail.lab.entries import (
    CertFault,
    Cut,
    CutKind,
    Delivery,
    Departure,
    MxFault,
    MxHost,
    Outcome,
    ZooEntry,
)
from strictmail.lab.entries import PolicyHost as Policy
from strictmail.lab.zoobuild import (
    ENCRYPTED,
    ENFORCE,
    NO_HOST_ALLOWED,
    PLAINTEXT,
    REFUSED,
    TESTING,
    UNDATED_TXT,
    VERIFIED,
    WAITS,
    entry,
    expect,
    outcome,
    policy_body,
)

AUTHENTICATED: Final = outcome(Level.DANE_ONLY, Delivery.VERIFIED)
DANE_REFUSED: Final = outcome(Level.DANE_ONLY, Delivery.DEFERRED)
DANE_WAITS: Final = outcome(Level.DANE, Delivery.DEFERRED)
FIRST_ENCRYPTED: Final = outcome(Level.NONE, Delivery.ENCRYPTED, "mx1.@")


def _with_choice(host: str) -> Outcome:
    """DANE alone, behind an insecure MX record, with TLSA records that do not match.

    RFC 7672 §2.2.1: they need not be looked at (DANE-23), and may be (DANE-24).
    """
    return outcome(None, Delivery.ENCRYPTED, host, or_delivery=Delivery.DEFERRED)


EE: Final = ("3 1 1",)
TA: Final = ("2 0 1",)
MISMATCH: Final = ("3 1 1 wrong",)
UNUSABLE: Final = ("1 1 1",)
TLSA_OF_MX: Final = "_25._tcp.mx.@"


def _authenticated(
    name: str,
    fault: str,
    requirements: str,
    why: str,
    host: MxHost,
    *records: str,
    departs: tuple[Departure, ...] = (),
) -> ZooEntry:
    """A host that DANE authenticates."""
    return entry(
        f"dane-{name}",
        fault,
        requirements,
        expect(why, AUTHENTICATED, ENCRYPTED),
        zone="signed.test",
        mx=[host],
        records=records,
        departs=departs,
    )


def _refused(
    name: str, fault: str, requirements: str, why: str, host: MxHost, *departs: Departure
) -> ZooEntry:
    """A host that DANE does not authenticate."""
    return entry(
        f"dane-{name}",
        fault,
        f"DANE-74 {requirements}",
        expect(f"{why}: the mail waits (RFC 7672 §2.2)", DANE_REFUSED, ENCRYPTED),
        zone="signed.test",
        mx=[host],
        departs=departs,
    )


GOOD: Final[tuple[ZooEntry, ...]] = (
    _authenticated(
        "ee",
        "nothing is wrong: `3 1 1` matches the certificate",
        "DANE-40 DANE-46 DANE-48 DANE-60",
        "usable TLSA records at every MX host: DANE decides (RFC 7672 §2.2)",
        MxHost("mx.@", tlsa=EE),
    ),
    _authenticated(
        "ee-full",
        "nothing is wrong: `3 0 0` and `3 1 2`",
        "DANE-47",
        "full certificates and SHA2-512 are supported (RFC 6698 §2.1.3)",
        MxHost("mx.@", tlsa=("3 0 0", "3 1 2")),
    ),
    _authenticated(
        "ta",
        "nothing is wrong: `2 0 1` matches the intermediate",
        "DANE-40 DANE-62",
        "the chain leads to the trust anchor and the name fits (RFC 7672 §3.1.2)",
        MxHost("mx.@", tlsa=TA),
    ),
    _authenticated(
        "ta-root",
        "nothing is wrong: `2 1 1` matches the root, which is sent along",
        "DANE-62 DANE-68",
        "the chain leads to the trust anchor and the name fits (RFC 7672 §3.1.2)",
        MxHost("mx.@", tlsa=("2 1 1 root",)),
    ),
    _authenticated(
        "ta-domain-name",
        "`2 0 1`, and the certificate names the mail domain only",
        "DANE-63",
        "behind a secure MX record the next-hop domain is a reference identifier too "
        "(RFC 7672 §3.2.2)",
        MxHost("mx.@", tlsa=TA, certificate=CertFault.DOMAIN_ONLY),
        departs=(
            Departure(
                ("exim",),
                DANE_REFUSED,
                "Departs: DANE-63; Exim accepts only the MX host's name: the mail waits.",
            ),
        ),
    ),
    _authenticated(
        "ee-expired",
        "`3 1 1`, and the certificate has expired",
        "DANE-60",
        "with DANE-EE dates do not count (RFC 7672 §3.1.1)",
        MxHost("mx.@", tlsa=EE, certificate=CertFault.EXPIRED),
    ),
    _authenticated(
        "ee-wrong-name",
        "`3 1 1`, and the certificate is for another name",
        "DANE-60 DANE-61",
        "with DANE-EE names do not count (RFC 7672 §3.1.1)",
        MxHost("mx.@", tlsa=EE, certificate=CertFault.WRONG_NAME),
    ),
    _authenticated(
        "ee-self-signed",
        "`3 1 1`, and the certificate is self-signed",
        "DANE-60",
        "with DANE-EE the chain does not count (RFC 7672 §3.1.1)",
        MxHost("mx.@", tlsa=EE, certificate=CertFault.SELF_SIGNED),
    ),
    _authenticated(
        "mixed-usability",
        "an unusable record beside one that matches",
        "DANE-50",
        "unusable records are dropped, the others count (RFC 6698 §4.1)",
        MxHost("mx.@", tlsa=(*UNUSABLE, *EE)),
    ),
    _authenticated(
        "roll-over",
        "nothing is wrong: a record for the next key beside the one that matches",
        "DANE-48",
        "one record that matches suffices (RFC 6698 §2.1)",
        MxHost("mx.@", tlsa=(*EE, *MISMATCH)),
    ),
    _authenticated(
        "agility-malformed",
        "`3 1 1` matches; a `3 1 2` is one octet short",
        "DANE-44 DANE-54",
        "malformed records are dropped before digests are chosen (RFC 7671 §9)",
        MxHost("mx.@", tlsa=(*EE, "3 1 2 short")),
    ),
    _authenticated(
        "cname",
        "the MX host is an alias, TLSA records are at the alias target",
        "DANE-31 DANE-34",
        "the securely expanded name is the first candidate (RFC 7672 §2.2.3)",
        MxHost("mx.@", canonical="real-mx.@", tlsa=EE),
    ),
    _authenticated(
        "cname-insecure-target",
        "the MX host is an alias into an unsigned zone, TLSA records are at its own name",
        "DANE-32",
        "a secure alias with insecure addresses leaves the original name (RFC 7672 §2.2.2)",
        MxHost(
            "mx.@",
            canonical="dane-cname-insecure-target.provider.plain.test",
            tlsa=EE,
            tlsa_owner=TLSA_OF_MX,
        ),
        departs=(
            Departure(
                ("exim",),
                DANE_REFUSED,
                "Departs: DANE-32; Exim knows an MX host by its alias target only, and looks for "
                "TLSA records nowhere else: the mail waits.",
            ),
        ),
    ),
    _authenticated(
        "tlsa-cname",
        "the TLSA records' name is an alias",
        "DANE-35",
        "aliases at the TLSA name are followed (RFC 7672 §2.2.3)",
        MxHost("mx.@", tlsa=EE, tlsa_owner="tlsa.@"),
        f"{TLSA_OF_MX} CNAME tlsa.@.",
    ),
    entry(
        "dane-implicit-mx",
        "nothing is wrong: no MX record, TLSA records at the domain itself",
        "DANE-39",
        expect(
            "the domain itself is looked at (RFC 7672 §2.2.2)",
            outcome(Level.DANE_ONLY, Delivery.VERIFIED, "@"),
            outcome(Level.NONE, Delivery.ENCRYPTED, "@"),
        ),
        zone="signed.test",
        mx=[MxHost("@", tlsa=EE)],
        has_mx_records=False,
    ),
    entry(
        "dane-second-host",
        "the first MX host's record does not match, the second one's does",
        "DANE-75 DANE-74",
        expect(
            "a host that fails does not stop the walk (RFC 7672 §2.2)",
            outcome(Level.DANE_ONLY, Delivery.VERIFIED, "mx2.@"),
            FIRST_ENCRYPTED,
        ),
        zone="signed.test",
        mx=[MxHost("mx1.@", 10, tlsa=MISMATCH), MxHost("mx2.@", 20, tlsa=EE)],
    ),
    entry(
        "dane-bogus-address",
        "the first MX host's address is bogus, the second host is in order",
        "DANE-12 SEC-29",
        expect(
            "an address lookup error skips that host only (RFC 7672 §2.1.2)",
            outcome(Level.DANE_ONLY, Delivery.VERIFIED, "mx2.@"),
            outcome(Level.NONE, Delivery.ENCRYPTED, "mx2.@"),
        ),
        zone="signed.test",
        mx=[MxHost("dane-bogus-address-mx1.bogus.test", 10), MxHost("mx2.@", 20, tlsa=EE)],
    ),
)

BAD: Final[tuple[ZooEntry, ...]] = (
    _refused(
        "mismatch",
        "`3 1 1` does not match the certificate",
        "DANE-75",
        "usable records, none matches",
        MxHost("mx.@", tlsa=MISMATCH),
    ),
    _refused(
        "ta-expired",
        "`2 0 1`, and the certificate has expired",
        "DANE-62",
        "with DANE-TA dates count",
        MxHost("mx.@", tlsa=TA, certificate=CertFault.EXPIRED),
    ),
    _refused(
        "ta-wrong-name",
        "`2 0 1`, and the certificate is for another name",
        "DANE-62 DANE-63",
        "with DANE-TA names count",
        MxHost("mx.@", tlsa=TA, certificate=CertFault.WRONG_NAME),
    ),
    _refused(
        "agility",
        "`3 1 1` matches, `3 1 2` does not",
        "DANE-52",
        "only the strongest digest counts (RFC 7671 §9)",
        MxHost("mx.@", tlsa=(*EE, "3 1 2 wrong")),
        Departure(
            ("exim",),
            AUTHENTICATED,
            "Departs: DANE-52; Exim with GnuTLS takes any record that matches.",
        ),
    ),
    entry(
        "dane-no-starttls",
        "TLSA records in order, and STARTTLS is not offered",
        "DANE-76 SEC-01",
        expect("TLSA records promise TLS (RFC 7672 §2.2)", DANE_REFUSED, PLAINTEXT),
        zone="signed.test",
        mx=[MxHost("mx.@", tlsa=EE, fault=MxFault.NO_STARTTLS)],
    ),
    entry(
        "dane-unusable",
        "the only TLSA record has usage 1",
        "DANE-41 DANE-49",
        expect(
            "TLS is required, authentication is not (RFC 7672 §2.2)",
            outcome(Level.DANE, Delivery.ENCRYPTED),
            ENCRYPTED,
        ),
        zone="signed.test",
        mx=[MxHost("mx.@", tlsa=UNUSABLE, certificate=CertFault.SELF_SIGNED)],
    ),
    entry(
        "dane-unknown-mtype",
        "the only TLSA record has a matching type that nobody knows",
        "DANE-43 DANE-49",
        expect(
            "TLS is required, authentication is not (RFC 7672 §2.2)",
            outcome(Level.DANE, Delivery.ENCRYPTED),
            ENCRYPTED,
        ),
        zone="signed.test",
        mx=[MxHost("mx.@", tlsa=("3 1 255",), certificate=CertFault.SELF_SIGNED)],
    ),
    entry(
        "dane-unusable-no-starttls",
        "the only TLSA record is unusable, and STARTTLS is not offered",
        "DANE-49",
        expect("TLS is required, authentication is not (RFC 7672 §2.2)", DANE_WAITS, PLAINTEXT),
        zone="signed.test",
        mx=[MxHost("mx.@", tlsa=UNUSABLE, fault=MxFault.NO_STARTTLS)],
    ),
    entry(
        "dane-tlsa-bogus",
        "the TLSA record's signatures are wrong",
        "DANE-37 SEC-29 SEC-30",
        expect("a TLSA lookup error makes the host unusable", DANE_WAITS, ENCRYPTED),
        zone="signed.test",
        mx=[MxHost("mx.@", tlsa=EE)],
        cuts=[Cut(TLSA_OF_MX, CutKind.BOGUS)],
    ),
    entry(
        "dane-tlsa-servfail",
        "the TLSA lookup fails",
        "DANE-37 DANE-04 SEC-30",
        expect("a TLSA lookup error makes the host unusable", DANE_WAITS, ENCRYPTED),
        zone="signed.test",
        cuts=[Cut(TLSA_OF_MX, CutKind.DEAD)],
    ),
    entry(
        "dane-tlsa-bogus-first",
        "the first MX host's TLSA lookup is bogus, the second host is in order",
        "DANE-37 SEC-29",
        expect(
            "a host that cannot be judged is passed over (RFC 7672 §2.1.2)",
            outcome(None, Delivery.VERIFIED, "mx2.@"),
            FIRST_ENCRYPTED,
        ),
        zone="signed.test",
        mx=[MxHost("mx1.@", 10, tlsa=EE), MxHost("mx2.@", 20, tlsa=EE)],
        cuts=[Cut("_25._tcp.mx1.@", CutKind.BOGUS)],
    ),
    entry(
        "bogus-domain",
        "all signatures of the domain's zone are wrong",
        "DANE-11 DANE-04 SEC-29 STS-APP-14",
        expect(
            "an error in MX resolution delays delivery (RFC 7672 §2.1.2)",
            DANE_WAITS,
            outcome(Level.NONE, Delivery.DEFERRED),
            opportunistic=WAITS,
        ),
        zone="bogus.test",
        mx=[MxHost("mx.@", tlsa=EE)],
    ),
    entry(
        "dane-partial",
        "only the second MX host has TLSA records",
        "DANE-28 DANE-36",
        expect(
            "TLSA records do not change the order of MX hosts (RFC 7672 §2.2.1)",
            outcome(Level.DANE, Delivery.ENCRYPTED, "mx1.@"),
            FIRST_ENCRYPTED,
        ),
        zone="signed.test",
        mx=[MxHost("mx1.@", 10), MxHost("mx2.@", 20, tlsa=EE)],
    ),
)

INSECURE: Final[tuple[ZooEntry, ...]] = (
    entry(
        "dane-insecure-mx",
        "the MX record is unsigned; behind it a host with a TLSA record that does not match",
        "DANE-23 DANE-25",
        expect(
            "behind an insecure MX record TLS stays opportunistic (RFC 7672 §2.2.1)",
            outcome(Level.NONE, Delivery.ENCRYPTED, "mx.dane-insecure-mx.signed.test"),
            dane_only=_with_choice("mx.dane-insecure-mx.signed.test"),
        ),
        mx=[MxHost("mx.dane-insecure-mx.signed.test", tlsa=MISMATCH)],
    ),
    entry(
        "dane-insecure-mx-enforce",
        "an unsigned MX record, a host with a TLSA record that does not match, and a policy",
        "STS-APP-74 DANE-23",
        expect(
            "behind an insecure MX record MTA-STS alone decides (RFC 8461 §2)",
            outcome(Level.SECURE, Delivery.VERIFIED, "mx.dane-insecure-mx-enforce.signed.test"),
            dane_only=_with_choice("mx.dane-insecure-mx-enforce.signed.test"),
        ),
        mx=[MxHost("mx.dane-insecure-mx-enforce.signed.test", tlsa=MISMATCH)],
        policy=Policy(policy_body("mx.dane-insecure-mx-enforce.signed.test")),
    ),
    entry(
        "dane-insecure-address",
        "a signed MX record names a host in an unsigned zone with a TLSA record that is wrong",
        "DANE-21 DANE-51",
        expect(
            "behind insecure addresses TLSA records are not asked for (RFC 7672 §2.2.2)",
            outcome(Level.NONE, Delivery.ENCRYPTED, "mx.dane-insecure-address.plain.test"),
        ),
        zone="signed.test",
        mx=[MxHost("mx.dane-insecure-address.plain.test", tlsa=MISMATCH)],
    ),
    entry(
        "dane-insecure-tlsa",
        "a signed host's TLSA record is in an unsigned zone, and wrong",
        "DANE-51 DANE-36",
        expect("insecure TLSA records are as none (RFC 7672 §2.2.3)", ENCRYPTED),
        zone="signed.test",
        mx=[MxHost("mx.@", tlsa=MISMATCH)],
        cuts=[Cut(TLSA_OF_MX, CutKind.UNSIGNED)],
    ),
    entry(
        "signed-no-tlsa",
        "nothing is wrong: signed, but no TLSA records and no policy",
        "DANE-36",
        expect("without TLSA records TLS stays opportunistic (RFC 7672 §2.2)", ENCRYPTED),
        zone="signed.test",
    ),
    entry(
        "signed-null-mx",
        "the domain takes no mail: a signed null MX",
        "STS-APP-15",
        expect(
            "the MTA rejects the mail by itself (RFC 7505 §3)",
            outcome(Level.NONE, Delivery.BOUNCED),
        ),
        zone="signed.test",
        mx=[],
        records=("@ MX 0 .",),
    ),
)

TOGETHER: Final[tuple[ZooEntry, ...]] = (
    entry(
        "both",
        "nothing is wrong: DANE and an enforced policy, both satisfied",
        "STS-APP-70 DANE-48",
        expect("DANE comes first (RFC 8461 §2)", AUTHENTICATED, VERIFIED),
        zone="signed.test",
        policy=ENFORCE,
        mx=[MxHost("mx.@", tlsa=EE)],
    ),
    entry(
        "both-dane-fails",
        "an enforced policy is satisfied, the TLSA record does not match",
        "STS-APP-70",
        expect("MTA-STS never rescues a failing DANE check (RFC 8461 §2)", DANE_REFUSED, VERIFIED),
        zone="signed.test",
        policy=ENFORCE,
        mx=[MxHost("mx.@", tlsa=MISMATCH)],
    ),
    entry(
        "both-sts-fails",
        "DANE is satisfied, and the enforced policy does not list the MX host",
        "STS-APP-72",
        expect("DANE comes first (C-01)", AUTHENTICATED, NO_HOST_ALLOWED),
        zone="signed.test",
        policy=Policy(policy_body("other.@")),
        mx=[MxHost("mx.@", tlsa=EE)],
    ),
    entry(
        "both-sts-certificate-fails",
        "DANE is satisfied by a self-signed certificate, and a policy enforces",
        "STS-APP-72 DANE-60",
        expect("DANE comes first (C-01)", AUTHENTICATED, REFUSED),
        zone="signed.test",
        policy=ENFORCE,
        mx=[MxHost("mx.@", tlsa=EE, certificate=CertFault.SELF_SIGNED)],
    ),
    entry(
        "both-testing",
        "a policy in testing is satisfied, the TLSA record does not match",
        "STS-APP-73",
        expect("testing never weakens DANE (RFC 8461 §2)", DANE_REFUSED, ENCRYPTED),
        zone="signed.test",
        policy=TESTING,
        txt=UNDATED_TXT,
        mx=[MxHost("mx.@", tlsa=MISMATCH)],
    ),
    entry(
        "both-unusable",
        "an enforced policy, and the only TLSA record is unusable",
        "STS-APP-75",
        expect("the policy still wants the web PKI (RFC 8461 §5)", VERIFIED),
        zone="signed.test",
        policy=ENFORCE,
        mx=[MxHost("mx.@", tlsa=UNUSABLE)],
    ),
    entry(
        "both-unusable-bad-certificate",
        "an enforced policy, an unusable TLSA record, and a self-signed certificate",
        "STS-APP-75",
        expect("the policy still wants the web PKI (RFC 8461 §5)", REFUSED),
        zone="signed.test",
        policy=ENFORCE,
        mx=[MxHost("mx.@", tlsa=UNUSABLE, certificate=CertFault.SELF_SIGNED)],
    ),
    entry(
        "both-tlsa-bogus",
        "an enforced policy is satisfied, the TLSA record is bogus",
        "STS-APP-71 DANE-37",
        expect("MTA-STS never rescues a failing TLSA lookup (RFC 8461 §2)", DANE_REFUSED, VERIFIED),
        zone="signed.test",
        policy=ENFORCE,
        mx=[MxHost("mx.@", tlsa=EE)],
        cuts=[Cut(TLSA_OF_MX, CutKind.BOGUS)],
    ),
    entry(
        "both-partial",
        "an enforced policy lists both MX hosts, only the second has TLSA records",
        "DANE-28 STS-APP-70",
        expect(
            "Departs: DANE-28; one level holds for all hosts, so only those with TLSA are used",
            outcome(Level.DANE_ONLY, Delivery.VERIFIED, "mx2.@"),
            outcome(Level.SECURE, Delivery.VERIFIED, "mx1.@"),
            dane_only=outcome(None, Delivery.ENCRYPTED, "mx1.@"),
        ),
        zone="signed.test",
        policy=Policy(policy_body("mx1.@", "mx2.@")),
        mx=[MxHost("mx1.@", 10), MxHost("mx2.@", 20, tlsa=EE)],
    ),
    entry(
        "both-no-tlsa",
        "nothing is wrong: signed, an enforced policy, no TLSA records",
        "STS-APP-74",
        expect("without TLSA records MTA-STS alone decides (RFC 8461 §2)", VERIFIED),
        zone="signed.test",
        policy=ENFORCE,
    ),
)
