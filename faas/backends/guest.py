"""The host's side of one guest: runs its channel and calls it."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from faas.backends.egress import Egress
from faas.backends.result import Result, answer_of, init_failed, streamed
from faas.backends.tasks import Tasks
from faas.channel import (
    LOG_STREAM,
    Channel,
    ChannelError,
    Frame,
    Kind,
    document,
    moment,
)
from faas.vm import MAX_PAYLOAD, Answer, Call, Crashed, Logs, Stream
from wherry.clock import Clock, SystemClock

logger = logging.getLogger(__name__)

_READ = 65536
_FAREWELL = 2.0
"""Seconds that extensions have to end, as Lambda gives them."""
_LAST = 0.3
"""Seconds for the agent to end after them."""


class Guest:
    """One agent at the other end of a channel.

    Args:
        vm: The VM's id, for errors.
        streams: What the guest sends, and where frames for it go.
        egress: Unix socket of the mesh's proxy; None: every connection is refused.
        logs: Takes each line of log.
        tasks: Runs the channel and the connections.
        starved: Returns how many of its processes the host's kernel has killed for want of
            memory; None: the guest has a kernel of its own, which knows.
    """

    def __init__(
        self,
        vm: str,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        *,
        egress: Path | None,
        logs: Logs,
        tasks: Tasks,
        starved: Callable[[], int] | None = None,
    ) -> None:
        self._vm = vm
        self._reader, self._writer = streams
        self._logs = logs
        self._starved = starved
        self._killed = 0
        self._clock: Clock = SystemClock()
        self.channel = Channel()
        self._egress = Egress(vm, self, egress, tasks)
        self._result: Result | None = None
        self._taker = False
        self._extensions = 0
        self._resting = True
        self._rest_by = 0.0
        self._seen: set[Kind] = set()
        self._exit: Mapping[str, object] | None = None
        self._over = False
        self._changed = asyncio.Condition()
        tasks.start(self._run(), name=f"guest {vm}")

    @property
    def over(self) -> bool:
        """Whether the runtime has exited or the channel is closed."""
        return self._over or self._exit is not None

    @property
    def extensions(self) -> int:
        """How many extensions run beside the function."""
        return self._extensions

    @property
    def closed(self) -> bool:
        """Whether the channel is closed."""
        return self._over

    def write(self, frame: Frame) -> None:
        """Write a frame without waiting for room."""
        self._writer.write(frame.encoded())

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
        self._egress.reset()
        for _ in range(2):
            self._seen.discard(Kind.HELLO)
            await self.send(Frame(Kind.HOLD))
            await self.hello()

    async def launch(self, order: Mapping[str, object]) -> None:
        """Start the runtime; return when it waits for a call or at its restore point.

        Raises:
            InitFailed: The runtime reported that it cannot load the function.
            Crashed: It ended without a word.
        """
        self._killed = self._kills()
        await self.send(Frame(Kind.LAUNCH, payload=document(order)))
        await self._settled(lambda: bool(self._seen & {Kind.PARKED, Kind.READY}))

    async def restore(self, unix_ns: int, entropy: bytes, *, proceed: bool = False) -> None:
        """Make a clone its own: time, entropy, streams; return when its agent has done so.

        Args:
            unix_ns: The time now.
            entropy: Of this clone alone.
            proceed: Whether a runtime at its restore point goes on at once; see `proceeded`.

        Raises:
            Crashed: The guest ended instead.
        """
        frames = Frame(Kind.RESTORE, payload=moment(unix_ns, entropy)).encoded()
        if proceed:
            frames += self._go_on()
        self._writer.write(frames)
        await self._drain()
        await self.hello()

    async def proceed(self) -> None:
        """Let a runtime at its restore point go on; return when it waits for a call.

        Raises:
            InitFailed: An after-restore hook of the function failed.
            Crashed: The guest ended instead.
        """
        self._writer.write(self._go_on())
        await self._drain()
        await self.proceeded()

    async def proceeded(self) -> None:
        """Return when a runtime that goes on from its restore point waits for a call.

        Raises:
            InitFailed: An after-restore hook of the function failed.
            Crashed: The guest ended instead.
        """
        await self._settled(lambda: Kind.READY in self._seen)

    def _go_on(self) -> bytes:
        self._seen -= {Kind.PARKED, Kind.READY}
        return Frame(Kind.PROCEED).encoded()

    @property
    def parked(self) -> bool:
        """Whether the runtime waits at its restore point."""
        return Kind.PARKED in self._seen

    async def set_clock(self, unix_ns: int) -> None:
        """Put the guest's clock right; applies before whatever is sent next."""
        await self.send(Frame(Kind.CLOCK, payload=moment(unix_ns)))

    async def invoke(self, call: Call, stream: Stream | None = None) -> Answer:
        """Run one call; its response goes to ``stream`` where there is one.

        Raises:
            Crashed: The runtime or the guest ended before it answered.
        """
        if self.over:
            raise self._crashed()
        await self.rest()
        self._result = None
        self._killed = self._kills()
        self._taker = stream is not None
        self._resting = not self._extensions
        left = call.deadline_ms / 1000 - self._clock.unix_ns() / 1e9
        self._rest_by = asyncio.get_running_loop().time() + left
        await self._send_event(call)
        await self._until(lambda: self._answered(call))
        result = self._result
        if result is None:
            raise self._crashed()
        if result.taken and stream is not None:
            return await self._passed_on(result, stream)
        await self._until(lambda: result.whole)
        answer = answer_of(result)
        if stream is None or answer.error is not None:
            return answer
        await stream.begin(answer.content_type)
        await stream.write(answer.payload)
        return Answer(b"", None, answer.content_type, answer.used_mib)

    async def rest(self) -> None:
        """Return when the extensions, too, are done with the last call.

        They have as long as the function had; then the guest is over.

        Raises:
            Crashed: The guest ended instead.
        """
        try:
            async with asyncio.timeout_at(None if self._resting else self._rest_by):
                await self._until(lambda: self._resting)
        except TimeoutError:
            logger.warning("extensions are not done in time", extra={"vm": self._vm})
            self.close()
            raise self._crashed() from None

    async def farewell(self, reason: str) -> None:
        """Let extensions, where there are any, end in their own way; then the guest is over.

        Args:
            reason: ``spindown``, ``timeout`` or ``failure``.
        """
        if not self._extensions or self._over:
            return
        end = document({"reason": reason, "seconds": _FAREWELL})
        with contextlib.suppress(TimeoutError, Crashed):
            async with asyncio.timeout(_FAREWELL + _LAST):
                await self.send(Frame(Kind.SHUTDOWN, payload=end))
                async with self._changed:
                    await self._changed.wait_for(lambda: self._over)

    async def _passed_on(self, result: Result, stream: Stream) -> Answer:
        """Hand a response on as it comes; who takes it slowly slows the runtime down."""
        await stream.begin(result.text("content_type"))
        while True:
            await self._until(lambda: bool(result.body) or result.whole)
            if result.body:
                piece = bytes(result.body)
                result.body.clear()
                await stream.write(piece)
                self.consumed(result.stream, len(piece))
            elif result.whole:
                return streamed(result)

    def _answered(self, call: Call) -> bool:
        result = self._result
        return (
            result is not None
            and (result.whole or result.taken)
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
            "Lambda-Runtime-Cognito-Identity": call.cognito_identity,
        }
        fields = {name: value for name, value in headers.items() if value}
        stream = self.channel.open()
        self._writer.write(Frame(Kind.EVENT, stream, document(fields)).encoded())
        if call.payload:
            await self.send_data(stream, call.payload, end=True)
        else:
            await self.send(Frame(Kind.END, stream))
        self.channel.close(stream)

    async def send_data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send ``data`` as the guest's credit allows, and with its last piece the end."""
        view = memoryview(data)
        while view:
            await self._until(
                lambda: self.channel.room(stream) > 0 or stream not in self.channel.streams
            )
            if stream not in self.channel.streams:
                raise ConnectionResetError
            size = min(len(view), self.channel.room(stream))
            frames = self.channel.data(stream, bytes(view[:size]))
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
            raise init_failed(self._result)

    async def _until(self, done: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: done() or self.over)
        if not done():
            raise self._crashed()

    def _crashed(self) -> Crashed:
        exit_ = self._exit or {}
        status, killed = exit_.get("status"), exit_.get("signal")
        starved = exit_.get("out_of_memory") is True
        if self._starved is not None:
            starved = self._kills() > self._killed
            if starved and self._exit is None:
                killed = int(signal.SIGKILL)
        return Crashed(
            self._vm,
            exit_status=status if isinstance(status, int) else None,
            signal=killed if isinstance(killed, int) else None,
            error_type=str(exit_.get("error_type") or "Runtime.ExitError"),
            out_of_memory=starved and killed == signal.SIGKILL,
        )

    def _kills(self) -> int:
        return 0 if self._starved is None else self._starved()

    async def send(self, frame: Frame) -> None:
        """Write a frame; return when there is room for another."""
        self._writer.write(frame.encoded())
        await self._drain()

    async def _drain(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def _run(self) -> None:
        """Read frames until the guest is gone or breaks a rule."""
        try:
            while data := await self._reader.read(_READ):
                for frame in self.channel.receive(data):
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
            self._egress.close()
        async with self._changed:
            self._changed.notify_all()

    def _receive(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.HELLO | Kind.PARKED | Kind.READY | Kind.RESTED | Kind.EXIT:
                self._receive_phase(frame)
            case Kind.LOG:
                self._logs(frame.payload.decode("utf-8", "replace"))
                self.consumed(LOG_STREAM, len(frame.payload) + 1)
            case Kind.RESULT:
                if self._result and not self._result.whole:
                    raise ChannelError("a result within a result", "one at a time")
                self._result = self._begun(frame)
            case Kind.CONNECT:
                self._egress.begin(frame.stream)
            case _ if self._result and frame.stream == self._result.stream:
                self._receive_result(self._result, frame)
            case _ if frame.stream in self._egress:
                self._egress.receive(frame)
            case Kind.RESET if frame.stream not in self.channel.streams:
                self._writer.write(frame.encoded())
            case _:
                pass

    def consumed(self, stream: int, amount: int) -> None:
        """Give the guest back its credit for what was taken from ``stream``."""
        self._writer.write(self.channel.consumed(stream, amount))

    def _receive_phase(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.EXIT:
                self._exit = frame.fields()
            case Kind.RESTED:
                self._resting = True
            case Kind.READY if frame.payload:
                number = frame.fields().get("extensions")
                self._extensions = number if isinstance(number, int) else 0
            case _:
                pass
        self._seen.add(frame.kind)

    def _begun(self, frame: Frame) -> Result:
        header = frame.fields()
        streaming = header.get("streaming") is True and header.get("kind") == "response"
        return Result(frame.stream, header, streaming, taken=streaming and self._taker)

    def _receive_result(self, result: Result, frame: Frame) -> None:
        match frame.kind:
            case Kind.END | Kind.RESET:
                if frame.payload:
                    result.trailer = frame.fields()
                result.whole = True
                self.channel.close(frame.stream)
            case Kind.DATA:
                self._receive_piece(result, frame.payload)
            case _:
                pass

    def _receive_piece(self, result: Result, piece: bytes) -> None:
        result.size += len(piece)
        if result.taken:
            result.body += piece
            return
        if result.size <= MAX_PAYLOAD:
            result.body += piece
        elif not result.streaming:
            raise ChannelError(f"a result over {MAX_PAYLOAD} bytes", "less")
        else:
            result.body.clear()
        self.consumed(result.stream, len(piece))
