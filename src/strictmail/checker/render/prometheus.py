# SPDX-License-Identifier: Apache-2.0
"""Results in the Prometheus text format, for the textfile collector of node_exporter.

Gauges only: a check is a look at one moment. Every family appears once, whatever the number of
results; of two results for one domain the last counts.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from strictmail.checker.render.exits import CODES
from strictmail.checker.render.plain import visible
from strictmail.checker.render.wording import leaves

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.core.check.result import CheckResult

FAMILIES: Final = {
    "strictmail_check_status": (
        "Result of the check: 0 ok, 1 warning, 2 critical, 3 unknown.",
        ("domain",),
    ),
    "strictmail_check_findings": (
        "Number of findings of one kind.",
        ("domain", "severity", "id"),
    ),
    "strictmail_check_verdict": (
        "Always 1; the labels say what becomes of mail from one kind of sender.",
        ("domain", "sender", "prediction", "by", "certain"),
    ),
    "strictmail_check_host_verdict": (
        "Number of MX addresses where mail from one kind of sender ends in one way.",
        ("domain", "sender", "mx_host", "prediction"),
    ),
    "strictmail_check_certificate_not_after_seconds": (
        "When the certificate of an MX host expires, in seconds since the epoch.",
        ("domain", "mx_host", "address", "key_type"),
    ),
    "strictmail_check_policy_mode": (
        "Always 1; the label is the mode of the MTA-STS policy, empty without a valid one.",
        ("domain", "mode"),
    ),
    "strictmail_check_policy_max_age_seconds": (
        "The max_age of the MTA-STS policy.",
        ("domain",),
    ),
    "strictmail_check_duration_seconds": ("How long the check took.", ("domain",)),
    "strictmail_check_timestamp_seconds": (
        "When the check began, in seconds since the epoch.",
        ("domain",),
    ),
}
"""Name of each gauge: its meaning and its labels."""


class _Sample(NamedTuple):
    family: str
    labels: tuple[str, ...]
    value: float


def prometheus(results: Sequence[CheckResult]) -> str:
    """Render results as one exposition.

    Args:
        results: Any number; for none the exposition is empty.
    """
    latest = {result.domain: result for result in results}
    families: dict[str, list[_Sample]] = {name: [] for name in FAMILIES}
    for result in latest.values():
        for sample in _samples(result):
            families[sample.family].append(sample)
    return "".join(_family(name, samples) for name, samples in families.items() if samples)


def _family(name: str, samples: list[_Sample]) -> str:
    meaning, labels = FAMILIES[name]
    # Names that differ only in what cannot be shown become one series: the last value counts.
    series = {
        ",".join(
            f'{label}="{_escape(value)}"'
            for label, value in zip(labels, sample.labels, strict=True)
        ): sample.value
        for sample in samples
    }
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
    lines += [f"{name}{{{pairs}}} {value!r}" for pairs, value in series.items()]
    return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    # The format escapes backslash, quotation mark and line feed in a label's value.
    return visible(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _samples(result: CheckResult) -> Iterator[_Sample]:
    domain = result.domain
    yield _Sample("strictmail_check_status", (domain,), CODES[result.status])
    kinds = Counter((finding.severity, finding.id) for finding in result.findings)
    for (severity, kind), number in kinds.items():
        yield _Sample("strictmail_check_findings", (domain, severity, kind), number)
    for verdict in result.senders:
        certain = "yes" if verdict.certain else "no"
        yield _Sample(
            "strictmail_check_verdict",
            (domain, verdict.sender, verdict.prediction, verdict.by, certain),
            1,
        )
    places = Counter((said.sender, said.mx_host, said.prediction) for said in result.verdicts)
    for place, number in places.items():
        yield _Sample("strictmail_check_host_verdict", (domain, *place), number)
    for leaf, end in _ends(result).items():
        yield _Sample("strictmail_check_certificate_not_after_seconds", (domain, *leaf), end)
    yield _Sample("strictmail_check_policy_mode", (domain, result.sts.mode), 1)
    if result.sts.max_age is not None:
        yield _Sample("strictmail_check_policy_max_age_seconds", (domain,), result.sts.max_age)
    yield _Sample("strictmail_check_duration_seconds", (domain,), result.seconds)
    timestamp = result.checked_at.timestamp()
    yield _Sample("strictmail_check_timestamp_seconds", (domain,), timestamp)


def _ends(result: CheckResult) -> dict[tuple[str, str, str], float]:
    """The end of the leaf by host, address and key type; of several for one place the first."""
    ends: dict[tuple[str, str, str], float] = {}
    for host, address, key_type, certificate in leaves(result):
        place, end = (host.name, address, key_type), certificate.not_after.timestamp()
        ends[place] = min(end, ends.get(place, end))
    return ends
