"""Load reports from a plain grpc.aio client and from a real Envoy."""

import asyncio
from contextlib import asynccontextmanager, suppress

import aiohttp
import grpc
import grpc.aio
import pytest
from aiohttp import web
from support.envoy import envoy

from wherry.clock import SystemClock
from xds.load import wire
from xds.load.rollup import Bounds
from xds.load.server import ALL_CLUSTERS, SERVICE, Loads, Settings

BOUND = 20.0
MESSAGES = wire.MESSAGES


@asynccontextmanager
async def serving(loads):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((loads.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def until(true):
    async with asyncio.timeout(BOUND):
        while not true():
            await asyncio.sleep(0.02)


class Client:
    """A load reporting client that speaks bytes."""

    def __init__(self, channel):
        self.call = channel.stream_stream(f"/{SERVICE}/StreamLoadStats")()

    async def say(self, *clusters, node="n-1", features=(ALL_CLUSTERS,)):
        message = MESSAGES["LoadStatsRequest"](cluster_stats=clusters)
        if node:
            message.node.id = node
            message.node.cluster = "side"
            message.node.client_features.extend(features)
        await self.call.write(message.SerializeToString())

    async def ended(self):
        with suppress(grpc.aio.AioRpcError):
            while await self.call.read() is not grpc.aio.EOF:
                pass

    async def hear(self):
        async with asyncio.timeout(BOUND):
            return MESSAGES["LoadStatsResponse"].FromString(await self.call.read())


@asynccontextmanager
async def talking(loads):
    async with serving(loads) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


def loads(**settings):
    return Loads(SystemClock(), Settings(**settings))


def stats(name="web", issued=1, **more):
    return {
        "cluster_name": name,
        "load_report_interval": {"seconds": 1},
        "upstream_locality_stats": [
            {
                "locality": {"region": "eu", "zone": "a", "sub_zone": "1"},
                "total_issued_requests": issued,
                "total_successful_requests": issued,
                "load_metric_stats": [
                    {
                        "metric_name": "queue",
                        "num_requests_finished_with_metric": 1,
                        "total_metric_value": 2.5,
                    }
                ],
                "cpu_utilization": {
                    "num_requests_finished_with_metric": 1,
                    "total_metric_value": 0.5,
                },
            }
        ],
        **more,
    }


async def test_a_client_is_asked_for_all_clusters_and_its_reports_add_up():
    found = loads(interval_seconds=2.5)
    async with talking(found) as channel:
        client = Client(channel)
        await client.say()
        asked = await client.hear()
        assert asked.send_all_clusters
        assert asked.load_reporting_interval.ToMilliseconds() == 2500
        dropped = {"total_dropped_requests": 3, "dropped_requests": [
            {"category": "throttle", "dropped_count": 2}]}  # fmt: skip
        await client.say(stats(issued=4, **dropped), node=None)
        await client.say(stats(issued=6), node=None)
        await until(lambda: found.status()[0].clusters and _issued(found) == 10)
        (node,) = found.status()
        assert (node.node, node.node_cluster, node.connected) == ("n-1", "side", True)
        (cluster,) = node.clusters
        assert (cluster.dropped, cluster.dropped_by) == (3, (("throttle", 2),))
        assert cluster.places[0].place == ("eu", "a", "1")
        names = [(m.name, m.requests, m.total) for m in cluster.places[0].metrics]
        assert names == [("cpu_utilization", 2, 1.0), ("queue", 2, 5.0)]
        client.call.cancel()
        await until(lambda: not found.status()[0].connected)
        assert _issued(found) == 10


def _issued(found):
    return sum(p.issued for n in found.status() for c in n.clusters for p in c.places)


async def test_clusters_that_are_listed_are_all_that_is_asked_for():
    found = loads(clusters=frozenset({"web", "api"}))
    async with talking(found) as channel:
        client = Client(channel)
        await client.say(features=())
        asked = await client.hear()
        assert (list(asked.clusters), asked.send_all_clusters) == (["api", "web"], False)


async def test_a_node_is_forgotten_after_its_time():
    found = loads(bounds=Bounds(keep_seconds=0.0))
    async with talking(found) as channel:
        client = Client(channel)
        await client.say()
        await client.hear()
        client.call.cancel()
        await until(lambda: found.status() == ())


REFUSED = {
    "no-node": ({"node": None}, [], {}, grpc.StatusCode.INVALID_ARGUMENT),
    "long-id": ({"node": "n" * 2000}, [], {}, grpc.StatusCode.INVALID_ARGUMENT),
    "no-feature": ({"features": ()}, [], {}, grpc.StatusCode.FAILED_PRECONDITION),
    "no-name": ({}, [stats("")], {}, grpc.StatusCode.INVALID_ARGUMENT),
    "negative": (
        {},
        [stats(load_report_interval={"seconds": -1})],
        {},
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "clusters": (
        {},
        [stats("a"), stats("b")],
        {"reported": 1},
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ),
    "places": ({}, [stats()], {"places": 0}, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "bytes": ({}, [stats()], {"message_bytes": 90}, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "nodes": ({}, [], {"bounds": Bounds(nodes=0)}, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "streams": ({}, [], {"streams": 0}, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "idle": ({}, [], {"idle_seconds": 0.05}, grpc.StatusCode.DEADLINE_EXCEEDED),
}


@pytest.mark.parametrize(
    ("say", "clusters", "settings", "code"), REFUSED.values(), ids=list(REFUSED)
)
async def test_a_stream_over_a_limit_is_ended_with_a_reason(say, clusters, settings, code):
    async with talking(loads(**settings)) as channel:
        client = Client(channel)
        with suppress(grpc.aio.AioRpcError):
            await client.say(*clusters, **say)
        async with asyncio.timeout(BOUND):
            await client.ended()
            assert await client.call.code() is code
        assert "expected" in await client.call.details()


async def test_a_silent_stream_and_one_that_is_no_protobuf_are_ended():
    async with talking(loads(first_seconds=0.05)) as channel:
        assert await Client(channel).call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with talking(loads()) as channel:
        client = Client(channel)
        await client.call.write(b"\xff\xff")
        assert await client.call.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_metric_that_is_no_number_is_refused():
    odd = stats()
    odd["upstream_locality_stats"][0]["cpu_utilization"]["total_metric_value"] = float("nan")
    async with talking(loads()) as channel:
        client = Client(channel)
        await client.say(odd)
        assert await client.call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "finite" in await client.call.details()


HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
CONFIG = f"""
node: {{id: side-7, cluster: side}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
cluster_manager:
  load_stats_config:
    api_type: GRPC
    transport_api_version: V3
    grpc_services: [{{envoy_grpc: {{cluster_name: pilot}}}}]
static_resources:
  listeners:
  - name: out
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: out
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: web}}}}]}}
          http_filters:
          - name: router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: pilot
    type: STATIC
    typed_extension_protocol_options:
      {HTTP}:
        "@type": type.googleapis.com/{HTTP}
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: pilot
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: PILOT}}}}}}
  - name: web
    type: STATIC
    load_assignment:
      cluster_name: web
      endpoints:
      - locality: {{region: eu, zone: b, sub_zone: "2"}}
        lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: WEB}}}}}}
"""  # noqa: E501


@asynccontextmanager
async def upstream():
    async def answer(request):
        return web.Response(status=int(request.query.get("status", "200")))

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site._server.sockets[0].getsockname()[1]
    finally:
        await runner.cleanup()


@pytest.mark.e2e
async def test_a_real_envoy_reports_its_load_by_cluster_and_place(tmp_path):
    found = loads(interval_seconds=0.2)

    def place():
        (node,) = found.status()
        return next(p for c in node.clusters if c.cluster == "web" for p in c.places)

    async with (
        serving(found) as pilot,
        upstream() as port,
        envoy(CONFIG.replace("PILOT", str(pilot)).replace("WEB", str(port)), tmp_path) as ports,
        aiohttp.ClientSession() as session,
    ):
        await until(lambda: found.status() and found.status()[0].clusters)
        for status in (200, 200, 200, 503):
            url = f"http://127.0.0.1:{ports['out']}/?status={status}"
            async with session.get(url) as answer:
                assert answer.status == status
        await until(lambda: _issued(found) >= 4)
        (node,) = found.status()
        assert (node.node, node.connected) == ("side-7", True)
        assert place().place == ("eu", "b", "2")
        assert (place().issued, place().successes, place().errors) == (4, 3, 1)
        assert place().rate > 0
    await until(lambda: not found.status()[0].connected)
    assert place().issued == 4
