"""Workloads to the endpoints of the services that select them, found by what changed."""

from collections.abc import Iterable, Mapping

from wherry.model.service import Service
from xds.builders.checks import checked_service
from xds.builders.clusters import service_endpoints
from xds.builders.difference import middle
from xds.health.check import Target
from xds.resource import Resource
from xds.workload import Workload

APP = "app"
"""The label that every workload has: the service that it registered for."""


class Endpoints:
    """The endpoints of each service, kept until its workloads change.

    Attributes:
        built: By service.
    """

    def __init__(self) -> None:
        self.built: dict[str, Resource] = {}
        self._workloads: tuple[Workload, ...] = ()
        self._by_app: dict[str, dict[str, Workload]] = {}
        self._selecting: dict[str, set[str]] = {}
        self._apps: dict[str, str] = {}
        self._members: dict[str, tuple[Workload, ...]] = {}
        self._bad: dict[str, frozenset[tuple[str, int]]] = {}
        self._sick: dict[str, frozenset[Workload]] = {}

    def members(self, service: str) -> tuple[Workload, ...]:
        """Return the workloads behind ``service``, in the order of their ids."""
        return self._members.get(service, ())

    def update(
        self,
        services: Mapping[str, Service],
        changed: Iterable[str],
        workloads: tuple[Workload, ...],
        unhealthy: frozenset[Target] = frozenset(),
    ) -> frozenset[str]:
        """Take the newest services and workloads; return whose endpoints changed or went.

        Args:
            services: All of them.
            changed: Those that are new, gone or different.
            workloads: All that live.
            unhealthy: What of them is to get no requests.
        """
        affected = {name for name in changed if self._enlist(name, services.get(name))}
        for app in self._moved(workloads) | self._turned(unhealthy):
            affected |= self._selecting.get(app, set()) if app else services.keys()
            affected |= self._selecting.get("", set())
        touched = {name for name in changed if name not in services}
        for name in touched:
            self.built.pop(name, None)
            self._members.pop(name, None)
            self._sick.pop(name, None)
        for name in affected - touched:
            members = self._selected(services[name])
            sick = self._sick_of(members)
            before = self._members.get(name)
            if before == members and self._sick[name] == sick:
                continue
            if before != members:
                self._members[name] = members
            self._sick[name] = sick
            self.built[name] = service_endpoints(name, members, sick)
            touched.add(name)
        return frozenset(touched)

    def _enlist(self, name: str, service: Service | None) -> bool:
        """Note which app's workloads a service selects from; return whether it is there."""
        if (before := self._apps.pop(name, None)) is not None:
            self._selecting[before].discard(name)
        if service is None:
            return False
        app = service.spec.selector.get(APP, "")
        self._apps[name] = app
        self._selecting.setdefault(app, set()).add(name)
        return True

    def _moved(self, workloads: tuple[Workload, ...]) -> set[str]:
        """Take the newest workloads; return the apps of which some came, went or changed."""
        if workloads is self._workloads:
            return set()
        gone, come = middle(self._workloads, workloads)
        self._workloads = workloads
        for each in gone:
            del self._by_app[each.service][each.id]
        for each in come:
            self._by_app.setdefault(each.service, {})[each.id] = each
        return {each.service for each in (*gone, *come)}

    def _turned(self, unhealthy: frozenset[Target]) -> set[str]:
        """Take what is unhealthy; return the apps of which some turned, the empty one for all.

        A check that names a service is one of all programs of its app, by their addresses.
        """
        bad: dict[str, set[tuple[str, int]]] = {}
        for target in unhealthy:
            if (app := self._apps.get(checked_service(target))) is not None:
                bad.setdefault(app, set()).add((target[1].address, target[1].port))
        before = self._bad
        self._bad = {app: frozenset(places) for app, places in bad.items()}
        apps = before.keys() | bad.keys()
        return {app for app in apps if before.get(app) != self._bad.get(app)}

    def _sick_of(self, members: tuple[Workload, ...]) -> frozenset[Workload]:
        if not self._bad:
            return frozenset()
        everywhere = self._bad.get("", frozenset())
        return frozenset(
            w
            for w in members
            if (place := (w.address, w.port)) in everywhere or place in self._bad.get(w.service, ())
        )

    def _selected(self, service: Service) -> tuple[Workload, ...]:
        """Return the workloads that ``service`` selects, in the order of their ids."""
        wanted = service.spec.selector.items()
        app = service.spec.selector.get(APP)
        groups = self._by_app.values() if app is None else [self._by_app.get(app, {})]
        found = [w for group in groups for w in group.values() if wanted <= w.labels.items()]
        return tuple(sorted(found, key=lambda w: (w.id, w.service)))
