"""A World as ready resources, the same for every server under measurement."""

from collections.abc import Sequence
from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from envoy_data_plane.google.protobuf import Any as AnyMessage

from parts.discovery import ROUTES, WATCHED
from xds.encode import encode
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource

TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
CHANGING = "svc-1"
"""The cluster that changes; nobody asks for its endpoints, so that its push is one response."""


def cluster(name: str, connect_ms: int = 1000) -> Resource:
    """Return a cluster whose endpoints come by EDS."""
    message = Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=_ads()),
        connect_timeout=timedelta(milliseconds=connect_ms),
    )
    return Resource(CLUSTER, name, encode(message), frozenset({(ENDPOINT, name)}))


def endpoints(name: str, ports: Sequence[int]) -> Resource:
    """Return the endpoints of cluster ``name``, all on loopback."""
    found = [LbEndpoint(endpoint=Endpoint(address=_at(port))) for port in ports]
    message = ClusterLoadAssignment(
        cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=found)] if found else []
    )
    return Resource(ENDPOINT, name, encode(message))


def routes(to: str, name: str = ROUTES) -> Resource:
    """Return routes that lead everything to cluster ``to``."""
    route = Route(match=RouteMatch(prefix="/"), route=RouteAction(cluster=to))
    message = RouteConfiguration(
        name=name, virtual_hosts=[VirtualHost(name="all", domains=["*"], routes=[route])]
    )
    return Resource(ROUTE, name, encode(message), frozenset({(CLUSTER, to)}))


def many_routes(hosts: int, odd: str, rest: str) -> Resource:
    """Return one plain route per host to ``rest``; that of the host in the middle to ``odd``."""
    named = [
        VirtualHost(
            name=f"route-{number}",
            domains=[f"route-{number}.example"],
            routes=[
                Route(
                    match=RouteMatch(prefix="/"),
                    route=RouteAction(cluster=odd if number == hosts // 2 else rest),
                )
            ],
        )
        for number in range(hosts)
    ]
    message = RouteConfiguration(name=ROUTES, virtual_hosts=named)
    refs = frozenset({(CLUSTER, odd), (CLUSTER, rest)})
    return Resource(ROUTE, ROUTES, encode(message), refs)


def listener(port: int, name: str = "in", by: str = ROUTES) -> Resource:
    """Return an HTTP listener on loopback whose routes come by RDS."""
    manager = HttpConnectionManager(
        stat_prefix="in",
        rds=Rds(config_source=_ads(), route_config_name=by),
        http_filters=[HttpFilter(name="router", typed_config=AnyMessage.pack(Router()))],
    )
    chain = FilterChain(filters=[Filter(name="hcm", typed_config=AnyMessage.pack(manager))])
    message = Listener(name=name, address=_at(port), filter_chains=[chain])
    return Resource(LISTENER, name, encode(message), frozenset({(ROUTE, by)}))


def watched(turn: int) -> Resource:
    """Return the watched endpoints, ten of them, with another content at each odd turn."""
    return endpoints(WATCHED, [8000 + (turn % 2) + 2 * place for place in range(10)])


def changing(turn: int) -> Resource:
    """Return the changing cluster, with another content at each odd turn."""
    return cluster(CHANGING, 1000 + turn % 2)


def world(clusters: int) -> list[Resource]:
    """Return so many clusters, their endpoints, one listener and its routes."""
    names = [f"svc-{number}" for number in range(1, clusters + 1)]
    return [
        *(cluster(name) for name in names),
        *(endpoints(name, []) for name in names),
        watched(0),
        listener(10_000),
        routes(CHANGING),
    ]


def _ads() -> ConfigSource:
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def _at(port: int) -> Address:
    return Address(socket_address=SocketAddress(address="127.0.0.1", port_value=port))
