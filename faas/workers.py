"""Instances of functions: started for calls, frozen between them, reaped when idle for long."""

import asyncio
import itertools
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from faas.instance import Fleet, Instance, Job
from faas.lambda_errors import ServiceFailure, TooManyRequests
from faas.life import Life
from faas.logs import Ring
from faas.outcome import Kind, Outcome
from faas.pool import Reap, Seen, Start, plan
from faas.vm import Backend, Call, Launch
from wherry.clock import Clock

logger = logging.getLogger(__name__)

_PREPARE_SECONDS = 180.0
"""Seconds for an instance that no call waits for: an emulated VM may need several tries."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the workers may use.

    Attributes:
        concurrency: Most instances of one function.
        instances: Most instances of all functions together; bounds their memory.
        queue: Most calls of one function that wait for an instance; one more is throttled.
        queue_wait: Seconds that a call waits for an instance before it is throttled.
        keep_idle: Seconds (>= 0) that an instance is kept after its last call.
        freeze_after: Seconds (>= 0) that an instance runs on after a call before it is frozen.
        drain: Seconds that calls in flight have to end when the workers stop.
    """

    concurrency: int = 10
    instances: int = 20
    queue: int = 100
    queue_wait: float = 60.0
    keep_idle: float = 300.0
    freeze_after: float = 0.05
    drain: float = 10.0


