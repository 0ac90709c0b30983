"""What gRPC clients without an Envoy are told: per service a listener, its routes, its cluster.

A client that dials ``xds:///NAME`` asks for the listener NAME, then for what it refers to. Only
what every gRPC library reads is written here; a field that one of them refuses would leave its
clients with the last good state.

Source: https://github.com/grpc/proposal/blob/master/A27-xds-global-load-balancing.md and
https://github.com/grpc/proposal/blob/master/A28-xds-traffic-splitting-and-routing.md
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
)
from envoy_data_plane.envoy.config.core.v3 import ApiVersion, ConfigSource, SelfConfigSource
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import ApiListener, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    Route,
    RouteAction,
    RouteActionMaxStreamDuration,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher

from wherry.model import route as api
from wherry.model.resource import seconds as parsed
from wherry.model.service import Service
from xds.builders.clusters import MAX_REQUESTS
from xds.builders.messages import Source, assembled, by_regex, exactly, from_ads, packed, seconds
from xds.encode import encode
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource

NOWHERE = "wherry/no-backend"
"""Cluster of calls that no program takes; they fail with UNAVAILABLE.

A direct response would say the same, but grpc-js refuses one, and of a route without a cluster
its process ends.
"""


@dataclass(frozen=True, slots=True)
class Meant:
    """One match of a rule that is attached to a service, as it applies to gRPC calls.

    Attributes:
        name: Route and rule, for people.
        route: The `HTTPRoute` that says so.
        match: One of the rule's matches that a gRPC call can meet.
        rule: Where the calls go.
    """

    name: str
    route: str | None
    match: api.Match
    rule: api.Rule


def listeners(service: Service) -> tuple[Resource, ...]:
    """Return what clients of ``xds:///NAME`` and ``xds:///NAME:PORT`` ask for first."""
    name, route = service.name, route_name(service.name)
    manager = HttpConnectionManager(
        rds=Rds(config_source=from_ads(), route_config_name=route), http_filters=[router()]
    )
    body = encode(Listener(api_listener=ApiListener(api_listener=packed(manager))))
    refs = frozenset({(ROUTE, route)})
    return tuple(
        Resource(
            LISTENER, dialled, assembled(Listener, name=dialled) + body, refs, sources=_source(name)
        )
        for dialled in (name, *(f"{name}:{port.port}" for port in service.spec.ports))
    )


def route_name(service: str) -> str:
    """Return the name of a service's route configuration."""
    return f"grpc/{service}"


def routes(service: str, rules: Sequence[Meant] | None) -> Resource:
    """Return where calls to ``service`` go.

    Args:
        service: The service that was dialled.
        rules: What is attached to it, in order of precedence; what none of them matches fails.
            None: nothing is attached, and all calls go to the service itself.
    """
    if rules is None:
        itself = api.Rule(backend_refs=[api.BackendRef(name=service)])
        rules = [Meant(service, None, api.Match(), itself)]
    taken = [_route(each) for each in rules] or [_to_nowhere(service, RouteMatch(prefix="/"))]
    host = VirtualHost(name=service, domains=["*"], routes=taken)
    message = RouteConfiguration(name=route_name(service), virtual_hosts=[host])
    backends = {backend.name for each in rules for backend in _live(each.rule)}
    if not rules or not all(_live(each.rule) for each in rules):
        backends.add(NOWHERE)
    sources = {("HTTPRoute", each.route) for each in rules if each.route is not None}
    return Resource(
        ROUTE,
        message.name,
        encode(message),
        frozenset((CLUSTER, name) for name in backends),
        sources=frozenset({("Service", service), *sources}),
    )


def cluster(service: str) -> Resource:
    """Return the cluster of ``service``; its endpoints come by EDS, taken in turn."""
    return _cluster(service, _source(service))


@lru_cache(maxsize=1 << 10)
def nowhere(name: str = NOWHERE) -> tuple[Resource, Resource]:
    """Return a cluster and its endpoints, of which there are none: its calls fail at once."""
    none = encode(ClusterLoadAssignment(cluster_name=name))
    return _cluster(name, frozenset()), Resource(ENDPOINT, name, none)


def router() -> HttpFilter:
    """Return the one filter that every listener needs."""
    return HttpFilter(name="envoy.filters.http.router", typed_config=packed(Router()))


