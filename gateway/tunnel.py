"""WebSockets at the server's side: a connection of aiohttp becomes one end of a tunnel."""

import asyncio
import logging
from collections.abc import AsyncIterator

from aiohttp.web import BaseRequest, StreamResponse

from gateway.call import Answer
from gateway.websocket import PROTOCOL, Tunnel
from wherry.errors import WherryError

logger = logging.getLogger(__name__)


class _Said(StreamResponse):
    """An answer that was written already, on a connection that is no longer HTTP."""

    async def prepare(self, request: BaseRequest) -> None:
        del request

    async def write_eof(self, data: bytes = b"") -> None:
        del data


class _Feeder:
    """Gives a tunnel what the client says; takes no more while there is no room."""

    def __init__(self, tunnel: Tunnel, request: BaseRequest) -> None:
        self._tunnel, self._transport = tunnel, request.transport
        self.full = asyncio.Event()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        if not self._tunnel.send(data) and self._transport is not None:
            self._transport.pause_reading()
            self.full.set()
        return False, b""

    def feed_eof(self) -> None:
        self._tunnel.hang_up()

    async def relieve(self) -> None:
        """Let the client go on whenever there is room again."""
        while True:
            await self.full.wait()
            self.full.clear()
            await self._tunnel.room()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()


async def switched(
    request: BaseRequest, answer: Answer, tunnel: Tunnel, body: AsyncIterator[bytes]
) -> StreamResponse:
    """Pass bytes both ways until a side ends.

    Args:
        request: What asked for it.
        answer: The upstream's, with status 101.
        tunnel: Takes what the client says.
        body: What the upstream says; closed at the end.
    """
    said = _Said()
    said.force_close()
    lines = [f"HTTP/1.1 {answer.status} Switching Protocols"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    lines += ["Connection: upgrade", f"Upgrade: {PROTOCOL}", "\r\n"]
    feeder = _Feeder(tunnel, request)
    try:
        async with asyncio.TaskGroup() as group:
            relief = group.create_task(feeder.relieve(), name="gateway: tunnel")
            await request.writer.write("\r\n".join(lines).encode())
            request.protocol.set_parser(feeder)  # type: ignore[arg-type]
            async for piece in body:
                await request.writer.write(piece)
            relief.cancel()
    except* (WherryError, OSError) as errors:
        logger.debug("tunnel ended", extra={"cause": repr(errors.exceptions[0])})
    finally:
        await body.aclose()  # type: ignore[attr-defined]
    return said
