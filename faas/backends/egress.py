"""The way out of one guest: its function's connections, carried to the mesh's proxy and back."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from faas.backends.tasks import Tasks
from faas.channel import MAX_STREAMS, Channel, Frame, Kind
from faas.vm import Crashed

_READ = 65536
_PATIENCE = 5.0
"""Seconds for the mesh's proxy to accept a connection."""


class Line(Protocol):
    """The host's end of a guest's channel, as far as connections need it."""

    @property
    def channel(self) -> Channel:
        """Its state."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        ...

    def write(self, frame: Frame) -> None:
        """Write a frame without waiting for room."""
        ...

    async def send(self, frame: Frame) -> None:
        """Write a frame; return when there is room for another."""
        ...

    async def send_data(self, stream: int, data: bytes) -> None:
        """Send data as the guest's credit allows.

        Raises:
            ConnectionResetError: The stream was closed meanwhile.
            Crashed: The guest ended instead.
        """
        ...

    def consumed(self, stream: int, amount: int) -> None:
        """Give the guest back its credit for what was taken from ``stream``."""
        ...


@dataclass(slots=True)
class _Pipe:
    """What a function sent towards the mesh and nobody took yet; bounded by its window."""

    arrived: bytearray = field(default_factory=bytearray)
    ended: bool = False
    change: asyncio.Event = field(default_factory=asyncio.Event)


class Egress:
    """Every connection of one guest.

    Args:
        vm: The VM's id, for the names of tasks.
        line: To the guest.
        proxy: Unix socket of the mesh's proxy; None: every connection is refused.
        tasks: Runs the connections.
    """

    def __init__(self, vm: str, line: Line, proxy: Path | None, tasks: Tasks) -> None:
        self._vm = vm
        self._line = line
        self._proxy = proxy
        self._tasks = tasks
        self._pipes: dict[int, _Pipe] = {}
        self._running = 0

    def __contains__(self, stream: int) -> bool:
        """Return whether ``stream`` is one of these connections."""
        return stream in self._pipes

    def begin(self, stream: int) -> None:
        """Begin a connection, unless too many are left of streams that the guest reset."""
        if self._running == MAX_STREAMS:
            self._reset(stream)
            return
        self._running += 1
        pipe = self._pipes[stream] = _Pipe()
        self._tasks.start(self._run(stream, pipe), name=f"egress {self._vm} {stream}")

    def receive(self, frame: Frame) -> None:
        """Take a frame of a connection."""
        pipe = self._pipes[frame.stream]
        match frame.kind:
            case Kind.DATA:
                pipe.arrived += frame.payload
            case Kind.END:
                pipe.ended = True
            case Kind.RESET:
                pipe.ended = True
                self._line.channel.close(frame.stream)
            case _:
                pass
        pipe.change.set()

    def reset(self) -> None:
        """End every connection, and tell the guest."""
        for stream, pipe in tuple(self._pipes.items()):
            self._reset(stream)
            pipe.change.set()

    def close(self) -> None:
        """End every connection: there is no guest any more."""
        for pipe in self._pipes.values():
            pipe.ended = True
            pipe.change.set()

    async def _run(self, stream: int, pipe: _Pipe) -> None:
        try:
            await self._carry(stream, pipe)
        finally:
            self._running -= 1

    async def _carry(self, stream: int, pipe: _Pipe) -> None:
        try:
            reader, writer = await self._connect()
        except (OSError, TimeoutError):
            self._reset(stream)
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._upload(stream, pipe, writer), name=f"up {stream}")
                group.create_task(self._download(stream, reader), name=f"down {stream}")
        except* (ConnectionError, Crashed):
            self._reset(stream)
        finally:
            writer.close()
            self._pipes.pop(stream, None)
            self._line.channel.close(stream)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._proxy is None:
            raise ConnectionRefusedError
        async with asyncio.timeout(_PATIENCE):
            return await asyncio.open_unix_connection(self._proxy)

    def _reset(self, stream: int) -> None:
        self._pipes.pop(stream, None)
        self._line.channel.close(stream)
        if not self._line.closed:
            self._line.write(Frame(Kind.RESET, stream))

    async def _upload(self, stream: int, pipe: _Pipe, writer: asyncio.StreamWriter) -> None:
        while True:
            await pipe.change.wait()
            pipe.change.clear()
            if stream not in self._line.channel.streams or self._line.closed:
                raise ConnectionResetError
            data = bytes(pipe.arrived)
            pipe.arrived.clear()
            if data:
                writer.write(data)
                await writer.drain()
                self._line.consumed(stream, len(data))
            elif pipe.ended:
                writer.write_eof()
                return
            if pipe.ended:
                pipe.change.set()

    async def _download(self, stream: int, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ):
            await self._line.send_data(stream, data)
        await self._line.send(Frame(Kind.END, stream))
