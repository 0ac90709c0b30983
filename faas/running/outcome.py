"""What an invocation came to: the payloads that Lambda's users know. Pure."""

import json
from dataclasses import dataclass
from enum import StrEnum

TOO_LARGE = "Function.ResponseSizeTooLarge"
"""The error of an answer over the limit; the runtime that made it does not go on."""
TIMED_OUT = "Sandbox.Timedout"
EXITED = "Runtime.ExitError"
OUT_OF_MEMORY = "Runtime.OutOfMemory"
"""What a REPORT calls it; the caller's payload says `EXITED` and ``signal: killed``."""
SLOW_READER = "Response.SlowReader"
"""The error of a streamed response that its reader did not take in time."""
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
        payload: The function's answer, or the error as JSON; empty when it went to a stream.
        error: None when the function returned, else ``Unhandled``.
        kind: How the instance came by.
        tail: The last bytes that the invocation logged.
        content_type: Of the payload.
        trace_id: What the function was told, as an ``X-Amzn-Trace-Id``; empty: none.
        error_type: What the platform calls the error; empty for the function's own.
        version: Which version of the function ran, where that is known.
    """

    payload: bytes
    error: str | None
    kind: Kind
    tail: bytes = b""
    content_type: str = "application/json"
    trace_id: str = ""
    error_type: str = ""
    version: str = "$LATEST"


def failure(error_type: str, message: str) -> bytes:
    """Return an error that the platform reports on the function's behalf."""
    return json.dumps({"errorType": error_type, "errorMessage": message}).encode()


def timed_out(request_id: str, seconds: float) -> bytes:
    """Return the error of a function that overran ``seconds``."""
    message = f"RequestId: {request_id} Error: Task timed out after {seconds:.2f} seconds"
    return failure(TIMED_OUT, message)


def exit_text(how: str) -> str:
    """Return what Lambda says of a runtime that ended before it answered.

    Args:
        how: ``exit status 3`` or ``signal: killed``; empty when the status was 0.
    """
    return (
        f"Runtime exited with error: {how}" if how else "Runtime exited without providing a reason"
    )


def exited(request_id: str, how: str, error_type: str = EXITED) -> bytes:
    """Return the error of a runtime that ended before it answered; see `exit_text`."""
    return failure(error_type, f"RequestId: {request_id} Error: {exit_text(how)}")


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
    named = {"errorType": error_type, "errorMessage": message}
    return json.dumps({**named, **report, "requestId": request_id}).encode()
