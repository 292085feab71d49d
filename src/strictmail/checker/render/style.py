# SPDX-License-Identifier: Apache-2.0
"""The style sheet of the HTML page: light, dark, narrow and printed. No request leaves the page."""

from __future__ import annotations

from typing import Final

TONES: Final = {
    "light": {
        "good": ("#0b5d36", "#dff3e7"),
        "fair": ("#744700", "#fcedcb"),
        "bad": ("#9b1219", "#fce2e2"),
        "unknown": ("#51348f", "#ece6fa"),
        "note": ("#154f7c", "#e0eefa"),
        "page": ("#1d2125", "#f7f6f3"),
        "panel": ("#1d2125", "#ffffff"),
        "faint": ("#5a626a", "#ffffff"),
        "code": ("#1d2125", "#f0efeb"),
    },
    "dark": {
        "good": ("#86dcab", "#12331f"),
        "fair": ("#f3c96f", "#37290b"),
        "bad": ("#ffa3a3", "#43191b"),
        "unknown": ("#c9b8ff", "#2c2549"),
        "note": ("#98cdf5", "#132e46"),
        "page": ("#e7e9eb", "#131619"),
        "panel": ("#e7e9eb", "#1b1f24"),
        "faint": ("#a4acb4", "#1b1f24"),
        "code": ("#e7e9eb", "#262b31"),
    },
}
"""Letters and ground of each tone; a test holds them to a contrast of 4.5 at least."""


def _variables(scheme: str) -> str:
    return "".join(
        f"--{name}:{letters};--{name}-bg:{ground};"
        for name, (letters, ground) in TONES[scheme].items()
    )


