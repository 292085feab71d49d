# SPDX-License-Identifier: Apache-2.0
"""The policy host: its DNS, its TLS, what it answers, and whether all of its addresses agree.

Knows the way to the policy; what the policy says, `policy` judges. What a sender's own fetch
brought decides (`facts.policy`); the looks at single addresses say where it goes wrong, and what
only some senders see.

Severity: behind a record, a policy that senders cannot fetch is critical: delivery goes on as
without MTA-STS (RFC 8461 §3.3). A connection that did not come about from here is unknown: it may
be closed to us alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from strictmail.core.check.facts import ProbeOutcome
from strictmail.core.check.grounds import address_texts, say, usable_record
from strictmail.core.check.result import Evidence, Severity
from strictmail.core.check.rules import policyhostkinds as kinds
from strictmail.core.dnsvalues import Status
from strictmail.core.explain import printable
from strictmail.core.sts.fetchrules import MEDIA_TYPE, is_allowed_address, policy_host, policy_url
from strictmail.core.sts.values import MAX_POLICY_BYTES, FetchedPolicy, FetchFailure
from strictmail.core.tagrecord import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.core.check.facts import DomainFacts, PolicyHostLook
    from strictmail.core.check.kinds import Kind
    from strictmail.core.check.result import Finding

SLOW_SECONDS: Final = 20.0
"""A third of the minute that senders wait (RFC 8461 §3.3): above it, a bad day breaks the limit."""

LARGE_BYTES: Final = MAX_POLICY_BYTES // 2

DAYS_LEFT: Final = 14
"""Days of validity below which a certificate should have been renewed."""

DAYS_URGENT: Final = 3
"""Days below which renewal has evidently failed, and nobody has noticed."""

WARNING_PART: Final = 1 / 3
URGENT_PART: Final = 1 / 10
"""For certificates of a few days, parts of their whole life take the place of the days above."""

KINDS: Final = kinds.KINDS

_BY_REASON: Final = {
    "dns": kinds.DNS_FAILED,
    "refused-address": kinds.NOT_PUBLIC,
    "connect": kinds.UNREACHABLE,
    "timeout": kinds.UNREACHABLE,
    "certificate-expired": kinds.EXPIRED,
    "certificate-name": kinds.WRONG_NAME,
    "certificate-untrusted": kinds.UNTRUSTED,
    "tls": kinds.TLS_FAILED,
    "redirect": kinds.REDIRECT,
    "http-status": kinds.BAD_STATUS,
    "media-type": kinds.MEDIA,
    "content-encoding": kinds.ENCODED,
    "too-large": kinds.TOO_LARGE,
    "truncated": kinds.TRUNCATED,
    "http": kinds.HTTP_BROKEN,
}

_SYNTAX: Final = "syntax"
"""A body that came whole: `policy` says what is wrong with it."""


def judge(facts: DomainFacts) -> Iterator[Finding]:
    """What the way to the policy is like."""
    if usable_record(facts) is None:
        # Nobody fetches a policy that no record promises.
        return
    dns = list(_dns(facts))
    yield from dns
    if isinstance(facts.policy, FetchFailure) and facts.policy.reason_code != _SYNTAX:
        said = {finding.id for finding in dns}
        failure = _failure(facts, facts.policy)
        if said.isdisjoint({kinds.NO_ADDRESS.id, kinds.DANGLING.id, failure.id}):
            yield failure
    if isinstance(facts.policy, FetchedPolicy):
        yield from _served(facts, facts.policy)
    if facts.policy is None and not any(finding.severity is not Severity.INFO for finding in dns):
        yield kinds.UNREACHABLE.found(
            policy_host(facts.domain),
            "There is a record, but nobody could look for the policy from here.",
            Evidence("URL", policy_url(facts.domain)),
        )
    own = [look for look in facts.policy_looks if not look.agent]
    yield from _addresses(facts, own)
    yield from _agents(facts, own)
    yield from _certificate(facts, own)


def _dns(facts: DomainFacts) -> Iterator[Finding]:
    answers = facts.policy_addresses
    if not answers:
        return
    host = policy_host(facts.domain)
    alias = next((answer for answer in answers if answer.is_alias), None)
    target = alias.canonical_name if alias is not None else ""
    evidence = tuple(
        Evidence(f"{answer.rdtype.name} lookup", printable(answer.detail) or answer.status.value)
        for answer in answers
    )
    if target:
        evidence = (*evidence, Evidence("CNAME target", target))
    found = address_texts(answers)
    if found:
        if target:
            yield kinds.ALIAS.found(host, f"{host} is an alias of {quote(target)}.", evidence[-1])
        yield from _not_public(facts, found)
        return
    statuses = {answer.status for answer in answers}
    if Status.BOGUS in statuses:
        yield kinds.DNS_FAILED.found(
            host,
            f"The addresses of {host} do not validate: senders whose resolver checks DNSSEC get no "
            "policy.",
            *evidence,
            severity=Severity.CRITICAL,
            fix="Repair the signatures of the zone or its DS record.",
        )
    elif not all(status.is_answer for status in statuses):
        yield kinds.DNS_FAILED.found(
            host, f"The addresses of {host} could not be looked up.", *evidence
        )
    elif target and Status.NXDOMAIN in statuses:
        yield kinds.DANGLING.found(
            host, f"{host} is an alias of {quote(target)}, which does not exist.", *evidence
        )
    else:
        what = "does not exist" if Status.NXDOMAIN in statuses else "has no address"
        yield kinds.NO_ADDRESS.found(host, f"There is a record, but {host} {what}.", *evidence)


def _not_public(facts: DomainFacts, found: Sequence[str]) -> Iterator[Finding]:
    host = policy_host(facts.domain)
    inner = [text for text in found if not is_allowed_address(text, facts.allow_networks)]
    if inner:
        whole = len(inner) == len(found)
        yield kinds.NOT_PUBLIC.found(
            host,
            f"{host} has {'only addresses that are' if whole else 'an address that is'} not public.",
            *(Evidence("address", text) for text in inner),
            severity=None if whole else Severity.WARNING,
        )


def _failure(facts: DomainFacts, failure: FetchFailure) -> Finding:
    """Why a sender's own fetch brings nothing."""
    kind = _BY_REASON.get(failure.reason_code, kinds.FETCH_FAILED)
    if failure.reason_code == "timeout" and any(look.tls for look in facts.policy_looks):
        # It talks TLS to us: then nothing is closed, it is slow.
        kind = kinds.TOO_SLOW
    if failure.reason_code == "certificate-name" and any(
        a.is_alias for a in facts.policy_addresses
    ):
        kind = kinds.WRONG_DELEGATE
    return kind.found(
        policy_host(facts.domain),
        f"The policy cannot be fetched: {say(failure.reason)}.",
        Evidence("URL", policy_url(facts.domain)),
        *_names_evidence(facts, kind),
        paste=f"Content-Type: {MEDIA_TYPE}" if kind is kinds.MEDIA else "",
    )


