"""A bare aiohttp proxy (server and ClientSession) to a unix socket: `SOCKET PORT LOOP`."""

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web

SESSION = web.AppKey("session", aiohttp.ClientSession)


async def passed_on(request: web.Request) -> web.StreamResponse:
    """Send the request to the upstream and stream the answer back."""
    async with request.app[SESSION].request(
        request.method,
        f"http://web{request.path_qs}",
        headers=request.headers,
        data=request.content if request.can_read_body else None,
    ) as answer:
        response = web.StreamResponse(status=answer.status)
        response.content_length = answer.content_length
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


async def main(path: str, port: int) -> None:
    """Serve until SIGINT."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", passed_on)
    connector = aiohttp.UnixConnector(path, limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        app[SESSION] = session
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    run = uvloop.run if sys.argv[3] == "uvloop" else asyncio.run
    run(main(sys.argv[1], int(sys.argv[2])))
