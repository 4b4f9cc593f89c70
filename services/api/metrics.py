"""What Prometheus reads: requests, latency, predictions, the version that serves, swaps, failures, the log."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from services.api.champion import Champion, Holder

# a compiled champion answers in tens of microseconds, a large batch in tenths of a second
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 2, 5, 10, 50, 100, 500, 1000, 5000, 10_000)
QUARTILES = ("q1", "q2", "q3", "q4")

Standing = Callable[[], dict[str, Any]]


class Metrics:
    """Counters of one app, in a registry of its own so that two apps in a process do not meet.

    With several workers each counts in files of its own (PROMETHEUS_MULTIPROC_DIR), and any of them sums them up.
    ``standing`` is what the scribe found out last: see ``services.api.scribe``.
    """

    def __init__(self, holder: Holder, standing: Standing = dict) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "driftloop_api_requests", "Requests by path and status.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "driftloop_api_request_seconds", "Seconds until answered.", ["path"], buckets=SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self._rows = Histogram(
            "driftloop_api_batch_rows", "Rows of a request that was scored.", buckets=ROWS, registry=self._registry
        )
        self._predictions = Counter(
            "driftloop_api_predictions",
            "Predictions by version and label; of a regression by the quartile of the version's sample they fall in.",
            ["version", "kind"],
            registry=self._registry,
        )
        self._swaps = Counter("driftloop_api_swaps", "Champions taken over.", registry=self._registry)
        self._failures = Counter("driftloop_api_swap_failures", "Failed takeovers.", registry=self._registry)
        self._lost = Counter(
            "driftloop_api_log_lost", "Requests lost because the disk took nothing or more waited than max_spool_mb.",
            registry=self._registry,
        )  # fmt: skip
        self._looked = Gauge(
            "driftloop_api_last_look_timestamp_seconds", "When the registry last answered.",
            registry=self._registry, multiprocess_mode="max",
        )  # fmt: skip
        self._own = _Standing(holder, standing)
        self._registry.register(self._own)
        # looking up a label costs as much as counting under it
        self._counter = lru_cache(256)(lambda path, status: self._requests.labels(path, str(status)))
        self._timer = lru_cache(64)(self._seconds.labels)
        self._kind = lru_cache(256)(self._predictions.labels)

    def request(self, path: str, status: int, seconds: float) -> None:
        """``path`` is a route's own, never an address that a client made up."""
        self._counter(path, status).inc()
        self._timer(path).observe(seconds)

    def predicted(self, champion: Champion, scores: Sequence[float], labels: Sequence[str | None]) -> None:
        self._rows.observe(len(scores))
        number = champion.version.number
        if champion.facts.labels is None:
            edges = champion.quartiles
            for score in scores:
                self._kind(number, QUARTILES[bisect_right(edges, score)]).inc()
        elif len(labels) == 1:
            self._kind(number, labels[0]).inc()
        else:
            for label in champion.facts.labels:
                self._kind(number, label).inc(labels.count(label))

    def looked(self) -> None:
        self._looked.set_to_current_time()

    def swapped(self) -> None:
        self._swaps.inc()

    def swap_failed(self) -> None:
        self._failures.inc()

    def lost(self, requests: int) -> None:
        self._lost.inc(requests)

    def text(self) -> bytes:
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        from prometheus_client.multiprocess import MultiProcessCollector

        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        together.register(self._own)
        return generate_latest(together)


class _Standing:
    """Read at each scrape, so a scrape during a swap sees one version and never none or two."""

    def __init__(self, holder: Holder, standing: Standing) -> None:
        self._holder, self._standing = holder, standing

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "driftloop_api_model_info", "1 for the version that serves.", labels=["loop", "version", "origin", "engine"]
        )
        since = GaugeMetricFamily("driftloop_api_model_since_timestamp_seconds", "When it began to serve.")
        if champion := self._holder.current:
            info.add_metric([champion.facts.loop, champion.version.number, champion.origin, champion.scorer.engine], 1)
            since.add_metric([], champion.since.timestamp())
        yield info
        yield since
        yield from _of_the_log(self._standing())


def _of_the_log(standing: dict[str, Any]) -> Iterator[Metric]:
    if log := standing.get("log"):
        for name, text in (
            ("lag_seconds", "Age of the oldest answer that the log's store does not hold yet."),
            ("waiting_bytes", "Answers that wait on disk for the log's store."),
            ("dropped", "Requests that the scribe dropped because more waited than max_spool_mb, since it started."),
            ("up", "1 while the log's store takes what it is given."),
        ):
            yield GaugeMetricFamily(f"driftloop_api_log_{name}", text, value=log[name])
    rows = GaugeMetricFamily("driftloop_api_live_rows", "Rows answered by a version.", labels=["version"])
    labelled = GaugeMetricFamily("driftloop_api_live_labelled", "Of those, rows whose label is in.", labels=["version"])
    metric = GaugeMetricFamily("driftloop_api_live_metric", "On the labelled rows.", labels=["version", "metric"])
    for version, live in standing.get("live", {}).items():
        rows.add_metric([version], live["rows"])
        labelled.add_metric([version], live["labelled"])
        if live["value"] is not None:
            metric.add_metric([version, live["metric"]], live["value"])
    yield from (rows, labelled, metric)
    if shadow := standing.get("shadow"):
        agreement = GaugeMetricFamily(
            "driftloop_api_shadow_agreement", "Share of rows to which challenger and champion gave one label.",
            labels=["version"],
        )  # fmt: skip
        difference = GaugeMetricFamily(
            "driftloop_api_shadow_difference", "Mean absolute difference of their scores.", labels=["version"]
        )
        if shadow["agreement"] is not None:
            agreement.add_metric([shadow["version"]], shadow["agreement"])
        if shadow["difference"] is not None:
            difference.add_metric([shadow["version"]], shadow["difference"])
        yield from (agreement, difference)
