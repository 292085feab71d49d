# SPDX-License-Identifier: Apache-2.0
"""The parts of the HTML page: verdict tables, findings, good news, hosts with certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strictmail.checker.render.markup import Markup, join, prose, tag
from strictmail.checker.render.picture import (
    FAULTS,
    Group,
    Row,
    arrange_findings,
    arrange_senders,
    arrange_verdicts,
)
from strictmail.checker.render.plain import visible, visible_at
from strictmail.checker.render.wording import (
    BY,
    PREDICTIONS,
    SENDERS,
    STATUS_TONES,
    cited,
    count,
    is_likely,
    outcome_tone,
    policy_words,
    tally,
    tlsa_words,
    validity,
)
from strictmail.core.check.result import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.core.check.result import (
        AddressResult,
        Certificate,
        Chain,
        CheckResult,
        Evidence,
        HostResult,
        Prediction,
        SenderClass,
        Verdict,
    )

MAX_MEMBERS: Final = 8
"""Of findings that say the same of many hosts, so many are told one by one."""

MAX_NAMES: Final = 4
"""Hosts of one row of the verdict table; more of them are folded."""

_STATUS_SIGNS: Final = {
    Severity.OK: "✓",
    Severity.INFO: "i",
    Severity.WARNING: "!",
    Severity.CRITICAL: "✗",
    Severity.UNKNOWN: "?",
}


def status_chip(severity: Severity) -> Markup:
    """A severity as sign and word."""
    word = {Severity.OK: "OK", Severity.INFO: "note"}.get(severity, severity.value)
    return _chip(STATUS_TONES[severity], _STATUS_SIGNS[severity], word)


def _chip(tone: str, sign: str, word: str, note: str = "") -> Markup:
    more = [tag("small", note)] if note else []
    return tag("span", tag("span", sign, aria_hidden="true"), word, *more, class_=f"chip {tone}")


# ---- what happens to mail -----------------------------------------------------------------------


def tables(result: CheckResult, level: int) -> Markup:
    """Both verdict tables with a legend; empty without verdicts."""
    if not result.senders:
        return Markup()
    return tag(
        "section",
        tag(f"h{level}", "What happens to mail", class_="part"),
        _sender_table(result),
        _picture(result),
        _legend(result),
    )


def _table(caption: str, heads: list[str], rows: list[Markup], class_: str | None = None) -> Markup:
    # The roles are said once more, since a narrow page lays tables out as blocks.
    cells = [tag("th", head, scope="col", role="columnheader") for head in heads]
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *cells, role="row"), role="rowgroup"),
        tag("tbody", *rows, role="rowgroup"),
        class_=class_,
        role="table",
    )


def _sender_table(result: CheckResult) -> Markup:
    fates, rows = arrange_senders(result), []
    for fate in fates.rows:
        said = fate.verdict
        words, sender = PREDICTIONS[said.prediction], SENDERS[said.sender]
        doubt = "likely" if is_likely(said) else ""
        note = ", ".join(part for part in (BY.get(said.by, ""), doubt) if part)
        why = (
            prose(fate.reason)
            if fate.alike is None
            else tag("span", f"as {SENDERS[fate.alike].long}", class_="faint")
        )
        tone = outcome_tone(result, said.prediction)
        head = join(tag("strong", sender.long), tag("small", sender.example))
        rows.append(
            tag(
                "tr",
                tag("th", head, scope="row", role="rowheader"),
                tag("td", _chip(tone, words.sign, words.word, note), role="cell"),
                tag("td", why, role="cell"),
                role="row",
            )
        )
    caption = join("By what the sending side knows", f"; at {fates.host}" if fates.host else "")
    return _table(caption, ["Sender knows", "Mail", "Why"], rows)


def _picture(result: CheckResult) -> Markup:
    table = arrange_verdicts(result)
    if not table.rows:
        return Markup()
    rows = [
        tag(
            "tr",
            tag("th", *_place(row), scope="row", role="rowheader"),
            *(_cell(s, cell) for s, cell in zip(table.senders, row.cells, strict=True)),
            role="row",
        )
        for row in table.rows
    ]
    heads = ["MX host", *(SENDERS[sender].short for sender in table.senders)]
    return _table("The same, host by host", heads, rows, "picture")


def _place(row: Row) -> Iterator[Markup]:
    names = [
        tag("span", tag("span", "" if rank is None else f"{rank} "), name, class_="names")
        for rank, name in row.hosts
    ]
    addresses = f"{count(len(row.addresses), 'address')}, all alike"
    if len(names) == 1:
        yield from [*names, tag("small", ", ".join(row.addresses) or "no address")]
    elif len(names) <= MAX_NAMES:
        yield from [*names, tag("small", addresses)]
    else:
        summary = tag("summary", count(len(names), "host"), tag("small", addresses))
        yield tag("details", summary, *names)


def _cell(sender: SenderClass, said: Verdict | None) -> Markup:
    if said is None:
        shown = tag("span", "-")
    else:
        words = PREDICTIONS[said.prediction]
        shown = _chip(words.tone, words.sign, words.word)
    return tag("td", shown, role="cell", data_label=SENDERS[sender].short)


def _legend(result: CheckResult) -> Markup:
    used: set[Prediction] = {said.prediction for said in result.senders}
    used |= {said.prediction for said in result.verdicts}
    entries = []
    for prediction in PREDICTIONS:
        if prediction in used:
            words = PREDICTIONS[prediction]
            chip = _chip(outcome_tone(result, prediction), words.sign, words.word)
            entries.append(tag("li", chip, words.meaning))
    return tag("ul", *entries, class_="legend")


# ---- findings -----------------------------------------------------------------------------------


def findings(result: CheckResult, level: int) -> Iterator[Markup]:
    """A section for faults, one for what is not known, one for notes, which are folded."""
    for title, severities, make in (
        ("Findings", FAULTS, _finding),
        ("Not known", (Severity.UNKNOWN,), _finding),
        ("Notes", (Severity.INFO,), _note),
    ):
        groups = arrange_findings(result, *severities)
        if groups:
            members = [member.severity for group in groups for member in group.members]
            number = tally(members) if severities == FAULTS else str(len(members))
            yield tag(
                "section",
                tag(f"h{level}", title, tag("small", number), class_="part"),
                *(make(result, group, level + 1) for group in groups),
            )


def _finding(result: CheckResult, group: Group, level: int) -> Markup:
    head = tag(
        "div",
        status_chip(group.first.severity),
        tag(f"h{level}", prose(group.first.title)),
        tag("span", group.first.id, class_="id"),
        class_="finding-head",
    )
    return tag("article", head, *_told(result, group), class_="finding")


def _note(result: CheckResult, group: Group, _level: int) -> Markup:
    summary = tag(
        "summary",
        tag("strong", prose(group.first.title)),
        " ",
        tag("span", group.first.id, class_="id"),
    )
    return tag("details", summary, *_told(result, group), class_="remark")


def _told(result: CheckResult, group: Group) -> Iterator[Markup]:
    """What was found, what it rests on, where that stands, and what to do."""
    finding = group.first
    yield from _said(result, group)
    if finding.evidence:
        yield evidence(finding.evidence)
    if source := cited(finding.source, finding.requirement):
        yield tag("p", source, class_="source")
    if finding.fix:
        yield tag("p", tag("strong", "Fix: "), prose(finding.fix), class_="fix")
    if finding.paste:
        lines = [join(line) for line in finding.paste.split("\n")]
        yield tag("p", "Put in place:", class_="paste-label")
        yield _block(Markup("\n".join(lines)), "To be copied", "paste wrapped")


def _said(result: CheckResult, group: Group) -> list[Markup]:
    if len(group.sentences) == 1:
        sentence = tag("p", prose(group.first.sentence))
        if group.obvious(result.domain):
            return [sentence]
        return [tag("p", ", ".join(group.subjects), class_="subjects"), sentence]
    items = []
    for member in group.members[:MAX_MEMBERS]:
        name = [] if member.subject in member.sentence else [tag("code", member.subject), " "]
        items.append(tag("li", *name, prose(member.sentence)))
    if rest := group.members[MAX_MEMBERS:]:
        names = ", ".join(dict.fromkeys(member.subject for member in rest))
        items.append(tag("li", f"and {len(rest)} more: {names}"))
    return [tag("ul", *items)]


def evidence(pieces: tuple[Evidence, ...]) -> Markup:
    """What was seen, with a caret under the place at fault."""
    lines = Markup("\n".join(line for piece in pieces for line in _piece(piece)))
    # A line that is broken would part a caret from its place: with one, the block scrolls instead.
    has_caret = any(piece.caret is not None for piece in pieces)
    return _block(lines, "Evidence", None if has_caret else "wrapped")


def _piece(piece: Evidence) -> Iterator[Markup]:
    label = f"{visible(piece.label)}: "
    shown, at = visible_at(piece.text, piece.caret)
    if at is None:
        yield join(tag("span", label, class_="label"), shown)
        return
    # The caret stands under the first character of what was at that place.
    mark = tag("mark", shown[at : at + 1]) if shown[at:] else Markup()
    yield join(tag("span", label, class_="label"), shown[:at], mark, shown[at + 1 :])
    blanks = " " * (len(label) + at)
    yield join(blanks, tag("span", "^", class_="caret", aria_hidden="true"))


def _block(content: Markup, label: str, class_: str | None = None) -> Markup:
    # It may scroll, so the keyboard has to get there.
    return tag("pre", content, class_=class_, tabindex="0", aria_label=label)


def good(result: CheckResult, level: int) -> Markup:
    """What is right, in short; empty without."""
    groups = arrange_findings(result, Severity.OK)
    if not groups:
        return Markup()
    items = [
        tag(
            "li",
            tag("strong", prose(group.first.title)),
            " ",
            tag("span", group.first.id, class_="id"),
            tag("br"),
            prose(group.first.sentence) if len(group.sentences) == 1 else "",
            " ",
            ""
            if group.obvious(result.domain)
            else tag("span", ", ".join(group.subjects), class_="faint"),
        )
        for group in groups
    ]
    title = tag(f"h{level}", "What is good", tag("small", str(len(groups))), class_="part")
    return tag("section", title, tag("ul", *items, class_="good-list"))


# ---- hosts and certificates ---------------------------------------------------------------------


def hosts(result: CheckResult, level: int) -> Markup:
    """Everything that was seen of each host, folded; empty without hosts."""
    if not result.hosts:
        return Markup()
    title = tag(f"h{level}", "Hosts and certificates", class_="part")
    return tag(
        "section", title, *(_host(result, host, level + 1) for host in result.hosts), class_="hosts"
    )


def _host(result: CheckResult, host: HostResult, level: int) -> Markup:
    base = f" at {host.tlsa_base_domain}" if host.tlsa_base_domain else ""
    facts = [
        ("Policy", policy_words(on_policy=host.on_policy)),
        ("DANE", f"{tlsa_words(result, host.tlsa_state)}{base}"),
        *(("TLSA", record) for record in host.tlsa),
    ]
    summary = tag("summary", tag("strong", host.name), f" preference {host.preference}")
    reasons = [said for said in result.verdicts if said.mx_host == host.name]
    inside = tag(
        "div",
        _facts(facts),
        *(_address(result, address, reasons, level) for address in host.addresses),
        class_="inside",
    )
    return tag("details", summary, inside)


def _facts(facts: list[tuple[str, str]]) -> Markup:
    entries = [join(tag("dt", name), tag("dd", value)) for name, value in facts if value]
    return tag("dl", *entries)


def _address(
    result: CheckResult, address: AddressResult, reasons: list[Verdict], level: int
) -> Markup:
    outcome = f"{address.outcome}, {address.unknown}" if address.unknown else address.outcome
    facts = [
        ("Session", f"{outcome} in {address.seconds:.1f} s"),
        ("Says it is", address.helo),
        ("Seen", address.detail),
        *(
            (SENDERS[said.sender].short, _verdict_words(said))
            for said in reasons
            if said.address == address.address
        ),
    ]
    return join(
        tag(f"h{level}", address.address),
        _facts(facts),
        *(_chain(result, chain) for chain in address.chains),
    )


def _verdict_words(said: Verdict) -> str:
    source = f" ({said.source})" if said.source else ""
    result_type = f" Reported as {said.result_type}." if said.result_type else ""
    return f"{PREDICTIONS[said.prediction].word}: {said.sentence}{source}{result_type}"


def _chain(result: CheckResult, chain: Chain) -> Markup:
    facts = [
        ("TLS", f"{chain.tls_version}, {chain.cipher}, SNI {chain.server_name}"),
        ("Web PKI", ", ".join(chain.pkix_problems) or "valid"),
        ("", chain.detail),
        ("DANE", chain.dane),
    ]
    return join(_facts(facts), *(_certificate(result, c) for c in chain.certificates))


def _certificate(result: CheckResult, certificate: Certificate) -> Markup:
    facts = [
        ("Subject", certificate.subject),
        ("Issuer", certificate.issuer),
        ("Names", ", ".join(certificate.dns_names)),
        ("Valid", validity(result, certificate)),
        ("Key", f"{certificate.key}, signed with {certificate.signature}"),
        ("SHA-256", certificate.sha256),
        ("Key digest", certificate.spki_sha256),
    ]
    return tag("div", _facts(facts), class_="certificate")
