"""Istio's standard metrics, and our own, as OpenTelemetry instruments and Prometheus text.

Source: https://istio.io/latest/docs/reference/config/metrics/
"""

from collections.abc import Sequence

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    Counter,
    Histogram,
    MeterProvider,
)
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from telemetry.edge import UNKNOWN, Edge

BUCKETS_MS = (
    *(0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0),
    *(30_000.0, 60_000.0, 300_000.0, 600_000.0, 1_800_000.0, 3_600_000.0),
)
"""Upper bounds of the latency histogram, as Istio's proxies have them."""

REQUESTS = "istio_requests_total"
DURATION = "istio_request_duration_milliseconds"
ENTRIES = "wherry_access_log_entries_total"
STREAMS = "wherry_access_log_streams"


class Metrics:
    """Instruments of one telemetry service, in a registry of their own."""

    def __init__(self, *, max_edges: int = 10_000) -> None:
        """Expect at most ``max_edges`` edges and `telemetry.edge.OVERFLOW`."""
        self._registry = CollectorRegistry()
        limit = max_edges + 1
        reader = PrometheusMetricReader(
            disable_target_info=True,
            scope_info_enabled=False,
            registry=self._registry,
            cardinality_limits={Counter: limit, Histogram: limit},
        )
        buckets = ExplicitBucketHistogramAggregation(BUCKETS_MS, record_min_max=False)
        self._provider = MeterProvider(
            metric_readers=[reader],
            resource=Resource.get_empty(),
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
            views=[View(instrument_name=DURATION, aggregation=buckets)],
        )
        meter = self._provider.get_meter("wherry")
        self._requests = meter.create_counter(REQUESTS, description="Requests that ended.")
        self._duration = meter.create_histogram(
            DURATION, unit="ms", description="From a request's first byte to the answer's last."
        )
        self._entries = meter.create_counter(
            ENTRIES, description="Access log entries received, by what became of them."
        )
        self._streams = 0
        meter.create_observable_gauge(
            STREAMS, [self._observe_streams], description="Access log streams that are open."
        )
        self._labels: dict[Edge, dict[str, str]] = {}

    def record(self, edge: Edge, milliseconds: Sequence[float]) -> None:
        """Count a request of ``edge`` for each of ``milliseconds`` that one took."""
        labels = self._labels.get(edge)
        if labels is None:
            labels = self._labels[edge] = labels_of(edge)
        self._requests.add(len(milliseconds), labels)
        for each in milliseconds:
            self._duration.record(each, labels)

    def received(self, result: str, number: int) -> None:
        """Count ``number`` entries by ``result``.

        Args:
            result: ``counted``, ``overflow``, ``skipped``, or ``malformed`` for a whole message.
            number: 0 counts nothing.
        """
        if number:
            self._entries.add(number, {"result": result})

    def stream(self, change: int) -> None:
        """Note that a stream opened (+1) or ended (-1)."""
        self._streams += change

    def exposition(self, accept: str) -> tuple[str, bytes]:
        """Return the content type and the text that an ``Accept`` header asks for.

        Source: https://prometheus.io/docs/instrumenting/content_negotiation/
        """
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._registry)

    def close(self) -> None:
        """Release the instruments."""
        self._provider.shutdown()

    def _observe_streams(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(self._streams)]


def labels_of(edge: Edge) -> dict[str, str]:
    """Return Istio's labels for ``edge``.

    A workload is named ``SERVICE-VERSION``, as the service of that version is in routes.
    """
    return {
        "reporter": edge.reporter,
        "source_workload": _workload(edge.source, edge.source_version),
        "source_app": edge.source,
        "source_version": edge.source_version,
        "destination_workload": _workload(edge.destination, edge.destination_version),
        "destination_app": edge.destination,
        "destination_version": edge.destination_version,
        "destination_service": edge.destination,
        "destination_service_name": edge.destination,
        "request_protocol": edge.protocol,
        "response_code": str(edge.code),
        "response_flags": edge.flags,
    }


def _workload(service: str, version: str) -> str:
    return service if version == UNKNOWN else f"{service}-{version}"
