"""The discovery streams on the HTTP/2 shell of our own: grpc.aio, raw frames and a real Envoy."""

import asyncio
import os
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from struct import pack

import aiohttp
import grpc
import grpc.aio
import pytest
import trustme
from support.discovery_envoy import BOUND, Way, bootstrap, running
from support.frames import END_HEADERS, HEADERS, PREFACE, SETTINGS, frame, frames, headers
from support.members import until
from support.resources import address as at_port
from support.resources import made, typed

from wherry.clock import SystemClock
from wherry.errors import PortInUse
from wherry.serve import Address
from xds import wire
from xds.http2.frames import Code
from xds.http2.server import serving
from xds.hub import Hub
from xds.introspection.serving import Serving as Health
from xds.limits import Limits
from xds.resource import CLUSTER, LISTENER, Resource
from xds.snapshot import Snapshot
from xds.streams import SERVICE, Streams

MESSAGES = wire.MESSAGES
EVERYONE = "everyone"
DELTA = f"/{SERVICE}/DeltaAggregatedResources"
CLUSTERS = "envoy.service.cluster.v3.ClusterDiscoveryService"
DATA, RESET, PING, GOAWAY = 0, 3, 6, 7
SIZE = 128 << 10
HELLO = PREFACE + frame(SETTINGS, 0, 0, b"")
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


def state(turn, size=SIZE):
    return Snapshot.of([Resource(CLUSTER, "big", b"%9d" % turn + bytes(size))])


def turn_of(response):
    return int(response.resources[0].resource.value[:9])


@asynccontextmanager
async def pilot(*, tls=None, handover=None, more=(), size=SIZE, **limits):
    hub = Hub(lambda _: EVERYONE)
    hub.publish(EVERYONE, state(0, size))
    limits = Limits(**limits)
    streams = Streams(hub, SystemClock(), limits)
    hand_over = None if handover is None else lambda: streams.hand_over(handover)
    handlers = (*streams.handlers(), *more)
    async with serving(Address(), handlers, limits=limits, tls=tls, ending=hand_over) as address:
        yield hub, streams, address


def first(node, *names):
    message = MESSAGES["DeltaDiscoveryRequest"](
        type_url=CLUSTER, resource_names_subscribe=names or ["*"]
    )
    message.node.id = node
    return message.SerializeToString()


def ack(response):
    return MESSAGES["DeltaDiscoveryRequest"](
        type_url=response.type_url, response_nonce=response.nonce
    ).SerializeToString()


class Reader:
    """A client that reads and acknowledges what comes."""

    def __init__(self, call):
        self.call = call

    async def hear(self):
        async with asyncio.timeout(BOUND):
            raw = await self.call.read()
        assert raw is not grpc.aio.EOF
        response = MESSAGES["DeltaDiscoveryResponse"].FromString(raw)
        await self.call.write(ack(response))
        return response


@asynccontextmanager
async def reader(address, node):
    async with grpc.aio.insecure_channel(str(address), options=OWN_CONNECTION) as channel:
        call = channel.stream_stream(DELTA)()
        await call.write(first(node))
        yield Reader(call)
        call.cancel()


