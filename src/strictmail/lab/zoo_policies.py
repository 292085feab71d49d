# SPDX-License-Identifier: Apache-2.0
"""Zoo: faults of policy hosts and policy bodies (RFC 8461 §3.2, §3.3).

The MX host of each of these is in order unless said otherwise. So a policy that is wrongly
accepted shows as `verified`, and one that is wrongly dropped as `encrypted`.
"""

from __future__ import annotations

from typing import Final

from strictmail.core.sts.values import MAX_POLICY_BYTES
from strictmail.core.tlsrpt.results import ResultType
from strictmail.lab.entries import CertFault, Delivery, MxFault, MxHost, PolicyFault, ZooEntry
from strictmail.lab.entries import PolicyHost as Policy
from strictmail.lab.zoobuild import (
    ENCRYPTED,
    ENFORCE,
    PLAINTEXT,
    REFUSED,
    TESTING,
    UNDATED_TXT,
    VERIFIED,
    entry,
    expect,
    outcome,
    policy_body,
)

GOOD_BODY: Final = ENFORCE.body
SELF_SIGNED_MX: Final = MxHost("mx.@", certificate=CertFault.SELF_SIGNED)
FAIL_OPEN: Final = "the fetch fails with nothing cached: delivery as without MTA-STS"


def _fetch_fails(name: str, fault: str, requirements: str, policy: PolicyFault) -> ZooEntry:
    """A policy host whose answer is none."""
    return entry(
        f"policy-{name}",
        fault,
        f"STS-FET-28 {requirements}",
        expect(
            f"{FAIL_OPEN} (RFC 8461 §3.3)",
            ENCRYPTED,
            result_type=ResultType.STS_POLICY_FETCH_ERROR,
        ),
        policy=Policy(GOOD_BODY, fault=policy),
    )


def _bad_certificate(name: str, fault: str, requirements: str, certificate: CertFault) -> ZooEntry:
    """A policy host that cannot be verified."""
    return entry(
        f"policy-{name}",
        fault,
        f"STS-FET-28 {requirements}",
        expect(
            f"{FAIL_OPEN}: no policy without verified HTTPS (RFC 8461 §3.3)",
            ENCRYPTED,
            result_type=ResultType.STS_WEBPKI_INVALID,
        ),
        policy=Policy(GOOD_BODY, certificate=certificate),
    )


def _bad_body(name: str, fault: str, requirements: str, body: bytes) -> ZooEntry:
    """A body that is no policy."""
    return entry(
        f"body-{name}",
        fault,
        f"STS-FET-30 {requirements}",
        expect(
            "a body that breaks the grammar is a failed fetch (RFC 8461 §3.2)",
            ENCRYPTED,
            result_type=ResultType.STS_POLICY_INVALID,
        ),
        policy=Policy(body),
    )


def _odd_body(name: str, fault: str, requirements: str, why: str, body: bytes) -> ZooEntry:
    """A body that looks wrong and holds."""
    return entry(f"body-{name}", fault, requirements, expect(why, VERIFIED), policy=Policy(body))


