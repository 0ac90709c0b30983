"""Every client at once: what happens after a Pilot was away."""

import asyncio
import json
import os
import resource
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from wherry.clock import SystemClock
from wherry.descriptors import SPARE, room_for_files
from wherry.serve import Address
from wherry.store.memory import MemoryStore
from xds.hub import Hub
from xds.registrations import Registry
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from xds.server import serving
from xds.snapshot import Snapshot

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
STREAMS, CONNECTIONS = 1000, 100
WITHIN = 30.0


def state(turn):
    """Return what the clients ask for, in this turn's form."""
    return Snapshot.of(
        [
            Resource(CLUSTER, "svc-0", b"cluster"),
            Resource(ENDPOINT, "svc-0", b"endpoints %d" % turn),
            Resource(LISTENER, "in", b"listener"),
            Resource(ROUTE, "routes", b"routes"),
        ]
    )


class Herd:
    """Light clients in a process of their own."""

    def __init__(self, process):
        self._process = process

    async def tell(self, verb, **values):
        """Give a command and return the answer."""
        self._process.stdin.write(json.dumps({"do": verb, **values}).encode() + b"\n")
        return await self.answer()

    async def answer(self):
        async with asyncio.timeout(2 * WITHIN):
            return json.loads(await self._process.stdout.readline())

    async def come(self, port, variant):
        """Open every stream at once; each must have heard of all it asked for."""
        said = await self.tell(
            "open",
            port=port,
            variant=variant,
            streams=STREAMS,
            connections=CONNECTIONS,
            seconds=WITHIN,
            paced=False,
        )
        assert (said["incomplete"], said["errors"]) == (0, {})
        return said["seconds"]


@asynccontextmanager
async def herd():
    """Run the load client of the benchmarks."""
    path = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT)])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parts.xds_clients"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        made = Herd(process)
        assert await made.answer() == "ready"
        yield made
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def pilot(port=0):
    hub = Hub(lambda _: "everyone")
    hub.publish("everyone", state(0))
    registry = Registry(MemoryStore(), SystemClock())
    async with serving(Address(port=port), hub, registry) as server:
        yield hub, server


@pytest.mark.parametrize("variant", ["sotw", "delta"])
async def test_a_herd_that_comes_back_at_once_converges_without_an_error(variant):
    async with herd() as clients:
        async with pilot() as (_, server):
            port = server.address.port
            first = await clients.come(port, variant)
            await clients.tell("close")
            again = await clients.come(port, variant)
        await clients.tell("close")
        async with pilot(port) as (hub, server):
            after = await clients.come(port, variant)
            await clients.tell("expect")
            hub.publish("everyone", state(1))
            heard = await clients.tell("wait", type_url=ENDPOINT, count=STREAMS, seconds=WITHIN)
            assert (heard["counts"], heard["errors"]) == ({ENDPOINT: STREAMS}, {})

            async with asyncio.timeout(WITHIN):
                while not all(stream.settled for stream in server.streams()):
                    await asyncio.sleep(0.02)
            assert len(server.streams()) == STREAMS
            assert not server.discovery.tally.refused
            await clients.tell("close")
    print(f"{variant}: {first:.2f} s, again {again:.2f} s, after a restart {after:.2f} s")


LIMITED = """
import logging, resource, sys
from wherry.descriptors import room_for_files
logging.basicConfig(format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 1000))
print(room_for_files(int(sys.argv[1])), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limited(connections):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(connections)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stdout.strip(), done.stderr


def test_the_soft_limit_of_open_files_is_raised_as_far_as_needed():
    assert limited(500) == (f"{500 + SPARE} ({500 + SPARE}, 1000)", "")


def test_a_hard_limit_that_is_too_low_is_used_up_and_said():
    out, said = limited(5000)
    assert out == "1000 (1000, 1000)"
    assert said == (
        f"few file descriptors: 1000, expected {5000 + SPARE} for 5000 connections; "
        "raise the hard limit (ulimit -Hn)\n"
    )


def test_a_limit_that_is_high_enough_is_left_alone():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert room_for_files(1) == before[0]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
