"""The platform's own lines in a function's log, as text or as JSON records. Pure.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-lifecycle.html and
https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from faas.telemetry.tracing import Trace
from faas.vm import Launch


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the parts of an invocation took, in seconds.

    Attributes:
        run: From the call to the answer.
        init: The boot that the call waited for or was the first to use; None: it had none.
        restore: The same of a start from a snapshot.
        billed_init: Whether the start counts as billed: it does unless it was provisioned.
    """

    run: float
    init: float | None = None
    restore: float | None = None
    billed_init: bool = True

    @property
    def billed_ms(self) -> int:
        """Whole milliseconds, the start included.

        Source: https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase
        """
        start = (self.init or 0.0) + (self.restore or 0.0) if self.billed_init else 0.0
        return max(1, math.ceil(round((self.run + start) * 1000, 2)))


@dataclass(frozen=True, slots=True)
class Ended:
    """What is to be said of an invocation that ended.

    Attributes:
        used_mib: The most memory that the function used; None: not measured, and not claimed.
        status: ``timeout`` or ``error`` when the sandbox ended with it, else empty.
        error_type: What ended it, with the status ``error``.
        trace: What the function was told.
    """

    request_id: str
    timing: Timing
    memory_mib: int
    used_mib: int | None = None
    status: str = ""
    error_type: str = ""
    trace: Trace | None = None


class Style(Protocol):
    """Words what happens; each method returns whole lines."""

    def init_start(self, at_ns: int) -> list[str]:
        """An instance boots."""
        ...

    def restore_start(self, at_ns: int) -> list[str]:
        """An instance is restored."""
        ...

    def restored(self, at_ns: int, seconds: float) -> list[str]:
        """It came up."""
        ...

    def init_failed(self, at_ns: int, seconds: float, status: str, kind: str) -> list[str]:
        """An instance did not come up: ``status`` is ``error`` or ``timeout``."""
        ...

    def start(self, at_ns: int, request_id: str, trace: Trace | None) -> list[str]:
        """An invocation begins."""
        ...

    def broken(self, at_ns: int, request_id: str, text: str, kind: str) -> list[str]:
        """The platform ends an invocation; ``kind`` is empty for a timeout."""
        ...

    def end(self, at_ns: int, ended: Ended) -> list[str]:
        """An invocation ended."""
        ...


def style(launch: Launch) -> Style:
    """Return how the log of ``launch`` is worded."""
    return Records(launch) if launch.json_logs else Text(launch)


@dataclass(frozen=True, slots=True)
class Text:
    """Lines as CloudWatch shows them for ``LogFormat: Text``."""

    launch: Launch

    def init_start(self, at_ns: int) -> list[str]:
        """See `Style.init_start`; a container has no runtime of ours to name."""
        return self._started("INIT_START")

    def restore_start(self, at_ns: int) -> list[str]:
        """See `Style.restore_start`."""
        return self._started("RESTORE_START")

    def restored(self, at_ns: int, seconds: float) -> list[str]:
        """See `Style.restored`."""
        return [f"RESTORE_REPORT Restore Duration: {seconds * 1000:.2f} ms"]

    def init_failed(self, at_ns: int, seconds: float, status: str, kind: str) -> list[str]:
        """See `Style.init_failed`."""
        line = f"INIT_REPORT Init Duration: {seconds * 1000:.2f} ms\tPhase: init"
        return [line + _status(status, kind)]

    def start(self, at_ns: int, request_id: str, trace: Trace | None) -> list[str]:
        """See `Style.start`."""
        return [f"START RequestId: {request_id} Version: {self.launch.version}"]

    def broken(self, at_ns: int, request_id: str, text: str, kind: str) -> list[str]:
        """See `Style.broken`."""
        if not kind:
            return [f"{_moment(at_ns)} {request_id} {text}"]
        return [f"RequestId: {request_id} Error: {text}", kind]

    def end(self, at_ns: int, ended: Ended) -> list[str]:
        """See `Style.end`."""
        timing = ended.timing
        parts = [
            f"REPORT RequestId: {ended.request_id}",
            f"Duration: {timing.run * 1000:.2f} ms",
            f"Billed Duration: {timing.billed_ms} ms",
            f"Memory Size: {ended.memory_mib} MB",
        ]
        if ended.used_mib is not None:
            parts.append(f"Max Memory Used: {ended.used_mib} MB")
        if timing.init is not None:
            parts.append(f"Init Duration: {timing.init * 1000:.2f} ms")
        if timing.restore is not None:
            billed = math.ceil(timing.restore * 1000) if timing.billed_init else 0
            parts.append(f"Restore Duration: {timing.restore * 1000:.2f} ms")
            parts.append(f"Billed Restore Duration: {billed} ms")
        lines = [
            f"END RequestId: {ended.request_id}",
            "\t".join(parts) + (_status(ended.status, ended.error_type) or "\t"),
        ]
        if ended.trace is not None and ended.trace.sampled:
            trace = ended.trace
            lines.append(f"XRAY TraceId: {trace.root}\tSegmentId: {trace.span}\tSampled: true\t")
        return lines

    def _started(self, what: str) -> list[str]:
        runtime = _runtime(self.launch)
        if runtime is None:
            return []
        version, arn = runtime
        return [f"{what} Runtime Version: {version}\tRuntime Version ARN: {arn}"]


