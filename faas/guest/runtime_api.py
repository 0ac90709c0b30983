"""Lambda's Runtime API on loopback, for an unmodified runtime.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html and, for restore,
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks.html.
"""

import json
import os
import select
import socket
import threading
from collections.abc import Mapping
from http import HTTPStatus

from faas.guest.http1 import BadRequest, Request, read_request, response
from faas.guest.link import Kind, Link
from faas.guest.output import Output

ADDRESS = ("127.0.0.1", 9001)
MAX_PAYLOAD = 6 * (1 << 20) + 100
_ROOT = "/2018-06-01/runtime/"
_JSON = {"Content-Type": "application/json"}


class Slot:
    """Holds at most one thing until a waiter whose client is still there takes it."""

    def __init__(self) -> None:
        self._wake = os.eventfd(0)
        self._lock = threading.Lock()
        self._thing: tuple[Mapping[str, str], bytes] | None = None

    def put(self, header: Mapping[str, str], body: bytes) -> None:
        """Offer a thing to whoever waits, now or later."""
        with self._lock:
            if self._thing is None:
                os.eventfd_write(self._wake, 1)
            self._thing = (header, body)

    def take(self, client: socket.socket) -> tuple[Mapping[str, str], bytes] | None:
        """Wait for a thing; return None, and take nothing, once ``client`` has hung up."""
        while True:
            readable, _, _ = select.select([self._wake, client.fileno()], [], [])
            if client.fileno() in readable:
                return None
            with self._lock:
                if self._thing is not None:
                    os.eventfd_read(self._wake)
                    thing, self._thing = self._thing, None
                    return thing


class RuntimeApi:
    """Serves one runtime.

    Args:
        link: Where results go.
        output: Flushed before each result.
    """

    def __init__(self, link: Link, output: Output) -> None:
        self._link = link
        self._output = output
        self._running: str | None = None
        self._ready = False
        self.events = Slot()
        self.proceed = Slot()
        self._listener = socket.create_server(ADDRESS)

    def run(self) -> None:
        """Accept connections, each in a thread of its own."""
        while True:
            connection, _ = self._listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as source:
            try:
                while request := read_request(connection, source, MAX_PAYLOAD):
                    answer = self._answer(request, connection)
                    if answer is None:
                        return
                    connection.sendall(answer)
            except BadRequest as error:
                connection.sendall(_refusal(400, "InvalidRequest", str(error), close=True))
            except ConnectionError:
                return

    def _answer(self, request: Request, connection: socket.socket) -> bytes | None:
        path = request.path.removeprefix(_ROOT).split("/")
        match request.method, path:
            case "GET", ["invocation", "next"]:
                return self._next(connection)
            case "POST", ["invocation", request_id, "response" | "error" as kind]:
                return self._result(request_id, kind, request)
            case "POST", ["init" | "restore" as phase, "error"]:
                self._send(f"{phase}-error", "", request)
                return _accepted()
            case "GET", ["restore", "next"]:
                self._output.flush()
                self._link.send(Kind.PARKED)
                return response(200, b"") if self.proceed.take(connection) else None
            case _:
                return _refusal(404, "NotFound", f"no such operation: {request.method} {path[:3]}")

    def _next(self, connection: socket.socket) -> bytes | None:
        self._running = None
        if not self._ready:
            self._ready = True
            self._output.flush()
            self._link.send(Kind.READY)
        event = self.events.take(connection)
        if event is None:
            return None
        headers, body = event
        self._running = headers["Lambda-Runtime-Aws-Request-Id"]
        return response(200, body, headers)

    def _result(self, request_id: str, kind: str, request: Request) -> bytes:
        if request_id != self._running:
            return _refusal(400, "InvalidRequestID", "Invalid request ID")
        self._running = None
        if request.body is None:
            said = (
                f"Response payload size ({request.size} bytes) exceeded maximum allowed payload "
                f"size ({MAX_PAYLOAD} bytes)."
            )
            self._output.flush()
            self._link.send_result(
                {
                    "kind": "error",
                    "request_id": request_id,
                    "content_type": "application/json",
                    "error_type": "Function.ResponseSizeTooLarge",
                },
                json.dumps(
                    {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": said}
                ).encode(),
            )
            return _refusal(413, "RequestEntityTooLarge", said)
        self._send(kind, request_id, request)
        return _accepted()

    def _send(self, kind: str, request_id: str, request: Request) -> None:
        self._output.flush()
        self._link.send_result(
            {
                "kind": kind,
                "request_id": request_id,
                "content_type": request.headers.get("content-type", "application/json"),
                "error_type": request.headers.get("lambda-runtime-function-error-type", ""),
            },
            request.body or b"",
        )


def _accepted() -> bytes:
    return response(HTTPStatus.ACCEPTED, b'{"status":"OK"}', _JSON)


def _refusal(status: int, kind: str, message: str, *, close: bool = False) -> bytes:
    body = json.dumps({"errorMessage": message, "errorType": kind}).encode()
    return response(status, body, _JSON, close=close)
