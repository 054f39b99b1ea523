"""Metrics of the server for Prometheus."""

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CACHE_FIGURES = ("hits", "misses", "bytes")
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.registry = registry = prometheus_client.CollectorRegistry()
        prometheus_client.disable_created_metrics()
        prometheus_client.ProcessCollector(registry=registry)
        prometheus_client.PlatformCollector(registry=registry)
        self.requests = Counter(
            "genrec_http_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "genrec_http_request_seconds", "Time to answer.", ("route",), buckets=SECONDS, registry=registry
        )
        self.open = Gauge("genrec_http_requests_open", "Requests under way.", registry=registry)
        self.lists = Counter("genrec_recommendations", "Lists computed.", ("bundle",), registry=registry)
        self.refused = Counter("genrec_refused", "Requests that were not computed.", ("reason",), registry=registry)
        self.batch_requests = Histogram(
            "genrec_batch_requests", "Requests of a batch.", ("bundle",), buckets=SIZES, registry=registry
        )
        self.batch_seconds = Histogram(
            "genrec_batch_seconds", "Time to search a batch.", ("bundle",), buckets=SECONDS, registry=registry
        )
        self.queue_seconds = Histogram(
            "genrec_queue_seconds", "Time that a request waited for the device.", buckets=SECONDS, registry=registry
        )
        self.waiting = Gauge("genrec_queue_requests", "Requests that wait for the device.", registry=registry)
        self.compilations = Gauge(
            "genrec_compilations", "Programs compiled since the start.", ("bundle",), registry=registry
        )
        self.encoded = Gauge(
            "genrec_encoded_histories",
            "Histories that were, or were not, in the cache of encoded ones, and its bytes.",
            ("bundle", "figure"),
            registry=registry,
        )
        self.info = Gauge(
            "genrec_bundle_info", "1 for the bundle that answers.", ("bundle", "version"), registry=registry
        )
        self.changes = Gauge("genrec_catalogue_change", "Number of the last change applied.", registry=registry)
        self.skipped = Counter(
            "genrec_catalogue_changes_skipped", "Changes that this bundle could not apply.", registry=registry
        )

    def forget(self, bundle: str) -> None:
        """Drops the figures that are read from a bundle which answers no more, and so the bundle."""
        self.compilations.remove(bundle)
        for figure in CACHE_FIGURES:
            self.encoded.remove(bundle, figure)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a request that was answered."""
        key = (method, route, status)
        if (known := self._children.get(key)) is None:
            known = self._children[key] = (self.requests.labels(*key), self.seconds.labels(route))
        known[0].inc()
        known[1].observe(seconds)

    def text(self) -> bytes:
        """Returns the metrics in the format of Prometheus."""
        return prometheus_client.generate_latest(self.registry)
