"""A Pilot in the process of the test, what it publishes, and who answers behind Envoy."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from wherry.clock import SystemClock
from wherry.serve import Address
from wherry.store.memory import MemoryStore
from xds.hub import Hub
from xds.limits import Limits
from xds.registrations import Registry
from xds.server import serving
from xds.snapshot import Snapshot

EVERYONE = "everyone"
BOUND = 12.0


def hub(*resources):
    """Return a hub where everyone gets ``resources``."""
    made = Hub(lambda _: EVERYONE)
    publish(made, *resources)
    return made


def publish(into, *resources):
    into.publish(EVERYONE, Snapshot.of(resources))


@asynccontextmanager
async def pilot(of, port=0, **limits):
    registry = Registry(MemoryStore(), SystemClock())
    limits = Limits(**{"drain_seconds": 0.2, **limits})
    async with serving(Address(port=port), of, registry, limits=limits) as server:
        yield server


async def until(true, seconds=BOUND):
    """Wait until ``true()``, which may be a coroutine, is so; return what it returns."""
    async with asyncio.timeout(seconds):
        while True:
            found = true()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


async def settled(server, *types, seconds=BOUND):
    """Wait until every stream holds what is desired, and each of ``types`` is on one."""

    def check():
        streams = server.streams()
        seen = {t.type_url for stream in streams for t in stream.types}
        return seen.issuperset(types) and all(stream.settled for stream in streams)

    await until(check, seconds)


def refusals(server):
    """Return what the clients refuse: type, names, reason."""
    return [(t.type_url, t.parked, t.error) for s in server.streams() for t in s.types if t.error]


@asynccontextmanager
async def answering(text):
    """Serve HTTP that says ``text``; yield the port."""

    async def answer(_request):
        return web.Response(text=text)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def said(port, path="/", **headers):
    """Return status and text of one request on a connection of its own; (0, "") without one."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    timeout = aiohttp.ClientTimeout(BOUND)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as response,
        ):
            return response.status, await response.text()
    except aiohttp.ClientError:
        return 0, ""


async def says(port, status, text=None, path="/", **headers):
    """Wait until one request is answered so."""

    async def check():
        found = await said(port, path, **headers)
        return found[0] == status and text in (None, found[1])

    await until(check)


@asynccontextmanager
async def flowing(port, loops=2):
    """Send requests without a pause; yield the count of what they got, by status."""
    seen = Counter()

    async def go(session):
        while True:
            async with session.get(f"http://127.0.0.1:{port}/") as response:
                seen[response.status] += 1

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        tasks = [group.create_task(go(session), name="test/flow") for _ in range(loops)]
        yield seen
        for task in tasks:
            task.cancel()
