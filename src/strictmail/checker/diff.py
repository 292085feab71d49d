# SPDX-License-Identifier: Apache-2.0
"""What changed between two files of results: `strictmail check diff OLD NEW`.

A change is worse, better, or neither. What nobody could look at in one of the two runs is no
change: `unknown` is neither worse nor better than anything, except that a problem which is known
now and was not known before counts as worse.

====================  ===========================  =============================================
What is compared      By                           Worse
====================  ===========================  =============================================
status                the domain                   ok → warning → critical
findings              id and subject               a warning or critical one appears, or rises
verdicts              kind of sender               authenticated → encrypted → plaintext →
                                                   deferred → bounced
policy                mode, id, max_age, failure   enforce → testing → none or no valid policy
MX hosts              name                         never by itself: the findings say so
certificates          host, by fingerprint of the  never by itself
                      leaves seen in both runs
TLSA, TLSRPT          host; domain                 never by itself
====================  ===========================  =============================================
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from strictmail.checker.resultfile import ResultFile
from strictmail.checker.states import sts_is_unknown
from strictmail.core.check.result import Prediction, Severity
from strictmail.core.explain import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from strictmail.core.check.result import Certificate, CheckResult, Finding, HostResult

DIFF_SCHEMA_VERSION: Final = 1


class Direction(enum.StrEnum):
    """Which way something changed."""

    WORSE = "worse"
    BETTER = "better"
    NEUTRAL = "neutral"


class Subject(enum.StrEnum):
    """What a change is about."""

    STATUS = "status"
    FINDING = "finding"
    VERDICT = "verdict"
    POLICY = "policy"
    MX = "mx"
    CERTIFICATE = "certificate"
    TLSA = "tlsa"
    TLSRPT = "tlsrpt"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was.

    Attributes:
        about: What kind of thing.
        name: Which: the finding's id and subject, the kind of sender, `mode`, a host.
        old: How it was; "" for not there.
        new: How it is; "" for not there.
        direction: Which way.
    """

    about: Subject
    name: str
    old: str
    new: str
    direction: Direction = Direction.NEUTRAL


