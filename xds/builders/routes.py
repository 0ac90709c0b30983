"""Encoded routes to virtual hosts and route configurations, put together as bytes."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from operator import attrgetter

from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.google.protobuf import Any

from xds.builders.messages import ADDRESS_HEADER, SCOPE_HEADER, Source, assembled, seconds
from xds.builders.rules import CALL_IDLE, Entry, retries
from xds.encode import encode
from xds.resource import CLUSTER, ROUTE, Resource

OUTBOUND = "outbound"
ANY = "*"
"""The host name of every request."""

_order = attrgetter("order")


@dataclass(frozen=True, slots=True, eq=False)
class Host:
    """A virtual host.

    Attributes:
        body: Field `virtual_hosts` of a route configuration, encoded.
        clusters: Where its requests may go.
        sources: What it was made from.
    """

    body: bytes
    clusters: frozenset[str]
    sources: frozenset[Source]


class Table:
    """Entries by host name, each host's in order of precedence."""

    def __init__(self) -> None:
        self._entries: dict[str, list[Entry]] = {}

    def __contains__(self, host: str) -> bool:
        return host in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def at(self, host: str) -> list[Entry]:
        """Return the entries of ``host``, not to be changed."""
        return self._entries.get(host, [])

    def put(self, host: str, entries: Iterable[Entry]) -> None:
        """Add entries to ``host``."""
        here = self._entries.setdefault(host, [])
        for entry in entries:
            insort(here, entry, key=_order)

    def remove(self, host: str, entries: Iterable[Entry]) -> None:
        """Take away entries that were put at ``host``; a host without any is forgotten."""
        here = self._entries[host]
        for entry in entries:
            del here[bisect_left(here, entry.order, key=_order)]
        if not here:
            del self._entries[host]


def virtual_host(
    name: str, domains: Iterable[str], entries: Iterable[Entry], *, total: bool = False
) -> Host:
    """Return a virtual host that asks ``entries`` in their order.

    Args:
        name: Unique in its route configuration.
        domains: Host names of its requests.
        entries: Its routes.
        total: Whether a request that none of them takes is answered 404 by a route, too.
    """
    given = list(entries)
    body = b"".join(
        (
            assembled(VirtualHost, name=name, domains=[d.encode() for d in domains]),
            *(entry.routes for entry in given),
            _nothing() if total and not any(entry.takes_all for entry in given) else b"",
            retries(),
        )
    )
    return Host(
        assembled(RouteConfiguration, virtual_hosts=body),
        frozenset[str]().union(*(entry.clusters for entry in given)),
        frozenset(entry.source for entry in given),
    )


def configuration(name: str, hosts: Iterable[Host]) -> Resource:
    """Return a route configuration of these virtual hosts."""
    given = list(hosts)
    body = b"".join(
        (assembled(RouteConfiguration, name=name), *(host.body for host in given), _manners())
    )
    clusters = frozenset[str]().union(*(host.clusters for host in given))
    sources = frozenset[Source]().union(*(host.sources for host in given))
    refs = frozenset((CLUSTER, cluster) for cluster in clusters)
    return Resource(ROUTE, name, body, refs, sources=sources)


@cache
def _manners() -> bytes:
    return encode(
        RouteConfiguration(
            ignore_port_in_host_matching=True,
            validate_clusters=False,
            request_headers_to_remove=[SCOPE_HEADER],
        )
    )


@cache
def _nothing() -> bytes:
    refusal = DirectResponseAction(status=404)
    route = Route(name="nothing", match=RouteMatch(prefix="/"), direct_response=refusal)
    return encode(VirtualHost(routes=[route]))


def inbound(
    name: str,
    cluster: str,
    filters: Mapping[str, Any],
    sources: frozenset[Source] = frozenset(),
    *,
    grpc: bool = False,
) -> Resource:
    """Return the one route of a sidecar to its program.

    Args:
        name: Name of the route configuration.
        cluster: Where the program listens.
        filters: Settings of filters by filter name (access rules), for every request.
        sources: What the settings were made from.
        grpc: Whether the program speaks gRPC.
    """
    idle = seconds(CALL_IDLE) if grpc else None
    route = Route(
        match=RouteMatch(prefix="/"),
        route=RouteAction(cluster=cluster, timeout=seconds(0), idle_timeout=idle),
        name="app",
    )
    host = VirtualHost(
        name="app",
        domains=[ANY],
        routes=[route],
        typed_per_filter_config=dict(filters),
        request_headers_to_remove=[ADDRESS_HEADER],
    )
    return configuration(name, [_host(host, frozenset({cluster}), sources)])


def _host(
    message: VirtualHost,
    clusters: frozenset[str] = frozenset(),
    sources: frozenset[Source] = frozenset(),
) -> Host:
    body = assembled(RouteConfiguration, virtual_hosts=encode(message))
    return Host(body, clusters, sources)
