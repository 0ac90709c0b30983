"""Clients that do not read, do not answer, come too often or are gone: nobody else notices."""

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from support.frames import frames
from support.members import until
from support.several import METHOD, OWN_CONNECTION, Request, Response

from wherry.clock import SystemClock
from wherry.serve import Address
from wherry.store.memory import MemoryStore
from xds.hub import Hub
from xds.limits import Limits
from xds.pace import SLACK_SECONDS, Pace
from xds.registrations import Registry
from xds.resource import CLUSTER, LISTENER, Resource
from xds.server import serving
from xds.snapshot import Snapshot

EVERYONE = "everyone"
WARM, LAST, SIZE = 200, 400, 128 << 10
BOUND = 20.0


@asynccontextmanager
async def pilot(**more):
    hub = Hub(lambda _: EVERYONE)
    hub.publish(EVERYONE, state(0))
    registry = Registry(MemoryStore(), SystemClock())
    async with serving(Address(), hub, registry, limits=Limits(**more)) as server:
        yield hub, server


def state(turn):
    """Return a snapshot with one large cluster, whose beginning says the turn."""
    return Snapshot.of([Resource(CLUSTER, "big", b"%9d" % turn + bytes(SIZE))])


def turn_of(response):
    return int(response.resources[0].resource.value[:9])


def first(node, *names):
    message = Request(type_url=CLUSTER, resource_names_subscribe=names or ["*"])
    message.node.id = node
    return message.SerializeToString()


def ack(response):
    message = Request(type_url=response.type_url, response_nonce=response.nonce)
    return message.SerializeToString()


class Reader:
    """A client that reads and acknowledges what comes."""

    def __init__(self, call):
        self.call = call

    async def hear(self):
        async with asyncio.timeout(BOUND):
            raw = await self.call.read()
        assert raw is not grpc.aio.EOF
        response = Response.FromString(raw)
        await self.call.write(ack(response))
        return response


@asynccontextmanager
async def reader(address, node):
    async with grpc.aio.insecure_channel(str(address), options=OWN_CONNECTION) as channel:
        call = channel.stream_stream(METHOD)()
        await call.write(first(node))
        yield Reader(call)
        call.cancel()


def resident():
    """Return bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_client_that_does_not_read_costs_its_own_queue_alone_and_skips_to_the_newest():
    async with pilot() as (hub, server), AsyncExitStack() as stack:
        others = [
            await stack.enter_async_context(reader(server.address, f"reader-{n}")) for n in range(3)
        ]
        for other in others:
            assert turn_of(await other.hear()) == 0

        async def push(turns):
            for turn in turns:
                hub.publish(EVERYONE, state(turn))
                for other in others:
                    assert turn_of(await other.hear()) == turn

        await push(range(1, WARM + 1))  # until memory is what it is without the slow one
        slow = await stack.enter_async_context(frames(server.address.port, METHOD, 1000))
        slow.say(first("slow"))
        async with asyncio.timeout(BOUND):
            await slow.shut()
        before = resident()
        await push(range(WARM + 1, LAST + 1))
        grown = resident() - before
        print(f"{(LAST - WARM) * SIZE >> 20} MiB pushed, {grown >> 20} MiB more memory")
        assert grown < (LAST - WARM) * SIZE / 4
        slow.widen(10 * SIZE)
        heard = []
        async with asyncio.timeout(BOUND):
            while not heard or heard[-1] < LAST:
                response = Response.FromString(await slow.hear())
                heard.append(turn_of(response))
                slow.say(ack(response))
        assert heard == [WARM, LAST]


async def test_a_client_that_asks_without_reading_does_not_fill_the_memory():
    async with pilot() as (_, server), AsyncExitStack() as stack:
        slow = await stack.enter_async_context(frames(server.address.port, METHOD, 1000))
        slow.say(first("slow"))
        async with asyncio.timeout(BOUND):
            await slow.shut()
        before, asked = resident(), 2000
        again = Request(type_url=CLUSTER, resource_names_subscribe=["big"]).SerializeToString()
        for _ in range(asked):
            slow.say(again)

        async def read():
            return server.discovery.tally.requests > asked

        await until(read)
        assert resident() - before < 100 * SIZE
        slow.widen(100 * SIZE)
        slow.say(Request(type_url=LISTENER, resource_names_subscribe=["none"]).SerializeToString())
        heard = []
        async with asyncio.timeout(BOUND):
            while not heard or heard[-1].type_url != LISTENER:
                heard.append(Response.FromString(await slow.hear()))
                slow.say(ack(heard[-1]))
        assert len(heard) <= 4


STOPPED = """
import asyncio, sys
import grpc.aio
async def main():
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        call = channel.stream_stream(sys.argv[2])()
        await call.write(bytes.fromhex(sys.argv[3]))
        await call.read()
        print("connected", flush=True)
        await call.read()
asyncio.run(main())
"""


async def test_a_client_that_is_gone_without_a_word_is_noticed():
    async with pilot(keepalive_seconds=1.0, keepalive_timeout_seconds=1.0) as (_, server):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", STOPPED, str(server.address), METHOD, first("gone").hex()),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert await process.stdout.readline() == b"connected\n"
            assert [stream.node.id for stream in server.streams()] == ["gone"]
            process.send_signal(signal.SIGSTOP)

            async def noticed():
                return not server.streams()

            await until(noticed)
        finally:
            process.kill()
            await process.communicate()


async def test_a_client_that_comes_back_in_a_loop_waits_and_nobody_else_does():
    async with pilot(streams_per_node=5, openings_per_second=5.0) as (hub, server):
        async with reader(server.address, "steady") as steady, AsyncExitStack() as stack:
            await steady.hear()
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(str(server.address))
            )
            times = []

            async def hammer():
                while True:
                    call = channel.stream_stream(METHOD)()
                    await call.write(first("hammer"))
                    await call.read()
                    times.append(asyncio.get_running_loop().time())
                    call.cancel()

            async with asyncio.TaskGroup() as group:
                task = group.create_task(hammer())

                async def paced():
                    return len(times) >= 10

                await until(paced)
                hub.publish(EVERYONE, state(1))
                assert turn_of(await steady.hear()) == 1
                task.cancel()
        assert server.discovery.tally.delayed >= 4
        assert times[9] - times[5] >= 0.6


async def test_refusals_for_one_reason_are_counted_and_not_all_logged(caplog):
    async with (
        pilot(streams=0) as (_, server),
        grpc.aio.insecure_channel(str(server.address)) as channel,
    ):
        for _ in range(20):
            call = channel.stream_stream(METHOD)()
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert server.discovery.tally.refused["too many streams"] == 20
    assert 1 <= sum(record.message == "stream refused" for record in caplog.records) < 20


def test_openings_are_paced_after_the_burst():
    pace = Pace(3, 10.0)
    assert [pace.wait("a", 0.0) for _ in range(3)] == [0.0] * 3
    assert [pace.wait("a", 0.0) for _ in range(2)] == pytest.approx([0.1, 0.2])
    assert pace.wait("b", 0.0) == 0.0
    assert pace.wait("a", 100.0) == 0.0


def test_nobody_waits_longer_than_the_slack_however_much_they_ask():
    pace = Pace(1, 1.0)
    waits = [pace.wait("a", 0.0) for _ in range(1000)]
    assert max(waits) == SLACK_SECONDS
    assert pace.wait("a", 20.0) == 0.0
