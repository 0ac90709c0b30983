"""The documents in which an event ends: destination records and dead letters. Pure.

Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from faas.events.event import MAX_EVENT, Progress


@dataclass(frozen=True, slots=True)
class Response:
    """What the last try gave.

    Attributes:
        payload: JSON.
        version: Which version of the function ran.
        error: ``Unhandled`` or ``Handled``; None on success.
    """

    payload: bytes
    version: str
    error: str | None

    def context(self) -> dict[str, Any]:
        """Return the ``responseContext`` of records."""
        said: dict[str, Any] = {"statusCode": 200, "executedVersion": self.version}
        return said if self.error is None else {**said, "functionError": self.error}


def record(progress: Progress, payload: bytes, response: Response | None, *, now: float) -> bytes:
    """Return the record of an ended event, at most `MAX_EVENT` bytes.

    A record over the limit, or too deep to be written, is written without the response's
    payload, then without the request's: null stands in their place.

    Args:
        progress: The event, ended.
        payload: Of the event.
        response: What the last try gave; None: the function did not run in it.
        now: Unix seconds.
    """
    condition = progress.condition
    document: dict[str, Any] = {
        "version": "1.0",
        "timestamp": timestamp(now),
        "requestContext": {
            "requestId": progress.id,
            "functionArn": qualified(progress.arn, progress.qualifier),
            "condition": None if condition is None else condition.value,
            "approximateInvokeCount": progress.tries,
        },
        "requestPayload": parsed(payload),
    }
    if response is not None:
        document["responseContext"] = response.context()
        document["responsePayload"] = parsed(response.payload)
    for dropped in ("responsePayload", "requestPayload"):
        body = _encoded(document)
        if body is not None and len(body) <= MAX_EVENT:
            return body
        document[dropped] = None
    return _encoded(document) or b"{}"


def letter_attributes(progress: Progress) -> dict[str, tuple[str, str]]:
    """Return the attributes of the dead letter whose body is the event: type and value."""
    return {
        "RequestID": ("String", progress.id),
        "ErrorCode": ("Number", str(progress.code)),
        "ErrorMessage": ("String", progress.reason or "Unknown"),
    }


def qualified(arn: str, qualifier: str) -> str:
    """Return a function's ARN with its qualifier, which it may have already."""
    parts = arn.split(":")
    return ":".join([*parts[:7], qualifier]) if len(parts) <= _UNQUALIFIED else arn


_UNQUALIFIED = 7


def timestamp(now: float) -> str:
    """Return ``now`` (Unix seconds) as records write it."""
    moment = datetime.fromtimestamp(now, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def parsed(payload: bytes) -> Any:
    """Return a payload's JSON, or its text where it is none."""
    if not payload:
        return None
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return payload.decode(errors="replace")


def _encoded(document: dict[str, Any]) -> bytes | None:
    """Return a document as JSON; None when it is deeper than can be written."""
    try:
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    except RecursionError:
        return None
    return text.encode(errors="replace")
