"""The life of one instance: boot or restore, call, freeze, thaw, end."""

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from faas import outcome as outcomes
from faas.instance import Fleet, Instance, Job
from faas.lambda_errors import ServiceFailure
from faas.logs import Tail
from faas.outcome import Kind, Outcome, Timing
from faas.vm import (
    Answer,
    Backend,
    BootFailed,
    Call,
    Crashed,
    IllegalMove,
    InitFailed,
    InitTimeout,
    Vm,
)
from wherry.clock import Clock

logger = logging.getLogger(__name__)


class Life:
    """Leads instances through their lives on one backend.

    Args:
        backend: Where VMs come from.
        clock: For durations and deadlines.
        freeze_after: Seconds that an instance runs on after a call before it is frozen.
        changed: Called after each change that the dispatcher wants to know of.
    """

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        freeze_after: float,
        changed: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._freeze_after = freeze_after
        self._changed = changed
        self._starts: Counter[Kind] = Counter()

    @property
    def starts(self) -> Mapping[Kind, int]:
        """How many calls found their instance in which state."""
        return self._starts

    async def lead(self, fleet: Fleet, instance: Instance) -> None:
        """Bring ``instance`` up, serve calls with it, and return when nothing of it is left."""
        began = self._clock.now()
        try:
            async with self._up(fleet, instance) as vm:
                instance.started = self._clock.now() - began
                await self._serve(fleet, instance, vm)
        except (InitFailed, InitTimeout, Crashed) as error:
            if isinstance(error, Crashed) and error.exit_status is None and error.signal is None:
                self._lost(fleet, instance, error)
            else:
                self._unloadable(fleet, instance, error, self._clock.now() - began)
        except BootFailed as error:
            self._lost(fleet, instance, error)

    @asynccontextmanager
    async def _up(self, fleet: Fleet, instance: Instance) -> AsyncIterator[Vm]:
        """Enter with a VM: booted, or restored from the fleet's image, made first if need be.

        An image that no VM comes up from is made anew by the next instance.
        """

        def logs(text: str) -> None:
            fleet.ring.append(text, at_ns=self._clock.unix_ns())
            instance.tail.append(text)

        if not self._backend.snapshots:
            async with self._backend.boot(fleet.launch, logs) as vm:
                yield vm
            return
        if fleet.image is None:
            async with self._backend.boot(fleet.launch, logs) as vm:
                fleet.image = await self._backend.snapshot(vm)
            self._changed()
        else:
            instance.kind = Kind.RESTORED
        async with AsyncExitStack() as stack:
            image = fleet.image
            try:
                vm = await stack.enter_async_context(self._backend.restore(image, logs))
            except BootFailed:
                if fleet.image is image:
                    fleet.discard_image()
                raise
            yield vm

    async def _serve(self, fleet: Fleet, instance: Instance, vm: Vm) -> None:
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._watch(vm, instance), name=f"watch {instance.id}")
            try:
                job, kind = fleet.take(instance), instance.kind
                while True:
                    if job is None:
                        job, kind = await self._idle(fleet, instance, vm)
                    if job is None or not await self._run(fleet, instance, vm, (job, kind)):
                        return
                    job, kind = fleet.take(instance), Kind.WARM
            finally:
                watch.cancel()

    @staticmethod
    async def _watch(vm: Vm, instance: Instance) -> None:
        await vm.gone()
        instance.dead = True
        instance.stop()

    async def _idle(self, fleet: Fleet, instance: Instance, vm: Vm) -> tuple[Job | None, Kind]:
        """Wait for the next job; freeze the VM if none comes at once.

        A job that the VM turns out to be unable to begin goes back to the queue.
        """
        wake = instance.rest(self._clock.now())
        self._changed()
        try:
            await asyncio.wait({wake}, timeout=self._freeze_after)
            if wake.done():
                kind, job = Kind.WARM, wake.result()
            else:
                await vm.freeze()
                kind, job = Kind.FROZEN, await wake
                if job is not None:
                    await vm.thaw()
        except (Crashed, IllegalMove, OSError):
            logger.warning("instance lost while idle", extra={"instance": instance.id})
            job, kind = wake.result() if wake.done() else None, Kind.WARM
            instance.dead = True
        if job is not None and instance.dead:
            fleet.give_back(job)
            job = None
        return job, kind

    async def _run(self, fleet: Fleet, instance: Instance, vm: Vm, work: tuple[Job, Kind]) -> bool:
        """Run one job; return whether the VM can run another."""
        job, kind = work
        if job.call is None:
            job.answer(None)
            return True
        self._starts[kind] += 1
        launch, request_id = fleet.launch, job.call.request_id
        began, start = self._clock.now(), instance.started
        if start is None:
            instance.tail = Tail()
        self._log(fleet, instance, outcomes.start_line(request_id, launch.version))
        try:
            answer, status = await self._call(vm, job.call, launch.timeout)
        except BaseException:
            job.fail(ServiceFailure("The call was cut short: faas is stopping"))
            raise
        timing = Timing(self._clock.now() - began, start, instance.kind)
        instance.started = None
        if status == "timeout":
            text = f"Task timed out after {launch.timeout:.2f} seconds"
            self._log(fleet, instance, f"{request_id} {text}")
        for line in outcomes.end_lines(request_id, timing, launch.memory_mib, status):
            self._log(fleet, instance, line)
        error = None if answer.error is None else "Unhandled"
        job.answer(Outcome(answer.payload, error, kind, instance.tail.text()))
        return not status

    async def _call(self, vm: Vm, call: Call, seconds: float) -> tuple[Answer, str]:
        """Return what the call gave and, when the VM is spent, why."""
        deadline_ms = self._clock.unix_ns() // 1_000_000 + round(seconds * 1000)
        try:
            async with asyncio.timeout(seconds):
                answer = await vm.invoke(replace(call, deadline_ms=deadline_ms))
        except TimeoutError:
            return _error(outcomes.timed_out(call.request_id, seconds)), "timeout"
        except Crashed as crash:
            return _error(outcomes.exited(call.request_id, _how(crash))), "error"
        return answer, "error" if answer.error == outcomes.TOO_LARGE else ""

    def _unloadable(
        self,
        fleet: Fleet,
        instance: Instance,
        error: InitFailed | InitTimeout | Crashed,
        seconds: float,
    ) -> None:
        """Give the calls that only this instance could have served its error.

        While there is no snapshot, that is every call; otherwise other instances are on their
        way for the others.
        """
        error_type = _error_type(error)
        line = f"INIT_REPORT Init Duration: {seconds * 1000:.2f} ms\tPhase: init\tStatus: error"
        self._log(fleet, instance, f"{line}\tError Type: {error_type}")
        everyone = self._backend.snapshots and fleet.image is None
        for job in fleet.leave(len(fleet.waiting) if everyone else 1):
            if job.call is None:
                job.answer(None)
                continue
            self._starts[instance.kind] += 1
            payload = _init_payload(error, job.call.request_id)
            job.answer(Outcome(payload, "Unhandled", instance.kind, instance.tail.text()))

    def _lost(self, fleet: Fleet, instance: Instance, error: BootFailed | Crashed) -> None:
        """Let another instance try."""
        logger.warning(
            "instance did not come up", extra={"instance": instance.id, "error": str(error)}
        )
        fleet.platform_failed(ServiceFailure(f"The function's sandbox did not start: {error}"))

    def _log(self, fleet: Fleet, instance: Instance, text: str) -> None:
        fleet.ring.append(text, at_ns=self._clock.unix_ns())
        instance.tail.append(text)


def _error(payload: bytes) -> Answer:
    return Answer(payload, "Unhandled", "application/json")


def _how(crash: Crashed) -> str:
    """Return how the runtime ended, in Lambda's words; empty for exit status 0."""
    if crash.exit_status is not None:
        return f"exit status {crash.exit_status}" if crash.exit_status else ""
    names = {signal.SIGKILL: "killed", signal.SIGSEGV: "segmentation fault"}
    number = crash.signal or signal.SIGKILL
    try:
        return f"signal: {names.get(signal.Signals(number)) or signal.Signals(number).name}"
    except ValueError:
        return f"signal: {number}"


def _error_type(error: InitFailed | InitTimeout | Crashed) -> str:
    match error:
        case InitFailed():
            return error.error_type
        case InitTimeout():
            return "Sandbox.Timedout"
        case Crashed():
            return "Runtime.ExitError"


def _init_payload(error: InitFailed | InitTimeout | Crashed, request_id: str) -> bytes:
    match error:
        case InitFailed():
            return outcomes.init_failed(request_id, error.payload, error.error_type, error.message)
        case InitTimeout():
            return outcomes.timed_out(request_id, error.seconds)
        case Crashed():
            return outcomes.exited(request_id, _how(error))
