"""The host's side of one guest: runs its channel, calls it, and pipes its way out."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from faas.backends.tasks import Tasks
from faas.channel import (
    LOG_STREAM,
    MAX_STREAMS,
    Channel,
    ChannelError,
    Frame,
    Kind,
    document,
    moment,
)
from faas.vm import MAX_PAYLOAD, Answer, Call, Crashed, InitFailed, Logs, Stream

logger = logging.getLogger(__name__)

_READ = 65536
_EGRESS_PATIENCE = 5.0
"""Seconds for the mesh's proxy to accept a connection."""


@dataclass(slots=True)
class _Result:
    """What a runtime posted, as far as it has arrived."""

    stream: int
    header: Mapping[str, object]
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False

    def text(self, name: str) -> str:
        return str(self.header.get(name) or "")


@dataclass(slots=True)
class _Pipe:
    """What a function sent towards the mesh and nobody took yet; bounded by its window."""

    arrived: bytearray = field(default_factory=bytearray)
    ended: bool = False
    change: asyncio.Event = field(default_factory=asyncio.Event)


class Guest:
    """One agent at the other end of a channel.

    Args:
        vm: The VM's id, for errors.
        streams: What the guest sends, and where frames for it go.
        egress: Unix socket of the mesh's proxy; None: every connection is refused.
        logs: Takes each line of log.
        tasks: Runs the channel and the connections.
    """

    def __init__(
        self,
        vm: str,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        *,
        egress: Path | None,
        logs: Logs,
        tasks: Tasks,
    ) -> None:
        self._vm = vm
        self._reader, self._writer = streams
        self._egress = egress
        self._logs = logs
        self._tasks = tasks
        self._channel = Channel()
        self._pipes: dict[int, _Pipe] = {}
        self._connections = 0
        self._result: _Result | None = None
        self._seen: set[Kind] = set()
        self._exit: Mapping[str, object] | None = None
        self._over = False
        self._changed = asyncio.Condition()
        tasks.start(self._run(), name=f"guest {vm}")

    @property
    def over(self) -> bool:
        """Whether the runtime has exited or the channel is closed."""
        return self._over or self._exit is not None

    def close(self) -> None:
        """Hang up; the guest is over."""
        self._over = True
        self._writer.close()

    async def hello(self) -> None:
        """Return when the agent has said that it is up.

        Raises:
            Crashed: The channel closed instead.
        """
        await self._until(lambda: Kind.HELLO in self._seen)

    async def hold(self) -> None:
        """Bring the channel to rest for a snapshot: nothing is under way in either direction.

        The second answer comes after all that was sent before the first has been read.

        Raises:
            Crashed: The guest ended instead.
        """
        for stream, pipe in tuple(self._pipes.items()):
            self._reset(stream)
            pipe.change.set()
        for _ in range(2):
            self._seen.discard(Kind.HELLO)
            await self._send(Frame(Kind.HOLD))
            await self.hello()

    async def launch(self, order: Mapping[str, object]) -> None:
        """Start the runtime; return when it waits for a call or at its restore point.

        Raises:
            InitFailed: The runtime reported that it cannot load the function.
            Crashed: It ended without a word.
        """
        await self._send(Frame(Kind.LAUNCH, payload=document(order)))
        await self._settled(lambda: bool(self._seen & {Kind.PARKED, Kind.READY}))

    async def restore(self, unix_ns: int, entropy: bytes) -> None:
        """Make a clone its own: time, entropy, streams; return when its agent has done so.

        Raises:
            Crashed: The guest ended instead.
        """
        await self._send(Frame(Kind.RESTORE, payload=moment(unix_ns, entropy)))
        await self.hello()

    async def proceed(self) -> None:
        """Let a runtime at its restore point go on; return when it waits for a call.

        Raises:
            InitFailed: An after-restore hook of the function failed.
            Crashed: The guest ended instead.
        """
        self._seen -= {Kind.PARKED, Kind.READY}
        await self._send(Frame(Kind.PROCEED))
        await self._settled(lambda: Kind.READY in self._seen)

    @property
    def parked(self) -> bool:
        """Whether the runtime waits at its restore point."""
        return Kind.PARKED in self._seen

    async def set_clock(self, unix_ns: int) -> None:
        """Put the guest's clock right; applies before whatever is sent next."""
        await self._send(Frame(Kind.CLOCK, payload=moment(unix_ns)))

    async def invoke(self, call: Call, stream: Stream | None = None) -> Answer:
        """Run one call; its response goes to ``stream`` where there is one.

        Raises:
            Crashed: The runtime or the guest ended before it answered.
        """
        if self.over:
            raise self._crashed()
        self._result = None
        await self._send_event(call)
        await self._until(lambda: self._answered(call))
        result = self._result
        if result is None:
            raise self._crashed()
        if stream is not None:
            await stream.begin(result.text("content_type"))
            await stream.write(bytes(result.body))
        error = None
        if result.text("kind") == "error":
            error = result.text("error_type") or "Unhandled"
        return Answer(bytes(result.body), error, result.text("content_type"))

    def _answered(self, call: Call) -> bool:
        result = self._result
        return (
            result is not None
            and result.whole
            and result.text("kind") in ("response", "error")
            and result.text("request_id") == call.request_id
        )

    async def _send_event(self, call: Call) -> None:
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": call.request_id,
            "Lambda-Runtime-Deadline-Ms": str(call.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": call.arn,
            "Lambda-Runtime-Trace-Id": call.trace_id,
            "Lambda-Runtime-Client-Context": call.client_context,
        }
        fields = {name: value for name, value in headers.items() if value}
        stream = self._channel.open()
        self._writer.write(Frame(Kind.EVENT, stream, document(fields)).encoded())
        if call.payload:
            await self._send_data(stream, call.payload, end=True)
        else:
            await self._send(Frame(Kind.END, stream))
        self._channel.close(stream)

    async def _send_data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send ``data`` as the guest's credit allows, and with its last piece the end."""
        view = memoryview(data)
        while view:
            await self._until(
                lambda: self._channel.room(stream) > 0 or stream not in self._channel.streams
            )
            if stream not in self._channel.streams:
                raise ConnectionResetError
            size = min(len(view), self._channel.room(stream))
            frames = self._channel.data(stream, bytes(view[:size]))
            view = view[size:]
            if end and not view:
                frames += Frame(Kind.END, stream).encoded()
            self._writer.write(frames)
            await self._drain()

    async def gone(self) -> None:
        """Return when the runtime or the guest has ended."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.over)

    async def _settled(self, done: Callable[[], bool]) -> None:
        def failed() -> bool:
            result = self._result
            return result is not None and result.whole and result.text("kind").endswith("-error")

        await self._until(lambda: done() or failed())
        if failed() and self._result:
            raise _init_failed(self._result)

    async def _until(self, done: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: done() or self.over)
        if not done():
            raise self._crashed()

    def _crashed(self) -> Crashed:
        exit_ = self._exit or {}
        status, signal = exit_.get("status"), exit_.get("signal")
        return Crashed(
            self._vm,
            exit_status=status if isinstance(status, int) else None,
            signal=signal if isinstance(signal, int) else None,
        )

    async def _send(self, frame: Frame) -> None:
        self._writer.write(frame.encoded())
        await self._drain()

    async def _drain(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def _run(self) -> None:
        """Read frames until the guest is gone or breaks a rule."""
        try:
            while data := await self._reader.read(_READ):
                for frame in self._channel.receive(data):
                    self._receive(frame)
                async with self._changed:
                    self._changed.notify_all()
                await self._drain()
        except ChannelError as error:
            logger.warning("guest broke the channel", extra={"vm": self._vm, "why": str(error)})
        except ConnectionError:
            logger.debug("guest channel reset", extra={"vm": self._vm})
        finally:
            self._over = True
            self._writer.close()
            for pipe in self._pipes.values():
                pipe.ended = True
                pipe.change.set()
        async with self._changed:
            self._changed.notify_all()

    def _receive(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.HELLO | Kind.PARKED | Kind.READY:
                self._seen.add(frame.kind)
            case Kind.EXIT:
                self._exit = frame.fields()
            case Kind.LOG:
                self._logs(frame.payload.decode("utf-8", "replace"))
                self._consumed(LOG_STREAM, len(frame.payload) + 1)
            case Kind.RESULT:
                if self._result and not self._result.whole:
                    raise ChannelError("a result within a result", "one at a time")
                self._result = _Result(frame.stream, frame.fields())
            case Kind.CONNECT:
                self._receive_connect(frame.stream)
            case _ if self._result and frame.stream == self._result.stream:
                self._receive_result(self._result, frame)
            case _ if frame.stream in self._pipes:
                self._receive_egress(self._pipes[frame.stream], frame)
            case Kind.RESET if frame.stream not in self._channel.streams:
                self._writer.write(frame.encoded())
            case _:
                pass

    def _consumed(self, stream: int, amount: int) -> None:
        self._writer.write(self._channel.consumed(stream, amount))

    def _receive_result(self, result: _Result, frame: Frame) -> None:
        if frame.kind is Kind.END:
            result.whole = True
            self._channel.close(frame.stream)
        elif frame.kind is Kind.DATA:
            result.body += frame.payload
            if len(result.body) > MAX_PAYLOAD:
                raise ChannelError(f"a result over {MAX_PAYLOAD} bytes", "less")
            self._consumed(frame.stream, len(frame.payload))

    def _receive_connect(self, stream: int) -> None:
        """Begin a connection, unless too many are left of streams that the guest reset."""
        if self._connections == MAX_STREAMS:
            self._reset(stream)
            return
        self._connections += 1
        pipe = self._pipes[stream] = _Pipe()
        self._tasks.start(self._pipe(stream, pipe), name=f"egress {self._vm} {stream}")

    def _receive_egress(self, pipe: _Pipe, frame: Frame) -> None:
        match frame.kind:
            case Kind.DATA:
                pipe.arrived += frame.payload
            case Kind.END:
                pipe.ended = True
            case Kind.RESET:
                pipe.ended = True
                self._channel.close(frame.stream)
            case _:
                pass
        pipe.change.set()

    async def _pipe(self, stream: int, pipe: _Pipe) -> None:
        """Carry one connection of the function to the mesh's proxy and back."""
        try:
            await self._carry(stream, pipe)
        finally:
            self._connections -= 1

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
            self._channel.close(stream)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._egress is None:
            raise ConnectionRefusedError
        async with asyncio.timeout(_EGRESS_PATIENCE):
            return await asyncio.open_unix_connection(self._egress)

    def _reset(self, stream: int) -> None:
        self._pipes.pop(stream, None)
        self._channel.close(stream)
        if not self._over:
            self._writer.write(Frame(Kind.RESET, stream).encoded())

    async def _upload(self, stream: int, pipe: _Pipe, writer: asyncio.StreamWriter) -> None:
        while True:
            await pipe.change.wait()
            pipe.change.clear()
            if stream not in self._channel.streams or self._over:
                raise ConnectionResetError
            data = bytes(pipe.arrived)
            pipe.arrived.clear()
            if data:
                writer.write(data)
                await writer.drain()
                self._consumed(stream, len(data))
            elif pipe.ended:
                writer.write_eof()
                return
            if pipe.ended:
                pipe.change.set()

    async def _download(self, stream: int, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ):
            await self._send_data(stream, data)
        await self._send(Frame(Kind.END, stream))


def _init_failed(result: _Result) -> InitFailed:
    payload = bytes(result.body)
    try:
        fields = Frame(Kind.RESULT, payload=payload).fields()
    except ChannelError:
        fields = {}
    error_type = str(result.text("error_type") or fields.get("errorType") or "Runtime.Unknown")
    return InitFailed(error_type, str(fields.get("errorMessage") or ""), payload)
