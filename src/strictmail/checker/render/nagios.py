# SPDX-License-Identifier: Apache-2.0
"""Results for Nagios and its kin: one line with performance data, then the findings.

Plug-in output is split at `|` and at line ends, whoever wrote them: neither gets through from
foreign text. All of it is ASCII, since old installations have no other encoding.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from strictmail.checker.render.exits import CODES
from strictmail.checker.render.picture import arrange_findings
from strictmail.checker.render.plain import visible
from strictmail.checker.render.wording import count, soonest, worst_results_first
from strictmail.core.check.result import Severity
from strictmail.core.check.rules.certificates import SOON_DAYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.core.check.result import CheckResult

MAX_LONG_LINES: Final = 60
"""Lines below the first: Nagios keeps 8 KiB of output, some of its kin 4 KiB."""

MAX_LINE: Final = 250
"""Characters of a long line."""

MAX_HEADLINE: Final = 400
"""Characters of the first line before the performance data."""

_NOT_IN_LABEL: Final = re.compile("['=]")
_TOLD: Final = (Severity.CRITICAL, Severity.WARNING, Severity.UNKNOWN)


def nagios(results: Sequence[CheckResult]) -> tuple[str, int]:
    """Render results as the output of one plug-in.

    Args:
        results: The worst comes first and gives the status.

    Returns:
        The output, ending with a line feed, and the exit code: 0, 1, 2 or 3. No results at all
        are UNKNOWN.
    """
    listed = worst_results_first(results)
    status = listed[0].status if listed else Severity.UNKNOWN
    perfdata = " ".join(item for result in listed for item in _perfdata(result, len(listed)))
    first = _plain(f"STRICTMAIL {_word(status)} - {_headline(listed)}", MAX_HEADLINE)
    lines = [f"{first}|{perfdata}" if perfdata else first]
    long = [line for result in listed for line in _long(result, several=len(listed) > 1)]
    lines += long[:MAX_LONG_LINES]
    if len(long) > MAX_LONG_LINES:
        lines.append(f"and {len(long) - MAX_LONG_LINES} more")
    return "\n".join(lines) + "\n", CODES[status]


def _word(status: Severity) -> str:
    return {Severity.INFO: Severity.OK}.get(status, status).value.upper()


def _plain(text: str, limit: int) -> str:
    shown = visible(text, ascii_only=True).replace("|", "\\x7c")
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


def _headline(results: Sequence[CheckResult]) -> str:
    if not results:
        return "no domain was checked"
    worst = results[0]
    # Most summaries name the domain: a first line is short.
    said = worst.summary if worst.domain in worst.summary else f"{worst.domain}: {worst.summary}"
    if len(results) == 1:
        return said
    statuses = [result.status for result in results]
    counts = ", ".join(
        f"{statuses.count(status)} {status.value}"
        for status in (*_TOLD, Severity.OK)
        if status in statuses
    )
    return f"{count(len(results), 'domain')}: {counts}; {said}"


def _perfdata(result: CheckResult, many: int) -> Iterator[str]:
    # A label in quotation marks may have blanks, but no quotation mark and no equals sign.
    prefix = f"{_NOT_IN_LABEL.sub('_', _plain(result.domain, MAX_LINE))} " if many > 1 else ""
    yield f"'{prefix}seconds'={result.seconds:.3f}s;;;0"
    if (found := soonest(result)) is not None:
        yield f"'{prefix}days_left'={found[2]};{SOON_DAYS}:;0:"
    severities = [finding.severity for finding in result.findings]
    for severity in _TOLD:
        yield f"'{prefix}{severity.value}'={severities.count(severity)};;;0"


def _long(result: CheckResult, *, several: bool) -> Iterator[str]:
    if several:
        yield _plain(f"{_word(result.status)} {result.domain}: {result.summary}", MAX_LINE)
    for group in arrange_findings(result, *_TOLD):
        finding = group.first
        subjects = ", ".join(group.subjects)
        yield _plain(
            f"{'  ' if several else ''}{_word(finding.severity)} {finding.id} "
            f"{subjects}: {finding.title}: {finding.sentence}",
            MAX_LINE,
        )
