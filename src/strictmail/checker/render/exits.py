# SPDX-License-Identifier: Apache-2.0
"""How a check ends: exit codes after the Nagios convention.

Two orders, on purpose. *What counts* goes by how much may hide behind it: what nobody could see
may be critical, so it counts before a warning. *Which code comes out*, where several count, goes
by what is certain: critical before warning before unknown.

=============  ============================  =======================
`fail_on`      non-zero for                  codes that can come out
=============  ============================  =======================
``warning``    critical, unknown, warning    0, 1, 2, 3
``unknown``    critical, unknown             0, 2, 3
``critical``   critical                      0, 2
None           nothing                       0
=============  ============================  =======================

A note (`info`) never counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.core.check.result import Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from strictmail.core.check.result import CheckResult

DEFAULT_FAIL_ON: Final = Severity.WARNING

CODES: Final = {
    Severity.CRITICAL: 2,
    Severity.WARNING: 1,
    Severity.UNKNOWN: 3,
    Severity.INFO: 0,
    Severity.OK: 0,
}
"""Of a status. Where several count, the first that is there gives the code."""

_COUNTING: Final = (Severity.CRITICAL, Severity.UNKNOWN, Severity.WARNING)
"""The first counts always; `fail_on` says how far to go."""


def exit_code(results: Iterable[CheckResult], fail_on: Severity | None = DEFAULT_FAIL_ON) -> int:
    """The exit code for some results: 0, 1, 2 or 3.

    Args:
        results: None at all is 0.
        fail_on: The least that makes it non-zero, see the table above; None for never.

    Raises:
        ValueError: `fail_on` is a severity that is no failure.
    """
    found = {severity for result in results for severity in severities_of(result)}
    return code_of(found, fail_on)


def severities_of(result: CheckResult) -> frozenset[Severity]:
    """What a result says, its status and its findings, as far as exit codes go."""
    return frozenset({result.status, *(finding.severity for finding in result.findings)})


def code_of(
    found: Collection[Severity], fail_on: Severity | None = DEFAULT_FAIL_ON, *, refused: int = 0
) -> int:
    """The exit code for what was found in any number of results: 0, 1, 2 or 3.

    Args:
        found: From `severities_of`.
        fail_on: As in `exit_code`.
        refused: Lines of a list that hold no domain. What was meant there, nobody looked at: the
            run is unknown at best, where unknown counts at all.

    Raises:
        ValueError: `fail_on` is a severity that is no failure.
    """
    if fail_on is None:
        return 0
    if fail_on not in _COUNTING:
        raise ValueError(f"{fail_on.value} is no failure: warning, unknown or critical is")
    counting = {*_COUNTING[: _COUNTING.index(fail_on) + 1]}
    if refused and Severity.UNKNOWN in counting and Severity.CRITICAL not in found:
        return CODES[Severity.UNKNOWN]
    return next((code for severity, code in CODES.items() if severity in counting & {*found}), 0)
