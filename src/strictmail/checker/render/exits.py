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
    from collections.abc import Iterable

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
    if fail_on is None:
        return 0
    if fail_on not in _COUNTING:
        raise ValueError(f"{fail_on.value} is no failure: warning, unknown or critical is")
    counting = _COUNTING[: _COUNTING.index(fail_on) + 1]
    found = {
        severity
        for result in results
        for severity in (result.status, *(finding.severity for finding in result.findings))
    }
    return next((code for severity, code in CODES.items() if severity in found & {*counting}), 0)
