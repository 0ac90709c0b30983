"""The Pilot's port, asked by a plain grpc.aio client and by a real Envoy."""

import asyncio
import json
import os
import shutil
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import pytest
from aiohttp import web
from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address as EnvoyAddress,
)
from envoy_data_plane.envoy.config.core.v3 import (
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from envoy_data_plane.google.protobuf import Any as AnyMessage

from wherry.clock import SystemClock
from wherry.errors import PortInUse
from wherry.serve import Address
from wherry.store.memory import MemoryStore
from xds import wire
from xds.encode import encode
from xds.heartbeat import SERVICE as REGISTRY
from xds.heartbeat import RegistrationRefused, deregister, heartbeat, register
from xds.hub import Hub
from xds.registrations import Registry, Workload, live
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from xds.server import Serving, serving
from xds.snapshot import Snapshot
from xds.streams import SERVICE, Limits

MESSAGES = wire.MESSAGES
EVERYONE = "everyone"
ENVOY = shutil.which("envoy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
BOUND = 20.0


def hub_for_everyone():
    return Hub(lambda node: EVERYONE)


carried = {"by": "grpc"}


@pytest.fixture(autouse=True, params=["grpc", "http2"])
def transport(request):
    """Both transports keep one contract."""
    carried["by"] = request.param


@asynccontextmanager
async def pilot(hub, port=0, **more):
    registry = Registry(MemoryStore(), SystemClock())
    how = Serving(transport=carried["by"])
    async with serving(Address(port=port), hub, registry, how=how, **more) as server:
        yield server


async def until(true, seconds=BOUND):
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.02)


def snapshot(*names, body=b"1"):
    return Snapshot.of([Resource(CLUSTER, name, body) for name in names])


class Asker:
    """A discovery client that speaks bytes."""

    def __init__(self, channel, variant="StreamAggregatedResources", kind="DiscoveryRequest"):
        self.call = channel.stream_stream(f"/{SERVICE}/{variant}")()
        self.request = MESSAGES[kind]
        self.response = MESSAGES[kind.replace("Request", "Response")]

    async def say(self, node="node-1", **fields):
        message = self.request(type_url=CLUSTER, **fields)
        if node:
            message.node.id = node
        await self.call.write(message.SerializeToString())

    async def ask(self, **fields):
        await self.say(**fields)
        return await self.hear()

    async def hear(self):
        async with asyncio.timeout(BOUND):
            raw = await self.call.read()
        assert raw is not grpc.aio.EOF
        return self.response.FromString(raw)


async def test_a_client_gets_its_snapshot_and_then_each_change():
    hub = hub_for_everyone()
    hub.publish(EVERYONE, snapshot("a"))
    async with pilot(hub) as server, grpc.aio.insecure_channel(str(server.address)) as channel:
        asker = Asker(channel)
        await asker.say()
        first = await asker.hear()
        assert first.type_url == CLUSTER
        assert first.resources[0].type_url == CLUSTER
        assert first.resources[0].value == b"1"
        await asker.say(node=None, response_nonce=first.nonce, version_info=first.version_info)
        hub.publish(EVERYONE, snapshot("a", "b"))
        second = await asker.hear()
        assert len(second.resources) == 2
        asker.call.cancel()


async def test_a_delta_client_hears_names_versions_and_removals():
    hub = hub_for_everyone()
    hub.publish(EVERYONE, snapshot("a", "b"))
    async with pilot(hub) as server, grpc.aio.insecure_channel(str(server.address)) as channel:
        asker = Asker(channel, "DeltaAggregatedResources", "DeltaDiscoveryRequest")
        await asker.say()
        first = await asker.hear()
        held = hub.current(EVERYONE).named(CLUSTER)
        assert {r.name: r.version for r in first.resources} == {
            name: r.version for name, r in held.items()
        }
        await asker.say(node=None, response_nonce=first.nonce)
        hub.publish(EVERYONE, snapshot("b"))
        second = await asker.hear()
        assert (list(second.resources), list(second.removed_resources)) == ([], ["a"])
        asker.call.cancel()


async def test_the_status_shows_who_holds_and_who_refuses_what():
    hub = hub_for_everyone()
    hub.publish(EVERYONE, snapshot("a"))
    async with pilot(hub) as server, grpc.aio.insecure_channel(str(server.address)) as channel:
        asker = Asker(channel)
        await asker.say(node="refuser")
        first = await asker.hear()
        await asker.say(
            node=None, response_nonce=first.nonce, error_detail={"code": 3, "message": "no"}
        )

        async def refused():
            return any(t.error == "no" for s in server.streams() for t in s.types)

        await until(refused)
        (status,) = server.streams()
        assert (status.node.id, status.variant, status.settled) == ("refuser", "sotw", False)
        assert status.types[0].parked == ("a",)
        asker.call.cancel()

        async def gone():
            return not server.streams()

        await until(gone)
        assert hub.scopes == frozenset()


async def test_a_scope_is_built_when_its_first_node_joins_and_forgotten_after_its_last():
    def build(scope, node):
        hub.publish(scope, snapshot(node.id))

    hub = Hub(lambda node: node.id, build)
    async with pilot(hub) as server, grpc.aio.insecure_channel(str(server.address)) as channel:
        asker = Asker(channel)
        await asker.say(node="n-7")
        assert len((await asker.hear()).resources) == 1
        assert hub.scopes == {"n-7"}
        asker.call.cancel()

        async def forgotten():
            return hub.current("n-7") is None

        await until(forgotten)


@pytest.mark.parametrize(
    ("say", "limits", "code"),
    [
        ({"node": None}, Limits(), grpc.StatusCode.INVALID_ARGUMENT),
        ({"resource_names": ["x" * 2000]}, Limits(), grpc.StatusCode.INVALID_ARGUMENT),
        (
            {"resource_names": ["a", "b", "c"]},
            Limits(names=2),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
    ],
    ids=["no-node", "long-name", "many-names"],
)
async def test_a_stream_over_a_limit_is_ended_with_a_reason(say, limits, code):
    async with (
        pilot(hub_for_everyone(), limits=limits) as server,
        grpc.aio.insecure_channel(str(server.address)) as channel,
    ):
        asker = Asker(channel)
        await asker.say(**say)
        assert await asker.call.code() is code
        assert "expected" in await asker.call.details()


async def test_one_stream_too_many_is_refused_and_the_others_go_on():
    hub = hub_for_everyone()
    hub.publish(EVERYONE, snapshot("a"))
    async with (
        pilot(hub, limits=Limits(streams=1)) as server,
        grpc.aio.insecure_channel(str(server.address)) as channel,
    ):
        first = Asker(channel)
        heard = await first.ask()
        second = Asker(channel)
        assert await second.call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await first.say(node=None, response_nonce=heard.nonce)
        hub.publish(EVERYONE, snapshot("a", "b"))
        assert len((await first.hear()).resources) == 2
        first.call.cancel()


async def test_a_silent_stream_is_ended():
    limits = Limits(first_request_seconds=0.05)
    async with (
        pilot(hub_for_everyone(), limits=limits) as server,
        grpc.aio.insecure_channel(str(server.address)) as channel,
    ):
        asker = Asker(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asker.hear()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_taken_port_is_said_before_anything_starts():
    async with pilot(hub_for_everyone()) as server:
        with pytest.raises(PortInUse, match="taken by another program"):
            async with pilot(hub_for_everyone(), port=server.address.port):
                pass


WORKLOAD = Workload("i-1", "web", "v1", "127.0.0.1", 8080)


async def test_a_registration_lives_and_ends_with_its_deregistration():
    store, clock = MemoryStore(), SystemClock()
    async with (
        serving(Address(), hub_for_everyone(), Registry(store, clock)) as server,
        grpc.aio.insecure_channel(str(server.address)) as channel,
    ):
        expires = await register(channel, WORKLOAD, 10)
        assert 9e9 < expires - clock.unix_ns() <= 10e9
        seen = live(store, clock)
        assert await anext(seen) == (WORKLOAD,)
        assert await deregister(channel, WORKLOAD)
        assert await anext(seen) == ()
        assert not await deregister(channel, WORKLOAD)
        await seen.aclose()


async def test_a_registration_that_is_not_renewed_ends_by_itself():
    store, clock = MemoryStore(), SystemClock()
    await Registry(store, clock).register(WORKLOAD, 1)
    seen = live(store, clock)
    async with asyncio.timeout(BOUND):
        assert await anext(seen) == (WORKLOAD,)
        assert await anext(seen) == ()
    await seen.aclose()


async def test_a_heartbeat_registers_renews_in_silence_and_says_farewell():
    store, clock = MemoryStore(), SystemClock()
    async with serving(Address(), hub_for_everyone(), Registry(store, clock)) as server:
        seen = live(store, clock)
        assert await anext(seen) == ()
        async with asyncio.TaskGroup() as group:
            beat = group.create_task(heartbeat(str(server.address), WORKLOAD, ttl_seconds=1))
            assert await anext(seen) == (WORKLOAD,)
            first = next(iter((await store.list("workload/")).values())).revision

            async def renewed():
                records = await store.list("workload/")
                return next(iter(records.values())).revision > first + 3

            await until(renewed)
            beat.cancel()
        assert await anext(seen) == ()
        await seen.aclose()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"id": "Not A Label"}, "DNS-1123"),
        ({"address": "example.test"}, "IP address"),
        ({"port": 0}, "1 to 65535"),
        ({"port": 70000}, "1 to 65535"),
        ({"ttl_seconds": 301}, "1 to 300"),
        ({"ttl_seconds": 0}, "1 to 300"),
    ],
)
async def test_a_registration_that_cannot_be_used_is_refused_with_its_reason(fields, says):
    good = {"id": "a", "service": "web", "address": "::1", "port": 80, "ttl_seconds": 9}
    message = MESSAGES["RegisterRequest"](**good | fields)
    async with (
        pilot(hub_for_everyone()) as server,
        grpc.aio.insecure_channel(str(server.address)) as channel,
    ):
        call = channel.unary_unary(f"/{REGISTRY}/Register")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(message.SerializeToString())
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert says in caught.value.details()


