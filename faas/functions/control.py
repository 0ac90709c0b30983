"""What one can do with functions: create, change, publish, make ready, invoke, delete."""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faas.events.event import Event
from faas.events.service import Events
from faas.functions.launches import Launches
from faas.functions.preparation import Preparation
from faas.functions.registry import Registry
from faas.functions.served import served
from faas.lambda_errors import (
    LambdaError,
    ResourceNotFound,
)
from faas.model import moment
from faas.model.concurrency import PROVISIONED, RESERVED, Provisioned, Reserved
from faas.model.function import LATEST, Function, Reference, State, Update
from faas.records import Records
from faas.running.outcome import Outcome
from faas.running.workers import Workers
from faas.telemetry.journal import Journal
from faas.telemetry.logs import Line, Ring
from faas.vm import Backend, Call, Stream
from wherry.clock import Clock

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a caller sends with a call.

    Attributes:
        payload: JSON.
        request_id: Unique; the caller gets it back.
        client_context: JSON; empty for none.
        trace_id: X-Ray header; empty for none.
        arn: What the caller named, as the function sees it; empty: the version that runs.
    """

    payload: bytes
    request_id: str
    client_context: str = ""
    trace_id: str = ""
    arn: str = ""

    @classmethod
    def of(cls, payload: bytes) -> "Invocation":
        """Return an invocation with a new request id."""
        return cls(payload, str(uuid.uuid4()))


@dataclass(frozen=True, slots=True)
class Policy:
    """How functions are started.

    Attributes:
        init_timeout: Seconds that a function's own initialisation may take.
        eager: Start one instance right after a create, an update or a publish, before the first
            call; otherwise what is created is active at once.
        egress: Returns the unix socket of a function's way out, or None for none.
    """

    init_timeout: float
    eager: bool
    egress: Callable[[str], Path | None]


class Functions:
    """The functions of this process: the registry, their workers and their logs in one place.

    Args:
        registry: Which functions there are.
        workers: Run them.
        events: Returns what runs asynchronous invocations; it may call `deliver` and
            `dead_letter` of the functions that it is given.
        backend: Where workers run functions.
        clock: For the times of log lines.
        journal: Keeps the functions' logs.
        policy: How functions are started.
        tasks: Owner of what makes functions ready.
    """

    def __init__(
        self,
        registry: Registry,
        workers: Workers,
        events: Callable[["Functions"], Events],
        *,
        backend: Backend,
        clock: Clock,
        journal: Journal,
        policy: Policy,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.registry = registry
        self.backend = backend
        self.workers = workers
        self._events = events(self)
        self._clock = clock
        self._journal = journal
        self._policy = policy
        self._tasks = tasks
        self._reserved = Records(registry.store, RESERVED, Reserved)
        self._provisioned = Records(registry.store, PROVISIONED, Provisioned)
        self._launches = Launches(registry.code_dir, policy.init_timeout, policy.egress)
        self._preparation = Preparation(registry, workers, self._launches, self._ring, tasks)
        self._failures: dict[tuple[str, str], str] = {}
        self._promising = asyncio.Lock()

    @property
    def events(self) -> Events:
        """What runs asynchronous invocations."""
        return self._events

    async def create(
        self, name: str, settings: dict[str, Any], *, publish: bool = False
    ) -> Function:
        """Add a function and start making it ready.

        Args:
            name: 1 to 64 of ``A-Za-z0-9-_``.
            settings: Fields of `Function`.
            publish: Whether its first version is published too, and returned.

        Raises:
            ResourceConflict: There is a function of that name.
        """
        function = await self.registry.create(name, settings, pending=self._policy.eager)
        self._begin(function)
        return await self._published(name, revision=function.revision) if publish else function

    async def update(
        self,
        reference: Reference,
        changes: dict[str, Any],
        *,
        revision: str | None = None,
        publish: bool = False,
    ) -> Function:
        """Change a function and start making the change ready; until then the old one serves.

        Args:
            reference: The function.
            changes: Fields of `Function`.
            revision: What the function's revision has to be; None: whatever it is.
            publish: Whether a version is published too, and returned.

        Raises:
            ResourceNotFound: There is no such function.
            PreconditionFailed: It is not at ``revision``.
            ResourceConflict: It is being created or updated.
        """
        function = await self.registry.update(
            reference, changes, revision=revision, pending=self._policy.eager
        )
        self._begin(function)
        if not publish:
            return function
        return await self._published(function.name, revision=function.revision)

    async def publish(
        self,
        name: str,
        *,
        description: str | None = None,
        code_sha256: str | None = None,
        revision: str | None = None,
    ) -> Function:
        """Publish a version and start making it ready; see `Registry.publish`.

        Raises:
            ResourceNotFound: There is no such function.
            PreconditionFailed: It is not at ``revision``.
            ResourceConflict: It is being created or updated.
            InvalidParameter: Its code is other than ``code_sha256``.
        """
        return await self._published(
            name,
            description=description,
            code_sha256=code_sha256,
            revision=revision,
            updating=False,
        )

    async def delete(self, reference: Reference) -> None:
        """Remove a function with its log, or a version, and, once they are idle, its instances.

        Raises:
            ResourceNotFound: There is no such function.
            ResourceConflict: An alias points at the version.
            InvalidParameter: The qualifier names no published version.
        """
        await self.registry.delete(reference)
        whole = reference.qualifier == LATEST
        await self._preparation.give_up(reference.name, None if whole else reference.qualifier)
        async with self._promising:  # whoever read promises of before has them kept by now
            if whole:
                self._journal.forget(reference.name)
                self.workers.retire(reference.name)
            else:
                self.workers.retire(reference.name, reference.qualifier)
            for key in list(self._failures):
                if key[0] == reference.name and (whole or key[1] == reference.qualifier):
                    del self._failures[key]

    async def invoke(
        self, function: Function, invocation: Invocation, stream: Stream | None = None
    ) -> Outcome:
        """Run a function and return what came of it, errors of the function included.

        Args:
            function: The version that serves.
            invocation: The call.
            stream: Where a streamed response goes; None: it comes whole.

        Raises:
            TooManyRequests: The limits leave no room.
            ServiceFailure: The platform failed.
            KmsRefused: The function's variables cannot be read.
            InvalidParameter: Its container image cannot be run.
        """
        call = Call(
            request_id=invocation.request_id,
            payload=invocation.payload,
            deadline_ms=0,
            arn=invocation.arn or function.qualified_arn,
            trace_id=invocation.trace_id,
            client_context=invocation.client_context,
        )
        ring = self._ring(function.name)
        return await self.workers.invoke(self._launches.of(function), call, ring, stream=stream)

    async def accept(self, reference: Reference, invocation: Invocation) -> None:
        """Return when an asynchronous invocation is durable; each try runs what there is by then.

        Raises:
            ResourceNotFound: There is no such function, version or alias.
            TooManyRequests: Too many events are in flight.
        """
        await self.registry.resolve(reference)
        qualifier = reference.qualifier if reference.qualified else ""
        event = Event(
            id=invocation.request_id,
            function=reference.name,
            qualifier=reference.qualifier,
            arn=invocation.arn or self.registry.place.arn(reference.name, qualifier),
            payload=invocation.payload,
            trace_id=invocation.trace_id,
            client_context=invocation.client_context,
        )
        await self._events.accept(event)

    async def deliver(self, event: Event) -> Outcome:
        """Run an asynchronous invocation once, on what its name and qualifier mean by now.

        Raises:
            ResourceNotFound: There is no such function, version or alias any more.
            TooManyRequests: The limits leave no room.
            ServiceFailure: The platform failed.
        """
        found = await self.registry.resolve(Reference(event.function, event.qualifier))
        invocation = Invocation(
            event.payload, event.id, event.client_context, event.trace_id, event.arn
        )
        outcome = await self.invoke(found.function, invocation)
        return replace(outcome, version=found.function.version)

    async def dead_letter(self, reference: Reference) -> str:
        """Return the ARN of a function's dead-letter queue, empty for none.

        Raises:
            ResourceNotFound: There is no such function.
        """
        return (await self.registry.get(reference)).dead_letter

    async def concurrency_changed(self, name: str) -> None:
        """Let a function's reserved concurrency count from now on."""
        found = await self._reserved.get(name)
        self.workers.reserve(name, None if found is None else found.count)

    async def provisioned_changed(self, name: str, _qualifier: str) -> None:
        """Let a function's provisioned concurrency count from now on, whatever changed of it."""
        async with self._promising:
            wanted: Counter[str] = Counter()
            for promised in (await self._provisioned.under(f"{name}/")).values():
                try:
                    found = await self.registry.get(Reference(name, promised.qualifier))
                except ResourceNotFound:
                    continue
                wanted[found.version] += promised.count
            for version in await self.registry.versions(name):
                count = wanted[version.version]
                key = (name, version.version)
                self._failures.pop(key, None)
                if not count and not self.workers.provisioned(*key)[1]:
                    continue
                try:
                    launch = self._launches.of(version, provisioned=bool(count))
                    self.workers.provision(launch, self._ring(name), count)
                except LambdaError as error:
                    self._failures[key] = str(error)
                    failed = {"function": version.qualified_arn, "reason": str(error)}
                    logger.warning("provisioned concurrency not ready", extra=failed)

    async def keep_ready(self, name: str, count: int) -> None:
        """Keep ``count`` (>= 0) instances ready for whoever calls a function by its plain name.

        Only Wherry's own configuration can ask for that: on AWS `LATEST` cannot have any.
        """
        key = f"{name}/{LATEST}"
        if count:
            modified = moment.seconds(self._clock.unix_ns())
            await self._provisioned.put(key, Provisioned(name, LATEST, count, modified))
        elif not await self._provisioned.delete(key):
            return
        await self.provisioned_changed(name, LATEST)

    def provisioned(self, name: str, version: str) -> tuple[int, int]:
        """Return how many instances kept ready for a version are up, and how many should be."""
        return self.workers.provisioned(name, version)

    def provisioning_failure(self, name: str, version: str) -> str:
        """Return why instances kept ready for a version do not come up; empty when they do."""
        failure = self._failures.get((name, version), "")
        return failure or self.workers.provisioning_failure(name, version)

    def log(self, name: str, *, after: int) -> Sequence[Line]:
        """Return the kept lines of a function's log whose offset is over ``after``."""
        return self._ring(name).after(after)

    async def settled(self, function: Function) -> Function:
        """Wait until ``function``, as created or updated here, is ready; return it as it is then.

        Raises:
            ResourceNotFound: It was deleted meanwhile.
        """
        return await self._preparation.settled(function)

    async def ready(self, function: Function) -> Function:
        """Make ready what was deployed before this process began; return it as it is then.

        Raises:
            ResourceNotFound: It was deleted meanwhile.
        """
        if not self._preparation.knows(function):
            self._prepare(function)
        return await self.settled(function)

    async def resume(self) -> None:
        """Go on where an earlier process ended: what it left half done, promised and accepted."""
        await self.registry.seal()
        for reserved in (await self._reserved.under()).values():
            self.workers.reserve(reserved.function, reserved.count)
        for function in await self.registry.every():
            unfinished = {State.PENDING, State.FAILED}, {Update.IN_PROGRESS, Update.FAILED}
            if function.state in unfinished[0] or function.update in unfinished[1]:
                self._prepare(function)
        for name in {each.function for each in (await self._provisioned.under()).values()}:
            self._tasks.create_task(self._provision(name), name=f"provision {name}")
        await self._events.resume()

    async def stop(self) -> None:
        """Give up what is being made ready, let calls in flight end, and end every instance."""
        self._preparation.stop()
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

    async def _published(self, name: str, *, updating: bool = True, **fields: Any) -> Function:
        version, new = await self.registry.publish(
            name, pending=self._policy.eager, updating=updating, **fields
        )
        if new:
            self._begin(version)
        return version

    async def _provision(self, name: str) -> None:
        try:
            await self.provisioned_changed(name, LATEST)
        except ResourceNotFound:
            logger.info("provisioned function is gone", extra={"function": name})

    def _begin(self, function: Function) -> None:
        """Start making a new state of a function ready, where that is wanted."""
        given = served(function.runtime)
        if given not in (None, function.runtime):
            self._tell(function, f"{function.runtime} was asked for; functions run on {given}")
        if function.vpc.subnets:
            self._tell(
                function,
                "VpcConfig has no effect: functions have no network card, their way out is the "
                "mesh",
            )
        if self._policy.eager:
            self._prepare(function)

    def _tell(self, function: Function, note: str) -> None:
        self._ring(function.name).note(f"WHERRY {note}", at_ns=self._clock.unix_ns())

    def _prepare(self, function: Function) -> None:
        self._preparation.begin(function, start=self._policy.eager)

    def _ring(self, name: str) -> Ring:
        return self._journal.ring(name)
