"""A tiny HTTP server on a unix socket: `SOCKET`."""

import asyncio
import sys

from aiohttp import web


async def hello(_: web.Request) -> web.Response:
    """Answer 64 bytes."""
    return web.Response(body=b"x" * 64)


if __name__ == "__main__":
    asyncio.set_event_loop(asyncio.new_event_loop())
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", hello)
    web.run_app(app, path=sys.argv[1], print=None, access_log=None)
