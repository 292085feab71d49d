# SPDX-License-Identifier: Apache-2.0
"""The MX records of a domain, the addresses of its hosts, and what DNSSEC says of both.

Knows DNS only: what a host does when it is connected to, `hosts` judges; what its TLSA records
say, `dane`. A fault of one host weighs less while another host takes the mail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.core.check.grounds import address_texts, mx_line, say, takes_mail
from strictmail.core.check.receivers import recognise
from strictmail.core.check.result import Evidence, Severity
from strictmail.core.check.rules import mxkinds as kinds
from strictmail.core.dnsvalues import Mx, Status
from strictmail.core.explain import printable
from strictmail.core.mxset import MxStatus, TlsaState
from strictmail.core.names import MAX_NAME_CHARACTERS, is_address, is_ldh_domain
from strictmail.core.sts.fetchrules import is_allowed_address
from strictmail.core.tagrecord import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.core.check.facts import DomainFacts, HostFacts
    from strictmail.core.check.result import Finding

MAX_USEFUL_HOSTS: Final = 10
"""MX hosts above which a note is worth it: Postfix tries the addresses of five or so in a session
(`smtp_mx_address_limit`), and every host needs TLS, a certificate and a line in the policy."""

KINDS: Final = kinds.KINDS

_HAS_TLSA: Final = frozenset({TlsaState.USABLE, TlsaState.UNUSABLE})


def judge(facts: DomainFacts) -> Iterator[Finding]:
    """What the MX records and their hosts' addresses are like."""
    if not facts.mx_answer.status.is_answer:
        yield _failed(facts)
        return
    if facts.mx_answer.is_alias:
        target = quote(facts.mx_answer.canonical_name)
        yield kinds.DOMAIN_ALIAS.found(
            facts.domain,
            f"The domain is an alias of {target}. Its policy is looked for at {facts.domain}.",
            Evidence("CNAME target", facts.mx_answer.canonical_name),
        )
    yield from _set(facts)
    yield from _dnssec(facts)
    if takes_mail(facts):
        yield from _hosts(facts)


def _failed(facts: DomainFacts) -> Finding:
    answer = facts.mx_answer
    detail = say(answer.detail or answer.status.value)
    evidence = Evidence("MX lookup", detail)
    if answer.status is Status.BOGUS:
        return kinds.BOGUS.found(
            facts.domain, f"The MX records do not validate: {detail}.", evidence
        )
    return kinds.LOOKUP_FAILED.found(facts.domain, f"The MX lookup failed: {detail}.", evidence)


def _set(facts: DomainFacts) -> Iterator[Finding]:
    """The records as a set."""
    domain = facts.domain
    match facts.mx.status:
        case MxStatus.NXDOMAIN:
            yield kinds.NXDOMAIN.found(domain, "DNS says that the domain does not exist.")
        case MxStatus.NULL:
            # RFC 7505 §3: no attempt, and no fall-back to the address (STS-APP-15).
            yield kinds.NULL_MX.found(
                domain, "The domain takes no mail.", Evidence("MX record", _records(facts))
            )
        case MxStatus.IMPLICIT:
            yield kinds.IMPLICIT.found(
                domain,
                "There is no MX record: mail goes to the address of the domain itself.",
                paste=mx_line(domain, 10, domain),
            )
        case MxStatus.FOUND:
            yield from _found_set(facts)


def _found_set(facts: DomainFacts) -> Iterator[Finding]:
    domain = facts.domain
    records = [record for record in facts.mx_answer.records if isinstance(record, Mx)]
    evidence = Evidence("MX records", _records(facts))
    if any(not record.host for record in records):
        yield kinds.NULL_BESIDE.found(
            domain,
            "A null MX (`.`) stands beside other MX records.",
            evidence,
            paste="\n".join(
                mx_line(domain, record.preference, printable(record.host))
                for record in records
                if record.host
            ),
        )
    names = [record.host for record in records if record.host]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield kinds.DUPLICATE.found(
            printable(name), f"{quote(name)} is named by {names.count(name)} MX records.", evidence
        )
    hosts = facts.mx.hosts
    if len(hosts) > MAX_USEFUL_HOSTS:
        yield kinds.TOO_MANY.found(
            domain, f"{len(hosts)} MX hosts; senders try a few for each message.", evidence
        )
    if len(hosts) == 1 and recognise([hosts[0].name]) is None and _address_count(facts) <= 1:
        yield kinds.SINGLE.found(domain, f"{quote(hosts[0].name)} is the only MX host.", evidence)


def _address_count(facts: DomainFacts) -> int:
    """Addresses of the one host in its better family."""
    answers = facts.hosts[0].addresses if facts.hosts else ()
    return max((len(answer.records) for answer in answers), default=0)


def _dnssec(facts: DomainFacts) -> Iterator[Finding]:
    if not facts.validates or not takes_mail(facts):
        return
    if facts.mx.secure:
        yield kinds.SECURE.found(facts.domain, "The MX records are signed and validate.")
    else:
        # RFC 7672 §2.2.1: DANE needs a secure MX RRset (DANE-23).
        yield kinds.INSECURE.found(
            facts.domain, "The MX records are not signed: senders do not use DANE for this domain."
        )


def _hosts(facts: DomainFacts) -> Iterator[Finding]:
    broken = {host.name for host in facts.hosts if _is_unreachable(facts, host)}
    # RFC 5321 §5.1: the next host is tried; only without any does mail stay (STS-APP-10).
    fatal = len(broken) == len(facts.mx.hosts)
    for host in facts.hosts:
        yield from _host(facts, host, Severity.CRITICAL if fatal else Severity.WARNING)


