"""Clients that misbehave at the Pilot's port: each gets its answer, and nobody else notices."""

import asyncio
import contextlib

import grpc
import grpc.aio
import pytest
from support.pilot import EVERYONE, hub, pilot, until

from xds import wire
from xds.resource import CLUSTER, ENDPOINT, Resource
from xds.services import AGGREGATED, SERVICES
from xds.snapshot import Snapshot

MESSAGES = wire.MESSAGES
BOUND = 12.0
EDS = next(service for service in SERVICES if service.short == "eds")
UNKNOWN = "type.googleapis.com/nobody.knows.v1.This"

both = pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])


def of(*names, body=b"1"):
    return Snapshot.of([Resource(CLUSTER, name, body) for name in names])


class Client:
    """A discovery client that says whatever it is told."""

    def __init__(self, server, service=AGGREGATED, *, delta=False):
        self._channel = grpc.aio.insecure_channel(str(server.address))
        kind = "DeltaDiscovery" if delta else "Discovery"
        self._request, self._response = MESSAGES[f"{kind}Request"], MESSAGES[f"{kind}Response"]
        method = service.delta if delta else service.stream
        self.call = self._channel.stream_stream(f"/{service.name}/{method}")()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.call.cancel()
        await self._channel.close()

    async def send(self, raw):
        await self.call.write(raw)

    async def say(self, node="node-1", type_url=CLUSTER, **fields):
        message = self._request(type_url=type_url, **fields)
        if node:
            message.node.id = node
        await self.send(message.SerializeToString())

    async def hear(self):
        async with asyncio.timeout(BOUND):
            raw = await self.call.read()
        assert raw is not grpc.aio.EOF
        return self._response.FromString(raw)

    async def ended(self):
        """Return how the server ended the stream: code and details, behind all that it said."""
        async with asyncio.timeout(BOUND):
            with contextlib.suppress(grpc.aio.AioRpcError):
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            return await self.call.code(), await self.call.details()


@both
async def test_what_is_no_message_ends_the_stream_and_is_counted(delta):
    async with pilot(hub()) as server, Client(server, delta=delta) as client:
        await client.send(b"\x0a\xff\xff")
        code, details = await client.ended()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "expected a D" in details
        await until(lambda: server.discovery.tally.refused == {"bad request": 1})


@both
async def test_what_is_no_message_after_good_ones_ends_only_that_stream(delta):
    hubbed = hub()
    hubbed.publish(EVERYONE, of("a"))
    async with (
        pilot(hubbed) as server,
        Client(server, delta=delta) as good,
        Client(server, delta=delta) as bad,
    ):
        for client in (good, bad):
            await client.say()
            await client.hear()
        await bad.send(b"\x0a\xff\xff")
        assert (await bad.ended())[0] is grpc.StatusCode.INVALID_ARGUMENT
        await until(lambda: len(server.streams()) == 1)
        assert server.streams()[0].types[0].awaiting


@both
async def test_a_type_that_nobody_knows_is_taken_for_one_without_resources(delta):
    """A client may know more types than the server; the protocol has no word for that."""
    hubbed = hub()
    hubbed.publish(EVERYONE, of("a"))
    async with pilot(hubbed) as server, Client(server, delta=delta) as client:
        await client.say(type_url=UNKNOWN)
        answer = await client.hear()
        assert (answer.type_url, len(answer.resources)) == (UNKNOWN, 0)
        await client.say(node=None)
        assert len((await client.hear()).resources) == 1


@both
async def test_more_types_than_there_are_end_the_stream(delta):
    async with pilot(hub(), types=3) as server, Client(server, delta=delta) as client:
        for n in range(4):
            await client.say(type_url=f"{UNKNOWN}{n}")
        code, details = await client.ended()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "4 types, expected at most 3" in details


@both
async def test_a_service_of_one_type_refuses_another_and_needs_none_named(delta):
    hubbed = hub()
    hubbed.publish(EVERYONE, Snapshot.of([Resource(ENDPOINT, "a", b"1")]))
    names = {"resource_names_subscribe" if delta else "resource_names": ["a"]}
    async with pilot(hubbed) as server:
        async with Client(server, EDS, delta=delta) as client:
            await client.say(type_url=CLUSTER)
            code, details = await client.ended()
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert ENDPOINT in details
        async with Client(server, EDS, delta=delta) as client:
            await client.say(type_url="", **names)
            assert (await client.hear()).type_url == ENDPOINT
        async with Client(server, delta=delta) as client:
            await client.say(type_url="")
            assert (await client.ended())[0] is grpc.StatusCode.INVALID_ARGUMENT
        await until(lambda: server.discovery.tally.refused.total() == 2)


@both
@pytest.mark.parametrize("node", [None, "x" * 2000], ids=["none", "long"])
async def test_a_stream_without_a_node_of_sane_length_is_refused(delta, node):
    async with pilot(hub()) as server, Client(server, delta=delta) as client:
        await client.say(node=node)
        code, details = await client.ended()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "expected" in details
        assert server.streams() == ()


