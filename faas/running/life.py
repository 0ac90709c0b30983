"""The life of one instance: boot or restore, call, freeze, thaw, end."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from faas.lambda_errors import ServiceFailure
from faas.running import outcome as outcomes
from faas.running.call import Runner, how
from faas.running.instance import Fleet, Instance, Job
from faas.running.outcome import Kind, Outcome
from faas.vm import (
    Backend,
    BootFailed,
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
        runner: Runs calls and writes what the platform says.
        freeze_after: Seconds that an instance runs on after a call before it is frozen.
        changed: Called after each change that the dispatcher wants to know of.
    """

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        runner: Runner,
        *,
        freeze_after: float,
        changed: Callable[[Fleet], None],
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._runner = runner
        self._freeze_after = freeze_after
        self._changed = changed

    async def lead(self, fleet: Fleet, instance: Instance) -> None:
        """Bring ``instance`` up, serve calls with it, and return when nothing of it is left."""
        began = self._clock.now()
        try:
            async with self._up(fleet, instance) as vm:
                instance.started = self._clock.now() - began
                self._came_up(fleet, instance, instance.started)
                await self._serve(fleet, instance, vm)
        except (InitFailed, InitTimeout, Crashed) as error:
            fleet.did_not(str(error), self._clock.now())
            if isinstance(error, Crashed) and error.exit_status is None and error.signal is None:
                self._lost(fleet, instance, error)
            else:
                self._unloadable(fleet, instance, error, self._clock.now() - began)
        except BootFailed as error:
            fleet.did_not(str(error), self._clock.now())
            self._lost(fleet, instance, error)

    def _came_up(self, fleet: Fleet, instance: Instance, seconds: float) -> None:
        fleet.came_up()
        self._runner.tally.started(fleet.name, instance.kind, seconds)
        if instance.kind is Kind.RESTORED or not self._backend.saves(fleet.launch):
            fleet.demand.started(seconds)
        if instance.kind is Kind.RESTORED:
            self._runner.note(fleet, fleet.style.restored(self._clock.unix_ns(), seconds))

    @asynccontextmanager
    async def _up(self, fleet: Fleet, instance: Instance) -> AsyncIterator[Vm]:
        """Enter with a VM: booted, or restored from the fleet's image, made first if need be.

        An image that no VM comes up from is made anew by the next instance.
        """

        def logs(text: str) -> None:
            if fleet.ring.append(text, at_ns=self._clock.unix_ns()):
                instance.tail.append(text)

        now_ns = self._clock.unix_ns()
        if fleet.image is not None:
            instance.kind = Kind.RESTORED
            self._runner.note(fleet, fleet.style.restore_start(now_ns))
        else:
            self._runner.note(fleet, fleet.style.init_start(now_ns))
            async with self._backend.boot(fleet.launch, logs) as vm:
                if not self._backend.saves(fleet.launch):
                    yield vm
                    return
                fleet.image = await self._backend.snapshot(vm)
            self._changed(fleet)
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
                if job is not None:
                    self._changed(fleet)
                while True:
                    if job is None:
                        job, kind = await self._idle(fleet, instance, vm)
                    if job is None or not await self._runner.run(fleet, instance, vm, (job, kind)):
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
        self._changed(fleet)
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
        kind = _error_type(error)
        status = "timeout" if isinstance(error, InitTimeout) else "error"
        lines = fleet.style.init_failed(self._clock.unix_ns(), seconds, status, kind)
        self._runner.note(fleet, lines, instance.tail)
        everyone = self._backend.saves(fleet.launch) and fleet.image is None
        for job in fleet.leave(len(fleet.waiting) if everyone else 1):
            if job.call is None:
                job.answer(None)
                continue
            payload = _init_payload(error, job.call.request_id)
            outcome = Outcome(payload, "Unhandled", instance.kind, error_type=kind)
            self._runner.refuse(fleet, instance, job, outcome, (seconds, status))

    def _lost(self, fleet: Fleet, instance: Instance, error: BootFailed | Crashed) -> None:
        """Let another instance try."""
        logger.warning(
            "instance did not come up", extra={"instance": instance.id, "error": str(error)}
        )
        fleet.platform_failed(ServiceFailure(f"The function's sandbox did not start: {error}"))


def _error_type(error: InitFailed | InitTimeout | Crashed) -> str:
    match error:
        case InitFailed():
            return error.error_type
        case InitTimeout():
            return outcomes.TIMED_OUT
        case Crashed():
            return outcomes.OUT_OF_MEMORY if error.out_of_memory else error.error_type


def _init_payload(error: InitFailed | InitTimeout | Crashed, request_id: str) -> bytes:
    match error:
        case InitFailed():
            return outcomes.init_failed(request_id, error.payload, error.error_type, error.message)
        case InitTimeout():
            return outcomes.timed_out(request_id, error.seconds)
        case Crashed():
            return outcomes.exited(request_id, how(error), error.error_type)
