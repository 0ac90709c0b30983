"""Fold load reports into totals and rates by node, cluster and place, within bounds.

A report carries what happened since the one before, so totals are sums. A node that comes back
within the time that its totals are kept goes on from them.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from xds.load.report import ClusterReport, Load, Metric, Place, Reporter
from xds.load.status import ClusterLoad, NodeLoad, PlaceLoad

_SAMPLES = 12
"""How finely the window of a rate is divided."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is remembered.

    Attributes:
        nodes: Most nodes; more are refused.
        clusters: Most clusters (with their services) of one node.
        places: Most places of one cluster of one node.
        names: Most drop categories of one cluster, and most metrics of one place.
        rows: Most clusters and places of all nodes together.
        keep_seconds: How long totals stay after a node went, and a cluster's or a place's
            after it was last reported.
        rate_seconds: How far back rates look.
    """

    nodes: int = 10_000
    clusters: int = 5_000
    places: int = 64
    names: int = 64
    rows: int = 500_000
    keep_seconds: float = 300.0
    rate_seconds: float = 60.0


class _Sums:
    """Requests of one place: since the start, and in a window for the rate."""

    __slots__ = (
        "began",
        "errors",
        "in_progress",
        "issued",
        "last",
        "metrics",
        "successes",
        "taken",
    )

    def __init__(self, began: float) -> None:
        self.began = self.last = began
        self.issued = self.successes = self.errors = self.in_progress = 0
        self.metrics: dict[str, tuple[int, float]] = {}
        self.taken: deque[list[float]] = deque(maxlen=_SAMPLES + 1)

    def add(self, load: Load, at: float, step: float) -> None:
        self.last = at
        self.issued += load.issued
        self.successes += load.successes
        self.errors += load.errors
        self.in_progress += load.in_progress
        if not self.taken or at - self.taken[-1][0] >= step:
            self.taken.append([at, 0, 0])
        self.taken[-1][1] += load.issued
        self.taken[-1][2] += load.errors

    def rates(self, until: float, window: float) -> tuple[float, float]:
        """Return requests and errors a second over the ``window`` seconds before ``until``."""
        span = min(window, until - self.began)
        if span <= 0:
            return 0.0, 0.0
        recent = [each for each in self.taken if each[0] > until - window]
        return sum(each[1] for each in recent) / span, sum(each[2] for each in recent) / span


class _Cluster:
    __slots__ = ("dropped", "dropped_by", "last", "places")

    def __init__(self) -> None:
        self.last = 0.0
        self.dropped = 0
        self.dropped_by: dict[str, int] = {}
        self.places: dict[Place, _Sums] = {}


class _Node:
    __slots__ = ("clusters", "last", "reporter", "streams")

    def __init__(self, reporter: Reporter, now: float) -> None:
        self.reporter, self.last, self.streams = reporter, now, 0
        self.clusters: dict[tuple[str, str], _Cluster] = {}


class Rollup:
    """Totals of every node. For one task at a time; each ``now`` is seconds, never going back.

    Attributes:
        overflow: Clusters, places, categories and metrics in reports that no longer fitted and
            were not counted.
    """

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._nodes: dict[str, _Node] = {}
        self._rows = 0
        self.overflow = 0

    def joined(self, reporter: Reporter, *, now: float) -> bool:
        """Count a stream of ``reporter``; return False when there are too many nodes already."""
        node = self._nodes.get(reporter.id)
        if node is None:
            self.forget(now=now)
            if len(self._nodes) >= self._bounds.nodes:
                return False
            node = self._nodes[reporter.id] = _Node(reporter, now)
        node.reporter = reporter
        node.streams += 1
        return True

    def left(self, node_id: str, *, now: float) -> None:
        """Count the end of a stream; what was in progress is no longer known after the last."""
        node = self._nodes[node_id]
        node.streams -= 1
        node.last = now
        if not node.streams:
            for _, sums in _sums(node):
                sums.in_progress = 0

    def add(self, node_id: str, reports: Iterable[ClusterReport], *, now: float) -> None:
        """Add one report of a node that has joined."""
        node = self._nodes[node_id]
        since, node.last = node.last, now
        for report in reports:
            self._add_cluster(node, report, now, report.seconds or now - since)
        self._forget_rows(node, now)

    def forget(self, *, now: float) -> None:
        """Drop nodes that went long enough ago."""
        long_ago = now - self._bounds.keep_seconds
        for name, node in list(self._nodes.items()):
            if not node.streams and node.last <= long_ago:
                del self._nodes[name]
                self._rows -= len(node.clusters) + sum(1 for _ in _sums(node))

    def status(self, *, now: float) -> tuple[NodeLoad, ...]:
        """Return every node that is remembered, sorted by id."""
        return tuple(self.each(now=now))

    def each(self, *, now: float) -> Iterator[NodeLoad]:
        """Yield the same one by one, as each is by then; one that is forgotten meanwhile is not."""
        self.forget(now=now)
        for name in sorted(self._nodes):
            if (node := self._nodes.get(name)) is not None:
                yield self._status(node, now)

    def _add_cluster(self, node: _Node, report: ClusterReport, now: float, seconds: float) -> None:
        key = (report.cluster, report.service)
        cluster = node.clusters.get(key)
        if cluster is None:
            if len(node.clusters) >= self._bounds.clusters or self._rows >= self._bounds.rows:
                self.overflow += 1
                return
            cluster = node.clusters[key] = _Cluster()
            self._rows += 1
        cluster.last = now
        cluster.dropped += report.dropped
        for category, count in report.dropped_by:
            if self._fits(category, cluster.dropped_by):
                cluster.dropped_by[category] = cluster.dropped_by.get(category, 0) + count
        for sums in cluster.places.values():
            sums.in_progress = 0
        for load in report.loads:
            self._add_load(cluster, load, now, seconds)

    def _add_load(self, cluster: _Cluster, load: Load, now: float, seconds: float) -> None:
        sums = cluster.places.get(load.place)
        if sums is None:
            if len(cluster.places) >= self._bounds.places or self._rows >= self._bounds.rows:
                self.overflow += 1
                return
            sums = cluster.places[load.place] = _Sums(now - seconds)
            self._rows += 1
        sums.add(load, now, self._bounds.rate_seconds / _SAMPLES)
        for metric in load.metrics:
            if self._fits(metric.name, sums.metrics):
                requests, total = sums.metrics.get(metric.name, (0, 0.0))
                sums.metrics[metric.name] = (requests + metric.requests, total + metric.total)

    def _fits(self, name: str, known: dict[str, int] | dict[str, tuple[int, float]]) -> bool:
        if name in known or len(known) < self._bounds.names:
            return True
        self.overflow += 1
        return False

    def _forget_rows(self, node: _Node, now: float) -> None:
        long_ago = now - self._bounds.keep_seconds
        for key, cluster in list(node.clusters.items()):
            for place, sums in list(cluster.places.items()):
                if sums.last <= long_ago:
                    del cluster.places[place]
                    self._rows -= 1
            if cluster.last <= long_ago:
                del node.clusters[key]
                self._rows -= 1

    def _status(self, node: _Node, now: float) -> NodeLoad:
        return NodeLoad(
            node=node.reporter.id,
            node_cluster=node.reporter.cluster,
            connected=node.streams > 0,
            age_seconds=now - node.last,
            clusters=tuple(
                self._cluster_status(*key, node.clusters[key], node, now)
                for key in sorted(node.clusters)
            ),
        )

    def _cluster_status(
        self, name: str, service: str, cluster: _Cluster, node: _Node, now: float
    ) -> ClusterLoad:
        window = self._bounds.rate_seconds
        until = node.last if now - node.last <= window else now
        return ClusterLoad(
            cluster=name,
            service=service,
            dropped=cluster.dropped,
            dropped_by=tuple(sorted(cluster.dropped_by.items())),
            places=tuple(
                _place_status(place, cluster.places[place], until, window)
                for place in sorted(cluster.places)
            ),
        )


def _place_status(place: Place, sums: _Sums, until: float, window: float) -> PlaceLoad:
    rate, error_rate = sums.rates(until, window)
    return PlaceLoad(
        place=place,
        issued=sums.issued,
        successes=sums.successes,
        errors=sums.errors,
        in_progress=sums.in_progress,
        rate=rate,
        error_rate=error_rate,
        metrics=tuple(Metric(n, *sums.metrics[n]) for n in sorted(sums.metrics)),
    )


def _sums(node: _Node) -> Iterator[tuple[Place, _Sums]]:
    for cluster in node.clusters.values():
        yield from cluster.places.items()
