"""What the builders write, read back by another decoder, is what the files say."""

from dataclasses import replace
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.rbac.v3 import RbacAction
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration, ScopedRouteConfiguration
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import ExtAuthzPerRoute
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import RbacPerRoute
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)
from hypothesis import given
from hypothesis import strategies as st

from wherry.config import assemble
from wherry.model.world import World
from xds.builders.access import ALLOW, CHECK, DENY
from xds.builders.compiler import snapshot
from xds.builders.listeners import POLICY, TELEMETRY
from xds.builders.messages import SCOPE_HEADER
from xds.builders.scopes import (
    EgressScope,
    GatewayScope,
    SidecarScope,
    Surroundings,
    UnknownNode,
    scope_of,
)
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, SCOPED_ROUTE
from xds.snapshot import Snapshot
from xds.workload import Workload

AROUND = Surroundings((), frozenset(), ("127.0.0.1", 18002), ("127.0.0.1", 18001))
SIDECAR = SidecarScope("web", "v1", 9000, 15006, 15001)
EDGE = GatewayScope("edge", ((80, 8080), (81, 8081)))
EGRESS = EgressScope("/run/w")
SERVICES = "services: {web: {}, one: {}, two: {}}\n"
GATEWAY = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: wherry, listeners: [%s]}
"""
ANYWHERE = "{name: http, port: 80}"


def world(*documents: str) -> World:
    return assemble({Path("a.yaml"): "---\n".join(d + "\n" for d in (SERVICES, *documents))})


def route(name: str, rules: str, *, parent: str = "{name: edge}", hosts: str = "[]") -> str:
    return (
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
        f"metadata: {{name: {name}}}\n"
        f"spec: {{parentRefs: [{parent}], hostnames: {hosts}, rules: [{rules}]}}\n"
    )


def to(service: str, match: str = "") -> str:
    return f"{{matches: [{{{match}}}], backendRefs: [{{name: {service}}}]}}"


def hosts_of(made: World, *, scope=EDGE, name="gateway/edge/80") -> dict:
    """Return the routes of each host, found as the listener of that name says."""
    held = snapshot(scope, made, AROUND)
    by_scope = scoped_hosts(held, name)
    if (whole := held.named(ROUTE).get(name)) is None:
        return by_scope
    parsed = RouteConfiguration.parse(whole.body)
    assert parsed.name == name
    domains = [d for host in parsed.virtual_hosts for d in host.domains]
    assert len(domains) == len(set(domains))
    assert len({host.name for host in parsed.virtual_hosts}) == len(parsed.virtual_hosts)
    found = {domain: host.routes for host in parsed.virtual_hosts for domain in host.domains}
    assert {host: found[host] for host in by_scope} == by_scope
    return found


def scoped_hosts(held: Snapshot, table: str) -> dict:
    found = {}
    for name, resource in held.named(SCOPED_ROUTE).items():
        scope = ScopedRouteConfiguration.parse(resource.body)
        where, host = (fragment.string_key for fragment in scope.key.fragments)
        assert scope.name == name == f"{where}/{host}"
        assert resource.refs == {(ROUTE, scope.route_configuration_name)}
        if where == table:
            routes = held.named(ROUTE)[scope.route_configuration_name]
            parsed = RouteConfiguration.parse(routes.body)
            assert parsed.request_headers_to_remove == [SCOPE_HEADER]
            [only] = parsed.virtual_hosts
            assert host in only.domains
            found[host] = only.routes
    return found


def at_edge(*rules: str) -> list:
    made = world(GATEWAY % ANYWHERE, route("all", ", ".join(rules)))
    return hosts_of(made)["*"]


def targets(routes: list) -> list[str]:
    """Return the clusters in order, a service that comes for safe methods and the rest once."""
    found = [r.route.cluster for r in routes]
    return [c for i, c in enumerate(found) if i == 0 or found[i - 1] != c]


def outbound(made: World) -> dict:
    return hosts_of(made, scope=SIDECAR, name="outbound")


PRECEDENCE = [
    "path: {type: Exact, value: /a}",
    "path: {type: RegularExpression, value: /a.*}",
    "path: {type: PathPrefix, value: /a/long}",
    "path: {type: PathPrefix, value: /a}, method: GET",
    "path: {type: PathPrefix, value: /a}, headers: [{name: x, value: y}, {name: z, value: y}]",
    "path: {type: PathPrefix, value: /a}, headers: [{name: x, value: y}]",
    "path: {type: PathPrefix, value: /a}, queryParams: [{name: x, value: y}]",
    "path: {type: PathPrefix, value: /a}",
    "",
]


@given(st.permutations(range(len(PRECEDENCE))))
def test_rules_stand_in_the_order_of_precedence_however_they_are_written(order):
    services = "services: {" + ", ".join(f"s{i}: {{}}" for i in order) + "}\n"
    rules = ", ".join(to(f"s{i}", PRECEDENCE[i]) for i in order)
    text = services + "---\n" + GATEWAY % ANYWHERE + "---\n" + route("all", rules)
    made = assemble({Path("a.yaml"): text})
    assert targets(hosts_of(made)["*"]) == [f"s{i}" for i in range(len(PRECEDENCE))]


def test_equal_rules_stand_in_the_order_of_route_names_and_then_as_written():
    made = world(
        GATEWAY % ANYWHERE,
        route("b", to("two")),
        route("a", to("one") + ", " + to("web")),
    )
    assert targets(hosts_of(made)["*"]) == ["one", "web", "two"]


def test_a_path_prefix_matches_whole_segments():
    first, *_ = at_edge(to("one", "path: {value: /shop}"))
    assert first.match.path_separated_prefix == "/shop"
    first, *_ = at_edge(to("one", "path: {value: /shop/}"))
    assert first.match.path_separated_prefix == "/shop"
    first, *_ = at_edge(to("one", "path: {value: /}"))
    assert first.match.prefix == "/"


def test_conditions_on_method_headers_and_query_arrive():
    match = (
        "method: POST, headers: [{name: x-a, value: b}, "
        "{name: x-c, value: 'd.*', type: RegularExpression}], queryParams: [{name: q, value: r}]"
    )
    [made] = at_edge(to("one", match))
    by_name = {h.name: h.string_match for h in made.match.headers}
    assert by_name[":method"].exact == "POST"
    assert by_name["x-a"].exact == "b"
    assert by_name["x-c"].safe_regex.regex == "d.*"
    [query] = made.match.query_parameters
    assert (query.name, query.string_match.exact) == ("q", "r")


def test_weights_split_a_rule_and_zero_gets_nothing():
    refs = "{name: one, weight: 90}, {name: two, weight: 10}, {name: web, weight: 0}"
    first, *_ = at_edge(f"{{backendRefs: [{refs}]}}")
    shares = {c.name: c.weight for c in first.route.weighted_clusters.clusters}
    assert shares == {"one": 90, "two": 10}


@pytest.mark.parametrize("refs", ["", "{name: one, weight: 0}"])
def test_a_rule_without_a_living_backend_answers_500(refs):
    [made] = at_edge(f"{{backendRefs: [{refs}]}}")
    assert made.direct_response.status == 500


def test_safe_methods_are_sent_again_after_a_reset_and_others_only_if_never_read():
    made = world(GATEWAY % ANYWHERE, route("all", to("one")))
    whole = snapshot(EDGE, made, AROUND).named(ROUTE)["gateway/edge/80"]
    [host] = RouteConfiguration.parse(whole.body).virtual_hosts
    safe, rest = host.routes
    [method] = safe.match.headers
    assert method.string_match.safe_regex.regex == "GET|HEAD|OPTIONS|TRACE"
    assert "reset," in safe.route.retry_policy.retry_on
    assert not rest.match.headers
    assert rest.route.retry_policy is None
    assert "reset," not in host.retry_policy.retry_on
    assert "reset-before-request" in host.retry_policy.retry_on
    [post] = at_edge(to("one", "method: POST"))
    assert post.route.retry_policy is None
    [get] = at_edge(to("one", "method: GET"))
    assert get.route.retry_policy.retry_on == safe.route.retry_policy.retry_on
    timed = "{timeouts: {backendRequest: 1s}, backendRefs: [{name: one}]}"
    _, rest = at_edge(timed)
    assert rest.route.retry_policy.retry_on == host.retry_policy.retry_on


def test_header_changes_are_literal_and_keep_their_kind():
    change = "{set: [{name: a, value: '100%'}], add: [{name: b, value: c}], remove: [d]}"
    filters = (
        f"[{{type: RequestHeaderModifier, requestHeaderModifier: {change}}}, "
        f"{{type: ResponseHeaderModifier, responseHeaderModifier: {change}}}]"
    )
    for made in at_edge(f"{{filters: {filters}, backendRefs: [{{name: one}}]}}"):
        for added in (made.request_headers_to_add, made.response_headers_to_add):
            written = [(h.header.key, h.header.value, h.append_action.name) for h in added]
            assert written == [
                ("a", "100%%", "OVERWRITE_IF_EXISTS_OR_ADD"),
                ("b", "c", "APPEND_IF_EXISTS_OR_ADD"),
            ]
        assert made.request_headers_to_remove == ["d"]
        assert made.response_headers_to_remove == ["d"]


def test_timeouts_are_taken_and_have_a_default():
    timed = "{timeouts: {request: 1m30s, backendRequest: 500ms}, backendRefs: [{name: one}]}"
    first, *_ = at_edge(timed)
    assert first.route.timeout.total_seconds() == 90
    assert first.route.retry_policy.per_try_timeout.total_seconds() == 0.5
    first, *_ = at_edge(to("one"))
    assert first.route.timeout.total_seconds() == 60
    first, *_ = at_edge("{timeouts: {request: 0s}, backendRefs: [{name: one}]}")
    assert first.route.timeout.total_seconds() == 0


HOSTS = [
    # listener's host, route's hosts, hosts that are answered
    (None, "[]", {"*": ["one"]}),
    (None, "[a.test, '*.b.test']", {"*": [], "a.test": ["one"], "*.b.test": ["one"]}),
    ("a.test", "[]", {"a.test": ["one"]}),
    ("a.test", "[a.test, b.test]", {"a.test": ["one"]}),
    ("a.test", "['*.test', a.test]", {"a.test": ["one"]}),
    ("a.test", "[b.test]", {"a.test": []}),
    ("'*.test'", "[a.test, x.y.test, test, a.other]",
     {"a.test": ["one"], "x.y.test": ["one"]}),
    ("'*.a.test'", "['*.test']", {"*.a.test": ["one"]}),
    ("'*.test'", "['*.a.test']", {"*.test": [], "*.a.test": ["one"]}),
]  # fmt: skip


@pytest.mark.parametrize(("listener", "hosts", "expected"), HOSTS)
def test_a_route_is_served_where_its_hosts_and_the_listeners_meet(listener, hosts, expected):
    head = "{name: http, port: 80%s}" % (f", hostname: {listener}" if listener else "")
    made = world(GATEWAY % head, route("r", to("one"), hosts=hosts))
    assert {host: targets(routes) for host, routes in hosts_of(made).items()} == expected


def test_a_more_specific_host_comes_first_and_the_wider_ones_still_answer():
    made = world(
        GATEWAY % ANYWHERE,
        route("any", to("web", "path: {type: Exact, value: /x}")),
        route("exact", to("one"), hosts="[a.b.test]"),
        route("wild", to("two"), hosts="['*.test']"),
    )
    by_host = {host: targets(routes) for host, routes in hosts_of(made).items()}
    assert by_host == {
        "a.b.test": ["one", "two", "web"],
        "*.test": ["two", "web"],
        "*": ["web"],
    }


def test_two_listeners_on_a_port_keep_their_routes_apart():
    listeners = "{name: any, port: 80}, {name: a, port: 80, hostname: '*.a.test'}"
    made = world(
        GATEWAY % listeners,
        route("one", to("one"), parent="{name: edge, sectionName: any}", hosts="[x.a.test]"),
        route("two", to("two"), parent="{name: edge, sectionName: a}"),
        route("all", to("web")),
    )
    by_host = {host: targets(routes) for host, routes in hosts_of(made).items()}
    assert by_host == {"*": ["web"], "*.a.test": ["web", "two"]}
    assert len(snapshot(EDGE, made, AROUND).named(LISTENER)) == 1


def test_a_section_or_a_port_chooses_the_listener():
    listeners = "{name: a, port: 80}, {name: b, port: 81}"
    made = world(
        GATEWAY % listeners,
        route("one", to("one"), parent="{name: edge, sectionName: a}"),
        route("two", to("two"), parent="{name: edge, port: 81}"),
    )
    assert targets(hosts_of(made)["*"]) == ["one"]
    assert targets(hosts_of(made, name="gateway/edge/81")["*"]) == ["two"]
    listeners_held = snapshot(EDGE, made, AROUND).named(LISTENER)
    opened = [
        Listener.parse(held.body).address.socket_address.port_value
        for _, held in sorted(listeners_held.items())
    ]
    assert opened == [8080, 8081]


def test_a_route_to_a_service_governs_calls_inside_the_mesh_only():
    parent = "{group: '', kind: Service, name: web}"
    made = world(GATEWAY % ANYWHERE, route("r", to("one"), parent=parent), route("e", to("web")))
    assert targets(outbound(made)["web"]) == ["one"]
    assert targets(outbound(made)["one"]) == ["one"]
    assert targets(hosts_of(made)["*"]) == ["web"]


def test_each_service_has_a_name_and_one_on_loopback():
    names = (n + end for n in ("web", "one", "two") for end in ("", ".localhost"))
    assert sorted(outbound(world())) == sorted(names)


def manager_of(scope, made: World, name: str, around: Surroundings = AROUND):
    held = snapshot(scope, made, around).named(LISTENER)[name]
    [chain] = Listener.parse(held.body).filter_chains
    return HttpConnectionManager.parse(chain.filters[0].typed_config.value)


def test_where_there_is_no_route_calls_are_answered_502_and_requests_from_outside_404():
    made = world(GATEWAY % ANYWHERE)
    for scope, name in ((SIDECAR, "outbound"), (EGRESS, "egress/gateway")):
        [mapper] = manager_of(scope, made, name).local_reply_config.mappers
        assert mapper.filter.response_flag_filter.flags == ["NR"]
        assert mapper.status_code == 502
    assert manager_of(EDGE, made, "gateway/edge/80").local_reply_config is None


def test_a_service_of_which_no_rule_takes_a_call_answers_404():
    parent = "{group: '', kind: Service, name: web}"
    some = route("r", to("one", "path: {value: /x}") + ", " + to("one", "method: GET"),
                 parent=parent)  # fmt: skip
    *_, last = outbound(world(some))["web"]
    assert (last.match.prefix, last.direct_response.status) == ("/", 404)
    every = route("r", to("one", "path: {value: /x}") + ", " + to("two"), parent=parent)
    assert not [r for r in outbound(world(every))["web"] if r.direct_response]


@pytest.mark.parametrize(
    ("listeners", "hosts", "scoped"),
    [
        ("{name: a, port: 80}", ["[a.test]", "[b.test, a.test]"], True),
        ("{name: a, port: 80, hostname: a.test}", ["[]"], True),
        ("{name: a, port: 80, hostname: '*.test'}", ["[a.test]"], True),
        ("{name: a, port: 80, hostname: '*.test'}", ["[]"], False),
        ("{name: a, port: 80}", ["[a.test]", "[]"], False),
        ("{name: a, port: 80}", ["[a.test]", "['*.test']"], False),
        ("{name: a, port: 80}", [], False),
    ],
)
def test_a_port_of_exact_host_names_sends_each_host_by_itself(listeners, hosts, scoped):
    routes = [route(f"r{i}", to("one"), hosts=each) for i, each in enumerate(hosts)]
    made = world(GATEWAY % listeners, *routes)
    manager = manager_of(EDGE, made, "gateway/edge/80")
    assert (manager.scoped_routes is not None) is scoped
    assert (manager.rds is None) is scoped
    assert ("gateway/edge/80" not in snapshot(EDGE, made, AROUND).named(ROUTE)) is scoped
    [early] = manager.early_header_mutation_extensions
    assert (SCOPE_HEADER.encode() in early.typed_config.value) is scoped


def test_the_same_host_on_two_ports_is_two_scopes():
    listeners = "{name: a, port: 80}, {name: b, port: 81}"
    made = world(
        GATEWAY % listeners,
        route("one", to("one"), parent="{name: edge, sectionName: a}", hosts="[a.test]"),
        route("two", to("two"), parent="{name: edge, port: 81}", hosts="[a.test]"),
    )
    assert targets(hosts_of(made)["a.test"]) == ["one"]
    assert targets(hosts_of(made, name="gateway/edge/81")["a.test"]) == ["two"]
    assert set(snapshot(EDGE, made, AROUND).named(SCOPED_ROUTE)) == {
        "gateway/edge/80/a.test", "gateway/edge/81/a.test",
    }  # fmt: skip


def test_hosts_keep_their_scopes_when_another_route_takes_the_port_off_them():
    exact = route("r", to("one"), hosts="[a.test]")
    before = snapshot(EDGE, world(GATEWAY % ANYWHERE, exact), AROUND)
    made = world(GATEWAY % ANYWHERE, exact, route("all", to("two")))
    after = snapshot(EDGE, made, AROUND)
    assert before.version(LISTENER) != after.version(LISTENER)
    assert before.named(SCOPED_ROUTE).keys() == after.named(SCOPED_ROUTE).keys()


@pytest.mark.parametrize(
    "name", ["web.localhost", "nowhere", "wherry-telemetry", "wherry-policy", "wherry-xds", "app"]
)
def test_no_name_of_a_service_gets_in_the_way_of_ours(name):
    made = world(f"services: {{{name}: {{}}}}")
    assert name in outbound(made)
    snapshot(SIDECAR, made, AROUND)


def rules_of(made: World, service: str = "web", version: str = "v1") -> dict:
    scope = SidecarScope(service, version, 9000, 15006, 15001)
    held = snapshot(scope, made, AROUND).named(ROUTE)[f"inbound/{service}/{version}"]
    [host] = RouteConfiguration.parse(held.body).virtual_hosts
    return host.typed_per_filter_config


def policy(name: str, action: str, rules: str = "[]", labels: str = "{}") -> str:
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {name}}}\n"
        f"spec: {{selector: {{matchLabels: {labels}}}, action: {action}, rules: {rules}}}\n"
    )


def test_deny_stands_before_allow_and_both_before_the_check():
    held = snapshot(SIDECAR, world(), AROUND).named(LISTENER)["inbound"]
    [chain] = Listener.parse(held.body).filter_chains
    manager = HttpConnectionManager.parse(chain.filters[0].typed_config.value)
    assert [f.name for f in manager.http_filters] == [
        DENY, ALLOW, CHECK, "envoy.filters.http.router",
    ]  # fmt: skip


def test_a_policy_binds_the_workloads_that_its_labels_select():
    every = "[{to: [{operation: {methods: [GET]}}]}]"
    made = world(
        policy("web", "DENY", every, "{app: web}"), policy("v2", "DENY", every, "{version: v2}")
    )
    assert DENY in rules_of(made)
    assert not rules_of(made, "one")
    deny = RbacPerRoute.parse(rules_of(made, "web", "v2")[DENY].value)
    assert sorted(deny.rbac.rules.policies) == ["v2/0", "web/0"]
    assert deny.rbac.rules.action is RbacAction.DENY


def test_an_empty_allow_refuses_all_and_an_empty_deny_refuses_nothing():
    config = rules_of(world(policy("none", "ALLOW")))
    allow = RbacPerRoute.parse(config[ALLOW].value).rbac
    assert allow.rules is not None
    assert (allow.rules.action, allow.rules.policies) == (RbacAction.ALLOW, {})
    assert not rules_of(world(policy("none", "DENY")))


def test_every_field_of_a_rule_arrives():
    rules = (
        "[{to: [{operation: {paths: ['/a*'], notPaths: ['*b'], methods: [GET, PUT], "
        "hosts: [Web.test]}}], when: [{key: 'request.headers[x-a]', notValues: [b]}]}]"
    )
    config = rules_of(world(policy("p", "ALLOW", rules)))
    [made] = RbacPerRoute.parse(config[ALLOW].value).rbac.rules.policies.values()
    [condition, operation] = made.permissions[0].and_rules.rules
    assert condition.not_rule.header.string_match.exact == "b"
    paths, not_paths, methods, host = operation.and_rules.rules
    assert paths.url_path.path.prefix == "/a"
    assert not_paths.not_rule.url_path.path.suffix == "b"
    assert [m.header.string_match.exact for m in methods.or_rules.rules] == ["GET", "PUT"]
    assert host.header.string_match.safe_regex.regex == r"(?i)Web\.test(:[0-9]*)?"


def test_the_check_service_is_asked_where_a_policy_says_so():
    made = world(
        "apiVersion: wherry.dev/v1\nkind: CheckPolicy\nmetadata: {name: c}\n"
        "spec: {services: [web]}\n"
    )
    check = ExtAuthzPerRoute.parse(rules_of(made)[CHECK].value)
    assert check.check_settings.context_extensions == {"service": "web"}
    assert CHECK not in rules_of(made, "one")


def test_a_listener_stays_as_it_is_while_routes_weights_and_rules_change():
    before = world(GATEWAY % ANYWHERE, route("r", to("one")))
    after = world(
        GATEWAY % ANYWHERE,
        route("r", "{backendRefs: [{name: one, weight: 3}, {name: two, weight: 1}]}"),
        policy("p", "ALLOW"),
        "services: {more: {}}",
    )
    around = replace(AROUND, functions=frozenset({"f"}))
    for scope in (SIDECAR, EDGE, EGRESS):
        first, second = (snapshot(scope, w, around) for w in (before, after))
        assert first.version(LISTENER) == second.version(LISTENER)
        assert first.version(ROUTE) != second.version(ROUTE)


def test_endpoints_are_the_workloads_that_a_service_selects():
    here = tuple(
        Workload(id=f"i{n}", service=s, version=v, address="127.0.0.1", port=9000 + n)
        for n, (s, v) in enumerate([("two", "v1"), ("two", "v2.0_X"), ("one", "v1")])
    )
    made = world("services: {two.more: {versions: {v1: {}}}}")
    around = Surroundings(here, frozenset(), AROUND.telemetry, AROUND.policy)
    held = snapshot(SIDECAR, made, around).named(ENDPOINT)
    found = ClusterLoadAssignment.parse(held["two"].body)
    [locality] = found.endpoints
    assert [
        e.endpoint.address.socket_address.port_value for e in locality.lb_endpoints
    ] == [9000, 9001]  # fmt: skip
    assert ClusterLoadAssignment.parse(held["web"].body).endpoints == []


def test_every_cluster_has_endpoints_and_every_egress_function_a_socket():
    around = Surroundings((), frozenset({"f", "g"}), AROUND.telemetry, AROUND.policy)
    held = snapshot(EGRESS, world(), around)
    assert set(held.named(ENDPOINT)) == {"web", "one", "two"}
    assert set(held.named(CLUSTER)) == {"web", "one", "two", TELEMETRY, POLICY}
    for body in (c.body for c in held.named(CLUSTER).values()):
        assert Cluster.parse(body).connect_timeout.total_seconds() == 1
    sockets = {
        Listener.parse(held.body).address.pipe.path for held in held.named(LISTENER).values()
    }
    assert sockets == {"/run/w/gateway.sock", "/run/w/fn-f.sock", "/run/w/fn-g.sock"}


def test_the_same_inputs_give_the_same_bytes():
    texts = (GATEWAY % ANYWHERE, route("r", to("one")), policy("p", "ALLOW"))
    for scope in (SIDECAR, EDGE, EGRESS):
        assert snapshot(scope, world(*texts), AROUND) == snapshot(scope, world(*texts), AROUND)


def test_a_gateway_that_is_gone_holds_no_listener():
    held = snapshot(EDGE, world(), AROUND)
    assert not held.named(LISTENER)


GOOD_NODE = {
    "role": "sidecar",
    "service": "web",
    "version": "v1.2",
    "app_port": 9000.0,
    "inbound_port": 1.0,
    "outbound_port": 2,
}


def test_the_metadata_of_a_bootstrap_is_its_scope():
    assert scope_of("n", GOOD_NODE) == SidecarScope("web", "v1.2", 9000, 1, 2)
    gateway = {"role": "gateway", "gateway": "edge", "ports": {"80": 8080.0}}
    assert scope_of("n", gateway) == GatewayScope("edge", ((80, 8080),))
    assert scope_of("n", {"role": "egress", "sockets": "/run"}) == EgressScope("/run")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"role": "king"}, "node 'n': role 'king', expected sidecar, gateway, egress or grpc"),
        ({"role": ["a"]}, "node 'n': role ['a'], expected sidecar, gateway, egress or grpc"),
        ({"service": None}, "node 'n': metadata service: None, expected a name"),
        ({"service": "a%b"}, "node 'n': metadata service: 'a%b', expected a DNS-1123 name"),
        ({"service": "a\nb"}, "node 'n': metadata service: 'a\\nb', expected a DNS-1123 name"),
        ({"version": ""}, "node 'n': metadata version: '', expected a label value"),
        ({"app_port": 0}, "node 'n': metadata app_port: 0, expected a port"),
        ({"app_port": 65536.0}, "node 'n': metadata app_port: 65536.0, expected a port"),
        ({"app_port": 1.5}, "node 'n': metadata app_port: 1.5, expected a port"),
        ({"app_port": True}, "node 'n': metadata app_port: True, expected a port"),
        ({"app_port": float("nan")}, "node 'n': metadata app_port: nan, expected a port"),
        ({"address": "here"}, "node 'n': metadata address: 'here', expected an IP address"),
    ],
)
def test_metadata_that_says_something_else_is_refused(change, said):
    with pytest.raises(UnknownNode) as caught:
        scope_of("n", {**GOOD_NODE, **change})
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("ports", [None, "80", {"a": 1}, {"\u00b2": 1}, {"80": "x"}, {"0": 1}])
def test_a_gateway_needs_ports_by_port(ports):
    with pytest.raises(UnknownNode, match=r"expected (ports by port|a port)"):
        scope_of("n", {"role": "gateway", "gateway": "edge", "ports": ports})


@pytest.mark.parametrize("sockets", [None, "relative", 1])
def test_an_egress_needs_an_absolute_folder(sockets):
    with pytest.raises(UnknownNode, match="expected an absolute folder"):
        scope_of("n", {"role": "egress", "sockets": sockets})


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.fixed_dictionaries(
    {"role": st.sampled_from(["sidecar", "gateway", "egress"]) | JSON},
    optional=dict.fromkeys({*GOOD_NODE, "gateway", "ports", "address", "sockets"} - {"role"}, JSON),
))  # fmt: skip
def test_whatever_a_node_says_it_is_read_or_refused(metadata):
    try:
        scope = scope_of("n", metadata)
    except UnknownNode:
        return
    snapshot(scope, world(), AROUND)
