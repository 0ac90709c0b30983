"""Discovery by REST: what a request gets, and a real Envoy that lives on polls alone."""

import asyncio
import io
import json
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from support.members import mesh, until

from wherry.cli.envoys import Envoy, serving
from wherry.cli.pilot import ask
from wherry.clock import SystemClock
from wherry.config import assemble
from wherry.model.world import World
from wherry.serve import Address, bound, reserved
from xds.bootstrap import PILOT
from xds.hub import Hub
from xds.node import Node
from xds.operators.front import front
from xds.operators.http import Known, Limits, pages
from xds.resource import CLUSTER, ENDPOINT, Resource
from xds.rest.polls import FORGOTTEN_AFTER, MOST_NAMES, REFUSED, Polls
from xds.rest.requests import Answers, request_bytes, rest_source
from xds.snapshot import Snapshot
from xds.sotw import Request
from xds.streams import Limits as StreamLimits
from xds.streams import Streams
from xds.wire import MESSAGES, BadRequest, request_from

WORLD = """\
services: {one: {}, two: {}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: wherry, listeners: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: %s}]}]}
"""
REPEATED = "{path: {type: RegularExpression, value: '/((a{100}){100}){10}'}}"
"""Python reads it; RE2 does not, for it repeats more than a thousand times."""
NODE = {
    "id": "gateway~edge",
    "metadata": {"role": "gateway", "gateway": "edge", "ports": {"80": 8080}},
    "userAgentName": "envoy",
    "user_agent_version": "1.40.0",
    "extensions": [{"name": "envoy.filters.http.router", "category": "envoy.filters.http"}],
}


@pytest.fixture
async def pilot(tmp_path):
    async with mesh(tmp_path, WORLD % "one") as made:
        yield made


@pytest.fixture
async def client():
    async with aiohttp.ClientSession() as session:
        yield session


async def discover(made, client, kind, **fields):
    url = f"http://{made.pilot.pages}/v3/discovery:{kind}"
    async with client.post(url, json={"node": NODE, **fields}) as answer:
        return answer.status, json.loads(await answer.read() or "null")


async def test_each_type_has_a_path_and_its_resources_are_any_in_json(pilot, client):
    status, said = await discover(pilot, client, "clusters")
    assert (status, said["type_url"].rpartition(".")[2]) == (200, "Cluster")
    by_name = {each["name"]: each for each in said["resources"]}
    assert by_name["one"]["@type"] == said["type_url"]
    assert by_name["one"]["connect_timeout"] == "1s"
    status, said = await discover(pilot, client, "endpoints", resourceNames=["one"])
    assert [each["cluster_name"] for each in said["resources"]] == ["one"]
    status, said = await discover(pilot, client, "listeners")
    [listener] = said["resources"]
    filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    assert filters[-1]["typed_config"]["@type"].endswith(".router.v3.Router")
    status, said = await discover(pilot, client, "routes", resource_names=[listener["name"]])
    assert said["resources"][0]["virtual_hosts"][0]["routes"][-1]["route"]["cluster"] == "one"


async def test_what_comes_by_ads_comes_by_rest_for_who_polls(pilot, client):
    _, said = await discover(pilot, client, "clusters")
    one = next(each for each in said["resources"] if each["name"] == "one")
    assert one["eds_cluster_config"]["eds_config"] == rest_source(1.0)
    assert '"ads"' not in json.dumps(said)


async def test_the_same_version_is_not_told_twice_and_a_new_one_is(pilot, client):
    _, said = await discover(pilot, client, "routes", resource_names=["gateway/edge/80"])
    version = said["version_info"]
    again = {"resource_names": ["gateway/edge/80"], "version_info": version}
    assert await discover(pilot, client, "routes", **again) == (304, None)
    await pilot.worlds.replace(assemble({Path("mesh.yaml"): WORLD % "two"}))
    await pilot.settled()
    status, said = await discover(pilot, client, "routes", **again)
    assert status == 200
    assert said["version_info"] != version
    assert '"cluster": "two"' in json.dumps(said)


