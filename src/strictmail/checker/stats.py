# SPDX-License-Identifier: Apache-2.0
"""Adoption in figures: what the domains of a run publish, and what becomes of their mail.

Counts domains, each once, by the states of `checker.states`; addresses where it says so. Memory
does not grow with the file: what may have as many values as there are domains is counted on disk.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from strictmail.checker import states
from strictmail.checker.ondisk import Tallies
from strictmail.checker.resultfile import ResultFile
from strictmail.checker.states import DaneState, StarttlsState, StsState, TlsrptState
from strictmail.core.check.result import Prediction, SenderClass, Severity
from strictmail.core.explain import printable
from strictmail.core.mxset import MxStatus
from strictmail.store.registrable import registrable_domain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from strictmail.core.check.result import CheckResult

STATS_SCHEMA_VERSION: Final = 1

TOP: Final = 10
"""Operators and findings that are listed."""


@dataclass(frozen=True, slots=True)
class FindingCount:
    """How many domains have a finding.

    Attributes:
        id: Of the finding.
        severity: As found there; a kind with two has two rows.
        title: Of the kind.
        domains: How many.
    """

    id: str
    severity: Severity
    title: str
    domains: int


@dataclass(frozen=True, slots=True)
class Stats:
    """The figures of a run. Counts are of domains where nothing else is said.

    Attributes:
        schema: STATS_SCHEMA_VERSION.
        domains: All of them.
        with_mail: Those that take mail, or may: the base of DANE, STARTTLS and verdicts.
        first_at: When the first look began; None for an empty file.
        last_at: When the last one did.
        status: By `Severity`.
        mx: By `MxStatus`.
        dnssec: By state of the MX set.
        sts: By `StsState`.
        dane: By `DaneState`; of those with mail.
        tlsrpt: By `TlsrptState`.
        both: With a policy that enforces or tests, and TLSA records at all or some hosts.
        starttls: By `StarttlsState`; of those with mail.
        tls_versions: Addresses of MX hosts, once for each domain that uses them, by the version
            of the first session.
        receivers: By well-known receiver.
        operators: By registrable domain of the first MX host; the TOP most frequent.
        operator_count: How many there are.
        findings: The TOP most frequent ones that are no praise and no note.
        senders: By kind of sender: by what becomes of the mail; of those with mail.
    """

    schema: int
    domains: int
    with_mail: int
    first_at: datetime | None
    last_at: datetime | None
    status: Mapping[str, int]
    mx: Mapping[str, int]
    dnssec: Mapping[str, int]
    sts: Mapping[str, int]
    dane: Mapping[str, int]
    tlsrpt: Mapping[str, int]
    both: int
    starttls: Mapping[str, int]
    tls_versions: Mapping[str, int]
    receivers: Mapping[str, int]
    operators: Mapping[str, int]
    operator_count: int
    findings: tuple[FindingCount, ...]
    senders: Mapping[str, Mapping[str, int]]


def collect_stats(path: Path | str) -> Stats:
    """Count what a file of results says.

    Raises:
        OSError: It cannot be read.
        SyntaxFault: It is no file of results.
        SchemaTooNewError: A newer strictmail wrote it.
    """
    with ResultFile(path) as file:
        return count_results(file.results_as_written())


def count_results(results: Iterable[CheckResult]) -> Stats:
    """Count what results say; one for each domain."""
    with Tallies() as operators:
        counting = _Counting(operators)
        for result in results:
            counting.add(result)
        return counting.stats()


class _Counting:
    """The counters while a file is read."""

    def __init__(self, operators: Tallies) -> None:
        self._operators = operators
        self._domains = self._with_mail = self._both = 0
        self._first_at: datetime | None = None
        self._last_at: datetime | None = None
        self._counts: dict[str, Counter[str]] = {
            name: Counter()
            for name in (
                "status", "mx", "dnssec", "sts", "dane", "tlsrpt", "starttls", "tls", "receivers",
            )
        }  # fmt: skip
        self._findings: Counter[tuple[str, Severity, str]] = Counter()
        self._senders: dict[str, Counter[str]] = {}

    def add(self, result: CheckResult) -> None:
        """Count one domain."""
        counts = self._counts
        sts = states.sts_state(result)
        self._domains += 1
        self._first_at = min(self._first_at or result.checked_at, result.checked_at)
        self._last_at = max(self._last_at or result.checked_at, result.checked_at)
        counts["status"][result.status] += 1
        counts["mx"][result.mx_status] += 1
        counts["dnssec"][result.dnssec] += 1
        counts["sts"][sts] += 1
        counts["tlsrpt"][states.tlsrpt_state(result)] += 1
        self._findings.update(
            {
                (finding.id, finding.severity, finding.title)
                for finding in result.findings
                if finding.severity not in (Severity.OK, Severity.INFO)
            }
        )
        if states.takes_mail(result):
            self._add_mail(result, sts)

    def _add_mail(self, result: CheckResult, sts: StsState) -> None:
        counts = self._counts
        dane = states.dane_state(result)
        self._with_mail += 1
        counts["dane"][dane] += 1
        counts["starttls"][states.starttls_state(result)] += 1
        has_policy = sts in (StsState.ENFORCE, StsState.TESTING)
        self._both += has_policy and dane in (DaneState.FULL, DaneState.PARTIAL)
        for host in result.hosts:
            for address in host.addresses:
                if address.chains and states.has_tls(address):
                    counts["tls"][address.chains[0].tls_version] += 1
        if result.receiver:
            counts["receivers"][result.receiver] += 1
        if result.hosts:
            self._operators.add(registrable_domain(result.hosts[0].name))
        for verdict in result.senders:
            self._senders.setdefault(verdict.sender, Counter())[verdict.prediction] += 1

    def stats(self) -> Stats:
        """The figures."""
        counts = self._counts
        findings = sorted(self._findings.items(), key=lambda item: (-item[1], item[0]))[:TOP]
        return Stats(
            schema=STATS_SCHEMA_VERSION,
            domains=self._domains,
            with_mail=self._with_mail,
            first_at=self._first_at,
            last_at=self._last_at,
            status=_in_order(counts["status"], Severity),
            mx=_in_order(counts["mx"], (status.value for status in MxStatus)),
            dnssec=_in_order(counts["dnssec"]),
            sts=_in_order(counts["sts"], StsState),
            dane=_in_order(counts["dane"], DaneState),
            tlsrpt=_in_order(counts["tlsrpt"], TlsrptState),
            both=self._both,
            starttls=_in_order(counts["starttls"], StarttlsState),
            tls_versions=dict(sorted(counts["tls"].items(), reverse=True)),
            receivers=_in_order(counts["receivers"]),
            operators=dict(self._operators.top(TOP)),
            operator_count=len(self._operators),
            findings=tuple(FindingCount(*key, count) for key, count in findings),
            senders={
                str(kind): _in_order(self._senders[kind], Prediction)
                for kind in SenderClass
                if kind in self._senders
            },
        )


def _in_order(counter: Counter[str], words: Iterable[str] = ()) -> dict[str, int]:
    """The counts that are not zero, in the order of `words`; the rest behind, by frequency."""
    known = [str(word) for word in words]
    rest = [word for word, _ in sorted(counter.items(), key=lambda item: (-item[1], item[0]))]
    order = dict.fromkeys([*known, *map(str, rest)])
    return {word: counter[word] for word in order if counter[word]}


def share(count: int, total: int) -> str:
    """A part of a whole as `12.3%`; `-` of nothing."""
    return f"{100 * count / total:.1f}%" if total else "-"


def render_stats(stats: Stats, fmt: str = "text") -> str:
    """Say figures as `text`, `json`, or draw them as an `svg` picture or a whole `html` page."""
    if fmt == "json":
        return msgspec.json.encode(stats).decode()
    if fmt == "text":
        return "\n".join(_text_lines(stats))
    from strictmail.checker.statspage import render_html, render_svg

    return render_svg(stats) if fmt == "svg" else render_html(stats)


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the figures.

    Attributes:
        title: What is counted.
        counts: By what.
        total: What the shares are of.
    """

    title: str
    counts: Mapping[str, int]
    total: int


