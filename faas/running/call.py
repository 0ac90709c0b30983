"""One call on one instance: time, outcome, log lines and figures."""

import asyncio
import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace

from faas.lambda_errors import ServiceFailure
from faas.running import outcome as outcomes
from faas.running.instance import Fleet, Instance, Job
from faas.running.outcome import Kind, Outcome
from faas.running.stream import Patient
from faas.running.tally import Tally
from faas.telemetry.logs import Tail
from faas.telemetry.report import Ended, Timing
from faas.telemetry.tracing import Trace, read
from faas.vm import Answer, Call, Crashed, Vm
from wherry.clock import Clock


@dataclass(frozen=True, slots=True)
class _End:
    """How a call ended.

    Attributes:
        answer: What it gave.
        status: ``timeout`` or ``error`` when the VM is spent, else empty.
        kind: What a REPORT calls the error.
        text: What the log says of it; empty: nothing.
    """

    answer: Answer
    status: str = ""
    kind: str = ""
    text: str = ""


class Runner:
    """Runs calls and says of each what came of it: to its caller, its log and the figures.

    Args:
        clock: For durations and deadlines.
        tally: Where things are counted.
        patience: Seconds that a reader may take for one piece of a streamed response.
    """

    def __init__(self, clock: Clock, tally: Tally, patience: float) -> None:
        self._clock = clock
        self.tally = tally
        self._patience = patience

    async def run(self, fleet: Fleet, instance: Instance, vm: Vm, work: tuple[Job, Kind]) -> bool:
        """Run one job; return whether the VM can run another."""
        job, kind = work
        if job.call is None:
            job.answer(None)
            return True
        first, trace = instance.started, read(job.call.trace_id)
        if first is None:
            instance.tail = Tail()
        self.note(fleet, self._opening(fleet, job.call, trace), instance.tail)
        stream = None if job.stream is None else Patient(job.stream, self._patience)
        began = self._clock.now()
        try:
            end = await self._call(vm, job.call, fleet.launch.timeout, stream)
        except BaseException:
            job.fail(ServiceFailure("The call was cut short: faas is stopping"))
            raise
        seconds = self._clock.now() - began
        if end.status == "timeout":
            seconds = fleet.launch.timeout
        instance.started = None
        self._learn(fleet, end, seconds)
        timing = _timing(fleet, seconds, first, instance.kind)
        ended = Ended(
            job.call.request_id,
            timing,
            fleet.launch.memory_mib,
            self._used(fleet, end),
            end.status,
            end.kind,
            trace,
        )
        self._close(fleet, instance, ended, end.text)
        outcome = _outcome(job.call, end, kind, instance.tail.text())
        if stream is not None and stream.broken and outcome.error is None:
            payload = outcomes.failure(outcomes.SLOW_READER, stream.broken)
            outcome = replace(
                outcome, payload=payload, error="Unhandled", error_type=outcomes.SLOW_READER
            )
        self.tally.ended(fleet.name, kind, outcome, seconds)
        job.answer(outcome)
        return not end.status

    def refuse(
        self,
        fleet: Fleet,
        instance: Instance,
        job: Job,
        outcome: Outcome,
        init: tuple[float, str],
    ) -> None:
        """Answer a call whose instance did not come up: after ``init`` seconds, and its status."""
        assert job.call is not None  # noqa: S101
        seconds, status = init
        trace = read(job.call.trace_id)
        self.note(fleet, self._opening(fleet, job.call, trace), instance.tail)
        ended = Ended(
            job.call.request_id,
            Timing(seconds),
            fleet.launch.memory_mib,
            None,
            status,
            outcome.error_type,
            trace,
        )
        self._close(fleet, instance, ended, "")
        outcome = replace(outcome, tail=instance.tail.text(), trace_id=job.call.trace_id)
        self.tally.ended(fleet.name, instance.kind, outcome, seconds)
        job.answer(outcome)

    def note(self, fleet: Fleet, lines: Sequence[str], tail: Tail | None = None) -> None:
        """Write the platform's own lines, which no limit drops."""
        at_ns = self._clock.unix_ns()
        for line in lines:
            fleet.ring.note(line, at_ns=at_ns)
            if tail is not None:
                tail.append(line)

    def _opening(self, fleet: Fleet, call: Call, trace: Trace | None) -> list[str]:
        return fleet.style.start(self._clock.unix_ns(), call.request_id, trace)

    def _close(self, fleet: Fleet, instance: Instance, ended: Ended, text: str) -> None:
        at_ns = self._clock.unix_ns()
        lines: list[str] = []
        if text:
            kind = "" if ended.status == "timeout" else ended.error_type
            if kind == outcomes.OUT_OF_MEMORY:
                kind = outcomes.EXITED
            lines = fleet.style.broken(at_ns, ended.request_id, text, kind)
        self.note(fleet, lines + fleet.style.end(at_ns, ended), instance.tail)

    def _learn(self, fleet: Fleet, end: _End, seconds: float) -> None:
        fleet.demand.ran(seconds)
        if end.answer.used_mib is not None:
            fleet.used_mib = max(fleet.used_mib or 0, end.answer.used_mib)

    @staticmethod
    def _used(fleet: Fleet, end: _End) -> int | None:
        if end.kind == outcomes.OUT_OF_MEMORY:
            return fleet.launch.memory_mib
        used = end.answer.used_mib
        return None if used is None else min(used, fleet.launch.memory_mib)

    async def _call(self, vm: Vm, call: Call, seconds: float, stream: Patient | None) -> _End:
        """Return what the call gave and, when the VM is spent, why."""
        deadline_ms = self._clock.unix_ns() // 1_000_000 + round(seconds * 1000)
        try:
            async with asyncio.timeout(seconds):
                answer = await vm.invoke(replace(call, deadline_ms=deadline_ms), stream)
        except TimeoutError:
            payload = outcomes.timed_out(call.request_id, seconds)
            text = f"Task timed out after {seconds:.2f} seconds"
            return _End(_error(payload), "timeout", outcomes.TIMED_OUT, text)
        except Crashed as crash:
            payload = outcomes.exited(call.request_id, how(crash), crash.error_type)
            kind = outcomes.OUT_OF_MEMORY if crash.out_of_memory else crash.error_type
            return _End(_error(payload), "error", kind, outcomes.exit_text(how(crash)))
        if answer.error == outcomes.TOO_LARGE:
            return _End(answer, "error", outcomes.TOO_LARGE)
        return _End(answer)


