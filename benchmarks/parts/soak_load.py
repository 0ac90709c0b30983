"""Callers that go on whatever happens to the gateway, and remember what they were answered."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

SECONDS = 10.0
"""Longest that an answer may take."""
_PAUSE = 0.05


@dataclass
class Caller:
    """One key, with one call at a time under way.

    Attributes:
        key: Its text.
        answered: How many calls were, by status.
        broken: Calls that got no answer.
        seconds: How long its calls took that were answered with 200.
    """

    key: str
    answered: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    seconds: float = 0.0

    async def call_on(self, port: int, stop: asyncio.Event) -> None:
        """Call until ``stop`` is set."""
        request = f"GET /bench/x HTTP/1.1\r\nHost: bench\r\nX-Api-Key: {self.key}\r\n\r\n".encode()
        while not stop.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(_PAUSE)
                continue
            try:
                while not stop.is_set():
                    began = time.perf_counter()
                    writer.write(request)
                    async with asyncio.timeout(SECONDS):
                        status = await _status(reader)
                    self.answered[status] += 1
                    if status == 200:
                        self.seconds += time.perf_counter() - began
                    else:
                        await asyncio.sleep(_PAUSE)
            except (OSError, EOFError, TimeoutError):
                self.broken += 1
            finally:
                writer.close()


async def _status(reader: asyncio.StreamReader) -> int:
    """Read one answer; return its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    at = head.index(b"content-length:") + 15
    await reader.readexactly(int(head[at:].split(b"\r", 1)[0]))
    return int(head[9:12])


@asynccontextmanager
async def loaded(callers: Sequence[Caller], port: int) -> AsyncIterator[None]:
    """Let all call for the length of the block; at its end calls under way are answered."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(caller.call_on(port, stop))
        try:
            yield
        finally:
            stop.set()
