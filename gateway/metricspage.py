"""One of several doors tells what it counts to the parent of all, which adds it up."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

LAST = ".last"
"""Suffix of the file, beside the socket, with what a door told at its end."""


class Page:
    """What is told.

    Attributes:
        render: Returns it, in Prometheus' text format.
    """

    def __init__(self) -> None:
        self.render: Callable[[], str] = str


@asynccontextmanager
async def answering(socket: Path) -> AsyncIterator[Page]:
    """Answer ``GET /metrics`` at the unix socket ``socket`` until the block ends.

    Then what is left is written to the file of the same name with the suffix `LAST`, so that
    nothing that was counted is forgotten with the process.
    """
    page = Page()

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=page.render())

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        yield page
    finally:
        await runner.cleanup()
        socket.with_suffix(LAST).write_text(page.render())
