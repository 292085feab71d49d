# SPDX-License-Identifier: Apache-2.0
"""Metrics in Prometheus' text format, read from plain numbers when they are asked for.

The hot paths count in plain integers; roles register a function for each metric that reads them.
prometheus_client is imported with the first scrape: a daemon that nobody scrapes never pays.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric as Family
    from prometheus_client.registry import CollectorRegistry

Reading = (
    float | Mapping[str, float] | Mapping[tuple[str, str], float] | Mapping[tuple[str, ...], float]
)
"""One number, or numbers by label value: a string for one label, a tuple for several."""


class MetricType(enum.StrEnum):
    """What Prometheus does with it."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """One metric: its type, what it counts, and the names of its labels."""

    type: MetricType
    help: str
    labels: tuple[str, ...] = ()


_COUNTER: Final = MetricType.COUNTER
_GAUGE: Final = MetricType.GAUGE

METRICS: Final[dict[str, MetricInfo]] = {
    "strictmail_answers_total": MetricInfo(
        _COUNTER,
        "Questions answered, by listener and by what the next-hop demands "
        "(in observe mode: what would have been answered).",
        ("listener", "level"),
    ),
    "strictmail_connections": MetricInfo(_GAUGE, "Open connections of MTAs.", ("listener",)),
    "strictmail_connections_total": MetricInfo(
        _COUNTER, "Connections of MTAs that were accepted.", ("listener",)
    ),
    "strictmail_connections_refused_total": MetricInfo(
        _COUNTER, "Connections closed at once since there were too many.", ("listener",)
    ),
    "strictmail_client_errors_total": MetricInfo(
        _COUNTER, "Requests that were no socketmap requests.", ("listener",)
    ),
    "strictmail_hot_replies": MetricInfo(_GAUGE, "Finished replies kept in memory.", ("listener",)),
    "strictmail_record_lookups_total": MetricInfo(
        _COUNTER, "Lookups of _mta-sts TXT records, by outcome.", ("status",)
    ),
    "strictmail_mx_lookups_total": MetricInfo(
        _COUNTER, "Lookups of MX sets, by outcome.", ("status",)
    ),
    "strictmail_policy_fetches_total": MetricInfo(
        _COUNTER, "Policy fetches, by outcome (ok, or the result type).", ("outcome",)
    ),
    "strictmail_late_answers_total": MetricInfo(
        _COUNTER, "Answers given at the deadline while a lookup went on.", ("what",)
    ),
    "strictmail_internal_errors_total": MetricInfo(
        _COUNTER, "Faults of strictmail itself; each has a log line."
    ),
    "strictmail_cached_policies": MetricInfo(_GAUGE, "Policies in the cache."),
    "strictmail_failing_policies": MetricInfo(
        _GAUGE, "Unexpired policies whose last refresh failed."
    ),
    "strictmail_failing_policy_days_left": MetricInfo(
        _GAUGE,
        "Days until the first of the policies whose refresh fails expires; absent when none does.",
    ),
    "strictmail_overrides": MetricInfo(_GAUGE, "Overrides in force."),
    "strictmail_store_available": MetricInfo(
        _GAUGE, "1 when the state directory can be written, 0 when answers come from memory only."
    ),
    "strictmail_resolver_validates": MetricInfo(
        _GAUGE, "1 when DNSSEC-validated answers can be trusted, 0 when DANE is off."
    ),
    "strictmail_sessions_total": MetricInfo(
        _COUNTER,
        "SMTP sessions counted for TLS reports, by who told of them and by result; `unverified`: "
        "judged by nobody, and reported only if a probe says more "
        "(strictmail_report_probed_sessions_total).",
        ("source", "result"),
    ),
    "strictmail_datagrams_total": MetricInfo(_COUNTER, "TLSRPT datagrams received."),
    "strictmail_datagrams_refused_total": MetricInfo(
        _COUNTER, "TLSRPT datagrams that were not counted, by reason.", ("reason",)
    ),
    "strictmail_sessions_unsaved": MetricInfo(
        _GAUGE, "Domains whose newest session counts are not stored yet."
    ),
    "strictmail_session_commits_total": MetricInfo(
        _COUNTER, "Transactions in which session counts were stored."
    ),
    "strictmail_drainer_restarts_total": MetricInfo(
        _COUNTER, "Processes that drain a TLSRPT socket and had to be started anew."
    ),
    "strictmail_session_store_available": MetricInfo(
        _GAUGE, "1 when session counts can be stored, 0 when they wait in memory."
    ),
    "strictmail_report_days_total": MetricInfo(
        _COUNTER,
        "Domains whose day was closed, by outcome (reported, or why not).",
        ("outcome",),
    ),
    "strictmail_report_days_open": MetricInfo(
        _GAUGE,
        "Domains whose day is over and cannot be closed: their record cannot be looked up, or a "
        "fault of ours forbids the report.",
        ("reason",),
    ),
    "strictmail_report_probes_total": MetricInfo(
        _COUNTER,
        "Verdicts of probes on testing policies, by outcome (`success`, `failure`, or why nothing was "
        "established); one look at a domain's MX hosts serves all its policies.",
        ("outcome",),
    ),
    "strictmail_report_probed_sessions_total": MetricInfo(
        _COUNTER,
        "Sessions that a probe established, by result, once under each policy. They were counted before, as `unverified`, "
        "in strictmail_sessions_total: do not add the two.",
        ("result",),
    ),
    "strictmail_report_late_sessions": MetricInfo(
        _GAUGE,
        "Sessions that came when the report of their day had been made; no report tells of them.",
    ),
    "strictmail_report_deliveries_total": MetricInfo(
        _COUNTER, "Attempts to deliver a report, by outcome.", ("outcome",)
    ),
    "strictmail_report_deliveries": MetricInfo(
        _GAUGE, "Deliveries in the outbox, by state.", ("state",)
    ),
    "strictmail_report_queue_age_seconds": MetricInfo(
        _GAUGE, "Age of the oldest report that waits to be sent; absent when none does."
    ),
    "strictmail_report_attempts_in_flight": MetricInfo(_GAUGE, "Reports being sent right now."),
    "strictmail_report_suppressions": MetricInfo(
        _GAUGE, "Destinations that are left alone for now."
    ),
    "strictmail_report_relay_available": MetricInfo(
        _GAUGE, "1 when the mail relay last took something from us, 0 when it did not; 1 at first."
    ),
    "strictmail_build_info": MetricInfo(_GAUGE, "1, with the running version.", ("version",)),
}
"""Name -> what it is; nothing else is exported, besides process_* of the process itself."""


class Metrics:
    """Where roles register what they count."""

    def __init__(self) -> None:
        self._read: dict[str, list[Callable[[], Reading]]] = {}
        self._registry: CollectorRegistry | None = None
        self.register("strictmail_build_info", lambda: {__version__: 1})

    def register(self, name: str, read: Callable[[], Reading]) -> None:
        """Add a source of a metric; several sources of one metric are shown together.

        Args:
            name: One of METRICS.
            read: Called at each scrape, on the loop that renders; must not block. An empty
                mapping leaves the metric out for now.

        Raises:
            KeyError: The table does not have the name: nothing undocumented is exported.
        """
        if name not in METRICS:
            raise KeyError(name)
        self._read.setdefault(name, []).append(read)

    def collect(self) -> Iterator[Family]:
        """Read every source (the interface of a prometheus_client collector)."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for name, sources in self._read.items():
            info = METRICS[name]
            family = CounterMetricFamily if info.type is MetricType.COUNTER else GaugeMetricFamily
            metric = family(name, info.help, labels=info.labels)
            for read in sources:
                for labels, value in _samples(read()):
                    metric.add_metric(labels, value)
            yield metric

    def render(self) -> bytes:
        """Everything in the text format; CONTENT_TYPE goes with it."""
        from prometheus_client import CollectorRegistry, ProcessCollector
        from prometheus_client.exposition import generate_latest

        if self._registry is None:
            self._registry = CollectorRegistry(auto_describe=False)
            self._registry.register(self)
            ProcessCollector(registry=self._registry)
        return generate_latest(self._registry)


CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def _samples(reading: Reading) -> Iterator[tuple[Sequence[str], float]]:
    if isinstance(reading, Mapping):
        for key, value in list(reading.items()):
            yield (key,) if isinstance(key, str) else key, value
    else:
        yield (), reading
