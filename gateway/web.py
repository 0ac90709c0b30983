"""Web applications beside the door: the admin API and the portal, each on a port of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import socket

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web import BaseRequest, RequestHandler, Server

from gateway.connection import MAX_LINE, BoundedServer, Connection, NoAccessLog

MAX_FIELDS = 64
"""Most header fields."""

MAX_CONNECTIONS = 256
"""Most connections at once; more are hung up on."""


class _Server(BoundedServer):
    def __init__(self, inner: Server, idle_seconds: float) -> None:
        super().__init__(inner.request_handler, MAX_CONNECTIONS)
        self._inner, self._idle = inner, idle_seconds
        self.request_factory = self._request

    def __call__(self) -> RequestHandler:
        return Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log_class=NoAccessLog,
            keepalive_timeout=self._idle,
            lingering_time=2.0,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_FIELDS,
        )

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> BaseRequest:
        return self._inner.request_factory(message, payload, protocol, writer, task)


@asynccontextmanager
async def opened(
    app: web.Application, sock: socket, *, idle_seconds: float, drain_seconds: float
) -> AsyncIterator[None]:
    """Serve ``app`` at the bound ``sock`` until the block ends; then requests under way end.

    Args:
        app: Whose requests; it is told not to name the server's version.
        sock: Where.
        idle_seconds: How long a connection may stay without a whole head of a request, and how
            long a client may take nothing of its answer.
        drain_seconds: How long requests under way may take to end.
    """
    app.on_response_prepare.append(_unnamed)
    inner = web.AppRunner(app, access_log=None)
    await inner.setup()
    try:
        if inner.server is None:
            raise RuntimeError(f"server at {sock.getsockname()}: none, expected one after setup")
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


async def _unnamed(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "wherry"
