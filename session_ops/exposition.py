"""The metrics as Prometheus reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, core, generate_latest

from session_ops.metrics import BUCKETS, METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric as Family

    from session_ops.metrics import Metrics, Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(metrics: Metrics, samples: Iterable[Sample] = ()) -> bytes:
    """All metrics in the text format: what all workers have counted, and `samples` taken just now."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(metrics.sums(), samples))
    return generate_latest(registry)


class _Collector:
    """Hands the numbers to prometheus_client's text writer."""

    def __init__(self, sums: dict[tuple[str, ...], list[float]], samples: Iterable[Sample]) -> None:
        self._series: dict[str, list[tuple[tuple[str, ...], list[float]]]] = {}
        for (name, *labels), numbers in sums.items():
            self._series.setdefault(name, []).append((tuple(labels), numbers))
        for name, sample_labels, value in samples:
            self._series.setdefault(name, []).append((sample_labels, [value]))

    def collect(self) -> Iterator[Family]:
        """One family per metric that has a value."""
        for metric in METRICS:
            series = self._series.get(metric.name, [])
            if not series:
                continue
            if metric.kind == "histogram":
                histogram = core.HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
                for labels, numbers in series:
                    histogram.add_metric(labels, _cumulated(numbers), sum_value=numbers[-1])
                yield histogram
            elif metric.kind == "counter":
                counter = core.CounterMetricFamily(metric.name, metric.meaning, labels=metric.labels)
                for labels, numbers in series:
                    counter.add_metric(labels, numbers[0])
                yield counter
            else:
                gauge = core.GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
                for labels, numbers in series:
                    gauge.add_metric(labels, numbers[0])
                yield gauge


def _cumulated(numbers: list[float]) -> list[tuple[str, float]]:
    """Buckets as Prometheus wants them: each with all the smaller ones."""
    total = 0.0
    buckets: list[tuple[str, float]] = []
    for bound, number in zip((*map(str, BUCKETS), "+Inf"), numbers, strict=False):
        total += number
        buckets.append((bound, total))
    return buckets