@both
async def test_who_never_acknowledges_gets_no_more_and_slows_nobody(delta):
    hubbed = hub()
    hubbed.publish(EVERYONE, of("a"))
    async with (
        pilot(hubbed) as server,
        Client(server, delta=delta) as silent,
        Client(server, delta=delta) as good,
    ):
        await silent.say(node="silent")
        await good.say(node="good")
        answer = await good.hear()
        await silent.hear()
        for n in range(50):
            hubbed.publish(EVERYONE, of("a", body=b"%d" % n))
            await good.say(node=None, response_nonce=answer.nonce)
            answer = await good.hear()
        sent = {status.node.id: status.sent for status in server.streams()}
        assert sent["silent"] == 1
        assert sent["good"] >= 51


@both
async def test_streams_that_come_and_go_leave_nothing_behind(delta):
    hubbed = hub()
    hubbed.publish(EVERYONE, of("a"))
    times = 500
    async with pilot(hubbed, streams=5) as server:
        method = AGGREGATED.delta if delta else AGGREGATED.stream
        message = MESSAGES["DeltaDiscoveryRequest" if delta else "DiscoveryRequest"](
            type_url=CLUSTER, node={"id": "restless"}
        ).SerializeToString()
        async with grpc.aio.insecure_channel(str(server.address)) as channel:
            open_stream = channel.stream_stream(f"/{AGGREGATED.name}/{method}")
            for n in range(times):
                call = open_stream()
                await call.write(message)
                if n % 2:
                    await call.read()
                call.cancel()
                await until(lambda: len(server.streams()) < 2)
        await until(lambda: server.streams() == ())
        assert hubbed.scopes == frozenset()
        opened, refused = server.discovery.tally.opened, server.discovery.tally.refused
        assert opened["ads", "delta" if delta else "sotw"] + refused.total() <= times
        assert opened.total() >= times // 2
        async with Client(server, delta=delta) as client:
            await client.say()
            await client.hear()


@both
async def test_a_million_names_are_too_many_at_once_and_one_by_one(delta):
    field = "resource_names_subscribe" if delta else "resource_names"
    async with pilot(hub(), names=1000) as server:
        async with Client(server, delta=delta) as client:
            await client.say(**{field: [f"{n}" for n in range(1_000_000)]})
            code, _ = await client.ended()
            assert code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT)
        async with Client(server, delta=delta) as client:
            await client.say(**{field: [f"{n}" for n in range(wire.MAX_NAMES + 1)]})
            code, details = await client.ended()
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert f"expected at most {wire.MAX_NAMES}" in details
        async with Client(server, delta=delta) as client:
            for kind in (CLUSTER, ENDPOINT):
                await client.say(type_url=kind, **{field: [f"{n}" for n in range(600)]})
            code, details = await client.ended()
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "expected at most 1000" in details
        async with Client(server, delta=delta) as client:
            await client.say(**{field: ["x" * (wire.MAX_NAME + 1)]})
            assert (await client.ended())[0] is grpc.StatusCode.INVALID_ARGUMENT


@both
async def test_a_message_over_the_limit_ends_the_stream(delta):
    async with (
        pilot(hub(), message_bytes=10_000) as server,
        Client(server, delta=delta) as client,
    ):
        await client.send(b"\x0a" + b"x" * 20_000)
        assert (await client.ended())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        await until(lambda: server.streams() == ())


@both
async def test_one_node_has_its_share_of_the_streams(delta):
    hubbed = hub()
    hubbed.publish(EVERYONE, of("a"))
    async with (
        pilot(hubbed, streams_per_node=2) as server,
        Client(server, delta=delta) as first,
        Client(server, delta=delta) as second,
        Client(server, delta=delta) as third,
        Client(server, delta=delta) as other,
    ):
        for client in (first, second):
            await client.say(node="greedy")
            await client.hear()
        await third.say(node="greedy")
        code, details = await third.ended()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "'greedy': over 2 streams" in details
        await other.say(node="modest")
        await other.hear()
        first.call.cancel()
        await until(lambda: len(server.streams()) == 2)
        async with Client(server, delta=delta) as again:
            await again.say(node="greedy")
            await again.hear()


@both
async def test_silence_at_the_start_has_an_end(delta):
    async with (
        pilot(hub(), first_request_seconds=0.05) as server,
        Client(server, delta=delta) as client,
    ):
        code, details = await client.ended()
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "silent for 0.05 s, expected a request" in details
        await until(lambda: server.discovery.tally.refused == {"silent": 1})


@both
async def test_a_nonce_and_a_version_from_nowhere_do_no_harm(delta):
    hubbed = hub()
    hubbed.publish(EVERYONE, of("a"))
    more = {"initial_resource_versions": {"b": "?"}} if delta else {"version_info": "?"}
    async with pilot(hubbed) as server, Client(server, delta=delta) as client:
        await client.say(response_nonce="nobody's", error_detail={"code": 3}, **more)
        answer = await client.hear()
        assert len(answer.resources) == 1
        await client.say(node=None, response_nonce="wrong", error_detail={"code": 3})
        await client.say(node=None, response_nonce=answer.nonce)
        hubbed.publish(EVERYONE, of("a", body=b"2"))
        while (answer := await client.hear()).nonce and not answer.resources:
            await client.say(node=None, response_nonce=answer.nonce)
        assert len(answer.resources) == 1
