"""One connection on asyncio: where bytes come and go, and the tasks of its calls."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import grpc
from typing_extensions import override

from wherry.clock import Clock
from xds.http2 import calls
from xds.http2.call import Aborted, Context
from xds.http2.connection import Bounds, Connection, Gone, Opened, Said
from xds.http2.frames import Code, Headers
from xds.limits import Limits

logger = logging.getLogger(__name__)

BUFFER = bytearray(1 << 16)
"""Where bytes arrive, of every connection: they are taken before the next arrive."""
PIECE = 1 << 16
"""Bytes that are written at once."""
MOST_HELD = 64 << 20
"""Bytes of messages that have not come whole, all streams of a server together."""
SPARE = 100
"""Calls and connections beside those of discovery streams."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a handler is found by."""

    method: str
    invocation_metadata: Sequence[tuple[str, str]] = ()


class Shared:
    """What the connections of one server have together.

    Args:
        handlers: What is served; their methods take and return bytes.
        clock: Where times are read.
        limits: What the server takes on.
        group: Owns the tasks of the calls.
    """

    def __init__(
        self,
        handlers: Sequence[grpc.GenericRpcHandler],
        clock: Clock,
        limits: Limits,
        group: asyncio.TaskGroup,
    ) -> None:
        self.handlers, self.clock, self.limits, self.group = handlers, clock, limits, group
        self.shells: set[Shell] = set()
        self.held = 0

    def method(self, path: str) -> Any:
        """Return the handler of a method.

        Raises:
            Ended: There is none.
        """
        asked = cast("grpc.HandlerCallDetails", Asked(path))
        for handler in self.handlers:
            method: Any = handler.service(asked)
            if method is not None and (method.response_streaming or not method.request_streaming):
                return method
        text = f"method {path[:200]!r}: unknown, expected one that is served"
        raise calls.Ended(calls.UNIMPLEMENTED, text)

    def hold(self, size: int) -> None:
        """Count ``size`` more bytes of messages that are not whole.

        Raises:
            Ended: There are too many.
        """
        self.held += size
        if self.held > MOST_HELD and size > 0:
            text = f"message: over {MOST_HELD} bytes of all, expected later"
            raise calls.Ended(calls.RESOURCE_EXHAUSTED, text)


