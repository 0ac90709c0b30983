"""All of Wherry in one process, with the Envoys, programs and functions of a configuration."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import faas.app
import gateway.app
import gateway.office
import policy.app
import telemetry.app
import xds.app
from faas.backends import chosen
from wherry.cli import doors, platform, stores
from wherry.cli.envoys import Envoy
from wherry.cli.gateways import Gateways, begun
from wherry.cli.guards import Guards
from wherry.cli.owned import Tasks, only, owned, short_folder
from wherry.cli.programs import Deployments, Programs, Progress
from wherry.cli.reading import check, read
from wherry.cli.settings import INGRESS, Options, cache_folder
from wherry.cli.sidecar import OWN
from wherry.cli.state import note_consumers
from wherry.clock import SystemClock
from wherry.config.watch import Worlds
from wherry.errors import StartError, WherryError
from wherry.process import envoy
from wherry.resources import Resources
from wherry.resources.follow import follow
from wherry.serve import Address
from wherry.store import Store, opened
from xds.builders.scopes import socket_path
from xds.registrations import forget, live

logger = logging.getLogger(__name__)

PROGRAMS_WITHIN = 60.0
"""Seconds until every program of the configuration must take requests."""


@dataclass(frozen=True, slots=True)
class Running:
    """All of Wherry, serving.

    Attributes:
        addresses: By part, as a client writes them.
        isolation: What keeps functions apart, in words.
        store: Where records are, without a password.
        worlds: The configuration that serves.
    """

    addresses: Mapping[str, str]
    isolation: str
    store: str
    worlds: Worlds


@asynccontextmanager
async def running(options: Options, progress: Progress) -> AsyncIterator[Running]:
    """Start every part in order, enter when all of them answer, stop them in reverse.

    Raises:
        ConfigError: The configuration is wrong.
        StartError: A part cannot start.
    """
    envoy()
    if options.store is None and not options.state.exists():
        await asyncio.to_thread(read, options.source)  # wrong files leave nothing behind
    async with AsyncExitStack() as stack:
        stack.enter_context(only(options.state))
        run = stack.enter_context(short_folder(options.state / "run"))
        url = stores.chosen(options.state, options.store)
        store = await stack.enter_async_context(opened(url))
        stores.note(options.state, url)
        resources = Resources(store, options.source, check=check)
        worlds = Worlds(await resources.world())
        await forget(store, OWN)  # what an earlier run left when it was killed
        ground = _Ground(options, store, resources, worlds, run, stores.shared(url))
        services = await _services(stack, ground, progress)
        tasks = await stack.enter_async_context(owned())
        mesh = _Mesh(options, worlds, store, run, tasks, progress)
        await mesh.egress(services.xds.address)
        ingress = await mesh.members(services)
        await services.xds.settled()
        tasks.spawn(follow(store, options.source, worlds, check=check), "configuration")
        addresses = services.addresses(ingress)
        yield Running(addresses, services.isolation, stores.shown(url), worlds)


@dataclass(frozen=True, slots=True)
class _Services:
    telemetry: telemetry.app.Running
    policy: policy.app.Running
    xds: xds.app.Running
    faas: faas.app.Faas
    office: gateway.office.Running
    gateway: gateway.app.Running
    isolation: str

    def addresses(self, ingress: Address | None) -> dict[str, str]:
        return {
            "gateway": self.gateway.url,
            "admin": self.office.admin.url,
            "portal": self.office.portal.url,
            **({"ingress": ingress.url} if ingress else {}),
            "xds": str(self.xds.address),
            "pilot": f"http://{self.xds.pages}",
            "lambda": self.faas.address.url,
            "urls": self.faas.urls.url,
            "metrics": self.telemetry.http.url,
            "policy": str(self.policy.address),
        }


@dataclass(frozen=True, slots=True)
class _Ground:
    """What all parts stand on."""

    options: Options
    store: Store
    resources: Resources
    worlds: Worlds
    run: Path
    shared: bool


async def _services(stack: AsyncExitStack, ground: _Ground, progress: Progress) -> _Services:
    options, store, worlds, run = ground.options, ground.store, ground.worlds, ground.run
    listen, clock, guards = options.listen, SystemClock(), Guards()
    progress("telemetry, policy, xds")
    seen = await stack.enter_async_context(
        telemetry.app.running(
            telemetry.app.Settings(listen.of("telemetry"), listen.of("metrics")),
            clock=clock,
            used=guards.used,
        )
    )
    checks = await stack.enter_async_context(
        policy.app.running(
            policy.app.Settings(listen.of("policy")), worlds=worlds, admission=guards
        )
    )
    pilot = await stack.enter_async_context(
        xds.app.running(
            xds.app.Settings(
                listen.of("xds"),
                telemetry=seen.grpc,
                policy=checks.address,
                pages=listen.of("pilot"),
            ),
            store=store,
            worlds=worlds,
            clock=clock,
        )
    )
    backend = await stack.enter_async_context(
        chosen(options.backend, cache=cache_folder(), run=run, kept=platform.snapshots(options))
    )
    progress(f"faas: {backend.isolation}")
    functions = await stack.enter_async_context(
        faas.app.running(
            platform.functions(options, lambda name: Path(socket_path(str(run), name))),
            store,
            backend,
            clock,
        )
    )
    progress("gateway")
    door = await stack.enter_async_context(
        gateway.app.running(
            doors.settings(
                options,
                functions.address.url,
                Path(socket_path(str(run), None)),
                shared=ground.shared,
            ),
            store=store,
            worlds=worlds,
            clock=clock,
        )
    )
    guards.sidecars = door.sidecars
    office = await stack.enter_async_context(
        gateway.office.running(
            doors.desk(options, door.url),
            store=store,
            worlds=worlds,
            resources=ground.resources,
            clock=clock,
            metrics=door.metrics.told,
        )
    )
    return _Services(seen, checks, pilot, functions, office, door, backend.isolation)


@dataclass(frozen=True, slots=True)
class _Mesh:
    """The Envoys and programs on their way up."""

    options: Options
    worlds: Worlds
    store: Store
    run: Path
    tasks: Tasks
    progress: Progress

    async def egress(self, pilot: Address) -> None:
        self.progress("egress Envoy")
        metadata = {"role": "egress", "sockets": str(self.run)}
        _ = await begun(Envoy("egress~wherry", metadata, pilot, self.run), self.tasks.start)

    def gateways(self, pilot: Address) -> Gateways:
        by_part = self.options.listen.by_part
        free = by_part.get(INGRESS) == Address()
        return Gateways(
            pilot, self.run, by_part.get(INGRESS), free, self.tasks.start, self.progress
        )

    async def members(self, services: _Services) -> Address | None:
        """Start gateways and programs and deploy the functions; return when all of them serve.

        Returns:
            Where the first gateway listens.
        """
        world, pilot = self.worlds.current, services.xds.address
        async with aclosing(live(self.store, SystemClock())) as views:
            before = {workload.id for workload in await anext(views)}
        gateways = self.gateways(pilot)
        programs = Programs(pilot, self.options.state.absolute(), self.run, self.tasks.start)
        functions = Deployments(services.faas, self.store, self.progress)
        await gateways.become(world)
        self.progress(f"{len(world.workloads)} programs with their Envoys")
        await programs.become(world)
        await functions.become(world)
        await self._registered(before)
        gateways.progress = functions.progress = logger.info
        self.tasks.spawn(self._follow(gateways, programs, functions), "members")
        return gateways.first

    async def _registered(self, before: Collection[str]) -> None:
        """Return when every program of the World takes requests.

        Args:
            before: Ids from an earlier run, which may not have ended in order; they do not count.
        """
        workloads = self.worlds.current.workloads.values()
        wanted = Counter((w.spec.service, w.spec.version) for w in workloads)
        missing = wanted
        try:
            async with (
                asyncio.timeout(PROGRAMS_WITHIN),
                aclosing(live(self.store, SystemClock())) as views,
            ):
                async for here in views:
                    missing = wanted - Counter(
                        (w.service, w.version) for w in here if w.id not in before
                    )
                    if not missing:
                        return
        except TimeoutError:
            names = ", ".join(f"{service}@{version}" for service, version in missing)
            raise StartError(
                f"programs {names}: not serving after {PROGRAMS_WITHIN:.0f} s, expected each to "
                f"listen on its PORT; their output is in {self.options.state / 'logs'}"
            ) from None

    async def _follow(self, *members: Gateways | Programs | Deployments) -> None:
        """Carry each new World out; what cannot be is said and the rest goes on."""
        first = self.worlds.current
        async with aclosing(self.worlds.follow()) as worlds:
            async for world in worlds:
                note_consumers(self.options.state, world.consumers)
                failed = False
                for each in members:
                    try:
                        await each.become(world)
                    except WherryError as error:
                        logger.warning("not in force: %s", error)
                        failed = True
                if world is not first:
                    end = ", but for what is said above" if failed else ""
                    self.progress(f"configuration in force{end}")
