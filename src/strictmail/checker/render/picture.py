# SPDX-License-Identifier: Apache-2.0
"""A result arranged for the eye: equal rows of the verdict table together, findings by kind.

Pure arrangement: which things stand together and in which order. How it looks, each format knows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.checker.render.wording import SEVERITY_ORDER
from strictmail.core.check.result import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.core.check.result import (
        CheckResult,
        Finding,
        SenderClass,
        SenderVerdict,
        Verdict,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """MX hosts, or addresses of one, at which every kind of sender does the same.

    Attributes:
        hosts: (preference, name); the preference is None where the result does not have it.
        addresses: Of one host: those that are meant. Of several: all of theirs.
        cells: One for each of `senders` of the table; None where nothing was predicted.
    """

    hosts: tuple[tuple[int | None, str], ...]
    addresses: tuple[str, ...]
    cells: tuple[Verdict | None, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The verdict table.

    Attributes:
        senders: The kinds of sender that it has columns for.
        rows: In the order of the hosts.
    """

    senders: tuple[SenderClass, ...]
    rows: tuple[Row, ...]


def _look(cell: Verdict | None) -> tuple[str, ...]:
    """What has to be equal for two cells to be the same to a reader."""
    return () if cell is None else (cell.prediction, cell.by, cell.rule, cell.result_type)


def _looks(cells: Sequence[Verdict | None]) -> tuple[tuple[str, ...], ...]:
    return tuple(map(_look, cells))


def arrange_verdicts(result: CheckResult, *, apart: bool = False) -> Table:
    """The verdict table of a result.

    Args:
        result: Its verdicts may name hosts and addresses in any order.
        apart: Keep every address in a row of its own.
    """
    senders = tuple(dict.fromkeys(verdict.sender for verdict in result.verdicts))
    preferences = {host.name: host.preference for host in result.hosts}
    places: dict[str, dict[str, dict[SenderClass, Verdict]]] = {}
    for verdict in result.verdicts:
        addresses = places.setdefault(verdict.mx_host, {})
        addresses.setdefault(verdict.address, {})[verdict.sender] = verdict
    rows: list[Row] = []
    for name, addresses in places.items():
        host = ((preferences.get(name), name),)
        single = [
            Row(host, (address,) if address else (), tuple(map(said.get, senders)))
            for address, said in addresses.items()
        ]
        rows += single if apart else _merged(single)
    return Table(senders, tuple(rows if apart else _hosts_merged(rows)))


def _merged(rows: list[Row]) -> list[Row]:
    """Addresses of one host that look the same, in one row."""
    by_look: dict[tuple[tuple[str, ...], ...], list[Row]] = {}
    for row in rows:
        by_look.setdefault(_looks(row.cells), []).append(row)
    return [
        Row(same[0].hosts, tuple(a for row in same for a in row.addresses), same[0].cells)
        for same in by_look.values()
    ]


def _hosts_merged(rows: list[Row]) -> list[Row]:
    """Hosts that have one row each, and look the same, in one row."""
    row_counts = Counter(row.hosts for row in rows)
    merged: dict[object, Row] = {}
    for number, row in enumerate(rows):
        key = number if row_counts[row.hosts] > 1 else _looks(row.cells)
        before = merged.get(key)
        merged[key] = (
            row
            if before is None
            else Row(before.hosts + row.hosts, before.addresses + row.addresses, row.cells)
        )
    return list(merged.values())


def hosts_by_rank(row: Row) -> Iterator[str]:
    """The hosts of a row, a line for each preference: `10: a.example, b.example`."""
    for rank in dict.fromkeys(rank for rank, _ in row.hosts):
        names = ", ".join(name for other, name in row.hosts if other == rank)
        yield names if rank is None else f"{rank}: {names}"


@dataclass(frozen=True, slots=True)
class Group:
    """Findings of one kind with one remedy, about different things.

    Attributes:
        members: At least one.
    """

    members: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """Stands for what all of them share: id, severity, title, source, fix."""
        return self.members[0]

    @property
    def subjects(self) -> tuple[str, ...]:
        """What they are about, each once."""
        return tuple(dict.fromkeys(member.subject for member in self.members))

    def obvious(self, domain: str) -> bool:
        """Whether a reader knows what they are about without being told: all of it, or named."""
        said = self.first.sentence
        return self.subjects == (domain,) or all(f"`{name}`" in said for name in self.subjects)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What they say, each once."""
        return tuple(dict.fromkeys(member.sentence for member in self.members))


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of mail from one kind of sender.

    Attributes:
        verdict: As judged.
        reason: Sentence and section; without the host's name where `Fates.host` has it.
        alike: The first kind of sender that has the same reason; None for that one itself.
    """

    verdict: SenderVerdict
    reason: str
    alike: SenderClass | None


@dataclass(frozen=True, slots=True)
class Fates:
    """What becomes of mail from all of them.

    Attributes:
        host: The MX host that all of the reasons begin with, and so need not; "" without one.
        rows: In the order of the result.
    """

    host: str
    rows: tuple[Fate, ...]


def arrange_senders(result: CheckResult) -> Fates:
    """What becomes of mail, so that nothing is said twice."""
    names = (host.name for host in result.hosts)
    said = [verdict.sentence for verdict in result.senders]
    host = next((n for n in names if said and all(s.startswith(f"{n}: ") for s in said)), "")
    first: dict[str, SenderClass] = {}
    rows = []
    for verdict in result.senders:
        sentence = verdict.sentence[len(host) + 2 :] if host else verdict.sentence
        reason = f"{sentence} ({verdict.source})" if verdict.source else sentence
        alike = first.setdefault(reason, verdict.sender)
        rows.append(Fate(verdict, reason, None if alike is verdict.sender else alike))
    return Fates(host, tuple(rows))


FAULTS: Final = (Severity.CRITICAL, Severity.WARNING)


def arrange_findings(
    result: CheckResult, *severities: Severity, apart: bool = False
) -> tuple[Group, ...]:
    """The findings of some severities, the worst first, in groups.

    Args:
        result: Where they are.
        severities: Which.
        apart: Every finding in a group of its own.
    """
    chosen = [finding for finding in result.findings if finding.severity in severities]
    chosen.sort(key=lambda finding: SEVERITY_ORDER.index(finding.severity))
    groups: dict[object, list[Finding]] = {}
    for number, finding in enumerate(chosen):
        shared = (finding.severity, finding.id, finding.title, finding.source, finding.fix)
        key = number if apart else (*shared, finding.requirement, finding.paste)
        groups.setdefault(key, []).append(finding)
    return tuple(Group(tuple(members)) for members in groups.values())
