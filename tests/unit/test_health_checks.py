"""What is written becomes what Envoys check; what they say becomes who gets no requests."""

from dataclasses import replace
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import HealthStatus
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment

from wherry.config import assemble
from wherry.errors import ConfigError
from xds.bootstrap import bootstrap
from xds.builders.compiler import Compiler
from xds.builders.scopes import ProxylessScope, SidecarScope, Surroundings
from xds.health.check import BadCheck, Check, Endpoint, Grpc, Http, Tcp
from xds.pilot import Pilot
from xds.resource import CLUSTER, ENDPOINT
from xds.workload import Workload

CHECKED = """\
services:
  web:
    health: /healthz
    versions: {v1: {}, v2: {}}
  other: {}
"""
HEALTH_CHECK = """\
apiVersion: wherry.dev/v1
kind: HealthCheck
metadata: {name: deep}
"""
ONE = Workload("i", "web", "v1", "10.0.0.1", 81)
TWO = Workload("j", "web", "v2", "10.0.0.2", 82)
FAR = Workload("k", "other", "v1", "10.0.0.1", 82)
AROUND = Surroundings((FAR, ONE, TWO), frozenset(), ("127.0.0.1", 1), ("127.0.0.1", 2))
BESIDE = SidecarScope("other", "v1", 1, 2, 3)
BAD = frozenset({("health/web", Endpoint("10.0.0.1", 81))})


def world(text=CHECKED):
    return assemble({Path("a.yaml"): text})


def refused(spec):
    with pytest.raises(ConfigError) as caught:
        world(f"services: {{web: {{}}}}\n---\n{HEALTH_CHECK}spec: {spec}\n")
    return str(caught.value).splitlines()


def checks(spec, around=AROUND):
    read = world(f"services: {{web: {{}}}}\n---\n{HEALTH_CHECK}spec: {spec}\n")
    return [check for each in Compiler(read, around).checks for check in each.checks]


def statuses(compiler, name, scope=BESIDE):
    body = compiler.snapshot(scope).find(ENDPOINT, name).body
    return {
        each.endpoint.address.socket_address.port_value: each.health_status
        for place in ClusterLoadAssignment.parse(body).endpoints
        for each in place.lb_endpoints
    }


def cluster(compiler, name):
    return Cluster.parse(compiler.snapshot(BESIDE).find(CLUSTER, name).body)


def test_the_short_form_stands_for_an_http_check_of_all_versions():
    (each,) = Compiler(world(), AROUND).checks
    assert each.cluster == "health/web"
    assert each.checks == (Check(Http("/healthz", "web"), 5.0, 1.0, 2, 1),)
    assert [endpoint for endpoint, _ in each.endpoints] == [
        Endpoint("10.0.0.1", 81),
        Endpoint("10.0.0.2", 82),
    ]


def test_every_way_and_number_is_passed_on():
    http = "{path: '/x?deep=1', host: shop.test, expectedStatuses: [204, 300-399]}"
    times = "interval: 500ms, timeout: 250ms, unhealthyThreshold: 5, healthyThreshold: 3"
    assert checks(f"{{service: web, http: {http}, {times}}}") == [
        Check(Http("/x?deep=1", "shop.test", ((204, 204), (300, 399))), 0.5, 0.25, 5, 3)
    ]
    assert checks("{service: web, grpc: {service: shop.Cart}}") == [
        Check(Grpc("shop.Cart", "web"), 5.0, 1.0, 2, 1)
    ]
    assert checks("{service: web, tcp: {}}") == [Check(Tcp(), 5.0, 1.0, 2, 1)]


def test_several_checks_of_a_service_are_asked_together():
    more = f"---\n{HEALTH_CHECK}spec: {{service: web, tcp: {{}}}}\n"
    (each,) = Compiler(world(CHECKED + more), AROUND).checks
    assert [check.by for check in each.checks] == [Tcp(), Http("/healthz", "web")]


