"""The virtual hosts of a gateway's port.

A request belongs to the listener with the most specific host name; there, routes with more
specific host names come before others, whatever their paths.

A port of which every route says exact host names is a table of scopes (`xds.builders.scoped`). A
route for all hosts, or for a wildcard, makes it one route configuration. Then the listener
changes: new connections meet the new one at once, and open ones are closed between requests within
Envoy's drain time. Until then they meet the scopes, which therefore stay known.

Source: https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule
"""

from collections.abc import Iterable, Iterator, Sequence

from wherry.model import route as api
from xds.builders.messages import Source
from xds.builders.routes import ANY, Host, Table, configuration, virtual_host
from xds.builders.rules import Entry
from xds.builders.scoped import scope
from xds.resource import Resource


def ingress_name(gateway: str, port: int) -> str:
    """Return the name of the routes of a gateway's port."""
    return f"gateway/{gateway}/{port}"


class Ingress:
    """The routes of one port of a gateway; a host is built again when what it says changes."""

    def __init__(self, gateway: api.Gateway, port: int) -> None:
        self._gateway = gateway
        self._name = ingress_name(gateway.name, port)
        listeners = [each for each in gateway.spec.listeners if each.port == port]
        source = ("Gateway", gateway.name)
        self._heads = [_Head(listener, listeners, self._name, source) for listener in listeners]
        self._whole: Resource | None = None

    @property
    def scoped(self) -> bool:
        """Whether there are routes, all of them for exact host names."""
        return any(head.exact for head in self._heads) and not any(
            head.wild for head in self._heads
        )

    def attach(self, route: api.HTTPRoute, entries: Sequence[Entry]) -> None:
        """Take up a route, where it is one of this port."""
        for head in self._accepting(route):
            head.attach(route, entries)
            self._whole = None

    def detach(self, route: api.HTTPRoute, entries: Sequence[Entry]) -> None:
        """Forget a route that was taken up."""
        for head in self._accepting(route):
            head.detach(route, entries)
            self._whole = None

    def told(self) -> dict[str, tuple[Resource, ...]]:
        """Return the port's routes, by names that differ from those of any other port.

        What nothing changed is the same objects as before.
        """
        told: dict[str, tuple[Resource, ...]] = {}
        for head in self._heads:
            head.build()
            told |= head.scoped
        if not self.scoped:
            if self._whole is None:
                hosts = {name: host for head in self._heads for name, host in head.hosts.items()}
                self._whole = configuration(self._name, [hosts[name] for name in sorted(hosts)])
            told[self._name] = (self._whole,)
        return told

    def _accepting(self, route: api.HTTPRoute) -> Iterator["_Head"]:
        for head in self._heads:
            if _accepts(self._gateway, head.listener, route):
                yield head


class _Head:
    """One listener: its entries by host name, and the virtual hosts made of them.

    Attributes:
        wild: Wildcards that have routes.
        hosts: Virtual hosts, by host name.
        scoped: By table and host name, what there is for a host alone, where its name is exact
            and it has routes.
    """

    def __init__(
        self, listener: api.Listener, others: Iterable[api.Listener], table: str, source: Source
    ) -> None:
        self.listener = listener
        self.wild: set[str] = set()
        self._name, self._source = table, source
        self._wild = listener.hostname or ANY
        names = {other.hostname for other in others if other.hostname} - {self._wild}
        self._narrower = [name for name in names if _covers(self._wild, name)]
        self._table = Table()
        self.hosts: dict[str, Host] = {}
        self.scoped: dict[str, tuple[Resource, ...]] = {}
        self._stale = {self._wild}

    @property
    def exact(self) -> bool:
        """Whether an exact host name has routes."""
        return len(self._table) > len(self.wild)

    def attach(self, route: api.HTTPRoute, entries: Sequence[Entry]) -> None:
        for host in _shared_hosts(self._wild, route.spec.hostnames):
            self._table.put(host, entries)
            self._stale.add(host)
            if _is_wild(host):
                self.wild.add(host)

    def detach(self, route: api.HTTPRoute, entries: Sequence[Entry]) -> None:
        for host in _shared_hosts(self._wild, route.spec.hostnames):
            self._table.remove(host, entries)
            self._stale.add(host)
            if host not in self._table:
                self.wild.discard(host)

    def build(self) -> None:
        for host in self._touched():
            name = f"{self._name}/{host}"
            self.scoped.pop(name, None)
            if host != self._wild and host not in self._table:
                self.hosts.pop(host, None)
            elif not any(_covers(narrower, host) for narrower in self._narrower):
                entries = [entry for h in (host, *_wider(host)) for entry in self._table.at(h)]
                built = self.hosts[host] = virtual_host(host, [host], entries)
                if entries and not _is_wild(host):
                    leading = scope(self._name, host, name, self._source)
                    self.scoped[name] = configuration(name, [built]), leading
        self._stale.clear()

    def _touched(self) -> set[str]:
        """Return the stale hosts and those that fall back to one of them."""
        wild = {host for host in self._stale if _is_wild(host)}
        if not wild:
            return set(self._stale)
        return self._stale | {h for h in self._table if not wild.isdisjoint(_wider(h))}


def _accepts(gateway: api.Gateway, listener: api.Listener, route: api.HTTPRoute) -> bool:
    return any(
        parent.kind == "Gateway"
        and parent.name == gateway.name
        and parent.section_name in {None, listener.name}
        and parent.port in {None, listener.port}
        for parent in route.spec.parent_refs
    )


def _shared_hosts(wild: str, hosts: Sequence[str]) -> list[str]:
    shared = []
    for host in hosts or [ANY]:
        if _covers(wild, host):
            shared.append(host)
        elif _covers(host, wild):
            shared.append(wild)
    return list(dict.fromkeys(shared))


def _covers(wild: str, host: str) -> bool:
    """Return whether every request for ``host`` is also one for ``wild``."""
    if wild.startswith("*."):
        return host.removeprefix("*").endswith(wild[1:])
    return wild in {ANY, host}


def _is_wild(host: str) -> bool:
    return host == ANY or host.startswith("*.")


def _wider(host: str) -> list[str]:
    """Return every other host name that covers ``host``, the most specific first."""
    if host == ANY:
        return []
    labels = host.removeprefix("*.").split(".")
    return [*("*." + ".".join(labels[i:]) for i in range(1, len(labels))), ANY]
