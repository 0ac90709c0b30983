"""The virtual hosts of a gateway's port.

A request belongs to the listener with the most specific host name; there, routes with more
specific host names come before others, whatever their paths.

Source: https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule
"""

from collections.abc import Iterable, Iterator, Sequence

from wherry.model import route as api
from xds.builders.routes import ANY, Host, Table, configuration, virtual_host
from xds.builders.rules import Entry
from xds.resource import Resource


def ingress_name(gateway: str, port: int) -> str:
    """Return the name of a gateway's route configuration."""
    return f"gateway/{gateway}/{port}"


class Ingress:
    """The routes of one port of a gateway; a host is built again when what it says changes."""

    def __init__(self, gateway: api.Gateway, port: int) -> None:
        self._gateway = gateway
        self._name = ingress_name(gateway.name, port)
        listeners = [each for each in gateway.spec.listeners if each.port == port]
        self._heads = [_Head(listener, listeners) for listener in listeners]
        self._built: Resource | None = None

    def attach(self, route: api.HTTPRoute, entries: Sequence[Entry]) -> None:
        """Take up a route, where it is one of this port."""
        for head in self._accepting(route):
            head.attach(route, entries)
            self._built = None

    def detach(self, route: api.HTTPRoute, entries: Sequence[Entry]) -> None:
        """Forget a route that was taken up."""
        for head in self._accepting(route):
            head.detach(route, entries)
            self._built = None

    def configuration(self) -> Resource:
        """Return the port's routes, by host name."""
        if self._built is None:
            hosts = {name: host for head in self._heads for name, host in head.build()}
            self._built = configuration(self._name, [hosts[name] for name in sorted(hosts)])
        return self._built

    def _accepting(self, route: api.HTTPRoute) -> Iterator["_Head"]:
        for head in self._heads:
            if _accepts(self._gateway, head.listener, route):
                yield head


class _Head:
    """One listener: its entries by host name, and the virtual hosts made of them."""

    def __init__(self, listener: api.Listener, others: Iterable[api.Listener]) -> None:
        self.listener = listener
        self._wild = listener.hostname or ANY
        names = {other.hostname for other in others if other.hostname} - {self._wild}
        self._narrower = [name for name in names if _covers(self._wild, name)]
        self._table = Table()
        self._hosts: dict[str, Host] = {}
        self._stale = {self._wild}

    def attach(self, route: api.HTTPRoute, entries: Sequence[Entry]) -> None:
        for host in _shared_hosts(self._wild, route.spec.hostnames):
            self._table.put(host, entries)
            self._stale.add(host)

    def detach(self, route: api.HTTPRoute, entries: Sequence[Entry]) -> None:
        for host in _shared_hosts(self._wild, route.spec.hostnames):
            self._table.remove(host, entries)
            self._stale.add(host)

    def build(self) -> Iterator[tuple[str, Host]]:
        for host in self._touched():
            if host != self._wild and host not in self._table:
                self._hosts.pop(host, None)
            elif not any(_covers(narrower, host) for narrower in self._narrower):
                entries = [entry for h in (host, *_wider(host)) for entry in self._table.at(h)]
                self._hosts[host] = virtual_host(host, [host], entries)
        self._stale.clear()
        yield from self._hosts.items()

    def _touched(self) -> set[str]:
        """Return the stale hosts and those that fall back to one of them."""
        wild = {host for host in self._stale if host == ANY or host.startswith("*.")}
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


def _wider(host: str) -> list[str]:
    """Return every other host name that covers ``host``, the most specific first."""
    if host == ANY:
        return []
    labels = host.removeprefix("*.").split(".")
    return [*("*." + ".".join(labels[i:]) for i in range(1, len(labels))), ANY]
