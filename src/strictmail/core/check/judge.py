# SPDX-License-Identifier: Apache-2.0
"""Facts about a domain to the result of its check. Pure: the same facts, the same result.

Puts together what others decide: the rules of each area make findings, `verdict` says what each
kind of sender does. The status is the worst severity: critical before warning before unknown
before ok; a note (`info`) is ok.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from strictmail import __version__
from strictmail.core.check.bounds import bounded
from strictmail.core.check.catalogue import RULES
from strictmail.core.check.certificates import MAX_LINKS, describe
from strictmail.core.check.chains import judge_chain
from strictmail.core.check.receivers import recognise
from strictmail.core.check.result import (
    SCHEMA_VERSION,
    AddressResult,
    Certificate,
    Chain,
    CheckResult,
    HostResult,
    Severity,
    StsResult,
    TlsrptResult,
)
from strictmail.core.check.stakes import pair
from strictmail.core.check.verdict import headline, judge_senders
from strictmail.core.dnsvalues import Status
from strictmail.core.errors import RecordSyntaxError
from strictmail.core.sts.match import match_any
from strictmail.core.sts.record import select_record
from strictmail.core.sts.values import FetchedPolicy, FetchFailure
from strictmail.core.tagrecord import join_strings
from strictmail.core.tlsrpt.record import select_tlsrpt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from strictmail.core.check.facts import DomainFacts, HostFacts, ProbeFacts, TlsFacts
    from strictmail.core.check.result import Finding
    from strictmail.core.dnsvalues import Answer
    from strictmail.core.mxset import MxHost

SEVERITY_ORDER: Final = (
    Severity.CRITICAL,
    Severity.WARNING,
    Severity.UNKNOWN,
    Severity.INFO,
    Severity.OK,
)
"""The worst first. What is known to be wrong weighs more than what nobody could see."""


def judge(facts: DomainFacts) -> CheckResult:
    """Judge a domain.

    Args:
        facts: Everything that was looked at; what was not is unknown in the result.
    """
    found = worst_first(finding for rule in RULES for finding in rule(facts))
    findings = worst_first(bounded(facts.domain, found))
    senders, verdicts = judge_senders(facts)
    receiver = recognise([host.name for host in facts.mx.hosts])
    return CheckResult(
        schema=SCHEMA_VERSION,
        strictmail=__version__,
        domain=facts.domain,
        checked_at=facts.looked_at,
        seconds=round(facts.seconds, 3),
        status=worst(finding.severity for finding in findings),
        summary=headline(facts, senders),
        receiver=receiver.name if receiver is not None else "",
        mx_status=facts.mx.status.value,
        dnssec=_dnssec(facts),
        sts=_sts(facts),
        tlsrpt=_tlsrpt(facts.tlsrpt_record),
        hosts=tuple(_host(facts, mx_host, host) for mx_host, host in pair(facts)),
        senders=senders,
        verdicts=verdicts,
        findings=tuple(findings),
    )


def worst(severities: Iterable[Severity]) -> Severity:
    """The worst of them as a status; OK for none, and for notes."""
    found = min(severities, key=SEVERITY_ORDER.index, default=Severity.OK)
    return Severity.OK if found is Severity.INFO else found


def _dnssec(facts: DomainFacts) -> str:
    status = facts.mx_answer.status
    if status is Status.BOGUS:
        return "bogus"
    if not facts.validates or not status.is_answer:
        return "indeterminate"
    return "secure" if facts.mx_answer.secure else "insecure"


def _texts(answer: Answer) -> tuple[str, ...]:
    return tuple(
        join_strings(record).decode("latin-1")
        for record in answer.records
        if isinstance(record, tuple)
    )


def _sts(facts: DomainFacts) -> StsResult:
    policy_id, failure, result_type = "", "", ""
    try:
        rrset = [record for record in facts.sts_record.records if isinstance(record, tuple)]
        policy_id = select_record(rrset).policy_id
    except RecordSyntaxError as error:
        failure = str(error)
    if not facts.sts_record.status.is_answer:
        failure = f"the TXT lookup failed: {facts.sts_record.detail}"
    fetched = facts.policy if isinstance(facts.policy, FetchedPolicy) else None
    lines = fetched.policy.policy_strings if fetched else ()
    if isinstance(facts.policy, FetchFailure):
        failure, result_type = facts.policy.reason, str(facts.policy.result_type)
        lines = facts.policy.lines
    return StsResult(
        record=_texts(facts.sts_record),
        policy_id=policy_id,
        mode=str(fetched.policy.mode) if fetched else "",
        max_age=fetched.policy.max_age if fetched else None,
        mx_patterns=fetched.policy.mx_patterns if fetched else (),
        policy_lines=lines,
        failure=failure,
        result_type=result_type,
    )


def _tlsrpt(answer: Answer) -> TlsrptResult:
    try:
        rrset = [record for record in answer.records if isinstance(record, tuple)]
        rua = tuple(uri.text for uri in select_tlsrpt(rrset).rua)
    except RecordSyntaxError:
        rua = ()
    return TlsrptResult(record=_texts(answer), rua=rua)


def _host(facts: DomainFacts, mx_host: MxHost, host: HostFacts) -> HostResult:
    fetched = facts.policy if isinstance(facts.policy, FetchedPolicy) else None
    grouped: dict[str, list[ProbeFacts]] = {}
    for probe in host.probes:
        grouped.setdefault(probe.target.address, []).append(probe)
    return HostResult(
        name=host.name,
        preference=host.preference,
        on_policy=match_any(host.name, fetched.policy.mx_patterns) if fetched else None,
        tlsa_state=mx_host.tlsa_state.value,
        tlsa_base_domain=mx_host.tlsa_base_domain,
        tlsa=tuple(map(str, mx_host.tlsa)),
        addresses=tuple(
            _address(facts, mx_host, address, probes) for address, probes in grouped.items()
        ),
    )


def _address(
    facts: DomainFacts, mx_host: MxHost, address: str, probes: list[ProbeFacts]
) -> AddressResult:
    # The first session is the one that a sender would have; the others complete the picture.
    first = probes[0]
    return AddressResult(
        address=address,
        outcome=str(first.outcome),
        unknown=str(first.unknown.reason) if first.unknown is not None else "",
        detail=first.detail or (first.unknown.detail if first.unknown is not None else ""),
        helo=first.helo,
        chains=tuple(
            _chain(facts, mx_host, probe.tls) for probe in probes if probe.tls is not None
        ),
        seconds=round(first.seconds, 3),
    )


def _chain(facts: DomainFacts, mx_host: MxHost, tls: TlsFacts) -> Chain:
    dane = judge_chain(facts, mx_host, tls)
    return Chain(
        key_type=str(tls.key_type),
        server_name=tls.server_name,
        tls_version=tls.version,
        cipher=tls.cipher,
        pkix_problems=tuple(map(str, tls.pkix.problems)),
        detail=tls.pkix.detail,
        dane=dane.outcome.value if dane is not None else "",
        certificates=_certificates(tls.chain_der),
    )


def _certificates(chain_der: Sequence[bytes]) -> tuple[Certificate, ...]:
    """What was presented; nobody looks at names above the leaf, and a chain may be full of them."""
    found = [describe(der) for der in chain_der[:MAX_LINKS]]
    return (*found[:1], *(replace(issuer, dns_names=()) for issuer in found[1:]))


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in the order in which a result has them."""
    return sorted(
        findings,
        key=lambda finding: (SEVERITY_ORDER.index(finding.severity), finding.id, finding.subject),
    )
