"""Layers that many clients share: routes, and all there is to know of where they lead."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from xds.builders import proxyless
from xds.builders.difference import changed
from xds.builders.kept import Kept
from xds.builders.parts import Marks, Parts, Touched
from xds.builders.reach import Reach, of_api_gateway, of_function
from xds.builders.routes import OUTBOUND
from xds.resource import CLUSTER, ENDPOINT, Resource
from xds.snapshot import Layer


@dataclass(frozen=True, slots=True)
class Share:
    """What a shared layer holds; equal shares are one layer.

    Attributes:
        kind: For sidecars and for gRPC clients without an Envoy, what they need to call the
            services in reach by name; for Envoys of one gateway, its routes; for the egress, the
            routes of its members. Each with the clusters and endpoints of where its routes lead.
        reach: The services that sidecars and gRPC clients may call.
        gateway: The gateway.
    """

    kind: Literal["sidecar", "grpc", "gateway", "egress"]
    reach: Reach = None
    gateway: str = ""


class SharedLayer:
    """The layer of one share, kept true to the parts.

    Attributes:
        layer: As of the last update.
    """

    def __init__(self, share: Share, parts: Parts) -> None:
        self._share = share
        self._kept = Kept()
        self._told: Mapping[str, tuple[Resource, ...]] = {}
        self._ways: frozenset[Way] = frozenset()
        self._marks: Marks | None = None
        self._services: frozenset[str] = frozenset()
        self.layer = Layer.of(proxyless.nowhere() if share.kind == "grpc" else parts.platform)
        services = frozenset(parts.world.services)
        self.update(parts, Touched(services, services, services, ()))

    def update(self, parts: Parts, touched: Touched) -> None:
        """Take what an update of the parts changed."""
        self._rewrite(parts, touched.hosts)
        put, gone = self._kept.news()
        before = self._services
        if put or gone or touched.clusters:
            self._services = self._needed(parts)
            for name in before - self._services:
                gone += [(CLUSTER, name), (ENDPOINT, name)]
        come = self._services - before
        clusters, endpoints = touched.clusters | come, touched.endpoints | come
        put += self._about(parts, clusters & self._services, endpoints & self._services)
        if self._share.kind != "grpc":
            put += touched.platform
        self._marks = parts.marks
        self.layer = self.layer.changed(put, gone)

    def _rewrite(self, parts: Parts, hosts: frozenset[str]) -> None:
        """Take the routes; those of other services than ``hosts`` are as they were."""
        now, then, reach = parts.marks, self._marks, self._share.reach
        match self._share.kind:
            case "sidecar":
                for name in hosts if reach is None else hosts & reach:
                    self._kept.become(("", name), parts.outbound.scoped(name))
            case "grpc":
                for name in hosts if reach is None else hosts & reach:
                    self._kept.become(("", name), parts.clients.told(name))
            case "gateway":
                if then is None or now.routes != then.routes:
                    self._take_gateway(parts)
            case "egress":
                if then is None or hosts or _asks(now) != _asks(then):
                    self._take_egress(parts, hosts)

    def _take_gateway(self, parts: Parts) -> None:
        gateway = parts.world.gateways.get(self._share.gateway)
        ports = {each.port for each in gateway.spec.listeners} if gateway else ()
        told: dict[str, tuple[Resource, ...]] = {}
        for port in ports:
            told |= parts.ingress(self._share.gateway, port).told()
        for name in changed(self._told, told):
            self._kept.become(("", name), told.get(name, ()))
        self._told = told

    def _take_egress(self, parts: Parts, hosts: frozenset[str]) -> None:
        members = (None, *parts.around.functions)
        before, self._ways = self._ways, frozenset(way_out(parts, each) for each in members)
        for way, name in [key for key in self._kept.keys if key[0] not in self._ways]:
            self._kept.become((way, name), ())
        for way in self._ways:
            names = hosts if way in before else parts.reached(way.reach)
            if way.reach is not None:
                names &= way.reach
            if way.scoped:
                for name in names:
                    self._kept.become((way, name), parts.outbound.scoped(name, way.routes))
            elif names or way not in before:
                whole = parts.outbound.configuration(parts.reached(way.reach), way.routes)
                self._kept.become((way, ""), [whole])

    def _needed(self, parts: Parts) -> frozenset[str]:
        """Return the services of which it holds the clusters and endpoints."""
        services = parts.world.services.keys()
        if self._share.kind in {"sidecar", "grpc"}:
            reached = parts.reached(self._share.reach)
            return reached | (self._kept.clusters & services)
        return frozenset(self._kept.clusters & services)

    def _about(
        self, parts: Parts, clusters: Iterable[str], endpoints: Iterable[str]
    ) -> list[Resource]:
        grpc = self._share.kind == "grpc"
        known = parts.clients.clusters if grpc else parts.clusters
        built = parts.endpoints.built
        return [*(known[name] for name in clusters), *(built[name] for name in endpoints)]


@dataclass(frozen=True, slots=True)
class Way:
    """Where calls of a member of the egress find their routes.

    Attributes:
        routes: Name of a table of scopes, or of a route configuration.
        reach: What may be called.
        scoped: Whether it is a table of scopes.
    """

    routes: str
    reach: Reach
    scoped: bool


def way_out(parts: Parts, function: str | None) -> Way:
    """Return the way out of a function; None: of the API gateway.

    A function that says what it calls has few routes, and in one piece: so they stay when it no
    longer says so, until its listener has changed.
    """
    if function is None:
        return Way(f"{OUTBOUND}/gateway", of_api_gateway(parts.world), scoped=True)
    reach = of_function(parts.world, function)
    if reach is None:
        return Way(OUTBOUND, None, scoped=True)
    return Way(f"{OUTBOUND}/fn/{function}", reach, scoped=False)


def _asks(marks: Marks) -> tuple[int, int]:
    """Return what changes with the members of the egress, and with what they may call."""
    return marks.reach, marks.functions
