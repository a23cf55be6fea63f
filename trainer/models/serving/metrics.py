"""The metrics of a server, in the format of Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counts of requests, their times, sizes of batches, and the lengths of queues."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "reprise_requests", "Requests, by endpoint and HTTP status", ("endpoint", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "reprise_request_seconds",
            "Seconds from a request's headers to the end of its response",
            ("endpoint",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "reprise_batch_samples", "Samples in a call of the program", buckets=_SIZES, registry=self._registry
        )
        self._gauges: list[Gauge] = []

    def add_request(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def add_batch(self, samples: int) -> None:
        """Record a call of the program with `samples` samples."""
        self._batches.observe(samples)

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Add a gauge. Its value is read each time the metrics are."""
        gauge = Gauge(name, description, registry=self._registry)
        gauge.set_function(value)
        self._gauges.append(gauge)

    def text(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self._registry)
