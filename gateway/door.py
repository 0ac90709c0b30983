"""The server side in aiohttp: requests in, answers out; everything else is the pipeline's."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import hdrs
from aiohttp.abc import AbstractAccessLogger
from aiohttp.client_exceptions import ClientError
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web import (
    BaseRequest,
    RequestHandler,
    RequestPayloadError,
    Response,
    Server,
    ServerRunner,
    StreamResponse,
)

from gateway.call import Answer
from gateway.passing import refusal
from gateway.pipeline import Pipeline
from gateway.problem import Refused
from gateway.request import ClientGone, Request
from gateway.tunnel import switched
from gateway.websocket import Switched
from wherry.errors import WherryError

logger = logging.getLogger(__name__)

MAX_LINE = 8190
"""Most bytes in the request line, and in one header field."""

MAX_FIELDS = 100
"""Most header fields in a request."""

MAX_CONNECTIONS = 8192
"""Most connections of clients at once; more are hung up on."""


HANDSHAKE_SECONDS = 10.0
"""Longest that a client may take for a TLS handshake."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How clients are served.

    Attributes:
        idle_seconds: How long a connection may stay without a whole head of a request, and how
            long a client may take nothing of its answer.
        drain_seconds: How long calls under way may take to end when the door closes.
        max_connections: See `MAX_CONNECTIONS`.
        tls: The gateway's certificate, and whose certificates of clients count; None is plain.
    """

    idle_seconds: float = 75.0
    drain_seconds: float = 10.0
    max_connections: int = MAX_CONNECTIONS
    tls: ssl.SSLContext | None = None


@asynccontextmanager
async def open(  # noqa: A001
    sock: socket.socket, pipeline: Pipeline, settings: Settings
) -> AsyncIterator[None]:
    """Serve the bound socket ``sock`` until the block ends; then calls under way are finished."""
    made = _Server(pipeline, settings)
    runner = ServerRunner(made, shutdown_timeout=settings.drain_seconds)
    await runner.setup()
    timeout = None if settings.tls is None else HANDSHAKE_SECONDS
    server = await asyncio.get_running_loop().create_server(
        made, sock=sock, backlog=1024, ssl=settings.tls, ssl_handshake_timeout=timeout
    )
    try:
        yield
    finally:
        server.close()
        await runner.cleanup()


class _NoAccessLog(AbstractAccessLogger):
    """Writes nothing: aiohttp's own lines would show keys that stand in a query."""

    @property
    def enabled(self) -> bool:
        return False

    def log(self, request: BaseRequest, response: StreamResponse, time: float) -> None:
        pass


class _Source:
    """The body of a request that aiohttp reads."""

    __slots__ = ("_request", "length")

    def __init__(self, request: BaseRequest) -> None:
        self._request = request
        self.length = request.content_length

    @property
    def empty(self) -> bool:
        return not self._request.can_read_body

    def arrived(self) -> bytes | None:
        request = self._request
        if not request.can_read_body:
            return b""
        if not request.content.is_eof() or request.content.exception() is not None:
            return None
        return request.content.read_nowait(-1)

    async def pieces(self) -> AsyncIterator[bytes]:
        request = self._request
        # A client that asked first sends nothing until it is told to (RFC 9110, 10.1.1).
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            writer = request.writer
            await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            writer.output_size = 0
        try:
            async for chunk in request.content.iter_any():
                yield chunk
        except (RequestPayloadError, HttpProcessingError, ClientError):
            raise Refused(HTTPStatus.BAD_REQUEST, "The body is not valid HTTP.") from None
        except OSError:
            raise ClientGone("client: hung up, expected the rest of its body") from None


class _Connection(RequestHandler):
    """Answers what is no HTTP, and our own failures, as problems.

    It hangs up on a client that takes nothing of its answer for `idle_seconds`.
    """

    _stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_progress(self._unsent())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_progress()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_progress()
        super().connection_lost(exc)

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

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        if isinstance(exc, LineTooLong):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            refused = Refused(status, f"A line of the head is over {MAX_LINE} bytes.")
        elif status == HTTPStatus.BAD_REQUEST:
            refused = Refused(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP.")
        else:
            logger.error("call failed", exc_info=exc)
            refused = Refused(HTTPStatus(status), "The gateway failed.")
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer had begun")
        answer = _whole(request, refusal(refused), refusal(refused).body)
        answer.force_close()
        return answer


class _Server(Server):
    """Makes a `_Connection` for each connection."""

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        super().__init__(self._answer, handler_cancellation=True)
        self._pipeline, self._settings = pipeline, settings

    def __call__(self) -> RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log_class=_NoAccessLog,
            auto_decompress=False,
            keepalive_timeout=self._settings.idle_seconds,
            lingering_time=2.0,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_FIELDS,
            read_bufsize=1 << 16,
        )

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > self._settings.max_connections:
            transport.abort()

    async def _answer(self, request: BaseRequest) -> StreamResponse:
        answer = await self._pipeline.handle(_request(request))
        if isinstance(answer.body, bytes):
            return _whole(request, answer, answer.body)
        if isinstance(answer, Switched) and answer.tunnel is not None:
            return await switched(request, answer, answer.tunnel, answer.body)
        return await _streamed(request, answer, answer.body)


def _request(request: BaseRequest) -> Request:
    message, version = request._message, request.version
    made = Request(
        message.method, message.path, message.headers, request.remote or "", _Source(request)
    )
    if version != (1, 1):
        made.protocol = f"HTTP/{version.major}.{version.minor}"
    if request.secure:
        made.scheme = "https"
        tls = request.get_extra_info("ssl_object")
        made.certificate = None if tls is None else tls.getpeercert(binary_form=True)
    return made


def _whole(request: BaseRequest, answer: Answer, body: object) -> StreamResponse:
    headers = answer.headers
    if request.method == hdrs.METH_HEAD and not body:
        # The length that a GET would have is the upstream's to say.
        made = StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    else:
        headers.popall(hdrs.CONTENT_LENGTH, None)
        made = Response(
            status=answer.status, reason=answer.reason, headers=headers, body=body or None
        )
    if headers.get(hdrs.CONNECTION) == "close":
        made.force_close()
    return made


async def _streamed(
    request: BaseRequest, answer: Answer, body: AsyncIterator[bytes]
) -> StreamResponse:
    made = StreamResponse(status=answer.status, reason=answer.reason, headers=answer.headers)
    try:
        await made.prepare(request)
        async for piece in body:
            await made.write(piece)
    except WherryError as error:
        # The head is sent: only a broken connection says that the body is not whole.
        logger.info("answer broke off", extra={"cause": type(error).__name__})
        if request.transport is not None:
            request.transport.abort()
        return made
    finally:
        await body.aclose()  # type: ignore[attr-defined]
    await made.write_eof()
    return made
