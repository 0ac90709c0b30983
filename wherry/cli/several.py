"""The Pilot as several processes at one address: ``wherry run xds --workers N``.

What that has in common with several gateways is here, too.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from wherry.cli import stores
from wherry.cli.owned import owned, short_folder
from wherry.cli.settings import Options
from wherry.config import load
from wherry.errors import WherryError
from wherry.process import Command, python
from wherry.serve import bound, reserved
from wherry.workers import Workers, operators, place, supervised
from xds.operators.front import front

logger = logging.getLogger(__name__)

PART = "xds"
"""The part that this module runs."""


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
    url = stores.chosen(options.state, options.store)
    async with AsyncExitStack() as stack:
        address = bound(stack.enter_context(reserved(PART, options.listen.of(PART))))
        folder = stack.enter_context(short_folder())
        placed = replace(options, listen=options.listen.moved(PART, address))

        def command(number: int) -> Command:
            told = argv(PART, placed, folder, number)
            told += ["--transport", options.transport]
            if number > workers:
                told.append("--beside")
            return Command(f"{PART} worker {number}", told, stores.environment(url))

        pilots = await stack.enter_async_context(supervised(workers, command, folder))
        pages = await stack.enter_async_context(
            front(
                options.listen.of("pilot"),
                lambda: {number: operators(place(folder, number)) for number in pilots.serving},
            )
        )
        tasks = await stack.enter_async_context(owned())
        tasks.spawn(replaced(pilots), "xds/replace")
        said(f"{PART} serves at {address}")
        logger.info("operators are answered", extra={"address": str(pages)})
        yield


def replaced(workers: Workers) -> Coroutine[None, None, None]:
    """Listen to SIGHUP from now on; return the work of replacing ``workers`` at each.

    Those that come meanwhile count as one more.
    """
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, told.set)
    return _replaced(workers, told)


async def _replaced(workers: Workers, told: asyncio.Event) -> None:
    while True:
        await told.wait()
        told.clear()
        try:
            await workers.replace()
        except WherryError as error:
            logger.error("workers not replaced: %s", error)  # noqa: TRY400 (the text says it all)
        else:
            logger.info("workers replaced")


def argv(part: str, options: Options, folder: Path, number: int) -> list[str]:
    """Return how a worker is run: this program once more, with everything spelled out."""
    told = [python(), "-P", "-m", part, str(options.source), "--state", str(options.state)]
    for each, where in options.listen.by_part.items():
        told += ["--listen", f"{each}={where}"]
    told += ["--worker", str(place(folder, number))]
    if logger.isEnabledFor(logging.INFO):
        told.append("--verbose")
    return told
