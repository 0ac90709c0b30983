"""Wire the faas service together and run it."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from faas.build import Progress
from faas.control import Functions, Invocation, Policy
from faas.declared import Declared, deploy_directory
from faas.events import Events
from faas.lambda_api import LambdaApi
from faas.model.function import Function, Reference
from faas.outcome import Outcome
from faas.registry import Place, Registry
from faas.vm import Backend
from faas.workers import Limits, Workers
from wherry.clock import Clock, SystemClock
from wherry.serve import Address, bound, listening
from wherry.store import Store

logger = logging.getLogger(__name__)


def no_egress(_function: str) -> Path | None:
    """Give functions no way out."""
    return None


@dataclass(frozen=True, slots=True)
class Settings:
    """What the faas service can be told.

    Attributes:
        address: Where the Lambda API listens.
        code_dir: Where code packages are kept; packages that no function names are removed.
        run_dir: Where resolved requirements are kept.
        region: For ARNs.
        account: For ARNs, 12 digits.
        concurrency: Most instances of one function.
        instances: Most instances of all functions together.
        queue: Most calls of one function that wait for an instance.
        queue_wait: Seconds that a call waits for an instance before it is throttled.
        keep_idle: Seconds that an instance is kept after its last call.
        freeze_after: Seconds that an instance runs on after a call before it is frozen.
        drain: Seconds that calls in flight have to end when the service stops.
        init_timeout: Seconds that a function's own initialisation may take.
        eager: Start one instance right after a create or an update.
        events: Most asynchronous events in flight.
        event_retries: Seconds before the second, the third ... try of an event.
        egress: Returns the unix socket of a function's way out, None for none.
    """

    code_dir: Path
    run_dir: Path
    address: Address = field(default_factory=Address)
    region: str = "us-east-1"
    account: str = "000000000000"
    concurrency: int = 10
    instances: int = 20
    queue: int = 100
    queue_wait: float = 60.0
    keep_idle: float = 300.0
    freeze_after: float = 0.05
    drain: float = 10.0
    init_timeout: float = 30.0
    eager: bool = True
    events: int = 1000
    event_retries: tuple[float, ...] = (60.0, 120.0)
    egress: Callable[[str], Path | None] = no_egress

    def limits(self) -> Limits:
        """Return what the workers may use."""
        return Limits(
            concurrency=self.concurrency,
            instances=self.instances,
            queue=self.queue,
            queue_wait=self.queue_wait,
            keep_idle=self.keep_idle,
            freeze_after=self.freeze_after,
            drain=self.drain,
        )


@dataclass(frozen=True, slots=True)
class Faas:
    """The running service.

    Attributes:
        address: Where the Lambda API listens.
        functions: Everything that can be done with functions, in this process.
        cache_dir: Where resolved requirements are kept.
    """

    address: Address
    functions: Functions
    cache_dir: Path

    async def deploy_directory(
        self, declared: Declared, *, progress: Progress = lambda _: None
    ) -> Function:
        """See `faas.declared.deploy_directory`."""
        return await deploy_directory(
            self.functions, declared, cache_dir=self.cache_dir, progress=progress
        )

    async def invoke(self, name: str, payload: bytes) -> Outcome:
        """Run a function in-process, without the HTTP API between.

        Raises:
            ResourceNotFound: There is no such function.
            TooManyRequests: The limits leave no room.
            ServiceFailure: The platform failed.
        """
        function = await self.functions.registry.get(Reference(name))
        return await self.functions.invoke(function, Invocation.of(payload))

    async def delete(self, name: str) -> None:
        """Remove a function.

        Raises:
            ResourceNotFound: There is no such function.
        """
        await self.functions.delete(Reference(name))


@asynccontextmanager
async def running(
    settings: Settings, store: Store, backend: Backend, clock: Clock | None = None
) -> AsyncIterator[Faas]:
    """Serve the Lambda API until the block ends; then nothing of any function runs.

    Raises:
        PortInUse: Another program listens on the address.
    """
    clock = clock or SystemClock()
    place = Place(settings.region, settings.account)
    registry = Registry(store, settings.code_dir, place, clock)
    with closing(listening("lambda", settings.address)) as sock:
        await registry.sweep()
        async with _owning() as tasks:
            functions = Functions(
                registry,
                Workers(backend, settings.limits(), clock, tasks),
                Events(limit=settings.events, retries=settings.event_retries, tasks=tasks),
                backend=backend,
                clock=clock,
                policy=Policy(settings.init_timeout, settings.eager, settings.egress),
                tasks=tasks,
            )
            async with _serving(functions, sock) as address:
                await functions.resume()
                logger.info(
                    "faas serves",
                    extra={
                        "address": str(address),
                        "backend": backend.name,
                        "isolation": backend.isolation,
                        "signatures": "not checked",
                    },
                )
                yield Faas(address, functions, settings.run_dir / "requirements")


@asynccontextmanager
async def _owning() -> AsyncIterator[asyncio.TaskGroup]:
    """Own tasks until the block ends, and let the block's own error through as it is."""
    failure = None
    async with asyncio.TaskGroup() as tasks:
        try:
            yield tasks
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure


@asynccontextmanager
async def _serving(functions: Functions, sock: socket.socket) -> AsyncIterator[Address]:
    """Serve HTTP until the block ends; then let calls in flight end before their connections."""
    runner = web.AppRunner(
        LambdaApi(functions).application(), access_log=None, shutdown_timeout=1.0
    )
    try:
        await runner.setup()
        site = web.SockSite(runner, sock)
        await site.start()
        try:
            yield bound(sock)
        finally:
            await site.stop()
    finally:
        await functions.stop()
        await runner.cleanup()
