"""A tiny HTTP server that costs little, on a unix socket and on TCP: `SOCKET PORT`."""

import asyncio
import sys

import uvloop

END = b"\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n" + b"x" * 64


class Connection(asyncio.Protocol):
    """Answers each request without a body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport, self._input = transport, b""

    def data_received(self, raw: bytes) -> None:
        """Answer what is whole."""
        *requests, self._input = (self._input + raw).split(END)
        self._transport.write(ANSWER * len(requests))  # type: ignore[attr-defined]
        if any(b"connection: close" in request.lower() for request in requests):
            self._transport.close()


async def main(path: str, port: int) -> None:
    """Serve until SIGINT."""
    loop = asyncio.get_running_loop()
    await loop.create_unix_server(Connection, path)
    await loop.create_server(Connection, "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
