# SPDX-License-Identifier: Apache-2.0
"""Metrics: read at the time of the scrape, escaped, and never undocumented."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from strictmail import __version__
from strictmail.runtime.metrics import METRICS, Metrics, MetricType

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(metrics: Metrics) -> Samples:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_numbers_are_read_when_asked_for() -> None:
    metrics, counts = Metrics(), {"none": 1}
    metrics.register("strictmail_record_lookups_total", lambda: counts)
    key = ("strictmail_record_lookups_total", (("status", "none"),))
    assert read(metrics)[key] == 1
    counts["none"] = 5
    assert read(metrics)[key] == 5


def test_several_sources_of_one_metric() -> None:
    metrics = Metrics()
    metrics.register("strictmail_answers_total", lambda: {("a", "may"): 2.0})
    metrics.register("strictmail_answers_total", lambda: {("b", "may"): 2.0})
    found = read(metrics)
    for listener in ("a", "b"):
        assert found["strictmail_answers_total", (("level", "may"), ("listener", listener))] == 2


def test_an_empty_mapping_leaves_it_out() -> None:
    metrics = Metrics()
    metrics.register("strictmail_failing_policy_days_left", dict)
    assert not any("days_left" in name for name, _ in read(metrics))


def test_label_values_are_escaped() -> None:
    metrics = Metrics()
    metrics.register("strictmail_policy_fetches_total", lambda: {'x"\n\\': 1})
    key = ("strictmail_policy_fetches_total", (("outcome", 'x"\n\\'),))
    assert read(metrics)[key] == 1


def test_the_process_and_the_version_are_there() -> None:
    found = read(Metrics())
    assert found["strictmail_build_info", (("version", __version__),)] == 1
    assert found["process_resident_memory_bytes", ()] > 0


def test_an_undocumented_metric_cannot_be_exported() -> None:
    with pytest.raises(KeyError):
        Metrics().register("strictmail_surprise", lambda: 1)


@pytest.mark.parametrize("name", METRICS)
def test_names_follow_the_conventions(name: str) -> None:
    info = METRICS[name]
    assert name.startswith("strictmail_")
    assert name.endswith("_total") == (info.type is MetricType.COUNTER)
    assert info.help.endswith(".")