def sections(stats: Stats) -> Iterator[Section]:
    """The tables, in the order in which every format shows them."""
    yield Section("Status", stats.status, stats.domains)
    yield Section("MX", stats.mx, stats.domains)
    yield Section("MTA-STS", stats.sts, stats.domains)
    yield Section("TLSRPT", stats.tlsrpt, stats.domains)
    yield Section("DANE", stats.dane, stats.with_mail)
    yield Section("STARTTLS", stats.starttls, stats.with_mail)
    tls = sum(stats.tls_versions.values())
    yield Section("TLS version, by address", stats.tls_versions, tls)
    yield Section("Well-known receivers", stats.receivers, stats.with_mail)
    title = f"MX operators, the first {len(stats.operators)} of {stats.operator_count:,}"
    yield Section(title, stats.operators, stats.with_mail)


def _text_lines(stats: Stats) -> Iterator[str]:
    yield f"{stats.domains:,} domains, {stats.with_mail:,} of them with mail{when(stats)}"
    yield f"MTA-STS and DANE both: {stats.both:,} ({share(stats.both, stats.with_mail)})"
    for section in sections(stats):
        if section.counts:
            yield from _table(section.title, section.counts, section.total)
    for kind, counts in stats.senders.items():
        yield from _table(f"Mail from senders with: {kind}", counts, sum(counts.values()))
    if stats.findings:
        names = {
            f"{finding.id} {finding.severity}: {finding.title}": finding.domains
            for finding in stats.findings
        }
        yield from _table("Findings", names, stats.domains)


def when(stats: Stats) -> str:
    """`, checked 2026-01-01 to 2026-01-02`, or nothing."""
    if stats.first_at is None or stats.last_at is None:
        return ""
    first, last = f"{stats.first_at:%Y-%m-%d}", f"{stats.last_at:%Y-%m-%d}"
    return f", checked {first}" + (f" to {last}" if last != first else "")


def _table(title: str, counts: Mapping[str, int], total: int) -> Iterator[str]:
    words = {printable(word, 60): count for word, count in counts.items()}
    width = max(map(len, words))
    digits = max(len(f"{count:,}") for count in words.values())
    yield ""
    yield title
    for word, count in words.items():
        yield f"  {word:<{width}}  {count:>{digits},}  {share(count, total):>6}"
