"""Serves HTTP on the guest's loopback, to the function's own processes only."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Mapping

from faas.guest.http1 import BadRequest, Request, read_request, response

ADDRESS = ("127.0.0.1", 9001)
JSON: Mapping[str, str] = {"Content-Type": "application/json"}
_CONNECTIONS = 64
"""Most at once; one more waits in the kernel's queue."""

Answer = Callable[[Request, socket.socket], bytes | None]
"""Returns a whole response; None when the client has hung up."""


class Server:
    """Answers requests, each connection in a thread of its own.

    Args:
        answer: Says what to answer.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._room = threading.Semaphore(_CONNECTIONS)
        self._listener = socket.create_server(ADDRESS)

    def run(self) -> None:
        """Accept connections for as long as this process lives."""
        while True:
            self._room.acquire()
            connection, _ = self._listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as source, contextlib.suppress(OSError):
                try:
                    while request := read_request(connection, source):
                        answer = self._answer(request, connection)
                        if answer is None:
                            return
                        for _ in request.body.pieces():
                            pass
                        connection.sendall(answer)
                except BadRequest as error:
                    connection.sendall(refusal(400, "InvalidRequest", str(error), close=True))
        finally:
            self._room.release()


def accepted() -> bytes:
    """Return the answer to what was taken note of."""
    return response(202, b'{"status":"OK"}', JSON)


def refusal(status: int, kind: str, message: str, *, close: bool = False) -> bytes:
    """Return an error in the shape of Lambda's Runtime API."""
    body = json.dumps({"errorMessage": message, "errorType": kind}).encode()
    return response(status, body, JSON, close=close)
