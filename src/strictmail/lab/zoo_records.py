# SPDX-License-Identifier: Apache-2.0
"""Zoo: domains without policy, and domains with a fault in the `_mta-sts` record (RFC 8461 §3.1)."""

from __future__ import annotations

from typing import Final

from strictmail.core.decision import Level
from strictmail.lab.entries import (
    CertFault,
    Change,
    Cut,
    CutKind,
    Delivery,
    MxFault,
    MxHost,
    ZooEntry,
)
from strictmail.lab.entries import PolicyHost as Policy
from strictmail.lab.zoobuild import (
    ENCRYPTED,
    ENFORCE,
    GOOD_TXT,
    NO_HOST_ALLOWED,
    PLAINTEXT,
    VERIFIED,
    entry,
    expect,
    outcome,
    policy_body,
)

NO_POLICY: Final = "no policy can be discovered: delivery goes on as without MTA-STS"

WITHOUT_POLICY: Final[tuple[ZooEntry, ...]] = (
    entry(
        "no-policy",
        "nothing is wrong, but the domain has neither policy nor DANE",
        "STS-REC-35 SEC-39",
        expect("without policy the MTA's default applies: opportunistic TLS", ENCRYPTED),
    ),
    entry(
        "no-policy-self-signed",
        "no policy, and the MX host's certificate is self-signed",
        "SEC-39",
        expect("opportunistic TLS does not look at certificates (RFC 7435 §3)", ENCRYPTED),
        mx=[MxHost("mx.@", certificate=CertFault.SELF_SIGNED)],
    ),
    entry(
        "no-policy-no-starttls",
        "no policy, and the MX host does not offer STARTTLS",
        "SEC-39",
        expect("without policy clear text is allowed (RFC 7435 §3)", PLAINTEXT),
        mx=[MxHost("mx.@", fault=MxFault.NO_STARTTLS)],
    ),
    entry(
        "no-policy-broken-tls",
        "no policy, and the MX host sends rubbish in the TLS handshake",
        "SEC-39",
        expect("without policy clear text is allowed after a failed handshake", PLAINTEXT),
        mx=[MxHost("mx.@", fault=MxFault.BROKEN_TLS)],
    ),
)

