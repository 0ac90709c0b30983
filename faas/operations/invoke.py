"""Running functions: Invoke, InvokeWithResponseStream and the older InvokeAsync.

Source: AWS Lambda API Reference; Lambda quotas, "Function configuration, deployment, and
execution".
"""

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import replace

from faas.api.asked import Answered, Asked, EventSink, Operation
from faas.api.parse import refuse_constant
from faas.events import lineage
from faas.events.event import MAX_EVENT
from faas.functions.control import Functions, Invocation
from faas.lambda_errors import (
    InvalidParameter,
    InvalidRequestContent,
    LambdaError,
    RecursiveInvocation,
)
from faas.model import recursion
from faas.model.function import Reference
from faas.model.recursion import Recursion
from faas.operations.names import asked_for
from faas.records import Records
from faas.running.outcome import TOO_LARGE, Outcome
from faas.vm import Stream

MAX_STREAM = 200 * (1 << 20)
"""Most bytes in a response that streams."""
MAX_CHUNK = 1 << 20
"""Most bytes in one ``PayloadChunk``."""
MAX_CONTEXT = 3583
"""Most bytes of client context in base64."""
_QUICK = 1 << 18
"""Bytes of JSON that are checked at once in the loop; more are checked beside it."""
_ABSENT = ("DurableExecutionName", "TenantId")


class EventTooLarge(LambdaError):
    """The payload is over what an asynchronous invocation may have."""

    code, status, fault = "RequestEntityTooLargeException", 413, "User"

    def __init__(self, size: int) -> None:
        super().__init__(
            f"{size} byte payload is too large for the Event invocation type "
            f"(limit {MAX_EVENT} bytes)"
        )
        self.size = size


class InvokeOperations:
    """The three operations over the functions of this process."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._recursions = Records(functions.registry.store, recursion.PREFIX, Recursion)

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {
            "Invoke": self.invoke,
            "InvokeWithResponseStream": self.stream,
            "InvokeAsync": self.invoke_async,
        }

    async def invoke(self, asked: Asked) -> Answered:
        """Invoke: RequestResponse, Event or DryRun.

        A caller who hangs up does not end the call, as on Lambda: the function's timeout does.
        """
        kind = asked.get("InvocationType", "RequestResponse")
        reference, invocation = await self._read(asked, asked.get("Payload", b""))
        if kind == "Event":
            if len(invocation.payload) > MAX_EVENT:
                raise EventTooLarge(len(invocation.payload))
            await self._functions.accept(reference, invocation)
            return Answered({"StatusCode": 202})
        function = (await self._functions.registry.resolve(reference)).function
        if kind == "DryRun":
            return Answered({"StatusCode": 204})
        invocation = await self._onward(function.name, invocation)
        outcome = await self._functions.invoke(function, invocation)
        return Answered(
            {
                "StatusCode": 200,
                "ExecutedVersion": function.version,
                "FunctionError": outcome.error,
                "LogResult": _tail(asked, outcome),
                "Payload": outcome.payload,
            },
            headers={"Content-Type": "application/json", **_headers(asked, outcome)},
        )

    async def stream(self, asked: Asked) -> Answered:
        """InvokeWithResponseStream: pieces as the function gives them."""
        reference, invocation = await self._read(asked, asked.get("Payload", b""))
        function = (await self._functions.registry.resolve(reference)).function
        if asked.get("InvocationType") == "DryRun":
            return Answered({"StatusCode": 204})
        invocation = await self._onward(function.name, invocation)

        async def events(sink: EventSink) -> None:
            chunks = Chunks(sink, function.version)
            outcome = await self._functions.invoke(function, invocation, chunks)
            await chunks.complete(outcome, _tail(asked, outcome))

        return Answered({"StatusCode": 200}, events=events)

    async def invoke_async(self, asked: Asked) -> Answered:
        """InvokeAsync: as Invoke with Event, in the form of 2014."""
        reference, invocation = await self._read(asked, asked["InvokeArgs"])
        await self._functions.accept(reference, invocation)
        return Answered({"Status": 202})

    async def _onward(self, function: str, invocation: Invocation) -> Invocation:
        """Count one more run of a function in the chain of calls that this one belongs to.

        A call without a trace belongs to none: what its function calls is the first to count.

        Raises:
            RecursiveInvocation: The function ran in this chain too often.
        """
        if not invocation.trace_id:
            return invocation
        trace_id, runs = lineage.counted(invocation.trace_id, function, event=invocation.request_id)
        if runs > lineage.LIMIT:
            found = await self._recursions.get(function)
            if found is None or found.loop != "Allow":
                raise RecursiveInvocation
        return replace(invocation, trace_id=trace_id)

    async def _read(self, asked: Asked, payload: bytes) -> tuple[Reference, Invocation]:
        for name in _ABSENT:
            if asked.get(name) is not None:
                raise InvalidParameter(f"{name} is not supported by Wherry, expected it left out")
        about = asked_for(self._functions.registry, asked)
        invocation = Invocation(
            payload=await checked(payload),
            request_id=asked.request_id,
            client_context=client_context(asked.get("ClientContext", "")),
            trace_id=asked.trace_id,
            arn=about.arn,
        )
        return about.reference, invocation


class Chunks(Stream):
    """A function's pieces as events; over `MAX_STREAM` bytes the rest is dropped and told."""

    def __init__(self, sink: EventSink, version: str) -> None:
        self._sink = sink
        self._version = version
        self._size = 0
        self._begun = False

    async def begin(self, content_type: str) -> None:
        """See `faas.vm.Stream.begin`; the type goes on in a header, as Lambda remaps it."""
        self._begun = True
        await self._sink.begin({"StatusCode": 200, "ExecutedVersion": self._version})

    async def write(self, piece: bytes) -> None:
        """See `faas.vm.Stream.write`."""
        room = MAX_STREAM - self._size
        self._size += len(piece)
        view = memoryview(piece)[: max(0, room)]
        for at in range(0, len(view), MAX_CHUNK):
            await self._sink.send("PayloadChunk", {"Payload": bytes(view[at : at + MAX_CHUNK])})

    async def complete(self, outcome: Outcome, tail: str | None) -> None:
        """Send the last event, which says how it went."""
        if not self._begun:
            await self.begin("application/octet-stream")
        code, details = _failure(outcome)
        if not code and self._size > MAX_STREAM:
            code, details = TOO_LARGE, too_large(self._size)
        await self._sink.send(
            "InvokeComplete",
            {"ErrorCode": code or None, "ErrorDetails": details or None, "LogResult": tail},
        )


