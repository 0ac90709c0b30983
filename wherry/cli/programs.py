"""What runs because the configuration says so: programs behind sidecars, and functions."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from faas.app import Faas
from faas.functions.declared import Declared
from faas.lambda_errors import ResourceNotFound
from wherry.cli import sidecar
from wherry.errors import StartError, WherryError
from wherry.model.function import Function
from wherry.model.service import Workload
from wherry.model.world import Origin, World
from wherry.process import Command, found, python
from wherry.serve import Address
from wherry.store import Store

logger = logging.getLogger(__name__)

Progress = Callable[[str], None]
"""Takes one line about what is being done."""

Start = Callable[[Coroutine[None, None, object], str], asyncio.Task[object]]
"""Runs work under a name and owns it."""


@dataclass(slots=True)
class Programs:
    """The programs of the current World; each ends when its `Workload` goes or changes.

    Attributes:
        xds: Where the Pilot listens.
        state: Folder for logs and data that outlive this run.
        run: Short-named folder for Envoys' files.
        start: Starts a task under a name and owns it.
    """

    xds: Address
    state: Path
    run: Path
    start: Start
    _running: dict[str, tuple[sidecar.Beside, asyncio.Task[object]]] = field(default_factory=dict)

    async def become(self, world: World) -> None:
        """Start what is new, end what is gone, start again what changed.

        Raises:
            StartError: A program is not there, or has no place; the others run.
        """
        wanted = {name: self._beside(world, w) for name, w in world.workloads.items()}
        gone = [n for n, (beside, _) in self._running.items() if wanted.get(n) != beside]
        for name in gone:
            self._running[name][1].cancel()
        for name in gone:
            await asyncio.wait([self._running.pop(name)[1]])
            logger.info("program %s ended", name)
        failures: list[WherryError] = []
        for name, beside in wanted.items():
            if name in self._running:
                continue
            try:
                await asyncio.to_thread(_ready, beside)
            except WherryError as error:
                failures.append(error)
                continue
            task = self.start(sidecar.run(beside, again=True), name)
            self._running[name] = (beside, task)
        if failures:
            raise failures[0]

    def _beside(self, world: World, workload: Workload) -> sidecar.Beside:
        spec = workload.spec
        program, *arguments = spec.command
        return sidecar.Beside(
            service=spec.service,
            version=spec.version,
            argv=(python() if program == "python" else program, *arguments),
            port=spec.port,
            xds=self.xds,
            run=self.run,
            environment={
                "WHERRY_DATA": str(self.state / "data" / spec.service),
                **spec.environment,
            },
            folder=world.origin("Workload", workload.name).folder,
            log=self.state / "logs" / f"{workload.name}.log",
        )


def _ready(beside: sidecar.Beside) -> None:
    """Make the folders of a program that exists.

    Raises:
        StartError: There is no such program, or a folder cannot be made.
    """
    found(Command(f"{beside.service}@{beside.version}", beside.argv, folder=beside.folder))
    for folder in (Path(beside.environment["WHERRY_DATA"]), beside.log and beside.log.parent):
        if folder is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StartError(
                f"program {beside.service}@{beside.version}: {folder}: {error.strerror}, "
                "expected a folder, or that it can be made"
            ) from None


class NotDeployed(WherryError):
    """Functions cannot be deployed: a line for each, with its place and the reason."""


DECLARED = "function-declared/"
"""Records ``function-declared/NAME``: functions that a configuration brought, now or earlier."""


@dataclass(slots=True)
class Deployments:
    """The functions of the current World; those made through the Lambda API are left alone.

    Attributes:
        faas: Runs them.
        store: Remembers which ones a configuration brought.
        progress: Told each step as it begins.
    """

    faas: Faas
    store: Store
    progress: Progress

    async def become(self, world: World) -> None:
        """Deploy what is new or changed, all at once, and delete what is gone.

        Raises:
            NotDeployed: Functions cannot be deployed; the others are.
        """
        for key in await self.store.list(DECLARED):
            name = key.removeprefix(DECLARED)
            if name not in world.functions:
                with suppress(ResourceNotFound):
                    await self.faas.delete(name)
                await self.store.delete(key)
        await self.faas.parts.schedules.keep(list(world.functions))
        failures: list[str] = []
        async with asyncio.TaskGroup() as group:
            for name, function in world.functions.items():
                origin = world.origin("Function", name)
                group.create_task(self._deploy(function, origin, failures), name=f"deploy {name}")
        if failures:
            raise NotDeployed("\n".join(sorted(failures)))

    async def _deploy(self, function: Function, origin: Origin, failures: list[str]) -> None:
        declared = Declared.of(function, origin.folder)
        self.progress(f"function {function.name}")
        try:
            await self.store.put(DECLARED + function.name, b"")
            deployed = await self.faas.deploy_directory(declared, progress=self.progress)
            await self.faas.parts.schedules.declare(function.name, declared.schedule)
            if deployed.reason:
                logger.error(
                    "function %s does not serve: %s; each call tries again",
                    function.name,
                    deployed.reason,
                )
        except WherryError as error:
            failures.append(f"{origin}: function {function.name}: {error}")
