"""A door without aiohttp: what is left to gain beside `gateway.door`; no server for users.

It takes requests without a body, one at a time for each connection, and has none of the limits
of the real one.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from httptools import HttpRequestParser
from multidict import CIMultiDict

from gateway import app
from gateway.call import Answer
from gateway.door import Settings
from gateway.pipeline import Pipeline
from gateway.request import Request
from wherry.clock import Clock

_PHRASES = {each.value: each.phrase for each in HTTPStatus}


class _Nothing:
    """A body without a byte."""

    length: int | None = None
    empty = True

    def arrived(self) -> bytes | None:
        return b""

    async def pieces(self) -> AsyncIterator[bytes]:
        yield b""


_NOTHING = _Nothing()


class _Connection(asyncio.Protocol):
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._parser = HttpRequestParser(self)
        self._fields: list[tuple[str, str]] = []
        self._target = b""
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._peer = transport.get_extra_info("peername")[0]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._fields, self._target = [], b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_message_complete(self) -> None:
        request = Request(
            self._parser.get_method().decode(),
            self._target.decode("latin-1"),
            CIMultiDict(self._fields),
            self._peer,
            _NOTHING,
        )
        self._task = asyncio.get_running_loop().create_task(self._answered(request))

    async def _answered(self, request: Request) -> None:
        answer = await self._pipeline.handle(request)
        if isinstance(answer.body, bytes):
            self._transport.write(_encoded(answer, answer.body))
        else:
            self._transport.close()


def _encoded(answer: Answer, body: bytes) -> bytes:
    headers = answer.headers
    headers["Content-Length"] = str(len(body))
    lines = [f"HTTP/1.1 {answer.status} {answer.reason or _PHRASES[answer.status]}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "\r\n"]).encode() + body


@asynccontextmanager
async def open(  # noqa: A001
    sock: socket.socket, pipeline: Pipeline, settings: Settings, clock: Clock
) -> AsyncIterator[None]:
    """Serve the bound socket ``sock`` until the block ends."""
    del settings, clock
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(pipeline), sock=sock, backlog=1024)
    try:
        yield
    finally:
        server.close()


def take_the_place_of_the_real_one() -> None:
    """Let gateways of this process be served by this door."""
    app.door.open = open
