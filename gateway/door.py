"""The server side in aiohttp: requests in, answers out; everything else is the pipeline's."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import EMPTY_PAYLOAD, hdrs
from aiohttp.client_exceptions import ClientError
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import (
    BaseRequest,
    RequestHandler,
    RequestPayloadError,
    ServerRunner,
    StreamResponse,
)

from gateway.call import Answer
from gateway.connection import MAX_LINE, BoundedServer, Connection, NoAccessLog
from gateway.pipeline import Pipeline
from gateway.problem import Refused
from gateway.request import ClientGone, Request
from gateway.tunnel import switched
from gateway.websocket import Switched
from gateway.whole import sent
from wherry.clock import Clock
from wherry.errors import WherryError

logger = logging.getLogger(__name__)

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
    sock: socket.socket, pipeline: Pipeline, settings: Settings, clock: Clock
) -> AsyncIterator[None]:
    """Serve the bound socket ``sock`` until the block ends; then calls under way are finished."""
    made = _Server(pipeline, settings, clock)
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
        asked = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
        if asked and request.version == HttpVersion11:
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


class _Nothing:
    """The body of a request that has none."""

    length: int | None = 0
    empty = True

    def arrived(self) -> bytes | None:
        return b""

    async def pieces(self) -> AsyncIterator[bytes]:
        yield b""


_NOTHING = _Nothing()


class _Server(BoundedServer):
    """Makes a `Connection` for each connection."""

    def __init__(self, pipeline: Pipeline, settings: Settings, clock: Clock) -> None:
        super().__init__(self._answer, settings.max_connections)
        self._pipeline, self._settings, self._clock = pipeline, settings, clock

    def __call__(self) -> RequestHandler:
        return Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log_class=NoAccessLog,
            auto_decompress=False,
            keepalive_timeout=self._settings.idle_seconds,
            lingering_time=2.0,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_FIELDS,
            read_bufsize=1 << 16,
        )

    async def _answer(self, request: BaseRequest) -> StreamResponse:
        answer = await self._pipeline.handle(_request(request))
        if self._pipeline.draining:
            answer.headers[hdrs.CONNECTION] = "close"
        if isinstance(answer.body, bytes):
            return await sent(request, answer, answer.body, self._clock.unix_ns())
        if isinstance(answer, Switched) and answer.tunnel is not None:
            return await switched(request, answer, answer.tunnel, answer.body)
        return await _streamed(request, answer, answer.body)


def _request(request: BaseRequest) -> Request:
    message, version = request._message, request.version
    made = Request(
        message.method,
        message.path,
        message.headers,
        request.remote or "",
        _NOTHING if request.content is EMPTY_PAYLOAD else _Source(request),
    )
    if version != (1, 1):
        made.protocol = f"HTTP/{version.major}.{version.minor}"
        if version != (1, 0):
            request._version = HttpVersion11  # the refusal's
    if request.protocol.ssl_context is not None:
        made.scheme = "https"
        tls = request.get_extra_info("ssl_object")
        made.certificate = None if tls is None else tls.getpeercert(binary_form=True)
    return made


async def _streamed(
    request: BaseRequest, answer: Answer, body: AsyncIterator[bytes]
) -> StreamResponse:
    made = StreamResponse(status=answer.status, reason=answer.reason, headers=answer.headers)
    if answer.headers.get(hdrs.CONNECTION) == "close":
        made.force_close()
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
