"""What gRPC clients without an Envoy are told of each service, kept until it changes."""

from collections.abc import Iterable, Mapping

from wherry.model import route as api
from wherry.model.service import Service
from xds.builders import proxyless
from xds.builders.outbound import attached_to
from xds.resource import Resource


class Clients:
    """Listeners, routes and cluster of each service, as gRPC clients read them.

    Attributes:
        clusters: By service.
    """

    def __init__(self, services: Mapping[str, Service], routes: Iterable[api.HTTPRoute]) -> None:
        self._attached: dict[str, dict[str, api.HTTPRoute]] = {}
        self._known: dict[str, tuple[Resource, ...]] = {}
        self.clusters: dict[str, Resource] = {}
        for route in routes:
            self.attach(route)
        self.build(services, services)

    def detach(self, route: api.HTTPRoute) -> None:
        """Forget a route."""
        for service in attached_to(route):
            del self._attached[service][route.name]

    def attach(self, route: api.HTTPRoute) -> None:
        """Take up a route."""
        for service in attached_to(route):
            self._attached.setdefault(service, {})[route.name] = route

    def build(self, names: Iterable[str], services: Mapping[str, Service]) -> None:
        """Build what is told of the services ``names`` again."""
        for name in names:
            if (service := services.get(name)) is None:
                self._known.pop(name, None)
                self.clusters.pop(name, None)
                continue
            rules = None
            if attached := self._attached.get(name):
                rules = proxyless.meant(attached.values()).get(name, ())
            self._known[name] = (*proxyless.listeners(service), proxyless.routes(name, rules))
            self.clusters.setdefault(name, proxyless.cluster(name))

    def told(self, service: str) -> tuple[Resource, ...]:
        """Return what a client is told that may call ``service``, besides its cluster."""
        return self._known.get(service, ())