@pytest.mark.parametrize(
    ("kind", "body", "status", "reason"),
    [
        ("clusters", b"{", 400, "expected a DiscoveryRequest in JSON"),
        ("clusters", b"[]", 400, "list, expected a JSON object"),
        ("clusters", b"{}", 400, "expected a node with id"),
        ("clusters", b'{"resource_names": 7}', 400, "expected a DiscoveryRequest in JSON"),
        ("clusters", b'{"node": ' * 5000 + b"1", 400, "expected a DiscoveryRequest in JSON"),
        ("clusters", json.dumps({"node": {"id": "x"}}).encode(), 400, "role None"),
        (
            "clusters",
            json.dumps({"node": NODE, "type_url": "type.googleapis.com/x.Y"}).encode(),
            400,
            "type_url 'type.googleapis.com/x.Y'",
        ),
        ("nothing", b"{}", 404, "expected one of"),
        ("clusters", b'"' + b" " * (Limits().body_bytes + 1), 413, ""),
    ],
)
async def test_a_request_that_cannot_be_answered_gets_the_reason(
    pilot, client, kind, body, status, reason
):
    url = f"http://{pilot.pilot.pages}/v3/discovery:{kind}"
    async with client.post(url, data=io.BytesIO(body)) as answer:
        assert answer.status == status
        assert reason in await answer.text()


def test_a_request_is_read_with_either_spelling_and_only_what_counts():
    spelled = {"node": NODE, "resourceNames": ["a"], "versionInfo": "v", "responseNonce": "n"}
    plain = {"node": NODE, "resource_names": ["a"], "version_info": "v", "response_nonce": "n"}
    raw = request_bytes(json.dumps(spelled).encode())
    assert raw == request_bytes(json.dumps(plain).encode())
    request, node = request_from(raw)
    assert (request.names, request.version, request.nonce) == ({"a"}, "v", "n")
    assert (node.user_agent_name, node.user_agent_version) == ("envoy", "1.40.0")
    with pytest.raises(BadRequest):
        request_bytes(b"\xff")


async def test_who_polls_is_listed_with_what_it_accepted(pilot, client):
    url = f"http://{pilot.pilot.pages}/api/proxies"
    _, said = await discover(pilot, client, "clusters")

    async def types():
        async with client.get(url) as answer:
            [proxy] = (await answer.json())["proxies"]
        assert (proxy["node"], proxy["client"]) == ("gateway~edge", "envoy")
        [stream] = proxy["streams"]
        assert stream["variant"] == "rest"
        return stream["types"]

    [cds] = await types()
    assert (cds["state"], cds["version"]) == ("pending", "")
    await discover(pilot, client, "clusters", version_info=said["version_info"])
    [cds] = await types()
    assert (cds["state"], cds["version"]) == ("ack", said["version_info"])
    async with client.get(f"{url}/edge/config") as answer:
        assert (answer.status, "it polls" in (await answer.json())["error"]) == (409, True)


def polling(spec, port):
    """Return the bootstrap of ``spec`` for an Envoy that polls ``port`` and has no stream."""
    config = json.loads(spec.config())
    source = rest_source(0.2)
    config["dynamic_resources"] = {"cds_config": source, "lds_config": source}
    [cluster] = config["static_resources"]["clusters"]
    assert cluster["name"] == PILOT
    del cluster["typed_extension_protocol_options"]  # HTTP/1.1
    [endpoint] = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoint["endpoint"]["address"]["socket_address"]["port_value"] = port
    return json.dumps(config)


class Polling(Envoy):
    """An Envoy that has no stream."""

    def config(self):
        return polling(Envoy(self.node, self.metadata, self.xds, self.folder), self.xds.port)


@asynccontextmanager
async def edge(made):
    with reserved("ingress", Address()) as held:
        metadata = {"role": "gateway", "gateway": "edge", "ports": {"80": bound(held).port}}
        spec = Polling("gateway~edge", metadata, made.pilot.pages, made.run)
        async with serving(spec):
            yield bound(held).url