async def test_a_heartbeat_that_is_refused_for_good_raises():
    async with pilot(hub_for_everyone()) as server:
        with pytest.raises(RegistrationRefused, match="1 to 300"):
            await heartbeat(str(server.address), WORKLOAD, ttl_seconds=900)


# A real Envoy


def ads():
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def at(port):
    return EnvoyAddress(socket_address=SocketAddress(address="127.0.0.1", port_value=port))


def cluster(name, milliseconds=1000):
    message = Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ads()),
        connect_timeout=timedelta(milliseconds=milliseconds),
    )
    return Resource(CLUSTER, name, encode(message), frozenset({(ENDPOINT, name)}))


def endpoints(name, port):
    endpoint = LbEndpoint(endpoint=Endpoint(address=at(port)))
    message = ClusterLoadAssignment(
        cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
    )
    return Resource(ENDPOINT, name, encode(message))


def routes(to):
    direct = Route(match=RouteMatch(path="/ping"), direct_response=DirectResponseAction(status=204))
    rest = Route(match=RouteMatch(prefix="/"), route=RouteAction(cluster=to))
    host = VirtualHost(name="all", domains=["*"], routes=[direct, rest])
    message = RouteConfiguration(name="routes", virtual_hosts=[host])
    return Resource(ROUTE, "routes", encode(message), frozenset({(CLUSTER, to)}))