HOSTS: Final[tuple[ZooEntry, ...]] = (
    _fetch_fails(
        "redirect-same-host",
        "the policy host redirects (301) to another path of its own",
        "STS-FET-17",
        PolicyFault.REDIRECT_SAME_HOST,
    ),
    _fetch_fails(
        "redirect-other-host",
        "the policy host redirects (302) to another host",
        "STS-FET-17 SEC-17",
        PolicyFault.REDIRECT_OTHER_HOST,
    ),
    _fetch_fails("404", "a perfect policy with status 404", "STS-FET-16", PolicyFault.NOT_FOUND),
    _fetch_fails("500", "a perfect policy with status 500", "STS-FET-16", PolicyFault.SERVER_ERROR),
    _fetch_fails("204", "status 204 without body", "STS-FET-16", PolicyFault.NO_CONTENT),
    _fetch_fails(
        "203", "a perfect policy with status 203", "STS-FET-16", PolicyFault.NON_AUTHORITATIVE
    ),
    _fetch_fails(
        "304", "status 304 to an unconditional request", "STS-FET-18", PolicyFault.NOT_MODIFIED
    ),
    _fetch_fails(
        "slow", "the policy comes one octet a second", "STS-FET-22 SEC-16", PolicyFault.SLOW
    ),
    _fetch_fails(
        "stall", "the policy host takes connections and is silent", "SEC-16", PolicyFault.STALL
    ),
    _fetch_fails(
        "endless", "the body never ends", "STS-FET-23 STS-FET-24 SEC-16", PolicyFault.ENDLESS
    ),
    _fetch_fails(
        "huge", "a valid policy of more than 64 KiB", "STS-FET-23 STS-FET-24", PolicyFault.HUGE
    ),
    _fetch_fails("header-flood", "the HTTP header never ends", "SEC-16", PolicyFault.HEADER_FLOOD),
    _fetch_fails(
        "gzip", "a policy compressed although nobody asked", "STS-FET-25", PolicyFault.GZIP
    ),
    _fetch_fails("bomb", "100 KB that unpack to 100 MB", "STS-FET-25 SEC-16", PolicyFault.BOMB),
    _fetch_fails(
        "truncated",
        "Content-Length promises more than comes",
        "STS-FET-26",
        PolicyFault.TRUNCATED,
    ),
    _fetch_fails(
        "unfinished-chunks",
        "the last chunk is missing",
        "STS-FET-26",
        PolicyFault.UNFINISHED_CHUNKS,
    ),
    _fetch_fails(
        "html-type", "the media type is text/html", "STS-FET-19 SEC-18", PolicyFault.WRONG_TYPE
    ),
    _fetch_fails("no-type", "there is no Content-Type", "STS-FET-21", PolicyFault.NO_TYPE),
    _fetch_fails("not-http", "the answer is no HTTP", "STS-FET-16", PolicyFault.NOT_HTTP),
    _fetch_fails(
        "http-only", "HTTP in the clear on port 443", "STS-FET-03", PolicyFault.PLAINTEXT_ONLY
    ),
    _fetch_fails("old-tls", "TLS 1.0 only", "STS-FET-15", PolicyFault.OLD_TLS),
    _fetch_fails("refused", "nobody listens on port 443", "STS-FET-43", PolicyFault.REFUSE),
    _bad_certificate(
        "expired", "the policy host's certificate has expired", "STS-FET-07", CertFault.EXPIRED
    ),
    _bad_certificate(
        "not-yet-valid",
        "the policy host's certificate is not valid yet",
        "STS-FET-07",
        CertFault.NOT_YET_VALID,
    ),
    _bad_certificate(
        "self-signed",
        "the policy host's certificate is self-signed",
        "STS-FET-06",
        CertFault.SELF_SIGNED,
    ),
    _bad_certificate(
        "untrusted-ca",
        "the policy host's certificate is from a CA that nobody trusts",
        "STS-FET-06",
        CertFault.UNTRUSTED_CA,
    ),
    _bad_certificate(
        "missing-intermediate",
        "the policy host does not send the intermediate certificate",
        "STS-FET-06",
        CertFault.MISSING_INTERMEDIATE,
    ),
    _bad_certificate(
        "wrong-name",
        "the policy host's certificate is for another name",
        "STS-FET-08",
        CertFault.WRONG_NAME,
    ),
    _bad_certificate(
        "domain-certificate",
        "the policy host's certificate names only the mail domain",
        "STS-FET-12",
        CertFault.DOMAIN_ONLY,
    ),
    _bad_certificate(
        "common-name-only",
        "the policy host's name stands only in the certificate's common name",
        "STS-FET-09",
        CertFault.COMMON_NAME_ONLY,
    ),
    _bad_certificate(
        "wildcard-too-high",
        "the policy host's certificate has a wildcard two labels up",
        "STS-FET-10",
        CertFault.WILDCARD_TOO_HIGH,
    ),
    entry(
        "policy-wildcard",
        "nothing is wrong: the policy host's certificate has a wildcard for one label",
        "STS-FET-10",
        expect("a wildcard stands for one label (RFC 8461 §3.3)", VERIFIED),
        policy=Policy(GOOD_BODY, certificate=CertFault.WILDCARD),
    ),
    entry(
        "policy-delegated",
        "nothing is wrong: the policy host is an alias of a provider's host",
        "STS-FET-05 STS-REC-27",
        expect("the name to verify stays the policy host's (RFC 8461 §8.2)", VERIFIED),
        policy=Policy(GOOD_BODY, canonical="policy-delegated.provider.plain.test"),
    ),
    entry(
        "policy-delegated-wrong-name",
        "the provider's host has a certificate only for the provider's own name",
        "STS-FET-11 STS-FET-28",
        expect(
            f"{FAIL_OPEN}: the policy host's own name must be in it (RFC 8461 §8.2)",
            ENCRYPTED,
            result_type=ResultType.STS_WEBPKI_INVALID,
        ),
        policy=Policy(
            GOOD_BODY,
            canonical="mta-sts.provider.plain.test",
            certificate=CertFault.SEVERAL_NAMES,
            certificate_names=("mta-sts.provider.plain.test",),
        ),
    ),
    entry(
        "policy-unresolvable",
        "the policy host's name does not resolve",
        "STS-FET-28",
        expect(
            f"{FAIL_OPEN} (RFC 8461 §3.3)",
            ENCRYPTED,
            result_type=ResultType.STS_POLICY_FETCH_ERROR,
        ),
        policy=Policy(GOOD_BODY, has_address=False),
    ),
    entry(
        "policy-inner-address",
        "the policy host resolves to a link-local address",
        "STS-FET-45 SEC-19 STS-FET-28",
        expect(
            "addresses that are not public are not connected to; delivery as without MTA-STS",
            ENCRYPTED,
            result_type=ResultType.STS_POLICY_FETCH_ERROR,
        ),
        policy=Policy(GOOD_BODY, addresses=("169.254.169.254",)),
    ),
    entry(
        "policy-dead-ipv6",
        "the policy host has an IPv6 address at which nobody answers",
        "STS-FET-48",
        expect("every address is tried before the fetch fails (RFC 8461 §3.3)", VERIFIED),
        policy=Policy(GOOD_BODY, addresses=("2001:db8::1", "lab")),
    ),
    entry(
        "policy-type-parameters",
        "nothing is wrong: `Text/Plain` with odd parameters",
        "STS-FET-19 STS-FET-20",
        expect("media types are case-insensitive, parameters do not count", VERIFIED),
        policy=Policy(GOOD_BODY, fault=PolicyFault.PARAMETERS),
    ),
)

