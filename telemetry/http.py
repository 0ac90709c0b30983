"""What telemetry tells over HTTP: Prometheus text, and the edges for people."""

import asyncio
from dataclasses import asdict

from aiohttp import web

from telemetry.ingest import Ingest
from telemetry.rollup import LATENCY_SECONDS, RATE_SECONDS
from wherry.clock import Clock
from wherry.serve import Address
from wherry.web import local_names_only

MAX_SHOWN = 1_000
"""Most edges that one answer of ``/api/edges`` lists; the busiest."""

MAX_SCRAPES = 2
"""Scrapes at once; more get 503, for each may hold every edge in memory."""


def application(ingest: Ingest, clock: Clock, address: Address) -> web.Application:
    """Return the routes ``/metrics``, ``/api/edges`` and ``/healthz``."""
    scrapes = asyncio.Semaphore(MAX_SCRAPES)

    async def metrics(request: web.Request) -> web.Response:
        if scrapes.locked():
            raise web.HTTPServiceUnavailable(
                text=f"metrics: {MAX_SCRAPES} scrapes in progress, expected fewer\n",
                headers={"Retry-After": "1"},
            )
        async with scrapes:
            accept = request.headers.get("Accept", "")
            content_type, text = await asyncio.to_thread(ingest.metrics.exposition, accept)
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def edges(_: web.Request) -> web.Response:
        traffic = ingest.rollup.traffic(now=clock.now())
        return web.json_response(
            {
                "rate_seconds": RATE_SECONDS,
                "latency_seconds": LATENCY_SECONDS,
                "edges": [asdict(each) for each in traffic[:MAX_SHOWN]],
                "omitted": max(0, len(traffic) - MAX_SHOWN),
            }
        )

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application(client_max_size=1024, middlewares=[local_names_only(address)])
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/api/edges", edges)
    app.router.add_get("/healthz", healthz)
    return app