class Shell(asyncio.BufferedProtocol):
    """One connection."""

    def __init__(self, shared: Shared) -> None:
        self._shared, self._loop = shared, asyncio.get_running_loop()
        now, limits = shared.clock.now(), shared.limits
        bounds = Bounds(limits.streams + SPARE, limits.metadata_bytes)
        self._connection = Connection(bounds, now)
        self._calls: dict[int, tuple[Context, asyncio.Task[None]]] = {}
        self._transport: asyncio.Transport
        self._buffer = memoryview(BUFFER)
        self._peer = ""
        self._due = self._paused = False
        self._alive_at = self._used_at = now
        self._asked_at: float | None = None
        self._closing_at: float | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._peer = str(transport.get_extra_info("peername"))
        shells, tls = self._shared.shells, transport.get_extra_info("ssl_object")
        full = len(shells) >= self._shared.limits.streams + SPARE
        if full or (tls is not None and tls.selected_alpn_protocol() != "h2"):
            self._transport.abort()
            return
        shells.add(self)
        self._flush()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.shells.discard(self)
        for number in list(self._calls):
            self._gone(number)

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    @override
    def buffer_updated(self, nbytes: int) -> None:
        self._alive()
        for event in self._connection.receive(bytes(self._buffer[:nbytes]), self._alive_at):
            match event:
                case Said():
                    self._said(event)
                case Opened():
                    self._opened(event.stream, event.headers, ended=event.ended)
                case Gone():
                    self._gone(event.stream)
        self._soon()

    @override
    def pause_writing(self) -> None:
        # A client that does not read is not listened to either, so nothing piles up for it.
        self._paused = True
        self._transport.pause_reading()

    @override
    def resume_writing(self) -> None:
        self._paused = False
        self._alive()
        self._transport.resume_reading()
        self._flush()

    def tick(self, now: float) -> None:
        """Look whether the client is there, and wants anything."""
        limits = self._shared.limits
        if self._closing_at is not None:
            if now - self._closing_at > limits.keepalive_timeout_seconds:
                self.abort()
        elif not self._calls and now - self._used_at > limits.idle_seconds:
            self.leave()
        elif self._asked_at is not None:
            if now - self._asked_at > limits.keepalive_timeout_seconds:
                self.abort()
        elif now - self._alive_at > limits.keepalive_seconds:
            self._asked_at = now
            self._connection.ping()
            self._flush()

    def announce(self) -> None:
        """Say that no new stream is taken."""
        self._connection.end(Code.NO_ERROR)
        self._flush()

    def leave(self) -> None:
        """End every call and hang up, once the client has read what was said."""
        self._connection.end(Code.NO_ERROR)
        for context, task in list(self._calls.values()):
            context.finish(calls.UNAVAILABLE, "server: stops, expected again")
            task.cancel()
        self._flush()
        self._hang_up()

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    def _alive(self) -> None:
        self._alive_at, self._asked_at = self._shared.clock.now(), None

    def _opened(self, number: int, headers: Headers, *, ended: bool) -> None:
        connection, shared = self._connection, self._shared
        try:
            call = calls.call_from(headers)
            method = shared.method(call.path)
        except calls.Ended as error:
            connection.strike()
            connection.finish(number, error.block)
            return
        context = Context(
            connection, number, self._peer, most=shared.limits.message_bytes, soon=self._soon
        )
        task = shared.group.create_task(
            self._run(method, context, call.seconds), name=f"xds/http2 {call.path}"
        )
        self._calls[number] = context, task
        task.add_done_callback(lambda _: self._done(number))
        if ended:
            context.heard(b"", 0, ended=True)

    async def _run(self, method: Any, context: Context, seconds: float | None) -> None:
        """Be the root of a call's task."""
        try:
            async with asyncio.timeout(seconds):
                if method.stream_stream is not None:
                    await method.stream_stream(context.requests(), context)
                elif not isinstance(raw := await context.read(), bytes):
                    pass
                elif method.unary_stream is not None:
                    await method.unary_stream(raw, context)
                else:
                    await context.write(await method.unary_unary(raw, context))
            context.finish(calls.OK)
        except Aborted as aborted:
            if aborted.code != calls.UNAVAILABLE:
                self._connection.strike()
        except TimeoutError:
            context.finish(calls.DEADLINE_EXCEEDED, f"call: over its {seconds} s")
        except Exception:
            logger.exception("call failed", extra={"peer": self._peer})
            context.finish(calls.UNKNOWN, "call: failed")

    def _done(self, number: int) -> None:
        context, _ = self._calls.pop(number)
        self._shared.hold(-context.messages.held)
        self._used_at = self._shared.clock.now()

    def _said(self, event: Said) -> None:
        found = self._calls.get(event.stream)
        if found is None:
            return
        context, task = found
        before = context.messages.held
        try:
            try:
                context.heard(event.body, event.size, ended=event.ended)
            finally:
                self._shared.hold(context.messages.held - before)
        except calls.Ended as error:
            self._connection.strike()
            context.finish(error.code, str(error))
            task.cancel()

    def _gone(self, number: int) -> None:
        found = self._calls.get(number)
        if found is not None:
            context, task = found
            context.over = True
            task.cancel()

    def _soon(self) -> None:
        """Write in a moment, together with what others have to write."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        connection, transport = self._connection, self._transport
        self._due = False
        if transport.is_closing():
            return
        while not self._paused and (output := connection.output(PIECE)):
            transport.write(output)
        if connection.drained:
            for number in connection.drained:
                if (found := self._calls.get(number)) is not None:
                    found[0].drained()
            connection.drained.clear()
        if connection.closed:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._closing_at is None:
            self._closing_at = self._shared.clock.now()
            if self._paused:
                self._transport.write(self._connection.output(0))
            self._transport.close()
