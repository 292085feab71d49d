# SPDX-License-Identifier: Apache-2.0
"""How much a result says: nobody's records can make it grow without end.

An answer of DNS may hold a thousand records, a record thousands of fields, a chain hundreds of
kilobytes of names. A person reads the first few faults of a kind, and a run over a list must not
be filled by one domain.

==========================  ===================================================================
what                        is held to
==========================  ===================================================================
findings of one kind        MAX_ALIKE, the worst first; `scope.MORE_ALIKE` counts the rest
evidence of a finding       MAX_EVIDENCE, then the number of the rest
the text of one             MAX_EVIDENCE_CHARACTERS around its caret
a sentence                  MAX_SENTENCE_CHARACTERS
what is to be pasted        MAX_PASTE_CHARACTERS or nothing: half a record is none
==========================  ===================================================================
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from strictmail.core.check.result import Evidence
from strictmail.core.check.rules.scope import MORE_ALIKE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from strictmail.core.check.result import Finding

MAX_ALIKE: Final = 32
"""Twice as many as MX hosts are visited: one finding for each host and two kinds of key."""

MAX_EVIDENCE: Final = 64

MAX_EVIDENCE_CHARACTERS: Final = 4096
"""Eight times what a TXT record has that is found anywhere."""

MAX_SENTENCE_CHARACTERS: Final = 2000

MAX_PASTE_CHARACTERS: Final = 16 * 1024
"""Room for the policy lines of hundreds of MX hosts."""

_CUT: Final = "..."


def bounded(domain: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Hold the findings on a domain to the bounds.

    Args:
        domain: It.
        findings: The worst of each kind first.

    Yields:
        Those that are kept, in their order, then what counts the others.
    """
    seen: Counter[tuple[str, str]] = Counter()
    for finding in findings:
        kind = (finding.id, finding.title)
        seen[kind] += 1
        if seen[kind] <= MAX_ALIKE:
            yield _bounded(finding)
    for (number, title), count in seen.items():
        if count > MAX_ALIKE:
            sentence = f"Beside those told, {count - MAX_ALIKE:,} of {number} ({title}) were found."
            yield MORE_ALIKE.found(domain, sentence)


def _bounded(finding: Finding) -> Finding:
    evidence = [_bounded_evidence(one) for one in finding.evidence[:MAX_EVIDENCE]]
    more = len(finding.evidence) - len(evidence)
    if more:
        evidence.append(Evidence(finding.evidence[-1].label, f"{more} more"))
    sentence = finding.sentence
    if len(sentence) > MAX_SENTENCE_CHARACTERS:
        sentence = f"{sentence[:MAX_SENTENCE_CHARACTERS]}{_CUT}"
    paste = finding.paste if len(finding.paste) <= MAX_PASTE_CHARACTERS else ""
    return replace(finding, sentence=sentence, evidence=tuple(evidence), paste=paste)


def _bounded_evidence(seen: Evidence) -> Evidence:
    """The text around its caret, or its beginning; what is cut off is marked."""
    if len(seen.text) <= MAX_EVIDENCE_CHARACTERS:
        return seen
    caret = seen.caret or 0
    start = max(0, caret - MAX_EVIDENCE_CHARACTERS // 2)
    start = min(start, len(seen.text) - MAX_EVIDENCE_CHARACTERS)
    end = start + MAX_EVIDENCE_CHARACTERS
    before = _CUT if start else ""
    after = _CUT if end < len(seen.text) else ""
    return replace(
        seen,
        text=f"{before}{seen.text[start:end]}{after}",
        caret=None if seen.caret is None else seen.caret - start + len(before),
    )
