"""Connections of the admin API: bounded, and with a problem document for what is no HTTP."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from socket import socket

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger, AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web import BaseRequest, RequestHandler, Server, StreamResponse

from gateway.admin.refusals import answered
from gateway.problem import Refused

logger = logging.getLogger(__name__)

MAX_HEAD = 8190
"""Most bytes of the request line, and of one header field."""

MAX_FIELDS = 64
"""Most header fields."""

MAX_CONNECTIONS = 256
"""Most connections at once; more are hung up on."""


class _NoAccessLog(AbstractAccessLogger):
    """Writes nothing: every change is in the audit log."""

    @property
    def enabled(self) -> bool:
        return False

    def log(self, request: BaseRequest, response: StreamResponse, time: float) -> None:
        pass


class _Connection(RequestHandler):
    """Hangs up on who sends no head, and shows no bytes of a bad one."""

    _silent: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if isinstance(transport, asyncio.WriteTransport):
            loop = asyncio.get_running_loop()
            self._silent = loop.call_later(self.keepalive_timeout, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.heard()
        super().connection_lost(exc)

    def heard(self) -> None:
        """Take note that a first request is here."""
        if self._silent is not None:
            self._silent.cancel()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        if isinstance(exc, LineTooLong):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            refused = Refused(status, f"A line of the head is over {MAX_HEAD} bytes.")
        elif status == HTTPStatus.BAD_REQUEST:
            refused = Refused(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP.")
        else:
            logger.error("admin request failed", exc_info=exc)
            refused = Refused(HTTPStatus(status), "The admin API failed; its log says more.")
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer had begun")
        answer = answered(refused)
        answer.force_close()
        return answer


class _Server(Server):
    def __init__(self, inner: Server, idle_seconds: float) -> None:
        super().__init__(inner.request_handler, handler_cancellation=True)
        self._inner, self._idle = inner, idle_seconds
        self.request_factory = self._request

    def __call__(self) -> RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log_class=_NoAccessLog,
            keepalive_timeout=self._idle,
            lingering_time=2.0,
            max_line_size=MAX_HEAD,
            max_field_size=MAX_HEAD,
            max_headers=MAX_FIELDS,
        )

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> BaseRequest:
        if isinstance(protocol, _Connection):
            protocol.heard()
        return self._inner.request_factory(message, payload, protocol, writer, task)


@asynccontextmanager
async def opened(
    app: web.Application, sock: socket, *, idle_seconds: float, drain_seconds: float
) -> AsyncIterator[None]:
    """Serve ``app`` at the bound ``sock`` until the block ends; then requests under way end.

    Args:
        app: Whose requests.
        sock: Where.
        idle_seconds: How long a connection may stay without a request.
        drain_seconds: How long requests under way may take to end.
    """
    inner = web.AppRunner(app, access_log=None)
    await inner.setup()
    try:
        if inner.server is None:
            raise RuntimeError("admin: a runner without a server, expected one after setup")
        server = _Server(inner.server, idle_seconds)
        runner = web.ServerRunner(server, shutdown_timeout=drain_seconds)
        await runner.setup()
        try:
            await web.SockSite(runner, sock, backlog=128).start()
            yield
        finally:
            await runner.cleanup()
    finally:
        await inner.cleanup()
