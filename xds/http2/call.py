"""One gRPC call on the shell of our own, as its handler sees it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio

from xds.http2 import calls
from xds.http2.connection import Connection


class Aborted(Exception):
    """A handler ended its call; its root has nothing left to do.

    Attributes:
        code: What the client was told.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Context:
    """What the handler of a call is given: the part of `grpc.aio.ServicerContext` that ours use.

    A handler that does not read holds back its client by flow control: at most a window of small
    messages waits here, or one long one.

    Args:
        connection: Where the call is a stream.
        number: Of the stream.
        peer: Who calls.
        most: Bytes of the longest message.
        soon: Called when there is something to write.
    """

    __slots__ = (
        "_connection",
        "_ended",
        "_inbox",
        "_news",
        "_number",
        "_peer",
        "_soon",
        "_unread",
        "_written",
        "headed",
        "messages",
        "over",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        number: int,
        peer: str,
        *,
        most: int,
        soon: Callable[[], None],
    ) -> None:
        self._connection, self._number, self._peer, self._soon = connection, number, peer, soon
        self.messages = calls.Messages(most)
        self._inbox: deque[bytes] = deque()
        self._unread = 0
        self._news: asyncio.Future[None] | None = None
        self._written: asyncio.Future[None] | None = None
        self._ended = self.headed = self.over = False

    async def read(self) -> Any:
        """Return the next message, or EOF after the last."""
        while not self._inbox:
            if self._ended:
                return grpc.aio.EOF
            self._news = asyncio.get_running_loop().create_future()
            try:
                await self._news
            finally:
                self._news = None
        raw = self._inbox.popleft()
        if not self._inbox:
            self._took()
        return raw

    async def write(self, raw: bytes) -> None:
        """Send a message; return when the client's windows let it through.

        Raises:
            CancelledError: The call is over. Its task is told so, too, but tasks that it began
                may come to write before it ends them.
        """
        if self.over:
            raise asyncio.CancelledError("call: over, expected no more messages")
        self._head()
        self._soon()
        if not self._connection.send(self._number, calls.PREFIX.pack(0, len(raw)), raw):
            self._written = asyncio.get_running_loop().create_future()
            try:
                await self._written
            finally:
                self._written = None

    async def abort(self, code: grpc.StatusCode, details: str = "") -> Any:
        """End the call with an error.

        Raises:
            Aborted: Always.
        """
        self.finish(code.value[0], details)
        raise Aborted(code.value[0], details)

    def peer(self) -> str:
        """Return who calls."""
        return self._peer

    async def requests(self) -> AsyncIterator[bytes]:
        """Yield every message."""
        while (raw := await self.read()) is not grpc.aio.EOF:
            yield raw

    def heard(self, body: bytes, size: int, *, ended: bool) -> None:
        """Take what the client sent.

        Raises:
            Ended: It is no message, or one that is refused.
        """
        self._inbox += self.messages.whole(body)
        self._ended = ended
        self._unread += size
        if not self._inbox:
            self._took()  # what there is of a message is no whole one yet
        if (self._inbox or ended) and self._news is not None and not self._news.done():
            self._news.set_result(None)

    def drained(self) -> None:
        """Let a write go on that waited."""
        if self._written is not None and not self._written.done():
            self._written.set_result(None)

    def finish(self, code: int, text: str = "") -> None:
        """End the call; once it is over nothing is said on it any more."""
        if not self.over:
            self.over = True
            block = calls.trailers(code, text) if self.headed else calls.only_trailers(code, text)
            self._connection.finish(self._number, block, patient=code == calls.OK)
            self._soon()

    def _head(self) -> None:
        if not self.headed:
            self.headed = True
            self._connection.head(self._number, _ANSWER)

    def _took(self) -> None:
        self._connection.took(self._number, self._unread)
        self._unread = 0
        self._soon()


_ANSWER = calls.headers()
