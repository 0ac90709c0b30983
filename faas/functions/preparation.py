"""Functions made ready in the background, with a record of how it went."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from faas.functions.launches import Launches
from faas.functions.registry import Registry
from faas.lambda_errors import InvalidParameter, KmsRefused, LambdaError, TooManyRequests
from faas.model.function import LATEST, Function, Reference
from faas.running.workers import Workers
from faas.telemetry.logs import Ring
from wherry.errors import WherryError

logger = logging.getLogger(__name__)

_REMEMBERED = 10_000
"""Revisions of which it is remembered that they were made ready here."""
_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Running:
    """One function on its way to be ready."""

    function: Function
    task: asyncio.Task[None]


class Preparation:
    """Makes versions ready, each revision once at a time; published ones after their `LATEST`.

    Args:
        registry: Where it is recorded how it went.
        workers: Start instances.
        launches: Say what is to be started.
        ring: Returns the log of a function.
        tasks: Owner of the tasks.
    """

    def __init__(
        self,
        registry: Registry,
        workers: Workers,
        launches: Launches,
        ring: Callable[[str], Ring],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._registry = registry
        self._workers = workers
        self._launches = launches
        self._ring = ring
        self._tasks = tasks
        self._running: dict[str, Running] = {}
        self._ready: dict[str, None] = {}

    def begin(self, function: Function, *, start: bool) -> None:
        """Start making a version ready; in the end its record says that it is, or why not.

        Args:
            function: The version, as it is now.
            start: Whether an instance is started; otherwise there is nothing but the record.
        """
        name = f"prepare {function.qualified_arn}"
        task = self._tasks.create_task(self._prepare(function, start=start), name=name)
        self._running[function.revision] = Running(function, task)
        task.add_done_callback(lambda _: self._running.pop(function.revision, None))

    def knows(self, function: Function) -> bool:
        """Return whether this very state of a function was made ready here, or is about to be."""
        return function.revision in self._ready or function.revision in self._running

    async def settled(self, function: Function) -> Function:
        """Wait until ``function``, as begun here, is ready; return it as it is then.

        Raises:
            ResourceNotFound: It was deleted meanwhile.
        """
        running = self._running.get(function.revision)
        if running is not None:
            await asyncio.wait({running.task})
        return await self._registry.get(Reference(function.name, function.version))

    async def give_up(self, name: str, version: str | None = None) -> None:
        """Stop making a version, or all of a function, ready; return when nothing goes on."""
        tasks = {
            each.task
            for each in self._running.values()
            if each.function.name == name and version in (None, each.function.version)
        }
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def stop(self) -> None:
        """Give up everything."""
        for each in self._running.values():
            each.task.cancel()

    async def _prepare(self, function: Function, *, start: bool) -> None:
        failure, code = "", ""
        if function.version != LATEST:
            await self._after_latest(function.name)
        try:
            if start:
                failure, code = await self._started(function)
        except TooManyRequests:
            logger.info("function starts later: no room", extra={"function": function.name})
        except LambdaError as error:
            failure, code = str(error), _code(error)
        else:
            self._ready[function.revision] = None
            if len(self._ready) > _REMEMBERED:
                del self._ready[next(iter(self._ready))]
        if failure:
            failed = {"function": function.qualified_arn, "reason": failure}
            logger.warning("function not ready", extra=failed)
        await self._note(function, failure, code)

    async def _after_latest(self, name: str) -> None:
        """Wait while a function's `LATEST` is on its way: whoever deploys calls that first."""
        tasks = {
            each.task
            for each in self._running.values()
            if (each.function.name, each.function.version) == (name, LATEST)
        }
        if tasks:
            await asyncio.wait(tasks)

    async def _started(self, function: Function) -> tuple[str, str]:
        """Start an instance; return why a version that is to be snapped cannot be.

        Other functions are ready though they cannot be loaded: their calls tell.
        """
        await self._workers.ready(self._launches.of(function), self._ring(function.name))
        if function.snap_start == "None" or function.version == LATEST:
            return "", ""
        why = self._workers.provisioning_failure(function.name, function.version)
        return why, "FunctionError" if why else ""

    async def _note(self, function: Function, failure: str, code: str) -> None:
        """Record how it came out, as soon as the Store takes it; functions run meanwhile."""
        while True:
            try:
                await self._registry.settle(function, failure=failure, code=code)
            except WherryError:
                logger.exception("state not written", extra={"function": function.name})
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return


def _code(error: LambdaError) -> str:
    """Return Lambda's code for a function that did not become ready."""
    match error:
        case KmsRefused():
            return "KMSKeyAccessDenied"
        case InvalidParameter():
            return "InvalidImage"
        case _:
            return "InternalError"
