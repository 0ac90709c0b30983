"""Many discovery clients in one light process: HTTP/2 frames on asyncio, every response ACKed.

A client asks for four types on one stream, reads and acknowledges. Commands open streams, count
what they hear and tell errors; every wait is bounded.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import pack
from typing import Any

from parts.control import answering
from parts.discovery import METHODS, NAMES, SERVICE, acknowledgement, head, subscription

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 1
END_HEADERS = 4
LARGEST_WINDOW = (1 << 31) - 1
FIRST_WINDOW = (1 << 16) - 1
GIVE_BACK = 1 << 20
"""Bytes after which the window of a connection or stream is opened again."""
AT_ONCE = 250
"""Connections that are opened at the same time."""


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """Return one frame. Source: https://www.rfc-editor.org/rfc/rfc9113#section-4.1."""
    return pack(">I", len(body))[1:] + bytes((kind, flags)) + pack(">I", stream) + body


def data(stream: int, message: bytes) -> bytes:
    """Return one gRPC message in one frame."""
    return frame(DATA, 0, stream, b"\0" + pack(">I", len(message)) + message)


def call(path: str) -> bytes:
    """Return the header block of a gRPC call, without indexing."""
    fields = [(":path", path), (":authority", "127.0.0.1"), ("te", "trailers")]
    fields.append(("content-type", "application/grpc"))
    literal = [
        b"\0" + bytes((len(k),)) + k.encode() + bytes((len(v),)) + v.encode() for k, v in fields
    ]
    return b"\x83\x86" + b"".join(literal)  # POST, http


