"""Load on keep-alive connections, each with one request at a time: `PORT SECONDS CONNECTIONS`.

The head of the request comes on stdin; one line of JSON says what was answered.
"""

import asyncio
import json
import sys
import time

END = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """Asks again as soon as it is answered."""

    def __init__(self, request: bytes, ends: float, taken: list[float], pause: float) -> None:
        self._request, self._ends, self._taken = request, ends, taken
        self._pause = pause
        self._input, self._began = b"", 0.0
        self.bad = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert hasattr(transport, "write")
        self._transport = transport
        self._ask()

    def data_received(self, raw: bytes) -> None:
        """Take the answer once it is whole."""
        self._input += raw
        head, end, body = self._input.partition(END)
        if not end:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r", 1)[0]) if at >= 0 else 0
        if len(body) < length:
            return
        self._input = b""
        now = time.perf_counter()
        self._taken.append(now - self._began)
        if head[9:12] != b"200":
            self.bad += 1
        if now >= self._ends:
            self._transport.close()
        elif self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._ask)
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the end."""
        del exc
        if not self.done.done():
            self.done.set_result(None)

    def _ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)


async def main(port: int, seconds: float, connections: int, pause: float) -> None:
    """Ask for so many seconds."""
    request = await asyncio.to_thread(sys.stdin.buffer.read)
    loop = asyncio.get_running_loop()
    taken: list[float] = []
    began = time.perf_counter()
    made = [
        await loop.create_connection(
            lambda: Connection(request, began + seconds, taken, pause), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    for _, connection in made:
        await connection.done
    lasted = time.perf_counter() - began
    taken.sort()
    print(
        json.dumps(
            {
                "requests": len(taken),
                "bad": sum(connection.bad for _, connection in made),
                "per_second": len(taken) / lasted,
                "p50_ms": taken[len(taken) // 2] * 1e3,
                "p99_ms": taken[len(taken) * 99 // 100] * 1e3,
            }
        )
    )


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
