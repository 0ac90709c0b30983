"""The parts of the faas service, put together: what runs functions, and what asks it to."""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faas.api.asked import Operation
from faas.code.objects import Objects
from faas.code.origin import Code
from faas.events.service import Events, Host
from faas.events.service import Limits as EventLimits
from faas.functions.control import Functions, Policy
from faas.functions.layers import Layers
from faas.functions.registry import Registry
from faas.functions.sweeper import Sweeper
from faas.mappings.service import Mappings
from faas.mappings.service import Settings as MappingSettings
from faas.operations.aliases import AliasOperations
from faas.operations.functions import FunctionOperations
from faas.operations.invoke import InvokeOperations
from faas.operations.records import record_operations
from faas.operations.versions import VersionOperations
from faas.place import Place
from faas.queues.service import Limits as QueueLimits
from faas.queues.service import Queues
from faas.running.workers import Workers
from faas.schedules.service import Schedules
from faas.telemetry.journal import Journal
from faas.telemetry.spans import Spans
from faas.vm import Backend
from wherry.clock import Clock
from wherry.store import Store

if TYPE_CHECKING:
    from faas.app import Settings


@dataclass(frozen=True, slots=True)
class Ground:
    """What the parts stand on.

    Attributes:
        store: Where everything is kept that is no file.
        backend: Runs functions.
        clock: Everybody's.
        journal: The functions' logs.
        spans: Where invocations are traced to.
        tasks: Owner of what runs in the background.
    """

    store: Store
    backend: Backend
    clock: Clock
    journal: Journal
    spans: Spans
    tasks: asyncio.TaskGroup


@dataclass(frozen=True, slots=True)
class Parts:
    """The service's parts.

    Attributes:
        functions: Everything that can be done with functions.
        queues: SQS-shaped queues.
        mappings: Read queues and streams into functions.
        schedules: Run functions by the clock.
        sweeper: Removes packages that nothing names any more.
    """

    functions: Functions
    queues: Queues
    mappings: Mappings
    schedules: Schedules
    sweeper: Sweeper

    async def start(self) -> None:
        """Go on where an earlier process ended."""
        await self.functions.resume()
        self.mappings.start()
        await self.schedules.start()
        self.sweeper.start()

    async def stop(self) -> None:
        """Ask for nothing more, let what runs end, and end every instance."""
        self.sweeper.stop()
        self.schedules.stop()
        self.mappings.stop()
        self.queues.stop()
        await self.functions.stop()


async def put_together(settings: "Settings", ground: Ground) -> Parts:
    """Return the parts; nothing of them runs yet."""
    place = Place(settings.region, settings.account)
    store, clock, tasks = ground.store, ground.clock, ground.tasks
    registry = Registry(store, settings.code_dir, place, clock)
    await registry.sweep()
    queues = Queues(store, place, clock, QueueLimits())
    await queues.open()
    made: list[Events] = []

    def events(functions: Functions) -> Events:
        limits = EventLimits(settings.events, retries=settings.event_retries)
        host = Host(functions.deliver, functions.dead_letter, queues)
        made.append(Events(store, host, clock=clock, limits=limits, tasks=tasks))
        return made[0]

    workers = Workers(ground.backend, settings.limits(), clock, tasks, spans=ground.spans)
    functions = Functions(
        registry,
        workers,
        events,
        backend=ground.backend,
        clock=clock,
        journal=ground.journal,
        policy=Policy(settings.init_timeout, settings.eager, settings.egress),
        tasks=tasks,
    )
    told = MappingSettings(settings.region, settings.redis_url or "")
    return Parts(
        functions,
        queues,
        Mappings(store, queues, functions.deliver, settings=told, clock=clock, tasks=tasks),
        Schedules(store, made[0], place, clock=clock, tasks=tasks),
        Sweeper(
            registry,
            workers,
            clock,
            tasks,
            every=settings.sweep,
            grace=settings.sweep_grace,
        ),
    )


def operations(
    settings: "Settings",
    functions: Functions,
    clock: Clock,
    url: Callable[[str], str],
    *,
    files: bool,
) -> Mapping[str, Operation]:
    """Return what is served of the Lambda API.

    Args:
        settings: See `faas.app.Settings`.
        functions: What it is about.
        clock: For the time of changes.
        url: Returns the address of the function URL of that id.
        files: See `Code`.
    """
    registry = functions.registry
    store = objects(settings.s3_endpoint, settings.region)
    code = Code(settings.code_dir, store, files=files)
    layers = Layers(registry.store, settings.code_dir, registry.place, clock)
    return {
        **FunctionOperations(functions, layers, code).operations(),
        **VersionOperations(functions).operations(),
        **AliasOperations(functions).operations(),
        **InvokeOperations(functions).operations(),
        **record_operations(
            registry,
            functions,
            code,
            clock,
            address=url,
            concurrency=settings.limits().account,
        ),
    }


def objects(endpoint: str | None, region: str) -> Objects | None:
    """Return the object store at ``endpoint``, with the keys of this process's environment."""
    return None if endpoint is None else Objects.of(endpoint, region, os.environ)
