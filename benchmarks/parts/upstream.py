"""A tiny HTTP server on a unix socket, and a bare aiohttp proxy to it: `MODE SOCKET [PORT]`."""

import asyncio
import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

CLIENT = web.AppKey("client", aiohttp.ClientSession)


async def hello(_: web.Request) -> web.Response:
    """Answer 64 bytes."""
    return web.Response(body=b"x" * 64)


async def passed_on(request: web.Request) -> web.StreamResponse:
    """Send the request to the upstream and stream the answer back."""
    async with request.app[CLIENT].request(
        request.method, f"http://web{request.path_qs}", headers=request.headers
    ) as answer:
        response = web.StreamResponse(status=answer.status)
        response.content_length = answer.content_length
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


def main(mode: str, path: str, port: str = "0") -> None:
    """Serve until SIGINT."""
    app = web.Application()
    if mode == "upstream":
        app.router.add_route("*", "/{rest:.*}", hello)
        web.run_app(app, path=path, print=None, access_log=None)
        return

    async def client(app: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.UnixConnector(path, limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            app[CLIENT] = session
            yield

    app.cleanup_ctx.append(client)
    app.router.add_route("*", "/{rest:.*}", passed_on)
    web.run_app(app, host="127.0.0.1", port=int(port), print=None, access_log=None)


if __name__ == "__main__":
    asyncio.set_event_loop(asyncio.new_event_loop())
    main(*sys.argv[1:])
