# SPDX-License-Identifier: Apache-2.0
"""Zoo: MX sets and MX hosts against an enforced policy (RFC 8461 §4, §5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from strictmail.core.decision import Level
from strictmail.lab.entries import (
    CertFault,
    Delivery,
    Departure,
    MxFault,
    MxHost,
    Outcome,
    Unseen,
    ZooEntry,
)
from strictmail.lab.entries import PolicyHost as Policy
from strictmail.lab.zoobuild import (
    CLEAR,
    ENFORCE,
    NO_HOST_ALLOWED,
    REFUSED,
    VERIFIED,
    WAITS,
    entry,
    expect,
    outcome,
    policy_body,
)

BOTH: Final = Policy(policy_body("mx1.@", "mx2.@"))
SECOND: Final = outcome(Level.SECURE, Delivery.VERIFIED, "mx2.@")
BOUNCED: Final = outcome(Level.NONE, Delivery.BOUNCED)
FIRST: Final = outcome(None, Delivery.ENCRYPTED, "mx1.@")
"""Of a sender that verifies nobody."""


def _certificate(
    name: str,
    fault: str,
    requirements: str,
    why: str,
    certificate: CertFault,
    *departs: Departure,
) -> ZooEntry:
    """An MX host whose certificate does not satisfy the policy."""
    return entry(
        f"mx-{name}",
        f"the MX host's certificate {fault}",
        f"STS-APP-50 STS-APP-55 {requirements}",
        expect(f"{why}: the mail waits (RFC 8461 §4.2)", REFUSED),
        policy=ENFORCE,
        mx=[MxHost("mx.@", certificate=certificate)],
        departs=departs,
    )


def _service(
    name: str,
    fault: str,
    requirements: str,
    why: str,
    service: MxFault,
    opportunistic: Outcome = CLEAR,
    unseen: Unseen | None = None,
) -> ZooEntry:
    """An MX host whose SMTP service does not satisfy the policy."""
    return entry(
        f"mx-{name}",
        fault,
        f"STS-APP-55 {requirements}",
        expect(f"{why}: the mail waits (RFC 8461 §5)", REFUSED, opportunistic=opportunistic),
        policy=ENFORCE,
        mx=[MxHost("mx.@", fault=service)],
        unseen=unseen,
    )


CERTIFICATES: Final[tuple[ZooEntry, ...]] = (
    _certificate(
        "expired",
        "has expired",
        "STS-APP-32",
        "an expired certificate is none",
        CertFault.EXPIRED,
    ),
    _certificate(
        "not-yet-valid",
        "is not valid yet",
        "STS-APP-32",
        "a certificate counts within its dates",
        CertFault.NOT_YET_VALID,
    ),
    _certificate(
        "expired-intermediate",
        "hangs on an expired intermediate",
        "STS-APP-32",
        "every certificate of the chain counts",
        CertFault.EXPIRED_INTERMEDIATE,
    ),
    _certificate(
        "self-signed",
        "is self-signed",
        "STS-APP-31 SEC-08",
        "the chain must end in a trusted root",
        CertFault.SELF_SIGNED,
    ),
    _certificate(
        "untrusted-ca",
        "is from a CA that nobody trusts",
        "STS-APP-31 SEC-08",
        "the chain must end in a trusted root",
        CertFault.UNTRUSTED_CA,
    ),
    _certificate(
        "missing-intermediate",
        "comes without its intermediate",
        "STS-APP-31",
        "the chain must end in a trusted root",
        CertFault.MISSING_INTERMEDIATE,
    ),
    _certificate(
        "wrong-name",
        "is for another name",
        "STS-APP-33 SEC-08",
        "the MX host's name must be in it",
        CertFault.WRONG_NAME,
    ),
    _certificate(
        "domain-certificate",
        "names the mail domain only",
        "STS-APP-36",
        "the MX host's name must be in it (C-08)",
        CertFault.DOMAIN_ONLY,
    ),
    _certificate(
        "common-name-only",
        "has the name only as common name",
        "STS-APP-34",
        "only DNS names in the SAN count",
        CertFault.COMMON_NAME_ONLY,
        Departure(
            ("postfix", "postfix-tlsrpt", "exim"),
            VERIFIED,
            "Departs: STS-APP-34; Postfix, and Exim with GnuTLS, take the common name where a "
            "certificate has no alternative names at all, and have no setting against it.",
        ),
    ),
    _certificate(
        "address-only",
        "names the MX host's address, not its name",
        "STS-APP-34 SEC-34",
        "only DNS names in the SAN count",
        CertFault.ADDRESS_ONLY,
    ),
    _certificate(
        "partial-wildcard",
        "has a wildcard that is a part of its label",
        "STS-APP-35 SEC-33",
        "a wildcard is a whole label",
        CertFault.PARTIAL_WILDCARD,
    ),
    _certificate(
        "wildcard-too-high",
        "has a wildcard two labels up",
        "STS-APP-35 SEC-33",
        "a wildcard stands for one label",
        CertFault.WILDCARD_TOO_HIGH,
    ),
    entry(
        "mx-wildcard",
        "nothing is wrong: the MX host's certificate has a wildcard for one label",
        "STS-APP-35",
        expect("a wildcard stands for one label (RFC 8461 §4.2)", VERIFIED),
        policy=ENFORCE,
        mx=[MxHost("mx.@", certificate=CertFault.WILDCARD)],
        departs=[
            Departure(
                ("sendmail",),
                REFUSED,
                "Departs: STS-APP-35; sendmail's check of alternative names knows no wildcards: "
                "the mail waits.",
            )
        ],
    ),
)

SERVICES: Final[tuple[ZooEntry, ...]] = (
    _service(
        "no-starttls",
        "STARTTLS is not offered, or was stripped on the way",
        "STS-APP-30 SEC-01",
        "no STARTTLS, no mail",
        MxFault.NO_STARTTLS,
    ),
    _service(
        "starttls-454",
        "STARTTLS is offered and refused with 454",
        "STS-APP-30",
        "no STARTTLS, no mail",
        MxFault.STARTTLS_454,
    ),
    _service(
        "starttls-502",
        "STARTTLS is offered and refused with 502",
        "STS-APP-30",
        "no STARTTLS, no mail, and no bounce either",
        MxFault.STARTTLS_502,
    ),
    _service(
        "ehlo-refused",
        "EHLO is refused, so that only HELO without extensions is left",
        "SEC-02",
        "falling back to HELO must not lead to clear text",
        MxFault.EHLO_REFUSED,
    ),
    _service(
        "broken-tls",
        "rubbish where the TLS handshake should be",
        "STS-APP-30 STS-APP-44",
        "after a failed handshake there is no second try in the clear",
        MxFault.BROKEN_TLS,
    ),
    _service(
        "old-tls",
        "TLS 1.0 only",
        "STS-APP-39",
        "TLS below 1.2 is no success (C-19)",
        MxFault.OLD_TLS,
        # RFC 7435 §3: some senders still speak it, to the others it is a failed handshake.
        outcome(None, Delivery.ENCRYPTED, or_delivery=Delivery.PLAINTEXT),
    ),
    _service(
        "tarpit",
        "the MX host takes connections and never greets",
        "STS-APP-60",
        "a host that cannot be reached is no policy failure, and the mail waits",
        MxFault.TARPIT,
        WAITS,
        Unseen("a host that does not greet may only be slow, or wary of who looks"),
    ),
    _service(
        "421",
        "the MX host greets with 421",
        "STS-APP-60",
        "a host that is busy is no policy failure, and the mail waits",
        MxFault.GREETING_421,
        WAITS,
        Unseen("a busy host may take the mail of others, or later"),
    ),
    _service(
        "refused",
        "nobody listens at the MX host",
        "STS-APP-60 STS-APP-13",
        "a host that cannot be reached is no policy failure, and the mail waits",
        MxFault.REFUSE,
        WAITS,
        Unseen("a host that refuses connections may be closed to who looks alone"),
    ),
    entry(
        "mx-injected",
        "forged replies in the clear, in one segment with the 220 to STARTTLS",
        "STS-APP-43 SEC-03",
        expect(
            "what comes in the clear behind the 220 is discarded, or the session dropped",
            outcome(Level.SECURE, Delivery.VERIFIED, or_delivery=Delivery.DEFERRED),
            opportunistic=outcome(None, Delivery.ENCRYPTED, or_delivery=Delivery.DEFERRED),
        ),
        policy=ENFORCE,
        mx=[MxHost("mx.@", fault=MxFault.INJECTED)],
        unseen=Unseen("a check drops the session, and so sees no certificate"),
    ),
    entry(
        "mx-rcpt-550",
        "the MX host satisfies the policy and rejects the recipient",
        "STS-APP-61",
        expect(
            "rejections after a good session are ordinary ones (RFC 8461 §5)",
            outcome(Level.SECURE, Delivery.BOUNCED),
        ),
        policy=ENFORCE,
        mx=[MxHost("mx.@", fault=MxFault.RCPT_550)],
        unseen=Unseen(
            "a check names no recipient, and so sees a good session",
            mta_sts=Delivery.VERIFIED,
            dane=Delivery.ENCRYPTED,
            both=Delivery.VERIFIED,
            opportunistic=Delivery.ENCRYPTED,
        ),
    ),
)

SETS: Final[tuple[ZooEntry, ...]] = (
    entry(
        "mx-unlisted",
        "the policy does not list the MX host, whose certificate is in order",
        "STS-APP-17 STS-APP-55 STS-APP-59 SEC-07",
        expect("no MX host is one that the policy names: the mail waits", NO_HOST_ALLOWED),
        policy=Policy(policy_body("other.@")),
    ),
    entry(
        "mx-unlisted-listed-certificate",
        "the policy does not list the MX host, but a name that is in its certificate",
        "STS-APP-22 STS-APP-18",
        expect("MX names are compared, not certificate names (RFC 8461 §4.1)", NO_HOST_ALLOWED),
        policy=Policy(policy_body("other.@")),
        mx=[
            MxHost(
                "mx.@",
                certificate=CertFault.SEVERAL_NAMES,
                certificate_names=("mx.@", "other.@"),
            )
        ],
    ),
    entry(
        "mx-first-unlisted",
        "the policy lists only the second MX host",
        "STS-APP-17 STS-APP-26",
        expect(
            "a host that is not listed is passed over (RFC 8461 §5.1)",
            SECOND,
            opportunistic=FIRST,
        ),
        policy=Policy(policy_body("mx2.@")),
        mx=[MxHost("mx1.@", 10), MxHost("mx2.@", 20)],
    ),
    replace(
        entry(
            "mx-first-unlisted-shared-certificate",
            "the policy lists only the second MX host; both share a certificate with both names",
            "STS-APP-17 STS-APP-22",
            expect(
                "MX names are compared, not certificate names (RFC 8461 §4.1)",
                SECOND,
                opportunistic=FIRST,
            ),
            policy=Policy(policy_body("mx2.@")),
            mx=[
                MxHost(
                    name,
                    preference,
                    certificate=CertFault.SEVERAL_NAMES,
                    certificate_names=("mx1.@", "mx2.@"),
                )
                for name, preference in (("mx1.@", 10), ("mx2.@", 20))
            ],
        ),
        departs=(
            Departure(
                ("postfix",),
                outcome(
                    Level.SECURE,
                    Delivery.VERIFIED,
                    "mx1.mx-first-unlisted-shared-certificate.plain.test",
                ),
                "Departs: Postfix before 3.10.5 can only be told which names a certificate may have, so another "
                "host that proves a listed name is taken for it.",
            ),
        ),
    ),
    entry(
        "mx-first-bad-certificate",
        "the first MX host's certificate is self-signed, the second one's in order",
        "STS-APP-26",
        expect(
            "a host that fails does not stop the walk (RFC 8461 §5.1)",
            SECOND,
            opportunistic=FIRST,
        ),
        policy=BOTH,
        mx=[MxHost("mx1.@", 10, certificate=CertFault.SELF_SIGNED), MxHost("mx2.@", 20)],
    ),
    entry(
        "mx-first-no-starttls",
        "the first MX host does not offer STARTTLS, the second does",
        "STS-APP-26 STS-APP-30",
        expect(
            "a host that fails does not stop the walk (RFC 8461 §5.1)",
            SECOND,
            opportunistic=outcome(None, Delivery.PLAINTEXT, "mx1.@"),
        ),
        policy=BOTH,
        mx=[MxHost("mx1.@", 10, fault=MxFault.NO_STARTTLS), MxHost("mx2.@", 20)],
    ),
    entry(
        "mx-first-unresolvable",
        "the first MX host has no address",
        "STS-APP-26 STS-APP-60",
        expect("a host that cannot be reached does not stop the walk", SECOND),
        policy=BOTH,
        mx=[MxHost("mx1.@", 10, has_address=False), MxHost("mx2.@", 20)],
    ),
    entry(
        "mx-all-bad",
        "both MX hosts fail, and the domain itself has an address",
        "STS-APP-13 STS-APP-59",
        expect(
            "failing MX hosts are not the same as none (RFC 5321 §5.1)",
            REFUSED,
            opportunistic=FIRST,
        ),
        policy=BOTH,
        mx=[
            MxHost("mx1.@", 10, certificate=CertFault.SELF_SIGNED),
            MxHost("mx2.@", 20, fault=MxFault.NO_STARTTLS),
        ],
        records=("@ A 127.86.0.1",),
    ),
    entry(
        "pattern-wildcard",
        "nothing is wrong: the policy has `*.` and the MX host one label before it",
        "STS-APP-20",
        expect("`*` stands for exactly one label (RFC 8461 §4.1)", VERIFIED),
        policy=Policy(policy_body("*.@")),
    ),
    entry(
        "pattern-wildcard-deep",
        "the policy has `*.` and the MX host two labels before it",
        "STS-APP-20",
        expect(
            "`*` stands for exactly one label (RFC 8461 §4.1)",
            NO_HOST_ALLOWED,
            opportunistic=outcome(None, Delivery.ENCRYPTED, "mx.sub.@"),
        ),
        policy=Policy(policy_body("*.@")),
        mx=[MxHost("mx.sub.@")],
    ),
    entry(
        "pattern-wildcard-apex",
        "the policy has `*.` before the name that is the MX host",
        "STS-APP-20",
        expect(
            "`*` stands for exactly one label (RFC 8461 §4.1)",
            NO_HOST_ALLOWED,
            opportunistic=outcome(None, Delivery.ENCRYPTED, "@"),
        ),
        policy=Policy(policy_body("*.@")),
        mx=[MxHost("@")],
    ),
    entry(
        "pattern-upper-case",
        "nothing is wrong: the policy has the MX host in capitals",
        "STS-APP-19 STS-POL-41",
        expect("names are compared without regard to case (RFC 4343)", VERIFIED),
        policy=Policy(policy_body("MX.@")),
    ),
    entry(
        "implicit-mx",
        "nothing is wrong: no MX record, the policy lists the domain itself",
        "STS-APP-11 STS-APP-12",
        expect(
            "the domain itself is its MX host (RFC 5321 §5.1)",
            outcome(Level.SECURE, Delivery.VERIFIED, "@"),
        ),
        policy=Policy(policy_body("@")),
        mx=[MxHost("@")],
        has_mx_records=False,
    ),
    entry(
        "null-mx",
        "the domain takes no mail: null MX, no policy",
        "STS-APP-15",
        expect("the MTA rejects the mail by itself (RFC 7505 §3)", BOUNCED),
        mx=[],
        records=("@ MX 0 .", "@ A 127.86.0.2"),
    ),
    entry(
        "null-mx-enforce",
        "an unsigned null MX against an enforced policy",
        "STS-APP-16",
        expect(
            "forged DNS must not turn an enforced policy into nothing (RFC 8461 §10); Exim "
            "asks first, and the mail waits; Postfix and sendmail reject before they ask",
            outcome(Level.DEFER, Delivery.BOUNCED, or_delivery=Delivery.DEFERRED),
        ),
        policy=ENFORCE,
        mx=[],
        records=("@ MX 0 .",),
    ),
    entry(
        "mx-alias",
        "the MX host is an alias; policy and certificate have its own name",
        "STS-APP-18 STS-APP-37",
        expect("the name in the MX record counts, not the alias target (RFC 8461 §4.1)", VERIFIED),
        policy=ENFORCE,
        mx=[MxHost("mx.@", canonical="real-mx.@")],
        departs=[
            Departure(
                ("exim",),
                REFUSED,
                "Departs: STS-APP-18; Exim knows an MX host by its alias target only, which is "
                "neither on the list nor in the certificate: the mail waits.",
            )
        ],
    ),
    entry(
        "mx-alias-certificate",
        "the MX host is an alias, and its certificate has only the alias target",
        "STS-APP-18 STS-APP-33",
        expect("the name in the MX record must be in the certificate (RFC 8461 §4.1)", REFUSED),
        policy=ENFORCE,
        mx=[
            MxHost(
                "mx.@",
                canonical="real-mx.@",
                certificate=CertFault.SEVERAL_NAMES,
                certificate_names=("real-mx.@",),
            )
        ],
    ),
    entry(
        "mx-alias-listed-target",
        "the MX host is an alias, and the policy lists only the alias target",
        "STS-APP-18",
        expect("the name in the MX record is compared (RFC 8461 §4.1)", NO_HOST_ALLOWED),
        policy=Policy(policy_body("real-mx.@")),
        mx=[MxHost("mx.@", canonical="real-mx.@")],
    ),
    entry(
        "mx-address-text",
        "the MX record holds the text of an address",
        "STS-APP-23",
        expect(
            "it is compared like any name, and fails (RFC 8461 §4.1)",
            NO_HOST_ALLOWED,
            opportunistic=WAITS,
        ),
        policy=ENFORCE,
        mx=[],
        records=("@ MX 10 127.86.0.3.",),
        unseen=Unseen(
            "without a policy, some senders connect to such an address and others do not",
            mta_sts=Delivery.DEFERRED,
            both=Delivery.DEFERRED,
        ),
    ),
    entry(
        "mx-lookup-fails",
        "the policy can be learnt, and the lookup of the MX records fails",
        "STS-APP-14 SEC-29",
        expect(
            "a failing MX lookup keeps the mail in the queue (RFC 5321 §5.1)",
            NO_HOST_ALLOWED,
            opportunistic=WAITS,
        ),
        policy=ENFORCE,
        mx=[],
        records=(
            "@ CNAME alias-target.bogus.test.",
            "alias-target.bogus.test MX 10 mx.plain.test.",
        ),
    ),
)