def _is_unreachable(facts: DomainFacts, host: HostFacts) -> bool:
    """Whether DNS alone shows that no sender can connect to this host."""
    if is_address(host.name):
        return True
    found = address_texts(host.addresses)
    if found:
        return not any(is_allowed_address(text, facts.allow_networks) for text in found)
    statuses = {answer.status for answer in host.addresses}
    return bool(statuses) and (
        Status.BOGUS in statuses or all(status.is_answer for status in statuses)
    )


def _host(facts: DomainFacts, host: HostFacts, severity: Severity) -> Iterator[Finding]:
    """One host; `severity` is for what keeps mail from it."""
    subject = printable(host.name)
    shown = quote(host.name)
    evidence = Evidence("MX record", f"{host.preference} {host.name}")
    if is_address(host.name):
        yield kinds.LITERAL.found(
            subject,
            f"The MX record has the address {shown} in place of a host name.",
            evidence,
            severity=severity,
        )
        return
    if not is_ldh_domain(host.name):
        yield kinds.BAD_NAME.found(
            subject,
            f"{shown} is not made of letters, digits and hyphens.",
            Evidence("MX record", host.name, _first_odd(host.name)),
        )
    found = address_texts(host.addresses)
    if found:
        yield from _addresses(facts, host, found, severity)
    elif host.addresses:
        yield _no_address(host, severity)


def _first_odd(name: str) -> int:
    """Offset of the label at fault, or of the first character in it that cannot stand there."""
    position = 0
    for label in name.split("."):
        if not is_ldh_domain(label):
            return position + next((i for i, c in enumerate(label) if not _is_ldh(c)), 0)
        position += len(label) + 1
    # Every label is fine: the name is too long.
    return MAX_NAME_CHARACTERS


def _is_ldh(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character == "-")


def _no_address(host: HostFacts, severity: Severity) -> Finding:
    subject, shown = printable(host.name), quote(host.name)
    failed = [answer for answer in host.addresses if not answer.status.is_answer]
    evidence = tuple(
        Evidence(f"{answer.rdtype.name} lookup", printable(answer.detail) or answer.status.value)
        for answer in host.addresses
    )
    if any(answer.status is Status.BOGUS for answer in failed):
        # RFC 7672 §2.1.2: such a host is skipped (DANE-12, SEC-29).
        return kinds.HOST_BOGUS.found(
            subject, f"The addresses of {shown} do not validate.", *evidence, severity=severity
        )
    if failed:
        return kinds.ADDRESS_FAILED.found(
            subject, f"The addresses of {shown} could not be looked up.", *evidence
        )
    gone = any(answer.status is Status.NXDOMAIN for answer in host.addresses)
    what = "does not exist" if gone else "has no address"
    return kinds.DANGLING.found(
        subject,
        f"The MX host {shown} {what}.",
        Evidence("MX record", f"{host.preference} {host.name}"),
        *evidence,
        severity=severity,
    )


def _addresses(
    facts: DomainFacts, host: HostFacts, found: list[str], severity: Severity
) -> Iterator[Finding]:
    subject, shown = printable(host.name), quote(host.name)
    alias = next((a for a in host.addresses if a.status is Status.OK and a.is_alias), None)
    if alias is not None and facts.mx.status is MxStatus.FOUND:
        yield kinds.ALIAS.found(
            subject,
            f"The MX host {shown} is an alias of {quote(alias.canonical_name)}.",
            Evidence("CNAME target", alias.canonical_name),
            paste=mx_line(facts.domain, host.preference, printable(alias.canonical_name)),
        )
    inner = [text for text in found if not is_allowed_address(text, facts.allow_networks)]
    if inner:
        whole = len(inner) == len(found)
        yield kinds.NOT_PUBLIC.found(
            subject,
            f"{shown} has {'only addresses that are' if whole else 'an address that is'} not "
            f"public: {', '.join(map(printable, inner))}.",
            *(Evidence("address", text) for text in inner),
            severity=severity if whole else Severity.WARNING,
        )
    if all(":" in text for text in found) and not any(
        not answer.status.is_answer for answer in host.addresses
    ):
        yield kinds.IPV6_ONLY.found(
            subject,
            f"{shown} has IPv6 addresses only.",
            *(Evidence("address", text) for text in found),
        )
    yield from _address_dnssec(facts, host)


def _address_dnssec(facts: DomainFacts, host: HostFacts) -> Iterator[Finding]:
    """Whether DANE can apply to a host of a signed MX set."""
    if not facts.validates or not facts.mx.secure:
        return
    if {mx.tlsa_state for mx in facts.mx.hosts if mx.name == host.name} & _HAS_TLSA:
        # RFC 7672 §2.2.2: a secure alias keeps its own records, whatever its target is (DANE-32).
        return
    if any(answer.status is Status.OK and not answer.secure for answer in host.addresses):
        # RFC 7672 §2.2.2: then TLSA records are not asked for (DANE-21).
        yield kinds.HOST_INSECURE.found(
            printable(host.name),
            f"The addresses of {quote(host.name)} are not signed: DANE does not protect this host.",
        )


def _records(facts: DomainFacts) -> str:
    return ", ".join(
        f"{record.preference} {record.host or '.'}"
        for record in facts.mx_answer.records
        if isinstance(record, Mx)
    )
