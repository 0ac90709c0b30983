"""Just enough HTTP/1.1 for a runtime on loopback: requests in, whole responses out.

Source: RFC 9112.
"""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO

MAX_LINE = 2 << 20
"""A runtime may put up to 1 MiB of X-Ray cause into one header."""
MAX_HEADERS = 100
MAX_HEAD = 3 << 20
"""Most bytes in all headers of a request."""
_PIECE = 1 << 16


class BadRequest(Exception):
    """What arrived is not HTTP/1.1, or over a limit; the connection must be closed."""


class Body:
    """A request's body as it arrives; it must be read to its end before the next request.

    Attributes:
        size: Bytes that have arrived.
        trailers: What came after a chunked body, names in lower case; complete at its end.
    """

    def __init__(self, source: BinaryIO, headers: Mapping[str, str]) -> None:
        self._source = source
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._length = 0 if self._chunked else _number(headers.get("content-length", "0"), 10)
        self._whole = False
        self.size = 0
        self.trailers: Mapping[str, str] = {}

    def pieces(self) -> Iterator[bytes]:
        """Yield what is left of the body, piece by piece.

        Raises:
            BadRequest: It ended early.
        """
        if self._whole:
            return
        if self._chunked:
            while size := _number(_line(self._source).partition(";")[0], 16):
                yield from self._read(size)
                _line(self._source)
            self.trailers = _headers(self._source)
        else:
            yield from self._read(self._length)
        self._whole = True

    def collected(self, limit: int) -> bytes | None:
        """Return all of the body; None when it is over ``limit``: it was read and dropped.

        Raises:
            BadRequest: It ended early.
        """
        parts = bytearray()
        for piece in self.pieces():
            if self.size <= limit:
                parts += piece
            else:
                parts.clear()
        return bytes(parts) if self.size <= limit else None

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._source.read1(min(size, _PIECE))  # type: ignore[attr-defined]
            if not piece:
                raise BadRequest("the body ended early")
            size -= len(piece)
            self.size += len(piece)
            yield piece


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        method: Upper case.
        path: As sent.
        headers: Names in lower case.
        body: What follows.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Body


def read_request(connection: socket.socket, source: BinaryIO) -> Request | None:
    """Read the head of one request; None at the end of the stream.

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
    body = Body(source, headers)
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    return Request(method, path, headers, body)


def response(
    status: int, body: bytes, headers: Mapping[str, str] | None = None, *, close: bool = False
) -> bytes:
    """Return a whole response; head and body travel in one write."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def _line(source: BinaryIO) -> str:
    line = source.readline(MAX_LINE)
    if line and not line.endswith(b"\n"):
        raise BadRequest("a line is too long or ended early")
    return line.rstrip(b"\r\n").decode("latin-1")


def _headers(source: BinaryIO) -> dict[str, str]:
    headers: dict[str, str] = {}
    size = 0
    for _ in range(MAX_HEADERS):
        line = _line(source)
        if not line:
            return headers
        size += len(line)
        if size > MAX_HEAD:
            break
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    raise BadRequest("too many headers, or too large ones")


def _number(text: str, radix: int) -> int:
    try:
        number = int(text.strip(), radix)
    except ValueError:
        raise BadRequest(f"not a length: {text[:20]!r}") from None
    if number < 0:
        raise BadRequest(f"not a length: {text[:20]!r}")
    return number