CSS: Final = (
    f":root{{color-scheme:light dark;{_variables('light')}--line:#dcd9d2;}}"
    f"@media (prefers-color-scheme:dark){{:root{{{_variables('dark')}--line:#343a41;}}}}"
    """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page-bg);color:var(--page);
 font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:66rem;margin:0 auto;padding:2rem 1.25rem 3rem}
h1,h2,h3,h4{line-height:1.25;margin:0;text-wrap:balance}
.domain{font-size:1.9rem;letter-spacing:-.015em;overflow-wrap:anywhere}
.part{font-size:1.2rem;margin:0 0 .9rem}
.part small{font-size:.85rem;font-weight:400;color:var(--faint);margin-left:.5rem}
p{margin:.4rem 0}
code,pre{font-family:ui-monospace,SFMono-Regular,"Cascadia Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;
 font-size:.875em}
code{background:var(--code-bg);padding:.08em .3em;border-radius:.25em;overflow-wrap:anywhere}
pre{background:var(--code-bg);color:var(--code);margin:.6rem 0;padding:.65rem .8rem;border-radius:.4rem;
 overflow-x:auto;line-height:1.45}
pre mark{background:var(--bad-bg);color:var(--bad);font-weight:700}
pre .caret{color:var(--bad);font-weight:700}
pre .label{color:var(--faint)}
pre.wrapped{white-space:pre-wrap;overflow-wrap:anywhere}
pre.paste{word-break:break-all;border-left:3px solid var(--note);-webkit-user-select:all;user-select:all}
a{color:var(--note)}
.faint{color:var(--faint)}
.head{background:var(--panel-bg);border:1px solid var(--line);border-left:.4rem solid currentColor;
 border-radius:.6rem;padding:1.4rem 1.5rem}
.head>*{color:var(--panel)}
.head .faint,.head .meta{color:var(--faint)}
.head .meta{font-size:.875rem;margin-top:.8rem}
.summary{font-size:1.2rem;line-height:1.4;margin:.5rem 0 0;max-width:50rem}
.head-line{display:flex;flex-wrap:wrap;gap:.5rem .9rem;align-items:center}
.head.good{border-left-color:var(--good)}.head.fair{border-left-color:var(--fair)}
.head.bad{border-left-color:var(--bad)}.head.unknown{border-left-color:var(--unknown)}
.head.note{border-left-color:var(--note)}
section{background:var(--panel-bg);color:var(--panel);border:1px solid var(--line);border-radius:.6rem;
 padding:1.3rem 1.5rem;margin-top:1.1rem}
.chip{display:inline-flex;align-items:baseline;gap:.35em;padding:.12em .6em;border-radius:1em;
 font-size:.875rem;font-weight:600;white-space:nowrap}
.chip small{font-weight:400;font-size:.8em}
.chip.good{color:var(--good);background:var(--good-bg)}
.chip.fair{color:var(--fair);background:var(--fair-bg)}
.chip.bad{color:var(--bad);background:var(--bad-bg)}
.chip.unknown{color:var(--unknown);background:var(--unknown-bg)}
.chip.note{color:var(--note);background:var(--note-bg)}
table{border-collapse:collapse;width:100%;font-size:.94rem}
caption{text-align:left;color:var(--faint);font-size:.875rem;padding-bottom:.4rem}
th,td{text-align:left;vertical-align:top;padding:.6rem .7rem .6rem 0;border-top:1px solid var(--line);
 font-weight:400}
thead th{border-top:0;color:var(--faint);font-size:.84rem;padding-bottom:.3rem}
tbody th strong{font-weight:600}
tbody th{min-width:14rem}
tbody tr:first-child>*{border-top:1px solid var(--line)}
th small,td small{display:block;color:var(--faint);overflow-wrap:anywhere}
.names{display:block;overflow-wrap:anywhere;font-weight:600}
.names span{color:var(--faint);font-weight:400}
.picture summary small{display:inline;margin-left:.6em;font-weight:400}
.picture{margin-top:1.6rem}
.picture td{padding-right:.4rem}
.legend{display:flex;flex-wrap:wrap;gap:.35rem 1.2rem;list-style:none;margin:1rem 0 0;padding:.8rem 0 0;
 border-top:1px solid var(--line);font-size:.84rem;color:var(--faint)}
.legend .chip{margin-right:.45em}
dl{display:grid;grid-template-columns:minmax(7.5rem,max-content) 1fr;gap:.35rem 1rem;margin:0}
dt{color:var(--faint)}
dd{margin:0;overflow-wrap:anywhere}
.finding{border-top:1px solid var(--line);padding:1.1rem 0}
.finding:last-child{padding-bottom:0}
.part+.finding{border-top:0;padding-top:0}
.finding-head{display:flex;flex-wrap:wrap;align-items:baseline;gap:.35rem .7rem}
.finding-head h3,.finding-head h4{font-size:1.05rem}
.id{color:var(--faint);font-size:.84rem;font-variant-numeric:tabular-nums}
.subjects{font-size:.9rem;color:var(--faint);overflow-wrap:anywhere}
.finding ul{margin:.4rem 0;padding-left:1.2rem}
.finding li{overflow-wrap:anywhere}
.fix{margin-top:.6rem}
.paste-label{font-weight:600;margin:.6rem 0 -.3rem}
.remark{border-top:1px solid var(--line);padding:.55rem 0}
.part+.remark{border-top:0;padding-top:0}
.remark:last-child{padding-bottom:0}
.remark>summary{font-weight:400}
.remark>summary strong{font-weight:600}
.source{font-size:.84rem;color:var(--faint)}
.good-list{list-style:none;margin:.8rem 0 0;padding:0}
.good-list li{padding:.45rem 0;border-top:1px solid var(--line);overflow-wrap:anywhere}
details>summary{cursor:pointer;font-weight:600}
details details{margin:.7rem 0 0;border-top:1px solid var(--line);padding-top:.7rem}
details details>summary{font-weight:400;overflow-wrap:anywhere}
summary:focus-visible,pre:focus-visible,a:focus-visible{outline:2px solid var(--note);outline-offset:2px}
.inside{padding:.6rem 0 .3rem 1.1rem}
.inside h3,.inside h4{font-size:1rem;margin:1.4rem 0 .4rem;overflow-wrap:anywhere}
.inside dl+dl{margin-top:.7rem}
.inside dl{font-size:.9rem}
.certificate{border-left:2px solid var(--line);padding-left:.9rem;margin:.7rem 0}
.index{margin-bottom:2.2rem}
.result{margin-top:3rem;scroll-margin-top:1rem}
footer{color:var(--faint);font-size:.84rem;margin-top:1.4rem}
@media (max-width:46rem){
 main{padding:1rem .75rem 2rem}
 .head,section{padding:1.05rem 1rem}
 .domain{font-size:1.5rem}
 .summary{font-size:1.08rem}
 table,caption,tbody,tr,th,td{display:block}
 thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
 tr{border-top:1px solid var(--line);padding:.7rem 0}
 tbody th,tbody td,tbody tr:first-child>*{border:0;min-width:0;padding:.15rem 0}
 .picture tbody tr{display:grid;grid-template-columns:repeat(auto-fill,minmax(7.6rem,1fr));gap:.4rem .3rem}
 .picture tbody th{grid-column:1/-1}
 .picture td::before{content:attr(data-label);display:block;color:var(--faint);font-size:.84rem}
 dl{grid-template-columns:1fr;gap:0}
 dd{margin-bottom:.5rem}
 .inside{padding-left:.3rem}
}
@media print{
 :root{color-scheme:light;"""
    f"{_variables('light')}"
    """--line:#bbb}
 body{background:#fff;font-size:10.5pt}
 main{max-width:none;padding:0}
 section,.head{border-radius:0;break-inside:auto}
 .finding,tr,.certificate{break-inside:avoid}
 .result{break-before:page}
 pre{white-space:pre-wrap;overflow-wrap:anywhere}
 .chip{border:1px solid currentColor}
}
"""
)