class Workers:
    """Runs calls on instances; one loop owns all of it and every change ends in `_dispatch`."""

    def __init__(
        self, backend: Backend, limits: Limits, clock: Clock, tasks: asyncio.TaskGroup
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._tasks = tasks
        self._life = Life(backend, clock, limits.freeze_after, self._dispatch)
        self._snapshots = backend.snapshots
        self._fleets: dict[str, Fleet] = {}
        self._current: dict[str, Fleet] = {}
        self._coming: dict[str, Fleet] = {}
        self._living: dict[str, asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)
        self._closing = False
        self._ticker = tasks.create_task(self._tick(), name="faas reaper")

    @property
    def starts(self) -> Mapping[Kind, int]:
        """How many calls found their instance in which state."""
        return self._life.starts

    def seen(self) -> Seen:
        """Return every pool as the planner sees it."""
        pools = {key: fleet.seen(self._most(fleet)) for key, fleet in self._fleets.items()}
        return Seen(pools, self._limits.instances)

    async def invoke(self, launch: Launch, call: Call, ring: Ring) -> Outcome:
        """Run ``call`` on an instance of ``launch``; its deadline is set when it begins.

        While a newer launch of the same function is being made ready, the present one serves.

        Raises:
            TooManyRequests: No instance came free in time, or too many calls wait.
            ServiceFailure: The platform failed, or is stopping.
        """
        outcome = await self._queue(self._fleet(launch, ring), call)
        assert outcome is not None  # noqa: S101
        return outcome

    async def ready(self, launch: Launch, ring: Ring) -> None:
        """Return when one instance of ``launch`` is up; then it takes over from older launches.

        A function that cannot be loaded takes over too: its calls get the error.

        Raises:
            TooManyRequests: No room came free in time; calls start it later.
            ServiceFailure: The platform failed.
        """
        name, old = launch.function, self._current.get(launch.function)
        if old is None or old.launch == launch:
            await self._queue(self._fleet(launch, ring), None)
            return
        self._drop(self._coming.pop(name, None))
        fleet = self._coming[name] = self._opened(launch, ring)
        try:
            await self._queue(fleet, None)
        finally:
            if self._coming.get(name) is fleet:
                del self._coming[name]
                self._drop(self._current.get(name))
                self._current[name] = fleet
            self._dispatch()

    def retire(self, name: str) -> None:
        """Serve what waits for the function, then keep nothing of it."""
        self._drop(self._coming.pop(name, None))
        self._drop(self._current.pop(name, None))
        self._dispatch()

    async def stop(self) -> None:
        """Take no more calls, wait for those in flight, then end every instance.

        Once its tasks ended, nothing of any instance is left.
        """
        self._closing = True
        self._ticker.cancel()
        for fleet in self._fleets.values():
            fleet.retiring = True
            fleet.forget_preparations()
        self._dispatch()
        for fleet in self._fleets.values():
            if not fleet.waiting:
                self._cut_short(fleet.starting())
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain):
                while self._living:
                    await asyncio.wait(self._living.values(), return_when=asyncio.FIRST_COMPLETED)
        for fleet in self._fleets.values():
            for job in fleet.leave(len(fleet.waiting)):
                job.fail(_stopping())
            self._cut_short(fleet.instances.values())
        if self._living:
            await asyncio.wait(self._living.values())
        for fleet in self._fleets.values():
            fleet.discard_image()

    def _cut_short(self, instances: Iterable[Instance]) -> None:
        for instance in instances:
            self._living[instance.id].cancel()

    async def _tick(self) -> None:
        """Look at the clock from time to time: idle instances end when their time is up."""
        while True:
            await asyncio.sleep(min(1.0, max(0.02, self._limits.keep_idle / 4)))
            self._dispatch()

    def _most(self, fleet: Fleet) -> int:
        """Return how many instances ``fleet`` may have: one, until there is a snapshot."""
        return 1 if self._snapshots and fleet.image is None else self._limits.concurrency

    def _fleet(self, launch: Launch, ring: Ring) -> Fleet:
        """Return the fleet that serves calls for ``launch`` now."""
        current, coming = self._current.get(launch.function), self._coming.get(launch.function)
        if current is not None and (
            current.launch == launch or (coming is not None and coming.launch == launch)
        ):
            return current
        self._drop(current)
        fleet = self._current[launch.function] = self._opened(launch, ring)
        return fleet

    def _opened(self, launch: Launch, ring: Ring) -> Fleet:
        key = f"{launch.function}#{next(self._numbers)}"
        fleet = self._fleets[key] = Fleet(key, launch, ring)
        return fleet

    @staticmethod
    def _drop(fleet: Fleet | None) -> None:
        if fleet is not None:
            fleet.retiring = True

    async def _queue(self, fleet: Fleet, call: Call | None) -> Outcome | None:
        if self._closing:
            raise _stopping()
        if len(fleet.waiting) >= self._limits.queue:
            raise TooManyRequests()
        result: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        try:
            seconds = self._limits.queue_wait if call else _PREPARE_SECONDS
            async with asyncio.timeout(seconds) as wait:
                fleet.waiting.append(Job(call, result, lambda: wait.reschedule(None)))
                self._dispatch()
                return await result
        except TimeoutError:
            raise TooManyRequests() from None

    def _dispatch(self) -> None:
        """Give calls to idle instances, then do what the planner says."""
        for fleet in self._fleets.values():
            fleet.forget_abandoned()
            fleet.pair()
        for step in plan(self.seen(), now=self._clock.now(), keep_idle=self._limits.keep_idle):
            match step:
                case Start(key, count):
                    for _ in range(count):
                        self._begin(self._fleets[key])
                case Reap(key, instance):
                    self._fleets[key].instances[instance].stop()
        for fleet in [each for each in self._fleets.values() if each.over]:
            del self._fleets[fleet.key]
            fleet.discard_image()

    def _begin(self, fleet: Fleet) -> None:
        instance = Instance(f"{fleet.key}.{next(self._numbers)}")
        fleet.instances[instance.id] = instance
        task = self._tasks.create_task(self._run(fleet, instance), name=f"faas {instance.id}")
        self._living[instance.id] = task
        task.add_done_callback(lambda _: self._ended(fleet, instance))

    async def _run(self, fleet: Fleet, instance: Instance) -> None:
        """Be the root of one instance's task: whatever happens, the others go on."""
        try:
            await self._life.lead(fleet, instance)
        except Exception:
            logger.exception("instance failed", extra={"instance": instance.id})
            fleet.platform_failed(ServiceFailure("The platform failed; see its log."))

    def _ended(self, fleet: Fleet, instance: Instance) -> None:
        del fleet.instances[instance.id], self._living[instance.id]
        self._dispatch()


def _stopping() -> ServiceFailure:
    return ServiceFailure("faas is stopping, expected it to run; try again later")
