"""Small HTTP servers that start and end on command, each answering a text of its own.

`SECONDS`: how long each request takes.
"""

import asyncio
import sys

from parts.control import answering

END = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection; requests have no body."""

    def __init__(self, text: bytes, seconds: float, among: set[asyncio.Transport]) -> None:
        self._answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text)
        self._seconds, self._among = seconds, among
        self._input = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the connections of the server."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._among.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave them."""
        del exc
        self._among.discard(self._transport)

    def data_received(self, raw: bytes) -> None:
        """Answer each request after its time."""
        *requests, self._input = (self._input + raw).split(END)
        for _ in requests:
            if self._seconds:
                asyncio.get_running_loop().call_later(self._seconds, self._say)
            else:
                self._say()

    def _say(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._answer)


class Backends:
    """The commands."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[int, tuple[asyncio.Server, set[asyncio.Transport]]] = {}

    async def start(self, text: str) -> int:
        """Listen on a free port and return it."""
        among: set[asyncio.Transport] = set()
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(text.encode(), self._seconds, among), "127.0.0.1", 0
        )
        port = int(server.sockets[0].getsockname()[1])
        self._running[port] = (server, among)
        return port

    def stop(self, port: int) -> int:
        """End as a program does that is told to: connections break; return how many there were."""
        server, among = self._running.pop(port)
        server.close()
        count = len(among)
        for transport in list(among):
            transport.abort()
        return count


async def main(seconds: float) -> None:
    """Take commands until stdin closes."""
    backends = Backends(seconds)
    await answering({"start": backends.start, "stop": backends.stop})


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
