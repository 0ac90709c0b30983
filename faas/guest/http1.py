"""Just enough HTTP/1.1 for a runtime on loopback: requests in, whole responses out.

Source: RFC 9112.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO

MAX_LINE = 2 << 20
"""A runtime may put up to 1 MiB of X-Ray cause into one header."""
MAX_HEADERS = 100


class BadRequest(Exception):
    """What arrived is not HTTP/1.1, or over a limit; the connection must be closed."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        method: Upper case.
        path: As sent.
        headers: Names in lower case.
        body: None when it was over the limit given to `read_request`; it was read and dropped.
        size: Bytes of body that arrived.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None
    size: int


def read_request(connection: socket.socket, source: BinaryIO, limit: int) -> Request | None:
    """Read one request with at most ``limit`` bytes of body; None at the end of the stream.

    Raises:
        BadRequest: It is not HTTP/1.1, or its head is over a limit.
    """
    start = _line(source)
    if not start:
        return None
    method, _, rest = start.partition(" ")
    path, _, version = rest.partition(" ")
    if not version.startswith("HTTP/1."):
        raise BadRequest(start[:80])
    headers = _headers(source)
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = _Body(limit)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        while size := _number(_line(source).partition(";")[0], 16):
            body.read(source, size)
            _line(source)
        _headers(source)
    else:
        body.read(source, _number(headers.get("content-length", "0"), 10))
    return Request(method, path, headers, body.whole(), body.size)


def response(
    status: int, body: bytes, headers: Mapping[str, str] | None = None, *, close: bool = False
) -> bytes:
    """Return a whole response; head and body travel in one write."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


class _Body:
    """Collects up to ``limit`` bytes and counts the rest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts = bytearray()
        self.size = 0

    def read(self, source: BinaryIO, size: int) -> None:
        while size:
            piece = source.read(min(size, 1 << 16))
            if not piece:
                raise BadRequest("the body ended early")
            size -= len(piece)
            self.size += len(piece)
            if self.size <= self._limit:
                self._parts += piece
            else:
                self._parts.clear()

    def whole(self) -> bytes | None:
        return bytes(self._parts) if self.size <= self._limit else None


def _line(source: BinaryIO) -> str:
    line = source.readline(MAX_LINE)
    if line and not line.endswith(b"\n"):
        raise BadRequest("a line is too long or ended early")
    return line.rstrip(b"\r\n").decode("latin-1")


def _headers(source: BinaryIO) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        line = _line(source)
        if not line:
            return headers
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    raise BadRequest("too many headers")


def _number(text: str, radix: int) -> int:
    try:
        number = int(text.strip(), radix)
    except ValueError:
        raise BadRequest(f"not a length: {text[:20]!r}") from None
    if number < 0:
        raise BadRequest(f"not a length: {text[:20]!r}")
    return number