def _names_evidence(facts: DomainFacts, kind: Kind) -> Iterator[Evidence]:
    """What the certificate names, where that is the trouble."""
    if kind not in (kinds.WRONG_NAME, kinds.WRONG_DELEGATE):
        return
    for look in facts.policy_looks:
        if look.tls is not None and look.tls.chain_der:
            names = _dns_names(look.tls.chain_der[0])
            yield Evidence(f"certificate at {look.address}", ", ".join(names) or "no dNSName")
            return


def _dns_names(certificate_der: bytes) -> list[str]:
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName)
    except (ValueError, x509.ExtensionNotFound):
        return []


def _served(facts: DomainFacts, fetched: FetchedPolicy) -> Iterator[Finding]:
    host = policy_host(facts.domain)
    own = [look for look in facts.policy_looks if not look.agent]
    good = [look for look in own if isinstance(look.result, FetchedPolicy)]
    slowest = max(good, key=lambda look: look.seconds, default=None)
    if slowest is not None and slowest.seconds >= SLOW_SECONDS:
        yield kinds.SLOW.found(
            host,
            f"A fetch took {slowest.seconds:.0f} seconds; senders wait about a minute.",
            Evidence("address", slowest.address),
        )
    if len(fetched.body) > LARGE_BYTES:
        yield kinds.LARGE.found(
            host, f"The policy has {len(fetched.body)} octets of {MAX_POLICY_BYTES} that are read."
        )
    at = f" at {len(good)} of {len(own)} addresses" if own else ""
    yield kinds.SERVED.found(
        host, f"The policy is served{at}.", Evidence("URL", policy_url(facts.domain))
    )


