"""A workload is told of what it may call, and of nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from envoy_data_plane.envoy.config.core.v3 import HeaderValueOption
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation,
)

from wherry.config import assemble
from wherry.errors import ConfigError
from wherry.model.world import World
from xds.builders.compiler import snapshot
from xds.builders.listeners import POLICY, TELEMETRY
from xds.builders.messages import SCOPE_HEADER
from xds.builders.proxyless import NOWHERE
from xds.builders.scopes import (
    EgressScope,
    GatewayScope,
    ProxylessScope,
    Scope,
    SidecarScope,
    Surroundings,
)
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, SCOPED_ROUTE
from xds.snapshot import Snapshot

AROUND = Surroundings((), frozenset(), ("127.0.0.1", 18002), ("127.0.0.1", 18001))
SERVICES = """\
services:
  web: {}
  one: {}
  two: {}
  split:
    versions: {v1: {}, v2: {}}
"""
SPLIT = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split}
spec:
  parentRefs: [{group: "", kind: Service, name: split}]
  rules: [{backendRefs: [{name: split-v1, weight: 9}, {name: split-v2, weight: 1}]}]
"""
EVERY = {"web", "one", "two", "split", "split-v1", "split-v2"}


def sidecar(name: str, hosts: str | None, labels: str = "{}", version: str = "v1") -> str:
    egress = "" if hosts is None else f", egress: [{{hosts: {hosts}}}]"
    return (
        f"apiVersion: networking.istio.io/{version}\nkind: Sidecar\nmetadata: {{name: {name}}}\n"
        f"spec: {{workloadSelector: {{labels: {labels}}}{egress}}}\n"
    )


def world(*documents: str, services: str = SERVICES) -> World:
    return assemble({Path("a.yaml"): "---\n".join((services, *documents))})


def beside(service: str, version: str = "v1") -> SidecarScope:
    return SidecarScope(service, version, 9000, 15006, 15001)


def callable_from(made: World, scope: Scope | None = None) -> set[str]:
    held = snapshot(scope or beside("web"), made, AROUND)
    return scoped_hosts(held).get("outbound", set())


def scoped_hosts(held: Snapshot) -> dict[str, set[str]]:
    """Return by table the hosts that it knows, without those on loopback."""
    known: dict[str, set[str]] = {}
    for name in held.named(SCOPED_ROUTE):
        table, _, host = name.rpartition("/")
        known.setdefault(table, set()).add(host.removesuffix(".localhost"))
    return known


def services_of(made: World, scope: Scope, around: Surroundings = AROUND) -> set[str]:
    held = snapshot(scope, made, around)
    clusters = {c for c in held.named(CLUSTER) if not c.startswith("app/")}
    assert clusters >= {TELEMETRY, POLICY}
    assert set(held.named(ENDPOINT)) == clusters - {TELEMETRY, POLICY}
    return set(held.named(ENDPOINT))


@pytest.mark.parametrize(
    ("hosts", "called"),
    [
        ("['*/*']", EVERY),
        ("['./*']", EVERY),
        ("['./one', '*/two']", {"one", "two"}),
        ("[./one.localhost]", {"one"}),
        ("['~/*']", set()),
        ("['~/*', ./one]", {"one"}),
    ],
)
@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_sidecar_resource_says_what_may_be_called(hosts, called, version):
    made = world(sidecar("all", hosts, version=version))
    assert callable_from(made) == called
    assert services_of(made, beside("web")) == called


def test_without_a_word_about_it_everything_may_be_called():
    assert callable_from(world()) == EVERY
    assert services_of(world(), beside("nobody")) == EVERY


def test_the_most_specific_selector_decides_alone():
    made = world(
        sidecar("all", "[./one]"),
        sidecar("web", "[./two]", "{app: web}"),
        sidecar("web-v2", "[./split]", "{app: web, version: v2}"),
        sidecar("v3", "[./web]", "{version: v3}"),
    )
    assert callable_from(made, beside("one")) == {"one"}
    assert callable_from(made, beside("web")) == {"two"}
    assert callable_from(made, beside("web", "v2")) == {"split"}
    assert callable_from(made, beside("one", "v3")) == {"web"}


