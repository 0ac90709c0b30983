"""Instances of functions: started for calls, frozen between them, reaped when idle for long."""

import asyncio
import itertools
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from faas.lambda_errors import ServiceFailure, TooManyRequests
from faas.running.call import Runner
from faas.running.fleets import Fleets
from faas.running.instance import Fleet, Instance, Job
from faas.running.life import Life
from faas.running.memory import Host
from faas.running.outcome import Kind, Outcome
from faas.running.pool import Memory, Reap, Seen, Start, plan
from faas.running.shares import ACCOUNT, RESERVED, Shares
from faas.running.tally import Tally
from faas.telemetry.logs import Ring
from faas.telemetry.spans import Spans
from faas.vm import Backend, Call, Launch, Stream
from wherry.clock import Clock

logger = logging.getLogger(__name__)

_PREPARE_SECONDS = 180.0
"""Seconds for an instance that no call waits for: an emulated VM may need several tries."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the workers may use.

    Attributes:
        account: Most calls at once of all functions together; one more is throttled at once.
        concurrency: Most instances of one function version; None: as many as all may have.
        instances: Most instances of all functions together; None: what the memory available when
            the workers start has room for (`faas.running.memory.Host.instances`).
        starts: Most instances that are on their way at once; None: four for each processor.
        queue: Most calls of one function version that wait for an instance; one more is
            throttled.
        queue_bytes: Most bytes of payload that wait, of all functions together.
        queue_wait: Seconds that a call waits for an instance before it is throttled.
        keep_idle: Seconds (>= 0) that an instance is kept after its last call.
        freeze_after: Seconds (>= 0) that an instance runs on after a call before it is frozen.
        reader: Seconds that the reader of a streamed response may take for one piece.
        drain: Seconds that calls in flight have to end when the workers stop.
    """

    account: int = 1000
    concurrency: int | None = None
    instances: int | None = None
    starts: int | None = None
    queue: int = 1000
    queue_bytes: int = 256 << 20
    queue_wait: float = 60.0
    keep_idle: float = 300.0
    freeze_after: float = 0.05
    reader: float = 30.0
    drain: float = 10.0


