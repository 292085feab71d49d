# SPDX-License-Identifier: Apache-2.0
"""The `_smtp._tls` record: whether reports would come, and where they would go.

TLSRPT protects nothing by itself: what is wrong here costs the owner the news of failures, never
mail. So nothing is critical, and a missing record is a note.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.core.check.facts import RuaState
from strictmail.core.check.grounds import record_texts, show
from strictmail.core.check.kinds import Kind
from strictmail.core.check.result import Evidence, Severity
from strictmail.core.dnsvalues import Status
from strictmail.core.errors import RecordSyntaxError
from strictmail.core.explain import printable
from strictmail.core.tagrecord import quote
from strictmail.core.tlsrpt.record import is_near_miss, select_tlsrpt, tlsrpt_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.core.check.facts import DomainFacts, RuaFacts
    from strictmail.core.check.result import Finding
    from strictmail.core.dnsvalues import Answer
    from strictmail.core.tlsrpt.record import TlsrptRecord

MAX_URIS: Final = 20
"""Unusable URIs of a record that each get a finding."""

ABSENT: Final = Kind(
    "RPT001",
    Severity.INFO,
    "No TLSRPT record",
    "RFC 8460 §3",
    "Senders see which of their sessions fail, and have nobody to tell. Reports come daily from "
    "the large ones, and are the first sign of an expired certificate or an attack.",
    "RPT-REC-01",
    "Publish the record below, with an address that somebody or some program reads.",
)
NEAR_MISS: Final = Kind(
    "RPT002",
    Severity.WARNING,
    "TLSRPT record not recognised",
    "RFC 8460 §3",
    "A record is there, and does not begin as it has to: senders ignore it, and no reports come.",
    "RPT-REC-06",
    "Let the record begin with `v=TLSRPTv1;`, in exactly these letters.",
)
SEVERAL: Final = Kind(
    "RPT003",
    Severity.WARNING,
    "Several TLSRPT records",
    "RFC 8460 §3",
    "With more than one record, none counts: no reports come.",
    "RPT-REC-05",
    "Keep one record; several destinations stand in one `rua`, with commas between them.",
)
SYNTAX: Final = Kind(
    "RPT004",
    Severity.WARNING,
    "TLSRPT record broken",
    "RFC 8460 §3",
    "The record does not keep to the grammar: senders cannot rely on any of it, and no reports "
    "come.",
    "RPT-REC-08",
    "Correct the record at the place that is marked.",
)
NO_DESTINATION: Final = Kind(
    "RPT005",
    Severity.WARNING,
    "TLSRPT record without usable destination",
    "RFC 8460 §3",
    "The record is well-formed, and none of its URIs can be used: no reports come.",
    "RPT-REC-12",
    "Name a mailbox (`mailto:`) or an HTTPS endpoint (`https:`).",
)
BAD_URI: Final = Kind(
    "RPT006",
    Severity.WARNING,
    "Unusable report destination",
    "RFC 8460 §3",
    "Senders pass this URI over, or send reports somewhere else than was meant.",
    "RPT-REC-14",
    "Correct or remove the URI.",
)
TOLERATED: Final = Kind(
    "RPT007",
    Severity.WARNING,
    "TLSRPT record that not everybody reads alike",
    "RFC 8460 §3",
    "The record works with some senders and not with others.",
    "RPT-REC-22",
    "Write it the plain way: the version, one `rua`, nothing else.",
)
AT_MX_HOST: Final = Kind(
    "RPT008",
    Severity.INFO,
    "TLSRPT record at an MX host",
    "RFC 8460 §3",
    "Reports are asked for by the domain that mail is for. Some senders look at the MX host too, "
    "for sessions under DANE; most do not.",
    "RPT-REC-02",
)
DEAD: Final = Kind(
    "RPT009",
    Severity.WARNING,
    "Report destination does not take reports",
    "RFC 8460 §3",
    "Reports that are sent there are lost.",
    "RPT-REC-25",
    "Repair the destination, or name another one.",
)
DESTINATION_UNKNOWN: Final = Kind(
    "RPT010",
    Severity.UNKNOWN,
    "Report destination not seen",
    "RFC 8460 §3",
    "Whether reports arrive there, nobody could tell.",
)
LOOKUP_FAILED: Final = Kind(
    "RPT011",
    Severity.UNKNOWN,
    "TLSRPT lookup failed",
    "RFC 8460 §3",
    "Nobody could see whether a record is there. A sender with the same trouble sends no report.",
    "RPT-REC-26",
    "Ask again later; if it stays, look at the name servers of the domain.",
)

KINDS: Final = (
    ABSENT,
    NEAR_MISS,
    SEVERAL,
    SYNTAX,
    NO_DESTINATION,
    BAD_URI,
    TOLERATED,
    AT_MX_HOST,
    DEAD,
    DESTINATION_UNKNOWN,
    LOOKUP_FAILED,
)

_RUA_KINDS: Final = {RuaState.DEAD: DEAD, RuaState.UNKNOWN: DESTINATION_UNKNOWN}


def judge(facts: DomainFacts) -> Iterator[Finding]:
    """Whether reports would come."""
    yield from _record(facts)
    for host in facts.hosts:
        if host.tlsrpt is not None and _has_record(host.tlsrpt):
            yield AT_MX_HOST.found(
                tlsrpt_name(printable(host.name)),
                f"{quote(host.name)} has a TLSRPT record of its own.",
                *_evidence(host.tlsrpt),
            )
    for rua in facts.rua:
        yield from _destination(rua)


def _record(facts: DomainFacts) -> Iterator[Finding]:
    name = tlsrpt_name(facts.domain)
    answer = facts.tlsrpt_record
    if not answer.status.is_answer:
        # A signature that does not validate is seen by every resolver that checks.
        certain = answer.status is Status.BOGUS
        detail = printable(answer.detail) or answer.status.value
        yield LOOKUP_FAILED.found(
            name,
            f"The lookup of the TLSRPT record failed: {detail.rstrip('.')}.",
            Evidence("TXT lookup", detail),
            severity=Severity.WARNING if certain else None,
        )
        return
    try:
        record = select_tlsrpt([r for r in answer.records if isinstance(r, tuple)])
    except RecordSyntaxError as error:
        yield _fault(facts, name, error)
        return
    yield from _judge_record(name, record, _wanted(facts))


def _fault(facts: DomainFacts, name: str, error: RecordSyntaxError) -> Finding:
    answer = facts.tlsrpt_record
    said = f"{str(error)[:1].upper()}{str(error)[1:]}."
    if error.reason_code == "several":
        return SEVERAL.found(name, said, *_evidence(answer))
    if error.reason_code == "syntax":
        begins = error.text.encode("latin-1")
        text = next((t for t in record_texts(answer) if t.startswith(begins)), begins)
        evidence = Evidence("TXT record", show(text), error.position)
        return SYNTAX.found(name, said, evidence, paste=_wanted(facts))
    kind = NEAR_MISS if any(map(is_near_miss, record_texts(answer))) else ABSENT
    return kind.found(name, said, *_evidence(answer), paste=_wanted(facts))


def _judge_record(name: str, record: TlsrptRecord, wanted: str) -> Iterator[Finding]:
    for uri in record.unusable[:MAX_URIS]:
        yield BAD_URI.found(
            name,
            f"No report goes to {quote(uri.text)}: {uri.reason}.",
            Evidence("TXT record", record.text, uri.position),
        )
    if not record.rua:
        yield NO_DESTINATION.found(
            name,
            "None of the destinations is usable.",
            Evidence("TXT record", record.text),
            paste=wanted,
        )
    for warning in record.warnings:
        yield TOLERATED.found(
            name,
            f"{warning[:1].upper()}{warning[1:]}.",
            Evidence("TXT record", record.text),
        )


def _destination(rua: RuaFacts) -> Iterator[Finding]:
    kind = _RUA_KINDS.get(rua.state)
    if kind is None:
        return
    words = "does not take reports" if kind is DEAD else "could not be looked at"
    detail = f": {printable(rua.detail).rstrip('.')}" if rua.detail else ""
    yield kind.found(
        printable(rua.uri), f"{quote(rua.uri)} {words}{detail}.", Evidence("rua", rua.uri)
    )


def _wanted(facts: DomainFacts) -> str:
    """A record that asks for reports, as a line of a zone file."""
    name, domain = tlsrpt_name(facts.domain), facts.domain
    return f'{name}. IN TXT "v=TLSRPTv1; rua=mailto:tls-reports@{domain}"'


def _has_record(answer: Answer) -> bool:
    try:
        select_tlsrpt([r for r in answer.records if isinstance(r, tuple)])
    except RecordSyntaxError as error:
        return error.reason_code != "absent"
    return True


def _evidence(answer: Answer) -> list[Evidence]:
    return [Evidence("TXT record", show(text)) for text in record_texts(answer)]
