"""What the World becomes, piece by piece; each piece is kept until what it says changes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from wherry.model.world import World
from xds.builders import clusters
from xds.builders.checks import Checks, covered
from xds.builders.clients import Clients
from xds.builders.difference import changed
from xds.builders.endpoints import Endpoints
from xds.builders.ingress import Ingress
from xds.builders.listeners import POLICY, TELEMETRY
from xds.builders.outbound import Outbound, named_like
from xds.builders.reach import Reach, Sidecars
from xds.builders.rules import Entry, entries
from xds.builders.scopes import Surroundings
from xds.resource import Resource

NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Touched:
    """What an update changed, as names of services.

    Attributes:
        clusters: Whose cluster is new, gone or different.
        endpoints: Whose endpoints are.
        hosts: Whose virtual host is.
        platform: Clusters of Wherry's own services that are different.
    """

    clusters: frozenset[str]
    endpoints: frozenset[str]
    hosts: frozenset[str]
    platform: tuple[Resource, ...]


@dataclass(frozen=True, slots=True)
class Marks:
    """Numbers that change when a part of the World does.

    Attributes:
        services: Which services there are.
        routes: HTTPRoutes and gateways.
        access: Policies.
        reach: Who may call what.
        functions: Which functions are deployed.
    """

    services: int = 0
    routes: int = 0
    access: int = 0
    reach: int = 0
    functions: int = 0


class Parts:
    """The pieces of a World and its surroundings.

    Attributes:
        world: The World that they were made from.
        around: What else they were made from.
        clusters: By service.
        endpoints: Of services.
        checks: What of them is to be checked.
        outbound: Virtual hosts of services.
        platform: Clusters of Wherry's own services.
        sidecars: Who may call what.
        guarded: Names of API products by the program that they guard.
        grpc: Programs that speak gRPC, by the name that they register for.
        marks: What changed since an earlier look.
    """

    def __init__(self) -> None:
        nowhere = ("", 0)
        self.world = World()
        self.around = Surroundings((), frozenset(), nowhere, nowhere)
        self.clusters: dict[str, Resource] = {}
        self.endpoints = Endpoints()
        self.checks = Checks()
        self.outbound = Outbound()
        self.platform: tuple[Resource, ...] = ()
        self.sidecars = Sidecars(self.world)
        self.guarded = self.world.guarded()
        self.grpc = NONE
        self._calls = NONE
        self.marks = Marks()
        self._covered = NONE
        self._entries: dict[str, tuple[Entry, ...]] = {}
        self._ports: dict[tuple[str, int], Ingress] = {}
        self._clients: Clients | None = None

    def ingress(self, gateway: str, port: int) -> Ingress:
        """Return what there is to say of a gateway's port."""
        made = self._ports.get((gateway, port))
        if made is None:
            made = self._ports[gateway, port] = Ingress(self.world.gateways[gateway], port)
            for name, route in self.world.http_routes.items():
                made.attach(route, self._entries[name])
        return made

    @property
    def clients(self) -> Clients:
        """What gRPC clients without an Envoy are told."""
        if self._clients is None:
            self._clients = Clients(self.world.services, self.world.http_routes.values())
        return self._clients

    def reached(self, reach: Reach) -> frozenset[str]:
        """Return the services that there are in reach."""
        services = self.world.services.keys()
        return frozenset(services if reach is None else reach & services)

    def update(self, world: World, around: Surroundings) -> Touched:
        """Take the newest World and surroundings; build again what they change."""
        before, self.world = self.world, world
        services = built = hosts = NONE
        functions = around.functions != self.around.functions
        self.marks = replace(self.marks, functions=self.marks.functions + functions)
        if world is not before:
            services = changed(before.services, world.services)
            hosts = self._take(before, services)
            built = self._build_clusters(before, services)
        endpoints = self.endpoints.update(
            world.services, services, around.workloads, around.unhealthy
        )
        self.checks.update(world.health_checks, endpoints, self.endpoints.members)
        return Touched(built, endpoints, hosts, self._surround(around))

    def _take(self, before: World, services: frozenset[str]) -> frozenset[str]:
        """Build what follows from the World alone; return the services with another host."""
        world, marks = self.world, self.marks
        routes = changed(before.http_routes, world.http_routes)
        gateways = changed(before.gateways, world.gateways)
        access = _changed(before, world, "authorization_policies", "check_policies", "products")
        reach = _changed(before, world, "sidecars", "products", "functions")
        if services or reach:
            self.sidecars = Sidecars(world)
            self.guarded = world.guarded()
        self.marks = Marks(
            marks.services + bool(services),
            marks.routes + bool(routes or gateways),
            marks.access + access,
            marks.reach + reach,
            marks.functions,
        )
        for key in [key for key in self._ports if key[0] in gateways]:
            del self._ports[key]
        routes |= self._spoken(services)
        hosts = self._reattach(before, routes).union(*map(named_like, services))
        self.outbound.build(hosts, world.services)
        if self._clients is not None:
            self._clients.build(hosts, world.services)
        return hosts

    def _spoken(self, services: frozenset[str]) -> frozenset[str]:
        """Note who speaks gRPC; return the routes to services of which that is another answer."""
        if not services:
            return NONE
        calls = {name for name, each in self.world.services.items() if each.spec.grpc}
        other, self._calls = self._calls ^ calls, frozenset(calls)
        self.grpc = frozenset(
            self.world.services[name].spec.selector.get("app", name) for name in calls
        )
        if not other:
            return NONE
        return frozenset(
            name
            for name, route in self.world.http_routes.items()
            if any(each.name in other for rule in route.spec.rules for each in rule.backend_refs)
        )

    def _build_clusters(self, before: World, services: frozenset[str]) -> frozenset[str]:
        """Build the clusters of changed services, and of those newly or no longer checked.

        Returns:
            All of them.
        """
        world = self.world
        known = self._covered
        if services or changed(before.health_checks, world.health_checks):
            known, self._covered = self._covered, covered(world.health_checks, world.services)
        touched = services | (known ^ self._covered)
        for name in touched:
            if name in world.services:
                checked = name in self._covered
                self.clusters[name] = clusters.service_cluster(
                    world.services[name], checked=checked
                )
            else:
                del self.clusters[name]
        return touched

    def _reattach(self, before: World, names: Iterable[str]) -> frozenset[str]:
        """Exchange routes; return the services whose virtual hosts they change."""
        hosts: frozenset[str] = frozenset()
        for name in names:
            old, new = before.http_routes.get(name), self.world.http_routes.get(name)
            if old is not None:
                gone = self._entries.pop(name)
                hosts |= self.outbound.detach(old, gone)
                for port in self._ports.values():
                    port.detach(old, gone)
                if self._clients is not None:
                    self._clients.detach(old)
            if new is not None:
                come = self._entries[name] = entries(new, self._calls)
                hosts |= self.outbound.attach(new, come)
                for port in self._ports.values():
                    port.attach(new, come)
                if self._clients is not None:
                    self._clients.attach(new)
        return hosts

    def _surround(self, around: Surroundings) -> tuple[Resource, ...]:
        before, self.around = self.around, around
        if self.platform and (before.telemetry, before.policy) == (around.telemetry, around.policy):
            return ()
        self.platform = (
            clusters.platform_cluster(TELEMETRY, *around.telemetry),
            clusters.platform_cluster(POLICY, *around.policy),
        )
        return self.platform


def _changed(before: World, after: World, *fields: str) -> bool:
    return any(changed(getattr(before, field), getattr(after, field)) for field in fields)
