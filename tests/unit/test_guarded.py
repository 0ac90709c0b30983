"""Products at sidecars, without Envoys: what files may say, and what is asked, told and counted."""

from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.route.v3 import VirtualHost

from gateway import sidecars as at
from gateway.path import canonical
from gateway.sidecars import Sidecars, guarded_worlds
from policy import wire
from policy.admission import Rejected
from policy.engine import Check, Engine
from telemetry.edge import Edge, Entry
from wherry.clock import SystemClock
from wherry.config import assemble
from wherry.errors import ConfigError
from xds.builders.clusters import app_cluster, service_cluster
from xds.builders.rules import CALL_IDLE, REQUEST_TIMEOUT, entries, plain

WORLD = """\
services: {stock: {run: [serve]}, other: {}}
---
apiVersion: v1
kind: Service
metadata: {name: by-another-name}
spec: {selector: {app: odd}}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: wide}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: goods}
spec:
  plans: [wide]
  enforcedAt: sidecar
  routes:
  - {path: /stock, to: {service: stock}}
  - {path: /other, to: {service: other}}
  - {path: /odd, to: {service: by-another-name}}
---
apiVersion: wherry.dev/v1
kind: ApiGateway
metadata: {name: default}
spec: {hosts: [shop.test]}
"""


def world(text=WORLD):
    return assemble({Path("a.yaml"): text})


def refused(old, new):
    assert old in WORLD
    with pytest.raises(ConfigError) as caught:
        world(WORLD.replace(old, new))
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("enforcedAt: sidecar", "enforcedAt: sidecar\n  maxBodyBytes: 5", "maxBodyBytes at a"),
        ("enforcedAt: sidecar", "enforcedAt: sidecar\n  timeout: 5s", "timeout at a sidecar"),
        ("{path: /stock,", "{path: /stock, timeout: 5s,", "timeout at a sidecar"),
        ("{path: /stock,", "{path: /stock, maxBodyBytes: 1,", "maxBodyBytes at a sidecar"),
    ],
)
def test_what_no_sidecar_bounds_is_not_promised(old, new, said):
    assert said in refused(old, new)


CHECKED = "services: {stock: {run: [serve], health: /healthz}, other: {}}"


def test_a_health_check_that_would_need_a_key_is_refused():
    said = refused("services: {stock: {run: [serve]}, other: {}}", CHECKED)
    assert "ApiProduct 'goods' refuses GET /healthz" in said
    free = """\
  - {path: /healthz, authentication: [{type: anonymous, consumer: all}], to: {service: stock}}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: all}
spec: {subscriptions: [{product: goods, plan: wide}]}
"""
    text = WORLD.replace("services: {stock: {run: [serve]}, other: {}}", CHECKED)
    world(text.replace("by-another-name}}\n---", "by-another-name}}\n" + free + "---"))


def test_programs_are_spoken_to_in_one_way():
    other = "{name: by-another-name}\nspec: {selector: {app: stock}, ports: [{appProtocol: grpc}]}"
    said = refused("{name: by-another-name}\nspec: {selector: {app: odd}}", other)
    assert "'stock' with appProtocol http, 'by-another-name' with grpc" in said


def test_each_program_has_its_own_routes_on_every_host():
    guarded = guarded_worlds(world())
    routes = {
        app: [route.path for route in each.products["goods"].spec.routes]
        for app, each in guarded.items()
    }
    assert routes == {"stock": ["/stock"], "other": ["/other"], "odd": ["/odd"]}
    assert guarded["stock"].api_gateways["default"].spec.hosts == []


def test_a_guarded_program_need_not_be_called_as_its_service():
    engine = Engine.of(world())
    assert "odd" in engine.guarded
    assert engine.decide(Check("odd", "unknown", "GET", "/odd")).passes
    assert not engine.decide(Check("nobody", "unknown", "GET", "/odd")).passes


