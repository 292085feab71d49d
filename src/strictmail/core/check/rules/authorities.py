# SPDX-License-Identifier: Apache-2.0
"""What lies below the records: name servers that agree, aliases to providers, CAA.

A resolver asks any of a zone's servers. Where they differ, some senders see a record and others do
not, and a finding of another area holds only for some of them. A server that says nothing is
unknown, no fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.core.check import caa
from strictmail.core.check.certificates import describe, issuer_organisation
from strictmail.core.check.kinds import Kind
from strictmail.core.check.result import Evidence, Severity
from strictmail.core.dnsvalues import Caa, Mx, RecordType, Status
from strictmail.core.explain import printable
from strictmail.core.sts.fetchrules import policy_host
from strictmail.core.tagrecord import join_strings, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from strictmail.core.check.facts import AuthorityFacts, DomainFacts
    from strictmail.core.check.result import Finding
    from strictmail.core.dnsvalues import Answer, Record

DIFFER: Final = Kind(
    "DNS001",
    Severity.WARNING,
    "Name servers disagree",
    "RFC 1034 §4.2.2",
    "What a sender learns depends on the server that its resolver asks.",
    "",
    "Bring the servers to the same version of the zone: look at the serial numbers and transfers.",
)
MISSING: Final = Kind(
    "DNS002",
    Severity.WARNING,
    "Record missing on some name servers",
    "RFC 1034 §4.2.2",
    "Some senders do not find the record, and act as if it were not published.",
    "",
    "Bring the servers to the same version of the zone: look at the serial numbers and transfers.",
)
LAME: Final = Kind(
    "DNS003",
    Severity.WARNING,
    "Lame name server",
    "RFC 1034 §4.2.2",
    "The zone is delegated to a server that does not answer for it. Lookups take longer, and fail "
    "when the others are out of reach.",
    "",
    "Load the zone on that server, or take it out of the delegation.",
)
SILENT: Final = Kind(
    "DNS004",
    Severity.UNKNOWN,
    "Name server not reached",
    "RFC 1034 §4.2.2",
    "The server did not answer the check; what it has, nobody knows.",
)
SINGLE: Final = Kind(
    "DNS005",
    Severity.INFO,
    "One name server",
    "RFC 1034 §4.1",
    "While it is out of reach, nobody finds the domain.",
    "",
    "Let a second server, in another network, serve the zone.",
)
CAA_FORBIDS: Final = Kind(
    "DNS006",
    Severity.WARNING,
    "CAA does not allow the issuer in use",
    "RFC 8659 §4.2",
    "The next renewal of the policy host's certificate will be refused; when the present one is "
    "over, no sender can fetch the policy.",
    "STS-FET-06",
    "Allow the authority in CAA, or move to one that is allowed.",
)
CAA_FAILED: Final = Kind(
    "DNS007",
    Severity.UNKNOWN,
    "CAA lookup failed",
    "RFC 8659 §6.2",
    "An authority that meets the same failure does not issue: the renewal of the policy host's "
    "certificate may be refused.",
    "STS-FET-06",
    "Repair the signatures of the zone, or the name servers that mishandle questions for CAA.",
)
DELEGATED: Final = Kind(
    "DNS008",
    Severity.INFO,
    "Name delegated by an alias",
    "RFC 8461 §8.2",
    "A provider looks after this name. Record and policy host belong together: whoever changes the "
    "one has to change the other.",
    "STS-REC-26",
)
DANGLING: Final = Kind(
    "DNS009",
    Severity.WARNING,
    "Alias to a name that does not exist",
    "RFC 8461 §10.3",
    "Nothing is found at the end of the alias. If somebody else can register its target, they "
    "speak for the domain.",
    "OPS-28",
    "Remove the CNAME record, or let the provider set its side up again.",
)

KINDS: Final = (
    DIFFER,
    MISSING,
    LAME,
    SILENT,
    SINGLE,
    CAA_FORBIDS,
    CAA_FAILED,
    DELEGATED,
    DANGLING,
)


def judge(facts: DomainFacts) -> Iterator[Finding]:
    """Name servers, aliases and CAA."""
    grouped: dict[tuple[str, str, RecordType], list[AuthorityFacts]] = {}
    for seen in facts.authorities:
        grouped.setdefault((seen.zone, seen.name, seen.rdtype), []).append(seen)
    for group in grouped.values():
        yield from _agreement(group)
    yield from _servers(facts.authorities)
    yield from _aliases(facts)
    yield from _caa(facts)


def _agreement(group: Sequence[AuthorityFacts]) -> Iterator[Finding]:
    """Whether the servers of a zone say the same to one question."""
    told = [seen for seen in group if seen.answer.status.is_answer and seen.authoritative]
    what = f"{quote(group[0].name)} {group[0].rdtype.name}"
    having = [seen for seen in told if _content(seen.answer)]
    lacking = [seen for seen in told if not _content(seen.answer)]
    where = printable(group[0].name)
    if having and lacking:
        yield MISSING.found(
            where,
            f"{what} is missing on {_list(lacking)}, and there on {_list(having)}.",
            *map(_evidence, told),
        )
    if len({_content(seen.answer) for seen in having}) > 1:
        yield DIFFER.found(
            where,
            f"The servers of {quote(group[0].zone)} give different records for {what}.",
            *map(_evidence, told),
        )


def _content(answer: Answer) -> frozenset[str]:
    """What an answer says, in a form that can be compared; empty for a denial."""
    said = set(map(_text, answer.records))
    if answer.is_alias:
        said.add(f"CNAME {answer.canonical_name}")
    return frozenset(said)


def _text(record: Record) -> str:
    match record:
        case tuple():
            return join_strings(record).decode("latin-1")
        case Mx():
            return f"{record.preference} {record.host}."
        case Caa():
            return f'{record.flags} {record.tag} "{record.value.decode("latin-1")}"'
        case _:
            return str(record)


def _servers(authorities: Iterable[AuthorityFacts]) -> Iterator[Finding]:
    zones: dict[str, dict[tuple[str, str], list[AuthorityFacts]]] = {}
    for seen in authorities:
        servers = zones.setdefault(seen.zone, {})
        servers.setdefault((seen.server, seen.address), []).append(seen)
    for zone, servers in zones.items():
        for (server, address), answers in servers.items():
            yield from _server(zone, f"{printable(server)}[{address}]", answers)
        names = {server for server, _ in servers}
        if len(names) == 1:
            yield SINGLE.found(printable(zone), f"{quote(names.pop())} alone serves {quote(zone)}.")


def _server(zone: str, where: str, answers: Sequence[AuthorityFacts]) -> Iterator[Finding]:
    """One finding for one server, however many questions it failed."""
    lame = [seen for seen in answers if _is_lame(seen)]
    silent = [seen for seen in answers if not seen.answer.status.is_answer and seen not in lame]
    if lame:
        yield LAME.found(
            where,
            f"Of {len(answers)} questions on {quote(zone)}, the server refused {len(lame)}, or "
            "answered without authority.",
            *map(_evidence, lame),
        )
    elif silent:
        yield SILENT.found(
            where,
            f"The server of {quote(zone)} did not answer {len(silent)} of {len(answers)} questions.",
            *map(_evidence, silent),
        )


def _is_lame(seen: AuthorityFacts) -> bool:
    # An authority that refuses, or fails at its own zone, answers SERVFAIL in these terms.
    status = seen.answer.status
    return status is Status.SERVFAIL or (status.is_answer and not seen.authoritative)


def _list(group: Iterable[AuthorityFacts]) -> str:
    return ", ".join(dict.fromkeys(printable(seen.server) or seen.address for seen in group))


def _evidence(seen: AuthorityFacts) -> Evidence:
    said = "; ".join(sorted(_content(seen.answer))) or seen.answer.status.value
    if seen.answer.detail:
        said += f" ({seen.answer.detail})"
    if seen.answer.status.is_answer and not seen.authoritative:
        said += " (not authoritative)"
    return Evidence(f"{seen.rdtype.name} from {printable(seen.server)} {seen.address}", said)


def _aliases(facts: DomainFacts) -> Iterator[Finding]:
    """Names that somebody else looks after."""
    answers = [facts.sts_record, facts.tlsrpt_record, *facts.policy_addresses]
    for name in dict.fromkeys(answer.name for answer in answers if answer.is_alias):
        group = [answer for answer in answers if answer.name == name and answer.is_alias]
        target = group[0].canonical_name
        evidence = Evidence("CNAME chain", f"{name} ... {target}")
        if all(answer.status is Status.NXDOMAIN for answer in group):
            yield DANGLING.found(
                printable(name),
                f"The alias leads to {quote(target)}, which does not exist.",
                evidence,
            )
        else:
            yield DELEGATED.found(
                printable(name), f"The name is an alias that leads to {quote(target)}.", evidence
            )


def _caa(facts: DomainFacts) -> Iterator[Finding]:
    """CAA against whoever issued the certificate of the policy host."""
    host = policy_host(facts.domain)
    for answer in facts.caa:
        if not answer.status.is_answer:
            certain = answer.status in (Status.BOGUS, Status.SERVFAIL)
            yield CAA_FAILED.found(
                printable(answer.name),
                f"The lookup of CAA records failed ({answer.status.value}).",
                Evidence("CAA lookup", answer.detail or answer.status.value),
                severity=Severity.WARNING if certain else None,
            )
            return
    relevant = facts.caa[-1] if facts.caa else None
    records = [r for r in relevant.records if isinstance(r, Caa)] if relevant is not None else []
    if relevant is None or not records:
        return
    leaves = dict.fromkeys(
        look.tls.chain_der[0]
        for look in facts.policy_looks
        if look.tls is not None and look.tls.chain_der
    )
    for leaf in leaves:
        names = [name.lower() for name in describe(leaf).dns_names]
        wildcard = host not in names
        if wildcard and relevant.name == host:
            # RFC 8659 §3: for `*.example.com` the search begins at `example.com`.
            continue
        issuer = issuer_organisation(leaf)
        domains = caa.domains_of(issuer)
        if domains and not caa.may_issue(records, domains, wildcard=wildcard):
            yield CAA_FORBIDS.found(
                printable(relevant.name),
                f"The certificate of {quote(host)} is from {quote(issuer)}, which the CAA records "
                f"at {quote(relevant.name)} do not allow.",
                *(Evidence("CAA record", _text(record)) for record in records),
                paste=f'{printable(relevant.name)}. IN CAA 0 issue "{domains[0]}"',
            )