@pytest.mark.e2e
async def test_an_envoy_that_only_polls_serves_and_takes_a_change(pilot, client):
    for name in ("one", "two"):
        await pilot.program(name)
    await pilot.joined(2)
    async with edge(pilot) as url:

        async def meets(wanted):
            async with client.get(f"{url}/") as answer:
                body = await answer.read()
                return answer.status == 200 and json.loads(body)["service"] == wanted

        await until(lambda: meets("one"))
        assert [s.variant for s in pilot.pilot.streams()] == ["delta", "delta"]
        await pilot.worlds.replace(assemble({Path("mesh.yaml"): WORLD % "two"}))
        await until(lambda: meets("two"))

        async def refused():
            async with client.get(f"http://{pilot.pilot.pages}/api/proxies") as answer:
                return [
                    (each["type"], each["resource"], each["reason"], *each["sources"])
                    for each in (await answer.json())["refusals"]
                ]

        bad = WORLD % "two"
        bad = bad.replace("rules: [{", f"rules: [{{matches: [{REPEATED}], ")
        await pilot.worlds.replace(assemble({Path("mesh.yaml"): bad}))
        await until(refused)
        place = {"kind": "HTTPRoute", "name": "r", "where": "mesh.yaml:8", "likely": True}
        assert await refused() == [("rds", "gateway/edge/80", REFUSED, place)]
        assert await meets("two")
        async with client.get(f"http://{pilot.pilot.pages}/metrics") as answer:
            text = await answer.text()
        assert 'wherry_xds_nacks_total{type="rds"} 1.0' in text
        assert 'source="mesh.yaml:8",type="rds"} 1.0' in text

        await pilot.worlds.replace(assemble({Path("mesh.yaml"): WORLD % "one"}))
        await until(lambda: meets("one"))

        async def accepted():
            return not await refused()

        await until(accepted)


def test_what_is_kept_of_answers_is_bounded(monkeypatch):
    monkeypatch.setattr("xds.rest.requests.MOST_KEPT", 400)
    answers = Answers(1.0)
    kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    for number in range(50):
        response = MESSAGES["DiscoveryResponse"](version_info=str(number), type_url=kind)
        name = f"c{number}".encode()
        response.resources.add(type_url=kind, value=b"\x0a" + bytes([len(name)]) + name)
        said = json.loads(answers.answer(response.SerializeToString()).text)
        assert said["resources"] == [{"@type": kind, "cluster_name": name.decode()}]
    assert 0 < answers.kept <= 400


@asynccontextmanager
async def small(**limits):
    """Serve a hub of which nobody has heard, with such limits."""
    clock = SystemClock()

    def scope_of(node):
        raise BadRequest(f"node {node.id!r}: unknown, expected another")

    hub = Hub(scope_of)
    known = Known(Streams(hub, clock, StreamLimits()), hub, World, clock)
    async with pages(Address(), known, Limits(**limits)) as where:
        yield f"http://{where}", known


async def test_a_slow_request_is_cut_off_and_only_so_many_are_taken_at_once(client):
    async with small(polls=1, questions=1, seconds=0.5) as (url, _):
        begun = asyncio.Event()

        async def forever():
            yield b"{"
            begun.set()
            await asyncio.Event().wait()

        async with asyncio.TaskGroup() as group:
            slow = group.create_task(client.post(f"{url}/v3/discovery:clusters", data=forever()))
            await begun.wait()

            async def full():
                async with client.post(f"{url}/v3/discovery:clusters", json={}) as answer:
                    return answer.status == 503 and answer.headers["Retry-After"] == "1"

            await until(full)
            async with client.get(f"{url}/metrics") as answer:
                assert answer.status == 200
            assert (await slow).status == 503
        slow.result().close()
        async with client.post(f"{url}/v3/discovery:clusters", json={}) as answer:
            assert answer.status == 400


async def test_who_nobody_knows_is_refused_and_counted(client):
    async with small() as (url, known):
        body = {"node": {"id": "x"}}
        async with client.post(f"{url}/v3/discovery:clusters", json=body) as answer:
            assert (answer.status, "unknown, expected" in await answer.text()) == (400, True)
        assert known.streams.tally.refused == {"bad request": 1}
        async with client.get(f"{url}/api/proxies") as answer:
            assert (await answer.json())["proxies"] == []
        async with client.get(f"{url}/api/load") as answer:
            assert await answer.json() == {"clusters": [], "nodes": [], "omitted": 0}