def listener(port, *, prefix="in"):
    filters = [HttpFilter(name="router", typed_config=AnyMessage.pack(Router()))]
    manager = HttpConnectionManager(
        stat_prefix=prefix,
        rds=Rds(config_source=ads(), route_config_name="routes"),
        http_filters=filters,
    )
    chain = FilterChain(filters=[Filter(name="hcm", typed_config=AnyMessage.pack(manager))])
    message = Listener(name="in", address=at(port), filter_chains=[chain])
    return Resource(LISTENER, "in", encode(message), frozenset({(ROUTE, "routes")}))


def bootstrap(api_type, server, folder):
    keepalive = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    to_us = {"address": {"socket_address": {"address": server.host, "port_value": server.port}}}
    source = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": {"id": "envoy-1", "cluster": "test", "metadata": {"role": "sidecar", "n": 1}},
        "admin": {"address": {"pipe": {"path": str(folder / "admin.sock")}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "pilot"}}],
            },
            "lds_config": source,
            "cds_config": source,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "pilot",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": keepalive
                    },
                    "load_assignment": {
                        "cluster_name": "pilot",
                        "endpoints": [{"lb_endpoints": [{"endpoint": to_us}]}],
                    },
                }
            ]
        },
    }


@asynccontextmanager
async def envoy(api_type, server, folder):
    config = folder / "bootstrap.json"
    config.write_text(json.dumps(bootstrap(api_type, server, folder)))
    arguments = ["--concurrency", "1", "--disable-hot-restart", "-l", "warn"]
    process = await asyncio.create_subprocess_exec(
        ENVOY, "-c", config, "--log-path", folder / "envoy.log", *arguments
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def answering(text):
    async def answer(request):
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def said(port, path="/"):
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2)) as session,
            session.get(f"http://127.0.0.1:{port}{path}") as response,
        ):
            return response.status, await response.text()
    except aiohttp.ClientError:
        return 0, ""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def says(port, status, text):
    async def check():
        return await said(port) == (status, text)

    return check


