"""What an invocation came to: the payloads and log lines that Lambda's users know."""

import json
import math
from dataclasses import dataclass
from enum import StrEnum

TOO_LARGE = "Function.ResponseSizeTooLarge"
"""The error of an answer over the limit; the runtime that made it does not go on."""
MAX_PAYLOAD = 6 * 1024 * 1024
"""Most bytes in a request. Source: Lambda quotas, "Invocation payload"."""


class Kind(StrEnum):
    """What state the instance that took a call was in.

    ``cold`` booted for it, ``restored`` came from a snapshot for it, ``frozen`` was thawed,
    ``warm`` was still running.
    """

    COLD = "cold"
    RESTORED = "restored"
    FROZEN = "frozen"
    WARM = "warm"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one invocation.

    Attributes:
        payload: The function's answer, or the error as JSON.
        error: None when the function returned, else ``Unhandled``.
        kind: How the instance came by.
        tail: The last bytes that the invocation logged.
    """

    payload: bytes
    error: str | None
    kind: Kind
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the parts of an invocation took, in seconds.

    Attributes:
        run: From the call to the answer.
        start: The start of the instance, when this was its first call, else None.
        kind: What ``start`` was.
    """

    run: float
    start: float | None
    kind: Kind


def failure(error_type: str, message: str) -> bytes:
    """Return an error that the platform reports on the function's behalf."""
    return json.dumps({"errorType": error_type, "errorMessage": message}).encode()


def timed_out(request_id: str, seconds: float) -> bytes:
    """Return the error of a function that overran ``seconds``."""
    return failure(
        "Sandbox.Timedout",
        f"RequestId: {request_id} Error: Task timed out after {seconds:.2f} seconds",
    )


def exited(request_id: str, how: str) -> bytes:
    """Return the error of a runtime that ended before it answered.

    Args:
        request_id: Of the call in flight.
        how: ``exit status 3`` or ``signal: killed``; empty when the status was 0.
    """
    what = (
        f"Runtime exited with error: {how}" if how else "Runtime exited without providing a reason"
    )
    return failure("Runtime.ExitError", f"RequestId: {request_id} Error: {what}")


def init_failed(request_id: str, payload: bytes, error_type: str, message: str) -> bytes:
    """Return the error of a function that could not be loaded, as its runtime reported it.

    Args:
        request_id: Of the call that wanted the function.
        payload: The runtime's report; empty when it made none.
        error_type: Used without a report.
        message: Used without a report.
    """
    try:
        report = json.loads(payload)
    except (ValueError, RecursionError):
        report = None
    if not isinstance(report, dict):
        return failure(error_type, message)
    return json.dumps({**report, "requestId": request_id}).encode()


def start_line(request_id: str, version: str) -> str:
    """Return the log line that opens an invocation."""
    return f"START RequestId: {request_id} Version: {version}"


def end_lines(request_id: str, timing: Timing, memory_mib: int, status: str = "") -> list[str]:
    """Return the log lines that close an invocation.

    Args:
        request_id: The invocation.
        timing: What it took.
        memory_mib: What the function may use. What it did use is not measured and not claimed.
        status: ``timeout`` or ``error`` when the sandbox ended, else empty.
    """
    ms = timing.run * 1000
    parts = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {ms:.2f} ms",
        f"Billed Duration: {max(1, math.ceil(ms))} ms",
        f"Memory Size: {memory_mib} MB",
    ]
    if timing.start is not None:
        what = "Restore" if timing.kind is Kind.RESTORED else "Init"
        parts.append(f"{what} Duration: {timing.start * 1000:.2f} ms")
    if status:
        parts.append(f"Status: {status}")
    return [f"END RequestId: {request_id}", "\t".join(parts)]
