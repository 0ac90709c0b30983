"""The virtual hosts of services: what calls inside the mesh find behind a service's name."""

from collections.abc import Iterable, Iterator, Mapping

from wherry.model import route as api
from wherry.model.service import Service
from xds.builders.routes import OUTBOUND, Host, Table, configuration, virtual_host
from xds.builders.rules import Entry, plain
from xds.builders.scoped import scope
from xds.resource import Resource


class Outbound:
    """A virtual host for each service, kept until something that it says changes.

    ``http://NAME/``, with any port, and ``http://NAME.localhost/`` lead to service NAME; rules of
    routes that are attached to it apply.

    Attributes:
        hosts: By service.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self._domains: dict[str, list[str]] = {}
        self._routes: dict[str, Resource] = {}
        self._table = Table()

    def detach(self, route: api.HTTPRoute, entries: Iterable[Entry]) -> frozenset[str]:
        """Forget a route; return the services whose hosts are to be built again."""
        services = attached_to(route)
        for service in services:
            self._table.remove(service, entries)
        return services

    def attach(self, route: api.HTTPRoute, entries: Iterable[Entry]) -> frozenset[str]:
        """Take up a route; return the services whose hosts are to be built again."""
        services = attached_to(route)
        for service in services:
            self._table.put(service, entries)
        return services

    def build(self, names: Iterable[str], services: Mapping[str, Service]) -> None:
        """Build the hosts of the services ``names`` again."""
        for name in names:
            if name in services:
                entries = self._table.at(name) or [plain(name, grpc=services[name].spec.grpc)]
                domains = self._domains[name] = _domains(name, services)
                host = self.hosts[name] = virtual_host(name, domains, entries, total=True)
                self._routes[name] = configuration(f"{OUTBOUND}/{name}", [host])
            else:
                self.hosts.pop(name, None)
                self._domains.pop(name, None)
                self._routes.pop(name, None)

    def scoped(self, service: str, table: str = OUTBOUND) -> Iterator[Resource]:
        """Yield the routes to a service, if it exists, and what leads to them on ``table``."""
        if (routes := self._routes.get(service)) is not None:
            yield routes
            for domain in self._domains[service]:
                yield scope(table, domain, routes.name, ("Service", service))

    def configuration(self, services: Iterable[str], name: str) -> Resource:
        """Return the routes to these services in one piece, in the order of their names."""
        return configuration(name, [self.hosts[service] for service in sorted(services)])


def named_like(service: str) -> frozenset[str]:
    """Return the services whose virtual hosts depend on whether ``service`` exists."""
    return frozenset({service, service.removesuffix(".localhost")})


def _domains(name: str, services: Mapping[str, Service]) -> list[str]:
    local = f"{name}.localhost"
    return [name] if local in services else [name, local]


def attached_to(route: api.HTTPRoute) -> frozenset[str]:
    """Return the services that ``route`` is attached to."""
    return frozenset(each.name for each in route.spec.parent_refs if each.kind == "Service")