def test_a_sidecar_without_egress_has_that_of_the_default():
    own = sidecar("web", None, "{app: web}")
    assert callable_from(world(own)) == EVERY
    assert callable_from(world(own, sidecar("all", "[./one]"))) == {"one"}
    assert callable_from(world(sidecar("all", None))) == EVERY


def test_who_calls_a_service_needs_the_clusters_its_routes_lead_to():
    made = world(sidecar("all", "[./split]"), SPLIT)
    assert callable_from(made) == {"split"}
    assert services_of(made, beside("web")) == {"split", "split-v1", "split-v2"}


def test_the_short_form_stands_for_sidecars_of_a_service_and_of_its_versions():
    services = """\
services:
  one: {}
  two: {}
  web: {calls: [one]}
  shop:
    calls: [one, two]
    versions: {v1: {}, v2: {calls: [web]}, v3: {calls: []}}
"""
    made = world(services=services)
    assert sorted(made.sidecars) == ["shop", "shop-v2", "shop-v3", "web"]
    assert callable_from(made, beside("web")) == {"one"}
    assert callable_from(made, beside("shop")) == {"one", "two"}
    assert callable_from(made, beside("shop", "v2")) == {"web"}
    assert callable_from(made, beside("shop", "v3")) == set()
    first = ("apiVersion", "kind", "metadata", "spec")
    written = [
        resource.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for resource in made.resources()
    ]
    text = yaml.safe_dump_all([{key: each[key] for key in first} for each in written])
    assert assemble({Path("b.yaml"): text}).sidecars == made.sidecars


WRONG = [
    (sidecar("a", "[./ones]"), "a.yaml:11: no service 'ones', expected 'one'"),
    (sidecar("a", "[one]"),
     "a.yaml:11: spec.egress[0].hosts[0]: host 'one', expected './NAME', '*/NAME', '*/*', './*' "
     "or '~/*'"),
    (sidecar("a", "[prod/one]"),
     "a.yaml:11: spec.egress[0].hosts[0]: host 'prod/one', expected './NAME', '*/NAME', '*/*', "
     "'./*' or '~/*'"),
    (sidecar("a", "['./*.one']"),
     "a.yaml:11: spec.egress[0].hosts[0]: host './*.one', expected the name of a service or '*' "
     "behind the slash"),
    (sidecar("a", "['~/one']"),
     "a.yaml:11: spec.egress[0].hosts[0]: host '~/one', expected '~/*' (nothing), or './one'"),
    (sidecar("a", "[./one]", "{app: ones}"), "a.yaml:11: no service 'ones', expected 'one'"),
    (sidecar("a", "[./one]", "{tier: x}"),
     "a.yaml:11: label 'tier', which no program has, expected 'app' or 'version'"),
    (sidecar("a", "[./one]").replace("spec: {", "spec: {outboundTrafficPolicy: {}, "),
     "a.yaml:11: unknown field 'spec.outboundTrafficPolicy', expected one of egress, "
     "workloadSelector"),
    (sidecar("a", "[./one]").replace("{hosts", "{port: {number: 80}, hosts"),
     "a.yaml:11: unknown field 'spec.egress[0].port', expected one of hosts"),
    (sidecar("a", "[./one]", version="v2"),
     "a.yaml:8: apiVersion: 'networking.istio.io/v2', expected 'networking.istio.io/v1' or "
     "'networking.istio.io/v1beta1'"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "said"), WRONG)
def test_a_sidecar_that_would_mean_something_else_is_refused(document, said):
    with pytest.raises(ConfigError) as caught:
        world(document)
    assert str(caught.value) == said


def test_two_sidecars_for_the_same_workloads_are_refused():
    with pytest.raises(ConfigError) as caught:
        world(sidecar("a", "[./one]"), sidecar("b", "[./two]"))
    assert str(caught.value) == (
        "a.yaml:16: sidecar 'b' for all workloads, as 'a', expected one sidecar for the same labels"
    )
    with pytest.raises(ConfigError) as caught:
        world(sidecar("a", "[./web]", "{app: web}"), services="services:\n  web: {calls: [web]}\n")
    assert str(caught.value) == (
        "a.yaml:2: sidecar 'web' for the same workloads as 'a', "
        "expected one sidecar for the same labels"
    )


