"""Whatever changes in whatever order: what was built step by step is what is built from nothing."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from wherry.model.access import AuthorizationPolicy, CheckPolicy
from wherry.model.function import Function
from wherry.model.health import HealthCheck
from wherry.model.product import ApiProduct
from wherry.model.route import Gateway, HTTPRoute
from wherry.model.service import Service
from wherry.model.sidecar import Sidecar
from wherry.model.world import World
from xds.builders.compiler import Compiler, snapshot
from xds.builders.difference import changed, middle
from xds.builders.scopes import (
    EgressScope,
    GatewayScope,
    ProxylessScope,
    SidecarScope,
    Surroundings,
)
from xds.health.check import Endpoint
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, SCOPED_ROUTE
from xds.snapshot import Snapshot
from xds.workload import Workload

TOLD = ("127.0.0.1", 18002), ("127.0.0.1", 18001)
SCOPES = (
    SidecarScope("a", "v1", 9000, 15006, 15001),
    SidecarScope("a", "v2", 9000, 15006, 15001),
    SidecarScope("b", "v1", 9000, 15006, 15001),
    GatewayScope("edge", ((80, 8080), (81, 8081))),
    GatewayScope("side", ((80, 8082),)),
    EgressScope("/run/w"),
    ProxylessScope("a"),
    ProxylessScope(),
)
HOSTS = ("*.test", "*.a.test", "a.test", "b.a.test")
services = st.sampled_from(["a", "b", "c", "a.localhost", "d"])
labels = st.sampled_from([{}, {"app": "a"}, {"app": "a", "version": "v2"}, {"version": "v2"}])


def named(kind: str, version: str, name: str, spec: Mapping[str, object]) -> dict:
    return {"api_version": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def service(name: str, selector: Mapping[str, str]) -> Service:
    return Service.model_validate(named("Service", "v1", name, {"selector": dict(selector)}))


parents = st.builds(
    lambda name: {"kind": "Service", "group": "", "name": name}, services
) | st.sampled_from(
    [
        {"name": "edge"},
        {"name": "edge"},
        {"name": "side"},
        {"name": "edge", "port": 81},
        {"name": "edge", "section_name": "one"},
    ]
)
matches = st.fixed_dictionaries(
    {
        "path": st.builds(
            lambda kind, value: {"type": kind, "value": value},
            st.sampled_from(["Exact", "PathPrefix", "RegularExpression"]),
            st.sampled_from(["/", "/x", "/x/y"]),
        )
    },
    optional={
        "method": st.sampled_from(["GET", "POST"]),
        "headers": st.just([{"name": "x", "value": "y"}]),
    },
)
backends = st.lists(
    st.fixed_dictionaries({"name": services}, optional={"weight": st.integers(0, 2)}), max_size=2
)
routes = st.builds(
    lambda attached, hosts, rules: {"parent_refs": attached, "hostnames": hosts, "rules": rules},
    st.lists(parents, min_size=1, max_size=2),
    st.lists(st.sampled_from(HOSTS), max_size=2),
    st.lists(
        st.fixed_dictionaries(
            {"matches": st.lists(matches, min_size=1, max_size=2), "backend_refs": backends}
        ),
        min_size=1,
        max_size=2,
    ),
)
listeners = st.lists(
    st.tuples(st.sampled_from([80, 81]), st.sampled_from([None, None, *HOSTS])),
    unique=True,
    min_size=1,
    max_size=3,
)
workloads = st.builds(
    lambda name, app, version, port: Workload(name, app, version, "127.0.0.1", port),
    st.sampled_from(["i", "j"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["v1", "v2"]),
    st.integers(1, 3),
)


class Edits(RuleBasedStateMachine):
    """Edits of a World; a Compiler follows them, now and then with scopes coming and going."""

    @initialize(heads=listeners, specs=st.lists(routes, max_size=3))
    def begin(self, heads, specs):
        self.world = World(services={"a": service("a", {"app": "a"})})
        self.around = Surroundings((), frozenset(), *TOLD)
        self.compiler = Compiler(self.world, self.around)
        self.a_gateway("edge", heads)
        for name, spec in zip("rst", specs, strict=False):
            self.a_route(name, spec)

    def put(self, field: str, name: str, value: object) -> None:
        self.world = replace(self.world, **{field: {**getattr(self.world, field), name: value}})

    def dropped(self, field: str, name: str) -> None:
        held = {k: v for k, v in getattr(self.world, field).items() if k != name}
        self.world = replace(self.world, **{field: held})

    @rule(name=services, selector=labels)
    def a_service(self, name, selector):
        self.put("services", name, service(name, selector or {"app": name}))

    @rule(name=services)
    def no_service(self, name):
        still = {
            backend.name
            for route in self.world.http_routes.values()
            for each in route.spec.rules
            for backend in each.backend_refs
        }
        if name not in still:
            self.dropped("services", name)

    @rule(name=st.sampled_from(["r", "s", "t"]), spec=routes)
    def a_route(self, name, spec):
        made = named("HTTPRoute", "gateway.networking.k8s.io/v1", name, spec)
        route = HTTPRoute.model_validate(made)
        for each in route.spec.rules:
            for backend in each.backend_refs:
                if backend.name not in self.world.services:
                    self.a_service(backend.name, {})
        self.put("http_routes", name, route)

    @rule(name=st.sampled_from(["r", "s", "t"]))
    def no_route(self, name):
        self.dropped("http_routes", name)

    @rule(name=st.sampled_from(["edge", "side"]), heads=listeners)
    def a_gateway(self, name, heads):
        spec = {
            "gateway_class_name": "wherry",
            "listeners": [
                {"name": ["one", "two", "three"][i], "port": port, "hostname": host}
                for i, (port, host) in enumerate(heads)
            ],
        }
        made = named("Gateway", "gateway.networking.k8s.io/v1", name, spec)
        self.put("gateways", name, Gateway.model_validate(made))

    @rule(name=st.sampled_from(["edge", "side"]))
    def no_gateway(self, name):
        self.dropped("gateways", name)

    @rule(
        name=st.sampled_from(["x", "y"]),
        selector=labels,
        hosts=st.lists(st.sampled_from(["./a", "./b", "*/*", "~/*", "./d"]), max_size=2),
    )
    def a_sidecar(self, name, selector, hosts):
        spec = {
            "workload_selector": {"labels": selector},
            "egress": [{"hosts": hosts}] if hosts else [],
        }
        made = named("Sidecar", "networking.istio.io/v1", name, spec)
        self.put("sidecars", name, Sidecar.model_validate(made))

    @rule(name=st.sampled_from(["x", "y"]))
    def no_sidecar(self, name):
        self.dropped("sidecars", name)

    @rule(
        name=st.sampled_from(["x", "y"]), selector=labels, action=st.sampled_from(["ALLOW", "DENY"])
    )
    def a_policy(self, name, selector, action):
        spec = {"selector": {"match_labels": selector}, "action": action, "rules": [{}]}
        made = named("AuthorizationPolicy", "security.istio.io/v1", name, spec)
        self.put("authorization_policies", name, AuthorizationPolicy.model_validate(made))

    @rule(service=services)
    def a_check(self, service):
        made = named("CheckPolicy", "wherry.dev/v1", "c", {"services": [service]})
        self.put("check_policies", "c", CheckPolicy.model_validate(made))

    @rule(service=services)
    def a_product(self, service):
        spec = {"plans": ["p"], "routes": [{"path": "/", "to": {"service": service}}]}
        made = named("ApiProduct", "wherry.dev/v1", "p", spec)
        self.put("products", "p", ApiProduct.model_validate(made))

    @rule(name=st.sampled_from(["f", "g"]), calls=st.none() | st.lists(services, max_size=2))
    def a_function(self, name, calls):
        made = named(
            "Function", "wherry.dev/v1", name, {"code": "c", "handler": "h", "calls": calls}
        )
        self.put("functions", name, Function.model_validate(made))

    @rule(names=st.frozensets(st.sampled_from(["f", "g", "h"])))
    def deployed(self, names):
        self.around = replace(self.around, functions=names)

    @rule(alive=st.lists(workloads, max_size=4, unique_by=lambda w: (w.service, w.id)))
    def alive(self, alive):
        alive = tuple(sorted(alive, key=lambda w: (w.service, w.id)))
        self.around = replace(self.around, workloads=alive)

    @rule(name=st.sampled_from(["x", "y"]), way=st.sampled_from(["tcp", "grpc"]), service=services)
    def a_health_check(self, name, way, service):
        if service in self.world.services:
            made = named("HealthCheck", "wherry.dev/v1", name, {"service": service, way: {}})
            self.put("health_checks", name, HealthCheck.model_validate(made))

    @rule(name=st.sampled_from(["x", "y"]))
    def no_health_check(self, name):
        self.dropped("health_checks", name)

    @rule(
        bad=st.frozensets(
            st.tuples(
                st.builds("health/{}".format, services),
                st.builds(Endpoint, st.just("127.0.0.1"), st.integers(1, 3)),
            )
        )
    )
    def unhealthy(self, bad):
        self.around = replace(self.around, unhealthy=bad)

    @rule()
    def written_again(self):
        fields = (
            "services",
            "http_routes",
            "gateways",
            "sidecars",
            "authorization_policies",
            "health_checks",
        )
        again = {
            field: {n: v.model_copy(deep=True) for n, v in getattr(self.world, field).items()}
            for field in fields
        }
        self.world = replace(self.world, **again)

    @rule(port=st.integers(1, 2))
    def moved(self, port):
        self.around = replace(self.around, telemetry=("127.0.0.1", port))

    @rule(kept=st.frozensets(st.sampled_from(SCOPES)))
    def scopes_left(self, kept):
        self.compiler.keep(kept)

    @invariant()
    def what_was_built_step_by_step_is_what_is_built_from_nothing(self):
        self.compiler.update(self.world, self.around)
        for scope in SCOPES:
            stepwise = self.compiler.snapshot(scope)
            assert bodies(stepwise) == bodies(snapshot(scope, self.world, self.around))
        assert self.compiler.checks == Compiler(self.world, self.around).checks


def bodies(held: Snapshot) -> dict:
    return {
        (type_url, name): (resource.body, resource.refs, resource.sources)
        for type_url, resources in held.by_type.items()
        for name, resource in resources.items()
    }


TestEdits = Edits.TestCase
TestEdits.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)


def attached(service: str, backend: str, path: str = "/") -> HTTPRoute:
    spec = {
        "parent_refs": [{"kind": "Service", "group": "", "name": service}],
        "rules": [{"matches": [{"path": {"value": path}}], "backend_refs": [{"name": backend}]}],
    }
    return HTTPRoute.model_validate(
        named("HTTPRoute", "gateway.networking.k8s.io/v1", f"r-{service}", spec)
    )


WORLD = World(
    services={name: service(name, {"app": name}) for name in ("a", "b", "c")},
    http_routes={"r-a": attached("a", "b")},
)
AROUND = Surroundings((Workload("i", "a", "v1", "127.0.0.1", 1),), frozenset(), *TOLD)
BESIDE_A, BESIDE_B = SCOPES[0], SCOPES[2]


def test_scopes_that_may_call_the_same_share_one_layer():
    compiler = Compiler(WORLD, AROUND)
    first, second = compiler.snapshot(BESIDE_A), compiler.snapshot(BESIDE_B)
    assert first.layers[0] is second.layers[0]
    assert not first.layers[0].by_type.get(LISTENER)
    assert set(first.layers[1].by_type) == {CLUSTER, LISTENER, ROUTE}


def test_what_a_change_does_not_touch_is_not_built_again():
    compiler = Compiler(WORLD, AROUND)
    before = compiler.snapshot(BESIDE_A)
    assert compiler.snapshot(BESIDE_A) is before
    moved = replace(AROUND, workloads=(Workload("i", "a", "v1", "127.0.0.1", 2),))
    compiler.update(WORLD, moved)
    after = compiler.snapshot(BESIDE_A)
    assert differing(before, after) == {(ENDPOINT, "a")}
    assert after.layers[0].parent() is before.layers[0]
    assert after.layers[1] is before.layers[1]
    routed = replace(WORLD, http_routes={"r-a": attached("a", "c")})
    compiler.update(routed, moved)
    last = compiler.snapshot(BESIDE_A)
    assert differing(after, last) == {(ROUTE, "outbound/a")}
    assert last.layers[0].parent() is after.layers[0]


def test_a_world_that_says_the_same_in_other_objects_changes_nothing():
    compiler = Compiler(WORLD, AROUND)
    before = compiler.snapshot(BESIDE_A)
    copied = {name: each.model_copy(deep=True) for name, each in WORLD.services.items()}
    routes = {name: each.model_copy(deep=True) for name, each in WORLD.http_routes.items()}
    compiler.update(replace(WORLD, services=copied, http_routes=routes), AROUND)
    assert compiler.snapshot(BESIDE_A) is before


def test_a_resource_names_what_it_was_made_from():
    held = Compiler(WORLD, AROUND).snapshot(BESIDE_A)
    assert held.find(ROUTE, "outbound/a").sources == {("HTTPRoute", "r-a")}
    assert held.find(ROUTE, "outbound/b").sources == {("Service", "b")}
    assert held.find(SCOPED_ROUTE, "outbound/b.localhost").sources == {("Service", "b")}
    assert held.find(CLUSTER, "b").sources == held.find(ENDPOINT, "b").sources == {("Service", "b")}


def test_a_service_that_may_be_called_is_told_of_once_it_is_there():
    spec = {"workload_selector": {"labels": {}}, "egress": [{"hosts": ["./d"]}]}
    made = named("Sidecar", "networking.istio.io/v1", "all", spec)
    first = replace(WORLD, sidecars={"all": Sidecar.model_validate(made)})
    compiler = Compiler(first, AROUND)
    assert compiler.snapshot(BESIDE_A).find(CLUSTER, "d") is None
    second = replace(first, services={**WORLD.services, "d": service("d", {"app": "d"})})
    compiler.update(second, AROUND)
    assert bodies(compiler.snapshot(BESIDE_A)) == bodies(snapshot(BESIDE_A, second, AROUND))
    assert compiler.snapshot(BESIDE_A).find(CLUSTER, "d") is not None


def test_a_service_that_selects_by_version_alone_follows_the_workloads_of_every_other():
    first = replace(WORLD, services={**WORLD.services, "v2": service("v2", {"version": "v2"})})
    compiler = Compiler(first, AROUND)
    before = compiler.snapshot(BESIDE_A)
    for port in (2, 3):
        moved = replace(AROUND, workloads=(Workload("i", "b", "v2", "127.0.0.1", port),))
        compiler.update(first, moved)
        after = compiler.snapshot(BESIDE_A)
        assert bodies(after) == bodies(snapshot(BESIDE_A, first, moved))
        assert (ENDPOINT, "v2") in differing(before, after)
        before = after


def at_edge(name: str, host: str | None, backend: str) -> HTTPRoute:
    spec = {
        "parent_refs": [{"name": "edge"}],
        "hostnames": [host] if host else [],
        "rules": [{"backend_refs": [{"name": backend}]}],
    }
    return HTTPRoute.model_validate(named("HTTPRoute", "gateway.networking.k8s.io/v1", name, spec))


@pytest.mark.parametrize("wider", [None, "*.test", "*.a.test"])
def test_a_change_of_a_wider_host_reaches_the_hosts_that_fall_back_to_it(wider):
    spec = {"gateway_class_name": "wherry", "listeners": [{"name": "one", "port": 80}]}
    made = named("Gateway", "gateway.networking.k8s.io/v1", "edge", spec)
    first = replace(
        WORLD,
        gateways={"edge": Gateway.model_validate(made)},
        http_routes={
            "wide": at_edge("wide", wider, "a"),
            "narrow": at_edge("narrow", "b.a.test", "b"),
        },
    )
    compiler, edge = Compiler(first, AROUND), SCOPES[3]
    compiler.snapshot(edge)
    routes = {**first.http_routes, "wide": at_edge("wide", wider, "c")}
    second = replace(first, http_routes=routes)
    compiler.update(second, AROUND)
    assert bodies(compiler.snapshot(edge)) == bodies(snapshot(edge, second, AROUND))


def differing(before: Snapshot, after: Snapshot) -> set[tuple[str, str]]:
    """Return what is not the very same object in both."""
    return {
        (type_url, name)
        for type_url, resources in after.by_type.items()
        for name, resource in resources.items()
        if before.find(type_url, name) is not resource
    }


texts = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3).map(lambda n: [n]))


@given(texts, texts, st.booleans())
def test_names_that_differ_are_found_whatever_the_order(before, after, turned):
    if turned:
        after = dict(reversed(before.items())) | after
    expected = {n for n in {*before, *after} if before.get(n) != after.get(n)}
    assert changed(before, after) == expected


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)))
def test_what_two_lists_share_at_their_ends_is_left_out(before, after):
    gone, come = middle(before, after)
    start = next((i for i in range(len(before) + 1) if before[i : i + len(gone)] == gone
                  and before[:i] == after[:i]
                  and after == [*before[:i], *come, *before[i + len(gone) :]]), None)  # fmt: skip
    assert start is not None
    if gone and come:
        assert gone[0] != come[0]
        assert gone[-1] != come[-1]
