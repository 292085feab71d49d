# SPDX-License-Identifier: Apache-2.0
"""Questions about the facts that the rules of several areas ask, and the forms of what is pasted.

An answer of None is "nobody knows": a rule that gets one finds nothing, or says unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.errors import RecordSyntaxError
from strictmail.core.explain import printable
from strictmail.core.mxset import MxStatus, TlsaState
from strictmail.core.sts.record import record_name, select_record
from strictmail.core.tagrecord import join_strings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.dnsvalues import Answer
    from strictmail.core.sts.values import StsRecord

MAX_REASON_CHARACTERS: Final = 400
"""Of a reason within a sentence."""

_TAKES_MAIL: Final = frozenset({MxStatus.FOUND, MxStatus.IMPLICIT})

_DANE_UNKNOWN: Final = frozenset({TlsaState.ERROR, TlsaState.NO_ADDRESS})


def takes_mail(facts: DomainFacts) -> bool:
    """Whether the domain names hosts for its mail."""
    return facts.mx.status in _TAKES_MAIL


def is_dane_complete(facts: DomainFacts) -> bool | None:
    """Whether every MX host is held to DANE by a sender that knows it.

    Returns:
        None: nobody knows, because the resolver does not validate or a lookup failed.
    """
    if facts.mx.status is MxStatus.ERROR:
        return None
    states = {host.tlsa_state for host in facts.mx.hosts}
    if not facts.validates or (facts.mx.secure and states & _DANE_UNKNOWN):
        return None
    return facts.mx.secure and states == {TlsaState.USABLE}


def record_texts(answer: Answer) -> list[bytes]:
    """The TXT records of an answer, the strings of each joined."""
    return [join_strings(record) for record in answer.records if isinstance(record, tuple)]


def usable_record(facts: DomainFacts) -> StsRecord | None:
    """The `_mta-sts` record, if senders can use it."""
    rrset = [record for record in facts.sts_record.records if isinstance(record, tuple)]
    try:
        return select_record(rrset)
    except RecordSyntaxError:
        return None


def say(text: str) -> str:
    """A reason that somebody else worded, for the end of a sentence of ours."""
    return printable(text, MAX_REASON_CHARACTERS).rstrip(". ") or "no reason given"


def show(octets: bytes) -> str:
    """Octets as text, a character each, so that an offset is the same in both."""
    return octets.decode("latin-1")


def address_texts(answers: Iterable[Answer]) -> list[str]:
    """The addresses in answers for A and AAAA, in their order."""
    return [
        record
        for answer in answers
        if answer.status is Status.OK and answer.rdtype in (RecordType.A, RecordType.AAAA)
        for record in answer.records
        if isinstance(record, str)
    ]


def fresh_id(facts: DomainFacts) -> str:
    """An id that has not been used: the time of the look."""
    return f"{facts.looked_at:%Y%m%d%H%M%S}"


def sts_line(facts: DomainFacts) -> str:
    """The `_mta-sts` record with a fresh id, as a line of a zone file."""
    return f'{record_name(facts.domain)}. IN TXT "v=STSv1; id={fresh_id(facts)};"'


def mx_line(domain: str, preference: int, host: str) -> str:
    """An MX record as a line of a zone file."""
    return f"{domain}. IN MX {preference} {host}."
