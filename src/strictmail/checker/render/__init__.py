# SPDX-License-Identifier: Apache-2.0
"""Results of checks in the formats that people and monitoring systems read.

`CheckResult` is all that goes in: no format knows more than another, and none looks anything up.
Pure: no clock, no I/O; days that are left count from the time of the check.

==============  ====================================================  ==========================
format          for                                                   several results
==============  ====================================================  ==========================
``text``        a terminal                                            a page each
``json``        programs, histories                                   a line each (JSON Lines)
``nagios``      Nagios, Icinga and their kin                          one output, the worst first
``prometheus``  the textfile collector of node_exporter               one exposition
``markdown``    a ticket                                              a part each
``html``        a colleague                                           one page with an index
==============  ====================================================  ==========================
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from strictmail.checker.render.exits import DEFAULT_FAIL_ON, exit_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strictmail.core.check.result import CheckResult

__all__ = ["DEFAULT_FAIL_ON", "Format", "exit_code", "render"]


class Format(enum.StrEnum):
    """What `render` can make."""

    TEXT = "text"
    JSON = "json"
    NAGIOS = "nagios"
    PROMETHEUS = "prometheus"
    MARKDOWN = "markdown"
    HTML = "html"


def render(
    results: Sequence[CheckResult],
    form: Format | str,
    *,
    width: int = 80,
    colour: bool = False,
    ascii_only: bool = False,
    details: bool = False,
) -> str:
    """Render results; the text ends with a line feed, unless there is none.

    Args:
        results: In the order in which the caller wants them.
        form: Which format, or its name.
        width: Columns of the terminal; `text` only.
        colour: Whether the terminal is to show colours; `text` only.
        ascii_only: The terminal shows nothing else; `text` only.
        details: Show everything: `text` and `markdown`. HTML has it folded, always.

    Raises:
        ValueError: There is no such format.
    """
    # Imported where they are needed: a bulk run that writes JSON needs none of the others.
    match Format(form):
        case Format.JSON:
            from strictmail.checker.resultfile import encode_line

            return b"".join(map(encode_line, results)).decode("ascii")
        case Format.NAGIOS:
            from strictmail.checker.render.nagios import nagios

            return nagios(results)[0]
        case Format.PROMETHEUS:
            from strictmail.checker.render.prometheus import prometheus

            return prometheus(results)
        case Format.MARKDOWN:
            from strictmail.checker.render.markdown import markdown

            return markdown(results, details=details)
        case Format.HTML:
            from strictmail.checker.render.htmlpage import html, html_many

            return html(results[0]) if len(results) == 1 else html_many(results)
        case Format.TEXT:
            from strictmail.checker.render.text import text

            pages = (
                text(result, width=width, colour=colour, ascii_only=ascii_only, details=details)
                for result in results
            )
            return "\n".join(pages)
