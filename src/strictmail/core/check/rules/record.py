# SPDX-License-Identifier: Apache-2.0
"""The `_mta-sts` TXT record: whether senders find it, and where it breaks its grammar.

Knows the record alone; whether there is a policy behind it, `policyhost` and `policy` judge. What
counts is decided by `strictmail.core.sts.record`; here is said what was seen and what to publish.

Severity: a record that is there and cannot be used is critical, since mail travels without the
protection that the owner asked for. No record at all is a warning, or a note where DANE protects
every MX host.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from strictmail.core.check.grounds import (
    is_dane_complete,
    record_texts,
    say,
    show,
    sts_line,
    takes_mail,
)
from strictmail.core.check.result import Evidence, Severity
from strictmail.core.check.rules import recordkinds as kinds
from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.errors import RecordSyntaxError
from strictmail.core.explain import printable
from strictmail.core.mxset import MxStatus
from strictmail.core.sts.lifecycle import is_expired
from strictmail.core.sts.record import VERSION, record_name, select_record
from strictmail.core.sts.values import Mode
from strictmail.core.tagrecord import parse_fields, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.check.kinds import Kind
    from strictmail.core.check.result import Finding
    from strictmail.core.sts.values import StsRecord

MAX_ATTEMPT_OFFSET: Final = 40
"""Octets in which the version of a failed attempt has to begin: further inside a text it is a
quotation."""

KINDS: Final = kinds.KINDS

_CANDIDATE: Final = re.compile(rf"{VERSION}[ \t]*;")

_ATTEMPT: Final = re.compile(r"v[ \t]*=[ \t]*(?:mta[-_]?)?sts", re.IGNORECASE)
_DRAFT: Final = re.compile(r"v[ \t]*=[ \t]*sts1", re.IGNORECASE)
_JUNK: Final = " \t\"'\xef\xbb\xbf\xa0"
"""What editors and web forms put before a record: blanks, quote marks, a byte order mark."""

_REPORTING: Final = b"v=TLSRPTv1"


def judge(facts: DomainFacts) -> Iterator[Finding]:
    """What the TXT records at `_mta-sts` are like."""
    answer = facts.sts_record
    name = record_name(facts.domain)
    if not answer.status.is_answer:
        detail = say(answer.detail or answer.status.value)
        kind = kinds.BOGUS if answer.status is Status.BOGUS else kinds.LOOKUP_FAILED
        yield kind.found(
            name, f"The TXT lookup at {name} failed: {detail}.", Evidence("TXT lookup", detail)
        )
        return
    if answer.is_alias:
        yield kinds.ALIAS.found(
            name,
            f"{name} is an alias of {quote(answer.canonical_name)}.",
            Evidence("CNAME target", answer.canonical_name),
        )
    yield from _misplaced(facts)
    texts = record_texts(answer)
    try:
        record = select_record([[text] for text in texts])
    except RecordSyntaxError as error:
        yield from _unusable(facts, texts, error)
        return
    yield from _usable(facts, texts, record)


def _unusable(
    facts: DomainFacts, texts: Sequence[bytes], error: RecordSyntaxError
) -> Iterator[Finding]:
    name = record_name(facts.domain)
    match error.reason_code:
        case "several":
            candidates = [show(text) for text in texts if show(text).startswith(VERSION)]
            yield kinds.SEVERAL.found(
                name,
                f"{len(candidates)} records start with `{VERSION}`; exactly one may.",
                *(Evidence("TXT record", text, 0) for text in candidates),
                paste=sts_line(facts),
            )
        case "absent":
            yield from _absent(facts, texts)
        case _:
            # The error has the text cut short; the record in full is among those of the answer.
            text = next((show(t) for t in texts if show(t).startswith(error.text)), error.text)
            yield kinds.SYNTAX.found(
                name,
                f"The record is malformed: {say(str(error))}.",
                Evidence("TXT record", text, error.position),
                paste=sts_line(facts),
            )


def _absent(facts: DomainFacts, texts: Sequence[bytes]) -> Iterator[Finding]:
    name = record_name(facts.domain)
    attempts = [found for text in texts if (found := find_attempt(show(text))) is not None]
    for kind, sentence, evidence in attempts:
        yield kind.found(name, sentence, evidence, paste=sts_line(facts))
    if attempts:
        return
    yield from _still_cached(facts)
    if facts.mx.status is MxStatus.ERROR or not takes_mail(facts):
        # Where no mail goes, there is nothing to protect (RFC 7505 §3).
        return
    dane = is_dane_complete(facts)
    sentence = "No MTA-STS record"
    if dane:
        sentence += "; DANE protects every MX host, towards senders that know it."
    elif dane is None:
        sentence += "; whether DANE protects the MX hosts is not known."
    else:
        sentence += ", and no DANE for every MX host: mail travels unverified."
    yield kinds.ABSENT.found(
        name,
        sentence,
        *(Evidence("TXT record", show(text)) for text in texts),
        severity=None if dane is False else Severity.INFO,
        paste=sts_line(facts),
    )


def find_attempt(text: str) -> tuple[Kind, str, Evidence] | None:
    """What an owner probably meant by a record that does not count, and where it goes wrong.

    Args:
        text: Of the record, an octet a character.

    Returns:
        Kind, sentence and evidence with a caret; None for a record that is about something else.
    """
    found = _ATTEMPT.search(text)
    if found is None or found.start() > MAX_ATTEMPT_OFFSET:
        return None
    start = found.start()
    shown = quote(text)
    if text[:start].strip(_JUNK):
        sentence = f"In {shown} the version does not come first."
        return kinds.ATTEMPT, sentence, Evidence("TXT record", text, start)
    if _DRAFT.match(text, start):
        sentence = f"{shown} is of the drafts of 2016, which nobody reads any more."
        return kinds.DRAFT, sentence, Evidence("TXT record", text, start)
    if start:
        sentence = f"{shown} starts with white space, a quote mark or a byte order mark."
        return kinds.ATTEMPT, sentence, Evidence("TXT record", text, 0)
    wrong = next((i for i, c in enumerate(VERSION) if text[i : i + 1] != c), len(VERSION))
    sentence = (
        f"{shown}: behind `{VERSION}` comes `;`."
        if wrong == len(VERSION)
        else f"{shown}: the version is written `{VERSION};`, in exactly these letters."
    )
    return kinds.ATTEMPT, sentence, Evidence("TXT record", text, wrong)


def _still_cached(facts: DomainFacts) -> Iterator[Finding]:
    cached = facts.cached
    if (
        cached is None
        or is_expired(cached, facts.looked_at)
        or cached.policy.mode is not Mode.ENFORCE
    ):
        return
    # RFC 8461 §3.1, §5.1: a missing record ends nothing (STS-REC-07).
    yield kinds.STILL_CACHED.found(
        facts.domain,
        f"The record is gone, but senders may hold the last policy in mode enforce until "
        f"{cached.expires_at:%Y-%m-%d %H:%M}Z.",
        Evidence("cached policy id", cached.policy_id),
        Evidence("expires", f"{cached.expires_at:%Y-%m-%dT%H:%M:%SZ}"),
        paste=f"version: STSv1\nmode: none\nmax_age: {kinds.LONG_TTL_SECONDS}",
    )


def _misplaced(facts: DomainFacts) -> Iterator[Finding]:
    """Records of MTA-STS and TLSRPT at each other's names, or at `mta-sts.`."""
    name = record_name(facts.domain)
    for text in record_texts(facts.sts_record):
        if text.startswith(_REPORTING):
            where = f"_smtp._tls.{facts.domain}"
            yield _at_wrong_name(name, where, show(text))
    elsewhere = [facts.tlsrpt_record] + [
        seen.answer
        for seen in facts.authorities
        if seen.rdtype is RecordType.TXT and seen.name != name
    ]
    said = set()
    for answer in elsewhere:
        for text in record_texts(answer):
            if text.startswith(VERSION.encode()) and (answer.name, text) not in said:
                said.add((answer.name, text))
                yield _at_wrong_name(answer.name, name, show(text))


