"""One instance of a function version: who may use it, and the calls that wait for one."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from faas.running.demand import Demand
from faas.running.outcome import Kind, Outcome
from faas.running.pool import Pool
from faas.telemetry.logs import Ring, Tail
from faas.telemetry.report import Style, style
from faas.vm import Call, Launch, Stream, VmImage

MAX_TRIES = 2
"""How many instances may fail to come up for one call before the call fails."""

CLONE_MIB = 64
"""What an instance is taken to cost before one has said: an idle clone's pages and one call's."""

_MOST_BACKOFF = 60.0
"""Seconds; the longest pause before an instance that no call asked for is tried again."""


class Phase(Enum):
    """What an instance is doing, as the dispatcher sees it."""

    STARTING = auto()
    BUSY = auto()
    IDLE = auto()
    ENDING = auto()


@dataclass(slots=True)
class Job:
    """A call that wants an instance.

    Attributes:
        call: What to run; None asks for a ready instance and nothing else.
        result: Where the outcome goes; None for a job without a call.
        taken: Called once, when an instance takes the job.
        stream: Where a streamed response goes; None: the response comes whole.
        tries: How many instances failed to come up for it.
    """

    call: Call | None
    result: asyncio.Future[Outcome | None]
    taken: Callable[[], None]
    stream: Stream | None = None
    tries: int = 0

    def answer(self, outcome: Outcome | None) -> None:
        """Hand over the outcome, unless the caller went away."""
        if not self.result.done():
            self.result.set_result(outcome)

    def fail(self, error: Exception) -> None:
        """Hand over an error, unless the caller went away."""
        if not self.result.done():
            self.result.set_exception(error)


class Instance:
    """The dispatcher's half of one VM: its phase and the way to wake it.

    The task that owns the VM is the only one to touch the VM; others change the phase here.

    Attributes:
        id: Unique in this process.
        since: Monotonic seconds when it last went idle.
        dead: The VM ended by itself.
        kind: How it came up; what its first call is told.
        started: Seconds that coming up took, until the first call was told.
        tail: What it printed since its last call began.
    """

    def __init__(self, name: str) -> None:
        self.id = name
        self._phase = Phase.STARTING
        self.since = 0.0
        self.dead = False
        self.kind = Kind.COLD
        self.started: float | None = None
        self.tail = Tail()
        self._wake: asyncio.Future[Job | None] | None = None

    @property
    def phase(self) -> Phase:
        """What it is doing; one whose owner was cut short while idle is ending."""
        cut_short = self._wake is not None and self._wake.done()
        return Phase.ENDING if cut_short and self._phase is Phase.IDLE else self._phase

    def rest(self, now: float) -> asyncio.Future[Job | None]:
        """Go idle; the future brings the next job, or None when it is time to end."""
        self._phase, self.since = Phase.IDLE, now
        self._wake = asyncio.get_running_loop().create_future()
        if self.dead:
            self.stop()
        return self._wake

    def busy(self) -> None:
        """Note that the owner took a job straight from the queue."""
        self._phase = Phase.BUSY

    def assign(self, job: Job) -> None:
        """Give an idle instance its next job."""
        assert self.phase is Phase.IDLE  # noqa: S101
        assert self._wake is not None  # noqa: S101
        self._phase = Phase.BUSY
        job.taken()
        self._wake.set_result(job)

    def stop(self) -> None:
        """End an idle instance; a busy one ends by itself when it is dead."""
        if self.phase is Phase.IDLE and self._wake is not None:
            self._phase = Phase.ENDING
            self._wake.set_result(None)


@dataclass(slots=True)
class Fleet:
    """The instances of one version of one function and the calls that wait for them.

    Attributes:
        key: Unique in this process.
        launch: What each instance runs.
        ring: Where its lines go.
        waiting: Calls in order of arrival; bounded by the limit that admits them.
        instances: By id.
        image: The snapshot that instances are restored from, once there is one.
        retiring: A newer launch took over, or the version was deleted.
        provisioned: Instances that are kept, whether calls come or not.
        demand: What calls come and what they take.
        used_mib: Most memory that an instance was seen to use; None: not measured.
        failure: Why the last instance did not come up; empty when it did.
        style: How the platform's own lines are worded.
    """

    key: str
    launch: Launch
    ring: Ring
    waiting: deque[Job] = field(default_factory=deque)
    instances: dict[str, Instance] = field(default_factory=dict)
    image: VmImage | None = None
    retiring: bool = False
    provisioned: int = 0
    demand: Demand = field(default_factory=Demand)
    used_mib: int | None = None
    failure: str = ""
    style: Style = field(init=False)
    _failures: int = 0
    _not_before: float = 0.0

    def __post_init__(self) -> None:
        self.style = style(self.launch)

    @property
    def name(self) -> tuple[str, str]:
        """The function's name and the version."""
        return self.launch.function, self.launch.version

    def seen(self, limit: int, now: float) -> Pool:
        """Return what the planner needs to know."""
        phases = [each.phase for each in self.instances.values()]
        willing = not self.retiring and now >= self._not_before
        return Pool(
            waiting=len(self.waiting),
            starting=phases.count(Phase.STARTING),
            busy=phases.count(Phase.BUSY),
            idle_since={each.id: each.since for each in self.idle()},
            ending=phases.count(Phase.ENDING),
            limit=limit,
            retiring=self.retiring,
            target=min(limit, self.demand.target(now)) if willing else 0,
            kept=self.provisioned if willing else 0,
            cost_mib=CLONE_MIB if self.used_mib is None else max(CLONE_MIB, self.used_mib),
        )

    def idle(self) -> list[Instance]:
        """Return the idle instances, the one that idled longest first."""
        idle = [each for each in self.instances.values() if each.phase is Phase.IDLE]
        return sorted(idle, key=lambda each: each.since)

    def take(self, instance: Instance) -> Job | None:
        """Give ``instance`` the oldest waiting job, if there is one."""
        while self.waiting:
            job = self.waiting.popleft()
            if not job.result.done():
                instance.busy()
                job.taken()
                return job
        return None

    def pair(self) -> None:
        """Give waiting jobs to idle instances, those that went idle last first."""
        if not self.waiting:
            return
        idle = self.idle()
        while idle and self.waiting:
            job = self.waiting.popleft()
            if not job.result.done():
                idle.pop().assign(job)

    def give_back(self, job: Job) -> None:
        """Put a job first in line that its instance could not begin."""
        self.waiting.appendleft(job)

    def starting(self) -> list[Instance]:
        """Return the instances that are on their way."""
        return [each for each in self.instances.values() if each.phase is Phase.STARTING]

    def forget_preparations(self) -> None:
        """End the jobs that want nothing but a ready instance."""
        for job in self.waiting:
            if job.call is None:
                job.answer(None)
        self.forget_abandoned()

    def leave(self, count: int) -> list[Job]:
        """Remove the oldest ``count`` waiting jobs and return them."""
        return [self.waiting.popleft() for _ in range(min(count, len(self.waiting)))]

    def came_up(self) -> None:
        """Note that an instance came up."""
        self.failure, self._failures, self._not_before = "", 0, 0.0

    def did_not(self, why: str, now: float) -> None:
        """Note that an instance did not come up; starts ahead of calls pause, ever longer."""
        self.failure = why
        self._failures += 1
        self._not_before = now + min(_MOST_BACKOFF, 2.0 ** min(self._failures, 10))

    def platform_failed(self, error: Exception) -> None:
        """Let the oldest job wait for another instance, or fail it when it has seen enough."""
        if self.waiting:
            self.waiting[0].tries += 1
            if self.waiting[0].tries >= MAX_TRIES:
                self.waiting.popleft().fail(error)

    def forget_abandoned(self) -> None:
        """Drop the jobs whose callers went away."""
        if any(job.result.done() for job in self.waiting):
            self.waiting = deque(job for job in self.waiting if not job.result.done())

    @property
    def over(self) -> bool:
        """Whether it is retiring and nothing of it is left."""
        return self.retiring and not self.waiting and not self.instances

    def discard_image(self) -> None:
        """Remove the snapshot; instances that run already are not disturbed."""
        image, self.image = self.image, None
        if image is not None:
            image.discard()
