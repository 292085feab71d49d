# SPDX-License-Identifier: Apache-2.0
"""Results as one HTML file that needs nothing else: no request, no script, no other file.

The page's own policy forbids all of these, so that not even a slip here could bring them about.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC
from typing import TYPE_CHECKING, Final

from strictmail.checker.render.htmlparts import findings, good, hosts, status_chip, tables
from strictmail.checker.render.markup import Markup, join, prose, stylesheet, tag, text
from strictmail.checker.render.style import CSS
from strictmail.checker.render.wording import (
    STATUS_TONES,
    count,
    instant,
    published,
    tally,
    worst_results_first,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from strictmail.core.check.result import CheckResult

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"
)


def html(result: CheckResult) -> str:
    """Render one result as a page."""
    title = f"{result.domain}: {result.status.value} - strictmail check"
    return _page(title, tag("main", _result(result, 1), _footer()))


def html_many(results: Sequence[CheckResult]) -> str:
    """Render results as one page, with an index on top; the worst first."""
    ordered = worst_results_first(results)
    said = tally(result.status for result in ordered)
    heading = f"Mail to {count(len(ordered), 'domain')}"
    rows = [
        tag(
            "tr",
            tag(
                "th",
                tag("a", result.domain, href=f"#domain-{number}"),
                scope="row",
                role="rowheader",
            ),
            tag("td", status_chip(result.status), role="cell"),
            tag("td", prose(result.summary), role="cell"),
            role="row",
        )
        for number, result in enumerate(ordered, 1)
    ]
    heads = [
        tag("th", name, scope="col", role="columnheader")
        for name in ("Domain", "Status", "In words")
    ]
    index = tag(
        "table",
        tag("thead", tag("tr", *heads, role="row"), role="rowgroup"),
        tag("tbody", *rows, role="rowgroup"),
        role="table",
    )
    parts = [
        tag("article", _result(result, 2), class_="result", id=f"domain-{number}")
        for number, result in enumerate(ordered, 1)
    ]
    head = tag("header", tag("h1", heading, class_="domain"), tag("p", said, class_="faint"))
    return _page(
        f"{heading} - strictmail check",
        tag("main", head, tag("section", index, class_="index"), *parts, _footer()),
    )


def _page(title: str, body: Markup) -> str:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        # `text` would escape the quotation marks of the policy, which a browser reads back.
        tag("meta", http_equiv="Content-Security-Policy", content=CONTENT_SECURITY_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        stylesheet(CSS),
    )
    document = tag("html", head, tag("body", body), lang="en")
    return f"<!doctype html>\n{document}\n"


def _result(result: CheckResult, level: int) -> Markup:
    head = tag(
        "header",
        tag(
            "div",
            tag(f"h{level}", result.domain, class_="domain"),
            status_chip(result.status),
            class_="head-line",
        ),
        tag("p", prose(result.summary), class_="summary"),
        tag(
            "p",
            "Checked ",
            _time(result.checked_at),
            f" in {result.seconds:.1f} s with strictmail {result.strictmail}",
            class_="meta",
        ),
        class_=f"head {STATUS_TONES[result.status]}",
    )
    return join(
        head,
        tables(result, level + 1),
        *findings(result, level + 1),
        _published(result, level + 1),
        good(result, level + 1),
        hosts(result, level + 1),
    )


def _published(result: CheckResult, level: int) -> Markup:
    entries = [join(tag("dt", name), tag("dd", prose(words))) for name, words in published(result)]
    return tag(
        "section", tag(f"h{level}", "What the domain has", class_="part"), tag("dl", *entries)
    )


def _time(moment: datetime) -> Markup:
    machine = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return tag("time", instant(moment), datetime=machine)


def _footer() -> Markup:
    return tag(
        "footer",
        text(
            "What could not be looked at is called unknown, never wrong. Lines with a bar beside "
            "them are ready to be copied: a click selects the whole of them."
        ),
    )
