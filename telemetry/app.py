"""Wire the telemetry service together and run it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc.aio
from aiohttp import web

from telemetry.http import application
from telemetry.ingest import Ingest, Used
from telemetry.server import AccessLogs
from wherry.clock import Clock
from wherry.serve import Address, bound, grpc_listening, listening


@dataclass(frozen=True, slots=True)
class Settings:
    """How the telemetry service runs.

    Attributes:
        grpc: Where Envoys send their access logs.
        http: Where Prometheus and people ask.
        max_edges: Edges that are counted apart, see `telemetry.rollup.Rollup`.
        max_message_bytes: A larger message ends its stream.
        max_streams: Streams open at once; more are refused, and Envoy tries again.
    """

    grpc: Address = field(default_factory=Address)
    http: Address = field(default_factory=Address)
    max_edges: int = 10_000
    max_message_bytes: int = 4 << 20
    max_streams: int = 4096


@dataclass(frozen=True, slots=True)
class Running:
    """A telemetry service that answers.

    Attributes:
        grpc: Where it takes access logs.
        http: Where it shows metrics.
    """

    grpc: Address
    http: Address


@asynccontextmanager
async def running(
    settings: Settings, *, clock: Clock, used: Used | None = None
) -> AsyncIterator[Running]:
    """Count access logs until the block ends.

    Args:
        settings: See `Settings`.
        clock: Where the time is read.
        used: Takes the uses of API products; None: nobody does.

    Raises:
        PortInUse: Another program listens at one of the addresses.
    """
    ingest = Ingest(max_edges=settings.max_edges, used=used)
    try:
        async with _pages(ingest, settings, clock) as http, _logs(ingest, settings, clock) as grpc_:
            yield Running(grpc_, http)
    finally:
        ingest.metrics.close()


@asynccontextmanager
async def _logs(ingest: Ingest, settings: Settings, clock: Clock) -> AsyncIterator[Address]:
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_concurrent_streams", settings.max_streams),
        ],
        maximum_concurrent_rpcs=settings.max_streams,
    )
    server.add_generic_rpc_handlers((AccessLogs(ingest, clock).handler(),))
    try:
        address = grpc_listening("telemetry", settings.grpc, server)
        await server.start()
        yield address
    finally:
        await server.stop(grace=None)


@asynccontextmanager
async def _pages(ingest: Ingest, settings: Settings, clock: Clock) -> AsyncIterator[Address]:
    app = application(ingest, clock, settings.http)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    sock = listening("metrics", settings.http)
    try:
        address = bound(sock)
        await runner.setup()
        await web.SockSite(runner, sock, backlog=128).start()
        yield address
    finally:
        await runner.cleanup()
        sock.close()
