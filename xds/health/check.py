"""What is to be checked, and how: immutable."""

from dataclasses import dataclass

from wherry.errors import WherryError

Place = tuple[str, str, str]
"""Region, zone and sub-zone; all empty where none is configured."""


class BadCheck(WherryError):
    """A check that cannot be asked of an Envoy."""


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where something listens: an IP address and a port, 1 to 65535."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Http:
    """A GET request that must be answered.

    Attributes:
        path: Begins with a slash.
        host: Host header; empty is the name of the cluster.
        statuses: First and last status that is good, pairs; empty is 200.
    """

    path: str
    host: str = ""
    statuses: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Tcp:
    """A connection that must be accepted."""


@dataclass(frozen=True, slots=True)
class Grpc:
    """A gRPC health check that must say SERVING.

    Attributes:
        service: What is asked about; empty is the server as a whole.
        authority: Value of the ``:authority`` header; empty is the name of the cluster.
    """

    service: str = ""
    authority: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """How endpoints are checked.

    Attributes:
        by: What is done.
        interval_seconds: Between two checks of an endpoint.
        timeout_seconds: Longest that one may take.
        unhealthy_after: So many failures in a row make an endpoint unhealthy; a refusing HTTP
            answer does at once.
        healthy_after: So many successes in a row make it healthy again.

    Raises:
        BadCheck: A number is not above 0, or the path of an HTTP check is none.
    """

    by: Http | Tcp | Grpc
    interval_seconds: float = 5.0
    timeout_seconds: float = 1.0
    unhealthy_after: int = 2
    healthy_after: int = 2

    def __post_init__(self) -> None:
        numbers = {
            "interval_seconds": self.interval_seconds,
            "timeout_seconds": self.timeout_seconds,
            "unhealthy_after": self.unhealthy_after,
            "healthy_after": self.healthy_after,
        }
        for name, number in numbers.items():
            if number <= 0:
                raise BadCheck(f"health check: {name} {number}, expected more than 0")
        if isinstance(self.by, Http) and not self.by.path.startswith("/"):
            raise BadCheck(f"health check: path {self.by.path!r}, expected one that starts with /")


@dataclass(frozen=True, slots=True)
class ClusterChecks:
    """Endpoints of one cluster and how they are checked.

    Attributes:
        cluster: Name of the cluster.
        checks: All of them must be good.
        endpoints: Each with its place.
    """

    cluster: str
    checks: tuple[Check, ...]
    endpoints: tuple[tuple[Endpoint, Place], ...]

    @property
    def first_seconds(self) -> float:
        """How long it takes at most until a new endpoint was checked once by each check."""
        return max(check.interval_seconds + check.timeout_seconds for check in self.checks)


Target = tuple[str, Endpoint]
"""One endpoint of one cluster, by the cluster's name."""