@dataclass(frozen=True, slots=True)
class Records:
    """JSON records as CloudWatch shows them for ``LogFormat: JSON``."""

    launch: Launch

    def init_start(self, at_ns: int) -> list[str]:
        """See `Style.init_start`."""
        how = {"initializationType": self.launch.initialization, "phase": "init"}
        return [_record(at_ns, "platform.initStart", how | self._environment())]

    def restore_start(self, at_ns: int) -> list[str]:
        """See `Style.restore_start`."""
        return [_record(at_ns, "platform.restoreStart", self._environment())]

    def restored(self, at_ns: int, seconds: float) -> list[str]:
        """See `Style.restored`."""
        record = {"status": "success", "metrics": {"durationMs": _ms(seconds)}}
        return [_record(at_ns, "platform.restoreReport", record)]

    def init_failed(self, at_ns: int, seconds: float, status: str, kind: str) -> list[str]:
        """See `Style.init_failed`."""
        record: dict[str, Any] = {
            "initializationType": self.launch.initialization,
            "phase": "init",
            "status": status,
            "metrics": {"durationMs": _ms(seconds)},
        }
        if status == "error":
            record["errorType"] = kind
        return [_record(at_ns, "platform.initReport", record)]

    def start(self, at_ns: int, request_id: str, trace: Trace | None) -> list[str]:
        """See `Style.start`."""
        record = {"requestId": request_id, "version": self.launch.version} | _tracing(trace)
        return [_record(at_ns, "platform.start", record)]

    def broken(self, at_ns: int, request_id: str, text: str, kind: str) -> list[str]:
        """See `Style.broken`; the report says it."""
        return []

    def end(self, at_ns: int, ended: Ended) -> list[str]:
        """See `Style.end`."""
        timing = ended.timing
        metrics: dict[str, float] = {
            "durationMs": _ms(timing.run),
            "billedDurationMs": timing.billed_ms,
            "memorySizeMB": ended.memory_mib,
        }
        if ended.used_mib is not None:
            metrics["maxMemoryUsedMB"] = ended.used_mib
        if timing.init is not None:
            metrics["initDurationMs"] = _ms(timing.init)
        if timing.restore is not None:
            billed = math.ceil(timing.restore * 1000) if timing.billed_init else 0
            metrics |= {
                "restoreDurationMs": _ms(timing.restore),
                "billedRestoreDurationMs": billed,
            }
        record: dict[str, Any] = {
            "requestId": ended.request_id,
            "metrics": metrics,
            "status": ended.status or "success",
        }
        if ended.error_type and ended.status == "error":
            record["errorType"] = ended.error_type
        return [_record(at_ns, "platform.report", record | _tracing(ended.trace))]

    def _environment(self) -> dict[str, str]:
        launch = self.launch
        found = {"functionName": launch.function, "functionVersion": launch.version}
        if (runtime := _runtime(launch)) is not None:
            found |= {"runtimeVersion": runtime[0], "runtimeVersionArn": runtime[1]}
        return found


def _runtime(launch: Launch) -> tuple[str, str] | None:
    """Return the runtime as Lambda writes it, and an ARN that names it; None for a container."""
    if not launch.runtime:
        return None
    name = launch.runtime.rstrip("0123456789.x").partition(".")[0]
    version = launch.runtime.removeprefix(name).strip(".").removesuffix(".x")
    digest = hashlib.sha256(launch.runtime.encode()).hexdigest()
    return f"{name}:{version}", f"arn:aws:lambda:{launch.region}::runtime:{digest}"


def _status(status: str, kind: str) -> str:
    if status == "error" and kind:
        return f"\tStatus: error\tError Type: {kind}"
    return f"\tStatus: {status}" if status else ""


def _tracing(trace: Trace | None) -> dict[str, Any]:
    if trace is None:
        return {}
    told = {"spanId": trace.span, "type": "X-Amzn-Trace-Id", "value": trace.header()}
    return {"tracing": told}


def _record(at_ns: int, kind: str, record: Mapping[str, Any]) -> str:
    return json.dumps({"time": _moment(at_ns), "type": kind, "record": record})


def _moment(at_ns: int) -> str:
    moment = datetime.fromtimestamp(at_ns // 1_000_000 / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
