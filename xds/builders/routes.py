"""Gateway API routes to Envoy virtual hosts, in the order of precedence of the specification.

Source: https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    QueryParameterMatcher,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher
from envoy_data_plane.google.protobuf import Any

from wherry.model import route as api
from wherry.model.resource import seconds as parsed
from wherry.model.service import Service
from wherry.model.world import World
from xds.builders.messages import by_regex, exactly, packed, seconds
from xds.encode import encode
from xds.resource import CLUSTER, ROUTE, Resource

REQUEST_TIMEOUT = 60.0
"""Seconds for a whole request where no route says otherwise."""

OUTBOUND = "outbound"
_APPEND = HeaderValueOptionHeaderAppendAction


def outbound(world: World) -> Resource:
    """Return the routes of every service of the mesh, by host name.

    ``http://NAME/``, with any port, and ``http://NAME.localhost/`` lead to service NAME; rules
    of routes that are attached to it apply.
    """
    attached = _attached_to_services(world)
    hosts = [
        VirtualHost(
            name=name,
            domains=[name, f"{name}.localhost"],
            routes=_service_routes(service, attached.get(name, [])),
        )
        for name, service in sorted(world.services.items())
    ]
    refs = set(world.services)
    hosts.append(_nowhere("no such service in this mesh", 502))
    return _configuration(OUTBOUND, hosts, refs)


def ingress(world: World, gateway: api.Gateway, port: int) -> Resource:
    """Return the routes of the gateway's listeners on ``port``, by host name."""
    by_host: dict[str, list[_Entry]] = {}
    for listener in gateway.spec.listeners:
        if listener.port != port:
            continue
        by_host.setdefault(listener.hostname or "*", [])
        for route in sorted(world.http_routes.values(), key=lambda r: r.name):
            if not _accepts(gateway, listener, route):
                continue
            for host in _shared_hosts(listener.hostname, route.spec.hostnames):
                by_host.setdefault(host, []).extend(_entries(route))
    hosts = [
        VirtualHost(name=host, domains=[host], routes=[e.route for e in sorted(entries, key=_rank)])
        for host, entries in sorted(by_host.items())
    ]
    refs = {ref for entries in by_host.values() for entry in entries for ref in entry.clusters}
    return _configuration(ingress_name(gateway.name, port), hosts, refs)


def ingress_name(gateway: str, port: int) -> str:
    """Return the name of a gateway's route configuration."""
    return f"gateway/{gateway}/{port}"


def inbound(name: str, cluster: str, filters: Mapping[str, Any]) -> Resource:
    """Return the one route of a sidecar to its program.

    Args:
        name: Name of the route configuration.
        cluster: Where the program listens.
        filters: Settings of filters by filter name (access rules), for every request.
    """
    route = Route(
        match=RouteMatch(prefix="/"),
        route=RouteAction(cluster=cluster, timeout=seconds(0)),
        name="app",
    )
    host = VirtualHost(
        name="app", domains=["*"], routes=[route], typed_per_filter_config=dict(filters)
    )
    return _configuration(name, [host], {cluster})


def _configuration(name: str, hosts: list[VirtualHost], clusters: Iterable[str]) -> Resource:
    message = RouteConfiguration(
        name=name, virtual_hosts=hosts, ignore_port_in_host_matching=True, validate_clusters=False
    )
    return Resource(ROUTE, name, encode(message), frozenset((CLUSTER, c) for c in clusters))


@dataclass(frozen=True, slots=True)
class _Entry:
    match: api.Match
    route: Route
    clusters: frozenset[str]


_KIND = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}


def _rank(entry: _Entry) -> tuple[int, int, int, int, int]:
    match = entry.match
    return (
        _KIND[match.path.type],
        -len(match.path.value),
        0 if match.method else 1,
        -len(match.headers),
        -len(match.query_params),
    )


def _attached_to_services(world: World) -> Mapping[str, list[_Entry]]:
    attached: dict[str, list[_Entry]] = {}
    for route in sorted(world.http_routes.values(), key=lambda r: r.name):
        for parent in route.spec.parent_refs:
            if parent.kind == "Service":
                attached.setdefault(parent.name, []).extend(_entries(route))
    return attached


def _service_routes(service: Service, entries: Sequence[_Entry]) -> list[Route]:
    if entries:
        return [entry.route for entry in sorted(entries, key=_rank)]
    action = _action([api.BackendRef(name=service.name)], api.Timeouts())
    return [Route(name=service.name, match=RouteMatch(prefix="/"), route=action)]


def _accepts(gateway: api.Gateway, listener: api.Listener, route: api.HTTPRoute) -> bool:
    return any(
        parent.kind == "Gateway"
        and parent.name == gateway.name
        and parent.section_name in {None, listener.name}
        and parent.port in {None, listener.port}
        for parent in route.spec.parent_refs
    )


