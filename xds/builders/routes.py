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
from xds.builders.messages import (
    UNREACHED,
    UNSERVED_HEADER,
    by_regex,
    exactly,
    packed,
    seconds,
)
from xds.encode import encode
from xds.resource import CLUSTER, ROUTE, Resource

REQUEST_TIMEOUT = 60.0
"""Seconds for a whole request where no route says otherwise."""

OUTBOUND = "outbound"
ANY = "*"
"""The host name of every request."""

SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
"""Methods that may be sent again even when a program may have seen the request.

Source: https://www.rfc-editor.org/rfc/rfc9110#section-9.2.1
"""

_APPEND = HeaderValueOptionHeaderAppendAction


@dataclass(frozen=True, slots=True)
class _Entry:
    match: api.Match
    routes: tuple[Route, ...]
    clusters: frozenset[str]


def outbound(world: World) -> Resource:
    """Return the routes of every service of the mesh, by host name.

    ``http://NAME/``, with any port, and ``http://NAME.localhost/`` lead to service NAME; rules
    of routes that are attached to it apply.
    """
    attached = _attached_to_services(world)
    hosts = [
        VirtualHost(
            name=name,
            domains=[
                d for d in (name, f"{name}.localhost") if d == name or d not in world.services
            ],
            routes=_service_routes(service, attached.get(name, [])),
        )
        for name, service in sorted(world.services.items())
    ]
    refs = set(world.services)
    hosts.append(_nowhere("no such service in this mesh", 502))
    return _configuration(OUTBOUND, hosts, refs)


def ingress(world: World, gateway: api.Gateway, port: int) -> Resource:
    """Return the routes of the gateway's listeners on ``port``, by host name.

    A request belongs to the listener with the most specific host name; there, routes with more
    specific host names come before others, whatever their paths.
    """
    by_host: dict[str, list[_Entry]] = {}
    heads = [each for each in gateway.spec.listeners if each.port == port]
    for listener in heads:
        own = _by_host(world, gateway, listener)
        wild = listener.hostname or ANY
        narrower = [other.hostname for other in heads if _covers(wild, other.hostname or ANY)]
        for host in own:
            if not any(other != wild and _covers(other, host) for other in narrower if other):
                wider = sorted((h for h in own if h != host and _covers(h, host)), key=_wideness)
                by_host[host] = [entry for h in (host, *wider) for entry in own[h]]
    hosts = [
        VirtualHost(name=host, domains=[host], routes=_in_order(entries))
        for host, entries in sorted(by_host.items())
    ]
    refs = {ref for entries in by_host.values() for entry in entries for ref in entry.clusters}
    return _configuration(ingress_name(gateway.name, port), hosts, refs)


def _by_host(
    world: World, gateway: api.Gateway, listener: api.Listener
) -> Mapping[str, list[_Entry]]:
    """Return what a listener's routes say, by host name and for each in order of precedence."""
    own: dict[str, list[_Entry]] = {listener.hostname or ANY: []}
    for route in sorted(world.http_routes.values(), key=lambda r: r.name):
        if _accepts(gateway, listener, route):
            for host in _shared_hosts(listener.hostname, route.spec.hostnames):
                own.setdefault(host, []).extend(_entries(route))
    return {host: sorted(entries, key=_rank) for host, entries in own.items()}


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


_KIND = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}


def _rank(entry: _Entry) -> tuple[int, int, int, int, int]:
    match = entry.match
    return (
        _KIND[match.path.type],
        -len(match.path.value.rstrip("/") if match.path.type == "PathPrefix" else match.path.value),
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
        return _in_order(sorted(entries, key=_rank))
    rule = api.Rule(backend_refs=[api.BackendRef(name=service.name)])
    return list(_routes(service.name, rule, api.Match()))


def _in_order(entries: Sequence[_Entry]) -> list[Route]:
    return [route for entry in entries for route in entry.routes]


def _accepts(gateway: api.Gateway, listener: api.Listener, route: api.HTTPRoute) -> bool:
    return any(
        parent.kind == "Gateway"
        and parent.name == gateway.name
        and parent.section_name in {None, listener.name}
        and parent.port in {None, listener.port}
        for parent in route.spec.parent_refs
    )


def _shared_hosts(listener: str | None, hosts: Sequence[str]) -> list[str]:
    wild = listener or ANY
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


def _wideness(host: str) -> int:
    return -len(host)


def _entries(route: api.HTTPRoute) -> Iterator[_Entry]:
    for number, rule in enumerate(route.spec.rules):
        name = f"{route.name}/{rule.name or number}"
        clusters = frozenset(backend.name for backend in rule.backend_refs)
        for match in rule.matches:
            yield _Entry(match, tuple(_routes(name, rule, match)), clusters)


def _routes(name: str, rule: api.Rule, match: api.Match) -> Iterator[Route]:
    """Yield the route of one match; two where safe methods are sent again more often."""
    if sum(backend.weight for backend in rule.backend_refs) == 0:
        refusal = DirectResponseAction(status=500, body=DataSource(inline_string="no backend\n"))
        yield Route(name=name, match=_match(match), direct_response=refusal)
        return
    if match.method is None:
        yield _route(name, rule, _match(match, safe=True), safe=True)
    yield _route(name, rule, _match(match), safe=match.method in SAFE)


def _route(name: str, rule: api.Rule, match: RouteMatch, *, safe: bool) -> Route:
    headers = _header_changes(rule.filters)
    return Route(
        name=name,
        match=match,
        route=_action(rule.backend_refs, rule.timeouts, safe=safe),
        request_headers_to_add=headers.request_add,
        request_headers_to_remove=headers.request_remove,
        response_headers_to_add=headers.response_add,
        response_headers_to_remove=headers.response_remove,
    )


def _match(match: api.Match, *, safe: bool = False) -> RouteMatch:
    headers = [
        HeaderMatcher(
            name=h.name,
            string_match=exactly(h.value) if h.type == "Exact" else by_regex(h.value),
        )
        for h in match.headers
    ]
    if match.method:
        headers.append(HeaderMatcher(name=":method", string_match=exactly(match.method)))
    elif safe:
        headers.append(HeaderMatcher(name=":method", string_match=by_regex("|".join(SAFE))))
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


def _action(
    backends: Sequence[api.BackendRef], timeouts: api.Timeouts, *, safe: bool
) -> RouteAction:
    if safe:
        reset, unserved = "reset", HeaderMatcher(name=UNSERVED_HEADER, present_match=True)
    else:
        never = exactly(UNREACHED)
        reset = "reset-before-request"
        unserved = HeaderMatcher(name=UNSERVED_HEADER, string_match=never)
    retry = RetryPolicy(
        retry_on=f"connect-failure,refused-stream,{reset},retriable-headers",
        retriable_headers=[unserved],
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
            header = HeaderValue(key=value.name, value=value.value.replace("%", "%%"))
            yield HeaderValueOption(header=header, append_action=action)


def _nowhere(text: str, status: int) -> VirtualHost:
    body = DataSource(inline_string=text + "\n")
    refusal = DirectResponseAction(status=status, body=body)
    route = Route(name="nowhere", match=RouteMatch(prefix="/"), direct_response=refusal)
    return VirtualHost(name=ANY, domains=[ANY], routes=[route])
