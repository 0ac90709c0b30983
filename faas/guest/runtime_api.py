"""Lambda's Runtime API, for an unmodified runtime.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html,
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
and, for restore, https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks.html.
"""

import base64
import binascii
import json
import socket
import threading

from faas.guest.http1 import BadRequest, Request, response
from faas.guest.link import Link, StreamReset
from faas.guest.output import Output
from faas.guest.phases import Phases
from faas.guest.server import accepted, refusal
from faas.guest.slot import Slot

MAX_PAYLOAD = 6 * (1 << 20) + 100
ROOT = "/2018-06-01/runtime/"
_MAX_TRAILER = 32768
_MODE = "lambda-runtime-function-response-mode"
_ERROR_TYPE = "lambda-runtime-function-error-type"
_ERROR_BODY = "lambda-runtime-function-error-body"


class RuntimeApi:
    """Serves one runtime.

    Args:
        link: Where results go.
        output: Flushed before each result.
        phases: Told what the runtime does.
    """

    def __init__(self, link: Link, output: Output, phases: Phases) -> None:
        self._link = link
        self._output = output
        self._phases = phases
        self._lock = threading.Lock()
        self._running: str | None = None
        self._failed = False
        self.events = Slot()
        self.proceed = Slot()

    def answer(self, request: Request, connection: socket.socket) -> bytes | None:
        """Answer one request; None when the client has hung up."""
        path = request.path.removeprefix(ROOT).split("/")
        match request.method, path:
            case "GET", ["invocation", "next"]:
                return self._next(connection)
            case "POST", ["invocation", "rehearsal", "response"] if not self._phases.ready:
                return accepted()
            case "POST", ["invocation", request_id, "response" | "error" as kind]:
                return self._result(request_id, kind, request)
            case "POST", ["init" | "restore" as phase, "error"]:
                return self._failed_early(phase, request)
            case "GET", ["restore", "next"]:
                return self._park(connection)
            case _:
                return refusal(404, "NotFound", f"no such operation: {request.method} {path[:3]}")

    def _failed_early(self, phase: str, request: Request) -> bytes:
        """Take note that init or restore has failed, once, and only while it is under way."""
        with self._lock:
            if self._phases.ready or self._failed:
                said = f"State transition is not allowed: {phase} error"
                return refusal(403, "InvalidStateTransition", said)
            self._failed = True
        self._send(f"{phase}-error", "", request, request.body.collected(MAX_PAYLOAD))
        return accepted()

    def _park(self, connection: socket.socket) -> bytes | None:
        self._output.flush()
        self._phases.used()  # a clone that looks again finds its files open
        self._phases.park()
        if not self.proceed.take(connection):
            return None
        self._phases.unpark()
        return response(200, b"")

    def _next(self, connection: socket.socket) -> bytes | None:
        """Wait for an event; what is still to come of the last one counts until there is one.

        A runtime that hangs up on its response may be heard on another connection first.
        """
        self._output.flush()
        self._phases.runtime_waits()
        event = self.events.take(connection)
        if event is None:
            return None
        headers, body = event
        self._running = headers["Lambda-Runtime-Aws-Request-Id"]
        return response(200, body, headers)

    def _result(self, request_id: str, kind: str, request: Request) -> bytes:
        with self._lock:
            if request_id != self._running:
                return refusal(400, "InvalidRequestID", "Invalid request ID")
            self._running = None
        if kind == "response" and request.headers.get(_MODE, "").lower() == "streaming":
            return self._stream(request_id, request)
        body = request.body.collected(MAX_PAYLOAD)
        if body is None:
            return self._too_large(request_id, request.body.size)
        self._send(kind, request_id, request, body)
        self._phases.answered("success" if kind == "response" else "error", len(body))
        return accepted()

    def _too_large(self, request_id: str, size: int) -> bytes:
        said = (
            f"Response payload size ({size} bytes) exceeded maximum allowed payload "
            f"size ({MAX_PAYLOAD} bytes)."
        )
        document = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": said}
        self._output.flush()
        self._link.send_result(
            {
                "kind": "error",
                "request_id": request_id,
                "content_type": "application/json",
                "error_type": "Function.ResponseSizeTooLarge",
                "used_kib": self._phases.used(),
            },
            json.dumps(document).encode(),
        )
        self._phases.answered("error", 0)
        return refusal(413, "RequestEntityTooLarge", said)

    def _stream(self, request_id: str, request: Request) -> bytes:
        """Pass a response on as it comes; the host's credit slows the runtime down."""
        stream = self._link.begin_result(
            {
                "kind": "response",
                "streaming": True,
                "request_id": request_id,
                "content_type": request.headers.get("content-type", "application/octet-stream"),
            }
        )
        error: dict[str, object] = {}
        try:
            for piece in request.body.pieces():
                self._link.send_data(stream, piece)
            error = _trailed(request)
        except (BadRequest, OSError):
            error = {"error_type": "Runtime.TruncatedResponse", "error_body": ""}
            raise
        except StreamReset:
            return accepted()
        finally:
            self._output.flush()
            self._link.end_result(stream, {**error, "used_kib": self._phases.used()})
            self._phases.answered("error" if error else "success", request.body.size)
        return accepted()

    def _send(self, kind: str, request_id: str, request: Request, body: bytes | None) -> None:
        self._output.flush()
        self._link.send_result(
            {
                "kind": kind,
                "request_id": request_id,
                "content_type": request.headers.get("content-type", "application/json"),
                "error_type": request.headers.get(_ERROR_TYPE, ""),
                "used_kib": self._phases.used(),
            },
            body or b"",
        )


def _trailed(request: Request) -> dict[str, object]:
    """Return the error that came after a streamed response; empty when none did."""
    error_type = request.body.trailers.get(_ERROR_TYPE, "")
    if not error_type:
        return {}
    coded = request.body.trailers.get(_ERROR_BODY, "")[:_MAX_TRAILER]
    try:
        body = base64.b64decode(coded).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        body = ""
    return {"error_type": error_type[:200], "error_body": body}