@pytest.mark.parametrize(
    ("services", "line"),
    [
        ("services:\n  one: {}\n  web:\n    calls:\n    - one\n    - tow\n", 6),
        ("services:\n  one: {}\n  web:\n    versions:\n      v1:\n        calls: [tow]\n", 6),
    ],
)
def test_a_call_to_a_missing_service_is_refused_where_it_was_written(services, line):
    with pytest.raises(ConfigError) as caught:
        world(services=services)
    assert str(caught.value).startswith(
        f"a.yaml:{line}: no service 'tow', expected one of one, web"
    )


GATEWAY = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: wherry, listeners: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: edge}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: one}]}]}
"""
PRODUCT = """\
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: p}
spec:
  plans: [free]
  routes: [{path: /a, to: {service: two}}, {path: /b, to: {function: f}}]
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: free}
spec: {rate: {requests: 5}}
"""


def test_a_gateway_is_told_of_what_its_routes_lead_to():
    assert services_of(world(GATEWAY, SPLIT), GatewayScope("edge", ((80, 8080),))) == {"one"}


def test_the_api_gateway_calls_what_products_lead_to_and_functions_call_anything():
    egress = EgressScope("/run/w")
    made = world(PRODUCT)
    assert services_of(made, egress) == {"two"}
    around = replace(AROUND, functions=frozenset({"f"}))
    assert services_of(made, egress, around) == EVERY
    assert ways_out(made, around) == {"egress/gateway": {"two"}, "egress/fn/f": EVERY}


def test_a_function_that_says_what_it_calls_is_held_to_it(tmp_path):
    (tmp_path / "code").mkdir()
    function = """---
apiVersion: wherry.dev/v1
kind: Function
metadata: {name: f}
spec: {code: code, handler: a.b, calls: [split]}
"""
    made = assemble({tmp_path / "a.yaml": SERVICES + "---\n" + SPLIT + function})
    around = replace(AROUND, functions=frozenset({"f"}))
    assert ways_out(made, around) == {"egress/gateway": set(), "egress/fn/f": {"split"}}
    assert services_of(made, EgressScope("/run/w"), around) == {"split-v1", "split-v2"}
    with pytest.raises(ConfigError, match=r"a\.yaml:18: no service 'splat', expected 'split'"):
        assemble({tmp_path / "a.yaml": SERVICES + "---\n" + SPLIT
                  + function.replace("[split]", "[splat]")})  # fmt: skip


def ways_out(made: World, around: Surroundings) -> dict[str, set[str]]:
    """Return by listener of the egress the hosts that its routes know."""
    held = snapshot(EgressScope("/run/w"), made, around)
    whole = {
        name: {host.name for host in RouteConfiguration.parse(routes.body).virtual_hosts}
        for name, routes in held.named(ROUTE).items()
    }
    by_scope = scoped_hosts(held)
    ways = {}
    for name, listener in held.named(LISTENER).items():
        [chain] = Listener.parse(listener.body).filter_chains
        manager = HttpConnectionManager.parse(chain.filters[0].typed_config.value)
        if manager.rds is not None:
            ways[name] = whole[manager.rds.route_config_name]
        else:
            [key] = (m for m in mutated(manager) if m.header.key == SCOPE_HEADER)
            ways[name] = by_scope.get(key.header.value.partition(":")[0], set())
    return ways


def mutated(manager: HttpConnectionManager) -> Iterator[HeaderValueOption]:
    """Yield what a listener writes into every request."""
    [early] = manager.early_header_mutation_extensions
    for mutation in HeaderMutation.parse(early.typed_config.value).mutations:
        if mutation.append is not None:
            yield mutation.append


def test_a_grpc_client_is_told_of_what_its_service_may_call():
    made = world(sidecar("web", "[./split]", "{app: web}"), SPLIT)
    held = snapshot(ProxylessScope("web"), made, AROUND)
    assert set(held.named(LISTENER)) == {"split", "split:80"}
    assert set(held.named(CLUSTER)) == {"split", "split-v1", "split-v2", NOWHERE}
    assert {"one", "two:80"} <= set(snapshot(ProxylessScope(), made, AROUND).named(LISTENER))