@dataclass(frozen=True, slots=True)
class DomainDiff:
    """What changed for one domain.

    Attributes:
        domain: Which.
        direction: Worse if anything got worse, else better if anything got better.
        changes: At least one.
    """

    domain: str
    direction: Direction
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed between two runs. Its size is that of the changes, not of the files.

    Attributes:
        schema: DIFF_SCHEMA_VERSION.
        same: Domains of both runs without a change.
        added: Domains of the new run alone.
        removed: Domains of the old run alone: not looked at again.
        changed: The rest, in order of domain.
    """

    schema: int
    same: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[DomainDiff, ...]

    @property
    def got_worse(self) -> bool:
        """Whether anything got worse."""
        return any(domain.direction is Direction.WORSE for domain in self.changed)


def diff_files(old: Path | str, new: Path | str) -> Diff:
    """Compare two files of results.

    Raises:
        OSError: One of them cannot be read.
        SyntaxFault: One of them is no file of results.
        SchemaTooNewError: A newer strictmail wrote one of them.
    """
    added: list[str] = []
    changed: list[DomainDiff] = []
    same = 0
    with ResultFile(old) as before, ResultFile(new) as after:
        for result in after.results():
            earlier = before.find(result.domain)
            if earlier is None:
                added.append(result.domain)
                continue
            found = diff_results(earlier, result)
            if found is None:
                same += 1
            else:
                changed.append(found)
        removed = tuple(domain for domain in before.domains() if after.find(domain) is None)
    return Diff(DIFF_SCHEMA_VERSION, same, tuple(added), removed, tuple(changed))


def diff_results(old: CheckResult, new: CheckResult) -> DomainDiff | None:
    """Compare two results for one domain; None if nothing changed."""
    changes = (
        *_status_changes(old, new),
        *_verdict_changes(old, new),
        *_finding_changes(old, new),
        *_policy_changes(old, new),
        *_host_changes(old, new),
        *_set_change(Subject.TLSRPT, "rua", old.tlsrpt.rua, new.tlsrpt.rua),
    )
    if not changes:
        return None
    directions = {change.direction for change in changes}
    order = (Direction.WORSE, Direction.BETTER, Direction.NEUTRAL)
    return DomainDiff(new.domain, next(d for d in order if d in directions), changes)


_SEVERITIES: Final[Mapping[str, int]] = {
    Severity.OK: 0,
    Severity.INFO: 0,
    Severity.WARNING: 1,
    Severity.CRITICAL: 2,
}
"""How bad each is; `unknown` and nothing at all are not in it."""

_PREDICTIONS: Final[Mapping[str, int]] = {
    Prediction.AUTHENTICATED: 0,
    Prediction.ENCRYPTED: 1,
    Prediction.PLAINTEXT: 2,
    Prediction.DEFERRED: 3,
    Prediction.BOUNCED: 4,
}

_MODES: Final[Mapping[str, int]] = {"enforce": 0, "testing": 1, "none": 2, "": 2}


def _direction(old: int | None, new: int | None, *, alarms: int | None = None) -> Direction:
    """Which way a rank went.

    Args:
        old: 0 is the best; None: unknown.
        new: The same.
        alarms: From this rank on, something that was unknown before is worse.
    """
    if old is None and new is not None and alarms is not None and new >= alarms:
        return Direction.WORSE
    if old is None or new is None or old == new:
        return Direction.NEUTRAL
    return Direction.WORSE if new > old else Direction.BETTER


def _status_changes(old: CheckResult, new: CheckResult) -> Iterator[Change]:
    if old.status is not new.status:
        direction = _direction(_SEVERITIES.get(old.status), _SEVERITIES.get(new.status), alarms=1)
        yield Change(Subject.STATUS, "status", old.status, new.status, direction)


def _verdict_changes(old: CheckResult, new: CheckResult) -> Iterator[Change]:
    before = {verdict.sender: verdict for verdict in old.senders}
    for verdict in new.senders:
        earlier = before.get(verdict.sender)
        if earlier is None or (earlier.prediction, earlier.by) == (verdict.prediction, verdict.by):
            continue
        direction = _direction(
            _PREDICTIONS.get(earlier.prediction), _PREDICTIONS.get(verdict.prediction)
        )
        yield Change(
            Subject.VERDICT,
            verdict.sender,
            " by ".join(filter(None, (earlier.prediction, earlier.by))),
            " by ".join(filter(None, (verdict.prediction, verdict.by))),
            direction,
        )


def _finding_changes(old: CheckResult, new: CheckResult) -> Iterator[Change]:
    before, after = _by_key(old.findings), _by_key(new.findings)
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        if was is not None and now is not None and was.severity == now.severity:
            continue
        direction = _direction(
            0 if was is None else _SEVERITIES.get(was.severity),
            0 if now is None else _SEVERITIES.get(now.severity),
            alarms=1,
        )
        yield Change(Subject.FINDING, " ".join(key), _say(was), _say(now), direction)


def _by_key(findings: Iterable[Finding]) -> dict[tuple[str, str], Finding]:
    """Findings by id and subject; the worst of several."""
    found: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        key = (finding.id, finding.subject)
        worst = found.setdefault(key, finding)
        if _SEVERITIES.get(finding.severity, -1) > _SEVERITIES.get(worst.severity, -1):
            found[key] = finding
    return found


def _say(finding: Finding | None) -> str:
    return "" if finding is None else f"{finding.severity}: {finding.title}"


def _policy_changes(old: CheckResult, new: CheckResult) -> Iterator[Change]:
    was, now = old.sts, new.sts
    if was.mode != now.mode:
        direction = _direction(_policy_rank(old), _policy_rank(new))
        yield Change(Subject.POLICY, "mode", was.mode, now.mode, direction)
    # The sentence of a failure names times and addresses: only its kind is compared.
    if (bool(was.failure), was.result_type) != (bool(now.failure), now.result_type):
        yield Change(Subject.POLICY, "failure", was.failure, now.failure)
    if was.policy_id != now.policy_id:
        yield Change(Subject.POLICY, "id", was.policy_id, now.policy_id)
    if was.max_age != now.max_age:
        yield Change(Subject.POLICY, "max_age", _number(was.max_age), _number(now.max_age))
    yield from _set_change(Subject.POLICY, "mx", was.mx_patterns, now.mx_patterns)


def _policy_rank(result: CheckResult) -> int | None:
    if not result.sts.mode and sts_is_unknown(result):
        return None
    return _MODES.get(result.sts.mode)


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _host_changes(old: CheckResult, new: CheckResult) -> Iterator[Change]:
    before = {host.name: host for host in old.hosts}
    after = {host.name: host for host in new.hosts}
    yield from _set_change(Subject.MX, "hosts", sorted(before), sorted(after))
    for name in sorted(before.keys() & after.keys()):
        was, now = before[name], after[name]
        if was.preference != now.preference:
            yield Change(Subject.MX, name, _number(was.preference), _number(now.preference))
        yield from _set_change(Subject.TLSA, name, was.tlsa, now.tlsa)
        leaves, newer = _leaves(was), _leaves(now)
        if leaves and newer and leaves.keys() != newer.keys():
            gone = [_say_leaf(leaf) for key, leaf in leaves.items() if key not in newer]
            came = [_say_leaf(leaf) for key, leaf in newer.items() if key not in leaves]
            yield Change(Subject.CERTIFICATE, name, ", ".join(gone), ", ".join(came))


def _leaves(host: HostResult) -> dict[str, Certificate]:
    """The certificates that a host presented, by fingerprint."""
    found = {
        chain.certificates[0].sha256: chain.certificates[0]
        for address in host.addresses
        for chain in address.chains
        if chain.certificates
    }
    return dict(sorted(found.items()))


def _say_leaf(leaf: Certificate) -> str:
    return f"{leaf.sha256[:16]} ({leaf.issuer}, until {leaf.not_after:%Y-%m-%d})"


def _set_change(
    about: Subject, name: str, old: Iterable[str], new: Iterable[str]
) -> Iterator[Change]:
    was, now = list(old), list(new)
    if sorted(was) != sorted(now):
        gone = [text for text in was if text not in now]
        came = [text for text in now if text not in was]
        yield Change(about, name, ", ".join(gone), ", ".join(came))


def render_diff(diff: Diff, fmt: str = "text") -> str:
    """Say a diff, as `text` or as one `json` object."""
    if fmt == "json":
        import msgspec

        document: dict[str, Any] = {**msgspec.to_builtins(diff), "worse": diff.got_worse}
        return msgspec.json.encode(document).decode()
    return "\n".join(_text_lines(diff))


def _text_lines(diff: Diff) -> Iterator[str]:
    counts = {
        direction: sum(domain.direction is direction for domain in diff.changed)
        for direction in Direction
    }
    yield (
        f"{counts[Direction.WORSE]:,} worse, {counts[Direction.BETTER]:,} better, "
        f"{counts[Direction.NEUTRAL]:,} changed otherwise, {diff.same:,} as before, "
        f"{len(diff.added):,} added, {len(diff.removed):,} removed"
    )
    for direction in Direction:
        for domain in diff.changed:
            if domain.direction is direction:
                yield ""
                yield from _domain_lines(domain)
    for title, domains in (("added", diff.added), ("removed", diff.removed)):
        if domains:
            yield ""
            yield f"{title}:"
            yield from (f"  {printable(domain)}" for domain in domains)


_MARKS: Final = {Direction.WORSE: "worse ", Direction.BETTER: "better", Direction.NEUTRAL: "      "}


def _domain_lines(domain: DomainDiff) -> Iterator[str]:
    word = "changed" if domain.direction is Direction.NEUTRAL else domain.direction
    yield f"{printable(domain.domain)}: {word}"
    for change in domain.changes:
        name = "" if change.about is Subject.STATUS else f" {printable(change.name)}"
        yield f"  {_MARKS[change.direction]}  {change.about}{name}: {_say_change(change)}"


def _say_change(change: Change) -> str:
    old, new = printable(change.old, 400), printable(change.new, 400)
    if not change.old:
        return f"new: {new}"
    if not change.new:
        return f"gone: {old}"
    return f"{old} -> {new}"
