"""What the Pilot does, as Prometheus metrics."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from xds.load.status import ClusterLoad
from xds.operators.inspect import SHORT
from xds.resource import TypeUrl
from xds.tally import BOUNDS, Tally

MOST_REFUSED = 200
"""Most refused resources that are listed one by one; their number is always whole."""
MOST_CLIENTS = 50
"""Most programs and versions that are counted apart; the others go under ``other``."""

MOST_LOADS = 500
"""Most clusters and places whose load is told; the busiest."""

OTHER = "other"
_PREFIX = "wherry_xds_"


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is at one moment.

    Attributes:
        streams: Open streams, by service and variant.
        unsettled: Clients that do not hold, or refuse, what is desired.
        scopes: Kinds of clients with a state of their own.
        proxies: Connected clients, by program and version.
        refused: How many resources are refused.
        named: Node, type's short name, name, and where it was written, of at most `MOST_REFUSED`
            of them.
    """

    streams: Mapping[tuple[str, str], int]
    unsettled: int
    scopes: int
    proxies: Mapping[tuple[str, str], int]
    refused: int
    named: tuple[tuple[str, str, str, str], ...]


def exposition(
    tally: Tally, seen: Seen, accept: str, loads: Iterable[ClusterLoad] = ()
) -> tuple[str, bytes]:
    """Return the content type and the text that an ``Accept`` header asks for.

    Args:
        tally: What was done so far.
        seen: What there is.
        accept: The header.
        loads: What clients report of the requests that they send, all of them together.

    Source: https://prometheus.io/docs/instrumenting/content_negotiation/
    """
    return written((*_counted(tally), *_present(seen), *_loaded(loads)), accept)


def written(families: Iterable[Metric], accept: str) -> tuple[str, bytes]:
    """As `exposition`, of metrics that are at hand."""
    registry = CollectorRegistry()
    registry.register(_Given(families))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class _Given(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _counted(tally: Tally) -> Iterator[Metric]:
    by_type = {
        "pushes": ("Responses sent.", tally.pushes),
        "sent_bytes": ("Bytes of responses sent.", tally.sent_bytes),
        "acks": ("Responses that clients accepted.", tally.acks),
        "nacks": ("Responses that clients refused.", tally.nacks),
    }
    for name, (text, counts) in by_type.items():
        family = CounterMetricFamily(_PREFIX + name, text, labels=["type"])
        for kind, count in sorted(_by_kind(counts).items()):
            family.add_metric([kind], count)
        yield family
    yield CounterMetricFamily(_PREFIX + "requests", "Requests read.", tally.requests)
    yield CounterMetricFamily(
        _PREFIX + "streams_delayed", "Streams that waited for others of their node.", tally.delayed
    )
    opened = CounterMetricFamily(
        _PREFIX + "streams_opened", "Streams opened.", labels=["service", "variant"]
    )
    for labels, count in sorted(tally.opened.items()):
        opened.add_metric(labels, count)
    yield opened
    refused = CounterMetricFamily(
        _PREFIX + "refused", "Streams and requests that were refused.", labels=["reason"]
    )
    for reason, count in sorted(tally.refused.items()):
        refused.add_metric([reason], count)
    yield refused
    totals = accumulate(tally.converged)
    bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
    yield HistogramMetricFamily(
        _PREFIX + "convergence_seconds",
        "From a change to a client that has it.",
        buckets=[(b, float(n)) for b, n in zip(bounds, totals, strict=True)],
        sum_value=tally.converged_seconds,
    )


def _by_kind(counts: Mapping[TypeUrl, int]) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for type_url, count in counts.items():
        kinds[SHORT.get(type_url, OTHER)] += count
    return kinds


def _present(seen: Seen) -> Iterator[Metric]:
    streams = GaugeMetricFamily(
        _PREFIX + "streams", "Streams that are open.", labels=["service", "variant"]
    )
    for labels, count in sorted(seen.streams.items()):
        streams.add_metric(labels, count)
    yield streams
    yield GaugeMetricFamily(
        _PREFIX + "unsettled", "Clients that do not hold what is desired.", seen.unsettled
    )
    yield GaugeMetricFamily(_PREFIX + "scopes", "States that clients share.", seen.scopes)
    proxies = GaugeMetricFamily(
        _PREFIX + "proxies", "Connected clients.", labels=["client", "version"]
    )
    for labels, count in sorted(_largest(seen.proxies).items()):
        proxies.add_metric(labels, count)
    yield proxies
    yield GaugeMetricFamily(
        _PREFIX + "refused_resources", "Resources that clients refuse.", seen.refused
    )
    each = GaugeMetricFamily(
        _PREFIX + "refused_resource",
        f"1 for each resource that a client refuses; at most {MOST_REFUSED}.",
        labels=["node", "type", "resource", "source"],
    )
    for place in seen.named[:MOST_REFUSED]:
        each.add_metric(place, 1)
    yield each


def _loaded(loads: Iterable[ClusterLoad]) -> Iterator[Metric]:
    """Yield gauges: what clients count starts anew with each of them, so totals may fall."""
    labels = ("cluster", "service", "locality")
    families = tuple(
        GaugeMetricFamily(f"{_PREFIX}load_{name}", text, labels=labels)
        for name, text in (
            ("requests_per_second", "Requests that clients send, lately."),
            ("errors_per_second", "Those of them that fail."),
            ("in_progress", "Requests that had not ended at the last report."),
        )
    )
    rows = [(load, place) for load in loads for place in load.places]
    rows.sort(key=lambda row: -row[1].rate)
    for load, place in rows[:MOST_LOADS]:
        labelled = [load.cluster, load.service, "/".join(place.place)]
        figures = (place.rate, place.error_rate, place.in_progress)
        for family, figure in zip(families, figures, strict=True):
            family.add_metric(labelled, figure)
    yield from families


def _largest(counts: Mapping[tuple[str, str], int]) -> Mapping[tuple[str, str], int]:
    ordered = sorted(counts, key=lambda key: (-counts[key], key))
    kept = {key: counts[key] for key in ordered[:MOST_CLIENTS]}
    if rest := sum(counts[key] for key in ordered[MOST_CLIENTS:]):
        kept[OTHER, OTHER] = kept.get((OTHER, OTHER), 0) + rest
    return kept
