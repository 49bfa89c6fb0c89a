"""Metrics: counted cheaply by each process, summed by any of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from session_ops import shared_values
from session_ops.exposition import render
from session_ops.metrics import BUCKETS, METRICS, Metrics
from session_ops.shared_values import SharedValues

RUNS = "session_ops_cleanup_runs_total"
LATENCY = "session_ops_http_request_duration_seconds"


def parsed(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_names_follow_the_convention() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"session_ops_[a-z_]+", metric.name)
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert (metric.kind == "histogram") == metric.name.endswith("_seconds")
        assert (metric.kind == "info") == metric.name.endswith("_info")


def test_counters_of_several_processes_are_added_up(tmp_path: Path) -> None:
    one, other = Metrics(tmp_path, "worker-0"), Metrics(tmp_path, "worker-1")
    one.count(RUNS, "done", by=2)
    other.count(RUNS, "done")
    other.count(RUNS, "failed")
    values = parsed(render(one))
    assert values[RUNS, (("outcome", "done"),)] == 3
    assert values[RUNS, (("outcome", "failed"),)] == 1


def test_a_process_that_replaces_another_goes_on_where_it_was(tmp_path: Path) -> None:
    Metrics(tmp_path, "worker-0").count(RUNS, "done")
    Metrics(tmp_path, "worker-0").count(RUNS, "done")
    assert parsed(render(Metrics(tmp_path, "supervisor")))[RUNS, (("outcome", "done"),)] == 2


def test_a_histogram_has_cumulated_buckets_sum_and_count() -> None:
    metrics = Metrics()
    series = metrics.histogram(LATENCY, "GET", "/healthz", "200")
    for seconds in (0.0004, 0.0005, 0.02, 99.0):
        series.observe(seconds)
    values = parsed(render(metrics))
    labels = (("method", "GET"), ("route", "/healthz"), ("status", "200"))

    def bucket(bound: str) -> float:
        return values[f"{LATENCY}_bucket", tuple(sorted((*labels, ("le", bound))))]

    assert bucket("0.0005") == 2
    assert bucket("0.025") == 3
    assert bucket(str(BUCKETS[-1])) == 3
    assert bucket("+Inf") == values[f"{LATENCY}_count", labels] == 4
    assert values[f"{LATENCY}_sum", labels] == pytest.approx(99.0209)


def test_a_metric_that_is_not_in_the_table_cannot_be_counted() -> None:
    with pytest.raises(KeyError):
        Metrics().count("session_ops_surprise_total")
    with pytest.raises(ValueError, match="is a counter with labels"):
        Metrics().count(RUNS)


def test_a_full_file_costs_a_metric_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_values, "SIZE", 64)
    values = SharedValues(tmp_path / "a.values")
    values.view(("first",), 1)[0] += 1
    values.view(("second", "x" * 40), 4)[0] += 1
    assert values.sums() == {("first",): [1.0]}


def test_label_values_may_hold_anything(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, "a")
    metrics.histogram(LATENCY, 'G"\n', "ü/{x}", "200").observe(1)
    assert any('G"\n' in dict(labels).values() for _, labels in parsed(render(metrics)))


def test_the_guide_lists_every_metric_as_it_is() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        assert f"| `{metric.name}` | {metric.kind} | {labels} | {metric.scope} | {metric.meaning} |" in guide
    assert guide.count("\n| `session_ops_") == len(METRICS)
