# SPDX-License-Identifier: Apache-2.0
"""The figures of a run as a picture: SVG, and an HTML page around it.

Knows how to draw; what is counted, `checker.stats` knows. The picture stands alone: no font, no
script, nothing from elsewhere; readable on light and on dark, without colours, and by a screen
reader (`title` and `desc` say the figures in words). Every text goes through `_text`.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from strictmail.checker.states import DaneState, StarttlsState, StsState, TlsrptState
from strictmail.checker.stats import sections, share, when
from strictmail.core.check.result import Prediction, SenderClass, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from strictmail.checker.stats import Stats

WIDTH: Final = 960
_MARGIN: Final = 32
_GUTTER: Final = 40
_COLUMN: Final = (WIDTH - 2 * _MARGIN - _GUTTER) // 2
_ROW: Final = 24
_LABEL: Final = 196
_WIDE_LABEL: Final = 520
_FIGURES: Final = 104
_CHARACTER: Final = 7.2
"""Pixels of a character in the widest of the usual fonts: no label runs into its bar."""

_STYLE: Final = """
.sm{--bg:#fff;--fg:#1b1f24;--dim:#59636e;--rule:#d1d9e0;--track:#eef1f4;--good:#1a7f4b;--fair:#2f6fd0;
--weak:#c77700;--bad:#cf2f2f;--worst:#8b1e5b;--none:#9aa4ae;--plain:#4c6a92;
font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
@media (prefers-color-scheme:dark){.sm{--bg:#0f1419;--fg:#e6edf3;--dim:#9aa7b4;--rule:#2d363f;
--track:#1c242c;--good:#3fb976;--fair:#6ea3f5;--weak:#e3a13c;--bad:#f2706a;--worst:#d56fa8;
--none:#66717c;--plain:#86a5cf}}
.sm .bg{fill:var(--bg)}.sm text{fill:var(--fg)}.sm .dim{fill:var(--dim)}
.sm .title{font-size:22px;font-weight:650}.sm .head{font-size:15px;font-weight:650}
.sm .big{font-size:30px;font-weight:650}.sm .num{text-anchor:end;font-variant-numeric:tabular-nums}
.sm .rule{stroke:var(--rule)}.sm .track{fill:var(--track)}
.sm .good{fill:var(--good)}.sm .fair{fill:var(--fair)}.sm .weak{fill:var(--weak)}
.sm .bad{fill:var(--bad)}.sm .worst{fill:var(--worst)}.sm .none{fill:var(--none)}
.sm .plain{fill:var(--plain)}
"""

_COLOURS: Final[Mapping[str, str]] = {
    StsState.ENFORCE: "good",
    StsState.TESTING: "fair",
    StsState.NONE: "none",
    StsState.INVALID_RECORD: "bad",
    StsState.FETCH_ERROR: "bad",
    StsState.WEBPKI_INVALID: "bad",
    StsState.INVALID_POLICY: "bad",
    StsState.ABSENT: "none",
    StsState.UNKNOWN: "none",
    DaneState.FULL: "good",
    DaneState.PARTIAL: "fair",
    DaneState.FAILING: "bad",
    DaneState.UNUSABLE: "weak",
    TlsrptState.PRESENT: "good",
    StarttlsState.ALL: "good",
    StarttlsState.SOME: "weak",
    StarttlsState.NONE: "bad",
    Severity.OK: "good",
    Severity.WARNING: "weak",
    Severity.CRITICAL: "bad",
    Prediction.AUTHENTICATED: "good",
    Prediction.ENCRYPTED: "fair",
    Prediction.PLAINTEXT: "weak",
    Prediction.DEFERRED: "bad",
    Prediction.BOUNCED: "worst",
    "TLSv1.3": "good",
    "TLSv1.2": "fair",
    "TLSv1.1": "bad",
    "TLSv1": "bad",
}

_SENDERS: Final[Mapping[str, str]] = {
    SenderClass.MTA_STS: "MTA-STS only",
    SenderClass.DANE: "DANE only",
    SenderClass.BOTH: "MTA-STS and DANE",
    SenderClass.OPPORTUNISTIC: "Opportunistic TLS",
    SenderClass.CACHED: "MTA-STS, cached policy",
}


@dataclass(frozen=True, slots=True)
class _Block:
    """A piece of the picture, drawn from its own upper left corner."""

    height: int
    elements: tuple[str, ...]

    def at(self, x: int, y: int) -> str:
        """The block in its place."""
        return f'<g transform="translate({x},{y})">{"".join(self.elements)}</g>'


def render_svg(stats: Stats) -> str:
    """The figures as one SVG document."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{_picture(stats)}\n'


def render_html(stats: Stats) -> str:
    """The figures as one HTML page: the picture, and the same in tables."""
    title = _text(_title(stats))
    tables = "".join(
        _html_table(section.title, section.counts, section.total)
        for section in sections(stats)
        if section.counts
    )
    senders = "".join(
        _html_table(f"Mail from senders with {_SENDERS[kind]}", counts, sum(counts.values()))
        for kind, counts in stats.senders.items()
    )
    findings = _html_table(
        "Findings",
        {f"{f.id} ({f.severity}) {f.title}": f.domains for f in stats.findings},
        stats.domains,
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{_PAGE_STYLE}</style>
</head>
<body>
<main>
{_picture(stats)}
<details>
<summary>All figures</summary>
<div class="tables">{tables}{senders}{findings if stats.findings else ""}</div>
</details>
</main>
</body>
</html>
"""


_PAGE_STYLE: Final = """
:root{color-scheme:light dark}body{margin:0;background:#fff;color:#1b1f24;
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:960px;margin:0 auto;padding:16px}svg{width:100%;height:auto}
summary{cursor:pointer;padding:8px 32px;font-weight:650}
.tables{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:24px;padding:16px 32px}
table{border-collapse:collapse;width:100%;align-self:start}
caption{text-align:left;font-weight:650;padding:4px 0}
th,td{padding:3px 0;border-top:1px solid #8884;text-align:right;font-variant-numeric:tabular-nums}
th{font-weight:400;text-align:left;overflow-wrap:anywhere}td{padding-left:12px;white-space:nowrap}
@media (prefers-color-scheme:dark){body{background:#0f1419;color:#e6edf3}}
@media print{details{display:none}}
"""


def _html_table(title: str, counts: Mapping[str, int], total: int) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_text(word)}</th><td>{count:,}</td><td>{share(count, total)}</td></tr>'
        for word, count in counts.items()
    )
    return f"<table><caption>{_text(title)}</caption>{rows}</table>"


def _text(text: str) -> str:
    """Any text as character data or attribute value of XML and HTML."""
    # XML 1.0 has no way to write most control characters, surrogates, U+FFFE and U+FFFF.
    clean = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return escape(clean, quote=True)


def _title(stats: Stats) -> str:
    return f"Mail transport security of {stats.domains:,} domains"


def _picture(stats: Stats) -> str:
    parts: list[str] = []
    y = _MARGIN
    for block in (_heading(stats), _headline_figures(stats), _mail(stats)):
        parts.append(block.at(_MARGIN, y))
        y += block.height
    y = _two_columns(_panels(stats), parts, y)
    if stats.findings:
        block = _findings(stats)
        parts.append(block.at(_MARGIN, y))
        y += block.height
    height = y + _MARGIN - 16
    return (
        f'<svg class="sm" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="sm-title sm-desc">'
        f'<title id="sm-title">{_text(_title(stats))}</title>'
        f'<desc id="sm-desc">{_text(_in_words(stats))}</desc>'
        f"<style>{_STYLE}</style>"
        f'<rect class="bg" width="{WIDTH}" height="{height}"/>{"".join(parts)}</svg>'
    )


def _two_columns(blocks: Iterable[_Block], parts: list[str], y: int) -> int:
    """Put blocks below each other, always into the shorter column; the height of the longer."""
    ends = [y, y]
    for block in blocks:
        column = 0 if ends[0] <= ends[1] else 1
        parts.append(block.at(_MARGIN + column * (_COLUMN + _GUTTER), ends[column]))
        ends[column] += block.height
    return max(ends)


def _in_words(stats: Stats) -> str:
    return " ".join(
        f"{section.title}: "
        + ", ".join(
            f"{word} {count:,} ({share(count, section.total)})"
            for word, count in section.counts.items()
        )
        + "."
        for section in sections(stats)
        if section.counts
    )


def _heading(stats: Stats) -> _Block:
    said = f"{stats.with_mail:,} of them take mail{when(stats)}"
    return _Block(
        64,
        (
            f'<text class="title" y="20">{_text(_title(stats))}</text>',
            f'<text class="dim" y="42">{_text(said)}</text>',
        ),
    )


def _headline_figures(stats: Stats) -> _Block:
    sts, dane = stats.sts, stats.dane
    figures = (
        (sts.get(StsState.ENFORCE, 0), stats.domains, "enforce MTA-STS"),
        (
            dane.get(DaneState.FULL, 0) + dane.get(DaneState.PARTIAL, 0),
            stats.with_mail,
            "have DANE",
        ),
        (stats.both, stats.with_mail, "have both"),
        (stats.tlsrpt.get(TlsrptState.PRESENT, 0), stats.domains, "ask for TLS reports"),
        (stats.starttls.get(StarttlsState.ALL, 0), stats.with_mail, "offer TLS everywhere"),
    )
    step = (WIDTH - 2 * _MARGIN) // len(figures)
    return _Block(
        88,
        tuple(
            f'<text class="big" x="{step * number}" y="30">{share(count, total)}</text>'
            f'<text class="dim" x="{step * number}" y="52">{_text(words)}</text>'
            for number, (count, total, words) in enumerate(figures)
        ),
    )


def _mail(stats: Stats) -> _Block:
    """What becomes of mail: a bar of parts for each kind of sender."""
    if not stats.senders:
        return _Block(0, ())
    elements = list(_head("What happens to mail, by kind of sender", WIDTH - 2 * _MARGIN))
    x = 0
    for prediction in Prediction:
        if any(prediction in counts for counts in stats.senders.values()):
            elements.append(
                f'<rect class="{_colour(prediction)}" x="{x}" y="36" width="12" height="12" rx="2"/>'
                f'<text class="dim" x="{x + 18}" y="46">{_text(prediction)}</text>'
            )
            x += 44 + 7 * len(prediction)
    y = 62
    for kind, counts in stats.senders.items():
        elements.append(f'<text y="{y + 16}">{_text(_SENDERS[kind])}</text>')
        elements.extend(_stack(counts, y, WIDTH - 2 * _MARGIN - _LABEL))
        y += 32
    return _Block(y + 24, tuple(elements))


def _stack(counts: Mapping[str, int], y: int, room: int) -> Iterator[str]:
    total = sum(counts.values())
    x = float(_LABEL)
    for word, count in counts.items():
        width = room * count / total
        said = share(count, total)
        yield (
            f'<rect class="{_colour(word)}" x="{x:.1f}" y="{y}" width="{max(width - 1, 0.5):.1f}" '
            f'height="22"><title>{_text(word)}: {count:,} ({said})</title></rect>'
        )
        if width > 8 * len(said):
            yield (
                f'<text x="{x + width / 2:.1f}" y="{y + 15.5}" text-anchor="middle" '
                f'style="fill:var(--bg);font-weight:600">{said}</text>'
            )
        x += width


def _panels(stats: Stats) -> Iterator[_Block]:
    for section in sections(stats):
        if section.counts:
            yield _bars(section.title, section.counts.items(), section.total)


def _findings(stats: Stats) -> _Block:
    rows = [(f"{f.id}  {f.title}", f.domains, _colour(f.severity)) for f in stats.findings]
    width = WIDTH - 2 * _MARGIN
    return _rows("Most frequent findings", rows, stats.domains, width, _WIDE_LABEL)


def _bars(title: str, counts: Iterable[tuple[str, int]], total: int) -> _Block:
    rows = [(word, count, _colour(word)) for word, count in counts]
    return _rows(title, rows, total, _COLUMN, _LABEL)


def _rows(
    title: str, rows: Iterable[tuple[str, int, str]], total: int, width: int, label: int
) -> _Block:
    """A bar for each label, count and colour, all in proportion to the whole."""
    elements = list(_head(title, width))
    room = width - label - _FIGURES
    y = 36
    for word, count, colour in rows:
        full = room * count / total if total else 0
        elements.append(
            f"<g><title>{_text(word)}: {count:,} ({share(count, total)})</title>"
            f'<text y="{y + 13}">{_text(_shorten(word, label))}</text>'
            f'<rect class="track" x="{label}" y="{y + 2}" width="{room}" height="14" rx="2"/>'
            f'<rect class="{colour}" x="{label}" y="{y + 2}" width="{max(full, 1):.1f}" '
            f'height="14" rx="2"/>'
            f'<text class="num" x="{width - 50}" y="{y + 13}">{count:,}</text>'
            f'<text class="num dim" x="{width}" y="{y + 13}">{share(count, total)}</text></g>'
        )
        y += _ROW
    return _Block(y + 24, tuple(elements))


def _head(title: str, width: int) -> Iterator[str]:
    yield f'<text class="head" y="14">{_text(title)}</text>'
    yield f'<line class="rule" x1="0" x2="{width}" y1="24.5" y2="24.5"/>'


def _colour(word: str) -> str:
    return _COLOURS.get(word, "none" if word in ("unknown", "none", "no record") else "plain")


def _shorten(word: str, pixels: int) -> str:
    most = int((pixels - 8) / _CHARACTER)
    return word if len(word) <= most else word[: most - 1].rstrip() + "\u2026"
