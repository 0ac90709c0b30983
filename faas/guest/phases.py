"""The phases of an instance's life: init, invocations, and what is told of each."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from faas.guest.extensions import Extension
from faas.guest.link import Kind, Link
from faas.guest.order import Order
from faas.guest.rounds import RUNTIME, Rounds
from faas.guest.telemetry import Telemetry


@dataclass(slots=True)
class _Invocation:
    """One invocation under way."""

    id: str
    began: float
    status: str = "success"
    produced: int = 0


class Phases:
    """Follows one instance and tells the host and the telemetry of it.

    Args:
        link: To the host.
        telemetry: To extensions.
        used: Returns how many KiB the function has used at most.
    """

    def __init__(self, link: Link, telemetry: Telemetry, used: Callable[[], int]) -> None:
        self._link = link
        self._telemetry = telemetry
        self.used = used
        self.rounds = Rounds(self._rested)
        self.parked = False
        self.initialized = False
        self.ready = False
        self._order: Order | None = None
        self._began = 0.0
        self._init_ms = 0.0
        self._runtime_waited = False
        self._invocation: _Invocation | None = None
        self.settled: Callable[[], int] = lambda: 0

    def begin_init(self, order: Order) -> None:
        """Note that init begins."""
        self._order = order
        self._began = time.monotonic()
        self._telemetry.emit(
            "platform.initStart",
            {
                **self._init_facts(),
                "functionName": order["function"],
                "functionVersion": order["version"],
                "instanceMaxMemory": order["memory_mib"] << 20,
            },
        )

    def registered(self, extension: Extension) -> None:
        """Note that an extension has registered."""
        events = sorted(extension.events or ())
        record = {"name": extension.name, "state": "Ready", "events": events}
        self._telemetry.emit("platform.extension", record)

    def failed(self, status: str = "error") -> None:
        """Note that init or the invocation under way has failed."""
        if not self.initialized:
            self._telemetry.emit(
                "platform.initRuntimeDone", {**self._init_facts(), "status": status}
            )
        elif self._invocation is not None:
            self._invocation.status = status
            self._runtime_done(self._invocation)

    def begin_invocation(self, headers: Mapping[str, str]) -> None:
        """Note that an event goes to the runtime."""
        request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self._invocation = _Invocation(request_id, time.monotonic())
        self.rounds.works({RUNTIME})
        version = self._order["version"] if self._order else ""
        record: dict[str, object] = {"requestId": request_id, "version": version}
        trace = headers.get("Lambda-Runtime-Trace-Id")
        if trace:
            record["tracing"] = {"type": "X-Amzn-Trace-Id", "value": trace}
        self._telemetry.emit("platform.start", record)

    def answered(self, status: str, size: int) -> None:
        """Note what the runtime answered."""
        if self._invocation is not None:
            self._invocation.status, self._invocation.produced = status, size

    def runtime_waits(self) -> None:
        """Note that the runtime asks for the next event."""
        if not self._runtime_waited:
            self._runtime_waited = True
            facts = self._init_facts()
            self._telemetry.emit("platform.initRuntimeDone", {**facts, "status": "success"})
        elif self._invocation is not None:
            self._runtime_done(self._invocation)
        self.rounds.waits(RUNTIME)

    def park(self) -> None:
        """Note that the runtime waits at its restore point."""
        self.parked = True
        self.runtime_waits()

    def unpark(self) -> None:
        """Note that the runtime goes on from its restore point."""
        self.parked = False
        self.rounds.works({RUNTIME})

    def _rested(self) -> None:
        if not self.initialized:
            self.initialized = True
            self._init_ms = _ms(self._began)
            metrics = {"durationMs": self._init_ms}
            self._telemetry.emit(
                "platform.initReport",
                {**self._init_facts(), "status": "success", "metrics": metrics},
            )
        extensions = self.settled()
        if self.parked:
            self._link.send(Kind.PARKED)
        elif not self.ready:
            self.ready = True
            self._link.send_json(Kind.READY, extensions=extensions)
        elif self._invocation is not None:
            if self._telemetry.heard:
                self._report(self._invocation)
            self._invocation = None
            if extensions:
                self._link.send(Kind.RESTED)

    def _init_facts(self) -> dict[str, object]:
        kind = self._order["initialization"] if self._order else "on-demand"
        return {"initializationType": kind, "phase": "init"}

    def _runtime_done(self, invocation: _Invocation) -> None:
        metrics = {"durationMs": _ms(invocation.began), "producedBytes": invocation.produced}
        self._telemetry.emit(
            "platform.runtimeDone",
            {"requestId": invocation.id, "status": invocation.status, "metrics": metrics},
        )

    def _report(self, invocation: _Invocation) -> None:
        duration = _ms(invocation.began)
        metrics: dict[str, object] = {
            "durationMs": duration,
            "billedDurationMs": int(-(-duration // 1)),
            "memorySizeMB": self._order["memory_mib"] if self._order else 0,
            "maxMemoryUsedMB": -(-self.used() // 1024),
        }
        if self._init_ms:
            metrics["initDurationMs"] = self._init_ms
            self._init_ms = 0.0
        self._telemetry.emit(
            "platform.report",
            {"requestId": invocation.id, "status": invocation.status, "metrics": metrics},
        )


def _ms(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 3)
