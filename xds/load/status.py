"""What was reported, as pages and metrics read it: immutable and sorted."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from xds.load.report import Metric, Place


@dataclass(frozen=True, slots=True)
class PlaceLoad:
    """Requests from one node, or from all of them, to one place of a cluster.

    Attributes:
        place: Region, zone and sub-zone of the endpoints.
        issued: Requests that were sent, since the start.
        successes: Requests that ended well, since the start.
        errors: Requests that failed, since the start.
        in_progress: Requests that had not ended at the last report.
        rate: Requests a second, lately.
        error_rate: Failed requests a second, lately.
        metrics: Custom metrics since the start, sorted by name.
    """

    place: Place
    issued: int
    successes: int
    errors: int
    in_progress: int
    rate: float
    error_rate: float
    metrics: tuple[Metric, ...] = ()

    def __add__(self, other: "PlaceLoad") -> "PlaceLoad":
        metrics = {metric.name: metric for metric in self.metrics}
        for new in other.metrics:
            old = metrics.get(new.name, Metric(new.name, 0, 0.0))
            metrics[new.name] = Metric(new.name, old.requests + new.requests, old.total + new.total)
        return PlaceLoad(
            self.place,
            self.issued + other.issued,
            self.successes + other.successes,
            self.errors + other.errors,
            self.in_progress + other.in_progress,
            self.rate + other.rate,
            self.error_rate + other.error_rate,
            tuple(metrics[name] for name in sorted(metrics)),
        )


@dataclass(frozen=True, slots=True)
class ClusterLoad:
    """One cluster as one node, or as all of them, see it.

    Attributes:
        cluster: Name of the cluster.
        service: Its EDS service name, empty where it is the same.
        dropped: Requests that were dropped before a place was chosen, since the start.
        dropped_by: The same by category, sorted; what had no category is not in it.
        places: Sorted by place.
    """

    cluster: str
    service: str
    dropped: int
    dropped_by: tuple[tuple[str, int], ...]
    places: tuple[PlaceLoad, ...]

    def __add__(self, other: "ClusterLoad") -> "ClusterLoad":
        dropped_by = dict(self.dropped_by)
        for category, count in other.dropped_by:
            dropped_by[category] = dropped_by.get(category, 0) + count
        places = {place.place: place for place in self.places}
        for place in other.places:
            known = places.get(place.place)
            places[place.place] = known + place if known else place
        return replace(
            self,
            dropped=self.dropped + other.dropped,
            dropped_by=tuple(sorted(dropped_by.items())),
            places=tuple(places[key] for key in sorted(places)),
        )


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """All that one node reported.

    Attributes:
        node: Node id.
        node_cluster: What group it says it is of.
        connected: Whether it has a stream now.
        age_seconds: Since its last report; since it left, when it is not connected.
        clusters: Sorted by name and service.
    """

    node: str
    node_cluster: str
    connected: bool
    age_seconds: float
    clusters: tuple[ClusterLoad, ...]


def by_cluster(nodes: Iterable[NodeLoad]) -> tuple[ClusterLoad, ...]:
    """Return the clusters of all ``nodes`` together, sorted by name and service."""
    found: dict[tuple[str, str], ClusterLoad] = {}
    for node in nodes:
        for cluster in node.clusters:
            key = (cluster.cluster, cluster.service)
            found[key] = found[key] + cluster if key in found else cluster
    return tuple(found[key] for key in sorted(found))