async def test_who_stops_asking_is_forgotten_and_its_scope_too():
    clock, hub = Ticking(), Hub(lambda node: node.id, lambda _scope, _node: None)
    polls = Polls(hub, clock)
    polls.asked(Node("a"), Request(CLUSTER))
    clock.seconds = FORGOTTEN_AFTER / 2
    polls.asked(Node("b"), Request(CLUSTER))
    clock.seconds = FORGOTTEN_AFTER + 1
    polls.sweep()
    assert [each.node.id for each in polls.status()] == ["b"]
    assert hub.scopes == {"b"}
    polls.close()
    assert hub.scopes == set()


def test_what_is_remembered_of_a_client_that_asks_for_ever_new_names_is_bounded():
    polls = Polls(Hub(lambda node: node.id, lambda _scope, _node: None), Ticking())
    for turn in range(10):
        many = frozenset(f"{turn}/{number}" for number in range(MOST_NAMES // 4))
        polls.asked(Node("a"), Request(ENDPOINT, many))
    [status] = polls.status()
    assert [each.names for each in status.types] == [MOST_NAMES]
    assert polls.nodes == {"a"}


def test_a_client_that_comes_and_goes_leaves_what_others_held_remembered():
    old, new = (Snapshot.of([Resource(CLUSTER, "a", body)]) for body in (b"1", b"2"))
    hub = Hub(lambda _: 1, lambda scope, _: hub.publish(scope, new))
    hub.publish(1, old)
    hub.publish(1, new)
    for _ in range(20):
        with hub.joined(Node("a")):
            pass
    assert list(hub.past(1)) == [new, old]


@asynccontextmanager
async def answering(path, status, body):
    async def handle(_):
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_get("/{rest:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_of_several_pilots_the_one_that_a_client_polls_is_believed(tmp_path, client):
    told = {1: tmp_path / "1.sock", 2: tmp_path / "2.sock"}
    unknown = {"error": "none is connected", "near": [], "several": False}
    async with (
        answering(told[1], 404, unknown),
        answering(told[2], 409, {"error": "it polls"}),
        front(Address(), lambda: told) as where,
        client.get(f"{where.url}/api/proxies/a/config") as answer,
    ):
        assert (answer.status, await answer.json()) == (409, {"error": "it polls"})


async def test_what_a_proxy_says_cannot_steer_a_terminal(tmp_path):
    proxies = [{"node": "a\x1b[2J\x9b1mb\r\tü", "streams": []}]
    said = {"now_unix_ns": 1, "proxies": proxies, "refusals": [], "omitted": 0}
    path = tmp_path / "1.sock"
    async with answering(path, 200, said), front(Address(), lambda: {1: path}) as where:
        answer = await ask(where.url, "a")
    assert answer["proxies"][0]["node"] == "a\ufffd[2J\ufffd1mb\ufffd\tü"


def test_an_answer_that_the_next_request_does_not_bear_out_was_refused():
    hub = Hub(lambda node: node.id, lambda _scope, _node: None)
    polls, node = Polls(hub, Ticking()), Node("a")

    def asks(version, *names):
        return polls.asked(node, Request(CLUSTER, frozenset(names), version=version))

    def given(version, *names):
        polls.answered(node, Request(CLUSTER, frozenset(names)), version, 10)

    def shown():
        [status] = polls.status()
        [found] = status.types
        return found.error, found.awaiting, [name for name, _, _ in found.faults]

    assert not asks("", "x")
    given("1", "x")
    assert shown() == (None, True, [])
    assert not asks("", "y")  # another question says nothing about this one
    assert not asks("1", "x")
    assert shown() == (None, False, [])
    given("2", "x")
    assert asks("1", "x")
    assert shown() == (REFUSED, False, ["x"])
    given("2", "x")
    assert not asks("1", "x")  # told once
    given("3", "x")
    assert not asks("3", "x")
    assert shown() == (None, False, [])
    polls.close()


class Ticking:
    """A clock that stands until it is moved."""

    seconds = 0.0

    def now(self):
        return self.seconds

    def unix_ns(self):
        return int(self.seconds * 1e9)
