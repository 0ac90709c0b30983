"""What the functions' workers do, as Prometheus metrics."""

from collections.abc import Iterable, Iterator
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

from faas.running.pool import Pool, Seen
from faas.running.tally import BOUNDS, Spread, Tally
from faas.running.workers import Workers
from faas.telemetry.journal import Journal

MOST_POOLS = 500
"""Most pools that are told one by one; the largest."""

_PREFIX = "wherry_faas_"
_VERSION = ("function", "version")


@dataclass(frozen=True, slots=True)
class Present:
    """What there is at one moment.

    Attributes:
        seen: Every pool.
        versions: Function and version of each pool, by its key.
        running: Calls in flight by function and version, those that wait included.
        provisioned: Instances that are up, and that should be, by function and version.
        account: Most calls at once of all functions together.
        dropped: Lines of log that came too fast.
        lost: Lines of log that no file took.
    """

    seen: Seen
    versions: dict[str, tuple[str, str]]
    running: dict[tuple[str, str], int]
    provisioned: dict[tuple[str, str], tuple[int, int]]
    account: int
    dropped: int = 0
    lost: int = 0

    @classmethod
    def of(cls, workers: Workers, journal: Journal | None = None) -> "Present":
        """Return what ``workers`` have at this moment."""
        return cls(
            workers.seen(),
            workers.versions(),
            dict(workers.shares.running),
            workers.all_provisioned(),
            workers.shares.account,
            sum(journal.dropped.values()) if journal else 0,
            journal.lost if journal else 0,
        )


def exposition(
    workers: Workers, journal: Journal | None = None, accept: str = ""
) -> tuple[str, bytes]:
    """Return the content type and the text that an ``Accept`` header asks for.

    Source: https://prometheus.io/docs/instrumenting/content_negotiation/
    """
    return written(families(workers.tally, Present.of(workers, journal)), accept)


def written(metrics: Iterable[Metric], accept: str) -> tuple[str, bytes]:
    """As `exposition`, of metrics that are at hand."""
    registry = CollectorRegistry()
    registry.register(_Given(metrics))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class _Given(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = tuple(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def families(tally: Tally, present: Present) -> Iterator[Metric]:
    """Yield every metric."""
    yield from _counted(tally)
    yield from _spread(tally)
    yield from _there(present)
    yield _counter("log_lines_dropped", "Lines that functions printed too fast.", present.dropped)
    yield _counter("log_lines_lost", "Lines of log that no file took.", present.lost)


def _counted(tally: Tally) -> Iterator[Metric]:
    calls = CounterMetricFamily(
        _PREFIX + "invocations",
        "Invocations that ended, by how their instance came by.",
        labels=[*_VERSION, "start"],
    )
    for (version, kind), count in sorted(tally.calls.items()):
        calls.add_metric([*version, kind.value], count)
    yield calls
    errors = CounterMetricFamily(
        _PREFIX + "errors", "Invocations that failed.", labels=[*_VERSION, "error"]
    )
    for (version, error), count in sorted(tally.errors.items()):
        errors.add_metric([*version, error], count)
    yield errors
    throttles = CounterMetricFamily(
        _PREFIX + "throttles", "Invocations that were turned away.", labels=[*_VERSION, "reason"]
    )
    for (version, reason), count in sorted(tally.throttles.items()):
        throttles.add_metric([*version, reason], count)
    yield throttles
    spilled = CounterMetricFamily(
        _PREFIX + "provisioned_spillover",
        "Invocations beyond provisioned concurrency.",
        labels=_VERSION,
    )
    for version, count in sorted(tally.spilled.items()):
        spilled.add_metric(version, count)
    yield spilled
    yield _counter("given_back", "Idle instances that ended for their memory.", tally.given_back)
    yield _counter(
        "given_back_bytes", "Memory that they were seen to use.", tally.given_back_mib << 20
    )


def _spread(tally: Tally) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        _PREFIX + "duration_seconds", "What invocations took.", labels=_VERSION
    )
    for version, spread in sorted(tally.durations.items()):
        durations.add_metric(version, _buckets(spread), spread.seconds)
    yield durations
    starts = HistogramMetricFamily(
        _PREFIX + "start_seconds", "What instances took to come up.", labels=["start"]
    )
    for kind, spread in sorted(tally.starts.items()):
        starts.add_metric([kind.value], _buckets(spread), spread.seconds)
    yield starts
    waits = HistogramMetricFamily(
        _PREFIX + "wait_seconds", "What invocations waited for an instance."
    )
    waits.add_metric([], _buckets(tally.waits), tally.waits.seconds)
    yield waits


def _there(present: Present) -> Iterator[Metric]:
    instances = GaugeMetricFamily(
        _PREFIX + "instances", "Instances by what they do.", labels=[*_VERSION, "state"]
    )
    queued = GaugeMetricFamily(
        _PREFIX + "queue", "Invocations that wait for an instance.", labels=_VERSION
    )
    target = GaugeMetricFamily(
        _PREFIX + "target", "Instances that the rate of calls asks for.", labels=_VERSION
    )
    for version, pool in _largest(present):
        for state, count in _states(pool).items():
            instances.add_metric([*version, state], count)
        queued.add_metric(version, pool.waiting)
        target.add_metric(version, pool.target)
    yield from (instances, queued, target)
    yield GaugeMetricFamily(_PREFIX + "instances_limit", "Most instances.", present.seen.total)
    running = GaugeMetricFamily(_PREFIX + "concurrency", "Invocations in flight.", labels=_VERSION)
    for version, count in sorted(present.running.items()):
        running.add_metric(version, count)
    yield running
    yield GaugeMetricFamily(_PREFIX + "concurrency_limit", "Most of them.", present.account)
    provisioned = GaugeMetricFamily(
        _PREFIX + "provisioned", "Provisioned instances.", labels=[*_VERSION, "state"]
    )
    for version, (up, wanted) in sorted(present.provisioned.items()):
        provisioned.add_metric([*version, "ready"], up)
        provisioned.add_metric([*version, "wanted"], wanted)
    yield provisioned
    if (memory := present.seen.memory) is not None:
        yield GaugeMetricFamily(
            _PREFIX + "memory_available_bytes", "Of the host.", memory.available_mib << 20
        )
        yield GaugeMetricFamily(
            _PREFIX + "memory_floor_bytes", "Kept available.", memory.floor_mib << 20
        )


def _largest(present: Present) -> list[tuple[tuple[str, str], Pool]]:
    """Return the largest pools; those of one version, such as an old and a new one, added up."""
    pools: dict[tuple[str, str], Pool] = {}
    for key, pool in present.seen.pools.items():
        version = present.versions[key]
        pools[version] = _sum(pools[version], pool) if version in pools else pool
    ordered = sorted(pools.items(), key=lambda item: (-item[1].size - item[1].waiting, item[0]))
    return ordered[:MOST_POOLS]


def _sum(one: Pool, other: Pool) -> Pool:
    return Pool(
        waiting=one.waiting + other.waiting,
        starting=one.starting + other.starting,
        busy=one.busy + other.busy,
        idle_since={**one.idle_since, **other.idle_since},
        limit=max(one.limit, other.limit),
        ending=one.ending + other.ending,
        target=max(one.target, other.target),
    )


def _states(pool: Pool) -> dict[str, int]:
    return {
        "starting": pool.starting,
        "busy": pool.busy,
        "idle": len(pool.idle_since),
        "ending": pool.ending,
    }


def _buckets(spread: Spread) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
    totals = accumulate(spread.buckets)
    return [(bound, float(total)) for bound, total in zip(bounds, totals, strict=True)]


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, text, value)
