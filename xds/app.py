"""Wire the Pilot together and run it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wherry.clock import Clock
from wherry.config.watch import Worlds
from wherry.descriptors import room_for_files
from wherry.serve import Address
from wherry.store import Store
from xds.builders.scopes import Surroundings
from xds.csds.server import ClientStatus
from xds.csds.view import Connected
from xds.health.server import Health
from xds.health.shared import Shared
from xds.health.votes import EndpointHealth
from xds.load.server import Loads
from xds.load.status import NodeLoad
from xds.operators.http import Known, pages
from xds.operators.inspect import written
from xds.pilot import Pilot
from xds.registrations import Registry, Workload, live
from xds.server import Serving, serving
from xds.status import StreamStatus

FUNCTIONS = "function/"
"""Prefix of the records of deployed functions; their names follow it."""

RETURN_NS = 10 * 10**9
"""How long a Pilot that starts counts registrations that ended while none took heartbeats."""

_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Settings:
    """What the Pilot is told.

    Attributes:
        address: Where it listens.
        telemetry: Where Envoys send access logs.
        policy: Where Envoys ask for checks.
        serving: How the port is served.
        away: Whether no Pilot served until now; then members get time to come back.
        pages: Where it answers operators, and clients that poll: an address, or the path of a
            unix socket.
    """

    address: Address = field(default_factory=Address)
    telemetry: Address = field(default_factory=lambda: Address(port=18002))
    policy: Address = field(default_factory=lambda: Address(port=18001))
    serving: Serving = field(default_factory=Serving)
    away: bool = True
    pages: Address | Path = field(default_factory=Address)


@dataclass(frozen=True, slots=True)
class Running:
    """A Pilot that serves.

    Attributes:
        address: Where it listens.
        streams: Returns every connected stream, sorted by node id.
        current: Returns whether the Pilot serves the newest World, workloads and functions.
        pages: Where it answers operators, and clients that poll.
        loads: Returns what proxies report of the requests that they send, sorted by node id.
        health: Returns every endpoint that proxies look after, sorted by cluster.
    """

    address: Address
    streams: Callable[[], tuple[StreamStatus, ...]]
    current: Callable[[], Awaitable[bool]]
    pages: Address | Path
    loads: Callable[[], tuple[NodeLoad, ...]]
    health: Callable[[], tuple[EndpointHealth, ...]]

    async def settled(self) -> None:
        """Return when every connected proxy holds, or has refused, what files and Store say."""
        while not (  # noqa: ASYNC110 (many streams)
            await self.current()
            and all(
                stream.settled or any(each.error for each in stream.types)
                for stream in self.streams()
            )
        ):
            await asyncio.sleep(_POLL)


@asynccontextmanager
async def running(
    settings: Settings, *, store: Store, worlds: Worlds, clock: Clock
) -> AsyncIterator[Running]:
    """Serve discovery and registration until the block ends.

    Raises:
        PortInUse: Another program listens at the address.
    """
    back = clock.unix_ns() + RETURN_NS if settings.away else 0
    around = Surroundings(
        workloads=await _alive(store, clock, back),
        functions=_names(await store.list(FUNCTIONS)),
        telemetry=(settings.telemetry.host, settings.telemetry.port),
        policy=(settings.policy.host, settings.policy.port),
    )
    room_for_files(settings.serving.limits.streams)
    loads, fleet, health = Loads(clock), Connected(), Health(clock)
    pilot = Pilot(worlds.current, around, health.checks)
    shared = Shared(health, store, clock, pilot.adopt_unhealthy)
    if settings.serving.share:
        pilot.prepare()  # the clients of a worker before it come at once
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_follow_worlds(worlds, pilot), name="xds/worlds"),
            group.create_task(_follow_workloads(store, clock, back, pilot), name="xds/workloads"),
            group.create_task(_follow_functions(store, pilot), name="xds/functions"),
            group.create_task(shared.run(), name="xds/health"),
            group.create_task(pilot.collect(), name="xds/collect"),
        ]
        try:
            async with serving(
                settings.address,
                pilot.hub,
                Registry(store, clock),
                clock=clock,
                how=settings.serving,
                services=(loads.handler(), health.handler(), ClientStatus(fleet).handler()),
                origin=lambda kind, name: written(pilot.world, kind, name) or f"{kind}/{name}",
            ) as server:
                fleet.watch(server.discovery.talks)
                known = Known(server.discovery, pilot.hub, lambda: pilot.world, clock, loads.each)
                async with pages(settings.pages, known) as where:
                    yield Running(
                        server.address,
                        server.streams,
                        lambda: _current(pilot, store, worlds, clock, back),
                        where,
                        loads.status,
                        health.status,
                    )
        finally:
            for task in tasks:
                task.cancel()


async def _alive(store: Store, clock: Clock, back: int) -> tuple[Workload, ...]:
    async with aclosing(live(store, clock, back=back)) as views:
        return await anext(views)


async def _current(pilot: Pilot, store: Store, worlds: Worlds, clock: Clock, back: int) -> bool:
    workloads = await _alive(store, clock, back)
    functions = _names(await store.list(FUNCTIONS))
    around = pilot.around
    return (
        pilot.world is worlds.current
        and around.workloads == workloads
        and around.functions == functions
    )


async def _follow_worlds(worlds: Worlds, pilot: Pilot) -> None:
    async with aclosing(worlds.follow()) as changes:
        async for world in changes:
            pilot.adopt_world(world)


async def _follow_workloads(store: Store, clock: Clock, back: int, pilot: Pilot) -> None:
    async with aclosing(live(store, clock, back=back)) as changes:
        async for workloads in changes:
            pilot.adopt_workloads(workloads)


async def _follow_functions(store: Store, pilot: Pilot) -> None:
    async for view in store.watch(FUNCTIONS):
        pilot.adopt_functions(_names(view))


def _names(keys: Iterable[str]) -> frozenset[str]:
    return frozenset(key.removeprefix(FUNCTIONS) for key in keys)