@asynccontextmanager
async def raw(address, said=HELLO):
    """Open a connection that says ``said`` and yield how to hear and say frames."""
    reading, writing = await asyncio.open_connection(address.host, address.port)
    writing.write(said)

    async def hear():
        """Return the next frame, or None at the end."""
        try:
            async with asyncio.timeout(BOUND):
                head = await reading.readexactly(9)
                body = await reading.readexactly(int.from_bytes(head[:3]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return head[3], head[4], int.from_bytes(head[5:]), body

    try:
        yield hear, writing.write
    finally:
        writing.close()


async def heard(hear, kind):
    """Return the body of the next frame of a kind; None when the connection ends before."""
    while (found := await hear()) is not None:
        if found[0] == kind:
            return found[3]
    return None


def call(number, path=DELTA, **more):
    block = headers(path)
    for name, value in more.items():
        for text in (b"\0", name.replace("_", "-").encode(), value.encode()):
            block += bytes([len(text)]) * (text != b"\0") + text
    return frame(HEADERS, END_HEADERS, number, block)


def message(number, body):
    return frame(DATA, 0, number, b"\0" + pack(">I", len(body)) + body)


async def test_a_client_gets_its_snapshot_and_then_each_change():
    async with pilot() as (hub, streams, address), reader(address, "a") as client:
        assert turn_of(await client.hear()) == 0
        for turn in range(1, 5):
            hub.publish(EVERYONE, state(turn))
            assert turn_of(await client.hear()) == turn

        async def settled():
            return all(stream.settled for stream in streams.status())

        await until(settled)
        (status,) = streams.status()
        assert (status.node.id, status.variant, status.sent) == ("a", "delta", 5)


async def test_one_request_is_answered_by_one_response():
    path = f"/{CLUSTERS}/FetchClusters"
    async with pilot() as (_, _, address), grpc.aio.insecure_channel(str(address)) as channel:
        request = MESSAGES["DiscoveryRequest"](type_url=CLUSTER)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(path)(request.SerializeToString())
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == "request: no node, expected a node with id"
        request.node.id = "fetcher"
        raw = await channel.unary_unary(path)(request.SerializeToString())
        assert len(MESSAGES["DiscoveryResponse"].FromString(raw).resources) == 1


async def test_an_error_is_told_in_any_script():
    async with pilot() as (_, _, address), grpc.aio.insecure_channel(str(address)) as channel:
        call = channel.stream_stream(f"/{CLUSTERS}/StreamClusters")()
        bad = MESSAGES["DiscoveryRequest"](type_url="100% Müll")
        bad.node.id = "a"
        await call.write(bad.SerializeToString())
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "100% Müll" in await call.details()


async def test_an_unknown_method_is_unimplemented():
    async with pilot() as (_, _, address), grpc.aio.insecure_channel(str(address)) as channel:
        call = channel.stream_stream("/nobody/Knows")()
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_request_over_several_windows_is_taken_and_one_over_the_limit_is_not():
    async with (
        pilot(message_bytes=1 << 20) as (_, streams, address),
        grpc.aio.insecure_channel(str(address)) as channel,
    ):
        names = [f"{number:0>200}" for number in range(1000)]
        client = Reader(channel.stream_stream(DELTA)())
        await client.call.write(first("long", *names))
        assert len((await client.hear()).removed_resources) == 1000
        assert streams.status()[0].types[0].names == 1000
        call = channel.stream_stream(DELTA)()
        await call.write(bytes((1 << 20) + 1))
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        client.call.cancel()


REFUSALS = {
    "compressed": (call(1) + frame(DATA, 0, 1, b"\1\0\0\0\1a"), b"12"),
    "a length over the limit": (call(1) + frame(DATA, 0, 1, b"\0\xff\0\0\0"), b"8"),
    "no protobuf": (call(1) + message(1, b"\xff\xff"), b"3"),
    "a timeout of letters": (call(1, grpc_timeout="soon"), b"13"),
    "a timeout that passes": (call(1, grpc_timeout="50m") + message(1, first("a")), b"4"),
    "a client that says nothing": (call(1), b"4"),
}


@pytest.mark.parametrize(("said", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_a_call_that_is_refused_ends_alone_with_its_status(said, code):
    async with (
        pilot(first_request_seconds=0.2, size=9) as (_, streams, address),
        raw(address, HELLO + said) as (hear, say),
    ):
        block = await heard(hear, HEADERS)
        if b"grpc-status" not in block:
            block = await heard(hear, HEADERS)
        assert b"grpc-status" + bytes([len(code)]) + code in block
        say(call(3) + message(3, first("next")))
        assert b"big" in await heard(hear, DATA)
        assert [stream.node.id for stream in streams.status()] == ["next"]


async def test_a_call_that_ends_before_its_client_reads_is_reset():
    said = HELLO + call(1, grpc_timeout="200m") + message(1, first("slow"))
    async with pilot() as (_, streams, address), raw(address, said) as (hear, _):
        assert await heard(hear, RESET) == pack(">I", Code.CANCEL)
        assert streams.status() == ()


@pytest.mark.parametrize(
    ("block", "status"),
    [
        (headers(DELTA).replace(b"\x83", b"\x82"), b"405"),
        (headers(DELTA).replace(b"application/grpc", b"application/json"), b"415"),
    ],
)
async def test_what_is_no_grpc_is_told_so_in_http(block, status):
    said = HELLO + frame(HEADERS, END_HEADERS, 1, block)
    async with pilot() as (_, _, address), raw(address, said) as (hear, _):
        assert await heard(hear, HEADERS) == b"\0\x07:status\x03" + status


async def test_a_handler_that_fails_ends_its_call_alone(caplog):
    async def fail(_requests, context):
        await context.read()
        raise RuntimeError("on purpose")

    methods = {"Fail": grpc.stream_stream_rpc_method_handler(fail)}
    handler = grpc.method_handlers_generic_handler("test", methods)
    async with (
        pilot(more=(handler,)) as (_, _, address),
        grpc.aio.insecure_channel(str(address)) as channel,
    ):
        client = Reader(channel.stream_stream(DELTA)())
        await client.call.write(first("other"))
        call = channel.stream_stream("/test/Fail")()
        await call.write(b"now")
        assert await call.code() is grpc.StatusCode.UNKNOWN
        assert "on purpose" not in await call.details()
        assert turn_of(await client.hear()) == 0
        client.call.cancel()
    assert "on purpose" in caplog.text


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_client_whose_window_is_shut_costs_one_response_and_skips_to_the_newest():
    pushes = 400
    async with pilot() as (hub, _, address), AsyncExitStack() as stack:
        slow = await stack.enter_async_context(frames(address.port, DELTA, 1000))
        slow.say(first("slow"))
        async with asyncio.timeout(BOUND):
            await slow.shut()
        other = await stack.enter_async_context(reader(address, "quick"))
        assert turn_of(await other.hear()) == 0
        before = 0
        for turn in range(1, pushes + 1):
            hub.publish(EVERYONE, state(turn))
            assert turn_of(await other.hear()) == turn
            if turn == pushes // 2:
                before = resident()  # what is kept for the next stream is there by now
        assert resident() - before < pushes * SIZE / 4
        slow.widen(10 * SIZE)
        found = []
        async with asyncio.timeout(BOUND):
            while not found or found[-1] < pushes:
                response = MESSAGES["DeltaDiscoveryResponse"].FromString(await slow.hear())
                found.append(turn_of(response))
                slow.say(ack(response))
        assert found == [0, pushes]


async def test_a_client_that_asks_without_reading_at_all_is_no_longer_listened_to():
    async with pilot() as (_, streams, address), AsyncExitStack() as stack:
        hear, say = await stack.enter_async_context(raw(address, HELLO))
        del hear
        say(frame(SETTINGS, 0, 0, pack(">HI", 4, 1 << 30)))
        say(frame(8, 0, 0, pack(">I", 1 << 30)))
        calls, asked = range(1, 401, 2), 0
        before = resident()
        again = MESSAGES["DeltaDiscoveryRequest"](
            type_url=CLUSTER, resource_names_subscribe=["big"]
        ).SerializeToString()
        for number in calls:
            say(call(number) + message(number, first(f"deaf-{number}")))
        for number in calls:
            say(message(number, again) * 200)
            asked += 200
        other = await stack.enter_async_context(reader(address, "quick"))
        assert turn_of(await other.hear()) == 0
        assert resident() - before < asked * SIZE / 100
        assert streams.tally.requests < asked


async def test_streams_that_are_reset_at_once_end_the_connection_and_leave_nothing():
    storm = b"".join(
        call(number) + frame(RESET, 0, number, pack(">I", 8)) for number in range(1, 8001, 2)
    )
    async with (
        pilot() as (hub, streams, address),
        reader(address, "calm") as calm,
        raw(address, HELLO + storm) as (hear, _),
    ):
        goodbye = await heard(hear, GOAWAY)
        assert int.from_bytes(goodbye[4:8]) == Code.ENHANCE_YOUR_CALM
        assert await heard(hear, GOAWAY) is None
        assert turn_of(await calm.hear()) == 0
        hub.publish(EVERYONE, state(1))
        assert turn_of(await calm.hear()) == 1
        assert [stream.node.id for stream in streams.status()] == ["calm"]
        tasks = [task.get_name() for task in asyncio.all_tasks()]
        assert sum(name.startswith("xds/http2 /") for name in tasks) == 1


async def test_messages_that_never_come_whole_are_bounded_for_all_together(monkeypatch):
    monkeypatch.setattr("xds.http2.shell.MOST_HELD", 20_000)
    part = b"\0" + pack(">I", 1 << 20) + bytes(9_000)
    said = HELLO + b"".join(call(n) + frame(DATA, 0, n, part) for n in (1, 3, 5))
    async with pilot() as (_, _, address), raw(address, said) as (hear, say):
        assert b"grpc-status\x018" in await heard(hear, HEADERS)
        say(frame(RESET, 0, 1, pack(">I", 8)))
        say(call(7) + frame(DATA, 0, 7, part) + frame(PING, 0, 0, bytes(8)))
        found = []
        while not found or found[-1] != PING:
            found.append((await hear())[0])
        assert HEADERS not in found


async def test_a_client_that_does_not_answer_a_ping_is_hung_up_and_one_that_does_is_not():
    async with (
        pilot(keepalive_seconds=0.1, keepalive_timeout_seconds=0.5) as (_, streams, address),
        reader(address, "alive") as alive,
        raw(address, HELLO + call(1) + message(1, first("gone"))) as (hear, _),
    ):
        await alive.hear()
        assert await heard(hear, PING) is not None
        assert await heard(hear, GOAWAY) is None

        async def noticed():
            return [stream.node.id for stream in streams.status()] == ["alive"]

        await until(noticed)


async def test_a_connection_without_streams_is_ended():
    async with pilot(idle_seconds=0.1) as (_, _, address), raw(address) as (hear, _):
        goodbye = await heard(hear, GOAWAY)
        assert int.from_bytes(goodbye[4:8]) == Code.NO_ERROR
        assert await hear() is None


async def test_at_the_end_clients_are_told_to_come_back():
    async with AsyncExitStack() as stack:
        _, _, address = await stack.enter_async_context(pilot(handover=0.2, size=9))
        async with raw(address, HELLO + call(1) + message(1, first("a"))) as (hear, _):
            assert await heard(hear, DATA) is not None
            async with asyncio.TaskGroup() as group:
                group.create_task(stack.aclose())
                assert int.from_bytes((await heard(hear, GOAWAY))[4:8]) == Code.NO_ERROR
                assert b"grpc-status\x0214" in await heard(hear, HEADERS)


async def test_a_port_in_use_is_named():
    async with pilot() as (_, streams, address):
        with pytest.raises(PortInUse):
            async with serving(address, streams.handlers()):
                pass


async def test_tls_is_spoken_with_those_who_ask_for_http2():
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trust = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    async with pilot(tls=context) as (hub, _, address):
        async with grpc.aio.secure_channel(f"localhost:{address.port}", trust) as channel:
            client = Reader(channel.stream_stream(DELTA)())
            await client.call.write(first("secure"))
            assert turn_of(await client.hear()) == 0
            hub.publish(EVERYONE, state(1))
            assert turn_of(await client.hear()) == 1
            client.call.cancel()
        other = ssl.create_default_context()
        authority.configure_trust(other)
        other.set_alpn_protocols(["http/1.1"])
        reading, writing = await asyncio.open_connection(
            address.host, address.port, ssl=other, server_hostname="localhost"
        )
        async with asyncio.timeout(BOUND):
            assert await reading.read() == b""
        writing.close()


def site(text):
    answer = {"status": 200, "body": {"inline_string": text}}
    route = {"match": {"prefix": "/"}, "direct_response": answer}
    router = typed("envoy.extensions.filters.http.router.v3.Router")
    manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="in",
        http_filters=[{"name": "router", "typed_config": router}],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    )
    filters = [{"name": "hcm", "typed_config": manager}]
    content = {"name": "in", "address": at_port(0), "filter_chains": [{"filters": filters}]}
    return Snapshot.of([made(LISTENER, "in", content)])


@pytest.mark.e2e
@pytest.mark.parametrize("way", [Way(delta=False), Way(delta=True)], ids=str)
async def test_an_envoy_serves_each_change(way, tmp_path):
    once = aiohttp.TCPConnector(force_close=True)
    async with pilot() as (hub, streams, address), aiohttp.ClientSession(connector=once) as session:
        hub.publish(EVERYONE, site("0"))
        async with running(bootstrap(address, way), tmp_path) as envoy:
            for turn in range(5):
                hub.publish(EVERYONE, site(str(turn)))

                async def served(turn=turn):
                    url = f"http://127.0.0.1:{await envoy.port()}/"
                    try:
                        async with session.get(url) as response:
                            return await response.text() == str(turn)
                    except aiohttp.ClientError:
                        return False

                await until(served)

            async def settled():
                return all(stream.settled for stream in streams.status())

            await until(settled)
            (status,) = streams.status()
            assert (status.node.id, status.variant) == (
                "envoy-1", "delta" if way.delta else "sotw",
            )  # fmt: skip


async def test_a_task_of_a_call_that_writes_when_its_client_is_gone_is_no_failure(caplog):
    begun, over = asyncio.Event(), asyncio.Event()

    async def write(context):
        while True:
            await context.write(b"x")
            begun.set()
            await asyncio.sleep(0)

    async def talk(_requests, context):
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(write(context))
                while await context.read() is not grpc.aio.EOF:
                    pass
        finally:
            over.set()

    methods = {"Talk": grpc.stream_stream_rpc_method_handler(talk)}
    handler = grpc.method_handlers_generic_handler("test", methods)
    open_windows = frame(8, 0, 0, pack(">I", 1 << 30))
    said = HELLO + open_windows + call(1, "/test/Talk") + frame(8, 0, 1, pack(">I", 1 << 30))
    async with pilot(more=(handler,)) as (_, _, address), raw(address, said) as (_, say):
        async with asyncio.timeout(10):
            await begun.wait()
            say(frame(RESET, 0, 1, pack(">I", 8)))
            await over.wait()
    assert "call failed" not in caplog.text


async def test_health_is_watched_over_http2_too():
    health = Health(["a"])
    async with (
        pilot(more=(health.handler(),)) as (_, _, address),
        grpc.aio.insecure_channel(str(address)) as channel,
    ):
        call = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\x0a\x01a")
        async with asyncio.timeout(10):
            assert await call.read() == b"\x08\x01"
            health.drain()
            assert await call.read() == b"\x08\x02"
        call.cancel()


async def test_what_a_refused_message_held_is_counted_back_exactly(monkeypatch):
    monkeypatch.setattr("xds.http2.shell.MOST_HELD", 20_000)
    part = b"\0" + pack(">I", 9_000) + bytes(5_000)
    compressed = bytes(4_000) + b"\1" + pack(">I", 1) + bytes(9_000)
    async with pilot() as (_, _, address), raw(address) as (hear, say):
        for n in range(1, 21, 2):
            say(call(n) + frame(DATA, 0, n, part) + frame(DATA, 0, n, compressed))
            assert b"grpc-status\x0212" in await heard(hear, HEADERS)
        large = b"\0" + pack(">I", 1 << 20) + bytes(9_000)
        say(b"".join(call(n) + frame(DATA, 0, n, large) for n in (21, 23, 25)))
        assert b"grpc-status\x018" in await heard(hear, HEADERS)
