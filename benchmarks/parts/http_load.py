"""Requests at a fixed rate, whatever the answers take: an open loop over keep-alive connections."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from parts.control import answering

MOST_CONNECTIONS = 500
SECONDS = 15.0
"""Longest that an answer may take."""
EXAMPLES = 20
"""Failures that are told in full."""
END = b"\r\n\r\n"


@dataclass
class Phase:
    """What was asked and answered in one part of the run.

    Attributes:
        sent: Requests.
        good: Answers of 200 to 299.
        failures: All else.
        taken: Seconds of each good one.
    """

    sent: int = 0
    good: int = 0
    failures: int = 0
    taken: list[float] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One connection with at most one request at a time."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._input = b""
        self._transport: asyncio.Transport
        self._phase = ""
        self._began = 0.0
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, phase: str, request: bytes) -> None:
        """Send a request."""
        self._phase, self._began = phase, time.perf_counter()
        loop = asyncio.get_running_loop()
        self._limit = loop.call_later(SECONDS, self._fail, f"no answer in {SECONDS} s")
        self._transport.write(request)

    def data_received(self, raw: bytes) -> None:
        """Take the answer once it is whole."""
        self._input += raw
        head, end, body = self._input.partition(END)
        if not end:
            return
        lines = head.decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        if len(body) < int(headers["content-length"]):
            return
        self._input = b""
        self._done()
        self._load.answered(self._phase, int(lines[0].split()[1]), headers, body, self._began)
        if headers.get("connection") == "close":
            self._transport.close()
        else:
            self._load.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the loss if an answer was due."""
        self._load.lost(self)
        if self._limit is not None:
            self._fail(f"connection lost: {exc}")

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def _fail(self, text: str) -> None:
        self._done()
        self._load.failed(self._phase, text, self._began)
        self._transport.abort()

    def _done(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


class Load:
    """The commands."""

    def __init__(self) -> None:
        self.idle: list[Connection] = []
        self._phases: dict[str, Phase] = {}
        self._phase = ""
        self._pending = self._connections = 0
        self._examples: list[Mapping[str, Any]] = []
        self._running: asyncio.Task[None] | None = None
        self._ended = False

    def begin(self, port: int, host: str, rate: float, phase: str) -> None:
        """Ask ``rate`` times a second from now on."""
        self.phase(phase)
        request = f"GET /load HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
        loop = asyncio.get_running_loop()
        self._running = loop.create_task(self._run(port, request, rate), name="load")

    def phase(self, name: str) -> None:
        """Count what is sent from now on under ``name``."""
        self._phase = name
        self._phases.setdefault(name, Phase())

    async def end(self) -> Any:
        """Stop, wait for what is due and tell everything."""
        self._ended = True
        if self._running is not None:
            await self._running
        async with asyncio.timeout(2 * SECONDS):
            while self._pending:
                await asyncio.sleep(0.05)
        for connection in list(self.idle):
            connection.close()
        return {
            "phases": {
                name: {
                    "sent": phase.sent,
                    "good": phase.good,
                    "failures": phase.failures,
                    "p99_ms": _percentile(phase.taken, 0.99),
                    "max_ms": _percentile(phase.taken, 1.0),
                }
                for name, phase in self._phases.items()
            },
            "examples": self._examples,
        }

    async def _run(self, port: int, request: bytes, rate: float) -> None:
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while not self._ended:
                due += 1 / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                phase = self._phases[self._phase]
                phase.sent += 1
                self._pending += 1
                if self.idle:
                    self.idle.pop().ask(self._phase, request)
                elif self._connections < MOST_CONNECTIONS:
                    self._connections += 1
                    group.create_task(self._ask_anew(port, self._phase, request))
                else:
                    self.failed(self._phase, "all connections busy", time.perf_counter())

    async def _ask_anew(self, port: int, phase: str, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SECONDS):
                _, connection = await loop.create_connection(
                    lambda: Connection(self), "127.0.0.1", port
                )
        except OSError as error:
            self._connections -= 1
            self.failed(phase, f"no connection: {error}", time.perf_counter())
        else:
            connection.ask(phase, request)

    def answered(
        self, phase: str, status: int, headers: Mapping[str, str], body: bytes, began: float
    ) -> None:
        """Count an answer."""
        if 200 <= status < 300:
            self._pending -= 1
            self._phases[phase].good += 1
            self._phases[phase].taken.append(time.perf_counter() - began)
        else:
            told = {k: v for k, v in headers.items() if k.startswith(("x-", "server"))}
            self.failed(phase, f"{status} {body[:120].decode('latin-1')} {told}", began)

    def failed(self, phase: str, text: str, began: float) -> None:
        """Count a failure."""
        self._pending -= 1
        self._phases[phase].failures += 1
        if len(self._examples) < EXAMPLES:
            now = time.perf_counter()
            self._examples.append({"phase": phase, "found": text, "began": began, "ended": now})

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections -= 1
        if connection in self.idle:
            self.idle.remove(connection)


def _percentile(taken: list[float], part: float) -> float | None:
    ranked = sorted(taken)
    return round(ranked[int((len(ranked) - 1) * part)] * 1e3, 1) if ranked else None


async def main() -> None:
    """Take commands until stdin closes."""
    load = Load()
    await answering({"begin": load.begin, "phase": load.phase, "end": load.end})


if __name__ == "__main__":
    asyncio.run(main())