_LIMIT_DOMAIN: Final = "body-at-limit.plain.test"
_LIMIT_HEAD: Final = policy_body(f"mx.{_LIMIT_DOMAIN}")
_LIMIT_BODY: Final = (
    _LIMIT_HEAD
    + b"x-padding: "
    + b"x" * (MAX_POLICY_BYTES - len(_LIMIT_HEAD) - len(b"x-padding: \r\n"))
    + b"\r\n"
)

BODIES: Final[tuple[ZooEntry, ...]] = (
    _bad_body("empty", "the body is empty", "STS-POL-10", b""),
    _bad_body(
        "html",
        "the body is a web page, served as text/plain",
        "STS-POL-08",
        b"<!doctype html>\r\n<title>version: STSv1</title>\r\n<p>mode: enforce\r\n",
    ),
    _bad_body(
        "no-version",
        "there is no version line",
        "STS-POL-10",
        b"mode: enforce\r\nmx: mx.@\r\nmax_age: 604800\r\n",
    ),
    _bad_body(
        "no-max-age",
        "there is no max_age line",
        "STS-POL-13",
        b"version: STSv1\r\nmode: enforce\r\nmx: mx.@\r\n",
    ),
    _bad_body("no-mx", "an enforced policy without mx line", "STS-POL-20", policy_body()),
    _bad_body(
        "upper-case-mode",
        "the mode is written `Enforce`",
        "STS-POL-12",
        policy_body("mx.@", mode="Enforce"),
    ),
    _bad_body(
        "max-age-unit",
        "max_age has a unit",
        "STS-POL-14",
        policy_body("mx.@", max_age="604800s"),
    ),
    _bad_body(
        "comment",
        "a comment line",
        "STS-POL-07",
        policy_body("mx.@", before=["# our policy"]),
    ),
    _bad_body(
        "control",
        "a control character in an extension",
        "STS-POL-35 SEC-20",
        policy_body("mx.@", after=["x-note: \x1b[2J"]),
    ),
    _bad_body(
        "mx-list",
        "all MX hosts in one line, separated by commas",
        "STS-POL-23 STS-POL-28",
        policy_body("mx.@, mx2.@"),
    ),
    _odd_body(
        "line-ends",
        "LF and CRLF mixed, blanks at line ends, no end of the last line",
        "STS-POL-01 STS-POL-03 STS-POL-04",
        "either line end is fine, and the last may be missing (RFC 8461 §3.2)",
        b"version:STSv1 \nmode:\tenforce\r\nmx: mx.@\t\nmax_age: 604800",
    ),
    _odd_body(
        "blank-lines",
        "empty lines between and behind the fields",
        "STS-POL-06",
        "empty lines are skipped (C-04)",
        policy_body("mx.@", before=["", ""], after=["", ""]),
    ),
    _odd_body(
        "one-bad-mx",
        "a malformed mx line beside a good one",
        "STS-POL-29",
        "the malformed line is ignored (C-02)",
        policy_body("*", "mx.@", "[192.0.2.1]"),
    ),
    _odd_body(
        "large-max-age",
        "max_age is the largest number that the grammar allows",
        "STS-POL-16 STS-POL-18",
        "max_age is capped at about a year (C-03)",
        policy_body("mx.@", max_age="9999999999"),
    ),
    _odd_body(
        "braces",
        "an extension tries to end an attribute of the MTA's map language",
        "SEC-21 STS-POL-31 STS-POL-32",
        "policy text is a value and never becomes syntax (BCP)",
        policy_body(
            "mx.@",
            before=["x-a: } match=evil.test servername=evil.test {", "x-b: OK may, 9:NOTFOUND ,"],
            after=["x-c: a=b; c:d \\ ' \" $(id) `id` %s \u00e9\u202e"],
        ),
    ),
    entry(
        "body-at-limit",
        "nothing is wrong: a policy of exactly 64 KiB",
        "STS-FET-23",
        expect("less than 64 KiB must not be the limit (RFC 8461 §3.3)", VERIFIED),
        policy=Policy(_LIMIT_BODY),
    ),
    entry(
        "body-duplicates",
        "mode enforce, then mode none; the MX host's certificate is self-signed",
        "STS-POL-30",
        expect("of a repeated field the first counts (RFC 8461 §3.2)", REFUSED),
        policy=Policy(policy_body("mx.@", after=["mode: none", "max_age: 0"])),
        mx=[SELF_SIGNED_MX],
    ),
    entry(
        "body-u2028",
        "a mode none hidden behind U+2028 in an extension; self-signed MX certificate",
        "STS-POL-02 STS-POL-33",
        expect("only LF and CRLF end a line (RFC 8461 §3.2)", REFUSED),
        policy=Policy(
            policy_body(
                "mx.@",
                before=["x-note: a\u2028mode: none\u2028max_age: 1"],
                after=["x-note: b\u2028mode: none"],
            )
        ),
        mx=[SELF_SIGNED_MX],
    ),
    entry(
        "body-max-age-zero",
        "max_age is 0",
        "STS-POL-19",
        expect(
            "the policy holds for the transaction that fetched it, and then no more",
            outcome(None, Delivery.VERIFIED, or_delivery=Delivery.ENCRYPTED),
        ),
        policy=Policy(policy_body("mx.@", max_age="0")),
    ),
)

