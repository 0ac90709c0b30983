"""The gateway as several processes at one address: ``wherry run gateway --workers N``.

The parent holds the sockets, keeps the office open and watches over the doors; it takes no call.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from socket import socket

from wherry.cli import doors, several, stores
from wherry.cli.ground import ground
from wherry.cli.owned import owned, short_folder
from wherry.cli.settings import Options
from wherry.cli.state import noted
from wherry.cli.summed import Summed
from wherry.process import Command
from wherry.serve import bound, shared_among
from wherry.workers import supervised

PART = "gateway"

END_SECONDS = 35.0
"""Longest that a door may take to end once it takes no calls: those under way, then their usage."""


@asynccontextmanager
async def running(
    workers: int, options: Options, said: Callable[[str], None]
) -> AsyncIterator[None]:
    """Run ``workers`` doors and the office until the block ends; SIGHUP replaces the doors.

    Raises:
        PortInUse: Another program listens at the address.
        StartError: A worker does not start.
        ConfigError: The configuration is wrong.
    """
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(ground(options))
        sockets = shared_among(PART, options.listen.of(PART), workers)
        stack.callback(_close, sockets)
        address = bound(sockets[0])
        folder = stack.enter_context(short_folder())
        placed = replace(options, listen=options.listen.moved(PART, address))

        def command(number: int) -> Command:
            argv = several.argv(PART, placed, folder, number)
            argv += ["--settle", str(options.settle), "--region", options.outside.region]
            return Command(f"{PART} worker {number}", argv, stores.environment(made.url))

        crew = await stack.enter_async_context(
            supervised(
                workers, command, folder, grace=options.settle + END_SECONDS, sockets=sockets
            )
        )
        url = doors.origin(placed, made.worlds.current)
        stack.callback(_close, sockets)  # at the end nothing new is to wait for a worker
        office = await stack.enter_async_context(doors.office(made, url, Summed(crew, folder).told))
        parts = {PART: url, "admin": office.admin.url, "portal": office.portal.url}
        stack.enter_context(noted(options.state, parts))
        tasks = await stack.enter_async_context(owned())
        tasks.spawn(several.replaced(crew), f"{PART}/replace")
        for name, where in ((PART, address), ("admin", office.admin), ("portal", office.portal)):
            said(f"{name} serves at {where}")
        yield


def _close(sockets: Iterable[socket]) -> None:
    for each in sockets:
        each.close()