@pytest.mark.parametrize(
    ("status", "code"), [(400, 3), (401, 16), (402, 8), (403, 7), (404, 12), (429, 8), (503, 14)]
)
def test_clients_of_grpc_are_told_what_they_understand(status, code):
    headers = {"Content-Type": "application/problem+json", "Retry-After": "9"}
    given = Rejected("goods", HTTPStatus(status), headers, "{}", "In one line.")
    answer = wire.MESSAGES["CheckResponse"].FromString(wire.rejected(given, grpc=True))
    denied = answer.denied_response
    told = {option.header.key: option.header.value for option in denied.headers}
    assert told == {"retry-after": "9", "grpc-status": str(code)}
    assert denied.body == "In one line."
    answer = wire.MESSAGES["CheckResponse"].FromString(wire.rejected(given))
    assert answer.denied_response.body == "{}"


EDGE = Edge("destination", "web", "v1", "stock", "v1", 200, "grpc", "-")


def test_a_call_of_grpc_ended_as_its_own_status_says():
    ended = {code: Entry(EDGE, 1.0, grpc_status=code).status for code in (0, 5, 13, 14, 99)}
    assert ended == {0: 200, 5: 404, 13: 500, 14: 503, 99: 500}
    assert Entry(EDGE, 1.0).status == 200
    assert Entry(replace(EDGE, flags="DC"), 1.0, grpc_status=2).status == 499
    assert Entry(replace(EDGE, code=503), 1.0, grpc_status=14).status == 503


def _action(routes):
    return [route.route for route in VirtualHost.parse(routes).routes]


def test_calls_of_grpc_have_no_bound_but_their_clients():
    spoken = world(WORLD.replace("stock: {run: [serve]}", "stock: {appProtocol: grpc}"))
    for action in _action(plain("stock", grpc=True).routes):
        assert action.timeout.total_seconds() == 0
        assert action.idle_timeout.total_seconds() == CALL_IDLE
    for action in _action(plain("stock").routes):
        assert action.timeout.total_seconds() == REQUEST_TIMEOUT
    route = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec:
  parentRefs: [{group: "", kind: Service, name: stock}]
  rules: [{backendRefs: [{name: stock}]TIMEOUT}]
"""
    for timeout, seconds in (("", 0), (", timeouts: {request: 5s}", 5)):
        text = WORLD + route.replace("TIMEOUT", timeout)
        (entry,) = entries(world(text).http_routes["all"], {"stock"})
        assert {a.timeout.total_seconds() for a in _action(entry.routes)} == {seconds}
    for made in (
        service_cluster(spoken.services["stock"]),
        app_cluster("app/1", 1, grpc=True),
    ):
        assert Cluster.parse(made.body).typed_extension_protocol_options
    assert not Cluster.parse(app_cluster("app/1", 1).body).typed_extension_protocol_options


@dataclass
class Ended:
    usage: str
    status: int = 200


def said(number, boot="b"):
    return at.json.dumps([f"{boot}-{number}", 1, "c", "a", "p", "o", "pl", "k", 1, "GET", "/", "1"])


def test_a_report_counts_once_and_what_is_lost_can_be_told(monkeypatch):
    monkeypatch.setattr(at, "MAX_OPEN", 3)
    sidecars = Sidecars(None, SystemClock())
    for number in range(5):
        sidecars._begun(f"b-{number}")
    sidecars.used([Ended(said(4)), Ended(said(4)), Ended(said(0)), Ended("no json")])
    assert (sidecars.admitted, sidecars.reported, sidecars.strange) == (5, 1, 3)
    sidecars.used([Ended(said(9, boot="before"))])
    assert (sidecars.reported, sidecars.strange, sidecars.dropped) == (1, 3, 0)


async def test_nobody_is_let_in_whose_use_could_not_be_recorded(monkeypatch):
    monkeypatch.setattr(at, "MAX_WAITING", 4)
    sidecars = Sidecars(None, SystemClock())
    sidecars.used([Ended(said(n)) for n in range(6)])
    assert sidecars.dropped == 2
    sidecars.use({})
    answer = await sidecars.admit(Check("stock", "web", "GET", "/stock", target="/stock"))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


def test_paths_are_sent_on_as_they_were_matched():
    assert canonical("/%73tock/%c3%a9").text == "/stock/%C3%A9"