MODES: Final[tuple[ZooEntry, ...]] = (
    entry(
        "testing",
        "nothing is wrong: a policy in testing",
        "STS-APP-51 STS-APP-54",
        expect("testing refuses nothing and promises nothing (RFC 8461 §5)", ENCRYPTED),
        policy=TESTING,
        txt=UNDATED_TXT,
    ),
    entry(
        "testing-bad-certificate",
        "a policy in testing, and a self-signed certificate",
        "STS-APP-51 STS-APP-52",
        expect("testing delivers in spite of failures (RFC 8461 §5)", ENCRYPTED),
        policy=TESTING,
        txt=UNDATED_TXT,
        mx=[SELF_SIGNED_MX],
    ),
    entry(
        "testing-no-starttls",
        "a policy in testing, and no STARTTLS",
        "STS-APP-51",
        expect("testing delivers in the clear too (RFC 8461 §5)", PLAINTEXT),
        policy=TESTING,
        txt=UNDATED_TXT,
        mx=[MxHost("mx.@", fault=MxFault.NO_STARTTLS)],
    ),
    entry(
        "testing-against-mx",
        "a policy in testing that does not list the MX host",
        "STS-APP-51 STS-APP-54",
        expect("testing delivers in spite of failures (RFC 8461 §5)", ENCRYPTED),
        policy=Policy(policy_body("other.@", mode="testing", max_age="86400")),
        txt=UNDATED_TXT,
    ),
    entry(
        "mode-none",
        "mode none without mx, and a self-signed certificate",
        "STS-APP-53 STS-POL-21",
        expect("mode none is as no policy (RFC 8461 §5)", ENCRYPTED),
        policy=Policy(policy_body(mode="none", max_age="86400")),
        mx=[SELF_SIGNED_MX],
    ),
    entry(
        "mode-none-with-mx",
        "mode none that still lists another MX host",
        "STS-APP-53 STS-POL-22",
        expect("mode none is as no policy (RFC 8461 §5)", ENCRYPTED),
        policy=Policy(policy_body("other.@", mode="none", max_age="86400")),
    ),
)