def _shared_hosts(listener: str | None, hosts: Sequence[str]) -> list[str]:
    if not hosts:
        return [listener or "*"]
    if listener is None:
        return list(hosts)
    shared = []
    for host in hosts:
        if host == listener or _covers(listener, host):
            shared.append(host)
        elif _covers(host, listener):
            shared.append(listener)
    return shared


def _covers(wild: str, host: str) -> bool:
    return wild.startswith("*.") and host.removeprefix("*").endswith(wild[1:])


def _entries(route: api.HTTPRoute) -> Iterator[_Entry]:
    for number, rule in enumerate(route.spec.rules):
        name = f"{route.name}/{rule.name or number}"
        clusters = frozenset(backend.name for backend in rule.backend_refs)
        for match in rule.matches:
            yield _Entry(match, _route(name, rule, match), clusters)


def _route(name: str, rule: api.Rule, match: api.Match) -> Route:
    headers = _header_changes(rule.filters)
    if sum(backend.weight for backend in rule.backend_refs) == 0:
        refusal = DirectResponseAction(status=500, body=DataSource(inline_string="no backend\n"))
        return Route(name=name, match=_match(match), direct_response=refusal)
    return Route(
        name=name,
        match=_match(match),
        route=_action(rule.backend_refs, rule.timeouts),
        request_headers_to_add=headers.request_add,
        request_headers_to_remove=headers.request_remove,
        response_headers_to_add=headers.response_add,
        response_headers_to_remove=headers.response_remove,
    )


def _match(match: api.Match) -> RouteMatch:
    headers = [
        HeaderMatcher(
            name=h.name,
            string_match=exactly(h.value) if h.type == "Exact" else by_regex(h.value),
        )
        for h in match.headers
    ]
    if match.method:
        headers.append(HeaderMatcher(name=":method", string_match=exactly(match.method)))
    queries = [
        QueryParameterMatcher(
            name=q.name,
            string_match=exactly(q.value) if q.type == "Exact" else by_regex(q.value),
        )
        for q in match.query_params
    ]
    value = match.path.value
    match match.path.type:
        case "Exact":
            return RouteMatch(path=value, headers=headers, query_parameters=queries)
        case "RegularExpression":
            regex = RegexMatcher(regex=value)
            return RouteMatch(safe_regex=regex, headers=headers, query_parameters=queries)
        case "PathPrefix":
            segments = value.rstrip("/")
            if not segments:
                return RouteMatch(prefix="/", headers=headers, query_parameters=queries)
            return RouteMatch(
                path_separated_prefix=segments, headers=headers, query_parameters=queries
            )


def _action(backends: Sequence[api.BackendRef], timeouts: api.Timeouts) -> RouteAction:
    retry = RetryPolicy(
        retry_on="connect-failure,refused-stream,reset-before-request",
        num_retries=2,
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=packed(PreviousHostsPredicate()),
            )
        ],
        host_selection_retry_max_attempts=3,
        per_try_timeout=(
            seconds(parsed(timeouts.backend_request)) if timeouts.backend_request else None
        ),
    )
    timeout = seconds(parsed(timeouts.request) if timeouts.request else REQUEST_TIMEOUT)
    live = [backend for backend in backends if backend.weight]
    if len(live) == 1:
        return RouteAction(cluster=live[0].name, timeout=timeout, retry_policy=retry)
    weights = [WeightedClusterClusterWeight(name=b.name, weight=b.weight) for b in live]
    return RouteAction(
        weighted_clusters=WeightedCluster(clusters=weights), timeout=timeout, retry_policy=retry
    )


@dataclass(frozen=True, slots=True)
class _HeaderChanges:
    request_add: list[HeaderValueOption]
    request_remove: list[str]
    response_add: list[HeaderValueOption]
    response_remove: list[str]


def _header_changes(filters: Sequence[api.Filter]) -> _HeaderChanges:
    changes = _HeaderChanges([], [], [], [])
    for each in filters:
        if (request := each.request_header_modifier) is not None:
            changes.request_add.extend(_options(request))
            changes.request_remove.extend(request.remove)
        if (response := each.response_header_modifier) is not None:
            changes.response_add.extend(_options(response))
            changes.response_remove.extend(response.remove)
    return changes


def _options(modifier: api.HeaderModifier) -> Iterator[HeaderValueOption]:
    for values, action in (
        (modifier.set, _APPEND.OVERWRITE_IF_EXISTS_OR_ADD),
        (modifier.add, _APPEND.APPEND_IF_EXISTS_OR_ADD),
    ):
        for value in values:
            header = HeaderValue(key=value.name, value=value.value)
            yield HeaderValueOption(header=header, append_action=action)


def _nowhere(text: str, status: int) -> VirtualHost:
    body = DataSource(inline_string=text + "\n")
    refusal = DirectResponseAction(status=status, body=body)
    route = Route(name="nowhere", match=RouteMatch(prefix="/"), direct_response=refusal)
    return VirtualHost(name="nowhere", domains=["*"], routes=[route])
