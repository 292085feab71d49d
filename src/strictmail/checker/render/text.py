# SPDX-License-Identifier: Apache-2.0
"""A result as a page for the terminal.

The order is that of the reader's questions: what happens to mail, at which host, what the domain
has, what is wrong and how to put it right, what nobody could see, and what is fine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.checker.render.page import Page
from strictmail.checker.render.picture import (
    FAULTS,
    Group,
    Row,
    Table,
    arrange_findings,
    arrange_senders,
    arrange_verdicts,
    hosts_by_rank,
)
from strictmail.checker.render.wording import (
    PREDICTIONS,
    SENDERS,
    STATUS_TONES,
    cited,
    count,
    instant,
    is_likely,
    outcome_tone,
    policy_words,
    prediction_word,
    published,
    tally,
    tlsa_words,
    validity,
)
from strictmail.core.check.result import Severity

if TYPE_CHECKING:
    from strictmail.core.check.result import (
        AddressResult,
        Chain,
        CheckResult,
        Evidence,
        Finding,
        HostResult,
        Verdict,
    )

MAX_MEMBERS: Final = 4
"""Of findings that say the same of many hosts, so many are told one by one."""

MAX_EVIDENCE: Final = 4
"""Pieces of evidence for one finding; the rest comes with details."""

_NAME_COLUMNS: Final = 18
_WORD_COLUMNS: Final = 22
_CELL_COLUMNS: Final = 12
_LABEL_COLUMNS: Final = 14
_MIN_REASON: Final = 50
"""Columns for the reason beside an outcome; with less, it stands below."""

_MIN_LABEL: Final = 30
"""Columns for hosts and addresses beside the cells; with less, they stand above them."""


def text(
    result: CheckResult,
    *,
    width: int = 80,
    colour: bool = False,
    ascii_only: bool = False,
    details: bool = False,
) -> str:
    """Render a result for a terminal.

    Args:
        result: What to show.
        width: Columns of the terminal. Lines to be pasted are longer if they have to be.
        colour: Whether to colour; without, there is no control character but the line feed.
        ascii_only: For terminals whose encoding shows nothing else.
        details: Also certificates, ciphers, every piece of evidence and every good finding.
    """
    page = Page(width=width, colour=colour, ascii_only=ascii_only)
    _head(page, result)
    _senders(page, result)
    _hosts(page, result, details=details)
    page.heading("What the domain has")
    for name, words in published(result):
        page.beside([(name, _LABEL_COLUMNS, "faint")], words, indent=2)
    _findings(page, result, "Findings", *FAULTS, details=details)
    _findings(page, result, "Not known", Severity.UNKNOWN, details=details)
    if details:
        _findings(page, result, "Notes", Severity.INFO, details=True)
    else:
        _listed(page, "Notes", arrange_findings(result, Severity.INFO))
    _good(page, result, details=details)
    if details:
        for host in result.hosts:
            _host(page, result, host)
    return page.text()


def _head(page: Page, result: CheckResult) -> None:
    page.put(result.domain, style="strong")
    page.beside(
        [(result.status.value.upper(), 10, STATUS_TONES[result.status])],
        result.summary,
        style="strong",
    )
    page.put(
        f"checked {instant(result.checked_at)} in {result.seconds:.1f} s, "
        f"strictmail {result.strictmail}",
        style="faint",
    )


def _senders(page: Page, result: CheckResult) -> None:
    if not result.senders:
        return
    fates = arrange_senders(result)
    page.heading("What happens to mail, by kind of sender", fates.host and f"at {fates.host}")
    names = _NAME_COLUMNS + _WORD_COLUMNS + 4
    beside = page.width - names >= _MIN_REASON
    for fate in fates.rows:
        verdict = fate.verdict
        tone = outcome_tone(result, verdict.prediction)
        word = prediction_word(verdict.prediction, verdict.by)
        cells = [
            (PREDICTIONS[verdict.prediction].sign, 2, tone),
            (SENDERS[verdict.sender].long, _NAME_COLUMNS, ""),
            (f"{word}, likely" if is_likely(verdict) else word, _WORD_COLUMNS, tone),
        ]
        if fate.alike is not None:
            page.beside(cells, f"as {SENDERS[fate.alike].long}", indent=2, style="faint")
        elif beside:
            page.beside(cells, fate.reason, indent=2)
        else:
            page.row(cells, indent=2)
            page.put(fate.reason, indent=6)


# ---- host by host -------------------------------------------------------------------------------


def _hosts(page: Page, result: CheckResult, *, details: bool) -> None:
    table = arrange_verdicts(result, apart=details)
    if not table.rows:
        return
    cells_width = _CELL_COLUMNS * len(table.senders)
    label_width = page.width - 2 - cells_width
    beside = label_width >= _MIN_LABEL
    label_width = min(label_width, 44) if beside else 4
    page.heading("Host by host")
    heads = [(SENDERS[sender].short, _CELL_COLUMNS, "faint") for sender in table.senders]
    page.row([("", label_width, ""), *heads], indent=2)
    for row in table.rows:
        cells = [_cell(cell) for cell in row.cells]
        label, below = _label(row)
        if beside and len(page.show(label)) < label_width:
            page.row([(label, label_width, ""), *cells], indent=2)
            _below(page, below)
        else:
            page.put(label, indent=2)
            _below(page, below)
            page.row([("", label_width, ""), *cells], indent=2)
        if details:
            _reasons(page, table, row)


def _below(page: Page, lines: list[str]) -> None:
    for line in lines:
        page.put(line, indent=5, hang=2, style="faint")


def _cell(verdict: Verdict | None) -> tuple[str, int, str]:
    if verdict is None:
        return "-", _CELL_COLUMNS, "faint"
    words = PREDICTIONS[verdict.prediction]
    return f"{words.sign} {words.word}", _CELL_COLUMNS, words.tone


def _label(row: Row) -> tuple[str, list[str]]:
    """The hosts of a row, and the lines below them."""
    if len(row.hosts) == 1:
        rank, name = row.hosts[0]
        label = name if rank is None else f"{rank} {name}"
        return label, [", ".join(row.addresses) or "no address"]
    label = f"{len(row.hosts)} hosts, {count(len(row.addresses), 'address')}"
    return label, list(hosts_by_rank(row))


def _reasons(page: Page, table: Table, row: Row) -> None:
    for sender, cell in zip(table.senders, row.cells, strict=True):
        if cell is not None:
            result_type = f" [{cell.result_type}]" if cell.result_type else ""
            source = f" ({cell.source})" if cell.source else ""
            page.beside(
                [(SENDERS[sender].short, 10, "faint")],
                f"{prediction_word(cell.prediction, cell.by)}: "
                f"{cell.sentence}{source}{result_type}",
                indent=5,
            )


# ---- findings -----------------------------------------------------------------------------------


def _findings(
    page: Page, result: CheckResult, title: str, *severities: Severity, details: bool
) -> None:
    groups = arrange_findings(result, *severities, apart=details)
    if not groups:
        return
    page.heading(title, _number(groups))
    for number, group in enumerate(groups):
        if number:
            page.gap()
        _finding(page, result, group, details=details)


def _number(groups: tuple[Group, ...]) -> str:
    severities = [member.severity for group in groups for member in group.members]
    return tally(severities) if severities[0] in FAULTS else str(len(severities))


def _finding(page: Page, result: CheckResult, group: Group, *, details: bool) -> None:
    finding = group.first
    page.beside(
        [
            (finding.severity.value, 10, STATUS_TONES[finding.severity]),
            (finding.id, 9, "faint"),
        ],
        finding.title,
        indent=2,
        style="strong",
    )
    _said(page, result, group)
    members = group.members if details else group.members[:1]
    for member in members:
        _evidence(page, member, details=details)
    if reference := cited(finding.source, finding.requirement):
        page.put(reference, indent=4, style="faint")
    if finding.fix:
        page.beside([("Fix:", 5, "strong")], finding.fix, indent=4)
    if finding.paste:
        page.put("Put in place:", indent=4, style="strong")
        page.paste(finding.paste)


def _said(page: Page, result: CheckResult, group: Group) -> None:
    if len(group.members) == 1 or len(group.sentences) == 1:
        if not group.obvious(result.domain):
            page.put(", ".join(group.subjects), indent=4, hang=2, style="faint")
        page.put(group.first.sentence, indent=4)
        return
    for member in group.members[:MAX_MEMBERS]:
        is_named = member.subject in member.sentence
        said = member.sentence if is_named else f"{member.subject}: {member.sentence}"
        page.put(said, indent=4, hang=2)
    rest = group.members[MAX_MEMBERS:]
    if rest:
        names = ", ".join(dict.fromkeys(member.subject for member in rest))
        page.put(f"and {len(rest)} more: {names}", indent=4, hang=2)


def _evidence(page: Page, finding: Finding, *, details: bool) -> None:
    shown: tuple[Evidence, ...] = finding.evidence if details else finding.evidence[:MAX_EVIDENCE]
    for piece in shown:
        page.pointed(piece.label, piece.text, piece.caret, indent=6, whole=details)
    if rest := len(finding.evidence) - len(shown):
        page.put(f"and {rest} more", indent=6, style="faint")


def _good(page: Page, result: CheckResult, *, details: bool) -> None:
    groups = arrange_findings(result, Severity.OK, apart=details)
    if not groups:
        return
    if not details:
        _listed(page, "Good", groups)
        return
    page.heading("Good", _number(groups))
    for group in groups:
        finding = group.first
        about = "" if group.obvious(result.domain) else f" [{finding.subject}]"
        page.put(f"{_line(group)}{about}", indent=2, hang=9)
        _evidence(page, finding, details=True)


def _listed(page: Page, title: str, groups: tuple[Group, ...]) -> None:
    """Findings that need no action, a line each."""
    if not groups:
        return
    page.heading(title, _number(groups))
    for group in groups:
        if len(group.members) == 1:
            page.put(_line(group), indent=2, hang=9)
        else:
            page.one_line(_line(group), indent=2)


def _line(group: Group) -> str:
    finding = group.first
    many = f" ({len(group.members)} times)" if len(group.members) > 1 else ""
    said = finding.sentence if len(group.members) == 1 else ", ".join(group.subjects)
    return f"{finding.id:<8} {finding.title}{many}: {said}"


# ---- details of hosts ---------------------------------------------------------------------------


def _host(page: Page, result: CheckResult, host: HostResult) -> None:
    page.heading(host.name, f"preference {host.preference}")
    base = f" at {host.tlsa_base_domain}" if host.tlsa_base_domain else ""
    page.beside(
        [("policy", _LABEL_COLUMNS, "faint")], policy_words(on_policy=host.on_policy), indent=2
    )
    page.beside(
        [("DANE", _LABEL_COLUMNS, "faint")],
        f"{tlsa_words(result, host.tlsa_state)}{base}",
        indent=2,
    )
    for record in host.tlsa:
        page.beside([("TLSA", _LABEL_COLUMNS, "faint")], record, indent=2)
    for address in host.addresses:
        _address(page, result, address)


def _address(page: Page, result: CheckResult, address: AddressResult) -> None:
    outcome = f"{address.outcome}, {address.unknown}" if address.unknown else address.outcome
    helo = f", says it is {address.helo}" if address.helo else ""
    page.put(f"{address.address}: {outcome} in {address.seconds:.1f} s{helo}", indent=2, hang=2)
    if address.detail:
        page.put(address.detail, indent=4)
    for chain in address.chains:
        _chain(page, result, chain)


def _chain(page: Page, result: CheckResult, chain: Chain) -> None:
    against = ", ".join(chain.pkix_problems) or "valid"
    dane = f"; DANE: {chain.dane}" if chain.dane else ""
    page.put(
        f"{chain.tls_version} {chain.cipher}, {chain.key_type}, SNI {chain.server_name}; "
        f"web PKI: {against}{dane}",
        indent=4,
        hang=2,
    )
    if chain.detail:
        page.put(chain.detail, indent=6)
    for number, certificate in enumerate(chain.certificates):
        page.beside([(f"{number}", 2, "faint")], certificate.subject, indent=6, hang=2)
        rows = (
            ("issuer", certificate.issuer),
            ("names", ", ".join(certificate.dns_names)),
            (
                "valid",
                validity(result, certificate),
            ),
            ("key", f"{certificate.key}, signed with {certificate.signature}"),
            ("sha256", certificate.sha256),
            ("3 1 1", certificate.spki_sha256),
        )
        for name, value in rows:
            if value:
                page.beside([(name, 8, "faint")], value, indent=8)
