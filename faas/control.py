"""What one can do with functions: create, change, make ready, invoke, read logs, delete."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faas.build import PYTHON
from faas.events import Events
from faas.lambda_errors import LambdaError, TooManyRequests
from faas.logs import Line, Ring
from faas.model.function import Function, Reference, State, Update
from faas.outcome import Outcome
from faas.package import Package
from faas.registry import Registry
from faas.vm import Backend, Call, Launch
from faas.workers import Workers
from wherry.clock import Clock
from wherry.errors import WherryError

logger = logging.getLogger(__name__)

MAX_LOG_LINES = 2000
"""Most lines kept of one function's log."""

_REMEMBERED = 10_000
"""Revisions of which it is remembered that they were made ready here."""

_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a caller sends with a call.

    Attributes:
        payload: JSON.
        request_id: Unique; the caller gets it back.
        client_context: JSON; empty for none.
        trace_id: X-Ray header; empty for none.
    """

    payload: bytes
    request_id: str
    client_context: str = ""
    trace_id: str = ""

    @classmethod
    def of(cls, payload: bytes) -> "Invocation":
        """Return an invocation with a new request id."""
        return cls(payload, str(uuid.uuid4()))


@dataclass(frozen=True, slots=True)
class Policy:
    """How functions are started.

    Attributes:
        init_timeout: Seconds that a function's own initialisation may take.
        eager: Start one instance right after a create or an update, before the first call.
        egress: Returns the unix socket of a function's way out, or None for none.
    """

    init_timeout: float
    eager: bool
    egress: Callable[[str], Path | None]


class Functions:
    """The functions of this process: the registry, their workers and their logs in one place."""

    def __init__(
        self,
        registry: Registry,
        workers: Workers,
        events: Events,
        *,
        backend: Backend,
        clock: Clock,
        policy: Policy,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.registry = registry
        self.backend = backend
        self.workers = workers
        self._events = events
        self._clock = clock
        self._policy = policy
        self._tasks = tasks
        self._rings: dict[str, Ring] = {}
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._ready: dict[str, None] = {}

    async def create(self, name: str, package: Package, settings: dict[str, Any]) -> Function:
        """Add a function and start making it ready.

        Raises:
            ResourceConflict: There is a function of that name.
        """
        function = await self.registry.create(name, package, settings)
        self._settle(function)
        return function

    async def update(
        self, reference: Reference, changes: dict[str, Any], *, revision: str | None = None
    ) -> Function:
        """Change a function and start making the change ready; until then the old one serves.

        Raises:
            ResourceNotFound: There is no such function.
            PreconditionFailed: It is not at ``revision``.
        """
        function = await self.registry.update(reference, changes, revision=revision)
        self._settle(function)
        return function

    async def delete(self, reference: Reference) -> None:
        """Remove a function, its log and, once they are idle, its instances.

        Raises:
            ResourceNotFound: There is no such function.
        """
        await self.registry.delete(reference)
        self._rings.pop(reference.name, None)
        self.workers.retire(reference.name)

    async def invoke(self, function: Function, invocation: Invocation) -> Outcome:
        """Run a function and return what came of it, errors of the function included.

        Raises:
            TooManyRequests: The limits leave no room.
            ServiceFailure: The platform failed.
        """
        call = Call(
            request_id=invocation.request_id,
            payload=invocation.payload,
            deadline_ms=0,
            arn=function.arn,
            trace_id=invocation.trace_id,
            client_context=invocation.client_context,
        )
        return await self.workers.invoke(self._launch(function), call, self._ring(function.name))

    def accept(self, function: Function, invocation: Invocation) -> None:
        """Run a function in the background; each try runs what the function is by then.

        Raises:
            TooManyRequests: Too many events are in flight.
        """
        name = function.name

        async def invoke() -> Outcome:
            return await self.invoke(await self.registry.get(Reference(name)), invocation)

        self._events.accept(name, invoke)

    def log(self, name: str, *, after: int) -> Sequence[Line]:
        """Return the kept lines of a function's log whose offset is over ``after``."""
        ring = self._rings.get(name)
        return () if ring is None else ring.after(after)

    async def settled(self, function: Function) -> Function:
        """Wait until ``function``, as created or updated here, is ready; return it as it is then.

        Raises:
            ResourceNotFound: It was deleted meanwhile.
        """
        task = self._settling.get(function.revision)
        if task is not None:
            await asyncio.wait({task})
        return await self.registry.get(Reference(function.name))

    async def ready(self, function: Function) -> Function:
        """Make ready what was deployed before this process began; return it as it is then.

        Raises:
            ResourceNotFound: It was deleted meanwhile.
        """
        if function.revision not in {*self._ready, *self._settling}:
            self._settle(function)
        return await self.settled(function)

    async def resume(self) -> None:
        """Make ready what an earlier process left half done, or could not do."""
        for function in await self.registry.list():
            unfinished = {State.PENDING, State.FAILED}, {Update.IN_PROGRESS, Update.FAILED}
            if function.state in unfinished[0] or function.update in unfinished[1]:
                self._settle(function)

    async def stop(self) -> None:
        """Give up what is being made ready, let calls in flight end, and end every instance."""
        for task in self._settling.values():
            task.cancel()
        self._events.stop()
        await self.workers.stop()

    def health(self) -> Mapping[str, object]:
        """Return what runs, for operators."""
        return {
            "status": "ok",
            "backend": self.backend.name,
            "isolation": self.backend.isolation,
            "starts": {kind.value: count for kind, count in self.workers.starts.items()},
            "pools": {
                key: {
                    "waiting": pool.waiting,
                    "starting": pool.starting,
                    "busy": pool.busy,
                    "idle": len(pool.idle_since),
                }
                for key, pool in self.workers.seen().pools.items()
            },
        }

    def _settle(self, function: Function) -> None:
        task = self._tasks.create_task(self._prepare(function), name=f"prepare {function.name}")
        self._settling[function.revision] = task
        task.add_done_callback(lambda _: self._settling.pop(function.revision, None))

    async def _prepare(self, function: Function) -> None:
        failure = ""
        if function.runtime != f"python{PYTHON}":
            note = f"WHERRY {function.runtime} was asked for; functions run on python{PYTHON}"
            self._ring(function.name).append(note, at_ns=self._clock.unix_ns())
        try:
            if self._policy.eager:
                await self.workers.ready(self._launch(function), self._ring(function.name))
        except TooManyRequests:
            logger.info("function starts later: no room", extra={"function": function.name})
        except LambdaError as error:
            failure = str(error)
            logger.warning(
                "function not ready", extra={"function": function.name, "reason": failure}
            )
        else:
            self._ready[function.revision] = None
            if len(self._ready) > _REMEMBERED:
                del self._ready[next(iter(self._ready))]
        await self._note(function, failure)

    async def _note(self, function: Function, failure: str) -> None:
        """Record how it came out, as soon as the Store takes it; functions run meanwhile."""
        while True:
            try:
                await self.registry.settle(function, failure=failure)
            except WherryError:
                logger.exception("state not written", extra={"function": function.name})
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    def _launch(self, function: Function) -> Launch:
        return Launch(
            function=function.name,
            version=function.version,
            arn=function.arn,
            code=self.registry.root(function),
            digest=function.digest,
            handler=function.handler,
            runtime=function.runtime,
            memory_mib=function.memory_mib,
            timeout=float(function.timeout),
            init_timeout=self._policy.init_timeout,
            environment=function.environment,
            egress=self._policy.egress(function.name),
            tmp_mib=function.tmp_mib,
        )

    def _ring(self, name: str) -> Ring:
        return self._rings.setdefault(name, Ring(lines=MAX_LOG_LINES))
