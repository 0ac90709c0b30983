"""One request and its answer on one connection."""

import asyncio
from collections import deque
from typing import Protocol

from gateway.upstream.trouble import Late

HIGH_WATER = 1 << 18
"""Bytes of an answer that wait to be read before its connection is read no further."""


class Line(Protocol):
    """The connection that an exchange is on."""

    place: str

    def pause(self) -> None:
        """Read nothing more for now."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...

    def ended(self, exchange: "Exchange") -> None:
        """Take the connection back; one whose answer is not whole is closed."""
        ...

    def write(self, data: bytes) -> None:
        """Send more."""
        ...

    @property
    def full(self) -> bool:
        """Whether what was sent waits to be taken."""
        ...

    async def drained(self) -> None:
        """Return when there is room for more, or the connection is lost."""
        ...


class Exchange:
    """An answer as it comes.

    Attributes:
        method: Of the request.
        status: Of the answer; 0 before it came.
        reason: Beside the status.
        fields: Of the answer, as they came.
        headed: The head is here.
        complete: All of it is here.
        heard: Any byte of it came.
        error: Why no more will come.
        sender: Sends the request's body, if that takes time.
    """

    __slots__ = (
        "_chunks",
        "_heard_at",
        "_line",
        "_paused",
        "_size",
        "_timer",
        "_waiter",
        "complete",
        "error",
        "fields",
        "headed",
        "heard",
        "method",
        "reason",
        "sender",
        "status",
    )

    def __init__(self, line: Line, method: str) -> None:
        self._line, self.method = line, method
        self.status, self.reason = 0, ""
        self.fields: list[tuple[str, str]] = []
        self.headed = self.complete = self.heard = False
        self.error: Exception | None = None
        self.sender: asyncio.Task[None] | None = None
        self._chunks: deque[bytes] = deque()
        self._size, self._paused = 0, False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0

    async def head(self, seconds: float) -> None:
        """Return when the answer's head is here.

        Raises:
            UpstreamError: None came.
        """
        while not self.headed:
            if self.error is not None:
                raise self.error
            await self._more(seconds)

    def whole(self) -> bytes | None:
        """Return the whole body if it is here and none of it was taken; else None."""
        if not self.complete or self.error is not None:
            return None
        if len(self._chunks) == 1:
            return self._chunks.popleft()
        taken = b"".join(self._chunks)
        self._chunks.clear()
        return taken

    async def piece(self, seconds: float) -> bytes:
        """Return the next bytes of the body; none at its end.

        Raises:
            UpstreamError: It broke off, or nothing came for ``seconds``.
        """
        while not self._chunks:
            if self.error is not None:
                raise self.error
            if self.complete:
                return b""
            await self._more(seconds)
        taken = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            self._line.resume()
        return taken

    def close(self) -> None:
        """Give the connection back; safe to call more than once."""
        self._line.ended(self)

    def feed(self, data: bytes) -> None:
        """Take bytes of the body."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._paused:
            self._paused = True
            self._line.pause()

    def fail(self, error: Exception) -> None:
        """Let no more come; the first error counts."""
        if self.error is None and not self.complete:
            self.error = error
        self.wake()

    def wake(self) -> None:
        """Let the reader look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def send(self, data: bytes) -> bool:
        """Send bytes of another protocol, which count against silence; return if there is room."""
        self._heard_at = asyncio.get_running_loop().time()
        self._line.write(data)
        return not self._line.full

    async def room(self) -> None:
        """Return when there is room to send more."""
        await self._line.drained()

    def end(self) -> None:
        """Let what came by now be all."""
        self.complete = True
        self.wake()

    async def _more(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        self._timer = loop.call_later(seconds, self._expire, loop.time(), seconds)
        try:
            await self._waiter
        finally:
            self._timer.cancel()
            self._waiter = self._timer = None

    def _expire(self, since: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._heard_at > since:
            # The other side spoke meanwhile.
            left = self._heard_at + seconds - loop.time()
            self._timer = loop.call_later(left, self._expire, self._heard_at, seconds)
        else:
            self.fail(Late(self._line.place, seconds))
