"""A discovery client of raw HTTP/2 frames that reads only as much as a test lets it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from struct import pack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK = 1
END_HEADERS = 4
INITIAL_WINDOW_SIZE = 4


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """Return one frame. Source: https://www.rfc-editor.org/rfc/rfc9113#section-4.1."""
    return pack(">I", len(body))[1:] + bytes((kind, flags)) + pack(">I", stream) + body


def headers(path: str) -> bytes:
    """Return the header block of a gRPC call, without indexing."""
    fields = {
        ":path": path,
        ":authority": "127.0.0.1",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    literal = [
        b"\0" + bytes((len(k),)) + k.encode() + bytes((len(v),)) + v.encode()
        for k, v in fields.items()
    ]
    return b"\x83\x86" + b"".join(literal)  # POST, http


@dataclass
class Frames:
    """One connection with one stream.

    Attributes:
        window: Bytes that the server may still send on the stream.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    window: int
    _data: bytearray = field(default_factory=bytearray)

    def say(self, message: bytes) -> None:
        """Send one message."""
        self.writer.write(frame(DATA, 0, 1, b"\0" + pack(">I", len(message)) + message))

    def widen(self, size: int) -> None:
        """Let the server send ``size`` more bytes."""
        self.window += size
        self.writer.write(frame(WINDOW_UPDATE, 0, 1, pack(">I", size)))

    async def shut(self) -> None:
        """Return when the server has used up the whole window."""
        while self.window > 0:
            await self._read()

    async def hear(self) -> bytes:
        """Return the next message."""
        while len(self._data) < 5 or len(self._data) < 5 + int.from_bytes(self._data[1:5]):
            await self._read()
        end = 5 + int.from_bytes(self._data[1:5])
        message = bytes(self._data[5:end])
        del self._data[:end]
        return message

    async def _read(self) -> None:
        head = await self.reader.readexactly(9)
        body = await self.reader.readexactly(int.from_bytes(head[:3]))
        match head[3]:
            case 0:
                self.window -= len(body)
                self._data += body
            case 4 if not head[4] & ACK:
                self.writer.write(frame(SETTINGS, ACK, 0, b""))
            case 6 if not head[4] & ACK:
                self.writer.write(frame(PING, ACK, 0, body))


@asynccontextmanager
async def frames(port: int, path: str, window: int) -> AsyncIterator[Frames]:
    """Open a stream on which the server may send ``window`` bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE + frame(SETTINGS, 0, 0, pack(">HI", INITIAL_WINDOW_SIZE, window)))
    writer.write(frame(WINDOW_UPDATE, 0, 0, pack(">I", 1 << 30)))
    writer.write(frame(HEADERS, END_HEADERS, 1, headers(path)))
    try:
        yield Frames(reader, writer, window)
    finally:
        writer.close()
