"""What Prometheus reads: requests, latency, the version that serves, swaps and failures."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.champion import Holder


class Metrics:
    """Counters of one app, in a registry of its own so that two apps in a process do not meet."""

    def __init__(self, holder: Holder) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "driftloop_api_requests", "Requests by path and status.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "driftloop_api_request_seconds", "Seconds until answered.", ["path"], registry=self._registry
        )
        self._swaps = Counter("driftloop_api_swaps", "Champions taken over.", registry=self._registry)
        self._failures = Counter("driftloop_api_swap_failures", "Failed takeovers.", registry=self._registry)
        self._looked = Gauge(
            "driftloop_api_last_look_timestamp_seconds", "When the registry last answered.", registry=self._registry
        )
        self._registry.register(_Model(holder))

    def request(self, path: str, status: int, seconds: float) -> None:
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def looked(self) -> None:
        self._looked.set_to_current_time()

    def swapped(self) -> None:
        self._swaps.inc()

    def swap_failed(self) -> None:
        self._failures.inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Model:
    """Read off the holder at each scrape, so a scrape during a swap sees one version and never none or two."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "driftloop_api_model_info", "1 for the version that serves.", labels=["loop", "version", "origin"]
        )
        since = GaugeMetricFamily("driftloop_api_model_since_timestamp_seconds", "When it began to serve.")
        if champion := self._holder.current:
            info.add_metric([champion.artifact.facts.loop, champion.version.number, champion.origin], 1)
            since.add_metric([], champion.since.timestamp())
        yield info
        yield since


class Measured:
    """ASGI middleware that counts each HTTP request under its route, never under the address a client made up."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            route = scope.get("route")
            self._metrics.request(getattr(route, "path", "unmatched"), status, time.perf_counter() - started)