def _at_wrong_name(found_at: str, belongs_at: str, text: str) -> Finding:
    content = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return kinds.MISPLACED.found(
        printable(found_at),
        f"The record {quote(text)} stands at {printable(found_at)}; senders look at {belongs_at}.",
        Evidence(f"TXT record at {printable(found_at)}", text, 0),
        paste=f'{belongs_at}. IN TXT "{content}"',
    )


def _usable(facts: DomainFacts, texts: Sequence[bytes], record: StsRecord) -> Iterator[Finding]:
    name = record_name(facts.domain)
    chosen, others = _split(texts)
    evidence = Evidence("TXT record", chosen)
    if record.warnings:
        yield kinds.SPACED.found(
            name,
            f"White space stands between `{VERSION}` and the first `;`.",
            Evidence("TXT record", chosen, len(VERSION)),
            paste=f'{name}. IN TXT "{VERSION}; id={record.policy_id};"',
        )
    if others:
        yield kinds.FOREIGN.found(
            name,
            f"{len(others)} other TXT record{'s stand' if len(others) > 1 else ' stands'} at {name}.",
            *(Evidence("TXT record", text) for text in others),
        )
    seen: Counter[str] = Counter()
    for field in parse_fields(chosen, VERSION):
        seen[field.name] += 1
        if seen[field.name] == 2:  # noqa: PLR2004 - once, however often
            yield kinds.REPEATED.found(
                name,
                f"The field {quote(field.name)} is repeated; the first counts.",
                Evidence("TXT record", chosen, field.position),
                paste=f'{name}. IN TXT "{VERSION}; id={record.policy_id};"',
            )
    if facts.sts_record.ttl > kinds.LONG_TTL_SECONDS:
        yield kinds.LONG_TTL.found(
            name,
            f"The TTL is {facts.sts_record.ttl} seconds or more.",
            evidence,
            paste=f'{name}. 3600 IN TXT "{VERSION}; id={record.policy_id};"',
        )
    yield kinds.GOOD.found(name, f"One usable record, with the id {record.policy_id}.", evidence)


def _split(texts: Sequence[bytes]) -> tuple[str, list[str]]:
    """The record that counts, and the others; there is one, since one was selected."""
    others = [show(text) for text in texts]
    candidates = [text for text in others if _CANDIDATE.match(text)]
    chosen = min(candidates, key=lambda text: not text.startswith(f"{VERSION};"))
    others.remove(chosen)
    return chosen, others
