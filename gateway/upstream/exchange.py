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

    def look_at(self, when: float) -> None:
        """Ask whether the exchange is overdue, at ``when`` (loop time) or before."""
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
        "_seconds",
        "_since",
        "_size",
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
        self._since = self._seconds = self._heard_at = 0.0

    async def head(self, seconds: float) -> None:
        """Return when the answer's head is here.

        Raises:
            UpstreamError: None came.
        """
        while self.error is None and not self.headed:
            await self._more(seconds)
        if self.error is not None:
            raise self.error

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

    def overdue(self, now: float) -> float | None:
        """Fail if the reader waited too long at ``now`` (loop time).

        Returns:
            When to look again; None: nobody waits.
        """
        if self._waiter is None or self._waiter.done():
            return None
        ends = max(self._since, self._heard_at) + self._seconds
        if now < ends:
            return ends
        self.fail(Late(self._line.place, self._seconds))
        return None

    def _more(self, seconds: float) -> asyncio.Future[None]:
        """Return what ends when there is more to see."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        self._since, self._seconds = loop.time(), seconds
        self._line.look_at(self._since + seconds)
        return waiter
