"""The Pilot as several processes at one address: ``wherry run xds --workers N``."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from wherry.cli.owned import owned, short_folder
from wherry.cli.settings import Options
from wherry.config import load
from wherry.errors import WherryError
from wherry.process import Command, python
from wherry.serve import Address, bound, reserved
from wherry.workers import Workers, operators, place, supervised
from xds.operators.front import front

logger = logging.getLogger(__name__)

PART = "xds"
"""The only part that may be several processes."""


@asynccontextmanager
async def running(
    workers: int, options: Options, said: Callable[[str], None]
) -> AsyncIterator[None]:
    """Run ``workers`` Pilots until the block ends; SIGHUP replaces them one by one.

    Raises:
        PortInUse: Another program listens at the address.
        StartError: A worker does not start.
        ConfigError: The configuration is wrong.
    """
    load(options.source)
    options.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with AsyncExitStack() as stack:
        address = bound(stack.enter_context(reserved(PART, options.listen.of(PART))))
        folder = stack.enter_context(short_folder())
        pilots = await stack.enter_async_context(
            supervised(workers, partial(_command, options, address, folder, workers), folder)
        )
        pages = await stack.enter_async_context(
            front(
                options.listen.of("pilot"),
                lambda: {number: operators(place(folder, number)) for number in pilots.serving},
            )
        )
        tasks = await stack.enter_async_context(owned())
        tasks.spawn(_replaced(pilots), "xds/replace")
        said(f"{PART} serves at {address}")
        logger.info("operators are answered", extra={"address": str(pages)})
        yield


async def _replaced(pilots: Workers) -> None:
    """Replace the workers at each SIGHUP; those that come meanwhile count as one more."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, told.set)
    while True:
        await told.wait()
        told.clear()
        try:
            await pilots.replace()
        except WherryError as error:
            logger.error("workers not replaced: %s", error)  # noqa: TRY400 (the text says it all)
        else:
            logger.info("workers replaced")


def _command(
    options: Options, address: Address, folder: Path, workers: int, number: int
) -> Command:
    """Return how a worker is run: this program once more, with everything spelled out."""
    listen = options.listen.moved(PART, address)
    argv = [python(), "-P", "-m", "xds", str(options.source), "--state", str(options.state)]
    for part, where in listen.by_part.items():
        argv += ["--listen", f"{part}={where}"]
    argv += ["--transport", options.transport, "--worker", str(place(folder, number))]
    if number > workers:
        argv.append("--beside")
    if logger.isEnabledFor(logging.INFO):
        argv.append("--verbose")
    return Command(f"{PART} worker {number}", argv)