def _addresses(facts: DomainFacts, own: Sequence[PolicyHostLook]) -> Iterator[Finding]:
    """Whether all addresses serve the same."""
    good = [(look.address, look.result) for look in own if isinstance(look.result, FetchedPolicy)]
    bad = [look for look in own if isinstance(look.result, FetchFailure)]
    host = policy_host(facts.domain)
    if good and bad:
        over_ipv6 = [look for look in bad if ":" in look.address]
        if len(over_ipv6) == len([look for look in own if ":" in look.address]):
            yield from _ipv6(facts, over_ipv6)
            bad = [look for look in bad if ":" not in look.address]
        for look in bad:
            yield kinds.ADDRESS_FAILS.found(
                f"{host}[{printable(look.address)}]",
                f"At {printable(look.address)} the policy cannot be fetched: {_reason(look)}.",
                Evidence("address", look.address),
                severity=Severity.UNKNOWN if _is_unreachable(look) else None,
            )
    policies = {
        (policy.mode, policy.max_age, frozenset(policy.mx_patterns))
        for policy in (fetched.policy for _, fetched in good)
    }
    if len(policies) > 1:
        yield kinds.BODIES_DIFFER.found(
            host,
            f"The addresses of {host} serve {len(policies)} different policies.",
            *(
                Evidence(f"policy at {address}", " | ".join(fetched.policy.policy_strings))
                for address, fetched in good
            ),
        )


def _ipv6(facts: DomainFacts, looks: Sequence[PolicyHostLook]) -> Iterator[Finding]:
    """No address of the family serves the policy, while IPv4 does."""
    if not looks:
        return
    sure = _has_ipv6(facts) or not all(map(_is_unreachable, looks))
    yield kinds.IPV6_IN_NAME.found(
        policy_host(facts.domain),
        f"The policy is served over IPv4, but not over IPv6: {_reason(looks[0])}.",
        *(Evidence("address", look.address) for look in looks),
        severity=None if sure else Severity.UNKNOWN,
    )


def _has_ipv6(facts: DomainFacts) -> bool:
    """Whether IPv6 was seen to work from here."""
    return any(
        ":" in probe.target.address and probe.outcome is not ProbeOutcome.UNKNOWN
        for host in facts.hosts
        for probe in host.probes
    )


def _is_unreachable(look: PolicyHostLook) -> bool:
    """Whether no connection came about, which may lie at us."""
    return (
        isinstance(look.result, FetchFailure)
        and look.result.reason_code in ("connect", "timeout")
        and look.tls is None
    )


def _reason(look: PolicyHostLook) -> str:
    reason = look.result.reason if isinstance(look.result, FetchFailure) else ""
    return say(reason)


def _agents(facts: DomainFacts, own: Sequence[PolicyHostLook]) -> Iterator[Finding]:
    """Whether other user agents fare differently at the same address."""
    ours = {look.address: look for look in own}
    for look in facts.policy_looks:
        mine = ours.get(look.address)
        if not look.agent or mine is None:
            continue
        served = [isinstance(result, FetchedPolicy) for result in (mine.result, look.result)]
        if served[0] != served[1] and not (_is_unreachable(mine) or _is_unreachable(look)):
            refused = look if served[0] else mine
            yield kinds.AGENT.found(
                f"{policy_host(facts.domain)}[{printable(look.address)}]",
                f"{'The user agent ' + quote(look.agent) if served[0] else 'This check'} gets no "
                f"policy where {'this check' if served[0] else 'user agent ' + quote(look.agent)} "
                f"gets one: {_reason(refused)}.",
                Evidence("user agent", look.agent),
            )


def _certificate(facts: DomainFacts, own: Sequence[PolicyHostLook]) -> Iterator[Finding]:
    """Days left of the certificates of the policy host, each once."""
    seen = set()
    for look in own:
        leaf = look.tls.chain_der[0] if look.tls is not None and look.tls.chain_der else None
        if leaf is None or leaf in seen:
            continue
        seen.add(leaf)
        yield from _days_left(facts, look, leaf)


def _days_left(facts: DomainFacts, look: PolicyHostLook, leaf: bytes) -> Iterator[Finding]:
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(leaf)
    except ValueError:
        return
    left = certificate.not_valid_after_utc - facts.looked_at
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if not timedelta(0) <= left < min(timedelta(days=DAYS_LEFT), life * WARNING_PART):
        # What is over already is the fetch's own failure.
        return
    urgent = left < min(timedelta(days=DAYS_URGENT), life * URGENT_PART)
    yield kinds.EXPIRES.found(
        policy_host(facts.domain),
        f"The certificate at {printable(look.address)} expires in {left.days} days, on "
        f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M}Z.",
        Evidence("not after", f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"),
        severity=Severity.CRITICAL if urgent else None,
    )
