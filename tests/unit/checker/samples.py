# SPDX-License-Identifier: Apache-2.0
"""Results as real domains would have them, for tests of what people get to see."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from tests.unit.checker.results import (
    address,
    certificate,
    chain,
    finding,
    host,
    result,
    sender,
    sts,
)

from strictmail.core.check.result import (
    AddressResult,
    CheckResult,
    Evidence,
    Finding,
    HostResult,
    Prediction,
    SenderClass,
    Severity,
    TlsrptResult,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

AT: Final = datetime(2026, 11, 25, 9, 30, 12, 345000, tzinfo=UTC)
STS_ONLY, DANE, BOTH, NEITHER, CACHED = SenderClass
PKIX, ENCRYPTED, CLEAR, WAITS, BOUNCES, UNSEEN = Prediction
GOOD_WORD: Final = {PKIX: "pkix"}


def leaf(name: str, days: int, number: int, key: str = "ecdsa-256") -> object:
    return certificate(
        number,
        subject=f"CN={name}",
        issuer="CN=R11,O=Example Trust,C=US",
        dns_names=(name,),
        not_before=AT - timedelta(days=90 - days),
        not_after=AT + timedelta(days=days),
        key=key,
    )


def seen(
    host_name: str, where: str, days: int, number: int, *, key_type: str = "ecdsa", dane: str = ""
) -> AddressResult:
    issuer = certificate(
        900 + number,
        subject="CN=R11,O=Example Trust,C=US",
        issuer="CN=Example Root,O=Example Trust,C=US",
        dns_names=(),
        not_before=AT - timedelta(days=900),
        not_after=AT + timedelta(days=900),
        key="rsa-2048",
        is_ca=True,
    )
    key = "ecdsa-256" if key_type == "ecdsa" else "rsa-2048"
    presented = chain(
        leaf(host_name, days, number, key),  # type: ignore[arg-type]
        issuer,
        key_type=key_type,
        server_name=host_name,
        dane=dane,
        pkix_problems=("expired",) if days < 0 else (),
        detail="the certificate expired 3 days ago" if days < 0 else "",
    )
    return address(where, presented, helo=host_name, seconds=0.214)


def verdicts(
    hosts: Iterable[HostResult], said: dict[SenderClass, tuple[Prediction, str, str, str]]
) -> tuple[Verdict, ...]:
    """The same for every host and address: (prediction, by, rule, sentence)."""
    return tuple(
        Verdict(kind, h.name, a.address, prediction, by, rule, sentence, "RFC 8461 §5")
        for h in hosts
        for a in h.addresses
        for kind, (prediction, by, rule, sentence) in said.items()
    )


def ok(number: str, title: str, sentence: str, subject: str) -> Finding:
    return finding(
        number, Severity.OK, title=title, sentence=sentence, subject=subject, evidence=()
    )


# ---- a good domain ------------------------------------------------------------------------------


def good() -> CheckResult:
    name = "mx1.good.example"
    hosts = (
        host(
            name,
            seen(name, "192.0.2.1", 61, 1, dane="authenticated"),
            seen(name, "2001:db8::1", 61, 1, dane="authenticated"),
            on_policy=True,
            tlsa_state="usable",
            tlsa_base_domain=name,
            tlsa=(f"3 1 1 {1:064x}",),
        ),
    )
    by_pkix = (PKIX, "pkix", "sts-enforced", "The host is in the policy, its certificate valid.")
    by_dane = (PKIX, "dane", "dane-match", "A TLSA record matches the certificate.")
    opportunistic = (
        ENCRYPTED,
        "",
        "opportunistic",
        "TLS is offered and used; nothing is verified.",
    )
    said = {STS_ONLY: by_pkix, DANE: by_dane, BOTH: by_dane, NEITHER: opportunistic}
    return result(
        "good.example",
        checked_at=AT,
        seconds=1.847,
        summary="Mail is protected: senders with MTA-STS or DANE verify the host and deliver.",
        mx_status="found",
        dnssec="secure",
        sts=sts(
            "enforce",
            record=("v=STSv1; id=20261101;",),
            policy_id="20261101",
            mx_patterns=(name,),
            policy_lines=("version: STSv1", "mode: enforce", f"mx: {name}", "max_age: 604800"),
        ),
        tlsrpt=TlsrptResult(
            ("v=TLSRPTv1; rua=mailto:tls@good.example",), ("mailto:tls@good.example",)
        ),
        hosts=hosts,
        senders=tuple(
            sender(kind, what, by=by, rule=rule, sentence=f"{name}: {sentence}", mx_host=name)
            for kind, (what, by, rule, sentence) in said.items()
        ),
        verdicts=verdicts(hosts, said),
        findings=(
            finding(
                "DNS004",
                Severity.INFO,
                subject="mta-sts.good.example",
                title="No CAA record",
                sentence="No CAA record limits who may issue a certificate for the policy host.",
                source="RFC 8659 §3",
                evidence=(),
                fix="Name the CA that issues it.",
                paste='mta-sts.good.example. IN CAA 0 issue "ca.example"',
            ),
            ok("DANE001", "DANE works", "The TLSA records match at every address.", name),
            ok("STS015", "MTA-STS record", "There is one record, and senders can use it.", "_mta-sts.good.example"),
            ok("TLS010", "STARTTLS works", "Every address does TLS 1.2 or newer.", name),
        ),
    )  # fmt: skip


# ---- a domain with many faults ------------------------------------------------------------------


def broken() -> CheckResult:
    one, two, three = "mx1.broken.example", "mx2.broken.example", "mail.backup.example"
    hosts = (
        host(
            one,
            seen(one, "192.0.2.11", -3, 11, dane="mismatch"),
            seen(one, "2001:db8::11", -3, 11, dane="mismatch"),
            on_policy=True,
            tlsa_state="usable",
            tlsa_base_domain=one,
            tlsa=(f"3 1 1 {99:064x}",),
        ),
        host(
            two,
            seen(two, "192.0.2.12", 9, 12),
            address("2001:db8::12", helo=two, detail="EHLO was answered without STARTTLS."),
            preference=20,
            on_policy=True,
            tlsa_state="none",
        ),
        host(
            three,
            address("198.51.100.7", outcome="unknown", unknown="busy", seconds=4.1,
                    detail="The host answered `421 4.7.0 Too many connections`."),
            address("2001:db8:7::7", outcome="no-starttls", helo=three),
            preference=30,
            on_policy=False,
            tlsa_state="not-applicable",
        ),
    )  # fmt: skip
    return result(
        "broken.example",
        checked_at=AT,
        seconds=6.312,
        status=Severity.CRITICAL,
        summary=(
            "Mail to broken.example waits from senders that honour DANE, because the TLSA records do not "
            "authenticate the MX host; it travels over verified TLS from senders that honour MTA-STS and not DANE."
        ),
        dnssec="secure",
        sts=sts(
            "enforce",
            record=("v=STSv1; id=2026-11-01; mode=enforce",),
            policy_id="",
            max_age=86_400,
            mx_patterns=("mx1.broken.example", "mx2.broken.example", "*.brokn.example"),
        ),
        tlsrpt=TlsrptResult(("v=TLSRPTv1;rua=tls@broken.example",), ()),
        hosts=hosts,
        senders=(
            sender(STS_ONLY, PKIX, mx_host=two, rule="sts-enforced", sentence="mx2.broken.example: The policy names the MX host, and its certificate is valid for that name. A host that may be tried as well, or before, could not be looked at.", certain=False),
            sender(DANE, WAITS, mx_host="", rule="dane-mismatch", sentence="mx1.broken.example: The TLSA records do not authenticate the MX host.", source="RFC 7672 §2.2"),
            sender(BOTH, WAITS, mx_host="", rule="dane-mismatch", sentence="mx1.broken.example: The TLSA records do not authenticate the MX host.", source="RFC 7672 §2.2"),
            sender(NEITHER, ENCRYPTED, mx_host=one, rule="opportunistic", sentence="TLS is offered and used; nothing is verified.", source="RFC 3207 §4"),
            sender(CACHED, PKIX, by="pkix", mx_host=two, rule="sts-enforced", sentence="The cached policy is the same as today's."),
        ),
        verdicts=_broken_verdicts(one, two, three),
        findings=(
            finding(
                "STS006", Severity.CRITICAL, subject="_mta-sts.broken.example",
                title="MTA-STS record is malformed",
                sentence="The value of `id` has a character that is neither letter nor digit.",
                requirement="STS-REC-06",
                evidence=(Evidence("TXT record", "v=STSv1; id=2026-11-01; mode=enforce", 16),),
                fix="Replace the record.",
                paste='_mta-sts.broken.example. 3600 IN TXT "v=STSv1; id=20261125T093012;"',
            ),
            finding(
                "DANE021", Severity.CRITICAL, subject=one,
                title="TLSA records match nothing",
                sentence="None of the TLSA records matches a certificate that the host presents.",
                source="RFC 7672 §2.2", requirement="DANE-31",
                evidence=(
                    Evidence(f"TLSA record at _25._tcp.{one}", f"3 1 1 {99:064x}"),
                    Evidence("certificate 192.0.2.11", f"CN={one}, key digest {11:064x}"),
                ),
                fix="Publish a record for the new key, and keep the old one for two TTLs.",
                paste=f"_25._tcp.{one}. 3600 IN TLSA 3 1 1 {11:064x}",
            ),
            finding(
                "TLS101", Severity.CRITICAL, subject=one,
                title="Certificate expired",
                sentence="The certificate is over since 2026-11-22; senders with MTA-STS refuse it.",
                source="RFC 8461 §4.2", requirement="STS-APP-32",
                evidence=(Evidence("not after", "2026-11-22T09:30:12Z"),),
                fix="Renew the certificate, and make the mail server load the new one.",
            ),
            finding(
                "TLS001", Severity.CRITICAL, subject=f"{two}[2001:db8::12]",
                title="STARTTLS not offered",
                sentence="The host answers EHLO without STARTTLS, which the policy demands.",
                source="RFC 8461 §4.2", requirement="STS-APP-30",
                evidence=(Evidence("session with 2001:db8::12", "250-mx2.broken.example 250-SIZE 52428800 250 8BITMIME"),),
                fix="Switch on STARTTLS for the port that receives mail, on every address.",
            ),
            finding(
                "TLS001", Severity.CRITICAL, subject=f"{three}[2001:db8:7::7]",
                title="STARTTLS not offered",
                sentence="The host answers EHLO without STARTTLS.",
                source="RFC 8461 §4.2", requirement="STS-APP-30",
                fix="Switch on STARTTLS for the port that receives mail, on every address.",
                evidence=(),
            ),
            finding(
                "STS211", Severity.WARNING, subject="broken.example",
                title="Policy pattern matches no MX host",
                sentence="`*.brokn.example` matches none of the hosts; did you mean `*.broken.example`?",
                source="RFC 8461 §4.1", requirement="STS-APP-20",
                evidence=(Evidence("policy line 5", "mx: *.brokn.example", 4),),
                fix="Correct the line, and change the id of the record.",
                paste="mx: *.broken.example",
            ),
            finding(
                "TLS108", Severity.WARNING, subject=two,
                title="Certificate expires soon",
                sentence="The certificate ends in 9 days.",
                source="RFC 8461 §4.2", requirement="OPS-30",
                evidence=(Evidence("not after", "2026-12-04T09:30:12Z"),),
                fix="See that the renewal runs, and that the mail server loads what it brings.",
            ),
            finding(
                "RPT004", Severity.WARNING, subject="_smtp._tls.broken.example",
                title="TLSRPT record is malformed",
                sentence="The destination `tls@broken.example` is no URI.",
                source="RFC 8460 §3", requirement="RPT-REC-04",
                evidence=(Evidence("TXT record", "v=TLSRPTv1;rua=tls@broken.example", 15),),
                fix="Write the scheme in front.",
                paste='_smtp._tls.broken.example. 3600 IN TXT "v=TLSRPTv1; rua=mailto:tls@broken.example;"',
            ),
            finding(
                "TLS013", Severity.UNKNOWN, subject=f"{three}[198.51.100.7]",
                title="Host put the check off",
                sentence="The host answered `421 4.7.0 Too many connections`: nothing is known of its TLS.",
                source="RFC 5321 §4.2.1",
                evidence=(Evidence("reply", "421 4.7.0 Too many connections from your address"),),
                fix="Ask again later, or check from a machine that the host knows.",
            ),
            ok("SEC001", "MX records are signed", "The MX records validate.", "broken.example"),
        ),
    )  # fmt: skip


def _broken_verdicts(one: str, two: str, three: str) -> tuple[Verdict, ...]:
    def row(name: str, where: str, *cells: tuple[Prediction, str]) -> list[Verdict]:
        said = {
            PKIX: ("verified", "It is verified."),
            ENCRYPTED: ("opportunistic", "TLS is used; nothing is verified."),
            CLEAR: ("no-starttls", "There is no TLS to use."),
            WAITS: ("refused", "What the host shows is refused."),
            UNSEEN: ("busy", "The host put the check off."),
        }
        return [
            Verdict(kind, name, where, what, "pkix" if what is PKIX else "", *said[what],
                    "RFC 8461 §5", result_type)
            for kind, (what, result_type) in zip(SenderClass, cells, strict=True)
        ]  # fmt: skip

    expired, mismatch = "certificate-expired", "validation-failure"
    no_tls = "starttls-not-supported"
    both_ends = ((WAITS, expired), (WAITS, mismatch), (WAITS, mismatch), (ENCRYPTED, ""), (WAITS, expired))  # fmt: skip
    fine = ((PKIX, ""), (ENCRYPTED, ""), (PKIX, ""), (ENCRYPTED, ""), (PKIX, ""))
    bare = ((WAITS, no_tls), (CLEAR, ""), (WAITS, no_tls), (CLEAR, ""), (WAITS, no_tls))
    unseen = ((UNSEEN, ""),) * 5
    return (
        *row(one, "192.0.2.11", *both_ends),
        *row(one, "2001:db8::11", *both_ends),
        *row(two, "192.0.2.12", *fine),
        *row(two, "2001:db8::12", *bare),
        *row(three, "198.51.100.7", *unseen),
        *row(three, "2001:db8:7::7", *bare),
    )


# ---- nothing to be seen; no mail at all; many hosts ---------------------------------------------


def blocked() -> CheckResult:
    names = ("mx1.blocked.example", "mx2.blocked.example")
    hosts = tuple(
        host(
            name,
            address(f"192.0.2.{20 + at}", outcome="unknown", unknown="port-blocked", helo=""),
            preference=10 * (at + 1),
            on_policy=True,
            tlsa_state="none",
        )
        for at, name in enumerate(names)
    )
    nobody = (UNSEEN, "", "port-blocked", "Outbound port 25 is blocked where the check runs.")
    said = dict.fromkeys((STS_ONLY, DANE, BOTH, NEITHER), nobody)
    return result(
        "blocked.example",
        checked_at=AT,
        seconds=3.02,
        status=Severity.UNKNOWN,
        summary="Unknown: outbound port 25 is blocked here, so no MX host could be looked at.",
        sts=sts("testing", mx_patterns=names, policy_id="1"),
        hosts=hosts,
        senders=tuple(
            sender(kind, UNSEEN, mx_host="", rule=nobody[2], sentence=nobody[3], source="")
            for kind in said
        ),
        verdicts=tuple(replace(verdict, source="") for verdict in verdicts(hosts, said)),
        findings=(
            finding(
                "CHK001",
                Severity.UNKNOWN,
                subject="blocked.example",
                title="Outbound port 25 is blocked here",
                sentence="Outbound port 25 is blocked where the check runs: the TLS of the MX hosts is unknown.",
                source="",
                evidence=(Evidence("reason", "port-blocked"),),
                fix="Run the check where mail may leave, such as on the mail server itself.",
            ),
        ),
    )


def null_mx() -> CheckResult:
    return result(
        "null.example",
        checked_at=AT,
        seconds=0.09,
        summary="The domain takes no mail, and says so.",
        mx_status="null",
        dnssec="secure",
        hosts=(),
        senders=tuple(
            sender(kind, BOUNCES, mx_host="", rule="null-mx", sentence="The domain takes no mail.", source="RFC 7505 §3")
            for kind in (STS_ONLY, DANE, BOTH, NEITHER)
        ),
        findings=(ok("MX002", "Null MX", "The domain takes no mail.", "null.example"),),
    )  # fmt: skip


def many_hosts() -> CheckResult:
    names = [f"mx{number:02}.mail.provider.example" for number in range(1, 13)]
    hosts = tuple(
        host(
            name,
            seen(name, f"192.0.2.{at + 1}", 40 - at, 100 + at),
            seen(name, f"2001:db8::{at + 1:x}", 40 - at, 200 + at, key_type="rsa"),
            preference=10 + 10 * (at // 4),
            on_policy=None,
        )
        for at, name in enumerate(names)
    )
    open_mail = (
        ENCRYPTED,
        "",
        "no-policy",
        "There is no policy: TLS is used, nothing is verified.",
    )
    said = dict.fromkeys((STS_ONLY, DANE, BOTH, NEITHER), open_mail)
    weak = verdicts(hosts[:11], said) + verdicts(
        hosts[11:],
        dict.fromkeys(said, (CLEAR, "", "no-starttls", "There is no TLS to use.")),
    )
    return result(
        "many.example",
        checked_at=AT,
        seconds=9.4,
        status=Severity.WARNING,
        summary="Mail travels encrypted, but nobody verifies to whom: there is neither MTA-STS nor DANE.",
        receiver="Google Workspace",
        hosts=hosts,
        senders=tuple(
            sender(kind, ENCRYPTED, mx_host=names[0], rule="no-policy", sentence=open_mail[3])
            for kind in said
        ),
        verdicts=weak,
        findings=(
            finding("STS002", title="No MTA-STS", sentence="There is no record at `_mta-sts.many.example`.", subject="_mta-sts.many.example", evidence=(),
                    fix="Serve a policy in mode `testing` first; then publish the record.", requirement="STS-REC-01",
                    paste="version: STSv1\nmode: testing\nmx: *.mail.provider.example\nmax_age: 86400"),
            *(
                finding("TLS109", title="Chain out of order", sentence=f"The chain of {name} has its issuer first.",
                        subject=name, source="RFC 5280 §6.1", evidence=(Evidence("certificate 1", "CN=R11,O=Example Trust,C=US"),),
                        fix="Send the leaf first.")
                for name in names[:9]
            ),
            *(ok("TLS010", "STARTTLS works", "Every address does TLS 1.2 or newer.", name) for name in names[:11]),
        ),
    )  # fmt: skip


SAMPLES: Final = {
    "good": good,
    "broken": broken,
    "blocked": blocked,
    "null-mx": null_mx,
    "many-hosts": many_hosts,
}
