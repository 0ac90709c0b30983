"""Rules of HTTPRoutes to encoded Envoy routes, each written once.

Source: https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

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
    RouteMatch,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher

from wherry.model import route as api
from wherry.model.resource import seconds as parsed
from xds.builders.messages import (
    UNREACHED,
    UNSERVED_HEADER,
    Source,
    assembled,
    by_regex,
    exactly,
    packed,
    seconds,
)
from xds.encode import encode

REQUEST_TIMEOUT = 60.0
"""Seconds for a whole request where no route says otherwise."""

CALL_IDLE = 3600.0
"""Seconds for which nothing may move in a call of gRPC, which has no bound but its client's."""

SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
"""Methods that may be sent again even when a program may have seen the request.

Source: https://www.rfc-editor.org/rfc/rfc9110#section-9.2.1
"""

Order = tuple[int, int, int, int, int, str, int, int]

_APPEND = HeaderValueOptionHeaderAppendAction


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One match of a rule.

    Attributes:
        order: Its place among others: Gateway API's precedence, then names, then as written.
        routes: Field `routes` of a virtual host, encoded.
        clusters: Where requests may go.
        source: What it was made from.
    """

    order: Order
    routes: bytes
    clusters: frozenset[str]
    source: Source

    @property
    def takes_all(self) -> bool:
        """Whether it matches every request."""
        return self.order[:5] == _EVERYTHING


def entries(route: api.HTTPRoute, grpc: Container[str] = ()) -> tuple[Entry, ...]:
    """Return every match of every rule of ``route``; ``grpc`` are the services that speak gRPC."""
    source = ("HTTPRoute", route.name)
    return tuple(
        Entry(
            (*_precedence(match), route.name, i, j),
            _routes(f"{route.name}/{rule.name or i}", rule, match, grpc),
            frozenset(backend.name for backend in rule.backend_refs),
            source,
        )
        for i, rule in enumerate(route.spec.rules)
        for j, match in enumerate(rule.matches)
    )


def plain(service: str, *, grpc: bool = False) -> Entry:
    """Return what rules calls to a service that no route is attached to: all go to it.

    Args:
        service: Its name.
        grpc: Whether it speaks gRPC.
    """
    rule = api.Rule(backend_refs=[api.BackendRef(name=service)])
    match = api.Match()
    routes = _routes(service, rule, match, (service,) if grpc else ())
    order = (*_precedence(match), service, 0, 0)
    return Entry(order, routes, frozenset({service}), ("Service", service))


_KIND = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}
_EVERYTHING = (_KIND["PathPrefix"], 0, 1, 0, 0)


def _precedence(match: api.Match) -> tuple[int, int, int, int, int]:
    value = match.path.value
    return (
        _KIND[match.path.type],
        -len(value.rstrip("/") if match.path.type == "PathPrefix" else value),
        0 if match.method else 1,
        -len(match.headers),
        -len(match.query_params),
    )


def _routes(name: str, rule: api.Rule, match: api.Match, grpc: Container[str]) -> bytes:
    """Return the route of one match; two where safe methods are sent again more often."""
    backends = tuple((backend.name, backend.weight) for backend in rule.backend_refs)
    named, matched = assembled(Route, name=name), _match(match)
    if not any(weight for _, weight in backends):
        return _hosted(named + assembled(Route, match=matched) + _refusal())
    headers = _header_changes(rule.filters)
    request, per_try = rule.timeouts.request, rule.timeouts.backend_request
    calls = any(backend in grpc for backend, _ in backends)

    def route(matched: bytes, *, safe: bool) -> bytes:
        action = _target(backends) + _manners(request, per_try, safe=safe, grpc=calls)
        return _hosted(named + assembled(Route, match=matched, route=action) + headers)

    if match.method is not None:
        return route(matched, safe=match.method in SAFE)
    return route(matched + _a_safe_method(), safe=True) + route(matched, safe=False)


def _hosted(route: bytes) -> bytes:
    return assembled(VirtualHost, routes=route)


@cache
def _refusal() -> bytes:
    body = encode(DataSource(inline_string="no backend\n"))
    status = encode(DirectResponseAction(status=500))
    return assembled(Route, direct_response=status + assembled(DirectResponseAction, body=body))


@cache
def _a_safe_method() -> bytes:
    header = HeaderMatcher(name=":method", string_match=by_regex("|".join(SAFE)))
    return assembled(RouteMatch, headers=encode(header))


def _match(match: api.Match) -> bytes:
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
    return _path(match.path) + assembled(
        RouteMatch, headers=map(encode, headers), query_parameters=map(encode, queries)
    )


def _path(path: api.PathMatch) -> bytes:
    match path.type:
        case "Exact":
            return assembled(RouteMatch, path=path.value)
        case "RegularExpression":
            return assembled(RouteMatch, safe_regex=assembled(RegexMatcher, regex=path.value))
        case "PathPrefix":
            segments = path.value.rstrip("/")
            if not segments:
                return assembled(RouteMatch, prefix="/")
            return assembled(RouteMatch, path_separated_prefix=segments)


def _target(backends: Sequence[tuple[str, int]]) -> bytes:
    live = [(name, weight) for name, weight in backends if weight]
    if len(live) == 1:
        return assembled(RouteAction, cluster=live[0][0])
    shares = [WeightedClusterClusterWeight(name=name, weight=weight) for name, weight in live]
    return encode(RouteAction(weighted_clusters=WeightedCluster(clusters=shares)))


@lru_cache(maxsize=1 << 10)
def _manners(request: str | None, per_try: str | None, *, safe: bool, grpc: bool) -> bytes:
    """Return how long requests may take and when they are sent again.

    What `retries` says of every route is not said again.
    """
    timeout = seconds(parsed(request) if request else 0 if grpc else REQUEST_TIMEOUT)
    idle = seconds(CALL_IDLE) if grpc else None
    policy = _retry_policy(per_try, safe=safe) if safe or per_try else None
    return encode(RouteAction(timeout=timeout, idle_timeout=idle, retry_policy=policy))


@cache
def retries() -> bytes:
    """Return the part of a virtual host that says when requests are sent again."""
    return encode(VirtualHost(retry_policy=_retry_policy(None, safe=False)))


def _retry_policy(per_try: str | None, *, safe: bool) -> RetryPolicy:
    if safe:
        reset, unserved = "reset", HeaderMatcher(name=UNSERVED_HEADER, present_match=True)
    else:
        never = exactly(UNREACHED)
        reset = "reset-before-request"
        unserved = HeaderMatcher(name=UNSERVED_HEADER, string_match=never)
    return RetryPolicy(
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
        per_try_timeout=seconds(parsed(per_try)) if per_try else None,
    )


def _header_changes(filters: Sequence[api.Filter]) -> bytes:
    out = b""
    for each in filters:
        if (request := each.request_header_modifier) is not None:
            added = map(encode, _options(request))
            out += assembled(Route, request_headers_to_add=added)
            out += b"".join(assembled(Route, request_headers_to_remove=n) for n in request.remove)
        if (response := each.response_header_modifier) is not None:
            added = map(encode, _options(response))
            out += assembled(Route, response_headers_to_add=added)
            out += b"".join(assembled(Route, response_headers_to_remove=n) for n in response.remove)
    return out


def _options(modifier: api.HeaderModifier) -> Iterator[HeaderValueOption]:
    for values, action in (
        (modifier.set, _APPEND.OVERWRITE_IF_EXISTS_OR_ADD),
        (modifier.add, _APPEND.APPEND_IF_EXISTS_OR_ADD),
    ):
        for value in values:
            header = HeaderValue(key=value.name, value=value.value.replace("%", "%%"))
            yield HeaderValueOption(header=header, append_action=action)
