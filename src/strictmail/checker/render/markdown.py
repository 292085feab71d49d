# SPDX-License-Identifier: Apache-2.0
"""A result as Markdown (CommonMark with tables), for pasting into a ticket.

Text of a result is never markup here: signs that mean something are escaped, names and octets
stand in code spans and fenced blocks that nothing in them can close. Links, images, HTML and
mentions do not come about.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from strictmail.checker.render.picture import (
    FAULTS,
    Group,
    Row,
    arrange_findings,
    arrange_senders,
    arrange_verdicts,
    hosts_by_rank,
)
from strictmail.checker.render.plain import visible, visible_at, visible_lines
from strictmail.checker.render.wording import (
    PREDICTIONS,
    SENDERS,
    cited,
    instant,
    is_likely,
    prediction_word,
    published,
    tally,
)
from strictmail.core.check.result import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.core.check.result import CheckResult, Finding, Verdict

MAX_MEMBERS: Final = 8
"""Of findings that say the same of many hosts, so many are told one by one."""

_CODE_SPAN: Final = re.compile(r"`([^`]*)`")
_MARKUP: Final = re.compile(r"[\\`*_\[\]<>|~&#@!$]")
_LINK: Final = re.compile(r"://|www\.", re.IGNORECASE)


def markdown(results: Sequence[CheckResult], *, details: bool = False) -> str:
    """Render results as one document.

    Args:
        results: A part for each, in this order.
        details: Also every finding of a group by itself, and notes with evidence and remedy.
    """
    return "\n".join(line for result in results for line in _result(result, details=details))


def plain(text: str) -> str:
    """Text of any origin as Markdown that shows that text and nothing else.

    For the middle of a line: what makes a list or a heading at its start is not escaped.
    """
    shown = _LINK.sub(lambda found: found.group()[0] + "\0" + found.group()[1:], visible(text))
    shown = _MARKUP.sub(r"\\\g<0>", shown)
    # A blank of no width parts what would become a link by itself.
    return shown.replace("\0", "&#8203;")


def prose(text: str) -> str:
    """A sentence of ours: what stands in back-quotes stays code, the rest is plain."""
    parts = _CODE_SPAN.split(text)
    return "".join(
        code(part) if number % 2 else plain(part) for number, part in enumerate(parts) if part
    )


def code(text: str) -> str:
    """A code span; inside a table too."""
    shown = visible(text)
    if "|" in shown or not shown.strip():
        # A vertical bar ends a cell, code or not; an empty span is none.
        return plain(shown).replace("\\|", "&#124;")
    fence = "`" * (_longest_run(shown) + 1)
    pad = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def fenced(lines: Sequence[str], indent: str = "") -> Iterator[str]:
    """Visible lines as a block of code."""
    fence = "`" * max(3, 1 + max((_longest_run(line) for line in lines), default=0))
    yield f"{indent}{fence}text"
    for line in lines:
        yield f"{indent}{line}".rstrip()
    yield f"{indent}{fence}"


def _cell(text: str) -> str:
    return text.replace("\\|", "&#124;")


# ---- the document -------------------------------------------------------------------------------


def _result(result: CheckResult, *, details: bool) -> Iterator[str]:
    yield f"# {code(result.domain)}: {result.status.value.upper()}"
    yield ""
    yield f"**{prose(result.summary)}**"
    yield ""
    yield (
        f"Checked {instant(result.checked_at)} in {result.seconds:.1f} s with strictmail "
        f"{plain(result.strictmail)}."
    )
    yield ""
    yield from _senders(result)
    yield from _hosts(result)
    yield from ["## What the domain has", ""]
    for name, words in published(result):
        yield f"- **{name}:** {prose(words)}"
    yield ""
    for title, severities in (
        ("Findings", FAULTS),
        ("Not known", (Severity.UNKNOWN,)),
        ("Notes", (Severity.INFO,) if details else ()),
    ):
        groups = arrange_findings(result, *severities, apart=details)
        if groups:
            members = [member.severity for group in groups for member in group.members]
            number = tally(members) if severities == FAULTS else str(len(members))
            yield from [f"## {title} ({number})", ""]
        for group in groups:
            yield from _finding(group)
    if not details:
        yield from _listed("Notes", arrange_findings(result, Severity.INFO))
    yield from _listed("Good", arrange_findings(result, Severity.OK, apart=details))


def _senders(result: CheckResult) -> Iterator[str]:
    if not result.senders:
        return
    fates = arrange_senders(result)
    yield from ["## What happens to mail", ""]
    if fates.host:
        yield from [f"At {code(fates.host)}:", ""]
    yield from ["| Sender knows | Mail | Why |", "|---|---|---|"]
    for fate in fates.rows:
        said = fate.verdict
        words, name = PREDICTIONS[said.prediction], SENDERS[said.sender]
        outcome = prediction_word(said.prediction, said.by)
        doubt = ", likely" if is_likely(said) else ""
        why = prose(fate.reason) if fate.alike is None else f"as {SENDERS[fate.alike].long}"
        yield f"| {name.long} | {words.sign} {outcome}{doubt} | {_cell(why)} |"
    yield ""


def _hosts(result: CheckResult) -> Iterator[str]:
    table = arrange_verdicts(result)
    if not table.rows:
        return
    heads = " | ".join(SENDERS[sender].short for sender in table.senders)
    yield from ["## Host by host", "", f"| Host | Addresses | {heads} |"]
    yield "|---" * (len(table.senders) + 2) + "|"
    for row in table.rows:
        cells = " | ".join(map(_outcome, row.cells))
        yield f"| {_hosts_cell(row)} | {_addresses_cell(row)} | {cells} |"
    yield ""


def _outcome(said: Verdict | None) -> str:
    if said is None:
        return "-"
    words = PREDICTIONS[said.prediction]
    return f"{words.sign} {words.word}"


def _hosts_cell(row: Row) -> str:
    return _cell("; ".join(prose(line) for line in hosts_by_rank(row)))


def _addresses_cell(row: Row) -> str:
    if len(row.hosts) > 1:
        return str(len(row.addresses))
    return _cell(", ".join(map(code, row.addresses))) or "none"


def _finding(group: Group) -> Iterator[str]:
    finding = group.first
    yield f"### {finding.severity.value.upper()} {plain(finding.id)}: {prose(finding.title)}"
    yield ""
    for member in group.members[:MAX_MEMBERS]:
        yield f"- {code(member.subject)}: {prose(member.sentence)}"
    if rest := group.members[MAX_MEMBERS:]:
        yield f"- and {len(rest)} more: {', '.join(code(member.subject) for member in rest)}"
    yield ""
    if group.first.evidence:
        yield from fenced(list(_evidence(group.first)))
        yield ""
    if reference := cited(finding.source, finding.requirement):
        yield from [f"*{plain(reference)}*", ""]
    if finding.fix:
        yield from [f"**Fix:** {prose(finding.fix)}", ""]
    if finding.paste:
        yield from ["**Put in place:**", ""]
        yield from fenced(visible_lines(finding.paste))
        yield ""


def _evidence(finding: Finding) -> Iterator[str]:
    for piece in finding.evidence:
        label = f"{visible(piece.label)}: "
        shown, place = visible_at(piece.text, piece.caret)
        yield label + shown
        if place is not None:
            yield " " * (len(label) + place) + "^"


def _listed(title: str, groups: tuple[Group, ...]) -> Iterator[str]:
    """Findings that need no action, a line each."""
    if not groups:
        return
    yield from [f"## {title}", ""]
    for group in groups:
        alone = len(group.members) == 1
        said = prose(group.first.sentence) if alone else ", ".join(map(code, group.subjects))
        yield f"- {plain(group.first.id)} {prose(group.first.title)}: {said}"
    yield ""
