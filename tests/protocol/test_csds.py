"""Client status of the whole fleet, and what a real Envoy says it holds."""

import os
import shutil
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import grpc
import grpc.aio
import pytest

from xds.csds import wire
from xds.csds.client import fetch
from xds.csds.fleet import Config, Held, Proxy, Refusal, Sync, judged
from xds.csds.server import SERVICE, ClientStatus, Limits
from xds.node import Node
from xds.resource import CLUSTER, LISTENER

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