def _cluster(name: str, sources: frozenset[Source]) -> Resource:
    refs = frozenset({(ENDPOINT, name)})
    return Resource(
        CLUSTER, name, assembled(Cluster, name=name) + _manners(), refs, sources=sources
    )


@cache
def _manners() -> bytes:
    """Return what all clusters have in common."""
    limits = CircuitBreakersThresholds(max_requests=MAX_REQUESTS)
    message = Cluster(
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=from_ads()),
        lrs_server=ConfigSource(self=SelfConfigSource(), resource_api_version=ApiVersion.V3),
        lb_policy=ClusterLbPolicy.ROUND_ROBIN,
        circuit_breakers=CircuitBreakers(thresholds=[limits]),
    )
    return encode(message)


def meant(attached: Iterable[api.HTTPRoute]) -> Mapping[str, list[Meant]]:
    """Return by service the rules attached to it, in order of precedence.

    A match that no gRPC call meets (another method than POST, a query parameter) is left out.
    """
    found: dict[str, list[Meant]] = {}
    for route in sorted(attached, key=lambda r: r.name):
        parents = [parent.name for parent in route.spec.parent_refs if parent.kind == "Service"]
        for parent in dict.fromkeys(parents):
            found.setdefault(parent, []).extend(_meant(route))
    return {name: sorted(rules, key=_rank) for name, rules in found.items()}


def _meant(route: api.HTTPRoute) -> Iterator[Meant]:
    for number, rule in enumerate(route.spec.rules):
        for match in rule.matches:
            if match.method in {None, "POST"} and not match.query_params:
                yield Meant(f"{route.name}/{rule.name or number}", route.name, match, rule)


_KIND = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}


def _rank(each: Meant) -> tuple[int, int, int, int]:
    path = each.match.path
    length = len(path.value.rstrip("/") if path.type == "PathPrefix" else path.value)
    return _KIND[path.type], -length, 0 if each.match.method else 1, -len(each.match.headers)


def _source(service: str) -> frozenset[Source]:
    return frozenset({("Service", service)})


def _route(each: Meant) -> Route:
    backends, match = _live(each.rule), _match(each.match)
    if not backends:
        return _to_nowhere(each.name, match)
    duration = None
    if each.rule.timeouts.request:
        limit = seconds(parsed(each.rule.timeouts.request))
        duration = RouteActionMaxStreamDuration(max_stream_duration=limit)
    if len(backends) == 1:
        action = RouteAction(cluster=backends[0].name, max_stream_duration=duration)
    else:
        shares = [WeightedClusterClusterWeight(name=b.name, weight=b.weight) for b in backends]
        weighted = WeightedCluster(clusters=shares)
        action = RouteAction(weighted_clusters=weighted, max_stream_duration=duration)
    return Route(name=each.name, match=match, route=action)


def _live(rule: api.Rule) -> list[api.BackendRef]:
    return [backend for backend in rule.backend_refs if backend.weight]


def _to_nowhere(name: str, match: RouteMatch) -> Route:
    return Route(name=name, match=match, route=RouteAction(cluster=NOWHERE))


def _match(match: api.Match) -> RouteMatch:
    headers = [
        HeaderMatcher(
            name=h.name.lower(),
            string_match=exactly(h.value) if h.type == "Exact" else by_regex(h.value),
        )
        for h in match.headers
    ]
    value = match.path.value
    match match.path.type:
        case "Exact":
            return RouteMatch(path=value, headers=headers)
        case "RegularExpression":
            return RouteMatch(safe_regex=RegexMatcher(regex=value), headers=headers)
        case "PathPrefix":
            return _under(value.rstrip("/"), headers)


def _under(segments: str, headers: list[HeaderMatcher]) -> RouteMatch:
    """Return a match of whole path segments; gRPC knows prefixes of characters only.

    A call's path is ``/package.Service/Method``: a prefix of one segment always has more behind.
    """
    if segments.count("/") <= 1:
        return RouteMatch(prefix=f"{segments}/", headers=headers)
    regex = RegexMatcher(regex=f"{re.escape(segments)}(/.*)?")
    return RouteMatch(safe_regex=regex, headers=headers)