@dataclass
class Heard:
    """What came in, all streams together.

    Attributes:
        first: For each stream that has not heard of every type yet, those it waits for.
        counts: Responses by type since the last `expect`.
        size: Bytes of them.
        errors: What went wrong, counted by its text.
    """

    first: dict[int, set[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    size: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Connection(asyncio.Protocol):
    """One connection with streams of some clients.

    A stream has at most a few hundred bytes on the way, so only the connection's window is kept.
    """

    def __init__(self, variant: str, clients: list[int], heard: Heard) -> None:
        self._variant, self._clients, self._heard = variant, clients, heard
        self._head = call(f"/{SERVICE}/{METHODS[variant]}")
        self._input = bytearray()
        self._messages = {2 * place + 1: bytearray() for place in range(len(clients))}
        self._client = {2 * place + 1: client for place, client in enumerate(clients)}
        self._window, self._waiting = FIRST_WINDOW, bytearray()
        self._frames: list[tuple[int, bytes]] = []
        self._taken, self._taken_of = 0, Counter[int]()
        self._transport: asyncio.Transport
        self._ending = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open every stream and ask for the four types."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(
            PREFACE
            + frame(SETTINGS, 0, 0, pack(">HI", 4, LARGEST_WINDOW))
            + frame(WINDOW_UPDATE, 0, 0, pack(">I", LARGEST_WINDOW - FIRST_WINDOW))
        )
        for stream, client in self._client.items():
            transport.write(frame(HEADERS, END_HEADERS, stream, self._head))
            node = f"client-{client}"
            for type_url, names in NAMES.items():
                self._say(stream, subscription(self._variant, type_url, names, node))
                node = ""

    def close(self) -> None:
        """Hang up."""
        self._ending = True
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the loss unless we hung up."""
        if not self._ending:
            self._failed(f"connection lost: {exc}")

    def data_received(self, raw: bytes) -> None:
        """Take whole frames."""
        self._input += raw
        for kind, flags, stream, body in self._whole():
            match kind:
                case 0:
                    self._take(stream, body)
                case 1 if flags & END_STREAM:
                    self._failed(f"stream ended: {body[-40:]!r}")
                case 3:
                    self._failed(f"stream reset: {int.from_bytes(body)}")
                case 4 if not flags & ACK:
                    self._transport.write(frame(SETTINGS, ACK, 0, b""))
                case 6 if not flags & ACK:
                    self._transport.write(frame(PING, ACK, 0, body))
                case 7:
                    self._failed(f"goaway: {body[8:48]!r}")
                case 8 if stream == 0:
                    self._window += int.from_bytes(body)
                    self._flush()

    def _whole(self) -> Iterator[tuple[int, int, int, bytes]]:
        buffer, at = self._input, 0
        while len(buffer) - at >= 9:
            end = at + 9 + int.from_bytes(buffer[at : at + 3])
            if len(buffer) < end:
                break
            stream = int.from_bytes(buffer[at + 5 : at + 9])
            yield buffer[at + 3], buffer[at + 4], stream, bytes(buffer[at + 9 : end])
            at = end
        del buffer[:at]

    def _take(self, stream: int, body: bytes) -> None:
        self._taken += len(body)
        self._taken_of[stream] += len(body)
        if self._taken > GIVE_BACK:
            self._transport.write(frame(WINDOW_UPDATE, 0, 0, pack(">I", self._taken)))
            self._taken = 0
        if self._taken_of[stream] > GIVE_BACK:
            given = pack(">I", self._taken_of.pop(stream))
            self._transport.write(frame(WINDOW_UPDATE, 0, stream, given))
        message = self._messages[stream]
        message += body
        while len(message) >= 5 and len(message) >= (end := 5 + int.from_bytes(message[1:5])):
            self._hear(stream, bytes(message[5:end]))
            del message[:end]

    def _hear(self, stream: int, raw: bytes) -> None:
        version, type_url, nonce = head(raw)
        names = NAMES[type_url]
        self._say(stream, acknowledgement(self._variant, type_url, names, version, nonce))
        heard = self._heard
        heard.size += len(raw)
        heard.counts[type_url] += 1
        client = self._client[stream]
        if (missing := heard.first.get(client)) is not None:
            missing.discard(type_url)
            if not missing:
                del heard.first[client]
        heard.changed.set()

    def _say(self, stream: int, message: bytes) -> None:
        raw = data(stream, message)
        size = len(raw) - 9
        if self._frames or size > self._window:
            self._frames.append((size, raw))
            return
        self._window -= size
        self._transport.write(raw)

    def _flush(self) -> None:
        sent = 0
        for size, raw in self._frames:
            if size > self._window:
                break
            self._window -= size
            self._transport.write(raw)
            sent += 1
        del self._frames[:sent]

    def _failed(self, text: str) -> None:
        self._heard.errors[text] += 1
        self._heard.changed.set()


class Clients:
    """The commands."""

    def __init__(self) -> None:
        self._heard = Heard()
        self._open: list[Connection] = []

    async def open(
        self,
        port: int,
        variant: str,
        streams: int,
        connections: int,
        seconds: float,
        *,
        paced: bool,
    ) -> Any:
        """Open the streams; answer when each has heard of every type, or after ``seconds``.

        With ``paced`` each connection opens when the one before it has everything.
        """
        heard = self._heard = Heard(first={client: set(NAMES) for client in range(streams)})
        began = time.perf_counter()
        loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(1 if paced else AT_ONCE)

        async def connect(clients: list[int]) -> None:
            connection = Connection(variant, clients, heard)
            async with gate:
                await loop.create_connection(lambda: connection, "127.0.0.1", port)
                self._open.append(connection)
                if paced:
                    await self._until(lambda: heard.first.keys().isdisjoint(clients), seconds)

        async with asyncio.TaskGroup() as group:
            for number in range(connections):
                group.create_task(connect(list(range(number, streams, connections))))
        await self._until(lambda: not heard.first, seconds)
        return {
            "seconds": time.perf_counter() - began,
            "incomplete": len(heard.first),
            "errors": heard.errors,
        }

    def expect(self) -> None:
        """Count anew."""
        self._heard.counts.clear()
        self._heard.size = 0

    async def wait(self, type_url: str, count: int, seconds: float) -> Any:
        """Answer when ``count`` responses of a type were heard since `expect`."""
        heard = self._heard
        await self._until(lambda: heard.counts[type_url] >= count, seconds)
        return {"counts": heard.counts, "bytes": heard.size, "errors": heard.errors}

    def close(self) -> None:
        """Hang up every connection."""
        for connection in self._open:
            connection.close()
        self._open.clear()

    async def _until(self, holds: Any, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not (holds() or self._heard.errors):
                    self._heard.changed.clear()
                    await self._heard.changed.wait()
        except TimeoutError:
            self._heard.errors["timeout"] += 1


async def main() -> None:
    """Take commands until stdin closes."""
    clients = Clients()
    await answering(
        {
            "open": clients.open,
            "expect": clients.expect,
            "wait": clients.wait,
            "close": clients.close,
        }
    )
    clients.close()


if __name__ == "__main__":
    asyncio.run(main())