class Workers:
    """Runs calls on instances; one loop owns all of it and every change ends in `_dispatch`.

    Args:
        backend: Where VMs come from.
        limits: How much may be used.
        clock: For durations and deadlines.
        tasks: Owns the instances.
        host: Where the memory's figures stand.
        spans: Where invocations are traced to.
    """

    def __init__(
        self,
        backend: Backend,
        limits: Limits,
        clock: Clock,
        tasks: asyncio.TaskGroup,
        *,
        host: Host | None = None,
        spans: Spans | None = None,
    ) -> None:
        self.tally = Tally()
        self._limits = limits
        self._clock = clock
        self._tasks = tasks
        self._host = host or Host()
        self._spans = spans or Spans()
        self._memory: Memory | None = self._host.memory()
        self._total = limits.instances or self._host.instances()
        self._starts = limits.starts or 4 * len(os.sched_getaffinity(0))
        runner = Runner(clock, self.tally, limits.reader)
        self._life = Life(
            backend, clock, runner, freeze_after=limits.freeze_after, changed=self._changed
        )
        self._saves = backend.saves
        self._fleets = Fleets(backend)
        self._shares = Shares(limits.account)
        self._living: dict[str, asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)
        self._queued_bytes = 0
        self._closing = False
        self._ticker = tasks.create_task(self._tick(), name="faas reaper")

    @property
    def starts(self) -> Mapping[Kind, int]:
        """How many calls found their instance in which state."""
        return self.tally.kinds

    @property
    def shares(self) -> Shares:
        """Who may run how many calls at once; read only."""
        return self._shares

    @property
    def queued_bytes(self) -> int:
        """Bytes of payload that wait for an instance."""
        return self._queued_bytes

    def seen(self) -> Seen:
        """Return every pool as the planner sees it."""
        now = self._clock.now()
        pools = {fleet.key: fleet.seen(self._most(fleet), now) for fleet in self._fleets}
        return Seen(pools, self._total, self._starts, self._memory)

    def versions(self) -> dict[str, tuple[str, str]]:
        """Return the function and version of each pool in `seen`."""
        return {fleet.key: fleet.name for fleet in self._fleets}

    def launches(self) -> list[Launch]:
        """Return what instances run, or would run for the next call."""
        return [fleet.launch for fleet in self._fleets]

    def all_provisioned(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return `provisioned` of every version that has some."""
        return {key: self.provisioned(*key) for key in self._fleets.all_provisioned()}

    async def invoke(
        self, launch: Launch, call: Call, ring: Ring, stream: Stream | None = None
    ) -> Outcome:
        """Run ``call`` on an instance of ``launch``; its deadline is set when it begins.

        While a newer launch of the same version is being made ready, the present one serves.

        Args:
            launch: What runs.
            call: With what; its trace may come as ``traceparent`` or ``X-Amzn-Trace-Id``.
            ring: Where log lines go.
            stream: Where a streamed response goes; None: it comes whole, in the outcome.

        Raises:
            TooManyRequests: The concurrency is used up, no instance came free in time, or too
                many calls wait.
            ServiceFailure: The platform failed, or is stopping.
        """
        version = launch.function, launch.version
        if self._closing:
            raise _stopping()
        if (reason := self._shares.begin(version)) is not None:
            raise self._throttled(version, reason)
        if self._shares.spilled(version):
            self.tally.spilled_over(version)
        try:
            with self._spans.invocation(launch, call) as span:
                told = replace(call, trace_id=span.header)
                fleet = self._fleets.serving(launch, ring)
                fleet.demand.arrived(self._clock.now())
                outcome = await self._queue(fleet, told, stream)
                assert outcome is not None  # noqa: S101
                span.ended(outcome)
                return outcome
        finally:
            self._shares.end(version)

    async def ready(self, launch: Launch, ring: Ring) -> None:
        """Return when one instance of ``launch`` is up; then it takes over from older launches.

        A function that cannot be loaded takes over too: its calls get the error.

        Raises:
            TooManyRequests: No room came free in time; calls start it later.
            ServiceFailure: The platform failed.
        """
        fleet = self._fleets.coming(launch, ring)
        try:
            await self._queue(fleet, None)
        finally:
            self._fleets.take_over(fleet)
            self._dispatch()

    def retire(self, name: str, version: str | None = None) -> None:
        """Serve what waits for a version, or for all of a function, then keep nothing of it."""
        self._fleets.retire(name, version)
        if version is None:
            self._shares.reserve(name, None)
            self.tally.forget(name)
        for held in self._fleets.provisioned(name, version):
            self._shares.provision(held, 0)
        self._fleets.forget_provisioned(name, version)
        self._dispatch()

    def reserve(self, name: str, count: int | None) -> None:
        """Let function ``name`` run ``count`` calls at once, and none else these; None: as others.

        0 throttles every call of it.
        """
        self._shares.reserve(name, count)

    def provision(self, launch: Launch, ring: Ring, count: int) -> None:
        """Keep ``count`` instances of ``launch`` whether calls come or not; 0: no longer."""
        version = launch.function, launch.version
        self._shares.provision(version, count)
        self._fleets.provision(launch, ring, count)
        self._dispatch()

    def provisioned(self, name: str, version: str) -> tuple[int, int]:
        """Return how many of a version's provisioned instances are up, and how many should be."""
        fleet = self._fleets.current(name, version)
        if fleet is None:
            return 0, self._fleets.wanted((name, version))
        up = len(fleet.instances) - len(fleet.starting())
        return min(up, fleet.provisioned), fleet.provisioned

    def provisioning_failure(self, name: str, version: str) -> str:
        """Return why a version's instances do not come up; empty when they do."""
        fleet = self._fleets.current(name, version)
        return "" if fleet is None else fleet.failure

    async def stop(self) -> None:
        """Take no more calls, wait for those in flight, then end every instance.

        Once its tasks ended, nothing of any instance is left; images stay for the next process.
        """
        self._closing = True
        self._ticker.cancel()
        self._fleets.close()
        self._dispatch()
        for fleet in self._fleets:
            if not fleet.waiting:
                self._cut_short(fleet.starting())
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain):
                while self._living:
                    await asyncio.wait(self._living.values(), return_when=asyncio.FIRST_COMPLETED)
        for fleet in self._fleets:
            for job in fleet.leave(len(fleet.waiting)):
                job.fail(_stopping())
            self._cut_short(fleet.instances.values())
        if self._living:
            await asyncio.wait(self._living.values())

    def _cut_short(self, instances: Iterable[Instance]) -> None:
        for instance in instances:
            self._living[instance.id].cancel()

    async def _tick(self) -> None:
        """Look at the clock and the memory from time to time."""
        while True:
            await asyncio.sleep(min(1.0, max(0.02, self._limits.keep_idle / 4)))
            self._memory = self._host.memory()
            self._dispatch()

    def _most(self, fleet: Fleet) -> int:
        """Return how many instances ``fleet`` may have: one, until there is a snapshot."""
        if fleet.image is None and self._saves(fleet.launch):
            return 1
        return max(self._limits.concurrency or self._total, fleet.provisioned)

    async def _queue(
        self, fleet: Fleet, call: Call | None, stream: Stream | None = None
    ) -> Outcome | None:
        if self._closing:
            raise _stopping()
        size = len(call.payload) if call else 0
        full = self._queued_bytes + size > self._limits.queue_bytes
        if full or len(fleet.waiting) >= self._limits.queue:
            raise self._throttled(fleet.name, self._scarce(fleet))
        result: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        began = self._clock.now()
        self._queued_bytes += size
        queued = True

        def taken() -> None:
            nonlocal queued
            if queued:
                queued = False
                self._queued_bytes -= size
                self.tally.waits.add(self._clock.now() - began)
            wait.reschedule(None)

        try:
            seconds = self._limits.queue_wait if call else _PREPARE_SECONDS
            async with asyncio.timeout(seconds) as wait:
                fleet.waiting.append(Job(call, result, taken, stream))
                self._offered(fleet)
                return await result
        except TimeoutError:
            raise self._throttled(fleet.name, self._scarce(fleet)) from None
        finally:
            if queued:
                self._queued_bytes -= size

    def _scarce(self, fleet: Fleet) -> str:
        """Return what a call of ``fleet`` found no room in: its own limit, or everyone's."""
        most = self._limits.concurrency
        return RESERVED if most and len(fleet.instances) >= most else ACCOUNT

    def _throttled(self, version: tuple[str, str], reason: str) -> TooManyRequests:
        self.tally.throttled(version, reason)
        return TooManyRequests(reason=reason)

    def _offered(self, fleet: Fleet) -> None:
        """Give a new call to an idle instance, and plan when there is none."""
        fleet.pair()
        if fleet.waiting or fleet.retiring:
            self._dispatch()

    def _changed(self, fleet: Fleet) -> None:
        """Plan anew when an instance's change may concern anyone but itself."""
        if not self._limits.keep_idle or any(
            each.waiting or each.retiring for each in self._fleets
        ):
            self._dispatch()

    def _dispatch(self) -> None:
        """Give calls to idle instances, then do what the planner says."""
        for fleet in self._fleets:
            fleet.forget_abandoned()
            fleet.pair()
        for step in plan(self.seen(), now=self._clock.now(), keep_idle=self._limits.keep_idle):
            match step:
                case Start(key, count):
                    for _ in range(count):
                        self._begin(self._fleets[key])
                case Reap(key, instance, pressed):
                    fleet = self._fleets[key]
                    fleet.instances[instance].stop()
                    if pressed:
                        self.tally.given_back += 1
                        self.tally.given_back_mib += fleet.used_mib or 0
        self._fleets.sweep()

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
            fleet.did_not("the platform failed", self._clock.now())
            fleet.platform_failed(ServiceFailure("The platform failed; see its log."))

    def _ended(self, fleet: Fleet, instance: Instance) -> None:
        del fleet.instances[instance.id], self._living[instance.id]
        self._dispatch()


def _stopping() -> ServiceFailure:
    return ServiceFailure("faas is stopping, expected it to run; try again later")
