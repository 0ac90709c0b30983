"""All of Wherry in one process, with the Envoys, programs and functions of a configuration."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import faas.app
import gateway.app
import policy.app
import telemetry.app
import xds.app
from faas.backends import chosen
from wherry.cli.envoys import POLL, Envoy, kept, reserved, serving
from wherry.cli.owned import Tasks, only, owned, short_folder
from wherry.cli.programs import Deployments, Programs, Progress
from wherry.cli.reading import read
from wherry.cli.settings import INGRESS, Options, cache_folder
from wherry.clock import SystemClock
from wherry.config.watch import Worlds, watch
from wherry.errors import StartError, WherryError
from wherry.process import envoy
from wherry.serve import Address, bound
from wherry.store import Store, opened
from xds.builders.scopes import socket_path
from xds.registrations import live

logger = logging.getLogger(__name__)

PROGRAMS_WITHIN = 60.0
"""Seconds until every program of the configuration must take requests."""


@dataclass(frozen=True, slots=True)
class Running:
    """All of Wherry, serving.

    Attributes:
        addresses: By part, as a client writes them.
        isolation: What keeps functions apart, in words.
        worlds: The configuration that serves.
    """

    addresses: Mapping[str, str]
    isolation: str
    worlds: Worlds


@asynccontextmanager
async def running(options: Options, progress: Progress) -> AsyncIterator[Running]:
    """Start every part in order, enter when all of them answer, stop them in reverse.

    Raises:
        ConfigError: The configuration is wrong.
        StartError: A part cannot start.
    """
    envoy()
    worlds = Worlds(await asyncio.to_thread(read, options.source))
    async with AsyncExitStack() as stack:
        stack.enter_context(only(options.state))
        run = stack.enter_context(short_folder())
        store = await stack.enter_async_context(opened(f"sqlite:{options.state / 'wherry.db'}"))
        services = await _services(stack, options, worlds, store, run, progress)
        tasks = await stack.enter_async_context(owned())
        mesh = _Mesh(options, worlds, store, run, tasks, progress)
        await mesh.egress(services.xds.address)
        ingress = await mesh.ingress(stack, services.xds.address)
        await mesh.members(services)
        await services.xds.settled()
        tasks.spawn(watch(options.source, worlds, read=read), "configuration")
        yield Running(services.addresses(ingress), services.isolation, worlds)


@dataclass(frozen=True, slots=True)
class _Services:
    telemetry: telemetry.app.Running
    policy: policy.app.Running
    xds: xds.app.Running
    faas: faas.app.Faas
    gateway: gateway.app.Running
    isolation: str

    def addresses(self, ingress: Address | None) -> dict[str, str]:
        return {
            "gateway": self.gateway.address.url,
            **({"ingress": ingress.url} if ingress else {}),
            "xds": str(self.xds.address),
            "lambda": self.faas.address.url,
            "metrics": self.telemetry.http.url,
            "policy": str(self.policy.address),
        }


async def _services(
    stack: AsyncExitStack,
    options: Options,
    worlds: Worlds,
    store: Store,
    run: Path,
    progress: Progress,
) -> _Services:
    listen, clock = options.listen, SystemClock()
    progress("telemetry, policy, xds")
    seen = await stack.enter_async_context(
        telemetry.app.running(
            telemetry.app.Settings(listen.of("telemetry"), listen.of("metrics")), clock=clock
        )
    )
    checks = await stack.enter_async_context(
        policy.app.running(policy.app.Settings(listen.of("policy")), worlds=worlds)
    )
    pilot = await stack.enter_async_context(
        xds.app.running(
            xds.app.Settings(listen.of("xds"), telemetry=seen.grpc, policy=checks.address),
            store=store,
            worlds=worlds,
            clock=clock,
        )
    )
    backend = await stack.enter_async_context(
        chosen(options.backend, cache=cache_folder(), run=run)
    )
    progress(f"faas: {backend.isolation}")
    functions = await stack.enter_async_context(
        faas.app.running(
            faas.app.Settings(
                code_dir=options.state / "code",
                run_dir=options.state / "faas",
                address=listen.of("lambda"),
                egress=lambda name: Path(socket_path(str(run), name)),
            ),
            store,
            backend,
            clock,
        )
    )
    progress("gateway")
    door = await stack.enter_async_context(
        gateway.app.running(
            gateway.app.Settings(
                address=listen.of("gateway"),
                lambda_url=functions.address.url,
                mesh=Path(socket_path(str(run), None)),
                pepper=options.state / "pepper",
            ),
            store=store,
            worlds=worlds,
            clock=clock,
        )
    )
    return _Services(seen, checks, pilot, functions, door, backend.isolation)


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
        await self._envoy(Envoy("egress~wherry", metadata, pilot, self.run))

    async def ingress(self, stack: AsyncExitStack, pilot: Address) -> Address | None:
        """Start an Envoy for each gateway; return where the first listens."""
        first = None
        for name, gateway_ in self.worlds.current.gateways.items():
            self.progress(f"ingress Envoy {name}")
            ports = {}
            for port in sorted({listener.port for listener in gateway_.spec.listeners}):
                wanted = Address(port=port)
                if first is None:
                    wanted = self.options.listen.by_part.get(INGRESS, wanted)
                held = stack.enter_context(reserved(INGRESS, wanted))
                first = first or bound(held)
                ports[str(port)] = bound(held).port
            host = first.host if first else Address().host
            metadata = {"role": "gateway", "gateway": name, "ports": ports, "address": host}
            await self._envoy(Envoy(f"gateway~{name}", metadata, pilot, self.run))
        return first

    async def members(self, services: _Services) -> None:
        """Start the programs and deploy the functions; return when all of them serve."""
        programs = Programs(
            services.xds.address, self.options.state.absolute(), self.run, self.tasks.start
        )
        functions = Deployments(services.faas, self.progress)
        self.progress(f"{len(self.worlds.current.workloads)} programs with their Envoys")
        await programs.become(self.worlds.current)
        await functions.become(self.worlds.current)
        await self._registered()
        self.tasks.spawn(self._follow(programs, functions), "programs and functions")

    async def _envoy(self, spec: Envoy) -> None:
        """Keep an Envoy running; return when it first serves."""
        ready = asyncio.Event()

        async def life() -> None:
            async with serving(spec) as process:
                ready.set()
                await process.wait()

        task = self.tasks.start(kept(spec.node, life, first=ready), spec.node)
        while not ready.is_set() and not task.done():
            await asyncio.wait([task], timeout=POLL)
        if task.done():
            task.result()

    async def _registered(self) -> None:
        """Return when every program of the World takes requests."""
        workloads = self.worlds.current.workloads.values()
        wanted = Counter((w.spec.service, w.spec.version) for w in workloads)
        missing = wanted
        try:
            async with (
                asyncio.timeout(PROGRAMS_WITHIN),
                aclosing(live(self.store, SystemClock())) as views,
            ):
                async for here in views:
                    missing = wanted - Counter((w.service, w.version) for w in here)
                    if not missing:
                        return
        except TimeoutError:
            names = ", ".join(f"{service}@{version}" for service, version in missing)
            raise StartError(
                f"programs {names}: not serving after {PROGRAMS_WITHIN:.0f} s, expected each to "
                f"listen on its PORT; their output is in {self.options.state / 'logs'}"
            ) from None

    async def _follow(self, programs: Programs, functions: Deployments) -> None:
        """Carry each new World out."""
        async with aclosing(self.worlds.follow()) as worlds:
            async for world in worlds:
                await programs.become(world)
                try:
                    await functions.become(world)
                except WherryError as error:
                    logger.warning("function not deployed: %s", error)
