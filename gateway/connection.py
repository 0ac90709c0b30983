"""Connections of clients as every port of the gateway takes them: bounded, and never led astray."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp.abc import AbstractAccessLogger
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web import BaseRequest, RequestHandler, Response, Server, StreamResponse

from gateway import malformed
from gateway.problem import CONTENT_TYPE, Refused

logger = logging.getLogger(__name__)

Handler = Callable[[BaseRequest], Awaitable[StreamResponse]]
"""Answers one request."""

MAX_LINE = 8190
"""Most bytes in the request line, and in one header field."""


class NoAccessLog(AbstractAccessLogger):
    """Writes nothing: aiohttp's own lines would show keys that stand in a query."""

    @property
    def enabled(self) -> bool:
        """Whether it writes."""
        return False

    def log(self, request: BaseRequest, response: StreamResponse, time: float) -> None:
        """Write nothing."""


class Connection(RequestHandler):
    """Answers what is no HTTP, and our own failures, as problems; shows no bytes of a bad head.

    It hangs up on a client that sends no whole head, or takes nothing of its answer, for
    ``keepalive_timeout`` seconds.
    """

    _stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().pause_writing()
        self._watch_progress(self._unsent())

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().resume_writing()
        self._forget_progress()

    def connection_lost(self, exc: BaseException | None) -> None:
        """See `asyncio.Protocol`."""
        self._forget_progress()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """Return the answer to a request that could not be read, or whose handler failed."""
        del message  # it may repeat what the client sent
        request._version = (
            HttpVersion11  # of what could not be read it is 1.0, a lower one than ours
        )
        if isinstance(exc, LineTooLong):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            refused = Refused(status, f"A line of the head is over {MAX_LINE} bytes.")
        elif status == HTTPStatus.BAD_REQUEST:
            refused = malformed.refusal(exc.message if isinstance(exc, HttpProcessingError) else "")
        else:
            logger.error("request failed", exc_info=exc)
            refused = Refused(HTTPStatus(status), "The gateway failed.")
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer had begun")
        answer = answered(refused)
        answer.force_close()
        return answer

    def _watch_progress(self, unsent: int) -> None:
        loop = asyncio.get_running_loop()
        self._stalled = loop.call_later(self.keepalive_timeout, self._look_at_progress, unsent)

    def _look_at_progress(self, before: int) -> None:
        unsent = self._unsent()
        if unsent < before:
            self._watch_progress(unsent)
        elif self.transport is not None:
            self.transport.abort()

    def _forget_progress(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()

    def _unsent(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()


class BoundedServer(Server):
    """Hangs up on connections over a number.

    Args:
        handler: Answers requests.
        most: Connections at once.
    """

    def __init__(self, handler: Handler, most: int) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._most = most

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection, or hang up on it."""
        super().connection_made(handler, transport)
        if len(self.connections) > self._most:
            transport.abort()


def answered(refusal: Refused) -> Response:
    """Return a problem document as an answer."""
    return Response(
        status=refusal.status,
        body=refusal.body(),
        content_type=CONTENT_TYPE,
        headers={"Server": "wherry", **refusal.headers},
    )
