"""HealthChecks, and the workloads that they look at, to what Envoys are asked to check."""

from collections.abc import Callable, Iterable, Mapping

from wherry.model.health import HealthCheck, HealthCheckSpec, statuses
from wherry.model.resource import seconds
from wherry.model.service import Service
from xds.builders.difference import changed
from xds.health.check import Check, ClusterChecks, Endpoint, Grpc, Http, Place, Target, Tcp
from xds.workload import Workload

_PREFIX = "health/"
"""A cluster that is only checked; no service's name holds a slash.

An Envoy keeps figures for clusters by name: those of the checks are no part of those of calls.
"""

_NO_PLACE: Place = ("", "", "")

Members = Callable[[str], tuple[Workload, ...]]
"""Returns the workloads behind a service."""


class Checks:
    """What is to be checked, service by service, kept until it changes.

    Attributes:
        asked: All of it, sorted by cluster; the very same tuple until something of it changes.
    """

    def __init__(self) -> None:
        self.asked: tuple[ClusterChecks, ...] = ()
        self._resources: Mapping[str, HealthCheck] = {}
        self._by_service: dict[str, tuple[Check, ...]] = {}
        self._made: dict[str, ClusterChecks] = {}

    def update(
        self, resources: Mapping[str, HealthCheck], touched: Iterable[str], members: Members
    ) -> None:
        """Take the newest checks and workloads.

        Args:
            resources: All checks.
            touched: Services that are new or gone, or have other workloads than before.
            members: Returns the workloads behind a service.
        """
        stale = self._by_service.keys() & touched
        if resources is not self._resources and changed(self._resources, resources):
            found: dict[str, list[Check]] = {}
            for _, each in sorted(resources.items()):
                found.setdefault(each.spec.service, []).append(_check(each.spec))
            stale = self._by_service.keys() | found.keys()
            self._by_service = {service: tuple(checks) for service, checks in found.items()}
        self._resources = resources
        if not stale:
            return
        for service in stale:
            self._made.pop(service, None)
            if service in self._by_service and (workloads := members(service)):
                self._made[service] = _cluster(service, self._by_service[service], workloads)
        asked = tuple(self._made[service] for service in sorted(self._made))
        if asked != self.asked:
            self.asked = asked


def _cluster(
    service: str, checks: tuple[Check, ...], workloads: Iterable[Workload]
) -> ClusterChecks:
    endpoints = dict.fromkeys((Endpoint(w.address, w.port), _NO_PLACE) for w in workloads)
    return ClusterChecks(_PREFIX + service, checks, tuple(endpoints))


def checked_service(target: Target) -> str:
    """Return the service behind which a checked endpoint is."""
    return target[0].removeprefix(_PREFIX)


def covered(
    resources: Mapping[str, HealthCheck], services: Mapping[str, Service]
) -> frozenset[str]:
    """Return the services of which some workloads may be checked.

    A check looks at programs, so it counts for every service that selects them, whichever of
    their services it names.
    """
    apps = {
        services[check.spec.service].spec.selector.get("app")
        for check in resources.values()
        if check.spec.service in services
    }
    if not apps:
        return frozenset()
    if None in apps:
        return frozenset(services)
    return frozenset(
        name
        for name, service in services.items()
        if (app := service.spec.selector.get("app")) is None or app in apps
    )


def _check(spec: HealthCheckSpec) -> Check:
    return Check(
        _way(spec),
        seconds(spec.interval),
        seconds(spec.timeout),
        spec.unhealthy_threshold,
        spec.healthy_threshold,
    )


def _way(spec: HealthCheckSpec) -> Http | Grpc | Tcp:
    if spec.http is not None:
        good = tuple(map(statuses, spec.http.expected_statuses))
        return Http(spec.http.path, spec.http.host or spec.service, good)
    if spec.grpc is not None:
        return Grpc(spec.grpc.service, spec.service)
    return Tcp()
