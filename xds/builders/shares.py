"""Layers that many clients share: routes, and all there is to know of where they lead."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from xds.builders.parts import Parts, Touched
from xds.builders.reach import Reach, of_api_gateway, of_function
from xds.builders.routes import OUTBOUND
from xds.resource import CLUSTER, ENDPOINT, Ref, Resource
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
        self._routes = _routes(share, parts)
        self._services = _services(share, parts, self._routes)
        self._marks = parts.marks
        put = [*self._routes, *self._about(parts, self._services, self._services)]
        self.layer = Layer.of(put if share.kind == "grpc" else [*put, *parts.platform])

    def update(self, parts: Parts, touched: Touched) -> None:
        """Take what an update of the parts changed."""
        put: list[Resource] = []
        gone: list[Ref] = []
        services = before = self._services
        if self._stale(parts, touched):
            routes = _routes(self._share, parts)
            kept = {(each.type_url, each.name) for each in routes}
            told = ((each.type_url, each.name) for each in self._routes)
            gone += [ref for ref in told if ref not in kept]
            put += routes
            services = _services(self._share, parts, routes)
            for name in before - services:
                gone += [(CLUSTER, name), (ENDPOINT, name)]
            self._routes, self._services = routes, services
        come = services - before
        put += self._about(
            parts, (touched.clusters | come) & services, (touched.endpoints | come) & services
        )
        if self._share.kind != "grpc":
            put += touched.platform
        self._marks = parts.marks
        self.layer = self.layer.changed(put, gone)

    def _stale(self, parts: Parts, touched: Touched) -> bool:
        """Return whether the routes may have to be written again."""
        now, then = parts.marks, self._marks
        match self._share.kind:
            case "gateway":
                return now.routes != then.routes
            case "egress":
                asked = (now.reach, now.functions) != (then.reach, then.functions)
                return asked or bool(touched.hosts)
            case _:
                reach = self._share.reach
                return bool(touched.hosts if reach is None else touched.hosts & reach)

    def _about(
        self, parts: Parts, clusters: Iterable[str], endpoints: Iterable[str]
    ) -> list[Resource]:
        grpc = self._share.kind == "grpc"
        known = parts.clients.clusters if grpc else parts.clusters
        built = parts.endpoints.built
        return [*(known[name] for name in clusters), *(built[name] for name in endpoints)]


def _routes(share: Share, parts: Parts) -> list[Resource]:
    """Return what a share holds besides clusters and endpoints of services."""
    match share.kind:
        case "sidecar":
            return [parts.outbound.configuration(parts.reached(share.reach))]
        case "grpc":
            return parts.clients.told(parts.reached(share.reach))
        case "gateway":
            gateway = parts.world.gateways.get(share.gateway)
            ports = {each.port for each in gateway.spec.listeners} if gateway else ()
            return [parts.ingress(share.gateway, port) for port in sorted(ports)]
        case "egress":
            members = (None, *sorted(parts.around.functions))
            ways = dict(way_out(parts, member) for member in members)
            return [
                parts.outbound.configuration(parts.reached(reach), name)
                for name, reach in ways.items()
            ]


def way_out(parts: Parts, function: str | None) -> tuple[str, Reach]:
    """Return the route configuration of a member of the egress, and what it may call.

    Args:
        parts: As of now.
        function: A function; None for the API gateway.
    """
    if function is None:
        return f"{OUTBOUND}/gateway", of_api_gateway(parts.world)
    reach = of_function(parts.world, function)
    return (OUTBOUND if reach is None else f"{OUTBOUND}/fn/{function}"), reach


def _services(share: Share, parts: Parts, routes: Iterable[Resource]) -> frozenset[str]:
    """Return the services of which a share holds the clusters and endpoints."""
    refs = frozenset[Ref]().union(*(each.refs for each in routes))
    named = {name for type_url, name in refs if type_url == CLUSTER}
    if share.kind in {"sidecar", "grpc"}:
        named |= parts.reached(share.reach)
    return frozenset(named & parts.world.services.keys())