def too_large(size: int) -> str:
    """Return what is said of a streamed response of ``size`` bytes."""
    return f"Response payload size ({size} bytes) exceeded maximum allowed ({MAX_STREAM} bytes)."


def client_context(text: str) -> str:
    """Return the client context as JSON on one line of ASCII, empty when there is none.

    It travels on in a header, where a line break would end it.

    Raises:
        InvalidRequestContent: It is not base64 of a JSON object, or over `MAX_CONTEXT`.
    """
    if not text:
        return ""
    if len(text) > MAX_CONTEXT:
        raise InvalidRequestContent(
            f"Client context: found {len(text)} bytes, expected at most {MAX_CONTEXT} in base64"
        )
    try:
        found = json.loads(base64.b64decode(text, validate=True))
        written = json.dumps(found)
    except (binascii.Error, ValueError, RecursionError):
        found, written = None, ""
    if not isinstance(found, dict):
        raise InvalidRequestContent("Client context must be a valid Base64-encoded JSON object.")
    return written


async def checked(payload: bytes) -> bytes:
    """Return ``payload``, or an empty object when it is empty.

    Raises:
        InvalidRequestContent: It is not JSON in UTF-8.
    """
    if not payload:
        return b"{}"
    try:
        if len(payload) > _QUICK:
            await asyncio.to_thread(_read, payload)
        else:
            _read(payload)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestContent(
            f"Could not parse request body into json: {str(error)[:200]}"
        ) from error
    return payload


def _read(payload: bytes) -> None:
    json.loads(payload.decode(), parse_constant=refuse_constant)


def _failure(outcome: Outcome) -> tuple[str, str]:
    """Return the code and the details of the error that ended a streamed call."""
    if outcome.error is None:
        return "", ""
    try:
        found = json.loads(outcome.payload)
    except (ValueError, RecursionError):
        found = None
    code = found.get("errorType") if isinstance(found, dict) else None
    return str(code or outcome.error), outcome.payload.decode(errors="replace")


def _tail(asked: Asked, outcome: Outcome) -> str | None:
    wanted = asked.get("LogType") == "Tail"
    return base64.b64encode(outcome.tail).decode() if wanted else None


def _headers(asked: Asked, outcome: Outcome) -> dict[str, str]:
    headers = {"X-Wherry-Start": outcome.kind.value}
    if asked.trace_id:
        headers["X-Amzn-Trace-Id"] = asked.trace_id
    return headers