needs_envoy = pytest.mark.skipif(ENVOY is None and not os.getenv("CI"), reason="no envoy on PATH")
both = pytest.mark.parametrize("api_type", ["GRPC", "DELTA_GRPC"])


@needs_envoy
@both
async def test_an_envoy_takes_each_change_and_keeps_the_last_good(api_type, tmp_path):
    port = free_port()
    async with answering("one") as one, answering("two") as two:
        parts = [cluster("a"), endpoints("a", one), routes("a"), listener(port)]
        hub = hub_for_everyone()
        hub.publish(EVERYONE, Snapshot.of(parts))
        async with (
            pilot(hub) as server,
            envoy(api_type, server.address, tmp_path) as process,
        ):
            await until(says(port, 200, "one"))
            await settled(server)
            (status,) = server.streams()
            assert status.node.metadata["role"] == "sidecar"
            assert status.node.user_agent_version.startswith("1.40")

            # a changed cluster warms at once, not after Envoy's 15 seconds
            hub.publish(EVERYONE, Snapshot.of([cluster("a", 1500), *parts[1:]]))
            await settled(server, seconds=5)
            assert await said(port) == (200, "one")

            # a new cluster is there before its route, and the old one goes after it
            wanted = [cluster("b"), endpoints("b", two), routes("b"), listener(port)]
            hub.publish(EVERYONE, Snapshot.of(wanted))
            results = []
            async with asyncio.timeout(5):
                while not results or results[-1] != (200, "two"):
                    results.append(await said(port))
            assert set(results) <= {(200, "one"), (200, "two")}
            await settled(server, seconds=5)

            # a refused listener leaves the old one serving; a good one is taken
            bad = listener(port, prefix="")
            hub.publish(EVERYONE, Snapshot.of([*wanted[:3], bad]))

            async def refused():
                return any(t.error for s in server.streams() for t in s.types)

            await until(refused)
            assert await said(port) == (200, "two")
            (refusal,) = [t for t in server.streams()[0].types if t.error]
            assert (refusal.type_url, refusal.parked) == (LISTENER, ("in",))
            good = [*wanted[:3], listener(port, prefix="fixed")]
            hub.publish(EVERYONE, Snapshot.of(good))
            await settled(server, seconds=5)
            await until(says(port, 200, "two"))
            assert process.returncode is None


async def settled(server, seconds=BOUND):
    async def check():
        streams = server.streams()
        types = {t.type_url for s in streams for t in s.types}
        return {CLUSTER, ENDPOINT, LISTENER, ROUTE} <= types and all(s.settled for s in streams)

    await until(check, seconds)


@needs_envoy
@both
async def test_an_envoy_keeps_serving_while_the_server_restarts(api_type, tmp_path):
    port = free_port()
    async with answering("one") as one, answering("two") as two:
        parts = [cluster("a"), routes("a"), listener(port)]
        hub = hub_for_everyone()
        hub.publish(EVERYONE, Snapshot.of([*parts, endpoints("a", one)]))
        async with AsyncExitStack() as stack:
            async with pilot(hub) as server:
                where = server.address
                await stack.enter_async_context(envoy(api_type, where, tmp_path))
                await until(says(port, 200, "one"))
            assert await said(port) == (200, "one")
            async with pilot(hub, port=where.port) as again:
                await settled(again)
                assert await said(port) == (200, "one")
                hub.publish(EVERYONE, Snapshot.of([*parts, endpoints("a", two)]))
                await until(says(port, 200, "two"))
