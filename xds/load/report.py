"""What one load report says: immutable."""

from dataclasses import dataclass

Place = tuple[str, str, str]
"""Region, zone and sub-zone; all empty where none is configured."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A custom metric of the requests that ended.

    Attributes:
        name: As the upstream reported it.
        requests: How many of the requests carried it.
        total: Sum of its values.
    """

    name: str
    requests: int
    total: float


@dataclass(frozen=True, slots=True)
class Load:
    """What happened in one place within the interval of a report.

    Attributes:
        place: Where the endpoints are.
        issued: Requests that were sent.
        successes: Requests that ended well.
        errors: Requests that failed.
        in_progress: Requests that had not ended at the time of the report.
        metrics: Custom metrics.
    """

    place: Place = ("", "", "")
    issued: int = 0
    successes: int = 0
    errors: int = 0
    in_progress: int = 0
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """One cluster in one report.

    Attributes:
        cluster: Name of the cluster.
        service: Its EDS service name, empty where it is the same.
        seconds: What the client measured as the time since its last report; 0 when not given.
        loads: By place; one place may stand several times, once a priority.
        dropped: Requests that were dropped before a place was chosen.
        dropped_by: Categories and counts; what is dropped for no category is not in it.
    """

    cluster: str
    service: str
    seconds: float
    loads: tuple[Load, ...]
    dropped: int = 0
    dropped_by: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports, as it says.

    Attributes:
        id: Node id.
        cluster: Node cluster.
        features: What it can do.
    """

    id: str
    cluster: str = ""
    features: frozenset[str] = frozenset()