RECORDS: Final[tuple[ZooEntry, ...]] = (
    entry(
        "good",
        "nothing is wrong: an enforced policy, and an MX host that keeps it",
        "STS-REC-01 STS-FET-01 STS-APP-30 STS-APP-33",
        expect("the policy enforces and the MX host satisfies it (RFC 8461 §5)", VERIFIED),
        policy=ENFORCE,
    ),
    entry(
        "child-of-good",
        "a subdomain without record, below a domain with an enforced policy; bad certificate",
        "STS-APP-03 STS-REC-28 STS-REC-35",
        expect("a policy says nothing on subdomains (RFC 8461 §3.4)", ENCRYPTED),
        domain="child.good.plain.test",
        mx=[MxHost("mx.@", certificate=CertFault.SELF_SIGNED)],
    ),
    entry(
        "txt-absent",
        "a policy is served, but there is no TXT record",
        "STS-REC-05 STS-FET-43",
        expect(f"{NO_POLICY} (RFC 8461 §3.1)", ENCRYPTED),
        policy=ENFORCE,
        txt=(),
    ),
    entry(
        "txt-two",
        "two valid TXT records",
        "STS-REC-05",
        expect(f"{NO_POLICY}: exactly one record may be there (RFC 8461 §3.1)", ENCRYPTED),
        policy=ENFORCE,
        txt=(*GOOD_TXT, ("v=STSv1; id=20260102;",)),
    ),
    entry(
        "txt-two-one-broken",
        "a valid TXT record beside one that starts like it and breaks the grammar",
        "STS-REC-05",
        expect(f"{NO_POLICY}: only the prefix decides what counts (RFC 8461 §3.1)", ENCRYPTED),
        policy=ENFORCE,
        txt=(*GOOD_TXT, ("v=STSv1; id=;",)),
    ),
    entry(
        "txt-bad-id",
        "the id has hyphens",
        "STS-REC-06 STS-REC-12 STS-REC-13",
        expect(f"{NO_POLICY}: the record breaks the grammar (RFC 8461 §3.1)", ENCRYPTED),
        policy=ENFORCE,
        txt=(("v=STSv1; id=2026-01-01;",),),
    ),
    entry(
        "txt-upper-case",
        "the version is written in capitals",
        "STS-REC-09",
        expect(f"{NO_POLICY}: the version is case-sensitive (RFC 8461 §3.1)", ENCRYPTED),
        policy=ENFORCE,
        txt=(("V=STSV1; id=20260101;",),),
    ),
    entry(
        "txt-foreign",
        "foreign TXT records beside the valid one",
        "STS-REC-04 STS-REC-10",
        expect("records that do not start with the version are dropped (RFC 8461 §3.1)", VERIFIED),
        policy=ENFORCE,
        txt=(("v=spf1 -all",), *GOOD_TXT, ("v=STSv10; id=1;",), ("site-verification=0",)),
    ),
    entry(
        "txt-split",
        "the record comes in several character-strings, split inside the version and the id",
        "STS-REC-03",
        expect("the strings are joined before anything else (RFC 8461 §3.1)", VERIFIED),
        policy=ENFORCE,
        txt=(("v=ST", "Sv1; id=2026", "0101;"),),
    ),
    entry(
        "txt-extension",
        "unknown fields around the id, and a second id",
        "STS-REC-15 STS-REC-16 STS-REC-23",
        expect("unknown fields are ignored, the first id counts (RFC 8461 §3.1)", VERIFIED),
        policy=ENFORCE,
        txt=(("v=STSv1; x-a=1; id=20260101; id=20250101; x-b=2;",),),
    ),
    entry(
        "txt-large",
        "the RRset is too large for a datagram",
        "STS-REC-04 STS-REC-33",
        expect("truncated answers are asked for again over TCP", VERIFIED),
        policy=ENFORCE,
        txt=(*((f"site-verification={i:0200d}",) for i in range(12)), *GOOD_TXT),
    ),
    entry(
        "txt-cname",
        "`_mta-sts` is an alias of an alias of the record",
        "STS-REC-26 STS-REC-27",
        expect("aliases are followed, and the policy host stays (RFC 8461 §3.1)", VERIFIED),
        policy=ENFORCE,
        txt=(),
        records=(
            "_mta-sts.@ CNAME hop.txt-cname.provider.plain.test.",
            "hop.txt-cname.provider.plain.test CNAME _mta-sts.provider.plain.test.",
            '_mta-sts.provider.plain.test TXT "v=STSv1; id=20260101;"',
        ),
    ),
    entry(
        "txt-servfail",
        "the lookup of the TXT record fails",
        "STS-REC-30 SEC-09",
        expect(f"{NO_POLICY}; nothing is cached yet (C-05)", ENCRYPTED),
        policy=ENFORCE,
        txt=(),
        cuts=[Cut("_mta-sts.@", CutKind.DEAD)],
    ),
    entry(
        "txt-bogus",
        "the TXT record's signatures are wrong",
        "STS-REC-30 STS-REC-31",
        expect(f"{NO_POLICY}: bogus is a lookup failure (C-05)", ENCRYPTED),
        zone="signed.test",
        policy=ENFORCE,
        cuts=[Cut("_mta-sts.@", CutKind.BOGUS)],
    ),
    entry(
        "idn",
        "nothing is wrong: an internationalised domain",
        "STS-REC-02 STS-FET-04 STS-APP-07 STS-POL-26",
        expect("everything is looked up and compared as A-labels (RFC 8461 §3.2)", VERIFIED),
        domain="xn--bcher-kva.plain.test",
        policy=ENFORCE,
    ),
    entry(
        "id-change",
        "the policy lists an MX host that is no longer there, until the owner repairs it",
        "STS-APP-56 STS-APP-57 STS-REC-24 STS-FET-41",
        expect("no MX host is one that the policy names (RFC 8461 §4.1)", NO_HOST_ALLOWED),
        policy=Policy(policy_body("old-mx.@")),
        change=Change(
            "20260102",
            policy_body("mx.@"),
            expect("a new id means a new policy, which binds at once (RFC 8461 §5.1)", VERIFIED),
        ),
    ),
    entry(
        "domain-alias",
        "the mail domain itself is an alias; policy and record are at its own name",
        "STS-APP-05",
        expect(
            "the policy is looked up at the name as given (C-07)",
            outcome(Level.SECURE, Delivery.VERIFIED, "mx.domain-alias-target.plain.test"),
        ),
        policy=Policy(policy_body("mx.domain-alias-target.plain.test")),
        mx=[MxHost("mx.domain-alias-target.plain.test")],
        has_mx_records=False,
        records=(
            "@ CNAME domain-alias-target.plain.test.",
            "domain-alias-target.plain.test MX 10 mx.domain-alias-target.plain.test.",
        ),
    ),
)
