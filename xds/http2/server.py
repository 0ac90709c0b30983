"""gRPC handlers of bytes on an HTTP/2 shell of our own, in place of grpc.aio or beside it.

Source: docs/decisions/0012-a-second-http2-shell.md
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import grpc

from wherry.clock import Clock, SystemClock
from wherry.serve import Address, bound, listening, shared_by
from xds.http2.shell import Shared, Shell
from xds.limits import Limits

TICK = 1.0
"""Seconds between two looks at the time."""
_GRACE = 0.1
_BACKLOG = 1024


@asynccontextmanager
async def serving(
    address: Address,
    handlers: Sequence[grpc.GenericRpcHandler],
    *,
    clock: Clock | None = None,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    share: bool = False,
    ending: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[Address]:
    """Serve ``handlers`` at ``address`` until the block ends; yield where that is.

    Args:
        address: Where; keep it on loopback or a trusted network.
        handlers: As `xds.streams.Streams.handlers` returns them: of bytes, one message or a
            stream each way, but no stream that one message answers.
        clock: Where times are read; None is the host's.
        limits: None is the default.
        tls: None is plain text, to clients that know that it is HTTP/2.
        share: Whether other processes serve at the same address.
        ending: Awaited at the end, while no new stream is taken and the others go on, as by
            `xds.streams.Streams.hand_over`. None: they end at once.

    Raises:
        PortInUse: Another program listens there.
    """
    clock = clock or SystemClock()
    if tls is not None:
        tls.set_alpn_protocols(["h2"])
    sock = shared_by("xds", address) if share else listening("xds", address)
    loop = asyncio.get_running_loop()
    async with _tasks() as group:
        shared = Shared(handlers, clock, limits or Limits(), group)
        server = await loop.create_server(
            lambda: Shell(shared), sock=sock, ssl=tls, backlog=_BACKLOG
        )
        ticking = group.create_task(_tick(shared), name="xds/http2 ticking")
        try:
            yield bound(sock)
        finally:
            server.close()
            for shell in list(shared.shells):
                shell.announce()
            if ending is not None:
                await ending()
            for shell in list(shared.shells):
                shell.leave()
            ticking.cancel()
            await asyncio.sleep(_GRACE if shared.shells else 0)
            for shell in list(shared.shells):
                shell.abort()


@asynccontextmanager
async def _tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """Own tasks as a TaskGroup does, but let an error of the block itself leave as it is."""
    raised: Exception | None = None
    async with asyncio.TaskGroup() as group:
        try:
            yield group
        except Exception as error:
            raised = error
    if raised is not None:
        raise raised


async def _tick(shared: Shared) -> None:
    while True:
        await asyncio.sleep(TICK)
        now = shared.clock.now()
        for shell in list(shared.shells):
            shell.tick(now)
