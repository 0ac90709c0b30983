"""gRPC over HTTP/2: what a call says of itself, messages in a stream of bytes, how a call ends.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from hpack.hpack import encode_integer

from wherry.errors import WherryError
from xds.http2.frames import Headers

PREFIX = Struct(">BI")
"""What stands before a message: whether it is compressed, and its length."""
MOST_TEXT = 1024
"""Characters of an error that a client is told."""

_PLAIN = frozenset(range(0x20, 0x7F)) - {ord("%")}
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Ended(WherryError):
    """A call ends for what its client sent.

    Attributes:
        code: What the client is told, as gRPC numbers it.
        status: The HTTP status instead, where it speaks no gRPC.
    """

    def __init__(self, code: int, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.code, self.status = code, status

    @property
    def block(self) -> bytes:
        """The headers that are all of the answer."""
        if self.status is not None:
            return _literal(":status", str(self.status))
        return only_trailers(self.code, str(self))


OK, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED = 0, 2, 4, 8
UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 12, 13, 14


@dataclass(frozen=True, slots=True)
class Call:
    """What a client asks for.

    Attributes:
        path: The full name of a service and its method.
        seconds: How long the client waits; None: for ever.
    """

    path: str
    seconds: float | None


def call_from(headers: Headers) -> Call:
    """Read the headers of a request.

    Raises:
        Ended: They are those of something else, or ask for what nobody can do.
    """
    said = dict(headers)
    if (method := said[b":method"]) != b"POST":
        raise Ended(UNKNOWN, f"request: method {method!r}, expected POST", status=405)
    kind = said.get(b"content-type", b"")
    if not re.fullmatch(rb"application/grpc([+;].*)?", kind):
        text = f"request: content-type {kind!r}, expected application/grpc"
        raise Ended(UNKNOWN, text, status=415)
    seconds: float | None = None
    if (timeout := said.get(b"grpc-timeout")) is not None:
        match = re.fullmatch(r"([0-9]{1,8})([HMSmun])", timeout.decode("latin-1"))
        if match is None:
            raise Ended(INTERNAL, f"request: grpc-timeout {timeout!r}, expected 1S or alike")
        seconds = int(match[1]) * _SECONDS[match[2]]
    return Call(said[b":path"].decode("latin-1"), seconds)


class Messages:
    """The messages of one stream, whole. No message is held that is longer than ``most``."""

    __slots__ = ("_most", "_rest")

    def __init__(self, most: int) -> None:
        self._most, self._rest = most, bytearray()

    @property
    def held(self) -> int:
        """Bytes of a message that has not come whole."""
        return len(self._rest)

    def whole(self, body: bytes) -> Iterator[bytes]:
        """Take bytes; yield the messages that end in them.

        Raises:
            Ended: A message is compressed or too long.
        """
        data: bytes | bytearray = body
        if self._rest:
            # Grown in place: a long message comes in many pieces.
            self._rest += body
            data = self._rest
        at, have = 0, len(data)
        while have - at >= PREFIX.size:
            compressed, size = PREFIX.unpack_from(data, at)
            if compressed:
                raise Ended(UNIMPLEMENTED, "message: compressed, expected grpc-encoding identity")
            if size > self._most:
                raise Ended(
                    RESOURCE_EXHAUSTED, f"message: {size} bytes, expected at most {self._most}"
                )
            if have - at < PREFIX.size + size:
                break
            begin, at = at + PREFIX.size, at + PREFIX.size + size
            yield bytes(data[begin:at])
        if data is self._rest:
            del self._rest[:at]
        elif at < have:
            self._rest = bytearray(data[at:])


def headers() -> bytes:
    """Return the block of headers that begins an answer."""
    return _HEAD + _literal("grpc-accept-encoding", "identity")


def trailers(code: int, text: str = "") -> bytes:
    """Return the block of headers that ends an answer."""
    told = _literal("grpc-message", percent_encoded(text[:MOST_TEXT])) if text else b""
    return _literal("grpc-status", str(code)) + told


def only_trailers(code: int, text: str) -> bytes:
    """Return the block of headers that is all of an answer."""
    return _HEAD + trailers(code, text)


def percent_encoded(text: str) -> str:
    """Return ``text`` as it may stand in ``grpc-message``."""
    return "".join(
        chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode(errors="replace")
    )


def _literal(name: str, value: str) -> bytes:
    """Return one field that no table remembers, so that blocks can be made ahead."""
    lengths = (bytes(encode_integer(len(each), 7)) for each in (name, value))
    return b"\0" + b"".join(
        length + each.encode() for length, each in zip(lengths, (name, value), strict=True)
    )


_HEAD = b"\x88" + _literal("content-type", "application/grpc")  # the static table's :status 200