def test_a_service_without_programs_is_not_asked_about():
    assert not Compiler(world(), replace(AROUND, workloads=(FAR,))).checks


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{service: wbe, tcp: {}}", "no service 'wbe', expected one of web"),
        ("{service: web}", "spec: none, expected one of http, grpc, tcp"),
        ("{service: web, tcp: {}, grpc: {}}", "spec: grpc and tcp, expected one of"),
        ("{service: web, http: {path: healthz}}", "spec.http.path: 'healthz', expected a path"),
        ("{service: web, http: {path: '/a b'}}", "spec.http.path: '/a b', expected a path"),
        (
            "{service: web, http: {path: /, expectedStatuses: [20]}}",
            "spec.http.expectedStatuses[0]: status '20', expected one like '204' or a range",
        ),
        (
            "{service: web, http: {path: /, expectedStatuses: [299-200]}}",
            "spec.http.expectedStatuses[0]: status '299-200', expected the lower one first",
        ),
        ("{service: web, tcp: {}, interval: 0s}", "spec.interval: '0s', expected 100ms to 1h"),
        ("{service: web, tcp: {}, timeout: 2h}", "spec.timeout: '2h', expected 100ms to 1h"),
        (
            "{service: web, tcp: {}, unhealthyThreshold: 0}",
            "spec.unhealthyThreshold: 0, expected at least 1",
        ),
        ("{service: web, tcp: {prot: 1}}", "unknown field 'spec.tcp.prot', expected one of none"),
    ],
)
def test_what_is_wrong_in_a_check_is_said_with_its_line(spec, said):
    (line,) = refused(spec)
    assert line.startswith(f"a.yaml:6: {said}")


def test_a_grpc_check_of_a_program_behind_a_sidecar_is_refused():
    check = f"{HEALTH_CHECK}spec: {{service: web, grpc: {{}}}}\n"
    text = f"services: {{web: {{run: [web]}}}}\n---\n{check}"
    with pytest.raises(ConfigError) as caught:
        world(text)
    assert str(caught.value) == (
        "a.yaml:6: health check 'deep': grpc through the sidecar of workload 'web', "
        "expected http, or a service with appProtocol: grpc"
    )


def test_a_wrong_path_in_the_short_form_is_said_with_its_line():
    with pytest.raises(ConfigError) as caught:
        world(CHECKED.replace("/healthz", "healthz"))
    assert str(caught.value).startswith("a.yaml:3: services.web.health: 'healthz', expected a path")


def test_an_unhealthy_program_is_so_in_every_service_that_selects_it_and_nowhere_else():
    compiler = Compiler(world(), replace(AROUND, unhealthy=BAD))
    well, unwell = HealthStatus.UNKNOWN, HealthStatus.UNHEALTHY
    assert statuses(compiler, "web") == {81: unwell, 82: well}
    assert statuses(compiler, "web-v1") == {81: unwell}
    assert statuses(compiler, "web-v2") == {82: well}
    assert statuses(compiler, "other") == {82: well}
    assert statuses(compiler, "web", ProxylessScope()) == {81: unwell, 82: well}


def test_what_turns_unhealthy_and_back_changes_its_endpoints_alone():
    read = world()
    compiler = Compiler(read, AROUND)
    before, asked = compiler.snapshot(BESIDE), compiler.checks
    compiler.update(read, replace(AROUND, unhealthy=BAD))
    after = compiler.snapshot(BESIDE)
    differing = {
        (type_url, name)
        for type_url, resources in after.by_type.items()
        for name, resource in resources.items()
        if before.find(type_url, name) != resource
    }
    assert differing == {(ENDPOINT, "web"), (ENDPOINT, "web-v1")}
    assert compiler.checks is asked
    compiler.update(read, AROUND)
    assert statuses(compiler, "web") == {81: HealthStatus.UNKNOWN, 82: HealthStatus.UNKNOWN}


def test_only_services_with_checked_programs_lose_the_panic_of_envoy():
    compiler = Compiler(world(), AROUND)
    for name in ("web", "web-v1", "web-v2"):
        lb = cluster(compiler, name).common_lb_config
        assert lb is not None
        assert lb.healthy_panic_threshold is not None
        assert lb.healthy_panic_threshold.value == 0
    assert cluster(compiler, "other").common_lb_config is None
    compiler.update(world(CHECKED.replace("    health: /healthz\n", "")), AROUND)
    assert cluster(compiler, "web").common_lb_config is None
    assert not compiler.checks


