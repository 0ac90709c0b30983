"""HTTP/2 frames as bytes, the errors of the protocol, and what headers may look like.

Source: https://www.rfc-editor.org/rfc/rfc9113#section-4 and 8
"""

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

from wherry.errors import WherryError

Headers = list[tuple[bytes, bytes]]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_BYTES = 1 << 14
"""Longest frame that we take, and that we send: the protocol's default."""
LARGEST_WINDOW = (1 << 31) - 1

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, MORE = range(10)
SIZES = {PRIORITY: 5, RESET: 4, PING: 8, WINDOW: 4}
OF_STREAMS = {DATA, HEADERS, PRIORITY, RESET, MORE}
OF_ALL = {SETTINGS, PING, GOAWAY}
ACK = END = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20
ENABLE_PUSH, MOST_STREAMS, INITIAL_WINDOW, MAX_FRAME, LIST_BYTES = 2, 3, 4, 5, 6
PRIORITY_BYTES, GOAWAY_BYTES = 5, 8
HEAD, WORD, SETTING = Struct(">BHBBI"), Struct(">I"), Struct(">HI")


class Code(IntEnum):
    """Why a stream or connection ended."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Broken(WherryError):
    """The peer broke the protocol, or a limit; the connection ends."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class Reader:
    """Cuts what a client sends into frames; holds no more than one that is not whole."""

    __slots__ = ("_greeted", "_rest")

    def __init__(self) -> None:
        self._rest, self._greeted = b"", False

    @property
    def held(self) -> int:
        """Bytes of a frame that has not come whole."""
        return len(self._rest)

    def frames(self, raw: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Take bytes; yield kind, flags, stream and body of the frames that end in them.

        Raises:
            Broken: The client speaks another protocol, or a frame is too long.
        """
        data = self._rest + raw if self._rest else raw
        self._rest, at, have = b"", 0, len(data)
        if not self._greeted:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                raise Broken(Code.PROTOCOL_ERROR, "connection: no preface, expected HTTP/2")
            if have < len(PREFACE):
                self._rest = data
                return
            self._greeted, at = True, len(PREFACE)
        while have - at >= HEAD.size:
            high, low, kind, flags, stream = HEAD.unpack_from(data, at)
            size = high << 16 | low
            if size > FRAME_BYTES:
                raise Broken(
                    Code.FRAME_SIZE_ERROR, f"frame: {size} bytes, expected at most {FRAME_BYTES}"
                )
            begin, end = at + HEAD.size, at + HEAD.size + size
            if end > have:
                break
            at = end
            yield kind, flags, stream & LARGEST_WINDOW, data[begin:end]
        self._rest = data[at:]


def well_formed(headers: Headers) -> bool:
    """Return whether ``headers`` may stand in a request that is no CONNECT.

    Source: https://www.rfc-editor.org/rfc/rfc9113#section-8.2 and 8.3.1
    """
    pseudo: list[bytes] = []
    regular = False
    for name, value in headers:
        if not name or name != name.lower() or not name.isascii() or set(value) & {0, 10, 13}:
            return False
        if name.startswith(b":"):
            if regular or name in pseudo:
                return False
            pseudo.append(name)
            continue
        regular = True
        if name in _FORBIDDEN or (name == b"te" and value != b"trailers"):
            return False
    found = set(pseudo)
    return _REQUIRED <= found <= {*_REQUIRED, b":authority"}


_REQUIRED = {b":method", b":scheme", b":path"}
_FORBIDDEN = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """Return one frame."""
    return HEAD.pack(len(body) >> 16, len(body) & 0xFFFF, kind, flags, stream) + body


def unpadded(body: bytes) -> bytes:
    """Return ``body`` without its padding.

    Raises:
        Broken: There is nothing else.
    """
    if not body or body[0] >= len(body):
        raise Broken(Code.PROTOCOL_ERROR, "frame: only padding, expected content")
    return body[1 : len(body) - body[0]]