def how(crash: Crashed) -> str:
    """Return how the runtime ended, in Lambda's words; empty for exit status 0."""
    if crash.exit_status is not None:
        return f"exit status {crash.exit_status}" if crash.exit_status else ""
    names = {signal.SIGKILL: "killed", signal.SIGSEGV: "segmentation fault"}
    number = crash.signal or signal.SIGKILL
    try:
        return f"signal: {names.get(signal.Signals(number)) or signal.Signals(number).name}"
    except ValueError:
        return f"signal: {number}"


def _timing(fleet: Fleet, seconds: float, first: float | None, kind: Kind) -> Timing:
    billed = fleet.launch.initialization != "provisioned-concurrency"
    if kind is Kind.RESTORED:
        return Timing(seconds, restore=first, billed_init=billed)
    return Timing(seconds, init=first, billed_init=billed)


def _outcome(call: Call, end: _End, kind: Kind, tail: bytes) -> Outcome:
    error = None if end.answer.error is None else "Unhandled"
    return Outcome(
        end.answer.payload,
        error,
        kind,
        tail,
        content_type=end.answer.content_type,
        trace_id=call.trace_id,
        error_type=end.kind or (_named(end.answer) if error else ""),
    )


def _named(answer: Answer) -> str:
    """Return what the function's own error is called."""
    try:
        document = json.loads(answer.payload)
    except (ValueError, RecursionError):
        return answer.error or ""
    found = document.get("errorType") if isinstance(document, dict) else None
    return found if isinstance(found, str) else answer.error or ""


def _error(payload: bytes) -> Answer:
    return Answer(payload, "Unhandled", "application/json")