def test_the_pilot_asks_at_first_and_whenever_it_is_another_question():
    asked = []
    pilot = Pilot(world(), AROUND, asked.append)
    assert [[each.cluster for each in question] for question in asked] == [["health/web"]]
    pilot.adopt_unhealthy(BAD)
    pilot.adopt_workloads((FAR, ONE, TWO))
    assert len(asked) == 1
    pilot.adopt_workloads((FAR, ONE))
    assert [endpoint for endpoint, _ in asked[-1][0].endpoints] == [Endpoint("10.0.0.1", 81)]
    pilot.adopt_workloads(())
    assert asked[-1] == ()


def test_a_question_that_is_too_large_stops_nothing_else():
    def refuse(_):
        raise BadCheck("health checks: 2 endpoints, expected at most 1")

    pilot = Pilot(world(), AROUND, refuse)
    pilot.adopt_workloads((ONE,))
    assert pilot.around.workloads == (ONE,)


@pytest.mark.parametrize(
    ("role", "checks"), [("gateway", True), ("egress", True), ("sidecar", False)]
)
def test_envoys_that_are_there_for_all_check_and_sidecars_do_not(role, checks):
    said = bootstrap("n", {"role": role}, xds=("127.0.0.1", 1), admin="/a")
    assert ("hds_config" in said) is checks


def ruled(policy):
    return f"""\
services:
  web:
    health: /healthz?all
    versions: {{v1: {{}}, v2: {{}}}}
---
{policy}
"""


def authorization(action="ALLOW", rules="[]", app="web", version=None):
    labels = f"{{app: {app}, version: {version}}}" if version else f"{{app: {app}}}"
    return ruled(f"""\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p}}
spec: {{selector: {{matchLabels: {labels}}}, action: {action}, rules: {rules}}}""")


def checking(default="allow", rules="[]"):
    return ruled(f"""\
apiVersion: wherry.dev/v1
kind: CheckPolicy
metadata: {{name: p}}
spec: {{services: [web], default: {default}, rules: {rules}}}""")


@pytest.mark.parametrize(
    "text",
    [
        authorization(),
        authorization(version="v2"),
        authorization(rules="[{to: [{operation: {paths: [/entries*]}}]}]"),
        authorization(rules="[{to: [{operation: {methods: [POST]}}]}]"),
        authorization(rules="[{to: [{operation: {hosts: [other]}}]}]"),
        authorization(rules="[{when: [{key: 'request.headers[x-team]', values: [a]}]}]"),
        authorization("DENY", "[{to: [{operation: {notPaths: [/entries*]}}]}]"),
        authorization("DENY", "[{when: [{key: 'request.headers[x-team]', notValues: [a]}]}]"),
        checking("deny"),
        checking("deny", "[{name: r, action: allow, when: {sources: [other]}}]"),
        checking(rules="[{name: r, action: deny, when: {paths: ['*z'], methods: [GET]}}]"),
    ],
)
def test_a_check_that_access_rules_would_refuse_is_refused_with_its_line(text):
    with pytest.raises(ConfigError) as caught:
        world(text)
    (line,) = str(caught.value).splitlines()
    kind = "CheckPolicy" if "CheckPolicy" in text else "AuthorizationPolicy"
    assert line == (
        f"a.yaml:3: health check 'web': {kind} 'p' refuses GET /healthz?all, "
        "expected a rule that allows it"
    )


@pytest.mark.parametrize(
    "text",
    [
        authorization(rules="[{to: [{operation: {paths: [/healthz], hosts: [WEB]}}]}]"),
        authorization(rules="[{when: [{key: 'request.headers[User-Agent]', values: [Envoy*]}]}]"),
        authorization("DENY", "[{to: [{operation: {paths: [/entries*]}}]}]"),
        authorization("DENY"),
        authorization().replace("{app: web}", "{app: other}").replace("web:", "other: {}\n  web:"),
        checking("deny", "[{name: r, action: allow, when: {paths: [/healthz]}}]"),
        checking(rules="[{name: r, action: deny, when: {headers: {x-team: ['*']}}}]"),
    ],
)
def test_a_check_that_access_rules_let_pass_is_taken(text):
    assert sorted(world(text).health_checks) == ["web"]
